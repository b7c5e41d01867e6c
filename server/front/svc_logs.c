/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sentinel.telemetry.v1.TelemetryService, StreamLogs. A batch is not unpacked: its records borrow
 * from the message's bytes (common/wire/logs.h says why).
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/front/stream.h"

#define REQUEST_SKIP SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_SKIP
#define REQUEST_HELLO SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_HELLO

/* A batch with what it points to. */
struct decoded {
    struct ingest_batch batch;
    struct ingest_logs logs;
    struct logblock_source source;
    struct logblock_sent sent;
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

static enum front_failure too_big(struct span bytes,
                                  const struct arena *arena,
                                  const char *field,
                                  struct front_detail *detail,
                                  int *ret_r)
{
    if (!arena->is_exhausted) {
        *ret_r = fault(-ENOMEM, "no memory for a batch of logs of %zu bytes", bytes.len);
        return FAIL_FAULT;
    }
    front_describe(detail, field,
                   "takes more than the %zu bytes of memory that a message of %zu bytes may take; "
                   "send longer or fewer records",
                   arena->limit_bytes, bytes.len);
    return FAIL_TOO_BIG;
}

static enum front_failure read_records(struct span bytes,
                                       struct wire_logs *logs,
                                       struct arena *arena,
                                       struct decoded *decoded,
                                       struct front_detail *detail,
                                       int *ret_r)
{
    struct logblock_record *records = arena_alloc_array(arena, logs->n_records, sizeof(*records));
    struct ingest_log_ids *ids = arena_alloc_array(arena, logs->n_records, sizeof(*ids));
    struct wire_log_record record;
    struct wire_problem problem;

    if (!records || !ids)
        return too_big(bytes, arena, "batch.records", detail, ret_r);
    for (size_t i = 0; i < logs->n_records; i++) {
        *ret_r = wire_logs_next(logs, &record, &problem);
        if (*ret_r != WIRE_OK)
            return front_failure_of_wire(*ret_r, &problem, detail);
        if (!record_of(&record, arena, &records[i], &ids[i]))
            return too_big(bytes, arena, "batch.records", detail, ret_r);
    }
    decoded->logs.records = records;
    decoded->logs.ids = ids;
    decoded->logs.n_records = logs->n_records;
    return FAIL_NOT;
}

/* ---- a batch that came as a block ---- */

/* Records of the same attributes share them, and new ones lie behind all before. Names have no NUL.
 */
static bool check_block_attributes(const struct logblock_record *records,
                                   size_t n_records,
                                   struct wire_problem *problem)
{
    const struct logblock_attribute *last = NULL;

    for (size_t i = 0; i < n_records; i++) {
        const struct logblock_record *record = &records[i];

        if (record->n_attributes == 0 || (last && record->attributes <= last))
            continue;
        last = record->attributes;
        for (size_t k = 0; k < record->n_attributes; k++) {
            const struct span key = last[k].key, value = last[k].value;
            const bool is_key_good =
                text_is_utf8(key.data, key.len) && (key.len == 0 || !memchr(key.data, 0, key.len));

            if (is_key_good && text_is_utf8(value.data, value.len))
                continue;
            (void) snprintf(problem->field, sizeof(problem->field),
                            "batch.records[%zu].attributes[%zu].%s", i, k,
                            is_key_good ? "value" : "key");
            (void) snprintf(problem->description, sizeof(problem->description), "not UTF-8%s",
                            is_key_good ? "" : " without NUL");
            return false;
        }
    }
    return true;
}

/* What stands between bodies is ASCII: when all of it is UTF-8, so is each. */
static bool check_block_bodies(const struct logblock_sent *sent, struct wire_problem *problem)
{
    if (!sent->has_lengths && text_is_utf8(sent->bodies.data, sent->bodies.len))
        return true;
    for (size_t i = 0; i < sent->n_records; i++) {
        const struct logblock_record *record = &sent->records[i];

        if (record->is_raw || text_is_utf8(record->body.data, record->body.len))
            continue;
        (void) snprintf(problem->field, sizeof(problem->field), "batch.records[%zu].text", i);
        (void) snprintf(problem->description, sizeof(problem->description),
                        "a text that is not UTF-8; a line that is no text is marked as raw");
        return false;
    }
    return true;
}

static enum front_failure bad_block(const char *description, struct front_detail *detail)
{
    struct wire_problem problem = { .field = "batch.block" };

