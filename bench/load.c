/* Plays the guest and the daemon of several forwarding programs in turn and
 * measures each: throughput, processor time, system calls, or the round trip
 * of one frame.
 *
 *   guest ──► datagrams ──► program under ──► stream ──► daemon
 *   guest ◄── datagrams ◄──      test     ◄── stream ◄── daemon
 *
 * -G makes the guest's side a stream, -N the daemon's side datagrams (not for round
 * trips). A thread at each end of each arrow works in batches, so that the program
 * under test is the bottleneck. All programs are started together; each runs for a
 * slice of time in turn, over and over, while the others sleep. A disturbance
 * longer than a slice affects them all and hardly changes the ratio of two
 * neighbouring slices. Prints one JSON object. */
#include "middle.h"
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEADER_BYTES 4u
#define MAX_FRAME_BYTES 65550u
#define BATCH 64u
#define READ_BYTES (256u * 1024)
#define WRITE_BYTES (32u * 1024) /* per write of a daemon */
#define MAX_PLAYERS 16u
#define MAX_ROUND_TRIPS 1000000u /* per slice */
#define QUIET_NS 20000000        /* frames that take longer count as lost */

enum direction { UP = 1, DOWN = 2, BOTH = 3, ROUND_TRIP = 4 };

static const char *const direction_names[] = {
	[UP] = "up", [DOWN] = "down", [BOTH] = "both", [ROUND_TRIP] = "rtt"
};

static struct {
	size_t size; /* bytes of a frame */
	enum direction direction;
	int64_t warmup_ms, window_ms; /* of a slice */
	int64_t frames; /* if set, ends the window instead of window_ms */
	int cycles;     /* slices per program */
	bool syscalls;
	struct middle_options middle;
} settings = { .size = 1514,
	.direction = UP,
	.warmup_ms = 5,
	.window_ms = 50,
	.cycles = 20 };

/* One direction of one player's load. Each counter has one writer. */
struct flow {
	struct player *player;
	bool from_guest;
	int sender, receiver; /* descriptors */
	_Atomic int64_t sent, received;
	_Atomic int64_t strange; /* frames of the wrong length */
};

/* The measurements of a slice. */
struct slice {
	double seconds, cpu_ns, switches, syscalls;
	double up, down; /* frames */
	uint32_t p50_ns, p90_ns, p99_ns, p999_ns;
};

struct player {
	struct middle middle;
	int daemon_end;
	struct flow up, down;
	atomic_bool sending;
	int64_t lost;
	int64_t start_rss_kb;
	struct slice *slices;
};

static struct player players[MAX_PLAYERS];
static unsigned player_count;
static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;

static void
count(_Atomic int64_t *counter, int64_t n)
{
	atomic_store_explicit(counter,
	    atomic_load_explicit(counter, memory_order_relaxed) + n,
	    memory_order_relaxed);
}

static void
open_gate(struct player *p, bool open)
{
	pthread_mutex_lock(&gate_lock);
	p->sending = open;
	pthread_cond_broadcast(&gate_moved);
	pthread_mutex_unlock(&gate_lock);
}

