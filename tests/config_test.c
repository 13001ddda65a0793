#include "config/config.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "config/cidr.h"
#include "config/defaults.h"
#include "tests/support/set_key.h"
#include "tests/support/suite.h"

/* Problems one after the other, a line feed behind each. */
static struct {
	char text[8192];
	size_t used;
} told;

static void
note(const struct error *problem)
{
	told.used += (size_t)snprintf(told.text + told.used,
	    sizeof(told.text) - told.used, "%s\n", problem->text);
	ck_assert_uint_lt(told.used, sizeof(told.text));
}

static struct config config;
static struct config_problems problems;

static void
begin(void)
{
	told.used = 0;
	told.text[0] = '\0';
	problems = (struct config_problems){ .emit = note };
	config_defaults(&config);
}

static void
read_bytes(const void *bytes, size_t length)
{
	FILE *file = fopen("forwarder.ini", "w");

	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, length, file), length);
	fclose(file);
	begin();
	config_read(&config, "forwarder.ini", CONFIG_ANY_FILE, &problems);
}

static void
read_text(const char *text)
{
	read_bytes(text, strlen(text));
}

/* What a file is told, to the letter. */
static void
expect(const char *text, const char *lines)
{
	read_text(text);
	ck_assert_str_eq(told.text, lines);
}

static void
print(char *text, size_t room)
{
	FILE *file = tmpfile();

	ck_assert_ptr_nonnull(file);
	config_print(&config, file);
	rewind(file);
	text[fread(text, 1, room - 1, file)] = '\0';
	fclose(file);
}

/* The suites run in the repository's top folder. */
static char *
slurp(const char *path)
{
	static char text[65536];
	FILE *file = fopen(path, "r");

	ck_assert_msg(file != NULL, "%s: run me in the top folder", path);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	return text;
}

/* The one default that differs from system to system: a comment in the file. */
static bool
is_the_systems(const struct config_key *key)
{
	return key->initial == defaults_network;
}

TEST(the_annotated_file_loads_to_exactly_the_defaults)
{
	char defaults[4096], loaded[4096];

	begin();
	print(defaults, sizeof(defaults));
	config_read(&config, "forwarder.ini", CONFIG_ANY_FILE, &problems);
	ck_assert_int_eq(problems.count, 0);
	config.file = NULL; /* from which the default name is taken */
	print(loaded, sizeof(loaded));
	ck_assert_str_eq(loaded, defaults);
	for (int i = 0; i < CONFIG_KEYS; i++)
		ck_assert_msg(config.origin[i].line > 0 ||
				  is_the_systems(&config_keys[i]),
		    "[%s] %s is missing", config_keys[i].section,
		    config_keys[i].name);
}

TEST(the_annotated_file_says_limits_and_default_of_each_key,
    .count = CONFIG_KEYS)
{
	const struct config_key *key = &config_keys[_i];
	char *at = slurp("forwarder.ini"), want[512];

	snprintf(want, sizeof(want), "\n[%s]\n", key->section);
	at = strstr(at, want);
	ck_assert_ptr_nonnull(at);
	snprintf(want, sizeof(want), "; Limits: %s\n%s%s =%s%s",
	    config_limits(key), is_the_systems(key) ? "; " : "", key->name,
	    *key->initial || is_the_systems(key) ? " " : "", key->initial);
	ck_assert_msg(strstr(at, want) != NULL, "%s", want);
}

/* Finds the next macro line for the key, `.It Cm name`. */
static const char *
manual_entry(const char *manual, const struct config_key *key)
{
	char want[128];

	snprintf(want, sizeof(want), "\n.Sh SECTION ");
	for (const char *c = key->section; *c != '\0'; c++)
		snprintf(want + strlen(want), 2, "%c", *c - 'a' + 'A');
	manual = strstr(manual, want);
	ck_assert_msg(manual != NULL, "no section %s", key->section);
	snprintf(want, sizeof(want), "\n.It Cm %s\n", key->name);
	return strstr(manual, want);
}

TEST(the_manual_names_every_key_and_its_default, .count = CONFIG_KEYS)
{
	const struct config_key *key = &config_keys[_i];
	const char *entry = manual_entry(slurp("docs/forwarder.ini.5"), key);
	const char *initial = *key->initial ? key->initial : "empty";

	ck_assert_msg(entry != NULL, "[%s] %s", key->section, key->name);
	entry = strstr(entry, "Default:");
	ck_assert_ptr_nonnull(entry);
	entry += strlen("Default:");
	entry += strspn(entry, " \n");
	if (strncmp(entry, ".Pa ", 4) == 0)
		entry += 4;
	ck_assert_msg(strncmp(entry, initial, strlen(initial)) == 0 ||
			  is_the_systems(key),
	    "[%s] %s: %.20s", key->section, key->name, entry);
}

