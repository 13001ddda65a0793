/* Reads the JSON of status_json(). Only what that writes is accepted: one object
 * without white space on one line, and no escapes beyond \u07ff. */
#include "status/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status/fields.h"

/* Limits the recursion. status_json() nests 3 deep. */
#define DEPTH 8

struct reader {
	const char *at;
	int depth;
	char path[64]; /* of the value; a path that is cut matches no field */
	struct status *status;
};

#define OUTAGE(member, type)                                                   \
	{                                                                      \
		"history." #member, type,                                      \
		    offsetof(struct status_outage, member),                    \
		    sizeof(((struct status_outage *)0)->member), NULL, NULL, 0 \
	}

static const struct field outage_fields[] = {
	OUTAGE(began, FIELD_TEXT),
	OUTAGE(ms, FIELD_NUMBER),
	OUTAGE(reason, FIELD_TEXT),
	OUTAGE(dials, FIELD_NUMBER),
};

#define END_OF(array) ((array) + sizeof(array) / sizeof((array)[0]))

static const struct field *
find(const char *path, const struct field *first, const struct field *end)
{
	for (const struct field *f = first; f < end; f++)
		if (strcmp(f->path, path) == 0)
			return f;
	return NULL;
}

/* Returns the field of the value, and sets *place to its member. NULL: none. */
static const struct field *
field_here(const struct reader *r, void **place)
{
	struct status *s = r->status;
	const struct field *f = find(r->path, fields, fields_end);
	void *base = s;

	if (f == NULL && s->history_count > 0) {
		f = find(r->path, outage_fields, END_OF(outage_fields));
		base = &s->history[s->history_count - 1];
	}
	if (f != NULL)
		*place = (char *)base + f->offset;
	return f;
}

static bool
take(struct reader *r, char c)
{
	if (*r->at != c)
		return false;
	r->at++;
	return true;
}

/* Reads the four digits after \u. Zero and what is above \u07ff are refused. */
static bool
read_code(struct reader *r, struct text *t)
{
	static const char digits[] = "0123456789abcdef";
	unsigned code = 0;
	char bytes[2];

	for (int i = 0; i < 4; i++, r->at++) {
		const char *digit = strchr(digits, *r->at);

		if (digit == NULL || *digit == '\0')
			return false;
		code = code << 4 | (unsigned)(digit - digits);
	}
	bytes[0] = (char)(code < 0x80 ? code : 0xc0 | code >> 6);
	bytes[1] = (char)(0x80 | (code & 0x3f));
	text_add_bytes(t, bytes, code < 0x80 ? 1 : 2);
	return code > 0 && code < 0x800;
}

static bool
read_character(struct reader *r, struct text *t)
{
	uint32_t character;
	size_t n = utf8_next(r->at, &character);

	text_add_bytes(t, r->at, n);
	r->at += n;
	return character >= 0x20 && character != UTF8_INVALID;
}

/* Adds the decoded string to t, which is cut if it is too small. */
static bool
read_string(struct reader *r, struct text *t)
{
	if (!take(r, '"'))
		return false;
	while (!take(r, '"')) {
		bool escaped = take(r, '\\');

		if (escaped && take(r, 'u')) {
			if (!read_code(r, t))
				return false;
		} else if (escaped && *r->at != '"' && *r->at != '\\') {
			return false;
		} else if (!read_character(r, t)) {
			return false;
		}
	}
	return true;
}

static bool
read_text(struct reader *r)
{
	char unknown[1];
	struct text t = text_in(unknown, sizeof(unknown));
	void *place;
	const struct field *f = field_here(r, &place);

	if (f != NULL && f->type != FIELD_TEXT)
		return false;
	if (f != NULL)
		t = text_in(place, f->size);
	return read_string(r, &t) && (f == NULL || !t.cut);
}

static bool
read_number(struct reader *r)
{
	size_t n = strspn(r->at, "0123456789"),
	       all = strspn(r->at, "+-.0123456789Ee");
	void *place;
	const struct field *f = field_here(r, &place);

	if (all == 0 || (f != NULL && (f->type != FIELD_NUMBER || n != all)))
		return false;
	errno = 0;
	if (f != NULL)
		*(status_number *)place = strtoull(r->at, NULL, 10);
	r->at += all;
	return errno == 0;
}

static bool
read_literal(struct reader *r)
{
	static const char *const literals[] = { "false", "true", "null" };
	void *place;
	const struct field *f = field_here(r, &place);

	for (int i = 0; i < 3; i++) {
		size_t n = strlen(literals[i]);

		if (strncmp(r->at, literals[i], n) != 0)
			continue;
		r->at += n;
		if (f != NULL && f->type == FIELD_BOOL && i < 2)
			*(bool *)place = i == 1;
		else if (f != NULL)
			return false;
		return true;
	}
	return read_number(r);
}

static bool read_value(struct reader *r);

/* Reads a member. The path ends in its key meanwhile. */
static bool /* NOLINTNEXTLINE(misc-no-recursion): see DEPTH */
read_member(struct reader *r)
{
	size_t length = strlen(r->path);
	struct text path = { r->path, sizeof(r->path), length, false };
	bool good;

	if (length > 0)
		text_add(&path, ".");
	good = read_string(r, &path) && take(r, ':') && read_value(r);
	r->path[length] = '\0';
	return good;
}

/* An element of the history is one more outage. */
static bool /* NOLINTNEXTLINE(misc-no-recursion): see DEPTH */
read_element(struct reader *r)
{
	if (strcmp(r->path, "history") == 0 &&
	    r->status->history_count++ == STATUS_HISTORY)
		return false;
	return read_value(r);
}

/* Reads what follows [ or {. */
static bool /* NOLINTNEXTLINE(misc-no-recursion): see DEPTH */
read_list(struct reader *r, bool (*read_one)(struct reader *), char end)
{
	if (take(r, end))
		return true;
	if (r->depth++ == DEPTH)
		return false;
	do
		if (!read_one(r))
			return false;
	while (take(r, ','));
	r->depth--;
	return take(r, end);
}

static bool /* NOLINTNEXTLINE(misc-no-recursion): see DEPTH */
read_value(struct reader *r)
{
	if (*r->at == '"')
		return read_text(r);
	if (take(r, '{'))
		return read_list(r, read_member, '}');
	if (take(r, '['))
		return read_list(r, read_element, ']');
	return read_literal(r);
}

/* Other names could become equal in the labels of metrics. */
static bool
is_name(const char *name)
{
	const char *c = name;

	while (log_name_holds(*c))
		c++;
	return *c == '\0' && c > name;
}

bool
status_parse(struct status *s, const char *json)
{
	struct reader r = { .at = json, .status = s };

	*s = (struct status){ .pid = 0 };
	return *json == '{' && read_value(&r) && strcmp(r.at, "\n") == 0 &&
	       s->version[0] != '\0' && is_name(s->name) &&
	       s->network.state[0] != '\0';
}
