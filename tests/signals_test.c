#include "forwarder/signals.h"

#include "base/shared_memory.h"

#include "tests/support/suite.h"

#define FROM_KERNEL 0x80 /* SI_KERNEL of Linux */

static siginfo_t
sent(int code, pid_t pid)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_code = code;
	info.si_pid = pid;
	return info;
}

static const struct {
	int number, code;
	pid_t pid;
	bool typed;
} origins[] = {
	{ SIGINT, FROM_KERNEL, 0, true },
	{ SIGQUIT, FROM_KERNEL, 0, true },
	{ SIGINT, SI_USER, 1, false },
	{ SIGQUIT, SI_USER, 0, false }, /* from outside a container */
	{ SIGINT, SI_QUEUE, 0, false },
	{ SIGINT, 0x10001, 1, false },      /* SI_USER of macOS */
	{ SIGTERM, FROM_KERNEL, 0, false }, /* cannot be typed */
	{ SIGHUP, FROM_KERNEL, 0, false },
};

TEST(only_a_signal_from_the_terminal_counts_as_typed, .count = LENGTH(origins))
{
	siginfo_t info = sent(origins[_i].code, origins[_i].pid);

	ck_assert_int_eq(
	    signals_is_typed(origins[_i].number, &info), origins[_i].typed);
}

/* Threads start while signals are blocked, so they never receive one. */
TEST(a_signal_is_written_to_the_pipe_and_interrupts_no_call)
{
	struct signal_note note;
	struct sigaction action;

	ck_assert_int_ge(signals_open(true), 0);
	raise(SIGUSR2);
	ck_assert(!signals_next(&note));
	signals_unblock();
	ck_assert(signals_next(&note));
	ck_assert_int_eq(note.number, SIGUSR2);
	ck_assert(!note.typed);
	ck_assert(!signals_next(&note));
	sigaction(SIGUSR2, NULL, &action);
	ck_assert_int_ne(action.sa_flags & SA_RESTART, 0);
}

/* SIGXFSZ would end the process: a log in a file, or a capture. */
TEST(a_limit_of_file_sizes_is_an_error)
{
	struct rlimit few = { 4096, 4096 };

	ck_assert_int_ge(signals_open(false), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &few), 0);
	ck_assert_int_lt(shared_memory_create(8192), 0);
	ck_assert_int_eq(errno, EFBIG);
}
