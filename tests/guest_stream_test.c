/* Guests that use a stream: clients of a listening socket, and descriptors. */
#include "tests/support/frames.h"
#include "tests/support/log_catcher.h"
#include "tests/support/opened_guest.h"
#include "tests/support/settable_clock.h"

#define TAKEN (-1) /* no refusal */
#define LONG_BYTES 60000

static uint8_t framed[FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES];

static void
set_up_path(void)
{
	opened_guest_set_up();
	open_guest("listen-unix:ours", 0600);
}

/* ---- the three threads ---- */

/* Receives as fwd-up does, once. */
static void
hear(size_t count, size_t limit)
{
	ck_assert_int_eq(guest_receive(&guest, &received, limit), 0);
	ck_assert_uint_eq(received.count, count);
}

/* Receives as fwd-up does, until there are frames. */
static void
hear_frames(size_t count, uint32_t number, size_t length)
{
	do
		ck_assert_int_eq(guest_receive(&guest, &received, 8), 0);
	while (received.count == 0);
	ck_assert_uint_eq(received.count, count);
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_eq(parcel_length(&received.parcels[i]), length);
		frame_expect(parcel_frame(&received.parcels[i]), length,
		    number + (uint32_t)i);
	}
}

/* Sends a frame as fwd-down does. Returns TAKEN or the refusal. */
static int
answer(uint32_t number, size_t length)
{
	enum guest_refusal refusal;

	sent.parcels[0] = (struct iovec){ framed,
		frame_write_framed(framed, length, number) };
	sent.count = 1;
	return guest_send(&guest, &sent, 0, &refusal) == 1 ? TAKEN
							   : (int)refusal;
}

static void
serve_all(void)
{
	while (serve())
		;
}

/* ---- the guest's side ---- */

