#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the questions of ask.c and gather.c have in common. Private to bench. */

#include "bench/bench.h"
#include "common/loop/loop.h"
#include "common/rpc/client/client.h"
#include "sentinel/query/v1/query.pb-c.h"

struct ask {
    struct loop *loop;
    struct rpc_queue *queue;
    struct rpc_channel *channel;
    struct arena arena; /* of the answer at hand */
};

/* Asks again when the hub is not there, for some seconds. The answer lives until the next call;
 * NULL when the hub says NOT_FOUND. Returns an exit code. */
int ask_call(struct ask *ask,
             const char *path,
             const ProtobufCMessage *request,
             ProtobufCMessage **ret);

Google__Protobuf__Timestamp ask_timestamp(int64_t us);
