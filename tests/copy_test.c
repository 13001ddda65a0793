/* The two copy threads over socket pairs, with a real link whose connections the
 * test installs. COPY_BREAKS=1 breaks a batch at every byte. */
#include "forwarder/copy.h"

#include <sys/time.h>

#include "forwarder/keep.h"
#include "keepalive/probe.h"
#include "tests/support/balking.h"
#include "tests/support/frames.h"
#include "tests/support/guest_pair.h"
#include "tests/support/log_catcher.h"
#include "tests/support/set_key.h"
#include "tests/support/settable_clock.h"
#include "tests/support/suite.h"

#define HOUR_MS (60 * 60 * 1000)
#define MAX_FRAME 65550

static struct copy copy;
static struct capture capture;
static struct guest guest;
static struct link the_link;
static struct settings settings;
static struct monitor monitor;
static struct config config;
static struct doorbell ended;
static pthread_t threads[2];
static int guest_end;  /* the guest's own socket */
static int peer;       /* the network's end of the present connection */
static bool datagrams; /* how frames travel on the next connection */
static unsigned descriptors_before;

static void *
run_up(void *argument)
{
	copy_up(&copy);
	return argument;
}

static void *
run_down(void *argument)
{
	copy_down(&copy);
	return argument;
}

/* Replaces a table's refused(), which decides what a refused send means. */
static _Atomic enum guest_refusal meaning;

static enum guest_refusal
refuse(struct guest *it, uint64_t which, int error)
{
	(void)it, (void)which, (void)error;
	return meaning;
}

static void
open_guest(void)
{
	static struct guest_ops ops;

	guest_end = guest_open_pair(&guest);
	ops = *guest.ops;
	ops.refused = refuse;
	guest.ops = &ops;
}

static void
init(void)
{
	descriptors_before = open_descriptors();
	peer = -1;
	open_guest();
	config_defaults(&config);
	set_key(&config, "network", "endpoint", "unix:/nowhere");
	config.guest.stall_ms = HOUR_MS;
	config.network.max_frame = MAX_FRAME;
	settings_init(&settings, &config);
	ck_assert_int_eq(doorbell_init(&ended), 0);
	ck_assert_int_eq(link_init(&the_link), 0);
	monitor_init(&monitor, &the_link, &guest, &settings);
	copy = (struct copy){ .guest = &guest,
		.link = &the_link,
		.settings = &settings,
		.monitor = &monitor,
		.capture = &capture,
		.ended = &ended };
}

static void
set_up(void)
{
	init();
	ck_assert_int_eq(copy_open(&copy), 0);
	ck_assert_int_eq(pthread_create(&threads[0], NULL, run_up, NULL), 0);
	ck_assert_int_eq(pthread_create(&threads[1], NULL, run_down, NULL), 0);
}

static void
release(void)
{
	link_destroy(&the_link);
	doorbell_destroy(&ended);
	guest_close(&guest);
	close(guest_end);
	if (peer >= 0)
		close(peer);
	mutex_destroy(&monitor.lock);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
}

static void
tear_down(void)
{
	link_stop(&the_link);
	ck_assert_int_eq(pthread_join(threads[1], NULL), 0);
	/* fwd-up notices the end with the guest's next frame. */
	send(guest_end, (uint8_t[60]){ 0 }, 60, MSG_DONTWAIT | MSG_NOSIGNAL);
	ck_assert_int_eq(pthread_join(threads[0], NULL), 0);
	release();
}

static void
set_stall(int64_t stall_ms)
{
	config.guest.stall_ms = stall_ms;
	settings_publish(&settings, &config);
}

static void
set_keep(unsigned keep)
{
	config.network.keep = keep;
	settings_publish(&settings, &config);
	link_set_hold(&the_link, 0); /* as a reload: it wakes fwd-up */
}

/* A new generation with a send buffer of `bytes`; 0: the usual one. Waits for
 * fwd-down while that still has LINK_CONNECTIONS to read. */
