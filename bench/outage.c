/* Plays a guest and a daemon that dies and returns, around one forwarding
 * program. Prints one JSON object. Modes:
 *
 *   recovery  time from listen() of the returned daemon to the guest's first frame
 *   loss      frames lost over many deaths, with the guest sending at full speed;
 *             how many a dead daemon had not read; how long they take to be read
 *   close, kill  time from the daemon's death to the next dial and to the log line;
 *             the listener stays open
 *   silent    time from the last answered probe to the end of the connection. The
 *             program must be configured for ARP probes of 192.0.2.1
 *
 * Frames that a dead daemon had received but not read do not count as lost by the
 * program. In loss mode the daemon therefore ends a connection with shutdown(),
 * after which nothing more arrives, and then reads what is left. */
#include "middle.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEADER_BYTES 4u
#define ETHERNET_BYTES 14u
#define GUEST_TYPE 0x88b6 /* experimental: only we send it */
#define ARP_TYPE 0x0806
#define MAX_FRAME_BYTES 65550u
#define BUFFER_BYTES (256u * 1024)
#define MAX_ROUNDS 10000
#define SLOW_READ_BYTES (32u * 1024)
#define SENT_TIMES 65536u /* more than the frames under way */
#define MAX_DELAYS (1u << 20)
#define MAX_FRAMES ((uint64_t)1 << 28)
#define MS INT64_C(1000000)
#define GIVE_UP_MS 15000

static const uint8_t guest_mac[6] = { 0x02, 0, 0, 0, 0, 1 };
static const uint8_t daemon_mac[6] = { 0x02, 0, 0, 0, 0, 2 };

static struct {
	const char *mode;
	int rounds;
	int64_t gap_us; /* between two frames of the guest; 0: none */
	int64_t away_min_ms, away_ms; /* how long the daemon is away */
	int64_t life_ms; /* of the daemon in loss mode, and up to 60 ms more */
	size_t size;     /* bytes of a frame; 0: mixed */
	int64_t rate;    /* bytes per second that the daemon reads; 0: any */
} settings = { .mode = "recovery",
	.rounds = 200,
	.gap_us = 100,
	.away_min_ms = 20,
	.away_ms = 200,
	.life_ms = 20 };

static struct middle middle;
static _Atomic uint64_t frames_sent;
static _Atomic int64_t sent_ns[SENT_TIMES]; /* of the newest frames */
static atomic_bool stopping;

/* Deterministic: every run has the same pauses. */
static int64_t
random_below(int64_t limit)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return limit > 0 ? (int64_t)(state % (uint64_t)limit) : 0;
}

static void
pause_ms(int64_t min_ms, int64_t max_ms)
{
	sleep_until_ns(
	    now_ns() + min_ms * MS + random_below((max_ms - min_ms) * MS));
}

static __attribute__((noreturn)) void
give_up(const char *why)
{
	fprintf(stderr, "outage: %s\n", why);
	exit(1);
}

/* The guest. */

static size_t
size_of(uint64_t number)
{
	static const size_t mix[] = { 64, 1514, 590, 1514, 9014, 1514, 100,
		1514 };

	if (settings.size)
		return settings.size;
	return number % 256 == 255 ? 65000
				   : mix[number % (sizeof(mix) / sizeof(*mix))];
}

/* Contains its number and a pattern derived from it, which reveals a damaged
 * frame. */
static size_t
make_guest_frame(uint8_t *frame, uint64_t number)
{
	uint16_t type = htons(GUEST_TYPE);
	size_t size = size_of(number);

	memcpy(frame, daemon_mac, 6);
	memcpy(frame + 6, guest_mac, 6);
	memcpy(frame + 12, &type, 2);
	memcpy(frame + ETHERNET_BYTES, &number, sizeof(number));
	memset(frame + ETHERNET_BYTES + 8, (int)(number & 0xff),
	    size - ETHERNET_BYTES - 8);
	return size;
}

