/* The protocols of systemd, which some other managers use too. They need no
 * library: a message is a datagram of VARIABLE=VALUE lines. */
#include "base/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/wait.h"

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */
/* A larger LISTEN_FDS is certainly wrong; this limits the work. */
#define LISTEN_FDS_MAX 4096

static const char *const variables[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC",
	"WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES" };

/* The manager's address. */
static struct sockaddr_un manager = { .sun_family = AF_UNIX };
static socklen_t manager_length;

/* Returns the variable's value, or `otherwise` if it isn't a number. */
static int64_t
number_of(const char *variable, int64_t otherwise)
{
	const char *text = getenv(variable);
	char *end;
	long long number;

	if (text == NULL || *text < '0' || *text > '9')
		return otherwise;
	errno = 0;
	number = strtoll(text, &end, 10);
	return errno || *end != '\0' ? otherwise : number;
}

/* ---- what is inherited ---- */

/* Copies the name up to the next colon, and returns the rest. A name that is too
 * long is cut; it is not one of ours. */
static const char *
next_name(const char *names, char name[SERVICE_NAME_BYTES])
{
	size_t length = strcspn(names, ":");

	snprintf(name, SERVICE_NAME_BYTES, "%.*s", (int)length, names);
	names += length;
	return *names == ':' ? names + 1 : names;
}

static void
inherit(struct service *service)
{
	int64_t count = number_of("LISTEN_FDS", 0);
	const char *names = getenv("LISTEN_FDNAMES");

	if (number_of("LISTEN_PID", 0) != getpid())
		return; /* meant for another process */
	for (int i = 0; i < count && i < LISTEN_FDS_MAX; i++) {
		struct service_descriptor descriptor = { .fd = FIRST_FD + i };

		names = next_name(names ? names : "", descriptor.name);
		if (fcntl(descriptor.fd, F_SETFD, FD_CLOEXEC) < 0)
			continue; /* isn't open */
		if (service->inherited_count < SERVICE_INHERITED)
			service->inherited[service->inherited_count++] =
			    descriptor;
		else
			close(descriptor.fd);
	}
}

static int64_t
watchdog_ms(void)
{
	if (number_of("WATCHDOG_PID", getpid()) != getpid())
		return 0;
	return number_of("WATCHDOG_USEC", 0) / 1000;
}

/* ---- messages ---- */

/* An abstract address is written with an @. Other kinds, such as vsock:, are for
 * virtual machines. */
