/* Keepalive as the program drives it, on a real link and socket, with the
 * test's own clock. When to probe is keepalive_test's; here it is what goes
 * out, what comes in, and what is said. */
#include "forwarder/monitor.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/support/balking.h"
#include "tests/support/frames.h"
#include "tests/support/log_catcher.h"
#include "tests/support/set_key.h"
#include "tests/support/suite.h"

#define START_MS 1000000
#define SECOND_MS 1000

static int64_t time_ms;

int64_t
clock_now_ms(void)
{
	return time_ms;
}

int64_t
clock_now_us(void)
{
	return time_ms * 1000;
}

int64_t
clock_suspended_ms(void)
{
	return 0;
}

static const uint8_t gateway_mac[6] = { 0x00, 0x00, 0x5e, 0, 1, 7 };
static const uint8_t guest_ipv4[4] = { 192, 168, 105, 2 };

static struct link the_link;
static struct guest guest;
static struct monitor monitor;
static struct config config;
static struct loan loan; /* fwd-down's */
static int peer;
static int guest_end;

static void
set_up(void)
{
	struct guest_endpoint endpoint = { .kind = GUEST_FD };
	struct error error;
	int ends[2];

	time_ms = START_MS;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	endpoint.fd = ends[0];
	guest_end = ends[1];
	ck_assert_int_eq(guest_open(&guest, &endpoint, 0, &error), 0);
	ck_assert_int_eq(link_init(&the_link, INT64_MAX), 0);
	monitor_init(&monitor, &the_link, &guest);
	config_defaults(&config);
	set_key(&config, "network", "endpoint", "unix:/nowhere");
	loan.fd = peer = -1;
}

static void
tear_down(void)
{
	if (loan.fd >= 0)
		link_return(&loan);
	link_destroy(&the_link);
	if (peer >= 0)
		close(peer);
	close(guest_end);
	guest_close(&guest);
}

static void
configure(enum keepalive_mode mode, const char *endpoint, const char *gateway)
{
	config.keepalive.mode = mode;
	set_key(&config, "network", "endpoint", endpoint);
	set_key(&config, "keepalive", "gateway", gateway);
	monitor_configure(&monitor, &config);
}

/* A new generation, with fwd-down inside recv(). */
static void
install(void)
{
	int ends[2], smallest = 1;

	if (loan.fd >= 0)
		link_return(&loan);
	if (peer >= 0)
		close(peer);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
	peer = ends[1];
	link_install(&the_link, ends[0]);
	ck_assert_int_eq(link_borrow_next(&the_link, &loan), LINK_READY);
	monitor_reads(&monitor);
}

/* fwd-link's turn. */
static int64_t
tend(void)
{
	return monitor_tend(&monitor, loan.generation, time_ms);
}

static void
pass(int64_t ms)
{
	time_ms += ms;
	tend();
}

static void
guest_says(void)
{
	uint8_t frame[60];

	frame_write(frame, sizeof(frame), 1);
	guest_learn_mac(&guest, frame);
}

static void
watch_by_arp(void)
{
	configure(KEEPALIVE_ARP, "tcp:localhost:7000", "192.168.105.1");
	guest_says();
	install();
	tend();
}

static void
watch_by_ping(void)
{
	configure(KEEPALIVE_PEER, "tcp:localhost:7000", "");
	guest_says();
	install();
	tend();
}

struct parcel {
	uint8_t bytes[FRAME_HEADER_BYTES + 60];
};

static struct iovec
wrap(struct parcel *parcel, const uint8_t frame[60])
{
	frame_put_header(parcel->bytes, 60);
	memcpy(parcel->bytes + FRAME_HEADER_BYTES, frame, 60);
	return (struct iovec){ parcel->bytes, sizeof(parcel->bytes) };
}

/* As fwd-up does with a batch of one. */
static void
from_guest(const uint8_t frame[60])
{
	struct parcel parcel;
	struct iovec batch = wrap(&parcel, frame);

	guest_learn_mac(&guest, frame);
	monitor_from_guest(&monitor, &batch, 1);
}

