/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "common/wire/wire.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"

static struct histogram histogram;

static const struct load synthetic; /* without a recording */

static void begin(void)
{
    memset(&histogram, 0, sizeof(histogram));
}

/* ---- histogram ---- */

START_TEST(an_empty_histogram_says_zero)
{
    ck_assert_uint_eq(histogram_count(&histogram), 0);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.99), 0);
    ck_assert_uint_eq(histogram_max(&histogram), 0);
}
END_TEST

START_TEST(small_values_are_exact)
{
    for (int64_t us = 1; us <= 100; us++)
        histogram_add(&histogram, us, 1);
    ck_assert_uint_eq(histogram_count(&histogram), 100);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.50), 50);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.99), 99);
    ck_assert_uint_eq(histogram_quantile(&histogram, 1.0), 100);
}
END_TEST

START_TEST(any_value_is_known_to_two_percent_and_never_too_low)
{
    for (uint64_t us = 1; us < UINT64_C(1) << 36; us += us / 7 + 1) {
        uint64_t told;

        begin();
        histogram_add(&histogram, (int64_t) us, 1);
        histogram_add(&histogram, INT64_C(1) << 40,
                      1); /* the maximum does not hide the bucket's bound */
        told = histogram_quantile(&histogram, 0.5);
        ck_assert_uint_ge(told, us);
        ck_assert_uint_le(told, us + us / 50);
    }
}
END_TEST

START_TEST(the_maximum_is_exact_and_bounds_every_quantile)
{
    histogram_add(&histogram, 123457, 3);
    ck_assert_uint_eq(histogram_max(&histogram), 123457);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.99), 123457);
}
END_TEST

START_TEST(values_beyond_the_scale_and_below_zero_are_counted)
{
    histogram_add(&histogram, INT64_MAX, 1);
    histogram_add(&histogram, -5, 1);
    ck_assert_uint_eq(histogram_count(&histogram), 2);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.5), 0);
    ck_assert_uint_eq(histogram_max(&histogram), (uint64_t) INT64_MAX);
}
END_TEST

START_TEST(merging_adds_counts_and_keeps_the_larger_maximum)
{
    struct histogram *other = calloc(1, sizeof(*other));

    ck_assert_ptr_nonnull(other);
    histogram_add(&histogram, 10, 99);
    histogram_add(other, 5000, 1);
    histogram_merge(&histogram, other);
    ck_assert_uint_eq(histogram_count(&histogram), 100);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.99), 10);
    ck_assert_uint_eq(histogram_max(&histogram), 5000);
    free(other);
}
END_TEST

START_TEST(the_median_is_the_middle_or_between_the_two)
{
    double odd[] = { 3, 1, 2 }, even[] = { 4, 1, 3, 2 };

    ck_assert_double_eq(stats_median(odd, 3), 2);
    ck_assert_double_eq(stats_median(even, 4), 2.5);
}
END_TEST

/* ---- values ---- */

START_TEST(a_value_depends_on_agent_series_and_scrape_alone)
{
    double first = load_value(&synthetic, 3, 7, 11);

    (void) load_value(&synthetic, 9, 9, 9);
    ck_assert_double_eq(load_value(&synthetic, 3, 7, 11), first);
    ck_assert_double_ne(load_value(&synthetic, 4, 7, 11), first);
    ck_assert_double_ne(load_value(&synthetic, 3, 7, 12), first);
}
END_TEST

START_TEST(constants_stay_and_counters_grow_by_integers)
{
    for (uint32_t agent = 0; agent < 20; agent++) {
        for (uint64_t scrape = 1; scrape < 500; scrape++) {
            double before = load_value(&synthetic, agent, LOAD_COUNTER, scrape - 1);
            double now = load_value(&synthetic, agent, LOAD_COUNTER, scrape);

            ck_assert_double_eq(load_value(&synthetic, agent, LOAD_CONSTANT, scrape),
                                load_value(&synthetic, agent, LOAD_CONSTANT, 0));
            ck_assert_double_ge(now, before);
            ck_assert_double_eq(now, floor(now));
        }
        ck_assert_double_gt(load_value(&synthetic, agent, LOAD_COUNTER, 500),
                            load_value(&synthetic, agent, LOAD_COUNTER, 0));
    }
}
END_TEST

START_TEST(gauges_are_decimals_with_at_most_two_places)
{
    for (uint64_t scrape = 0; scrape < 1000; scrape++) {
        double one = load_value(&synthetic, 1, LOAD_GAUGE, scrape),
               two = load_value(&synthetic, 1, LOAD_GAUGE + LOAD_N_KINDS, scrape);

        ck_assert_double_eq(round(one * 10) / 10.0, one);
        ck_assert_double_eq(round(two * 100) / 100.0, two);
        ck_assert_double_ge(one, 0);
    }
}
END_TEST

