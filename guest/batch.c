#include "guest/batch.h"

#include <string.h>
#include <sys/mman.h>

/* BATCH_ROOM extends one byte beyond the last slot. */
#define MEMORY_BYTES (BATCH_FRAMES * (size_t)BATCH_STRIDE + 1)
/* A frame up to this length touches at most two pages of its slot. */
#define LONG_FRAME_BYTES 4096u
/* Several batches of long frames (up.c). Together with one page per slot this
 * is well below 4 MiB. */
#define LONG_BYTES_MAX (256 * 1024)
/* Enough for several full writes, to save system calls, but no more than stays
 * in the processor's cache. */
#define BATCH_BYTES (128 * 1024)

int
batch_create(struct batch *batch)
{
	*batch = (struct batch){ .frame_bytes = 1514 };
	batch->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANON, -1, 0);
	if (batch->memory == MAP_FAILED)
		return -1;
	if (batch_system_create(batch) == 0)
		return 0;
	munmap(batch->memory, MEMORY_BYTES);
	return -1;
}

void
batch_destroy(struct batch *batch)
{
	batch_system_destroy(batch);
	munmap(batch->memory, MEMORY_BYTES);
}

void
batch_clear(struct batch *batch)
{
	batch->count = 0;
	batch->sender_length = 0;
	memset(&batch->skipped, 0, sizeof(batch->skipped));
	if (batch->long_bytes > LONG_BYTES_MAX)
		batch_release(batch);
}

void
batch_release(struct batch *batch)
{
	madvise(batch->memory, MEMORY_BYTES, MADV_DONTNEED);
	memset(batch->touched_bytes, 0, sizeof(batch->touched_bytes));
	batch->long_bytes = 0;
}

void
batch_add(struct batch *batch, size_t length)
{
	size_t i = batch->count++;
	uint8_t *header = batch_slot(batch, i) - FRAME_HEADER_BYTES;

	frame_put_header(header, (uint32_t)length);
	batch->parcels[i] =
	    (struct iovec){ header, FRAME_HEADER_BYTES + length };
	if (length > LONG_FRAME_BYTES && length > batch->touched_bytes[i]) {
		batch->long_bytes += length - batch->touched_bytes[i];
		batch->touched_bytes[i] = (uint32_t)length;
	}
}

size_t
batch_limit(const struct batch *batch)
{
	size_t limit = BATCH_BYTES / (batch->frame_bytes + FRAME_HEADER_BYTES);

	if (limit == 0)
		return 1;
	return limit < BATCH_FRAMES ? limit : BATCH_FRAMES;
}

enum deframer_result
batch_deframe(
    struct batch *batch, struct deframer *d, uint32_t max_frame, size_t limit)
{
	enum deframer_result result = DEFRAMER_FRAME;

	while (batch->count < limit && result == DEFRAMER_FRAME) {
		result =
		    deframer_next(d, &batch->parcels[batch->count], max_frame);
		if (result == DEFRAMER_FRAME)
			batch->count++;
	}
	return result;
}

void
batch_expect(struct batch *batch)
{
	size_t bytes = 0, mean;

	if (batch->count == 0)
		return;
	for (size_t i = 0; i < batch->count; i++)
		bytes += parcel_length(&batch->parcels[i]);
	mean = (bytes + batch->count - 1) / batch->count;
	batch->frame_bytes -= batch->frame_bytes / 8;
	if (mean > batch->frame_bytes)
		batch->frame_bytes = mean;
}
