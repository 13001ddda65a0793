#include "forwarder/keep.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

_Static_assert(
    KEEP_BYTES >= FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES, "every frame fits");

int
keep_create(struct keep *keep)
{
	*keep = (struct keep){ .memory = mmap(NULL, KEEP_BYTES,
				   PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANON, -1, 0) };
	return keep->memory != MAP_FAILED ? 0 : -1;
}

void
keep_destroy(struct keep *keep)
{
	munmap(keep->memory, KEEP_BYTES);
}

/* Returns the place in the ring of the frame with that number; 0: the oldest. */
static size_t
place(const struct keep *keep, size_t number)
{
	return (keep->first + number) % KEEP_FRAMES;
}

void
keep_remove(struct keep *keep, size_t count)
{
	assert(count <= keep->count);
	keep->first = place(keep, count);
	keep->count -= count;
	if (keep->count == 0 && count > 0)
		madvise(keep->memory, KEEP_BYTES, MADV_DONTNEED);
}

/* Returns room for another parcel behind the newest one, or at the start of the
 * memory; NULL: the oldest frames are in the way. */
static uint8_t *
find_room(const struct keep *keep, size_t bytes)
{
	const struct iovec *newest;
	uint8_t *begin, *end;

	if (keep->count == 0)
		return keep->memory;
	newest = &keep->parcels[place(keep, keep->count - 1)];
	begin = keep->parcels[keep->first].iov_base;
	end = (uint8_t *)newest->iov_base + newest->iov_len;
	if (end <= begin) /* the newest ones are before the oldest */
		return (size_t)(begin - end) >= bytes ? end : NULL;
	if ((size_t)(keep->memory + KEEP_BYTES - end) >= bytes)
		return end;
	return (size_t)(begin - keep->memory) >= bytes ? keep->memory : NULL;
}

static bool
is_full(const struct keep *keep, size_t bytes)
{
	return keep->count == keep->limit || !find_room(keep, bytes);
}

size_t
keep_add(struct keep *keep, const struct iovec *parcel, int64_t now_ms)
{
	size_t lost = 0, newest;
	uint8_t *room;

	if (keep->limit == 0)
		return 1;
	for (; is_full(keep, parcel->iov_len); lost++)
		keep_remove(keep, 1);
	room = find_room(keep, parcel->iov_len);
	memcpy(room, parcel->iov_base, parcel->iov_len);
	newest = place(keep, keep->count++);
	keep->parcels[newest] = (struct iovec){ room, parcel->iov_len };
	keep->added_ms[newest] = now_ms;
	return lost;
}

size_t
keep_expire(struct keep *keep, int64_t now_ms)
{
	size_t lost = 0;

	for (; keep->count > 0 &&
	       now_ms - keep->added_ms[keep->first] >= KEEP_AGE_MS;
	     lost++)
		keep_remove(keep, 1);
	return lost;
}

size_t
keep_limit(struct keep *keep, size_t limit)
{
	size_t lost = keep->count > limit ? keep->count - limit : 0;

	keep->limit = limit;
	keep_remove(keep, lost);
	return lost;
}

size_t
keep_parcels(const struct keep *keep, struct iovec parcels[KEEP_FRAMES])
{
	for (size_t i = 0; i < keep->count; i++)
		parcels[i] = keep->parcels[place(keep, i)];
	return keep->count;
}
