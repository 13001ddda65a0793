#include "status/status.h"

#include "base/log.h"
#include "status/render.h"
#include "tests/support/suite.h"
#include <check.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char bytes[STATUS_JSON_BYTES];
static char more[STATUS_JSON_BYTES];

static struct text
in(char *buffer)
{
	return text_in(buffer, STATUS_JSON_BYTES);
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
		    "52:54:00:12:34:56" },
		.network = { "unix:/run/socket_vmnet", "up", 4, 3, 431, 12, 9,
		    "Connection refused" },
		.guest_to_network = { 101, 10200, { 11, 12, 13, 14, 15 } },
		.network_to_guest = { 201, 2020202020,
		    { 21, 22, 23, 24, 25, 26 } },
		.keepalive = { "arp", true, 31, 32, 33, 34, 35, 36, 231 },
	};
}

/* Texts as long as can be, of bytes that take the most room when escaped. */
static struct status
largest(char filling)
{
	struct status s;

	memset(&s, 0xff, sizeof(s));
#define FILL(member)                                                           \
	memset(s.member, filling, sizeof(s.member) - 1),                       \
	    s.member[sizeof(s.member) - 1] = '\0'
	FILL(name);
	FILL(version);
	FILL(guest.endpoint);
	FILL(guest.peer);
	FILL(guest.mac);
	FILL(network.endpoint);
	FILL(network.state);
	FILL(network.last_error);
	FILL(keepalive.mode);
#undef FILL
	s.keepalive.armed = false;
	return s;
}

