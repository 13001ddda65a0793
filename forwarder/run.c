/* The threads and their tasks:
 *
 *      main      signals, control socket, reload, socket files
 *      fwd-up    guest -> network                      (up.c)
 *      fwd-down  network -> guest                      (down.c)
 *      fwd-link  makes connections, runs the keepalive (reconnect/fwd_link.c)
 *      fwd-log   writes the log                        (base/log.c)
 *      fwd-capture, during a capture                   (status/capture.c)
 *      one more  while a name is looked up             (reconnect/resolve.c)
 *
 * Shared data: the link, a guest at a path, the network, the settings, the
 * monitor and the capture, each with its own lock. Counters are atomics with
 * one writer each; guest.lost is written under the guest's lock. Each thread
 * uses a copy of the settings (settings.h).
 *
 * Lock order: network before settings; guest before monitor. No other two of
 * these locks are held together. The locks of file_watch.c and log.c may be
 * taken under any of these, and no lock under them. */
#include "forwarder/run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

#include "base/background.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/wait.h"
#include "forwarder/command.h"
#include "forwarder/manager.h"
#include "forwarder/network.h"
#include "forwarder/report.h"
#include "forwarder/signals.h"
#include "forwarder/socket_keeper.h"
#include "status/control.h"

#define KEEPERS 3 /* guest, network and control socket */

#define RUNNING (-1) /* no exit status yet */

struct forwarder {
	const struct options *options;
	struct config config; /* in force; main()'s copy of settings */
	struct settings settings;
	int status;            /* to exit with, or RUNNING */
	int signals;           /* descriptor */
	struct doorbell ended; /* rung when the guest is gone for good */
	struct guest guest;
	struct link link;
	struct network network;
	struct monitor monitor;
	struct copy copy;
	struct manager manager;
	struct report report;
	struct control control;
	struct capture capture;
	struct command command;
	int poll_error; /* last logged errno of poll(); 0: none */
	struct socket_keeper keepers[KEEPERS];
	struct doorbell files; /* rung when a watched socket file changes */
};

static void
log_problem(const struct error *problem)
{
	log_line(LOG_LEVEL_ERROR, LOG_CONFIG, "%s", problem->text);
}

/* Keeps the guest endpoint, with a warning: a VM can't change the socket that it
 * was started with. */
static void
keep_guest_endpoint(const struct forwarder *forwarder, struct config *next)
{
	const struct guest_endpoint *endpoint =
	    &forwarder->config.guest.endpoint;

	if (!forwarder->options->command &&
	    strcmp(next->guest.endpoint.text, endpoint->text) != 0)
		log_line(LOG_LEVEL_WARN, LOG_CONFIG,
		    "the guest endpoint can't change while running kept=%s",
		    endpoint->text);
	next->guest.endpoint = *endpoint;
}

/* Opens the new control and listening sockets, if they change, before the old
 * ones are closed. Returns 0, or -1 with the error set and nothing changed. */
static int
reopen(
    struct forwarder *forwarder, const struct config *next, struct error *error)
{
	const struct config *now = &forwarder->config;
	bool moves = strcmp(next->control.socket, now->control.socket) != 0;
	struct control control;

	if (moves && control_open(&control, next->control.socket,
			 next->control.mode, error) < 0)
		return -1;
	if (network_reopen(&forwarder->network, now, next, error) < 0) {
		if (moves)
			control_close(&control);
		return -1;
	}
	if (moves) {
		control_close(&forwarder->control);
		forwarder->control = control;
	}
	return 0;
}

/* First does everything that can fail. Then publishes the new configuration and
 * wakes fwd-link. Returns 0, or -1 with the error set and nothing changed. */
static int
try_reload(struct forwarder *forwarder, struct error *error)
{
	static struct config next; /* main() only; too large for a stack */
	struct config_problems problems = { .emit = log_problem };

	options_configure(
	    forwarder->options, CONFIG_REGULAR_FILE, &next, &problems);
	if (problems.count > 0) {
		log_line(LOG_LEVEL_ERROR, LOG_CONFIG,
		    "nothing was changed problems=%d", problems.count);
		*error = problems.first;
		return -1;
	}
	if (reopen(forwarder, &next, error) < 0) {
		log_line(LOG_LEVEL_ERROR, LOG_CONFIG, "nothing was changed: %s",
		    error->text);
		return -1;
	}
	keep_guest_endpoint(forwarder, &next);
	forwarder->config = next;
	network_publish(&forwarder->network, &next);
	log_set_level(next.log.level);
	log_set_name(next.service.name);
	guest_set_mode(&forwarder->guest, next.guest.mode);
	guest_set_max_frame(&forwarder->guest, next.network.max_frame);
	control_set_mode(&forwarder->control, next.control.mode);
	link_set_hold(&forwarder->link, next.network.hold_ms);
	for (int i = 0; i < KEEPERS; i++)
		socket_keeper_recheck(&forwarder->keepers[i]);
	log_line(LOG_LEVEL_INFO, LOG_CONFIG, "read again");
	return 0;
}

