#include "status/status.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "status/fields.h"

#define AT(member, type_)                                                      \
	.path = #member, .type = type_,                                        \
	.offset = offsetof(struct status, member),                             \
	.size = sizeof(((struct status *)0)->member)
#define TEXT(member) AT(member, FIELD_TEXT)
#define NUMBER(member) AT(member, FIELD_NUMBER)
#define BOOL(member) AT(member, FIELD_BOOL)

const struct field fields[] = {
	{ TEXT(version) },
	{ TEXT(name) },
	{ NUMBER(pid) },
	{ NUMBER(uptime_ms), "uptime_seconds",
	    "Time since the forwarder started.", 3 },
	{ TEXT(guest.endpoint) },
	{ TEXT(guest.peer) },
	{ TEXT(guest.mac) },
	{ TEXT(network.endpoint) },
	{ TEXT(network.state), "up", "Whether the network connection is up." },
	{ NUMBER(network.generation), "generation",
	    "Number of the latest network connection." },
	{ NUMBER(network.outages), "outages_total", "Losses of the network." },
	{ NUMBER(network.down_ms), "down_seconds_total",
	    "Time without a network connection.", 3 },
	{ NUMBER(network.last_outage_ms), "last_outage_seconds",
	    "Length of the last outage.", 3 },
	{ NUMBER(network.dials), "dials_total",
	    "Attempts to connect to the network." },
	{ TEXT(network.last_error) },
	{ NUMBER(network.daemon.pid) },
	{ NUMBER(network.daemon.starts), "daemon_starts_total",
	    "Starts of the network daemon by the forwarder." },
	{ TEXT(network.daemon.last_exit) },
	{ NUMBER(guest_to_network.frames), "frames_total",
	    "Frames forwarded." },
	{ NUMBER(guest_to_network.bytes), "bytes_total", "Bytes forwarded." },
	{ NUMBER(guest_to_network.kept), "kept_frames",
	    "Frames kept until the network is back." },
	{ NUMBER(guest_to_network.drops.outage), "drops_total",
	    "Frames dropped, by reason." },
	{ NUMBER(guest_to_network.drops.oversize), "drops_total" },
	{ NUMBER(guest_to_network.drops.runt), "drops_total" },
	{ NUMBER(guest_to_network.drops.empty), "drops_total" },
	{ NUMBER(guest_to_network.drops.truncated), "drops_total" },
	{ NUMBER(guest_to_network.drops.guest_restarted), "drops_total" },
	{ NUMBER(network_to_guest.frames), "frames_total" },
	{ NUMBER(network_to_guest.bytes), "bytes_total" },
	{ NUMBER(network_to_guest.drops.guest_slow), "drops_total" },
	{ NUMBER(network_to_guest.drops.guest_absent), "drops_total" },
	{ NUMBER(network_to_guest.drops.runt), "drops_total" },
	{ NUMBER(network_to_guest.drops.empty), "drops_total" },
	{ NUMBER(network_to_guest.drops.truncated), "drops_total" },
	{ NUMBER(network_to_guest.drops.oversize), "drops_total" },
	{ TEXT(keepalive.mode) },
	{ BOOL(keepalive.armed), "keepalive_armed",
	    "Whether the peer has answered a probe." },
	{ NUMBER(keepalive.idle_ms), "keepalive_idle_seconds",
	    "Time since the last byte from the network.", 3 },
	{ NUMBER(keepalive.probes), "keepalive_probes_total", "Probes sent." },
	{ NUMBER(keepalive.replies), "keepalive_replies_total",
	    "Probes answered by the peer." },
	{ NUMBER(keepalive.answered), "keepalive_answered_total",
	    "Probes of the peer that were answered." },
	{ NUMBER(keepalive.deaths), "keepalive_deaths_total",
	    "Connections closed because no probe was answered." },
	{ NUMBER(keepalive.write_stalls), "keepalive_write_stalls_total",
	    "Connections closed because a write made no progress." },
	{ NUMBER(keepalive.rtt_us), "keepalive_rtt_seconds",
	    "Round-trip time of the last answered probe.", 6 },
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
const struct field *const fields_end = fields + LENGTH(fields);

#define SHOWN_OUTAGES 5 /* in text for people */

static const char *const sections[] = { "guest", "network", "guest_to_network",
	"network_to_guest", "keepalive" };

bool
status_is_up(const struct status *s)
{
	return strcmp(s->network.state, "up") == 0;
}

const char *
field_text(const struct status *s, const struct field *f)
{
	return (const char *)s + f->offset;
}

status_number
field_number(const struct status *s, const struct field *f)
{
	const void *place = field_text(s, f);

	if (f->type == FIELD_TEXT)
		return status_is_up(s);
	if (f->type == FIELD_BOOL)
		return *(const bool *)place;
	return *(const status_number *)place;
}

/* Returns what follows `section` and a dot in the path, or NULL. */
static const char *
path_in(const char *path, const char *section)
{
	size_t n = strlen(section);

	return strncmp(path, section, n) == 0 && path[n] == '.' ? path + n + 1
								: NULL;
}

void
json_escape(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	if (character == '"' || character == '\\')
		text_add(t, "\\%c", (int)character);
	else if (character == UTF8_INVALID)
		text_add(t, "\xef\xbf\xbd"); /* U+FFFD */
	else if (utf8_is_control(character))
		text_add(t, "\\u%04x", (unsigned)character);
	else
		text_add_bytes(t, bytes, n);
}

void
json_add_string(struct text *t, const char *string)
{
	text_add(t, "\"");
	text_add_escaped(t, string, json_escape);
	text_add(t, "\"");
}

static void
add_value(struct text *t, const struct status *s, const struct field *f)
{
	if (f->type == FIELD_TEXT)
		json_add_string(t, field_text(s, f));
	else if (f->type == FIELD_BOOL)
		text_add(t, "%s", field_number(s, f) ? "true" : "false");
	else
		text_add(t, "%llu", field_number(s, f));
}

/* Closes the objects that `from` is in and `to` isn't, then opens those that
 * `to` is in and `from` isn't. */
static void
add_json_key(struct text *t, const char *from, const char *to)
{
	bool first = *from == '\0';
	const char *dot;
	size_t n;

	while ((dot = strchr(to, '.')) != NULL) {
		n = (size_t)(dot - to) + 1;
		if (strncmp(from, to, n) != 0)
			break;
		from += n;
		to += n;
	}
	for (; (from = strchr(from, '.')) != NULL; from++)
		text_add(t, "}");
	text_add(t, "%s", first ? "" : ",");
	for (; (dot = strchr(to, '.')) != NULL; to = dot + 1)
		text_add(t, "\"%.*s\":{", (int)(dot - to), to);
	text_add(t, "\"%s\":", to);
}

static void
add_json_outage(
    struct text *t, const struct status_outage *o, const char *separator)
{
	text_add(t, "%s{\"began\":", separator);
	json_add_string(t, o->began);
	text_add(t, ",\"ms\":%llu,\"reason\":", o->ms);
	json_add_string(t, o->reason);
	text_add(t, ",\"dials\":%llu}", o->dials);
}

void
status_object(struct text *t, const struct status *s)
{
	const char *last = "";

	text_add(t, "{");
	for (const struct field *f = fields; f < fields_end; f++) {
		add_json_key(t, last, f->path);
		add_value(t, s, f);
		last = f->path;
	}
	text_add(t, "},\"history\":["); /* after the last section */
	for (size_t i = 0; i < s->history_count; i++)
		add_json_outage(t, &s->history[i], i > 0 ? "," : "");
	text_add(t, "]}");
}

void
status_json(struct text *t, const struct status *s)
{
	status_object(t, s);
	text_add(t, "\n");
}

typedef void add_field(struct text *t, const struct status *s,
    const struct field *f, const char *name);

static void
add_section(
    struct text *t, const struct status *s, const char *section, add_field *add)
{
	for (const struct field *f = fields; f < fields_end; f++)
		if (path_in(f->path, section) != NULL)
			add(t, s, f, path_in(f->path, section));
}

static void
add_row(struct text *t, const struct status *s, const struct field *f,
    const char *name)
{
	char number[TEXT_DURATION_BYTES];
	const char *value = number;
	int shown = (int)strlen(name) - (f->decimals == 3 ? 3 : 0); /* _ms */

	if (f->type == FIELD_TEXT)
		value = field_text(s, f);
	else if (f->decimals == 3)
		text_duration(number, (int64_t)field_number(s, f));
	else
		snprintf(number, sizeof(number), "%llu", field_number(s, f));
	if (*value == '\0' || (value == number && *value == '0'))
		return;
	text_add(t, "    %-22.*s", shown, name);
	text_add_escaped(t, value, text_visible);
	text_add(t, "\n");
}

void
status_section(struct text *t, const struct status *s, const char *section)
{
	text_add(t, "%s\n", section);
	add_section(t, s, section, add_row);
}

static void
add_outages(struct text *t, const struct status *s)
{
	char length[TEXT_DURATION_BYTES];

	if (s->history_count > 0)
		text_add(t, "last outages\n    %-26s%-9s%6s  %s\n", "began",
		    "length", "dials", "reason");
	for (size_t i = 0; i < s->history_count && i < SHOWN_OUTAGES; i++) {
		const struct status_outage *o = &s->history[i];

		text_duration(length, (int64_t)o->ms);
		text_add(t, "    ");
		text_add_escaped(t, o->began, text_visible);
		text_add(t, "  %-9s%6llu  ", length, o->dials);
		text_add_escaped(t, o->reason, text_visible);
		text_add(t, "\n");
	}
}

void
status_text(struct text *t, const struct status *s)
{
	char uptime[TEXT_DURATION_BYTES];

	text_add_escaped(t, s->name, text_visible);
	text_add(t, ": forwarder ");
	text_add_escaped(t, s->version, text_visible);
	text_add(t, ", pid %llu, up %s\n", s->pid,
	    text_duration(uptime, (int64_t)s->uptime_ms));
	for (size_t i = 0; i < LENGTH(sections); i++)
		status_section(t, s, sections[i]);
	add_outages(t, s);
}

static void
add_pair(struct text *t, const struct status *s, const struct field *f,
    const char *name)
{
	text_add(t, " %s=", name);
	add_value(t, s, f);
}

void
status_log(const struct status *s)
{
	char bytes[LOG_LINE_BYTES];

	for (size_t i = 0; i < LENGTH(sections); i++) {
		struct text t = text_in(bytes, sizeof(bytes));

		add_section(&t, s, sections[i], add_pair);
		log_line(LOG_LEVEL_INFO, LOG_SERVICE, "status of %s:%s",
		    sections[i], bytes);
	}
}

status_number
status_sum(const struct status *s, const char *section)
{
	status_number sum = 0;

	for (const struct field *f = fields; f < fields_end; f++)
		if (path_in(f->path, section) != NULL)
			sum += field_number(s, f);
	return sum;
}
