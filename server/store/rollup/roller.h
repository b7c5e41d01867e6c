#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to making roll-ups: the work on one agent and day, and what waits for the transactions.
 *
 * Thread: the sealer.
 */

#include "server/store/days/scan.h"
#include "server/store/rollup/rollup.h"

struct opened {
    struct found_block found;
    struct block block;
    struct buf room;
};

/* Rows of a layout; some of its columns. */
struct layout_rows {
    uint32_t layout;
    uint32_t columns[ROLL_COLUMNS];
    uint32_t of[ROLL_COLUMNS]; /* the slice's column -> in `columns`; UINT32_MAX: not there */
    size_t n_columns;
    struct rows rows;
};

struct waiting_record {
    enum roll_tier tier;
    struct roll_key key;
    struct day_prefix prefix;
    size_t at, len; /* in bytes */
};

struct waiting_agent {
    struct agent *agent;
    struct roll_mark marks[ROLL_TIERS];
    bool has_mark[ROLL_TIERS];
    size_t spans_at, n_spans; /* in spans */
};

struct roller {
    struct roll_work work;
    struct roll_sheet minutes, hours, old;
    struct buf found;
    struct opened *opened;
    size_t n_opened, opened_capacity;
    struct layout_rows *layouts; /* the slice's first, then those that share series with it */
    size_t n_layouts, layouts_capacity;
    struct roll_source *sources; /* as many as layouts */
    bool are_counters[ROLL_COLUMNS];
    uint32_t columns[ROLL_COLUMNS]; /* 0, 1, 2 ... */
    struct buf room;                /* of rows_add_part() */
    int32_t day;
    struct buf records, agents, bytes, spans;
};

/* The work on one agent and day. */
struct round {
    struct sealer *sealer;
    struct roller *roller;
    struct agent *agent;
    int32_t day;
    int64_t day_us;
    struct day_begun begun;
    struct roll_mark marks[ROLL_TIERS];
    /* Hours, by bits. */
    uint32_t due[ROLL_TIERS];
    uint32_t late[ROLL_TIERS]; /* of them, lost ones: what is newer than the mark joins */
    uint32_t newer[ROLL_TIERS];
    uint32_t chosen, bad;
    uint32_t missing;    /* lost ones in the tier of minutes that the other never had */
    bool is_missing;     /* what is chosen are these */
    bool is_late;        /* what is chosen are late ones, of one tier */
    uint64_t counted;    /* by the windows of those, up to this seal number */
    uint32_t empty;      /* over, and no block meets it: that counts as rolled up */
    struct span layouts; /* u32 */
    uint32_t layout;
    uint16_t slice;
};

/* ---- due.c ---- */

/* Finds what is due of the day's blocks in roller.found, of hours that ended before over_us. */
int roll_find_due(struct round *round, int64_t over_us) MUST_USE;
/* As many hours as go into one round; none: nothing is due. True: there is more than that. */
bool roll_choose(struct round *round);
/* The hours that a block meets. */
uint32_t roll_hours_of(const struct round *round, const struct found_block *found);

/* ---- load.c: blocks opened, and the rows of a slice in them ---- */

/* Opens those of the chosen hours; appends the ids (u32) of the layouts in them. */
int roll_open_blocks(struct round *round, struct buf *layouts) MUST_USE;
/* Columns [first, first + n) of a layout, and of the others that share series with them. */
int roll_load_slice(struct round *round,
                    const struct store_layout *own,
                    size_t first,
                    size_t n) MUST_USE;

/* ---- rollup.c ---- */

/* Of columns [first, first + n), into roller.are_counters. */
void roll_find_counters(struct round *round,
                        const struct store_layout *layout,
                        size_t first,
                        size_t n);
/* Queues the day's record: the hours in roller.hours, and what it has of others. */
int roll_day(struct round *round) MUST_USE;

/* ---- missing.c ---- */

/* Queues records of the tier of hours, made of windows of minutes. */
int roll_missing(struct round *round) MUST_USE;

/* ---- commit.c ---- */

/* roller_commit(). Outcomes: STORE_FULL. */
int roll_commit(struct sealer *sealer) MUST_USE;
