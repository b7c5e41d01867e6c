/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Making roll-ups: for an agent and a day, what is due is found (marks against blocks), the blocks
 * of those hours are opened, and slice by slice of each layout their rows become records, which
 * wait for one transaction of many agents in each tier.
 */

#include "server/store/rollup.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/store/scan.h"
#include "server/store/whole.h"

/* Of blocks, in one round of one agent; and an hour at least. */
#define ROUND_BYTES (UINT64_C(32) << 20)

#define ALL_HOURS ((1u << DAY_HOURS) - 1)

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
    struct buf room;             /* of rows_add_part() */
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
    struct roll_mark marks[ROLL_TIERS];
    uint32_t due[ROLL_TIERS]; /* hours, by bits */
    uint32_t newer[ROLL_TIERS];
    uint32_t chosen, bad;
    uint32_t empty;      /* over, and no block meets it: that counts as rolled up */
    struct span layouts; /* u32 */
    uint32_t layout;
    uint16_t slice;
};

struct roller *roller_new(void)
{
    return calloc(1, sizeof(struct roller));
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

/* ---- what is due ---- */

static uint32_t hours_between(int64_t day_us, int64_t first_us, int64_t last_us)
{
    uint32_t hours = 0;

    for (uint32_t h = 0; h < DAY_HOURS; h++) {
        int64_t begin_us = day_us + h * STORE_HOUR_US;

        if (first_us < begin_us + STORE_HOUR_US && last_us >= begin_us)
            hours |= 1u << h;
    }
    return hours;
}

static uint32_t hours_of(const struct round *round, const struct found_block *found)
{
    return hours_between(round->day_us, found->key.first_us, found->prefix.last_us);
}

/* What a tier has of the agent. A tier that cannot be used, or would go again at once, is never
 * due.
 */
static int read_mark(struct round *round, enum roll_tier tier, bool *ret_is_there)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct store *store = round->sealer->store;
    struct days *days = &store->rolled[tier];
    int32_t number = days->kind->of(round->day_us);
    struct day *period;
    int r;

    *ret_is_there = false;
    if (number < retain_first_rolled(store, tier))
        return 0;
    r = days_make(days, number, &period);
    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    *ret_is_there = true;
    r = db_check(mdb_txn_begin(period->env, NULL, MDB_RDONLY, &txn),
                 "cannot begin to read roll-ups");
    if (!r)
        r = roll_mark_get(period, txn, round->agent->facts.number, round->day, &round->marks[tier]);
    if (txn)
        mdb_txn_abort(take(txn));
    days_release(days, period);
    return pass(r);
}

static int find_due(struct round *round, int64_t over_us)
{
    const struct found_block *found = (const void *) round->roller->found.data;
    size_t n = round->roller->found.len / sizeof(*found);
    uint32_t met = 0, over = hours_between(round->day_us, INT64_MIN, over_us - STORE_HOUR_US);

    for (size_t i = 0; i < n; i++)
        met |= hours_of(round, &found[i]);
    round->empty = over & ~met;
    if ((met & over) == 0)
        return 0;
    for (enum roll_tier tier = ROLL_MINUTES; tier < ROLL_TIERS; tier++) {
        bool is_there;
        int r = read_mark(round, tier, &is_there);

        if (r)
            return pass(r);
        for (size_t i = 0; i < n; i++)
            if (found[i].key.seal > round->marks[tier].seal)
                round->newer[tier] |= hours_of(round, &found[i]);
        if (is_there && (tier == ROLL_MINUTES || over == ALL_HOURS))
            round->due[tier] = met & over & (~round->marks[tier].hours | round->newer[tier]);
    }
    return 0;
}

/* The first of the due hours, as many as go into one round. */
static void choose(struct round *round)
{
    const struct found_block *found = (const void *) round->roller->found.data;
    size_t n = round->roller->found.len / sizeof(*found);
    uint32_t due = round->due[ROLL_MINUTES] | round->due[ROLL_HOURS];
    uint64_t n_bytes = 0;

    for (uint32_t h = 0; h < DAY_HOURS; h++) {
        if (!(due >> h & 1))
            continue;
        for (size_t i = 0; i < n; i++)
            if (hours_of(round, &found[i]) >> h & 1)
                n_bytes += found[i].bytes.len;
        if (round->chosen && n_bytes > ROUND_BYTES)
            return;
        round->chosen |= 1u << h;
    }
}

