#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/connect_race.h"
#include "tests/support/frames.h"
#include "tests/support/log_catcher.h"
#include "tests/support/suite.h"

static struct guest guest;
static struct batch batch;
static char why[GUEST_WHY_BYTES];
static unsigned descriptors_before;

static void
set_up(void)
{
	scratch_enter();
	descriptors_before = open_descriptors();
	ck_assert_int_eq(batch_create(&batch), 0);
}

static void
tear_down(void)
{
	batch_destroy(&batch);
	scratch_leave();
}

static void
tear_down_and_count(void)
{
	tear_down();
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
}

static int
try_open(struct guest *it, const char *text, mode_t mode)
{
	struct guest_endpoint endpoint;
	struct error fault;

	ck_assert_int_eq(guest_endpoint_parse(&endpoint, text, &fault), 0);
	return guest_open(it, &endpoint, mode, why);
}

static void
open_ours(void)
{
	ck_assert_msg(try_open(&guest, "unixgram:ours", 0600) == 0, "%s", why);
}

static void
refused(const char *text, const char *reason)
{
	struct guest other;

	ck_assert_int_eq(try_open(&other, text, 0600), -1);
	ck_assert_str_eq(why, reason);
}

static void
refused_descriptor(int fd, const char *reason)
{
	char text[32], expected[GUEST_WHY_BYTES];

	snprintf(text, sizeof(text), "fd:%d", fd);
	snprintf(expected, sizeof(expected), "fd:%d: %s", fd, reason);
	refused(text, expected);
}

static bool
exists(const char *path)
{
	return access(path, F_OK) == 0;
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

/* A guest's socket that sends to ours; "": without a name. */
static int
guest_at(const char *name)
{
	socklen_t length;
	struct sockaddr_un address = address_of(name, &length);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	if (*name)
		ck_assert_int_eq(
		    bind(fd, (struct sockaddr *)&address, length), 0);
	return fd;
}

static int
say(int fd)
{
	socklen_t length;
	struct sockaddr_un ours = address_of("ours", &length);
	uint8_t frame[60];

	frame_write(frame, sizeof(frame), 1);
	return sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&ours,
		   length) == sizeof(frame)
		   ? 0
		   : -1;
}

/* What fwd-up does with a batch's sender. */
static void
hear(void)
{
	ck_assert_int_eq(guest_receive(&guest, &batch, BATCH_FRAMES), 0);
	guest_heard(&guest, &batch.sender, batch.sender_length);
}

static void
say_and_hear(int fd)
{
	ck_assert_int_eq(say(fd), 0);
	hear();
}

/* What fwd-down does: 1, or -1 with errno. */
static int
answer(void)
{
	static uint8_t bytes[FRAME_HEADER_BYTES + 60];

	batch.parcels[0] = (struct iovec){ bytes, sizeof(bytes) };
	batch.count = 1;
	return guest_send(&guest, &batch, 0);
}

/* Reports what answer() found. */
static bool
gone(int error)
{
	return guest_gone(&guest, guest.present, error);
}

static bool
gets(int fd)
{
	uint8_t frame[61];

	return recv(fd, frame, sizeof(frame), MSG_DONTWAIT) == 60;
}

static const char *
peer(void)
{
	static char text[sizeof(guest.peer.sun_path) + 2];

	guest_peer_text(&guest, text, sizeof(text));
	return text;
}

/* main() would look now. */
static bool
watch_tells(void)
{
	struct pollfd watch = { .fd = guest_watch_fd(&guest),
		.events = POLLIN };

	return poll(&watch, 1, 0) == 1;
}

static int
learned(const char *name)
{
	int fd = guest_at(name);

	say_and_hear(fd);
	ck_assert(guest.present);
	ck_assert_str_eq(peer(), name);
	return fd;
}

static void
die(int fd, const char *path)
{
	close(fd);
	ck_assert_int_eq(unlink(path), 0);
}

/* ---- a descriptor ---- */

FIXTURE(set_up, tear_down_and_count)

