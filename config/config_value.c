#include "config/config_value.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <pwd.h>
#include <string.h>

static int
parse_guest(const char *text, void *field, struct error *why)
{
	return guest_endpoint_parse(field, text, why);
}

static int
parse_network(const char *text, void *field, struct error *why)
{
	/* config_check() reports one that is missing. */
	return *text == '\0' ? 0 : endpoint_parse(field, text, why);
}

static int
parse_path(const char *text, void *field, struct error *why)
{
	return *text == '\0' ? 0 : endpoint_parse_path(field, text, why);
}

bool
config_name_holds(char c)
{
	return c > ' ' && c <= '~' && c != '"' && c != '\\' && c != '=';
}

static int
parse_name(const char *text, void *field, struct error *why)
{
	if (strlen(text) >= LOG_NAME_BYTES)
		return error_set(why, "longer than 63 bytes");
	for (const char *c = text; *c != '\0'; c++)
		if (!config_name_holds(*c))
			return error_set(why,
			    "use letters, digits and signs, but no blanks, "
			    "quotes, \\ or =");
	strcpy(field, text);
	return 0;
}

static int
parse_gateway(const char *text, void *field, struct error *why)
{
	struct config_gateway *gateway = field;

	gateway->given = inet_pton(AF_INET, text, gateway->address) == 1;
	if (!gateway->given && *text != '\0')
		return error_set(why, "it is written 192.168.5.1");
	strcpy(gateway->text, text);
	return 0;
}

