#include "forwarder/manager.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/* A daemon that comes and goes can change the link a hundred times a second. */
#define STATUS_PAUSE_MS 200

/* systemd confirms within a millisecond, unless it is very busy. */
#define STORE_WAIT_MS 1000

/* ---- the guest's descriptors ---- */

/* Separates the guest's descriptors from the others, which are closed. */
static size_t
collect_offers(const struct service *service, struct guest_offer *offers)
{
	size_t count = 0;

	for (size_t i = 0; i < service->inherited_count; i++) {
		const struct service_descriptor *it = &service->inherited[i];

		if (strcmp(it->name, SERVICE_GUEST) == 0) {
			offers[count++] = (struct guest_offer){ .fd = it->fd };
			continue;
		}
		log_line(LOG_LEVEL_WARN, LOG_SERVICE,
		    "inherited descriptor closed fd=%d name=\"%s\" "
		    "reason=\"its name is not " SERVICE_GUEST "\"",
		    it->fd, it->name);
		close(it->fd);
	}
	return count;
}

/* Logs which offers were taken, and closes the others. Returns how many these
 * are. */
static size_t
report_offers(const struct guest_offer *offers, size_t count)
{
	size_t refused = 0;

	for (size_t i = 0; i < count; i++) {
		if (offers[i].fault == NULL)
			continue;
		log_line(LOG_LEVEL_WARN, LOG_SERVICE,
		    "inherited descriptor closed fd=%d name=" SERVICE_GUEST
		    " reason=\"%s\"",
		    offers[i].fd, offers[i].fault);
		close(offers[i].fd);
		refused++;
	}
	if (refused < count)
		log_line(LOG_LEVEL_INFO, LOG_SERVICE,
		    "inherited the guest's descriptor");
	return refused;
}

static void
store(struct manager *manager)
{
	int fds[GUEST_KEPT];

	manager->changes = atomic_load(&manager->guest->changes);
	service_keep(
	    manager->service, fds, guest_duplicate(manager->guest, fds));
}

static void
store_and_wait(struct manager *manager, int interrupt_fd)
{
	store(manager);
	if (!service_sync(manager->service, interrupt_fd, STORE_WAIT_MS))
		log_line(LOG_LEVEL_WARN, LOG_SERVICE,
		    "the service manager does not confirm that it keeps the "
		    "guest's descriptor");
}

/* A socket that was inherited is in the store already, or belongs to a socket
 * unit. One that was refused must leave the store. */
int
manager_open_guest(struct manager *manager, bool outlives_us, int interrupt_fd,
    struct error *error)
{
	const struct config *config = manager->config;
	struct guest_offer offers[SERVICE_INHERITED];
	size_t count = collect_offers(manager->service, offers), refused;
	int result;

	for (size_t i = 0; i < count; i++)
		offers[i].fault = "the guest is the command";
	result = guest_open(manager->guest, &config->guest.endpoint,
	    config->guest.mode, offers, outlives_us ? count : 0, error);
	manager->keeps = outlives_us && manager->service->socket >= 0;
	refused = report_offers(offers, count);
	if (result < 0)
		return -1;
	if (manager->keeps &&
	    (refused > 0 || !guest_is_inherited(manager->guest)))
		store_and_wait(manager, interrupt_fd);
	else if (refused > 0)
		manager_forget_guest(manager);
	return 0;
}

bool
manager_holds_guest(const struct manager *manager)
{
	return manager->keeps || guest_is_inherited(manager->guest);
}

void
manager_forget_guest(struct manager *manager)
{
	manager->keeps = false;
	service_keep(manager->service, NULL, 0);
}

/* ---- the status ---- */

static void
send_status(struct manager *manager, int64_t now_ms)
{
	const struct endpoint *endpoint = &manager->config->network.endpoint;
	char bytes[SERVICE_STATUS_BYTES];
	struct text text = text_in(bytes, sizeof(bytes));
	struct link_view view;

	link_look(manager->link, &view);
	if (view.state == LINK_UP) {
		text_add(&text, "up generation=%llu endpoint=",
		    (unsigned long long)view.generation);
		text_add_escaped(&text, endpoint->text, text_visible);
	} else {
		text_add(&text, "down since ");
		/* in whole seconds, to be the same in each message */
		text_add_utc(
		    &text, (clock_utc_ms() - view.outage_ms) / 1000 * 1000);
	}
	if (view.state != LINK_UP && *view.last_error) {
		text_add(&text, ", last error: ");
		text_add_escaped(&text, view.last_error, text_visible);
	}
	if (*manager->refusal.text) {
		text_add(&text, "; the last reload was refused: ");
		text_add_escaped(&text, manager->refusal.text, text_visible);
	}
	manager->status_changed = false;
	manager->status_due_ms = now_ms + STATUS_PAUSE_MS;
	service_tell_status(manager->service, bytes);
}

