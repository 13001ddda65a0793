/* The other end of the control socket: `forwarder status`. A command of its
 * own, so it speaks to standard output and standard error, not to the log. */
#ifndef STATUS_CLIENT_H
#define STATUS_CLIENT_H

#include <stdbool.h>

enum client_form { CLIENT_TEXT, CLIENT_JSON, CLIENT_PROMETHEUS };

/* Shows the status of the forwarder whose control socket is at `path`; with
 * `watch` again every second, until SIGINT or until nobody reads it any more.
 * A watch says when the forwarder is gone, and goes on with the next one.
 * Returns the exit code: 0; EX_UNAVAILABLE (69) if no forwarder answers within
 * two seconds, be it stopped or gone, at the first look; EX_OSERR (71) if
 * standard output can't be written. Each but 0 has been told on standard
 * error. */
int client_status(const char *path, enum client_form form, bool watch);

#endif