/* The probe that has gone out; false: none. */
static bool
sent(uint8_t probe[PROBE_BYTES])
{
	uint8_t framed[FRAME_HEADER_BYTES + PROBE_BYTES];
	ssize_t n = recv(peer, framed, sizeof(framed), MSG_DONTWAIT);
	static const uint8_t header[FRAME_HEADER_BYTES] = { 0, 0, 0,
		PROBE_BYTES };

	if (n <= 0)
		return false;
	ck_assert_int_eq(n, sizeof(framed));
	ck_assert_mem_eq(framed, header, sizeof(header));
	memcpy(probe, framed + FRAME_HEADER_BYTES, PROBE_BYTES);
	return true;
}

static bool
sent_any(void)
{
	uint8_t probe[PROBE_BYTES];

	return sent(probe);
}

/* As fwd-down does: bytes came, this frame was in them. */
static bool
consumes(const uint8_t *bytes)
{
	uint8_t framed[FRAME_HEADER_BYTES + PROBE_BYTES];
	struct iovec parcel = { framed, sizeof(framed) };
	bool consumed;

	memcpy(framed + FRAME_HEADER_BYTES, bytes, PROBE_BYTES);
	monitor_heard(&monitor);
	consumed = monitor_may_consume(&parcel) &&
		   monitor_consumes(&monitor, &loan, &parcel);
	monitor_reads(&monitor);
	return consumed;
}

/* The gateway's answer to an ARP request: sender and target change places. */
static void
arp_answer(uint8_t *answer, const uint8_t *request)
{
	memcpy(answer, request, PROBE_BYTES);
	memcpy(answer, request + 6, 6);
	memcpy(answer + 6, gateway_mac, 6);
	answer[21] = 2;
	memcpy(answer + 22, gateway_mac, 6);
	memcpy(answer + 28, request + 38, 4);
	memcpy(answer + 32, request + 22, 6);
	memcpy(answer + 38, request + 28, 4);
}

/* The gateway's answer to what the guest itself asked. */
static void
arp_answer_to_guest(uint8_t *answer, const uint8_t *request)
{
	arp_answer(answer, request);
	memcpy(answer + 38, guest_ipv4, 4);
}

static const char *
mode(void)
{
	static struct status status;

	status = (struct status){ .pid = 0 };
	monitor_report(&monitor, &status);
	return status.keepalive.mode;
}

static bool
armed(void)
{
	struct status status = { .pid = 0 };

	monitor_report(&monitor, &status);
	return status.keepalive.armed;
}

static struct link_view
look(void)
{
	struct link_view view;

	link_look(&the_link, &view);
	return view;
}

/* ---- the mode ---- */

FIXTURE(set_up, tear_down)

TEST(on_a_unix_path_auto_is_passive)
{
	configure(KEEPALIVE_AUTO, "unix:/nowhere", "192.168.105.1");
	guest_says();
	ck_assert_str_eq(mode(), "passive");
	configure(KEEPALIVE_AUTO, "listen-unix:/nowhere", "192.168.105.1");
	ck_assert_str_eq(mode(), "passive");
}

TEST(over_tcp_auto_is_arp_once_somebody_can_be_asked)
{
	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "");
	ck_assert_str_eq(mode(), "passive");
	guest_says();
	ck_assert_str_eq(mode(), "passive");
	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "192.168.105.1");
	ck_assert_str_eq(mode(), "arp");
	configure(KEEPALIVE_AUTO, "listen-tcp:127.0.0.1:7000", "192.168.105.1");
	ck_assert_str_eq(mode(), "arp");
}

TEST(over_tcp_auto_is_passive_until_the_guest_is_known)
{
	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "192.168.105.1");
	ck_assert_str_eq(mode(), "passive");
	guest_says();
	ck_assert_str_eq(mode(), "arp");
}

TEST(a_mode_that_was_asked_for_is_used)
{
	guest_says();
	configure(KEEPALIVE_OFF, "tcp:localhost:7000", "192.168.105.1");
	ck_assert_str_eq(mode(), "off");
	configure(KEEPALIVE_PASSIVE, "tcp:localhost:7000", "192.168.105.1");
	ck_assert_str_eq(mode(), "passive");
	configure(KEEPALIVE_PEER, "unix:/nowhere", "");
	ck_assert_str_eq(mode(), "peer");
	configure(KEEPALIVE_ARP, "unix:/nowhere", "192.168.105.1");
	ck_assert_str_eq(mode(), "arp");
	configure(KEEPALIVE_ARP, "unix:/nowhere", "");
	ck_assert_str_eq(mode(), "passive");
}

