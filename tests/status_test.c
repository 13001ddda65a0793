#include "status/status.h"

#include "status/rates.h"
#include "tests/support/suite.h"
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char bytes[STATUS_BYTES];

static struct text
fresh(void)
{
	return text_in(bytes, sizeof(bytes));
}

static void
assert_holds(const char *expected)
{
	ck_assert_msg(
	    strstr(bytes, expected), "%s in %.2000s", expected, bytes);
}

/* Every number another, so that none can stand in another's place. */
static struct status
example(void)
{
	return (struct status){
		.name = "vm1",
		.version = "0.1.0",
		.pid = 4711,
		.uptime_ms = 7500123,
		.guest = { "unixgram:/run/guest.sock", "/run/vm1.sock",
		    "02:54:00:12:34:56" },
		.network = { "unix:/run/socket_vmnet", "up", 4, 3, 431, 12, 9,
		    "Connection refused" },
		.guest_to_network = { 101, 10200, { 11, 12, 13, 14, 15 } },
		.network_to_guest = { 201, 2020202020,
		    { 21, 22, 23, 24, 25, 26 } },
		.keepalive = { "arp", true, 31, 32, 33, 34, 35, 36, 231 },
	};
}

TEST(json_is_the_contract_to_the_letter)
{
	struct status s = example();
	struct text t = fresh();

	status_json(&t, &s);
	ck_assert_str_eq(bytes,
	    "{\"version\":\"0.1.0\",\"name\":\"vm1\",\"pid\":4711,"
	    "\"uptime_ms\":7500123,"
	    "\"guest\":{\"endpoint\":\"unixgram:/run/guest.sock\","
	    "\"peer\":\"/run/vm1.sock\",\"mac\":\"02:54:00:12:34:56\"},"
	    "\"network\":{\"endpoint\":\"unix:/run/socket_vmnet\","
	    "\"state\":\"up\",\"generation\":4,\"outages\":3,\"down_ms\":431,"
	    "\"last_outage_ms\":12,\"dials\":9,"
	    "\"last_error\":\"Connection refused\"},"
	    "\"guest_to_network\":{\"frames\":101,\"bytes\":10200,\"drops\":{"
	    "\"outage\":11,\"oversize\":12,\"runt\":13,\"empty\":14,"
	    "\"guest_restarted\":15}},"
	    "\"network_to_guest\":{\"frames\":201,\"bytes\":2020202020,"
	    "\"drops\":{\"guest_slow\":21,\"guest_absent\":22,\"runt\":23,"
	    "\"empty\":24,\"truncated\":25,\"oversize\":26}},"
	    "\"keepalive\":{\"mode\":\"arp\",\"armed\":true,\"idle_ms\":31,"
	    "\"probes\":32,\"replies\":33,\"answered\":34,\"deaths\":35,"
	    "\"write_stalls\":36,\"rtt_us\":231}}\n");
}

TEST(what_is_not_known_yet_is_empty_or_zero_in_json)
{
	static const struct status nothing;
	struct text t = fresh();

	status_json(&t, &nothing);
	assert_holds("\"peer\":\"\",\"mac\":\"\"}");
	assert_holds("\"armed\":false,\"idle_ms\":0,");
}

