/* Without O_PATH: a link is never followed, and another file at the path is
 * changed only if it came between the two calls. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/unix_bind.h"

int
unix_file_set_mode(const struct unix_file *file, mode_t mode)
{
	struct stat there;

	if (lstat(file->path, &there) < 0)
		return -1;
	if (there.st_dev != file->device || there.st_ino != file->inode) {
		errno = ESTALE;
		return -1;
	}
	return fchmodat(AT_FDCWD, file->path, mode, AT_SYMLINK_NOFOLLOW);
}
