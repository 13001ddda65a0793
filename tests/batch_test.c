/* Of whichever batch_*.c is built; with PORTABLE=1 that is batch_plain.c. */
#include "guest/batch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/frames.h"
#include "tests/support/suite.h"

static struct batch batch;
static int ends[2]; /* ours, the guest's */
static unsigned descriptors_before;

/* As large as the system lets anybody have. */
static void
set_buffer(int fd)
{
	int bytes = 16 * 1024 * 1024;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static size_t page;

static void
set_up(void)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	scratch_enter();
	descriptors_before = open_descriptors();
	ck_assert_int_eq(batch_create(&batch), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	set_buffer(ends[0]);
	set_buffer(ends[1]);
}

static void
tear_down(void)
{
	close(ends[0]);
	close(ends[1]);
	batch_destroy(&batch);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
	scratch_leave();
}

static void
guest_sends(size_t length, uint32_t number)
{
	static uint8_t frame[FRAME_LIMIT_BYTES];

	frame_write(frame, length, number);
	ck_assert_int_eq(send(ends[1], frame, length, 0), (ssize_t)length);
}

static void
guest_sends_many(size_t count, size_t length)
{
	for (size_t i = 0; i < count; i++)
		guest_sends(length, (uint32_t)i);
}

static void
receive(size_t limit)
{
	ck_assert_int_eq(batch_receive(&batch, ends[0], limit), 0);
}

static void
expect_received(size_t i, size_t length, uint32_t number)
{
	ck_assert_uint_eq(batch.length[i], length);
	ck_assert(!batch.cut[i]);
	frame_expect(batch_frame(&batch, i), length, number);
}

FIXTURE(set_up, tear_down)

TEST(one_frame_is_enough)
{
	guest_sends(60, 7);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.count, 1);
	expect_received(0, 60, 7);
}

TEST(what_is_there_comes_at_once_in_order)
{
	guest_sends_many(40, 1514);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.count, 40);
	for (uint32_t i = 0; i < 40; i++)
		expect_received(i, 1514, i);
}

/* A path may fill sun_path, without a final zero. */
TEST(the_longest_senders_name_is_no_longer_than_its_place)
{
	struct sockaddr_un named = { .sun_family = AF_UNIX };
	struct sockaddr_un ours = { .sun_family = AF_UNIX, .sun_path = "ours" };
	const struct sockaddr *address = (struct sockaddr *)&ours;
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	close(ends[0]);
	ends[0] = socket(AF_UNIX, SOCK_DGRAM, 0);
	ck_assert_int_eq(bind(ends[0], address, sizeof(ours)), 0);
	memset(named.sun_path, 'x', sizeof(named.sun_path));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&named, sizeof(named)), 0);
	ck_assert_int_eq(connect(fd, address, sizeof(ours)), 0);
	ck_assert_int_eq(send(fd, "frame", 5, 0), 5);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.sender_length, sizeof(named));
	ck_assert_mem_eq(&batch.sender, &named, sizeof(named));
	close(fd);
}

TEST(a_batch_can_be_full_and_the_rest_waits)
{
	guest_sends_many(BATCH_FRAMES + 3, 60);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.count, BATCH_FRAMES);
	for (uint32_t i = 0; i < BATCH_FRAMES; i++)
		expect_received(i, 60, i);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.count, 3);
	expect_received(2, 60, BATCH_FRAMES + 2);
}

TEST(no_more_than_the_limit_is_taken)
{
	guest_sends_many(5, 60);
	receive(1);
	ck_assert_uint_eq(batch.count, 1);
	receive(3);
	ck_assert_uint_eq(batch.count, 3);
	expect_received(2, 60, 3);
	receive(3);
	ck_assert_uint_eq(batch.count, 1);
	expect_received(0, 60, 4);
}

static void *
receive_one(void *argument)
{
	(void)argument;
	receive(BATCH_FRAMES);
	return NULL;
}

TEST(it_waits_for_the_first_frame_and_for_no_second)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, receive_one, NULL), 0);
	guest_sends(60, 1);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(batch.count, 1);
	expect_received(0, 60, 1);
}

TEST(a_failure_is_told_and_leaves_no_frames)
{
	guest_sends(60, 1);
	receive(BATCH_FRAMES);
	ck_assert_int_eq(batch_receive(&batch, -1, BATCH_FRAMES), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_uint_eq(batch.count, 0);
}

/* It isn't an end of file: QEMU takes it for one. */
TEST(an_empty_datagram_is_a_frame_of_no_length)
{
	guest_sends(60, 1);
	ck_assert_int_eq(send(ends[1], "", 0, 0), 0);
	guest_sends(60, 3);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.count, 3);
	expect_received(0, 60, 1);
	ck_assert_uint_eq(batch.length[1], 0);
	ck_assert(!batch.cut[1]);
	expect_received(2, 60, 3);
}

static const size_t lengths[] = { 1, 13, 14, 1514, 4095, 4096, 9014, 65550,
	FRAME_LIMIT_BYTES - 1, FRAME_LIMIT_BYTES };
#define LENGTHS (sizeof(lengths) / sizeof(*lengths))

