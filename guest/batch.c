#include "guest/batch.h"

#include <string.h>
#include <sys/mman.h>

#define MEMORY_BYTES (BATCH_FRAMES * (size_t)BATCH_STRIDE)
/* Several times what one batch of long frames takes (up.c), and with a page for
 * every slot well within 4 MiB. */
#define LONG_BYTES_MAX (512 * 1024)

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
batch_tell_long(struct batch *batch, size_t i)
{
	if (batch->length[i] <= batch->touched[i])
		return;
	batch->long_bytes += batch->length[i] - batch->touched[i];
	batch->touched[i] = batch->length[i];
}

void
batch_trim(struct batch *batch)
{
	if (batch->long_bytes <= LONG_BYTES_MAX)
		return;
	madvise(batch->memory, MEMORY_BYTES, MADV_DONTNEED);
	memset(batch->touched, 0, sizeof(batch->touched));
	batch->long_bytes = 0;
}
