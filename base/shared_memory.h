/* Memory that is shared with a process at the other end of a Unix socket. */
#ifndef BASE_SHARED_MEMORY_H
#define BASE_SHARED_MEMORY_H

#include <stddef.h>
#include <sys/types.h>

/* Creates zeroed memory for mmap(). A process that it is passed to can't
 * shorten it, so access never raises SIGBUS. Returns a descriptor, closed on
 * exec, or -1 with errno. */
int shared_memory_create(size_t bytes);

/* Sends a message of n bytes together with a descriptor. Does not wait. Returns
 * 0, or -1 with errno. */
int shared_memory_send(int socket, int memory, void *message, size_t n);

/* Waits for a message of up to n bytes. *memory is the descriptor that came with
 * it, or -1. Returns what recv() returns. */
ssize_t shared_memory_receive(int socket, int *memory, void *message, size_t n);

#endif
