/* The protocols of systemd with a socket of our own as the manager's. */
#include "base/service.h"

#include <sys/wait.h>

#include "tests/support/settable_clock.h"
#include "tests/support/suite.h"

static struct service service;
static int manager = -1; /* its socket */
static int sent_fds[4];  /* that came with the last message */
static size_t sent_count;

static void
bind_manager(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX,
		.sun_path = "notify" };

	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(
	    bind(manager, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void
set_up(void)
{
	char path[200];

	scratch_enter();
	bind_manager();
	ck_assert(getcwd(path, sizeof(path) - 8));
	strcat(path, "/notify");
	setenv("NOTIFY_SOCKET", path, 1);
	service_open(&service);
}

static void
tear_down(void)
{
	close(manager);
	scratch_leave();
}

/* Returns the manager's next message, or "" if there is none. */
static const char *
next_message(void)
{
	static char text[4096];
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(sent_fds))];
	struct iovec part = { text, sizeof(text) - 1 };
	struct msghdr message = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *rights;
	ssize_t length = recvmsg(manager, &message, MSG_DONTWAIT);

	text[length < 0 ? 0 : length] = '\0';
	rights = length < 0 ? NULL : CMSG_FIRSTHDR(&message);
	sent_count =
	    rights ? (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	if (sent_count > 0)
		memcpy(sent_fds, CMSG_DATA(rights), sent_count * sizeof(int));
	return text;
}

static void
expect_message(const char *text)
{
	ck_assert_str_eq(next_message(), text);
}

static ino_t
inode_of(int fd)
{
	struct stat file;

	ck_assert_int_eq(fstat(fd, &file), 0);
	return file.st_ino;
}

/* Fills the manager's queue with messages of another service. Returns how
 * many. */
static unsigned
fill_queue(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX,
		.sun_path = "notify" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	unsigned count = 0;

	while (sendto(fd, "OTHER=1", 7, 0, (struct sockaddr *)&address,
		   sizeof(address)) > 0)
		count++;
	close(fd);
	ck_assert_uint_gt(count, 0);
	return count;
}

static void
drain_others(unsigned count)
{
	while (count-- > 0)
		expect_message("OTHER=1");
}

FIXTURE(set_up, tear_down)

TEST(each_message_is_told_at_once)
{
	clock_stop(123456);
	service_tell(&service, SERVICE_READY);
	service_tell_status(&service, "up generation=4");
	service_tell(&service, SERVICE_RELOADING);
	service_tell(&service, SERVICE_ALIVE);
	service_tell(&service, SERVICE_FROZEN);
	service_tell(&service, SERVICE_STOPPING);
	expect_message("READY=1");
	expect_message("STATUS=up generation=4");
	expect_message("RELOADING=1\nMONOTONIC_USEC=123456000");
	expect_message("WATCHDOG=1");
	expect_message("WATCHDOG=trigger");
	expect_message("STOPPING=1");
	ck_assert_int_eq(service_poll(&service).fd, -1);
}

TEST(a_status_is_told_when_it_changes)
{
	service_tell_status(&service, "down");
	service_tell_status(&service, "down");
	service_tell_status(&service, "up");
	expect_message("STATUS=down");
	expect_message("STATUS=up");
	expect_message("");
}

TEST(a_full_queue_delays_messages_and_keeps_the_newest_in_order)
{
	unsigned others = fill_queue();
	struct pollfd room;

	service_tell_status(&service, "old");
	service_tell(&service, SERVICE_READY);
	service_tell_status(&service, "new");
	service_tell(&service, SERVICE_RELOADING);
	service_tell(&service, SERVICE_READY);
	room = service_poll(&service);
	ck_assert_int_eq(poll(&room, 1, 0), 0);
	drain_others(others);
	ck_assert_int_eq(poll(&room, 1, 0), 1);
	service_serve(&service);
	ck_assert_ptr_nonnull(strstr(next_message(), "RELOADING=1"));
	expect_message("READY=1");
	expect_message("STATUS=new");
	expect_message("");
	ck_assert_int_eq(service_poll(&service).fd, -1);
}

TEST(a_manager_that_is_gone_loses_messages_and_is_found_again)
{
	service_tell(&service, SERVICE_READY);
	close(manager);
	service_tell(&service, SERVICE_ALIVE);
	unlink("notify");
	service_tell(&service, SERVICE_ALIVE);
	ck_assert_int_eq(service_poll(&service).fd, -1);
	bind_manager();
	service_tell_status(&service, "up");
	expect_message("STATUS=up");
}

TEST(kept_descriptors_replace_those_in_the_store)
{
	int ends[2];
	ino_t first, second;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	first = inode_of(ends[0]);
	second = inode_of(ends[1]);
	service_keep(&service, ends, 2);
	ck_assert(!is_open(ends[0]) && !is_open(ends[1]));
	expect_message("FDSTOREREMOVE=1\nFDNAME=guest");
	expect_message("FDSTORE=1\nFDNAME=guest\nFDPOLL=0");
	ck_assert_uint_eq(sent_count, 2);
	ck_assert_uint_eq(inode_of(sent_fds[0]), first);
	ck_assert_uint_eq(inode_of(sent_fds[1]), second);
	service_keep(&service, NULL, 0);
	expect_message("FDSTOREREMOVE=1\nFDNAME=guest");
	expect_message("");
}

TEST(descriptors_that_wait_for_room_are_replaced_by_newer_ones)
{
	unsigned others = fill_queue();
	int ends[2];
	ino_t kept;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	kept = inode_of(ends[1]);
	service_keep(&service, &ends[0], 1);
	ck_assert(is_open(ends[0]));
	service_keep(&service, &ends[1], 1);
	ck_assert(!is_open(ends[0]));
	drain_others(others);
	service_serve(&service);
	expect_message("FDSTOREREMOVE=1\nFDNAME=guest");
	expect_message("FDSTORE=1\nFDNAME=guest\nFDPOLL=0");
	ck_assert_uint_eq(sent_count, 1);
	ck_assert_uint_eq(inode_of(sent_fds[0]), kept);
	ck_assert(!is_open(ends[1]));
}

TEST(sync_waits_until_the_manager_has_closed_the_barrier)
{
	pid_t child;
	int status;

	service_tell(&service, SERVICE_READY);
	child = fork();
	if (child == 0)
		_exit(service_sync(&service, -1, 5000) ? 0 : 1);
	expect_message("READY=1");
	while (strcmp(next_message(), "BARRIER=1") != 0)
		ck_assert_int_eq(waitpid(child, &status, WNOHANG), 0);
	ck_assert_int_eq(sent_count, 1);
	close(sent_fds[0]);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}

TEST(sync_gives_up_at_its_limit_and_when_interrupted)
{
	int ends[2];

	ck_assert(!service_sync(&service, -1, 20));
	fill_queue();
	ck_assert(!service_sync(&service, -1, 20));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	ck_assert(!service_sync(&service, ends[0], 60000));
}

/* ---- the environment ---- */

FIXTURE(scratch_enter, scratch_leave)

#define OWN "own" /* replaced by the process's id */

static const struct {
	const char *pid, *count, *names;
	const char *inherited; /* NAME@FD of each */
} inheritances[] = {
	{ OWN, "1", "guest", "guest@3 " },
	{ OWN, "2", "guest:other", "guest@3 other@4 " },
	{ OWN, "3", "a::guest", "a@3 @4 guest@5 " },
	{ OWN, "2", NULL, "@3 @4 " },
	{ OWN, "2", "guest", "guest@3 @4 " },
	{ OWN, "1", "guest-with-a-name-that-is-longer-than-31",
	    "guest-with-a-name-that-is-longe@3 " },
	{ OWN, "99999999999", "guest", "guest@3 @4 @5 @6 @7 @8 @9 @10 " },
	{ OWN, "0", "guest", "" },
	{ OWN, "-1", "guest", "" },
	{ OWN, "1x", "guest", "" },
	{ OWN, NULL, "guest", "" },
	{ "1", "1", "guest", "" },
	{ NULL, "1", "guest", "" },
	{ "", "1", "guest", "" },
};

static void
set_or_clear(const char *variable, const char *value)
{
	char own[24];

	snprintf(own, sizeof(own), "%ld", (long)getpid());
	if (value)
		setenv(variable, strcmp(value, OWN) == 0 ? own : value, 1);
	else
		unsetenv(variable);
}

/* Runs in a child, whose descriptors from 3 on are its own. Writes what was
 * inherited to `result`. */
static void
inherit(int i, int result)
{
	char text[512] = "";

	dup2(result, 20);
	for (int fd = 3; fd <= 10; fd++)
		dup2(STDERR_FILENO, fd);
	for (int fd = 11; fd < 20; fd++)
		close(fd);
	set_or_clear("LISTEN_PID", inheritances[i].pid);
	set_or_clear("LISTEN_FDS", inheritances[i].count);
	set_or_clear("LISTEN_FDNAMES", inheritances[i].names);
	fcntl(20, F_SETFD, 0);
	service_open(&service);
	for (size_t n = 0; n < service.inherited_count; n++) {
		int fd = service.inherited[n].fd;

		if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC) || fd > 10)
			continue;
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
		    "%s@%d ", service.inherited[n].name, fd);
	}
	if (getenv("LISTEN_PID") || getenv("LISTEN_FDS") ||
	    getenv("LISTEN_FDNAMES"))
		strcat(text, "and variables");
	(void)!write(20, text, strlen(text));
	_exit(0);
}

