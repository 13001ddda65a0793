#include "status/control.h"

#include "status/client.h"
#include "tests/support/suite.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[256], why[512];
static struct control control;
static struct pollfd fds[CONTROL_DESCRIPTORS];

static void
answer(void *context, struct status *s)
{
	(void)context;
	strcpy(s->version, "0.1.0");
	strcpy(s->network.state, "up");
	s->pid = 4711;
	s->uptime_ms = 1000;
	s->guest_to_network.frames = 7;
}

static const struct control_answers answers = { .status = answer };

static void
setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	strcpy(folder, "/tmp/control_test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/control.sock", folder);
	ck_assert_int_eq(control_open(&control, path, why, sizeof(why)), 0);
}

static void
teardown(void)
{
	control_close(&control);
	unlink(path);
	rmdir(folder);
}

/* Lets the server do all there is to do at that time. */
static void
serve(int64_t now_ms)
{
	int n;

	do {
		control_watch(&control, fds, now_ms);
		n = poll(fds, CONTROL_DESCRIPTORS, 0);
		control_serve(&control, fds, now_ms, &answers);
	} while (n > 0);
}

static int
timeout_ms(int64_t now_ms)
{
	return control_watch(&control, fds, now_ms);
}

static int
connect_client(void)
{
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_eq(control_address(&address, path), 0);
	ck_assert_int_eq(
	    connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void
say(int fd, const char *bytes)
{
	ck_assert_int_eq(
	    send(fd, bytes, strlen(bytes), 0), (ssize_t)strlen(bytes));
}

/* What the server said before it closed the connection. */
static const char *
all_said(int fd)
{
	static char said[STATUS_LINES_BYTES];
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
assert_is_status(const char *said)
{
	struct status s;

	ck_assert(status_parse(&s, said));
	ck_assert_uint_eq(s.pid, 4711);
	ck_assert_uint_eq(s.guest_to_network.frames, 7);
}

FIXTURE(setup, teardown)

TEST(who_asks_for_the_status_gets_it_and_is_let_go)
{
	int fd = connect_client();

	say(fd, "status\n");
	serve(0);
	assert_is_status(all_said(fd));
}

TEST(a_request_may_come_in_pieces)
{
	int fd = connect_client();

	for (const char *c = "status"; *c != '\0'; c++) {
		say(fd, (char[]){ *c, '\0' });
		serve(0);
		ck_assert(still_open(fd));
	}
	say(fd, "\n");
	serve(0);
	assert_is_status(all_said(fd));
}

TEST(an_unknown_request_is_told)
{
	static const char *const unknown[] = { "\n", "stat\n", "status \n",
		"statuss\n", "STATUS\n", "\xff\xfe\x01\n",
		"GET / HTTP/1.1\r\n" };

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		int fd = connect_client();

		say(fd, unknown[i]);
		serve(0);
		ck_assert_str_eq(all_said(fd), "error: unknown request\n");
	}
}

TEST(a_zero_byte_in_a_request_harms_nothing)
{
	int fd = connect_client();

	ck_assert_int_eq(send(fd, "sta\0tus\n", 8, 0), 8);
	serve(0);
	ck_assert_str_eq(all_said(fd), "error: unknown request\n");
}

TEST(a_line_without_end_is_refused)
{
	char line[4096];
	int fd = connect_client();

	memset(line, 'x', sizeof(line));
	send(fd, line, sizeof(line), 0);
	serve(0);
	ck_assert_str_eq(all_said(fd), "error: request too long\n");
}

TEST(a_half_line_gets_no_answer)
{
	int fd = connect_client();

	say(fd, "stat");
	shutdown(fd, SHUT_WR);
	serve(0);
	ck_assert_str_eq(all_said(fd), "");
}

TEST(who_leaves_early_harms_nothing)
{
	int fd = connect_client();

	close(fd);
	fd = connect_client();
	say(fd, "status\n");
	close(fd);
	fd = connect_client();
	serve(0);
	close(fd);
	serve(0);
	ck_assert_int_eq(timeout_ms(0), -1);
	fd = connect_client();
	say(fd, "status\n");
	serve(0);
	assert_is_status(all_said(fd));
}

TEST(without_a_client_nothing_wakes)
{
	int fd;

	ck_assert_int_eq(timeout_ms(1000), -1);
	fd = connect_client();
	serve(1000);
	ck_assert_int_eq(timeout_ms(1000), CONTROL_PATIENCE_MS);
	ck_assert_int_eq(timeout_ms(2000), CONTROL_PATIENCE_MS - 1000);
	ck_assert_int_eq(timeout_ms(99000), 0);
	say(fd, "status\n");
	serve(2000);
	ck_assert_int_eq(timeout_ms(2000), -1);
	close(fd);
}

TEST(a_silent_client_is_let_go_after_five_seconds)
{
	int fd = connect_client();

	serve(1000);
	serve(5999);
	ck_assert(still_open(fd));
	serve(6000);
	ck_assert_str_eq(all_said(fd), "");
	ck_assert_int_eq(timeout_ms(6000), -1);
}

TEST(a_client_that_talks_slowly_is_let_go_as_well)
{
	int fd = connect_client();

	for (int64_t now_ms = 0; now_ms < CONTROL_PATIENCE_MS; now_ms += 500) {
		serve(now_ms);
		say(fd, "x");
	}
	serve(CONTROL_PATIENCE_MS);
	ck_assert_str_eq(all_said(fd), "");
}

TEST(the_oldest_silent_client_makes_room)
{
	int clients[CONTROL_CLIENTS + 1];

	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		clients[i] = connect_client();
		serve(0);
	}
	close(clients[0]);
	serve(0);
	clients[0] = connect_client();
	serve(0);
	clients[CONTROL_CLIENTS] = connect_client();
	serve(0);
	ck_assert_str_eq(all_said(clients[1]), "");
	ck_assert(still_open(clients[0]));
	for (int i = 2; i <= CONTROL_CLIENTS; i++)
		ck_assert(still_open(clients[i]));
}

TEST(a_hundred_silent_clients_keep_no_honest_one_out)
{
	int silent[100];

	for (int i = 0; i < 100; i++) {
		silent[i] = connect_client();
		serve(0);
		if (i % 10 == 0) {
			int honest = connect_client();

			say(honest, "status\n");
			serve(0);
			assert_is_status(all_said(honest));
		}
	}
	for (int i = 0; i < 100; i++)
		close(silent[i]);
	serve(0);
	ck_assert_int_eq(timeout_ms(0), -1);
}

TEST(a_crowd_that_comes_at_once_keeps_no_honest_one_out)
{
	int clients[12];

	for (int i = 0; i < 12; i++)
		clients[i] = connect_client();
	say(clients[1], "status\n");
	serve(0);
	assert_is_status(all_said(clients[1]));
}

/* Between the poll() and the answer, whatever the process does with SIGPIPE. */
TEST(a_client_that_hangs_up_on_its_answer_ends_nothing)
{
	int fd = connect_client();

	signal(SIGPIPE, SIG_DFL);
	serve(0);
	say(fd, "status\n");
	close(fd);
	serve(0);
	ck_assert_int_eq(timeout_ms(0), -1);
}

TEST(a_client_is_not_waited_for_and_not_inherited)
{
	int fd = connect_client(), taken;

	serve(0);
	taken = control.clients[0].fd;
	ck_assert_int_ge(taken, 0);
	ck_assert(fcntl(taken, F_GETFL) & O_NONBLOCK);
	ck_assert(fcntl(taken, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

TEST(without_descriptors_to_accept_with_the_server_pauses)
{
	struct rlimit limit, none = { 0, 0 };
	int fd = connect_client();

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	control_watch(&control, fds, 0);
	ck_assert_int_eq(poll(fds, CONTROL_DESCRIPTORS, 0), 1);
	none.rlim_max = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	control_serve(&control, fds, 0, &answers);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_eq(timeout_ms(0), 1000);
	ck_assert_int_eq(fds[0].fd, -1);
	say(fd, "status\n");
	serve(1000);
	assert_is_status(all_said(fd));
}

static bool
is_there(const char *file)
{
	return access(file, F_OK) == 0;
}

TEST(only_the_owner_may_ask)
{
	struct stat file;

	ck_assert_int_eq(stat(path, &file), 0);
	ck_assert_uint_eq(file.st_mode & 07777, 0600);
}

TEST(the_socket_of_a_running_forwarder_is_left_alone)
{
	struct control second;
	int fd;

	ck_assert_int_eq(control_open(&second, path, why, sizeof(why)), -1);
	ck_assert_msg(strstr(why, path) != NULL, "%s", why);
	ck_assert_msg(strstr(why, "in use") != NULL, "%s", why);
	control_close(&second);
	ck_assert(is_there(path));
	serve(0);
	fd = connect_client();
	say(fd, "status\n");
	serve(0);
	assert_is_status(all_said(fd));
}

TEST(the_socket_of_a_stopped_forwarder_is_left_alone)
{
	struct control second;
	struct sockaddr_un address;
	int fd;

	control_address(&address, path);
	do {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		control_set_flags(fd, true);
	} while (
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	if (errno == EAGAIN) /* a full backlog; not so on macOS */
		ck_assert_int_eq(
		    control_open(&second, path, why, sizeof(why)), -1);
}

TEST(the_socket_of_a_dead_forwarder_is_replaced)
{
	struct control dead = control;
	int fd;

	close(dead.fd);
	ck_assert(is_there(path));
	ck_assert_int_eq(control_open(&control, path, why, sizeof(why)), 0);
	fd = connect_client();
	say(fd, "status\n");
	serve(0);
	assert_is_status(all_said(fd));
}

TEST(what_is_no_socket_is_left_alone)
{
	int fd;

	control_close(&control);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	ck_assert_int_eq(control_open(&control, path, why, sizeof(why)), -1);
	ck_assert_msg(strstr(why, "no socket") != NULL, "%s", why);
	ck_assert(is_there(path));
}

TEST(a_guests_datagram_socket_is_left_alone)
{
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	control_close(&control);
	control_address(&address, path);
	ck_assert_int_eq(
	    bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(control_open(&control, path, why, sizeof(why)), -1);
	ck_assert(is_there(path));
	close(fd);
}

TEST(on_exit_the_socket_is_gone)
{
	control_close(&control);
	ck_assert(!is_there(path));
	control_close(&control);
}

TEST(on_exit_the_socket_of_a_successor_stays)
{
	struct control successor;

	unlink(path);
	ck_assert_int_eq(control_open(&successor, path, why, sizeof(why)), 0);
	control_close(&control);
	ck_assert(is_there(path));
	control_close(&successor);
	ck_assert(!is_there(path));
}

TEST(no_path_means_no_socket)
{
	control_close(&control);
	ck_assert_int_eq(control_open(&control, "", why, sizeof(why)), 0);
	ck_assert_int_eq(timeout_ms(0), -1);
	serve(0);
}

TEST(a_path_too_long_is_told)
{
	char deep[200];

	control_close(&control);
	memset(deep, 'x', sizeof(deep));
	deep[sizeof(deep) - 1] = '\0';
	ck_assert_int_eq(control_open(&control, deep, why, sizeof(why)), -1);
	ck_assert_msg(strstr(why, "too long") != NULL, "%s", why);
}

TEST(a_folder_that_is_missing_is_told)
{
	char missing[128];

	control_close(&control);
	snprintf(missing, sizeof(missing), "%s/none/control.sock", folder);
	ck_assert_int_eq(control_open(&control, missing, why, sizeof(why)), -1);
	ck_assert_msg(strstr(why, missing) != NULL, "%s", why);
	ck_assert_msg(strstr(why, "folder doesn't exist") != NULL, "%s", why);
}

/* A forwarder that runs: the server in a thread, until told to stop. */

static pthread_t thread;
static int bell[2] = { -1, -1 };

static void *
run_forwarder(void *unused)
{
	struct pollfd all[CONTROL_DESCRIPTORS + 1];

	do {
		control_watch(&control, all, 0);
		all[CONTROL_DESCRIPTORS] =
		    (struct pollfd){ .fd = bell[0], .events = POLLIN };
		poll(all, CONTROL_DESCRIPTORS + 1, -1);
		control_serve(&control, all, 0, &answers);
	} while (all[CONTROL_DESCRIPTORS].revents == 0);
	control_close(&control);
	return unused;
}

static void
start_forwarder(void)
{
	ck_assert_int_eq(pipe(bell), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, run_forwarder, NULL), 0);
}

static void
stop_forwarder(void)
{
	close(bell[1]);
	pthread_join(thread, NULL);
}

/* `forwarder status` in a process of its own. What waits for signals is started
 * before the forwarder's thread: ThreadSanitizer delivers none in a child of a
 * process with threads. */
struct command {
	pid_t pid;
	int out, error;
};

static struct command
start_command(enum client_form form, bool watch, int out_fd)
{
	struct command c;
	int out[2], error[2];

	ck_assert_int_eq(pipe(out), 0);
	ck_assert_int_eq(pipe(error), 0);
	c.pid = fork();
	if (c.pid == 0) {
		close(out[0]);
		close(bell[1]);
		close(control.fd);
		dup2(out_fd >= 0 ? out_fd : out[1], STDOUT_FILENO);
		dup2(error[1], STDERR_FILENO);
		signal(SIGPIPE, SIG_DFL);
		_exit(client_status(path, form, watch));
	}
	close(out[1]);
	close(error[1]);
	c.out = out[0];
	c.error = error[0];
	return c;
}

static const char *
read_all(int fd, char *buffer, size_t size)
{
	size_t length = 0;
	ssize_t n;

	while ((n = read(fd, buffer + length, size - 1 - length)) > 0)
		length += (size_t)n;
	buffer[length] = '\0';
	close(fd);
	return buffer;
}

/* Reads until `last` was read. */
static void
read_until(int fd, const char *last)
{
	char buffer[8192] = "";

	for (size_t n = 0; strstr(buffer, last) == NULL; n++)
		ck_assert_int_eq(read(fd, buffer + n, 1), 1);
}

static int
exit_code(const struct command *c)
{
	int state = 0;

	ck_assert_int_eq(waitpid(c->pid, &state, 0), c->pid);
	ck_assert(WIFEXITED(state));
	return WEXITSTATUS(state);
}

static char out[8192], error[8192];

static int
run(enum client_form form)
{
	struct command c = start_command(form, false, -1);

	read_all(c.out, out, sizeof(out));
	read_all(c.error, error, sizeof(error));
	return exit_code(&c);
}

TEST(the_command_shows_what_the_forwarder_said)
{
	struct status s = { 0 };
	char expected[STATUS_JSON_BYTES];
	struct text t = text_in(expected, sizeof(expected));

	start_forwarder();
	answer(NULL, &s);
	status_json(&t, &s);
	ck_assert_int_eq(run(CLIENT_JSON), 0);
	ck_assert_str_eq(out, expected);
	ck_assert_str_eq(error, "");
	ck_assert_int_eq(run(CLIENT_TEXT), 0);
	ck_assert_ptr_nonnull(strstr(out, "forwarder 0.1.0, pid 4711, up 1s"));
	ck_assert_int_eq(run(CLIENT_PROMETHEUS), 0);
	ck_assert_ptr_nonnull(strstr(out, "\nforwarder_up{name=\"\"} 1\n"));
	stop_forwarder();
}

TEST(no_forwarder_is_told_with_the_path_and_what_to_do)
{
	control_close(&control);
	ck_assert_int_eq(run(CLIENT_JSON), 69);
	ck_assert_str_eq(out, "");
	ck_assert_ptr_nonnull(strstr(error, path));
	ck_assert_ptr_nonnull(strstr(error, "start one"));
}

TEST(a_forwarder_that_died_is_told)
{
	close(control.fd);
	ck_assert_int_eq(run(CLIENT_JSON), 69);
	ck_assert_ptr_nonnull(strstr(error, "start it again"));
}

TEST(a_path_too_long_is_told_by_the_command)
{
	control_close(&control);
	memset(path, 'x', sizeof(path) - 1);
	ck_assert_int_eq(run(CLIENT_JSON), 69);
	ck_assert_ptr_nonnull(strstr(error, "shorter"));
}

TEST(a_stopped_forwarder_does_not_hang_the_command)
{
	ck_assert_int_eq(run(CLIENT_TEXT), 69);
	ck_assert_ptr_nonnull(strstr(error, "stopped"));
}

TEST(a_full_backlog_does_not_hang_the_command)
{
	struct sockaddr_un address;
	int fd;

	control_address(&address, path);
	do {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		control_set_flags(fd, true);
	} while (
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	ck_assert_int_eq(run(CLIENT_TEXT), 69);
}

/* Answers one client with `reply` and goes away. */
static void *
answer_once(void *reply)
{
	struct pollfd p = { .fd = control.fd, .events = POLLIN };
	char request[64];
	int fd;

	poll(&p, 1, -1);
	fd = accept(control.fd, NULL, NULL);
	control_set_flags(fd, false);
	recv(fd, request, sizeof(request), 0);
	send(fd, reply, strlen(reply), 0);
	close(fd);
	return NULL;
}

static char strange[][64] = { "", "\n", "\n\x01\xff",
	"error: unknown request\n", "version=0.1.0\npid=1\nguest.endpoi",
	"SSH-2.0-OpenSSH_9.2\r\n" };

TEST(who_is_no_forwarder_is_not_believed, .count = LENGTH(strange))
{
	pthread_create(&thread, NULL, answer_once, strange[_i]);
	ck_assert_int_eq(run(CLIENT_JSON), 69);
	pthread_join(thread, NULL);
}

TEST(a_full_disk_is_told)
{
	int full = open("/dev/full", O_WRONLY);
	struct command c;

	if (full < 0)
		return;
	start_forwarder();
	c = start_command(CLIENT_JSON, false, full);
	read_all(c.error, error, sizeof(error));
	ck_assert_ptr_nonnull(strstr(error, strerror(ENOSPC)));
	ck_assert_int_eq(exit_code(&c), 71);
	stop_forwarder();
}

TEST(a_closed_output_is_told_once_but_ends_a_watch_in_peace)
{
	int ends[2];
	struct command c;

	ck_assert_int_eq(pipe(ends), 0);
	close(ends[0]);
	start_forwarder();
	c = start_command(CLIENT_JSON, false, ends[1]);
	ck_assert_int_eq(exit_code(&c), 71);
	c = start_command(CLIENT_JSON, true, ends[1]);
	ck_assert_int_eq(exit_code(&c), 0);
	stop_forwarder();
}

TEST(a_watch_goes_on_until_it_is_interrupted)
{
	struct command c;

	c = start_command(CLIENT_JSON, true, -1);
	start_forwarder();
	read_until(c.out, "}\n");
	read_until(c.out, "}\n");
	kill(c.pid, SIGINT);
	ck_assert_int_eq(exit_code(&c), 0);
	stop_forwarder();
}

TEST(a_watch_in_a_pipe_is_a_line_a_second)
{
	struct command c;

	c = start_command(CLIENT_TEXT, true, -1);
	start_forwarder();
	read_until(c.out, "up outages=0  guest->network        7 frames/s"
			  "      0.0 Mbit/s      0 dropped/s");
	kill(c.pid, SIGINT);
	ck_assert_int_eq(exit_code(&c), 0);
	stop_forwarder();
}

static const struct {
	enum client_form form;
	const char *present;
} watches[] = {
	{ CLIENT_TEXT, "Z up outages=0 " },
	{ CLIENT_JSON, "}\n" },
	{ CLIENT_PROMETHEUS, "# HELP" },
};

TEST(a_watch_survives_a_restart_of_the_forwarder, .count = 3)
{
	struct command c = start_command(watches[_i].form, true, -1);
	const char *absent = " no forwarder answers at ";

	start_forwarder();
	read_until(c.out, watches[_i].present);
	stop_forwarder();
	read_until(watches[_i].form == CLIENT_TEXT ? c.out : c.error, absent);
	ck_assert_int_eq(control_open(&control, path, error, sizeof(error)), 0);
	start_forwarder();
	read_until(c.out, watches[_i].present);
	kill(c.pid, SIGINT);
	ck_assert_int_eq(exit_code(&c), 0);
	read_all(c.error, error, sizeof(error));
	ck_assert_ptr_null(strstr(error, absent));
	stop_forwarder();
}

/* Returns the far end of a new terminal; *slave is what a command sees. */
static int
open_terminal(int *slave)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);

	ck_assert_int_ge(master, 0);
	ck_assert_int_eq(grantpt(master), 0);
	ck_assert_int_eq(unlockpt(master), 0);
	*slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	ck_assert_int_ge(*slave, 0);
	setenv("TERM", "vt100", 1);
	return master;
}

static const int endings[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

TEST(a_watch_on_a_terminal_redraws_and_gives_the_cursor_back, .count = 4)
{
	int slave, master = open_terminal(&slave);
	struct command c;

	c = start_command(CLIENT_TEXT, true, slave);
	start_forwarder();
	read_until(master, "\033[?25l\033[?7l\033[H");
	read_until(master, "network    up, generation 0, 0 dials\033[K\r\n");
	read_until(master, "\033[J");
	kill(c.pid, endings[_i]);
	read_until(master, "\033[?7h\033[?25h");
	ck_assert_int_eq(exit_code(&c), 0);
	stop_forwarder();
}

TEST(a_watch_that_is_suspended_gives_the_terminal_back_meanwhile)
{
	int slave, master = open_terminal(&slave), state;
	struct command c;

	c = start_command(CLIENT_TEXT, true, slave);
	start_forwarder();
	read_until(master, "\033[J");
	kill(c.pid, SIGTSTP);
	ck_assert_int_eq(waitpid(c.pid, &state, WUNTRACED), c.pid);
	ck_assert(WIFSTOPPED(state));
	read_until(master, "\033[?7h\033[?25h");
	kill(c.pid, SIGCONT);
	read_until(master, "\033[?25l");
	kill(c.pid, SIGINT);
	ck_assert_int_eq(exit_code(&c), 0);
	stop_forwarder();
}

TEST(a_watch_on_a_terminal_shows_that_nobody_answers)
{
	int slave, master = open_terminal(&slave);
	struct command c;

	c = start_command(CLIENT_TEXT, true, slave);
	start_forwarder();
	read_until(master, "\033[J");
	stop_forwarder();
	read_until(master, " no forwarder answers at ");
	kill(c.pid, SIGINT);
	read_until(master, "\033[?7h\033[?25h");
	ck_assert_int_eq(exit_code(&c), 0);
}

static const char *const plain_terminals[] = { "dumb", "" };

TEST(a_terminal_that_cannot_redraw_gets_lines, .count = 2)
{
	int slave, master = open_terminal(&slave);
	char said[512] = "";
	struct command c;

	setenv("TERM", plain_terminals[_i], 1);
	c = start_command(CLIENT_TEXT, true, slave);
	start_forwarder();
	for (size_t n = 0; strchr(said, '\n') == NULL; n++)
		ck_assert_int_eq(read(master, said + n, 1), 1);
	kill(c.pid, SIGINT);
	ck_assert_int_eq(exit_code(&c), 0);
	ck_assert_ptr_nonnull(strstr(said, "Z up outages=0 "));
	ck_assert_ptr_null(strchr(said, '\033'));
	stop_forwarder();
}

/* It has not read the request: its close() resets the connection. */
static void *
answer_unasked(void *reply)
{
	struct pollfd p = { .fd = control.fd, .events = POLLIN };
	int fd;

	poll(&p, 1, -1);
	fd = accept(control.fd, NULL, NULL);
	p.fd = fd;
	poll(&p, 1, -1);
	send(fd, reply, strlen(reply), 0);
	close(fd);
	return NULL;
}

TEST(a_reply_before_a_reset_is_a_reply)
{
	static char reply[] = "version=0.1.0\n\n";

	pthread_create(&thread, NULL, answer_unasked, reply);
	ck_assert_int_eq(run(CLIENT_JSON), 0);
	ck_assert_ptr_nonnull(strstr(out, "\"version\":\"0.1.0\""));
	pthread_join(thread, NULL);
}
