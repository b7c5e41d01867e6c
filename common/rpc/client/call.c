/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One call. Tags: `start` brings the server's initial metadata, `status` the end, `read` and
 * `write` one message each. The status is handed on when no read is outstanding: core's threads may
 * overtake each other, and the last message comes before the end.
 */

#include <errno.h>
#include <stdlib.h>

#include <grpc/compression.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/rpc/client/private.h"

#define MAX_METADATA 8u /* headers of ours that go with a call */
/* One packet either way: not worth the quarter MiB of tables that a compressor sets up. */
#define COMPRESS_FROM_BYTES 1024u
#define PACKED_PLACES 64u /* bits of `packed` */
#define DETAILS_KEY "grpc-status-details-bin"

struct rpc_client_call {
    unsigned refs; /* the owner's, and one for each tag that core has */
    struct rpc_queue *queue;
    grpc_call *core;
    const struct rpc_client_handler *handler;
    void *ctx;
    struct client_tag start_tag, status_tag, read_tag, write_tag;
    grpc_metadata_array headers, trailers;
    grpc_status_code code;
    grpc_slice message;
    grpc_byte_buffer *incoming;
    grpc_byte_buffer *outgoing; /* carries one message at a time into core */
    struct rpc_outbox outbox;
    /* Bit n: what is the n-th to go of the outbox is packed. Of those behind core finds out. */
    uint64_t packed;
    char *peer;
    bool is_owned : 1; /* rpc_client_call_unref() has not been called: callbacks are wanted */
    bool is_held : 1;  /* what is queued waits for more */
    bool is_connected : 1;
    bool is_reading : 1;
    bool is_read_over : 1;
    bool wants_half_close : 1;
    bool is_half_closed : 1; /* sent */
    bool is_broken : 1;
    bool has_status : 1;
    bool is_closed : 1; /* on_closed was called */
    bool is_writing_message : 1;
};

/* ---- life ---- */

static void release(struct rpc_client_call *call)
{
    if (--call->refs)
        return;
    grpc_call_unref(call->core);
    grpc_metadata_array_destroy(&call->headers);
    grpc_metadata_array_destroy(&call->trailers);
    grpc_slice_unref(call->message);
    grpc_byte_buffer_destroy(call->outgoing);
    rpc_outbox_deinit(&call->outbox);
    free(call->peer);
    free(call);
}

static void
start(struct rpc_client_call *call, const grpc_op *ops, size_t n_ops, struct client_tag *tag)
{
    call->refs++;
    client_start(call->core, ops, n_ops, tag);
}

static bool is_open(const struct rpc_client_call *call)
{
    return call->is_owned && !call->is_closed;
}

/* ---- end ---- */

static struct span find_details(const struct rpc_client_call *call)
{
    for (size_t i = 0; i < call->trailers.count; i++)
        if (grpc_slice_str_cmp(call->trailers.metadata[i].key, DETAILS_KEY) == 0)
            return rpc_slice_span(&call->trailers.metadata[i].value);
    return (struct span){ NULL, 0 };
}

static void close_when_done(struct rpc_client_call *call)
{
    struct rpc_status status;
    char *message;

    if (!call->has_status || call->is_reading || !is_open(call))
        return;
    call->is_closed = true;
    rpc_outbox_clear(&call->outbox);
    message = grpc_slice_to_c_string(call->message);
    status = (struct rpc_status){
        .code = (int) call->code,
        .message = message,
        .details = find_details(call),
    };
    call->handler->on_closed(call, &status);
    gpr_free(message);
}

static void on_status(struct client_tag *tag, bool ok)
{
    struct rpc_client_call *call = container_of(tag, struct rpc_client_call, status_tag);

    (void) ok; /* a status always comes */
    call->has_status = true;
    close_when_done(call);
    release(call);
}

static void on_start(struct client_tag *tag, bool ok)
{
    struct rpc_client_call *call = container_of(tag, struct rpc_client_call, start_tag);

    call->is_connected = ok;
    release(call);
}

/* ---- write ---- */

static uint32_t
write_flags(const struct rpc_client_call *call, size_t message_bytes, bool is_packed)
{
    /* With the hint core waits for more before it writes, so only when there is more. */
    return (call->outbox.n_waiting ? GRPC_WRITE_BUFFER_HINT : 0) |
           (is_packed || message_bytes < COMPRESS_FROM_BYTES ? GRPC_WRITE_NO_COMPRESS : 0);
}

