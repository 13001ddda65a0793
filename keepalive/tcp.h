/* Asks the kernel to watch a TCP connection: keepalives while it is idle, a
 * limit for data that stays unacknowledged. Sets options; does no other I/O.
 * The system's own way is in tcp_linux.c and tcp_macos.c. */
#ifndef KEEPALIVE_TCP_H
#define KEEPALIVE_TCP_H

struct tcp_settings {
	/* Silence before the first probe; 0: none of this, as in a new socket. */
	int idle_s;
	int interval_s; /* between probes */
	int count;      /* unanswered probes before the connection fails */
};

/* How long a dead peer goes unnoticed, idle or not. */
static inline int
tcp_limit_s(const struct tcp_settings *settings)
{
	return settings->idle_s + settings->interval_s * settings->count;
}

/* Returns 0, or -1 with errno when the system refused an option; the
 * connection works all the same, with the options set so far. */
int tcp_keepalive_set(int fd, const struct tcp_settings *settings);

#endif