TEST(a_connected_datagram_socket_is_a_guest_from_the_start)
{
	int ends[2];
	char text[32];

	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends), 0);
	snprintf(text, sizeof(text), "fd:%d", ends[0]);
	ck_assert_int_eq(try_open(&guest, text, 0600), 0);
	ck_assert(guest.present);
	ck_assert_str_eq(peer(), "fd");
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(ends[1]));
	/* The copy threads wait on it, and no command may inherit it. */
	ck_assert_int_eq(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(fcntl(ends[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	guest_close(&guest);
	close(ends[1]);
}

TEST(a_descriptor_that_is_no_guest_is_told)
{
	int ends[2], pipes[2];
	int alone = socket(AF_UNIX, SOCK_DGRAM, 0);

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	ck_assert_int_eq(pipe(pipes), 0);
	refused_descriptor(987, "no such open descriptor (was it passed on?)");
	refused_descriptor(pipes[0], "not a socket");
	refused_descriptor(ends[0], "a socket, but not a datagram socket");
	refused_descriptor(
	    alone, "a datagram socket that is connected to nobody");
	close(alone);
	close(ends[0]);
	close(ends[1]);
	close(pipes[0]);
	close(pipes[1]);
}

TEST(a_descriptors_guest_that_is_gone_is_gone_for_good)
{
	int ends[2];
	char text[32];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	snprintf(text, sizeof(text), "fd:%d", ends[0]);
	ck_assert_int_eq(try_open(&guest, text, 0600), 0);
	close(ends[1]);
	ck_assert_int_eq(answer(), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	ck_assert(!gone(ECONNREFUSED));
	ck_assert(!guest.present);
	ck_assert_str_eq(peer(), "");
	guest_close(&guest);
}

/* ---- a path ---- */

TEST(a_path_is_bound_with_its_mode_and_nobody_is_there)
{
	struct stat file;

	ck_assert_int_eq(try_open(&guest, "unixgram:ours", 0620), 0);
	ck_assert_int_eq(stat("ours", &file), 0);
	ck_assert_uint_eq(file.st_mode, S_IFSOCK | 0620);
	ck_assert(!guest.present);
	ck_assert_str_eq(peer(), "");
	ck_assert_int_eq(guest_set_mode(&guest, 0666), 0);
	ck_assert_int_eq(stat("ours", &file), 0);
	ck_assert_uint_eq(file.st_mode, S_IFSOCK | 0666);
	guest_close(&guest);
	ck_assert(!exists("ours"));
}

static mode_t
mode_of(const char *path)
{
	struct stat file;

	ck_assert_int_eq(stat(path, &file), 0);
	return file.st_mode & 0777;
}

TEST(the_mode_of_a_file_that_isnt_ours_is_left_alone, .count = 3)
{
	int fd = open("theirs", O_CREAT | O_WRONLY, 0600);

	open_ours();
	ck_assert_int_eq(rename("ours", "moved"), 0);
	if (_i == 0)
		ck_assert_int_eq(symlink("theirs", "ours"), 0);
	else if (_i == 1)
		ck_assert_int_eq(link("theirs", "ours"), 0);
	else
		ck_assert_int_eq(symlink("moved", "ours"), 0);
	/* The same mode is nothing to do. */
	ck_assert_int_eq(guest_set_mode(&guest, 0600), 0);
	ck_assert_uint_eq(log_count("warn"), 0);
	ck_assert_int_eq(guest_set_mode(&guest, 0666), -1);
	ck_assert_uint_eq(
	    log_count("warn guest: can't change the mode of our socket"), 1);
	ck_assert_uint_eq(mode_of("theirs"), 0600);
	ck_assert_uint_eq(mode_of("moved"), 0600);
	close(fd);
	guest_close(&guest);
}

/* There is no file to change: it must not come back with the old mode. */
TEST(a_mode_that_changes_while_the_file_is_gone_is_that_of_the_next)
{
	struct stat file;

	ck_assert_int_eq(try_open(&guest, "unixgram:ours", 0666), 0);
	ck_assert_int_eq(unlink("ours"), 0);
	guest_set_mode(&guest, 0600);
	ck_assert_int_eq(guest_bind_again(&guest, why, sizeof(why)), 0);
	ck_assert_int_eq(stat("ours", &file), 0);
	ck_assert_int_eq(file.st_mode & 0777, 0600);
	guest_close(&guest);
}

TEST(frames_in_the_socket_that_a_new_one_replaces_are_counted)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "ours" };
	int nobody = socket(AF_UNIX, SOCK_DGRAM, 0);

	open_ours();
	ck_assert_int_eq(connect(nobody, (void *)&at, sizeof(at)), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(send(nobody, "fifteen bytes..", 15, 0), 15);
	ck_assert_int_eq(unlink("ours"), 0);
	ck_assert_int_eq(guest_bind_again(&guest, why, sizeof(why)), 0);
	ck_assert_uint_eq(counter_read(&guest.lost), 3);
	close(nobody);
	guest_close(&guest);
}

/* After the door was used, an empty frame from nobody may be its wake; what
 * stands behind it is a frame all the same. */
TEST(what_follows_an_empty_frame_is_not_lost_with_it)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "ours" };
	int nobody = socket(AF_UNIX, SOCK_DGRAM, 0);

	open_ours();
	ck_assert_int_eq(unlink("ours"), 0);
	ck_assert_int_eq(guest_bind_again(&guest, why, sizeof(why)), 0);
	ck_assert_int_eq(connect(nobody, (void *)&at, sizeof(at)), 0);
	ck_assert_int_eq(send(nobody, "", 0, 0), 0);
	ck_assert_int_eq(send(nobody, "fifteen bytes..", 15, 0), 15);
	while (guest_receive(&guest, &batch, 8) < 0)
		ck_assert_int_eq(errno, EINTR);
	ck_assert_uint_eq(parcel_length(&batch.parcels[batch.count - 1]), 15);
	close(nobody);
	guest_close(&guest);
}

TEST(a_dead_forwarders_path_is_taken_over)
{
	open_ours();
	close(guest.fd);
	doorbell_destroy(&guest.bell);
	ck_assert(exists("ours"));
	open_ours();
	close(learned("vm"));
	guest_close(&guest);
}

TEST(a_living_forwarders_path_is_left_alone)
{
	static const char in_use[] =
	    "ours: in use by another process that runs";
	int fd;

	open_ours();
	refused("unixgram:ours", in_use);
	/* Connected to its guest it lets nobody else connect. */
	fd = learned("vm");
	refused("unixgram:ours", in_use);
	say_and_hear(fd);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	close(fd);
	guest_close(&guest);
}

TEST(on_leaving_anothers_file_at_our_path_stays)
{
	int fd;

	open_ours();
	ck_assert_int_eq(unlink("ours"), 0);
	fd = guest_at("ours");
	guest_close(&guest);
	ck_assert(exists("ours"));
	close(fd);
}

TEST(the_first_sender_is_the_guest)
{
	int fd;

	open_ours();
	fd = learned("vm");
	ck_assert_uint_eq(log_count("info guest: found peer=vm\n"), 1);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	say_and_hear(fd);
	ck_assert_uint_eq(log_count("found"), 1);
	close(fd);
	guest_close(&guest);
}

/* Its path fills sun_path, without a final zero. */
TEST(a_guest_with_the_longest_path_is_answered)
{
	char name[sizeof(guest.peer.sun_path) + 1];
	int fd;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	open_ours();
	fd = learned(name);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	/* And found again. */
	die(fd, name);
	fd = guest_at(name);
	ck_assert(guest_look(&guest));
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	close(fd);
	guest_close(&guest);
}

TEST(while_there_is_a_guest_the_kernel_refuses_others)
{
	int fd, other;

	open_ours();
	fd = learned("vm");
	other = guest_at("other");
	ck_assert_int_eq(say(other), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_str_eq(peer(), "vm");
	close(other);
	close(fd);
	guest_close(&guest);
}

/* Connected to each other they hold by bytes, not ten frames. */
TEST(the_guests_queue_is_longer_than_a_strangers)
{
	socklen_t length;
	struct sockaddr_un ours = address_of("ours", &length);
	int fd, count = 0;

	open_ours();
	fd = learned("vm");
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&ours, length), 0);
	while (count < 60 && answer() == 1)
		count++;
	ck_assert_int_eq(count, 60);
	close(fd);
	guest_close(&guest);
}

