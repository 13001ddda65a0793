/* A model of link_watch(): fwd-up, which has kept frames, waits for the link and
 * for its guest at once. The guest sends nothing. fwd-link makes generations,
 * each of which may end at any time; another thread stops the link.
 *
 * Assertions, and the absence of deadlocks, prove that
 *  - fwd-up does not sleep while a generation is up, unless its ring is to come;
 *  - after the stop fwd-up ends.
 *
 * An atomic block stands for a section under the link's lock, an atomic operation
 * or a system call. Each BREAK_ macro breaks one rule; tests/model/run checks that
 * spin then finds an error. */

#define GENERATIONS 3

mtype = { DOWN, UP, STOPPED };

mtype state = DOWN;
bool watched = false;
bool bell = false;
bool ringing = false; /* a generation is up, and wake_waiters() is not done */

inline wake_waiters()
{
	bool rings;

	atomic { rings = watched; watched = false; }
	if
	:: rings -> bell = true
	:: else
	fi
}

proctype fwd_up()
{
	bool down;

	do
	::
#ifndef BREAK_CLEARED_FIRST
		bell = false;
#endif
#ifdef BREAK_UNDER_LOCK
		down = state == DOWN;
		watched = down;
#else
		atomic { down = state == DOWN; watched = watched || down; }
#endif
#ifdef BREAK_CLEARED_FIRST
		bell = false;
#endif
		if
		:: down ->
			assert(state != UP || ringing || bell);
			bell
		:: else
		fi;
		if
		:: state == STOPPED -> break
		:: state != STOPPED /* writes to the generation, if it is up */
		fi
	od
}

proctype fwd_link()
{
	byte made = 0;

	do
	:: made == GENERATIONS -> break
	:: made < GENERATIONS ->
		made++;
		atomic {
			if
			:: state == STOPPED -> break
			:: else -> state = UP; ringing = true
			fi
		}
#ifndef BREAK_UP_RINGS
		wake_waiters();
#endif
		ringing = false;
		atomic {
			if
			:: state == UP -> state = DOWN
			:: else
			fi
		}
	od
}

proctype stopper()
{
	atomic { state = STOPPED; }
#ifndef BREAK_STOP_RINGS
	wake_waiters()
#endif
}

init
{
	atomic {
		run fwd_up();
		run fwd_link();
		run stopper()
	}
}
