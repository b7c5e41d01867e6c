/* SPDX-License-Identifier: Apache-2.0 */

/* What of the uplink needs no hub: what follows from an error, rates, clocks, messages. */

#include "suite.h"

#include <math.h>
#include <stdio.h>

#include "agent/uplink/encode.h"
#include "agent/uplink/policy.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"
#include "test_uplink_hub.h"

/* ---- policy ---- */

static const struct uplink_pace pace = {
    .spread_us = 30000000,
    .backoff_us = 30000000,
    .max_backoff_us = 900000000,
};

START_TEST(the_first_retry_is_uniform_in_the_spread)
{
    ck_assert_int_eq(uplink_backoff(&pace, 1, 0), 0);
    ck_assert_int_eq(uplink_backoff(&pace, 1, 0.5), 15000000);
    ck_assert_int_lt(uplink_backoff(&pace, 1, 0.999), 30000000);
}
END_TEST

START_TEST(later_retries_double_with_jitter_up_to_the_limit)
{
    ck_assert_int_eq(uplink_backoff(&pace, 2, 0.5), 30000000);
    ck_assert_int_eq(uplink_backoff(&pace, 2, 0), 24000000);
    ck_assert_int_lt(uplink_backoff(&pace, 2, 0.999), 36000000);
    ck_assert_int_eq(uplink_backoff(&pace, 3, 0.5), 60000000);
    ck_assert_int_eq(uplink_backoff(&pace, 6, 0.5), 480000000);
    ck_assert_int_eq(uplink_backoff(&pace, 7, 0.5), 900000000);
    ck_assert_int_eq(uplink_backoff(&pace, 4000000000u, 0.5), 900000000);
}
END_TEST

