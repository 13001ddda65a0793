#include "base/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

int
pipe_open(int ends[2])
{
	if (pipe(ends) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		fcntl(ends[i], F_SETFD, FD_CLOEXEC);
		fcntl(ends[i], F_SETFL, O_NONBLOCK);
	}
	return 0;
}

int
doorbell_init(struct doorbell *bell)
{
	return pipe_open(bell->fds);
}

void
doorbell_destroy(struct doorbell *bell)
{
	close(bell->fds[0]);
	close(bell->fds[1]);
}

void
doorbell_ring(struct doorbell *bell)
{
	int saved = errno;

	/* If the pipe is full, the bell is ringing already. */
	(void)!write(bell->fds[1], "", 1);
	errno = saved;
}

void
doorbell_answer(struct doorbell *bell)
{
	char rings[64];

	while (read(bell->fds[0], rings, sizeof(rings)) > 0)
		;
}

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

void
wait_pause(int pause_ms)
{
	poll(NULL, 0, pause_ms);
}

static int
failed(int error)
{
	errno = error;
	return -1;
}

static int
wait_for(short events, int fd, int interrupt_fd, int64_t deadline_ms)
{
	struct pollfd fds[] = { { .fd = interrupt_fd, .events = POLLIN },
		{ .fd = fd, .events = events } };
	int ready, error;

	for (;;) {
		ready = poll(fds, 2, wait_timeout(deadline_ms));
		if (ready > 0 && !fds[0].revents)
			return 0;
		if (ready > 0)
			return failed(EINTR);
		if (ready < 0 && errno != EINTR) {
			error = errno;
			wait_pause(WAIT_ERROR_MS);
			return failed(error);
		}
		if (clock_now_ms() >= deadline_ms)
			return failed(ETIMEDOUT);
	}
}

int
wait_moment(int interrupt_fd, long pause_us)
{
	struct pollfd interrupt = { .fd = interrupt_fd, .events = POLLIN };
	struct timespec pause = { .tv_nsec = pause_us * 1000 };

	if (poll(&interrupt, 1, 0) > 0)
		return failed(EINTR);
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
