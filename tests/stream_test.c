#include "base/stream.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "framing/framing.h"
#include "tests/support/frames.h"
#include "tests/support/suite.h"

#define KIB 1024u
/* Never the limit of a test that isn't about it. */
#define NO_LIMIT (64u * 1024 * KIB)

/* What the system takes of each write, for the tests that say so. */
static struct {
	size_t at_most;      /* bytes a call; 0: as the system likes */
	size_t breaks_after; /* bytes in all; then breaks_with */
	int breaks_with;
	size_t taken, calls;
	bool in_charge;
} kernel;

/* The first `most` bytes of the message, to `to`. */
static size_t
take(const struct msghdr *message, size_t most, uint8_t *to)
{
	size_t taken = 0;

	for (size_t i = 0; i < message->msg_iovlen && taken < most; i++) {
		const struct iovec *part = &message->msg_iov[i];
		size_t left = most - taken;
		size_t bytes = part->iov_len < left ? part->iov_len : left;

		memcpy(to + taken, part->iov_base, bytes);
		taken += bytes;
	}
	return taken;
}

static uint8_t stored[512 * KIB];

static ssize_t
play_kernel(const struct msghdr *message)
{
	size_t left = kernel.breaks_after - kernel.taken, taken;
	size_t most = kernel.at_most ? kernel.at_most : NO_LIMIT;

	kernel.calls++;
	if (left == 0) {
		errno = kernel.breaks_with;
		return -1;
	}
	taken = take(message, most < left ? most : left, stored + kernel.taken);
	kernel.taken += taken;
	return (ssize_t)taken;
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

ssize_t
send(int fd, const void *bytes, size_t length, int flags)
{
	struct iovec part = { (void *)(uintptr_t)bytes, length };
	const struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	return sendmsg(fd, &message, flags);
}

/* A kernel that takes at most so much a call, and breaks after so much. */
static void
be_kernel(size_t at_most, size_t breaks_after)
{
	kernel.at_most = at_most;
	kernel.breaks_after = breaks_after;
	kernel.breaks_with = EPIPE;
	kernel.taken = kernel.calls = 0;
	kernel.in_charge = true;
}

/* The frames of a test, and the same as the bytes they are on the stream. */
#define MOST 2000
static struct iovec parcels[MOST];
static size_t count;
static uint8_t *stream;
static size_t stream_bytes;
static int ends[2];

static void
set_up(void)
{
	kernel.in_charge = false;
	stream = malloc(8 * KIB * KIB);
	ck_assert_ptr_nonnull(stream);
	count = stream_bytes = 0;
	ends[0] = ends[1] = -1;
}

static void
tear_down(void)
{
	for (int i = 0; i < 2; i++)
		if (ends[i] >= 0)
			close(ends[i]);
	free(stream);
}

static void
connect_ends(int type)
{
	ck_assert_int_eq(socketpair(AF_UNIX, type, 0, ends), 0);
}

static void
set_buffer(int bytes)
{
	ck_assert_int_eq(
	    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)),
	    0);
}

static void
add_frame(size_t length)
{
	uint8_t *at = stream + stream_bytes;
	size_t bytes = frame_write_framed(at, length, (uint32_t)count);

	ck_assert_uint_lt(count, MOST);
	parcels[count++] = (struct iovec){ at, bytes };
	stream_bytes += bytes;
}

static void
add_frames(size_t how_many, size_t length)
{
	for (size_t i = 0; i < how_many; i++)
		add_frame(length);
}

/* Of ordinary lengths, and a long one among ten. */
static void
add_mixed_frames(size_t how_many)
{
	uint64_t luck = 1;

	for (size_t i = 0; i < how_many; i++)
		add_frame(suite_random(&luck) % 10 == 0
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

struct reader {
	size_t piece; /* reads at most so much at once */
	size_t bytes; /* that came */
	bool same;    /* as in `stream` */
};

static void *
read_to_the_end(void *argument)
{
	struct reader *reader = argument;
	uint8_t *piece = malloc(reader->piece);
	ssize_t n;

	reader->same = true;
	while ((n = recv(ends[1], piece, reader->piece, 0)) > 0) {
		reader->same =
		    reader->same &&
		    memcmp(piece, stream + reader->bytes, (size_t)n) == 0;
		reader->bytes += (size_t)n;
	}
	free(piece);
	return NULL;
}

static pthread_t
start(void *(*run)(void *), void *argument)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, run, argument), 0);
	return thread;
}

