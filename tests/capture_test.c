/* The daemon's side of a capture; the test is the client. */
#include "status/capture.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/shared_memory.h"
#include "tests/support/log_catcher.h"
#include "tests/support/settable_user.h"
#include "tests/support/suite.h"

#define SKIP 4
#define FRAME_BYTES 1000
#define SOME_MS 5000 /* longer than anything takes on a busy machine */

static struct capture capture;
static const struct status status = { .name = "vm1",
	.network = { .state = "up", .generation = 3 } };
static int client; /* our end */
static const uint8_t *memory;
static struct capture_hello hello;
static unsigned descriptors_before;

/* What the client has written, by kind of block. */
static struct {
	unsigned sections, interfaces, events, comments;
	unsigned frames[CAPTURE_DIRECTIONS];
	uint64_t received[CAPTURE_DIRECTIONS], lost[CAPTURE_DIRECTIONS];
	uint64_t time_ns; /* of the last frame */
	char event[512];  /* the last one */
	char comment[512];
} file;

/* ---- the client ---- */

static void
take_frame(const uint32_t *block)
{
	uint64_t time_ns = (uint64_t)block[3] << 32 | block[4];
	const uint32_t *options = block + 7 + (block[5] + 3) / 4;
	uint16_t option[2];

	ck_assert_uint_lt(block[2], CAPTURE_DIRECTIONS);
	ck_assert_uint_ge(time_ns, file.time_ns);
	file.time_ns = time_ns;
	file.frames[block[2]]++;
	if (options - block == block[1] / 4 - 1)
		return;
	memcpy(option, options, sizeof(option));
	ck_assert_uint_eq(option[0], 1);
	file.comments++;
	snprintf(file.comment, sizeof(file.comment), "%.*s", option[1],
	    (const char *)(options + 1));
}

static void
take_block(const uint32_t *block)
{
	switch (block[0]) {
	case 0x0a0d0d0a:
		file.sections++;
		break;
	case 1:
		file.interfaces++;
		break;
	case 5:
		memcpy(&file.received[block[2]], block + 9, 8);
		memcpy(&file.lost[block[2]], block + 12, 8);
		break;
	case 6:
		take_frame(block);
		break;
	case 9:
		file.events++;
		snprintf(file.event, sizeof(file.event), "%.*s",
		    (int)(block[1] - 12), (const char *)(block + 2));
		break;
	default:
		ck_abort_msg("a block of type %u", block[0]);
	}
}

/* Waits for the next part, and reads it without saying so. Returns false at the
 * end. */
static bool
read_part(void)
{
	struct pollfd p = { .fd = client, .events = POLLIN };
	struct capture_part part;
	ssize_t n;

	ck_assert_int_eq(poll(&p, 1, SOME_MS), 1);
	n = recv(client, &part, sizeof(part), 0);
	if (n <= 0)
		return false;
	ck_assert_int_eq(n, sizeof(part));
	ck_assert_uint_le(part.offset + part.length, hello.bytes);
	for (uint32_t at = 0; at < part.length;) {
		const uint32_t *block =
		    (const void *)(memory + part.offset + at);

		ck_assert_uint_eq(block[block[1] / 4 - 1], block[1]);
		take_block(block);
		at += block[1];
	}
	return true;
}

static void
say(char byte)
{
	ck_assert_int_eq(send(client, &byte, 1, MSG_NOSIGNAL), 1);
}

static bool
take_part(void)
{
	if (!read_part())
		return false;
	say(CAPTURE_TAKEN);
	return true;
}

/* Takes parts until the connection ends. */
static void
take_all(void)
{
	while (take_part())
		;
}

static void
take_frames(unsigned up, unsigned down)
{
	while (file.frames[CAPTURE_UP] < up || file.frames[CAPTURE_DOWN] < down)
		ck_assert(take_part());
}

