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

/* All numbers differ, so that swapped ones are noticed. */
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
		    "Connection refused", { 4712, 5, "signal 9" } },
		.guest_to_network = { 101, 10200, 10,
		    { 11, 12, 13, 14, 16, 15 } },
		.network_to_guest = { 201, 2020202020,
		    { 21, 22, 23, 24, 25, 26 } },
		.keepalive = { "arp", true, 31, 32, 33, 34, 35, 36, 231 },
		.history_count = 2,
		.history = { { "2026-11-21T13:00:00.000Z", 12, 41,
				 "peer closed" },
		    { "2026-11-20T13:00:00.000Z", 65000, 42, "reset" } },
	};
}

TEST(json_has_the_documented_form)
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
	    "\"last_error\":\"Connection refused\",\"daemon\":{"
	    "\"pid\":4712,\"starts\":5,\"last_exit\":\"signal 9\"}},"
	    "\"guest_to_network\":{\"frames\":101,\"bytes\":10200,"
	    "\"kept\":10,\"drops\":{\"outage\":11,\"oversize\":12,\"runt\":13,"
	    "\"empty\":14,"
	    "\"truncated\":16,"
	    "\"guest_restarted\":15}},"
	    "\"network_to_guest\":{\"frames\":201,\"bytes\":2020202020,"
	    "\"drops\":{\"guest_slow\":21,\"guest_absent\":22,\"runt\":23,"
	    "\"empty\":24,\"truncated\":25,\"oversize\":26}},"
	    "\"keepalive\":{\"mode\":\"arp\",\"armed\":true,\"idle_ms\":31,"
	    "\"probes\":32,\"replies\":33,\"answered\":34,\"deaths\":35,"
	    "\"write_stalls\":36,\"rtt_us\":231},\"history\":["
	    "{\"began\":\"2026-11-21T13:00:00.000Z\",\"ms\":12,"
	    "\"reason\":\"peer closed\",\"dials\":41},"
	    "{\"began\":\"2026-11-20T13:00:00.000Z\",\"ms\":65000,"
	    "\"reason\":\"reset\",\"dials\":42}]}\n");
}

TEST(what_is_not_known_yet_is_empty_or_zero_in_json)
{
	static const struct status nothing;
	struct text t = fresh();

	status_json(&t, &nothing);
	assert_holds("\"mac\":\"\"},\"network\":{");
	assert_holds("\"armed\":false,\"idle_ms\":0,");
}

