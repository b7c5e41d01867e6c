/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplink/uplink.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/uplink/connection.h"
#include "agent/uplink/encode.h"
#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/rand.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"

#define WELCOME_TIMEOUT_US INT64_C(30000000)
#define HALF_CLOSE_TIMEOUT_US INT64_C(1000000)
#define WINDOW_BATCHES 64 /* also when the hub names no limit, or a wider one */
#define OFFSET_WORTH_SAYING_US INT64_C(5000000)
#define ERROR_ARENA_BYTES (64u << 10)

struct uplink {
    struct uplink_options options;
    char *hub, *server_name, *identity, *insecure_id;
    struct rpc_queue *queue;
    struct rand rand;
    uint8_t instance[16];

    /* One attempt. */
    struct rpc_channel *channel;
    struct rpc_client_call *call;
    struct encoder encoder;
    struct uplink_clock clock;
    bool is_welcomed;
    bool is_channel_lent;
    bool is_half_closed;
    uint64_t use;             /* the keeper's number of the identity */
    const char *local_reason; /* why we ended the call ourselves */
    uint64_t cursor;          /* sent last in this stream */
    uint64_t acknowledged;
    uint32_t window;
    bool is_throttled;

    unsigned n_failed;     /* ends since the last acknowledgement */
    int64_t hub_spread_us; /* 0: the settings' */
    bool is_draining;
    struct buf out;
    struct loop_timer attempt, welcome, throttle, drain, reap;
    struct uplink_status status;
};

static void set_state(struct uplink *uplink, enum uplink_state state)
{
    uplink->status.state = state;
    uplink->status.since = clock_wall();
}

const char *uplink_state_name(enum uplink_state state)
{
    static const char *const names[] = { "waiting", "connecting", "connected", "ended" };

    return names[state];
}

static void arm(struct uplink *uplink, struct loop_timer *timer, int64_t delay_us)
{
    /* A heap that cannot grow by one is out of memory: the fault is in the log, and nothing would
     * ever happen again. */
    ensure(loop_timer_arm_in(uplink->options.loop, timer, delay_us) == 0);
}

/* ---- the end of an attempt ---- */

static void lend_channel(struct uplink *uplink, struct rpc_channel *channel)
{
    if (uplink->options.on_channel && uplink->is_channel_lent != (channel != NULL)) {
        uplink->is_channel_lent = channel != NULL;
        uplink->options.on_channel(uplink->options.ctx, channel);
    }
}

static void drop_connection(struct uplink *uplink)
{
    lend_channel(uplink, NULL);
    uplink->call = rpc_client_call_unref(uplink->call);
    uplink->channel = rpc_channel_free(uplink->channel);
}

/* Not in the call's own callback, nor before the last one has returned. */
static void on_reap(struct loop_timer *timer)
{
    drop_connection(timer->ctx);
}

static void finish_drain(struct uplink *uplink)
{
    if (uplink->status.state == UPLINK_ENDED)
        return;
    loop_timer_disarm(uplink->options.loop, &uplink->attempt);
    loop_timer_disarm(uplink->options.loop, &uplink->drain);
    set_state(uplink, UPLINK_ENDED);
    uplink->options.on_drained(uplink->options.ctx);
}

static void on_drain_timeout(struct loop_timer *timer)
{
    finish_drain(timer->ctx);
}

static void note_error(struct uplink *uplink, const struct wire_error *error, bool is_slow)
{
    struct uplink_status *status = &uplink->status;

    status->error_code = error->code;
    status->is_slow = is_slow;
    snprintf(status->error_reason, sizeof(status->error_reason), "%s",
             error->reason ? error->reason : "");
    snprintf(status->error_message, sizeof(status->error_message), "%s",
             error->message ? error->message : "");
}

/* We ended it, to begin again with another identity. */
static bool is_changed(const struct uplink *uplink)
{
    return uplink->local_reason && strcmp(uplink->local_reason, UPLINK_IDENTITY_CHANGED) == 0;
}

