/* The hooks that fwd-link calls, and reloads, with a real fwd-link and a daemon
 * of the test's own. */
#include "forwarder/network.h"

#include <arpa/inet.h>
#include <sys/time.h>

#include "keepalive/probe.h"
#include "tests/support/frames.h"
#include "tests/support/guest_pair.h"
#include "tests/support/listener.h"
#include "tests/support/log_catcher.h"
#include "tests/support/set_key.h"
#include "tests/support/suite.h"

static struct network network;
static struct link the_link;
static struct monitor monitor;
static struct capture capture;
static struct guest guest;
static struct settings settings;
static struct config config;
static int guest_end;
static int listener; /* the daemon's */
static unsigned descriptors_before;

static void
open_guest(void)
{
	uint8_t frame[60];

	guest_end = guest_open_pair(&guest);
	frame_write(frame, sizeof(frame), 1);
	guest_learn_mac(&guest, frame);
}

static void
set_up(void)
{
	struct error error;

	scratch_enter();
	descriptors_before = open_descriptors();
	open_guest();
	ck_assert_int_eq(link_init(&the_link), 0);
	config_defaults(&config);
	set_key(&config, "network", "endpoint", "unix:sock");
	config.reconnect.min_ms = config.reconnect.max_ms = 20;
	settings_init(&settings, &config);
	monitor_init(&monitor, &the_link, &guest, &settings);
	listener = listening_unix("sock", 5);
	network = (struct network){ .link = &the_link,
		.monitor = &monitor,
		.settings = &settings,
		.capture = &capture };
	private_folder_init(&network.folder);
	ck_assert_int_eq(network_open(&network, &config, &error), 0);
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

TEST(a_new_connection_gets_the_limit_of_a_write)
{
	struct timeval wait;
	socklen_t length = sizeof(wait);
	struct loan loan;
	int client;

	ck_assert_int_eq(network_start(&network), 0);
	client = next_connection();
	ck_assert_int_eq(
	    link_borrow(&the_link, &loan, LINK_WHILE_HELD), LINK_READY);
	ck_assert_int_eq(
	    getsockopt(loan.fd, SOL_SOCKET, SO_SNDTIMEO, &wait, &length), 0);
	ck_assert_int_eq(wait.tv_sec, config.network.write_stall_ms / 2000);
	link_return(&loan);
	close(client);
}

/* ---- reloads ---- */

/* Returns 0 once fwd-link has taken the settings, or -1: refused. */
static int
reload(const char *endpoint, const char *allow, struct error *error)
{
	struct config before = config;
	bool taken = false;

	set_key(&config, "network", "endpoint", endpoint);
	set_key(&config, "network", "allow", allow);
	if (network_reopen(&network, &before, &config, error) < 0) {
		config = before;
		return -1;
	}
	network_publish(&network, &config);
	while (!taken) {
		sched_yield();
		mutex_lock(&network.lock);
		taken = network.mine.version == settings.version;
		mutex_unlock(&network.lock);
	}
	return 0;
}

static void
expect_reload(const char *endpoint, const char *allow)
{
	struct error error;

	ck_assert_int_eq(reload(endpoint, allow, &error), 0);
}

TEST(fwd_link_gets_every_setting, .count = 2)
{
	const struct fwd_link_settings *given = &network.fwd_link.settings;

	config.reconnect.min_ms = 7;
	config.reconnect.max_ms = 77;
	config.reconnect.jitter_percent = 17;
	config.reconnect.watch = _i;
	config.network.user = 4711;
	settings_publish(&settings, &config);
	ck_assert_int_eq(network_start(&network), 0);
	ck_assert_int_eq(given->timing.min_ms, 7);
	ck_assert_int_eq(given->timing.max_ms, 77);
	ck_assert_uint_eq(given->timing.jitter_percent, 17);
	ck_assert_int_eq(given->watch, _i);
	ck_assert_uint_eq(given->user, 4711);
	ck_assert_str_eq(given->endpoint.path, "sock");
}

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
	return !network.fwd_link.hooks.refusal(&network, client);
}

TEST(without_a_list_only_this_host_may_connect)
{
	ck_assert_int_eq(network_start(&network), 0);
	expect_reload("unix:sock", "10.0.0.0/8, fd00::/8");
	ck_assert(admits("10.1.2.3"));
	ck_assert(admits("fd00::1"));
	ck_assert(!admits("127.0.0.1"));
	expect_reload("unix:sock", "");
	ck_assert(!admits("10.1.2.3"));
	ck_assert(!admits("fd00::1"));
	ck_assert(admits("127.0.0.1"));
	ck_assert(admits("::1"));
	ck_assert(admits("::ffff:127.0.0.1"));
	ck_assert(!admits("::2"));
}

TEST(listening_on_loopback_causes_a_warning_at_start_and_on_reload, .count = 2)
{
	char port[6], endpoint[32], warning[96];
	struct error error;

	free_port(port);
	snprintf(endpoint, sizeof(endpoint), "listen-tcp:127.0.0.1:%s", port);
	snprintf(warning, sizeof(warning),
	    "warn link: every local user can connect endpoint=%s", endpoint);
	if (_i == 0) {
		set_key(&config, "network", "endpoint", endpoint);
		settings_publish(&settings, &config);
		ck_assert_int_eq(network_open(&network, &config, &error), 0);
	}
	ck_assert_int_eq(network_start(&network), 0);
	ck_assert_uint_eq(log_count(warning), _i == 0);
	expect_reload(endpoint, "");
	expect_reload(endpoint, "127.0.0.1");
	ck_assert_uint_eq(log_count(warning), 1);
	expect_reload("listen-unix:door", "");
	expect_reload("unix:sock", "");
	ck_assert_uint_eq(log_count(warning), 1);
}

/* Closing our own listener first could leave us with none. */
TEST(a_reload_that_cannot_listen_changes_nothing_and_gives_a_hint)
{
	char port[6], near[32], all[32], other[32];
	int taken = listening_tcp(AF_INET, 5, port);
	struct error error;

	ck_assert_int_eq(network_start(&network), 0);
	snprintf(other, sizeof(other), "listen-tcp:127.0.0.1:%s", port);
	free_port(port);
	snprintf(near, sizeof(near), "listen-tcp:127.0.0.1:%s", port);
	snprintf(all, sizeof(all), "listen-tcp:0.0.0.0:%s", port);
	expect_reload(near, "");
	ck_assert_int_eq(reload(other, "", &error), -1);
	ck_assert_ptr_null(strstr(error.text, "restart"));
	ck_assert_int_eq(reload(all, "10.0.0.0/8", &error), -1);
	ck_assert_ptr_nonnull(strstr(error.text, "restart"));
	ck_assert(admits("127.0.0.1"));
	mutex_lock(&network.lock);
	ck_assert_str_eq(network.mine.config.network.endpoint.text, near);
	mutex_unlock(&network.lock);
	close(taken);
}

/* fwd-link may skip some of them. */
TEST(after_several_quick_reloads_the_last_listener_stays)
{
	struct config before = config;
	struct error error;
	int client;

	ck_assert_int_eq(network_start(&network), 0);
	for (int i = 0; i < 40; i++) {
		before = config;
		set_key(&config, "network", "endpoint",
		    i % 2 ? "listen-unix:door1" : "listen-unix:door0");
		ck_assert_int_eq(
		    network_reopen(&network, &before, &config, &error), 0);
		network_publish(&network, &config);
	}
	ck_assert_int_ne(access("door0", F_OK), 0);
	client = connected_unix(SOCK_STREAM, "door1");
	expect_announcement(client);
	close(client);
}
