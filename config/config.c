#include "config/config.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "config/cidr.h"
#include "config/config_value.h"
#include "config/defaults.h"
#include "config/guest_endpoint.h"
#include "config/hint.h"
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
	  "100ms", "0", "1s", NULL, NULL,
	  "How long in any second a full guest may hold back the network." },

	{ "network", "endpoint", CONFIG_NETWORK, AT(network.endpoint),
	  defaults_network, NULL, NULL, NULL, NULL,
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
	{ "network", "user", CONFIG_USER, AT(network.user),
	  "", NULL, NULL, NULL, NULL,
	  "Whose daemon, besides root's and ours, may answer in a shared folder." },
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

void
config_section_hint(const char *section, char *hint, size_t room)
{
	size_t best = SIZE_MAX;

	*hint = '\0';
	for (int i = 0; i < CONFIG_KEYS; i++)
		if (hint_is_nearer(section, config_keys[i].section, &best))
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
			if (hint_is_nearer(name, k->name, &best))
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
	    cidr_list_holds_text(&cidr_loopback, endpoint.host))
		return 0;
	tell_conflict(config, "network", "endpoint",
	    "listen-tcp on an address that is not loopback needs "
	    "[network] allow, the networks that may connect",
	    problems);
	return 1;
}

/* Only if all else is well: a file that can't be read, or a mistyped key, is
 * the likelier cause. */
static int
check_network(const struct config *config, struct config_problems *problems)
{
	char what[128];

	if (problems->count > 0 || *config->network.endpoint != '\0')
		return 0;
	snprintf(what, sizeof(what),
	    "not set: give it here or with -n, for example %s",
	    defaults_network_example);
	tell_conflict(config, "network", "endpoint", what, problems);
	return 1;
}

int
config_check(const struct config *config, struct config_problems *problems)
{
	return check_reconnect(config, problems) +
	       check_allow(config, problems) + check_network(config, problems);
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
take_guest(const char *endpoint, char name[LOG_NAME_BYTES])
{
	struct guest_endpoint guest;
	const char *why;

	if (guest_endpoint_parse(&guest, endpoint, &why) < 0)
		*name = '\0';
	else if (guest.kind == GUEST_UNIXGRAM)
		take_base(guest.path, NULL, name);
	else if (guest.kind == GUEST_TAP)
		snprintf(name, LOG_NAME_BYTES, "%s", guest.name);
	else
		snprintf(name, LOG_NAME_BYTES, "fd:%d", guest.fd);
}

void
config_name(const struct config *config, char name[LOG_NAME_BYTES])
{
	/* What the shell makes of <(...) has no name of its own. */
	bool has_file =
	    config->file != NULL && strncmp(config->file, "/dev/", 5) != 0;

	if (*config->service.name != '\0')
		snprintf(name, LOG_NAME_BYTES, "%.*s", LOG_NAME_BYTES - 1,
		    config->service.name);
	else if (has_file)
		take_base(config->file, ".ini", name);
	else
		take_guest(config->guest.endpoint, name);
	for (; *name != '\0'; name++)
		if (!config_name_holds(*name))
			*name = '_';
}

static bool
is_over_tcp(const struct config *config)
{
	struct endpoint endpoint;
	const char *why;

	return !endpoint_parse(&endpoint, config->network.endpoint, &why) &&
	       endpoint.kind == ENDPOINT_TCP;
}

/* What a value that leaves something open comes to; empty: it leaves nothing. */
static void
resolve(const struct config *config, const struct config_key *key,
    char text[CONFIG_TEXT_BYTES])
{
	*text = '\0';
	if (key->offset == AT(service.name) && *config->service.name == '\0')
		config_name(config, text);
	if (key->offset == AT(keepalive.mode) &&
	    config->keepalive.mode == KEEPALIVE_AUTO)
		strcpy(text, is_over_tcp(config)
				 ? "arp, once guest and gateway are known"
				 : "passive");
}

void
config_print(const struct config *config, FILE *out)
{
	const char *section = NULL;
	char value[CONFIG_TEXT_BYTES], here[CONFIG_TEXT_BYTES];

	for (const struct config_key *k = config_keys;
	     k < config_keys + CONFIG_KEYS; k++) {
		if (section == NULL || strcmp(k->section, section) != 0)
			fprintf(out, "%s[%s]\n", section == NULL ? "" : "\n",
			    k->section);
		section = k->section;
		config_value_write(k, config, value);
		resolve(config, k, here);
		fprintf(out, "%-12s =%s%s%s%s\n", k->name, *value ? " " : "",
		    value, *here ? " ; here: " : "", here);
	}
}
