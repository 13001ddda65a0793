#include "program/config.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "program/cidr.h"
#include "program/config_value.h"
#include "reconnect/endpoint.h"

static const char *const yes_no[] = { "no", "yes", NULL };
static const char *const keepalive_modes[] = {
	[KEEPALIVE_OFF] = "off",
	[KEEPALIVE_PASSIVE] = "passive",
	[KEEPALIVE_ARP] = "arp",
	[KEEPALIVE_PEER] = "peer",
	[KEEPALIVE_AUTO] = "auto",
	NULL,
};
static const char *const log_levels[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
	NULL,
};

#define AT(field) offsetof(struct config, field)

/* clang-format off */
const struct config_key config_keys[] = {
	{ "guest", "endpoint", CONFIG_GUEST, AT(guest.endpoint),
	  "unixgram:/run/forwarder/guest.sock", NULL, NULL, NULL, NULL,
	  "Where the guest's frames come from and go to." },
	{ "guest", "mode", CONFIG_MODE, AT(guest.mode),
	  "0600", "0", "0777", NULL, NULL,
	  "Permissions of the socket that unixgram: makes." },
	{ "guest", "stall", CONFIG_DURATION, AT(guest.stall_ms),
	  "100ms", "0", "10s", NULL, NULL,
	  "How long a guest that does not read may hold back the network." },

	{ "network", "endpoint", CONFIG_NETWORK, AT(network.endpoint),
	  "unix:/var/run/socket_vmnet", NULL, NULL, NULL, NULL,
	  "The network daemon, or the forwarder on another host." },
	{ "network", "hold", CONFIG_DURATION, AT(network.hold_ms),
	  "2s", "0", "1h", "forever", NULL,
	  "How long the guest's frames wait in an outage." },
	{ "network", "max_frame", CONFIG_BYTES, AT(network.max_frame),
	  "65550", "60", "69632", NULL, NULL,
	  "The largest frame, in bytes." },
	{ "network", "write_batch", CONFIG_BYTES, AT(network.write_batch),
	  "32K", "0", "1M", NULL, NULL,
	  "How much is written to the network at once, in bytes." },
	{ "network", "write_stall", CONFIG_DURATION, AT(network.write_stall_ms),
	  "30s", "100ms", "1h", "0", NULL,
	  "How long a write may be stuck before the connection is given up." },
	{ "network", "announce", CONFIG_CHOICE, AT(network.announce),
	  "yes", NULL, NULL, NULL, yes_no,
	  "Whether switches are told where the guest is after a reconnect." },
	{ "network", "allow", CONFIG_CIDRS, AT(network.allow),
	  "", NULL, NULL, NULL, NULL,
	  "Who may connect to listen-tcp:." },

	{ "reconnect", "min", CONFIG_DURATION, AT(reconnect.min_ms),
	  "100ms", "1ms", "10m", NULL, NULL,
	  "The first wait between two dials." },
	{ "reconnect", "max", CONFIG_DURATION, AT(reconnect.max_ms),
	  "2s", "1ms", "10m", NULL, NULL,
	  "The longest wait between two dials." },
	{ "reconnect", "jitter", CONFIG_NUMBER, AT(reconnect.jitter_percent),
	  "25", "0", "50", NULL, NULL,
	  "By how many percent a wait may vary." },
	{ "reconnect", "watch", CONFIG_CHOICE, AT(reconnect.watch),
	  "yes", NULL, NULL, NULL, yes_no,
	  "Whether to dial as soon as the daemon's socket appears." },

	{ "keepalive", "mode", CONFIG_CHOICE, AT(keepalive.mode),
	  "auto", NULL, NULL, NULL, keepalive_modes,
	  "How a network that died in silence is found." },
	{ "keepalive", "interval", CONFIG_DURATION, AT(keepalive.interval_ms),
	  "5s", "100ms", "1h", "0", NULL,
	  "The silence before the first probe, and between two probes." },
	{ "keepalive", "count", CONFIG_NUMBER, AT(keepalive.count),
	  "5", "1", "100", NULL, NULL,
	  "How many probes stay without an answer before the network is dead." },
	{ "keepalive", "gateway", CONFIG_IPV4, AT(keepalive.gateway),
	  "", NULL, NULL, NULL, NULL,
	  "Whom ARP probes ask." },
	{ "keepalive", "tcp_idle", CONFIG_SECONDS, AT(keepalive.tcp_idle_ms),
	  "15s", "1s", "2h", "0", NULL,
	  "The silence before TCP's own first probe." },
	{ "keepalive", "tcp_interval", CONFIG_SECONDS,
	  AT(keepalive.tcp_interval_ms), "5s", "1s", "2h", NULL, NULL,
	  "The time between two of TCP's own probes." },
	{ "keepalive", "tcp_count", CONFIG_NUMBER, AT(keepalive.tcp_count),
	  "3", "1", "100", NULL, NULL,
	  "How many of TCP's own probes stay without an answer." },

	{ "log", "level", CONFIG_CHOICE, AT(log.level),
	  "info", NULL, NULL, NULL, log_levels,
	  "The least important lines that are still logged." },

	{ "service", "name", CONFIG_NAME, AT(service.name),
	  "", NULL, NULL, NULL, NULL,
	  "What this forwarder is called in its log and its metrics." },

	{ "control", "socket", CONFIG_PATH, AT(control.socket),
	  "", NULL, NULL, NULL, NULL,
	  "Where \"forwarder status\" asks." },
};
/* clang-format on */

