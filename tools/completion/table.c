/* Prints what the shells' completion needs, from the tables that the program
 * itself uses:
 *     option|MODES|-c|--config|VALUE|HELP
 *     command|WORD|HELP
 *     key|SECTION.KEY|VALUE
 * MODES are "run" and the commands that allow the option. A VALUE is a list of
 * words. PATH, FILE, FOLDER and SECTION.KEY=VALUE stand for names of that kind,
 * "unix:PATH" for a prefix and what follows it; other words stand for
 * themselves. It is empty if nothing, or nothing of the kind, can follow. */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "config/options.h"

/* Whether the limits are a list of words, "off, passive" or "fd:N, tap:NAME",
 * and not a description. */
static bool
is_list(const char *limits)
{
	for (const char *c = limits; *c != '\0'; c++)
		if (*c == ' ' && (c == limits || c[-1] != ','))
			return false;
	return !isdigit((unsigned char)*limits);
}

static void
print_value_of(const struct config_key *key)
{
	const char *limits = config_limits(key);

	if (key->type == CONFIG_PATH) {
		printf("PATH");
		return;
	}
	for (const char *c = is_list(limits) ? limits : ""; *c != '\0'; c++)
		if (*c != ',')
			putchar(*c);
}

static void
print_value(const struct options_row *row)
{
	if (row->letter == 'g' || row->letter == 'n')
		print_value_of(config_find(row->name, "endpoint"));
	else if (row->value != NULL)
		printf("%s", row->value);
}

/* In fish, the table is text in double quotes. */
static void
print_help(const char *help)
{
	assert(strpbrk(help, "|\"$\\") == NULL);
	printf("|%s\n", help);
}

static void
print_option(const struct options_row *row)
{
	printf("option|%s", row->modes & 1u << OPTIONS_RUN ? "run " : "");
	for (const struct options_command *c = options_commands; c->word; c++)
		if (row->modes & 1u << c->mode)
			printf("%s ", c->word);
	if (row->letter <= 'z')
		printf("|-%c", row->letter);
	else
		printf("|");
	printf("|--%s|", row->name);
	print_value(row);
	print_help(row->help);
}

int
main(void)
{
	for (const struct options_row *row = options_rows; row->name; row++)
		print_option(row);
	for (const struct options_command *c = options_commands; c->word; c++) {
		printf("command|%s", c->word);
		print_help(c->help);
	}
	for (int i = 0; i < CONFIG_KEYS; i++) {
		printf(
		    "key|%s.%s|", config_keys[i].section, config_keys[i].name);
		print_value_of(&config_keys[i]);
		printf("\n");
	}
	return ferror(stdout) || fclose(stdout) == EOF;
}
