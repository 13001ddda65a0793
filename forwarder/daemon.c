/* The threads and their tasks:
 *
 *      main      signals, control socket, reload, socket files
 *      fwd-up    guest -> network                      (up.c)
 *      fwd-down  network -> guest                      (down.c)
 *      fwd-link  makes connections, runs the keepalive (reconnect/fwd_link.c)
 *      fwd-log   writes the log                        (base/log.c)
 *      one more  while a name is looked up             (reconnect/resolve.c)
 *
 * Shared data: the link, the guest, the network, the settings and the monitor,
 * each with its own lock. Counters are atomics with one writer each. Each
 * thread works from a copy of the settings (settings.h). Lock order: network
 * before settings; guest before monitor. No other two of these locks are held
 * together. The locks of file_watch.c and log.c may be taken under any of
 * these. No lock is taken under them. */
#include "forwarder/daemon.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/wait.h"
#include "forwarder/command.h"
#include "forwarder/network.h"
#include "forwarder/report.h"
#include "forwarder/signals.h"
#include "forwarder/socket_keeper.h"
#include "status/control.h"

#define KEEPERS 3 /* guest, network and control socket */

#define RUNNING (-1) /* no exit status yet */

struct daemon {
	const struct options *options;
	/* the configuration in force; main()'s copy of what is in `settings` */
	struct config config;
	struct settings settings;
	int status;            /* to exit with, or RUNNING */
	int signals;           /* descriptor */
	struct doorbell ended; /* rung when the guest is gone for good */
	struct guest guest;
	struct link link;
	struct network network;
	struct monitor monitor;
	struct copy copy;
	struct report report;
	struct control control;
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

/* The VM was given its endpoint when it was created, and can't follow us. */
static void
keep_guest(const struct daemon *daemon, struct config *next)
{
	const struct guest_endpoint *endpoint = &daemon->config.guest.endpoint;

	if (!daemon->options->command &&
	    strcmp(next->guest.endpoint.text, endpoint->text) != 0)
		log_line(LOG_LEVEL_WARN, LOG_CONFIG,
		    "the guest endpoint can't change while running kept=%s",
		    endpoint->text);
	next->guest.endpoint = *endpoint;
}

/* Opens the new control and listening sockets before the old ones are closed.
 * Returns 0, or -1 with the error set and nothing changed. */
static int
reopen(struct daemon *daemon, const struct config *next, struct error *error)
{
	const struct config *now = &daemon->config;
	bool moves = strcmp(next->control.socket, now->control.socket) != 0;
	struct control control;

	if (moves && control_open(&control, next->control.socket, error) < 0)
		return -1;
	if (network_reopen(&daemon->network, now, next, error) < 0) {
		if (moves)
			control_close(&control);
		return -1;
	}
	if (moves) {
		control_close(&daemon->control);
		daemon->control = control;
	}
	return 0;
}

/* Does everything that can fail first. Then publishes the new configuration and
 * wakes fwd-link. */
static void
reload(struct daemon *daemon)
{
	static struct config next; /* main() only; too large for a stack */
	struct config_problems problems = { .emit = log_problem };
	struct error error;

	options_configure(
	    daemon->options, CONFIG_REGULAR_FILE, &next, &problems);
	if (problems.count > 0) {
		log_line(LOG_LEVEL_ERROR, LOG_CONFIG,
		    "nothing was changed problems=%d", problems.count);
		return;
	}
	if (reopen(daemon, &next, &error) < 0) {
		log_line(LOG_LEVEL_ERROR, LOG_CONFIG, "nothing was changed: %s",
		    error.text);
		return;
	}
	keep_guest(daemon, &next);
	daemon->config = next;
	network_publish(&daemon->network, &next);
	log_set_level(next.log.level);
	log_set_name(next.service.name);
	guest_set_mode(&daemon->guest, next.guest.mode);
	link_set_hold(&daemon->link, next.network.hold_ms);
	for (int i = 0; i < KEEPERS; i++)
		socket_keeper_check(&daemon->keepers[i]);
	log_line(LOG_LEVEL_INFO, LOG_CONFIG, "read again");
}

static void
on_child(struct daemon *daemon)
{
	int status;

	if (!command_ended(&daemon->command, &status))
		return;
	log_line(
	    LOG_LEVEL_INFO, LOG_SERVICE, "command ended status=%d", status);
	daemon->status = status;
}

static void
on_signal(struct daemon *daemon, const struct signal_note *note)
{
	struct status now;

	switch (note->number) {
	case SIGHUP:
		reload(daemon);
		break;
	case SIGUSR1:
		report_fill(&daemon->report, &now);
		status_log(&now);
		break;
	case SIGCHLD:
		on_child(daemon);
		break;
	default:
		if (daemon->command.pid > 0) {
			/* A signal typed at the terminal has also been sent to
			 * the command. */
			if (!note->typed)
				command_signal(&daemon->command, note->number);
		} else if (note->number != SIGUSR2) {
			daemon->status = EX_OK;
		}
	}
}

static void
take_signals(struct daemon *daemon)
{
	struct signal_note note;

	while (signals_next(&note))
		on_signal(daemon, &note);
}

/* poll() can fail persistently, for example with EINVAL while RLIMIT_NOFILE is
 * too small. Until it works again only signals are handled, ten times a
 * second. */
static void
on_poll_error(struct daemon *daemon)
{
	if (errno == EINTR)
		return; /* interrupted by a signal, which is in the pipe */
	if (daemon->poll_error != errno)
		log_line(LOG_LEVEL_WARN, LOG_SERVICE,
		    "can't wait for events error=\"%s\"", strerror(errno));
	daemon->poll_error = errno;
	wait_pause(WAIT_ERROR_MS);
	take_signals(daemon);
}

static void
on_guest_gone(struct daemon *daemon)
{
	doorbell_answer(&daemon->ended);
	if (daemon->command.pid > 0) {
		log_line(LOG_LEVEL_WARN, LOG_GUEST,
		    "gone; waiting for the command to end");
		return;
	}
	log_line(LOG_LEVEL_ERROR, LOG_GUEST, "gone endpoint=%s",
	    daemon->config.guest.endpoint.text);
	daemon->status = EX_UNAVAILABLE;
}

static int
bind_again(
    struct daemon *daemon, enum log_subsystem subsystem, struct error *error)
{
	switch (subsystem) {
	case LOG_GUEST:
		return guest_bind_again(&daemon->guest, error);
	case LOG_LINK:
		return network_bind_again(
		    &daemon->network, &daemon->config, error);
	default:
		return control_bind_again(&daemon->control, error);
	}
}

/* Returns when to wake up, unless *fd becomes readable before that. */
static int64_t
look_at_sockets(struct daemon *daemon, int *fd)
{
	int64_t now_ms = clock_now_ms();
	int64_t next_ms = daemon->control.deadline_ms;
	struct error why;

	*fd = -1;
	doorbell_answer(&daemon->files);
	for (int i = 0; i < KEEPERS; i++) {
		struct socket_keeper *keeper = &daemon->keepers[i];

		if (socket_keeper_look(keeper, now_ms)) {
			int result =
			    bind_again(daemon, keeper->subsystem, &why);
			socket_keeper_bound(
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
	POLL_GUEST,
	POLL_COUNT = POLL_GUEST + GUEST_DESCRIPTORS
};

static void
serve_once(struct daemon *daemon)
{
	struct status now;
	int sockets_fd;
	/* Call this first: it may change the descriptors to poll. */
	int timeout = wait_timeout(look_at_sockets(daemon, &sockets_fd));
	struct pollfd fds[POLL_COUNT] = {
		[POLL_SIGNALS] = { .fd = daemon->signals, .events = POLLIN },
		[POLL_ENDED] = { .fd = daemon->ended.fds[0], .events = POLLIN },
		[POLL_FILES] = { .fd = daemon->files.fds[0], .events = POLLIN },
		[POLL_SOCKETS] = { .fd = sockets_fd, .events = POLLIN },
		[POLL_CONTROL] = control_poll(&daemon->control),
	};
	int guest_ms = guest_watch(&daemon->guest, fds + POLL_GUEST);

	if (timeout < 0 || (guest_ms >= 0 && guest_ms < timeout))
		timeout = guest_ms;
	if (poll(fds, POLL_COUNT, timeout) < 0) {
		on_poll_error(daemon);
		return;
	}
	daemon->poll_error = 0;
	if (fds[POLL_SIGNALS].revents)
		take_signals(daemon);
	if (fds[POLL_ENDED].revents && daemon->status == RUNNING)
		on_guest_gone(daemon);
	guest_serve(&daemon->guest, fds + POLL_GUEST);
	if (control_serve(&daemon->control, clock_now_ms())) {
		report_fill(&daemon->report, &now);
		control_answer(&daemon->control, &now);
	}
}

static int
refuse(enum log_subsystem subsystem, const char *what, const char *why)
{
	log_line(LOG_LEVEL_ERROR, subsystem, "%s %s", what, why);
	return -1;
}

/* With a command, creates a socket pair: one end becomes the guest endpoint,
 * the other is *command_fd. Returns 0, or -1 with errno. */
static int
make_pair(struct daemon *daemon, int *command_fd)
{
	struct guest_endpoint *endpoint = &daemon->config.guest.endpoint;
	int ends[2];

	if (!daemon->options->command)
		return 0;
	if (command_pair(ends) < 0)
		return -1;
	*endpoint = (struct guest_endpoint){ .kind = GUEST_FD, .fd = ends[0] };
	snprintf(endpoint->text, sizeof(endpoint->text), "fd:%d", ends[0]);
	*command_fd = ends[1];
	return 0;
}

static int
open_all(struct daemon *daemon, int *command_fd)
{
	const struct config *config = &daemon->config;
	struct error why;

	daemon->signals = signals_open(daemon->options->command != NULL);
	if (daemon->signals < 0 || make_pair(daemon, command_fd) < 0)
		return refuse(LOG_SERVICE, "can't start:", strerror(errno));
	if (guest_open(&daemon->guest, &config->guest.endpoint,
		config->guest.mode, &why) < 0) {
		log_line(LOG_LEVEL_ERROR, LOG_GUEST,
		    "can't open %s; choose another guest with -g", why.text);
		return -1;
	}
	if (network_open(&daemon->network, config, &why) < 0)
		return refuse(LOG_LINK, "can't open", why.text);
	if (control_open(&daemon->control, config->control.socket, &why) < 0)
		return refuse(LOG_CONTROL, "can't open", why.text);
	return 0;
}

static int
start_threads(struct daemon *daemon)
{
	const struct config *config = &daemon->config;

	log_line(LOG_LEVEL_INFO, LOG_SERVICE,
	    "started version=%s guest=%s network=%s", VERSION,
	    config->guest.endpoint.text, config->network.endpoint.text);
	settings_init(&daemon->settings, config);
	if (doorbell_init(&daemon->ended) < 0 ||
	    doorbell_init(&daemon->files) < 0 || link_init(&daemon->link) < 0)
		return refuse(LOG_SERVICE, "can't start:", strerror(errno));
	link_set_hold(&daemon->link, config->network.hold_ms);
	monitor_init(
	    &daemon->monitor, &daemon->link, &daemon->guest, &daemon->settings);
	for (int i = 0; i < KEEPERS; i++)
		socket_keeper_start(&daemon->keepers[i], &daemon->files);
	if (network_start(&daemon->network) < 0 ||
	    copy_start(&daemon->copy) < 0)
		return refuse(LOG_SERVICE, "can't start:", strerror(errno));
	return 0;
}

static void
start_command(struct daemon *daemon, int guest_fd)
{
	char **argv = daemon->options->command;
	int error;

	signals_unblock();
	if (!argv || command_start(&daemon->command, argv, guest_fd) == 0)
		return;
	error = errno;
	log_line(LOG_LEVEL_ERROR, LOG_SERVICE, "can't run \"%s\": %s", argv[0],
	    strerror(error));
	daemon->status = command_failure_status(error);
}

/* Stops fwd-link. The copy threads may be blocked on the guest and are not
 * joined; they end when the process exits. */
static void
stop_threads(struct daemon *daemon)
{
	link_stop(&daemon->link);
	network_stop(&daemon->network);
	log_line(LOG_LEVEL_INFO, LOG_SERVICE, "stopped");
}

int
daemon_run(const struct options *options, const struct config *config)
{
	/* Static, because the copy threads still use it after this function has
	 * returned. */
	static struct daemon daemon = {
		.status = RUNNING,
		.network = { .settings = &daemon.settings,
		    .link = &daemon.link,
		    .monitor = &daemon.monitor },
		.copy = { .settings = &daemon.settings,
		    .link = &daemon.link,
		    .monitor = &daemon.monitor,
		    .guest = &daemon.guest,
		    .ended = &daemon.ended },
		.keepers = { { .file = &daemon.guest.file,
				 .subsystem = LOG_GUEST },
		    { .file = &daemon.network.file, .subsystem = LOG_LINK },
		    { .file = &daemon.control.file,
			.subsystem = LOG_CONTROL } },
		.report = { .config = &daemon.config, .copy = &daemon.copy },
	};
	int command_fd = -1;

	daemon.options = options;
	daemon.config = *config;
	daemon.report.started_ms = clock_now_ms();
	if (open_all(&daemon, &command_fd) < 0 || start_threads(&daemon) < 0) {
		daemon.status = EX_OSERR;
	} else {
		start_command(&daemon, command_fd);
		while (daemon.status == RUNNING)
			serve_once(&daemon);
		stop_threads(&daemon);
	}
	unix_file_remove(&daemon.guest.file);
	unix_file_remove(&daemon.network.file);
	unix_file_remove(&daemon.control.file);
	return daemon.status;
}
