/* SPDX-License-Identifier: Apache-2.0 */
#include "test_uplink_hub.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent/uplink/link.h"
#include "common/base/crc32c.h"
#include "common/base/file.h"
#include "common/tls/tls.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

/* ---- the stream ---- */

static void finish(struct rpc_call *call, int code, const char *reason)
{
    struct wire_error error = { .code = code, .message = "told by the test", .reason = reason };
    CLEANUP(buf_deinit) struct buf details = { 0 };

    ck_assert_int_eq(wire_error_pack(&error, &details), 0);
    rpc_call_finish(call, &(struct rpc_status){ .code = code,
                                                .message = error.message,
                                                .details = buf_span(&details) });
}

static void respond(struct rpc_call *call, Sentinel__Telemetry__V1__StreamMetricsResponse *response)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };

    ck_assert_int_eq(wire_pack(&response->base, &bytes), 0);
    (void) !rpc_call_send(call, buf_span(&bytes));
}

static void acknowledge(struct hub *hub, struct rpc_call *call)
{
    Sentinel__Telemetry__V1__StreamMetricsResponse response =
        SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__INIT;
    Sentinel__Telemetry__V1__Ack ack = SENTINEL__TELEMETRY__V1__ACK__INIT;

    ack.sequence = hub->last;
    response.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_ACK;
    response.ack = &ack;
    respond(call, &response);
}

static void welcome(struct hub *hub, struct rpc_call *call, uint64_t resume_after)
{
    Sentinel__Telemetry__V1__StreamMetricsResponse response =
        SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__INIT;
    Sentinel__Telemetry__V1__Welcome message;
    Sentinel__Telemetry__V1__Limits limits = SENTINEL__TELEMETRY__V1__LIMITS__INIT;
    char version[] = "hub-test";

    sentinel__telemetry__v1__welcome__init(&message);
    limits.oldest_s = hub->tells_nothing ? 0 : hub->oldest_s;
    limits.unacknowledged_batches = HUB_WINDOW;
    limits.agent_series = hub->agent_series;
    limits.log_block_version = hub->log_block_version;
    limits.message_bytes = hub->message_bytes;
    message.limits = &limits;
    message.resume_after_sequence = resume_after;
    message.hub_time_unix_us = clock_wall().us + hub->ahead_us;
    message.hub_version = version;
    response.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_WELCOME;
    response.welcome = &message;
    respond(call, &response);
}

static void
on_hello(struct hub *hub, struct rpc_call *call, const Sentinel__Telemetry__V1__StreamHello *hello)
{
    bool is_known;

    if (hub->is_refusing) {
        finish(call, RPC_UNAUTHENTICATED, "CERTIFICATE_REVOKED");
        return;
    }
    if (hello->lane == SENTINEL__TELEMETRY__V1__LANE__LANE_UNSPECIFIED) {
        welcome(hub, call, 0); /* test-connection */
        return;
    }
    pthread_mutex_lock(&hub->lock);
    is_known = memcmp(hub->spool_id, hello->spool_id.data, 16) == 0;
    memcpy(hub->spool_id, hello->spool_id.data, 16);
    pthread_mutex_unlock(&hub->lock);
    if (!is_known)
        hub->last = 0;
    if (hello->first_sequence == hub->last + 1 && hub->last > 0 &&
        hello->crc32c_before_first != hub->crc32c) {
        hub->n_forked++;
        finish(call, RPC_FAILED_PRECONDITION, "SPOOL_FORKED");
        return;
    }
    memset(&hub->told, 0, sizeof(hub->told));
    hub->n_streams++;
    welcome(hub, call, hub->last);
}

/* As server/ingest/declare.c counts. */
static bool is_crowded(struct hub *hub, const Sentinel__Telemetry__V1__MetricBatch *batch)
{
    hub->told.n_series += batch->n_series;
    hub->told.n_layouts += batch->n_layouts;
    for (size_t i = 0; i < batch->n_layouts; i++)
        hub->told.n_members += batch->layouts[i]->n_series_ids;
    return hub->agent_series &&
           (hub->told.n_series > hub->agent_series || hub->told.n_layouts > hub->agent_series ||
            hub->told.n_members > (size_t) 16 * hub->agent_series);
}

