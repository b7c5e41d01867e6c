/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Compaction: an agent's blocks of minutes become blocks of an hour, and those of a day that is
 * over become blocks of some hours, encoded with more effort. Then the day's file is written anew,
 * without the pages that went.
 *
 * What stands for a run of blocks is made with a read transaction; one short transaction for many
 * agents then puts it and takes the sources away. The thread is the only one that writes to days,
 * so nothing changes in between.
 *
 * Blocks whose times meet are always taken together: so what is late finds its place, and the
 * order of commit, which only matters among them, is kept. What comes out carries the highest seal
 * number of its sources, which are all visible; and no agent's blocks are replaced while a scan of
 * it runs: a scan counts blocks up to the number that it began with.
 *
 * A sweep goes through all agents of all days that got blocks since the last one, and of the day
 * that is not over: each hour, at the start, and when asked to. It rolls up first (rollup.h).
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/store/days/scan.h"
#include "server/store/whole.h"

#define HOUR_US STORE_HOUR_US
/* What comes late is often no later. */
#define SETTLED_US COMPACT_SETTLED_US
#define COMPACT_AGENTS 64u /* looked at in one step */
/* Values in a block that is made: the range coder has learnt long before, and a query of a part
 * still reads the whole. */
#define COMPACT_VALUES (UINT64_C(1) << 20)
#define CLUSTER_VALUES (8 * COMPACT_VALUES)

/* A block that stands for others. */
struct made {
    struct agent *agent;
    struct day_key key;
    struct day_prefix prefix;
    size_t at, len;                 /* in job.bytes */
    size_t first_source, n_sources; /* in job.sources */
};

/* One step's work on one day. */
struct job {
    struct sealer *sealer;
    struct day *day;
    int64_t now_us;
    struct buf made;    /* struct made */
    struct buf sources; /* struct day_key */
    struct buf bytes;   /* encoded blocks */
    /* The run under way. */
    struct agent *agent;
    struct buf found;    /* struct found_block, by first time */
    struct buf opened;   /* room of blocks that are compressed as a whole */
    struct buf room;     /* of rows_add_part() */
    struct rows *sheets; /* one for each layout */
    uint32_t *layouts;
    size_t n_sheets, sheets_capacity;
    uint32_t *columns; /* 0, 1, 2 ... */
    size_t columns_capacity;
};

static void job_deinit(struct job *job)
{
    for (size_t i = 0; i < job->sheets_capacity; i++)
        rows_deinit(&job->sheets[i]);
    free(job->sheets);
    free(job->layouts);
    free(job->columns);
    buf_deinit(&job->room);
    buf_deinit(&job->found);
    buf_deinit(&job->opened);
    buf_deinit(&job->made);
    buf_deinit(&job->sources);
    buf_deinit(&job->bytes);
}

/* ---- which ---- */

uint32_t compact_level_due(const struct day *day, int64_t last_us, int64_t now_us)
{
    int64_t day_end_us = (day->number + INT64_C(1)) * DAY_US;

    if (now_us >= day_end_us + SETTLED_US)
        return 2;
    return last_us / HOUR_US < (now_us - SETTLED_US) / HOUR_US ? 1 : 0;
}

static int64_t bucket_of(int64_t time_us, uint32_t level)
{
    return level == 1 ? time_us / HOUR_US : 0;
}

/* Blocks [first, end) of what was found. */
struct stretch {
    size_t first, end;
    uint32_t level;            /* that it should have */
    uint64_t n_rows, n_values; /* at most */
    bool is_wanted;            /* one of them has less */
};

/* Blocks whose times meet, from `first` on. */
static struct stretch cluster_from(const struct job *job, uint32_t n_columns, size_t first)
{
    const struct found_block *blocks = (const void *) job->found.data;
    size_t n = job->found.len / sizeof(*blocks);
    struct stretch cluster = { .first = first, .end = found_cluster(blocks, n, first) };
    int64_t last_us = INT64_MIN;

