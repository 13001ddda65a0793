#include "config/options.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/defaults.h"
#include "tests/support/suite.h"

static struct options options;
static struct error error;
static char words[512];
static char called[64] = "forwarder";
static char *arguments[OPTIONS_SETTINGS_MAX + 8];

/* Splits a line at blanks, without a shell's quoting, and parses it. */
static int
parse(const char *line)
{
	int count = 1;
	char *rest = words;

	ck_assert_uint_lt(strlen(line), sizeof(words));
	strcpy(words, line);
	arguments[0] = called;
	for (char *w; (w = strtok_r(rest, " ", &rest)) != NULL;) {
		ck_assert_int_lt(count, OPTIONS_SETTINGS_MAX + 7);
		arguments[count++] = w;
	}
	arguments[count] = NULL;
	return options_parse(&options, count, arguments, &error);
}

/* The parsed options, in a fixed order. */
static const char *
understood(void)
{
	static const char *const modes[] = { "run", "check", "status",
		"capture", "help", "version", "client" };
	static char text[512];
	FILE *out = fmemopen(text, sizeof(text), "w");

	fprintf(out, "%s", modes[options.mode]);
	if (options.mode == OPTIONS_STATUS)
		fprintf(out, " %s%s%s%s", options.form,
		    options.watch ? " watch" : "",
		    options.exit_code ? " exit-code" : "",
		    options.all ? " all" : "");
	if (options.folder)
		fprintf(out, " below %s", options.folder);
	if (options.file)
		fprintf(out, " --write %s", options.file);
	if (options.config_path)
		fprintf(out, " -c %s", options.config_path);
	for (int i = 0; i < options.settings_count; i++)
		fprintf(out, " -%c %s", options.settings[i].flag,
		    options.settings[i].text);
	for (int i = 0; i < options.verbosity; i++)
		fprintf(out, " -v");
	if (options.socket)
		fprintf(out, " %s", options.socket);
	if (options.stream)
		fprintf(out, " stream");
	if (options.command)
		fprintf(out, " --");
	for (char **word = options.command; word && *word; word++)
		fprintf(out, " %s", *word);
	fclose(out);
	return text;
}

static const struct {
	const char *line, *meaning;
} good[] = {
	{ "-n unix:/n", "run -n unix:/n" },
	{ "-c a.ini", "run -c a.ini" },
	{ "-c a.ini -g fd:3 -nunix:/n -o network.hold=0 -v -vv --check",
	    "check -c a.ini -g fd:3 -n unix:/n -o network.hold=0 -v -v -v" },
	{ "--config a.ini --guest=fd:3 --network unix:/n --option a.b=0 "
	  "--verbose --check",
	    "check -c a.ini -g fd:3 -n unix:/n -o a.b=0 -v" },
	{ "-vvca.ini", "run -c a.ini -v -v" },
	{ "-o control.socket=", "run -o control.socket=" },
	{ "-o control.socket=a.b=c", "run -o control.socket=a.b=c" },
	{ "-v -- qemu -v --help -c x local.str={fd} --",
	    "run -v -- qemu -v --help -c x local.str={fd} --" },
	{ "--check -- qemu {fd}", "check -- qemu {fd}" },
	{ "-o guest.stall=0 -- q {fd}", "run -o guest.stall=0 -- q {fd}" },
	{ "-g stream -v -- q {fd}", "run -v stream -- q {fd}" },
	{ "-h", "help" },
	{ "-V", "version" },
	{ "--help --nonsense", "help" },
	{ "-c a.ini --version", "version -c a.ini" },
	{ "status", "status text" },
	{ "status --watch /run/s --json", "status json watch /run/s" },
	{ "status -c a.ini --prometheus", "status prometheus -c a.ini" },
	{ "status --json --json", "status json" },
	{ "status -- s", "status text s" },
	{ "status --all --exit-code", "status text exit-code all" },
	{ "status f --json --watch --all", "status json watch all below f" },
	{ "status -h", "help" },
	{ "status --version", "version" },
	{ "capture", "capture" },
	{ "capture --write f /run/s", "capture --write f /run/s" },
	{ "capture --help", "help" },
};

TEST(a_good_command_line_is_parsed, .count = LENGTH(good))
{
	ck_assert_msg(parse(good[_i].line) == 0, "%s", error.text);
	ck_assert_str_eq(understood(), good[_i].meaning);
}

