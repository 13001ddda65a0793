/* `make demo`: the forwarder between a stand-in guest and a stand-in daemon
 * that is killed again and again. This program starts it again, or with --exec
 * the forwarder does.
 *
 *      guest (two threads)  --- numbered frames -->  forwarder  -->  daemon
 *            counts         <-- the same, back ----             <--  counts
 *
 * The daemon is a process of its own and dies of SIGKILL. It notes each frame
 * that it has read or sent back in memory shared with this program, so its
 * notes outlive it. A frame that the guest sent and no daemon noted is lost,
 * in one of two places:
 *
 *      not counted as written by the forwarder: lost by it
 *      written, not noted: inside a daemon when it was killed
 *
 * The first must be none. The second must lie between the last frame of one
 * daemon and the first of the next, and be no more than a socket holds.
 *
 * The exit status is 0 only if every promise was kept. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "framing/framing.h"
#include "status/ask.h"

#define KILLS 5
/* The time from a daemon's kill to the next one's start. */
static const int away_ms[KILLS] = { 0, 50, 150, 400, 800 };
#define LIFE_MS 1400 /* from a daemon's first frame to its end */

#define TICK_MS 1
#define FRAMES_A_TICK 10
#define FRAME_BYTES 1514u
#define HEAD_BYTES 14
#define MAX_FRAMES (1u << 20)
#define MS INT64_C(1000)
#define WAIT_MS 5000 /* for anything that should take milliseconds */

/* One daemon, from its start to its end. What it read is first to next - 1,
 * what it sent back first to returned - 1. */
struct life {
	_Atomic pid_t pid;
	_Atomic int64_t back_us,
	    frame_us; /* see struct act; first frame read */
	_Atomic uint64_t first, next, returned;
	_Atomic uint64_t skipped, again, damaged; /* within this life */
};

/* A file that the daemons share. */
static struct notes {
	_Atomic int started; /* daemons */
	struct life lives[KILLS + 1];
} * notes;

static struct life *lives; /* in the notes */
static int life;           /* the present one */

/* Who starts the daemon again. */
static const struct act {
	const char *story;
	const char *network; /* the forwarder's endpoint */
	const char *back;    /* since when it could be back: back_us */
	bool by_forwarder;
} acts[2] = {
	{ "started again a moment later", "unix:daemon.sock", "listen()",
	    false },
	{ "started again by the forwarder", "exec:./daemon {fd}", "kill",
	    true },
};
static const struct act *act = &acts[0];

/* Sockets and the log, in a folder of their own: the current one. "daemon" is
 * a link to this program. */
static char folder[64];
static const char *const files[] = { "guest.sock", "vm.sock", "daemon.sock",
	"control.sock", "log", "notes", "daemon" };

static char *program; /* absolute */
static pid_t forwarder = -1, network_daemon = -1;
static int vm_socket = -1;
static volatile sig_atomic_t interrupted;

/* Written by the guest's two threads. */
static _Atomic uint64_t sent, back, back_again, back_damaged;
static atomic_bool sending = true;
static _Atomic uint8_t seen[MAX_FRAMES]; /* came back */

/* Until then, or a signal. */
static void
sleep_until(int64_t when_us)
{
	int64_t left_us = when_us - clock_now_us();
	struct timespec left = { left_us / 1000000, left_us % 1000000 * 1000 };

	if (left_us > 0)
		nanosleep(&left, NULL);
}

/* ---- ending ---- */

static void
kill_daemon(void)
{
	if (network_daemon <= 0)
		return;
	kill(network_daemon, SIGKILL);
	waitpid(network_daemon, NULL, 0); /* not ours in the second act */
	network_daemon = -1;
}

/* Returns its exit status; 128 + the signal that ended it. */
static int
end_forwarder(void)
{
	int64_t deadline_us = clock_now_us() + 2000 * MS;
	int ended = 0;

	if (forwarder <= 0)
		return -1;
	kill(forwarder, SIGTERM);
	while (waitpid(forwarder, &ended, WNOHANG) == 0) {
		if (clock_now_us() > deadline_us)
			kill(forwarder, SIGKILL);
		sleep_until(clock_now_us() + 10 * MS);
	}
	forwarder = -1;
	return WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
}

