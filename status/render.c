#include "status/render.h"

#include "base/log.h"
#include <string.h>

#define UP "guest_to_network"
#define DOWN "network_to_guest"

static void
add_visible(struct text *t, const char *label, const char *value)
{
	text_add(t, "%s", label);
	text_add_escaped(t, value, text_visible);
}

static void
add_duration(struct text *t, uint64_t ms)
{
	char duration[TEXT_DURATION_BYTES];

	text_add(t, "%s",
	    text_duration(duration, ms > INT64_MAX ? INT64_MAX : (int64_t)ms));
}

/* 123 B, 1.2 kB, 3.4 GB: right-justified like the numbers beside it. */
static void
add_bytes(struct text *t, uint64_t bytes)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB",
		"EB" };
	char number[32];
	struct text n = text_in(number, sizeof(number));
	size_t unit = 0;
	uint64_t rest = 0;

	for (; bytes >= 1000; bytes /= 1000, unit++)
		rest = bytes % 1000;
	text_add(&n, "%llu", (unsigned long long)bytes);
	if (unit > 0)
		text_add(&n, ".%llu", (unsigned long long)rest / 100);
	text_add(&n, " %s", units[unit]);
	text_add(t, "%12s", number);
}

static void
add_title(struct text *t, const struct status *s)
{
	add_visible(t, "", s->name);
	add_visible(t, *s->name ? ": forwarder " : "forwarder ", s->version);
	text_add(t, ", pid %llu, up ", (unsigned long long)s->pid);
	add_duration(t, s->uptime_ms);
	text_add(t, "\n\n");
}

static void
add_guest(struct text *t, const struct status *s)
{
	add_visible(t, "guest      ", s->guest.endpoint);
	text_add(t, "\n");
	if (s->guest.peer[0] != '\0') {
		add_visible(t, "           peer ", s->guest.peer);
		text_add(t, "\n");
	}
	if (s->guest.mac[0] != '\0') {
		add_visible(t, "           mac ", s->guest.mac);
		text_add(t, "\n");
	}
}

static const char *
plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

/* Up or down, which generation, how many outages. */
static void
add_link(struct text *t, const struct status *s)
{
	add_visible(t, "", s->network.state);
	text_add(t, ", generation %llu, %llu dial%s\n           %llu outage%s",
	    (unsigned long long)s->network.generation,
	    (unsigned long long)s->network.dials, plural(s->network.dials),
	    (unsigned long long)s->network.outages, plural(s->network.outages));
	if (s->network.outages > 0) {
		text_add(t, ", the last ");
		add_duration(t, s->network.last_outage_ms);
		text_add(t, ", down for ");
		add_duration(t, s->network.down_ms);
		text_add(t, " in all");
	}
	text_add(t, "\n");
	if (s->network.last_error[0] != '\0') {
		add_visible(
		    t, "           last error: ", s->network.last_error);
		text_add(t, "\n");
	}
}

static void
add_keepalive(struct text *t, const struct status *s)
{
	add_visible(t, "keepalive  ", s->keepalive.mode);
	text_add(t, "%s, ", s->keepalive.armed ? ", armed" : "");
	add_duration(t, s->keepalive.idle_ms);
	text_add(t, " idle\n");
	if (s->keepalive.probes > 0)
		text_add(t,
		    "           %llu probes, %llu replies, the last "
		    "after %llu us\n",
		    (unsigned long long)s->keepalive.probes,
		    (unsigned long long)s->keepalive.replies,
		    (unsigned long long)s->keepalive.rtt_us);
	if (s->keepalive.answered > 0)
		text_add(t, "           %llu probes of the peer answered\n",
		    (unsigned long long)s->keepalive.answered);
	if (s->keepalive.deaths > 0 || s->keepalive.write_stalls > 0)
		text_add(t, "           %llu deaths, %llu write stalls\n",
		    (unsigned long long)s->keepalive.deaths,
		    (unsigned long long)s->keepalive.write_stalls);
}

static void
add_totals(struct text *t, const struct status *s, const char *label,
    const char *direction, uint64_t frames, uint64_t bytes)
{
	text_add(t, "%s %20llu", label, (unsigned long long)frames);
	add_bytes(t, bytes);
	text_add(t, "  ");
	status_drops(t, s, direction);
	text_add(t, "\n");
}

