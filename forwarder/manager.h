/* Decides what the service manager (base/service.h) is told, and what it keeps
 * for the next forwarder:
 *
 *      READY      the guest is open and the threads run, whether or not the
 *                 network daemon does. Again after each reload
 *      STATUS     the link's state, and why the last reload was refused
 *      RELOADING  from SIGHUP until READY
 *      WATCHDOG   while fwd-up, fwd-down and fwd-link make progress (pulse.h)
 *      STOPPING   a signal arrived, or the guest is gone for good
 *      the store  the guest's descriptors: sockets that this process or an
 *                 earlier one has bound, or was given as fd:N; a TAP device
 *
 * Used by main() only, except the bell. */
#ifndef FORWARDER_MANAGER_H
#define FORWARDER_MANAGER_H

#include "base/pulse.h"
#include "base/service.h"
#include "forwarder/copy.h"
#include "forwarder/network.h"

#define MANAGER_DESCRIPTORS 2

struct manager {
	struct service *service;
	struct guest *guest;
	struct link *link;
	struct network *network;
	struct copy *copy;
	const struct config *config; /* in force */
	struct doorbell bell; /* rung by fwd-link: an event of the link */

	bool keeps;            /* the guest's descriptors belong in the store */
	unsigned changes;      /* guest->changes when they were stored */
	struct error refusal;  /* of the last reload; empty: none */
	bool status_changed;   /* perhaps; not sent yet */
	int64_t status_due_ms; /* earliest time to send it */
	int64_t watchdog_due_ms; /* INT64_MAX: there is no watchdog */
	bool frozen;             /* has been logged */
	struct pulse_watch up, down, fwd_link;
};

/* Opens the configured guest endpoint, if possible with an inherited descriptor.
 * Closes and logs all other inherited descriptors. Puts the guest's into the
 * store, and waits until the manager has them, for at most a second or until
 * interrupt_fd is readable. outlives_us: false if the guest is a command after
 * `--`; then nothing is inherited or stored. Returns 0, or -1 with the reason. */
int manager_open_guest(struct manager *manager, bool outlives_us,
    int interrupt_fd, struct error *error);

/* Whether the guest's descriptors outlive this process. A socket's file must then
 * stay. */
bool manager_holds_guest(const struct manager *manager);

/* The guest is gone for good: its descriptors leave the store. */
void manager_forget_guest(struct manager *manager);

/* Sends the status and READY. Call it when the threads run. */
void manager_start(struct manager *manager);

/* Call these around a reload. refusal: why nothing was changed, or NULL. */
void manager_reloading(struct manager *manager);
void manager_reloaded(struct manager *manager, const struct error *refusal);

void manager_stopping(struct manager *manager);

/* Fills in the descriptors to poll, and returns the latest time to wake up, or
 * INT64_MAX. Call manager_serve() after poll(). */
int64_t manager_poll(
    const struct manager *manager, struct pollfd fds[MANAGER_DESCRIPTORS]);
void manager_serve(
    struct manager *manager, const struct pollfd fds[MANAGER_DESCRIPTORS]);

#endif
