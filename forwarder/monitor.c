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
#include "forwarder/wire.h"

/* The last wait for a byte before the peer is declared dead: longer than
 * fwd-down is preempted on a machine that isn't overloaded, but at most 0.5 %
 * of the detection time. */
#define LAST_MOMENT_MS 50
#define LAST_MOMENT_PART 200

static bool
is_over_tcp(const struct config *config)
{
	return config->network.endpoint.kind == ENDPOINT_TCP;
}

/* Returns the mode in effect: passive instead of arp until the addresses of
 * guest and gateway are known. */
static enum keepalive_mode
mode_now(const struct monitor *monitor, const struct config *config)
{
	enum keepalive_mode mode = config_keepalive(config);

	return mode == KEEPALIVE_ARP && !atomic_load(&monitor->ready)
		   ? KEEPALIVE_PASSIVE
		   : mode;
}

/* Returns the guest's MAC address in mac, or NULL if it is not known yet. */
static const uint8_t *
guest_mac(const struct monitor *monitor, uint8_t mac[6])
{
	return guest_get_mac(monitor->guest, mac) ? mac : NULL;
}

/* Recomputes `ready` and `wants_guest` after a change of the learned addresses.
 * Wakes fwd-link when ARP probes become possible. */
static void
update(struct monitor *monitor) NEEDS(monitor->lock)
{
	const struct learned *learned = &monitor->learned;
	uint8_t mac[6];
	bool ready = monitor->by_arp && learned->state != LEARN_NOTHING &&
		     guest_mac(monitor, mac) != NULL;

	atomic_store_explicit(&monitor->wants_guest,
	    monitor->by_arp && (!ready || learned->state != LEARN_ALL),
	    memory_order_relaxed);
	if (!atomic_exchange(&monitor->ready, ready) && ready)
		doorbell_ring(&monitor->link->bell);
}

/* Called when the guest has been replaced: marks the learned addresses as
 * uncertain. */
static void
distrust_learned(void *context)
{
	struct monitor *monitor = context;

	mutex_lock(&monitor->lock);
	learn_doubt(&monitor->learned);
	update(monitor);
	mutex_unlock(&monitor->lock);
}

/* Takes new settings, if any. Returns whether there were any. */
static bool
refresh(struct monitor *monitor)
{
	const struct config *config = &monitor->mine.config;

	if (!settings_refresh(monitor->settings, &monitor->mine))
		return false;
	monitor->warned_of_buffer = false;
	keepalive_init(&monitor->machine, config->keepalive.interval_ms,
	    config->keepalive.count);
	mutex_lock(&monitor->lock);
	monitor->by_arp = config_keepalive(config) == KEEPALIVE_ARP;
	learn_configure(&monitor->learned,
	    config->keepalive.gateway.given ? config->keepalive.gateway.address
					    : NULL);
	update(monitor);
	mutex_unlock(&monitor->lock);
	return true;
}

void
monitor_init(struct monitor *monitor, struct link *link, struct guest *guest,
    struct settings *settings)
{
	*monitor = (struct monitor){
		.link = link, .guest = guest, .settings = settings
	};
	guest->on_replaced = distrust_learned;
	guest->context = monitor;
	mutex_init(&monitor->lock);
	refresh(monitor);
}

static int64_t
last_byte_ms(const struct monitor *monitor)
{
	return atomic_load(&monitor->heard) / 2;
}

void
monitor_report(
    struct monitor *monitor, const struct config *config, struct status *out)
{
	static const char *const modes[] = { "off", "passive", "arp", "peer" };
	int64_t idle_ms = clock_now_ms() - last_byte_ms(monitor);
	struct link_view view;

	link_look(monitor->link, &view);
	snprintf(out->keepalive.mode, sizeof(out->keepalive.mode), "%s",
	    modes[mode_now(monitor, config)]);
	if (view.state == LINK_UP) {
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

/* Warns once per configuration if the buffer is smaller than configured. Linux
 * doubles the size, and silently limits it; macOS refuses a size over its
 * limit. Over TCP Linux would stop adapting the buffer to the path. */
static void
set_send_buffer(struct monitor *monitor, int fd)
{
	const struct config *config = &monitor->mine.config;
	int wanted = (int)config->network.send_buffer, got = 0;
	socklen_t length = sizeof(got);

	if (wanted == 0 || is_over_tcp(config))
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof(wanted));
	getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &got, &length);
	if (got >= wanted || monitor->warned_of_buffer)
		return;
	monitor->warned_of_buffer = true;
	log_line(LOG_LEVEL_WARN, LOG_LINK,
	    "the system limits the send buffer wanted=%d got=%d "
	    "hint=\"lower network.send_buffer, or raise net.core.wmem_max "
	    "(macOS: kern.ipc.maxsockbuf)\"",
	    wanted, got);
}