/* ---- blocks ---- */

static int by_seal(const void *a, const void *b)
{
    const struct found_block *x = a, *y = b;

    return (x->key.seal > y->key.seal) - (x->key.seal < y->key.seal);
}

static int reserve(void *array, size_t *capacity, size_t n, size_t item_bytes)
{
    void **at = array, *grown;

    if (n <= *capacity)
        return 0;
    grown = reallocarray(*at, n + n / 2 + 4, item_bytes);
    if (!grown)
        return fault(-ENOMEM, "no memory to roll up %zu items", n);
    memset((uint8_t *) grown + *capacity * item_bytes, 0, (n + n / 2 + 4 - *capacity) * item_bytes);
    *at = grown;
    *capacity = n + n / 2 + 4;
    return 0;
}

static void note_layouts(struct buf *layouts, const struct block *block)
{
    struct block_cursor cursor = { 0 };
    struct block_part part;

    while (block_next(block, &cursor, &part)) {
        const uint32_t *known = (const void *) layouts->data;
        size_t n = layouts->len / sizeof(*known);

        while (n > 0 && known[n - 1] != part.layout)
            n--;
        if (n == 0)
            buf_append(layouts, &part.layout, sizeof(part.layout));
    }
}

static int open_blocks(struct round *round, struct buf *layouts)
{
    struct roller *roller = round->roller;
    struct found_block *found = (void *) roller->found.data;
    size_t n = roller->found.len / sizeof(*found);
    int r;

    roller->n_opened = 0;
    r = reserve(&roller->opened, &roller->opened_capacity, n, sizeof(*roller->opened));
    /* Rows of one time come as they were committed. */
    if (!r)
        qsort(found, n, sizeof(*found), by_seal);
    for (size_t i = 0; i < n && !r; i++) {
        struct opened *opened = &roller->opened[roller->n_opened];

        if (!(hours_of(round, &found[i]) & round->chosen))
            continue;
        opened->found = found[i];
        r = block_open(found[i].bytes, &opened->room, &opened->block);
        if (r == 0 && opened->block.agent == round->agent->facts.number) {
            note_layouts(layouts, &opened->block);
            roller->n_opened++;
        } else if (r == 0 || r == BLOCK_BAD) {
            round->bad |= hours_of(round, &found[i]); /* a scan says so */
            r = 0;
        }
    }
    return !r && buf_failed(layouts) ? fault(-ENOMEM, "no memory for layouts") : pass(r);
}

/* ---- rows ---- */

static int load_rows(struct round *round, struct layout_rows *to)
{
    struct roller *roller = round->roller;
    struct block_part part;
    size_t n_rows = 0;
    int r;

    for (size_t i = 0; i < roller->n_opened; i++)
        if (block_find(&roller->opened[i].block, to->layout, &part))
            n_rows += part.n_rows;
    r = rows_begin(&to->rows, to->n_columns, n_rows);
    for (size_t i = 0; i < roller->n_opened && !r; i++) {
        const struct opened *opened = &roller->opened[i];

        if (!block_find(&opened->block, to->layout, &part))
            continue;
        r = part.n_columns > to->columns[to->n_columns - 1]
                ? rows_add_part(&to->rows, &part, to->columns, &roller->room)
                : BLOCK_BAD;
        if (r == BLOCK_BAD) {
            round->bad |= hours_of(round, &opened->found);
            r = 0;
        }
    }
    return r ? pass(r) : pass(rows_sort(&to->rows));
}

/* The slice's series that are in another layout too. Both lists are ascending. */
static void find_shared(const struct store_layout *own,
                        size_t first,
                        size_t n,
                        const struct store_layout *other,
                        struct layout_rows *ret)
{
    size_t k = 0;

    ret->layout = other->id;
    ret->n_columns = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t definition = own->definitions[first + i];

        while (k < other->n_columns && other->definitions[k] < definition)
            k++;
        ret->of[i] = UINT32_MAX;
        if (k < other->n_columns && other->definitions[k] == definition) {
            ret->of[i] = (uint32_t) ret->n_columns;
            ret->columns[ret->n_columns++] = (uint32_t) k;
        }
    }
}

