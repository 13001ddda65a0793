#include "forwarder/copy.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "base/clock.h"
#include "base/sync.h"

/* Ends a call of fwd-up that waits for the guest. The default action is to ignore
 * it. */
#define WAKE_SIGNAL SIGURG
/* A signal that comes right before the call does not end it, so it is sent
 * again. */
#define WAKE_AGAIN_MS 5

static void *
run_up(void *argument)
{
	struct copy *copy = argument;

	thread_name("fwd-up");
	copy_up(copy);
	doorbell_ring(&copy->up_ended);
	return NULL;
}

static void *
run_down(void *argument)
{
	struct copy *copy = argument;

	thread_name("fwd-down");
	copy_down(copy);
	doorbell_ring(&copy->down_ended);
	return NULL;
}

static int
start(pthread_t *thread, void *(*run)(void *), struct copy *copy)
{
	errno = pthread_create(thread, NULL, run, copy);
	return errno == 0 ? 0 : -1;
}

int
copy_open(struct copy *copy)
{
	copy->fwd_up = up_create(copy);
	copy->fwd_down = down_create(copy);
	return copy->fwd_up && copy->fwd_down ? 0 : -1;
}

static void
do_nothing(int number)
{
	(void)number;
}

int
copy_start(struct copy *copy)
{
	struct sigaction action = { .sa_handler = do_nothing };

	sigemptyset(&action.sa_mask);
	sigaction(WAKE_SIGNAL, &action, NULL); /* without SA_RESTART */
	if (doorbell_init(&copy->up_ended) < 0 ||
	    doorbell_init(&copy->down_ended) < 0 || copy_open(copy) < 0)
		return -1;
	if (start(&copy->up_thread, run_up, copy) < 0)
		return -1;
	return start(&copy->down_thread, run_down, copy);
}

static bool
has_ended(const struct doorbell *ended, int64_t deadline_ms)
{
	return wait_readable(ended->fds[0], -1, deadline_ms) == 0;
}

/* A thread that has not ended may still do so before the process exits. */
static void
join_or_detach(pthread_t thread, bool ended)
{
	if (ended)
		pthread_join(thread, NULL);
	else
		pthread_detach(thread);
}

/* Ends the wait of fwd-up for the guest. Returns whether the thread has ended. */
static bool
end_up(struct copy *copy, int64_t deadline_ms)
{
	bool ended = has_ended(&copy->up_ended, 0);

	while (!ended && clock_now_ms() < deadline_ms) {
		pthread_kill(copy->up_thread, WAKE_SIGNAL);
		ended =
		    has_ended(&copy->up_ended, clock_now_ms() + WAKE_AGAIN_MS);
	}
	return ended;
}

void
copy_stop_up(struct copy *copy)
{
	struct link_view view;

	atomic_store(&copy->stopping, true);
	link_look(copy->link, &view);
	/* In an outage it may hold a batch until the link is stopped. */
	if (view.state == LINK_UP)
		end_up(copy, clock_now_ms() + COPY_STOP_MS);
}

void
copy_stop_down(struct copy *copy)
{
	int64_t deadline_ms = clock_now_ms() + COPY_STOP_MS;

	join_or_detach(copy->up_thread, end_up(copy, deadline_ms));
	join_or_detach(
	    copy->down_thread, has_ended(&copy->down_ended, deadline_ms));
}
