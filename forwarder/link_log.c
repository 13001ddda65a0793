#include "forwarder/link_log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"

/* Limits for messages that can be frequent. */
static struct log_limit lost_limit = { .burst = 20 };
static struct log_limit up_limit = { .burst = 20 };
static struct log_limit unproven_limit = { .burst = 20 };
static struct log_limit refused_limit = { .burst = 5 };

/* Messages that are logged once, and again only after new settings or this
 * event: */
enum {
	DISTRUSTED = 1,    /* a connection */
	UNWATCHED = 2,     /* the loss of a proven connection */
	NOT_ACCEPTING = 4, /* accept() succeeds */
	FORBIDDEN = 8,     /* a connection */
	NOT_STARTED = 16,  /* a connection */
};

static bool
is_first(struct link_log *log, unsigned what)
{
	bool first = !(log->logged_once & what);

	log->logged_once |= what;
	return first;
}

static void
log_up(struct link_log *log)
{
	char outage[TEXT_DURATION_BYTES];

	log_limited(&up_limit, LOG_LEVEL_INFO, LOG_LINK,
	    "up endpoint=%s generation=%llu outage=%s dials=%u",
	    log->endpoint.text, (unsigned long long)log->up.generation,
	    text_duration(outage, log->up.outage_ms), log->up.dials);
}

static void
on_up(struct link_log *log, const struct link_event *event)
{
	log->up = *event;
	log->logged_once &=
	    ~(unsigned)(DISTRUSTED | NOT_ACCEPTING | FORBIDDEN | NOT_STARTED);
	if (log->state == LINK_LOG_STEADY)
		log_up(log);
	else
		log_line(LOG_LEVEL_DEBUG, LOG_LINK,
		    "connected endpoint=%s generation=%llu", log->endpoint.text,
		    (unsigned long long)event->generation);
}

static void
on_settled(struct link_log *log)
{
	if (log->state != LINK_LOG_FLAPPING)
		return;
	log->state = LINK_LOG_FLAPPING_UP;
	log_up(log);
}

static void
on_lost(struct link_log *log, const struct link_event *event)
{
	char up[TEXT_DURATION_BYTES];

	log->state = LINK_LOG_STEADY;
	log->logged_once &= ~(unsigned)UNWATCHED;
	log_limited(&lost_limit, LOG_LEVEL_WARN, LOG_LINK,
	    "lost reason=\"%s\" generation=%llu up=%s", event->reason,
	    (unsigned long long)event->generation,
	    text_duration(up, event->up_ms));
}

static void
on_unproven(struct link_log *log, const struct link_event *event)
{
	static const enum log_level levels[] = {
		[LINK_LOG_STEADY] = LOG_LEVEL_WARN,
		[LINK_LOG_FLAPPING] = LOG_LEVEL_DEBUG,
		[LINK_LOG_FLAPPING_UP] = LOG_LEVEL_INFO,
	};

	log_limited(&unproven_limit, levels[log->state], LOG_LINK,
	    "closed before any data was received reason=\"%s\" generation=%llu",
	    event->reason, (unsigned long long)event->generation);
	log->state = LINK_LOG_FLAPPING;
}

static bool
is_distrusted(const struct link_log *log)
{
	return log->error == EPERM && log->endpoint.kind != ENDPOINT_TCP;
}

/* Returns what to check while dials fail. */
static const char *
hint(const struct link_log *log)
{
	if (log->endpoint.kind == ENDPOINT_EXEC)
		return "the daemon writes its own messages to this log";
	if (is_distrusted(log))
		return "other users can write to its folder: use a private "
		       "one, or set network.user";
	switch (log->error) {
	case ENOENT:
		return "no such file: is the daemon running, and the path "
		       "right?";
	case ECONNREFUSED:
		return "no process listens there, or it is not a socket: is "
		       "the daemon running?";
	case EACCES:
		return "may this user connect to that socket? (a "
		       "service can't reach /tmp and /home)";
	case EAGAIN:
		return "is the daemon frozen?";
	case EISCONN:
		return "a daemon of this kind serves one client: restart it";
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return "is the host up, its name right, and its address "
		       "allowed by the firewall, and by IPAddressAllow= of the "
		       "service?";
	case EAFNOSUPPORT:
		return "this process may not use TCP: as a service, use "
		       "forwarder-tcp@.service";
	default:
		return "is the daemon running, and the endpoint right?";
	}
}

/* Failed dials are expected in an outage, so they are debug lines. The first
 * one after the start is an info line, to show what the forwarder waits for. */
