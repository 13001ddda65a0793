/* The guest that a suite tests, in a scratch folder of its own. The descriptors
 * that the test opens are counted, so that none of the guest's is left. */
#ifndef TESTS_SUPPORT_OPENED_GUEST_H
#define TESTS_SUPPORT_OPENED_GUEST_H

#include "guest/guest.h"
#include "tests/support/suite.h"

static struct guest guest;
static struct batch received, sent;
static struct error error;
static atomic_int others;            /* guests that replaced another */
static unsigned descriptors;         /* that the test itself has open */
static struct guest_offer offers[4]; /* for the next guest_open() */
static size_t offered;

static inline void
count_one(void *context)
{
	++*(atomic_int *)context;
}

static inline int
try_open(struct guest *it, const char *text, mode_t mode)
{
	struct guest_endpoint endpoint;

	ck_assert_int_eq(guest_endpoint_parse(&endpoint, text, &error), 0);
	return guest_open(it, &endpoint, mode, offers, offered, &error);
}

static inline void
open_guest(const char *text, mode_t mode)
{
	ck_assert_msg(try_open(&guest, text, mode) == 0, "%s", error.text);
	guest.on_replaced = count_one;
	guest.context = &others;
}

static inline void
opened_guest_set_up(void)
{
	scratch_enter();
	offered = 0;
	descriptors = open_descriptors();
	ck_assert_int_eq(batch_create(&received), 0);
	ck_assert_int_eq(batch_create(&sent), 0);
}

static inline void
opened_guest_tear_down(void)
{
	guest_close(&guest);
	batch_destroy(&received);
	batch_destroy(&sent);
	scratch_leave();
	ck_assert_uint_eq(open_descriptors(), descriptors);
}

static inline int
own(int fd)
{
	ck_assert_int_ge(fd, 0);
	descriptors++;
	return fd;
}

static inline void
hang_up(int fd)
{
	close(fd);
	descriptors--;
}

/* Does what main() does when it wakes. Returns whether an event would have woken
 * it. */
static inline bool
serve(void)
{
	struct pollfd fds[GUEST_DESCRIPTORS];
	bool told;

	guest_watch(&guest, fds);
	told = poll(fds, GUEST_DESCRIPTORS, 0) > 0;
	guest_serve(&guest, fds);
	return told;
}

static inline const char *
peer(void)
{
	static char text[120];

	guest_describe(&guest, text, sizeof(text));
	return text;
}

#endif