    (void) snprintf(problem.description, sizeof(problem.description), "%s", description);
    return front_failure_of_wire(WIRE_MALFORMED, &problem, detail);
}

static enum front_failure read_block(struct span bytes,
                                     struct wire_logs *logs,
                                     struct front_worker *worker,
                                     struct decoded *decoded,
                                     struct front_detail *detail,
                                     int *ret_r)
{
    struct logblock_sent *sent = &decoded->sent;
    struct wire_problem problem;
    int r;

    if (logs->n_records > 0)
        return bad_block("records stand beside it; a batch has one of the two", detail);
    if (!worker->room)
        worker->room = logblock_room_new();
    r = worker->room ? logblock_read_sent(logs->block, worker->room, &worker->arena, sent)
                     : fault(-ENOMEM, "no memory for a batch of logs");
    if (r < 0 && worker->arena.is_exhausted)
        return too_big(bytes, &worker->arena, "batch.block", detail, ret_r);
    *ret_r = r;
    if (r < 0)
        return FAIL_FAULT;
    if (r > 0)
        return bad_block("damaged, cut, or not as limits.log_block_version says; send `records`",
                         detail);
    if (!check_block_bodies(sent, &problem) ||
        !check_block_attributes(sent->records, sent->n_records, &problem))
        return front_failure_of_wire(WIRE_BAD_TEXT, &problem, detail);
    for (size_t i = 0; i < sent->n_records; i++)
        logs->crc32c =
            wire_logs_checksum_add(logs->crc32c, sent->records[i].severity, sent->records[i].body);
    decoded->logs.records = sent->records;
    decoded->logs.n_records = sent->n_records;
    decoded->logs.sent = sent;
    return FAIL_NOT;
}

static uint64_t more_bytes(struct span bytes, uint64_t *ret_decoded)
{
    uint64_t arena_bytes, raw_bytes;
    struct span block;

    if (!wire_logs_find_block(bytes, &block) ||
        !logblock_sent_bytes(block, &arena_bytes, &raw_bytes))
        return 0;
    *ret_decoded = raw_bytes;
    return arena_bytes;
}

/* ---- requests ---- */

static enum front_failure decode_batch(struct span bytes,
                                       struct wire_logs *logs,
                                       struct front_worker *worker,
                                       struct stream_request *ret,
                                       struct front_detail *detail,
                                       int *ret_r)
{
    struct arena *arena = &worker->arena;
    struct decoded *decoded = arena_alloc(arena, sizeof(*decoded));
    enum front_failure failure;

    if (!decoded || !attributes_of(logs->source_attributes, logs->n_source_attributes, arena,
                                   &decoded->source.attributes))
        return too_big(bytes, arena, "batch.records", detail, ret_r);
    failure = logs->block.data ? read_block(bytes, logs, worker, decoded, detail, ret_r)
                               : read_records(bytes, logs, arena, decoded, detail, ret_r);
    if (failure != FAIL_NOT)
        return failure;
    decoded->source.type = logs->source_type;
    decoded->source.name = logs->source_name;
    decoded->source.n_attributes = logs->n_source_attributes;
    decoded->logs.source = &decoded->source;
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
        return too_big(bytes, arena, "batch.records", detail, ret_r);
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
                                 struct front_worker *worker,
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
        return decode_batch(bytes, &logs, worker, ret, detail, ret_r);
    return decode_other(bytes, &worker->arena, ret, detail, ret_r);
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
    .more_bytes = more_bytes,
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
