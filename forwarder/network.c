#include "forwarder/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "framing/framing.h"
#include "keepalive/probe.h"
#include "reconnect/listen.h"

/* What comes in floods is counted, and told once in a while. */
static struct log_limit lost_limit = { .burst = 20 };
static struct log_limit up_limit = { .burst = 20 };
static struct log_limit unproven_limit = { .burst = 20 };
static struct log_limit refused_limit = { .burst = 5 };

static void
log_lost(const struct link_event *event)
{
	char up[TEXT_DURATION_BYTES];

	log_limited(&lost_limit, LOG_LEVEL_WARN, LOG_LINK,
	    "lost reason=\"%s\" generation=%llu up=%s", event->reason,
	    (unsigned long long)event->generation,
	    text_duration(up, event->up_ms));
}

static void
log_up(const char *endpoint, const struct link_event *event)
{
	char outage[TEXT_DURATION_BYTES];

	log_limited(&up_limit, LOG_LEVEL_INFO, LOG_LINK,
	    "up endpoint=%s generation=%llu outage=%s dials=%u", endpoint,
	    (unsigned long long)event->generation,
	    text_duration(outage, event->outage_ms), event->dials);
}

/* Expected, so said to those who debug; but whoever has just started the
 * forwarder wants to know what it waits for. */
static void
log_failed(const char *endpoint, const struct link_event *event)
{
	bool first = event->generation == 0 && event->dials == 1;

	log_line(first ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, LOG_LINK,
	    "%s endpoint=%s error=\"%s\"",
	    first ? "waiting for the daemon" : "dial failed", endpoint,
	    event->reason);
}

/* A daemon that accepts and then dies. The first one of an outage was logged as
 * up, and so was one that had settled; the others are like failed dials. */
static void
log_unproven(const struct link_event *event)
{
	static const char what[] =
	    "closed before any sign of life reason=\"%s\" generation=%llu";
	enum log_level level =
	    event->settled ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;

	log_limited(&unproven_limit, event->again ? level : LOG_LEVEL_WARN,
	    LOG_LINK, what, event->reason,
	    (unsigned long long)event->generation);
}

/* What a person may look at when a dial goes on failing. */
static const char *
hint(int error)
{
	switch (error) {
	case ENOENT:
		return "no such file: is the daemon running, is the path "
		       "right?";
	case ECONNREFUSED:
		return "nobody listens there, or it is no socket: is the "
		       "daemon running?";
	case EACCES:
		return "may this user connect to that socket?";
	case EPERM:
		return "others may write to its folder: use a private one, or "
		       "set network.user";
	case EAGAIN:
		return "is the daemon frozen?";
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return "is the host up, and its name right?";
	default:
		return "is the daemon running, is the endpoint right?";
	}
}

static void
log_long_outage(const char *endpoint, const struct link_event *event)
{
	char outage[TEXT_DURATION_BYTES];

	text_duration(outage, event->outage_ms);
	if (strncmp(endpoint, "listen-", 7) == 0)
		log_line(LOG_LEVEL_WARN, LOG_LINK,
		    "still down endpoint=%s outage=%s hint=\"nobody has "
		    "connected: is the other side running?\"",
		    endpoint, outage);
	else
		log_line(LOG_LEVEL_WARN, LOG_LINK,
		    "still down endpoint=%s outage=%s dials=%u error=\"%s\" "
		    "hint=\"%s\"",
		    endpoint, outage, event->dials, event->reason,
		    hint(event->error));
}

static void
address_text(const struct sockaddr *who, char *text, socklen_t room)
{
	const void *address =
	    who->sa_family == AF_INET
		? (const void *)&((const struct sockaddr_in *)who)->sin_addr
		: (const void *)&((const struct sockaddr_in6 *)who)->sin6_addr;

	if (!inet_ntop(who->sa_family, address, text, room))
		snprintf(text, room, "?");
}

static void
log_refused_client(const struct sockaddr *client, const char *reason)
{
	char text[INET6_ADDRSTRLEN];

	address_text(client, text, sizeof(text));
	log_limited(&refused_limit, LOG_LEVEL_WARN, LOG_LINK,
	    "client refused address=%s reason=\"%s\"", text, reason);
}

static void
log_unwatched(const char *endpoint, const struct link_event *event)
{
	const char *advice = file_watch_advice(event->error);

	log_line(LOG_LEVEL_WARN, LOG_LINK,
	    "can't watch for the daemon's socket, relying on backoff alone "
	    "endpoint=%s error=\"%s\"%s%s%s",
	    endpoint, event->reason, *advice ? " (" : "", advice,
	    *advice ? ")" : "");
}

