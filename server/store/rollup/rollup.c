/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Making roll-ups: for an agent and a day, what is due is found (marks against blocks), the blocks
 * of those hours are opened, and slice by slice of each layout their rows become records, which
 * wait for one transaction of many agents in each tier.
 */

#include "server/store/rollup/roller.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/whole.h"

struct roller *roller_new(void)
{
    struct roller *roller = calloc(1, sizeof(*roller));

    for (uint32_t i = 0; roller && i < ROLL_COLUMNS; i++)
        roller->columns[i] = i;
    return roller;
}

struct roller *roller_free(struct roller *roller)
{
    if (!roller)
        return NULL;
    roll_work_deinit(&roller->work);
    roll_sheet_deinit(&roller->minutes);
    roll_sheet_deinit(&roller->hours);
    roll_sheet_deinit(&roller->old);
    for (size_t i = 0; i < roller->opened_capacity; i++)
        buf_deinit(&roller->opened[i].room);
    for (size_t i = 0; i < roller->layouts_capacity; i++)
        rows_deinit(&roller->layouts[i].rows);
    free(roller->opened);
    free(roller->layouts);
    free(roller->sources);
    buf_deinit(&roller->room);
    buf_deinit(&roller->found);
    buf_deinit(&roller->records);
    buf_deinit(&roller->agents);
    buf_deinit(&roller->bytes);
    buf_deinit(&roller->spans);
    free(roller);
    return NULL;
}

size_t roller_bytes(const struct roller *roller)
{
    return roller->bytes.len;
}
/* ---- records ---- */

static bool is_to_write(const struct round *round, enum roll_tier tier, uint32_t hour)
{
    bool is_kept = !round->is_late && (round->bad & round->marks[tier].hours) >> hour & 1;

    return (round->due[tier] & round->chosen) >> hour & 1 && !is_kept;
}

static int queue_record(struct round *round,
                        enum roll_tier tier,
                        int64_t begin_us,
                        const struct roll_sheet *sheet)
{
    struct roller *roller = round->roller;
    struct waiting_record record = {
        .tier = tier,
        .key = { round->agent->facts.number, round->layout, round->slice, begin_us },
        .at = roller->bytes.len,
    };
    int r = roll_encode(&roller->work, &record.key, sheet, &record.prefix, &roller->bytes);

    record.len = roller->bytes.len - record.at;
    buf_append(&roller->records, &record, sizeof(record));
    if (!r && (buf_failed(&roller->bytes) || buf_failed(&roller->records)))
        r = fault(-ENOMEM, "no memory for roll-ups");
    return pass(r);
}

/* What a record has so far; empty: there is none. */
static int read_old(struct round *round, enum roll_tier tier, int64_t begin_us, size_t n_columns)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct roller *roller = round->roller;
    struct days *days = &round->sealer->store->rolled[tier];
    struct roll_key key = { round->agent->facts.number, round->layout, round->slice, begin_us };
    uint8_t name[ROLL_KEY_BYTES];
    const struct roll_wish all = { tier, UINT_MAX, roller->columns, n_columns };
    MDB_val k = db_val(name, sizeof(name)), v;
    struct day_prefix prefix;
    struct day *period;
    struct span block;
    int rc, r = days_use(days, days->kind->of(round->day_us), &period);

    roller->old.n_rows = 0;
    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    roll_key_put(name, &key);
    rc = mdb_txn_begin(period->env, NULL, MDB_RDONLY, &txn);
    if (!rc)
        rc = mdb_get(txn, period->blocks, &k, &v);
    if (!rc)
        r = day_prefix_get(k, v, &prefix, &block)
                ? roll_decode(&roller->work, &key, &all, block, &roller->old)
                : BLOCK_BAD;
    else if (rc != MDB_NOTFOUND)
        r = db_is_damage(rc) ? BLOCK_BAD : fold(db_check(rc, "cannot read roll-ups"));
    if (txn)
        mdb_txn_abort(take(txn));
    if (r == BLOCK_BAD) {
        log_peer(LOG_ERROR, "rollup_damaged", LOG_S("path", period->path),
                 LOG_U("agent", key.agent), LOG_I("begin_us", key.begin_us));
        roller->old.n_rows = 0;
        /* What was lost with it is due again, as far as there are samples. */
        if (!round->is_late)
            round->marks[tier].hours &= round->marks[tier].lost;
        r = 0;
    }
    days_release(days, period);
    return pass(r);
}