static int64_t
choose_wait(struct uplink *uplink, enum uplink_class class, const struct wire_error *error)
{
    struct uplink_pace pace = uplink->options.pace;
    int64_t asked_us =
        (int64_t) (error->retry_after_ms < 86400000 ? error->retry_after_ms : 86400000) * 1000;
    int64_t wait_us;

    if (is_changed(uplink))
        return 0;
    /* Nobody but this machine is asked, and somebody may be mending it right now. */
    if (error->reason && strcmp(error->reason, UPLINK_IDENTITY_UNUSABLE) == 0)
        return uplink_jitter(pace.backoff_us, rand_unit(&uplink->rand));
    if (class == UPLINK_SLOW)
        return uplink_jitter(pace.max_backoff_us, rand_unit(&uplink->rand));
    if (uplink->hub_spread_us)
        pace.spread_us = uplink->hub_spread_us;
    wait_us = uplink_backoff(&pace, uplink->n_failed, rand_unit(&uplink->rand));
    /* Not before it was asked to, and not all at that moment. */
    if (wait_us < asked_us)
        wait_us = asked_us + (int64_t) ((double) asked_us * 0.2 * rand_unit(&uplink->rand));
    return wait_us;
}

/* The batch behind the last acknowledged one is what was refused: acks for all before it came
 * first. */
static void set_aside(struct uplink *uplink, const struct wire_error *error)
{
    struct spool_item item;

    if (spool_next(uplink->options.spool, uplink->acknowledged, &item) || item.is_skip ||
        item.sequence > uplink->cursor)
        return;
    log_event(LOG_ERROR, "batch_refused", LOG_U("sequence", item.sequence),
              LOG_U("samples", item.samples), LOG_S("reason", error->reason),
              LOG_S("field", error->field), LOG_S("description", error->field_description),
              LOG_S("message", error->message));
    ensure(spool_refuse(uplink->options.spool, item.sequence) == 0);
}

/* What needs somebody is said once, with what to do, and not again until it changes. */
static void say_end(struct uplink *uplink,
                    enum uplink_class class,
                    const struct wire_error *error,
                    bool is_said,
                    int64_t wait_us)
{
    const char *event = uplink->is_welcomed ? "hub_stream_ended" : "hub_unreachable";
    char text[TEXT_DURATION_BYTES];

    text_of_duration_us(wait_us / 1000 * 1000, text);
    if (class == UPLINK_SLOW)
        log_event(is_said ? LOG_DEBUG : LOG_ERROR, event, LOG_S("hub", uplink->hub),
                  LOG_S("code", rpc_code_name(error->code)), LOG_S("reason", error->reason),
                  LOG_S("message", error->message), LOG_S("remedy", uplink_remedy(error)),
                  LOG_S("retry_in", text));
    else
        log_event(is_changed(uplink) ? LOG_INFO : LOG_WARN, event, LOG_S("hub", uplink->hub),
                  LOG_S("code", rpc_code_name(error->code)), LOG_S("reason", error->reason),
                  LOG_S("message", error->message), LOG_S("retry_in", text));
}

static void
end_attempt(struct uplink *uplink, enum uplink_class class, const struct wire_error *error)
{
    bool is_said = uplink->status.is_slow && uplink->status.error_code == error->code &&
                   strcmp(uplink->status.error_reason, error->reason ? error->reason : "") == 0;
    int64_t wait_us;

    loop_timer_disarm(uplink->options.loop, &uplink->welcome);
    loop_timer_disarm(uplink->options.loop, &uplink->throttle);
    uplink->n_failed++;
    if (class == UPLINK_POISON)
        set_aside(uplink, error);
    if (class == UPLINK_FORKED) {
        log_event(LOG_WARN, "spool_forked", LOG_S("message", error->message));
        spool_restart(uplink->options.spool);
    }
    note_error(uplink, error, class == UPLINK_SLOW);
    uplink->status.unacknowledged = 0;
    arm(uplink, &uplink->reap, 0);
    if (uplink->options.keeper)
        keeper_on_ended(uplink->options.keeper, uplink->use, error->reason);
    if (uplink->is_draining) {
        finish_drain(uplink);
        return;
    }
    wait_us = choose_wait(uplink, class, error);
    set_state(uplink, UPLINK_WAITING);
    uplink->status.next_attempt = (wall_us){ clock_wall().us + wait_us };
    arm(uplink, &uplink->attempt, wait_us);
    say_end(uplink, class, error, is_said, wait_us);
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct uplink *uplink = rpc_client_call_ctx(call);
    struct wire_error error;
    struct arena arena;

    arena_init(&arena, ERROR_ARENA_BYTES);
    connection_error(status, &arena, &error);
    if (uplink->local_reason) {
        error.code = RPC_CANCELLED;
        error.reason = uplink->local_reason;
        error.message = "the agent ended the stream";
    }
    end_attempt(uplink, uplink_classify(&error, uplink->is_welcomed), &error);
    arena_deinit(&arena);
}

