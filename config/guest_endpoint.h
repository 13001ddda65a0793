/* Reads the guest's endpoint: fd:N, unixgram:PATH, listen-unix:PATH or tap:NAME.
 * Grammar only; opens nothing. */
#ifndef CONFIG_GUEST_ENDPOINT_H
#define CONFIG_GUEST_ENDPOINT_H

#include "reconnect/endpoint.h"

#define GUEST_PATH_BYTES ENDPOINT_PATH_BYTES
#define GUEST_NAME_BYTES 16 /* IFNAMSIZ */

enum guest_kind {
	GUEST_FD,
	GUEST_UNIXGRAM,
	GUEST_STREAM,
	GUEST_TAP,
};

struct guest_endpoint {
	char text[GUEST_PATH_BYTES + sizeof("listen-unix:")]; /* as written */
	enum guest_kind kind;
	int fd;                      /* GUEST_FD, otherwise -1 */
	char path[GUEST_PATH_BYTES]; /* of a socket, otherwise empty */
	char name[GUEST_NAME_BYTES]; /* GUEST_TAP, otherwise empty */
};

/* Returns 0, or -1 with the error set. */
int guest_endpoint_parse(
    struct guest_endpoint *guest, const char *text, struct error *error);

#endif
