#include "middle.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ACCEPT_TIMEOUT_MS 5000
#define MAX_RUNNING 32
#define MAX_ARGUMENTS 64
#define ARGUMENT_BYTES 256

/* Set while the programs are being stopped: errors are expected then. */
static atomic_bool ending;

void
die(const char *what)
{
	int error = errno;

	while (atomic_exchange(&ending, true))
		pause();
	fprintf(stderr, "%s: %s\n", what, error ? strerror(error) : "ended");
	exit(1);
}

int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void
sleep_until_ns(int64_t when_ns)
{
	struct timespec when = { .tv_sec = when_ns / 1000000000,
		.tv_nsec = when_ns % 1000000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) ==
	       EINTR)
		;
}

static void
stay_on(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		die("sched_setaffinity");
}

/* `text` with {fd} and {net} replaced, in `out`. */
static void
fill_in(
    char *out, const char *text, const struct middle *m, const char *network)
{
	size_t length = 0;

	while (*text && length + strlen(network) < ARGUMENT_BYTES - 16) {
		if (strncmp(text, "{fd}", 4) == 0) {
			length +=
			    (size_t)sprintf(out + length, "%d", m->guest_peer);
			text += 4;
		} else if (strncmp(text, "{net}", 5) == 0) {
			length += (size_t)sprintf(out + length, "%s", network);
			text += 5;
		} else {
			out[length++] = *text++;
		}
	}
	out[length] = '\0';
}

static void
become(const struct middle *m, const struct middle_options *options,
    char **command, int log)
{
	static char text[MAX_ARGUMENTS][ARGUMENT_BYTES];
	char *arguments[MAX_ARGUMENTS + 1] = { NULL };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (options->pin)
		stay_on(0);
	if (log >= 0)
		dup2(log, STDERR_FILENO);
	for (int i = 0; command[i] && i < MAX_ARGUMENTS; i++) {
		fill_in(text[i], command[i], m,
		    options->network ? options->network : m->path);
		arguments[i] = text[i];
	}
	fcntl(m->guest_peer, F_SETFD, 0);
	execvp(arguments[0], arguments);
	perror(arguments[0]);
	_exit(127);
}

/* Stopped at exit, so that a failure leaves nothing behind. */
static struct middle *running[MAX_RUNNING];

static void
stop_all(void)
{
	for (int i = 0; i < MAX_RUNNING; i++)
		if (running[i])
			middle_stop(running[i]);
}

static void
remember(struct middle *m)
{
	static int count;

	if (count == 0)
		atexit(stop_all);
	if (count < MAX_RUNNING)
		running[count++] = m;
}

void
middle_start(
    struct middle *m, const struct middle_options *options, char **command)
{
	int pair[2], log[2] = { -1, -1 };

	*m = (struct middle){ .listener = -1,
		.log = -1,
		.network_type =
		    options->datagram_network ? SOCK_DGRAM : SOCK_STREAM };
	snprintf(m->folder, sizeof(m->folder), "/tmp/forwarder-bench-XXXXXX");
	if (!mkdtemp(m->folder))
		die(m->folder);
	remember(m);
	snprintf(m->path, sizeof(m->path), "%s/net.sock", m->folder);
	if (!options->network)
		middle_listen(m, NULL);
	if (socketpair(AF_UNIX,
		(options->stream_guest ? SOCK_STREAM : SOCK_DGRAM) |
		    SOCK_CLOEXEC,
		0, pair) != 0)
		die("socketpair");
	m->guest = pair[0];
	m->guest_peer = pair[1];
	if (options->log && pipe2(log, O_CLOEXEC) != 0)
		die("pipe2");
	m->pid = fork();
	if (m->pid < 0)
		die("fork");
	if (m->pid == 0)
		become(m, options, command, log[1]);
	if (options->pin)
		stay_on(1);
	if (log[1] >= 0)
		close(log[1]);
	m->log = log[0];
}

void
middle_stop(struct middle *m)
{
	ending = true;
	if (m->pid > 0) {
		kill(m->pid, SIGKILL);
		waitpid(m->pid, NULL, 0);
	}
	m->pid = 0;
	middle_unlisten(m);
	rmdir(m->folder);
}

void
middle_listen(struct middle *m, int64_t *before_listen_ns)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path, m->path, strlen(m->path));
	m->listener = socket(AF_UNIX, m->network_type | SOCK_CLOEXEC, 0);
	if (m->listener < 0 || bind(m->listener, (struct sockaddr *)&address,
				   sizeof(address)) != 0)
		die(m->path);
	if (before_listen_ns)
		*before_listen_ns = now_ns();
	if (m->network_type == SOCK_STREAM && listen(m->listener, 16) != 0)
		die("listen");
}

