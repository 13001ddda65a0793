/* Feeds frames of a hostile guest and network to learn.h and probe.h. The input is
 * a series of frames, each after three bytes: its sender and its length. After
 * each frame the state must be as callers rely on. */
#include <stdlib.h>

#include "keepalive/learn.h"
#include "keepalive/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t guest[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

static void
must(bool promise_kept)
{
	if (!promise_kept)
		abort();
}

static void
recognise(const struct learned *l, const uint8_t *frame, size_t length)
{
	bool known = l->state != LEARN_NOTHING;
	struct probe_target target;
	uint64_t sequence = 0;
	enum probe_kind kind;

	memcpy(target.guest, guest, sizeof(target.guest));
	memcpy(target.gateway, l->gateway, sizeof(target.gateway));
	kind =
	    probe_recognise(frame, length, known ? &target : NULL, &sequence);
	must(kind == PROBE_NONE || wire_is_notable(frame, length));
	must(kind != PROBE_ARP_ANSWER || known);
}

static void
learn(struct learned *l, unsigned who, const uint8_t *frame, size_t length)
{
	struct learned before = *l;

	if (who & 1)
		learn_from_guest(l, frame, length);
	else
		learn_from_network(l, who & 4 ? guest : NULL, frame, length);
	must(length >= 34 || memcmp(l, &before, sizeof(before)) == 0);
	must(l->state != LEARN_ALL || (l->gateway_mac[0] & 1) == 0);
	must(l->state == LEARN_NOTHING || l->configured || l->gateway[0] != 0);
	must(l->configured == before.configured);
	if (who & 2)
		learn_doubt(l);
}

/* A copy of the exact size, so that a read past its end is detected. */
static void
look_at(struct learned *l, unsigned who, const uint8_t *bytes, size_t length)
{
	uint8_t *frame = malloc(length + 1);

	if (frame == NULL)
		return;
	memcpy(frame + 1, bytes, length);
	learn(l, who, frame + 1, length);
	recognise(l, frame + 1, length);
	free(frame);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t gateway[4] = { 192, 168, 105, 1 };
	struct learned l = { .state = LEARN_NOTHING };

	learn_configure(&l, size % 2 ? gateway : NULL);
	while (size >= 3) {
		size_t length = (size_t)(data[1] << 8 | data[2]);
		unsigned who = data[0];

		data += 3;
		size -= 3;
		if (length > size)
			length = size;
		look_at(&l, who, data, length);
		data += length;
		size -= length;
	}
	return 0;
}
