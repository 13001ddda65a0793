/* The frames that we send, byte by byte, and that no other frame is taken for one
 * of them. */
#include "keepalive/probe.h"

#include "keepalive/wire.h"
#include "tests/support/suite.h"

#define ARP_OPERATION_LOW 21
#define ARP_SENDER 28
#define ARP_TARGET_MAC 32
#define ARP_TARGET 38

static const uint8_t guest[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
static const uint8_t router[6] = { 0x00, 0x00, 0x5e, 0, 1, 7 };
static const uint8_t gateway[4] = { 192, 168, 105, 1 };
static const struct probe_target asked = {
	{ 0x52, 0x54, 0, 0x12, 0x34, 0x56 },
	{ 192, 168, 105, 1 },
};

static enum probe_kind
kind(const uint8_t *frame, size_t length)
{
	uint64_t sequence;

	return probe_recognise(frame, length, &asked, &sequence);
}

/* What RFC 826 makes of our request: sender and target change places. */
static void
answer(uint8_t *reply)
{
	uint8_t request[PROBE_BYTES];

	probe_arp_request(request, guest, gateway, NULL);
	memcpy(reply, request, PROBE_BYTES);
	memcpy(reply, request + 6, 6);
	memcpy(reply + 6, router, 6);
	reply[ARP_OPERATION_LOW] = 2;
	memcpy(reply + 22, router, 6);
	memcpy(reply + ARP_SENDER, request + ARP_TARGET, 4);
	memcpy(reply + ARP_TARGET_MAC, request + 22, 6);
	memcpy(reply + ARP_TARGET, request + ARP_SENDER, 4);
}

static void
ping(uint8_t *frame)
{
	probe_between_forwarders(frame, PROBE_PING, guest, 0x0102030405060708);
}

TEST(an_arp_probe_is_rfc_5227_in_the_guests_name)
{
	static const uint8_t expected[PROBE_BYTES] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff,          /* to everybody */
		0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x08, 0x06, /* from guest */
		0, 1, 0x08, 0, 6, 4, 0, 1, /* Ethernet, IPv4, request */
		0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, /* from 0.0.0.0 */
		0, 0, 0, 0, 0, 0, 192, 168, 105, 1, /* for the gateway */
	};
	uint8_t frame[PROBE_BYTES];

	memset(frame, 0xaa, sizeof(frame));
	probe_arp_request(frame, guest, gateway, NULL);
	ck_assert_mem_eq(frame, expected, PROBE_BYTES);
	probe_arp_request(frame, guest, gateway, router); /* that one alone */
	ck_assert_mem_eq(frame, router, 6);
	ck_assert_mem_eq(frame + 6, expected + 6, PROBE_BYTES - 6);
}

/* As QEMU sends it after a migration. */
TEST(the_announcement_asks_for_the_guests_own_address_in_its_name)
{
	static const uint8_t expected[PROBE_BYTES] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* to everybody */
		0x52, 0x54, 0, 0x12, 0x34, 0x56,    /* from the guest */
		0x80, 0x35,                         /* RARP */
		0, 1, 0x08, 0, 6, 4, 0, 3, /* Ethernet, IPv4, request reverse */
		0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, /* the guest */
		0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, /* the same */
	};
	uint8_t frame[PROBE_BYTES + 1];

	memset(frame, 0xaa, sizeof(frame));
	probe_announcement(frame, guest);
	ck_assert_mem_eq(frame, expected, PROBE_BYTES);
	ck_assert_uint_eq(frame[PROBE_BYTES], 0xaa);
}

TEST(a_ping_is_as_documented)
{
	static const uint8_t expected[PROBE_BYTES] = {
		2, 'F', 'W', 'D', 'K', 'A',           /* to a fixed address */
		0x52, 0x54, 0, 0x12, 0x34, 0x56,      /* from the guest */
		0x88, 0xb5, 'F', 'W', 'D', 'K', 1, 1, /* version, type */
		0, 0, 1, 2, 3, 4, 5, 6, 7, 8,         /* sequence */
	};
	uint8_t frame[PROBE_BYTES];

	memset(frame, 0xaa, sizeof(frame));
	ping(frame);
	ck_assert_mem_eq(frame, expected, PROBE_BYTES);
}

TEST(our_addresses_are_locally_administered_and_unicast)
{
	uint8_t frame[PROBE_BYTES];

	probe_between_forwarders(frame, PROBE_PING, NULL, 1);
	ck_assert_int_eq(frame[0] & 3, 2);
	ck_assert_int_eq(frame[6] & 3, 2);
	ck_assert_mem_ne(frame, frame + 6, 6);
}

