/* Parses the command line, runs the chosen mode and returns its exit status. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "config/options.h"
#include "forwarder/run.h"
#include "forwarder/vmnet_client.h"
#include "status/capture_client.h"
#include "status/client.h"

static void
print_problem(const struct error *problem)
{
	fprintf(stderr, "forwarder: %s\n", problem->text);
}

static int
refuse_usage(const char *problem)
{
	fprintf(stderr, "forwarder: %s; see \"forwarder --help\"\n", problem);
	return EX_USAGE;
}

/* Opens /dev/null for closed standard descriptors. Otherwise a socket could get
 * number 2, and the log would be sent to the guest. */
static void
fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* Flushes standard output and returns the exit status. */
static int
flush(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EX_OK;
	fprintf(stderr, "forwarder: standard output: %s\n", strerror(errno));
	return EX_OSERR;
}

static int
run_forwarder(const struct options *options, const struct config *config)
{
	struct service service;
	int status;

	service_open(&service);
	log_open(config->log.level);
	log_set_name(config->service.name);
	if (log_start() < 0) {
		fprintf(stderr, "forwarder: can't start a thread: %s\n",
		    strerror(errno));
		return EX_OSERR;
	}
	status = forwarder_run(options, config, &service);
	log_finish();
	return status;
}

/* Asks a running forwarder for its status or a capture. */
static int
ask_forwarder(const struct options *options, const struct config *config)
{
	struct client_request request = {
		.path =
		    options->socket ? options->socket : config->control.socket,
		.folder = options->folder,
		.form = options->form,
		.watch = options->watch,
		.exit_code = options->exit_code,
	};

	if (options->all)
		request.path = NULL;
	else if (*request.path == '\0')
		return refuse_usage(
		    options->config_path ? "no control socket is configured "
					   "([control] socket is empty)"
		    : options->mode == OPTIONS_CAPTURE
			? "give a control socket, or a configuration file "
			  "with -c"
			: "give a control socket, a "
			  "configuration file with -c, or --all");
	if (options->mode == OPTIONS_CAPTURE)
		return capture_client(request.path, options->file);
	return client_status(&request);
}

int
main(int argc, char **argv)
{
	static struct config config;
	struct config_problems problems = { .emit = print_problem };
	struct options options;
	struct error error;
	int status;

	fill_standard_descriptors();
	if (options_parse(&options, argc, argv, &error) < 0)
		return refuse_usage(error.text);
	if (options.mode == OPTIONS_HELP) {
		options_print_help(stdout);
		return flush();
	}
	if (options.mode == OPTIONS_VERSION) {
		fputs(options_version, stdout);
		return flush();
	}
	options_configure(&options, CONFIG_ANY_FILE, &config, &problems);
	if (problems.count > 0)
		return EX_CONFIG;
	if (options.mode == OPTIONS_CHECK) {
		config_print(&config, stdout);
		return flush();
	}
	if (options.mode == OPTIONS_STATUS || options.mode == OPTIONS_CAPTURE)
		return ask_forwarder(&options, &config);
	if (options.mode == OPTIONS_VMNET_CLIENT &&
	    !vmnet_client_split(&options, &config, &status))
		return status;
	exit(run_forwarder(&options, &config));
}
