/* Connects fwd-link to the rest of the program (struct fwd_link_hooks). Opens the
 * listening socket and checks clients against [network] allow. */
#ifndef FORWARDER_NETWORK_H
#define FORWARDER_NETWORK_H

#include "base/error.h"
#include "base/private_folder.h"
#include "base/unix_bind.h"
#include "forwarder/link_log.h"
#include "forwarder/monitor.h"
#include "forwarder/settings.h"
#include "reconnect/fwd_link.h"
#include "status/capture.h"

struct network {
	struct settings *settings;
	struct link *link;
	struct monitor *monitor;
	struct doorbell *changed; /* rung at each event of the link, or NULL */
	struct capture *capture;

	struct mutex lock;     /* settings and listen_fd change together */
	int listen_fd GUARDED; /* for fwd-link to take, or -1 */

	/* Used by main() only: */
	struct unix_file file; /* socket file of a listen-unix endpoint */
	int opened_fd;         /* new listener for network_publish(), or -1 */

	/* for the sockets of fwd-link; initialised by forwarder_run() */
	struct private_folder folder;

	/* Used by fwd-link only: */
	struct settings_copy mine;
	struct link_log log;
	struct fwd_link fwd_link;
};

/* Opens the listening socket if the endpoint listens. Returns 0, or -1 with the
 * reason. */
int network_open(
    struct network *network, const struct config *config, struct error *error);

/* Starts fwd-link. Returns 0, or -1 with errno. */
int network_start(struct network *network);

/* Call before network_publish(): opens the listening socket if the endpoint has
 * changed and listens. Returns 0, or -1 with the reason and nothing changed. */
int network_reopen(struct network *network, const struct config *before,
    const struct config *next, struct error *error);

/* Publishes a checked configuration and the listening socket that was opened for
 * it, if any, and wakes fwd-link. */
void network_publish(struct network *network, const struct config *config);

/* Binds and publishes a new socket at a path whose file was removed. The client
 * stays connected. Returns 0, or -1 with the reason and nothing changed. */
int network_bind_again(
    struct network *network, const struct config *config, struct error *error);

/* Call after link_stop(). Removes the socket's file and waits for fwd-link. */
void network_stop(struct network *network);

#endif