static void
set_options(struct monitor *monitor, int fd)
{
	const struct config *config = &monitor->mine.config;
	struct tcp_settings tcp = config->keepalive.tcp;
	/* stream_write() fails after two timeouts in a row, hence half of
	 * write_stall. One timeout is not enough: a sendmsg() that sent part of
	 * its data does not report how long it waited. */
	int64_t wait_us = config->network.write_stall_ms * 1000 / 2;
	/* 0 means no timeout, for the kernel and in the configuration. */
	struct timeval wait = { .tv_sec = wait_us / 1000000,
		.tv_usec = wait_us % 1000000 };

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	set_send_buffer(monitor, fd);
	if (config->keepalive.mode == KEEPALIVE_OFF)
		tcp.idle_s = 0;
	if (is_over_tcp(config) && tcp_keepalive_set(fd, &tcp) < 0)
		log_line(LOG_LEVEL_WARN, LOG_KEEPALIVE,
		    "can't set the TCP keepalive options error=\"%s\"",
		    strerror(errno));
}

/* Sends a probe if no other thread is writing. */
static bool
send_probe(
    struct monitor *monitor, const struct loan *loan, const uint8_t *frame)
{
	int sent;

	if (!mutex_try(&loan->connection->writing))
		return false;
	sent = wire_of(loan->datagrams)->send(loan->fd, frame, WIRE_REST_WAITS);
	mutex_unlock(&loan->connection->writing);
	if (sent < 0)
		link_fail(monitor->link, loan->generation, LINK_PEER_CLOSED);
	return sent > 0;
}

void
monitor_prepare(struct monitor *monitor, int fd, bool datagrams)
{
	uint8_t frame[PROBE_BYTES], mac[6];

	refresh(monitor);
	set_options(monitor, fd);
	if (monitor->mine.config.network.announce &&
	    guest_get_mac(monitor->guest, mac)) {
		probe_announcement(frame, mac);
		wire_of(datagrams)->send(fd, frame, WIRE_REST_FAILS);
	}
}

/* Returns the kind of answer expected on this generation, or PROBE_NONE. */
static enum probe_kind
awaited(const struct open_probe *open, uint64_t generation)
{
	return open->generation == generation ? open->answer : PROBE_NONE;
}

static void
compose_ping(struct open_probe *open, uint64_t generation, const uint8_t *guest,
    uint8_t frame[PROBE_BYTES])
{
	if (awaited(open, generation) != PROBE_PONG)
		open->first = open->last + 1;
	open->last++;
	open->answer = PROBE_PONG;
	probe_between_forwarders(frame, PROBE_PING, guest, open->last);
}

static void
compose_arp(struct open_probe *open, const struct learned *learned,
    const uint8_t *guest, uint8_t frame[PROBE_BYTES])
{
	memcpy(open->target.guest, guest, MAC_BYTES);
	memcpy(open->target.gateway, learned->gateway, IPV4_BYTES);
	open->answer = PROBE_ARP_ANSWER;
	probe_arp_request(
	    frame, guest, learned->gateway, learn_gateway_mac(learned));
}

/* Sends a probe. In mode arp the guest's MAC must be known. Returns false if it
 * could not be sent. */
static bool
probe(
    struct monitor *monitor, enum keepalive_mode mode, const struct loan *loan)
{
	struct open_probe *open = &monitor->open;
	uint8_t frame[PROBE_BYTES], mac[6];
	const uint8_t *guest = guest_mac(monitor, mac);

	mutex_lock(&monitor->lock);
	if (mode == KEEPALIVE_PEER)
		compose_ping(open, loan->generation, guest, frame);
	else
		compose_arp(open, &monitor->learned, guest, frame);
	open->generation = loan->generation;
	open->sent_us = clock_now_us();
	mutex_unlock(&monitor->lock);
	if (!send_probe(monitor, loan, frame))
		return false;
	counter_add(&monitor->probes, 1);
	return true;
}

