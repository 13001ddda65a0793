/* Waiting with poll(), and a doorbell to wake a thread from poll(). */
#ifndef BASE_WAIT_H
#define BASE_WAIT_H

#include <stdint.h>

/* Several rings before an answer count as one. A ring is never lost. */
struct doorbell {
	int fds[2]; /* a pipe: poll [0] for POLLIN */
};

/* Returns 0, or -1 with errno. */
int doorbell_init(struct doorbell *bell);
void doorbell_destroy(struct doorbell *bell);

/* Rings the bell. Async-signal-safe; preserves errno. */
void doorbell_ring(struct doorbell *bell);

/* Clears the bell. Call this after poll() and before reading the data that the
 * ring announced. */
void doorbell_answer(struct doorbell *bell);

/* Opens a pipe that is closed on exec and never blocks. Returns 0, or -1 with
 * errno. */
int pipe_open(int ends[2]);

/* Wait until fd is readable (writable); fd -1: wait only for interrupt_fd or
 * the deadline. Return 0, or -1 with errno: EINTR if interrupt_fd was readable
 * first (its bytes are left there), ETIMEDOUT if clock_now_ms() reached
 * deadline_ms. An error of poll() itself is returned after WAIT_ERROR_MS, so
 * that a caller that tries again doesn't spin. */
int wait_readable(int fd, int interrupt_fd, int64_t deadline_ms);
int wait_writable(int fd, int interrupt_fd, int64_t deadline_ms);

/* Waits pause_us microseconds; for pauses shorter than poll()'s resolution of a
 * millisecond. Returns 0, or -1 with errno EINTR if interrupt_fd was
 * readable. */
int wait_moment(int interrupt_fd, long pause_us);

/* Pause after an error that can persist, such as EINVAL from poll() while
 * RLIMIT_NOFILE is smaller than the number of descriptors polled. */
#define WAIT_ERROR_MS 100

/* After ENOBUFS (macOS) poll() doesn't report when there is room. Try again this
 * many times, each after a pause, then drop. */
#define WAIT_BUFFERS_TRIES 10
#define WAIT_BUFFERS_MS 1

/* Waits for pause_ms or until a signal. Use it only after errors whose end no
 * event reports. */
void wait_pause(int pause_ms);

/* Returns the time until deadline_ms as a poll() timeout, rounded up; -1 if
 * deadline_ms is INT64_MAX. */
int wait_timeout(int64_t deadline_ms);

#endif
