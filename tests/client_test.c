#include "status/client.h"

#include "base/clock.h"
#include "base/unix_bind.h"
#include "status/status.h"
#include "tests/support/suite.h"
#include <sys/wait.h>

static struct error error;
static struct unix_file file;
static int listener;
static const char path[] = "control.sock";

static void
listen_again(void)
{
	listener = unix_bind(&file, SOCK_STREAM, path, 0600, &error);
	ck_assert_int_ge(listener, 0);
}

static void
stop_listening(void)
{
	unix_file_remove(&file);
	close(listener);
}

static void
set_up(void)
{
	scratch_enter();
	listen_again();
}

static void
tear_down(void)
{
	stop_listening();
	scratch_leave();
}

FIXTURE(set_up, tear_down)

/* --- the command, in a process of its own ---------------------------------- */

static struct {
	pid_t pid;
	int out, error;
	int descriptors; /* at most; 0: as many as usual */
} command;

static char text[8192]; /* what was read last */

static void
start(const struct client_request *request, int out_fd)
{
	int out[2], err[2];

	ck_assert(pipe(out) == 0 && pipe(err) == 0);
	command.pid = fork();
	if (command.pid == 0) {
		close(out[0]);
		close(listener);
		dup2(out_fd >= 0 ? out_fd : out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		signal(SIGPIPE, SIG_DFL);
		if (command.descriptors > 0)
			limit_descriptors(command.descriptors);
		_exit(client_status(request));
	}
	close(out[1]);
	close(err[1]);
	command.out = out[0];
	command.error = err[0];
}

static void
ask(const char *form, bool watch, int out_fd)
{
	start(
	    &(struct client_request){
		.path = path, .form = form, .watch = watch },
	    out_fd);
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
answer_on(int fd, const char *request, const char *reply)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char line[64] = "";

	poll(&p, 1, -1);
	fd = accept(fd, NULL, NULL);
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

#define REQUEST "status json\n"

static void
answer(const char *reply)
{
	answer_on(listener, REQUEST, reply);
}

#define REPLY(name, state, outages, uptime_ms, frames)                         \
	"{\"version\":\"9\",\"name\":\"" name                                  \
	"\",\"pid\":1,\"uptime_ms\":" uptime_ms                                \
	",\"network\":{\"state\":\"" state "\",\"outages\":" outages           \
	"},\"guest_to_network\":{\"frames\":" frames "}}\n\n"
#define UP_1 REPLY("vm1", "up", "7", "1000", "10")
#define UP_2 REPLY("vm1", "up", "8", "2000", "15")
#define DOWN REPLY("vm1", "down", "7", "1000", "10")

/* What UP_1 becomes in each form. */
static const struct {
	const char *name;
	void (*render)(struct text *, const struct status *);
} forms[] = {
	{ "text", status_text },
	{ "json", status_json },
	{ "prometheus", status_prometheus },
};

TEST(the_answer_is_printed_in_each_form, .count = LENGTH(forms))
{
	char expected[8192], reply[] = UP_1;
	struct text t = text_in(expected, sizeof(expected));
	struct status status;

	reply[strlen(reply) - 1] = '\0';
	ck_assert(status_parse(&status, reply));
	forms[_i].render(&t, &status);
	ask(forms[_i].name, false, -1);
	answer(UP_1);
	ck_assert_str_eq(read_all(command.out), expected);
	assert_exit(0, "");
	ck_assert_str_eq(text, "");
}

#define FOREIGN "the reply is not a forwarder's (restart the forwarder after"

static const char *const foreign[] = { "\n", "\n\n", "{}\n\n",
	"error: unknown request\n", "\n\x01\xff", "no numbers\n\n", UP_1 UP_1,
	"forwarder_up{name=\"vm1\"} 1\n\n" };

TEST(an_answer_of_another_program_is_not_printed, .count = LENGTH(foreign))
{
	ask("json", _i % 2, -1);
	answer(foreign[_i]);
	ck_assert_str_eq(read_all(command.out), "");
	assert_exit(69, FOREIGN);
}

TEST(an_endless_answer_is_refused)
{
	static char much[4 * STATUS_BYTES];

	memset(much, 'x', sizeof(much) - 1);
	ask("json", false, -1);
	signal(SIGPIPE, SIG_IGN);
	answer(much);
	assert_exit(69, FOREIGN);
}

TEST(what_a_stranger_says_cannot_control_the_terminal)
{
	ask("text", false, -1);
	answer(REPLY("vm1", "\\u000a\\u009b\\u001b[2J", "1", "1", "1"));
	read_all(command.out);
	ck_assert_ptr_nonnull(strstr(text, " \\x0a\\xc2\\x9b\\x1b[2J\n"));
	assert_exit(0, "");
}

static const struct {
	const char *reply;
	int code;
} verdicts[] = { { UP_1, 0 }, { DOWN, 1 },
	{ REPLY("vm1", "stopped", "1", "1", "1"), 1 }, { "{}\n\n", 69 } };

TEST(the_exit_code_tells_the_state, .count = LENGTH(verdicts))
{
	start(
	    &(struct client_request){
		.path = path, .form = "text", .exit_code = true },
	    -1);
	answer(verdicts[_i].reply);
	assert_exit(verdicts[_i].code, "");
}

TEST(a_missing_forwarder_is_reported_with_the_path_and_a_hint)
{
	close(listener); /* as if killed: the file stays */
	listener = -1;
	ask("json", false, -1);
	assert_exit(69, "no forwarder answers at control.sock: Connection "
			"refused (start one with [control] socket set");
	stop_listening();
	ask("json", true, -1);
	assert_exit(69, "No such file or directory (start one");
}

TEST(a_path_that_is_too_long_is_reported)
{
	char longer[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	start(&(struct client_request){ .path = longer, .form = "json" }, -1);
	assert_exit(69, "File name too long");
}

/* Stopped before it accepts, or in the middle of its answer. */
TEST(the_command_waits_two_seconds_for_a_stopped_forwarder, .count = 2)
{
	int64_t start_ms = clock_now_ms(), took_ms;

	ask("text", false, -1);
	if (_i == 1) {
		struct pollfd p = { .fd = listener, .events = POLLIN };
		int fd;

		poll(&p, 1, -1);
		fd = accept(listener, NULL, NULL);
		ck_assert_int_eq(send(fd, "{\"version\":", 11, 0), 11);
	}
	assert_exit(69, "it is stopped or stuck");
	took_ms = clock_now_ms() - start_ms;
	ck_assert_int_ge(took_ms, 1900);
	ck_assert_int_lt(took_ms, 4000);
}

static void
fill_backlog(const char *at)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	strcpy(address.sun_path, at);
	do {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		fcntl(fd, F_SETFL, O_NONBLOCK);
	} while (
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
}

TEST(a_full_backlog_does_not_hang_the_command)
{
	fill_backlog(path);
	ask("text", false, -1);
	assert_exit(69, "no forwarder answers");
}

TEST(a_request_that_was_dropped_is_sent_again_twice)
{
	ask("json", false, -1);
	answer("");
	answer_on(listener, NULL, "");
	answer(UP_1);
	assert_exit(0, "");
	ask("json", false, -1);
	for (int i = 0; i < 3; i++)
		answer("");
	assert_exit(69, "Connection reset");
}

TEST(an_output_that_cannot_be_written_is_reported)
{
	int full = open("/dev/full", O_WRONLY);

	if (full < 0)
		return;
	ask("json", false, full);
	answer(UP_1);
	assert_exit(71, "forwarder: standard output: No space left on device");
}

TEST(a_reader_that_left_ends_a_watch_without_an_error, .count = 2)
{
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	close(ends[0]);
	ask("json", _i, ends[1]);
	answer(UP_1);
	assert_exit(_i ? 0 : 71, _i ? "" : "standard output");
}

/* --- watching ---------------------------------------------------------------- */

TEST(a_watch_in_a_pipe_is_a_line_a_second_until_it_is_interrupted)
{
	int64_t first_ms;

	ask("text", true, -1);
	answer(UP_1);
	read_until(command.out, "\n");
	ck_assert_ptr_nonnull(strstr(text, "Z up outages=7  guest->network"));
	ck_assert_ptr_nonnull(strstr(text, "     10 frames/s"));
	first_ms = clock_now_ms();
	answer(UP_2);
	ck_assert_int_ge(clock_now_ms() - first_ms, 800);
	read_until(command.out, "\n");
	ck_assert_ptr_nonnull(strstr(text, "Z up outages=8  guest->network"));
	ck_assert_ptr_nonnull(strstr(text, "      5 frames/s"));
	kill(command.pid, SIGINT);
	assert_exit(0, "");
}

TEST(a_watch_survives_a_restart_of_the_forwarder, .count = 2)
{
	const char *seen = _i ? "\"outages\":7" : "outages=7";

	ask(_i ? "json" : "text", true, -1);
	answer(UP_1);
	read_until(command.out, seen);
	read_until(command.out, "\n");
	stop_listening();
	read_until(_i ? command.error : command.out,
	    " no forwarder answers at control.sock: No such file");
	listen_again();
	answer(UP_1);
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
	ask("text", true, *slave);
	return master;
}

TEST(a_watch_on_a_terminal_redraws)
{
	int slave, master = watch_on_terminal("vt100", &slave);

	answer(UP_1);
	read_until(master, "\033[H\033[J"
			   "network\r\n    state                 up\r\n");
	read_until(master, "\r\n\r\nguest->network       10 frames/s");
	read_until(master, "\r\nnetwork->guest        0 frames/s");
	read_until(master, "dropped/s\r\n");
	answer(UP_2);
	read_until(master, "\033[H\033[J");
	read_until(master, "dropped/s\r\nnetwork");
	stop_listening();
	read_until(master, "Z no forwarder answers at ");
	kill(command.pid, SIGINT);
	ck_assert_int_eq(exit_code(), 0);
}

static const char *const plain_terminals[] = { "dumb", "" };

TEST(a_terminal_that_cannot_redraw_gets_lines, .count = 2)
{
	int slave, master = watch_on_terminal(plain_terminals[_i], &slave);

	answer(UP_1);
	read_until(master, "Z up outages=7 ");
	ck_assert_ptr_null(strchr(text, '\033'));
	kill(command.pid, SIGINT);
	ck_assert_int_eq(exit_code(), 0);
}

/* --- all --------------------------------------------------------------------- */

/* Listens at NAME/control.sock. */
static int
listen_in(const char *name)
{
	char at[64];
	struct unix_file ignored;
	int fd;

	mkdir(name, 0700);
	snprintf(at, sizeof(at), "%s/control.sock", name);
	fd = unix_bind(&ignored, SOCK_STREAM, at, 0600, &error);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static void
ask_for_all(const char *form, bool exit_code_wanted)
{
	stop_listening(); /* not one of them */
	start(
	    &(struct client_request){
		.folder = ".", .form = form, .exit_code = exit_code_wanted },
	    -1);
}

/* vm1 is up, vm2 is down, other.sock and a link are none, vm3 is a stranger, and
 * vm4 was killed. */
static void
answer_as_four(const char *form, bool exit_code_wanted)
{
	int first = listen_in("vm1"), second = listen_in("vm2"),
	    third = listen_in("vm3");

	close(listen_in("vm4"));
	ck_assert_int_eq(mkdir("vm5", 0700), 0);
	ck_assert_int_eq(symlink("../vm1/control.sock", "vm5/control.sock"), 0);
	ck_assert_int_eq(mkdir("vm6", 0700), 0);
	close(open("vm6/control.sock", O_CREAT | O_WRONLY, 0600));
	ask_for_all(form, exit_code_wanted);
	answer_on(second, REQUEST,
	    "{\"version\":\"9\",\"name\":\"vm2\",\"pid\":1,"
	    "\"guest\":{\"mac\":\"52:54:00:12:34:56\"},\"network\":{"
	    "\"state\":\"down\",\"outages\":12345678,\"down_ms\":65000},"
	    "\"guest_to_network\":{\"bytes\":999,\"drops\":{\"runt\":2}},"
	    "\"network_to_guest\":{\"bytes\":1234567,\"drops\":{\"empty\":1}},"
	    "\"history\":[{\"began\":\"2026-11-21T13:00:00.123Z\",\"ms\":12}]}"
	    "\n\n");
	answer_on(first, REQUEST, UP_1);
	answer_on(third, REQUEST, "x\nforwarder_up{name=\"vm1\"} 1\n\n");
}

TEST(all_are_shown_in_one_table)
{
	answer_as_four("text", false);
	ck_assert_str_eq(read_all(command.out),
	    "NAME  STATE   OUTAGES  DOWN  LAST-OUTAGE           LASTED  DROPS  "
	    "GUEST              OUT    IN\n"
	    "vm1   up            7   0ms  -                          -      0  "
	    "-                    0     0\n"
	    "vm2   down   12345678  1m5s  2026-11-21T13:00:00Z    12ms      3  "
	    "52:54:00:12:34:56  999  1.2M\n"
	    "vm3   no answer: the reply is not a forwarder's\n"
	    "vm4   no answer: Connection refused\n"
	    "1 up, 1 down, 2 without an answer\n");
	assert_exit(0, "");
}

TEST(all_are_one_json_array)
{
	answer_as_four("json", false);
	read_all(command.out);
	ck_assert_ptr_eq(
	    strstr(text, "[{\"version\":\"9\",\"name\":\"vm1\","), text);
	ck_assert_ptr_nonnull(
	    strstr(text, "},{\"version\":\"9\",\"name\":\"vm2\","));
	ck_assert_ptr_nonnull(strstr(text,
	    "},{\"name\":\"vm3\",\"socket\":\"./vm3/control.sock\","
	    "\"error\":\"the reply is not a forwarder's\"},"
	    "{\"name\":\"vm4\",\"socket\":\"./vm4/control.sock\","
	    "\"error\":\"Connection refused\"}]\n"));
	assert_exit(0, "");
}

TEST(all_are_one_prometheus_text)
{
	answer_as_four("prometheus", true);
	read_all(command.out);
	ck_assert_ptr_nonnull(strstr(text,
	    "forwarder_up{name=\"vm1\"} 1\nforwarder_up{name=\"vm2\"} 0\n"
	    "forwarder_up{name=\"vm3\"} 0\nforwarder_up{name=\"vm4\"} 0\n# "));
	assert_exit(69, "");
}

/* A stranger in a folder of its own can't take another's place. */
TEST(metrics_of_a_second_forwarder_of_that_name_are_left_out)
{
	int stranger = listen_in("aaa"), own = listen_in("vm1");

	ask_for_all("prometheus", false);
	answer_on(stranger, REQUEST, DOWN);
	answer_on(own, REQUEST, UP_1);
	read_all(command.out);
	ck_assert_ptr_nonnull(strstr(text,
	    "# TYPE forwarder_up gauge\nforwarder_up{name=\"vm1\"} 1\n# "));
	assert_exit(0, "no metrics of ./aaa/control.sock: the forwarder at "
		       "./vm1/control.sock is also named vm1");
}

TEST(those_that_are_stuck_are_waited_for_at_once)
{
	int64_t start_ms = clock_now_ms(), took_ms;
	int last;

	listen_in("vm1");
	listen_in("vm2");
	listen_in("vm3");
	fill_backlog("vm2/control.sock");
	last = listen_in("vm4");
	ask_for_all("text", false);
	answer_on(last, REQUEST, REPLY("vm4", "up", "1", "1", "1"));
	assert_exit(0, "");
	took_ms = clock_now_ms() - start_ms;
	ck_assert_int_ge(took_ms, 1900);
	ck_assert_int_lt(took_ms, 4000);
	read_all(command.out);
	ck_assert_ptr_nonnull(strstr(text, "1 up, 0 down, 3 without an ans"));
}

TEST(a_lack_of_descriptors_is_reported)
{
	command.descriptors = 3;
	ask("json", false, -1);
	assert_exit(69, "control.sock: Too many open files (allow more open "
			"files: ulimit -n)");
}

/* Each one that answers makes room for another. */
TEST(few_descriptors_suffice_for_many)
{
	enum { MANY = 40 };
	int fds[MANY];
	char name[16];

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "vm%d", i);
		fds[i] = listen_in(name);
	}
	command.descriptors = dup(0) + 8; /* 8 more than are open */
	ask_for_all("text", false);
	for (int done = 0; done < MANY;) {
		struct pollfd p[MANY];

		for (int i = 0; i < MANY; i++)
			p[i] = (struct pollfd){ fds[i], POLLIN, 0 };
		poll(p, MANY, -1);
		for (int i = 0; i < MANY; i++)
			if (p[i].revents != 0) {
				answer_on(fds[i], REQUEST, UP_1);
				done++;
			}
	}
	read_all(command.out);
	ck_assert_ptr_nonnull(strstr(text, "40 up, 0 down, 0 without an ans"));
	assert_exit(0, "");
}

static const struct {
	const char *form, *out;
} of_none[] = {
	{ "text", "NAME  STATE  OUTAGES  DOWN  LAST-OUTAGE  LASTED  DROPS  "
		  "GUEST  OUT  IN\n0 up, 0 down, 0 without an answer\n" },
	{ "json", "[]\n" },
	{ "prometheus", "" },
};

TEST(a_folder_without_a_forwarder_is_reported, .count = LENGTH(of_none))
{
	ask_for_all(of_none[_i].form, _i % 2);
	ck_assert_str_eq(read_all(command.out), of_none[_i].out);
	assert_exit(69, "forwarder: found no control socket (set ");
}

TEST(a_missing_folder_is_reported)
{
	start(&(struct client_request){ .folder = "none", .form = "json" }, -1);
	assert_exit(69, "forwarder: none: No such file or directory\n");
}

TEST(a_watch_of_all_waits_for_the_first_and_shows_rates)
{
	int fd;

	stop_listening();
	start(
	    &(struct client_request){
		.folder = ".", .form = "text", .watch = true },
	    -1);
	read_until(command.out, "0 up, 0 down, 0 without an answer\n");
	fd = listen_in("vm1");
	answer_on(fd, REQUEST, UP_1);
	read_until(command.out, "Z\nNAME  ");
	read_until(command.out, "1 up, 0 down, 0 without an answer\n");
	answer_on(fd, REQUEST,
	    "{\"version\":\"9\",\"name\":\"vm1\",\"pid\":1,\"uptime_ms\":2000,"
	    "\"network\":{\"state\":\"up\"},"
	    "\"network_to_guest\":{\"bytes\":1250000}}\n\n");
	read_until(command.out, "OUT-Mbit/s  IN-Mbit/s\n");
	read_until(command.out, "       0.0       10.0\n");
	kill(command.pid, SIGINT);
	assert_exit(0, "");
}
