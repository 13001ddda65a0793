#include "forwarder/health.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/clock.h"
#include "base/log.h"
#include "reconnect/endpoint.h"

/* The moment before a death is pronounced: far longer than a thread is kept
 * waiting on a machine that works, and within the 1 % that a death may be off. */
#define LAST_MOMENT_MS 50
#define LAST_MOMENT_PART 200

static bool
probes_by_arp(const struct health *health) NEEDS(health->lock)
{
	return health->mode == KEEPALIVE_ARP ||
	       (health->mode == KEEPALIVE_AUTO && health->over_tcp);
}

/* Whether the data path has to look at the guest's frames. */
static void
set_wants(struct health *health) NEEDS(health->lock)
{
	atomic_store_explicit(&health->wants,
	    probes_by_arp(health) && learn_wants(&health->learned),
	    memory_order_relaxed);
}

/* What was learned may be wrong; the guest's frames are looked at again. */
static void
doubt(void *context)
{
	struct health *health = context;

	mutex_lock(&health->lock);
	learn_doubt(&health->learned);
	set_wants(health);
	mutex_unlock(&health->lock);
}

void
health_init(struct health *health, struct link *link, struct guest *guest)
{
	*health = (struct health){ .link = link, .guest = guest };
	guest->on_another = doubt;
	guest->context = health;
	mutex_init(&health->lock);
	pong_limit_init(&health->pongs);
}

/* Another setting starts the search afresh; the same one again keeps what was
 * found: if the peer is dead already, nothing could teach it a second time. Of
 * another network, an unanswered probe tells. NULL: none is configured. */
static void
set_gateway(struct health *health, const uint8_t *gateway) NEEDS(health->lock)
{
	struct learned *learned = &health->learned;

	if (learned->configured != (gateway != NULL) ||
	    (gateway && memcmp(learned->gateway, gateway, 4) != 0))
		learn_init(learned, gateway);
}

void
health_configure(struct health *health, const struct config *config)
{
	struct endpoint endpoint;
	uint8_t gateway[4];
	bool configured =
	    inet_pton(AF_INET, config->keepalive.gateway, gateway) == 1;
	const char *why;

	endpoint_parse(&endpoint, config->network.endpoint, &why);
	mutex_lock(&health->lock);
	health->tcp = (struct tcp_settings){
		.idle_s = (int)(config->keepalive.tcp_idle_ms / 1000),
		.interval_s = (int)(config->keepalive.tcp_interval_ms / 1000),
		.count = (int)config->keepalive.tcp_count,
	};
	health->write_stall_ms = config->network.write_stall_ms;
	health->over_tcp = endpoint.kind == ENDPOINT_TCP;
	health->mode = (enum keepalive_mode)config->keepalive.mode;
	health->interval_ms = config->keepalive.interval_ms;
	health->count = (unsigned)config->keepalive.count;
	health->changed = true;
	set_gateway(health, configured ? gateway : NULL);
	set_wants(health);
	mutex_unlock(&health->lock);
	doorbell_ring(&health->link->bell);
}

/* What is really done at the moment: `auto` and `arp` are passive until there
 * is somebody to ask in somebody's name. */
static enum keepalive_mode
mode_now(const struct health *health) NEEDS(health->lock)
{
	uint8_t mac[6];

	if (!probes_by_arp(health))
		return health->mode == KEEPALIVE_AUTO ? KEEPALIVE_PASSIVE
						      : health->mode;
	return health->learned.gateway_known &&
		       guest_get_mac(health->guest, mac)
		   ? KEEPALIVE_ARP
		   : KEEPALIVE_PASSIVE;
}