    for (size_t i = first; i < cluster.end; i++) {
        cluster.n_rows += blocks[i].prefix.n_rows;
        cluster.n_values += (uint64_t) blocks[i].prefix.n_rows * n_columns;
        last_us = blocks[i].prefix.last_us > last_us ? blocks[i].prefix.last_us : last_us;
    }
    cluster.level = compact_level_due(job->day, last_us, job->now_us);
    for (size_t i = first; i < cluster.end; i++)
        cluster.is_wanted = cluster.is_wanted || blocks[i].prefix.level < cluster.level;
    /* Rows that lie among one another for so long stay in the blocks that they are in. */
    if (cluster.n_rows > SEAL_ROWS || cluster.n_values > CLUSTER_VALUES)
        cluster.is_wanted = false;
    return cluster;
}

static bool
goes_together(const struct job *job, const struct stretch *run, const struct stretch *more)
{
    const struct found_block *blocks = (const void *) job->found.data;

    return run->level == more->level && run->n_values + more->n_values <= COMPACT_VALUES &&
           run->n_rows + more->n_rows <= SEAL_ROWS &&
           bucket_of(blocks[run->first].key.first_us, run->level) ==
               bucket_of(blocks[more->first].key.first_us, more->level);
}

/* The next blocks from run->end on that should be one: whole clusters. False: none. */
static bool next_run(const struct job *job, uint32_t n_columns, struct stretch *run)
{
    size_t n = job->found.len / sizeof(struct found_block);

    while (run->end < n) {
        *run = cluster_from(job, n_columns, run->end);
        while (run->end < n) {
            struct stretch more = cluster_from(job, n_columns, run->end);

            if (!goes_together(job, run, &more))
                break;
            run->end = more.end;
            run->n_rows += more.n_rows;
            run->n_values += more.n_values;
            run->is_wanted = run->is_wanted || more.is_wanted;
        }
        if (run->is_wanted)
            return true;
    }
    return false;
}

/* ---- reading the sources ---- */

static int grow_sheets(struct job *job)
{
    size_t capacity = job->sheets_capacity * 2 + 4;
    struct rows *sheets;
    uint32_t *layouts;

    if (job->n_sheets < job->sheets_capacity)
        return 0;
    sheets = reallocarray(job->sheets, capacity, sizeof(*sheets));
    if (sheets)
        job->sheets = sheets;
    layouts = sheets ? reallocarray(job->layouts, capacity, sizeof(*layouts)) : NULL;
    if (!layouts)
        return fault(-ENOMEM, "no memory for %zu layouts", capacity);
    job->layouts = layouts;
    memset(&job->sheets[job->sheets_capacity], 0,
           (capacity - job->sheets_capacity) * sizeof(*job->sheets));
    job->sheets_capacity = capacity;
    return 0;
}

static int all_columns(struct job *job, uint32_t n)
{
    uint32_t *columns;

    if (n <= job->columns_capacity)
        return 0;
    columns = reallocarray(job->columns, n, sizeof(*columns));
    if (!columns)
        return fault(-ENOMEM, "no memory for %u columns", n);
    job->columns = columns;
    for (uint32_t i = 0; i < n; i++)
        columns[i] = i;
    job->columns_capacity = n;
    return 0;
}

/* Rows of each layout in a run: how many, and of how many columns. */
struct tally {
    uint32_t layout, n_columns;
    size_t n_rows;
};

static int tally_part(struct buf *tallies, const struct block_part *part)
{
    struct tally *at = (void *) tallies->data, fresh = { part->layout, part->n_columns, 0 };
    size_t n = tallies->len / sizeof(*at);

    for (size_t i = 0; i < n; i++) {
        if (at[i].layout != part->layout)
            continue;
        at[i].n_rows += part->n_rows;
        return at[i].n_columns == part->n_columns ? 0 : BLOCK_BAD;
    }
    fresh.n_rows = part->n_rows;
    buf_append(tallies, &fresh, sizeof(fresh));
    return buf_failed(tallies) ? fault(-ENOMEM, "no memory for layouts") : 0;
}

static int each_part(struct job *job,
                     const struct found_block *found,
                     int (*fn)(struct job *job, const struct block_part *part, void *ctx),
                     void *ctx)
{
    struct block_cursor cursor = { 0 };
    struct block_part part;
    struct block block;
    int r = block_open(found->bytes, &job->opened, &block);

    if (r == 0 && block.agent != found->key.agent)
        return BLOCK_BAD;
    while (r == 0 && block_next(&block, &cursor, &part))
        r = fn(job, &part, ctx);
    return r;
}

