#include "forwarder/network.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"

/* ---- hooks, called by fwd-link ---- */

/* Marks in a capture where a generation began or ended. */
static void
capture_link(struct capture *capture, const struct link_event *event)
{
	char message[LINK_REASON_BYTES + 100], duration[TEXT_DURATION_BYTES];

	if (event->kind == LINK_EVENT_UP)
		snprintf(message, sizeof(message),
		    "generation %llu began after an outage of %s",
		    (unsigned long long)event->generation,
		    text_duration(duration, event->outage_ms));
	else
		snprintf(message, sizeof(message),
		    "generation %llu ended after %s: %s",
		    (unsigned long long)event->generation,
		    text_duration(duration, event->up_ms), event->reason);
	capture_event(capture, message);
}

static void
on_event(void *context, const struct link_event *event)
{
	struct network *network = context;

	link_log_event(&network->log, event);
	if (network->changed)
		doorbell_ring(network->changed);
	if (capture_is_on(network->capture) &&
	    (event->kind == LINK_EVENT_UP || event->kind == LINK_EVENT_LOST))
		capture_link(network->capture, event);
}

static bool
on_configure(void *context, struct fwd_link_settings *settings)
{
	struct network *network = context;
	const struct config *config = &network->mine.config;
	bool changed;

	mutex_lock(&network->lock);
	changed = settings_refresh(network->settings, &network->mine);
	if (changed) {
		*settings = (struct fwd_link_settings){
			.endpoint = config->network.endpoint,
			.timing = { .min_ms = config->reconnect.min_ms,
			    .max_ms = config->reconnect.max_ms,
			    .jitter_percent = config->reconnect.jitter_percent,
			    .listens = config->network.endpoint.listens },
			.watch = config->reconnect.watch,
			.user = config->network.user,
			.vfkit = config->network.vfkit,
			.folder = &network->folder,
			.listen_fd = network->listen_fd,
		};
		network->listen_fd = -1;
		link_log_configure(&network->log, &config->network.endpoint);
	}
	mutex_unlock(&network->lock);
	return changed;
}

static void
on_connected(void *context, int fd, bool datagrams)
{
	struct network *network = context;

	monitor_prepare(network->monitor, fd, datagrams);
}

static int64_t
on_keepalive(void *context, uint64_t generation, int64_t now_ms, bool resumed)
{
	struct network *network = context;

	return monitor_run(network->monitor, generation, now_ms, resumed);
}

/* Returns why a client is refused, or NULL. Without [network] allow, only this host
 * may connect. */
static const char *
refusal(void *context, const struct sockaddr *client)
{
	struct network *network = context;
	const struct cidr_list *allow = &network->mine.config.network.allow;
	bool listed = allow->count > 0;

	if (client->sa_family == AF_UNIX ||
	    cidr_list_holds(listed ? allow : &cidr_loopback, client))
		return NULL;
	return listed ? "not in network.allow"
		      : "network.allow is empty, and this is not loopback";
}

static bool
on_probe(void *context, uint64_t generation)
{
	struct network *network = context;

	return monitor_ask(network->monitor, generation);
}

static bool
is_alive(void *context, uint64_t generation, int64_t since_ms)
{
	struct network *network = context;

	return monitor_is_alive(network->monitor, generation, since_ms);
}

/* ---- called by main() ---- */

/* Sets *fd to the listening socket, or to -1 if the endpoint doesn't listen.
 * Returns 0, or -1 with errno and the error set. */
static int
open_listener(const struct endpoint *endpoint, struct unix_file *file, int *fd,
    struct error *error)
{
	*file = (struct unix_file){ 0 };
	*fd = endpoint->listens ? listener_open(endpoint, file, error) : -1;
	return endpoint->listens && *fd < 0 ? -1 : 0;
}

/* Opens what the endpoint needs before fwd-link uses it, so that a failure is
 * reported at once. As open_listener(). */
static int
open_endpoint(struct network *network, const struct endpoint *endpoint,
    struct unix_file *file, int *fd, struct error *error)
{
	char path[PRIVATE_PATH_BYTES];

