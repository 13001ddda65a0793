/* The network side: what fwd-link needs from the rest of the program. Opens the
 * endpoint and says who may connect. */
#ifndef FORWARDER_NETWORK_H
#define FORWARDER_NETWORK_H

#include "base/error.h"
#include "base/unix_bind.h"
#include "forwarder/link_log.h"
#include "forwarder/monitor.h"
#include "forwarder/settings.h"
#include "reconnect/fwd_link.h"

struct network {
	struct settings *settings;
	struct link *link;
	struct monitor *monitor;

	struct mutex lock;     /* new settings and their listener go together */
	int listen_fd GUARDED; /* not yet fwd-link's; -1: none is waiting */

	/* main()'s. */
	struct unix_file file; /* of an endpoint that listens */
	int opened_fd;         /* for network_publish(), or -1 */
	bool moves;            /* to another endpoint or listener */

	/* fwd-link's. */
	struct settings_copy mine;
	struct link_log log;
	struct fwd_link fwd_link;
};

/* Opens an endpoint that listens; one that is dialled needs nothing.
 * Returns 0, or -1 with the reason. */
int network_open(
    struct network *network, const struct config *config, struct error *error);

/* Starts fwd-link. Returns 0, or -1 with errno. */
int network_start(struct network *network);

/* Before network_publish(): opens the endpoint if it listens and is another one.
 * Returns 0, or -1 with the reason and nothing changed. */
int network_reopen(struct network *network, const struct config *before,
    const struct config *next, struct error *error);

/* Publishes a checked configuration and has fwd-link take it at once. */
void network_publish(struct network *network, const struct config *config);

/* Listens again at a path whose socket was removed. The client that is connected
 * stays. Returns 0, or -1 with the reason: nothing has changed. */
int network_bind_again(
    struct network *network, const struct config *config, struct error *error);

/* After link_stop(): waits for fwd-link's end, removes the socket's file. */
void network_stop(struct network *network);
void network_unlink_socket(struct network *network);

#endif
