/* Waiting in poll(), and a doorbell that wakes a thread out of it. */
#ifndef BASE_WAIT_H
#define BASE_WAIT_H

#include <stdint.h>

/* Rings add up to one; a ring is never lost. */
struct doorbell {
	int fds[2]; /* a pipe: poll [0] for POLLIN */
};

/* Returns 0, or -1 with errno. */
int doorbell_init(struct doorbell *bell);
void doorbell_destroy(struct doorbell *bell);

/* Safe in a signal handler; keeps errno. */
void doorbell_ring(struct doorbell *bell);

/* Call it after poll(), before looking at what the ring was about. */
void doorbell_answer(struct doorbell *bell);

/* A pipe that is closed on exec and never blocks. Returns 0, or -1 with errno. */
int pipe_open(int ends[2]);

/* Wait until fd is readable (writable); fd may be -1. Return 0, or -1 with
 * errno: EINTR if interrupt_fd was readable first (its bytes are left there),
 * ETIMEDOUT if clock_now_ms() reached deadline_ms. An error of poll() itself is
 * returned after WAIT_ERROR_MS, so that a caller that tries again doesn't
 * spin. */
int wait_readable(int fd, int interrupt_fd, int64_t deadline_ms);
int wait_writable(int fd, int interrupt_fd, int64_t deadline_ms);

/* Waits pause_us microseconds, less than the millisecond that poll() can do.
 * Returns 0, or -1 with errno EINTR if interrupt_fd was readable. */
int wait_moment(int interrupt_fd, long pause_us);

/* A pause after an error that may last: poll() fails with EINVAL as long as the
 * limit of descriptors is below the number it was given. */
#define WAIT_ERROR_MS 100

/* Waits so long, or until a signal. Only after errors that no event ends. */
void wait_pause(int pause_ms);

/* What is left until deadline_ms as a timeout for poll(): never too short, -1
 * for INT64_MAX. */
int wait_timeout(int64_t deadline_ms);

#endif
