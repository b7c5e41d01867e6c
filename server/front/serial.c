/* SPDX-License-Identifier: Apache-2.0 */
#include "server/front/serial.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"

struct message {
    struct message *next;
    struct buf packed;
};

struct serial {
    struct unary unary;
    const struct serial_kind *kind;
    struct rpc_call *call;   /* referenced */
    _Atomic uint32_t n_refs; /* the open call, the piece under way, a wake under way */
    _Atomic bool is_cancelled;
    struct query_task task;
    struct rpc_post back_post, wake_post, check_post;
    struct list in_serials; /* under serials.lock */
    bool is_check_posted;   /* too */
    struct arena request_arena;
    uint64_t charged_bytes;

    /* the reader's while a piece is under way, else the call's thread's */
    void *work;
    struct message *first, **last;
    enum serial_state state;
    enum front_failure failure;
    int r;

    bool has_request;
    bool is_away;    /* with a reader, or on the way back */
    bool is_woken;   /* there is something to do, whatever the last piece said */
    bool must_check; /* whether the caller still may */
    bool is_over;    /* a status was given */
    bool is_closed;
};

static struct serial *serial_ref(struct serial *s)
{
    atomic_fetch_add(&s->n_refs, 1);
    return s;
}

static void drop_message(struct serial *s)
{
    struct message *message = s->first;

    s->first = message->next;
    if (!s->first)
        s->last = &s->first;
    buf_deinit(&message->packed);
    free(message);
}

static void serial_unref(struct serial *s)
{
    struct rpc_call *call = s->call;

    if (atomic_fetch_sub(&s->n_refs, 1) != 1)
        return;
    ensure(s->is_closed && !s->work);
    while (s->first)
        drop_message(s);
    arena_deinit(&s->unary.arena);
    arena_deinit(&s->request_arena);
    if (s->charged_bytes > 0)
        front_discharge(s->unary.front, s->charged_bytes);
    free(s);
    (void) rpc_call_unref(call);
}

static void fail(struct serial *s, enum front_failure failure, int r)
{
    if (s->is_over)
        return;
    s->is_over = true;
    front_fail(s->call, failure, &s->unary.detail, r);
}

/* ---- for a piece ---- */

struct unary *serial_unary(struct serial *serial)
{
    return &serial->unary;
}

struct buf *serial_message(struct serial *serial)
{
    struct message *message = calloc(1, sizeof(*message));

    if (!message)
        return NULL;
    *serial->last = message;
    serial->last = &message->next;
    return &message->packed;
}

bool serial_is_unwanted(void *ctx)
{
    struct serial *s = ctx;

    return atomic_load(&s->is_cancelled);
}

void serial_wake(void *ctx)
{
    struct serial *s = serial_ref(ctx);

    rpc_call_post(s->call, &s->wake_post);
}

/* ---- pieces ---- */

static void run(struct query_task *task)
{
    struct serial *s = container_of(task, struct serial, task);
    const mono_us begun = clock_mono();

    if (!atomic_load(&s->is_cancelled))
        s->failure = s->kind->piece(s, &s->work, &s->state, &s->r);
    front_charge_time(s->unary.front, s->unary.method, &s->unary.caller, begun);
    rpc_call_post(s->call, &s->back_post);
}

static void begin_piece(struct serial *s)
{
    int r;

    ensure(!s->is_away && !s->first);
    s->is_away = true;
    s->is_woken = false;
    (void) serial_ref(s);
    r = query_pool_submit(s->unary.front->options.pool, &s->task);
    if (r == QUERY_OK)
        return;
    s->is_away = false;
    fail(s, r < 0 ? FAIL_FAULT : FAIL_READERS_BUSY, r);
    serial_unref(s);
}

/* Nothing is left to be sent. */
static void go_on(struct serial *s)
{
    if (s->failure != FAIL_NOT) {
        fail(s, s->failure, s->r);
    } else if (s->state == SERIAL_LAST) {
        s->is_over = true;
        front_finish_ok(s->call);
    } else if (s->state == SERIAL_MORE || s->is_woken) {
        begin_piece(s);
    }
}

static bool is_allowed(struct serial *s)
{
    enum front_failure failure = front_recheck(s->unary.front, s->unary.method, &s->unary.caller);

    s->must_check = false;
    if (failure == FAIL_NOT)
        return true;
    front_log_refused(s->call, &s->unary.caller, failure);
    s->unary.detail = (struct front_detail){ 0 };
    fail(s, failure, 0);
    return false;
}

