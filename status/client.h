/* `forwarder status`: asks one forwarder, or all of this host, and prints what
 * they answer. It is a separate command, so it writes to standard output and
 * standard error, not to the log. */
#ifndef STATUS_CLIENT_H
#define STATUS_CLIENT_H

#include <stdbool.h>

#define CLIENT_DOWN 1 /* exit code */

struct client_request {
	/* The control socket; NULL: all those below `folder`, or below the
	 * default folders if that is NULL too. */
	const char *path, *folder;
	const char *form; /* text, json or prometheus */
	bool watch;       /* ask again every second */
	bool exit_code;   /* the exit code says whether the network is up */
};

/* Prints the status. With `watch`, repeats this until SIGINT or until the
 * reader of its output exits, and waits for a forwarder that has exited.
 * Returns the exit code: 0; EX_UNAVAILABLE (69) if no forwarder answered the
 * first time; EX_OSERR (71) if standard output can't be written. With
 * `exit_code`: 0 if all are up; 69 if one of them doesn't answer; else 1. The
 * reason is on standard error. */
int client_status(const struct client_request *request);

#endif
