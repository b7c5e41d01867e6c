/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/journal/runs.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"

static_assert(sizeof(struct run_key) == 24, "no padding");

int runs_init(struct runs *runs)
{
    *runs = (struct runs){ 0 };
    ensure(pthread_mutex_init(&runs->lock, NULL) == 0);
    return 0;
}

void runs_deinit(struct runs *runs)
{
    struct run_agent *agent;
    struct run *run;
    size_t at = 0;

    while ((run = map_next(&runs->map, &at)))
        free(run);
    for (at = 0; (agent = map_next(&runs->agents, &at));)
        free(agent);
    map_deinit(&runs->map);
    map_deinit(&runs->agents);
    pthread_mutex_destroy(&runs->lock);
}

struct run_key run_key_of(uint32_t agent, enum store_signal signal, const uint8_t *spool)
{
    struct run_key key = { .agent = agent, .signal = (uint32_t) signal };

    memcpy(key.spool, spool, sizeof(key.spool));
    return key;
}

struct run *runs_find(struct runs *runs, const struct run_key *key)
{
    return map_get(&runs->map, span_of(key, sizeof(*key)));
}

static struct run_agent *find_agent(const struct runs *runs, uint32_t number)
{
    return map_get(&runs->agents, span_of(&number, sizeof(number)));
}

/* With the lock held. */
static struct run_agent *find_or_add_agent(struct runs *runs, uint32_t number)
{
    struct run_agent *agent = find_agent(runs, number);

    if (agent)
        return agent;
    agent = calloc(1, sizeof(*agent));
    if (!agent)
        return NULL;
    agent->number = number;
    list_init(&agent->runs);
    if (map_put(&runs->agents, span_of(&agent->number, sizeof(agent->number)), agent) == 0)
        return agent;
    free(agent);
    return NULL;
}

/* With the lock held. */
static void drop_agent_without_runs(struct runs *runs, struct run_agent *agent)
{
    if (agent->n_runs > 0)
        return;
    (void) map_remove(&runs->agents, span_of(&agent->number, sizeof(agent->number)));
    free(agent);
}

/* NULL: no memory. */
static struct run *add_run(struct runs *runs, const struct run_key *key)
{
    struct run *run = calloc(1, sizeof(*run));
    bool is_in = false;

    if (!run)
        return NULL;
    run->key = *key;
    pthread_mutex_lock(&runs->lock);
    run->agent = find_or_add_agent(runs, key->agent);
    if (run->agent) {
        is_in = map_put(&runs->map, span_of(&run->key, sizeof(run->key)), run) == 0;
        if (is_in) {
            list_append(&run->agent->runs, &run->in_agent);
            run->agent->n_runs++;
        }
        drop_agent_without_runs(runs, run->agent);
    }
    pthread_mutex_unlock(&runs->lock);
    if (is_in)
        return run;
    free(run);
    return NULL;
}

int runs_set(struct runs *runs,
             const struct run_key *key,
             const struct run_value *value,
             struct run **ret)
{
    struct run *run = runs_find(runs, key);

    if (!run)
        run = add_run(runs, key);
    if (!run)
        return fault(-ENOMEM, "no memory for a run");
    run->pending = *value;
    if (!run->is_touched) {
        run->is_touched = true;
        run->next_touched = runs->touched;
        runs->touched = run;
    }
    *ret = run;
    return 0;
}

void runs_commit(struct runs *runs)
{
    pthread_mutex_lock(&runs->lock);
    while (runs->touched) {
        struct run *run = runs->touched;

        runs->touched = run->next_touched;
        run->is_touched = false;
        run->is_committed = true;
        run->committed = run->pending;
    }
    pthread_mutex_unlock(&runs->lock);
}

/* With the lock held. */
static void remove_run(struct runs *runs, struct run *run)
{
    ensure(map_remove(&runs->map, span_of(&run->key, sizeof(run->key))) == run);
    list_remove(&run->in_agent);
    run->agent->n_runs--;
    drop_agent_without_runs(runs, run->agent);
    free(run);
}

/* ---- the limit ---- */

/* The one that goes for a new one, or NULL. With the lock held. */
static struct run *closed_run(const struct run_agent *agent, int64_t now_us)
{
    struct run *oldest = NULL;

