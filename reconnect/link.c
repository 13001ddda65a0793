/* Theory of operation
 *
 *   state    event                             next
 *   DOWN     link_install()                    UP
 *   UP       link_fail() of this generation    DOWN
 *   any      link_stop()                       STOPPED, for good
 *
 * The last holder of a connection closes its descriptor, so the number is never
 * reused while a thread is still inside read() or write(). When the link goes
 * down it calls shutdown(), which wakes those threads, and releases the
 * connection. It does not wait for them, so an old loan never delays the next
 * generation.
 *
 * A generation that ends without proof of life counts as a failed dial: the
 * outage before it continues.
 *
 * A new connection takes any free place in connections[]. If they were used in
 * turn, a late return of one loan could block a new connection.
 *
 * No other lock is taken under link.lock, which is never held across a system
 * call that blocks. Decisions are made under the lock; shutdown(), close() and
 * the bell follow. */
#include "reconnect/link.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/socket.h"

static void
release(struct connection *connection)
{
	if (atomic_fetch_sub(&connection->holders, 1) > 1)
		return;
	close(connection->fd);
	atomic_store(&connection->open, false);
}

int
link_init(struct link *link)
{
	int64_t now_ms = clock_now_ms();

	*link = (struct link){ .state = LINK_DOWN,
		.since_ms = now_ms,
		.outage_since_ms = now_ms,
		.hold_ms = LINK_HOLD_FOREVER };
	if (doorbell_init(&link->bell) < 0 || doorbell_init(&link->ready) < 0)
		return -1;
	mutex_init(&link->lock);
	condition_init(&link->changed);
	for (size_t i = 0; i < LINK_CONNECTIONS; i++)
		mutex_init(&link->connections[i].writing);
	return 0;
}

void
link_destroy(struct link *link)
{
	link_stop(link);
	for (size_t i = 0; i < LINK_CONNECTIONS; i++)
		mutex_destroy(&link->connections[i].writing);
	condition_destroy(&link->changed);
	mutex_destroy(&link->lock);
	doorbell_destroy(&link->bell);
	doorbell_destroy(&link->ready);
}

/* The only place that changes the state. Returns the connection that was
 * current: the caller passes it to retire() without the lock. */
static struct connection *
enter(struct link *link, enum link_state state, struct connection *current)
    NEEDS(link->lock)
{
	struct connection *before = link->current;
	int64_t now_ms = clock_now_ms();

	if (link->state == LINK_UP)
		link->up_ms = now_ms - link->since_ms;
	if (link->state == LINK_DOWN)
		link->down_ms += now_ms - link->since_ms;
	link->state = state;
	link->since_ms = now_ms;
	link->current = current;
	return before;
}

static int64_t
hold_ends_ms(const struct link *link) NEEDS(link->lock)
{
	return link->hold_ms == LINK_HOLD_FOREVER
		   ? CONDITION_NO_DEADLINE
		   : link->outage_since_ms + link->hold_ms;
}

static struct loan
lend(struct connection *connection)
{
	return (struct loan){ .fd = connection->fd,
		.datagrams = connection->datagrams,
		.generation = connection->generation,
		.connection = connection };
}

enum link_answer
link_borrow(struct link *link, struct loan *loan, enum link_wait wait)
{
	enum link_answer answer;

	mutex_lock(&link->lock);
	while (wait == LINK_WHILE_HELD && link->state == LINK_DOWN &&
	       clock_now_ms() < hold_ends_ms(link))
		condition_wait(&link->changed, &link->lock, hold_ends_ms(link));
	if (link->state == LINK_UP) {
		atomic_fetch_add(&link->current->holders, 1);
		*loan = lend(link->current);
		answer = LINK_READY;
	} else {
		answer = link->state == LINK_DOWN ? LINK_WAITED : LINK_ENDED;
	}
	mutex_unlock(&link->lock);
	return answer;
}

/* Returns the connection, still open, of a generation that the reader has not
 * borrowed. */
static struct connection *
find(struct link *link, uint64_t generation) NEEDS(link->lock)
{
	struct connection *found = link->connections;

	while (!atomic_load(&found->open) || found->generation != generation)
		found++;
	return found;
}

