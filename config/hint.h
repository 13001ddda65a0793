/* Finds the name that was meant by a mistyped one. */
#ifndef CONFIG_HINT_H
#define CONFIG_HINT_H

#include <stdbool.h>
#include <stddef.h>

/* Whether `name` may have been meant, and is nearer than the best so far, whose
 * distance is *best (at first SIZE_MAX). A third of the letters may be wrong;
 * case doesn't count. */
bool hint_is_nearer(const char *typed, const char *name, size_t *best);

#endif
