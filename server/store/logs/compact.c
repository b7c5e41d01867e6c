/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Compaction of logs: blocks of one agent and source, as small as they were sealed, become blocks
 * of about LOGBLOCK_RAW_GOAL, encoded with more effort: of an hour when that is over, of a day when
 * that is. Records stay what they are, with their places and in their order, which is that of
 * (seal, part) within a source; times of blocks may meet, as readers put records in order
 * themselves. What comes out carries the highest (seal, part) of its sources.
 *
 * What an agent has on a day is listed once in a sweep, from the keys and prefixes; then run by run
 * is read, some mebibytes in each step, and one transaction puts what stands for them and takes the
 * sources away. This thread is the only one that writes to days, so the list holds; what is sealed
 * meanwhile is for the next sweep.
 *
 * No block of an agent is replaced that has readers (logs_view_begin()). One that begins while the
 * transaction is under way sees the day before or after it, as a whole, in one transaction.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/store/days/scan.h"
#include "server/store/logs/seal.h"
#include "server/store/whole.h"

#define STEP_RAW_BYTES (UINT64_C(8) << 20) /* encoded in one step; a run always may be */
#define STEP_AGENTS 64u                    /* looked at in one step */
#define ROOM_BYTES ((size_t) 1 << 30)      /* of a run's records: more than they take */

/* A block of the agent under way. */
struct listed {
    struct day_key key;
    struct day_prefix prefix;
};

/* A block that stands for others. */
struct made {
    struct agent *agent;
    struct listed block;
    size_t at, len;                 /* in bytes */
    size_t first_source, n_sources; /* in sources */
};

struct logs_sweep {
    bool is_running;
    bool is_whole; /* no reader was in the way on this day */
    bool is_short; /* a day had no room for it */
    int64_t hour;  /* of the last one */
    int64_t now_us;
    int32_t day;
    uint32_t agent;
    uint64_t n_new; /* of the day, when its first agent was looked at */
    /* The agent under way. */
    bool has_list;
    struct buf list; /* struct listed, by source and place */
    size_t next;     /* in the list */
    /* The step under way. */
    uint64_t n_step_bytes;
    struct buf made, sources, bytes; /* struct made, struct day_key, encoded */
    /* Room. */
    struct buf found;
    struct logblock_work *work;
    struct logblock_room *room;
    struct arena arena; /* of a run's records */
    struct logblock_record *records;
    size_t n_records, records_capacity;
    struct logblock_source source;
};

struct logs_sweep *logs_sweep_new(void)
{
    struct logs_sweep *sweep = calloc(1, sizeof(*sweep));

    if (!sweep)
        return NULL;
    arena_init(&sweep->arena, ROOM_BYTES);
    sweep->work = logblock_work_new();
    sweep->room = logblock_room_new();
    return sweep->work && sweep->room ? sweep : logs_sweep_free(sweep);
}

struct logs_sweep *logs_sweep_free(struct logs_sweep *sweep)
{
    if (!sweep)
        return NULL;
    buf_deinit(&sweep->list);
    buf_deinit(&sweep->made);
    buf_deinit(&sweep->sources);
    buf_deinit(&sweep->bytes);
    buf_deinit(&sweep->found);
    logblock_work_free(sweep->work);
    logblock_room_free(sweep->room);
    arena_deinit(&sweep->arena);
    free(sweep->records);
    free(sweep);
    return NULL;
}

/* ---- which ---- */

static int by_place(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;

    if (x->prefix.source != y->prefix.source)
        return x->prefix.source < y->prefix.source ? -1 : 1;
    if (x->key.seal != y->key.seal)
        return x->key.seal < y->key.seal ? -1 : 1;
    return (x->key.part > y->key.part) - (x->key.part < y->key.part);
}

static int list_blocks(struct logs_sweep *sweep, struct day *day, MDB_txn *txn)
{
    struct find_blocks find = {
        .agent = sweep->agent, .from_us = INT64_MIN, .to_us = INT64_MAX, .seal = UINT64_MAX
    };
    const struct found_block *found;
    uint64_t n_damaged = 0; /* a reader says so; they stay as they are */
    int r;

    buf_clear(&sweep->found);
    buf_clear(&sweep->list);
    r = found_blocks(day, txn, &find, &sweep->found, &n_damaged);
    if (r == STORE_NOT_FOUND)
        day_found_damage(day, "pages that lead nowhere");
    if (r < 0)
        return pass(r);
    found = (const void *) sweep->found.data;
    for (size_t i = 0; i < sweep->found.len / sizeof(*found); i++) {
        struct listed listed = { found[i].key, found[i].prefix };

        buf_append(&sweep->list, &listed, sizeof(listed));
    }
    if (buf_failed(&sweep->list))
        return fault(-ENOMEM, "no memory for a list of blocks");
    if (sweep->list.len)
        qsort(sweep->list.data, sweep->list.len / sizeof(struct listed), sizeof(struct listed),
              by_place);
    sweep->next = 0;
    sweep->has_list = true;
    return 0;
}

