#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Limit: how many lines of each event name a second may have, and how many were not written.
 * Private to log.
 *
 * Threads: none; the log's lock is around every call.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"

#define LIMIT_LINES_PER_SECOND 10
#define LIMIT_EVENT_BYTES 48
/* More names than these share the last row. */
#define LIMIT_ROWS 64

struct limit_row {
    char event[LIMIT_EVENT_BYTES];
    mono_us window_start;
    unsigned n_in_window;
    uint64_t n_suppressed;
    mono_us suppressed_since;
};

struct limit {
    struct limit_row rows[LIMIT_ROWS];
    size_t n_rows;
};

/* Says that `n_lines` lines of the event were not written. */
typedef void limit_say_fn(const char *event, uint64_t n_lines);

/* Whether a line of this event may be written now. */
bool limit_admit(struct limit *limit, const char *event, mono_us now);

/*
 * Says what was suppressed in floods that have ended (or that go on for a minute); with `is_last`,
 * in all. Returns how many rows still have something to say.
 */
size_t limit_sweep(struct limit *limit, mono_us now, bool is_last, limit_say_fn *say);
