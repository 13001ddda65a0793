#include "config/options.h"

#include <getopt.h>
#include <string.h>

#include "config/defaults.h"

const char options_version[] = "forwarder " VERSION "\n";

static const char help[] =
    "Keeps a virtual machine on the network while everything around it fails\n"
    "and comes back.\n"
    "\n"
    "forwarder [-c FILE] [-g GUEST] [-n NETWORK] [-o SECTION.KEY=VALUE]...\n"
    "          [-v]... [-- COMMAND [ARG...]]\n"
    "forwarder --check [-c FILE] ...\n"
    "forwarder status [-c FILE | SOCKET] [--json | --prometheus] [--watch]\n"
    "forwarder --help | --version\n"
    "\n"
    "  -c, --config FILE      read the configuration from this file\n"
    "  -g, --guest GUEST      fd:N, unixgram:PATH or (Linux) tap:NAME\n"
    "  -n, --network NETWORK  unix:PATH, tcp:HOST:PORT, listen-unix:PATH or\n"
    "                         listen-tcp:ADDR:PORT\n"
    "  -o, --option SECTION.KEY=VALUE\n"
    "                         set one key of the configuration\n"
    "  -v, --verbose          log one level more\n"
    "  -- COMMAND             start this as the guest; {fd} in its arguments\n"
    "                         becomes the number of its socket\n"
    "      --check            print the configuration, or every problem\n"
    "  status                 print the status of a running forwarder\n"
    "  -h, --help             print this\n"
    "  -V, --version          print the version\n"
    "\n"
    "%s"
    "\n"
    "The keys are described in forwarder.ini(5).\n";

int
options_print_help(FILE *out)
{
	return fprintf(out, help, defaults_example);
}

/* The options without a letter, for getopt_long(). WORD is a word that is not
 * an option. */
enum { CHECK = 256, JSON, PROMETHEUS, WATCH, WORD };

static const char run_letters[] = "+:c:g:n:o:vhV";
static const struct option run_names[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "guest", required_argument, NULL, 'g' },
	{ "network", required_argument, NULL, 'n' },
	{ "option", required_argument, NULL, 'o' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "check", no_argument, NULL, CHECK },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};
static const char status_letters[] = "+:c:hV";
static const struct option status_names[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "json", no_argument, NULL, JSON },
	{ "prometheus", no_argument, NULL, PROMETHEUS },
	{ "watch", no_argument, NULL, WATCH },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static int
set_path(struct options *options, const char *path, struct error *error)
{
	if (options->config_path != NULL)
		return error_set(error, "-c %s: given twice, first as -c %s",
		    path, options->config_path);
	if (*path == '\0')
		return error_set(error, "-c needs the name of a file");
	options->config_path = path;
	return 0;
}

static int
set_form(struct options *options, const char *form, struct error *error)
{
	if (strcmp(options->form, "text") != 0 &&
	    strcmp(options->form, form) != 0)
		return error_set(
		    error, "give either --json or --prometheus, not both");
	options->form = form;
	return 0;
}

static int
add_setting(
    struct options *options, char flag, const char *text, struct error *error)
{
	const char *dot = strchr(text, '.'), *equals = strchr(text, '=');

	if (flag == 'o' && (dot == NULL || equals == NULL || dot > equals))
		return error_set(error, "-o %s: not SECTION.KEY=VALUE", text);
	if (options->settings_count == OPTIONS_SETTINGS_MAX)
		return error_set(error, "-%c %s: more than %d of -g, -n and -o",
		    flag, text, OPTIONS_SETTINGS_MAX);
	options->settings[options->settings_count++] =
	    (struct options_setting){ flag, text };
	return 0;
}

static int
take_word(struct options *options, const char *word, struct error *error)
{
	if (options->mode == OPTIONS_STATUS && options->socket == NULL) {
		options->socket = word;
		return 0;
	}
	if (strcmp(word, "status") == 0)
		return error_set(
		    error, "write \"status\" first, before its options");
	return error_set(error, "unexpected argument \"%s\" (%s)", word,
	    options->mode == OPTIONS_STATUS ? "status takes one socket"
					    : "a command goes after --");
}

static int
take(
    struct options *options, int letter, const char *value, struct error *error)
{
	switch (letter) {
	case WORD:
		return take_word(options, value, error);
	case JSON:
		return set_form(options, "json", error);
	case PROMETHEUS:
		return set_form(options, "prometheus", error);
	case 'c':
		return set_path(options, value, error);
	case CHECK:
		options->mode = OPTIONS_CHECK;
		return 0;
	case 'v':
		options->verbosity++;
		return 0;
	case WATCH:
		options->watch = true;
		return 0;
	default:
		return add_setting(options, (char)letter, value, error);
	}
}

