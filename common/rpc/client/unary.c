/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "common/base/fault.h"
#include "common/rpc/client/private.h"

struct unary {
    struct arena *arena;
    struct span response;
    bool has_response;
    struct rpc_status status;
    bool is_done;
    int fault; /* of a callback */
};

static int copy_span(struct arena *arena, struct span from, struct span *ret)
{
    char *copy = arena_copy(arena, from);

    if (!copy)
        return fault(-ENOMEM, "no room for an answer of %zu bytes", from.len);
    *ret = span_of(copy, from.len);
    return 0;
}

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct unary *unary = rpc_client_call_ctx(call);

    if (!unary->has_response && unary->fault == 0)
        unary->fault = copy_span(unary->arena, message, &unary->response);
    unary->has_response = true;
    rpc_client_call_read(call); /* the status comes when there is nothing left to read */
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct unary *unary = rpc_client_call_ctx(call);
    int r = copy_span(unary->arena, status->details, &unary->status.details);

    unary->status.code = status->code;
    unary->status.message = arena_copy_text(unary->arena, status->message);
    if (r == 0 && !unary->status.message)
        r = fault(-ENOMEM, "no room for a status");
    if (unary->fault == 0)
        unary->fault = r;
    unary->is_done = true;
}

static const struct rpc_client_handler unary_handler = {
    .on_message = on_message,
    .on_closed = on_closed,
};

int rpc_client_unary(struct rpc_channel *channel,
                     const char *path,
                     struct span request,
                     int64_t timeout_us,
                     struct arena *arena,
                     struct span *ret_response,
                     struct rpc_status *ret_status)
{
    CLEANUP(rpc_client_call_unrefp) struct rpc_client_call *call = NULL;
    struct unary unary = { .arena = arena };
    int r = rpc_client_call_new(&call, channel,
                                &(struct rpc_client_call_options){
                                    .path = path,
                                    .timeout_us = timeout_us,
                                    .handler = &unary_handler,
                                    .ctx = &unary,
                                });

    if (r < 0)
        return pass(r);
    r = fold(rpc_client_call_send(call, request)); /* always fits, and it has just begun */
    rpc_client_call_half_close(call);
    rpc_client_call_read(call);
    /* We may be inside the queue's own callback, which otherwise would not be woken again. */
    loop_wakeup_fire(&channel->queue->loop.wakeup);
    while (r == 0 && !unary.is_done)
        r = loop_run_once(channel->queue->loop.loop, -1);
    if (r == 0)
        r = unary.fault;
    if (r < 0)
        return pass(r);
    if (unary.status.code == RPC_OK && !unary.has_response)
        unary.status = (struct rpc_status){ .code = RPC_INTERNAL, .message = "no answer came" };
    *ret_response = unary.response;
    *ret_status = unary.status;
    return 0;
}
