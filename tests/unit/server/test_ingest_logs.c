/* SPDX-License-Identifier: Apache-2.0 */

/* Batches of logs: what they may be, and that they are taken whole or not at all. */

#include <stdio.h>
#include <stdlib.h>

#include "suite.h"
#include "test_ingest_rig.h"

#define RECORDS 3
#define BODY_LIMIT (256u << 10)
#define TURNS 2000

static struct line line;
static struct logblock_attribute attributes[33];
static char keys[33][4];
static struct logblock_source source;
static struct logblock_record records[RECORDS];
static struct ingest_log_ids ids[RECORDS];
static struct logblock_record turns[TURNS];
static struct ingest_log_ids turn_ids[TURNS];
static struct ingest_logs logs;
static struct ingest_batch batch;
static uint8_t *long_body;

static void open_logs(uint64_t first, uint64_t last)
{
    struct ingest_hello hello = hello_of(SPOOL, first, last);

    hello.signal = STORE_LOGS;
    ck_assert_msg(try_hello(&line, &hello) == INGEST_OK, "%s: %s", line.problem.field,
                  line.problem.description);
}

static void make_batch(uint64_t sequence)
{
    for (size_t i = 0; i < N(attributes); i++) {
        (void) snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
        attributes[i] = (struct logblock_attribute){ span_of_text(keys[i]), span_of("v\0w", 3) };
    }
    source = (struct logblock_source){
        .type = span_of_text("file"),
        .name = span_of_text("/var/log/syslog"),
        .attributes = attributes,
        .n_attributes = 2,
    };
    for (size_t i = 0; i < RECORDS; i++) {
        records[i] = (struct logblock_record){
            .time_us = NOW_US - (int64_t) i * MINUTE,
            .severity = 9,
            .body = span_of("a line with \0 in it", 19),
            .attributes = attributes,
            .n_attributes = i,
        };
        ids[i] = (struct ingest_log_ids){ 0 };
    }
    logs = (struct ingest_logs){ &source, records, ids, RECORDS };
    batch = (struct ingest_batch){ .sequence = sequence, .crc32c = 1001, .logs = &logs };
}

static void start(void)
{
    set_up();
    long_body = calloc(1, BODY_LIMIT + 1);
    ck_assert_ptr_nonnull(long_body);
    make_batch(1);
    open_logs(1, 0x7fffffff);
}

static void end(void)
{
    close_line(&line);
    free(long_body);
    tear_down();
}

static uint64_t n_stored(void)
{
    struct store_logs_of of;

    store_logs_of_agent(store, agent, &of);
    return of.n_records;
}

START_TEST(a_batch_is_acknowledged_when_it_is_stored)
{
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 1);
    ck_assert_uint_eq(n_stored(), RECORDS);
    ck_assert_uint_eq(line.acked, 1);
}
END_TEST

START_TEST(a_batch_sent_again_is_stored_once)
{
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 1);
    close_line(&line);
    open_logs(1, 2);
    ck_assert_uint_eq(line.welcome.resume_after_sequence, 1);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    make_batch(2);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 2);
    ck_assert_uint_eq(n_stored(), 2 * (uint64_t) RECORDS);
}
END_TEST

START_TEST(a_skip_is_the_way_past_records_that_were_dropped)
{
    const struct ingest_batch skip = { .sequence = 7, .is_skip = true, .skip_records = 100 };

    ck_assert_int_eq(give(&line, &skip), INGEST_OK);
    make_batch(8);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 8);
    make_batch(10);
    ck_assert_int_eq(give(&line, &batch), INGEST_GAP);
    ck_assert_uint_eq(n_stored(), RECORDS);
}
END_TEST

/* Metrics and logs of one spool id are two runs, and none takes the other over. */
START_TEST(runs_of_two_signals_have_nothing_to_do_with_each_other)
{
    struct line metrics;

    open_line(&metrics, 1, 0x7fffffff);
    give_first(&metrics);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&metrics, 1);
    wait_for_ack(&line, 1);
    close_line(&metrics);
}
END_TEST

START_TEST(a_batch_without_records_counts_too)
{
    logs.n_records = 0;
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 1);
    ck_assert_uint_eq(n_stored(), 0);
}
END_TEST

START_TEST(a_body_may_be_as_long_as_the_limit)
{
    records[1].body = span_of(long_body, BODY_LIMIT);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 1);
    ck_assert_uint_eq(n_stored(), RECORDS);
}
END_TEST

/* ---- tests: a batch that breaks a rule ---- */

static void too_old(void)
{
    records[1].time_us = NOW_US - INT64_C(30) * 24 * 60 * MINUTE - 1;
}
static void in_the_future(void)
{
    records[1].time_us = NOW_US + 60 * MINUTE + 1;
}
static void time_least(void)
{
    records[2].time_us = INT64_MIN;
}
static void severity_of_tomorrow(void)
{
    records[1].severity = 25;
}
static void body_too_long(void)
{
    records[2].body = span_of(long_body, BODY_LIMIT + 1);
}
static void raw_too_long(void)
{
    body_too_long();
    records[2].is_raw = true;
}
static void trace_id_short(void)
{
    ids[1].trace_id_bytes = 15;
}
static void span_id_long(void)
{
    ids[0].span_id_bytes = UINT8_MAX;
}
static void too_many_attributes(void)
{
    records[0].n_attributes = 33;
}
static void key_twice(void)
{
    attributes[1].key = attributes[0].key;
    source.n_attributes = 0;
}
static void key_empty(void)
{
    attributes[0].key.len = 0;
    source.n_attributes = 0;
}
static void key_too_long(void)
{
    attributes[0].key = span_of(long_body, 256);
    source.n_attributes = 0;
}
static void value_too_long(void)
{
    attributes[0].value = span_of(long_body, 1025);
    source.n_attributes = 0;
}
static void source_attribute_too_long(void)
{
    attributes[1].value = span_of(long_body, 1025);
}
static void no_type(void)
{
    source.type.len = 0;
}
static void type_too_long(void)
{
    source.type = span_of(long_body, 64);
}
static void name_too_long(void)
{
    source.name = span_of(long_body, 4097);
}
static void too_many_records(void)
{
    logs.n_records = 65537; /* the first thing looked at */
}