START_TEST(errors_fall_into_classes)
{
    static const struct {
        struct wire_error error;
        bool was_welcomed;
        enum uplink_class class;
    } rows[] = {
        { { .code = RPC_UNAVAILABLE }, false, UPLINK_RETRY },
        { { .code = RPC_UNAVAILABLE, .reason = "HUB_STOPPING" }, true, UPLINK_RETRY },
        { { .code = RPC_OK }, true, UPLINK_RETRY },
        { { .code = RPC_INTERNAL }, true, UPLINK_RETRY },
        { { .code = RPC_DEADLINE_EXCEEDED }, false, UPLINK_RETRY },
        { { .code = RPC_UNAUTHENTICATED, .reason = "CERTIFICATE_REVOKED" }, false, UPLINK_SLOW },
        { { .code = RPC_UNAUTHENTICATED, .reason = "CERTIFICATE_REVOKED" }, true, UPLINK_SLOW },
        { { .code = RPC_PERMISSION_DENIED }, false, UPLINK_SLOW },
        { { .code = RPC_INVALID_ARGUMENT, .reason = "BAD_HELLO" }, false, UPLINK_SLOW },
        { { .code = RPC_INVALID_ARGUMENT, .reason = "BAD_BATCH" }, true, UPLINK_POISON },
        { { .code = RPC_INVALID_ARGUMENT, .reason = "SEQUENCE_GAP" }, true, UPLINK_RETRY },
        { { .code = RPC_RESOURCE_EXHAUSTED, .quota = "batch_samples" }, true, UPLINK_POISON },
        { { .code = RPC_RESOURCE_EXHAUSTED, .reason = "DISK_FULL", .retry_after_ms = 9 },
          true,
          UPLINK_RETRY },
        { { .code = RPC_RESOURCE_EXHAUSTED }, true, UPLINK_RETRY },
        { { .code = RPC_FAILED_PRECONDITION, .reason = "SPOOL_FORKED" }, false, UPLINK_FORKED },
        { { .code = RPC_ABORTED, .reason = "SPOOL_TAKEN_OVER" }, true, UPLINK_SLOW },
        { { .code = RPC_ABORTED, .reason = "AGENT_ID_CLONED" }, false, UPLINK_SLOW },
        { { .code = RPC_ABORTED }, true, UPLINK_RETRY },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_msg(uplink_classify(&rows[i].error, rows[i].was_welcomed) == rows[i].class,
                      "row %zu", i);
}
END_TEST

START_TEST(a_stamp_is_kept_unless_the_clock_was_far_off)
{
    struct uplink_clock clock = { .is_known = true, .hub_us = 1000 * HOUR_US, .boot_us = HOUR_US };
    struct uplink_clock unknown = { 0 };

    /* Two hours queued, and the clock was right. */
    ck_assert_int_eq(uplink_stamp(&clock, (wall_us){ 998 * HOUR_US + 5 }, -HOUR_US),
                     998 * HOUR_US + 5);
    /* In 1970, half an hour before the welcome. */
    ck_assert_int_eq(uplink_stamp(&clock, (wall_us){ 77 }, HOUR_US / 2),
                     999 * HOUR_US + HOUR_US / 2);
    ck_assert_int_eq(uplink_stamp(&unknown, (wall_us){ 77 }, HOUR_US / 2), 77);
}
END_TEST

START_TEST(clocks_agree_within_an_hour)
{
    const int64_t boot_us = uplink_boot_us();
    const struct uplink_clock clock = { true, 1000 * HOUR_US, boot_us }, unknown = { 0 };
    const int64_t minute_us = HOUR_US / 60;

    ck_assert(uplink_clocks_agree(&clock, (wall_us){ 1000 * HOUR_US }));
    ck_assert(uplink_clocks_agree(&clock, (wall_us){ 999 * HOUR_US + minute_us }));
    ck_assert(uplink_clocks_agree(&clock, (wall_us){ 1001 * HOUR_US - minute_us }));
    ck_assert(!uplink_clocks_agree(&clock, (wall_us){ 999 * HOUR_US - minute_us }));
    ck_assert(!uplink_clocks_agree(&clock, (wall_us){ 1001 * HOUR_US + minute_us }));
    ck_assert(!uplink_clocks_agree(&clock, (wall_us){ 0 }));
    ck_assert(!uplink_clocks_agree(&unknown, (wall_us){ 0 }));
}
END_TEST

/* ---- encoding ---- */

static const Sentinel__Telemetry__V1__StreamMetricsRequest *decode(struct arena *arena,
                                                                   const struct buf *bytes)
{
    struct wire_problem problem;
    ProtobufCMessage *message;

    ck_assert_int_eq(wire_unpack(&sentinel__telemetry__v1__stream_metrics_request__descriptor,
                                 buf_span(bytes), arena, &message, &problem),
                     0);
    return (const Sentinel__Telemetry__V1__StreamMetricsRequest *) (void *) message;
}

START_TEST(series_and_layouts_are_declared_once_in_a_stream)
{
    const struct uplink_clock clock = { 0 };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct spool_layout *layout = hub_layout(3);
    double values[] = { 1.5, NAN, -2 };
    uint32_t absent[] = { 1 };
    struct spool_item item = {
        .sequence = 7,
        .scrape = { .layout = layout,
                    .time = { 123 },
                    .values = values,
                    .absent = absent,
                    .n_absent = 1 },
        .records = 2,
    };
    const Sentinel__Telemetry__V1__StreamMetricsRequest *request;
    struct encoder encoder = { { 0 } };
    struct arena arena;

    arena_init(&arena, 1u << 20);
    /* Not committed: not declared. */
    for (int i = 0; i < 2; i++) {
        buf_clear(&bytes);
        ck_assert_int_eq(encoder_put(&encoder, SPOOL_METRICS, &item, &clock, &bytes), 0);
        request = decode(&arena, &bytes);
        ck_assert_uint_eq(request->batch->sequence, 7);
        ck_assert_uint_eq(request->batch->n_series, 3);
        ck_assert_str_eq(request->batch->series[2]->name, "test.series");
        ck_assert_str_eq(request->batch->series[2]->unit, "By");
        ck_assert_str_eq(request->batch->series[2]->attributes[0]->key, "number");
        ck_assert_str_eq(request->batch->series[2]->attributes[0]->value, "2");
        ck_assert_int_eq(request->batch->series[2]->kind,
                         SENTINEL__TELEMETRY__V1__KIND__KIND_COUNTER);
        ck_assert_uint_eq(request->batch->n_layouts, 1);
        ck_assert_uint_eq(request->batch->layouts[0]->n_series_ids, 3);
        ck_assert_uint_eq(request->batch->layouts[0]->series_ids[1], request->batch->series[1]->id);
    }
    ck_assert_int_eq(encoder_commit(&encoder, SPOOL_METRICS, &item), 0);

    buf_clear(&bytes);
    ck_assert_int_eq(encoder_put(&encoder, SPOOL_METRICS, &item, &clock, &bytes), 0);
    request = decode(&arena, &bytes);
    ck_assert_uint_eq(request->batch->n_series, 0);
    ck_assert_uint_eq(request->batch->n_layouts, 0);
    ck_assert_uint_eq(request->batch->n_scrapes, 1);
    ck_assert_uint_eq(request->batch->scrapes[0]->layout_id, layout->id);
    ck_assert_int_eq(request->batch->scrapes[0]->time_unix_us, 123);
    ck_assert_uint_eq(request->batch->scrapes[0]->n_values, 3);
    ck_assert_double_eq(request->batch->scrapes[0]->values[2], -2);
    ck_assert_uint_eq(request->batch->scrapes[0]->absent[0], 1);

    encoder_reset(&encoder);
    buf_clear(&bytes);
    ck_assert_int_eq(encoder_put(&encoder, SPOOL_METRICS, &item, &clock, &bytes), 0);
    ck_assert_uint_eq(decode(&arena, &bytes)->batch->n_series, 3);
    encoder_deinit(&encoder);
    arena_deinit(&arena);
    (void) spool_layout_unref(layout);
}
END_TEST

START_TEST(a_skip_carries_its_reason_and_count)
{
    const struct uplink_clock clock = { 0 };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct spool_item item = {
        .sequence = 9, .is_skip = true, .reason = SPOOL_REFUSED, .records = 12
    };
    const Sentinel__Telemetry__V1__StreamMetricsRequest *request;
    struct encoder encoder = { { 0 } };
    struct arena arena;

    arena_init(&arena, 1u << 20);
    ck_assert_int_eq(encoder_put(&encoder, SPOOL_METRICS, &item, &clock, &bytes), 0);
    request = decode(&arena, &bytes);
    ck_assert_uint_eq(request->skip->through_sequence, 9);
    ck_assert_int_eq(request->skip->reason,
                     SENTINEL__TELEMETRY__V1__SKIP_REASON__SKIP_REASON_REFUSED);
    ck_assert_uint_eq(request->skip->records, 12);
    arena_deinit(&arena);
}
END_TEST

START_TEST(logs_are_encoded_as_they_are_read_and_restamped_when_the_clock_was_wrong)
{
    static const struct spool_log_attribute attribute = { { (const uint8_t *) "key", 3 },
                                                          { (const uint8_t *) "a\0b", 3 } };
    const struct spool_log_record records[] = {
        { .time_us = 5000,
          .observed_us = 6000,
          .severity = 17,
          .source_offset = 300,
          .body = { (const uint8_t *) "one\0two", 7 },
          .attributes = &attribute,
          .n_attributes = 1 },
        { .time_us = 100 * HOUR_US, .is_raw = true, .body = { (const uint8_t *) "\xff", 1 } },
    };
    struct uplink_clock clock = { .is_known = true, .hub_us = 1000 * HOUR_US, .boot_us = HOUR_US };
    struct spool_item item = {
        .sequence = 300,
        .records = 2,
        .is_this_boot = true,
        .logs = { .source = { span_of_text("file"), span_of_text("/var/log/a"), &attribute, 1 },
                  .records = records,
                  .n_records = 2,
                  .time = { 7000 } },
    };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct wire_log_record record;
    struct wire_problem problem;
    struct encoder encoder = { { 0 } };
    struct wire_logs logs;

    ck_assert_int_eq(encoder_put(&encoder, SPOOL_LOGS, &item, &clock, &bytes), 0);
    ck_assert_int_eq(wire_logs_open(buf_span(&bytes), &logs, &problem), 0);
    ck_assert_int_eq(logs.type, WIRE_LOGS_BATCH);
    ck_assert_uint_eq(logs.sequence, 300);
    ck_assert_uint_eq(logs.n_records, 2);
    ck_assert_uint_eq(logs.n_source_attributes, 1);
    ck_assert(span_equal(logs.source_name, span_of_text("/var/log/a")));
    ck_assert_int_eq(wire_logs_next(&logs, &record, &problem), 0);
    /* Stamped in 1970, an hour after the boot. */
    ck_assert_int_eq(record.time_us, 999 * HOUR_US + 5000);
    ck_assert_int_eq(record.observed_us, 999 * HOUR_US + 6000);
    ck_assert_uint_eq(record.severity, 17);
    ck_assert_uint_eq(record.source_offset, 300);
    ck_assert(!record.is_raw);
    ck_assert(span_equal(record.body, records[0].body));
    ck_assert_uint_eq(record.n_attributes, 1);
    ck_assert_int_eq(wire_logs_next(&logs, &record, &problem), 0);
    ck_assert_int_eq(record.time_us, 100 * HOUR_US); /* that is what the line said */
    ck_assert(record.is_raw);
    ck_assert(span_equal(record.body, records[1].body));
    ck_assert_uint_eq(
        logs.crc32c,
        wire_logs_checksum_add(wire_logs_checksum_add(wire_logs_checksum(300), 17, records[0].body),
                               0, records[1].body));
}
END_TEST

/* ---- blocks of logs ---- */

#define N_LINES 300

/* Of every kind that there is. */
static struct spool_log_record make_line(size_t i, int64_t batch_us)
{
    static uint8_t text[200], bytes[200]; /* with NUL; no UTF-8 */
    static struct spool_log_attribute attributes[] = {
        { { (const uint8_t *) "key", 3 }, { (const uint8_t *) "a\0b", 3 } },
        { { (const uint8_t *) "k", 1 }, { (const uint8_t *) "", 0 } },
        { { (const uint8_t *) "unit", 4 }, { (const uint8_t *) "cron", 4 } },
    };

    for (size_t k = 0; k < sizeof(bytes); k++) {
        text[k] = (uint8_t) (k % 128);
        bytes[k] = (uint8_t) (k + 100);
    }
    return (struct spool_log_record){
        .time_us = i % 19 == 0   ? 0
                   : i % 23 == 0 ? 5
                                 : batch_us - (int64_t) (i * 1000),
        .observed_us = i % 3 == 0 ? 0 : batch_us + (int64_t) i,
        .source_offset = i % 7 == 0 ? 0 : UINT64_C(0x7fffffffffff0000) + i * 77,
        .severity = (uint32_t) i % 25,
        .is_raw = i % 5 == 0,
        .body = span_of((i % 5 ? text : bytes) + i % 100, i % 11 == 0 ? 0 : i % 100 + 1),
        .trace_id = span_of(bytes + i % 50, i % 4 == 1 ? 16 : 0),
        .span_id = span_of(bytes + i % 60, i % 4 > 1 ? 8 : 0),
        .attributes = attributes + i % 2,
        .n_attributes = i % 3,
    };
}

static struct spool_item item_of(const struct spool_log_record *records, size_t n, int64_t time_us)
{
    static const struct spool_log_attribute attribute = { { (const uint8_t *) "host", 4 },
                                                          { (const uint8_t *) "a\0b", 3 } };

    return (struct spool_item){
        .sequence = 300,
        .records = n,
        .is_this_boot = true,
        .stamp_offset_us = time_us - HOUR_US,
        .logs = { .source = { span_of_text("file"), span_of_text("/var/log/a"), &attribute, 1 },
                  .records = records,
                  .n_records = n,
                  .time = { time_us } },
    };
}

/* As a hub reads it; all but the source's attributes and the records. */
static void open_batch(const struct buf *bytes, struct wire_logs *ret)
{
    struct wire_problem problem;

    ck_assert_int_eq(wire_logs_open(buf_span(bytes), ret, &problem), 0);
    ck_assert_int_eq(ret->type, WIRE_LOGS_BATCH);
    ck_assert_uint_eq(ret->sequence, 300);
    ck_assert(span_equal(ret->source_type, span_of_text("file")));
    ck_assert(span_equal(ret->source_name, span_of_text("/var/log/a")));
    ck_assert_uint_eq(ret->n_source_attributes, 1);
}

static void check_line(const struct spool_log_record *is, const struct spool_log_record *was)
{
    ck_assert_int_eq(is->time_us, was->time_us);
    ck_assert_int_eq(is->observed_us, was->observed_us);
    ck_assert_uint_eq(is->source_offset, was->source_offset);
    ck_assert_uint_eq(is->severity, was->severity);
    ck_assert_int_eq(is->is_raw, was->is_raw);
    ck_assert(span_equal(is->body, was->body));
    ck_assert(span_equal(is->trace_id, was->trace_id));
    ck_assert(span_equal(is->span_id, was->span_id));
    ck_assert_uint_eq(is->n_attributes, was->n_attributes);
    ck_assert_uint_eq(hub_add_line(0, is), hub_add_line(0, was)); /* and attributes */
}

/* What this machine's clock was behind the hub's: not worth it, or two days, or years. */
static const int64_t behinds_us[] = { 5, 48 * HOUR_US, 24 * 365 * 50 * HOUR_US };

START_TEST(a_batch_goes_as_a_block_with_each_record_as_it_goes_alone)
{
    const int64_t hub_us = 24 * 365 * 56 * HOUR_US, batch_us = hub_us - behinds_us[_i];
    const struct uplink_clock clock = { .is_known = true, .hub_us = hub_us, .boot_us = HOUR_US };
    CLEANUP(buf_deinit) struct buf as_block = { 0 }, as_records = { 0 };
    static struct spool_log_record lines[N_LINES];
    struct spool_item item = item_of(lines, N_LINES, batch_us);
    struct spool_log_attribute room[HUB_ATTRIBUTES], other_room[HUB_ATTRIBUTES];
    struct spool_log_record line, other;
    struct encoder_blocks blocks = { 0 };
    struct encoder encoder = { { 0 } };
    struct wire_log_record record;
    struct wire_problem problem;
    struct logblock_sent sent;
    struct wire_logs logs;
    struct arena arena;
    struct span block;

    for (size_t i = 0; i < N_LINES; i++)
        lines[i] = make_line(i, batch_us);
    ck_assert_int_eq(encoder_put_block(&blocks, &item, 0, &clock, &as_block), 0);
    ck_assert_int_eq(encoder_put(&encoder, SPOOL_LOGS, &item, &clock, &as_records), 0);
    ck_assert_uint_lt(as_block.len, as_records.len / 2);
    open_batch(&as_block, &logs);
    ck_assert_uint_eq(logs.n_records, 0);
    block = logs.block;
    open_batch(&as_records, &logs);
    ck_assert_ptr_null(logs.block.data);
    ck_assert_uint_eq(logs.n_records, N_LINES);
    hub_read_block(block, &arena, &sent);
    ck_assert_uint_eq(sent.n_records, N_LINES);
    for (size_t i = 0; i < N_LINES; i++) {
        hub_line_of_block(&sent.records[i], room, &line);
        ck_assert_int_eq(wire_logs_next(&logs, &record, &problem), 0);
        hub_line_of_wire(&record, other_room, &other);
        check_line(&line, &other);
        other = lines[i];
        if (_i > 0 && i % 19 && i % 23)
            other.time_us += behinds_us[_i];
        if (_i > 0 && i % 3)
            other.observed_us += behinds_us[_i];
        check_line(&line, &other);
    }
    arena_deinit(&arena);
    encoder_blocks_deinit(&blocks);
}
END_TEST

static int put_block(const struct spool_item *item, uint32_t message_bytes)
{
    const struct uplink_clock clock = { 0 };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct encoder_blocks blocks = { 0 };
    int r = encoder_put_block(&blocks, item, message_bytes, &clock, &bytes);

    ck_assert_int_eq(bytes.len > 0, r == 0);
    encoder_blocks_deinit(&blocks);
    return r;
}

START_TEST(a_block_has_no_less_than_is_worth_it_and_no_more_than_the_hub_takes)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const struct spool_log_attribute attribute = { span_of_text("key"), span_of_text("value") };
    struct spool_log_record record = { .attributes = &attribute, .n_attributes = 1 };
    const struct spool_item item = item_of(&record, 1, 0);
    static const struct {
        size_t raw_bytes;
        uint32_t message_bytes;
        int is;
    } rows[] = {
        { (4u << 10) - 1, 0, ENCODER_UNFIT },
        { 4u << 10, 0, ENCODER_OK },
        { 4u << 20, 0, ENCODER_OK },
        { (4u << 20) + 1, 0, ENCODER_UNFIT },
        { 100000, 100000, ENCODER_OK },
        { 100001, 100000, ENCODER_UNFIT },
        { LOGBLOCK_RAW_MAX, UINT32_MAX, ENCODER_OK },
        { LOGBLOCK_RAW_MAX + 1, UINT32_MAX, ENCODER_UNFIT },
    };

    ck_assert_ptr_nonnull(buf_extend(&text, LOGBLOCK_RAW_MAX));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        record.body = span_of(text.data, rows[i].raw_bytes - 8);
        ck_assert_msg(put_block(&item, rows[i].message_bytes) == rows[i].is, "row %zu", i);
    }
}
END_TEST