/* The data path looks at frames only while that can teach something. */
TEST(the_guests_frames_are_looked_at_while_the_gateway_is_unknown)
{
	uint8_t probe[PROBE_BYTES], answer[PROBE_BYTES];
	uint8_t frame[60];

	configure(KEEPALIVE_AUTO, "unix:/nowhere", "");
	ck_assert(!monitor.wants);
	watch_by_arp();
	ck_assert(monitor.wants);
	frame_write(frame, sizeof(frame), 1);
	from_guest(frame);
	ck_assert(monitor.wants);
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	arp_answer(answer, probe);
	ck_assert(consumes(answer));
	ck_assert(!monitor.wants);
	guest.on_another(guest.context);
	ck_assert(monitor.wants);
}

/* The prober sleeps until its bell rings. */
TEST(what_is_learned_of_the_guest_wakes_the_prober)
{
	static const uint8_t request[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x08, 0x06, 0, 1, 0x08, 0, 6,
		4, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 192, 168, 105, 2 };

	configure(KEEPALIVE_ARP, "tcp:localhost:7000", "192.168.105.1");
	install();
	ck_assert_int_eq(tend(), KEEPALIVE_NEVER);
	doorbell_answer(&the_link.bell);
	from_guest(request);
	ck_assert_int_eq(read(the_link.bell.fds[0], (char[1]){ 0 }, 1), 1);
	ck_assert_int_eq(tend(), time_ms + 5 * SECOND_MS);
}

/* A bridge behind it, or a stranger who makes MACs up: each teaches something
 * and changes nothing. */
TEST(a_guest_of_many_macs_wakes_nobody)
{
	uint8_t request[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54,
		0, 0x12, 0x34, 0x56, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1 };

	watch_by_arp();
	doorbell_answer(&the_link.bell);
	for (uint8_t i = 1; i < 100; i++) {
		request[11] = request[27] = i;
		memcpy(request + 22, request + 6, 5);
		memcpy(request + 28, (uint8_t[4]){ 192, 168, 105, i }, 4);
		from_guest(request);
	}
	ck_assert_int_eq(read(the_link.bell.fds[0], (char[1]){ 0 }, 1), -1);
}

static const uint8_t gateway_ipv4[4] = { 192, 168, 105, 1 };

/* What the guest sends through its gateway. */
static void
far_packet(uint8_t packet[60])
{
	memset(packet, 0, 60);
	memcpy(packet, gateway_mac, 6);
	memcpy(packet + 6, frames_guest_mac, 6);
	packet[12] = 0x08;
	packet[14] = 0x45;
	memcpy(packet + 30, (const uint8_t[4]){ 9, 9, 9, 9 }, 4);
}

/* The guest asks its gateway, and is answered; then it uses it. */
static void
learn_the_gateway(void)
{
	uint8_t request[PROBE_BYTES], answer[PROBE_BYTES];
	uint8_t packet[60];

	probe_arp_request(request, frames_guest_mac, gateway_ipv4, NULL);
	memcpy(request + 28, guest_ipv4, 4);
	from_guest(request);
	arp_answer(answer, request);
	ck_assert(!consumes(answer));
	far_packet(packet);
	from_guest(packet);
}

TEST(all_frames_of_a_batch_are_learned_from_in_one_call)
{
	uint8_t request[PROBE_BYTES], packet[60];
	struct parcel parcels[2];
	struct iovec batch[2];

	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "");
	guest_says();
	probe_arp_request(request, frames_guest_mac, gateway_ipv4, gateway_mac);
	far_packet(packet);
	batch[0] = wrap(&parcels[0], request);
	batch[1] = wrap(&parcels[1], packet);
	monitor_from_guest(&monitor, batch, 2);
	ck_assert_str_eq(mode(), "arp");
	ck_assert(!monitor.wants);
}