/* Blocks [first, end) of the list that should be one. */
struct stretch {
    size_t first, end;
    uint32_t level;
};

static int64_t bucket_of(const struct listed *block, uint32_t level)
{
    return level == 1 ? block->key.first_us / STORE_HOUR_US : 0;
}

/* The next blocks that go together, from sweep->next on. */
static struct stretch stretch_from(const struct logs_sweep *sweep, const struct day *day)
{
    const struct listed *blocks = (const void *) sweep->list.data, *first = &blocks[sweep->next];
    size_t n = sweep->list.len / sizeof(*blocks);
    int64_t settled_us = sweep->now_us;
    struct stretch run = { sweep->next, sweep->next + 1,
                           compact_level_due(day, first->prefix.last_us, settled_us) };
    uint64_t n_raw_bytes = first->prefix.n_samples, n_records = first->prefix.n_rows;

    for (; run.end < n; run.end++) {
        const struct listed *more = &blocks[run.end];

        n_raw_bytes += more->prefix.n_samples;
        n_records += more->prefix.n_rows;
        if (more->prefix.source != first->prefix.source || n_raw_bytes > LOGBLOCK_RAW_GOAL ||
            n_records > LOGBLOCK_RECORDS_MAX ||
            compact_level_due(day, more->prefix.last_us, settled_us) != run.level ||
            bucket_of(more, run.level) != bucket_of(first, run.level))
            break;
    }
    return run;
}

/* One alone is encoded again only for the effort. */
static bool is_wanted(const struct logs_sweep *sweep, const struct stretch *run)
{
    const struct listed *blocks = (const void *) sweep->list.data;
    bool is_wanted = false;

    if (run->end == run->first + 1)
        return run->level > 0 && blocks[run->first].prefix.level == 0;
    for (size_t i = run->first; i < run->end; i++)
        is_wanted = is_wanted || blocks[i].prefix.level < run->level;
    return is_wanted;
}

/* ---- reading the sources ---- */

static int copy_span(struct logs_sweep *sweep, struct span *span)
{
    char *copy;

    if (span->len == 0)
        return 0;
    copy = arena_copy(&sweep->arena, *span);
    if (!copy)
        return fault(-ENOMEM, "no memory for the records of a block");
    span->data = (const uint8_t *) copy;
    return 0;
}

static int
copy_attributes(struct logs_sweep *sweep, const struct logblock_attribute **attributes, size_t n)
{
    struct logblock_attribute *copy;
    int r = 0;

    if (n == 0)
        return 0;
    copy = arena_alloc_array(&sweep->arena, n, sizeof(*copy));
    if (!copy)
        return fault(-ENOMEM, "no memory for the attributes of a block");
    memcpy(copy, *attributes, n * sizeof(*copy));
    for (size_t i = 0; i < n && !r; i++) {
        r = copy_span(sweep, &copy[i].key);
        if (!r)
            r = copy_span(sweep, &copy[i].value);
    }
    *attributes = copy;
    return pass(r);
}

static int copy_source(struct logs_sweep *sweep, const struct logblock_source *source)
{
    int r;

    sweep->source = *source;
    r = copy_span(sweep, &sweep->source.type);
    if (!r)
        r = copy_span(sweep, &sweep->source.name);
    return r ? pass(r)
             : pass(copy_attributes(sweep, &sweep->source.attributes, source->n_attributes));
}

static int copy_records(struct logs_sweep *sweep, const struct logblock_record *records, size_t n)
{
    size_t needed = sweep->n_records + n;
    int r = 0;

    if (needed > sweep->records_capacity) {
        struct logblock_record *grown =
            reallocarray(sweep->records, needed + needed / 2, sizeof(*grown));

        if (!grown)
            return fault(-ENOMEM, "no memory for %zu records", needed);
        sweep->records = grown;
        sweep->records_capacity = needed + needed / 2;
    }
    for (size_t i = 0; i < n && !r; i++) {
        struct logblock_record *to = &sweep->records[sweep->n_records++];

        *to = records[i];
        r = copy_span(sweep, &to->body);
        if (i && records[i].attributes == records[i - 1].attributes &&
            records[i].n_attributes == records[i - 1].n_attributes)
            to->attributes = to[-1].attributes;
        else if (!r)
            r = copy_attributes(sweep, &to->attributes, to->n_attributes);
    }
    return pass(r);
}

