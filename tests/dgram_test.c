#include "reconnect/dgram.h"

#include "reconnect/dial.h"
#include "tests/support/listener.h"
#include "tests/support/suite.h"

#define STRANGER 12345u

static struct doorbell bell;
static struct dgram ends;
static struct private_folder folder;
static struct error error;
static int daemon_fd;

static void
set_up(void)
{
	static char here[64];

	scratch_enter();
	setenv("TMPDIR", getcwd(here, sizeof(here)), 1);
	unsetenv("RUNTIME_DIRECTORY");
	unsetenv("XDG_RUNTIME_DIR");
	ck_assert_int_eq(mkdir("daemon", 0755), 0);
	private_folder_init(&folder);
	ck_assert_int_eq(doorbell_init(&bell), 0);
	dgram_init(&ends, &bell);
	daemon_fd = bound_datagrams("daemon/sock");
}

/* However a dial ended, its address goes with its generation. */
static void
tear_down(void)
{
	char path[PRIVATE_PATH_BYTES];

	dgram_release(&ends);
	dgram_destroy(&ends);
	doorbell_destroy(&bell);
	ck_assert_int_eq(private_folder_path(&folder, "", path, &error), 0);
	ck_assert_int_eq(rmdir(path), 0);
	close(daemon_fd);
	scratch_leave();
}

static int
dial_as(uid_t user, bool vfkit)
{
	const struct endpoint daemon = { .path = "daemon/sock" };
	const struct dial attempt = { .endpoint = &daemon,
		.user = user,
		.dgram = &ends,
		.folder = &folder,
		.vfkit = vfkit,
		.watch = true };

	error.text[0] = '\0';
	return dgram_dial(&attempt, &error);
}

static void
expect_refusal(int expected, const char *about)
{
	uid_t nobody = (uid_t)-1;

	ck_assert_int_eq(dial_as(nobody, true), -1);
	ck_assert_int_eq(errno, expected);
	ck_assert_msg(strstr(error.text, about), "%s", error.text);
}

static ssize_t
take(struct sockaddr_un *sender, char *bytes)
{
	socklen_t length = sizeof(*sender);

	memset(sender, 0, sizeof(*sender));
	return recvfrom(daemon_fd, bytes, 100, MSG_DONTWAIT,
	    (struct sockaddr *)sender, &length);
}

FIXTURE(set_up, tear_down)

/* gvproxy sends to the address that the first datagram came from. */
TEST(a_daemon_gets_vfkt_from_a_new_address_each_time)
{
	struct sockaddr_un first, second;
	char bytes[100];
	int fd = dial_as(0, true);

	ck_assert_int_ge(fd, 0);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(take(&first, bytes), 4);
	ck_assert_mem_eq(bytes, "VFKT", 4);
	ck_assert_int_eq(sendto(daemon_fd, "answer", 6, 0,
			     (struct sockaddr *)&first, sizeof(first)),
	    6);
	ck_assert_int_eq(recv(fd, bytes, 100, 0), 6);
	close(fd);
	fd = dial_as(0, true);
	ck_assert_int_eq(take(&second, bytes), 4);
	ck_assert_str_ne(first.sun_path, second.sun_path);
	ck_assert_int_lt(access(first.sun_path, F_OK), 0);
	close(fd);
}

TEST(a_daemon_that_takes_frames_only_gets_no_vfkt)
{
	struct sockaddr_un sender;
	char bytes[100];
	int fd = dial_as(0, false);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_lt(take(&sender, bytes), 0);
	close(fd);
}

TEST(a_missing_dead_or_other_socket_is_an_error, .count = 3)
{
	close(daemon_fd);
	if (_i != 1)
		unlink("daemon/sock");
	daemon_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (_i == 2)
		ck_assert_int_eq(
		    bind(daemon_fd,
			(struct sockaddr *)&(struct sockaddr_un){
			    .sun_family = AF_UNIX, .sun_path = "daemon/sock" },
			sizeof(struct sockaddr_un)),
		    0);
	expect_refusal((int[]){ ENOENT, ECONNREFUSED, EPROTOTYPE }[_i],
	    (const char *[]){ "No such", "refused", "unix:PATH" }[_i]);
}

/* vmnet-helper connects to its first client. */
TEST(a_daemon_of_another_client_is_an_error)
{
	struct sockaddr_un other = { .sun_family = AF_UNIX,
		.sun_path = "daemon/other" };
	int fd = bound_datagrams("daemon/other");

	ck_assert_int_eq(
	    connect(daemon_fd, (struct sockaddr *)&other, sizeof(other)), 0);
	expect_refusal(EISCONN, "another client");
	close(fd);
}

TEST(a_frozen_daemon_with_a_full_queue_is_an_error_at_once)
{
	int fds[100], count = 0;

	while ((fds[count] = dial_as(0, true)) >= 0)
		ck_assert_int_lt(++count, 100);
	expect_refusal(EAGAIN, "frozen");
	while (count > 0)
		close(fds[--count]);
}

/* The kernel doesn't tell whose datagram socket it is; its file does. */
TEST(a_strangers_socket_in_a_shared_folder_is_refused)
{
	int fd;

	if (geteuid() != 0)
		return; /* only root can give a file away */
	ck_assert_int_eq(chown("daemon/sock", STRANGER, (gid_t)-1), 0);
	close(dial_as((uid_t)-1, true));
	ck_assert_int_eq(chmod("daemon", 01777), 0);
	expect_refusal(EPERM, "12345");
	fd = dial_as(STRANGER, true);
	ck_assert_int_ge(fd, 0);
	close(fd);
}

/* A link of root's may lead into such a folder. */
TEST(a_link_to_a_strangers_socket_is_refused)
{
	if (geteuid() != 0)
		return; /* only root can give a file away */
	ck_assert_int_eq(rename("daemon", "shared"), 0);
	ck_assert_int_eq(mkdir("daemon", 0755), 0);
	ck_assert_int_eq(symlink("../shared/sock", "daemon/sock"), 0);
	close(dial_as((uid_t)-1, true));
	ck_assert_int_eq(chown("shared/sock", STRANGER, (gid_t)-1), 0);
	ck_assert_int_eq(chmod("shared", 01777), 0);
	expect_refusal(EPERM, "12345");
}

TEST(the_file_at_the_path_is_recognised)
{
	int fd = dial_as(0, true), next;

	ck_assert_int_eq(dgram_look(&ends, "daemon/sock"), DGRAM_SAME);
	ck_assert_int_eq(chmod("daemon/sock", 0600), 0);
	ck_assert_int_eq(dgram_look(&ends, "daemon/sock"), DGRAM_SAME);
	unlink("daemon/sock");
	ck_assert_int_eq(dgram_look(&ends, "daemon/sock"), DGRAM_MISSING);
	next = bound_datagrams("daemon/sock");
	ck_assert_int_eq(dgram_look(&ends, "daemon/sock"), DGRAM_REPLACED);
	close(next);
	close(fd);
}

/* Most file systems give the number of a removed file to the next one. */
TEST(the_next_file_is_another_one_or_the_end_was_reported)
{
	for (int i = 0; i < 100; i++) {
		int fd = dial_as((uid_t)-1, false);

		ck_assert_int_ge(fd, 0);
		close(daemon_fd);
		unlink("daemon/sock");
		daemon_fd = bound_datagrams("daemon/sock");
		ck_assert(dgram_look(&ends, "daemon/sock") == DGRAM_REPLACED ||
			  file_watch_deleted(&ends.watch));
		close(fd);
	}
}