/* on_closed follows. */
static void give_up(struct uplink *uplink, const char *reason)
{
    uplink->local_reason = reason;
    rpc_client_call_cancel(uplink->call);
}

static void on_welcome_timeout(struct loop_timer *timer)
{
    give_up(timer->ctx, "HELLO_UNANSWERED");
}

/* ---- sending ---- */

static bool has_room(const struct uplink *uplink)
{
    /* A skip counts as all its numbers: it travels alone, which is once after an outage. */
    return uplink->cursor - uplink->acknowledged < uplink->window;
}

/* Returns 0, an outcome of the call, or a fault. */
static int send_item(struct uplink *uplink, const struct spool_item *item)
{
    uint32_t checksum;
    int r;

    buf_clear(&uplink->out);
    r = encoder_put(&uplink->encoder, item, &uplink->clock, &uplink->out, &checksum);
    if (r)
        return pass(r);
    r = rpc_client_call_send(uplink->call, buf_span(&uplink->out));
    if (r)
        return r < 0 ? pass(r) : r;
    spool_mark_sent(uplink->options.spool, item->sequence, checksum);
    uplink->cursor = item->sequence;
    return pass(encoder_commit(&uplink->encoder, item));
}

static void end_when_drained(struct uplink *uplink)
{
    struct spool_run run;
    int64_t left_us;

    spool_get_run(uplink->options.spool, &run);
    if (!uplink->is_draining || uplink->is_half_closed || run.first_sequence <= run.last_sequence)
        return;
    uplink->is_half_closed = true;
    rpc_client_call_half_close(uplink->call);
    /* Nothing can be lost any more, so not for long, and never beyond the drain's own end. */
    left_us = uplink->drain.due.us - clock_mono().us;
    if (left_us > HALF_CLOSE_TIMEOUT_US)
        arm(uplink, &uplink->drain, HALF_CLOSE_TIMEOUT_US);
}

static void pump(struct uplink *uplink)
{
    struct spool_item item;

    if (uplink->status.state != UPLINK_STREAMING || uplink->is_throttled || uplink->is_half_closed)
        return;
    while (has_room(uplink) && spool_next(uplink->options.spool, uplink->cursor, &item) == 0) {
        int r = send_item(uplink, &item);

        if (r < 0) {
            give_up(uplink, "ENCODING_FAILED");
            return;
        }
        if (r) /* full: on_writable comes; closed: on_closed comes */
            break;
    }
    uplink->status.unacknowledged = uplink->cursor - uplink->acknowledged;
    end_when_drained(uplink);
}

static void on_writable(struct rpc_client_call *call)
{
    pump(rpc_client_call_ctx(call));
}

static void on_throttle_end(struct loop_timer *timer)
{
    struct uplink *uplink = timer->ctx;

    uplink->is_throttled = false;
    pump(uplink);
}

void uplink_kick(struct uplink *uplink)
{
    pump(uplink);
}

/* ---- what the hub says ---- */

static void acknowledge(struct uplink *uplink, uint64_t sequence)
{
    if (sequence > uplink->cursor || spool_acknowledge(uplink->options.spool, sequence)) {
        give_up(uplink, "ACK_BEYOND_SENT");
        return;
    }
    if (sequence > uplink->acknowledged)
        uplink->acknowledged = sequence;
    uplink->n_failed = 0;
    uplink->status.last_ack = clock_wall();
    pump(uplink);
}

static int64_t at_most(int64_t value, int64_t limit)
{
    return value < limit ? value : limit;
}