TEST(a_reload_that_leaves_the_gateway_alone_keeps_what_was_learned)
{
	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "");
	install();
	learn_the_gateway();
	ck_assert_str_eq(mode(), "arp");
	config.log.level = LOG_LEVEL_DEBUG;
	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "");
	ck_assert_str_eq(mode(), "arp");
	ck_assert(!monitor.wants);
	/* One that gives a gateway, another or none asks for a new search. */
	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "192.168.105.1");
	ck_assert(monitor.wants);
	ck_assert_str_eq(mode(), "arp");
	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "192.168.105.9");
	ck_assert_mem_eq(monitor.learned.gateway,
	    ((const uint8_t[4]){ 192, 168, 105, 9 }), 4);
	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "");
	ck_assert_str_eq(mode(), "passive");
}

/* ---- probes ---- */

TEST(a_quiet_peer_is_probed_when_it_is_due_and_not_before)
{
	uint8_t probe[PROBE_BYTES], expected[PROBE_BYTES];

	watch_by_arp();
	ck_assert_int_eq(tend(), time_ms + 5 * SECOND_MS);
	pass(5 * SECOND_MS - 1);
	ck_assert(!sent_any());
	pass(1);
	ck_assert(sent(probe));
	probe_arp_request(expected, frames_guest_mac,
	    (const uint8_t[4]){ 192, 168, 105, 1 }, NULL);
	ck_assert_mem_eq(probe, expected, PROBE_BYTES);
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
}

TEST(a_gateway_that_answered_is_asked_alone_until_it_is_in_doubt)
{
	uint8_t probe[PROBE_BYTES], answer[PROBE_BYTES];
	static const uint8_t everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff };

	watch_by_arp();
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	arp_answer(answer, probe);
	ck_assert(consumes(answer));
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	ck_assert_mem_eq(probe, gateway_mac, 6);
	/* It stays silent: it may have moved. */
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	ck_assert_mem_eq(probe, everybody, 6);
}

TEST(nothing_is_written_while_another_writes)
{
	watch_by_ping();
	mutex_lock(&loan.connection->writing);
	pass(5 * SECOND_MS);
	pass(5 * SECOND_MS);
	ck_assert(!sent_any());
	ck_assert_uint_eq(counter_read(&monitor.probes), 0);
	mutex_unlock(&loan.connection->writing);
	pass(5 * SECOND_MS);
	ck_assert(sent_any());
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
}

TEST(a_ping_isnt_answered_while_another_writes)
{
	uint8_t ping[PROBE_BYTES];

	watch_by_ping();
	probe_ping(ping, NULL, 1);
	mutex_lock(&loan.connection->writing);
	ck_assert(consumes(ping));
	mutex_unlock(&loan.connection->writing);
	ck_assert(!sent_any());
	ck_assert_uint_eq(counter_read(&monitor.answered), 0);
	ck_assert(consumes(ping));
	ck_assert(sent_any());
}

/* A probe that can't be sent is no evidence, and never waits. */
TEST(a_probe_that_finds_no_room_isnt_counted)
{
	uint8_t probe[PROBE_BYTES], pong[PROBE_BYTES];

	watch_by_ping();
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	probe_pong(pong, NULL, 1);
	ck_assert(consumes(pong));
	while (send(loan.fd, probe, sizeof(probe), MSG_DONTWAIT) > 0)
		;
	for (int i = 0; i < 20; i++)
		pass(5 * SECOND_MS);
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
	ck_assert_int_eq(look().state, LINK_UP);
}

TEST(nothing_is_probed_when_off_or_without_an_interval)
{
	configure(KEEPALIVE_PASSIVE, "tcp:localhost:7000", "192.168.105.1");
	guest_says();
	install();
	ck_assert_int_eq(tend(), KEEPALIVE_NEVER);
	config.keepalive.interval_ms = 0;
	configure(KEEPALIVE_PEER, "tcp:localhost:7000", "");
	ck_assert_int_eq(tend(), KEEPALIVE_NEVER);
	/* And a reload begins at once. */
	config.keepalive.interval_ms = 100;
	configure(KEEPALIVE_PEER, "tcp:localhost:7000", "");
	ck_assert_int_eq(tend(), time_ms + 100);
	pass(100);
	ck_assert(sent_any());
}