TEST(an_abstract_name_is_a_guest_without_a_file)
{
	int fd;

	open_ours();
	/* Nothing is left of one that had a file. */
	close(learned("vm"));
	ck_assert_int_eq(answer(), -1);
	ck_assert(!gone(errno));
	fd = learned("@vm");
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	ck_assert(!guest_look(&guest));
	ck_assert(!watch_tells());
	ck_assert(guest.present);
	/* A new one is found by a send that is refused. */
	close(fd);
	fd = guest_at("@vm");
	ck_assert_int_eq(answer(), -1);
	ck_assert(gone(errno));
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	close(fd);
	guest_close(&guest);
}

TEST(a_guest_without_a_name_is_told_once_and_never_answered)
{
	int fd, named;

	open_ours();
	fd = guest_at("");
	say_and_hear(fd);
	say_and_hear(fd);
	ck_assert(!guest.present);
	ck_assert_uint_eq(log_count("whose socket has no name"), 1);
	named = learned("vm");
	close(named);
	close(fd);
	guest_close(&guest);
}

TEST(a_sender_that_cant_be_answered_is_told_and_forgotten)
{
	int fd;

	open_ours();
	fd = guest_at("vm");
	ck_assert_int_eq(say(fd), 0);
	die(fd, "vm");
	hear();
	ck_assert(!guest.present);
	ck_assert_uint_eq(log_count("warn guest: can't answer peer=vm"), 1);
	close(learned("next"));
	guest_close(&guest);
}

