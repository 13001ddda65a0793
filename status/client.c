#include "status/client.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/socket.h"
#include "base/wait.h"
#include "status/control.h"
#include "status/control_dial.h"
#include "status/rates.h"

#define WATCH_MS 1000
/* A client whose line arrives later than CONTROL_CLIENT_MS gets no answer, so
 * it asks again. */
#define TRIES 3

#define TERMINAL_CLEAR "\033[H\033[J"

struct view {
	const char *path;
	const char *form;
	bool watch;
	bool rates;    /* watch as text */
	bool terminal; /* rates, redrawn in place */
	enum { NEVER_SEEN, PRESENT, ABSENT } forwarder;
	char reply[STATUS_BYTES];
	const char *answer; /* the part of reply to print */
	struct rates_sample before, now;
};

/* Returns 0 if any reply was received, or -1 with errno. */
static int
ask_once(struct view *v)
{
	int fd = control_dial(v->path);
	char line[32];
	ssize_t n;

	if (fd < 0)
		return -1;
	snprintf(line, sizeof(line), "status %s\n", v->form);
	(void)!send(fd, line, strlen(line), 0); /* recv() reports errors */
	do
		n = recv(fd, v->reply, sizeof(v->reply) - 1, MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		errno = ECONNRESET;
	else if (n < 0 && errno == EAGAIN)
		errno = ETIMEDOUT;
	v->reply[n > 0 ? n : 0] = '\0';
	socket_give_up(fd);
	return n > 0 ? 0 : -1;
}

/* Returns whether the reply is complete and valid. Removes the empty line at
 * its end. */
static bool
is_answer(struct view *v)
{
	size_t n = strlen(v->reply);

	if (n < 2 || strcmp(v->reply + n - 2, "\n\n") != 0)
		return false;
	v->reply[n - 1] = '\0';
	v->answer = v->reply;
	if (v->rates) {
		v->before = v->now;
		v->answer = rates_parse(&v->now, v->reply);
	}
	return v->answer != NULL;
}

static int
ask(struct view *v, struct error *error)
{
	int result = ask_once(v);

	for (int i = 1; i < TRIES && result < 0 && errno == ECONNRESET; i++)
		result = ask_once(v);
	if (result < 0)
		return control_no_answer(error, v->path, errno);
	if (!is_answer(v))
		return error_set(error,
		    "no forwarder answers at %s: the reply is not of this "
		    "version (restart the forwarder after an update, or give "
		    "the path of its [control] socket)",
		    v->path);
	return 0;
}

/* The program that answers may not be a forwarder, so its text is escaped. */
static void
escape(struct text *t, uint32_t character, const char *bytes, size_t n)
{
	if (character == '\n')
		text_add(t, "\n");
	else
		text_visible(t, character, bytes, n);
}

/* Returns 0, or -1 with errno. */
static int
print(const struct view *v, const char *text)
{
	static char bytes[5 * STATUS_BYTES];
	struct text t = text_in(bytes, sizeof(bytes));

	if (v->terminal)
		text_add(&t, TERMINAL_CLEAR);
	text_add_escaped(&t, text, escape);
	fwrite(bytes, 1, t.length, stdout);
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : -1;
}

static void
add_answer(struct text *t, const struct view *v)
{
	if (!v->rates) {
		text_add(t, "%s", v->answer);
	} else if (v->terminal) {
		text_add(t, "%s\n", v->answer);
		rates_add(t, &v->before, &v->now, "\n");
	} else {
		text_add_time(t);
		text_add(t, " %s outages=%llu  ", v->now.state, v->now.outages);
		rates_add(t, &v->before, &v->now, "  ");
	}
}

/* Shows the reason beside the rates or, for other forms, once on standard
 * error. */
static void
add_absence(struct text *t, const struct view *v, const struct error *error)
{
	if (v->rates) {
		text_add_time(t);
		text_add(t, " %s\n", error->text);
	} else if (v->forwarder == PRESENT) {
		fprintf(stderr, "forwarder: %s\n", error->text);
	}
}

/* Asks once and prints the result. Returns the exit code, or -1 to go on
 * watching. */
static int
look(struct view *v)
{
	char bytes[STATUS_BYTES];
	struct text t = text_in(bytes, sizeof(bytes));
	struct error error;

	if (ask(v, &error) == 0) {
		v->forwarder = PRESENT;
		add_answer(&t, v);
	} else if (v->forwarder == NEVER_SEEN) {
		fprintf(stderr, "forwarder: %s\n", error.text);
		return EX_UNAVAILABLE;
	} else {
		add_absence(&t, v, &error);
		v->forwarder = ABSENT;
	}
	if (print(v, bytes) == 0)
		return v->watch ? -1 : 0;
	if (v->watch && errno == EPIPE)
		return 0; /* the reader has exited: head(1) */
	fprintf(stderr, "forwarder: standard output: %s\n", strerror(errno));
	return EX_OSERR;
}

static void
on_interrupt(int number)
{
	(void)number;
	_exit(0);
}

/* Whether standard output is a terminal that can move its cursor. */
static bool
can_redraw(void)
{
	const char *kind = getenv("TERM");

	return isatty(STDOUT_FILENO) == 1 && kind != NULL && *kind != '\0' &&
	       strcmp(kind, "dumb") != 0;
}

int
client_status(const char *path, const char *form, bool watch)
{
	static struct view v;
	int code;

	v = (struct view){ .path = path, .form = form, .watch = watch };
	signal(SIGPIPE, SIG_IGN);
	if (watch && strcmp(form, "text") == 0) {
		v.form = "watch";
		v.rates = true;
		v.terminal = can_redraw();
	}
	if (watch)
		signal(SIGINT, on_interrupt);
	for (;;) {
		int64_t next_ms = clock_now_ms() + WATCH_MS;

		code = look(&v);
		if (code >= 0)
			return code;
		wait_readable(-1, -1, next_ms);
	}
}