static void
join(pthread_t thread)
{
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

FIXTURE(set_up, tear_down)

TEST(frames_arrive_whole_and_in_order)
{
	struct reader reader = { .piece = 64 * KIB };
	pthread_t thread;

	connect_ends(SOCK_STREAM);
	add_mixed_frames(300);
	thread = start(read_to_the_end, &reader);
	ck_assert_uint_eq(
	    stream_write(ends[0], parcels, count, 32 * KIB), count);
	shutdown(ends[0], SHUT_WR);
	join(thread);
	ck_assert_uint_eq(reader.bytes, stream_bytes);
	ck_assert(reader.same);
}

TEST(no_frames_are_no_call)
{
	be_kernel(0, 0);
	ck_assert_uint_eq(stream_write(-1, parcels, 0, 32 * KIB), 0);
	ck_assert_uint_eq(kernel.calls, 0);
}

TEST(a_part_that_went_is_finished_wherever_it_was_cut)
{
	add_frame(14);
	add_frame(60);
	add_frame(1985);
	add_frame(1984);
	add_frame(20);
	for (size_t at_most = 1; at_most <= stream_bytes; at_most++) {
		be_kernel(at_most, NO_LIMIT);
		ck_assert_uint_eq(
		    stream_write(-1, parcels, count, NO_LIMIT), count);
		ck_assert_uint_eq(kernel.taken, stream_bytes);
		ck_assert_mem_eq(stored, stream, stream_bytes);
	}
}

TEST(a_break_at_any_byte_returns_the_frames_before_it)
{
	add_frame(14);
	add_frame(1514);
	add_frame(1985);
	add_frame(14);
	add_frame(64);
	for (size_t after = 0; after < stream_bytes; after++)
		for (size_t limit = 0; limit <= 4 * KIB; limit += 2 * KIB) {
			be_kernel(0, after);
			errno = 0;
			ck_assert_uint_eq(
			    stream_write(-1, parcels, count, limit),
			    frames_within(after));
			ck_assert_int_eq(errno, EPIPE);
			ck_assert_uint_eq(kernel.taken, after);
			ck_assert_mem_eq(stored, stream, after);
		}
}

TEST(a_small_buffer_and_a_slow_reader_lose_nothing)
{
	struct reader reader = { .piece = 61 };
	pthread_t thread;

	connect_ends(SOCK_STREAM);
	set_buffer(1); /* the system's least */
	add_mixed_frames(60);
	thread = start(read_to_the_end, &reader);
	ck_assert_uint_eq(
	    stream_write(ends[0], parcels, count, 32 * KIB), count);
	shutdown(ends[0], SHUT_WR);
	join(thread);
	ck_assert_uint_eq(reader.bytes, stream_bytes);
	ck_assert(reader.same);
}

static void
interrupted(int number)
{
	(void)number;
}

struct pest {
	pthread_t victim;
	atomic_bool enough;
};

static void *
pester(void *argument)
{
	struct pest *pest = argument;

	while (!atomic_load(&pest->enough)) {
		pthread_kill(pest->victim, SIGUSR1);
		sched_yield();
	}
	return NULL;
}

/* A signal ends a blocked sendmsg() with the part that went, or EINTR. */
TEST(signals_cost_no_byte)
{
	struct sigaction action = { .sa_handler = interrupted };
	struct pest pest = { .victim = pthread_self() };
	struct reader reader = { .piece = 499 };
	pthread_t reading, pestering;

	sigaction(SIGUSR1, &action, NULL);
	connect_ends(SOCK_STREAM);
	set_buffer(1);
	add_mixed_frames(60);
	reading = start(read_to_the_end, &reader);
	pestering = start(pester, &pest);
	ck_assert_uint_eq(
	    stream_write(ends[0], parcels, count, 32 * KIB), count);
	atomic_store(&pest.enough, true);
	join(pestering);
	shutdown(ends[0], SHUT_WR);
	join(reading);
	ck_assert_uint_eq(reader.bytes, stream_bytes);
	ck_assert(reader.same);
}

/* Reads so much, then nothing may come any more, and sees what had come. */
struct quitter {
	size_t wants, bytes;
};

static void *
read_some_and_quit(void *argument)
{
	static uint8_t bytes[64 * KIB];
	struct quitter *quitter = argument;
	ssize_t n;

	while (quitter->bytes < quitter->wants) {
		n = recv(ends[1], bytes, quitter->wants - quitter->bytes, 0);
		ck_assert_int_gt(n, 0);
		quitter->bytes += (size_t)n;
	}
	shutdown(ends[1], SHUT_RD);
	while ((n = recv(ends[1], bytes, sizeof(bytes), 0)) > 0)
		quitter->bytes += (size_t)n;
	return NULL;
}

TEST(a_peer_that_quits_has_the_frames_that_were_counted, .count = 20)
{
	struct quitter quitter = { .wants = (size_t)_i * 977 };
	pthread_t thread;
	size_t done;

	connect_ends(SOCK_STREAM);
	set_buffer(1);
	add_mixed_frames(60);
	thread = start(read_some_and_quit, &quitter);
	done = stream_write(ends[0], parcels, count, 32 * KIB);
	ck_assert_int_eq(errno, EPIPE);
	join(thread);
	ck_assert_uint_lt(done, count);
	ck_assert_uint_eq(done, frames_within(quitter.bytes));
}

/* Nothing ignores SIGPIPE here: it would end this process. */
TEST(a_closed_peer_is_an_error_and_no_signal)
{
	signal(SIGPIPE, SIG_DFL);
	connect_ends(SOCK_STREAM);
	close(ends[1]);
	ends[1] = -1;
	add_frames(2, 60);
	ck_assert_uint_eq(stream_write(ends[0], parcels, count, NO_LIMIT), 0);
	ck_assert_int_eq(errno, EPIPE);
}

/* On a socket of this type what one call sent stays one record. */
struct records {
	size_t bytes[MOST];
	size_t count;
};

static void *
read_records(void *argument)
{
	static uint8_t record[512 * KIB];
	struct records *records = argument;
	ssize_t n;

	while ((n = recv(ends[1], record, sizeof(record), 0)) > 0)
		records->bytes[records->count++] = (size_t)n;
	return NULL;
}

static void
write_records(struct records *records, size_t limit_bytes)
{
	pthread_t thread;

	records->count = 0;
	connect_ends(SOCK_SEQPACKET);
	thread = start(read_records, records);
	ck_assert_uint_eq(
	    stream_write(ends[0], parcels, count, limit_bytes), count);
	shutdown(ends[0], SHUT_WR);
	join(thread);
}

static const size_t limits[] = { 0, 1, 17, 18, 64, 1517, 1518, 3036, 10 * KIB,
	32 * KIB, 48 * KIB, 128 * KIB };

TEST(a_call_is_whole_frames_as_many_as_fit_the_limit, .count = LENGTH(limits))
{
	static struct records records;
	size_t limit = limits[_i], next = 0;

	add_frames(30, 14);
	add_frames(30, 1514);
	add_mixed_frames(40);
	add_frames(1, 65550);
	add_frames(3, 60);
	write_records(&records, limit);
	for (size_t i = 0; i < records.count; i++) {
		size_t bytes = parcels[next++].iov_len;

		while (next < count && bytes + parcels[next].iov_len <= limit)
			bytes += parcels[next++].iov_len;
		ck_assert_uint_eq(records.bytes[i], bytes);
	}
	ck_assert_uint_eq(next, count);
}

TEST(a_limit_of_zero_is_one_frame_a_call)
{
	static struct records records;

	add_mixed_frames(80);
	write_records(&records, 0);
	ck_assert_uint_eq(records.count, count);
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_eq(records.bytes[i], parcels[i].iov_len);
}

/* The kernel says EMSGSIZE to more than 1024. */
TEST(more_frames_than_a_call_may_have_become_several_calls)
{
	struct reader reader = { .piece = 64 * KIB };
	pthread_t thread;

	connect_ends(SOCK_STREAM);
	add_frames(MOST, 14);
	thread = start(read_to_the_end, &reader);
	ck_assert_uint_eq(
	    stream_write(ends[0], parcels, count, NO_LIMIT), count);
	shutdown(ends[0], SHUT_WR);
	join(thread);
	ck_assert_uint_eq(reader.bytes, stream_bytes);
	ck_assert(reader.same);
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

static void
limit_waiting(int fd)
{
	struct timeval limit = { .tv_usec = 10000 };

	ck_assert_int_eq(
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)), 0);
}

TEST(a_peer_that_reads_nothing_for_the_limit_is_a_break)
{
	size_t done, bytes = 0;
	ssize_t n;

	connect_ends(SOCK_STREAM);
	set_buffer(1);
	limit_waiting(ends[0]);
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

/* Wherever it stands still: within a frame, between two, at the beginning. */
TEST(two_waits_without_a_byte_are_a_break)
{
	static const size_t stands_still_after[] = { 0, 1, 4 + 1514, 2000 };

	for (size_t i = 0; i < 4; i++) {
		count = stream_bytes = 0;
		add_frames(10, 1514);
		be_kernel(0, stands_still_after[i]);
		kernel.breaks_with = EAGAIN;
		errno = 0;
		ck_assert_uint_eq(stream_write(-1, parcels, count, NO_LIMIT),
		    stands_still_after[i] / (4 + 1514));
		ck_assert_int_eq(errno, EAGAIN);
		ck_assert_uint_eq(kernel.calls, 2);
	}
}