_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) == CONFIG_KEYS,
    "CONFIG_KEYS counts the rows");

void
config_problem(struct config_problems *problems, const char *format, ...)
{
	char line[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	for (char *c = line; *c != '\0'; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
	problems->count++;
	if (problems->tell != NULL)
		problems->tell(problems->context, line);
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
smallest(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

/* How many letters to insert, delete or replace; case doesn't count. Names
 * too long for a key are far from everything. */
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
			size_t same = tolower((unsigned char)*a) ==
				      tolower((unsigned char)b[j - 1]);
			size_t above = cost[j];

			cost[j] = smallest(above + 1, cost[j - 1] + 1,
			    diagonal + (same ? 0 : 1));
			diagonal = above;
		}
	}
	return cost[length];
}

/* A third of the letters may be wrong; more is another word. */
static bool
is_close(const char *typed, const char *name, size_t *best)
{
	size_t d = distance(typed, name);

	if (d > (strlen(name) + 2) / 3 || d >= *best)
		return false;
	*best = d;
	return true;
}

void
config_section_hint(const char *section, char *hint, size_t room)
{
	size_t best = SIZE_MAX;

	*hint = '\0';
	for (int i = 0; i < CONFIG_KEYS; i++)
		if (is_close(section, config_keys[i].section, &best))
			snprintf(hint, room, " (did you mean \"%s\"?)",
			    config_keys[i].section);
}

/* The nearest name in this section, else the same name in another. */
static void
key_hint(const char *section, const char *name, char *hint, size_t room)
{
	size_t best = SIZE_MAX;

	*hint = '\0';
	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++) {
		if (strcmp(k->section, section) == 0) {
			if (is_close(name, k->name, &best))
				snprintf(hint, room, " (did you mean \"%s\"?)",
				    k->name);
		} else if (best == SIZE_MAX && strcmp(k->name, name) == 0) {
			snprintf(hint, room, " (did you mean [%s] %s?)",
			    k->section, name);
		}
	}
}

/* Says what is unknown, the section or the key. */
static void
tell_unknown(const char *section, const char *name, const char *where,
    struct config_problems *problems)
{
	char hint[128];

	if (config_has_section(section)) {
		key_hint(section, name, hint, sizeof(hint));
		config_problem(problems, "%s: unknown key%s", where, hint);
	} else {
		config_section_hint(section, hint, sizeof(hint));
		config_problem(problems, "%s: unknown section%s", where, hint);
	}
}

