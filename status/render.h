/* What `forwarder status` shows to people, and what the log says on SIGUSR1.
 * Plain text: whoever draws it on a terminal brings the escape sequences. */
#ifndef STATUS_RENDER_H
#define STATUS_RENDER_H

#include "status/status.h"

#define RENDER_BYTES 16384

/* A few lines about everything. */
void render_status(struct text *t, const struct status *now);

/* Rates and what goes wrong, as a table or as one line. `before` is a zeroed
 * status the first time: then the rates are averages since the start, and so
 * they are when the forwarder was started anew in between. */
void render_table(
    struct text *t, const struct status *before, const struct status *now);
void render_line(
    struct text *t, const struct status *before, const struct status *now);

/* Writes the status to the log, a line a section. */
void render_log(const struct status *now);

#endif
