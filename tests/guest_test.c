/* Guests of every kind but TAP, which tests/integration has. */

#include <stddef.h>

#include "tests/support/frames.h"
#include "tests/support/log_catcher.h"
#include "tests/support/opened_guest.h"

#define STRANGER 12345
#define NOBODY 65534
#define TAKEN (-1) /* no refusal */
#define LOOK_MS 1000

/* ThreadSanitizer takes connect() for the creation of a descriptor, and reports a
 * race with recv() in another thread. The kernel has a lock for that. */
const char *__tsan_default_suppressions(void);

const char *
__tsan_default_suppressions(void)
{
	return "race:interceptor_connect$\n";
}

static void
set_up(void)
{
	static uint8_t parcel[FRAME_HEADER_BYTES + 60];

	opened_guest_set_up();
	sent.parcels[0] = (struct iovec){ parcel, sizeof(parcel) };
	sent.count = 1;
}

static void
set_up_path(void)
{
	set_up();
	open_guest("unixgram:ours", 0600);
}

/* Address of a path, or with a leading @ of an abstract name. */
static struct sockaddr_un
address_of(const char *name, socklen_t *length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t bytes = strlen(name);

	memcpy(address.sun_path, name, bytes);
	if (*name != '@' && bytes < sizeof(address.sun_path))
		bytes++; /* its final zero */
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
	if (*name == '@')
		address.sun_path[0] = '\0';
	return address;
}

/* A guest's socket; "": without a name. */
static int
guest_at(const char *name)
{
	socklen_t length;
	struct sockaddr_un address = address_of(name, &length);
	int fd = own(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));

	if (*name)
		ck_assert_int_eq(
		    bind(fd, (struct sockaddr *)&address, length), 0);
	return fd;
}

static void
die(int fd, const char *path)
{
	hang_up(fd);
	ck_assert_int_eq(unlink(path), 0);
}

/* 0, or an errno. */
static int
say_bytes(int fd, size_t bytes)
{
	socklen_t length;
	struct sockaddr_un ours = address_of("ours", &length);
	uint8_t frame[60];

	frame_write(frame, sizeof(frame), 1);
	return sendto(fd, frame, bytes, 0, (struct sockaddr *)&ours, length) < 0
		   ? errno
		   : 0;
}

static int
say(int fd)
{
	return say_bytes(fd, 60);
}

/* Receives as fwd-up does. */
static void
hear(size_t count)
{
	ck_assert_int_eq(guest_receive(&guest, &received, BATCH_FRAMES), 0);
	ck_assert_uint_eq(received.count, count);
}

static void
say_and_hear(int fd)
{
	ck_assert_int_eq(say(fd), 0);
	hear(1);
}

/* Sends as fwd-down does. Returns TAKEN or the refusal. */
static int
answer(void)
{
	enum guest_refusal refusal;

	return guest_send(&guest, &sent, 0, &refusal) == 1 ? TAKEN
							   : (int)refusal;
}

static bool
gets(int fd)
{
	uint8_t frame[61];

	return recv(fd, frame, sizeof(frame), MSG_DONTWAIT) == 60;
}

static void
answers_reach(int fd)
{
	ck_assert_int_eq(answer(), TAKEN);
	ck_assert(gets(fd));
}

static int
timer_ms(void)
{
	struct pollfd fds[GUEST_DESCRIPTORS];

	return guest_watch(&guest, fds);
}

static int
learned(const char *name)
{
	int fd = guest_at(name);

	say_and_hear(fd);
	ck_assert(guest.present);
	ck_assert_str_eq(peer(), name);
	ck_assert(serve()); /* each is reported to main() */
	return fd;
}

static void
expect_logged(const char *text, unsigned count)
{
	ck_assert_msg(log_count(text) == count, "\"%s\": %u times in\n%s", text,
	    log_count(text), caught_log.text);
}

/* Guests that come and go without end do not fill the log. */
static void
expect_limited(void)
{
	ck_assert_uint_eq(log_count("\n"), caught_log.limited);
}

static mode_t
mode_of(const char *path)
{
	struct stat file;

	ck_assert_int_eq(lstat(path, &file), 0);
	return file.st_mode & 0777;
}

/* ---- a descriptor ---- */

static int
open_pair(void)
{
	int ends[2];
	char text[32];

	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends), 0);
	snprintf(text, sizeof(text), "fd:%d", ends[0]);
	open_guest(text, 0600);
	return own(ends[1]);
}

FIXTURE(set_up, opened_guest_tear_down)

