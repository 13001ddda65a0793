#include "framing/framing.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/slow_deframer.h"
#include "tests/support/suite.h"

/* A stream under construction. */
struct stream {
	uint8_t *bytes;
	size_t length;
};

static void
add_bytes(struct stream *stream, const void *bytes, size_t length)
{
	stream->bytes = realloc(stream->bytes, stream->length + length + 1);
	ck_assert_ptr_nonnull(stream->bytes);
	memcpy(stream->bytes + stream->length, bytes, length);
	stream->length += length;
}

static void
add_header(struct stream *stream, uint32_t length)
{
	uint8_t header[FRAME_HEADER_BYTES];

	frame_put_header(header, length);
	add_bytes(stream, header, sizeof(header));
}

/* Each frame's bytes differ from its neighbours'. */
static void
add_frame(struct stream *stream, uint32_t length)
{
	uint64_t luck = stream->length;
	uint8_t *body = malloc(length + 1);

	ck_assert_ptr_nonnull(body);
	for (uint32_t i = 0; i < length; i++)
		body[i] = (uint8_t)suite_random(&luck);
	add_header(stream, length);
	add_bytes(stream, body, length);
	free(body);
}

static uint8_t buffer[4 * (FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES)];
static struct pair pair;

static void
start(size_t capacity, uint32_t max_frame)
{
	ck_assert_uint_le(capacity, sizeof(buffer));
	pair_init(&pair, buffer, capacity, max_frame);
}

static void
feed(const struct stream *stream, size_t from, size_t to)
{
	const char *wrong = pair_feed(&pair, stream->bytes + from, to - from);

	ck_assert_msg(!wrong, "%s (bytes %zu to %zu of %zu)", wrong, from, to,
	    stream->length);
}

static void
end(void)
{
	const char *wrong = pair_end(&pair);

	ck_assert_msg(!wrong, "%s", wrong);
}

static void
feed_in_pieces_of(const struct stream *stream, size_t piece)
{
	for (size_t at = 0; at < stream->length; at += piece)
		feed(stream, at,
		    at + piece < stream->length ? at + piece : stream->length);
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
	{ 65550, 65550, FRAME_GOOD },
	{ 65551, 65550, FRAME_OVERSIZE },
	{ 69632, 69632, FRAME_GOOD },
	{ 69633, 69632, FRAME_OVERSIZE },
	{ 0x7fffffff, 69632, FRAME_OVERSIZE },
	{ 0x80000000, 69632, FRAME_OVERSIZE },
	{ 0xffffffff, 69632, FRAME_OVERSIZE },
	{ 0x100000000, 69632, FRAME_OVERSIZE },
	{ UINT64_MAX, 69632, FRAME_OVERSIZE },
};

TEST(every_length_is_judged_as_the_table_says, .count = LENGTH(verdicts))
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
	frame_put_header(header + 1, 60);
	ck_assert_mem_eq(header, "\xaa\0\0\0\x3c\xbb", 6);
}

TEST(a_frame_goes_through_as_it_came)
{
	struct deframer deframer;
	struct iovec parcel;
	struct stream stream = { 0 };
	uint8_t *room;

	add_frame(&stream, 60);
	deframer_init(&deframer, buffer, sizeof(buffer));
	ck_assert_int_eq(
	    deframer_next(&deframer, &parcel, 1514), DEFRAMER_MORE);
	ck_assert_uint_eq(
	    deframer_room(&deframer, &room, 1514), sizeof(buffer));
	memcpy(room, stream.bytes, stream.length);
	deframer_filled(&deframer, stream.length);
	ck_assert_int_eq(
	    deframer_next(&deframer, &parcel, 1514), DEFRAMER_FRAME);
	ck_assert_uint_eq(parcel_length(&parcel), 60);
	ck_assert_mem_eq(parcel_frame(&parcel), stream.bytes + 4, 60);
	ck_assert_int_eq(
	    deframer_next(&deframer, &parcel, 1514), DEFRAMER_MORE);
	ck_assert_int_eq(deframer_reset(&deframer), 0);
	free(stream.bytes);
}

TEST(frames_of_one_receive_stay_valid_together)
{
	struct deframer deframer;
	struct iovec parcels[8];
	struct stream stream = { 0 };
	uint8_t *room;

	for (int i = 0; i < 8; i++)
		add_frame(&stream, 100);
	deframer_init(&deframer, buffer, sizeof(buffer));
	deframer_room(&deframer, &room, 1514);
	memcpy(room, stream.bytes, stream.length);
	deframer_filled(&deframer, stream.length);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(deframer_next(&deframer, &parcels[i], 1514),
		    DEFRAMER_FRAME);
	for (int i = 0; i < 8; i++)
		ck_assert_mem_eq(
		    parcel_frame(&parcels[i]), stream.bytes + i * 104 + 4, 100);
	free(stream.bytes);
}