TEST(descriptors_are_inherited_by_name_if_they_are_meant_for_us,
    .count = LENGTH(inheritances))
{
	char text[512] = "";
	int ends[2];
	pid_t child;

	ck_assert_int_eq(pipe(ends), 0);
	child = fork();
	if (child == 0)
		inherit(_i, ends[1]);
	close(ends[1]);
	ck_assert_int_ge(read(ends[0], text, sizeof(text) - 1), 0);
	waitpid(child, NULL, 0);
	ck_assert_str_eq(text, inheritances[_i].inherited);
}

static const struct {
	const char *usec, *pid;
	int64_t ms;
} watchdogs[] = {
	{ "30000000", NULL, 30000 },
	{ "30000000", OWN, 30000 },
	{ "30000000", "1", 0 },
	{ "0", NULL, 0 },
	{ "soon", NULL, 0 },
	{ NULL, NULL, 0 },
};

TEST(the_watchdog_is_fed_if_it_is_ours, .count = LENGTH(watchdogs))
{
	set_or_clear("WATCHDOG_USEC", watchdogs[_i].usec);
	set_or_clear("WATCHDOG_PID", watchdogs[_i].pid);
	service_open(&service);
	ck_assert_int_eq(service.watchdog_ms, watchdogs[_i].ms);
	ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
	ck_assert_ptr_null(getenv("WATCHDOG_PID"));
}