TEST(a_connected_datagram_socket_is_a_guest_from_the_start)
{
	int fd = open_pair();

	ck_assert_str_eq(peer(), "fd");
	answers_reach(fd);
	/* The copy threads wait on it, and no command may inherit it. */
	ck_assert_int_eq(fcntl(guest.fd, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(fcntl(guest.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	ck_assert(!serve());
	ck_assert_int_eq(timer_ms(), -1);
	/* It has no file. */
	guest_set_mode(&guest, 0666);
}

TEST(a_wait_ends_with_a_frame_or_the_other_event, .count = 3)
{
	struct doorbell other;
	int fd = open_pair();

	ck_assert_int_eq(doorbell_init(&other), 0);
	if (_i != 1)
		ck_assert_int_eq(send(fd, "frame", 5, 0), 5);
	if (_i != 0)
		doorbell_ring(&other);
	ck_assert_int_eq(guest_await(&guest, other.fds[0]), _i == 0);
	doorbell_destroy(&other);
}

TEST(a_descriptors_guest_that_is_gone_is_gone_for_good)
{
	hang_up(open_pair());
	ck_assert_int_eq(answer(), GUEST_GONE);
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	ck_assert_str_eq(peer(), "");
}

TEST(a_descriptor_that_is_no_guest_is_refused)
{
	int pipes[2];
	int alone = own(socket(AF_UNIX, SOCK_DGRAM, 0));
	int stream = own(socket(AF_UNIX, SOCK_STREAM, 0));
	int packets = own(socket(AF_UNIX, SOCK_SEQPACKET, 0));
	const struct {
		int *fd;
		const char *reason;
	} cases[] = {
		{ &(int){ 987 },
		    "no such open descriptor (was it passed on?)" },
		{ &pipes[0], "not a socket" },
		{ &packets, "a socket, but not a datagram socket" },
		{ &stream, "a stream socket that is not connected" },
		{ &alone, "a datagram socket that is not connected" },
	};

	open_pair();
	ck_assert_int_eq(pipe(pipes), 0);
	own(pipes[0]);
	own(pipes[1]);
	for (int i = 0; i < LENGTH(cases); i++) {
		char text[32], expected[100];
		struct guest other;

		snprintf(text, sizeof(text), "fd:%d", *cases[i].fd);
		snprintf(expected, sizeof(expected), "%s: %s", text,
		    cases[i].reason);
		ck_assert_int_eq(try_open(&other, text, 0), -1);
		ck_assert_str_eq(error.text, expected);
	}
}

TEST(an_inherited_descriptor_takes_the_place_of_the_number)
{
	int fd = open_pair();
	int fds[GUEST_KEPT];

	ck_assert_uint_eq(guest_duplicate(&guest, fds), 1);
	guest_close(&guest);
	offers[0].fd = fds[0];
	offered = 1;
	open_guest("fd:999", 0600);
	ck_assert_ptr_null(offers[0].fault);
	ck_assert(guest_is_inherited(&guest));
	answers_reach(fd);
}

TEST(an_inherited_descriptor_that_does_not_fit_leaves_the_number)
{
	int other = own(socket(AF_UNIX, SOCK_DGRAM, 0));

	offers[0].fd = other;
	offered = 1;
	open_pair();
	ck_assert_str_eq(
	    offers[0].fault, "a datagram socket that is not connected");
}

/* ---- our socket at a path ---- */

TEST(a_path_is_bound_with_its_mode_and_has_no_guest_yet)
{
	open_guest("unixgram:ours", 0620);
	ck_assert_uint_eq(mode_of("ours"), 0620);
	ck_assert_str_eq(peer(), "");
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	guest_set_mode(&guest, 0666);
	ck_assert_uint_eq(mode_of("ours"), 0666);
}

FIXTURE(set_up_path, opened_guest_tear_down)

/* There is no file to change: it must not come back with the old mode. */
TEST(a_mode_changed_while_the_file_is_missing_applies_to_the_next_file)
{
	ck_assert_int_eq(rename("ours", "moved"), 0);
	/* An unchanged mode changes nothing. */
	guest_set_mode(&guest, 0600);
	expect_logged("warn", 0);
	guest_set_mode(&guest, 0640);
	expect_logged(
	    "warn guest: can't change the mode of the socket file", 1);
	ck_assert_uint_eq(mode_of("moved"), 0600);
	ck_assert_int_eq(guest_bind_again(&guest, &error), 0);
	ck_assert_uint_eq(mode_of("ours"), 0640);
}

static void
bind_again(void)
{
	ck_assert_int_eq(unlink("ours"), 0);
	ck_assert_msg(guest_bind_again(&guest, &error) == 0, "%s", error.text);
}

/* A guest that finds our new socket. */
static void
the_next_takes_over(const char *name)
{
	int fd = guest_at(name);

	ck_assert_int_eq(say(fd), 0);
	ck_assert(serve());
	hear(1);
	ck_assert_str_eq(peer(), name);
	answers_reach(fd);
}

TEST(frames_in_the_socket_that_a_new_one_replaces_are_counted)
{
	int fd = guest_at("vm");

	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(say(fd), 0);
	bind_again();
	ck_assert_uint_eq(counter_read(&guest.lost), 3);
}

static void *
await_guest(void *nothing)
{
	ck_assert(guest_await(&guest, -1));
	return nothing;
}

/* The thread may already wait for the old socket, or be about to: the order
 * differs by round. */
TEST(a_wait_goes_on_with_the_new_socket)
{
	int nobody = guest_at("");

	for (int round = 0; round < 200; round++) {
		pthread_t waiter;

		pthread_create(&waiter, NULL, await_guest, NULL);
		bind_again();
		ck_assert_int_eq(say(nobody), 0);
		pthread_join(waiter, NULL);
		do
			ck_assert_int_eq(
			    guest_receive(&guest, &received, 8), 0);
		while (received.count == 0);
	}
}

/* An empty frame without a sender may mark the end of the replaced socket, but a
 * frame after it still counts. */
TEST(a_frame_after_an_empty_one_is_not_lost)
{
	int nobody = guest_at("");

	bind_again();
	ck_assert_int_eq(say_bytes(nobody, 0), 0);
	ck_assert_int_eq(say_bytes(nobody, 15), 0);
	do
		ck_assert_int_eq(guest_receive(&guest, &received, 8), 0);
	while (received.count == 0);
	ck_assert_uint_eq(
	    parcel_length(&received.parcels[received.count - 1]), 15);
}

TEST(when_our_file_is_removed_the_guest_stays_until_the_next_one_sends)
{
	int fd = learned("vm"), nameless = guest_at("");

	bind_again();
	ck_assert(!serve());
	answers_reach(fd);
	/* A sender that cannot be answered replaces no guest. */
	ck_assert_int_eq(say(nameless), 0);
	ck_assert(serve());
	ck_assert_uint_eq(counter_read(&guest.lost), 1);
	answers_reach(fd);
	the_next_takes_over("next");
	ck_assert_int_eq(others, 1);
	ck_assert_uint_eq(counter_read(&guest.lost), 1);
}

TEST(when_the_guest_is_gone_the_next_one_uses_our_new_socket)
{
	int fd = learned("vm");

	bind_again();
	die(fd, "vm");
	ck_assert(serve());
	learned("next");
	ck_assert_int_eq(fcntl(guest.fd, F_GETFD), FD_CLOEXEC);
}

/* ---- who the guest is ---- */

TEST(the_first_sender_is_the_guest)
{
	int fd = guest_at("vm"), other = guest_at("other");

	ck_assert_int_eq(say(fd), 0);
	ck_assert_int_eq(say(other), 0);
	hear(2);
	ck_assert_str_eq(peer(), "vm");
	expect_logged("info guest: found peer=vm\n", 1);
	answers_reach(fd);
	say_and_hear(fd);
	expect_logged("found", 1);
	/* The kernel refuses all other senders. */
	ck_assert_int_eq(say(other), EPERM);
	ck_assert_int_eq(others, 0);
}

/* Its path fills sun_path, without a final zero. */
TEST(a_guest_with_the_longest_path_is_answered_and_found_again)
{
	char name[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	int fd;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	fd = learned(name);
	answers_reach(fd);
	die(fd, name);
	fd = guest_at(name);
	ck_assert(serve());
	answers_reach(fd);
	/* And at our new socket. */
	hang_up(fd);
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	learned("vm");
	bind_again();
	ck_assert_int_eq(unlink(name), 0);
	the_next_takes_over(name);
}

TEST(an_abstract_name_is_a_guest_without_a_file)
{
	int fd;

	/* Nothing is left of an earlier guest that had a file. */
	hang_up(learned("vm"));
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	fd = learned("@vm");
	answers_reach(fd);
	ck_assert(!serve());
	ck_assert_int_eq(timer_ms(), -1);
	/* A new one is found by a send that is refused. */
	hang_up(fd);
	answers_reach(guest_at("@vm"));
}

TEST(a_guest_without_a_name_is_logged_once_and_never_answered)
{
	int fd = guest_at("");

	say_and_hear(fd);
	say_and_hear(fd);
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	expect_logged("whose socket is not bound", 1);
	learned("vm");
	expect_limited();
}

TEST(a_sender_that_cannot_be_answered_is_logged_and_ignored)
{
	int fd = guest_at("vm");

	ck_assert_int_eq(say(fd), 0);
	die(fd, "vm");
	hear(1);
	ck_assert(!guest.present);
	expect_logged(
	    "warn guest: can't connect to the guest peer=vm error=", 1);
	learned("next");
	expect_limited();
}

/* ---- restarts ---- */

TEST(every_guest_after_the_first_is_found_reported_and_answered)
{
	int fd = learned("vm");

	say_and_hear(fd);
	ck_assert_int_eq(others, 0);
	/* By its file; it cannot send before it is found. */
	die(fd, "vm");
	fd = guest_at("vm");
	ck_assert_int_eq(say(fd), EPERM);
	ck_assert(serve());
	ck_assert_int_eq(others, 1);
	answers_reach(fd);
	serve();
	ck_assert(!serve());
	/* By a refused send. */
	die(fd, "vm");
	fd = guest_at("vm");
	answers_reach(fd);
	ck_assert_int_eq(others, 2);
	expect_logged("warn guest: restarted peer=vm reason=", 2);
	/* By its first frame. */
	hang_up(fd);
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	ck_assert_int_eq(others, 2);
	learned("other");
	ck_assert_int_eq(others, 3);
	expect_limited();
}

/* It was killed; its file is still there. */
TEST(any_sender_can_replace_a_dead_guest)
{
	hang_up(learned("vm"));
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	ck_assert_str_eq(peer(), "");
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	expect_logged("warn guest: gone peer=vm reason=", 1);
	hang_up(learned("other"));
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	ck_assert_int_eq(unlink("vm"), 0);
	learned("vm");
}

/* A refused send has disconnected us; another guest connects before the send is
 * reported. */
TEST(a_late_report_of_a_refused_send_leaves_the_next_guest_alone)
{
	uint64_t which;
	int next;

	hang_up(learned("vm"));
	which = guest.present;
	ck_assert_int_eq(guest_send_datagrams(&guest, &sent, 0), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	next = learned("next");
	ck_assert_int_eq(say(next), 0);
	ck_assert_int_eq(
	    guest.ops->refused(&guest, which, ECONNREFUSED), GUEST_REFUSED);
	ck_assert_str_eq(peer(), "next");
	ck_assert_uint_eq(counter_read(&guest.lost), 0);
	expect_logged("warn guest:", 0);
	ck_assert_int_eq(others, 1);
	hear(1);
	answers_reach(next);
}

/* As by a cleaner of /tmp. The connection still works, and could not be made
 * again. */
TEST(a_live_guest_whose_file_is_removed_is_kept)
{
	int fd = learned("vm"), other;

	ck_assert(!serve());
	ck_assert_int_eq(timer_ms(), -1);
	ck_assert_int_eq(unlink("vm"), 0);
	ck_assert(serve());
	ck_assert_int_eq(timer_ms(), LOOK_MS);
	ck_assert_str_eq(peer(), "vm");
	answers_reach(fd);
	say_and_hear(fd);
	expect_logged("warn", 0);
	/* After its end any sender can replace it. */
	other = guest_at("other");
	ck_assert_int_eq(say(other), EPERM);
	ck_assert(!serve());
	hang_up(fd);
	ck_assert(serve());
	expect_logged("warn guest: gone peer=vm", 1);
	ck_assert_int_eq(timer_ms(), -1);
	say_and_hear(other);
	ck_assert_str_eq(peer(), "other");
}

/* Whether the guest stays when another file is at its path. */
TEST(only_a_file_of_a_live_socket_replaces_a_live_guest)
{
	int fd = learned("vm"), next;

	ck_assert_int_eq(unlink("vm"), 0);
	serve();
	hang_up(own(open("vm", O_CREAT | O_WRONLY, 0600)));
	serve();
	answers_reach(fd);
	ck_assert_int_eq(unlink("vm"), 0);
	hang_up(guest_at("vm"));
	serve();
	answers_reach(fd);
	ck_assert_int_eq(others, 0);
	ck_assert_int_eq(timer_ms(), LOOK_MS);
	ck_assert_int_eq(unlink("vm"), 0);
	next = guest_at("vm");
	serve();
	expect_logged("warn guest: restarted peer=vm", 1);
	ck_assert_int_eq(timer_ms(), -1);
	answers_reach(next);
	ck_assert(!gets(fd));
}

TEST(other_changes_of_its_file_or_folder_leave_the_guest)
{
	int fd = learned("vm");

	die(guest_at("other"), "other");
	ck_assert(!serve());
	ck_assert_int_eq(chmod("vm", 0666), 0);
	ck_assert_int_eq(link("vm", "also"), 0);
	ck_assert_int_eq(unlink("also"), 0);
	serve();
	ck_assert_int_eq(rename("vm", "elsewhere"), 0);
	ck_assert(serve());
	answers_reach(fd);
	ck_assert_int_eq(timer_ms(), LOOK_MS);
	ck_assert_int_eq(rename("elsewhere", "vm"), 0);
	serve();
	ck_assert_int_eq(timer_ms(), -1);
	answers_reach(fd);
	expect_logged("warn", 0);
	/* And what happens afterwards is noticed. */
	die(fd, "vm");
	ck_assert(serve());
	ck_assert(!guest.present);
}

/* Each send to it fails, each connect() to it succeeds. */
TEST(a_guest_that_shut_its_receiving_down_is_the_same, .count = 2)
{
	int fd = learned(_i ? "@vm" : "vm");

	ck_assert_int_eq(shutdown(fd, SHUT_RD), 0);
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(answer(), GUEST_REFUSED);
		ck_assert_int_eq(say(fd), 0);
	}
	hear(10);
	ck_assert_uint_eq(counter_read(&guest.lost), 0);
	expect_logged("warn guest: refuses frames peer=", 1);
	expect_logged("warn", 1);
	ck_assert_int_eq(others, 0);
}

/* The file at the path gives its number to the next one, if the file system does
 * that (ext4); where not, this is a restart like any other. */
TEST(a_new_file_with_the_old_ones_inode_number_is_a_new_guest, .count = 2)
{
	struct stat before, after = { .st_ino = 0 };
	int fd = learned("vm");

	ck_assert_int_eq(stat("vm", &before), 0);
	for (int i = 0; i < 50 && after.st_ino != before.st_ino; i++) {
		die(fd, "vm");
		fd = guest_at("vm");
		ck_assert_int_eq(stat("vm", &after), 0);
	}
	if (_i)
		serve();
	answers_reach(fd);
	ck_assert_int_eq(others, 1);
}

/* The system gives us no more descriptors, of inotify or kqueue either. */
static int
learned_unwatched(void)
{
	int fd = guest_at("vm"), next = dup(fd), before;

	ck_assert_int_eq(say(fd), 0);
	close(next);
	before = limit_descriptors(next);
	hear(1);
	limit_descriptors(before);
	return fd;
}

TEST(a_guest_that_cannot_be_watched_is_checked_by_a_timer)
{
	int fd = learned_unwatched();

	ck_assert_str_eq(peer(), "vm");
	/* main() sleeps without a deadline, so it is woken to set one. */
	ck_assert(serve());
	ck_assert(!serve());
	ck_assert_int_eq(timer_ms(), LOOK_MS);
	expect_logged("warn guest: can't watch the guest's socket", 1);
	/* The inode number of the next file may be the same, its time isn't. */
	while (others == 0) {
		poll(NULL, 0, 1);
		die(fd, "vm");
		fd = guest_at("vm");
		serve();
	}
	expect_logged("can't watch", 1);
	ck_assert_int_eq(say(fd), 0);
	/* There is a watch again, so there are no timed wakeups. */
	ck_assert_int_eq(timer_ms(), -1);
	serve();
	die(fd, "vm");
	ck_assert(serve());
	ck_assert(!guest.present);
}

TEST(an_unwatched_guest_whose_file_is_removed_is_kept)
{
	int fd = learned_unwatched();

	ck_assert_int_eq(unlink("vm"), 0);
	serve();
	ck_assert_int_eq(timer_ms(), LOOK_MS);
	answers_reach(fd);
}

TEST(frames_of_the_new_guest_are_kept_those_of_the_dead_one_counted)
{
	int fd = learned("vm"), next;

	ck_assert_int_eq(say_bytes(fd, 0), 0);
	ck_assert_int_eq(say(fd), 0);
	die(fd, "vm");
	next = guest_at("vm");
	serve();
	ck_assert_uint_eq(counter_read(&guest.lost), 2);
	ck_assert_int_eq(say(next), 0);
	ck_assert_int_eq(say(next), 0);
	hear(2);
	/* And with no guest in its place. */
	ck_assert_int_eq(say(next), 0);
	die(next, "vm");
	serve();
	ck_assert_uint_eq(counter_read(&guest.lost), 3);
}

static int chatty = -1; /* a guest that sends at each look-up of a path */
static unsigned chatted;

int
lstat(const char *path, struct stat *file)
{
	if (chatty >= 0 && say(chatty) == 0)
		chatted++;
	return fstatat(AT_FDCWD, path, file, AT_SYMLINK_NOFOLLOW);
}

TEST(frames_sent_while_the_next_guest_is_looked_up_are_counted)
{
	int fd = learned("vm"), next;

	ck_assert_int_eq(unlink("vm"), 0);
	next = guest_at("vm");
	chatty = fd;
	serve();
	chatty = -1;
	ck_assert_uint_gt(chatted, 0);
	ck_assert_uint_eq(counter_read(&guest.lost), chatted);
	answers_reach(next);
}

/* ---- in a directory that other users can write to ---- */

/* Only root can give a file away; others skip what needs that. */
static bool
share_folder(void)
{
	ck_assert_int_eq(chmod(".", 01777), 0);
	return geteuid() == 0;
}

static int
strangers_guest_at(const char *name)
{
	int fd = guest_at(name);

	ck_assert_int_eq(chown(name, STRANGER, (gid_t)-1), 0);
	return fd;
}

static void
expect_one_warning(void)
{
	expect_logged("warn guest: not answered: another user's socket in a "
		      "directory that other users can write to",
	    1);
	expect_logged("can't connect", 0);
	expect_limited();
}

TEST(a_stranger_in_a_shared_folder_is_not_answered)
{
	int fd;

	if (!share_folder())
		return;
	fd = strangers_guest_at("vm");
	say_and_hear(fd);
	say_and_hear(fd);
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	learned("own");
	expect_one_warning();
}

TEST(a_stranger_who_takes_a_dead_guests_path_is_not_answered, .count = 2)
{
	int fd;

	if (!share_folder())
		return;
	die(learned("vm"), "vm");
	fd = strangers_guest_at("vm");
	if (_i) /* however it is found */
		serve();
	ck_assert_int_eq(answer(), GUEST_ABSENT);
	ck_assert(!guest.present);
	ck_assert(!gets(fd));
	expect_one_warning();
}

TEST(a_stranger_who_takes_a_live_guests_path_changes_nothing)
{
	int fd, other;

	if (!share_folder())
		return;
	fd = learned("vm");
	ck_assert_int_eq(unlink("vm"), 0);
	other = strangers_guest_at("vm");
	serve();
	serve();
	expect_one_warning();
	answers_reach(fd);
	ck_assert(!gets(other));
}

/* ---- inherited sockets ---- */

/* As a killed forwarder ends: its socket file stays, and its sockets live on in
 * the service manager's store. */
static void
be_killed(void)
{
	int fds[GUEST_KEPT];

	offered = guest_duplicate(&guest, fds);
	for (size_t i = 0; i < offered; i++)
		offers[i] = (struct guest_offer){ .fd = fds[i] };
	guest.file.path[0] = '\0';
	guest_close(&guest);
}

static void
be_restarted(void)
{
	be_killed();
	open_guest("unixgram:ours", 0600);
	for (size_t i = 0; i < offered; i++)
		ck_assert_ptr_null(offers[i].fault);
	ck_assert(guest_is_inherited(&guest));
}

static int
bound_to(const char *path, int type)
{
	struct unix_file file;

	return unix_bind(&file, type, path, 0600, &error);
}

TEST(a_stranger_who_takes_the_guests_path_in_a_restart_is_not_answered)
{
	int fd, other;

	if (!share_folder())
		return;
	fd = learned("vm");
	be_killed();
	ck_assert_int_eq(unlink("vm"), 0);
	other = strangers_guest_at("vm");
	open_guest("unixgram:ours", 0600);
	answers_reach(fd);
	hang_up(fd);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(answer(), GUEST_ABSENT);
	ck_assert(!gets(other));
}

TEST(a_restart_keeps_the_guest_and_its_queued_frames)
{
	int fd = learned("vm");

	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(say(fd), 0);
	be_restarted();
	ck_assert(guest.present);
	ck_assert_str_eq(peer(), "vm");
	expect_logged("info guest: found again peer=vm", 1);
	answers_reach(fd);
	hear(3);
	say_and_hear(fd);
	ck_assert(unix_file_stands(&guest.file));
	ck_assert(!serve() || !serve());
	ck_assert_int_eq(timer_ms(), -1);
}

TEST(a_restart_keeps_the_frames_of_a_guest_that_was_not_found_yet)
{
	int fd = guest_at("vm");

	ck_assert_int_eq(say(fd), 0);
	ck_assert_int_eq(say(fd), 0);
	be_restarted();
	ck_assert(!guest.present);
	ck_assert(unix_file_stands(&guest.file));
	hear(2);
	answers_reach(fd);
}

TEST(a_guest_that_died_during_the_restart_makes_room_for_another)
{
	hang_up(learned("vm"));
	be_restarted();
	expect_logged("info guest: gone while forwarder was not running "
		      "peer=vm",
	    1);
	ck_assert(!guest.present);
	answers_reach(learned("other"));
}

TEST(a_guest_that_restarted_meanwhile_is_found_at_its_path)
{
	int fd;

	die(learned("vm"), "vm");
	be_killed();
	fd = guest_at("vm");
	ck_assert_int_eq(say(fd), EPERM);
	open_guest("unixgram:ours", 0600);
	ck_assert(guest.present);
	answers_reach(fd);
	say_and_hear(fd);
}

TEST(a_guest_whose_file_was_removed_is_kept_over_a_restart)
{
	int fd = learned("vm");

	ck_assert_int_eq(unlink("vm"), 0);
	be_restarted();
	ck_assert_str_eq(peer(), "vm");
	answers_reach(fd);
	say_and_hear(fd);
	serve();
	ck_assert_int_eq(timer_ms(), LOOK_MS);
	answers_reach(fd);
}

TEST(a_guest_with_an_abstract_name_is_kept_over_a_restart)
{
	int fd = learned("@forwarder-test-restart");

	be_restarted();
	ck_assert_str_eq(peer(), "@forwarder-test-restart");
	answers_reach(fd);
	hang_up(fd);
	be_restarted();
	ck_assert(!guest.present);
}

TEST(our_file_removed_during_a_restart_is_made_again)
{
	int fd = learned("vm");

	be_killed();
	ck_assert_int_eq(unlink("ours"), 0);
	open_guest("unixgram:ours", 0600);
	ck_assert(!unix_file_stands(&guest.file));
	answers_reach(fd);
	ck_assert_int_eq(guest_bind_again(&guest, &error), 0);
	ck_assert(unix_file_stands(&guest.file));
	the_next_takes_over("next");
}

TEST(another_programs_socket_at_our_path_is_not_taken_for_ours)
{
	int stranger;

	learned("vm");
	be_killed();
	ck_assert_int_eq(unlink("ours"), 0);
	stranger = guest_at("ours");
	open_guest("unixgram:ours", 0600);
	ck_assert(!unix_file_stands(&guest.file));
	ck_assert_int_lt(guest_bind_again(&guest, &error), 0);
	ck_assert(is_open(stranger));
}

TEST(a_file_that_only_the_guest_may_use_is_taken_for_ours)
{
	int fd = learned("vm");

	be_killed();
	ck_assert_int_eq(chmod("ours", 0), 0);
	ck_assert_int_eq(chmod(".", 0755), 0);
	become(NOBODY);
	open_guest("unixgram:ours", 0600);
	become(0);
	ck_assert(unix_file_stands(&guest.file));
	answers_reach(fd);
}

TEST(a_successor_is_kept_over_a_restart)
{
	int fd = learned("vm");

	bind_again();
	be_restarted();
	ck_assert(unix_file_stands(&guest.file));
	answers_reach(fd);
	the_next_takes_over("next");
}

TEST(a_socket_that_lost_its_file_is_no_successor)
{
	int fds[GUEST_KEPT];

	learned("vm");
	be_killed();
	ck_assert_int_eq(rename("ours", "kept"), 0);
	offers[offered++] =
	    (struct guest_offer){ .fd = bound_to("ours", SOCK_DGRAM) };
	ck_assert_int_eq(rename("kept", "ours"), 0);
	open_guest("unixgram:ours", 0600);
	ck_assert(unix_file_stands(&guest.file));
	ck_assert_int_eq(guest_duplicate(&guest, fds), 1);
	close(fds[0]);
}

TEST(the_set_of_sockets_changes_with_the_successor)
{
	int fds[GUEST_KEPT];
	unsigned before = guest.changes;
	int fd = learned("vm");

	ck_assert_uint_eq(guest.changes, before);
	bind_again();
	ck_assert_uint_ne(guest.changes, before);
	before = guest.changes;
	ck_assert_int_eq(guest_duplicate(&guest, fds), 2);
	close(fds[0]);
	close(fds[1]);
	die(fd, "vm");
	serve();
	ck_assert_uint_ne(guest.changes, before);
	ck_assert_int_eq(guest_duplicate(&guest, fds), 1);
	close(fds[0]);
}

TEST(a_socket_inherited_twice_is_taken_once)
{
	int fd = learned("vm");

	be_killed();
	offers[1].fd = dup(offers[0].fd);
	offered = 2;
	open_guest("unixgram:ours", 0600);
	ck_assert_ptr_null(offers[0].fault);
	ck_assert_ptr_null(offers[1].fault);
	answers_reach(fd);
}

TEST(an_inherited_socket_keeps_its_mode_and_is_blocking)
{
	int flags;

	be_killed();
	ck_assert_int_eq(chmod("ours", 0620), 0);
	fcntl(offers[0].fd, F_SETFL, O_NONBLOCK);
	open_guest("unixgram:ours", 0600);
	ck_assert_int_eq(mode_of("ours"), 0620);
	flags = fcntl(guest.fd, F_GETFL);
	ck_assert(!(flags & O_NONBLOCK));
	guest_set_mode(&guest, 0660);
	ck_assert_int_eq(mode_of("ours"), 0660);
}

TEST(a_descriptor_that_does_not_fit_is_refused_with_the_reason)
{
	static const char *const faults[] = { "not a socket",
		"not a Unix datagram socket", "not a Unix datagram socket",
		"not bound to the path of the guest endpoint",
		"not bound to the path of the guest endpoint", "shut down" };
	int fds[] = { open(".", O_RDONLY), bound_to("stream", SOCK_STREAM),
		socket(AF_INET, SOCK_DGRAM, 0), bound_to("other", SOCK_DGRAM),
		socket(AF_UNIX, SOCK_DGRAM, 0), dup(guest.fd) };

	shutdown(guest.fd, SHUT_RD);
	guest_close(&guest);
	for (int i = 0; i < LENGTH(fds); i++) {
		offers[0] = (struct guest_offer){ .fd = fds[i] };
		offered = 1;
		open_guest("unixgram:ours", 0600);
		ck_assert_str_eq(offers[0].fault, faults[i]);
		ck_assert(!guest_is_inherited(&guest));
		ck_assert(unix_file_stands(&guest.file));
		close(fds[i]);
		if (i < LENGTH(fds) - 1)
			guest_close(&guest);
	}
}

TEST(of_two_descriptors_that_fit_the_first_is_taken)
{
	guest_close(&guest);
	offers[0].fd = bound_to("ours", SOCK_DGRAM);
	ck_assert_int_eq(unlink("ours"), 0);
	offers[1].fd = bound_to("ours", SOCK_DGRAM);
	offered = 2;
	open_guest("unixgram:ours", 0600);
	ck_assert_ptr_null(offers[0].fault);
	ck_assert_str_eq(offers[1].fault, "another one was inherited, too");
	close(offers[1].fd);
}

/* ---- its threads ---- */

static atomic_bool over;

static void *
receive_for_ever(void *argument)
{
	while (!atomic_load(&over))
		ck_assert_int_eq(guest_receive(&guest, &received, 8), 0);
	return argument;
}

static void *
send_for_ever(void *argument)
{
	while (!atomic_load(&over)) {
		answer();
		sched_yield();
	}
	return argument;
}

static void *
look_for_ever(void *argument)
{
	while (!atomic_load(&over)) {
		serve();
		sched_yield();
	}
	return argument;
}

TEST(a_guest_restarted_often_under_traffic_is_found_each_time, .seconds = 30)
{
	static void *(*const run[])(
	    void *) = { receive_for_ever, send_for_ever, look_for_ever };
	pthread_t threads[3];
	int fd = -1;

	atomic_store(&over, false);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(
		    pthread_create(&threads[i], NULL, run[i], NULL), 0);
	for (int i = 0; i < 200; i++) {
		int before = fd;

		unlink("vm");
		if (i % 2) /* sometimes the old one closes later */
			hang_up(before);
		fd = guest_at("vm");
		if (i % 2 == 0 && i > 0)
			hang_up(before);
		while (!gets(fd)) { /* retries until it is answered */
			int failed = say(fd);

			ck_assert(
			    !failed || failed == EPERM || failed == EAGAIN);
			sched_yield();
		}
	}
	atomic_store(&over, true);
	while (say(fd) != 0)
		sched_yield();
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}

/* ---- its MAC ---- */

TEST(the_guests_mac_is_the_latest_valid_source_address)
{
	static const struct {
		uint8_t source[6], mac[6];
	} steps[] = {
		{ { 0 }, { 0 } },
		{ { 0x01, 0, 0, 0, 0, 1 }, { 0 } },
		{ { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, { 0 } },
		{ { 0, 0, 0, 0, 0, 1 }, { 0, 0, 0, 0, 0, 1 } },
		{ { 0x33, 0, 0, 0, 0, 2 }, { 0, 0, 0, 0, 0, 1 } },
		{ { 0x52, 1, 2, 3, 4, 5 }, { 0x52, 1, 2, 3, 4, 5 } },
	};

	for (int i = 0; i < LENGTH(steps); i++) {
		uint8_t frame[60] = { 0 }, mac[6];

		memcpy(frame + 6, steps[i].source, 6);
		guest_learn_mac(&guest, frame);
		ck_assert_int_eq(guest_get_mac(&guest, mac), i > 2);
		ck_assert_mem_eq(mac, steps[i].mac, 6);
	}
}