FIXTURE(scratch_enter, scratch_leave)

TEST(the_defaults_are_those_of_the_contract)
{
	begin();
	ck_assert_str_eq(
	    config.guest.endpoint.path, "/run/forwarder/guest.sock");
	ck_assert_int_eq(config.guest.mode, 0600);
	ck_assert_int_eq(config.guest.stall_ms, 100);
	ck_assert_str_eq(config.network.endpoint.text, defaults_network);
	ck_assert_int_eq(config.network.hold_ms, 2000);
	ck_assert_int_eq(config.network.max_frame, 65550);
	ck_assert_int_eq(config.network.write_batch, 32768);
	ck_assert_int_eq(config.network.write_stall_ms, 30000);
	ck_assert_int_eq(config.network.announce, 1);
	ck_assert_uint_eq(config.network.allow.count, 0);
	ck_assert_uint_eq(config.network.user, CONFIG_NO_USER);
	ck_assert_int_eq(config.reconnect.min_ms, 100);
	ck_assert_int_eq(config.reconnect.max_ms, 2000);
	ck_assert_int_eq(config.reconnect.jitter_percent, 25);
	ck_assert_int_eq(config.reconnect.watch, 1);
	ck_assert_int_eq(config.keepalive.mode, KEEPALIVE_AUTO);
	ck_assert_int_eq(config.keepalive.interval_ms, 5000);
	ck_assert_int_eq(config.keepalive.count, 5);
	ck_assert(!config.keepalive.gateway.given);
	ck_assert_int_eq(config.keepalive.tcp.idle_s, 15);
	ck_assert_int_eq(config.keepalive.tcp.interval_s, 5);
	ck_assert_int_eq(config.keepalive.tcp.count, 3);
	ck_assert_int_eq(config.log.level, LOG_LEVEL_INFO);
	ck_assert_str_eq(config.control.socket, "");
}

/* One key, one value, judged. */
static int
set(const struct config_key *key, const char *value)
{
	begin();
	config_set(&config, key->section, key->name, value, "here", &problems);
	return problems.count;
}

TEST(every_limit_in_the_table_is_itself_accepted, .count = CONFIG_KEYS)
{
	const struct config_key *key = &config_keys[_i];

	char limits[64];

	ck_assert_int_eq(set(key, key->initial), 0);
	if (key->limits == NULL)
		return;
	strcpy(limits, key->limits);
	for (char *end, *at = limits; at != NULL; at = end) {
		end = strstr(at, at == limits ? " to " : ", or ");
		if (end != NULL) {
			*end = '\0';
			end += at == limits ? 4 : 5;
		}
		ck_assert_msg(set(key, at) == 0, "%s", told.text);
	}
}

TEST(every_key_refuses_nonsense_and_keeps_what_it_had, .count = CONFIG_KEYS)
{
	static const char *const nonsense[] = { "0.5x", "-1", "99999999999h",
		"99999999999999999999999999", "none of it", "\x01", " 1", "1 ",
		"1 ;2", "#", "nan", "0x10" };
	char before[4096], after[4096];

	begin();
	print(before, sizeof(before));
	for (size_t i = 0; i < sizeof(nonsense) / sizeof(*nonsense); i++) {
		if (config_keys[_i].type == CONFIG_PATH &&
		    strpbrk(nonsense[i], ";#\x01") == NULL)
			continue; /* nearly anything is a path */
		if (config_keys[_i].type == CONFIG_NAME &&
		    strpbrk(nonsense[i], " ;#\x01") == NULL)
			continue;
		ck_assert_msg(set(&config_keys[_i], nonsense[i]) == 1,
		    "[%s] %s = %s", config_keys[_i].section,
		    config_keys[_i].name, nonsense[i]);
		ck_assert(config.origin[_i].wrong);
		print(after, sizeof(after));
		ck_assert_str_eq(after, before);
	}
}

#define UNWRITABLE                                                             \
	"a value has no blanks around it, no control characters, and no ; or " \
	"# that begins a word"