static int on_tally(struct job *job, const struct block_part *part, void *ctx)
{
    (void) job;
    return tally_part(ctx, part);
}

static int on_part(struct job *job, const struct block_part *part, void *ctx)
{
    (void) ctx;
    for (size_t i = 0; i < job->n_sheets; i++) {
        if (job->layouts[i] == part->layout)
            return rows_add_part(&job->sheets[i], part, job->columns, &job->room);
    }
    return BLOCK_BAD;
}

static int begin_sheets(struct job *job, const struct buf *tallies)
{
    const struct tally *tally = (const void *) tallies->data;
    size_t n = tallies->len / sizeof(*tally);
    int r = 0;

    job->n_sheets = 0;
    for (size_t i = 0; i < n && !r; i++) {
        r = grow_sheets(job);
        if (!r)
            r = all_columns(job, tally[i].n_columns);
        if (!r)
            r = rows_begin(&job->sheets[i], tally[i].n_columns, tally[i].n_rows);
        if (!r)
            job->layouts[job->n_sheets++] = tally[i].layout;
    }
    return pass(r);
}

static int by_seal(const void *a, const void *b)
{
    const struct found_block *x = *(const struct found_block *const *) a;
    const struct found_block *y = *(const struct found_block *const *) b;

    return (x->key.seal > y->key.seal) - (x->key.seal < y->key.seal);
}

/* All rows of a run in order of time. Outcomes: BLOCK_BAD. */
static int read_run(struct job *job, const struct stretch *run)
{
    const struct found_block *blocks = (const void *) job->found.data;
    const struct found_block **sources = calloc(run->end - run->first, sizeof(*sources));
    CLEANUP(buf_deinit) struct buf tallies = { 0 };
    size_t n = run->end - run->first;
    int r = sources ? 0 : fault(-ENOMEM, "no memory for %zu blocks", n);

    for (size_t i = 0; i < n && !r; i++) {
        sources[i] = &blocks[run->first + i];
        r = each_part(job, sources[i], on_tally, &tallies);
    }
    if (!r)
        r = begin_sheets(job, &tallies);
    if (!r)
        qsort(sources, n, sizeof(*sources), by_seal);
    for (size_t i = 0; i < n && !r; i++)
        r = each_part(job, sources[i], on_part, NULL);
    for (size_t i = 0; i < job->n_sheets && !r; i++)
        r = rows_sort(&job->sheets[i]);
    free(sources);
    return r < 0 ? pass(r) : r;
}

/* ---- what stands for them ---- */

/* Columns behind one another without gaps, as a block wants them. */
static bool pack_columns(struct rows *rows)
{
    size_t n_words = codec_mark_words(rows->n_rows);
    bool has_marks = false;

    for (size_t c = 0; c < rows->n_columns; c++) {
        memmove(&rows->values[c * rows->n_rows], rows_column(rows, c),
                rows->n_rows * sizeof(*rows->values));
        has_marks = has_marks || rows->has_marks[c];
    }
    for (size_t c = 0; has_marks && c < rows->n_columns; c++) {
        uint64_t *to = &rows->marks[c * n_words];

        if (rows->has_marks[c])
            memmove(to, rows_marks(rows, c), n_words * sizeof(*to));
        else
            memset(to, 0, n_words * sizeof(*to));
        if (rows->n_rows % 64)
            to[n_words - 1] &= (UINT64_C(1) << rows->n_rows % 64) - 1;
    }
    return has_marks;
}

static struct block_rows part_of(struct rows *rows, uint32_t layout)
{
    bool has_marks = pack_columns(rows);

    return (struct block_rows){
        .layout = layout,
        .n_columns = (uint32_t) rows->n_columns,
        .n_rows = (uint32_t) rows->n_rows,
        .times_us = rows->times_us,
        .values = rows->values,
        .absent = has_marks ? rows->marks : NULL,
    };
}

