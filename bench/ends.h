/* The two endpoints of the programs that the forwarder is compared with. They
 * take a part of the forwarder's command line: -g and -n. */
#ifndef BENCH_ENDS_H
#define BENCH_ENDS_H

#include <stdbool.h>
#include <stddef.h>

#define ENDS_MAX_FRAME 65550u /* bytes, the forwarder's default */

/* A connected socket. */
struct end {
	int fd;
	bool stream; /* with 4-byte lengths; otherwise one frame per datagram */
};

struct ends {
	struct end guest, network;
	size_t frame;   /* -s: bytes of a frame; used by floor only */
	size_t stride;  /* -S: bytes from one slot to the next; 0: default */
	size_t reading; /* -r: bytes per read of the network; 0: default */
};

/* -g fd:N or unixgram:PATH[,GUEST], -n unix:PATH or unixgram:PATH. Without GUEST
 * the first sender is the guest. Ends the process when anything fails. */
void ends_open(struct ends *ends, int argc, char **argv);

void die(const char *what) __attribute__((noreturn));

/* Copies frames from one end to the other; returns when it can't go on. */
typedef void copy_frames(
    const struct ends *ends, const struct end *from, const struct end *to);

/* Runs it in both directions in parallel. Ends the process when one of them
 * returns. */
void ends_copy(copy_frames *copy, const struct ends *ends)
    __attribute__((noreturn));

#endif
