/* What fwd-link does in the program's name at the start of a connection, with
 * a real dialler and a daemon of the test's own. */
#include "forwarder/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "keepalive/probe.h"
#include "reconnect/listen.h"
#include "tests/support/balking.h"
#include "tests/support/frames.h"
#include "tests/support/listener.h"
#include "tests/support/log_catcher.h"
#include "tests/support/set_key.h"
#include "tests/support/settable_user.h"
#include "tests/support/suite.h"

static struct network network;
static struct link the_link;
static struct monitor monitor;
static struct guest guest;
static struct settings settings;
static struct config config;
static int guest_end;
static int listener; /* the daemon's */
static unsigned descriptors_before;

static void
open_guest(void)
{
	struct guest_endpoint endpoint = { .kind = GUEST_FD };
	struct error error;
	uint8_t frame[60];
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	endpoint.fd = ends[0];
	guest_end = ends[1];
	ck_assert_int_eq(guest_open(&guest, &endpoint, 0, &error), 0);
	frame_write(frame, sizeof(frame), 1);
	guest_learn_mac(&guest, frame);
}

static void
set_up(void)
{
	char why[NETWORK_WHY_BYTES];

	scratch_enter();
	descriptors_before = open_descriptors();
	open_guest();
	ck_assert_int_eq(link_init(&the_link, INT64_MAX), 0);
	config_defaults(&config);
	set_key(&config, "network", "endpoint", "unix:sock");
	config.reconnect.min_ms = config.reconnect.max_ms = 20;
	settings_init(&settings, &config);
	monitor_init(&monitor, &the_link, &guest, &settings);
	listener = listening_unix("sock", 5);
	network = (struct network){ .link = &the_link,
		.monitor = &monitor,
		.guest = &guest,
		.settings = &settings };
	ck_assert_int_eq(network_open(&network, &config, why), 0);
}

static void
tear_down(void)
{
	link_stop(&the_link);
	network_stop(&network);
	link_destroy(&the_link);
	guest_close(&guest);
	close(guest_end);
	close(listener);
	mutex_destroy(&settings.lock);
	mutex_destroy(&monitor.lock);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
	scratch_leave();
}

static int
next_connection(void)
{
	int peer = accept(listener, NULL, NULL);

	ck_assert_int_ge(peer, 0);
	return peer;
}

static void
expect_announcement(int peer)
{
	uint8_t expected[FRAME_HEADER_BYTES + PROBE_BYTES];
	uint8_t found[sizeof(expected)];

	frame_put_header(expected, PROBE_BYTES);
	probe_announcement(expected + FRAME_HEADER_BYTES, frames_guest_mac);
	ck_assert_int_eq(recv(peer, found, sizeof(found), MSG_WAITALL),
	    (ssize_t)sizeof(found));
	ck_assert_mem_eq(found, expected, sizeof(expected));
}

FIXTURE(set_up, tear_down)

/* It went to a daemon that is dead already, which fwd-up or fwd-down will find;
 * or only a part of it went, and then nothing may follow it. */
TEST(nothing_follows_a_cut_announcement, .count = 2)
{
	uint8_t bytes[FRAME_HEADER_BYTES + PROBE_BYTES];
	struct link_view view = { 0 };
	struct loan loan;
	int peer, cut = _i ? 10 : 0;

	balk(&sends, BALKING_ANY, _i ? 0 : 1, EPIPE);
	atomic_store(&sends.cut, cut);
	ck_assert_int_eq(network_start(&network, &config), 0);
	peer = next_connection();
	while (view.state != LINK_UP)
		link_look(&the_link, &view);
	ck_assert_int_eq(link_borrow_next(&the_link, &loan), LINK_READY);
	ck_assert_int_eq(send(loan.fd, "frame", 5, MSG_NOSIGNAL), cut ? -1 : 5);
	ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0), cut ? cut : 5);
	/* What it has written still comes. */
	ck_assert_int_eq(send(peer, "x", 1, MSG_NOSIGNAL), 1);
	ck_assert_int_eq(recv(loan.fd, bytes, 1, 0), 1);
	link_return(&loan);
	close(peer);
}

TEST(the_announcement_is_the_first_frame)
{
	int peer;

	ck_assert_int_eq(network_start(&network, &config), 0);
	peer = next_connection();
	expect_announcement(peer);
	close(peer);
}

static void
report(const struct link_event *event)
{
	const struct dialler_hooks *hooks = &network.dialler.hooks;

	hooks->event(hooks->context, event);
}

static struct link_event
unproven(bool again, bool settled)
{
	return (struct link_event){ .kind = LINK_EVENT_UNPROVEN,
		.again = again,
		.settled = settled,
		.reason = "peer closed" };
}

/* The first of an outage was told as up. */
TEST(a_daemon_that_accepts_and_closes_is_one_warning_an_outage)
{
	const struct link_event first = unproven(false, false),
				more = unproven(true, false),
				settled = unproven(true, true);

	ck_assert_int_eq(network_start(&network, &config), 0);
	report(&first);
	report(&more);
	report(&settled);
	ck_assert_uint_eq(
	    log_count("warn link: closed before any sign of life"), 1);
	ck_assert_uint_eq(
	    log_count("debug link: closed before any sign of life"), 1);
	ck_assert_uint_eq(
	    log_count("info link: closed before any sign of life"), 1);
}

TEST(a_long_outage_is_a_warning_with_the_last_error_and_a_hint)
{
	const struct link_event event = { .kind = LINK_EVENT_LONG_OUTAGE,
		.outage_ms = 10000,
		.dials = 9,
		.reason = "No such file or directory",
		.error = ENOENT };

	ck_assert_int_eq(network_start(&network, &config), 0);
	report(&event);
	ck_assert_uint_eq(
	    log_count("warn link: still down endpoint=unix:sock"), 1);
	ck_assert_uint_eq(
	    log_count("error=\"No such file or directory\" hint=\"no "
		      "such file: is the daemon running, is the "
		      "path right?\""),
	    1);
}

