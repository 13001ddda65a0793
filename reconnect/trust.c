#include "reconnect/trust.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Makes a path that of its folder. False: it is "/" or "." already. */
static bool
climb(char path[PATH_MAX])
{
	char *slash = strrchr(path, '/');

	if (strcmp(path, "/") == 0 || strcmp(path, ".") == 0)
		return false;
	if (!slash)
		snprintf(path, PATH_MAX, ".");
	else if (slash == path)
		slash[1] = '\0';
	else
		*slash = '\0';
	return true;
}

/* `protects`: mode bits that make a folder safe though others may write it. */
static bool
trusts(const char *folder, mode_t protects, uid_t owner, uid_t also)
{
	struct stat there;

	if (stat(folder, &there) < 0)
		return false;
	if (!(there.st_mode & (S_IWGRP | S_IWOTH)) ||
	    (there.st_mode & protects))
		return true;
	return owner == 0 || owner == geteuid() || owner == there.st_uid ||
	       (owner == also && also != TRUST_NOBODY_ELSE);
}

/* The sticky bit keeps others from replacing a folder, but not from binding a
 * free path: it protects only in the folders above. */
static bool
trusts_all(char folder[PATH_MAX], uid_t owner, uid_t also)
{
	mode_t protects = 0;

	do {
		if (!trusts(folder, protects, owner, also))
			return false;
		protects = S_ISVTX;
	} while (climb(folder));
	return true;
}

/* Both ways to the folder: as it is named, since a symbolic link on that way can
 * be replaced, and as it is. */
bool
trust_owner(const char *path, uid_t owner, uid_t also)
{
	char named[PATH_MAX], real[PATH_MAX];

	if (strlen(path) >= sizeof(named))
		return false;
	strcpy(named, path);
	climb(named);
	return realpath(named, real) && trusts_all(real, owner, also) &&
	       trusts_all(named, owner, also);
}
