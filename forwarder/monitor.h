/* Finds silent death: drives the keepalive machine with what the copy threads
 * see, sends its probes, takes their answers out of the stream.
 *
 *      fwd-link   monitor_prepare(), monitor_tend(),    decides and probes
 *                 monitor_ask(), monitor_alive()
 *      fwd-down   monitor_heard(), monitor_consumes()   hears
 *      fwd-up     monitor_from_guest()                 learns
 *      main       monitor_configure(), monitor_report()
 *
 * What is shared is an atomic with one writer, or guarded by the lock. The
 * data path takes the lock only for frames that may teach something: fwd-up
 * once for a batch, and that only while something is unknown or in doubt. */
#ifndef FORWARDER_MONITOR_H
#define FORWARDER_MONITOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "config/config.h"
#include "framing/framing.h"
#include "guest/guest.h"
#include "keepalive/keepalive.h"
#include "keepalive/learn.h"
#include "keepalive/probe.h"
#include "keepalive/tcp.h"
#include "reconnect/link.h"
#include "status/counters.h"
#include "status/status.h"

struct monitor {
	struct mutex lock;
	struct learned learned GUARDED;
	struct probe_target target GUARDED; /* of the outstanding ARP request */
	uint64_t asked GUARDED; /* generation of an open probe, 0: none is */
	int64_t probed_us GUARDED;
	uint64_t sequence GUARDED; /* of the last PING */
	enum keepalive_mode mode GUARDED;
	enum keepalive_mode followed GUARDED; /* what fwd-link goes by */
	bool over_tcp GUARDED;
	int64_t interval_ms GUARDED;
	unsigned count GUARDED;
	struct tcp_settings tcp GUARDED; /* a connection's options */
	int64_t write_stall_ms GUARDED;
	bool changed GUARDED; /* settings, since fwd-link looked */

	atomic_bool wants; /* the guest's frames are looked at */
	_Atomic uint64_t answered_generation;

	counter probes, deaths;    /* fwd-link */
	counter replies, answered; /* fwd-down: to our probes, by our PONGs */
	counter write_stalls;      /* fwd-up */
	counter rtt_us;            /* fwd-down: of the last reply */

	/* fwd-link's own. */
	struct keepalive machine;
	struct link *link;
	struct guest *guest;

	/* fwd-down's, with each recv(). */
	_Alignas(CACHE_LINE_BYTES) atomic_bool reading; /* is inside it */
	_Atomic int64_t last_byte_ms;
	/* fwd-down's own. */
	struct pong_limit pongs;
};

/* The guest is open; it tells the monitor when another takes its place,
 * since what was learned is in doubt then. */
void monitor_init(
    struct monitor *monitor, struct link *link, struct guest *guest);
void monitor_configure(struct monitor *monitor, const struct config *config);
void monitor_report(struct monitor *monitor, struct status *out);

/* A new connection, or new settings for it: the kernel's own watch over it,
 * the limit of a write. A write that is blocked already keeps its own. */
void monitor_prepare(struct monitor *monitor, int fd);

/* Called when due; decides, probes, reports a death to the link. Returns when
 * to be called next, INT64_MAX: when the link's bell rings. */
int64_t monitor_tend(
    struct monitor *monitor, uint64_t generation, int64_t now_ms);

/* Another client wants the place of this generation's peer. True: the peer is
 * a forwarder reached over TCP and keeps its place while it lives; it was sent
 * a PING, if nobody else was writing. False: it needn't be asked. */
bool monitor_ask(struct monitor *monitor, uint64_t generation);

/* Whether a byte came from the peer since then, on this generation or one that
 * ended lately, or waits to be read. */
bool monitor_alive(
    struct monitor *monitor, uint64_t generation, int64_t since_ms);

/* Around each recv(). */
void monitor_reads(struct monitor *monitor);
void monitor_heard(struct monitor *monitor);

/* Frames worth a look, by some compares. */
static inline bool
monitor_may_consume(const struct iovec *parcel)
{
	const uint8_t *frame = parcel_frame(parcel);
	uint32_t length = parcel_length(parcel);

	return probe_is_possible(frame, length) ||
	       learn_is_possible(frame, length);
}

/* True: the frame was between the forwarders, or the gateway's answer to us;
 * the guest doesn't get it. A PING is answered on the loan, if nobody writes. */
bool monitor_consumes(struct monitor *monitor, const struct loan *loan,
    const struct iovec *parcel);

/* A batch of the guest's frames with their headers, whose MAC was learned
 * before. Only while monitor->wants; one lock for all of them. */
void monitor_from_guest(
    struct monitor *monitor, const struct iovec *parcels, size_t count);

#endif
