/* A model of the link's protocol. It is checked for every order in which these
 * threads can run: a borrower (fwd-up), the reader (fwd-down), fwd-link, the thread
 * that stops the link, and a stranger. The stranger opens and closes descriptors
 * of its own, so that the system reuses their numbers.
 *
 * Assertions, and the absence of deadlocks, prove that
 *  - a descriptor is never closed while it is on loan;
 *  - no thread uses a number that belongs to the stranger;
 *  - every descriptor is closed exactly once;
 *  - of several reports about a generation the first counts; a late one does
 *    nothing;
 *  - the reader gets every generation in order, even one that has ended, unless
 *    the link is stopped;
 *  - after the stop every waiter wakes and every thread ends.
 *
 * An atomic block stands for a section under the link's lock, an atomic operation
 * or a system call. Each BREAK_ macro breaks one rule of the protocol;
 * tests/model/run checks that spin then finds an error. */

#define GENERATIONS 2
#define BORROWERS 2
#define READER 1  /* this borrower is the reader */
#ifdef BREAK_READERS_HOLD
#define HOLDERS 1
#else
#define HOLDERS 2 /* the link while current, and the reader */
#endif
#define NUMBERS 3 /* descriptor numbers, 0 to 2 */

#define FREE 0 /* other values of owner: a generation, or */
#define STRANGER 99

mtype = { DOWN, UP, STOPPED };

/* The system. */
byte owner[NUMBERS];
bool shut[GENERATIONS + 1]; /* shutdown() was called */

/* The link. */
mtype state = DOWN;
byte current = 0; /* generation; 0: none */
byte made = 0;    /* connections */
byte made_up = 0; /* connections installed before the stop */
bool bell = false;
bool waiting[BORROWERS]; /* on the condition variable */
byte number[GENERATIONS + 1];
byte holders[GENERATIONS + 1];
byte borrowed = 0; /* the last generation that the reader got or skipped */

/* Only for assertions. */
byte loans[GENERATIONS + 1];
byte closed[GENERATIONS + 1];
byte outages[GENERATIONS + 1];
byte running = 0;

inline wake_all()
{
	waiting[0] = false;
	waiting[1] = false;
}

inline close_number(c)
{
	atomic {
		assert(loans[c] == 0);
		assert(closed[c] == 0);
		assert(owner[number[c]] == c);
		owner[number[c]] = FREE;
		closed[c]++;
	}
}

inline release(c)
{
#ifdef BREAK_COUNT_OF_HOLDERS
	left = holders[c];
	left = left - 1;
	holders[c] = left;
#else
	atomic {
		holders[c]--;
		left = holders[c];
	}
#endif
	if
	:: left == 0 -> close_number(c)
	:: else -> left = 0 /* reset: fewer states to search */
	fi
}

inline shut_down(c)
{
#ifdef BREAK_SHUTDOWN
	skip
#else
	atomic {
		assert(owner[number[c]] == c);
		shut[c] = true;
	}
#endif
}

inline retire(c)
{
	if
	:: c != 0 ->
		shut_down(c);
#ifdef BREAK_LAST_LOAN_CLOSES
		close_number(c)
#else
		release(c)
#endif
	:: else
	fi
}

inline fail(c)
{
	atomic {
		ended = 0;
		if
#ifdef BREAK_LATE_REPORT
		:: current != 0 ->
#else
		:: current == c ->
#endif
			assert(current == c);
			ended = current;
			current = 0;
			state = DOWN;
			outages[c]++
#ifdef BREAK_FIRST_REPORT
		:: current != c -> outages[c]++
#endif
#ifdef BREAK_CLOSED_ONCE
		:: current != c -> ended = c
#endif
		:: else
		fi;
		assert(outages[c] <= 1)
	}
	retire(ended);
	if
	:: ended != 0 -> atomic { bell = true; ended = 0 }
	:: else
	fi
}

/* A system call on the descriptor's number. */
inline use(c)
{
	assert(owner[number[c]] == c)
}

proctype borrower(byte me)
{
	byte loan, ended, left;

again:	atomic {
		loan = 0;
		if
		:: state == STOPPED -> goto done
		:: state != STOPPED && me == READER && borrowed < made_up ->
			borrowed++;
			loan = borrowed; /* takes over the reader's hold */
			assert(closed[loan] == 0);
			loans[loan]++
		:: state == UP && me != READER ->
			loan = current;
			holders[loan]++;
			loans[loan]++
		:: else ->
#ifndef BREAK_WAIT
			waiting[me] = true
#endif
		fi
	}
	if
	:: loan == 0 ->
#ifdef BREAK_WAIT
		waiting[me] = true;
#endif
		!waiting[me];
		goto again
	:: else
	fi;
	do
	:: use(loan) /* forwards a batch */
	:: use(loan); shut[loan]; break /* blocked until the shutdown */
	:: use(loan); fail(loan); break /* the peer closed it */
	:: me != READER -> break
	od;
	atomic { loans[loan]--; }
	release(loan);
#ifdef BREAK_RETURN_ENDS_THE_LOAN
	use(loan);
#endif
	goto again;
done:	running--
}

/* Takes the lowest free number, as POSIX requires. */
inline open_number(who, which)
{
	which = (owner[0] == FREE -> 0 : (owner[1] == FREE -> 1 : 2));
	assert(owner[which] == FREE);
	owner[which] = who
}

inline install()
{
	atomic {
		if
#ifndef BREAK_INSTALL_AFTER_STOP
		:: state == STOPPED -> stopped = true
#endif
		:: else ->
			current = made;
			made_up = made;
			state = UP;
			wake_all()
		fi
	}
	if
	:: stopped -> atomic { holders[made] = 0; }; close_number(made)
	:: else
	fi
}

proctype fwd_link()
{
	byte left;
	mtype seen;
	bool stopped = false;

	do
	:: bell = false;
		seen = state;
		if
		:: seen == STOPPED -> break
		:: seen == UP -> bell
		:: seen == DOWN && made == GENERATIONS -> bell
		:: seen == DOWN && made < GENERATIONS ->
			atomic {
				made++;
				open_number(made, number[made]);
				holders[made] = HOLDERS
			}
			install()
		fi
	od;
	running--
}

proctype stopper()
{
	byte ended, left, unread;

	atomic {
		ended = current;
		current = 0;
		unread = borrowed;
#ifndef BREAK_STOP_RELEASES
		borrowed = made_up;
#endif
		state = STOPPED;
#ifndef BREAK_WAKE
		wake_all()
#endif
	}
	retire(ended);
#ifndef BREAK_STOP_RELEASES
	do
	:: unread < borrowed -> unread++; release(unread)
	:: else -> break
	od;
#endif
#ifndef BREAK_BELL
	bell = true;
#endif
	running--
}

proctype stranger()
{
	byte mine;

	do
	:: atomic {
			owner[0] == FREE || owner[1] == FREE ||
				owner[2] == FREE ->
			open_number(STRANGER, mine)
		}
		atomic {
			assert(owner[mine] == STRANGER);
			owner[mine] = FREE;
			mine = 0
		}
	:: break
	od;
	running--
}

init
{
	byte i;

	atomic {
		running = BORROWERS + 3;
		run borrower(0);
		run borrower(1);
		run fwd_link();
		run stopper();
		run stranger()
	}
	running == 0;
	for (i : 1 .. GENERATIONS) {
		assert(i > made || closed[i] == 1);
	}
}
