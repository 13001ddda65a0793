#include "base/wait.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <time.h>

#include "base/clock.h"

int
wait_timeout(int64_t deadline_ms)
{
	int64_t left_ms;

	if (deadline_ms == INT64_MAX)
		return -1;
	left_ms = deadline_ms - clock_now_ms();
	if (left_ms < 0)
		return 0;
	return left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}

/* Without descriptors nothing that the system is short of makes poll() fail. */
void
wait_pause(int pause_ms)
{
	poll(NULL, 0, pause_ms);
}

static int
fail_slowly(void)
{
	int error = errno;

	wait_pause(WAIT_ERROR_MS);
	errno = error;
	return -1;
}

static int
wait_for(short events, int fd, int interrupt_fd, int64_t deadline_ms)
{
	struct pollfd fds[] = { { .fd = interrupt_fd, .events = POLLIN },
		{ .fd = fd, .events = events } };
	int ready;

	for (;;) {
		ready = poll(fds, 2, wait_timeout(deadline_ms));
		if (ready < 0 && errno != EINTR)
			return fail_slowly();
		if (ready > 0 && fds[0].revents) {
			errno = EINTR;
			return -1;
		}
		if (ready > 0)
			return 0;
		if (clock_now_ms() >= deadline_ms) {
			errno = ETIMEDOUT;
			return -1;
		}
	}
}

int
wait_moment(int interrupt_fd, long pause_us)
{
	struct pollfd interrupt = { .fd = interrupt_fd, .events = POLLIN };
	struct timespec pause = { .tv_nsec = pause_us * 1000 };

	if (poll(&interrupt, 1, 0) > 0) {
		errno = EINTR;
		return -1;
	}
	nanosleep(&pause, NULL);
	return 0;
}

int
wait_readable(int fd, int interrupt_fd, int64_t deadline_ms)
{
	return wait_for(POLLIN, fd, interrupt_fd, deadline_ms);
}

int
wait_writable(int fd, int interrupt_fd, int64_t deadline_ms)
{
	return wait_for(POLLOUT, fd, interrupt_fd, deadline_ms);
}
