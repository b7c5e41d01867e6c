/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bench/fleet.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/rand.h"
#include "common/crypto/crypto.h"
#include "common/logblock/logblock.h"
#include "common/tls/tls.h"
#include "common/wire/wire.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#define MIN_WAIT_US INT64_C(100000)
#define MAX_WAIT_US INT64_C(1000000)
#define ARENA_BYTES (256u << 10)

typedef Sentinel__Telemetry__V1__StreamMetricsRequest request_message;
typedef Sentinel__Telemetry__V1__StreamMetricsResponse response_message;

static struct fleet *fleet_of(const struct bench_agent *agent)
{
    return agent->part->fleet;
}

static void arm(struct bench_agent *agent, int64_t delay_us)
{
    if (loop_timer_arm_in(agent->part->loop, &agent->timer, delay_us) < 0)
        fleet_fail(fleet_of(agent), BENCH_FAILED, "out of memory");
}

/* ---- the end ---- */

static void set_state(struct bench_agent *agent, enum agent_state state)
{
    struct part *part = agent->part;

    part->n_opening -= agent->state == AGENT_OPENING;
    part->n_opening += state == AGENT_OPENING;
    if ((agent->state == AGENT_STREAMING) != (state == AGENT_STREAMING))
        atomic_fetch_add(&part->counters.n_streaming, state == AGENT_STREAMING ? 1u : UINT32_MAX);
    if (state == AGENT_DONE && agent->state != AGENT_DONE)
        atomic_fetch_add(&part->counters.n_done, 1);
    agent->state = state;
}

void agent_finish(struct bench_agent *agent)
{
    loop_timer_disarm(agent->part->loop, &agent->timer);
    set_state(agent, AGENT_DONE);
    agent->call = rpc_client_call_unref(agent->call);
}

static void fail(struct bench_agent *agent, int exit_code, const char *why)
{
    fleet_fail(fleet_of(agent), exit_code, "agent bench-%" PRIu32 ": %s", agent->index, why);
    agent_finish(agent);
}

/* ---- out ---- */

static bool may_send_new(struct bench_agent *agent)
{
    const struct load *load = fleet_of(agent)->load;
    uint64_t last_scrape;

    if (fleet_stage(fleet_of(agent)) != FLEET_LOAD || agent->is_used_up)
        return false;
    last_scrape = (agent->sent + 1) * load->batch_scrapes - 1;
    if (load_time_us(load, agent->index, last_scrape) <= fleet_of(agent)->options.last_time_us)
        return true;
    agent->is_used_up = true;
    atomic_fetch_add(&agent->part->counters.n_used_up, 1);
    return false;
}

static bool has_room(const struct bench_agent *agent)
{
    return agent->state == AGENT_STREAMING && !agent->is_throttled && !agent->is_full &&
           !agent->is_half_closed && agent->cursor - agent->acknowledged < agent->window;
}

/* The batch as it goes out in this stream: its first has the declarations, lines are a block. */
static int make_batch(struct bench_agent *agent, uint64_t sequence, struct span *ret)
{
    const struct load *load = fleet_of(agent)->load;
    int r;

    if (agent->sends_blocks) {
        r = lines_block_make(&agent->part->block, load->lines, agent->index, sequence, ret);
        agent->message.body_bytes = agent->part->block.body_bytes;
        return pass(r);
    }
    if (agent->has_declared) {
        *ret = load_message_patch(&agent->message, load, sequence);
        return 0;
    }
    r = load_message_declare(&agent->message, load, sequence, &agent->part->out);
    *ret = buf_span(&agent->part->out);
    return pass(r);
}

