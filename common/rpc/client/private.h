#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The parts of rpc/client: queue.c brings core's events to the loop, call.c is one call. Private to
 * this directory.
 */

#include <pthread.h>

#include "common/base/list.h"
#include "common/rpc/client/client.h"
#include "common/rpc/core.h"

/* What core runs when an operation is over, on a thread of its own; `fn` follows on the loop. */
struct client_tag {
    grpc_completion_queue_functor functor; /* first: core hands back its address */
    struct client_tag *next;
    struct rpc_queue *queue;
    void (*fn)(struct client_tag *tag, bool ok);
    bool ok;
};

struct rpc_queue {
    grpc_completion_queue *core;
    grpc_completion_queue_functor on_shutdown;
    struct {
        struct loop *loop;
        struct loop_wakeup wakeup;
        size_t n_outstanding; /* tags that core has */
        bool is_dispatching;
    } loop;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t has_news;
        struct client_tag *oldest, **end; /* tags that came back */
        bool is_awake;                    /* the loop will look: no need to wake it again */
        bool is_shut_down;
    } shared;
};

struct rpc_channel {
    struct rpc_queue *queue;
    grpc_channel *core;
    uint32_t send_queue_bytes;
    char *only_path;         /* its server is not verified: no other call; NULL: any */
    grpc_metadata *metadata; /* core takes references when a call starts */
    size_t n_metadata;
};

/* Makes a tag ready; `queue` is where it comes back. */
void client_tag_init(struct client_tag *tag,
                     struct rpc_queue *queue,
                     void (*fn)(struct client_tag *tag, bool ok));
/* Starts operations; the tag comes back exactly once. */
void client_start(grpc_call *call, const grpc_op *ops, size_t n_ops, struct client_tag *tag);
