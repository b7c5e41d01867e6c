/* SPDX-License-Identifier: Apache-2.0 */

/* Survey: `state`, and whether it has what journal and days use. */

#include <stdio.h>
#include <stdlib.h>

#include "common/base/fault.h"
#include "server/store/state/agents.h"
#include "server/store/state/catalog.h"
#include "server/store/state/state.h"
#include "server/store/survey/survey.h"

#define TOP_METRICS 20
#define GONE_BYTES 16 /* struct retain_gone */

/* What is known of one definition. */
struct known_definition {
    const char *name; /* borrowed from the snapshot; NULL: there is none */
    uint32_t last_agent;
    uint64_t n_series;
};

enum known { KNOWN_NOT, KNOWN, KNOWN_ERASED };

struct walk {
    struct survey *survey;
    MDB_txn *txn;
    MDB_dbi tables[STATE_N_TABLES];
    struct known_definition *definitions;        /* by id */
    struct span *layouts;                        /* by id; data NULL: there is none */
    enum known *agents;                          /* by number */
    uint32_t n_definitions, n_layouts, n_agents; /* highest ids and one */
};

static int row_damage(struct walk *walk, enum state_table table, MDB_val key, const char *what)
{
    char text[161], *to = text;
    const uint8_t *from = key.mv_data;
    bool is_id = table >= STATE_AGENTS;

    if (is_id && key.mv_size == 4)
        return survey_damage(walk->survey, what, "%s, %u", state_table_name(table), db_u32_of(key));
    for (size_t i = 0; i < key.mv_size && to + 5 < text + sizeof(text); i++) {
        if (table != STATE_CERTIFICATES && from[i] >= ' ' && from[i] < 127)
            *to++ = (char) from[i];
        else
            to += snprintf(to, 5, table == STATE_CERTIFICATES ? "%02x" : "\\x%02x", from[i]);
    }
    *to = 0;
    return survey_damage(walk->survey, what, "%s, %s", state_table_name(table), text);
}

static int each_row(struct walk *walk,
                    enum state_table table,
                    int (*fn)(struct walk *walk, MDB_val key, MDB_val value))
{
    CLEANUP(db_cursor_closep) MDB_cursor *cursor = NULL;
    struct survey_shared *shared = walk->survey->shared;
    MDB_val key, value;
    int r = 0, rc = mdb_cursor_open(walk->txn, walk->tables[table], &cursor);

    if (!rc)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!rc && !r) {
        shared->environment.n_records++;
        shared->n_read_bytes += key.mv_size + value.mv_size;
        r = fn(walk, key, value);
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return r ? r : survey_end(walk->survey, rc, state_table_name(table));
}

/* ---- rows that only others can read ---- */

static int check_row(struct walk *walk, enum store_table table, MDB_val key, MDB_val value)
{
    const struct store_survey *asked = walk->survey->asked;
    const char *wrong = NULL;

    if (asked->check_row)
        wrong = asked->check_row(asked->ctx, table, db_span(key), db_span(value));
    return wrong ? row_damage(walk, (enum state_table) table, key, wrong) : 0;
}

static bool is_meta(MDB_val key, const char *name)
{
    return span_equal(db_span(key), span_of_text(name));
}

static int on_meta(struct walk *walk, MDB_val key, MDB_val value)
{
    bool is_good = true;

    if (is_meta(key, "format") || is_meta(key, "min_reader"))
        is_good = value.mv_size == 4;
    else if (is_meta(key, "retention.gone") || is_meta(key, "retention.gone.logs"))
        is_good = value.mv_size % GONE_BYTES == 0;
    if (!is_good)
        return row_damage(walk, STATE_META, key, "a value of another length than it has");
    return check_row(walk, STORE_TABLE_META, key, value);
}

static int on_certificate(struct walk *walk, MDB_val key, MDB_val value)
{
    walk->survey->shared->found.n_certificates++;
    return check_row(walk, STORE_TABLE_CERTIFICATES, key, value);
}

static int on_operator(struct walk *walk, MDB_val key, MDB_val value)
{
    return check_row(walk, STORE_TABLE_OPERATORS, key, value);
}

