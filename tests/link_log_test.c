/* Each test is a transcript: the events that fwd-link reports, and the lines they
 * become. "~" marks a line whose rate is limited. */
#include "forwarder/link_log.h"

#include <arpa/inet.h>

#include "tests/support/log_catcher.h"
#include "tests/support/suite.h"

static struct link_log log_of_link;

static void
aim(const char *text)
{
	struct endpoint endpoint;
	struct error error;

	ck_assert_int_eq(endpoint_parse(&endpoint, text, &error), 0);
	link_log_configure(&log_of_link, &endpoint);
}

static void
set_up(void)
{
	aim("unix:sock");
}

static void
play(const struct link_event *event, const char *line)
{
	char expected[512];
	unsigned limited_before = caught_log.limited;

	caught_log.length = 0;
	caught_log.text[0] = '\0';
	link_log_event(&log_of_link, event);
	snprintf(expected, sizeof(expected), "%s%s", line + (*line == '~'),
	    *line ? "\n" : "");
	ck_assert_str_eq(caught_log.text, expected);
	ck_assert_uint_eq(caught_log.limited - limited_before, *line == '~');
}

static struct link_event
usual(enum link_event_kind kind)
{
	return (struct link_event){ .kind = kind,
		.generation = 3,
		.outage_ms = 12,
		.up_ms = 4000,
		.dials = 2,
		.reason = "peer closed" };
}

