#include "keepalive/tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>

/* TCP_KEEPALIVE is what others call TCP_KEEPIDLE. TCP_RXT_CONNDROPTIME limits
 * retransmission, in seconds, and leaves the idle connection to the count. */
int
tcp_keepalive_set(int fd, const struct tcp_settings *settings)
{
	const struct {
		int level, name, value;
	} options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPALIVE, settings->idle_s },
		{ IPPROTO_TCP, TCP_KEEPINTVL, settings->interval_s },
		{ IPPROTO_TCP, TCP_KEEPCNT, settings->count },
		{ IPPROTO_TCP, TCP_RXT_CONNDROPTIME, tcp_limit_s(settings) },
	};

	if (settings->idle_s == 0)
		return 0;
	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
		if (setsockopt(fd, options[i].level, options[i].name,
			&options[i].value, sizeof(options[i].value)) != 0)
			return -1;
	return 0;
}
