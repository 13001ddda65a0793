#include "status/capture.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/shared_memory.h"
#include "base/socket.h"

/* The size of each of the two buffers. Pages that were never written use no
 * memory. */
#define BUFFER_BYTES ((size_t)2 * 1024 * 1024)
/* The shortest time between two parts: a buffer in this time is 1.7 Gbit/s. When
 * no processor is free, copying takes time from the guest's traffic, and twice
 * this rate left it less than 0.8 of its throughput (bench/run --only
 * capture). */
#define PART_MS 10
#define MEMORY_BYTES (2 * BUFFER_BYTES)
/* The part of a buffer that frames leave free, for events and statistics. */
#define RESERVED_BYTES ((size_t)4096)

static struct log_limit began_limit = { .burst = 10 };
static struct log_limit ended_limit = { .burst = 10 };

/* The sum of both directions. */
#define TOTAL(c, member)                                                       \
	((status_number)((c)->statistics[CAPTURE_UP].member +                  \
			 (c)->statistics[CAPTURE_DOWN].member))

static uint64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- adding blocks: any thread ---- */

/* Release order, because capture_start() reads OFF without the lock. */
static void
enter(struct capture *c, enum capture_state state) NEEDS(c->lock)
{
	atomic_store_explicit(&c->state, state, memory_order_release);
}

/* Wakes fwd-capture. The bell never blocks, so it may be rung under the
 * lock. */
static void
wake(struct capture *c) NEEDS(c->lock)
{
	if (c->sleeping)
		doorbell_ring(&c->bell);
	c->sleeping = false;
}

static void
add_event(struct capture *c, const char *message) NEEDS(c->lock)
{
	char bytes[CAPTURE_COMMENT_BYTES];
	struct text visible = text_in(bytes, sizeof(bytes));

	text_add_escaped(&visible, message, text_visible);
	pcapng_event(c->filling, now_ns(), bytes);
	text_add(&c->comment, "%s%s", c->comment.length > 0 ? "; " : "", bytes);
	wake(c);
}

static void
forget_comment(struct capture *c) NEEDS(c->lock)
{
	c->comment = text_in(c->comment_bytes, sizeof(c->comment_bytes));
}

static void
add_frames(struct capture *c, enum capture_direction direction,
    const struct iovec *pieces, size_t count, size_t skip) NEEDS(c->lock)
{
	uint64_t time_ns = now_ns();
	struct pcapng *to = c->filling;

	to->capacity -= RESERVED_BYTES;
	for (size_t i = 0; i < count; i++) {
		const uint8_t *frame = (uint8_t *)pieces[i].iov_base + skip;

		if (pcapng_frame(to, direction, time_ns, frame,
			pieces[i].iov_len - skip, c->comment.bytes)) {
			forget_comment(c);
		} else {
			c->statistics[direction].lost++;
			c->losing = true;
		}
	}
	to->capacity += RESERVED_BYTES;
	c->statistics[direction].received += count;
	wake(c);
}

/* Adds to `to` how many frames have been captured and lost so far. */
static void
add_statistics(struct capture *c, struct pcapng *to, const char *why)
    NEEDS(c->lock)
{
	char message[128];

	snprintf(message, sizeof(message), "%s: %llu frames, %llu lost", why,
	    TOTAL(c, received), TOTAL(c, lost));
	pcapng_event(to, now_ns(), message);
	for (uint32_t i = 0; i < CAPTURE_DIRECTIONS; i++)
		pcapng_statistics(to, i, now_ns(), &c->statistics[i]);
	c->losing = false;
}

void
capture_frames(struct capture *c, enum capture_direction direction,
    const struct iovec *pieces, size_t count, size_t skip)
{
	mutex_lock(&c->lock);
	if (capture_is_on(c))
		add_frames(c, direction, pieces, count, skip);
	mutex_unlock(&c->lock);
}

void
capture_event(struct capture *c, const char *message)
{
	mutex_lock(&c->lock);
	if (capture_is_on(c))
		add_event(c, message);
	mutex_unlock(&c->lock);
}

/* ---- handing blocks over: fwd-capture ---- */

/* Takes a byte from the client, if there is one. Returns false if the client
 * has left or breaks the protocol. */
