#include "base/text.h"

#include "tests/support/suite.h"

TEST(text_that_does_not_fit_is_left_out_whole)
{
	char bytes[8];
	struct text t = text_in(bytes, sizeof(bytes));

	text_add_bytes(&t, "ab", 2);
	text_add(&t, "%d", 12345);
	text_add_bytes(&t, "", 0);
	ck_assert(!t.cut);
	text_add(&t, "d");
	ck_assert(t.cut);
	text_add_bytes(&t, "", 0);
	ck_assert_str_eq(t.bytes, "ab12345");
	t = text_in(bytes, sizeof(bytes));
	text_add_escaped(&t, "abcd\nx", text_visible);
	ck_assert_str_eq(t.bytes, "abcd");
	ck_assert(t.cut);
	t = text_in(bytes, 3);
	text_add_bytes(&t, "abc", 3);
	ck_assert(t.cut && t.length == 0);
}

static const struct {
	const char *in, *out;
} visible[] = {
	{ "plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\xa7",
	    "plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\xa7" },
	{ "\n\r\t\x1b[31m\x7f", "\\x0a\\x0d\\x09\\x1b[31m\\x7f" },
	{ "\xc2\x9b"
	  "31m",
	    "\\xc2\\x9b31m" }, /* C1: an escape, too */
	{ "\xff\xfe", "\\xff\\xfe" },
	{ "\x80", "\\x80" },
	{ "cut \xe2\x82", "cut \\xe2\\x82" },
	{ "\xc0\x80 overlong", "\\xc0\\x80 overlong" },
	{ "\xe0\x80\x80", "\\xe0\\x80\\x80" },
	{ "\xed\xa0\x80 surrogate", "\\xed\\xa0\\x80 surrogate" },
	{ "\xf4\x90\x80\x80 past the end",
	    "\\xf4\\x90\\x80\\x80 past the end" },
	{ "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },
};

TEST(control_characters_and_invalid_bytes_are_escaped, .count = LENGTH(visible))
{
	char bytes[128];
	struct text t = text_in(bytes, sizeof(bytes));

	text_add_escaped(&t, visible[_i].in, text_visible);
	ck_assert_str_eq(t.bytes, visible[_i].out);
}

TEST(a_single_byte_is_a_character_or_invalid)
{
	uint32_t character;

	for (unsigned first = 1; first < 256; first++) {
		char one[] = { (char)first, '\0' };

		ck_assert_uint_eq(utf8_next(one, &character), 1);
		ck_assert(first < 0x80 ? character == first
				       : character == UTF8_INVALID);
	}
}

static const struct {
	int64_t ms;
	const char *text;
} durations[] = {
	{ -5, "0ms" },
	{ 0, "0ms" },
	{ 12, "12ms" },
	{ 999, "999ms" },
	{ 1000, "1s" },
	{ 4321, "4s" },
	{ 59999, "59s" },
	{ 60000, "1m0s" },
	{ 723000, "12m3s" },
	{ 7500000, "2h5m" },
	{ 86399999, "23h59m" },
	{ 86400000, "1d0h" },
	{ INT64_MAX, "106751991167d7h" },
};

TEST(durations_are_short, .count = LENGTH(durations))
{
	char buffer[TEXT_DURATION_BYTES];

	ck_assert_str_eq(
	    text_duration(buffer, durations[_i].ms), durations[_i].text);
}

TEST(numbers_in_a_text_are_compared_by_value)
{
	/* in order */
	static const char *const names[] = { "", "a", "vm", "vm01", "vm1",
		"vm1a", "vm2", "vm10", "vm10-2", "vm18446744073709551614",
		"vmx" };

	for (size_t i = 0; i < LENGTH(names); i++)
		for (size_t j = 0; j < LENGTH(names); j++) {
			int order = text_compare(names[i], names[j]);

			ck_assert_int_eq(
			    (order > 0) - (order < 0), (i > j) - (i < j));
		}
}
