#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The parts of rpc/server: server.c starts and stops, worker.c is the thread around a completion
 * queue, call.c is one call; accept.c is the thread that lets connections in, handshakes.c what it
 * knows of them until TLS is up, passive.cc the way into core. Private to this directory.
 *
 * Memory: a worker outlives its thread as long as a call of it is referenced, so a late
 * rpc_call_post() finds it.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/list.h"
#include "common/loop/loop.h"
#include "common/rpc/core.h"
#include "common/rpc/server/passive.h"
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

/* ---- connections until their handshake is over ---- */

/* Of guest_end(): it is neither counted nor logged. */
#define HANDSHAKE_UNTOLD RPC_N_HANDSHAKE_RESULTS

enum stage {
    STAGE_DELAYED, /* is not read yet */
    STAGE_WAITING, /* for a PROXY header or the first record; on the loop */
    STAGE_SHAKING, /* core's */
    STAGE_OVER,
};

struct guest {
    struct rpc_handshake handshake;
    atomic_uint refs; /* the acceptor's lists while the handshake is not over, core's */
    struct acceptor *acceptor;
    struct loop_file file;    /* loop */
    struct peer_address peer; /* loop */
    char text[PEER_TEXT_BYTES];
    bool is_loops;        /* loop: it waits or is delayed, the socket is the loop's */
    bool is_proxy;        /* loop: a header is to come */
    struct {              /* by acceptor->shared.lock */
        struct list node; /* of the list of its stage */
        enum stage stage;
        int fd; /* -1: not ours to touch */
        mono_us begun, due;
        enum rpc_handshake_result reason; /* what was heard of; FINISHED: nothing */
        char detail[160];
    } shared;
};

struct acceptor {
    atomic_uint refs; /* the server, each connection that is open */
    struct rpc_door door;
    bool is_tls;
    struct rpc_passive *passive; /* the server's */
    struct loop *core;
    pthread_t thread;
    bool is_running;
    struct {
        struct loop_file listeners[4];
        size_t n_listeners;
        struct loop_timer sweep, resume;
        struct loop_wakeup wakeup;
        bool is_stopped;
    } loop;
    struct {
        pthread_mutex_t lock;
        struct rpc_accept_limits limits;
        struct peer_nets proxies;
        struct list delayed, waiting, shaking; /* the oldest first */
        size_t n_handshakes;
        bool is_stopping;
        struct rpc_accept_stats stats;
    } shared;
    pthread_mutex_t door_lock; /* on_stranger */
    bool is_shut;              /* by door_lock: the owner may be gone */
};

/* ---- accept.c ---- */

/* Listens. Outcomes: RPC_IN_USE. */
int acceptor_new(struct acceptor **ret,
                 const struct rpc_server_options *options,
                 struct rpc_passive *passive,
                 uint16_t *ret_port) MUST_USE;
int acceptor_start(struct acceptor *acceptor) MUST_USE;
/* Stop: listens no more. Thread: any. Join: the thread is gone and the owner is not called again;
 * connections of core's may be left. */
void acceptor_stop(struct acceptor *acceptor);
void acceptor_join(struct acceptor *acceptor);
struct acceptor *acceptor_unref(struct acceptor *acceptor);

/* ---- handshakes.c: all of it from any thread ---- */

/* The limits as they are meant: defaults filled in. */
struct rpc_accept_limits handshakes_limits(const struct rpc_accept_limits *limits);
/* A connection that waits or is delayed; holds a reference to the acceptor. */
struct guest *guest_new(struct acceptor *acceptor, int fd, const struct peer_address *peer);
void guest_unref(struct guest *guest);
/* False: it is over already. */
bool guest_set_stage(struct guest *guest, enum stage stage, mono_us due);
/*
 * The end of a handshake, in the books and in the log; false: it was over. Of one that waited the
 * socket is for the caller to close (on the loop); one of core's is shut down.
 */
bool guest_end(struct guest *guest, enum rpc_handshake_result result, const char *detail);
/* The one that makes room: referenced, or NULL. */
struct guest *handshakes_victim(struct acceptor *acceptor);
enum rpc_handshake_result handshakes_reason(const char *text);

struct rpc_server {
    struct rpc_server_options options;
    grpc_server *core;
    struct rpc_passive *passive;
    struct acceptor *acceptor;
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