static const struct {
	const char *text, *json, *label;
} hostile[] = {
	{ "\"quoted\"", "\\\"quoted\\\"", "\\\"quoted\\\"" },
	{ "back\\slash", "back\\\\slash", "back\\\\slash" },
	{ "two\nlines", "two\\u000alines", "two\\nlines" },
	{ "\x1b[2J\x7f", "\\u001b[2J\\u007f", "\xef\xbf\xbd[2J\xef\xbf\xbd" },
	{ "\xc2\x9b", "\\u009b", "\xef\xbf\xbd" },
	{ "cut \xc3", "cut \xef\xbf\xbd", "cut \xef\xbf\xbd" },
	{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
};

TEST(foreign_bytes_stay_inside_their_quotes, .count = LENGTH(hostile))
{
	struct status s = { .version = "9" };
	char expected[128];
	struct text t = fresh();

	strcpy(s.network.endpoint, hostile[_i].text);
	status_json(&t, &s);
	status_prometheus(&t, &s);
	snprintf(expected, sizeof(expected),
	    "\"network\":{\"endpoint\":\"%s\",\"state\"", hostile[_i].json);
	assert_holds(expected);
	snprintf(expected, sizeof(expected), ",network=\"%s\"} 1\n",
	    hostile[_i].label);
	assert_holds(expected);
}

TEST(the_largest_status_fits_every_form)
{
	static void (*const forms[])(struct text *, const struct status *) = {
		status_json, status_prometheus, status_text
	};
	struct status s;

	memset(&s, 0xff, sizeof(s));
#define FILL(member)                                                           \
	memset(s.member, '\x01', sizeof(s.member)),                            \
	    s.member[sizeof(s.member) - 1] = '\0'
	FILL(name), FILL(version), FILL(guest.endpoint), FILL(guest.peer);
	FILL(guest.mac), FILL(network.endpoint), FILL(network.state);
	FILL(network.last_error), FILL(keepalive.mode);
	s.keepalive.armed = true;
	s.history_count = STATUS_HISTORY;
	for (int i = 0; i < STATUS_HISTORY; i++)
		FILL(history[i].began), FILL(history[i].reason);
	for (int i = 0; i < LENGTH(forms); i++) {
		struct text t = fresh();

		forms[i](&t, &s);
		text_add(&t, "\n");
		ck_assert(!t.cut);
	}
}

/* clang-format off */
#define HEAD(name, type, help)                                                 \
	"# HELP forwarder_" name " " help "\n"                                 \
	"# TYPE forwarder_" name " " type "\n"
#define SAMPLE(name, value) "forwarder_" name "{name=\"vm1\"} " value "\n"
#define COUNTER(name, help, value)                                             \
	HEAD(name, "counter", help) SAMPLE(name, value)
#define GAUGE(name, help, value) HEAD(name, "gauge", help) SAMPLE(name, value)
#define UP(name, value)                                                        \
	"forwarder_" name "{name=\"vm1\",direction=\"guest_to_network\"" value "\n"
#define DOWN(name, value)                                                      \
	"forwarder_" name "{name=\"vm1\",direction=\"network_to_guest\"" value "\n"

static const char metrics[] =
	HEAD("info", "gauge", "Version and endpoints.")
	"forwarder_info{name=\"vm1\",version=\"0.1.0\","
	"guest=\"unixgram:/run/guest.sock\","
	"network=\"unix:/run/socket_vmnet\"} 1\n"
	GAUGE("uptime_seconds", "Time since the forwarder started.", "7500.123")
	GAUGE("up", "Whether the network connection is up.", "1")
	GAUGE("generation", "Number of the latest network connection.", "4")
	COUNTER("outages_total", "Losses of the network.", "3")
	COUNTER("down_seconds_total", "Time without a network connection.",
		"0.431")
	GAUGE("last_outage_seconds", "Length of the last outage.", "0.012")
	COUNTER("dials_total", "Attempts to connect to the network.", "9")
	COUNTER("daemon_starts_total",
		"Starts of the network daemon by the forwarder.", "5")
	HEAD("frames_total", "counter", "Frames forwarded.")
	UP("frames_total", "} 101") DOWN("frames_total", "} 201")
	HEAD("bytes_total", "counter", "Bytes forwarded.")
	UP("bytes_total", "} 10200") DOWN("bytes_total", "} 2020202020")
	HEAD("kept_frames", "gauge", "Frames kept until the network is back.")
	UP("kept_frames", "} 10")
	HEAD("drops_total", "counter", "Frames dropped, by reason.")
	UP("drops_total", ",reason=\"outage\"} 11")
	UP("drops_total", ",reason=\"oversize\"} 12")
	UP("drops_total", ",reason=\"runt\"} 13")
	UP("drops_total", ",reason=\"empty\"} 14")
	UP("drops_total", ",reason=\"truncated\"} 16")
	UP("drops_total", ",reason=\"guest_restarted\"} 15")
	DOWN("drops_total", ",reason=\"guest_slow\"} 21")
	DOWN("drops_total", ",reason=\"guest_absent\"} 22")
	DOWN("drops_total", ",reason=\"runt\"} 23")
	DOWN("drops_total", ",reason=\"empty\"} 24")
	DOWN("drops_total", ",reason=\"truncated\"} 25")
	DOWN("drops_total", ",reason=\"oversize\"} 26")
	GAUGE("keepalive_armed", "Whether the peer has answered a probe.", "1")
	GAUGE("keepalive_idle_seconds",
	      "Time since the last byte from the network.", "0.031")
	COUNTER("keepalive_probes_total", "Probes sent.", "32")
	COUNTER("keepalive_replies_total", "Probes answered by the peer.", "33")
	COUNTER("keepalive_answered_total",
		"Probes of the peer that were answered.", "34")
	COUNTER("keepalive_deaths_total",
		"Connections closed because no probe was answered.", "35")
	COUNTER("keepalive_write_stalls_total",
		"Connections closed because a write made no progress.", "36")
	GAUGE("keepalive_rtt_seconds",
	      "Round-trip time of the last answered probe.", "0.000231");
/* clang-format on */

TEST(prometheus_has_the_promised_metrics)
{
	struct status s = example();
	struct text t = fresh();

	status_prometheus(&t, &s);
	ck_assert_str_eq(bytes, metrics);
}

static const char *const not_up[] = { "down", "stopped", "" };

TEST(only_up_is_up_in_prometheus, .count = LENGTH(not_up))
{
	struct status s = example();
	struct text t = fresh();

	strcpy(s.network.state, not_up[_i]);
	status_prometheus(&t, &s);
	assert_holds("\nforwarder_up{name=\"vm1\"} 0\n");
}

TEST(the_text_form_omits_empty_and_zero_values)
{
	struct status s = example();
	struct text t = fresh();

	memset(&s.guest_to_network.drops, 0, sizeof(s.guest_to_network.drops));
	strcpy(s.guest.peer, "\x1b[2J\nnetwork");
	s.network.last_error[0] = '\0';
	s.network.last_outage_ms = 0;
	s.keepalive.armed = false;
	strcpy(s.history[1].reason, "\x1breset");
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
	    "    daemon.pid            4712\n"
	    "    daemon.starts         5\n"
	    "    daemon.last_exit      signal 9\n"
	    "guest_to_network\n"
	    "    frames                101\n"
	    "    bytes                 10200\n"
	    "    kept                  10\n"
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
	    "    rtt_us                231\n"
	    "last outages\n"
	    "    began                     length    dials  reason\n"
	    "    2026-11-21T13:00:00.000Z  12ms         41  peer closed\n"
	    "    2026-11-20T13:00:00.000Z  1m5s         42  \\x1breset\n");
}

