/* A copy of this process that goes on in the background while this one becomes
 * another program. */
#ifndef BASE_BACKGROUND_H
#define BASE_BACKGROUND_H

#include <stdbool.h>

/* The number under which the copy finds its descriptor. */
#define BACKGROUND_FD 3

enum background {
	BACKGROUND_FAILED,  /* errno, or 0: the copy has said why */
	BACKGROUND_STARTED, /* in this process: the copy is ready */
	BACKGROUND_COPY,    /* in the copy */
};

/* Starts the copy; returns in both processes. The copy is a child of init, in a
 * session of its own, so it gets no signal from the terminal and is no zombie in
 * this process when it ends. Of the descriptors it keeps `fd` and standard error.
 * Its standard error becomes /dev/null once it is ready, except if it is a file
 * or the journal: a caller may wait for the end of a pipe, and a terminal belongs
 * to the program that this process becomes. In the copy, *logs is set to whether it
 * keeps standard error.
 *
 * Call it while there is only one thread. */
enum background background_start(int fd, bool *logs);

/* Makes background_start() return BACKGROUND_STARTED in the other process. Does
 * nothing in a process that is not a copy. */
void background_ready(void);

#endif
