/* Theory of operation
 *
 *              link_install()            the current generation is usable
 *      DOWN ------------------> UP
 *        ^                       |
 *        +-----------------------+       the first link_fail() that names it
 *      any --link_stop()--> STOPPED      for good
 *
 * A connection is counted by its holders: one for each loan and one for the
 * link while it is current. Whoever lets go last closes the descriptor, so its
 * number can't be reused under a thread that is still inside read() or
 * write(). Going down, the link shuts the descriptor down, which wakes those
 * threads, and lets go; it waits for none of them, so an old loan never delays
 * the next generation.
 *
 * A generation that ends without proof of life (no byte received and not older
 * than proof_ms) was a failed dial: outage_since_ms stays, no outage is added.
 *
 * Lock order: link.lock only; it is held across no system call that blocks.
 * Decided under the lock, acted on after it: shutdown(), close(), the bell. */
#include "reconnect/link.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "reconnect/clock.h"

static void
let_go(struct connection *connection)
{
	if (atomic_fetch_sub(&connection->holders, 1) > 1)
		return;
	close(connection->fd);
	mutex_destroy(&connection->writing);
	free(connection);
}

static void
set_reason(char *to, const char *reason)
{
	snprintf(to, LINK_REASON_BYTES, "%s", reason);
}

int
link_init(struct link *link, int64_t proof_ms)
{
	int64_t now_ms = clock_now_ms();

	*link = (struct link){ .state = LINK_DOWN,
		.down_since_ms = now_ms,
		.outage_since_ms = now_ms,
		.proof_ms = proof_ms };
	if (doorbell_init(&link->bell) < 0)
		return -1;
	mutex_init(&link->lock);
	condition_init(&link->changed);
	return 0;
}

void
link_destroy(struct link *link)
{
	link_stop(link);
	condition_destroy(&link->changed);
	mutex_destroy(&link->lock);
	doorbell_destroy(&link->bell);
}

/* When patience with the present outage ends. */
static int64_t
patience_ends(const struct link *link, int64_t patience_ms) NEEDS(link->lock)
{
	return patience_ms == LINK_PATIENCE_FOREVER
		   ? CONDITION_NO_DEADLINE
		   : link->outage_since_ms + patience_ms;
}

static enum link_answer
await(struct link *link, int64_t patience_ms) NEEDS(link->lock)
{
	unsigned nudges = link->nudges;

	while (link->state == LINK_DOWN) {
		int64_t deadline_ms = patience_ends(link, patience_ms);

		if (deadline_ms != CONDITION_NO_DEADLINE &&
		    clock_now_ms() >= deadline_ms)
			return LINK_WAITED;
		if (nudges != link->nudges)
			return LINK_NUDGED;
		condition_wait(&link->changed, &link->lock, deadline_ms);
	}
	return link->state == LINK_UP ? LINK_READY : LINK_ENDED;
}

enum link_answer
link_borrow(struct link *link, struct loan *loan, int64_t patience_ms)
{
	enum link_answer answer;

	mutex_lock(&link->lock);
	answer = await(link, patience_ms);
	if (answer == LINK_READY) {
		struct connection *current = link->current;

		atomic_fetch_add(&current->holders, 1);
		*loan = (struct loan){ .fd = current->fd,
			.generation = current->generation,
			.connection = current };
	}
	mutex_unlock(&link->lock);
	return answer;
}

void
link_return(struct loan *loan)
{
	let_go(loan->connection);
	*loan = (struct loan){ .fd = -1 };
}

static bool
is_proven(const struct link *link, int64_t now_ms) NEEDS(link->lock)
{
	return link->heard || now_ms - link->up_since_ms > link->proof_ms;
}

/* The current generation is proven: what went before it was an outage, unless
 * it was the wait at start. */
static void
close_outage(struct link *link) NEEDS(link->lock)
{
	if (link->view.outages > 0)
		link->view.last_outage_ms = link->view.outage_ms;
}

/* Ends the current generation's time as the current one; returns it, to be
 * shut down and let go once the lock is free. */
