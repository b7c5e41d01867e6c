/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One call. Core allows one outstanding operation of each kind, and each comes back exactly once:
 *
 *     request  -> close, read, write posted
 *     close    the call is over for the peer; then on_closed
 *     read     one message, asked for by rpc_call_read()
 *     write    one message and at the end the status; the first carries the initial metadata
 *
 * Core's call is given back when it is closed and nothing is outstanding.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <grpc/support/alloc.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/rpc/server/private.h"

#define DETAILS_KEY "grpc-status-details-bin"

struct rpc_call {
    atomic_uint refs; /* one is the library's until everything came back */
    struct worker *worker;
    const struct rpc_handler *handler;
    const void *method;
    void *state;
    grpc_call *core;
    struct list node;           /* worker->thread.calls */
    struct rpc_call *unflushed; /* next in worker->thread.unflushed */
    struct tag close_tag, read_tag, write_tag;
    unsigned n_outstanding;
    int is_cancelled; /* core's */
    grpc_byte_buffer *incoming;
    struct rpc_outbox outbox;
    struct {
        grpc_status_code code;
        grpc_slice message, details;
    } status;
    mono_us deadline;
    char *head; /* path, NUL, then for each header: key, NUL, length, value */
    size_t head_len;
    char *peer;
    uint8_t *certificate;
    size_t certificate_len;
    bool is_unflushed : 1;
    bool is_reading : 1;
    bool is_read_over : 1; /* half-closed, or broken */
    bool is_finished : 1;  /* rpc_call_finish() was called */
    bool is_status_sent : 1;
    bool is_started : 1; /* initial metadata went out */
    bool is_broken : 1;  /* a write failed: nothing goes out any more */
    bool is_closed : 1;
    bool is_writing_message : 1;
    bool knows_certificate : 1;
};

/* A place for a call to arrive in. */
struct slot {
    struct tag tag;
    struct worker *worker;
    grpc_call *core;
    grpc_call_details details;
    grpc_metadata_array headers;
};

static void call_nothing(struct rpc_call *call)
{
    (void) call;
}

static void message_nothing(struct rpc_call *call, struct span message)
{
    (void) call;
    (void) message;
}

static void closed_nothing(struct rpc_call *call, bool was_cancelled)
{
    (void) call;
    (void) was_cancelled;
}

/* For calls that are answered here. */
static const struct rpc_handler nobody = {
    .on_open = call_nothing,
    .on_message = message_nothing,
    .on_closed = closed_nothing,
};

/* ---- life ---- */

struct rpc_call *rpc_call_ref(struct rpc_call *call)
{
    atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
    return call;
}

struct rpc_call *rpc_call_unref(struct rpc_call *call)
{
    if (!call || atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1)
        return call;
    ensure(!call->core && !call->is_unflushed);
    rpc_outbox_deinit(&call->outbox);
    grpc_slice_unref(call->status.message);
    grpc_slice_unref(call->status.details);
    free(call->head);
    free(call->peer);
    free(call->certificate);
    (void) worker_unref(call->worker);
    free(call);
    return NULL;
}

/* Last step of each event: gives core's call back when nothing is left. */
static void settle(struct rpc_call *call)
{
    struct worker *worker = call->worker;

    if (!call->is_closed || call->n_outstanding)
        return;
    grpc_call_unref(take(call->core));
    list_remove(&call->node);
    worker_check_end(worker);
    (void) rpc_call_unref(call);
}

static void start(struct rpc_call *call, const grpc_op *ops, size_t n_ops, struct tag *tag)
{
    ensure(grpc_call_start_batch(call->core, ops, n_ops, tag, NULL) == GRPC_CALL_OK);
    call->n_outstanding++;
}

/* ---- write ---- */

static void mark_unflushed(struct rpc_call *call)
{
    if (call->is_unflushed)
        return;
    call->is_unflushed = true;
    call->unflushed = call->worker->thread.unflushed;
    call->worker->thread.unflushed = rpc_call_ref(call);
}

static grpc_op status_op(struct rpc_call *call, grpc_metadata *trailer)
{
    size_t n_trailers = 0;

    if (GRPC_SLICE_LENGTH(call->status.details)) {
        *trailer = (grpc_metadata){
            .key = grpc_slice_from_static_string(DETAILS_KEY),
            .value = call->status.details,
        };
        n_trailers = 1;
    }
    call->is_status_sent = true;
    return (grpc_op){
        .op = GRPC_OP_SEND_STATUS_FROM_SERVER,
        .data.send_status_from_server = {
            .trailing_metadata_count = n_trailers,
            .trailing_metadata = trailer,
            .status = call->status.code,
            .status_details = &call->status.message,
        },
    };
}

