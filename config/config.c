#include "config/config.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "config/defaults.h"

/* clang-format off */
#define KEY(section, name, type, field, initial, limits) \
	{ #section, #name, CONFIG_##type, offsetof(struct config, section.field), \
	  sizeof(((struct config *)0)->section.field), initial, limits }
const struct config_key config_keys[] = {
	KEY(guest, endpoint, GUEST, endpoint,
	    "unixgram:/run/forwarder/guest.sock", NULL),
	KEY(guest, mode, MODE, mode, "0600", "0 to 0777"),
	KEY(guest, stall, DURATION, stall_ms, "100ms", "0 to 1s"),
	KEY(network, endpoint, NETWORK, endpoint, defaults_network, NULL),
	KEY(network, hold, DURATION, hold_ms, "2s", "0 to 1h, or forever"),
	KEY(network, keep, NUMBER, keep, "64", "0 to 256"),
	KEY(network, max_frame, BYTES, max_frame, "65550", "60 to 69632"),
	KEY(network, write_batch, BYTES, write_batch, "32K", "0 to 1M"),
	KEY(network, write_stall, DURATION, write_stall_ms,
	    "30s", "100ms to 1h, or 0"),
	KEY(network, send_buffer, BYTES, send_buffer, "0", "4K to 16M, or 0"),
	KEY(network, announce, YES_NO, announce, "yes", NULL),
	KEY(network, vfkit, YES_NO, vfkit, "yes", NULL),
	KEY(network, user, USER, user, "", NULL),
	KEY(network, allow, CIDRS, allow, "", NULL),
	KEY(reconnect, min, DURATION, min_ms, "100ms", "1ms to 10m"),
	KEY(reconnect, max, DURATION, max_ms, "2s", "1ms to 10m"),
	KEY(reconnect, jitter, NUMBER, jitter_percent, "25", "0 to 50"),
	KEY(reconnect, watch, YES_NO, watch, "yes", NULL),
	KEY(keepalive, mode, KEEPALIVE, mode, "auto", NULL),
	KEY(keepalive, interval, DURATION, interval_ms,
	    "5s", "100ms to 1h, or 0"),
	KEY(keepalive, count, NUMBER, count, "5", "1 to 100"),
	KEY(keepalive, gateway, GATEWAY, gateway, "", NULL),
	KEY(keepalive, tcp_idle, SECONDS, tcp.idle_s, "15s", "1s to 2h, or 0"),
	KEY(keepalive, tcp_interval, SECONDS, tcp.interval_s, "5s", "1s to 2h"),
	KEY(keepalive, tcp_count, NUMBER, tcp.count, "3", "1 to 100"),
	KEY(log, level, LOG_LEVEL, level, "info", NULL),
	KEY(service, name, NAME, name, "", NULL),
	KEY(control, socket, PATH, socket, "", NULL),
	KEY(control, mode, MODE, mode, "0600", "0 to 0777"),
};
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
	if (problems->count++ == 0)
		problems->first = problem;
	if (problems->emit != NULL)
		problems->emit(&problem);
}

const struct config_key *
config_find(const char *section, const char *name)
{
	for (int i = 0; i < CONFIG_KEYS; i++)
		if (strcmp(config_keys[i].section, section) == 0 &&
		    strcmp(config_keys[i].name, name) == 0)
			return &config_keys[i];
	return NULL;
}

const char *
config_section(const char *name)
{
	for (int i = 0; i < CONFIG_KEYS; i++)
		if (strcmp(config_keys[i].section, name) == 0)
			return config_keys[i].section;
	return NULL;
}

/* Whether at most `changes` inserted, deleted or replaced letters turn a into
 * b. Ignores case. */
static bool /* NOLINTNEXTLINE(misc-no-recursion): few changes */
is_near(const char *a, const char *b, size_t changes)
{
	while (*a != '\0' &&
	       tolower((unsigned char)*a) == tolower((unsigned char)*b))
		a++, b++;
	if (*a == '\0' && *b == '\0')
		return true;
	if (changes-- == 0)
		return false;
	return (*a != '\0' && is_near(a + 1, b, changes)) ||
	       (*b != '\0' && is_near(a, b + 1, changes)) ||
	       (*a != '\0' && *b != '\0' && is_near(a + 1, b + 1, changes));
}

