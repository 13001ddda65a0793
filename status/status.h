/* A snapshot of everything that `forwarder status` shows. forwarder/report.c
 * takes it for one answer. status.c renders it (rates.c for --watch), control.c
 * sends it, and client.c prints it. */
#ifndef STATUS_STATUS_H
#define STATUS_STATUS_H

#include "base/log.h"
#include "base/text.h"
#include <stdbool.h>

#define STATUS_TEXT_BYTES 320

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
	} network;
	struct {
		status_number frames, bytes;
		struct {
			status_number outage, oversize, runt, empty,
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
};

/* Large enough for any of these forms, whatever text it contains. */
#define STATUS_BYTES 16384

/* One object on one line, members in the order of the struct. */
void status_json(struct text *t, const struct status *s);

/* Prometheus text exposition, version 0.0.4, in base units: milliseconds become
 * seconds. Every sample has the label `name`, so one file can hold the samples
 * of several forwarders. */
void status_prometheus(struct text *t, const struct status *s);

/* Text for people: a line for each field that is neither empty nor zero, of all
 * sections or of one, such as "network". */
void status_text(struct text *t, const struct status *s);
void status_section(
    struct text *t, const struct status *s, const char *section);

/* The sum of all counters in a section such as "guest_to_network.drops". */
status_number status_sum(const struct status *s, const char *section);

/* Logs a line of key=value for each section. Texts are quoted, so text from
 * outside can't add keys. */
void status_log(const struct status *s);

#endif