/* Waits for the player's turn to send. */
static void
pass_gate(struct player *p)
{
	if (atomic_load_explicit(&p->sending, memory_order_relaxed))
		return;
	pthread_mutex_lock(&gate_lock);
	while (!p->sending)
		pthread_cond_wait(&gate_moved, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
}

/* Unicast between two locally administered addresses, experimental type. */
static void
fill_frame(uint8_t *frame, bool from_guest)
{
	static const uint8_t head[14] = { 0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0,
		1, 0x88, 0xb6 };

	memset(frame, 0x5a, settings.size);
	memcpy(frame, head, sizeof(head));
	if (!from_guest) {
		frame[5] = 1;
		frame[11] = 2;
	}
}

/* The threads of a flow: one of the first two, one of the others. */

static void *
send_datagrams(void *argument)
{
	struct flow *f = argument;
	struct mmsghdr messages[BATCH] = { 0 };
	struct iovec piece = { malloc(MAX_FRAME_BYTES), settings.size };

	if (!piece.iov_base)
		die("malloc");
	fill_frame(piece.iov_base, f->from_guest);
	for (unsigned i = 0; i < BATCH; i++) {
		messages[i].msg_hdr.msg_iov = &piece;
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		int n;

		pass_gate(f->player);
		n = sendmmsg(f->sender, messages, BATCH, 0);
		if (n <= 0)
			die("sendmmsg");
		count(&f->sent, n);
	}
}

static void *
send_stream(void *argument)
{
	struct flow *f = argument;
	size_t step = HEADER_BYTES + settings.size;
	size_t frames = WRITE_BYTES / step > 0 ? WRITE_BYTES / step : 1;
	uint8_t *bytes = malloc(frames * step);
	uint32_t header = htonl((uint32_t)settings.size);

	if (!bytes)
		die("malloc");
	for (size_t i = 0; i < frames; i++) {
		memcpy(bytes + i * step, &header, HEADER_BYTES);
		fill_frame(bytes + i * step + HEADER_BYTES, f->from_guest);
	}
	for (;;) {
		pass_gate(f->player);
		if (send(f->sender, bytes, frames * step, MSG_NOSIGNAL) !=
		    (ssize_t)(frames * step))
			die("send");
		count(&f->sent, (int64_t)frames);
	}
}

/* Reads only the start of each frame: MSG_TRUNC reports its length. */
static void *
receive_datagrams(void *argument)
{
	struct flow *f = argument;
	uint8_t heads[BATCH][64];
	struct mmsghdr messages[BATCH] = { 0 };
	struct iovec pieces[BATCH];

	for (unsigned i = 0; i < BATCH; i++) {
		pieces[i] = (struct iovec){ heads[i], sizeof(heads[i]) };
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		int n = recvmmsg(f->receiver, messages, BATCH,
		    MSG_WAITFORONE | MSG_TRUNC, NULL);
		int good = 0;

		if (n <= 0)
			die("recvmmsg");
		for (int i = 0; i < n; i++)
			good += messages[i].msg_len == settings.size;
		count(&f->received, good);
		count(&f->strange, n - good);
	}
}

/* Counts the complete frames at `bytes` and returns their length. */
static size_t
count_frames(struct flow *f, const uint8_t *bytes, size_t length)
{
	int64_t good = 0, strange = 0;
	size_t at = 0;

	while (length - at >= HEADER_BYTES) {
		uint32_t header;

		memcpy(&header, bytes + at, HEADER_BYTES);
		header = ntohl(header);
		if (header > MAX_FRAME_BYTES) {
			fprintf(stderr, "a frame on the stream is too long\n");
			exit(1);
		}
		if (length - at - HEADER_BYTES < header)
			break;
		at += HEADER_BYTES + header;
		good += header == settings.size;
		strange += header != settings.size;
	}
	count(&f->received, good);
	count(&f->strange, strange);
	return at;
}

static void *
receive_stream(void *argument)
{
	struct flow *f = argument;
	uint8_t *bytes = malloc(READ_BYTES + MAX_FRAME_BYTES + HEADER_BYTES);
	size_t held = 0;

	if (!bytes)
		die("malloc");
	for (;;) {
		ssize_t got = recv(f->receiver, bytes + held, READ_BYTES, 0);
		size_t at;

		if (got <= 0)
			die("recv");
		held += (size_t)got;
		at = count_frames(f, bytes, held);
		held -= at;
		memmove(bytes, bytes + at, held);
	}
}

/* Sends back what it receives: the far end of a round trip. */
static void *
daemon_echo(void *argument)
{
	struct player *p = argument;
	uint8_t *bytes = malloc(READ_BYTES);

	if (!bytes)
		die("malloc");
	for (;;) {
		size_t held = 0;

		while (held < HEADER_BYTES + settings.size) {
			ssize_t got = recv(
			    p->daemon_end, bytes + held, READ_BYTES - held, 0);

			if (got <= 0)
				die("daemon: recv");
			held += (size_t)got;
		}
		if (send(p->daemon_end, bytes, held, MSG_NOSIGNAL) !=
		    (ssize_t)held)
			die("daemon: send");
	}
}

static void
start(void *(*run)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, argument) != 0)
		die("pthread_create");
	pthread_detach(thread);
}