static void
send_guest_frame(void)
{
	static uint8_t frame[MAX_FRAME_BYTES];
	size_t size = make_guest_frame(frame, frames_sent);

	atomic_store_explicit(
	    &sent_ns[frames_sent % SENT_TIMES], now_ns(), memory_order_relaxed);
	if (send(middle.guest, frame, size, 0) != (ssize_t)size)
		die("guest: send");
	frames_sent++;
}

static void *
guest_runs(void *unused)
{
	int64_t next_ns = now_ns();

	while (!stopping && frames_sent < MAX_FRAMES) {
		send_guest_frame();
		if (!settings.gap_us)
			continue;
		next_ns += settings.gap_us * 1000;
		if (next_ns < now_ns())
			next_ns =
			    now_ns(); /* late: do not catch up in a burst */
		sleep_until_ns(next_ns);
	}
	return unused;
}

static void
start(void *(*run)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, NULL) != 0)
		die("pthread_create");
	pthread_detach(thread);
}

/* The daemon: one connection, and what arrived over all connections. */

struct stream {
	int fd;
	int64_t since_ns; /* frames sent earlier have waited in the outage */
	int64_t read_ns;  /* when the last bytes were read */
	ssize_t got;      /* how many */
	size_t held, at;
	uint8_t bytes[BUFFER_BYTES + MAX_FRAME_BYTES];
};

static struct {
	uint8_t *seen; /* a bit per frame */
	uint64_t distinct, again, damaged, others;
	uint32_t *delays_us;
	size_t delays;
} received;

/* Reads what is available, waiting at most `wait_ns` (negative: no limit). False
 * at the end of the stream and on timeout. */
static bool
stream_read(struct stream *s, int64_t wait_ns)
{
	struct pollfd ready = { .fd = s->fd, .events = POLLIN };
	struct timespec wait = { wait_ns / 1000000000, wait_ns % 1000000000 };

	if (wait_ns >= 0 && ppoll(&ready, 1, &wait, NULL) != 1)
		return false;
	memmove(s->bytes, s->bytes + s->at, s->held - s->at);
	s->held -= s->at;
	s->at = 0;
	s->got = recv(s->fd, s->bytes + s->held,
	    settings.rate ? SLOW_READ_BYTES : sizeof(s->bytes) - s->held, 0);
	s->read_ns = now_ns();
	if (s->got > 0)
		s->held += (size_t)s->got;
	return s->got > 0;
}

/* The next complete frame, or NULL. */
static const uint8_t *
stream_next(struct stream *s, uint32_t *length)
{
	const uint8_t *frame = s->bytes + s->at + HEADER_BYTES;
	uint32_t header;

	if (s->held - s->at < HEADER_BYTES)
		return NULL;
	memcpy(&header, s->bytes + s->at, HEADER_BYTES);
	*length = ntohl(header);
	if (*length > MAX_FRAME_BYTES)
		give_up("a frame on the stream is too long");
	if (s->held - s->at - HEADER_BYTES < *length)
		return NULL;
	s->at += HEADER_BYTES + *length;
	return frame;
}

static uint16_t
type_of(const uint8_t *frame)
{
	uint16_t type;

	memcpy(&type, frame + 12, 2);
	return ntohs(type);
}

static bool
intact(const uint8_t *frame, uint32_t length, uint64_t number)
{
	const uint8_t *pattern = frame + ETHERNET_BYTES + 8;

	if (number >= MAX_FRAMES || length != size_of(number))
		return false;
	for (size_t i = 0; i < length - ETHERNET_BYTES - 8; i++)
		if (pattern[i] != (number & 0xff))
			return false;
	return true;
}

static void
note_delay(const struct stream *s, uint64_t number)
{
	int64_t begin_ns = atomic_load_explicit(
	    &sent_ns[number % SENT_TIMES], memory_order_relaxed);

	if (begin_ns >= s->since_ns && received.delays < MAX_DELAYS)
		received.delays_us[received.delays++] =
		    (uint32_t)((s->read_ns - begin_ns) / 1000);
}