static void
log_event(const char *endpoint, const struct link_event *event)
{
	switch (event->kind) {
	case LINK_EVENT_DIAL_FAILED:
		log_failed(endpoint, event);
		break;
	case LINK_EVENT_UP:
		/* After an unproven one, `up` is logged once this has settled. */
		if (event->again)
			log_line(LOG_LEVEL_DEBUG, LOG_LINK,
			    "connected endpoint=%s generation=%llu", endpoint,
			    (unsigned long long)event->generation);
		else
			log_up(endpoint, event);
		break;
	case LINK_EVENT_SETTLED:
		log_up(endpoint, event);
		break;
	case LINK_EVENT_LONG_OUTAGE:
		log_long_outage(endpoint, event);
		break;
	case LINK_EVENT_LOST:
		log_lost(event);
		break;
	case LINK_EVENT_ACCEPT_FAILED:
		log_limited(&refused_limit, LOG_LEVEL_WARN, LOG_LINK,
		    "can't accept a client endpoint=%s error=\"%s\"", endpoint,
		    event->reason);
		break;
	case LINK_EVENT_CLIENT_REFUSED:
		log_refused_client(event->client, event->reason);
		break;
	case LINK_EVENT_DISTRUSTED:
		log_limited(&refused_limit, LOG_LEVEL_WARN, LOG_LINK,
		    "daemon refused endpoint=%s reason=\"%s\" "
		    "hint=\"others may write to its folder: use a private "
		    "one, or set network.user\"",
		    endpoint, event->reason);
		break;
	case LINK_EVENT_UNWATCHED:
		log_unwatched(endpoint, event);
		break;
	case LINK_EVENT_UNPROVEN:
		log_unproven(event);
		break;
	}
}

static void
on_event(void *context, const struct link_event *event)
{
	struct network *network = context;

	settings_refresh(network->settings, &network->mine);
	log_event(network->mine.config.network.endpoint.text, event);
}

/* Tells the switches behind a new connection where the guest is now, ahead of
 * everything else. Nothing may follow half a frame: then nothing goes out any
 * more, but what the daemon has written is still read. A connection that takes
 * nothing at all is found broken, or full, by fwd-up. */
static void
announce(struct network *network, int fd)
{
	uint8_t message[FRAME_HEADER_BYTES + PROBE_BYTES];
	uint8_t mac[6];
	ssize_t sent;

	if (!network->mine.config.network.announce ||
	    !guest_get_mac(network->guest, mac))
		return;
	frame_put_header(message, PROBE_BYTES);
	probe_announcement(message + FRAME_HEADER_BYTES, mac);
	sent = send(fd, message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent > 0 && sent < (ssize_t)sizeof(message))
		shutdown(fd, SHUT_WR);
}

static void
on_greet(void *context, int fd)
{
	struct network *network = context;

	settings_refresh(network->settings, &network->mine);
	monitor_prepare(network->monitor, fd);
	announce(network, fd);
}

static int64_t
on_tend(void *context, uint64_t generation, int64_t now_ms)
{
	struct network *network = context;

	return monitor_run(network->monitor, generation, now_ms);
}

/* Without a list only this host may connect. No configuration listens elsewhere
 * without one, but during a reload the list is replaced before the listener. */
static bool
on_admit(void *context, const struct sockaddr *client)
{
	struct network *network = context;
	const struct cidr_list *allow = &network->mine.config.network.allow;
	bool listed, admitted;

	if (client->sa_family == AF_UNIX)
		return true;
	settings_refresh(network->settings, &network->mine);
	listed = allow->count > 0;
	admitted = cidr_list_holds(listed ? allow : &cidr_loopback, client);
	if (!admitted)
		log_refused_client(client,
		    listed ? "not in allow" : "no allow, and not loopback");
	return admitted;
}

static bool
on_ask(void *context, uint64_t generation)
{
	struct network *network = context;

	return monitor_ask(network->monitor, generation);
}

static bool
on_alive(void *context, uint64_t generation, int64_t since_ms)
{
	struct network *network = context;

	return monitor_is_alive(network->monitor, generation, since_ms);
}

static struct dialler_settings
wish(struct network *network, const struct config *config)
{
	struct dialler_settings wanted = { .endpoint = config->network.endpoint,
		.min_ms = config->reconnect.min_ms,
		.max_ms = config->reconnect.max_ms,
		.jitter_percent = config->reconnect.jitter_percent,
		.watch = config->reconnect.watch,
		.user = config->network.user, /* -1: none, in both */
		.listen_fd = network->listen_fd };

	network->listen_fd = -1; /* the dialler's from now on */
	return wanted;
}