static const struct {
	const char *line, *problem;
} bad[] = {
	{ "-x", "unknown option \"-x\"" },
	{ "-vx", "unknown option \"-x\"" },
	{ "--check -xv", "unknown option \"-x\"" },
	{ "--ntework=unix:/a", "unknown option \"--ntework\"" },
	{ "--ver", "unknown option \"--ver\"" }, /* verbose, or version */
	{ "--json", "unknown option \"--json\"" },
	{ "--check=yes", "option \"--check\" takes no value" },
	{ "-c", "option \"-c\" needs a value" },
	{ "--guest", "option \"--guest\" needs a value" },
	{ "--config=", "-c needs the name of a file" },
	{ "-c a -c b", "-c b: given twice, first as -c a" },
	{ "run", "unexpected argument \"run\" (a command goes after --)" },
	{ "-", "unexpected argument \"-\" (a command goes after --)" },
	{ "-v status", "write \"status\" first, before its options" },
	{ "-o network", "-o network: not SECTION.KEY=VALUE" },
	{ "-o hold=1.5s", "-o hold=1.5s: not SECTION.KEY=VALUE" },
	{ "-o network.hold", "-o network.hold: not SECTION.KEY=VALUE" },
	{ "--", "no command follows --" },
	{ "-- qemu fd", "the command needs {fd} for the number of its socket" },
	{ "-g fd:3 -- qemu {fd}",
	    "-g fd:3: the command after -- is already the guest" },
	{ "-o guest.endpoint=fd:3 -- qemu {fd}",
	    "-o guest.endpoint=fd:3: the command after -- is already the "
	    "guest" },
	{ "-n unix:/n -g stream", "-g stream: needs a command after --" },
	{ "status -c a s", "give either -c or a socket, not both" },
	{ "status a b",
	    "unexpected argument \"b\" (status takes one socket or folder)" },
	{ "capture a b",
	    "unexpected argument \"b\" (capture takes one socket)" },
	{ "status -c a --all", "give either -c or --all, not both" },
	{ "status s --watch --exit-code",
	    "give either --watch or --exit-code, not both" },
	{ "status --json --prometheus",
	    "give either --json or --prometheus, not both" },
	{ "status -v", "unknown option \"-v\"" },
	{ "status --write f", "unknown option \"--write\"" },
	{ "-v capture", "write \"capture\" first, before its options" },
	{ "capture -c a s", "give either -c or a socket, not both" },
	{ "capture --json", "unknown option \"--json\"" },
	{ "status -c", "option \"-c\" needs a value" },
};

TEST(a_wrong_command_line_is_reported_in_one_line, .count = LENGTH(bad))
{
	ck_assert_int_eq(parse(bad[_i].line), -1);
	ck_assert_str_eq(error.text, bad[_i].problem);
}

/* A start with nothing but defaults can't work; the example is the system's. */
TEST(an_empty_command_line_is_answered_with_an_example)
{
	char *none[] = { NULL };
	static const char *const bare[] = { "", "-v" };

	for (int i = 0; i < LENGTH(bare); i++) {
		ck_assert_int_eq(parse(bare[i]), -1);
		ck_assert_ptr_nonnull(strstr(error.text,
		    "name a network and a guest, for example: "
		    "forwarder -n "));
	}
	ck_assert_int_eq(options_parse(&options, 0, none, &error), -1);
}

#define CLIENT_SETTINGS " -g fd:3 -n unix:/s -o network.max_frame=65536 -- "

static const struct {
	const char *called, *line, *meaning; /* or the problem */
} clients[] = {
	{ "socket_vmnet_client", "/s qemu -n --help {fd}",
	    "client" CLIENT_SETTINGS "qemu -n --help {fd}" },
	{ "/opt/bin/socket_vmnet_client", "/s -- qemu -- x",
	    "client" CLIENT_SETTINGS "qemu -- x" },
	{ "socket_vmnet_client", "/s -- -- x",
	    "client" CLIENT_SETTINGS "-- x" },
	{ "my_socket_vmnet_client", "-n unix:/s", "run -n unix:/s" },
	{ "socket_vmnet_client", "",
	    "use it as socket_vmnet_client SOCKET COMMAND [ARG...]" },
	{ "socket_vmnet_client", "/s --",
	    "use it as socket_vmnet_client SOCKET COMMAND [ARG...]" },
};

/* By the arguments that socket_vmnet's client/main.c takes. */
TEST(called_as_socket_vmnet_client_it_takes_that_programs_arguments,
    .count = LENGTH(clients))
{
	bool parsed;

	strcpy(called, clients[_i].called);
	parsed = parse(clients[_i].line) == 0;
	ck_assert_str_eq(
	    parsed ? understood() : error.text, clients[_i].meaning);
	strcpy(called, "forwarder");
}

