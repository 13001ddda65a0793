/* Decides whose socket file to connect to. In a folder that others can write
 * to, any user can bind the path before the daemon does. */
#ifndef BASE_TRUST_H
#define BASE_TRUST_H

#include <stdbool.h>
#include <sys/types.h>

#define TRUST_NO_USER ((uid_t)-1)

/* Whether to trust the file at path, owned by owner (TRUST_NO_USER: not known).
 * Trusted users are root, our own user and `also` (TRUST_NO_USER: none). Every
 * folder on the path must be safe:
 *
 *   - only its owner can write to it, or
 *   - its entry on the path (a folder, a link or the file) belongs to a trusted
 *     user, and either the sticky bit keeps others from replacing the entry, or
 *     the file itself belongs to a trusted user.
 *
 * A folder that can't be examined is not safe. The file isn't examined. */
bool trust_owner(const char *path, uid_t owner, uid_t also);

#endif