static void
leave_nothing(void)
{
	kill_daemon();
	end_forwarder();
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		unlink(files[i]);
	rmdir(folder);
}

static __attribute__((noreturn)) void
give_up(const char *problem)
{
	fprintf(stderr, "demo: %s\n", problem);
	if (system("sed 's/^/  forwarder: /' log >&2") != 0)
		fprintf(stderr, "demo: no log\n");
	leave_nothing();
	_exit(interrupted ? 128 + interrupted : 1);
}

static void
on_signal(int number)
{
	interrupted = number;
}

/* Call between any two waits. */
static void
check_all_is_well(void)
{
	if (forwarder > 0 && waitpid(forwarder, NULL, WNOHANG) == forwarder)
		forwarder = -1;
	if (interrupted)
		give_up("interrupted");
	if (forwarder < 0)
		give_up("the forwarder has ended");
}

/* ---- a numbered frame: head, number, and a pattern ---- */

static const uint8_t head[HEAD_BYTES] = { 0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0,
	1, 0x88, 0xb6 };

static void
make_frame(uint8_t frame[FRAME_BYTES], uint64_t number)
{
	memset(frame, (int)(number & 0xff), FRAME_BYTES);
	memcpy(frame, head, HEAD_BYTES);
	memcpy(frame + HEAD_BYTES, &number, sizeof(number));
}

/* Returns whether it is the frame that was sent. */
static bool
read_number(const uint8_t *frame, size_t length, uint64_t *number)
{
	static _Thread_local uint8_t expected[FRAME_BYTES];

	if (length != FRAME_BYTES)
		return false;
	memcpy(number, frame + HEAD_BYTES, sizeof(*number));
	make_frame(expected, *number);
	return *number < MAX_FRAMES && memcmp(frame, expected, length) == 0;
}

/* ---- the daemon: only calls that are safe after fork() from threads ---- */

static struct sockaddr_un
address_of(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path, name, strlen(name));
	return address;
}

static void
note_read(struct life *l, const uint8_t *frame, size_t length)
{
	uint64_t number;

	if (!read_number(frame, length, &number)) {
		l->damaged++;
		return;
	}
	if (!l->frame_us) {
		l->first = l->next = l->returned = number;
		l->frame_us = clock_now_us();
	}
	if (number < l->next) {
		l->again++;
		return;
	}
	l->skipped += number - l->next;
	l->next = number + 1;
}

/* Notes the whole frames of the buffer. Returns how many bytes they are. */
static size_t
note_frames(struct life *l, const uint8_t *bytes, size_t count)
{
	size_t at = 0;

	while (count - at >= FRAME_HEADER_BYTES) {
		uint32_t length;

		memcpy(&length, bytes + at, FRAME_HEADER_BYTES);
		length = ntohl(length);
		if (count - at - FRAME_HEADER_BYTES < length)
			break;
		at += FRAME_HEADER_BYTES;
		note_read(l, bytes + at, length);
		at += length;
	}
	return at;
}

/* Sends back what it reads, in whole frames, until the connection ends. */
static void
serve_connection(struct life *l, int fd)
{
	static uint8_t buffer[256 * 1024];
	size_t held = 0, whole;
	ssize_t n;

	while ((n = recv(fd, buffer + held, sizeof(buffer) - held, 0)) > 0) {
		held += (size_t)n;
		whole = note_frames(l, buffer, held);
		if (send(fd, buffer, whole, 0) != (ssize_t)whole)
			return;
		l->returned = l->next;
		held -= whole;
		memmove(buffer, buffer + whole, held);
	}
}