/* Returns true when it went out. */
static bool send_batch(struct bench_agent *agent, uint64_t sequence)
{
    struct fleet_counters *counters = &agent->part->counters;
    struct span message;
    int r;

    r = make_batch(agent, sequence, &message);
    if (r == 0)
        r = rpc_client_call_send(agent->call, message);
    if (r < 0)
        fail(agent, BENCH_FAILED, "out of memory");
    agent->is_full = r == RPC_QUEUE_FULL;
    if (r != 0) /* RPC_CLOSED: on_closed is on its way */
        return false;
    agent->has_declared = true;
    agent->cursor = sequence;
    if (sequence > agent->sent) {
        agent->sent = sequence;
        agent->sent_us[sequence % fleet_of(agent)->options.window] = clock_mono().us;
        agent->body_bytes[sequence % fleet_of(agent)->options.window] = agent->message.body_bytes;
    }
    count(&counters->sent, 1);
    count(&counters->sent_bytes, message.len);
    count(&counters->sent_blocks, agent->sends_blocks);
    return true;
}

bool agent_send_new(struct bench_agent *agent)
{
    return has_room(agent) && agent->cursor == agent->sent && may_send_new(agent) &&
           send_batch(agent, agent->sent + 1);
}

void agent_advance(struct bench_agent *agent)
{
    while (has_room(agent) && agent->cursor < agent->sent)
        if (!send_batch(agent, agent->cursor + 1))
            return;
    if (fleet_of(agent)->options.rate == 0)
        while (agent_send_new(agent))
            continue;
    if (agent->state == AGENT_STREAMING && !agent->is_half_closed && agent->cursor == agent->sent &&
        fleet_stage(fleet_of(agent)) == FLEET_FINISH) {
        agent->is_half_closed = true;
        rpc_client_call_half_close(agent->call);
    }
}

/* ---- in ---- */

static void acknowledge(struct bench_agent *agent, uint64_t sequence)
{
    struct fleet *fleet = fleet_of(agent);
    struct fleet_counters *counters = &agent->part->counters;
    uint64_t n_bytes = 0;

    if (atomic_load_explicit(&fleet->shared.is_measuring, memory_order_relaxed)) {
        const int64_t now_us = clock_mono().us;

        for (uint64_t i = agent->acknowledged + 1; i <= sequence; i++)
            histogram_add(&counters->ack_us, now_us - agent->sent_us[i % fleet->options.window], 1);
    }
    for (uint64_t i = agent->acknowledged + 1; i <= sequence; i++)
        n_bytes += agent->body_bytes[i % fleet->options.window];
    count(&counters->acknowledged_bytes, n_bytes);
    count(&counters->acknowledged, sequence - agent->acknowledged);
    agent->acknowledged = sequence;
}

/* An ack of one whose certificate is gone. */
static void count_late(struct bench_agent *agent, uint64_t sequence, int64_t expected_us)
{
    count(&agent->end.n_late_acks, 1);
    for (uint64_t i = agent->acknowledged + 1; i <= sequence; i++) {
        count(&agent->end.late_batches, 1);
        if (agent->sent_us[i % fleet_of(agent)->options.window] >= expected_us)
            count(&agent->end.forbidden_batches, 1);
    }
}

static void on_ack(struct bench_agent *agent, const Sentinel__Telemetry__V1__Ack *ack)
{
    const int64_t expected_us = atomic_load(&agent->end.expected_us);

    if (agent->state != AGENT_STREAMING || ack->sequence > agent->cursor) {
        fail(agent, BENCH_FAILED, "the hub acknowledged what was never sent");
        return;
    }
    atomic_store(&agent->end.last_ack_us, clock_mono().us);
    if (expected_us > 0)
        count_late(agent, ack->sequence, expected_us);
    if (ack->sequence > agent->acknowledged)
        acknowledge(agent, ack->sequence);
    agent_advance(agent);
}

/* A hub that says nothing of blocks, or of others, gets records. */
static bool takes_blocks(const struct fleet *fleet, const Sentinel__Telemetry__V1__Welcome *welcome)
{
    return fleet->load->lines && !fleet->options.sends_records && welcome->limits &&
           welcome->limits->log_block_version == LOGBLOCK_VERSION;
}