TEST(a_late_call_about_an_older_generation_sends_nothing)
{
	uint64_t old;

	watch_by_ping();
	old = loan.generation;
	link_fail(&the_link, old, "gone");
	install();
	time_ms += 5 * SECOND_MS;
	monitor_tend(&monitor, old, time_ms);
	ck_assert(!sent_any());
}

/* ---- another client wants the peer's place ---- */

TEST(a_forwarder_over_tcp_is_asked_whether_it_lives)
{
	uint8_t ping[PROBE_BYTES], expected[PROBE_BYTES];

	watch_by_ping();
	ck_assert(monitor_ask(&monitor, loan.generation));
	ck_assert(sent(ping));
	probe_ping(expected, frames_guest_mac, 1);
	ck_assert_mem_eq(ping, expected, PROBE_BYTES);
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
	/* It moves no probe, and is none of those that may go unanswered. */
	ck_assert_int_eq(tend(), time_ms + 5 * SECOND_MS);
	ck_assert_uint_eq(monitor.machine.unanswered, 0);
	config.keepalive.interval_ms = 0;
	configure(KEEPALIVE_PEER, "tcp:localhost:7000", "");
	ck_assert(monitor_ask(&monitor, loan.generation));
	ck_assert(sent_any());
	ck_assert(monitor_ask(&monitor, loan.generation - 1));
	ck_assert(!sent_any());
	mutex_lock(&loan.connection->writing);
	ck_assert(monitor_ask(&monitor, loan.generation));
	mutex_unlock(&loan.connection->writing);
	ck_assert(!sent_any());
}

static const struct {
	enum keepalive_mode mode;
	const char *endpoint;
} unasked[] = {
	{ KEEPALIVE_PEER, "listen-unix:/nowhere" },
	{ KEEPALIVE_OFF, "listen-tcp:127.0.0.1:7000" },
	{ KEEPALIVE_PASSIVE, "listen-tcp:127.0.0.1:7000" },
	{ KEEPALIVE_ARP, "listen-tcp:127.0.0.1:7000" },
	{ KEEPALIVE_AUTO, "listen-tcp:127.0.0.1:7000" },
};

TEST(any_other_peer_is_not_asked, .count = sizeof(unasked) / sizeof(*unasked))
{
	configure(unasked[_i].mode, unasked[_i].endpoint, "192.168.105.1");
	guest_says();
	install();
	tend();
	ck_assert(!monitor_ask(&monitor, loan.generation));
	ck_assert(!sent_any());
}

TEST(a_peer_is_alive_if_a_byte_came_since_or_waits)
{
	uint8_t any[PROBE_BYTES] = { 0 };
	char byte = 'x';

	watch_by_ping();
	consumes(any);
	ck_assert(monitor_alive(&monitor, loan.generation, time_ms));
	ck_assert(!monitor_alive(&monitor, loan.generation, time_ms + 1));
	time_ms += 10;
	ck_assert(!monitor_alive(&monitor, loan.generation, time_ms));
	ck_assert_int_eq(send(peer, &byte, 1, 0), 1);
	ck_assert(monitor_alive(&monitor, loan.generation, time_ms));
	ck_assert(!monitor_alive(&monitor, loan.generation - 1, time_ms));
	ck_assert_int_eq(recv(loan.fd, &byte, 1, 0), 1);
	shutdown(peer, SHUT_WR); /* its end is no sign of life */
	ck_assert(!monitor_alive(&monitor, loan.generation, time_ms));
}

/* ---- answers ---- */

TEST(the_answer_to_our_question_is_ours_the_guests_own_is_the_guests)
{
	uint8_t probe[PROBE_BYTES], ours[PROBE_BYTES], theirs[PROBE_BYTES];

	watch_by_arp();
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	arp_answer(ours, probe);
	arp_answer_to_guest(theirs, probe);
	ck_assert(!consumes(theirs));
	ck_assert(!armed());
	time_ms += 3;
	ck_assert(consumes(ours));
	ck_assert(armed());
	ck_assert_uint_eq(counter_read(&monitor.replies), 1);
	ck_assert_uint_eq(counter_read(&monitor.rtt_us), 3000);
	/* One question, one answer. */
	ck_assert(!consumes(ours));
	ck_assert_uint_eq(counter_read(&monitor.replies), 1);
}

