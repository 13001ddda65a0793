/* The table of the status's fields: each form is rendered from it, and
 * status_parse() reads into it. */
#ifndef STATUS_FIELDS_H
#define STATUS_FIELDS_H

#include "status/status.h"
#include <stddef.h>

enum field_type { FIELD_TEXT, FIELD_NUMBER, FIELD_BOOL };

/* The path names a member of struct status, and the field in all forms. Dots
 * separate sections. */
struct field {
	const char *path;
	enum field_type type;
	size_t offset, size; /* of the member */
	const char *metric;  /* without "forwarder_"; NULL: none */
	const char *help;    /* set in the metric's first field */
	int decimals;        /* 3: milliseconds, shown as seconds */
};

extern const struct field fields[];
extern const struct field *const fields_end;

/* Return the value of a text field, and of any other field as a number. The
 * only text field that has a number is the state: 1 if it is "up". */
const char *field_text(const struct status *s, const struct field *f);
status_number field_number(const struct status *s, const struct field *f);

/* Adds a JSON string. Also escapes what would end a line or control a terminal. */
void json_add_string(struct text *t, const char *string);
text_escape json_escape;

#endif
