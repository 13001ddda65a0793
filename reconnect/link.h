/* The handle to the network connection that all threads share. It knows
 * generations, loans and outages; fwd-link makes the connections (fwd_link.h).
 * It logs nothing. Every function may be called from any thread unless it says
 * otherwise. */
#ifndef RECONNECT_LINK_H
#define RECONNECT_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/sync.h"
#include "base/wait.h"

#define LINK_REASON_BYTES 128
#define LINK_HOLD_FOREVER (-1)

/* Generations that can be open at once: the current one, and those that have
 * ended but are still being read (link_borrow_next). */
#define LINK_CONNECTIONS 16

enum link_state { LINK_DOWN, LINK_UP, LINK_STOPPED };

/* One generation. Its descriptor is closed by the last of its holders: the
 * link while this is current, the reader until it has borrowed it, each loan. */
struct connection {
	int fd;
	uint64_t generation;
	atomic_uint holders;
	atomic_bool open; /* false: another generation may use this place */
	/* The writer's token. fwd-up waits for it, and may block in a write
	 * while holding it; any other thread with a frame to send only tries.
	 * Not part of the lock order: nothing else is locked under it. */
	struct mutex writing;
};

/* The right to use a connection's descriptor until link_return(). */
struct loan {
	int fd;
	uint64_t generation;
	struct connection *connection;
};

struct link {
	struct mutex lock;
	struct condition changed; /* the state, or `hold_ms` */
	enum link_state state GUARDED;
	int64_t since_ms GUARDED;           /* when the state was entered */
	struct connection *current GUARDED; /* NULL unless up */
	uint64_t generation GUARDED;        /* of the last connection made */
	uint64_t borrowed GUARDED; /* the last one that the reader got */
	bool proven GUARDED;       /* its peer has shown that it lives */
	int64_t up_ms GUARDED;     /* how long it lasted, once it has ended */
	int64_t hold_ms GUARDED;   /* or LINK_HOLD_FOREVER */
	int64_t outage_since_ms GUARDED;
	int64_t last_outage_ms GUARDED;
	int64_t down_ms GUARDED;
	uint64_t outages GUARDED;
	uint64_t dials GUARDED;
	char last_error[LINK_REASON_BYTES] GUARDED;
	struct doorbell bell; /* for fwd-link: it ended, or needs attention */
	struct connection connections[LINK_CONNECTIONS];
};

/* Starts down, with frames held until link_set_hold() says otherwise.
 * Returns 0, or -1 with errno. Nothing below allocates memory. */
int link_init(struct link *link);

/* Only after the last loan was returned and no thread waits in a borrow. */
void link_destroy(struct link *link);

enum link_answer {
	LINK_READY,  /* the loan is yours */
	LINK_WAITED, /* there is no connection, and no more time to wait */
	LINK_ENDED,  /* link_stop() was called */
};

enum link_wait {
	LINK_NO_WAIT,
	LINK_WHILE_HELD, /* as long as the outage is younger than `hold` */
};

/* Borrows the current connection. One uncontended lock while up. */
enum link_answer link_borrow(
    struct link *link, struct loan *loan, enum link_wait wait);

/* For the one thread that reads: waits for the next generation that it has not
 * had, and borrows it. It gets every generation once, in order, even one that
 * has ended: what the peer wrote before the end can still be read. (On macOS,
 * shutdown() discards it.) Returns LINK_READY or LINK_ENDED. */
enum link_answer link_borrow_next(struct link *link, struct loan *loan);

/* Ends the loan. The last holder closes the descriptor. */
void link_return(struct loan *loan);

/* The caller saw `generation` fail: takes the link down at once and wakes
 * every thread that is blocked on the descriptor. A late report about an older
 * generation does nothing; of several about one the first is kept. */
void link_fail(struct link *link, uint64_t generation, const char *reason);

/* Proof of life: a byte came from the peer, or fwd-link saw the generation
 * outlive reconnect.max. Once a generation is enough. */
void link_prove(struct link *link, uint64_t generation);

/* How long frames wait in an outage. Waiting threads notice at once. */
void link_set_hold(struct link *link, int64_t hold_ms);

/* Ends every wait, now and from now on. */
void link_stop(struct link *link);

/* A snapshot. */
struct link_view {
	enum link_state state;
	uint64_t generation; /* the last one made; 0: none yet */
	bool proven;         /* it has shown life, or had before it ended */
	int64_t up_ms;       /* how long it has been up, or was */
	int64_t outage_ms;   /* while down: the age of the outage */
	int64_t
	    last_outage_ms; /* of the last one over; not the wait at start */
	int64_t down_ms;    /* in all, the present outage included */
	uint64_t outages;
	uint64_t dials;
	char last_error[LINK_REASON_BYTES]; /* of a generation or a dial */
};

void link_look(struct link *link, struct link_view *view);

/* For fwd-link alone: a dial begins; it failed. */
void link_dialled(struct link *link);
void link_dial_failed(struct link *link, const char *reason);

/* For fwd-link alone, while down: a connection was made. Takes over the
 * descriptor. Returns the generation, or 0 with the descriptor closed: EPIPE if
 * the link was stopped, EBUSY if LINK_CONNECTIONS are still being read. */
uint64_t link_install(struct link *link, int fd);

#endif
