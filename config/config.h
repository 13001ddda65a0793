/* The contents of a forwarder.ini as checked and typed values. Its text is
 * parsed only here. One table of keys serves the file, -o, --check, the hint
 * for a mistyped key and the test of the annotated forwarder.ini. Reads files
 * and looks up users, and does no other I/O. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/log.h"
#include "config/cidr.h"
#include "config/guest_endpoint.h"
#include "keepalive/keepalive.h"
#include "keepalive/tcp.h"
#include "reconnect/endpoint.h"

#define CONFIG_FOREVER (-1) /* hold = forever */
#define CONFIG_NO_USER ((uid_t)-1)
#define CONFIG_KEYS 29
/* The longest value that fits beside the longest key in a line of 198 bytes,
 * the limit of Debian's inih. */
#define CONFIG_VALUE_BYTES 180

struct config {
	struct {
		struct guest_endpoint endpoint;
		mode_t mode; /* of the socket */
		int64_t stall_ms;
	} guest;
	struct {
		struct endpoint endpoint; /* text is empty if not given */
		int64_t hold_ms;          /* or CONFIG_FOREVER */
		unsigned keep;            /* frames, at most KEEP_FRAMES */
		uint32_t max_frame;       /* bytes */
		size_t write_batch;       /* bytes, 0: one frame a write */
		int64_t write_stall_ms;
		size_t send_buffer; /* bytes, 0: the system's */
		bool announce;
		bool vfkit; /* unixgram only */
		uid_t user; /* or CONFIG_NO_USER */
		struct cidr_list allow;
	} network;
	struct {
		int64_t min_ms, max_ms;
		unsigned jitter_percent;
		bool watch;
	} reconnect;
	struct {
		enum keepalive_mode mode;
		int64_t interval_ms;
		unsigned count;
		struct config_gateway {
			bool given;
			uint8_t address[4];
		} gateway;
		struct tcp_settings tcp;
	} keepalive;
	struct {
		enum log_level level;
	} log;
	struct {
		char name[LOG_NAME_BYTES]; /* or empty, see config_name() */
	} service;
	struct {
		char socket[ENDPOINT_PATH_BYTES]; /* or empty */
		mode_t mode;                      /* of the socket */
	} control;

	/* How the keys were set, in the order of config_keys[]. */
	const char *file; /* as named to config_read(), NULL: none */
	struct config_origin {
		char text[CONFIG_VALUE_BYTES + 1]; /* as written */
		int line;   /* of the file; 0: the default, or -o */
		bool wrong; /* the value was refused: ignore the field */
	} origin[CONFIG_KEYS];
};

/* The most bytes for one write to a stream of the network: write_batch, or half of
 * a smaller send_buffer. Linux divides what is longer than half of the buffer
 * (unix_stream_sendmsg()); the pieces could cut a frame. */
static inline size_t
config_write_bytes(const struct config *config)
{
	size_t half = config->network.send_buffer / 2;

	return half == 0 || half > config->network.write_batch
		   ? config->network.write_batch
		   : half;
}

/* Counts problems, and passes each to emit() if that is set. */
struct config_problems {
	void (*emit)(const struct error *problem);
	int count;
	struct error first; /* if count > 0 */
};
void config_problem(struct config_problems *problems, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void config_defaults(struct config *config);

/* Which files may be read. Reading a FIFO or a terminal can block. */
enum config_source {
	CONFIG_ANY_FILE,
	CONFIG_REGULAR_FILE, /* anything else is a problem, and is not read */
};

/* Sets the keys that are in the file. The path must live as long as the
 * config. */
void config_read(struct config *config, const char *path,
    enum config_source source, struct config_problems *problems);

/* Sets one key. It is a problem if two lines of the file set it; line 0 (not
 * from a file) always replaces. A problem begins with `where` ("-o
 * network.hold=x"). */
void config_set(struct config *config, const char *section, const char *name,
    const char *value, int line, const char *where,
    struct config_problems *problems);

/* Checks the values of different keys against each other. */
void config_check(
    const struct config *config, struct config_problems *problems);

/* Returns [keepalive] mode. Mode auto is arp where it helps: over TCP, whose path
 * can fail silently, and for a daemon that the forwarder can restart. */
enum keepalive_mode config_keepalive(const struct config *config);

/* Gets the forwarder's name: [service] name, or else the base name of the
 * configuration file without .ini, or of the guest's socket without its suffix,
 * or the guest's device or descriptor. Other bytes become _. */
void config_name(const struct config *config, char name[LOG_NAME_BYTES]);

/* Writes every key as a file that config_read() understands, each value as it
 * was written. Comments give the meaning of mode auto and of an empty name. */
void config_print(const struct config *config, FILE *out);

enum config_type {
	CONFIG_GUEST,    /* an endpoint */
	CONFIG_NETWORK,  /* an endpoint, or empty */
	CONFIG_PATH,     /* of a Unix socket, or empty */
	CONFIG_NAME,     /* fewer than LOG_NAME_BYTES, or empty */
	CONFIG_GATEWAY,  /* an IPv4 address, or empty */
	CONFIG_CIDRS,    /* networks separated by commas, or empty */
	CONFIG_DURATION, /* stored in ms */
	CONFIG_SECONDS,  /* a duration of whole seconds, stored in seconds */
	CONFIG_BYTES,
	CONFIG_NUMBER,
	CONFIG_MODE, /* permission bits, octal */
	CONFIG_USER, /* a name is looked up when it is parsed */
	CONFIG_YES_NO,
	CONFIG_KEEPALIVE,
	CONFIG_LOG_LEVEL,
};

/* Defaults and limits are text as in a file: they read like the manual, and go
 * through the same parser. */
struct config_key {
	const char *section, *name;
	enum config_type type;
	size_t offset, size; /* of the field in struct config */
	const char *initial; /* the default */
	const char *limits;  /* "MIN to MAX", or "MIN to MAX, or ALSO" */
};
extern const struct config_key config_keys[CONFIG_KEYS];

/* Returns NULL if there is no such key. */
const struct config_key *config_find(const char *section, const char *name);

/* Returns the table's copy of the section's name, or NULL if there is none. */
const char *config_section(const char *name);

/* Reports an unknown key or section, and suggests a similar one. */
void config_unknown(const char *where, const char *section, const char *name,
    struct config_problems *problems);

/* Sets the key's field. Returns 0, or -1 with the error set; the field may have
 * been cleared then. */
int config_value_parse(const struct config_key *key, const char *text,
    struct config *config, struct error *error);

/* Returns what the key accepts: "0 to 1h, or forever", "off, passive, arp". */
const char *config_limits(const struct config_key *key);

#endif