/* ---- restarts ---- */

TEST(a_guest_back_at_its_path_is_found_by_a_refused_send)
{
	int fd;

	open_ours();
	die(learned("vm"), "vm");
	fd = guest_at("vm");
	ck_assert_int_eq(answer(), -1);
	ck_assert(gone(errno));
	ck_assert_uint_eq(log_count("warn guest: restarted peer=vm"), 1);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	ck_assert_int_eq(say(fd), 0);
	close(fd);
	guest_close(&guest);
}

TEST(a_guest_back_at_its_path_is_found_without_traffic)
{
	int fd;

	open_ours();
	die(learned("vm"), "vm");
	fd = guest_at("vm");
	ck_assert_int_eq(say(fd), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert(watch_tells());
	ck_assert(guest_look(&guest));
	ck_assert_str_eq(peer(), "vm");
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	ck_assert_int_eq(say(fd), 0);
	ck_assert(!guest_look(&guest));
	close(fd);
	guest_close(&guest);
}

static void
count_one(void *context)
{
	++*(int *)context;
}

TEST(every_guest_but_the_first_is_told_of_however_it_was_found)
{
	int others = 0, fd;

	open_ours();
	guest.on_another = count_one;
	guest.context = &others;
	fd = learned("vm");
	say_and_hear(fd);
	ck_assert_int_eq(others, 0);
	/* By its file. */
	die(fd, "vm");
	fd = guest_at("vm");
	ck_assert(guest_look(&guest));
	ck_assert_int_eq(others, 1);
	/* By a refused send. */
	die(fd, "vm");
	fd = guest_at("vm");
	ck_assert_int_eq(answer(), -1);
	ck_assert(gone(errno));
	ck_assert_int_eq(others, 2);
	ck_assert(!guest_look(&guest));
	/* By its first frame, after nobody was there. */
	close(fd);
	ck_assert_int_eq(answer(), -1);
	ck_assert(!gone(errno));
	ck_assert_int_eq(others, 2);
	fd = learned("other");
	ck_assert_int_eq(others, 3);
	/* By its first frame, before anybody knew of the other's end. */
	close(fd);
	ck_assert_int_eq(answer(), -1);
	fd = learned("third");
	ck_assert_int_eq(others, 4);
	close(fd);
	guest_close(&guest);
}

/* It died with its file left behind. */
TEST(a_dead_guest_makes_room_for_anybody)
{
	uint64_t which;
	int fd, other;

	open_ours();
	close(learned("vm"));
	ck_assert_int_eq(answer(), -1);
	which = guest.present;
	ck_assert(!guest_gone(&guest, which, ECONNREFUSED));
	ck_assert(!guest.present);
	ck_assert_str_eq(peer(), "");
	ck_assert_uint_eq(log_count("warn guest: gone peer=vm"), 1);
	/* Once is enough. */
	ck_assert(!guest_gone(&guest, which, ECONNREFUSED));
	ck_assert_uint_eq(log_count("gone peer="), 1);
	other = learned("other");
	close(other);
	ck_assert_int_eq(answer(), -1);
	ck_assert(!gone(errno));
	ck_assert_int_eq(unlink("vm"), 0);
	fd = learned("vm");
	close(fd);
	guest_close(&guest);
}

/* A refused send has disconnected us, and a stranger comes in before it is
 * reported. */
TEST(a_late_report_of_a_refused_send_leaves_the_next_guest_alone)
{
	uint64_t which;
	int next;

	open_ours();
	close(learned("vm"));
	which = guest.present;
	ck_assert_int_eq(answer(), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	next = learned("next");
	ck_assert_int_eq(say(next), 0);
	ck_assert(guest_gone(&guest, which, ECONNREFUSED));
	ck_assert_str_eq(peer(), "next");
	ck_assert_uint_eq(counter_read(&guest.lost), 0);
	ck_assert_uint_eq(log_count("warn guest:"), 0);
	hear();
	ck_assert_uint_eq(batch.count, 1);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(next));
	close(next);
	guest_close(&guest);
}

/* As a cleaner of /tmp does it. The connection works on, and nobody could make
 * it again. */
TEST(a_live_guest_whose_file_is_removed_is_kept)
{
	int fd, other;

	open_ours();
	fd = learned("vm");
	ck_assert(!watch_tells());
	ck_assert_int_eq(unlink("vm"), 0);
	ck_assert(watch_tells());
	ck_assert(!guest_look(&guest));
	ck_assert_str_eq(peer(), "vm");
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	say_and_hear(fd);
	ck_assert_int_eq(answer(), 1);
	ck_assert_uint_eq(log_count("warn"), 0);
	/* Its end makes room for anybody. */
	other = guest_at("other");
	ck_assert_int_eq(say(other), -1);
	ck_assert(!watch_tells());
	close(fd);
	ck_assert(watch_tells());
	ck_assert(guest_look(&guest));
	ck_assert_uint_eq(log_count("warn guest: gone peer=vm"), 1);
	ck_assert_int_eq(guest_patience_ms(&guest), -1);
	say_and_hear(other);
	ck_assert_str_eq(peer(), "other");
	close(other);
	guest_close(&guest);
}

/* Its file is watched no longer, so its path is looked at on a timer. */
TEST(a_guest_at_the_path_of_one_that_lost_its_file_takes_its_place)
{
	int fd, next;

	open_ours();
	fd = learned("vm");
	ck_assert_int_eq(guest_patience_ms(&guest), -1);
	ck_assert_int_eq(unlink("vm"), 0);
	ck_assert(!guest_look(&guest));
	ck_assert_int_eq(guest_patience_ms(&guest), 1000);
	next = guest_at("vm");
	ck_assert(guest_look(&guest));
	ck_assert_uint_eq(log_count("warn guest: restarted peer=vm"), 1);
	ck_assert_int_eq(guest_patience_ms(&guest), -1);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(next));
	ck_assert(!gets(fd));
	close(next);
	close(fd);
	guest_close(&guest);
}

