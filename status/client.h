/* `forwarder status`: sends a request to a control socket and prints the
 * answer. It is a separate command, so it writes to standard output and
 * standard error, not to the log. */
#ifndef STATUS_CLIENT_H
#define STATUS_CLIENT_H

#include <stdbool.h>

/* Prints the status as `form`: text, json or prometheus. With `watch` it asks
 * again every second, until SIGINT or until the reader of its output exits, and
 * waits for a forwarder that went away. Returns the exit code: 0;
 * EX_UNAVAILABLE (69) if no forwarder answered the first time; EX_OSERR (71) if
 * standard output can't be written. The reason is on standard error. */
int client_status(const char *path, const char *form, bool watch);

#endif
