/* SPDX-License-Identifier: Apache-2.0 */

/* Questions with a stream of answers. */

#include "bench/ask.h"

#define TIMEOUT_US INT64_C(120000000)

struct stream {
    int (*on_message)(void *ctx, struct span message);
    void *ctx;
    int exit_code;
    bool is_closed;
    int code;
    char message[256];
};

static void on_stream_message(struct rpc_client_call *call, struct span message)
{
    struct stream *stream = rpc_client_call_ctx(call);

    if (stream->exit_code == BENCH_OK)
        stream->exit_code = stream->on_message(stream->ctx, message);
    if (stream->exit_code != BENCH_OK)
        rpc_client_call_cancel(call);
    rpc_client_call_read(call);
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct stream *stream = rpc_client_call_ctx(call);

    stream->is_closed = true;
    stream->code = status->code;
    (void) snprintf(stream->message, sizeof(stream->message), "%s", status->message);
}

static const struct rpc_client_handler handler = { .on_message = on_stream_message,
                                                   .on_closed = on_closed };

int ask_stream(struct ask *ask,
               const char *path,
               const ProtobufCMessage *request,
               int (*on_message)(void *ctx, struct span message),
               void *ctx)
{
    CLEANUP(rpc_client_call_unrefp) struct rpc_client_call *call = NULL;
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    struct stream stream = { .on_message = on_message, .ctx = ctx };
    const struct rpc_client_call_options options = {
        .path = path, .timeout_us = TIMEOUT_US, .handler = &handler, .ctx = &stream
    };

    if (wire_pack(request, &packed) < 0 || rpc_client_call_new(&call, ask->channel, &options) < 0 ||
        rpc_client_call_send(call, buf_span(&packed)) != RPC_DONE)
        return bench_say(BENCH_FAILED, "%s: the call could not be made", path);
    rpc_client_call_half_close(call);
    rpc_client_call_read(call);
    while (!stream.is_closed)
        if (loop_run_once(ask->loop, 1000) < 0)
            return BENCH_FAILED;
    if (stream.exit_code != BENCH_OK || stream.code == RPC_OK)
        return stream.exit_code;
    return bench_say(stream.code == RPC_UNAVAILABLE ? BENCH_UNAVAILABLE : BENCH_FAILED, "%s: %s %s",
                     path, rpc_code_name(stream.code), stream.message);
}

/* ---- searches ---- */

static int unreadable(const struct wire_problem *problem)
{
    return bench_say(BENCH_FAILED, "the hub's answer is unreadable: %s %s", problem->field,
                     problem->description);
}

static int read_rest(struct ask_search *search, struct span rest)
{
    CLEANUP(arena_deinit) struct arena arena = { 0 };
    const Sentinel__Query__V1__SearchLogsResponse *answer;
    ProtobufCMessage *unpacked = NULL;
    struct wire_problem problem;

    arena_init(&arena, wire_arena_limit(rest.len));
    if (wire_unpack(&sentinel__query__v1__search_logs_response__descriptor, rest, &arena, &unpacked,
                    &problem))
        return unreadable(&problem);
    answer = (const void *) unpacked;
    if (answer->cost) {
        search->bytes_read = answer->cost->bytes_read;
        search->is_budget_reached = answer->cost->budget_reached;
    }
    (void) snprintf(search->page_token, sizeof(search->page_token), "%s", answer->next_page_token);
    return BENCH_OK;
}

static int on_found(void *ctx, struct span message)
{
    CLEANUP(buf_deinit) struct buf rest = { 0 };
    struct ask_search *search = ctx;
    struct wire_log_entries entries;
    struct wire_log_entry entry;
    struct wire_problem problem;
    bool is_end = false;
    int exit_code = BENCH_OK;

    if (wire_log_entries_open(message, &entries, &rest, &problem))
        return unreadable(&problem);
    while (exit_code == BENCH_OK) {
        if (wire_log_entries_next(&entries, &entry, &is_end, &problem))
            return unreadable(&problem);
        if (is_end)
            break;
        search->n_entries++;
        if (search->on_entry)
            exit_code = search->on_entry(search->ctx, &entry);
    }
    return exit_code == BENCH_OK ? read_rest(search, buf_span(&rest)) : exit_code;
}

int ask_search(struct ask *ask,
               const Sentinel__Query__V1__SearchLogsRequest *request,
               struct ask_search *search)
{
    search->page_token[0] = '\0';
    return ask_stream(ask, "/sentinel.query.v1.QueryService/SearchLogs", &request->base, on_found,
                      search);
}
