/* launchd passes sockets on and is told nothing. */
#include "base/service.h"

#include <fcntl.h>
#include <launch.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* launch_activate_socket() fails if launchd didn't start us, or has no such
 * socket. */
void
service_open(struct service *service)
{
	size_t count = 0;
	int *fds = NULL;

	*service = (struct service){ .socket = -1 };
	if (launch_activate_socket(SERVICE_GUEST, &fds, &count) != 0)
		return;
	for (size_t i = 0; i < count; i++) {
		struct service_descriptor *descriptor =
		    &service->inherited[service->inherited_count];

		fcntl(fds[i], F_SETFD, FD_CLOEXEC);
		if (service->inherited_count == SERVICE_INHERITED) {
			close(fds[i]);
			continue;
		}
		*descriptor = (struct service_descriptor){ .fd = fds[i],
			.name = SERVICE_GUEST };
		service->inherited_count++;
	}
	free(fds);
}

void
service_tell(struct service *service, enum service_message message)
{
	(void)service;
	(void)message;
}

void
service_tell_status(struct service *service, const char *status)
{
	(void)service;
	(void)status;
}

void
service_keep(struct service *service, const int *fds, size_t count)
{
	(void)service;
	while (count > 0)
		close(fds[--count]);
}

bool
service_sync(struct service *service, int interrupt_fd, int timeout_ms)
{
	(void)service;
	(void)interrupt_fd;
	(void)timeout_ms;
	return true;
}

struct pollfd
service_poll(const struct service *service)
{
	(void)service;
	return (struct pollfd){ .fd = -1 };
}

void
service_serve(struct service *service)
{
	(void)service;
}
