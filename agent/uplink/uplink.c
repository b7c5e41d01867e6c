/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplink/uplink.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/uplink/link.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"

#define HALF_CLOSE_TIMEOUT_US INT64_C(1000000)
#define OFFSET_WORTH_SAYING_US INT64_C(5000000)
#define REFILL_US INT64_C(100000)
/* From one hub of the list to the next, at most. */
#define NEXT_HUB_US INT64_C(2000000)
/* Without a block made with it. */
#define BLOCKS_KEPT_US INT64_C(60000000)
/* A hub that does not stay is looked at less and less often. */
#define MAX_PREFER_US INT64_C(7200000000)

static struct stream *first_stream(struct uplink *uplink)
{
    return &uplink->streams[SPOOL_METRICS][SPOOL_LIVE];
}

static const char *hub_of(const struct uplink *uplink)
{
    return uplink->hubs[uplink->at];
}

static void set_state(struct uplink *uplink, enum uplink_state state)
{
    uplink->status.state = state;
    uplink->status.since = clock_wall();
    if (uplink->options.on_state)
        uplink->options.on_state(uplink->options.ctx);
}

const char *uplink_state_name(enum uplink_state state)
{
    static const char *const names[] = { "waiting", "connecting", "connected", "ended" };

    return names[state];
}

void link_arm(struct uplink *uplink, struct loop_timer *timer, int64_t delay_us)
{
    /* A heap that cannot grow by one is out of memory: the fault is in the log, and nothing would
     * ever happen again. */
    ensure(loop_timer_arm_in(uplink->options.loop, timer, delay_us) == 0);
}

void link_keep_blocks(struct uplink *uplink)
{
    link_arm(uplink, &uplink->rest, BLOCKS_KEPT_US);
}