/* Counts a frame. True if the guest sent it. */
static bool
book(const struct stream *s, const uint8_t *frame, uint32_t length)
{
	uint64_t number;
	uint8_t bit;

	if (length < ETHERNET_BYTES + 8 || type_of(frame) != GUEST_TYPE) {
		received.others++;
		return false;
	}
	memcpy(&number, frame + ETHERNET_BYTES, sizeof(number));
	if (!intact(frame, length, number)) {
		received.damaged++;
		return true;
	}
	bit = (uint8_t)(1u << number % 8);
	if (received.seen[number / 8] & bit)
		received.again++;
	else
		received.distinct++;
	note_delay(s, number);
	received.seen[number / 8] |= bit;
	return true;
}

static bool
book_all(struct stream *s)
{
	const uint8_t *frame;
	uint32_t length;
	bool guest = false;

	while ((frame = stream_next(s, &length)))
		guest |= book(s, frame, length);
	return guest;
}

/* Sends a frame: the proof of life that resets the program's backoff. */
static void
send_daemon_frame(int fd)
{
	uint8_t bytes[HEADER_BYTES + 64] = { 0, 0, 0, 64 };

	memcpy(bytes + HEADER_BYTES, guest_mac, 6);
	memcpy(bytes + HEADER_BYTES + 6, daemon_mac, 6);
	bytes[HEADER_BYTES + 12] = GUEST_TYPE >> 8;
	bytes[HEADER_BYTES + 13] = GUEST_TYPE & 0xff;
	if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) !=
		(ssize_t)sizeof(bytes) &&
	    errno != EPIPE)
		die("daemon: send");
}

static void
take_connection(struct stream *s)
{
	s->fd = middle_accept(&middle);
	s->held = s->at = 0;
	s->since_ns = now_ns();
}

/* Reads for that long, even if the other side ends the connection. */
static void
serve(struct stream *s, int64_t milliseconds)
{
	int64_t end = now_ns() + milliseconds * MS;
	int64_t left;

	while ((left = end - now_ns()) > 0 && stream_read(s, left)) {
		book_all(s);
		if (settings.rate)
			sleep_until_ns(
			    s->read_ns + s->got * 1000000000 / settings.rate);
	}
	sleep_until_ns(end);
}

static void
swallow(struct stream *s)
{
	shutdown(s->fd, SHUT_RDWR);
	s->since_ns = INT64_MAX; /* a daemon would not have read them */
	while (stream_read(s, -1))
		book_all(s);
	close(s->fd);
}

/* Dies, after counting all frames it holds: those of the connection, and of
 * connections not yet accepted. Every second time, on average, the listener
 * closes a little later than the connection, as in a dying process. */