static __attribute__((noreturn)) void
run_daemon(struct life *l)
{
	struct sockaddr_un address = address_of("daemon.sock");
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;

	close(vm_socket);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	unlink("daemon.sock");
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0)
		_exit(1);
	l->back_us = clock_now_us(); /* before: listen() itself counts */
	if (listen(listener, 8) < 0)
		_exit(1);
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		serve_connection(l, fd);
		close(fd);
	}
	_exit(1);
}

static void
start_daemon(void)
{
	network_daemon = fork();
	if (network_daemon == 0)
		run_daemon(&lives[life]);
	if (network_daemon < 0)
		give_up("fork() failed");
}

static int
open_notes(void)
{
	int fd = open("notes", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *found = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, sizeof(*notes)) == 0)
		found = mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, 0);
	if (found == MAP_FAILED)
		return -1;
	close(fd);
	notes = found;
	lives = notes->lives;
	return 0;
}

/* `daemon FD`, started by the forwarder in our folder. */
static int
be_daemon(const char *descriptor)
{
	int number;

	if (open_notes() < 0 || (number = notes->started++) > KILLS)
		return 1;
	lives[number].pid = getpid();
	serve_connection(&lives[number], atoi(descriptor));
	return 0;
}

/* ---- the guest ---- */

/* Steadily; ticks during which it was held back are not made up for. On macOS
 * the queue may be full for a moment. Without a forwarder main() reports. */
static void *
guest_sends(void *unused)
{
	int64_t next_us = clock_now_us();
	uint8_t frame[FRAME_BYTES];

	while (sending && sent < MAX_FRAMES) {
		make_frame(frame, sent);
		if (send(vm_socket, frame, sizeof(frame), 0) > 0)
			sent++;
		else if (errno != ENOBUFS)
			break;
		if (sent % FRAMES_A_TICK != 0)
			continue;
		next_us += TICK_MS * MS;
		if (next_us < clock_now_us() - 20 * MS)
			next_us = clock_now_us();
		sleep_until(next_us);
	}
	return unused;
}

static void *
guest_reads(void *unused)
{
	static uint8_t frame[FRAME_LIMIT_BYTES];
	uint64_t number, next = 0;
	ssize_t length;

	while ((length = recv(vm_socket, frame, sizeof(frame), 0)) > 0) {
		if (!read_number(frame, (size_t)length, &number)) {
			back_damaged++;
			continue;
		}
		back_again += number < next || seen[number];
		seen[number] = 1;
		next = number + 1;
		back++;
	}
	return unused;
}

static void
start_guest(void)
{
	struct sockaddr_un own = address_of("vm.sock");
	struct sockaddr_un peer = address_of("guest.sock");
	pthread_t threads[2];

	vm_socket = socket(AF_UNIX, SOCK_DGRAM, 0);
	fcntl(vm_socket, F_SETFD, FD_CLOEXEC);
	if (bind(vm_socket, (struct sockaddr *)&own, sizeof(own)) < 0 ||
	    connect(vm_socket, (struct sockaddr *)&peer, sizeof(peer)) < 0)
		give_up("can't open the guest's socket");
	if (pthread_create(&threads[0], NULL, guest_reads, NULL) != 0 ||
	    pthread_create(&threads[1], NULL, guest_sends, NULL) != 0)
		give_up("can't start a thread");
}

/* ---- the forwarder ---- */

/* With the default stall of 100 ms a busy machine that keeps our guest from
 * reading for so long would lose frames, as configured; that isn't the subject
 * here. Nor is the announcement, a frame that the guest didn't send. */
static void
start_forwarder(void)
{
	char command[PATH_MAX + 200];

	snprintf(command, sizeof(command),
	    "exec '%s' -g unixgram:guest.sock -n '%s' "
	    "-o control.socket=control.sock -o guest.stall=1s "
	    "-o network.announce=no 2>log",
	    program, act->network);
	printf("$ cd %s; %s\n\n", folder, command);
	forwarder = fork();
	if (forwarder == 0) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
}

