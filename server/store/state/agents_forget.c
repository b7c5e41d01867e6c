/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An agent is forgotten: its record, its labels and the word of who began it, in one transaction.
 * What it has on disk goes after that commit.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/list.h"
#include "common/log/log.h"
#include "server/store/state/agents.h"

struct agent_forget_job {
    struct state_job job;
    struct agents *agents;
    struct agent *agent;
    struct buf labels; /* their keys, each behind its length as u32 */
    struct store_forgotten told;
};

static const char key_prefix[] = "forget.";

struct span store_forget_key(char to[static STORE_FORGET_KEY_BYTES], const char *id)
{
    snprintf(to, STORE_FORGET_KEY_BYTES, "%s%s", key_prefix, id);
    return span_of_text(to);
}

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

/* The registry began it: it has removed the labels, and those that are there now are somebody
 * else's. */
static int remove_begun(struct agent_forget_job *job, MDB_txn *txn, bool *ret_was_begun)
{
    struct state *state = job->agents->state;
    char name[STORE_FORGET_KEY_BYTES];
    MDB_val key = db_val_of(store_forget_key(name, job->agent->facts.id));
    uint32_t number;
    int r = agents_begun(job->agents, txn, job->agent->facts.id, &number);

    *ret_was_begun = number == job->agent->facts.number;
    if (r || number == 0)
        return pass(r);
    return pass(db_check(mdb_del(txn, state->tables[STATE_META], &key, NULL),
                         "cannot remove a row of an agent"));
}

static int put_agent(struct agents *agents, MDB_txn *txn, struct agent *agent)
{
    CLEANUP(buf_deinit) struct buf record = { 0 };
    uint8_t key[4];

    pthread_mutex_lock(&agent->lock);
    agent_put_record(&record, agent);
    pthread_mutex_unlock(&agent->lock);
    if (buf_failed(&record))
        return fault(-ENOMEM, "no memory for the record of an agent");
    db_key_u32(key, agent->facts.number);
    return pass(
        state_put(agents->state, txn, STATE_AGENTS, span_of(key, sizeof(key)), buf_span(&record)));
}

static int agent_forget_apply(struct state_job *base, MDB_txn *txn)
{
    struct agent_forget_job *job = container_of(base, struct agent_forget_job, job);
    struct agent *agent = job->agent;
    bool was_begun = false;
    int r;

    pthread_mutex_lock(&agent->lock);
    job->told = (struct store_forgotten){ agent->facts.n_samples, agent->logs_of.n_records };
    pthread_mutex_unlock(&agent->lock);
    atomic_store(&agent->is_forgotten, true);
    r = put_agent(job->agents, txn, agent);
    if (!r)
        r = remove_begun(job, txn, &was_begun);
    return r || was_begun ? pass(r) : pass(remove_labels(job, txn));
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
    atomic_store(&job->agent->erasure, ERASURE_UNDER_WAY);
}

typedef int run_fn(struct state *state, struct state_job *job);

static int
forget(struct agents *agents, struct agent *agent, run_fn *run, struct store_forgotten *ret)
{
    struct agent_forget_job job = { .job = { .apply = agent_forget_apply,
                                             .finish = agent_forget_finish },
                                    .agents = agents,
                                    .agent = agent };
    int r;

    if (atomic_load(&agent->is_forgotten))
        return STORE_NOT_FOUND;
    r = run(agents->state, &job.job);
    buf_deinit(&job.labels);
    atomic_store(&agent->is_due, r == STORE_FULL);
    if (r == STORE_FULL)
        atomic_store(&agents->has_due, true);
    if (r == 0)
        *ret = job.told;
    return pass(r);
}

int agents_forget(struct agents *agents, const char *id, struct store_forgotten *ret)
{
    struct agent *agent;

    /* Between two transactions: who interns the id has it by now, or will see the count. */
    pthread_mutex_lock(&agents->state->work_lock);
    atomic_fetch_add(&agents->n_forgotten, 1);
    pthread_rwlock_rdlock(&agents->lock);
    agent = map_get(&agents->by_id, span_of_text(id));
    pthread_rwlock_unlock(&agents->lock);
    pthread_mutex_unlock(&agents->state->work_lock);
    return agent ? pass(forget(agents, agent, state_run, ret)) : STORE_NOT_FOUND;
}

