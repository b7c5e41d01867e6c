/* SPDX-License-Identifier: Apache-2.0 */
#include "test_query_rig.h"

#include "suite.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the pool ---- */

struct counted {
    struct query_task task;
    atomic_int *n;
};

static void count_one(struct query_task *task)
{
    atomic_fetch_add(((struct counted *) (void *) task)->n, 1);
}

START_TEST(the_pool_runs_everything_before_it_ends)
{
    struct counted tasks[100];
    struct query_pool *pool;
    atomic_int n = 0;

    ck_assert_int_eq(query_pool_new(&pool, 2, 1000), 0);
    for (int i = 0; i < 100; i++) {
        tasks[i] = (struct counted){ .task.run = count_one, .n = &n };
        ck_assert_int_eq(query_pool_submit(pool, &tasks[i].task), 0);
    }
    query_pool_free(pool);
    ck_assert_int_eq(n, 100);
}
END_TEST

START_TEST(a_full_pool_says_busy)
{
    struct counted task = { .task.run = count_one };
    struct query_pool *pool;

    ck_assert_int_eq(query_pool_new(&pool, 1, 0), 0);
    ck_assert_int_eq(query_pool_submit(pool, &task.task), QUERY_BUSY);
    query_pool_free(pool);
}
END_TEST

/* ---- questions over a real store ---- */

static void open_store(void)
{
    open_empty_store();
    for (int i = 0; i < 3; i++) {
        add("web-1", layout_of("load", "a"), i * 10 * S, i);
        add("web-2", layout_of("load", "b"), i * 10 * S, 10 + i);
    }
    add("db-1", layout_of("size", "a"), 0, 5);
}

START_TEST(agents_come_in_pages_in_order_of_id)
{
    struct query_agents page = { .selector = &everyone, .page_size = 2 };

    ck_assert_int_eq(query_list_agents(&query, &page, &arena, &problem), 0);
    ck_assert_uint_eq(page.n_agents, 2);
    ck_assert_str_eq(page.agents[0].id, "db-1");
    ck_assert_uint_eq(page.total, 3);
    page = (struct query_agents){ .selector = &everyone,
                                  .page_size = 2,
                                  .page_token = page.next_page_token };
    ck_assert_int_eq(query_list_agents(&query, &page, &arena, &problem), 0);
    ck_assert_uint_eq(page.n_agents, 1);
    ck_assert_str_eq(page.agents[0].id, "web-2");
    ck_assert_str_eq(page.next_page_token, "");
}
END_TEST

START_TEST(a_token_serves_its_own_question_only)
{
    struct query_agents page = { .selector = &everyone, .page_size = 1 };
    struct query_selector web = { .pattern = "web-*" };
    char *forged;

    ck_assert_int_eq(query_list_agents(&query, &page, &arena, &problem), 0);
    struct query_agents other = { .selector = &web, .page_token = page.next_page_token };
    ck_assert_int_eq(query_list_agents(&query, &other, &arena, &problem), QUERY_BAD);
    forged = strdup(page.next_page_token);
    forged[strlen(forged) - 1] ^= 1;
    struct query_agents again = { .selector = &everyone, .page_token = forged };
    ck_assert_int_eq(query_list_agents(&query, &again, &arena, &problem), QUERY_BAD);
    ck_assert_str_eq(problem.field, "page_token");
    free(forged);
}
END_TEST

START_TEST(metrics_are_counted_over_series_and_agents)
{
    struct query_metrics page = { .selector = &everyone };

    ck_assert_int_eq(query_list_metrics(&query, &page, &arena, &problem), 0);
    ck_assert_uint_eq(page.n_metrics, 2);
    ck_assert_str_eq(page.metrics[0].name, "load");
    ck_assert_uint_eq(page.metrics[0].n_series, 2);
    ck_assert_uint_eq(page.metrics[0].n_agents, 2);
    ck_assert_str_eq(page.metrics[0].attributes[0].values[1], "b");
}
END_TEST

