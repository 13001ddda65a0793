/* Who is who, from frames as guests, routers and DHCP servers send them. */
#include "keepalive/learn.h"

#include "tests/support/suite.h"
#include <stdlib.h>
#include <string.h>

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

static void
nothing_is_known(void)
{
	learn_init(&l, NULL);
}

/* The frame lies at the end of what may be read, for the sanitizer to see. */
static bool
learn_exactly(
    bool (*from)(struct learned *, const uint8_t *, size_t), size_t length)
{
	uint8_t *copy = malloc(length + 1);
	bool news;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy + 1, frame, length);
	news = from(&l, copy + 1, length);
	free(copy);
	return news;
}

static void
ethernet(const uint8_t *to, const uint8_t *from, unsigned type)
{
	memset(frame, 0, sizeof(frame));
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	frame[12] = (uint8_t)(type >> 8);
	frame[13] = (uint8_t)type;
}

struct arp {
	uint8_t operation;
	const uint8_t *sender_mac, *sender, *target_mac, *target;
};

static void
arp(const uint8_t *to, struct arp a)
{
	static const uint8_t head[] = { 0, 1, 0x08, 0, 6, 4, 0 };

	ethernet(to, a.sender_mac, 0x0806);
	memcpy(frame + 14, head, sizeof(head));
	frame[21] = a.operation;
	memcpy(frame + 22, a.sender_mac, 6);
	memcpy(frame + 28, a.sender, 4);
	memcpy(frame + 32, a.target_mac, 6);
	memcpy(frame + 38, a.target, 4);
}

static bool
guest_asks_for(const uint8_t *ip)
{
	arp(everybody, (struct arp){ 1, guest, guest_ip, nobody, ip });
	return learn_from_guest(&l, frame, 42);
}

static bool
answered_to(const uint8_t *who, const uint8_t *ip, const uint8_t *mac)
{
	arp(who, (struct arp){ 2, mac, ip, who, guest_ip });
	return learn_from_network(&l, frame, 42);
}

