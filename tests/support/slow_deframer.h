/* A simple deframer that reads one byte at a time, compared with the real one.
 * In a header because the fuzzer uses it too. */
#ifndef TESTS_SUPPORT_SLOW_DEFRAMER_H
#define TESTS_SUPPORT_SLOW_DEFRAMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "framing/framing.h"

/* Both deframers, fed with the same bytes. */
struct pair {
	struct deframer fast;
	uint32_t max_frame;
	uint64_t frames, empty, runt; /* that the slow one has found */
	bool lost;       /* a protocol error: only pair_end() goes on */
	uint32_t length; /* by the slow one's last header */
	size_t have;     /* bytes in parcel, which is incomplete */
	uint8_t parcel[FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES];
};

static inline void
pair_init(
    struct pair *pair, uint8_t *buffer, size_t capacity, uint32_t max_frame)
{
	memset(pair, 0, sizeof(*pair));
	pair->fast.buffer = buffer;
	pair->fast.capacity = capacity;
	pair->max_frame = max_frame;
}

static inline enum deframer_result
pair_slow(struct pair *pair, uint8_t byte)
{
	pair->parcel[pair->have++] = byte;
	if (pair->have <= 4)
		pair->length = pair->length << 8 | byte;
	if (pair->have == 4 && pair->length > pair->max_frame)
		return DEFRAMER_PROTOCOL;
	if (pair->have < 4 || pair->have - 4 < pair->length)
		return DEFRAMER_MORE;
	pair->have = 0;
	pair->empty += pair->length == 0;
	pair->runt += pair->length > 0 && pair->length <= 13;
	pair->frames += pair->length > 13;
	return pair->length > 13 ? DEFRAMER_FRAME : DEFRAMER_MORE;
}

static inline const char *
pair_expect(struct pair *pair, enum deframer_result expected)
{
	struct iovec parcel;

	if (deframer_next(&pair->fast, &parcel, pair->max_frame) != expected)
		return "a frame, or an error, too many or too few";
	if (pair->fast.empty != pair->empty || pair->fast.runt != pair->runt)
		return "a skipped frame was not counted right";
	if (expected == DEFRAMER_MORE)
		return NULL;
	if (parcel_length(&parcel) != pair->length)
		return "a length differs";
	if (expected == DEFRAMER_FRAME &&
	    memcmp(parcel_frame(&parcel), pair->parcel + 4, pair->length) != 0)
		return "a frame differs";
	return NULL;
}

static inline const char *
pair_compare(struct pair *pair, const uint8_t *bytes, size_t length)
{
	const char *wrong = NULL;

	for (size_t i = 0; i < length && !wrong && !pair->lost; i++) {
		enum deframer_result result = pair_slow(pair, bytes[i]);

		if (result != DEFRAMER_MORE)
			wrong = pair_expect(pair, result);
		pair->lost = result == DEFRAMER_PROTOCOL;
	}
	/* An error is returned again until the stream ends. */
	return wrong ? wrong
		     : pair_expect(pair,
			   pair->lost ? DEFRAMER_PROTOCOL : DEFRAMER_MORE);
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
	bool cut = pair->have > 0;

	if (deframer_reset(&pair->fast) != cut)
		return cut ? "a cut frame was not noticed"
			   : "a whole stream was called cut";
	pair->have = 0;
	pair->lost = false;
	return pair_expect(pair, DEFRAMER_MORE);
}

#endif
