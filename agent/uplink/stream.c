/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "agent/uplink/link.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"

/* Also when the hub names no limit, or a wider one. */
#define WINDOW_BATCHES 64u /* bits of blocks_sent */
#define ERROR_ARENA_BYTES (64u << 10)

void stream_give_up(struct stream *stream, const char *reason)
{
    stream->local_reason = reason;
    rpc_client_call_cancel(stream->call);
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct stream *stream = rpc_client_call_ctx(call);
    struct wire_error error;
    struct arena arena;

    arena_init(&arena, ERROR_ARENA_BYTES);
    connection_error(status, &arena, &error);
    if (stream->local_reason) {
        error.code = RPC_CANCELLED;
        error.reason = stream->local_reason;
        error.message = "the agent ended the stream";
    }
    loop_timer_disarm(stream->uplink->options.loop, &stream->welcome);
    loop_timer_disarm(stream->uplink->options.loop, &stream->throttle);
    stream->is_over = true;
    link_on_ended(stream, &error);
    arena_deinit(&arena);
}

static void on_welcome_timeout(struct loop_timer *timer)
{
    stream_give_up(timer->ctx, "HELLO_UNANSWERED");
}

/* ---- sending ---- */

static bool has_room(const struct stream *stream)
{
    /* A skip counts as all its numbers: it travels alone, once for each segment. */
    return stream->cursor - stream->acknowledged < stream->window;
}

/* Where the clocks do not agree it is for the hub to refuse, one by one: a hub whose clock is years
 * ahead must not have all of it thrown away at once. */
static bool is_too_old(void *ctx, const struct spool_item *item)
{
    const struct stream *stream = ctx;
    const struct uplink_clock *clock = &stream->uplink->clock;

    return stream->oldest_us > 0 && uplink_clocks_agree(clock, clock_wall()) &&
           encoder_newest_us(stream->signal, item, clock) <
               uplink_hub_now(clock) - stream->oldest_us;
}

/* Whole batches that the hub would refuse one by one: skips take their place. Outcomes:
 * SPOOL_EMPTY (what is on its way is waited for first). */
static int drop_old(struct stream *stream)
{
    struct spool_dropped dropped;
    int r;

    if (stream->cursor > stream->acknowledged)
        return SPOOL_EMPTY;
    stream->has_old = false;
    r = spool_drop_old(stream->reader, is_too_old, stream, &dropped);
    if (r || dropped.batches == 0)
        return pass(r);
    log_event(LOG_WARN, "batches_too_old", LOG_S("signal", spool_signal_name(stream->signal)),
              LOG_U("batches", dropped.batches), LOG_U("records", dropped.records),
              LOG_I("hub_takes_s", stream->oldest_us / 1000000),
              LOG_S("remedy", "the hub keeps nothing that old: its retention"));
    return 0;
}

/* The next item that the hub would take. Outcomes: SPOOL_EMPTY. */
static int read_next(struct stream *stream)
{
    for (;;) {
        int r = stream->has_old ? drop_old(stream) : 0;

        if (r == 0)
            r = spool_read(stream->reader, &stream->item);
        if (r)
            return r < 0 ? pass(r) : SPOOL_EMPTY;
        if (stream->item.is_skip || !is_too_old(stream, &stream->item))
            return 0;
        stream->has_old = true;
    }
}

static uint64_t bit_of(uint64_t sequence)
{
    return UINT64_C(1) << sequence % WINDOW_BATCHES;
}

static bool may_be_block(const struct stream *stream)
{
    return stream->takes_blocks && !stream->is_block_refused &&
           stream->uplink->n_refused_blocks < LINK_REFUSED_BLOCKS;
}

/* False: it goes as records. */
static bool encode_block(struct stream *stream)
{
    struct uplink *uplink = stream->uplink;
    int r;

    if (!may_be_block(stream))
        return false;
    r = encoder_put_block(&uplink->blocks, &stream->item, stream->message_bytes, &uplink->clock,
                          &stream->out);
    if (r == 0)
        link_keep_blocks(uplink);
    if (r < 0) { /* no memory, and records take less: it is in the log */
        encoder_blocks_deinit(&uplink->blocks);
        buf_clear(&stream->out);
    }
    return r == 0;
}

static int encode(struct stream *stream)
{
    struct uplink *uplink = stream->uplink;

    buf_clear(&stream->out);
    stream->is_block = encode_block(stream);
    if (stream->is_block)
        return 0;
    return pass(
        encoder_put(&stream->encoder, stream->signal, &stream->item, &uplink->clock, &stream->out));
}

