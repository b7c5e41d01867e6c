/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sentinel.telemetry.v1.TelemetryService, StreamLogs. A batch is not unpacked: its records borrow
 * from the message's bytes (common/wire/logs.h says why).
 */

#include <errno.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/front/stream.h"

#define REQUEST_SKIP SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_SKIP
#define REQUEST_HELLO SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_HELLO

/* A batch with what it points to. */
struct decoded {
    struct ingest_batch batch;
    struct ingest_logs logs;
    struct logblock_source source;
};

/* False: the arena has no room. */
static bool attributes_of(struct wire_log_attributes from,
                          size_t n,
                          struct arena *arena,
                          const struct logblock_attribute **ret)
{
    struct logblock_attribute *to;
    struct wire_log_attribute attribute;

    if (n == 0)
        return true;
    to = arena_alloc_array(arena, n, sizeof(*to));
    if (!to)
        return false;
    for (size_t i = 0; i < n; i++) {
        ensure(wire_log_attributes_next(&from, &attribute));
        to[i] = (struct logblock_attribute){ attribute.key, attribute.value };
    }
    *ret = to;
    return true;
}

/* An id of another length is ingest's to refuse. */
static uint8_t copy_id(uint8_t *to, size_t n, struct span from, bool *ret_has)
{
    *ret_has = from.len == n;
    if (*ret_has)
        memcpy(to, from.data, n);
    return (uint8_t) (from.len < UINT8_MAX ? from.len : UINT8_MAX);
}

static bool record_of(const struct wire_log_record *from,
                      struct arena *arena,
                      struct logblock_record *to,
                      struct ingest_log_ids *ids)
{
    to->time_us = from->time_us;
    to->observed_us = from->observed_us;
    to->source_offset = from->source_offset;
    to->severity = from->severity;
    to->is_raw = from->is_raw;
    to->body = from->body;
    to->n_attributes = from->n_attributes;
    if (from->trace_id.len + from->span_id.len > 0) {
        ids->trace_id_bytes =
            copy_id(to->trace_id, sizeof(to->trace_id), from->trace_id, &to->has_trace_id);
        ids->span_id_bytes =
            copy_id(to->span_id, sizeof(to->span_id), from->span_id, &to->has_span_id);
    }
    return attributes_of(from->attributes, from->n_attributes, arena, &to->attributes);
}

static enum front_failure
too_big(struct span bytes, const struct arena *arena, struct front_detail *detail, int *ret_r)
{
    if (!arena->is_exhausted) {
        *ret_r = fault(-ENOMEM, "no memory for a batch of logs of %zu bytes", bytes.len);
        return FAIL_FAULT;
    }
    front_describe(detail, "batch.records",
                   "takes more than the %zu bytes of memory that a message of %zu bytes may take; "
                   "send longer or fewer records",
                   arena->limit_bytes, bytes.len);
    return FAIL_TOO_BIG;
}

static enum front_failure decode_batch(struct span bytes,
                                       struct wire_logs *logs,
                                       struct arena *arena,
                                       struct stream_request *ret,
                                       struct front_detail *detail,
                                       int *ret_r)
{
    struct decoded *decoded = arena_alloc(arena, sizeof(*decoded));
    struct logblock_record *records = arena_alloc_array(arena, logs->n_records, sizeof(*records));
    struct ingest_log_ids *ids = arena_alloc_array(arena, logs->n_records, sizeof(*ids));
    struct wire_log_record record;
    struct wire_problem problem;

    if (!decoded || !records || !ids ||
        !attributes_of(logs->source_attributes, logs->n_source_attributes, arena,
                       &decoded->source.attributes))
        return too_big(bytes, arena, detail, ret_r);
    for (size_t i = 0; i < logs->n_records; i++) {
        *ret_r = wire_logs_next(logs, &record, &problem);
        if (*ret_r != WIRE_OK)
            return front_failure_of_wire(*ret_r, &problem, detail);
        if (!record_of(&record, arena, &records[i], &ids[i]))
            return too_big(bytes, arena, detail, ret_r);
    }
    decoded->source.type = logs->source_type;
    decoded->source.name = logs->source_name;
    decoded->source.n_attributes = logs->n_source_attributes;
    decoded->logs = (struct ingest_logs){
        .source = &decoded->source,
        .records = records,
        .ids = ids,
        .n_records = logs->n_records,
    };
    decoded->batch = (struct ingest_batch){
        .sequence = logs->sequence,
        .crc32c = logs->crc32c,
        .logs = &decoded->logs,
    };
    ret->batch = &decoded->batch;
    ret->is_borrowed = true;
    return FAIL_NOT;
}

