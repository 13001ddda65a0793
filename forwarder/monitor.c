#include "forwarder/monitor.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/* The moment before a death is pronounced: far longer than a thread is kept
 * waiting on a machine that works, and within the 1 % that a death may be off. */
#define LAST_MOMENT_MS 50
#define LAST_MOMENT_PART 200

static bool
probes_by_arp(const struct monitor *monitor) NEEDS(monitor->lock)
{
	return monitor->mode == KEEPALIVE_ARP ||
	       (monitor->mode == KEEPALIVE_AUTO && monitor->over_tcp);
}

/* Whether the data path has to look at the guest's frames. */
static void
set_wants(struct monitor *monitor) NEEDS(monitor->lock)
{
	atomic_store_explicit(&monitor->wants,
	    probes_by_arp(monitor) && learn_wants(&monitor->learned),
	    memory_order_relaxed);
}

/* What was learned may be wrong; the guest's frames are looked at again. */
static void
doubt(void *context)
{
	struct monitor *monitor = context;

	mutex_lock(&monitor->lock);
	learn_doubt(&monitor->learned);
	set_wants(monitor);
	mutex_unlock(&monitor->lock);
}

void
monitor_init(struct monitor *monitor, struct link *link, struct guest *guest)
{
	*monitor = (struct monitor){ .link = link, .guest = guest };
	guest->on_another = doubt;
	guest->context = monitor;
	mutex_init(&monitor->lock);
	pong_limit_init(&monitor->pongs);
}

/* Another setting starts the search afresh; the same one again keeps what was
 * found: if the peer is dead already, nothing could teach it a second time. Of
 * another network, an unanswered probe tells. NULL: none is configured. */
static void
set_gateway(struct monitor *monitor, const uint8_t *gateway)
    NEEDS(monitor->lock)
{
	struct learned *learned = &monitor->learned;

	if (learned->configured != (gateway != NULL) ||
	    (gateway && memcmp(learned->gateway, gateway, 4) != 0))
		learn_init(learned, gateway);
}

void
monitor_configure(struct monitor *monitor, const struct config *config)
{
	const struct config_gateway *gateway = &config->keepalive.gateway;

	mutex_lock(&monitor->lock);
	monitor->tcp = config->keepalive.tcp;
	monitor->write_stall_ms = config->network.write_stall_ms;
	monitor->over_tcp = config->network.endpoint.kind == ENDPOINT_TCP;
	monitor->mode = config->keepalive.mode;
	monitor->interval_ms = config->keepalive.interval_ms;
	monitor->count = config->keepalive.count;
	monitor->changed = true;
	set_gateway(monitor, gateway->given ? gateway->address : NULL);
	set_wants(monitor);
	mutex_unlock(&monitor->lock);
	doorbell_ring(&monitor->link->bell);
}

/* What is really done at the moment: `auto` and `arp` are passive until there
 * is somebody to ask in somebody's name. */
static enum keepalive_mode
mode_now(const struct monitor *monitor) NEEDS(monitor->lock)
{
	uint8_t mac[6];

	if (!probes_by_arp(monitor))
		return monitor->mode == KEEPALIVE_AUTO ? KEEPALIVE_PASSIVE
						       : monitor->mode;
	return monitor->learned.gateway_known &&
		       guest_get_mac(monitor->guest, mac)
		   ? KEEPALIVE_ARP
		   : KEEPALIVE_PASSIVE;
}

void
monitor_report(struct monitor *monitor, struct status *out)
{
	static const char *const names[] = {
		[KEEPALIVE_OFF] = "off",
		[KEEPALIVE_PASSIVE] = "passive",
		[KEEPALIVE_ARP] = "arp",
		[KEEPALIVE_PEER] = "peer",
	};
	struct link_view view;
	int64_t last_ms = atomic_load(&monitor->last_byte_ms);
	enum keepalive_mode mode;

	link_look(monitor->link, &view);
	mutex_lock(&monitor->lock);
	mode = mode_now(monitor);
	mutex_unlock(&monitor->lock);
	snprintf(out->keepalive.mode, sizeof(out->keepalive.mode), "%s",
	    names[mode]);
	if (view.state == LINK_UP) {
		int64_t idle_ms = clock_now_ms() - last_ms;

		out->keepalive.armed =
		    atomic_load(&monitor->answered_generation) ==
		    view.generation;
		if (idle_ms > view.up_ms)
			idle_ms = view.up_ms;
		out->keepalive.idle_ms = idle_ms > 0 ? (uint64_t)idle_ms : 0;
	}
	out->keepalive.probes = counter_read(&monitor->probes);
	out->keepalive.replies = counter_read(&monitor->replies);
	out->keepalive.answered = counter_read(&monitor->answered);
	out->keepalive.deaths = counter_read(&monitor->deaths);
	out->keepalive.write_stalls = counter_read(&monitor->write_stalls);
	out->keepalive.rtt_us = counter_read(&monitor->rtt_us);
}

