#include "base/unix_bind.h"

#include <dlfcn.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/clock.h"
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

/* However bind ended, nothing is left of it. */
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
	return access(path, F_OK) == 0;
}

static int
stranger(int type, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	strcpy(address.sun_path, path);
	ck_assert_int_eq(
	    bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (type == SOCK_STREAM)
		ck_assert_int_eq(listen(fd, 0), 0);
	return fd;
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
	int peer = connected_unix(types[_i], "here");
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

TEST(the_socket_of_a_dead_process_is_replaced, .count = 4)
{
	int fd;

	/* Of either type: no process uses it. */
	leave_stale(types[_i / 2], "here");
	fd = bound(types[_i % 2], "here");
	close(connected_unix(types[_i % 2], "here"));
	unix_file_remove(&file);
	ck_assert(!exists("here"));
	close(fd);
}

/* Ours; one that doesn't listen yet; one with a full backlog; one with a peer,
 * besides which the kernel refuses other senders; and one that anyone may send to.
 * The check must not connect: a stream listener would get a new client. */
TEST(a_live_socket_is_left_alone_in_every_state, .count = 5)
{
	int fds[8], theirs = -1;
	size_t count = 0;
	struct pollfd called = { .events = POLLIN };

	if (_i == 0)
		theirs = bound(SOCK_STREAM, "here");
	if (_i == 1)
		theirs = bound_unix("here");
	if (_i == 2) {
		theirs = stranger(SOCK_STREAM, "here");
		count = fill_backlog(theirs, fds, 8);
	}
	if (_i == 3) {
		struct sockaddr_un peer = { AF_UNIX, "peer" };

		fds[count++] = stranger(SOCK_DGRAM, "peer");
		theirs = stranger(SOCK_DGRAM, "here");
		connect(theirs, (struct sockaddr *)&peer, sizeof(peer));
	}
	if (_i == 4)
		theirs = stranger(SOCK_DGRAM, "here");
	for (int i = 0; i < 2; i++)
		refused(types[i], "here", EADDRINUSE, in_use);
	called.fd = theirs;
	poll(&called, 1, 0);
	ck_assert_int_eq(called.revents & POLLIN, _i == 2 ? POLLIN : 0);
	ck_assert(exists("here"));
	close_all(fds, count);
	close(theirs);
}

static const char no_socket[] =
    "there is a file that is not a socket (remove it, or name another path)";
static const char *const others[] = { "file", "folder", "fifo", "dangling",
	"link" };

TEST(a_file_that_is_not_a_socket_is_left_alone, .count = LENGTH(others))
{
	close(open("file", O_CREAT | O_WRONLY, 0644));
	ck_assert_int_eq(mkdir("folder", 0755), 0);
	ck_assert_int_eq(mkfifo("fifo", 0644), 0);
	ck_assert_int_eq(symlink("nowhere", "dangling"), 0);
	leave_stale(SOCK_STREAM, "stale");
	ck_assert_int_eq(symlink("stale", "link"), 0);
	for (int i = 0; i < 2; i++)
		refused(types[i], others[_i], EEXIST, no_socket);
	ck_assert_int_eq(
	    faccessat(AT_FDCWD, others[_i], F_OK, AT_SYMLINK_NOFOLLOW), 0);
	ck_assert(exists("stale"));
}

static const mode_t modes[] = { 0600, 0660, 0777, 0 };
static const mode_t masks[] = { 0, 022, 077, 0777 };

TEST(the_mode_is_the_one_asked_for_whatever_the_umask,
    .count = 2 * LENGTH(modes))
{
	for (int i = 0; i < LENGTH(masks); i++) {
		struct stat made;
		int fd;

		umask(masks[i]);
		fd = unix_bind(
		    &file, types[_i % 2], "here", modes[_i / 2], &error);
		ck_assert_int_eq(lstat("here", &made), 0);
		ck_assert_uint_eq(made.st_mode, S_IFSOCK | modes[_i / 2]);
		ck_assert_uint_eq(umask(022), masks[i]);
		unix_file_remove(&file);
		close(fd);
	}
}

TEST(a_path_too_long_is_refused)
{
	char path[sizeof(file.path) + 1];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	refused(SOCK_STREAM, path, ENAMETOOLONG,
	    "too long for the path of a socket");
	path[sizeof(path) - 2] = '\0';
	close(bound(SOCK_STREAM, path));
}

TEST(the_error_names_a_missing_folder_and_missing_permission)
{
	refused(SOCK_STREAM, "no/where", ENOENT,
	    "its folder doesn't exist (make it, or name another path)");
	refused(SOCK_STREAM, "", ENOENT, strerror(ENOENT));
	ck_assert_int_eq(mkdir("theirs", 0555), 0);
	ck_assert_int_eq(chmod(".", 0755), 0);
	become(NOBODY);
	refused(SOCK_DGRAM, "theirs/here", EACCES, strerror(EACCES));
	become(0);
	ck_assert_int_eq(chmod("theirs", 0755), 0);
}

/* Only its owner may ask whether the socket lives. */
TEST(a_socket_that_cannot_be_checked_is_left_alone)
{
	int theirs = stranger(SOCK_DGRAM, "here");

	if (geteuid() != 0)
		ck_assert_int_eq(chmod("here", 0), 0);
	become(NOBODY);
	ck_assert_int_eq(try(SOCK_DGRAM, "here"), -1);
	ck_assert_int_eq(errno, EACCES);
	become(0);
	ck_assert(exists("here"));
	close(theirs);
}

/* Not a file that replaced ours, nor the target of a link. */
TEST(only_our_own_file_is_removed_or_gets_another_mode, .count = 2)
{
	int fd = bound(types[_i], "here"), other;
	struct stat now;

	ck_assert_int_eq(unix_file_set_mode(&file, 0660), 0);
	ck_assert_int_eq(lstat("here", &now), 0);
	ck_assert_uint_eq(now.st_mode, S_IFSOCK | 0660);
	ck_assert(unix_file_stands(&file));
	ck_assert_int_eq(rename("here", "there"), 0);
	ck_assert_int_eq(unix_file_set_mode(&file, 0600), -1);
	ck_assert_int_eq(errno, ENOENT);
	other = stranger(types[_i], "here");
	ck_assert_int_eq(unix_file_set_mode(&file, 0600), -1);
	ck_assert_int_eq(errno, ESTALE);
	ck_assert(!unix_file_stands(&file));
	unix_file_remove(&file);
	ck_assert_str_eq(file.path, "");
	ck_assert(exists("here"));
	ck_assert_int_eq(unlink("here"), 0);
	ck_assert_int_eq(symlink("there", "here"), 0);
	strcpy(file.path, "here");
	ck_assert_int_eq(unix_file_set_mode(&file, 0600), -1);
	ck_assert_int_eq(lstat("there", &now), 0);
	ck_assert_uint_eq(now.st_mode, S_IFSOCK | 0660);
	close(other);
	close(fd);
}

/* A cleaner removes the file between bind() and our check. */
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

TEST(a_file_that_is_removed_at_once_is_not_an_error)
{
	int fd;

	removed_at_listen = "here";
	fd = bound(SOCK_STREAM, "here");
	ck_assert_str_eq(file.path, "here");
	ck_assert(!unix_file_stands(&file));
	close(fd);
}

/* Any user who can read the folder can lock it. A start with three sockets waits
 * 0.1 s for each; the limit allows for a slow machine, and is below the 30 s that
 * a wrong unit would take. */
TEST(a_folder_that_stays_locked_does_not_delay_the_start, .seconds = 120)
{
	int64_t before_ms = clock_now_ms();
	int folder = open(".", O_RDONLY);

	ck_assert_int_eq(flock(folder, LOCK_EX), 0);
	leave_stale(SOCK_STREAM, "here");
	close(bound(SOCK_STREAM, "here"));
	ck_assert_int_ge(clock_now_ms() - before_ms, 90);
	ck_assert_int_lt(clock_now_ms() - before_ms, 5000);
	close(folder);
}

/* Two processes that start at the same moment. */
struct race {
	atomic_int ready, bound, done;
	atomic_bool over;
};

static void
run_racer(struct race *race, int type)
{
	atomic_fetch_add(&race->ready, 1);
	while (atomic_load(&race->ready) < 2)
		sched_yield();
	if (try(type, "here") >= 0)
		atomic_fetch_add(&race->bound, 1);
	else if (errno != EADDRINUSE)
		atomic_fetch_add(&race->bound, 100);
	atomic_fetch_add(&race->done, 1);
	while (!atomic_load(&race->over))
		sched_yield();
	_exit(0);
}

TEST(of_two_that_find_a_stale_socket_exactly_one_wins, .count = 2,
    .seconds = 120)
{
	struct race *race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANON, -1, 0);

	for (int round = 0; round < 200; round++) {
		*race = (struct race){ .ready = 0 };
		leave_stale(types[_i], "here");
		for (int i = 0; i < 2; i++)
			if (fork() == 0)
				run_racer(race, types[_i]);
		while (atomic_load(&race->done) < 2)
			sched_yield();
		ck_assert_int_eq(atomic_load(&race->bound), 1);
		close(connected_unix(types[_i], "here"));
		atomic_store(&race->over, true);
		while (wait(NULL) > 0)
			;
		ck_assert_int_eq(unlink("here"), 0);
	}
}