void roll_find_counters(struct round *round,
                        const struct store_layout *layout,
                        size_t first,
                        size_t n)
{
    struct store *store = round->sealer->store;

    for (size_t c = 0; c < n; c++) {
        const struct store_definition *definition =
            store_definition_get(store, layout->definitions[first + c]);

        round->roller->are_counters[c] = definition && definition->kind == STORE_COUNTER;
    }
}

static int roll_hour(struct round *round, uint32_t hour)
{
    struct roller *roller = round->roller;
    struct roll_series series = { .sources = roller->sources,
                                  .is_late = round->is_late,
                                  .hour_us = round->day_us + hour * STORE_HOUR_US,
                                  .minutes = &roller->minutes,
                                  .hours = &roller->hours,
                                  .hour = hour };
    int r = roll_sheet_begin(&roller->minutes, roller->hours.n_columns);

    if (r)
        return pass(r);
    roll_rows(&roller->layouts[0].rows, series.hour_us, &roller->minutes,
              &roller->hours.rows[hour]);
    if (roller->hours.rows[hour].n_rows == 0)
        return 0;
    for (size_t c = 0; c < roller->hours.n_columns; c++) {
        series.column = c;
        series.is_counter = roller->are_counters[c];
        series.n_sources = 0;
        for (size_t i = 0; i < roller->n_layouts; i++)
            if (roller->layouts[i].of[c] != UINT32_MAX)
                roller->sources[series.n_sources++] =
                    (struct roll_source){ .rows = &roller->layouts[i].rows,
                                          .column = roller->layouts[i].of[c] };
        roll_series(&series);
    }
    if (!is_to_write(round, ROLL_MINUTES, hour))
        return 0;
    if (round->is_late) {
        r = read_old(round, ROLL_MINUTES, series.hour_us, roller->minutes.n_columns);
        if (r)
            return pass(r);
        roll_join(&roller->minutes, &roller->old, series.hour_us, ROLL_MINUTES,
                  roller->are_counters);
    }
    return pass(queue_record(round, ROLL_MINUTES, series.hour_us, &roller->minutes));
}

/* The day's record: the hours of now, and those of before that are not among them. */
int roll_day(struct round *round)
{
    struct roller *roller = round->roller;
    struct roll_sheet *hours = &roller->hours, *old = &roller->old;
    bool has_any = false;
    int r;

    for (uint32_t h = 0; h < DAY_HOURS; h++) {
        if (!is_to_write(round, ROLL_HOURS, h))
            hours->rows[h].n_rows = 0;
        has_any = has_any || hours->rows[h].n_rows > 0;
    }
    if (!has_any)
        return 0;
    r = read_old(round, ROLL_HOURS, round->day_us, hours->n_columns);
    if (r)
        return pass(r);
    if (round->is_late)
        roll_join(hours, old, round->day_us, ROLL_HOURS, roller->are_counters);
    for (size_t i = 0; i < old->n_rows && !round->is_late; i++) {
        size_t h = (size_t) ((old->rows[i].begin_us - round->day_us) / STORE_HOUR_US);

        if (hours->rows[h].n_rows > 0)
            continue;
        hours->rows[h] = old->rows[i];
        memcpy(roll_at(hours, h, 0), roll_at(old, i, 0),
               hours->n_columns * sizeof(*hours->windows));
    }
    return pass(queue_record(round, ROLL_HOURS, round->day_us, hours));
}

static void note_span(struct round *round)
{
    const struct rows *rows = &round->roller->layouts[0].rows;
    struct day_span span = { .layout = round->layout };

    if (rows->n_rows == 0 || round->slice > 0)
        return;
    span.first_us = rows->times_us[0];
    span.last_us = rows->times_us[rows->n_rows - 1];
    buf_append(&round->roller->spans, &span, sizeof(span));
}

static int roll_layout(struct round *round, const struct store_layout *layout)
{
    struct roller *roller = round->roller;
    int r = 0;

    round->layout = layout->id;
    for (size_t first = 0; first < layout->n_columns && !r; first += ROLL_COLUMNS) {
        size_t n = layout->n_columns - first;

        n = n < ROLL_COLUMNS ? n : ROLL_COLUMNS;
        round->slice = (uint16_t) (first / ROLL_COLUMNS);
        roll_find_counters(round, layout, first, n);
        r = roll_load_slice(round, layout, first, n);
        if (!r)
            r = roll_sheet_begin(&roller->hours, n);
        roller->hours.n_rows = DAY_HOURS;
        for (uint32_t h = 0; h < DAY_HOURS && !r; h++)
            if (round->chosen >> h & 1)
                r = roll_hour(round, h);
        if (!r)
            r = roll_day(round);
        if (!r)
            note_span(round);
    }
    return pass(r);
}

