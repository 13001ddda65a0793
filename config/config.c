#include "config/config.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "config/defaults.h"

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

bool
config_has_section(const char *section)
{
	for (int i = 0; i < CONFIG_KEYS; i++)
		if (strcmp(config_keys[i].section, section) == 0)
			return true;
	return false;
}

static size_t
smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many letters to insert, delete or replace; case doesn't count. What is
 * longer than any name is far from all of them. */
static size_t
distance(const char *a, const char *b)
{
	size_t cost[32], length = strlen(b);

	if (length >= 32 || strlen(a) >= 32)
		return 32;
	for (size_t j = 0; j <= length; j++)
		cost[j] = j;
	for (; *a != '\0'; a++) {
		size_t diagonal = cost[0]++;

		for (size_t j = 1; j <= length; j++) {
			bool same = tolower((unsigned char)*a) ==
				    tolower((unsigned char)b[j - 1]);
			size_t insert = smaller(cost[j - 1], cost[j]) + 1;
			size_t replace = diagonal + !same;

			diagonal = cost[j];
			cost[j] = smaller(insert, replace);
		}
	}
	return cost[length];
}

/* The name that was most likely meant may have a third of its letters wrong. */
void
config_unknown(const char *where, const char *section, const char *name,
    struct config_problems *problems)
{
	bool known = config_has_section(section);
	const char *what = known ? "key" : "section", *meant = NULL;
	const struct config_key *elsewhere = NULL;
	size_t best = SIZE_MAX;

	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++) {
		const char *candidate = known ? k->name : k->section;
		size_t d = distance(known ? name : section, candidate);

		if (known && strcmp(k->section, section) != 0) {
			if (strcmp(k->name, name) == 0)
				elsewhere = k;
		} else if (d < best && d <= (strlen(candidate) + 2) / 3) {
			meant = candidate;
			best = d;
		}
	}
	if (meant != NULL)
		config_problem(problems,
		    "%s: unknown %s (did you mean \"%s\"?)", where, what,
		    meant);
	else if (elsewhere != NULL)
		config_problem(problems,
		    "%s: unknown key (did you mean [%s] %s?)", where,
		    elsewhere->section, name);
	else
		config_problem(problems, "%s: unknown %s", where, what);
}

void
config_set(struct config *config, const char *section, const char *name,
    const char *value, const char *where, struct config_problems *problems)
{
	const struct config_key *key = config_find(section, name);
	struct config_origin *origin;
	struct error error;

	if (key == NULL) {
		config_unknown(where, section, name, problems);
		return;
	}
	origin = &config->origin[key - config_keys];
	origin->line = 0;
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
	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++)
		config_set(config, k->section, k->name, k->initial, "default",
		    &problems);
	assert(problems.count == 0);
}

static const struct config_origin *
origin_of(const struct config *config, const char *section, const char *name)
{
	return &config->origin[config_find(section, name) - config_keys];
}

/* Reports a conflict of a key whose value is good by itself. */
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

/* TCP is neither encrypted nor authenticated: whoever reaches the port is on
 * the guest's network. A missing endpoint is reported only if all else is well:
 * a file that can't be read, or a mistyped key, is the likelier cause. */
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

/* The last part of a path without its suffix; one that is all suffix stays. */
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
	/* What the shell makes of <(...) has no name of its own. */
	bool has_file =
	    config->file != NULL && strncmp(config->file, "/dev/", 5) != 0;

	if (*config->service.name != '\0')
		strcpy(name, config->service.name);
	else if (has_file)
		take_base(config->file, ".ini", name);
	else if (guest->kind == GUEST_UNIXGRAM)
		take_base(guest->path, NULL, name);
	else
		strcpy(
		    name, guest->kind == GUEST_TAP ? guest->name : guest->text);
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
	char here[LOG_NAME_BYTES];

	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++) {
		const char *value = config->origin[k - config_keys].text;

		if (section == NULL || strcmp(k->section, section) != 0)
			fprintf(out, "%s[%s]\n", section == NULL ? "" : "\n",
			    k->section);
		section = k->section;
		resolve(config, k, here);
		fprintf(out, "%-12s =%s%s%s%s\n", k->name, *value ? " " : "",
		    value, *here ? " ; here: " : "", here);
	}
}