/* Logs that the peer is dead and ends the generation. */
static void
end_generation(struct monitor *monitor, uint64_t generation,
    enum keepalive_verdict verdict)
{
	const struct keepalive *machine = &monitor->machine;
	char reason[LINK_REASON_BYTES], after[TEXT_DURATION_BYTES];

	if (verdict == KEEPALIVE_NOT_BACK)
		snprintf(reason, sizeof(reason),
		    "no response within a second of a suspend");
	else
		snprintf(reason, sizeof(reason),
		    "no response after %u probes in %s", machine->count,
		    text_duration(after, keepalive_limit_ms(machine)));
	log_line(LOG_LEVEL_INFO, LOG_KEEPALIVE, "%s", reason);
	counter_add(&monitor->deaths, 1);
	link_fail(monitor->link, generation, reason);
}

static bool
is_silent(int fd, int64_t wait_ms)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	return poll(&readable, 1, (int)wait_ms) == 0;
}

/* Waits a moment and returns whether still nothing has arrived, in case
 * fwd-down was preempted between recv() and monitor_heard(). */
static bool
stays_silent(const struct monitor *monitor, int fd, int64_t since_ms)
{
	int64_t moment_ms =
	    keepalive_limit_ms(&monitor->machine) / LAST_MOMENT_PART;

	return is_silent(fd,
		   moment_ms < LAST_MOMENT_MS ? moment_ms : LAST_MOMENT_MS) &&
	       last_byte_ms(monitor) == since_ms;
}

static void
run_check(struct monitor *monitor, const struct loan *loan, int64_t now_ms,
    bool resumed)
{
	struct keepalive *machine = &monitor->machine;
	struct keepalive_seen seen = { .resumed = resumed };
	enum keepalive_verdict verdict;
	int64_t heard;

	/* Read in this order: answered_generation before the time of the last
	 * byte (keepalive.h), and poll() before `heard`, so that data read by
	 * fwd-down just before poll() is not taken for silence. */
	seen.answered_generation = atomic_load(&monitor->answered_generation);
	seen.reader_waiting = is_silent(loan->fd, 0);
	heard = atomic_load(&monitor->heard);
	seen.reader_waiting = seen.reader_waiting && (heard & 1);
	seen.last_byte_ms = heard / 2;
	verdict = keepalive_check(machine, now_ms, &seen);
	switch (verdict) {
	case KEEPALIVE_WAIT:
		break;
	case KEEPALIVE_NO_ANSWER:
		log_line(LOG_LEVEL_INFO, LOG_KEEPALIVE,
		    "the peer has answered no probe, so silence does not "
		    "end the connection; probing once a minute");
		break;
	case KEEPALIVE_PROBE:
		/* The gateway's MAC may have changed since the last answer. */
		if (machine->unanswered > 0 || resumed)
			distrust_learned(monitor);
		if (probe(monitor, mode_now(monitor, &monitor->mine.config),
			loan))
			keepalive_sent(machine, now_ms);
		break;
	case KEEPALIVE_DEATH:
	case KEEPALIVE_NOT_BACK:
		if (stays_silent(monitor, loan->fd, seen.last_byte_ms))
			end_generation(monitor, loan->generation, verdict);
		else
			keepalive_start(machine, loan->generation, now_ms);
		break;
	}
}

/* Starts or stops the keepalive according to the mode and the generation. */
static void
start_or_stop(struct monitor *monitor, uint64_t generation, int64_t now_ms)
{
	struct keepalive *machine = &monitor->machine;
	enum keepalive_mode mode = mode_now(monitor, &monitor->mine.config);

	if (mode != KEEPALIVE_ARP && mode != KEEPALIVE_PEER)
		keepalive_stop(machine);
	else if (machine->state == KEEPALIVE_IDLE ||
		 machine->generation != generation)
		keepalive_start(machine, generation, now_ms);
}

/* Borrows this generation. Returns false if it has ended. */
static bool
borrow(struct monitor *monitor, uint64_t generation, struct loan *loan)
{
	if (link_borrow(monitor->link, loan, LINK_NO_WAIT) != LINK_READY)
		return false;
	if (loan->generation == generation)
		return true;
	link_return(loan);
	return false;
}

