/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading roll-ups.
 *
 * What is ready is looked for in this order: rows in the heads, then blocks, then marks. A row is
 * in a head until its block is there, and a mark counts blocks that are there: whatever is
 * committed or rolled up meanwhile, an hour that is found ready has all rows of when it began. A
 * lost hour (rollup.h) is ready without those that wait for joining its windows.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/days/scan.h"
#include "server/store/rollup/rollup.h"
#include "server/store/whole.h"

static enum roll_tier tier_of(int64_t window_us)
{
    ensure(window_us == STORE_MINUTE_US || window_us == STORE_HOUR_US);
    return window_us == STORE_MINUTE_US ? ROLL_MINUTES : ROLL_HOURS;
}

/* ---- what is ready ---- */

static void note_hour(struct buf *hours, int64_t begin_us)
{
    buf_append(hours, &begin_us, sizeof(begin_us));
}

static void note_heads(struct agent *agent, struct store_stretch range, struct buf *hours)
{
    pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < agent->heads.n_heads; i++) {
        const struct head *head = &agent->heads.heads[i];
        struct head_row from = { .time_us = range.from_us };
        size_t at = head_seek(head, &from, true);

        while (at < head->n_rows && head->rows[at].time_us < range.to_us) {
            int64_t hour_us = floor_to_us(head->rows[at].time_us, STORE_HOUR_US);
            struct head_row next = { .time_us = hour_us + STORE_HOUR_US };

            note_hour(hours, hour_us);
            at = head_seek(head, &next, true);
        }
    }
    pthread_mutex_unlock(&agent->lock);
}

static int find_mark(struct store *store,
                     enum roll_tier tier,
                     uint32_t agent,
                     int32_t day,
                     struct roll_mark *ret)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct days *days = &store->rolled[tier];
    struct day *period;
    int r = days_use(days, days->kind->of(day * DAY_US), &period);

    *ret = (struct roll_mark){ 0 };
    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    r = db_check(mdb_txn_begin(period->env, NULL, MDB_RDONLY, &txn),
                 "cannot begin to read roll-ups");
    if (!r)
        r = roll_mark_get(period, txn, agent, day, ret);
    if (txn)
        mdb_txn_abort(take(txn));
    days_release(days, period);
    return pass(r);
}

/* What there is of a day; begun is the day's. */
struct day_blocks {
    bool has_day;
    uint64_t begun;
    struct buf found;
};

static int find_day_blocks(struct store *store,
                           const struct find_blocks *find,
                           int32_t number,
                           struct day_blocks *ret)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    uint64_t n_damaged = 0;
    struct day *day;
    int r = days_use(&store->days, number, &day);

    buf_clear(&ret->found);
    ret->has_day = r == 0;
    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    ret->begun = day->begun.seal;
    r = db_check(mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn), "cannot begin to read a day");
    if (!r)
        r = found_blocks(day, txn, find, &ret->found, &n_damaged);
    if (r == STORE_NOT_FOUND) {
        day_found_damage(day, "pages that lead nowhere");
        r = 0;
    }
    if (txn)
        mdb_txn_abort(take(txn));
    days_release(&store->days, day);
    return pass(r);
}

/* Hours of a day that blocks or heads (hours' begins in `heads`) meet, which the mark does not
 * count. */
static int note_day(struct store *store,
                    const struct find_blocks *find,
                    enum roll_tier tier,
                    int32_t number,
                    struct day_blocks *room,
                    const struct buf *heads,
                    struct buf *hours)
{
    const int64_t *begins_us = (const void *) heads->data;
    const struct found_block *blocks;
    struct roll_mark mark;
    uint32_t lost;
    int r = find_day_blocks(store, find, number, room);

    if (!r)
        r = find_mark(store, tier, find->agent, number, &mark);
    if (r)
        return pass(r);
    lost = roll_lost(&mark, room->has_day, room->begun);
    blocks = (const void *) room->found.data;
    for (uint32_t h = 0; h < DAY_HOURS; h++) {
        int64_t begin_us = number * DAY_US + h * STORE_HOUR_US;
        bool is_ready = true;

        for (size_t i = 0; i < room->found.len / sizeof(*blocks); i++)
            if (blocks[i].key.first_us < begin_us + STORE_HOUR_US &&
                blocks[i].prefix.last_us >= begin_us &&
                (blocks[i].key.seal > mark.seal || !(mark.hours >> h & 1)))
                is_ready = false;
        for (size_t i = 0; i < heads->len / sizeof(*begins_us) && is_ready; i++)
            is_ready = begins_us[i] != begin_us;
        if (!is_ready && !(lost >> h & 1))
            note_hour(hours, begin_us);
    }
    return pass(r);
}

