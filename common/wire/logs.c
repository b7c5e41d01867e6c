/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/logs.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/text.h"
#include "common/wire/logs_inside.h"
#include "common/wire/wire.h"

/* Numbers of the fields. */
enum { BATCH_SEQUENCE = 1, BATCH_SOURCE = 2, BATCH_RECORDS = 3, BATCH_BLOCK = 4 };
enum { SOURCE_TYPE = 1, SOURCE_NAME = 2, SOURCE_ATTRIBUTES = 3 };
enum { ATTRIBUTE_KEY = 1, ATTRIBUTE_VALUE = 2 };
enum {
    RECORD_TIME = 1,
    RECORD_OBSERVED = 2,
    RECORD_SEVERITY = 3,
    RECORD_TEXT = 4,
    RECORD_RAW = 5,
    RECORD_ATTRIBUTES = 6,
    RECORD_TRACE_ID = 7,
    RECORD_SPAN_ID = 8,
    RECORD_OFFSET = 9,
};

/* ---- what is wrong ---- */

int logs_complain(struct wire_problem *problem,
                  int outcome,
                  const char *description,
                  const char *field,
                  ...)
{
    va_list args;

    va_start(args, field);
    (void) vsnprintf(problem->field, sizeof(problem->field), field, args);
    va_end(args);
    (void) snprintf(problem->description, sizeof(problem->description), "%s", description);
    return outcome;
}

const char *logs_check_type(const struct wire_item *item, enum wire_type expected)
{
    return item->type == expected ? NULL : "a field has another wire type than its number says";
}

const char *logs_check_name(struct span text)
{
    if (memchr(text.data, 0, text.len))
        return "a NUL in a name";
    return text_is_utf8(text.data, text.len) ? NULL : "not UTF-8";
}

/* ---- sub-messages ---- */

bool logs_nest_next(struct wire_nest *nest, struct span *ret)
{
    int i = nest->n_levels - 1;

    while (i >= 0) {
        struct span *level = &nest->level[i];
        const uint8_t *at = level->data;
        struct wire_item item;

        if (level->len == 0) {
            i--;
            continue;
        }
        ensure(!wire_read_item(&at, level->data + level->len, &item)); /* it was read before */
        level->len -= (size_t) (at - level->data);
        level->data = at;
        if (item.number != nest->number[i])
            continue;
        if (i == nest->n_levels - 1) {
            *ret = item.body;
            return true;
        }
        nest->level[++i] = item.body;
    }
    return false;
}

static const char *read_attribute(struct span bytes, struct wire_log_attribute *ret)
{
    const uint8_t *at = bytes.data, *end = at + bytes.len;
    const char *wrong = NULL;
    struct wire_item item;

    *ret = (struct wire_log_attribute){ { bytes.data, 0 }, { bytes.data, 0 } };
    while (!wrong && at < end) {
        wrong = wire_read_item(&at, end, &item);
        if (wrong || item.number > ATTRIBUTE_VALUE)
            continue;
        wrong = logs_check_type(&item, TYPE_BYTES);
        if (item.number == ATTRIBUTE_KEY)
            ret->key = item.body;
        else
            ret->value = item.body;
    }
    return wrong;
}

int logs_check_attribute(struct span bytes,
                         struct wire_problem *problem,
                         const char *parent,
                         size_t record,
                         size_t at)
{
    struct wire_log_attribute attribute;
    const char *wrong, *field = "";
    char where[64];
    int outcome = WIRE_BAD_TEXT;

    wrong = read_attribute(bytes, &attribute);
    if (wrong) {
        outcome = WIRE_MALFORMED;
    } else if ((wrong = logs_check_name(attribute.key))) {
        field = ".key";
    } else if (!text_is_utf8(attribute.value.data, attribute.value.len)) {
        wrong = "not UTF-8";
        field = ".value";
    }
    if (!wrong)
        return WIRE_OK;
    if (record == LOGS_NO_RECORD)
        (void) snprintf(where, sizeof(where), "%s", parent);
    else
        (void) snprintf(where, sizeof(where), "%s[%zu]", parent, record);
    return logs_complain(problem, outcome, wrong, "%s.attributes[%zu]%s", where, at, field);
}

bool wire_log_attributes_next(struct wire_log_attributes *attributes,
                              struct wire_log_attribute *ret)
{
    struct span bytes;

    if (!logs_nest_next(&attributes->nest, &bytes))
        return false;
    ensure(!read_attribute(bytes, ret)); /* it was checked */
    return true;
}

/* ---- the request ---- */

