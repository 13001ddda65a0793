#include "framing/framing.h"

#include "tests/support/slow_deframer.h"
#include "tests/support/suite.h"

#define LARGEST (FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES)

/* A stream under construction. */
static uint8_t bytes[50 * LARGEST];
static size_t length;

static uint8_t buffer[4 * LARGEST + 1];
static struct pair pair;

static void
add_header(uint32_t frame_length)
{
	ck_assert_uint_le(length + LARGEST, sizeof(bytes));
	frame_put_header(bytes + length, frame_length);
	length += FRAME_HEADER_BYTES;
}

/* Each frame's bytes differ from its neighbours'. */
static void
add_frame(uint32_t frame_length)
{
	uint64_t luck = length;

	add_header(frame_length);
	for (uint32_t i = 0; i < frame_length; i++)
		bytes[length++] = (uint8_t)suite_random(&luck);
}

/* One of everything that is skipped or forwarded. */
static void
add_everything(void)
{
	static const uint32_t lengths[] = { 0, 14, 1, 13, 15, 0, 0, 60, 2, 14 };

	for (int i = 0; i < LENGTH(lengths); i++)
		add_frame(lengths[i]);
}

static void
start(size_t capacity, uint32_t max_frame)
{
	ck_assert_uint_lt(capacity, sizeof(buffer));
	buffer[capacity] = 0xaa;
	pair_init(&pair, buffer, capacity, max_frame);
}

static void
feed(size_t from, size_t to)
{
	const char *wrong = pair_feed(&pair, bytes + from, to - from);

	ck_assert_msg(
	    !wrong, "%s (bytes %zu to %zu of %zu)", wrong, from, to, length);
}

static void
feed_in_pieces_of(size_t piece)
{
	for (size_t at = 0; at < length; at += piece)
		feed(at, at + piece < length ? at + piece : length);
}

static void
end(void)
{
	const char *wrong = pair_end(&pair);

	ck_assert_msg(!wrong, "%s", wrong);
	ck_assert_uint_eq(buffer[pair.fast.capacity], 0xaa);
}

static const struct {
	uint64_t length;
	uint32_t max_frame;
	enum frame_verdict verdict;
} verdicts[] = {
	{ 0, 1514, FRAME_EMPTY },
	{ 1, 1514, FRAME_RUNT },
	{ 13, 1514, FRAME_RUNT },
	{ 14, 1514, FRAME_GOOD },
	{ 60, 60, FRAME_GOOD },
	{ 61, 60, FRAME_OVERSIZE },
	{ 69632, 69632, FRAME_GOOD },
	{ 69633, 69632, FRAME_OVERSIZE },
	{ 0x80000000, 69632, FRAME_OVERSIZE },
	{ 0x100000000, 69632, FRAME_OVERSIZE },
	{ UINT64_MAX, 69632, FRAME_OVERSIZE },
};

TEST(every_length_has_the_verdict_of_the_table, .count = LENGTH(verdicts))
{
	ck_assert_int_eq(
	    frame_judge(verdicts[_i].length, verdicts[_i].max_frame),
	    verdicts[_i].verdict);
}

TEST(the_header_is_four_bytes_big_endian)
{
	uint8_t header[6] = { 0xaa, 0, 0, 0, 0, 0xbb };

	frame_put_header(header + 1, 0x12345678);
	ck_assert_mem_eq(header, "\xaa\x12\x34\x56\x78\xbb", 6);
}

TEST(frames_of_one_receive_are_whole_and_stay_valid_together)
{
	struct deframer deframer = { .buffer = buffer,
		.capacity = sizeof(buffer) };
	struct iovec parcels[8], more;
	uint8_t *room;

	for (int i = 0; i < 8; i++)
		add_frame(100);
	ck_assert_uint_eq(
	    deframer_room(&deframer, &room, 1514), sizeof(buffer));
	memcpy(room, bytes, length);
	deframer_filled(&deframer, length);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(deframer_next(&deframer, &parcels[i], 1514),
		    DEFRAMER_FRAME);
	ck_assert_int_eq(deframer_next(&deframer, &more, 1514), DEFRAMER_MORE);
	for (int i = 0; i < 8; i++) {
		ck_assert_uint_eq(parcel_length(&parcels[i]), 100);
		ck_assert_mem_eq(
		    parcel_frame(&parcels[i]), bytes + i * 104 + 4, 100);
	}
}

TEST(empty_frames_and_runts_are_skipped_and_counted_over_all_streams)
{
	add_everything();
	start(4 * LARGEST, 1514);
	for (unsigned i = 1; i <= 3; i++) {
		feed(0, length);
		end();
		ck_assert_uint_eq(pair.frames, 4 * i);
		ck_assert_uint_eq(pair.fast.empty, 3 * i);
		ck_assert_uint_eq(pair.fast.runt, 3 * i);
	}
}