static void
start_flow(struct flow *f, struct player *p, bool from_guest)
{
	bool streams[2] = { settings.middle.stream_guest,
		!settings.middle.datagram_network };
	int ends[2] = { p->middle.guest, p->daemon_end };

	f->player = p;
	f->from_guest = from_guest;
	f->sender = ends[!from_guest];
	f->receiver = ends[from_guest];
	start(streams[from_guest] ? receive_stream : receive_datagrams, f);
	start(streams[!from_guest] ? send_stream : send_datagrams, f);
}

static void
start_player(struct player *p, char **command)
{
	p->slices = calloc((size_t)settings.cycles, sizeof(*p->slices));
	if (!p->slices)
		die("calloc");
	middle_start(&p->middle, &settings.middle, command);
	p->daemon_end = middle_accept(&p->middle);
	p->start_rss_kb = middle_memory_kb(&p->middle, "VmRSS:");
	if (settings.direction == ROUND_TRIP)
		start(daemon_echo, p);
	if (settings.direction & UP)
		start_flow(&p->up, p, true);
	if (settings.direction & DOWN)
		start_flow(&p->down, p, false);
}

/* Read when the window opens and again when it closes. */
struct sample {
	int64_t time_ns, cpu_ns, switches, syscalls, up, down;
};

static struct sample
take_sample(const struct player *p)
{
	struct sample s;

	s.switches = middle_switches(&p->middle);
	s.syscalls = middle_syscalls(&p->middle);
	s.time_ns = now_ns();
	s.cpu_ns = middle_cpu_ns(&p->middle);
	s.up = p->up.received;
	s.down = p->down.received;
	return s;
}

/* Round trips of the slice, without those of the warm-up. */
static struct {
	uint32_t *ns;
	size_t count;
} trips;

static void
one_round_trip(struct player *p, const uint8_t *frame, bool keep)
{
	static uint8_t answer[MAX_FRAME_BYTES];
	int64_t begin = now_ns(), end;

	if (send(p->middle.guest, frame, settings.size, 0) < 0)
		die("guest: send");
	if (recv(p->middle.guest, answer, sizeof(answer), 0) !=
	    (ssize_t)settings.size)
		die("guest: recv");
	end = now_ns();
	if (!keep)
		return;
	count(&p->up.received, 1);
	count(&p->down.received, 1);
	if (trips.count < MAX_ROUND_TRIPS)
		trips.ns[trips.count++] = (uint32_t)(end - begin);
}

static void
make_round_trips(struct player *p, int64_t milliseconds, bool keep)
{
	static uint8_t frame[MAX_FRAME_BYTES];
	int64_t end = now_ns() + milliseconds * 1000000;

	fill_frame(frame, true);
	while (now_ns() < end)
		one_round_trip(p, frame, keep);
}

