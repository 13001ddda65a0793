/* What the command line asks for. Parsing looks at words only; the values of
 * keys are judged when options_configure() puts the configuration together. */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include <stdbool.h>

#include "config/config.h"

#define OPTIONS_SETTINGS_MAX 64

enum options_mode {
	OPTIONS_RUN,
	OPTIONS_CHECK,
	OPTIONS_STATUS,
	OPTIONS_HELP,
	OPTIONS_VERSION,
};

/* All text is argv's own. */
struct options {
	enum options_mode mode;
	const char *config_path; /* NULL: no file is read */

	/* -g, -n and -o in the order they came; the last one wins. */
	struct options_setting {
		char flag;        /* g, n or o */
		const char *text; /* an endpoint, or SECTION.KEY=VALUE */
	} settings[OPTIONS_SETTINGS_MAX];
	int settings_count;

	int verbosity;  /* levels of the log to go up */
	char **command; /* what follows --, ends with NULL; NULL: none */

	/* forwarder status */
	const char *form; /* text, json or prometheus */
	bool watch;
	const char *socket; /* NULL: as the configuration says */
};

/* Returns 0, or -1 with the error set. Keeps and needs nothing of getopt(3)'s
 * state. */
int options_parse(
    struct options *options, int argc, char **argv, struct error *error);

/* Puts together defaults, the file (of this kind), -g, -n, -o, -v and the cross
 * checks (which don't matter to status), in that order. Use the config only if
 * there was no problem; with a command its guest endpoint means nothing. */
void options_configure(const struct options *options, enum config_source source,
    struct config *config, struct config_problems *problems);

/* Returns a negative number if it can't be written. */
int options_print_help(FILE *out);
extern const char options_version[];

#endif
