/* Encodes the blocks of a pcapng file (draft-ietf-opsawg-pcapng) into memory,
 * in the byte order of this machine, which the section header declares.
 *
 * Each function adds a whole block, or returns false and adds nothing if it
 * doesn't fit. Times are nanoseconds since 1970. */
#ifndef STATUS_PCAPNG_H
#define STATUS_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pcapng {
	uint8_t *bytes;
	size_t capacity;
	size_t used; /* whole blocks */
};

/* The first block of a file. Adds the machine and its system as uname(2) names
 * them. */
bool pcapng_section(struct pcapng *p, const char *application);

/* Describes an Ethernet interface; the first one has number 0. Frames have no
 * checksum (FCS). */
bool pcapng_interface(
    struct pcapng *p, const char *name, const char *description);

/* A frame. A comment is shown with it, unless it is empty. */
bool pcapng_frame(struct pcapng *p, uint32_t interface, uint64_t time_ns,
    const void *frame, size_t length, const char *comment);

/* An event, as an entry of the systemd journal: Wireshark lists it as a line
 * between the frames, and other readers skip the block. The message has no
 * control characters. */
bool pcapng_event(struct pcapng *p, uint64_t time_ns, const char *message);

/* The counters of an interface since start_ns. A file may have several of these
 * blocks for one interface; the last one is final. */
struct pcapng_statistics {
	uint64_t start_ns;
	uint64_t received; /* isb_ifrecv: also those that were lost */
	uint64_t lost;     /* isb_ifdrop: had no room in the buffer */
};

bool pcapng_statistics(struct pcapng *p, uint32_t interface, uint64_t time_ns,
    const struct pcapng_statistics *statistics);

#endif
