/* One frame per call, header and payload written separately: what the forwarder
 * in Lima, which is written in Go, does. */
#include "ends.h"
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

static void *
copy_up(void *argument)
{
	static uint8_t frame[ENDS_MAX_FRAME];
	const struct ends *ends = argument;

	for (;;) {
		ssize_t length = recv(ends->guest, frame, sizeof(frame), 0);
		uint32_t header = htonl((uint32_t)length);

		if (length <= 0)
			return NULL;
		if (send(ends->network, &header, sizeof(header), MSG_NOSIGNAL) <
			0 ||
		    send(ends->network, frame, (size_t)length, MSG_NOSIGNAL) <
			0)
			return NULL;
	}
}

static void *
copy_down(void *argument)
{
	static uint8_t frame[ENDS_MAX_FRAME];
	const struct ends *ends = argument;

	for (;;) {
		uint32_t header;

		if (recv(ends->network, &header, sizeof(header), MSG_WAITALL) !=
		    (ssize_t)sizeof(header))
			return NULL;
		header = ntohl(header);
		if (header > sizeof(frame) ||
		    recv(ends->network, frame, header, MSG_WAITALL) !=
			(ssize_t)header)
			return NULL;
		if (send(ends->guest, frame, header, 0) < 0)
			return NULL;
	}
}

int
main(int argc, char **argv)
{
	struct ends ends;

	ends_open(&ends, argc, argv);
	run_pair(copy_up, copy_down, &ends);
}