static bool
take_byte(struct capture *c)
{
	char byte;
	ssize_t n = recv(c->client, &byte, 1, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 1 && byte == CAPTURE_TAKEN && !c->taken) {
		c->taken = true;
		return true;
	}
	if (n == 0 || byte != CAPTURE_END)
		return false;
	mutex_lock(&c->lock);
	enter(c, CAPTURE_ENDING);
	mutex_unlock(&c->lock);
	return true;
}

/* Waits for the client, the bell or until_ms. Returns false if the client has
 * left, or has not taken the rest within CAPTURE_END_MS. */
static bool
await(struct capture *c, int64_t until_ms)
{
	struct pollfd fds[] = {
		{ .fd = c->client, .events = POLLIN },
		{ .fd = c->bell.fds[0], .events = POLLIN },
	};
	int timeout = wait_timeout(earlier(until_ms, c->deadline_ms));
	bool here;

	if (poll(fds, 2, timeout) < 0 && errno != EINTR)
		wait_pause(WAIT_ERROR_MS);
	doorbell_answer(&c->bell);
	here = take_byte(c);
	if (!capture_is_on(c) && c->deadline_ms == INT64_MAX)
		c->deadline_ms = clock_now_ms() + CAPTURE_END_MS;
	return here && clock_now_ms() < c->deadline_ms;
}

/* Has the client write the blocks, waits for that, and empties the buffer.
 * Returns false if await() does. */
static bool
hand_over(struct capture *c, struct pcapng *blocks)
{
	struct capture_part part = {
		.offset = (uint32_t)(blocks->bytes - c->buffers[0].bytes),
		.length = (uint32_t)blocks->used,
	};

	c->taken = false;
	if (send(c->client, &part, sizeof(part), MSG_DONTWAIT | MSG_NOSIGNAL) !=
	    sizeof(part))
		return false;
	while (!c->taken)
		if (!await(c, INT64_MAX))
			return false;
	blocks->used = 0;
	return true;
}

/* Whether it is too early for the next part: there is no block yet (*until_ms
 * is INT64_MAX), or PART_MS have not passed. */
static bool
is_early(struct capture *c, int64_t *until_ms) NEEDS(c->lock)
{
	if (!capture_is_on(c))
		return false;
	c->sleeping = c->filling->used == 0;
	*until_ms = c->sleeping ? INT64_MAX : c->next_ms;
	return clock_now_ms() < *until_ms;
}

/* Waits for blocks and returns their buffer; new blocks then go to `empty`. The
 * returned buffer is empty only if the capture is ending and nothing is left.
 * Returns NULL if await() returned false. */
static struct pcapng *
exchange(struct capture *c, struct pcapng *empty)
{
	struct pcapng *full;
	bool here = true;
	int64_t until_ms;

	mutex_lock(&c->lock);
	while (here && is_early(c, &until_ms)) {
		mutex_unlock(&c->lock);
		here = await(c, until_ms);
		mutex_lock(&c->lock);
	}
	c->sleeping = false;
	c->next_ms = clock_now_ms() + PART_MS;
	full = c->filling;
	c->filling = empty;
	if (c->losing)
		add_statistics(c, empty, "frames were lost");
	mutex_unlock(&c->lock);
	return here ? full : NULL;
}

static void
hand_over_statistics(struct capture *c, struct pcapng *blocks)
{
	mutex_lock(&c->lock);
	add_statistics(c, blocks, "capture ended");
	mutex_unlock(&c->lock);
	hand_over(c, blocks);
}

static void
release(struct capture *c)
{
	munmap(c->buffers[0].bytes, MEMORY_BYTES);
	close(c->memory);
	doorbell_destroy(&c->bell);
}

/* Closes the client's socket last: the client may then start another
 * capture. */
static void
end(struct capture *c)
{
	status_number received, lost;
	int client = c->client;

	mutex_lock(&c->lock);
	enter(c, CAPTURE_ENDING);
	received = TOTAL(c, received);
	lost = TOTAL(c, lost);
	mutex_unlock(&c->lock);
	release(c);
	log_limited(&ended_limit, LOG_LEVEL_INFO, LOG_CONTROL,
	    "capture ended frames=%llu lost=%llu", received, lost);
	mutex_lock(&c->lock);
	enter(c, CAPTURE_OFF);
	condition_wake_all(&c->ended);
	mutex_unlock(&c->lock);
	close(client);
}

