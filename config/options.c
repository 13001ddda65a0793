#include "config/options.h"

#include <getopt.h>
#include <string.h>

#include "config/defaults.h"

const char options_version[] = "forwarder " VERSION "\n";

static const char synopsis[] =
    "Keeps a virtual machine on the network while everything around it fails\n"
    "and comes back.\n"
    "\n"
    "forwarder [-c FILE] [-g GUEST] [-n NETWORK] [-o SECTION.KEY=VALUE]...\n"
    "          [-v]... [-- COMMAND [ARG...]]\n"
    "forwarder --check [-c FILE] ...\n"
    "forwarder status [-c FILE | SOCKET | --all [FOLDER]]\n"
    "          [--json | --prometheus] [--watch | --exit-code]\n"
    "forwarder capture [-c FILE | SOCKET] [--write FILE]\n"
    "forwarder --help | --version\n"
    "socket_vmnet_client SOCKET [--] COMMAND [ARG...]   (a link to forwarder)\n"
    "\n";

static const char notes[] =
    "\n"
    "GUEST: fd:N, unixgram:PATH, listen-unix:PATH or (Linux) tap:NAME;\n"
    "    with a command: stream, or nothing for datagrams\n"
    "NETWORK: unix:PATH, unixgram:PATH, tcp:HOST:PORT, listen-unix:PATH,\n"
    "    listen-tcp:ADDR:PORT; exec:COMMAND or exec-dgram:COMMAND start the\n"
    "    daemon, with {fd} or {socket} where its socket goes\n"
    "COMMAND: started as the guest; {fd} in its arguments becomes the number "
    "of\n    its socket\n"
    "\n"
    "%s"
    "\n"
    "The keys are described in forwarder.ini(5).\n";

/* Stand for the letter of an option that has none, and of a word that is not an
 * option. */
enum { CHECK = 256, ALL, JSON, PROMETHEUS, WATCH, EXIT_CODE, WRITE, WORD };

#define RUN (1u << OPTIONS_RUN)
#define STATUS (1u << OPTIONS_STATUS)
#define CAPTURE (1u << OPTIONS_CAPTURE)
#define EVERY (RUN | STATUS | CAPTURE)

const struct options_row options_rows[] = {
	{ 'c', "config", "FILE", EVERY,
	    "read the configuration from this file" },
	{ 'g', "guest", "GUEST", RUN, "the virtual machine's side" },
	{ 'n', "network", "NETWORK", RUN,
	    "the side of the daemon or the other host" },
	{ 'o', "option", "SECTION.KEY=VALUE", RUN,
	    "set one key of the configuration" },
	{ 'v', "verbose", NULL, RUN, "log one level more" },
	{ CHECK, "check", NULL, RUN,
	    "print the configuration, or every problem" },
	{ ALL, "all", NULL, STATUS,
	    "ask every forwarder of this host, or below FOLDER" },
	{ JSON, "json", NULL, STATUS, "print one JSON object" },
	{ PROMETHEUS, "prometheus", NULL, STATUS,
	    "print metrics in the text format of Prometheus" },
	{ WATCH, "watch", NULL, STATUS, "print again every second" },
	{ EXIT_CODE, "exit-code", NULL, STATUS,
	    "exit with 0 if up, 1 if down, 69 without an answer" },
	{ WRITE, "write", "FILE", CAPTURE,
	    "write to this file, not to standard output" },
	{ 'h', "help", NULL, EVERY, "print this" },
	{ 'V', "version", NULL, EVERY, "print the version" },
	{ 0 },
};

const struct options_command options_commands[] = {
	{ "status", OPTIONS_STATUS, "print the status of a running forwarder" },
	{ "capture", OPTIONS_CAPTURE,
	    "copy the frames of a running forwarder as pcapng" },
	{ 0 },
};

#define ROWS (sizeof(options_rows) / sizeof(options_rows[0]))
#define HELP_COLUMN 23