/* The next day that has blocks or is in a head. */
static int32_t next_day(struct store *store, const struct buf *heads, int32_t number)
{
    const int64_t *begins_us = (const void *) heads->data;
    int32_t next = days_next(&store->days, number);

    for (size_t i = 0; i < heads->len / sizeof(*begins_us); i++) {
        int32_t day = day_of(begins_us[i]);

        if (day >= number && day < next)
            next = day;
    }
    return next;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;

    return (x > y) - (x < y);
}

/* What is left of the range without those hours. */
static int cut_hours(struct store_stretch range,
                     struct buf *hours,
                     struct arena *arena,
                     struct store_stretch **ret,
                     size_t *ret_n)
{
    int64_t *begins_us = (void *) hours->data, at_us = range.from_us;
    size_t n_hours = hours->len / sizeof(*begins_us), n = 0;
    struct store_stretch *stretches = arena_alloc_array(arena, n_hours + 1, sizeof(*stretches));

    if (!stretches)
        return fault(-ENOMEM, "no room for what is rolled up");
    if (n_hours > 1)
        qsort(begins_us, n_hours, sizeof(*begins_us), by_time);
    for (size_t i = 0; i < n_hours; i++) {
        if (begins_us[i] > at_us && begins_us[i] < range.to_us)
            stretches[n++] = (struct store_stretch){ at_us, begins_us[i] };
        if (begins_us[i] + STORE_HOUR_US > at_us)
            at_us = begins_us[i] + STORE_HOUR_US;
    }
    if (at_us < range.to_us)
        stretches[n++] = (struct store_stretch){ at_us, range.to_us };
    *ret = stretches;
    *ret_n = n;
    return 0;
}

int store_windows_ready(struct store *store,
                        uint32_t agent_number,
                        int64_t window_us,
                        struct store_stretch range,
                        struct arena *arena,
                        struct store_stretch **ret,
                        size_t *ret_n)
{
    CLEANUP(buf_deinit) struct buf heads = { 0 }, hours = { 0 };
    struct agent *agent = agents_known(&store->agents, agent_number);
    struct find_blocks find = {
        .agent = agent_number, .from_us = INT64_MIN, .to_us = INT64_MAX, .seal = UINT64_MAX
    };
    struct day_blocks room = { 0 };
    enum roll_tier tier = tier_of(window_us);
    int32_t last = day_of(range.to_us - 1);
    int r = 0;

    ensure(range.from_us < range.to_us);
    if (agent)
        note_heads(agent, range, &heads);
    for (int32_t number = next_day(store, &heads, day_of(range.from_us));
         agent && number <= last && number != INT32_MAX && !r;
         number = next_day(store, &heads, number + 1))
        r = note_day(store, &find, tier, number, &room, &heads, &hours);
    buf_deinit(&room.found);
    if (r)
        return pass(r);
    if (buf_failed(&hours) || buf_failed(&heads))
        return fault(-ENOMEM, "no memory for hours that are not rolled up");
    return pass(cut_hours(range, &hours, arena, ret, ret_n));
}

static int64_t begin_of_next(struct store *store, int32_t number)
{
    int32_t next = days_next(&store->days, number);

    return next == INT32_MAX ? INT64_MAX : next * DAY_US;
}

struct store_reach store_samples_reach(struct store *store)
{
    int32_t anew = days_last_begun_anew(&store->days);
    struct store_reach reach = { INT64_MIN, INT64_MIN };
    bool has_windows = false;

    for (size_t tier = 0; tier < ROLL_TIERS; tier++)
        has_windows = has_windows || days_next(&store->rolled[tier], INT32_MIN) != INT32_MAX;
    if (!has_windows)
        return reach;
    reach.samples_us = begin_of_next(store, INT32_MIN);
    reach.whole_us = anew == INT32_MIN ? reach.samples_us : begin_of_next(store, anew + 1);
    return reach;
}

/* ---- reading ---- */

struct reading {
    const struct store_windows *scan;
    enum roll_tier tier;
    struct roll_work work;
    struct roll_sheet sheet;
    bool goes_on;
    /* The slice at work. */
    size_t first, n; /* of scan->columns */
    uint32_t columns[ROLL_COLUMNS];
};

static void reading_deinit(struct reading *reading)
{
    roll_work_deinit(&reading->work);
    roll_sheet_deinit(&reading->sheet);
}

