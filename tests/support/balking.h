/* Takes the place of some calls in the program that includes this, which then
 * do on demand what a kernel does once in a blue moon: refuse, or take a part.
 * Both ways of batch_*.c, many datagrams a call and one, look the same. */
#ifndef TESTS_SUPPORT_BALKING_H
#define TESTS_SUPPORT_BALKING_H

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* Whatever the descriptor is. */
#define BALKING_ANY (-1)
#define BALKING_ALWAYS UINT_MAX

struct balking {
	atomic_int fd, error;
	atomic_uint left; /* calls that will be refused with that error */
	atomic_uint refused;
	atomic_uint asked; /* receptions, whatever came of them */
	atomic_size_t cut; /* the next send() before those takes so much */
};

static struct balking sends, receives;

struct mmsghdr;
struct timespec;
int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
    struct timespec *timeout);

/* The next `count` calls that concern fd fail with that errno. */
static inline void
balk(struct balking *balking, int fd, unsigned count, int error)
{
	atomic_store(&balking->fd, fd);
	atomic_store(&balking->error, error);
	atomic_store(&balking->refused, 0);
	atomic_store(&balking->left, count);
}

static inline bool
balking_concerns(struct balking *balking, int fd)
{
	int concerned = atomic_load(&balking->fd);

	return concerned == BALKING_ANY || concerned == fd;
}

static inline bool
balks(struct balking *balking, int fd)
{
	unsigned left = atomic_load(&balking->left);

	if (left == 0 || !balking_concerns(balking, fd))
		return false;
	if (left != BALKING_ALWAYS)
		atomic_store(&balking->left, left - 1);
	atomic_fetch_add(&balking->refused, 1);
	errno = atomic_load(&balking->error);
	return true;
}

ssize_t
send(int fd, const void *bytes, size_t length, int flags)
{
	ssize_t (*real)(int, const void *, size_t, int) =
	    dlsym(RTLD_NEXT, "send");
	size_t cut = atomic_load(&sends.cut);

	if (cut > 0 && cut < length && balking_concerns(&sends, fd)) {
		atomic_store(&sends.cut, 0);
		return real(fd, bytes, cut, flags);
	}
	return balks(&sends, fd) ? -1 : real(fd, bytes, length, flags);
}

int
sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	int (*real)(int, struct mmsghdr *, unsigned, int) =
	    dlsym(RTLD_NEXT, "sendmmsg");

	return balks(&sends, fd) ? -1 : real(fd, messages, count, flags);
}

ssize_t
recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t (*real)(int, struct msghdr *, int) =
	    dlsym(RTLD_NEXT, "recvmsg");

	atomic_fetch_add(&receives.asked, 1);
	return balks(&receives, fd) ? -1 : real(fd, message, flags);
}

int
recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
    struct timespec *timeout)
{
	int (*real)(int, struct mmsghdr *, unsigned, int, struct timespec *) =
	    dlsym(RTLD_NEXT, "recvmmsg");

	atomic_fetch_add(&receives.asked, 1);
	return balks(&receives, fd) ? -1
				    : real(fd, messages, count, flags, timeout);
}

#endif
