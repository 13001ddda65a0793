#include "base/file_watch.h"

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/listener.h"
#include "tests/support/suite.h"

#define NOBODY 65534

static struct file_watch watch, other;
static struct doorbell bell, other_bell;
static unsigned descriptors_before;
static char here[64]; /* the scratch folder, absolute */

static void
set_up(void)
{
	scratch_enter();
	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	ck_assert_int_eq(doorbell_init(&bell), 0);
	ck_assert_int_eq(doorbell_init(&other_bell), 0);
	descriptors_before = open_descriptors();
	file_watch_init(&watch, &bell);
	file_watch_init(&other, &other_bell);
}

static void
tear_down(void)
{
	file_watch_destroy(&watch);
	file_watch_destroy(&other);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
	doorbell_destroy(&bell);
	doorbell_destroy(&other_bell);
	scratch_leave();
}

/* The absolute path of what lies in the scratch folder. */
static const char *
at(const char *name)
{
	static char path[108];

	snprintf(path, sizeof(path), "%s/%s", here, name);
	return path;
}

static bool
readable(void)
{
	struct pollfd fd = { .fd = file_watch_fd(&watch), .events = POLLIN };

	return poll(&fd, 1, 0) == 1;
}

static bool
rings(struct doorbell *which)
{
	struct pollfd fd = { .fd = which->fds[0], .events = POLLIN };
	bool rung = poll(&fd, 1, 0) == 1;

	doorbell_answer(which);
	return rung;
}

/* The kernel tells of a change before the call that made it returns. */
static bool
appeared(void)
{
	bool seen = false;

	ck_assert(!rings(&bell)); /* nobody else reads */
	for (int wakeups = 0; readable(); wakeups++) {
		ck_assert_msg(wakeups < 10, "the watch wakes itself for ever");
		seen |= file_watch_appeared(&watch);
	}
	return seen;
}

/* A folder that is made the moment after the system has refused to watch it,
 * and what else is made in it. */
static char late_folder[128];

int inotify_add_watch(int fd, const char *path, uint32_t mask);

int
inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	int (*real)(int, const char *, uint32_t) =
	    dlsym(RTLD_NEXT, "inotify_add_watch");
	int result = real(fd, path, mask), error = errno;

	if (result < 0 && strcmp(path, late_folder) == 0)
		ck_assert_int_eq(mkdir(path, 0700), 0);
	errno = error;
	return result;
}

static void
limit_descriptors(int number)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = (rlim_t)number;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void
touch(const char *name)
{
	int fd = open(name, O_CREAT | O_WRONLY, 0600);

	ck_assert_int_ge(fd, 0);
	close(fd);
}

static void
make_folder(const char *name)
{
	ck_assert_int_eq(mkdir(name, 0700), 0);
}

FIXTURE(set_up, tear_down)

TEST(a_path_appears_by_bind)
{
	int fd;

	file_watch_path(&watch, at("sock"));
	ck_assert(!appeared());
	fd = bound_unix("sock");
	ck_assert(appeared());
	ck_assert(!appeared());
	close(fd);
}

TEST(a_path_appears_by_rename)
{
	touch("sock.new");
	file_watch_path(&watch, at("sock"));
	ck_assert_int_eq(rename("sock.new", "sock"), 0);
	ck_assert(appeared());
}

TEST(a_path_appears_by_being_replaced)
{
	touch("sock");
	touch("sock.new");
	file_watch_path(&watch, at("sock"));
	ck_assert_int_eq(rename("sock.new", "sock"), 0);
	ck_assert(appeared());
}

TEST(a_path_appears_again_and_again)
{
	file_watch_path(&watch, at("sock"));
	for (int i = 0; i < 10; i++) {
		touch("sock");
		ck_assert(appeared());
		ck_assert_int_eq(unlink("sock"), 0);
		ck_assert(!appeared());
	}
}

TEST(a_path_that_is_opened_to_us_appears)
{
	touch("sock");
	file_watch_path(&watch, at("sock"));
	ck_assert_int_eq(chmod("sock", 0666), 0);
	ck_assert(appeared());
}

TEST(other_names_do_not_count)
{
	file_watch_path(&watch, at("sock"));
	touch("soc");
	touch("sock2");
	touch("asock");
	make_folder("folder");
	ck_assert(!appeared());
}

TEST(a_removed_path_has_not_appeared)
{
	touch("sock");
	file_watch_path(&watch, at("sock"));
	ck_assert_int_eq(unlink("sock"), 0);
	ck_assert(!appeared());
}

TEST(what_was_there_before_is_not_told)
{
	touch("sock");
	file_watch_path(&watch, at("sock"));
	ck_assert(!appeared());
}