/* EVENT(UP, "line", event.dials = 3) */
#define EVENT(name, line, ...)                                                 \
	do {                                                                   \
		struct link_event event = usual(LINK_EVENT_##name);            \
		__VA_ARGS__;                                                   \
		play(&event, line);                                            \
	} while (0)

#define UP "~info link: up endpoint=unix:sock generation=3 outage=12ms dials=2"
#define CONNECTED "debug link: connected endpoint=unix:sock generation=3"
#define CLOSED                                                                 \
	"link: closed before any data was received reason=\"peer closed\" "    \
	"generation=3"

FIXTURE(set_up, NULL)

TEST(a_lost_connection_is_a_warning_and_a_new_one_is_info)
{
	for (int i = 0; i < 2; i++) {
		EVENT(UP, UP, event.proven = true);
		EVENT(SETTLED, "");
		EVENT(LOST,
		    "~warn link: lost reason=\"peer closed\" generation=3 "
		    "up=4s",
		    event.proven = true);
	}
}

/* The first in an outage is a warning; one that had settled is an info line. */
TEST(a_daemon_that_accepts_and_closes_causes_one_warning_per_outage)
{
	EVENT(UP, UP);
	EVENT(LOST, "~warn " CLOSED);
	EVENT(UP, CONNECTED);
	EVENT(LOST, "~debug " CLOSED);
	EVENT(UP, CONNECTED);
	EVENT(SETTLED, UP);
	EVENT(LOST, "~info " CLOSED);
	EVENT(UP, CONNECTED);
	EVENT(SETTLED, UP);
	EVENT(LOST,
	    "~warn link: lost reason=\"peer closed\" generation=3 up=4s",
	    event.proven = true);
	EVENT(UP, UP);
	EVENT(LOST, "~warn " CLOSED);
}

TEST(failed_dials_are_debug_lines_except_the_very_first)
{
	EVENT(DIAL_FAILED,
	    "info link: waiting for the daemon endpoint=unix:sock "
	    "error=\"peer closed\"",
	    event.generation = 0, event.dials = 1);
	EVENT(DIAL_FAILED,
	    "debug link: dial failed endpoint=unix:sock error=\"peer closed\"",
	    event.generation = 0, event.dials = 2);
	EVENT(DIAL_FAILED,
	    "debug link: dial failed endpoint=unix:sock error=\"peer closed\"",
	    event.dials = 1);
}

#define FAILED                                                                 \
	"debug link: dial failed endpoint=unix:sock error=\"peer closed\""
#define HINT                                                                   \
	"other users can write to its folder: use a private one, or set "      \
	"network.user"

TEST(an_untrusted_daemon_is_one_warning_until_something_changes)
{
	for (int i = 0; i < 2; i++) {
		EVENT(DIAL_FAILED,
		    "~warn link: daemon not trusted endpoint=unix:sock "
		    "reason=\"peer closed\" hint=\"" HINT "\"\n" FAILED,
		    event.error = EPERM);
		EVENT(DIAL_FAILED, FAILED, event.error = EPERM);
		if (i == 0)
			EVENT(UP, UP);
	}
	aim("tcp:host:1");
	EVENT(DIAL_FAILED,
	    "debug link: dial failed endpoint=tcp:host:1 "
	    "error=\"peer closed\"",
	    event.error = EPERM);
	EVENT(LONG_OUTAGE,
	    "warn link: still down endpoint=tcp:host:1 outage=12ms dials=2 "
	    "error=\"peer closed\" hint=\"is the daemon running, and the "
	    "endpoint right?\"");
}

TEST(tcp_that_a_sandbox_refuses_is_one_warning_at_once)
{
	const char *failed = "debug link: dial failed endpoint=tcp:host:1 "
			     "error=\"peer closed\"";

	aim("tcp:host:1");
	EVENT(DIAL_FAILED,
	    "~warn link: can't dial endpoint=tcp:host:1 error=\"peer closed\" "
	    "hint=\"this process may not use TCP: as a service, use "
	    "forwarder-tcp@.service\"\n"
	    "debug link: dial failed endpoint=tcp:host:1 "
	    "error=\"peer closed\"",
	    event.error = EAFNOSUPPORT);
	EVENT(DIAL_FAILED, failed, event.error = EAFNOSUPPORT);
}

static const struct {
	int error;
	const char *hint;
} hints[] = {
	{ ENOENT, "and the path right?" },
	{ ECONNREFUSED, "no process listens there" },
	{ EACCES, "may this user connect" },
	{ EPERM, HINT },
	{ EAGAIN, "frozen" },
	{ ETIMEDOUT, "is the host up" },
	{ EHOSTUNREACH, "is the host up" },
	{ ENETUNREACH, "is the host up" },
	{ EAFNOSUPPORT, "forwarder-tcp@.service" },
	{ EPIPE, "and the endpoint right?" },
};

TEST(a_long_outage_is_a_warning_with_the_last_error_and_a_hint,
    .count = LENGTH(hints))
{
	const struct link_event failed = { .kind = LINK_EVENT_DIAL_FAILED,
		.reason = "why",
		.error = hints[_i].error };
	const struct link_event late = { .kind = LINK_EVENT_LONG_OUTAGE,
		.outage_ms = 10000,
		.dials = 9,
		.reason = "why" };
	const struct link_event lost = { .kind = LINK_EVENT_LOST,
		.reason = "why" };

	link_log_event(&log_of_link, &failed);
	link_log_event(&log_of_link, &late);
	ck_assert_uint_eq(
	    log_count("warn link: still down endpoint=unix:sock outage=10s "
		      "dials=9 error=\"why\" hint=\""),
	    1);
	ck_assert_uint_ge(log_count(hints[_i].hint), 1);
	caught_log.length = 0;
	link_log_event(&log_of_link, &lost);
	link_log_event(&log_of_link, &late);
	ck_assert_uint_eq(log_count("and the endpoint right?"), 1);
}

TEST(a_long_wait_for_a_client_names_no_error)
{
	aim("listen-unix:sock");
	EVENT(LONG_OUTAGE,
	    "warn link: still down endpoint=listen-unix:sock outage=12ms "
	    "hint=\"no client has connected: is the other side running?\"");
}

#define UNWATCHED                                                              \
	"warn link: can't watch for the daemon's socket, dialling at "         \
	"intervals only endpoint=unix:sock error=\"Operation not permitted\""

TEST(a_watch_that_fails_is_one_warning_per_outage)
{
	for (int i = 0; i < 2; i++) {
		EVENT(UNWATCHED, UNWATCHED, event.error = EPERM);
		EVENT(UNWATCHED, "", event.error = EPERM);
		EVENT(LOST, "~warn " CLOSED);
		EVENT(UNWATCHED, "", event.error = EPERM);
		EVENT(LOST,
		    "~warn link: lost reason=\"peer closed\" generation=3 "
		    "up=4s",
		    event.proven = true);
	}
	link_log_event(
	    &log_of_link, &(struct link_event){
			      .kind = LINK_EVENT_UNWATCHED, .error = EMFILE });
	ck_assert_uint_eq(log_count(file_watch_advice(EMFILE)), 1);
}

#define NOT_STARTED                                                            \
	" link: can't start the daemon endpoint=exec:x {fd} "                  \
	"reason=\"peer closed\""

TEST(a_daemon_that_does_not_start_is_one_warning_until_one_serves)
{
	aim("exec:x {fd}");
	EVENT(DAEMON_FAILED, "warn" NOT_STARTED);
	EVENT(DAEMON_FAILED, "debug" NOT_STARTED);
	link_log_event(
	    &log_of_link, &(struct link_event){ .kind = LINK_EVENT_UP });
	caught_log.length = 0;
	EVENT(DAEMON_FAILED, "warn" NOT_STARTED);
	EVENT(DAEMON_KILLED,
	    "~warn link: the daemon ignored SIGTERM, sent SIGKILL "
	    "endpoint=exec:x {fd}");
	caught_log.length = 0;
	EVENT(DAEMON_KILLED,
	    "~warn link: can't end the daemon, waiting for its exit "
	    "endpoint=exec:x {fd} error=\"Operation not permitted\" "
	    "hint=\"if it runs as another user, end it yourself\"",
	    event.error = EPERM);
}

#define CANT_ACCEPT                                                            \
	"~warn link: can't accept a client endpoint=unix:sock "                \
	"error=\"Too many open files\""

TEST(a_failed_accept_is_one_warning_until_one_succeeds)
{
	const struct sockaddr_in client = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sockaddr nobody = { .sa_family = AF_UNIX };
	const struct sockaddr_in6 client6 = { .sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };

	EVENT(ACCEPT_FAILED, CANT_ACCEPT, event.error = EMFILE);
	EVENT(ACCEPT_FAILED, "", event.error = EMFILE);
	EVENT(CLIENT_REFUSED,
	    "~warn link: client refused address=127.0.0.1 "
	    "reason=\"peer closed\"",
	    event.client = (const struct sockaddr *)&client);
	EVENT(ACCEPT_FAILED, CANT_ACCEPT, event.error = EMFILE);
	EVENT(UP, UP);
	EVENT(ACCEPT_FAILED, CANT_ACCEPT, event.error = EMFILE);
	EVENT(CLIENT_REFUSED,
	    "~warn link: client refused address=::1 reason=\"peer closed\"",
	    event.client = (const struct sockaddr *)&client6);
	EVENT(CLIENT_REFUSED,
	    "~warn link: client refused address=? reason=\"peer closed\"",
	    event.client = &nobody);
}
