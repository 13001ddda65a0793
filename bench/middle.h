/* The program under test, between a guest and a daemon that the measuring program
 * plays. Starts it, reads its processor time and memory, and stops it. */
#ifndef BENCH_MIDDLE_H
#define BENCH_MIDDLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct middle {
	pid_t pid;
	int guest;        /* our end of the guest's socket pair */
	int guest_peer;   /* the program's end */
	int listener;     /* the daemon's socket at path; -1 while it is away */
	int log;          /* reads its standard error; -1: not requested */
	int network_type; /* SOCK_STREAM or SOCK_DGRAM */
	char folder[64];
	char path[96];
	int syscall_counters[32]; /* perf event descriptors */
	unsigned syscall_threads;
};

struct middle_options {
	/* Datagrams, one frame each, or a stream of frames with their lengths. */
	bool stream_guest, datagram_network;
	/* What {net} stands for if the program starts the daemon itself. NULL:
	 * the path of the daemon's socket, which exists before it starts. */
	const char *network;
	bool pin; /* the program to processor 0, us to processor 1 */
	bool log; /* open a pipe for its standard error */
};

/* In `command`, {fd} is replaced with the number of the guest's descriptor and
 * {net} with the network. Ends the process on failure. */
void middle_start(
    struct middle *m, const struct middle_options *options, char **command);

/* Kills it and removes its files. */
void middle_stop(struct middle *m);

/* The daemon's side. With datagrams the program says "VFKT" to connect.
 * middle_accept() ends the process after 5 s without a connection. */
void middle_listen(struct middle *m, int64_t *before_listen_ns);
void middle_unlisten(struct middle *m);
int middle_accept(struct middle *m);

/* Processor time of all its threads so far. */
int64_t middle_cpu_ns(const struct middle *m);

/* Context switches of all its threads so far, voluntary or not. */
int64_t middle_switches(const struct middle *m);

/* A value of /proc/PID/status in kB; `key` is "VmRSS:", for example. */
int64_t middle_memory_kb(const struct middle *m, const char *key);

/* Starts counting system calls. False if perf is not permitted. */
bool middle_count_syscalls(struct middle *m);
int64_t middle_syscalls(const struct middle *m);

int64_t now_ns(void);
void sleep_until_ns(int64_t when_ns);
/* Prints errno's text and ends the process. While the programs are being
 * stopped, errors are expected: then it blocks the calling thread instead. */
void die(const char *what) __attribute__((noreturn));

#endif