static void on_rest(struct loop_timer *timer)
{
    struct uplink *uplink = timer->ctx;

    encoder_blocks_deinit(&uplink->blocks);
    malloc_trim(0);
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
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        for (unsigned k = 0; k < LINK_LANES; k++)
            stream_close(&uplink->streams[i][k]);
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
static bool is_changed(const struct wire_error *error)
{
    return error->reason && strcmp(error->reason, UPLINK_IDENTITY_CHANGED) == 0;
}

/* We ended it, as a hub that is liked better may be well again. */
static bool is_preferring(const struct wire_error *error)
{
    return error->reason && strcmp(error->reason, UPLINK_PREFERS_OTHER) == 0;
}

static int64_t
choose_wait(struct uplink *uplink, enum uplink_class class, const struct wire_error *error)
{
    struct uplink_pace pace = uplink->options.pace;
    int64_t asked_us =
        (int64_t) (error->retry_after_ms < 86400000 ? error->retry_after_ms : 86400000) * 1000;
    int64_t wait_us;

    if (is_changed(error) || is_preferring(error))
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
static void set_aside(struct stream *stream, const struct wire_error *error)
{
    CLEANUP(buf_deinit) struct buf why = { 0 };

    buf_printf(&why, "%s %s: %s", rpc_code_name(error->code), error->reason ? error->reason : "-",
               error->message);
    if (error->field)
        buf_printf(&why, " (%s: %s)", error->field,
                   error->field_description ? error->field_description : "-");
    log_event(LOG_ERROR, "batch_refused", LOG_S("signal", spool_signal_name(stream->signal)),
              LOG_U("after", stream->acknowledged), LOG_S("reason", error->reason),
              LOG_S("field", error->field), LOG_S("description", error->field_description),
              LOG_S("message", error->message));
    if (spool_refuse(stream->reader, buf_text(&why)) != 0)
        stream->n_failed++; /* a skip, which no hub refuses: not at once again */
}

/* What needs somebody is said once, with what to do, and not again until it changes. */
static void say_end(struct uplink *uplink,
                    enum uplink_class class,
                    const struct wire_error *error,
                    bool is_said,
                    int64_t wait_us)
{
    const char *event =
        uplink->status.state == UPLINK_STREAMING ? "hub_stream_ended" : "hub_unreachable";
    char text[TEXT_DURATION_BYTES];

    text_of_duration_us(wait_us / 1000 * 1000, text);
    if (class == UPLINK_SLOW)
        log_event(is_said ? LOG_DEBUG : LOG_ERROR, event, LOG_S("hub", hub_of(uplink)),
                  LOG_S("code", rpc_code_name(error->code)), LOG_S("reason", error->reason),
                  LOG_S("message", error->message), LOG_S("remedy", uplink_remedy(error)),
                  LOG_S("retry_in", text));
    else
        log_event(is_changed(error) || is_preferring(error) ? LOG_INFO : LOG_WARN, event,
                  LOG_S("hub", hub_of(uplink)), LOG_S("code", rpc_code_name(error->code)),
                  LOG_S("reason", error->reason), LOG_S("message", error->message),
                  LOG_S("retry_in", text));
}

/* Hubs are tried one after the other; when all were, it counts as one failure. */
static int64_t choose_hub(struct uplink *uplink, enum uplink_class class, int64_t wait_us)
{
    int64_t soon_us =
        uplink->options.pace.spread_us < NEXT_HUB_US ? uplink->options.pace.spread_us : NEXT_HUB_US;

    uplink->n_tried++;
    if (class == UPLINK_AGAIN)
        uplink->n_tried = uplink->at = 0;
    if (uplink->n_hubs == 1 || class == UPLINK_AGAIN)
        return wait_us;
    if (uplink->n_tried < uplink->n_hubs) {
        uplink->at = (uplink->at + 1) % uplink->n_hubs;
        return (int64_t) ((double) soon_us * rand_unit(&uplink->rand));
    }
    uplink->n_tried = uplink->at = 0;
    return wait_us;
}

static void
end_attempt(struct uplink *uplink, enum uplink_class class, const struct wire_error *error)
{
    bool is_said = uplink->status.is_slow && uplink->status.error_code == error->code &&
                   strcmp(uplink->status.error_reason, error->reason ? error->reason : "") == 0;
    int64_t wait_us;

    loop_timer_disarm(uplink->options.loop, &uplink->prefer);
    loop_timer_disarm(uplink->options.loop, &uplink->refill);
    if (uplink->n_tried + 1 >= uplink->n_hubs)
        uplink->n_failed++;
    note_error(uplink, error, class == UPLINK_SLOW);
    uplink->status.unacknowledged = 0;
    link_arm(uplink, &uplink->reap, 0);
    if (uplink->options.keeper)
        keeper_on_ended(uplink->options.keeper, uplink->use, error->reason);
    if (uplink->is_draining) {
        finish_drain(uplink);
        return;
    }
    if (is_preferring(error))
        class = UPLINK_AGAIN;
    wait_us = uplink->n_failed ? choose_wait(uplink, class, error) : 0;
    say_end(uplink, class, error, is_said, wait_us);
    set_state(uplink, UPLINK_WAITING);
    wait_us = choose_hub(uplink, class, wait_us);
    uplink->status.next_attempt = (wall_us){ clock_wall().us + wait_us };
    link_arm(uplink, &uplink->attempt, wait_us);
}

/* ---- the end of a stream ---- */

/* The link stays; the stream comes again. */
static void
retry_stream(struct stream *stream, enum uplink_class class, const struct wire_error *error)
{
    struct uplink *uplink = stream->uplink;
    const struct uplink_pace *pace = &uplink->options.pace;
    int64_t asked_us = (int64_t) error->retry_after_ms * 1000;
    int64_t wait_us = 0;

    if (class == UPLINK_SLOW)
        wait_us = uplink_jitter(pace->max_backoff_us, rand_unit(&uplink->rand));
    else if (stream->n_failed > 0)
        wait_us = uplink_backoff(pace, stream->n_failed + 1, rand_unit(&uplink->rand));
    if (wait_us < asked_us)
        wait_us = asked_us;
    if (class != UPLINK_AGAIN) {
        note_error(uplink, error, false);
        log_event(LOG_WARN, "stream_ended", LOG_S("signal", spool_signal_name(stream->signal)),
                  LOG_S("lane", stream->lane == SPOOL_LIVE ? "live" : "backfill"),
                  LOG_S("code", rpc_code_name(error->code)), LOG_S("reason", error->reason),
                  LOG_S("message", error->message), LOG_I("retry_in_ms", wait_us / 1000));
    }
    stream_open_in(stream, wait_us);
}

/* What is wrong with the connection, or with this agent, and not with the stream. */
static bool
is_of_link(const struct stream *stream, enum uplink_class class, const struct wire_error *error)
{
    if (class == UPLINK_POISON || class == UPLINK_FORKED)
        return false;
    if (stream == &stream->uplink->streams[SPOOL_METRICS][SPOOL_LIVE])
        return true;
    return error->code == RPC_UNAVAILABLE || error->code == RPC_UNAUTHENTICATED ||
           error->code == RPC_PERMISSION_DENIED;
}

void link_on_ended(struct stream *stream, const struct wire_error *error)
{
    struct uplink *uplink = stream->uplink;
    enum uplink_class class = uplink_classify(error, stream->is_welcomed);

    if (uplink->status.state == UPLINK_WAITING || uplink->status.state == UPLINK_ENDED)
        return; /* with the link */
    /* The run was closed, or is done; or the stream alone was. */
    if ((error->reason && (strcmp(error->reason, UPLINK_RUN_CHANGED) == 0 ||
                           strcmp(error->reason, UPLINK_RENEWED) == 0)) ||
        (error->code == RPC_OK && stream->lane == SPOOL_BACKFILL))
        class = UPLINK_AGAIN;
    else if (is_of_link(stream, class, error)) {
        end_attempt(uplink, class, error);
        return;
    }
    if (class == UPLINK_POISON && stream_refuse_block(stream))
        log_event(LOG_DEBUG, "block_refused", LOG_U("after", stream->acknowledged));
    else if (class == UPLINK_POISON)
        set_aside(stream, error);
    else if (class == UPLINK_FORKED) {
        log_event(LOG_WARN, "spool_forked", LOG_S("signal", spool_signal_name(stream->signal)),
                  LOG_S("message", error->message));
        spool_fork(stream->reader);
        stream->n_failed++;
    } else if (class != UPLINK_AGAIN)
        stream->n_failed++;
    if (uplink->is_draining) {
        finish_drain(uplink);
        return;
    }
    retry_stream(stream, class, error);
}

/* ---- sending ---- */

bool link_take_bandwidth(struct stream *stream, size_t bytes)
{
    struct uplink *uplink = stream->uplink;
    bool is_backfill = stream->lane == SPOOL_BACKFILL;
    int64_t now_us = clock_mono().us;

    /* What is new goes first: the backlog takes no more than leaves something over. */
    if (uplink_bucket_has(&uplink->bandwidth, now_us, is_backfill ? 0.5 : 0) &&
        (!is_backfill || uplink_bucket_has(&uplink->backfill, now_us, 0))) {
        uplink_bucket_take(&uplink->bandwidth, bytes);
        if (is_backfill)
            uplink_bucket_take(&uplink->backfill, bytes);
        return true;
    }
    if (uplink->refill.slot == 0)
        link_arm(uplink, &uplink->refill, REFILL_US);
    return false;
}

static void end_when_drained(struct uplink *uplink)
{
    struct stream *first = first_stream(uplink);
    int64_t left_us;

    if (!uplink->is_draining || first->is_half_closed)
        return;
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        if (stream_is_open(&uplink->streams[i][SPOOL_LIVE]) &&
            !stream_is_idle(&uplink->streams[i][SPOOL_LIVE]))
            return;
    stream_half_close(first);
    /* Nothing can be lost any more, so not for long, and never beyond the drain's own end. */
    left_us = uplink->drain.due.us - clock_mono().us;
    if (left_us > HALF_CLOSE_TIMEOUT_US)
        link_arm(uplink, &uplink->drain, HALF_CLOSE_TIMEOUT_US);
}

/* The streams beside the first one, where there is something for them. */
static void open_others(struct uplink *uplink)
{
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        for (unsigned k = 0; k < LINK_LANES; k++) {
            struct stream *stream = &uplink->streams[i][k];
            struct spool_ledger ledger;

            if (stream_is_open(stream) || stream->again.slot != 0)
                continue;
            spool_get_ledger(uplink->options.spool, (enum spool_signal) i, &ledger);
            if (k == SPOOL_BACKFILL ? ledger.runs == 0 : ledger.queued_batches == 0)
                continue;
            if (stream_open(stream) < 0)
                stream_open_in(stream, uplink->options.pace.backoff_us);
        }
}

/* What cannot be kept up with is closed, and goes on beside what is new. */
static void leave_behind(struct uplink *uplink)
{
    int64_t behind_us = uplink->options.pace.behind_us;

    for (unsigned i = 0; i < SPOOL_SIGNALS && behind_us > 0; i++) {
        struct stream *stream = &uplink->streams[i][SPOOL_LIVE];

        if (!stream->is_welcomed || stream->is_over || stream->local_reason ||
            spool_live_age_us(uplink->options.spool, (enum spool_signal) i) <= behind_us)
            continue;
        log_event(LOG_WARN, "fell_behind", LOG_S("signal", spool_signal_name(stream->signal)));
        stream_give_up(stream, UPLINK_RUN_CHANGED);
    }
}

static uint64_t count_unacknowledged(const struct uplink *uplink)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        for (unsigned k = 0; k < LINK_LANES; k++)
            if (uplink->streams[i][k].is_welcomed)
                n += uplink->streams[i][k].cursor - uplink->streams[i][k].acknowledged;
    return n;
}

void link_pump(struct uplink *uplink)
{
    if (uplink->status.state != UPLINK_STREAMING)
        return;
    if (!uplink->is_draining) {
        leave_behind(uplink);
        open_others(uplink);
    }
    for (unsigned k = 0; k < LINK_LANES; k++)
        for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
            stream_pump(&uplink->streams[i][k]);
    uplink->status.unacknowledged = count_unacknowledged(uplink);
    end_when_drained(uplink);
}

static void on_refill(struct loop_timer *timer)
{
    link_pump(timer->ctx);
}

void uplink_kick(struct uplink *uplink)
{
    link_pump(uplink);
}

/* ---- what the hub says ---- */

void link_on_acknowledged(struct stream *stream)
{
    struct uplink *uplink = stream->uplink;

    uplink->n_failed = 0;
    uplink->status.last_ack = clock_wall();
    uplink->status.unacknowledged = count_unacknowledged(uplink);
    end_when_drained(uplink);
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
    spool_note_clock(uplink->options.spool, hub_us - uplink->clock.boot_us);
    if (apart_us > OFFSET_WORTH_SAYING_US)
        log_event(LOG_WARN, "clock_off",
                  LOG_S("direction", offset_us > 0 ? "behind the hub" : "ahead of the hub"),
                  LOG_S("offset", text_of_duration_us(apart_us / 1000 * 1000, text)));
}

static void stand(struct uplink *uplink, const struct encoder_response *welcome)
{
    struct uplink_status *status = &uplink->status;
    struct stream *first = first_stream(uplink);
    struct spool_ledger ledger;

    uplink->hub_spread_us = at_most((int64_t) welcome->spread_ms * 1000, UPLINK_MAX_SPREAD_US);
    uplink->n_tried = 0;
    set_state(uplink, UPLINK_STREAMING);
    status->streams++;
    status->next_attempt = (wall_us){ 0 };
    status->is_slow = false;
    snprintf(status->peer, sizeof(status->peer), "%s", rpc_client_call_peer(first->call));
    snprintf(status->hub_version, sizeof(status->hub_version), "%s", welcome->text);
    spool_get_ledger(uplink->options.spool, SPOOL_METRICS, &ledger);
    log_event(LOG_INFO, "hub_connected", LOG_S("hub", hub_of(uplink)), LOG_S("peer", status->peer),
              LOG_S("hub_version", status->hub_version), LOG_U("resume_after", welcome->sequence),
              LOG_U("queued", ledger.queued_batches));
    if (uplink->at > 0) {
        link_arm(uplink, &uplink->prefer, uplink_jitter(uplink->prefer_us, 0.5));
        uplink->prefer_us = at_most(uplink->prefer_us * 2, MAX_PREFER_US);
    }
    uplink->options.on_interval(uplink->options.ctx, (int64_t) welcome->interval_ms * 1000);
    /* The handshake is what takes most memory, and the next one is far. */
    malloc_trim(0);
    lend_channel(uplink, uplink->channel);
}

void link_on_welcome(struct stream *stream, const struct encoder_response *welcome)
{
    struct uplink *uplink = stream->uplink;

    note_clock(uplink, welcome->hub_us);
    if (welcome->log_body_bytes && uplink->options.on_log_limit)
        uplink->options.on_log_limit(uplink->options.ctx, welcome->log_body_bytes);
    if (stream == first_stream(uplink)) {
        if (uplink->options.keeper)
            keeper_on_welcome(uplink->options.keeper, uplink->use, &welcome->hub);
        if (uplink->status.state != UPLINK_STREAMING)
            stand(uplink, welcome);
    }
    link_pump(uplink);
}

/* The first hub may be well again. When it is not, this one is gone to again. */
static void on_prefer(struct loop_timer *timer)
{
    struct uplink *uplink = timer->ctx;

    if (uplink->status.state == UPLINK_STREAMING && !uplink->is_draining &&
        !first_stream(uplink)->local_reason)
        stream_give_up(first_stream(uplink), UPLINK_PREFERS_OTHER);
}

/* ---- an attempt ---- */

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
                            .hub = hub_of(uplink),
                            .server_name = uplink->server_name,
                            .insecure_id = uplink->insecure_id,
                            .is_tls13_only = uplink->options.is_tls13_only,
                            .keepalive_us = keepalive_us,
                        },
                        uplink->insecure_id ? NULL : &identity, ret_why);
    if (r)
        return r < 0 ? pass(r) : r;
    return pass(stream_open(first_stream(uplink)));
}

