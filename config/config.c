#include "config/config.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "config/config_value.h"
#include "config/defaults.h"
#include "config/hint.h"

/* clang-format off */
#define FIELD(f) offsetof(struct config, f), sizeof(((struct config *)0)->f)
const struct config_key config_keys[] = {
	{ "guest", "endpoint", CONFIG_GUEST, FIELD(guest.endpoint),
	  "unixgram:/run/forwarder/guest.sock", NULL },
	{ "guest", "mode", CONFIG_MODE, FIELD(guest.mode),
	  "0600", "0 to 0777" },
	{ "guest", "stall", CONFIG_DURATION, FIELD(guest.stall_ms),
	  "100ms", "0 to 1s" },
	{ "network", "endpoint", CONFIG_NETWORK, FIELD(network.endpoint),
	  defaults_network, NULL },
	{ "network", "hold", CONFIG_DURATION, FIELD(network.hold_ms),
	  "2s", "0 to 1h, or forever" },
	{ "network", "max_frame", CONFIG_BYTES, FIELD(network.max_frame),
	  "65550", "60 to 69632" },
	{ "network", "write_batch", CONFIG_BYTES, FIELD(network.write_batch),
	  "32K", "0 to 1M" },
	{ "network", "write_stall", CONFIG_DURATION, FIELD(network.write_stall_ms),
	  "30s", "100ms to 1h, or 0" },
	{ "network", "announce", CONFIG_YES_NO, FIELD(network.announce),
	  "yes", NULL },
	{ "network", "user", CONFIG_USER, FIELD(network.user), "", NULL },
	{ "network", "allow", CONFIG_CIDRS, FIELD(network.allow), "", NULL },
	{ "reconnect", "min", CONFIG_DURATION, FIELD(reconnect.min_ms),
	  "100ms", "1ms to 10m" },
	{ "reconnect", "max", CONFIG_DURATION, FIELD(reconnect.max_ms),
	  "2s", "1ms to 10m" },
	{ "reconnect", "jitter", CONFIG_NUMBER, FIELD(reconnect.jitter_percent),
	  "25", "0 to 50" },
	{ "reconnect", "watch", CONFIG_YES_NO, FIELD(reconnect.watch),
	  "yes", NULL },
	{ "keepalive", "mode", CONFIG_KEEPALIVE, FIELD(keepalive.mode),
	  "auto", NULL },
	{ "keepalive", "interval", CONFIG_DURATION, FIELD(keepalive.interval_ms),
	  "5s", "100ms to 1h, or 0" },
	{ "keepalive", "count", CONFIG_NUMBER, FIELD(keepalive.count),
	  "5", "1 to 100" },
	{ "keepalive", "gateway", CONFIG_GATEWAY, FIELD(keepalive.gateway),
	  "", NULL },
	{ "keepalive", "tcp_idle", CONFIG_SECONDS, FIELD(keepalive.tcp.idle_s),
	  "15s", "1s to 2h, or 0" },
	{ "keepalive", "tcp_interval", CONFIG_SECONDS, FIELD(keepalive.tcp.interval_s),
	  "5s", "1s to 2h" },
	{ "keepalive", "tcp_count", CONFIG_NUMBER, FIELD(keepalive.tcp.count),
	  "3", "1 to 100" },
	{ "log", "level", CONFIG_LOG_LEVEL, FIELD(log.level), "info", NULL },
	{ "service", "name", CONFIG_NAME, FIELD(service.name), "", NULL },
	{ "control", "socket", CONFIG_PATH, FIELD(control.socket), "", NULL },
};
#undef FIELD
/* clang-format on */

_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) == CONFIG_KEYS,
    "CONFIG_KEYS counts the rows");

