/* The connection handle that the copy threads share. It knows generations,
 * loans and outages; making connections is the dialler's work.
 * Reports to whoever asks; logs nothing. Every function may be called from
 * any thread unless it says otherwise. */
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

/* One generation. Its descriptor is closed when the last holder lets go: the
 * link while this is current, the reader until it has borrowed it, each loan. */
struct connection {
	int fd;
	uint64_t generation;
	atomic_uint holders;
	atomic_bool open; /* false: the next generation may have this place */
	/* The writer's token. fwd-up waits for it, and may block in a write
	 * while it holds it; whoever else has a frame to send only tries. Not
	 * part of the lock order: nothing else is locked under it. */
	struct mutex writing;
};

/* The right to use a connection's descriptor until link_return(). */
struct loan {
	int fd;
	uint64_t generation;
	struct connection *connection;
};

/* What became of the last generation that ended. */
struct link_loss {
	uint64_t generation;
	int64_t up_ms; /* how long it lasted */
	bool proven;   /* it was an outage's beginning, not a failed dial */
	char reason[LINK_REASON_BYTES];
};

/* A moment's view, for the dialler and for status. */
struct link_view {
	enum link_state state;
	uint64_t generation;
	bool proven;
	uint64_t outages;
	uint64_t dials;
	unsigned outage_dials; /* dials since the outage began */
	int64_t up_ms;         /* age of the generation, while up */
	int64_t down_ms;       /* in all, a present outage included */
	int64_t outage_ms;     /* from its start to the last connection made */
	int64_t outage_age_ms; /* while down: from its start until now */
	int64_t
	    last_outage_ms; /* of the last outage, not of the wait at start */
	char last_error[LINK_REASON_BYTES];
	struct link_loss loss;
};

struct link {
	struct mutex lock;
	struct condition changed; /* state changed */
	enum link_state state GUARDED;
	struct connection *current GUARDED; /* NULL unless up */
	bool heard GUARDED;                 /* current received a byte */
	uint64_t borrowed GUARDED;          /* the last one the reader took */
	int64_t hold_ms GUARDED;            /* or LINK_HOLD_FOREVER */
	int64_t up_since_ms GUARDED;
	int64_t down_since_ms GUARDED;   /* when state last became down */
	int64_t outage_since_ms GUARDED; /* of the outage, flaps included */
	int64_t proof_ms GUARDED;        /* outliving this is proof of life */
	struct link_view view GUARDED;
	struct doorbell
	    bell; /* rings while up: it ended, or has to be tended */
	struct connection connections[LINK_CONNECTIONS];
};

/* Down, the first outage's clock running; frames are held for ever until
 * link_set_hold(). Returns 0, or -1 with errno. Nothing below allocates. */
int link_init(struct link *link, int64_t proof_ms);

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

/* For the one thread that reads: waits for the next generation it has not had
 * yet, and borrows that. Each is lent once, in order, even one that has ended
 * already: what its peer wrote before the end can still be read. (macOS throws
 * it away in shutdown().) LINK_READY or LINK_ENDED. */
enum link_answer link_borrow_next(struct link *link, struct loan *loan);

/* The descriptor may not be used any more. The last holder closes it. */
void link_return(struct loan *loan);

/* The caller saw `generation` fail: takes the link down at once and wakes
 * whoever is blocked on the descriptor. A late report about an older
 * generation does nothing; of several about one the first is kept. */
void link_fail(struct link *link, uint64_t generation, const char *reason);

/* A byte came from the peer: proof of life. Say it once a generation. */
void link_heard(struct link *link, uint64_t generation);

/* How long frames wait in an outage; holds at once, for those who wait too. */
void link_set_hold(struct link *link, int64_t hold_ms);

/* Every waiter wakes, now and from now on. */
void link_stop(struct link *link);

void link_look(struct link *link, struct link_view *view);

/* For the dialler: a dial was begun; it failed, with its reason; how old a
 * generation has to be from now on to have proven its life. */
void link_dialled(struct link *link);
void link_dial_failed(struct link *link, const char *reason);
void link_set_proof(struct link *link, int64_t proof_ms);

/* For the dialler: a connection was made. Takes over the descriptor. Returns
 * the generation, or 0 with the descriptor closed: EPIPE, the link was stopped;
 * EBUSY, LINK_CONNECTIONS are still being read. */
uint64_t link_install(struct link *link, int fd);

#endif
