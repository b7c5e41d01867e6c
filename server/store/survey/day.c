/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Survey: the blocks of a day, of metrics or of logs, agent by agent: each one's blocks and the
 * record of how far it is sealed come from one snapshot, and none is held so long that the file
 * would grow by it.
 */

#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/store/block/block.h"
#include "server/store/days/days.h"
#include "server/store/logs/logs.h"
#include "server/store/survey/survey.h"

#define SNAPSHOT_BYTES (UINT64_C(64) << 20) /* read from one snapshot, and the agent's rest */
#define SLICE_VALUES ((size_t) 1 << 18)     /* decoded at a time */

enum { BLOCKS, AGENTS, META, N_TABLES };

static const char *const table_names[N_TABLES] = { "blocks", "agents", "meta" };

struct walk {
    struct survey *survey;
    struct logblock_room *logs; /* NULL: a day of metrics */
    MDB_env *env;
    MDB_txn *txn;
    MDB_cursor *cursors[2]; /* of BLOCKS and AGENTS */
    MDB_dbi tables[N_TABLES];
    bool has_tables;
    uint64_t seal; /* the highest there may be */
    uint64_t n_snapshot_bytes;
    uint64_t payload[STORE_LEVELS];
    /* The agent under way. */
    uint32_t agent;
    struct buf spans;       /* struct day_span: of its blocks */
    struct position sealed; /* the highest of its blocks */
    bool has_damage;
    /* Room. */
    struct buf opened, times, values, marks, columns;
};

/* ---- snapshots ---- */

static void end_snapshot(struct walk *walk)
{
    for (int i = 0; i < 2; i++)
        db_cursor_closep(&walk->cursors[i]);
    db_txn_abortp(&walk->txn);
    walk->cursors[0] = walk->cursors[1] = NULL;
    walk->txn = NULL;
}

/* The answer is LMDB's. */
static int begin_snapshot(struct walk *walk)
{
    MDB_val key = db_val("seal", 4), value;
    int rc = db_begin_read(walk->env, &walk->txn);

    for (int i = 0; i < N_TABLES && !rc && !walk->has_tables; i++)
        rc = mdb_dbi_open(walk->txn, table_names[i], 0, &walk->tables[i]);
    walk->has_tables = walk->has_tables || rc == 0;
    for (int i = 0; i < 2 && !rc; i++)
        rc = mdb_cursor_open(walk->txn, walk->tables[i], &walk->cursors[i]);
    walk->n_snapshot_bytes = 0;
    walk->seal = 0;
    if (!rc && mdb_get(walk->txn, walk->tables[META], &key, &value) == 0 &&
        value.mv_size == sizeof(walk->seal))
        memcpy(&walk->seal, value.mv_data, sizeof(walk->seal));
    return rc;
}

/* ---- one block ---- */

static int block_damage(struct walk *walk, const struct day_key *key, const char *what)
{
    char time[TEXT_TIME_BYTES];

    walk->has_damage = true;
    return survey_damage(walk->survey, what, "agent %u, block of %s, seal %llu, part %u",
                         key->agent, text_of_time((wall_us){ key->first_us }, time),
                         (unsigned long long) key->seal, key->part);
}

static uint64_t count_marks(const uint64_t *marks, size_t n)
{
    uint64_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += (uint64_t) __builtin_popcountll(marks[i]);
    return count;
}

static void *room(struct buf *buf, size_t n_bytes)
{
    buf_clear(buf);
    return buf_extend(buf, n_bytes);
}

/* Every value of a part. Outcomes: BLOCK_BAD. */
static int decode_part(struct walk *walk, const struct block_part *part, uint64_t *n_samples)
{
    size_t n_words = codec_mark_words(part->n_rows), n_slice = SLICE_VALUES / part->n_rows + 1;
    double *values = room(&walk->values, n_slice * part->n_rows * sizeof(*values));
    uint64_t *marks = room(&walk->marks, n_slice * n_words * sizeof(*marks));
    uint32_t *columns = room(&walk->columns, n_slice * sizeof(*columns));

    if (!values || !marks || !columns)
        return fault(-ENOMEM, "no memory for the values of a block");
    for (size_t first = 0; first < part->n_columns; first += n_slice) {
        size_t n = part->n_columns - first < n_slice ? part->n_columns - first : n_slice;
        int r;

        for (size_t i = 0; i < n; i++)
            columns[i] = (uint32_t) (first + i);
        r = block_columns(part, columns, n, part->n_rows, values, marks);
        if (r)
            return r;
        *n_samples += (uint64_t) n * part->n_rows - count_marks(marks, n * n_words);
    }
    return 0;
}

