/* Threads, and who may do what:
 *
 *      main      signals, control socket, reload, the files of our sockets and
 *                of the guest's
 *      fwd-up    guest -> network                       (up.c)
 *      fwd-down  network -> guest                       (down.c)
 *      fwd-link  makes connections, keeps watch on them (reconnect/dialler.c)
 *      fwd-log   writes the log, started by main()      (log_writer.c)
 *
 * Shared: the link, the guest, the network and the keepalive, each with a lock
 * of its own; counters are atomics with one writer each. Each thread works from
 * a copy of the settings (settings.h).
 * Lock order: nobody ever holds two of them. The locks inside file_watch.c and
 * the log are taken last, and nothing else under them. */
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
#include "config/defaults.h"
#include "forwarder/command.h"
#include "forwarder/network.h"
#include "forwarder/report.h"
#include "forwarder/signals.h"
#include "forwarder/socket_keeper.h"
#include "forwarder/threads.h"
#include "status/control.h"
#include "status/render.h"

enum { KEEP_GUEST, KEEP_NETWORK, KEEP_CONTROL, KEEPERS };

struct daemon {
	const struct options *options;
	struct config config;
	int signals;           /* descriptor */
	struct doorbell ended; /* rung by the copy threads */
	struct guest guest;
	struct link link;
	struct network network;
	struct monitor monitor;
	struct settings settings;
	struct copy copy;
	struct report report;
	struct control control;
	struct command command;
	int poll_error; /* errno, logged; 0: poll() works */
	struct socket_keeper keepers[KEEPERS];
	struct doorbell files; /* rings for the keepers */
	bool ending;
	int status; /* to exit with */
};

static void
end(struct daemon *daemon, int status)
{
	daemon->ending = true;
	daemon->status = status;
}

static void
log_problem(const struct error *problem)
{
	log_line(LOG_LEVEL_ERROR, LOG_CONFIG, "%s", problem->text);
}

/* The guest was connected to where it is when it was created. */
static void
keep_guest(struct daemon *daemon, struct config *next)
{
	const struct guest_endpoint *endpoint = &daemon->config.guest.endpoint;

	if (!daemon->options->command &&
	    strcmp(next->guest.endpoint.text, endpoint->text) != 0)
		log_line(LOG_LEVEL_WARN, LOG_CONFIG,
		    "the guest endpoint can't change while running kept=%s",
		    endpoint->text);
	next->guest.endpoint = *endpoint;
}

/* Everything that can be refused: opened anew before the old is let go, and
 * nothing has changed if any of it is. Returns 0, or -1 with the reason. */