static void on_welcome(struct bench_agent *agent, const Sentinel__Telemetry__V1__Welcome *welcome)
{
    const uint32_t limit = welcome->limits ? welcome->limits->unacknowledged_batches : 0;
    struct fleet_counters *counters = &agent->part->counters;
    const uint64_t resume_after = welcome->resume_after_sequence;

    if (agent->state != AGENT_OPENING || resume_after > agent->sent) {
        fail(agent, BENCH_FAILED, "the hub welcomed it with batches that were never sent");
        return;
    }
    if (welcome->lost_last_sequence != 0 || resume_after < agent->acknowledged) {
        count(&counters->lost, agent->acknowledged - resume_after + welcome->lost_last_sequence -
                                   welcome->lost_first_sequence +
                                   (welcome->lost_last_sequence != 0));
        fail(agent, BENCH_FAILED, "the hub lost batches that it had acknowledged");
        return;
    }
    if (resume_after > agent->acknowledged)
        acknowledge(agent, resume_after);
    agent->window = fleet_of(agent)->options.window;
    if (limit > 0 && limit < agent->window)
        agent->window = limit;
    agent->cursor = resume_after;
    agent->sends_blocks = takes_blocks(fleet_of(agent), welcome);
    agent->n_failed = 0;
    set_state(agent, AGENT_STREAMING);
    if (agent->n_streams++ > 0)
        count(&counters->reconnects, 1);
    agent_advance(agent);
}

static void on_throttle(struct bench_agent *agent,
                        const Sentinel__Telemetry__V1__Throttle *throttle)
{
    count(&agent->part->counters.throttles, 1);
    agent->is_throttled = true;
    arm(agent, (int64_t) throttle->retry_after_ms * 1000);
}

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct bench_agent *agent = rpc_client_call_ctx(call);
    ProtobufCMessage *unpacked = NULL;
    const response_message *response;

    if (agent->state == AGENT_DONE)
        return;
    arena_reset(&agent->part->arena, ARENA_BYTES);
    if (wire_unpack(&sentinel__telemetry__v1__stream_metrics_response__descriptor, message,
                    &agent->part->arena, &unpacked, NULL)) {
        fail(agent, BENCH_FAILED, "the hub's answer is unreadable");
        return;
    }
    response = (const void *) unpacked;
    if (response->message_case == SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_ACK)
        on_ack(agent, response->ack);
    else if (response->message_case ==
             SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_WELCOME)
        on_welcome(agent, response->welcome);
    else if (response->message_case ==
             SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_THROTTLE)
        on_throttle(agent, response->throttle);
    if (agent->call)
        rpc_client_call_read(agent->call);
}

static void on_writable(struct rpc_client_call *call)
{
    struct bench_agent *agent = rpc_client_call_ctx(call);

    agent->is_full = false;
    agent_advance(agent);
}

/* ---- ends of streams ---- */

/* Connecting again would bring the same. */
static bool is_refusal(int code)
{
    return code == RPC_INVALID_ARGUMENT || code == RPC_FAILED_PRECONDITION ||
           code == RPC_NOT_FOUND || code == RPC_PERMISSION_DENIED || code == RPC_UNAUTHENTICATED ||
           code == RPC_OUT_OF_RANGE || code == RPC_UNIMPLEMENTED ||
           code == RPC_RESOURCE_EXHAUSTED || code == RPC_DATA_LOSS;
}

static void wait_for_retry(struct bench_agent *agent, uint64_t asked_ms)
{
    const int64_t asked_us = (int64_t) (asked_ms < 60000 ? asked_ms : 60000) * 1000;
    int64_t wait_us = MIN_WAIT_US << (agent->n_failed < 4 ? agent->n_failed : 4);

    if (wait_us > MAX_WAIT_US)
        wait_us = MAX_WAIT_US;
    if (wait_us < asked_us)
        wait_us = asked_us;
    agent->n_failed++;
    set_state(agent, AGENT_WAITING);
    arm(agent, wait_us / 2 + (int64_t) (rand_unit(agent->part->rand) * (double) wait_us / 2));
}

