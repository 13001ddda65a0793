/* The control socket: a Unix stream socket. A client sends one line:
 *
 *      status text | json | prometheus
 *
 * It gets an answer that ends with an empty line, and the connection is closed.
 * If the line is "capture", capture.c takes the connection over.
 *
 * The poll() loop of main() serves one client at a time; the others wait in the
 * listener's backlog. A client's line must arrive in one piece and within
 * CONTROL_CLIENT_MS. Silent clients that fill the backlog (64) delay the next
 * one by 1.3 s, but not main(): nothing here blocks. An answer is one send()
 * into a buffer that has room for it. (A separate thread could wait longer, but
 * would need a lock around the configuration.) */
#ifndef STATUS_CONTROL_H
#define STATUS_CONTROL_H

#include "base/error.h"
#include "base/unix_bind.h"
#include "status/status.h"
#include <poll.h>
#include <stdint.h>

#define CONTROL_CLIENT_MS 20

struct capture;

struct control {
	int fd; /* listens; -1: closed */
	struct unix_file file;
	mode_t mode;         /* of the file */
	int client;          /* being served; -1: none */
	int64_t deadline_ms; /* for its line; INT64_MAX: no client */
	/* its request; NULL: a capture */
	void (*render)(struct text *, const struct status *);
};

/* Listens at `path`, unless that is empty; the file has the permissions `mode`.
 * Returns 0, or -1 with the error set. control_serve() and control_close() may be
 * called in any case. */
int control_open(
    struct control *c, const char *path, mode_t mode, struct error *error);

/* Changes the permissions of the file; logs it if that fails. A file that was
 * removed gets them when it is bound again. */
void control_set_mode(struct control *c, mode_t mode);

/* Listens at the same path with a new socket, after its file was removed. Keeps
 * the client. Returns 0, or -1 if nothing has changed. */
int control_bind_again(struct control *c, struct error *error);

/* Closes the socket, and removes its file if it's still ours. */
void control_close(struct control *c);

/* Returns what to poll for, until c->deadline_ms. */
struct pollfd control_poll(const struct control *c);

/* Call this after each poll(). If it returns true, a client has asked for the
 * status or a capture: call control_answer(). */
bool control_serve(struct control *c, int64_t now_ms);
void control_answer(
    struct control *c, const struct status *s, struct capture *capture);

#endif
