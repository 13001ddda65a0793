#include "base/unix_bind.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/listener.h"
#include "tests/support/suite.h"

#define NOBODY 65534

static const char in_use[] =
    "in use by another running process (stop it, or name another path)";
static const int types[] = { SOCK_STREAM, SOCK_DGRAM };

static struct unix_file file;
static struct error error;
static unsigned descriptors_before;
static mode_t umask_before;

static void
set_up(void)
{
	scratch_enter();
	umask_before = umask(022);
	descriptors_before = open_descriptors();
	error_set(&error, "nothing was said");
}

/* However a bind ended: nothing is left of it. */
static void
tear_down(void)
{
	ck_assert_int_eq(umask(umask_before), 022);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
	scratch_leave();
}

static int
try(int type, const char *path)
{
	errno = 0;
	return unix_bind(&file, type, path, 0600, &error);
}

static int
bound(int type, const char *path)
{
	int fd = try(type, path);

	ck_assert_msg(fd >= 0, "%s", error.text);
	return fd;
}

static void
refused(int type, const char *path, int code, const char *reason)
{
	char expected[256];

	ck_assert_int_eq(try(type, path), -1);
	ck_assert_int_eq(errno, code);
	snprintf(expected, sizeof(expected), "%s: %s", path, reason);
	ck_assert_str_eq(error.text, expected);
	ck_assert_str_eq(file.path, "");
}

static bool
exists(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0;
}

static mode_t
kind_and_mode(const char *path)
{
	struct stat status;

	ck_assert_int_eq(lstat(path, &status), 0);
	return status.st_mode;
}

