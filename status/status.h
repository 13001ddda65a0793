/* A snapshot of everything that `forwarder status` shows. forwarder/report.c
 * fills it in for each request. control.c sends it as JSON or in another form;
 * the command reads the JSON (ask.c, parse.c) and renders its own form from it:
 * status.c, prometheus.c, rates.c and table.c. */
#ifndef STATUS_STATUS_H
#define STATUS_STATUS_H

#include "base/log.h"
#include "base/text.h"
#include <stdbool.h>

#define STATUS_TEXT_BYTES 320

#define STATUS_REASON_BYTES 128
#define STATUS_HISTORY 32

typedef unsigned long long status_number; /* what %llu prints */

struct status {
	char version[32];
	char name[LOG_NAME_BYTES];
	status_number pid, uptime_ms;
	struct {
		char endpoint[STATUS_TEXT_BYTES];
		char peer[STATUS_TEXT_BYTES]; /* empty: none yet */
		char mac[24];                 /* empty: not learned yet */
	} guest;
	struct {
		char endpoint[STATUS_TEXT_BYTES];
		char state[16]; /* down, up, stopped */
		status_number generation, outages, down_ms, last_outage_ms,
		    dials;
		char last_error[STATUS_TEXT_BYTES];
		struct {
			status_number pid, starts;
			char last_exit[24]; /* empty: none yet */
		} daemon;                   /* that the forwarder has started */
	} network;
	struct {
		status_number frames, bytes, kept;
		struct {
			status_number outage, oversize, runt, empty, truncated,
			    guest_restarted;
		} drops;
	} guest_to_network;
	struct {
		status_number frames, bytes;
		struct {
			status_number guest_slow, guest_absent, runt, empty,
			    truncated, oversize;
		} drops;
	} network_to_guest;
	struct {
		char mode[16];
		bool armed;
		status_number idle_ms, probes, replies, answered, deaths,
		    write_stalls, rtt_us;
	} keepalive;
	size_t history_count;
	struct status_outage {
		char began[32]; /* 2026-11-21T01:30:00.123Z */
		status_number ms, dials;
		char reason[STATUS_REASON_BYTES];
	} history[STATUS_HISTORY]; /* the newest first */
};

/* Large enough for any of these forms, whatever text it contains. */
#define STATUS_BYTES 49152

/* Adds one JSON object, with its members in the order of the struct. */
void status_object(struct text *t, const struct status *s);

/* The same, and a line feed. */
void status_json(struct text *t, const struct status *s);

/* Reads what status_json() has written, perhaps in another version: unknown
 * members are skipped, and missing ones stay empty or zero. Anything else is
 * refused, and so are numbers and texts that don't fit: returns false, with *s
 * undefined. Nothing in the text is trusted. */
bool status_parse(struct status *s, const char *json);

/* Prometheus text exposition, version 0.0.4, in base units: milliseconds become
 * seconds. Every sample has the label `name`, so one file can hold the samples
 * of several forwarders. */
void status_prometheus(struct text *t, const struct status *s);

/* The same for several forwarders, whose names must differ. The format wants
 * all samples of a metric together. A forwarder that did not answer has only a
 * name in its status: its only sample is forwarder_up 0. Adds nothing if count
 * is 0. */
void status_prometheus_all(
    struct text *t, const struct status *const all[], size_t count);

/* Text for people: a line for each field that is neither empty nor zero, of all
 * sections or of one, such as "network"; then the last few outages. */
void status_text(struct text *t, const struct status *s);
void status_section(
    struct text *t, const struct status *s, const char *section);

bool status_is_up(const struct status *s);

/* The sum of all counters in a section such as "guest_to_network.drops". */
status_number status_sum(const struct status *s, const char *section);

/* Logs a line of key=value for each section. Texts are quoted, so text from
 * outside can't add keys. */
void status_log(const struct status *s);

#endif
