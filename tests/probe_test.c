/* Probe frames, byte by byte, and what is mistaken for one: nothing. */
#include "keepalive/probe.h"

#include "tests/support/suite.h"
#include <stdlib.h>
#include <string.h>

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

/* What RFC 826 makes of a request: sender and target change places. */
static void
answer(uint8_t *reply, const uint8_t *request)
{
	memcpy(reply, request, PROBE_BYTES);
	memcpy(reply, request + 6, 6);
	memcpy(reply + 6, router, 6);
	reply[ARP_OPERATION_LOW] = 2;
	memcpy(reply + 22, router, 6);
	memcpy(reply + ARP_SENDER, request + ARP_TARGET, 4);
	memcpy(reply + ARP_TARGET_MAC, request + 22, 6);
	memcpy(reply + ARP_TARGET, request + ARP_SENDER, 4);
}

TEST(an_arp_probe_is_rfc_5227_in_the_guests_name)
{
	static const uint8_t expected[PROBE_BYTES] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff,          /* to everybody */
		0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x08, 0x06, /* from guest */
		0, 1, 0x08, 0, 6, 4, 0, 1, /* Ethernet, IPv4, request */
		0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, /* 0.0.0.0 asks */
		0, 0, 0, 0, 0, 0, 192, 168, 105, 1, /* for the gateway */
	};
	uint8_t frame[PROBE_BYTES];

	memset(frame, 0xaa, sizeof(frame));
	ck_assert_uint_eq(
	    probe_arp_request(frame, guest, gateway, NULL), PROBE_BYTES);
	ck_assert_mem_eq(frame, expected, PROBE_BYTES);
}

TEST(a_known_gateway_is_asked_alone)
{
	uint8_t everybody[PROBE_BYTES], frame[PROBE_BYTES];

	probe_arp_request(everybody, guest, gateway, NULL);
	probe_arp_request(frame, guest, gateway, router);
	ck_assert_mem_eq(frame, router, 6);
	ck_assert_mem_eq(frame + 6, everybody + 6, PROBE_BYTES - 6);
}

TEST(the_answer_to_our_question_is_ours)
{
	uint8_t request[PROBE_BYTES], reply[PROBE_BYTES];

	probe_arp_request(request, guest, gateway, NULL);
	answer(reply, request);
	ck_assert_int_eq(kind(reply, PROBE_BYTES), PROBE_ARP_ANSWER);
	ck_assert_int_eq(kind(reply, 42), PROBE_ARP_ANSWER);
}

TEST(the_answer_to_the_guests_question_is_the_guests)
{
	uint8_t request[PROBE_BYTES], reply[PROBE_BYTES];
	static const uint8_t address[4] = { 192, 168, 105, 7 };

	probe_arp_request(request, guest, gateway, NULL);
	memcpy(request + ARP_SENDER, address, 4);
	answer(reply, request);
	ck_assert_int_eq(kind(reply, PROBE_BYTES), PROBE_NONE);
}

TEST(an_answer_nobody_waits_for_is_the_guests)
{
	uint8_t request[PROBE_BYTES], reply[PROBE_BYTES];
	uint64_t sequence;

	probe_arp_request(request, guest, gateway, NULL);
	answer(reply, request);
	ck_assert_int_eq(
	    probe_recognise(reply, PROBE_BYTES, NULL, &sequence), PROBE_NONE);
}

/* One bit anywhere in what counts makes it somebody else's. The MAC of the
 * sender doesn't count: the gateway may answer from another one. */
TEST(an_answer_that_differs_in_a_bit_is_the_guests, .count = 42 * 8)
{
	uint8_t request[PROBE_BYTES], reply[PROBE_BYTES];
	size_t at = (size_t)_i / 8;

	probe_arp_request(request, guest, gateway, NULL);
	answer(reply, request);
	reply[at] ^= (uint8_t)(1 << _i % 8);
	if ((at >= 6 && at < 12) || (at >= 22 && at < 28))
		ck_assert_int_eq(kind(reply, PROBE_BYTES), PROBE_ARP_ANSWER);
	else
		ck_assert_int_eq(kind(reply, PROBE_BYTES), PROBE_NONE);
}

TEST(our_own_question_coming_back_is_no_answer)
{
	uint8_t request[PROBE_BYTES];

	probe_arp_request(request, guest, gateway, NULL);
	ck_assert_int_eq(kind(request, PROBE_BYTES), PROBE_NONE);
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
	ck_assert_uint_eq(
	    probe_ping(frame, guest, 0x0102030405060708), PROBE_BYTES);
	ck_assert_mem_eq(frame, expected, PROBE_BYTES);
}

TEST(our_addresses_are_locally_administered_and_unicast)
{
	uint8_t frame[PROBE_BYTES];

	probe_ping(frame, NULL, 1);
	ck_assert_int_eq(frame[0] & 3, 2);
	ck_assert_int_eq(frame[6] & 3, 2);
	ck_assert_mem_ne(frame, frame + 6, 6);
}