static void note_clock(struct uplink *uplink, int64_t hub_us)
{
    char text[TEXT_DURATION_BYTES];
    int64_t offset_us = hub_us - clock_wall().us;
    int64_t apart_us = offset_us < 0 ? -offset_us : offset_us;

    if (hub_us == 0)
        return;
    uplink->clock = (struct uplink_clock){ true, hub_us, uplink_boot_us() };
    uplink->status.clock_offset_us = offset_us;
    if (apart_us > OFFSET_WORTH_SAYING_US)
        log_event(LOG_WARN, "clock_off",
                  LOG_S("direction", offset_us > 0 ? "behind the hub" : "ahead of the hub"),
                  LOG_S("offset", text_of_duration_us(apart_us / 1000 * 1000, text)));
}

static void on_welcome(struct uplink *uplink, const struct encoder_response *welcome)
{
    struct uplink_status *status = &uplink->status;
    struct spool_run run;

    loop_timer_disarm(uplink->options.loop, &uplink->welcome);
    uplink->is_welcomed = true;
    note_clock(uplink, welcome->hub_us);
    if (uplink->options.keeper)
        keeper_on_welcome(uplink->options.keeper, uplink->use, &welcome->hub);
    if (spool_acknowledge(uplink->options.spool, welcome->sequence) == SPOOL_BEYOND) {
        /* The hub has more of this run than we ever sent: it is not ours. */
        spool_restart(uplink->options.spool);
        give_up(uplink, "RESUME_BEYOND_SENT");
        return;
    }
    spool_get_run(uplink->options.spool, &run);
    uplink->cursor = uplink->acknowledged = run.first_sequence - 1;
    uplink->window = WINDOW_BATCHES;
    if (welcome->unacknowledged_batches && welcome->unacknowledged_batches < uplink->window)
        uplink->window = welcome->unacknowledged_batches;
    uplink->hub_spread_us = at_most((int64_t) welcome->spread_ms * 1000, UPLINK_MAX_SPREAD_US);

    set_state(uplink, UPLINK_STREAMING);
    status->streams++;
    status->next_attempt = (wall_us){ 0 };
    status->is_slow = false;
    snprintf(status->peer, sizeof(status->peer), "%s", rpc_client_call_peer(uplink->call));
    snprintf(status->hub_version, sizeof(status->hub_version), "%s", welcome->text);
    log_event(LOG_INFO, "hub_connected", LOG_S("hub", uplink->hub), LOG_S("peer", status->peer),
              LOG_S("hub_version", status->hub_version), LOG_U("resume_after", welcome->sequence),
              LOG_U("queued", run.last_sequence + 1 - run.first_sequence));
    if (welcome->lost_last)
        log_event(LOG_WARN, "hub_lost_batches", LOG_U("first", welcome->lost_first),
                  LOG_U("last", welcome->lost_last));
    uplink->options.on_interval(uplink->options.ctx, (int64_t) welcome->interval_ms * 1000);
    /* The handshake is what takes most memory, and the next one is far. */
    malloc_trim(0);
    pump(uplink);
    lend_channel(uplink, uplink->channel);
}

static void on_throttle(struct uplink *uplink, const struct encoder_response *throttle)
{
    log_peer(LOG_INFO, "hub_throttles", LOG_S("reason", throttle->text),
             LOG_U("retry_after_ms", throttle->retry_after_ms));
    uplink->is_throttled = true;
    arm(uplink, &uplink->throttle,
        at_most((int64_t) throttle->retry_after_ms * 1000, UPLINK_MAX_THROTTLE_US));
}

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct uplink *uplink = rpc_client_call_ctx(call);
    struct encoder_response response;
    struct wire_problem problem;
    struct arena arena;
    int r;

    if (uplink->local_reason)
        return;
    arena_init(&arena, wire_arena_limit(message.len));
    r = encoder_read(message, &arena, &response, &problem);
    if (r)
        give_up(uplink, "BAD_RESPONSE");
    else if (response.kind == ENCODER_WELCOME && !uplink->is_welcomed)
        on_welcome(uplink, &response);
    else if (response.kind == ENCODER_ACK && uplink->is_welcomed)
        acknowledge(uplink, response.sequence);
    else if (response.kind == ENCODER_THROTTLE)
        on_throttle(uplink, &response);
    else if (response.kind != ENCODER_OTHER) /* others: of a later version */
        give_up(uplink, "UNEXPECTED_RESPONSE");
    arena_deinit(&arena);
    rpc_client_call_read(call);
}

