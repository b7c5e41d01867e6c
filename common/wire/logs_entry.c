/* SPDX-License-Identifier: Apache-2.0 */

/* LogEntry: written for answers, read by clients. */

#include <string.h>

#include "common/base/ensure.h"
#include "common/base/text.h"
#include "common/wire/logs_inside.h"
#include "common/wire/wire.h"

#define US_PER_S INT64_C(1000000)
#define VARINT_BYTES 10

/* Numbers of the fields. */
#define ANSWER_ENTRIES 1
enum {
    ENTRY_AGENT_ID = 1,
    ENTRY_TIME = 2,
    ENTRY_OBSERVED = 3,
    ENTRY_SEVERITY_NUMBER = 4,
    ENTRY_SEVERITY = 5,
    ENTRY_SOURCE_TYPE = 6,
    ENTRY_SOURCE = 7,
    ENTRY_TEXT = 8,
    ENTRY_RAW = 9,
    ENTRY_ATTRIBUTES = 10,
    ENTRY_TRACE_ID = 11,
    ENTRY_SPAN_ID = 12,
    ENTRY_OFFSET = 13,
    ENTRY_SOURCE_ATTRIBUTES = 14,
};
enum { TIME_SECONDS = 1, TIME_NANOS = 2 };

const char *const wire_log_severities[WIRE_LOG_SEVERITIES + 1] = {
    "",       "TRACE",  "TRACE2", "TRACE3", "TRACE4", "DEBUG",  "DEBUG2", "DEBUG3", "DEBUG4",
    "INFO",   "INFO2",  "INFO3",  "INFO4",  "WARN",   "WARN2",  "WARN3",  "WARN4",  "ERROR",
    "ERROR2", "ERROR3", "ERROR4", "FATAL",  "FATAL2", "FATAL3", "FATAL4", NULL,
};

/* ---- writing: the same code counts, where `at` is NULL ---- */

struct pen {
    uint8_t *at;
    size_t n;
};

static void put(struct pen *pen, const void *bytes, size_t n)
{
    if (pen->at && n > 0)
        memcpy(pen->at + pen->n, bytes, n);
    pen->n += n;
}

static void put_varint(struct pen *pen, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES];
    size_t n = 0;

    do {
        bytes[n++] = (uint8_t) ((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value > 0);
    put(pen, bytes, n);
}

static void put_tag(struct pen *pen, uint32_t number, enum wire_type type)
{
    put_varint(pen, (uint64_t) number << 3 | type);
}

static void put_bytes(struct pen *pen, uint32_t number, struct span bytes)
{
    put_tag(pen, number, TYPE_BYTES);
    put_varint(pen, bytes.len);
    put(pen, bytes.data, bytes.len);
}

static void put_text(struct pen *pen, uint32_t number, struct span text)
{
    if (text.len > 0)
        put_bytes(pen, number, text);
}

static void put_number(struct pen *pen, uint32_t number, uint64_t value)
{
    if (value == 0)
        return;
    put_tag(pen, number, TYPE_VARINT);
    put_varint(pen, value);
}

static void put_time(struct pen *pen, uint32_t number, int64_t us)
{
    uint8_t bytes[2 + 2 * VARINT_BYTES];
    struct pen inside = { .at = bytes };
    int64_t seconds = us / US_PER_S, rest_us = us % US_PER_S;

    if (rest_us < 0) { /* nanos count forward */
        rest_us += US_PER_S;
        seconds--;
    }
    put_number(&inside, TIME_SECONDS, (uint64_t) seconds);
    put_number(&inside, TIME_NANOS, (uint64_t) rest_us * 1000);
    put_bytes(pen, number, span_of(bytes, inside.n));
}

static void put_attribute(struct pen *pen, const struct wire_log_attribute *attribute)
{
    put_bytes(pen, 1, attribute->key);
    put_bytes(pen, 2, attribute->value);
}

static void put_attributes(struct pen *pen,
                           uint32_t number,
                           const struct wire_log_attribute *attributes,
                           size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct pen inside = { 0 };

        put_attribute(&inside, &attributes[i]);
        put_tag(pen, number, TYPE_BYTES);
        put_varint(pen, inside.n);
        put_attribute(pen, &attributes[i]);
    }
}

