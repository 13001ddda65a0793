/* Measures how soon a daemon that the forwarder itself starts (exec:) is back after
 * it was killed, and beside it how long the same daemon takes to start without a
 * forwarder. Prints one JSON object.
 *
 *   restart [-r ROUNDS] -- PROGRAM with {fd} and {net}
 *   restart -d NAME FD    the daemon: reports when it reads the first frame of
 *                         the guest, to the abstract socket NAME */
#include "middle.h"
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS INT64_C(1000000)
#define GIVE_UP_MS 15000
#define MAX_ROUNDS 10000
#define FRAME_BYTES 64
#define PARCEL_BYTES (4 + FRAME_BYTES)
#define TYPE_OFFSET (4 + 12)

/* Of the guest: the forwarder sends frames of other types, too. */
static const uint8_t parcel[PARCEL_BYTES] = { 0, 0, 0, FRAME_BYTES, 0x02, 0, 0,
	0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb6 };

/* From the daemon to its starter. */
struct report {
	pid_t pid;
	int64_t first_frame_ns;
};

/* The daemon. */

/* Frames of the forwarder are as long as those of the guest or shorter, so the
 * stream is read frame by frame. */
static void
await_guest(int fd)
{
	uint8_t bytes[PARCEL_BYTES];

	do {
		if (recv(fd, bytes, 4, MSG_WAITALL) != 4 ||
		    bytes[3] > FRAME_BYTES ||
		    recv(fd, bytes + 4, bytes[3], MSG_WAITALL) != bytes[3])
			die("daemon: recv");
	} while (memcmp(bytes + TYPE_OFFSET, parcel + TYPE_OFFSET, 2) != 0);
}

static struct sockaddr_un
name_to_address(const char *name, socklen_t *length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path + 1, name, strlen(name));
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			      strlen(name));
	return address;
}

/* Its own frame is the proof of life, after which the next start is immediate. */
static __attribute__((noreturn)) void
be_daemon(const char *name, int fd)
{
	static uint8_t rest[128 * 1024];
	struct report report = { .pid = getpid() };
	socklen_t length;
	struct sockaddr_un starter = name_to_address(name, &length);
	int out = socket(AF_UNIX, SOCK_DGRAM, 0);

	await_guest(fd);
	report.first_frame_ns = now_ns();
	if (sendto(out, &report, sizeof(report), 0, (struct sockaddr *)&starter,
		length) < 0)
		die(name);
	send(fd, parcel, sizeof(parcel), MSG_NOSIGNAL);
	while (recv(fd, rest, sizeof(rest), 0) > 0)
		;
	exit(0);
}

/* The starter. */

static struct middle middle;
static char name[16]; /* of the socket for reports */
static int reports;

static void
open_reports(void)
{
	struct sockaddr_un address;
	socklen_t length;

	snprintf(name, sizeof(name), "fwd-%d", (int)getpid());
	address = name_to_address(name, &length);
	reports = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(reports, (struct sockaddr *)&address, length) != 0)
		die(name);
}

static struct report
next_report(void)
{
	struct pollfd ready = { .fd = reports, .events = POLLIN };
	struct report report;

	if (poll(&ready, 1, GIVE_UP_MS) != 1 ||
	    recv(reports, &report, sizeof(report), 0) != sizeof(report)) {
		fprintf(stderr, "restart: no frame reaches the daemon\n");
		exit(1);
	}
	return report;
}

static void *
guest_runs(void *unused)
{
	for (;;) {
		if (send(middle.guest, parcel + 4, FRAME_BYTES, 0) !=
		    FRAME_BYTES)
			die("guest: send");
		sleep_until_ns(now_ns() + MS / 10);
	}
	return unused;
}

static void
become_daemon(int fd)
{
	char number[16];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(number, sizeof(number), "%d", fd);
	execl("/proc/self/exe", "restart", "-d", name, number, (char *)NULL);
	perror("exec");
	_exit(127);
}

/* The daemon's own start: from fork() to the first frame, which already waits. */
static int64_t
own_start_ns(void)
{
	int ends[2];
	int64_t begin_ns, took_ns;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 ||
	    send(ends[0], parcel, sizeof(parcel), 0) != sizeof(parcel))
		die("socketpair");
	begin_ns = now_ns();
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		become_daemon(ends[1]);
	took_ns = next_report().first_frame_ns - begin_ns;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(ends[0]);
	close(ends[1]);
	return took_ns;
}

/* From the death of the forwarder's daemon to the next one's first frame. */
static int64_t
restart_ns(pid_t *daemon)
{
	int64_t killed_ns = now_ns();
	struct report report;

	kill(*daemon, SIGKILL);
	report = next_report();
	*daemon = report.pid;
	return report.first_frame_ns - killed_ns;
}

static void
print_times(const char *key, const int64_t *times_ns, int count)
{
	printf(",\"%s\":[", key);
	for (int i = 0; i < count; i++)
		printf("%s%.1f", i ? "," : "", (double)times_ns[i] / 1e3);
	printf("]");
}

static void
measure(int rounds)
{
	static int64_t start_ns[MAX_ROUNDS], back_ns[MAX_ROUNDS];
	pid_t daemon = next_report().pid;

	for (int round = 0; round < rounds; round++) {
		sleep_until_ns(now_ns() + 20 * MS);
		start_ns[round] = own_start_ns();
		sleep_until_ns(now_ns() + 20 * MS);
		back_ns[round] = restart_ns(&daemon);
	}
	printf("{\"rounds\":%d", rounds);
	print_times("start_us", start_ns, rounds);
	print_times("restart_us", back_ns, rounds);
	printf("}\n");
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	char network[128];
	struct middle_options options = { .network = network };
	int option, rounds = 100;
	pthread_t guest;

	while ((option = getopt(argc, argv, "+d:r:")) != -1) {
		if (option == 'd' && optind < argc)
			be_daemon(optarg, atoi(argv[optind]));
		else if (option == 'r')
			rounds = atoi(optarg);
		else
			exit(64);
	}
	if (optind >= argc || rounds < 1 || rounds > MAX_ROUNDS) {
		fprintf(stderr,
		    "usage: restart [-r ROUNDS] -- PROGRAM with {fd} and {net}"
		    "\n       restart -d NAME FD\n");
		exit(64);
	}
	open_reports();
	snprintf(network, sizeof(network), "exec:%s -d %s {fd}",
	    realpath("/proc/self/exe", NULL), name);
	middle_start(&middle, &options, argv + optind);
	if (pthread_create(&guest, NULL, guest_runs, NULL) != 0)
		die("pthread_create");
	measure(rounds);
	middle_stop(&middle);
	_exit(0);
}
