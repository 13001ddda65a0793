#include "status/status.h"

#include <string.h>

#include "status/fields.h"

/* Escapes the value of a label. The format has no escape for control characters
 * except the line feed; the others become U+FFFD. */
static void
escape_label(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	if (character == '\n')
		text_add(t, "\\n");
	else if (utf8_is_control(character))
		json_escape(t, UTF8_INVALID, bytes, n);
	else
		json_escape(t, character, bytes, n);
}

static void
add_label(struct text *t, const char *label, const char *value)
{
	text_add(t, "%s=\"", label);
	text_add_escaped(t, value, escape_label);
	text_add(t, "\"");
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

/* The labels direction and reason are parts of the path of a traffic
 * counter. */
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
	add_decimal(t, field_number(s, f), f->decimals);
	text_add(t, "\n");
}

static bool
same_metric(const struct field *a, const struct field *b)
{
	return b->metric != NULL && strcmp(a->metric, b->metric) == 0;
}

static void
add_head(struct text *t, const char *metric, const char *help)
{
	text_add(t, "# HELP forwarder_%s %s\n# TYPE forwarder_%s %s\n", metric,
	    help, metric,
	    strstr(metric, "_total") != NULL ? "counter" : "gauge");
}

/* A forwarder that did not answer has a single sample: it is not up. */
static bool
has_sample(const struct status *s, const struct field *f)
{
	return s->version[0] != '\0' || strcmp(f->metric, "up") == 0;
}

/* Adds the metric of this field, unless an earlier field has the same one. The
 * samples of a metric must follow its HELP and TYPE without a gap. */
static void
add_metric(struct text *t, const struct status *const all[], size_t count,
    const struct field *first)
{
	for (const struct field *f = fields; f < first; f++)
		if (same_metric(first, f))
			return;
	add_head(t, first->metric, first->help);
	for (size_t i = 0; i < count; i++)
		for (const struct field *f = first; f < fields_end; f++)
			if (same_metric(first, f) && has_sample(all[i], f))
				add_sample(t, all[i], f);
}

static void
add_info(struct text *t, const struct status *s)
{
	text_add(t, "forwarder_info{");
	add_label(t, "name", s->name);
	add_label(t, ",version", s->version);
	add_label(t, ",guest", s->guest.endpoint);
	add_label(t, ",network", s->network.endpoint);
	text_add(t, "} 1\n");
}

void
status_prometheus_all(
    struct text *t, const struct status *const all[], size_t count)
{
	if (count == 0)
		return;
	add_head(t, "info", "Version and endpoints.");
	for (size_t i = 0; i < count; i++)
		if (all[i]->version[0] != '\0')
			add_info(t, all[i]);
	for (const struct field *f = fields; f < fields_end; f++)
		if (f->metric != NULL)
			add_metric(t, all, count, f);
}

void
status_prometheus(struct text *t, const struct status *s)
{
	status_prometheus_all(t, &s, 1);
}
