/* The table of `forwarder status --all`: a line for each forwarder. */
#ifndef STATUS_TABLE_H
#define STATUS_TABLE_H

#include "status/ask.h"
#include "status/rates.h"

/* Adds a heading, a line for each answer, and how many forwarders are up, down
 * or did not answer. The columns are as wide as their widest text. Traffic is
 * in Mbit/s since before[i], the earlier sample of answers[i], or in bytes if
 * `before` is NULL. */
void table_add(struct text *t, const struct answer *answers, size_t count,
    const struct rates_sample *before);

#endif
