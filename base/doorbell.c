#include "base/doorbell.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int
pipe_open(int ends[2])
{
	if (pipe(ends) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		fcntl(ends[i], F_SETFD, FD_CLOEXEC);
		fcntl(ends[i], F_SETFL, O_NONBLOCK);
	}
	return 0;
}

int
doorbell_init(struct doorbell *bell)
{
	return pipe_open(bell->fds);
}

void
doorbell_destroy(struct doorbell *bell)
{
	close(bell->fds[0]);
	close(bell->fds[1]);
}

void
doorbell_ring(struct doorbell *bell)
{
	int saved = errno;

	/* A full pipe is a bell that rings already. */
	(void)!write(bell->fds[1], "", 1);
	errno = saved;
}

void
doorbell_answer(struct doorbell *bell)
{
	char rings[64];

	while (read(bell->fds[0], rings, sizeof(rings)) > 0)
		;
}
