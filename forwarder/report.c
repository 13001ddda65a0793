#include "forwarder/report.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

_Static_assert(LOG_NAME_BYTES == LOG_NAME_BYTES, "a name fits");

/* Cuts what doesn't fit. */
static void
put(char to[STATUS_TEXT_BYTES], const char *text)
{
	size_t length = strnlen(text, STATUS_TEXT_BYTES - 1);

	memcpy(to, text, length);
	to[length] = '\0';
}

static void
fill_guest(const struct report *report, struct status *out)
{
	struct guest *guest = report->copy->guest;
	uint8_t mac[6];

	put(out->guest.endpoint, report->config->guest.endpoint.text);
	guest_peer_text(guest, out->guest.peer, sizeof(out->guest.peer));
	if (guest_get_mac(guest, mac))
		snprintf(out->guest.mac, sizeof(out->guest.mac),
		    "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		    mac[3], mac[4], mac[5]);
}

static void
fill_network(const struct report *report, struct status *out)
{
	static const char *const states[] = { [LINK_DOWN] = "down",
		[LINK_UP] = "up",
		[LINK_STOPPED] = "stopped" };
	struct link_view view;

	link_look(report->copy->link, &view);
	put(out->network.endpoint, report->config->network.endpoint.text);
	snprintf(out->network.state, sizeof(out->network.state), "%s",
	    states[view.state]);
	put(out->network.last_error, view.last_error);
	out->network.generation = view.generation;
	out->network.outages = view.outages;
	out->network.dials = view.dials;
	out->network.down_ms = (uint64_t)view.down_ms;
	out->network.last_outage_ms = (uint64_t)view.last_outage_ms;
}

static void
fill_up(const struct copy *copy, struct status *out)
{
	const struct up_counters *up = &copy->up;

	out->guest_to_network.frames = counter_read(&up->frames);
	out->guest_to_network.bytes = counter_read(&up->bytes);
	out->guest_to_network.drops.outage = counter_read(&up->outage);
	out->guest_to_network.drops.oversize = counter_read(&up->oversize);
	out->guest_to_network.drops.runt = counter_read(&up->runt);
	out->guest_to_network.drops.empty = counter_read(&up->empty);
	out->guest_to_network.drops.guest_restarted =
	    counter_read(&copy->guest->lost);
}

static void
fill_down(const struct down_counters *down, struct status *out)
{
	out->network_to_guest.frames = counter_read(&down->frames);
	out->network_to_guest.bytes = counter_read(&down->bytes);
	out->network_to_guest.drops.guest_slow =
	    counter_read(&down->guest_slow);
	out->network_to_guest.drops.guest_absent =
	    counter_read(&down->guest_absent);
	out->network_to_guest.drops.runt = counter_read(&down->runt);
	out->network_to_guest.drops.empty = counter_read(&down->empty);
	out->network_to_guest.drops.truncated = counter_read(&down->truncated);
	out->network_to_guest.drops.oversize = counter_read(&down->oversize);
}

void
report_fill(const struct report *report, struct status *out)
{
	*out = (struct status){ .version = VERSION,
		.pid = (uint64_t)getpid(),
		.uptime_ms = (uint64_t)(clock_now_ms() - report->started_ms) };
	config_name(report->config, out->name);
	fill_guest(report, out);
	fill_network(report, out);
	fill_up(report->copy, out);
	fill_down(&report->copy->down, out);
	monitor_report(report->copy->monitor, out);
}