enum link_answer
link_borrow_next(struct link *link, struct loan *loan)
{
	bool ended;

	mutex_lock(&link->lock);
	while (
	    link->state != LINK_STOPPED && link->borrowed == link->generation)
		condition_wait(
		    &link->changed, &link->lock, CONDITION_NO_DEADLINE);
	ended = link->state == LINK_STOPPED;
	if (!ended)
		*loan = lend(find(link, ++link->borrowed));
	mutex_unlock(&link->lock);
	return ended ? LINK_ENDED : LINK_READY;
}

/* Wakes the threads that wait for the link. */
static void
wake_waiters(struct link *link)
{
	condition_wake_all(&link->changed);
	if (atomic_exchange(&link->watched, false))
		doorbell_ring(&link->ready);
}

int
link_watch(struct link *link)
{
	bool down;

	doorbell_answer(&link->ready);
	mutex_lock(&link->lock);
	down = link->state == LINK_DOWN;
	if (down)
		atomic_store(&link->watched, true);
	mutex_unlock(&link->lock);
	return down ? link->ready.fds[0] : -1;
}

void
link_return(struct loan *loan)
{
	release(loan->connection);
	*loan = (struct loan){ .fd = -1 };
}

static bool
has_unread_byte(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* Returns an outage's place in the ring. The newest has age 0. */
static struct link_outage *
outage(struct link *link, size_t age) NEEDS(link->lock)
{
	return &link->history[(link->outages - 1 - age) % LINK_HISTORY];
}

/* Makes the last loss an outage: its generation was proven. */
static void
begin_outage(struct link *link) NEEDS(link->lock)
{
	link->outages++;
	link->outage_since_ms = link->since_ms;
	*outage(link, 0) = link->loss;
}

/* Measures the newest outage, or a copy of it, up to now_ms. */
static void
measure(const struct link *link, struct link_outage *newest, int64_t now_ms)
    NEEDS(link->lock)
{
	newest->ms = now_ms - link->outage_since_ms;
	newest->dials = link->dials - newest->dials_before;
}

/* Ends the current generation. Returns its connection, for retire(). */
static struct connection *
take_down(struct link *link, const char *reason) NEEDS(link->lock)
{
	struct connection *ended = enter(link, LINK_DOWN, NULL);

	snprintf(link->last_error, sizeof(link->last_error), "%s", reason);
	link->loss = (struct link_outage){ .began_utc_ms = clock_utc_ms(),
		.dials_before = link->dials };
	memcpy(link->loss.reason, link->last_error, sizeof(link->last_error));
	link->proven = link->proven || has_unread_byte(ended->fd);
	if (link->proven)
		begin_outage(link);
	return ended;
}

static void
retire(struct connection *ended)
{
	if (!ended)
		return;
	atomic_store(&ended->shut, true);
	shutdown(ended->fd, SHUT_RDWR);
	release(ended);
}

void
link_fail(struct link *link, uint64_t generation, const char *reason)
{
	struct connection *ended = NULL;

	mutex_lock(&link->lock);
	if (link->state == LINK_UP && link->generation == generation)
		ended = take_down(link, reason);
	mutex_unlock(&link->lock);
	retire(ended);
	if (ended)
		doorbell_ring(&link->bell);
}

static void
set_reason(struct link *link, const char *reason) NEEDS(link->lock)
{
	snprintf(link->last_error, sizeof(link->last_error), "%.*s",
	    LINK_REASON_BYTES - 1, reason);
	memcpy(link->loss.reason, link->last_error, sizeof(link->last_error));
	if (link->proven) /* the loss is an outage */
		memcpy(outage(link, 0)->reason, link->last_error,
		    sizeof(link->last_error));
}

void
link_explain(struct link *link, uint64_t generation, const char *reason)
{
	struct connection *ended = NULL;

	mutex_lock(&link->lock);
	if (link->state == LINK_UP && link->generation == generation)
		ended = take_down(link, reason);
	else if (link->state == LINK_DOWN && link->generation == generation)
		set_reason(link, reason);
	mutex_unlock(&link->lock);
	retire(ended);
}

/* The reader will not borrow the generations that wait for it: releases
 * them. */
void
link_stop(struct link *link)
{
	struct connection *ended, *unread[LINK_CONNECTIONS];
	size_t count = 0;

	mutex_lock(&link->lock);
	ended = enter(link, LINK_STOPPED, NULL);
	while (link->borrowed < link->generation)
		unread[count++] = find(link, ++link->borrowed);
	wake_waiters(link);
	mutex_unlock(&link->lock);
	retire(ended);
	while (count > 0)
		release(unread[--count]);
	doorbell_ring(&link->bell);
}

void
link_prove(struct link *link, uint64_t generation)
{
	mutex_lock(&link->lock);
	if (link->generation == generation && !link->proven) {
		link->proven = true;
		if (link->state == LINK_DOWN)
			begin_outage(link);
	}
	mutex_unlock(&link->lock);
}

void
link_set_hold(struct link *link, int64_t hold_ms)
{
	mutex_lock(&link->lock);
	link->hold_ms = hold_ms;
	wake_waiters(link);
	mutex_unlock(&link->lock);
}

void
link_look(struct link *link, struct link_view *view)
{
	int64_t now_ms;

	mutex_lock(&link->lock);
	now_ms = clock_now_ms();
	*view = (struct link_view){ .state = link->state,
		.generation = link->generation,
		.proven = link->proven,
		.up_ms = link->up_ms,
		.last_outage_ms = link->last_outage_ms,
		.down_ms = link->down_ms,
		.outages = link->outages,
		.dials = link->dials };
	memcpy(view->last_error, link->last_error, sizeof(view->last_error));
	if (link->state == LINK_UP) {
		view->up_ms = now_ms - link->since_ms;
	} else if (link->state == LINK_DOWN) {
		view->outage_ms = now_ms - link->outage_since_ms;
		view->down_ms += now_ms - link->since_ms;
	}
	mutex_unlock(&link->lock);
}

size_t
link_history(struct link *link, struct link_outage history[LINK_HISTORY])
{
	size_t count;

	mutex_lock(&link->lock);
	count = link->outages < LINK_HISTORY ? link->outages : LINK_HISTORY;
	for (size_t age = 0; age < count; age++)
		history[age] = *outage(link, age);
	if (link->state == LINK_DOWN && count > 0)
		measure(link, &history[0], clock_now_ms());
	mutex_unlock(&link->lock);
	return count;
}

void
link_dialled(struct link *link)
{
	mutex_lock(&link->lock);
	link->dials++;
	mutex_unlock(&link->lock);
}

void
link_dial_failed(struct link *link, const char *reason)
{
	mutex_lock(&link->lock);
	snprintf(link->last_error, sizeof(link->last_error), "%s", reason);
	mutex_unlock(&link->lock);
}

/* A free place, or NULL. */
static struct connection *
find_place(struct link *link) NEEDS(link->lock)
{
	for (size_t i = 0; i < LINK_CONNECTIONS; i++)
		if (!atomic_load(&link->connections[i].open))
			return &link->connections[i];
	return NULL;
}

static void
bring_up(struct link *link, struct connection *place, int fd, bool datagrams)
    NEEDS(link->lock)
{
	assert(!link->current);
	place->fd = fd;
	place->datagrams = datagrams;
	atomic_store(&place->shut, false);
	place->generation = ++link->generation;
	atomic_store(&place->holders, 2); /* the link and the reader */
	atomic_store(&place->open, true);
	link->proven = false;
	enter(link, LINK_UP, place);
	if (link->outages > 0) {
		measure(link, outage(link, 0), link->since_ms);
		link->last_outage_ms = outage(link, 0)->ms;
	}
}

uint64_t
link_install(struct link *link, int fd, bool datagrams)
{
	struct connection *place;
	uint64_t generation = 0;

	mutex_lock(&link->lock);
	place = find_place(link);
	if (link->state == LINK_STOPPED) {
		errno = EPIPE;
	} else if (!place) {
		errno = EBUSY;
	} else {
		bring_up(link, place, fd, datagrams);
		generation = place->generation;
	}
	mutex_unlock(&link->lock);
	if (generation == 0)
		socket_give_up(fd);
	else /* without the lock, which the woken threads need */
		wake_waiters(link);
	return generation;
}