TEST(too_many_settings_are_reported)
{
	char line[512] = "";

	for (int i = 0; i < OPTIONS_SETTINGS_MAX; i++)
		strcat(line, " -gf");
	ck_assert_int_eq(parse(line), 0);
	strcat(line, " -gf");
	ck_assert_int_eq(parse(line), -1);
	ck_assert_str_eq(error.text, "-g f: more than 64 of -g, -n and -o");
}

TEST(the_help_names_every_option_and_fits_a_terminal)
{
	static const char *const named[] = { "-c, --config", "-g, --guest",
		"-n, --network", "-o, --option", "-v, --verbose", "-- ",
		"--check", "-h, --help", "-V, --version", "status", "--json",
		"--prometheus", "--watch", "--all", "--exit-code", "{fd}",
		defaults_example };
	char help[4096];
	FILE *file = fmemopen(help, sizeof(help), "w");
	size_t column = 0;

	ck_assert_int_gt(options_print_help(file), 0);
	fclose(file);
	for (int i = 0; i < LENGTH(named); i++)
		ck_assert_msg(strstr(help, named[i]) != NULL, "%s", named[i]);
	for (const char *c = help; *c != '\0'; c++) {
		column = *c == '\n' ? 0 : column + 1;
		ck_assert_uint_lt(column, 80);
	}
}

static char told[2048];
static struct config config;

static void
note(const struct error *problem)
{
	strcat(strcat(told, problem->text), "\n");
}

/* Configures from a command line and expects these problems. */
static void
configured(const char *line, const char *problems)
{
	struct config_problems sink = { .emit = note };

	told[0] = '\0';
	ck_assert_msg(parse(line) == 0, "%s", error.text);
	options_configure(&options, CONFIG_ANY_FILE, &config, &sink);
	ck_assert_str_eq(told, problems);
}

static void
write_file(const char *text)
{
	FILE *file = fopen("a.ini", "w");

	fputs(text, file);
	fclose(file);
}

FIXTURE(scratch_enter, scratch_leave)

TEST(options_override_the_file_and_the_last_one_wins)
{
	write_file("[network]\nhold = 1s\nendpoint = unix:/f\n"
		   "max_frame = 1514\n");
	configured("-o network.hold=2s -n unix:/a -o network.hold=3s "
		   "-o network.endpoint=unix:/b -g fd:3 -g fd:4 -c a.ini",
	    "");
	ck_assert_int_eq(config.network.hold_ms, 3000);
	ck_assert_str_eq(config.network.endpoint.text, "unix:/b");
	ck_assert_int_eq(config.guest.endpoint.fd, 4);
	ck_assert_int_eq(config.network.max_frame, 1514);
}

TEST(each_problem_names_where_it_came_from)
{
	configured("-g nowhere -n unix: -o network.hold=x -o network.hodl=1s "
		   "-o netwrk.hold=1s -o .= -c none.ini",
	    "none.ini: No such file or directory\n"
	    "-g nowhere: \"nowhere\" is not a guest endpoint: it must begin "
	    "with fd:, unixgram:, listen-unix: or tap:\n"
	    "-n unix:: \"unix:\" is not a network endpoint: the path is "
	    "missing\n"
	    "-o network.hold=x: \"x\" is not a duration (examples: 500ms, 5s, "
	    "2m)\n"
	    "-o network.hodl=1s: unknown key (did you mean \"hold\"?)\n"
	    "-o netwrk.hold=1s: unknown section (did you mean \"network\"?)\n"
	    "-o .=: unknown section\n");
}

TEST(all_problems_of_file_and_options_are_reported)
{
	write_file("[reconnect]\nmin = 3s\nmaxx = 1\n");
	configured("-c a.ini -o log.level=loud",
	    "a.ini:3: [reconnect] maxx: unknown key (did you mean \"max\"?)\n"
	    "-o log.level=loud: \"loud\" is not one of error, warn, info, "
	    "debug\n"
	    "a.ini:2: [reconnect] min: \"3s\" is more than max (2s)\n");
	configured("-c a.ini -o reconnect.min=4s",
	    "a.ini:3: [reconnect] maxx: unknown key (did you mean \"max\"?)\n"
	    "[reconnect] min: \"4s\" is more than max (2s)\n");
}

/* Its file may leave the network to the command line of the forwarder. */
TEST(status_needs_no_network)
{
	configured("status s", "");
}

TEST(each_v_raises_the_log_level_up_to_the_highest)
{
	configured("-n unix:/n -v", "");
	ck_assert_int_eq(config.log.level, LOG_LEVEL_DEBUG);
	configured("-n unix:/n -v -o log.level=error", "");
	ck_assert_int_eq(config.log.level, LOG_LEVEL_WARN);
	configured("-n unix:/n -vvvvvvvv", "");
	ck_assert_int_eq(config.log.level, LOG_LEVEL_DEBUG);
}