static void say_broken(struct bench_agent *agent,
                       const struct rpc_status *status,
                       const struct wire_error *error)
{
    const bool was_welcomed = agent->n_streams > 0;
    char text[400];

    snprintf(text, sizeof(text), "%s%s %s%s%s%s", was_welcomed ? "its stream broke: " : "",
             rpc_code_name(status->code), status->message, error->field ? ": " : "",
             error->field ? error->field : "",
             error->field_description && *error->field_description ? ": " : "");
    if (error->field_description) {
        size_t len = strlen(text);

        snprintf(text + len, sizeof(text) - len, "%s", error->field_description);
    }
    fail(agent, !was_welcomed && status->code == RPC_UNAVAILABLE ? BENCH_UNAVAILABLE : BENCH_FAILED,
         text);
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct bench_agent *agent = rpc_client_call_ctx(call);
    struct wire_error error = { 0 };
    bool was_opening = agent->state == AGENT_OPENING;

    if (agent->state == AGENT_DONE)
        return;
    loop_timer_disarm(agent->part->loop, &agent->timer);
    agent->call = rpc_client_call_unref(agent->call);
    if (status->code == RPC_OK && agent->is_half_closed && agent->acknowledged == agent->sent) {
        agent_finish(agent);
        return;
    }
    if (status->code == RPC_OK && agent->is_half_closed) {
        fail(agent, BENCH_FAILED, "the hub ended the stream before it had acknowledged everything");
        return;
    }
    if (status->code == RPC_UNAUTHENTICATED && !was_opening) {
        atomic_store(&agent->end.at_us, clock_mono().us);
        /* The stream may hear of it before who asked for it does. */
        if (fleet_of(agent)->options.is_revoked_from) {
            agent_finish(agent);
            return;
        }
    }
    arena_reset(&agent->part->arena, ARENA_BYTES);
    if (status->details.len > 0 && wire_error_unpack(status->details, &agent->part->arena, &error))
        error = (struct wire_error){ 0 };
    if (is_refusal(status->code) && !(was_opening && error.retry_after_ms > 0))
        count(&agent->part->counters.refused, 1);
    if (fleet_stage(fleet_of(agent)) == FLEET_ABORT)
        agent_finish(agent);
    else if ((fleet_of(agent)->options.reconnects && !is_refusal(status->code)) ||
             error.retry_after_ms > 0)
        wait_for_retry(agent, error.retry_after_ms);
    else
        say_broken(agent, status, &error);
}

static const struct rpc_client_handler handler = {
    .on_message = on_message,
    .on_writable = on_writable,
    .on_closed = on_closed,
};

static void on_timer(struct loop_timer *timer)
{
    struct bench_agent *agent = timer->ctx;

    agent->is_throttled = false;
    if (agent->state == AGENT_WAITING)
        set_state(agent, AGENT_IDLE); /* the next tick connects it */
    else
        agent_advance(agent);
}

/* ---- opening ---- */

static int make_hello(struct bench_agent *agent, struct buf *to)
{
    const struct load *load = fleet_of(agent)->load;
    Sentinel__Telemetry__V1__StreamHello hello;
    request_message request;
    static char version[] = "bench " SENTINEL_VERSION;
    uint32_t crc = 0;

    sentinel__telemetry__v1__stream_hello__init(&hello);
    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    if (agent->acknowledged > 0)
        crc = load_message_checksum(&agent->message, load, agent->acknowledged);
    hello.spool_id = (ProtobufCBinaryData){ sizeof(agent->spool), agent->spool };
    hello.instance = hello.spool_id; /* one process, one run */
    hello.first_sequence = agent->acknowledged + 1;
    hello.last_sequence = agent->sent;
    hello.crc32c_before_first = crc;
    hello.time_unix_us = clock_wall().us;
    hello.agent_version = version;
    hello.lane = SENTINEL__TELEMETRY__V1__LANE__LANE_LIVE;
    hello.interval_ms = (uint32_t) (load->interval_us / 1000);
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_HELLO;
    request.hello = &hello;
    buf_clear(to);
    return pass(wire_pack(&request.base, to));
}

