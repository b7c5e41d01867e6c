/* SPDX-License-Identifier: Apache-2.0 */
#include "server/query/query.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"

#define POOL_MAX_THREADS 64
/* Also where there are fewer cores: the kernel shares them out, so that a short question does not
 * wait until two long ones are done. */
#define POOL_MIN_THREADS 4

struct query_pool {
    unsigned n_threads;
    unsigned max_waiting;
    pthread_t threads[POOL_MAX_THREADS];
    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct query_task *first;
        struct query_task **last;
        unsigned n_waiting;
        bool is_stopping;
    } shared;
};

static void *reader_main(void *arg)
{
    struct query_pool *pool = arg;

    pthread_mutex_lock(&pool->shared.lock);
    for (;;) {
        struct query_task *task = pool->shared.first;

        if (task) {
            pool->shared.first = task->next;
            if (!task->next)
                pool->shared.last = &pool->shared.first;
            pool->shared.n_waiting--;
            pthread_mutex_unlock(&pool->shared.lock);
            task->run(task);
            pthread_mutex_lock(&pool->shared.lock);
        } else if (pool->shared.is_stopping) {
            break;
        } else {
            pthread_cond_wait(&pool->shared.wake, &pool->shared.lock);
        }
    }
    pthread_mutex_unlock(&pool->shared.lock);
    return NULL;
}

int query_pool_new(struct query_pool **ret, unsigned n_threads, unsigned max_waiting)
{
    CLEANUP(query_pool_freep) struct query_pool *pool = NULL;
    long n_cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (n_threads == 0)
        n_threads = n_cores > POOL_MIN_THREADS ? (unsigned) n_cores : POOL_MIN_THREADS;
    if (n_threads > POOL_MAX_THREADS)
        n_threads = POOL_MAX_THREADS;

    pool = calloc(1, sizeof(*pool));
    if (!pool)
        return fault(-ENOMEM, "query pool");
    pool->max_waiting = max_waiting;
    pool->shared.last = &pool->shared.first;
    pthread_mutex_init(&pool->shared.lock, NULL);
    pthread_cond_init(&pool->shared.wake, NULL);
    for (; pool->n_threads < n_threads; pool->n_threads++) {
        int r = pthread_create(&pool->threads[pool->n_threads], NULL, reader_main, pool);
        if (r)
            return fault(-r, "reader thread");
    }
    *ret = take(pool);
    return 0;
}

struct query_pool *query_pool_free(struct query_pool *pool)
{
    if (!pool)
        return NULL;
    pthread_mutex_lock(&pool->shared.lock);
    pool->shared.is_stopping = true;
    pthread_cond_broadcast(&pool->shared.wake);
    pthread_mutex_unlock(&pool->shared.lock);
    for (unsigned i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    ensure(!pool->shared.first);
    pthread_cond_destroy(&pool->shared.wake);
    pthread_mutex_destroy(&pool->shared.lock);
    free(pool);
    return NULL;
}

int query_pool_submit(struct query_pool *pool, struct query_task *task)
{
    int r = QUERY_BUSY;

    ensure(task->run);
    pthread_mutex_lock(&pool->shared.lock);
    ensure(!pool->shared.is_stopping);
    if (pool->shared.n_waiting < pool->max_waiting) {
        task->next = NULL;
        *pool->shared.last = task;
        pool->shared.last = &task->next;
        pool->shared.n_waiting++;
        pthread_cond_signal(&pool->shared.wake);
        r = QUERY_OK;
    }
    pthread_mutex_unlock(&pool->shared.lock);
    return r;
}
