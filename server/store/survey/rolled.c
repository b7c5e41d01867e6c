/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Survey: a month or a year of roll-ups, agent by agent: each one's records, its marks and the list
 * of its layouts come from one snapshot, and none is held so long that the file would grow by it.
 */

#include <errno.h>
#include <limits.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/store/rollup/rollup.h"
#include "server/store/survey/survey.h"

#define SNAPSHOT_BYTES (UINT64_C(64) << 20) /* read from one snapshot, and the agent's rest */

enum { RECORDS, AGENTS, MARKS, META, N_TABLES };
#define N_CURSORS META

static const char *const table_names[N_TABLES] = { "blocks", "agents", "marks", "meta" };

static_assert((int) ROLL_TIERS == STORE_TIERS, "each is counted");

struct walk {
    struct survey *survey;
    enum roll_tier tier;
    int64_t from_us, to_us; /* the period */
    struct store_rolled *rolled;
    MDB_env *env;
    MDB_txn *txn;
    MDB_cursor *cursors[N_CURSORS];
    MDB_dbi tables[N_TABLES];
    bool has_tables;
    uint64_t seal; /* the highest there may be */
    uint64_t n_snapshot_bytes;
    /* The agent under way. */
    uint32_t agent;
    struct buf spans; /* struct day_span: of its records */
    bool has_damage;
    /* Its layout under way; 0: none. How wide its slices make it. */
    uint32_t layout, n_columns;
    /* Room. */
    struct roll_work work;
    struct roll_sheet sheet;
    struct buf opened;
    uint32_t columns[ROLL_COLUMNS];
};

/* ---- snapshots ---- */

static void end_snapshot(struct walk *walk)
{
    for (int i = 0; i < N_CURSORS; i++) {
        db_cursor_closep(&walk->cursors[i]);
        walk->cursors[i] = NULL;
    }
    db_txn_abortp(&walk->txn);
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
    for (int i = 0; i < N_CURSORS && !rc; i++)
        rc = mdb_cursor_open(walk->txn, walk->tables[i], &walk->cursors[i]);
    walk->n_snapshot_bytes = 0;
    walk->seal = 0;
    if (!rc && mdb_get(walk->txn, walk->tables[META], &key, &value) == 0 &&
        value.mv_size == sizeof(walk->seal))
        memcpy(&walk->seal, value.mv_data, sizeof(walk->seal));
    return rc;
}

static void count_read(struct walk *walk, MDB_val key, MDB_val value)
{
    walk->survey->shared->n_read_bytes += key.mv_size + value.mv_size;
    walk->n_snapshot_bytes += key.mv_size + value.mv_size;
}

/* ---- one record ---- */

static int record_damage(struct walk *walk, const struct roll_key *key, const char *what)
{
    char time[TEXT_TIME_BYTES];

    walk->has_damage = true;
    return survey_damage(walk->survey, what, "agent %u, layout %u, slice %u, %s of %s", key->agent,
                         key->layout, key->slice, walk->tier == ROLL_MINUTES ? "minutes" : "hours",
                         text_of_time((wall_us){ key->begin_us }, time));
}

/* The mark is of the same transaction. */
static int check_is_marked(struct walk *walk, const struct roll_key *key)
{
    uint8_t name[ROLL_MARK_KEY_BYTES];
    MDB_val k = roll_mark_key(name, key->agent, day_of(key->begin_us)), v;
    int rc = mdb_get(walk->txn, walk->tables[MARKS], &k, &v);

    if (rc == MDB_NOTFOUND)
        return record_damage(walk, key, "there is no mark of its day");
    return rc ? survey_end(walk->survey, rc, "marks") : 0;
}

static int note_rows(struct walk *walk, const struct roll_key *key)
{
    const struct roll_sheet *sheet = &walk->sheet;
    struct day_span span = { .layout = key->layout,
                             .first_us = sheet->rows[0].first_us,
                             .last_us = sheet->rows[sheet->n_rows - 1].last_us };
    uint32_t n_columns = key->slice * ROLL_COLUMNS + (uint32_t) sheet->n_columns;

    if (n_columns > walk->n_columns)
        walk->n_columns = n_columns;
    day_spans_add(&walk->spans, &span);
    return buf_failed(&walk->spans) ? fault(-ENOMEM, "no memory for spans") : 0;
}

static int check_windows(struct walk *walk,
                         const struct roll_key *key,
                         const struct day_prefix *prefix,
                         uint32_t n_columns,
                         struct span bytes)
{
    const struct roll_wish all = { walk->tier, UINT_MAX, walk->columns, n_columns };
    uint64_t n_samples = 0;
    int r = roll_decode(&walk->work, key, &all, bytes, &walk->sheet);