TEST(before_a_question_no_answer_is_ours)
{
	uint8_t request[PROBE_BYTES], answer[PROBE_BYTES];

	watch_by_arp();
	probe_arp_request(request, frames_guest_mac,
	    (const uint8_t[4]){ 192, 168, 105, 1 }, NULL);
	arp_answer(answer, request);
	ck_assert(!consumes(answer));
	ck_assert(!consumes(request));
}

TEST(only_the_pong_to_our_ping_counts)
{
	uint8_t ping[PROBE_BYTES], pong[PROBE_BYTES];

	watch_by_ping();
	probe_pong(pong, NULL, 1);
	ck_assert(consumes(pong)); /* to nothing */
	pass(5 * SECOND_MS);
	ck_assert(sent(ping));
	probe_pong(pong, NULL, 77);
	ck_assert(consumes(pong));
	ck_assert(!armed());
	ck_assert_uint_eq(counter_read(&monitor.replies), 0);
	probe_pong(pong, NULL, 1);
	ck_assert(consumes(pong));
	ck_assert(armed());
	ck_assert_uint_eq(counter_read(&monitor.replies), 1);
}

/* A satellite's answer comes after the next question. */
TEST(a_pong_that_took_longer_than_an_interval_counts_too)
{
	uint8_t ping[PROBE_BYTES], pong[PROBE_BYTES];

	watch_by_ping();
	pass(5 * SECOND_MS);
	ck_assert(sent(ping));
	pass(5 * SECOND_MS);
	ck_assert(sent(ping));
	time_ms += 3;
	probe_pong(pong, NULL, 1);
	ck_assert(consumes(pong));
	ck_assert(armed());
	ck_assert_uint_eq(counter_read(&monitor.rtt_us), 0);
}

TEST(a_ping_is_answered_whatever_the_mode_ten_times_a_second)
{
	uint8_t ping[PROBE_BYTES], pong[PROBE_BYTES];
	uint64_t sequence;

	configure(KEEPALIVE_OFF, "unix:/nowhere", "");
	install();
	for (uint64_t i = 0; i < 15; i++) {
		probe_ping(ping, NULL, i);
		ck_assert(consumes(ping));
		ck_assert(sent(pong) == (i < 10));
		if (i >= 10)
			continue;
		ck_assert_int_eq(
		    probe_recognise(pong, PROBE_BYTES, NULL, &sequence),
		    PROBE_PONG);
		ck_assert_uint_eq(sequence, i);
	}
	time_ms += SECOND_MS;
	ck_assert(consumes(ping));
	ck_assert(sent_any());
	ck_assert_uint_eq(counter_read(&monitor.answered), 11);
}

TEST(other_frames_are_the_guests)
{
	uint8_t frame[PROBE_BYTES];

	watch_by_ping();
	frame_write(frame, sizeof(frame), 1);
	ck_assert(!consumes(frame));
	probe_ping(frame, NULL, 1);
	frame[14] ^= 1; /* another's protocol on the same EtherType */
	ck_assert(!consumes(frame));
	ck_assert(!sent_any());
}

/* ---- death ---- */

static void
arm(void)
{
	uint8_t ping[PROBE_BYTES], pong[PROBE_BYTES];
	uint64_t sequence;

	time_ms = monitor.machine.tick_ms;
	tend();
	ck_assert(sent(ping));
	ck_assert_int_eq(
	    probe_recognise(ping, PROBE_BYTES, NULL, &sequence), PROBE_PING);
	probe_pong(pong, NULL, sequence);
	ck_assert(consumes(pong));
	ck_assert(armed());
}

static const char death[] = "no response after 5 probes in 30 seconds";

TEST(death_comes_after_thirty_seconds_in_the_contracts_words)
{
	int64_t byte_ms;

	watch_by_ping();
	link_heard(&the_link, loan.generation);
	arm();
	byte_ms = time_ms;
	for (int i = 0; i < 5; i++) {
		pass(5 * SECOND_MS);
		ck_assert(sent_any());
	}
	pass(5 * SECOND_MS - 1);
	ck_assert_int_eq(look().state, LINK_UP);
	pass(1);
	ck_assert_int_eq(time_ms - byte_ms, 30 * SECOND_MS);
	ck_assert_int_eq(look().state, LINK_DOWN);
	ck_assert_str_eq(look().loss.reason, death);
	ck_assert_uint_eq(look().loss.generation, loan.generation);
	ck_assert_uint_eq(counter_read(&monitor.deaths), 1);
	ck_assert_uint_eq(
	    log_count("keepalive: no response after 5 probes in 30 seconds\n"),
	    1);
	ck_assert(!sent_any());
}