void agent_connect(struct bench_agent *agent)
{
    const struct rpc_client_call_options options = {
        .path = load_path(fleet_of(agent)->load),
        .handler = &handler,
        .ctx = agent,
    };
    int r;

    ensure(agent->state == AGENT_IDLE && !agent->call);
    if (fleet_stage(fleet_of(agent)) == FLEET_FINISH && agent->acknowledged == agent->sent) {
        agent_finish(agent);
        return;
    }
    agent->has_declared = false;
    agent->is_full = false;
    agent->is_half_closed = false;
    r = make_hello(agent, &agent->part->out);
    if (r == 0)
        r = rpc_client_call_new(&agent->call, agent->channel, &options);
    if (r == 0) {
        set_state(agent, AGENT_OPENING);
        r = rpc_client_call_send(agent->call, buf_span(&agent->part->out));
    }
    if (r < 0)
        fail(agent, BENCH_FAILED, "out of memory");
    else
        rpc_client_call_read(agent->call);
}

/* ---- life ---- */

/* Outcomes: AGENT_NO_IDENTITY. */
static int load_credentials(struct bench_agent *agent, struct rpc_credentials **ret)
{
    const struct fleet_options *options = &fleet_of(agent)->options;
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct tls_why why = { "" };
    char directory[4200];
    int r;

    snprintf(directory, sizeof(directory), "%s/bench-%" PRIu32, options->identities,
             agent->index % options->n_identities);
    r = tls_identity_load(directory, &identity, &why);
    if (r == 0)
        r = rpc_credentials_new(
            ret, &(struct rpc_credentials_options){ .roots_pem = buf_span(&identity.roots_pem),
                                                    .chain_pem = buf_span(&identity.chain_pem),
                                                    .key_pem = buf_span(&identity.key_pem) });
    if (r <= 0)
        return pass(r);
    fleet_fail(fleet_of(agent), BENCH_FAILED, "no usable identity in %s: %s", directory, why.text);
    return AGENT_NO_IDENTITY;
}

static int make_channel(struct bench_agent *agent)
{
    const struct fleet_options *options = &fleet_of(agent)->options;
    CLEANUP(rpc_credentials_freep) struct rpc_credentials *credentials = NULL;
    char name[32];
    const struct rpc_metadata metadata = { "sentinel-agent", name };
    struct rpc_channel_options channel = {
        .target = options->target,
        .server_name = options->server_name,
        .min_backoff_us = MIN_WAIT_US,
        .max_backoff_us = MAX_WAIT_US,
        .metadata = &metadata,
        .n_metadata = options->identities ? 0 : 1,
    };
    int r;

    snprintf(name, sizeof(name), "bench-%" PRIu32, agent->index % options->n_identities);
    if (options->identities) {
        r = load_credentials(agent, &credentials);
        if (r != 0)
            return r < 0 ? pass(r) : AGENT_NO_IDENTITY;
    }
    channel.credentials = credentials;
    return fold(rpc_channel_new(&agent->channel, agent->part->queue, &channel));
}

int agent_init(struct bench_agent *agent, struct part *part, uint32_t index)
{
    int r;

    *agent = (struct bench_agent){ .part = part, .index = index };
    agent->timer = (struct loop_timer){ .fn = on_timer, .ctx = agent };
    agent->window = part->fleet->options.window;
    agent->sent_us = calloc(agent->window, sizeof(*agent->sent_us));
    agent->body_bytes = calloc(agent->window, sizeof(*agent->body_bytes));
    if (!agent->sent_us || !agent->body_bytes)
        return fault(-ENOMEM, "no memory for an agent");
    crypto_random(agent->spool, sizeof(agent->spool));
    r = load_message_init(&agent->message, part->fleet->load, index);
    return r < 0 ? pass(r) : make_channel(agent);
}

void agent_deinit(struct bench_agent *agent)
{
    if (!agent->part)
        return;
    loop_timer_disarm(agent->part->loop, &agent->timer);
    agent->call = rpc_client_call_unref(agent->call);
    agent->channel = rpc_channel_free(agent->channel);
    load_message_deinit(&agent->message);
    free(agent->sent_us);
    free(agent->body_bytes);
    agent->sent_us = NULL;
    agent->body_bytes = NULL;
}
