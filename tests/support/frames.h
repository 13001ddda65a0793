/* Numbered frames: the same number and length always give the same bytes, so that
 * a frame that is lost, doubled, cut or mixed up is noticed. */
#ifndef TESTS_SUPPORT_FRAMES_H
#define TESTS_SUPPORT_FRAMES_H

#include <check.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "framing/framing.h"

/* With the number: at least this long. */
#define NUMBERED_BYTES 18u

static const uint8_t frames_guest_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

/* Of a length below NUMBERED_BYTES the number shows only in what fits. */
static inline void
frame_write(uint8_t *frame, size_t length, uint32_t number)
{
	uint8_t head[NUMBERED_BYTES] = { 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc };

	memcpy(head + 6, frames_guest_mac, 6);
	head[12] = 0x86; /* IPv6: neither ARP nor DHCP nor a probe */
	head[13] = 0xdd;
	for (int i = 0; i < 4; i++)
		head[14 + i] = (uint8_t)(number >> (24 - 8 * i));
	for (size_t i = 0; i < length; i++)
		frame[i] = i < sizeof(head)
			       ? head[i]
			       : (uint8_t)(number * 31 + i * 7 + (i >> 8));
}

static inline uint32_t
frame_number(const uint8_t *frame)
{
	return (uint32_t)frame[14] << 24 | (uint32_t)frame[15] << 16 |
	       (uint32_t)frame[16] << 8 | frame[17];
}

static inline void
frame_expect(const uint8_t *frame, size_t length, uint32_t number)
{
	static _Thread_local uint8_t expected[FRAME_LIMIT_BYTES];

	ck_assert_uint_le(length, sizeof(expected));
	frame_write(expected, length, number);
	if (length >= NUMBERED_BYTES)
		ck_assert_uint_eq(frame_number(frame), number);
	ck_assert_mem_eq(frame, expected, length);
}

/* Header and frame at `to`; returns how many bytes they are. */
static inline size_t
frame_write_framed(uint8_t *to, size_t length, uint32_t number)
{
	frame_put_header(to, (uint32_t)length);
	frame_write(to + FRAME_HEADER_BYTES, length, number);
	return FRAME_HEADER_BYTES + length;
}

#endif
