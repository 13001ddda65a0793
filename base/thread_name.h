/* The calling thread's name, as top -H and debuggers show it. */
#ifndef BASE_THREAD_NAME_H
#define BASE_THREAD_NAME_H

/* At most 15 bytes, Linux's limit. */
void thread_name(const char *name);

#endif
