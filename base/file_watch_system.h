/* What file_watch.c asks of inotify or kqueue. */
#ifndef BASE_FILE_WATCH_SYSTEM_H
#define BASE_FILE_WATCH_SYSTEM_H

#include <stdbool.h>

/* Returns a descriptor to poll, or -1 with errno. */
int file_watch_system_open(void);

/* Watches a file, or a folder and its entries. Returns its target, or -1 with
 * errno. An inode watched twice may have one target. */
int file_watch_system_add(int fd, const char *path);
void file_watch_system_remove(int fd, int target);

/* Takes all events off the descriptor, without waiting. name: the entry that
 * was made or changed in a folder, or NULL: not known. target -1: events of any
 * target were lost. */
typedef void file_watch_event(int target, const char *name, bool deleted);
void file_watch_system_read(int fd, file_watch_event *event);

#endif
