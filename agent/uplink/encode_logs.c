/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplink/encode.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/fault.h"

/*
 * StreamLogsRequest { batch = 2 }: LogBatch { sequence = 1, source = 2, records = 3, block = 4 },
 * and below it LogSource, LogRecord and Attribute, written by hand: a `string` may hold NUL here.
 * A batch has records or a block.
 */

/* Raw bytes of a batch: of less a block saves next to nothing. */
#define BLOCK_FROM_BYTES ((size_t) 4 << 10)
#define MESSAGE_BYTES (4u << 20) /* of a hub that does not say */
/* What is held for the batches of this agent's own logs (agent/logs), and no larger ones. */
#define KEPT_BYTES ((size_t) 1 << 20)

enum wire_kind { VARINT = 0, FIXED64 = 1, BYTES = 2 };

static size_t varint_bytes(uint64_t value)
{
    size_t n = 1;

    for (; value >= 0x80; value >>= 7)
        n++;
    return n;
}

static void put_varint(struct buf *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;

    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (uint8_t) (value | 0x80);
    bytes[n++] = (uint8_t) value;
    buf_append(to, bytes, n);
}

/* All fields here are below 16: their tag is a byte. */
static void put_tag(struct buf *to, unsigned field, enum wire_kind kind)
{
    put_varint(to, field << 3 | kind);
}

static size_t number_bytes(uint64_t value)
{
    return value ? 1 + varint_bytes(value) : 0;
}

static void put_number(struct buf *to, unsigned field, uint64_t value)
{
    if (value == 0)
        return;
    put_tag(to, field, VARINT);
    put_varint(to, value);
}

static void put_fixed64(struct buf *to, unsigned field, int64_t value)
{
    uint8_t bytes[8];

    if (value == 0)
        return;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t) ((uint64_t) value >> (8 * i));
    put_tag(to, field, FIXED64);
    buf_append(to, bytes, sizeof(bytes));
}

static size_t bytes_bytes(size_t len)
{
    return 1 + varint_bytes(len) + len;
}

static void put_bytes(struct buf *to, unsigned field, struct span bytes)
{
    put_tag(to, field, BYTES);
    put_varint(to, bytes.len);
    if (bytes.len)
        buf_append_span(to, bytes);
}

static size_t optional_bytes(struct span bytes)
{
    return bytes.len ? bytes_bytes(bytes.len) : 0;
}

static void put_optional(struct buf *to, unsigned field, struct span bytes)
{
    if (bytes.len)
        put_bytes(to, field, bytes);
}

static size_t attribute_bytes(const struct spool_log_attribute *attribute)
{
    return bytes_bytes(attribute->key.len) + bytes_bytes(attribute->value.len);
}

static size_t attributes_bytes(const struct spool_log_attribute *attributes, size_t n)
{
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += bytes_bytes(attribute_bytes(&attributes[i]));
    return bytes;
}

static void put_attributes(struct buf *to,
                           unsigned field,
                           const struct spool_log_attribute *attributes,
                           size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put_tag(to, field, BYTES);
        put_varint(to, attribute_bytes(&attributes[i]));
        put_bytes(to, 1, attributes[i].key);
        put_bytes(to, 2, attributes[i].value);
    }
}

static size_t source_bytes(const struct spool_log_source *source)
{
    return bytes_bytes(source->type.len) + bytes_bytes(source->name.len) +
           attributes_bytes(source->attributes, source->n_attributes);
}

/* A record with the times that are sent. */
static size_t record_bytes(const struct spool_log_record *record)
{
    return (record->time_us ? 9 : 0) + (record->observed_us ? 9 : 0) +
           number_bytes(record->severity) + bytes_bytes(record->body.len) +
           attributes_bytes(record->attributes, record->n_attributes) +
           optional_bytes(record->trace_id) + optional_bytes(record->span_id) +
           number_bytes(record->source_offset);
}

