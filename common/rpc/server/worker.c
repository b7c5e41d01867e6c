/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include <grpc/support/time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/rpc/server/private.h"

static struct rpc_post posts_closed;
#define POSTS_CLOSED (&posts_closed)

static _Thread_local const struct worker *current_worker;

bool worker_is_mine(const struct worker *worker)
{
    return current_worker == worker;
}

/* ---- posts ---- */

static void run_posts(struct rpc_post *newest)
{
    struct rpc_post *oldest = NULL;

    while (newest) {
        struct rpc_post *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct rpc_post *post = oldest;

        oldest = post->next; /* fn may free it */
        post->next = NULL;
        post->fn(post);
    }
}

static void on_wake(struct tag *tag, bool ok)
{
    struct worker *worker = container_of(tag, struct worker, wake_tag);

    (void) ok;
    run_posts(atomic_exchange_explicit(&worker->shared.posts, NULL, memory_order_acquire));
}

static void wake(struct worker *worker)
{
    pthread_mutex_lock(&worker->shared.lock);
    /* A queue that is shut takes no events; worker_close() runs what was posted. */
    if (!worker->shared.is_queue_shut)
        ensure(grpc_call_start_batch(worker->waker, NULL, 0, &worker->wake_tag, NULL) ==
               GRPC_CALL_OK);
    pthread_mutex_unlock(&worker->shared.lock);
}

void worker_post(struct worker *worker, struct rpc_post *post)
{
    struct rpc_post *head = atomic_load_explicit(&worker->shared.posts, memory_order_relaxed);

    /* Once it is on the list it may run, and drop the call that held the worker. */
    (void) worker_ref(worker);
    while (head != POSTS_CLOSED) {
        post->next = head;
        if (!atomic_compare_exchange_weak_explicit(&worker->shared.posts, &head, post,
                                                   memory_order_release, memory_order_relaxed))
            continue;
        /* Whoever found the list empty wakes the thread; the others ride along. */
        if (!head)
            wake(worker);
        (void) worker_unref(worker);
        return;
    }
    pthread_mutex_lock(&worker->shared.lock);
    post->next = NULL;
    post->fn(post);
    pthread_mutex_unlock(&worker->shared.lock);
    (void) worker_unref(worker);
}

static void release_core(struct worker *worker)
{
    grpc_call_unref(take(worker->waker));
    grpc_channel_destroy(take(worker->lame_channel));
    grpc_completion_queue_destroy(take(worker->queue));
    grpc_byte_buffer_destroy(take(worker->thread.outgoing));
}

void worker_close(struct worker *worker)
{
    ensure(list_is_empty(&worker->thread.calls) && !worker->thread.unflushed);
    pthread_mutex_lock(&worker->shared.lock);
    run_posts(atomic_exchange_explicit(&worker->shared.posts, POSTS_CLOSED, memory_order_acq_rel));
    pthread_mutex_unlock(&worker->shared.lock);
    release_core(worker);
}

/* ---- thread ---- */

static void flush_calls(struct worker *worker)
{
    while (worker->thread.unflushed)
        call_flush(worker->thread.unflushed);
}

void worker_run(struct worker *worker)
{
    const struct worker *outer = current_worker;

    current_worker = worker;
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(worker->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        struct tag *tag = event.tag;

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            break;
        ensure(event.type == GRPC_OP_COMPLETE);
        tag->fn(tag, event.success != 0);
        /* What handlers sent goes out when they are done, so that it can be merged. */
        flush_calls(worker);
    }
    current_worker = outer;
}

static void *thread_main(void *arg)
{
    worker_run(arg);
    return NULL;
}

int worker_start(struct worker *worker)
{
    sigset_t all, before;
    int r;

    /* Signals are the main loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&worker->thread.id, NULL, thread_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    worker->thread.is_running = r == 0;
    return r ? fault(-r, "no thread for calls") : 0;
}

void worker_check_end(struct worker *worker)
{
    /*
     * Core's server has shut down when the connections are gone, and that can be before their calls
     * came back. A queue that is shut takes no operation, and while a call is open its handler may
     * start one.
     */
    if (!worker->thread.is_finishing || worker->thread.n_slots ||
        !list_is_empty(&worker->thread.calls) || worker->shared.is_queue_shut)
        return;
    pthread_mutex_lock(&worker->shared.lock);
    worker->shared.is_queue_shut = true;
    grpc_completion_queue_shutdown(worker->queue);
    pthread_mutex_unlock(&worker->shared.lock);
}

static void on_finish(struct rpc_post *post)
{
    struct worker *worker = container_of(post, struct worker, finish_post);

    worker->thread.is_finishing = true;
    worker_check_end(worker);
}

void worker_finish(struct worker *worker)
{
    worker_post(worker, &worker->finish_post);
}

/* ---- life ---- */

struct worker *worker_new(struct rpc_server *server, unsigned index)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    pthread_mutexattr_t recursive;

    if (!worker)
        return NULL;
    atomic_init(&worker->refs, 1);
    worker->index = index;
    worker->ctx = server->options.ctx;
    worker->thread.server = server;
    list_init(&worker->thread.calls);
    worker->thread.outgoing = grpc_raw_byte_buffer_create(NULL, 0);
    worker->wake_tag.fn = on_wake;
    worker->finish_post.fn = on_finish;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&worker->shared.lock, &recursive);
    pthread_mutexattr_destroy(&recursive);
    worker->queue = grpc_completion_queue_create_for_next(NULL);
    worker->lame_channel = grpc_lame_client_channel_create("waker", GRPC_STATUS_UNAVAILABLE, "");
    worker->waker = grpc_channel_create_call(worker->lame_channel, NULL, GRPC_PROPAGATE_DEFAULTS,
                                             worker->queue, grpc_slice_from_static_string("/wake"),
                                             NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    return worker;
}

struct worker *worker_ref(struct worker *worker)
{
    atomic_fetch_add_explicit(&worker->refs, 1, memory_order_relaxed);
    return worker;
}

struct worker *worker_unref(struct worker *worker)
{
    if (atomic_fetch_sub_explicit(&worker->refs, 1, memory_order_acq_rel) != 1)
        return worker;
    pthread_mutex_destroy(&worker->shared.lock);
    free(worker);
    return NULL;
}
