/* Everything `forwarder status` can tell, as one plain value. One table of
 * fields (status.c) writes it as JSON, as Prometheus text and as the lines of
 * the control socket, and reads those lines back. */
#ifndef STATUS_STATUS_H
#define STATUS_STATUS_H

#include "base/log.h"
#include "base/text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATUS_TEXT_BYTES 320

struct status {
	char version[32];
	char name[LOG_NAME_BYTES];
	uint64_t pid;
	uint64_t uptime_ms;
	struct {
		char endpoint[STATUS_TEXT_BYTES];
		char peer[STATUS_TEXT_BYTES]; /* empty: none yet */
		char mac[24];                 /* empty: not learned yet */
	} guest;
	struct {
		char endpoint[STATUS_TEXT_BYTES];
		char state[16]; /* down, up, stopped */
		uint64_t generation, outages, down_ms, last_outage_ms, dials;
		char last_error[STATUS_TEXT_BYTES];
	} network;
	struct {
		uint64_t frames, bytes;
		struct {
			uint64_t outage, oversize, runt, empty, guest_restarted;
		} drops;
	} guest_to_network;
	struct {
		uint64_t frames, bytes;
		struct {
			uint64_t guest_slow, guest_absent, runt, empty,
			    truncated, oversize;
		} drops;
	} network_to_guest;
	struct {
		char mode[16];
		bool armed;
		uint64_t idle_ms, probes, replies, answered, deaths,
		    write_stalls, rtt_us;
	} keepalive;
};

/* Enough for each form, whatever the texts in it. */
#define STATUS_LINES_BYTES 8192
#define STATUS_JSON_BYTES 16384
#define STATUS_PROMETHEUS_BYTES 16384

/* One object on one line, members in the order of the struct. */
void status_json(struct text *t, const struct status *s);

/* Prometheus text exposition, version 0.0.4: base units, so milliseconds
 * become seconds. Every sample has the label `name`, so that what several
 * forwarders say can stand side by side. */
void status_prometheus(struct text *t, const struct status *s);

/* Lines like guest.endpoint=unixgram:/run/guest.sock and an empty one that
 * ends them: what a forwarder says on its control socket. */
void status_lines(struct text *t, const struct status *s);

/* Reads what status_lines() wrote, maybe another version's: what isn't known
 * is skipped, what isn't there is zero or empty, what doesn't fit is cut.
 * Returns whether the empty line at the end was there. */
bool status_parse(struct status *s, const char *lines);

/* One section as ` key=value key="value"`, for the log. */
void status_section(
    struct text *t, const struct status *s, const char *section);

/* The frames dropped in a direction, "guest_to_network" or the other: all of
 * them, and as "12 outage, 3 runt" or "0". */
uint64_t status_dropped(const struct status *s, const char *direction);
void status_drops(
    struct text *t, const struct status *s, const char *direction);

#endif
