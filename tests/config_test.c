#include "config/config.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "config/defaults.h"
#include "tests/support/set_key.h"
#include "tests/support/suite.h"

static struct config config;
static struct config_problems problems;
static char told[8192]; /* one problem a line */

static void
note(const struct error *problem)
{
	strcat(strcat(told, problem->text), "\n");
}

static void
begin(void)
{
	told[0] = '\0';
	problems = (struct config_problems){ .emit = note };
	config_defaults(&config);
}

static void
read_bytes(const void *bytes, size_t length)
{
	FILE *file = fopen("f", "w");

	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, length, file), length);
	fclose(file);
	begin();
	config_read(&config, "f", CONFIG_ANY_FILE, &problems);
}

/* The exact problems of a file. */
static void
expect(const char *text, const char *lines)
{
	read_bytes(text, strlen(text));
	ck_assert_str_eq(told, lines);
}

static void
print(char *text, size_t room)
{
	FILE *file = fmemopen(text, room, "w");

	config_print(&config, file);
	fclose(file);
}

/* A value of a key, and its error. */
static int
set(const char *section, const char *name, const char *value)
{
	begin();
	config_set(&config, section, name, value, 0, "here", &problems);
	return problems.count;
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
	config.file = NULL; /* the default name comes from it */
	print(loaded, sizeof(loaded));
	ck_assert_str_eq(loaded, defaults);
	for (int i = 0; i < CONFIG_KEYS; i++)
		ck_assert_msg(config.origin[i].line > 0 ||
				  is_the_systems(&config_keys[i]),
		    "[%s] %s is missing", config_keys[i].section,
		    config_keys[i].name);
}

