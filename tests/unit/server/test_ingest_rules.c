/* SPDX-License-Identifier: Apache-2.0 */

/* What a batch may not be. */

#include "suite.h"

#include "test_ingest_rig.h"

/* ---- tests: a batch that breaks a rule ---- */

static char long_name[257];
static struct ingest_series series_edit[3];
static struct ingest_layout layout_edit[1];
static struct ingest_scrape scrape_edit[2];
static const uint32_t twice[] = { 8, 9, 8 }, unknown[] = { 8, 9, 5 }, absent_far[] = { 3 },
                      absent_twice[] = { 1, 1 };
static const struct store_attribute double_key[] = { { "a", "1" }, { "b", "2" }, { "a", "3" } };
static const struct store_attribute empty_key[] = { { "", "1" } };

static void no_series_id(void)
{
    series_edit[0].id = 0;
}
static void series_id_twice(void)
{
    series_edit[1].id = 7;
}
static void no_name(void)
{
    series_edit[1].name = "";
}
static void name_too_long(void)
{
    series_edit[1].name = long_name;
}
static void name_not_utf8(void)
{
    series_edit[1].name = "\xff";
}
static void unit_too_long(void)
{
    series_edit[1].unit = long_name;
}
static void no_kind(void)
{
    series_edit[2].kind = 0;
}
static void kind_of_tomorrow(void)
{
    series_edit[2].kind = 3;
}
static void key_twice(void)
{
    series_edit[1].attributes = double_key;
    series_edit[1].n_attributes = 3;
}
static void key_empty(void)
{
    series_edit[1].attributes = empty_key;
    series_edit[1].n_attributes = 1;
}
static void too_many_attributes(void)
{
    series_edit[1].attributes = double_key;
    series_edit[1].n_attributes = 33;
}
static void no_layout_id(void)
{
    layout_edit[0].id = 0;
}
static void layout_empty(void)
{
    layout_edit[0].n_series = 0;
}
static void layout_unknown_series(void)
{
    layout_edit[0].series_ids = unknown;
}
static void layout_series_twice(void)
{
    layout_edit[0].series_ids = twice;
}
static void same_series_by_two_ids(void)
{
    series_edit[2].attributes = cpu1;
}
static void scrape_unknown_layout(void)
{
    scrape_edit[1].layout_id = 4;
}
static void scrape_too_few_values(void)
{
    scrape_edit[1].n_values = 2;
}
static void scrape_absent_far(void)
{
    scrape_edit[1].absent = absent_far;
    scrape_edit[1].n_absent = 1;
}
static void scrape_absent_twice(void)
{
    scrape_edit[1].absent = absent_twice;
    scrape_edit[1].n_absent = 2;
}
static void too_old(void)
{
    scrape_edit[1].time_us = NOW_US - 31 * 24 * 60 * MINUTE;
}
static void too_new(void)
{
    scrape_edit[1].time_us = NOW_US + 61 * MINUTE;
}
static void at_the_end_of_time(void)
{
    scrape_edit[1].time_us = INT64_MAX;
}
static void at_the_beginning_of_time(void)
{
    scrape_edit[1].time_us = INT64_MIN;
}

static const struct {
    void (*edit)(void);
    int outcome;
    const char *field;
} broken[] = {
    { no_series_id, INGEST_BAD_BATCH, "batch.series[0].id" },
    { series_id_twice, INGEST_BAD_BATCH, "batch.series[1].id" },
    { no_name, INGEST_BAD_BATCH, "batch.series[1].name" },
    { name_too_long, INGEST_BAD_BATCH, "batch.series[1].name" },
    { name_not_utf8, INGEST_BAD_BATCH, "batch.series[1].name" },
    { unit_too_long, INGEST_BAD_BATCH, "batch.series[1].unit" },
    { no_kind, INGEST_BAD_BATCH, "batch.series[2].kind" },
    { kind_of_tomorrow, INGEST_BAD_BATCH, "batch.series[2].kind" },
    { key_twice, INGEST_BAD_BATCH, "batch.series[1].attributes" },
    { key_empty, INGEST_BAD_BATCH, "batch.series[1].attributes[0].key" },
    { too_many_attributes, INGEST_BAD_BATCH, "batch.series[1].attributes" },
    { no_layout_id, INGEST_BAD_BATCH, "batch.layouts[0].id" },
    { layout_empty, INGEST_BAD_BATCH, "batch.layouts[0].series_ids" },
    { layout_unknown_series, INGEST_BAD_BATCH, "batch.layouts[0].series_ids[2]" },
    { layout_series_twice, INGEST_BAD_BATCH, "batch.layouts[0].series_ids[2]" },
    { same_series_by_two_ids, INGEST_BAD_BATCH, "batch.layouts[0].series_ids" },
    { scrape_unknown_layout, INGEST_BAD_BATCH, "batch.scrapes[1].layout_id" },
    { scrape_too_few_values, INGEST_BAD_BATCH, "batch.scrapes[1].values" },
    { scrape_absent_far, INGEST_BAD_BATCH, "batch.scrapes[1].absent" },
    { scrape_absent_twice, INGEST_BAD_BATCH, "batch.scrapes[1].absent" },
    { too_old, INGEST_TIME_OUT_OF_RANGE, "batch.scrapes[1].time_unix_us" },
    { too_new, INGEST_TIME_OUT_OF_RANGE, "batch.scrapes[1].time_unix_us" },
    { at_the_end_of_time, INGEST_TIME_OUT_OF_RANGE, "batch.scrapes[1].time_unix_us" },
    { at_the_beginning_of_time, INGEST_TIME_OUT_OF_RANGE, "batch.scrapes[1].time_unix_us" },
};

