/* Learns the gateway from frames as guests, routers and DHCP servers send them. */
#include "keepalive/learn.h"

#include "tests/support/suite.h"

#define FRAME_BYTES 400

static const uint8_t guest[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
static const uint8_t other[6] = { 0x52, 0x54, 0, 0xab, 0xcd, 0xef };
static const uint8_t everybody[6] = { 255, 255, 255, 255, 255, 255 };
static const uint8_t nobody[6];
static const uint8_t guest_ip[4] = { 192, 168, 105, 7 };
static const uint8_t unspecified[4];
static const uint8_t far_away[4] = { 8, 8, 8, 8 };

/* The hosts of the transcripts. */
static const struct host {
	char name;
	uint8_t ip[4], mac[6];
} hosts[] = {
	{ 'G', { 192, 168, 105, 1 }, { 0x00, 0x00, 0x5e, 0, 1, 7 } },
	{ 'M', { 192, 168, 105, 1 }, { 2, 0, 0, 0, 0, 9 } }, /* G has moved */
	{ 'D', { 192, 168, 105, 3 }, { 2, 0, 0, 0, 0, 3 } },
	{ 'E', { 192, 168, 105, 2 }, { 2, 0, 0, 0, 0, 3 } }, /* D's other one */
	{ 'X', { 192, 168, 105, 1 }, { 255, 255, 255, 255, 255, 255 } },
	{ 'Z', { 192, 168, 105, 1 }, { 0 } },
};
static const uint8_t *const gateway = hosts[0].ip, *const router = hosts[0].mac;

static struct learned l;
static uint8_t frame[FRAME_BYTES];

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
guest_sends(const uint8_t *to, const uint8_t *ip)
{
	ethernet(to, guest, 0x0800);
	frame[14] = 0x45;
	frame[17] = 20;
	memcpy(frame + 26, guest_ip, 4);
	memcpy(frame + 30, ip, 4);
	from(guest, 34);
}

/* An acknowledgement to `client` with these options; its length. */
static size_t
dhcp(const uint8_t *client, const uint8_t *options, size_t bytes)
{
	static const uint8_t ports[] = { 0, 67, 0, 68 };
	static const uint8_t cookie[] = { 99, 130, 83, 99 };
	size_t udp = 8 + 240 + bytes;

	ethernet(everybody, router, 0x0800);
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

#define ACK_ROUTER 12
static const uint8_t ack[] = { 53, 1, 5, 1, 4, 255, 255, 255, 0, 0, 3, 8, 192,
	168, 105, 1, 192, 168, 105, 2, 255 };

static void
acknowledged(const uint8_t *client, const uint8_t *options, size_t bytes)
{
	size_t length = dhcp(client, options, bytes);

	from(router, length);
}

static void
expect_nothing(void)
{
	ck_assert_int_eq(l.state, LEARN_NOTHING);
	ck_assert_ptr_null(learn_gateway_mac(&l));
}

/* ---- transcripts ---- */

static void
lease(const struct host *host)
{
	uint8_t options[sizeof(ack)];

	memcpy(options, ack, sizeof(ack));
	memcpy(options + ACK_ROUTER, host->ip, 4);
	acknowledged(guest, options, sizeof(options));
}

static void
step(const char *word, const struct host *h)
{
	if (strcmp(word, "configure") == 0)
		learn_configure(&l, h->ip);
	else if (strcmp(word, "lease") == 0)
		lease(h);
	else if (strcmp(word, "answers") == 0)
		arp(2, guest, h->mac, h->ip, guest, guest_ip);
	else if (strcmp(word, "answers-probe") == 0)
		arp(2, guest, h->mac, h->ip, guest, unspecified);
	else if (strcmp(word, "answers-other") == 0)
		arp(2, other, h->mac, h->ip, other, far_away);
	else if (strcmp(word, "announces") == 0)
		arp(1, everybody, h->mac, h->ip, nobody, h->ip);
	else if (strcmp(word, "asked") == 0) /* by the guest */
		arp(1, everybody, guest, guest_ip, nobody, h->ip);
	else if (strcmp(word, "asked-there") == 0)
		arp(1, h->mac, guest, guest_ip, nobody, h->ip);
	else if (strcmp(word, "told") == 0)
		arp(2, h->mac, guest, guest_ip, h->mac, h->ip);
	else if (strcmp(word, "sent") == 0)
		guest_sends(h->mac, h->ip);
	else if (strcmp(word, "through") == 0)
		guest_sends(h->mac, far_away);
	else if (strcmp(word, "doubt") == 0)
		learn_doubt(&l);
	else
		ck_abort_msg("no such step: %s", word);
}

static const struct host *
host(char name)
{
	const struct host *h = hosts;

	while (h->name != name)
		ck_assert(++h < hosts + LENGTH(hosts));
	return h;
}

static const struct {
	const char *promise;
	const char *transcript; /* "G word": with host G */
	char gateway;           /* ' ': none is known */
	bool mac;
} transcripts[] = {
	{ "a lease names the gateway", "G lease", 'G', false },
	{ "a renewed lease changes nothing", "G lease G answers G lease", 'G',
	    true },
	{ "a later lease changes the gateway", "G lease G answers E lease", 'E',
	    false },
	{ "a neighbour that is asked for is no gateway",
	    "D asked D answers D sent", ' ', false },
	{ "a neighbour the guest sends through is the gateway",
	    "D answers G answers D sent G through", 'G', true },
	/* After a forwarder's restart a running guest sends only unicast requests
	 * to neighbours that it already knows. */
	{ "a question to one MAC tells what the guest believes",
	    "G asked-there G through", 'G', true },
	{ "the guest's answer tells who asked", "G told G through", 'G', true },
	{ "two addresses of one neighbour don't make it a gateway",
	    "D answers E answers E sent D sent", ' ', false },
	{ "an answer to another shows no neighbour",
	    "G answers-other G through", ' ', false },
	{ "a lease outranks what the guest sends through",
	    "G lease G answers E answers E through", 'G', true },
	{ "until it is in doubt",
	    "G lease G answers E answers G doubt E through", 'E', true },
	{ "a configured gateway stays",
	    "E configure G lease G answers G through E doubt G through", 'E',
	    false },
	{ "its MAC is learned all the same",
	    "E configure G answers G through E answers", 'E', true },
	{ "a gateway that changes its MAC is followed",
	    "G configure G answers M announces", 'M', true },
	{ "though the guest is behind",
	    "G configure G answers M announces G asked-there", 'M', true },
	{ "until the gateway speaks its MAC is where the guest sends for it",
	    "G configure G asked-there", 'G', true },
	{ "a MAC no host can have is ignored",
	    "G configure X answers Z answers", 'G', false },
	{ "even if the guest believes it", "G configure X told", 'G', false },
	{ "doubt of nothing is nothing", "G doubt", ' ', false },
	{ "the MAC in doubt is forgotten", "G configure G answers G doubt", 'G',
	    false },
	{ "until the gateway answers our probe",
	    "G configure G answers G doubt G answers-probe", 'G', true },
};

TEST(
    the_gateway_is_learned_as_the_transcript_says, .count = LENGTH(transcripts))
{
	bool mac = transcripts[_i].mac;
	const struct host *h;
	char word[16], name;
	int n;

	for (const char *at = transcripts[_i].transcript;
	     sscanf(at, " %c %15s%n", &name, word, &n) == 2; at += n)
		step(word, host(name));
	if (transcripts[_i].gateway == ' ') {
		expect_nothing();
		return;
	}
	h = host(transcripts[_i].gateway);
	ck_assert_msg(l.state == (mac ? LEARN_ALL : LEARN_ADDRESS) &&
			  memcmp(l.gateway, h->ip, 4) == 0 &&
			  (!mac || memcmp(l.gateway_mac, h->mac, 6) == 0),
	    "%s", transcripts[_i].promise);
}

/* ---- a lease ---- */

TEST(only_a_lease_of_the_guest_counts)
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	learn_from_network(&l, NULL, frame, length); /* not known yet */
	acknowledged(other, ack, sizeof(ack));
	expect_nothing();
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
	expect_nothing();
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

TEST(nothing_is_learned_from_a_lease_with_bad_options, .count = LENGTH(absurd))
{
	acknowledged(guest, absurd[_i].bytes, absurd[_i].length);
	ck_assert_msg(l.state == LEARN_NOTHING, "%s", absurd[_i].what);
}

TEST(nothing_is_learned_from_a_truncated_lease)
{
	size_t whole = dhcp(guest, ack, sizeof(ack));

	for (size_t length = 0; length < whole; length++)
		from(router, length);
	expect_nothing();
}

/* Bytes that make it something else: a fragment, another port, another
 * protocol, a header with options, a length beyond the frame. */
static const struct {
	size_t at;
	uint8_t value;
} spoilt[] = { { 14, 0x65 }, { 14, 0x44 }, { 14, 0x46 }, { 20, 0x20 },
	{ 21, 1 }, { 23, 6 }, { 35, 68 }, { 37, 67 }, { 38, 0xff }, { 38, 0 },
	{ 42, 1 }, { 43, 6 }, { 44, 16 }, { 278, 0 }, { 12, 0x86 } };

TEST(only_a_complete_reply_of_a_server_is_a_lease, .count = LENGTH(spoilt))
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	frame[spoilt[_i].at] = spoilt[_i].value;
	from(router, length);
	expect_nothing();
}

TEST(a_lease_in_a_frame_with_padding_is_read)
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	frame[20] = 0x40; /* don't fragment */
	from(router, length + 20);
	ck_assert_int_eq(l.state, LEARN_ADDRESS);
}

