/* macOS has no TAP devices. */
#include "guest/guest.h"

static int
tap_open(struct guest *guest, mode_t mode, struct error *error)
{
	(void)mode;
	return error_set(
	    error, "tap:%s: only Linux has TAP devices", guest->endpoint.name);
}

const struct guest_ops guest_tap = { .open = tap_open };
