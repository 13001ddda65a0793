#include "base/file_watch.h"

#include <dlfcn.h>

#include "tests/support/listener.h"
#include "tests/support/suite.h"

#define NOBODY 65534

static struct file_watch watch, other;
static struct doorbell bell, other_bell;
static unsigned descriptors_before;
static char here[64]; /* the scratch folder, absolute */

static void
set_up(void)
{
	scratch_enter();
	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	ck_assert_int_eq(doorbell_init(&bell), 0);
	ck_assert_int_eq(doorbell_init(&other_bell), 0);
	descriptors_before = open_descriptors();
	file_watch_init(&watch, &bell);
	file_watch_init(&other, &other_bell);
}

static void
tear_down(void)
{
	file_watch_destroy(&watch);
	file_watch_destroy(&other);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
	scratch_leave();
}

static const char *
at(const char *name)
{
	static char path[108];

	snprintf(path, sizeof(path), "%s/%s", here, name);
	return path;
}

static bool
readable(int fd)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) == 1;
}

static bool
has_events(void)
{
	return readable(file_watch_fd(&watch));
}

static bool
rings(struct doorbell *which)
{
	bool rung = readable(which->fds[0]);

	doorbell_answer(which);
	return rung;
}

/* The kernel queues an event before the call that caused it returns. */
static bool
appeared(void)
{
	bool seen = false;

	ck_assert(!rings(&bell)); /* no other watch reads */
	for (int wakeups = 0; has_events(); wakeups++) {
		ck_assert_msg(wakeups < 10, "the watch wakes itself for ever");
		seen |= file_watch_appeared(&watch);
	}
	return seen;
}

static bool
touch(const char *name)
{
	return close(open(name, O_CREAT | O_WRONLY, 0600)) == 0;
}

/* One step of a script: a change, or its expected report. */
static bool
step(const char *word, const char *name)
{
#define IS(text) (strcmp(word, text) == 0)
	static int fd;

	if (IS("stop"))
		file_watch_stop(&watch);
	if (IS("bind"))
		fd = bound_unix(name);
	return IS("stop") || IS("bind") || (IS("close") && close(fd) == 0) ||
	       (IS("watch") && file_watch_path(&watch, at(name)) == 0) ||
	       (IS("relative") && file_watch_path(&watch, name) == 0) ||
	       (IS("file") && file_watch_file(&watch, name) == 0) ||
	       (IS("touch") && touch(name)) ||
	       (IS("mkdir") && mkdir(name, 0700) == 0) ||
	       (IS("rm") && remove(name) == 0) ||
	       (IS("chmod") && chmod(name, 0666) == 0) ||
	       (IS("link") && link(name, "too") == 0) ||
	       (IS("new-to") && rename("new", name) == 0) ||
	       (IS("away") && rename(name, "away") == 0) ||
	       (IS("SEEN") && appeared()) || (IS("NOTHING") && !appeared()) ||
	       (IS("KEPT") && has_events() && !file_watch_deleted(&watch)) ||
	       (IS("GONE") && file_watch_deleted(&watch) &&
		   !file_watch_deleted(&watch));
}

/* Runs "word name; WORD; ...". */
static void
run_script(const char *script)
{
	char text[256], name[32], word[16], *rest;

	snprintf(text, sizeof(text), "%s", script);
	for (char *at = strtok_r(text, ";", &rest); at;
	     at = strtok_r(NULL, ";", &rest)) {
		name[0] = '\0';
		ck_assert_int_ge(sscanf(at, "%15s %31s", word, name), 1);
		ck_assert_msg(step(word, name), "%s: %s", script, at);
	}
}

FIXTURE(set_up, tear_down)