static void
reload(struct forwarder *forwarder)
{
	struct error error;

	manager_reloading(&forwarder->manager);
	manager_reloaded(&forwarder->manager,
	    try_reload(forwarder, &error) < 0 ? &error : NULL);
}

static void
on_child(struct forwarder *forwarder)
{
	int status;

	if (!command_ended(&forwarder->command, &status))
		return;
	log_line(
	    LOG_LEVEL_INFO, LOG_SERVICE, "command ended status=%d", status);
	forwarder->status = status;
}

static void
on_signal(struct forwarder *forwarder, const struct signal_note *note)
{
	struct status now;

	switch (note->number) {
	case SIGHUP:
		reload(forwarder);
		break;
	case SIGUSR1:
		report_fill(&forwarder->report, &now);
		status_log(&now);
		break;
	case SIGCHLD:
		on_child(forwarder);
		break;
	default:
		if (forwarder->command.pid > 0) {
			/* A signal typed at the terminal was sent to the
			 * command, too. */
			if (!note->typed)
				command_signal(
				    &forwarder->command, note->number);
		} else if (note->number != SIGUSR2) {
			forwarder->status = EX_OK;
		}
	}
}

static void
take_signals(struct forwarder *forwarder)
{
	struct signal_note note;

	while (signals_next(&note))
		on_signal(forwarder, &note);
}

/* poll() can fail persistently, for example with EINVAL while RLIMIT_NOFILE is
 * too small. Until it works again, only signals and the socket files are
 * handled, ten times a second. */
static void
on_poll_error(struct forwarder *forwarder)
{
	if (errno == EINTR)
		return; /* interrupted by a signal, which is in the pipe */
	if (forwarder->poll_error != errno)
		log_line(LOG_LEVEL_WARN, LOG_SERVICE,
		    "can't wait for events error=\"%s\"", strerror(errno));
	forwarder->poll_error = errno;
	wait_pause(WAIT_ERROR_MS);
	take_signals(forwarder);
}

static void
on_guest_gone(struct forwarder *forwarder)
{
	doorbell_answer(&forwarder->ended);
	manager_forget_guest(&forwarder->manager);
	if (forwarder->command.pid > 0) {
		log_line(LOG_LEVEL_WARN, LOG_GUEST,
		    "gone; waiting for the command to end");
		return;
	}
	if (forwarder->options->mode == OPTIONS_VMNET_CLIENT) {
		log_line(LOG_LEVEL_INFO, LOG_GUEST, "the command has ended");
		forwarder->status = EX_OK;
		return;
	}
	log_line(LOG_LEVEL_ERROR, LOG_GUEST, "gone endpoint=%s",
	    forwarder->config.guest.endpoint.text);
	forwarder->status = EX_UNAVAILABLE;
}

static int
bind_again(struct forwarder *forwarder, enum log_subsystem subsystem,
    struct error *error)
{
	switch (subsystem) {
	case LOG_GUEST:
		return guest_bind_again(&forwarder->guest, error);
	case LOG_LINK:
		return network_bind_again(
		    &forwarder->network, &forwarder->config, error);
	default:
		return control_bind_again(&forwarder->control, error);
	}
}

/* Checks the socket files, and binds again where one is missing. Returns the
 * latest time to wake up; *fd is the descriptor that reports changes before
 * that, or -1. */
static int64_t
check_sockets(struct forwarder *forwarder, int *fd)
{
	int64_t now_ms = clock_now_ms();
	int64_t next_ms = forwarder->control.deadline_ms;
	struct error why;

	*fd = -1;
	doorbell_answer(&forwarder->files);
	for (int i = 0; i < KEEPERS; i++) {
		struct socket_keeper *keeper = &forwarder->keepers[i];

		if (socket_keeper_look(keeper, now_ms)) {
			int result =
			    bind_again(forwarder, keeper->subsystem, &why);
			socket_keeper_report(
			    keeper, result == 0 ? NULL : &why, now_ms);
		}
		if (keeper->due_ms < next_ms)
			next_ms = keeper->due_ms;
		if (*fd < 0)
			*fd = file_watch_fd(&keeper->watch);
	}
	return next_ms;
}

