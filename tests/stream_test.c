#include "base/stream.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/support/frames.h"
#include "tests/support/suite.h"

#define KIB ((size_t)1024)
/* Never the limit of a test that isn't about it. */
#define NO_LIMIT (64 * KIB * KIB)
#define MOST 2000 /* parcels */

/* What the system takes of each write, for the tests that say so. */
static struct {
	bool in_charge;
	size_t at_most;      /* bytes a call; 0: all */
	size_t breaks_after; /* bytes in all; then breaks_with */
	int breaks_with;
	bool interrupts;    /* every other call: EINTR */
	size_t waits_every; /* so many calls, one expires: EAGAIN; 0: none */
	size_t taken, calls;
	size_t offered[MOST]; /* by each call */
} kernel;

static uint8_t stored[8 * 1024 * 1024];

static size_t
take(const struct msghdr *message, size_t most)
{
	size_t taken = 0;

	for (size_t i = 0; i < message->msg_iovlen && taken < most; i++) {
		const struct iovec *part = &message->msg_iov[i];
		size_t left = most - taken;
		size_t bytes = part->iov_len < left ? part->iov_len : left;

		memcpy(stored + kernel.taken, part->iov_base, bytes);
		kernel.taken += bytes;
		taken += bytes;
	}
	return taken;
}

static int
refusal(const struct msghdr *message)
{
	size_t call = kernel.calls++;

	if (message->msg_iovlen > 1024)
		return EMSGSIZE;
	if (kernel.interrupts && call % 2 == 0)
		return EINTR;
	if (kernel.waits_every && call % kernel.waits_every == 0)
		return EAGAIN;
	return kernel.taken == kernel.breaks_after ? kernel.breaks_with : 0;
}

static ssize_t
play_kernel(const struct msghdr *message)
{
	size_t most = kernel.breaks_after - kernel.taken, offered = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		offered += message->msg_iov[i].iov_len;
	kernel.offered[kernel.calls % MOST] = offered;
	errno = refusal(message);
	if (errno)
		return -1;
	if (kernel.at_most && kernel.at_most < most)
		most = kernel.at_most;
	return (ssize_t)take(message, most);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t (*real)(int, const struct msghdr *, int);

	ck_assert(flags & MSG_NOSIGNAL);
	if (kernel.in_charge)
		return play_kernel(message);
	real = dlsym(RTLD_NEXT, "sendmsg");
	return real(fd, message, flags);
}

/* A kernel that takes at most so much a call, and breaks after so much. */
static void
be_kernel(size_t at_most, size_t breaks_after)
{
	memset(&kernel, 0, sizeof(kernel));
	kernel.at_most = at_most;
	kernel.breaks_after = breaks_after;
	kernel.breaks_with = EPIPE;
	kernel.in_charge = true;
}

/* The frames of a test, and the same as the bytes they are on the stream. */
static struct iovec parcels[MOST];
static size_t count;
static uint8_t *stream;
static size_t stream_bytes;
static int ends[2];

static void
set_up(void)
{
	int least = 1;

	stream = malloc(8 * KIB * KIB);
	ck_assert_ptr_nonnull(stream);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
}

static void
tear_down(void)
{
	close(ends[0]);
	close(ends[1]);
	free(stream);
}

static void
add_frames(size_t how_many, size_t length)
{
	for (size_t i = 0; i < how_many; i++) {
		uint8_t *at = stream + stream_bytes;
		size_t bytes = frame_write_framed(at, length, (uint32_t)count);

		ck_assert_uint_lt(count, MOST);
		parcels[count++] = (struct iovec){ at, bytes };
		stream_bytes += bytes;
	}
}

/* Of ordinary lengths, and a long one among ten. */
static void
add_mixed_frames(size_t how_many)
{
	uint64_t luck = 1;

	for (size_t i = 0; i < how_many; i++)
		add_frames(1, suite_random(&luck) % 10 == 0
				  ? 14 + suite_random(&luck) % 65536
				  : 14 + suite_random(&luck) % 1500);
}

/* How many frames lie wholly within the first `bytes` of the stream. */
static size_t
frames_within(size_t bytes)
{
	size_t whole = 0, end = 0;

	while (whole < count && end + parcels[whole].iov_len <= bytes)
		end += parcels[whole++].iov_len;
	return whole;
}

static void
assert_written(size_t limit_bytes)
{
	ck_assert_uint_eq(stream_write(-1, parcels, count, limit_bytes), count);
	ck_assert_uint_eq(kernel.taken, stream_bytes);
	ck_assert_mem_eq(stored, stream, stream_bytes);
}

FIXTURE(set_up, tear_down)

TEST(no_frames_are_no_call)
{
	be_kernel(0, 0);
	ck_assert_uint_eq(stream_write(-1, parcels, 0, 32 * KIB), 0);
	ck_assert_uint_eq(kernel.calls, 0);
}