/* What does not fit into the queue waits for on_writable. */
static void flush(struct serial *s)
{
    int r;

    if (s->is_over || s->is_closed || s->is_away || !s->has_request)
        return;
    if ((s->first || s->must_check) && !is_allowed(s))
        return;
    while (s->first) {
        r = rpc_call_send(s->call, buf_span(&s->first->packed));
        if (r < 0)
            fail(s, FAIL_FAULT, r);
        if (r != RPC_DONE)
            return;
        drop_message(s);
    }
    go_on(s);
}

/* Not with the last reference: that may be a wake's, on a thread that closing waits for. */
static void close_work(struct serial *s)
{
    s->kind->close(s->work);
    s->work = NULL;
}

static void on_back(struct rpc_post *post)
{
    struct serial *s = container_of(post, struct serial, back_post);

    ensure(s->is_away);
    s->is_away = false;
    if (s->is_closed)
        close_work(s);
    flush(s);
    serial_unref(s);
}

static void on_woken(struct rpc_post *post)
{
    struct serial *s = container_of(post, struct serial, wake_post);

    s->is_woken = true;
    if (!s->is_away && !s->first && s->state == SERIAL_WAIT)
        flush(s);
    serial_unref(s);
}

static void on_check(struct rpc_post *post)
{
    struct serial *s = container_of(post, struct serial, check_post);
    struct front *front = s->unary.front;

    pthread_mutex_lock(&front->serials.lock);
    s->is_check_posted = false;
    pthread_mutex_unlock(&front->serials.lock);
    s->must_check = true;
    if (!s->is_closed && !s->is_over && !s->is_away) /* else when the piece is back */
        (void) is_allowed(s);
    serial_unref(s);
}

void serial_recheck_all(struct front *front)
{
    pthread_mutex_lock(&front->serials.lock);
    list_each(pos, &front->serials.calls)
    {
        struct serial *s = container_of(pos, struct serial, in_serials);

        if (s->is_check_posted)
            continue;
        s->is_check_posted = true;
        (void) serial_ref(s);
        rpc_call_post(s->call, &s->check_post);
    }
    pthread_mutex_unlock(&front->serials.lock);
}

/* ---- the call ---- */

void serial_on_open(struct rpc_call *call, const struct serial_kind *kind)
{
    struct front_caller caller;
    struct serial *s;

    if (!front_authorise(call, &caller))
        return;
    s = calloc(1, sizeof(*s));
    if (!s) {
        front_fail(call, FAIL_FAULT, NULL, fault(-ENOMEM, "no memory for a call"));
        return;
    }
    s->unary.front = rpc_call_ctx(call);
    s->unary.method = front_call_method(call);
    s->unary.caller = caller;
    s->unary.peer = rpc_call_peer(call);
    s->kind = kind;
    s->call = rpc_call_ref(call);
    s->last = &s->first;
    s->task.run = run;
    s->back_post.fn = on_back;
    s->wake_post.fn = on_woken;
    s->check_post.fn = on_check;
    atomic_init(&s->n_refs, 1);
    rpc_call_set_state(call, s);
    pthread_mutex_lock(&s->unary.front->serials.lock);
    list_append(&s->unary.front->serials.calls, &s->in_serials);
    pthread_mutex_unlock(&s->unary.front->serials.lock);
    rpc_call_read(call);
}

void serial_on_message(struct rpc_call *call, struct span message)
{
    struct serial *s = rpc_call_state(call);
    struct unary *unary = &s->unary;
    enum front_failure failure;
    int r = 0;

    ensure(!s->has_request);
    failure = unary_decode(unary, message, &s->request_arena, &s->charged_bytes, &r);
    if (failure != FAIL_NOT) {
        fail(s, failure, r);
        return;
    }
    s->has_request = true;
    unary->now = clock_wall();
    arena_init(&unary->arena, FRONT_ANSWER_BYTES);
    begin_piece(s);
}

void serial_on_half_close(struct rpc_call *call)
{
    struct serial *s = rpc_call_state(call);

    if (s && !s->has_request)
        fail(s, FAIL_NO_REQUEST, 0);
}

void serial_on_writable(struct rpc_call *call)
{
    flush(rpc_call_state(call));
}

void serial_on_drain(struct rpc_call *call)
{
    struct serial *s = rpc_call_state(call);

    if (!s || !s->kind->is_endless)
        return;
    s->unary.detail = (struct front_detail){ 0 };
    fail(s, FAIL_STOPPING, 0);
}

void serial_on_closed(struct rpc_call *call, bool was_cancelled)
{
    struct serial *s = rpc_call_state(call);

    (void) was_cancelled;
    if (!s)
        return;
    pthread_mutex_lock(&s->unary.front->serials.lock);
    list_remove(&s->in_serials);
    pthread_mutex_unlock(&s->unary.front->serials.lock);
    atomic_store(&s->is_cancelled, true);
    s->is_closed = true;
    if (!s->is_away)
        close_work(s);
    serial_unref(s);
}
