#include "base/trust.h"

#include "tests/support/suite.h"

#define STRANGER ((uid_t)12345)
#define FRIEND ((uid_t)12346)

static void
folder(const char *path, mode_t mode)
{
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static bool
trusted(const char *path, uid_t owner)
{
	return trust_owner(path, owner, TRUST_NO_USER);
}

FIXTURE(scratch_enter, scratch_leave)

TEST(a_folder_that_only_its_owner_may_write_needs_no_check)
{
	folder("private", 0755);
	ck_assert(trusted("private/vm", STRANGER));
	ck_assert(trusted("private/vm", TRUST_NO_USER));
}

static const mode_t shared[] = { 0777, 0770, 0702, 01777, 01770 };

TEST(
    in_a_shared_folder_a_strangers_file_is_not_trusted, .count = LENGTH(shared))
{
	folder("shared", shared[_i]);
	ck_assert(!trusted("shared/vm", STRANGER));
	ck_assert(!trusted("shared/vm", TRUST_NO_USER));
	ck_assert(!trust_owner("shared/vm", STRANGER, FRIEND));
	ck_assert(trust_owner("shared/vm", FRIEND, FRIEND));
	ck_assert(trusted("shared/vm", 0));
	ck_assert(trusted("shared/vm", geteuid()));
}

/* The sticky bit keeps others from replacing it, not from being the first. */
TEST(a_strangers_file_in_a_shared_folder_is_untrusted)
{
	if (geteuid() != 0)
		return; /* only root can give a folder away */
	folder("shared", 01777);
	folder("shared/strangers", 0755);
	folder("shared/strangers/deeper", 0755);
	ck_assert_int_eq(chown("shared/strangers", STRANGER, (gid_t)-1), 0);
	ck_assert(!trusted("shared/strangers/vm", STRANGER));
	ck_assert(!trusted("shared/strangers/vm", 0));
	ck_assert(!trusted("shared/strangers/deeper/vm", STRANGER));
	folder("private", 0700);
	ck_assert_int_eq(symlink("../private", "shared/link"), 0);
	ck_assert(trusted("shared/link/vm", STRANGER));
	ck_assert_int_eq(lchown("shared/link", STRANGER, (gid_t)-1), 0);
	ck_assert(!trusted("shared/link/vm", 0));
	/* In a sticky folder the kernel may refuse to follow a stranger's link
	 * (fs.protected_symlinks). */
	ck_assert_int_eq(chmod("shared", 0777), 0);
	ck_assert(trust_owner("shared/link/vm", STRANGER, STRANGER));
}

TEST(a_private_folder_that_others_can_replace_is_shared)
{
	folder("above", 0777);
	folder("above/private", 0700);
	folder("above/private/deeper", 0700);
	ck_assert(!trusted("above/private/vm", STRANGER));
	ck_assert(!trusted("above/private/deeper/vm", STRANGER));
	ck_assert_int_eq(chmod("above", 01777), 0);
	ck_assert(trusted("above/private/vm", STRANGER));
}

TEST(a_links_target_and_its_folder_count)
{
	folder("private", 0700);
	folder("shared", 0777);
	folder("shared/private", 0700);
	ck_assert_int_eq(symlink("shared", "to_shared"), 0);
	ck_assert_int_eq(symlink("shared/private", "to_below"), 0);
	ck_assert_int_eq(symlink("../private", "shared/to_private"), 0);
	ck_assert(!trusted("to_shared/vm", STRANGER));
	ck_assert(!trusted("to_below/vm", STRANGER));
	ck_assert(!trusted("shared/to_private/vm", STRANGER));
	ck_assert_int_eq(symlink("private", "to_private"), 0);
	ck_assert(trusted("to_private/vm", STRANGER));
}

TEST(a_path_may_be_relative_or_lie_at_the_top)
{
	ck_assert(trusted("vm", STRANGER));
	ck_assert(trusted("/vm", STRANGER));
	ck_assert_int_eq(chmod(".", 0777), 0);
	ck_assert(!trusted("vm", STRANGER));
	ck_assert(!trusted("./vm", STRANGER));
	folder("below", 0700);
	ck_assert_int_eq(chdir("below"), 0);
	ck_assert(!trusted("vm", STRANGER));
	ck_assert_int_eq(chdir(".."), 0);
	ck_assert_int_eq(chmod(".", 0700), 0);
}

TEST(a_folder_that_cant_be_examined_is_not_trusted)
{
	char path[5000];

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	ck_assert(!trusted("nowhere/vm", 0));
	ck_assert(!trusted(path, 0));
}
