/* Replaces some system calls in the program that includes this. On demand they do
 * what a kernel does rarely: refuse, or accept a part. Works with any batch_*.c. */
#ifndef TESTS_SUPPORT_BALKING_H
#define TESTS_SUPPORT_BALKING_H

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define BALKING_ANY (-1) /* any descriptor */
#define BALKING_ALWAYS UINT_MAX

struct balking {
	atomic_int fd, error;
	atomic_uint left; /* calls that will be refused with that error */
	atomic_uint refused;
	atomic_uint asked; /* calls, refused or not */
	atomic_size_t cut; /* bytes that the send() before them accepts */
};

/* Not static: the C library may declare recvfrom() inline. */
extern struct balking sends, receives;
struct balking sends, receives;

struct mmsghdr;
struct timespec;
int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
    struct timespec *timeout);

/* The next `count` calls that concern fd fail with that errno. */
static inline void
balk(struct balking *balking, int fd, unsigned count, int error)
{
	balking->fd = fd;
	balking->error = error;
	balking->refused = 0;
	balking->left = count;
}

static inline bool
balking_concerns(struct balking *balking, int fd)
{
	return balking->fd == BALKING_ANY || balking->fd == fd;
}

static inline bool
balks(struct balking *balking, int fd)
{
	balking->asked++;
	if (balking->left == 0 || !balking_concerns(balking, fd))
		return false;
	if (balking->left != BALKING_ALWAYS)
		balking->left--;
	balking->refused++;
	errno = balking->error;
	return true;
}

ssize_t
send(int fd, const void *bytes, size_t length, int flags)
{
	__typeof__(send) *real = dlsym(RTLD_NEXT, "send");
	size_t cut = sends.cut;

	if (cut > 0 && cut < length && balking_concerns(&sends, fd)) {
		sends.cut = 0;
		return real(fd, bytes, cut, flags);
	}
	return balks(&sends, fd) ? -1 : real(fd, bytes, length, flags);
}

int
sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	__typeof__(sendmmsg) *real = dlsym(RTLD_NEXT, "sendmmsg");

	return balks(&sends, fd) ? -1 : real(fd, messages, count, flags);
}

ssize_t
recvfrom(int fd, void *bytes, size_t length, int flags, struct sockaddr *sender,
    socklen_t *sender_length)
{
	__typeof__(recvfrom) *real = dlsym(RTLD_NEXT, "recvfrom");

	return balks(&receives, fd)
		   ? -1
		   : real(fd, bytes, length, flags, sender, sender_length);
}

int
recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
    struct timespec *timeout)
{
	__typeof__(recvmmsg) *real = dlsym(RTLD_NEXT, "recvmmsg");

	return balks(&receives, fd) ? -1
				    : real(fd, messages, count, flags, timeout);
}

#endif
