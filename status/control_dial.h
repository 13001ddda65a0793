/* Connecting to a control socket, for the commands that ask there. */
#ifndef STATUS_CONTROL_DIAL_H
#define STATUS_CONTROL_DIAL_H

#include "base/error.h"

/* A busy forwarder answers in microseconds; only a stopped one takes longer. */
#define CONTROL_REPLY_SECONDS 2

/* Returns a socket whose connect(), sends and receptions take no longer than
 * CONTROL_REPLY_SECONDS each, or -1 with errno. (A full backlog blocks connect()
 * on Linux; SO_SNDTIMEO limits that.) */
int control_dial(const char *path);

/* Sets the error to why no forwarder answers, with what to do; `why` is an errno.
 * Returns -1. */
int control_no_answer(struct error *error, const char *path, int why);

#endif
