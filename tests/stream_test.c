#include "base/stream.h"

#include <dlfcn.h>
#include <sys/time.h>

#include "tests/support/suite.h"

#define KIB ((size_t)1024)
#define NO_LIMIT SIZE_MAX
#define MOST 2000 /* parcels */

/* How much the simulated system accepts of writes to descriptor -1. */
static struct {
	size_t at_most;      /* bytes a call */
	size_t breaks_after; /* bytes in all; then it fails with this error: */
	int error;
	size_t fails_every; /* so many calls, from the first on; 0: none */
	int fails_with;
	size_t taken, calls, pieces;
	size_t offered[MOST]; /* by each call */
} kernel;

static uint8_t stored[KIB * KIB];

static int
refusal(const struct msghdr *message)
{
	size_t call = kernel.calls++;

	if (message->msg_iovlen > 1024)
		return EMSGSIZE;
	if (kernel.fails_every && call % kernel.fails_every == 0)
		return kernel.fails_with;
	return kernel.taken == kernel.breaks_after ? kernel.error : 0;
}

static ssize_t
play_kernel(const struct msghdr *message)
{
	size_t most = kernel.breaks_after - kernel.taken, before = kernel.taken;
	size_t *offered = &kernel.offered[kernel.calls % MOST];

	errno = refusal(message);
	if (errno)
		return -1;
	if (kernel.at_most < most)
		most = kernel.at_most;
	*offered = 0;
	kernel.pieces += message->msg_iovlen;
	for (size_t i = 0; i < message->msg_iovlen; i++) {
		const struct iovec *part = &message->msg_iov[i];
		size_t left = before + most - kernel.taken;
		size_t bytes = part->iov_len < left ? part->iov_len : left;

		memcpy(stored + kernel.taken, part->iov_base, bytes);
		kernel.taken += bytes;
		*offered += part->iov_len;
	}
	return (ssize_t)(kernel.taken - before);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t (*real)(int, const struct msghdr *, int) =
	    dlsym(RTLD_NEXT, "sendmsg");

	ck_assert(flags & MSG_NOSIGNAL);
	return fd < 0 ? play_kernel(message) : real(fd, message, flags);
}

static void
be_kernel(size_t at_most, size_t breaks_after)
{
	memset(&kernel, 0, sizeof(kernel));
	kernel.at_most = at_most;
	kernel.breaks_after = breaks_after;
	kernel.error = EPIPE;
}

/* The parcels of a test, and the stream that they make. In memory, `adjacent`
 * parcels follow each other, and then there is a gap of a byte. */
static struct iovec parcels[MOST];
static size_t count, adjacent;
static uint8_t memory[KIB * KIB + MOST];
static uint8_t stream[KIB * KIB];
static size_t stream_bytes;

static void
set_up(void)
{
	adjacent = 3;
	for (size_t i = 0; i < sizeof(stream); i++)
		stream[i] = (uint8_t)(i * 31 + (i >> 8) * 7);
}

static void
add_parcels(size_t how_many, size_t bytes)
{
	for (size_t i = 0; i < how_many; i++) {
		uint8_t *at = memory + stream_bytes + count / adjacent;

		ck_assert_uint_lt(count, MOST);
		ck_assert_uint_le(stream_bytes + bytes, sizeof(stream));
		memcpy(at, stream + stream_bytes, bytes);
		parcels[count++] = (struct iovec){ at, bytes };
		stream_bytes += bytes;
	}
}

/* How many parcels lie wholly within the first `bytes` of the stream. */
static size_t
parcels_within(size_t bytes)
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

FIXTURE(set_up, NULL)

TEST(without_parcels_there_is_no_system_call)
{
	ck_assert_uint_eq(stream_write(-1, parcels, 0, 32 * KIB), 0);
	ck_assert_uint_eq(kernel.calls, 0);
}

static void
add_a_few(void)
{
	static const size_t lengths[] = { 18, 1518, 64, 1989, 1988, 24 };

	for (int i = 0; i < LENGTH(lengths); i++)
		add_parcels(1, lengths[i]);
}

/* A signal costs no byte. */
TEST(a_partial_write_is_completed_wherever_it_was_cut)
{
	add_a_few();
	for (size_t at_most = 1; at_most <= stream_bytes; at_most += 7) {
		be_kernel(at_most, NO_LIMIT);
		assert_written(NO_LIMIT);
		be_kernel(at_most, NO_LIMIT);
		kernel.fails_every = 2;
		kernel.fails_with = EINTR;
		assert_written(2 * KIB);
	}
}