static int on_label(struct walk *walk, MDB_val key, MDB_val value)
{
    const uint8_t *end = memchr(key.mv_data, 0, key.mv_size);

    if (!end || end == key.mv_data || end + 1 == (const uint8_t *) key.mv_data + key.mv_size ||
        (value.mv_size && memchr(value.mv_data, 0, value.mv_size)))
        return row_damage(walk, STATE_LABELS, key, "no label of an agent");
    return check_row(walk, STORE_TABLE_LABELS, key, value);
}

static int on_identity(struct walk *walk, MDB_val key, MDB_val value)
{
    return check_row(walk, STORE_TABLE_IDENTITIES, key, value);
}

static int on_token(struct walk *walk, MDB_val key, MDB_val value)
{
    return check_row(walk, STORE_TABLE_TOKENS, key, value);
}

static int on_audit(struct walk *walk, MDB_val key, MDB_val value)
{
    return check_row(walk, STORE_TABLE_AUDIT, key, value);
}

static int on_limit(struct walk *walk, MDB_val key, MDB_val value)
{
    return check_row(walk, STORE_TABLE_LIMITS, key, value);
}

/* ---- agents, definitions, layouts ---- */

/* Room for an id in an array; *n is its length. */
static int make_room(void *array, uint32_t *n, uint32_t id, size_t item_bytes)
{
    void **at = array;
    uint32_t n_grown = id + id / 2 + 64;
    uint8_t *grown;

    if (id < *n)
        return 0;
    grown = realloc(*at, n_grown * item_bytes);
    if (!grown)
        return fault(-ENOMEM, "no memory for %u ids", n_grown);
    memset(grown + *n * item_bytes, 0, (n_grown - *n) * item_bytes);
    *at = grown;
    *n = n_grown;
    return 0;
}

static bool is_id(MDB_val key, uint32_t *ret)
{
    *ret = db_u32_of(key);
    return *ret > 0 && *ret <= IDTABLE_MAX;
}

static int on_agent(struct walk *walk, MDB_val key, MDB_val value)
{
    struct store_found *found = &walk->survey->shared->found;
    struct agent_counts counts;
    uint32_t number;
    bool is_erased;
    int r;

    if (!is_id(key, &number) || !agent_record_counts(number, db_span(value), &counts))
        return row_damage(walk, STATE_AGENTS, key, "no record of an agent");
    is_erased = agent_record_is_forgotten(number, db_span(value));
    found->n_agents += !is_erased;
    found->n_samples += counts.n_samples;
    found->n_skipped += counts.n_skipped;
    found->n_lost += counts.n_lost;
    found->n_log_records += counts.n_log_records;
    found->n_log_bytes += counts.n_log_bytes;
    r = make_room(&walk->agents, &walk->n_agents, number, sizeof(*walk->agents));
    if (!r)
        walk->agents[number] = is_erased ? KNOWN_ERASED : KNOWN;
    return r;
}

static int on_definition(struct walk *walk, MDB_val key, MDB_val value)
{
    const char *name = catalog_name_in(db_span(value));
    uint32_t id;
    int r;

    walk->survey->shared->found.n_definitions++;
    if (!is_id(key, &id) || !name)
        return row_damage(walk, STATE_DEFINITIONS, key, "no text of a definition");
    r = make_room(&walk->definitions, &walk->n_definitions, id, sizeof(*walk->definitions));
    if (!r)
        walk->definitions[id].name = name;
    return r;
}

static uint32_t column_of(struct span layout, size_t i)
{
    uint32_t id;

    memcpy(&id, layout.data + i * sizeof(id), sizeof(id));
    return id;
}

static bool has_definition(const struct walk *walk, uint32_t id)
{
    return id < walk->n_definitions && walk->definitions[id].name;
}

static int on_layout(struct walk *walk, MDB_val key, MDB_val value)
{
    struct span ids = db_span(value);
    uint32_t id, before = 0;
    int r;

    walk->survey->shared->found.n_layouts++;
    if (!is_id(key, &id) || ids.len == 0 || ids.len % sizeof(id))
        return row_damage(walk, STATE_LAYOUTS, key, "no list of definitions");
    for (size_t i = 0; i < ids.len / sizeof(id); i++) {
        uint32_t definition = column_of(ids, i);

        if (definition <= before)
            return row_damage(walk, STATE_LAYOUTS, key, "a list of definitions out of order");
        if (!has_definition(walk, definition))
            return row_damage(walk, STATE_LAYOUTS, key, "names a definition that there is not");
        before = definition;
    }
    r = make_room(&walk->layouts, &walk->n_layouts, id, sizeof(*walk->layouts));
    if (!r)
        walk->layouts[id] = ids;
    return r;
}

