/* SPDX-License-Identifier: Apache-2.0 */

/* A batch of logs against the rules. */

#include "common/base/ensure.h"
#include "common/base/text.h"
#include "server/ingest/stream.h"

#define SEVERITY_MAX 24u /* OpenTelemetry's FATAL4 */
#define TRACE_ID_BYTES 16
#define SPAN_ID_BYTES 8
/*
 * Of a batch in the journal, where each pack has the source anew and is of one day. What comes in a
 * message with a source of usual length takes less than half of it, whatever the order of its
 * records; a long source and days in turns would take gigabytes.
 */
#define PACKED_BYTES_MAX ((size_t) 32 << 20)

/* `where` is what has the attributes. */
static int check_attributes(const struct ingest_limits *limits,
                            const struct logblock_attribute *attributes,
                            size_t n,
                            const char *where,
                            struct ingest_problem *problem)
{
    if (n > limits->log_attributes) {
        problem_field(problem, "%s.attributes", where);
        problem_say(problem, "%zu attributes, at most %u (log_attributes)", n,
                    limits->log_attributes);
        return INGEST_BAD_BATCH;
    }
    for (size_t i = 0; i < n; i++) {
        const struct span key = attributes[i].key, value = attributes[i].value;

        if (key.len == 0 || key.len > limits->name_bytes) {
            problem_field(problem, "%s.attributes[%zu].key", where, i);
            problem_say(problem, "%zu bytes; a key is 1 to %u bytes of UTF-8 (name_bytes)", key.len,
                        limits->name_bytes);
            return INGEST_BAD_BATCH;
        }
        if (value.len > limits->attribute_bytes) {
            problem_field(problem, "%s.attributes[%zu].value", where, i);
            problem_say(problem,
                        "%zu bytes; a value is at most %u bytes of UTF-8 (attribute_bytes)",
                        value.len, limits->attribute_bytes);
            return INGEST_BAD_BATCH;
        }
        for (size_t j = 0; j < i; j++) {
            if (!span_equal(key, attributes[j].key))
                continue;
            problem_field(problem, "%s.attributes[%zu].key", where, i);
            problem_say(problem, "attribute %zu has this key too; each key at most once", j);
            return INGEST_BAD_BATCH;
        }
    }
    return INGEST_OK;
}

static int check_source(const struct ingest_limits *limits,
                        const struct logblock_source *source,
                        struct ingest_problem *problem)
{
    if (source->type.len == 0 || source->type.len > INGEST_SOURCE_TYPE_BYTES) {
        problem_field(problem, "batch.source.type");
        problem_say(problem,
                    "%zu bytes; the type of a source is 1 to %d bytes of UTF-8, such as file or "
                    "journald",
                    source->type.len, INGEST_SOURCE_TYPE_BYTES);
        return INGEST_BAD_BATCH;
    }
    if (source->name.len > INGEST_SOURCE_NAME_BYTES) {
        problem_field(problem, "batch.source.name");
        problem_say(problem, "%zu bytes; the name of a source is at most %d bytes of UTF-8",
                    source->name.len, INGEST_SOURCE_NAME_BYTES);
        return INGEST_BAD_BATCH;
    }
    return check_attributes(limits, source->attributes, source->n_attributes, "batch.source",
                            problem);
}

static int check_ids(const struct ingest_log_ids *ids, size_t at, struct ingest_problem *problem)
{
    const bool is_trace = ids->trace_id_bytes != 0 && ids->trace_id_bytes != TRACE_ID_BYTES;

    if (!is_trace && (ids->span_id_bytes == 0 || ids->span_id_bytes == SPAN_ID_BYTES))
        return INGEST_OK;
    problem_field(problem, "batch.records[%zu].%s", at, is_trace ? "trace_id" : "span_id");
    problem_say(problem, "%u%s bytes; it has %d, or none",
                is_trace ? ids->trace_id_bytes : ids->span_id_bytes,
                (is_trace ? ids->trace_id_bytes : ids->span_id_bytes) == UINT8_MAX ? " or more"
                                                                                   : "",
                is_trace ? TRACE_ID_BYTES : SPAN_ID_BYTES);
    return INGEST_BAD_BATCH;
}

