/* The monitor on a real link and socket, with the test's own clock: the frames it
 * sends and consumes, and what it logs. keepalive_test.c tests when to probe. */
#include "forwarder/monitor.h"

#include <netinet/in.h>
#include <sys/time.h>

#include "tests/support/balking.h"
#include "tests/support/frames.h"
#include "tests/support/guest_pair.h"
#include "tests/support/log_catcher.h"
#include "tests/support/set_key.h"
#include "tests/support/settable_clock.h"
#include "tests/support/suite.h"

#define SECOND_MS 1000
#define TCP "tcp:localhost:7000"

static const uint8_t gateway_mac[6] = { 0x00, 0x00, 0x5e, 0, 1, 7 };
static const uint8_t gateway_ipv4[4] = { 192, 168, 105, 1 };
static const uint8_t guest_ipv4[4] = { 192, 168, 105, 2 };
static const char gateway[] = "192.168.105.1";

static struct link the_link;
static struct guest guest;
static struct monitor monitor;
static struct config config;
static struct settings settings;
static struct loan loan; /* fwd-down's */
static int peer, guest_end;

static void
set_up(void)
{
	clock_stop(1000000);
	guest_end = guest_open_pair(&guest);
	ck_assert_int_eq(link_init(&the_link), 0);
	config_defaults(&config);
	set_key(&config, "network", "endpoint", "unix:/nowhere");
	settings_init(&settings, &config);
	monitor_init(&monitor, &the_link, &guest, &settings);
	loan = (struct loan){ .fd = -1 };
	peer = -1;
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

/* Runs the monitor as fwd-link does. */
static int64_t
run(void)
{
	return monitor_run(&monitor, loan.generation, clock_stopped_ms, false);
}

static void
pass(int64_t ms)
{
	clock_stopped_ms += ms;
	run();
}

static void
publish(void)
{
	settings_publish(&settings, &config);
	run();
}

static void
configure(enum keepalive_mode mode, const char *endpoint, const char *address)
{
	config.keepalive.mode = mode;
	set_key(&config, "network", "endpoint", endpoint);
	set_key(&config, "keepalive", "gateway", address);
	publish();
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
	link_install(&the_link, ends[0], false);
	ck_assert_int_eq(link_borrow_next(&the_link, &loan), LINK_READY);
	monitor_reading(&monitor);
	run();
}

/* As fwd-up does after the guest has sent these frames of 60 bytes. */
static void
from_guest(const uint8_t *frames[], size_t count)
{
	uint8_t bytes[2][FRAME_HEADER_BYTES + 60];
	struct iovec parcels[2];

	for (size_t i = 0; i < count; i++) {
		frame_put_header(bytes[i], 60);
		memcpy(bytes[i] + FRAME_HEADER_BYTES, frames[i], 60);
		parcels[i] = (struct iovec){ bytes[i], sizeof(bytes[i]) };
	}
	guest_learn_mac(&guest, frames[0]);
	if (monitor_wants_guest(&monitor))
		monitor_learn(&monitor, parcels, count);
}

static void
guest_says(const uint8_t *frame)
{
	from_guest(&frame, 1);
}

static void
guest_speaks(void)
{
	uint8_t frame[60];

	frame_write(frame, sizeof(frame), 1);
	guest_says(frame);
}

static void
watch_by(enum keepalive_mode mode)
{
	configure(mode, TCP, mode == KEEPALIVE_ARP ? gateway : "");
	guest_speaks();
	install();
}

/* The probe that has gone out; false: none. */
static bool
sent(uint8_t probe[PROBE_BYTES])
{
	static const uint8_t header[FRAME_HEADER_BYTES] = { [3] = PROBE_BYTES };
	uint8_t framed[FRAME_HEADER_BYTES + PROBE_BYTES];
	ssize_t n = recv(peer, framed, sizeof(framed), MSG_DONTWAIT);

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

static void
expect_ping(uint64_t sequence)
{
	uint8_t ping[PROBE_BYTES], expected[PROBE_BYTES];

	ck_assert(sent(ping));
	probe_between_forwarders(
	    expected, PROBE_PING, frames_guest_mac, sequence);
	ck_assert_mem_eq(ping, expected, PROBE_BYTES);
}

/* As fwd-down does when this frame has arrived. */
static bool
consumes(const uint8_t *bytes)
{
	uint8_t framed[FRAME_HEADER_BYTES + PROBE_BYTES];
	struct iovec parcel = { framed, sizeof(framed) };
	bool consumed;

	memcpy(framed + FRAME_HEADER_BYTES, bytes, PROBE_BYTES);
	monitor_heard(&monitor);
	consumed = monitor_is_notable(&parcel) &&
		   monitor_consumes(&monitor, &loan, &parcel);
	monitor_reading(&monitor);
	return consumed;
}

static bool
consumes_peer(enum probe_kind kind, uint64_t sequence)
{
	uint8_t frame[PROBE_BYTES];

	probe_between_forwarders(frame, kind, NULL, sequence);
	return consumes(frame);
}

/* The gateway's answer to our ARP request. */
static void
arp_answer(uint8_t *answer)
{
	probe_arp_request(answer, gateway_mac, gateway_ipv4, frames_guest_mac);
	answer[21] = 2;
	memcpy(answer + 28, gateway_ipv4, 4);
	memcpy(answer + 32, frames_guest_mac, 6);
	memset(answer + 38, 0, 4);
}

static struct status
report(void)
{
	struct status status = { .pid = 0 };

	monitor_report(&monitor, &config, &status);
	return status;
}

static const char *
mode(void)
{
	static struct status status;

	status = report();
	return status.keepalive.mode;
}

static bool
armed(void)
{
	return report().keepalive.armed;
}

static bool
is_up(void)
{
	struct link_view view;

	link_look(&the_link, &view);
	return view.state == LINK_UP;
}

static bool
bell_rings(void)
{
	bool rang = read(the_link.bell.fds[0], (char[1]){ 0 }, 1) == 1;

	doorbell_answer(&the_link.bell);
	return rang;
}

FIXTURE(set_up, tear_down)

/* ---- the mode ---- */

static const struct {
	enum keepalive_mode mode;
	const char *endpoint, *gateway;
	bool guest;
	const char *expected;
} modes[] = {
	{ KEEPALIVE_AUTO, "unix:/nowhere", gateway, true, "passive" },
	{ KEEPALIVE_AUTO, "listen-unix:/nowhere", gateway, true, "passive" },
	{ KEEPALIVE_AUTO, TCP, "", true, "passive" },
	{ KEEPALIVE_AUTO, TCP, gateway, false, "passive" },
	{ KEEPALIVE_AUTO, TCP, gateway, true, "arp" },
	{ KEEPALIVE_AUTO, "listen-tcp:127.0.0.1:7000", gateway, true, "arp" },
	{ KEEPALIVE_OFF, TCP, gateway, true, "off" },
	{ KEEPALIVE_PASSIVE, TCP, gateway, true, "passive" },
	{ KEEPALIVE_PEER, "unix:/nowhere", "", true, "peer" },
	{ KEEPALIVE_ARP, "unix:/nowhere", gateway, true, "arp" },
	{ KEEPALIVE_ARP, "unix:/nowhere", "", true, "passive" },
};

TEST(the_mode_is_what_is_configured_and_possible, .count = LENGTH(modes))
{
	if (modes[_i].guest)
		guest_speaks();
	configure(modes[_i].mode, modes[_i].endpoint, modes[_i].gateway);
	ck_assert_str_eq(mode(), modes[_i].expected);
}

/* The data path examines frames only while it can learn from them. */
TEST(the_guests_frames_are_examined_until_everything_is_learned)
{
	uint8_t answer[PROBE_BYTES];

	ck_assert(!monitor_wants_guest(&monitor));
	configure(KEEPALIVE_ARP, TCP, gateway);
	install();
	ck_assert(monitor_wants_guest(&monitor));
	guest_speaks();
	run();
	pass(5 * SECOND_MS);
	ck_assert(monitor_wants_guest(&monitor));
	arp_answer(answer);
	ck_assert(consumes(answer));
	ck_assert(!monitor_wants_guest(&monitor));
	guest.on_replaced(guest.context);
	ck_assert(monitor_wants_guest(&monitor));
}

TEST(the_initial_configuration_applies_before_the_first_connection)
{
	config.keepalive.mode = KEEPALIVE_ARP;
	set_key(&config, "keepalive", "gateway", gateway);
	settings_publish(&settings, &config);
	monitor_init(&monitor, &the_link, &guest, &settings);
	ck_assert(monitor_wants_guest(&monitor));
	guest_speaks();
	ck_assert_str_eq(mode(), "arp");
}

/* A bridge behind the guest, or made-up MACs: none of them is a reason to wake. */
TEST(a_guest_with_many_macs_does_not_wake_the_prober)
{
	uint8_t request[PROBE_BYTES];
	uint8_t mac[6] = { 0x52, 0x54, 0, 0x12, 0x34 };

	watch_by(KEEPALIVE_ARP);
	bell_rings();
	for (uint8_t i = 1; i < 100; i++) {
		mac[5] = i;
		probe_arp_request(request, mac, gateway_ipv4, NULL);
		memcpy(request + 28, (uint8_t[4]){ 192, 168, 105, i }, 4);
		guest_says(request);
	}
	ck_assert(!bell_rings());
}

/* One batch: an ARP request for the gateway, and a frame that goes through it. */
static void
learn_the_gateway(void)
{
	uint8_t request[PROBE_BYTES], packet[60] = { 0 };
	const uint8_t *frames[] = { request, packet };

	probe_arp_request(request, frames_guest_mac, gateway_ipv4, gateway_mac);
	memcpy(packet, gateway_mac, 6);
	memcpy(packet + 6, frames_guest_mac, 6);
	packet[12] = 0x08;
	packet[14] = 0x45;
	memset(packet + 30, 9, 4);
	from_guest(frames, 2);
}

TEST(a_gateway_learned_from_one_batch_wakes_the_prober)
{
	configure(KEEPALIVE_AUTO, TCP, "");
	guest_speaks();
	install();
	ck_assert_int_eq(run(), KEEPALIVE_NEVER);
	bell_rings();
	learn_the_gateway();
	ck_assert(bell_rings());
	ck_assert(!monitor_wants_guest(&monitor));
	ck_assert_int_eq(run(), clock_stopped_ms + 5 * SECOND_MS);
}

TEST(a_reload_that_leaves_the_gateway_alone_keeps_what_was_learned)
{
	configure(KEEPALIVE_AUTO, TCP, "");
	install();
	learn_the_gateway();
	publish();
	ck_assert_str_eq(mode(), "arp");
	ck_assert(!monitor_wants_guest(&monitor));
	/* A new, changed or removed network.gateway starts the search again. */
	configure(KEEPALIVE_AUTO, TCP, gateway);
	ck_assert(monitor_wants_guest(&monitor));
	ck_assert_str_eq(mode(), "arp");
	configure(KEEPALIVE_AUTO, TCP, "192.168.105.9");
	mutex_lock(&monitor.lock);
	ck_assert_uint_eq(monitor.learned.gateway[3], 9);
	mutex_unlock(&monitor.lock);
	configure(KEEPALIVE_AUTO, TCP, "");
	ck_assert_str_eq(mode(), "passive");
}

/* ---- probes ---- */

TEST(a_quiet_peer_is_probed_when_it_is_due_and_not_before)
{
	uint8_t probe[PROBE_BYTES], expected[PROBE_BYTES];

	watch_by(KEEPALIVE_ARP);
	ck_assert_int_eq(run(), clock_stopped_ms + 5 * SECOND_MS);
	pass(5 * SECOND_MS - 1);
	ck_assert(!sent_any());
	pass(1);
	ck_assert(sent(probe));
	probe_arp_request(expected, frames_guest_mac, gateway_ipv4, NULL);
	ck_assert_mem_eq(probe, expected, PROBE_BYTES);
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
}

static void
gateway_answers_a_probe(void)
{
	uint8_t probe[PROBE_BYTES], answer[PROBE_BYTES];

	watch_by(KEEPALIVE_ARP);
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	arp_answer(answer);
	ck_assert(consumes(answer));
}

TEST(a_gateway_that_answered_is_probed_by_unicast_until_it_falls_silent)
{
	uint8_t probe[PROBE_BYTES];

	gateway_answers_a_probe();
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	ck_assert_mem_eq(probe, gateway_mac, 6);
	/* No answer: the gateway may have another MAC now. */
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	ck_assert_uint_eq(probe[0], 0xff);
}

TEST(no_probe_is_sent_while_another_thread_writes)
{
	watch_by(KEEPALIVE_PEER);
	mutex_lock(&loan.connection->writing);
	pass(5 * SECOND_MS);
	pass(5 * SECOND_MS);
	ck_assert(consumes_peer(PROBE_PING, 1));
	ck_assert(!sent_any());
	ck_assert_uint_eq(counter_read(&monitor.probes), 0);
	ck_assert_uint_eq(counter_read(&monitor.answered), 0);
	mutex_unlock(&loan.connection->writing);
	pass(5 * SECOND_MS);
	ck_assert(sent_any());
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
	ck_assert(consumes_peer(PROBE_PING, 2));
	ck_assert(sent_any());
	ck_assert_uint_eq(counter_read(&monitor.answered), 1);
}

/* A probe that cannot be sent proves nothing, and must not block. */
TEST(a_probe_that_does_not_fit_the_buffer_is_not_counted)
{
	uint8_t probe[PROBE_BYTES];

	watch_by(KEEPALIVE_PEER);
	pass(5 * SECOND_MS);
	ck_assert(sent(probe));
	ck_assert(consumes_peer(PROBE_PONG, 1));
	while (send(loan.fd, probe, sizeof(probe), MSG_DONTWAIT) > 0)
		;
	for (int i = 0; i < 20; i++)
		pass(5 * SECOND_MS);
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
	ck_assert(is_up());
}

TEST(nothing_is_probed_when_passive_or_without_an_interval)
{
	configure(KEEPALIVE_PASSIVE, TCP, gateway);
	guest_speaks();
	install();
	ck_assert_int_eq(run(), KEEPALIVE_NEVER);
	config.keepalive.interval_ms = 0;
	configure(KEEPALIVE_PEER, TCP, "");
	ck_assert_int_eq(run(), KEEPALIVE_NEVER);
	/* After a reload probing starts at once. */
	config.keepalive.interval_ms = 100;
	publish();
	ck_assert_int_eq(run(), clock_stopped_ms + 100);
	pass(100);
	ck_assert(sent_any());
}

TEST(a_late_call_about_an_older_generation_sends_nothing)
{
	uint64_t old;

	watch_by(KEEPALIVE_PEER);
	old = loan.generation;
	link_fail(&the_link, old, "gone");
	install();
	clock_stopped_ms += 5 * SECOND_MS;
	monitor_run(&monitor, old, clock_stopped_ms, false);
	monitor_run(&monitor, old, clock_stopped_ms + 5 * SECOND_MS, false);
	ck_assert(!sent_any());
}

/* ---- another client has connected ---- */

TEST(a_forwarder_over_tcp_is_probed_for_a_candidate)
{
	watch_by(KEEPALIVE_PEER);
	ck_assert(monitor_ask(&monitor, loan.generation));
	expect_ping(1);
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
	/* It delays no other probe, and is not counted as unanswered. */
	ck_assert_int_eq(run(), clock_stopped_ms + 5 * SECOND_MS);
	ck_assert_uint_eq(monitor.machine.unanswered, 0);
	config.keepalive.interval_ms = 0;
	publish();
	ck_assert(monitor_ask(&monitor, loan.generation));
	ck_assert(sent_any());
	ck_assert(monitor_ask(&monitor, loan.generation - 1));
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

TEST(any_other_peer_is_not_probed_for_a_candidate, .count = LENGTH(unasked))
{
	configure(unasked[_i].mode, unasked[_i].endpoint, gateway);
	guest_speaks();
	install();
	ck_assert(!monitor_ask(&monitor, loan.generation));
	ck_assert(!sent_any());
}

TEST(a_peer_is_alive_if_a_byte_has_arrived_since_or_is_unread)
{
	uint8_t any[PROBE_BYTES] = { 0 };
	uint64_t generation;
	char byte = 'x';

	watch_by(KEEPALIVE_PEER);
	generation = loan.generation;
	consumes(any);
	ck_assert(monitor_is_alive(&monitor, generation, clock_stopped_ms));
	ck_assert(
	    !monitor_is_alive(&monitor, generation, clock_stopped_ms + 1));
	clock_stopped_ms += 10;
	ck_assert_int_eq(send(peer, &byte, 1, 0), 1);
	ck_assert(monitor_is_alive(&monitor, generation, clock_stopped_ms));
	ck_assert(
	    !monitor_is_alive(&monitor, generation - 1, clock_stopped_ms));
	ck_assert_int_eq(recv(loan.fd, &byte, 1, 0), 1);
	shutdown(peer, SHUT_WR); /* the end of the stream is not */
	ck_assert(!monitor_is_alive(&monitor, generation, clock_stopped_ms));
}

TEST(idle_is_counted_from_the_last_byte_or_the_connection)
{
	clock_stopped_ms += 50;
	install();
	clock_stopped_ms += 7;
	ck_assert_uint_eq(report().keepalive.idle_ms, 7);
	monitor_heard(&monitor);
	clock_stopped_ms += 3;
	ck_assert_uint_eq(report().keepalive.idle_ms, 3);
}

/* ---- answers ---- */

TEST(only_the_answer_to_our_own_request_is_consumed)
{
	uint8_t ours[PROBE_BYTES], theirs[PROBE_BYTES];

	watch_by(KEEPALIVE_ARP);
	arp_answer(ours);
	ck_assert(!consumes(ours)); /* nothing was asked yet */
	pass(5 * SECOND_MS);
	arp_answer(theirs);
	memcpy(theirs + 38, guest_ipv4, 4);
	ck_assert(!consumes(theirs));
	ck_assert(!armed());
	clock_stopped_ms += 3;
	ck_assert(consumes(ours));
	ck_assert(armed());
	ck_assert_uint_eq(counter_read(&monitor.rtt_us), 3000);
	ck_assert(!consumes(ours)); /* a second answer */
	ck_assert_uint_eq(counter_read(&monitor.replies), 1);
}

/* Whether a PONG with this number is an answer to one of the PINGs since the last
 * answer. */
static void
expect_pong(uint64_t sequence, bool counts)
{
	uint64_t before = counter_read(&monitor.replies);

	ck_assert(consumes_peer(PROBE_PONG, sequence));
	ck_assert_uint_eq(counter_read(&monitor.replies) - before, counts);
}

TEST(only_a_pong_to_an_open_ping_counts)
{
	watch_by(KEEPALIVE_PEER);
	expect_pong(1, false); /* nothing was asked yet */
	pass(5 * SECOND_MS);
	expect_pong(0, false);
	expect_pong(2, false);
	ck_assert(!armed());
	expect_pong(1, true);
	ck_assert(armed());
	expect_pong(1, false);
	pass(5 * SECOND_MS);
	expect_pong(1, false); /* already answered */
	pass(5 * SECOND_MS);
	/* Over a satellite the answer comes after the next PING. */
	clock_stopped_ms += 3;
	expect_pong(2, true);
	ck_assert_uint_eq(counter_read(&monitor.rtt_us), 0);
}

TEST(an_answer_from_an_older_generation_does_not_count)
{
	watch_by(KEEPALIVE_PEER);
	pass(5 * SECOND_MS);
	link_fail(&the_link, loan.generation, "gone");
	install();
	expect_pong(1, false);
	pass(5 * SECOND_MS);
	expect_pong(1, false);
	ck_assert(!armed());
	expect_pong(2, true);
}

/* ---- death ---- */

static void
arm(void)
{
	clock_stopped_ms = monitor.machine.tick_ms;
	run();
	expect_ping(1);
	expect_pong(1, true);
}

static void
pass_intervals(int count)
{
	for (int i = 0; i < count; i++)
		pass(config.keepalive.interval_ms);
}

TEST(a_silent_peer_is_dead_after_thirty_seconds_and_is_logged)
{
	struct link_view view;

	watch_by(KEEPALIVE_PEER);
	arm();
	pass_intervals(5);
	while (sent_any())
		;
	pass(5 * SECOND_MS - 1);
	ck_assert(is_up());
	pass(1);
	link_look(&the_link, &view);
	ck_assert_int_eq(view.state, LINK_DOWN);
	ck_assert_str_eq(view.last_error, "no response after 5 probes in 30s");
	ck_assert_uint_eq(view.generation, loan.generation);
	ck_assert_uint_eq(counter_read(&monitor.deaths), 1);
	ck_assert_uint_eq(
	    log_count("info keepalive: no response after 5 probes in 30s\n"),
	    1);
	ck_assert(!sent_any());
}

static void
resume(void)
{
	monitor_run(&monitor, loan.generation, clock_stopped_ms, true);
}

TEST(after_a_suspend_an_armed_peer_has_a_second_to_answer)
{
	struct link_view view;

	watch_by(KEEPALIVE_PEER);
	arm();
	resume();
	expect_ping(2);
	pass(SECOND_MS - 1);
	expect_pong(2, true);
	pass(SECOND_MS);
	ck_assert(is_up());
	resume();
	expect_ping(3);
	pass(SECOND_MS);
	link_look(&the_link, &view);
	ck_assert_int_eq(view.state, LINK_DOWN);
	ck_assert_str_eq(
	    view.last_error, "no response within a second of a suspend");
	ck_assert_uint_eq(counter_read(&monitor.deaths), 1);
}

/* The gateway may have another MAC by then. */
TEST(after_a_suspend_the_gateway_is_asked_by_broadcast)
{
	uint8_t probe[PROBE_BYTES];

	gateway_answers_a_probe();
	resume();
	ck_assert(sent(probe));
	ck_assert_mem_eq(probe, "\xff\xff\xff\xff\xff\xff", 6);
}

/* ---- reasons not to give up a silent peer ---- */

static void (*in_the_last_moment)(void);

/* The pause between the decision and the end of the generation. */
int
poll(struct pollfd *fds, nfds_t count, int timeout)
{
	int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");

	if (timeout > 0 && in_the_last_moment)
		in_the_last_moment();
	return real(fds, count, timeout);
}

static void
reader_waits_for_the_guest(void)
{
	monitor_heard(&monitor);
}

static void
byte_waits(void)
{
	ck_assert_int_eq(send(peer, "x", 1, 0), 1);
}

/* fwd-down was preempted between recv() and monitor_heard(). */
static void
reader_comes_with_a_byte(void)
{
	monitor_heard(&monitor);
	monitor_reading(&monitor);
}

static const struct {
	void (*before)(void), (*in_the_last_moment)(void);
	int intervals;
} saviours[] = {
	{ reader_waits_for_the_guest, NULL, 20 },
	{ byte_waits, NULL, 20 },
	{ NULL, byte_waits, 6 },
	{ NULL, reader_comes_with_a_byte, 6 },
};

TEST(a_byte_or_a_busy_reader_saves_the_peer, .count = LENGTH(saviours))
{
	watch_by(KEEPALIVE_PEER);
	arm();
	if (saviours[_i].before)
		saviours[_i].before();
	in_the_last_moment = saviours[_i].in_the_last_moment;
	pass_intervals(saviours[_i].intervals);
	in_the_last_moment = NULL;
	ck_assert(is_up());
	ck_assert_uint_eq(counter_read(&monitor.deaths), 0);
	ck_assert_uint_eq(log_count("no response"), 0);
	if (_i == 0) { /* the guest has taken everything */
		monitor_reading(&monitor);
		pass_intervals(1);
		ck_assert(!is_up());
	}
}

/* ---- socket options ---- */

static int64_t
send_limit_ms(void)
{
	struct timeval limit;
	socklen_t length = sizeof(limit);

	ck_assert_int_eq(
	    getsockopt(loan.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, &length), 0);
	return limit.tv_sec * INT64_C(1000) + limit.tv_usec / 1000;
}

/* In two halves: see stream_write(). */
TEST(a_write_is_limited_as_configured)
{
	static const int64_t limits_ms[] = { 30000, 1600, 0 };

	install();
	for (int i = 0; i < 3; i++) {
		config.network.write_stall_ms = limits_ms[i];
		settings_publish(&settings, &config);
		monitor_prepare(&monitor, loan.fd, false);
		ck_assert_int_eq(send_limit_ms(), limits_ms[i] / 2);
	}
	config.network.write_stall_ms = 400;
	publish(); /* a reload applies to the present connection */
	ck_assert_int_eq(send_limit_ms(), 200);
}

/* What the system allows for SO_SNDBUF; -1: no limit but its own. */
static int largest_buffer = -1;

int
setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	__typeof__(setsockopt) *real = dlsym(RTLD_NEXT, "setsockopt");

	if (name == SO_SNDBUF && largest_buffer >= 0)
		value = &largest_buffer;
	return real(fd, level, name, value, length);
}

static int
send_buffer(int fd)
{
	int bytes = 0;
	socklen_t length = sizeof(bytes);

	ck_assert_int_eq(
	    getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &length), 0);
	return bytes;
}

TEST(the_send_buffer_is_set_as_configured)
{
	int smallest, configured;

	install();
	smallest = send_buffer(loan.fd);
	monitor_prepare(&monitor, loan.fd, false); /* 0 changes nothing */
	ck_assert_int_eq(send_buffer(loan.fd), smallest);
	config.network.send_buffer = 70 * 1024;
	settings_publish(&settings, &config);
	monitor_prepare(&monitor, loan.fd, false);
	configured = send_buffer(loan.fd);
	ck_assert_int_ge(configured, 70 * 1024);
	config.network.send_buffer *= 2;
	publish(); /* a reload applies to the present connection */
	ck_assert_int_eq(send_buffer(loan.fd), 2 * configured);
	ck_assert_uint_eq(log_count("send buffer"), 0);
}

TEST(over_tcp_the_system_chooses_the_send_buffer)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), before = send_buffer(fd);

	config.network.send_buffer = 100 * 1024;
	configure(KEEPALIVE_AUTO, TCP, "");
	monitor_prepare(&monitor, fd, false);
	ck_assert_int_eq(send_buffer(fd), before);
	close(fd);
}

