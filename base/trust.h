/* Whom to believe about a socket file in a folder that others may write: there
 * anybody can bind a path that is free, and is then connected to. */
#ifndef BASE_TRUST_H
#define BASE_TRUST_H

#include <stdbool.h>
#include <sys/types.h>

#define TRUST_NOBODY_ELSE ((uid_t)-1)

/* Whether a file at `path` owned by `owner` may be believed: true if `owner` is
 * root, our own user or `also` (TRUST_NOBODY_ELSE: nobody), or if only its owner
 * may write the folder. An owner that isn't known is TRUST_NOBODY_ELSE.
 * The folder itself, and each one above, must be believable in the same way: in
 * a folder that others may write, one that a stranger made, or a link, is not,
 * and where the sticky bit is missing it could be replaced. A folder that can't
 * be examined is not trusted. The file itself isn't looked at. */
bool trust_owner(const char *path, uid_t owner, uid_t also);

#endif
