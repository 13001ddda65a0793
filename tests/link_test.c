#include "reconnect/link.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/support/suite.h"

#define HOUR_MS (60 * 60 * 1000)

static struct link shared;
static unsigned descriptors_before;

static void
set_up(void)
{
	signal(SIGPIPE, SIG_IGN);
	descriptors_before = open_descriptors();
	ck_assert_int_eq(link_init(&shared), 0);
}

/* Every test gives all loans back and closes its peers' ends. */
static void
tear_down(void)
{
	link_destroy(&shared);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
}

static struct link_view
look(void)
{
	struct link_view view;

	link_look(&shared, &view);
	return view;
}

/* A new generation; returns its peer's end. The smallest buffers there are:
 * soon full, soon drained. */
static int
install_unread(void)
{
	int ends[2], smallest = 1;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	for (int i = 0; i < 2; i++)
		setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &smallest,
		    sizeof(smallest));
	ck_assert_uint_eq(link_install(&shared, ends[0]), look().generation);
	return ends[1];
}

static struct loan
borrow_next(void)
{
	struct loan loan;

	ck_assert_int_eq(link_borrow_next(&shared, &loan), LINK_READY);
	return loan;
}

/* One that the reader has had already. */
static int
install(void)
{
	int peer = install_unread();
	struct loan loan = borrow_next();

	link_return(&loan);
	return peer;
}

static int
install_proven(void)
{
	int peer = install();

	link_prove(&shared, look().generation);
	return peer;
}

static struct loan
borrow(void)
{
	struct loan loan;

	ck_assert_int_eq(link_borrow(&shared, &loan, LINK_NO_WAIT), LINK_READY);
	return loan;
}

static enum link_answer
ask(int64_t hold_ms)
{
	struct loan loan;
	enum link_answer answer;

	link_set_hold(&shared, hold_ms);
	answer = link_borrow(&shared, &loan, LINK_WHILE_HELD);

	if (answer == LINK_READY)
		link_return(&loan);
	return answer;
}

static pthread_t
start(void *(*run)(void *), void *argument)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, run, argument), 0);
	return thread;
}

