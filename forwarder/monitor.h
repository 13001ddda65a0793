/* Detects a peer that fails without closing the connection. Feeds the keepalive
 * state machine with what the copy threads observe, sends probes when they are
 * due, and removes the answers from the frames for the guest.
 *
 *	fwd-link  monitor_prepare(), monitor_run(),    runs the keepalive
 *	          monitor_ask(), monitor_is_alive()
 *	fwd-down  monitor_reading(), monitor_heard(),  marks recv(), takes answers
 *	          monitor_consumes()
 *	fwd-up    monitor_learn()                      reads addresses
 *	main      monitor_report()
 *
 * Data shared by these threads is guarded by the lock, is an atomic written
 * under the lock, or is an atomic with one writer. The copy threads take the
 * lock when the guest is replaced, and for frames that may carry an address or
 * an answer: fwd-down if monitor_is_notable(), fwd-up once per batch while
 * monitor_wants_guest().
 *
 * A probe or PONG is not sent while another thread writes or the socket has no
 * room. If the kernel takes only part of it, the sender blocks for the rest,
 * for at most write_stall. */
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

/* The probes that have not been answered yet. */
struct open_probe {
	enum probe_kind answer; /* expected; PROBE_NONE: none */
	uint64_t generation;
	struct probe_target target; /* of an ARP request */
	uint64_t first, last;       /* range of unanswered PINGs */
	int64_t sent_us;            /* of the last probe */
};

struct monitor {
	struct mutex lock;
	struct learned learned GUARDED;
	struct open_probe open GUARDED;
	bool by_arp GUARDED; /* ARP probes are configured */

	/* Derived from the fields above; read without the lock. */
	atomic_bool ready;       /* the addresses for ARP probes are known */
	atomic_bool wants_guest; /* learn from the guest's frames */

	_Atomic uint64_t answered_generation; /* of the last reply */

	counter probes, deaths; /* fwd-link */
	counter replies;        /* fwd-down: probes answered by the peer */
	counter answered;       /* fwd-down: PINGs answered with a PONG */
	counter write_stalls;   /* fwd-up */
	counter rtt_us;         /* fwd-down: of the last answered probe */

	/* Used by fwd-link only, except link and guest: */
	struct keepalive machine;
	struct settings *settings;
	struct settings_copy mine;
	bool warned_of_buffer; /* since the last new settings */
	struct link *link;
	struct guest *guest;

	/* Written by fwd-down with each recv(): twice the time of the last byte
	 * in ms, plus 1 while it waits for more. Both are in one atomic so that
	 * they are always read together. */
	_Alignas(CACHE_LINE_BYTES) _Atomic int64_t heard;
	struct pong_limit pongs; /* used by fwd-down only */
};

/* The guest must be open. Registers a callback that marks the learned addresses
 * as uncertain when the guest is replaced. */
void monitor_init(struct monitor *monitor, struct link *link,
    struct guest *guest, struct settings *settings);
void monitor_report(
    struct monitor *monitor, const struct config *config, struct status *out);

/* Sets the TCP options, the send timeout and the send buffer of a new connection,
 * and sends the RARP announcement on it. Call this before link_install(). */
void monitor_prepare(struct monitor *monitor, int fd, bool datagrams);

/* Runs the keepalive for this generation: sends a probe if one is due, and
 * calls link_fail() if the peer does not answer. Also applies new settings to
 * the connection (a write that is already blocked keeps its old timeout).
 * `resumed`: the host has woken up from a suspend since the last call.
 * Returns the latest time for the next call, or INT64_MAX. */
int64_t monitor_run(
    struct monitor *monitor, uint64_t generation, int64_t now_ms, bool resumed);

/* Called when another client has connected while this generation is up. If the
 * peer is a forwarder over TCP (keepalive mode peer), sends it a PING and
 * returns true: it keeps the connection if it answers. The PING is skipped if a
 * probe can't be sent now. Otherwise returns false: the new client replaces the
 * peer at once. */
bool monitor_ask(struct monitor *monitor, uint64_t generation);

/* Returns whether a byte has arrived since since_ms (on any generation), or is
 * waiting to be read on this one. */
bool monitor_is_alive(
    struct monitor *monitor, uint64_t generation, int64_t since_ms);

/* fwd-down calls monitor_reading() before each recv() and monitor_heard() after
 * each recv() that returned data. */
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

/* Returns whether monitor_consumes() has to examine the frame. Called for every
 * frame from the network, so it compares only a few bytes. */
static inline bool
monitor_is_notable(const struct iovec *parcel)
{
	return wire_is_notable(parcel_frame(parcel), parcel_length(parcel));
}

/* Returns true if the frame is a PING, a PONG or the gateway's answer to an ARP
 * probe; it must not be sent to the guest. A PING is answered with a PONG. */
bool monitor_consumes(struct monitor *monitor, const struct loan *loan,
    const struct iovec *parcel);

static inline bool
monitor_wants_guest(const struct monitor *monitor)
{
	return atomic_load_explicit(
	    &monitor->wants_guest, memory_order_relaxed);
}

/* Learns addresses from frames of the guest. Call it after
 * guest_learn_mac(). */
void monitor_learn(
    struct monitor *monitor, const struct iovec *parcels, size_t count);

#endif