static const struct {
	const char *section, *name, *value, *fault; /* NULL: accepted */
} values[] = {
	{ "keepalive", "interval", "0.5x",
	    "\"0.5x\" is not a duration (examples: 500ms, 5s, 2m)" },
	{ "keepalive", "interval", "5",
	    "\"5\" is not a duration (examples: 500ms, 5s, 2m)" },
	{ "keepalive", "interval", "5 s",
	    "\"5 s\" is not a duration (examples: 500ms, 5s, 2m)" },
	{ "keepalive", "interval", "",
	    "\"\" is not a duration (examples: 500ms, 5s, 2m)" },
	{ "keepalive", "interval", "0", NULL },
	{ "keepalive", "interval", "0ms", NULL },
	{ "keepalive", "interval", "99ms",
	    "\"99ms\" is out of range (100ms to 1h, or 0)" },
	{ "keepalive", "interval", "3601s",
	    "\"3601s\" is out of range (100ms to 1h, or 0)" },
	{ "keepalive", "interval", "forever",
	    "\"forever\" is not a duration (examples: 500ms, 5s, 2m)" },
	{ "guest", "stall", "1s", NULL },
	{ "guest", "stall", "1001ms", "\"1001ms\" is out of range (0 to 1s)" },
	{ "guest", "mode", "0800",
	    "\"0800\" is not an octal mode (examples: 0600, 0660)" },
	{ "guest", "mode", "1777", "\"1777\" is out of range (0 to 0777)" },
	{ "guest", "mode", "660", NULL },
	{ "network", "hold", "forever", NULL },
	{ "network", "hold", "2h",
	    "\"2h\" is out of range (0 to 1h, or forever)" },
	{ "network", "max_frame", "59",
	    "\"59\" is out of range (60 to 69632)" },
	{ "network", "max_frame", "68K", NULL },
	{ "network", "max_frame", "69K",
	    "\"69K\" is out of range (60 to 69632)" },
	{ "network", "write_batch", "1048577",
	    "\"1048577\" is out of range (0 to 1M)" },
	{ "network", "write_batch", "32k",
	    "\"32k\" is not a size (examples: 1500, 32K, 1M)" },
	{ "network", "write_batch", "18014398509481984K",
	    "\"18014398509481984K\" is out of range (0 to 1M)" },
	{ "network", "announce", "true", "\"true\" is not one of no, yes" },
	{ "network", "allow", "10.0.0.0/33",
	    "\"10.0.0.0/33\" is not a list of networks: the number after the "
	    "slash is 0 to 32 (IPv6: 128)" },
	{ "network", "user", "0", NULL },
	{ "network", "user", "root", NULL },
	{ "network", "user", "4294967294", NULL },
	{ "network", "user", "4294967295",
	    "\"4294967295\" is not a user of this system" },
	{ "network", "user", "nobody at all",
	    "\"nobody at all\" is not a user of this system" },
	{ "reconnect", "jitter", "25%",
	    "\"25%\" is not a whole number (examples: 1, 25)" },
	{ "keepalive", "mode", "on",
	    "\"on\" is not one of off, passive, arp, peer, auto" },
	{ "keepalive", "gateway", "192.168.5",
	    "\"192.168.5\" is not an IPv4 address: it is written 192.168.5.1" },
	{ "keepalive", "gateway", "192.168.5.1", NULL },
	{ "keepalive", "tcp_idle", "1500ms",
	    "\"1500ms\" is not a duration of whole seconds (examples: 5s, "
	    "90s, 2m)" },
	{ "keepalive", "tcp_idle", "121m",
	    "\"121m\" is out of range (1s to 2h, or 0)" },
	{ "keepalive", "tcp_interval", "0",
	    "\"0\" is out of range (1s to 2h)" },
	{ "guest", "endpoint", "unix:/x",
	    "\"unix:/x\" is not a guest endpoint: it begins with neither fd:, "
	    "unixgram: nor tap:" },
	{ "control", "socket", "/run/a b.sock", NULL },
	{ "control", "socket", "/run/a ;b", UNWRITABLE },
	{ "control", "socket", "/run/a\nb", UNWRITABLE },
};

TEST(a_value_is_accepted_or_told_to_the_letter, .count = LENGTH(values))
{
	const struct config_key *key =
	    config_find(values[_i].section, values[_i].name);
	char want[512] = "";

	ck_assert_ptr_nonnull(key);
	set(key, values[_i].value);
	if (values[_i].fault != NULL)
		snprintf(want, sizeof(want), "here: %s\n", values[_i].fault);
	ck_assert_str_eq(told.text, want);
}

TEST(a_path_fits_a_socket_to_the_last_byte)
{
	char path[CONFIG_VALUE_BYTES] = "/";
	size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	memset(path + 1, 'a', most - 1);
	ck_assert_int_eq(set(config_find("control", "socket"), path), 0);
	ck_assert_str_eq(config.control.socket, path);
	strcat(path, "a");
	ck_assert_int_eq(set(config_find("control", "socket"), path), 1);
	ck_assert_ptr_nonnull(
	    strstr(told.text, "the path is longer than a socket allows (10"));
}