static const char *const paths[] = {
	"watch sock; NOTHING; bind sock; SEEN; NOTHING; close",
	"touch new; watch sock; new-to sock; SEEN",
	/* replaced */
	"touch sock; touch new; watch sock; new-to sock; SEEN",
	"watch sock; touch sock; SEEN; rm sock; NOTHING; touch sock; SEEN;"
	"rm sock; NOTHING; touch sock; SEEN",
	/* becomes readable */
	"touch sock; watch sock; chmod sock; SEEN",
	"watch sock; touch soc; touch sock2; touch asock; mkdir a; NOTHING",
	"touch sock; watch sock; NOTHING; rm sock; NOTHING",
	/* folders that are missing: one by one, at once, ready-made */
	"watch a/b/c/sock; mkdir a; NOTHING; mkdir a/b; NOTHING; mkdir a/b/c;"
	"NOTHING; touch a/b/c/sock; SEEN",
	"watch a/b/c/sock; mkdir a; mkdir a/b; mkdir a/b/c; touch a/b/c/sock;"
	"SEEN",
	"mkdir new; mkdir new/b; touch new/b/sock; watch a/b/sock;"
	"new-to a; SEEN",
	/* it once watched the folder above anew at each event, and saw that */
	"watch a/sock; touch something; NOTHING",
	/* folders that go and come back, also before anyone looks */
	"mkdir a; watch a/sock; touch a/sock; SEEN; rm a/sock; rm a; NOTHING;"
	"mkdir a; NOTHING; touch a/sock; SEEN; rm a/sock; rm a; NOTHING;"
	"mkdir a; touch a/sock; SEEN",
	"mkdir a; watch a/sock; rm a; mkdir a; touch a/sock; SEEN;"
	"rm a/sock; touch a/sock; SEEN",
	"mkdir a; watch a/sock; away a; NOTHING; touch away/sock; NOTHING;"
	"mkdir a; touch a/sock; SEEN",
	/* a file where the folder should be */
	"touch a; watch a/sock; rm a; mkdir a; touch a/sock; SEEN",
	"relative sock; touch sock; SEEN",
	"relative ./sock; touch sock; SEEN",
	"relative a/b/sock; mkdir a; mkdir a/b; NOTHING; touch a/b/sock; SEEN",
	"relative aa/sock; mkdir aa; touch aa/sock; SEEN",
	"relative a//sock; mkdir a; touch a/sock; SEEN",
	"watch sock; touch sock; stop; NOTHING; rm sock; touch sock; NOTHING;"
	"stop; NOTHING",
	"mkdir a; watch sock; watch a/sock; touch sock; NOTHING; touch a/sock;"
	"SEEN",
};

TEST(a_path_appears, .count = LENGTH(paths))
{
	run_script(paths[_i]);
}

static const char *const files[] = {
	"touch it; file it; touch mine; NOTHING; chmod it; KEPT; rm it; GONE",
	("touch it; touch new; file it; new-to it; GONE; file it;"
	 "away it; KEPT; rm away; GONE"),
	/* its link count falls while the inode lives on */
	"touch it; link it; file it; rm it; KEPT",
	/* as a guest's socket */
	"bind it; file it; rm it; KEPT; close; GONE",
};

TEST(a_file_is_deleted, .count = LENGTH(files))
{
	run_script(files[_i]);
}