TEST(frames_of_any_length_lie_whole_in_their_slots)
{
	for (uint32_t i = 0; i < LENGTHS; i++) {
		guest_sends(lengths[i], 2 * i);
		guest_sends(60, 2 * i + 1);
		receive(BATCH_FRAMES);
		ck_assert_uint_eq(batch.count, 2);
		expect_received(0, lengths[i], 2 * i);
		expect_received(1, 60, 2 * i + 1);
	}
}

TEST(a_datagram_longer_than_a_slot_is_cut_and_hurts_no_other)
{
	static uint8_t longer[FRAME_LIMIT_BYTES + 1];

	guest_sends(60, 0);
	memset(longer, 0xee, sizeof(longer));
	ck_assert_int_eq(
	    send(ends[1], longer, sizeof(longer), 0), (ssize_t)sizeof(longer));
	guest_sends(60, 2);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.count, 3);
	ck_assert(batch.cut[1]);
	ck_assert_uint_le(batch.length[1], FRAME_LIMIT_BYTES);
	expect_received(0, 60, 0);
	expect_received(2, 60, 2);

	guest_sends_many(2, FRAME_LIMIT_BYTES);
	receive(BATCH_FRAMES);
	ck_assert(!batch.cut[1]);
}

TEST(a_parcel_is_the_header_and_right_behind_it_the_frame)
{
	static uint8_t expected[FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES];

	for (uint32_t i = 0; i < LENGTHS; i++) {
		size_t bytes = frame_write_framed(expected, lengths[i], i);
		struct iovec parcel;

		guest_sends(lengths[i], i);
		receive(1);
		parcel = batch_parcel(&batch, 0);
		ck_assert_uint_eq(parcel.iov_len, bytes);
		ck_assert_mem_eq(parcel.iov_base, expected, bytes);
	}
}

/* The header of a slot is written when its neighbour is full to the end. */
TEST(headers_leave_the_neighbours_alone)
{
	guest_sends_many(3, FRAME_LIMIT_BYTES);
	receive(3);
	ck_assert_uint_eq(batch.count, 3);
	for (size_t i = 0; i < 3; i++)
		batch_parcel(&batch, i);
	for (uint32_t i = 0; i < 3; i++)
		expect_received(i, FRAME_LIMIT_BYTES, i);
}

TEST(a_frame_starts_on_a_cache_line)
{
	for (size_t i = 0; i < BATCH_FRAMES; i++)
		ck_assert_uint_eq((uintptr_t)batch_frame(&batch, i) % 64, 0);
}