/* Fills `out` with the next message. Outcomes: SPOOL_EMPTY. */
static int prepare(struct stream *stream)
{
    int r;

    if (stream->is_pending)
        return 0;
    r = read_next(stream);
    if (r)
        return pass(r);
    if (!encoder_has_room(&stream->encoder, stream->signal, &stream->item, stream->agent_series)) {
        stream->is_crowded = true; /* the next stream reads it again */
        return SPOOL_EMPTY;
    }
    r = encode(stream);
    if (r)
        return pass(r);
    stream->is_pending = true;
    return 0;
}

/* Outcomes: those of rpc_client_call_send(). */
static int send_prepared(struct stream *stream)
{
    int r = stream->is_block ? rpc_client_call_send_packed(stream->call, buf_span(&stream->out))
                             : rpc_client_call_send(stream->call, buf_span(&stream->out));

    if (r)
        return r < 0 ? pass(r) : r;
    stream->is_pending = false;
    stream->cursor = stream->item.sequence;
    if (stream->is_block)
        stream->blocks_sent |= bit_of(stream->cursor);
    r = encoder_commit(&stream->encoder, stream->signal, &stream->item);
    if (stream->out.capacity > (256u << 10)) /* a large one is not kept for small ones */
        buf_deinit(&stream->out);
    return pass(r);
}

/* Nothing more is sent: when all is acknowledged it gives way to a new one. A drain fills one
 * further, but not beyond what the hub takes: that is for the next start. */
static bool is_full(const struct stream *stream)
{
    return stream->is_crowded ||
           (!stream->uplink->is_draining && encoder_is_full(&stream->encoder));
}

/* True: it ends. */
static bool renew_if_full(struct stream *stream)
{
    if (!is_full(stream) || stream->acknowledged != stream->cursor)
        return false;
    stream_give_up(stream, UPLINK_RENEWED);
    return true;
}

/* What there is to be sent now, in one write. */
static int send_all(struct stream *stream)
{
    int r = 0;

    rpc_client_call_hold(stream->call);
    while (r == 0 && has_room(stream) && !is_full(stream)) {
        r = prepare(stream);
        if (r == 0 && !link_take_bandwidth(stream, stream->out.len))
            break;
        if (r == 0) /* full: on_writable comes; closed: on_closed comes */
            r = send_prepared(stream);
    }
    rpc_client_call_let_go(stream->call);
    return r < 0 ? pass(r) : 0;
}

void stream_pump(struct stream *stream)
{
    int r;

    if (!stream->is_welcomed || stream->is_throttled || stream->is_half_closed || stream->is_over ||
        stream->local_reason)
        return;
    r = send_all(stream);
    if (r < 0)
        stream_give_up(stream, "ENCODING_FAILED");
    else if (stream->is_crowded)
        (void) renew_if_full(stream);
}

bool stream_is_idle(const struct stream *stream)
{
    struct spool_run run;

    spool_reader_get_run(stream->reader, &run);
    return run.first_sequence > run.last_sequence;
}

void stream_half_close(struct stream *stream)
{
    if (stream->is_half_closed || stream->is_over)
        return;
    stream->is_half_closed = true;
    rpc_client_call_half_close(stream->call);
}

static void on_writable(struct rpc_client_call *call)
{
    stream_pump(rpc_client_call_ctx(call));
}

static void on_throttle_end(struct loop_timer *timer)
{
    struct stream *stream = timer->ctx;

    stream->is_throttled = false;
    stream_pump(stream);
}

/* ---- what the hub says ---- */

bool stream_refuse_block(struct stream *stream)
{
    stream->is_block_refused = (stream->blocks_sent & bit_of(stream->acknowledged + 1)) != 0;
    return stream->is_block_refused;
}

/* Whether blocks are worth trying, by what the hub takes. */
static void note_taken(struct stream *stream, uint64_t through)
{
    struct uplink *uplink = stream->uplink;
    uint64_t taken = 0;

    for (uint64_t i = stream->acknowledged + 1;
         i <= through && i <= stream->acknowledged + WINDOW_BATCHES; i++)
        taken |= bit_of(i);
    if (stream->is_block_refused && ++uplink->n_refused_blocks == LINK_REFUSED_BLOCKS)
        log_event(LOG_WARN, "blocks_refused", LOG_U("in_a_row", LINK_REFUSED_BLOCKS),
                  LOG_S("meaning", "logs go as records until the next connection"));
    stream->is_block_refused = false;
    if (stream->blocks_sent & taken)
        uplink->n_refused_blocks = 0;
    stream->blocks_sent &= ~taken;
}

