#include "status/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/wait.h"
#include "status/capture.h"

static const struct {
	const char *line;
	void (*render)(struct text *, const struct status *);
} requests[] = {
	{ "status text\n", status_text },
	{ "status json\n", status_json },
	{ "status prometheus\n", status_prometheus },
	{ "capture\n", NULL },
};

static void
forget_client(struct control *c)
{
	c->client = -1;
	c->deadline_ms = INT64_MAX;
}

static void
release_client(struct control *c)
{
	close(c->client);
	forget_client(c);
}

int
control_open(
    struct control *c, const char *path, mode_t mode, struct error *error)
{
	*c = (struct control){
		.fd = -1, .mode = mode, .client = -1, .deadline_ms = INT64_MAX
	};
	if (path[0] == '\0')
		return 0;
	c->fd = unix_bind(&c->file, SOCK_STREAM, path, mode, error);
	return c->fd < 0 ? -1 : fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

void
control_set_mode(struct control *c, mode_t mode)
{
	int result;

	if (c->file.path[0] == '\0' || mode == c->mode)
		return;
	result = unix_file_set_mode(&c->file, mode);
	if (result < 0)
		log_line(LOG_LEVEL_WARN, LOG_CONTROL,
		    "can't change the mode of the socket file path=%s "
		    "error=\"%s\"",
		    c->file.path, strerror(errno));
	if (result == 0 || !unix_file_stands(&c->file))
		c->mode = mode;
}

int
control_bind_again(struct control *c, struct error *error)
{
	struct control again;

	if (control_open(&again, c->file.path, c->mode, error) < 0)
		return -1;
	close(c->fd);
	c->fd = again.fd;
	c->file = again.file;
	return 0;
}

void
control_close(struct control *c)
{
	release_client(c);
	unix_file_remove(&c->file);
	close(c->fd);
	c->fd = -1;
}

struct pollfd
control_poll(const struct control *c)
{
	return (struct pollfd){ .fd = c->client < 0 ? c->fd : c->client,
		.events = POLLIN };
}

/* If descriptors or memory run out, the listener stays readable, so poll()
 * would return at once again and again. The pause, which a signal ends,
 * prevents that. */
static void
accept_client(struct control *c, int64_t now_ms)
{
	int bytes = 2 * STATUS_BYTES;

	c->client = accept(c->fd, NULL, NULL);
	if (c->client >= 0) {
		c->deadline_ms = now_ms + CONTROL_CLIENT_MS;
		fcntl(c->client, F_SETFD, FD_CLOEXEC);
		setsockopt(
		    c->client, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		wait_pause(WAIT_ERROR_MS);
	}
}

static void
say(const struct control *c, const char *bytes, size_t n)
{
	ssize_t sent = send(c->client, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	(void)sent; /* fails if the client has left */
}

/* Returns whether the client has sent a known line. Releases a client that is
 * gone or sent anything else. */
static bool
take_request(struct control *c)
{
	static const char unknown[] = "error: unknown request\n";
	char line[64];
	ssize_t n = recv(c->client, line, sizeof(line), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		const char *known = requests[i].line;

		c->render = requests[i].render;
		if (n == (ssize_t)strlen(known) &&
		    memcmp(line, known, (size_t)n) == 0)
			return true;
	}
	say(c, unknown, sizeof(unknown) - 1);
	release_client(c);
	return false;
}

bool
control_serve(struct control *c, int64_t now_ms)
{
	if (c->client < 0 && c->fd >= 0)
		accept_client(c, now_ms);
	if (c->client >= 0 && take_request(c))
		return true;
	if (now_ms >= c->deadline_ms)
		release_client(c);
	return false;
}

void
control_answer(
    struct control *c, const struct status *s, struct capture *capture)
{
	char bytes[STATUS_BYTES];
	struct text t = text_in(bytes, sizeof(bytes));
	const char *refusal;

	if (c->render) {
		c->render(&t, s);
		text_add(&t, "\n");
	} else if ((refusal = capture_start(capture, c->client, s))) {
		text_add(&t, "error: %s\n", refusal);
	} else {
		forget_client(c);
		return;
	}
	say(c, bytes, t.length);
	release_client(c);
}
