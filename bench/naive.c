/* One frame per call; on a stream, header and payload separately: what the
 * forwarder in Lima, which is written in Go, does. */
#include "ends.h"
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

/* Returns the length of the frame, or a value below 1. */
static ssize_t
receive_frame(const struct end *from, uint8_t frame[ENDS_MAX_FRAME])
{
	uint32_t header;

	if (!from->stream)
		return recv(from->fd, frame, ENDS_MAX_FRAME, 0);
	if (recv(from->fd, &header, sizeof(header), MSG_WAITALL) !=
	    (ssize_t)sizeof(header))
		return -1;
	header = ntohl(header);
	return header > ENDS_MAX_FRAME
		   ? -1
		   : recv(from->fd, frame, header, MSG_WAITALL);
}

static bool
send_frame(const struct end *to, const uint8_t *frame, size_t length)
{
	uint32_t header = htonl((uint32_t)length);

	return (!to->stream || send(to->fd, &header, sizeof(header),
				   MSG_NOSIGNAL) == sizeof(header)) &&
	       send(to->fd, frame, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static void
copy(const struct ends *ends, const struct end *from, const struct end *to)
{
	uint8_t frame[ENDS_MAX_FRAME];
	ssize_t length;

	(void)ends;
	while ((length = receive_frame(from, frame)) > 0 &&
	       send_frame(to, frame, (size_t)length))
		;
}

int
main(int argc, char **argv)
{
	struct ends ends;

	ends_open(&ends, argc, argv);
	ends_copy(copy, &ends);
}