TEST(json_is_the_contract_to_the_letter)
{
	struct status s = example();
	struct text t = in(bytes);

	status_json(&t, &s);
	ck_assert_str_eq(bytes,
	    "{\"version\":\"0.1.0\",\"name\":\"vm1\",\"pid\":4711,\"uptime_"
	    "ms\":7500123,"
	    "\"guest\":{\"endpoint\":\"unixgram:/run/guest.sock\","
	    "\"peer\":\"/run/vm1.sock\",\"mac\":\"52:54:00:12:34:56\"},"
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
	struct text t = in(bytes);

	status_json(&t, &nothing);
	ck_assert_ptr_nonnull(strstr(bytes, "\"peer\":\"\",\"mac\":\"\"}"));
	ck_assert_ptr_nonnull(strstr(bytes, "\"armed\":false,\"idle_ms\":0,"));
}

static const struct {
	const char *text, *json, *label;
} hostile[] = {
	{ "\"quoted\"", "\\\"quoted\\\"", "\\\"quoted\\\"" },
	{ "back\\slash", "back\\\\slash", "back\\\\slash" },
	{ "two\nlines", "two\\u000alines", "two\\nlines" },
	{ "\x1b[2J\x7f", "\\u001b[2J\\u007f", "\xef\xbf\xbd[2J\xef\xbf\xbd" },
	{ "\xff", "\\ufffd", "\xef\xbf\xbd" },
	{ "cut \xc3", "cut \\ufffd", "cut \xef\xbf\xbd" },
	{ "\xc2\x9b", "\\u009b", "\xef\xbf\xbd" },
	{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
};

TEST(foreign_bytes_stay_inside_their_json_string, .count = LENGTH(hostile))
{
	struct status s = { 0 };
	struct text t = in(bytes);
	char expected[128];

	strcpy(s.guest.peer, hostile[_i].text);
	status_json(&t, &s);
	snprintf(expected, sizeof(expected), "\"peer\":\"%s\",\"mac\"",
	    hostile[_i].json);
	ck_assert_msg(
	    strstr(bytes, expected) != NULL, "%s in %s", expected, bytes);
}

TEST(foreign_bytes_stay_inside_their_label, .count = LENGTH(hostile))
{
	struct status s = { 0 };
	struct text t = in(bytes);
	char expected[128];

	strcpy(s.network.endpoint, hostile[_i].text);
	status_prometheus(&t, &s);
	snprintf(expected, sizeof(expected),
	    "forwarder_info{name=\"\",version=\"\",guest=\"\",network=\"%s\"} "
	    "1\n",
	    hostile[_i].label);
	ck_assert_msg(
	    strstr(bytes, expected) != NULL, "%s in %s", expected, bytes);
}

TEST(foreign_bytes_come_back_as_they_were, .count = LENGTH(hostile))
{
	struct status s = { 0 }, back;
	struct text t = in(bytes);

	strcpy(s.network.last_error, hostile[_i].text);
	status_lines(&t, &s);
	ck_assert(status_parse(&back, bytes));
	ck_assert_str_eq(back.network.last_error, hostile[_i].text);
}

static void
assert_comes_back(const struct status *s)
{
	struct text t = in(bytes), again = in(more);
	struct status back;

	status_lines(&t, s);
	ck_assert(!t.cut);
	ck_assert(status_parse(&back, bytes));
	status_lines(&again, &back);
	ck_assert_str_eq(bytes, more);
	t = in(bytes);
	again = in(more);
	status_json(&t, s);
	status_json(&again, &back);
	ck_assert_str_eq(bytes, more);
}

TEST(what_is_said_on_the_control_socket_comes_back_equal)
{
	struct status s = example();
	struct status large = largest('\n');

	assert_comes_back(&s);
	assert_comes_back(&large);
}

TEST(the_largest_status_fits_every_form)
{
	static const char fillings[] = { 'x', '\n', '\\', '\x01', '\xff' };

	for (size_t i = 0; i < sizeof(fillings); i++) {
		struct status s = largest(fillings[i]);
		static const struct status start;
		static char buffer[RENDER_BYTES];
		struct text t = text_in(buffer, STATUS_LINES_BYTES);

		status_lines(&t, &s);
		ck_assert(!t.cut);
		t = text_in(buffer, STATUS_JSON_BYTES);
		status_json(&t, &s);
		ck_assert(!t.cut);
		t = text_in(buffer, STATUS_PROMETHEUS_BYTES);
		status_prometheus(&t, &s);
		ck_assert(!t.cut);
		t = text_in(buffer, RENDER_BYTES);
		render_status(&t, &s);
		render_table(&t, &start, &s);
		render_line(&t, &start, &s);
		ck_assert(!t.cut);
	}
}

TEST(another_version_is_understood_as_far_as_possible)
{
	struct status s;

	ck_assert(status_parse(&s,
	    "version=9.0\nguest.colour=blue\nnetwork=\nnonsense\n=\n"
	    "network.generation=12\nkeepalive.armed=true\n\n"));
	ck_assert_str_eq(s.version, "9.0");
	ck_assert_uint_eq(s.network.generation, 12);
	ck_assert(s.keepalive.armed);
	ck_assert_uint_eq(s.pid, 0);
}

TEST(values_that_make_no_sense_read_as_nothing)
{
	struct status s;

	ck_assert(status_parse(&s,
	    "pid=-1\nuptime_ms=18446744073709551616\nnetwork.dials=0x10\n"
	    "guest_to_network.frames=99999999999999999999\n"
	    "network.outages=18446744073709551615\nkeepalive.armed=yes\n\n"));
	ck_assert_uint_eq(s.pid, 0);
	ck_assert_uint_eq(s.uptime_ms, 0);
	ck_assert_uint_eq(s.guest_to_network.frames, 0);
	ck_assert_uint_eq(s.network.dials, 0);
	ck_assert_uint_eq(s.network.outages, UINT64_MAX);
	ck_assert(!s.keepalive.armed);
}

TEST(a_text_too_long_is_cut)
{
	char lines[1024] = "guest.mac=";
	struct status s;

	memset(lines + strlen(lines), 'x', 900);
	strcat(lines, "\npid=7\n\n");
	ck_assert(status_parse(&s, lines));
	ck_assert_uint_eq(strlen(s.guest.mac), sizeof(s.guest.mac) - 1);
	ck_assert_uint_eq(s.pid, 7);
}

TEST(an_answer_that_broke_off_is_not_taken_for_a_whole_one)
{
	struct status s = example(), back;
	struct text t = in(bytes);

	status_lines(&t, &s);
	for (size_t n = 0; n < t.length; n++) {
		char *start = malloc(n + 1);

		memcpy(start, bytes, n);
		start[n] = '\0';
		ck_assert(!status_parse(&back, start));
		free(start);
	}
}

TEST(no_garbage_upsets_the_reader_of_answers)
{
	static const char alphabet[] =
	    "pid=\n\\nguest.mac=\nkeepalive.armed=true\n\xff\x01";
	struct status s;
	uint32_t random = 1;

	for (int round = 0; round < 5000; round++) {
		char *lines = calloc(1, 65);

		for (int i = 0; i < 64; i++) {
			random = random * 1664525 + 1013904223;
			lines[i] =
			    alphabet[(random >> 16) % (sizeof(alphabet) - 1)];
		}
		status_parse(&s, lines);
		ck_assert_uint_lt(strlen(s.guest.mac), sizeof(s.guest.mac));
		free(lines);
	}
}

TEST(prometheus_text_is_well_formed)
{
	static const char pattern[] =
	    "^(# HELP forwarder_[a-z_]+ [A-Z][A-Za-z ,]+[.]"
	    "|# TYPE forwarder_[a-z_]+ (counter|gauge)"
	    "|forwarder_[a-z_]+[{]name=\"vm1\"(,[a-z]+=\"[^\"]*\")*[}]"
	    " [0-9]+([.][0-9]+)?)$";
	struct status s = example();
	struct text t = in(bytes);
	regex_t regex;

	ck_assert_int_eq(regcomp(&regex, pattern, REG_EXTENDED), 0);
	status_prometheus(&t, &s);
	ck_assert_int_eq(bytes[t.length - 1], '\n');
	for (char *line = strtok(bytes, "\n"); line != NULL;
	     line = strtok(NULL, "\n"))
		ck_assert_msg(
		    regexec(&regex, line, 0, NULL, 0) == 0, "%s", line);
	regfree(&regex);
}

/* The samples of a metric stand together, below its one description. */
TEST(every_metric_is_described_once_and_stands_together)
{
	struct status s = example();
	struct text t = in(bytes), copy = in(more);
	char metric[128] = "", name[128];

	status_prometheus(&t, &s);
	status_prometheus(&copy, &s);
	for (char *line = strtok(bytes, "\n"); line != NULL;
	     line = strtok(NULL, "\n")) {
		if (sscanf(line, "# HELP %127s", name) == 1) {
			char *here = strstr(more, line);

			ck_assert_ptr_null(strstr(here + 1, line));
			strcpy(metric, name);
		} else if (sscanf(line, "# TYPE %127s", name) == 1 ||
			   sscanf(line, "%127[a-z_]", name) == 1) {
			ck_assert_str_eq(name, metric);
		}
	}
}

TEST(prometheus_has_the_promised_names)
{
	static const char *const promised[] = {
		"forwarder_info{name=\"vm1\",version=\"0.1.0\","
		"guest=\"unixgram:/run/guest.sock\","
		"network=\"unix:/run/socket_vmnet\"} 1\n",
		"# TYPE forwarder_up gauge\nforwarder_up{name=\"vm1\"} 1\n",
		"# TYPE forwarder_outages_total counter\n"
		"forwarder_outages_total{name=\"vm1\"} 3\n",
		"forwarder_frames_total{name=\"vm1\",direction=\"guest_to_"
		"network\"} 101\n"
		"forwarder_frames_total{name=\"vm1\",direction=\"network_to_"
		"guest\"} 201\n",
		"\nforwarder_drops_total{name=\"vm1\",direction=\"guest_to_"
		"network\","
		"reason=\"outage\"} 11\n",
		"\nforwarder_drops_total{name=\"vm1\",direction=\"network_to_"
		"guest\","
		"reason=\"oversize\"} 26\n",
		"\nforwarder_uptime_seconds{name=\"vm1\"} 7500.123\n",
		"\nforwarder_down_seconds_total{name=\"vm1\"} 0.431\n",
		"\nforwarder_generation{name=\"vm1\"} 4\n",
		"\nforwarder_dials_total{name=\"vm1\"} 9\n",
		"\nforwarder_keepalive_armed{name=\"vm1\"} 1\n",
		"\nforwarder_keepalive_rtt_seconds{name=\"vm1\"} 0.000231\n",
	};
	struct status s = example();
	struct text t = in(bytes);

	status_prometheus(&t, &s);
	for (size_t i = 0; i < sizeof(promised) / sizeof(promised[0]); i++)
		ck_assert_msg(
		    strstr(bytes, promised[i]) != NULL, "%s", promised[i]);
	for (size_t i = 0; i < 2; i++) {
		strcpy(s.network.state, i == 0 ? "down" : "stopped");
		t = in(bytes);
		status_prometheus(&t, &s);
		ck_assert_ptr_nonnull(
		    strstr(bytes, "\nforwarder_up{name=\"vm1\"} 0\n"));
	}
}

TEST(people_get_a_table)
{
	struct status s = example();
	struct text t = in(bytes);

	memset(&s.guest_to_network.drops, 0, sizeof(s.guest_to_network.drops));
	render_status(&t, &s);
	ck_assert_str_eq(bytes,
	    "vm1: forwarder 0.1.0, pid 4711, up 2h5m\n"
	    "\n"
	    "guest      unixgram:/run/guest.sock\n"
	    "           peer /run/vm1.sock\n"
	    "           mac 52:54:00:12:34:56\n"
	    "network    unix:/run/socket_vmnet\n"
	    "           up, generation 4, 9 dials\n"
	    "           3 outages, the last 12ms, down for 431ms in all\n"
	    "           last error: Connection refused\n"
	    "keepalive  arp, armed, 31ms idle\n"
	    "           32 probes, 33 replies, the last after 231 us\n"
	    "           34 probes of the peer answered\n"
	    "           35 deaths, 36 write stalls\n"
	    "\n"
	    "                               frames       bytes  dropped\n"
	    "guest -> network                  101     10.2 kB  0\n"
	    "network -> guest                  201      2.0 GB  "
	    "21 guest_slow, 22 guest_absent, 23 runt, 24 empty, "
	    "25 truncated, 26 oversize\n");
}

TEST(a_guest_cannot_move_the_cursor)
{
	struct status s = example();
	struct text t = in(bytes);

	strcpy(s.guest.peer, "\x1b[2J\nnetwork");
	render_status(&t, &s);
	ck_assert_ptr_nonnull(strstr(bytes, "peer \\x1b[2J\\x0anetwork\n"));
}

/* Half a second later. */
static struct status
later(const struct status *s)
{
	struct status l = *s;

	l.uptime_ms += 500;
	l.guest_to_network.frames += 40000;
	l.guest_to_network.bytes += 61445000;
	l.guest_to_network.drops.outage += 5;
	l.network_to_guest.frames += 1;
	return l;
}

TEST(the_live_table_shows_rates)
{
	struct status s = example(), l = later(&s);
	struct text t = in(bytes);

	render_table(&t, &s, &l);
	ck_assert_str_eq(bytes,
	    "vm1: forwarder 0.1.0, pid 4711, up 2h5m\n"
	    "\n"
	    "network    up, generation 4, 9 dials\n"
	    "           3 outages, the last 12ms, down for 431ms in all\n"
	    "           last error: Connection refused\n"
	    "\n"
	    "                    frames/s      Mbit/s   dropped/s  dropped\n"
	    "guest -> network       80000       983.1          10  "
	    "16 outage, 12 oversize, 13 runt, 14 empty, "
	    "15 guest_restarted\n"
	    "network -> guest           2         0.0           0  "
	    "21 guest_slow, 22 guest_absent, 23 runt, 24 empty, "
	    "25 truncated, 26 oversize\n");
}

TEST(without_a_terminal_rates_are_one_line)
{
	struct status s = example(), l = later(&s);
	struct text t = in(bytes);

	render_line(&t, &s, &l);
	ck_assert_str_eq(bytes,
	    "up outages=3"
	    "  guest->network    80000 frames/s    983.1 Mbit/s"
	    "     10 dropped/s"
	    "  network->guest        2 frames/s      0.0 Mbit/s"
	    "      0 dropped/s\n");
}

static const struct {
	uint64_t pid, uptime_ms; /* after process 4711, 10 s old, 1000 frames */
	uint64_t frames;
	const char *rate;
} anew[] = {
	{ 4711, 12000, 1010, "guest->network        5 frames/s" },
	{ 4711, 12000, 990,
	    "guest->network        0 frames/s" }, /* counts backwards */
	{ 4712, 12000, 2400,
	    "guest->network      200 frames/s" }, /* another one, older */
	{ 4711, 2000, 3000,
	    "guest->network     1500 frames/s" }, /* its number again */
};

TEST(rates_are_of_one_forwarder, .count = LENGTH(anew))
{
	struct status old = { .pid = 4711, .uptime_ms = 10000 }, s = old;
	struct text t = in(bytes);

	old.guest_to_network.frames = 1000;
	s.pid = anew[_i].pid;
	s.uptime_ms = anew[_i].uptime_ms;
	s.guest_to_network.frames = anew[_i].frames;
	render_line(&t, &old, &s);
	ck_assert_msg(strstr(bytes, anew[_i].rate) != NULL, "%s", bytes);
}

TEST(a_forwarder_started_anew_has_no_absurd_rates)
{
	struct status old = example(), s = { .version = "0.1.0", .pid = 4712 };
	struct text t = in(bytes);

	old.guest_to_network.frames = 1000000;
	s.uptime_ms = 2000;
	s.guest_to_network.frames = 10;
	render_line(&t, &old, &s);
	ck_assert_ptr_nonnull(strstr(bytes, "        5 frames/s"));
	s.uptime_ms = 0;
	t = in(bytes);
	render_line(&t, &old, &s);
	ck_assert_ptr_nonnull(strstr(bytes, "        0 frames/s"));
}

TEST(the_log_gets_a_line_a_section)
{
	struct status s = example();
	FILE *file = tmpfile();
	int before = dup(STDERR_FILENO);
	ssize_t n;

	dup2(fileno(file), STDERR_FILENO);
	render_log(&s);
	dup2(before, STDERR_FILENO);
	n = pread(fileno(file), bytes, sizeof(bytes) - 1, 0);
	ck_assert_int_gt(n, 0);
	bytes[n] = '\0';
	ck_assert_ptr_nonnull(strstr(bytes,
	    " info guest: status of guest: "
	    "endpoint=\"unixgram:/run/guest.sock\" peer=\"/run/vm1.sock\" "
	    "mac=\"52:54:00:12:34:56\"\n"));
	ck_assert_ptr_nonnull(strstr(bytes,
	    " info link: status of guest_to_network: frames=101 bytes=10200 "
	    "drops.outage=11 drops.oversize=12 drops.runt=13 "
	    "drops.empty=14 drops.guest_restarted=15\n"));
	ck_assert_ptr_nonnull(strstr(bytes, " armed=true "));
	fclose(file);
}