TEST(a_file_that_isnt_there_cant_be_watched)
{
	ck_assert_int_eq(file_watch_file(&watch, "theirs"), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(file_watch_fd(&watch), -1);
}

/* What the system watches for us, and the descriptors that takes. */
static unsigned
targets(void)
{
	char name[64], line[256];
	unsigned count = 0;
	FILE *info;

	snprintf(
	    name, sizeof(name), "/proc/self/fdinfo/%d", file_watch_fd(&watch));
	info = fopen(name, "r");
	while (info && fgets(line, sizeof(line), info))
		count += strncmp(line, "inotify", 7) == 0;
	if (info)
		fclose(info);
	return count + open_descriptors();
}

TEST(watching_a_thousand_times_leaks_nothing)
{
	unsigned before;

	run_script("mkdir a; watch a/sock");
	before = targets();
	for (int i = 0; i < 1000; i++) {
		run_script(i % 2 ? "watch a/sock" : "watch missing/b/sock");
		if (i % 3 == 0)
			file_watch_stop(&watch);
	}
	run_script("watch a/sock");
	ck_assert_uint_eq(targets(), before);
	run_script("NOTHING; touch a/sock; SEEN");
}

/* No descriptor is left to open. */
TEST(a_watch_that_the_system_refused_can_be_retried)
{
	int last = dup(0);

	close(last);
	limit_descriptors(last);
	ck_assert_int_eq(file_watch_path(&watch, at("sock")), -1);
	ck_assert_int_eq(errno, EMFILE);
	ck_assert_int_eq(file_watch_fd(&watch), -1);
	ck_assert(!file_watch_appeared(&watch));
	ck_assert_int_eq(file_watch_file(&other, here), -1);
	ck_assert_int_eq(errno, EMFILE);
	limit_descriptors(1000);
	run_script("watch sock; touch sock; SEEN");
}

TEST(a_folder_that_becomes_readable_is_not_missed)
{
	run_script("mkdir a; touch a/sock");
	ck_assert_int_eq(chmod("a", 0), 0);
	ck_assert_int_eq(chmod(".", 0755), 0);
	become(NOBODY);
	ck_assert_int_eq(file_watch_path(&watch, at("a/sock")), -1);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_eq(watch.error, EACCES);
	become(0);
	ck_assert_int_eq(chmod("a", 0755), 0);
	become(NOBODY);
	ck_assert(appeared());
	ck_assert_int_eq(watch.error, 0);
	become(0);
}

/* Whichever of the two reads the event, both report it. */
TEST(an_event_read_by_another_watch_rings_the_bell)
{
	run_script("touch theirs; watch sock");
	ck_assert_int_eq(file_watch_file(&other, "theirs"), 0);
	ck_assert_int_eq(file_watch_fd(&other), file_watch_fd(&watch));
	ck_assert_uint_eq(open_descriptors(), descriptors_before + 1);
	run_script("touch sock; rm theirs");
	ck_assert(!rings(&bell) && !rings(&other_bell));
	ck_assert(file_watch_deleted(&other));
	ck_assert(!rings(&other_bell));
	ck_assert(!has_events());
	ck_assert(rings(&bell));
	ck_assert(file_watch_appeared(&watch));
	ck_assert(!file_watch_appeared(&watch) && !file_watch_deleted(&other));
	run_script("rm sock; touch sock");
	ck_assert(!file_watch_deleted(&other)); /* reads it for the watch */
	run_script("watch sock");
	ck_assert(!file_watch_appeared(&watch));
}

/* The remaining watch keeps the descriptor. */
TEST(stopping_one_watch_leaves_the_others_working)
{
	run_script("touch theirs; watch sock");
	ck_assert_int_eq(file_watch_file(&other, "theirs"), 0);
	file_watch_destroy(&watch);
	run_script("rm theirs");
	ck_assert(file_watch_deleted(&other));
	file_watch_init(&watch, &bell);
}

/* They have one target: the first to stop doesn't remove it. */
TEST(two_may_watch_one_inode)
{
	run_script("touch it; link it; file it");
	ck_assert_int_eq(file_watch_file(&other, "too"), 0);
	file_watch_stop(&other);
	(void)file_watch_deleted(&watch);
	run_script("away it; KEPT");
}

/* A folder that is made right after the system has refused to watch it. */
static char late_folder[128];

/* A system call that hangs after setting the watch. */
static bool slow;
static struct doorbell kept, enough;

int inotify_add_watch(int fd, const char *path, uint32_t mask);

int
inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	int (*real)(int, const char *, uint32_t) =
	    dlsym(RTLD_NEXT, "inotify_add_watch");
	int result = real(fd, path, mask), error = errno;
	char inside[sizeof(late_folder) + 2];

	snprintf(inside, sizeof(inside), "%s/.", late_folder);
	if (result < 0 && strcmp(path, inside) == 0)
		ck_assert_int_eq(mkdir(late_folder, 0700), 0);
	if (slow) {
		slow = false;
		doorbell_ring(&kept);
		wait_readable(enough.fds[0], -1, INT64_MAX);
	}
	errno = error;
	return result;
}

static void *
watch_sock(void *unused)
{
	(void)unused;
	file_watch_path(&watch, "sock");
	return NULL;
}

/* A file server may be dead. Events that others read meanwhile are not lost. */
TEST(a_slow_lookup_does_not_delay_other_watches)
{
	pthread_t thread;

	ck_assert_int_eq(doorbell_init(&kept), 0);
	ck_assert_int_eq(doorbell_init(&enough), 0);
	descriptors_before += 4;
	touch("theirs");
	ck_assert_int_eq(file_watch_file(&other, "theirs"), 0);
	slow = true;
	ck_assert_int_eq(pthread_create(&thread, NULL, watch_sock, NULL), 0);
	wait_readable(kept.fds[0], -1, INT64_MAX);
	touch("sock");
	ck_assert(!file_watch_deleted(&other));
	ck_assert_int_eq(remove("theirs"), 0);
	ck_assert(file_watch_deleted(&other));
	doorbell_ring(&enough);
	pthread_join(thread, NULL);
	ck_assert(rings(&bell));
	ck_assert(!file_watch_deleted(&watch)); /* of another file */
	touch("sock");
	ck_assert(chmod("sock", 0666) == 0 && appeared());
}

TEST(a_folder_made_between_two_looks_is_not_missed, .count = 2)
{
	static const char *const late[] = { "a", "a/b" };

	if (_i == 1)
		ck_assert_int_eq(mkdir("a", 0700), 0);
	snprintf(late_folder, sizeof(late_folder), "%s", at(late[_i]));
	run_script("watch a/b/sock");
	late_folder[0] = '\0';
	(void)mkdir("a/b", 0700);
	run_script("touch a/b/sock; SEEN");
}
