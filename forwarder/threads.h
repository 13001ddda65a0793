/* Starts the two copy threads. */
#ifndef FORWARDER_THREADS_H
#define FORWARDER_THREADS_H

#include "forwarder/copy.h"

/* Detached: blocked on a guest that says nothing, they are ended by the
 * process. Returns 0, or -1 with errno. */
int threads_start(struct copy *copy);

#endif
