/* The parts of clock.h, sync.h, socket.h, shared_memory.h and unix_bind.h that
 * differ between systems. REPLACEABLE: a suite may link its own function
 * instead. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/shared_memory.h"
#include "base/socket.h"
#include "base/sync.h"
#include "base/unix_bind.h"

#define REPLACEABLE __attribute__((weak))

static int64_t
read_us(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

REPLACEABLE int64_t
clock_now_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

/* CLOCK_BOOTTIME goes on during a suspend, CLOCK_MONOTONIC doesn't. */
REPLACEABLE int64_t
clock_suspended_ms(void)
{
	return (read_us(CLOCK_BOOTTIME) - read_us(CLOCK_MONOTONIC)) / 1000;
}

/* TFD_TIMER_CANCEL_ON_SET: readable when the offset between the clocks REALTIME
 * and MONOTONIC has changed, as it has after a suspend (fs/timerfd.c,
 * timerfd_resume()). The timer itself never expires. */
REPLACEABLE int
clock_resume_open(void)
{
	const struct itimerspec never = { .it_value.tv_sec = INT32_MAX };
	int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd >= 0 &&
	    timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET,
		&never, NULL) < 0)
		return socket_give_up(fd);
	return fd;
}

void
clock_resume_answer(int fd)
{
	uint64_t unused;

	(void)!read(fd, &unused, sizeof(unused)); /* fails with ECANCELED */
}

void
condition_init(struct condition *condition)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	MUST(pthread_cond_init(&condition->pthread, &attributes));
	pthread_condattr_destroy(&attributes);
}

void
condition_wait(
    struct condition *condition, struct mutex *mutex, int64_t deadline_ms)
{
	struct timespec until = { .tv_sec = (time_t)(deadline_ms / 1000),
		.tv_nsec = (long)(deadline_ms % 1000) * 1000000 };

	if (deadline_ms == CONDITION_NO_DEADLINE)
		pthread_cond_wait(&condition->pthread, &mutex->pthread);
	else
		pthread_cond_timedwait(
		    &condition->pthread, &mutex->pthread, &until);
}

void
thread_name(const char *name)
{
	pthread_setname_np(pthread_self(), name);
}

/* No SIGPIPE: every send has MSG_NOSIGNAL, or log_open() ignores the signal.
 * The default buffers (208 KiB) hold six batches. */
REPLACEABLE int
socket_stream(int family)
{
	return socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* The default takes a frame of any length. A larger SO_SNDBUF would let more
 * frames queue for a guest that is slow. */
void
socket_datagram_buffers(int fd)
{
	(void)fd;
}

int
socket_pair(int type, int ends[2])
{
	return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends);
}

void
socket_stream_options(int fd, int family)
{
	(void)fd;
	(void)family;
}

pid_t
peer_process(int fd)
{
	struct ucred peer = { .pid = 0 };
	socklen_t length = sizeof(peer);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
	return peer.pid;
}

REPLACEABLE int
peer_user(int fd, uid_t *user)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return -1;
	*user = peer.uid;
	return 0;
}

/* A bound socket holds its file's inode, unlinked or not, until it is closed:
 * inotify reports IN_DELETE_SELF only then. */
bool
peer_is_closed(int fd, bool file_deleted)
{
	(void)fd;
	return file_deleted;
}

bool
peer_is_shut(int fd)
{
	struct pollfd end = { .fd = fd, .events = POLLRDHUP };

	return poll(&end, 1, 0) > 0 && (end.revents & POLLRDHUP);
}

int
shared_memory_create(size_t bytes)
{
	int fd = memfd_create("forwarder", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) <
		0)
		return socket_give_up(fd);
	return fd;
}

/* fchmod() refuses a descriptor opened with O_PATH; chmod() by way of /proc
 * doesn't. */
int
unix_file_set_mode(const struct unix_file *file, mode_t mode)
{
	int fd = open(file->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int result = -1;
	struct stat there;
	char name[64];

	if (fd < 0 || fstat(fd, &there) < 0)
		return socket_give_up(fd);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	errno = ESTALE;
	if (there.st_dev == file->device && there.st_ino == file->inode)
		result = chmod(name, mode);
	socket_give_up(fd);
	return result;
}