void
config_problem(struct config_problems *problems, const char *format, ...)
{
	struct error problem;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(problem.text, sizeof(problem.text), format, arguments);
	va_end(arguments);
	for (char *c = problem.text; *c != '\0'; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
	problems->count++;
	if (problems->emit != NULL)
		problems->emit(&problem);
}

const struct config_key *
config_find(const char *section, const char *name)
{
	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++)
		if (strcmp(k->section, section) == 0 &&
		    strcmp(k->name, name) == 0)
			return k;
	return NULL;
}

/* The nearest name in this section, else the same name in another. */
static void
key_hint(const char *section, const char *name, char hint[64])
{
	size_t best = SIZE_MAX;

	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++)
		if (strcmp(k->section, section) != 0) {
			if (best == SIZE_MAX && strcmp(k->name, name) == 0)
				snprintf(hint, 64, " (did you mean [%s] %s?)",
				    k->section, name);
		} else if (hint_is_nearer(name, k->name, &best)) {
			snprintf(hint, 64, " (did you mean \"%s\"?)", k->name);
		}
}

static void
section_hint(const char *section, char hint[64])
{
	size_t best = SIZE_MAX;

	for (int i = 0; i < CONFIG_KEYS; i++)
		if (hint_is_nearer(section, config_keys[i].section, &best))
			snprintf(hint, 64, " (did you mean \"%s\"?)",
			    config_keys[i].section);
}

bool
config_has_section(const char *section)
{
	for (int i = 0; i < CONFIG_KEYS; i++)
		if (strcmp(config_keys[i].section, section) == 0)
			return true;
	return false;
}

void
config_unknown(const char *where, const char *section, const char *name,
    struct config_problems *problems)
{
	bool known = config_has_section(section);
	char hint[64] = "";

	if (known)
		key_hint(section, name, hint);
	else
		section_hint(section, hint);
	config_problem(problems, "%s: unknown %s%s", where,
	    known ? "key" : "section", hint);
}

void
config_set(struct config *config, const char *section, const char *name,
    const char *value, const char *where, struct config_problems *problems)
{
	const struct config_key *key = config_find(section, name);
	struct error error;
	bool wrong;

	if (key == NULL) {
		config_unknown(where, section, name, problems);
		return;
	}
	wrong = config_value_parse(key, value, config, &error) < 0;
	if (wrong)
		config_problem(problems, "%s: %s", where, error.text);
	config->origin[key - config_keys] =
	    (struct config_origin){ .wrong = wrong };
}

void
config_defaults(struct config *config)
{
	struct error error;

	*config = (struct config){ .file = NULL };
	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++) {
		int result = config_value_parse(k, k->initial, config, &error);

		assert(result == 0);
		(void)result;
	}
}

static const struct config_origin *
origin(const struct config *config, const struct config_key *key)
{
	return &config->origin[key - config_keys];
}

/* Reports a conflict of a key whose value is good by itself, with its line if it
 * has one. */
static void
conflict(const struct config *config, const struct config_key *key,
    struct config_problems *problems, const char *what)
{
	int line = origin(config, key)->line;

	if (line > 0)
		config_problem(problems, "%s:%d: [%s] %s: %s", config->file,
		    line, key->section, key->name, what);
	else
		config_problem(
		    problems, "[%s] %s: %s", key->section, key->name, what);
}

static void
check_reconnect(const struct config *config, struct config_problems *problems)
{
	const struct config_key *min = config_find("reconnect", "min");
	const struct config_key *max = config_find("reconnect", "max");
	char low[CONFIG_TEXT_BYTES], high[CONFIG_TEXT_BYTES];
	struct error what;

	if (origin(config, min)->wrong || origin(config, max)->wrong ||
	    config->reconnect.min_ms <= config->reconnect.max_ms)
		return;
	config_value_print(min, config, low);
	config_value_print(max, config, high);
	error_set(&what, "\"%.64s\" is more than max (%.64s)", low, high);
	conflict(config, min, problems, what.text);
}