static void tell_column(struct reading *reading, size_t column)
{
    const struct store_windows *scan = reading->scan;
    struct store_window windows[ROLL_WINDOWS_MAX];
    size_t n = 0;

    for (size_t i = 0; i < reading->sheet.n_rows; i++) {
        const struct store_window *window = roll_at(&reading->sheet, i, column);

        if (window->n_samples && window->begin_us >= scan->from_us &&
            window->begin_us < scan->to_us)
            windows[n++] = *window;
    }
    if (n)
        reading->goes_on = scan->on_windows(scan->ctx, reading->first + column, windows, n);
}

static void
tell_damage(const struct reading *reading, const struct day *period, const struct roll_key *key)
{
    log_peer(LOG_ERROR, "rollup_damaged", LOG_S("path", period->path), LOG_U("agent", key->agent),
             LOG_I("begin_us", key->begin_us));
    reading->scan->on_damage(reading->scan->ctx, key->begin_us,
                             key->begin_us + roll_record_us(reading->tier));
}

static int read_record(struct reading *reading,
                       const struct day *period,
                       const struct roll_key *key,
                       MDB_val k,
                       MDB_val v)
{
    const struct roll_wish wish = { reading->tier, reading->scan->parts, reading->columns,
                                    reading->n };
    struct day_prefix prefix;
    struct span block;
    int r = BLOCK_BAD;

    if (day_prefix_get(k, v, &prefix, &block))
        r = roll_decode(&reading->work, key, &wish, block, &reading->sheet);
    if (r == BLOCK_BAD) {
        tell_damage(reading, period, key);
        return 0;
    }
    for (size_t i = 0; !r && i < reading->n && reading->goes_on; i++)
        tell_column(reading, i);
    return pass(r);
}

/* Records of one slice. */
static int read_slice(struct reading *reading, struct day *period, MDB_txn *txn, uint16_t slice)
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    const struct store_windows *scan = reading->scan;
    uint8_t name[ROLL_KEY_BYTES];
    struct roll_key key = { scan->agent, scan->layout, slice,
                            floor_to_us(scan->from_us, roll_record_us(reading->tier)) };
    struct roll_key at;
    MDB_val k = db_val(name, sizeof(name)), v;
    int r = 0, rc = mdb_cursor_open(txn, period->blocks, &cursor);

    roll_key_put(name, &key);
    if (!rc)
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    for (; !rc && !r && reading->goes_on; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        if (!roll_key_get(k, &at) || at.agent != key.agent || at.layout != key.layout ||
            at.slice != slice || at.begin_us >= scan->to_us)
            return 0;
        r = read_record(reading, period, &at, k, v);
    }
    if (r)
        return pass(r);
    if (db_is_damage(rc)) {
        day_found_damage(period, mdb_strerror(rc));
        scan->on_damage(scan->ctx, scan->from_us, scan->to_us);
        return 0;
    }
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : fold(db_check(rc, "cannot read roll-ups"));
}

static int read_period(struct reading *reading, struct day *period)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    const struct store_windows *scan = reading->scan;
    int r = db_check(mdb_txn_begin(period->env, NULL, MDB_RDONLY, &txn),
                     "cannot begin to read roll-ups");

    for (reading->first = 0; !r && reading->first < scan->n_columns && reading->goes_on;
         reading->first += reading->n) {
        uint32_t slice = scan->columns[reading->first] / ROLL_COLUMNS;

        for (reading->n = 0; reading->first + reading->n < scan->n_columns; reading->n++) {
            uint32_t column = scan->columns[reading->first + reading->n];

            if (column / ROLL_COLUMNS != slice)
                break;
            reading->columns[reading->n] = column % ROLL_COLUMNS;
        }
        r = read_slice(reading, period, txn, (uint16_t) slice);
    }
    return pass(r);
}

int store_windows(struct store *store, const struct store_windows *scan)
{
    CLEANUP(reading_deinit)
    struct reading reading = { .scan = scan, .tier = tier_of(scan->window_us), .goes_on = true };
    struct days *days = &store->rolled[reading.tier];
    int32_t number, last;
    int r = 0;

    if (scan->from_us >= scan->to_us || scan->n_columns == 0)
        return 0;
    last = days->kind->of(scan->to_us - 1);
    number = days_next(days, days->kind->of(scan->from_us));
    for (; number <= last && number != INT32_MAX && !r && reading.goes_on;
         number = days_next(days, number + 1)) {
        struct day *period;

        r = days_use(days, number, &period);
        if (r == STORE_NOT_FOUND) {
            scan->on_damage(scan->ctx, days->kind->begin_us(number),
                            days->kind->begin_us(number + 1));
            r = 0;
            continue;
        }
        if (r)
            return pass(r);
        r = read_period(&reading, period);
        days_release(days, period);
    }
    return pass(r);
}
