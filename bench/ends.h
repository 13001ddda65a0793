/* The two ends of the programs that the forwarder is measured against: the
 * same -g and -n as its own command line, as little of it as they need. */
#ifndef BENCH_ENDS_H
#define BENCH_ENDS_H

#include <stddef.h>

#define ENDS_MAX_FRAME 65550u /* bytes, the forwarder's default */

struct ends {
	int guest;     /* connected datagram socket */
	int network;   /* connected stream */
	size_t frame;  /* bytes a frame has, -s: only floor makes use of it */
	size_t stride; /* bytes from one slot to the next, -S; 0: choose */
	size_t
	    reading; /* bytes a read of the network may take, -r; 0: choose */
};

/* -g fd:N or unixgram:PATH[,GUEST], -n unix:PATH. Without GUEST the first
 * sender is the guest. Ends the process when anything fails. */
void ends_open(struct ends *ends, int argc, char **argv);

void die(const char *what) __attribute__((noreturn));

/* Runs both at once and ends the process when one of them returns. */
void run_pair(void *(*up)(void *), void *(*down)(void *), struct ends *ends);

#endif
