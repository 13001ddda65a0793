/* `make demo`: the forwarder between a stand-in guest and a stand-in daemon
 * that is killed five times.
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
 *      written, not noted: it was inside a daemon when that was killed
 *
 * The first must be none. The second must lie between the last frame of one
 * daemon and the first of the next, and be no more than a socket holds.
 *
 * The exit status is 0 only if every promise was kept. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
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

#include "framing/framing.h"

#define KILLS 5
/* How long each daemon stays away after it was killed. */
static const int away_ms[KILLS] = { 0, 50, 150, 400, 800 };
#define LIFE_MS 1600 /* from a daemon's first frame to its end */

#define TICK_MS 1
#define FRAMES_A_TICK 10
#define FRAME_BYTES 1514u
#define HEAD_BYTES 14
#define MAX_FRAMES (1u << 20)
#define MS INT64_C(1000000)
#define WAIT_MS 5000 /* for anything that should take milliseconds */

/* One daemon, from its start to its end. What it read is first to next - 1,
 * what it sent back first to returned - 1. */
struct life {
	_Atomic int64_t listen_ns, frame_ns; /* listen(), first frame read */
	_Atomic uint64_t first, next, returned;
	_Atomic uint64_t skipped, again, damaged; /* within this life */
};

static struct life *lives; /* shared with the daemons; KILLS + 1 */
static int life;           /* the present one */

/* Sockets and the log, in a folder of their own: the current one. */
static char folder[64];
static const char *const files[] = { "guest.sock", "vm.sock", "daemon.sock",
	"control.sock", "log" };

static char *program; /* absolute */
static pid_t forwarder = -1, network_daemon = -1;
static int vm_socket = -1;
static volatile sig_atomic_t interrupted;

/* Written by the guest's two threads. */
static _Atomic uint64_t sent, back, back_again, back_disordered, back_damaged;
static atomic_bool sending = true;
static _Atomic uint8_t seen[MAX_FRAMES]; /* came back */

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Until then, or a signal. */
static void
sleep_until(int64_t when_ns)
{
	int64_t left_ns = when_ns - now_ns();
	struct timespec left = { left_ns / 1000000000, left_ns % 1000000000 };

	if (left_ns > 0)
		nanosleep(&left, NULL);
}

/* ---- ending ---- */

static void
kill_daemon(void)
{
	if (network_daemon > 0 && kill(network_daemon, SIGKILL) == 0)
		waitpid(network_daemon, NULL, 0);
	network_daemon = -1;
}

