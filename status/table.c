#include "status/table.h"

#include <stdio.h>
#include <string.h>

#include "status/control_dial.h"

struct row {
	const struct answer *answer;
	const struct status *status;
	const struct rates_sample *before; /* NULL: show bytes */
};

static void
add_name(struct text *t, const struct row *row)
{
	text_add_escaped(t, row->status->name, text_visible);
}

static void
add_state(struct text *t, const struct row *row)
{
	text_add_escaped(t, row->status->network.state, text_visible);
}

static void
add_outages(struct text *t, const struct row *row)
{
	text_add(t, "%llu", row->status->network.outages);
}

static void
add_duration(struct text *t, status_number ms)
{
	char duration[TEXT_DURATION_BYTES];

	text_add(t, "%s", text_duration(duration, (int64_t)ms));
}

static void
add_down(struct text *t, const struct row *row)
{
	add_duration(t, row->status->network.down_ms);
}

/* 2026-11-21T01:30:00.123Z, without its milliseconds. */
static void
add_last(struct text *t, const struct row *row)
{
	char began[20];

	if (row->status->history_count == 0)
		return;
	snprintf(began, sizeof(began), "%.19s", row->status->history[0].began);
	text_add_escaped(t, began, text_visible);
	text_add(t, "Z");
}

static void
add_lasted(struct text *t, const struct row *row)
{
	if (row->status->history_count > 0)
		add_duration(t, row->status->history[0].ms);
}

static void
add_drops(struct text *t, const struct row *row)
{
	text_add(t, "%llu",
	    status_sum(row->status, "guest_to_network.drops") +
		status_sum(row->status, "network_to_guest.drops"));
}

static void
add_guest(struct text *t, const struct row *row)
{
	text_add_escaped(t, row->status->guest.mac, text_visible);
}

/* 999, 1.2k, 34.5M, 6.7G */
static void
add_bytes(struct text *t, status_number bytes)
{
	const char *unit = "kMGTPE";
	status_number tenths = bytes / 100;

	if (bytes < 1000) {
		text_add(t, "%llu", bytes);
		return;
	}
	for (; tenths >= 10000; tenths /= 1000)
		unit++;
	text_add(t, "%llu.%llu%c", tenths / 10, tenths % 10, *unit);
}

static void
add_up(struct text *t, const struct row *row)
{
	struct rates_sample now = rates_sample(row->status);

	if (row->before != NULL)
		text_add(t, "%.1f", rates_mbit_up(row->before, &now));
	else
		add_bytes(t, now.up[RATES_BYTES]);
}

static void
add_down_traffic(struct text *t, const struct row *row)
{
	struct rates_sample now = rates_sample(row->status);

	if (row->before != NULL)
		text_add(t, "%.1f", rates_mbit_down(row->before, &now));
	else
		add_bytes(t, now.down[RATES_BYTES]);
}

/* The first column is for all; the others are for forwarders that answered. */
static const struct column {
	const char *title;
	const char *rate; /* the title if traffic is a rate; NULL: the same */
	void (*add)(struct text *, const struct row *);
	bool right;
} columns[] = {
	{ "NAME", NULL, add_name, false },
	{ "STATE", NULL, add_state, false },
	{ "OUTAGES", NULL, add_outages, true },
	{ "DOWN", NULL, add_down, true },
	{ "LAST-OUTAGE", NULL, add_last, false },
	{ "LASTED", NULL, add_lasted, true },
	{ "DROPS", NULL, add_drops, true },
	{ "GUEST", NULL, add_guest, false },
	{ "OUT", "OUT-Mbit/s", add_up, true },
	{ "IN", "IN-Mbit/s", add_down_traffic, true },
};

#define COLUMNS ((int)(sizeof(columns) / sizeof(columns[0])))
#define CELL_BYTES 128

/* Gets the text of a cell, of the heading if there is no row; "-" if it is
 * empty. Returns its width. */
static int
cell(int column, const struct row *row, bool rates, char text[CELL_BYTES])
{
	const struct column *c = &columns[column];
	struct text t = text_in(text, CELL_BYTES);

	if (row == NULL)
		text_add(&t, "%s", rates && c->rate ? c->rate : c->title);
	else
		c->add(&t, row);
	if (t.length == 0)
		text_add(&t, "-");
	return (int)t.length;
}

static struct row
row_of(
    const struct answer *answers, const struct rates_sample *before, size_t i)
{
	return (struct row){ &answers[i], &answers[i].status,
		before ? &before[i] : NULL };
}

static int
wider(int a, int b)
{
	return a > b ? a : b;
}

static void
add_line(struct text *t, const struct row *row, bool rates, const int widths[])
{
	bool silent = row != NULL && row->answer->error != 0;
	char text[CELL_BYTES];

	for (int i = 0; i < (silent ? 1 : COLUMNS); i++) {
		int room = widths[i] - cell(i, row, rates, text);

		text_add(t, "%s%*s%s%*s", i > 0 ? "  " : "",
		    columns[i].right ? room : 0, "", text,
		    columns[i].right ? 0 : room, "");
	}
	if (silent)
		text_add(
		    t, "  no answer: %s", control_reason(row->answer->error));
	text_add(t, "\n");
}

void
table_add(struct text *t, const struct answer *answers, size_t count,
    const struct rates_sample *before)
{
	struct answer_counts counts = ask_count(answers, count);
	int widths[COLUMNS] = { 0 };
	char text[CELL_BYTES];

	for (size_t i = 0; i < count; i++) {
		struct row row = row_of(answers, before, i);

		for (int c = 0; c < (answers[i].error ? 1 : COLUMNS); c++)
			widths[c] = wider(
			    widths[c], cell(c, &row, before != NULL, text));
	}
	for (int c = 0; c < COLUMNS; c++)
		widths[c] =
		    wider(widths[c], cell(c, NULL, before != NULL, text));
	add_line(t, NULL, before != NULL, widths);
	for (size_t i = 0; i < count; i++) {
		struct row row = row_of(answers, before, i);

		add_line(t, &row, before != NULL, widths);
	}
	text_add(t, "%zu up, %zu down, %zu without an answer\n", counts.up,
	    counts.down, counts.silent);
}