/* ---- an agent ---- */

static int queue_agent(struct round *round, size_t spans_at)
{
    struct roller *roller = round->roller;
    struct waiting_agent waiting = {
        .agent = round->agent,
        .spans_at = spans_at,
        .n_spans = (roller->spans.len - spans_at) / sizeof(struct day_span),
    };

    for (enum roll_tier tier = ROLL_MINUTES; tier < ROLL_TIERS; tier++) {
        uint32_t done = round->due[tier] & round->chosen;

        waiting.has_mark[tier] = done != 0;
        waiting.marks[tier].seal = round->sealer->seal;
        waiting.marks[tier].hours =
            (round->marks[tier].hours & ~round->newer[tier]) | done | round->empty;
        waiting.marks[tier].windows = round->marks[tier].windows | done;
        waiting.marks[tier].lost = round->marks[tier].lost;
    }
    roller->day = round->day;
    buf_append(&roller->agents, &waiting, sizeof(waiting));
    return buf_failed(&roller->agents) || buf_failed(&roller->spans)
               ? fault(-ENOMEM, "no memory for roll-ups")
               : 0;
}

static int roll_round(struct round *round)
{
    CLEANUP(buf_deinit) struct buf layouts = { 0 };
    size_t spans_at = round->roller->spans.len;
    int r = round->is_missing ? roll_missing(round) : roll_open_blocks(round, &layouts);

    round->layouts = buf_span(&layouts);
    for (size_t i = 0; i < layouts.len / sizeof(uint32_t) && !r; i++) {
        const struct store_layout *layout = catalog_layout(
            &round->sealer->store->catalog, ((const uint32_t *) (void *) layouts.data)[i]);

        /* `state` is older than the day: a backup was restored, and no query asks for it. */
        if (layout && layout->n_columns)
            r = roll_layout(round, layout);
    }
    return r ? pass(r) : pass(queue_agent(round, spans_at));
}

static int roll_agent(struct sealer *sealer,
                      struct day *day,
                      struct agent *agent,
                      int64_t over_us,
                      bool *ret_is_done)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct roller *roller = sealer->roller;
    struct round round = { .sealer = sealer,
                           .roller = roller,
                           .agent = agent,
                           .day = day->number,
                           .day_us = day->number * DAY_US,
                           .begun = day->begun };
    struct find_blocks find = {
        .agent = agent->facts.number, .from_us = INT64_MIN, .to_us = INT64_MAX, .seal = UINT64_MAX
    };
    uint64_t n_damaged = 0;
    int r = db_check(mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn), "cannot begin to read a day");

    *ret_is_done = true;
    buf_clear(&roller->found);
    if (!r)
        r = found_blocks(day, txn, &find, &roller->found, &n_damaged);
    if (r == STORE_NOT_FOUND) {
        day_found_damage(day, "pages that lead nowhere");
        return 0;
    }
    round.bad = n_damaged ? UINT32_MAX : 0;
    if (!r)
        r = roll_find_due(&round, over_us);
    if (r)
        return pass(r);
    *ret_is_done = !roll_choose(&round);
    return round.chosen ? pass(roll_round(&round)) : 0;
}

/* CPU time: the thread waits for the disk as well. */
static int64_t used_us(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (int64_t) used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

static void count_time(struct sealer *sealer, int64_t begin_us)
{
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.roll_us += used_us() - begin_us;
    pthread_mutex_unlock(&sealer->shared.lock);
}

int roller_agent(struct sealer *sealer,
                 struct day *day,
                 struct agent *agent,
                 int64_t over_us,
                 bool *ret_is_done)
{
    int64_t begin_us = used_us();
    int r = roll_agent(sealer, day, agent, over_us, ret_is_done);

    count_time(sealer, begin_us);
    return pass(r);
}

int roller_commit(struct sealer *sealer)
{
    int64_t begin_us = used_us();
    int r = roll_commit(sealer);

    count_time(sealer, begin_us);
    return pass(r);
}