/* Prints "  -c, --config FILE    read ..."; a name that is too long for its
 * column has a line of its own. */
static void
print_row(FILE *out, const struct options_row *row)
{
	char letter[] = "-c, ", name[64];
	int length;

	letter[1] = (char)row->letter;
	length = snprintf(name, sizeof(name), "%-4s--%s%s%s",
	    row->letter < CHECK ? letter : "", row->name, row->value ? " " : "",
	    row->value ? row->value : "");
	fprintf(out, "  %-*s%s%*s%s\n", HELP_COLUMN, name,
	    length < HELP_COLUMN ? "" : "\n",
	    length < HELP_COLUMN ? 0 : HELP_COLUMN + 2, "", row->help);
}

/* Prints the options of a mode, except those of the modes in `shown`. */
static void
print_options(FILE *out, enum options_mode mode, unsigned shown)
{
	for (const struct options_row *row = options_rows; row->name; row++)
		if ((row->modes & 1u << mode) && !(row->modes & shown))
			print_row(out, row);
}

int
options_print_help(FILE *out)
{
	fputs(synopsis, out);
	print_options(out, OPTIONS_RUN, 0);
	for (const struct options_command *c = options_commands; c->word; c++) {
		fprintf(out, "\n%s: %s\n", c->word, c->help);
		print_options(out, c->mode, RUN);
	}
	return fprintf(out, notes, defaults_example);
}

/* The options of a mode, in the form that getopt_long() takes. */
struct getopt_table {
	char letters[2 * ROWS + 3];
	struct option names[ROWS];
};

static struct getopt_table
getopt_table(enum options_mode mode)
{
	struct getopt_table table = { .letters = "+:" };
	struct option *name = table.names;
	char *letter = table.letters + strlen(table.letters);

	for (const struct options_row *row = options_rows; row->name; row++) {
		if (!(row->modes & 1u << mode))
			continue;
		*name++ = (struct option){ row->name,
			row->value ? required_argument : no_argument, NULL,
			row->letter };
		if (row->letter < CHECK)
			*letter++ = (char)row->letter;
		if (row->letter < CHECK && row->value)
			*letter++ = ':';
	}
	return table;
}

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

static enum options_mode
find_mode(const char *word)
{
	const struct options_command *command = options_commands;

	while (command->word && strcmp(command->word, word) != 0)
		command++;
	return command->word ? command->mode : OPTIONS_RUN;
}

/* Whether the mode asks a running forwarder. */
static bool
is_client(const struct options *options)
{
	return options->mode == OPTIONS_STATUS ||
	       options->mode == OPTIONS_CAPTURE;
}

static int
take_word(struct options *options, const char *word, struct error *error)
{
	if (is_client(options) && options->socket == NULL) {
		options->socket = word;
		return 0;
	}
	if (find_mode(word) != OPTIONS_RUN)
		return error_set(
		    error, "write \"%s\" first, before its options", word);
	return error_set(error, "unexpected argument \"%s\" (%s)", word,
	    options->mode == OPTIONS_STATUS
		? "status takes one socket or folder"
	    : options->mode == OPTIONS_CAPTURE ? "capture takes one socket"
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
	case ALL:
		options->all = true;
		return 0;
	case EXIT_CODE:
		options->exit_code = true;
		return 0;
	case WRITE:
		options->file = value;
		return 0;
	default:
		return add_setting(options, (char)letter, value, error);
	}
}

static bool
is_stream(const struct options_setting *setting)
{
	return setting->flag == 'g' && strcmp(setting->text, "stream") == 0;
}

/* Removes `-g stream` from the settings; any other guest is an error. */
static int
take_command_guest(struct options *options, struct error *error)
{
	int kept = 0;

	for (int i = 0; i < options->settings_count; i++) {
		const struct options_setting *s = &options->settings[i];

		if (is_stream(s))
			options->stream = true;
		else if (s->flag == 'g' ||
			 strncmp(s->text, "guest.endpoint=", 15) == 0)
			return error_set(error,
			    "-%c %s: the command after -- is already the guest",
			    s->flag, s->text);
		else
			options->settings[kept++] = *s;
	}
	options->settings_count = kept;
	return 0;
}