static void write_next(struct rpc_call *call)
{
    grpc_byte_buffer *carrier = call->worker->thread.outgoing;
    grpc_metadata trailer;
    grpc_op ops[3];
    size_t n_ops = 0;

    if (call->is_closed || call->is_broken || call->is_status_sent || call->outbox.is_writing)
        return;
    if (!call->outbox.n_waiting && !call->is_finished)
        return;
    if (!call->is_started)
        ops[n_ops++] = (grpc_op){ .op = GRPC_OP_SEND_INITIAL_METADATA };
    call->is_writing_message = call->outbox.n_waiting > 0;
    if (call->outbox.n_waiting) {
        grpc_slice_buffer_add(&carrier->data.raw.slice_buffer, rpc_outbox_begin(&call->outbox));
        ops[n_ops++] = (grpc_op){
            .op = GRPC_OP_SEND_MESSAGE,
            /*
             * With the hint core waits for more before it writes, so only when there is more. It
             * would also hold back the metadata, and this batch with it, for ever.
             */
            .flags = call->outbox.n_waiting && call->is_started ? GRPC_WRITE_BUFFER_HINT : 0,
            .data.send_message.send_message = carrier,
        };
    }
    call->is_started = true;
    if (!call->outbox.n_waiting && call->is_finished)
        ops[n_ops++] = status_op(call, &trailer);
    start(call, ops, n_ops, &call->write_tag);
    /* Core moved the slices out; what it left would go with the next message. */
    grpc_slice_buffer_reset_and_unref(&carrier->data.raw.slice_buffer);
}

void call_flush(struct rpc_call *call)
{
    ensure(call->is_unflushed && call == call->worker->thread.unflushed);
    call->worker->thread.unflushed = take(call->unflushed);
    call->is_unflushed = false;
    write_next(call);
    (void) rpc_call_unref(call);
}

static bool is_open(const struct rpc_call *call)
{
    return !call->is_closed && !call->is_finished && !call->is_broken;
}

static void on_write(struct tag *tag, bool ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, write_tag);
    bool has_room = false;

    call->n_outstanding--;
    if (call->is_writing_message) {
        if (ok) {
            worker_count(call->worker, MESSAGES_SENT, 1);
            worker_count(call->worker, BYTES_SENT, call->outbox.written_bytes);
        }
        has_room = rpc_outbox_end(&call->outbox);
    }
    if (!ok) {
        call->is_broken = true;
        rpc_outbox_clear(&call->outbox);
    }
    if (has_room && is_open(call) && call->handler->on_writable)
        call->handler->on_writable(call);
    if (call->outbox.n_waiting || call->is_finished)
        mark_unflushed(call);
    settle(call);
}

/* ---- read ---- */

static void on_read(struct tag *tag, bool ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, read_tag);
    grpc_byte_buffer *buffer = take(call->incoming);

    call->n_outstanding--;
    call->is_reading = false;
    if (buffer) {
        grpc_slice joined;
        struct span message = rpc_message_open(buffer, &joined);

        worker_count(call->worker, MESSAGES_RECEIVED, 1);
        worker_count(call->worker, BYTES_RECEIVED, message.len);
        if (is_open(call))
            call->handler->on_message(call, message);
        rpc_message_close(buffer, &joined);
    } else {
        call->is_read_over = true;
        /* A cancelled call ends its messages too, and that must not look like the peer's own end.
         */
        if (ok && is_open(call) && call->handler->on_half_close &&
            !grpc_call_failed_before_recv_message(call->core))
            call->handler->on_half_close(call);
    }
    settle(call);
}

void rpc_call_read(struct rpc_call *call)
{
    grpc_op op = {
        .op = GRPC_OP_RECV_MESSAGE,
        .data.recv_message.recv_message = &call->incoming,
    };

    if (!is_open(call) || call->is_reading || call->is_read_over)
        return;
    ensure(worker_is_mine(call->worker));
    call->is_reading = true;
    start(call, &op, 1, &call->read_tag);
}

/* ---- open and close ---- */

static void on_close(struct tag *tag, bool ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, close_tag);

    (void) ok;
    call->n_outstanding--;
    call->is_closed = true;
    rpc_outbox_clear(&call->outbox);
    worker_count(call->worker, CALLS_CLOSED, 1);
    call->handler->on_closed(call, call->is_cancelled != 0);
    settle(call);
}

