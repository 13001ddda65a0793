/* `make demo`: the forwarder between a stand-in guest and a stand-in daemon
 * that is killed five times.
 *
 *      guest (two threads)  --- numbered frames -->  forwarder  -->  daemon
 *            counts         <-- the same, back ----             <--  counts
 *
 * The daemon is a process of its own and dies of SIGKILL. What it has read, and
 * what it has sent back, it notes frame by frame in memory that it shares with
 * this program, so its last note outlives it. A frame that the guest sent and
 * no daemon noted is lost. What it may have been lost in is told apart thus:
 *
 *      sent by the guest, not counted as written by the forwarder: lost by it
 *      written, not noted: it was inside a daemon when that was killed
 *
 * The first must be none. The second must lie between the last frame of one
 * daemon and the first of the next, and be no more than a socket holds.
 *
 * It ends with status 0 only if every promise was kept. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
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
#include <sys/stat.h>
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
#define FRAME_TYPE 0x88b6 /* for local experiments; nobody else sends it */
#define MAX_FRAMES (1u << 20)
#define BUFFER_BYTES (256u * 1024)
#define MS INT64_C(1000000)
#define PATIENCE_MS 5000 /* with anything that should take milliseconds */

/* One daemon, from its start to its end. What it read is first to next - 1,
 * what it sent back first to returned - 1. */
struct life {
	_Atomic int64_t listen_ns, frame_ns; /* listen(), first frame read */
	_Atomic uint64_t first, next, returned;
	_Atomic uint64_t skipped, again, damaged; /* within this life */
};

static struct life *lives; /* shared with the daemons; KILLS + 1 */
static int life;           /* the present one */

static struct {
	char folder[64];
	char guest[96], vm[96], network[96], control[96], log[96];
} path;

static pid_t forwarder = -1, network_daemon = -1;
static int vm_socket = -1;
static bool terminal;
static volatile sig_atomic_t interrupted;

/* The guest's two threads write, the others read. */
static _Atomic uint64_t sent, back, back_again, back_disordered, back_damaged;
static _Atomic int64_t waited_ns; /* the guest was held back for so long */
static atomic_bool sending = true;
static uint8_t seen[MAX_FRAMES]; /* came back; its thread's, until it ended */

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

/* Ending. */

