#include "status/status.h"

#include <string.h>

enum field_type { TEXT_FIELD, NUMBER_FIELD, BOOL_FIELD };

/* The path is both the place in struct status and the name everywhere else:
 * dots separate sections. */
struct field {
	const char *path;
	enum field_type type;
	size_t offset, size;
	const char *label;  /* of forwarder_info */
	const char *metric; /* NULL: not one of its own */
	const char *kind;   /* counter or gauge */
	int decimals;       /* milliseconds have 3 of a second */
	const char *labels;
	const char *help;
};

#define AT(member, type_)                                                      \
	.path = #member, .type = type_,                                        \
	.offset = offsetof(struct status, member),                             \
	.size = sizeof(((struct status *)NULL)->member)
#define TEXT(member) AT(member, TEXT_FIELD)
#define NUMBER(member) AT(member, NUMBER_FIELD)
#define BOOL(member) AT(member, BOOL_FIELD)
#define METRIC(kind_, name, decimals_, help_)                                  \
	.metric = "forwarder_" name, .kind = kind_, .decimals = decimals_,     \
	.help = help_
#define COUNTER(name, decimals, help) METRIC("counter", name, decimals, help)
#define GAUGE(name, decimals, help) METRIC("gauge", name, decimals, help)
#define UP "direction=\"guest_to_network\""
#define DOWN "direction=\"network_to_guest\""
#define FRAMES COUNTER("frames_total", 0, "Frames handed on.")
#define BYTES COUNTER("bytes_total", 0, "Bytes of the frames handed on.")
#define DROP(direction, reason)                                                \
	COUNTER("drops_total", 0, "Frames dropped, by reason."),               \
	    .labels = direction ",reason=\"" reason "\""

/* clang-format off */
static const struct field fields[] = {
	{ TEXT(version), .label = "version" },
	{ TEXT(name) },
	{ NUMBER(pid) },
	{ NUMBER(uptime_ms), GAUGE("uptime_seconds", 3,
	  "Time since the forwarder started.") },

	{ TEXT(guest.endpoint), .label = "guest" },
	{ TEXT(guest.peer) },
	{ TEXT(guest.mac) },

	{ TEXT(network.endpoint), .label = "network" },
	{ TEXT(network.state), GAUGE("up", 0,
	  "Whether the network connection is up.") },
	{ NUMBER(network.generation), GAUGE("generation", 0,
	  "Number of the newest network connection.") },
	{ NUMBER(network.outages), COUNTER("outages_total", 0,
	  "Outages of the network.") },
	{ NUMBER(network.down_ms), COUNTER("down_seconds_total", 3,
	  "Time without a network connection.") },
	{ NUMBER(network.last_outage_ms), GAUGE("last_outage_seconds", 3,
	  "Length of the last outage.") },
	{ NUMBER(network.dials), COUNTER("dials_total", 0,
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
	{ BOOL(keepalive.armed), GAUGE("keepalive_armed", 0,
	  "Whether the peer has answered a probe on this connection.") },
	{ NUMBER(keepalive.idle_ms), GAUGE("keepalive_idle_seconds", 3,
	  "Time since the last byte from the network.") },
	{ NUMBER(keepalive.probes), COUNTER("keepalive_probes_total", 0,
	  "Probes sent.") },
	{ NUMBER(keepalive.replies), COUNTER("keepalive_replies_total", 0,
	  "Answers received to probes.") },
	{ NUMBER(keepalive.answered), COUNTER("keepalive_answered_total", 0,
	  "Probes of the peer answered.") },
	{ NUMBER(keepalive.deaths), COUNTER("keepalive_deaths_total", 0,
	  "Connections given up because no probe was answered.") },
	{ NUMBER(keepalive.write_stalls), COUNTER("keepalive_write_stalls_total", 0,
	  "Connections given up because a write made no progress.") },
	{ NUMBER(keepalive.rtt_us), GAUGE("keepalive_rtt_seconds", 6,
	  "Round trip time of the last probe.") },
};
/* clang-format on */

static const struct field *const fields_end =
    fields + sizeof(fields) / sizeof(fields[0]);

static const char *
text_of(const struct status *s, const struct field *f)
{
	return (const char *)s + f->offset;
}

/* A text as a number: whether it is the state "up". */
static uint64_t
number_of(const struct status *s, const struct field *f)
{
	uint64_t number;
	bool flag;

	if (f->type == TEXT_FIELD)
		return strcmp(text_of(s, f), "up") == 0;
	if (f->type == BOOL_FIELD) {
		memcpy(&flag, text_of(s, f), sizeof(flag));
		return flag;
	}
	memcpy(&number, text_of(s, f), sizeof(number));
	return number;
}

/* JSON and the control lines write numbers and booleans alike. */
static void
add_scalar(struct text *t, const struct status *s, const struct field *f)
{
	if (f->type == BOOL_FIELD)
		text_add(t, "%s", number_of(s, f) ? "true" : "false");
	else
		text_add(t, "%llu", (unsigned long long)number_of(s, f));
}

static void
escape_json(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	if (character == UTF8_INVALID)
		text_add(t, "\\ufffd");
	else if (utf8_is_control(character))
		text_add(t, "\\u%04x", (unsigned)character);
	else if (character == '"' || character == '\\')
		text_add(t, "\\%c", (int)character);
	else
		text_add_bytes(t, bytes, n);
}

static void
add_json_value(struct text *t, const struct status *s, const struct field *f)
{
	if (f->type != TEXT_FIELD) {
		add_scalar(t, s, f);
		return;
	}
	text_add(t, "\"");
	text_add_escaped(t, text_of(s, f), escape_json);
	text_add(t, "\"");
}

/* Closes the objects that the member `from` is in and the member `to` isn't,
 * then opens those in which it's the other way round. */
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
		add_json_value(t, s, f);
		last = f->path;
	}
	for (; (last = strchr(last, '.')) != NULL; last++)
		text_add(t, "}");
	text_add(t, "}\n");
}

