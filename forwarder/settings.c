#include "forwarder/settings.h"

void
settings_init(struct settings *settings, const struct config *config)
{
	mutex_init(&settings->lock);
	settings->version = 0;
	settings_publish(settings, config);
}

void
settings_publish(struct settings *settings, const struct config *config)
{
	mutex_lock(&settings->lock);
	settings->config = *config;
	atomic_fetch_add(&settings->version, 1);
	mutex_unlock(&settings->lock);
}

void
settings_take(struct settings *settings, struct settings_copy *mine)
{
	mutex_lock(&settings->lock);
	mine->config = settings->config;
	mine->version = settings->version;
	mutex_unlock(&settings->lock);
}
