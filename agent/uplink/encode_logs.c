/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplink/encode.h"

/*
 * StreamLogsRequest { batch = 2 }: LogBatch { sequence = 1, source = 2, records = 3 }, and below it
 * LogSource, LogRecord and Attribute, written by hand: a `string` may hold NUL here.
 */

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

void encoder_put_logs(const struct spool_item *item, int64_t offset_us, struct buf *to)
{
    const struct spool_logs *logs = &item->logs;
    size_t bytes = number_bytes(item->sequence) + bytes_bytes(source_bytes(&logs->source));
    struct spool_log_record record;

    for (size_t i = 0; i < logs->n_records; i++) {
        record = logs->records[i];
        record.time_us = restamp(record.time_us, logs->time.us, offset_us);
        record.observed_us = restamp(record.observed_us, logs->time.us, offset_us);
        bytes += bytes_bytes(record_bytes(&record));
    }
    put_tag(to, 2, BYTES);
    put_varint(to, bytes);
    put_number(to, 1, item->sequence);
    put_tag(to, 2, BYTES);
    put_varint(to, source_bytes(&logs->source));
    put_bytes(to, 1, logs->source.type);
    put_bytes(to, 2, logs->source.name);
    put_attributes(to, 3, logs->source.attributes, logs->source.n_attributes);
    for (size_t i = 0; i < logs->n_records; i++) {
        record = logs->records[i];
        record.time_us = restamp(record.time_us, logs->time.us, offset_us);
        record.observed_us = restamp(record.observed_us, logs->time.us, offset_us);
        put_record(to, &record);
    }
}