TEST(the_annotated_file_gives_limits_and_default_of_each_key,
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

TEST(every_key_refuses_nonsense, .count = CONFIG_KEYS)
{
	static const char *const nonsense[] = { "0.5x", "-1", "99999999999h",
		"99999999999999999999999999", "none of it", "nan", "0x10",
		"\x01", " 1", "1 ", "1 ;2", "#" };
	const struct config_key *key = &config_keys[_i];
	/* Nearly anything is a path or a name. */
	int first =
	    key->type == CONFIG_PATH || key->type == CONFIG_NAME ? 7 : 0;

	for (int i = first; i < LENGTH(nonsense); i++) {
		ck_assert_msg(set(key->section, key->name, nonsense[i]) == 1,
		    "[%s] %s = %s", key->section, key->name, nonsense[i]);
		ck_assert(config.origin[_i].wrong);
	}
}

#define UNWRITABLE                                                             \
	"a value can't have blanks around it, control characters, or a word "  \
	"that begins with ; or #"

/* A number, or why not. */
/* clang-format off */
static const struct {
	const char *key, *value, *result;
} values[] = {
	{ "guest.mode", "0777", "511" },
	{ "guest.mode", "660", "432" },
	{ "control.mode", "0640", "416" },
	{ "guest.mode", "0800", "\"0800\" is not an octal mode (examples: 0600, 0660)" },
	{ "guest.mode", "1777", "\"1777\" is out of range (0 to 0777)" },
	{ "guest.stall", "0", "0" },
	{ "guest.stall", "1001ms", "\"1001ms\" is out of range (0 to 1s)" },
	{ "guest.endpoint", "unix:/x", "\"unix:/x\" is not a guest endpoint: it must begin with fd:, unixgram:, listen-unix: or tap:" },
	{ "network.hold", "forever", "-1" },
	{ "network.hold", "2h", "\"2h\" is out of range (0 to 1h, or forever)" },
	{ "network.max_frame", "60", "60" },
	{ "network.max_frame", "68K", "69632" },
	{ "network.max_frame", "59", "\"59\" is out of range (60 to 69632)" },
	{ "network.write_batch", "32k", "\"32k\" is not a size (examples: 1500, 32K, 1M)" },
	{ "network.write_batch", "18014398509481984K", "\"18014398509481984K\" is out of range (0 to 1M)" },
	{ "network.announce", "no", "0" },
	{ "network.announce", "true", "\"true\" is not one of no, yes" },
	{ "network.allow", "10.0.0.0/33", "\"10.0.0.0/33\" is not a list of networks: the number after the slash is 0 to 32 (IPv6: 128)" },
	{ "network.user", "0", "0" },
	{ "network.user", "root", "0" },
	{ "network.user", "4294967294", "4294967294" },
	{ "network.user", "4294967295", "\"4294967295\" is not a user of this system" },
	{ "network.user", "nobody at all", "\"nobody at all\" is not a user of this system" },
	{ "reconnect.jitter", "25%", "\"25%\" is not a whole number (examples: 1, 25)" },
	{ "keepalive.mode", "off", "0" },
	{ "keepalive.mode", "peer", "3" },
	{ "keepalive.mode", "on", "\"on\" is not one of off, passive, arp, peer, auto" },
	{ "keepalive.interval", "0ms", "0" },
	{ "keepalive.interval", "99ms", "\"99ms\" is out of range (100ms to 1h, or 0)" },
	{ "keepalive.interval", "5", "\"5\" is not a duration (examples: 500ms, 5s, 2m)" },
	{ "keepalive.interval", "5 s", "\"5 s\" is not a duration (examples: 500ms, 5s, 2m)" },
	{ "keepalive.interval", "forever", "\"forever\" is not a duration (examples: 500ms, 5s, 2m)" },
	{ "keepalive.gateway", "192.168.5", "\"192.168.5\" is not an IPv4 address: write it as 192.168.5.1" },
	{ "keepalive.tcp_idle", "90s", "90" },
	{ "keepalive.tcp_idle", "2h", "7200" },
	{ "keepalive.tcp_idle", "1500ms", "\"1500ms\" is not a duration of whole seconds (examples: 5s, 90s, 2m)" },
	{ "keepalive.tcp_interval", "0", "\"0\" is out of range (1s to 2h)" },
	{ "log.level", "error", "0" },
	{ "log.level", "debug", "3" },
	{ "control.socket", "/run/a ;b", UNWRITABLE },
	{ "control.socket", "/run/a\nb", UNWRITABLE },
	{ "service.name", "a=b", "\"a=b\" is not a name: use printable ASCII characters, but no blanks, quotes, \\ or =" },
};
/* clang-format on */

TEST(a_value_is_accepted_or_its_error_is_exact, .count = LENGTH(values))
{
	char section[32], result[512];
	const char *name = strchr(values[_i].key, '.') + 1;
	const struct config_key *key;
	const void *field;

	snprintf(
	    section, (size_t)(name - values[_i].key), "%s", values[_i].key);
	key = config_find(section, name);
	field = (const char *)&config + key->offset;
	if (set(section, name, values[_i].value) > 0)
		snprintf(result, sizeof(result), "%.*s",
		    (int)strcspn(told + 6, "\n"), told + strlen("here: "));
	else
		snprintf(result, sizeof(result), "%lld",
		    key->size == sizeof(bool) ? *(const bool *)field
		    : key->size == sizeof(uint32_t)
			? (long long)*(const uint32_t *)field
			: (long long)*(const int64_t *)field);
	ck_assert_str_eq(result, values[_i].result);
}

/* Any byte, at every place of a value. */
TEST(what_an_option_accepts_a_file_can_hold, .count = 255)
{
	static const char *const around[][2] = { { "", "" }, { "", "/b" },
		{ "/a", "b" }, { "/a", "" }, { "/a ", "b" }, { "/a ", " b" } };
	char value[16], text[4096];

	for (int i = 0; i < LENGTH(around); i++) {
		snprintf(value, sizeof(value), "%s%c%s", around[i][0], _i + 1,
		    around[i][1]);
		if (set("control", "socket", value) != 0)
			continue;
		print(text, sizeof(text));
		expect(text, "");
		ck_assert_str_eq(config.control.socket, value);
	}
}

TEST(the_longest_accepted_value_can_be_printed_and_read_again)
{
	char value[182] = "tcp:", text[4096];

	memset(value + 4, 'h', 174);
	strcpy(value + 178, ":7");
	ck_assert_int_eq(set("network", "endpoint", value), 0);
	print(text, sizeof(text));
	expect(text, "");
	ck_assert_str_eq(config.network.endpoint.text, value);
	strcat(value, "0");
	ck_assert_int_eq(set("network", "endpoint", value), 1);
	ck_assert_str_eq(told, "here: the value is longer than 180 bytes\n");
}

#define NO_DURATION "\" is not a duration (examples: 500ms, 5s, 2m)\n"
#define NOTHING "expected \"key = value\", [section] or ; comment\n"
#define NO_HEADER "not a section header such as [network]\n"
#define LONG_NAME                                                              \
	"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" \
	"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

/* [network] hold, 2s by default, shows what was set. */
static const struct {
	const char *text, *problems;
	int64_t hold_ms;
} files[] = {
	{ "", "", 2000 },
	/* Comments, blanks, line ends of other systems, a byte order mark. */
	{ "; one\n# two\n  ; three\n[network] ; four\nhold = 1s\t; five\n", "",
	    1000 },
	{ "[guest]# comment\n\n[network]\n  hold = 1s\n\tannounce = no\n", "",
	    1000 },
	{ "\xEF\xBB\xBF[network]\r\nhold = 1s\r\n\r\n[guest]\r\nstall = 1s", "",
	    1000 },
	{ "\xEF\xBB\xBF", "", 2000 },
	{ "[control]\nsocket = ; nothing\n", "", 2000 },
	{ "[control]\nsocket = /run/a # no comment in inih's eyes\n",
	    "f:2: [control] socket: " UNWRITABLE "\n", 2000 },
	/* Misspelt keys. */
	{ "\n\n[guest]\n\n\n[network]\nendpont = unix:/x\nhold = 1s\n",
	    "f:7: [network] endpont: unknown key (did you mean "
	    "\"endpoint\"?)\n",
	    1000 },
	{ "[network]\nHOLD = 1s\n",
	    "f:2: [network] HOLD: unknown key (did you mean \"hold\"?)\n",
	    2000 },
	{ "[network]\nmode = 0600\n",
	    "f:2: [network] mode: unknown key (did you mean [guest] "
	    "mode?)\n",
	    2000 },
	{ "[network]\ncolour = blue\n", "f:2: [network] colour: unknown key\n",
	    2000 },
	{ "[network]\n" LONG_NAME "=1\n",
	    "f:2: [network] " LONG_NAME ": unknown key\n", 2000 },
	{ "[guest]\na\rb = 1\n", "f:2: [guest] a?b: unknown key\n", 2000 },
	/* Unknown sections: the keys go nowhere. */
	{ "[guest]\nstall = 1s\n[netwrok]\nhold = 1s\nx = y\n[network]\n"
	  "hold = 3s\n",
	    "f:3: [netwrok]: unknown section (did you mean \"network\"?)\n",
	    3000 },
	{ "[zebra]\n", "f:1: [zebra]: unknown section\n", 2000 },
	{ "[]\nhold = 1s\n", "f:1: []: unknown section\n", 2000 },
	{ "[ network ]\nhold = 1s\n",
	    "f:1: [ network ]: unknown section (did you mean \"network\"?)\n",
	    2000 },
	{ "[" LONG_NAME "]\nhold = 1s\n",
	    "f:1: [" LONG_NAME "]: unknown section\n", 2000 },
	/* Broken headers, and lines without a key. */
	{ "[network", "f:1: " NO_HEADER, 2000 },
	{ "[network] hold = 1s", "f:1: " NO_HEADER, 2000 },
	{ "[network]]\nhold = 1s\n", "f:1: " NO_HEADER, 2000 },
	{ "[network ; comment\n[\n", "f:1: " NO_HEADER "f:2: " NO_HEADER,
	    2000 },
	{ "hold = 1s\n[network]\n", "f:1: a key before the first [section]\n",
	    2000 },
	{ "[network]\nhold\n= 1s\nhold ; = 1s\n=\n: x",
	    "f:2: " NOTHING "f:3: " NOTHING "f:4: " NOTHING "f:5: " NOTHING
	    "f:6: " NOTHING,
	    2000 },
	{ "[network]\nallow = 10.0.0.0/8,\n  11.0.0.0/8\n",
	    "f:2: [network] allow: \"10.0.0.0/8,\" is not a list of networks: "
	    "write networks as 192.168.0.0/16 or fd00::/8, separated by "
	    "commas\nf:3: " NOTHING,
	    2000 },
	{ "[network]\nhold = 1s\n[guest]\nstall = 1s\n[network]\nhold = 3s\n",
	    "f:6: [network] hold: set twice, first at line 2\n", 1000 },
	{ "[network]\nhold = x\nhold = 3s\n",
	    "f:2: [network] hold: \"x" NO_DURATION
	    "f:3: [network] hold: set twice, first at line 2\n",
	    2000 },
	/* Every problem, not only the first. */
	{ "[network]\nendpont = unix:/x\nhold = soon\nwhat is this\n"
	  "[keepalive]\ncount = 0\ninterval = 0.5x\n",
	    "f:2: [network] endpont: unknown key (did you mean "
	    "\"endpoint\"?)\n"
	    "f:3: [network] hold: \"soon" NO_DURATION "f:4: " NOTHING
	    "f:6: [keepalive] count: \"0\" is out of range (1 to 100)\n"
	    "f:7: [keepalive] interval: \"0.5x" NO_DURATION,
	    2000 },
	{ "[guest]\nstall = 1s\rmode = 0600\n",
	    "f:2: [guest] stall: " UNWRITABLE "\n", 2000 },
};

TEST(a_file_is_read_or_all_its_problems_are_reported, .count = LENGTH(files))
{
	expect(files[_i].text, files[_i].problems);
	ck_assert_int_eq(config.network.hold_ms, files[_i].hold_ms);
}

TEST(a_number_sign_within_a_word_is_no_comment)
{
	expect("[control]\nsocket = /run/a;b#c\t; four\n", "");
	ck_assert_str_eq(config.control.socket, "/run/a;b#c");
}

/* A [control] file whose second line has this many bytes. */
static void
read_line_of(size_t bytes, const char *start, const char *lines)
{
	char text[1024] = "[control]\n";

	strcat(text, start);
	memset(text + strlen(text), 'x', bytes - strlen(start));
	text[10 + bytes] = '\0';
	strcat(text, "\n[network]\nhold = 1s\n");
	expect(text, lines);
	ck_assert_int_eq(config.network.hold_ms, 1000);
}

TEST(a_line_that_is_too_long_is_never_cut_silently)
{
	static const char told_long[] = "f:2: longer than 198 bytes\n";

	read_line_of(198, "socket = /run/a ; ", "");
	ck_assert_str_eq(config.control.socket, "/run/a");
	for (size_t bytes = 199; bytes < 600; bytes++) {
		read_line_of(bytes, "socket = /run/a ; ", told_long);
		ck_assert_str_eq(config.control.socket, "");
	}
	read_line_of(500, "socket = /", told_long);
	read_line_of(500, "[guest] ; ", told_long);
	read_line_of(900, "; ", ""); /* a comment may be as long as it likes */
	read_line_of(199, "# ", "");
}

TEST(a_section_header_that_is_too_long_takes_its_keys_with_it)
{
	char text[512] = "[network]\n[guest] ;";

	memset(text + strlen(text), 'x', 300);
	strcat(text, "\nhold = 1s\n");
	expect(text, "f:2: longer than 198 bytes\n");
	ck_assert_int_eq(config.network.hold_ms, 2000);
}

TEST(a_binary_file_is_reported_once_and_not_read_further)
{
	static const char nul[] = "[network]\nhold = 1s\0\nfoo\nbar\n";
	static const char utf16[] = "\xFF\xFE[\0n\0e\0t\0]\0\n\0";

	read_bytes(nul, sizeof(nul) - 1);
	ck_assert_str_eq(
	    told, "f:2: not a text file: it has control characters\n");
	read_bytes(utf16, sizeof(utf16) - 1);
	ck_assert_str_eq(
	    told, "f:1: not a text file: it has control characters\n");
}

/* The FIFO has no writer: opening it like a file would block for ever. */
TEST(a_file_that_cannot_be_read_is_reported)
{
	static const struct {
		const char *path;
		enum config_source source;
		const char *problem;
	} unread[] = {
		{ "no", CONFIG_ANY_FILE, "no: No such file or directory\n" },
		{ "/", CONFIG_ANY_FILE, "/: Is a directory\n" },
		{ "/", CONFIG_REGULAR_FILE, "/: not a regular file\n" },
		{ "fifo", CONFIG_REGULAR_FILE, "fifo: not a regular file\n" },
	};

	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	for (int i = 0; i < LENGTH(unread); i++) {
		begin();
		config_read(
		    &config, unread[i].path, unread[i].source, &problems);
		ck_assert_str_eq(told, unread[i].problem);
	}
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
	{ NULL, "listen-unix:/run/vm4.sock", "", "vm4" },
	{ NULL, "unixgram:/run/.hidden", "", ".hidden" },
};

TEST(a_forwarder_without_a_configured_name_has_a_default_one,
    .count = LENGTH(names))
{
	char name[LOG_NAME_BYTES];

	begin();
	config.file = names[_i].file;
	set_key(&config, "guest", "endpoint", names[_i].guest);
	set_key(&config, "service", "name", names[_i].set);
	config_name(&config, name);
	ck_assert_str_eq(name, names[_i].name);
	ck_assert_int_eq(set("service", "name", name), 0);
}

TEST(a_name_taken_from_a_long_path_is_cut)
{
	char file[80] = { 0 }, name[LOG_NAME_BYTES];

	memset(file, 'x', sizeof(file) - 1);
	begin();
	config.file = file;
	config_name(&config, name);
	ck_assert_uint_eq(strlen(name), LOG_NAME_BYTES - 1);
	ck_assert_int_eq(set("service", "name", name), 0);
	file[LOG_NAME_BYTES] = '\0';
	ck_assert_int_eq(set("service", "name", file), 1);
}

TEST(defaults_are_printed_with_their_effective_values)
{
	char text[4096];

	expect("[network]\nendpoint = unix:/a\n[guest]\nendpoint = tap:t0", "");
	config.file = "vm1.ini";
	print(text, sizeof(text));
	ck_assert_ptr_nonnull(
	    strstr(text, "\nmode         = auto ; here: passive\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nname         = ; here: vm1\n"));
	expect(text, "");
	ck_assert_str_eq(config.service.name, "");
	expect("[network]\nendpoint = tcp:a:1\n[service]\nname = b\n", "");
	print(text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(
	    text, "= auto ; here: arp, once guest and gateway are known\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nname         = b\n"));
}

#define STRANGERS                                                              \
	"f:2: [network] endpoint: listen-tcp on an address that is not "       \
	"loopback needs [network] allow, the networks that may connect\n"
#define N "[network]\nendpoint=unix:/n\n"

/* Values that exclude each other. A refused value raises no second problem. */
static const struct {
	const char *text, *problems;
} checks[] = {
	{ "[network]\nendpoint=\n",
	    "f:2: [network] endpoint: not set: give it here or with -n, for "
	    "example unix:$XDG_RUNTIME_DIR/passt.sock\n" },
	{ "[network]\nendpoint=x\n",
	    "f:2: [network] endpoint: \"x\" is not a network endpoint: it must "
	    "begin with unix:, unixgram:, tcp:, listen-unix:, listen-tcp:, "
	    "exec: or exec-dgram:\n" },
	{ N "[reconnect]\nmin = 2s\n", "" },
	{ N "[reconnect]\nmin = 3s\n",
	    "f:4: [reconnect] min: \"3s\" is more than max (2s)\n" },
	{ N "[reconnect]\nmax = 50ms\n",
	    "[reconnect] min: \"100ms\" is more than max (50ms)\n" },
	{ N "[reconnect]\nmin = 20x\nmax = 50ms\n",
	    "f:4: [reconnect] min: \"20x" NO_DURATION },
	{ N "[reconnect]\nmin = 3s\nmax = 20x\n",
	    "f:5: [reconnect] max: \"20x" NO_DURATION },
	{ N "send_buffer = 1\n",
	    "f:3: [network] send_buffer: \"1\" is out of range (4K to 16M, or "
	    "0)\n" },
	/* TCP is not opened to other hosts by accident. */
	{ "[network]\nendpoint=listen-tcp:127.9.9.9:7000\n", "" },
	{ "[network]\nendpoint=listen-tcp:0.0.0.0:7000\n", STRANGERS },
	{ "[network]\nendpoint=listen-tcp:128.0.0.1:7000\nallow=10.0.0.0/8\n",
	    "" },
	{ "[network]\nendpoint=listen-tcp:0.0.0.0:7000\nallow=10.0.0.0/8,\n",
	    "f:3: [network] allow: \"10.0.0.0/8,\" is not a list of networks: "
	    "write networks as 192.168.0.0/16 or fd00::/8, separated by "
	    "commas\n" },
	{ "[network]\nendpoint=tcp:10.0.0.1:7000\n", "" },
	{ "[network]\nendpoint=listen-unix:/run/x\n", "" },
	{ "[guest]\nendpoint=unixgram:/x\n[network]\nendpoint=unixgram:/x\n",
	    "f:4: [network] endpoint: this is the guest's socket: name the "
	    "daemon's\n" },
	{ "[guest]\nendpoint=listen-unix:/x\n[network]\nendpoint=unix:/x\n",
	    "f:4: [network] endpoint: this is the guest's socket: name the "
	    "daemon's\n" },
};

TEST(values_that_exclude_each_other_are_reported, .count = LENGTH(checks))
{
	read_bytes(checks[_i].text, strlen(checks[_i].text));
	config_check(&config, &problems);
	ck_assert_str_eq(told, checks[_i].problems);
}

/* The endpoint's kind, or its error. */
static const struct {
	const char *text, *result;
} guests[] = {
	{ "fd:0", "0 0 " },
	{ "fd:999999999", "0 999999999 " },
	{ "fd:", "a descriptor is a number such as 3" },
	{ "fd:-1", "a descriptor is a number such as 3" },
	{ "fd:3x", "a descriptor is a number such as 3" },
	{ "fd:1000000000", "a descriptor is a number such as 3" },
	{ "unixgram:/run/g:1.sock", "1 -1 /run/g:1.sock" },
	{ "unixgram:", "the path is missing" },
	{ "listen-unix:/run/g", "2 -1 /run/g" },
	{ "tap:vm%d", "3 -1 vm%d" },
	{ "tap:fifteen-letters", "3 -1 fifteen-letters" },
	{ "tap:sixteen--letters", "an interface name has 1 to 15 bytes" },
	{ "tap:", "an interface name has 1 to 15 bytes" },
	{ "tap:a b", "interface names have no '/', ':' or blanks" },
	{ "tap:a/b", "interface names have no '/', ':' or blanks" },
	{ "FD:3", "it must begin with fd:, unixgram:, listen-unix: or tap:" },
	{ "", "it must begin with fd:, unixgram:, listen-unix: or tap:" },
};

TEST(a_guest_endpoint_is_parsed_or_refused_with_a_reason,
    .count = LENGTH(guests))
{
	struct guest_endpoint guest;
	struct error result;

	if (guest_endpoint_parse(&guest, guests[_i].text, &result) == 0) {
		ck_assert_str_eq(guest.text, guests[_i].text);
		error_set(&result, "%d %d %s%s", guest.kind, guest.fd,
		    guest.path, guest.name);
	}
	ck_assert_str_eq(result.text, guests[_i].result);
}

static const struct {
	const char *networks, *address;
	bool held;
} memberships[] = {
	{ "10.0.0.0/8", "10.255.0.1", true },
	{ "10.0.0.1/8", "10.9.9.9", true },
	{ "192.168.5.128/25", "192.168.5.127", false },
	{ "192.168.5.128/25", "192.168.5.128", true },
	{ "192.168.5.1", "192.168.5.2", false },
	{ "0.0.0.0/0", "8.8.8.8", true },
	{ "0.0.0.0/0", "::1", false },
	{ "10.0.0.0/8,fd00::/7", "fe00::1", false },
	{ "10.0.0.0/8 , fd00::/8", "fd12::1", true },
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

TEST(a_list_of_networks_with_one_bad_entry_is_refused)
{
	static const char *const wrong[] = { ",", "10.0.0.0/8,", "10.0.0.0/8,,",
		"10.0.0.0/8 11.0.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "/8",
		"10.0.0.0/8/8", "fd00::/129", "host/8", "10.0.0.0/ 8",
		"10.0.0.0/0008",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc" };
	struct cidr_list list;
	struct error why;
	char long_list[CIDR_TEXT_BYTES + 3] = "::";

	for (int i = 0; i < LENGTH(wrong); i++)
		ck_assert_msg(cidr_list_parse(&list, wrong[i], &why) == -1,
		    "%s", wrong[i]);
	while (strlen(long_list) < CIDR_TEXT_BYTES - 3)
		strcat(long_list, " ");
	ck_assert_int_eq(cidr_list_parse(&list, long_list, &why), 0);
	strcat(long_list, ",::");
	ck_assert_int_eq(cidr_list_parse(&list, long_list, &why), -1);
}