START_TEST(what_a_block_cannot_hold_goes_as_records)
{
    static const struct spool_log_attribute nameless = { .value = { (const uint8_t *) "v", 1 } };
    static struct spool_log_attribute attributes[LOGBLOCK_ATTRIBUTES_MAX + 1];
    static struct spool_log_record many[LOGBLOCK_RECORDS_MAX + 1];
    static uint8_t text[5000];
    const struct span body = span_of(text, sizeof(text));
    const struct spool_log_record rows[] = {
        { .severity = LOGBLOCK_SEVERITY_MAX + 1 },
        { .trace_id = span_of(text, 15) },
        { .span_id = span_of(text, 16) },
        { .attributes = attributes, .n_attributes = LOGBLOCK_ATTRIBUTES_MAX + 1 },
        { .attributes = &nameless, .n_attributes = 1 },
    };
    struct spool_log_record pair[2] = { { .body = body } };
    struct spool_item item = item_of(pair, 2, 0);

    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
        attributes[i].key = span_of_text("key");
    ck_assert_int_eq(put_block(&item, 0), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        pair[1] = rows[i];
        ck_assert_msg(put_block(&item, 0) == ENCODER_UNFIT, "row %zu", i);
    }
    pair[1] = (struct spool_log_record){ .severity = LOGBLOCK_SEVERITY_MAX,
                                         .attributes = attributes,
                                         .n_attributes = LOGBLOCK_ATTRIBUTES_MAX };
    ck_assert_int_eq(put_block(&item, 0), 0);
    item.is_skip = true;
    ck_assert_int_eq(put_block(&item, 0), ENCODER_UNFIT);
    many[0].body = body;
    item = item_of(many, LOGBLOCK_RECORDS_MAX, 0);
    ck_assert_int_eq(put_block(&item, 0), 0);
    item = item_of(many, LOGBLOCK_RECORDS_MAX + 1, 0);
    ck_assert_int_eq(put_block(&item, 0), ENCODER_UNFIT);
}
END_TEST