/* What `forwarder status` shows. */
static struct answer answer = { .path = "control.sock" };
static const struct status *const status = &answer.status;

/* Returns false if it does not answer yet. */
static bool
ask(void)
{
	ask_all(&answer, 1);
	return answer.error == 0;
}

/* ---- what is shown ---- */

static double
recovery_ms(int of)
{
	return (double)(lives[of].frame_us - lives[of].back_us) / 1e3;
}

/* Frames that were written to the daemon `of` and that it didn't note. */
static uint64_t
gap_after(int of)
{
	uint64_t first = lives[of + 1].first, next = lives[of].next;

	return first > next ? first - next : 0;
}

static uint64_t
read_by_daemons(void)
{
	uint64_t count = 0;

	for (int i = 0; i <= life; i++)
		count += lives[i].next - lives[i].first - lives[i].skipped;
	return count;
}

/* A line each second. */
static void
show(void)
{
	static int64_t last_us;
	static uint64_t last_sent;
	int64_t now = clock_now_us();

	if (now - last_us < 1000 * MS || !ask())
		return;
	if (last_us == 0)
		printf("  link   outages     frames/s         sent  read by "
		       "daemon  back at guest\n");
	else
		printf("  %-6s %7llu %12.0f %12" PRIu64 " %15" PRIu64
		       " %14" PRIu64 "\n",
		    status->network.state, status->network.outages,
		    (double)(sent - last_sent) * 1e6 / (double)(now - last_us),
		    sent, read_by_daemons(), back);
	last_us = now;
	last_sent = sent;
}

/* ---- the course of events ---- */

static void
pass(int ms)
{
	int64_t until_us = clock_now_us() + ms * MS;

	while (clock_now_us() < until_us) {
		int64_t next_us = clock_now_us() + 20 * MS;

		sleep_until(next_us < until_us ? next_us : until_us);
		check_all_is_well();
		show();
	}
}

static bool
has_frames(void)
{
	return lives[life].frame_us != 0;
}

static bool
all_is_back(void)
{
	return lives[life].returned == sent && seen[sent - 1];
}

static void
wait_for(bool (*happened)(void), const char *problem)
{
	int64_t deadline_us = clock_now_us() + WAIT_MS * MS;

	while (!happened() && clock_now_us() < deadline_us)
		pass(5);
	if (!happened())
		give_up(problem);
}

static void
kill_and_restart(int number)
{
	if (act->by_forwarder) {
		lives[life + 1].back_us = clock_now_us();
		kill(lives[life].pid, SIGKILL);
		life++;
	} else {
		kill_daemon();
		pass(away_ms[number]);
		life++;
		start_daemon();
	}
	wait_for(has_frames, "no frame reached the daemon after its restart");
	printf("  killed; %s to first frame %.2f ms; unread inside it: %" PRIu64
	       " frames\n",
	    act->back, recovery_ms(life), gap_after(number));
}

static void
play(void)
{
	start_forwarder();
	wait_for(ask, "the forwarder doesn't answer");
	if (!act->by_forwarder)
		start_daemon();
	start_guest();
	wait_for(has_frames, "no frame reached the daemon");
	for (int i = 0; i < KILLS; i++) {
		pass(LIFE_MS);
		kill_and_restart(i);
	}
	pass(LIFE_MS);
	sending = false;
	for (int i = 0; i < WAIT_MS / 20 && !all_is_back(); i++)
		pass(20);
	pass(100); /* nothing may follow */
}

/* ---- the verdict ---- */

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* What can be inside a daemon: what it has read and not noted, what is in its
 * socket, and what is in a connection that it never accepted; each of them as
 * much as a socket holds. */
static uint64_t
most_inside(void)
{
	int bytes = 0;
	socklen_t length = sizeof(bytes);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &length);
	close(fd);
	return 3 * (uint64_t)bytes / FRAME_BYTES;
}

static bool kept = true;

static void
expect_none(uint64_t number, const char *broken)
{
	if (number == 0)
		return;
	kept = false;
	printf("BROKEN: %s: %" PRId64 "\n", broken, (int64_t)number);
}

