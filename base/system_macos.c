/* The parts of clock.h, sync.h, socket.h, shared_memory.h and unix_bind.h that
 * differ between systems. REPLACEABLE: a suite may link its own function
 * instead. */
#include <errno.h>
#include <fcntl.h>
#include <mach/mach_time.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/shared_memory.h"
#include "base/socket.h"
#include "base/sync.h"
#include "base/unix_bind.h"

#define REPLACEABLE __attribute__((weak))

/* A Unix stream socket's default buffer is 8 KiB, less than a frame can be
 * (net.local.stream.sendspace). */
#define BUFFER_BYTES (256 * 1024)
/* The largest network.max_frame. */
#define DATAGRAM_BYTES 69632

/* CLOCK_UPTIME_RAW is mach_absolute_time() in nanoseconds: it stops during a
 * suspend (clock_gettime(3)). */
REPLACEABLE int64_t
clock_now_us(void)
{
	return (int64_t)(clock_gettime_nsec_np(CLOCK_UPTIME_RAW) / 1000);
}

/* mach_continuous_time() goes on during a suspend. Signed: the clocks are
 * read one after the other, so the difference can be a little below zero. */
REPLACEABLE int64_t
clock_suspended_ms(void)
{
	int64_t ticks =
	    (int64_t)mach_continuous_time() - (int64_t)mach_absolute_time();
	mach_timebase_info_data_t tick; /* numer / denom nanoseconds */

	mach_timebase_info(&tick);
	return ticks * tick.numer / tick.denom / 1000000;
}

/* kqueue has no event for a resume, and IOKit's notification needs a run loop. */
REPLACEABLE int
clock_resume_open(void)
{
	return -1;
}

void
clock_resume_answer(int fd)
{
	(void)fd;
}

void
condition_init(struct condition *condition)
{
	MUST(pthread_cond_init(&condition->pthread, NULL));
}

/* macOS has no monotonic condition variables, but relative timeouts. */
void
condition_wait(
    struct condition *condition, struct mutex *mutex, int64_t deadline_ms)
{
	int64_t left_ms;

	if (deadline_ms == CONDITION_NO_DEADLINE) {
		pthread_cond_wait(&condition->pthread, &mutex->pthread);
		return;
	}
	left_ms = deadline_ms - clock_now_ms();
	if (left_ms < 0)
		left_ms = 0;
	struct timespec span = { .tv_sec = (time_t)(left_ms / 1000),
		.tv_nsec = (long)(left_ms % 1000) * 1000000 };
	pthread_cond_timedwait_relative_np(
	    &condition->pthread, &mutex->pthread, &span);
}

void
thread_name(const char *name)
{
	pthread_setname_np(name);
}

void
socket_stream_options(int fd, int family)
{
	int yes = 1, bytes = BUFFER_BYTES;

	fcntl(fd, F_SETFD, FD_CLOEXEC);
	setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof(yes));
	if (family == AF_UNIX) {
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	}
}

REPLACEABLE int
socket_stream(int family)
{
	int fd = socket(family, SOCK_STREAM, 0);

	if (fd >= 0)
		socket_stream_options(fd, family);
	return fd;
}

/* SO_SNDBUF limits the length of a datagram, by default to 2 KiB; SO_RCVBUF limits
 * what is queued for the receiver, by default to 4 KiB (net.local.dgram). With
 * 4 MiB, vmnet-helper measured good throughput and few ENOBUFS
 * (programs/common.h). */
void
socket_datagram_buffers(int fd)
{
	int longest = DATAGRAM_BYTES, queue = 4 * 1024 * 1024;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &longest, sizeof(longest));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &queue, sizeof(queue));
}

int
socket_pair(int type, int ends[2])
{
	if (socketpair(AF_UNIX, type, 0, ends) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		socket_stream_options(ends[i], AF_UNIX);
		if (type == SOCK_DGRAM)
			socket_datagram_buffers(ends[i]);
	}
	return 0;
}

pid_t
peer_process(int fd)
{
	pid_t process = 0;
	socklen_t length = sizeof(process);

	getsockopt(fd, SOL_LOCAL, LOCAL_PEERPID, &process, &length);
	return process;
}

REPLACEABLE int
peer_user(int fd, uid_t *user)
{
	gid_t group;

	return getpeereid(fd, user, &group);
}

/* kqueue reports that the file is gone while its socket may still be open. The
 * kernel disconnects every socket connected to one that is closed (unp_detach()
 * in bsd/kern/uipc_usrreq.c). */
bool
peer_is_closed(int fd, bool file_deleted)
{
	struct sockaddr_un peer;
	socklen_t length = sizeof(peer);

	(void)file_deleted;
	return getpeername(fd, (struct sockaddr *)&peer, &length) < 0;
}

bool
peer_is_shut(int fd)
{
	(void)fd;
	return false;
}

/* An object's size can be set only once (ftruncate(2)). */
int
shared_memory_create(size_t bytes)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "/forwarder.%d", (int)getpid());
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	shm_unlink(name);
	if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    ftruncate(fd, (off_t)bytes) < 0)
		return socket_give_up(fd);
	return fd;
}

/* macOS has no O_PATH. A symbolic link is never followed. Another file is
 * changed only if it appears at the path between the two calls. */
int
unix_file_set_mode(const struct unix_file *file, mode_t mode)
{
	errno = ESTALE;
	if (!unix_file_stands(file))
		return -1;
	return fchmodat(AT_FDCWD, file->path, mode, AT_SYMLINK_NOFOLLOW);
}