START_TEST(what_a_large_block_took_is_not_kept_for_small_ones)
{
    const struct uplink_clock clock = { 0 };
    CLEANUP(buf_deinit) struct buf text = { 0 }, bytes = { 0 };
    struct spool_log_record record = { 0 };
    const struct spool_item item = item_of(&record, 1, 0);
    struct encoder_blocks blocks = { 0 };

    ck_assert_ptr_nonnull(buf_extend(&text, 2u << 20));
    for (unsigned i = 0; i < 2; i++) {
        record.body = span_of(text.data, 512u << 10);
        ck_assert_int_eq(encoder_put_block(&blocks, &item, 0, &clock, &bytes), 0);
        ck_assert_ptr_nonnull(blocks.work);
        record.body = buf_span(&text);
        ck_assert_int_eq(encoder_put_block(&blocks, &item, 0, &clock, &bytes), 0);
        ck_assert_ptr_null(blocks.work);
        ck_assert_uint_eq(blocks.n_records + blocks.block.capacity, 0);
    }
}
END_TEST

START_TEST(a_bucket_gives_no_more_than_its_rate)
{
    struct uplink_bucket bucket = { 0 };

    ck_assert(uplink_bucket_has(&bucket, 1, 0)); /* no limit */
    uplink_bucket_set(&bucket, 1000);
    ck_assert(uplink_bucket_has(&bucket, 1, 0.5));
    uplink_bucket_take(&bucket, 600);
    ck_assert(!uplink_bucket_has(&bucket, 1, 0.5));
    ck_assert(uplink_bucket_has(&bucket, 1, 0));
    uplink_bucket_take(&bucket, 2400); /* larger than all: debts */
    ck_assert(!uplink_bucket_has(&bucket, 1000001, 0));
    ck_assert(!uplink_bucket_has(&bucket, 2000001, 0));
    ck_assert(uplink_bucket_has(&bucket, 2100001, 0));
    ck_assert(uplink_bucket_has(&bucket, 900000001, 0.9));
    uplink_bucket_take(&bucket, 1000);
    ck_assert(!uplink_bucket_has(&bucket, 900000001, 0));
}
END_TEST

