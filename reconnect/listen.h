/* The other role: waiting for the network side to come. */
#ifndef RECONNECT_LISTEN_H
#define RECONNECT_LISTEN_H

#include <stddef.h>
#include <sys/socket.h>

#include "base/unix_bind.h"
#include "reconnect/endpoint.h"

/* Listens at the endpoint; a Unix path gets mode 0600 and its file in *file.
 * Returns a non-blocking descriptor, or -1 with errno and the reason in `why`. */
int listen_open(const struct endpoint *endpoint, struct unix_file *file,
    char *why, size_t why_size);

/* Takes a client that waits: blocking, closed on exec, without delay.
 * Returns -1 with errno if there is none after all. */
int listen_accept(int fd, struct sockaddr_storage *client);

#endif