TEST(what_is_printed_reads_back_the_same)
{
	char first[4096], second[4096];

	read_text("[guest]\nendpoint=fd:3\nmode=0660\nstall=150ms\n"
		  "[network]\nendpoint=tcp:[::1]:7000\nhold=forever\n"
		  "max_frame=1514\nwrite_batch=1M\nwrite_stall=0\nannounce=no\n"
		  "user=root\nallow=10.0.0.0/8, fd00::/8\n"
		  "[reconnect]\nmin=61s\nmax=2m\njitter=0\nwatch=no\n"
		  "[keepalive]\nmode=peer\ninterval=1h\ngateway=10.0.0.1\n"
		  "tcp_idle=0\n[log]\nlevel=error\n"
		  "[control]\nsocket=/run/a b:c=d.sock\n");
	ck_assert_str_eq(told.text, "");
	print(first, sizeof(first));
	read_text(first);
	ck_assert_str_eq(told.text, "");
	print(second, sizeof(second));
	ck_assert_str_eq(first, second);
	ck_assert_ptr_nonnull(strstr(first, "\nmin          = 61s\n"));
	ck_assert_ptr_nonnull(strstr(first, "\nhold         = forever\n"));
	ck_assert_ptr_nonnull(strstr(first, "\nwrite_batch  = 1M\n"));
	ck_assert_ptr_nonnull(strstr(first, "\nmode         = 0660\n"));
}

/* Whatever a byte means to the reader of files, where it may stand. */
TEST(what_an_option_accepts_a_file_can_hold, .count = 255)
{
	static const char *const around[][2] = { { "", "" }, { "", "/b" },
		{ "/a", "b" }, { "/a", "" }, { "/a ", "b" }, { "/a ", " b" } };
	char value[16], text[4096];

	for (size_t i = 0; i < sizeof(around) / sizeof(*around); i++) {
		snprintf(value, sizeof(value), "%s%c%s", around[i][0], _i + 1,
		    around[i][1]);
		if (set(config_find("control", "socket"), value) != 0)
			continue;
		print(text, sizeof(text));
		expect(text, "");
		ck_assert_str_eq(config.control.socket, value);
	}
}

TEST(the_longest_accepted_value_is_printed_as_a_line_that_is_read)
{
	char value[182] = "tcp:", text[4096];

	memset(value + 4, 'h', 174);
	strcpy(value + 178, ":7");
	ck_assert_int_eq(set(config_find("network", "endpoint"), value), 0);
	print(text, sizeof(text));
	expect(text, "");
	ck_assert_str_eq(config.network.endpoint.text, value);
	strcat(value, "0");
	ck_assert_int_eq(set(config_find("network", "endpoint"), value), 1);
	ck_assert_str_eq(
	    told.text, "here: the value is longer than 180 bytes\n");
}

TEST(a_mistyped_key_is_told_with_its_line_and_the_nearest_name)
{
	expect("\n\n[guest]\n\n\n\n\n[network]\nendpont = unix:/x\n",
	    "forwarder.ini:9: [network] endpont: unknown key "
	    "(did you mean \"endpoint\"?)\n");
	expect("[network]\nHOLD = 2s\n",
	    "forwarder.ini:2: [network] HOLD: unknown key "
	    "(did you mean \"hold\"?)\n");
	expect("[reconnect]\ninterval = 2s\n",
	    "forwarder.ini:2: [reconnect] interval: unknown key "
	    "(did you mean [keepalive] interval?)\n");
	expect("[network]\ncolour = blue\n",
	    "forwarder.ini:2: [network] colour: unknown key\n");
}

TEST(a_key_with_a_name_longer_than_any_is_merely_unknown)
{
	char text[256] = "[network]\n";

	memset(text + 10, 'k', 150);
	strcpy(text + 160, "=1\n");
	read_text(text);
	ck_assert_int_eq(problems.count, 1);
	ck_assert_ptr_nonnull(strstr(told.text, "kkk: unknown key\n"));
}

TEST(every_problem_is_told_not_only_the_first)
{
	expect("[network]\n"
	       "endpont = unix:/x\n"
	       "hold = soon\n"
	       "what is this\n"
	       "[keepalive]\n"
	       "count = 0\n"
	       "interval = 0.5x\n",
	    "forwarder.ini:2: [network] endpont: unknown key "
	    "(did you mean \"endpoint\"?)\n"
	    "forwarder.ini:3: [network] hold: \"soon\" is not a duration "
	    "(examples: 500ms, 5s, 2m)\n"
	    "forwarder.ini:4: neither \"key = value\", [section] nor "
	    "; comment\n"
	    "forwarder.ini:6: [keepalive] count: \"0\" is out of range "
	    "(1 to 100)\n"
	    "forwarder.ini:7: [keepalive] interval: \"0.5x\" is not a duration "
	    "(examples: 500ms, 5s, 2m)\n");
}

TEST(an_unknown_section_is_told_once_and_its_keys_go_nowhere)
{
	expect("[guest]\nstall = 1s\n[netwrok]\nhold = 1s\nstall = 2s\n"
	       "[network]\nhold = 3s\n",
	    "forwarder.ini:3: [netwrok]: unknown section "
	    "(did you mean \"network\"?)\n");
	ck_assert_int_eq(config.guest.stall_ms, 1000);
	ck_assert_int_eq(config.network.hold_ms, 3000);
	expect("[zebra]\n", "forwarder.ini:1: [zebra]: unknown section\n");
}

