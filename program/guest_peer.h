/* Whether the guest's socket is closed, where something other than a refused
 * send tells. */
#ifndef PROGRAM_GUEST_PEER_H
#define PROGRAM_GUEST_PEER_H

#include <stdbool.h>

/* Whether the socket that fd is connected to is known to be closed. `deleted`:
 * the watch on its file told that the file no longer exists. */
bool guest_peer_closed(int fd, bool deleted);

#endif