static int
connect_guest(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX,
		.sun_path = "ours" };
	int fd = own(socket(AF_UNIX, SOCK_STREAM, 0));

	ck_assert_int_eq(
	    connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static int
connected(void)
{
	int fd = connect_guest();

	serve_all();
	ck_assert(guest.present);
	return fd;
}

/* The bytes of one frame, the first `bytes` of them only. */
static void
say_part(int fd, uint32_t number, size_t length, size_t bytes)
{
	static uint8_t frame[sizeof(framed)];

	frame_write_framed(frame, length, number);
	ck_assert_int_eq(send(fd, frame, bytes, 0), (ssize_t)bytes);
}

static void
say(int fd, uint32_t number, size_t length)
{
	say_part(fd, number, length, FRAME_HEADER_BYTES + length);
}

static void
say_length(int fd, uint32_t length)
{
	uint8_t header[FRAME_HEADER_BYTES];

	frame_put_header(header, length);
	ck_assert_int_eq(send(fd, header, sizeof(header), 0), sizeof(header));
}

static void
gets(int fd, uint32_t number, size_t length)
{
	static uint8_t bytes[sizeof(framed)];
	size_t expected = FRAME_HEADER_BYTES + length;

	ck_assert_int_eq(
	    recv(fd, bytes, expected, MSG_WAITALL), (ssize_t)expected);
	frame_expect(bytes + FRAME_HEADER_BYTES, length, number);
}

static void
expect_end(int fd)
{
	char byte;

	ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

/* Hangs up, and fwd-up notices it. */
static void
leave(int fd)
{
	hang_up(fd);
	hear(0, 8);
	ck_assert(!guest.present);
}

/* ---- a descriptor ---- */

static int
open_pair(void)
{
	int ends[2];
	char text[32];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	snprintf(text, sizeof(text), "fd:%d", ends[0]);
	open_guest(text, 0600);
	return own(ends[1]);
}

FIXTURE(opened_guest_set_up, opened_guest_tear_down)

TEST(a_connected_stream_socket_is_a_guest_from_the_start)
{
	int fds[GUEST_KEPT], fd = open_pair();

	ck_assert_str_eq(peer(), "fd");
	ck_assert_int_eq(fcntl(guest.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	say(fd, 1, 60);
	hear_frames(1, 1, 60);
	ck_assert_int_eq(answer(2, 1514), TAKEN);
	gets(fd, 2, 1514);
	/* A forwarder that was killed may have stopped inside a frame. */
	ck_assert_uint_eq(guest_duplicate(&guest, fds), 0);
}

TEST(a_given_stream_is_gone_for_good_when_it_ends, .count = 2)
{
	int fd = open_pair();

	say(fd, 1, 60);
	if (_i == 0)
		hang_up(fd);
	else
		say_length(fd, UINT32_MAX);
	hear_frames(1, 1, 60);
	ck_assert_int_eq(guest_receive(&guest, &received, 8), -1);
	ck_assert_int_eq(guest_receive(&guest, &received, 8), -1);
	ck_assert_int_eq(answer(2, 60), GUEST_ABSENT);
	ck_assert_str_eq(peer(), "");
	if (_i == 1)
		expect_end(fd);
}

TEST(a_send_that_fails_tells_that_a_given_stream_is_gone)
{
	hang_up(open_pair());
	ck_assert_int_eq(answer(1, 60), GUEST_GONE);
}

/* ---- a path ---- */

FIXTURE(set_up_path, opened_guest_tear_down)

TEST(a_path_listens_with_its_mode_and_has_no_guest_yet)
{
	struct stat file;

	ck_assert_int_eq(lstat("ours", &file), 0);
	ck_assert_uint_eq(file.st_mode & 0777, 0600);
	ck_assert_str_eq(peer(), "");
	ck_assert(!serve());
	ck_assert(!guest_is_readable(&guest));
	ck_assert_int_eq(answer(1, 60), GUEST_ABSENT);
}

TEST(a_client_is_the_guest_until_it_leaves_and_then_the_next_one)
{
	char expected[32];
	int fd;

	snprintf(expected, sizeof(expected), "pid:%d", (int)getpid());
	for (uint32_t i = 0; i < 3; i++) {
		fd = connected();
		ck_assert_str_eq(peer(), expected);
		ck_assert_uint_eq(others, i);
		ck_assert_int_eq(
		    fcntl(guest.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		say(fd, i, 60);
		hear_frames(1, i, 60);
		ck_assert_int_eq(answer(i, 60), TAKEN);
		gets(fd, i, 60);
		leave(fd);
		ck_assert_str_eq(peer(), "");
		ck_assert_int_eq(answer(i, 60), GUEST_ABSENT);
	}
	ck_assert_uint_eq(log_count("info guest: connected peer=pid:"), 3);
	ck_assert_uint_eq(log_count("info guest: disconnected peer=pid:"), 3);
	ck_assert_uint_eq(log_count("\n"), caught_log.limited);
}

TEST(a_second_client_waits_until_the_first_has_left)
{
	int first = connected(), second = connect_guest();

	serve_all();
	say(second, 2, 60);
	say(first, 1, 60);
	hear_frames(1, 1, 60);
	leave(first);
	ck_assert(serve()); /* was told */
	hear_frames(1, 2, 60);
	hang_up(second);
}

TEST(frames_beyond_the_limit_need_no_further_read)
{
	int fd = connected();

	for (uint32_t i = 0; i < 5; i++)
		say(fd, i, 60);
	hang_up(fd);
	for (uint32_t i = 0; i < 5; i += 2) {
		hear(i < 4 ? 2 : 1, 2);
		frame_expect(parcel_frame(received.parcels), 60, i);
		if (i < 4)
			ck_assert(guest_await(&guest, -1));
	}
	hear(0, 2);
}

TEST(a_batch_of_just_the_limit_is_followed_by_an_empty_one)
{
	int fd = connected();

	say(fd, 0, 60);
	say(fd, 1, 60);
	hear(2, 2);
	ck_assert(guest_await(&guest, -1));
	hear(0, 2);
	ck_assert(!guest.has_frames);
	hang_up(fd);
}

TEST(a_frame_that_comes_byte_by_byte_is_received_whole)
{
	uint8_t bytes[FRAME_HEADER_BYTES + 60];
	int fd = connected();

	frame_write_framed(bytes, 60, 7);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ck_assert_int_eq(send(fd, bytes + i, 1, 0), 1);
		hear(i == sizeof(bytes) - 1, 8);
	}
	frame_expect(parcel_frame(received.parcels), 60, 7);
	hang_up(fd);
}

TEST(frames_that_cannot_be_forwarded_are_counted_as_skipped)
{
	int fd = connected();

	say_length(fd, 0);
	say(fd, 1, 13);
	say(fd, 2, 60);
	hear(1, 8);
	ck_assert_uint_eq(received.skipped.empty, 1);
	ck_assert_uint_eq(received.skipped.runt, 1);
	say_part(fd, 3, 60, 63);
	hear(0, 8);
	ck_assert_uint_eq(received.skipped.empty, 0);
	leave(fd);
	ck_assert_uint_eq(received.skipped.truncated, 1);
	/* The next client begins with a header. */
	fd = connected();
	say(fd, 4, 60);
	hear_frames(1, 4, 60);
	ck_assert_uint_eq(received.skipped.truncated, 0);
	hang_up(fd);
}

TEST(a_length_over_the_limit_ends_the_connection_with_one_warning)
{
	int fd = connected();

	guest_set_max_frame(&guest, 1514);
	say(fd, 1, 1514);
	say_length(fd, 1515);
	hear_frames(1, 1, 1514);
	hear(0, 8);
	ck_assert_uint_eq(received.skipped.oversize, 1);
	ck_assert_uint_eq(log_count("length=1515 max_frame=1514"), 1);
	ck_assert_uint_eq(log_count("warn"), 1);
	hang_up(fd);
	fd = connected();
	say(fd, 2, 60);
	hear_frames(1, 2, 60);
	hang_up(fd);
}

/* Sends long frames until the guest's queue is full. Returns the number of the
 * next one. */
static uint32_t
fill(uint32_t number, size_t length)
{
	while (answer(number, length) == TAKEN)
		ck_assert_uint_lt(number++, 10000);
	ck_assert_int_eq(answer(number, length), GUEST_FULL);
	return number;
}

TEST(a_frame_that_was_sent_in_part_is_finished, .count = 2)
{
	int fd = connected();
	uint32_t count = fill(0, LONG_BYTES);

	for (uint32_t i = 0; i < count - 1; i++)
		gets(fd, i, LONG_BYTES);
	if (_i == 0) /* by main(), if nothing more is sent */
		ck_assert(serve());
	else /* by the next send */
		ck_assert_int_eq(answer(count, LONG_BYTES), TAKEN);
	gets(fd, count - 1, LONG_BYTES);
	if (_i == 1)
		gets(fd, count, LONG_BYTES);
	serve_all();
	hang_up(fd);
}

TEST(the_rest_of_a_frame_does_not_reach_the_next_guest)
{
	int fd = connected();

	fill(0, LONG_BYTES);
	leave(fd);
	fd = connected();
	ck_assert_int_eq(answer(9, 60), TAKEN);
	gets(fd, 9, 60);
	hang_up(fd);
}

TEST(no_write_to_a_guest_is_longer_than_a_simple_reader_expects)
{
	static uint8_t bytes[64 * (FRAME_HEADER_BYTES + 1514)];
	enum guest_refusal refusal;
	int fd = connected();
	size_t at = 0;

	for (uint32_t i = 0; i < 64; i++) {
		size_t length = frame_write_framed(bytes + at, 1514, i);

		sent.parcels[i] = (struct iovec){ bytes + at, length };
		at += length;
	}
	sent.count = 64;
	/* 21 parcels of 1518 bytes fit into 32 KiB */
	ck_assert_uint_eq(guest_send(&guest, &sent, 0, &refusal), 21);
	ck_assert_uint_eq(guest_send(&guest, &sent, 60, &refusal), 4);
	for (uint32_t i = 0; i < 25; i++)
		gets(fd, i < 21 ? i : i + 39, 1514);
	hang_up(fd);
}

TEST(a_guest_that_only_sends_is_heard_until_it_leaves)
{
	int fd = connected();

	shutdown(fd, SHUT_RD);
	ck_assert_int_eq(answer(1, 60), GUEST_ABSENT);
	say(fd, 2, 60);
	hear_frames(1, 2, 60);
	leave(fd);
	hang_up(connected());
}

TEST(our_new_file_takes_the_next_guest_and_keeps_the_present_one)
{
	unsigned changes = guest.changes;
	int fd = connected();

	ck_assert_int_eq(unlink("ours"), 0);
	ck_assert_int_eq(guest_bind_again(&guest, &error), 0);
	ck_assert_uint_ne(guest.changes, changes);
	say(fd, 1, 60);
	hear_frames(1, 1, 60);
	leave(fd);
	fd = connected();
	say(fd, 2, 60);
	hear_frames(1, 2, 60);
	hang_up(fd);
}

TEST(out_of_descriptors_a_client_is_tried_again_later)
{
	struct pollfd fds[GUEST_DESCRIPTORS];
	int fd = connect_guest(), limit = limit_descriptors(fd + 1), pause_ms;

	ck_assert(serve());
	ck_assert(!serve()); /* does not spin */
	ck_assert_uint_eq(
	    log_count("warn guest: can't accept a client error="), 1);
	limit_descriptors(limit);
	pause_ms = guest_watch(&guest, fds);
	ck_assert_int_gt(pause_ms, 0);
	clock_skip(pause_ms);
	ck_assert(serve());
	ck_assert(guest.present);
	hang_up(fd);
}

/* ---- an inherited socket ---- */

static void
inherit(int fd)
{
	offers[0] = (struct guest_offer){ .fd = fd };
	offered = 1;
	open_guest("listen-unix:ours", 0600);
}

TEST(clients_that_connect_during_a_restart_are_served)
{
	int fds[GUEST_KEPT], fd;

	ck_assert_uint_eq(guest_duplicate(&guest, fds), 1);
	ck_assert_int_eq(chmod("ours", 0660), 0);
	*guest.file.path = '\0'; /* a kept socket's file stays */
	guest_close(&guest);
	fd = connect_guest();
	say(fd, 1, 60);
	inherit(fds[0]);
	ck_assert_ptr_null(offers[0].fault);
	ck_assert(guest_is_inherited(&guest));
	ck_assert(unix_file_stands(&guest.file));
	serve_all();
	hear_frames(1, 1, 60);
	hang_up(fd);
}

TEST(an_inherited_socket_that_lost_its_file_is_bound_again)
{
	int fds[GUEST_KEPT];

	ck_assert_uint_eq(guest_duplicate(&guest, fds), 1);
	guest_close(&guest);
	inherit(fds[0]);
	ck_assert(!unix_file_stands(&guest.file));
}

TEST(a_descriptor_that_does_not_fit_is_refused_with_the_reason)
{
	static const char *const faults[] = { "not a socket",
		"not a Unix stream socket", "not a Unix stream socket",
		"not a listening socket",
		"not bound to the path of the guest endpoint" };
	struct unix_file file;
	int fds[] = { open(".", O_RDONLY), socket(AF_UNIX, SOCK_DGRAM, 0),
		socket(AF_INET, SOCK_STREAM, 0),
		socket(AF_UNIX, SOCK_STREAM, 0),
		unix_bind(&file, SOCK_STREAM, "other", 0600, &error) };

	for (int i = 0; i < LENGTH(fds); i++) {
		guest_close(&guest);
		inherit(fds[i]);
		ck_assert_str_eq(offers[0].fault, faults[i]);
		ck_assert(!guest_is_inherited(&guest));
		close(fds[i]);
	}
}

/* ---- its threads ---- */

static atomic_bool over;
static atomic_uint heard;

static void *
receive_for_ever(void *argument)
{
	while (!atomic_load(&over)) {
		ck_assert_int_eq(guest_receive(&guest, &received, 8), 0);
		for (size_t i = 0; i < received.count; i++)
			frame_expect(parcel_frame(&received.parcels[i]), 60,
			    frame_number(parcel_frame(&received.parcels[i])));
		heard += (unsigned)received.count;
	}
	return argument;
}

static void *
send_for_ever(void *argument)
{
	for (uint32_t i = 0; !atomic_load(&over); i++) {
		answer(i, i % 16 ? 60 : LONG_BYTES);
		sched_yield();
	}
	return argument;
}

static void *
serve_for_ever(void *argument)
{
	while (!atomic_load(&over)) {
		serve();
		sched_yield();
	}
	return argument;
}

/* Reads one whole frame, of any of the two lengths. */
static void
get_any(int fd)
{
	uint8_t header[FRAME_HEADER_BYTES];
	static uint8_t frame[LONG_BYTES];
	size_t length;

	ck_assert_int_eq(recv(fd, header, 4, MSG_WAITALL), 4);
	length = (size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3];
	ck_assert(length == 60 || length == LONG_BYTES);
	ck_assert_int_eq(recv(fd, frame, length, MSG_WAITALL), (ssize_t)length);
	frame_expect(frame, length, frame_number(frame));
}

TEST(clients_that_come_and_go_under_traffic_get_whole_frames, .seconds = 30)
{
	static void *(*const run[])(
	    void *) = { receive_for_ever, send_for_ever, serve_for_ever };
	pthread_t threads[3];
	int fd = -1;

	atomic_store(&over, false);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(
		    pthread_create(&threads[i], NULL, run[i], NULL), 0);
	for (uint32_t i = 0; i < 200; i++) {
		fd = connect_guest();
		say(fd, i, 60);
		if (i % 4 == 3)
			say_length(fd, UINT32_MAX);
		else
			for (uint32_t n = 0; n < i % 32; n++)
				get_any(fd);
		hang_up(fd);
	}
	while (heard < 200)
		sched_yield();
	fd = connect_guest();
	atomic_store(&over, true);
	say(fd, 0, 60); /* ends the wait of fwd-up */
	pthread_join(threads[1], NULL);
	pthread_join(threads[2], NULL);
	serve_all();
	pthread_join(threads[0], NULL);
	hang_up(fd);
}
