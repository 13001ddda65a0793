/* Feeds a hostile stream, cut at any places, to the deframer and to the simple one.
 * The first bytes of the input give the places. */
#include <stdlib.h>

#include "tests/support/slow_deframer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint32_t max_frames[] = { 60, 64, 1514, FRAME_LIMIT_BYTES };

static void
must(const char *wrong)
{
	if (wrong)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pair pair;
	uint32_t max_frame;
	size_t capacity, piece;
	uint8_t *buffer;

	if (size < 3)
		return 0;
	max_frame = max_frames[data[0] % 4];
	capacity = FRAME_HEADER_BYTES + max_frame + data[1];
	piece = data[2] + 1u;
	/* Exactly as large as needed: an access past it is detected. */
	buffer = malloc(capacity);
	if (!buffer)
		return 0;
	pair_init(&pair, buffer, capacity, max_frame);
	for (size_t at = 3; at < size; at += piece) {
		size_t left = size - at;

		must(pair_feed(&pair, data + at, piece < left ? piece : left));
		if (pair.lost)
			must(pair_end(&pair));
	}
	must(pair_end(&pair));
	free(buffer);
	return 0;
}