/* Returns its exit status; 128 + the signal that ended it. */
static int
end_forwarder(void)
{
	int64_t deadline_ns = now_ns() + 2000 * MS;
	int status = 0;

	if (forwarder <= 0)
		return -1;
	kill(forwarder, SIGTERM);
	while (waitpid(forwarder, &status, WNOHANG) == 0) {
		if (now_ns() > deadline_ns)
			kill(forwarder, SIGKILL);
		sleep_until(now_ns() + 10 * MS);
	}
	forwarder = -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void
leave_nothing(void)
{
	kill_daemon();
	end_forwarder();
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		unlink(files[i]);
	rmdir(folder);
	fflush(stdout);
}

static __attribute__((noreturn, format(printf, 1, 2))) void
give_up(const char *format, ...)
{
	char line[1024];
	FILE *log = fopen("log", "r");
	va_list arguments;

	fprintf(stderr, "demo: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
	while (log && fgets(line, sizeof(line), log))
		fprintf(stderr, "  forwarder: %s", line);
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

/* False: it isn't what was sent. */
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
	if (!l->frame_ns) {
		l->first = l->next = l->returned = number;
		l->frame_ns = now_ns();
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
	size_t at = 0, length;
	uint32_t header;

	while (count - at >= FRAME_HEADER_BYTES) {
		memcpy(&header, bytes + at, FRAME_HEADER_BYTES);
		length = ntohl(header);
		if (count - at < FRAME_HEADER_BYTES + length)
			break;
		note_read(l, bytes + at + FRAME_HEADER_BYTES, length);
		at += FRAME_HEADER_BYTES + length;
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
		for (size_t at = 0; at < whole; at += (size_t)n) {
			n = send(fd, buffer + at, whole - at, 0);
			if (n < 0)
				return;
		}
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
	l->listen_ns = now_ns(); /* before: what it takes counts, too */
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
		give_up("fork: %s", strerror(errno));
}

/* ---- the guest ---- */

static bool
send_frame(uint64_t number)
{
	static uint8_t frame[FRAME_BYTES];

	make_frame(frame, number);
	while (send(vm_socket, frame, sizeof(frame), 0) < 0) {
		if (errno != ENOBUFS && errno != EINTR)
			return false; /* the forwarder is gone: main() reports */
		sleep_until(now_ns() + TICK_MS * MS); /* macOS: queue full */
	}
	sent++;
	return true;
}

/* Steadily; ticks during which it was held back are not made up for. */
static void *
guest_sends(void *unused)
{
	int64_t next_ns = now_ns();

	while (sending && sent + FRAMES_A_TICK < MAX_FRAMES) {
		for (int i = 0; i < FRAMES_A_TICK; i++)
			if (!send_frame(sent))
				return unused;
		next_ns += TICK_MS * MS;
		if (next_ns < now_ns() - 20 * MS)
			next_ns = now_ns();
		sleep_until(next_ns);
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
		if (seen[number])
			back_again++;
		else if (number < next)
			back_disordered++;
		seen[number] = 1;
		next = number + 1;
		back++;
	}
	return unused;
}

/* main()'s signals reach main() only. */
static void
start_guest(void)
{
	struct sockaddr_un own = address_of("vm.sock");
	struct sockaddr_un peer = address_of("guest.sock");
	pthread_t threads[2];
	sigset_t all, before;

	vm_socket = socket(AF_UNIX, SOCK_DGRAM, 0);
	fcntl(vm_socket, F_SETFD, FD_CLOEXEC);
	if (bind(vm_socket, (struct sockaddr *)&own, sizeof(own)) < 0 ||
	    connect(vm_socket, (struct sockaddr *)&peer, sizeof(peer)) < 0)
		give_up("the guest's socket: %s", strerror(errno));
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	if (pthread_create(&threads[0], NULL, guest_reads, NULL) != 0 ||
	    pthread_create(&threads[1], NULL, guest_sends, NULL) != 0)
		give_up("can't start a thread");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- the forwarder ---- */

/* With the default stall of 100 ms a busy machine that keeps our guest from
 * reading for so long would lose frames, as configured; that isn't the subject
 * here. Nor is the announcement, a frame that the guest didn't send. */
static void
start_forwarder(void)
{
	static const char options[] =
	    "-g unixgram:guest.sock "
	    "-n unix:daemon.sock "
	    "-o control.socket=control.sock "
	    "-o guest.stall=1s -o network.announce=no";
	char words[sizeof(options)], *argv[12] = { program };
	int count = 1;
	int log = open("log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	printf("$ cd %s; %s %s\n\n", folder, program, options);
	fflush(stdout);
	strcpy(words, options);
	for (char *at = strtok(words, " "); at; at = strtok(NULL, " "))
		argv[count++] = at;
	forwarder = fork();
	if (forwarder == 0) {
		dup2(log, STDERR_FILENO);
		execv(program, argv);
		dprintf(log, "%s: %s\n", program, strerror(errno));
		_exit(127);
	}
	close(log);
}

/* Some of what `forwarder status` says. */
struct answer {
	char state[16];
	uint64_t outages, written, dropped;
};

/* A member of the JSON object that follows `section`. */
static uint64_t
number_in(const char *json, const char *section, const char *member)
{
	const char *at = strstr(json, section);

	at = at ? strstr(at, member) : NULL;
	at = at ? strchr(at, ':') : NULL;
	return at ? strtoull(at + 1, NULL, 10) : UINT64_MAX;
}

/* False: it doesn't answer yet. */
static bool
ask(struct answer *answer)
{
	static const char *const up[] = { "outage", "oversize", "runt", "empty",
		"guest_restarted" };
	static const char *const down[] = { "guest_slow", "guest_absent",
		"runt", "empty", "oversize" };
	struct sockaddr_un address = address_of("control.sock");
	struct timeval limit = { .tv_sec = 2 };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char json[16384];
	const char *state;
	ssize_t n = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    send(fd, "status json\n", 12, 0) == 12)
		n = recv(fd, json, sizeof(json) - 1, MSG_WAITALL);
	close(fd);
	if (n <= 0)
		return false;
	json[n] = '\0';
	*answer = (struct answer){
		.outages = number_in(json, "network", "outages"),
		.written = number_in(json, "guest_to_network", "frames"),
	};
	state = strstr(json, "\"state\":");
	if (state)
		sscanf(state, "\"state\":\"%15[a-z]", answer->state);
	for (int i = 0; i < 5; i++)
		answer->dropped += number_in(json, "guest_to_network", up[i]) +
				   number_in(json, "network_to_guest", down[i]);
	return true;
}

/* ---- what is shown ---- */

/* 1,234,567 */
static const char *
grouped(uint64_t number)
{
	static char texts[8][32];
	static int turn;
	char *text = texts[turn++ % 8], digits[24];
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, number);
	int at = 0;

	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			text[at++] = ',';
		text[at++] = digits[i];
	}
	text[at] = '\0';
	return text;
}

static double
recovery_ms(int of)
{
	return (double)(lives[of].frame_ns - lives[of].listen_ns) / 1e6;
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
	static int64_t last_ns;
	static uint64_t last_sent;
	int64_t now = now_ns();
	struct answer s;

	if (now - last_ns < 1000 * MS || !ask(&s))
		return;
	if (last_ns == 0)
		printf("  link   outages     frames/s         sent  read by "
		       "daemon  back at guest\n");
	else
		printf("  %-6s %7" PRIu64 " %12s %12s %15s %14s\n", s.state,
		    s.outages,
		    grouped((uint64_t)((double)(sent - last_sent) * 1e9 /
				       (double)(now - last_ns))),
		    grouped(sent), grouped(read_by_daemons()), grouped(back));
	last_ns = now;
	last_sent = sent;
	fflush(stdout);
}

/* ---- the course of events ---- */

static void
pass(int ms)
{
	int64_t until_ns = now_ns() + ms * MS, next_ns;

	do {
		next_ns = now_ns() + 20 * MS;
		sleep_until(next_ns < until_ns ? next_ns : until_ns);
		check_all_is_well();
		show();
	} while (now_ns() < until_ns);
}

static bool
is_serving(void)
{
	struct answer s;

	return ask(&s);
}

static bool
has_frames(void)
{
	return lives[life].frame_ns != 0;
}

static bool
all_is_back(void)
{
	return lives[life].next == sent && lives[life].returned == sent &&
	       seen[sent - 1];
}

static bool
wait_for(bool (*happened)(void))
{
	int64_t deadline_ns = now_ns() + WAIT_MS * MS;

	while (!happened() && now_ns() < deadline_ns)
		pass(5);
	return happened();
}

static void
kill_and_restart(int number)
{
	kill_daemon();
	if (away_ms[number] > 0)
		pass(away_ms[number]);
	life++;
	start_daemon();
	if (!wait_for(has_frames))
		give_up("no frame reached the daemon within %d ms of its "
			"restart",
		    WAIT_MS);
	printf("  killed; away for %d ms; listen() to first frame %.2f ms; "
	       "unread inside it: %s frames\n",
	    away_ms[number], recovery_ms(life), grouped(gap_after(number)));
	fflush(stdout);
}

static void
play(void)
{
	start_forwarder();
	if (!wait_for(is_serving))
		give_up("the forwarder doesn't answer");
	start_daemon();
	start_guest();
	if (!wait_for(has_frames))
		give_up("no frame reached the daemon");
	for (int i = 0; i < KILLS; i++) {
		pass(LIFE_MS);
		kill_and_restart(i);
	}
	pass(LIFE_MS);
	sending = false;
	wait_for(all_is_back);
	pass(100);
}

/* ---- the verdict ---- */

struct sums {
	uint64_t inside, largest_gap;
	uint64_t again, skipped, damaged;
	uint64_t back_missing; /* sent back completely, never arrived */
	double recovery[KILLS];
};

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void
sum_life(struct sums *sums, int i)
{
	struct life *l = &lives[i];

	sums->again += l->again;
	sums->skipped += l->skipped;
	sums->damaged += l->damaged;
	for (uint64_t number = l->first; number < l->returned; number++)
		sums->back_missing += !seen[number];
	if (i == KILLS)
		return;
	if (lives[i + 1].first < l->next)
		sums->again += l->next - lives[i + 1].first;
	sums->inside += gap_after(i);
	if (gap_after(i) > sums->largest_gap)
		sums->largest_gap = gap_after(i);
	sums->recovery[i] = recovery_ms(i + 1);
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

static bool
keeps_promises(const struct sums *sums, const struct answer *s, int status)
{
	uint64_t gap = sums->largest_gap;
	const struct {
		const char *broken;
		uint64_t number; /* 0: kept */
	} promises[] = {
		{ "frames the forwarder didn't write", sent - s->written },
		{ "frames the forwarder dropped", s->dropped },
		{ "frames lost while a daemon lived", sums->skipped },
		{ "frames lost before the first or after the last one read",
		    sent - read_by_daemons() - sums->inside },
		{ "frames lost at one kill, more than its socket holds",
		    gap > most_inside() ? gap : 0 },
		{ "frames twice, or out of order, at a daemon", sums->again },
		{ "frames twice, or out of order, at the guest",
		    back_again + back_disordered },
		{ "frames lost on the way back", sums->back_missing },
		{ "damaged frames", sums->damaged + back_damaged },
		{ "outages more or less than kills", s->outages - KILLS },
		{ "exit status of the forwarder", (uint64_t)status },
	};
	bool kept = true;

	for (size_t i = 0; i < sizeof(promises) / sizeof(*promises); i++)
		if (promises[i].number != 0) {
			kept = false;
			printf("BROKEN: %s: %" PRId64 "\n", promises[i].broken,
			    (int64_t)promises[i].number);
		}
	return kept;
}

static bool
judge(void)
{
	struct sums sums = { 0 };
	struct answer s = { 0 };
	bool kept;

	ask(&s);
	for (int i = 0; i <= KILLS; i++)
		sum_life(&sums, i);
	qsort(sums.recovery, KILLS, sizeof(double), compare);
	kept = keeps_promises(&sums, &s, end_forwarder());
	printf("\n%d kills: %s frames sent, %s lost (%s of them unread inside "
	       "a killed daemon); %s came back, %s lost on the way; %s twice "
	       "or out of order; listen() to first frame: median %.2f ms, "
	       "worst %.2f ms\n",
	    KILLS, grouped(sent), grouped(sent - read_by_daemons()),
	    grouped(sums.inside), grouped(back), grouped(sums.back_missing),
	    grouped(sums.again + back_again + back_disordered),
	    sums.recovery[KILLS / 2], sums.recovery[KILLS - 1]);
	return kept;
}

static void
prepare(const char *name)
{
	struct sigaction action = { .sa_handler = on_signal };
	const char *where = getenv("TMPDIR");

	program = realpath(name, NULL);
	lives = mmap(NULL, sizeof(*lives) * (KILLS + 1), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANON, -1, 0);
	snprintf(folder, sizeof(folder), "%s/forwarder-demo-XXXXXX",
	    where && strlen(where) < 32 ? where : "/tmp");
	if (!program || lives == MAP_FAILED || !mkdtemp(folder) ||
	    chdir(folder) < 0) {
		fprintf(stderr, "demo: %s: %s\n", name, strerror(errno));
		exit(1);
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int
main(int argc, char **argv)
{
	bool kept;

	if (argc != 2) {
		fprintf(stderr, "usage: demo FORWARDER\n");
		return 64;
	}
	prepare(argv[1]);
	printf("A guest sends %d frames a second. A daemon sends each one back,"
	       " and is killed %d times.\n",
	    FRAMES_A_TICK * 1000 / TICK_MS, KILLS);
	play();
	kept = judge();
	leave_nothing();
	return kept ? 0 : 1;
}
