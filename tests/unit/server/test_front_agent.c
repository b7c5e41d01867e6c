/* SPDX-License-Identifier: Apache-2.0 */

/* What an agent says on StreamMetrics, for the front's tests. */

#include "test_front_agent.h"

#define BIG_SCRAPES 1000

typedef Sentinel__Telemetry__V1__StreamMetricsRequest request_message;

static uint8_t spool[16] = "spool-of-16-byt";
static uint8_t logs_spool[16] = "spool-of-logs-16";
static uint8_t instance[16] = "instance-of-16b";

void send_hello(struct test_peer *peer, uint64_t first, uint64_t last, uint32_t crc)
{
    Sentinel__Telemetry__V1__Attribute row;
    Sentinel__Telemetry__V1__Attribute *host[] = { &row };
    Sentinel__Telemetry__V1__StreamHello hello;
    request_message request;

    sentinel__telemetry__v1__attribute__init(&row);
    sentinel__telemetry__v1__stream_hello__init(&hello);
    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    row.key = (char[]){ "host.name" };
    row.value = (char[]){ "web" };
    hello.spool_id = (ProtobufCBinaryData){ 16, spool };
    hello.instance = (ProtobufCBinaryData){ 16, instance };
    hello.first_sequence = first;
    hello.last_sequence = last;
    hello.crc32c_before_first = crc;
    hello.time_unix_us = clock_wall().us;
    hello.agent_version = (char[]){ "0.1.0" };
    hello.host = host;
    hello.n_host = 1;
    hello.interval_ms = 10000;
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_HELLO;
    request.hello = &hello;
    peer_send(peer, &request.base);
}

uint32_t send_batch(struct test_peer *peer, uint64_t sequence, double value, bool declares)
{
    Sentinel__Telemetry__V1__Series series, *all_series[] = { &series };
    Sentinel__Telemetry__V1__Layout layout, *layouts[] = { &layout };
    Sentinel__Telemetry__V1__Scrape scrape, *scrapes[] = { &scrape };
    Sentinel__Telemetry__V1__MetricBatch batch;
    request_message request;
    uint32_t ids[] = { 5 };
    uint32_t crc;

    sentinel__telemetry__v1__series__init(&series);
    sentinel__telemetry__v1__layout__init(&layout);
    sentinel__telemetry__v1__scrape__init(&scrape);
    sentinel__telemetry__v1__metric_batch__init(&batch);
    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    series.id = 5;
    series.name = (char[]){ "system.load" };
    series.unit = (char[]){ "1" };
    series.kind = SENTINEL__TELEMETRY__V1__KIND__KIND_GAUGE;
    layout.id = 2;
    layout.series_ids = ids;
    layout.n_series_ids = 1;
    scrape.layout_id = 2;
    scrape.time_unix_us = clock_wall().us;
    scrape.values = &value;
    scrape.n_values = 1;
    batch.sequence = sequence;
    batch.scrapes = scrapes;
    batch.n_scrapes = 1;
    if (declares) {
        batch.series = all_series;
        batch.layouts = layouts;
        batch.n_series = batch.n_layouts = 1;
    }
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_BATCH;
    request.batch = &batch;
    crc = wire_checksum(&request.base);
    peer_send(peer, &request.base);
    return crc;
}

const response_message *received(const struct test_peer *peer, unsigned at)
{
    ck_assert_uint_lt(at, peer->n_received);
    return (const response_message *) (const void *) peer->received[at];
}

uint64_t last_ack(const struct test_peer *peer)
{
    const response_message *last;

    if (peer->n_received < 2)
        return 0;
    last = received(peer, peer->n_received - 1);
    ck_assert_int_eq(last->message_case,
                     SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_ACK);
    return last->ack->sequence;
}