START_TEST(every_series_is_in_the_group_of_its_name)
{
    for (uint32_t n = 1; n < 20; n++) {
        struct load load = {
            .n_agents = 1, .n_series = n, .batch_scrapes = 1, .first_us = 0, .interval_us = 1
        };
        uint32_t sum = 0;

        ck_assert_int_eq(load_init(&load), 0);
        ck_assert_uint_eq(load.n_groups, n < LOAD_N_KINDS ? n : LOAD_N_KINDS);
        for (uint32_t i = 0; i < load.n_groups; i++) {
            for (uint32_t k = 0; k < load.groups[i].n_series; k++)
                ck_assert_uint_eq(load.group_of[load.groups[i].series[k]], i);
            sum += load.groups[i].n_series;
        }
        ck_assert_uint_eq(sum, n);
        load_deinit(&load);
    }
}
END_TEST

START_TEST(every_scrape_of_an_agent_lies_in_a_step_of_its_own)
{
    struct load load = { .n_agents = 7, .first_us = 10000000, .interval_us = 10000000 };

    for (uint32_t agent = 0; agent < load.n_agents; agent++) {
        for (uint64_t scrape = 0; scrape < 50; scrape++) {
            int64_t time_us = load_time_us(&load, agent, scrape);

            ck_assert_int_eq((time_us - load.first_us) / load.interval_us, (int64_t) scrape);
        }
    }
}
END_TEST

/* ---- messages: what is patched is what protobuf-c packs ---- */

struct shape {
    uint32_t n_series, batch_scrapes;
    uint64_t sequence;
};

static const struct shape shapes[] = {
    { 1, 1, 1 },           { 2, 1, 127 },        { 3, 1, 128 },   { 15, 1, 129 },
    { 16, 3, 16383 },      { 500, 1, 1 },        { 500, 1, 300 }, { 500, 4, 16384 },
    { 4096, 16, 2097151 }, { 2045, 1, 2097152 }, { 2046, 2, 5 },  { 2047, 1, 77 },
    { 40, 1, 268435456 },
};

static void init(struct load *load, const struct shape *shape)
{
    *load = (struct load){
        .n_agents = 10,
        .n_series = shape->n_series,
        .batch_scrapes = shape->batch_scrapes,
        .first_us = INT64_C(1795428000000000),
        .interval_us = 1000,
        .run = "00112233445566ff",
    };
    ck_assert_int_eq(load_init(load), 0);
}

/* The batch by the book; `declarations` NULL: without. */
static void pack_by_the_book(const struct load *load,
                             uint32_t agent,
                             uint64_t sequence,
                             Sentinel__Telemetry__V1__MetricBatch *declarations,
                             struct buf *to)
{
    Sentinel__Telemetry__V1__StreamMetricsRequest request;
    Sentinel__Telemetry__V1__MetricBatch batch;
    Sentinel__Telemetry__V1__Scrape *scrapes = calloc(load->batch_scrapes, sizeof(*scrapes));
    Sentinel__Telemetry__V1__Scrape **rows = calloc(load->batch_scrapes, sizeof(*rows));
    double *values = calloc((size_t) load->batch_scrapes * load->n_series, sizeof(*values));

    ck_assert(scrapes && rows && values);
    sentinel__telemetry__v1__stream_metrics_request__init(&request);
    sentinel__telemetry__v1__metric_batch__init(&batch);
    for (uint32_t i = 0; i < load->batch_scrapes; i++) {
        uint64_t scrape = (sequence - 1) * load->batch_scrapes + i;

        rows[i] = &scrapes[i];
        sentinel__telemetry__v1__scrape__init(rows[i]);
        rows[i]->time_unix_us = load_time_us(load, agent, scrape);
        rows[i]->layout_id = 1;
        rows[i]->values = values + (size_t) i * load->n_series;
        rows[i]->n_values = load->n_series;
        for (uint32_t k = 0; k < load->n_series; k++)
            rows[i]->values[k] = load_value(load, agent, k, scrape);
    }
    batch.sequence = sequence;
    batch.scrapes = rows;
    batch.n_scrapes = load->batch_scrapes;
    if (declarations) {
        batch.series = declarations->series;
        batch.n_series = declarations->n_series;
        batch.layouts = declarations->layouts;
        batch.n_layouts = declarations->n_layouts;
    }
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_BATCH;
    request.batch = &batch;
    ck_assert_int_eq(wire_pack(&request.base, to), 0);
    free(scrapes);
    free(rows);
    free(values);
}

static void assert_same(struct span have, const struct buf *wanted)
{
    ck_assert_uint_eq(have.len, wanted->len);
    ck_assert_int_eq(memcmp(have.data, wanted->data, have.len), 0);
}

START_TEST(a_patched_message_is_what_protobuf_packs)
{
    const struct shape *shape = &shapes[_i];
    struct load_message message;
    struct buf wanted = { 0 };
    struct load load;

    init(&load, shape);
    ck_assert_int_eq(load_message_init(&message, &load, 4), 0);
    (void) load_message_patch(&message, &load,
                              UINT32_MAX / 2); /* what was there before does not matter */
    pack_by_the_book(&load, 4, shape->sequence, NULL, &wanted);
    assert_same(load_message_patch(&message, &load, shape->sequence), &wanted);
    buf_deinit(&wanted);
    load_message_deinit(&message);
    load_deinit(&load);
}
END_TEST