TEST(the_log_gets_one_line_per_section)
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
	assert_holds(" last_error=\"no\\\" state=\\\"up\\\\\\u000a\" "
		     "daemon.pid=4712 ");
	assert_holds(" info service: status of guest_to_network: frames=101 "
		     "bytes=10200 kept=10 drops.outage=11 drops.oversize=12 "
		     "drops.runt=13 drops.empty=14 "
		     "drops.truncated=16 drops.guest_restarted=15\n");
	assert_holds(" info service: status of network_to_guest: frames=201 ");
	assert_holds(" info service: status of keepalive: mode=\"arp\" "
		     "armed=true idle_ms=31 ");
}

TEST(the_text_form_has_the_last_five_outages)
{
	struct status s = example();
	struct text t = fresh();

	s.history_count = 6;
	strcpy(s.history[4].reason, "fifth");
	strcpy(s.history[5].reason, "sixth");
	status_text(&t, &s);
	assert_holds("  fifth\n");
	ck_assert_ptr_null(strstr(bytes, "sixth"));
}

/* --- several ----------------------------------------------------------------- */

/* The format wants the samples of a metric together, and none twice. */
TEST(the_metrics_of_several_are_grouped)
{
	struct status first = example(), second = example();
	static const struct status silent = { .name = "vm3" };
	const struct status *const all[] = { &first, &second, &silent };
	struct text t = fresh();

	strcpy(second.name, "vm2");
	strcpy(second.network.state, "down");
	status_prometheus_all(&t, all, 3);
	assert_holds("# TYPE forwarder_up gauge\n"
		     "forwarder_up{name=\"vm1\"} 1\n"
		     "forwarder_up{name=\"vm2\"} 0\n"
		     "forwarder_up{name=\"vm3\"} 0\n# HELP");
	assert_holds("# TYPE forwarder_dials_total counter\n"
		     "forwarder_dials_total{name=\"vm1\"} 9\n"
		     "forwarder_dials_total{name=\"vm2\"} 9\n# HELP");
	assert_holds("# TYPE forwarder_info gauge\n"
		     "forwarder_info{name=\"vm1\",version=\"0.1.0\"");
	ck_assert_ptr_null(strstr(strstr(bytes, "\"vm3\"") + 2, "vm3"));
}

/* --- parsing ----------------------------------------------------------------- */

static struct status parsed;

/* Renders a status as JSON and reads it. */
static void
read_back(const struct status *s)
{
	struct text t = fresh();

	status_json(&t, s);
	ck_assert(status_parse(&parsed, bytes));
}

static void
assert_same_json(const struct status *a, const struct status *b)
{
	static char other[STATUS_BYTES];
	struct text t = fresh(), u = text_in(other, sizeof(other));

	status_json(&t, a);
	status_json(&u, b);
	ck_assert_str_eq(bytes, other);
}

TEST(what_is_written_as_json_is_read_back)
{
	struct status s = example();

	read_back(&s);
	assert_same_json(&s, &parsed);
	s.history_count = 0;
	read_back(&s);
	assert_same_json(&s, &parsed);
	s.history_count = STATUS_HISTORY;
	read_back(&s);
	assert_same_json(&s, &parsed);
}

TEST(foreign_bytes_are_read_back, .count = LENGTH(hostile))
{
	struct status s = example();

	strcpy(s.network.last_error, hostile[_i].text);
	read_back(&s);
	assert_same_json(&s, &parsed);
}

#define NAMED "\"version\":\"9\",\"name\":\"vm1\","
#define STATE "\"network\":{\"state\":\"up\"}"