static int check_record(const struct ingest_stream *stream,
                        const struct logblock_record *record,
                        size_t at,
                        wall_us now,
                        struct ingest_problem *problem)
{
    const struct ingest_limits *limits = &stream->loop.limits;
    int r;

    r = batch_check_time(stream, record->time_us, now, problem);
    if (r != INGEST_OK) {
        problem_field(problem, "batch.records[%zu].time_unix_us", at);
        return r;
    }
    if (record->severity > SEVERITY_MAX) {
        problem_field(problem, "batch.records[%zu].severity_number", at);
        problem_say(problem, "%u; severities are 1 to %u as OpenTelemetry numbers them, 0: unknown",
                    record->severity, SEVERITY_MAX);
        return INGEST_BAD_BATCH;
    }
    if (record->body.len > limits->log_body_bytes) {
        problem->quota = "log_body_bytes";
        problem_field(problem, "batch.records[%zu].%s", at, record->is_raw ? "raw" : "text");
        problem_say(problem,
                    "%zu bytes, at most %u (log_body_bytes); send a longer line in parts, or raise "
                    "the hub's limits.log_body_bytes",
                    record->body.len, limits->log_body_bytes);
        return INGEST_LIMIT;
    }
    return INGEST_OK;
}

/* In a block records of the same ones share them, and new ones lie behind all before: each once. */
static int check_record_attributes(const struct ingest_limits *limits,
                                   const struct ingest_logs *logs,
                                   size_t at,
                                   const struct logblock_attribute **last,
                                   struct ingest_problem *problem)
{
    const struct logblock_record *record = &logs->records[at];
    char where[48];

    if (record->n_attributes == 0 || (logs->sent && *last && record->attributes <= *last))
        return INGEST_OK;
    *last = record->attributes;
    (void) snprintf(where, sizeof(where), "batch.records[%zu]", at);
    return check_attributes(limits, record->attributes, record->n_attributes, where, problem);
}

static int check_packed(const struct ingest_logs *logs, struct ingest_problem *problem)
{
    const size_t n_bytes = store_logs_bytes(logs->source, logs->records, logs->n_records);

    if (n_bytes > PACKED_BYTES_MAX) {
        problem_field(problem, "batch.records");
        problem_say(
            problem,
            "%zu bytes in the journal, at most %zu: the source is stored again wherever the "
            "day changes from a record to the next; send the records of a day together, or "
            "smaller batches",
            n_bytes, PACKED_BYTES_MAX);
        return INGEST_BAD_BATCH;
    }
    return INGEST_OK;
}

int logs_check(struct ingest_stream *stream,
               const struct ingest_batch *batch,
               wall_us now,
               struct ingest_problem *problem)
{
    const struct ingest_logs *logs = batch->logs;
    const uint32_t limit = stream->loop.limits.batch_log_records;
    const struct logblock_attribute *last = NULL;
    int r;

    ensure(logs != NULL);
    if (logs->n_records > limit) {
        problem->quota = "batch_log_records";
        problem_field(problem, "batch.records");
        problem_say(problem,
                    "%zu records in a batch, at most %u (batch_log_records); send smaller "
                    "batches",
                    logs->n_records, limit);
        return INGEST_LIMIT;
    }
    r = check_source(&stream->loop.limits, logs->source, problem);
    for (size_t i = 0; r == INGEST_OK && i < logs->n_records; i++) {
        r = check_record(stream, &logs->records[i], i, now, problem);
        if (r == INGEST_OK)
            r = check_record_attributes(&stream->loop.limits, logs, i, &last, problem);
        if (r == INGEST_OK && logs->ids)
            r = check_ids(&logs->ids[i], i, problem);
    }
    return r == INGEST_OK ? check_packed(logs, problem) : r;
}