START_TEST(a_range_is_grouped_by_an_attribute_the_agent_or_not_at_all)
{
    struct query_range range = { .selector = &everyone,
                                 .name = "load",
                                 .to_us = 30 * S,
                                 .step_us = 10 * S,
                                 .aggregation = QUERY_LAST };
    const char *by_agent[] = { "agent" };

    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), 0);
    ck_assert_uint_eq(range.n_series, 2);
    ck_assert_str_eq(range.series[0].labels[0].value, "web-1");
    ck_assert_uint_eq(range.series[0].n_points, 3);
    ck_assert_double_eq(range.series[1].points[2].value, 12);

    struct query_range grouped = range;
    grouped.group_by = by_agent;
    grouped.n_group_by = 1;
    ck_assert_int_eq(query_metric_range(&query, &grouped, &arena, &problem), 0);
    ck_assert_uint_eq(grouped.n_series, 2);

    struct query_range all = range;
    all.group_all = true;
    all.group_aggregation = QUERY_SUM;
    ck_assert_int_eq(query_metric_range(&query, &all, &arena, &problem), 0);
    ck_assert_uint_eq(all.n_series, 1);
    ck_assert_double_eq(all.series[0].points[1].value, 12);

    struct query_range top = range;
    top.top_k = 1;
    ck_assert_int_eq(query_metric_range(&query, &top, &arena, &problem), 0);
    ck_assert_uint_eq(top.n_series, 1);
    ck_assert_str_eq(top.series[0].labels[0].value, "web-2");
}
END_TEST

START_TEST(too_much_says_what_to_narrow)
{
    struct query_range range = {
        .selector = &everyone, .name = "load", .to_us = 86400 * S, .step_us = 10 * S
    };
    struct query small = query;

    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_TOO_MUCH);
    ck_assert_str_eq(problem.field, "step");
    small.max_samples = 2;
    range.step_us = 0;
    ck_assert_int_eq(query_metric_range(&small, &range, &arena, &problem), QUERY_TOO_MUCH);
    ck_assert_str_eq(problem.field, "range");
}
END_TEST

START_TEST(what_is_not_known_is_not_found)
{
    const char *ids[] = { "nobody" };
    struct query_selector nobody = { .ids = ids, .n_ids = 1 };
    struct query_range range = { .selector = &everyone, .name = "nothing", .to_us = S };
    struct query_agents page = { .selector = &nobody };

    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_NOT_FOUND);
    ck_assert_str_eq(problem.field, "name");
    ck_assert_int_eq(query_list_agents(&query, &page, &arena, &problem), QUERY_NOT_FOUND);
}
END_TEST

static int ask_range(int64_t from_us, int64_t to_us, int64_t step_us)
{
    struct query_range range = { .selector = &everyone,
                                 .name = "load",
                                 .from_us = from_us,
                                 .to_us = to_us,
                                 .step_us = step_us,
                                 .aggregation = QUERY_RATE };

    return query_metric_range(&query, &range, &arena, &problem);
}

START_TEST(times_and_steps_out_of_range_are_refused_not_computed)
{
    ck_assert_int_eq(ask_range(INT64_MIN, INT64_MAX, 0), QUERY_BAD);
    ck_assert_int_eq(ask_range(INT64_MIN, 0, S), QUERY_BAD);
    ck_assert_int_eq(ask_range(0, INT64_MAX, S), QUERY_BAD);
    ck_assert_int_eq(ask_range(10 * S, 10 * S, S), QUERY_BAD);
    ck_assert_int_eq(ask_range(0, 10 * S, -1), QUERY_BAD);
    ck_assert_int_eq(ask_range(0, 10 * S, 999), QUERY_BAD);
    ck_assert_int_eq(ask_range(0, 10 * S, INT64_MAX), QUERY_BAD);
    ck_assert_str_eq(problem.field, "step");
    ck_assert_int_eq(ask_range(INT64_C(-62135596800) * S, INT64_C(-62135596700) * S, 0), 0);
    ck_assert_int_eq(ask_range(-100 * S, 30 * S, INT64_C(100) * 365 * 86400 * S), 0);
    ck_assert_int_eq(ask_range(0, INT64_C(100) * 365 * 86400 * S, 1000), QUERY_TOO_MUCH);
}
END_TEST

