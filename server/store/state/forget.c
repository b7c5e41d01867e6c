/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Forgetting: definitions and layouts that no day, no head and no roll-up has any more go from
 * `state` at the start, when no stream has one in hand, once a day has gone. Their numbers are
 * never given again.
 *
 * Where something was set aside as damaged nothing is forgotten: it may come back.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/whole.h"

struct forget_job {
    struct state_job job;
    struct store *store;
    bool *has_layout, *has_definition; /* by id */
    uint64_t n_definitions, n_layouts; /* forgotten */
};

static void note_used(struct forget_job *job, uint32_t id)
{
    const struct store_layout *layout = catalog_layout(&job->store->catalog, id);

    if (!layout || job->has_layout[id])
        return;
    job->has_layout[id] = true;
    for (uint32_t i = 0; i < layout->n_columns; i++)
        job->has_definition[layout->definitions[i]] = true;
}

static void note_spans(struct forget_job *job, const struct buf *of)
{
    const struct day_span *spans = (const void *) of->data;

    for (size_t i = 0; i < of->len / sizeof(*spans); i++)
        note_used(job, spans[i].layout);
}

static void note_agent(struct forget_job *job, const struct agent *agent)
{
    note_spans(job, &agent->spans);
    note_spans(job, &agent->rolled);
    for (size_t i = 0; i < agent->heads.n_heads; i++)
        note_used(job, agent->heads.heads[i].layout);
}

/* Rows of ids below `end` that are not marked. */
static int remove_rows(struct state *state,
                       MDB_txn *txn,
                       enum state_table table,
                       struct idtable *ids,
                       const bool *is_used,
                       uint64_t *ret_n)
{
    int rc = 0;

    for (uint32_t id = 1; id <= idtable_highest(ids) && !rc; id++) {
        uint8_t name[4];
        MDB_val key = db_val(name, sizeof(name));

        if (is_used[id] || !idtable_get(ids, id))
            continue;
        db_key_u32(name, id);
        rc = mdb_del(txn, state->tables[table], &key, NULL);
        ++*ret_n;
    }
    return pass(db_check(rc, "cannot forget a definition"));
}

static int apply(struct state_job *base, MDB_txn *txn)
{
    struct forget_job *job = container_of(base, struct forget_job, job);
    struct catalog *catalog = &job->store->catalog;
    struct state *state = &job->store->state;
    int r = catalog_keep_next(catalog, txn);

    if (!r)
        r = remove_rows(state, txn, STATE_LAYOUTS, &catalog->layouts, job->has_layout,
                        &job->n_layouts);
    if (!r)
        r = remove_rows(state, txn, STATE_DEFINITIONS, &catalog->definitions, job->has_definition,
                        &job->n_definitions);
    return pass(r);
}

static bool has_unused(const struct forget_job *job)
{
    struct catalog *catalog = &job->store->catalog;

    for (uint32_t id = 1; id <= idtable_highest(&catalog->layouts); id++) {
        if (!job->has_layout[id] && idtable_get(&catalog->layouts, id))
            return true;
    }
    for (uint32_t id = 1; id <= idtable_highest(&catalog->definitions); id++) {
        if (!job->has_definition[id] && idtable_get(&catalog->definitions, id))
            return true;
    }
    return false;
}

static int forget(struct forget_job *job)
{
    struct store *store = job->store;
    int r;

    for (uint32_t number = 1; number <= idtable_highest(&store->agents.table); number++) {
        const struct agent *agent = agents_get(&store->agents, number);

        if (agent)
            note_agent(job, agent);
    }
    if (!has_unused(job))
        return 0;
    r = state_run(&store->state, &job->job);
    if (r)
        return r == STORE_FULL ? 0 : pass(r); /* at the next start, then */
    log_event(LOG_INFO, "definitions_forgotten", LOG_U("definitions", job->n_definitions),
              LOG_U("layouts", job->n_layouts));
    return pass(catalog_reload(&store->catalog));
}

int store_forget(struct store *store)
{
    struct catalog *catalog = &store->catalog;
    struct forget_job job = { .job = { .apply = apply }, .store = store };
    CLEANUP(buf_deinit) struct buf gone = { 0 };
    int r = retain_load(store, RETAIN_METRICS, &gone);

    if (r ||
        (gone.len == 0 && agents_count(&store->agents) == idtable_highest(&store->agents.table)) ||
        store->n_damaged || store->days.set_aside.len ||
        store->rolled[ROLL_MINUTES].set_aside.len || store->rolled[ROLL_HOURS].set_aside.len)
        return pass(r);
    job.has_layout = calloc((size_t) idtable_highest(&catalog->layouts) + 1, sizeof(bool));
    job.has_definition = calloc((size_t) idtable_highest(&catalog->definitions) + 1, sizeof(bool));
    if (job.has_layout && job.has_definition)
        r = forget(&job);
    else
        r = fault(-ENOMEM, "no memory to look for unused definitions");
    free(job.has_layout);
    free(job.has_definition);
    return pass(r);
}
