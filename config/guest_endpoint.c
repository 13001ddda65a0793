#include "config/guest_endpoint.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int
parse_fd(struct guest_endpoint *guest, const char *digits, struct error *error)
{
	size_t length = strlen(digits);

	if (length == 0 || length > 9 || strspn(digits, "0123456789") != length)
		return error_set(error, "a descriptor is a number such as 3");
	guest->fd = (int)strtol(digits, NULL, 10);
	return 0;
}

static int
parse_path(struct guest_endpoint *guest, const char *path, struct error *error)
{
	return endpoint_parse_path(guest->path, path, error);
}

/* Accepts the interface names that Linux accepts. */
static int
parse_name(struct guest_endpoint *guest, const char *name, struct error *error)
{
	if (*name == '\0' || strlen(name) >= GUEST_NAME_BYTES)
		return error_set(error, "an interface name has 1 to 15 bytes");
	for (const char *c = name; *c != '\0'; c++)
		if (*c == '/' || *c == ':' || isspace((unsigned char)*c))
			return error_set(error,
			    "interface names have no '/', ':' or blanks");
	strcpy(guest->name, name);
	return 0;
}

static const struct {
	const char *prefix;
	enum guest_kind kind;
	int (*parse)(struct guest_endpoint *guest, const char *rest,
	    struct error *error);
} kinds[] = {
	{ "fd:", GUEST_FD, parse_fd },
	{ "unixgram:", GUEST_UNIXGRAM, parse_path },
	{ "listen-unix:", GUEST_STREAM, parse_path },
	{ "tap:", GUEST_TAP, parse_name },
};

int
guest_endpoint_parse(
    struct guest_endpoint *guest, const char *text, struct error *error)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t length = strlen(kinds[i].prefix);

		if (strncmp(text, kinds[i].prefix, length) != 0)
			continue;
		*guest =
		    (struct guest_endpoint){ .kind = kinds[i].kind, .fd = -1 };
		if (kinds[i].parse(guest, text + length, error) < 0)
			return -1;
		strcpy(guest->text, text);
		return 0;
	}
	return error_set(
	    error, "it must begin with fd:, unixgram:, listen-unix: or tap:");
}