static void
make_a_file(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	ck_assert_int_ge(fd, 0);
	close(fd);
}

TEST(a_file_at_the_guests_path_where_nobody_answers_leaves_the_guest)
{
	int fd, next;

	open_ours();
	fd = learned("vm");
	ck_assert_int_eq(unlink("vm"), 0);
	ck_assert(!guest_look(&guest));
	make_a_file("vm");
	ck_assert(!guest_look(&guest));
	ck_assert_int_eq(unlink("vm"), 0);
	close(guest_at("vm"));
	ck_assert(!guest_look(&guest));
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	ck_assert_int_eq(unlink("vm"), 0);
	next = guest_at("vm");
	ck_assert(guest_look(&guest));
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(next));
	close(next);
	close(fd);
	guest_close(&guest);
}

TEST(a_guest_whose_file_comes_back_is_the_same)
{
	int fd;

	open_ours();
	fd = learned("vm");
	ck_assert_int_eq(link("vm", "also"), 0);
	ck_assert_int_eq(unlink("vm"), 0);
	ck_assert(!guest_look(&guest));
	ck_assert_int_eq(guest_patience_ms(&guest), 1000);
	ck_assert_int_eq(rename("also", "vm"), 0);
	guest_look(&guest);
	ck_assert_int_eq(guest_patience_ms(&guest), -1);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	close(fd);
	guest_close(&guest);
}

/* Each send to it fails, each connect() to it succeeds. */
TEST(a_guest_that_shut_its_receiving_down_is_the_same, .count = 2)
{
	int others = 0, fd;

	open_ours();
	guest.on_another = count_one;
	guest.context = &others;
	fd = learned(_i ? "@vm" : "vm");
	ck_assert_int_eq(shutdown(fd, SHUT_RD), 0);
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(answer(), -1);
		ck_assert_int_eq(errno, EPIPE);
		ck_assert_int_eq(say(fd), 0);
		ck_assert(gone(EPIPE));
	}
	hear();
	ck_assert_uint_eq(batch.count, 10);
	ck_assert_uint_eq(counter_read(&guest.lost), 0);
	ck_assert_uint_eq(log_count("warn guest: refuses frames peer="), 1);
	ck_assert_uint_eq(log_count("warn"), 1);
	ck_assert_int_eq(others, 0);
	say_and_hear(fd);
	close(fd);
	guest_close(&guest);
}

