#include "status/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum field_type { TEXT_FIELD, NUMBER_FIELD, BOOL_FIELD };

/* The path names a member of struct status, and the field in all forms. Dots
 * separate sections. */
struct field {
	const char *path;
	enum field_type type;
	size_t offset;
	const char *metric; /* without "forwarder_"; NULL: none */
	const char *help;   /* at the metric's first field */
	int decimals;       /* 3: milliseconds, shown as seconds */
};

#define AT(member, type_)                                                      \
	.path = #member, .type = type_,                                        \
	.offset = offsetof(struct status, member)
#define TEXT(member) AT(member, TEXT_FIELD)
#define NUMBER(member) AT(member, NUMBER_FIELD)
#define BOOL(member) AT(member, BOOL_FIELD)

static const struct field fields[] = {
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
	{ NUMBER(guest_to_network.frames), "frames_total",
	    "Frames forwarded." },
	{ NUMBER(guest_to_network.bytes), "bytes_total", "Bytes forwarded." },
	{ NUMBER(guest_to_network.drops.outage), "drops_total",
	    "Frames dropped, by reason." },
	{ NUMBER(guest_to_network.drops.oversize), "drops_total" },
	{ NUMBER(guest_to_network.drops.runt), "drops_total" },
	{ NUMBER(guest_to_network.drops.empty), "drops_total" },
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
static const struct field *const fields_end = fields + LENGTH(fields);

static const char *const sections[] = { "guest", "network", "guest_to_network",
	"network_to_guest", "keepalive" };

static const char *
text_of(const struct status *s, const struct field *f)
{
	return (const char *)s + f->offset;
}

/* The only text with a metric is the state: 1 if it is "up". */
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

/* Returns what follows `section` and a dot in the path, or NULL. */
static const char *
path_in(const char *path, const char *section)
{
	size_t n = strlen(section);

	return strncmp(path, section, n) == 0 && path[n] == '.' ? path + n + 1
								: NULL;
}

/* For JSON and the log. */
static void
escape(struct text *t, uint32_t character, const char *bytes, size_t n)
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

/* For Prometheus, which has no escape for other control characters. */
static void
escape_label(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	if (character == '\n')
		text_add(t, "\\n");
	else if (utf8_is_control(character))
		escape(t, UTF8_INVALID, bytes, n);
	else
		escape(t, character, bytes, n);
}

static void
add_quoted(struct text *t, const char *string, text_escape *escape_character)
{
	text_add(t, "\"");
	text_add_escaped(t, string, escape_character);
	text_add(t, "\"");
}

static void
add_value(struct text *t, const struct status *s, const struct field *f)
{
	if (f->type == TEXT_FIELD)
		add_quoted(t, text_of(s, f), escape);
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

static void
add_label(struct text *t, const char *label, const char *value)
{
	text_add(t, "%s=", label);
	add_quoted(t, value, escape_label);
}

/* The path of a traffic counter contains its labels: direction and reason. */
static void
add_sample(struct text *t, const struct status *s, const struct field *f)
{
	const char *reason = strstr(f->path, ".drops.");

	text_add(t, "forwarder_%s{", f->metric);
	add_label(t, "name", s->name);
	if (strstr(f->path, "_to_") != NULL)
		text_add(t, ",direction=\"%.*s\"", (int)strcspn(f->path, "."),
		    f->path);
	if (reason != NULL)
		text_add(t, ",reason=\"%s\"", reason + strlen(".drops."));
	text_add(t, "} ");
	add_decimal(t, number_of(s, f), f->decimals);
	text_add(t, "\n");
}

static bool
same_metric(const struct field *a, const struct field *b)
{
	return b->metric != NULL && strcmp(a->metric, b->metric) == 0;
}

/* Adds the metric of this field, unless an earlier field has the same one. The
 * samples of a metric must follow its HELP and TYPE without a gap. */
static void
add_metric(struct text *t, const struct status *s, const struct field *first)
{
	bool is_counter = strstr(first->metric, "_total") != NULL;

	for (const struct field *f = fields; f < first; f++)
		if (same_metric(first, f))
			return;
	text_add(t, "# HELP forwarder_%s %s\n# TYPE forwarder_%s %s\n",
	    first->metric, first->help, first->metric,
	    is_counter ? "counter" : "gauge");
	for (const struct field *f = first; f < fields_end; f++)
		if (same_metric(first, f))
			add_sample(t, s, f);
}

void
status_prometheus(struct text *t, const struct status *s)
{
	text_add(t, "# HELP forwarder_info Version and endpoints.\n"
		    "# TYPE forwarder_info gauge\nforwarder_info{");
	add_label(t, "name", s->name);
	add_label(t, ",version", s->version);
	add_label(t, ",guest", s->guest.endpoint);
	add_label(t, ",network", s->network.endpoint);
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
