#include "reconnect/unix_bind.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "reconnect/socket.h"

/* Not all who knock at once are served at once. */
#define BACKLOG 64

#define LOCK_TRIES 100
#define LOCK_WAIT_MS 10

static int
refuse(
    char *why, size_t why_size, const char *path, int error, const char *reason)
{
	snprintf(
	    why, why_size, "%s: %s", path, reason ? reason : strerror(error));
	errno = error;
	return -1;
}

/* A folder's lock, so that of two processes that find the same stale socket
 * the second doesn't remove what the first has just bound. Whoever else locks
 * the folder (systemd-tmpfiles is told so to keep out) delays a start by
 * LOCK_TRIES * LOCK_WAIT_MS and no more.
 * Returns a descriptor to close, or -1: then go on without. */
static int
lock_folder(const char *path)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;
	int fd;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash == folder)
		slash[1] = '\0';
	else if (slash)
		*slash = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
			break;
		poll(NULL, 0, LOCK_WAIT_MS);
	}
	return fd;
}

/* What connect() says of the socket at the address. Connecting is the only
 * question that a live one's kernel answers: a stream that listens accepts or
 * has a full backlog, a datagram socket with a peer says EPERM. */
static int
ask(int type, const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, type, 0);
	int error = 0;

	if (fd < 0)
		return errno;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		error = errno;
	close(fd);
	return error;
}

/* Removes a socket that refuses connections; anything else stays. */
static int
clear(int type, const struct sockaddr_un *address, char *why, size_t why_size)
{
	const char *path = address->sun_path;
	int error = ask(type, address);
	struct stat file;

	if (lstat(path, &file) == 0 && !S_ISSOCK(file.st_mode))
		return refuse(why, why_size, path, EEXIST,
		    "there is a file that is no socket");
	if (error == ENOENT)
		return 0;
	if (error == EACCES)
		return refuse(why, why_size, path, error, NULL);
	if (error != ECONNREFUSED)
		return refuse(why, why_size, path, EADDRINUSE,
		    "in use by another process that runs");
	if (unlink(path) < 0 && errno != ENOENT)
		return refuse(why, why_size, path, errno, NULL);
	return 0;
}

/* The file is made with these bits: chmod() after bind() would leave a moment
 * in which others could get in. */
static int
bind_with_mode(int fd, const struct sockaddr_un *address, mode_t mode)
{
	mode_t before = umask(~mode & 0777);
	int result =
	    bind(fd, (const struct sockaddr *)address, sizeof(*address));

	umask(before);
	return result;
}

static int
bind_locked(int fd, int type, const struct sockaddr_un *address, mode_t mode,
    char *why, size_t why_size)
{
	int result = bind_with_mode(fd, address, mode);

	if (result < 0 && errno == EADDRINUSE) {
		if (clear(type, address, why, why_size) < 0)
			return -1;
		result = bind_with_mode(fd, address, mode);
	}
	if (result == 0 && type == SOCK_STREAM)
		result = listen(fd, BACKLOG);
	if (result == 0)
		return 0;
	return refuse(why, why_size, address->sun_path, errno,
	    errno == ENOENT ? "its folder doesn't exist (make it, or name "
			      "another path)"
			    : NULL);
}

int
unix_bind(struct unix_file *file, int type, const char *path, mode_t mode,
    char *why, size_t why_size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat made;
	int fd, lock, result;

	*file = (struct unix_file){ 0 };
	if (strlen(path) >= sizeof(address.sun_path))
		return refuse(why, why_size, path, ENAMETOOLONG,
		    "too long for the path of a socket");
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, type, 0);
	if (fd < 0)
		return refuse(why, why_size, path, errno, NULL);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	lock = lock_folder(path);
	result = bind_locked(fd, type, &address, mode, why, why_size);
	if (lock >= 0)
		close(lock);
	if (result == 0 && lstat(path, &made) < 0)
		result = refuse(why, why_size, path, errno, NULL);
	if (result == 0) {
		strcpy(file->path, path);
		file->device = made.st_dev;
		file->inode = made.st_ino;
		return fd;
	}
	return socket_give_up(fd);
}

void
unix_file_remove(struct unix_file *file)
{
	struct stat there;

	if (file->path[0] != '\0' && lstat(file->path, &there) == 0 &&
	    there.st_dev == file->device && there.st_ino == file->inode)
		unlink(file->path);
	file->path[0] = '\0';
}
