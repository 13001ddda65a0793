/* What a service manager gives a process, and what the process tells it.
 *
 *      systemd   sd_notify(3); sd_listen_fds(3) and the descriptor store
 *                (systemd.service(5), FileDescriptorStoreMax=);
 *                sd_watchdog_enabled(3)
 *      launchd   launch_activate_socket(3). It has no store and is told
 *                nothing
 *
 * Without a manager nothing is inherited, and the other functions do nothing.
 *
 * A message is sent without waiting. If the manager's queue is full, the message
 * waits until service_poll()'s descriptor has room; of each kind only the newest
 * waits. If the manager is gone, the message is lost.
 *
 * Used by main() only. */
#ifndef BASE_SERVICE_H
#define BASE_SERVICE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The name of the guest's descriptors: FileDescriptorName= of the socket unit,
 * FDNAME= in the store, and the key in launchd's Sockets. */
#define SERVICE_GUEST "guest"

#define SERVICE_STATUS_BYTES 512
#define SERVICE_NAME_BYTES 32
/* Any further inherited descriptors are closed. */
#define SERVICE_INHERITED 16
/* The most descriptors in the store. The units' FileDescriptorStoreMax= is the
 * same. */
#define SERVICE_KEPT 2

/* What the manager is told, in the order in which waiting messages are sent. */
enum service_message {
	SERVICE_FORGET, /* the descriptors in the store */
	SERVICE_KEEP,   /* these instead */
	SERVICE_RELOADING,
	SERVICE_READY, /* after the start or a reload */
	SERVICE_STATUS,
	SERVICE_ALIVE,  /* feeds the watchdog */
	SERVICE_FROZEN, /* makes the watchdog act now */
	SERVICE_STOPPING,
	SERVICE_MESSAGES
};

struct service_descriptor {
	int fd;
	char name[SERVICE_NAME_BYTES];
};

struct service {
	/* Set by service_open(). The caller closes the descriptors. */
	struct service_descriptor inherited[SERVICE_INHERITED];
	size_t inherited_count;
	int64_t watchdog_ms; /* feed it more often than this; 0: never */

	int socket;       /* connected to the manager's, or -1 */
	unsigned waiting; /* flags: 1 << enum service_message */
	char status[SERVICE_STATUS_BYTES];
	int64_t reloading_us;
	int kept[SERVICE_KEPT]; /* for the store; closed once sent */
	size_t kept_count;
};

/* Reads the environment and clears the manager's variables, so that a command
 * does not inherit them. Inherited descriptors are closed on exec. Call it while
 * there is only one thread. */
void service_open(struct service *service);

/* Sends the message now, or when there is room. */
void service_tell(struct service *service, enum service_message message);

/* Sends a new status: one line of UTF-8, shown by `systemctl status`. Does
 * nothing if it hasn't changed. */
void service_tell_status(struct service *service, const char *status);

/* Replaces the descriptors in the store by these, at most SERVICE_KEPT, under
 * the name SERVICE_GUEST. They stay open there, and the next process inherits
 * them. Closes its own. */
void service_keep(struct service *service, const int *fds, size_t count);

/* Waits until the manager has acted on all messages; from then on even SIGKILL
 * loses no descriptor. Returns false after timeout_ms, or once interrupt_fd is
 * readable. */
bool service_sync(struct service *service, int interrupt_fd, int timeout_ms);

/* Poll this, and call service_serve() at each wakeup. */
struct pollfd service_poll(const struct service *service);
void service_serve(struct service *service);

#endif
