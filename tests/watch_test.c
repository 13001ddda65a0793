#include "reconnect/watch.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/listener.h"
#include "tests/support/suite.h"

static struct watch watch;
static char here[64]; /* the scratch folder, absolute */

static void
set_up(void)
{
	scratch_enter();
	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	watch_init(&watch);
	ck_assert_int_ge(watch.fd, 0);
}

static void
tear_down(void)
{
	watch_destroy(&watch);
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
	struct pollfd fd = { .fd = watch.fd, .events = POLLIN };

	return poll(&fd, 1, 0) == 1;
}

/* The kernel tells of a change before the call that made it returns. */
static bool
appeared(void)
{
	bool seen = false;

	for (int wakeups = 0; readable(); wakeups++) {
		ck_assert_msg(wakeups < 10, "the watch wakes itself for ever");
		seen |= watch_appeared(&watch);
	}
	return seen;
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

START_TEST(a_path_appears_by_bind)
{
	int fd;

	watch_arm(&watch, at("sock"));
	ck_assert(!appeared());
	fd = bound_unix("sock");
	ck_assert(appeared());
	ck_assert(!appeared());
	close(fd);
}
END_TEST

START_TEST(a_path_appears_by_rename)
{
	touch("sock.new");
	watch_arm(&watch, at("sock"));
	ck_assert_int_eq(rename("sock.new", "sock"), 0);
	ck_assert(appeared());
}
END_TEST

START_TEST(a_path_appears_by_being_replaced)
{
	touch("sock");
	touch("sock.new");
	watch_arm(&watch, at("sock"));
	ck_assert_int_eq(rename("sock.new", "sock"), 0);
	ck_assert(appeared());
}
END_TEST

START_TEST(a_path_appears_again_and_again)
{
	watch_arm(&watch, at("sock"));
	for (int i = 0; i < 10; i++) {
		touch("sock");
		ck_assert(appeared());
		ck_assert_int_eq(unlink("sock"), 0);
		ck_assert(!appeared());
	}
}
END_TEST

START_TEST(a_path_that_is_opened_to_us_appears)
{
	touch("sock");
	watch_arm(&watch, at("sock"));
	ck_assert_int_eq(chmod("sock", 0666), 0);
	ck_assert(appeared());
}
END_TEST

START_TEST(other_names_do_not_count)
{
	watch_arm(&watch, at("sock"));
	touch("soc");
	touch("sock2");
	touch("asock");
	make_folder("folder");
	ck_assert(!appeared());
}
END_TEST

START_TEST(a_removed_path_has_not_appeared)
{
	touch("sock");
	watch_arm(&watch, at("sock"));
	ck_assert_int_eq(unlink("sock"), 0);
	ck_assert(!appeared());
}
END_TEST

START_TEST(what_was_there_before_is_not_told)
{
	touch("sock");
	watch_arm(&watch, at("sock"));
	ck_assert(!appeared());
}
END_TEST

START_TEST(a_missing_folder_is_followed_level_by_level)
{
	watch_arm(&watch, at("a/b/c/sock"));
	make_folder("a");
	ck_assert(!appeared());
	make_folder("a/b");
	ck_assert(!appeared());
	make_folder("a/b/c");
	ck_assert(!appeared());
	touch("a/b/c/sock");
	ck_assert(appeared());
}
END_TEST

START_TEST(folders_that_come_all_at_once_are_not_missed)
{
	watch_arm(&watch, at("a/b/c/sock"));
	make_folder("a");
	make_folder("a/b");
	make_folder("a/b/c");
	touch("a/b/c/sock");
	ck_assert(appeared());
}
END_TEST

START_TEST(a_ready_folder_moved_into_place_is_not_missed)
{
	make_folder("new");
	make_folder("new/b");
	touch("new/b/sock");
	watch_arm(&watch, at("a/b/sock"));
	ck_assert_int_eq(rename("new", "a"), 0);
	ck_assert(appeared());
}
END_TEST

/* It watched the folder above anew at each event, and was told of that. */
START_TEST(a_stir_above_a_missing_folder_does_not_wake_for_ever)
{
	watch_arm(&watch, at("a/sock"));
	touch("something else");
	ck_assert(!appeared());
	ck_assert(!readable());
}
END_TEST

START_TEST(a_folder_may_be_removed_and_come_back)
{
	make_folder("a");
	watch_arm(&watch, at("a/sock"));
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
END_TEST

START_TEST(a_folder_may_come_back_before_anyone_looks)
{
	make_folder("a");
	watch_arm(&watch, at("a/sock"));
	ck_assert_int_eq(rmdir("a"), 0);
	make_folder("a");
	touch("a/sock");
	ck_assert(appeared());
	ck_assert_int_eq(unlink("a/sock"), 0);
	touch("a/sock");
	ck_assert(appeared());
}
END_TEST

START_TEST(a_folder_may_be_moved_away)
{
	make_folder("a");
	watch_arm(&watch, at("a/sock"));
	ck_assert_int_eq(rename("a", "b"), 0);
	ck_assert(!appeared());
	touch("b/sock");
	ck_assert(!appeared());
	make_folder("a");
	touch("a/sock");
	ck_assert(appeared());
}
END_TEST

START_TEST(a_file_where_the_folder_should_be_is_waited_out)
{
	touch("a");
	watch_arm(&watch, at("a/sock"));
	ck_assert_int_eq(unlink("a"), 0);
	make_folder("a");
	touch("a/sock");
	ck_assert(appeared());
}
END_TEST

static const char *const relative[] = { "sock", "a/sock", "aa/sock", "a/b/sock",
	"aa/b/sock", "./sock", "a//sock" };

START_TEST(a_relative_path_is_watched_too)
{
	char folder[16];

	watch_arm(&watch, relative[_i]);
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
END_TEST

START_TEST(disarmed_it_is_silent)
{
	watch_arm(&watch, at("sock"));
	touch("sock");
	watch_disarm(&watch);
	ck_assert(!readable());
	ck_assert_int_eq(unlink("sock"), 0);
	touch("sock");
	ck_assert(!readable());
	watch_disarm(&watch);
	ck_assert(!readable());
}
END_TEST

START_TEST(armed_anew_it_watches_the_new_path_only)
{
	make_folder("a");
	watch_arm(&watch, at("sock"));
	watch_arm(&watch, at("a/sock"));
	touch("sock");
	ck_assert(!appeared());
	touch("a/sock");
	ck_assert(appeared());
}
END_TEST

START_TEST(arming_a_thousand_times_leaks_nothing)
{
	unsigned before;

	make_folder("a");
	watch_arm(&watch, at("a/sock"));
	before = open_descriptors();
	for (int i = 0; i < 1000; i++) {
		watch_arm(&watch, at(i % 2 ? "a/sock" : "missing/b/sock"));
		if (i % 3 == 0)
			watch_disarm(&watch);
	}
	watch_arm(&watch, at("a/sock"));
	ck_assert_uint_eq(open_descriptors(), before);
	ck_assert(!readable());
	touch("a/sock");
	ck_assert(appeared());
}
END_TEST

START_TEST(without_a_watch_nothing_fails)
{
	struct watch none = { .fd = -1, .target = -1 };

	watch_arm(&none, at("sock"));
	watch_disarm(&none);
	watch_destroy(&none);
}
END_TEST

static TCase *
paths(void)
{
	TCase *tc = tcase_create("paths");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, a_path_appears_by_bind);
	tcase_add_test(tc, a_path_appears_by_rename);
	tcase_add_test(tc, a_path_appears_by_being_replaced);
	tcase_add_test(tc, a_path_appears_again_and_again);
	tcase_add_test(tc, a_path_that_is_opened_to_us_appears);
	tcase_add_test(tc, other_names_do_not_count);
	tcase_add_test(tc, a_removed_path_has_not_appeared);
	tcase_add_test(tc, what_was_there_before_is_not_told);
	tcase_add_loop_test(tc, a_relative_path_is_watched_too, 0,
	    (int)(sizeof(relative) / sizeof(*relative)));
	return tc;
}

static TCase *
folders(void)
{
	TCase *tc = tcase_create("folders");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, a_missing_folder_is_followed_level_by_level);
	tcase_add_test(tc, folders_that_come_all_at_once_are_not_missed);
	tcase_add_test(tc, a_ready_folder_moved_into_place_is_not_missed);
	tcase_add_test(
	    tc, a_stir_above_a_missing_folder_does_not_wake_for_ever);
	tcase_add_test(tc, a_folder_may_be_removed_and_come_back);
	tcase_add_test(tc, a_folder_may_come_back_before_anyone_looks);
	tcase_add_test(tc, a_folder_may_be_moved_away);
	tcase_add_test(tc, a_file_where_the_folder_should_be_is_waited_out);
	return tc;
}

static TCase *
arming(void)
{
	TCase *tc = tcase_create("arming");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, disarmed_it_is_silent);
	tcase_add_test(tc, armed_anew_it_watches_the_new_path_only);
	tcase_add_test(tc, arming_a_thousand_times_leaks_nothing);
	tcase_add_test(tc, without_a_watch_nothing_fails);
	return tc;
}

int
main(void)
{
	Suite *suite = suite_create("watch");

	suite_add_tcase(suite, paths());
	suite_add_tcase(suite, folders());
	suite_add_tcase(suite, arming());
	return suite_run(suite);
}
