/* The command line. options_parse() looks only at its form; the values of keys
 * are checked by options_configure(). */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include <stdbool.h>

#include "config/config.h"

#define OPTIONS_SETTINGS_MAX 64

enum options_mode {
	OPTIONS_RUN,
	OPTIONS_CHECK,
	OPTIONS_STATUS,
	OPTIONS_CAPTURE,
	OPTIONS_HELP,
	OPTIONS_VERSION,
	/* The program was called as socket_vmnet_client. The settings are those of
	 * the copy in the background, whose guest is fd:3; command is executed by
	 * the other process. */
	OPTIONS_VMNET_CLIENT,
};

/* All strings point into argv, or are static. */
struct options {
	enum options_mode mode;
	const char *config_path; /* NULL: no file is read */

	/* -g, -n and -o in their order; the last one wins. */
	struct options_setting {
		char flag;        /* g, n or o */
		const char *text; /* an endpoint, or SECTION.KEY=VALUE */
	} settings[OPTIONS_SETTINGS_MAX];
	int settings_count;

	int verbosity;  /* how often -v was given */
	char **command; /* words after --, then NULL; NULL: none */
	bool stream;    /* -g stream: the command's socket is a stream */

	/* forwarder status */
	const char *form; /* text, json or prometheus */
	bool watch;
	bool exit_code;
	bool all;
	const char *folder; /* of --all; NULL: the default ones */

	/* forwarder capture */
	const char *file; /* NULL: standard output */

	/* both */
	const char *socket; /* NULL: use the configured one */
};

/* Returns 0, or -1 with the error set. May be called again: it resets
 * getopt_long(). */
int options_parse(
    struct options *options, int argc, char **argv, struct error *error);

/* Applies the defaults, the file (of this kind), -g, -n, -o and -v, in that
 * order, then calls config_check() (except for status and capture). Use the
 * config only if there was no problem. With a command, ignore its guest
 * endpoint. */
void options_configure(const struct options *options, enum config_source source,
    struct config *config, struct config_problems *problems);

/* Every option. The parser, --help and the shells' completion use these tables.
 * The last row has no name (no word). */
struct options_row {
	int letter; /* 'c': -c; above 255: the option has no letter */
	const char *name;
	const char *value; /* the name of its value: "FILE"; NULL: none */
	unsigned modes;    /* bit 1 << OPTIONS_STATUS: allowed in status */
	const char *help;
};
extern const struct options_row options_rows[];

/* The first words that choose a mode. OPTIONS_RUN needs none. */
struct options_command {
	const char *word;
	enum options_mode mode;
	const char *help;
};
extern const struct options_command options_commands[];

/* Returns a negative number if writing failed. */
int options_print_help(FILE *out);
extern const char options_version[];

#endif
