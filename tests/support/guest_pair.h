/* A guest whose socket is one end of a pair. */
#ifndef TESTS_SUPPORT_GUEST_PAIR_H
#define TESTS_SUPPORT_GUEST_PAIR_H

#include "guest/guest.h"
#include "tests/support/suite.h"

/* Returns the guest's own end. */
static inline int
guest_open_pair(struct guest *guest)
{
	struct guest_endpoint endpoint = { .kind = GUEST_FD };
	struct error error;
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	endpoint.fd = ends[0];
	ck_assert_int_eq(guest_open(guest, &endpoint, 0, NULL, 0, &error), 0);
	return ends[1];
}

#endif
