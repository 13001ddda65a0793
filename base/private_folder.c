#include "base/private_folder.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/trust.h"

static const char *const variables[] = { "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR",
	"TMPDIR", NULL };

/* Another user may have taken the name after the folder was removed. */
static bool
is_ours(const char *path)
{
	struct stat there;

	return lstat(path, &there) == 0 && S_ISDIR(there.st_mode) &&
	       there.st_uid == geteuid() &&
	       !(there.st_mode & (S_IRWXG | S_IRWXO));
}

static char *
join(char path[PRIVATE_PATH_BYTES], const char *folder, const char *name)
{
	return strcat(strcat(strcpy(path, folder), "/"), name);
}

/* Returns 0, or -1 with errno. systemd separates directories by colons. */
static int
create_in(const char *parent, char path[PRIVATE_PATH_BYTES])
{
	int length = (int)strcspn(parent, ":");
	char inside[PRIVATE_PATH_BYTES];
	int written = snprintf(
	    path, PRIVATE_PATH_BYTES, "%.*s/forwarder-XXXXXX", length, parent);

	errno = ENAMETOOLONG;
	if (written + PRIVATE_NAME_BYTES >= (int)PRIVATE_PATH_BYTES ||
	    !mkdtemp(path))
		return -1;
	if (trust_owner(join(inside, path, "x"), TRUST_NO_USER, TRUST_NO_USER))
		return 0;
	rmdir(path);
	errno = EPERM;
	return -1;
}

static int
create(char path[PRIVATE_PATH_BYTES], struct error *error)
{
	for (const char *const *name = variables; *name; name++) {
		const char *parent = getenv(*name);

		if (parent && parent[0] == '/' && create_in(parent, path) == 0)
			return 0;
	}
	if (create_in("/tmp", path) == 0)
		return 0;
	path[0] = '\0';
	return error_set(error,
	    "a private folder in /tmp: %s (set TMPDIR to another directory)",
	    strerror(errno));
}

void
private_folder_init(struct private_folder *folder)
{
	*folder = (struct private_folder){ .path = "" };
	mutex_init(&folder->lock);
}

int
private_folder_path(struct private_folder *folder, const char *name,
    char path[PRIVATE_PATH_BYTES], struct error *error)
{
	int result = 0;

	assert(strlen(name) < PRIVATE_NAME_BYTES);
	mutex_lock(&folder->lock);
	if (!is_ours(folder->path))
		result = create(folder->path, error);
	if (result == 0)
		join(path, folder->path, name);
	mutex_unlock(&folder->lock);
	return result;
}

static void
remove_files(const char *path)
{
	DIR *folder = opendir(path);
	const struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		unlinkat(dirfd(folder), entry->d_name, 0);
	if (folder)
		closedir(folder);
}

void
private_folder_remove(struct private_folder *folder)
{
	mutex_lock(&folder->lock);
	if (is_ours(folder->path)) {
		remove_files(folder->path);
		rmdir(folder->path);
	}
	folder->path[0] = '\0';
	mutex_unlock(&folder->lock);
}