static void
end_daemon(void)
{
	if (network_daemon <= 0)
		return;
	kill(network_daemon, SIGKILL);
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
show_cursor(void)
{
	if (terminal)
		fputs("\033[?25h", stdout);
	fflush(stdout);
}

static void
leave_nothing(void)
{
	const char *files[] = { path.guest, path.vm, path.network, path.control,
		path.log };

	end_daemon();
	end_forwarder();
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		unlink(files[i]);
	rmdir(path.folder);
	show_cursor();
}

static void
print_log(void)
{
	char line[1024];
	FILE *log = fopen(path.log, "r");

	while (log && fgets(line, sizeof(line), log))
		fprintf(stderr, "  forwarder: %s", line);
	if (log)
		fclose(log);
}

static __attribute__((noreturn, format(printf, 1, 2))) void
give_up(const char *format, ...)
{
	va_list arguments;

	show_cursor();
	fprintf(stderr, "demo: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
	print_log();
	leave_nothing();
	_exit(1);
}

static void
on_signal(int number)
{
	interrupted = number;
}

/* Call between any two waits. */
static void
stop_if_asked(void)
{
	int number = interrupted;

	if (!number)
		return;
	leave_nothing();
	fprintf(stderr, "demo: interrupted\n");
	_exit(128 + number);
}

static void
check_forwarder_lives(void)
{
	if (forwarder > 0 && waitpid(forwarder, NULL, WNOHANG) == forwarder) {
		forwarder = -1;
		stop_if_asked(); /* Ctrl-C ends it as well */
		give_up("the forwarder has ended");
	}
}

/* A numbered frame: destination, source, type, number, and a pattern. */

static void
make_frame(uint8_t frame[FRAME_BYTES], uint64_t number)
{
	static const uint8_t head[] = { 0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0,
		1, FRAME_TYPE >> 8, FRAME_TYPE & 0xff };

	memcpy(frame, head, sizeof(head));
	memcpy(frame + 14, &number, sizeof(number));
	memset(frame + 22, (int)(number & 0xff), FRAME_BYTES - 22);
}

static bool
is_ours(const uint8_t *frame, size_t length)
{
	return length >= 22 && frame[12] == FRAME_TYPE >> 8 &&
	       frame[13] == (FRAME_TYPE & 0xff);
}

/* False: it isn't what was sent. */
static bool
read_number(const uint8_t *frame, size_t length, uint64_t *number)
{
	memcpy(number, frame + 14, sizeof(*number));
	if (length != FRAME_BYTES || *number >= MAX_FRAMES)
		return false;
	for (size_t i = 22; i < length; i++)
		if (frame[i] != (*number & 0xff))
			return false;
	return true;
}

/* The daemon. Only calls that are safe after fork() from threads. */

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

static bool
send_all(int fd, const uint8_t *bytes, size_t count)
{
	while (count > 0) {
		ssize_t n = send(fd, bytes, count, 0);

		if (n < 0)
			return false;
		bytes += n;
		count -= (size_t)n;
	}
	return true;
}

/* Notes the whole frames of the buffer and sends them back, as they are.
 * Returns how many bytes that was, or -1: the connection is broken. */
static ssize_t
serve_frames(struct life *l, int fd, const uint8_t *bytes, size_t count)
{
	size_t at = 0, from = 0;
	uint32_t header;

	while (count - at >= FRAME_HEADER_BYTES) {
		const uint8_t *frame = bytes + at + FRAME_HEADER_BYTES;
		size_t length;

		memcpy(&header, bytes + at, FRAME_HEADER_BYTES);
		length = ntohl(header);
		if (count - at < FRAME_HEADER_BYTES + length)
			break;
		if (is_ours(frame, length)) {
			note_read(l, frame, length);
		} else { /* the forwarder's announcement of the guest */
			if (!send_all(fd, bytes + from, at - from))
				return -1;
			from = at + FRAME_HEADER_BYTES + length;
		}
		at += FRAME_HEADER_BYTES + length;
	}
	if (!send_all(fd, bytes + from, at - from))
		return -1;
	l->returned = l->next;
	return (ssize_t)at;
}

static void
serve_connection(struct life *l, int fd)
{
	static uint8_t buffer[BUFFER_BYTES];
	size_t held = 0;
	ssize_t n;

	while ((n = recv(fd, buffer + held, sizeof(buffer) - held, 0)) > 0) {
		held += (size_t)n;
		n = serve_frames(l, fd, buffer, held);
		if (n < 0)
			break;
		held -= (size_t)n;
		memmove(buffer, buffer + n, held);
	}
	close(fd);
}

static __attribute__((noreturn)) void
daemon_runs(struct life *l)
{
	struct sockaddr_un address = address_of(path.network);
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;

	close(vm_socket);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	unlink(path.network);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0)
		_exit(1);
	l->listen_ns = now_ns(); /* before: what it takes counts, too */
	if (listen(listener, 8) < 0)
		_exit(1);
	while ((fd = accept(listener, NULL, NULL)) >= 0)
		serve_connection(l, fd);
	_exit(1);
}

static void
start_daemon(void)
{
	network_daemon = fork();
	if (network_daemon == 0)
		daemon_runs(&lives[life]);
	if (network_daemon < 0)
		give_up("fork: %s", strerror(errno));
}

/* The guest. */

static bool
send_frame(uint64_t number)
{
	static uint8_t frame[FRAME_BYTES];

	make_frame(frame, number);
	while (send(vm_socket, frame, sizeof(frame), 0) < 0) {
		if (errno != ENOBUFS && errno != EINTR)
			return false; /* the forwarder is gone: main() tells */
		sleep_until(now_ns() + TICK_MS * MS); /* macOS: queue full */
	}
	sent++;
	return true;
}

/* Steadily; what it was held back for it doesn't make up for. */
static void *
guest_sends(void *unused)
{
	int64_t next_ns = now_ns(), began_ns;

	while (sending && sent + FRAMES_A_TICK < MAX_FRAMES) {
		began_ns = now_ns();
		for (int i = 0; i < FRAMES_A_TICK; i++)
			if (!send_frame(sent))
				return unused;
		if (now_ns() - began_ns > 10 * MS)
			waited_ns += now_ns() - began_ns;
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
		if (!is_ours(frame, (size_t)length) ||
		    !read_number(frame, (size_t)length, &number)) {
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

static void
open_guest(void)
{
	struct sockaddr_un own = address_of(path.vm);
	struct sockaddr_un peer = address_of(path.guest);

	vm_socket = socket(AF_UNIX, SOCK_DGRAM, 0);
	fcntl(vm_socket, F_SETFD, FD_CLOEXEC);
	if (vm_socket < 0 ||
	    bind(vm_socket, (struct sockaddr *)&own, sizeof(own)) < 0 ||
	    connect(vm_socket, (struct sockaddr *)&peer, sizeof(peer)) < 0)
		give_up("the guest's socket: %s", strerror(errno));
}

static void
start_thread(void *(*run)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, NULL) != 0)
		give_up("can't start a thread");
	pthread_detach(thread);
}

/* The signals of main() reach main() only. */
static void
start_guest(void)
{
	sigset_t mine;

	sigemptyset(&mine);
	sigaddset(&mine, SIGINT);
	sigaddset(&mine, SIGTERM);
	sigaddset(&mine, SIGHUP);
	open_guest();
	pthread_sigmask(SIG_BLOCK, &mine, NULL);
	start_thread(guest_reads);
	start_thread(guest_sends);
	pthread_sigmask(SIG_UNBLOCK, &mine, NULL);
}

/* The forwarder. */

/* With the default stall of 100 ms a busy machine that doesn't let our guest
 * read for so long would lose frames, as configured; that isn't the subject. */
static void
start_forwarder(char *program)
{
	char guest[112], network[112], control[128];
	char *argv[] = { program, (char[]){ "-g" }, guest, (char[]){ "-n" },
		network, (char[]){ "-o" }, control, (char[]){ "-o" },
		(char[]){ "guest.stall=1s" }, NULL };
	int log = open(
	    path.log, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);

	snprintf(guest, sizeof(guest), "unixgram:%s", path.guest);
	snprintf(network, sizeof(network), "unix:%s", path.network);
	snprintf(control, sizeof(control), "control.socket=%s", path.control);
	printf("$");
	for (int i = 0; argv[i]; i++)
		printf(" %s", argv[i]);
	printf("\n\n");
	fflush(stdout);
	forwarder = fork();
	if (forwarder == 0) {
		dup2(log, STDERR_FILENO);
		execvp(program, argv);
		dprintf(log, "%s: %s\n", program, strerror(errno));
		_exit(127);
	}
	close(log);
}

/* Some of what it says on its control socket. */
struct answer {
	char state[16];
	uint64_t outages, dials, written, dropped;
};

/* The number of a member of the JSON object that follows `section`. */
static uint64_t
number(const char *json, const char *section, const char *member)
{
	const char *at = strstr(json, section);

	at = at ? strstr(at, member) : NULL;
	at = at ? strchr(at, ':') : NULL;
	return at ? strtoull(at + 1, NULL, 10) : UINT64_MAX;
}

static void
parse(struct answer *answer, const char *json)
{
	static const char *const up[] = { "outage", "oversize", "runt", "empty",
		"guest_restarted" };
	static const char *const down[] = { "guest_slow", "guest_absent",
		"runt", "empty", "oversize" };
	const char *state = strstr(json, "\"state\":");

	answer->state[0] = '\0';
	if (state)
		sscanf(state, "\"state\":\"%15[a-z]", answer->state);
	answer->outages = number(json, "network", "outages");
	answer->dials = number(json, "network", "dials");
	answer->written = number(json, "guest_to_network", "frames");
	answer->dropped = 0;
	for (int i = 0; i < 5; i++)
		answer->dropped += number(json, "guest_to_network", up[i]) +
				   number(json, "network_to_guest", down[i]);
}

/* False: it doesn't answer yet. */
static bool
ask(struct answer *answer)
{
	struct sockaddr_un address = address_of(path.control);
	struct timeval patience = { .tv_sec = 2 };
	char json[16384];
	size_t length = 0;
	ssize_t n = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    send(fd, "status json\n", 12, MSG_NOSIGNAL) == 12)
		do {
			n = recv(
			    fd, json + length, sizeof(json) - length - 1, 0);
			length += n > 0 ? (size_t)n : 0;
		} while (n > 0 && length < sizeof(json) - 1);
	close(fd);
	json[length] = '\0';
	parse(answer, json);
	return length > 0;
}

/* What is shown. */

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

static int kills;

/* One row of the table. */
static void
print_kill(int number)
{
	printf("  %4d %6d ms", number + 1, away_ms[number]);
	if (number + 1 > life || !lives[number + 1].frame_ns)
		printf(" %19s\033[K\n", "...");
	else
		printf(" %16.2f ms %11s frames\033[K\n",
		    recovery_ms(number + 1), grouped(gap_after(number)));
}

static void
tell_kill(int number)
{
	printf("  killed; away for %d ms; listen() to first frame %.2f ms; "
	       "unread inside it: %s frames\n",
	    away_ms[number], recovery_ms(number + 1),
	    grouped(gap_after(number)));
	fflush(stdout);
}

static void
print_table(const struct answer *s, uint64_t rate)
{
	const char *end = "\033[K";

	printf("  guest      sent %s (%s/s), held back %.1f s%s\n",
	    grouped(sent), grouped(rate), (double)waited_ns / 1e9, end);
	printf("  forwarder  link %s, %" PRIu64 " outages, %" PRIu64
	       " dials%s\n",
	    s->state, s->outages, s->dials, end);
	printf("  daemon     read %s; back at the guest %s%s\n",
	    grouped(read_by_daemons()), grouped(back), end);
	printf("%s\n  kill  away for   listen() to frame   unread inside"
	       "%s\n",
	    end, end);
	for (int i = 0; i < KILLS; i++)
		if (i < kills)
			print_kill(i);
		else
			printf("%s\n", end);
}

static void
print_row(const struct answer *s, uint64_t rate)
{
	static int rows;

	if (rows++ == 0)
		printf("  link   outages     frames/s         sent  read by "
		       "daemon  back at guest\n");
	printf("  %-6s %7" PRIu64 " %12s %12s %15s %14s\n", s->state,
	    s->outages, grouped(rate), grouped(sent),
	    grouped(read_by_daemons()), grouped(back));
}

/* Five times a second in place, or once a second as a line. */
static void
show(void)
{
	static int64_t last_ns;
	static uint64_t last_sent;
	static bool drawn;
	int64_t now = now_ns();
	uint64_t rate;
	struct answer s;

	if (now - last_ns < (terminal ? 200 : 1000) * MS || !ask(&s))
		return;
	rate = (uint64_t)((double)(sent - last_sent) * 1e9 /
			  (double)(now - last_ns));
	if (terminal && drawn)
		printf("\033[%dA", 5 + KILLS);
	else if (terminal)
		printf("\033[?25l"); /* no cursor */
	if (terminal)
		print_table(&s, last_ns ? rate : 0);
	else if (last_ns)
		print_row(&s, rate);
	drawn = true;
	last_ns = now;
	last_sent = sent;
	fflush(stdout);
}

/* The course of events. */

static void
pass(int ms)
{
	int64_t until_ns = now_ns() + ms * MS, next_ns;

	do {
		next_ns = now_ns() + 20 * MS;
		sleep_until(next_ns < until_ns ? next_ns : until_ns);
		stop_if_asked();
		check_forwarder_lives();
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
	int64_t deadline_ns = now_ns() + PATIENCE_MS * MS;

	while (!happened()) {
		if (now_ns() > deadline_ns)
			return false;
		pass(5);
	}
	return true;
}

static void
kill_and_restart(void)
{
	kill(network_daemon, SIGKILL);
	waitpid(network_daemon, NULL, 0);
	network_daemon = -1;
	kills++;
	if (away_ms[kills - 1] > 0)
		pass(away_ms[kills - 1]);
	life++;
	start_daemon();
	if (!wait_for(has_frames))
		give_up("no frame came to the daemon within %d ms of its "
			"restart",
		    PATIENCE_MS);
	if (!terminal)
		tell_kill(kills - 1);
}

static void
play(char *program)
{
	start_forwarder(program);
	if (!wait_for(is_serving))
		give_up("the forwarder doesn't answer");
	start_daemon();
	start_guest();
	if (!wait_for(has_frames))
		give_up("no frame came to the daemon");
	for (int i = 0; i < KILLS; i++) {
		pass(LIFE_MS);
		kill_and_restart();
	}
	pass(LIFE_MS);
	sending = false;
	wait_for(all_is_back);
	pass(terminal ? 200 : 100);
}

/* The verdict. */

struct sums {
	uint64_t read, inside, largest_gap;
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

static bool failed;

static void
promise(bool kept, const char *broken, uint64_t number)
{
	if (kept)
		return;
	failed = true;
	printf("BROKEN: %s: %s\n", broken, grouped(number));
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

static void
check_promises(const struct sums *sums, const struct answer *s)
{
	uint64_t written = s->written;

	promise(written == sent, "frames the forwarder didn't write",
	    sent - written);
	promise(s->dropped == 0, "frames the forwarder dropped", s->dropped);
	promise(sums->skipped == 0, "frames lost while a daemon lived",
	    sums->skipped);
	promise(sums->read + sums->inside == sent,
	    "frames lost before the first or after the last one read",
	    sent - sums->read - sums->inside);
	promise(sums->largest_gap <= most_inside(),
	    "frames lost at one kill, more than its socket holds",
	    sums->largest_gap);
	promise(sums->again == 0, "frames twice, or out of order, at a daemon",
	    sums->again);
	promise(back_again + back_disordered == 0,
	    "frames twice, or out of order, at the guest",
	    back_again + back_disordered);
	promise(sums->back_missing == 0, "frames lost on the way back",
	    sums->back_missing);
	promise(sums->damaged + back_damaged == 0, "damaged frames",
	    sums->damaged + back_damaged);
	promise(s->outages == KILLS, "outages, not one a kill", s->outages);
}

static void
judge(void)
{
	struct sums sums = { .read = read_by_daemons() };
	struct answer s = { 0 };
	int status;

	ask(&s);
	for (int i = 0; i <= KILLS; i++)
		sum_life(&sums, i);
	qsort(sums.recovery, KILLS, sizeof(double), compare);
	status = end_forwarder();
	check_promises(&sums, &s);
	promise(status == 0, "exit status of the forwarder", (uint64_t)status);
	printf("\n%d kills: %s frames sent, %s lost (%s of them unread inside "
	       "a killed daemon); %s came back, %s lost on the way; %s twice "
	       "or out of order; listen() to first frame: median %.2f ms, "
	       "worst %.2f ms\n",
	    KILLS, grouped(sent), grouped(sent - sums.read),
	    grouped(sums.inside), grouped(back), grouped(sums.back_missing),
	    grouped(sums.again + back_again + back_disordered),
	    sums.recovery[KILLS / 2], sums.recovery[KILLS - 1]);
}

static void
name_paths(void)
{
	const char *where = getenv("TMPDIR");

	/* Short: a socket's path has about 100 bytes at most. */
	if (!where || strlen(where) > 32)
		where = "/tmp";
	snprintf(path.folder, sizeof(path.folder), "%s/forwarder-demo-XXXXXX",
	    where);
	if (!mkdtemp(path.folder))
		give_up("%s: %s", path.folder, strerror(errno));
	snprintf(path.guest, sizeof(path.guest), "%s/guest.sock", path.folder);
	snprintf(path.vm, sizeof(path.vm), "%s/vm.sock", path.folder);
	snprintf(
	    path.network, sizeof(path.network), "%s/daemon.sock", path.folder);
	snprintf(
	    path.control, sizeof(path.control), "%s/control.sock", path.folder);
	snprintf(path.log, sizeof(path.log), "%s/log", path.folder);
}

static void
prepare(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	lives = mmap(NULL, sizeof(*lives) * (KILLS + 1), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANON, -1, 0);
	if (lives == MAP_FAILED)
		give_up("mmap: %s", strerror(errno));
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	terminal = isatty(STDOUT_FILENO);
	name_paths();
}

int
main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: demo FORWARDER\n");
		return 64;
	}
	prepare();
	printf("A guest sends %d frames a second. A daemon sends each one back,"
	       " and is killed %d times.\n",
	    FRAMES_A_TICK * 1000 / TICK_MS, KILLS);
	play(argv[1]);
	judge();
	leave_nothing();
	_exit(failed ? 1 : 0); /* the guest's threads are still blocked */
}