TEST(other_times_are_told_as_they_are)
{
	config.keepalive.interval_ms = 100;
	config.keepalive.count = 2;
	watch_by_ping();
	arm();
	for (int i = 0; i < 3; i++)
		pass(100);
	ck_assert_str_eq(
	    look().loss.reason, "no response after 2 probes in 300ms");
}

TEST(a_peer_that_never_answered_lives_and_is_told_once)
{
	watch_by_ping();
	for (int i = 0; i < 100; i++) {
		pass(5 * SECOND_MS);
		sent_any();
	}
	ck_assert_int_eq(look().state, LINK_UP);
	ck_assert_uint_eq(
	    log_count("info keepalive: the peer has answered no probe"), 1);
	ck_assert_uint_eq(counter_read(&monitor.deaths), 0);
	ck_assert_uint_ge(counter_read(&monitor.probes), 5 + 6);
	ck_assert_uint_le(counter_read(&monitor.probes), 5 + 9);
}

TEST(any_byte_puts_it_off)
{
	uint8_t frame[PROBE_BYTES];

	watch_by_ping();
	arm();
	frame_write(frame, sizeof(frame), 1);
	for (int i = 0; i < 20; i++) {
		for (int j = 0; j < 5; j++)
			pass(5 * SECOND_MS);
		consumes(frame);
	}
	ck_assert_int_eq(look().state, LINK_UP);
}

/* fwd-down waits for the guest, not for the network. */
TEST(nobody_is_dead_while_nobody_reads)
{
	watch_by_ping();
	arm();
	monitor_heard(&monitor);
	for (int i = 0; i < 20; i++)
		pass(5 * SECOND_MS);
	ck_assert_int_eq(look().state, LINK_UP);
	monitor_reads(&monitor);
	pass(5 * SECOND_MS);
	ck_assert_int_eq(look().state, LINK_DOWN);
}

TEST(nobody_is_dead_while_bytes_wait_to_be_read)
{
	watch_by_ping();
	arm();
	ck_assert_int_eq(send(peer, "x", 1, 0), 1);
	for (int i = 0; i < 20; i++)
		pass(5 * SECOND_MS);
	ck_assert_int_eq(look().state, LINK_UP);
}

TEST(a_new_generation_has_to_answer_for_itself)
{
	watch_by_ping();
	arm();
	link_fail(&the_link, loan.generation, "gone");
	install();
	tend();
	ck_assert(!armed());
	for (int i = 0; i < 20; i++)
		pass(5 * SECOND_MS);
	ck_assert_int_eq(look().state, LINK_UP);
}

TEST(an_answer_to_the_generation_before_says_nothing_of_this_one)
{
	uint8_t ping[PROBE_BYTES], pong[PROBE_BYTES];

	watch_by_ping();
	pass(5 * SECOND_MS);
	ck_assert(sent(ping));
	link_fail(&the_link, loan.generation, "gone");
	install();
	tend();
	probe_pong(pong, NULL, 1);
	ck_assert(consumes(pong));
	ck_assert(!armed());
	ck_assert_uint_eq(counter_read(&monitor.replies), 0);
}

/* ---- the kernel's own watch ---- */

static int64_t
send_limit_ms(int fd)
{
	struct timeval limit;
	socklen_t length = sizeof(limit);

	ck_assert_int_eq(
	    getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, &length), 0);
	return limit.tv_sec * INT64_C(1000) + limit.tv_usec / 1000;
}

