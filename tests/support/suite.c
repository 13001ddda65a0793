#include "tests/support/suite.h"

#include <ftw.h>

/* Ends a test that hangs; times CK_TIMEOUT_MULTIPLIER. */
#define SECONDS 10

static struct suite_entry *entries; /* in the order of their lines */

/* The order of constructors is unspecified. */
void
suite_add(struct suite_entry *entry)
{
	struct suite_entry **at = &entries;

	while (*at && (*at)->test.line < entry->test.line)
		at = &(*at)->next;
	entry->next = *at;
	*at = entry;
}

__attribute__((weak)) int
suite_program(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	return -1;
}

static void
add_test(Suite *suite, const struct suite_entry *entry,
    const struct suite_entry *fixture)
{
	TCase *tc = tcase_create(entry->test.name);

	if (fixture)
		tcase_add_checked_fixture(
		    tc, fixture->set_up, fixture->tear_down);
	tcase_set_timeout(tc, entry->seconds > 0 ? entry->seconds : SECONDS);
	tcase_add_loop_test(
	    tc, &entry->test, 0, entry->count > 0 ? entry->count : 1);
	suite_add_tcase(suite, tc);
}

int
main(int count, char **arguments)
{
	int status = suite_program(count, arguments), failed;
	const struct suite_entry *fixture = NULL;
	Suite *suite;
	SRunner *runner;

	if (status >= 0)
		return status;
	suite = suite_create(arguments[0]);
	for (const struct suite_entry *e = entries; e; e = e->next) {
		if (e->test.fn)
			add_test(suite, e, fixture);
		else
			fixture = e;
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

static char scratch[] = "/tmp/forwarder-XXXXXX";

void
scratch_enter(void)
{
	ck_assert_ptr_nonnull(mkdtemp(scratch));
	ck_assert_int_eq(chdir(scratch), 0);
}

static int
remove_one(
    const char *path, const struct stat *status, int kind, struct FTW *at)
{
	(void)status;
	(void)kind;
	(void)at;
	return remove(path);
}

void
scratch_leave(void)
{
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(nftw(scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

bool
is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

unsigned
open_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += is_open(fd);
	return count;
}

int
limit_descriptors(int number)
{
	struct rlimit limit;
	int before;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	before = (int)limit.rlim_cur;
	limit.rlim_cur = (rlim_t)number;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return before;
}

void
become(uid_t user)
{
	if (getuid() == 0)
		ck_assert_int_eq(seteuid(user), 0);
}

/* splitmix64 */
uint32_t
suite_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)((x ^ x >> 31) >> 32);
}
