#include "status/client.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/wait.h"
#include "status/ask.h"
#include "status/control_dial.h"
#include "status/fields.h"
#include "status/rates.h"
#include "status/table.h"

#define WATCH_MS 1000
#define WATCHING (-1) /* no exit code yet */
#define FORWARDERS_FOLDER "/run/forwarder"

#define TERMINAL_CLEAR "\033[H\033[J"

/* The answers of one round. */
struct round {
	struct answer *answers;
	struct rates_sample *before; /* of the same index; zeroed: none */
	size_t count;
};

struct view {
	const struct client_request *request;
	void (*add)(struct text *, const struct view *); /* the form */
	bool rates;                                      /* watch as text */
	bool terminal; /* rates, redrawn in place */
	enum { NEVER_SEEN, PRESENT, ABSENT } forwarder;
	struct round round;
};

/* Prints an error. It may contain names of files and of forwarders, so what
 * could end the line or control the terminal is escaped. */
static void print_error(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
static void
print_error(const char *format, ...)
{
	char line[512], escaped[4 * sizeof(line)];
	struct text t = text_in(escaped, sizeof(escaped));
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	text_add_escaped(&t, line, text_visible);
	fprintf(stderr, "forwarder: %s\n", escaped);
}

/* Returns zeroed memory, or ends the process. */
static void *
allocate(size_t count, size_t size)
{
	void *memory = calloc(count + 1, size);

	if (memory == NULL) {
		print_error("%s", strerror(errno));
		exit(EX_OSERR);
	}
	return memory;
}

/* --- asking ---------------------------------------------------------------- */

/* Adds the control sockets below a folder. A default folder may be missing. */
static void
search(struct round *round, const char *folder, bool is_default)
{
	if (ask_find(folder, &round->answers, &round->count) < 0 &&
	    !(is_default && errno == ENOENT))
		print_error("%s: %s", folder, strerror(errno));
}

static void
search_all(struct round *round, const char *folder)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char own[ASK_PATH_BYTES];

	if (folder != NULL) {
		search(round, folder, false);
		return;
	}
	search(round, FORWARDERS_FOLDER, true);
	if (runtime != NULL && *runtime != '\0') {
		snprintf(own, sizeof(own), "%s/forwarder", runtime);
		search(round, own, true);
	}
}

/* Whether the socket is NAME/control.sock. Only one forwarder can be there. */
static bool
is_in_own_folder(const struct answer *answer)
{
	char tail[LOG_NAME_BYTES + 16];
	int length = snprintf(
	    tail, sizeof(tail), "/%s/control.sock", answer->status.name);
	size_t all = strlen(answer->path);

	return all >= (size_t)length &&
	       strcmp(answer->path + all - (size_t)length, tail) == 0;
}

/* Of forwarders with the same name, the one in the folder of that name is the
 * first. */
static int
by_name(const void *a, const void *b)
{
	const struct answer *x = a, *y = b;
	int order = text_compare(x->status.name, y->status.name);

	if (order == 0)
		order = is_in_own_folder(y) - is_in_own_folder(x);
	return order != 0 ? order : text_compare(x->path, y->path);
}

/* Finds the earlier sample of each forwarder that answered. */
static void
compare_with(struct round *round, const struct round *earlier)
{
	round->before = allocate(round->count, sizeof(*round->before));
	for (size_t i = 0; i < round->count; i++)
		for (size_t j = 0; j < earlier->count; j++)
			if (earlier->answers[j].error == 0 &&
			    strcmp(round->answers[i].path,
				earlier->answers[j].path) == 0)
				round->before[i] =
				    rates_sample(&earlier->answers[j].status);
}

static const char no_sockets[] =
    "found no control socket (set [control] socket to "
    "FOLDER/NAME/control.sock, and give FOLDER if it is not " FORWARDERS_FOLDER
    ")";

/* Asks once. Returns 0, or -1 with the error set if the one forwarder that was
 * asked doesn't answer. */
