/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.telemetry.v1.TelemetryService, StreamMetrics. */

#include "common/base/fault.h"
#include "server/front/metrics.h"
#include "server/front/stream.h"

#define REQUEST_HELLO SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_HELLO
#define REQUEST_NOT_SET SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE__NOT_SET

static enum front_failure decode(struct span bytes,
                                 struct front_worker *worker,
                                 struct stream_request *ret,
                                 struct front_detail *detail,
                                 int *ret_r)
{
    const Sentinel__Telemetry__V1__StreamMetricsRequest *request;
    struct arena *arena = &worker->arena;
    struct wire_problem problem;
    struct ingest_batch *batch;
    ProtobufCMessage *message = NULL;

    *ret_r = wire_unpack(&sentinel__telemetry__v1__stream_metrics_request__descriptor, bytes, arena,
                         &message, &problem);
    if (*ret_r != WIRE_OK)
        return front_failure_of_wire(*ret_r, &problem, detail);
    request = (const void *) message;
    if (request->message_case == REQUEST_NOT_SET)
        return FAIL_MESSAGE_EMPTY;
    if (request->message_case == REQUEST_HELLO) {
        ret->hello = request->hello;
        return FAIL_NOT;
    }
    batch = arena_alloc(arena, sizeof(*batch));
    if (!batch || !metrics_batch(request, arena, batch)) {
        front_describe(detail, NULL, "%zu bytes", bytes.len);
        return FAIL_TOO_BIG;
    }
    batch->crc32c = wire_checksum(&request->base);
    ret->batch = batch;
    return FAIL_NOT;
}

static int pack(const struct stream_answer *answer, struct buf *to)
{
    Sentinel__Telemetry__V1__StreamMetricsResponse response;

    sentinel__telemetry__v1__stream_metrics_response__init(&response);
    if (answer->welcome) {
        response.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_WELCOME;
        response.welcome = answer->welcome;
    } else if (answer->ack) {
        response.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_ACK;
        response.ack = answer->ack;
    } else {
        response.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_RESPONSE__MESSAGE_THROTTLE;
        response.throttle = answer->throttle;
    }
    return pass(wire_pack(&response.base, to));
}

static const struct stream_kind metrics_kind = {
    .signal = STORE_METRICS,
    .name = "metrics",
    .decode = decode,
    .pack = pack,
};

static void on_open(struct rpc_call *call)
{
    stream_on_open(call, &metrics_kind);
}

const struct rpc_handler svc_telemetry_metrics = {
    .on_open = on_open,
    .on_message = stream_on_message,
    .on_half_close = stream_on_half_close,
    .on_writable = stream_on_writable,
    .on_drain = stream_on_drain,
    .on_closed = stream_on_closed,
};