static int
open_socket(const char *address)
{
	size_t length = address ? strlen(address) : 0;

	if (length < 2 || length >= sizeof(manager.sun_path) ||
	    (*address != '/' && *address != '@'))
		return -1;
	memcpy(manager.sun_path, address, length + 1);
	manager_length =
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	if (*address == '@')
		manager.sun_path[0] = '\0';
	return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

/* Sends a message with up to SERVICE_KEPT descriptors (SCM_RIGHTS). Connects if
 * it must: at first, and if the manager has bound a new socket. Returns 0, or
 * -1 with errno. */
static int
post(struct service *service, char *text, const int *fds, size_t count)
{
	_Alignas(struct cmsghdr) char
	    control[CMSG_SPACE(SERVICE_KEPT * sizeof(int))] = { 0 };
	struct iovec part = { text, strlen(text) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (count > 0) {
		struct cmsghdr *rights = (struct cmsghdr *)control;

		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
	}
	for (int tries = 0; tries < 2; tries++) {
		if (sendmsg(service->socket, &message,
			MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if ((errno != ENOTCONN && errno != ECONNREFUSED) ||
		    connect(service->socket, (struct sockaddr *)&manager,
			manager_length) < 0)
			break;
	}
	return -1;
}

static void
close_kept(struct service *service)
{
	while (service->kept_count > 0)
		close(service->kept[--service->kept_count]);
}

/* Returns false if the manager's queue is full. Other errors lose the
 * message. */
static bool
send_message(struct service *service, enum service_message message)
{
	static const char *const texts[] = {
		[SERVICE_FORGET] = "FDSTOREREMOVE=1\nFDNAME=" SERVICE_GUEST,
		/* Without FDPOLL=0 systemd would drop a socket that reports
		 * an error or a hang-up. */
		[SERVICE_KEEP] =
		    "FDSTORE=1\nFDNAME=" SERVICE_GUEST "\nFDPOLL=0",
		[SERVICE_READY] = "READY=1",
		[SERVICE_ALIVE] = "WATCHDOG=1",
		[SERVICE_FROZEN] = "WATCHDOG=trigger",
		[SERVICE_STOPPING] = "STOPPING=1",
	};
	char text[SERVICE_STATUS_BYTES + 32];
	int result;

	if (message == SERVICE_STATUS)
		snprintf(text, sizeof(text), "STATUS=%s", service->status);
	else if (message == SERVICE_RELOADING)
		snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld",
		    (long long)service->reloading_us);
	else
		snprintf(text, sizeof(text), "%s", texts[message]);
	result = post(service, text, service->kept,
	    message == SERVICE_KEEP ? service->kept_count : 0);
	if (result < 0 && errno == EAGAIN)
		return false;
	if (message == SERVICE_KEEP)
		close_kept(service);
	return true;
}

void
service_serve(struct service *service)
{
	for (unsigned message = 0; message < SERVICE_MESSAGES; message++) {
		if (!(service->waiting & 1u << message))
			continue;
		if (!send_message(service, message))
			return;
		service->waiting &= ~(1u << message);
	}
}

void
service_tell(struct service *service, enum service_message message)
{
	if (service->socket < 0)
		return;
	if (message == SERVICE_RELOADING)
		service->reloading_us = clock_now_us();
	service->waiting |= 1u << message;
	service_serve(service);
}

void
service_tell_status(struct service *service, const char *status)
{
	if (strcmp(service->status, status) == 0)
		return;
	snprintf(service->status, sizeof(service->status), "%s", status);
	service_tell(service, SERVICE_STATUS);
}

/* FORGET and KEEP are two messages, because systemd would act on only one of
 * them if they were in one. */
void
service_keep(struct service *service, const int *fds, size_t count)
{
	close_kept(service);
	while (service->kept_count < count) {
		service->kept[service->kept_count] = fds[service->kept_count];
		service->kept_count++;
	}
	service->waiting &= ~(1u << SERVICE_KEEP);
	if (count > 0)
		service->waiting |= 1u << SERVICE_KEEP;
	service_tell(service, SERVICE_FORGET);
	if (service->socket < 0)
		close_kept(service);
}

/* The manager closes the descriptor sent with BARRIER=1 once it has acted on
 * all earlier messages. The other end of the pipe then reports a hang-up. */
bool
service_sync(struct service *service, int interrupt_fd, int timeout_ms)
{
	int64_t deadline_ms = clock_now_ms() + timeout_ms;
	char barrier[] = "BARRIER=1";
	int ends[2], result = 0;

	if (service->socket < 0)
		return true;
	while (service->waiting && result == 0) {
		result =
		    wait_writable(service->socket, interrupt_fd, deadline_ms);
		service_serve(service);
	}
	if (result < 0 || pipe_open(ends) < 0)
		return false;
	while ((result = post(service, barrier, &ends[1], 1)) < 0 &&
	       errno == EAGAIN &&
	       wait_writable(service->socket, interrupt_fd, deadline_ms) == 0)
		;
	close(ends[1]);
	if (result == 0)
		result = wait_readable(ends[0], interrupt_fd, deadline_ms);
	close(ends[0]);
	return result == 0;
}

struct pollfd
service_poll(const struct service *service)
{
	return (struct pollfd){ .fd = service->waiting ? service->socket : -1,
		.events = POLLOUT };
}

void
service_open(struct service *service)
{
	*service =
	    (struct service){ .socket = open_socket(getenv("NOTIFY_SOCKET")),
		    .watchdog_ms = watchdog_ms() };
	inherit(service);
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		unsetenv(variables[i]);
}