/* TCP is neither encrypted nor authenticated: whoever reaches the port is on
 * the guest's network. A missing endpoint is reported only if all else is well:
 * a file that can't be read, or a mistyped key, is the likelier cause. */
static void
check_network(const struct config *config, struct config_problems *problems)
{
	const struct config_key *key = config_find("network", "endpoint");
	const struct endpoint *endpoint = &config->network.endpoint;
	bool wrong = origin(config, key)->wrong ||
		     origin(config, config_find("network", "allow"))->wrong;
	struct error what;

	if (!wrong && endpoint->listens && endpoint->kind == ENDPOINT_TCP &&
	    !endpoint->loopback && config->network.allow.count == 0)
		conflict(config, key, problems,
		    "listen-tcp on an address that is not loopback needs "
		    "[network] allow, the networks that may connect");
	if (problems->count > 0 || *endpoint->text != '\0')
		return;
	error_set(&what, "not set: give it here or with -n, for example %s",
	    defaults_network_example);
	conflict(config, key, problems, what.text);
}

void
config_check(const struct config *config, struct config_problems *problems)
{
	check_reconnect(config, problems);
	check_network(config, problems);
}

/* The last part of a path without its suffix; one that is all suffix stays. */
static void
take_base(const char *path, const char *suffix, char name[LOG_NAME_BYTES])
{
	const char *slash = strrchr(path, '/'),
		   *base = slash ? slash + 1 : path;
	const char *end = suffix ? strstr(base, suffix) : strrchr(base, '.');
	size_t length = strlen(base);

	if (end != NULL && end != base &&
	    (suffix == NULL || end[strlen(suffix)] == '\0'))
		length = (size_t)(end - base);
	snprintf(name, LOG_NAME_BYTES, "%.*s", (int)length, base);
}

static void
take_guest(const struct guest_endpoint *guest, char name[LOG_NAME_BYTES])
{
	if (guest->kind == GUEST_UNIXGRAM)
		take_base(guest->path, NULL, name);
	else if (guest->kind == GUEST_TAP)
		snprintf(name, LOG_NAME_BYTES, "%s", guest->name);
	else
		snprintf(name, LOG_NAME_BYTES, "fd:%d", guest->fd);
}

void
config_name(const struct config *config, char name[LOG_NAME_BYTES])
{
	/* What the shell makes of <(...) has no name of its own. */
	bool has_file =
	    config->file != NULL && strncmp(config->file, "/dev/", 5) != 0;

	if (*config->service.name != '\0')
		strcpy(name, config->service.name);
	else if (has_file)
		take_base(config->file, ".ini", name);
	else
		take_guest(&config->guest.endpoint, name);
	for (; *name != '\0'; name++)
		if (!config_name_holds(*name))
			*name = '_';
}

/* What a value that leaves something open comes to; empty: it leaves nothing. */
static void
resolve(const struct config *config, const struct config_key *key,
    char text[LOG_NAME_BYTES])
{
	*text = '\0';
	if (key->type == CONFIG_NAME && *config->service.name == '\0')
		config_name(config, text);
	if (key->type == CONFIG_KEEPALIVE &&
	    config->keepalive.mode == KEEPALIVE_AUTO)
		strcpy(text, config->network.endpoint.kind == ENDPOINT_TCP
				 ? "arp, once guest and gateway are known"
				 : "passive");
}

void
config_print(const struct config *config, FILE *out)
{
	const char *section = NULL;
	char value[CONFIG_TEXT_BYTES], here[LOG_NAME_BYTES];

	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++) {
		if (section == NULL || strcmp(k->section, section) != 0)
			fprintf(out, "%s[%s]\n", section == NULL ? "" : "\n",
			    k->section);
		section = k->section;
		config_value_print(k, config, value);
		resolve(config, k, here);
		fprintf(out, "%-12s =%s%s%s%s\n", k->name, *value ? " " : "",
		    value, *here ? " ; here: " : "", here);
	}
}
