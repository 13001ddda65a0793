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
 * FILELESS: a live guest's file may go (a cleaner of /tmp). The connection goes
 * on working both ways, and could never be made again, so it is kept.
 * UNWATCHED: the system gives a user only so many watches, and none of a file
 * that the user may not read.
 *
 * To attach is to connect to the socket at an address. It leads to one of the
 * last four states, with a new guest; or to ABSENT, if nobody answers there.
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
 * A stranger: where others may write the folder, anybody may bind the path of a
 * guest that restarts, so the file's owner decides (trust.h).
 *
 * Attaching throws away what the old guest had queued; it is read and counted
 * first. What the kernel throws away when it refuses a send, nobody can count.
 *
 * Our own socket's file may be removed, too. Then a new socket, the successor,
 * is bound to the path. The guest that is connected to the old one goes on as
 * before. The successor takes the old one's place when nobody is connected to
 * that, before another guest is, and when a frame arrives at the successor.
 *
 * The lock orders the threads that may connect the socket: fwd-up (a new
 * sender), fwd-down (a refused send) and main() (the file). It is held across
 * no call that blocks: connect() of a datagram socket doesn't. */
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

struct unixgram {
	struct mutex lock;
	enum unixgram_state state GUARDED;
	struct sockaddr_un peer GUARDED; /* the guest's address */
	socklen_t peer_length GUARDED;   /* 0: ABSENT */
	ino_t inode GUARDED;             /* of its file */
	int64_t changed_ns GUARDED;      /* when that file was */
	struct file_watch watch GUARDED; /* of that file */
	int watch_error GUARDED;   /* why it couldn't be set, as logged; or 0 */
	struct doorbell bell;      /* rings for main(): a new guest, its file */
	int successor GUARDED;     /* descriptor, or -1 */
	atomic_bool succeeded;     /* fwd-up was woken in recv() by that */
	uint64_t guests GUARDED;   /* there were so far; numbers them */
	ino_t stranger GUARDED;    /* file that was warned of last */
	uint64_t refusing GUARDED; /* guest that was warned of last */
	struct sockaddr_un heard;  /* fwd-up's own: the last sender */
	socklen_t heard_length;
};

#endif
