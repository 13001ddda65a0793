#include "status/client.h"

#include "base/clock.h"
#include "base/socket.h"
#include "base/wait.h"
#include "status/control.h"
#include "status/render.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
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
	enum { NEVER_SEEN, PRESENT, ABSENT } forwarder;
	struct status before, now;
};

static volatile sig_atomic_t stopped, suspended;

static void
on_signal(int number)
{
	if (number == SIGTSTP)
		suspended = 1;
	else
		stopped = 1;
}

static bool
is_socket(const char *path)
{
	struct stat file;

	return stat(path, &file) == 0 && S_ISSOCK(file.st_mode);
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
	if (errno == ECONNREFUSED && !is_socket(path))
		errno = ENOTSOCK;
	return socket_give_up(fd);
}

/* Waits until there is something to read. No signal interrupts it, nor any
 * other call here: those that are caught come in only in wait_until().
 * Returns -1 with errno. */
static int
wait_for_reply(int fd, int64_t deadline_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = poll(&p, 1, wait_timeout(deadline_ms));

	if (n == 0)
		errno = ETIMEDOUT;
	return n > 0 ? 0 : -1;
}

/* Reads until the forwarder closes the connection or `size` is full. */
static int
read_reply(int fd, char *reply, size_t size)
{
	int64_t deadline_ms = clock_now_ms() + PATIENCE_MS;
	size_t length = 0;
	ssize_t n = 1;

	reply[0] = '\0';
	while (n > 0 && length < size - 1) {
		if (wait_for_reply(fd, deadline_ms) < 0)
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

		if (written < 0)
			return -1;
		bytes += written;
		n -= (size_t)written;
	}
	return 0;
}

static void
restore_terminal(const struct view *v)
{
	if (v->terminal)
		write_all(TERMINAL_RESTORE, sizeof(TERMINAL_RESTORE) - 1);
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
	case ENOTSOCK:
		return "name its [control] socket, or with -c its file";
	case ENAMETOOLONG:
		return "the path of a socket has to be shorter";
	default:
		return "is this its [control] socket?";
	}
}

static void
tell_absent(const struct view *v, int error)
{
	fprintf(stderr, "forwarder: no forwarder answers at %s: %s (%s)\n",
	    v->path, strerror(error), advice(error));
}

static void
render(struct text *t, const struct view *v)
{
	if (v->form == CLIENT_JSON) {
		status_json(t, &v->now);
	} else if (v->form == CLIENT_PROMETHEUS) {
		status_prometheus(t, &v->now);
	} else if (!v->watch) {
		render_status(t, &v->now);
	} else if (v->terminal) {
		render_table(t, &v->before, &v->now);
	} else {
		text_add_time(t);
		text_add(t, " ");
		render_line(t, &v->before, &v->now);
	}
}

/* Where a program reads, there is no form for it: told on standard error. */
static void
render_absent(struct text *t, const struct view *v, int error)
{
	if (v->form != CLIENT_TEXT) {
		if (v->forwarder == PRESENT)
			tell_absent(v, error);
		return;
	}
	text_add_time(t);
	text_add(t, " no forwarder answers at ");
	text_add_escaped(t, v->path, text_visible);
	text_add(t, ": %s\n", strerror(error));
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
draw(const struct view *v, const struct text *plain)
{
	char bytes[2 * RENDER_BYTES];
	struct text drawn = text_in(bytes, sizeof(bytes));

	if (!v->terminal)
		return write_all(plain->bytes, plain->length);
	add_drawing(&drawn, plain->bytes);
	return write_all(drawn.bytes, drawn.length);
}

/* Asks, and renders what comes of it. Returns 0, or -1 with errno if nothing
 * is to be shown. */
static int
look(struct view *v, struct text *t)
{
	v->before = v->now;
	if (ask_status(v->path, &v->now) == 0) {
		v->forwarder = PRESENT;
		render(t, v);
		return 0;
	}
	if (v->forwarder == NEVER_SEEN || !v->watch)
		return -1;
	render_absent(t, v, errno);
	v->forwarder = ABSENT;
	return 0;
}

/* One look. Returns the exit code. */
static int
show(struct view *v)
{
	char bytes[RENDER_BYTES];
	struct text t = text_in(bytes, sizeof(bytes));

	if (look(v, &t) < 0) {
		tell_absent(v, errno);
		return EX_UNAVAILABLE;
	}
	if (draw(v, &t) == 0)
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
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT,
		SIGTSTP };
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t blocked;

	sigemptyset(&action.sa_mask);
	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		sigaction(signals[i], &action, NULL);
		sigaddset(&blocked, signals[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, NULL);
}

/* Gives the terminal back as the shell wants it; the next look draws again. */
static void
suspend(const struct view *v)
{
	restore_terminal(v);
	suspended = 0;
	raise(SIGSTOP);
}

/* Returns false if a signal came or nobody reads any more. Waits in any case,
 * be it for nothing: signals come in only here. */
static bool
wait_until(const struct view *v, int64_t deadline_ms)
{
	struct timespec wait;
	sigset_t none;
	int64_t left;

	sigemptyset(&none);
	do {
		left = deadline_ms - clock_now_ms();
		if (left < 0)
			left = 0;
		wait = (struct timespec){ .tv_sec = left / 1000,
			.tv_nsec = left % 1000 * 1000000 };
		pselect(0, NULL, NULL, NULL, &wait, &none);
		if (suspended)
			suspend(v);
	} while (!stopped && left > 0);
	return !stopped;
}

/* A terminal that says it is dumb, or doesn't say what it is, gets lines. */
static bool
can_redraw(void)
{
	const char *kind = getenv("TERM");

	return isatty(STDOUT_FILENO) == 1 && kind != NULL && *kind != '\0' &&
	       strcmp(kind, "dumb") != 0;
}

int
client_status(const char *path, enum client_form form, bool watch)
{
	struct view v = { .path = path, .form = form, .watch = watch };
	int64_t start_ms;
	int code;

	signal(SIGPIPE, SIG_IGN);
	v.terminal = watch && form == CLIENT_TEXT && can_redraw();
	if (watch)
		catch_signals();
	do {
		start_ms = clock_now_ms();
		code = show(&v);
	} while (code == 0 && watch && !stopped &&
		 wait_until(&v, start_ms + WATCH_MS));
	restore_terminal(&v);
	return code;
}