enum {
	POLL_SIGNALS,
	POLL_ENDED,
	POLL_FILES,
	POLL_SOCKETS,
	POLL_CONTROL,
	POLL_MANAGER,
	POLL_GUEST = POLL_MANAGER + MANAGER_DESCRIPTORS,
	POLL_COUNT = POLL_GUEST + GUEST_DESCRIPTORS
};

static void
serve_once(struct forwarder *forwarder)
{
	struct status now;
	int sockets_fd;
	/* first, because it may change the descriptors to poll */
	int64_t due_ms = check_sockets(forwarder, &sockets_fd);
	struct pollfd fds[POLL_COUNT] = {
		[POLL_SIGNALS] = { .fd = forwarder->signals, .events = POLLIN },
		[POLL_ENDED] = { .fd = forwarder->ended.fds[0],
		    .events = POLLIN },
		[POLL_FILES] = { .fd = forwarder->files.fds[0],
		    .events = POLLIN },
		[POLL_SOCKETS] = { .fd = sockets_fd, .events = POLLIN },
		[POLL_CONTROL] = control_poll(&forwarder->control),
	};
	int guest_ms = guest_watch(&forwarder->guest, fds + POLL_GUEST);
	int timeout = wait_timeout(earlier(
	    due_ms, manager_poll(&forwarder->manager, fds + POLL_MANAGER)));

	if (timeout < 0 || (guest_ms >= 0 && guest_ms < timeout))
		timeout = guest_ms;
	if (poll(fds, POLL_COUNT, timeout) < 0) {
		on_poll_error(forwarder);
		return;
	}
	forwarder->poll_error = 0;
	if (fds[POLL_SIGNALS].revents)
		take_signals(forwarder);
	if (fds[POLL_ENDED].revents && forwarder->status == RUNNING)
		on_guest_gone(forwarder);
	guest_serve(&forwarder->guest, fds + POLL_GUEST);
	manager_serve(&forwarder->manager, fds + POLL_MANAGER);
	if (control_serve(&forwarder->control, clock_now_ms())) {
		report_fill(&forwarder->report, &now);
		control_answer(&forwarder->control, &now, &forwarder->capture);
	}
}

static int
failed(enum log_subsystem subsystem, const char *what, const char *why)
{
	log_line(LOG_LEVEL_ERROR, subsystem, "%s %s", what, why);
	return -1;
}

/* With a command, creates a socket pair: one end becomes the guest endpoint,
 * the other is *command_fd. Returns 0, or -1 with errno. */
static int
make_pair(struct forwarder *forwarder, int *command_fd)
{
	struct guest_endpoint *endpoint = &forwarder->config.guest.endpoint;
	int ends[2];

	if (!forwarder->options->command)
		return 0;
	if (command_pair(ends,
		forwarder->options->stream ? SOCK_STREAM : SOCK_DGRAM) < 0)
		return -1;
	*endpoint = (struct guest_endpoint){ .kind = GUEST_FD, .fd = ends[0] };
	snprintf(endpoint->text, sizeof(endpoint->text), "fd:%d", ends[0]);
	*command_fd = ends[1];
	return 0;
}

static int
open_all(struct forwarder *forwarder, int *command_fd)
{
	const struct config *config = &forwarder->config;
	struct error why;

	forwarder->signals = signals_open(forwarder->options->command != NULL);
	if (forwarder->signals < 0 || make_pair(forwarder, command_fd) < 0)
		return failed(LOG_SERVICE, "can't start:", strerror(errno));
	if (manager_open_guest(&forwarder->manager,
		forwarder->options->command == NULL, forwarder->signals,
		&why) < 0) {
		log_line(LOG_LEVEL_ERROR, LOG_GUEST,
		    "can't open %s; choose another with [guest] endpoint or -g",
		    why.text);
		return -1;
	}
	guest_set_max_frame(&forwarder->guest, config->network.max_frame);
	if (network_open(&forwarder->network, config, &why) < 0)
		return failed(LOG_LINK, "can't open", why.text);
	if (control_open(&forwarder->control, config->control.socket,
		config->control.mode, &why) < 0)
		return failed(LOG_CONTROL, "can't open", why.text);
	return 0;
}