TEST(a_missing_folder_is_followed_level_by_level)
{
	file_watch_path(&watch, at("a/b/c/sock"));
	make_folder("a");
	ck_assert(!appeared());
	make_folder("a/b");
	ck_assert(!appeared());
	make_folder("a/b/c");
	ck_assert(!appeared());
	touch("a/b/c/sock");
	ck_assert(appeared());
}

TEST(folders_that_come_all_at_once_are_not_missed)
{
	file_watch_path(&watch, at("a/b/c/sock"));
	make_folder("a");
	make_folder("a/b");
	make_folder("a/b/c");
	touch("a/b/c/sock");
	ck_assert(appeared());
}

TEST(a_ready_folder_moved_into_place_is_not_missed)
{
	make_folder("new");
	make_folder("new/b");
	touch("new/b/sock");
	file_watch_path(&watch, at("a/b/sock"));
	ck_assert_int_eq(rename("new", "a"), 0);
	ck_assert(appeared());
}

/* It watched the folder above anew at each event, and was told of that. */
TEST(a_stir_above_a_missing_folder_does_not_wake_for_ever)
{
	file_watch_path(&watch, at("a/sock"));
	touch("something else");
	ck_assert(!appeared());
	ck_assert(!readable());
}

TEST(a_folder_may_be_removed_and_come_back)
{
	make_folder("a");
	file_watch_path(&watch, at("a/sock"));
	for (int i = 0; i < 3; i++) {
		touch("a/sock");
		ck_assert(appeared());
		ck_assert_int_eq(unlink("a/sock"), 0);
		ck_assert_int_eq(rmdir("a"), 0);
		ck_assert(!appeared());
		make_folder("a");
		ck_assert(!appeared());
	}
}

TEST(a_folder_may_come_back_before_anyone_looks)
{
	make_folder("a");
	file_watch_path(&watch, at("a/sock"));
	ck_assert_int_eq(rmdir("a"), 0);
	make_folder("a");
	touch("a/sock");
	ck_assert(appeared());
	ck_assert_int_eq(unlink("a/sock"), 0);
	touch("a/sock");
	ck_assert(appeared());
}

TEST(a_folder_may_be_moved_away)
{
	make_folder("a");
	file_watch_path(&watch, at("a/sock"));
	ck_assert_int_eq(rename("a", "b"), 0);
	ck_assert(!appeared());
	touch("b/sock");
	ck_assert(!appeared());
	make_folder("a");
	touch("a/sock");
	ck_assert(appeared());
}

TEST(a_file_where_the_folder_should_be_is_waited_out)
{
	touch("a");
	file_watch_path(&watch, at("a/sock"));
	ck_assert_int_eq(unlink("a"), 0);
	make_folder("a");
	touch("a/sock");
	ck_assert(appeared());
}

static const char *const relative[] = { "sock", "a/sock", "aa/sock", "a/b/sock",
	"aa/b/sock", "./sock", "a//sock" };

TEST(a_relative_path_is_watched_too, .count = LENGTH(relative))
{
	char folder[16];

	file_watch_path(&watch, relative[_i]);
	for (const char *end = relative[_i]; *end; end++) {
		if (end == relative[_i] || *end != '/')
			continue;
		snprintf(folder, sizeof(folder), "%.*s",
		    (int)(end - relative[_i]), relative[_i]);
		(void)mkdir(folder, 0700);
		ck_assert(!appeared());
	}
	touch(relative[_i]);
	ck_assert(appeared());
}

TEST(disarmed_it_is_silent)
{
	file_watch_path(&watch, at("sock"));
	touch("sock");
	file_watch_stop(&watch);
	ck_assert(!readable());
	ck_assert_int_eq(unlink("sock"), 0);
	touch("sock");
	ck_assert(!readable());
	file_watch_stop(&watch);
	ck_assert(!readable());
}

TEST(armed_anew_it_watches_the_new_path_only)
{
	make_folder("a");
	file_watch_path(&watch, at("sock"));
	file_watch_path(&watch, at("a/sock"));
	touch("sock");
	ck_assert(!appeared());
	touch("a/sock");
	ck_assert(appeared());
}

TEST(arming_a_thousand_times_leaks_nothing)
{
	unsigned before;

	make_folder("a");
	file_watch_path(&watch, at("a/sock"));
	before = open_descriptors();
	for (int i = 0; i < 1000; i++) {
		file_watch_path(
		    &watch, at(i % 2 ? "a/sock" : "missing/b/sock"));
		if (i % 3 == 0)
			file_watch_stop(&watch);
	}
	file_watch_path(&watch, at("a/sock"));
	ck_assert_uint_eq(open_descriptors(), before);
	ck_assert(!readable());
	touch("a/sock");
	ck_assert(appeared());
}

