#include "reconnect/link.h"

#include "base/clock.h"
#include "tests/support/suite.h"

#define HOUR_MS (60 * 60 * 1000)

static struct link shared;
static int peers[40]; /* the other ends, closed by tear_down() */
static size_t peer_count;
static unsigned descriptors_before;

static void
set_up(void)
{
	signal(SIGPIPE, SIG_IGN);
	descriptors_before = open_descriptors();
	ck_assert_int_eq(link_init(&shared), 0);
}

/* Every test returns all loans. */
static void
tear_down(void)
{
	link_destroy(&shared);
	while (peer_count > 0)
		close(peers[--peer_count]);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
}

static struct link_view
look(void)
{
	struct link_view view;

	link_look(&shared, &view);
	return view;
}

/* The smallest buffers there are: soon full, soon drained. */
static void
make_pair(int ends[2])
{
	int smallest = 1;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	for (int i = 0; i < 2; i++)
		setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &smallest,
		    sizeof(smallest));
}

/* A new generation. Returns its peer's end, for the caller to close. */
static int
install_unread(void)
{
	int ends[2];

	make_pair(ends);
	ck_assert_uint_eq(
	    link_install(&shared, ends[0], false), look().generation);
	return ends[1];
}

static struct loan
borrow_next(void)
{
	struct loan loan;

	ck_assert_int_eq(link_borrow_next(&shared, &loan), LINK_READY);
	return loan;
}

static void
return_next(void)
{
	struct loan loan = borrow_next();

	link_return(&loan);
}

/* A new generation that the reader has borrowed and returned. */
static int
install(void)
{
	peers[peer_count] = install_unread();
	return_next();
	return peers[peer_count++];
}