	if ((endpoint->kind == ENDPOINT_UNIXGRAM || endpoint->has_path) &&
	    private_folder_path(&network->folder, "", path, error) < 0)
		return -1;
	return open_listener(endpoint, file, fd, error);
}

/* A TCP port has no owner or mode that could keep other users out. */
static void
warn_of_loopback(const struct endpoint *endpoint)
{
	if (endpoint->kind == ENDPOINT_TCP && endpoint->loopback)
		log_line(LOG_LEVEL_WARN, LOG_LINK,
		    "every local user can connect endpoint=%s "
		    "hint=\"use listen-unix:PATH, which only its owner can "
		    "connect to; ssh -L can forward it\"",
		    endpoint->text);
}

int
network_open(
    struct network *network, const struct config *config, struct error *error)
{
	int fd;

	network->opened_fd = -1;
	if (open_endpoint(network, &config->network.endpoint, &network->file,
		&fd, error) < 0)
		return -1;
	mutex_init(&network->lock);
	mutex_lock(&network->lock);
	network->listen_fd = fd;
	mutex_unlock(&network->lock);
	return 0;
}

int
network_start(struct network *network)
{
	struct fwd_link_settings settings = { .listen_fd = -1 };
	struct fwd_link_hooks hooks = { .context = network,
		.event = on_event,
		.configure = on_configure,
		.on_connected = on_connected,
		.keepalive = on_keepalive,
		.refusal = refusal,
		.probe = on_probe,
		.alive = is_alive };

	on_configure(network, &settings);
	warn_of_loopback(&settings.endpoint);
	return fwd_link_start(
	    &network->fwd_link, network->link, &settings, &hooks);
}

/* Publishes the settings and the listener together: a mixture of old and new
 * could admit clients that are not allowed. */
void
network_publish(struct network *network, const struct config *config)
{
	int unused = -1; /* an earlier listener that fwd-link did not take */

	mutex_lock(&network->lock);
	settings_publish(network->settings, config);
	if (network->opened_fd >= 0 || !config->network.endpoint.listens) {
		unused = network->listen_fd;
		network->listen_fd = network->opened_fd;
		network->opened_fd = -1;
	}
	mutex_unlock(&network->lock);
	if (unused >= 0)
		close(unused);
	fwd_link_wake(&network->fwd_link);
}

static bool
share_port(const struct endpoint *a, const struct endpoint *b)
{
	return a->listens && b->listens && a->kind == ENDPOINT_TCP &&
	       b->kind == ENDPOINT_TCP && strcmp(a->port, b->port) == 0;
}

int
network_reopen(struct network *network, const struct config *before,
    const struct config *next, struct error *error)
{
	const struct endpoint *old = &before->network.endpoint;
	const struct endpoint *endpoint = &next->network.endpoint;
	struct unix_file file;

	if (endpoint_equals(old, endpoint))
		return 0;
	if (open_endpoint(
		network, endpoint, &file, &network->opened_fd, error) < 0) {
		/* The present listener may hold the port: 0.0.0.0:7000 also
		 * occupies 127.0.0.1:7000. It isn't closed first, because
		 * opening the new one could still fail. */
		if (errno == EADDRINUSE && share_port(old, endpoint))
			error_set(error,
			    "%s:%s: in use, perhaps by this forwarder; restart "
			    "it to change the address but keep the port",
			    endpoint->host, endpoint->port);
		return -1;
	}
	warn_of_loopback(endpoint);
	unix_file_remove(&network->file);
	network->file = file;
	return 0;
}

int
network_bind_again(
    struct network *network, const struct config *config, struct error *error)
{
	struct unix_file file;

	if (open_listener(&config->network.endpoint, &file, &network->opened_fd,
		error) < 0)
		return -1;
	network->file = file;
	network_publish(network, config);
	return 0;
}

void
network_stop(struct network *network)
{
	unix_file_remove(&network->file);
	if (!fwd_link_join(&network->fwd_link))
		return; /* still running; it ends with the process */
	mutex_lock(&network->lock);
	if (network->listen_fd >= 0)
		close(network->listen_fd);
	mutex_unlock(&network->lock);
	mutex_destroy(&network->lock);
}
