/* One descriptor, one way out, one deadline: what a dial waits with. */
#ifndef BASE_WAIT_H
#define BASE_WAIT_H

#include <stdint.h>

/* Waits until fd is readable (writable). fd may be -1: just wait.
 * Returns 0, or -1 with errno EINTR if interrupt_fd was readable first (its
 * bytes are left there), ETIMEDOUT if clock_now_ms() reached deadline_ms. Any
 * other errno is poll()'s; it comes after WAIT_ERROR_MS, so that a caller that
 * tries again does not spin. */
int wait_readable(int fd, int interrupt_fd, int64_t deadline_ms);
int wait_writable(int fd, int interrupt_fd, int64_t deadline_ms);

/* Waits pause_us microseconds, a fraction of a millisecond, which poll() can't.
 * Returns 0, or -1 with errno EINTR if interrupt_fd was readable. */
int wait_moment(int interrupt_fd, long pause_us);

/* A pause after an error that may last: poll() fails with EINVAL for as long as
 * the limit of descriptors is below what it was given. */
#define WAIT_ERROR_MS 100

/* Waits so long, or until a signal. Only for errors that no event ends: a loop
 * around it doesn't spin. */
void wait_pause(int pause_ms);

/* What is left until deadline_ms, as poll() wants it: rounded so that it never
 * returns early, -1 for INT64_MAX. */
int wait_timeout(int64_t deadline_ms);

#endif
