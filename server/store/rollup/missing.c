/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Hours of a day that was lost before the tier of hours had them: the windows of minutes that are
 * left of it, one behind the other, as one. Layout by layout of those that have windows, which may
 * be more than have blocks.
 */

#include <errno.h>
#include <limits.h>

#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/rollup/roller.h"
#include "server/store/whole.h"

/* The record's windows into those of its hour. */
static void add_hour(struct round *round, size_t hour)
{
    struct roller *roller = round->roller;
    const struct roll_sheet *minutes = &roller->minutes;
    struct roll_row *to = &roller->hours.rows[hour];
    int64_t begin_us = round->day_us + (int64_t) hour * STORE_HOUR_US;

    for (size_t i = 0; i < minutes->n_rows; i++) {
        if (to->n_rows == 0)
            to->first_us = minutes->rows[i].first_us;
        to->begin_us = begin_us;
        to->n_rows += minutes->rows[i].n_rows;
        to->last_us = minutes->rows[i].last_us;
        for (size_t c = 0; c < minutes->n_columns; c++) {
            const struct store_window *window = roll_at(minutes, i, c);
            struct store_window *all = roll_at(&roller->hours, hour, c);

            if (window->n_samples == 0)
                continue;
            if (all->n_samples)
                store_window_append(all, window, roller->are_counters[c]);
            else
                *all = *window;
            all->begin_us = begin_us;
        }
    }
}

static int
add_record(struct round *round, const struct roll_key *key, MDB_val k, MDB_val v, size_t n_columns)
{
    struct roller *roller = round->roller;
    const struct roll_wish all = { ROLL_MINUTES, UINT_MAX, roller->columns, n_columns };
    size_t hour = (size_t) ((key->begin_us - round->day_us) / STORE_HOUR_US);
    struct day_prefix prefix;
    struct span block;
    int r = BLOCK_BAD;

    if (!(round->missing >> hour & 1))
        return 0;
    if (day_prefix_get(k, v, &prefix, &block))
        r = roll_decode(&roller->work, key, &all, block, &roller->minutes);
    if (r < 0)
        return pass(r);
    if (r)
        log_peer(LOG_ERROR, "rollup_damaged", LOG_U("agent", key->agent),
                 LOG_I("begin_us", key->begin_us));
    else
        add_hour(round, hour);
    return 0;
}

static void note_span(struct round *round)
{
    const struct roll_sheet *hours = &round->roller->hours;
    struct day_span span = { .layout = round->layout, .first_us = INT64_MAX };

    for (size_t h = 0; h < DAY_HOURS; h++) {
        if (hours->rows[h].n_rows == 0)
            continue;
        if (span.first_us == INT64_MAX)
            span.first_us = hours->rows[h].first_us;
        span.last_us = hours->rows[h].last_us;
    }
    if (round->slice == 0 && span.first_us != INT64_MAX)
        buf_append(&round->roller->spans, &span, sizeof(span));
}

/* A slice's records of the day; the cursor is somewhere in the slice. */
static int add_slice(struct round *round,
                     MDB_cursor *cursor,
                     const struct roll_key *slice,
                     const struct store_layout *layout)
{
    struct roller *roller = round->roller;
    size_t first = (size_t) slice->slice * ROLL_COLUMNS, n_columns = layout->n_columns - first;
    struct roll_key key = *slice;
    uint8_t name[ROLL_KEY_BYTES];
    MDB_val k = db_val(name, sizeof(name)), v;
    int r, rc;

    n_columns = n_columns < ROLL_COLUMNS ? n_columns : ROLL_COLUMNS;
    roll_find_counters(round, layout, first, n_columns);
    r = roll_sheet_begin(&roller->hours, n_columns);
    roller->hours.n_rows = DAY_HOURS;
    key.begin_us = round->day_us;
    roll_key_put(name, &key);
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    for (; !rc && !r; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        if (!roll_key_get(k, &key) || key.agent != slice->agent || key.layout != slice->layout ||
            key.slice != slice->slice || key.begin_us >= round->day_us + DAY_US)
            break;
        r = add_record(round, &key, k, v, n_columns);
    }
    if (r)
        return pass(r);
    if (rc && rc != MDB_NOTFOUND)
        return db_is_damage(rc) ? STORE_NOT_FOUND : fold(db_check(rc, "cannot read roll-ups"));
    round->layout = slice->layout;
    round->slice = slice->slice;
    note_span(round);
    return pass(roll_day(round));
}

/* Outcomes: STORE_NOT_FOUND (pages lead nowhere). */
static int add_slices(struct round *round, struct day *period, MDB_txn *txn)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    struct roll_key at = { .agent = round->agent->facts.number, .begin_us = INT64_MIN };
    int r = 0, rc = mdb_cursor_open(txn, period->blocks, &cursor);

    while (!rc && !r) {
        uint8_t name[ROLL_KEY_BYTES];
        MDB_val k = db_val(name, sizeof(name)), v;
        const struct store_layout *layout;
        struct roll_key key;

        roll_key_put(name, &at);
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        if (rc || !roll_key_get(k, &key) || key.agent != at.agent)
            break;
        layout = catalog_layout(&round->sealer->store->catalog, key.layout);
        if (layout && (size_t) key.slice * ROLL_COLUMNS < layout->n_columns)
            r = add_slice(round, cursor, &key, layout);
        at = (struct roll_key){ key.agent, key.layout, key.slice, INT64_MAX };
    }
    if (r)
        return pass(r);
    if (db_is_damage(rc))
        return STORE_NOT_FOUND;
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : fold(db_check(rc, "cannot read roll-ups"));
}

int roll_missing(struct round *round)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct days *days = &round->sealer->store->rolled[ROLL_MINUTES];
    struct day *period;
    int r = days_use(days, days->kind->of(round->day_us), &period);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    r = db_check(mdb_txn_begin(period->env, NULL, MDB_RDONLY, &txn),
                 "cannot begin to read roll-ups");
    if (!r)
        r = add_slices(round, period, txn);
    if (r == STORE_NOT_FOUND) {
        day_found_damage(period, "pages that lead nowhere");
        r = 0;
    }
    if (txn)
        mdb_txn_abort(take(txn));
    days_release(days, period);
    return pass(r);
}
