/* Sets one key of a configuration from its text. */
#ifndef TESTS_SUPPORT_SET_KEY_H
#define TESTS_SUPPORT_SET_KEY_H

#include <check.h>

#include "config/config.h"

static inline void
set_key(struct config *config, const char *section, const char *name,
    const char *value)
{
	struct config_problems problems = { .count = 0 };

	config_set(config, section, name, value, 0, "test", &problems);
	ck_assert_msg(
	    problems.count == 0, "[%s] %s = %s", section, name, value);
}

#endif
