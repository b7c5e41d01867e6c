/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Calls with one request and one answer: read on the call's thread, decoded there, answered on a
 * reader, sent on the call's thread again.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/front/inside.h"

struct unary_call {
    struct unary unary;
    struct query_task task;
    struct rpc_post post;
    struct rpc_call *call;
    struct arena request_arena;
    uint64_t charged_bytes;
    struct buf packed;
    enum front_failure failure;
    int r;
    bool has_request;
    bool is_away;              /* with the reader, or on its way back */
    bool is_closed;            /* the call is over; freed when back */
    _Atomic bool is_cancelled; /* for the reader: nobody waits for the answer */
};

static void unary_free(struct unary_call *u)
{
    arena_deinit(&u->unary.arena);
    arena_deinit(&u->request_arena);
    if (u->charged_bytes > 0)
        front_discharge(u->unary.front, u->charged_bytes);
    buf_deinit(&u->packed);
    free(u);
}

static void on_open(struct rpc_call *call)
{
    struct front_caller caller;
    struct unary_call *u;

    if (!front_authorise(call, &caller))
        return;
    u = calloc(1, sizeof(*u));
    if (!u) {
        front_fail(call, FAIL_FAULT, NULL, fault(-ENOMEM, "no memory for a call"));
        return;
    }
    u->unary.front = rpc_call_ctx(call);
    u->unary.method = front_call_method(call);
    u->unary.caller = caller;
    u->unary.peer = rpc_call_peer(call);
    u->call = call;
    rpc_call_set_state(call, u);
    rpc_call_read(call);
}

/* The answer, packed. On a reader, or on the call's thread for quick ones. */
static void answer(struct unary_call *u)
{
    struct unary *unary = &u->unary;

    arena_init(&unary->arena, FRONT_ANSWER_BYTES);
    unary->now = clock_wall();
    u->failure = unary->method->answer(unary);
    if (u->failure == FAIL_NOT) {
        ensure(unary->answer != NULL);
        u->r = wire_pack(unary->answer, &u->packed);
        if (u->r < 0)
            u->failure = FAIL_FAULT;
    }
    /* At once: an answer under way is far smaller than what it was made of. */
    arena_deinit(&unary->arena);
    unary->answer = NULL;
}

bool unary_is_unwanted(void *ctx)
{
    struct unary *unary = ctx;

    return atomic_load(&container_of(unary, struct unary_call, unary)->is_cancelled);
}

static void send_answer(struct unary_call *u)
{
    /* Thrown out meanwhile: what was done is done, but it learns nothing of it. */
    const enum front_failure failure =
        front_recheck(u->unary.front, u->unary.method, &u->unary.caller);

    if (failure != FAIL_NOT) {
        if (failure != FAIL_FAULT)
            front_log_refused(u->call, &u->unary.caller, failure);
        front_fail(u->call, failure, NULL, 0);
        return;
    }
    if (u->failure != FAIL_NOT) {
        front_fail(u->call, u->failure, &u->unary.detail, u->r);
        return;
    }
    if (rpc_call_send(u->call, buf_span(&u->packed)) == RPC_DONE)
        front_finish_ok(u->call);
}

static void on_back(struct rpc_post *post)
{
    struct unary_call *u = container_of(post, struct unary_call, post);
    struct rpc_call *call = u->call;

    ensure(u->is_away);
    u->is_away = false;
    if (u->is_closed)
        unary_free(u);
    else
        send_answer(u);
    (void) rpc_call_unref(call);
}

static void run(struct query_task *task)
{
    struct unary_call *u = container_of(task, struct unary_call, task);
    const mono_us begun = clock_mono();

    if (!atomic_load(&u->is_cancelled))
        answer(u);
    front_charge_time(u->unary.front, u->unary.method, &u->unary.caller, begun);
    rpc_call_post(u->call, &u->post);
}

static void hand_to_reader(struct unary_call *u)
{
    int r;

    u->task.run = run;
    u->post.fn = on_back;
    u->is_away = true;
    (void) rpc_call_ref(u->call);
    r = query_pool_submit(u->unary.front->options.pool, &u->task);
    if (r == QUERY_OK)
        return;
    u->is_away = false;
    front_fail(u->call, r < 0 ? FAIL_FAULT : FAIL_READERS_BUSY, NULL, r);
    (void) rpc_call_unref(u->call);
}

enum front_failure unary_decode(struct unary *unary,
                                struct span message,
                                struct arena *arena,
                                uint64_t *ret_charged,
                                int *ret_r)
{
    struct front *front = unary->front;
    struct front_detail *detail = &unary->detail;
    struct wire_problem problem = { 0 };
    ProtobufCMessage *request = NULL;
    const size_t limit = wire_arena_limit(message.len);

    if (message.len > front->options.max_message_bytes) {
        front_describe(detail, NULL, "%zu bytes, at most %u (max_message_bytes)", message.len,
                       front->options.max_message_bytes);
        detail->quota = "max_message_bytes";
        return FAIL_MESSAGE_BYTES;
    }
    if (!front_charge(front, limit)) {
        front_describe(detail, NULL, "all together at most %llu bytes (arena_total_bytes)",
                       (unsigned long long) front->options.arena_total_bytes);
        detail->quota = "arena_total_bytes";
        return FAIL_ARENA_BUDGET;
    }
    *ret_charged = limit;
    arena_init(arena, limit);
    *ret_r = wire_unpack(unary->method->wire->request, message, arena, &request, &problem);
    unary->request = request;
    return front_failure_of_wire(*ret_r, &problem, detail);
}

static void on_message(struct rpc_call *call, struct span message)
{
    struct unary_call *u = rpc_call_state(call);
    enum front_failure failure;

    ensure(u != NULL && !u->has_request);
    u->has_request = true;
    failure = unary_decode(&u->unary, message, &u->request_arena, &u->charged_bytes, &u->r);
    if (failure != FAIL_NOT) {
        front_fail(call, failure, &u->unary.detail, u->r);
    } else if (u->unary.method->is_quick) {
        answer(u);
        send_answer(u);
    } else {
        hand_to_reader(u);
    }
}

static void on_half_close(struct rpc_call *call)
{
    struct unary_call *u = rpc_call_state(call);

    if (u && !u->has_request)
        front_fail(call, FAIL_NO_REQUEST, NULL, 0);
}

static void on_closed(struct rpc_call *call, bool was_cancelled)
{
    struct unary_call *u = rpc_call_state(call);

    (void) was_cancelled;
    if (!u)
        return;
    atomic_store(&u->is_cancelled, true);
    u->is_closed = true;
    if (!u->is_away)
        unary_free(u);
}

const struct rpc_handler unary_handler = {
    .on_open = on_open,
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_closed = on_closed,
};