static void put_record(struct buf *to, const struct spool_log_record *record)
{
    put_tag(to, 3, BYTES);
    put_varint(to, record_bytes(record));
    put_fixed64(to, 1, record->time_us);
    put_fixed64(to, 2, record->observed_us);
    put_number(to, 3, record->severity);
    put_bytes(to, record->is_raw ? 5 : 4, record->body);
    put_attributes(to, 6, record->attributes, record->n_attributes);
    put_optional(to, 7, record->trace_id);
    put_optional(to, 8, record->span_id);
    put_number(to, 9, record->source_offset);
}

/* A time that was read off this machine's clock, and not found in the line. */
static int64_t restamp(int64_t time_us, int64_t batch_us, int64_t offset_us)
{
    const int64_t day_us = INT64_C(86400000000);

    if (offset_us == 0 || time_us == 0 || time_us < batch_us - day_us ||
        time_us > batch_us + day_us)
        return time_us;
    return time_us + offset_us;
}

/* As it is sent. */
static struct spool_log_record
stamp_record(const struct spool_logs *logs, size_t i, int64_t offset_us)
{
    struct spool_log_record record = logs->records[i];

    record.time_us = restamp(record.time_us, logs->time.us, offset_us);
    record.observed_us = restamp(record.observed_us, logs->time.us, offset_us);
    return record;
}

int64_t encoder_newest_log_us(const struct spool_item *item, int64_t offset_us)
{
    const struct spool_logs *logs = &item->logs;
    int64_t newest_us = INT64_MIN;

    for (size_t i = 0; i < logs->n_records; i++) {
        const int64_t time_us = restamp(logs->records[i].time_us, logs->time.us, offset_us);

        newest_us = time_us > newest_us ? time_us : newest_us;
    }
    return newest_us;
}

/* All of a request but what the batch holds, which takes so many bytes. */
static void put_head(struct buf *to, const struct spool_item *item, size_t bytes)
{
    const struct spool_log_source *source = &item->logs.source;

    put_tag(to, 2, BYTES);
    put_varint(to, number_bytes(item->sequence) + bytes_bytes(source_bytes(source)) + bytes);
    put_number(to, 1, item->sequence);
    put_tag(to, 2, BYTES);
    put_varint(to, source_bytes(source));
    put_bytes(to, 1, source->type);
    put_bytes(to, 2, source->name);
    put_attributes(to, 3, source->attributes, source->n_attributes);
}

void encoder_put_logs(const struct spool_item *item, int64_t offset_us, struct buf *to)
{
    const struct spool_logs *logs = &item->logs;
    struct spool_log_record record;
    size_t bytes = 0;

    for (size_t i = 0; i < logs->n_records; i++) {
        record = stamp_record(logs, i, offset_us);
        bytes += bytes_bytes(record_bytes(&record));
    }
    put_head(to, item, bytes);
    for (size_t i = 0; i < logs->n_records; i++) {
        record = stamp_record(logs, i, offset_us);
        put_record(to, &record);
    }
}

/* ---- as a block ---- */

void encoder_blocks_deinit(struct encoder_blocks *blocks)
{
    (void) logblock_work_free(blocks->work);
    free(blocks->records);
    free(blocks->attributes);
    buf_deinit(&blocks->block);
    *blocks = (struct encoder_blocks){ 0 };
}

static bool may_hold(const struct spool_log_record *record)
{
    return record->severity <= LOGBLOCK_SEVERITY_MAX &&
           record->n_attributes <= LOGBLOCK_ATTRIBUTES_MAX &&
           (record->trace_id.len == 0 || record->trace_id.len == 16) &&
           (record->span_id.len == 0 || record->span_id.len == 8);
}

static bool is_fit(const struct spool_logs *logs,
                   uint32_t message_bytes,
                   size_t *ret_raw_bytes,
                   size_t *ret_n_attributes)
{
    size_t limit = message_bytes ? message_bytes : MESSAGE_BYTES;
    size_t raw_bytes = 0, n_attributes = 0;

    if (logs->n_records > LOGBLOCK_RECORDS_MAX)
        return false;
    for (size_t i = 0; i < logs->n_records; i++) {
        const struct spool_log_record *record = &logs->records[i];

        if (!may_hold(record))
            return false;
        raw_bytes += record->body.len;
        n_attributes += record->n_attributes;
        for (size_t k = 0; k < record->n_attributes; k++) {
            if (record->attributes[k].key.len == 0)
                return false;
            raw_bytes += record->attributes[k].key.len + record->attributes[k].value.len;
        }
    }
    if (raw_bytes < BLOCK_FROM_BYTES || raw_bytes > LOGBLOCK_RAW_MAX || raw_bytes > limit)
        return false;
    *ret_raw_bytes = raw_bytes;
    *ret_n_attributes = n_attributes;
    return true;
}

