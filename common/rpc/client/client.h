#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * RPC client: calls that go out, on an event loop.
 *
 * A queue is a callback completion queue of core whose functor only notes the tag and wakes the
 * loop, so that all callbacks run on the loop's thread. A channel is one connection (its own, never
 * shared with another channel).
 *
 * Reading is pulled and writing is a bounded queue, as in rpc/server. Life of a call: [on_message |
 * on_writable]* -> on_closed, which is the last one; the call is freed by rpc_client_call_unref()
 * at any time, before or after. What the server sent is read before on_closed comes: who does not
 * want it cancels.
 *
 * Thread: the loop's, for everything.
 */

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc.h"

struct rpc_queue;
struct rpc_channel;
struct rpc_client_call;

int rpc_queue_new(struct rpc_queue **ret, struct loop *loop) MUST_USE;
/* After every call and channel of it is freed. Blocks shortly. */
struct rpc_queue *rpc_queue_free(struct rpc_queue *queue);
DEFINE_CLEANUP(struct rpc_queue *, rpc_queue_free);

/* A header of ours: a lower-case key that is not `-bin`, and printable ASCII. */
struct rpc_metadata {
    const char *key, *value;
};

struct rpc_channel_options {
    const char *target;                  /* HOST:PORT */
    struct rpc_credentials *credentials; /* NULL: plaintext */
    const char *server_name;             /* verified instead of the target's host; NULL: that */
    int64_t keepalive_interval_us;       /* 0: no pings */
    int64_t keepalive_timeout_us;
    int64_t connect_timeout_us; /* 0: 20 s */
    /* Core's own reconnect back-off; equal values disable its growth. 0: core's defaults. */
    int64_t min_backoff_us, max_backoff_us;
    uint32_t max_message_bytes; /* received; 0: 64 MiB */
    uint32_t send_queue_bytes;  /* per call; 0: 1 MiB; one message always fits an empty queue */
    const struct rpc_metadata *metadata; /* goes with each call; copied */
    size_t n_metadata;
};
/* Outcomes: RPC_BAD_METADATA. */
int rpc_channel_new(struct rpc_channel **ret,
                    struct rpc_queue *queue,
                    const struct rpc_channel_options *options) MUST_USE;
struct rpc_channel *rpc_channel_free(struct rpc_channel *channel);
DEFINE_CLEANUP(struct rpc_channel *, rpc_channel_free);

struct rpc_client_handler {
    void (*on_message)(struct rpc_client_call *call,
                       struct span message);           /* borrowed until return */
    void (*on_writable)(struct rpc_client_call *call); /* NULL: ignored */
    void (*on_closed)(struct rpc_client_call *call, const struct rpc_status *status);
};

struct rpc_client_call_options {
    const char *path;
    int64_t timeout_us;  /* 0: none */
    bool wait_for_ready; /* wait for a connection instead of failing with UNAVAILABLE */
    bool is_compressed;  /* what we send goes as gzip, where that saves a packet */
    const struct rpc_client_handler *handler;
    void *ctx;
};
/* Starts the call; the connection is made when there is none. */
int rpc_client_call_new(struct rpc_client_call **ret,
                        struct rpc_channel *channel,
                        const struct rpc_client_call_options *options) MUST_USE;
void *rpc_client_call_ctx(const struct rpc_client_call *call);
/* The peer's address once it has answered (its headers came), else empty. */
const char *rpc_client_call_peer(const struct rpc_client_call *call);

/* Asks for one message; fine while one is asked for already. */
void rpc_client_call_read(struct rpc_client_call *call);
/* Queues a copy. Outcomes: RPC_QUEUE_FULL (nothing was queued; on_writable comes), RPC_CLOSED. */
int rpc_client_call_send(struct rpc_client_call *call, struct span message) MUST_USE;
/* The same of a message that gains nothing by it: not as gzip on a call that is_compressed. */
int rpc_client_call_send_packed(struct rpc_client_call *call, struct span message) MUST_USE;
/* From hold to let_go what is queued is not written, so that it goes in one write: fewer packets,
 * and fewer threads that wake. A half close lets go too. */
void rpc_client_call_hold(struct rpc_client_call *call);
void rpc_client_call_let_go(struct rpc_client_call *call);
/* Bytes that wait in the send queue, with those being written. */
size_t rpc_client_call_queued(const struct rpc_client_call *call);
/* No more messages from us, after what is queued. */
void rpc_client_call_half_close(struct rpc_client_call *call);
/* on_closed still comes. */
void rpc_client_call_cancel(struct rpc_client_call *call);
/* Cancels when it is still open; no callback comes after this. */
struct rpc_client_call *rpc_client_call_unref(struct rpc_client_call *call);
DEFINE_CLEANUP(struct rpc_client_call *, rpc_client_call_unref);

/*
 * One unary call, running the loop until it is answered. Response, message and details are copied
 * into the arena. Returns 0 with ret_status filled (its code tells), or a fault. Fine inside a
 * callback of the loop.
 */
int rpc_client_unary(struct rpc_channel *channel,
                     const char *path,
                     struct span request,
                     int64_t timeout_us,
                     struct arena *arena,
                     struct span *ret_response,
                     struct rpc_status *ret_status) MUST_USE;
