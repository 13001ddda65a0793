/* fwd-link: the thread that makes a new connection whenever the link is down, by
 * dialling, by accepting a client, or by starting a daemon. reconnect.h, listener.h
 * and supervisor.h decide when. It does not log: it passes events to a hook. All
 * hooks are called from its own thread, with no lock held. */
#ifndef RECONNECT_FWD_LINK_H
#define RECONNECT_FWD_LINK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/file_watch.h"
#include "base/pulse.h"
#include "reconnect/daemon.h"
#include "reconnect/dgram.h"
#include "reconnect/link.h"
#include "reconnect/listener.h"
#include "reconnect/reconnect.h"
#include "reconnect/resolve.h"

/* How long fwd_link_join() waits. */
#define FWD_LINK_JOIN_MS 300

enum link_event_kind {
	LINK_EVENT_DIAL_FAILED, /* reason, error */
	LINK_EVENT_UP,
	LINK_EVENT_SETTLED, /* up for RECONNECT_SETTLE_MS, or proven */
	/* reason; unproven: counts as a failed dial */
	LINK_EVENT_LOST,
	LINK_EVENT_LONG_OUTAGE,    /* reason: the last error */
	LINK_EVENT_UNWATCHED,      /* error: why the path cannot be watched */
	LINK_EVENT_ACCEPT_FAILED,  /* error */
	LINK_EVENT_CLIENT_REFUSED, /* client, reason */
	/* reason; the daemon was not started, or has served no generation */
	LINK_EVENT_DAEMON_FAILED,
	LINK_EVENT_DAEMON_KILLED, /* SIGTERM had no effect; error of SIGKILL */
};

struct link_event {
	enum link_event_kind kind;
	uint64_t generation; /* the last one */
	int64_t outage_ms;   /* while down: its age; UP: its length */
	int64_t up_ms;       /* how long the generation was up */
	unsigned dials;      /* in this outage */
	bool proven;         /* the generation is */
	const char *reason;
	int error; /* an errno, or 0 */
	const struct sockaddr *client;
};

struct fwd_link_settings {
	struct endpoint endpoint;
	struct reconnect_settings timing;
	bool watch;
	uid_t user; /* see dial_trusts() */
	bool vfkit; /* see dgram_dial() */
	struct private_folder *folder;
	/* From listener_open(); fwd-link closes it. -1 from configure(): keeps
	 * the present one, or closes it if the endpoint has changed. */
	int listen_fd;
};

struct fwd_link_hooks {
	void *context;
	void (*event)(void *context, const struct link_event *event);
	/* Returns whether there are new settings; if so, fills them in. */
	bool (*configure)(void *context, struct fwd_link_settings *settings);
	/* Prepares a new connection and sends the first frame, before a copy
	 * thread can use it. Must not block. A broken connection is left to the
	 * copy threads: they read what the peer sent before they report it. */
	void (*on_connected)(void *context, int fd, bool datagrams);
	/* Runs the keepalive of this generation. Called before each sleep while
	 * up. `resumed`: the host was suspended since the last call. Returns the
	 * time of the next call, or INT64_MAX. */
	int64_t (*keepalive)(
	    void *context, uint64_t generation, int64_t now_ms, bool resumed);
	/* Returns why this client may not connect, or NULL if it may. */
	const char *(*refusal)(void *context, const struct sockaddr *client);
	/* Probes the present client, because another one has connected. Returns
	 * false if it can't be probed; the new client then replaces it. May
	 * block for the rest of a partly sent probe, at most write_stall. */
	bool (*probe)(void *context, uint64_t generation);
	/* Whether a byte has arrived since since_ms, or waits on this
	 * generation. */
	bool (*alive)(void *context, uint64_t generation, int64_t since_ms);
};

struct fwd_link {
	struct link *link;
	struct fwd_link_hooks hooks;
	pthread_t thread;
	struct doorbell orders; /* rung by main; interrupts a dial */
	struct doorbell ended;  /* rung by the thread, last of all */

	/* Written by the thread before it sleeps in poll(). */
	struct pulse pulse;     /* RESTING: in that poll() */
	_Atomic int64_t due_ms; /* its deadline */
	atomic_bool polls_link; /* it polls the link's bell */

	/* Used by fwd-link only: */
	struct fwd_link_settings settings;
	struct link_view view; /* result of the last link_look() */
	struct reconnect machine;
	int64_t suspended_ms; /* as of the last suspend that was noticed */
	bool resumed;         /* the keepalive doesn't know about it yet */
	int resume_fd;        /* from clock_resume_open() */

	/* For the kinds of endpoint: */
	struct resolver resolver; /* tcp */
	struct dgram dgram;       /* unixgram */
	struct daemon daemon;     /* exec; daemon_look() from any thread */
	struct listener listener; /* those that listen */

	/* The watch of a path: */
	struct file_watch watch;
	struct doorbell path_bell; /* rung by it, and by the watch of dgram */
	/* also true if the watch failed (watch.error) */
	bool watching;
};

/* Starts the thread, which uses the link until fwd_link_join(). Returns 0, or -1
 * with errno; on failure the caller still owns settings->listen_fd. */
int fwd_link_start(struct fwd_link *fwd, struct link *link,
    const struct fwd_link_settings *settings,
    const struct fwd_link_hooks *hooks);

/* Makes fwd-link call configure() at once. A new endpoint ends the present
 * generation, and so do settings that do not admit its peer. */
void fwd_link_wake(struct fwd_link *fwd);

/* Whether an event that should wake the thread from poll() is pending. */
bool fwd_link_has_event(const struct fwd_link *fwd);

/* Call after link_stop(). Interrupts a dial and waits for the thread to end.
 * Returns false if it is still in a system call after FWD_LINK_JOIN_MS, such as
 * one on a path whose file server is dead. It then keeps using *fwd until the
 * process ends or another call returns true. */
bool fwd_link_join(struct fwd_link *fwd);

#endif