static int
ask(struct round *round, const struct client_request *request,
    struct error *error)
{
	if (request->path != NULL) {
		round->answers = allocate(1, sizeof(*round->answers));
		round->count = 1;
		snprintf(
		    round->answers->path, ASK_PATH_BYTES, "%s", request->path);
	} else {
		search_all(round, request->folder);
	}
	if (round->count == 0) {
		if (!request->watch)
			print_error("%s", no_sockets);
		return 0;
	}
	ask_all(round->answers, round->count);
	if (request->path != NULL && round->answers->error != 0)
		return control_no_answer(
		    error, request->path, round->answers->error);
	qsort(round->answers, round->count, sizeof(*round->answers), by_name);
	return 0;
}

static void
release(struct round *round)
{
	free(round->answers);
	free(round->before);
	*round = (struct round){ .count = 0 };
}

/* --- forms ----------------------------------------------------------------- */

static void
add_text(struct text *t, const struct view *v)
{
	status_text(t, &v->round.answers->status);
}

static void
add_table(struct text *t, const struct view *v)
{
	if (v->rates && !v->terminal) {
		text_add_time(t);
		text_add(t, "\n");
	}
	table_add(t, v->round.answers, v->round.count, v->round.before);
}

static void
add_rates(struct text *t, const struct view *v)
{
	const struct status *s = &v->round.answers->status;
	struct rates_sample now = rates_sample(s);

	if (v->terminal) {
		status_section(t, s, "network");
		status_section(t, s, "guest_to_network.drops");
		status_section(t, s, "network_to_guest.drops");
		text_add(t, "\n");
	} else {
		text_add_time(t);
		text_add(t, " ");
		text_add_escaped(t, s->network.state, text_visible);
		text_add(t, " outages=%llu  ", s->network.outages);
	}
	rates_add(t, v->round.before, &now, v->terminal ? "\n" : "  ");
}

static void
add_json(struct text *t, const struct view *v)
{
	status_json(t, &v->round.answers->status);
}

static void
add_json_silence(struct text *t, const struct answer *answer)
{
	text_add(t, "{\"name\":");
	json_add_string(t, answer->status.name);
	text_add(t, ",\"socket\":");
	json_add_string(t, answer->path);
	text_add(t, ",\"error\":");
	json_add_string(t, control_reason(answer->error));
	text_add(t, "}");
}

static void
add_json_array(struct text *t, const struct view *v)
{
	text_add(t, "[");
	for (size_t i = 0; i < v->round.count; i++) {
		const struct answer *answer = &v->round.answers[i];

		text_add(t, i == 0 ? "" : ",");
		if (answer->error == 0)
			status_object(t, &answer->status);
		else
			add_json_silence(t, answer);
	}
	text_add(t, "]\n");
}

/* Samples with equal labels would make Prometheus refuse all of them, so of
 * forwarders with the same name only the first has samples. */
static void
add_prometheus(struct text *t, const struct view *v)
{
	const struct round *round = &v->round;
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are meant */
	const struct status **all = allocate(round->count, sizeof(*all));
	size_t count = 0;

	for (size_t i = 0; i < round->count; i++) {
		const struct answer *answer = &round->answers[i];
		const char *name = answer->status.name;

		if (i > 0 && strcmp(name, answer[-1].status.name) == 0) {
			print_error("no metrics of %s: the forwarder at %s is "
				    "also named %s (set [service] name)",
			    answer->path, answer[-1].path, name);
			continue;
		}
		all[count++] = &answer->status;
	}
	status_prometheus_all(t, all, count);
	free(all);
}

static const struct {
	const char *name;
	/* For one forwarder, for all of them, and for one with --watch. */
	void (*one)(struct text *, const struct view *);
	void (*all)(struct text *, const struct view *);
	void (*watch)(struct text *, const struct view *);
} forms[] = {
	{ "text", add_text, add_table, add_rates },
	{ "json", add_json, add_json_array, add_json },
	{ "prometheus", add_prometheus, add_prometheus, add_prometheus },
};