/* Returns the name in the section nearest to `written`, or the nearest section
 * if `section` is NULL. About a third of its letters may differ. NULL: none. */
static const char *
nearest(const char *section, const char *written)
{
	for (size_t changes = 0; changes < 5; changes++)
		for (int i = 0; i < CONFIG_KEYS; i++) {
			const struct config_key *k = &config_keys[i];
			const char *name = section ? k->name : k->section;

			if ((section == NULL ||
				strcmp(k->section, section) == 0) &&
			    changes <= (strlen(name) + 2) / 3 &&
			    is_near(written, name, changes))
				return name;
		}
	return NULL;
}

void
config_unknown(const char *where, const char *section, const char *name,
    struct config_problems *problems)
{
	bool known = config_section(section) != NULL;
	const char *what = known ? "key" : "section";
	const char *meant =
	    known ? nearest(section, name) : nearest(NULL, section);

	if (meant != NULL) {
		config_problem(problems,
		    "%s: unknown %s (did you mean \"%s\"?)", where, what,
		    meant);
		return;
	}
	for (int i = 0; known && i < CONFIG_KEYS; i++)
		if (strcmp(config_keys[i].name, name) == 0) {
			config_problem(problems,
			    "%s: unknown key (did you mean [%s] %s?)", where,
			    config_keys[i].section, name);
			return;
		}
	config_problem(problems, "%s: unknown %s", where, what);
}

void
config_set(struct config *config, const char *section, const char *name,
    const char *value, int line, const char *where,
    struct config_problems *problems)
{
	const struct config_key *key = config_find(section, name);
	struct config_origin *origin;
	struct error error;

	if (key == NULL) {
		config_unknown(where, section, name, problems);
		return;
	}
	origin = &config->origin[key - config_keys];
	if (line > 0 && origin->line > 0) {
		config_problem(problems, "%s: set twice, first at line %d",
		    where, origin->line);
		return;
	}
	origin->line = line;
	origin->wrong = config_value_parse(key, value, config, &error) < 0;
	if (origin->wrong)
		config_problem(problems, "%s: %s", where, error.text);
	else
		strcpy(origin->text, value);
}

void
config_defaults(struct config *config)
{
	struct config_problems problems = { .count = 0 };

	*config = (struct config){ .file = NULL };
	for (int i = 0; i < CONFIG_KEYS; i++)
		config_set(config, config_keys[i].section, config_keys[i].name,
		    config_keys[i].initial, 0, "default", &problems);
	assert(problems.count == 0);
}

static const struct config_origin *
origin_of(const struct config *config, const char *section, const char *name)
{
	return &config->origin[config_find(section, name) - config_keys];
}

/* Reports a value that is valid alone but conflicts with others. */
static void
conflict(const struct config *config, const char *section, const char *name,
    struct config_problems *problems, const char *what)
{
	int line = origin_of(config, section, name)->line;

	if (line > 0)
		config_problem(problems, "%s:%d: [%s] %s: %s", config->file,
		    line, section, name, what);
	else
		config_problem(problems, "[%s] %s: %s", section, name, what);
}

static void
check_reconnect(const struct config *config, struct config_problems *problems)
{
	const struct config_origin *min = origin_of(config, "reconnect", "min");
	const struct config_origin *max = origin_of(config, "reconnect", "max");
	struct error what;

	if (min->wrong || max->wrong ||
	    config->reconnect.min_ms <= config->reconnect.max_ms)
		return;
	error_set(&what, "\"%s\" is more than max (%s)", min->text, max->text);
	conflict(config, "reconnect", "min", problems, what.text);
}

/* TCP is neither encrypted nor authenticated: any host that reaches the port is
 * on the guest's network. A missing endpoint is reported only if there is no
 * other problem: an unreadable file or a mistyped key is the likelier cause. */