/* True: it is the next one. */
static bool check_sequence(struct hub *hub, struct rpc_call *call, uint64_t sequence, bool is_skip)
{
    if (sequence <= hub->last) {
        hub->n_doubles++;
        return false;
    }
    if (!is_skip && sequence != hub->last + 1) {
        finish(call, RPC_INVALID_ARGUMENT, "SEQUENCE_GAP");
        return false;
    }
    return true;
}

static void on_batch(struct hub *hub,
                     struct rpc_call *call,
                     const Sentinel__Telemetry__V1__StreamMetricsRequest *request)
{
    bool is_skip =
        request->message_case == SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_SKIP;
    uint64_t sequence = is_skip ? request->skip->through_sequence : request->batch->sequence;
    double refused = hub->refused_value;
    const int64_t oldest_us = clock_wall().us + hub->ahead_us - (int64_t) hub->oldest_s * 1000000;

    hub->n_messages++;
    if (!check_sequence(hub, call, sequence, is_skip))
        return;
    if (!is_skip && refused != 0 && request->batch->scrapes[0]->values[0] == refused) {
        finish(call, RPC_INVALID_ARGUMENT, "BAD_BATCH");
        return;
    }
    if (!is_skip && hub->oldest_s && request->batch->scrapes[0]->time_unix_us < oldest_us) {
        hub->n_refused_times++;
        finish(call, RPC_INVALID_ARGUMENT, "TIME_OUT_OF_RANGE");
        return;
    }
    if (!is_skip && is_crowded(hub, request->batch)) {
        hub->n_crowded++;
        finish(call, RPC_RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED");
        return;
    }
    if (is_skip) {
        hub->n_skipped++;
        hub->n_skipped_records += request->skip->records;
    } else {
        hub->n_stored++;
        hub->n_declared += (unsigned) request->batch->n_series;
    }
    hub->crc32c = wire_checksum(&request->base);
    hub->last = sequence;
    if (!hub->is_silent)
        acknowledge(hub, call);
}

static void on_message(struct rpc_call *call, struct span message)
{
    struct hub *hub = rpc_call_ctx(call);
    const Sentinel__Telemetry__V1__StreamMetricsRequest *request;
    struct wire_problem problem;
    ProtobufCMessage *unpacked;
    struct arena arena;

    arena_init(&arena, 1u << 20);
    ck_assert_int_eq(wire_unpack(&sentinel__telemetry__v1__stream_metrics_request__descriptor,
                                 message, &arena, &unpacked, &problem),
                     0);
    request = (const Sentinel__Telemetry__V1__StreamMetricsRequest *) (void *) unpacked;
    if (request->message_case == SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_HELLO)
        on_hello(hub, call, request->hello);
    else
        on_batch(hub, call, request);
    arena_deinit(&arena);
    rpc_call_read(call);
}

/* ---- logs: every run is new, and all of it is taken but for a line `bad` ---- */

static void acknowledge_logs(struct rpc_call *call, uint64_t sequence)
{
    Sentinel__Telemetry__V1__StreamMetricsResponse response; /* the same on the wire */
    Sentinel__Telemetry__V1__Ack ack;

    sentinel__telemetry__v1__stream_metrics_response__init(&response);
    sentinel__telemetry__v1__ack__init(&ack);
    ack.sequence = sequence;
    response.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_ACK;
    response.ack = &ack;
    respond(call, &response);
}

static uint32_t add_bytes(uint32_t crc, struct span bytes)
{
    const uint64_t len = bytes.len;

    crc = crc32c(crc, &len, sizeof(len));
    return bytes.len ? crc32c(crc, bytes.data, bytes.len) : crc;
}

uint32_t hub_add_line(uint32_t crc, const struct spool_log_record *record)
{
    const uint64_t numbers[] = { (uint64_t) record->time_us,
                                 (uint64_t) record->observed_us,
                                 record->source_offset,
                                 record->severity,
                                 record->is_raw,
                                 record->n_attributes };

    crc = crc32c(crc, numbers, sizeof(numbers));
    crc = add_bytes(add_bytes(crc, record->trace_id), record->span_id);
    for (size_t i = 0; i < record->n_attributes; i++)
        crc = add_bytes(add_bytes(crc, record->attributes[i].key), record->attributes[i].value);
    return add_bytes(crc, record->body);
}

void hub_line_of_wire(const struct wire_log_record *from,
                      struct spool_log_attribute room[static HUB_ATTRIBUTES],
                      struct spool_log_record *ret)
{
    struct wire_log_attributes attributes = from->attributes;
    struct wire_log_attribute attribute;

    *ret = (struct spool_log_record){ .time_us = from->time_us,
                                      .observed_us = from->observed_us,
                                      .source_offset = from->source_offset,
                                      .severity = from->severity,
                                      .is_raw = from->is_raw,
                                      .body = from->body,
                                      .trace_id = from->trace_id,
                                      .span_id = from->span_id,
                                      .attributes = room };
    while (wire_log_attributes_next(&attributes, &attribute)) {
        ck_assert_uint_lt(ret->n_attributes, HUB_ATTRIBUTES);
        room[ret->n_attributes++] = (struct spool_log_attribute){ attribute.key, attribute.value };
    }
}

void hub_line_of_block(const struct logblock_record *from,
                       struct spool_log_attribute room[static HUB_ATTRIBUTES],
                       struct spool_log_record *ret)
{
    *ret = (struct spool_log_record){
        .time_us = from->time_us,
        .observed_us = from->observed_us,
        .source_offset = from->source_offset,
        .severity = from->severity,
        .is_raw = from->is_raw,
        .body = from->body,
        .trace_id = span_of(from->trace_id, from->has_trace_id ? sizeof(from->trace_id) : 0),
        .span_id = span_of(from->span_id, from->has_span_id ? sizeof(from->span_id) : 0),
        .attributes = room,
        .n_attributes = from->n_attributes,
    };
    ck_assert_uint_le(from->n_attributes, HUB_ATTRIBUTES);
    for (size_t i = 0; i < from->n_attributes; i++)
        room[i] =
            (struct spool_log_attribute){ from->attributes[i].key, from->attributes[i].value };
}

void hub_read_block(struct span block, struct arena *arena, struct logblock_sent *ret)
{
    CLEANUP(logblock_room_freep) struct logblock_room *room = logblock_room_new();
    uint64_t arena_bytes, raw_bytes;

    ck_assert_ptr_nonnull(room);
    ck_assert(logblock_sent_bytes(block, &arena_bytes, &raw_bytes));
    arena_init(arena, arena_bytes);
    ck_assert_int_eq(logblock_read_sent(block, room, arena, ret), LOGBLOCK_OK);
}

/* False: it is one that is refused. */
static bool add_line(uint32_t *crc, const struct spool_log_record *record)
{
    *crc = hub_add_line(*crc, record);
    return !span_equal(record->body, span_of_text("bad"));
}

static bool add_records(struct wire_logs *logs, uint32_t *crc)
{
    struct spool_log_attribute room[HUB_ATTRIBUTES];
    struct spool_log_record line;
    struct wire_log_record record;
    struct wire_problem problem;

    for (size_t i = 0; i < logs->n_records; i++) {
        ck_assert_int_eq(wire_logs_next(logs, &record, &problem), 0);
        hub_line_of_wire(&record, room, &line);
        if (!add_line(crc, &line))
            return false;
    }
    return true;
}

static bool add_block(struct span block, uint32_t *crc, size_t *ret_n)
{
    struct spool_log_attribute room[HUB_ATTRIBUTES];
    struct logblock_sent sent;
    struct spool_log_record line;
    struct arena arena;
    bool is_good = true;

    hub_read_block(block, &arena, &sent);
    for (size_t i = 0; i < sent.n_records && is_good; i++) {
        hub_line_of_block(&sent.records[i], room, &line);
        is_good = add_line(crc, &line);
    }
    *ret_n = sent.n_records;
    arena_deinit(&arena);
    return is_good;
}

static void on_lines(struct hub *hub, struct rpc_call *call, struct wire_logs *logs)
{
    bool is_block = logs->block.data != NULL;
    uint32_t crc = hub->lines_crc32c;
    size_t n = logs->n_records;

    ck_assert(!is_block || (n == 0 && hub->log_block_version == LOGBLOCK_VERSION));
    if (is_block && hub->is_refusing_blocks) {
        hub->n_refused_blocks++;
        finish(call, RPC_INVALID_ARGUMENT, "BAD_BATCH");
        return;
    }
    if (is_block ? !add_block(logs->block, &crc, &n) : !add_records(logs, &crc)) {
        hub->n_refused_lines++;
        finish(call, RPC_INVALID_ARGUMENT, "BAD_BATCH");
        return;
    }
    if (logs->sequence <= hub->logs_last)
        return; /* it was taken before it was refused */
    hub->n_blocks += is_block;
    hub->n_lines += (unsigned) n;
    hub->lines_crc32c = crc;
    hub->logs_last = logs->sequence;
    acknowledge_logs(call, logs->sequence);
}

static void on_logs_message(struct rpc_call *call, struct span message)
{
    struct hub *hub = rpc_call_ctx(call);
    const Sentinel__Telemetry__V1__StreamLogsRequest *request;
    struct wire_problem problem;
    ProtobufCMessage *unpacked;
    struct wire_logs logs;
    struct arena arena;

    arena_init(&arena, 1u << 20);
    ck_assert_int_eq(wire_logs_open(message, &logs, &problem), 0);
    if (logs.type == WIRE_LOGS_BATCH) {
        on_lines(hub, call, &logs);
    } else {
        ck_assert_int_eq(wire_unpack(&sentinel__telemetry__v1__stream_logs_request__descriptor,
                                     message, &arena, &unpacked, &problem),
                         0);
        request = (const Sentinel__Telemetry__V1__StreamLogsRequest *) (void *) unpacked;
        if (logs.type == WIRE_LOGS_HELLO) {
            ck_assert_uint_eq(request->hello->n_host, 0);
            welcome(hub, call, hub->logs_last);
        } else {
            hub->n_skipped++;
            hub->logs_last = request->skip->through_sequence;
            acknowledge_logs(call, hub->logs_last);
        }
    }
    arena_deinit(&arena);
    rpc_call_read(call);
}

static void keep(struct hub *hub, struct rpc_call *call)
{
    pthread_mutex_lock(&hub->lock);
    (void) rpc_call_unref(hub->call);
    hub->call = call ? rpc_call_ref(call) : NULL;
    pthread_mutex_unlock(&hub->lock);
}

static void on_open(struct rpc_call *call)
{
    keep(rpc_call_ctx(call), call);
    rpc_call_read(call);
}

static void on_half_close(struct rpc_call *call)
{
    rpc_call_finish(call, &(struct rpc_status){ .code = RPC_OK });
}

static void on_drain(struct rpc_call *call)
{
    finish(call, RPC_UNAVAILABLE, "HUB_STOPPING");
}

static void on_closed(struct rpc_call *call, bool was_cancelled)
{
    (void) call;
    (void) was_cancelled;
}

static const struct rpc_handler handler = {
    .on_open = on_open,
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_drain = on_drain,
    .on_closed = on_closed,
};

static void on_logs_open(struct rpc_call *call)
{
    rpc_call_read(call);
}

static const struct rpc_handler logs_handler = {
    .on_open = on_logs_open,
    .on_message = on_logs_message,
    .on_half_close = on_half_close,
    .on_drain = on_drain,
    .on_closed = on_closed,
};

static const struct rpc_handler *route(void *ctx, const char *path, const void **ret_method)
{
    (void) ctx;
    *ret_method = NULL;
    if (strcmp(path, "/sentinel.telemetry.v1.TelemetryService/StreamLogs") == 0)
        return &logs_handler;
    return strcmp(path, "/sentinel.telemetry.v1.TelemetryService/StreamMetrics") == 0 ? &handler
                                                                                      : NULL;
}

/* ---- what a test asks of it, on the call's thread ---- */

struct order {
    struct rpc_post post;
    struct rpc_call *call;
    uint32_t throttle_ms;
};

static void obey(struct rpc_post *post)
{
    struct order *order = container_of(post, struct order, post);
    Sentinel__Telemetry__V1__StreamMetricsResponse response =
        SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__INIT;
    Sentinel__Telemetry__V1__Throttle throttle;
    struct hub *hub = rpc_call_ctx(order->call);

    sentinel__telemetry__v1__throttle__init(&throttle);
    if (order->throttle_ms) {
        throttle.retry_after_ms = order->throttle_ms;
        response.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_THROTTLE;
        response.throttle = &throttle;
        respond(order->call, &response);
        hub->has_throttled = true;
    } else {
        acknowledge(hub, order->call);
    }
    (void) rpc_call_unref(order->call);
    free(order);
}

static void give_order(struct hub *hub, uint32_t throttle_ms)
{
    struct order *order = calloc(1, sizeof(*order));

    pthread_mutex_lock(&hub->lock);
    if (hub->call) {
        *order = (struct order){ .post = { .fn = obey },
                                 .call = rpc_call_ref(hub->call),
                                 .throttle_ms = throttle_ms };
        rpc_call_post(hub->call, &order->post);
    } else {
        free(order);
    }
    pthread_mutex_unlock(&hub->lock);
}

void hub_set_silent(struct hub *hub, bool is_silent)
{
    hub->is_silent = is_silent;
    if (!is_silent)
        give_order(hub, 0);
}

void hub_throttle(struct hub *hub, uint32_t retry_after_ms)
{
    give_order(hub, retry_after_ms);
}

void hub_forge(struct hub *hub)
{
    hub->crc32c ^= 1u;
}

/* ---- life ---- */

static void listen_on(struct hub *hub, uint16_t port)
{
    char address[32];

    snprintf(address, sizeof(address), "127.0.0.1:%u", (unsigned) port);
    ck_assert_int_eq(rpc_server_new(&hub->server,
                                    &(struct rpc_server_options){
                                        .address = address,
                                        .credentials = hub->credentials,
                                        .n_threads = 1,
                                        .max_message_bytes = 4u << 20,
                                        .max_streams_per_connection = 100,
                                        .send_queue_bytes = 1u << 20,
                                        .min_ping_interval_us = 10000000,
                                        .route = route,
                                        .ctx = hub,
                                    }),
                     0);
    ck_assert_int_eq(rpc_server_start(hub->server), 0);
    hub->port = rpc_server_port(hub->server);
}

static struct tls_cert *issue(const char *name,
                              enum tls_profile profile,
                              const struct tls_key *key,
                              const struct tls_cert *issuer,
                              const struct tls_key *issuer_key)
{
    static const char *const names[] = { "localhost", "127.0.0.1", NULL };
    struct tls_cert *cert;
    struct tls_request request = {
        .profile = profile,
        .common_name = name,
        .names = profile == TLS_SERVER ? names : NULL,
        .not_before = { clock_wall().us - INT64_C(3600000000) },
        .not_after = { clock_wall().us + INT64_C(86400000000) * 30 },
    };

    ck_assert_int_eq(tls_cert_issue(&cert, &request, key, issuer, issuer_key), 0);
    return cert;
}

/* A CA, the hub's credentials, and an identity directory for the agent. */
static void make_certificates(struct hub *hub)
{
    CLEANUP(tls_key_freep) struct tls_key *ca_key = NULL, *hub_key = NULL, *agent_key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *ca = NULL, *hub_cert = NULL, *agent_cert = NULL;
    CLEANUP(tls_identity_deinit) struct tls_identity agent = { 0 };
    CLEANUP(buf_deinit) struct buf chain = { 0 }, key = { 0 };
    struct tls_why why;

    ck_assert_int_eq(tls_key_new(&ca_key) | tls_key_new(&hub_key) | tls_key_new(&agent_key), 0);
    ca = issue("Test CA", TLS_ROOT, ca_key, NULL, ca_key);
    hub_cert = issue("hub", TLS_SERVER, hub_key, ca, ca_key);
    agent_cert = issue("web-1", TLS_CLIENT, agent_key, ca, ca_key);
    ck_assert_int_eq(tls_cert_print(ca, &agent.roots_pem), 0);
    ck_assert_int_eq(tls_cert_print(agent_cert, &agent.chain_pem), 0);
    ck_assert_int_eq(tls_key_print(agent_key, &agent.key_pem), 0);
    ck_assert_int_eq(tls_cert_print(hub_cert, &chain), 0);
    ck_assert_int_eq(tls_key_print(hub_key, &key), 0);
    ck_assert_int_eq(tls_identity_save(hub->directory, &agent, &why), 0);
    ck_assert_int_eq(rpc_credentials_new(&hub->credentials,
                                         &(struct rpc_credentials_options){
                                             .is_server = true,
                                             .roots_pem = buf_span(&agent.roots_pem),
                                             .chain_pem = buf_span(&chain),
                                             .key_pem = buf_span(&key),
                                         }),
                     0);
}

static void on_interval(void *ctx, int64_t interval_us)
{
    (void) ctx;
    (void) interval_us;
}

static void on_drained(void *ctx)
{
    struct hub *hub = ctx;

    hub->is_drained = true;
}

void hub_start(struct hub *hub)
{
    memset(hub, 0, sizeof(*hub));
    pthread_mutex_init(&hub->lock, NULL);
    snprintf(hub->directory, sizeof(hub->directory), "/tmp/sentinel-uplink-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(hub->directory));
    make_certificates(hub);
    listen_on(hub, 0);
    ck_assert_int_eq(loop_new(&hub->loop), 0);
    hub->layout = hub_layout(1);
    snprintf(hub->target, sizeof(hub->target), "127.0.0.1:%u", (unsigned) hub->port);
    hub->options = (struct uplink_options){
        .loop = hub->loop,
        .hub = hub->target,
        .identity = hub->directory,
        .interval_us = 10000000,
        .pace = { .spread_us = 20000,
                  .backoff_us = 50000,
                  .max_backoff_us = 900000000,
                  .keepalive_us = 30000000,
                  .compresses_logs = true },
        .host = &hub->host,
        .on_interval = on_interval,
        .on_drained = on_drained,
        .ctx = hub,
    };
}

void hub_restart(struct hub *hub)
{
    keep(hub, NULL);
    hub->server = rpc_server_free(hub->server);
    hub->is_silent = false;
    listen_on(hub, hub->port);
}

void hub_stop(struct hub *hub)
{
    keep(hub, NULL);
    hub->server = rpc_server_free(hub->server);
    hub->credentials = rpc_credentials_free(hub->credentials);
    hub->loop = loop_free(hub->loop);
    hub->layout = spool_layout_unref(hub->layout);
    ck_assert_int_eq(file_remove_tree(hub->directory), 0);
    pthread_mutex_destroy(&hub->lock);
}

struct uplink *hub_uplink(struct hub *hub, struct spool *spool)
{
    struct uplink *uplink;

    hub->options.spool = spool;
    ck_assert_int_eq(uplink_new(&uplink, &hub->options), 0);
    return uplink;
}

struct spool_layout *hub_layout(uint32_t n_series)
{
    struct spool_series *series[16];
    struct spool_layout *layout;

    ck_assert_uint_le(n_series, 16);
    for (uint32_t i = 0; i < n_series; i++) {
        char number[16], key[64];
        struct spool_attribute attributes[] = { { "number", number }, { NULL, NULL } };
        size_t len;

        snprintf(number, sizeof(number), "%u", (unsigned) i);
        len = spool_series_key("test.series", attributes, key, sizeof(key));
        ck_assert_int_eq(
            spool_series_new(&series[i], 100 + i, SPOOL_COUNTER, "By", span_of(key, len)), 0);
    }
    ck_assert_int_eq(spool_layout_new(&layout, 5, series, n_series), 0);
    for (uint32_t i = 0; i < n_series; i++)
        (void) spool_series_unref(series[i]);
    return layout;
}

/* ---- what is sent to it ---- */

void hub_start_rpc(void)
{
    ck_assert_int_eq(rpc_init(), 0);
}

void hub_open_spool(struct spool **ret)
{
    struct spool_options options = { 0 }; /* in memory */

    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        options.limits[i].limit_bytes = 1u << 20;
    ck_assert_int_eq(spool_open(ret, &options), 0);
}

void hub_put_records(struct uplink *uplink, const struct spool_log_record *records, size_t n)
{
    ck_assert_int_eq(spool_put_logs(uplink->options.spool,
                                    &(struct spool_logs){ .source = { .type = span_of_text("file"),
                                                                      .name = span_of_text("/a") },
                                                          .records = records,
                                                          .n_records = n,
                                                          .time = clock_wall() }),
                     0);
    uplink_kick(uplink);
}

void hub_put_lines(struct uplink *uplink, const char *const *bodies, size_t n)
{
    struct spool_log_record records[16] = { { 0 } };

    for (size_t i = 0; i < n; i++)
        records[i] = (struct spool_log_record){ .time_us = clock_wall().us,
                                                .body = span_of_text(bodies[i]) };
    hub_put_records(uplink, records, n);
}