START_TEST(a_batch_that_breaks_a_rule_is_refused_whole_and_by_field)
{
    struct ingest_batch batch;
    struct ingest_event event;
    struct ingest_stats counts;
    struct line line;

    memset(long_name, 'n', sizeof(long_name) - 1);
    memcpy(series_edit, three_series, sizeof(series_edit));
    memcpy(layout_edit, one_layout, sizeof(layout_edit));
    scrape_edit[0] = scrape_edit[1] = scrape_at(NOW_US);
    broken[_i].edit();
    batch = first_batch(scrape_edit);
    batch.series = series_edit;
    batch.layouts = layout_edit;
    batch.n_scrapes = 2;

    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), broken[_i].outcome);
    ck_assert_str_eq(line.problem.field, broken[_i].field);
    ck_assert_str_ne(line.problem.description, "");
    do
        event = next_event(&line);
    while (event.type == INGEST_READY);
    ck_assert_int_eq(event.type, INGEST_END);
    ck_assert_int_eq(event.outcome, broken[_i].outcome);
    ck_assert_uint_eq(line.acked, 0);
    close_line(&line);
    ck_assert_uint_eq(stats().n_batches, 0);
    ck_assert_uint_eq(stats().n_layouts, 0);
    ingest_get_stats(ingest, &counts);
    ck_assert_uint_eq(counts.n_refused, 1);

    /* The same run goes on with a good one, on another stream. */
    store_run_up_to(1);
}
END_TEST

START_TEST(what_a_batch_may_hold_is_limited_by_name)
{
    struct ingest_limits limits;
    struct ingest_scrape scrapes[2] = { scrape_at(NOW_US), scrape_at(NOW_US + 1) };
    struct ingest_batch batch = first_batch(scrapes);
    struct line line;

    ingest_get_limits(ingest, &limits);
    limits.batch_samples = 5;
    ingest_set_limits(ingest, &limits);
    batch.n_scrapes = 2;
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_LIMIT);
    ck_assert_str_eq(line.problem.quota, "batch_samples");
    close_line(&line);

    limits.batch_samples = 6;
    limits.batch_new_series = 2;
    ingest_set_limits(ingest, &limits);
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_LIMIT);
    ck_assert_str_eq(line.problem.quota, "batch_new_series");
    ck_assert_msg(strstr(line.problem.description, "new ones are of `"), "%s",
                  line.problem.description);
    close_line(&line);

    limits.batch_new_series = 3;
    limits.agent_series = 2;
    ingest_set_limits(ingest, &limits);
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_LIMIT);
    ck_assert_str_eq(line.problem.quota, "agent_series");
    ck_assert_msg(strstr(line.problem.description, "new ones are of `"), "%s",
                  line.problem.description);
    close_line(&line);

    limits.agent_series = 3;
    ingest_set_limits(ingest, &limits);
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 1);
    close_line(&line);
}
END_TEST

START_TEST(declarations_live_as_long_as_the_stream)
{
    struct line line;

    store_run_up_to(1);
    struct ingest_hello hello = hello_of(SPOOL, 1, 1);
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_OK);
    ck_assert_int_eq(give_next(&line, 2), INGEST_BAD_BATCH);
    ck_assert_str_eq(line.problem.field, "batch.scrapes[0].layout_id");
    close_line(&line);
}
END_TEST

START_TEST(a_batch_without_scrapes_only_declares)
{
    struct ingest_batch batch = first_batch(NULL);
    struct line line;

    batch.n_scrapes = 0;
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    ck_assert_int_eq(give_next(&line, 2), INGEST_OK);
    wait_for_ack(&line, 2);
    close_line(&line);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/ingest_rules");
    TCase *rules = tcase_create("rules");

    tcase_add_checked_fixture(rules, set_up, tear_down);
    tcase_add_loop_test(rules, a_batch_that_breaks_a_rule_is_refused_whole_and_by_field, 0,
                        (int) N(broken));
    tcase_add_test(rules, what_a_batch_may_hold_is_limited_by_name);
    tcase_add_test(rules, declarations_live_as_long_as_the_stream);
    tcase_add_test(rules, a_batch_without_scrapes_only_declares);
    suite_add_tcase(s, rules);
    return s;
}