static const struct rpc_client_handler handler = {
    .on_message = on_message,
    .on_writable = on_writable,
    .on_closed = on_closed,
};

/* ---- an attempt ---- */

static int send_hello(struct uplink *uplink)
{
    struct encoder_hello hello = {
        .instance = uplink->instance,
        .host = uplink->options.host,
        .time = clock_wall(),
        .interval_ms = (uint32_t) (uplink->options.interval_us / 1000),
    };
    int r;

    if (uplink->options.keeper)
        hello.generation = keeper_generation(uplink->options.keeper);
    spool_get_run(uplink->options.spool, &hello.run);
    buf_clear(&uplink->out);
    r = encoder_put_hello(&hello, &uplink->out);
    if (r)
        return pass(r);
    r = rpc_client_call_send(uplink->call, buf_span(&uplink->out));
    return r < 0 ? pass(r) : 0; /* closed already: on_closed comes */
}

/* Returns 0, or says in `error` what is wrong here. */
static int open_call(struct uplink *uplink, struct tls_why *ret_why)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    int64_t keepalive_us =
        uplink_jitter(uplink->options.pace.keepalive_us, rand_unit(&uplink->rand));
    int r = 0;

    if (uplink->options.keeper)
        r = keeper_get(uplink->options.keeper, &identity, &uplink->use, ret_why);
    else if (!uplink->insecure_id)
        r = tls_identity_load(uplink->identity, &identity, ret_why);
    if (r)
        return r < 0 ? pass(r) : CONNECTION_BAD_IDENTITY;
    r = connection_open(&uplink->channel,
                        &(struct connection_options){
                            .queue = uplink->queue,
                            .hub = uplink->hub,
                            .server_name = uplink->server_name,
                            .insecure_id = uplink->insecure_id,
                            .is_tls13_only = uplink->options.is_tls13_only,
                            .keepalive_us = keepalive_us,
                        },
                        uplink->insecure_id ? NULL : &identity, ret_why);
    if (r)
        return r < 0 ? pass(r) : r;
    r = rpc_client_call_new(&uplink->call, uplink->channel,
                            &(struct rpc_client_call_options){
                                .path = STREAM_METRICS_PATH,
                                .handler = &handler,
                                .ctx = uplink,
                            });
    if (r)
        return fold(r);
    r = send_hello(uplink);
    if (r)
        return pass(r);
    rpc_client_call_read(uplink->call);
    return 0;
}

static void attempt(struct uplink *uplink)
{
    struct tls_why why = { "the agent failed to begin; see its log" };
    int r;

    drop_connection(uplink);
    loop_timer_disarm(uplink->options.loop, &uplink->reap);
    encoder_reset(&uplink->encoder);
    uplink->is_welcomed = uplink->is_half_closed = uplink->is_throttled = false;
    uplink->local_reason = NULL;
    uplink->status.attempts++;
    uplink->status.next_attempt = (wall_us){ 0 };
    uplink->status.peer[0] = '\0';
    set_state(uplink, UPLINK_CONNECTING);

    r = open_call(uplink, &why);
    if (r == 0) {
        arm(uplink, &uplink->welcome, WELCOME_TIMEOUT_US);
        return;
    }
    end_attempt(
        uplink, r == CONNECTION_BAD_IDENTITY ? UPLINK_SLOW : UPLINK_RETRY,
        &(struct wire_error){
            .code = r == CONNECTION_BAD_IDENTITY ? RPC_UNAUTHENTICATED : RPC_INTERNAL,
            .reason = r == CONNECTION_BAD_IDENTITY ? UPLINK_IDENTITY_UNUSABLE : "AGENT_FAULT",
            .message = why.text,
        });
}

static void on_attempt(struct loop_timer *timer)
{
    attempt(timer->ctx);
}

/* ---- life ---- */