/* All that stand one behind the other. Outcomes: LOGBLOCK_BAD (also: of another source than the
 * ones before). */
static int read_parts(struct logs_sweep *sweep, struct span bytes, uint32_t n_rows)
{
    size_t n_before = sweep->n_records;
    int r = 0;

    while (!r && bytes.len > 0) {
        struct logblock_record *records;
        struct logblock block;
        uint64_t n_read;
        size_t n = 0;

        r = logblock_next(&bytes, sweep->room, &block);
        if (r == 0 && sweep->n_records == 0)
            r = copy_source(sweep, &block.source);
        else if (r == 0 && !logs_source_equal(&sweep->source, &block.source))
            return LOGBLOCK_BAD;
        if (r == 0)
            r = logblock_find(&block, NULL, sweep->room, &records, &n, &n_read);
        if (r == 0)
            r = copy_records(sweep, records, n);
    }
    if (r == 0 && sweep->n_records - n_before != n_rows)
        return LOGBLOCK_BAD;
    return r < 0 ? pass(r) : r;
}

/* Outcomes: LOGBLOCK_BAD. */
static int read_block(struct logs_sweep *sweep, struct day *day, MDB_txn *txn, size_t i)
{
    const struct listed *listed = (const struct listed *) (const void *) sweep->list.data + i;
    uint8_t name[DAY_KEY_BYTES];
    MDB_val key = db_val(name, sizeof(name)), value;
    struct day_prefix prefix;
    struct span bytes;
    int rc;

    day_key_put(name, &listed->key);
    rc = mdb_get(txn, day->blocks, &key, &value);
    if (rc == MDB_NOTFOUND || db_is_damage(rc))
        return LOGBLOCK_BAD;
    if (rc)
        return fold(db_check(rc, "cannot read a day"));
    if (!day_prefix_get(key, value, &prefix, &bytes))
        return LOGBLOCK_BAD;
    return pass(read_parts(sweep, bytes, prefix.n_rows));
}

/* ---- what stands for them ---- */

static int encode(struct logs_sweep *sweep, struct made *made)
{
    struct logblock_input input = { .source = &sweep->source,
                                    .records = sweep->records,
                                    .n_records = sweep->n_records,
                                    .effort = LOGBLOCK_SMALL };
    int r;

    made->at = sweep->bytes.len;
    r = logblock_encode(sweep->work, &input, &sweep->bytes);
    if (r)
        return pass(r);
    made->len = sweep->bytes.len - made->at;
    buf_append(&sweep->made, made, sizeof(*made));
    return buf_failed(&sweep->made) || buf_failed(&sweep->sources) || buf_failed(&sweep->bytes)
               ? fault(-ENOMEM, "no memory for blocks")
               : 0;
}

static void take_position(struct day_prefix *to, const struct day_prefix *source)
{
    struct position own = { to->chunk, to->offset }, other = { source->chunk, source->offset };

    if (position_is_behind(other, own)) {
        to->chunk = other.chunk;
        to->offset = other.offset;
    }
}

/* Outcomes: LOGBLOCK_BAD (nothing was made). */
static int make_block(struct logs_sweep *sweep,
                      struct agent *agent,
                      struct day *day,
                      const struct stretch *run)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    const struct listed *blocks = (const void *) sweep->list.data;
    struct made made = { .agent = agent,
                         .block = blocks[run->end - 1],
                         .first_source = sweep->sources.len / sizeof(struct day_key),
                         .n_sources = run->end - run->first };
    int r = db_check(mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn), "cannot begin to read a day");

    arena_reset(&sweep->arena, ROOM_BYTES);
    sweep->n_records = 0;
    made.block.prefix.n_samples = 0;
    made.block.prefix.level = run->level;
    for (size_t i = run->first; i < run->end && !r; i++) {
        r = read_block(sweep, day, txn, i);
        made.block.prefix.n_samples += blocks[i].prefix.n_samples;
        if (blocks[i].key.first_us < made.block.key.first_us)
            made.block.key.first_us = blocks[i].key.first_us;
        if (blocks[i].prefix.last_us > made.block.prefix.last_us)
            made.block.prefix.last_us = blocks[i].prefix.last_us;
        take_position(&made.block.prefix, &blocks[i].prefix);
    }
    if (r)
        return r < 0 ? pass(r) : r;
    made.block.prefix.n_rows = (uint32_t) sweep->n_records;
    for (size_t i = run->first; i < run->end; i++)
        buf_append(&sweep->sources, &blocks[i].key, sizeof(blocks[i].key));
    sweep->n_step_bytes += made.block.prefix.n_samples;
    return pass(encode(sweep, &made));
}