/* ---- in a folder that others may write ---- */

#define STRANGER 12345

/* Only root can give a file away. */
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
	ck_assert_uint_eq(log_count("warn guest: not answered: another user's "
				    "socket in a folder that others may write"),
	    1);
}

TEST(a_stranger_in_a_shared_folder_is_not_answered)
{
	int fd;

	if (!share_folder())
		return;
	open_ours();
	fd = strangers_guest_at("vm");
	say_and_hear(fd);
	say_and_hear(fd);
	ck_assert(!guest.present);
	ck_assert_int_eq(answer(), -1);
	expect_one_warning();
	close(learned("own"));
	expect_one_warning();
	close(fd);
	guest_close(&guest);
}

TEST(a_stranger_who_takes_a_dead_guests_path_is_not_answered, .count = 2)
{
	int fd;

	if (!share_folder())
		return;
	open_ours();
	die(learned("vm"), "vm");
	fd = strangers_guest_at("vm");
	/* However it is found. */
	if (_i == 0) {
		ck_assert_int_eq(answer(), -1);
		ck_assert(!gone(errno));
	} else {
		ck_assert(guest_look(&guest));
	}
	ck_assert(!guest.present);
	ck_assert_int_eq(answer(), -1);
	ck_assert(!gets(fd));
	expect_one_warning();
	close(fd);
	guest_close(&guest);
}

TEST(a_stranger_who_takes_a_live_guests_path_changes_nothing)
{
	int fd, other;

	if (!share_folder())
		return;
	open_ours();
	fd = learned("vm");
	ck_assert_int_eq(unlink("vm"), 0);
	other = strangers_guest_at("vm");
	ck_assert(!guest_look(&guest));
	ck_assert(!guest_look(&guest));
	expect_one_warning();
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	ck_assert(!gets(other));
	close(other);
	close(fd);
	guest_close(&guest);
}

TEST(in_a_private_folder_anybodys_guest_is_answered)
{
	int fd;

	if (geteuid() != 0)
		return;
	open_ours();
	fd = strangers_guest_at("vm");
	say_and_hear(fd);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	close(fd);
	guest_close(&guest);
}

/* ---- more restarts ---- */

TEST(a_file_put_in_the_guests_place_is_the_new_guest)
{
	int fd, next;

	open_ours();
	fd = learned("vm");
	next = guest_at("next");
	ck_assert_int_eq(rename("next", "vm"), 0);
	ck_assert(watch_tells());
	ck_assert(guest_look(&guest));
	ck_assert(guest.present);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(next));
	ck_assert(!gets(fd));
	close(next);
	close(fd);
	guest_close(&guest);
}

TEST(a_guest_whose_file_was_moved_away_stays)
{
	int fd;

	open_ours();
	fd = learned("vm");
	ck_assert_int_eq(rename("vm", "elsewhere"), 0);
	ck_assert(watch_tells());
	ck_assert(!guest_look(&guest));
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	close(fd);
	guest_close(&guest);
}

TEST(other_changes_of_its_file_or_folder_leave_the_guest)
{
	int fd, other;

	open_ours();
	fd = learned("vm");
	other = guest_at("other");
	die(other, "other");
	ck_assert(!watch_tells());
	ck_assert_int_eq(chmod("vm", 0666), 0);
	ck_assert_int_eq(link("vm", "also"), 0);
	ck_assert_int_eq(unlink("also"), 0);
	ck_assert(!guest_look(&guest));
	ck_assert(guest.present);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(fd));
	ck_assert_uint_eq(log_count("restarted") + log_count("gone"), 0);
	/* And what is told afterwards is heard. */
	die(fd, "vm");
	ck_assert(watch_tells());
	ck_assert(guest_look(&guest));
	guest_close(&guest);
}

static ino_t
inode(const char *path)
{
	struct stat file;

	ck_assert_int_eq(lstat(path, &file), 0);
	return file.st_ino;
}

/* ext4 gives the number of a removed file to the next one; where a file system
 * doesn't, this is a restart like any other. */
