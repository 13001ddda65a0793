#include "base/socket.h"

#include <sys/socket.h>

/* SIGPIPE: every send carries MSG_NOSIGNAL or main() ignores the signal. The
 * kernel's default buffers (208 KiB) hold six batches. */
int
socket_stream(int family)
{
	return socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
}
