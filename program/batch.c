#include "program/batch.h"

#include <sys/mman.h>

#define MEMORY_BYTES                                                           \
	(BATCH_FRAMES * (size_t)(BATCH_FIRST_STRIDE + BATCH_REST_STRIDE))

int
batch_create(struct batch *batch)
{
	*batch = (struct batch){ 0 };
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

int
batch_parts(const struct batch *batch, size_t i, struct iovec parts[2])
{
	uint8_t *first = batch_first(batch, i) - FRAME_HEADER_BYTES;
	uint32_t length = batch->length[i];

	frame_put_header(first, length);
	if (length <= BATCH_FIRST_BYTES) {
		parts[0] = (struct iovec){ first, FRAME_HEADER_BYTES + length };
		return 1;
	}
	parts[0] =
	    (struct iovec){ first, FRAME_HEADER_BYTES + BATCH_FIRST_BYTES };
	parts[1] =
	    (struct iovec){ batch_rest(batch, i), length - BATCH_FIRST_BYTES };
	return 2;
}

void
batch_trim(struct batch *batch, size_t keep)
{
	if (keep < BATCH_FRAMES)
		madvise(batch_rest(batch, keep),
		    (BATCH_FRAMES - keep) * (size_t)BATCH_REST_STRIDE,
		    MADV_DONTNEED);
}
