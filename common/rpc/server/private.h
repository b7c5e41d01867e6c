#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The parts of rpc/server: server.c starts and stops, worker.c is the thread around a completion
 * queue, call.c is one call. Private to this directory.
 *
 * Memory: a worker outlives its thread as long as a call of it is referenced, so a late
 * rpc_call_post() finds it.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/list.h"
#include "common/rpc/core.h"
#include "common/rpc/server/server.h"

/* What core's queue hands back. Embedded in whoever waits for it. */
struct tag {
    void (*fn)(struct tag *tag, bool ok);
};

enum { N_COUNTERS = 6 };
enum counter {
    CALLS_OPENED,
    CALLS_CLOSED,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
    BYTES_RECEIVED,
    BYTES_SENT
};

struct worker {
    atomic_uint refs; /* the server, each call, each post while it is being handed over */
    unsigned index;
    void *ctx;
    struct {
        pthread_t id;
        bool is_running;           /* set by worker_start() */
        struct rpc_server *server; /* outlives the thread */
        struct list calls;         /* not yet closed, or with operations outstanding */
        unsigned n_slots;          /* armed: core will hand each back, with a call or without */
        bool is_finishing;         /* core's server has shut down */
        struct rpc_call *unflushed;
        grpc_byte_buffer *outgoing; /* carries one message at a time into core */
    } thread;
    grpc_completion_queue *queue;
    /* An empty batch on a call that never leaves this machine is the way to put an event on a
     * queue. */
    grpc_channel *lame_channel;
    grpc_call *waker;
    struct tag wake_tag;
    struct rpc_post drain_post, finish_post;
    struct {
        _Atomic(struct rpc_post *) posts; /* newest first; POSTS_CLOSED once the thread is gone */
        pthread_mutex_t lock;             /* recursive: a post that runs late may post again */
        bool is_queue_shut;               /* by lock */
        _Atomic(uint64_t) counters[N_COUNTERS]; /* written by the thread alone */
    } shared;
};

struct rpc_server {
    struct rpc_server_options options;
    grpc_server *core;
    uint16_t port;
    bool is_started, is_joined;
    struct tag shutdown_tag;
    struct {
        atomic_bool is_stopping;
        pthread_mutex_t lock;
        pthread_cond_t has_shut_down;
        bool is_shut_down; /* by lock */
    } shared;
    struct worker *workers[64];
};

/* ---- worker.c ---- */
struct worker *worker_new(struct rpc_server *server, unsigned index);
struct worker *worker_ref(struct worker *worker);
struct worker *worker_unref(struct worker *worker);
int worker_start(struct worker *worker) MUST_USE;
/* Works off the queue until it is shut down and empty, on the calling thread. */
void worker_run(struct worker *worker);
/* When core's server has shut down: the thread ends once its calls and slots came back. Thread:
 * any. */
void worker_finish(struct worker *worker);
/* On the thread, after a call or a slot was given back. */
void worker_check_end(struct worker *worker);
/* After the thread: what was posted meanwhile runs here, and late posts where they are posted.
 * Gives core's objects back. */
void worker_close(struct worker *worker);
void worker_post(struct worker *worker, struct rpc_post *post);
bool worker_is_mine(const struct worker *worker);

static inline void worker_count(struct worker *worker, enum counter counter, uint64_t n)
{
    _Atomic(uint64_t) *at = &worker->shared.counters[counter];

    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* ---- call.c ---- */

/* Puts `n` slots up for calls that come in. */
int call_arm(struct worker *worker, unsigned n) MUST_USE;
void call_flush(struct rpc_call *call);
/* on_drain for each open call. */
void call_drain_all(struct worker *worker);
