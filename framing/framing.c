#include "framing/framing.h"

#include <string.h>

static uint32_t
get_header(const uint8_t *header)
{
	return (uint32_t)header[0] << 24 | (uint32_t)header[1] << 16 |
	       (uint32_t)header[2] << 8 | header[3];
}

/* Returns the size of the parcel at `start`, or the largest size if its header
 * is incomplete. */
static size_t
parcel_bytes(const struct deframer *d, uint32_t max_frame)
{
	if (d->end - d->start < FRAME_HEADER_BYTES)
		return FRAME_HEADER_BYTES + (size_t)max_frame;
	return FRAME_HEADER_BYTES + (size_t)get_header(d->buffer + d->start);
}

size_t
deframer_room(struct deframer *d, uint8_t **room, uint32_t max_frame)
{
	if (d->start == d->end) {
		d->start = d->end = 0;
	} else if (d->capacity - d->start < parcel_bytes(d, max_frame)) {
		memmove(d->buffer, d->buffer + d->start, d->end - d->start);
		d->end -= d->start;
		d->start = 0;
	}
	*room = d->buffer + d->end;
	return d->capacity - d->end;
}

enum deframer_result
deframer_next(struct deframer *d, struct iovec *parcel, uint32_t max_frame)
{
	while (d->end - d->start >= FRAME_HEADER_BYTES) {
		uint32_t length = get_header(d->buffer + d->start);
		enum frame_verdict verdict = frame_judge(length, max_frame);

		parcel->iov_base = d->buffer + d->start;
		parcel->iov_len = FRAME_HEADER_BYTES + (size_t)length;
		if (verdict == FRAME_OVERSIZE)
			return DEFRAMER_PROTOCOL;
		if (d->end - d->start - FRAME_HEADER_BYTES < length)
			return DEFRAMER_MORE;
		d->start += parcel->iov_len;
		if (verdict == FRAME_GOOD)
			return DEFRAMER_FRAME;
		if (verdict == FRAME_EMPTY)
			d->empty++;
		else
			d->runt++;
	}
	return DEFRAMER_MORE;
}

bool
deframer_reset(struct deframer *d)
{
	bool cut = d->start != d->end;

	d->start = d->end = 0;
	return cut;
}