void
monitor_prepare(struct monitor *monitor, int fd)
{
	struct tcp_settings tcp;
	struct timeval wait;
	int64_t wait_us;
	bool over_tcp;

	mutex_lock(&monitor->lock);
	tcp = monitor->tcp;
	/* stream_write() tolerates one that expired: a call that took a part can't
	 * tell how long it waited for the rest. */
	wait_us = monitor->write_stall_ms * 1000 / 2;
	if (monitor->mode == KEEPALIVE_OFF)
		tcp.idle_s = 0; /* as the system has it */
	over_tcp = monitor->over_tcp;
	mutex_unlock(&monitor->lock);
	/* Zero is the kernel's "never", as in the configuration. */
	wait.tv_sec = wait_us / 1000000;
	wait.tv_usec = wait_us % 1000000;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (over_tcp && tcp_keepalive_set(fd, &tcp) < 0)
		log_line(LOG_LEVEL_WARN, LOG_KEEPALIVE,
		    "the system refused a TCP option error=\"%s\"",
		    strerror(errno));
}

/* Sends a whole frame if nobody else is writing and there is room. */
static bool
send_between(const struct loan *loan, const uint8_t *frame)
{
	uint8_t message[FRAME_HEADER_BYTES + PROBE_BYTES];
	ssize_t sent;

	if (!mutex_try(&loan->connection->writing))
		return false;
	frame_put_header(message, PROBE_BYTES);
	memcpy(message + FRAME_HEADER_BYTES, frame, PROBE_BYTES);
	sent = send(
	    loan->fd, message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
	/* A part went: the rest has to follow before anything else may. Only
	 * then this can wait, for as long as any write. */
	if (sent > 0 && sent < (ssize_t)sizeof(message) &&
	    send(loan->fd, message + sent, sizeof(message) - (size_t)sent,
		MSG_NOSIGNAL) != (ssize_t)sizeof(message) - sent)
		shutdown(loan->fd, SHUT_RDWR);
	mutex_unlock(&loan->connection->writing);
	return sent > 0;
}

/* Composes the probe and expects its answer. False: there is none to send. */
static bool
compose(
    struct monitor *monitor, uint64_t generation, uint8_t frame[PROBE_BYTES])
{
	uint8_t mac[6];
	bool known = guest_get_mac(monitor->guest, mac);
	enum keepalive_mode mode;

	mutex_lock(&monitor->lock);
	mode = mode_now(monitor);
	if (mode == KEEPALIVE_ARP && known) {
		memcpy(monitor->target.guest, mac, sizeof(mac));
		memcpy(monitor->target.gateway, monitor->learned.gateway, 4);
		probe_arp_request(frame, mac, monitor->learned.gateway,
		    learn_gateway_mac(&monitor->learned));
	} else if (mode == KEEPALIVE_PEER) {
		probe_ping(frame, known ? mac : NULL, ++monitor->sequence);
	} else {
		mode = KEEPALIVE_OFF;
	}
	monitor->asked = mode != KEEPALIVE_OFF ? generation : 0;
	monitor->probed_us = clock_now_us();
	mutex_unlock(&monitor->lock);
	return mode != KEEPALIVE_OFF;
}

static void
probe(struct monitor *monitor, const struct loan *loan, int64_t now_ms)
{
	uint8_t frame[PROBE_BYTES];

	if (!compose(monitor, loan->generation, frame))
		return;
	/* The gateway may have moved since it answered last. */
	if (monitor->machine.unanswered > 0)
		doubt(monitor);
	if (send_between(loan, frame)) {
		keepalive_sent(&monitor->machine, now_ms);
		counter_add(&monitor->probes, 1);
	}
}

static void
bury(struct monitor *monitor, uint64_t generation)
{
	const struct keepalive *machine = &monitor->machine;
	int64_t after_ms = machine->interval_ms * (machine->count + 1);
	char reason[LINK_REASON_BYTES], after[TEXT_DURATION_BYTES];

	if (after_ms % 1000 == 0)
		snprintf(after, sizeof(after), "%lld seconds",
		    (long long)(after_ms / 1000));
	else
		text_duration(after, after_ms);
	snprintf(reason, sizeof(reason), "no response after %u probes in %s",
	    machine->count, after);
	log_line(LOG_LEVEL_INFO, LOG_KEEPALIVE, "%s", reason);
	counter_add(&monitor->deaths, 1);
	link_fail(monitor->link, generation, reason);
}

/* Nothing is readable, and fwd-down waits for something to read. */
static bool
reader_waits(struct monitor *monitor, int fd)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	return atomic_load(&monitor->reading) && poll(&readable, 1, 0) == 0;
}

