#include "config/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

static int
parse_name(const char *text, char *name, struct error *why)
{
	if (strlen(text) >= LOG_NAME_BYTES)
		return error_set(why, "longer than 63 bytes");
	for (const char *c = text; *c != '\0'; c++)
		if (!log_name_holds(*c))
			return error_set(why,
			    "use printable ASCII characters, but no blanks, "
			    "quotes, \\ or =");
	strcpy(name, text);
	return 0;
}

static int
parse_gateway(
    const char *text, struct config_gateway *gateway, struct error *why)
{
	gateway->given = inet_pton(AF_INET, text, gateway->address) == 1;
	return gateway->given ? 0 : error_set(why, "write it as 192.168.5.1");
}

/* Empty text leaves the field zeroed, which means none. */
static int
parse_text(
    enum config_type type, const char *text, void *field, struct error *why)
{
	if (*text == '\0' && type != CONFIG_GUEST)
		return 0;
	switch (type) {
	case CONFIG_GUEST:
		return guest_endpoint_parse(field, text, why);
	case CONFIG_NETWORK:
		return endpoint_parse(field, text, why);
	case CONFIG_PATH:
		return endpoint_parse_path(field, text, why);
	case CONFIG_GATEWAY:
		return parse_gateway(text, field, why);
	case CONFIG_CIDRS:
		return cidr_list_parse(field, text, why);
	default:
		return parse_name(text, field, why);
	}
}

struct unit {
	const char *suffix;
	int64_t factor;
};

static const struct unit none[] = { { "", 1 }, { NULL, 0 } };
static const struct unit milliseconds[] = { { "ms", 1 }, { "s", 1000 },
	{ "m", 60 * 1000 }, { "h", 60 * 60 * 1000 }, { NULL, 0 } };
static const struct unit seconds[] = { { "s", 1 }, { "m", 60 },
	{ "h", 60 * 60 }, { NULL, 0 } };
static const struct unit bytes[] = { { "", 1 }, { "K", 1024 },
	{ "M", 1024 * 1024 }, { NULL, 0 } };

/* How each type is parsed and named in errors. With units: as a number. Without
 * a noun: as one of the words in `examples`, which are in the order of the
 * enum. Otherwise: as text. */
/* clang-format off */
static const struct type {
	const char *noun, *examples;
	const struct unit *units;
} types[] = {
	[CONFIG_GUEST] = { "a guest endpoint",
	  "fd:N, unixgram:PATH, listen-unix:PATH, tap:NAME", NULL },
	[CONFIG_NETWORK] = { "a network endpoint",
	  "unix:PATH, unixgram:PATH, tcp:HOST:PORT, listen-unix:PATH, "
	  "listen-tcp:ADDR:PORT, exec:COMMAND, exec-dgram:COMMAND",
	  NULL },
	[CONFIG_PATH] = { "a path for a socket", "a path, or empty", NULL },
	[CONFIG_NAME] = { "a name", "a name without blanks, or empty", NULL },
	[CONFIG_GATEWAY] = { "an IPv4 address",
	  "an IPv4 address, or empty", NULL },
	[CONFIG_CIDRS] = { "a list of networks",
	  "networks such as 192.168.0.0/16, or empty", NULL },
	[CONFIG_DURATION] = { "a duration", "500ms, 5s, 2m", milliseconds },
	[CONFIG_SECONDS] = { "a duration of whole seconds",
	  "5s, 90s, 2m", seconds },
	[CONFIG_BYTES] = { "a size", "1500, 32K, 1M", bytes },
	[CONFIG_NUMBER] = { "a whole number", "1, 25", none },
	[CONFIG_MODE] = { "an octal mode", "0600, 0660", none },
	[CONFIG_USER] = { "a user",
	  "a user's name or number, or empty", none },
	[CONFIG_YES_NO] = { NULL, "no, yes", NULL },
	[CONFIG_KEEPALIVE] = { NULL, "off, passive, arp, peer, auto", NULL },
	[CONFIG_LOG_LEVEL] = { NULL, "error, warn, info, debug", NULL },
};
/* clang-format on */