TEST(a_section_header_is_a_header_or_told)
{
	static const char *const wrong[] = { "[network", "[network] hold = 1s",
		"[network]]", "[", "[network ; comment" };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		expect(wrong[i], "forwarder.ini:1: not a section header such "
				 "as [network]\n");
	expect(
	    "[network] ; comment\nhold=1s\n[guest]# another\nstall=1s\n", "");
	expect("[]\n", "forwarder.ini:1: []: unknown section\n");
	expect("[ network ]\n", "forwarder.ini:1: [ network ]: unknown section "
				"(did you mean \"network\"?)\n");
}

TEST(a_section_name_is_not_cut_into_one_that_fits)
{
	char text[256] = "[";

	memset(text + 1, 'n', 120);
	strcpy(text + 121, "]\nhold = 1s\n");
	read_text(text);
	ck_assert_int_eq(problems.count, 1);
	ck_assert_ptr_nonnull(strstr(told.text, "nnn]: unknown section\n"));
	ck_assert_int_eq(config.network.hold_ms, 2000);
}

TEST(a_key_before_the_first_section_is_told)
{
	expect("hold = 1s\n[network]\n",
	    "forwarder.ini:1: a key before the first [section]\n");
}

TEST(a_line_that_assigns_nothing_is_told_even_as_the_last)
{
	static const char *const wrong[] = { "hold", "= 1s", "hold ; = 1s", "=",
		": x" };
	char text[64];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		snprintf(text, sizeof(text), "[network]\n%s", wrong[i]);
		expect(text, "forwarder.ini:2: neither \"key = value\", "
			     "[section] nor ; comment\n");
	}
}

TEST(a_key_set_twice_is_told_with_both_lines)
{
	expect("[network]\nhold = 1s\n[guest]\nstall = 1s\n[network]\n"
	       "hold = 1s\n",
	    "forwarder.ini:6: [network] hold: set twice, first at line 2\n");
}

TEST(comments_stand_alone_or_after_a_blank)
{
	expect("; one\n# two\n  ; three\n[control]\n"
	       "socket = /run/a;b#c\t; four\n",
	    "");
	ck_assert_str_eq(config.control.socket, "/run/a;b#c");
	expect("[control]\nsocket = /run/a # not a comment in inih's eyes\n",
	    "forwarder.ini:2: [control] socket: " UNWRITABLE "\n");
	expect("[control]\nsocket = ; nothing\n", "");
	ck_assert_str_eq(config.control.socket, "");
}

TEST(an_indented_line_is_a_line_of_its_own)
{
	expect("[network]\n  hold = 1s\n\tannounce = no\n", "");
	ck_assert_int_eq(config.network.hold_ms, 1000);
	ck_assert_int_eq(config.network.announce, 0);
	expect("[network]\nallow = 10.0.0.0/8,\n  11.0.0.0/8\n",
	    "forwarder.ini:2: [network] allow: \"10.0.0.0/8,\" is not a list "
	    "of networks: it ends with a comma\n"
	    "forwarder.ini:3: neither \"key = value\", [section] nor "
	    "; comment\n");
}

TEST(line_ends_of_other_systems_and_a_byte_order_mark_are_fine)
{
	expect("\xEF\xBB\xBF[network]\r\nhold = 1s\r\n\r\n[guest]\r\n"
	       "stall = 1s",
	    "");
	ck_assert_int_eq(config.network.hold_ms, 1000);
	ck_assert_int_eq(config.guest.stall_ms, 1000);
	expect("\xEF\xBB\xBF  [netwok]\n",
	    "forwarder.ini:1: [netwok]: unknown section "
	    "(did you mean \"network\"?)\n");
	expect("\xEF\xBB\xBF", "");
}

TEST(an_empty_file_is_fine)
{
	expect("", "");
	expect("\n", "");
	expect("   ", "");
	expect("; nothing", "");
	expect("[network]", "");
}

/* A [control] file whose second line has this many bytes. */
static void
read_line_of(size_t bytes, const char *start)
{
	char text[1024] = "[control]\n";

	strcat(text, start);
	memset(text + strlen(text), 'x', bytes - strlen(start));
	text[10 + bytes] = '\0';
	strcat(text, "\n[network]\nhold = 1s\n");
	read_text(text);
	ck_assert_int_eq(config.network.hold_ms, 1000);
}