const Sentinel__Telemetry__V1__Welcome *
open_stream(struct test_peer *peer, struct rpc_channel *channel, uint64_t first, uint64_t last)
{
    peer_open(peer, channel, STREAM_METRICS);
    send_hello(peer, first, last, 0);
    hub_until(peer->n_received > 0 || peer->is_closed);
    ck_assert_msg(!peer->is_closed, "%s", peer->reply.message);
    ck_assert_int_eq(received(peer, 0)->message_case,
                     SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_WELCOME);
    return received(peer, 0)->welcome;
}

static Sentinel__Telemetry__V1__Scrape *scrape_of(double value)
{
    static double values[BIG_SCRAPES];
    static Sentinel__Telemetry__V1__Scrape scrapes[BIG_SCRAPES];
    static unsigned next;
    const unsigned at = next++ % BIG_SCRAPES;

    sentinel__telemetry__v1__scrape__init(&scrapes[at]);
    values[at] = value;
    scrapes[at].layout_id = 2;
    scrapes[at].time_unix_us = clock_wall().us;
    scrapes[at].values = &values[at];
    scrapes[at].n_values = 1;
    return &scrapes[at];
}

void send_big_batch(struct test_peer *peer, uint64_t sequence)
{
    Sentinel__Telemetry__V1__Scrape *scrapes[BIG_SCRAPES];
    Sentinel__Telemetry__V1__MetricBatch batch;
    request_message request;

    sentinel__telemetry__v1__metric_batch__init(&batch);
    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    for (unsigned i = 0; i < BIG_SCRAPES; i++)
        scrapes[i] = scrape_of(i);
    batch.sequence = sequence;
    batch.scrapes = scrapes;
    batch.n_scrapes = BIG_SCRAPES;
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_BATCH;
    request.batch = &batch;
    peer_send(peer, &request.base);
}

/* ---- logs ---- */

const logs_response *logs_answer(const struct test_peer *peer, unsigned at)
{
    ck_assert_uint_lt(at, peer->n_received);
    return (const void *) peer->received[at];
}

uint64_t logs_ack(const struct test_peer *peer)
{
    const logs_response *last;

    if (peer->n_received < 2)
        return 0;
    last = logs_answer(peer, peer->n_received - 1);
    ck_assert_int_eq((int) last->message_case,
                     SENTINEL__TELEMETRY__V1__STREAM_LOGS_RESPONSE__MESSAGE_ACK);
    return last->ack->sequence;
}

static void hello_logs(struct test_peer *peer, uint64_t first, uint64_t last, uint32_t crc)
{
    Sentinel__Telemetry__V1__StreamHello hello = SENTINEL__TELEMETRY__V1__STREAM_HELLO__INIT;
    logs_request request = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__INIT;

    hello.spool_id = (ProtobufCBinaryData){ 16, logs_spool };
    hello.instance = (ProtobufCBinaryData){ 16, instance };
    hello.first_sequence = first;
    hello.last_sequence = last;
    hello.crc32c_before_first = crc;
    hello.time_unix_us = clock_wall().us;
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_HELLO;
    request.hello = &hello;
    peer_send(peer, &request.base);
}

const Sentinel__Telemetry__V1__Welcome *
open_logs_behind(struct test_peer *peer, uint64_t sequence, uint32_t crc)
{
    peer_open(peer, hub.agent, STREAM_LOGS);
    hello_logs(peer, sequence + 1, sequence, crc);
    hub_until(peer->n_received > 0 || peer->is_closed);
    return peer->is_closed ? NULL : logs_answer(peer, 0)->welcome;
}

const Sentinel__Telemetry__V1__Welcome *open_logs(struct test_peer *peer)
{
    const Sentinel__Telemetry__V1__Welcome *welcome = open_logs_behind(peer, 0, 0);

    ck_assert_msg(welcome != NULL, "%s", peer->reply.message);
    return welcome;
}

void let_batches_wait(void)
{
    struct ingest_limits limits;

    ingest_get_limits(hub.ingest, &limits);
    limits.unacknowledged_batches = 1;
    ingest_set_limits(hub.ingest, &limits);
}

void send_bytes(struct test_peer *peer, struct span bytes)
{
    ck_assert_int_eq(rpc_client_call_send(peer->call, bytes), 0);
}