static int load_slice(struct round *round, const struct store_layout *own, size_t first, size_t n)
{
    struct roller *roller = round->roller;
    const uint32_t *layouts = (const void *) round->layouts.data;
    size_t n_layouts = round->layouts.len / sizeof(*layouts), capacity = roller->layouts_capacity;
    int r =
        reserve(&roller->layouts, &roller->layouts_capacity, n_layouts, sizeof(*roller->layouts));

    if (!r)
        r = reserve(&roller->sources, &capacity, n_layouts, sizeof(*roller->sources));
    if (r)
        return pass(r);
    find_shared(own, first, n, own, &roller->layouts[0]);
    roller->n_layouts = 1;
    for (size_t i = 0; i < n_layouts; i++) {
        const struct store_layout *other =
            catalog_layout(&round->sealer->store->catalog, layouts[i]);
        struct layout_rows *to = &roller->layouts[roller->n_layouts];

        if (!other || other == own)
            continue;
        find_shared(own, first, n, other, to);
        roller->n_layouts += to->n_columns > 0;
    }
    for (size_t i = 0; i < roller->n_layouts && !r; i++)
        r = load_rows(round, &roller->layouts[i]);
    return pass(r);
}

/* ---- records ---- */

static bool is_to_write(const struct round *round, enum roll_tier tier, uint32_t hour)
{
    bool is_kept = (round->bad & round->marks[tier].hours) >> hour & 1;

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

static int roll_hour(struct round *round, const struct store_layout *layout, uint32_t hour)
{
    struct roller *roller = round->roller;
    struct store *store = round->sealer->store;
    size_t first = (size_t) round->slice * ROLL_COLUMNS;
    struct roll_series series = { .sources = roller->sources,
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
        const struct store_definition *definition =
            store_definition_get(store, layout->definitions[first + c]);

        series.column = c;
        series.is_counter = definition && definition->kind == STORE_COUNTER;
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
    return pass(queue_record(round, ROLL_MINUTES, series.hour_us, &roller->minutes));
}

/* What the day's record has so far; empty: there is none. */
static int read_old(struct round *round, size_t n_columns)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct roller *roller = round->roller;
    struct days *days = &round->sealer->store->rolled[ROLL_HOURS];
    struct roll_key key = { round->agent->facts.number, round->layout, round->slice,
                            round->day_us };
    uint8_t name[ROLL_KEY_BYTES];
    const struct roll_wish all = { ROLL_HOURS, UINT_MAX, roller->layouts[0].of, n_columns };
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
        round->marks[ROLL_HOURS].hours = 0;
        r = 0;
    }
    days_release(days, period);
    return pass(r);
}

/* The day's record: the hours of now, and those of before that are not among them. */
static int roll_day(struct round *round)
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
    r = read_old(round, hours->n_columns);
    if (r)
        return pass(r);
    for (size_t i = 0; i < old->n_rows; i++) {
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
        r = load_slice(round, layout, first, n);
        if (!r)
            r = roll_sheet_begin(&roller->hours, n);
        roller->hours.n_rows = DAY_HOURS;
        for (uint32_t h = 0; h < DAY_HOURS && !r; h++)
            if (round->chosen >> h & 1)
                r = roll_hour(round, layout, h);
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
    int r = open_blocks(round, &layouts);

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
                           .day_us = day->number * DAY_US };
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
        r = find_due(&round, over_us);
    choose(&round);
    if (r || round.chosen == 0)
        return pass(r);
    *ret_is_done = ((round.due[ROLL_MINUTES] | round.due[ROLL_HOURS]) & ~round.chosen) == 0;
    return pass(roll_round(&round));
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

/* ---- the transactions ---- */

static int put_record(const struct roller *roller,
                      struct day *period,
                      MDB_txn *txn,
                      struct waiting_record *record)
{
    uint8_t name[ROLL_KEY_BYTES];
    MDB_val k = db_val(name, sizeof(name)), v = db_val(NULL, sizeof(record->prefix) + record->len);
    int rc;

    roll_key_put(name, &record->key);
    record->prefix.crc32c = day_prefix_crc(k, &record->prefix);
    rc = mdb_put(txn, period->blocks, &k, &v, MDB_RESERVE);
    if (rc)
        return pass(db_check(rc, "cannot write roll-ups"));
    memcpy(v.mv_data, &record->prefix, sizeof(record->prefix));
    memcpy((uint8_t *) v.mv_data + sizeof(record->prefix), roller->bytes.data + record->at,
           record->len);
    return 0;
}