/* The times of a part; its span is added. Outcomes: BLOCK_BAD. */
static int decode_times(struct walk *walk, const struct block *block, const struct block_part *part)
{
    int64_t *times = room(&walk->times, part->n_rows * sizeof(*times));
    struct day_span span = { .layout = part->layout, .n_rows = part->n_rows };
    int r;

    if (!times)
        return fault(-ENOMEM, "no memory for the times of a block");
    r = block_times(part, times);
    if (r)
        return r;
    span.first_us = times[0];
    span.last_us = times[part->n_rows - 1];
    for (uint32_t i = 1; i < part->n_rows; i++) {
        if (times[i] < times[i - 1])
            return BLOCK_BAD;
    }
    if (span.first_us < block->first_us || span.last_us > block->last_us)
        return BLOCK_BAD;
    day_spans_add(&walk->spans, &span);
    return buf_failed(&walk->spans) ? fault(-ENOMEM, "no memory for spans") : 0;
}

static int decode_block(struct walk *walk,
                        const struct day_key *key,
                        const struct block *block,
                        const struct day_prefix *prefix)
{
    struct block_cursor cursor = { 0 };
    struct block_part part;
    uint64_t n_samples = 0;
    int r = 0;

    while (!r && block_next(block, &cursor, &part)) {
        r = decode_times(walk, block, &part);
        if (r == BLOCK_BAD)
            return block_damage(walk, key, "its times do not decode, or not to times in order");
        if (!r)
            r = decode_part(walk, &part, &n_samples);
        if (r == BLOCK_BAD)
            return block_damage(walk, key, "a column does not decode");
        if (!r)
            r = survey_use(walk->survey, key->agent, part.layout, part.n_columns);
    }
    if (!r && n_samples != prefix->n_samples)
        r = block_damage(walk, key, "not as many samples as its head says");
    return r;
}

static int check_block(struct walk *walk,
                       const struct day_key *key,
                       const struct day_prefix *prefix,
                       struct span bytes)
{
    struct block block;
    int r = block_open(bytes, &walk->opened, &block);

    if (r == BLOCK_BAD)
        return block_damage(walk, key, "bad checksum, or no block at all");
    if (r)
        return r;
    if (block.agent != key->agent || block.first_us != key->first_us ||
        block.last_us != prefix->last_us || block.n_rows != prefix->n_rows)
        return block_damage(walk, key, "its key and its head say other than the block itself");
    if (day_of(block.first_us) != walk->survey->period ||
        day_of(block.last_us) != walk->survey->period)
        return block_damage(walk, key, "its times are not of this day");
    if (key->seal > walk->seal)
        return block_damage(walk, key, "a seal number that was not given yet");
    return decode_block(walk, key, &block, prefix);
}

/* ---- one block of logs ---- */

static bool is_behind(const struct logblock_place *a, const struct logblock_place *b)
{
    if (a->chunk != b->chunk)
        return a->chunk > b->chunk;
    return a->offset != b->offset ? a->offset > b->offset : a->index > b->index;
}

/* What was read of blocks that stand one behind the other. */
struct log_sums {
    int64_t first_us, last_us;
    uint64_t n_records, n_raw_bytes;
    struct logblock_place last; /* of the record before */
};

/* Every record. NULL: they are what the block says of them. */
static const char *
wrong_with_records(struct walk *walk, const struct logblock *block, struct log_sums *sums)
{
    int64_t first_us = INT64_MAX, last_us = INT64_MIN;
    struct logblock_record *records;
    uint64_t n_bytes, n_raw_bytes = 0;
    size_t n;

    if (logblock_find(block, NULL, walk->logs, &records, &n, &n_bytes) != LOGBLOCK_OK)
        return "a column or the bodies do not decode";
    for (size_t i = 0; i < n; i++) {
        first_us = records[i].time_us < first_us ? records[i].time_us : first_us;
        last_us = records[i].time_us > last_us ? records[i].time_us : last_us;
        n_raw_bytes += logblock_raw_bytes(&records[i]);
        if (sums->n_records + i && !is_behind(&records[i].place, &sums->last))
            return "its records are not in the order of their places";
        sums->last = records[i].place;
    }
    if (n != block->n_records || first_us != block->first_us || last_us != block->last_us ||
        n_raw_bytes != block->n_raw_bytes)
        return "its head says other than its records";
    sums->n_records += n;
    sums->n_raw_bytes += n_raw_bytes;
    sums->first_us = first_us < sums->first_us ? first_us : sums->first_us;
    sums->last_us = last_us > sums->last_us ? last_us : sums->last_us;
    return NULL;
}

static int check_log_block(struct walk *walk,
                           const struct day_key *key,
                           const struct day_prefix *prefix,
                           struct span bytes)
{
    struct log_sums sums = { .first_us = INT64_MAX, .last_us = INT64_MIN };
    struct day_span span = { .n_rows = prefix->n_rows };
    const char *wrong = NULL;

