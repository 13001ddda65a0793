/* Receives and sends datagrams one per call, or many per call with sendmsg_x() and
 * recvmsg_x(), which macOS has and documents only in its kernel's source
 * (bsd/sys/socket_private.h, bsd/kern/uipc_syscalls.c). vmnet-helper and Firefox
 * use them. The caller passes in the two calls, so this can be tested on any
 * system.
 *
 * What the calls do, by the source of xnu 8020 to 11417 (macOS 12 to 15):
 *
 * 	- The only flag is MSG_DONTWAIT. Without it, recvmsg_x() waits for the first
 * 	  datagram, or on older systems perhaps for each, so the first is received
 * 	  with recvfrom(), which also returns its sender.
 * 	- recvmsg_x() returns the length of a datagram in `length`. It returns 0 if
 * 	  the socket was shut down. The flags must be 0 when it is called.
 * 	- sendmsg_x() works on a connected socket only without an address. By its
 * 	  description it may refuse messages that together exceed SO_SNDBUF.
 * 	- Up to xnu 8796 (macOS 13), sendmsg_x() counts the datagram for which there
 * 	  was no room as sent. batch_x_works() finds this, and the calls are not
 * 	  used.
 * 	- If EMSGSIZE meets a later datagram, these versions report it as if none
 * 	  had been sent. Only frames that fit into the smallest buffer are
 * 	  therefore sent together. */
#ifndef GUEST_BATCH_X_H
#define GUEST_BATCH_X_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "guest/batch.h"

/* struct msghdr_x of macOS. */
struct message_x {
	void *name;
	socklen_t name_length;
	struct iovec *parts;
	int part_count;
	void *control;
	socklen_t control_length;
	int flags;
	size_t length;
};

typedef ssize_t message_x_call(
    int fd, struct message_x *messages, unsigned count, int flags);

/* The calls, or NULL: one datagram per call. */
struct batch_x {
	message_x_call *send, *receive;
};

/* Tries the calls with a socket pair: whether all that is reported as sent
 * arrives, whole and in order, also when the pair is full. */
bool batch_x_works(const struct batch_x *calls);

/* As batch_receive() and batch_send(). */
int batch_x_receive(
    struct batch *batch, const struct batch_x *calls, int fd, size_t limit);
int batch_x_send(
    struct batch *batch, const struct batch_x *calls, int fd, size_t from);

#endif