/* The last member of the oneof counts, with what comes of the same member in a row before it. */
static const char *
find_message(struct span bytes, enum wire_logs_type *ret_type, struct span *ret_from)
{
    const uint8_t *at = bytes.data, *end = at + bytes.len, *before;
    const char *wrong = NULL;
    struct wire_item item;

    *ret_type = WIRE_LOGS_NOTHING;
    *ret_from = bytes;
    while (!wrong && at < end) {
        before = at;
        wrong = wire_read_item(&at, end, &item);
        if (wrong || item.number > WIRE_LOGS_SKIP)
            continue;
        wrong = logs_check_type(&item, TYPE_BYTES);
        if ((uint32_t) *ret_type != item.number)
            *ret_from = span_of(before, (size_t) (end - before));
        *ret_type = (enum wire_logs_type) item.number;
    }
    return wrong;
}

static int read_source(struct wire_logs *logs, struct span bytes, struct wire_problem *problem)
{
    const uint8_t *at = bytes.data, *end = at + bytes.len;
    struct wire_item item;
    const char *wrong;
    int r = WIRE_OK;

    while (r == WIRE_OK && at < end) {
        wrong = wire_read_item(&at, end, &item);
        if (wrong)
            return logs_complain(problem, WIRE_MALFORMED, wrong, "batch.source");
        if (item.number > SOURCE_ATTRIBUTES)
            continue;
        wrong = logs_check_type(&item, TYPE_BYTES);
        if (wrong)
            return logs_complain(problem, WIRE_MALFORMED, wrong, "batch.source");
        if (item.number == SOURCE_ATTRIBUTES) {
            r = logs_check_attribute(item.body, problem, "batch.source", LOGS_NO_RECORD,
                                     logs->n_source_attributes++);
            continue;
        }
        wrong = logs_check_name(item.body);
        if (wrong)
            r = logs_complain(problem, WIRE_BAD_TEXT, wrong,
                              item.number == SOURCE_TYPE ? "batch.source.type"
                                                         : "batch.source.name");
        if (item.number == SOURCE_TYPE)
            logs->source_type = item.body;
        else
            logs->source_name = item.body;
    }
    return r;
}

static int read_batch(struct wire_logs *logs, struct span bytes, struct wire_problem *problem)
{
    const uint8_t *at = bytes.data, *end = at + bytes.len;
    struct wire_item item;
    const char *wrong;
    int r = WIRE_OK;

    while (r == WIRE_OK && at < end) {
        wrong = wire_read_item(&at, end, &item);
        if (!wrong && item.number <= BATCH_BLOCK)
            wrong =
                logs_check_type(&item, item.number == BATCH_SEQUENCE ? TYPE_VARINT : TYPE_BYTES);
        if (wrong)
            return logs_complain(problem, WIRE_MALFORMED, wrong, "batch");
        if (item.number == BATCH_RECORDS)
            logs->n_records++;
        else if (item.number == BATCH_SEQUENCE)
            logs->sequence = wire_item_u64(&item);
        else if (item.number == BATCH_SOURCE)
            r = read_source(logs, item.body, problem);
        else if (item.number == BATCH_BLOCK && logs->block.data)
            return logs_complain(problem, WIRE_MALFORMED, "given twice", "batch.block");
        else if (item.number == BATCH_BLOCK)
            logs->block = item.body;
    }
    return r;
}

int wire_logs_open(struct span bytes, struct wire_logs *ret, struct wire_problem *ret_problem)
{
    struct wire_nest batches = { .number = { WIRE_LOGS_BATCH }, .n_levels = 1 };
    struct wire_logs logs = { .source_type = { bytes.data, 0 }, .source_name = { bytes.data, 0 } };
    struct span batch, from;
    const char *wrong;
    int r = WIRE_OK;

    wrong = find_message(bytes, &logs.type, &from);
    if (wrong)
        return logs_complain(ret_problem, WIRE_MALFORMED, wrong, "%s", "");
    batches.level[0] = from;
    while (r == WIRE_OK && logs.type == WIRE_LOGS_BATCH && logs_nest_next(&batches, &batch))
        r = read_batch(&logs, batch, ret_problem);
    if (r != WIRE_OK)
        return r;
    logs.records = (struct wire_nest){
        .level = { from },
        .number = { WIRE_LOGS_BATCH, BATCH_RECORDS },
        .n_levels = 2,
    };
    logs.source_attributes.nest = (struct wire_nest){
        .level = { from },
        .number = { WIRE_LOGS_BATCH, BATCH_SOURCE, SOURCE_ATTRIBUTES },
        .n_levels = 3,
    };
    logs.crc32c = wire_logs_checksum(logs.sequence);
    *ret = logs;
    return WIRE_OK;
}

