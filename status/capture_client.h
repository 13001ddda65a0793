/* `forwarder capture`: asks a control socket for a capture and copies it to
 * standard output or to a file. What is in it: capture.h. */
#ifndef STATUS_CAPTURE_CLIENT_H
#define STATUS_CAPTURE_CLIENT_H

/* Captures until SIGINT or SIGTERM, until the reader of standard output has
 * exited, or until the forwarder stops. `file` is created, or overwritten, when
 * the forwarder has answered; NULL: standard output. Returns the exit code: 0;
 * EX_USAGE (64) if standard output is a terminal; EX_UNAVAILABLE (69) if no
 * forwarder answers, it refuses, or it stopped during the capture; EX_OSERR (71)
 * if the output can't be written. The reason is on standard error. */
int capture_client(const char *path, const char *file);

#endif
