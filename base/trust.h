/* Whose socket file to connect to. In a folder that others may write, anybody
 * can bind a free path before its owner does. */
#ifndef BASE_TRUST_H
#define BASE_TRUST_H

#include <stdbool.h>
#include <sys/types.h>

#define TRUST_NOBODY_ELSE ((uid_t)-1)

/* Whether to trust a file at path that is owned by owner (TRUST_NOBODY_ELSE: not
 * known). Each folder on the way must pass, with its entry on that way (a
 * folder, a link or the file): if only its owner may write it, it passes; if
 * not, the entry must belong to root, our own user or `also`
 * (TRUST_NOBODY_ELSE: nobody), and either the sticky bit keeps others from
 * replacing the entry, or the file itself belongs to one of these. A folder
 * that can't be examined doesn't pass. The file isn't examined. */
bool trust_owner(const char *path, uid_t owner, uid_t also);

#endif
