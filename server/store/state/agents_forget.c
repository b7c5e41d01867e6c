/* SPDX-License-Identifier: Apache-2.0 */

/* An agent is forgotten: its record and its labels, in one transaction. */

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/list.h"
#include "server/store/state/agents.h"

struct agent_forget_job {
    struct state_job job;
    struct agents *agents;
    struct agent *agent;
    struct buf labels; /* their keys, each behind its length as u32 */
};

static bool note_label(void *ctx, struct span key, struct span value)
{
    struct agent_forget_job *job = ctx;
    const uint32_t len = (uint32_t) key.len;

    (void) value;
    buf_append(&job->labels, &len, sizeof(len));
    buf_append_span(&job->labels, key);
    return true;
}

static int remove_labels(struct agent_forget_job *job, MDB_txn *txn)
{
    const char *id = job->agent->facts.id;
    const MDB_dbi table = job->agents->state->tables[STATE_LABELS];
    const struct state_walk walk = { .prefix = span_of(id, strlen(id) + 1),
                                     .fn = note_label,
                                     .ctx = job };
    struct span rest;
    int r = state_walk(txn, table, &walk);

    if (!r && buf_failed(&job->labels))
        r = fault(-ENOMEM, "no memory for the labels of an agent");
    rest = buf_span(&job->labels);
    while (!r && rest.len > 0) {
        uint32_t len;
        MDB_val key;
        int rc;

        memcpy(&len, rest.data, sizeof(len));
        key = db_val(rest.data + sizeof(len), len);
        rc = mdb_del(txn, table, &key, NULL);
        r = rc == MDB_NOTFOUND ? 0 : db_check(rc, "cannot remove a label");
        rest = span_of(rest.data + sizeof(len) + len, rest.len - sizeof(len) - len);
    }
    return pass(r);
}

static int agent_forget_apply(struct state_job *base, MDB_txn *txn)
{
    struct agent_forget_job *job = container_of(base, struct agent_forget_job, job);
    CLEANUP(buf_deinit) struct buf record = { 0 };
    uint8_t key[4];

    atomic_store(&job->agent->is_forgotten, true);
    pthread_mutex_lock(&job->agent->lock);
    agent_put_record(&record, job->agent);
    pthread_mutex_unlock(&job->agent->lock);
    if (buf_failed(&record))
        return fault(-ENOMEM, "no memory for the record of an agent");
    db_key_u32(key, job->agent->facts.number);
    int r = state_put(job->agents->state, txn, STATE_AGENTS, span_of(key, sizeof(key)),
                      buf_span(&record));
    return r ? pass(r) : remove_labels(job, txn);
}

static void agent_forget_finish(struct state_job *base, int r)
{
    struct agent_forget_job *job = container_of(base, struct agent_forget_job, job);
    struct agents *agents = job->agents;
    const struct span id = span_of_text(job->agent->facts.id);

    if (r) {
        atomic_store(&job->agent->is_forgotten, false);
        return;
    }
    pthread_rwlock_wrlock(&agents->lock);
    if (map_get(&agents->by_id, id) == job->agent) /* else a new one has the id already */
        (void) map_remove(&agents->by_id, id);
    pthread_rwlock_unlock(&agents->lock);
}

int agents_forget(struct agents *agents, const char *id)
{
    struct agent_forget_job job = {
        .job = { .apply = agent_forget_apply, .finish = agent_forget_finish }, .agents = agents
    };
    int r;

    pthread_rwlock_rdlock(&agents->lock);
    job.agent = map_get(&agents->by_id, span_of_text(id));
    pthread_rwlock_unlock(&agents->lock);
    if (!job.agent || atomic_load(&job.agent->is_forgotten))
        return STORE_NOT_FOUND;
    r = state_run(agents->state, &job.job);
    buf_deinit(&job.labels);
    return pass(r);
}