static void on_ack(struct stream *stream, uint64_t sequence)
{
    if (sequence > stream->cursor || spool_acknowledge(stream->reader, sequence)) {
        stream_give_up(stream, "ACK_BEYOND_SENT");
        return;
    }
    if (sequence > stream->acknowledged) {
        note_taken(stream, sequence);
        stream->acknowledged = sequence;
    }
    stream->n_failed = 0;
    link_on_acknowledged(stream);
    if (renew_if_full(stream))
        return;
    stream_pump(stream);
    if (stream->lane == SPOOL_BACKFILL && spool_reader_is_done(stream->reader))
        stream_half_close(stream);
}

static void on_welcome(struct stream *stream, const struct encoder_response *welcome)
{
    struct spool_run run;
    int r;

    loop_timer_disarm(stream->uplink->options.loop, &stream->welcome);
    stream->is_welcomed = true;
    r = spool_reader_resume(stream->reader, welcome->sequence);
    if (r == SPOOL_BEYOND) {
        /* The hub has more of this run than we ever sent: it is not ours. */
        spool_fork(stream->reader);
        stream_give_up(stream, "RESUME_BEYOND_SENT");
        return;
    }
    if (r < 0) {
        stream_give_up(stream, "SPOOL_UNREADABLE");
        return;
    }
    spool_reader_get_run(stream->reader, &run);
    stream->cursor = stream->acknowledged = run.first_sequence - 1;
    stream->window = WINDOW_BATCHES;
    stream->agent_series = welcome->agent_series;
    stream->takes_blocks = stream->signal == SPOOL_LOGS &&
                           stream->uplink->options.pace.compresses_logs &&
                           welcome->log_block_version == LOGBLOCK_VERSION;
    stream->message_bytes = welcome->message_bytes;
    stream->oldest_us = welcome->oldest_s < UINT32_MAX ? (int64_t) welcome->oldest_s * 1000000 : 0;
    if (welcome->unacknowledged_batches && welcome->unacknowledged_batches < stream->window)
        stream->window = welcome->unacknowledged_batches;
    if (welcome->lost_last)
        log_event(LOG_WARN, "hub_lost_batches", LOG_S("signal", spool_signal_name(stream->signal)),
                  LOG_U("first", welcome->lost_first), LOG_U("last", welcome->lost_last));
    link_on_welcome(stream, welcome);
    if (stream->lane == SPOOL_BACKFILL && spool_reader_is_done(stream->reader))
        stream_half_close(stream);
}

static void on_throttle(struct stream *stream, const struct encoder_response *throttle)
{
    int64_t wait_us = (int64_t) throttle->retry_after_ms * 1000;

    log_peer(LOG_INFO, "hub_throttles", LOG_S("signal", spool_signal_name(stream->signal)),
             LOG_S("reason", throttle->text), LOG_U("retry_after_ms", throttle->retry_after_ms));
    stream->is_throttled = true;
    link_arm(stream->uplink, &stream->throttle,
             wait_us < UPLINK_MAX_THROTTLE_US ? wait_us : UPLINK_MAX_THROTTLE_US);
}

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct stream *stream = rpc_client_call_ctx(call);
    struct encoder_response response;
    struct wire_problem problem;
    struct arena arena;
    int r;

    if (stream->local_reason)
        return;
    arena_init(&arena, wire_arena_limit(message.len));
    r = encoder_read(message, &arena, &response, &problem);
    if (r)
        stream_give_up(stream, "BAD_RESPONSE");
    else if (response.kind == ENCODER_WELCOME && !stream->is_welcomed)
        on_welcome(stream, &response);
    else if (response.kind == ENCODER_ACK && stream->is_welcomed)
        on_ack(stream, response.sequence);
    else if (response.kind == ENCODER_THROTTLE)
        on_throttle(stream, &response);
    else if (response.kind != ENCODER_OTHER) /* others: of a later version */
        stream_give_up(stream, "UNEXPECTED_RESPONSE");
    arena_deinit(&arena);
    rpc_client_call_read(call);
}

static const struct rpc_client_handler handler = {
    .on_message = on_message,
    .on_writable = on_writable,
    .on_closed = on_closed,
};

/* ---- life ---- */

