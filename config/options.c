#include "config/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "config/defaults.h"
#include "config/hint.h"

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
    "  -g, --guest GUEST      %s\n"
    "  -n, --network NETWORK  unix:PATH, tcp:HOST:PORT, listen-unix:PATH or\n"
    "                         listen-tcp:ADDR:PORT\n"
    "  -o, --option SECTION.KEY=VALUE\n"
    "                         set one key of the configuration\n"
    "  -v, --verbose          log one level more\n"
    "  -- COMMAND             start this as the guest; {fd} in its arguments\n"
    "                         becomes the number of its socket\n"
    "      --check            print what would run, or every problem\n"
    "  status                 ask a running forwarder how it is\n"
    "  -h, --help             print this\n"
    "  -V, --version          print the version\n"
    "\n"
    "%s"
    "\n"
    "The keys are described in forwarder.ini(5).\n";

int
options_print_help(FILE *out)
{
	return fprintf(out, help, defaults_guests, defaults_example);
}

/* What getopt_long() returns for options without a letter. */
enum { CHECK = 256, JSON, PROMETHEUS, WATCH };

/* One for each form of the command line. Taking something returns 0, or -1
 * with the problem. */
struct grammar {
	const char *letters; /* + stops at the first word that is no option */
	const struct option *names;
	int (*take)(struct options *options, int letter, const char *value);
	int (*take_word)(struct options *options, const char *word);
	int (*take_rest)(struct options *options, char **words); /* after -- */
};

static int refuse(struct options *options, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int
refuse(struct options *options, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(
	    options->problem, sizeof(options->problem), format, arguments);
	va_end(arguments);
	return -1;
}

static int
set_path(struct options *options, const char *path)
{
	if (options->config_path != NULL)
		return refuse(options, "-c %s: there is already -c %s", path,
		    options->config_path);
	options->config_path = path;
	return 0;
}

static int
add_setting(struct options *options, char flag, const char *text)
{
	const char *dot = strchr(text, '.'), *equals = strchr(text, '=');

	if (flag == 'o' && (dot == NULL || equals == NULL || dot > equals))
		return refuse(options, "-o %s: not SECTION.KEY=VALUE", text);
	if (options->settings_count == OPTIONS_SETTINGS_MAX)
		return refuse(options, "-%c %s: more than %d of -g, -n and -o",
		    flag, text, OPTIONS_SETTINGS_MAX);
	options->settings[options->settings_count++] =
	    (struct options_setting){ flag, text };
	return 0;
}

static int
take_run_option(struct options *options, int letter, const char *value)
{
	switch (letter) {
	case CHECK:
		options->mode = OPTIONS_CHECK;
		return 0;
	case 'v':
		options->verbosity++;
		return 0;
	case 'c':
		return set_path(options, value);
	default:
		return add_setting(options, (char)letter, value);
	}
}

static int
refuse_word(struct options *options, const char *word)
{
	if (strcmp(word, "status") == 0)
		return refuse(options, "\"status\" comes before its options");
	return refuse(options,
	    "unexpected argument \"%s\" (a command stands after --)", word);
}

static int
take_command(struct options *options, char **words)
{
	if (*words == NULL)
		return refuse(options, "no command follows --");
	for (int i = 0; i < options->settings_count; i++) {
		const char *text = options->settings[i].text;

		if (options->settings[i].flag == 'g' ||
		    strncmp(text, "guest.endpoint=", 15) == 0)
			return refuse(options,
			    "-%c %s: the command after -- is the guest already",
			    options->settings[i].flag, text);
	}
	options->command = words;
	for (; *words != NULL; words++)
		if (strstr(*words, "{fd}") != NULL)
			return 0;
	return refuse(options, "nothing in the command says {fd}, where the "
			       "number of its descriptor goes");
}

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
static const struct grammar run_grammar = { "+:c:g:n:o:vhV", run_names,
	take_run_option, refuse_word, take_command };

static int
set_form(struct options *options, enum options_form form)
{
	if (options->form != OPTIONS_TEXT && options->form != form)
		return refuse(
		    options, "--json and --prometheus exclude each other");
	options->form = form;
	return 0;
}

static int
take_status_option(struct options *options, int letter, const char *value)
{
	switch (letter) {
	case JSON:
		return set_form(options, OPTIONS_JSON);
	case PROMETHEUS:
		return set_form(options, OPTIONS_PROMETHEUS);
	case WATCH:
		options->watch = true;
		return 0;
	default:
		return set_path(options, value);
	}
}

static int
take_socket(struct options *options, const char *word)
{
	if (options->socket != NULL)
		return refuse(options,
		    "unexpected argument \"%s\": status takes one socket",
		    word);
	options->socket = word;
	return 0;
}

static int
take_sockets(struct options *options, char **words)
{
	int result = 0;

	for (; *words != NULL && result == 0; words++)
		result = take_socket(options, *words);
	return result;
}

static const struct option status_names[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "json", no_argument, NULL, JSON },
	{ "prometheus", no_argument, NULL, PROMETHEUS },
	{ "watch", no_argument, NULL, WATCH },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};