/* Sockets bound to paths, or to nothing, that send to ours. */
static int
sender(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	strcpy(address.sun_path, "ours");
	ck_assert_int_eq(
	    connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	strcpy(address.sun_path, path);
	if (*path)
		ck_assert_int_eq(
		    bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void
bind_ours(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	close(ends[0]);
	ends[0] = socket(AF_UNIX, SOCK_DGRAM, 0);
	strcpy(address.sun_path, "ours");
	ck_assert_int_eq(
	    bind(ends[0], (struct sockaddr *)&address, sizeof(address)), 0);
}

TEST(the_sender_is_that_of_the_first_frame)
{
	int a, b, nobody;

	bind_ours();
	a = sender("a");
	b = sender("b");
	nobody = sender("");
	ck_assert_int_eq(send(a, "1", 1, 0), 1);
	ck_assert_int_eq(send(b, "2", 1, 0), 1);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.count, 2);
	ck_assert_uint_gt(batch.sender_length, 0);
	ck_assert_str_eq(batch.sender.sun_path, "a");

	ck_assert_int_eq(send(nobody, "3", 1, 0), 1);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.sender_length, 0);

	ck_assert_int_eq(send(b, "4", 1, 0), 1);
	ck_assert_int_eq(send(a, "5", 1, 0), 1);
	receive(BATCH_FRAMES);
	ck_assert_str_eq(batch.sender.sun_path, "b");
	close(a);
	close(b);
	close(nobody);
}

/* Frames to send, all of one length. */
static struct frame outgoing[BATCH_FRAMES + 10];

static void
prepare(size_t length)
{
	static uint8_t bytes[BATCH_FRAMES + 10][2000];

	for (uint32_t i = 0; i < BATCH_FRAMES + 10; i++) {
		frame_write(bytes[i], length, i);
		outgoing[i] = (struct frame){ bytes[i], (uint32_t)length };
	}
}

/* How many frames the guest has got, numbered from `from` on. */
static uint32_t
guest_gets(size_t length, uint32_t from)
{
	uint8_t frame[2001];
	uint32_t number = from;
	ssize_t n;

	while ((n = recv(ends[1], frame, sizeof(frame), MSG_DONTWAIT)) >= 0) {
		ck_assert_int_eq(n, (ssize_t)length);
		frame_expect(frame, length, number++);
	}
	return number - from;
}

TEST(each_frame_goes_as_one_datagram)
{
	prepare(1514);
	ck_assert_int_eq(batch_send(&batch, ends[0], outgoing, 50), 50);
	ck_assert_uint_eq(guest_gets(1514, 0), 50);
}

/* The descriptor itself would block. */
TEST(a_full_guest_takes_a_part_and_nobody_waits)
{
	uint32_t first, second;
	int smallest = 1, n;

	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
	prepare(1514);
	n = batch_send(&batch, ends[0], outgoing, 100);
	ck_assert_int_gt(n, 0);
	ck_assert_int_lt(n, 100);
	first = (uint32_t)n;
	ck_assert_int_eq(batch_send(&batch, ends[0], outgoing + first, 10), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_uint_eq(guest_gets(1514, 0), first);
	n = batch_send(&batch, ends[0], outgoing + first, 100 - first);
	ck_assert_int_gt(n, 0);
	second = (uint32_t)n;
	ck_assert_uint_eq(guest_gets(1514, first), second);
}

TEST(more_than_a_batch_is_sent_in_part_and_not_beyond)
{
	uint32_t sent;
	int n;

	prepare(60);
	n = batch_send(&batch, ends[0], outgoing, BATCH_FRAMES + 10);
	ck_assert_int_ge(n, BATCH_FRAMES);
	sent = (uint32_t)n;
	ck_assert_uint_eq(guest_gets(60, 0), sent);
}

TEST(a_guest_that_is_gone_is_an_error_and_no_signal)
{
	prepare(60);
	close(ends[1]);
	ck_assert_int_eq(batch_send(&batch, ends[0], outgoing, 3), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	ends[1] = dup(ends[0]);
}

TEST(a_frame_larger_than_the_buffer_is_refused_alone)
{
	static uint8_t large[60000];
	int smallest = 1;

	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
	prepare(60);
	outgoing[1] = (struct frame){ large, sizeof(large) };
	ck_assert_int_eq(batch_send(&batch, ends[0], outgoing, 3), 1);
	ck_assert_int_eq(batch_send(&batch, ends[0], outgoing + 1, 2), -1);
	ck_assert_int_eq(errno, EMSGSIZE);
	ck_assert_int_eq(batch_send(&batch, ends[0], outgoing + 2, 1), 1);
}

/* Pages that have memory, in slots `from` to `to`. */
static size_t
resident(size_t from, size_t to)
{
	static unsigned char there[BATCH_FRAMES * (BATCH_STRIDE / 4096 + 1)];
	size_t first = (from * BATCH_STRIDE + page - 1) / page;
	size_t last = to * BATCH_STRIDE / page, count = 0;

	ck_assert_int_eq(mincore(batch.memory + first * page,
			     (last - first) * page, (void *)there),
	    0);
	for (size_t i = 0; i < last - first; i++)
		count += there[i] & 1;
	return count;
}

static void
swell(void)
{
	memset(batch.memory, 1, BATCH_FRAMES * (size_t)BATCH_STRIDE);
}

TEST(nothing_has_memory_before_it_is_used)
{
	ck_assert_uint_eq(resident(0, BATCH_FRAMES), 0);
	guest_sends_many(20, 60);
	receive(BATCH_FRAMES);
	/* A page each, or two that a slot's beginning lies across. */
	ck_assert_uint_le(resident(0, BATCH_FRAMES), 40);
}

/* Frames that were received into the first slots, as one batch. */
static void
tell_frames(size_t count, uint32_t bytes)
{
	for (size_t i = 0; i < count; i++) {
		batch.length[i] = bytes;
		if (bytes > BATCH_LONG_BYTES)
			batch_tell_long(&batch, i);
	}
	batch_trim(&batch);
}

TEST(a_burst_of_long_frames_gives_all_its_memory_back)
{
	swell();
	tell_frames(BATCH_FRAMES, 65000);
	ck_assert_uint_eq(resident(0, BATCH_FRAMES), 0);
}

/* What up.c takes at once of frames of one length. */
TEST(frames_of_one_length_keep_their_memory)
{
	for (uint32_t bytes = BATCH_LONG_BYTES; bytes < 65550; bytes += 500) {
		swell();
		for (int i = 0; i < 1000; i++)
			tell_frames(128u * 1024 / bytes, bytes);
		ck_assert_uint_gt(resident(0, BATCH_FRAMES), 4000);
	}
}

TEST(long_frames_here_and_there_add_up)
{
	size_t rounds = 0;

	swell();
	while (resident(0, BATCH_FRAMES) > 0) {
		size_t i = rounds++ * 37 % BATCH_FRAMES;

		batch.length[i] = 9014;
		batch_tell_long(&batch, i);
		batch_trim(&batch);
		ck_assert_uint_lt(rounds, 100);
	}
	ck_assert_uint_ge(rounds, 40);
}

TEST(frames_are_received_again_after_a_trim)
{
	guest_sends_many(3, 65550);
	receive(BATCH_FRAMES);
	tell_frames(BATCH_FRAMES, 65550);
	ck_assert_uint_eq(resident(0, BATCH_FRAMES), 0);
	guest_sends_many(3, 65550);
	receive(BATCH_FRAMES);
	ck_assert_uint_eq(batch.count, 3);
	for (uint32_t i = 0; i < 3; i++)
		expect_received(i, 65550, i);
}