static int
start_threads(struct forwarder *forwarder)
{
	const struct config *config = &forwarder->config;

	settings_init(&forwarder->settings, config);
	if (doorbell_init(&forwarder->ended) < 0 ||
	    doorbell_init(&forwarder->files) < 0 ||
	    doorbell_init(&forwarder->manager.bell) < 0 ||
	    link_init(&forwarder->link) < 0)
		return failed(LOG_SERVICE, "can't start:", strerror(errno));
	link_set_hold(&forwarder->link, config->network.hold_ms);
	capture_init(&forwarder->capture);
	monitor_init(&forwarder->monitor, &forwarder->link, &forwarder->guest,
	    &forwarder->settings);
	for (int i = 0; i < KEEPERS; i++)
		socket_keeper_start(&forwarder->keepers[i], &forwarder->files);
	if (copy_start(&forwarder->copy) < 0)
		return failed(LOG_SERVICE, "can't start:", strerror(errno));
	/* before fwd-link starts, because that logs at once */
	log_line(LOG_LEVEL_INFO, LOG_SERVICE,
	    "started version=%s guest=%s network=%s", VERSION,
	    config->guest.endpoint.text, config->network.endpoint.text);
	if (forwarder->manager.service->socket >= 0)
		forwarder->network.changed = &forwarder->manager.bell;
	if (network_start(&forwarder->network) < 0)
		return failed(LOG_SERVICE, "can't start:", strerror(errno));
	manager_start(&forwarder->manager);
	return 0;
}

static void
start_command(struct forwarder *forwarder, int guest_fd)
{
	char **argv = forwarder->options->command;
	int error;

	signals_unblock();
	if (!argv || command_start(&forwarder->command, argv, guest_fd) == 0)
		return;
	error = errno;
	log_line(LOG_LEVEL_ERROR, LOG_SERVICE, "can't run \"%s\": %s", argv[0],
	    strerror(error));
	forwarder->status = command_failure_status(error);
}

_Static_assert(
    2 * COPY_STOP_MS + FWD_LINK_JOIN_MS + CAPTURE_STOP_MS + LOG_FINISH_MS <=
	900,
    "a stop takes less than a second even if every thread is stuck");

/* A copy thread that is blocked ends only when the process exits. */
static void
stop_threads(struct forwarder *forwarder)
{
	manager_stopping(&forwarder->manager);
	copy_stop_up(&forwarder->copy);
	link_stop(&forwarder->link);
	copy_stop_down(&forwarder->copy);
	network_stop(&forwarder->network);
	capture_stop(&forwarder->capture);
	log_line(LOG_LEVEL_INFO, LOG_SERVICE, "stopped");
}

/* Gives each part the others that it uses. */
static void
join_parts(struct forwarder *forwarder)
{
	struct network *network = &forwarder->network;
	struct copy *copy = &forwarder->copy;
	struct manager *manager = &forwarder->manager;
	struct socket_keeper *keepers = forwarder->keepers;

	network->settings = copy->settings = &forwarder->settings;
	network->monitor = copy->monitor = &forwarder->monitor;
	network->capture = copy->capture = &forwarder->capture;
	network->link = copy->link = manager->link = &forwarder->link;
	copy->guest = manager->guest = &forwarder->guest;
	copy->ended = &forwarder->ended;
	manager->network = network;
	manager->copy = copy;
	manager->config = &forwarder->config;
	forwarder->report.copy = copy;
	forwarder->report.config = &forwarder->config;
	forwarder->report.daemon = &network->fwd_link.daemon;
	keepers[0].file = &forwarder->guest.file;
	keepers[0].subsystem = LOG_GUEST;
	keepers[1].file = &network->file;
	keepers[1].subsystem = LOG_LINK;
	keepers[2].file = &forwarder->control.file;
	keepers[2].subsystem = LOG_CONTROL;
	private_folder_init(&network->folder);
}

int
forwarder_run(const struct options *options, const struct config *config,
    struct service *service)
{
	/* Static, because the copy threads still use it after this function has
	 * returned. */
	static struct forwarder forwarder;
	int command_fd = -1;

	join_parts(&forwarder);
	forwarder.status = RUNNING;
	forwarder.options = options;
	forwarder.config = *config;
	forwarder.manager.service = service;
	forwarder.report.started_ms = clock_now_ms();
	if (open_all(&forwarder, &command_fd) < 0 ||
	    start_threads(&forwarder) < 0) {
		forwarder.status = EX_OSERR;
	} else {
		start_command(&forwarder, command_fd);
		background_ready();
		while (forwarder.status == RUNNING)
			serve_once(&forwarder);
		stop_threads(&forwarder);
	}
	if (!manager_holds_guest(&forwarder.manager))
		unix_file_remove(&forwarder.guest.file);
	unix_file_remove(&forwarder.network.file);
	private_folder_remove(&forwarder.network.folder);
	unix_file_remove(&forwarder.control.file);
	return forwarder.status;
}
