/* Wakes a thread out of poll(). Rings add up to one; a ring is never lost. */
#ifndef BASE_DOORBELL_H
#define BASE_DOORBELL_H

/* A pipe that is closed on exec and never blocks. Returns 0, or -1 with errno. */
int pipe_open(int ends[2]);

struct doorbell {
	int fds[2]; /* a pipe: poll [0] for POLLIN */
};

/* Returns 0, or -1 with errno. */
int doorbell_init(struct doorbell *bell);
void doorbell_destroy(struct doorbell *bell);

/* Safe in a signal handler; keeps errno. */
void doorbell_ring(struct doorbell *bell);

/* Call after poll() and before looking at what the ring was about. */
void doorbell_answer(struct doorbell *bell);

#endif