static int
by_size(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static uint32_t
trip_at(double part)
{
	return trips.count
		   ? trips.ns[(size_t)((double)(trips.count - 1) * part)]
		   : 0;
}

/* Waits until every frame has arrived, or until no more arrive. */
static void
drain(struct player *p)
{
	int64_t before = -1, moved_ns = now_ns();

	for (;;) {
		int64_t arrived = p->up.received + p->down.received;
		int64_t missing = p->up.sent + p->down.sent - arrived - p->lost;

		if (arrived != before)
			moved_ns = now_ns();
		else if (missing == 0 || now_ns() > moved_ns + QUIET_NS) {
			p->lost += missing;
			return;
		}
		before = arrived;
		sleep_until_ns(now_ns() + 500000);
	}
}

/* Lets the load run until the window ends. */
static void
wait_for_window(const struct player *p, const struct sample *opened)
{
	if (!settings.frames) {
		sleep_until_ns(opened->time_ns + settings.window_ms * 1000000);
		return;
	}
	while (p->up.received + p->down.received - opened->up - opened->down <
	       settings.frames)
		sleep_until_ns(now_ns() + 10000000);
}

static void
close_slice(struct slice *slice, const struct sample *a, const struct sample *b)
{
	*slice = (struct slice){
		.seconds = (double)(b->time_ns - a->time_ns) / 1e9,
		.cpu_ns = (double)(b->cpu_ns - a->cpu_ns),
		.switches = (double)(b->switches - a->switches),
		.syscalls = (double)(b->syscalls - a->syscalls),
		.up = (double)(b->up - a->up),
		.down = (double)(b->down - a->down),
	};
}

static void
load_slice(struct player *p, struct slice *slice)
{
	struct sample opened, closed;

	open_gate(p, true);
	sleep_until_ns(now_ns() + settings.warmup_ms * 1000000);
	opened = take_sample(p);
	wait_for_window(p, &opened);
	closed = take_sample(p);
	open_gate(p, false);
	drain(p);
	close_slice(slice, &opened, &closed);
}

static void
round_trip_slice(struct player *p, struct slice *slice)
{
	struct sample opened, closed;

	make_round_trips(p, settings.warmup_ms, false);
	trips.count = 0;
	opened = take_sample(p);
	make_round_trips(p, settings.window_ms, true);
	closed = take_sample(p);
	close_slice(slice, &opened, &closed);
	qsort(trips.ns, trips.count, sizeof(*trips.ns), by_size);
	slice->p50_ns = trip_at(0.5);
	slice->p90_ns = trip_at(0.9);
	slice->p99_ns = trip_at(0.99);
	slice->p999_ns = trip_at(0.999);
}

static void
measure_slice(struct player *p, struct slice *slice)
{
	if (settings.direction == ROUND_TRIP)
		round_trip_slice(p, slice);
	else
		load_slice(p, slice);
}

/* Each cycle gives every program a slice, in a different order. The slices of a
 * first one are not kept: their caches are cold, the first program's most. */
static void
measure(void)
{
	for (unsigned i = 0; !settings.frames && i < player_count; i++)
		measure_slice(&players[i], &players[i].slices[0]);
	for (int cycle = 0; cycle < settings.cycles; cycle++) {
		for (unsigned turn = 0; turn < player_count; turn++) {
			unsigned forward =
			    cycle % 2 ? player_count - 1 - turn : turn;
			unsigned who =
			    (forward + (unsigned)cycle / 2) % player_count;

			measure_slice(
			    &players[who], &players[who].slices[cycle]);
		}
	}
}

/* CPU time used so far, by the whole machine and by us. */
struct machine {
	double busy_ns, steal_ns, own_ns, time_ns;
};

static struct machine
read_machine(void)
{
	double tick_ns = 1e9 / (double)sysconf(_SC_CLK_TCK);
	struct machine machine = { .time_ns = (double)now_ns() };
	long long t[8] = { 0 };
	struct timespec own;
	FILE *file = fopen("/proc/stat", "re");

	if (file &&
	    fscanf(file, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &t[0],
		&t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) == 8) {
		machine.busy_ns =
		    (double)(t[0] + t[1] + t[2] + t[5] + t[6]) * tick_ns;
		machine.steal_ns = (double)t[7] * tick_ns;
	}
	if (file)
		fclose(file);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
	machine.own_ns = (double)own.tv_sec * 1e9 + (double)own.tv_nsec;
	for (unsigned i = 0; i < player_count; i++)
		machine.own_ns += (double)middle_cpu_ns(&players[i].middle);
	return machine;
}

static void
print_machine(const struct machine *a, const struct machine *b)
{
	double all_ns =
	    (b->time_ns - a->time_ns) * (double)sysconf(_SC_NPROCESSORS_ONLN);
	double others_ns = b->busy_ns - a->busy_ns - (b->own_ns - a->own_ns);

	printf("{\"size\":%zu,\"direction\":\"%s\",\"window_ms\":%lld",
	    settings.size, direction_names[settings.direction],
	    (long long)settings.window_ms);
	printf(",\"others_percent\":%.1f,\"steal_percent\":%.1f,\"players\":[",
	    100 * (others_ns > 0 ? others_ns : 0) / all_ns,
	    100 * (b->steal_ns - a->steal_ns) / all_ns);
}

/* The figures of a slice: a row for each key of the output. */
#define PER_FRAME(what) (s->what / (s->up + s->down))
#define FIGURES(FIGURE)                                                        \
	FIGURE("frames_per_s", (s->up + s->down) / s->seconds)                 \
	FIGURE("up_per_s", s->up / s->seconds)                                 \
	FIGURE("down_per_s", s->down / s->seconds)                             \
	FIGURE("gbit_per_s",                                                   \
	    (s->up + s->down) * (double)settings.size * 8e-9 / s->seconds)     \
	FIGURE("cpu_ns_per_frame", PER_FRAME(cpu_ns))                          \
	FIGURE("cpu_percent", s->cpu_ns / s->seconds / 1e7)                    \
	FIGURE("switches_per_frame", PER_FRAME(switches))                      \
	FIGURE("syscalls_per_frame", PER_FRAME(syscalls))                      \
	FIGURE("p50_us", s->p50_ns / 1e3)                                      \
	FIGURE("p90_us", s->p90_ns / 1e3)                                      \
	FIGURE("p99_us", s->p99_ns / 1e3)                                      \
	FIGURE("p999_us", s->p999_ns / 1e3)

#define DEFINE_FIGURE(key, value)                                              \
	printf("\"" key "\":[");                                               \
	for (int i = 0; i < settings.cycles; i++) {                            \
		const struct slice *s = &p->slices[i];                         \
                                                                               \
		printf("%s%.6g", i ? "," : "",                                 \
		    s->up + s->down > 0 && s->seconds > 0 ? (value) : 0);      \
	}                                                                      \
	printf("],");

static void
print_player(const struct player *p)
{
	printf("{");
	FIGURES(DEFINE_FIGURE)
	printf("\"lost\":%lld,\"strange\":%lld", (long long)p->lost,
	    (long long)(p->up.strange + p->down.strange));
	printf(",\"rss_start_kb\":%lld,\"rss_kb\":%lld,\"rss_peak_kb\":%lld}",
	    (long long)p->start_rss_kb,
	    (long long)middle_memory_kb(&p->middle, "VmRSS:"),
	    (long long)middle_memory_kb(&p->middle, "VmHWM:"));
}

static void
parse(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "+s:d:w:t:f:k:cpGN")) != -1) {
		if (option == 's')
			settings.size = strtoul(optarg, NULL, 10);
		else if (option == 'w')
			settings.warmup_ms = strtoll(optarg, NULL, 10);
		else if (option == 't')
			settings.window_ms = strtoll(optarg, NULL, 10);
		else if (option == 'f')
			settings.frames = strtoll(optarg, NULL, 10);
		else if (option == 'k')
			settings.cycles = atoi(optarg);
		else if (option == 'c')
			settings.syscalls = true;
		else if (option == 'p')
			settings.middle.pin = true;
		else if (option == 'G')
			settings.middle.stream_guest = true;
		else if (option == 'N')
			settings.middle.datagram_network = true;
		else if (option != 'd')
			exit(64);
		for (int i = UP; option == 'd' && i <= ROUND_TRIP; i++)
			if (strcmp(optarg, direction_names[i]) == 0)
				settings.direction = (enum direction)i;
	}
	if (optind >= argc || settings.size < 14 || settings.cycles < 1 ||
	    settings.size > MAX_FRAME_BYTES ||
	    (settings.direction == ROUND_TRIP &&
		(settings.middle.stream_guest ||
		    settings.middle.datagram_network))) {
		fprintf(stderr,
		    "usage: load [-s BYTES] [-d up|down|both|rtt] [-k CYCLES]"
		    " [-w WARMUP_MS] [-t WINDOW_MS | -f FRAMES]\n"
		    "            [-c count system calls] [-p pin]"
		    " [-G stream guest] [-N datagram network]\n           "
		    " -- PROGRAM with {fd} and {net} [-- PROGRAM]...\n");
		exit(64);
	}
}

/* "--" separates the programs. */
static void
start_players(char **arguments)
{
	while (*arguments && player_count < MAX_PLAYERS) {
		char **end = arguments;

		while (*end && strcmp(*end, "--") != 0)
			end++;
		if (*end)
			*end++ = NULL;
		start_player(&players[player_count++], arguments);
		arguments = end;
	}
}

int
main(int argc, char **argv)
{
	struct machine before, after;

	parse(argc, argv);
	trips.ns = malloc(MAX_ROUND_TRIPS * sizeof(*trips.ns));
	if (!trips.ns)
		die("malloc");
	start_players(argv + optind);
	for (unsigned i = 0; settings.syscalls && i < player_count; i++)
		middle_count_syscalls(&players[i].middle);
	before = read_machine();
	measure();
	after = read_machine();
	print_machine(&before, &after);
	for (unsigned i = 0; i < player_count; i++) {
		printf(i ? "," : "");
		print_player(&players[i]);
	}
	printf("]}\n");
	fflush(stdout);
	for (unsigned i = 0; i < player_count; i++)
		middle_stop(&players[i].middle);
	_exit(0);
}