/* A signal costs no byte; nor does one wait, if the next call takes a byte. */
TEST(a_part_that_went_is_finished_wherever_it_was_cut)
{
	static const size_t lengths[] = { 14, 60, 1985, 1984, 20 };

	for (int i = 0; i < LENGTH(lengths); i++)
		add_frames(1, lengths[i]);
	for (size_t at_most = 1; at_most <= stream_bytes; at_most += 7) {
		be_kernel(at_most, NO_LIMIT);
		assert_written(NO_LIMIT);
		be_kernel(at_most, NO_LIMIT);
		kernel.interrupts = true;
		assert_written(2 * KIB);
	}
}

TEST(a_break_at_any_byte_returns_the_frames_before_it, .count = 3)
{
	static const size_t lengths[] = { 14, 1514, 1985, 14, 64 };

	for (int i = 0; i < LENGTH(lengths); i++)
		add_frames(1, lengths[i]);
	for (size_t after = 0; after < stream_bytes; after++) {
		be_kernel(0, after);
		ck_assert_uint_eq(
		    stream_write(-1, parcels, count, (size_t)_i * 2 * KIB),
		    frames_within(after));
		ck_assert_int_eq(errno, EPIPE);
		ck_assert_uint_eq(kernel.taken, after);
		ck_assert_mem_eq(stored, stream, after);
	}
}

static const size_t limits[] = { 0, 1, 17, 18, 64, 1517, 1518, 3036, 10 * KIB,
	32 * KIB, 48 * KIB, 128 * KIB };

TEST(a_call_is_whole_frames_as_many_as_fit_the_limit, .count = LENGTH(limits))
{
	size_t limit = limits[_i], next = 0;

	add_frames(30, 14);
	add_frames(30, 1514);
	add_mixed_frames(40);
	add_frames(1, 65550);
	add_frames(3, 60);
	be_kernel(0, NO_LIMIT);
	assert_written(limit);
	for (size_t i = 0; i < kernel.calls; i++) {
		size_t bytes = parcels[next++].iov_len;

		while (next < count && bytes + parcels[next].iov_len <= limit)
			bytes += parcels[next++].iov_len;
		ck_assert_uint_eq(kernel.offered[i], bytes);
	}
	ck_assert_uint_eq(next, count);
}

TEST(more_frames_than_a_call_may_have_become_several_calls)
{
	add_frames(MOST, 14);
	be_kernel(0, NO_LIMIT);
	assert_written(NO_LIMIT);
	ck_assert_uint_eq(kernel.calls, 2);
}

/* What is left of a broken batch is written again, from the same memory. */
TEST(the_parcels_stay_as_they_are)
{
	static struct iovec before[MOST];

	add_mixed_frames(10);
	memcpy(before, parcels, sizeof(before));
	be_kernel(100, 20000);
	ck_assert_uint_lt(stream_write(-1, parcels, count, 32 * KIB), count);
	ck_assert_mem_eq(parcels, before, sizeof(before));
}

/* Wherever it stands still: within a frame, between two, at the beginning. */
TEST(two_waits_without_a_byte_are_a_break)
{
	static const size_t stands_still_after[] = { 0, 1, 4 + 1514, 2000 };

	add_frames(10, 1514);
	for (int i = 0; i < LENGTH(stands_still_after); i++) {
		be_kernel(0, stands_still_after[i]);
		kernel.breaks_with = EAGAIN;
		ck_assert_uint_eq(stream_write(-1, parcels, count, NO_LIMIT),
		    stands_still_after[i] / (4 + 1514));
		ck_assert_int_eq(errno, EAGAIN);
		ck_assert_uint_eq(kernel.calls, 2);
	}
}

TEST(one_wait_between_calls_that_take_all_is_no_break)
{
	add_frames(10, 1514);
	be_kernel(0, NO_LIMIT);
	kernel.waits_every = 2;
	assert_written(0);
	ck_assert_uint_eq(kernel.calls, 20);
}

/* A real socket, the least buffer, and nobody who reads. */
TEST(a_peer_that_reads_nothing_for_the_limit_is_a_break)
{
	struct timeval limit = { .tv_usec = 10000 };
	size_t done, bytes = 0;
	ssize_t n;

	setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	add_mixed_frames(60);
	errno = 0;
	done = stream_write(ends[0], parcels, count, 32 * KIB);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_uint_lt(done, count);
	while ((n = recv(ends[1], stored, sizeof(stored), MSG_DONTWAIT)) > 0)
		bytes += (size_t)n;
	ck_assert_uint_gt(bytes, 0);
	ck_assert_uint_eq(done, frames_within(bytes));
}

static void *
read_to_the_end(void *unused)
{
	size_t bytes = 0;
	ssize_t n;

	while ((n = recv(ends[1], stored + bytes, 499, 0)) > 0)
		bytes += (size_t)n;
	ck_assert_uint_eq(bytes, stream_bytes);
	return unused;
}

/* The same with a reader, which takes it in small pieces. */
TEST(a_slow_reader_gets_every_byte)
{
	pthread_t reader;

	add_mixed_frames(60);
	ck_assert_int_eq(pthread_create(&reader, NULL, read_to_the_end, 0), 0);
	ck_assert_uint_eq(
	    stream_write(ends[0], parcels, count, 32 * KIB), count);
	shutdown(ends[0], SHUT_WR);
	ck_assert_int_eq(pthread_join(reader, NULL), 0);
	ck_assert_mem_eq(stored, stream, stream_bytes);
}
