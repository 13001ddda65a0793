#include "base/words.h"

#include <stdbool.h>
#include <string.h>

static int
add(struct words *words, const char *bytes, size_t count, struct error *error)
{
	if (count > WORDS_BYTES - words->used)
		return error_set(error, "the command is too long");
	memcpy(words->bytes + words->used, bytes, count);
	words->used += count;
	return 0;
}

/* Adds what `at` begins with: a placeholder's value, or one character. */
static int
add_next(struct words *words, const char **at, const struct words_place *place,
    struct error *error)
{
	const char *here = *at;

	for (; place->name; place++) {
		size_t length = strlen(place->name);

		if (strncmp(here, place->name, length) != 0)
			continue;
		*at += length;
		return add(words, place->value, strlen(place->value), error);
	}
	++*at;
	return add(words, here, 1, error);
}

/* Whether the backslash at `at` protects the next character. */
static bool
is_escape(const char *at, char quote)
{
	if (*at != '\\' || at[1] == '\0' || quote == '\'')
		return false;
	return quote == '\0' || at[1] == '"' || at[1] == '\\';
}

/* Adds the word that begins at *at, with its final zero. */
static int
add_word(struct words *words, const char **at, const struct words_place *places,
    struct error *error)
{
	char quote = '\0'; /* the open one */

	while (**at != '\0' && (quote || !strchr(" \t", **at))) {
		bool escaped = is_escape(*at, quote);

		if (!escaped &&
		    (quote ? **at == quote : **at == '\'' || **at == '"')) {
			if (quote)
				quote = '\0';
			else
				quote = **at;
			++*at;
			continue;
		}
		*at += escaped;
		if (add_next(words, at, places, error) < 0)
			return -1;
	}
	if (quote)
		return error_set(error, "a quote (%c) is not closed", quote);
	return add(words, "", 1, error);
}

int
words_split(struct words *words, const char *line,
    const struct words_place *places, struct error *error)
{
	words->count = words->used = 0;
	for (;;) {
		line += strspn(line, " \t");
		words->list[words->count] = NULL;
		if (*line == '\0')
			return 0;
		if (words->count == WORDS_MAX)
			return error_set(
			    error, "the command has too many words");
		words->list[words->count++] = words->bytes + words->used;
		if (add_word(words, &line, places, error) < 0)
			return -1;
	}
}