START_TEST(a_declaring_message_is_what_protobuf_packs)
{
    const struct shape *shape = &shapes[_i];
    struct buf wanted = { 0 }, have = { 0 };
    ProtobufCMessage *unpacked = NULL;
    struct load_message message;
    struct arena arena;
    struct load load;

    init(&load, shape);
    arena_init(&arena, wire_arena_limit(load.declarations.len));
    ck_assert_int_eq(wire_unpack(&sentinel__telemetry__v1__metric_batch__descriptor,
                                 buf_span(&load.declarations), &arena, &unpacked, NULL),
                     0);
    ck_assert_int_eq(load_message_init(&message, &load, 9), 0);
    pack_by_the_book(&load, 9, shape->sequence, (void *) unpacked, &wanted);
    ck_assert_int_eq(load_message_declare(&message, &load, shape->sequence, &have), 0);
    assert_same(buf_span(&have), &wanted);
    buf_deinit(&wanted);
    buf_deinit(&have);
    load_message_deinit(&message);
    arena_deinit(&arena);
    load_deinit(&load);
}
END_TEST

START_TEST(declarations_name_every_series_once_and_one_layout_of_them)
{
    const Sentinel__Telemetry__V1__MetricBatch *batch;
    ProtobufCMessage *unpacked = NULL;
    struct arena arena;
    struct load load;

    init(&load, &shapes[5]);
    arena_init(&arena, wire_arena_limit(load.declarations.len));
    ck_assert_int_eq(wire_unpack(&sentinel__telemetry__v1__metric_batch__descriptor,
                                 buf_span(&load.declarations), &arena, &unpacked, NULL),
                     0);
    batch = (const void *) unpacked;
    ck_assert_uint_eq(batch->n_series, 500);
    ck_assert_uint_eq(batch->n_layouts, 1);
    ck_assert_uint_eq(batch->layouts[0]->n_series_ids, 500);
    for (uint32_t i = 0; i < 500; i++) {
        ck_assert_uint_eq(batch->series[i]->id, batch->layouts[0]->series_ids[i]);
        ck_assert_str_eq(batch->series[i]->name, load.groups[load.group_of[i]].name);
        ck_assert_uint_eq(strtoul(batch->series[i]->attributes[0]->value, NULL, 10), i);
        ck_assert_str_eq(batch->series[i]->attributes[1]->value, load.run);
    }
    arena_deinit(&arena);
    load_deinit(&load);
}
END_TEST

/* ---- /proc ---- */

START_TEST(our_own_process_has_time_and_memory_and_a_missing_one_has_not)
{
    ck_assert_int_ge(stats_cpu_us(getpid()), 0);
    ck_assert_uint_gt(stats_resident_bytes(getpid()), 0);
    ck_assert_int_eq(stats_cpu_us(0), -1);
    ck_assert_uint_eq(stats_resident_bytes(0), 0);
    ck_assert_uint_eq(stats_disk_bytes("/there/is/no/such/directory"), 0);
}
END_TEST

Suite *suite(void)
{
    const int n_shapes = (int) (sizeof(shapes) / sizeof(shapes[0]));
    Suite *suite = suite_create("bench");
    TCase *tcase = tcase_create("histogram");

    tcase_add_checked_fixture(tcase, begin, NULL);
    tcase_add_test(tcase, an_empty_histogram_says_zero);
    tcase_add_test(tcase, small_values_are_exact);
    tcase_add_test(tcase, any_value_is_known_to_two_percent_and_never_too_low);
    tcase_add_test(tcase, the_maximum_is_exact_and_bounds_every_quantile);
    tcase_add_test(tcase, values_beyond_the_scale_and_below_zero_are_counted);
    tcase_add_test(tcase, merging_adds_counts_and_keeps_the_larger_maximum);
    tcase_add_test(tcase, the_median_is_the_middle_or_between_the_two);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("load");
    tcase_add_test(tcase, a_value_depends_on_agent_series_and_scrape_alone);
    tcase_add_test(tcase, constants_stay_and_counters_grow_by_integers);
    tcase_add_test(tcase, gauges_are_decimals_with_at_most_two_places);
    tcase_add_test(tcase, every_series_is_in_the_group_of_its_name);
    tcase_add_test(tcase, every_scrape_of_an_agent_lies_in_a_step_of_its_own);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("messages");
    tcase_add_loop_test(tcase, a_patched_message_is_what_protobuf_packs, 0, n_shapes);
    tcase_add_loop_test(tcase, a_declaring_message_is_what_protobuf_packs, 0, n_shapes);
    tcase_add_test(tcase, declarations_name_every_series_once_and_one_layout_of_them);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("proc");
    tcase_add_test(tcase, our_own_process_has_time_and_memory_and_a_missing_one_has_not);
    suite_add_tcase(suite, tcase);
    return suite;
}
