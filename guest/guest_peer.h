/* Whether the guest's socket is closed, where something other than a refused
 * send tells. */
#ifndef GUEST_GUEST_PEER_H
#define GUEST_GUEST_PEER_H

#include <stdbool.h>

/* Whether the socket that fd is connected to is known to be closed. `deleted`:
 * the watch on its file told that the file no longer exists. */
bool guest_peer_closed(int fd, bool deleted);

/* Whether nothing can be received any more: whoever shares the descriptor has
 * shut it down, and recv() returns at once for ever. False where the system
 * doesn't tell. */
bool guest_peer_is_shut(int fd);

#endif