/* Nothing is left to open a descriptor with. */
TEST(refused_by_the_system_it_can_be_asked_again)
{
	int last = dup(0);

	close(last);
	limit_descriptors(last);
	ck_assert_int_eq(file_watch_path(&watch, at("sock")), -1);
	ck_assert_int_eq(errno, EMFILE);
	ck_assert_int_eq(file_watch_fd(&watch), -1);
	ck_assert(!file_watch_appeared(&watch));
	ck_assert_int_eq(file_watch_file(&other, here), -1);
	ck_assert_int_eq(errno, EMFILE);
	limit_descriptors(1000);
	ck_assert_int_eq(file_watch_path(&watch, at("sock")), 0);
	touch("sock");
	ck_assert(appeared());
}

/* Nobody may look into the folder, until its owner lets us. */
TEST(a_folder_that_is_opened_to_us_is_not_missed)
{
	make_folder("a");
	touch("a/sock");
	ck_assert_int_eq(chmod("a", 0), 0);
	ck_assert_int_eq(chmod(".", 0755), 0);
	if (geteuid() == 0)
		ck_assert_int_eq(seteuid(NOBODY), 0);
	ck_assert_int_eq(file_watch_path(&watch, at("a/sock")), -1);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_eq(watch.error, EACCES);
	ck_assert_int_eq(seteuid(getuid()), 0);
	ck_assert_int_eq(chmod("a", 0755), 0);
	if (geteuid() == 0)
		ck_assert_int_eq(seteuid(NOBODY), 0);
	ck_assert(appeared());
	ck_assert_int_eq(watch.error, 0);
	ck_assert_int_eq(seteuid(getuid()), 0);
}

/* Whoever of the two reads, both are told. */
TEST(what_another_has_read_is_told_by_the_bell)
{
	touch("theirs");
	file_watch_path(&watch, at("sock"));
	ck_assert_int_eq(file_watch_file(&other, "theirs"), 0);
	ck_assert_int_eq(file_watch_fd(&other), file_watch_fd(&watch));
	touch("sock");
	ck_assert_int_eq(unlink("theirs"), 0);
	ck_assert(!rings(&bell) && !rings(&other_bell));
	ck_assert(file_watch_deleted(&other));
	ck_assert(!rings(&other_bell));
	ck_assert(!readable());
	ck_assert(rings(&bell));
	ck_assert(file_watch_appeared(&watch));
	ck_assert(!file_watch_appeared(&watch) && !file_watch_deleted(&other));
}

TEST(what_another_has_read_is_forgotten_when_armed_anew)
{
	file_watch_path(&watch, at("sock"));
	touch("theirs");
	ck_assert_int_eq(file_watch_file(&other, "theirs"), 0);
	touch("sock");
	ck_assert(!file_watch_deleted(&other));
	file_watch_path(&watch, at("sock"));
	ck_assert(!file_watch_appeared(&watch));
}

TEST(all_watches_share_one_descriptor)
{
	unsigned before = open_descriptors();

	touch("theirs");
	file_watch_path(&watch, at("sock"));
	file_watch_file(&other, "theirs");
	ck_assert_uint_eq(open_descriptors(), before + 1);
	file_watch_destroy(&watch);
	ck_assert_uint_eq(open_descriptors(), before + 1);
	ck_assert_int_eq(unlink("theirs"), 0);
	ck_assert(file_watch_deleted(&other));
}

TEST(a_file_is_deleted_when_it_is_removed)
{
	touch("theirs");
	ck_assert_int_eq(file_watch_file(&watch, "theirs"), 0);
	touch("mine");
	ck_assert(!readable());
	ck_assert_int_eq(chmod("theirs", 0644), 0);
	ck_assert(readable());
	ck_assert(!file_watch_deleted(&watch));
	ck_assert_int_eq(unlink("theirs"), 0);
	ck_assert(file_watch_deleted(&watch));
	ck_assert(!file_watch_deleted(&watch));
}

TEST(a_file_is_deleted_when_it_is_replaced_and_not_when_it_is_moved)
{
	touch("theirs");
	touch("mine");
	ck_assert_int_eq(file_watch_file(&watch, "theirs"), 0);
	ck_assert_int_eq(rename("mine", "theirs"), 0);
	ck_assert(file_watch_deleted(&watch));
	ck_assert_int_eq(file_watch_file(&watch, "theirs"), 0);
	ck_assert_int_eq(rename("theirs", "elsewhere"), 0);
	ck_assert(readable());
	ck_assert(!file_watch_deleted(&watch));
	ck_assert_int_eq(unlink("elsewhere"), 0);
	ck_assert(file_watch_deleted(&watch));
}

