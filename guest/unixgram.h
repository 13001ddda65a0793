/* A guest at a path: found by what it sends, and found again after each restart.
 *
 * While nobody is the guest, the first sender with a name becomes it, and our
 * socket is connected to the sender's. From then on the kernel lets nobody else
 * send to us, and doesn't report who tried. So a guest that restarted is found
 * by its file, which main() watches, or by a send that is refused.
 *
 *      state      the guest's file          main() looks at the path
 *      ABSENT     there is no guest         never
 *      ABSTRACT   it never had one          never
 *      WATCHED    is at its path            when the watch reports a change
 *      FILELESS   is no longer there        every second
 *      UNWATCHED  can't be watched          every second
 *
 * FILELESS: a live guest's file may be removed (a cleaner of /tmp). The
 * connection still works both ways, and could never be made again: it is kept.
 * UNWATCHED: the system gives a user only so many watches, and none of a file
 * that the user may not read.
 *
 * Attaching connects our socket to a guest's. It ends in one of the last four
 * states, with a new guest; or in ABSENT, if nobody answers.
 *
 *      event                           what follows
 *      a frame from another sender     attach to it, unless it is a stranger's
 *      a refused send                  nothing, if the guest still answers;
 *                                      else attach at its path
 *      main() looks at the path:       guest's socket is open   it is closed
 *        the guest's file is there     WATCHED                  attach
 *        nothing is there              FILELESS                 ABSENT
 *        another file is there         attach, if it answers;   attach
 *                                      else FILELESS
 *      (UNWATCHED stays UNWATCHED where this table says WATCHED or FILELESS.)
 *
 * Where others may write the folder, anybody may bind the path of a guest that
 * restarts. So the file's owner decides who is a stranger (trust.h).
 *
 * Frames that the old guest had queued are thrown away by attaching; they are
 * read and counted first. Those that the kernel throws away when it refuses a
 * send can't be counted.
 *
 * Our own socket's file may be removed, too. Then a new socket, the successor,
 * is bound to the path. The guest that is connected to the old socket stays.
 * The successor replaces the old one as soon as nobody is connected to that:
 * at once, when the guest is found gone, or when a frame of another guest
 * arrives at the successor.
 *
 * The lock orders the threads that may connect the socket: fwd-up (a new
 * sender), fwd-down (a refused send) and main() (the file). No call under it
 * blocks: connect() of a datagram socket doesn't, nor does the log. */
#ifndef GUEST_UNIXGRAM_H
#define GUEST_UNIXGRAM_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/file_watch.h"
#include "base/sync.h"
#include "base/wait.h"

enum unixgram_state {
	UNIXGRAM_ABSENT,
	UNIXGRAM_ABSTRACT,
	UNIXGRAM_WATCHED,
	UNIXGRAM_FILELESS,
	UNIXGRAM_UNWATCHED,
};

/* The name that a socket is bound to. */
struct unixgram_name {
	struct sockaddr_un address;
	socklen_t length;
	/* As text, with a final zero; an abstract name begins with @. */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 2];
};

struct unixgram {
	struct mutex lock;
	enum unixgram_state state GUARDED;
	struct unixgram_name peer GUARDED; /* the guest's; empty if ABSENT */
	ino_t inode GUARDED;               /* of its file */
	int64_t changed_ns GUARDED;        /* when that file was */
	struct file_watch watch GUARDED;   /* of that file */
	int watch_error GUARDED;   /* errno of the last try, logged; or 0 */
	struct doorbell bell;      /* rings for main(): a new guest, its file */
	int successor GUARDED;     /* descriptor, or -1 */
	atomic_bool succeeded;     /* a successor was used: it woke recv() */
	uint64_t guests GUARDED;   /* so far; the number of the last one */
	ino_t stranger GUARDED;    /* the file that was last warned of */
	uint64_t refusing GUARDED; /* the guest that was last warned of */
	struct sockaddr_un heard;  /* fwd-up's own: the last sender */
	socklen_t heard_length;
};

#endif
