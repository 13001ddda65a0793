/* Text in a buffer of fixed size, and escapes for bytes from outside. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
	char *bytes;     /* always ends in a zero byte */
	size_t capacity; /* including that zero */
	size_t length;
	bool cut; /* something didn't fit; nothing more is added */
};

/* Returns an empty text in the caller's buffer. */
struct text text_in(char *bytes, size_t capacity);

/* Each adds its whole argument, or nothing if that doesn't fit. */
void text_add_bytes(struct text *t, const char *bytes, size_t n);
void text_add(struct text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define UTF8_INVALID UINT32_MAX

/* Decodes the first character of a non-empty string. Returns its length in
 * bytes. A byte that starts no character is UTF8_INVALID, of length 1. */
size_t utf8_next(const char *string, uint32_t *character);

/* Whether it is C0, DEL or C1, which end lines and control terminals. */
bool utf8_is_control(uint32_t character);

/* Adds one character, given as a number and as n bytes, in some notation. */
typedef void text_escape(
    struct text *t, uint32_t character, const char *bytes, size_t n);

/* Adds a string character by character, until one doesn't fit. */
void text_add_escaped(struct text *t, const char *string, text_escape *escape);

/* For logs and terminals: control characters and bytes that aren't UTF-8
 * become \xNN. */
text_escape text_visible;

/* The same between quotes: quotes and backslashes also get a backslash. */
text_escape text_quoted;

/* Adds a time of clock_utc_ms(): 2026-11-21T01:30:00.123Z. */
void text_add_utc(struct text *t, int64_t utc_ms);

/* Adds the present time in this form. */
void text_add_time(struct text *t);

/* Writes 12ms, 4s, 12m3s, 2h5m or 9d4h into buffer, and returns it. */
#define TEXT_DURATION_BYTES 32
const char *text_duration(char buffer[TEXT_DURATION_BYTES], int64_t ms);

/* Compares as strcmp() does, but numbers in the text by their value: vm2 comes
 * before vm10. Returns 0 for equal texts only. */
int text_compare(const char *a, const char *b);

/* Shortens a non-empty path to that of its folder. Returns false if the path is
 * "/" or ".". */
bool text_climb(char *path);

#endif