static void
install_small(int bytes)
{
	int ends[2];

	ck_assert_int_eq(
	    socketpair(AF_UNIX, datagrams ? SOCK_DGRAM : SOCK_STREAM, 0, ends),
	    0);
	if (bytes)
		setsockopt(
		    ends[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	peer = ends[1];
	while (link_install(&the_link, dup(ends[0]), datagrams) == 0) {
		ck_assert_int_eq(errno, EBUSY);
		sched_yield();
	}
	close(ends[0]);
}

static void
install(void)
{
	install_small(0);
}

static struct link_view
look(void)
{
	struct link_view view;

	link_look(&the_link, &view);
	return view;
}

static void
await_down(uint64_t generation)
{
	while (look().state == LINK_UP && look().generation == generation)
		sched_yield();
}

/* A frame is counted after it went. */
static void
expect_count(counter *count, uint64_t expected)
{
	while (counter_read(count) < expected)
		sched_yield();
	ck_assert_uint_eq(counter_read(count), expected);
}

static void
await_kept(uint64_t expected)
{
	while (counter_read(&copy.up.kept) != expected)
		sched_yield();
}

static void
close_peer(void)
{
	close(peer);
	peer = -1;
}

/* Each of the next four sends or expects `count` frames of one length, numbered
 * on from `number`. */
static void
guest_sends(uint32_t count, size_t length, uint32_t number)
{
	uint8_t frame[FRAME_LIMIT_BYTES];

	while (count-- > 0) {
		frame_write(frame, length, number++);
		ck_assert_int_eq(
		    send(guest_end, frame, length, 0), (ssize_t)length);
	}
}

static void
guest_gets(uint32_t count, size_t length, uint32_t number)
{
	uint8_t frame[FRAME_LIMIT_BYTES + 1];

	while (count-- > 0) {
		ck_assert_int_eq(
		    recv(guest_end, frame, sizeof(frame), 0), (ssize_t)length);
		frame_expect(frame, length, number++);
	}
}

static void
write_bytes(const void *bytes, size_t count)
{
	ck_assert_int_eq(
	    send(peer, bytes, count, MSG_NOSIGNAL), (ssize_t)count);
}

static void
network_sends(uint32_t count, size_t length, uint32_t number)
{
	uint8_t framed[FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES];
	size_t skip = datagrams ? FRAME_HEADER_BYTES : 0;

	while (count-- > 0)
		write_bytes(framed + skip,
		    frame_write_framed(framed, length, number++) - skip);
}

static void
read_bytes(uint8_t *bytes, size_t count)
{
	for (size_t have = 0; have < count;) {
		ssize_t n = recv(peer, bytes + have, count - have, 0);

		ck_assert_int_gt(n, 0);
		have += (size_t)n;
	}
}

/* The next frame that the network gets; returns its length. */
static size_t
network_reads(uint8_t *frame)
{
	uint8_t header[FRAME_HEADER_BYTES];
	size_t length;

	if (datagrams)
		return (size_t)recv(peer, frame, FRAME_LIMIT_BYTES, 0);
	read_bytes(header, sizeof(header));
	length = (size_t)header[0] << 24 | (size_t)header[1] << 16 |
		 (size_t)header[2] << 8 | header[3];
	ck_assert_uint_le(length, FRAME_LIMIT_BYTES);
	read_bytes(frame, length);
	return length;
}

static void
network_gets(uint32_t count, size_t length, uint32_t number)
{
	uint8_t frame[FRAME_LIMIT_BYTES];

	while (count-- > 0) {
		ck_assert_uint_eq(network_reads(frame), length);
		frame_expect(frame, length, number++);
	}
}

/* A frame of 60 bytes that nothing holds back. */
static void
goes_up(uint32_t number)
{
	guest_sends(1, 60, number);
	network_gets(1, 60, number);
}

static void
goes_down(uint32_t number)
{
	network_sends(1, 60, number);
	guest_gets(1, 60, number);
}

/* Skips what comes before. */
static void
network_gets_at_last(uint32_t number)
{
	uint8_t frame[FRAME_LIMIT_BYTES];

	do
		network_reads(frame);
	while (frame_number(frame) != number);
}

/* ---- both ways ---- */

FIXTURE(set_up, tear_down)

TEST(frames_of_any_length_pass_whole_both_ways, .count = 2)
{
	static const size_t lengths[] = { 14, 60, 1514, 1984, 1985, 9014, 65535,
		MAX_FRAME };
	uint64_t bytes = 0;

	datagrams = _i;
	install();
	for (uint32_t i = 0; i < LENGTH(lengths); i++) {
		guest_sends(1, lengths[i], i);
		network_gets(1, lengths[i], i);
		network_sends(1, lengths[i], 100 + i);
		guest_gets(1, lengths[i], 100 + i);
		bytes += lengths[i];
	}
	expect_count(&copy.up.bytes, bytes);
	expect_count(&copy.down.bytes, bytes);
	ck_assert_uint_eq(counter_read(&copy.up.frames), LENGTH(lengths));
	ck_assert_uint_eq(counter_read(&copy.down.frames), LENGTH(lengths));
}

#define MANY 5000

static size_t
any_length(uint32_t number)
{
	uint64_t luck = number;

	return suite_random(&luck) % 50 == 0
		   ? NUMBERED_BYTES + suite_random(&luck) % 60000
		   : NUMBERED_BYTES + suite_random(&luck) % 1500;
}

static void *
guest_sends_many(void *argument)
{
	for (uint32_t i = 0; i < MANY; i++)
		guest_sends(1, any_length(i), i);
	return argument;
}

static void *
network_sends_many(void *argument)
{
	for (uint32_t i = 0; i < MANY; i++)
		network_sends(1, any_length(i), i);
	return argument;
}

/* With a stall of an hour a slow guest loses no frame. */
TEST(many_frames_keep_their_order, .count = 2)
{
	pthread_t senders[2];

	datagrams = _i;
	install();
	pthread_create(&senders[0], NULL, guest_sends_many, NULL);
	pthread_create(&senders[1], NULL, network_sends_many, NULL);
	for (uint32_t i = 0; i < MANY; i++) {
		network_gets(1, any_length(i), i);
		guest_gets(1, any_length(i), i);
	}
	pthread_join(senders[0], NULL);
	pthread_join(senders[1], NULL);
	ck_assert_uint_eq(counter_read(&copy.down.guest_slow), 0);
}

TEST(a_stop_ends_both_threads_however_they_wait, .count = 5)
{
	datagrams = _i > 2;
	if (_i > 0)
		install_small(1);
	if (_i == 2 || _i == 4) { /* fwd-up waits in a write */
		guest_sends(20, 1514, 0);
		read_bytes((uint8_t[1]){ 0 }, 1);
	}
	/* tear_down() */
}

static void
ignore(int signal)
{
	(void)signal;
}

TEST(a_signal_ends_no_wait)
{
	const struct sigaction action = { .sa_handler = ignore };

	sigaction(SIGUSR1, &action, NULL);
	install();
	for (uint32_t i = 0; i < 20; i++) {
		goes_up(i);
		goes_down(i);
		expect_count(&copy.down.frames, i + 1);
		pthread_kill(threads[0], SIGUSR1);
		pthread_kill(threads[1], SIGUSR1);
	}
	ck_assert_uint_eq(look().generation, 1);
	ck_assert_int_eq(look().state, LINK_UP);
}

/* ---- many frames in one system call ---- */

#define TOGETHER 50
#define PARCEL_BYTES (FRAME_HEADER_BYTES + 1514)

/* On a SOCK_SEQPACKET each write is a record. fwd-up holds one batch; the other
 * frames queue. */
TEST(queued_frames_are_written_together_within_write_batch, .count = 2)
{
	static uint8_t record[TOGETHER * PARCEL_BYTES];
	size_t frames = 0, longest = 0;
	int ends[2];

	if (_i == 0)
		config.network.write_batch = 11 * PARCEL_BYTES - 1;
	else /* half of it limits a write, too */
		config.network.send_buffer = 22 * PARCEL_BYTES - 1;
	settings_publish(&settings, &config);
	guest_sends(TOGETHER, 1514, 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	peer = ends[1];
	link_install(&the_link, ends[0], false);
	while (frames < TOGETHER) {
		size_t bytes = (size_t)recv(peer, record, sizeof(record), 0);

		ck_assert_uint_eq(bytes % PARCEL_BYTES, 0);
		frames += bytes / PARCEL_BYTES;
		longest = bytes > longest ? bytes : longest;
	}
	ck_assert_uint_eq(longest, 10 * PARCEL_BYTES);
}

/* If a guest is absent, the rest of the batch is dropped after one call. */
TEST(frames_that_arrive_together_are_sent_together)
{
	uint8_t bytes[TOGETHER * (FRAME_HEADER_BYTES + 60)];
	size_t length = 0;

	for (uint32_t i = 0; i < TOGETHER; i++)
		length += frame_write_framed(bytes + length, 60, i);
	meaning = GUEST_ABSENT;
	balk(&sends, guest.fd, 1, EPIPE);
	install();
	write_bytes(bytes, length);
	expect_count(&copy.down.guest_absent, TOGETHER);
}

/* ---- hold ---- */

TEST(hold_zero_drops_at_once_and_counts)
{
	set_keep(0);
	guest_sends(20, 1514, 0);
	expect_count(&copy.up.outage, 20);
	install();
	goes_up(20);
	expect_count(&copy.up.frames, 1);
	ck_assert_uint_eq(counter_read(&copy.up.outage), 20);
}

/* ---- breaks ---- */

#define BATCH 24

static size_t
batch_length(uint32_t number)
{
	return any_length(number) % 1500 + NUMBERED_BYTES;
}

/* Bytes of the frames from `from` to `to`, each with `header` more. */
static size_t
batch_bytes(uint32_t from, uint32_t to, size_t header)
{
	size_t bytes = 0;

	for (uint32_t i = from; i < to; i++)
		bytes += header + batch_length(i);
	return bytes;
}

/* What a generation's peer has got: whole frames, numbered on from `next`;
 * returns the number after them. */
static uint32_t
whole_frames(const uint8_t *bytes, size_t count, uint32_t next)
{
	uint8_t framed[FRAME_HEADER_BYTES + 4000];
	size_t at = 0, length;

	for (; next < BATCH; next++, at += length) {
		length = frame_write_framed(framed, batch_length(next), next);
		if (at + length > count)
			break;
		ck_assert_mem_eq(bytes + at, framed, length);
	}
	return next;
}

/* Reads k bytes and no more, and then what the kernel had accepted. */
static uint32_t
read_and_quit(size_t k, uint32_t next)
{
	static uint8_t bytes[256 * 1024];
	size_t have = k;
	ssize_t n;

	read_bytes(bytes, k);
	shutdown(peer, SHUT_RD);
	while ((n = recv(peer, bytes + have, sizeof(bytes) - have, 0)) > 0)
		have += (size_t)n;
	close_peer();
	return whole_frames(bytes, have, next);
}

static void
send_batch(void)
{
	for (uint32_t i = 0; i < BATCH; i++)
		guest_sends(1, batch_length(i), i);
}

static void
network_gets_batch(uint32_t from)
{
	for (uint32_t i = from; i < BATCH; i++)
		network_gets(1, batch_length(i), i);
}

TEST(a_broken_batch_continues_with_its_first_incomplete_frame, .count = 2,
    .seconds = 60)
{
	size_t step = getenv("COPY_BREAKS") ? 1 : 997;
	size_t batch = batch_bytes(0, BATCH, 0);
	uint64_t rounds = 0, generation;

	config.network.write_batch = _i ? 32 * 1024 : 0;
	settings_publish(&settings, &config);
	for (size_t k = 0; k <= batch_bytes(0, BATCH, FRAME_HEADER_BYTES);
	     k += step) {
		uint32_t next;

		install_small(1);
		generation = look().generation;
		send_batch();
		next = read_and_quit(k, 0);
		await_down(generation);
		install();
		network_gets_batch(next);
		goes_up(1000);
		close_peer();
		await_down(generation + 1);
		rounds++;
		expect_count(&copy.up.frames, rounds * (BATCH + 1));
		expect_count(&copy.up.bytes, rounds * (batch + 60));
	}
	ck_assert_uint_eq(counter_read(&copy.up.outage), 0);
}

TEST(the_rest_of_a_broken_batch_is_dropped_when_hold_is_over, .seconds = 60)
{
	uint32_t written;

	set_keep(0);
	install_small(1);
	send_batch();
	written = read_and_quit(700, 0);
	expect_count(&copy.up.outage, BATCH - written);
	ck_assert_uint_eq(counter_read(&copy.up.frames), written);
}

/* fwd-up (here: the test) reports the end before fwd-down has read. */
TEST(what_a_peer_wrote_before_it_closed_reaches_the_guest, .seconds = 60)
{
	uint8_t bytes[FRAME_HEADER_BYTES + 60];

	for (uint32_t i = 0; i < 200; i++) {
		size_t length = frame_write_framed(bytes, 60, i);
		int ends[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
		ck_assert_int_eq(
		    write(ends[1], bytes, length), (ssize_t)length);
		close(ends[1]);
		link_fail(&the_link, link_install(&the_link, ends[0], false),
		    "a write was refused");
		guest_gets(1, 60, i);
	}
}

/* Nobody reads: the batch waits for the next generation. */
static void
expect_stall(void)
{
	send_batch();
	await_down(1);
	ck_assert_str_eq(
	    look().last_error, "a write made no progress for write_stall");
	ck_assert_uint_eq(counter_read(&monitor.write_stalls), 1);
	close_peer();
	install();
	guest_sends(1, 60, BATCH);
	network_gets_at_last(BATCH);
	ck_assert_uint_eq(counter_read(&copy.up.outage), 0);
}

TEST(a_write_without_progress_ends_the_generation, .seconds = 60)
{
	struct timeval limit = { .tv_usec = 10000 };
	struct loan loan;

	install_small(1);
	ck_assert_int_eq(
	    link_borrow(&the_link, &loan, LINK_NO_WAIT), LINK_READY);
	setsockopt(loan.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	link_return(&loan);
	expect_stall();
}

/* ---- keep ---- */

/* Sends frames in an outage that has lasted longer than hold. Returns when all are
 * kept. */
static void
guest_sends_kept(uint32_t count, uint32_t number)
{
	link_set_hold(&the_link, 0);
	guest_sends(count, 60, number);
	await_kept(count);
}

TEST(kept_frames_are_sent_although_the_guest_sends_no_more)
{
	guest_sends_kept(64, 0);
	install();
	network_gets(64, 60, 0);
	expect_count(&copy.up.frames, 64);
	goes_up(64);
	await_kept(0);
	ck_assert_uint_eq(counter_read(&copy.up.outage), 0);
}

TEST(the_batch_that_waited_is_kept_when_hold_is_over)
{
	guest_sends(1, 60, 0);
	link_set_hold(&the_link, 0);
	await_kept(1);
	install();
	network_gets(1, 60, 0);
}

/* The connection and the next frame come together: the order differs by round. */
TEST(newer_frames_follow_the_kept_ones, .seconds = 30)
{
	for (uint32_t round = 0; round < 200; round++) {
		guest_sends_kept(3, 0);
		install();
		guest_sends(3, 60, 3);
		network_gets(6, 60, 0);
		expect_count(&copy.up.frames, (round + 1) * 6);
		await_kept(0);
		close_peer();
		await_down(round + 1);
	}
	ck_assert_uint_eq(counter_read(&copy.up.outage), 0);
}

TEST(of_more_frames_than_keep_the_newest_are_sent)
{
	set_keep(4);
	guest_sends(10, 60, 0);
	expect_count(&copy.up.outage, 6);
	install();
	network_gets(4, 60, 6);
	expect_count(&copy.up.frames, 4);
	ck_assert_uint_eq(counter_read(&copy.up.outage), 6);
}

TEST(a_frame_that_was_kept_too_long_is_not_sent)
{
	guest_sends_kept(2, 0);
	clock_skip(KEEP_AGE_MS);
	guest_sends(1, 60, 2);
	expect_count(&copy.up.outage, 2);
	clock_skip(KEEP_AGE_MS - 1000);
	install();
	network_gets(1, 60, 2);
	goes_up(3);
	close_peer();
	await_down(1);
	guest_sends_kept(1, 4);
	clock_skip(KEEP_AGE_MS);
	install();
	expect_count(&copy.up.outage, 3);
	goes_up(5);
	expect_count(&copy.up.frames, 3);
}

TEST(a_reload_drops_what_may_not_be_kept_any_more)
{
	guest_sends_kept(5, 0);
	set_keep(3);
	expect_count(&copy.up.outage, 2);
	set_keep(0);
	expect_count(&copy.up.outage, 5);
	install();
	goes_up(5);
	await_kept(0);
	expect_count(&copy.up.frames, 1);
}

/* One generation takes a part; each byte may be its last. */
TEST(a_break_while_kept_frames_are_written_keeps_the_rest, .seconds = 60)
{
	size_t step = getenv("COPY_BREAKS") ? 1 : 997;
	size_t batch = batch_bytes(0, BATCH, FRAME_HEADER_BYTES);
	uint64_t frames = 0, generation;
	uint32_t next;

	link_set_hold(&the_link, 0);
	for (size_t k = 0; k <= batch; k += step) {
		send_batch();
		await_kept(BATCH);
		install_small(1);
		generation = look().generation;
		next = read_and_quit(k, 0);
		await_down(generation);
		expect_count(&copy.up.frames, frames + next);
		guest_sends(1, 60, 1000); /* behind the rest */
		await_kept(BATCH - next + 1);
		install();
		network_gets_batch(next);
		network_gets(1, 60, 1000);
		frames += BATCH + 1;
		expect_count(&copy.up.frames, frames);
		close_peer();
		await_down(generation + 1);
	}
	ck_assert_uint_eq(counter_read(&copy.up.outage), 0);
}

static atomic_uint polls;
static atomic_bool sleeps; /* a thread, in poll() without a limit */

TEST(fwd_up_sleeps_while_frames_are_kept)
{
	unsigned before;

	guest_sends_kept(5, 0);
	while (!sleeps)
		sched_yield();
	before = polls;
	usleep(200000);
	ck_assert_uint_eq(polls, before);
}

/* ---- what the network may send ---- */

TEST(a_closed_stream_ends_the_generation_and_a_cut_frame_is_counted, .count = 4)
{
	uint8_t framed[100];
	bool cut = _i < 3;

	frame_write_framed(framed, 60, 1);
	install();
	write_bytes(framed, 1 + (size_t)_i * 21);
	if (!cut)
		guest_gets(1, 60, 1);
	close_peer();
	await_down(1);
	ck_assert_str_eq(look().last_error, "peer closed");
	ck_assert(look().proven);
	install();
	/* Nothing of it is left in the next one. */
	goes_down(2);
	ck_assert_uint_eq(counter_read(&copy.down.truncated), cut);
	expect_count(&copy.down.frames, cut ? 1 : 2);
}

TEST(empty_frames_and_runts_are_skipped_and_counted)
{
	install();
	network_sends(1, 0, 0);
	network_sends(1, 1, 0);
	network_sends(1, 13, 0);
	network_sends(1, 14, 1);
	guest_gets(1, 14, 1);
	expect_count(&copy.down.empty, 1);
	expect_count(&copy.down.runt, 2);
	ck_assert_int_eq(look().state, LINK_UP);
}

TEST(a_frame_above_max_frame_ends_the_generation, .count = 2)
{
	uint32_t length = _i ? UINT32_MAX : 1515;
	uint8_t header[FRAME_HEADER_BYTES];
	char reason[80];

	config.network.max_frame = 1514;
	settings_publish(&settings, &config);
	install();
	network_sends(1, 1514, 1);
	frame_put_header(header, length);
	write_bytes(header, sizeof(header));
	guest_gets(1, 1514, 1);
	await_down(1);
	snprintf(reason, sizeof(reason),
	    "a frame of %u bytes, more than max_frame 1514", length);
	ck_assert_str_eq(look().last_error, reason);
	ck_assert_uint_eq(counter_read(&copy.down.oversize), 1);
	close_peer();
	install();
	goes_down(2);
	/* We ended the generation: its rest is not a truncated frame. */
	ck_assert_uint_eq(counter_read(&copy.down.truncated), 0);
}

/* ---- a network of datagrams ---- */

static void
set_write_stall(int64_t stall_ms)
{
	config.network.write_stall_ms = stall_ms;
	settings_publish(&settings, &config);
}

TEST(datagrams_that_are_no_frames_are_dropped_and_counted)
{
	datagrams = true;
	config.network.max_frame = 1514;
	settings_publish(&settings, &config);
	install();
	network_sends(1, 0, 0);
	network_sends(1, 1, 0);
	network_sends(1, 13, 0);
	network_sends(1, 1515, 0);
	network_sends(1, FRAME_LIMIT_BYTES, 0);
	network_sends(1, 14, 1);
	network_sends(1, 0, 0);
	network_sends(1, 1514, 2);
	guest_gets(1, 14, 1);
	guest_gets(1, 1514, 2);
	expect_count(&copy.down.empty, 2);
	expect_count(&copy.down.runt, 2);
	expect_count(&copy.down.oversize, 2);
	expect_count(&copy.down.frames, 2);
	ck_assert_int_eq(look().state, LINK_UP);
}

/* The first of them is empty: not to be taken for the end. */
TEST(what_is_queued_when_a_datagram_network_fails_reaches_the_guest,
    .seconds = 60)
{
	datagrams = true;
	for (uint32_t i = 0; i < 200; i++) {
		int ends[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
		peer = ends[1];
		network_sends(1, 0, 0);
		network_sends(3, 60, 3 * i);
		network_sends(1, 0, 0);
		link_fail(&the_link, link_install(&the_link, ends[0], true),
		    "a write was refused");
		guest_gets(3, 60, 3 * i);
		close_peer();
	}
	expect_count(&copy.down.frames, 600);
}

/* Takes k frames and whatever the kernel had accepted then. */
static uint32_t
take_and_quit(uint32_t k)
{
	uint8_t frame[FRAME_LIMIT_BYTES];
	uint32_t next = 0;
	ssize_t length;

	for (; next < k; next++)
		network_gets(1, batch_length(next), next);
	shutdown(peer, SHUT_RD);
	while ((length = recv(peer, frame, sizeof(frame), MSG_DONTWAIT)) > 0)
		frame_expect(frame, (size_t)length, next++);
	close_peer();
	return next;
}

TEST(a_broken_batch_of_datagrams_continues_with_the_next_frame, .seconds = 60)
{
	datagrams = true;
	for (uint32_t k = 0; k < BATCH; k++) {
		uint32_t next;

		install_small(1);
		send_batch();
		next = take_and_quit(k);
		/* shows the end if all was taken */
		guest_sends(1, 60, 1000);
		await_down(2 * k + 1);
		install();
		network_gets_batch(next);
		network_gets(1, 60, 1000);
		link_fail(&the_link, 2 * k + 2, "next");
		close_peer();
	}
	expect_count(&copy.up.frames, BATCH * (BATCH + 1));
	ck_assert_uint_eq(counter_read(&copy.up.outage), 0);
}

TEST(a_frozen_datagram_network_meets_write_stall)
{
	int64_t began_ms = clock_now_ms();

	datagrams = true;
	set_write_stall(100);
	install_small(1);
	expect_stall();
	ck_assert_int_ge(clock_now_ms() - began_ms, 100);
}

/* A daemon that doesn't connect back has a queue of its own. What waits for room
 * there is not woken by the sender's shutdown(). */
TEST(a_write_to_a_full_queue_does_not_outlive_its_generation)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(sa_family_t);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	int frozen = socket(AF_UNIX, SOCK_DGRAM, 0);

	datagrams = true;
	set_write_stall(0);
	ck_assert_int_eq(bind(frozen, (struct sockaddr *)&name, length), 0);
	length = sizeof(name);
	getsockname(frozen, (struct sockaddr *)&name, &length);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&name, length), 0);
	link_install(&the_link, fd, true);
	guest_sends(50, 60, 0);
	while (poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, 0) > 0)
		sched_yield();
	link_fail(&the_link, 1, "replaced");
	install();
	network_gets_at_last(49);
	ck_assert_uint_eq(counter_read(&copy.up.outage), 0);
	close(frozen);
}

TEST(only_a_frame_too_large_for_the_network_is_dropped)
{
	datagrams = true;
	install_small(1);
	guest_sends(1, 60, 1);
	guest_sends(1, 60000, 2);
	guest_sends(1, 60, 3);
	network_gets(1, 60, 1);
	network_gets(1, 60, 3);
	expect_count(&copy.up.frames, 2);
	ck_assert_uint_eq(counter_read(&copy.up.oversize), 1);
	ck_assert_int_eq(look().state, LINK_UP);
}

/* ---- what the guest may send ---- */

TEST(datagrams_of_an_invalid_length_are_dropped_and_counted)
{
	static const uint8_t runt[13] = { 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2 };
	uint8_t mac[6];

	install();
	goes_up(0);
	ck_assert_int_eq(send(guest_end, "VFKT", 4, 0), 4); /* a hello */
	guest_sends(1, 0, 0);
	guest_sends(1, 1, 0);
	ck_assert_int_eq(send(guest_end, runt, 13, 0), 13);
	ck_assert_int_eq(send(guest_end, "VFKX", 4, 0), 4);
	guest_sends(1, MAX_FRAME + 1, 0);
	guest_sends(1, FRAME_LIMIT_BYTES, 0);
	guest_sends(1, 14, 1);
	guest_sends(1, MAX_FRAME, 2);
	network_gets(1, 14, 1);
	network_gets(1, MAX_FRAME, 2);
	expect_count(&copy.up.frames, 3);
	ck_assert_uint_eq(counter_read(&copy.up.empty), 1);
	ck_assert_uint_eq(counter_read(&copy.up.runt), 3);
	ck_assert_uint_eq(counter_read(&copy.up.oversize), 2);
	/* Nor is the guest's MAC learned from it. */
	ck_assert(guest_get_mac(&guest, mac));
	ck_assert_mem_eq(mac, frames_guest_mac, 6);
}

/* ---- a guest that is slow or absent ---- */

#define FLOOD 20000
#define STALL_MS 100

/* How often, and for how long in all, fwd-down asked to wait for room. Other than
 * the time that passes, that doesn't depend on how busy the machine is. */
static atomic_uint waits;
static _Atomic int64_t waits_ms;

int
poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	__typeof__(poll) *real = dlsym(RTLD_NEXT, "poll");

	int ready;

	polls++;
	if (count > 0 && fds[count - 1].events == POLLOUT) {
		waits++;
		waits_ms += timeout_ms;
	}
	sleeps = timeout_ms < 0;
	ready = real(fds, count, timeout_ms);
	sleeps = false;
	return ready;
}

/* Sends so many frames to a guest that may not read them; waits until each is
 * taken or dropped. Returns how many were taken. */
static uint32_t
flood(uint32_t count)
{
	install();
	network_sends(count, 60, 0);
	while (counter_read(&copy.down.frames) +
		   counter_read(&copy.down.guest_slow) <
	       count)
		sched_yield();
	ck_assert_uint_gt(counter_read(&copy.down.guest_slow), 0);
	return (uint32_t)counter_read(&copy.down.frames);
}

TEST(fwd_down_waits_once_for_a_guest_that_reads_nothing)
{
	int64_t began_ms = clock_now_ms();
	uint32_t taken;

	set_stall(STALL_MS);
	taken = flood(FLOOD);
	ck_assert_int_ge(clock_now_ms() - began_ms, STALL_MS);
	/* Of over a hundred refused batches only one was waited for. */
	ck_assert_uint_eq(waits, 1);
	/* The frames that it took are there in order, and so are the next ones. */
	guest_gets(taken, 60, 0);
	goes_down(FLOOD);
	expect_count(&copy.down.frames, taken + 1);
	ck_assert_uint_eq(counter_read(&copy.down.guest_slow), FLOOD - taken);
}

static atomic_bool read_enough;

static void *
guest_reads_slowly(void *argument)
{
	uint8_t frame[FRAME_LIMIT_BYTES];

	while (!atomic_load(&read_enough)) {
		poll(NULL, 0, 10);
		recv(guest_end, frame, sizeof(frame), MSG_DONTWAIT);
	}
	return argument;
}

/* Were it waited for again after each frame that it takes: a `stall` a batch,
 * 16 seconds in all. */
TEST(the_wait_for_a_slow_guest_is_limited_in_all)
{
	int64_t began_ms = clock_now_ms(), took_ms;
	pthread_t reader;

	set_stall(STALL_MS);
	pthread_create(&reader, NULL, guest_reads_slowly, NULL);
	flood(2 * FLOOD);
	took_ms = clock_now_ms() - began_ms;
	ck_assert_int_ge(took_ms, STALL_MS);
	ck_assert_int_le(waits_ms, (took_ms / 1000 + 1) * STALL_MS);
	atomic_store(&read_enough, true);
	pthread_join(reader, NULL);
}

TEST(fwd_down_waits_again_for_a_guest_that_reads_again)
{
	pthread_t sender;
	uint64_t dropped;

	set_stall(0);
	guest_gets(flood(2000), 60, 0);
	dropped = counter_read(&copy.down.guest_slow);
	/* Once a frame goes through, the full wait is available again. */
	set_stall(HOUR_MS);
	goes_down(2000);
	pthread_create(&sender, NULL, network_sends_many, NULL);
	for (uint32_t i = 0; i < MANY; i++)
		guest_gets(1, any_length(i), i);
	pthread_join(sender, NULL);
	ck_assert_uint_eq(counter_read(&copy.down.guest_slow), dropped);
}

TEST(only_a_frame_too_large_for_our_buffer_is_dropped)
{
	int smallest = 1;

	setsockopt(
	    guest.fd, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
	install();
	network_sends(1, 60, 1);
	network_sends(1, 60000, 2);
	network_sends(1, 60, 3);
	guest_gets(1, 60, 1);
	guest_gets(1, 60, 3);
	ck_assert_uint_eq(counter_read(&copy.down.oversize), 1);
	ck_assert_int_eq(look().state, LINK_UP);
}

static void
expect_guest_gone(void)
{
	struct pollfd bell = { .fd = ended.fds[0], .events = POLLIN };

	ck_assert_int_eq(poll(&bell, 1, -1), 1);
	ck_assert(atomic_load(&copy.guest_gone));
}

TEST(only_a_frame_that_the_guest_cannot_take_is_dropped, .count = 2)
{
	meaning = _i ? GUEST_REFUSED : GUEST_ABSENT;
	balk(&sends, guest.fd, BALKING_ALWAYS, EPIPE);
	install();
	network_sends(1000, 60, 0);
	expect_count(&copy.down.guest_absent, 1000);
	balk(&sends, guest.fd, 0, 0);
	goes_down(1);
	ck_assert(!atomic_load(&copy.guest_gone));
	ck_assert_int_eq(look().state, LINK_UP);
}

TEST(a_guest_that_is_gone_for_good_is_reported_to_main)
{
	meaning = GUEST_GONE;
	balk(&sends, guest.fd, 1, ECONNREFUSED);
	install();
	network_sends(1, 60, 1);
	expect_guest_gone();
	expect_count(&copy.down.guest_absent, 1);
}

/* By a launcher that shares it: then recv() always returns 0 at once. */
TEST(a_guest_that_shut_its_socket_down_is_gone, .count = 2)
{
	if (_i == 1)
		fcntl(guest.fd, F_SETFL, O_NONBLOCK);
	install();
	goes_up(1);
	ck_assert_int_eq(shutdown(guest.fd, SHUT_RD), 0);
	expect_guest_gone();
}

TEST(a_frame_between_the_forwarders_never_reaches_the_guest)
{
	uint8_t ping[FRAME_HEADER_BYTES + PROBE_BYTES];
	uint8_t pong[FRAME_LIMIT_BYTES];

	install();
	network_sends(1, 60, 1);
	frame_put_header(ping, PROBE_BYTES);
	probe_between_forwarders(
	    ping + FRAME_HEADER_BYTES, PROBE_PING, NULL, 42);
	write_bytes(ping, sizeof(ping));
	network_sends(1, 60, 2);
	guest_gets(2, 60, 1);
	ck_assert_uint_eq(network_reads(pong), PROBE_BYTES);
}

/* ---- a kernel that is briefly out of memory ---- */

static const int shortages[] = { ENOBUFS, ENOMEM };

/* Endless retries would delay the network, and every other guest of it. */
TEST(a_send_without_kernel_memory_is_retried_a_few_times, .count = 2)
{
	unsigned refused;

	install();
	balk(&sends, guest.fd, 3, shortages[_i]);
	goes_down(1);
	ck_assert_uint_eq(atomic_load(&sends.refused), 3);
	expect_count(&copy.down.frames, 1);

	balk(&sends, guest.fd, BALKING_ALWAYS, shortages[_i]);
	network_sends(1, 60, 2);
	expect_count(&copy.down.guest_slow, 1);
	refused = atomic_load(&sends.refused);
	ck_assert_uint_eq(refused, 11);
	/* The next frames are not retried until one goes through. */
	network_sends(1, 60, 3);
	expect_count(&copy.down.guest_slow, 2);
	ck_assert_uint_eq(atomic_load(&sends.refused), refused + 1);
	balk(&sends, guest.fd, 0, 0);
	goes_down(4);
	expect_count(&copy.down.frames, 2);
	balk(&sends, guest.fd, 3, shortages[_i]);
	goes_down(5);
	ck_assert_uint_eq(counter_read(&copy.down.guest_slow), 2);
}

TEST(a_datagram_without_kernel_memory_is_retried_then_dropped, .count = 2)
{
	struct loan loan;

	datagrams = true;
	install();
	ck_assert_int_eq(
	    link_borrow(&the_link, &loan, LINK_NO_WAIT), LINK_READY);
	balk(&sends, loan.fd, 3, shortages[_i]);
	goes_up(1);
	ck_assert_uint_eq(atomic_load(&sends.refused), 3);
	balk(&sends, loan.fd, 11, shortages[_i]);
	guest_sends(1, 60, 2);
	expect_count(&copy.up.outage, 1);
	goes_up(3);
	expect_count(&copy.up.frames, 2);
	ck_assert_int_eq(look().state, LINK_UP);
	link_return(&loan);
}

static const int passing_errors[] = { ECONNRESET, ENOBUFS, ENOMEM, EINTR };

TEST(a_temporary_error_loses_no_frame_of_the_guest, .count = 4)
{
	install();
	balk(&receives, guest.fd, 3, passing_errors[_i]);
	goes_up(1);
	goes_up(2);
	ck_assert_uint_eq(atomic_load(&receives.refused), 3);
	ck_assert(!atomic_load(&copy.guest_gone));
}

TEST(a_permanent_error_is_logged_and_ends_the_guest)
{
	install();
	goes_up(1);
	balk(&receives, guest.fd, BALKING_ALWAYS, EBADF);
	guest_sends(1, 60, 2); /* wakes it, if it waits inside the call */
	expect_guest_gone();
	ck_assert_uint_eq(log_count("error guest: can't receive error="), 1);
}

/* A loop without a pause makes thousands of calls a millisecond. */
static void
expect_calm_for_a_while(void)
{
	unsigned before = atomic_load(&receives.asked);
	int64_t began_ms = clock_now_ms();

	while (clock_now_ms() - began_ms < 200)
		poll(NULL, 0, 10);
	ck_assert_uint_le(
	    atomic_load(&receives.asked) - before, clock_now_ms() - began_ms);
}

TEST(a_receive_without_kernel_memory_does_not_spin, .count = 2)
{
	install();
	balk(&receives, guest.fd, BALKING_ALWAYS, shortages[_i]);
	guest_sends(1, 60, 1); /* wakes it, if it waits inside the call */
	expect_calm_for_a_while();
	balk(&receives, guest.fd, 0, 0);
	network_gets(1, 60, 1);
}

/* O_NONBLOCK and SO_RCVTIMEO belong to the socket, which a launcher shares. */
TEST(a_guest_socket_that_never_blocks_is_polled, .count = 2)
{
	struct timeval limit = { .tv_usec = 1 };

	if (_i == 0)
		fcntl(guest.fd, F_SETFL, O_NONBLOCK);
	else
		setsockopt(
		    guest.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	install();
	goes_up(1);
	expect_calm_for_a_while();
	goes_up(2);
	ck_assert(!atomic_load(&copy.guest_gone));
}

/* ---- a stop ---- */

static void
start_threads(void)
{
	init();
	ck_assert_int_eq(copy_start(&copy), 0);
}

static void
await_end(struct doorbell *ended_bell)
{
	wait_readable(ended_bell->fds[0], -1, INT64_MAX);
	doorbell_answer(ended_bell); /* for ThreadSanitizer */
	doorbell_destroy(ended_bell);
}

static void
end_threads(void)
{
	await_end(&copy.up_ended);
	await_end(&copy.down_ended);
	release();
}

static int64_t
stop_up_ms(void)
{
	int64_t began_ms = clock_now_ms();

	copy_stop_up(&copy);
	return clock_now_ms() - began_ms;
}

FIXTURE(start_threads, end_threads)

/* The next forwarder finds them in the socket. */
TEST(frames_not_written_before_a_stop_stay_in_the_guests_socket, .count = 100)
{
	uint32_t written = 0;
	uint8_t parcel[FRAME_HEADER_BYTES + 60];

	install();
	guest_sends(1 + (uint32_t)_i % 10, 60, 0);
	copy_stop_up(&copy);
	guest_sends(3, 60, 1 + (uint32_t)_i % 10);
	link_stop(&the_link);
	copy_stop_down(&copy);
	while (recv(peer, parcel, sizeof(parcel), MSG_WAITALL) ==
	       (ssize_t)sizeof(parcel))
		frame_expect(parcel + FRAME_HEADER_BYTES, 60, written++);
	ck_assert_int_eq(recv(guest.fd, parcel, 60, MSG_DONTWAIT), 60);
	ck_assert_uint_eq(frame_number(parcel), written);
}

TEST(an_idle_guest_does_not_delay_a_stop)
{
	install();
	guest_sends(1, 60, 0);
	expect_count(&copy.up.frames, 1);
	ck_assert_int_lt(stop_up_ms(), COPY_STOP_MS);
	link_stop(&the_link);
	copy_stop_down(&copy);
}

TEST(a_blocked_write_delays_a_stop_for_a_limited_time)
{
	struct pollfd room = { .fd = guest_end, .events = POLLOUT };

	install_small(4096);
	while (poll(&room, 1, 200) > 0)
		guest_sends(1, 1514, 0);
	ck_assert_int_ge(stop_up_ms(), COPY_STOP_MS);
	link_stop(&the_link);
	copy_stop_down(&copy);
}

/* Whether fwd-up waits with a frame, for one, or for the link, too. */
TEST(an_outage_does_not_delay_a_stop, .count = 3)
{
	if (_i != 1)
		guest_sends(1, 60, 0);
	if (_i == 2) {
		link_set_hold(&the_link, 0);
		await_kept(1);
	}
	ck_assert_int_lt(stop_up_ms(), COPY_STOP_MS);
	link_stop(&the_link);
	copy_stop_down(&copy);
	/* or it would receive the next frame */
	ck_assert_int_eq(wait_readable(copy.up_ended.fds[0], -1, 0), 0);
	ck_assert_uint_eq(counter_read(&copy.up.kept), 0);
	ck_assert_uint_eq(counter_read(&copy.up.outage), _i != 1);
}

TEST(what_the_network_has_sent_before_a_stop_reaches_the_guest, .count = 20)
{
	install();
	goes_down(0);
	network_sends(50, 60, 1);
	copy_stop_up(&copy);
	link_stop(&the_link);
	copy_stop_down(&copy);
	guest_gets(50, 60, 1);
}

FIXTURE(init, release)

static int
end_inside_a_frame(struct guest *unused, struct batch *batch, size_t limit)
{
	(void)unused;
	(void)limit;
	batch_clear(batch);
	batch->skipped.truncated = 1;
	errno = ESHUTDOWN;
	return -1;
}

TEST(what_a_stream_guest_leaves_unfinished_is_counted)
{
	static struct guest_ops ops;

	ops = *guest.ops;
	ops.receive = end_inside_a_frame;
	guest.ops = &ops;
	ck_assert_int_eq(copy_open(&copy), 0);
	copy_up(&copy);
	expect_guest_gone();
	ck_assert_uint_eq(counter_read(&copy.up.truncated), 1);
	link_stop(&the_link);
	copy_down(&copy); /* frees its memory */
}