static const char *const no_managers[] = { NULL, "", "/", "notify", "vsock:2:1",
	"/a/path/that/is/longer/than/the/path/of/a/socket/may/be/a/path/that/"
	"is/"
	"longer/than/the/path/of/a/socket/may/be" };

TEST(without_a_manager_nothing_is_told, .count = LENGTH(no_managers))
{
	int fd = dup(STDERR_FILENO);

	set_or_clear("NOTIFY_SOCKET", no_managers[_i]);
	service_open(&service);
	service_tell(&service, SERVICE_READY);
	service_tell_status(&service, "up");
	service_keep(&service, &fd, 1);
	ck_assert(!is_open(fd));
	ck_assert(service_sync(&service, -1, 60000));
	ck_assert_int_eq(service_poll(&service).fd, -1);
	ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
}

TEST(an_abstract_socket_is_found)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char name[40];

	snprintf(name, sizeof(name), "@forwarder-%ld", (long)getpid());
	memcpy(address.sun_path, name, strlen(name));
	address.sun_path[0] = '\0';
	manager = socket(AF_UNIX, SOCK_DGRAM, 0);
	ck_assert_int_eq(
	    bind(manager, (struct sockaddr *)&address,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) +
			    strlen(name))),
	    0);
	setenv("NOTIFY_SOCKET", name, 1);
	service_open(&service);
	service_tell(&service, SERVICE_READY);
	expect_message("READY=1");
	close(manager);
}