static void
escape_label(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	if (character == '\n')
		text_add(t, "\\n");
	else if (character == '"' || character == '\\')
		text_add(t, "\\%c", (int)character);
	else if (character == UTF8_INVALID || utf8_is_control(character))
		text_add(t, "\xef\xbf\xbd"); /* U+FFFD */
	else
		text_add_bytes(t, bytes, n);
}

/* Number 1234 with three decimals is 1.234. */
static void
add_decimal(struct text *t, uint64_t number, int decimals)
{
	unsigned long long one = 1;

	for (int i = 0; i < decimals; i++)
		one *= 10;
	text_add(t, "%llu", number / one);
	if (decimals > 0)
		text_add(t, ".%0*llu", decimals, number % one);
}

static void
add_label(struct text *t, const char *label, const char *value)
{
	text_add(t, "%s=\"", label);
	text_add_escaped(t, value, escape_label);
	text_add(t, "\"");
}

static void
add_sample(struct text *t, const struct status *s, const struct field *f)
{
	text_add(t, "%s{", f->metric);
	add_label(t, "name", s->name);
	text_add(t, "%s%s} ", f->labels ? "," : "", f->labels ? f->labels : "");
	add_decimal(t, number_of(s, f), f->decimals);
	text_add(t, "\n");
}

static bool
same_metric(const struct field *a, const struct field *b)
{
	return a->metric != NULL && b->metric != NULL &&
	       strcmp(a->metric, b->metric) == 0;
}

/* A metric's samples have to stand together below its description, so the
 * first of its fields brings the others along. */
static void
add_metric(struct text *t, const struct status *s, const struct field *first)
{
	for (const struct field *f = fields; f < first; f++)
		if (same_metric(f, first))
			return;
	text_add(t, "# HELP %s %s\n# TYPE %s %s\n", first->metric, first->help,
	    first->metric, first->kind);
	for (const struct field *f = first; f < fields_end; f++)
		if (same_metric(f, first))
			add_sample(t, s, f);
}

static void
add_info(struct text *t, const struct status *s)
{
	text_add(t, "# HELP forwarder_info What runs here.\n"
		    "# TYPE forwarder_info gauge\nforwarder_info{");
	add_label(t, "name", s->name);
	for (const struct field *f = fields; f < fields_end; f++) {
		if (f->label == NULL)
			continue;
		text_add(t, ",");
		add_label(t, f->label, text_of(s, f));
	}
	text_add(t, "} 1\n");
}