TEST(a_new_file_with_the_old_ones_inode_number_is_a_new_guest)
{
	int fd, next;
	ino_t before;

	open_ours();
	fd = learned("vm");
	before = inode("vm");
	die(fd, "vm");
	next = guest_at("vm");
	for (int i = 0; i < 50 && inode("vm") != before; i++) {
		die(next, "vm");
		next = guest_at("vm");
	}
	ck_assert(guest_look(&guest));
	ck_assert(guest.present);
	ck_assert_int_eq(answer(), 1);
	ck_assert(gets(next));
	close(next);
	guest_close(&guest);
}

/* The system gives us no more descriptors, of inotify or kqueue either. */
static void
learned_unwatched(int fd)
{
	struct rlimit normal, none;
	int next = dup(fd);

	ck_assert_int_eq(say(fd), 0);
	close(next);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &normal), 0);
	none = normal;
	none.rlim_cur = (rlim_t)next;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	hear();
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &normal), 0);
}

static bool
bell_rings(void)
{
	struct pollfd bell = { .fd = guest.bell.fds[0], .events = POLLIN };

	return poll(&bell, 1, 0) == 1;
}

/* Its inode number may be that of the one before, its time may not. */
static int
restarted(int fd)
{
	ck_assert(!guest_look(&guest));
	do {
		poll(NULL, 0, 1);
		die(fd, "vm");
		fd = guest_at("vm");
	} while (!guest_look(&guest));
	return fd;
}

TEST(a_guest_that_cant_be_watched_is_looked_at_on_a_timer)
{
	int fd;

	open_ours();
	ck_assert_int_eq(guest_patience_ms(&guest), -1);
	fd = guest_at("vm");
	learned_unwatched(fd);
	ck_assert_str_eq(peer(), "vm");
	/* main() sleeps without a deadline: it is told of one. */
	ck_assert(bell_rings());
	ck_assert(!guest_look(&guest));
	ck_assert(!bell_rings());
	ck_assert_int_eq(guest_patience_ms(&guest), 1000);
	ck_assert_uint_eq(
	    log_count("warn guest: can't watch the guest's socket"), 1);
	ck_assert(!guest_look(&guest));
	ck_assert_uint_eq(log_count("can't watch"), 1);
	fd = restarted(fd);
	ck_assert_int_eq(say(fd), 0);
	/* There is a watch again: nothing wakes anybody for nothing. */
	ck_assert_int_eq(guest_patience_ms(&guest), -1);
	die(fd, "vm");
	ck_assert(watch_tells());
	ck_assert(guest_look(&guest));
	guest_close(&guest);
}

TEST(nothing_is_taken_to_watch_a_guest_that_has_no_file)
{
	int fd;

	open_ours();
	ck_assert_int_eq(guest_watch_fd(&guest), -1);
	fd = learned("@vm");
	ck_assert_int_eq(guest_watch_fd(&guest), -1);
	ck_assert_int_eq(guest_patience_ms(&guest), -1);
	close(fd);
	guest_close(&guest);
}

TEST(frames_of_the_new_guest_are_kept_those_of_the_dead_one_counted)
{
	int fd, next;

	open_ours();
	fd = learned("vm");
	ck_assert_int_eq(say(fd), 0);
	ck_assert_int_eq(say(fd), 0);
	die(fd, "vm");
	next = guest_at("vm");
	ck_assert(guest_look(&guest));
	ck_assert_uint_eq(counter_read(&guest.lost), 2);
	ck_assert_int_eq(say(next), 0);
	ck_assert_int_eq(say(next), 0);
	hear();
	ck_assert_uint_eq(batch.count, 2);
	/* And with nobody in its place. */
	ck_assert_int_eq(say(next), 0);
	die(next, "vm");
	ck_assert(guest_look(&guest));
	ck_assert_uint_eq(counter_read(&guest.lost), 3);
	guest_close(&guest);
}

/* fwd-up, fwd-down and main() at work, as in the program. */
static atomic_bool over;

static void *
receive_for_ever(void *argument)
{
	(void)argument;
	for (;;) {
		if (guest_receive(&guest, &batch, BATCH_FRAMES) < 0) {
			ck_assert_int_eq(errno, ECONNRESET);
			continue;
		}
		if (atomic_load(&over))
			return NULL;
		guest_heard(&guest, &batch.sender, batch.sender_length);
	}
}