TEST(a_line_is_never_cut_in_silence)
{
	read_line_of(198, "socket = /run/a ; ");
	ck_assert_str_eq(told.text, "");
	ck_assert_str_eq(config.control.socket, "/run/a");
	for (size_t bytes = 199; bytes < 600; bytes++) {
		read_line_of(bytes, "socket = /run/a ; ");
		ck_assert_str_eq(
		    told.text, "forwarder.ini:2: longer than 198 bytes\n");
		ck_assert_str_eq(config.control.socket, "");
	}
	read_line_of(500, "socket = /");
	ck_assert_str_eq(told.text, "forwarder.ini:2: longer than 198 bytes\n");
	read_line_of(500, "[guest] ; ");
	ck_assert_str_eq(told.text, "forwarder.ini:2: longer than 198 bytes\n");
}

TEST(a_section_header_that_is_too_long_takes_its_keys_with_it)
{
	char text[512] = "[network]\n[guest] ;";

	memset(text + strlen(text), 'x', 300);
	strcat(text, "\nhold = 1s\n");
	expect(text, "forwarder.ini:2: longer than 198 bytes\n");
	ck_assert_int_eq(config.network.hold_ms, 2000);
}

TEST(a_comment_alone_may_be_as_long_as_it_likes)
{
	read_line_of(900, "; ");
	ck_assert_str_eq(told.text, "");
	read_line_of(199, "# ");
	ck_assert_str_eq(told.text, "");
}

TEST(what_is_no_text_is_told_once_and_not_read_on)
{
	static const char nul[] = "[network]\nhold = 1s\0\nfoo\nbar\n";
	static const char utf16[] = "\xFF\xFE[\0n\0e\0t\0]\0\n\0";

	read_bytes(nul, sizeof(nul) - 1);
	ck_assert_str_eq(told.text, "forwarder.ini:2: holds a control "
				    "character: not a text file\n");
	read_bytes(utf16, sizeof(utf16) - 1);
	ck_assert_str_eq(told.text, "forwarder.ini:1: holds a control "
				    "character: not a text file\n");
	read_text("[guest]\nstall = 1s\rmode = 0600\n");
	ck_assert_str_eq(
	    told.text, "forwarder.ini:2: [guest] stall: " UNWRITABLE "\n");
}

TEST(a_problem_stays_one_line_whatever_the_file_holds)
{
	read_text("[guest]\na\rb = 1\n");
	ck_assert_str_eq(
	    told.text, "forwarder.ini:2: [guest] a?b: unknown key\n");
}

static void
expect_unread(const char *path, enum config_source source, const char *problem)
{
	begin();
	config_read(&config, path, source, &problems);
	ck_assert_str_eq(told.text, problem);
}

/* Nobody writes to the FIFO: whoever opens it as a file would wait for ever. */
TEST(a_file_that_cannot_be_read_is_told)
{
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	expect_unread(
	    "no.ini", CONFIG_ANY_FILE, "no.ini: No such file or directory\n");
	expect_unread("/", CONFIG_ANY_FILE, "/: Is a directory\n");
	expect_unread("/", CONFIG_REGULAR_FILE, "/: not a regular file\n");
	expect_unread(
	    "fifo", CONFIG_REGULAR_FILE, "fifo: not a regular file\n");
}

/* As with -n, which most of these files do without. */
static void
expect_check(const char *text, const char *lines)
{
	read_text(text);
	if (*config.network.endpoint.text == '\0')
		strcpy(config.network.endpoint.text, "unix:/run/daemon.sock");
	config_check(&config, &problems);
	ck_assert_str_eq(told.text, lines);
}

static const struct {
	const char *file, *guest, *set, *name;
} names[] = {
	{ "/etc/forwarder/vm1.ini", "fd:3", "", "vm1" },
	{ "/etc/forwarder/vm1.ini", "fd:3", "other", "other" },
	{ "my vm=\"1\"", "fd:3", "", "my_vm__1_" },
	{ "/etc/.ini", "fd:3", "", ".ini" },
	{ "a.ini.d", "fd:3", "", "a.ini.d" },
	{ "/dev/fd/63", "fd:3", "", "fd:3" },
	{ NULL, "fd:3", "", "fd:3" },
	{ NULL, "tap:vm0", "", "vm0" },
	{ NULL, "unixgram:/run/a.b/vm2.net.sock", "", "vm2.net" },
	{ NULL, "unixgram:vm3", "", "vm3" },
	{ NULL, "unixgram:/run/.hidden", "", ".hidden" },
};

TEST(a_forwarder_has_a_name_though_none_was_given, .count = LENGTH(names))
{
	char name[LOG_NAME_BYTES];

	begin();
	config.file = names[_i].file;
	set_key(&config, "guest", "endpoint", names[_i].guest);
	set_key(&config, "service", "name", names[_i].set);
	config_name(&config, name);
	ck_assert_str_eq(name, names[_i].name);
	ck_assert_int_eq(set(config_find("service", "name"), name), 0);
}

