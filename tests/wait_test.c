#include "base/wait.h"

#include <limits.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "base/clock.h"
#include "base/sync.h"
#include "tests/support/suite.h"

#define FAR_AWAY_MS (60 * 60 * 1000)

static int data[2], way_out[2];

static void
set_up(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, data), 0);
	ck_assert_int_eq(pipe(way_out), 0);
}

static void
tear_down(void)
{
	for (int i = 0; i < 2; i++) {
		close(data[i]);
		close(way_out[i]);
	}
}

static void
say(int fd)
{
	ck_assert_int_eq(write(fd, "x", 1), 1);
}

FIXTURE(set_up, tear_down)

TEST(what_is_ready_or_hung_up_ends_the_wait)
{
	int64_t deadline_ms = clock_now_ms() + FAR_AWAY_MS;

	ck_assert_int_eq(wait_writable(data[0], way_out[0], deadline_ms), 0);
	say(data[1]);
	ck_assert_int_eq(wait_readable(data[0], way_out[0], deadline_ms), 0);
	ck_assert_int_eq(wait_readable(data[0], way_out[0], 0), 0);
	ck_assert_int_eq(read(data[0], &(char){ 0 }, 1), 1);
	shutdown(data[1], SHUT_RDWR);
	ck_assert_int_eq(wait_readable(data[0], way_out[0], deadline_ms), 0);
}

TEST(the_interrupt_comes_first_and_keeps_its_bytes)
{
	char bytes[2];

	say(data[1]);
	say(way_out[1]);
	for (int i = 0; i < 2; i++) {
		errno = 0;
		ck_assert_int_eq(
		    wait_readable(data[0], way_out[0], INT64_MAX), -1);
		ck_assert_int_eq(errno, EINTR);
		ck_assert_int_eq(wait_readable(-1, way_out[0], 0), -1);
		ck_assert_int_eq(errno, EINTR);
		ck_assert_int_eq(wait_moment(way_out[0], 1), -1);
		ck_assert_int_eq(errno, EINTR);
	}
	ck_assert_int_eq(read(way_out[0], bytes, 2), 1);
	ck_assert_int_eq(wait_moment(way_out[0], 1), 0);
}

static volatile sig_atomic_t signals;

static void
count_signal(int number)
{
	(void)number;
	signals = signals + 1;
}

/* With a descriptor, without one, in the past; while signals come. */
TEST(the_deadline_ends_the_wait_and_not_earlier, .count = 4)
{
	int64_t deadline_ms = _i == 2 ? 0 : clock_now_ms() + 20;
	struct itimerval every_ms = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };

	signal(SIGALRM, count_signal);
	setitimer(ITIMER_REAL, _i == 3 ? &every_ms : &off, NULL);
	ck_assert_int_eq(
	    wait_readable(_i ? data[0] : -1, way_out[0], deadline_ms), -1);
	ck_assert_int_eq(errno, ETIMEDOUT);
	setitimer(ITIMER_REAL, &off, NULL);
	ck_assert_int_ge(clock_now_ms(), deadline_ms);
	ck_assert(_i != 3 || signals > 0);
}

TEST(a_timeout_is_in_the_form_poll_expects)
{
	int64_t now_ms = clock_now_ms();

	ck_assert_int_eq(wait_timeout(INT64_MAX), -1);
	ck_assert_int_eq(wait_timeout(INT64_MIN / 2), 0);
	ck_assert_int_eq(wait_timeout(0), 0);
	ck_assert_int_eq(wait_timeout(now_ms), 0);
	ck_assert_int_eq(wait_timeout(INT64_MAX - 1), INT_MAX);
	ck_assert_int_le(wait_timeout(now_ms + FAR_AWAY_MS), FAR_AWAY_MS);
	ck_assert_int_gt(wait_timeout(now_ms + FAR_AWAY_MS), FAR_AWAY_MS / 2);
}

/* A loop around a wait must not spin when no wait can succeed. */
TEST(an_error_of_poll_is_returned_after_a_pause)
{
	int64_t before_ms = clock_now_ms();
	int before = limit_descriptors(1); /* poll() is given two */
	int result, error;

	result = wait_readable(data[0], way_out[0], INT64_MAX);
	error = errno;
	limit_descriptors(before);
	ck_assert_int_eq(result, -1);
	ck_assert_int_eq(error, EINVAL);
	ck_assert_int_ge(clock_now_ms() - before_ms, WAIT_ERROR_MS);
}

TEST(rings_add_up_to_one_and_keep_errno)
{
	struct doorbell bell;
	struct pollfd rung;

	ck_assert_int_eq(doorbell_init(&bell), 0);
	rung = (struct pollfd){ .fd = bell.fds[0], .events = POLLIN };
	ck_assert_int_eq(poll(&rung, 1, 0), 0);
	doorbell_answer(&bell);
	errno = ENOTTY;
	for (int i = 0; i < 100000; i++) /* more than a pipe takes */
		doorbell_ring(&bell);
	ck_assert_int_eq(errno, ENOTTY);
	ck_assert_int_eq(poll(&rung, 1, 0), 1);
	doorbell_answer(&bell);
	ck_assert_int_eq(poll(&rung, 1, 0), 0);
	for (int i = 0; i < 2; i++)
		ck_assert(fcntl(bell.fds[i], F_GETFD) & FD_CLOEXEC);
	doorbell_destroy(&bell);
}

/* With a clock of the wrong kind the deadline would have passed long ago. */
TEST(a_condition_waits_until_its_deadline)
{
	int64_t deadline_ms = clock_now_ms() + 50;
	struct mutex mutex;
	struct condition never;
	int wakeups = 0;

	mutex_init(&mutex);
	condition_init(&never);
	mutex_lock(&mutex);
	while (clock_now_ms() < deadline_ms && wakeups++ < 10)
		condition_wait(&never, &mutex, deadline_ms);
	mutex_unlock(&mutex);
	ck_assert_int_lt(wakeups, 10);
	condition_destroy(&never);
	mutex_destroy(&mutex);
}

static time_t suspended_s; /* what only CLOCK_BOOTTIME counts */

int
clock_gettime(clockid_t id, struct timespec *now)
{
	int result = (int)syscall(SYS_clock_gettime, id, now);

	if (id == CLOCK_BOOTTIME)
		now->tv_sec += suspended_s;
	return result;
}

/* That it becomes readable cannot be tested without setting the host's clock. */
TEST(a_resume_is_awaited_without_idle_wakeups)
{
	struct pollfd resume = { .fd = clock_resume_open(), .events = POLLIN };

	ck_assert_int_ge(resume.fd, 0);
	ck_assert_int_eq(poll(&resume, 1, 0), 0);
	clock_resume_answer(resume.fd); /* does not block */
	close(resume.fd);
}

TEST(a_suspend_is_measured_by_comparing_two_clocks)
{
	int64_t before_ms = clock_suspended_ms(), now_ms = clock_now_ms();

	suspended_s = 3600;
	ck_assert_int_le(llabs(clock_suspended_ms() - before_ms - 3600000), 50);
	ck_assert_int_lt(clock_now_ms() - now_ms, 1800000);
}
