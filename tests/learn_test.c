/* Who the gateway is, from frames as guests, routers and DHCP servers send
 * them. */
#include "keepalive/learn.h"

#include <stdlib.h>

#include "tests/support/suite.h"

#define FRAME_BYTES 400

static const uint8_t guest[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
static const uint8_t other[6] = { 0x52, 0x54, 0, 0xab, 0xcd, 0xef };
static const uint8_t router[6] = { 0x00, 0x00, 0x5e, 0, 1, 7 };
static const uint8_t server[6] = { 0x02, 0, 0, 0, 0, 3 };
static const uint8_t everybody[6] = { 255, 255, 255, 255, 255, 255 };
static const uint8_t nobody[6];
static const uint8_t guest_ip[4] = { 192, 168, 105, 7 };
static const uint8_t gateway[4] = { 192, 168, 105, 1 };
static const uint8_t second[4] = { 192, 168, 105, 2 };
static const uint8_t server_ip[4] = { 192, 168, 105, 3 };
static const uint8_t far_away[4] = { 8, 8, 8, 8 };

static struct learned l;
static uint8_t frame[FRAME_BYTES];

/* What is known: a gateway or NULL, its MAC or NULL. */
static void
expect(const uint8_t *ip, const uint8_t *mac)
{
	ck_assert_int_eq(l.state, mac  ? LEARN_ALL
				  : ip ? LEARN_ADDRESS
				       : LEARN_NOTHING);
	if (ip)
		ck_assert_mem_eq(l.gateway, ip, 4);
	if (mac)
		ck_assert_mem_eq(learn_gateway_mac(&l), mac, 6);
	else
		ck_assert_ptr_null(learn_gateway_mac(&l));
}

/* The frame lies at the end of what may be read, for the sanitizer to see. */
static void
from(const uint8_t *sender, size_t length)
{
	uint8_t *copy = malloc(length + 1);

	ck_assert_ptr_nonnull(copy);
	memcpy(copy + 1, frame, length);
	if (sender == guest)
		learn_from_guest(&l, copy + 1, length);
	else
		learn_from_network(&l, guest, copy + 1, length);
	free(copy);
}

static void
ethernet(const uint8_t *to, const uint8_t *sender, unsigned type)
{
	memset(frame, 0, sizeof(frame));
	memcpy(frame, to, 6);
	memcpy(frame + 6, sender, 6);
	frame[12] = (uint8_t)(type >> 8);
	frame[13] = (uint8_t)type;
}

/* Sent by `mac` to `to`, about `target_mac` and `target`. */
static void
arp(uint8_t operation, const uint8_t *to, const uint8_t *mac,
    const uint8_t *sender, const uint8_t *target_mac, const uint8_t *target)
{
	static const uint8_t head[] = { 0, 1, 0x08, 0, 6, 4, 0 };

	ethernet(to, mac, 0x0806);
	memcpy(frame + 14, head, sizeof(head));
	frame[21] = operation;
	memcpy(frame + 22, mac, 6);
	memcpy(frame + 28, sender, 4);
	memcpy(frame + 32, target_mac, 6);
	memcpy(frame + 38, target, 4);
	from(mac, 42);
}

static void
answered_to(const uint8_t *who, const uint8_t *ip, const uint8_t *mac)
{
	arp(2, who, mac, ip, who, guest_ip);
}

static void
guest_asks(const uint8_t *mac, const uint8_t *ip)
{
	arp(1, mac, guest, guest_ip, nobody, ip);
}

static void
guest_sends(const uint8_t *to, const uint8_t *ip)
{
	ethernet(to, guest, 0x0800);
	frame[14] = 0x45;
	frame[17] = 20;
	memcpy(frame + 26, guest_ip, 4);
	memcpy(frame + 30, ip, 4);
	from(guest, 60);
}

/* An acknowledgement to `client` with these options; its length. */
static size_t
dhcp(const uint8_t *client, const uint8_t *options, size_t bytes)
{
	static const uint8_t ports[] = { 0, 67, 0, 68 };
	static const uint8_t cookie[] = { 99, 130, 83, 99 };
	size_t udp = 8 + 240 + bytes;

	ethernet(everybody, server, 0x0800);
	frame[14] = 0x45;
	frame[16] = (uint8_t)((20 + udp) >> 8);
	frame[17] = (uint8_t)(20 + udp);
	frame[23] = 17;
	memcpy(frame + 34, ports, 4);
	frame[38] = (uint8_t)(udp >> 8);
	frame[39] = (uint8_t)udp;
	frame[42] = 2;
	frame[43] = 1;
	frame[44] = 6;
	memcpy(frame + 42 + 28, client, 6);
	memcpy(frame + 42 + 236, cookie, 4);
	memcpy(frame + 42 + 240, options, bytes);
	return 34 + udp;
}

static const uint8_t ack[] = { 53, 1, 5, 1, 4, 255, 255, 255, 0, 0, 3, 8, 192,
	168, 105, 1, 192, 168, 105, 2, 255 };

static void
acknowledged(const uint8_t *client, const uint8_t *options, size_t bytes)
{
	size_t length = dhcp(client, options, bytes);

	from(server, length);
}

static void
forget(void)
{
	l = (struct learned){ .state = LEARN_NOTHING };
}

FIXTURE(forget, NULL)

/* ---- a lease ---- */

TEST(a_lease_names_the_gateway)
{
	acknowledged(other, ack, sizeof(ack)); /* none of ours */
	expect(NULL, NULL);
	acknowledged(guest, ack, sizeof(ack));
	expect(gateway, NULL);
}

TEST(no_lease_is_ours_before_the_guest_is_known)
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	learn_from_network(&l, NULL, frame, length);
	expect(NULL, NULL);
}

