/* The table of the framing as slowly as it can be written, one byte at a time,
 * and the real deframer beside it: whatever differs is a fault of one of the
 * two. In a header because the fuzzer uses it too. */
#ifndef TESTS_SUPPORT_SLOW_DEFRAMER_H
#define TESTS_SUPPORT_SLOW_DEFRAMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "framing/framing.h"

struct slow_deframer {
	uint8_t header[4];
	uint8_t body[FRAME_LIMIT_BYTES];
	uint64_t length, have; /* header and body together */
	uint64_t empty, runt;
};

enum slow_result { SLOW_NOTHING, SLOW_FRAME, SLOW_PROTOCOL };

static inline enum slow_result
slow_deframer_ended(struct slow_deframer *slow)
{
	slow->have = 0;
	if (slow->length == 0)
		slow->empty++;
	else if (slow->length <= 13)
		slow->runt++;
	else
		return SLOW_FRAME;
	return SLOW_NOTHING;
}

static inline enum slow_result
slow_deframer_byte(struct slow_deframer *slow, uint8_t byte, uint32_t max_frame)
{
	if (slow->have < 4) {
		slow->header[slow->have++] = byte;
		if (slow->have < 4)
			return SLOW_NOTHING;
		slow->length = 0;
		for (int i = 0; i < 4; i++)
			slow->length = slow->length * 256 + slow->header[i];
		if (slow->length > max_frame)
			return SLOW_PROTOCOL;
	} else {
		slow->body[slow->have++ - 4] = byte;
	}
	return slow->have - 4 == slow->length ? slow_deframer_ended(slow)
					      : SLOW_NOTHING;
}

/* Both, fed with the same bytes. */
struct pair {
	struct slow_deframer slow;
	struct deframer fast;
	uint32_t max_frame;
	uint64_t handed_out; /* offset in the stream of fast.start */
	uint64_t moved_to;   /* bytes before this offset were moved before */
	uint64_t frames;
	bool lost; /* a protocol error: only pair_end() goes on */
};

static inline void
pair_init(
    struct pair *pair, uint8_t *buffer, size_t capacity, uint32_t max_frame)
{
	pair->slow.have = pair->slow.length = 0;
	pair->slow.empty = pair->slow.runt = 0;
	pair->handed_out = pair->moved_to = pair->frames = 0;
	pair->lost = false;
	pair->fast =
	    (struct deframer){ .buffer = buffer, .capacity = capacity };
	pair->max_frame = max_frame;
}

/* Takes as many bytes as fit; says how many, and what is wrong, if anything. */
static inline const char *
pair_fill(struct pair *pair, const uint8_t *bytes, size_t length, size_t *taken)
{
	size_t old = pair->fast.start, cut = pair->fast.end - old;
	uint8_t *room;
	size_t fits = deframer_room(&pair->fast, &room, pair->max_frame);

	if (fits == 0)
		return "no room";
	if (room + fits != pair->fast.buffer + pair->fast.capacity)
		return "the room is not the rest of the buffer";
	if (pair->fast.start != old && cut > 0) {
		if (pair->handed_out < pair->moved_to)
			return "a byte was moved twice";
		pair->moved_to = pair->handed_out + cut;
	}
	*taken = length < fits ? length : fits;
	memcpy(room, bytes, *taken);
	deframer_filled(&pair->fast, *taken);
	return NULL;
}

static inline const char *
pair_expect_frame(struct pair *pair)
{
	struct iovec parcel;

	if (deframer_next(&pair->fast, &parcel, pair->max_frame) !=
	    DEFRAMER_FRAME)
		return "a frame is missing";
	if (parcel_length(&parcel) != pair->slow.length ||
	    memcmp(parcel_frame(&parcel), pair->slow.body,
		parcel_length(&parcel)) != 0)
		return "a frame differs";
	pair->frames++;
	return NULL;
}

static inline const char *
pair_expect_lost(struct pair *pair)
{
	struct iovec parcel;

	/* Again and again, until the stream is given up. */
	for (int i = 0; i < 2; i++)
		if (deframer_next(&pair->fast, &parcel, pair->max_frame) !=
			DEFRAMER_PROTOCOL ||
		    parcel_length(&parcel) != pair->slow.length)
			return "a protocol error went unseen";
	pair->lost = true;
	return NULL;
}

static inline const char *
pair_expect_more(struct pair *pair)
{
	struct iovec parcel;

	if (deframer_next(&pair->fast, &parcel, pair->max_frame) !=
	    DEFRAMER_MORE)
		return "there is a frame too many";
	if (pair->fast.empty != pair->slow.empty ||
	    pair->fast.runt != pair->slow.runt)
		return "a skipped frame was not counted right";
	return NULL;
}

static inline const char *
pair_compare(struct pair *pair, const uint8_t *bytes, size_t length)
{
	const char *wrong = NULL;

	for (size_t i = 0; i < length && !wrong && !pair->lost; i++) {
		switch (slow_deframer_byte(
		    &pair->slow, bytes[i], pair->max_frame)) {
		case SLOW_FRAME:
			wrong = pair_expect_frame(pair);
			break;
		case SLOW_PROTOCOL:
			wrong = pair_expect_lost(pair);
			break;
		case SLOW_NOTHING:
			break;
		}
	}
	return wrong || pair->lost ? wrong : pair_expect_more(pair);
}

/* Gives both the next bytes of the stream, as one receive where the buffer
 * allows. Returns NULL, or what is wrong. */
static inline const char *
pair_feed(struct pair *pair, const uint8_t *bytes, size_t length)
{
	while (length > 0 && !pair->lost) {
		size_t taken, before;
		const char *wrong = pair_fill(pair, bytes, length, &taken);

		if (wrong)
			return wrong;
		before = pair->fast.end - taken - pair->fast.start;
		wrong = pair_compare(pair, bytes, taken);
		if (wrong)
			return wrong;
		pair->handed_out +=
		    before + taken - (pair->fast.end - pair->fast.start);
		bytes += taken;
		length -= taken;
	}
	return NULL;
}

/* The stream ends; another one begins. */
static inline const char *
pair_end(struct pair *pair)
{
	bool cut = pair->slow.have > 0;

	if (deframer_reset(&pair->fast) != cut)
		return cut ? "a cut frame was not noticed"
			   : "a whole stream was called cut";
	if (pair_expect_more(pair))
		return "something is left of the stream before";
	pair->slow.have = 0;
	pair->handed_out = pair->moved_to = 0;
	pair->lost = false;
	return NULL;
}

#endif
