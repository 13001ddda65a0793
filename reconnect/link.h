/* The handle to the network connection that all threads share. It counts the
 * connections ("generations") and their users ("loans"), and measures outages;
 * fwd-link makes the connections (fwd_link.h). It does not log. Functions may be
 * called from any thread unless their comment says otherwise. */
#ifndef RECONNECT_LINK_H
#define RECONNECT_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/sync.h"
#include "base/wait.h"

#define LINK_REASON_BYTES 128
#define LINK_PEER_CLOSED "peer closed" /* reason: the end of the stream */
#define LINK_HISTORY 32                /* outages that are remembered */
#define LINK_HOLD_FOREVER (-1)

/* The most connections that are open at once: the current one, and those that
 * have ended but are still being read (link_borrow_next()). */
#define LINK_CONNECTIONS 16

enum link_state { LINK_DOWN, LINK_UP, LINK_STOPPED };

/* One generation. Its holders are the link while this is current, the reader
 * until it has borrowed it, and each loan. The last one closes the descriptor. */
struct connection {
	int fd;
	bool datagrams; /* one frame each; otherwise a stream */
	uint64_t generation;
	atomic_uint holders;
	atomic_bool open; /* false: this place is free */
	/* Set before fd is shut down: from then on a datagram socket whose
	 * queue is empty receives 0 bytes. */
	atomic_bool shut;
	/* The writer's token. fwd-up waits for it; other threads only try it,
	 * but may then block for the rest of a partly sent frame, at most
	 * write_stall. Nothing else is locked under it. */
	struct mutex writing;
};

/* The right to use a connection's descriptor until link_return(). */
struct loan {
	int fd;
	bool datagrams;
	uint64_t generation;
	struct connection *connection;
};

/* From the end of a proven generation until the next generation. */
struct link_outage {
	int64_t began_utc_ms;  /* clock_utc_ms() */
	int64_t ms;            /* its length so far, or in all */
	uint64_t dials;        /* made during it */
	uint64_t dials_before; /* link.dials when it began */
	char reason[LINK_REASON_BYTES];
};

struct link {
	struct mutex lock;
	struct condition changed; /* state or hold_ms */
	enum link_state state GUARDED;
	int64_t since_ms GUARDED;           /* when the state was entered */
	struct connection *current GUARDED; /* NULL unless up */
	uint64_t generation GUARDED;        /* of the last connection */
	uint64_t borrowed GUARDED; /* last generation lent to the reader */
	bool proven GUARDED;       /* the last generation is proven */
	int64_t up_ms GUARDED;     /* how long it was up, once it has ended */
	int64_t hold_ms GUARDED;   /* or LINK_HOLD_FOREVER */
	int64_t outage_since_ms GUARDED;
	int64_t last_outage_ms GUARDED;
	int64_t down_ms GUARDED;
	uint64_t outages GUARDED;
	uint64_t dials GUARDED;
	/* The end of the last generation; an outage if that was proven. */
	struct link_outage loss GUARDED;
	struct link_outage history[LINK_HISTORY] GUARDED; /* a ring */
	char last_error[LINK_REASON_BYTES] GUARDED;
	struct doorbell bell;  /* wakes fwd-link while up */
	struct doorbell ready; /* wakes fwd-up after link_watch() */
	atomic_bool watched;   /* ring `ready`; set under the lock while down */
	struct connection connections[LINK_CONNECTIONS];
};

/* The link starts down, with LINK_HOLD_FOREVER. Returns 0, or -1 with errno. No
 * function below allocates memory. */
int link_init(struct link *link);

/* Call it only when all loans are returned and no thread waits in a borrow. */
void link_destroy(struct link *link);

enum link_answer {
	LINK_READY,  /* *loan is valid */
	LINK_WAITED, /* the link is down, and the wait (if any) is over */
	LINK_ENDED,  /* link_stop() was called */
};

enum link_wait {
	LINK_NO_WAIT,
	LINK_WHILE_HELD, /* until the outage has lasted `hold` */
};

/* Borrows the current connection. While up, takes one uncontended lock. */
enum link_answer link_borrow(
    struct link *link, struct loan *loan, enum link_wait wait);

/* For the reader, fwd-down: waits for the next generation and borrows it. The
 * reader gets every generation once, in order, even one that has ended: what the
 * peer wrote before the end can still be read, except on macOS, where shutdown()
 * discards it. Returns LINK_READY or LINK_ENDED. */
enum link_answer link_borrow_next(struct link *link, struct loan *loan);

void link_return(struct loan *loan);

/* Reports that `generation` has failed: takes the link down and wakes every thread
 * that is blocked on the descriptor. Does nothing if `generation` is not up. */
void link_fail(struct link *link, uint64_t generation, const char *reason);

/* Proof of life: a byte came from the peer, or the generation outlived
 * reconnect.max. It also counts if another thread has just ended the generation:
 * the reader may be preempted between recv() and this call. One call per
 * generation is enough. */
void link_prove(struct link *link, uint64_t generation);

/* For fwd-up, to wait for the link together with something else: returns a
 * descriptor that becomes readable when the link is no longer down, or when hold
 * is set. It may also become readable early. Call this before each wait. Returns
 * -1 if the link is not down. */
int link_watch(struct link *link);

/* How long frames wait in an outage. Also applies to threads that wait now. */
void link_set_hold(struct link *link, int64_t hold_ms);

/* Stops the link for good: ends all waits and the current generation. */
void link_stop(struct link *link);

/* A snapshot. */
struct link_view {
	enum link_state state;
	uint64_t generation;    /* the last one; 0: none yet */
	bool proven;            /* the last generation is proven */
	int64_t up_ms;          /* its age, or its length if it has ended */
	int64_t outage_ms;      /* while down: the age of the outage */
	int64_t last_outage_ms; /* length; 0 until an outage has ended */
	int64_t down_ms;        /* in all, the wait at the start included */
	uint64_t outages;
	uint64_t dials;
	char last_error[LINK_REASON_BYTES]; /* of a generation or a dial */
};

void link_look(struct link *link, struct link_view *view);

/* Gets the last outages, the newest first, and returns how many there are.
 * While the link is down, the first one has not ended. An outage continues if
 * the generation after it ends without proof of life; the time that this was up
 * then counts as well. */
size_t link_history(
    struct link *link, struct link_outage history[LINK_HISTORY]);

/* For fwd-link: counts a dial; records why it failed. */
void link_dialled(struct link *link);
void link_dial_failed(struct link *link, const char *reason);

/* For fwd-link: as link_fail(), but if this generation was the last one and has
 * ended already, replaces the reason of its end. */
void link_explain(struct link *link, uint64_t generation, const char *reason);

/* For fwd-link, while down: makes fd the next generation and takes it over.
 * datagrams: it is a datagram socket, which carries one frame per datagram.
 * Returns the generation, or 0 with errno and fd closed: EPIPE if the link was
 * stopped, EBUSY if all LINK_CONNECTIONS are in use. */
uint64_t link_install(struct link *link, int fd, bool datagrams);

#endif
