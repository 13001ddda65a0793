/* Theory of operation
 *
 *   state    event                                       next
 *   CALLING  connected, the request is sent              READING
 *   CALLING  no room: backlog full, out of descriptors   CALLING, RETRY_MS later
 *   READING  end of the reply                            DONE
 *   READING  closed without a reply, up to TRIES times   CALLING
 *   any      an error, or the deadline                   DONE
 *
 * The sockets never block, and a single poll() waits for all of them: a hundred
 * forwarders, some of them stuck, take no longer than one. */
#include "status/ask.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/wait.h"
#include "status/control_dial.h"

/* A forwarder closes the connection without a reply if the request arrives
 * later than CONTROL_CLIENT_MS. */
#define TRIES 3
#define RETRY_MS 10

static const char request[] = "status json\n";

struct exchange {
	enum { CALLING, READING, DONE } state;
	int fd;
	int tries;
	int64_t due_ms; /* of the next call */
	size_t slot;    /* in the array that is polled */
	int error;
	size_t length;
	char reply[STATUS_BYTES];
};

static void
end(struct exchange *x, int error)
{
	if (x->state == READING)
		close(x->fd);
	x->state = DONE;
	x->error = error;
}

static bool
is_temporary(int error)
{
	return error == EAGAIN || error == EMFILE || error == ENFILE ||
	       error == EINTR;
}

static void
call(struct exchange *x, const char *path, int64_t now_ms)
{
	x->fd = control_dial_now(path);
	if (x->fd >= 0) {
		x->state = READING;
		x->length = 0;
		/* It fits; if the peer is gone, recv() reports it. */
		(void)!send(x->fd, request, strlen(request), 0);
	} else if (is_temporary(errno)) {
		x->error =
		    errno == EMFILE || errno == ENFILE ? errno : ETIMEDOUT;
		x->due_ms = now_ms + RETRY_MS;
	} else {
		end(x, errno);
	}
}

/* The peer has closed the connection. */
static void
finish(struct exchange *x)
{
	if (x->length > 0) {
		end(x, 0);
	} else if (++x->tries < TRIES) {
		close(x->fd);
		x->state = CALLING;
	} else {
		end(x, ECONNRESET);
	}
}

static void
take(struct exchange *x)
{
	size_t room = sizeof(x->reply) - 1 - x->length;
	ssize_t n = recv(x->fd, x->reply + x->length, room, 0);

	if (n > 0)
		x->length += (size_t)n;
	else if (n == 0 || errno == ECONNRESET)
		finish(x);
	else if (errno != EAGAIN && errno != EINTR)
		end(x, errno);
	if (x->length == sizeof(x->reply) - 1)
		end(x, EPROTO);
}

/* One round of all exchanges. */
struct round {
	struct pollfd *fds; /* of those that are reading */
	size_t reading, pending;
	int64_t next_ms; /* latest time of the next round */
};

/* Makes the call if it is due, ends the exchange if it is late, and counts
 * it. */
static void
go_on(struct round *round, struct exchange *x, const char *path, int64_t now_ms,
    int64_t deadline_ms)
{
	if (x->state == CALLING && now_ms >= x->due_ms)
		call(x, path, now_ms);
	if (x->state != DONE && now_ms >= deadline_ms)
		end(x, x->state == READING ? ETIMEDOUT : x->error);
	if (x->state == DONE)
		return;
	round->pending++;
	if (x->state == CALLING) {
		round->next_ms = earlier(round->next_ms, x->due_ms);
	} else {
		x->slot = round->reading++;
		round->fds[x->slot] = (struct pollfd){ x->fd, POLLIN, 0 };
	}
}

