#include "program/options.h"

#include <stdarg.h>
#include <string.h>

const char options_version[] = "forwarder " VERSION "\n";

const char options_help[] =
    "Keeps a virtual machine on the network while everything around it fails\n"
    "and comes back.\n"
    "\n"
    "forwarder [-c FILE] [-g GUEST] [-n NETWORK] [-o SECTION.KEY=VALUE]...\n"
    "          [-v]... [-- COMMAND [ARG...]]\n"
    "forwarder --check [-c FILE] ...\n"
    "forwarder status [-c FILE | SOCKET] [--json | --prometheus] [--watch]\n"
    "forwarder --help | --version\n"
    "\n"
    "  -c FILE               the configuration (without: the defaults)\n"
    "  -g GUEST              fd:N, unixgram:PATH or tap:NAME\n"
    "  -n NETWORK            unix:PATH, tcp:HOST:PORT, listen-unix:PATH or\n"
    "                        listen-tcp:ADDR:PORT\n"
    "  -o SECTION.KEY=VALUE  one key of the configuration\n"
    "  -v                    log one level more\n"
    "  -- COMMAND            start this as the guest; {fd} in its arguments\n"
    "                        becomes the number of its socket\n"
    "  --check               print what would run, or every problem\n"
    "  status                ask a running forwarder how it is\n"
    "\n"
    "Example, a virtual machine on socket_vmnet:\n"
    "  forwarder -n unix:/var/run/socket_vmnet -- qemu-system-x86_64 ... \\\n"
    "      -netdev dgram,id=n0,local.type=fd,local.str={fd} \\\n"
    "      -device virtio-net-pci,netdev=n0\n"
    "\n"
    "The keys are described in forwarder.ini(5).\n";

/* The words not yet read. */
struct words {
	char **next; /* ends with NULL */
	struct options *options;
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
		return refuse(options, "-c %s: there is a -c before", path);
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

/* Takes the value of -c, -g, -n or -o: the rest of the word, or the next. */
static int
take_valued(struct words *words, char flag, const char *rest)
{
	const char *value = *rest != '\0' ? rest : *words->next;

	if (value == NULL)
		return refuse(
		    words->options, "-%c: its value is missing", flag);
	if (value != rest)
		words->next++;
	if (flag == 'c')
		return set_path(words->options, value);
	return add_setting(words->options, flag, value);
}

/* Takes a word such as -v, -vv, -cFILE or -vc FILE. */
static int
take_letters(struct words *words, const char *letters)
{
	for (; *letters == 'v'; letters++)
		words->options->verbosity++;
	if (*letters == '\0')
		return 0;
	if (strchr("cgno", *letters) == NULL)
		return refuse(
		    words->options, "-%c: there is no such option", *letters);
	return take_valued(words, *letters, letters + 1);
}

static int
take_command(struct words *words)
{
	struct options *options = words->options;
	bool has_place = false;

	if (*words->next == NULL)
		return refuse(options, "--: no command follows");
	for (int i = 0; i < options->settings_count; i++) {
		const char *text = options->settings[i].text;

		if (options->settings[i].flag == 'g' ||
		    strncmp(text, "guest.endpoint=", 15) == 0)
			return refuse(options,
			    "-%c %s: the command after -- is the guest already",
			    options->settings[i].flag, text);
	}
	options->command = words->next;
	for (; *words->next != NULL; words->next++)
		has_place = has_place || strstr(*words->next, "{fd}") != NULL;
	if (!has_place)
		return refuse(options, "nothing in the command says {fd}, "
				       "where the descriptor number goes");
	return 0;
}

static int
take_word(struct words *words, const char *word)
{
	struct options *options = words->options;

	if (strcmp(word, "--") == 0)
		return take_command(words);
	if (strcmp(word, "--check") == 0)
		options->mode = OPTIONS_CHECK;
	else if (strncmp(word, "--", 2) == 0)
		return refuse(options, "%s: there is no such option", word);
	else if (word[0] == '-' && word[1] != '\0')
		return take_letters(words, word + 1);
	else
		return refuse(options,
		    "\"%s\": what is that? (a command stands after --)", word);
	return 0;
}

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
take_status_word(struct words *words, const char *word)
{
	struct options *options = words->options;

	if (strcmp(word, "--json") == 0)
		return set_form(options, OPTIONS_JSON);
	if (strcmp(word, "--prometheus") == 0)
		return set_form(options, OPTIONS_PROMETHEUS);
	if (strcmp(word, "--watch") == 0) {
		options->watch = true;
		return 0;
	}
	if (strncmp(word, "-c", 2) == 0)
		return take_valued(words, 'c', word + 2);
	if (*word == '-')
		return refuse(options, "%s: status has no such option", word);
	if (options->socket != NULL)
		return refuse(options, "\"%s\": status takes one socket", word);
	options->socket = word;
	return 0;
}

/* Help and version are given whatever else is asked, wrong or not. */
static bool
take_request(struct options *options, const char *word)
{
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		options->mode = OPTIONS_HELP;
	else if (strcmp(word, "--version") == 0)
		options->mode = OPTIONS_VERSION;
	else
		return false;
	return true;
}

int
options_parse(struct options *options, int argc, char **argv)
{
	struct words words = { argv + (argc > 0), options };
	int (*take)(struct words *, const char *) = take_word;

	*options = (struct options){ .mode = OPTIONS_RUN };
	if (*words.next != NULL && strcmp(*words.next, "status") == 0) {
		options->mode = OPTIONS_STATUS;
		take = take_status_word;
		words.next++;
	}
	while (*words.next != NULL) {
		const char *word = *words.next++;

		if (take_request(options, word))
			return 0;
		if (take(&words, word))
			return -1;
	}
	if (options->socket != NULL && options->config_path != NULL)
		return refuse(options, "-c and a socket exclude each other");
	return 0;
}

/* Splits SECTION.KEY=VALUE, which options_parse() has seen to be one. A part
 * too long for a name becomes empty, and so unknown. */
static void
set_key(struct config *config, const char *text, const char *where,
    struct config_problems *problems)
{
	char section[64] = "", name[64] = "";
	size_t dot = strcspn(text, "."), equals = strcspn(text, "=");

	if (dot < sizeof(section))
		memcpy(section, text, dot);
	if (equals - dot - 1 < sizeof(name))
		memcpy(name, text + dot + 1, equals - dot - 1);
	config_set(config, section, name, text + equals + 1, where, problems);
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
options_configure(const struct options *options, struct config *config,
    struct config_problems *problems)
{
	int before = problems->count;

	config_defaults(config);
	if (options->config_path != NULL)
		config_load(config, options->config_path, problems);
	for (int i = 0; i < options->settings_count; i++)
		apply(config, &options->settings[i], problems);
	config_check(config, problems);
	config->log.level += options->verbosity;
	if (config->log.level > LOG_LEVEL_DEBUG)
		config->log.level = LOG_LEVEL_DEBUG;
	return problems->count - before;
}
