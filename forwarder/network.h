/* The network's side: what fwd-link asks of the program. Opens the endpoint,
 * greets new connections, says who may come in, tells people what happened. */
#ifndef FORWARDER_NETWORK_H
#define FORWARDER_NETWORK_H

#include "base/unix_bind.h"
#include "forwarder/monitor.h"
#include "forwarder/settings.h"
#include "reconnect/dialler.h"

#define NETWORK_WHY_BYTES 256

struct network {
	struct settings *settings;
	struct settings_copy mine; /* fwd-link's */

	struct unix_file file; /* of an endpoint that listens; main()'s */
	int listen_fd;         /* opened, and not yet the dialler's; else -1 */
	bool deaf;             /* its listener was lost in a reload */
	struct dialler dialler;
	struct link *link;
	struct monitor *monitor;
	struct guest *guest;
};

/* Opens an endpoint that listens; one that is dialled needs nothing.
 * Returns 0, or -1 with the reason in `why`. */
int network_open(struct network *network, const struct config *config,
    char why[NETWORK_WHY_BYTES]);

/* Starts fwd-link. Returns 0, or -1 with errno. */
int network_start(struct network *network, const struct config *config);

/* Before a configuration is published: opens another endpoint that listens.
 * Returns 0, or -1 with the reason in `why` and nothing changed. */
int network_reopen(struct network *network, const struct config *before,
    const struct config *next, char why[NETWORK_WHY_BYTES]);

/* After that: has fwd-link look at it. */
void network_wake(struct network *network, const struct config *config);

/* An endpoint that listens at a path whose socket was removed: listens there
 * with a new one. The client that is connected stays. Returns 0, or -1 with the
 * reason in `why`: nothing has changed. */
int network_bind_again(struct network *network, const struct config *config,
    char *why, size_t why_size);

/* After link_stop(): waits for fwd-link's end, removes the socket's file. */
void network_stop(struct network *network);
void network_remove(struct network *network);

#endif
