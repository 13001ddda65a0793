#include "program/client.h"

#include "program/control.h"
#include "program/render.h"
#include "reconnect/socket.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/* A stopped forwarder must not stop us; a busy one answers in microseconds. */
#define PATIENCE_MS 2000
#define WATCH_MS 1000

/* No cursor and no line wrap while we draw; both back at the end. */
#define TERMINAL_BEGIN "\033[?25l\033[?7l\033[H"
#define TERMINAL_END_OF_LINE "\033[K\n"
#define TERMINAL_REST "\033[J"
#define TERMINAL_RESTORE "\033[?7h\033[?25h"

struct view {
	const char *path;
	enum client_form form;
	bool watch;
	bool terminal; /* redraw in place */
	struct status before, now;
};

static volatile sig_atomic_t stopped;

static void
stop(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

static int64_t
monotonic_ms(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Connects, waiting for PATIENCE_MS at most: a full backlog blocks on Linux,
 * and SO_SNDTIMEO bounds that. Returns -1 with errno. */
static int
dial(const char *path)
{
	struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };
	struct sockaddr_un address;
	int fd;

	if (control_address(&address, path) < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0)
		return -1;
	if (control_set_flags(fd, false) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
		sizeof(patience)) == 0 &&
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	if (errno == EAGAIN)
		errno = ETIMEDOUT;
	return socket_give_up(fd);
}

/* Waits until there is something to read. Returns -1 with errno. */
static int
wait_readable(int fd, int64_t deadline_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t left;
	int n;

	do {
		left = deadline_ms - monotonic_ms();
		n = poll(&p, 1, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		errno = ETIMEDOUT;
	return n > 0 ? 0 : -1;
}

/* Reads until the forwarder closes the connection or `size` is full. */
static int
read_reply(int fd, char *reply, size_t size)
{
	int64_t deadline_ms = monotonic_ms() + PATIENCE_MS;
	size_t length = 0;
	ssize_t n = 1;

	reply[0] = '\0';
	while (n > 0 && length < size - 1) {
		if (wait_readable(fd, deadline_ms) < 0)
			return -1;
		n = recv(fd, reply + length, size - 1 - length, 0);
		if (n > 0)
			reply[length += (size_t)n] = '\0';
	}
	/* Closing before it read all we said, it resets the connection. */
	return n >= 0 || length > 0 ? 0 : -1;
}

/* Returns 0, or -1 with errno; EPROTO: what answered was no forwarder. */
static int
ask_status(const char *path, struct status *s)
{
	static const char request[] = "status\n";
	char reply[STATUS_LINES_BYTES];
	int result = -1, fd = dial(path);

	if (fd < 0)
		return -1;
	if (send(fd, request, sizeof(request) - 1, 0) > 0)
		result = read_reply(fd, reply, sizeof(reply));
	if (result == 0 && !(status_parse(s, reply) && s->version[0] != '\0')) {
		result = -1;
		errno = EPROTO;
	}
	socket_give_up(fd);
	return result;
}

/* Returns 0, or -1 with errno. */
static int
write_all(const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t written = write(STDOUT_FILENO, bytes, n);

		if (written < 0 && errno != EINTR)
			return -1;
		if (written > 0) {
			bytes += written;
			n -= (size_t)written;
		}
	}
	return 0;
}

/* Does it once: what is told after that may need its lines wrapped. */
static void
restore_terminal(struct view *v)
{
	if (v->terminal)
		write_all(TERMINAL_RESTORE, sizeof(TERMINAL_RESTORE) - 1);
	v->terminal = false;
}

/* What to do about it. */
static const char *
advice(int error)
{
	switch (error) {
	case ENOENT:
		return "start one with [control] socket set to this path";
	case ECONNREFUSED:
		return "it is gone and left its socket behind, start it again";
	case EACCES:
		return "ask as the user it runs as, or as root";
	case ETIMEDOUT:
		return "it is stopped or stuck, look at its process and log";
	case EPROTO:
	case EPIPE:
	case ECONNRESET:
		return "something else has this socket, or it is ending";
	case ENAMETOOLONG:
		return "the path of a socket has to be shorter";
	default:
		return "is this its [control] socket?";
	}
}

static int
tell_absent(struct view *v, int error)
{
	restore_terminal(v);
	fprintf(stderr, "forwarder: no forwarder answers at %s: %s (%s)\n",
	    v->path, strerror(error), advice(error));
	return EX_UNAVAILABLE;
}

static void
render(struct text *t, const struct view *v)
{
	if (v->form == CLIENT_JSON)
		status_json(t, &v->now);
	else if (v->form == CLIENT_PROMETHEUS)
		status_prometheus(t, &v->now);
	else if (!v->watch)
		render_status(t, &v->now);
	else if (v->terminal)
		render_table(t, &v->before, &v->now);
	else
		render_line(t, &v->before, &v->now);
}

/* The plain lines, each clearing what was right of it, and all below. */
static void
add_drawing(struct text *t, const char *lines)
{
	text_add(t, TERMINAL_BEGIN);
	for (size_t n; (n = strcspn(lines, "\n")), lines[n] != '\0';
	     lines += n + 1) {
		text_add_bytes(t, lines, n);
		text_add(t, TERMINAL_END_OF_LINE);
	}
	text_add(t, TERMINAL_REST);
}

static int
draw(const struct view *v)
{
	char plain[RENDER_BYTES], drawn[2 * RENDER_BYTES];
	struct text p = text_in(plain, sizeof(plain));
	struct text d = text_in(drawn, sizeof(drawn));

	render(&p, v);
	if (!v->terminal)
		return write_all(p.bytes, p.length);
	add_drawing(&d, p.bytes);
	return write_all(d.bytes, d.length);
}

/* One look. Returns the exit code. */
static int
show(struct view *v)
{
	v->before = v->now;
	if (ask_status(v->path, &v->now) < 0)
		return tell_absent(v, errno);
	if (draw(v) == 0)
		return 0;
	if (v->watch && errno == EPIPE) {
		stopped = 1; /* the reader has seen enough: head(1) */
		return 0;
	}
	fprintf(stderr, "forwarder: standard output: %s\n", strerror(errno));
	return EX_OSERR;
}

/* SIGINT and its like are let in only while we wait, so none of them can come
 * between a look at `stopped` and the wait. */
static void
catch_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = stop };
	sigset_t blocked;

	stopped = 0;
	sigemptyset(&action.sa_mask);
	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		sigaction(signals[i], &action, NULL);
		sigaddset(&blocked, signals[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, NULL);
}

/* Returns false if a signal came or nobody reads any more. Waits in any case,
 * be it for nothing: signals come in only here. */
static bool
wait_until(int64_t deadline_ms)
{
	struct timespec wait;
	sigset_t none;
	int64_t left;

	sigemptyset(&none);
	do {
		left = deadline_ms - monotonic_ms();
		if (left < 0)
			left = 0;
		wait = (struct timespec){ .tv_sec = left / 1000,
			.tv_nsec = left % 1000 * 1000000 };
		pselect(0, NULL, NULL, NULL, &wait, &none);
	} while (!stopped && left > 0);
	return !stopped;
}

int
client_status(const char *path, enum client_form form, bool watch)
{
	struct view v = { .path = path, .form = form, .watch = watch };
	int64_t start_ms;
	int code;

	signal(SIGPIPE, SIG_IGN);
	v.terminal = watch && form == CLIENT_TEXT && isatty(STDOUT_FILENO) == 1;
	if (watch)
		catch_signals();
	do {
		start_ms = monotonic_ms();
		code = show(&v);
	} while (
	    code == 0 && watch && !stopped && wait_until(start_ms + WATCH_MS));
	restore_terminal(&v);
	return code;
}
