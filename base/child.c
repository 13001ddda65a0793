#include "base/child.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* A program may have left the group that it was put into. */
int
child_signal(const struct child *child, int number)
{
	int result = kill(-child->pid, number);

	if (getpgid(child->pid) != child->pid)
		result = kill(child->pid, number);
	return result;
}

/* The group is killed before its leader is reaped: until then no other group can
 * have its number. */
bool
child_reap(struct child *child, int *status)
{
	siginfo_t end = { .si_pid = 0 };

	if (waitid(P_PID, (id_t)child->pid, &end, WEXITED | WNOHANG | WNOWAIT) <
		0 ||
	    end.si_pid == 0)
		return false;
	child_signal(child, SIGKILL);
	waitpid(child->pid, status, 0);
	close(child->end_fd);
	*child = (struct child){ .end_fd = -1 };
	return true;
}

const char *
child_end(char buffer[CHILD_END_BYTES], int status)
{
	bool killed = WIFSIGNALED(status);

	snprintf(buffer, CHILD_END_BYTES, "%s %d", killed ? "signal" : "status",
	    killed ? WTERMSIG(status) : WEXITSTATUS(status));
	return buffer;
}