void
health_report(struct health *health, struct status *out)
{
	static const char *const names[] = {
		[KEEPALIVE_OFF] = "off",
		[KEEPALIVE_PASSIVE] = "passive",
		[KEEPALIVE_ARP] = "arp",
		[KEEPALIVE_PEER] = "peer",
	};
	struct link_view view;
	int64_t last_ms = atomic_load(&health->last_byte_ms);
	enum keepalive_mode mode;

	link_look(health->link, &view);
	mutex_lock(&health->lock);
	mode = mode_now(health);
	mutex_unlock(&health->lock);
	snprintf(out->keepalive.mode, sizeof(out->keepalive.mode), "%s",
	    names[mode]);
	if (view.state == LINK_UP) {
		int64_t idle_ms = clock_now_ms() - last_ms;

		out->keepalive.armed =
		    atomic_load(&health->answered_generation) ==
		    view.generation;
		if (idle_ms > view.up_ms)
			idle_ms = view.up_ms;
		out->keepalive.idle_ms = idle_ms > 0 ? (uint64_t)idle_ms : 0;
	}
	out->keepalive.probes = counter_read(&health->probes);
	out->keepalive.replies = counter_read(&health->replies);
	out->keepalive.answered = counter_read(&health->answered);
	out->keepalive.deaths = counter_read(&health->deaths);
	out->keepalive.write_stalls = counter_read(&health->write_stalls);
	out->keepalive.rtt_us = counter_read(&health->rtt_us);
}

void
health_prepare(struct health *health, int fd)
{
	struct tcp_settings tcp;
	struct timeval wait;
	int64_t wait_us;
	bool over_tcp;

	mutex_lock(&health->lock);
	tcp = health->tcp;
	/* stream_write() tolerates one that expired: a call that took a part can't
	 * tell how long it waited for the rest. */
	wait_us = health->write_stall_ms * 1000 / 2;
	if (health->mode == KEEPALIVE_OFF)
		tcp.idle_s = 0; /* as the system has it */
	over_tcp = health->over_tcp;
	mutex_unlock(&health->lock);
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
compose(struct health *health, uint64_t generation, uint8_t frame[PROBE_BYTES])
{
	uint8_t mac[6];
	bool known = guest_get_mac(health->guest, mac);
	enum keepalive_mode mode;

	mutex_lock(&health->lock);
	mode = mode_now(health);
	if (mode == KEEPALIVE_ARP && known) {
		memcpy(health->target.guest, mac, sizeof(mac));
		memcpy(health->target.gateway, health->learned.gateway, 4);
		probe_arp_request(frame, mac, health->learned.gateway,
		    learn_gateway_mac(&health->learned));
	} else if (mode == KEEPALIVE_PEER) {
		probe_ping(frame, known ? mac : NULL, ++health->sequence);
	} else {
		mode = KEEPALIVE_OFF;
	}
	health->asked = mode != KEEPALIVE_OFF ? generation : 0;
	health->probed_us = clock_now_us();
	mutex_unlock(&health->lock);
	return mode != KEEPALIVE_OFF;
}

static void
probe(struct health *health, const struct loan *loan, int64_t now_ms)
{
	uint8_t frame[PROBE_BYTES];

	if (!compose(health, loan->generation, frame))
		return;
	/* The gateway may have moved since it answered last. */
	if (health->machine.unanswered > 0)
		doubt(health);
	if (send_between(loan, frame)) {
		keepalive_sent(&health->machine, now_ms);
		counter_add(&health->probes, 1);
	}
}

static void
bury(struct health *health, uint64_t generation)
{
	const struct keepalive *machine = &health->machine;
	int64_t after_ms = machine->interval_ms * (machine->count + 1);
	char reason[LINK_REASON_BYTES], after[LOG_DURATION_BYTES];

	if (after_ms % 1000 == 0)
		snprintf(after, sizeof(after), "%lld seconds",
		    (long long)(after_ms / 1000));
	else
		log_duration(after, sizeof(after), after_ms);
	snprintf(reason, sizeof(reason), "no response after %u probes in %s",
	    machine->count, after);
	log_line(LOG_LEVEL_INFO, LOG_KEEPALIVE, "%s", reason);
	counter_add(&health->deaths, 1);
	link_fail(health->link, generation, reason);
}

/* Nothing is readable, and fwd-down waits for something to read. */
static bool
reader_waits(struct health *health, int fd)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	return atomic_load(&health->reading) && poll(&readable, 1, 0) == 0;
}

/* One more moment before the verdict: fwd-down may have been preempted between
 * recv() and health_heard(). */