TEST(a_name_taken_from_a_long_path_is_cut)
{
	char file[300], name[LOG_NAME_BYTES];

	memset(file, 'x', sizeof(file));
	file[sizeof(file) - 1] = '\0';
	begin();
	config.file = file;
	config_name(&config, name);
	ck_assert_uint_eq(strlen(name), LOG_NAME_BYTES - 1);
	ck_assert_int_eq(set(config_find("service", "name"), name), 0);
	ck_assert_int_eq(set(config_find("service", "name"), file + 235), 1);
}

TEST(what_is_left_open_is_printed_with_what_it_comes_to)
{
	char text[4096];

	read_text("[network]\nendpoint = unix:/a\n[guest]\nendpoint = tap:t0");
	config.file = "vm1.ini";
	print(text, sizeof(text));
	ck_assert_ptr_nonnull(
	    strstr(text, "\nmode         = auto ; here: passive\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nname         = ; here: vm1\n"));
	expect(text, "");
	ck_assert_str_eq(config.service.name, "");
	ck_assert_int_eq(config.keepalive.mode, KEEPALIVE_AUTO);
	read_text("[network]\nendpoint = tcp:a:1\n[service]\nname = b\n");
	print(text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text,
	    "\nmode         = auto ; here: arp, once guest and gateway are "
	    "known\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nname         = b\n"));
}

TEST(a_network_has_to_be_named_where_there_is_no_usual_one)
{
	begin();
	config.network.endpoint.text[0] = '\0';
	config_check(&config, &problems);
	ck_assert_int_eq(problems.count, 1);
	ck_assert_ptr_nonnull(strstr(told.text,
	    "[network] endpoint: not set: give it here or with -n, for "
	    "example unix:"));
	expect("[network]\nendpoint = x\n",
	    "forwarder.ini:2: [network] endpoint: \"x\" is not a network "
	    "endpoint: it starts with none of unix: tcp: listen-unix: "
	    "listen-tcp:\n");
	config_check(&config, &problems);
	ck_assert_int_eq(problems.count, 1);
}

TEST(the_shortest_wait_is_not_longer_than_the_longest)
{
	expect_check("[reconnect]\nmin = 2s\n", "");
	expect_check("[reconnect]\nmin = 3s\n",
	    "forwarder.ini:2: [reconnect] min: \"3s\" is more than max "
	    "(2s)\n");
	expect_check("[reconnect]\nmax = 50ms\n",
	    "[reconnect] min: \"100ms\" is more than max (50ms)\n");
}

TEST(a_refused_value_raises_no_second_problem)
{
	expect_check("[reconnect]\nmin = 20x\nmax = 50ms\n",
	    "forwarder.ini:2: [reconnect] min: \"20x\" is not a duration "
	    "(examples: 500ms, 5s, 2m)\n");
	expect_check("[reconnect]\nmin = 3s\nmax = 20x\n",
	    "forwarder.ini:3: [reconnect] max: \"20x\" is not a duration "
	    "(examples: 500ms, 5s, 2m)\n");
	read_text("[network]\nendpoint = listen-tcp:0.0.0.0:7000\nallow = x\n");
	config_check(&config, &problems);
	ck_assert_int_eq(problems.count, 1);
}

TEST(tcp_is_not_opened_to_strangers_by_accident)
{
	static const char *const loopback[] = { "127.0.0.1", "127.9.9.9",
		"[::1]", "localhost" };
	static const char *const elsewhere[] = { "0.0.0.0", "[::]",
		"192.168.1.1", "[::ffff:10.0.0.1]", "128.0.0.1", "[fe80::1]" };
	char text[128];

	for (size_t i = 0; i < sizeof(loopback) / sizeof(*loopback); i++) {
		snprintf(text, sizeof(text),
		    "[network]\nendpoint=listen-tcp:%s:7000\n", loopback[i]);
		expect_check(text, "");
	}
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(*elsewhere); i++) {
		snprintf(text, sizeof(text),
		    "[network]\nendpoint=listen-tcp:%s:7000\n", elsewhere[i]);
		expect_check(text,
		    "forwarder.ini:2: [network] endpoint: listen-tcp on an "
		    "address that is not loopback needs [network] allow, the "
		    "networks that may connect\n");
		strcat(text, "allow=10.0.0.0/8\n");
		expect_check(text, "");
	}
}

TEST(a_name_to_listen_on_is_refused)
{
	read_text("[network]\nendpoint=listen-tcp:localhost.example:7000\n");
	ck_assert_int_eq(problems.count, 1);
	ck_assert_ptr_nonnull(strstr(told.text, "an address, not a name"));
}

TEST(a_dialled_endpoint_needs_no_allow)
{
	expect_check("[network]\nendpoint=tcp:10.0.0.1:7000\n", "");
	expect_check("[network]\nendpoint=listen-unix:/run/x\n", "");
}

