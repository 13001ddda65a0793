/* Asks forwarders for their status, all of them at once, at their control
 * sockets. */
#ifndef STATUS_ASK_H
#define STATUS_ASK_H

#include <stddef.h>

#include "status/status.h"

#define ASK_PATH_BYTES 256

struct answer {
	char path[ASK_PATH_BYTES]; /* of the control socket */
	/* 0: it has answered. EPROTO: the reply is not a forwarder's.
	 * ETIMEDOUT: it is stuck. Else the errno of the call that failed. */
	int error;
	struct status status; /* without an answer: at most a name */
};

/* Asks at each path, and sets the error or the status. Takes at most
 * CONTROL_REPLY_SECONDS in all. Each exchange needs a descriptor: if there are
 * too few, some wait until others have ended. SIGPIPE must be ignored. */
void ask_all(struct answer *answers, size_t count);

struct answer_counts {
	size_t up, down, silent;
};
struct answer_counts ask_count(const struct answer *answers, size_t count);

/* Adds the control sockets FOLDER/control.sock and FOLDER/NAME/control.sock to
 * an allocated array, each with the name of its folder. If a folder may not be
 * searched, a socket is assumed to be in it. Symbolic links are left out.
 * Returns 0, or -1 with errno: the folder can't be read, or memory ran out. */
int ask_find(const char *folder, struct answer **answers, size_t *count);

#endif
