/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collect/helper.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/ensure.h"

/* A collector's deepest frames are a path and a name of a few KiB. */
#define STACK_BYTES (256u << 10)

struct helper {
    pthread_attr_t attributes;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t work; /* for the threads */
        pthread_cond_t done; /* for the loop */
        struct list queue;
        size_t n_threads, n_idle;
        bool is_stopping;
    } shared;
};

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void run_next(struct helper *helper)
{
    struct list *node = helper->shared.queue.next;
    struct helper_job *job = container_of(node, struct helper_job, node);

    list_remove(node);
    job->state = HELPER_RUNNING;
    job->started_us = now_us();
    pthread_mutex_unlock(&helper->shared.lock);
    job->fn(job->ctx);
    pthread_mutex_lock(&helper->shared.lock);
    job->state = HELPER_DONE;
    pthread_cond_broadcast(&helper->shared.done);
}

static void *thread_main(void *ctx)
{
    struct helper *helper = ctx;

    pthread_mutex_lock(&helper->shared.lock);
    while (!helper->shared.is_stopping) {
        if (!list_is_empty(&helper->shared.queue)) {
            run_next(helper);
            continue;
        }
        /* One idle thread is enough: those that came in for one that hung leave again. */
        if (helper->shared.n_idle > 0)
            break;
        helper->shared.n_idle++;
        pthread_cond_wait(&helper->shared.work, &helper->shared.lock);
        helper->shared.n_idle--;
    }
    helper->shared.n_threads--;
    pthread_cond_broadcast(&helper->shared.done);
    pthread_mutex_unlock(&helper->shared.lock);
    return NULL;
}

struct helper *helper_new(void)
{
    struct helper *helper = calloc(1, sizeof(*helper));
    pthread_condattr_t monotonic;

    if (!helper)
        return NULL;
    pthread_attr_init(&helper->attributes);
    pthread_attr_setstacksize(&helper->attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&helper->attributes, PTHREAD_CREATE_DETACHED);
    pthread_mutex_init(&helper->shared.lock, NULL);
    pthread_cond_init(&helper->shared.work, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&helper->shared.done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    list_init(&helper->shared.queue);
    return helper;
}

static void wait_until(struct helper *helper, int64_t until_us)
{
    struct timespec at = { .tv_sec = until_us / 1000000, .tv_nsec = until_us % 1000000 * 1000 };

    (void) pthread_cond_timedwait(&helper->shared.done, &helper->shared.lock, &at);
}

/* How long an end waits for a thread that is about to return by itself. */
#define LAST_WAIT_US 200000

bool helper_free(struct helper *helper)
{
    int64_t until_us = now_us() + LAST_WAIT_US;
    bool is_over;

    if (!helper)
        return true;
    pthread_mutex_lock(&helper->shared.lock);
    helper->shared.is_stopping = true;
    while (!list_is_empty(&helper->shared.queue)) {
        struct list *node = helper->shared.queue.next;

        container_of(node, struct helper_job, node)->state = HELPER_IDLE;
        list_remove(node);
    }
    pthread_cond_broadcast(&helper->shared.work);
    while (helper->shared.n_threads > 0 && now_us() < until_us)
        wait_until(helper, until_us);
    is_over = helper->shared.n_threads == 0;
    pthread_mutex_unlock(&helper->shared.lock);
    if (!is_over)
        return false;

    pthread_cond_destroy(&helper->shared.done);
    pthread_cond_destroy(&helper->shared.work);
    pthread_mutex_destroy(&helper->shared.lock);
    pthread_attr_destroy(&helper->attributes);
    free(helper);
    return true;
}

/* Under the lock. */
static bool add_thread(struct helper *helper)
{
    pthread_t thread;

    if (helper->shared.n_threads == HELPER_MAX_THREADS ||
        pthread_create(&thread, &helper->attributes, thread_main, helper) != 0)
        return false;
    helper->shared.n_threads++;
    return true;
}

bool helper_start(struct helper *helper, struct helper_job *job)
{
    bool can_run;

    pthread_mutex_lock(&helper->shared.lock);
    ensure(job->state == HELPER_IDLE);
    can_run = helper->shared.n_threads > 0 || add_thread(helper);
    if (can_run) {
        job->state = HELPER_QUEUED;
        list_append(&helper->shared.queue, &job->node);
        pthread_cond_signal(&helper->shared.work);
    }
    pthread_mutex_unlock(&helper->shared.lock);
    return can_run;
}

bool helper_take(struct helper *helper, struct helper_job *job)
{
    bool is_done;

    pthread_mutex_lock(&helper->shared.lock);
    is_done = job->state == HELPER_DONE;
    if (is_done)
        job->state = HELPER_IDLE;
    pthread_mutex_unlock(&helper->shared.lock);
    return is_done;
}

bool helper_is_idle(struct helper *helper, const struct helper_job *job)
{
    bool is_idle;

    pthread_mutex_lock(&helper->shared.lock);
    is_idle = job->state == HELPER_IDLE;
    pthread_mutex_unlock(&helper->shared.lock);
    return is_idle;
}

/* The instant at which the first of the jobs that run is over its deadline; 0: none is to be waited
 * for. `ret_is_queued`: one waits for a thread. Under the lock. */
static int64_t next_deadline(struct helper_job *const *jobs,
                             size_t n_jobs,
                             int64_t deadline_us,
                             bool *ret_is_queued)
{
    int64_t first_us = 0, now = now_us();

    *ret_is_queued = false;
    for (size_t i = 0; i < n_jobs; i++) {
        int64_t until_us = jobs[i]->started_us + deadline_us;

        *ret_is_queued = *ret_is_queued || jobs[i]->state == HELPER_QUEUED;
        if (jobs[i]->state == HELPER_RUNNING && until_us > now &&
            (first_us == 0 || until_us < first_us))
            first_us = until_us;
    }
    return first_us;
}

void helper_wait(struct helper *helper,
                 struct helper_job *const *jobs,
                 size_t n_jobs,
                 int64_t deadline_us)
{
    int64_t begin_us = now_us();
    int64_t last_us = begin_us + deadline_us * (int64_t) (n_jobs + 1);

    pthread_mutex_lock(&helper->shared.lock);
    while (now_us() < last_us) {
        bool is_queued;
        int64_t until_us = next_deadline(jobs, n_jobs, deadline_us, &is_queued);

        if (until_us == 0) {
            if (!is_queued)
                break;
            /* All threads are busy with what is over its time, or is nothing of ours. */
            until_us = now_us() + deadline_us;
            if (helper->shared.n_idle == 0 && !add_thread(helper))
                break;
        }
        wait_until(helper, until_us);
    }
    pthread_mutex_unlock(&helper->shared.lock);
}
