/* Targets: wire_logs_open, wire_logs_next, wire_logs_find_block, wire_log_entries_open,
 * wire_log_entries_next. SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte picks the type, the rest are the message. What protobuf-c takes as a batch is
 * taken; a record that was read comes back the same when it is written as an entry.
 */

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/wire/wire.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#define REQUEST (&sentinel__telemetry__v1__stream_logs_request__descriptor)
#define MAX_ATTRIBUTES 64

typedef Sentinel__Telemetry__V1__StreamLogsRequest request_message;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ignore_fault(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

static void check_problem(int outcome, const struct wire_problem *problem)
{
    ensure(outcome == WIRE_MALFORMED || outcome == WIRE_BAD_TEXT);
    ensure(memchr(problem->field, 0, sizeof(problem->field)));
    ensure(memchr(problem->description, 0, sizeof(problem->description)));
    ensure(problem->description[0]);
}

static void check_attributes(struct wire_log_attributes read,
                             const struct wire_log_attribute *expected,
                             size_t n)
{
    struct wire_log_attribute attribute;

    for (size_t i = 0; i < n; i++) {
        ensure(wire_log_attributes_next(&read, &attribute));
        ensure(span_equal(attribute.key, expected[i].key));
        ensure(span_equal(attribute.value, expected[i].value));
    }
    ensure(!wire_log_attributes_next(&read, &attribute));
}

/* Written as an entry, and read again. */
static void check_record(const struct wire_log_record *record)
{
    CLEANUP(buf_deinit) struct buf packed = { 0 }, rest = { 0 };
    struct wire_log_attribute attributes[MAX_ATTRIBUTES];
    struct wire_log_attributes left = record->attributes;
    struct wire_log_entry entry = {
        .time_us = record->time_us,
        .severity = record->severity,
        .is_raw = record->is_raw,
        .body = record->body,
        .source_offset = record->source_offset,
        .attributes = attributes,
    };
    struct wire_log_entries entries;
    struct wire_log_entry again;
    struct wire_problem problem;
    bool is_end;

    while (entry.n_attributes < MAX_ATTRIBUTES &&
           wire_log_attributes_next(&left, &attributes[entry.n_attributes]))
        entry.n_attributes++;
    wire_log_entry_append(&packed, &entry);
    ensure(!buf_failed(&packed) && packed.len == wire_log_entry_bytes(&entry));
    ensure(wire_log_entries_open(buf_span(&packed), &entries, &rest, &problem) == WIRE_OK);
    ensure(rest.len == 0);
    ensure(wire_log_entries_next(&entries, &again, &is_end, &problem) == WIRE_OK && !is_end);
    ensure(again.severity == entry.severity && again.is_raw == entry.is_raw);
    ensure(again.time_us == entry.time_us && again.source_offset == entry.source_offset);
    ensure(span_equal(again.body, entry.body));
    ensure(again.n_attributes == entry.n_attributes);
    check_attributes(again.read_attributes, attributes, entry.n_attributes);
    ensure(wire_log_entries_next(&entries, &again, &is_end, &problem) == WIRE_OK && is_end);
}

/* What is measured is what is read. */
static void check_block(struct span bytes, const struct wire_logs *logs)
{
    struct span block = { 0 };
    bool is_there = wire_logs_find_block(bytes, &block);

    if (logs->type == WIRE_LOGS_BATCH && logs->n_records == 0)
        ensure(is_there == (logs->block.data != NULL));
    ensure(!is_there || (block.data == logs->block.data && block.len == logs->block.len));
}

/* *ret_is_ours: refused for what protobuf allows. */
static int read_all(struct span bytes, struct wire_logs *logs, bool *ret_is_ours)
{
    struct wire_log_record record;
    struct wire_problem problem = { 0 };
    int r;

    r = wire_logs_open(bytes, logs, &problem);
    *ret_is_ours = strcmp(problem.field, "batch.block") == 0;
    if (r == WIRE_OK)
        check_block(bytes, logs);
    for (size_t i = 0; r == WIRE_OK && i < logs->n_records; i++) {
        r = wire_logs_next(logs, &record, &problem);
        if (r == WIRE_OK)
            check_record(&record);
    }
    if (r != WIRE_OK)
        check_problem(r, &problem);
    return r;
}

static void check_request(struct span bytes)
{
    CLEANUP(arena_deinit) struct arena arena;
    ProtobufCMessage *message;
    struct wire_logs logs;
    bool is_ours;
    int r, theirs;

    r = read_all(bytes, &logs, &is_ours);
    arena_init(&arena, (size_t) 64 << 20);
    theirs = wire_unpack(REQUEST, bytes, &arena, &message, NULL);
    if (theirs == WIRE_OK && !is_ours) {
        ensure(r == WIRE_OK);
        ensure((unsigned) logs.type ==
               (unsigned) ((const request_message *) (const void *) message)->message_case);
    }
}

static void check_entries(struct span bytes)
{
    CLEANUP(buf_deinit) struct buf rest = { 0 };
    struct wire_log_attribute attribute;
    struct wire_log_entries entries;
    struct wire_log_entry entry;
    struct wire_problem problem;
    bool is_end = false;
    int r;

    r = wire_log_entries_open(bytes, &entries, &rest, &problem);
    while (r == WIRE_OK && !is_end) {
        r = wire_log_entries_next(&entries, &entry, &is_end, &problem);
        while (r == WIRE_OK && !is_end &&
               wire_log_attributes_next(&entry.read_attributes, &attribute))
            ensure(attribute.key.len <= bytes.len);
    }
    if (r != WIRE_OK)
        check_problem(r, &problem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    fault_set_sink(ignore_fault);
    if (data[0] % 2 == 0)
        check_request(span_of(data + 1, len - 1));
    else
        check_entries(span_of(data + 1, len - 1));
    return 0;
}