static int
parse_cidrs(const char *text, void *field, struct error *why)
{
	return cidr_list_parse(field, text, why);
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

/* A text has `parse`, a choice `choices`, and everything else is a number. */
static const struct type {
	const char *noun, *examples;
	int (*parse)(const char *text, void *field, struct error *why);
	const char *const *choices;
	const struct unit *units;
	int base;
} types[] = {
	[CONFIG_GUEST] = { "a guest endpoint", "fd:N, unixgram:PATH, tap:NAME",
	    parse_guest, NULL, NULL, 0 },
	[CONFIG_NETWORK] = { "a network endpoint",
	    "unix:PATH, tcp:HOST:PORT, listen-unix:PATH, listen-tcp:ADDR:PORT",
	    parse_network, NULL, NULL, 0 },
	[CONFIG_PATH] = { "a path for a socket", "a path, or empty", parse_path,
	    NULL, NULL, 0 },
	[CONFIG_NAME] = { "a name", "a name without blanks, or empty",
	    parse_name, NULL, NULL, 0 },
	[CONFIG_GATEWAY] = { "an IPv4 address", "an IPv4 address, or empty",
	    parse_gateway, NULL, NULL, 0 },
	[CONFIG_CIDRS] = { "a list of networks",
	    "networks such as 192.168.0.0/16, or empty", parse_cidrs, NULL,
	    NULL, 0 },
	[CONFIG_DURATION] = { "a duration", "500ms, 5s, 2m", NULL, NULL,
	    duration_units, 10 },
	[CONFIG_SECONDS] = { "a duration", "5s, 90s, 2m", NULL, NULL,
	    duration_units, 10 },
	[CONFIG_BYTES] = { "a size", "1500, 32K, 1M", NULL, NULL, byte_units,
	    10 },
	[CONFIG_NUMBER] = { "a whole number", "1, 25", NULL, NULL, no_units,
	    10 },
	[CONFIG_MODE] = { "an octal mode", "0600, 0660", NULL, NULL, no_units,
	    8 },
	[CONFIG_USER] = { "a user", "a user's name or number, or empty", NULL,
	    NULL, no_units, 10 },
	[CONFIG_YES_NO] = { NULL, NULL, NULL, yes_no, NULL, 0 },
	[CONFIG_KEEPALIVE] = { NULL, NULL, NULL, keepalive_modes, NULL, 0 },
	[CONFIG_LOG_LEVEL] = { NULL, NULL, NULL, log_levels, NULL, 0 },
};

/* Takes the unit off the front of *text. False: no unit stands there. */
static bool
take_unit(const char **text, const struct unit *units, int64_t *factor)
{
	size_t longest = 0;
	bool found = false;

	for (const struct unit *u = units; u->suffix != NULL; u++) {
		size_t length = strlen(u->suffix);

		if (length < longest || strncmp(*text, u->suffix, length) != 0)
			continue;
		*factor = u->factor;
		longest = length;
		found = true;
	}
	*text += longest;
	return found;
}

/* Takes a number with its unit off the front of *text; 0 needs no unit. What is
 * too large for 64 bits becomes the largest number, which no key accepts. */
static bool
take_number(const char **text, const struct type *type, int64_t *value)
{
	const char *start = *text;
	int64_t factor = 1;

	*value = 0;
	for (; **text >= '0' && **text < '0' + type->base; (*text)++) {
		int digit = **text - '0';

		if (*value > (INT64_MAX - digit) / type->base)
			*value = INT64_MAX;
		else
			*value = *value * type->base + digit;
	}
	if (*text == start ||
	    (!take_unit(text, type->units, &factor) && *value != 0))
		return false;
	*value = *value > INT64_MAX / factor ? INT64_MAX : *value * factor;
	return true;
}

/* With the largest unit that leaves no rest. */
static void
print_number(const struct unit *units, int64_t value, char *text)
{
	const struct unit *best = units;

	for (const struct unit *u = units; u->suffix != NULL; u++)
		if (value % u->factor == 0)
			best = u;
	if (value == 0)
		strcpy(text, "0");
	else
		sprintf(
		    text, "%" PRId64 "%s", value / best->factor, best->suffix);
}

/* Whether the limits end with this word: they read "MIN to MAX, or WORD". */
static bool
accepts_also(const struct config_key *key, const char *word)
{
	const char *also = strstr(key->limits, ", or ");

	return also != NULL && strcmp(also + strlen(", or "), word) == 0;
}

static bool
is_in_range(const struct config_key *key, int64_t value)
{
	const struct type *type = &types[key->type];
	const char *at = key->limits;
	int64_t min = 0, max = 0;

	take_number(&at, type, &min);
	at += strlen(" to ");
	take_number(&at, type, &max);
	return (value >= min && value <= max) ||
	       (value == 0 && accepts_also(key, "0"));
}

static int
parse_number(const struct config_key *key, const char *text, int64_t *value,
    struct error *error)
{
	const struct type *type = &types[key->type];
	const char *end = text;

	if (accepts_also(key, "forever") && strcmp(text, "forever") == 0) {
		*value = CONFIG_FOREVER;
		return 0;
	}
	if (!take_number(&end, type, value) || *end != '\0')
		return error_set(error, "\"%s\" is not %s (examples: %s)", text,
		    type->noun, type->examples);
	if (!is_in_range(key, *value))
		return error_set(
		    error, "\"%s\" is out of range (%s)", text, key->limits);
	if (key->type != CONFIG_SECONDS)
		return 0;
	if (*value % 1000 != 0)
		return error_set(
		    error, "\"%s\" is not a whole number of seconds", text);
	*value /= 1000;
	return 0;
}

static int
parse_choice(const struct config_key *key, const char *text, int64_t *value,
    struct error *error)
{
	const char *const *choices = types[key->type].choices;
	char limits[CONFIG_TEXT_BYTES / 2];

	for (*value = 0; choices[*value] != NULL; (*value)++)
		if (strcmp(choices[*value], text) == 0)
			return 0;
	config_limits(key, limits, sizeof(limits));
	return error_set(error, "\"%s\" is not one of %s", text, limits);
}

/* A number needs no look-up, and so works where names come from a server that
 * is behind the guest's own network. */
static int
parse_user(const char *text, int64_t *value, struct error *error)
{
	struct passwd entry, *user = NULL;
	char room[16 * 1024]; /* for what is in the entry */
	const char *end = text;

	if (*text == '\0') {
		*value = CONFIG_NO_USER;
		return 0;
	}
	if (take_number(&end, &types[CONFIG_USER], value) && *end == '\0') {
		if (*value < CONFIG_NO_USER)
			return 0;
	} else if (getpwnam_r(text, &entry, room, sizeof(room), &user) == 0 &&
		   user != NULL) {
		*value = user->pw_uid;
		return 0;
	}
	return error_set(error, "\"%s\" is not a user of this system", text);
}

/* What -o sets must survive config_print(): refuses what a file can't hold, or
 * what would mean something else there. */
static int
check_writable(const char *text, struct error *error)
{
	size_t length = strlen(text);

	if (length > CONFIG_VALUE_BYTES)
		return error_set(error, "the value is longer than 180 bytes");
	for (size_t i = 0; i < length; i++) {
		bool first =
		    i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t';

		if (((unsigned char)text[i] < ' ' && text[i] != '\t') ||
		    text[i] == 0x7f)
			return error_set(
			    error, "the value holds a control character");
		if (first && (text[i] == ';' || text[i] == '#'))
			return error_set(error,
			    "a value can't hold \" ;\" or \" #\" "
			    "(a comment after a value begins with ;)");
	}
	if (length > 0 && (strchr(" \t", text[0]) != NULL ||
			      strchr(" \t", text[length - 1]) != NULL))
		return error_set(error, "the value has blanks around it");
	return 0;
}

static int
set_text(const struct config_key *key, const char *text, void *field,
    struct error *error)
{
	const struct type *type = &types[key->type];
	union {
		struct guest_endpoint guest;
		struct endpoint network;
		struct cidr_list cidrs;
		struct config_gateway gateway;
		char text[CONFIG_VALUE_BYTES + 1];
	} value;
	struct error why;

	memset(&value, 0, sizeof(value));
	if (type->parse(text, &value, &why) < 0)
		return error_set(
		    error, "\"%s\" is not %s: %s", text, type->noun, why.text);
	memcpy(field, &value, key->size);
	return 0;
}

/* A number field is a bool, an enum, a mode_t and so on. */
union number {
	uint8_t byte;
	uint16_t half;
	uint32_t word;
	int64_t whole;
};

static int
set_number(const struct config_key *key, const char *text, void *field,
    struct error *error)
{
	union number number;
	int64_t value;
	int result = types[key->type].choices != NULL
			 ? parse_choice(key, text, &value, error)
		     : key->type == CONFIG_USER
			 ? parse_user(text, &value, error)
			 : parse_number(key, text, &value, error);

	if (result < 0)
		return -1;
	if (key->size == sizeof(number.byte))
		number.byte = (uint8_t)value;
	else if (key->size == sizeof(number.half))
		number.half = (uint16_t)value;
	else if (key->size == sizeof(number.word))
		number.word = (uint32_t)value;
	else
		number.whole = value;
	memcpy(field, &number, key->size);
	return 0;
}

static int64_t
get_number(const struct config_key *key, const void *field)
{
	union number number;

	memcpy(&number, field, key->size);
	return key->size == sizeof(number.byte)   ? number.byte
	       : key->size == sizeof(number.half) ? number.half
	       : key->size == sizeof(number.word) ? number.word
						  : number.whole;
}

int
config_value_parse(const struct config_key *key, const char *text,
    struct config *config, struct error *error)
{
	void *field = (char *)config + key->offset;

	if (check_writable(text, error) < 0)
		return -1;
	return types[key->type].parse != NULL
		   ? set_text(key, text, field, error)
		   : set_number(key, text, field, error);
}

void
config_value_print(const struct config_key *key, const struct config *config,
    char text[CONFIG_TEXT_BYTES])
{
	const char *field = (const char *)config + key->offset;
	const struct type *type = &types[key->type];
	int64_t value;

	if (type->parse != NULL) {
		snprintf(text, CONFIG_TEXT_BYTES, "%s", field);
		return;
	}
	value = get_number(key, field);
	if (key->type == CONFIG_SECONDS)
		value *= 1000;
	if (type->choices != NULL)
		strcpy(text, type->choices[value]);
	else if (key->type == CONFIG_USER && value == CONFIG_NO_USER)
		*text = '\0';
	else if (key->type == CONFIG_MODE)
		sprintf(text, "%04" PRIo64, value);
	else if (value == CONFIG_FOREVER)
		strcpy(text, "forever");
	else
		print_number(type->units, value, text);
}

void
config_limits(const struct config_key *key, char *limits, size_t room)
{
	const struct type *type = &types[key->type];
	size_t used = 0;

	if (type->choices == NULL) {
		snprintf(limits, room, "%s",
		    key->limits != NULL ? key->limits : type->examples);
		return;
	}
	for (int i = 0; type->choices[i] != NULL && used < room; i++)
		used += (size_t)snprintf(limits + used, room - used, "%s%s",
		    i == 0 ? "" : ", ", type->choices[i]);
}