int
config_set(struct config *config, const char *section, const char *name,
    const char *value, const char *where, struct config_problems *problems)
{
	const struct config_key *key = config_find(section, name);
	char fault[CONFIG_FAULT_BYTES];

	if (key == NULL) {
		tell_unknown(section, name, where, problems);
		return 1;
	}
	bool good = config_value_read(key, value, config, fault);
	config->origin[key - config_keys] =
	    (struct config_origin){ .wrong = !good };
	if (good)
		return 0;
	config_problem(problems, "%s: %s", where, fault);
	return 1;
}

void
config_defaults(struct config *config)
{
	char fault[CONFIG_FAULT_BYTES];

	*config = (struct config){ .file = NULL };
	for (int i = 0; i < CONFIG_KEYS; i++) {
		bool good = config_value_read(
		    &config_keys[i], config_keys[i].initial, config, fault);

		assert(good);
		(void)good;
	}
}

static struct config_origin
origin(const struct config *config, const char *section, const char *name)
{
	return config->origin[config_find(section, name) - config_keys];
}

/* Tells a problem of a key with a good value, with its line if it has one. */
static void
tell_conflict(const struct config *config, const char *section,
    const char *name, const char *what, struct config_problems *problems)
{
	int line = origin(config, section, name).line;

	if (line > 0)
		config_problem(problems, "%s:%d: [%s] %s: %s", config->file,
		    line, section, name, what);
	else
		config_problem(problems, "[%s] %s: %s", section, name, what);
}

static int
check_reconnect(const struct config *config, struct config_problems *problems)
{
	const struct config_key *min = config_find("reconnect", "min");
	const struct config_key *max = config_find("reconnect", "max");
	char low[CONFIG_TEXT_BYTES], high[CONFIG_TEXT_BYTES];
	char what[2 * CONFIG_TEXT_BYTES + 32];

	if (config->origin[min - config_keys].wrong ||
	    config->origin[max - config_keys].wrong ||
	    config->reconnect.min_ms <= config->reconnect.max_ms)
		return 0;
	config_value_write(min, config, low);
	config_value_write(max, config, high);
	snprintf(what, sizeof(what), "\"%s\" is more than max (%s)", low, high);
	tell_conflict(config, "reconnect", "min", what, problems);
	return 1;
}

static bool
is_loopback(const char *host)
{
	struct cidr_list loopback;
	const char *why;
	int bad = cidr_list_parse(&loopback, "127.0.0.0/8, ::1/128", &why);

	assert(!bad);
	return !bad && cidr_list_holds_text(&loopback, host);
}

/* TCP is neither encrypted nor asks who it is: whoever reaches the port is
 * on the guest's network. */
static int
check_allow(const struct config *config, struct config_problems *problems)
{
	struct endpoint endpoint;
	const char *why;

	if (origin(config, "network", "endpoint").wrong ||
	    origin(config, "network", "allow").wrong ||
	    *config->network.allow != '\0' ||
	    endpoint_parse(&endpoint, config->network.endpoint, &why) ||
	    endpoint.kind != ENDPOINT_TCP || !endpoint.listens ||
	    is_loopback(endpoint.host))
		return 0;
	tell_conflict(config, "network", "endpoint",
	    "listen-tcp on an address that is not loopback needs "
	    "[network] allow, the networks that may connect",
	    problems);
	return 1;
}

int
config_check(const struct config *config, struct config_problems *problems)
{
	return check_reconnect(config, problems) +
	       check_allow(config, problems);
}

void
config_print(const struct config *config, FILE *out)
{
	const char *section = NULL;
	char value[CONFIG_TEXT_BYTES];

	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++) {
		if (section == NULL || strcmp(k->section, section) != 0)
			fprintf(out, "%s[%s]\n", section == NULL ? "" : "\n",
			    k->section);
		section = k->section;
		config_value_write(k, config, value);
		fprintf(
		    out, "%-12s =%s%s\n", k->name, *value ? " " : "", value);
	}
}
