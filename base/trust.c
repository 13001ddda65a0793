#include "base/trust.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

static bool
is_believed(uid_t owner, uid_t also)
{
	return owner == 0 || owner == geteuid() ||
	       (owner == also && also != TRUST_NO_USER);
}

/* A user who can write to a folder can add entries. The sticky bit keeps others
 * from replacing an entry, but not from creating it first. */
static bool
trusts(const char *folder, uid_t entry_owner, uid_t owner, uid_t also)
{
	struct stat there;

	if (stat(folder, &there) < 0)
		return false;
	if (!(there.st_mode & (S_IWGRP | S_IWOTH)))
		return true;
	return is_believed(entry_owner, also) &&
	       ((there.st_mode & S_ISVTX) || is_believed(owner, also));
}

/* Checks every folder on the path, with the owner of its entry there. */
static bool
trusts_all(char folder[PATH_MAX], uid_t owner, uid_t also)
{
	uid_t entry_owner = owner;
	struct stat entry;

	do {
		if (!trusts(folder, entry_owner, owner, also) ||
		    lstat(folder, &entry) < 0)
			return false;
		entry_owner = entry.st_uid;
	} while (text_climb(folder));
	return true;
}

/* Checks the path as named, because a symbolic link in it can be replaced, and
 * as resolved. */
bool
trust_owner(const char *path, uid_t owner, uid_t also)
{
	char named[PATH_MAX], real[PATH_MAX];

	if (strlen(path) >= sizeof(named))
		return false;
	strcpy(named, path);
	text_climb(named);
	return realpath(named, real) && trusts_all(real, owner, also) &&
	       trusts_all(named, owner, also);
}