int
network_open(struct network *network, const struct config *config,
    char why[NETWORK_WHY_BYTES])
{
	const struct endpoint *endpoint = &config->network.endpoint;

	network->listen_fd = -1;
	if (endpoint->listens)
		network->listen_fd = listen_open(
		    endpoint, &network->file, why, NETWORK_WHY_BYTES);
	return endpoint->listens && network->listen_fd < 0 ? -1 : 0;
}

/* A port of this host has no owner and no mode, as a socket's file has. */
static void
warn_of_loopback(const struct endpoint *endpoint)
{
	if (endpoint->kind == ENDPOINT_TCP && endpoint->loopback)
		log_line(LOG_LEVEL_WARN, LOG_LINK,
		    "every local user can connect endpoint=listen-tcp:%s:%s "
		    "hint=\"listen-unix:PATH lets in its owner only; ssh -L "
		    "forwards it as well\"",
		    endpoint->host, endpoint->port);
}

int
network_start(struct network *network, const struct config *config)
{
	struct dialler_settings wanted = wish(network, config);
	struct dialler_hooks hooks = { .context = network,
		.event = on_event,
		.greet = on_greet,
		.tend = on_tend,
		.admit = on_admit,
		.ask = on_ask,
		.alive = on_alive };

	warn_of_loopback(&wanted.endpoint);
	return dialler_start(&network->dialler, network->link, &wanted, &hooks);
}

static bool
share_port(const struct endpoint *a, const struct endpoint *b)
{
	return a->listens && b->listens && a->kind == ENDPOINT_TCP &&
	       b->kind == ENDPOINT_TCP && strcmp(a->port, b->port) == 0;
}

/* The port is in use by our own listener, maybe, as 0.0.0.0:7000 is while
 * 127.0.0.1:7000 is listened on. So that one is closed first, and opened
 * again if the new bind fails. Returns a descriptor, or -1 with the reason in `why`. */
static int
listen_instead(struct network *network, const struct config *before,
    const struct endpoint *old, const struct endpoint *new,
    char why[NETWORK_WHY_BYTES])
{
	struct unix_file none;
	struct dialler_settings again;
	char lost[NETWORK_WHY_BYTES];
	int fd;

	dialler_stop_listening(&network->dialler);
	fd = listen_open(new, &none, why, NETWORK_WHY_BYTES);
	if (fd >= 0)
		return fd;
	network->listen_fd = listen_open(old, &none, lost, sizeof(lost));
	network->deaf = network->listen_fd < 0;
	if (network->deaf)
		log_line(LOG_LEVEL_ERROR, LOG_LINK,
		    "listening no more, until a reload can: %s", lost);
	again = wish(network, before);
	dialler_configure(&network->dialler, &again);
	return -1;
}

/* Another endpoint: its socket is opened before the old one's file goes. */
static int
move(struct network *network, const struct config *before,
    const struct endpoint *endpoint, char why[NETWORK_WHY_BYTES])
{
	struct unix_file file = { 0 };
	const struct endpoint *old = &before->network.endpoint;
	int fd = -1;

	if (endpoint->listens) {
		fd = listen_open(endpoint, &file, why, NETWORK_WHY_BYTES);
		if (fd < 0 && errno == EADDRINUSE && !network->deaf &&
		    share_port(old, endpoint))
			fd =
			    listen_instead(network, before, old, endpoint, why);
		if (fd < 0)
			return -1;
	}
	network->listen_fd = fd;
	network->deaf = false;
	unix_file_remove(&network->file);
	network->file = file;
	return 0;
}

int
network_reopen(struct network *network, const struct config *before,
    const struct config *next, char why[NETWORK_WHY_BYTES])
{
	const struct endpoint *endpoint = &next->network.endpoint;

	if (!network->deaf &&
	    strcmp(before->network.endpoint.text, endpoint->text) == 0)
		return 0;
	if (move(network, before, endpoint, why) < 0)
		return -1;
	warn_of_loopback(endpoint);
	return 0;
}

void
network_wake(struct network *network, const struct config *config)
{
	struct dialler_settings wanted = wish(network, config);

	dialler_configure(&network->dialler, &wanted);
}

int
network_bind_again(struct network *network, const struct config *config,
    char *why, size_t size)
{
	struct dialler_settings wanted;
	struct unix_file file;
	int fd = listen_open(&config->network.endpoint, &file, why, size);

	if (fd < 0)
		return -1;
	network->listen_fd = fd;
	network->file = file;
	wanted = wish(network, config);
	dialler_configure(&network->dialler, &wanted);
	return 0;
}

void
network_remove(struct network *network)
{
	unix_file_remove(&network->file);
}

void
network_stop(struct network *network)
{
	network_remove(network);
	dialler_join(&network->dialler);
}