static bool
guest_sends(const uint8_t *to, const uint8_t *ip)
{
	ethernet(to, guest, 0x0800);
	frame[14] = 0x45;
	frame[17] = 20;
	memcpy(frame + 26, guest_ip, 4);
	memcpy(frame + 30, ip, 4);
	return learn_from_guest(&l, frame, 60);
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

static bool
acknowledged(const uint8_t *client, const uint8_t *options, size_t bytes)
{
	size_t length = dhcp(client, options, bytes);

	return learn_exactly(learn_from_network, length);
}

static void
guest_is_known(void)
{
	learn_init(&l, NULL);
	guest_asks_for(guest_ip);
	ck_assert(l.guest_known);
}

FIXTURE(nothing_is_known, NULL)

TEST(the_guests_mac_is_the_source_of_its_frames)
{
	ck_assert(learn_wants(&l));
	ethernet(everybody, guest, 0x86dd);
	ck_assert(learn_from_guest(&l, frame, 14));
	ck_assert(l.guest_known);
	ck_assert_mem_eq(l.guest, guest, 6);
	ck_assert(!learn_from_guest(&l, frame, 14));
}

TEST(a_source_no_host_can_have_is_not_the_guest)
{
	ethernet(guest, everybody, 0x0800);
	ck_assert(!learn_from_guest(&l, frame, 60));
	ethernet(guest, nobody, 0x0800);
	ck_assert(!learn_from_guest(&l, frame, 60));
	ck_assert(!l.guest_known);
}

TEST(the_first_of_several_guest_macs_stays)
{
	ethernet(everybody, guest, 0x86dd);
	learn_from_guest(&l, frame, 60);
	ethernet(everybody, other, 0x86dd);
	ck_assert(!learn_from_guest(&l, frame, 60));
	ck_assert_mem_eq(l.guest, guest, 6);
}

TEST(a_restarted_guest_is_learned_anew)
{
	ethernet(everybody, guest, 0x86dd);
	learn_from_guest(&l, frame, 60);
	learn_doubt(&l);
	ck_assert(learn_wants(&l));
	ethernet(everybody, other, 0x86dd);
	ck_assert(learn_from_guest(&l, frame, 60));
	ck_assert_mem_eq(l.guest, other, 6);
}

FIXTURE(guest_is_known, NULL)

TEST(a_lease_names_the_gateway)
{
	ck_assert(acknowledged(guest, ack, sizeof(ack)));
	ck_assert(l.gateway_known);
	ck_assert_mem_eq(l.gateway, gateway, 4);
	ck_assert(!l.gateway_mac_known);
	ck_assert(learn_wants(&l));
	ck_assert(!acknowledged(guest, ack, sizeof(ack)));
}

TEST(a_later_lease_changes_the_gateway)
{
	static const uint8_t later[] = { 53, 1, 5, 3, 4, 192, 168, 105, 2,
		255 };

	acknowledged(guest, ack, sizeof(ack));
	answered_to(guest, gateway, router);
	ck_assert(!learn_wants(&l));
	ck_assert(acknowledged(guest, later, sizeof(later)));
	ck_assert_mem_eq(l.gateway, second, 4);
	ck_assert(!l.gateway_mac_known);
	ck_assert(learn_wants(&l));
}

TEST(another_clients_lease_is_none_of_ours)
{
	ck_assert(!acknowledged(other, ack, sizeof(ack)));
	ck_assert(!l.gateway_known);
}

TEST(an_offer_or_a_refusal_is_no_lease)
{
	uint8_t options[sizeof(ack)];

	memcpy(options, ack, sizeof(ack));
	for (int type = 0; type < 256; type++) {
		options[2] = (uint8_t)type;
		if (type != 5)
			ck_assert(
			    !acknowledged(guest, options, sizeof(options)));
	}
}

TEST(a_lease_without_a_router_or_with_an_absurd_one_teaches_nothing)
{
	static const uint8_t none[] = { 53, 1, 5, 255, 3, 4, 192, 168, 105, 1 };
	static const uint8_t zero[] = { 53, 1, 5, 3, 4, 0, 0, 0, 0, 255 };
	static const uint8_t multicast[] = { 53, 1, 5, 3, 4, 224, 0, 0, 1 };
	static const uint8_t brief[] = { 53, 1, 5, 3, 3, 192, 168, 105, 255 };
	static const uint8_t empty[] = { 53, 0, 3, 4, 192, 168, 105, 1, 255 };

	ck_assert(!acknowledged(guest, none, sizeof(none)));
	ck_assert(!acknowledged(guest, zero, sizeof(zero)));
	ck_assert(!acknowledged(guest, multicast, sizeof(multicast)));
	ck_assert(!acknowledged(guest, brief, sizeof(brief)));
	ck_assert(!acknowledged(guest, empty, sizeof(empty)));
	ck_assert(!l.gateway_known);
}

TEST(a_cut_lease_teaches_nothing)
{
	size_t whole = dhcp(guest, ack, sizeof(ack));

	for (size_t length = 0; length < whole; length++)
		ck_assert(!learn_exactly(learn_from_network, length));
}

TEST(a_lease_whose_lengths_contradict_each_other_teaches_nothing)
{
	static const struct {
		size_t at;
		uint8_t high, low;
	} lies[] = { { 16, 0, 0 }, { 16, 0, 19 }, { 16, 0, 27 },
		{ 16, 255, 255 }, { 38, 0, 0 }, { 38, 0, 7 }, { 38, 0, 247 },
		{ 38, 255, 255 } };

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		size_t length = dhcp(guest, ack, sizeof(ack));

		frame[lies[i].at] = lies[i].high;
		frame[lies[i].at + 1] = lies[i].low;
		ck_assert(!learn_exactly(learn_from_network, length));
	}
}

TEST(an_ip_header_that_is_too_short_teaches_nothing)
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	frame[14] = 0x44;
	memmove(frame + 30, frame + 34, length - 34);
	ck_assert(!learn_exactly(learn_from_network, length));
}

FIXTURE(nothing_is_known, NULL)

TEST(a_runt_from_the_guest_teaches_nothing)
{
	nothing_is_known();
	ethernet(router, guest, 0x0800);
	for (size_t length = 0; length < 14; length++)
		ck_assert(!learn_exactly(learn_from_guest, length));
	for (size_t length = 14; length < 60; length++)
		learn_exactly(learn_from_guest, length);
	ethernet(router, guest, 0x0806);
	for (size_t length = 0; length < 60; length++)
		learn_exactly(learn_from_guest, length);
	ck_assert(!l.gateway_known);
}

FIXTURE(guest_is_known, NULL)

