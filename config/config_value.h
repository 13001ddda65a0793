/* Turns the text of one key into what struct config holds, and back. Knows the
 * types of keys; config.c knows the keys. */
#ifndef CONFIG_CONFIG_VALUE_H
#define CONFIG_CONFIG_VALUE_H

#include "config/config.h"

#define CONFIG_TEXT_BYTES 512

/* Whether a name may hold the character: it stands in the log as it is. */
bool config_name_holds(char c);

/* Sets the key's field. Returns 0, or -1 with the error set and the field as
 * before. */
int config_value_parse(const struct config_key *key, const char *text,
    struct config *config, struct error *error);

/* Writes text that config_value_parse() turns into the same value. */
void config_value_print(const struct config_key *key,
    const struct config *config, char text[CONFIG_TEXT_BYTES]);

#endif
