#include "forwarder/signals.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/wait.h"

static const int caught[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2,
	SIGCHLD, SIGQUIT };
#define CAUGHT (sizeof(caught) / sizeof(*caught))
#define CAUGHT_ALONE (CAUGHT - 1) /* without a command: not SIGQUIT */

static int ends[2]; /* written once, before the first handler can run */

/* Only INT and QUIT can be typed at a terminal. The kernel sends them, so si_pid
 * is 0 and si_code isn't one of a process. (si_code > 0 isn't enough: macOS has an
 * SI_USER above 0.) */
bool
signals_is_typed(int number, const siginfo_t *info)
{
	return (number == SIGINT || number == SIGQUIT) && info->si_pid == 0 &&
	       info->si_code != SI_USER && info->si_code != SI_QUEUE;
}

static void
note_down(int number, siginfo_t *info, void *context)
{
	struct signal_note note = { .number = number,
		.typed = signals_is_typed(number, info) };
	int saved = errno;

	(void)context;
	/* A note is shorter than PIPE_BUF, so it is written whole or not at
	 * all. It is lost if thousands of others fill the pipe. */
	(void)!write(ends[1], &note, sizeof(note));
	errno = saved;
}

/* Whether the signal was ignored at start, as nohup(1) and shells that start a
 * background job arrange. It stays ignored, for the command as well. */
static bool
is_ignored(int number)
{
	struct sigaction before;

	return (number == SIGHUP || number == SIGINT || number == SIGQUIT) &&
	       sigaction(number, NULL, &before) == 0 &&
	       before.sa_handler == SIG_IGN;
}

static void
catch_all(size_t count)
{
	struct sigaction action = { .sa_sigaction = note_down,
		.sa_flags = SA_SIGINFO | SA_RESTART };

	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < count; i++)
		if (!is_ignored(caught[i]))
			sigaction(caught[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

static void
set_mask(int how)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < CAUGHT; i++)
		sigaddset(&set, caught[i]);
	pthread_sigmask(how, &set, NULL);
}

int
signals_open(bool for_command)
{
	if (pipe_open(ends) < 0)
		return -1;
	set_mask(SIG_BLOCK);
	catch_all(for_command ? CAUGHT : CAUGHT_ALONE);
	return ends[0];
}

void
signals_unblock(void)
{
	set_mask(SIG_UNBLOCK);
}

bool
signals_next(struct signal_note *note)
{
	return read(ends[0], note, sizeof(*note)) == (ssize_t)sizeof(*note);
}
