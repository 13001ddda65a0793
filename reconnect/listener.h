/* The listening role. One client is served at a time; a new one replaces it. If
 * the present client can be probed, it is probed first, and stays if it
 * answers. The new client is a candidate until then.
 *
 *   state    at due_ms               entered when
 *   CLOSED   nothing                 the endpoint does not listen
 *   OPEN     a client is accepted    at the start; after each verdict
 *   JUDGING  listener_judge()        a candidate has connected, and the present
 *                                    client was sent a probe
 *
 *      candidate comes, probe     probe     probe     probe    verdict
 *      first probe        |         |         |         |         |
 *      0 --------------- 200 ----- 400 ----- 600 ----- 800 ----- 1000 ---> ms
 *
 * If the present client sends anything after the candidate connected, the
 * candidate is refused at the next tick; otherwise it is admitted at the last
 * one. A late tick only probes again: forwarder was stopped, and perhaps the
 * client too, so an answer may still come. due_ms is kept after a verdict, so
 * that no two probes are closer than a tick, however many candidates
 * connect. */
#ifndef RECONNECT_LISTENER_H
#define RECONNECT_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/unix_bind.h"
#include "reconnect/endpoint.h"

/* Five probes give the present client a second to answer. A peer answers at most ten
 * PINGs a second (PONGS_PER_SECOND), those of the keepalive included. */
#define LISTENER_TICK_MS 200
#define LISTENER_PROBES 5

/* The pause after accept() ran out of descriptors or memory. The client still
 * waits, so without it poll() would keep returning at once. */
#define LISTENER_PAUSE_MS 1000

enum listener_state { LISTENER_CLOSED, LISTENER_OPEN, LISTENER_JUDGING };

struct listener {
	enum listener_state state;
	int fd;
	int64_t due_ms;
	/* JUDGING: */
	int candidate_fd;
	struct sockaddr_storage candidate;
	int64_t since_ms; /* when it connected */
	unsigned probes;  /* sent for this candidate */
};

enum listener_verdict {
	LISTENER_WAIT,
	LISTENER_PROBE,  /* probe the present client again */
	LISTENER_REFUSE, /* close the candidate */
	LISTENER_ADMIT,  /* the candidate replaces the present client */
};

/* Listens at the endpoint. For a Unix path, sets *file; its mode is 0600. Returns
 * a non-blocking descriptor, or -1 with errno and the reason. */
int listener_open(const struct endpoint *endpoint, struct unix_file *file,
    struct error *error);

/* Takes over a descriptor of listener_open(), or -1 for none. Closes the previous
 * one and the candidate. A zeroed listener is CLOSED. */
void listener_replace(struct listener *listener, int fd);

/* Whether to poll listener.fd for a client now. */
bool listener_accepts(const struct listener *listener, int64_t now_ms);

/* When a client may be accepted again, or the verdict is due; INT64_MAX: no such
 * time. */
int64_t listener_wake_ms(const struct listener *listener, int64_t now_ms);

/* Returns the client's descriptor, blocking, closed on exec and with
 * TCP_NODELAY, or -1 with errno: EAGAIN if the client is gone. Other errors
 * begin a pause of LISTENER_PAUSE_MS. */
int listener_accept(
    struct listener *listener, struct sockaddr_storage *client, int64_t now_ms);

/* Accepts no client for pause_ms. */
void listener_pause(struct listener *listener, int64_t now_ms, int pause_ms);

/* Enters JUDGING. Call it after sending the first probe. */
void listener_hold(struct listener *listener, int fd,
    const struct sockaddr_storage *client, int64_t now_ms);

/* While JUDGING. alive: the present client has sent something after since_ms. */
enum listener_verdict listener_judge(
    struct listener *listener, int64_t now_ms, bool alive);

/* Ends JUDGING. Returns the candidate's descriptor. */
int listener_release(struct listener *listener);

/* Ends JUDGING, if there is a candidate, and closes its connection. */
void listener_drop(struct listener *listener);

#endif