static void
die_and_book(struct stream *s)
{
	swallow(s);
	if (random_below(2))
		pause_ms(0, 3);
	unlink(middle.path);
	shutdown(middle.listener, SHUT_RDWR);
	fcntl(middle.listener, F_SETFL, O_NONBLOCK);
	while (
	    (s->fd = accept4(middle.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		s->held = s->at = 0;
		swallow(s);
	}
	middle_unlisten(&middle);
}

/* Results. */

static int
by_size(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static uint32_t
delay_at(double part)
{
	return received.delays
		   ? received.delays_us[(
			 size_t)((double)(received.delays - 1) * part)]
		   : 0;
}

static uint64_t
arrived(void)
{
	return received.distinct + received.again + received.damaged;
}

static int64_t first_ns[MAX_ROUNDS], second_ns[MAX_ROUNDS];

static void
print_times(const char *name, const int64_t *times_ns)
{
	printf(",\"%s\":[", name);
	for (int i = 0; i < settings.rounds; i++)
		printf("%s%.1f", i ? "," : "", (double)times_ns[i] / 1e3);
	printf("]");
}

static void
recovery(void)
{
	static struct stream s;

	take_connection(&s);
	start(guest_runs);
	for (int round = 0; round < settings.rounds; round++) {
		int64_t listened_ns;

		send_daemon_frame(s.fd);
		serve(&s, 5 + random_below(20));
		close(s.fd);
		middle_unlisten(&middle);
		pause_ms(settings.away_min_ms, settings.away_ms);
		middle_listen(&middle, &listened_ns);
		take_connection(&s);
		second_ns[round] = now_ns() - listened_ns;
		do {
			if (!stream_read(&s, GIVE_UP_MS * MS))
				give_up("no frame on a new connection");
		} while (!book_all(&s));
		first_ns[round] = now_ns() - listened_ns;
	}
	print_times("recovery_us", first_ns);
	print_times("dial_us", second_ns);
}

static void
loss(void)
{
	static uint64_t inside[MAX_ROUNDS];
	static struct stream s;

	take_connection(&s);
	start(guest_runs);
	for (int round = 0; round < settings.rounds; round++) {
		send_daemon_frame(s.fd);
		serve(&s, settings.life_ms + random_below(60));
		inside[round] = arrived();
		die_and_book(&s);
		inside[round] = arrived() - inside[round];
		pause_ms(settings.away_min_ms, settings.away_ms);
		middle_listen(&middle, NULL);
		take_connection(&s);
	}
	send_daemon_frame(s.fd);
	stopping = true;
	serve(&s, 1000);
	printf(",\"sent\":%llu,\"received\":%llu,\"lost\":%lld",
	    (unsigned long long)frames_sent,
	    (unsigned long long)received.distinct,
	    (long long)(frames_sent - received.distinct));
	printf(",\"again\":%llu,\"damaged\":%llu",
	    (unsigned long long)received.again,
	    (unsigned long long)received.damaged);
	printf(",\"inside\":[");
	for (int i = 0; i < settings.rounds; i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)inside[i]);
	qsort(received.delays_us, received.delays, sizeof(uint32_t), by_size);
	printf("],\"delay_p50_us\":%u,\"delay_p99_us\":%u", delay_at(0.5),
	    delay_at(0.99));
}

/* When the line that reports the lost link was read. */
static _Atomic int64_t lost_line_ns;

static void *
read_log(void *unused)
{
	FILE *log = fdopen(middle.log, "r");
	char line[1024];

	while (log && fgets(line, sizeof(line), log))
		if (strstr(line, "link: lost"))
			lost_line_ns = now_ns();
	return unused;
}

/* Starts a process that only holds the connection open. */
static pid_t
fork_holder(int fd)
{
	pid_t holder = fork();

	if (holder < 0)
		die("fork");
	if (holder == 0)
		for (;;)
			pause();
	close(fd);
	return holder;
}

static void
detection(bool by_kill)
{
	static struct stream s;

	start(read_log);
	take_connection(&s);
	for (int round = 0; round < settings.rounds; round++) {
		pid_t holder = -1;
		int64_t died_ns;

		send_daemon_frame(s.fd);
		pause_ms(15, 40);
		if (by_kill)
			holder = fork_holder(s.fd);
		pause_ms(5, 6);
		lost_line_ns = 0;
		died_ns = now_ns();
		if (by_kill)
			kill(holder, SIGKILL);
		else
			close(s.fd);
		take_connection(&s);
		first_ns[round] = now_ns() - died_ns;
		if (by_kill)
			waitpid(holder, NULL, 0);
		pause_ms(2, 3);
		second_ns[round] = lost_line_ns ? lost_line_ns - died_ns : -1;
	}
	print_times("redial_us", first_ns);
	print_times("log_us", second_ns);
}

/* Answers an ARP request as 192.0.2.1. Returns the time, or 0 if the frame is no
 * ARP request. */
static int64_t
answer_arp(int fd, const uint8_t *frame, uint32_t length)
{
	uint8_t reply[HEADER_BYTES + 60] = { 0, 0, 0, 60 };
	uint8_t *arp = reply + HEADER_BYTES + ETHERNET_BYTES;
	const uint8_t *request = frame + ETHERNET_BYTES;

	if (length < 42 || type_of(frame) != ARP_TYPE || request[7] != 1)
		return 0;
	memcpy(reply + HEADER_BYTES, frame + 6, 6);
	memcpy(reply + HEADER_BYTES + 6, daemon_mac, 6);
	memcpy(reply + HEADER_BYTES + 12, frame + 12, 2);
	memcpy(arp, request, 8);
	arp[7] = 2;
	memcpy(arp + 8, daemon_mac, 6);
	memcpy(arp + 14, request + 24, 4);
	memcpy(arp + 18, request + 8, 10);
	if (send(fd, reply, sizeof(reply), MSG_NOSIGNAL) !=
	    (ssize_t)sizeof(reply))
		die("daemon: send");
	return now_ns();
}

/* Answers some probes, then stays silent until the other side closes the
 * connection. Returns the time from the last answer to that; -1 if there was no
 * probe, or if the connection was not closed. */
static int64_t
fall_silent(struct stream *s)
{
	int64_t last_ns = 0;
	int answers = 1 + (int)random_below(3);
	const uint8_t *frame;
	uint32_t length;

	while (stream_read(s, GIVE_UP_MS * MS)) {
		while ((frame = stream_next(s, &length))) {
			int64_t at_ns =
			    answers > 0 ? answer_arp(s->fd, frame, length) : 0;

			if (at_ns) {
				last_ns = at_ns;
				answers--;
			}
		}
	}
	if (!last_ns || now_ns() - last_ns > GIVE_UP_MS * MS)
		return -1;
	return now_ns() - last_ns;
}

static void
silent(void)
{
	static struct stream s;

	start(read_log);
	take_connection(&s);
	for (int round = 0; round < settings.rounds; round++)
		first_ns[round] = -1;
	for (int round = 0; round < settings.rounds; round++) {
		send_guest_frame();
		first_ns[round] = fall_silent(&s);
		if (first_ns[round] < 0)
			break;
		close(s.fd);
		take_connection(&s);
	}
	print_times("dead_after_us", first_ns);
}

static void
parse(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "+m:r:g:a:b:l:s:R:")) != -1) {
		if (option == 'm')
			settings.mode = optarg;
		else if (option == 'r')
			settings.rounds = atoi(optarg);
		else if (option == 'g')
			settings.gap_us = strtoll(optarg, NULL, 10);
		else if (option == 'a')
			settings.away_min_ms = strtoll(optarg, NULL, 10);
		else if (option == 'b')
			settings.away_ms = strtoll(optarg, NULL, 10);
		else if (option == 'l')
			settings.life_ms = strtoll(optarg, NULL, 10);
		else if (option == 's')
			settings.size = strtoul(optarg, NULL, 10);
		else if (option == 'R')
			settings.rate = strtoll(optarg, NULL, 10);
		else
			exit(64);
	}
	if (optind >= argc || settings.rounds < 1 ||
	    settings.rounds > MAX_ROUNDS) {
		fprintf(stderr,
		    "usage: outage [-m recovery|loss|close|kill|silent]"
		    " [-r ROUNDS] [-g GAP_US] [-a MIN_AWAY_MS] [-b AWAY_MS]\n"
		    "              [-l LIFE_MS] [-s BYTES] [-R BYTES_PER_S] -- "
		    "PROGRAM with "
		    "{fd} and "
		    "{net}\n");
		exit(64);
	}
}

int
main(int argc, char **argv)
{
	struct middle_options options = { .log = true };

	parse(argc, argv);
	received.seen = calloc(1, MAX_FRAMES / 8);
	received.delays_us = calloc(MAX_DELAYS, sizeof(uint32_t));
	if (!received.seen || !received.delays_us)
		die("calloc");
	options.log = strcmp(settings.mode, "recovery") != 0 &&
		      strcmp(settings.mode, "loss") != 0;
	middle_start(&middle, &options, argv + optind);
	printf(
	    "{\"mode\":\"%s\",\"rounds\":%d", settings.mode, settings.rounds);
	if (strcmp(settings.mode, "recovery") == 0)
		recovery();
	else if (strcmp(settings.mode, "loss") == 0)
		loss();
	else if (strcmp(settings.mode, "silent") == 0)
		silent();
	else
		detection(strcmp(settings.mode, "kill") == 0);
	printf("}\n");
	fflush(stdout);
	middle_stop(&middle);
	_exit(0);
}
