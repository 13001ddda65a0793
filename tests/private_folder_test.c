#include "base/private_folder.h"

#include "tests/support/suite.h"

static struct private_folder folder;
static char path[PRIVATE_PATH_BYTES], here[64];
static struct error error;

static void
set_up(void)
{
	scratch_enter();
	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	setenv("RUNTIME_DIRECTORY", "", 1);
	unsetenv("XDG_RUNTIME_DIR");
	setenv("TMPDIR", here, 1);
	private_folder_init(&folder);
}

static void
tear_down(void)
{
	private_folder_remove(&folder);
	scratch_leave();
}

static void
ask(void)
{
	ck_assert_int_eq(private_folder_path(&folder, "a", path, &error), 0);
}

static bool
is_in(const char *directory)
{
	size_t length = strlen(directory);

	return strncmp(path, directory, length) == 0 &&
	       strncmp(path + length, "/forwarder-", 11) == 0 &&
	       strcmp(path + length + 11 + 6, "/a") == 0;
}

FIXTURE(set_up, tear_down)

TEST(the_folder_is_created_once_and_removed_with_its_files)
{
	char first[PRIVATE_PATH_BYTES];
	struct stat made;

	ask();
	ck_assert(is_in(here));
	strcpy(first, path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	ask();
	ck_assert_str_eq(path, first);
	*strrchr(first, '/') = '\0';
	ck_assert_int_eq(stat(first, &made), 0);
	ck_assert_uint_eq(made.st_mode & 07777, 0700);
	private_folder_remove(&folder);
	ck_assert_int_lt(stat(first, &made), 0);
}

TEST(the_runtime_directory_of_a_service_comes_first)
{
	char entries[100];

	ck_assert_int_eq(mkdir("run", 0755), 0);
	snprintf(entries, sizeof(entries), "%s/run:/elsewhere", here);
	setenv("RUNTIME_DIRECTORY", entries, 1);
	ask();
	entries[strlen(here) + 4] = '\0';
	ck_assert(is_in(entries));
}

/* Relative, missing, too long for a socket. */
TEST(a_directory_that_cannot_be_used_is_skipped, .count = 3)
{
	char longest[PRIVATE_PATH_BYTES];

	snprintf(longest, sizeof(longest), "%s/%0*d", here,
	    (int)(sizeof(longest) - strlen(here) - 20), 0);
	ck_assert_int_eq(mkdir("run", 0700) | mkdir(longest, 0700), 0);
	setenv("XDG_RUNTIME_DIR",
	    (const char *[]){ "run", "/nowhere/at/all", longest }[_i], 1);
	ask();
	ck_assert(is_in(here));
}

/* Its owner could replace the folder. */
TEST(a_directory_that_others_may_write_to_is_skipped)
{
	ck_assert_int_eq(mkdir("open", 0777), 0);
	ck_assert_int_eq(chmod("open", 0777), 0);
	setenv("XDG_RUNTIME_DIR", strcat(strcpy(path, here), "/open"), 1);
	ask();
	ck_assert(is_in(here));
	ck_assert_int_eq(rmdir("open"), 0); /* nothing is left there */
}

TEST(a_folder_that_was_removed_or_replaced_is_created_again, .count = 2)
{
	char first[PRIVATE_PATH_BYTES];

	ask();
	strcpy(first, path);
	*strrchr(first, '/') = '\0';
	ck_assert_int_eq(rmdir(first), 0);
	if (_i == 1) {
		ck_assert_int_eq(mkdir(first, 0777), 0);
		ck_assert_int_eq(chmod(first, 0777), 0);
	}
	ask();
	ck_assert(is_in(here));
	ck_assert_int_ne(strncmp(path, first, strlen(first)), 0);
}