/* As a guest's socket does. */
TEST(a_socket_that_is_bound_is_deleted_when_it_is_closed)
{
	int fd = bound_unix("theirs");

	ck_assert_int_eq(file_watch_file(&watch, "theirs"), 0);
	ck_assert_int_eq(unlink("theirs"), 0);
	ck_assert(readable());
	ck_assert(!file_watch_deleted(&watch));
	close(fd);
	ck_assert(file_watch_deleted(&watch));
}

/* Its link count says so, while the inode lives on. */
TEST(a_file_with_another_name_may_be_gone)
{
	touch("theirs");
	ck_assert_int_eq(link("theirs", "too"), 0);
	ck_assert_int_eq(file_watch_file(&watch, "theirs"), 0);
	ck_assert_int_eq(unlink("theirs"), 0);
	ck_assert(readable());
	ck_assert(!file_watch_deleted(&watch));
}

TEST(a_file_that_isnt_there_cant_be_watched)
{
	ck_assert_int_eq(file_watch_file(&watch, "theirs"), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(file_watch_fd(&watch), -1);
	touch("theirs");
	ck_assert(!file_watch_deleted(&watch));
}

/* The system has one target for both: who is first to go doesn't take it. */
TEST(two_may_watch_one_inode)
{
	touch("theirs");
	ck_assert_int_eq(link("theirs", "too"), 0);
	ck_assert_int_eq(file_watch_file(&watch, "theirs"), 0);
	ck_assert_int_eq(file_watch_file(&other, "too"), 0);
	file_watch_stop(&other);
	(void)file_watch_deleted(&watch);
	ck_assert_int_eq(rename("theirs", "elsewhere"), 0);
	ck_assert(readable());
}

TEST(a_folder_made_between_two_looks_is_not_missed, .count = 2)
{
	static const char *const late[] = { "a", "a/b" };

	if (_i == 1)
		make_folder("a");
	snprintf(late_folder, sizeof(late_folder), "%s", at(late[_i]));
	file_watch_path(&watch, at("a/b/sock"));
	late_folder[0] = '\0';
	(void)mkdir("a/b", 0700);
	touch("a/b/sock");
	ck_assert(appeared());
}

/* The same by chance: folders and the path come and go under a thread that has
 * to see the path each time, while another one reads its events, too. */
static struct doorbell seen_bell;
static atomic_uint missed;
static atomic_bool over;

static bool
wait_for(struct doorbell *which)
{
	struct pollfd fd = { .fd = which->fds[0], .events = POLLIN };
	bool rung = poll(&fd, 1, 10000) == 1;

	doorbell_answer(which);
	return rung;
}

static void *
come_and_go(void *unused)
{
	for (int i = 0; i < 300 && atomic_load(&missed) == 0; i++) {
		make_folder("a");
		make_folder("a/b");
		doorbell_answer(&seen_bell);
		touch("a/b/sock");
		if (!wait_for(&seen_bell))
			atomic_fetch_add(&missed, 1);
		ck_assert_int_eq(unlink("a/b/sock"), 0);
		ck_assert_int_eq(rmdir("a/b"), 0);
		ck_assert_int_eq(rmdir("a"), 0);
	}
	atomic_store(&over, true);
	doorbell_ring(&bell);
	return unused;
}

static void *
read_too(void *unused)
{
	while (!atomic_load(&over)) {
		(void)file_watch_file(&other, here);
		(void)file_watch_deleted(&other);
		sched_yield();
	}
	return unused;
}

TEST(a_path_that_comes_and_goes_is_seen_each_time)
{
	struct pollfd fds[] = { { .events = POLLIN },
		{ .fd = bell.fds[0], .events = POLLIN } };
	pthread_t threads[2];

	ck_assert_int_eq(doorbell_init(&seen_bell), 0);
	file_watch_path(&watch, at("a/b/sock"));
	ck_assert_int_eq(pthread_create(&threads[0], NULL, come_and_go, 0), 0);
	ck_assert_int_eq(pthread_create(&threads[1], NULL, read_too, 0), 0);
	fds[0].fd = file_watch_fd(&watch);
	while (!atomic_load(&over)) {
		ck_assert_int_ge(poll(fds, 2, -1), 1);
		doorbell_answer(&bell);
		if (file_watch_appeared(&watch))
			doorbell_ring(&seen_bell);
	}
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	doorbell_destroy(&seen_bell);
	ck_assert_uint_eq(atomic_load(&missed), 0);
}
