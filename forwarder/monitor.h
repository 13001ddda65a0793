/* Finds a peer that died without a word: drives the keepalive machine with what
 * the copy threads see, sends its probes, takes their answers out of the
 * stream.
 *
 *	fwd-link   monitor_prepare(), monitor_run(),     decides and probes
 *	           monitor_ask(), monitor_is_alive()
 *	fwd-down   monitor_reading(), monitor_heard(),   hears
 *	           monitor_consumes()
 *	fwd-up     monitor_learn()                       learns
 *	main       monitor_report()
 *
 * What they share is guarded by the lock, or an atomic with one writer. The
 * copy threads take the lock only for frames that may teach something: fwd-down
 * for those that monitor_is_notable() lets pass, fwd-up once a batch and only
 * while monitor_wants_guest(). */
#ifndef FORWARDER_MONITOR_H
#define FORWARDER_MONITOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "forwarder/settings.h"
#include "framing/framing.h"
#include "guest/guest.h"
#include "keepalive/keepalive.h"
#include "keepalive/learn.h"
#include "keepalive/probe.h"
#include "reconnect/link.h"
#include "status/counters.h"
#include "status/status.h"

/* Probes that wait for an answer. */
struct open_probe {
	enum probe_kind answer; /* what is waited for; PROBE_NONE: nothing */
	uint64_t generation;
	struct probe_target target; /* of an ARP request */
	uint64_t first, last;       /* PINGs that nothing has answered yet */
	int64_t sent_us;            /* the last one */
};

struct monitor {
	struct mutex lock;
	struct learned learned GUARDED;
	struct open_probe open GUARDED;
	bool by_arp GUARDED; /* the mode is arp as soon as that is possible */

	/* Derived from what is above, for those who don't take the lock: */
	atomic_bool ready;       /* ARP probes can be sent */
	atomic_bool wants_guest; /* the guest's frames may teach something */
	_Atomic uint64_t answered_generation;

	counter probes, deaths;    /* fwd-link */
	counter replies, answered; /* fwd-down: to our probes, by our PONGs */
	counter write_stalls;      /* fwd-up */
	counter rtt_us;            /* fwd-down: of the last reply */

	/* fwd-link's own. */
	struct keepalive machine;
	struct settings *settings;
	struct settings_copy mine;
	struct link *link;
	struct guest *guest;

	/* fwd-down's, written with each recv(): twice the time of the last byte
	 * in ms, plus 1 while it waits for another. One word, so that nobody
	 * can see the one without the other. */
	_Alignas(CACHE_LINE_BYTES) _Atomic int64_t heard;
	/* fwd-down's own. */
	struct pong_limit pongs;
};

/* The guest is open. It calls the monitor when another one replaces it: what was
 * learned is in doubt then. */
void monitor_init(struct monitor *monitor, struct link *link,
    struct guest *guest, struct settings *settings);
void monitor_report(
    struct monitor *monitor, const struct config *config, struct status *out);

/* A new connection, not yet installed: sets its TCP options and the limit of a
 * write, and announces the guest ahead of everything else. */
void monitor_prepare(struct monitor *monitor, int fd);

/* Decides, probes, reports a death to the link, applies a reload to the present
 * connection (a write that is blocked already keeps its limit). Returns when to
 * be called next; INT64_MAX: when the link's bell rings. */
int64_t monitor_run(
    struct monitor *monitor, uint64_t generation, int64_t now_ms);

/* Another client wants the place of this generation's peer. True: the peer is a
 * forwarder reached over TCP and keeps its place while it lives; it was sent a
 * PING, if nobody else was writing. False: it needn't be asked. */
bool monitor_ask(struct monitor *monitor, uint64_t generation);

/* Whether a byte came from the peer since then, on this generation or one that
 * has just ended, or waits to be read. */
bool monitor_is_alive(
    struct monitor *monitor, uint64_t generation, int64_t since_ms);

/* Before and after each recv(). */
static inline void
monitor_reading(struct monitor *monitor)
{
	int64_t heard =
	    atomic_load_explicit(&monitor->heard, memory_order_relaxed);

	atomic_store_explicit(&monitor->heard, heard | 1, memory_order_release);
}

static inline void
monitor_heard(struct monitor *monitor)
{
	atomic_store_explicit(
	    &monitor->heard, clock_now_ms() * 2, memory_order_release);
}

/* Some compares, for every frame from the network. */
static inline bool
monitor_is_notable(const struct iovec *parcel)
{
	return wire_is_notable(parcel_frame(parcel), parcel_length(parcel));
}

/* True: the frame was between the forwarders, or the gateway's answer to us;
 * the guest doesn't get it. A PING is answered on the loan, if nobody writes. */
bool monitor_consumes(struct monitor *monitor, const struct loan *loan,
    const struct iovec *parcel);

static inline bool
monitor_wants_guest(const struct monitor *monitor)
{
	return atomic_load_explicit(
	    &monitor->wants_guest, memory_order_relaxed);
}

/* A batch of the guest's frames, after guest_learn_mac(). */
void monitor_learn(
    struct monitor *monitor, const struct iovec *parcels, size_t count);

#endif
