#include "base/trust.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

static bool
is_trusted(uid_t owner, uid_t also)
{
	return owner == 0 || owner == geteuid() ||
	       (owner == also && also != TRUST_NO_USER);
}

/* A user who can write to a folder can add entries. The sticky bit keeps others
 * from replacing an entry, but not from creating it first. */
static bool
folder_is_safe(const char *folder, uid_t entry_owner, uid_t owner, uid_t also)
{
	struct stat there;

	if (stat(folder, &there) < 0)
		return false;
	if (!(there.st_mode & (S_IWGRP | S_IWOTH)))
		return true;
	return is_trusted(entry_owner, also) &&
	       ((there.st_mode & S_ISVTX) || is_trusted(owner, also));
}

/* Checks every folder on the path, together with the owner of its entry that is
 * on the path. */
static bool
all_are_safe(char folder[PATH_MAX], uid_t owner, uid_t also)
{
	uid_t entry_owner = owner;
	struct stat entry;

	do {
		if (!folder_is_safe(folder, entry_owner, owner, also) ||
		    lstat(folder, &entry) < 0)
			return false;
		entry_owner = entry.st_uid;
	} while (text_climb(folder));
	return true;
}

/* Checks the path both as resolved and as given, because a symbolic link in it
 * can be replaced. */
bool
trust_owner(const char *path, uid_t owner, uid_t also)
{
	char named[PATH_MAX], real[PATH_MAX];

	if (strlen(path) >= sizeof(named))
		return false;
	strcpy(named, path);
	text_climb(named);
	return realpath(named, real) && all_are_safe(real, owner, also) &&
	       all_are_safe(named, owner, also);
}
