#include "forwarder/report.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

/* Copies text, and cuts it if it doesn't fit. */
#define PUT(to, text)                                                          \
	snprintf(to, sizeof(to), "%.*s", (int)sizeof(to) - 1, text)

static void
fill_guest(const struct report *report, struct status *out)
{
	struct guest *guest = report->copy->guest;
	uint8_t mac[6];

	PUT(out->guest.endpoint, report->config->guest.endpoint.text);
	guest_describe(guest, out->guest.peer, sizeof(out->guest.peer));
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
	PUT(out->network.endpoint, report->config->network.endpoint.text);
	PUT(out->network.state, states[view.state]);
	PUT(out->network.last_error, view.last_error);
	out->network.generation = view.generation;
	out->network.outages = view.outages;
	out->network.dials = view.dials;
	out->network.down_ms = (uint64_t)view.down_ms;
	out->network.last_outage_ms = (uint64_t)view.last_outage_ms;
}

static void
fill_daemon(const struct report *report, struct status *out)
{
	struct daemon_view view;

	daemon_look(report->daemon, &view);
	out->network.daemon.pid = (status_number)view.pid;
	out->network.daemon.starts = view.starts;
	PUT(out->network.daemon.last_exit, view.last_exit);
}

_Static_assert(
    STATUS_HISTORY >= LINK_HISTORY && STATUS_REASON_BYTES >= LINK_REASON_BYTES,
    "the status has room for every outage");

static void
fill_history(struct link *link, struct status *out)
{
	struct link_outage history[LINK_HISTORY];

	out->history_count = link_history(link, history);
	for (size_t i = 0; i < out->history_count; i++) {
		struct status_outage *o = &out->history[i];
		struct text began = text_in(o->began, sizeof(o->began));

		text_add_utc(&began, history[i].began_utc_ms);
		PUT(o->reason, history[i].reason);
		o->ms = (uint64_t)history[i].ms;
		o->dials = history[i].dials;
	}
}

/* Copies a counter to the member of the same name. */
#define COPY(to, from, name) (to).name = counter_read(&(from).name)

static void
fill_traffic(const struct copy *copy, struct status *out)
{
	COPY(out->guest_to_network, copy->up, frames);
	COPY(out->guest_to_network, copy->up, bytes);
	COPY(out->guest_to_network, copy->up, kept);
	COPY(out->guest_to_network.drops, copy->up, outage);
	COPY(out->guest_to_network.drops, copy->up, oversize);
	COPY(out->guest_to_network.drops, copy->up, runt);
	COPY(out->guest_to_network.drops, copy->up, empty);
	COPY(out->guest_to_network.drops, copy->up, truncated);
	out->guest_to_network.drops.guest_restarted =
	    counter_read(&copy->guest->lost);
	COPY(out->network_to_guest, copy->down, frames);
	COPY(out->network_to_guest, copy->down, bytes);
	COPY(out->network_to_guest.drops, copy->down, guest_slow);
	COPY(out->network_to_guest.drops, copy->down, guest_absent);
	COPY(out->network_to_guest.drops, copy->down, runt);
	COPY(out->network_to_guest.drops, copy->down, empty);
	COPY(out->network_to_guest.drops, copy->down, truncated);
	COPY(out->network_to_guest.drops, copy->down, oversize);
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
	fill_daemon(report, out);
	fill_history(report->copy->link, out);
	fill_traffic(report->copy, out);
	monitor_report(report->copy->monitor, report->config, out);
}