TEST(a_later_lease_changes_the_gateway)
{
	static const uint8_t later[] = { 53, 1, 5, 3, 4, 192, 168, 105, 2,
		255 };

	acknowledged(guest, ack, sizeof(ack));
	answered_to(guest, gateway, router);
	acknowledged(guest, ack, sizeof(ack)); /* renewed */
	expect(gateway, router);
	acknowledged(guest, later, sizeof(later));
	expect(second, NULL);
}

TEST(an_offer_or_a_refusal_is_no_lease)
{
	uint8_t options[sizeof(ack)];

	memcpy(options, ack, sizeof(ack));
	for (int type = 0; type < 256; type++) {
		options[2] = (uint8_t)type;
		if (type != 5)
			acknowledged(guest, options, sizeof(options));
	}
	expect(NULL, NULL);
}

static const struct {
	const char *what;
	uint8_t bytes[16];
	size_t length;
} absurd[] = {
	{ "no router", { 53, 1, 5, 255, 3, 4, 192, 168, 105, 1 }, 10 },
	{ "0.0.0.0", { 53, 1, 5, 3, 4, 0, 0, 0, 0, 255 }, 10 },
	{ "loopback", { 53, 1, 5, 3, 4, 127, 0, 0, 1, 255 }, 10 },
	{ "multicast", { 53, 1, 5, 3, 4, 224, 0, 0, 1, 255 }, 10 },
	{ "three bytes", { 53, 1, 5, 3, 3, 192, 168, 105, 255 }, 9 },
	{ "no type", { 53, 0, 3, 4, 192, 168, 105, 1, 255 }, 9 },
	{ "a long type", { 53, 2, 5, 5, 3, 4, 192, 168, 105, 1 }, 10 },
	{ "a greedy option", { 53, 1, 5, 12, 200, 3, 4, 192, 168, 105, 1 },
	    11 },
	{ "a greedy last one", { 53, 1, 5, 3, 5, 192, 168, 105, 1 }, 9 },
	{ "a code only", { 53, 1, 5, 3 }, 4 },
};

TEST(a_lease_with_odd_options_teaches_nothing, .count = LENGTH(absurd))
{
	acknowledged(guest, absurd[_i].bytes, absurd[_i].length);
	ck_assert_msg(l.state == LEARN_NOTHING, "%s", absurd[_i].what);
}

TEST(a_cut_lease_teaches_nothing)
{
	size_t whole = dhcp(guest, ack, sizeof(ack));

	for (size_t length = 0; length < whole; length++)
		from(server, length);
	expect(NULL, NULL);
}

/* Bytes that make it something else: a fragment, another port, another
 * protocol, a header with options, a length beyond the frame. */
static const struct {
	size_t at;
	uint8_t value;
} spoilt[] = { { 14, 0x65 }, { 14, 0x44 }, { 14, 0x46 }, { 20, 0x20 },
	{ 21, 1 }, { 23, 6 }, { 35, 68 }, { 37, 67 }, { 38, 0xff }, { 38, 0 },
	{ 42, 1 }, { 43, 6 }, { 44, 16 }, { 278, 0 }, { 12, 0x86 } };

TEST(what_is_no_whole_reply_of_a_server_is_no_lease, .count = LENGTH(spoilt))
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	frame[spoilt[_i].at] = spoilt[_i].value;
	from(server, length);
	expect(NULL, NULL);
}

TEST(a_lease_in_a_frame_with_padding_is_read)
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	frame[20] = 0x40; /* don't fragment */
	from(server, length + 20);
	expect(gateway, NULL);
}

/* ---- what the guest sends ---- */

TEST(asking_for_a_neighbour_does_not_make_it_the_gateway)
{
	guest_asks(everybody, server_ip);
	answered_to(guest, server_ip, server);
	guest_sends(server, server_ip);
	expect(NULL, NULL);
}

TEST(a_neighbour_the_guest_sends_through_is_the_gateway)
{
	answered_to(guest, server_ip, server);
	answered_to(guest, gateway, router);
	guest_sends(server, server_ip);
	guest_sends(router, far_away);
	expect(gateway, router);
}

/* As when the forwarder was restarted under a running guest, which then only
 * asks whether the neighbours it knows are still there. */
