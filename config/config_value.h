/* Turns the text of one key into what struct config holds, and back.
 * Knows the types of keys; which keys there are is config.c's matter. */
#ifndef CONFIG_CONFIG_VALUE_H
#define CONFIG_CONFIG_VALUE_H

#include "config/config.h"

/* A line of a file holds this much next to the longest key: inih takes 198
 * bytes a line as Debian builds it. */
#define CONFIG_VALUE_BYTES 180
#define CONFIG_FAULT_BYTES 512

/* Whether a name may hold the character: it stands in the log as it is. */
bool config_name_holds(char c);

/* Sets the key's field. False if the text is refused: *fault says why and
 * the field is as before. */
bool config_value_read(const struct config_key *key, const char *text,
    struct config *config, char fault[CONFIG_FAULT_BYTES]);

/* Writes text that config_value_read() turns into the same value. */
void config_value_write(const struct config_key *key,
    const struct config *config, char text[CONFIG_TEXT_BYTES]);

#endif
