/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/runs.h"

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

void runs_clear(struct runs *runs)
{
    size_t at = 0;
    struct run *run;

    pthread_mutex_lock(&runs->lock);
    while ((run = map_next(&runs->map, &at)))
        free(run);
    map_deinit(&runs->map);
    runs->map = (struct map){ 0 };
    runs->touched = NULL;
    pthread_mutex_unlock(&runs->lock);
}

void runs_deinit(struct runs *runs)
{
    runs_clear(runs);
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

int runs_set(struct runs *runs,
             const struct run_key *key,
             const struct run_value *value,
             struct run **ret)
{
    struct run *run = runs_find(runs, key);

    if (!run) {
        int r;

        run = calloc(1, sizeof(*run));
        if (!run)
            return fault(-ENOMEM, "no memory for a run");
        run->key = *key;
        pthread_mutex_lock(&runs->lock);
        r = map_put(&runs->map, span_of(&run->key, sizeof(run->key)), run);
        pthread_mutex_unlock(&runs->lock);
        if (r) {
            free(run);
            return pass(r);
        }
    }
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
    free(run);
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
    struct store_run *told;
    const struct run *run;
    size_t at = 0, n = 0, i = 0;

    pthread_mutex_lock(&runs->lock);
    while ((run = map_next(&runs->map, &at)))
        n += run->is_committed && run->key.agent == agent;
    told = arena_alloc_array(arena, n ? n : 1, sizeof(*told));
    for (at = 0; told && (run = map_next(&runs->map, &at));) {
        if (run->is_committed && run->key.agent == agent)
            told[i++] = run_told(run);
    }
    pthread_mutex_unlock(&runs->lock);
    if (!told)
        return fault(-ENOMEM, "no room for %zu runs", n);
    qsort(told, n, sizeof(*told), newest_first);
    *ret = told;
    *ret_n = n;
    return 0;
}