/* Reads a number with its unit and advances *text; 0 needs no unit. A number
 * too large for 64 bits becomes INT64_MAX, which no key accepts. */
static bool
take_number(const char **text, const struct type *type, int64_t *value)
{
	const struct unit *unit = type->units;
	size_t length;
	char *end;

	if (!isdigit((unsigned char)**text))
		return false;
	*value = strtoll(*text, &end, type == &types[CONFIG_MODE] ? 8 : 10);
	length = strspn(end, "mshKM");
	while (unit->suffix != NULL &&
	       (strlen(unit->suffix) != length ||
		   strncmp(unit->suffix, end, length) != 0))
		unit++;
	*text = end + length;
	if (unit->suffix == NULL)
		return *value == 0 && length == 0;
	*value = *value > INT64_MAX / unit->factor ? INT64_MAX
						   : *value * unit->factor;
	return true;
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
	return 0;
}

static int
parse_choice(const struct config_key *key, const char *text, int64_t *value,
    struct error *error)
{
	const char *at = types[key->type].examples;
	size_t length = strlen(text);

	*value = 0;
	while (strcspn(at, ",") != length || strncmp(at, text, length) != 0) {
		at = strchr(at, ',');
		if (at == NULL)
			return error_set(error, "\"%s\" is not one of %s", text,
			    types[key->type].examples);
		at += strlen(", ");
		++*value;
	}
	return 0;
}

/* A number is not looked up, so it works even if the name service is reached
 * through the guest's network. */
static int
parse_user(const char *text, int64_t *value, struct error *error)
{
	struct passwd entry, *user = NULL;
	char room[16 * 1024]; /* for the entry's strings */
	const char *end = text;

	*value = CONFIG_NO_USER;
	if (*text == '\0')
		return 0;
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

/* config_read() must read the same value from the output of config_print(), so
 * this refuses what can't be written to a file, or would change its meaning
 * there. */
static int
check_writable(const char *text, struct error *error)
{
	unsigned char before = ' ';
	bool good = !isblank((unsigned char)*text);

	if (strlen(text) > CONFIG_VALUE_BYTES)
		return error_set(error, "the value is longer than %d bytes",
		    CONFIG_VALUE_BYTES);
	for (const char *c = text; *c != '\0'; before = (unsigned char)*c++)
		if ((iscntrl((unsigned char)*c) && *c != '\t') ||
		    (isblank(before) && strchr(";#", *c) != NULL))
			good = false;
	if (good && (*text == '\0' || !isblank(before)))
		return 0;
	return error_set(error,
	    "a value can't have blanks around it, control characters, "
	    "or a word that begins with ; or #");
}

static int
set_number(const struct config_key *key, const char *text, void *field,
    struct error *error)
{
	/* A field is a bool, a mode_t, an enum and so on. */
	union {
		uint8_t byte;
		uint16_t half;
		uint32_t word;
		int64_t whole;
	} number;
	const struct type *type = &types[key->type];
	int64_t value = 0;
	int result = type->noun == NULL ? parse_choice(key, text, &value, error)
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

int
config_value_parse(const struct config_key *key, const char *text,
    struct config *config, struct error *error)
{
	const struct type *type = &types[key->type];
	void *field = (char *)config + key->offset;
	struct error why;

	if (check_writable(text, error) < 0)
		return -1;
	if (type->noun == NULL || type->units != NULL)
		return set_number(key, text, field, error);
	memset(field, 0, key->size);
	return parse_text(key->type, text, field, &why) == 0
		   ? 0
		   : error_set(error, "\"%s\" is not %s: %s", text, type->noun,
			 why.text);
}

const char *
config_limits(const struct config_key *key)
{
	return key->limits != NULL ? key->limits : types[key->type].examples;
}