static void put_entry(struct pen *pen, const struct wire_log_entry *entry)
{
    const char *severity =
        entry->severity < WIRE_LOG_SEVERITIES ? wire_log_severities[entry->severity] : "";

    put_text(pen, ENTRY_AGENT_ID, entry->agent_id);
    put_time(pen, ENTRY_TIME, entry->time_us);
    if (entry->observed_us != 0)
        put_time(pen, ENTRY_OBSERVED, entry->observed_us);
    put_number(pen, ENTRY_SEVERITY_NUMBER, entry->severity);
    put_text(pen, ENTRY_SEVERITY, span_of_text(severity));
    put_text(pen, ENTRY_SOURCE_TYPE, entry->source_type);
    put_text(pen, ENTRY_SOURCE, entry->source);
    put_bytes(pen, entry->is_raw ? ENTRY_RAW : ENTRY_TEXT, entry->body); /* an empty one too */
    put_attributes(pen, ENTRY_ATTRIBUTES, entry->attributes, entry->n_attributes);
    put_text(pen, ENTRY_TRACE_ID, entry->trace_id);
    put_text(pen, ENTRY_SPAN_ID, entry->span_id);
    put_number(pen, ENTRY_OFFSET, entry->source_offset);
    put_attributes(pen, ENTRY_SOURCE_ATTRIBUTES, entry->source_attributes,
                   entry->n_source_attributes);
}

static size_t count_head(size_t n_inside)
{
    struct pen pen = { 0 };

    put_tag(&pen, ANSWER_ENTRIES, TYPE_BYTES);
    put_varint(&pen, n_inside);
    return pen.n;
}

size_t wire_log_entry_bytes(const struct wire_log_entry *entry)
{
    struct pen pen = { 0 };

    put_entry(&pen, entry);
    return pen.n + count_head(pen.n);
}

void wire_log_entry_append(struct buf *to, const struct wire_log_entry *entry)
{
    struct pen count = { 0 }, pen = { 0 };
    size_t n;

    put_entry(&count, entry);
    n = count.n + count_head(count.n);
    pen.at = buf_extend(to, n);
    if (!pen.at)
        return;
    put_tag(&pen, ANSWER_ENTRIES, TYPE_BYTES);
    put_varint(&pen, count.n);
    put_entry(&pen, entry);
    ensure(pen.n == n);
}

/* ---- reading ---- */

int wire_log_entries_open(struct span bytes,
                          struct wire_log_entries *ret,
                          struct buf *rest,
                          struct wire_problem *ret_problem)
{
    const uint8_t *at = bytes.data, *end = at + bytes.len, *before;
    const char *wrong = NULL;
    struct wire_item item;

    while (!wrong && at < end) {
        before = at;
        wrong = wire_read_item(&at, end, &item);
        if (!wrong && item.number == ANSWER_ENTRIES)
            wrong = logs_check_type(&item, TYPE_BYTES);
        else if (!wrong)
            buf_append(rest, before, (size_t) (at - before));
    }
    if (wrong)
        return logs_complain(ret_problem, WIRE_MALFORMED, wrong, "%s", "");
    *ret = (struct wire_log_entries){ .left = bytes };
    return WIRE_OK;
}

/* What is out of the range of microseconds is the nearest that is not. */
static const char *read_time(struct span bytes, int64_t *ret_us)
{
    const uint8_t *at = bytes.data, *end = at + bytes.len;
    int64_t seconds = 0, nanos = 0, us;
    const char *wrong = NULL;
    struct wire_item item;

    while (!wrong && at < end) {
        wrong = wire_read_item(&at, end, &item);
        if (wrong || item.number > TIME_NANOS)
            continue;
        wrong = logs_check_type(&item, TYPE_VARINT);
        if (item.number == TIME_SECONDS)
            seconds = (int64_t) wire_item_u64(&item);
        else
            nanos = (int32_t) wire_item_u64(&item);
    }
    if (__builtin_mul_overflow(seconds, US_PER_S, &us) ||
        __builtin_add_overflow(us, nanos / 1000, &us))
        us = seconds < 0 ? INT64_MIN : INT64_MAX;
    *ret_us = us;
    return wrong;
}

