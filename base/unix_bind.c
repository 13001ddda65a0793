#include "base/unix_bind.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/socket.h"
#include "base/text.h"
#include "base/wait.h"

/* Clients may connect faster than they are accepted. */
#define BACKLOG 64

/* Waits up to 100 ms for the folder's lock: a process that replaces a stale
 * socket holds it for microseconds. */
#define LOCK_TRIES 10
#define LOCK_WAIT_MS 10

static const char in_use[] =
    "in use by another running process (stop it, or name another path)";

static int
refused(struct error *error, const char *path, int code, const char *reason)
{
	errno = code;
	return error_set(
	    error, "%s: %s", path, reason ? reason : strerror(code));
}

/* Locks the path's folder, or two processes could find the same stale socket,
 * and the second would remove what the first has just bound. Any user who can
 * read the folder can hold its lock, so the wait is limited, and failure is
 * accepted. Returns a descriptor to close, or -1. */
static int
lock_folder(const char *path)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd;

	strcpy(folder, path);
	text_climb(folder);
	fd = open(folder, O_RDONLY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
			break;
		wait_pause(LOCK_WAIT_MS);
	}
	return fd;
}

/* Returns the errno of a connect() to the address: ECONNREFUSED if no process
 * has the socket open. The call must not disturb a live one: a stream socket
 * refuses a datagram socket (EPROTOTYPE), and a datagram socket doesn't notice
 * it. */
static int
try_connect(const struct sockaddr_un *address)
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

/* Returns 0 if the path has a stale socket or nothing, else -1. */
static int
expect_stale(const struct sockaddr_un *address, struct error *error)
{
	const char *path = address->sun_path;
	int code = try_connect(address);
	struct stat file;

	if (lstat(path, &file) == 0 && !S_ISSOCK(file.st_mode))
		return refused(error, path, EEXIST,
		    "there is a file that is not a socket (remove it, or name "
		    "another path)");
	if (code == ECONNREFUSED || code == ENOENT)
		return 0;
	if (code == EACCES)
		return refused(error, path, code, NULL);
	return refused(error, path, EADDRINUSE, in_use);
}

/* Uses umask(): before a chmod() that follows bind(), others could connect. */
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
bind_failed(const struct sockaddr_un *address, struct error *error)
{
	const char *reason = NULL;

	if (errno == ENOENT)
		reason = "its folder doesn't exist (make it, or name another "
			 "path)";
	else if (errno == EADDRINUSE)
		reason = in_use;
	else if (errno == EROFS)
		reason = "a read-only folder (as a service, use its "
			 "RuntimeDirectory=, or add ReadWritePaths=)";
	return refused(error, address->sun_path, errno, reason);
}

/* Removes the stale socket at the path and binds in its place. Examines it
 * under the lock, because another process may just have replaced it. */
static int
replace_stale(
    int fd, const struct sockaddr_un *address, mode_t mode, struct error *error)
{
	int lock = lock_folder(address->sun_path);
	int result = expect_stale(address, error);

	if (result == 0 && unlink(address->sun_path) < 0 && errno != ENOENT)
		result = refused(error, address->sun_path, errno, NULL);
	if (result == 0 && bind_with_mode(fd, address, mode) < 0)
		result = bind_failed(address, error);
	if (lock >= 0)
		close(lock);
	return result;
}

static int
bind_and_listen(int fd, int type, const struct sockaddr_un *address,
    mode_t mode, struct error *error)
{
	if (bind_with_mode(fd, address, mode) < 0) {
		if (errno != EADDRINUSE)
			return bind_failed(address, error);
		if (replace_stale(fd, address, mode, error) < 0)
			return -1;
	}
	if (type == SOCK_STREAM && listen(fd, BACKLOG) < 0)
		return refused(error, address->sun_path, errno, NULL);
	return 0;
}

int
unix_bind(struct unix_file *file, int type, const char *path, mode_t mode,
    struct error *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat made;
	int fd;

	*file = (struct unix_file){ 0 };
	if (path[0] == '\0') /* would be bound to no file */
		return refused(error, path, ENOENT, NULL);
	if (strlen(path) >= sizeof(address.sun_path))
		return refused(error, path, ENAMETOOLONG,
		    "too long for the path of a socket");
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, type, 0);
	if (fd < 0)
		return refused(error, path, errno, NULL);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (type == SOCK_DGRAM)
		socket_datagram_buffers(fd);
	if (bind_and_listen(fd, type, &address, mode, error) < 0)
		return socket_give_up(fd);
	strcpy(file->path, path);
	/* If the file is gone already, unix_file_stands() returns false. */
	if (lstat(path, &made) == 0) {
		file->device = made.st_dev;
		file->inode = made.st_ino;
	}
	return fd;
}

/* The kernel lets only its peer connect to a connected datagram socket. */
enum unix_socket
unix_file_look(struct unix_file *file, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat there;

	*file = (struct unix_file){ 0 };
	strcpy(address.sun_path, path);
	strcpy(file->path, path);
	if (lstat(path, &there) < 0)
		return UNIX_NO_SOCKET;
	file->device = there.st_dev;
	file->inode = there.st_ino;
	switch (try_connect(&address)) {
	case 0:
		return UNIX_FREE_SOCKET;
	case EPROTOTYPE:
		return UNIX_STREAM_SOCKET;
	case EPERM:
		return UNIX_CONNECTED_SOCKET;
	case EACCES:
		return UNIX_FORBIDDEN_SOCKET;
	default:
		return UNIX_NO_SOCKET;
	}
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
