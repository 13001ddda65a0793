/* The listening role: clients connect to us, one at a time, and the newest
 * wins; where the present client has to be asked first, it may stay.
 *
 *   state    from due_ms on          entered when
 *   CLOSED   nothing                 there is no descriptor: we dial
 *   OPEN     a client is accepted    at the start; after each verdict
 *   JUDGING  listener_judge()        a candidate has come, and the present
 *                                    client was asked for a sign of life
 *
 *      candidate comes,  ask       ask       ask       ask     verdict
 *      first ask          |         |         |         |         |
 *      0 --------------- 200 ----- 400 ----- 600 ----- 800 ----- 1000 ---> ms
 *
 * A sign of life since the candidate came refuses it at the next tick; without
 * one it is admitted at the last tick. A tick that comes late, as after a
 * suspend, only asks again: the answer had no time to arrive. due_ms outlives the
 * candidate, so that no two asks are closer than a tick, however many come. */
#ifndef RECONNECT_LISTENER_H
#define RECONNECT_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/unix_bind.h"
#include "reconnect/endpoint.h"

/* Five unanswered asks are the contract's second; a peer answers ten PINGs a
 * second (PONGS_PER_SECOND), those of its own keepalive included. */
#define LISTENER_TICK_MS 200
#define LISTENER_ASKS 5

/* After accept() was out of descriptors or memory. The client still waits, so
 * without a pause poll() would return at once, over and over. */
#define LISTENER_PAUSE_MS 1000

enum listener_state { LISTENER_CLOSED, LISTENER_OPEN, LISTENER_JUDGING };

struct listener {
	enum listener_state state;
	int fd;
	int64_t due_ms;
	/* JUDGING: */
	int candidate_fd;
	struct sockaddr_storage candidate;
	int64_t since_ms; /* when it came */
	unsigned asks;    /* so far */
};

enum listener_verdict {
	LISTENER_WAIT,
	LISTENER_ASK,    /* the present client, again */
	LISTENER_REFUSE, /* it has shown life: the candidate has to go */
	LISTENER_ADMIT,  /* it has not: the candidate takes its place */
};

/* Listens at the endpoint. A Unix path gets mode 0600, and its file goes into
 * *file. Returns a non-blocking descriptor, or -1 with errno and the reason. */
int listener_open(const struct endpoint *endpoint, struct unix_file *file,
    struct error *error);

/* Takes over a descriptor of listener_open(), or -1: none. Closes the one before
 * and the candidate. A zeroed listener is CLOSED. */
void listener_replace(struct listener *listener, int fd);

/* Whether to poll listener.fd for a client now. */
bool listener_accepts(const struct listener *listener, int64_t now_ms);

/* When that will change, or a verdict is due; INT64_MAX: never. */
int64_t listener_wake_ms(const struct listener *listener, int64_t now_ms);

/* Returns the client: blocking, closed on exec, without delay; or -1 with errno,
 * EAGAIN if it has hung up. */
int listener_accept(
    struct listener *listener, struct sockaddr_storage *client, int64_t now_ms);

/* Accepts nobody for so long. */
void listener_pause(struct listener *listener, int64_t now_ms, int pause_ms);

/* A client came, and the present one was asked for the first time. */
void listener_hold(struct listener *listener, int fd,
    const struct sockaddr_storage *client, int64_t now_ms);

/* While JUDGING. alive: the present client has shown life since since_ms. */
enum listener_verdict listener_judge(
    struct listener *listener, int64_t now_ms, bool alive);

/* Ends JUDGING. Returns the candidate's descriptor. */
int listener_release(struct listener *listener);

/* Ends JUDGING, if it does: the candidate has to connect again. */
void listener_drop(struct listener *listener);

#endif