/* One of everything that is skipped or forwarded. */
static void
add_everything(struct stream *stream)
{
	static const uint32_t lengths[] = { 0, 14, 1, 13, 15, 0, 0, 60, 2, 14 };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		add_frame(stream, lengths[i]);
}

TEST(empty_frames_and_runts_are_skipped_and_counted)
{
	struct stream stream = { 0 };

	add_everything(&stream);
	start(sizeof(buffer), 1514);
	feed(&stream, 0, stream.length);
	ck_assert_uint_eq(pair.frames, 4);
	ck_assert_uint_eq(pair.fast.empty, 3);
	ck_assert_uint_eq(pair.fast.runt, 3);
	end();
	free(stream.bytes);
}

TEST(counts_outlive_the_stream)
{
	struct stream stream = { 0 };

	add_everything(&stream);
	start(sizeof(buffer), 1514);
	for (int i = 0; i < 3; i++) {
		feed(&stream, 0, stream.length);
		end();
	}
	ck_assert_uint_eq(pair.fast.empty, 9);
	ck_assert_uint_eq(pair.fast.runt, 9);
	free(stream.bytes);
}

TEST(a_stream_may_be_cut_anywhere, .seconds = 30)
{
	struct stream stream = { 0 };

	add_everything(&stream);
	for (size_t first = 0; first <= stream.length; first++) {
		for (size_t second = first; second <= stream.length; second++) {
			start(FRAME_HEADER_BYTES + 60, 60);
			feed(&stream, 0, first);
			feed(&stream, first, second);
			feed(&stream, second, stream.length);
			ck_assert_uint_eq(pair.frames, 4);
			end();
		}
	}
	free(stream.bytes);
}

TEST(a_stream_may_come_in_pieces_of_any_size, .seconds = 30)
{
	struct stream stream = { 0 };

	for (int i = 0; i < 5; i++)
		add_everything(&stream);
	for (size_t piece = 1; piece <= stream.length; piece++) {
		start(FRAME_HEADER_BYTES + 60, 60);
		feed_in_pieces_of(&stream, piece);
		ck_assert_uint_eq(pair.frames, 20);
		end();
	}
	free(stream.bytes);
}

TEST(the_largest_frames_may_come_one_byte_at_a_time, .seconds = 30)
{
	struct stream stream = { 0 };

	add_frame(&stream, FRAME_LIMIT_BYTES);
	add_frame(&stream, 14);
	add_frame(&stream, FRAME_LIMIT_BYTES);
	start(FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES, FRAME_LIMIT_BYTES);
	feed_in_pieces_of(&stream, 1);
	ck_assert_uint_eq(pair.frames, 3);
	end();
	free(stream.bytes);
}

static const uint32_t max_frames[] = { 60, 1514, 65550, 69632 };

TEST(max_frame_itself_is_forwarded, .count = LENGTH(max_frames))
{
	struct stream stream = { 0 };
	uint32_t max_frame = max_frames[_i];

	add_frame(&stream, max_frame);
	add_frame(&stream, max_frame - 1);
	start(FRAME_HEADER_BYTES + max_frame, max_frame);
	feed(&stream, 0, stream.length);
	ck_assert_uint_eq(pair.frames, 2);
	ck_assert(!pair.lost);
	end();
	free(stream.bytes);
}

TEST(one_byte_more_than_max_frame_loses_the_stream, .count = LENGTH(max_frames))
{
	struct stream stream = { 0 };
	uint32_t max_frame = max_frames[_i];

	add_frame(&stream, 14);
	add_frame(&stream, max_frame + 1);
	add_frame(&stream, 14);
	start(sizeof(buffer), max_frame);
	feed(&stream, 0, stream.length);
	ck_assert_uint_eq(pair.frames, 1);
	ck_assert(pair.lost);
	free(stream.bytes);
}

static const uint32_t hostile[] = { 69633, 0x00ffffff, 0x7fffffff, 0x80000000,
	0xfffffff0, 0xfffffffb, 0xfffffffc, 0xffffffff };

TEST(a_hostile_length_is_told_by_its_header_alone, .count = LENGTH(hostile))
{
	struct stream stream = { 0 }, next = { 0 };

	add_frame(&stream, 100);
	add_header(&stream, hostile[_i]);
	add_frame(&next, 100);
	start(FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES, FRAME_LIMIT_BYTES);
	feed_in_pieces_of(&stream, 1);
	ck_assert(pair.lost);
	ck_assert_uint_eq(pair.slow.length, hostile[_i]);
	end();
	feed(&next, 0, next.length);
	ck_assert_uint_eq(pair.frames, 2);
	end();
	free(stream.bytes);
	free(next.bytes);
}