/* ---- what the guest sends ---- */

TEST(broadcasts_and_multicasts_reveal_no_gateway)
{
	step("answers", host('G'));
	guest_sends(everybody, far_away);
	guest_sends(router, everybody);
	expect_nothing();
}

TEST(many_neighbours_do_not_displace_the_gateway_for_good)
{
	for (uint8_t i = 10; i < 200; i++) {
		struct host h = { '-', { 192, 168, 105, i },
			{ 2, 0, 0, 0, 1, i } };

		step("answers", &h);
		step("sent", &h);
	}
	expect_nothing();
	step("answers", host('G'));
	step("through", host('G'));
	ck_assert_mem_eq(learn_gateway_mac(&l), router, 6);
}

TEST(nothing_is_learned_from_a_runt)
{
	static const unsigned types[] = { 0x0800, 0x0806 };

	for (int i = 0; i < 2; i++) {
		ethernet(router, guest, types[i]);
		for (size_t length = 0; length < 60; length++)
			from(guest, length);
	}
	expect_nothing();
}

TEST(nothing_is_learned_from_vlan_tagged_arp)
{
	learn_configure(&l, gateway);
	step("answers", host('G'));
	learn_doubt(&l);
	memmove(frame + 16, frame + 12, 60);
	frame[12] = 0x81;
	frame[13] = 0;
	ck_assert(!wire_is_notable(frame, 64));
	from(router, 64);
	ck_assert_int_eq(l.state, LEARN_ADDRESS);
}

TEST(the_quick_check_passes_frames_to_learn_from_and_few_others)
{
	size_t length = dhcp(guest, ack, sizeof(ack));

	ck_assert(wire_is_notable(frame, length));
	ck_assert(!wire_is_notable(frame, 41));
	frame[35] = 68;
	ck_assert(!wire_is_notable(frame, length));
	frame[35] = 67;
	frame[23] = 6;
	ck_assert(!wire_is_notable(frame, length));
	step("answers", host('G'));
	ck_assert(wire_is_notable(frame, 42));
	frame[13] = 0xdd;
	ck_assert(!wire_is_notable(frame, 60));
}
