/* A simple deframer that reads one byte at a time, for comparison with the real
 * one. In a header because the fuzzer uses it too. */
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

static inline enum deframer_result
slow_deframer_ended(struct slow_deframer *slow)
{
	slow->have = 0;
	if (slow->length == 0)
		slow->empty++;
	else if (slow->length <= 13)
		slow->runt++;
	else
		return DEFRAMER_FRAME;
	return DEFRAMER_MORE;
}

static inline enum deframer_result
slow_deframer_byte(struct slow_deframer *slow, uint8_t byte, uint32_t max_frame)
{
	if (slow->have < 4) {
		slow->header[slow->have++] = byte;
		if (slow->have < 4)
			return DEFRAMER_MORE;
		slow->length = 0;
		for (int i = 0; i < 4; i++)
			slow->length = slow->length * 256 + slow->header[i];
		if (slow->length > max_frame)
			return DEFRAMER_PROTOCOL;
	} else {
		slow->body[slow->have++ - 4] = byte;
	}
	return slow->have - 4 == slow->length ? slow_deframer_ended(slow)
					      : DEFRAMER_MORE;
}

/* Both deframers, fed with the same bytes. */
struct pair {
	struct slow_deframer slow;
	struct deframer fast;
	uint32_t max_frame;
	uint64_t frames;
	bool lost; /* a protocol error: only pair_end() goes on */
};

static inline void
pair_init(
    struct pair *pair, uint8_t *buffer, size_t capacity, uint32_t max_frame)
{
	pair->slow.have = pair->slow.length = 0;
	pair->slow.empty = pair->slow.runt = 0;
	pair->frames = 0;
	pair->lost = false;
	pair->fast =
	    (struct deframer){ .buffer = buffer, .capacity = capacity };
	pair->max_frame = max_frame;
}

static inline const char *
pair_expect(struct pair *pair, enum deframer_result expected)
{
	struct iovec parcel;

	if (deframer_next(&pair->fast, &parcel, pair->max_frame) != expected)
		return "a frame, or an error, too many or too few";
	if (pair->fast.empty != pair->slow.empty ||
	    pair->fast.runt != pair->slow.runt)
		return "a skipped frame was not counted right";
	if (expected == DEFRAMER_MORE)
		return NULL;
	if (parcel_length(&parcel) != pair->slow.length)
		return "a length differs";
	if (expected == DEFRAMER_FRAME &&
	    memcmp(parcel_frame(&parcel), pair->slow.body,
		parcel_length(&parcel)) != 0)
		return "a frame differs";
	return NULL;
}

static inline const char *
pair_compare(struct pair *pair, const uint8_t *bytes, size_t length)
{
	const char *wrong = NULL;

	for (size_t i = 0; i < length && !wrong && !pair->lost; i++) {
		enum deframer_result result =
		    slow_deframer_byte(&pair->slow, bytes[i], pair->max_frame);

		if (result != DEFRAMER_MORE)
			wrong = pair_expect(pair, result);
		pair->frames += result == DEFRAMER_FRAME;
		pair->lost = result == DEFRAMER_PROTOCOL;
	}
	if (wrong)
		return wrong;
	/* An error is returned again until the stream ends. */
	return pair_expect(
	    pair, pair->lost ? DEFRAMER_PROTOCOL : DEFRAMER_MORE);
}

/* Gives both the next bytes of the stream, as one receive where the buffer
 * allows. Returns NULL, or what is wrong. */
static inline const char *
pair_feed(struct pair *pair, const uint8_t *bytes, size_t length)
{
	struct deframer *fast = &pair->fast;
	const char *wrong = NULL;

	while (length > 0 && !pair->lost && !wrong) {
		uint8_t *room;
		size_t fits = deframer_room(fast, &room, pair->max_frame);

		if (fits == 0 || room + fits != fast->buffer + fast->capacity)
			return "the room is not the rest of the buffer";
		if (fits > length)
			fits = length;
		memcpy(room, bytes, fits);
		deframer_filled(fast, fits);
		wrong = pair_compare(pair, bytes, fits);
		bytes += fits;
		length -= fits;
	}
	return wrong;
}

/* The stream ends; another one begins. */
static inline const char *
pair_end(struct pair *pair)
{
	bool cut = pair->slow.have > 0;

	if (deframer_reset(&pair->fast) != cut)
		return cut ? "a cut frame was not noticed"
			   : "a whole stream was called cut";
	pair->slow.have = 0;
	pair->lost = false;
	return pair_expect(pair, DEFRAMER_MORE);
}

#endif