/* One more moment before the verdict: fwd-down may have been preempted between
 * recv() and monitor_heard(). */
static bool
stays_silent(struct monitor *monitor, int fd, int64_t last_byte_ms)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	int64_t limit_ms =
	    monitor->machine.interval_ms * (monitor->machine.count + 1);
	int64_t moment_ms = limit_ms / LAST_MOMENT_PART;

	if (moment_ms > LAST_MOMENT_MS)
		moment_ms = LAST_MOMENT_MS;
	return poll(&readable, 1, (int)moment_ms) == 0 &&
	       atomic_load(&monitor->last_byte_ms) == last_byte_ms;
}

static void
act(struct monitor *monitor, const struct loan *loan, int64_t now_ms)
{
	struct keepalive_seen seen;

	/* The order matters: see keepalive.h. */
	seen.reader_waiting = reader_waits(monitor, loan->fd);
	seen.answered_generation = atomic_load(&monitor->answered_generation);
	seen.last_byte_ms = atomic_load(&monitor->last_byte_ms);
	switch (keepalive_check(&monitor->machine, now_ms, &seen)) {
	case KEEPALIVE_WAIT:
		break;
	case KEEPALIVE_NO_ANSWER:
		log_line(LOG_LEVEL_INFO, LOG_KEEPALIVE,
		    "the peer has answered no probe so far; its silence means "
		    "nothing, one probe a minute goes on");
		break;
	case KEEPALIVE_PROBE:
		probe(monitor, loan, now_ms);
		break;
	case KEEPALIVE_DEATH:
		if (stays_silent(monitor, loan->fd, seen.last_byte_ms))
			bury(monitor, loan->generation);
		else
			keepalive_start(
			    &monitor->machine, loan->generation, now_ms);
		break;
	}
}

/* True once after the settings changed. The connection was made with the
 * old ones, so it is prepared again. */
static bool
take_change(struct monitor *monitor, uint64_t generation)
{
	struct loan loan;
	bool changed;

	mutex_lock(&monitor->lock);
	changed = monitor->changed;
	monitor->changed = false;
	mutex_unlock(&monitor->lock);
	if (changed &&
	    link_borrow(monitor->link, &loan, LINK_NO_WAIT) == LINK_READY) {
		if (loan.generation == generation)
			monitor_prepare(monitor, loan.fd);
		link_return(&loan);
	}
	return changed;
}

/* Fits the machine to the mode and the generation; false: nothing to watch. */
static bool
follow(
    struct monitor *monitor, uint64_t generation, int64_t now_ms, bool changed)
{
	enum keepalive_mode mode;
	int64_t interval_ms;
	unsigned count;

	mutex_lock(&monitor->lock);
	mode = monitor->followed = mode_now(monitor);
	interval_ms = monitor->interval_ms;
	count = monitor->count;
	mutex_unlock(&monitor->lock);
	if (changed)
		keepalive_init(&monitor->machine, interval_ms, count);
	if (mode != KEEPALIVE_ARP && mode != KEEPALIVE_PEER) {
		keepalive_stop(&monitor->machine);
		return false;
	}
	if (changed || monitor->machine.generation != generation ||
	    keepalive_due(&monitor->machine) == KEEPALIVE_NEVER)
		keepalive_start(&monitor->machine, generation, now_ms);
	return true;
}

int64_t
monitor_tend(struct monitor *monitor, uint64_t generation, int64_t now_ms)
{
	bool changed = take_change(monitor, generation);
	struct loan loan;

	if (!follow(monitor, generation, now_ms, changed))
		return KEEPALIVE_NEVER;
	if (keepalive_due(&monitor->machine) <= now_ms &&
	    link_borrow(monitor->link, &loan, LINK_NO_WAIT) == LINK_READY) {
		if (loan.generation == generation)
			act(monitor, &loan, now_ms);
		link_return(&loan);
	}
	return keepalive_due(&monitor->machine);
}

