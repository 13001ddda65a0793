#include "config/options.h"

#include "tests/support/suite.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/defaults.h"

static struct options options;
static struct error error;
static char words[512];
static char *arguments[OPTIONS_SETTINGS_MAX + 8];

/* Splits a line at its blanks, as no shell would, and parses it. */
static int
parse(const char *line)
{
	int count = 0;
	char *rest = words;

	ck_assert_uint_lt(strlen(line), sizeof(words));
	strcpy(words, line);
	for (char *w; (w = strtok_r(rest, " ", &rest)) != NULL;) {
		ck_assert_int_lt(count, OPTIONS_SETTINGS_MAX + 7);
		arguments[count++] = w;
	}
	arguments[count] = NULL;
	return options_parse(&options, count, arguments, &error);
}

static void
refused(const char *line, const char *what)
{
	ck_assert_msg(parse(line) == -1, "%s: accepted", line);
	ck_assert_str_eq(error.text, what);
}

/* A start with nothing but defaults can't work; the example is the system's. */
TEST(nothing_given_is_told_with_an_example)
{
	char *none[] = { NULL };
	static const char *const bare[] = { "forwarder", "forwarder -v" };

	for (size_t i = 0; i < sizeof(bare) / sizeof(*bare); i++) {
		ck_assert_int_eq(parse(bare[i]), -1);
		ck_assert_ptr_nonnull(strstr(error.text,
		    "say which network and which guest, for example: "
		    "forwarder -n unix:"));
		ck_assert_ptr_null(strchr(error.text, '\n'));
	}
	ck_assert_int_eq(options_parse(&options, 0, none, &error), -1);
	ck_assert_int_eq(parse("forwarder -n unix:/n"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_RUN);
	ck_assert_ptr_null(options.config_path);
	ck_assert_ptr_null(options.command);
	ck_assert_int_eq(options.verbosity, 0);
	ck_assert_int_eq(parse("forwarder -c a.ini"), 0);
	ck_assert_int_eq(parse("forwarder -- qemu {fd}"), 0);
	ck_assert_int_eq(parse("forwarder --check"), 0);
}

TEST(every_short_option_has_a_long_one)
{
	ck_assert_int_eq(parse("forwarder --config a.ini --guest=fd:3 "
			       "--network unix:/n --option network.hold=0 "
			       "--verbose --check"),
	    0);
	ck_assert_int_eq(options.mode, OPTIONS_CHECK);
	ck_assert_str_eq(options.config_path, "a.ini");
	ck_assert_int_eq(options.settings_count, 3);
	ck_assert_int_eq(options.settings[0].flag, 'g');
	ck_assert_str_eq(options.settings[0].text, "fd:3");
	ck_assert_int_eq(options.settings[1].flag, 'n');
	ck_assert_int_eq(options.settings[2].flag, 'o');
	ck_assert_int_eq(options.verbosity, 1);
	ck_assert_int_eq(parse("forwarder -h"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_HELP);
	ck_assert_int_eq(parse("forwarder -V"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_VERSION);
	ck_assert_int_eq(parse("forwarder status --config a.ini"), 0);
	ck_assert_str_eq(options.config_path, "a.ini");
	ck_assert_int_eq(parse("forwarder status -V"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_VERSION);
}

TEST(all_options_are_understood_joined_and_apart)
{
	ck_assert_int_eq(parse("forwarder -c a.ini -g fd:3 -nunix:/n "
			       "-o network.hold=0 -v -vv --check"),
	    0);
	ck_assert_int_eq(options.mode, OPTIONS_CHECK);
	ck_assert_str_eq(options.config_path, "a.ini");
	ck_assert_int_eq(options.settings_count, 3);
	ck_assert_int_eq(options.settings[0].flag, 'g');
	ck_assert_str_eq(options.settings[0].text, "fd:3");
	ck_assert_int_eq(options.settings[1].flag, 'n');
	ck_assert_str_eq(options.settings[1].text, "unix:/n");
	ck_assert_int_eq(options.settings[2].flag, 'o');
	ck_assert_str_eq(options.settings[2].text, "network.hold=0");
	ck_assert_int_eq(options.verbosity, 3);
	ck_assert_int_eq(parse("forwarder -vvca.ini"), 0);
	ck_assert_int_eq(options.verbosity, 2);
	ck_assert_str_eq(options.config_path, "a.ini");
}

TEST(a_command_keeps_its_own_options)
{
	ck_assert_int_eq(
	    parse("forwarder -v -- qemu -v --help -c x local.str={fd} --"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_RUN);
	ck_assert_int_eq(options.verbosity, 1);
	ck_assert_ptr_null(options.config_path);
	ck_assert_ptr_eq(options.command, arguments + 3);
	ck_assert_str_eq(options.command[0], "qemu");
	ck_assert_str_eq(options.command[6], "--");
	ck_assert_ptr_null(options.command[7]);
}

TEST(a_command_may_be_checked)
{
	ck_assert_int_eq(parse("forwarder --check -- qemu {fd}"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_CHECK);
	ck_assert_ptr_nonnull(options.command);
}

TEST(a_wrong_command_line_is_told_in_one_line)
{
	static const char *const told[][2] = {
		{ "-x", "unknown option \"-x\"" },
		{ "-vx", "unknown option \"-x\"" },
		{ "-xv", "unknown option \"-x\"" },
		{ "--check -xv", "unknown option \"-x\"" },
		{ "--chekc", "unknown option \"--chekc\"" },
		{ "--ntework=unix:/a", "unknown option \"--ntework\"" },
		{ "--ver", "unknown option \"--ver\"" },
		{ "--json", "unknown option \"--json\"" },
		{ "--check=yes", "option \"--check\" takes no value" },
		{ "-c", "option \"-c\" needs a value" },
		{ "-v -o", "option \"-o\" needs a value" },
		{ "--guest", "option \"--guest\" needs a value" },
		{ "-c a -c b", "-c b: there is already -c a" },
		{ "run", "unexpected argument \"run\" (a command stands "
			 "after --)" },
		{ "-", "unexpected argument \"-\" (a command stands after "
		       "--)" },
		{ "-v status", "\"status\" comes before its options" },
	};
	char line[128];

	for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++) {
		snprintf(line, sizeof(line), "forwarder %s", told[i][0]);
		refused(line, told[i][1]);
	}
}

TEST(a_setting_has_section_key_and_value)
{
	refused("forwarder -o network", "-o network: not SECTION.KEY=VALUE");
	refused("forwarder -o hold=1s", "-o hold=1s: not SECTION.KEY=VALUE");
	refused("forwarder -o hold=1.5s", "-o hold=1.5s: not "
					  "SECTION.KEY=VALUE");
	refused("forwarder -o network.hold", "-o network.hold: not "
					     "SECTION.KEY=VALUE");
	refused("forwarder --option x", "-o x: not SECTION.KEY=VALUE");
	ck_assert_int_eq(parse("forwarder -o control.socket="), 0);
	ck_assert_int_eq(parse("forwarder -o control.socket=a.b=c"), 0);
}

TEST(settings_beyond_the_limit_are_told_not_lost)
{
	char line[512] = "forwarder";

	for (int i = 0; i < OPTIONS_SETTINGS_MAX; i++)
		strcat(line, " -gf");
	ck_assert_int_eq(parse(line), 0);
	strcat(line, " -gf");
	refused(line, "-g f: more than 64 of -g, -n and -o");
}

TEST(a_command_is_the_guest_and_says_where_its_descriptor_goes)
{
	refused("forwarder --", "no command follows --");
	refused("forwarder -- qemu fd", "nothing in the command says {fd}, "
					"where the number of its descriptor "
					"goes");
	refused("forwarder -g fd:3 -- qemu {fd}",
	    "-g fd:3: the command after -- is the guest already");
	refused("forwarder -o guest.endpoint=fd:3 -- qemu {fd}",
	    "-o guest.endpoint=fd:3: the command after -- is the guest "
	    "already");
	ck_assert_int_eq(parse("forwarder -o guest.stall=0 -- qemu {fd}"), 0);
}

TEST(help_and_version_are_given_whatever_follows)
{
	ck_assert_int_eq(parse("forwarder --help --nonsense"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_HELP);
	ck_assert_int_eq(parse("forwarder -c a.ini --version"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_VERSION);
	ck_assert_int_eq(parse("forwarder status --help"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_HELP);
	ck_assert_str_eq(options_version, "forwarder " VERSION "\n");
}

TEST(the_help_names_every_option_and_fits_a_terminal)
{
	static const char *const named[] = { "-c, --config", "-g, --guest",
		"-n, --network", "-o, --option", "-v, --verbose", "-- ",
		"--check", "-h, --help", "-V, --version", "status", "--json",
		"--prometheus", "--watch", "{fd}", defaults_example };
	char help[4096];
	FILE *file = fmemopen(help, sizeof(help), "w");
	size_t column = 0;

	ck_assert_int_gt(options_print_help(file), 0);
	fclose(file);
	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++)
		ck_assert_msg(strstr(help, named[i]) != NULL, "%s", named[i]);
	for (const char *c = help; *c != '\0'; c++) {
		column = *c == '\n' ? 0 : column + 1;
		ck_assert_uint_lt(column, 80);
	}
}

TEST(status_takes_a_file_or_a_socket_and_a_form)
{
	ck_assert_int_eq(parse("forwarder status"), 0);
	ck_assert_int_eq(options.mode, OPTIONS_STATUS);
	ck_assert_int_eq(options.form, OPTIONS_TEXT);
	ck_assert(!options.watch);
	ck_assert_ptr_null(options.socket);
	ck_assert_int_eq(parse("forwarder status --watch /run/s --json"), 0);
	ck_assert_int_eq(options.form, OPTIONS_JSON);
	ck_assert(options.watch);
	ck_assert_str_eq(options.socket, "/run/s");
	ck_assert_int_eq(parse("forwarder status -c a.ini --prometheus"), 0);
	ck_assert_int_eq(options.form, OPTIONS_PROMETHEUS);
	ck_assert_str_eq(options.config_path, "a.ini");
}

TEST(status_refuses_what_it_cannot_use)
{
	refused("forwarder status -c a s", "-c and a socket exclude each "
					   "other");
	refused("forwarder status s -c a", "-c and a socket exclude each "
					   "other");
	refused("forwarder status a b",
	    "unexpected argument \"b\" (status takes one socket)");
	refused("forwarder status a -- b",
	    "unexpected argument \"b\" (status takes one socket)");
	refused("forwarder status --json --prometheus",
	    "--json and --prometheus exclude each other");
	refused("forwarder status -v", "unknown option \"-v\"");
	refused("forwarder status --check", "unknown option \"--check\"");
	refused("forwarder status -c", "option \"-c\" needs a value");
	refused("forwarder status a --jsno", "unknown option \"--jsno\"");
}

/* Its file may leave the network to the command line of the forwarder. */
TEST(status_needs_no_network)
{
	struct config_problems problems = { .emit = NULL };
	static struct config config;

	ck_assert_int_eq(parse("forwarder status s"), 0);
	options_configure(&options, CONFIG_ANY_FILE, &config, &problems);
	ck_assert_int_eq(problems.count, 0);
}

static char told[2048];
static struct config config;

static void
note(const struct error *problem)
{
	ck_assert_uint_lt(
	    strlen(told) + strlen(problem->text) + 1, sizeof(told));
	strcat(told, problem->text);
	strcat(told, "\n");
}

/* Configures from a command line and tells what was told. */
static void
configured(const char *line, const char *lines)
{
	struct config_problems problems = { .emit = note };

	told[0] = '\0';
	ck_assert_msg(parse(line) == 0, "%s", error.text);
	options_configure(&options, CONFIG_ANY_FILE, &config, &problems);
	ck_assert_str_eq(told, lines);
}

/* Makes a temporary file; the caller unlinks it. */
static const char *
file_of(const char *text)
{
	static char path[] = "/tmp/forwarder-options-test-XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
	return path;
}

TEST(options_override_the_file_and_the_last_one_wins)
{
	const char *path = file_of("[network]\nhold = 1s\nendpoint = unix:/f\n"
				   "max_frame = 1514\n");
	char line[256];

	snprintf(line, sizeof(line),
	    "forwarder -o network.hold=2s -n unix:/a -o network.hold=3s "
	    "-o network.endpoint=unix:/b -g fd:3 -g fd:4 -c %s",
	    path);
	configured(line, "");
	unlink(path);
	ck_assert_int_eq(config.network.hold_ms, 3000);
	ck_assert_str_eq(config.network.endpoint.text, "unix:/b");
	ck_assert_str_eq(config.guest.endpoint.text, "fd:4");
	ck_assert_int_eq(config.network.max_frame, 1514);
}

TEST(each_problem_names_the_option_it_came_from)
{
	configured("forwarder -g nowhere -n unix: -o network.hold=x "
		   "-o network.hodl=1s -o netwrk.hold=1s -o .=",
	    "-g nowhere: \"nowhere\" is not a guest endpoint: it begins with "
	    "neither fd:, unixgram: nor tap:\n"
	    "-n unix:: \"unix:\" is not a network endpoint: the path is "
	    "missing\n"
	    "-o network.hold=x: \"x\" is not a duration (examples: 500ms, 5s, "
	    "2m)\n"
	    "-o network.hodl=1s: unknown key (did you mean \"hold\"?)\n"
	    "-o netwrk.hold=1s: unknown section (did you mean \"network\"?)\n"
	    "-o .=: unknown section\n");
}

TEST(problems_of_file_options_and_both_together_are_all_told)
{
	const char *path = file_of("[reconnect]\nmin = 3s\nmaxx = 1\n");
	char line[256], want[512];

	snprintf(line, sizeof(line), "forwarder -c %s -o log.level=loud", path);
	snprintf(want, sizeof(want),
	    "%s:3: [reconnect] maxx: unknown key (did you mean \"max\"?)\n"
	    "-o log.level=loud: \"loud\" is not one of error, warn, info, "
	    "debug\n"
	    "%s:2: [reconnect] min: \"3s\" is more than max (2s)\n",
	    path, path);
	configured(line, want);
	snprintf(
	    line, sizeof(line), "forwarder -c %s -o reconnect.min=4s", path);
	snprintf(want, sizeof(want),
	    "%s:3: [reconnect] maxx: unknown key (did you mean \"max\"?)\n"
	    "[reconnect] min: \"4s\" is more than max (2s)\n",
	    path);
	configured(line, want);
	unlink(path);
}

TEST(a_missing_file_is_a_problem_of_the_configuration)
{
	configured("forwarder -c /nonexistent.ini",
	    "/nonexistent.ini: No such file or directory\n");
}

TEST(each_v_raises_the_level_of_the_log_as_far_as_it_goes)
{
	configured("forwarder -n unix:/n -v", "");
	ck_assert_int_eq(config.log.level, LOG_LEVEL_DEBUG);
	configured("forwarder -n unix:/n -v -o log.level=error", "");
	ck_assert_int_eq(config.log.level, LOG_LEVEL_WARN);
	configured("forwarder -n unix:/n -vvvvvvvv", "");
	ck_assert_int_eq(config.log.level, LOG_LEVEL_DEBUG);
}

TEST(a_setting_longer_than_any_key_is_unknown_not_cut)
{
	char line[512] = "forwarder -o network.";

	memset(line + 21, 'x', 200);
	strcpy(line + 221, "=1");
	struct config_problems problems = { .emit = NULL };

	ck_assert_int_eq(parse(line), 0);
	options_configure(&options, CONFIG_ANY_FILE, &config, &problems);
	ck_assert_int_eq(problems.count, 1);
}
