#include "config/config_value.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>

#include "config/cidr.h"
#include "config/guest_endpoint.h"
#include "reconnect/endpoint.h"

static const char *
guest_fault(const char *text)
{
	struct guest_endpoint guest;
	const char *why;

	return guest_endpoint_parse(&guest, text, &why) ? why : NULL;
}

static const char *
network_fault(const char *text)
{
	struct endpoint endpoint;
	const char *why;

	if (*text == '\0')
		return NULL; /* config_check() says what is missing */
	return endpoint_parse(&endpoint, text, &why) ? why : NULL;
}

static const char *
path_fault(const char *text)
{
	return *text == '\0' ? NULL : socket_path_fault(text);
}

bool
config_name_holds(char c)
{
	return c > ' ' && c <= '~' && c != '"' && c != '\\' && c != '=';
}

static const char *
name_fault(const char *text)
{
	size_t length = strlen(text);

	if (length >= LOG_NAME_BYTES)
		return "longer than 63 bytes";
	for (size_t i = 0; i < length; i++)
		if (!config_name_holds(text[i]))
			return "it has only letters, digits and signs other "
			       "than blanks, quotes, \\ and =";
	return NULL;
}

static const char *
ipv4_fault(const char *text)
{
	struct in_addr address;

	if (*text == '\0' || inet_pton(AF_INET, text, &address) == 1)
		return NULL;
	return "it is written 192.168.5.1";
}

static const char *
cidrs_fault(const char *text)
{
	struct cidr_list list;
	const char *why;

	return cidr_list_parse(&list, text, &why) ? why : NULL;
}

struct unit {
	const char *suffix;
	int64_t factor;
};

/* From small to large; the end has no suffix. */
static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };
static const struct unit duration_units[] = {
	{ "ms", 1 },
	{ "s", 1000 },
	{ "m", 60 * 1000 },
	{ "h", 60 * 60 * 1000 },
	{ NULL, 0 },
};
static const struct unit byte_units[] = {
	{ "", 1 },
	{ "K", 1024 },
	{ "M", 1024 * 1024 },
	{ NULL, 0 },
};

/* A text has a fault function, a number has units, others neither. */
static const struct kind {
	const char *noun;
	const char *examples;
	const char *(*fault)(const char *text);
	const struct unit *units;
	int base;
} kinds[] = {
	[CONFIG_GUEST] = { "a guest endpoint", "fd:N, unixgram:PATH, tap:NAME",
	    guest_fault, NULL, 0 },
	[CONFIG_NETWORK] = { "a network endpoint",
	    "unix:PATH, tcp:HOST:PORT, listen-unix:PATH, listen-tcp:ADDR:PORT",
	    network_fault, NULL, 0 },
	[CONFIG_PATH] = { "a path for a socket", "a path, or empty", path_fault,
	    NULL, 0 },
	[CONFIG_NAME] = { "a name", "a name without blanks, or empty",
	    name_fault, NULL, 0 },
	[CONFIG_IPV4] = { "an IPv4 address", "an IPv4 address, or empty",
	    ipv4_fault, NULL, 0 },
	[CONFIG_CIDRS] = { "a list of networks",
	    "networks such as 192.168.0.0/16, or empty", cidrs_fault, NULL, 0 },
	[CONFIG_DURATION] = { "a duration", "500ms, 5s, 2m", NULL,
	    duration_units, 10 },
	[CONFIG_SECONDS] = { "a duration", "5s, 90s, 2m", NULL, duration_units,
	    10 },
	[CONFIG_BYTES] = { "a size", "1500, 32K, 1M", NULL, byte_units, 10 },
	[CONFIG_NUMBER] = { "a whole number", "1, 25", NULL, no_units, 10 },
	[CONFIG_MODE] = { "an octal mode", "0600, 0660", NULL, no_units, 8 },
	[CONFIG_USER] = { "a user", "a user's name or number, or empty", NULL,
	    NULL, 0 },
	[CONFIG_CHOICE] = { "a choice", NULL, NULL, NULL, 0 },
};

/* Takes the digits off the front of *text. What is too large for 64 bits
 * becomes the largest number, which no key accepts. */