TEST(a_send_buffer_that_the_system_limits_is_reported_once)
{
	install();
	config.network.send_buffer = 1024 * 1024;
	settings_publish(&settings, &config);
	largest_buffer = 100 * 1024;
	for (int i = 0; i < 2; i++)
		monitor_prepare(&monitor, loan.fd, false);
	ck_assert_uint_eq(
	    log_count("limits the send buffer wanted=1048576 got="), 1);
	publish(); /* perhaps with another size */
	ck_assert_uint_eq(log_count("limits the send buffer"), 2);
}

TEST(tcp_keepalive_is_set_unless_off)
{
	static const enum keepalive_mode cases[] = { KEEPALIVE_OFF,
		KEEPALIVE_AUTO, KEEPALIVE_OFF };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	for (int i = 0; i < 3; i++) {
		int on = -1;
		socklen_t length = sizeof(on);

		configure(cases[i], TCP, "");
		monitor_prepare(&monitor, fd, false);
		ck_assert_int_eq(
		    getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &length), 0);
		ck_assert_int_eq(on != 0, cases[i] != KEEPALIVE_OFF);
	}
	close(fd);
	ck_assert_uint_eq(log_count("refused"), 0);
}

/* ---- frames of our own that are sent in part ---- */

TEST(a_new_connection_begins_with_the_announcement)
{
	uint8_t frame[PROBE_BYTES], expected[PROBE_BYTES];

	install();
	monitor_prepare(&monitor, loan.fd, false);
	ck_assert(!sent_any()); /* no guest is known */
	guest_speaks();
	monitor_prepare(&monitor, loan.fd, false);
	ck_assert(sent(frame));
	probe_announcement(expected, frames_guest_mac);
	ck_assert_mem_eq(frame, expected, PROBE_BYTES);
	set_key(&config, "network", "announce", "no");
	publish();
	monitor_prepare(&monitor, loan.fd, false);
	ck_assert(!sent_any());
}

