#include "status/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

/* Pause after accept() was out of descriptors or memory: the listener
 * stays readable, so without it poll() would return at once for ever. */
#define PAUSE_MS 1000

int
control_address(struct sockaddr_un *address, const char *path)
{
	size_t length = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (length >= sizeof(address->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address->sun_path, path, length + 1);
	return 0;
}

int
control_set_flags(int fd, bool nonblocking)
{
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return nonblocking ? fcntl(fd, F_SETFL, O_NONBLOCK) : 0;
}

int
control_open(struct control *c, const char *path, char *why, size_t size)
{
	*c = (struct control){ .fd = -1 };
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		c->clients[i].fd = -1;
	if (path[0] == '\0')
		return 0;
	c->fd = unix_bind(&c->file, SOCK_STREAM, path, 0600, why, size);
	if (c->fd < 0)
		return -1;
	if (control_set_flags(c->fd, true) == 0)
		return 0;
	snprintf(why, size, "%s: %s", path, strerror(errno));
	control_close(c);
	return -1;
}

int
control_bind_again(struct control *c, char *why, size_t size)
{
	struct unix_file file;
	int fd = unix_bind(&file, SOCK_STREAM, c->file.path, 0600, why, size);

	if (fd < 0)
		return -1;
	control_set_flags(fd, true);
	close(c->fd);
	c->fd = fd;
	c->file = file;
	return 0;
}

static void
drop(struct control_client *client)
{
	close(client->fd);
	client->fd = -1;
}

void
control_close(struct control *c)
{
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		drop(&c->clients[i]);
	unix_file_remove(&c->file);
	close(c->fd);
	c->fd = -1;
}

int
control_watch(const struct control *c, struct pollfd fds[CONTROL_DESCRIPTORS],
    int64_t now_ms)
{
	bool paused = now_ms < c->resume_ms;
	int64_t wait_ms = paused ? c->resume_ms - now_ms : INT32_MAX;

	fds[0] = (struct pollfd){ .fd = paused ? -1 : c->fd, .events = POLLIN };
	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		const struct control_client *client = &c->clients[i];
		int64_t left = client->since_ms + CONTROL_PATIENCE_MS - now_ms;

		fds[i + 1] =
		    (struct pollfd){ .fd = client->fd, .events = POLLIN };
		if (client->fd >= 0)
			wait_ms = earlier(wait_ms, left > 0 ? left : 0);
	}
	return wait_ms == INT32_MAX ? -1 : (int)wait_ms;
}

/* One send(): what doesn't fit into the socket's buffer is lost. */
static void
say(const struct control_client *client, const char *bytes, size_t n)
{
	ssize_t sent = send(client->fd, bytes, n, MSG_NOSIGNAL);

	(void)sent;
}

static void
answer_status(
    struct control_client *client, const struct control_answers *answers)
{
	char bytes[STATUS_LINES_BYTES];
	struct text t = text_in(bytes, sizeof(bytes));
	struct status status = { 0 };

	answers->status(answers->context, &status);
	status_lines(&t, &status);
	say(client, t.bytes, t.length);
}

/* An answer that keeps the connection takes client->fd and leaves -1 there. */
static const struct {
	const char *name;
	void (*answer)(
	    struct control_client *client, const struct control_answers *);
} requests[] = {
	{ "status", answer_status },
};

static void
answer(struct control_client *client, const struct control_answers *answers)
{
	static const char unknown[] = "error: unknown request\n";

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (strcmp(client->request, requests[i].name) == 0) {
			requests[i].answer(client, answers);
			return;
		}
	}
	say(client, unknown, sizeof(unknown) - 1);
}

/* Takes in what has come; with the line complete, answers it. */
static void
hear(struct control_client *client, const struct control_answers *answers)
{
	static const char too_long[] = "error: request too long\n";
	char *place = client->request + client->length, *end;
	ssize_t n = recv(
	    client->fd, place, sizeof(client->request) - client->length, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		client->length += (size_t)n;
		end = memchr(place, '\n', (size_t)n);
		if (end != NULL) {
			*end = '\0';
			answer(client, answers);
		} else if (client->length == sizeof(client->request)) {
			say(client, too_long, sizeof(too_long) - 1);
		} else {
			return;
		}
	}
	drop(client);
}

/* A free slot, or else that of the oldest client. */
static struct control_client *
make_room(struct control *c)
{
	struct control_client *oldest = &c->clients[0];

	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		if (c->clients[i].fd < 0)
			return &c->clients[i];
		if (c->clients[i].arrival < oldest->arrival)
			oldest = &c->clients[i];
	}
	drop(oldest);
	return oldest;
}

/* At most a turn of the slots, so that each client is heard once before its slot
 * goes to another. */
static void
accept_clients(struct control *c, int64_t now_ms)
{
	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		int fd = accept(c->fd, NULL, NULL);

		if (fd < 0) {
			if (errno != EAGAIN && errno != EINTR &&
			    errno != ECONNABORTED)
				c->resume_ms = now_ms + PAUSE_MS;
			return;
		}
		control_set_flags(fd, true);
		*make_room(c) = (struct control_client){
			.fd = fd, .since_ms = now_ms, .arrival = c->arrivals++
		};
	}
}

void
control_serve(struct control *c, const struct pollfd fds[CONTROL_DESCRIPTORS],
    int64_t now_ms, const struct control_answers *answers)
{
	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *client = &c->clients[i];

		if (client->fd < 0)
			continue;
		if (fds[i + 1].revents != 0)
			hear(client, answers);
		if (now_ms - client->since_ms >= CONTROL_PATIENCE_MS)
			drop(client);
	}
	if (fds[0].revents != 0)
		accept_clients(c, now_ms);
}
