/* Each promise holds for the batch_*.c that is built, for one datagram per call,
 * and for batches with a stand-in for the calls of macOS. */
#include "guest/batch.h"

#include <sys/mman.h>

#include "guest/batch_x.h"
#include "tests/support/frames.h"
#include "tests/support/suite.h"

/* ---- the stand-ins: as batch_x.h describes the calls ---- */

static unsigned calls; /* since the last reset */

static void
expect_usable(const struct message_x *message, int flags)
{
	ck_assert_int_eq(flags, MSG_DONTWAIT);
	ck_assert_int_eq(message->flags, 0);
	ck_assert(!message->name && message->name_length == 0);
	ck_assert(!message->control && message->control_length == 0);
	ck_assert_int_eq(message->part_count, 1);
}

static ssize_t
send_x(int fd, struct message_x *messages, unsigned count, int flags)
{
	unsigned sent = 0;

	calls++;
	for (; sent < count; sent++) {
		expect_usable(&messages[sent], flags);
		if (send(fd, messages[sent].parts->iov_base,
			messages[sent].parts->iov_len, flags) < 0)
			break;
	}
	return sent > 0 ? (ssize_t)sent : -1;
}

static ssize_t
receive_x(int fd, struct message_x *messages, unsigned count, int flags)
{
	unsigned got = 0;

	calls++;
	for (; got < count; got++) {
		ssize_t length;

		expect_usable(&messages[got], flags);
		length = recv(fd, messages[got].parts->iov_base,
		    messages[got].parts->iov_len, flags);
		if (length < 0)
			break;
		messages[got].length = (size_t)length;
	}
	return got > 0 ? (ssize_t)got : -1;
}

static const struct batch_x none, both = { send_x, receive_x };

static int
receive_plain(struct batch *batch, int fd, size_t limit)
{
	return batch_x_receive(batch, &none, fd, limit);
}

static int
send_plain(struct batch *batch, int fd, size_t from)
{
	return batch_x_send(batch, &none, fd, from);
}

static int
receive_many(struct batch *batch, int fd, size_t limit)
{
	return batch_x_receive(batch, &both, fd, limit);
}

static int
send_many(struct batch *batch, int fd, size_t from)
{
	return batch_x_send(batch, &both, fd, from);
}

static const struct way {
	int (*receive)(struct batch *batch, int fd, size_t limit);
	int (*send)(struct batch *batch, int fd, size_t from);
} ways[] = {
	{ batch_receive, batch_send },
	{ receive_plain, send_plain },
	{ receive_many, send_many },
};

