#include "base/text.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

struct text
text_in(char *bytes, size_t capacity)
{
	bytes[0] = '\0';
	return (struct text){ .bytes = bytes, .capacity = capacity };
}

void
text_add_bytes(struct text *t, const char *bytes, size_t n)
{
	if (t->cut || n >= t->capacity - t->length) {
		t->cut = true;
		return;
	}
	memcpy(t->bytes + t->length, bytes, n);
	t->length += n;
	t->bytes[t->length] = '\0';
}

void
text_add(struct text *t, const char *format, ...)
{
	size_t room = t->capacity - t->length;
	va_list arguments;
	int n;

	if (t->cut)
		return;
	va_start(arguments, format);
	n = vsnprintf(t->bytes + t->length, room, format, arguments);
	va_end(arguments);
	if (n >= 0 && (size_t)n < room) {
		t->length += (size_t)n;
	} else {
		t->bytes[t->length] = '\0';
		t->cut = true;
	}
}

/* Returns the length of a character that begins with this byte, or 0. */
static size_t
utf8_length(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first >> 5 == 0x06)
		return 2;
	if (first >> 4 == 0x0e)
		return 3;
	return first >> 3 == 0x1e ? 4 : 0;
}

/* Overlong forms, surrogates, and numbers above U+10FFFF. */
static bool
utf8_is_forbidden(uint32_t c, size_t length)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

	return c < least[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000);
}

size_t
utf8_next(const char *string, uint32_t *character)
{
	const unsigned char *p = (const unsigned char *)string;
	size_t length = utf8_length(p[0]);
	uint32_t c = length == 1 ? p[0] : p[0] & (0x7fu >> length);

	*character = UTF8_INVALID;
	if (length == 0)
		return 1;
	for (size_t i = 1; i < length; i++) {
		if (p[i] >> 6 != 2)
			return 1;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (utf8_is_forbidden(c, length))
		return 1;
	*character = c;
	return length;
}

bool
utf8_is_control(uint32_t character)
{
	return character < 0x20 || (character >= 0x7f && character < 0xa0);
}

void
text_add_escaped(struct text *t, const char *string, text_escape *escape)
{
	uint32_t character;

	for (size_t n; *string != '\0' && !t->cut; string += n) {
		n = utf8_next(string, &character);
		escape(t, character, string, n);
	}
}

void
text_visible(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	char escaped[4 * 4 + 1];
	struct text e = text_in(escaped, sizeof(escaped));

	if (character != UTF8_INVALID && !utf8_is_control(character)) {
		text_add_bytes(t, bytes, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		text_add(&e, "\\x%02x", (unsigned char)bytes[i]);
	text_add_bytes(t, e.bytes, e.length);
}

void
text_quoted(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	if (character == '"' || character == '\\')
		text_add(t, "\\%c", (int)character);
	else
		text_visible(t, character, bytes, n);
}

void
text_add_utc(struct text *t, int64_t utc_ms)
{
	char date[32] = "";
	time_t seconds = (time_t)(utc_ms / 1000);
	struct tm utc;

	if (gmtime_r(&seconds, &utc) != NULL)
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
	text_add(t, "%s.%03dZ", date, (int)(utc_ms % 1000));
}

void
text_add_time(struct text *t)
{
	text_add_utc(t, clock_utc_ms());
}

const char *
text_duration(char buffer[TEXT_DURATION_BYTES], int64_t ms)
{
	long long s = ms / 1000, m = s / 60, h = m / 60;

	if (ms < 1000)
		snprintf(buffer, TEXT_DURATION_BYTES, "%lldms",
		    ms > 0 ? (long long)ms : 0);
	else if (m == 0)
		snprintf(buffer, TEXT_DURATION_BYTES, "%llds", s);
	else if (h == 0)
		snprintf(buffer, TEXT_DURATION_BYTES, "%lldm%llds", m, s % 60);
	else if (h < 24)
		snprintf(buffer, TEXT_DURATION_BYTES, "%lldh%lldm", h, m % 60);
	else
		snprintf(
		    buffer, TEXT_DURATION_BYTES, "%lldd%lldh", h / 24, h % 24);
	return buffer;
}

/* Takes what *at begins with: a number, or one character. */
static unsigned long long
take_part(const char **at, bool number)
{
	unsigned long long value;
	char *end;

	if (!number)
		return (unsigned char)*(*at)++;
	value = strtoull(*at, &end, 10);
	*at = end;
	return value;
}

int
text_compare(const char *a, const char *b)
{
	const char *x = a, *y = b;

	while (*x != '\0' && *y != '\0') {
		bool numbers =
		    isdigit((unsigned char)*x) && isdigit((unsigned char)*y);
		unsigned long long m = take_part(&x, numbers);
		unsigned long long n = take_part(&y, numbers);

		if (m != n)
			return m < n ? -1 : 1;
	}
	if (*x != *y)
		return *x == '\0' ? -1 : 1;
	return strcmp(a, b); /* 01 and 1 */
}

bool
text_climb(char *path)
{
	char *slash = strrchr(path, '/');

	if (strcmp(path, "/") == 0 || strcmp(path, ".") == 0)
		return false;
	if (!slash)
		strcpy(path, ".");
	else if (slash == path)
		slash[1] = '\0';
	else
		*slash = '\0';
	return true;
}