static enum wire_type type_of_field(uint32_t number)
{
    return number == ENTRY_SEVERITY_NUMBER || number == ENTRY_OFFSET ? TYPE_VARINT : TYPE_BYTES;
}

static const char *take_field(struct wire_log_entry *entry, const struct wire_item *item)
{
    switch (item->number) {
    case ENTRY_AGENT_ID:
        entry->agent_id = item->body;
        return logs_check_name(item->body);
    case ENTRY_TIME:
        return read_time(item->body, &entry->time_us);
    case ENTRY_OBSERVED:
        return read_time(item->body, &entry->observed_us);
    case ENTRY_SEVERITY_NUMBER:
        entry->severity = (uint32_t) wire_item_u64(item);
        return NULL;
    case ENTRY_SOURCE_TYPE:
        entry->source_type = item->body;
        return logs_check_name(item->body);
    case ENTRY_SOURCE:
        entry->source = item->body;
        return logs_check_name(item->body);
    case ENTRY_TEXT:
    case ENTRY_RAW:
        entry->is_raw = item->number == ENTRY_RAW;
        entry->body = item->body;
        return entry->is_raw || text_is_utf8(item->body.data, item->body.len) ? NULL : "not UTF-8";
    case ENTRY_TRACE_ID:
        entry->trace_id = item->body;
        return logs_check_name(item->body);
    case ENTRY_SPAN_ID:
        entry->span_id = item->body;
        return logs_check_name(item->body);
    case ENTRY_OFFSET:
        entry->source_offset = wire_item_u64(item);
        return NULL;
    default:
        return NULL;
    }
}

static int read_entry(struct span bytes,
                      size_t index,
                      struct wire_log_entry *ret,
                      struct wire_problem *problem)
{
    const uint8_t *at = bytes.data, *end = at + bytes.len;
    const struct span none = span_of(bytes.data, 0);
    struct wire_item item;
    const char *wrong;
    int r = WIRE_OK;

    *ret = (struct wire_log_entry){
        .agent_id = none,
        .source_type = none,
        .source = none,
        .body = none,
        .trace_id = none,
        .span_id = none,
        .read_attributes.nest = { .level = { bytes }, { ENTRY_ATTRIBUTES }, 1 },
        .read_source_attributes.nest = { .level = { bytes }, { ENTRY_SOURCE_ATTRIBUTES }, 1 },
    };
    while (r == WIRE_OK && at < end) {
        wrong = wire_read_item(&at, end, &item);
        if (!wrong && item.number <= ENTRY_SOURCE_ATTRIBUTES)
            wrong = logs_check_type(&item, type_of_field(item.number));
        if (wrong)
            return logs_complain(problem, WIRE_MALFORMED, wrong, "entries[%zu]", index);
        if (item.number == ENTRY_ATTRIBUTES) {
            r = logs_check_attribute(item.body, problem, "entries", index, ret->n_attributes++);
            continue;
        }
        if (item.number == ENTRY_SOURCE_ATTRIBUTES) {
            r = logs_check_attribute(item.body, problem, "entries", index,
                                     ret->n_source_attributes++);
            continue;
        }
        wrong = take_field(ret, &item);
        if (wrong)
            r = logs_complain(problem, WIRE_BAD_TEXT, wrong, "entries[%zu]", index);
    }
    return r;
}

int wire_log_entries_next(struct wire_log_entries *entries,
                          struct wire_log_entry *ret,
                          bool *ret_is_end,
                          struct wire_problem *ret_problem)
{
    struct wire_nest nest = { .level = { entries->left }, { ANSWER_ENTRIES }, 1 };
    struct span bytes;

    *ret_is_end = !logs_nest_next(&nest, &bytes);
    entries->left = nest.level[0];
    return *ret_is_end ? WIRE_OK : read_entry(bytes, entries->n_read++, ret, ret_problem);
}