static int encode_sheets(struct job *job, struct made *made)
{
    struct block_rows *parts = calloc(job->n_sheets + 1, sizeof(*parts));
    struct block_input input = { .agent = job->agent->facts.number,
                                 .effort = CODEC_SMALL,
                                 .layouts = parts };
    int r;

    if (!parts)
        return fault(-ENOMEM, "no memory for %zu layouts", job->n_sheets);
    made->key.first_us = INT64_MAX;
    made->prefix.last_us = INT64_MIN;
    for (size_t i = 0; i < job->n_sheets; i++) {
        struct rows *rows = &job->sheets[i];
        int64_t last_us = rows->n_rows ? rows->times_us[rows->n_rows - 1] : 0;

        if (rows->n_rows == 0)
            continue;
        if (rows->times_us[0] < made->key.first_us)
            made->key.first_us = rows->times_us[0];
        if (last_us > made->prefix.last_us)
            made->prefix.last_us = last_us;
        made->prefix.n_rows += (uint32_t) rows->n_rows;
        parts[input.n_layouts++] = part_of(rows, job->layouts[i]);
    }
    made->at = job->bytes.len;
    r = block_encode(&job->sealer->work, &input, &job->bytes);
    made->len = job->bytes.len - made->at;
    free(parts);
    if (!r && buf_failed(&job->bytes))
        r = fault(-ENOMEM, "no memory for a block");
    return fold(r);
}

static void take_position(struct day_prefix *to, const struct day_prefix *source)
{
    struct position own = { to->chunk, to->offset }, other = { source->chunk, source->offset };

    if (position_is_behind(other, own)) {
        to->chunk = other.chunk;
        to->offset = other.offset;
    }
}

static int make_block(struct job *job, const struct stretch *run)
{
    const struct found_block *blocks = (const void *) job->found.data;
    struct made made = { .agent = job->agent,
                         .key = { .agent = job->agent->facts.number },
                         .prefix = { .level = run->level },
                         .first_source = job->sources.len / sizeof(struct day_key),
                         .n_sources = run->end - run->first };
    int r = read_run(job, run);

    if (r)
        return r < 0 ? pass(r) : r;
    for (size_t i = run->first; i < run->end; i++) {
        made.prefix.n_samples += blocks[i].prefix.n_samples;
        if (blocks[i].key.seal > made.key.seal)
            made.key.seal = blocks[i].key.seal;
        take_position(&made.prefix, &blocks[i].prefix);
        buf_append(&job->sources, &blocks[i].key, sizeof(blocks[i].key));
    }
    r = encode_sheets(job, &made);
    if (r)
        return pass(r);
    buf_append(&job->made, &made, sizeof(made));
    return buf_failed(&job->made) || buf_failed(&job->sources)
               ? fault(-ENOMEM, "no memory for a list of blocks")
               : 0;
}

/* ---- one agent of a day ---- */

/* The widest row of the agent, for a bound on memory. The spans are the sealer's to change. */
static uint32_t widest(struct store *store, const struct agent *agent)
{
    const struct day_span *spans = (const void *) agent->spans.data;
    uint32_t widest = 1;

    for (size_t i = 0; i < agent->spans.len / sizeof(*spans); i++) {
        const struct store_layout *layout = catalog_layout(&store->catalog, spans[i].layout);

        if (layout && layout->n_columns > widest)
            widest = layout->n_columns;
    }
    return widest;
}

static int compact_agent(struct job *job)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    uint32_t n_columns = widest(job->sealer->store, job->agent);
    struct stretch run = { 0 };
    struct find_blocks find = { .agent = job->agent->facts.number,
                                .from_us = INT64_MIN,
                                .to_us = INT64_MAX,
                                .seal = UINT64_MAX };
    uint64_t n_damaged = 0;
    int r = db_check(mdb_txn_begin(job->day->env, NULL, MDB_RDONLY, &txn),
                     "cannot begin to read a day");

    buf_clear(&job->found);
    if (!r)
        r = found_blocks(job->day, txn, &find, &job->found, &n_damaged);
    if (r == STORE_NOT_FOUND) {
        day_found_damage(job->day, "pages that lead nowhere");
        return 0;
    }
    while (!r && next_run(job, n_columns, &run)) {
        r = make_block(job, &run);
        if (r == BLOCK_BAD)
            r = 0; /* a scan says so; they stay as they are */
    }
    return pass(r);
}

