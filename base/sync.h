/* Mutex and condition variable with clang's thread-safety annotations
 * (-Wthread-safety), and thread names. In C the annotation of a field cannot
 * name its mutex, so guarded fields are marked GUARDED, and functions name the
 * mutex they need (NEEDS). */
#ifndef BASE_SYNC_H
#define BASE_SYNC_H

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define THREAD_SAFETY(x) __attribute__((x))
#else
#define THREAD_SAFETY(x)
#endif

#define GUARDED THREAD_SAFETY(guarded_var)
#define NEEDS(...) THREAD_SAFETY(exclusive_locks_required(__VA_ARGS__))
#define TAKES(...) THREAD_SAFETY(exclusive_lock_function(__VA_ARGS__))
#define TRIES(...) THREAD_SAFETY(exclusive_trylock_function(__VA_ARGS__))
#define GIVES(...) THREAD_SAFETY(unlock_function(__VA_ARGS__))

struct THREAD_SAFETY(capability("mutex")) mutex {
	pthread_mutex_t pthread;
};

/* The calls below fail only on a programming error: locking a mutex twice in
 * one thread, or using an uninitialised one. */
#define MUST(call)                                                             \
	do {                                                                   \
		int must_error = (call);                                       \
		assert(must_error == 0);                                       \
		(void)must_error;                                              \
	} while (0)

static inline void
mutex_init(struct mutex *mutex)
{
	MUST(pthread_mutex_init(&mutex->pthread, NULL));
}

static inline void
mutex_destroy(struct mutex *mutex)
{
	MUST(pthread_mutex_destroy(&mutex->pthread));
}

static inline void
mutex_lock(struct mutex *mutex) TAKES(*mutex)
    THREAD_SAFETY(no_thread_safety_analysis)
{
	MUST(pthread_mutex_lock(&mutex->pthread));
}

static inline bool
mutex_try(struct mutex *mutex) TRIES(true, *mutex)
    THREAD_SAFETY(no_thread_safety_analysis)
{
	return pthread_mutex_trylock(&mutex->pthread) == 0;
}

static inline void
mutex_unlock(struct mutex *mutex) GIVES(*mutex)
    THREAD_SAFETY(no_thread_safety_analysis)
{
	MUST(pthread_mutex_unlock(&mutex->pthread));
}

/* A condition variable whose deadlines are those of clock_now_ms(). */
struct condition {
	pthread_cond_t pthread;
};

#define CONDITION_NO_DEADLINE INT64_MAX

void condition_init(struct condition *condition);

static inline void
condition_destroy(struct condition *condition)
{
	MUST(pthread_cond_destroy(&condition->pthread));
}

static inline void
condition_wake_all(struct condition *condition)
{
	MUST(pthread_cond_broadcast(&condition->pthread));
}

/* Waits until woken or until clock_now_ms() reaches deadline_ms. Spurious
 * wakeups are possible: check the condition in a loop. */
void condition_wait(struct condition *condition, struct mutex *mutex,
    int64_t deadline_ms) NEEDS(*mutex);

/* Names the calling thread for top -H and debuggers: at most 15 bytes. */
void thread_name(const char *name);

#endif
