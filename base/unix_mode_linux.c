#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/unix_bind.h"

static int
set_mode(int fd, const struct unix_file *file, mode_t mode)
{
	char name[64];
	struct stat there;

	if (fstat(fd, &there) < 0)
		return -1;
	if (there.st_dev != file->device || there.st_ino != file->inode) {
		errno = ESTALE;
		return -1;
	}
	/* fchmod() takes no descriptor that only names a file. */
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return chmod(name, mode);
}

int
unix_file_set_mode(const struct unix_file *file, mode_t mode)
{
	int fd = open(file->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int result, error;

	if (fd < 0)
		return -1;
	result = set_mode(fd, file, mode);
	error = errno;
	close(fd);
	errno = error;
	return result;
}