/* Records of two days in turns, each with a source of 40 kB: 70 MB out of some 60 kB. */
static void days_in_turns(void)
{
    for (size_t i = 0; i < TURNS; i++) {
        turns[i] = records[0];
        turns[i].time_us -= (int64_t) (i % 2) * 24 * 60 * MINUTE;
    }
    for (size_t i = 0; i < 32; i++)
        attributes[i].value = span_of(long_body, 1024);
    source.n_attributes = 32;
    source.name = span_of(long_body, 4096);
    logs.records = turns;
    logs.ids = turn_ids;
    logs.n_records = TURNS;
}

static const struct {
    void (*edit)(void);
    int outcome;
    const char *field;
    const char *quota;
} rules[] = {
    { too_old, INGEST_TIME_OUT_OF_RANGE, "batch.records[1].time_unix_us", NULL },
    { in_the_future, INGEST_TIME_OUT_OF_RANGE, "batch.records[1].time_unix_us", NULL },
    { time_least, INGEST_TIME_OUT_OF_RANGE, "batch.records[2].time_unix_us", NULL },
    { severity_of_tomorrow, INGEST_BAD_BATCH, "batch.records[1].severity_number", NULL },
    { body_too_long, INGEST_LIMIT, "batch.records[2].text", "log_body_bytes" },
    { raw_too_long, INGEST_LIMIT, "batch.records[2].raw", "log_body_bytes" },
    { trace_id_short, INGEST_BAD_BATCH, "batch.records[1].trace_id", NULL },
    { span_id_long, INGEST_BAD_BATCH, "batch.records[0].span_id", NULL },
    { too_many_attributes, INGEST_BAD_BATCH, "batch.records[0].attributes", NULL },
    { key_twice, INGEST_BAD_BATCH, "batch.records[2].attributes[1].key", NULL },
    { key_empty, INGEST_BAD_BATCH, "batch.records[1].attributes[0].key", NULL },
    { key_too_long, INGEST_BAD_BATCH, "batch.records[1].attributes[0].key", NULL },
    { value_too_long, INGEST_BAD_BATCH, "batch.records[1].attributes[0].value", NULL },
    { source_attribute_too_long, INGEST_BAD_BATCH, "batch.source.attributes[1].value", NULL },
    { no_type, INGEST_BAD_BATCH, "batch.source.type", NULL },
    { type_too_long, INGEST_BAD_BATCH, "batch.source.type", NULL },
    { name_too_long, INGEST_BAD_BATCH, "batch.source.name", NULL },
    { too_many_records, INGEST_LIMIT, "batch.records", "batch_log_records" },
    { days_in_turns, INGEST_BAD_BATCH, "batch.records", NULL },
};

START_TEST(a_broken_rule_is_named_and_nothing_is_stored)
{
    rules[_i].edit();
    ck_assert_int_eq(give(&line, &batch), rules[_i].outcome);
    ck_assert_str_eq(line.problem.field, rules[_i].field);
    ck_assert_uint_gt(strlen(line.problem.description), 10);
    if (rules[_i].quota)
        ck_assert_str_eq(line.problem.quota, rules[_i].quota);
    else
        ck_assert_ptr_null(line.problem.quota);
    ck_assert_int_eq(next_event(&line).outcome, rules[_i].outcome);
    ck_assert_uint_eq(n_stored(), 0);
}
END_TEST

START_TEST(new_limits_count_from_the_next_batch)
{
    struct ingest_limits limits;

    ingest_get_limits(ingest, &limits);
    limits.log_body_bytes = BODY_LIMIT + 1;
    ingest_set_limits(ingest, &limits);
    body_too_long();
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 1);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/ingest_logs");
    TCase *tc = tcase_create("logs");

    suite_add_tcase(s, tc);
    tcase_add_checked_fixture(tc, start, end);
    tcase_add_test(tc, a_batch_is_acknowledged_when_it_is_stored);
    tcase_add_test(tc, a_batch_sent_again_is_stored_once);
    tcase_add_test(tc, a_skip_is_the_way_past_records_that_were_dropped);
    tcase_add_test(tc, runs_of_two_signals_have_nothing_to_do_with_each_other);
    tcase_add_test(tc, a_batch_without_records_counts_too);
    tcase_add_test(tc, a_body_may_be_as_long_as_the_limit);
    tcase_add_loop_test(tc, a_broken_rule_is_named_and_nothing_is_stored, 0,
                        sizeof(rules) / sizeof(rules[0]));
    tcase_add_test(tc, new_limits_count_from_the_next_batch);
    return s;
}
