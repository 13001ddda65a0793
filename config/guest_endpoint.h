/* Reads what a guest's endpoint says: fd:N, unixgram:PATH or tap:NAME.
 * Grammar only; opening it is left to others. */
#ifndef CONFIG_GUEST_ENDPOINT_H
#define CONFIG_GUEST_ENDPOINT_H

#define GUEST_PATH_BYTES 108 /* sun_path, with its end; macOS has less */
#define GUEST_NAME_BYTES 16  /* IFNAMSIZ */

enum guest_kind {
	GUEST_FD,
	GUEST_UNIXGRAM,
	GUEST_TAP,
};

struct guest_endpoint {
	enum guest_kind kind;
	int fd;                      /* GUEST_FD, otherwise -1 */
	char path[GUEST_PATH_BYTES]; /* GUEST_UNIXGRAM, otherwise empty */
	char name[GUEST_NAME_BYTES]; /* GUEST_TAP, otherwise empty */
};

/* Returns 0, or -1 with *why a static sentence. */
int guest_endpoint_parse(
    struct guest_endpoint *guest, const char *text, const char **why);

/* Why no socket can have this path: a static sentence. NULL: it can. */
const char *socket_path_fault(const char *path);

#endif