/* A test that runs each way. */
#define EACH_WAY(name)                                                         \
	static void name(void);                                                \
	TEST(name##_each_way, .count = LENGTH(ways))                           \
	{                                                                      \
		way = &ways[_i];                                               \
		name();                                                        \
	}                                                                      \
	static void name(void)

static const struct way *way = &ways[0];
static struct batch batch;
static int ends[2]; /* ours, the guest's */
static unsigned descriptors_before;

static void
set_buffer(int fd, int bytes)
{
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void
set_up(void)
{
	way = &ways[0];
	calls = 0;
	scratch_enter();
	descriptors_before = open_descriptors();
	ck_assert_int_eq(batch_create(&batch), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	set_buffer(ends[0], 16 * 1024 * 1024);
	set_buffer(ends[1], 16 * 1024 * 1024);
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
guest_sends(size_t count, size_t length, uint32_t number)
{
	static uint8_t frame[FRAME_LIMIT_BYTES];

	while (count-- > 0) {
		frame_write(frame, length, number++);
		ck_assert_int_eq(
		    send(ends[1], frame, length, 0), (ssize_t)length);
	}
}

static void
receive(size_t limit, size_t expected)
{
	ck_assert_int_eq(way->receive(&batch, ends[0], limit), 0);
	ck_assert_uint_eq(batch.count, expected);
}

/* Header and frame. */
static void
expect(size_t i, size_t length, uint32_t number)
{
	static uint8_t framed[FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES];
	const struct iovec *parcel = &batch.parcels[i];

	ck_assert_uint_eq(
	    parcel->iov_len, frame_write_framed(framed, length, number));
	ck_assert_mem_eq(parcel->iov_base, framed, parcel->iov_len);
	ck_assert_uint_eq((uintptr_t)parcel_frame(parcel) % 64, 0);
}

FIXTURE(set_up, tear_down)

EACH_WAY(queued_frames_are_received_in_order_up_to_the_limit)
{
	guest_sends(BATCH_FRAMES + 8, 60, 0);
	receive(1, 1);
	expect(0, 60, 0);
	receive(BATCH_FRAMES, BATCH_FRAMES);
	for (uint32_t i = 0; i < BATCH_FRAMES; i++)
		expect(i, 60, 1 + i);
	receive(3, 3);
	receive(BATCH_FRAMES, 4);
	expect(3, 60, BATCH_FRAMES + 7);
}

static void *
receive_one(void *argument)
{
	receive(BATCH_FRAMES, 1);
	return argument;
}

EACH_WAY(it_waits_for_the_first_frame_only)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, receive_one, NULL), 0);
	guest_sends(1, 60, 1);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	expect(0, 60, 1);
}

EACH_WAY(a_failure_leaves_no_frames)
{
	guest_sends(1, 60, 1);
	receive(BATCH_FRAMES, 1);
	ck_assert_int_eq(way->receive(&batch, -1, BATCH_FRAMES), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_uint_eq(batch.count, 0);
}

/* It is not an end of file, although QEMU takes it for one. */
EACH_WAY(an_empty_datagram_is_a_frame_of_length_zero)
{
	guest_sends(1, 60, 1);
	guest_sends(1, 0, 2);
	guest_sends(1, 60, 3);
	receive(BATCH_FRAMES, 3);
	expect(0, 60, 1);
	expect(1, 0, 2);
	expect(2, 60, 3);
}

EACH_WAY(frames_of_any_length_lie_whole_behind_their_headers)
{
	static const size_t lengths[] = { 1, 13, 14, 1514, 4095, 4096, 65550,
		FRAME_LIMIT_BYTES - 1, FRAME_LIMIT_BYTES };

	for (uint32_t i = 0; i < LENGTH(lengths); i++) {
		guest_sends(3, lengths[i], i);
		receive(3, 3);
		for (uint32_t k = 0; k < 3; k++)
			expect(k, lengths[i], i + k);
	}
}

EACH_WAY(a_datagram_that_is_too_long_is_cut_and_reported_alone)
{
	static uint8_t longer[FRAME_LIMIT_BYTES + 100];

	guest_sends(1, 60, 0);
	ck_assert_int_eq(
	    send(ends[1], longer, sizeof(longer), 0), (ssize_t)sizeof(longer));
	guest_sends(1, 60, 2);
	receive(BATCH_FRAMES, 3);
	ck_assert_uint_eq(
	    parcel_length(&batch.parcels[1]), FRAME_LIMIT_BYTES + 1);
	expect(0, 60, 0);
	expect(2, 60, 2);
}

/* Parcels to send, as a deframer finds them. */
static void
prepare(size_t count, size_t length)
{
	static uint8_t bytes[BATCH_FRAMES][FRAME_HEADER_BYTES + 2000];

	for (uint32_t i = 0; i < count; i++)
		batch.parcels[i] = (struct iovec){ bytes[i],
			frame_write_framed(bytes[i], length, i) };
	batch.count = count;
}

/* How many frames the guest has got, numbered from `from` on. */
static int
guest_gets(size_t length, uint32_t from)
{
	uint8_t frame[2001];
	int count = 0;
	ssize_t n;

	while ((n = recv(ends[1], frame, sizeof(frame), MSG_DONTWAIT)) >= 0) {
		ck_assert_int_eq(n, (ssize_t)length);
		frame_expect(frame, length, from + (uint32_t)count++);
	}
	return count;
}

EACH_WAY(each_frame_goes_as_one_datagram)
{
	prepare(BATCH_FRAMES, 1514);
	ck_assert_int_eq(way->send(&batch, ends[0], 200), BATCH_FRAMES - 200);
	ck_assert_int_eq(guest_gets(1514, 200), BATCH_FRAMES - 200);
}

/* The descriptor itself would block. */
EACH_WAY(a_full_guest_takes_some_frames_and_the_call_does_not_block)
{
	int first, second;

	set_buffer(ends[0], 1);
	prepare(100, 1514);
	first = way->send(&batch, ends[0], 0);
	ck_assert_int_gt(first, 0);
	ck_assert_int_lt(first, 100);
	ck_assert_int_eq(way->send(&batch, ends[0], (size_t)first), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_eq(guest_gets(1514, 0), first);
	second = way->send(&batch, ends[0], (size_t)first);
	ck_assert_int_gt(second, 0);
	ck_assert_int_eq(guest_gets(1514, (uint32_t)first), second);
}

/* ---- with the calls of macOS ---- */

/* One recvfrom() for the first, and calls of 64. */
TEST(many_frames_need_few_calls)
{
	way = &ways[2];
	guest_sends(BATCH_FRAMES, 60, 0);
	receive(BATCH_FRAMES, BATCH_FRAMES);
	ck_assert_uint_eq(calls, 4);
	calls = 0;
	prepare(BATCH_FRAMES, 1514); /* 64 KiB a call */
	ck_assert_int_eq(way->send(&batch, ends[0], 0), BATCH_FRAMES);
	ck_assert_uint_eq(calls, 6);
	ck_assert_int_eq(guest_gets(1514, 0), BATCH_FRAMES);
}

/* A call that finds a long one behind others may report none as sent. */
TEST(long_frames_are_sent_alone)
{
	way = &ways[2];
	prepare(3, 60);
	batch.parcels[1].iov_len = FRAME_HEADER_BYTES + 2049;
	batch.parcels[1].iov_base = batch_slot(&batch, 0) - FRAME_HEADER_BYTES;
	ck_assert_int_eq(way->send(&batch, ends[0], 0), 3);
	ck_assert_uint_eq(calls, 0);
}

static ssize_t
refuse(int fd, struct message_x *messages, unsigned count, int flags)
{
	(void)fd, (void)messages, (void)count, (void)flags;
	errno = EINVAL;
	return -1;
}

/* As macOS 13 does when there is no room for a datagram. */
static ssize_t
send_and_count_one_more(
    int fd, struct message_x *messages, unsigned count, int flags)
{
	ssize_t sent = send_x(fd, messages, count, flags);

	return sent < (ssize_t)count ? sent + 1 : sent;
}

static ssize_t
receive_without_lengths(
    int fd, struct message_x *messages, unsigned count, int flags)
{
	ssize_t got = receive_x(fd, messages, count, flags);

	for (ssize_t i = 0; i < got; i++)
		messages[i].length = 0;
	return got;
}

TEST(calls_that_do_not_keep_their_promises_are_not_used)
{
	static const struct batch_x faulty[] = { { NULL, NULL },
		{ send_x, NULL }, { NULL, receive_x }, { refuse, receive_x },
		{ send_x, refuse }, { send_and_count_one_more, receive_x },
		{ send_x, receive_without_lengths } };

	ck_assert(batch_x_works(&both));
	for (size_t i = 0; i < LENGTH(faulty); i++)
		ck_assert_msg(!batch_x_works(&faulty[i]), "%zu", i);
}

/* For example because of a change by an update of the system. */
TEST(calls_that_begin_to_fail_lose_nothing)
{
	static const struct batch_x failing = { refuse, refuse };

	prepare(10, 60);
	ck_assert_int_eq(batch_x_send(&batch, &failing, ends[0], 0), 10);
	ck_assert_int_eq(guest_gets(60, 0), 10);
	guest_sends(2, 60, 0);
	for (uint32_t i = 0; i < 2; i++) {
		ck_assert_int_eq(
		    batch_x_receive(&batch, &failing, ends[0], 10), 0);
		ck_assert_uint_eq(batch.count, 1);
		expect(0, 60, i);
	}
}

/* ---- memory ---- */

#define MEMORY_BYTES (BATCH_FRAMES * (size_t)BATCH_STRIDE)

/* Returns how many pages have memory. */
static size_t
resident(void)
{
	static unsigned char there[MEMORY_BYTES / 4096 + 1];
	size_t page = (size_t)sysconf(_SC_PAGESIZE), count = 0;

	ck_assert_int_eq(mincore(batch.memory, MEMORY_BYTES, (void *)there), 0);
	for (size_t i = 0; i < MEMORY_BYTES / page; i++)
		count += there[i] & 1;
	return count;
}

/* Frames of that many bytes came into the slots from `first` on. */
static void
frames_came(size_t first, size_t count, size_t bytes)
{
	batch_clear(&batch);
	batch.count = first;
	while (count-- > 0)
		batch_add(&batch, bytes);
	batch_clear(&batch);
}

TEST(slots_have_no_memory_before_they_are_used)
{
	ck_assert_uint_eq(resident(), 0);
	guest_sends(20, 60, 0);
	receive(BATCH_FRAMES, 20);
	/* A page each, or two that a slot's beginning lies across. */
	ck_assert_uint_le(resident(), 40);
}

TEST(the_memory_of_a_burst_of_long_frames_is_released)
{
	memset(batch.memory, 1, MEMORY_BYTES);
	frames_came(0, BATCH_FRAMES, 65550);
	ck_assert_uint_eq(resident(), 0);
	guest_sends(3, 65550, 0);
	receive(BATCH_FRAMES, 3);
	expect(2, 65550, 2);
}

/* Receives as up.c does, with frames of one length. */
TEST(frames_of_one_length_keep_their_memory)
{
	for (size_t bytes = 4096; bytes < 65550; bytes += 500) {
		frames_came(0, BATCH_FRAMES, 65550); /* releases all */
		memset(batch.memory, 1, MEMORY_BYTES);
		for (int i = 0; i < 1000; i++)
			frames_came(0, 128u * 1024 / bytes, bytes);
		ck_assert_uint_gt(resident(), 4000);
	}
}

TEST(long_frames_here_and_there_add_up)
{
	size_t rounds = 0;

	memset(batch.memory, 1, MEMORY_BYTES);
	while (resident() > 1000) {
		frames_came(rounds++ * 37 % BATCH_FRAMES, 1, 9014);
		ck_assert_uint_lt(rounds, 60);
	}
	ck_assert_uint_ge(rounds, 25);
}