TEST(another_max_frame_holds_from_the_next_frame_on)
{
	struct stream stream = { 0 };

	add_frame(&stream, 1000);
	start(sizeof(buffer), 1000);
	feed(&stream, 0, stream.length);
	pair.max_frame = 999;
	feed(&stream, 0, stream.length);
	ck_assert(pair.lost);
	end();
	pair.max_frame = 1000;
	feed(&stream, 0, stream.length);
	ck_assert_uint_eq(pair.frames, 2);
	free(stream.bytes);
}

/* Where the stream ends, and whether a frame was cut off by it. */
static const struct {
	size_t end;
	bool cut;
} ends[] = {
	{ 0, false },
	{ 1, true }, /* inside the first header */
	{ 3, true },
	{ 4, true },  /* a header and nothing else */
	{ 23, true }, /* inside the frame */
	{ 24, false },
	{ 28, false }, /* behind an empty frame */
	{ 33, true },  /* inside a runt */
	{ 34, false },
};

TEST(an_end_inside_a_frame_is_told, .count = LENGTH(ends))
{
	struct stream stream = { 0 };

	add_frame(&stream, 20);
	add_frame(&stream, 0);
	add_frame(&stream, 2);
	start(sizeof(buffer), 1514);
	feed(&stream, 0, ends[_i].end);
	ck_assert_int_eq(deframer_reset(&pair.fast), ends[_i].cut);
	ck_assert_int_eq(deframer_reset(&pair.fast), 0);
	free(stream.bytes);
}

TEST(a_half_received_frame_goes_with_its_stream)
{
	struct stream first = { 0 }, second = { 0 };

	add_frame(&first, 500);
	add_frame(&second, 100);
	start(sizeof(buffer), 1514);
	feed(&first, 0, 300);
	end();
	feed(&second, 0, second.length);
	ck_assert_uint_eq(pair.frames, 1);
	end();
	free(first.bytes);
	free(second.bytes);
}

/* The pair checks at every byte that none is moved a second time. */
TEST(a_buffer_turn_moves_a_cut_frame_once, .seconds = 30)
{
	struct stream stream = { 0 };
	size_t capacity = 10 * (FRAME_HEADER_BYTES + 1514);

	for (int i = 0; i < 300; i++)
		add_frame(&stream, 14 + (uint32_t)(i * 37 % 1501));
	for (size_t piece = 1; piece < 2 * capacity; piece += piece / 4 + 1) {
		start(capacity, 1514);
		feed_in_pieces_of(&stream, piece);
		ck_assert_uint_eq(pair.frames, 300);
		end();
	}
	free(stream.bytes);
}

TEST(a_frame_that_fits_behind_is_not_moved, .seconds = 30)
{
	struct stream stream = { 0 };
	uint8_t *room;

	add_frame(&stream, 100);
	add_frame(&stream, 100);
	start(2 * 104, 100);
	feed(&stream, 0, 108);
	ck_assert_uint_eq(deframer_room(&pair.fast, &room, 100), 100);
	ck_assert_ptr_eq(room, buffer + 108);
	free(stream.bytes);
}

static uint32_t
random_length(uint64_t *luck, uint32_t max_frame)
{
	switch (suite_random(luck) % 8) {
	case 0:
		return 0;
	case 1:
		return 1 + suite_random(luck) % 13;
	case 2:
		return max_frame - suite_random(luck) % 3;
	case 3:
		return 14 + suite_random(luck) % (max_frame - 13);
	default:
		return 14 + suite_random(luck) % 47;
	}
}

TEST(whatever_comes_it_agrees_with_a_slow_reference, .count = 48, .seconds = 30)
{
	uint64_t luck = (uint64_t)_i;
	uint32_t max_frame = max_frames[_i % 4];
	size_t smallest = FRAME_HEADER_BYTES + max_frame;
	struct stream stream = { 0 };
	size_t at = 0;

	for (int i = 0; i < 50; i++)
		add_frame(&stream, random_length(&luck, max_frame));
	if (_i % 3 == 0)
		add_header(&stream, suite_random(&luck));
	start(smallest + suite_random(&luck) % (3 * smallest), max_frame);
	while (at < stream.length) {
		size_t left = stream.length - at;
		size_t piece = 1 + suite_random(&luck) % (2 * smallest);

		if (suite_random(&luck) % 2)
			piece = 1 + piece % 100;
		feed(&stream, at, at + (piece < left ? piece : left));
		at += piece < left ? piece : left;
	}
	end();
	free(stream.bytes);
}