static bool
stays_silent(struct health *health, int fd, int64_t last_byte_ms)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	int64_t limit_ms =
	    health->machine.interval_ms * (health->machine.count + 1);
	int64_t moment_ms = limit_ms / LAST_MOMENT_PART;

	if (moment_ms > LAST_MOMENT_MS)
		moment_ms = LAST_MOMENT_MS;
	return poll(&readable, 1, (int)moment_ms) == 0 &&
	       atomic_load(&health->last_byte_ms) == last_byte_ms;
}

static void
act(struct health *health, const struct loan *loan, int64_t now_ms)
{
	struct keepalive_seen seen;

	/* The order matters: see keepalive.h. */
	seen.reader_waiting = reader_waits(health, loan->fd);
	seen.answered_generation = atomic_load(&health->answered_generation);
	seen.last_byte_ms = atomic_load(&health->last_byte_ms);
	switch (keepalive_check(&health->machine, now_ms, &seen)) {
	case KEEPALIVE_WAIT:
		break;
	case KEEPALIVE_UNARMED:
		log_line(LOG_LEVEL_INFO, LOG_KEEPALIVE,
		    "the peer has answered no probe so far; its silence means "
		    "nothing, one probe a minute goes on");
		break;
	case KEEPALIVE_PROBE:
		probe(health, loan, now_ms);
		break;
	case KEEPALIVE_DEAD:
		if (stays_silent(health, loan->fd, seen.last_byte_ms))
			bury(health, loan->generation);
		else
			keepalive_start(
			    &health->machine, loan->generation, now_ms);
		break;
	}
}

/* True once after the settings changed. The connection was made with the
 * old ones, so it is prepared again. */
static bool
take_change(struct health *health, uint64_t generation)
{
	struct loan loan;
	bool changed;

	mutex_lock(&health->lock);
	changed = health->changed;
	health->changed = false;
	mutex_unlock(&health->lock);
	if (changed &&
	    link_borrow(health->link, &loan, LINK_NO_WAIT) == LINK_READY) {
		if (loan.generation == generation)
			health_prepare(health, loan.fd);
		link_return(&loan);
	}
	return changed;
}

/* Fits the machine to the mode and the generation; false: nothing to watch. */
static bool
follow(struct health *health, uint64_t generation, int64_t now_ms, bool changed)
{
	enum keepalive_mode mode;
	int64_t interval_ms;
	unsigned count;

	mutex_lock(&health->lock);
	mode = health->followed = mode_now(health);
	interval_ms = health->interval_ms;
	count = health->count;
	mutex_unlock(&health->lock);
	if (changed)
		keepalive_init(&health->machine, interval_ms, count);
	if (mode != KEEPALIVE_ARP && mode != KEEPALIVE_PEER) {
		keepalive_stop(&health->machine);
		return false;
	}
	if (changed || health->machine.generation != generation ||
	    keepalive_due(&health->machine) == KEEPALIVE_NEVER)
		keepalive_start(&health->machine, generation, now_ms);
	return true;
}

int64_t
health_tend(struct health *health, uint64_t generation, int64_t now_ms)
{
	bool changed = take_change(health, generation);
	struct loan loan;

	if (!follow(health, generation, now_ms, changed))
		return KEEPALIVE_NEVER;
	if (keepalive_due(&health->machine) <= now_ms &&
	    link_borrow(health->link, &loan, LINK_NO_WAIT) == LINK_READY) {
		if (loan.generation == generation)
			act(health, &loan, now_ms);
		link_return(&loan);
	}
	return keepalive_due(&health->machine);
}

bool
health_ask(struct health *health, uint64_t generation)
{
	uint8_t frame[PROBE_BYTES];
	struct loan loan;
	bool asks;

	mutex_lock(&health->lock);
	asks = health->mode == KEEPALIVE_PEER && health->over_tcp;
	mutex_unlock(&health->lock);
	if (!asks ||
	    link_borrow(health->link, &loan, LINK_NO_WAIT) != LINK_READY)
		return asks;
	if (loan.generation == generation &&
	    compose(health, generation, frame) && send_between(&loan, frame))
		counter_add(&health->probes, 1);
	link_return(&loan);
	return true;
}