/* In two halves: see stream_write(). */
TEST(a_write_is_limited_as_configured)
{
	configure(KEEPALIVE_AUTO, "unix:/nowhere", "");
	install();
	monitor_prepare(&monitor, loan.fd);
	ck_assert_int_eq(send_limit_ms(loan.fd), 15 * SECOND_MS);
	config.network.write_stall_ms = 1600;
	configure(KEEPALIVE_OFF, "unix:/nowhere", "");
	monitor_prepare(&monitor, loan.fd);
	ck_assert_int_eq(send_limit_ms(loan.fd), 800);
	config.network.write_stall_ms = 0;
	configure(KEEPALIVE_OFF, "unix:/nowhere", "");
	monitor_prepare(&monitor, loan.fd);
	ck_assert_int_eq(send_limit_ms(loan.fd), 0);
}

TEST(a_reload_limits_the_writes_of_the_present_connection)
{
	configure(KEEPALIVE_PASSIVE, "unix:/nowhere", "");
	install();
	monitor_prepare(&monitor, loan.fd);
	tend();
	config.network.write_stall_ms = 400;
	configure(KEEPALIVE_PASSIVE, "unix:/nowhere", "");
	tend();
	ck_assert_int_eq(send_limit_ms(loan.fd), 200);
}

static int
keepalive_is_on(int fd)
{
	int on = -1;
	socklen_t length = sizeof(on);

	ck_assert_int_eq(
	    getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &length), 0);
	return on != 0;
}

TEST(tcp_is_watched_by_the_kernel_unless_off)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	configure(KEEPALIVE_OFF, "tcp:localhost:7000", "");
	monitor_prepare(&monitor, fd);
	ck_assert_int_eq(keepalive_is_on(fd), 0);
	configure(KEEPALIVE_AUTO, "tcp:localhost:7000", "");
	monitor_prepare(&monitor, fd);
	ck_assert_int_eq(keepalive_is_on(fd), 1);
	configure(KEEPALIVE_OFF, "tcp:localhost:7000", "");
	monitor_prepare(&monitor, fd);
	ck_assert_int_eq(keepalive_is_on(fd), 0);
	close(fd);
	ck_assert_uint_eq(log_count("refused"), 0);
}

/* ---- the last moment before a death ---- */

static void (*in_the_last_moment)(void);

/* The one wait of a prober that has made up its mind. */
int
poll(struct pollfd *fds, nfds_t count, int timeout)
{
	int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");

	if (timeout > 0 && in_the_last_moment)
		in_the_last_moment();
	return real(fds, count, timeout);
}

static void
peer_says_something(void)
{
	ck_assert_int_eq(send(peer, "x", 1, 0), 1);
}

/* fwd-down was held up between recv() and monitor_heard(). */
static void
reader_comes_with_a_byte(void)
{
	monitor_heard(&monitor);
	monitor_reads(&monitor);
}

TEST(a_byte_in_the_last_moment_saves_the_peer, .count = 2)
{
	watch_by_ping();
	arm();
	for (int i = 0; i < 5; i++)
		pass(5 * SECOND_MS);
	ck_assert_int_eq(look().state, LINK_UP);
	in_the_last_moment =
	    _i ? reader_comes_with_a_byte : peer_says_something;
	pass(5 * SECOND_MS);
	in_the_last_moment = NULL;
	ck_assert_int_eq(look().state, LINK_UP);
	ck_assert_uint_eq(counter_read(&monitor.deaths), 0);
	ck_assert_uint_eq(log_count("no response"), 0);
}

/* ---- a probe of which a part went ---- */

TEST(the_rest_of_a_cut_probe_follows_before_anything_else)
{
	watch_by_ping();
	balk(&sends, loan.fd, 0, 0);
	atomic_store(&sends.cut, 20);
	pass(5 * SECOND_MS);
	ck_assert_uint_eq(atomic_load(&sends.cut), 0);
	ck_assert(sent_any()); /* whole, and nothing behind it */
	ck_assert(!sent_any());
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
}

/* Whatever came next would be taken for the rest. */
TEST(a_probe_that_stays_cut_ends_its_connection)
{
	uint8_t bytes[FRAME_HEADER_BYTES + PROBE_BYTES];

	watch_by_ping();
	balk(&sends, loan.fd, 1, EAGAIN);
	atomic_store(&sends.cut, 20);
	pass(5 * SECOND_MS);
	ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT), 20);
	ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT), 0);
	ck_assert_int_eq(recv(loan.fd, bytes, sizeof(bytes), MSG_DONTWAIT), 0);
}