static struct connection *
take_down(struct link *link, const char *reason) NEEDS(link->lock)
{
	int64_t now_ms = clock_now_ms();
	struct connection *ended = link->current;
	struct link_loss *loss = &link->view.loss;

	*loss = (struct link_loss){ .generation = ended->generation,
		.up_ms = now_ms - link->up_since_ms,
		.proven = is_proven(link, now_ms) };
	set_reason(loss->reason, reason);
	set_reason(link->view.last_error, reason);
	if (loss->proven) {
		close_outage(link);
		link->view.outages++;
		link->view.outage_dials = 0;
		link->outage_since_ms = now_ms;
	}
	link->down_since_ms = now_ms;
	link->current = NULL;
	link->state = LINK_DOWN;
	return ended;
}

static void
bury(struct connection *ended)
{
	if (!ended)
		return;
	shutdown(ended->fd, SHUT_RDWR);
	let_go(ended);
}

void
link_fail(struct link *link, uint64_t generation, const char *reason)
{
	struct connection *ended = NULL;

	mutex_lock(&link->lock);
	if (link->current && link->current->generation == generation)
		ended = take_down(link, reason);
	mutex_unlock(&link->lock);
	bury(ended);
	if (ended)
		doorbell_ring(&link->bell);
}

void
link_stop(struct link *link)
{
	struct connection *ended = NULL;

	mutex_lock(&link->lock);
	if (link->current) {
		ended = link->current;
		link->current = NULL;
	}
	link->state = LINK_STOPPED;
	condition_wake_all(&link->changed);
	mutex_unlock(&link->lock);
	bury(ended);
	doorbell_ring(&link->bell);
}

void
link_heard(struct link *link, uint64_t generation)
{
	mutex_lock(&link->lock);
	if (link->current && link->current->generation == generation)
		link->heard = true;
	mutex_unlock(&link->lock);
}

void
link_nudge(struct link *link)
{
	mutex_lock(&link->lock);
	link->nudges++;
	condition_wake_all(&link->changed);
	mutex_unlock(&link->lock);
}

void
link_look(struct link *link, struct link_view *view)
{
	int64_t now_ms = clock_now_ms();

	mutex_lock(&link->lock);
	if (link->state == LINK_UP && is_proven(link, now_ms))
		close_outage(link);
	*view = link->view;
	view->state = link->state;
	if (link->state == LINK_UP) {
		view->proven = is_proven(link, now_ms);
		view->up_ms = now_ms - link->up_since_ms;
	} else if (link->state == LINK_DOWN) {
		view->down_ms += now_ms - link->down_since_ms;
	}
	mutex_unlock(&link->lock);
}

void
link_dialled(struct link *link)
{
	mutex_lock(&link->lock);
	link->view.dials++;
	link->view.outage_dials++;
	mutex_unlock(&link->lock);
}

void
link_dial_failed(struct link *link, const char *reason)
{
	mutex_lock(&link->lock);
	set_reason(link->view.last_error, reason);
	mutex_unlock(&link->lock);
}

void
link_set_proof(struct link *link, int64_t proof_ms)
{
	mutex_lock(&link->lock);
	link->proof_ms = proof_ms;
	mutex_unlock(&link->lock);
}

static void
bring_up(struct link *link, struct connection *connection) NEEDS(link->lock)
{
	int64_t now_ms = clock_now_ms();

	connection->generation = ++link->view.generation;
	link->current = connection;
	link->state = LINK_UP;
	link->heard = false;
	link->up_since_ms = now_ms;
	link->view.down_ms += now_ms - link->down_since_ms;
	link->view.outage_ms = now_ms - link->outage_since_ms;
}

void
link_install(struct link *link, int fd)
{
	struct connection *connection = malloc(sizeof(*connection));
	bool stopped;

	if (!connection)
		abort(); /* some bytes: the system is past helping */
	connection->fd = fd;
	atomic_init(&connection->holders, 1);
	mutex_init(&connection->writing);
	mutex_lock(&link->lock);
	assert(!link->current);
	stopped = link->state == LINK_STOPPED;
	if (!stopped)
		bring_up(link, connection);
	mutex_unlock(&link->lock);
	/* With the lock free: whoever wakes needs it. */
	if (stopped)
		let_go(connection);
	else
		condition_wake_all(&link->changed);
}
