#include "ends.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void
die(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_un
address_of(const char *path, size_t length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (length >= sizeof(address.sun_path)) {
		fprintf(stderr, "path too long: %s\n", path);
		exit(64);
	}
	memcpy(address.sun_path, path, length);
	return address;
}

static void
connect_to(int fd, const char *path)
{
	struct sockaddr_un address = address_of(path, strlen(path));

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		die(path);
}

/* Connects to the first sender. Its frame stays in the queue. */
static void
learn_guest(int fd)
{
	struct sockaddr_un guest;
	socklen_t length = sizeof(guest);
	char byte;

	if (recvfrom(
		fd, &byte, 1, MSG_PEEK, (struct sockaddr *)&guest, &length) < 0)
		die("recvfrom");
	if (connect(fd, (struct sockaddr *)&guest, length) != 0)
		die("connect to guest");
}

static int
open_guest(const char *endpoint)
{
	struct sockaddr_un address;
	const char *path, *comma;
	int fd;

	if (strncmp(endpoint, "fd:", 3) == 0)
		return atoi(endpoint + 3);
	if (strncmp(endpoint, "unixgram:", 9) != 0)
		die(endpoint);
	path = endpoint + 9;
	comma = strchr(path, ',');
	address =
	    address_of(path, comma ? (size_t)(comma - path) : strlen(path));
	unlink(address.sun_path);
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (fd < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		die(address.sun_path);
	if (comma)
		connect_to(fd, comma + 1);
	else
		learn_guest(fd);
	return fd;
}

static int
open_network(const char *endpoint)
{
	static const struct sockaddr_un unnamed = { .sun_family = AF_UNIX };
	bool stream = strncmp(endpoint, "unix:", 5) == 0;
	int fd = socket(AF_UNIX, stream ? SOCK_STREAM : SOCK_DGRAM, 0);

	if (fd < 0 || (!stream && strncmp(endpoint, "unixgram:", 9) != 0))
		die(endpoint);
	if (stream) {
		connect_to(fd, endpoint + 5);
		return fd;
	}
	/* The kernel chooses an address, to which the daemon connects. */
	if (bind(fd, (const struct sockaddr *)&unnamed,
		sizeof(unnamed.sun_family)) != 0)
		die("bind");
	connect_to(fd, endpoint + 9);
	if (send(fd, "VFKT", 4, 0) != 4)
		die(endpoint);
	return fd;
}

static struct end
end_of(int fd)
{
	int type;
	socklen_t length = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
		die("guest");
	return (struct end){ fd, type == SOCK_STREAM };
}

void
ends_open(struct ends *ends, int argc, char **argv)
{
	const char *guest = NULL, *network = NULL;
	int option;

	*ends = (struct ends){ .frame = 1514 };
	while ((option = getopt(argc, argv, "g:n:s:S:r:")) != -1) {
		if (option == 'g')
			guest = optarg;
		else if (option == 'n')
			network = optarg;
		else if (option == 's')
			ends->frame = strtoul(optarg, NULL, 10);
		else if (option == 'S')
			ends->stride = strtoul(optarg, NULL, 10);
		else if (option == 'r')
			ends->reading = strtoul(optarg, NULL, 10);
		else
			exit(64);
	}
	if (!guest || !network) {
		fprintf(stderr, "usage: %s -g GUEST -n NETWORK\n", argv[0]);
		exit(64);
	}
	ends->network = end_of(open_network(network));
	ends->guest = end_of(open_guest(guest));
}

struct job {
	copy_frames *copy;
	const struct ends *ends;
};

static void *
copy_down(void *argument)
{
	struct job *job = argument;

	job->copy(job->ends, &job->ends->network, &job->ends->guest);
	exit(0);
}

void
ends_copy(copy_frames *copy, const struct ends *ends)
{
	struct job down = { copy, ends };
	pthread_t thread;

	if (pthread_create(&thread, NULL, copy_down, &down) != 0)
		die("pthread_create");
	copy(ends, &ends->guest, &ends->network);
	exit(0);
}
