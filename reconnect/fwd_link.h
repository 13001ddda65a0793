/* fwd-link: the thread that makes a new connection whenever the link is down, by
 * dialling or by accepting a client. When to do what is decided in reconnect.h
 * and listener.h.
 * It logs nothing. It reports events, one after the other, from that thread and
 * with no lock held. */
#ifndef RECONNECT_FWD_LINK_H
#define RECONNECT_FWD_LINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/file_watch.h"
#include "reconnect/link.h"
#include "reconnect/listener.h"
#include "reconnect/reconnect.h"
#include "reconnect/resolve.h"

/* A stop takes one second at most, with the end of the log (log_finish()). */
#define FWD_LINK_JOIN_MS 500

enum link_event_kind {
	LINK_EVENT_DIAL_FAILED, /* reason, error */
	LINK_EVENT_UP,
	LINK_EVENT_SETTLED,       /* up for RECONNECT_SETTLE_MS, or proven */
	LINK_EVENT_LOST,          /* reason; not proven: it was a failed dial */
	LINK_EVENT_LONG_OUTAGE,   /* reason: the last error */
	LINK_EVENT_UNWATCHED,     /* error: the path may appear unnoticed */
	LINK_EVENT_ACCEPT_FAILED, /* error: a client waits, can't come in */
	LINK_EVENT_CLIENT_REFUSED, /* client, reason */
};

struct link_event {
	enum link_event_kind kind;
	uint64_t generation; /* the last one made */
	int64_t outage_ms;   /* its age; UP: how long it was */
	int64_t up_ms;       /* how long the generation was up */
	unsigned dials;      /* made in this outage */
	bool proven;         /* the generation */
	const char *reason;
	int error; /* an errno, or 0 */
	const struct sockaddr *client;
};

struct fwd_link_settings {
	struct endpoint endpoint;
	struct reconnect_settings timing;
	bool watch;
	uid_t user; /* whose daemon may answer besides root's and ours */
	/* From listener_open(), if the endpoint listens; fwd-link closes it.
	 * -1 from configure(): the present one stays. */
	int listen_fd;
};

struct fwd_link_hooks {
	void *context;
	void (*event)(void *context, const struct link_event *event);
	/* True: the settings have changed, and were replaced by new ones. */
	bool (*configure)(void *context, struct fwd_link_settings *settings);
	/* Prepares a new connection and sends what has to come first on it,
	 * before any copy thread can use it. Must not block. A connection that
	 * turns out to be broken is left to those threads, which read what came
	 * on it. */
	void (*on_connected)(void *context, int fd);
	/* Watches over a generation: called when it is new, at the time that the
	 * last call returned (INT64_MAX: none), and when the link's bell rang. */
	int64_t (*tend)(void *context, uint64_t generation, int64_t now_ms);
	/* Why this client may not connect; NULL: it may. */
	const char *(*refusal)(void *context, const struct sockaddr *client);
	/* A client came while this generation is up. True: the present one may
	 * stay if it lives, and was asked for a sign of life. False: the newest
	 * client is served. Must not block. */
	bool (*ask)(void *context, uint64_t generation);
	/* Whether it has shown life since then. */
	bool (*alive)(void *context, uint64_t generation, int64_t since_ms);
};

struct fwd_link {
	struct link *link;
	struct fwd_link_hooks hooks;
	pthread_t thread;
	struct doorbell orders; /* rung by main; interrupts a dial */
	struct doorbell ended;  /* rung by the thread, last of all */

	/* The thread's own. */
	struct fwd_link_settings settings;
	struct link_view view; /* as it last looked */
	struct reconnect machine;
	struct listener listener;
	struct resolver resolver;
	struct file_watch watch;
	struct doorbell path_bell; /* rings for the watch */
	bool watching;             /* or it was refused: watch.error */
	int64_t suspended_ms;
};

/* Starts the thread; the link is the caller's and outlives it.
 * Returns 0, or -1 with errno: then the descriptor to listen on is still the
 * caller's. */
int fwd_link_start(struct fwd_link *fwd, struct link *link,
    const struct fwd_link_settings *settings,
    const struct fwd_link_hooks *hooks);

/* There are new settings: has configure() called at once. Another endpoint ends
 * the present generation, and so do settings that don't admit its peer. */
void fwd_link_wake(struct fwd_link *fwd);

/* After link_stop(): interrupts a dial, waits for the thread's end, cleans up.
 * False: after FWD_LINK_JOIN_MS the thread still hangs in a system call, such as
 * the look-up of a path on a dead file server. Then it goes on using all it has,
 * until the process ends or another call returns true. */
bool fwd_link_join(struct fwd_link *fwd);

#endif
