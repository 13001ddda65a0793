#include "reconnect/dgram.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/socket.h"
#include "base/trust.h"
#include "reconnect/dial.h"

static int
failed(struct error *error)
{
	return error_set(error, "%s", strerror(errno));
}

static bool
distrust(uid_t owner, struct error *error)
{
	errno = EPERM;
	error_set(error,
	    "the daemon's socket belongs to user %lu, which network.user does "
	    "not allow",
	    (unsigned long)owner);
	return false;
}

/* If not, errno is EPERM; if the file can't be looked at, another one. The error is
 * set. If the path is a symbolic link, both it and its target must be trusted. */
static bool
trusts_file(const struct dial *how, struct error *error)
{
	const char *path = how->endpoint->path;
	char real[PATH_MAX];
	struct stat entry, file;

	if (lstat(path, &entry) < 0 || !realpath(path, real) ||
	    lstat(real, &file) < 0) {
		failed(error);
		return false;
	}
	if (!trust_owner(path, entry.st_uid, how->user))
		return distrust(entry.st_uid, error);
	if (!trust_owner(real, file.st_uid, how->user))
		return distrust(file.st_uid, error);
	return true;
}

bool
dgram_trusts(const struct dial *how, int fd, struct error *error)
{
	(void)fd;
	return trusts_file(how, error) || errno != EPERM;
}

enum dgram_file
dgram_look(const struct dgram *dgram, const char *path)
{
	struct stat there;

	if (stat(path, &there) < 0)
		return DGRAM_MISSING;
	return there.st_dev == dgram->device && there.st_ino == dgram->inode
		   ? DGRAM_SAME
		   : DGRAM_REPLACED;
}

void
dgram_init(struct dgram *dgram, struct doorbell *bell)
{
	*dgram = (struct dgram){ 0 };
	file_watch_init(&dgram->watch, bell);
}

void
dgram_destroy(struct dgram *dgram)
{
	file_watch_destroy(&dgram->watch);
}

void
dgram_release(struct dgram *dgram)
{
	file_watch_stop(&dgram->watch);
	unix_file_remove(&dgram->own);
}

/* The mode of the file doesn't matter: its folder is private. */
static int
bind_own(const struct dial *how, int fd, struct error *error)
{
	struct dgram *dgram = how->dgram;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char name[PRIVATE_NAME_BYTES];
	struct stat made;

	snprintf(name, sizeof(name), "n%u", ++dgram->number);
	if (private_folder_path(how->folder, name, address.sun_path, error) < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    lstat(address.sun_path, &made) < 0)
		return error_set(error, "can't bind %s: %s", address.sun_path,
		    strerror(errno));
	strcpy(dgram->own.path, address.sun_path);
	dgram->own.device = made.st_dev;
	dgram->own.inode = made.st_ino;
	return 0;
}

static int
connect_to(int fd, const char *path, struct error *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	switch (errno) {
	case EPERM:
		errno = EISCONN;
		return error_set(error,
		    "the daemon is connected to another client (restart it)");
	case EPROTOTYPE:
		return error_set(error,
		    "the daemon's socket is not a datagram socket (is it for "
		    "unix:PATH?)");
	default:
		return failed(error);
	}
}

/* Connects, and remembers and watches the file. If it was replaced meanwhile, fails
 * with an error that is retried. */
static int
connect_to_file(const struct dial *how, int fd, struct error *error)
{
	const char *path = how->endpoint->path;
	struct file_watch *watch = &how->dgram->watch;
	struct stat before;

	if (stat(path, &before) < 0)
		return failed(error);
	how->dgram->device = before.st_dev;
	how->dgram->inode = before.st_ino;
	if (how->watch)
		watch->error = file_watch_file(watch, path) < 0 ? errno : 0;
	if (!trusts_file(how, error) || connect_to(fd, path, error) < 0)
		return -1;
	if (dgram_look(how->dgram, path) == DGRAM_SAME)
		return 0;
	errno = ECONNREFUSED;
	return failed(error);
}

static int
send_hello(int fd, struct error *error)
{
	if (send(fd, "VFKT", 4, MSG_DONTWAIT | MSG_NOSIGNAL) == 4)
		return 0;
	if (errno == EAGAIN || errno == ENOBUFS) {
		errno = EAGAIN;
		return error_set(error,
		    "the daemon's queue is full (is the daemon frozen?)");
	}
	return failed(error);
}

static int
set_up(const struct dial *how, int fd, struct error *error)
{
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	socket_datagram_buffers(fd);
	if (bind_own(how, fd, error) < 0 || connect_to_file(how, fd, error) < 0)
		return -1;
	return how->vfkit ? send_hello(fd, error) : 0;
}

int
dgram_dial(const struct dial *how, struct error *error)
{
	int fd, saved;

	if (access(how->endpoint->path, F_OK) < 0)
		return failed(error);
	dgram_release(how->dgram);
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (fd < 0)
		return failed(error);
	if (set_up(how, fd, error) == 0)
		return fd;
	saved = errno;
	dgram_release(how->dgram);
	errno = saved;
	return socket_give_up(fd);
}