/* Frames that a daemon read twice, or that the one before had read. */
static uint64_t
seen_again(int of)
{
	uint64_t before = of > 0 ? lives[of - 1].next : 0;

	return lives[of].again +
	       (lives[of].first < before ? before - lives[of].first : 0);
}

/* Frames that daemons sent back whole and that never arrived. */
static uint64_t
missing_back(void)
{
	uint64_t missing = 0;

	for (int i = 0; i <= KILLS; i++)
		for (uint64_t n = lives[i].first; n < lives[i].returned; n++)
			missing += !seen[n];
	return missing;
}

static void
judge(void)
{
	uint64_t inside = 0, again = back_again;
	double recovery[KILLS];

	ask();
	for (int i = 0; i <= KILLS; i++) {
		again += seen_again(i);
		expect_none(lives[i].skipped, "lost while a daemon lived");
		expect_none(lives[i].damaged, "damaged at a daemon");
	}
	for (int i = 0; i < KILLS; i++) {
		inside += gap_after(i);
		recovery[i] = recovery_ms(i + 1);
		if (gap_after(i) > most_inside())
			expect_none(gap_after(i), "lost at one kill");
	}
	qsort(recovery, KILLS, sizeof(double), compare);
	expect_none(sent - status->guest_to_network.frames,
	    "not written by the forwarder");
	expect_none(status_sum(status, "guest_to_network.drops"),
	    "dropped by the forwarder");
	expect_none(sent - read_by_daemons() - inside,
	    "lost before the first or after the last one read");
	expect_none(again, "twice or out of order");
	expect_none(missing_back(), "lost on the way back");
	expect_none(back_damaged, "damaged on the way back");
	expect_none(
	    status->network.outages - KILLS, "outages more or less than kills");
	expect_none((uint64_t)end_forwarder(), "the forwarder's exit status");
	if (act->by_forwarder)
		expect_none(kill(lives[life].pid, 0) == 0,
		    "left by the forwarder: daemons");
	printf("\n%d kills: %" PRIu64 " frames sent, %" PRIu64 " lost (%" PRIu64
	       " of them unread inside a killed daemon); %" PRIu64
	       " came back, %" PRIu64 " lost on the way; %" PRIu64
	       " twice or out of order; %s to first frame: median %.2f "
	       "ms, worst %.2f ms\n\n",
	    KILLS, sent, sent - read_by_daemons(), inside, back, missing_back(),
	    again, act->back, recovery[KILLS / 2], recovery[KILLS - 1]);
}

static void
prepare(const char *own_name, const char *name)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal,
		.sa_flags = SA_RESTART };
	const char *where = getenv("TMPDIR");
	char *own = realpath(own_name, NULL);

	program = realpath(name, NULL);
	snprintf(folder, sizeof(folder), "%s/forwarder-demo-XXXXXX",
	    where && strlen(where) < 32 ? where : "/tmp");
	if (!own || !program || !mkdtemp(folder) || chdir(folder) < 0 ||
	    symlink(own, "daemon") < 0 || open_notes() < 0) {
		fprintf(stderr, "demo: %s: %s\n", name, strerror(errno));
		exit(1);
	}
	for (size_t i = 0; i < 3; i++)
		sigaction(signals[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[0], "./daemon") == 0)
		return be_daemon(argv[1]);
	if (argc == 3 && strcmp(argv[1], "--exec") == 0)
		act = &acts[1];
	else if (argc != 2) {
		fprintf(stderr, "usage: demo [--exec] FORWARDER\n");
		return 64;
	}
	prepare(argv[0], argv[argc - 1]);
	printf("A guest sends %d frames a second. A daemon sends each one back."
	       " It is killed %d times and %s.\n",
	    FRAMES_A_TICK * 1000 / TICK_MS, KILLS, act->story);
	play();
	judge();
	leave_nothing();
	return kept ? 0 : 1;
}
