#include "forwarder/vmnet_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/background.h"
#include "base/log.h"
#include "base/socket.h"
#include "forwarder/command.h"

static int
cannot_run(const char *command, int error, int status)
{
	fprintf(stderr, "forwarder: can't run \"%s\": %s\n", command,
	    strerror(error));
	return status;
}

bool
vmnet_client_split(struct options *options, struct config *config, int *status)
{
	char **command = options->command;
	bool logs;
	int ends[2], low;

	*status = EX_OSERR;
	if (socket_pair(SOCK_STREAM, ends) < 0) {
		cannot_run(command[0], errno, EX_OSERR);
		return false;
	}
	/* The command's end has the lowest number that was free, as a socket
	 * opened by the original has: 3 unless the caller uses it. */
	low = ends[0] < ends[1] ? 0 : 1;
	switch (background_start(ends[!low], &logs)) {
	case BACKGROUND_COPY:
		options->command = NULL;
		unsetenv("NOTIFY_SOCKET"); /* it is the command's */
		if (!logs) /* the caller sees only why it can't start */
			config->log.level = LOG_LEVEL_ERROR;
		return true;
	case BACKGROUND_STARTED:
		fcntl(ends[low], F_SETFD, 0);
		execvp(command[0], command);
		*status = cannot_run(
		    command[0], errno, command_failure_status(errno));
		break;
	case BACKGROUND_FAILED:
		if (errno != 0)
			cannot_run(command[0], errno, EX_OSERR);
		break;
	}
	return false;
}
