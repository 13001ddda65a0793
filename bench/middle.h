/* The program being measured, between a guest end and a daemon end that the
 * measuring program plays itself. Starts it, tells what it costs, ends it. */
#ifndef BENCH_MIDDLE_H
#define BENCH_MIDDLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct middle {
	pid_t pid;
	int guest;      /* our end of the datagram socket pair */
	int guest_peer; /* its end: held open only if it is to outlive it */
	int listener;   /* listening at path; -1 while the daemon is away */
	int log;        /* its standard error, if asked for; else -1 */
	char folder[64];
	char path[96];
	int syscall_counters[32]; /* perf event descriptors */
	unsigned syscall_threads;
};

struct middle_options {
	bool pin; /* it on processor 0, us on processor 1 */
	bool log; /* read its standard error */
};

/* In `command`, {fd} stands for the number of the guest's descriptor and {net}
 * for the path of the daemon's socket. Ends the process when that fails. */
void middle_start(
    struct middle *m, const struct middle_options *options, char **command);

/* Kills it and removes what was made for it. */
void middle_stop(struct middle *m);

/* The daemon end. middle_accept() gives up, and ends the process, after 5 s. */
void middle_listen(struct middle *m, int64_t *before_listen_ns);
void middle_unlisten(struct middle *m);
int middle_accept(struct middle *m);

/* Processor time of all its threads so far, to the nanosecond. */
int64_t middle_cpu_ns(const struct middle *m);

/* Times that its threads went to sleep (or were put aside) so far. */
int64_t middle_switches(const struct middle *m);

/* One line of /proc/PID/status in kB, such as "VmRSS:". */
int64_t middle_memory_kb(const struct middle *m, const char *key);

/* Counts system calls from now on; false where perf isn't allowed to. */
bool middle_count_syscalls(struct middle *m);
int64_t middle_syscalls(const struct middle *m);

int64_t now_ns(void);
void sleep_until_ns(int64_t when_ns);
/* Tells errno's reason and ends the process. A thread that meets an error
 * while the measured programs are being ended just stays. */
void die(const char *what) __attribute__((noreturn));

#endif