/* Returns false if all exchanges are done. */
static bool
run_round(struct exchange *all, struct pollfd *fds,
    const struct answer *answers, size_t count, int64_t deadline_ms)
{
	struct round round = { .fds = fds, .next_ms = deadline_ms };
	int64_t now_ms = clock_now_ms();

	for (size_t i = 0; i < count; i++)
		go_on(&round, &all[i], answers[i].path, now_ms, deadline_ms);
	if (round.pending == 0)
		return false;
	if (poll(fds, (nfds_t)round.reading, wait_timeout(round.next_ms)) < 0) {
		wait_pause(RETRY_MS);
		return true;
	}
	for (size_t i = 0; i < count; i++)
		if (all[i].state == READING && fds[all[i].slot].revents != 0)
			take(&all[i]);
	return true;
}

/* Sets the answer from a reply, which must end in an empty line. */
static void
set_answer(struct answer *answer, struct exchange *x)
{
	struct status status;

	answer->error = x->error;
	if (x->error != 0)
		return;
	answer->error = EPROTO;
	if (x->reply[x->length - 1] != '\n')
		return;
	x->reply[x->length - 1] = '\0';
	if (!status_parse(&status, x->reply))
		return;
	answer->status = status;
	answer->error = 0;
}

void
ask_all(struct answer *answers, size_t count)
{
	struct exchange *all = calloc(count, sizeof(*all));
	struct pollfd *fds = calloc(count, sizeof(*fds));
	int64_t deadline_ms = clock_now_ms() + 1000 * CONTROL_REPLY_SECONDS;

	if (all != NULL && fds != NULL)
		while (run_round(all, fds, answers, count, deadline_ms))
			;
	for (size_t i = 0; i < count; i++)
		if (all != NULL && fds != NULL)
			set_answer(&answers[i], &all[i]);
		else
			answers[i].error = ENOMEM;
	free(fds);
	free(all);
}

struct answer_counts
ask_count(const struct answer *answers, size_t count)
{
	struct answer_counts counts = { 0, 0, 0 };

	for (size_t i = 0; i < count; i++)
		if (answers[i].error != 0)
			counts.silent++;
		else if (status_is_up(&answers[i].status))
			counts.up++;
		else
			counts.down++;
	return counts;
}

/* --- control sockets below a folder ---------------------------------------- */

/* Copies the last name in a path. */
static void
take_base(const char *path, char name[LOG_NAME_BYTES])
{
	const char *slash = strrchr(path, '/');

	snprintf(name, LOG_NAME_BYTES, "%.*s", LOG_NAME_BYTES - 1,
	    slash ? slash + 1 : path);
}

/* Adds FOLDER/control.sock if it is a socket, or may be one. */
static int
add(const char *folder, struct answer **answers, size_t *count)
{
	struct answer new = { .error = 0 };
	int length =
	    snprintf(new.path, sizeof(new.path), "%s/control.sock", folder);
	struct answer *more;
	struct stat file;

	if (length >= (int)sizeof(new.path))
		return 0; /* no socket has such a path */
	if (lstat(new.path, &file) == 0 ? !S_ISSOCK(file.st_mode)
					: errno != EACCES)
		return 0;
	take_base(folder, new.status.name);
	more = realloc(*answers, (*count + 1) * sizeof(*more));
	if (more == NULL)
		return -1;
	more[(*count)++] = new;
	*answers = more;
	return 0;
}

int
ask_find(const char *folder, struct answer **answers, size_t *count)
{
	char path[ASK_PATH_BYTES];
	DIR *names = opendir(folder);
	int length = (int)strlen(folder), result;

	if (names == NULL)
		return -1;
	while (length > 1 && folder[length - 1] == '/')
		length--;
	snprintf(path, sizeof(path), "%.*s", length, folder);
	result = add(path, answers, count);
	for (struct dirent *entry;
	     result == 0 && (entry = readdir(names)) != NULL;) {
		if (entry->d_name[0] == '.' ||
		    snprintf(path, sizeof(path), "%.*s/%s", length, folder,
			entry->d_name) >= (int)sizeof(path))
			continue;
		result = add(path, answers, count);
	}
	closedir(names);
	return result;
}
