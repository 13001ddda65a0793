/* Reads forwarder.ini. inih reports only the first error, and no line numbers
 * of keys; it cuts long lines and names, and accepts nearly anything as a
 * section header. So this file handles lines, sections and comments, and passes
 * each assignment to inih separately. */
#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* inih's buffer of 200 bytes also holds a line feed and a zero byte. */
#define LINE_BYTES 198

struct reading {
	FILE *file;
	struct config *config;
	struct config_problems *problems;
	const char *path;
	int line;
	const char *section; /* NULL: none yet; empty: a refused one */
	bool is_assignment;  /* inih has called take_key() for this line */
};

static void
problem(struct reading *r, const char *what)
{
	config_problem(r->problems, "%s:%d: %s", r->path, r->line, what);
}

/* Reads a line without its line feed. A long line is cut, but *length counts
 * all of it. Returns false at the end of the file or after a fatal problem. */
static bool
read_line(struct reading *r, char line[LINE_BYTES + 1], size_t *length)
{
	int c;

	*length = 0;
	r->line++;
	while ((c = getc(r->file)) != EOF && c != '\n') {
		if (iscntrl(c) && c != '\t' && c != '\r') {
			problem(
			    r, "not a text file: it has control characters");
			return false;
		}
		if (*length < LINE_BYTES)
			line[*length] = (char)c;
		++*length;
	}
	line[*length < LINE_BYTES ? *length : LINE_BYTES] = '\0';
	if (ferror(r->file)) {
		config_problem(r->problems, "%s: %s", r->path, strerror(errno));
		return false;
	}
	return c != EOF || *length > 0;
}

/* Whether the text is blank or a comment. */
static bool
is_blank(const char *text)
{
	text += strspn(text, " \t\r");
	return *text == '\0' || *text == ';' || *text == '#';
}

/* Reads a section header after its bracket. */
static void
take_section(struct reading *r, char *name)
{
	char *end = strchr(name, ']');
	struct error where;

	r->section = "";
	if (end == NULL || !is_blank(end + 1)) {
		problem(r, "not a section header such as [network]");
		return;
	}
	*end = '\0';
	if (config_section(name) != NULL) {
		r->section = config_section(name);
		return;
	}
	error_set(&where, "%s:%d: [%s]", r->path, r->line, name);
	config_unknown(where.text, name, "", r->problems);
}

/* inih calls this for an assignment. */
static int
take_key(
    void *context, const char *section, const char *name, const char *value)
{
	struct reading *r = context;
	struct error where;

	(void)section;
	r->is_assignment = *name != '\0';
	if (r->section == NULL && r->is_assignment) {
		problem(r, "a key before the first [section]");
	} else if (r->is_assignment && *r->section != '\0') {
		error_set(&where, "%s:%d: [%s] %s", r->path, r->line,
		    r->section, name);
		config_set(r->config, r->section, name, value, r->line,
		    where.text, r->problems);
	}
	return 1;
}

static void
take_line(struct reading *r, char *line, size_t length)
{
	if (is_blank(line))
		return;
	line += strspn(line, " \t");
	if (length > LINE_BYTES) {
		config_problem(r->problems, "%s:%d: longer than %d bytes",
		    r->path, r->line, LINE_BYTES);
		if (*line == '[')
			r->section = "";
	} else if (*line == '[') {
		take_section(r, line + 1);
	} else {
		r->is_assignment = false;
		ini_parse_string(line, take_key, r);
		if (!r->is_assignment)
			problem(r, "expected \"key = value\", [section] or "
				   "; comment");
	}
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
		config_problem(problems, "%s: %s%s", path, strerror(errno),
		    errno == EACCES
			? " (the user that runs forwarder must be able to "
			  "read it)"
			: "");
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
	static const char mark[] = "\xEF\xBB\xBF"; /* byte order mark */
	struct reading r = { .file = open_file(path, source, problems),
		.config = config,
		.problems = problems,
		.path = path };
	char line[LINE_BYTES + 1];
	size_t length;

	config->file = path;
	if (r.file == NULL)
		return;
	while (read_line(&r, line, &length)) {
		bool marked = r.line == 1 && strncmp(line, mark, 3) == 0;

		take_line(&r, marked ? line + 3 : line, length);
	}
	fclose(r.file);
}