static int
take_command(struct options *options, char **words, struct error *error)
{
	if (*words == NULL)
		return error_set(error, "no command follows --");
	if (take_command_guest(options, error) < 0)
		return -1;
	options->command = words;
	for (; *words != NULL; words++)
		if (strstr(*words, "{fd}") != NULL)
			return 0;
	return error_set(
	    error, "the command needs {fd} for the number of its socket");
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
	const struct getopt_table table = getopt_table(options->mode);
	bool client = is_client(options);

	opterr = 0;
	optind = 0; /* restarts getopt_long(), also on macOS */
	for (int at = 1; at < argc; at = optind) {
		const char *word = argv[at];
		int letter =
		    getopt_long(argc, argv, table.letters, table.names, NULL);

		if (letter == 'h' || letter == 'V') {
			options->mode =
			    letter == 'h' ? OPTIONS_HELP : OPTIONS_VERSION;
			return 0;
		}
		if (letter == '?' || letter == ':')
			return explain(word, letter, error);
		if (letter == -1 && optind > at) { /* this was -- */
			if (!client)
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

/* With --all, the word is a folder. */
static int
complete_client(struct options *options, struct error *error)
{
	if (options->all && options->config_path != NULL)
		return error_set(error, "give either -c or --all, not both");
	if (options->socket != NULL && options->config_path != NULL)
		return error_set(error, "give either -c or a socket, not both");
	if (options->watch && options->exit_code)
		return error_set(
		    error, "give either --watch or --exit-code, not both");
	if (options->all) {
		options->folder = options->socket;
		options->socket = NULL;
	}
	return 0;
}

#define CLIENT "socket_vmnet_client"

static bool
is_called_client(const char *name)
{
	const char *slash = name ? strrchr(name, '/') : NULL;

	return name && strcmp(slash ? slash + 1 : name, CLIENT) == 0;
}

/* Takes the arguments of that program (client/main.c in lima-vm/socket_vmnet): a
 * socket, -- if the caller likes, and a command. The daemon ends at a frame of
 * more than 65,536 bytes. */
static int
parse_client(struct options *options, char **words, struct error *error)
{
	static char network[sizeof("unix:") + ENDPOINT_PATH_BYTES];
	char **command = words[0] ? words + 1 : words;

	if (*command && strcmp(*command, "--") == 0)
		command++;
	if (!*command)
		return error_set(
		    error, "use it as " CLIENT " SOCKET COMMAND [ARG...]");
	if (snprintf(network, sizeof(network), "unix:%s", words[0]) >=
	    (int)sizeof(network))
		return error_set(
		    error, "%s: too long for the path of a socket", words[0]);
	options->mode = OPTIONS_VMNET_CLIENT;
	options->command = command;
	add_setting(options, 'g', "fd:3", error);
	add_setting(options, 'n', network, error);
	add_setting(options, 'o', "network.max_frame=65536", error);
	return 0;
}

int
options_parse(
    struct options *options, int argc, char **argv, struct error *error)
{
	bool named;

	*options = (struct options){ .form = "text" };
	if (is_called_client(argv[0]))
		return parse_client(options, argv + 1, error);
	options->mode = find_mode(argc > 1 ? argv[1] : "");
	named = options->mode != OPTIONS_RUN;
	if (parse_words(options, argc - named, argv + named, error) < 0)
		return -1;
	if (is_client(options))
		return complete_client(options, error);
	for (int i = 0; i < options->settings_count; i++)
		if (is_stream(&options->settings[i]))
			return error_set(
			    error, "-g stream: needs a command after --");
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
	if (!is_client(options))
		config_check(config, problems);
}
