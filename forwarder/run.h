/* Runs the forwarder: initialises the modules, starts the threads, then handles
 * signals, control requests and removed socket files in a poll() loop. */
#ifndef FORWARDER_RUN_H
#define FORWARDER_RUN_H

#include "base/service.h"
#include "config/options.h"

/* Runs until SIGTERM or SIGINT, until the guest is gone, or until the command
 * has exited. Returns the process's exit status; removes the socket files that
 * it created. The caller must exit the process afterwards, because the copy
 * threads may still be blocked on the guest. */
int forwarder_run(const struct options *options, const struct config *config,
    struct service *service);

#endif
