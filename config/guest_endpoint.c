#include "config/guest_endpoint.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SUN_PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)
_Static_assert(SUN_PATH_BYTES <= GUEST_PATH_BYTES, "a path has room");

const char *
socket_path_fault(const char *path)
{
	if (*path == '\0')
		return "the path is missing";
	if (strlen(path) < SUN_PATH_BYTES)
		return NULL;
	return SUN_PATH_BYTES == 108
		   ? "path longer than a socket allows (107 bytes)"
		   : "path longer than a socket allows (103 bytes)";
}

static const char *
parse_fd(struct guest_endpoint *guest, const char *digits)
{
	int fd = 0;

	if (*digits == '\0')
		return "the descriptor number is missing";
	for (; *digits != '\0'; digits++) {
		if (*digits < '0' || *digits > '9')
			return "a descriptor is a number";
		if (fd > (INT_MAX - 9) / 10)
			return "no descriptor number is that large";
		fd = fd * 10 + (*digits - '0');
	}
	guest->fd = fd;
	return NULL;
}

static const char *
parse_path(struct guest_endpoint *guest, const char *path)
{
	const char *fault = socket_path_fault(path);

	if (fault == NULL)
		strcpy(guest->path, path);
	return fault;
}

/* What Linux takes as an interface name. */
static const char *
parse_name(struct guest_endpoint *guest, const char *name)
{
	if (*name == '\0')
		return "the interface name is missing";
	if (strlen(name) >= GUEST_NAME_BYTES)
		return "interface name longer than 15 bytes";
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return "no interface can be named that";
	for (const char *c = name; *c != '\0'; c++)
		if (*c == '/' || *c == ':' || isspace((unsigned char)*c))
			return "interface names have no '/', ':' or blanks";
	strcpy(guest->name, name);
	return NULL;
}

static const struct {
	const char *prefix;
	enum guest_kind kind;
	const char *(*parse)(struct guest_endpoint *guest, const char *rest);
} kinds[] = {
	{ "fd:", GUEST_FD, parse_fd },
	{ "unixgram:", GUEST_UNIXGRAM, parse_path },
	{ "tap:", GUEST_TAP, parse_name },
};

int
guest_endpoint_parse(
    struct guest_endpoint *guest, const char *text, const char **why)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t length = strlen(kinds[i].prefix);

		if (strncmp(text, kinds[i].prefix, length) != 0)
			continue;
		*guest =
		    (struct guest_endpoint){ .kind = kinds[i].kind, .fd = -1 };
		*why = kinds[i].parse(guest, text + length);
		return *why == NULL ? 0 : -1;
	}
	*why = "it begins with neither fd:, unixgram: nor tap:";
	return -1;
}