/* A hello or a skip: nothing in them is long, or anything but text and numbers. */
static enum front_failure decode_other(struct span bytes,
                                       struct arena *arena,
                                       struct stream_request *ret,
                                       struct front_detail *detail,
                                       int *ret_r)
{
    const Sentinel__Telemetry__V1__StreamLogsRequest *request;
    struct wire_problem problem;
    ProtobufCMessage *message = NULL;
    struct ingest_batch *batch;

    *ret_r = wire_unpack(&sentinel__telemetry__v1__stream_logs_request__descriptor, bytes, arena,
                         &message, &problem);
    if (*ret_r != WIRE_OK)
        return front_failure_of_wire(*ret_r, &problem, detail);
    request = (const void *) message;
    if (request->message_case == REQUEST_HELLO) {
        ret->hello = request->hello;
        return FAIL_NOT;
    }
    if (request->message_case != REQUEST_SKIP)
        return FAIL_MESSAGE_EMPTY;
    batch = arena_alloc(arena, sizeof(*batch));
    if (!batch)
        return too_big(bytes, arena, detail, ret_r);
    *batch = (struct ingest_batch){
        .sequence = request->skip->through_sequence,
        .crc32c = wire_skip_checksum(request->skip->through_sequence, request->skip->records),
        .is_skip = true,
        .skip_reason = (uint32_t) request->skip->reason,
        .skip_records = request->skip->records,
    };
    ret->batch = batch;
    return FAIL_NOT;
}

static enum front_failure decode(struct span bytes,
                                 struct arena *arena,
                                 struct stream_request *ret,
                                 struct front_detail *detail,
                                 int *ret_r)
{
    struct wire_problem problem;
    struct wire_logs logs;

    *ret_r = wire_logs_open(bytes, &logs, &problem);
    if (*ret_r != WIRE_OK)
        return front_failure_of_wire(*ret_r, &problem, detail);
    if (logs.type == WIRE_LOGS_BATCH)
        return decode_batch(bytes, &logs, arena, ret, detail, ret_r);
    return decode_other(bytes, arena, ret, detail, ret_r);
}

static int pack(const struct stream_answer *answer, struct buf *to)
{
    Sentinel__Telemetry__V1__StreamLogsResponse response;

    sentinel__telemetry__v1__stream_logs_response__init(&response);
    if (answer->welcome) {
        response.message_case = SENTINEL__TELEMETRY__V1__STREAM_LOGS_RESPONSE__MESSAGE_WELCOME;
        response.welcome = answer->welcome;
    } else if (answer->ack) {
        response.message_case = SENTINEL__TELEMETRY__V1__STREAM_LOGS_RESPONSE__MESSAGE_ACK;
        response.ack = answer->ack;
    } else {
        response.message_case = SENTINEL__TELEMETRY__V1__STREAM_LOGS_RESPONSE__MESSAGE_THROTTLE;
        response.throttle = answer->throttle;
    }
    return pass(wire_pack(&response.base, to));
}

static const struct stream_kind logs_kind = {
    .signal = STORE_LOGS,
    .name = "logs",
    .decode = decode,
    .pack = pack,
};

static void on_open(struct rpc_call *call)
{
    stream_on_open(call, &logs_kind);
}

const struct rpc_handler svc_telemetry_logs = {
    .on_open = on_open,
    .on_message = stream_on_message,
    .on_half_close = stream_on_half_close,
    .on_writable = stream_on_writable,
    .on_drain = stream_on_drain,
    .on_closed = stream_on_closed,
};