/* What was there is gone. */
static int reserve(struct encoder_blocks *blocks, size_t n_records, size_t n_attributes)
{
    if (n_records > blocks->n_records) {
        free(blocks->records);
        blocks->n_records = 0;
        blocks->records = malloc(n_records * sizeof(*blocks->records));
        blocks->n_records = blocks->records ? n_records : 0;
    }
    if (n_attributes > blocks->n_attributes) {
        free(blocks->attributes);
        blocks->attributes = malloc(n_attributes * sizeof(*blocks->attributes));
        blocks->n_attributes = blocks->attributes ? n_attributes : 0;
    }
    if (!blocks->work)
        blocks->work = logblock_work_new();
    if (!blocks->work || blocks->n_records < n_records || blocks->n_attributes < n_attributes)
        return fault(-ENOMEM, "no memory for a block of %zu records", n_records);
    return 0;
}

static void fill(struct encoder_blocks *blocks, const struct spool_logs *logs, int64_t offset_us)
{
    struct logblock_attribute *attribute = blocks->attributes;

    for (size_t i = 0; i < logs->n_records; i++) {
        const struct spool_log_record from = stamp_record(logs, i, offset_us);
        struct logblock_record *to = &blocks->records[i];

        *to = (struct logblock_record){
            .time_us = from.time_us,
            .observed_us = from.observed_us,
            .source_offset = from.source_offset,
            .severity = from.severity,
            .is_raw = from.is_raw,
            .has_trace_id = from.trace_id.len > 0,
            .has_span_id = from.span_id.len > 0,
            .body = from.body,
            .attributes = attribute,
            .n_attributes = from.n_attributes,
        };
        if (to->has_trace_id)
            memcpy(to->trace_id, from.trace_id.data, sizeof(to->trace_id));
        if (to->has_span_id)
            memcpy(to->span_id, from.span_id.data, sizeof(to->span_id));
        for (size_t k = 0; k < from.n_attributes; k++)
            *attribute++ =
                (struct logblock_attribute){ from.attributes[k].key, from.attributes[k].value };
    }
}

static int put_block(struct encoder_blocks *blocks,
                     const struct spool_item *item,
                     const struct uplink_clock *clock,
                     struct buf *to)
{
    const struct logblock_input input = {
        .records = blocks->records,
        .n_records = item->logs.n_records,
        .effort = LOGBLOCK_FAST,
        .is_sent = true,
    };
    int r;

    fill(blocks, &item->logs, uplink_log_offset(clock, item));
    buf_clear(&blocks->block);
    r = logblock_encode(blocks->work, &input, &blocks->block);
    if (r)
        return pass(r);
    put_head(to, item, bytes_bytes(blocks->block.len));
    put_bytes(to, 4, buf_span(&blocks->block));
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a block of logs") : 0;
}

int encoder_put_block(struct encoder_blocks *blocks,
                      const struct spool_item *item,
                      uint32_t message_bytes,
                      const struct uplink_clock *clock,
                      struct buf *to)
{
    size_t n_records = item->logs.n_records, n_attributes, raw_bytes;
    int r;

    if (item->is_skip || !is_fit(&item->logs, message_bytes, &raw_bytes, &n_attributes))
        return ENCODER_UNFIT;
    r = reserve(blocks, n_records, n_attributes);
    if (r == 0)
        r = put_block(blocks, item, clock, to);
    if (raw_bytes + n_records * sizeof(*blocks->records) +
            n_attributes * sizeof(*blocks->attributes) >
        KEPT_BYTES)
        encoder_blocks_deinit(blocks);
    return pass(r);
}