static void *
send_for_ever(void *argument)
{
	static uint8_t bytes[FRAME_HEADER_BYTES + 60];
	struct batch own;

	(void)argument;
	ck_assert_int_eq(batch_create(&own), 0);
	own.parcels[0] = (struct iovec){ bytes, sizeof(bytes) };
	own.count = 1;
	while (!atomic_load(&over)) {
		uint64_t which = atomic_load(&guest.present);

		if (which != 0 && guest_send(&guest, &own, 0) < 0 &&
		    errno != EAGAIN)
			guest_gone(&guest, which, errno);
		sched_yield();
	}
	batch_destroy(&own);
	return NULL;
}

static void *
look_for_ever(void *argument)
{
	(void)argument;
	while (!atomic_load(&over)) {
		struct pollfd watch = { .fd = guest_watch_fd(&guest),
			.events = POLLIN };

		if (poll(&watch, 1, 1) == 1)
			guest_look(&guest);
	}
	return NULL;
}

/* Until it has got an answer, it says it is there. */
static void
live_a_little(int fd)
{
	while (!gets(fd)) {
		if (say(fd) < 0)
			ck_assert(errno == EPERM || errno == EAGAIN);
		sched_yield();
	}
}

FIXTURE(set_up, tear_down)

TEST(a_guest_restarted_often_under_traffic_is_found_each_time, .seconds = 30)
{
	static void *(*const run[])(
	    void *) = { receive_for_ever, send_for_ever, look_for_ever };
	int fd = -1;
	pthread_t threads[3];

	open_ours();
	atomic_store(&over, false);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(
		    pthread_create(&threads[i], NULL, run[i], NULL), 0);
	for (int i = 0; i < 200; i++) {
		int before = fd;

		unlink("vm");
		if (i %
		    2) /* now and then the old one goes after the new came */
			close(before);
		fd = guest_at("vm");
		if (i % 2 == 0)
			close(before);
		live_a_little(fd);
	}
	atomic_store(&over, true);
	while (say(fd) < 0)
		sched_yield();
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	close(fd);
	guest_close(&guest);
}

/* ---- its MAC ---- */

static void
learn_source(uint8_t first, uint8_t last)
{
	uint8_t frame[60] = { 0 };

	frame[6] = first;
	frame[11] = last;
	guest_learn_mac(&guest, frame);
}

static bool
mac_is(uint8_t first, uint8_t last)
{
	const uint8_t expected[6] = { first, 0, 0, 0, 0, last };
	uint8_t mac[6];

	return guest_get_mac(&guest, mac) && memcmp(mac, expected, 6) == 0;
}

FIXTURE(set_up, tear_down_and_count)

TEST(the_guests_mac_is_the_source_of_its_latest_frame)
{
	uint8_t mac[6], frame[60];

	open_ours();
	ck_assert(!guest_get_mac(&guest, mac));
	frame_write(frame, sizeof(frame), 1);
	guest_learn_mac(&guest, frame);
	ck_assert(guest_get_mac(&guest, mac));
	ck_assert_mem_eq(mac, frames_guest_mac, 6);
	learn_source(0x02, 9);
	ck_assert(mac_is(0x02, 9));
	guest_close(&guest);
}

TEST(no_mac_is_learned_from_a_source_that_nobody_has)
{
	uint8_t mac[6];

	open_ours();
	learn_source(0, 0);
	learn_source(0x01, 1);
	learn_source(0xff, 0xff);
	ck_assert(!guest_get_mac(&guest, mac));
	learn_source(0, 1);
	learn_source(0x33, 2);
	ck_assert(mac_is(0, 1));
	guest_close(&guest);
}

static void *
learn_for_ever(void *argument)
{
	(void)argument;
	while (!atomic_load(&over)) {
		atomic_store(&guest.mac, 0);
		learn_source(0x02, 9);
	}
	return NULL;
}

/* All zeros is what a probe would have gone out with. */
TEST(a_mac_that_is_being_learned_is_whole_or_unknown)
{
	static const uint8_t nobody[6];
	pthread_t thread;
	uint8_t mac[6];

	open_ours();
	atomic_store(&over, false);
	ck_assert_int_eq(
	    pthread_create(&thread, NULL, learn_for_ever, NULL), 0);
	for (int i = 0; i < 2000000; i++)
		if (guest_get_mac(&guest, mac))
			ck_assert(memcmp(mac, nobody, sizeof(mac)) != 0);
	atomic_store(&over, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	guest_close(&guest);
}