static void *
run_capture(void *argument)
{
	struct capture *c = argument;
	struct pcapng *blocks = &c->buffers[1];

	thread_name("fwd-capture");
	do
		blocks = exchange(c, blocks);
	while (blocks && blocks->used > 0 && hand_over(c, blocks));
	if (blocks && blocks->used == 0)
		hand_over_statistics(c, blocks);
	end(c);
	return NULL;
}

/* ---- starting and stopping: main() ---- */

void
capture_init(struct capture *c)
{
	*c = (struct capture){ 0 };
	mutex_init(&c->lock);
	condition_init(&c->ended);
}

/* Returns 0, or -1 with nothing allocated. */
static int
allocate(struct capture *c)
{
	uint8_t *bytes = MAP_FAILED;

	if (doorbell_init(&c->bell) < 0)
		return -1;
	c->memory = shared_memory_create(MEMORY_BYTES);
	if (c->memory >= 0)
		bytes = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
		    MAP_SHARED, c->memory, 0);
	if (bytes == MAP_FAILED) {
		close(c->memory);
		doorbell_destroy(&c->bell);
		return -1;
	}
	for (size_t i = 0; i < 2; i++)
		c->buffers[i] = (struct pcapng){
			.bytes = bytes + i * BUFFER_BYTES,
			.capacity = BUFFER_BYTES,
		};
	return 0;
}

/* Begins the file: describes the interfaces, and the state of the link. */
static void
add_head(struct capture *c, const struct status *now) NEEDS(c->lock)
{
	static const char *const interfaces[] = {
		[CAPTURE_UP] = "guest to network",
		[CAPTURE_DOWN] = "network to guest",
	};
	char message[64];

	pcapng_section(c->filling, "forwarder " VERSION);
	for (int i = 0; i < CAPTURE_DIRECTIONS; i++)
		pcapng_interface(c->filling, interfaces[i], now->name);
	snprintf(message, sizeof(message),
	    "capture began: link %s, generation %llu", now->network.state,
	    now->network.generation);
	add_event(c, message);
}

/* Starts the thread, which takes no signals. Returns 0, or -1. */
static int
start_thread(struct capture *c)
{
	sigset_t all, before;
	pthread_t thread;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, NULL, run_capture, c);
	if (error == 0)
		error = pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error == 0 ? 0 : -1;
}

static bool
may_capture(int client)
{
	uid_t user;

	return peer_user(client, &user) == 0 &&
	       (user == 0 || user == geteuid());
}

static void
prepare(struct capture *c, int client, const struct status *now) NEEDS(c->lock)
{
	c->client = client;
	c->deadline_ms = INT64_MAX;
	c->next_ms = 0;
	c->filling = &c->buffers[0];
	c->sleeping = c->losing = false;
	for (int i = 0; i < CAPTURE_DIRECTIONS; i++)
		c->statistics[i] =
		    (struct pcapng_statistics){ .start_ns = now_ns() };
	forget_comment(c);
	add_head(c, now);
}

const char *
capture_start(struct capture *c, int client, const struct status *now)
{
	struct capture_hello hello = { CAPTURE_MAGIC, MEMORY_BYTES };
	int result;

	if (!may_capture(client))
		return "only root and the forwarder's own user may capture";
	if (atomic_load(&c->state) != CAPTURE_OFF)
		return "another capture is running, and there can be only one";
	if (allocate(c) < 0)
		return "no memory or descriptors for a capture";
	mutex_lock(&c->lock);
	prepare(c, client, now);
	result = shared_memory_send(client, c->memory, &hello, sizeof(hello));
	if (result == 0)
		result = start_thread(c);
	if (result == 0)
		enter(c, CAPTURE_RUNNING);
	mutex_unlock(&c->lock);
	if (result == 0) {
		log_limited(
		    &began_limit, LOG_LEVEL_INFO, LOG_CONTROL, "capture began");
		return NULL;
	}
	release(c);
	return "a capture could not be started";
}

void
capture_stop(struct capture *c)
{
	int64_t deadline_ms = clock_now_ms() + CAPTURE_STOP_MS;

	mutex_lock(&c->lock);
	if (capture_is_on(c)) {
		add_event(c, "the forwarder stops");
		enter(c, CAPTURE_ENDING);
		doorbell_ring(&c->bell);
	}
	while (atomic_load(&c->state) != CAPTURE_OFF &&
	       clock_now_ms() < deadline_ms)
		condition_wait(&c->ended, &c->lock, deadline_ms);
	mutex_unlock(&c->lock);
}
