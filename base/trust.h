/* Decides whose socket file to connect to. In a folder that others can write
 * to, any user can bind the path before the daemon does. */
#ifndef BASE_TRUST_H
#define BASE_TRUST_H

#include <stdbool.h>
#include <sys/types.h>

#define TRUST_NO_USER ((uid_t)-1)

/* Whether to trust the file at path, owned by owner (TRUST_NO_USER: not known).
 * Every folder on the path must pass. It does if only its owner can write to
 * it. If not, its entry on the path (a folder, a link or the file) must belong
 * to a trusted user: root, our own user or `also` (TRUST_NO_USER: none). Also,
 * the sticky bit must keep others from replacing the entry, or the file itself
 * must belong to a trusted user. A folder that can't be examined doesn't pass.
 * The file isn't examined. */
bool trust_owner(const char *path, uid_t owner, uid_t also);

#endif
