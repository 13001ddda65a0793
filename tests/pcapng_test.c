#include "status/pcapng.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "tests/support/suite.h"

/* Times of which both halves can be seen. */
#define TIME UINT64_C(0x1122334455667788)

static uint32_t memory[256];
static struct pcapng file;

static void
set_up(void)
{
	memset(memory, 0xaa, sizeof(memory));
	file = (struct pcapng){ .bytes = (uint8_t *)memory,
		.capacity = sizeof(memory) };
}

/* The block is in the byte order of this machine, like the words. */
static void
expect_words(const uint32_t *words, size_t count)
{
	ck_assert_uint_eq(file.used, count * 4);
	for (size_t i = 0; i < count; i++)
		ck_assert_msg(memory[i] == words[i], "word %zu: 0x%x, not 0x%x",
		    i, memory[i], words[i]);
	ck_assert_uint_eq(memory[count], 0xaaaaaaaa);
}

#define EXPECT(...)                                                            \
	expect_words((uint32_t[]){ __VA_ARGS__ },                              \
	    sizeof((uint32_t[]){ __VA_ARGS__ }) / 4)

/* Two halves of a word, in the order in which they are in memory. */
static uint32_t
halves(uint16_t first, uint16_t second)
{
	uint32_t word;

	memcpy(&word, (uint16_t[]){ first, second }, 4);
	return word;
}

static uint32_t
text(const char bytes[4])
{
	uint32_t word;

	memcpy(&word, bytes, 4);
	return word;
}

FIXTURE(set_up, NULL)

TEST(a_frame_is_padded_to_words_and_keeps_its_length)
{
	ck_assert(pcapng_frame(&file, 1, TIME, "abcde", 5, ""));
	EXPECT(6, 40, 1, 0x11223344, 0x55667788, 5, 5, text("abcd"),
	    text("e\0\0"), 40);
}

TEST(a_comment_is_an_option_of_its_frame)
{
	ck_assert(pcapng_frame(&file, 0, TIME, "abcd", 4, "why"));
	EXPECT(6, 48, 0, 0x11223344, 0x55667788, 4, 4, text("abcd"),
	    halves(1, 3), text("why"), 0, 48);
}

TEST(statistics_say_since_when_how_many_and_how_many_were_lost)
{
	const struct pcapng_statistics statistics = {
		.start_ns = TIME - 1, .received = 7, .lost = 2
	};
	uint32_t received[2], lost[2];

	memcpy(received, &statistics.received, 8);
	memcpy(lost, &statistics.lost, 8);
	ck_assert(pcapng_statistics(&file, 1, TIME, &statistics));
	EXPECT(5, 64, 1, 0x11223344, 0x55667788, halves(2, 8), 0x11223344,
	    0x55667787, halves(4, 8), received[0], received[1], halves(5, 8),
	    lost[0], lost[1], 0, 64);
}

TEST(an_interface_is_ethernet_in_nanoseconds_without_a_checksum)
{
	ck_assert(pcapng_interface(&file, "up", "vm1"));
	EXPECT(1, 56, halves(1, 0), 262144, halves(2, 2), text("up\0"),
	    halves(3, 3), text("vm1"), halves(9, 1), text("\x09\0\0"),
	    halves(13, 1), 0, 0, 56);
}

TEST(a_section_names_its_byte_order_and_what_wrote_it)
{
	struct utsname system;
	char name[200];

	ck_assert_int_eq(uname(&system), 0);
	snprintf(name, sizeof(name), "%s %s", system.sysname, system.release);
	ck_assert(pcapng_section(&file, "forwarder 1"));
	ck_assert_uint_eq(memory[0], 0x0a0d0d0a);
	ck_assert_uint_eq(memory[1], file.used);
	ck_assert_uint_eq(memory[2], 0x1a2b3c4d);
	ck_assert_uint_eq(memory[3], halves(1, 0));
	ck_assert(memory[4] == UINT32_MAX && memory[5] == UINT32_MAX);
	ck_assert_uint_eq(
	    memory[6], halves(2, (uint16_t)strlen(system.machine)));
	ck_assert_ptr_nonnull(memmem(memory, file.used, name, strlen(name)));
	ck_assert_ptr_nonnull(memmem(memory, file.used, "forwarder 1", 11));
	ck_assert_uint_eq(memory[file.used / 4 - 1], file.used);
}

TEST(an_event_is_an_entry_of_the_journal)
{
	static const char entry[] = "__REALTIME_TIMESTAMP=1234567890123456\n"
				    "SYSLOG_IDENTIFIER=forwarder\n"
				    "MESSAGE=it rains\n";
	size_t padded = (strlen(entry) + 3) / 4 * 4;

	ck_assert(
	    pcapng_event(&file, UINT64_C(1234567890123456789), "it rains"));
	ck_assert_uint_eq(memory[0], 9);
	ck_assert_uint_eq(memory[1], 12 + padded);
	ck_assert_mem_eq(memory + 2, entry, sizeof(entry));
	ck_assert_uint_eq(file.used, 12 + padded);
	ck_assert_uint_eq(memory[file.used / 4 - 1], file.used);
}

static const struct pcapng_statistics none;

static bool
add(int kind)
{
	switch (kind) {
	case 0:
		return pcapng_section(&file, "forwarder");
	case 1:
		return pcapng_interface(&file, "up", "");
	case 2:
		return pcapng_frame(&file, 0, TIME, "frame", 5, "why");
	case 3:
		return pcapng_event(&file, TIME, "it rains");
	default:
		return pcapng_statistics(&file, 0, TIME, &none);
	}
}

TEST(a_block_that_does_not_fit_adds_nothing, .count = 5)
{
	size_t whole;

	ck_assert(add(_i));
	whole = file.used;
	for (file.capacity = 0; file.capacity < whole; file.capacity++) {
		file.used = 0;
		memset(memory, 0xaa, sizeof(memory));
		ck_assert(!add(_i));
		ck_assert_uint_eq(file.used, 0);
		ck_assert_uint_eq(file.bytes[file.capacity], 0xaa);
	}
	ck_assert(add(_i));
}
