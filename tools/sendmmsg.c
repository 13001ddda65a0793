/* sendmmsg() as the one system call that it is, for the static program. musl
 * makes a call for each message instead: its struct msghdr has 32 bits and
 * padding where the kernel reads 64. The program's messages come from calloc(),
 * so that the padding is zero. */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int
sendmmsg(int fd, struct mmsghdr *messages, unsigned count, unsigned flags)
{
	return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}