START_TEST(a_question_of_absurd_size_is_refused_before_anything_is_read)
{
    static char pattern[100001];
    static const char *keys[10000];
    static struct store_attribute attributes[10000];
    struct query_selector selector = { .pattern = pattern };
    struct query_range range = { .selector = &everyone,
                                 .name = "load",
                                 .to_us = 30 * S,
                                 .group_by = keys,
                                 .n_group_by = 10000 };
    struct query_metrics metrics = { .selector = &everyone, .name_pattern = pattern };
    struct query_agents agents = { .selector = &selector };

    memset(pattern, '*', sizeof(pattern) - 1);
    for (size_t i = 0; i < 10000; i++) {
        keys[i] = "agent";
        attributes[i] = (struct store_attribute){ "part", "a" };
    }
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_BAD);
    ck_assert_str_eq(problem.field, "group_by");
    range.n_group_by = 0;
    range.attributes = attributes;
    range.n_attributes = 10000;
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_BAD);
    ck_assert_str_eq(problem.field, "attributes");
    range.n_attributes = 0;
    range.selector = &selector;
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_BAD);
    ck_assert_str_eq(problem.field, "agents.pattern");
    ck_assert_int_eq(query_list_agents(&query, &agents, &arena, &problem), QUERY_BAD);
    ck_assert_int_eq(query_list_metrics(&query, &metrics, &arena, &problem), QUERY_BAD);
    ck_assert_str_eq(problem.field, "name_pattern");
    selector = (struct query_selector){ .ids = keys, .n_ids = 10000 };
    ck_assert_int_eq(query_list_agents(&query, &agents, &arena, &problem), QUERY_BAD);
    ck_assert_str_eq(problem.field, "agents.ids");
    range.selector = &everyone;
    range.quantile = NAN;
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_BAD);
    ck_assert_str_eq(problem.field, "quantile");
}
END_TEST

START_TEST(values_that_look_like_labels_stay_values)
{
    struct query_range range = {
        .selector = &everyone, .name = "sly", .to_us = 30 * S, .aggregation = QUERY_LAST
    };
    const char *by_part[] = { "part" };

    add("db-1", layout_of("sly", "x"), 0, 1);
    add("db-1", layout_of("sly", "x,part=x"), 0, 2);
    add("db-1", layout_of("sly", "x\1part\1x"), 0, 3);
    add("db-1", layout_of("sly", "x\1"), 0, 4);
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), 0);
    ck_assert_uint_eq(range.n_series, 4);
    range.group_by = by_part;
    range.n_group_by = 1;
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), 0);
    ck_assert_uint_eq(range.n_series, 4);
}
END_TEST

START_TEST(long_labels_page_too)
{
    static char long_value[3000];
    struct query_range range = {
        .selector = &everyone, .name = "wide", .to_us = 30 * S, .page_size = 1
    };

    memset(long_value, 'v', sizeof(long_value) - 1);
    add("db-1", layout_of("wide", long_value), 0, 1);
    add("web-1", layout_of("wide", long_value), 0, 2);
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), 0);
    ck_assert_str_ne(range.next_page_token, "");
    range.page_token = range.next_page_token;
    ck_assert_msg(query_metric_range(&query, &range, &arena, &problem) == 0, "%s",
                  problem.description);
    ck_assert_uint_eq(range.n_series, 1);
    ck_assert_str_eq(range.series[0].labels[0].value, "web-1");
}
END_TEST

START_TEST(a_series_with_nothing_in_the_range_is_not_in_the_answer)
{
    struct query_range range = { .selector = &everyone,
                                 .name = "load",
                                 .from_us = 25 * S,
                                 .to_us = 60 * S,
                                 .aggregation = QUERY_RATE };

    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), 0);
    ck_assert_uint_eq(range.n_series, 0);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/query");
    TCase *pool = tcase_create("pool");
    TCase *ask = tcase_create("questions");

    tcase_add_test(pool, the_pool_runs_everything_before_it_ends);
    tcase_add_test(pool, a_full_pool_says_busy);
    tcase_set_timeout(ask, 60);
    tcase_add_checked_fixture(ask, open_store, close_store);
    tcase_add_test(ask, agents_come_in_pages_in_order_of_id);
    tcase_add_test(ask, a_token_serves_its_own_question_only);
    tcase_add_test(ask, metrics_are_counted_over_series_and_agents);
    tcase_add_test(ask, a_range_is_grouped_by_an_attribute_the_agent_or_not_at_all);
    tcase_add_test(ask, too_much_says_what_to_narrow);
    tcase_add_test(ask, what_is_not_known_is_not_found);
    tcase_add_test(ask, times_and_steps_out_of_range_are_refused_not_computed);
    tcase_add_test(ask, a_question_of_absurd_size_is_refused_before_anything_is_read);
    tcase_add_test(ask, values_that_look_like_labels_stay_values);
    tcase_add_test(ask, long_labels_page_too);
    tcase_add_test(ask, a_series_with_nothing_in_the_range_is_not_in_the_answer);
    suite_add_tcase(s, case_fold());
    suite_add_tcase(s, case_windows());
    suite_add_tcase(s, case_rolled());
    suite_add_tcase(s, case_select());
    suite_add_tcase(s, case_range());
    suite_add_tcase(s, case_random());
    suite_add_tcase(s, case_top());
    suite_add_tcase(s, case_labels());
    suite_add_tcase(s, pool);
    suite_add_tcase(s, ask);
    return s;
}
