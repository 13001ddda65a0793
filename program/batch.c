#include "program/batch.h"

#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_BYTES (BATCH_FRAMES * (size_t)BATCH_STRIDE)

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

void
batch_trim(struct batch *batch, size_t keep)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t from = (keep * BATCH_STRIDE + page - 1) / page * page;

	if (from < MEMORY_BYTES)
		madvise(
		    batch->memory + from, MEMORY_BYTES - from, MADV_DONTNEED);
}
