/* What the suites share: running, a folder of their own, descriptors. */
#ifndef TESTS_SUPPORT_SUITE_H
#define TESTS_SUPPORT_SUITE_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

/* Runs the suite; returns main()'s status. */
int suite_run(Suite *suite);

/* How often to repeat each test: the number in that variable, else 1. */
int suite_rounds(const char *variable);

/* A checked fixture: the test runs inside a fresh folder. */
void scratch_enter(void);
void scratch_leave(void);

/* How many descriptors this process has. */
unsigned open_descriptors(void);

bool is_open(int fd);

/* Spreads 64 bits evenly, for tests that want luck they can repeat. */
uint32_t suite_random(uint64_t *state);

#endif