static bool
read_digits(const char **text, int base, int64_t *value)
{
	const char *start = *text;

	*value = 0;
	for (; **text >= '0' && **text < '0' + base; (*text)++) {
		int digit = **text - '0';

		if (*value > (INT64_MAX - digit) / base)
			*value = INT64_MAX;
		else
			*value = *value * base + digit;
	}
	return *text != start;
}

static bool
read_number(const struct kind *kind, const char *text, int64_t *value)
{
	if (!read_digits(&text, kind->base, value))
		return false;
	for (const struct unit *u = kind->units; u->suffix != NULL; u++) {
		if (strcmp(text, u->suffix) != 0)
			continue;
		if (*value > INT64_MAX / u->factor)
			*value = INT64_MAX;
		else
			*value *= u->factor;
		return true;
	}
	return *value == 0 && *text == '\0'; /* 0 needs no unit */
}

/* With the largest unit that leaves no rest. */
static void
write_number(const struct unit *units, int64_t value, char *text, size_t room)
{
	const struct unit *best = units;

	for (const struct unit *u = units; u->suffix != NULL; u++)
		if (value % u->factor == 0)
			best = u;
	if (value == 0)
		snprintf(text, room, "0");
	else
		snprintf(text, room, "%" PRId64 "%s", value / best->factor,
		    best->suffix);
}

static bool
accepts_also(const struct config_key *key, const char *word)
{
	return key->also != NULL && strcmp(key->also, word) == 0;
}

static bool
in_range(const struct config_key *key, int64_t value)
{
	const struct kind *kind = &kinds[key->type];
	int64_t min = 0, max = 0;

	if (value == 0 && accepts_also(key, "0"))
		return true;
	return read_number(kind, key->min, &min) && value >= min &&
	       read_number(kind, key->max, &max) && value <= max;
}

static bool
set_number(
    const struct config_key *key, const char *text, int64_t *field, char *fault)
{
	const struct kind *kind = &kinds[key->type];
	char limits[CONFIG_FAULT_BYTES / 2];
	int64_t value;

	if (accepts_also(key, "forever") && strcmp(text, "forever") == 0) {
		*field = CONFIG_FOREVER;
		return true;
	}
	if (!read_number(kind, text, &value)) {
		snprintf(fault, CONFIG_FAULT_BYTES,
		    "\"%s\" is not %s (examples: %s)", text, kind->noun,
		    kind->examples);
		return false;
	}
	if (!in_range(key, value)) {
		config_limits(key, limits, sizeof(limits));
		snprintf(fault, CONFIG_FAULT_BYTES,
		    "\"%s\" is out of range (%s)", text, limits);
		return false;
	}
	if (key->type == CONFIG_SECONDS && value % 1000 != 0) {
		snprintf(fault, CONFIG_FAULT_BYTES,
		    "\"%s\" is not a whole number of seconds", text);
		return false;
	}
	*field = value;
	return true;
}

static bool
set_choice(
    const struct config_key *key, const char *text, int64_t *field, char *fault)
{
	char limits[CONFIG_FAULT_BYTES / 2];

	for (int i = 0; key->choices[i] != NULL; i++) {
		if (strcmp(key->choices[i], text) == 0) {
			*field = i;
			return true;
		}
	}
	config_limits(key, limits, sizeof(limits));
	snprintf(
	    fault, CONFIG_FAULT_BYTES, "\"%s\" is not one of %s", text, limits);
	return false;
}

/* A number needs no look-up, and so works where names come from a server that
 * is behind the guest's own network. */
static bool
set_user(const char *text, int64_t *field, char *fault)
{
	struct passwd entry, *user = NULL;
	char room[16 * 1024]; /* for what is in the entry */
	const char *end = text;

	if (*text == '\0') {
		*field = CONFIG_NO_USER;
		return true;
	}
	if (read_digits(&end, 10, field) && *end == '\0') {
		if (*field < (uid_t)CONFIG_NO_USER)
			return true;
	} else if (getpwnam_r(text, &entry, room, sizeof(room), &user) != 0) {
		user = NULL;
	}
	if (user == NULL) {
		snprintf(fault, CONFIG_FAULT_BYTES,
		    "\"%s\" is not a user of this system", text);
		return false;
	}
	*field = user->pw_uid;
	return true;
}

