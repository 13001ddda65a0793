/* The two endpoints of the programs that the forwarder is compared with. They
 * take a part of the forwarder's command line: -g and -n. */
#ifndef BENCH_ENDS_H
#define BENCH_ENDS_H

#include <stddef.h>

#define ENDS_MAX_FRAME 65550u /* bytes, the forwarder's default */

struct ends {
	int guest;      /* connected datagram socket */
	int network;    /* connected stream */
	size_t frame;   /* -s: bytes of a frame; used by floor only */
	size_t stride;  /* -S: bytes from one slot to the next; 0: default */
	size_t reading; /* -r: bytes per read of the network; 0: default */
};

/* -g fd:N or unixgram:PATH[,GUEST], -n unix:PATH. Without GUEST the first
 * sender is the guest. Ends the process when anything fails. */
void ends_open(struct ends *ends, int argc, char **argv);

void die(const char *what) __attribute__((noreturn));

/* Runs both in parallel and ends the process when one of them returns. */
void run_pair(void *(*up)(void *), void *(*down)(void *), struct ends *ends);

#endif