TEST(ping_and_pong_carry_their_number)
{
	static const uint64_t numbers[] = { 0, 1, 255, 1u << 31, UINT64_MAX };
	uint64_t sequence = 4711;
	uint8_t frame[PROBE_BYTES];

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		probe_ping(frame, i % 2 ? guest : NULL, numbers[i]);
		ck_assert_int_eq(
		    probe_recognise(frame, PROBE_BYTES, NULL, &sequence),
		    PROBE_PING);
		ck_assert_uint_eq(sequence, numbers[i]);
		probe_pong(frame, i % 2 ? guest : NULL, ~numbers[i]);
		ck_assert_int_eq(
		    probe_recognise(frame, PROBE_BYTES, NULL, &sequence),
		    PROBE_PONG);
		ck_assert_uint_eq(sequence, ~numbers[i]);
	}
}

/* Only the source, the number and one of two types may vary. */
TEST(a_ping_that_differs_in_a_bit_is_forwarded, .count = 60 * 8)
{
	size_t at = (size_t)_i / 8;
	uint8_t frame[PROBE_BYTES];

	probe_ping(frame, guest, 99);
	frame[at] ^= (uint8_t)(1 << _i % 8);
	if ((at >= 6 && at < 12) || (at >= 22 && at < 30))
		ck_assert_int_eq(kind(frame, PROBE_BYTES), PROBE_PING);
	else
		ck_assert_int_eq(kind(frame, PROBE_BYTES), PROBE_NONE);
}

TEST(a_type_of_tomorrow_is_forwarded)
{
	uint8_t frame[PROBE_BYTES];

	probe_ping(frame, guest, 99);
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
	ck_assert(length >= 42 || !probe_is_possible(copy + 1, length));
	free(copy);
	return result;
}

TEST(runts_and_cut_frames_match_nothing)
{
	uint8_t request[PROBE_BYTES], reply[PROBE_BYTES], ping[PROBE_BYTES];

	probe_arp_request(request, guest, gateway, NULL);
	answer(reply, request);
	probe_ping(ping, guest, 1);
	for (size_t length = 0; length < PROBE_BYTES; length++) {
		ck_assert_int_eq(kind_of_start(ping, length), PROBE_NONE);
		ck_assert_int_eq(kind_of_start(reply, length),
		    length < 42 ? PROBE_NONE : PROBE_ARP_ANSWER);
	}
}

static void
tag(uint8_t *tagged, const uint8_t *frame)
{
	static const uint8_t vlan[] = { 0x81, 0x00, 0, 5 };

	memcpy(tagged, frame, 12);
	memcpy(tagged + 12, vlan, 4);
	memcpy(tagged + 16, frame + 12, PROBE_BYTES - 12);
}

TEST(vlan_tagged_frames_match_nothing)
{
	uint8_t request[PROBE_BYTES], frame[PROBE_BYTES];
	uint8_t tagged[PROBE_BYTES + 4];

	probe_arp_request(request, guest, gateway, NULL);
	answer(frame, request);
	tag(tagged, frame);
	ck_assert_int_eq(kind(tagged, sizeof(tagged)), PROBE_NONE);
	ck_assert_int_eq(kind(tagged, PROBE_BYTES), PROBE_NONE);
	probe_ping(frame, guest, 1);
	tag(tagged, frame);
	ck_assert_int_eq(kind(tagged, sizeof(tagged)), PROBE_NONE);
	ck_assert_int_eq(kind(tagged, PROBE_BYTES), PROBE_NONE);
	ck_assert(!probe_is_possible(tagged, sizeof(tagged)));
}

TEST(the_quick_look_lets_all_probes_pass)
{
	uint8_t request[PROBE_BYTES], frame[PROBE_BYTES];

	probe_arp_request(request, guest, gateway, NULL);
	answer(frame, request);
	ck_assert(probe_is_possible(frame, 42));
	probe_pong(frame, guest, 1);
	ck_assert(probe_is_possible(frame, PROBE_BYTES));
	frame[12] = 0x08;
	ck_assert(!probe_is_possible(frame, PROBE_BYTES));
}

TEST(a_flood_of_pings_gets_ten_pongs_a_second)
{
	struct pong_limit limit;
	int64_t sent_ms[1000];
	unsigned sent = 0;

	pong_limit_init(&limit);
	for (int64_t t = 0; t < 20000; t++)
		if (pong_limit_allows(&limit, t))
			sent_ms[sent++] = t;
	ck_assert_uint_eq(sent, 200);
	for (unsigned i = 10; i < sent; i++)
		ck_assert_int_ge(sent_ms[i] - sent_ms[i - 10], 1000);
}

TEST(a_ping_now_and_then_is_always_answered)
{
	struct pong_limit limit;

	pong_limit_init(&limit);
	for (int64_t t = 0; t < 20000; t += 100)
		ck_assert(pong_limit_allows(&limit, t));
}

TEST(ten_pings_at_once_are_answered_even_at_time_0)
{
	struct pong_limit limit;

	pong_limit_init(&limit);
	for (int i = 0; i < PONGS_PER_SECOND; i++)
		ck_assert(pong_limit_allows(&limit, 0));
	ck_assert(!pong_limit_allows(&limit, 0));
	ck_assert(!pong_limit_allows(&limit, 999));
	ck_assert(pong_limit_allows(&limit, 1000));
}
