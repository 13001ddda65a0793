#include "keepalive/announce.h"

#include <string.h>

#include "tests/support/suite.h"

/* As QEMU sends it after a migration, byte by byte. */
TEST(the_announcement_asks_for_the_guests_own_address_in_its_name)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
	static const uint8_t expected[ANNOUNCEMENT_BYTES] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* to everybody */
		0x52, 0x54, 0, 0x12, 0x34, 0x56,    /* from the guest */
		0x80, 0x35,                         /* RARP */
		0, 1, 0x08, 0, 6, 4, 0, 3, /* Ethernet, IPv4, request reverse */
		0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, /* the guest */
		0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, /* the same */
	};
	uint8_t frame[ANNOUNCEMENT_BYTES + 1];

	memset(frame, 0xaa, sizeof(frame));
	announce_write(frame, mac);
	ck_assert_mem_eq(frame, expected, ANNOUNCEMENT_BYTES);
	ck_assert_uint_eq(frame[ANNOUNCEMENT_BYTES], 0xaa);
}