/* ---- what the others use ---- */

static int by_agent(const void *a, const void *b)
{
    const struct survey_use *x = a, *y = b;

    if (x->agent != y->agent)
        return x->agent < y->agent ? -1 : 1;
    return (x->layout > y->layout) - (x->layout < y->layout);
}

static int on_use(struct walk *walk, const struct survey_use *use)
{
    struct span layout = { 0 };

    if (use->layout < walk->n_layouts)
        layout = walk->layouts[use->layout];
    if (use->agent >= walk->n_agents || !walk->agents[use->agent])
        return survey_damage(walk->survey,
                             use->layout == SURVEY_UPLOADS
                                 ? "there are uploads of an agent that is not here"
                                 : "there are rows of an agent that is not here",
                             "agent %u", use->agent);
    /* What is left of an erased one until it went may be of layouts that went before. */
    if (use->layout >= SURVEY_INVENTORY || walk->agents[use->agent] == KNOWN_ERASED)
        return 0;
    if (!layout.data)
        return survey_damage(walk->survey, "there are rows of a layout that is not here",
                             "agent %u, layout %u", use->agent, use->layout);
    if (use->n_columns && layout.len / sizeof(uint32_t) != use->n_columns)
        return survey_damage(walk->survey, "there are rows of another width than the layout's",
                             "agent %u, layout %u", use->agent, use->layout);
    for (size_t i = 0; i < layout.len / sizeof(uint32_t); i++) {
        struct known_definition *definition = &walk->definitions[column_of(layout, i)];

        if (definition->last_agent != use->agent) {
            definition->n_series++;
            walk->survey->shared->found.n_series++;
        }
        definition->last_agent = use->agent;
    }
    return 0;
}

static int check_uses(struct walk *walk)
{
    struct survey_uses *uses = &walk->survey->uses;
    size_t n = 0;
    int r = 0;

    for (size_t i = 0; i < uses->capacity; i++) { /* the table is of no more use as one */
        if (uses->slots[i].agent)
            uses->slots[n++] = uses->slots[i];
    }
    if (n)
        qsort(uses->slots, n, sizeof(*uses->slots), by_agent);
    for (size_t i = 0; i < n && !r; i++)
        r = on_use(walk, &uses->slots[i]);
    return r;
}

static int by_name(const void *a, const void *b)
{
    const struct known_definition *x = a, *y = b;

    if (!x->name || !y->name)
        return (y->name != NULL) - (x->name != NULL);
    return strcmp(x->name, y->name);
}

static int by_series_down(const void *a, const void *b)
{
    const struct known_definition *x = a, *y = b;

    if (x->n_series != y->n_series)
        return x->n_series < y->n_series ? 1 : -1;
    return strcmp(x->name, y->name);
}

static int tell_metrics(struct walk *walk)
{
    struct known_definition *metrics = walk->definitions;
    size_t n = 0;
    int r = 0;

    if (walk->n_definitions)
        qsort(metrics, walk->n_definitions, sizeof(*metrics), by_name);
    for (size_t i = 0; i < walk->n_definitions && metrics[i].name; i++) {
        if (n && strcmp(metrics[n - 1].name, metrics[i].name) == 0)
            metrics[n - 1].n_series += metrics[i].n_series;
        else
            metrics[n++] = metrics[i];
    }
    if (n)
        qsort(metrics, n, sizeof(*metrics), by_series_down);
    for (size_t i = 0; i < n && i < TOP_METRICS && metrics[i].n_series && !r; i++)
        r = survey_metric(walk->survey, metrics[i].name, metrics[i].n_series);
    return r;
}

/* ---- the whole ---- */