/* ---- one agent of a day ---- */

/* *ret_is_done: the agent is through; else the step is. */
static int
compact_agent(struct logs_sweep *sweep, struct agent *agent, struct day *day, bool *ret_is_done)
{
    int r = 0;

    if (!sweep->has_list) {
        CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;

        r = db_check(mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn), "cannot begin to read a day");
        if (!r)
            r = list_blocks(sweep, day, txn);
    }
    while (!r && sweep->next < sweep->list.len / sizeof(struct listed) &&
           sweep->n_step_bytes < STEP_RAW_BYTES) {
        struct stretch run = stretch_from(sweep, day);

        if (is_wanted(sweep, &run))
            r = make_block(sweep, agent, day, &run);
        if (r == LOGBLOCK_BAD)
            r = 0; /* a reader says so; they stay as they are */
        sweep->next = run.end;
    }
    *ret_is_done = sweep->next >= sweep->list.len / sizeof(struct listed);
    sweep->has_list = sweep->has_list && !*ret_is_done;
    return pass(r);
}

static int sweep_agents(struct sealer *sealer, struct logs_sweep *sweep, struct day *day)
{
    struct agents *agents = &sealer->store->agents;
    uint32_t last = idtable_highest(&agents->table);
    int r = 0;

    for (uint32_t n = 0;
         n < STEP_AGENTS && sweep->agent <= last && !r && sweep->n_step_bytes < STEP_RAW_BYTES;
         n++) {
        struct agent *agent = agents_get(agents, sweep->agent);
        bool is_done = true;

        if (agent && !agent_is_gone(agent))
            r = compact_agent(sweep, agent, day, &is_done);
        else
            sweep->has_list = false; /* of one that was forgotten half way */
        sweep->agent += is_done;
    }
    return pass(r);
}

/* ---- the transaction ---- */

static bool has_readers(struct agent *agent)
{
    bool has_readers;

    pthread_mutex_lock(&agent->lock);
    has_readers = agent->logs.n_readers > 0;
    pthread_mutex_unlock(&agent->lock);
    return has_readers;
}

static int replace(struct logs_sweep *sweep, struct day *day, MDB_txn *txn, struct made *made)
{
    const struct day_key *sources = (const void *) sweep->sources.data;
    int rc = 0;

    for (size_t i = 0; i < made->n_sources && !rc; i++) {
        uint8_t name[DAY_KEY_BYTES];
        MDB_val key = db_val(name, sizeof(name));

        day_key_put(name, &sources[made->first_source + i]);
        rc = mdb_del(txn, day->blocks, &key, NULL);
    }
    if (rc)
        return pass(db_check(rc, "cannot remove a block"));
    return pass(seal_put_block(day, txn, &made->block.key, &made->block.prefix,
                               span_of(sweep->bytes.data + made->at, made->len)));
}

/* Outcomes: STORE_FULL. */
static int commit(struct sealer *sealer, struct logs_sweep *sweep, struct day *day)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    struct made *made = (void *) sweep->made.data;
    size_t n = sweep->made.len / sizeof(*made), n_done = 0;
    int r;

    if (n == 0)
        return 0;
    r = db_check(mdb_txn_begin(day->env, NULL, 0, &txn), "cannot begin to write a day");
    for (size_t i = 0; i < n && !r; i++) {
        if (has_readers(made[i].agent)) {
            sweep->is_whole = false;
            continue;
        }
        r = replace(sweep, day, txn, &made[i]);
        n_done++;
    }
    if (r)
        return pass(r);
    faultpoint("logs_compact_before_commit");
    r = db_commit(day->env, take(txn), "cannot commit a day");
    if (r)
        return pass(r);
    faultpoint("logs_compact_after_commit");
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.n_logs_compacted += n_done;
    pthread_mutex_unlock(&sealer->shared.lock);
    return 0;
}

/* ---- the sweep ---- */

