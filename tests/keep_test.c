#include "forwarder/keep.h"

#include "tests/support/frames.h"
#include "tests/support/suite.h"

#define NOW_MS INT64_C(3000000000) /* of a host that runs for weeks */

static struct keep keep;

static void
set_up(void)
{
	ck_assert_int_eq(keep_create(&keep), 0);
	ck_assert_uint_eq(keep_limit(&keep, 4), 0);
}

static void
tear_down(void)
{
	keep_destroy(&keep);
}

static size_t
add(uint32_t number, size_t length, int64_t now_ms)
{
	static uint8_t framed[FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES];
	struct iovec parcel = { framed,
		frame_write_framed(framed, length, number) };
	size_t lost = keep_add(&keep, &parcel, now_ms);

	memset(framed, 0, parcel.iov_len); /* it has a copy */
	return lost;
}

static size_t
any_length(uint32_t number)
{
	uint64_t luck = number;
	uint32_t most = suite_random(&luck) % 4 ? 1500 : FRAME_LIMIT_BYTES;

	return NUMBERED_BYTES +
	       suite_random(&luck) % (most - NUMBERED_BYTES + 1);
}

/* Expects the frames with the numbers from `from` to before `to`, whole. Returns
 * the bytes of their parcels. */
static size_t
expect_kept(uint32_t from, uint32_t to, size_t (*length)(uint32_t number))
{
	struct iovec parcels[KEEP_FRAMES];
	size_t bytes = 0;

	ck_assert_uint_eq(keep.count, to - from);
	ck_assert_uint_eq(keep_parcels(&keep, parcels), to - from);
	for (uint32_t i = 0; i < to - from; i++) {
		ck_assert_uint_eq(parcel_length(&parcels[i]), length(from + i));
		frame_expect(parcel_frame(&parcels[i]),
		    parcel_length(&parcels[i]), from + i);
		bytes += parcels[i].iov_len;
	}
	return bytes;
}

static size_t
sixty(uint32_t number)
{
	(void)number;
	return 60;
}

FIXTURE(set_up, tear_down)

TEST(the_newest_frames_are_kept_in_order)
{
	for (uint32_t i = 0; i < 1000; i++) {
		ck_assert_uint_eq(add(i, 60, NOW_MS), i >= 4);
		expect_kept(i < 4 ? 0 : i - 3, i + 1, sixty);
	}
}

TEST(a_frame_is_lost_at_once_if_none_may_be_kept)
{
	keep_limit(&keep, 0);
	ck_assert_uint_eq(add(0, 60, NOW_MS), 1);
	expect_kept(0, 0, sixty);
}

TEST(a_lower_limit_keeps_the_newest_and_a_higher_one_all)
{
	for (uint32_t i = 0; i < 4; i++)
		add(i, 60, NOW_MS);
	ck_assert_uint_eq(keep_limit(&keep, 3), 1);
	expect_kept(1, 4, sixty);
	ck_assert_uint_eq(keep_limit(&keep, KEEP_FRAMES), 0);
	ck_assert_uint_eq(add(4, 60, NOW_MS), 0);
	expect_kept(1, 5, sixty);
	ck_assert_uint_eq(keep_limit(&keep, 0), 4);
	expect_kept(0, 0, sixty);
}

TEST(a_frame_leaves_when_it_is_too_old)
{
	for (uint32_t i = 0; i < 3; i++)
		add(i, 60, NOW_MS + i);
	ck_assert_uint_eq(keep_expire(&keep, NOW_MS + KEEP_AGE_MS - 1), 0);
	ck_assert_uint_eq(keep_expire(&keep, NOW_MS + KEEP_AGE_MS + 1), 2);
	expect_kept(2, 3, sixty);
	ck_assert_uint_eq(keep_expire(&keep, NOW_MS + KEEP_AGE_MS + 1), 0);
	ck_assert_uint_eq(keep_expire(&keep, INT64_MAX), 1);
	ck_assert_uint_eq(keep_expire(&keep, INT64_MAX), 0);
}

TEST(frames_that_were_written_leave_the_rest_in_order)
{
	for (uint32_t i = 0; i < 4; i++)
		add(i, 60, NOW_MS);
	keep_remove(&keep, 3);
	ck_assert_uint_eq(add(4, 60, NOW_MS), 0);
	expect_kept(3, 5, sixty);
}

/* No frame leaves while there is room: at most two pieces of the memory are
 * unused, each shorter than one frame. */
TEST(the_memory_limits_long_frames)
{
	uint32_t oldest = 0;
	uint64_t luck = 1;

	keep_limit(&keep, KEEP_FRAMES);
	for (uint32_t i = 0; i < 5000; i++) {
		size_t lost = add(i, any_length(i), NOW_MS), bytes;

		oldest += (uint32_t)lost;
		bytes = expect_kept(oldest, i + 1, any_length);
		ck_assert_uint_le(bytes, KEEP_BYTES);
		if (lost > 0 && keep.count < KEEP_FRAMES - 1)
			ck_assert_uint_ge(
			    bytes, KEEP_BYTES - 2 * (FRAME_LIMIT_BYTES + 4));
		if (suite_random(&luck) % 100 == 0) {
			uint32_t written =
			    suite_random(&luck) % (uint32_t)(keep.count + 1);

			keep_remove(&keep, written);
			oldest += written;
		}
	}
}
