#include "status/pcapng.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

enum block_type {
	INTERFACE_DESCRIPTION = 1,
	INTERFACE_STATISTICS = 5,
	ENHANCED_PACKET = 6,
	JOURNAL_EXPORT = 9, /* draft-richardson-opsawg-pcapng-extras */
	SECTION_HEADER = 0x0a0d0d0a,
};

enum option {
	END_OF_OPTIONS = 0,
	COMMENT = 1,
	SECTION_HARDWARE = 2,
	SECTION_SYSTEM = 3,
	SECTION_APPLICATION = 4,
	INTERFACE_NAME = 2,
	INTERFACE_DESCRIBED = 3,
	INTERFACE_TIME_UNIT = 9, /* a power of ten, as a negative exponent */
	INTERFACE_CHECKSUM_BYTES = 13,
	STATISTICS_START = 2,
	STATISTICS_RECEIVED = 4,
	STATISTICS_DROPPED = 5,
};

#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define LINK_TYPE_ETHERNET 1
#define NANOSECONDS 9
/* The limit of tcpdump and Wireshark; the longest frame is shorter. */
#define SNAP_BYTES 262144

/* A block in progress. */
struct block {
	struct pcapng *p;
	size_t end; /* more than the capacity: it does not fit */
};

/* Adds bytes, padded to 32 bits like everything in a block. */
static inline void
put(struct block *b, const void *bytes, size_t length)
{
	size_t padded = (length + 3) & ~(size_t)3;

	if (b->end <= b->p->capacity && padded <= b->p->capacity - b->end) {
		uint8_t *to = b->p->bytes + b->end;

		memcpy(to, bytes, length);
		if (padded > length)
			memset(to + length, 0, padded - length);
	}
	b->end += padded;
}

static void
put_number(struct block *b, uint32_t number)
{
	put(b, &number, sizeof(number));
}

static void
put_two(struct block *b, uint16_t first, uint16_t second)
{
	put(b, (uint16_t[]){ first, second }, 4);
}

/* Times are two numbers, the upper half first. */
static void
put_time(struct block *b, uint64_t time_ns)
{
	put_number(b, (uint32_t)(time_ns >> 32));
	put_number(b, (uint32_t)time_ns);
}

static void
put_option(struct block *b, enum option code, const void *value, size_t length)
{
	put_two(b, (uint16_t)code, (uint16_t)length);
	put(b, value, length);
}

static void
put_text(struct block *b, enum option code, const char *text)
{
	put_option(b, code, text, strlen(text));
}

static void
put_count(struct block *b, enum option code, uint64_t count)
{
	put_option(b, code, &count, sizeof(count));
}

static struct block
begin(struct pcapng *p, enum block_type type)
{
	struct block b = { p, p->used };

	put_number(&b, (uint32_t)type);
	put_number(&b, 0); /* the length: see finish() */
	return b;
}

/* Adds the length at both ends of the block. */
static bool
finish(struct block *b)
{
	struct pcapng *p = b->p;
	uint32_t length = (uint32_t)(b->end + 4 - p->used);

	put_number(b, length);
	if (b->end > p->capacity)
		return false;
	memcpy(p->bytes + p->used + 4, &length, sizeof(length));
	p->used = b->end;
	return true;
}

bool
pcapng_section(struct pcapng *p, const char *application)
{
	struct block b = begin(p, SECTION_HEADER);
	struct utsname system = { 0 };
	char name[sizeof(system.sysname) + sizeof(system.release)];

	uname(&system);
	stpcpy(stpcpy(stpcpy(name, system.sysname), " "), system.release);
	put_number(&b, BYTE_ORDER_MAGIC);
	put_two(&b, 1, 0);                    /* version */
	put(&b, (uint32_t[]){ ~0u, ~0u }, 8); /* length: unknown */
	put_text(&b, SECTION_HARDWARE, system.machine);
	put_text(&b, SECTION_SYSTEM, name);
	put_text(&b, SECTION_APPLICATION, application);
	put_two(&b, END_OF_OPTIONS, 0);
	return finish(&b);
}

bool
pcapng_interface(struct pcapng *p, const char *name, const char *description)
{
	struct block b = begin(p, INTERFACE_DESCRIPTION);

	put_two(&b, LINK_TYPE_ETHERNET, 0);
	put_number(&b, SNAP_BYTES);
	put_text(&b, INTERFACE_NAME, name);
	put_text(&b, INTERFACE_DESCRIBED, description);
	put_option(&b, INTERFACE_TIME_UNIT, (uint8_t[]){ NANOSECONDS }, 1);
	put_option(&b, INTERFACE_CHECKSUM_BYTES, (uint8_t[]){ 0 }, 1);
	put_two(&b, END_OF_OPTIONS, 0);
	return finish(&b);
}

/* Adds the fields before the frame in one piece: this runs for each frame. */
bool
pcapng_frame(struct pcapng *p, uint32_t interface, uint64_t time_ns,
    const void *frame, size_t length, const char *comment)
{
	const uint32_t head[] = { ENHANCED_PACKET, 0 /* see finish() */,
		interface, (uint32_t)(time_ns >> 32), (uint32_t)time_ns,
		(uint32_t)length /* captured */,
		(uint32_t)length /* before it was cut: never */ };
	struct block b = { p, p->used };

	put(&b, head, sizeof(head));
	put(&b, frame, length);
	if (*comment != '\0') {
		put_text(&b, COMMENT, comment);
		put_two(&b, END_OF_OPTIONS, 0);
	}
	return finish(&b);
}

bool
pcapng_event(struct pcapng *p, uint64_t time_ns, const char *message)
{
	struct block b = begin(p, JOURNAL_EXPORT);
	char entry[512];
	int length = snprintf(entry, sizeof(entry),
	    "__REALTIME_TIMESTAMP=%llu\n"
	    "SYSLOG_IDENTIFIER=forwarder\n"
	    "MESSAGE=%.400s\n",
	    (unsigned long long)(time_ns / 1000), message);

	put(&b, entry, (size_t)length);
	return finish(&b);
}

bool
pcapng_statistics(struct pcapng *p, uint32_t interface, uint64_t time_ns,
    const struct pcapng_statistics *statistics)
{
	struct block b = begin(p, INTERFACE_STATISTICS);

	put_number(&b, interface);
	put_time(&b, time_ns);
	put_two(&b, STATISTICS_START, 8);
	put_time(&b, statistics->start_ns);
	put_count(&b, STATISTICS_RECEIVED, statistics->received);
	put_count(&b, STATISTICS_DROPPED, statistics->lost);
	put_two(&b, END_OF_OPTIONS, 0);
	return finish(&b);
}
