#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What an agent says on StreamMetrics and StreamLogs, for the front's tests. */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include "test_front_rig.h"

#define STREAM_METRICS "/sentinel.telemetry.v1.TelemetryService/StreamMetrics"

#define STREAM_LOGS "/sentinel.telemetry.v1.TelemetryService/StreamLogs"

typedef Sentinel__Telemetry__V1__StreamMetricsResponse response_message;
typedef Sentinel__Telemetry__V1__StreamLogsRequest logs_request;
typedef Sentinel__Telemetry__V1__StreamLogsResponse logs_response;

void send_hello(struct test_peer *peer, uint64_t first, uint64_t last, uint32_t crc);
/* One scrape of one gauge; the first batch declares it. The answer is the request's checksum. */
uint32_t send_batch(struct test_peer *peer, uint64_t sequence, double value, bool declares);
/* A thousand scrapes of what is declared: some 40 KB in the journal. */
void send_big_batch(struct test_peer *peer, uint64_t sequence);
const response_message *received(const struct test_peer *peer, unsigned at);
/* 0: none. What came last must be an ack. */
uint64_t last_ack(const struct test_peer *peer);
const Sentinel__Telemetry__V1__Welcome *
open_stream(struct test_peer *peer, struct rpc_channel *channel, uint64_t first, uint64_t last);

/* ---- logs ---- */

/* Opens a stream of logs, with batches from 1 on. */
const Sentinel__Telemetry__V1__Welcome *open_logs(struct test_peer *peer);
/* Of a run whose last batch, of that checksum, was this one. NULL: it was closed. */
const Sentinel__Telemetry__V1__Welcome *
open_logs_behind(struct test_peer *peer, uint64_t sequence, uint32_t crc);
const logs_response *logs_answer(const struct test_peer *peer, unsigned at);
/* 0: none. What came last must be an ack. */
uint64_t logs_ack(const struct test_peer *peer);
void send_bytes(struct test_peer *peer, struct span bytes);
/* Of a stream one batch is under way, and the others wait as they came: they are not looked at. */
void let_batches_wait(void);
