#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: the stream protocol on a call, whatever is in its batches.
 *
 * A service file has a kind, which reads its requests and writes its answers, and a handler made of
 * the callbacks below.
 */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include "server/front/inside.h"

/* One of both. */
struct stream_request {
    const Sentinel__Telemetry__V1__StreamHello *hello;
    const struct ingest_batch *batch;
    bool is_borrowed; /* points into the bytes; else all is in the arena */
};

/* One of these. */
struct stream_answer {
    Sentinel__Telemetry__V1__Welcome *welcome;
    Sentinel__Telemetry__V1__Ack *ack;
    Sentinel__Telemetry__V1__Throttle *throttle;
};

struct stream_kind {
    enum store_signal signal;
    const char *name; /* in the log */
    /* Pure. Anything but FAIL_NOT: why not, with `detail` and ret_r as front_fail() wants them. */
    enum front_failure (*decode)(struct span bytes,
                                 struct front_worker *worker, /* into its arena */
                                 struct stream_request *ret,
                                 struct front_detail *detail,
                                 int *ret_r);
    /* NULL, or what it takes of the arena besides wire_arena_limit(), and how much it is when it is
     * decoded; 0: not known, and no more. */
    uint64_t (*more_bytes)(struct span bytes, uint64_t *ret_decoded);
    /* Appends. Faults: no memory. */
    int (*pack)(const struct stream_answer *answer, struct buf *to);
};

void stream_on_open(struct rpc_call *call, const struct stream_kind *kind);
void stream_on_message(struct rpc_call *call, struct span message);
void stream_on_half_close(struct rpc_call *call);
void stream_on_writable(struct rpc_call *call);
void stream_on_drain(struct rpc_call *call);
void stream_on_closed(struct rpc_call *call, bool was_cancelled);