    if (r == BLOCK_BAD)
        return record_damage(walk, key, "it does not decode, or not to windows of its time");
    if (r)
        return r;
    for (size_t row = 0; row < walk->sheet.n_rows; row++)
        for (size_t c = 0; c < n_columns; c++)
            n_samples += roll_at(&walk->sheet, row, c)->n_samples;
    if (n_samples != prefix->n_samples)
        return record_damage(walk, key, "not as many samples as its head says");
    r = note_rows(walk, key);
    return r ? r : check_is_marked(walk, key);
}

static int check_record(struct walk *walk,
                        const struct roll_key *key,
                        const struct day_prefix *prefix,
                        struct span bytes)
{
    struct block_part part = { 0 };
    struct block block;
    int r;

    if (key->begin_us < walk->from_us || key->begin_us >= walk->to_us ||
        floor_to_us(key->begin_us, roll_record_us(walk->tier)) != key->begin_us)
        return record_damage(walk, key, "its time is not one of this period");
    r = block_open(bytes, &walk->opened, &block);
    if (r == BLOCK_BAD)
        return record_damage(walk, key, "bad checksum, or no block at all");
    if (r)
        return r;
    if (block.agent != key->agent || block.n_layouts != 1 ||
        !block_find(&block, key->layout, &part) || block.n_rows != prefix->n_rows ||
        block.last_us != prefix->last_us)
        return record_damage(walk, key, "its key and its head say other than the block itself");
    if (part.n_columns <= ROLL_HEAD || (part.n_columns - ROLL_HEAD) % ROLL_FIELDS ||
        part.n_columns > ROLL_HEAD + ROLL_FIELDS * ROLL_COLUMNS)
        return record_damage(walk, key, "not as many columns as a record can have");
    return check_windows(walk, key, prefix, (part.n_columns - ROLL_HEAD) / ROLL_FIELDS, bytes);
}

/* The layout is through. Every slice of it is there: they come together. */
static int end_layout(struct walk *walk)
{
    uint32_t layout = walk->layout, n_columns = walk->has_damage ? 0 : walk->n_columns;

    walk->layout = walk->n_columns = 0;
    return layout ? survey_use(walk->survey, walk->agent, layout, n_columns) : 0;
}

static int on_record(void *ctx, MDB_val name, MDB_val value)
{
    struct walk *walk = ctx;
    struct survey_shared *shared = walk->survey->shared;
    struct day_prefix prefix;
    struct roll_key key;
    struct span bytes;
    int r = 0;

    count_read(walk, name, value);
    if (!roll_key_get(name, &key)) {
        walk->has_damage = true;
        return survey_damage(walk->survey, "a record's key has not its length", "agent %u",
                             walk->agent);
    }
    if (key.layout != walk->layout)
        r = end_layout(walk);
    walk->layout = key.layout;
    if (r)
        return r;
    if (!day_prefix_get(name, value, &prefix, &bytes) || key.layout == 0)
        return record_damage(walk, &key, "its head has a bad checksum");
    walk->rolled->n_records++;
    walk->rolled->n_windows += key.slice == 0 ? prefix.n_rows : 0;
    walk->rolled->n_samples += prefix.n_samples;
    shared->environment.n_records++;
    shared->environment.n_samples += prefix.n_samples;
    return walk->survey->asked->is_deep ? check_record(walk, &key, &prefix, bytes) : 0;
}

/* ---- one mark ---- */

static int on_mark(void *ctx, MDB_val name, MDB_val value)
{
    struct walk *walk = ctx;
    struct roll_mark mark;
    const char *wrong = NULL;
    int32_t day;

    count_read(walk, name, value);
    if (name.mv_size != ROLL_MARK_KEY_BYTES)
        return survey_damage(walk->survey, "a mark's key has not its length", "agent %u",
                             walk->agent);
    day = (int32_t) (db_u32_of(db_val((const uint8_t *) name.mv_data + 4, 4)) ^ UINT32_C(1) << 31);
    if (!roll_mark_read(name, value, &mark))
        wrong = "bad checksum";
    else if (day < day_of(walk->from_us) || day >= day_of(walk->to_us))
        wrong = "its day is not of this period";
    else if (mark.hours >> DAY_HOURS)
        wrong = "it has hours that a day has not";
    else if (mark.seal > walk->seal)
        wrong = "a seal number that was not given yet";
    return wrong ? survey_damage(walk->survey, wrong, "agent %u, mark of day %d", walk->agent, day)
                 : 0;
}