int uplink_new(struct uplink **ret, const struct uplink_options *options)
{
    CLEANUP(uplink_freep) struct uplink *uplink = calloc(1, sizeof(*uplink));
    int r;

    if (!uplink)
        return fault(-ENOMEM, "no memory for the uplink");
    ensure(options->loop && options->spool && options->on_drained && options->on_interval);
    uplink->options = *options;
    uplink->attempt = (struct loop_timer){ .fn = on_attempt, .ctx = uplink };
    uplink->welcome = (struct loop_timer){ .fn = on_welcome_timeout, .ctx = uplink };
    uplink->throttle = (struct loop_timer){ .fn = on_throttle_end, .ctx = uplink };
    uplink->drain = (struct loop_timer){ .fn = on_drain_timeout, .ctx = uplink };
    uplink->reap = (struct loop_timer){ .fn = on_reap, .ctx = uplink };
    rand_init_from_system(&uplink->rand);
    crypto_random(uplink->instance, sizeof(uplink->instance));
    set_state(uplink, UPLINK_WAITING);

    uplink->hub = strdup(options->hub);
    uplink->identity = strdup(options->identity);
    uplink->server_name = options->server_name ? strdup(options->server_name) : NULL;
    uplink->insecure_id = options->insecure_id ? strdup(options->insecure_id) : NULL;
    if (!uplink->hub || !uplink->identity || (options->server_name && !uplink->server_name) ||
        (options->insecure_id && !uplink->insecure_id))
        return fault(-ENOMEM, "no memory for the uplink");
    r = rpc_queue_new(&uplink->queue, options->loop);
    if (r)
        return fold(r);
    *ret = take(uplink);
    return 0;
}

struct uplink *uplink_free(struct uplink *uplink)
{
    struct loop *loop;

    if (!uplink)
        return NULL;
    loop = uplink->options.loop;
    loop_timer_disarm(loop, &uplink->attempt);
    loop_timer_disarm(loop, &uplink->welcome);
    loop_timer_disarm(loop, &uplink->throttle);
    loop_timer_disarm(loop, &uplink->drain);
    loop_timer_disarm(loop, &uplink->reap);
    drop_connection(uplink);
    uplink->queue = rpc_queue_free(uplink->queue);
    encoder_deinit(&uplink->encoder);
    buf_deinit(&uplink->out);
    free(uplink->hub);
    free(uplink->server_name);
    free(uplink->identity);
    free(uplink->insecure_id);
    free(uplink);
    return NULL;
}

int uplink_start(struct uplink *uplink)
{
    return pass(loop_timer_arm_in(uplink->options.loop, &uplink->attempt, 0));
}

void uplink_set_pace(struct uplink *uplink, const struct uplink_pace *pace, int64_t interval_us)
{
    int64_t wait_us = (int64_t) ((double) pace->spread_us * rand_unit(&uplink->rand));

    uplink->options.pace = *pace;
    uplink->options.interval_us = interval_us;
    if (uplink->status.state != UPLINK_WAITING || uplink->attempt.slot == 0 ||
        uplink->attempt.due.us - clock_mono().us <= wait_us)
        return;
    uplink->status.next_attempt = (wall_us){ clock_wall().us + wait_us };
    arm(uplink, &uplink->attempt, wait_us);
}

void uplink_reconnect(struct uplink *uplink)
{
    if (uplink->is_draining)
        return;
    if (uplink->status.state == UPLINK_WAITING) {
        if (uplink->status.attempts > 0)
            arm(uplink, &uplink->attempt, 0);
        return;
    }
    if (!uplink->local_reason)
        give_up(uplink, UPLINK_IDENTITY_CHANGED);
}

void uplink_drain(struct uplink *uplink, int64_t timeout_us)
{
    struct spool_run run;

    spool_get_run(uplink->options.spool, &run);
    uplink->is_draining = true;
    arm(uplink, &uplink->drain, timeout_us);
    if (uplink->status.state == UPLINK_STREAMING) {
        pump(uplink);
        end_when_drained(uplink);
        return;
    }
    if (run.first_sequence > run.last_sequence || uplink->status.is_slow) {
        finish_drain(uplink);
        return;
    }
    if (uplink->status.state == UPLINK_WAITING)
        arm(uplink, &uplink->attempt, 0);
}

void uplink_get_status(const struct uplink *uplink, struct uplink_status *ret)
{
    *ret = uplink->status;
}