    while (!wrong && bytes.len > 0) {
        struct logblock block;
        int r = logblock_next(&bytes, walk->logs, &block);

        if (r == LOGBLOCK_BAD)
            return block_damage(walk, key, "bad checksum, or no block at all");
        if (r)
            return r;
        if (logs_source_tag(&block.source) != prefix->source)
            return block_damage(walk, key, "its key and its head say other than the block itself");
        wrong = wrong_with_records(walk, &block, &sums);
    }
    if (wrong)
        return block_damage(walk, key, wrong);
    if (sums.first_us != key->first_us || sums.last_us != prefix->last_us ||
        sums.n_records != prefix->n_rows || sums.n_raw_bytes != prefix->n_samples)
        return block_damage(walk, key, "its key and its head say other than the block itself");
    if (day_of(sums.first_us) != walk->survey->period ||
        day_of(sums.last_us) != walk->survey->period)
        return block_damage(walk, key, "its times are not of this day");
    if (key->seal > walk->seal)
        return block_damage(walk, key, "a seal number that was not given yet");
    span.first_us = sums.first_us;
    span.last_us = sums.last_us;
    day_spans_add(&walk->spans, &span);
    return buf_failed(&walk->spans) ? fault(-ENOMEM, "no memory for spans") : 0;
}

static int count_log_block(struct walk *walk,
                           const struct day_key *key,
                           const struct day_prefix *prefix,
                           struct span bytes)
{
    struct survey_shared *shared = walk->survey->shared;

    shared->found.logs.n_blocks++;
    shared->found.logs.n_records += prefix->n_rows;
    shared->found.logs.n_raw_bytes += prefix->n_samples;
    shared->environment.n_records++;
    shared->environment.n_samples += prefix->n_rows;
    return walk->survey->asked->is_deep ? check_log_block(walk, key, prefix, bytes) : 0;
}

static int on_block(void *ctx, MDB_val name, MDB_val value)
{
    struct walk *walk = ctx;
    struct survey_shared *shared = walk->survey->shared;
    struct store_level *level;
    struct position sealed;
    struct day_prefix prefix;
    struct day_key key;
    struct span bytes;

    shared->n_read_bytes += value.mv_size;
    walk->n_snapshot_bytes += value.mv_size;
    if (!day_key_get(name, &key)) {
        walk->has_damage = true;
        return survey_damage(walk->survey, "a block's key has not its length", "agent %u",
                             walk->agent);
    }
    if (!day_prefix_get(name, value, &prefix, &bytes) || prefix.level >= STORE_LEVELS)
        return block_damage(walk, &key, "its head has a bad checksum");
    sealed = (struct position){ prefix.chunk, prefix.offset };
    if (position_is_behind(sealed, walk->sealed))
        walk->sealed = sealed;
    if (walk->logs)
        return count_log_block(walk, &key, &prefix, bytes);
    level = &shared->found.levels[prefix.level];
    level->n_blocks++;
    level->n_rows += prefix.n_rows;
    level->n_samples += prefix.n_samples;
    shared->environment.n_records++;
    shared->environment.n_samples += prefix.n_samples;
    walk->payload[prefix.level] += name.mv_size + value.mv_size;
    return walk->survey->asked->is_deep ? check_block(walk, &key, &prefix, bytes) : 0;
}

/* ---- one agent ---- */

static int agent_damage(struct walk *walk, const char *what)
{
    return survey_damage(walk->survey, what, "agent %u", walk->agent);
}

static bool is_same_span(const struct day_span *a, const struct day_span *b)
{
    return a->layout == b->layout && a->first_us == b->first_us && a->last_us == b->last_us &&
           a->n_rows == b->n_rows;
}

/* What the record says of the blocks is what the blocks say. */
static int compare_spans(struct walk *walk, struct span told)
{
    const struct day_span *seen = (const void *) walk->spans.data;
    size_t n_seen = walk->spans.len / sizeof(*seen), n_told = told.len / sizeof(struct day_span);

    if (walk->has_damage)
        return 0; /* the blocks are told already */
    for (size_t i = 0; i < n_told; i++) {
        bool is_seen = false;
        struct day_span span;

        memcpy(&span, told.data + i * sizeof(span), sizeof(span));
        for (size_t k = 0; k < n_seen && !is_seen; k++)
            is_seen = is_same_span(&span, &seen[k]);
        if (!is_seen)
            return agent_damage(walk, "its record has rows that no block has, or not so many");
    }
    return n_seen == n_told ? 0 : agent_damage(walk, "its record lacks layouts that blocks have");
}