TEST(ping_and_pong_carry_their_number)
{
	static const uint64_t numbers[] = { 0, 1, 255, 1u << 31, UINT64_MAX };
	uint64_t sequence = 4711;
	uint8_t frame[PROBE_BYTES];

	for (int i = 0; i < 2 * LENGTH(numbers); i++) {
		enum probe_kind sent = i % 2 ? PROBE_PING : PROBE_PONG;

		probe_between_forwarders(frame, sent, guest, numbers[i / 2]);
		ck_assert_int_eq(
		    probe_recognise(frame, PROBE_BYTES, NULL, &sequence), sent);
		ck_assert_uint_eq(sequence, numbers[i / 2]);
	}
}

TEST(an_answer_to_no_request_of_ours_is_the_guests)
{
	uint8_t reply[PROBE_BYTES];
	uint64_t sequence;

	answer(reply);
	ck_assert_int_eq(
	    probe_recognise(reply, PROBE_BYTES, NULL, &sequence), PROBE_NONE);
}

/* Any bit that is compared makes it a frame for the guest: an answer to its own
 * request, or our request coming back. The sender's MAC is not compared, as the
 * gateway may answer from another one. */
TEST(an_answer_that_differs_in_a_bit_is_the_guests, .count = 42 * 8)
{
	size_t at = (size_t)_i / 8;
	bool free_to_vary = (at >= 6 && at < 12) || (at >= 22 && at < 28);
	uint8_t reply[PROBE_BYTES];

	answer(reply);
	reply[at] ^= (uint8_t)(1 << _i % 8);
	ck_assert_int_eq(kind(reply, PROBE_BYTES),
	    free_to_vary ? PROBE_ARP_ANSWER : PROBE_NONE);
}

/* Only the source and the number may vary. */
TEST(a_ping_that_differs_in_a_bit_is_forwarded, .count = 60 * 8)
{
	size_t at = (size_t)_i / 8;
	bool free_to_vary = (at >= 6 && at < 12) || (at >= 22 && at < 30);
	uint8_t frame[PROBE_BYTES];

	ping(frame);
	frame[at] ^= (uint8_t)(1 << _i % 8);
	ck_assert_int_eq(
	    kind(frame, PROBE_BYTES), free_to_vary ? PROBE_PING : PROBE_NONE);
}

TEST(an_unknown_type_is_forwarded)
{
	uint8_t frame[PROBE_BYTES];

	ping(frame);
	for (int type = 0; type < 256; type++) {
		frame[19] = (uint8_t)type;
		ck_assert_int_eq(
		    kind(frame, PROBE_BYTES), type == 1   ? PROBE_PING
					      : type == 2 ? PROBE_PONG
							  : PROBE_NONE);
	}
}

/* The frame lies at the end of what may be read, for the sanitizer to see. */
static enum probe_kind
kind_of_start(const uint8_t *frame, size_t length)
{
	uint8_t *copy = malloc(length + 1);
	enum probe_kind result;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy + 1, frame, length);
	result = kind(copy + 1, length);
	ck_assert(length >= 42 || !wire_is_notable(copy + 1, length));
	free(copy);
	return result;
}

TEST(runts_and_cut_frames_match_nothing)
{
	uint8_t reply[PROBE_BYTES], frame[PROBE_BYTES];

	answer(reply);
	ping(frame);
	for (size_t length = 0; length < PROBE_BYTES; length++) {
		ck_assert_int_eq(kind_of_start(frame, length), PROBE_NONE);
		ck_assert_int_eq(kind_of_start(reply, length),
		    length < 42 ? PROBE_NONE : PROBE_ARP_ANSWER);
	}
}

TEST(the_quick_check_passes_all_probes_and_no_tagged_frame, .count = 2)
{
	static const uint8_t vlan[] = { 0x81, 0x00, 0, 5 };
	uint8_t frame[PROBE_BYTES], tagged[PROBE_BYTES + 4];

	(_i ? ping : answer)(frame);
	ck_assert(wire_is_notable(frame, PROBE_BYTES));
	memcpy(tagged, frame, 12);
	memcpy(tagged + 12, vlan, 4);
	memcpy(tagged + 16, frame + 12, PROBE_BYTES - 12);
	ck_assert(!wire_is_notable(tagged, sizeof(tagged)));
	ck_assert_int_eq(kind(tagged, sizeof(tagged)), PROBE_NONE);
	ck_assert_int_eq(kind(tagged, PROBE_BYTES), PROBE_NONE);
}

TEST(a_flood_of_pings_gets_ten_pongs_in_any_second)
{
	struct pong_limit limit = { 0 };

	for (int64_t t = 1900; t < 20000; t += 1000) {
		for (int i = 0; i < PONGS_PER_SECOND; i++)
			ck_assert(pong_limit_allows(&limit, t + 20 * i));
		ck_assert(!pong_limit_allows(&limit, t + 200));
		ck_assert(!pong_limit_allows(&limit, t + 999));
	}
}
