/* The connection handle that the copy threads share. It knows generations,
 * loans and outages; making connections is the dialler's work.
 * Reports to whoever asks; logs nothing. Every function may be called from
 * any thread unless it says otherwise. */
#ifndef RECONNECT_LINK_H
#define RECONNECT_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "reconnect/doorbell.h"
#include "reconnect/sync.h"

#define LINK_REASON_BYTES 128
#define LINK_PATIENCE_FOREVER (-1)

enum link_state { LINK_DOWN, LINK_UP, LINK_STOPPED };

/* One generation. Its descriptor is closed when the last holder lets go. */
struct connection {
	int fd;
	uint64_t generation;
	atomic_uint holders; /* loans, and the link while this is current */
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
	unsigned outage_dials;  /* dials since the outage began */
	int64_t up_ms;          /* age of the generation, while up */
	int64_t down_ms;        /* in all, a present outage included */
	int64_t outage_ms;      /* from its start to the last connection made */
	int64_t last_outage_ms; /* of the last outage a proven one ended */
	char last_error[LINK_REASON_BYTES];
	struct link_loss loss;
};

struct link {
	struct mutex lock;
	struct condition changed; /* state changed */
	enum link_state state GUARDED;
	struct connection *current GUARDED; /* NULL unless up */
	bool heard GUARDED;                 /* current received a byte */
	unsigned nudges GUARDED;
	int64_t up_since_ms GUARDED;
	int64_t down_since_ms GUARDED;   /* when state last became down */
	int64_t outage_since_ms GUARDED; /* of the outage, flaps included */
	int64_t proof_ms GUARDED;        /* outliving this is proof of life */
	struct link_view view GUARDED;
	struct doorbell bell; /* rings for the dialler at each change */
};

/* Down, the first outage's clock running. Returns 0, or -1 with errno. */
int link_init(struct link *link, int64_t proof_ms);

/* Only after the last loan came home and no thread waits in link_borrow(). */
void link_destroy(struct link *link);

enum link_answer {
	LINK_READY,  /* the loan is yours */
	LINK_WAITED, /* the outage is older than patience_ms */
	LINK_NUDGED, /* link_nudge() was called meanwhile: ask again */
	LINK_ENDED,  /* link_stop() was called */
};

/* Waits for a connection, for as long as the outage is younger than
 * patience_ms (or LINK_PATIENCE_FOREVER). One uncontended lock while up. */
enum link_answer link_borrow(
    struct link *link, struct loan *loan, int64_t patience_ms);

/* The descriptor may not be used any more. The last one closes it. */
void link_return(struct loan *loan);

/* The caller saw `generation` fail: takes the link down at once and wakes
 * whoever is blocked on the descriptor. A late report about an older
 * generation does nothing; of several about one the first is kept. */
void link_fail(struct link *link, uint64_t generation, const char *reason);

/* A byte came from the peer: proof of life. Say it once a generation. */
void link_heard(struct link *link, uint64_t generation);

/* Whoever waits in link_borrow() returns and asks again: patience changed. */
void link_nudge(struct link *link);

/* Every waiter wakes, now and from now on. */
void link_stop(struct link *link);

void link_look(struct link *link, struct link_view *view);

/* For the dialler: a dial was made and failed, with its reason, or NULL while
 * it is still open; a connection was made (takes over the descriptor; closes it
 * if the link was stopped meanwhile); what proves a life from now on. */
void link_dialled(struct link *link);
void link_dial_failed(struct link *link, const char *reason);
void link_install(struct link *link, int fd);
void link_set_proof(struct link *link, int64_t proof_ms);

#endif