void
status_prometheus(struct text *t, const struct status *s)
{
	add_info(t, s);
	for (const struct field *f = fields; f < fields_end; f++)
		if (f->metric != NULL)
			add_metric(t, s, f);
}

/* The least there can be, so that every text comes back as it was. */
static void
escape_line(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	if (character == '\n')
		text_add(t, "\\n");
	else if (character == '\\')
		text_add(t, "\\\\");
	else
		text_add_bytes(t, bytes, n);
}

void
status_lines(struct text *t, const struct status *s)
{
	for (const struct field *f = fields; f < fields_end; f++) {
		text_add(t, "%s=", f->path);
		if (f->type == TEXT_FIELD)
			text_add_escaped(t, text_of(s, f), escape_line);
		else
			add_scalar(t, s, f);
		text_add(t, "\n");
	}
	text_add(t, "\n");
}

static const struct field *
find_field(const char *path, size_t n)
{
	for (const struct field *f = fields; f < fields_end; f++)
		if (strlen(f->path) == n && memcmp(f->path, path, n) == 0)
			return f;
	return NULL;
}

static void
read_text(char *out, size_t size, const char *value, size_t n)
{
	struct text t = text_in(out, size);

	for (size_t i = 0; i < n; i++) {
		bool escaped = value[i] == '\\' && i + 1 < n;

		i += escaped;
		text_add_bytes(
		    &t, escaped && value[i] == 'n' ? "\n" : value + i, 1);
	}
}

/* What is no number, or too large for one, reads as 0. */
static uint64_t
read_number(const char *value, size_t n)
{
	uint64_t number = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t digit = (uint64_t)(unsigned char)value[i] - '0';

		if (digit > 9 || number > (UINT64_MAX - digit) / 10)
			return 0;
		number = number * 10 + digit;
	}
	return number;
}

static void
read_value(struct status *s, const struct field *f, const char *value, size_t n)
{
	char *place = (char *)s + f->offset;
	uint64_t number = read_number(value, n);
	bool flag = n == 4 && memcmp(value, "true", 4) == 0;

	if (f->type == TEXT_FIELD)
		read_text(place, f->size, value, n);
	else if (f->type == BOOL_FIELD)
		memcpy(place, &flag, sizeof(flag));
	else
		memcpy(place, &number, sizeof(number));
}

bool
status_parse(struct status *s, const char *lines)
{
	memset(s, 0, sizeof(*s));
	for (size_t n; lines[n = strcspn(lines, "\n")] != '\0';
	     lines += n + 1) {
		size_t key = strcspn(lines, "=\n");
		const struct field *f = find_field(lines, key);

		if (n == 0)
			return true;
		if (f != NULL && lines[key] == '=')
			read_value(s, f, lines + key + 1, n - key - 1);
	}
	return false;
}

/* What follows `section` and a dot in a path; NULL if it's not in there. */
static const char *
path_in(const char *path, const char *section)
{
	size_t n = strlen(section);

	return strncmp(path, section, n) == 0 && path[n] == '.' ? path + n + 1
								: NULL;
}

void
status_section(struct text *t, const struct status *s, const char *section)
{
	for (const struct field *f = fields; f < fields_end; f++) {
		const char *name = path_in(f->path, section);

		if (name == NULL)
			continue;
		text_add(t, " %s=", name);
		add_json_value(t, s, f);
	}
}

/* The reason if the field counts drops in this direction, else NULL. */
static const char *
drop_reason(const struct field *f, const char *direction)
{
	const char *rest = path_in(f->path, direction);

	return rest == NULL ? NULL : path_in(rest, "drops");
}

uint64_t
status_dropped(const struct status *s, const char *direction)
{
	uint64_t sum = 0;

	for (const struct field *f = fields; f < fields_end; f++)
		if (drop_reason(f, direction) != NULL)
			sum += number_of(s, f);
	return sum;
}

void
status_drops(struct text *t, const struct status *s, const char *direction)
{
	const char *separator = "";

	for (const struct field *f = fields; f < fields_end; f++) {
		const char *reason = drop_reason(f, direction);

		if (reason == NULL || number_of(s, f) == 0)
			continue;
		text_add(t, "%s%llu %s", separator,
		    (unsigned long long)number_of(s, f), reason);
		separator = ", ";
	}
	if (separator[0] == '\0')
		text_add(t, "0");
}