/* The headers in one block: core's array costs several hundred bytes and dies with core's call. */
static int copy_head(struct rpc_call *call, const struct slot *slot)
{
    struct span path = rpc_slice_span(&slot->details.method);
    size_t len = path.len + 1;
    char *at;

    for (size_t i = 0; i < slot->headers.count; i++)
        len += GRPC_SLICE_LENGTH(slot->headers.metadata[i].key) + 1 + sizeof(uint32_t) +
               GRPC_SLICE_LENGTH(slot->headers.metadata[i].value);
    at = call->head = malloc(len);
    if (!at)
        return fault(-ENOMEM, "no memory for a call's headers");
    call->head_len = len;
    memcpy(at, path.data, path.len);
    at += path.len;
    *at++ = '\0';
    for (size_t i = 0; i < slot->headers.count; i++) {
        struct span key = rpc_slice_span(&slot->headers.metadata[i].key);
        struct span value = rpc_slice_span(&slot->headers.metadata[i].value);
        uint32_t value_len = (uint32_t) value.len;

        memcpy(at, key.data, key.len);
        at += key.len;
        *at++ = '\0';
        memcpy(at, &value_len, sizeof(value_len));
        at += sizeof(value_len);
        memcpy(at, value.data, value.len);
        at += value.len;
    }
    return 0;
}

static struct rpc_call *call_new(const struct slot *slot)
{
    struct rpc_call *call = calloc(1, sizeof(*call));

    if (!call)
        return NULL;
    if (copy_head(call, slot) < 0) {
        free(call);
        return NULL;
    }
    atomic_init(&call->refs, 1);
    call->worker = worker_ref(slot->worker);
    call->handler = &nobody;
    call->core = slot->core;
    call->deadline = rpc_mono_of_timespec(slot->details.deadline);
    call->outbox.limit_bytes = slot->worker->thread.server->options.send_queue_bytes;
    call->status.message = call->status.details = grpc_empty_slice();
    call->close_tag.fn = on_close;
    call->read_tag.fn = on_read;
    call->write_tag.fn = on_write;
    return call;
}

static void refuse(struct rpc_call *call, int code, const char *what)
{
    char message[256];

    snprintf(message, sizeof(message), "%s: %s", what, call->head);
    rpc_call_finish(call, &(struct rpc_status){ .code = code, .message = message });
}

static void open_call(struct rpc_call *call)
{
    struct rpc_server *server = call->worker->thread.server;
    const struct rpc_handler *handler = NULL;
    grpc_op op = {
        .op = GRPC_OP_RECV_CLOSE_ON_SERVER,
        .data.recv_close_on_server.cancelled = &call->is_cancelled,
    };

    list_append(&call->worker->thread.calls, &call->node);
    worker_count(call->worker, CALLS_OPENED, 1);
    start(call, &op, 1, &call->close_tag);
    if (atomic_load_explicit(&server->shared.is_stopping, memory_order_acquire)) {
        refuse(call, RPC_UNAVAILABLE, "the server is stopping");
        return;
    }
    handler = server->options.route(server->options.ctx, call->head, &call->method);
    if (!handler) {
        refuse(call, RPC_UNIMPLEMENTED, "unknown method");
        return;
    }
    call->handler = handler;
    handler->on_open(call);
}

static void slot_free(struct slot *slot)
{
    grpc_call_details_destroy(&slot->details);
    grpc_metadata_array_destroy(&slot->headers);
    free(slot);
}

static void slot_arm(struct slot *slot)
{
    grpc_completion_queue *queue = slot->worker->queue;

    ensure(grpc_server_request_call(slot->worker->thread.server->core, &slot->core, &slot->details,
                                    &slot->headers, queue, queue, &slot->tag) == GRPC_CALL_OK);
}

static void on_request(struct tag *tag, bool ok)
{
    struct slot *slot = container_of(tag, struct slot, tag);
    struct rpc_call *call;

    if (!ok) { /* the server is shutting down */
        struct worker *worker = slot->worker;

        slot_free(slot);
        worker->thread.n_slots--;
        worker_check_end(worker);
        return;
    }
    call = call_new(slot);
    if (!call)
        grpc_call_unref(slot->core); /* cancels */
    slot->core = NULL;
    slot->headers.count = 0; /* the elements were the call's */
    grpc_call_details_destroy(&slot->details);
    grpc_call_details_init(&slot->details);
    slot_arm(slot);
    if (call)
        open_call(call);
}

int call_arm(struct worker *worker, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct slot *slot = calloc(1, sizeof(*slot));

        if (!slot)
            return fault(-ENOMEM, "no memory for a call slot");
        slot->tag.fn = on_request;
        slot->worker = worker;
        grpc_call_details_init(&slot->details);
        grpc_metadata_array_init(&slot->headers);
        worker->thread.n_slots++;
        slot_arm(slot);
    }
    return 0;
}