static void write_next(struct rpc_client_call *call)
{
    grpc_op ops[2];
    size_t n_ops = 0;

    if (!is_open(call) || call->is_broken || call->has_status || call->is_half_closed ||
        call->outbox.is_writing || call->is_held)
        return;
    call->is_writing_message = call->outbox.n_waiting > 0;
    if (call->outbox.n_waiting) {
        const grpc_slice message = rpc_outbox_begin(&call->outbox);
        const size_t n_bytes = GRPC_SLICE_LENGTH(message);

        grpc_slice_buffer_add(&call->outgoing->data.raw.slice_buffer, message);
        ops[n_ops++] = (grpc_op){
            .op = GRPC_OP_SEND_MESSAGE,
            .flags = write_flags(call, n_bytes, call->packed & 1),
            .data.send_message.send_message = call->outgoing,
        };
        call->packed >>= 1;
    }
    if (!call->outbox.n_waiting && call->wants_half_close) {
        call->is_half_closed = true;
        ops[n_ops++] = (grpc_op){ .op = GRPC_OP_SEND_CLOSE_FROM_CLIENT };
    }
    if (!n_ops)
        return;
    start(call, ops, n_ops, &call->write_tag);
    grpc_slice_buffer_reset_and_unref(&call->outgoing->data.raw.slice_buffer);
}

static void on_write(struct client_tag *tag, bool ok)
{
    struct rpc_client_call *call = container_of(tag, struct rpc_client_call, write_tag);
    bool has_room = call->is_writing_message && rpc_outbox_end(&call->outbox);

    if (!ok) {
        call->is_broken = true; /* the status says why */
        rpc_outbox_clear(&call->outbox);
    }
    write_next(call);
    if (has_room && ok && is_open(call) && !call->wants_half_close && call->handler->on_writable)
        call->handler->on_writable(call);
    release(call);
}

static int queue_message(struct rpc_client_call *call, struct span message, bool is_packed)
{
    const uint32_t place = call->outbox.n_waiting;
    int r;

    if (!is_open(call) || call->is_broken || call->has_status || call->wants_half_close)
        return RPC_CLOSED;
    ensure(loop_is_mine(call->queue->loop.loop));
    r = rpc_outbox_push(&call->outbox, message);
    if (r)
        return r < 0 ? pass(r) : RPC_QUEUE_FULL;
    if (is_packed && place < PACKED_PLACES)
        call->packed |= UINT64_C(1) << place;
    write_next(call);
    return 0;
}

int rpc_client_call_send(struct rpc_client_call *call, struct span message)
{
    int r = queue_message(call, message, false);

    return r < 0 ? pass(r) : r;
}

int rpc_client_call_send_packed(struct rpc_client_call *call, struct span message)
{
    int r = queue_message(call, message, true);

    return r < 0 ? pass(r) : r;
}

void rpc_client_call_hold(struct rpc_client_call *call)
{
    call->is_held = true;
}

void rpc_client_call_let_go(struct rpc_client_call *call)
{
    call->is_held = false;
    write_next(call);
}

size_t rpc_client_call_queued(const struct rpc_client_call *call)
{
    return call->outbox.n_bytes;
}

void rpc_client_call_half_close(struct rpc_client_call *call)
{
    call->wants_half_close = true;
    call->is_held = false;
    write_next(call);
}

/* ---- read ---- */

static void on_read(struct client_tag *tag, bool ok)
{
    struct rpc_client_call *call = container_of(tag, struct rpc_client_call, read_tag);
    grpc_byte_buffer *buffer = take(call->incoming);

    (void) ok;
    call->is_reading = false;
    if (buffer) {
        grpc_slice joined;
        struct span message = rpc_message_open(buffer, &joined);

        if (is_open(call))
            call->handler->on_message(call, message);
        rpc_message_close(buffer, &joined);
    } else {
        call->is_read_over = true;
    }
    close_when_done(call);
    release(call);
}

void rpc_client_call_read(struct rpc_client_call *call)
{
    grpc_op op = {
        .op = GRPC_OP_RECV_MESSAGE,
        .data.recv_message.recv_message = &call->incoming,
    };

    if (!is_open(call) || call->is_reading || call->is_read_over)
        return;
    ensure(loop_is_mine(call->queue->loop.loop));
    call->is_reading = true;
    start(call, &op, 1, &call->read_tag);
}