void
manager_start(struct manager *manager)
{
	int64_t now_ms = clock_now_ms();
	int64_t limit_ms = manager->service->watchdog_ms;

	manager->watchdog_due_ms =
	    limit_ms > 0 ? now_ms + limit_ms / 2 : INT64_MAX;
	send_status(manager, now_ms);
	service_tell(manager->service, SERVICE_READY);
}

void
manager_reloading(struct manager *manager)
{
	service_tell(manager->service, SERVICE_RELOADING);
}

void
manager_reloaded(struct manager *manager, const struct error *refusal)
{
	manager->refusal = refusal ? *refusal : (struct error){ .text = "" };
	send_status(manager, clock_now_ms());
	service_tell(manager->service, SERVICE_READY);
}

void
manager_stopping(struct manager *manager)
{
	service_tell(manager->service, SERVICE_STOPPING);
}

/* ---- the watchdog ---- */

static bool
network_is_readable(struct link *link)
{
	struct pollfd readable = { .events = POLLIN };
	struct loan loan;
	bool result;

	if (link_borrow(link, &loan, LINK_NO_WAIT) != LINK_READY)
		return false;
	readable.fd = loan.fd;
	result = poll(&readable, 1, 0) > 0;
	link_return(&loan);
	return result;
}

/* Looks at each thread. Returns the name of a frozen one, or NULL. */
static const char *
find_frozen(struct manager *manager)
{
	struct copy *copy = manager->copy;
	struct fwd_link *fwd = &manager->network->fwd_link;
	const char *name = NULL;

	if (pulse_is_frozen(&manager->up, &copy->up_pulse,
		guest_is_readable(manager->guest)))
		name = "fwd-up";
	if (pulse_is_frozen(&manager->down, &copy->down_pulse,
		network_is_readable(manager->link)))
		name = "fwd-down";
	if (pulse_is_frozen(
		&manager->fwd_link, &fwd->pulse, fwd_link_has_event(fwd)))
		name = "fwd-link";
	return name;
}

static void
feed_watchdog(struct manager *manager)
{
	const char *frozen = find_frozen(manager);

	if (frozen && !manager->frozen) {
		log_line(LOG_LEVEL_ERROR, LOG_SERVICE,
		    "a thread makes no progress; asking the service manager "
		    "for a restart thread=%s",
		    frozen);
		log_finish(); /* the process is about to be killed */
	}
	manager->frozen = frozen != NULL;
	service_tell(manager->service, frozen ? SERVICE_FROZEN : SERVICE_ALIVE);
}

/* ---- the loop ---- */

int64_t
manager_poll(
    const struct manager *manager, struct pollfd fds[MANAGER_DESCRIPTORS])
{
	fds[0] =
	    (struct pollfd){ .fd = manager->bell.fds[0], .events = POLLIN };
	fds[1] = service_poll(manager->service);
	return manager->status_changed
		   ? earlier(manager->status_due_ms, manager->watchdog_due_ms)
		   : manager->watchdog_due_ms;
}

void
manager_serve(
    struct manager *manager, const struct pollfd fds[MANAGER_DESCRIPTORS])
{
	int64_t now_ms = clock_now_ms();

	if (fds[0].revents) {
		doorbell_answer(&manager->bell);
		manager->status_changed = true;
	}
	if (manager->status_changed && now_ms >= manager->status_due_ms)
		send_status(manager, now_ms);
	if (now_ms >= manager->watchdog_due_ms) {
		feed_watchdog(manager);
		manager->watchdog_due_ms =
		    now_ms + manager->service->watchdog_ms / 2;
	}
	if (manager->keeps &&
	    atomic_load(&manager->guest->changes) != manager->changes)
		store(manager);
	service_serve(manager->service);
}
