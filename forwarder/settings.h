/* The configuration that is in force. main() publishes one at the start and at
 * each reload, and wakes the threads that sleep; every thread works from a copy
 * of its own and takes a new one when it comes by:
 *
 *	main        settings_publish()
 *	any thread  if (settings_refresh(&settings, &mine)) use mine.config
 *
 * A refresh costs one atomic load while nothing has changed. */
#ifndef FORWARDER_SETTINGS_H
#define FORWARDER_SETTINGS_H

#include <stdatomic.h>

#include "base/sync.h"
#include "config/config.h"

struct settings {
	struct mutex lock;
	struct config config GUARDED;
	atomic_uint version; /* of config; written under the lock */
};

/* What one thread works from; at first all zero. */
struct settings_copy {
	struct config config;
	unsigned version; /* 0: none */
};

void settings_init(struct settings *settings, const struct config *config);
void settings_publish(struct settings *settings, const struct config *config);

/* For settings_refresh(), which takes no lock. */
void settings_take(struct settings *settings, struct settings_copy *mine);

/* Returns whether the copy is a new one. */
static inline bool
settings_refresh(struct settings *settings, struct settings_copy *mine)
{
	if (mine->version ==
	    atomic_load_explicit(&settings->version, memory_order_acquire))
		return false;
	settings_take(settings, mine);
	return true;
}

#endif