TEST(a_probe_to_a_peer_that_left_is_not_counted)
{
	watch_by(KEEPALIVE_PEER);
	close(peer);
	peer = -1;
	pass(5 * SECOND_MS);
	ck_assert_uint_eq(counter_read(&monitor.probes), 0);
}

/* As no end of file comes from a datagram socket, nothing else may show it. */
TEST(a_probe_to_a_datagram_peer_that_left_ends_the_generation)
{
	struct link_view view;
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	watch_by(KEEPALIVE_PEER);
	link_fail(&the_link, loan.generation, "replaced");
	link_return(&loan);
	link_install(&the_link, ends[0], true);
	ck_assert_int_eq(link_borrow_next(&the_link, &loan), LINK_READY);
	monitor_reading(&monitor);
	run();
	pass(5 * SECOND_MS);
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
	ck_assert_int_eq(
	    recv(ends[1], (uint8_t[100]){ 0 }, 100, 0), PROBE_BYTES);
	close(ends[1]);
	pass(5 * SECOND_MS);
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
	link_look(&the_link, &view);
	ck_assert_int_eq(view.state, LINK_DOWN);
}

TEST(the_rest_of_a_partly_sent_probe_is_sent_before_anything_else)
{
	watch_by(KEEPALIVE_PEER);
	balk(&sends, loan.fd, 0, 0);
	atomic_store(&sends.cut, 20);
	pass(5 * SECOND_MS);
	ck_assert_uint_eq(atomic_load(&sends.cut), 0);
	expect_ping(1);
	ck_assert(!sent_any());
	ck_assert_uint_eq(counter_read(&monitor.probes), 1);
}

/* The peer would take the next frame for the rest. A new connection must not wait
 * until the rest can be sent. */
TEST(a_frame_that_cannot_be_completed_ends_the_connection, .count = 2)
{
	uint8_t bytes[FRAME_HEADER_BYTES + PROBE_BYTES];

	watch_by(KEEPALIVE_PEER);
	balk(&sends, loan.fd, 1, EAGAIN);
	atomic_store(&sends.cut, 20);
	if (_i == 0)
		pass(5 * SECOND_MS);
	else
		monitor_prepare(&monitor, loan.fd, false);
	ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT), 20);
	ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT), 0);
	ck_assert_int_eq(send(loan.fd, bytes, 1, MSG_NOSIGNAL), -1);
	/* fwd-down is woken; on a new connection it still reads what has arrived. */
	send(peer, "x", 1, MSG_NOSIGNAL);
	ck_assert_int_eq(recv(loan.fd, bytes, 1, MSG_DONTWAIT), _i);
}
