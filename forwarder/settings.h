/* The configuration in force, shared by all threads. main() publishes it at the
 * start and after each reload. Each thread uses a private copy and refreshes it
 * at a suitable point of its loop:
 *
 * 	main        settings_publish()
 * 	any thread  if (settings_refresh(&settings, &mine)) use mine.config
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

/* A thread's private copy. Initialise to zero. */
struct settings_copy {
	struct config config;
	unsigned version; /* 0: none */
};

void settings_init(struct settings *settings, const struct config *config);
void settings_publish(struct settings *settings, const struct config *config);

/* Copies the settings under the lock. Called by settings_refresh() only. */
void settings_take(struct settings *settings, struct settings_copy *mine);

/* Updates the copy if the settings have changed. Returns whether it did. */
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
