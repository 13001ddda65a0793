#include "keepalive/tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>

/* While data is unacknowledged or the peer's window is closed, the kernel sends
 * no keepalives and retransmits for a quarter of an hour, unless
 * TCP_USER_TIMEOUT is set. That option then overrides TCP_KEEPCNT on an idle
 * connection (tcp(7)), so its value is the whole time of the keepalives. */
int
tcp_keepalive_set(int fd, const struct tcp_settings *settings)
{
	bool on = settings->idle_s != 0;
	const struct {
		int level, name, value;
	} options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, on },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT,
		    on ? tcp_limit_s(settings) * 1000 : 0 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, settings->idle_s },
		{ IPPROTO_TCP, TCP_KEEPINTVL, settings->interval_s },
		{ IPPROTO_TCP, TCP_KEEPCNT, settings->count },
	};
	/* The other options are ignored while monitoring is off. */
	size_t count = on ? sizeof(options) / sizeof(*options) : 2;

	for (size_t i = 0; i < count; i++)
		if (setsockopt(fd, options[i].level, options[i].name,
			&options[i].value, sizeof(options[i].value)) != 0)
			return -1;
	return 0;
}