static int
reopen(struct daemon *daemon, const struct config *next,
    char why[NETWORK_WHY_BYTES])
{
	const struct config *now = &daemon->config;
	bool moves = strcmp(next->control.socket, now->control.socket) != 0;
	struct control control;

	if (moves && control_open(&control, next->control.socket, why,
			 NETWORK_WHY_BYTES) < 0)
		return -1;
	if (network_configure(&daemon->network, now, next, why) < 0) {
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

static void
adopt(struct daemon *daemon, struct config *next)
{
	char why[NETWORK_WHY_BYTES];

	if (reopen(daemon, next, why) < 0) {
		log_line(LOG_LEVEL_ERROR, LOG_CONFIG, "nothing was changed: %s",
		    why);
		return;
	}
	keep_guest(daemon, next);
	log_set_level(next->log.level);
	log_set_name(next->service.name);
	guest_set_mode(&daemon->guest, next->guest.mode);
	monitor_configure(&daemon->monitor, next);
	link_set_hold(&daemon->link, next->network.hold_ms);
	daemon->config = *next;
	log_line(LOG_LEVEL_INFO, LOG_CONFIG, "read again");
}

static void
reload(struct daemon *daemon)
{
	static struct config next; /* main() only; too large for a stack */
	struct config_problems problems = { .emit = log_problem };

	options_configure(
	    daemon->options, CONFIG_REGULAR_FILE, &next, &problems);
	if (problems.count > 0)
		log_line(LOG_LEVEL_ERROR, LOG_CONFIG,
		    "nothing was changed problems=%d", problems.count);
	else
		adopt(daemon, &next);
}

static void
on_child(struct daemon *daemon)
{
	int status;

	if (!command_ended(&daemon->command, &status))
		return;
	log_line(
	    LOG_LEVEL_INFO, LOG_SERVICE, "command ended status=%d", status);
	end(daemon, status);
}

static void
on_signal(struct daemon *daemon, const struct signal_note *note)
{
	struct status now;

	switch (note->number) {
	case SIGHUP:
		reload(daemon);
		for (int i = 0; i < KEEPERS; i++)
			socket_keeper_stir(&daemon->keepers[i]);
		break;
	case SIGUSR1:
		report_fill(&daemon->report, &now);
		render_log(&now);
		break;
	case SIGCHLD:
		on_child(daemon);
		break;
	default:
		if (daemon->command.pid > 0) {
			/* What was typed, the command has got already. */
			if (!note->typed)
				command_signal(&daemon->command, note->number);
		} else if (note->number != SIGUSR2) {
			end(daemon, EX_OK);
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

/* An error can last: EINVAL while the limit of descriptors is below what
 * poll() is given. Then only signals are served, ten times a second. */
static void
on_poll_error(struct daemon *daemon)
{
	if (errno == EINTR)
		return; /* a signal: its note is in the pipe */
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
	end(daemon, EX_UNAVAILABLE);
}

static void
on_status(void *context, struct status *out)
{
	report_fill(context, out);
}

static int
bind_guest_again(void *context, char *why, size_t why_size)
{
	struct daemon *daemon = context;

	return guest_bind_again(&daemon->guest, why, why_size);
}

static int
bind_network_again(void *context, char *why, size_t why_size)
{
	struct daemon *daemon = context;

	return network_bind_again(
	    &daemon->network, &daemon->config, why, why_size);
}

static int
bind_control_again(void *context, char *why, size_t why_size)
{
	struct daemon *daemon = context;

	return control_bind_again(&daemon->control, why, why_size);
}

static int
start_keepers(struct daemon *daemon)
{
	daemon->keepers[KEEP_GUEST] =
	    (struct socket_keeper){ .file = &daemon->guest.file,
		    .subsystem = LOG_GUEST,
		    .bind_again = bind_guest_again,
		    .context = daemon };
	daemon->keepers[KEEP_NETWORK] =
	    (struct socket_keeper){ .file = &daemon->network.file,
		    .subsystem = LOG_LINK,
		    .bind_again = bind_network_again,
		    .context = daemon };
	daemon->keepers[KEEP_CONTROL] =
	    (struct socket_keeper){ .file = &daemon->control.file,
		    .subsystem = LOG_CONTROL,
		    .bind_again = bind_control_again,
		    .context = daemon };
	if (doorbell_init(&daemon->files) < 0)
		return -1;
	for (int i = 0; i < KEEPERS; i++)
		socket_keeper_start(&daemon->keepers[i], &daemon->files);
	return 0;
}

/* Returns when to look again; *fd tells before that. */
static int64_t
look_at_sockets(struct daemon *daemon, int *fd)
{
	int64_t next_ms = INT64_MAX, look_ms;

	*fd = -1;
	doorbell_answer(&daemon->files);
	for (int i = 0; i < KEEPERS; i++) {
		struct socket_keeper *keeper = &daemon->keepers[i];

		look_ms = socket_keeper_look(keeper, clock_now_ms());
		next_ms = look_ms < next_ms ? look_ms : next_ms;
		if (*fd < 0)
			*fd = file_watch_fd(&keeper->watch);
	}
	return next_ms;
}

static int
shorter(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

enum {
	POLL_SIGNALS,
	POLL_ENDED,
	POLL_GUEST,
	POLL_GUEST_FILE,
	POLL_DOOR,
	POLL_FILES,
	POLL_SOCKETS,
	POLL_CONTROL
};

static void
serve_once(struct daemon *daemon)
{
	const struct control_answers answers = { on_status, &daemon->report };
	int sockets_fd;
	/* First: it may open and close what is polled. */
	int64_t look_ms = look_at_sockets(daemon, &sockets_fd);
	struct pollfd fds[POLL_CONTROL + CONTROL_DESCRIPTORS] = {
		[POLL_SIGNALS] = { .fd = daemon->signals, .events = POLLIN },
		[POLL_ENDED] = { .fd = daemon->ended.fds[0], .events = POLLIN },
		[POLL_GUEST] = { .fd = daemon->guest.bell.fds[0],
		    .events = POLLIN },
		[POLL_GUEST_FILE] = { .fd = guest_watch_fd(&daemon->guest),
		    .events = POLLIN },
		[POLL_DOOR] = { .fd = guest_door_fd(&daemon->guest),
		    .events = POLLIN },
		[POLL_FILES] = { .fd = daemon->files.fds[0], .events = POLLIN },
		[POLL_SOCKETS] = { .fd = sockets_fd, .events = POLLIN },
	};
	int timeout =
	    control_watch(&daemon->control, fds + POLL_CONTROL, clock_now_ms());
	int patience = guest_patience_ms(&daemon->guest);

	timeout = shorter(shorter(timeout, patience), wait_timeout(look_ms));
	if (poll(fds, POLL_CONTROL + CONTROL_DESCRIPTORS, timeout) < 0) {
		on_poll_error(daemon);
		return;
	}
	daemon->poll_error = 0;
	if (fds[POLL_SIGNALS].revents)
		take_signals(daemon);
	if (fds[POLL_ENDED].revents && !daemon->ending)
		on_guest_gone(daemon);
	if (fds[POLL_GUEST].revents || fds[POLL_GUEST_FILE].revents ||
	    patience >= 0)
		guest_look(&daemon->guest);
	if (fds[POLL_DOOR].revents)
		guest_open_door(&daemon->guest);
	control_serve(
	    &daemon->control, fds + POLL_CONTROL, clock_now_ms(), &answers);
}

static int
refuse(enum log_subsystem subsystem, const char *what, const char *why)
{
	log_line(LOG_LEVEL_ERROR, subsystem, "%s%s", what, why);
	return -1;
}

static int
refuse_guest(const struct config *config, const char *why)
{
	const char *initial = config_find("guest", "endpoint")->initial;
	bool chosen = strcmp(config->guest.endpoint.text, initial) != 0;

	log_line(LOG_LEVEL_ERROR, LOG_GUEST, "can't open %s%s%s", why,
	    chosen ? "" : "; give another with -g ",
	    chosen ? "" : defaults_guest_example);
	return -1;
}

/* With a command the guest is one end of a fresh pair; *command_fd the other. */
static int
make_pair(struct daemon *daemon, int *command_fd)
{
	struct guest_endpoint *endpoint = &daemon->config.guest.endpoint;
	int ends[2];

	if (!daemon->options->command)
		return 0;
	if (command_pair(ends) < 0)
		return refuse(LOG_SERVICE, "no socket pair: ", strerror(errno));
	*endpoint = (struct guest_endpoint){ .kind = GUEST_FD, .fd = ends[0] };
	snprintf(endpoint->text, sizeof(endpoint->text), "fd:%d", ends[0]);
	*command_fd = ends[1];
	return 0;
}

/* Everything that can be refused, before anything starts. */
static int
open_all(struct daemon *daemon)
{
	const struct config *config = &daemon->config;
	char why[GUEST_WHY_BYTES];

	if (guest_open(&daemon->guest, &config->guest.endpoint,
		config->guest.mode, why) < 0)
		return refuse_guest(config, why);
	if (network_open(&daemon->network, config, why) < 0) {
		refuse(LOG_LINK, "can't open ", why);
		goto no_network;
	}
	if (control_open(&daemon->control, config->control.socket, why,
		sizeof(why)) < 0) {
		refuse(LOG_CONTROL, "can't open ", why);
		goto no_control;
	}
	return 0;

no_control:
	network_remove(&daemon->network);
no_network:
	guest_remove(&daemon->guest);
	return -1;
}

static void
wire(struct daemon *daemon)
{
	daemon->network.link = &daemon->link;
	daemon->network.monitor = &daemon->monitor;
	daemon->network.guest = &daemon->guest;
	daemon->network.settings = &daemon->settings;
	daemon->copy.guest = &daemon->guest;
	daemon->copy.link = &daemon->link;
	daemon->copy.settings = &daemon->settings;
	daemon->copy.monitor = &daemon->monitor;
	daemon->copy.ended = &daemon->ended;
	daemon->report = (struct report){ .config = &daemon->config,
		.copy = &daemon->copy,
		.started_ms = clock_now_ms() };
}

static int
start_threads(struct daemon *daemon)
{
	log_line(LOG_LEVEL_INFO, LOG_SERVICE,
	    "started version=%s guest=%s network=%s", VERSION,
	    daemon->config.guest.endpoint.text,
	    daemon->config.network.endpoint.text);
	wire(daemon);
	settings_init(&daemon->settings, &daemon->config);
	if (doorbell_init(&daemon->ended) < 0 ||
	    link_init(&daemon->link, daemon->config.reconnect.max_ms) < 0)
		return refuse(LOG_SERVICE, "can't start: ", strerror(errno));
	link_set_hold(&daemon->link, daemon->config.network.hold_ms);
	monitor_init(&daemon->monitor, &daemon->link, &daemon->guest);
	monitor_configure(&daemon->monitor, &daemon->config);
	if (start_keepers(daemon) < 0 ||
	    network_start(&daemon->network, &daemon->config) < 0 ||
	    threads_start(&daemon->copy) < 0)
		return refuse(LOG_SERVICE, "can't start: ", strerror(errno));
	return 0;
}

static void
start_command(struct daemon *daemon, int guest_fd)
{
	char **argv = daemon->options->command;
	int error;

	if (!argv || command_start(&daemon->command, argv, guest_fd) == 0)
		return;
	error = errno;
	log_line(LOG_LEVEL_ERROR, LOG_SERVICE, "can't run \"%s\": %s", argv[0],
	    strerror(error));
	end(daemon, command_failure_status(error));
}

static void
serve(struct daemon *daemon, int command_fd)
{
	signals_admit();
	start_command(daemon, command_fd);
	while (!daemon->ending)
		serve_once(daemon);
	link_stop(&daemon->link);
	network_stop(&daemon->network);
	log_line(LOG_LEVEL_INFO, LOG_SERVICE, "stopped");
}

static void
remove_all(struct daemon *daemon)
{
	guest_remove(&daemon->guest);
	network_remove(&daemon->network);
	control_close(&daemon->control);
}

int
daemon_run(const struct options *options, const struct config *config)
{
	/* As long-lived as the copy threads, which outlive this function. */
	static struct daemon daemon;
	int command_fd = -1;

	daemon = (struct daemon){ .options = options, .config = *config };
	daemon.signals = signals_open(options->command != NULL);
	if (daemon.signals < 0) {
		refuse(LOG_SERVICE, "no pipe: ", strerror(errno));
		return EX_OSERR;
	}
	if (make_pair(&daemon, &command_fd) < 0 || open_all(&daemon) < 0)
		return EX_OSERR;
	if (start_threads(&daemon) < 0)
		end(&daemon, EX_OSERR);
	else
		serve(&daemon, command_fd);
	remove_all(&daemon);
	return daemon.status;
}
