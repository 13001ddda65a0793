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

/* Asks at each path, and sets the error or the status. Takes at
 * most CONTROL_REPLY_SECONDS in all. Each
 * forwarder needs a descriptor: if there are too few, it asks one when another
 * has answered. */
void ask_all(struct answer *answers, size_t count);

/* Adds the control sockets in a folder and in the folders in it, FOLDER/
 * control.sock and FOLDER/NAME/control.sock, to an array that is allocated as
 * needed, each with the name of its folder. Follows no symbolic link to a socket. Returns 0, or -1 with errno if
 * the folder can't be read. */
int ask_find(const char *folder, struct answer **answers, size_t *count);

#endif