void
render_status(struct text *t, const struct status *now)
{
	add_title(t, now);
	add_guest(t, now);
	add_visible(t, "network    ", now->network.endpoint);
	text_add(t, "\n           ");
	add_link(t, now);
	add_keepalive(t, now);
	text_add(t, "\n%16s %20s%12s  %s\n", "", "frames", "bytes", "dropped");
	add_totals(t, now, "guest -> network", UP, now->guest_to_network.frames,
	    now->guest_to_network.bytes);
	add_totals(t, now, "network -> guest", DOWN,
	    now->network_to_guest.frames, now->network_to_guest.bytes);
}

/* What has gone in one direction, ever or in a second. */
struct flow {
	unsigned long long frames, bytes, drops;
};

static struct flow
flow_up(const struct status *s)
{
	return (struct flow){ s->guest_to_network.frames,
		s->guest_to_network.bytes, status_dropped(s, UP) };
}

static struct flow
flow_down(const struct status *s)
{
	return (struct flow){ s->network_to_guest.frames,
		s->network_to_guest.bytes, status_dropped(s, DOWN) };
}

static unsigned long long
per_second(unsigned long long before, unsigned long long now, uint64_t ms)
{
	return ms > 0 && now > before ? (now - before) * 1000 / ms : 0;
}

static struct flow
rate_between(struct flow before, struct flow now, uint64_t ms)
{
	return (struct flow){ per_second(before.frames, now.frames, ms),
		per_second(before.bytes, now.bytes, ms),
		per_second(before.drops, now.drops, ms) };
}

struct rates {
	struct flow up, down; /* a second */
};

static struct rates
rates_between(const struct status *before, const struct status *now)
{
	static const struct status start;
	uint64_t ms;

	if (before->pid != now->pid || before->uptime_ms > now->uptime_ms)
		before = &start;
	ms = now->uptime_ms - before->uptime_ms;
	return (struct rates){
		.up = rate_between(flow_up(before), flow_up(now), ms),
		.down = rate_between(flow_down(before), flow_down(now), ms),
	};
}

/* 983.1 */
static void
add_megabits(struct text *t, int width, unsigned long long bytes)
{
	text_add(t, "%*llu.%llu", width, bytes * 8 / 1000000,
	    bytes * 8 / 100000 % 10);
}

static void
add_rate(struct text *t, const struct status *s, const char *label,
    const char *direction, const struct flow *rate)
{
	text_add(t, "%s%12llu", label, rate->frames);
	add_megabits(t, 10, rate->bytes);
	text_add(t, "%12llu  ", rate->drops);
	status_drops(t, s, direction);
	text_add(t, "\n");
}

void
render_table(
    struct text *t, const struct status *before, const struct status *now)
{
	struct rates rates = rates_between(before, now);

	add_title(t, now);
	text_add(t, "network    ");
	add_link(t, now);
	text_add(t, "\n%16s%12s%12s%12s  %s\n", "", "frames/s", "Mbit/s",
	    "dropped/s", "dropped");
	add_rate(t, now, "guest -> network", UP, &rates.up);
	add_rate(t, now, "network -> guest", DOWN, &rates.down);
}

static void
add_short_rate(struct text *t, const char *label, const struct flow *rate)
{
	text_add(t, "%s %8llu frames/s ", label, rate->frames);
	add_megabits(t, 6, rate->bytes);
	text_add(t, " Mbit/s %6llu dropped/s", rate->drops);
}

void
render_line(
    struct text *t, const struct status *before, const struct status *now)
{
	struct rates rates = rates_between(before, now);

	add_visible(t, "", now->network.state);
	text_add(t, " outages=%llu", (unsigned long long)now->network.outages);
	add_short_rate(t, "  guest->network", &rates.up);
	add_short_rate(t, "  network->guest", &rates.down);
	text_add(t, "\n");
}

void
render_log(const struct status *now)
{
	static const struct {
		const char *name;
		enum log_subsystem subsystem;
	} sections[] = {
		{ "guest", LOG_GUEST },
		{ "network", LOG_LINK },
		{ UP, LOG_LINK },
		{ DOWN, LOG_LINK },
		{ "keepalive", LOG_KEEPALIVE },
	};
	char bytes[LOG_LINE_BYTES];

	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		struct text t = text_in(bytes, sizeof(bytes));

		status_section(&t, now, sections[i].name);
		log_line(LOG_LEVEL_INFO, sections[i].subsystem,
		    "status of %s:%s", sections[i].name, t.bytes);
	}
}