TEST(a_stream_may_be_cut_anywhere, .seconds = 30)
{
	add_everything();
	for (size_t first = 0; first <= length; first++) {
		for (size_t second = first; second <= length; second++) {
			start(FRAME_HEADER_BYTES + 60, 60);
			feed(0, first);
			feed(first, second);
			feed(second, length);
			ck_assert_uint_eq(pair.frames, 4);
			end();
		}
	}
}

TEST(the_largest_frames_may_come_one_byte_at_a_time, .seconds = 30)
{
	add_frame(FRAME_LIMIT_BYTES);
	add_frame(14);
	add_frame(FRAME_LIMIT_BYTES);
	start(LARGEST, FRAME_LIMIT_BYTES);
	feed_in_pieces_of(1);
	ck_assert_uint_eq(pair.frames, 3);
	end();
}

static const uint32_t max_frames[] = { 60, 1514, 65550, 69632 };

TEST(one_byte_more_than_max_frame_loses_the_stream, .count = LENGTH(max_frames))
{
	uint32_t max_frame = max_frames[_i];

	add_frame(max_frame);
	add_frame(max_frame - 1);
	add_frame(max_frame + 1);
	add_frame(14);
	start(4 * LARGEST, max_frame);
	feed(0, length);
	ck_assert_uint_eq(pair.frames, 2);
	ck_assert(pair.lost);
}

static const uint32_t hostile[] = { 69633, 0x00ffffff, 0x7fffffff, 0x80000000,
	0xfffffff0, 0xfffffffb, 0xfffffffc, 0xffffffff };

TEST(the_header_alone_reveals_a_hostile_length, .count = LENGTH(hostile))
{
	add_frame(100);
	add_header(hostile[_i]);
	start(LARGEST, FRAME_LIMIT_BYTES);
	feed_in_pieces_of(1);
	ck_assert(pair.lost);
	ck_assert_uint_eq(pair.length, hostile[_i]);
	end();
	feed(0, 104); /* another stream */
	ck_assert_uint_eq(pair.frames, 2);
}

TEST(a_new_max_frame_applies_from_the_next_frame_on)
{
	add_frame(1000);
	start(4 * LARGEST, 1000);
	feed(0, length);
	pair.max_frame = 999;
	feed(0, length);
	ck_assert(pair.lost);
	end();
	pair.max_frame = 1000;
	feed(0, length);
	ck_assert_uint_eq(pair.frames, 2);
}

/* Where the stream ends, and whether a frame was cut off by it. */
static const struct {
	size_t end;
	bool cut;
} ends[] = {
	{ 0, false },
	{ 1, true },  /* inside the first header */
	{ 4, true },  /* a header and nothing else */
	{ 23, true }, /* inside the frame */
	{ 24, false },
	{ 28, false }, /* behind an empty frame */
	{ 33, true },  /* inside a runt */
	{ 34, false },
};

TEST(a_partial_frame_is_dropped_with_its_stream, .count = LENGTH(ends))
{
	add_frame(20);
	add_frame(0);
	add_frame(2);
	start(4 * LARGEST, 1514);
	feed(0, ends[_i].end);
	ck_assert_int_eq(deframer_reset(&pair.fast), ends[_i].cut);
	ck_assert_int_eq(deframer_reset(&pair.fast), false);
	start(4 * LARGEST, 1514);
	feed(0, ends[_i].end);
	end();
	pair.frames = 0;
	feed(0, length);
	ck_assert_uint_eq(pair.frames, 1);
}

TEST(a_buffer_works_with_pieces_of_any_length, .seconds = 30)
{
	size_t capacity = 10 * (FRAME_HEADER_BYTES + 1514);

	for (uint32_t i = 0; i < 300; i++)
		add_frame(14 + i * 37 % 1501);
	for (size_t piece = 1; piece < 2 * capacity; piece += piece / 4 + 1) {
		start(capacity, 1514);
		feed_in_pieces_of(piece);
		ck_assert_uint_eq(pair.frames, 300);
		end();
	}
}

static const struct {
	uint32_t max_frame;
	size_t capacity, fed, room;
} moves[] = {
	{ 1514, 1518, 106, 2 },   /* its length isn't known: moved */
	{ 1514, 1518, 108, 108 }, /* known, and there is more than enough */
	{ 100, 208, 108, 108 },   /* just enough */
};

TEST(
    a_cut_frame_is_moved_only_if_its_rest_might_not_fit, .count = LENGTH(moves))
{
	uint8_t *room;

	add_frame(100);
	add_frame(100);
	start(moves[_i].capacity, moves[_i].max_frame);
	feed(0, moves[_i].fed);
	deframer_room(&pair.fast, &room, moves[_i].max_frame);
	ck_assert_ptr_eq(room, buffer + moves[_i].room);
}