TEST(an_option_that_claims_more_than_there_is_ends_the_list)
{
	static const uint8_t greedy[] = { 53, 1, 5, 12, 200, 3, 4, 192, 168,
		105, 1, 255 };
	static const uint8_t last[] = { 53, 1, 5, 3, 5, 192, 168, 105, 1 };
	static const uint8_t code_only[] = { 53, 1, 5, 3 };

	ck_assert(!acknowledged(guest, greedy, sizeof(greedy)));
	ck_assert(!acknowledged(guest, last, sizeof(last)));
	ck_assert(!acknowledged(guest, code_only, sizeof(code_only)));
}

TEST(a_fragment_or_another_port_is_no_lease)
{
	static const struct {
		size_t at;
		uint8_t value;
	} spoilt[] = { { 14, 0x65 }, { 14, 0x44 }, { 14, 0x4f }, { 20, 0x20 },
		{ 21, 1 }, { 23, 6 }, { 35, 68 }, { 37, 67 }, { 38, 0xff },
		{ 42, 1 }, { 43, 6 }, { 44, 16 }, { 278, 0 }, { 12, 0x86 } };

	for (size_t i = 0; i < sizeof(spoilt) / sizeof(*spoilt); i++) {
		size_t length = dhcp(guest, ack, sizeof(ack));

		frame[spoilt[i].at] = spoilt[i].value;
		ck_assert(!learn_from_network(&l, frame, length));
	}
}

TEST(a_lease_in_a_frame_with_padding_is_read)
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	frame[20] = 0x40; /* don't fragment */
	ck_assert(learn_from_network(&l, frame, length + 20));
	ck_assert_mem_eq(l.gateway, gateway, 4);
}

TEST(asking_for_a_neighbour_does_not_make_it_the_gateway)
{
	guest_asks_for(server_ip);
	answered_to(guest, server_ip, server);
	guest_sends(server, server_ip);
	ck_assert(!l.gateway_known);
}

TEST(a_neighbour_the_guest_sends_through_is_the_gateway)
{
	guest_asks_for(server_ip);
	answered_to(guest, server_ip, server);
	guest_asks_for(gateway);
	answered_to(guest, gateway, router);
	guest_sends(server, server_ip);
	ck_assert(guest_sends(router, far_away));
	ck_assert_mem_eq(l.gateway, gateway, 4);
	ck_assert(l.gateway_mac_known);
	ck_assert_mem_eq(l.gateway_mac, router, 6);
	ck_assert(!learn_wants(&l));
}

/* As when the forwarder was restarted under a running guest, which then only
 * asks whether the neighbours it knows are still there. */
TEST(a_question_to_one_mac_tells_what_the_guest_believes)
{
	arp(router, (struct arp){ 1, guest, guest_ip, nobody, gateway });
	learn_from_guest(&l, frame, 60);
	ck_assert(guest_sends(router, far_away));
	ck_assert_mem_eq(l.gateway, gateway, 4);
	ck_assert_mem_eq(l.gateway_mac, router, 6);
}

TEST(the_guests_answer_tells_who_asked)
{
	arp(router, (struct arp){ 2, guest, guest_ip, router, gateway });
	learn_from_guest(&l, frame, 60);
	ck_assert(guest_sends(router, far_away));
	ck_assert_mem_eq(l.gateway, gateway, 4);
}

TEST(two_addresses_of_one_neighbour_do_not_make_it_a_gateway)
{
	answered_to(guest, server_ip, server);
	answered_to(guest, second, server);
	guest_sends(server, second);
	guest_sends(server, server_ip);
	ck_assert(!l.gateway_known);
}

TEST(broadcasts_do_not_go_through_anybody)
{
	answered_to(guest, gateway, router);
	guest_sends(everybody, far_away);
	guest_sends(router, everybody);
	ck_assert(!l.gateway_known);
}

TEST(answers_to_others_are_not_the_guests_neighbours)
{
	answered_to(other, gateway, router);
	guest_sends(router, far_away);
	ck_assert(!l.gateway_known);
}

TEST(many_neighbours_do_not_crowd_out_the_gateway_for_good)
{
	for (uint8_t host = 10; host < 200; host++) {
		uint8_t ip[4] = { 192, 168, 105, host };
		uint8_t mac[6] = { 2, 0, 0, 0, 1, host };

		answered_to(guest, ip, mac);
		guest_sends(mac, ip);
	}
	ck_assert(!l.gateway_known);
	answered_to(guest, gateway, router);
	ck_assert(guest_sends(router, far_away));
}

