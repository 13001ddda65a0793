#include "status/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum field_type { TEXT_FIELD, NUMBER_FIELD, BOOL_FIELD };

/* The path is the member's place in struct status and its name everywhere
 * else; dots separate sections. */
struct field {
	const char *path;
	enum field_type type;
	size_t offset;
	const char *metric; /* NULL: none */
	int decimals;       /* 3: milliseconds, shown as seconds */
	const char *labels; /* besides the name */
	const char *help;
};

#define AT(member, type_)                                                      \
	.path = #member, .type = type_,                                        \
	.offset = offsetof(struct status, member)
#define TEXT(member) AT(member, TEXT_FIELD)
#define NUMBER(member) AT(member, NUMBER_FIELD)
#define BOOL(member) AT(member, BOOL_FIELD)
#define METRIC(name, decimals_, help_)                                         \
	.metric = "forwarder_" name, .decimals = decimals_, .help = help_
#define UP ",direction=\"guest_to_network\""
#define DOWN ",direction=\"network_to_guest\""
#define FRAMES METRIC("frames_total", 0, "Frames handed on.")
#define BYTES METRIC("bytes_total", 0, "Bytes of the frames handed on.")
#define DROP(direction, reason)                                                \
	METRIC("drops_total", 0, "Frames dropped, by reason."),                \
	    .labels = direction ",reason=\"" reason "\""

/* clang-format off */
static const struct field fields[] = {
	{ TEXT(version) },
	{ TEXT(name) },
	{ NUMBER(pid) },
	{ NUMBER(uptime_ms), METRIC("uptime_seconds", 3,
	  "Time since the forwarder started.") },

	{ TEXT(guest.endpoint) },
	{ TEXT(guest.peer) },
	{ TEXT(guest.mac) },

	{ TEXT(network.endpoint) },
	{ TEXT(network.state), METRIC("up", 0,
	  "Whether the network connection is up.") },
	{ NUMBER(network.generation), METRIC("generation", 0,
	  "Number of the newest network connection.") },
	{ NUMBER(network.outages), METRIC("outages_total", 0,
	  "Outages of the network.") },
	{ NUMBER(network.down_ms), METRIC("down_seconds_total", 3,
	  "Time without a network connection.") },
	{ NUMBER(network.last_outage_ms), METRIC("last_outage_seconds", 3,
	  "Length of the last outage.") },
	{ NUMBER(network.dials), METRIC("dials_total", 0,
	  "Attempts to connect to the network.") },
	{ TEXT(network.last_error) },

	{ NUMBER(guest_to_network.frames), FRAMES, .labels = UP },
	{ NUMBER(guest_to_network.bytes), BYTES, .labels = UP },
	{ NUMBER(guest_to_network.drops.outage), DROP(UP, "outage") },
	{ NUMBER(guest_to_network.drops.oversize), DROP(UP, "oversize") },
	{ NUMBER(guest_to_network.drops.runt), DROP(UP, "runt") },
	{ NUMBER(guest_to_network.drops.empty), DROP(UP, "empty") },
	{ NUMBER(guest_to_network.drops.guest_restarted), DROP(UP, "guest_restarted") },

	{ NUMBER(network_to_guest.frames), FRAMES, .labels = DOWN },
	{ NUMBER(network_to_guest.bytes), BYTES, .labels = DOWN },
	{ NUMBER(network_to_guest.drops.guest_slow), DROP(DOWN, "guest_slow") },
	{ NUMBER(network_to_guest.drops.guest_absent), DROP(DOWN, "guest_absent") },
	{ NUMBER(network_to_guest.drops.runt), DROP(DOWN, "runt") },
	{ NUMBER(network_to_guest.drops.empty), DROP(DOWN, "empty") },
	{ NUMBER(network_to_guest.drops.truncated), DROP(DOWN, "truncated") },
	{ NUMBER(network_to_guest.drops.oversize), DROP(DOWN, "oversize") },

	{ TEXT(keepalive.mode) },
	{ BOOL(keepalive.armed), METRIC("keepalive_armed", 0,
	  "Whether the peer has answered a probe on this connection.") },
	{ NUMBER(keepalive.idle_ms), METRIC("keepalive_idle_seconds", 3,
	  "Time since the last byte from the network.") },
	{ NUMBER(keepalive.probes), METRIC("keepalive_probes_total", 0,
	  "Probes sent.") },
	{ NUMBER(keepalive.replies), METRIC("keepalive_replies_total", 0,
	  "Answers received to probes.") },
	{ NUMBER(keepalive.answered), METRIC("keepalive_answered_total", 0,
	  "Probes of the peer answered.") },
	{ NUMBER(keepalive.deaths), METRIC("keepalive_deaths_total", 0,
	  "Connections given up because no probe was answered.") },
	{ NUMBER(keepalive.write_stalls), METRIC("keepalive_write_stalls_total", 0,
	  "Connections given up because a write made no progress.") },
	{ NUMBER(keepalive.rtt_us), METRIC("keepalive_rtt_seconds", 6,
	  "Round trip time of the last probe.") },
};
/* clang-format on */

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
static const struct field *const fields_end = fields + LENGTH(fields);

static const char *const sections[] = { "guest", "network", "guest_to_network",
	"network_to_guest", "keepalive" };