static void
install_proven(void)
{
	install();
	link_prove(&shared, look().generation);
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

static bool
rings(void)
{
	struct pollfd bell = { .fd = shared.bell.fds[0], .events = POLLIN };

	return poll(&bell, 1, 0) == 1;
}

FIXTURE(set_up, tear_down)

TEST(only_the_first_failure_of_the_current_generation_counts)
{
	install_proven();
	ck_assert(!rings());
	link_fail(&shared, 1, "first");
	ck_assert(rings());
	link_fail(&shared, 1, "second");
	ck_assert_int_eq(look().state, LINK_DOWN);
	install_proven();
	doorbell_answer(&shared.bell);
	link_fail(&shared, 1, "late");
	link_fail(&shared, 0, "never was");
	link_fail(&shared, 3, "not yet");
	ck_assert_int_eq(look().state, LINK_UP);
	ck_assert_uint_eq(look().generation, 2);
	ck_assert_uint_eq(look().outages, 1);
	ck_assert_str_eq(look().last_error, "first");
	ck_assert(!rings());
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

TEST(a_failure_and_a_stop_wake_threads_blocked_on_the_descriptor, .count = 2)
{
	struct pollfd arrived = { .fd = install(), .events = POLLIN };
	struct borrower reading = { .loan = borrow(), .result = -1 };
	struct borrower writing = { .loan = borrow() };
	pthread_t reader = start(read_until_woken, &reading);
	pthread_t writer = start(write_until_woken, &writing);

	while (!atomic_load(&reading.began))
		sched_yield();
	ck_assert_int_eq(poll(&arrived, 1, -1), 1);
	if (_i == 0)
		link_fail(&shared, 1, "another thread saw it");
	else
		link_stop(&shared);
	pthread_join(reader, NULL);
	pthread_join(writer, NULL);
	ck_assert_int_eq(reading.result, 0);
	ck_assert_int_eq(writing.result, -1);
}

/* An old loan delays neither the next generation nor the end of another. */
TEST(the_last_returned_loan_closes_the_descriptor)
{
	struct loan first, second;
	int fd;

	install();
	first = borrow();
	second = borrow();
	fd = first.fd;
	link_return(&first);
	ck_assert(is_open(fd));
	first = borrow();
	link_fail(&shared, 1, "gone");
	ck_assert(is_open(fd));
	link_return(&first);
	ck_assert(is_open(fd));
	install();
	first = borrow();
	ck_assert_uint_eq(first.generation, 2);
	link_return(&second);
	ck_assert_int_eq(second.fd, -1);
	ck_assert(!is_open(fd));
	ck_assert(is_open(first.fd));
	link_return(&first);
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

/* A peer that wrote and closed, one that only closed, and one that is up. */
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

/* They keep their descriptors until the reader borrows them. */
TEST(too_many_unread_generations_refuse_the_next_one)
{
	int ends[2];

	for (uint64_t i = 1; i <= LINK_CONNECTIONS; i++) {
		close(install_unread());
		link_fail(&shared, i, "peer closed");
	}
	make_pair(ends);
	ck_assert_uint_eq(link_install(&shared, ends[0], false), 0);
	ck_assert_int_eq(errno, EBUSY);
	ck_assert(!is_open(ends[0]));
	ck_assert_int_eq(look().state, LINK_DOWN);
	return_next();
	close(ends[1]);
	close(install_unread());
}

/* ---- threads that wait ---- */

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
	enum link_answer *answer = argument;

	*answer = link_borrow_next(&shared, &loan);
	if (*answer == LINK_READY)
		link_return(&loan);
	return NULL;
}

/* More waiting threads of each kind than the program has. */
TEST(a_connection_and_a_stop_wake_every_waiter, .count = 3)
{
	enum link_answer expected = _i == 0 ? LINK_READY : LINK_ENDED;
	int count = _i == 0 ? 5 : 6; /* one reader gets a generation */
	pthread_t waiters[6];

	if (_i == 1)
		link_set_hold(&shared, HOUR_MS);
	for (int i = 0; i < count; i++)
		waiters[i] = start(
		    i < 4 ? wait_while_held : wait_for_the_next, &answers[i]);
	if (_i == 0)
		peers[peer_count++] = install_unread();
	else
		link_stop(&shared);
	for (int i = 0; i < count; i++) {
		pthread_join(waiters[i], NULL);
		ck_assert_int_eq(answers[i], expected);
	}
}

/* The thread may already wait, or be about to: the order differs by round. */
TEST(a_new_hold_applies_to_a_waiting_thread)
{
	for (int round = 0; round < 200; round++) {
		pthread_t waiter = start(wait_while_held, answers);

		link_set_hold(&shared, 0);
		pthread_join(waiter, NULL);
		ck_assert_int_eq(answers[0], LINK_WAITED);
		link_set_hold(&shared, LINK_HOLD_FOREVER);
	}
}

static bool
is_ready(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	return poll(&ready, 1, 0) == 1;
}

TEST(a_watch_ends_with_a_connection_a_new_hold_or_a_stop, .count = 3)
{
	int fd = link_watch(&shared);

	ck_assert(!is_ready(fd));
	if (_i == 0)
		install_proven();
	else if (_i == 1)
		link_set_hold(&shared, 0);
	else
		link_stop(&shared);
	ck_assert(is_ready(fd));
	ck_assert_int_eq(link_watch(&shared), _i == 1 ? fd : -1);
	ck_assert(!is_ready(fd));
}

/* The next connection then costs no ring. */
TEST(a_watch_ends_once)
{
	int fd = link_watch(&shared);

	install_proven();
	ck_assert_int_eq(link_watch(&shared), -1);
	link_fail(&shared, 1, "peer closed");
	install_proven();
	ck_assert(!is_ready(fd));
}

static void *
wait_with_a_watch(void *argument)
{
	struct pollfd ready = { .fd = link_watch(&shared), .events = POLLIN };

	if (ready.fd >= 0)
		poll(&ready, 1, -1);
	return argument;
}

/* The thread may already wait, or be about to: the order differs by round. */
TEST(no_connection_is_missed_between_watch_and_wait)
{
	for (uint64_t round = 1; round <= 200; round++) {
		pthread_t waiter = start(wait_with_a_watch, NULL);
		int peer = install_unread();

		return_next();
		pthread_join(waiter, NULL);
		link_fail(&shared, round, "peer closed");
		close(peer);
	}
}

/* ---- the stop ---- */

TEST(after_the_stop_no_call_waits_or_has_an_effect)
{
	struct loan loan;
	int ends[2];
	char byte;

	install_proven();
	link_stop(&shared);
	ck_assert(rings());
	ck_assert_int_eq(ask(LINK_HOLD_FOREVER), LINK_ENDED);
	ck_assert_int_eq(ask(0), LINK_ENDED);
	ck_assert_int_eq(link_borrow_next(&shared, &loan), LINK_ENDED);
	link_fail(&shared, 1, "late");
	link_stop(&shared);
	make_pair(ends);
	ck_assert_uint_eq(link_install(&shared, ends[0], false), 0);
	ck_assert_int_eq(errno, EPIPE);
	ck_assert(!is_open(ends[0]));
	ck_assert_int_eq(read(ends[1], &byte, 1), 0);
	close(ends[1]);
	ck_assert_int_eq(look().state, LINK_STOPPED);
	ck_assert_uint_eq(look().generation, 1);
	ck_assert_uint_eq(look().outages, 0);
}

TEST(a_stop_closes_generations_that_were_never_read)
{
	close(install_unread());
	link_fail(&shared, 1, "peer closed");
	close(install_unread());
	link_stop(&shared);
	ck_assert_uint_eq(open_descriptors(), descriptors_before + 4);
}

/* ---- outages ---- */

/* Moves all of the link's times an hour into the past. */
static void
let_an_hour_pass(void)
{
	mutex_lock(&shared.lock);
	shared.outage_since_ms -= HOUR_MS;
	shared.since_ms -= HOUR_MS;
	mutex_unlock(&shared.lock);
}

/* If hold were counted from the borrow, this would wait for an hour. */
TEST(frames_are_held_until_the_outage_is_as_old_as_hold)
{
	int64_t asked_ms;

	let_an_hour_pass();
	ck_assert_int_eq(ask(HOUR_MS), LINK_WAITED);
	ck_assert_int_eq(ask(0), LINK_WAITED);
	install_proven();
	asked_ms = clock_now_ms();
	link_fail(&shared, 1, "gone");
	ck_assert_int_eq(ask(20), LINK_WAITED);
	ck_assert_int_ge(clock_now_ms(), asked_ms + 20);
}

TEST(proof_of_life_counts_for_its_generation_only)
{
	install();
	ck_assert(!look().proven);
	link_prove(&shared, 2);
	link_prove(&shared, 0);
	ck_assert(!look().proven);
	link_prove(&shared, 1);
	ck_assert(look().proven);
	link_fail(&shared, 1, "gone");
	ck_assert(look().proven);
	install();
	link_prove(&shared, 1);
	ck_assert(!look().proven);
	ck_assert_uint_eq(look().outages, 1);
}

/* The byte is still unread; or another thread reported the end before the reader,
 * which has read it, called link_prove(). The outage began with the end. */
TEST(a_byte_that_came_before_the_end_is_proof_of_life, .count = 2)
{
	int peer = install();

	let_an_hour_pass();
	if (_i == 0)
		ck_assert_int_eq(write(peer, "x", 1), 1);
	link_fail(&shared, 1, "peer closed");
	if (_i == 1)
		link_prove(&shared, 1);
	link_prove(&shared, 1);
	ck_assert(look().proven);
	ck_assert_uint_eq(look().outages, 1);
	ck_assert_int_lt(look().outage_ms, HOUR_MS);
}

/* The new connection need not be proven. The wait at the start is not an outage,
 * and a generation without proof of life prolongs one. */
TEST(the_last_outage_is_known_as_soon_as_the_link_is_up)
{
	let_an_hour_pass();
	install_proven();
	link_fail(&shared, 1, "gone");
	ck_assert_int_eq(look().last_outage_ms, 0);
	let_an_hour_pass();
	install();
	ck_assert_int_ge(look().last_outage_ms, HOUR_MS);
	link_fail(&shared, 2, "accepted and closed");
	ck_assert(!look().proven);
	ck_assert_int_eq(ask(HOUR_MS), LINK_WAITED);
	let_an_hour_pass();
	ck_assert_int_ge(look().outage_ms, 2 * HOUR_MS);
	install_proven();
	ck_assert_int_ge(look().last_outage_ms, 2 * HOUR_MS);
	ck_assert_int_eq(look().outage_ms, 0);
	link_fail(&shared, 3, "gone before another thread looked");
	ck_assert_int_ge(look().last_outage_ms, 2 * HOUR_MS);
	ck_assert_uint_eq(look().outages, 2);
}

/* The newest outages, in `history`. */
static struct link_outage history[LINK_HISTORY];

static size_t
look_back(void)
{
	return link_history(&shared, history);
}

static void
expect_outage(size_t age, const char *reason, int64_t hours, uint64_t dials)
{
	int64_t now_ms = clock_utc_ms();

	ck_assert_str_eq(history[age].reason, reason);
	ck_assert_int_eq(history[age].ms / HOUR_MS, hours);
	ck_assert_uint_eq(history[age].dials, dials);
	ck_assert_int_ge(history[age].began_utc_ms, now_ms - 60 * 1000);
	ck_assert_int_le(history[age].began_utc_ms, now_ms);
}

TEST(a_reason_that_is_too_long_is_cut)
{
	char reason[1000] = { 0 };

	memset(reason, 'x', sizeof(reason) - 1);
	install();
	link_fail(&shared, 1, reason);
	ck_assert_uint_eq(strlen(look().last_error), LINK_REASON_BYTES - 1);
}

TEST(the_history_has_each_outage_with_its_reason_length_and_dials)
{
	link_dialled(&shared);
	let_an_hour_pass();
	ck_assert_uint_eq(look_back(), 0); /* the start is no outage */
	install_proven();
	link_fail(&shared, 1, "peer closed");
	link_dialled(&shared);
	ck_assert_uint_eq(look().dials, 2);
	link_dial_failed(&shared, "Connection refused");
	ck_assert_str_eq(look().last_error, "Connection refused");
	ck_assert_uint_eq(look_back(), 1);
	expect_outage(0, "peer closed", 0, 1);
	let_an_hour_pass();
	ck_assert_uint_eq(look_back(), 1); /* it goes on */
	expect_outage(0, "peer closed", 1, 1);
	link_dialled(&shared);
	install_proven();
	let_an_hour_pass();
	link_dialled(&shared);
	ck_assert_uint_eq(look_back(), 1); /* it has ended */
	expect_outage(0, "peer closed", 1, 2);
	link_fail(&shared, 2, "reset");
	ck_assert_uint_eq(look_back(), 2);
	expect_outage(0, "reset", 0, 0);
	expect_outage(1, "peer closed", 1, 2);
}

/* Before or after the end of the connection is seen, and before it is proven. */
TEST(a_daemons_end_is_the_reason_everywhere, .count = 3)
{
	install();
	if (_i == 0)
		link_prove(&shared, 1);
	if (_i < 2)
		link_fail(&shared, 1, "peer closed");
	link_explain(&shared, 1, "signal 9");
	link_prove(&shared, 1);
	link_explain(&shared, 2, "no such generation");
	ck_assert_uint_eq(look_back(), 1);
	expect_outage(0, "signal 9", 0, 0);
	ck_assert_str_eq(look().last_error, "signal 9");
}

/* And when proof of life is reported late, its reason is not that of a dial. */
TEST(an_unproven_generation_prolongs_the_outage_in_the_history)
{
	install_proven();
	link_fail(&shared, 1, "peer closed");
	let_an_hour_pass();
	install();
	ck_assert_uint_eq(look_back(), 1);
	expect_outage(0, "peer closed", 1, 0);
	let_an_hour_pass();
	link_fail(&shared, 2, "accepted and closed");
	link_dialled(&shared);
	link_dial_failed(&shared, "Connection refused");
	ck_assert_uint_eq(look_back(), 1);
	expect_outage(0, "peer closed", 2, 1);
	link_prove(&shared, 2);
	ck_assert_uint_eq(look_back(), 2);
	expect_outage(0, "accepted and closed", 0, 1);
}

TEST(the_history_keeps_the_last_32_outages)
{
	char reason[16];

	for (uint64_t i = 1; i <= LINK_HISTORY + 3; i++) {
		close(install_unread());
		link_prove(&shared, i);
		snprintf(reason, sizeof(reason), "loss %d", (int)i);
		link_fail(&shared, i, reason);
		return_next();
	}
	ck_assert_uint_eq(look_back(), LINK_HISTORY);
	ck_assert_str_eq(history[0].reason, "loss 35");
	ck_assert_str_eq(history[LINK_HISTORY - 1].reason, "loss 4");
}

TEST(time_spent_down_and_up_is_measured)
{
	let_an_hour_pass();
	ck_assert_int_ge(look().down_ms, HOUR_MS);
	install_proven();
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
}

/* The stress: writers and a reader borrow as fast as they can, while generations
 * come and go. Every message is its generation's number, so both ends notice a
 * byte from another generation. */

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

	while (link_borrow(&shared, &loan, LINK_WHILE_HELD) == LINK_READY) {
		uint64_t generation = loan.generation;

		if (write(loan.fd, &generation, sizeof(generation)) !=
		    sizeof(generation))
			link_fail(&shared, generation, "write");
		link_return(&loan);
	}
	return argument;
}

/* Reads until the end of the stream. */
static void
drain(int fd, uint64_t generation)
{
	uint64_t message;

	while (read(fd, &message, sizeof(message)) == sizeof(message)) {
		check_message(message, generation);
		link_prove(&shared, generation);
	}
}

static void *
read_each(void *argument)
{
	struct loan loan;
	uint64_t generation = 0;

	while (link_borrow_next(&shared, &loan) == LINK_READY) {
		ck_assert_uint_eq(loan.generation, ++generation);
		drain(loan.fd, generation);
		link_fail(&shared, generation, "read");
		link_return(&loan);
	}
	return argument;
}

/* Waits until the reader has caught up, because these generations follow each
 * other faster than those of fwd-link. */
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

/* One generation from start to end, ended by either side. */
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
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(
		    read(stranger[i], &message, sizeof(message)), -1);
	close(stranger[0]);
	close(stranger[1]);
}

TEST(no_byte_of_one_generation_ever_reaches_another, .seconds = 60)
{
	pthread_t threads[4];
	uint64_t luck = 0;

	for (int i = 0; i < 4; i++)
		threads[i] = start(i < 3 ? write_always : read_each, NULL);
	for (uint64_t generation = 1; generation <= GENERATIONS; generation++)
		live(generation, suite_random(&luck));
	ck_assert_uint_eq(look().generation, GENERATIONS);
	link_stop(&shared);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}
