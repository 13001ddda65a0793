/* What file_watch.c needs of inotify or kqueue. */
#ifndef BASE_FILE_WATCH_SYSTEM_H
#define BASE_FILE_WATCH_SYSTEM_H

#include <stdbool.h>

/* Returns a descriptor to poll, or -1 with errno. */
int file_watch_system_open(void);

/* Watches a file, or a folder and its entries. Returns a target, or -1 with
 * errno. Two watches of one inode may get the same target. */
int file_watch_system_add(int fd, const char *path);
void file_watch_system_remove(int fd, int target);

/* Reads all pending events without waiting. name is the entry that was created
 * or changed in a folder, or NULL if not known. target is -1 if events of any
 * target were lost. */
typedef void file_watch_event(int target, const char *name, bool deleted);
void file_watch_system_read(int fd, file_watch_event *event);

#endif