/* --- printing -------------------------------------------------------------- */

/* Prints the text. Returns `code`, or WATCHING instead; or another exit code if
 * the output can't be written. */
static int
print(const struct view *v, const struct text *t, int code)
{
	if (v->terminal)
		fputs(TERMINAL_CLEAR, stdout);
	fwrite(t->bytes, 1, t->length, stdout);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return v->request->watch ? WATCHING : code;
	if (v->request->watch && errno == EPIPE)
		return EX_OK; /* head(1) */
	print_error("standard output: %s", strerror(errno));
	return EX_OSERR;
}

/* Returns the exit code for these answers. */
static int
verdict(const struct view *v)
{
	const struct round *round = &v->round;
	struct answer_counts counts = ask_count(round->answers, round->count);

	if (counts.silent == round->count ||
	    (v->request->exit_code && counts.silent > 0))
		return EX_UNAVAILABLE;
	return v->request->exit_code && counts.down > 0 ? CLIENT_DOWN : EX_OK;
}

static int
show(struct view *v)
{
	size_t bytes = (v->round.count + 1) * STATUS_BYTES;
	struct text t = text_in(allocate(1, bytes), bytes);
	int code;

	v->add(&t, v);
	code = print(v, &t, verdict(v));
	free(t.bytes);
	return code;
}

/* Shows why there is no status: among the rates or, with other forms, once on
 * standard error. */
static int
show_absence(const struct view *v, const struct error *error)
{
	char bytes[5 * ERROR_BYTES];
	struct text t = text_in(bytes, sizeof(bytes));

	if (v->rates && v->forwarder != NEVER_SEEN) {
		text_add_time(&t);
		text_add(&t, " ");
		text_add_escaped(&t, error->text, text_visible);
		text_add(&t, "\n");
	} else if (v->forwarder != ABSENT) {
		print_error("%s", error->text);
	}
	return v->forwarder == NEVER_SEEN ? EX_UNAVAILABLE
					  : print(v, &t, EX_UNAVAILABLE);
}

/* Asks once and prints the result. Returns the exit code, or WATCHING. */
static int
look(struct view *v)
{
	struct round next = { .count = 0 };
	struct error error;
	int code;

	if (ask(&next, v->request, &error) < 0) {
		release(&next);
		code = show_absence(v, &error);
		v->forwarder = ABSENT;
		return code;
	}
	if (v->rates)
		compare_with(&next, &v->round);
	release(&v->round);
	v->round = next;
	v->forwarder = PRESENT;
	return show(v);
}

static void
on_interrupt(int number)
{
	(void)number;
	_exit(0);
}

/* Whether standard output is a terminal that can move its cursor. */
static bool
can_redraw(void)
{
	const char *kind = getenv("TERM");

	return isatty(STDOUT_FILENO) == 1 && kind != NULL && *kind != '\0' &&
	       strcmp(kind, "dumb") != 0;
}

static void
choose_form(struct view *v)
{
	const struct client_request *request = v->request;
	size_t i = 0;

	while (strcmp(forms[i].name, request->form) != 0)
		i++;
	if (request->path == NULL)
		v->add = forms[i].all;
	else
		v->add = request->watch ? forms[i].watch : forms[i].one;
	v->rates = request->watch && i == 0;
	v->terminal = v->rates && can_redraw();
}

int
client_status(const struct client_request *request)
{
	struct view v = { .request = request };
	int code;

	signal(SIGPIPE, SIG_IGN);
	if (request->watch)
		signal(SIGINT, on_interrupt);
	choose_form(&v);
	do {
		int64_t next_ms = clock_now_ms() + WATCH_MS;

		code = look(&v);
		if (code == WATCHING)
			wait_readable(-1, -1, next_ms);
	} while (code == WATCHING);
	release(&v.round);
	return code;
}