/* ---- one agent ---- */

static int agent_damage(struct walk *walk, const char *what)
{
    return survey_damage(walk->survey, what, "agent %u", walk->agent);
}

/* What the records have is in the list. */
static int compare_spans(struct walk *walk, struct span told)
{
    const struct day_span *seen = (const void *) walk->spans.data;

    for (size_t i = 0; i < walk->spans.len / sizeof(*seen); i++) {
        bool is_told = false;

        for (size_t at = 0; at + sizeof(*seen) <= told.len && !is_told; at += sizeof(*seen)) {
            struct day_span span;

            memcpy(&span, told.data + at, sizeof(span));
            is_told = span.layout == seen[i].layout && span.first_us <= seen[i].first_us &&
                      span.last_us >= seen[i].last_us;
        }
        if (!is_told)
            return agent_damage(walk, "its list of layouts lacks some that records have");
    }
    return 0;
}

static int check_list(struct walk *walk)
{
    uint8_t name[4];
    MDB_val key = db_val(name, sizeof(name)), value;
    struct position sealed;
    struct span spans;
    int rc;

    db_key_u32(name, walk->agent);
    rc = mdb_get(walk->txn, walk->tables[AGENTS], &key, &value);
    if (rc == MDB_NOTFOUND)
        return agent_damage(walk, "is rolled up, and there is no list of its layouts");
    if (rc)
        return survey_end(walk->survey, rc, "agents");
    count_read(walk, key, value);
    if (!day_agent_read(key, value, &sealed, &spans))
        return agent_damage(walk, "the list of its layouts has a bad checksum");
    return walk->survey->asked->is_deep ? compare_spans(walk, spans)
                                        : survey_use_spans(walk->survey, walk->agent, spans);
}

static int on_agent(struct walk *walk)
{
    int r;

    buf_clear(&walk->spans);
    walk->has_damage = false;
    r = survey_each_of(walk->survey, walk->cursors[RECORDS], table_names[RECORDS], walk->agent,
                       on_record, walk);
    if (!r)
        r = end_layout(walk);
    if (!r && walk->survey->asked->is_deep)
        r = survey_each_of(walk->survey, walk->cursors[MARKS], table_names[MARKS], walk->agent,
                           on_mark, walk);
    return r ? r : check_list(walk);
}

static int next_agent(struct walk *walk, uint32_t from, uint32_t *ret)
{
    return survey_next_agent(walk->survey, walk->cursors, table_names, N_CURSORS, from, ret);
}

/* ---- the period ---- */

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

static int walk_period(struct walk *walk)
{
    struct survey_shared *shared = walk->survey->shared;
    int rc = begin_snapshot(walk);

    /* All tables come with the first commit: without one it is only about to begin. */
    if (rc == MDB_NOTFOUND && mdb_txn_id(walk->txn) > 0)
        return survey_damage(walk->survey, "a table is not there", "the list of tables");
    if (rc)
        return survey_end(walk->survey, rc, "the list of tables");
    shared->environment.kind = walk->tier == ROLL_MINUTES ? STORE_MINUTES : STORE_HOURS;
    survey_pages(walk->survey, walk->txn, walk->tables, N_TABLES);
    walk->rolled->n_periods++;
    walk->rolled->n_bytes += shared->environment.n_bytes;
    walk->rolled->n_free_pages += shared->environment.n_free_pages;
    return walk_agents(walk);
}

static int look_at(struct survey *survey, enum roll_tier tier, const struct days_kind *kind)
{
    struct walk walk = { .survey = survey,
                         .tier = tier,
                         .from_us = kind->begin_us(survey->period),
                         .to_us = kind->begin_us(survey->period + 1),
                         .rolled = &survey->shared->found.rolled[tier] };
    int r = survey_open(survey, N_TABLES, &walk.env);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : r;
    for (uint32_t i = 0; i < ROLL_COLUMNS; i++)
        walk.columns[i] = i;
    r = walk_period(&walk);
    end_snapshot(&walk);
    mdb_env_close(walk.env);
    roll_work_deinit(&walk.work);
    roll_sheet_deinit(&walk.sheet);
    buf_deinit(&walk.spans);
    buf_deinit(&walk.opened);
    return r;
}

int survey_minutes(struct survey *survey)
{
    return look_at(survey, ROLL_MINUTES, &days_of_minutes);
}

int survey_hours(struct survey *survey)
{
    return look_at(survey, ROLL_HOURS, &days_of_hours);
}