static void
check_network(const struct config *config, struct config_problems *problems)
{
	const struct endpoint *endpoint = &config->network.endpoint;

	if (endpoint->listens && endpoint->kind == ENDPOINT_TCP &&
	    !endpoint->loopback && config->network.allow.count == 0 &&
	    !origin_of(config, "network", "endpoint")->wrong &&
	    !origin_of(config, "network", "allow")->wrong)
		conflict(config, "network", "endpoint", problems,
		    "listen-tcp on an address that is not loopback needs "
		    "[network] allow, the networks that may connect");
	if (*endpoint->path != '\0' &&
	    strcmp(endpoint->path, config->guest.endpoint.path) == 0)
		conflict(config, "network", "endpoint", problems,
		    "this is the guest's socket: name the daemon's");
	if (problems->count == 0 && *endpoint->text == '\0')
		conflict(config, "network", "endpoint", problems,
		    "not set: give it here or with -n, for example "
		    "unix:$XDG_RUNTIME_DIR/passt.sock");
}

void
config_check(const struct config *config, struct config_problems *problems)
{
	check_reconnect(config, problems);
	check_network(config, problems);
}

enum keepalive_mode
config_keepalive(const struct config *config)
{
	enum keepalive_mode mode = config->keepalive.mode;

	if (mode != KEEPALIVE_AUTO)
		return mode;
	switch (config->network.endpoint.kind) {
	case ENDPOINT_TCP:
	case ENDPOINT_EXEC:
		return KEEPALIVE_ARP;
	default:
		return KEEPALIVE_PASSIVE;
	}
}

/* Copies the last name in the path without its suffix. A name such as .ini is
 * kept whole. */
static void
take_base(const char *path, const char *suffix, char name[LOG_NAME_BYTES])
{
	const char *slash = strrchr(path, '/'),
		   *base = slash ? slash + 1 : path;
	const char *end = strrchr(base, '.');

	if (end == NULL || end == base ||
	    (suffix != NULL && strcmp(end, suffix) != 0))
		end = base + strlen(base);
	snprintf(name, LOG_NAME_BYTES, "%.*s", (int)(end - base), base);
}

void
config_name(const struct config *config, char name[LOG_NAME_BYTES])
{
	const struct guest_endpoint *guest = &config->guest.endpoint;
	/* The file that a shell opens for <(...) has no name. */
	bool has_file =
	    config->file != NULL && strncmp(config->file, "/dev/", 5) != 0;

	if (*config->service.name != '\0')
		strcpy(name, config->service.name);
	else if (has_file)
		take_base(config->file, ".ini", name);
	else if (*guest->path != '\0')
		take_base(guest->path, NULL, name);
	else
		strcpy(
		    name, guest->kind == GUEST_TAP ? guest->name : guest->text);
	for (; *name != '\0'; name++)
		if (!log_name_holds(*name))
			*name = '_';
}

/* Gets what mode auto or an empty name stands for; empty for other values. */
static void
resolve(const struct config *config, const struct config_key *key,
    char text[LOG_NAME_BYTES])
{
	*text = '\0';
	if (key->type == CONFIG_NAME && *config->service.name == '\0')
		config_name(config, text);
	if (key->type == CONFIG_KEEPALIVE &&
	    config->keepalive.mode == KEEPALIVE_AUTO)
		strcpy(text, config_keepalive(config) == KEEPALIVE_ARP
				 ? "arp, once guest and gateway are known"
				 : "passive");
}

void
config_print(const struct config *config, FILE *out)
{
	const char *section = "";
	char here[LOG_NAME_BYTES];

	for (int i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *key = &config_keys[i];
		const char *value = config->origin[i].text;

		if (strcmp(key->section, section) != 0)
			fprintf(
			    out, "%s[%s]\n", i == 0 ? "" : "\n", key->section);
		section = key->section;
		resolve(config, key, here);
		fprintf(out, "%-12s =%s%s%s%s\n", key->name, *value ? " " : "",
		    value, *here ? " ; here: " : "", here);
	}
}