static const char *
text_of(const struct status *s, const struct field *f)
{
	return (const char *)s + f->offset;
}

/* The only text with a metric is the state: whether it is "up". */
static status_number
number_of(const struct status *s, const struct field *f)
{
	const void *place = text_of(s, f);

	if (f->type == TEXT_FIELD)
		return strcmp(place, "up") == 0;
	if (f->type == BOOL_FIELD)
		return *(const bool *)place;
	return *(const status_number *)place;
}

/* What follows `section` and a dot in a path; NULL: it isn't in there. */
static const char *
path_in(const char *path, const char *section)
{
	size_t n = strlen(section);

	return strncmp(path, section, n) == 0 && path[n] == '.' ? path + n + 1
								: NULL;
}

/* Within quotes, as JSON, Prometheus and the log all read it. What is no
 * character for a text becomes U+FFFD. */
static void
escape(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	if (character == '\n')
		text_add(t, "\\n");
	else if (character == '"' || character == '\\')
		text_add(t, "\\%c", (int)character);
	else if (character == UTF8_INVALID || utf8_is_control(character))
		text_add(t, "\xef\xbf\xbd");
	else
		text_add_bytes(t, bytes, n);
}

static void
add_quoted(struct text *t, const char *string)
{
	text_add(t, "\"");
	text_add_escaped(t, string, escape);
	text_add(t, "\"");
}

static void
add_value(struct text *t, const struct status *s, const struct field *f)
{
	if (f->type == TEXT_FIELD)
		add_quoted(t, text_of(s, f));
	else if (f->type == BOOL_FIELD)
		text_add(t, "%s", number_of(s, f) ? "true" : "false");
	else
		text_add(t, "%llu", number_of(s, f));
}

/* Closes the objects that `from` is in and `to` isn't, then opens those that
 * `to` is in and `from` isn't. */
static void
add_json_key(struct text *t, const char *from, const char *to)
{
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
	text_add(t, "%s", t->length > 1 ? "," : "");
	for (; (dot = strchr(to, '.')) != NULL; to = dot + 1)
		text_add(t, "\"%.*s\":{", (int)(dot - to), to);
	text_add(t, "\"%s\":", to);
}

void
status_json(struct text *t, const struct status *s)
{
	const char *last = "";

	text_add(t, "{");
	for (const struct field *f = fields; f < fields_end; f++) {
		add_json_key(t, last, f->path);
		add_value(t, s, f);
		last = f->path;
	}
	text_add(t, "}}\n"); /* of the last section, and of all */
}

/* 1234 with three decimals is 1.234. */
static void
add_decimal(struct text *t, status_number number, int decimals)
{
	status_number one = 1;

	for (int i = 0; i < decimals; i++)
		one *= 10;
	text_add(t, "%llu", number / one);
	if (decimals > 0)
		text_add(t, ".%0*llu", decimals, number % one);
}

static bool
same_metric(const struct field *a, const struct field *b)
{
	return b->metric != NULL && strcmp(a->metric, b->metric) == 0;
}

/* The samples of a metric have to stand together below its description, so
 * the first of its fields brings the others along. */
static void
add_metric(struct text *t, const struct status *s, const struct field *first)
{
	bool is_counter = strstr(first->metric, "_total") != NULL;

	for (const struct field *f = fields; f < first; f++)
		if (same_metric(first, f))
			return;
	text_add(t, "# HELP %s %s\n# TYPE %s %s\n", first->metric, first->help,
	    first->metric, is_counter ? "counter" : "gauge");
	for (const struct field *f = first; f < fields_end; f++) {
		if (!same_metric(first, f))
			continue;
		text_add(t, "%s{name=", f->metric);
		add_quoted(t, s->name);
		text_add(t, "%s} ", f->labels ? f->labels : "");
		add_decimal(t, number_of(s, f), f->decimals);
		text_add(t, "\n");
	}
}

void
status_prometheus(struct text *t, const struct status *s)
{
	text_add(t, "# HELP forwarder_info What runs here.\n"
		    "# TYPE forwarder_info gauge\nforwarder_info{name=");
	add_quoted(t, s->name);
	text_add(t, ",version=");
	add_quoted(t, s->version);
	text_add(t, ",guest=");
	add_quoted(t, s->guest.endpoint);
	text_add(t, ",network=");
	add_quoted(t, s->network.endpoint);
	text_add(t, "} 1\n");
	for (const struct field *f = fields; f < fields_end; f++)
		if (f->metric != NULL)
			add_metric(t, s, f);
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

	if (f->type == TEXT_FIELD)
		value = text_of(s, f);
	else if (f->decimals == 3)
		text_duration(number, (int64_t)number_of(s, f));
	else
		snprintf(number, sizeof(number), "%llu", number_of(s, f));
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

void
status_text(struct text *t, const struct status *s)
{
	char uptime[TEXT_DURATION_BYTES];

	text_add(t, "%s: forwarder %s, pid %llu, up %s\n", s->name, s->version,
	    s->pid, text_duration(uptime, (int64_t)s->uptime_ms));
	for (size_t i = 0; i < LENGTH(sections); i++)
		status_section(t, s, sections[i]);
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
			sum += number_of(s, f);
	return sum;
}