void
middle_unlisten(struct middle *m)
{
	unlink(m->path);
	if (m->listener >= 0)
		close(m->listener);
	m->listener = -1;
}

/* Connects the daemon's datagram socket to the first sender. */
static int
accept_datagrams(int listener)
{
	struct sockaddr_un client;
	socklen_t length = sizeof(client);
	char hello[4];

	if (recvfrom(listener, hello, sizeof(hello), 0,
		(struct sockaddr *)&client, &length) != sizeof(hello) ||
	    memcmp(hello, "VFKT", sizeof(hello)) != 0 ||
	    connect(listener, (struct sockaddr *)&client, length) != 0)
		return -1;
	return fcntl(listener, F_DUPFD_CLOEXEC, 0);
}

int
middle_accept(struct middle *m)
{
	struct pollfd ready = { .fd = m->listener, .events = POLLIN };
	int fd;

	if (poll(&ready, 1, ACCEPT_TIMEOUT_MS) != 1) {
		fprintf(stderr, "the program under test does not connect\n");
		exit(1);
	}
	fd = m->network_type == SOCK_STREAM
		 ? accept4(m->listener, NULL, NULL, SOCK_CLOEXEC)
		 : accept_datagrams(m->listener);
	if (fd < 0)
		die("accept");
	return fd;
}

int64_t
middle_cpu_ns(const struct middle *m)
{
	struct timespec used;
	clockid_t clock;

	if (clock_getcpuclockid(m->pid, &clock) != 0 ||
	    clock_gettime(clock, &used) != 0)
		die("processor time of the program under test");
	return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

/* The sum of all numbers after `key` in a file of "key: number" lines. */
static int64_t
sum_of(const char *path, const char *key)
{
	FILE *file = fopen(path, "re");
	char line[256];
	int64_t sum = 0;

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		const char *at = strstr(line, key);

		if (at)
			sum += strtoll(at + strlen(key), NULL, 10);
	}
	fclose(file);
	return sum;
}

/* Calls `each` for every thread of the program under test. */
static void
for_each_thread(const struct middle *m,
    void (*each)(void *context, int64_t pid, int64_t thread), void *context)
{
	char path[64];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)m->pid);
	tasks = opendir(path);
	if (!tasks)
		die(path);
	while ((entry = readdir(tasks)))
		if (entry->d_name[0] != '.')
			each(context, m->pid, strtoll(entry->d_name, NULL, 10));
	closedir(tasks);
}

static void
add_switches(void *context, int64_t pid, int64_t thread)
{
	int64_t *sum = context;
	char path[96];

	/* Matches voluntary_ctxt_switches and nonvoluntary_ctxt_switches. */
	snprintf(path, sizeof(path), "/proc/%lld/task/%lld/status",
	    (long long)pid, (long long)thread);
	*sum += sum_of(path, "voluntary_ctxt_switches:");
}

int64_t
middle_switches(const struct middle *m)
{
	int64_t sum = 0;

	for_each_thread(m, add_switches, &sum);
	return sum;
}

int64_t
middle_memory_kb(const struct middle *m, const char *key)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)m->pid);
	return sum_of(path, key);
}

static void
count_thread(void *context, int64_t pid, int64_t thread)
{
	struct middle *m = context;
	struct perf_event_attr event = { .type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(event) };
	FILE *id =
	    fopen("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id", "re");
	long fd;

	(void)pid;
	if (!id)
		return;
	if (fscanf(id, "%llu", (unsigned long long *)&event.config) != 1)
		event.config = 0;
	fclose(id);
	fd = syscall(SYS_perf_event_open, &event, (pid_t)thread, -1, -1,
	    PERF_FLAG_FD_CLOEXEC);
	if (fd >= 0 && m->syscall_threads < 32)
		m->syscall_counters[m->syscall_threads++] = (int)fd;
}

bool
middle_count_syscalls(struct middle *m)
{
	for_each_thread(m, count_thread, m);
	return m->syscall_threads > 0;
}

int64_t
middle_syscalls(const struct middle *m)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < m->syscall_threads; i++) {
		uint64_t count = 0;

		if (read(m->syscall_counters[i], &count, sizeof(count)) ==
		    (ssize_t)sizeof(count))
			sum += (int64_t)count;
	}
	return sum;
}
