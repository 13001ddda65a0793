/* Between file_watch.c and the system's part of it. */
#ifndef BASE_FILE_WATCH_SYSTEM_H
#define BASE_FILE_WATCH_SYSTEM_H

enum file_event_kind {
	FILE_EVENT_NAMED,   /* the folder's entry `name` was made or changed */
	FILE_EVENT_CHANGED, /* the folder or file was, it isn't known how, or
			       was moved */
	FILE_EVENT_DELETED, /* it exists no more, under any name */
	FILE_EVENT_LAST,    /* it is watched no more */
	FILE_EVENT_LOST,    /* events of any target were lost */
};

struct file_event {
	enum file_event_kind kind;
	int target;
	const char *name;
};

/* Returns a descriptor to poll, or -1 with errno. */
int file_watch_system_open(void);

/* Watches a folder or a file until file_watch_system_remove(). Returns a
 * target, or -1 with errno. Two watches of one inode may be one target. */
int file_watch_system_folder(int fd, const char *folder);
int file_watch_system_file(int fd, const char *path);
void file_watch_system_remove(int fd, int target);

/* Takes all events off the descriptor, without waiting. */
void file_watch_system_read(
    int fd, void (*heard)(const struct file_event *event));

#endif