bool
monitor_ask(struct monitor *monitor, uint64_t generation)
{
	uint8_t frame[PROBE_BYTES];
	struct loan loan;
	bool asks;

	mutex_lock(&monitor->lock);
	asks = monitor->mode == KEEPALIVE_PEER && monitor->over_tcp;
	mutex_unlock(&monitor->lock);
	if (!asks ||
	    link_borrow(monitor->link, &loan, LINK_NO_WAIT) != LINK_READY)
		return asks;
	if (loan.generation == generation &&
	    compose(monitor, generation, frame) && send_between(&loan, frame))
		counter_add(&monitor->probes, 1);
	link_return(&loan);
	return true;
}

bool
monitor_alive(struct monitor *monitor, uint64_t generation, int64_t since_ms)
{
	struct loan loan;
	bool alive = false;
	char byte;

	if (atomic_load(&monitor->last_byte_ms) >= since_ms)
		return true;
	if (link_borrow(monitor->link, &loan, LINK_NO_WAIT) != LINK_READY)
		return false;
	if (loan.generation == generation)
		alive = recv(loan.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
	link_return(&loan);
	return alive;
}

void
monitor_reads(struct monitor *monitor)
{
	atomic_store_explicit(&monitor->reading, true, memory_order_release);
}

void
monitor_heard(struct monitor *monitor)
{
	/* Before the bytes are looked at, and before `reading` says otherwise. */
	atomic_store_explicit(
	    &monitor->last_byte_ms, clock_now_ms(), memory_order_release);
	atomic_store_explicit(&monitor->reading, false, memory_order_release);
}

/* Of one of the last PINGs: an answer may take longer than an interval. */
static bool
is_ours(const struct monitor *monitor, uint64_t sequence) NEEDS(monitor->lock)
{
	return sequence > 0 && monitor->sequence - sequence < monitor->count;
}

/* An answer to our probe came; the time it took is known only of the last. */
static void
count_reply(struct monitor *monitor, uint64_t generation, uint64_t sequence)
    NEEDS(monitor->lock)
{
	counter_add(&monitor->replies, 1);
	if (sequence == monitor->sequence)
		atomic_store_explicit(&monitor->rtt_us,
		    (uint64_t)(clock_now_us() - monitor->probed_us),
		    memory_order_relaxed);
	monitor->asked = 0;
	atomic_store_explicit(
	    &monitor->answered_generation, generation, memory_order_release);
}

static void
answer_ping(struct monitor *monitor, const struct loan *loan, uint64_t sequence)
{
	uint8_t frame[PROBE_BYTES], mac[6];
	bool known = guest_get_mac(monitor->guest, mac);

	if (!pong_limit_allows(&monitor->pongs, clock_now_ms()))
		return;
	probe_pong(frame, known ? mac : NULL, sequence);
	if (send_between(loan, frame))
		counter_add(&monitor->answered, 1);
}

/* Whether fwd-link has to look again: what was learned is enough to begin, or
 * what it went by has gone. A guest of many MACs or neighbours teaches something
 * with every frame; that alone wakes nobody. */
static bool
is_news(const struct monitor *monitor) NEEDS(monitor->lock)
{
	return mode_now(monitor) != monitor->followed;
}

bool
monitor_consumes(struct monitor *monitor, const struct loan *loan,
    const struct iovec *parcel)
{
	const uint8_t *frame = parcel_frame(parcel);
	uint32_t length = parcel_length(parcel);
	uint64_t sequence;
	enum probe_kind kind;
	bool learned, asked, news;

	mutex_lock(&monitor->lock);
	asked = monitor->asked == loan->generation;
	sequence = monitor->sequence; /* ARP carries none: of the last probe */
	learned = learn_from_network(&monitor->learned, frame, length);
	kind = probe_recognise(frame, length,
	    asked && probes_by_arp(monitor) ? &monitor->target : NULL,
	    &sequence);
	if (kind == PROBE_ARP_ANSWER ||
	    (kind == PROBE_PONG && asked && is_ours(monitor, sequence)))
		count_reply(monitor, loan->generation, sequence);
	set_wants(monitor);
	news = learned && is_news(monitor);
	mutex_unlock(&monitor->lock);
	if (news)
		doorbell_ring(&monitor->link->bell);
	if (kind == PROBE_PING)
		answer_ping(monitor, loan, sequence);
	return kind != PROBE_NONE;
}

void
monitor_from_guest(
    struct monitor *monitor, const struct iovec *parcels, size_t count)
{
	bool learned = false;

	mutex_lock(&monitor->lock);
	for (size_t i = 0; i < count; i++)
		learned |= learn_from_guest(&monitor->learned,
		    parcel_frame(&parcels[i]), parcel_length(&parcels[i]));
	set_wants(monitor);
	learned = learned && is_news(monitor);
	mutex_unlock(&monitor->lock);
	if (learned)
		doorbell_ring(&monitor->link->bell);
}