TEST(members_of_other_versions_are_skipped_or_stay_empty)
{
	ck_assert(status_parse(&parsed,
	    "{" NAMED "\"new\":{\"a\":[1,-2.5e+3,[{\"name\":\"x\"}],\"y\"],"
	    "\"b\":null,\"c\":{},\"d\":[]},\"pid\":7," STATE
	    ",\"history\":[{\"new\":true,\"ms\":5}]}\n"));
	ck_assert_str_eq(parsed.name, "vm1");
	ck_assert_uint_eq(parsed.pid, 7);
	ck_assert(status_is_up(&parsed));
	ck_assert_str_eq(parsed.guest.mac, "");
	ck_assert_uint_eq(parsed.history_count, 1);
	ck_assert_uint_eq(parsed.history[0].ms, 5);
}

#define X32 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const char *const wrong[] = {
	"",
	"\n",
	"{}\n",
	"[]\n",
	"{" NAMED STATE "}",
	"{" NAMED STATE "}\n\n",
	"{" NAMED STATE "}\nforwarder_up 1\n",
	"{" NAMED STATE "\n",
	"{" NAMED STATE ",}\n",
	"{ " NAMED STATE "}\n",
	"{" STATE "}\n",
	"{" NAMED "\"network\":{\"state\":\"\"}}\n",
	"{" NAMED "\"network\":{\"state\":\"up",
	"{" NAMED "\"network\":{\"state\":\"\\",
	"{" NAMED "\"network\":{\"state\":\"u\np\"}}\n",
	"{" NAMED "\"network\":{\"state\":\"u\\np\"}}\n",
	"{" NAMED "\"network\":{\"state\":\"u\x9bp\"}}\n",
	"{" NAMED "\"network\":{\"state\":\"u\\u0000p\"}}\n",
	"{" NAMED "\"network\":{\"state\":\"u\\u00",
	"{" NAMED "\"network\":{\"state\":\"u\\u00gg\"}}\n",
	"{" NAMED "\"network\":{\"state\":\"u\\u0800\"}}\n",
	"{" NAMED "\"network\":{\"state\":1}}\n",
	"{" NAMED "\"network\":{\"state\":true}}\n",
	"{" NAMED "\"network\":{\"state\":\"" X32 "\"}}\n",
	"{\"version\":\"9\",\"name\":\"" X32 X32 "\"," STATE "}\n",
	"{\"version\":\"9\",\"name\":\"\\u0001\"," STATE "}\n",
	"{\"version\":\"9\",\"name\":\"\xe2\x80\xae\"," STATE "}\n",
	"{" NAMED "\"pid\":-1," STATE "}\n",
	"{" NAMED "\"pid\":1.5," STATE "}\n",
	"{" NAMED "\"pid\":\"1\"," STATE "}\n",
	"{" NAMED "\"pid\":18446744073709551616," STATE "}\n",
	"{" NAMED "\"pid\":," STATE "}\n",
	"{" NAMED "\"keepalive\":{\"armed\":1}," STATE "}\n",
	"{" NAMED "\"keepalive\":{\"armed\":null}," STATE "}\n",
	"{" NAMED STATE ",\"x\":[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]}\n",
};

TEST(json_that_is_not_a_status_is_refused, .count = LENGTH(wrong))
{
	ck_assert(!status_parse(&parsed, wrong[_i]));
}

TEST(no_part_of_a_status_is_a_status)
{
	struct status s = example();
	struct text t = fresh();

	status_json(&t, &s);
	while (t.length > 0) {
		bytes[--t.length] = '\0';
		ck_assert(!status_parse(&parsed, bytes));
	}
}

TEST(a_history_that_is_too_long_is_refused)
{
	struct text t = fresh();

	text_add(&t, "{" NAMED STATE ",\"history\":[{}");
	for (int i = 0; i < STATUS_HISTORY; i++)
		text_add(&t, ",{}");
	text_add(&t, "]}\n");
	ck_assert(!status_parse(&parsed, bytes));
}

/* --- rates ------------------------------------------------------------------- */

TEST(a_sample_has_the_sums_of_a_status)
{
	static const status_number up[] = { 101, 10200, 81 };
	static const status_number down[] = { 201, 2020202020, 141 };
	struct status s = example();
	struct rates_sample sample = rates_sample(&s);

	ck_assert_uint_eq(sample.pid, 4711);
	ck_assert_uint_eq(sample.uptime_ms, 7500123);
	for (int i = 0; i < RATES_COUNTERS; i++) {
		ck_assert_uint_eq(sample.up[i], up[i]);
		ck_assert_uint_eq(sample.down[i], down[i]);
	}
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

TEST(rates_are_computed_only_within_one_process, .count = LENGTH(laters))
{
	static const struct rates_sample before = { .pid = 4711,
		.uptime_ms = 10000,
		.up = { 1000 },
		.down = { 1000 } };
	struct text t = fresh();

	rates_add(&t, &before, &laters[_i].now, ",");
	assert_holds(laters[_i].rates);
}