    list_each(pos, &agent->runs)
    {
        struct run *run = container_of(pos, struct run, in_agent);

        if (run->is_committed && !run->is_touched &&
            run->committed.last_use_us < now_us - STORE_RUN_CLOSED_US &&
            (!oldest || run->committed.last_use_us < oldest->committed.last_use_us))
            oldest = run;
    }
    return oldest;
}

bool runs_have_room(struct runs *runs, uint32_t number, int64_t now_us)
{
    const struct run_agent *agent;
    bool is_room;

    pthread_mutex_lock(&runs->lock);
    agent = find_agent(runs, number);
    is_room = !agent || agent->n_runs < STORE_RUNS_PER_AGENT || closed_run(agent, now_us);
    pthread_mutex_unlock(&runs->lock);
    return is_room;
}

bool runs_make_room(struct runs *runs, uint32_t number, int64_t now_us)
{
    const struct run_agent *agent;
    bool is_room;

    pthread_mutex_lock(&runs->lock);
    agent = find_agent(runs, number);
    is_room = !agent || agent->n_runs < STORE_RUNS_PER_AGENT;
    if (!is_room) {
        struct run *run = closed_run(agent, now_us);

        is_room = run != NULL;
        if (run)
            remove_run(runs, run);
    }
    pthread_mutex_unlock(&runs->lock);
    return is_room;
}

void runs_rollback(struct runs *runs)
{
    pthread_mutex_lock(&runs->lock);
    while (runs->touched) {
        struct run *run = runs->touched;

        runs->touched = run->next_touched;
        run->is_touched = false;
        run->pending = run->committed;
        if (!run->is_committed)
            remove_run(runs, run);
    }
    pthread_mutex_unlock(&runs->lock);
}

void runs_drop_unused(struct runs *runs, int64_t before_us)
{
    struct run *dropped = NULL, *run;
    size_t at = 0;

    ensure(!runs->touched);
    pthread_mutex_lock(&runs->lock);
    while ((run = map_next(&runs->map, &at))) {
        if (run->committed.last_use_us < before_us) {
            run->next_touched = dropped;
            dropped = run;
        }
    }
    while ((run = dropped)) {
        dropped = run->next_touched;
        remove_run(runs, run);
    }
    pthread_mutex_unlock(&runs->lock);
}

void runs_drop_agent(struct runs *runs, uint32_t number)
{
    struct run_agent *agent;

    ensure(!runs->touched);
    pthread_mutex_lock(&runs->lock);
    while ((agent = find_agent(runs, number)))
        remove_run(runs, container_of(agent->runs.next, struct run, in_agent));
    pthread_mutex_unlock(&runs->lock);
}

static struct store_run run_told(const struct run *run)
{
    struct store_run told = {
        .agent = run->key.agent,
        .signal = (enum store_signal) run->key.signal,
        .last_sequence = run->committed.last_sequence,
        .last_crc32c = run->committed.last_crc32c,
        .last_use = { run->committed.last_use_us },
    };

    memcpy(told.spool, run->key.spool, sizeof(told.spool));
    return told;
}

int runs_get(struct runs *runs, const struct run_key *key, struct store_run *ret)
{
    const struct run *run;
    int r = STORE_NOT_FOUND;

    pthread_mutex_lock(&runs->lock);
    run = map_get(&runs->map, span_of(key, sizeof(*key)));
    if (run && run->is_committed) {
        *ret = run_told(run);
        r = 0;
    }
    pthread_mutex_unlock(&runs->lock);
    return r;
}

static int newest_first(const void *a, const void *b)
{
    const struct store_run *x = a, *y = b;

    return (x->last_use.us < y->last_use.us) - (x->last_use.us > y->last_use.us);
}

int runs_list(struct runs *runs,
              uint32_t agent,
              struct arena *arena,
              struct store_run **ret,
              size_t *ret_n)
{
    const struct run_agent *row;
    struct store_run *told;
    size_t n = 0;

    pthread_mutex_lock(&runs->lock);
    row = find_agent(runs, agent);
    told = arena_alloc_array(arena, row ? row->n_runs : 1, sizeof(*told));
    if (told && row) {
        list_each(pos, &row->runs)
        {
            const struct run *run = container_of(pos, struct run, in_agent);

            if (run->is_committed)
                told[n++] = run_told(run);
        }
    }
    pthread_mutex_unlock(&runs->lock);
    if (!told)
        return fault(-ENOMEM, "no room for the runs of agent %u", agent);
    qsort(told, n, sizeof(*told), newest_first);
    *ret = told;
    *ret_n = n;
    return 0;
}