static void attempt(struct uplink *uplink)
{
    struct tls_why why = { "the agent failed to begin; see its log" };
    int r;

    drop_connection(uplink);
    loop_timer_disarm(uplink->options.loop, &uplink->reap);
    uplink->n_refused_blocks = 0;
    uplink->status.attempts++;
    uplink->status.next_attempt = (wall_us){ 0 };
    uplink->status.peer[0] = '\0';
    set_state(uplink, UPLINK_CONNECTING);

    r = open_call(uplink, &why);
    if (r == 0)
        return;
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

static int copy_hubs(struct uplink *uplink, const struct uplink_options *options)
{
    uplink->hubs = calloc(1 + options->n_more_hubs, sizeof(*uplink->hubs));
    if (!uplink->hubs)
        return fault(-ENOMEM, "no memory for the uplink");
    for (size_t i = 0; i < 1 + options->n_more_hubs; i++) {
        uplink->hubs[i] = strdup(i == 0 ? options->hub : options->more_hubs[i - 1]);
        if (!uplink->hubs[i])
            return fault(-ENOMEM, "no memory for the uplink");
        uplink->n_hubs++;
    }
    return 0;
}

static void apply_pace(struct uplink *uplink, const struct uplink_pace *pace)
{
    uplink->options.pace = *pace;
    uplink_bucket_set(&uplink->bandwidth, pace->bandwidth);
    uplink_bucket_set(&uplink->backfill, pace->backfill_rate);
}

int uplink_new(struct uplink **ret, const struct uplink_options *options)
{
    CLEANUP(uplink_freep) struct uplink *uplink = calloc(1, sizeof(*uplink));
    int r;

    if (!uplink)
        return fault(-ENOMEM, "no memory for the uplink");
    ensure(options->loop && options->spool && options->on_drained && options->on_interval);
    uplink->options = *options;
    uplink->attempt = (struct loop_timer){ .fn = on_attempt, .ctx = uplink };
    uplink->refill = (struct loop_timer){ .fn = on_refill, .ctx = uplink };
    uplink->prefer = (struct loop_timer){ .fn = on_prefer, .ctx = uplink };
    uplink->rest = (struct loop_timer){ .fn = on_rest, .ctx = uplink };
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        for (unsigned k = 0; k < LINK_LANES; k++)
            stream_init(&uplink->streams[i][k], uplink, (enum spool_signal) i, (enum spool_lane) k);
    apply_pace(uplink, &options->pace);
    uplink->prefer_us = options->pace.prefer_us;
    uplink->drain = (struct loop_timer){ .fn = on_drain_timeout, .ctx = uplink };
    uplink->reap = (struct loop_timer){ .fn = on_reap, .ctx = uplink };
    rand_init_from_system(&uplink->rand);
    crypto_random(uplink->instance, sizeof(uplink->instance));
    set_state(uplink, UPLINK_WAITING);

    r = copy_hubs(uplink, options);
    if (r)
        return pass(r);
    uplink->identity = strdup(options->identity);
    uplink->server_name = options->server_name ? strdup(options->server_name) : NULL;
    uplink->insecure_id = options->insecure_id ? strdup(options->insecure_id) : NULL;
    if (!uplink->identity || (options->server_name && !uplink->server_name) ||
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
    loop_timer_disarm(loop, &uplink->drain);
    loop_timer_disarm(loop, &uplink->reap);
    loop_timer_disarm(loop, &uplink->refill);
    loop_timer_disarm(loop, &uplink->prefer);
    loop_timer_disarm(loop, &uplink->rest);
    drop_connection(uplink);
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        for (unsigned k = 0; k < LINK_LANES; k++)
            stream_deinit(&uplink->streams[i][k]);
    encoder_blocks_deinit(&uplink->blocks);
    uplink->queue = rpc_queue_free(uplink->queue);
    for (size_t i = 0; uplink->hubs && i < uplink->n_hubs; i++)
        free(uplink->hubs[i]);
    free(uplink->hubs);
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

    apply_pace(uplink, pace);
    uplink->options.interval_us = interval_us;
    if (uplink->status.state != UPLINK_WAITING || uplink->attempt.slot == 0 ||
        uplink->attempt.due.us - clock_mono().us <= wait_us)
        return;
    uplink->status.next_attempt = (wall_us){ clock_wall().us + wait_us };
    link_arm(uplink, &uplink->attempt, wait_us);
}

void uplink_reconnect(struct uplink *uplink)
{
    if (uplink->is_draining)
        return;
    if (uplink->status.state == UPLINK_WAITING) {
        if (uplink->status.attempts > 0)
            link_arm(uplink, &uplink->attempt, 0);
        return;
    }
    if (stream_is_open(first_stream(uplink)) && !first_stream(uplink)->is_over &&
        !first_stream(uplink)->local_reason)
        stream_give_up(first_stream(uplink), UPLINK_IDENTITY_CHANGED);
}

void uplink_drain(struct uplink *uplink, int64_t timeout_us)
{
    uint64_t n_queued = 0;

    for (unsigned i = 0; i < SPOOL_SIGNALS; i++) {
        struct spool_ledger ledger;

        spool_get_ledger(uplink->options.spool, (enum spool_signal) i, &ledger);
        n_queued += ledger.queued_batches;
    }
    uplink->is_draining = true;
    link_arm(uplink, &uplink->drain, timeout_us);
    if (uplink->status.state == UPLINK_STREAMING) {
        link_pump(uplink);
        return;
    }
    if (n_queued == 0 || uplink->status.is_slow) {
        finish_drain(uplink);
        return;
    }
    if (uplink->status.state == UPLINK_WAITING)
        link_arm(uplink, &uplink->attempt, 0);
}

void uplink_get_status(const struct uplink *uplink, struct uplink_status *ret)
{
    *ret = uplink->status;
    snprintf(ret->hub, sizeof(ret->hub), "%s", hub_of(uplink));
}