/* ---- open ---- */

/* The channel's, and how we send: each message is compressed by core, unless it grows by it. */
static size_t fill_metadata(const struct rpc_channel *channel,
                            bool is_compressed,
                            grpc_metadata to[static MAX_METADATA])
{
    size_t n = 0;

    ensure(channel->n_metadata < MAX_METADATA);
    for (; n < channel->n_metadata; n++)
        to[n] = channel->metadata[n];
    if (is_compressed)
        to[n++] = (grpc_metadata){
            .key = grpc_slice_from_static_string(GRPC_COMPRESSION_REQUEST_ALGORITHM_MD_KEY),
            .value = grpc_slice_from_static_string("gzip"),
        };
    return n;
}

static void start_core(struct rpc_client_call *call,
                       const struct rpc_channel *channel,
                       const struct rpc_client_call_options *options)
{
    bool wait_for_ready = options->wait_for_ready;
    grpc_metadata metadata[MAX_METADATA];
    grpc_op first[2] = {
        {
            .op = GRPC_OP_SEND_INITIAL_METADATA,
            .flags = wait_for_ready ? GRPC_INITIAL_METADATA_WAIT_FOR_READY |
                                          GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET
                                    : 0,
            .data.send_initial_metadata = {
                .count = fill_metadata(channel, options->is_compressed, metadata),
                .metadata = metadata,
            },
        },
        {
            .op = GRPC_OP_RECV_INITIAL_METADATA,
            .data.recv_initial_metadata.recv_initial_metadata = &call->headers,
        },
    };
    grpc_op last = {
        .op = GRPC_OP_RECV_STATUS_ON_CLIENT,
        .data.recv_status_on_client = {
            .trailing_metadata = &call->trailers,
            .status = &call->code,
            .status_details = &call->message,
        },
    };

    start(call, &last, 1, &call->status_tag);
    start(call, first, 2, &call->start_tag);
}

int rpc_client_call_new(struct rpc_client_call **ret,
                        struct rpc_channel *channel,
                        const struct rpc_client_call_options *options)
{
    struct rpc_client_call *call = calloc(1, sizeof(*call));
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    grpc_slice path;

    ensure(!channel->only_path || strcmp(channel->only_path, options->path) == 0);
    if (!call)
        return fault(-ENOMEM, "no memory for a call");
    if (options->timeout_us > 0)
        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                gpr_time_from_micros(options->timeout_us, GPR_TIMESPAN));
    path = grpc_slice_from_copied_string(options->path);
    call->refs = 1;
    call->is_owned = true;
    call->queue = channel->queue;
    call->handler = options->handler;
    call->ctx = options->ctx;
    call->message = grpc_empty_slice();
    call->outgoing = grpc_raw_byte_buffer_create(NULL, 0);
    call->outbox.limit_bytes = channel->send_queue_bytes;
    grpc_metadata_array_init(&call->headers);
    grpc_metadata_array_init(&call->trailers);
    client_tag_init(&call->start_tag, call->queue, on_start);
    client_tag_init(&call->status_tag, call->queue, on_status);
    client_tag_init(&call->read_tag, call->queue, on_read);
    client_tag_init(&call->write_tag, call->queue, on_write);
    call->core = grpc_channel_create_call(channel->core, NULL, GRPC_PROPAGATE_DEFAULTS,
                                          channel->queue->core, path, NULL, deadline, NULL);
    grpc_slice_unref(path);
    start_core(call, channel, options);
    *ret = call;
    return 0;
}

void *rpc_client_call_ctx(const struct rpc_client_call *call)
{
    return call->ctx;
}

const char *rpc_client_call_peer(const struct rpc_client_call *call)
{
    if (!call->peer && call->is_connected) {
        char *uri = grpc_call_get_peer(call->core);

        ((struct rpc_client_call *) (uintptr_t) call)->peer = rpc_peer_text(uri);
        gpr_free(uri);
    }
    return call->peer ? call->peer : "";
}

void rpc_client_call_cancel(struct rpc_client_call *call)
{
    if (!call->has_status)
        grpc_call_cancel(call->core, NULL);
}

struct rpc_client_call *rpc_client_call_unref(struct rpc_client_call *call)
{
    if (!call)
        return NULL;
    ensure(call->is_owned);
    call->is_owned = false;
    rpc_client_call_cancel(call);
    release(call);
    return NULL;
}
