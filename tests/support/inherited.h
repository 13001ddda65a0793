/* For suites that start themselves as another program: what that program has
 * inherited, which it writes to a file. */
#ifndef TESTS_SUPPORT_INHERITED_H
#define TESTS_SUPPORT_INHERITED_H

#include "tests/support/suite.h"

#define DESCRIPTORS 64
#define SIGNALS 32

struct inherited {
	bool open[DESCRIPTORS];
	bool blocked[SIGNALS], ignored[SIGNALS];
};

/* In the program. */
static inline struct inherited
inherited_look(void)
{
	struct inherited it = { 0 };
	struct sigaction action;
	sigset_t mask;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (int i = 0; i < DESCRIPTORS; i++)
		it.open[i] = is_open(i);
	for (int i = 1; i < SIGNALS; i++) {
		it.blocked[i] = sigismember(&mask, i) == 1;
		it.ignored[i] = sigaction(i, NULL, &action) == 0 &&
				action.sa_handler == SIG_IGN;
	}
	return it;
}

/* Returns the exit status of the program. */
static inline int
inherited_tell(const char *to, const void *told, size_t bytes)
{
	FILE *file = fopen(to, "w");

	return !file || fwrite(told, bytes, 1, file) != 1 || fclose(file) != 0;
}

/* In the test. */
static inline void
inherited_read(const char *from, void *told, size_t bytes)
{
	FILE *file = fopen(from, "r");

	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fread(told, bytes, 1, file), 1);
	fclose(file);
}

#endif