static int
take_command(struct options *options, char **words, struct error *error)
{
	if (*words == NULL)
		return error_set(error, "no command follows --");
	for (int i = 0; i < options->settings_count; i++) {
		const struct options_setting *s = &options->settings[i];

		if (s->flag == 'g' ||
		    strncmp(s->text, "guest.endpoint=", 15) == 0)
			return error_set(error,
			    "-%c %s: the command after -- is already the guest",
			    s->flag, s->text);
	}
	options->command = words;
	for (; *words != NULL; words++)
		if (strstr(*words, "{fd}") != NULL)
			return 0;
	return error_set(error,
	    "the command needs {fd} where the number of its socket goes");
}

/* Sets the error for `word`, for which getopt_long() has returned this
 * letter. */
static int
explain(const char *word, int letter, struct error *error)
{
	char brief[] = { '-', (char)optopt, '\0' };
	int length = (int)strcspn(word, "=");

	if (word[1] != '-') {
		word = brief;
		length = 2;
	} else if (optopt != 0 && word[length] == '=') {
		return error_set(
		    error, "option \"%.*s\" takes no value", length, word);
	}
	return error_set(error,
	    letter == ':' ? "option \"%.*s\" needs a value"
			  : "unknown option \"%.*s\"",
	    length, word);
}

static int
parse_words(struct options *options, int argc, char **argv, struct error *error)
{
	bool status = options->mode == OPTIONS_STATUS;
	const char *letters = status ? status_letters : run_letters;
	const struct option *names = status ? status_names : run_names;

	opterr = 0;
	optind = 0; /* restarts getopt_long(), also on macOS */
	for (int at = 1; at < argc; at = optind) {
		const char *word = argv[at];
		int letter = getopt_long(argc, argv, letters, names, NULL);

		if (letter == 'h' || letter == 'V') {
			options->mode =
			    letter == 'h' ? OPTIONS_HELP : OPTIONS_VERSION;
			return 0;
		}
		if (letter == '?' || letter == ':')
			return explain(word, letter, error);
		if (letter == -1 && optind > at) { /* this was -- */
			if (!status)
				return take_command(
				    options, argv + optind, error);
			continue;
		}
		if (letter == -1) {
			letter = WORD;
			optarg = argv[optind++];
		}
		if (take(options, letter, optarg, error) < 0)
			return -1;
	}
	return 0;
}

int
options_parse(
    struct options *options, int argc, char **argv, struct error *error)
{
	bool status = argc > 1 && strcmp(argv[1], "status") == 0;

	*options = (struct options){ .form = "text" };
	if (status)
		options->mode = OPTIONS_STATUS;
	if (parse_words(options, argc - status, argv + status, error) < 0)
		return -1;
	if (options->socket != NULL && options->config_path != NULL)
		return error_set(error, "give either -c or a socket, not both");
	/* A start with the defaults alone can only be a mistake. */
	if (options->mode == OPTIONS_RUN && options->config_path == NULL &&
	    options->settings_count == 0 && options->command == NULL)
		return error_set(error,
		    "name a network and a guest, for example: %s",
		    defaults_usage);
	return 0;
}

/* Splits SECTION.KEY=VALUE, whose form options_parse() has checked. */
static void
set_key(struct config *config, const char *text, const char *where,
    struct config_problems *problems)
{
	int dot = (int)strcspn(text, "."), equals = (int)strcspn(text, "=");
	char section[64], key[64]; /* a name that is cut is unknown */

	snprintf(section, sizeof(section), "%.*s", dot, text);
	snprintf(key, sizeof(key), "%.*s", equals - dot - 1, text + dot + 1);
	config_set(config, section, key, text + equals + 1, 0, where, problems);
}

static void
apply(struct config *config, const struct options_setting *setting,
    struct config_problems *problems)
{
	struct error where;

	error_set(&where, "-%c %s", setting->flag, setting->text);
	if (setting->flag == 'o')
		set_key(config, setting->text, where.text, problems);
	else
		config_set(config, setting->flag == 'g' ? "guest" : "network",
		    "endpoint", setting->text, 0, where.text, problems);
}

void
options_configure(const struct options *options, enum config_source source,
    struct config *config, struct config_problems *problems)
{
	static const char *const levels[] = { "error", "warn", "info",
		"debug" };
	int level;

	config_defaults(config);
	if (options->config_path != NULL)
		config_read(config, options->config_path, source, problems);
	for (int i = 0; i < options->settings_count; i++)
		apply(config, &options->settings[i], problems);
	level = (int)config->log.level + options->verbosity;
	if (options->verbosity > 0)
		config_set(config, "log", "level",
		    levels[level < LOG_LEVEL_DEBUG ? level : LOG_LEVEL_DEBUG],
		    0, "-v", problems);
	if (options->mode != OPTIONS_STATUS)
		config_check(config, problems);
}