static int check_record(struct walk *walk)
{
    uint8_t name[4];
    MDB_val key = db_val(name, sizeof(name)), value;
    struct position sealed;
    struct span spans;
    int rc;

    db_key_u32(name, walk->agent);
    rc = mdb_get(walk->txn, walk->tables[AGENTS], &key, &value);
    if (rc == MDB_NOTFOUND)
        return agent_damage(walk, "has blocks, and no record of how far it is sealed");
    if (rc)
        return survey_end(walk->survey, rc, "agents");
    walk->survey->shared->n_read_bytes += value.mv_size;
    if (!day_agent_read(key, value, &sealed, &spans))
        return agent_damage(walk, "its record of how far it is sealed has a bad checksum");
    if (sealed.chunk == 0)
        return agent_damage(walk, "its record says that it is sealed up to nowhere");
    if (position_is_behind(walk->sealed, sealed))
        return agent_damage(walk, "a block of it is sealed farther than its record says");
    if (walk->survey->asked->is_deep)
        return compare_spans(walk, spans);
    return walk->logs ? 0 : survey_use_spans(walk->survey, walk->agent, spans);
}

static int on_agent(struct walk *walk)
{
    int r;

    buf_clear(&walk->spans);
    walk->has_damage = false;
    walk->sealed = (struct position){ 0 };
    r = survey_each_of(walk->survey, walk->cursors[BLOCKS], "blocks", walk->agent, on_block, walk);
    if (!r && walk->logs)
        r = survey_use(walk->survey, walk->agent, SURVEY_LOGS, 0);
    return r ? r : check_record(walk);
}

/* ---- the day ---- */

static int next_agent(struct walk *walk, uint32_t from, uint32_t *ret)
{
    return survey_next_agent(walk->survey, walk->cursors, table_names, 2, from, ret);
}

static int walk_agents(struct walk *walk)
{
    uint32_t agent;
    int r = next_agent(walk, 1, &agent), rc = 0;

    while (!r && !rc && agent) {
        walk->agent = agent;
        r = on_agent(walk);
        if (!r && walk->n_snapshot_bytes > SNAPSHOT_BYTES) {
            end_snapshot(walk);
            rc = begin_snapshot(walk);
        }
        if (!r && !rc && agent == UINT32_MAX)
            break;
        if (!r && !rc)
            r = next_agent(walk, agent + 1, &agent);
    }
    return r ? r : survey_end(walk->survey, rc, "the next snapshot");
}

/* The file's bytes by level, as the blocks of each share them. */
static void share_bytes(struct walk *walk)
{
    struct store_level *levels = walk->survey->shared->found.levels;
    uint64_t n_bytes = walk->survey->shared->environment.n_bytes, n_all = 0;

    for (int i = 0; i < STORE_LEVELS; i++)
        n_all += walk->payload[i];
    for (int i = 0; i < STORE_LEVELS && n_all; i++)
        levels[i].n_bytes +=
            (uint64_t) ((double) n_bytes * (double) walk->payload[i] / (double) n_all);
}

static void count_day(struct walk *walk)
{
    const struct store_environment *environment = &walk->survey->shared->environment;
    struct store_found *found = &walk->survey->shared->found;

    *(walk->logs ? &found->logs.n_days : &found->n_days) += 1;
    *(walk->logs ? &found->logs.n_bytes : &found->day_bytes) += environment->n_bytes;
    *(walk->logs ? &found->logs.n_free_pages : &found->n_day_free_pages) +=
        environment->n_free_pages;
}

static int walk_day(struct walk *walk)
{
    struct survey_shared *shared = walk->survey->shared;
    int r, rc = begin_snapshot(walk);

    /* All tables come with the first commit: without one it is only about to begin. */
    if (rc == MDB_NOTFOUND && mdb_txn_id(walk->txn) > 0)
        return survey_damage(walk->survey, "a table is not there", "the list of tables");
    if (rc)
        return survey_end(walk->survey, rc, "the list of tables");
    shared->environment.kind = walk->logs ? STORE_LOG_DAY : STORE_DAY;
    survey_pages(walk->survey, walk->txn, walk->tables, N_TABLES);
    count_day(walk);
    r = walk_agents(walk);
    share_bytes(walk);
    return r;
}

static int survey_one(struct survey *survey, struct logblock_room *logs)
{
    struct walk walk = { .survey = survey, .logs = logs };
    int r = survey_open(survey, N_TABLES, &walk.env);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : r;
    r = walk_day(&walk);
    end_snapshot(&walk);
    mdb_env_close(walk.env);
    buf_deinit(&walk.spans);
    buf_deinit(&walk.opened);
    buf_deinit(&walk.times);
    buf_deinit(&walk.values);
    buf_deinit(&walk.marks);
    buf_deinit(&walk.columns);
    return r;
}

int survey_day(struct survey *survey)
{
    return survey_one(survey, NULL);
}

int survey_logs(struct survey *survey)
{
    struct logblock_room *room = logblock_room_new();
    int r = room ? survey_one(survey, room) : fault(-ENOMEM, "no memory for a block of logs");

    logblock_room_free(room);
    return r;
}