TEST(a_new_connection_gets_the_limit_of_a_write)
{
	struct timeval wait;
	socklen_t length = sizeof(wait);
	struct loan loan;
	int client;

	ck_assert_int_eq(network_start(&network, &config), 0);
	client = next_connection();
	ck_assert_int_eq(
	    link_borrow(&the_link, &loan, LINK_WHILE_HELD), LINK_READY);
	ck_assert_int_eq(
	    getsockopt(loan.fd, SOL_SOCKET, SO_SNDTIMEO, &wait, &length), 0);
	ck_assert_int_eq(wait.tv_sec, config.network.write_stall_ms / 2000);
	link_return(&loan);
	close(client);
}

/* ---- who may connect ---- */

static bool
admits(const char *address)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in in = { .sin_family = AF_INET };
	const struct sockaddr *client = (const struct sockaddr *)&in;

	if (inet_pton(AF_INET6, address, &in6.sin6_addr) == 1)
		client = (const struct sockaddr *)&in6;
	else
		ck_assert_int_eq(inet_pton(AF_INET, address, &in.sin_addr), 1);
	return network.dialler.hooks.admit(&network, client);
}

static void
configure(const char *endpoint, const char *allow)
{
	struct config before = config;
	char why[NETWORK_WHY_BYTES];

	set_key(&config, "network", "endpoint", endpoint);
	set_key(&config, "network", "allow", allow);
	ck_assert_int_eq(network_reopen(&network, &before, &config, why), 0);
	settings_publish(&settings, &config);
	network_wake(&network, &config);
}

/* A reload replaces the list first; the old listener, which anybody can reach,
 * is still there. */
TEST(without_a_list_only_this_host_may_connect)
{
	ck_assert_int_eq(network_start(&network, &config), 0);
	configure("unix:sock", "10.0.0.0/8, fd00::/8");
	ck_assert(admits("10.1.2.3"));
	ck_assert(admits("fd00::1"));
	ck_assert(!admits("127.0.0.1"));
	configure("unix:sock", "");
	ck_assert(!admits("10.1.2.3"));
	ck_assert(!admits("fd00::1"));
	ck_assert(admits("127.0.0.1"));
	ck_assert(admits("::1"));
	ck_assert(admits("::ffff:127.0.0.1"));
	ck_assert(!admits("::2"));
}

TEST(a_strangers_daemon_is_told_once_with_what_to_do)
{
	struct config before = config;
	char why[NETWORK_WHY_BYTES];
	struct link_view view = { 0 };
	int peer;

	ck_assert_int_eq(listen(listener, 1000), 0);
	ck_assert_int_eq(chmod(".", 01777), 0);
	atomic_store(&user_at_the_other_end, STRANGER);
	ck_assert_int_eq(network_start(&network, &config), 0);
	while (view.dials < 4)
		link_look(&the_link, &view);
	ck_assert_str_eq(view.last_error, STRANGER_REFUSED);
	ck_assert_uint_eq(log_count("warn"), 1);
	ck_assert_uint_eq(
	    log_count("warn link: daemon refused endpoint=unix:sock "
		      "reason=\"" STRANGER_REFUSED "\" hint=\"others may "
		      "write to its folder: use a private one, or set "
		      "network.user\"\n"),
	    1);
	config.network.user = STRANGER;
	ck_assert_int_eq(network_reopen(&network, &before, &config, why), 0);
	settings_publish(&settings, &config);
	network_wake(&network, &config);
	while (view.state != LINK_UP)
		link_look(&the_link, &view);
	peer = next_connection();
	close(peer);
}

TEST(listening_on_loopback_is_warned_of_at_start_and_by_a_reload, .count = 2)
{
	char port[6], endpoint[32], warning[96], why[NETWORK_WHY_BYTES];

	free_port(port);
	snprintf(endpoint, sizeof(endpoint), "listen-tcp:127.0.0.1:%s", port);
	snprintf(warning, sizeof(warning),
	    "warn link: every local user can connect endpoint=%s", endpoint);
	if (_i == 0) {
		set_key(&config, "network", "endpoint", endpoint);
		settings_publish(&settings, &config);
		ck_assert_int_eq(network_open(&network, &config, why), 0);
	}
	ck_assert_int_eq(network_start(&network, &config), 0);
	ck_assert_uint_eq(log_count(warning), _i == 0);
	configure(endpoint, "");
	configure(endpoint, "127.0.0.1");
	ck_assert_uint_eq(log_count(warning), 1);
	configure("listen-unix:door", "");
	configure("unix:sock", "");
	ck_assert_uint_eq(log_count(warning), 1);
}

/* A command that is started would hold the port; a client that went away
 * between poll() and accept() would hold fwd-link. */
TEST(a_listener_is_closed_on_exec_and_never_blocks, .count = 2)
{
	char port[6], text[32], why[NETWORK_WHY_BYTES];
	struct endpoint endpoint;
	struct unix_file file;
	struct error fault;
	int fd;

	ck_assert_int_eq(network_start(&network, &config), 0);
	free_port(port);
	snprintf(text, sizeof(text), "listen-tcp:127.0.0.1:%s", port);
	ck_assert_int_eq(
	    endpoint_parse(&endpoint, _i ? text : "listen-unix:./door", &fault),
	    0);
	fd = listen_open(&endpoint, &file, why, sizeof(why));
	ck_assert_msg(fd >= 0, "%s", why);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	unix_file_remove(&file);
	close(fd);
}
