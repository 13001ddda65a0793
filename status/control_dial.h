/* Connecting to control sockets, for the commands that ask there. */
#ifndef STATUS_CONTROL_DIAL_H
#define STATUS_CONTROL_DIAL_H

#include "base/error.h"

/* A busy forwarder answers in microseconds; only a stopped one takes longer. */
#define CONTROL_REPLY_SECONDS 2

/* Returns a connected socket, or -1 with errno. This call, and each send() and
 * recv() on the socket, takes at most CONTROL_REPLY_SECONDS. (A full backlog
 * blocks connect() on Linux; SO_SNDTIMEO limits that.) */
int control_dial(const char *path);

/* The same without blocking: EAGAIN if the backlog is full. The socket is
 * non-blocking, too. */
int control_dial_now(const char *path);

/* Why no forwarder answers: the errno of a call that failed, or EPROTO if the
 * reply is not a forwarder's. */
const char *control_reason(int why);

/* Sets the error to that, with the path and what to do. Returns -1. */
int control_no_answer(struct error *error, const char *path, int why);

#endif
