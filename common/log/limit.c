/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log/limit.h"

#include <string.h>

#include "common/base/ensure.h"

#define WINDOW_US ((int64_t) 1000000)
/* A flood without end is said this often. */
#define FLOOD_US (60 * WINDOW_US)

static struct limit_row *row_of(struct limit *limit, const char *event)
{
    for (size_t i = 0; i < limit->n_rows; i++) {
        if (strncmp(limit->rows[i].event, event, LIMIT_EVENT_BYTES - 1) == 0)
            return &limit->rows[i];
    }
    if (limit->n_rows == LIMIT_ROWS)
        return &limit->rows[LIMIT_ROWS - 1];

    struct limit_row *row = &limit->rows[limit->n_rows++];

    *row = (struct limit_row){ .window_start = { INT64_MIN / 2 } };
    strncpy(row->event, limit->n_rows == LIMIT_ROWS ? "other" : event, LIMIT_EVENT_BYTES - 1);
    return row;
}

bool limit_admit(struct limit *limit, const char *event, mono_us now)
{
    struct limit_row *row = row_of(limit, event);

    if (now.us - row->window_start.us >= WINDOW_US) {
        row->window_start = now;
        row->n_in_window = 0;
    }
    if (row->n_in_window < LIMIT_LINES_PER_SECOND) {
        row->n_in_window++;
        return true;
    }
    if (row->n_suppressed++ == 0)
        row->suppressed_since = now;
    /* One past the limit: this window had too many. */
    row->n_in_window = LIMIT_LINES_PER_SECOND + 1;
    return false;
}

static bool is_due(const struct limit_row *row, mono_us now)
{
    int64_t age_us = now.us - row->window_start.us;

    /* Over when a whole window had no more than it may, or no line at all. */
    if (age_us >= 2 * WINDOW_US)
        return true;
    if (age_us >= WINDOW_US && row->n_in_window <= LIMIT_LINES_PER_SECOND)
        return true;
    return now.us - row->suppressed_since.us >= FLOOD_US;
}

size_t limit_sweep(struct limit *limit, mono_us now, bool is_last, limit_say_fn *say)
{
    size_t n_left = 0;

    ensure(limit->n_rows <= LIMIT_ROWS);

    for (size_t i = 0; i < limit->n_rows; i++) {
        struct limit_row *row = &limit->rows[i];

        if (row->n_suppressed == 0)
            continue;
        if (!is_last && !is_due(row, now)) {
            n_left++;
            continue;
        }
        say(row->event, row->n_suppressed);
        row->n_suppressed = 0;
    }
    return n_left;
}
