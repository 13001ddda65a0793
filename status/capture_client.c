#include "status/capture_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/shared_memory.h"
#include "base/socket.h"
#include "base/text.h"
#include "base/wait.h"
#include "status/capture.h"
#include "status/control_dial.h"

/* After SIGINT or SIGTERM: how long the forwarder may take to hand over the
 * rest, and the reader of standard output to read it. */
#define END_SECONDS 2

/* A request that arrives later than CONTROL_CLIENT_MS is not answered. */
#define REQUESTS 3

static const char request[] = "capture\n";
static const char refusal[] = "error: ";

/* Used by the signal handlers. */
static volatile sig_atomic_t interrupted;
static int forwarder = -1;

/* Asks the forwarder, once, to end the capture: its last part completes the
 * file. */
static void
on_interrupt(int number)
{
	static const char end = CAPTURE_END;

	(void)number;
	if (interrupted)
		return;
	interrupted = true;
	(void)!send(forwarder, &end, 1, MSG_DONTWAIT);
	alarm(END_SECONDS);
}

static void
on_alarm(int number)
{
	static const char text[] =
	    "forwarder: the capture has no end: it was not sent or not taken "
	    "in time\n";

	(void)number;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(EX_OSERR);
}

static int
failed(int code, const char *what, const char *why)
{
	fprintf(stderr, "forwarder: %s: %s\n", what, why);
	return code;
}

/* The forwarder's reply: a text if it refuses. */
union reply {
	struct capture_hello hello;
	char text[256];
};

/* Returns the length of the reply, or -1 with errno. Sets `forwarder`. */
static ssize_t
ask_once(const char *path, union reply *reply, int *memory)
{
	size_t head = sizeof(reply->hello);
	ssize_t n;

	forwarder = control_dial(path);
	if (forwarder < 0)
		return -1;
	(void)!send(forwarder, request, strlen(request), 0);
	n = shared_memory_receive(/* reports errors of send() too */
	    forwarder, memory, reply, head);
	if (n == (ssize_t)head && *memory < 0) /* a longer text */
		(void)!recv(forwarder, reply->text + head,
		    sizeof(*reply) - 1 - head, MSG_WAITALL);
	if (n > 0)
		return n;
	if (n == 0)
		errno = ECONNRESET;
	else if (errno == EAGAIN)
		errno = ETIMEDOUT;
	return socket_give_up(forwarder);
}

static ssize_t
ask(const char *path, union reply *reply, int *memory)
{
	ssize_t n = ask_once(path, reply, memory);

	for (int i = 1; i < REQUESTS && n < 0 && errno == ECONNRESET; i++)
		n = ask_once(path, reply, memory);
	return n;
}

/* The program that answers may not be a forwarder, so its text is escaped. */
static int
explain_refusal(const char *path, char *reply)
{
	char bytes[512];
	struct text why = text_in(bytes, sizeof(bytes));

	reply[strcspn(reply, "\n")] = '\0';
	if (strncmp(reply, refusal, strlen(refusal)) == 0)
		text_add_escaped(&why, reply + strlen(refusal), text_visible);
	else
		text_add(&why, "the reply is not of this version (restart the "
			       "forwarder after an update)");
	return failed(EX_UNAVAILABLE, path, bytes);
}

/* Returns 0, or -1 with errno. Another process may have made the output
 * non-blocking. */
static int
write_all(int out, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t n = write(out, bytes, length);

		if (n >= 0) {
			bytes += n;
			length -= (size_t)n;
		} else if (errno == EAGAIN) {
			wait_writable(out, -1, INT64_MAX);
		} else if (errno != EINTR) {
			return -1;
		}
	}
	return 0;
}

/* Waits for the forwarder. Returns false if the reader of the output has
 * exited, which is thus noticed even without traffic. */
static bool
has_reader(int out)
{
	struct pollfd fds[] = { { .fd = forwarder, .events = POLLIN },
		{ .fd = out } };

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	return !(fds[1].revents & (POLLERR | POLLHUP));
}

/* Receives the next part. Returns false at the end. */
static bool
next_part(struct capture_part *part, uint32_t limit)
{
	return recv(forwarder, part, sizeof(*part), MSG_WAITALL) ==
		   (ssize_t)sizeof(*part) &&
	       part->offset <= limit && part->length <= limit - part->offset;
}

/* Writes what the forwarder hands over until one side ends. */
static int
copy(int out, const char *name, const char *memory, uint32_t bytes)
{
	static const char taken = CAPTURE_TAKEN;
	struct capture_part part;

	while (has_reader(out)) {
		if (!next_part(&part, bytes))
			return interrupted
				   ? EX_OK
				   : failed(EX_UNAVAILABLE, name,
					 "ends here: the forwarder stopped");
		if (write_all(out, memory + part.offset, part.length) < 0 &&
		    errno != EPIPE)
			return failed(EX_OSERR, name, strerror(errno));
		(void)!send(forwarder, &taken, 1, MSG_NOSIGNAL);
	}
	return EX_OK;
}

static int
copy_to_file(const char *file, const char *memory, uint32_t bytes)
{
	int out = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600), code;

	if (out < 0)
		return failed(EX_OSERR, file, strerror(errno));
	code = copy(out, file, memory, bytes);
	if (close(out) < 0)
		return failed(EX_OSERR, file, strerror(errno));
	return code;
}

static void
prepare(void)
{
	const struct timeval forever = { 0 };

	setsockopt(
	    forwarder, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
	signal(SIGALRM, on_alarm);
	signal(SIGINT, on_interrupt);
	signal(SIGTERM, on_interrupt);
}

/* Ends the connection, and waits until another capture can begin. */
static void
leave(void)
{
	const struct timeval limit = { .tv_sec = CONTROL_REPLY_SECONDS };
	char rest[64];

	setsockopt(forwarder, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	shutdown(forwarder, SHUT_WR);
	while (recv(forwarder, rest, sizeof(rest), 0) > 0)
		;
}

int
capture_client(const char *path, const char *file)
{
	union reply reply = { .text = "" };
	struct error error;
	void *memory;
	int fd, code;

	if (!file && isatty(STDOUT_FILENO))
		return failed(EX_USAGE, "standard output is a terminal",
		    "give --write FILE, or a pipe: | tshark -r -");
	signal(SIGPIPE, SIG_IGN);
	if (ask(path, &reply, &fd) < 0) {
		control_no_answer(&error, path, errno);
		fprintf(stderr, "forwarder: %s\n", error.text);
		return EX_UNAVAILABLE;
	}
	if (fd < 0 || strcmp(reply.hello.magic, CAPTURE_MAGIC) != 0)
		return explain_refusal(path, reply.text);
	memory = mmap(NULL, reply.hello.bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return failed(EX_OSERR, path, strerror(errno));
	prepare();
	code = file ? copy_to_file(file, memory, reply.hello.bytes)
		    : copy(STDOUT_FILENO, "the capture", memory,
			  reply.hello.bytes);
	leave();
	return code;
}