/* In one message, before any record. */
static bool find_block(struct span bytes, struct span *ret)
{
    const uint8_t *at = bytes.data, *end = at + bytes.len;
    struct wire_item item;

    while (at < end && !wire_read_item(&at, end, &item) && item.number != BATCH_RECORDS) {
        if (item.number == BATCH_BLOCK && item.type == TYPE_BYTES) {
            *ret = item.body;
            return true;
        }
    }
    return false;
}

bool wire_logs_find_block(struct span bytes, struct span *ret)
{
    struct wire_nest batches = { .number = { WIRE_LOGS_BATCH }, .n_levels = 1 };
    enum wire_logs_type type;
    struct span batch;

    if (find_message(bytes, &type, &batches.level[0]) || type != WIRE_LOGS_BATCH)
        return false;
    while (logs_nest_next(&batches, &batch))
        if (find_block(batch, ret))
            return true;
    return false;
}

/* ---- records ---- */

static uint64_t read_u64(struct span eight_bytes)
{
    uint64_t value;

    memcpy(&value, eight_bytes.data, sizeof(value));
    return value;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fixed numbers are read as they lie");

static enum wire_type type_of_field(uint32_t number)
{
    switch (number) {
    case RECORD_TIME:
    case RECORD_OBSERVED:
        return TYPE_FIXED64;
    case RECORD_SEVERITY:
    case RECORD_OFFSET:
        return TYPE_VARINT;
    default:
        return TYPE_BYTES;
    }
}

static int take_body(struct wire_log_record *record,
                     const struct wire_item *item,
                     size_t at,
                     struct wire_problem *problem)
{
    record->has_body = true;
    record->is_raw = item->number == RECORD_RAW;
    record->body = item->body;
    if (record->is_raw || text_is_utf8(item->body.data, item->body.len))
        return WIRE_OK;
    return logs_complain(problem, WIRE_BAD_TEXT,
                         "not UTF-8; a line that is no text belongs in `raw`",
                         "batch.records[%zu].text", at);
}

static int take_field(struct wire_log_record *record,
                      const struct wire_item *item,
                      size_t at,
                      struct wire_problem *problem)
{
    switch (item->number) {
    case RECORD_TIME:
        record->time_us = (int64_t) read_u64(item->body);
        return WIRE_OK;
    case RECORD_OBSERVED:
        record->observed_us = (int64_t) read_u64(item->body);
        return WIRE_OK;
    case RECORD_SEVERITY:
        record->severity = (uint32_t) wire_item_u64(item);
        return WIRE_OK;
    case RECORD_TEXT:
    case RECORD_RAW:
        return take_body(record, item, at, problem);
    case RECORD_ATTRIBUTES:
        return logs_check_attribute(item->body, problem, "batch.records", at,
                                    record->n_attributes++);
    case RECORD_TRACE_ID:
        record->trace_id = item->body;
        return WIRE_OK;
    case RECORD_SPAN_ID:
        record->span_id = item->body;
        return WIRE_OK;
    case RECORD_OFFSET:
        record->source_offset = wire_item_u64(item);
        return WIRE_OK;
    default:
        return WIRE_OK;
    }
}

int wire_logs_next(struct wire_logs *logs,
                   struct wire_log_record *ret,
                   struct wire_problem *ret_problem)
{
    const uint8_t *at, *end;
    struct wire_item item;
    struct span bytes;
    const char *wrong;
    int r = WIRE_OK;

    ensure(logs->n_read < logs->n_records && logs_nest_next(&logs->records, &bytes));
    *ret = (struct wire_log_record){ .body = { bytes.data, 0 } };
    at = bytes.data;
    end = at + bytes.len;
    while (r == WIRE_OK && at < end) {
        wrong = wire_read_item(&at, end, &item);
        if (!wrong && item.number <= RECORD_OFFSET)
            wrong = logs_check_type(&item, type_of_field(item.number));
        if (wrong)
            return logs_complain(ret_problem, WIRE_MALFORMED, wrong, "batch.records[%zu]",
                                 logs->n_read);
        r = take_field(ret, &item, logs->n_read, ret_problem);
    }
    ret->attributes.nest = (struct wire_nest){
        .level = { bytes },
        .number = { RECORD_ATTRIBUTES },
        .n_levels = 1,
    };
    logs->n_read++;
    logs->crc32c = wire_logs_checksum_add(logs->crc32c, ret->severity, ret->body);
    return r;
}

uint32_t wire_logs_checksum(uint64_t sequence)
{
    return crc32c(0, &sequence, sizeof(sequence));
}

uint32_t wire_logs_checksum_add(uint32_t crc, uint32_t severity, struct span body)
{
    const uint32_t head[2] = { (uint32_t) body.len, severity };

    return crc32c(crc32c(crc, head, sizeof(head)), body.data, body.len);
}