static uint32_t meta_u32(struct walk *walk, const char *name)
{
    MDB_val key = db_val_of(span_of_text(name)), value;
    uint32_t n = 0;

    if (mdb_get(walk->txn, walk->tables[STATE_META], &key, &value) == 0 &&
        value.mv_size == sizeof(n))
        memcpy(&n, value.mv_data, sizeof(n));
    return n;
}

static int walk_tables(struct walk *walk)
{
    int r = each_row(walk, STATE_META, on_meta);

    if (!r)
        r = each_row(walk, STATE_CERTIFICATES, on_certificate);
    if (!r)
        r = each_row(walk, STATE_OPERATORS, on_operator);
    if (!r)
        r = each_row(walk, STATE_LABELS, on_label);
    if (!r)
        r = each_row(walk, STATE_IDENTITIES, on_identity);
    if (!r)
        r = each_row(walk, STATE_TOKENS, on_token);
    if (!r)
        r = each_row(walk, STATE_AUDIT, on_audit);
    if (!r)
        r = each_row(walk, STATE_LIMITS, on_limit);
    if (!r)
        r = each_row(walk, STATE_AGENTS, on_agent);
    if (!r)
        r = each_row(walk, STATE_DEFINITIONS, on_definition);
    if (!r)
        r = each_row(walk, STATE_LAYOUTS, on_layout);
    if (!r)
        r = check_uses(walk);
    return r ? r : tell_metrics(walk);
}

static int walk_state(struct walk *walk)
{
    struct survey_shared *shared = walk->survey->shared;
    uint32_t min_reader;
    int rc = 0;

    for (int i = STATE_META; i < STATE_N_TABLES && !rc; i++)
        rc = mdb_dbi_open(walk->txn, state_table_name((enum state_table) i), 0, &walk->tables[i]);
    if (rc == MDB_NOTFOUND)
        return survey_damage(walk->survey, "a table is not there", "the list of tables");
    if (rc)
        return survey_end(walk->survey, rc, "the list of tables");
    min_reader = meta_u32(walk, "min_reader");
    if (min_reader > STATE_FORMAT) {
        char why[160];

        snprintf(why, sizeof(why),
                 "the database asks for a program that knows format %u; this one knows %u: use the "
                 "newer version",
                 min_reader, STATE_FORMAT);
        return survey_newer(walk->survey, why);
    }
    shared->environment.kind = STORE_STATE;
    survey_pages(walk->survey, walk->txn, &walk->tables[STATE_META], STATE_N_TABLES - STATE_META);
    shared->found.state_bytes += shared->environment.n_bytes;
    shared->found.n_state_free_pages += shared->environment.n_free_pages;
    if (meta_u32(walk, "format") == 0) {
        int r = survey_damage(walk->survey, "it does not say its format", "meta, format");

        if (r)
            return r;
    }
    return walk_tables(walk);
}

int survey_state(struct survey *survey)
{
    struct walk walk = { .survey = survey };
    MDB_env *env;
    int rc, r = survey_open(survey, STATE_N_TABLES, &env);

    if (r == STORE_NOT_FOUND)
        return survey_damage(survey, "there is none that can be read", "data.mdb");
    if (r)
        return r;
    rc = db_begin_read(env, &walk.txn);
    r = rc ? survey_end(survey, rc, "the last snapshot") : walk_state(&walk);
    if (walk.txn)
        mdb_txn_abort(walk.txn);
    mdb_env_close(env);
    free(walk.definitions);
    free(walk.layouts);
    free(walk.agents);
    return r;
}

static int tell_gone(struct walk *walk)
{
    MDB_val key = db_val_of(span_of_text("retention.gone")), value;
    MDB_dbi meta;

    if (mdb_dbi_open(walk->txn, state_table_name(STATE_META), 0, &meta) ||
        mdb_get(walk->txn, meta, &key, &value) || value.mv_size % GONE_BYTES)
        return 0;
    return survey_tell_gone(walk->survey, db_span(value));
}

int survey_gone(struct survey *survey)
{
    struct walk walk = { .survey = survey };
    MDB_env *env;
    int r = 0;

    if (db_env_open_read(&env, survey->path, STATE_N_TABLES))
        return 0;
    if (db_begin_read(env, &walk.txn) == 0) {
        r = tell_gone(&walk);
        mdb_txn_abort(walk.txn);
    }
    mdb_env_close(env);
    return r;
}
