#include "base/words.h"

#include "tests/support/suite.h"

static const struct words_place places[] = { { "{fd}", "3" },
	{ "{socket}", "/run/my vm/s" }, { NULL, NULL } };

static const struct {
	const char *line;
	const char *words[5];
} lines[] = {
	{ "", { NULL } },
	{ " \t ", { NULL } },
	{ "passt --fd {fd}", { "passt", "--fd", "3" } },
	{ " a\t b ", { "a", "b" } },
	{ "'a b' \"c d\"", { "a b", "c d" } },
	{ "a'b c'd\"\"", { "ab cd" } },
	{ "'' \"\" x", { "", "", "x" } },
	{ "a\\ b \\' \\\\ \\\"", { "a b", "'", "\\", "\"" } },
	{ "'a\\' \"\\\"\\\\\\x\" \\", { "a\\", "\"\\\\x", "\\" } },
	{ "'\"' \"'\"", { "\"", "'" } },
	/* A value is not split; quotes don't protect a placeholder. */
	{ "unix://{socket} '{fd}'", { "unix:///run/my vm/s", "3" } },
	{ "{fd}{fd} {fd {{fd}", { "33", "{fd", "{3" } },
	{ "$HOME *;|& ~ >x", { "$HOME", "*;|&", "~", ">x" } },
};

TEST(words_are_split_at_blanks_and_kept_by_quotes, .count = LENGTH(lines))
{
	const char *const *expected = lines[_i].words;
	struct words words;
	struct error error;
	size_t n = 0;

	ck_assert_int_eq(
	    words_split(&words, lines[_i].line, places, &error), 0);
	for (; expected[n]; n++)
		ck_assert_str_eq(words.list[n], expected[n]);
	ck_assert_uint_eq(words.count, n);
	ck_assert_ptr_null(words.list[n]);
}

static const char *const open_quotes[] = { "'", "a 'b", "\"", "\"\\\"", "'a\"",
	"x\"'" };

TEST(a_quote_that_is_not_closed_is_an_error, .count = LENGTH(open_quotes))
{
	struct words words;
	struct error error;

	ck_assert_int_eq(
	    words_split(&words, open_quotes[_i], places, &error), -1);
	ck_assert_ptr_nonnull(strstr(error.text, "is not closed"));
}

/* At each limit, and one beyond it. */
TEST(words_that_do_not_fit_are_an_error, .count = 2)
{
	char many[2 * WORDS_MAX + 3] = "", longest[WORDS_BYTES + 1] = "";
	struct words words;
	struct error error;

	for (int i = 0; i < WORDS_MAX + _i; i++)
		strcat(many, "a ");
	ck_assert_int_eq(words_split(&words, many, places, &error), -_i);
	memset(longest, 'a', (size_t)(WORDS_BYTES - 1 + _i));
	ck_assert_int_eq(words_split(&words, longest, places, &error), -_i);
}
