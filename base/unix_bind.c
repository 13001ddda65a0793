#include "base/unix_bind.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/socket.h"

/* Clients may connect faster than they are accepted. */
#define BACKLOG 64

/* What a start waits for the folder's lock, 100 ms in all: two processes that
 * replace a stale socket hold it for microseconds. */
#define LOCK_TRIES 10
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

/* Locks the path's folder, so that of two processes that find the same stale
 * socket the second doesn't remove what the first has just bound. Anybody who
 * may read the folder can hold its lock, so there is a limit to the wait.
 * Returns a descriptor to close, or -1: go on without the lock. */
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

/* What connect() says of the socket at the address: ECONNREFUSED if no process
 * has it open. Only a datagram socket may ask. To a live stream socket it is of
 * the wrong type (EPROTOTYPE), where a stream would become its newest client;
 * to a live datagram socket, connecting means nothing. */
static int
ask(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	int error = 0;

	if (fd < 0)
		return errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		error = errno;
	close(fd);
	return error;
}

/* What stands at the path. Returns 0 if it is a stale socket or gone, or else
 * -1 with the reason. */
static int
expect_stale(const struct sockaddr_un *address, char *why, size_t why_size)
{
	const char *path = address->sun_path;
	int error = ask(address);
	struct stat file;

	if (lstat(path, &file) == 0 && !S_ISSOCK(file.st_mode))
		return refuse(why, why_size, path, EEXIST,
		    "there is a file that is no socket");
	if (error == ECONNREFUSED || error == ENOENT)
		return 0;
	if (error == EACCES)
		return refuse(why, why_size, path, error, NULL);
	return refuse(why, why_size, path, EADDRINUSE,
	    "in use by another process that runs");
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
bind_failed(const struct sockaddr_un *address, char *why, size_t why_size)
{
	int error = errno;
	const char *reason = NULL;

	if (error == ENOENT)
		reason = "its folder doesn't exist (make it, or name "
			 "another path)";
	else if (error == EADDRINUSE)
		reason = "in use by another process that runs";
	return refuse(why, why_size, address->sun_path, error, reason);
}

/* Removes the stale socket at the path and binds in its place. What stands
 * there is looked at again under the lock: another process may just have
 * replaced it. */
static int
replace_stale(int fd, const struct sockaddr_un *address, mode_t mode, char *why,
    size_t why_size)
{
	int lock, result;

	if (expect_stale(address, why, why_size) < 0)
		return -1;
	lock = lock_folder(address->sun_path);
	result = expect_stale(address, why, why_size);
	if (result == 0 && unlink(address->sun_path) < 0 && errno != ENOENT)
		result = refuse(why, why_size, address->sun_path, errno, NULL);
	if (result == 0 && bind_with_mode(fd, address, mode) < 0)
		result = bind_failed(address, why, why_size);
	if (lock >= 0)
		close(lock);
	return result;
}

static int
bind_and_listen(int fd, int type, const struct sockaddr_un *address,
    mode_t mode, char *why, size_t why_size)
{
	if (bind_with_mode(fd, address, mode) < 0) {
		if (errno != EADDRINUSE)
			return bind_failed(address, why, why_size);
		if (replace_stale(fd, address, mode, why, why_size) < 0)
			return -1;
	}
	if (type == SOCK_STREAM && listen(fd, BACKLOG) < 0)
		return refuse(why, why_size, address->sun_path, errno, NULL);
	return 0;
}

int
unix_bind(struct unix_file *file, int type, const char *path, mode_t mode,
    char *why, size_t why_size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat made;
	int fd;

	*file = (struct unix_file){ 0 };
	if (path[0] == '\0') /* or it would be bound to no file */
		return refuse(why, why_size, path, ENOENT, NULL);
	if (strlen(path) >= sizeof(address.sun_path))
		return refuse(why, why_size, path, ENAMETOOLONG,
		    "too long for the path of a socket");
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, type, 0);
	if (fd < 0)
		return refuse(why, why_size, path, errno, NULL);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (bind_and_listen(fd, type, &address, mode, why, why_size) < 0)
		return socket_give_up(fd);
	strcpy(file->path, path);
	/* Gone already? Then it is as if it went a moment later. */
	if (lstat(path, &made) == 0) {
		file->device = made.st_dev;
		file->inode = made.st_ino;
	}
	return fd;
}

bool
unix_file_stands(const struct unix_file *file)
{
	struct stat there;

	return file->path[0] != '\0' && lstat(file->path, &there) == 0 &&
	       there.st_dev == file->device && there.st_ino == file->inode;
}

void
unix_file_remove(struct unix_file *file)
{
	if (unix_file_stands(file))
		unlink(file->path);
	file->path[0] = '\0';
}
