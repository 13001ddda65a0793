/* fwd-link: the thread that makes a new connection whenever the link is down,
 * by dialling or by taking the client that calls.
 * It logs nothing: it reports events, one after the other, from that thread
 * and with no lock held. */
#ifndef RECONNECT_DIALLER_H
#define RECONNECT_DIALLER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/file_watch.h"
#include "reconnect/candidate.h"
#include "reconnect/dial.h"
#include "reconnect/link.h"
#include "reconnect/redial.h"

enum link_event_kind {
	LINK_EVENT_DIAL_FAILED, /* reason, dials; the last generation */
	LINK_EVENT_UP,          /* generation, outage_ms, dials, again */
	LINK_EVENT_SETTLED,     /* one that was `again` when up has lasted */
	LINK_EVENT_LOST,        /* generation, up_ms, reason: an outage began */
	LINK_EVENT_UNPROVEN,    /* the same, but it was a failed dial */
	LINK_EVENT_LONG_OUTAGE, /* outage_ms, dials, reason, error: once each */
	LINK_EVENT_ACCEPT_FAILED,  /* reason: clients wait, none can come in */
	LINK_EVENT_CLIENT_REFUSED, /* client, reason */
	LINK_EVENT_DISTRUSTED, /* reason: a stranger's daemon answers; once */
	LINK_EVENT_UNWATCHED, /* reason, error: the path may appear unnoticed */
};

struct link_event {
	enum link_event_kind kind;
	uint64_t generation;
	int64_t outage_ms; /* from the outage's beginning to this connection */
	int64_t up_ms;
	unsigned dials; /* made in this outage, this one included */
	bool again;     /* after an unproven one in the same outage */
	bool settled; /* it was `again`, and LINK_EVENT_SETTLED was reported */
	const char *reason;
	int error; /* the errno of that reason, or 0 */
	const struct sockaddr *client;
};

struct dialler_settings {
	struct endpoint endpoint;
	int64_t min_ms, max_ms;
	unsigned jitter_percent;
	bool watch;
	uid_t user; /* whose daemon is trusted as well, see dial_trusts() */
	/* An endpoint that listens: its listen_open() descriptor, which the
	 * dialler closes; otherwise -1. */
	int listen_fd;
};

struct dialler_hooks {
	void *context;
	void (*event)(void *context, const struct link_event *event);
	/* Prepares a new connection and sends what has to be the first on it,
	 * before any copy thread can use it; must not block. A connection that
	 * turns out to be broken is left to them: they read what came on it. */
	void (*greet)(void *context, int fd);
	/* Looks after a generation: called when it is new, at the time that
	 * the last call returned (INT64_MAX: none), and when the bell rang. */
	int64_t (*tend)(void *context, uint64_t generation, int64_t now_ms);
	/* Whether this client may come in; NULL: all may. */
	bool (*admit)(void *context, const struct sockaddr *client);
	/* A client came while this generation is up. True: its peer keeps its
	 * place if it lives, and was asked for a sign of life; must not block.
	 * False, or NULL: the newest client is served. */
	bool (*ask)(void *context, uint64_t generation);
	/* Whether that peer has shown life since then. */
	bool (*alive)(void *context, uint64_t generation, int64_t since_ms);
};

struct dialler {
	struct link *link;
	struct dialler_hooks hooks;
	pthread_t thread;
	struct doorbell orders; /* a stop or new settings: interrupts a dial */

	/* What main() wants; taken over by the thread when it looks. */
	struct mutex lock;
	struct dialler_settings wanted GUARDED;
	bool changed GUARDED;
	bool deaf GUARDED;       /* listen_fd is to be closed */
	struct condition heeded; /* deaf was, and is false again */

	/* fwd-link's own. */
	struct dialler_settings settings;
	struct redial redial;
	struct resolver resolver;
	struct file_watch watch;
	struct doorbell path_bell; /* rings for the watch */
	bool armed;                /* the watch is, or is to be (its error) */
	bool told_unwatched;       /* since it last could be armed */
	bool client_waits;         /* at listen_fd */
	struct candidate candidate;
	int candidate_fd; /* -1: no client waits for the verdict */
	struct sockaddr_storage candidate_from;
	int64_t resume_ms;   /* nobody is let in before; 0: last time it went */
	bool appeared;       /* the path did, and wasn't dialled since */
	uint64_t generation; /* the last one made */
	uint64_t ended;      /* the last one whose end was reported */
	bool unproven_before, settled;
	int64_t endpoint_since_ms; /* when a reload changed it; 0: never */
	bool long_reported;        /* of the present outage and endpoint */
	int error;                 /* errno of the last failure, or 0 */
	bool told_distrust;        /* since a connection or another setting */
	int64_t suspended_ms;
	uint32_t random;
};

/* Starts the thread; the link is the caller's and outlives it.
 * Returns 0, or -1 with errno. */
int dialler_start(struct dialler *dialler, struct link *link,
    const struct dialler_settings *settings, const struct dialler_hooks *hooks);

/* Applies at once. Another endpoint ends the present generation; where clients
 * come in, so does an admit() that refuses the one who is in by now. */
void dialler_configure(
    struct dialler *dialler, const struct dialler_settings *settings);

/* An endpoint that listens: lets no more clients in, until the next
 * dialler_configure(). When this returns, the descriptor is closed. Not after
 * link_stop(). */
void dialler_stop_listening(struct dialler *dialler);

/* After link_stop(): interrupts a dial, waits for the thread's end, and cleans
 * up. */
void dialler_join(struct dialler *dialler);

#endif