TEST(a_question_to_one_mac_tells_what_the_guest_believes)
{
	guest_asks(router, gateway);
	guest_sends(router, far_away);
	expect(gateway, router);
}

TEST(the_guests_answer_tells_who_asked)
{
	arp(2, router, guest, guest_ip, router, gateway);
	guest_sends(router, far_away);
	expect(gateway, router);
}

TEST(two_addresses_of_one_neighbour_do_not_make_it_a_gateway)
{
	answered_to(guest, server_ip, server);
	answered_to(guest, second, server);
	guest_sends(server, second);
	guest_sends(server, server_ip);
	expect(NULL, NULL);
}

TEST(broadcasts_and_answers_to_others_show_no_gateway)
{
	answered_to(other, gateway, router);
	guest_sends(router, far_away);
	answered_to(guest, gateway, router);
	guest_sends(everybody, far_away);
	guest_sends(router, everybody);
	expect(NULL, NULL);
}

TEST(many_neighbours_do_not_crowd_out_the_gateway_for_good)
{
	for (uint8_t host = 10; host < 200; host++) {
		uint8_t ip[4] = { 192, 168, 105, host };
		uint8_t mac[6] = { 2, 0, 0, 0, 1, host };

		answered_to(guest, ip, mac);
		guest_sends(mac, ip);
	}
	expect(NULL, NULL);
	answered_to(guest, gateway, router);
	guest_sends(router, far_away);
	expect(gateway, router);
}

TEST(a_runt_from_the_guest_teaches_nothing)
{
	static const unsigned types[] = { 0x0800, 0x0806 };

	for (int i = 0; i < 2; i++) {
		ethernet(router, guest, types[i]);
		for (size_t length = 0; length < 60; length++)
			from(guest, length);
	}
	expect(NULL, NULL);
}

/* ---- which counts more ---- */

TEST(a_lease_outranks_what_the_guest_sends_through_until_in_doubt)
{
	acknowledged(guest, ack, sizeof(ack));
	answered_to(guest, second, server);
	guest_sends(server, far_away);
	expect(gateway, NULL);
	learn_doubt(&l);
	guest_sends(server, far_away);
	expect(second, server);
}

TEST(a_configured_gateway_stays)
{
	learn_configure(&l, second);
	acknowledged(guest, ack, sizeof(ack));
	answered_to(guest, gateway, router);
	guest_sends(router, far_away);
	expect(second, NULL);
	learn_doubt(&l);
	guest_sends(router, far_away);
	answered_to(guest, second, server);
	expect(second, server);
}

TEST(a_gateway_that_changes_its_mac_is_followed)
{
	learn_configure(&l, gateway);
	answered_to(guest, gateway, router);
	expect(gateway, router);
	arp(1, everybody, server, gateway, nobody, gateway);
	expect(gateway, server);
	guest_asks(router, gateway); /* it is behind */
	expect(gateway, server);
}

TEST(until_the_gateway_speaks_its_mac_is_where_the_guest_sends_for_it)
{
	learn_configure(&l, gateway);
	guest_asks(router, gateway);
	expect(gateway, router);
}

TEST(a_gateway_mac_no_host_can_have_is_ignored)
{
	learn_configure(&l, gateway);
	answered_to(guest, gateway, everybody);
	answered_to(guest, gateway, nobody);
	expect(gateway, NULL);
}

TEST(a_gateway_in_doubt_is_asked_for_by_broadcast_until_it_answers)
{
	static const uint8_t unspecified[4];

	learn_doubt(&l);
	expect(NULL, NULL); /* nothing was known */
	learn_configure(&l, gateway);
	answered_to(guest, gateway, router);
	learn_doubt(&l);
	ck_assert_int_eq(l.state, LEARN_DOUBT);
	ck_assert_ptr_null(learn_gateway_mac(&l));
	arp(2, guest, router, gateway, guest, unspecified); /* to our probe */
	expect(gateway, router);
}

TEST(vlan_tagged_arp_teaches_nothing)
{
	learn_configure(&l, gateway);
	arp(2, guest, router, gateway, guest, guest_ip);
	forget();
	learn_configure(&l, gateway);
	memmove(frame + 16, frame + 12, 60);
	frame[12] = 0x81;
	frame[13] = 0;
	ck_assert(!wire_is_notable(frame, 64));
	from(router, 64);
	expect(gateway, NULL);
}

TEST(the_quick_look_lets_teachers_pass_and_little_else)
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	ck_assert(wire_is_notable(frame, length));
	ck_assert(!wire_is_notable(frame, 41));
	frame[35] = 68;
	ck_assert(!wire_is_notable(frame, length));
	frame[35] = 67;
	frame[23] = 6;
	ck_assert(!wire_is_notable(frame, length));
	arp(2, guest, router, gateway, guest, guest_ip);
	ck_assert(wire_is_notable(frame, 42));
	frame[13] = 0xdd;
	ck_assert(!wire_is_notable(frame, 60));
}
