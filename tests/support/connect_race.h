/* For the program that includes this: ThreadSanitizer takes a connect() for the
 * making of a new descriptor, and whoever is inside recv() on it for a racer.
 * The kernel has a lock for that. */
#ifndef TESTS_SUPPORT_CONNECT_RACE_H
#define TESTS_SUPPORT_CONNECT_RACE_H

const char *__tsan_default_suppressions(void);

const char *
__tsan_default_suppressions(void)
{
	return "race:interceptor_connect$\n";
}

#endif
