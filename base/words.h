/* Splits a command line into words without a shell. Blanks separate words. Single
 * and double quotes, and a backslash outside single quotes, keep the characters
 * that they protect. Nothing else is special: no variables, patterns, pipes or
 * redirections. */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include <stddef.h>

#include "base/error.h"

#define WORDS_MAX 128
#define WORDS_BYTES 4096

struct words {
	char *list[WORDS_MAX + 1]; /* ends in NULL: an argv */
	size_t count;
	size_t used; /* of bytes */
	char bytes[WORDS_BYTES];
};

/* A placeholder such as "{fd}" and what replaces it, quoted or not. */
struct words_place {
	const char *name, *value;
};

/* Splits the line, and replaces the placeholders; the last of these has no name.
 * A value that holds blanks does not split a word. The words point into *words,
 * which must not be copied. Returns 0, or -1 with the error set: a quote is not
 * closed, or the words don't fit. */
int words_split(struct words *words, const char *line,
    const struct words_place *places, struct error *error);

#endif