/* What is left of a broken batch is written again, from the same parcels. */
TEST(a_break_at_any_byte_returns_the_parcels_before_it, .count = 3)
{
	struct iovec before[6];

	add_a_few();
	memcpy(before, parcels, sizeof(before));
	for (size_t after = 0; after < stream_bytes; after++) {
		be_kernel(NO_LIMIT, after);
		ck_assert_uint_eq(
		    stream_write(-1, parcels, count, (size_t)_i * 2 * KIB),
		    parcels_within(after));
		ck_assert_int_eq(errno, EPIPE);
		ck_assert_uint_eq(kernel.taken, after);
		ck_assert_mem_eq(stored, stream, after);
		ck_assert_mem_eq(parcels, before, sizeof(before));
	}
}

static const size_t limits[] = { 0, 1, 17, 18, 64, 1517, 1518, 3036, 10 * KIB,
	32 * KIB, 48 * KIB, 128 * KIB };

TEST(a_call_writes_as_many_whole_parcels_as_fit_the_limit,
    .count = LENGTH(limits))
{
	size_t limit = limits[_i], next = 0;

	add_parcels(30, 18);
	add_parcels(30, 1518);
	for (int i = 0; i < 4; i++)
		add_a_few();
	add_parcels(1, 65554);
	add_parcels(3, 64);
	be_kernel(NO_LIMIT, NO_LIMIT);
	assert_written(limit);
	for (size_t i = 0; i < kernel.calls; i++) {
		size_t bytes = parcels[next++].iov_len;

		while (next < count && bytes + parcels[next].iov_len <= limit)
			bytes += parcels[next++].iov_len;
		ck_assert_uint_eq(kernel.offered[i], bytes);
	}
	ck_assert_uint_eq(next, count);
}

TEST(parcels_that_follow_each_other_in_memory_are_one_piece)
{
	add_parcels(4 * adjacent, 18);
	be_kernel(NO_LIMIT, NO_LIMIT);
	assert_written(2 * adjacent * 18);
	ck_assert_uint_eq(kernel.calls, 2);
	ck_assert_uint_eq(kernel.pieces, 4);
}

TEST(more_parcels_than_fit_one_call_take_several_calls)
{
	adjacent = 1;
	add_parcels(MOST, 18);
	be_kernel(NO_LIMIT, NO_LIMIT);
	assert_written(NO_LIMIT);
	ck_assert_uint_eq(kernel.calls, 2);
}

/* Wherever it stops: within a parcel, between two, at the beginning. */
TEST(two_waits_without_a_byte_are_a_failure)
{
	static const size_t stands_still_after[] = { 0, 1, 1518, 2000 };

	add_parcels(10, 1518);
	for (int i = 0; i < LENGTH(stands_still_after); i++) {
		be_kernel(NO_LIMIT, stands_still_after[i]);
		kernel.error = EAGAIN;
		ck_assert_uint_eq(stream_write(-1, parcels, count, NO_LIMIT),
		    stands_still_after[i] / 1518);
		ck_assert_int_eq(errno, EAGAIN);
		ck_assert_uint_eq(kernel.calls, 2);
	}
}

TEST(one_wait_between_complete_calls_is_not_a_failure)
{
	add_parcels(10, 1518);
	be_kernel(NO_LIMIT, NO_LIMIT);
	kernel.fails_every = 2;
	kernel.fails_with = EAGAIN;
	assert_written(0);
	ck_assert_uint_eq(kernel.calls, 20);
}

/* A real socket with the smallest buffer, which is never read. */
TEST(a_peer_that_reads_nothing_until_the_limit_is_a_failure)
{
	struct timeval limit = { .tv_usec = 10000 };
	int ends[2], least = 1;
	size_t done;
	ssize_t n;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	add_parcels(60, 1518);
	done = stream_write(ends[0], parcels, count, 32 * KIB);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_uint_lt(done, count);
	n = recv(ends[1], stored, sizeof(stored), MSG_DONTWAIT | MSG_WAITALL);
	ck_assert_int_gt(n, 0);
	ck_assert_uint_eq(done, parcels_within((size_t)n));
	close(ends[0]);
	close(ends[1]);
}
