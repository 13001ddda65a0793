/* Asks the kernel to watch a TCP connection: keepalives while it is idle, a
 * limit for data that stays unacknowledged. */
#ifndef KEEPALIVE_TCP_H
#define KEEPALIVE_TCP_H

struct tcp_settings {
	int idle_s;     /* of silence; 0: don't watch, as in a new socket */
	int interval_s; /* between the kernel's probes */
	int count;      /* of those unanswered: the connection fails */
};

/* How long a dead peer goes unnoticed, idle or not. */
static inline int
tcp_limit_s(const struct tcp_settings *settings)
{
	return settings->idle_s + settings->interval_s * settings->count;
}

/* Returns 0, or -1 with errno: the system refused an option. The connection
 * works all the same, with the options set so far. */
int tcp_keepalive_set(int fd, const struct tcp_settings *settings);

#endif