static const struct grammar status_grammar = { "+:c:hV", status_names,
	take_status_option, take_socket, take_sockets };

/* The option that a long one may have been meant to be, or NULL: one that it
 * begins, or the nearest. */
static const char *
nearest(const struct option *names, const char *typed, size_t length)
{
	const char *found = NULL;
	char name[32];
	size_t best = SIZE_MAX;

	snprintf(name, sizeof(name), "%.*s", (int)length, typed);
	for (; names->name != NULL; names++)
		if (strncmp(names->name, typed, length) == 0)
			return names->name;
		else if (hint_is_nearer(name, names->name, &best))
			found = names->name;
	return found;
}

static int
refuse_long(struct options *options, const struct grammar *grammar,
    const char *word, int letter)
{
	size_t length = strcspn(word, "=");
	const char *meant = nearest(grammar->names, word + 2, length - 2);

	if (optopt != 0 && word[length] == '=')
		return refuse(options, "option \"%.*s\" takes no value",
		    (int)length, word);
	if (letter == ':')
		return refuse(options, "option \"%s\" needs a value", word);
	if (meant == NULL)
		return refuse(
		    options, "unknown option \"%.*s\"", (int)length, word);
	return refuse(options,
	    "unknown option \"%.*s\" (did you mean \"--%s\"?)", (int)length,
	    word, meant);
}

/* What getopt_long() refused with this letter. */
static int
refuse_option(struct options *options, const struct grammar *grammar,
    const char *word, int letter)
{
	if (word[1] == '-')
		return refuse_long(options, grammar, word, letter);
	if (letter == ':')
		return refuse(options, "option \"-%c\" needs a value", optopt);
	return refuse(options, "unknown option \"-%c\"", optopt);
}

static int
parse_words(struct options *options, const struct grammar *grammar, int argc,
    char **argv)
{
	opterr = 0;
	optind = 0; /* from the start, with macOS's getopt_long(), too */
	for (int at = 1; at < argc; at = optind) {
		const char *word = argv[at];
		int letter = getopt_long(
		    argc, argv, grammar->letters, grammar->names, NULL);

		if (letter == 'h' || letter == 'V') {
			options->mode =
			    letter == 'h' ? OPTIONS_HELP : OPTIONS_VERSION;
			return 0;
		}
		if (letter == '?' || letter == ':')
			return refuse_option(options, grammar, word, letter);
		if (letter == -1 && optind > at) /* this was -- */
			return grammar->take_rest(options, argv + optind);
		if (letter == -1 ? grammar->take_word(options, argv[optind++])
				 : grammar->take(options, letter, optarg))
			return -1;
	}
	return 0;
}

/* What only the whole command line tells. Nobody means a start with the
 * defaults alone. */
static int
judge(struct options *options)
{
	if (options->socket != NULL && options->config_path != NULL)
		return refuse(options, "-c and a socket exclude each other");
	if (options->mode == OPTIONS_RUN && options->config_path == NULL &&
	    options->settings_count == 0 && options->command == NULL)
		return refuse(options,
		    "say which network and which guest, for example: %s",
		    defaults_usage);
	return 0;
}

int
options_parse(struct options *options, int argc, char **argv)
{
	bool status = argc > 1 && strcmp(argv[1], "status") == 0;

	*options = (struct options){ .mode = OPTIONS_RUN };
	if (status)
		options->mode = OPTIONS_STATUS;
	if (parse_words(options, status ? &status_grammar : &run_grammar,
		argc - status, argv + status) < 0)
		return -1;
	return judge(options);
}

/* Splits SECTION.KEY=VALUE, which options_parse() has seen to be one. What is
 * cut here is longer than any name, and so unknown. */
static void
set_key(struct config *config, const char *text, const char *where,
    struct config_problems *problems)
{
	char section[64], name[64];
	const char *dot = strchr(text, '.'), *equals = strchr(text, '=');

	snprintf(section, sizeof(section), "%.*s", (int)(dot - text), text);
	snprintf(name, sizeof(name), "%.*s", (int)(equals - dot - 1), dot + 1);
	config_set(config, section, name, equals + 1, where, problems);
}

static void
apply(struct config *config, const struct options_setting *setting,
    struct config_problems *problems)
{
	char where[CONFIG_TEXT_BYTES];

	snprintf(where, sizeof(where), "-%c %s", setting->flag, setting->text);
	if (setting->flag == 'o')
		set_key(config, setting->text, where, problems);
	else
		config_set(config, setting->flag == 'g' ? "guest" : "network",
		    "endpoint", setting->text, where, problems);
}

int
options_configure(const struct options *options, enum config_source source,
    struct config *config, struct config_problems *problems)
{
	int before = problems->count;

	config_defaults(config);
	if (options->config_path != NULL)
		config_load(config, options->config_path, source, problems);
	for (int i = 0; i < options->settings_count; i++)
		apply(config, &options->settings[i], problems);
	if (options->mode != OPTIONS_STATUS)
		config_check(config, problems);
	config->log.level += options->verbosity;
	if (config->log.level > LOG_LEVEL_DEBUG)
		config->log.level = LOG_LEVEL_DEBUG;
	return problems->count - before;
}
