#include "status/control.h"

#include "base/clock.h"
#include "status/capture.h"
#include "tests/support/suite.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct error error;
static struct control control;
static struct capture capture;
static struct status status = {
	.version = "0.1.0", .network.state = "up", .pid = 4711
};
static const char path[] = "control.sock";

static void
set_up(void)
{
	scratch_enter();
	capture_init(&capture);
	ck_assert_int_eq(control_open(&control, path, 0600, &error), 0);
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
			control_answer(&control, &status, &capture);
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

TEST(a_capture_takes_the_connection_over, .count = 2)
{
	int fd = connect_client(), second;
	char bytes[4];

	ask(fd, "capture\n");
	serve(0);
	ck_assert(capture_is_on(&capture));
	ck_assert_int_eq(control.client, -1);
	ck_assert(control.deadline_ms == INT64_MAX);
	ck_assert_int_eq(recv(fd, bytes, 4, 0), 4);
	second = connect_client();
	ask(second, _i ? "capture\n" : "status json\n");
	serve(0);
	if (_i)
		ck_assert_ptr_nonnull(
		    strstr(all_said(second), "error: another capture is"));
	else
		assert_answered(second);
	close(fd);
	capture_stop(&capture);
}

TEST(the_largest_answer_comes_whole_before_the_client_reads)
{
	int fd = connect_client();

	memset(status.network.last_error, '"', STATUS_TEXT_BYTES - 1);
	memset(status.network.endpoint, '"', STATUS_TEXT_BYTES - 1);
	memset(status.guest.peer, '"', STATUS_TEXT_BYTES - 1);
	status.history_count = STATUS_HISTORY;
	for (int i = 0; i < STATUS_HISTORY; i++)
		memset(
		    status.history[i].reason, '\x01', STATUS_REASON_BYTES - 1);
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
	ck_assert_int_eq(control_open(&control, "", 0600, &error), 0);
	ck_assert_int_eq(control_poll(&control).fd, -1);
	serve(0);
}

TEST(a_path_that_cannot_be_bound_leaves_it_closed)
{
	struct control second;

	ck_assert_int_eq(control_open(&second, path, 0600, &error), -1);
	ck_assert_msg(strstr(error.text, "in use"), "%s", error.text);
	ck_assert_int_eq(control_poll(&second).fd, -1);
	ck_assert(!control_serve(&second, 0));
	control_close(&second);
	ck_assert_int_eq(access(path, F_OK), 0);
}

static mode_t
mode_of_file(void)
{
	struct stat file;

	ck_assert_int_eq(stat(path, &file), 0);
	return file.st_mode & 07777;
}

/* Also one that is bound again later. */
TEST(the_mode_can_change)
{
	ck_assert_uint_eq(mode_of_file(), 0600);
	control_set_mode(&control, 0660);
	ck_assert_uint_eq(mode_of_file(), 0660);
	unlink(path);
	ck_assert_int_eq(control_bind_again(&control, &error), 0);
	ck_assert_uint_eq(mode_of_file(), 0660);
	unlink(path);
	control_set_mode(&control, 0640);
	ck_assert_int_eq(control_bind_again(&control, &error), 0);
	ck_assert_uint_eq(mode_of_file(), 0640);
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