/* What is not compacted is larger than it need be, and whole: no reason to take nothing new. */
static void say_no_room(struct logs_sweep *sweep, const struct day *day)
{
    sweep->is_short = true;
    log_event(LOG_WARN, "compaction_has_no_room", LOG_S("path", day->path),
              LOG_S("remedy", "the day stays larger than it need be; free space on this disk"));
}

static void go_to(struct logs_sweep *sweep, int32_t number)
{
    sweep->day = number;
    sweep->agent = 1;
    sweep->is_whole = true;
    sweep->has_list = false;
}

/* As days/compact.c does with a day of metrics. */
static int end_day(struct sealer *sealer, struct logs_sweep *sweep, struct day *day)
{
    struct days *days = &sealer->store->logs;
    bool wants_rewrite = day->has_erased;
    int r = 0;

    if (sweep->is_whole && compact_level_due(day, INT64_MAX / 2, sweep->now_us) == 2) {
        if (day->n_new == sweep->n_new)
            day->n_new = 0;
        wants_rewrite = wants_rewrite || (day->n_new == 0 && day_wants_rewrite(day));
    }
    if (wants_rewrite && !days->cannot_exchange)
        r = day->has_erased ? erase_rewrite(sealer, days, day) : compact_rewrite(sealer, days, day);
    if (r == STORE_FULL)
        say_no_room(sweep, day);
    go_to(sweep, day->number + 1);
    return r == STORE_FULL ? 0 : pass(r);
}

static int sweep_day(struct sealer *sealer, struct logs_sweep *sweep, struct day *day)
{
    int r = 0;

    buf_clear(&sweep->made);
    buf_clear(&sweep->sources);
    buf_clear(&sweep->bytes);
    sweep->n_step_bytes = 0;
    if (sweep->agent == 1 && !sweep->has_list)
        sweep->n_new = day->n_new;
    if (day->n_new == 0)
        sweep->agent = UINT32_MAX;
    else
        r = sweep_agents(sealer, sweep, day);
    if (!r)
        r = commit(sealer, sweep, day);
    if (r)
        return pass(r);
    if (sweep->agent <= idtable_highest(&sealer->store->agents.table))
        return 0;
    return pass(end_day(sealer, sweep, day));
}

/* Begins one when it is time to. */
static bool is_sweeping(struct sealer *sealer, struct logs_sweep *sweep)
{
    int64_t now_us = clock_wall().us, hour = (now_us - COMPACT_SETTLED_US) / STORE_HOUR_US;
    bool is_asked, begins;

    pthread_mutex_lock(&sealer->shared.lock);
    is_asked = sealer->shared.wants_logs_sweep;
    begins = !sweep->is_running && (is_asked || hour != sweep->hour);
    if (begins) {
        sealer->shared.wants_logs_sweep = false;
        sealer->shared.n_logs_sweeps_begun++;
    }
    pthread_mutex_unlock(&sealer->shared.lock);
    if (begins) {
        sweep->is_running = true;
        sweep->is_short = false;
        sweep->hour = hour;
        sweep->now_us = is_asked ? INT64_MAX / 4 : now_us;
        go_to(sweep, INT32_MIN);
    }
    return sweep->is_running;
}

static void end_sweep(struct sealer *sealer, struct logs_sweep *sweep)
{
    sweep->is_running = false;
    pthread_mutex_lock(&sealer->shared.lock);
    sealer->shared.n_logs_sweeps++;
    sealer->shared.is_logs_sweep_short = sweep->is_short;
    pthread_mutex_unlock(&sealer->shared.lock);
}

int logs_compact_step(struct sealer *sealer, bool *ret_has_more)
{
    struct logs_sweep *sweep = sealer->logs_sweep;
    struct days *days = &sealer->store->logs;
    struct day *day;
    int32_t number;
    int r;

    *ret_has_more = false;
    if (!is_sweeping(sealer, sweep))
        return 0;
    number = days_next(days, sweep->day);
    if (number == INT32_MAX) {
        end_sweep(sealer, sweep);
        return 0;
    }
    *ret_has_more = true;
    if (number != sweep->day)
        go_to(sweep, number);
    r = days_use(days, number, &day);
    if (r == STORE_NOT_FOUND) {
        go_to(sweep, number + 1);
        return 0;
    }
    if (r)
        return pass(r);
    r = sweep_day(sealer, sweep, day);
    if (r == STORE_FULL) {
        say_no_room(sweep, day);
        go_to(sweep, number + 1);
        r = 0;
    }
    days_release(days, day);
    return pass(r);
}