/* A socket of the other side, connected to the path. */
static int
connected(int type, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	strcpy(address.sun_path, path);
	ck_assert_int_eq(
	    connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* As any program does it. */
static int
stranger_with_backlog(int type, const char *path, int backlog)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	strcpy(address.sun_path, path);
	ck_assert_int_eq(
	    bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (type == SOCK_STREAM)
		ck_assert_int_eq(listen(fd, backlog), 0);
	return fd;
}

static int
stranger(int type, const char *path)
{
	return stranger_with_backlog(type, path, 8);
}

static void
leave_stale(int type, const char *path)
{
	close(stranger(type, path));
}

FIXTURE(set_up, tear_down)

TEST(a_stream_socket_listens_and_a_datagram_socket_receives, .count = 2)
{
	int fd = bound(types[_i], "here");
	int peer = connected(types[_i], "here");
	char byte;

	if (types[_i] == SOCK_STREAM) {
		int accepted = accept(fd, NULL, NULL);

		ck_assert_int_ge(accepted, 0);
		close(accepted);
	} else {
		ck_assert_int_eq(send(peer, "x", 1, 0), 1);
		ck_assert_int_eq(recv(fd, &byte, 1, 0), 1);
	}
	ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	ck_assert_str_eq(file.path, "here");
	close(peer);
	close(fd);
}

TEST(what_a_dead_process_left_is_replaced, .count = 4)
{
	int fd;

	/* Of whatever type: nobody can use it. */
	leave_stale(types[_i / 2], "here");
	fd = bound(types[_i % 2], "here");
	close(connected(types[_i % 2], "here"));
	unix_file_remove(&file);
	ck_assert(!exists("here"));
	close(fd);
}

TEST(the_socket_of_a_living_process_is_left_alone, .count = 4)
{
	int theirs = stranger(types[_i / 2], "here");

	refused(types[_i % 2], "here", EADDRINUSE, in_use);
	close(connected(types[_i / 2], "here"));
	close(theirs);
}

TEST(a_living_one_with_a_full_backlog_is_left_alone)
{
	int theirs = stranger_with_backlog(SOCK_STREAM, "here", 0), fds[8];
	size_t count = fill_backlog(theirs, fds, 8);

	refused(SOCK_STREAM, "here", EADDRINUSE, in_use);
	ck_assert(exists("here"));
	close_all(fds, count);
	close(theirs);
}

/* To ask by connecting would make us its newest client. */
TEST(a_living_one_is_asked_without_calling_it, .count = 2)
{
	int theirs = stranger(SOCK_STREAM, "here");
	struct pollfd call = { .fd = theirs, .events = POLLIN };

	refused(types[_i], "here", EADDRINUSE, in_use);
	ck_assert_int_eq(poll(&call, 1, 0), 0);
	close(theirs);
}

/* Of another forwarder, between its bind() and its listen(). */
TEST(a_stream_socket_that_does_not_listen_yet_is_left_alone, .count = 2)
{
	int theirs = bound_unix("here");

	refused(types[_i], "here", EADDRINUSE, in_use);
	close(theirs);
}

/* The kernel lets only the peer connect to it. */
TEST(a_living_datagram_socket_with_a_peer_is_left_alone)
{
	struct sockaddr_un guest = { .sun_family = AF_UNIX };
	int theirs = stranger(SOCK_DGRAM, "here");
	int peer = stranger(SOCK_DGRAM, "guest");

	strcpy(guest.sun_path, "guest");
	ck_assert_int_eq(
	    connect(theirs, (struct sockaddr *)&guest, sizeof(guest)), 0);
	refused(SOCK_DGRAM, "here", EADDRINUSE, in_use);
	ck_assert(exists("here"));
	close(peer);
	close(theirs);
}

TEST(our_own_that_lives_is_left_alone_too, .count = 2)
{
	struct unix_file first;
	int fd = bound(types[_i], "here");

	first = file;
	refused(types[_i], "here", EADDRINUSE, in_use);
	unix_file_remove(&first);
	ck_assert(!exists("here"));
	close(fd);
}

static const char no_socket[] =
    "there is a file that is not a socket (remove it, or name another path)";

TEST(a_file_that_is_no_socket_is_left_alone, .count = 2)
{
	char content[8] = "";
	int fd = open("here", O_CREAT | O_WRONLY, 0644);

	ck_assert_int_eq(write(fd, "letter", 6), 6);
	close(fd);
	refused(types[_i], "here", EEXIST, no_socket);
	fd = open("here", O_RDONLY);
	ck_assert_int_eq(read(fd, content, sizeof(content)), 6);
	ck_assert_str_eq(content, "letter");
	close(fd);
}

TEST(folders_fifos_and_links_are_left_alone)
{
	ck_assert_int_eq(mkdir("folder", 0755), 0);
	ck_assert_int_eq(mkfifo("fifo", 0644), 0);
	ck_assert_int_eq(symlink("nowhere", "dangling"), 0);
	leave_stale(SOCK_STREAM, "stale");
	ck_assert_int_eq(symlink("stale", "link"), 0);
	refused(SOCK_STREAM, "folder", EEXIST, no_socket);
	refused(SOCK_STREAM, "fifo", EEXIST, no_socket);
	refused(SOCK_STREAM, "dangling", EEXIST, no_socket);
	refused(SOCK_STREAM, "link", EEXIST, no_socket);
	ck_assert(exists("folder") && exists("fifo") && exists("dangling"));
	ck_assert(exists("link") && exists("stale"));
}

static const mode_t modes[] = { 0600, 0660, 0666, 0777, 0, 0200 };
static const mode_t masks[] = { 0, 022, 077, 0777 };

TEST(the_mode_is_the_one_asked_for_whatever_the_umask,
    .count = 2 * LENGTH(modes))
{
	for (size_t i = 0; i < sizeof(masks) / sizeof(*masks); i++) {
		int fd;

		umask(masks[i]);
		fd = unix_bind(
		    &file, types[_i % 2], "here", modes[_i / 2], &error);
		ck_assert_msg(fd >= 0, "%s", error.text);
		ck_assert_uint_eq(
		    kind_and_mode("here"), S_IFSOCK | modes[_i / 2]);
		ck_assert_uint_eq(umask(022), masks[i]);
		unix_file_remove(&file);
		close(fd);
	}
}

TEST(a_path_too_long_is_told)
{
	char path[sizeof(file.path) + 1];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	refused(SOCK_STREAM, path, ENAMETOOLONG,
	    "too long for the path of a socket");
	path[sizeof(path) - 2] = '\0';
	close(bound(SOCK_STREAM, path));
}

TEST(a_folder_that_isnt_there_is_told)
{
	const char *reason =
	    "its folder doesn't exist (make it, or name another path)";

	refused(SOCK_STREAM, "no/where", ENOENT, reason);
	refused(SOCK_STREAM, "", ENOENT, strerror(ENOENT));
}

TEST(no_permission_is_told)
{
	ck_assert_int_eq(mkdir("theirs", 0555), 0);
	ck_assert_int_eq(chmod(".", 0755), 0);
	if (geteuid() == 0)
		ck_assert_int_eq(seteuid(NOBODY), 0);
	refused(SOCK_DGRAM, "theirs/here", EACCES, strerror(EACCES));
	ck_assert_int_eq(seteuid(getuid()), 0);
	ck_assert_int_eq(chmod("theirs", 0755), 0);
}

/* Somebody else's file, whose owner alone may say whether it lives. */
TEST(one_that_may_not_be_asked_is_left_alone)
{
	int theirs = stranger(SOCK_DGRAM, "here");

	if (geteuid() == 0)
		ck_assert_int_eq(seteuid(NOBODY), 0);
	else
		ck_assert_int_eq(chmod("here", 0), 0);
	ck_assert_int_eq(try(SOCK_DGRAM, "here"), -1);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_eq(seteuid(getuid()), 0);
	ck_assert(exists("here"));
	close(theirs);
}

TEST(our_file_is_removed_once, .count = 2)
{
	int fd = bound(types[_i], "here"), other;

	unix_file_remove(&file);
	ck_assert(!exists("here"));
	other = stranger(types[_i], "here");
	unix_file_remove(&file);
	ck_assert(exists("here"));
	close(other);
	close(fd);
}

/* What a cleaner removes between bind() and our look at it. */
static const char *removed_at_listen;

int
listen(int fd, int backlog)
{
	int (*real)(int, int) = dlsym(RTLD_NEXT, "listen");

	if (removed_at_listen)
		ck_assert_int_eq(unlink(removed_at_listen), 0);
	removed_at_listen = NULL;
	return real(fd, backlog);
}

TEST(a_file_that_is_removed_at_once_is_no_failure)
{
	int fd;

	removed_at_listen = "here";
	fd = bound(SOCK_STREAM, "here");
	ck_assert_str_eq(file.path, "here");
	ck_assert(!unix_file_stands(&file));
	close(stranger(SOCK_STREAM, "here"));
	unix_file_remove(&file);
	ck_assert(exists("here"));
	close(fd);
}

TEST(anothers_file_at_our_path_is_left_alone, .count = 2)
{
	int fd = bound(types[_i], "here"), other;

	ck_assert_int_eq(unlink("here"), 0);
	other = stranger(types[_i], "here");
	unix_file_remove(&file);
	ck_assert(exists("here"));
	close(other);
	close(fd);
}

TEST(a_file_that_somebody_moved_is_not_looked_for, .count = 2)
{
	int fd = bound(types[_i], "here");

	ck_assert_int_eq(rename("here", "there"), 0);
	unix_file_remove(&file);
	ck_assert(exists("there"));
	close(fd);
}

static void
stop_waiting(int number)
{
	(void)number;
	ck_abort_msg("a stranger's lock holds us up");
}

/* Whoever may read the folder can lock it. A forwarder has three sockets, and
 * waits for 0.1 s for each; the rest is room for a slow machine. */
TEST(a_folder_that_somebody_keeps_locked_holds_nobody_up, .seconds = 120)
{
	static const char *const names[] = { "a", "b", "c" };
	int folder = open(".", O_RDONLY);

	ck_assert_int_eq(flock(folder, LOCK_EX), 0);
	for (int i = 0; i < 3; i++)
		leave_stale(SOCK_STREAM, names[i]);
	signal(SIGALRM, stop_waiting);
	alarm(2);
	for (int i = 0; i < 3; i++)
		close(bound(SOCK_STREAM, names[i]));
	alarm(0);
	close(folder);
}

/* Two processes that start at the same moment. */
struct race {
	atomic_int ready, bound, told;
	atomic_bool over;
};

static void
run_racer(struct race *race, int type)
{
	int fd;

	atomic_fetch_add(&race->ready, 1);
	while (atomic_load(&race->ready) < 2)
		sched_yield();
	fd = try(type, "here");
	if (fd >= 0)
		atomic_fetch_add(&race->bound, 1);
	else if (errno != EADDRINUSE)
		atomic_fetch_add(&race->bound, 100);
	atomic_fetch_add(&race->told, 1);
	while (!atomic_load(&race->over))
		sched_yield();
	_exit(0);
}

static void
run_race(struct race *race, int type)
{
	pid_t racers[2];
	int peer;

	*race = (struct race){ .ready = 0 };
	leave_stale(type, "here");
	for (int i = 0; i < 2; i++) {
		racers[i] = fork();
		ck_assert_int_ge(racers[i], 0);
		if (racers[i] == 0)
			run_racer(race, type);
	}
	while (atomic_load(&race->told) < 2)
		sched_yield();
	/* Who has won can be reached. */
	ck_assert_int_eq(atomic_load(&race->bound), 1);
	peer = connected(type, "here");
	close(peer);
	atomic_store(&race->over, true);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(waitpid(racers[i], NULL, 0), racers[i]);
	ck_assert_int_eq(unlink("here"), 0);
}

TEST(of_two_that_find_a_stale_socket_exactly_one_wins, .count = 2,
    .seconds = 120)
{
	struct race *race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANON, -1, 0);

	ck_assert(race != MAP_FAILED);
	for (int i = 0; i < 200; i++)
		run_race(race, types[_i]);
	munmap(race, sizeof(*race));
}