static const char *
begin(void)
{
	int ends[2], fd;
	const char *refusal;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	refusal = capture_start(&capture, ends[0], &status);
	if (refusal) {
		close(ends[0]);
		close(ends[1]);
		return refusal;
	}
	client = ends[1];
	memset(&file, 0, sizeof(file));
	ck_assert_int_eq(
	    shared_memory_receive(client, &fd, &hello, sizeof(hello)),
	    sizeof(hello));
	ck_assert_str_eq(hello.magic, CAPTURE_MAGIC);
	memory = mmap(NULL, hello.bytes, PROT_READ, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(memory, MAP_FAILED);
	close(fd);
	return NULL;
}

static void
await_off(void)
{
	int64_t deadline_ms = clock_now_ms() + SOME_MS;

	while (atomic_load(&capture.state) != CAPTURE_OFF) {
		ck_assert_int_lt(clock_now_ms(), deadline_ms);
		sched_yield();
	}
}

static void
leave(void)
{
	munmap((void *)(uintptr_t)memory, hello.bytes);
	close(client);
	await_off();
}

/* ---- the copy threads ---- */

static void
pass(enum capture_direction direction, unsigned count)
{
	uint8_t bytes[SKIP + FRAME_BYTES] = { 0 };
	struct iovec pieces[] = { { bytes, sizeof(bytes) },
		{ bytes, SKIP + 60 } };

	for (unsigned i = 0; i < count; i++)
		capture_frames(&capture, direction, pieces + i % 2, 1, SKIP);
}

static void
set_up(void)
{
	descriptors_before = open_descriptors();
	atomic_store(&user_at_the_other_end, geteuid());
	capture_init(&capture);
	ck_assert_ptr_null(begin());
}

/* The thread closes the client's connection last of all. */
static void
tear_down(void)
{
	int64_t deadline_ms = clock_now_ms() + SOME_MS;

	leave();
	while (open_descriptors() != descriptors_before) {
		ck_assert_int_lt(clock_now_ms(), deadline_ms);
		sched_yield();
	}
}

FIXTURE(set_up, tear_down)

TEST(a_file_begins_with_two_interfaces_and_the_state_of_the_link)
{
	ck_assert(take_part());
	ck_assert(file.sections == 1 && file.interfaces == 2);
	ck_assert_ptr_nonnull(strstr(
	    file.event, "MESSAGE=capture began: link up, generation 3\n"));
}

TEST(frames_are_captured_in_order_with_their_direction)
{
	pass(CAPTURE_UP, 3);
	pass(CAPTURE_DOWN, 2);
	take_frames(3, 2);
	pass(CAPTURE_UP, 1);
	take_frames(4, 2);
}

TEST(an_event_is_an_entry_and_the_comment_of_the_next_frame)
{
	pass(CAPTURE_UP, 1);
	take_frames(1, 0);
	capture_event(&capture, "one\n");
	capture_event(&capture, "two");
	ck_assert(take_part());
	ck_assert_uint_eq(file.comments, 1);
	pass(CAPTURE_DOWN, 2);
	take_frames(1, 2);
	ck_assert_uint_eq(file.comments, 2);
	ck_assert_str_eq(file.comment, "one\\x0a; two");
}

TEST(what_a_slow_reader_does_not_take_is_lost_and_counted)
{
	static const unsigned many = 10000;

	ck_assert(read_part()); /* and don't say so */
	pass(CAPTURE_UP, many);
	pass(CAPTURE_DOWN, many);
	say(CAPTURE_TAKEN);
	ck_assert(take_part()); /* the full buffer */
	ck_assert_uint_gt(file.frames[CAPTURE_UP], 1000);
	ck_assert(take_part()); /* says at once how many were lost */
	ck_assert_uint_gt(file.lost[CAPTURE_DOWN], 1000);
	pass(CAPTURE_DOWN, 1);
	say(CAPTURE_END);
	take_all();
	for (int i = 0; i < CAPTURE_DIRECTIONS; i++) {
		ck_assert_uint_eq(file.received[i], many + (i == CAPTURE_DOWN));
		ck_assert_uint_eq(
		    file.received[i], file.frames[i] + file.lost[i]);
	}
}

TEST(an_event_finds_room_in_a_buffer_full_of_frames)
{
	ck_assert(read_part());
	pass(CAPTURE_UP, 10000);
	capture_event(&capture, "it rains");
	say(CAPTURE_TAKEN);
	ck_assert(take_part());
	ck_assert_ptr_nonnull(strstr(file.event, "it rains"));
}

TEST(the_end_that_a_client_asks_for_has_all_frames_and_the_statistics)
{
	pass(CAPTURE_UP, 5);
	say(CAPTURE_END);
	take_all();
	ck_assert_uint_eq(file.frames[CAPTURE_UP], 5);
	ck_assert_uint_eq(file.received[CAPTURE_UP], 5);
	ck_assert_ptr_nonnull(
	    strstr(file.event, "capture ended: 5 frames, 0 lost\n"));
	await_off();
	pass(CAPTURE_UP, 1);
}

TEST(a_client_that_leaves_ends_the_capture_without_a_frame, .count = 2)
{
	if (_i == 0)
		ck_assert(take_part());
	shutdown(client, SHUT_RDWR);
	await_off();
	ck_assert_uint_eq(log_count("capture ended"), 1);
}

/* TAKEN with nothing to take, and a byte that means nothing. */
static const char *const lies[] = { "tt", "x" };

TEST(a_client_that_says_what_it_may_not_is_cut_off, .count = LENGTH(lies))
{
	ck_assert(read_part());
	ck_assert_int_gt(send(client, lies[_i], strlen(lies[_i]), 0), 0);
	await_off();
}

/* Also if the client is interrupted at the same time, as when the host stops. */
TEST(a_stop_ends_the_file, .count = 2)
{
	pass(CAPTURE_UP, 2);
	ck_assert(take_part());
	capture_stop(&capture);
	if (_i == 1)
		say(CAPTURE_END);
	take_all();
	ck_assert_uint_eq(file.received[CAPTURE_UP], 2);
	ck_assert_uint_eq(file.frames[CAPTURE_UP], 2);
}

TEST(a_client_that_takes_nothing_delays_a_stop_by_a_fifth_of_a_second)
{
	int64_t start_ms = clock_now_ms(), took_ms;

	ck_assert(read_part());
	capture_stop(&capture);
	took_ms = clock_now_ms() - start_ms;
	ck_assert_int_ge(took_ms, CAPTURE_STOP_MS);
	ck_assert_int_lt(took_ms, CAPTURE_END_MS);
	await_off();
	ck_assert_int_ge(clock_now_ms() - start_ms, CAPTURE_END_MS);
}

TEST(there_is_one_capture_at_a_time)
{
	ck_assert_ptr_nonnull(strstr(begin(), "another capture"));
	say(CAPTURE_END);
	take_all();
	leave();
	ck_assert_ptr_null(begin());
	pass(CAPTURE_DOWN, 1);
	take_frames(0, 1);
	ck_assert_uint_eq(file.sections, 1);
}

TEST(another_user_may_not_capture)
{
	leave();
	atomic_store(&user_at_the_other_end, STRANGER);
	ck_assert_ptr_nonnull(strstr(begin(), "only root"));
	atomic_store(&user_at_the_other_end, (uid_t)-1);
	ck_assert_ptr_nonnull(strstr(begin(), "only root"));
	atomic_store(&user_at_the_other_end, 0);
	ck_assert_ptr_null(begin());
}

static atomic_bool busy;

static void *
pass_on(void *direction)
{
	while (atomic_load(&busy))
		if (capture_is_on(&capture))
			pass(*(enum capture_direction *)direction, 10);
	return NULL;
}

/* For ThreadSanitizer: captures begin and end, in every way, under load. */
TEST(captures_come_and_go_under_load, .seconds = 30)
{
	static enum capture_direction directions[] = { CAPTURE_UP,
		CAPTURE_DOWN };
	pthread_t threads[2];

	atomic_store(&busy, true);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(
		    pthread_create(&threads[i], NULL, pass_on, &directions[i]),
		    0);
	for (int i = 0; i < 40; i++) {
		ck_assert(take_part());
		capture_event(&capture, "again");
		if (i % 4 == 0)
			capture_stop(&capture);
		else if (i % 4 == 1)
			say(CAPTURE_END);
		if (i % 4 < 2)
			take_all();
		leave();
		ck_assert_ptr_null(begin());
	}
	atomic_store(&busy, false);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}