TEST(a_lease_outranks_what_the_guest_sends_through)
{
	acknowledged(guest, ack, sizeof(ack));
	answered_to(guest, second, server);
	ck_assert(!guest_sends(server, far_away));
	ck_assert_mem_eq(l.gateway, gateway, 4);
}

TEST(a_configured_gateway_stays)
{
	learn_init(&l, second);
	guest_asks_for(guest_ip);
	ck_assert(!acknowledged(guest, ack, sizeof(ack)));
	answered_to(guest, gateway, router);
	learn_doubt(&l);
	ck_assert(!guest_sends(router, far_away));
	ck_assert_mem_eq(l.gateway, second, 4);
	ck_assert(!l.gateway_mac_known);
	ck_assert(answered_to(guest, second, server));
	ck_assert_mem_eq(l.gateway_mac, server, 6);
}

TEST(a_gateway_that_changes_its_mac_is_followed)
{
	learn_init(&l, gateway);
	guest_asks_for(guest_ip);
	ck_assert(answered_to(guest, gateway, router));
	ck_assert(!learn_wants(&l));
	arp(everybody, (struct arp){ 1, server, gateway, nobody, gateway });
	ck_assert(learn_from_network(&l, frame, 60));
	ck_assert_mem_eq(l.gateway_mac, server, 6);
}

TEST(a_guest_that_is_behind_does_not_take_the_new_mac_back)
{
	learn_init(&l, gateway);
	answered_to(guest, gateway, server);
	arp(router, (struct arp){ 1, guest, guest_ip, nobody, gateway });
	learn_from_guest(&l, frame, 60);
	ck_assert_mem_eq(l.gateway_mac, server, 6);
}

TEST(a_gateway_mac_no_host_can_have_is_ignored)
{
	learn_init(&l, gateway);
	ck_assert(!answered_to(guest, gateway, everybody));
	ck_assert(!answered_to(guest, gateway, nobody));
	ck_assert(!l.gateway_mac_known);
}

TEST(the_answer_to_our_probe_teaches_the_gateways_mac)
{
	static const uint8_t unspecified[4];

	learn_init(&l, gateway);
	guest_asks_for(guest_ip);
	arp(guest, (struct arp){ 2, router, gateway, guest, unspecified });
	ck_assert(learn_from_network(&l, frame, 42));
	ck_assert_mem_eq(learn_gateway_mac(&l), router, 6);
}

TEST(a_gateway_in_doubt_is_asked_for_by_broadcast_until_it_answers)
{
	learn_init(&l, gateway);
	guest_asks_for(guest_ip);
	answered_to(guest, gateway, router);
	ck_assert_ptr_nonnull(learn_gateway_mac(&l));
	learn_doubt(&l);
	ck_assert_ptr_null(learn_gateway_mac(&l));
	ck_assert(learn_wants(&l));
	answered_to(guest, gateway, router);
	ck_assert_ptr_nonnull(learn_gateway_mac(&l));
	ck_assert(!learn_wants(&l));
}

TEST(a_doubted_gateway_gives_way_to_the_one_the_guest_uses)
{
	acknowledged(guest, ack, sizeof(ack));
	answered_to(guest, second, server);
	learn_doubt(&l);
	ck_assert(guest_sends(server, far_away));
	ck_assert_mem_eq(l.gateway, second, 4);
}

TEST(vlan_tagged_arp_teaches_no_gateway)
{
	learn_init(&l, gateway);
	arp(guest, (struct arp){ 2, router, gateway, guest, guest_ip });
	memmove(frame + 16, frame + 12, 60);
	frame[12] = 0x81;
	frame[13] = 0;
	ck_assert(!learn_from_network(&l, frame, 64));
	ck_assert(!learn_is_possible(frame, 64));
}

TEST(the_quick_look_lets_teachers_pass_and_little_else)
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	ck_assert(learn_is_possible(frame, length));
	ck_assert(!learn_is_possible(frame, 41));
	frame[23] = 6;
	ck_assert(!learn_is_possible(frame, length));
	arp(guest, (struct arp){ 2, router, gateway, guest, guest_ip });
	ck_assert(learn_is_possible(frame, 42));
	frame[13] = 0xdd;
	frame[12] = 0x86;
	ck_assert(!learn_is_possible(frame, 60));
}
