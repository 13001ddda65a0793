/* The running forwarder: puts the parts together, then waits for signals,
 * serves the control socket and watches over the guest's socket file. */
#ifndef FORWARDER_DAEMON_H
#define FORWARDER_DAEMON_H

#include "config/options.h"

/* Runs until told to stop, until the guest is gone, or until the command has
 * ended. Returns the process's exit status; whatever was opened in the file
 * system is removed again. The process must end then: the copy threads may
 * still be blocked on the guest. */
int daemon_run(const struct options *options, const struct config *config);

#endif
