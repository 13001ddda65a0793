/* The file, read with inih. inih tells only the first error and not where a
 * key stood, cuts long lines and names, and takes nearly anything as a
 * section header; so it is given its lines one by one, looked at before. */
#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct reading {
	FILE *file;
	struct config *config;
	struct config_problems *problems;
	const char *name;
	int line;
	bool pending;  /* take_key() hasn't been called for this line */
	bool skipping; /* below a section header that was refused */
};

static void
problem(struct reading *r, const char *what)
{
	config_problem(r->problems, "%s:%d: %s", r->name, r->line, what);
}

enum text { TEXT_LINE, TEXT_LONG, TEXT_BINARY, TEXT_END };

/* Reads a line without its end and the blanks before it, which inih would take
 * for a continuation of the line above. What is too long is cut. */
static enum text
read_text(struct reading *r, char *line, size_t room)
{
	size_t length = 0;
	int c;

	while ((c = getc(r->file)) != EOF && c != '\n') {
		if (length == 0 && (c == ' ' || c == '\t'))
			continue;
		if (iscntrl(c) && c != '\t' && c != '\r')
			return TEXT_BINARY;
		if (length < room - 1)
			line[length] = (char)c;
		length++;
	}
	line[length < room ? length : room - 1] = '\0';
	if (ferror(r->file))
		config_problem(r->problems, "%s: %s", r->name, strerror(errno));
	if (c == EOF && (length == 0 || ferror(r->file)))
		return TEXT_END;
	return length < room ? TEXT_LINE : TEXT_LONG;
}

/* Some editors begin a file with a byte order mark. */
static void
skip_mark(char *line)
{
	const char *rest = line + 3;

	if (strncmp(line, "\xEF\xBB\xBF", 3) != 0)
		return;
	rest += strspn(rest, " \t");
	memmove(line, rest, strlen(rest) + 1);
}

/* Whether nothing but a comment follows. */
static bool
is_void(const char *text)
{
	text += strspn(text, " \t\r");
	return *text == '\0' || *text == ';' || *text == '#';
}

/* Leaves the line to inih only if it means what inih will make of it. */
static void
take_section(struct reading *r, char *line)
{
	char *name = line + 1, *end = strchr(line, ']');
	struct error where;

	r->skipping = true;
	if (end == NULL || !is_void(end + 1)) {
		problem(r, "not a section header such as [network]");
		*line = '\0';
		return;
	}
	*end = '\0';
	r->skipping = !config_has_section(name);
	if (r->skipping) {
		error_set(&where, "%s:%d: [%s]", r->name, r->line, name);
		config_unknown(where.text, name, "", r->problems);
		*line = '\0';
	} else {
		*end = ']';
	}
}

/* Takes the place of fgets() for inih, which passes over a line that is no
 * assignment without a word. */
static char *
next_line(char *line, int room, void *context)
{
	struct reading *r = context;
	size_t limit = (size_t)room - 1; /* a line feed is put back */

	if (r->pending)
		problem(r, "expected \"key = value\", [section] or ; comment");
	r->pending = false;
	enum text text = read_text(r, line, limit);
	if (text == TEXT_END)
		return NULL;
	r->line++;
	if (text == TEXT_BINARY) {
		problem(r, "holds a control character: not a text file");
		return NULL;
	}
	if (r->line == 1)
		skip_mark(line);
	if (is_void(line)) {
		*line = '\0';
	} else if (text == TEXT_LONG) {
		config_problem(r->problems, "%s:%d: longer than %zu bytes",
		    r->name, r->line, limit - 1);
		r->skipping = r->skipping || *line == '[';
		*line = '\0';
	} else if (*line == '[') {
		take_section(r, line);
	} else {
		r->pending = true;
	}
	strcat(line, "\n");
	return line;
}

/* Sets the key of the line in hand, unless a line before has set it. */
static void
set_once(
    struct reading *r, const char *section, const char *name, const char *value)
{
	const struct config_key *key = config_find(section, name);
	int unknown = 0, *line = &unknown;
	struct error where;

	if (key != NULL)
		line = &r->config->origin[key - config_keys].line;
	error_set(&where, "%s:%d: [%s] %s", r->name, r->line, section, name);
	if (*line != 0) {
		config_problem(r->problems, "%s: set twice, first at line %d",
		    where.text, *line);
		return;
	}
	config_set(r->config, section, name, value, where.text, r->problems);
	*line = r->line;
}

/* The handler of inih: the line in hand is an assignment. */
static int
take_key(
    void *context, const char *section, const char *name, const char *value)
{
	struct reading *r = context;

	if (*name == '\0')
		return 1; /* still pending */
	r->pending = false;
	if (r->skipping)
		return 1;
	if (*section == '\0')
		problem(r, "a key before the first [section]");
	else
		set_once(r, section, name, value);
	return 1;
}

/* Returns NULL after a problem. */
static FILE *
open_file(const char *path, enum config_source source,
    struct config_problems *problems)
{
	bool regular = source == CONFIG_REGULAR_FILE;
	int fd = open(path, O_RDONLY | O_CLOEXEC | (regular ? O_NONBLOCK : 0));
	struct stat status;

	if (fd < 0) {
		config_problem(problems, "%s: %s", path, strerror(errno));
		return NULL;
	}
	if (!regular || (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)))
		return fdopen(fd, "r");
	close(fd);
	config_problem(problems, "%s: not a regular file", path);
	return NULL;
}

void
config_read(struct config *config, const char *path, enum config_source source,
    struct config_problems *problems)
{
	struct reading r = {
		.file = open_file(path, source, problems),
		.config = config,
		.problems = problems,
		.name = path,
	};

	config->file = path;
	if (r.file == NULL)
		return;
	if (ini_parse_stream(next_line, &r, take_key, &r) < 0)
		config_problem(problems, "%s: out of memory", path);
	fclose(r.file);
}