TCase *case_uplink_policy(void)
{
    TCase *policy = tcase_create("policy");

    tcase_add_test(policy, the_first_retry_is_uniform_in_the_spread);
    tcase_add_test(policy, later_retries_double_with_jitter_up_to_the_limit);
    tcase_add_test(policy, errors_fall_into_classes);
    tcase_add_test(policy, a_bucket_gives_no_more_than_its_rate);
    tcase_add_test(policy, a_stamp_is_kept_unless_the_clock_was_far_off);
    tcase_add_test(policy, clocks_agree_within_an_hour);
    return policy;
}

TCase *case_uplink_encoding(void)
{
    TCase *encoding = tcase_create("encoding");

    tcase_add_test(encoding,
                   logs_are_encoded_as_they_are_read_and_restamped_when_the_clock_was_wrong);
    tcase_add_loop_test(encoding, a_batch_goes_as_a_block_with_each_record_as_it_goes_alone, 0,
                        sizeof(behinds_us) / sizeof(behinds_us[0]));
    tcase_add_test(encoding, a_block_has_no_less_than_is_worth_it_and_no_more_than_the_hub_takes);
    tcase_add_test(encoding, what_a_block_cannot_hold_goes_as_records);
    tcase_add_test(encoding, what_a_large_block_took_is_not_kept_for_small_ones);
    tcase_add_test(encoding, series_and_layouts_are_declared_once_in_a_stream);
    tcase_add_test(encoding, a_skip_carries_its_reason_and_count);
    return encoding;
}
