#include "forwarder/command.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/socket.h"

extern char **environ;

#define PLACE "{fd}"
#define FD_LIMIT 10000 /* the number must not be longer than {fd} */

int
command_pair(int ends[2], int type)
{
	if (socket_pair(type, ends) < 0)
		return -1;
	fcntl(ends[1], F_SETFD, 0);
	return 0;
}

/* Replaces each {fd} in text by the number fd, which is below FD_LIMIT. */
static void
fill_in(char *text, int fd)
{
	char number[16];
	size_t length = (size_t)snprintf(number, sizeof(number), "%d", fd);

	for (char *at = text; (at = strstr(at, PLACE)) != NULL; at += length) {
		const char *rest = at + strlen(PLACE);

		memcpy(at, number, length);
		memmove(at + length, rest, strlen(rest) + 1);
	}
}

/* Starts the command with no signal blocked, and with the default actions of
 * SIGPIPE and SIGXFSZ. */
static int
spawn(pid_t *pid, char **argv)
{
	posix_spawnattr_t attributes;
	sigset_t none, usual;
	int error;

	assert(argv[0]); /* options_parse() checks it */
	sigemptyset(&none);
	sigemptyset(&usual);
	sigaddset(&usual, SIGPIPE);
	sigaddset(&usual, SIGXFSZ);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &usual);
	posix_spawnattr_setflags(
	    &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	error = posix_spawnp(pid, argv[0], NULL, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	return error;
}

int
command_start(struct command *command, char **argv, int guest_fd)
{
	int error = EMFILE;

	if (guest_fd < FD_LIMIT) {
		for (char **word = argv; *word != NULL; word++)
			fill_in(*word, guest_fd);
		error = spawn(&command->pid, argv);
	}
	close(guest_fd);
	if (error == 0)
		return 0;
	command->pid = 0;
	errno = error;
	return -1;
}

int
command_failure_status(int error)
{
	switch (error) {
	case ENOENT:
		return 127;
	case EAGAIN:
	case ENOMEM:
		return EX_OSERR;
	default:
		return 126;
	}
}

void
command_signal(const struct command *command, int number)
{
	if (command->pid > 0)
		kill(command->pid, number);
}

bool
command_ended(struct command *command, int *status)
{
	int how;

	if (command->pid == 0 ||
	    waitpid(command->pid, &how, WNOHANG) != command->pid)
		return false;
	command->pid = 0;
	*status = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
	return true;
}