int64_t
monitor_run(
    struct monitor *monitor, uint64_t generation, int64_t now_ms, bool resumed)
{
	bool changed = refresh(monitor), due;
	struct loan loan;

	start_or_stop(monitor, generation, now_ms);
	due = resumed || keepalive_due(&monitor->machine) <= now_ms;
	if ((changed || due) && borrow(monitor, generation, &loan)) {
		if (changed)
			set_options(monitor, loan.fd);
		if (due)
			run_check(monitor, &loan, now_ms, resumed);
		link_return(&loan);
	}
	return keepalive_due(&monitor->machine);
}

bool
monitor_ask(struct monitor *monitor, uint64_t generation)
{
	const struct config *config = &monitor->mine.config;
	struct loan loan;

	if (config->keepalive.mode != KEEPALIVE_PEER || !is_over_tcp(config))
		return false;
	if (borrow(monitor, generation, &loan)) {
		probe(monitor, KEEPALIVE_PEER, &loan);
		link_return(&loan);
	}
	return true;
}

bool
monitor_is_alive(struct monitor *monitor, uint64_t generation, int64_t since_ms)
{
	struct loan loan;
	bool alive;
	char byte;

	if (last_byte_ms(monitor) >= since_ms)
		return true;
	if (!borrow(monitor, generation, &loan))
		return false;
	alive = recv(loan.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
	link_return(&loan);
	return alive;
}

/* Returns whether the frame answers a pending probe (for PINGs, any since
 * `first`). */
static bool
is_reply(const struct open_probe *open, enum probe_kind kind, uint64_t sequence)
{
	return kind == PROBE_ARP_ANSWER ||
	       (kind == PROBE_PONG &&
		   sequence - open->first <= open->last - open->first);
}

/* Of a PONG, the round-trip time is known only if it answers the last PING. */
static void
count_reply(struct monitor *monitor, uint64_t sequence) NEEDS(monitor->lock)
{
	struct open_probe *open = &monitor->open;

	counter_add(&monitor->replies, 1);
	if (open->answer != PROBE_PONG || sequence == open->last)
		atomic_store_explicit(&monitor->rtt_us,
		    (uint64_t)(clock_now_us() - open->sent_us),
		    memory_order_relaxed);
	atomic_store_explicit(&monitor->answered_generation, open->generation,
	    memory_order_release);
	open->answer = PROBE_NONE;
}

static void
answer_ping(struct monitor *monitor, const struct loan *loan,
    const uint8_t *guest, uint64_t sequence)
{
	uint8_t frame[PROBE_BYTES];

	if (!pong_limit_allows(&monitor->pongs, clock_now_ms()))
		return;
	probe_between_forwarders(frame, PROBE_PONG, guest, sequence);
	if (send_probe(monitor, loan, frame))
		counter_add(&monitor->answered, 1);
}

bool
monitor_consumes(struct monitor *monitor, const struct loan *loan,
    const struct iovec *parcel)
{
	const uint8_t *frame = parcel_frame(parcel);
	uint32_t length = parcel_length(parcel);
	struct open_probe *open = &monitor->open;
	enum probe_kind answer, kind;
	uint64_t sequence;
	uint8_t mac[6];
	const uint8_t *guest = guest_mac(monitor, mac);

	mutex_lock(&monitor->lock);
	learn_from_network(&monitor->learned, guest, frame, length);
	answer = awaited(open, loan->generation);
	kind = probe_recognise(frame, length,
	    answer == PROBE_ARP_ANSWER ? &open->target : NULL, &sequence);
	if (kind == answer && is_reply(open, kind, sequence))
		count_reply(monitor, sequence);
	update(monitor);
	mutex_unlock(&monitor->lock);
	if (kind == PROBE_PING)
		answer_ping(monitor, loan, guest, sequence);
	return kind != PROBE_NONE;
}

void
monitor_learn(
    struct monitor *monitor, const struct iovec *parcels, size_t count)
{
	mutex_lock(&monitor->lock);
	for (size_t i = 0; i < count; i++)
		learn_from_guest(&monitor->learned, parcel_frame(&parcels[i]),
		    parcel_length(&parcels[i]));
	update(monitor);
	mutex_unlock(&monitor->lock);
}