/* ---- what the registry began ---- */

int agents_begun(struct agents *agents, MDB_txn *txn, const char *id, uint32_t *ret)
{
    CLEANUP(db_txn_abortp) MDB_txn *own = NULL;
    char name[STORE_FORGET_KEY_BYTES];
    MDB_val key = db_val_of(store_forget_key(name, id)), value;
    int rc = txn ? 0 : mdb_txn_begin(agents->state->env, NULL, MDB_RDONLY, &own);

    *ret = 0;
    if (!rc)
        rc = mdb_get(txn ? txn : own, agents->state->tables[STATE_META], &key, &value);
    if (!rc && value.mv_size == sizeof(*ret))
        memcpy(ret, value.mv_data, sizeof(*ret));
    return rc == MDB_NOTFOUND ? 0 : fold(db_check(rc, "cannot read the state"));
}

static bool note_begun(void *ctx, struct span key, struct span value)
{
    uint32_t number = 0;

    if (value.len == sizeof(number)) {
        memcpy(&number, value.data, sizeof(number));
        buf_append(ctx, &number, sizeof(number));
    }
    (void) key;
    return true;
}

/* Their numbers. */
static int list_begun(struct agents *agents, struct buf *to)
{
    int r = state_each(agents->state, STATE_META, span_of_text(key_prefix), note_begun, to);

    if (!r && buf_failed(to))
        r = fault(-ENOMEM, "no memory for agents that go");
    return pass(r);
}

static struct agent *begun_at(struct agents *agents, const struct buf *numbers, size_t at)
{
    uint32_t number;

    memcpy(&number, numbers->data + at, sizeof(number));
    return agents_known(agents, number);
}

int agents_forget_begun(struct agents *agents)
{
    CLEANUP(buf_deinit) struct buf numbers = { 0 };
    int r = list_begun(agents, &numbers);

    for (size_t at = 0; !r && at < numbers.len; at += sizeof(uint32_t)) {
        struct agent *agent = begun_at(agents, &numbers, at);
        struct store_forgotten told;

        if (agent)
            r = forget(agents, agent, state_run, &told);
        if (r == STORE_NOT_FOUND || r == STORE_FULL) /* then the tick tries again */
            r = 0;
    }
    return pass(r);
}

bool agents_forget_due(struct agents *agents)
{
    CLEANUP(buf_deinit) struct buf numbers = { 0 };
    bool has_gone = false;

    if (!atomic_exchange(&agents->has_due, false) || list_begun(agents, &numbers))
        return false;
    for (size_t at = 0; at < numbers.len; at += sizeof(uint32_t)) {
        struct agent *agent = begun_at(agents, &numbers, at);
        struct store_forgotten told;

        if (!agent || !atomic_load(&agent->is_due) ||
            forget(agents, agent, state_run_here, &told) != 0)
            continue;
        has_gone = true;
        log_event(LOG_INFO, "agent_forgotten_late", LOG_S("agent", agent->facts.id),
                  LOG_U("number", agent->facts.number));
    }
    return has_gone;
}

/* ---- done ---- */

struct erased_job {
    struct state_job job;
    struct agents *agents;
    struct agent *agent;
};

static int erased_apply(struct state_job *base, MDB_txn *txn)
{
    struct erased_job *job = container_of(base, struct erased_job, job);

    atomic_store(&job->agent->erasure, ERASURE_DONE);
    return pass(put_agent(job->agents, txn, job->agent));
}

static void erased_finish(struct state_job *base, int r)
{
    struct erased_job *job = container_of(base, struct erased_job, job);

    if (r)
        atomic_store(&job->agent->erasure, ERASURE_UNDER_WAY);
}

int agents_set_erased(struct agents *agents, struct agent *agent)
{
    struct erased_job job = { .job = { .apply = erased_apply, .finish = erased_finish },
                              .agents = agents,
                              .agent = agent };

    return pass(state_run(agents->state, &job.job));
}
