#include "status/control.h"

#include "base/clock.h"
#include "status/client.h"
#include "status/rates.h"
#include "tests/support/suite.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct error error;
static struct control control;
static struct status status = {
	.version = "0.1.0", .network.state = "up", .pid = 4711
};
static const char path[] = "control.sock";

static void
set_up(void)
{
	scratch_enter();
	ck_assert_int_eq(control_open(&control, path, &error), 0);
}

static void
tear_down(void)
{
	control_close(&control);
	scratch_leave();
}

static int
connect_client(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, path);
	ck_assert_int_eq(
	    connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void
say(int fd, const char *bytes, size_t n)
{
	ck_assert_int_eq(send(fd, bytes, n, 0), (ssize_t)n);
}

static void
ask(int fd, const char *line)
{
	say(fd, line, strlen(line));
}

/* --- the server ------------------------------------------------------------ */

/* Runs the server until it has nothing to do at that time. */
static void
serve(int64_t now_ms)
{
	struct pollfd p;
	int client;

	do {
		client = control.client;
		p = control_poll(&control);
		poll(&p, 1, 0);
		if (control_serve(&control, now_ms))
			control_answer(&control, &status);
	} while (p.revents != 0 || control.client != client);
}

/* Returns what the server sent before it closed the connection. */
static const char *
all_said(int fd)
{
	static char said[STATUS_BYTES];
	size_t length = 0;
	ssize_t n;

	while ((n = recv(fd, said + length, sizeof(said) - 1 - length,
		    MSG_DONTWAIT)) > 0)
		length += (size_t)n;
	ck_assert_msg(n == 0 || errno == ECONNRESET, "still open");
	said[length] = '\0';
	close(fd);
	return said;
}

static bool
still_open(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 &&
	       errno == EAGAIN;
}

static void
assert_answered(int fd)
{
	char expected[STATUS_BYTES];
	struct text t = text_in(expected, sizeof(expected));

	status_json(&t, &status);
	text_add(&t, "\n");
	ck_assert_str_eq(all_said(fd), expected);
	ck_assert(control.deadline_ms == INT64_MAX);
}

FIXTURE(set_up, tear_down)

static const struct {
	const char *line;
	void (*render)(struct text *, const struct status *);
} requests[] = {
	{ "status text\n", status_text },
	{ "status json\n", status_json },
	{ "status prometheus\n", status_prometheus },
	{ "status watch\n", rates_answer },
};

TEST(a_request_is_answered_with_its_form_and_an_empty_line,
    .count = LENGTH(requests))
{
	char expected[STATUS_BYTES];
	struct text t = text_in(expected, sizeof(expected));
	int fd = connect_client();

	requests[_i].render(&t, &status);
	text_add(&t, "\n");
	ask(fd, requests[_i].line);
	serve(0);
	ck_assert_str_eq(all_said(fd), expected);
}

TEST(the_largest_answer_comes_whole_before_the_client_reads)
{
	int fd = connect_client();

	memset(status.network.last_error, '"', STATUS_TEXT_BYTES - 1);
	memset(status.network.endpoint, '"', STATUS_TEXT_BYTES - 1);
	memset(status.guest.peer, '"', STATUS_TEXT_BYTES - 1);
	ask(fd, "status json\n");
	serve(0);
	assert_answered(fd);
}

static const struct {
	const char *line;
	size_t length;
} unknown[] = {
	{ "\n", 1 },
	{ "status\n", 7 },
	{ "status json", 11 },
	{ "status json \n", 13 },
	{ "STATUS JSON\n", 12 },
	{ "stat\0us json\n", 13 },
	{ "status json\nstatus json\n", 24 },
	{ "\xff\xfe\x01\n", 4 },
	{ "GET / HTTP/1.1\r\n", 16 },
	{ "status json\nand more than the server reads of any client in one "
	  "call, so that close() resets the connection",
	    107 },
};

TEST(an_unknown_request_is_refused, .count = LENGTH(unknown))
{
	int fd = connect_client();

	say(fd, unknown[_i].line, unknown[_i].length);
	serve(0);
	ck_assert_str_eq(all_said(fd), "error: unknown request\n");
}

/* Even if the process does not ignore SIGPIPE. */
TEST(a_client_that_leaves_early_harms_nothing)
{
	int fd = connect_client();

	signal(SIGPIPE, SIG_DFL);
	close(fd);
	serve(0);
	fd = connect_client();
	serve(0);
	ask(fd, "status json\n");
	close(fd);
	serve(0);
	fd = connect_client();
	ask(fd, "status json\n");
	serve(0);
	assert_answered(fd);
}

TEST(a_client_has_20_ms_to_send_its_line)
{
	int late = connect_client(), fd = connect_client();

	ck_assert(control.deadline_ms == INT64_MAX);
	serve(1000);
	ck_assert_int_eq(control.deadline_ms, 1020);
	serve(1019);
	ck_assert(still_open(late));
	serve(1020);
	ck_assert_str_eq(all_said(late), "");
	serve(1039);
	ask(fd, "status json\n");
	serve(1039);
	assert_answered(fd);
}

TEST(many_silent_clients_do_not_block_an_honest_one)
{
	int64_t now_ms = 0;
	int fd;

	for (int i = 0; i < 64; i++)
		connect_client();
	fd = connect_client();
	ask(fd, "status json\n");
	for (; now_ms < 64 * CONTROL_CLIENT_MS; now_ms += CONTROL_CLIENT_MS)
		serve(now_ms);
	serve(now_ms);
	assert_answered(fd);
}

TEST(a_client_is_not_inherited_and_ends_with_the_server)
{
	int fd = connect_client();
	struct stat file;

	serve(0);
	ck_assert(fcntl(control.client, F_GETFD) & FD_CLOEXEC);
	ck_assert(fcntl(control.fd, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(stat(path, &file), 0);
	ck_assert_uint_eq(file.st_mode & 07777, 0600);
	control_close(&control);
	ck_assert_str_eq(all_said(fd), "");
	ck_assert_int_ne(access(path, F_OK), 0);
}

TEST(the_server_does_not_spin_when_it_is_out_of_descriptors)
{
	struct rlimit limit, none = { 0, 0 };
	int64_t start_ms = clock_now_ms();
	int fd = connect_client();

	ask(fd, "status json\n");
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none.rlim_max = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert(!control_serve(&control, 0));
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_ge(clock_now_ms() - start_ms, 99);
	serve(0);
	assert_answered(fd);
}

TEST(without_a_path_there_is_no_socket)
{
	control_close(&control);
	ck_assert_int_eq(control_open(&control, "", &error), 0);
	ck_assert_int_eq(control_poll(&control).fd, -1);
	serve(0);
}

TEST(a_path_that_cannot_be_bound_leaves_it_closed)
{
	struct control second;

	ck_assert_int_eq(control_open(&second, path, &error), -1);
	ck_assert_msg(strstr(error.text, "in use"), "%s", error.text);
	ck_assert_int_eq(control_poll(&second).fd, -1);
	ck_assert(!control_serve(&second, 0));
	control_close(&second);
	ck_assert_int_eq(access(path, F_OK), 0);
}

TEST(a_socket_bound_again_keeps_its_client)
{
	int fd = connect_client(), old = control.fd;

	serve(0);
	ck_assert_int_eq(control_bind_again(&control, &error), -1);
	ck_assert_int_eq(control.fd, old);
	unlink(path);
	ck_assert_int_eq(control_bind_again(&control, &error), 0);
	ask(fd, "status json\n");
	serve(0);
	assert_answered(fd);
	fd = connect_client();
	ask(fd, "status json\n");
	serve(0);
	assert_answered(fd);
}

/* --- the client, in a process of its own ----------------------------------- */

static struct {
	pid_t pid;
	int out, error;
} command;

static char text[8192]; /* what was read last */

static void
start(const char *form, bool watch, int out_fd)
{
	int out[2], err[2];

	ck_assert(pipe(out) == 0 && pipe(err) == 0);
	command.pid = fork();
	if (command.pid == 0) {
		close(out[0]);
		close(control.fd);
		dup2(out_fd >= 0 ? out_fd : out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		signal(SIGPIPE, SIG_DFL);
		_exit(client_status(path, form, watch));
	}
	close(out[1]);
	close(err[1]);
	command.out = out[0];
	command.error = err[0];
}

static const char *
read_all(int fd)
{
	size_t length = 0;
	ssize_t n;

	while ((n = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)n;
	text[length] = '\0';
	return text;
}

/* Reads until `last` was read. */
static const char *
read_until(int fd, const char *last)
{
	memset(text, 0, sizeof(text));
	for (size_t n = 0; strstr(text, last) == NULL; n++) {
		ck_assert_uint_lt(n, sizeof(text) - 1);
		ck_assert_int_eq(read(fd, text + n, 1), 1);
	}
	return text;
}

static int
exit_code(void)
{
	int state = 0;

	ck_assert_int_eq(waitpid(command.pid, &state, 0), command.pid);
	ck_assert(WIFEXITED(state));
	return WEXITSTATUS(state);
}

static void
assert_exit(int code, const char *said)
{
	read_all(command.error);
	ck_assert_msg(strstr(text, said), "%s in %s", said, text);
	ck_assert_int_eq(exit_code(), code);
}

/* Takes the place of a forwarder for one request. */
static void
answer(const char *request, const char *reply)
{
	struct pollfd p = { .fd = control.fd, .events = POLLIN };
	char line[64] = "";
	int fd;

	poll(&p, 1, -1);
	fd = accept(control.fd, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	fcntl(fd, F_SETFL, 0);
	if (request != NULL) {
		ck_assert_int_gt(recv(fd, line, sizeof(line) - 1, 0), 0);
		ck_assert_str_eq(line, request);
	} else { /* unread, it makes close() reset the connection */
		p.fd = fd;
		poll(&p, 1, -1);
	}
	send(fd, reply, strlen(reply), 0);
	close(fd);
}

#define JSON "status json\n"
#define WATCH "status watch\n"
#define UP_1 "up 7 1 1000 10 0 0 0 0 0\nnetwork\n    state up\n\n"
#define UP_2 "up 8 1 2000 15 0 0 0 0 0\nnetwork\n    state up\n\n"

#define FOREIGN "the reply is not of this version"

static const struct {
	const char *form;
	bool watch;
	const char *request; /* NULL: left unread */
	const char *reply, *out;
	int code;
	const char *said;
} exchanges[] = {
	{ "text", false, "status text\n", "one\n\ntwo\n\n", "one\n\ntwo\n", 0,
	    "" },
	{ "prometheus", false, "status prometheus\n", "x 1\n\n", "x 1\n", 0,
	    "" },
	{ "json", false, JSON, "\xc3\xbc\x1b[2J\x9b\n\n",
	    "\xc3\xbc\\x1b[2J\\x9b\n", 0, "" },
	{ "json", false, NULL, "{}\n\n", "{}\n", 0, "" },
	{ "json", false, JSON, "\n", "", 69, FOREIGN },
	{ "json", false, JSON, "{}\n", "", 69, FOREIGN },
	{ "json", false, JSON, "error: unknown request\n", "", 69, FOREIGN },
	{ "json", false, JSON, "\n\x01\xff", "", 69, FOREIGN },
	{ "text", true, WATCH, "no numbers\n\n", "", 69, FOREIGN },
};

TEST(only_a_complete_answer_is_printed, .count = LENGTH(exchanges))
{
	start(exchanges[_i].form, exchanges[_i].watch, -1);
	answer(exchanges[_i].request, exchanges[_i].reply);
	ck_assert_str_eq(read_all(command.out), exchanges[_i].out);
	assert_exit(exchanges[_i].code, exchanges[_i].said);
	ck_assert(exchanges[_i].code != 0 || *text == '\0');
}

TEST(a_missing_forwarder_is_reported_with_the_path_and_a_hint)
{
	close(control.fd); /* as if killed: the file stays */
	control.fd = -1;
	start("json", false, -1);
	assert_exit(69, "no forwarder answers at control.sock: Connection "
			"refused (start one with [control] socket set");
	control_close(&control);
	start("json", true, -1);
	assert_exit(69, "No such file or directory (start one");
}

TEST(a_path_that_is_too_long_is_reported)
{
	char longer[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	ck_assert_int_eq(client_status(longer, "json", false), 69);
}

/* Stopped before it accepts, or in the middle of its answer. */
TEST(the_command_waits_two_seconds_for_a_stopped_forwarder, .count = 2)
{
	int64_t start_ms = clock_now_ms(), took_ms;

	start("text", false, -1);
	if (_i == 1) {
		struct pollfd p = { .fd = control.fd, .events = POLLIN };

		poll(&p, 1, -1);
		ask(accept(control.fd, NULL, NULL), "{\"version\":");
	}
	assert_exit(
	    69, _i == 0 ? "it is stopped or stuck" : "not of this version");
	took_ms = clock_now_ms() - start_ms;
	ck_assert_int_ge(took_ms, 1900);
	ck_assert_int_lt(took_ms, 4000);
}

TEST(a_full_backlog_does_not_hang_the_command)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	strcpy(address.sun_path, path);
	do {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		fcntl(fd, F_SETFL, O_NONBLOCK);
	} while (
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	start("text", false, -1);
	assert_exit(69, "no forwarder answers");
}

TEST(a_request_that_was_dropped_is_sent_again_twice)
{
	start("json", false, -1);
	answer("status json\n", "");
	answer(NULL, "");
	answer("status json\n", "{}\n\n");
	ck_assert_str_eq(read_all(command.out), "{}\n");
	assert_exit(0, "");
	start("json", false, -1);
	for (int i = 0; i < 3; i++)
		answer("status json\n", "");
	assert_exit(69, "Connection reset");
}

TEST(an_output_that_cannot_be_written_is_reported)
{
	int full = open("/dev/full", O_WRONLY);

	if (full < 0)
		return;
	start("json", false, full);
	answer(JSON, "{}\n\n");
	assert_exit(71, "forwarder: standard output: No space left on device");
}

TEST(a_reader_that_left_ends_a_watch_without_an_error, .count = 2)
{
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	close(ends[0]);
	start("json", _i, ends[1]);
	answer(JSON, "{}\n\n");
	assert_exit(_i ? 0 : 71, _i ? "" : "standard output");
}

TEST(a_watch_in_a_pipe_is_a_line_a_second_until_it_is_interrupted)
{
	int64_t first_ms;

	start("text", true, -1);
	answer(WATCH, UP_1);
	read_until(command.out, "\n");
	ck_assert_ptr_nonnull(strstr(text, "Z up outages=7  guest->network"));
	ck_assert_ptr_nonnull(strstr(text, "     10 frames/s"));
	first_ms = clock_now_ms();
	answer(WATCH, UP_2);
	ck_assert_int_ge(clock_now_ms() - first_ms, 800);
	read_until(command.out, "\n");
	ck_assert_ptr_nonnull(strstr(text, "Z up outages=8  guest->network"));
	ck_assert_ptr_nonnull(strstr(text, "      5 frames/s"));
	kill(command.pid, SIGINT);
	assert_exit(0, "");
}

TEST(a_watch_survives_a_restart_of_the_forwarder, .count = 2)
{
	const char *line = _i ? JSON : WATCH;
	const char *seen = _i ? "{}\n" : "outages=7";

	start(_i ? "json" : "text", true, -1);
	answer(line, _i ? "{}\n\n" : UP_1);
	read_until(command.out, seen);
	control_close(&control);
	read_until(_i ? command.error : command.out,
	    " no forwarder answers at control.sock: No such file");
	ck_assert_int_eq(control_open(&control, path, &error), 0);
	answer(line, _i ? "{}\n\n" : UP_1);
	read_until(command.out, seen);
	kill(command.pid, SIGINT);
	ck_assert_int_eq(exit_code(), 0);
	read_all(command.error);
	ck_assert_ptr_null(strstr(text, "no forwarder"));
}

/* Starts a watch on a new terminal; returns the far end. */
static int
watch_on_terminal(const char *kind, int *slave)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);

	ck_assert(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	*slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	ck_assert_int_ge(*slave, 0);
	setenv("TERM", kind, 1);
	start("text", true, *slave);
	return master;
}

TEST(a_watch_on_a_terminal_redraws)
{
	int slave, master = watch_on_terminal("vt100", &slave);

	answer(WATCH, UP_1);
	read_until(master, "\033[H\033[J"
			   "network\r\n    state up\r\n\r\n"
			   "guest->network       10 frames/s");
	read_until(master, "\r\nnetwork->guest        0 frames/s");
	read_until(master, "dropped/s\r\n");
	answer(WATCH, UP_2);
	read_until(master, "\033[H\033[J");
	control_close(&control);
	read_until(master, "Z no forwarder answers at ");
	kill(command.pid, SIGINT);
	ck_assert_int_eq(exit_code(), 0);
}

static const char *const plain_terminals[] = { "dumb", "" };

TEST(a_terminal_that_cannot_redraw_gets_lines, .count = 2)
{
	int slave, master = watch_on_terminal(plain_terminals[_i], &slave);

	answer(WATCH, UP_1);
	read_until(master, "Z up outages=7 ");
	ck_assert_ptr_null(strchr(text, '\033'));
	kill(command.pid, SIGINT);
	ck_assert_int_eq(exit_code(), 0);
}
