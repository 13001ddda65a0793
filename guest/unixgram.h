/* A guest that uses a Unix datagram socket at a path. It is identified by the
 * sender address of its frames.
 *
 * While there is no guest, the first sender whose socket is bound becomes the
 * guest, and forwarder's socket is connected to it. The kernel then rejects
 * frames from other senders without notifying forwarder. A restart of the guest
 * is therefore detected by a change of its socket file, or by a send that
 * fails.
 *
 *      state      the guest's file            main() wakes to check it
 *      ABSENT     (there is no guest)         never
 *      ABSTRACT   none: an abstract address   never
 *      WATCHED    is at its path              when the watch reports a change
 *      FILELESS   is no longer at its path    every second
 *      UNWATCHED  can't be watched            every second
 *
 * In the last three states main() also checks the file whenever it wakes for
 * another reason.
 *
 * FILELESS: the file of a running guest was removed, for example by a program
 * that cleans /tmp. The connection still works in both directions, but could
 * not be made again, so it is kept. UNWATCHED: the user's limit of watches is
 * reached, or the user may not read the file.
 *
 * Attaching connects forwarder's socket to a guest's. The next state is
 * ABSTRACT, WATCHED or UNWATCHED, with a new guest; or ABSENT if the connection
 * fails or the guest is a stranger.
 *
 *      event                           action
 *      a frame from another sender     attach to it, unless it is a stranger
 *      a send fails                    nothing, if the guest's file is at its
 *                                      path and accepts a connection; else
 *                                      attach to the socket at its path
 *      main() checks the path:         guest's socket is open   it is closed
 *        the guest's file is there     WATCHED                  attach
 *        nothing is there              FILELESS                 ABSENT
 *        another file is there         attach, if it accepts a  attach
 *                                      connection; else
 *                                      FILELESS
 *      (UNWATCHED stays UNWATCHED where this table says WATCHED or FILELESS.)
 *
 * An inherited socket may be connected to a guest already, which is then the
 * guest from the start. forwarder connects again: that discards no frames, and
 * reaches the socket that is now at the guest's path. The next state is that
 * after attaching; but FILELESS if the file is missing or can't be reached, and
 * ABSENT if the socket at the path has been closed. A second inherited socket
 * that is not connected is the successor, if it has the file at forwarder's
 * path.
 *
 * In a directory that other users can write to, any user can bind the path of a
 * guest that restarts. A guest is a stranger if the owner of its file is not
 * trusted (trust.h).
 *
 * Attaching discards the frames queued by the old guest; they are read and
 * counted first. Frames that the kernel discards when a send fails can't be
 * counted.
 *
 * The file of forwarder's own socket may be removed, too. Then a new socket,
 * the successor, is bound to the path. A guest connected to the old socket
 * keeps using it. The successor replaces the old socket at once if there is no
 * guest; otherwise when the guest is gone or replaced, or when a frame from
 * another guest arrives at the successor.
 *
 * The lock serialises the threads that may connect the socket: fwd-up (a new
 * sender), fwd-down (a failed send) and main() (the file). It is held during
 * lstat(), watching and connect(), which may block if the path is on a dead
 * file server. Nothing else under it blocks. */
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
	struct unixgram_name peer GUARDED; /* of the guest; empty if ABSENT */
	ino_t inode GUARDED;               /* of the guest's file */
	int64_t changed_ns GUARDED;        /* ctime of that file */
	struct file_watch watch GUARDED;   /* of that file */
	int watch_error GUARDED; /* last error of the watch, logged; or 0 */
	struct doorbell bell;    /* wakes main(): new guest, or file changed */
	int successor GUARDED;   /* descriptor, or -1 */
	atomic_bool fd_replaced; /* by a successor, which woke recv() */
	uint64_t guests GUARDED; /* attached so far; number of the last one */
	ino_t logged_stranger GUARDED; /* inode of the last one logged */
	/* number of the last guest logged as refusing frames */
	uint64_t logged_refusing GUARDED;

	struct sockaddr_un last_sender; /* used by fwd-up only */
	socklen_t last_sender_length;
};

#endif