static int put_agent(const struct roller *roller,
                     struct day *period,
                     MDB_txn *txn,
                     enum roll_tier tier,
                     const struct waiting_agent *waiting)
{
    CLEANUP(buf_deinit) struct buf spans = { 0 };
    const struct day_span *more = (const void *) (roller->spans.data + waiting->spans_at);
    struct position none = { 0 };
    uint32_t number = waiting->agent->facts.number;
    int r = day_agent_get(period, txn, number, &none, &spans);

    if (r < 0)
        return pass(r);
    for (size_t i = 0; i < waiting->n_spans; i++)
        day_spans_add(&spans, &more[i]);
    if (buf_failed(&spans))
        return fault(-ENOMEM, "no memory for the spans of an agent");
    r = day_agent_put(period, txn, number, none, buf_span(&spans));
    if (r)
        return pass(r);
    return pass(roll_mark_put(period, txn, number, roller->day, &waiting->marks[tier]));
}

static int write_tier(struct sealer *sealer, enum roll_tier tier, struct day *period)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct roller *roller = sealer->roller;
    struct waiting_record *records = (void *) roller->records.data;
    const struct waiting_agent *agents = (const void *) roller->agents.data;
    MDB_val key = db_val("seal", 4), value = db_val(&sealer->seal, sizeof(sealer->seal));
    int r = db_check(mdb_txn_begin(period->env, NULL, 0, &txn), "cannot begin to write roll-ups");

    if (!r)
        r = db_check(mdb_put(txn, period->meta, &key, &value, 0), "cannot write roll-ups");
    for (size_t i = 0; i < roller->records.len / sizeof(*records) && !r; i++)
        if (records[i].tier == tier)
            r = put_record(roller, period, txn, &records[i]);
    for (size_t i = 0; i < roller->agents.len / sizeof(*agents) && !r; i++)
        if (agents[i].has_mark[tier])
            r = put_agent(roller, period, txn, tier, &agents[i]);
    if (r)
        return pass(r);
    faultpoint("rollup_before_commit");
    r = db_commit(period->env, take(txn), "cannot commit roll-ups");
    if (!r)
        faultpoint("rollup_after_commit");
    return pass(r);
}

static bool has_work(const struct roller *roller, enum roll_tier tier)
{
    const struct waiting_agent *agents = (const void *) roller->agents.data;

    for (size_t i = 0; i < roller->agents.len / sizeof(*agents); i++)
        if (agents[i].has_mark[tier])
            return true;
    return false;
}

static int commit_tier(struct sealer *sealer, enum roll_tier tier)
{
    struct days *days = &sealer->store->rolled[tier];
    struct day *period;
    int r;

    if (!has_work(sealer->roller, tier))
        return 0;
    r = days_use(days, days->kind->of(sealer->roller->day * DAY_US), &period);
    if (r) /* found damaged meanwhile: it is not due any more */
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    r = write_tier(sealer, tier, period);
    days_release(days, period);
    return pass(r);
}

static int show_spans(const struct roller *roller, const struct waiting_agent *waiting)
{
    const struct day_span *more = (const void *) (roller->spans.data + waiting->spans_at);
    struct agent *agent = waiting->agent;

    pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < waiting->n_spans; i++)
        day_spans_add(&agent->rolled, &more[i]);
    pthread_mutex_unlock(&agent->lock);
    return buf_failed(&agent->rolled) ? fault(-ENOMEM, "no memory for the spans of an agent") : 0;
}

int roller_commit(struct sealer *sealer)
{
    struct roller *roller = sealer->roller;
    const struct waiting_agent *agents = (const void *) roller->agents.data;
    size_t n = roller->agents.len / sizeof(*agents);
    int64_t begin_us = used_us();
    int r = 0;

    for (enum roll_tier tier = ROLL_MINUTES; tier < ROLL_TIERS && !r; tier++)
        r = commit_tier(sealer, tier);
    for (size_t i = 0; i < n && !r; i++)
        r = show_spans(roller, &agents[i]);
    if (!r) {
        pthread_mutex_lock(&sealer->shared.lock);
        sealer->shared.n_rolled += roller->records.len / sizeof(struct waiting_record);
        sealer->shared.n_rolled_bytes += roller->bytes.len;
        pthread_mutex_unlock(&sealer->shared.lock);
    }
    count_time(sealer, begin_us);
    buf_clear(&roller->records);
    buf_clear(&roller->agents);
    buf_clear(&roller->bytes);
    buf_clear(&roller->spans);
    return pass(r);
}
