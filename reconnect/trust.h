/* Whom to believe about a socket file in a folder that others may write: there
 * anybody can bind a path that is free, and is then connected to. */
#ifndef RECONNECT_TRUST_H
#define RECONNECT_TRUST_H

#include <stdbool.h>
#include <sys/types.h>

#define TRUST_NOBODY_ELSE ((uid_t)-1)

/* Whether a file at `path` owned by `owner` may be believed: true if only the
 * folder's owner may write the folder, or `owner` is root, our own user, the
 * folder's owner, or `also` (TRUST_NOBODY_ELSE: nobody). An owner that isn't
 * known is TRUST_NOBODY_ELSE.
 * The same is asked of each folder above in which others may replace the one
 * below: one they may write and that has no sticky bit. A folder that can't be
 * examined is not trusted. The file itself isn't looked at. */
bool trust_owner(const char *path, uid_t owner, uid_t also);

#endif
