#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the questions of ask.c and gather.c have in common. Private to bench. */

#include "bench/bench.h"
#include "common/loop/loop.h"
#include "common/rpc/client/client.h"
#include "common/wire/wire.h"
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

/* One request and a stream of answers, whose bytes go to on_message(); it returns an exit code, and
 * anything but BENCH_OK ends the call. Returns an exit code. */
int ask_stream(struct ask *ask,
               const char *path,
               const ProtobufCMessage *request,
               int (*on_message)(void *ctx, struct span message),
               void *ctx);

/* The entries of an answer of SearchLogs, one by one, then the rest of it. */
struct ask_search {
    int (*on_entry)(void *ctx, const struct wire_log_entry *entry); /* returns an exit code */
    void *ctx;
    /* what came */
    uint64_t n_entries, bytes_read;
    bool is_budget_reached;
    char page_token[1024]; /* empty: there is no more */
};
/* Returns an exit code. */
int ask_search(struct ask *ask,
               const Sentinel__Query__V1__SearchLogsRequest *request,
               struct ask_search *search);

Google__Protobuf__Timestamp ask_timestamp(int64_t us);