static const struct {
	const char *text;
	const char *why; /* NULL: good */
} guests[] = {
	{ "fd:0", NULL },
	{ "fd:999999999", NULL },
	{ "fd:", "the descriptor number is missing" },
	{ "fd:-1", "a descriptor is a number" },
	{ "fd:3x", "a descriptor is a number" },
	{ "fd:99999999999", "no descriptor number is that large" },
	{ "unixgram:/run/g.sock", NULL },
	{ "unixgram:relative", NULL },
	{ "unixgram:", "the path is missing" },
	{ "tap:tap0", NULL },
	{ "tap:fifteen-letters", NULL },
	{ "tap:sixteen--letters", "interface name longer than 15 bytes" },
	{ "tap:", "the interface name is missing" },
	{ "tap:a b", "interface names have no '/', ':' or blanks" },
	{ "tap:a/b", "interface names have no '/', ':' or blanks" },
	{ "tap:..", "no interface can be named that" },
	{ "FD:3", "it begins with neither fd:, unixgram: nor tap:" },
	{ "", "it begins with neither fd:, unixgram: nor tap:" },
};

TEST(a_guest_endpoint_is_understood_or_told_why_not, .count = LENGTH(guests))
{
	struct guest_endpoint guest;
	struct error why;
	int result = guest_endpoint_parse(&guest, guests[_i].text, &why);

	ck_assert_int_eq(result, guests[_i].why == NULL ? 0 : -1);
	ck_assert_str_eq(result < 0 ? why.text : guest.text,
	    result < 0 ? guests[_i].why : guests[_i].text);
}

TEST(a_guest_endpoint_carries_what_its_kind_needs)
{
	struct guest_endpoint guest;
	struct error why;

	guest_endpoint_parse(&guest, "fd:17", &why);
	ck_assert_int_eq(guest.kind, GUEST_FD);
	ck_assert_int_eq(guest.fd, 17);
	guest_endpoint_parse(&guest, "unixgram:/run/g:1.sock", &why);
	ck_assert_int_eq(guest.kind, GUEST_UNIXGRAM);
	ck_assert_int_eq(guest.fd, -1);
	ck_assert_str_eq(guest.path, "/run/g:1.sock");
	guest_endpoint_parse(&guest, "tap:vm%d", &why);
	ck_assert_int_eq(guest.kind, GUEST_TAP);
	ck_assert_str_eq(guest.name, "vm%d");
}

static const struct {
	const char *networks, *address;
	bool held;
} memberships[] = {
	{ "10.0.0.0/8", "10.255.0.1", true },
	{ "10.0.0.0/8", "11.0.0.1", false },
	{ "10.0.0.1/8", "10.9.9.9", true },
	{ "192.168.5.128/25", "192.168.5.127", false },
	{ "192.168.5.128/25", "192.168.5.128", true },
	{ "192.168.5.1", "192.168.5.1", true },
	{ "192.168.5.1", "192.168.5.2", false },
	{ "0.0.0.0/0", "8.8.8.8", true },
	{ "0.0.0.0/0", "::1", false },
	{ "::/0", "8.8.8.8", false },
	{ "10.0.0.0/8,fd00::/7", "fe00::1", false },
	{ "10.0.0.0/8 , fd00::/8", "fd12::1", true },
	{ "2001:db8::/127", "2001:db8::1", true },
	{ "2001:db8::/127", "2001:db8::2", false },
	{ "", "10.0.0.1", false },
	{ "10.0.0.0/8", "::ffff:10.0.0.1", true },
	{ "10.0.0.0/8", "::10.0.0.1", false },
	{ "127.0.0.0/9", "127.127.1.1", true },
};

TEST(a_network_holds_its_addresses_and_no_others, .count = LENGTH(memberships))
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct cidr_list list;
	struct error why;
	bool v4 = inet_pton(AF_INET, memberships[_i].address, &in.sin_addr);

	ck_assert(
	    v4 || inet_pton(AF_INET6, memberships[_i].address, &in6.sin6_addr));
	ck_assert_int_eq(
	    cidr_list_parse(&list, memberships[_i].networks, &why), 0);
	ck_assert(cidr_list_holds(&list, v4 ? (const struct sockaddr *)&in
					    : (const struct sockaddr *)&in6) ==
		  memberships[_i].held);
}

TEST(a_list_of_networks_is_good_throughout_or_refused)
{
	static const char *const wrong[] = { ",", "10.0.0.0/8,", "10.0.0.0/8,,",
		"10.0.0.0/8 11.0.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "/8",
		"10.0.0.0/8/8", "fd00::/129", "host/8", "10.0.0.0/ 8",
		"10.0.0.0/0008",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc" };
	struct cidr_list list;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct error why;

		ck_assert_msg(cidr_list_parse(&list, wrong[i], &why) == -1,
		    "%s", wrong[i]);
	}
}