void call_drain_all(struct worker *worker)
{
    /* Calls leave the list only between events, never in a handler. */
    for (struct list *node = worker->thread.calls.next; node != &worker->thread.calls;
         node = node->next) {
        struct rpc_call *call = container_of(node, struct rpc_call, node);

        if (is_open(call) && call->handler->on_drain)
            call->handler->on_drain(call);
    }
}

/* ---- what handlers ask and do ---- */

int rpc_call_send(struct rpc_call *call, struct span message)
{
    int r;

    if (!is_open(call))
        return RPC_CLOSED;
    ensure(worker_is_mine(call->worker));
    r = rpc_outbox_push(&call->outbox, message);
    if (r)
        return r < 0 ? pass(r) : RPC_QUEUE_FULL;
    mark_unflushed(call);
    return 0;
}

size_t rpc_call_queued(const struct rpc_call *call)
{
    return call->outbox.n_bytes;
}

void rpc_call_discard(struct rpc_call *call)
{
    if (!is_open(call))
        return;
    ensure(worker_is_mine(call->worker));
    rpc_outbox_clear(&call->outbox);
}

void rpc_call_finish(struct rpc_call *call, const struct rpc_status *status)
{
    if (!is_open(call))
        return;
    ensure(worker_is_mine(call->worker));
    call->is_finished = true;
    call->status.code = (grpc_status_code) status->code;
    if (status->message)
        call->status.message = grpc_slice_from_copied_string(status->message);
    if (status->details.len)
        call->status.details = rpc_slice_of(status->details);
    mark_unflushed(call);
}

void rpc_call_post(struct rpc_call *call, struct rpc_post *post)
{
    worker_post(call->worker, post);
}

void *rpc_call_ctx(const struct rpc_call *call)
{
    return call->worker->ctx;
}

const void *rpc_call_method(const struct rpc_call *call)
{
    return call->method;
}

const char *rpc_call_path(const struct rpc_call *call)
{
    return call->head;
}

void rpc_call_set_state(struct rpc_call *call, void *state)
{
    call->state = state;
}

void *rpc_call_state(const struct rpc_call *call)
{
    return call->state;
}

mono_us rpc_call_deadline(const struct rpc_call *call)
{
    return call->deadline;
}

bool rpc_call_is_open(const struct rpc_call *call)
{
    return is_open(call);
}

unsigned rpc_call_worker(const struct rpc_call *call)
{
    return call->worker->index;
}

struct span rpc_call_header(const struct rpc_call *call, const char *key)
{
    const char *at = call->head + strlen(call->head) + 1;
    const char *end = call->head + call->head_len;

    while (at < end) {
        size_t key_len = strlen(at);
        bool is_it = strcmp(at, key) == 0;
        uint32_t value_len;

        at += key_len + 1;
        memcpy(&value_len, at, sizeof(value_len));
        at += sizeof(value_len);
        if (is_it)
            return span_of(at, value_len);
        at += value_len;
    }
    return (struct span){ NULL, 0 };
}

/* Asked for once and kept: what a getter says stays as long as the call. */
static struct rpc_call *unconst(const struct rpc_call *call)
{
    return (struct rpc_call *) (uintptr_t) call;
}

const char *rpc_call_peer(const struct rpc_call *call)
{
    if (!call->peer && call->core) {
        char *uri = grpc_call_get_peer(call->core);

        unconst(call)->peer = rpc_peer_text(uri);
        gpr_free(uri);
    }
    return call->peer ? call->peer : "";
}

static void learn_certificate(struct rpc_call *call)
{
    grpc_auth_context *context = grpc_call_auth_context(call->core);
    grpc_auth_property_iterator it;
    const grpc_auth_property *pem;

    call->knows_certificate = true;
    if (!context)
        return;
    it = grpc_auth_context_find_properties_by_name(context, GRPC_X509_PEM_CERT_PROPERTY_NAME);
    pem = grpc_auth_property_iterator_next(&it);
    if (pem) {
        int r = rpc_pem_to_der(span_of(pem->value, pem->value_length), &call->certificate,
                               &call->certificate_len);

        ensure(r <= 0); /* core printed it */
    }
    grpc_auth_context_release(context);
}

struct span rpc_call_peer_certificate(const struct rpc_call *call)
{
    if (!call->knows_certificate && call->core)
        learn_certificate(unconst(call));
    return span_of(call->certificate, call->certificate_len);
}
