/* What a forwarder.ini says, checked and in the units the program works in.
 * One table of keys (config.c) feeds the parser, the -o option, --check, the
 * hint for a mistyped key and the test that reads the annotated forwarder.ini.
 * Reads files and looks up users; opens nothing else, starts nothing, logs
 * nothing. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/log.h"
#include "keepalive/keepalive.h"

#define CONFIG_FOREVER (-1) /* hold = forever */
#define CONFIG_NO_USER (-1) /* user is empty; (uid_t)-1 is no user's number */
#define CONFIG_TEXT_BYTES 512
#define CONFIG_KEYS 25

struct config {
	struct {
		char endpoint[CONFIG_TEXT_BYTES];
		int64_t mode; /* of the socket: permission bits */
		int64_t stall_ms;
	} guest;
	struct {
		char endpoint[CONFIG_TEXT_BYTES];
		int64_t hold_ms;     /* or CONFIG_FOREVER */
		int64_t max_frame;   /* bytes */
		int64_t write_batch; /* bytes, 0: one frame a write */
		int64_t write_stall_ms;
		int64_t announce; /* 0 or 1, as all yes/no keys */
		int64_t user;     /* its number, or CONFIG_NO_USER */
		char allow[CONFIG_TEXT_BYTES];
	} network;
	struct {
		int64_t min_ms, max_ms;
		int64_t jitter_percent;
		int64_t watch;
	} reconnect;
	struct {
		int64_t mode; /* enum keepalive_mode */
		int64_t interval_ms;
		int64_t count;
		char gateway[CONFIG_TEXT_BYTES];
		int64_t tcp_idle_ms, tcp_interval_ms;
		int64_t tcp_count;
	} keepalive;
	struct {
		int64_t level; /* enum log_level */
	} log;
	struct {
		char name[CONFIG_TEXT_BYTES]; /* or empty, see config_name() */
	} service;
	struct {
		char socket[CONFIG_TEXT_BYTES];
	} control;

	/* Where the keys were set, in the order of config_keys[]; so that the
	 * cross checks can name the line and leave out what is wrong anyway. */
	const char *file; /* as named to config_read(), NULL: none */
	struct config_origin {
		int line;   /* of the file; 0: the default, or -o */
		bool wrong; /* a value was refused, the field is as before */
	} origin[CONFIG_KEYS];
};

/* Problems go to a sink, one line each, without a line feed. Zero-initialise
 * all but tell and context; without tell they are only counted. */
struct config_problems {
	void (*tell)(void *context, const char *line);
	void *context;
	int count;
};
void config_problem(struct config_problems *problems, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Every function below that returns int returns how many problems it told. */

void config_defaults(struct config *config);

/* Sets what the file says. `name` leads the problems and must live as long
 * as the config. A reload reads into a fresh struct and keeps it only if
 * there was no problem. */
int config_read(struct config *config, FILE *file, const char *name,
    struct config_problems *problems);

/* What may stand at a path: a FIFO or a terminal can keep its reader waiting. */
enum config_source {
	CONFIG_ANY_FILE,
	CONFIG_REGULAR_FILE, /* anything else is a problem, and is not read */
};

/* The same for a path; one that can't be opened is a problem. */
int config_load(struct config *config, const char *path,
    enum config_source source, struct config_problems *problems);

/* Sets one key; `where` leads the problem ("-o network.hold=x"). */
int config_set(struct config *config, const char *section, const char *name,
    const char *value, const char *where, struct config_problems *problems);

/* What no key can know by itself: values that exclude each other. */
int config_check(const struct config *config, struct config_problems *problems);

/* What this forwarder is called: [service] name, or else the configuration
 * file's base name without .ini, or that of the guest's socket without suffix,
 * or the guest's device or descriptor. Bytes that a name can't hold become _. */
void config_name(const struct config *config, char name[LOG_NAME_BYTES]);

/* Writes every key as a file that config_read() understands. A comment behind
 * a value that leaves something open says what it comes to. */
void config_print(const struct config *config, FILE *out);

/* The table of keys. Text is what a file would say, so that default and
 * limits read like the manual and pass through the same parser. */
enum config_type {
	CONFIG_GUEST,    /* an endpoint */
	CONFIG_NETWORK,  /* an endpoint */
	CONFIG_PATH,     /* of a Unix socket, or empty */
	CONFIG_NAME,     /* fewer than LOG_NAME_BYTES, or empty */
	CONFIG_IPV4,     /* or empty */
	CONFIG_CIDRS,    /* networks with commas between them, or empty */
	CONFIG_DURATION, /* stored in ms */
	CONFIG_SECONDS,  /* likewise, but a whole number of seconds */
	CONFIG_BYTES,
	CONFIG_NUMBER,
	CONFIG_MODE, /* permission bits, octal */
	CONFIG_USER, /* stored as its number; a name is looked up once, here */
	CONFIG_CHOICE,
};

struct config_key {
	const char *section, *name;
	enum config_type type;
	size_t offset;       /* of the field in struct config */
	const char *initial; /* the default */
	const char *min, *max;
	const char *also; /* accepted outside the limits: 0 or forever */
	const char *const *choices; /* the value is an index; ends with NULL */
	const char *doc;            /* one sentence */
};
extern const struct config_key config_keys[CONFIG_KEYS];

/* NULL if there is no such key. */
const struct config_key *config_find(const char *section, const char *name);

bool config_has_section(const char *section);

/* Writes " (did you mean "network"?)", or nothing if no section's name is
 * close. */
void config_section_hint(const char *section, char *hint, size_t room);

/* Writes what the key accepts: "0 to 1h, or forever", "off, passive, arp". */
void config_limits(const struct config_key *key, char *limits, size_t room);

#endif