static void
on_dial_failed(struct link_log *log, const struct link_event *event)
{
	bool first = event->generation == 0 && event->dials == 1;

	log->error = event->error;
	if (is_distrusted(log) && is_first(log, DISTRUSTED))
		log_limited(&refused_limit, LOG_LEVEL_WARN, LOG_LINK,
		    "daemon not trusted endpoint=%s reason=\"%s\" hint=\"%s\"",
		    log->endpoint.text, event->reason, hint(log));
	if (log->error == EAFNOSUPPORT && is_first(log, FORBIDDEN))
		log_limited(&refused_limit, LOG_LEVEL_WARN, LOG_LINK,
		    "can't dial endpoint=%s error=\"%s\" hint=\"%s\"",
		    log->endpoint.text, event->reason, hint(log));
	log_line(first ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, LOG_LINK,
	    "%s endpoint=%s error=\"%s\"",
	    first ? "waiting for the daemon" : "dial failed",
	    log->endpoint.text, event->reason);
}

static void
on_daemon_failed(struct link_log *log, const struct link_event *event)
{
	log_line(is_first(log, NOT_STARTED) ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG,
	    LOG_LINK, "can't start the daemon endpoint=%s reason=\"%s\"",
	    log->endpoint.text, event->reason);
}

/* Until a daemon that can't be killed exits, no other one is started. */
static void
on_daemon_killed(const struct link_log *log, int error)
{
	if (error != 0)
		log_limited(&lost_limit, LOG_LEVEL_WARN, LOG_LINK,
		    "can't end the daemon, waiting for its exit endpoint=%s "
		    "error=\"%s\" hint=\"if it runs as another user, end it "
		    "yourself\"",
		    log->endpoint.text, strerror(error));
	else
		log_limited(&lost_limit, LOG_LEVEL_WARN, LOG_LINK,
		    "the daemon ignored SIGTERM, sent SIGKILL endpoint=%s",
		    log->endpoint.text);
}

static void
on_long_outage(const struct link_log *log, const struct link_event *event)
{
	char outage[TEXT_DURATION_BYTES];

	text_duration(outage, event->outage_ms);
	if (log->endpoint.listens)
		log_line(LOG_LEVEL_WARN, LOG_LINK,
		    "still down endpoint=%s outage=%s hint=\"no client has "
		    "connected: is the other side running?\"",
		    log->endpoint.text, outage);
	else
		log_line(LOG_LEVEL_WARN, LOG_LINK,
		    "still down endpoint=%s outage=%s dials=%u error=\"%s\" "
		    "hint=\"%s\"",
		    log->endpoint.text, outage, event->dials, event->reason,
		    hint(log));
}

static void
on_unwatched(const struct link_log *log, int error)
{
	const char *advice = file_watch_advice(error);

	log_line(LOG_LEVEL_WARN, LOG_LINK,
	    "can't watch for the daemon's socket, dialling at intervals only "
	    "endpoint=%s error=\"%s\"%s%s%s",
	    log->endpoint.text, strerror(error), *advice ? " (" : "", advice,
	    *advice ? ")" : "");
}

static void
on_client_refused(struct link_log *log, const struct link_event *event)
{
	const struct sockaddr *client = event->client;
	const struct sockaddr_in6 *in6 = (const void *)client;
	const struct sockaddr_in *in = (const void *)client;
	const void *address = client->sa_family == AF_INET6
				  ? (const void *)&in6->sin6_addr
				  : (const void *)&in->sin_addr;
	char text[INET6_ADDRSTRLEN];

	log->logged_once &= ~(unsigned)NOT_ACCEPTING;
	log_limited(&refused_limit, LOG_LEVEL_WARN, LOG_LINK,
	    "client refused address=%s reason=\"%s\"",
	    inet_ntop(client->sa_family, address, text, sizeof(text)) ? text
								      : "?",
	    event->reason);
}

void
link_log_configure(struct link_log *log, const struct endpoint *endpoint)
{
	log->endpoint = *endpoint;
	log->logged_once = 0;
}

void
link_log_event(struct link_log *log, const struct link_event *event)
{
	switch (event->kind) {
	case LINK_EVENT_DIAL_FAILED:
		on_dial_failed(log, event);
		break;
	case LINK_EVENT_UP:
		on_up(log, event);
		break;
	case LINK_EVENT_SETTLED:
		on_settled(log);
		break;
	case LINK_EVENT_LOST:
		log->error = 0;
		if (event->proven)
			on_lost(log, event);
		else
			on_unproven(log, event);
		break;
	case LINK_EVENT_LONG_OUTAGE:
		on_long_outage(log, event);
		break;
	case LINK_EVENT_UNWATCHED:
		if (is_first(log, UNWATCHED))
			on_unwatched(log, event->error);
		break;
	case LINK_EVENT_ACCEPT_FAILED:
		if (is_first(log, NOT_ACCEPTING))
			log_limited(&refused_limit, LOG_LEVEL_WARN, LOG_LINK,
			    "can't accept a client endpoint=%s error=\"%s\"",
			    log->endpoint.text, strerror(event->error));
		break;
	case LINK_EVENT_DAEMON_FAILED:
		on_daemon_failed(log, event);
		break;
	case LINK_EVENT_DAEMON_KILLED:
		on_daemon_killed(log, event->error);
		break;
	case LINK_EVENT_CLIENT_REFUSED:
		on_client_refused(log, event);
		break;
	}
}