bool
health_alive(struct health *health, uint64_t generation, int64_t since_ms)
{
	struct loan loan;
	bool alive = false;
	char byte;

	if (atomic_load(&health->last_byte_ms) >= since_ms)
		return true;
	if (link_borrow(health->link, &loan, LINK_NO_WAIT) != LINK_READY)
		return false;
	if (loan.generation == generation)
		alive = recv(loan.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
	link_return(&loan);
	return alive;
}

void
health_reads(struct health *health)
{
	atomic_store_explicit(&health->reading, true, memory_order_release);
}

void
health_heard(struct health *health)
{
	/* Before the bytes are looked at, and before `reading` says otherwise. */
	atomic_store_explicit(
	    &health->last_byte_ms, clock_now_ms(), memory_order_release);
	atomic_store_explicit(&health->reading, false, memory_order_release);
}

/* Of one of the last PINGs: an answer may take longer than an interval. */
static bool
is_ours(const struct health *health, uint64_t sequence) NEEDS(health->lock)
{
	return sequence > 0 && health->sequence - sequence < health->count;
}

/* An answer to our probe came; the time it took is known only of the last. */
static void
count_reply(struct health *health, uint64_t generation, uint64_t sequence)
    NEEDS(health->lock)
{
	counter_add(&health->replies, 1);
	if (sequence == health->sequence)
		atomic_store_explicit(&health->rtt_us,
		    (uint64_t)(clock_now_us() - health->probed_us),
		    memory_order_relaxed);
	health->asked = 0;
	atomic_store_explicit(
	    &health->answered_generation, generation, memory_order_release);
}

static void
answer_ping(struct health *health, const struct loan *loan, uint64_t sequence)
{
	uint8_t frame[PROBE_BYTES], mac[6];
	bool known = guest_get_mac(health->guest, mac);

	if (!pong_limit_allows(&health->pongs, clock_now_ms()))
		return;
	probe_pong(frame, known ? mac : NULL, sequence);
	if (send_between(loan, frame))
		counter_add(&health->answered, 1);
}

/* Whether fwd-link has to look again: what was learned is enough to begin, or
 * what it went by has gone. A guest of many MACs or neighbours teaches something
 * with every frame; that alone wakes nobody. */
static bool
is_news(const struct health *health) NEEDS(health->lock)
{
	return mode_now(health) != health->followed;
}

bool
health_consumes(
    struct health *health, const struct loan *loan, const struct frame *frame)
{
	uint64_t sequence;
	enum probe_kind kind;
	bool learned, asked, news;

	mutex_lock(&health->lock);
	asked = health->asked == loan->generation;
	sequence = health->sequence; /* ARP carries none: of the last probe */
	learned =
	    learn_from_network(&health->learned, frame->bytes, frame->length);
	kind = probe_recognise(frame->bytes, frame->length,
	    asked && probes_by_arp(health) ? &health->target : NULL, &sequence);
	if (kind == PROBE_ARP_ANSWER ||
	    (kind == PROBE_PONG && asked && is_ours(health, sequence)))
		count_reply(health, loan->generation, sequence);
	set_wants(health);
	news = learned && is_news(health);
	mutex_unlock(&health->lock);
	if (news)
		doorbell_ring(&health->link->bell);
	if (kind == PROBE_PING)
		answer_ping(health, loan, sequence);
	return kind != PROBE_NONE;
}

void
health_from_guest(
    struct health *health, const struct iovec *parcels, size_t count)
{
	bool learned = false;

	mutex_lock(&health->lock);
	for (size_t i = 0; i < count; i++)
		learned |= learn_from_guest(&health->learned,
		    (const uint8_t *)parcels[i].iov_base + FRAME_HEADER_BYTES,
		    parcels[i].iov_len - FRAME_HEADER_BYTES);
	set_wants(health);
	learned = learned && is_news(health);
	mutex_unlock(&health->lock);
	if (learned)
		doorbell_ring(&health->link->bell);
}
