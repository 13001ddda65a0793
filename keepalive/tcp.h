/* Makes the kernel monitor a TCP connection: keepalives while it is idle, and a
 * limit for the time that data stays unacknowledged. */
#ifndef KEEPALIVE_TCP_H
#define KEEPALIVE_TCP_H

struct tcp_settings {
	int idle_s;     /* silence before the first probe; 0: no monitoring */
	int interval_s; /* between the kernel's probes */
	int count;      /* unanswered probes that end the connection */
};

/* Returns the time after which a failed peer is detected, idle or not. */
static inline int
tcp_limit_s(const struct tcp_settings *settings)
{
	return settings->idle_s + settings->interval_s * settings->count;
}

/* Returns 0, or -1 with errno if the system refused an option. The connection
 * works nevertheless, with the options set so far. */
int tcp_keepalive_set(int fd, const struct tcp_settings *settings);

#endif
