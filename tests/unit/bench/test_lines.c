/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/lines.h"

#include <string.h>

#include "bench/load.h"
#include "common/wire/wire.h"
#include "suite.h"

#define AGENTS 20u
#define BATCH 200u

static const struct lines lines = { .seed = 7,
                                    .batch_lines = BATCH,
                                    .first_us = INT64_C(1795428000000000),
                                    .interval_us = 100 };

/* What the hub would read; returns the bytes of the bodies. */
static uint64_t read_batch(struct span bytes, uint32_t agent, uint64_t sequence)
{
    struct wire_log_record record;
    struct wire_problem problem;
    struct wire_logs logs;
    uint64_t n_bytes = 0;

    ck_assert_int_eq(wire_logs_open(bytes, &logs, &problem), WIRE_OK);
    ck_assert_int_eq(logs.type, WIRE_LOGS_BATCH);
    ck_assert_uint_eq(logs.sequence, sequence);
    ck_assert_uint_eq(logs.n_records, BATCH);
    ck_assert_uint_gt(logs.source_type.len, 0);
    for (uint64_t i = 0; i < BATCH; i++) {
        const uint64_t line = (sequence - 1) * BATCH + i;
        char trace[LINES_TRACE_BYTES];

        ck_assert_int_eq(wire_logs_next(&logs, &record, &problem), WIRE_OK);
        ck_assert_int_eq(record.time_us, lines_time_us(&lines, line));
        ck_assert(record.severity >= 1 && record.severity <= 24);
        ck_assert_uint_gt(record.body.len, 20);
        n_bytes += record.body.len;
        if (lines_have_trace(agent)) {
            lines_trace(&lines, agent, line, trace);
            ck_assert_ptr_nonnull(
                memmem(record.body.data, record.body.len, trace, LINES_TRACE_BYTES - 1));
        }
    }
    return n_bytes;
}

START_TEST(lines_are_what_the_hub_reads_and_as_long_as_real_ones)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    uint64_t n_bytes = 0, n_said;

    for (uint32_t agent = 0; agent < AGENTS; agent++) {
        for (uint64_t sequence = 1; sequence < 4; sequence++) {
            n_said = lines_batch(&lines, agent, sequence, &bytes);
            ck_assert(!buf_failed(&bytes));
            ck_assert_uint_eq(n_said, read_batch(buf_span(&bytes), agent, sequence));
            n_bytes += n_said;
        }
    }
    n_bytes /= AGENTS * 3 * BATCH;
    ck_assert_msg(n_bytes > 150 && n_bytes < 250, "%llu", (unsigned long long) n_bytes);
}
END_TEST

START_TEST(lines_are_the_same_whenever_they_are_made)
{
    CLEANUP(buf_deinit) struct buf once = { 0 }, again = { 0 };

    (void) lines_batch(&lines, 3, 300, &once);
    (void) lines_batch(&lines, 4, 2, &again);
    (void) lines_batch(&lines, 3, 300, &again);
    ck_assert(span_equal(buf_span(&once), buf_span(&again)));
    (void) lines_batch(&lines, 3, 301, &again);
    ck_assert(!span_equal(buf_span(&once), buf_span(&again)));
}
END_TEST

START_TEST(a_load_of_lines_goes_to_the_stream_of_logs)
{
    CLEANUP(buf_deinit) struct buf declared = { 0 };
    struct load load = { .n_agents = 2,
                         .n_series = 1,
                         .batch_scrapes = BATCH,
                         .first_us = lines.first_us,
                         .interval_us = lines.interval_us,
                         .lines = &lines };
    struct load_message message = { .agent = 0 };
    struct span bytes;

    ck_assert_int_eq(load_init(&load), 0);
    ck_assert_int_eq(load_message_init(&message, &load, 1), 0);
    bytes = load_message_patch(&message, &load, 5);
    ck_assert_uint_eq(message.body_bytes, read_batch(bytes, 1, 5));
    ck_assert_int_eq(load_message_declare(&message, &load, 5, &declared), 0);
    ck_assert(span_equal(load_message_patch(&message, &load, 5), buf_span(&declared)));
    ck_assert_uint_ne(load_message_checksum(&message, &load, 5),
                      load_message_checksum(&message, &load, 6));
    ck_assert_str_eq(load_path(&load), "/sentinel.telemetry.v1.TelemetryService/StreamLogs");
    ck_assert_int_eq(load_time_us(&load, 1, 4 * BATCH), lines_time_us(&lines, 4 * BATCH));
    load_message_deinit(&message);
    load_deinit(&load);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("bench/lines");
    TCase *tc = tcase_create("lines");

    suite_add_tcase(s, tc);
    tcase_add_test(tc, lines_are_what_the_hub_reads_and_as_long_as_real_ones);
    tcase_add_test(tc, lines_are_the_same_whenever_they_are_made);
    tcase_add_test(tc, a_load_of_lines_goes_to_the_stream_of_logs);
    return s;
}