static void
join(pthread_t thread)
{
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

static bool
rings(void)
{
	struct pollfd bell = { .fd = shared.bell.fds[0], .events = POLLIN };

	return poll(&bell, 1, 0) == 1;
}

FIXTURE(set_up, tear_down)

TEST(it_starts_down_in_its_first_outage)
{
	struct link_view view = look();

	ck_assert_int_eq(view.state, LINK_DOWN);
	ck_assert_uint_eq(view.generation, 0);
	ck_assert_uint_eq(view.outages, 0);
	ck_assert_int_eq(ask(0), LINK_WAITED);
}

TEST(a_loan_is_the_present_generation)
{
	int peer = install();
	struct loan loan = borrow();

	ck_assert_uint_eq(loan.generation, 1);
	ck_assert_int_eq(look().state, LINK_UP);
	ck_assert_int_eq(write(loan.fd, "x", 1), 1);
	link_return(&loan);
	ck_assert_int_eq(loan.fd, -1);
	close(peer);
}

TEST(the_first_failure_is_kept)
{
	int peer = install_proven();
	struct link_view view;

	link_fail(&shared, 1, "first");
	link_fail(&shared, 1, "second");
	view = look();
	ck_assert_int_eq(view.state, LINK_DOWN);
	ck_assert_uint_eq(view.outages, 1);
	ck_assert_uint_eq(view.generation, 1);
	ck_assert_str_eq(view.last_error, "first");
	close(peer);
}

TEST(a_late_report_about_an_older_generation_does_nothing)
{
	int old = install_proven(), peer;

	link_fail(&shared, 1, "old");
	peer = install_proven();
	doorbell_answer(&shared.bell);
	link_fail(&shared, 1, "late");
	link_fail(&shared, 0, "never was");
	link_fail(&shared, 3, "not yet");
	ck_assert_int_eq(look().state, LINK_UP);
	ck_assert_uint_eq(look().outages, 1);
	ck_assert_str_eq(look().last_error, "old");
	ck_assert(!rings());
	close(old);
	close(peer);
}

/* A thread with a loan, blocked in a system call until it is woken. */
struct borrower {
	struct loan loan;
	atomic_bool began;
	ssize_t result;
};

static void *
read_until_woken(void *argument)
{
	struct borrower *borrower = argument;
	char byte;

	atomic_store(&borrower->began, true);
	borrower->result = read(borrower->loan.fd, &byte, 1);
	link_return(&borrower->loan);
	return NULL;
}

static void *
write_until_woken(void *argument)
{
	static char much[16 * 1024 * 1024];
	struct borrower *borrower = argument;

	do
		borrower->result = write(borrower->loan.fd, much, sizeof(much));
	while (borrower->result > 0);
	link_return(&borrower->loan);
	return NULL;
}

TEST(a_failure_and_a_stop_wake_what_is_blocked_on_the_descriptor, .count = 2)
{
	int peer = install();
	struct borrower reading = { .loan = borrow(), .result = -1 };
	struct borrower writing = { .loan = borrow() };
	struct pollfd arrived = { .fd = peer, .events = POLLIN };
	pthread_t reader = start(read_until_woken, &reading);
	pthread_t writer = start(write_until_woken, &writing);

	while (!atomic_load(&reading.began))
		sched_yield();
	ck_assert_int_eq(poll(&arrived, 1, -1), 1);
	if (_i == 0)
		link_fail(&shared, 1, "another thread saw it");
	else
		link_stop(&shared);
	join(reader);
	join(writer);
	ck_assert_int_eq(reading.result, 0);
	ck_assert_int_eq(writing.result, -1);
	close(peer);
}

/* It delays neither the next generation nor another descriptor's end. */
TEST(the_last_loan_that_comes_home_closes)
{
	int peer = install(), next;
	struct loan first = borrow(), second = borrow();
	int fd = first.fd;

	link_return(&first);
	ck_assert(is_open(fd));
	first = borrow();
	link_fail(&shared, 1, "gone");
	ck_assert(is_open(fd));
	link_return(&first);
	ck_assert(is_open(fd));
	next = install();
	first = borrow();
	ck_assert_uint_eq(first.generation, 2);
	link_return(&second);
	ck_assert(!is_open(fd));
	ck_assert(is_open(first.fd));
	link_return(&first);
	close(peer);
	close(next);
}

static void
expect_unread(uint64_t generation, const char *bytes)
{
	struct loan loan = borrow_next();
	char found[16] = "";

	ck_assert_uint_eq(loan.generation, generation);
	ck_assert_int_ge(read(loan.fd, found, sizeof(found)), 0);
	ck_assert_str_eq(found, bytes);
	ck_assert_int_eq(read(loan.fd, found, sizeof(found)), 0);
	link_return(&loan);
}

/* One that wrote and closed at once, one that only closed, one that lives. */
TEST(the_reader_gets_every_generation_in_order_and_what_came_on_it)
{
	static const char *const said[] = { "first", "", "third" };

	for (uint64_t i = 0; i < 3; i++) {
		int peer = install_unread();

		ck_assert_int_eq(write(peer, said[i], strlen(said[i])),
		    (ssize_t)strlen(said[i]));
		close(peer);
		if (i < 2)
			link_fail(&shared, i + 1, "peer closed");
	}
	for (uint64_t i = 0; i < 3; i++)
		expect_unread(i + 1, said[i]);
	link_fail(&shared, 3, "peer closed");
}

TEST(a_byte_that_nobody_has_read_yet_is_proof_of_life)
{
	int peer = install();

	ck_assert_int_eq(write(peer, "x", 1), 1);
	link_fail(&shared, 1, "peer closed");
	ck_assert(look().proven);
	close(peer);
}

/* They wait for the reader with their descriptors; there is no room without
 * end, and no memory is taken for one more. */
TEST(too_many_unread_generations_refuse_the_next_one)
{
	int ends[2];
	struct loan loan;

	for (uint64_t i = 1; i <= LINK_CONNECTIONS; i++) {
		close(install_unread());
		link_fail(&shared, i, "peer closed");
	}
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	ck_assert_uint_eq(link_install(&shared, ends[0]), 0);
	ck_assert_int_eq(errno, EBUSY);
	ck_assert(!is_open(ends[0]));
	ck_assert_int_eq(look().state, LINK_DOWN);
	loan = borrow_next();
	link_return(&loan);
	close(ends[1]);
	close(install_unread());
}

/* Threads that wait, and what they are told. */
static enum link_answer answers[6];

static void *
wait_while_held(void *argument)
{
	struct loan loan;
	enum link_answer *answer = argument;

	*answer = link_borrow(&shared, &loan, LINK_WHILE_HELD);
	if (*answer == LINK_READY)
		link_return(&loan);
	return NULL;
}

static void *
wait_for_the_next(void *argument)
{
	struct loan loan;

	*(enum link_answer *)argument = link_borrow_next(&shared, &loan);
	return NULL;
}

TEST(a_new_generation_wakes_every_waiter)
{
	pthread_t waiters[4];
	int peer;

	for (int i = 0; i < 4; i++)
		waiters[i] = start(wait_while_held, &answers[i]);
	peer = install();
	for (int i = 0; i < 4; i++) {
		join(waiters[i]);
		ck_assert_int_eq(answers[i], LINK_READY);
	}
	close(peer);
}

/* Whether it waits already or is only about to: each round is another one of
 * these orders. */
TEST(another_hold_reaches_a_waiting_thread)
{
	for (int round = 0; round < 200; round++) {
		pthread_t waiter = start(wait_while_held, answers);

		link_set_hold(&shared, 0);
		join(waiter);
		ck_assert_int_eq(answers[0], LINK_WAITED);
		link_set_hold(&shared, LINK_HOLD_FOREVER);
	}
}

TEST(a_stop_wakes_every_waiter_now_and_from_now_on, .count = 2)
{
	pthread_t waiters[6];
	struct loan loan;

	if (_i == 1)
		link_set_hold(&shared, HOUR_MS);
	for (int i = 0; i < 6; i++)
		waiters[i] = start(
		    i < 4 ? wait_while_held : wait_for_the_next, &answers[i]);
	link_stop(&shared);
	for (int i = 0; i < 6; i++) {
		join(waiters[i]);
		ck_assert_int_eq(answers[i], LINK_ENDED);
	}
	ck_assert_int_eq(ask(LINK_HOLD_FOREVER), LINK_ENDED);
	ck_assert_int_eq(ask(0), LINK_ENDED);
	ck_assert_int_eq(link_borrow_next(&shared, &loan), LINK_ENDED);
	ck_assert_int_eq(look().state, LINK_STOPPED);
	ck_assert(rings());
}

TEST(a_connection_made_after_the_stop_is_closed)
{
	int ends[2];
	char byte;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	link_stop(&shared);
	link_install(&shared, ends[0]);
	ck_assert(!is_open(ends[0]));
	ck_assert_int_eq(read(ends[1], &byte, 1), 0);
	ck_assert_uint_eq(look().generation, 0);
	close(ends[1]);
}

TEST(a_stop_closes_what_was_never_read)
{
	close(install_unread());
	link_fail(&shared, 1, "peer closed");
	close(install_unread());
	link_stop(&shared);
	ck_assert_uint_eq(open_descriptors(), descriptors_before + 2);
}

TEST(nothing_happens_after_the_stop)
{
	int peer = install_proven();

	link_stop(&shared);
	link_fail(&shared, 1, "late");
	link_stop(&shared);
	ck_assert_int_eq(look().state, LINK_STOPPED);
	ck_assert_uint_eq(look().outages, 0);
	close(peer);
}

/* As if an hour had gone by since whatever it remembers. */
static void
let_an_hour_pass(void)
{
	mutex_lock(&shared.lock);
	shared.outage_since_ms -= HOUR_MS;
	shared.since_ms -= HOUR_MS;
	mutex_unlock(&shared.lock);
}

/* Counted from the question, the answer would come in an hour. */
TEST(frames_are_held_until_the_outage_is_as_old_as_hold)
{
	int64_t asked_ms = clock_now_ms();
	int peer;

	mutex_lock(&shared.lock);
	shared.outage_since_ms = asked_ms;
	mutex_unlock(&shared.lock);
	ck_assert_int_eq(ask(20), LINK_WAITED);
	ck_assert_int_ge(clock_now_ms(), asked_ms + 20);
	let_an_hour_pass();
	ck_assert_int_eq(ask(HOUR_MS), LINK_WAITED);
	ck_assert_int_eq(ask(0), LINK_WAITED);
	peer = install_proven();
	asked_ms = clock_now_ms();
	link_fail(&shared, 1, "gone");
	ck_assert_int_eq(ask(20), LINK_WAITED);
	ck_assert_int_ge(clock_now_ms(), asked_ms + 20);
	close(peer);
}

TEST(a_generation_without_proof_of_life_prolongs_the_outage)
{
	let_an_hour_pass();
	for (uint64_t generation = 1; generation <= 3; generation++) {
		int peer = install();

		link_fail(&shared, generation, "accepted and closed");
		ck_assert(!look().proven);
		ck_assert_int_ge(look().outage_ms, HOUR_MS);
		close(peer);
	}
	ck_assert_int_eq(ask(HOUR_MS), LINK_WAITED);
	ck_assert_uint_eq(look().outages, 0);
}

/* At once, not only when the new connection has proven anything. The wait at
 * the start is no outage, and an unproven generation prolongs one. */
TEST(the_last_outage_is_known_as_soon_as_the_link_is_up)
{
	int first, second, third;

	let_an_hour_pass();
	first = install_proven();
	link_fail(&shared, 1, "gone");
	ck_assert_int_eq(look().last_outage_ms, 0);
	let_an_hour_pass();
	second = install();
	ck_assert_int_ge(look().last_outage_ms, HOUR_MS);
	link_fail(&shared, 2, "accepted and closed");
	let_an_hour_pass();
	ck_assert_int_ge(look().outage_ms, 2 * HOUR_MS);
	third = install_proven();
	ck_assert_int_ge(look().last_outage_ms, 2 * HOUR_MS);
	ck_assert_int_eq(look().outage_ms, 0);
	link_fail(&shared, 3, "gone before another thread looked");
	ck_assert_int_ge(look().last_outage_ms, 2 * HOUR_MS);
	ck_assert_uint_eq(look().outages, 2);
	close(first);
	close(second);
	close(third);
}

TEST(proof_of_life_counts_for_its_generation_only)
{
	int old = install(), peer;

	ck_assert(!look().proven);
	link_prove(&shared, 2);
	link_prove(&shared, 0);
	ck_assert(!look().proven);
	link_prove(&shared, 1);
	ck_assert(look().proven);
	link_fail(&shared, 1, "gone");
	ck_assert(look().proven);
	peer = install();
	link_prove(&shared, 1);
	ck_assert(!look().proven);
	link_fail(&shared, 2, "accepted and closed");
	link_prove(&shared, 2);
	ck_assert(!look().proven);
	ck_assert_uint_eq(look().outages, 1);
	close(old);
	close(peer);
}

TEST(dials_are_counted_and_their_errors_kept)
{
	link_dialled(&shared);
	link_dial_failed(&shared, "Connection refused");
	ck_assert_str_eq(look().last_error, "Connection refused");
	link_dialled(&shared);
	ck_assert_uint_eq(look().dials, 2);
}

TEST(time_spent_down_and_up_is_measured)
{
	int peer;

	let_an_hour_pass();
	ck_assert_int_ge(look().down_ms, HOUR_MS);
	peer = install_proven();
	ck_assert_int_ge(look().down_ms, HOUR_MS);
	let_an_hour_pass();
	ck_assert_int_ge(look().up_ms, HOUR_MS);
	ck_assert_int_lt(look().down_ms, 2 * HOUR_MS);
	link_fail(&shared, 1, "gone");
	ck_assert_int_ge(look().up_ms, HOUR_MS);
	let_an_hour_pass();
	ck_assert_int_ge(look().down_ms, 2 * HOUR_MS);
	ck_assert_int_lt(look().down_ms, 3 * HOUR_MS);
	ck_assert_int_lt(look().up_ms, 2 * HOUR_MS);
	close(peer);
}

TEST(a_long_reason_is_cut_and_ends)
{
	char reason[1000];
	int peer = install();

	memset(reason, 'x', sizeof(reason) - 1);
	reason[sizeof(reason) - 1] = '\0';
	link_fail(&shared, 1, reason);
	ck_assert_uint_eq(strlen(look().last_error), LINK_REASON_BYTES - 1);
	close(peer);
}

TEST(a_failure_rings_for_fwd_link)
{
	int peer = install();

	ck_assert(!rings());
	link_fail(&shared, 1, "gone");
	ck_assert(rings());
	doorbell_answer(&shared.bell);
	ck_assert(!rings());
	close(peer);
}

/* The stress: writers and readers borrow as fast as they can, while
 * generations come and go. Every message is its generation's number, so that
 * both ends see a byte that went astray. */

#define GENERATIONS 1000

static void
check_message(uint64_t message, uint64_t generation)
{
	ck_assert_msg(message == generation,
	    "bytes of generation %ju reached generation %ju",
	    (uintmax_t)message, (uintmax_t)generation);
}

static void *
write_always(void *argument)
{
	struct loan loan;

	(void)argument;
	while (link_borrow(&shared, &loan, LINK_WHILE_HELD) == LINK_READY) {
		uint64_t generation = loan.generation;

		if (write(loan.fd, &generation, sizeof(generation)) !=
		    sizeof(generation))
			link_fail(&shared, generation, "write");
		link_return(&loan);
	}
	return NULL;
}

static void *
read_always(void *argument)
{
	struct loan loan;
	uint64_t message;

	(void)argument;
	while (link_borrow(&shared, &loan, LINK_WHILE_HELD) == LINK_READY) {
		if (read(loan.fd, &message, sizeof(message)) ==
		    sizeof(message)) {
			check_message(message, loan.generation);
			link_prove(&shared, loan.generation);
		} else {
			link_fail(&shared, loan.generation, "read");
		}
		link_return(&loan);
	}
	return NULL;
}

static void *
read_each(void *argument)
{
	struct loan loan;
	uint64_t message, generation = 0;

	(void)argument;
	while (link_borrow_next(&shared, &loan) == LINK_READY) {
		ck_assert_uint_eq(loan.generation, ++generation);
		while (
		    read(loan.fd, &message, sizeof(message)) == sizeof(message))
			check_message(message, generation);
		link_fail(&shared, generation, "read");
		link_return(&loan);
	}
	return NULL;
}

/* Reads what the writers sent until nothing more can come. */
static void
drain(int peer, uint64_t generation)
{
	uint64_t message;

	while (read(peer, &message, sizeof(message)) == sizeof(message))
		check_message(message, generation);
}

/* They follow each other faster than fwd-link makes them: the reader must
 * not fall behind by more than there is room for. */
static int
install_after(uint64_t generation)
{
	mutex_lock(&shared.lock);
	while (shared.borrowed + LINK_CONNECTIONS / 2 < generation) {
		mutex_unlock(&shared.lock);
		sched_yield();
		mutex_lock(&shared.lock);
	}
	mutex_unlock(&shared.lock);
	return install_unread();
}

/* One generation's life, ended by either side. */
static void
live(uint64_t generation, uint32_t luck)
{
	int peer = install_after(generation), stranger[2];
	uint64_t message;

	if (luck % 2)
		(void)!write(peer, &generation, sizeof(generation));
	ck_assert_int_eq(
	    read(peer, &message, sizeof(message)), sizeof(message));
	check_message(message, generation);
	if (luck / 2 % 2)
		shutdown(peer, luck / 4 % 2 ? SHUT_RDWR : SHUT_WR);
	else
		link_fail(&shared, generation, "the test wants it so");
	/* Takes a freed number at once, if there is one. */
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, stranger), 0);
	drain(peer, generation);
	while (look().state == LINK_UP)
		sched_yield();
	close(peer);
	ck_assert_int_eq(read(stranger[0], &message, sizeof(message)), -1);
	ck_assert_int_eq(read(stranger[1], &message, sizeof(message)), -1);
	close(stranger[0]);
	close(stranger[1]);
}

TEST(no_byte_of_one_generation_ever_reaches_another, .seconds = 60)
{
	void *(*const kinds[])(void *) = { write_always, write_always,
		write_always, read_always, read_each };
	pthread_t threads[5];
	uint64_t luck = (uint64_t)_i;

	for (int i = 0; i < 5; i++)
		threads[i] = start(kinds[i], NULL);
	for (uint64_t generation = 1; generation <= GENERATIONS; generation++)
		live(generation, suite_random(&luck));
	ck_assert_uint_eq(look().generation, GENERATIONS);
	link_stop(&shared);
	for (int i = 0; i < 5; i++)
		join(threads[i]);
}
