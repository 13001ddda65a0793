/* Shared by the suites: tests that register themselves, a scratch folder,
 * descriptors. A suite is a file of
 *
 *	FIXTURE(set_up, tear_down)
 *
 *	TEST(a_promise_as_a_sentence)
 *	{
 *		ck_assert(...);
 *	}
 *
 * and needs no main(); the usual system headers are included here. A fixture
 * applies to the tests below it. Each test is a Check case of the same name:
 * CK_RUN_CASE=a_promise_as_a_sentence. */
#ifndef TESTS_SUPPORT_SUITE_H
#define TESTS_SUPPORT_SUITE_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct suite_entry {
	TTest test; /* without a function: a fixture */
	SFun set_up, tear_down;
	int count;   /* run with _i from 0 to count - 1; 0: once */
	int seconds; /* limit; 0: 10 */
	struct suite_entry *next;
};
void suite_add(struct suite_entry *entry);

#define SUITE_ENTRY(id, ...)                                                   \
	static struct suite_entry entry_##id = { __VA_ARGS__ };                \
	__attribute__((constructor)) static void add_##id(void)                \
	{                                                                      \
		suite_add(&entry_##id);                                        \
	}

/* TEST(name), TEST(name, .count = LENGTH(cases)), TEST(name, .seconds = 30) */
#define TEST(name, ...)                                                        \
	static void name(int _i);                                              \
	SUITE_ENTRY(                                                           \
	    name, .test = { #name, name, __FILE__, __LINE__ }, __VA_ARGS__)    \
	static void name(int _i __attribute__((unused)))

#define FIXTURE(before, after) FIXTURE_AT(before, after, __LINE__)
#define FIXTURE_AT(before, after, line) FIXTURE_ID(before, after, line)
#define FIXTURE_ID(before, after, line)                                        \
	SUITE_ENTRY(fixture_##line, .test = { NULL, NULL, __FILE__, line },    \
	    .set_up = before, .tear_down = after)

#define LENGTH(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* Defined by a suite that also starts itself as another program: returns that
 * program's exit status, or -1 to run the tests. */
int suite_program(int count, char **arguments);

/* A checked fixture: the test runs inside a fresh folder. */
void scratch_enter(void);
void scratch_leave(void);

/* Returns how many descriptors this process has open. */
unsigned open_descriptors(void);

bool is_open(int fd);

/* Lets the process open only descriptors below this number. Returns the limit
 * before. */
int limit_descriptors(int number);

/* Becomes that user, as root; other users stay who they are. */
void become(uid_t user);

/* Pseudo-random numbers, the same in every run. */
uint32_t suite_random(uint64_t *state);

#endif
