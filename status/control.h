/* The control socket: a Unix stream socket, mode 0600. A client sends one line,
 * gets an answer that ends with an empty line, and the connection is closed:
 *
 *      status text | json | prometheus | watch
 *
 * main()'s poll() loop serves one client at a time; the others wait in the
 * listener's backlog. A client's line has to come in one piece and within
 * CONTROL_CLIENT_MS. Silent clients that fill the backlog (64) delay the next one
 * by 1.3 s and main() not at all: nothing here waits for a client. An answer is
 * one send(), into a buffer that has room for it. A thread could wait longer,
 * but needed a lock around the settings, and an end when they change. */
#ifndef STATUS_CONTROL_H
#define STATUS_CONTROL_H

#include "base/error.h"
#include "base/unix_bind.h"
#include "status/status.h"
#include <poll.h>
#include <stdint.h>

#define CONTROL_CLIENT_MS 20

struct control {
	int fd; /* listens; -1: closed */
	struct unix_file file;
	int client;          /* whose turn it is; -1: nobody's */
	int64_t deadline_ms; /* end of its turn; INT64_MAX: there is none */
	/* What it asked for. */
	void (*render)(struct text *, const struct status *);
};

/* Listens at `path`, or is closed if that is empty. Returns 0, or -1; then it
 * is closed, too. A closed one can be served and closed. */
int control_open(struct control *c, const char *path, struct error *error);

/* Listens at the same path with a new socket, after its file was removed. The
 * client stays. Returns 0, or -1: then nothing has changed. */
int control_bind_again(struct control *c, struct error *error);

/* Removes the socket if it's still ours. */
void control_close(struct control *c);

/* Returns what to poll for, until c->deadline_ms. */
struct pollfd control_poll(const struct control *c);

/* Call it after each poll(). Returns whether a client asked for the status:
 * then call control_answer(). */
bool control_serve(struct control *c, int64_t now_ms);
void control_answer(struct control *c, const struct status *s);

#endif
