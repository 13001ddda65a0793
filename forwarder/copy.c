#include "forwarder/copy.h"

#include <errno.h>
#include <pthread.h>

#include "base/sync.h"

static void *
run_up(void *argument)
{
	thread_name("fwd-up");
	copy_up(argument);
	return NULL;
}

static void *
run_down(void *argument)
{
	thread_name("fwd-down");
	copy_down(argument);
	return NULL;
}

static int
start(void *(*run)(void *), struct copy *copy)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, run, copy);

	if (error == 0)
		return pthread_detach(thread);
	errno = error;
	return -1;
}

int
copy_open(struct copy *copy)
{
	copy->fwd_up = up_create(copy);
	copy->fwd_down = down_create(copy);
	return copy->fwd_up && copy->fwd_down ? 0 : -1;
}

int
copy_start(struct copy *copy)
{
	if (copy_open(copy) < 0)
		return -1;
	return start(run_up, copy) < 0 || start(run_down, copy) < 0 ? -1 : 0;
}