/* ---- the transaction ---- */

static bool is_scanned(struct agent *agent)
{
    bool is_scanned;

    pthread_mutex_lock(&agent->lock);
    is_scanned = agent->n_scans > 0;
    pthread_mutex_unlock(&agent->lock);
    return is_scanned;
}

static int replace(struct job *job, MDB_txn *txn, struct made *made)
{
    const struct day_key *sources = (const void *) job->sources.data;
    int rc = 0;

    for (size_t i = 0; i < made->n_sources && !rc; i++) {
        uint8_t name[DAY_KEY_BYTES];
        MDB_val key = db_val(name, sizeof(name));

        day_key_put(name, &sources[made->first_source + i]);
        rc = mdb_del(txn, job->day->blocks, &key, NULL);
    }
    if (rc)
        return pass(db_check(rc, "cannot remove a block"));
    return pass(seal_put_block(job->day, txn, &made->key, &made->prefix,
                               span_of(job->bytes.data + made->at, made->len)));
}

/* Outcomes: STORE_FULL. *ret_all: no scan was in the way. */
static int commit(struct job *job, bool *ret_all)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct sealer *sealer = job->sealer;
    struct made *made = (void *) job->made.data;
    size_t n = job->made.len / sizeof(*made), n_done = 0;
    int r;

    *ret_all = true;
    if (n == 0)
        return 0;
    r = db_check(mdb_txn_begin(job->day->env, NULL, 0, &txn), "cannot begin to write a day");
    for (size_t i = 0; i < n && !r; i++) {
        if (is_scanned(made[i].agent)) {
            *ret_all = false;
            continue;
        }
        r = replace(job, txn, &made[i]);
        n_done++;
    }
    if (r)
        return pass(r);
    faultpoint("compact_before_commit");
    r = db_commit(job->day->env, take(txn), "cannot commit a day");
    if (r)
        return pass(r);
    faultpoint("compact_after_commit");
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.n_compacted += n_done;
    pthread_mutex_unlock(&sealer->shared.lock);
    return 0;
}

/* ---- the sweep ---- */

/* Agents from sweep->agent on, as many as one step takes. */
static int sweep_agents(struct job *job, struct sweep *sweep)
{
    struct agents *agents = &job->sealer->store->agents;
    uint32_t last = idtable_highest(&agents->table);
    int r = 0;

    for (uint32_t n = 0; n < COMPACT_AGENTS && sweep->agent <= last && !r &&
                         job->bytes.len + roller_bytes(job->sealer->roller) < SEAL_GROUP_BYTES;
         n++, sweep->agent++) {
        bool is_rolled = true;

        job->agent = agents_get(agents, sweep->agent);
        if (!job->agent || agent_is_gone(job->agent))
            continue;
        /* First: what the compactor makes stands for blocks that are counted in the marks. */
        r = roller_agent(job->sealer, job->day, job->agent, sweep->now_us - SETTLED_US, &is_rolled);
        if (!r && !is_rolled)
            break;
        if (!r)
            r = compact_agent(job);
    }
    return pass(r);
}

/* What is not compacted is larger than it need be, and whole: no reason to take nothing new. */
void compact_say_no_room(struct sealer *sealer, const struct day *day)
{
    sealer->sweep.is_short = true;
    log_event(LOG_WARN, "compaction_has_no_room", LOG_S("path", day->path),
              LOG_S("remedy", "the day stays larger than it need be; free space on this disk"));
}

int compact_rewrite(struct sealer *sealer, struct days *days, struct day *day)
{
    /* The copy lies beside: not when that would fill the disk. */
    if (!store_disk_has_room(sealer->store, day_file_bytes(day)))
        return STORE_FULL;
    return pass(days_rewrite(days, day->number));
}

static int rewrite(struct sealer *sealer, struct day *day)
{
    struct days *days = &sealer->store->days;
    int r = day->has_erased ? erase_rewrite(sealer, days, day) : compact_rewrite(sealer, days, day);

    if (r == STORE_FULL)
        compact_say_no_room(sealer, day);
    return r == STORE_FULL ? 0 : pass(r);
}