static int send_hello(struct stream *stream)
{
    static const struct collect_host nothing; /* what the first stream said stays */
    struct uplink *uplink = stream->uplink;
    bool is_first = stream->signal == SPOOL_METRICS && stream->lane == SPOOL_LIVE;
    struct encoder_hello hello = {
        .instance = uplink->instance,
        .host = uplink->options.host,
        .time = clock_wall(),
        .lane = stream->lane,
    };
    struct collect_host quiet = *uplink->options.host;
    int r;

    quiet.n_attributes = nothing.n_attributes;
    if (is_first)
        hello.interval_ms = (uint32_t) (uplink->options.interval_us / 1000);
    else
        hello.host = &quiet;
    if (uplink->options.keeper)
        hello.generation = keeper_generation(uplink->options.keeper);
    spool_reader_get_run(stream->reader, &hello.run);
    buf_clear(&stream->out);
    r = encoder_put_hello(&hello, &stream->out);
    if (r)
        return pass(r);
    r = rpc_client_call_send(stream->call, buf_span(&stream->out));
    return r < 0 ? pass(r) : 0; /* closed already: on_closed comes */
}

static void on_again(struct loop_timer *timer)
{
    struct stream *stream = timer->ctx;

    if (!stream->uplink->channel)
        return;
    if (stream_open(stream) < 0)
        stream_open_in(stream, stream->uplink->options.pace.backoff_us);
    /* A run that this one has left may be there to be backfilled. */
    link_pump(stream->uplink);
}

void stream_init(struct stream *stream,
                 struct uplink *uplink,
                 enum spool_signal signal,
                 enum spool_lane lane)
{
    stream->uplink = uplink;
    stream->signal = signal;
    stream->lane = lane;
    stream->again = (struct loop_timer){ .fn = on_again, .ctx = stream };
    stream->welcome = (struct loop_timer){ .fn = on_welcome_timeout, .ctx = stream };
    stream->throttle = (struct loop_timer){ .fn = on_throttle_end, .ctx = stream };
}

void stream_deinit(struct stream *stream)
{
    stream_close(stream);
    buf_deinit(&stream->out);
}

void stream_open_in(struct stream *stream, int64_t delay_us)
{
    link_arm(stream->uplink, &stream->again, delay_us);
}

void stream_close(struct stream *stream)
{
    struct loop *loop = stream->uplink->options.loop;

    loop_timer_disarm(loop, &stream->again);
    loop_timer_disarm(loop, &stream->welcome);
    loop_timer_disarm(loop, &stream->throttle);
    stream->call = rpc_client_call_unref(stream->call);
    stream->reader = spool_reader_close(stream->reader);
    encoder_reset(&stream->encoder);
    stream->blocks_sent = 0;
    stream->is_pending = stream->is_welcomed = stream->is_half_closed = false;
    stream->is_throttled = stream->is_over = stream->has_old = stream->is_crowded = false;
    stream->local_reason = NULL;
}

static int open_reader(struct stream *stream)
{
    struct uplink *uplink = stream->uplink;
    int64_t behind_us = uplink->options.pace.behind_us;

    /* What piled up meanwhile goes beside what is new. */
    if (stream->lane == SPOOL_LIVE && behind_us > 0 &&
        spool_live_age_us(uplink->options.spool, stream->signal) > behind_us) {
        int r = spool_rotate(uplink->options.spool, stream->signal);

        if (r)
            return pass(r);
    }
    return spool_reader_open(&stream->reader, uplink->options.spool, stream->signal, stream->lane);
}

int stream_open(struct stream *stream)
{
    struct uplink *uplink = stream->uplink;
    int r;

    stream_close(stream);
    r = open_reader(stream);
    if (r)
        return r < 0 ? pass(r) : STREAM_NOTHING;
    r = rpc_client_call_new(
        &stream->call, uplink->channel,
        &(struct rpc_client_call_options){
            .path = stream->signal == SPOOL_METRICS ? STREAM_METRICS_PATH : STREAM_LOGS_PATH,
            .is_compressed = stream->signal == SPOOL_LOGS && uplink->options.pace.compresses_logs,
            .handler = &handler,
            .ctx = stream,
        });
    if (r == 0)
        r = send_hello(stream);
    if (r) {
        stream_close(stream);
        return fold(r);
    }
    rpc_client_call_read(stream->call);
    link_arm(uplink, &stream->welcome, LINK_WELCOME_TIMEOUT_US);
    return 0;
}