static bool
set_text(
    const struct config_key *key, const char *text, char *field, char *fault)
{
	const char *why = kinds[key->type].fault(text);

	if (why != NULL) {
		snprintf(fault, CONFIG_FAULT_BYTES, "\"%s\" is not %s: %s",
		    text, kinds[key->type].noun, why);
		return false;
	}
	strcpy(field, text);
	return true;
}

/* Why a file can't hold this value, or would not mean what it seems to:
 * what -o sets must survive config_print(). */
static const char *
unwritable(const char *text)
{
	size_t length = strlen(text);

	if (length > CONFIG_VALUE_BYTES)
		return "the value is longer than 180 bytes";
	for (size_t i = 0; i < length; i++) {
		bool first =
		    i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t';

		if (((unsigned char)text[i] < ' ' && text[i] != '\t') ||
		    text[i] == 0x7f)
			return "the value holds a control character";
		if (first && (text[i] == ';' || text[i] == '#'))
			return "a value can't hold \" ;\" or \" #\" "
			       "(a comment after a value begins with ;)";
	}
	if (length > 0 && (strchr(" \t", text[0]) != NULL ||
			      strchr(" \t", text[length - 1]) != NULL))
		return "the value has blanks around it";
	return NULL;
}

bool
config_value_read(const struct config_key *key, const char *text,
    struct config *config, char fault[CONFIG_FAULT_BYTES])
{
	char *field = (char *)config + key->offset;
	const char *why = unwritable(text);
	int64_t number;

	if (why != NULL) {
		snprintf(fault, CONFIG_FAULT_BYTES, "%s", why);
		return false;
	}
	if (kinds[key->type].fault != NULL)
		return set_text(key, text, field, fault);
	if (key->type == CONFIG_USER) {
		if (!set_user(text, &number, fault))
			return false;
	} else if (key->type == CONFIG_CHOICE) {
		if (!set_choice(key, text, &number, fault))
			return false;
	} else if (!set_number(key, text, &number, fault)) {
		return false;
	}
	memcpy(field, &number, sizeof(number));
	return true;
}

void
config_value_write(const struct config_key *key, const struct config *config,
    char text[CONFIG_TEXT_BYTES])
{
	const char *field = (const char *)config + key->offset;
	int64_t number;

	if (kinds[key->type].fault != NULL) {
		snprintf(text, CONFIG_TEXT_BYTES, "%s", field);
		return;
	}
	memcpy(&number, field, sizeof(number));
	if (key->type == CONFIG_CHOICE)
		snprintf(text, CONFIG_TEXT_BYTES, "%s", key->choices[number]);
	else if (key->type == CONFIG_USER && number == CONFIG_NO_USER)
		*text = '\0';
	else if (key->type == CONFIG_USER)
		snprintf(text, CONFIG_TEXT_BYTES, "%" PRId64, number);
	else if (key->type == CONFIG_MODE)
		snprintf(text, CONFIG_TEXT_BYTES, "%04" PRIo64, number);
	else if (number == CONFIG_FOREVER)
		snprintf(text, CONFIG_TEXT_BYTES, "forever");
	else
		write_number(
		    kinds[key->type].units, number, text, CONFIG_TEXT_BYTES);
}

static void
join_choices(const char *const *choices, char *text, size_t room)
{
	size_t used = 0;

	for (int i = 0; choices[i] != NULL && used < room; i++)
		used += (size_t)snprintf(text + used, room - used, "%s%s",
		    i == 0 ? "" : ", ", choices[i]);
}

void
config_limits(const struct config_key *key, char *limits, size_t room)
{
	if (key->type == CONFIG_CHOICE)
		join_choices(key->choices, limits, room);
	else if (key->min == NULL)
		snprintf(limits, room, "%s", kinds[key->type].examples);
	else if (key->also == NULL)
		snprintf(limits, room, "%s to %s", key->min, key->max);
	else
		snprintf(limits, room, "%s to %s, or %s", key->min, key->max,
		    key->also);
}