static const struct {
	const char *text, *quoted;
} hostile[] = {
	{ "\"quoted\"", "\\\"quoted\\\"" },
	{ "back\\slash", "back\\\\slash" },
	{ "two\nlines", "two\\nlines" },
	{ "\x1b[2J\x7f", "\xef\xbf\xbd[2J\xef\xbf\xbd" },
	{ "cut \xc3", "cut \xef\xbf\xbd" },
	{ "\xc2\x9b", "\xef\xbf\xbd" },
	{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
};

TEST(foreign_bytes_stay_inside_their_quotes, .count = LENGTH(hostile))
{
	struct status s = { 0 };
	char expected[128];
	struct text t = fresh();

	strcpy(s.network.endpoint, hostile[_i].text);
	status_json(&t, &s);
	status_prometheus(&t, &s);
	snprintf(expected, sizeof(expected),
	    "\"network\":{\"endpoint\":\"%s\",\"state\"", hostile[_i].quoted);
	assert_holds(expected);
	snprintf(expected, sizeof(expected), ",network=\"%s\"} 1\n",
	    hostile[_i].quoted);
	assert_holds(expected);
}

TEST(the_largest_status_fits_every_form)
{
	static void (*const forms[])(struct text *, const struct status *) = {
		status_json, status_prometheus, status_text, rates_answer
	};
	struct status s;

	memset(&s, 0xff, sizeof(s));
#define FILL(member) memset(s.member, '\x01', sizeof(s.member) - 1)
#define END(member) s.member[sizeof(s.member) - 1] = '\0'
	FILL(name), FILL(version), FILL(guest.endpoint), FILL(guest.peer),
	    FILL(guest.mac), FILL(network.endpoint), FILL(network.state),
	    FILL(network.last_error), FILL(keepalive.mode);
	END(name), END(version), END(guest.endpoint), END(guest.peer),
	    END(guest.mac), END(network.endpoint), END(network.state),
	    END(network.last_error), END(keepalive.mode);
	s.keepalive.armed = true;
	for (int i = 0; i < LENGTH(forms); i++) {
		struct text t = fresh();

		forms[i](&t, &s);
		text_add(&t, "\n");
		ck_assert(!t.cut);
	}
}

/* Each metric with its samples, of the example. */
static const char *const metrics[] = {
	"# HELP forwarder_info What runs here.\n# TYPE forwarder_info gauge\n"
	"forwarder_info{name=\"vm1\",version=\"0.1.0\","
	"guest=\"unixgram:/run/guest.sock\","
	"network=\"unix:/run/socket_vmnet\"} 1\n# HELP ",
	"# HELP forwarder_up Whether the network connection is up.\n"
	"# TYPE forwarder_up gauge\nforwarder_up{name=\"vm1\"} 1\n# HELP ",
	" counter\nforwarder_outages_total{name=\"vm1\"} 3\n",
	" counter\n"
	"forwarder_frames_total{name=\"vm1\",direction=\"guest_to_network\"} "
	"101\n"
	"forwarder_frames_total{name=\"vm1\",direction=\"network_to_guest\"} "
	"201\n# HELP ",
	" counter\n"
	"forwarder_bytes_total{name=\"vm1\",direction=\"guest_to_network\"} "
	"10200\n"
	"forwarder_bytes_total{name=\"vm1\",direction=\"network_to_guest\"} "
	"2020202020\n# HELP ",
	" counter\nforwarder_drops_total{name=\"vm1\",direction=\"guest_to_"
	"network\",reason=\"outage\"} 11\n",
	"network\",reason=\"oversize\"} 12\n",
	"network\",reason=\"runt\"} 13\n",
	"network\",reason=\"empty\"} 14\n",
	"network\",reason=\"guest_restarted\"} 15\nforwarder_drops_total{",
	"guest\",reason=\"guest_slow\"} 21\n",
	"guest\",reason=\"guest_absent\"} 22\n",
	"guest\",reason=\"runt\"} 23\n",
	"guest\",reason=\"empty\"} 24\n",
	"guest\",reason=\"truncated\"} 25\n",
	"guest\",reason=\"oversize\"} 26\n# HELP ",
	" gauge\nforwarder_uptime_seconds{name=\"vm1\"} 7500.123\n",
	" gauge\nforwarder_generation{name=\"vm1\"} 4\n",
	" counter\nforwarder_down_seconds_total{name=\"vm1\"} 0.431\n",
	" gauge\nforwarder_last_outage_seconds{name=\"vm1\"} 0.012\n",
	" counter\nforwarder_dials_total{name=\"vm1\"} 9\n",
	" gauge\nforwarder_keepalive_armed{name=\"vm1\"} 1\n",
	" gauge\nforwarder_keepalive_idle_seconds{name=\"vm1\"} 0.031\n",
	" counter\nforwarder_keepalive_probes_total{name=\"vm1\"} 32\n",
	" counter\nforwarder_keepalive_replies_total{name=\"vm1\"} 33\n",
	" counter\nforwarder_keepalive_answered_total{name=\"vm1\"} 34\n",
	" counter\nforwarder_keepalive_deaths_total{name=\"vm1\"} 35\n",
	" counter\nforwarder_keepalive_write_stalls_total{name=\"vm1\"} 36\n",
	" gauge\nforwarder_keepalive_rtt_seconds{name=\"vm1\"} 0.000231\n",
};

TEST(prometheus_has_the_promised_metrics_each_described_once)
{
	struct status s = example();
	struct text t = fresh();
	int described = 0;

	status_prometheus(&t, &s);
	for (int i = 0; i < LENGTH(metrics); i++)
		assert_holds(metrics[i]);
	for (const char *at = bytes; (at = strstr(at, "# HELP ")); at++)
		described++;
	ck_assert_int_eq(described, 19);
}

TEST(only_up_is_up_in_prometheus)
{
	static const char *const others[] = { "down", "stopped", "" };

	for (int i = 0; i < LENGTH(others); i++) {
		struct status s = example();
		struct text t = fresh();

		strcpy(s.network.state, others[i]);
		status_prometheus(&t, &s);
		assert_holds("\nforwarder_up{name=\"vm1\"} 0\n");
	}
}

TEST(people_get_what_is_neither_empty_nor_zero)
{
	struct status s = example();
	struct text t = fresh();

	memset(&s.guest_to_network.drops, 0, sizeof(s.guest_to_network.drops));
	strcpy(s.guest.peer, "\x1b[2J\nnetwork");
	s.network.last_error[0] = '\0';
	s.network.last_outage_ms = 0;
	s.keepalive.armed = false;
	status_text(&t, &s);
	ck_assert_str_eq(bytes,
	    "vm1: forwarder 0.1.0, pid 4711, up 2h5m\n"
	    "guest\n"
	    "    endpoint              unixgram:/run/guest.sock\n"
	    "    peer                  \\x1b[2J\\x0anetwork\n"
	    "    mac                   02:54:00:12:34:56\n"
	    "network\n"
	    "    endpoint              unix:/run/socket_vmnet\n"
	    "    state                 up\n"
	    "    generation            4\n"
	    "    outages               3\n"
	    "    down                  431ms\n"
	    "    dials                 9\n"
	    "guest_to_network\n"
	    "    frames                101\n"
	    "    bytes                 10200\n"
	    "network_to_guest\n"
	    "    frames                201\n"
	    "    bytes                 2020202020\n"
	    "    drops.guest_slow      21\n"
	    "    drops.guest_absent    22\n"
	    "    drops.runt            23\n"
	    "    drops.empty           24\n"
	    "    drops.truncated       25\n"
	    "    drops.oversize        26\n"
	    "keepalive\n"
	    "    mode                  arp\n"
	    "    idle                  31ms\n"
	    "    probes                32\n"
	    "    replies               33\n"
	    "    answered              34\n"
	    "    deaths                35\n"
	    "    write_stalls          36\n"
	    "    rtt_us                231\n");
}

TEST(the_log_gets_a_line_a_section)
{
	struct status s = example();
	FILE *file = tmpfile();
	int before = dup(STDERR_FILENO);

	strcpy(s.network.last_error, "no\" state=\"up\\\n");
	dup2(fileno(file), STDERR_FILENO);
	status_log(&s);
	dup2(before, STDERR_FILENO);
	ck_assert_int_gt(pread(fileno(file), bytes, sizeof(bytes) - 1, 0), 0);
	fclose(file);
	assert_holds(" info service: status of guest: "
		     "endpoint=\"unixgram:/run/guest.sock\" "
		     "peer=\"/run/vm1.sock\" mac=\"02:54:00:12:34:56\"\n");
	assert_holds(" last_error=\"no\\\" state=\\\"up\\\\\\n\"\n");
	assert_holds(" info service: status of guest_to_network: frames=101 "
		     "bytes=10200 drops.outage=11 drops.oversize=12 "
		     "drops.runt=13 drops.empty=14 drops.guest_restarted=15\n");
	assert_holds(" info service: status of network_to_guest: frames=201 ");
	assert_holds(" info service: status of keepalive: mode=\"arp\" "
		     "armed=true idle_ms=31 ");
}

TEST(a_watch_gets_the_numbers_it_needs_and_the_network)
{
	struct status s = example();
	struct rates_sample sample;
	struct text t = fresh();

	rates_answer(&t, &s);
	assert_holds(
	    "up 3 4711 7500123 101 10200 65 201 2020202020 141\n"
	    "network\n    endpoint              unix:/run/socket_vmnet\n");
	ck_assert_str_eq(
	    rates_parse(&sample, bytes), strstr(bytes, "network\n"));
	ck_assert_str_eq(sample.state, "up");
	ck_assert_uint_eq(sample.outages, 3);
	ck_assert_uint_eq(sample.pid, 4711);
	ck_assert_uint_eq(sample.uptime_ms, 7500123);
	ck_assert_uint_eq(sample.up[RATES_FRAMES], 101);
	ck_assert_uint_eq(sample.down[RATES_DROPS], 141);
}

TEST(an_answer_without_all_numbers_is_none)
{
	static const char *const broken[] = { "", "\n", "up\n",
		"up 3 4711 7500123 101 10200 65 201 2020202020\nnetwork\n",
		"up 3 4711 7500123 101 10200 65 201 2020202020 x\n",
		"up 3 4711 7500123 101 10200 65 201 2020202020 141" };
	struct rates_sample sample;

	for (int i = 0; i < LENGTH(broken); i++)
		ck_assert_ptr_null(rates_parse(&sample, broken[i]));
}

/* What comes after process 4711, up for 10 s, with 1000 frames. */
static const struct {
	struct rates_sample now;
	const char *rates;
} laters[] = {
	{ { .pid = 4711,
	      .uptime_ms = 10500,
	      .up = { 41000, 61445000, 5 },
	      .down = { 1001, 0, 0 } },
	    "guest->network    80000 frames/s    983.1 Mbit/s     10 dropped/s,"
	    "network->guest        2 frames/s      0.0 Mbit/s      0 "
	    "dropped/s\n" },
	/* counts backwards; no time between */
	{ { .pid = 4711, .uptime_ms = 12000, .up = { 990 } }, "        0 fr" },
	{ { .pid = 4711, .uptime_ms = 10000, .up = { 2000 } }, "        0 fr" },
	/* another process; the same number again; just started */
	{ { .pid = 4712, .uptime_ms = 12000, .up = { 2400 } }, "      200 fr" },
	{ { .pid = 4711, .uptime_ms = 2000, .up = { 3000 } }, "     1500 fr" },
	{ { .pid = 4712, .uptime_ms = 0, .up = { 3000 } }, "        0 fr" },
};

TEST(rates_are_of_one_forwarder, .count = LENGTH(laters))
{
	static const struct rates_sample before = { .pid = 4711,
		.uptime_ms = 10000,
		.up = { 1000 },
		.down = { 1000 } };
	struct text t = fresh();

	rates_add(&t, &before, &laters[_i].now, ",");
	assert_holds(laters[_i].rates);
}