static void pass_over(struct sweep *sweep, int32_t number)
{
    sweep->day = number + 1;
    sweep->agent = 1;
    sweep->is_whole = true;
}

/* The day is through: what it is when nothing was in the way, and it is over, is its last form. */
static int end_day(struct sealer *sealer, struct day *day, struct sweep *sweep)
{
    bool is_over = compact_level_due(day, INT64_MAX / 2, sweep->now_us) == 2;
    bool wants_rewrite = day->has_erased;
    int r = 0;

    /* Of a day that is not over, what is not due yet will be. */
    if (sweep->is_whole && is_over) {
        /* Agents that were looked at may have got blocks since: then it is not done. */
        if (day->n_new == sweep->n_new)
            day->n_new = 0;
        wants_rewrite = wants_rewrite || (day->n_new == 0 && day_wants_rewrite(day));
    }
    if (wants_rewrite && !sealer->store->days.cannot_exchange)
        r = rewrite(sealer, day);
    pass_over(sweep, day->number);
    return pass(r);
}

static int sweep_day(struct sealer *sealer, struct day *day, struct sweep *sweep)
{
    CLEANUP(job_deinit)
    struct job job = { .sealer = sealer, .day = day, .now_us = sweep->now_us };
    bool is_all = true;
    int r = 0;

    if (sweep->agent == 1)
        sweep->n_new = day->n_new;
    if (day->n_new == 0)
        sweep->agent = UINT32_MAX;
    else
        r = sweep_agents(&job, sweep);
    if (!r)
        r = roller_commit(sealer);
    if (!r)
        r = commit(&job, &is_all);
    if (r)
        return pass(r);
    sweep->is_whole = sweep->is_whole && is_all;
    if (sweep->agent <= idtable_highest(&sealer->store->agents.table))
        return 0;
    return pass(end_day(sealer, day, sweep));
}

/* Begins one when it is time to. */
static bool is_sweeping(struct sealer *sealer)
{
    struct sweep *sweep = &sealer->sweep;
    int64_t now_us = clock_wall().us, hour = (now_us - SETTLED_US) / HOUR_US;
    bool is_asked, begins;

    pthread_mutex_lock(&sealer->shared.lock);
    is_asked = sealer->shared.wants_sweep;
    begins = !sweep->is_running && (is_asked || hour != sweep->hour);
    if (begins) {
        sealer->shared.wants_sweep = false;
        sealer->shared.n_sweeps_begun++;
    }
    pthread_mutex_unlock(&sealer->shared.lock);
    if (begins)
        *sweep = (struct sweep){ .is_running = true,
                                 .is_whole = true,
                                 .hour = hour,
                                 .now_us = is_asked ? INT64_MAX / 4 : now_us,
                                 .day = INT32_MIN,
                                 .agent = 1,
                                 .period = INT32_MIN };
    return sweep->is_running;
}

int compact_step(struct sealer *sealer, bool *ret_has_more)
{
    struct days *days = &sealer->store->days;
    struct sweep *sweep = &sealer->sweep;
    struct day *day;
    int32_t number;
    int r;

    *ret_has_more = false;
    if (!is_sweeping(sealer))
        return 0;
    number = days_next(days, sweep->day);
    if (number == INT32_MAX) {
        r = erase_rewrite_rolled(sealer, ret_has_more);
        if (r || *ret_has_more)
            return pass(r);
        sweep->is_running = false;
        pthread_mutex_lock(&sealer->shared.lock);
        sealer->shared.n_sweeps++;
        sealer->shared.is_sweep_short = sweep->is_short;
        pthread_mutex_unlock(&sealer->shared.lock);
        return 0;
    }
    *ret_has_more = true;
    if (number != sweep->day) {
        sweep->day = number;
        sweep->agent = 1;
        sweep->is_whole = true;
    }
    r = days_use(days, number, &day);
    if (r == STORE_NOT_FOUND) {
        pass_over(sweep, number);
        return 0;
    }
    if (r)
        return pass(r);
    r = sweep_day(sealer, day, sweep);
    if (r == STORE_FULL) {
        compact_say_no_room(sealer, day);
        pass_over(sweep, number);
        r = 0;
    }
    days_release(days, day);
    return pass(r);
}
