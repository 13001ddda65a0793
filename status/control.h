/* The control socket's server: a Unix stream socket on which a client says one
 * line and is answered, then the connection is closed. Lives in the poll()
 * loop of whoever owns it and never blocks it: a request comes in bounded
 * pieces, an answer is one send(), and what a client doesn't take is lost with
 * it. As long as no client is connected nothing has to be woken. */
#ifndef STATUS_CONTROL_H
#define STATUS_CONTROL_H

#include "base/unix_bind.h"
#include "status/status.h"
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#define CONTROL_CLIENTS 8
#define CONTROL_DESCRIPTORS (CONTROL_CLIENTS + 1)
#define CONTROL_REQUEST_BYTES 64
/* How long a client may take to say its line. */
#define CONTROL_PATIENCE_MS 5000

struct control_client {
	int fd; /* -1: a free slot */
	int64_t since_ms;
	uint64_t arrival; /* the lower, the older */
	size_t length;    /* of what was received */
	char request[CONTROL_REQUEST_BYTES];
};

struct control {
	int fd; /* listens; -1: closed */
	struct unix_file file;
	int64_t resume_ms; /* nobody is accepted before */
	uint64_t arrivals;
	struct control_client clients[CONTROL_CLIENTS];
};

/* Where the answers come from: one function a request. */
struct control_answers {
	void (*status)(void *context, struct status *out);
	void *context;
};

/* Listens at `path`, mode 0600, or nowhere if it is empty. The socket of a
 * forwarder that is gone is replaced, anything else that is there is left
 * alone. Returns 0, or -1 and the reason; closed, it can be served as well. */
int control_open(struct control *c, const char *path, char *why, size_t size);

/* Listens at the same path with a new socket, after its file was removed. Those
 * who are connected stay. Returns 0, or -1 and the reason: nothing changed. */
int control_bind_again(struct control *c, char *why, size_t size);

/* Ends all connections and removes the socket, if it's still ours. */
void control_close(struct control *c);

/* Says what to poll for, and returns for how many milliseconds at most: -1, for
 * ever, unless a client is connected. Monotonic time, as below. */
int control_watch(const struct control *c,
    struct pollfd fds[CONTROL_DESCRIPTORS], int64_t now_ms);

/* Does what poll() found to do. */
void control_serve(struct control *c,
    const struct pollfd fds[CONTROL_DESCRIPTORS], int64_t now_ms,
    const struct control_answers *answers);

/* The address of a path. Returns 0, or -1 with ENAMETOOLONG. */
int control_address(struct sockaddr_un *address, const char *path);

/* For descriptors of both ends, where there is no SOCK_CLOEXEC. */
int control_set_flags(int fd, bool nonblocking);

#endif
