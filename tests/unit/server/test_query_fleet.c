/* SPDX-License-Identifier: Apache-2.0 */
#include "test_query_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- which agents ---- */

static void open_labelled(void)
{
    const uint32_t layout = (open_empty_store(), layout_of("load", "a"));

    for (int i = 0; i < 12; i++) {
        char id[16];

        (void) snprintf(id, sizeof(id), "web-%d", i);
        add(id, layout, 10 * S, i);
        label(id, "role", i % 2 ? "odd" : "even");
        if (i % 3 == 0)
            label(id, "rack", "r1");
    }
    add("db-1", layout, 10 * S, 0);
}

/* The ids that a selector names, as one text. */
static const char *selected(struct query_selector selector)
{
    struct query_agents page = { .selector = &selector };
    static char text[512];

    text[0] = 0;
    ck_assert_msg(query_list_agents(&query, &page, &arena, &problem) == 0, "%s",
                  problem.description);
    for (size_t i = 0; i < page.n_agents; i++) {
        strcat(text, i ? " " : "");
        strcat(text, page.agents[i].id);
    }
    ck_assert_uint_eq(page.total, page.n_agents);
    return text;
}

#define LABELS(...)                                            \
    .labels = (const struct store_attribute[]){ __VA_ARGS__ }, \
    .n_labels =                                                \
        sizeof((const struct store_attribute[]){ __VA_ARGS__ }) / sizeof(struct store_attribute)
#define IDS(...)                                 \
    .ids = (const char *const[]){ __VA_ARGS__ }, \
    .n_ids = sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *)

START_TEST(an_agent_needs_every_label_of_a_selector)
{
    ck_assert_str_eq(selected((struct query_selector){ LABELS({ "rack", "r1" }) }),
                     "web-0 web-3 web-6 web-9");
    ck_assert_str_eq(
        selected((struct query_selector){ LABELS({ "rack", "r1" }, { "role", "odd" }) }),
        "web-3 web-9");
    ck_assert_str_eq(selected((struct query_selector){ LABELS({ "rack", "r" }) }), "");
    ck_assert_str_eq(selected((struct query_selector){ LABELS({ "rac", "r1" }) }), "");
    ck_assert_str_eq(
        selected((struct query_selector){ LABELS({ "role", "odd" }, { "role", "even" }) }), "");
}
END_TEST

START_TEST(ids_labels_and_a_pattern_hold_together)
{
    ck_assert_str_eq(selected((struct query_selector){ IDS("web-9", "web-10", "web-3", "db-1"),
                                                       LABELS({ "role", "odd" }) }),
                     "web-3 web-9");
    ck_assert_str_eq(
        selected((struct query_selector){ .pattern = "*-1?", LABELS({ "role", "odd" }) }),
        "web-11");
    ck_assert_str_eq(selected((struct query_selector){ .pattern = "d*", IDS("web-9", "db-1") }),
                     "db-1");
    ck_assert_str_eq(selected((struct query_selector){ IDS("web-9", "db-1", "web-9") }),
                     "db-1 web-9");
}
END_TEST

START_TEST(labels_of_an_agent_that_is_gone_select_nothing)
{
    const struct store_write write = { .table = STORE_TABLE_LABELS,
                                       .key = span_of("gone\0role", 9),
                                       .value = span_of_text("odd") };

    ck_assert_int_eq(store_state_write(store, &write, 1), 0);
    ck_assert_str_eq(selected((struct query_selector){ LABELS({ "role", "odd" }) }),
                     "web-1 web-11 web-3 web-5 web-7 web-9");
}
END_TEST

TCase *case_select(void)
{
    TCase *c = tcase_create("select");

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, open_labelled, close_store);
    tcase_add_test(c, an_agent_needs_every_label_of_a_selector);
    tcase_add_test(c, ids_labels_and_a_pattern_hold_together);
    tcase_add_test(c, labels_of_an_agent_that_is_gone_select_nothing);
    return c;
}

/* ---- labels ---- */

static int set_labels(const char *pattern,
                      const struct store_attribute *set,
                      size_t n_set,
                      const char *remove,
                      struct query_labels *ret)
{
    const struct query_selector selector = { .pattern = pattern };

    *ret = (struct query_labels){ .selector = &selector,
                                  .set = set,
                                  .n_set = n_set,
                                  .remove = remove ? &remove : NULL,
                                  .n_remove = remove != NULL };
    return query_set_labels(&query, ret, &arena, &problem);
}

START_TEST(only_agents_whose_labels_differ_are_changed)
{
    const struct store_attribute set = { "role", "odd" };
    struct query_labels labels;

    ck_assert_int_eq(set_labels("web-*", &set, 1, NULL, &labels), 0);
    ck_assert_uint_eq(labels.n_selected, 12);
    ck_assert_uint_eq(labels.n_changed, 6);
    ck_assert_int_eq(set_labels("*", NULL, 0, "rack", &labels), 0);
    ck_assert_uint_eq(labels.n_selected, 13);
    ck_assert_uint_eq(labels.n_changed, 4);
    ck_assert_int_eq(set_labels("*", NULL, 0, "rack", &labels), 0);
    ck_assert_uint_eq(labels.n_changed, 0);
    ck_assert_str_eq(selected((struct query_selector){ LABELS({ "rack", "r1" }) }), "");
}
END_TEST

START_TEST(a_label_that_breaks_a_rule_is_refused_by_field)
{
    static char long_key[65], long_value[257];
    const struct store_attribute bad[] = {
        { "", "x" },         { "-a", "x" },       { ".a", "x" },      { "a b", "x" },
        { "a=b", "x" },      { "\xc3\xa4", "x" }, { long_key, "x" },  { "a", "" },
        { "a", long_value }, { "a", "x\ny" },     { "a", "\x1b[2J" }, { "a", "\xe2\x80\xae" },
    };
    struct query_labels labels;

    memset(long_key, 'k', 64);
    memset(long_value, 'v', 256);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(set_labels("web-1", &bad[i], 1, NULL, &labels) == QUERY_BAD, "row %zu", i);
        ck_assert_str_eq(problem.field, "set");
    }
    long_key[63] = long_value[255] = 0;
    ck_assert_int_eq(
        set_labels("web-1", &(struct store_attribute){ long_key, long_value }, 1, NULL, &labels),
        0);
    ck_assert_int_eq(set_labels("web-1", NULL, 0, "a b", &labels), QUERY_BAD);
    ck_assert_str_eq(problem.field, "remove");
    ck_assert_int_eq(set_labels("web-1", NULL, 0, NULL, &labels), QUERY_BAD);
    ck_assert_int_eq(set_labels("", NULL, 0, "a", &labels), QUERY_BAD);
    ck_assert_str_eq(problem.field, "agents");
    ck_assert_int_eq(set_labels("nobody*", NULL, 0, "a", &labels), QUERY_NOT_FOUND);
    const struct store_attribute twice[] = { { "a", "x" }, { "a", "y" } };
    ck_assert_int_eq(set_labels("web-1", twice, 2, NULL, &labels), QUERY_BAD);
    ck_assert_int_eq(set_labels("web-1", twice, 1, "a", &labels), QUERY_BAD);
}
END_TEST

START_TEST(an_agent_with_too_many_labels_is_named_and_nobody_changes)
{
    static char keys[32][8];
    struct store_attribute set[32];
    struct query_labels labels;

    for (int i = 0; i < 32; i++) {
        (void) snprintf(keys[i], sizeof(keys[i]), "k%d", i);
        set[i] = (struct store_attribute){ keys[i], "v" };
    }
    ck_assert_int_eq(set_labels("*-1", set, 32, NULL, &labels), QUERY_TOO_MUCH);
    ck_assert_ptr_nonnull(strstr(problem.description, "web-1"));
    ck_assert_str_eq(selected((struct query_selector){ LABELS({ "k0", "v" }) }), "");
    ck_assert_int_eq(set_labels("*-1", set, 32, "role", &labels), 0);
    ck_assert_str_eq(selected((struct query_selector){ LABELS({ "k31", "v" }) }), "db-1 web-1");
}
END_TEST

TCase *case_labels(void)
{
    TCase *c = tcase_create("labels");

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, open_labelled, close_store);
    tcase_add_test(c, only_agents_whose_labels_differ_are_changed);
    tcase_add_test(c, a_label_that_breaks_a_rule_is_refused_by_field);
    tcase_add_test(c, an_agent_with_too_many_labels_is_named_and_nobody_changes);
    return c;
}

/* ---- who makes the cardinality ---- */

static struct store_definition gauge(const char *name, const struct store_attribute *attribute)
{
    return (struct store_definition){ .name = name,
                                      .unit = "1",
                                      .kind = STORE_GAUGE,
                                      .attributes = attribute,
                                      .n_attributes = attribute != NULL };
}

static const struct store_attribute cores[] = { { "core", "0" }, { "core", "1" }, { "core", "2" } };
static const struct store_attribute disks[] = { { "disk", "a" }, { "disk", "b" } };

static void add_row(const char *agent, uint32_t layout, uint32_t n_values)
{
    static const double values[2000];

    add_rows(agent,
             &(struct store_row){
                 .time_us = 10 * S, .layout = layout, .n_values = n_values, .values = values },
             1);
}

/* big: cores 0 1 2, disks a b, load; small: cores 0 1, twice. */
static void open_counted(void)
{
    struct store_definition big[6], small[2];

    open_empty_store();
    for (int i = 0; i < 3; i++)
        big[i] = gauge("cpu", &cores[i]);
    for (int i = 0; i < 2; i++)
        big[3 + i] = gauge("disk", &disks[i]);
    big[5] = gauge("load", NULL);
    small[0] = big[0];
    small[1] = big[1];
    add_row("big", layout_of_all(big, 6), 6);
    add_row("small", layout_of_all(small, 2), 2);
    add_row("small", layout_of_all(small, 1), 1);
}

static void check_row(const struct query_top_row *row,
                      const char *name,
                      unsigned n_series,
                      unsigned n_definitions,
                      unsigned n_values)
{
    ck_assert_str_eq(row->name, name);
    ck_assert_uint_eq(row->n_series, n_series);
    ck_assert_uint_eq(row->n_definitions, n_definitions);
    ck_assert_uint_eq(row->n_values, n_values);
}

START_TEST(metrics_agents_and_keys_are_ranked)
{
    struct query_top top = { .selector = &everyone, .by = QUERY_TOP_METRIC };

    ck_assert_int_eq(query_top(&query, &top, &arena, &problem), 0);
    ck_assert_uint_eq(top.n_rows, 3);
    ck_assert_uint_eq(top.n_series, 8);
    ck_assert_uint_eq(top.n_definitions, 6);
    check_row(&top.rows[0], "cpu", 5, 3, 0);
    ck_assert_uint_eq(top.rows[0].n_agents, 2);
    check_row(&top.rows[1], "disk", 2, 2, 0);
    check_row(&top.rows[2], "load", 1, 1, 0);
    top = (struct query_top){ .selector = &everyone, .by = QUERY_TOP_AGENT };
    ck_assert_int_eq(query_top(&query, &top, &arena, &problem), 0);
    ck_assert_uint_eq(top.n_rows, 2);
    check_row(&top.rows[0], "big", 6, 6, 0);
    check_row(&top.rows[1], "small", 2, 2, 0); /* its two layouts share a series */
    top = (struct query_top){ .selector = &everyone, .by = QUERY_TOP_ATTRIBUTE };
    ck_assert_int_eq(query_top(&query, &top, &arena, &problem), 0);
    ck_assert_uint_eq(top.n_rows, 2);
    check_row(&top.rows[0], "core", 5, 3, 3);
    ck_assert_str_eq(top.rows[0].metric, "cpu");
    check_row(&top.rows[1], "disk", 2, 2, 2);
}
END_TEST

START_TEST(a_pattern_and_a_selector_narrow_what_is_counted)
{
    const struct query_selector small = { .pattern = "small" };
    struct query_top top = { .selector = &everyone, .by = QUERY_TOP_AGENT, .name_pattern = "d*" };

    ck_assert_int_eq(query_top(&query, &top, &arena, &problem), 0);
    ck_assert_uint_eq(top.n_rows, 1);
    check_row(&top.rows[0], "big", 2, 2, 0);
    top = (struct query_top){ .selector = &small, .by = QUERY_TOP_ATTRIBUTE };
    ck_assert_int_eq(query_top(&query, &top, &arena, &problem), 0);
    ck_assert_uint_eq(top.n_rows, 1);
    check_row(&top.rows[0], "core", 2, 2, 2);
    top.by = 7;
    ck_assert_int_eq(query_top(&query, &top, &arena, &problem), QUERY_BAD);
    ck_assert_str_eq(problem.field, "by");
}
END_TEST

START_TEST(ranks_come_in_pages)
{
    static const char *const expected[] = { "cpu", "disk", "load" };
    const char *token = NULL;

    for (size_t i = 0; i < 3; i++) {
        struct query_top top = {
            .selector = &everyone, .by = QUERY_TOP_METRIC, .page_size = 1, .page_token = token
        };

        ck_assert_int_eq(query_top(&query, &top, &arena, &problem), 0);
        ck_assert_uint_eq(top.n_rows, 1);
        ck_assert_uint_eq(top.total, 3);
        ck_assert_str_eq(top.rows[0].name, expected[i]);
        token = top.next_page_token;
    }
    ck_assert_str_eq(token, "");
}
END_TEST

TCase *case_top(void)
{
    TCase *c = tcase_create("top");

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, open_counted, close_store);
    tcase_add_test(c, metrics_agents_and_keys_are_ranked);
    tcase_add_test(c, a_pattern_and_a_selector_narrow_what_is_counted);
    tcase_add_test(c, ranks_come_in_pages);
    return c;
}

/* ---- ranges ---- */

static struct query_range last_of(const char *name)
{
    return (struct query_range){ .selector = &everyone,
                                 .name = name,
                                 .to_us = 100 * S,
                                 .step_us = 10 * S,
                                 .aggregation = QUERY_LAST };
}

static void ask(struct query_range *range)
{
    ck_assert_msg(query_metric_range(&query, range, &arena, &problem) == 0, "%s: %s", problem.field,
                  problem.description);
}

START_TEST(a_series_of_two_layouts_is_one_in_order_of_time)
{
    const struct store_definition both[] = { gauge("load", &cores[0]), gauge("other", NULL) };
    const uint32_t alone = layout_of_all(both, 1), pair = layout_of_all(both, 2);
    struct query_range range = last_of("load");
    double values[2] = { 0, 0 };

    for (int i = 0; i < 8; i++) {
        struct store_row row = { .time_us = (i + 1) * 10 * S - 5 * S,
                                 .layout = i % 2 ? alone : pair,
                                 .n_values = i % 2 ? 1 : 2,
                                 .values = values };

        values[0] = i;
        add_rows("web-1", &row, 1);
    }
    ask(&range);
    ck_assert_uint_eq(range.n_series, 1);
    ck_assert_uint_eq(range.series[0].n_points, 8);
    for (int i = 0; i < 8; i++)
        ck_assert_double_eq(range.series[0].points[i].value, i);
}
END_TEST

START_TEST(absent_values_are_no_samples)
{
    const struct store_definition both[] = { gauge("load", &cores[0]), gauge("load", &cores[1]) };
    const uint32_t layout = layout_of_all(both, 2), absent = 1;
    struct query_range range = last_of("load");
    double values[2] = { 1, 2 };

    for (int i = 0; i < 200; i++) { /* every other row without the second one */
        struct store_row row = {
            .time_us = i * S / 2, .layout = layout, .n_values = 2, .values = values
        };

        if (i % 2)
            row.absent = &absent;
        row.n_absent = i % 2;
        add_rows("web-1", &row, 1);
    }
    range.aggregation = QUERY_COUNT;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 2);
    ck_assert_uint_eq(range.series[0].n_points, 10);
    ck_assert_double_eq(range.series[0].points[9].value, 20);
    ck_assert_double_eq(range.series[1].points[9].value, 10);
}
END_TEST

static void add_cores(const char *agent, double value)
{
    const struct store_definition three[] = { gauge("cpu", &cores[0]), gauge("cpu", &cores[1]),
                                              gauge("cpu", &cores[2]) };
    const uint32_t layout = layout_of_all(three, 3);

    for (int i = 0; i < 3; i++) {
        const double values[] = { value, value + 1, value + 2 };

        add_rows(agent,
                 &(struct store_row){
                     .time_us = i * 10 * S, .layout = layout, .n_values = 3, .values = values },
                 1);
    }
}

START_TEST(a_quantile_over_a_group_takes_every_line)
{
    const char *by_core = "core";
    struct query_range range = last_of("cpu");

    for (int i = 0; i < 5; i++)
        add_cores((const char *const[]){ "a", "b", "c", "d", "e" }[i], i * i * 10);
    range.group_aggregation = QUERY_QUANTILE;
    range.quantile = 0.5;
    range.group_by = &by_core;
    range.n_group_by = 1;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(range.series[i].n_points, 3);
        ck_assert_double_eq(range.series[i].points[2].value, 40 + i);
    }
    range.group_all = true;
    range.quantile = 1;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 1);
    ck_assert_double_eq(range.series[0].points[0].value, 162);
}
END_TEST

START_TEST(of_equal_means_the_first_by_labels_are_at_the_top)
{
    struct query_range range = last_of("load");

    for (int i = 0; i < 6; i++)
        add((const char *const[]){ "f", "b", "e", "a", "d", "c" }[i], layout_of("load", "x"), 0,
            i == 0 ? 9 : 5);
    for (int i = 0; i < 6; i++) /* has no place in an order: behind all others */
        add((const char *const[]){ "0", "1", "2", "g", "h", "i" }[i], layout_of("load", "x"), 0,
            (double) NAN);
    range.top_k = 3;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 3);
    ck_assert_str_eq(range.series[0].labels[0].value, "a");
    ck_assert_str_eq(range.series[1].labels[0].value, "b");
    ck_assert_str_eq(range.series[2].labels[0].value, "f");
    range.top_k = 7;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 7);
    ck_assert_str_eq(range.series[0].labels[0].value, "0");
}
END_TEST

/* More groups than top_k looks at in one go. */
START_TEST(the_top_of_thousands_is_the_top_of_all)
{
    enum { N = 700 };
    static struct store_definition definitions[N];
    static struct store_attribute attributes[N];
    static char names[N][8];
    static double values[N];
    struct query_range range = last_of("wide");
    uint32_t layout;

    query.max_samples = 1000000;
    for (size_t i = 0; i < N; i++) {
        (void) snprintf(names[i], sizeof(names[i]), "%zu", i);
        attributes[i] = (struct store_attribute){ "part", names[i] };
        definitions[i] = gauge("wide", &attributes[i]);
    }
    layout = layout_of_all(definitions, N);
    for (int agent = 0; agent < 5; agent++) {
        for (size_t i = 0; i < N; i++)
            values[i] = (double) ((i * 7919 + (size_t) agent * 13) % 100000);
        values[5] = agent == 1 ? 1e9 : 0;
        values[6] = agent == 4 ? 2e9 : 0;
        add_rows(
            (const char *const[]){ "a", "b", "c", "d", "e" }[agent],
            &(struct store_row){ .time_us = 0, .layout = layout, .n_values = N, .values = values },
            1);
    }
    range.top_k = 2;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 2);
    ck_assert_str_eq(range.series[0].labels[0].value, "b");
    ck_assert_str_eq(range.series[0].labels[1].value, "5");
    ck_assert_str_eq(range.series[1].labels[0].value, "e");
    ck_assert_str_eq(range.series[1].labels[1].value, "6");
}
END_TEST

/* Pages through a question and compares with the whole answer. */
static void check_pages(struct query_range whole, uint32_t page_size)
{
    struct query_range page = whole;
    uint64_t n_read_most = 0;
    size_t n = 0;

    ask(&whole);
    page.page_size = page_size;
    do {
        ask(&page);
        ck_assert_uint_le(page.n_series, page_size);
        n_read_most = page.n_samples_read > n_read_most ? page.n_samples_read : n_read_most;
        for (size_t i = 0; i < page.n_series; i++, n++) {
            ck_assert_uint_lt(n, whole.n_series);
            ck_assert_uint_eq(page.series[i].n_labels, whole.series[n].n_labels);
            for (size_t j = 0; j < page.series[i].n_labels; j++)
                ck_assert_str_eq(page.series[i].labels[j].value, whole.series[n].labels[j].value);
            ck_assert_uint_eq(page.series[i].n_points, whole.series[n].n_points);
            ck_assert_double_eq(page.series[i].points[0].value, whole.series[n].points[0].value);
        }
        page.page_token = page.next_page_token;
    } while (*page.page_token);
    ck_assert_uint_eq(n, whole.n_series);
    /* A page of series reads the agents of its series, not the fleet. */
    if (whole.n_group_by == 0 && whole.top_k == 0)
        ck_assert_uint_lt(n_read_most, whole.n_samples_read);
}

START_TEST(pages_together_are_the_whole_answer)
{
    const char *keys[] = { "core", "agent" };
    struct query_range range = last_of("cpu");
    struct query_range grouped = range;

    for (int i = 0; i < 7; i++)
        add_cores((const char *const[]){ "web-1", "web-10", "web", "db", "web-2", "x", "w" }[i], i);
    for (uint32_t page_size = 1; page_size < 8; page_size++)
        check_pages(range, page_size);
    range.top_k = 5;
    check_pages(range, 2);
    grouped.group_by = keys;
    for (size_t n = 1; n <= 2; n++) {
        grouped.n_group_by = n;
        check_pages(grouped, 2);
    }
}
END_TEST

START_TEST(the_range_of_the_first_page_holds_for_the_next)
{
    struct query_range range = last_of("cpu");

    add_cores("a", 1);
    add_cores("b", 2);
    range.page_size = 3;
    ask(&range);
    range.page_token = range.next_page_token;
    range.from_us = 50 * S;
    range.to_us = 150 * S;
    range.step_us = 5 * S;
    ask(&range);
    ck_assert_int_eq(range.from_us, 0);
    ck_assert_int_eq(range.to_us, 100 * S);
    ck_assert_int_eq(range.step_us, 10 * S);
    ck_assert_uint_eq(range.n_series, 3);
    ck_assert_uint_eq(range.series[0].n_points, 3);
    ck_assert_str_eq(range.series[0].labels[0].value, "b");
}
END_TEST

START_TEST(a_series_that_comes_between_two_pages_moves_no_other)
{
    struct query_range range = last_of("cpu");

    add_cores("b", 1);
    add_cores("c", 2);
    range.page_size = 2;
    ask(&range);
    add_cores("a", 0);
    range.page_token = range.next_page_token;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 2);
    ck_assert_str_eq(range.series[0].labels[0].value, "b");
    ck_assert_str_eq(range.series[0].labels[1].value, "2");
    ck_assert_str_eq(range.series[1].labels[0].value, "c");
    ck_assert_str_eq(range.series[1].labels[1].value, "0");
}
END_TEST

START_TEST(refusals_name_the_metric_and_where_the_limit_was_reached)
{
    struct query_range range = last_of("cpu");

    for (int i = 0; i < 3; i++)
        add_cores((const char *const[]){ "a", "b", "c" }[i], i);
    query.max_series = 5;
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_TOO_MUCH);
    ck_assert_str_eq(problem.field, "group_by");
    ck_assert_ptr_nonnull(strstr(problem.description, "`cpu`"));
    ck_assert_ptr_nonnull(strstr(problem.description, "`b`"));
    range.top_k = 5;
    ask(&range);
    range.page_size = 6;
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_BAD);
    ck_assert_str_eq(problem.field, "page_size");
    range.page_size = range.top_k = 0;
    query.max_samples = 10;
    query.max_series = 100;
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_TOO_MUCH);
    ck_assert_str_eq(problem.field, "range");
    ck_assert_ptr_nonnull(strstr(problem.description, "`b`"));
}
END_TEST

static bool is_unwanted(void *ctx)
{
    int *n_left = ctx;

    return (*n_left)-- == 0;
}

START_TEST(a_question_that_nobody_waits_for_ends_at_the_next_agent)
{
    struct query_range range = last_of("cpu");
    int n_left = 1;

    for (int i = 0; i < 3; i++)
        add_cores((const char *const[]){ "a", "b", "c" }[i], i);
    range.is_unwanted = is_unwanted;
    range.ctx = &n_left;
    ck_assert_int_eq(query_metric_range(&query, &range, &arena, &problem), QUERY_UNWANTED);
    ck_assert_uint_eq(range.n_samples_read, 9);
}
END_TEST

START_TEST(the_first_delta_reaches_back_five_minutes_or_a_step)
{
    struct query_range range = last_of("load");

    for (int i = 0; i < 40; i++)
        add("a", layout_of("load", "x"), (i * 20) * S, i);
    range.aggregation = QUERY_INCREASE;
    range.from_us = 400 * S;
    range.to_us = 420 * S;
    range.step_us = 20 * S;
    ask(&range);
    ck_assert_uint_eq(range.series[0].n_points, 1);
    ck_assert_double_eq(range.series[0].points[0].value, 1);
    /* Only the last one before the range is kept. */
    add("b", layout_of("load", "x"), 0, 7);
    add("b", layout_of("load", "x"), 301 * S, 10);
    add("b", layout_of("load", "x"), 601 * S, 20);
    add("b", layout_of("load", "x"), 1001 * S, 50);
    range.from_us = 600 * S;
    range.to_us = 620 * S;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 2);
    ck_assert_double_eq(range.series[1].points[0].value, 10);
    range.from_us = 1000 * S;
    range.to_us = 1020 * S;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 0); /* 400 s back */
    range.step_us = 1000 * S;
    range.to_us = 2000 * S;
    ask(&range);
    ck_assert_uint_eq(range.n_series, 1);
    ck_assert_double_eq(range.series[0].points[0].value, 30);
}
END_TEST

START_TEST(an_attribute_that_calls_itself_agent_is_not_the_agent)
{
    const struct store_attribute sly = { "agent", "root" };
    const struct store_definition definition = gauge("load", &sly);
    const char *by_agent = "agent";
    struct query_range range = last_of("load");

    add("web-1", layout_of_all(&definition, 1), 0, 1);
    ask(&range);
    ck_assert_str_eq(range.series[0].labels[0].key, "agent");
    ck_assert_str_eq(range.series[0].labels[0].value, "web-1");
    ck_assert_str_eq(range.series[0].labels[1].key, "attribute.agent");
    range.group_by = &by_agent;
    range.n_group_by = 1;
    ask(&range);
    ck_assert_str_eq(range.series[0].labels[0].value, "web-1");
}
END_TEST

TCase *case_range(void)
{
    TCase *c = tcase_create("range");

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, open_empty_store, close_store);
    tcase_add_test(c, a_series_of_two_layouts_is_one_in_order_of_time);
    tcase_add_test(c, absent_values_are_no_samples);
    tcase_add_test(c, a_quantile_over_a_group_takes_every_line);
    tcase_add_test(c, of_equal_means_the_first_by_labels_are_at_the_top);
    tcase_add_test(c, the_top_of_thousands_is_the_top_of_all);
    tcase_add_test(c, pages_together_are_the_whole_answer);
    tcase_add_test(c, the_range_of_the_first_page_holds_for_the_next);
    tcase_add_test(c, a_series_that_comes_between_two_pages_moves_no_other);
    tcase_add_test(c, refusals_name_the_metric_and_where_the_limit_was_reached);
    tcase_add_test(c, a_question_that_nobody_waits_for_ends_at_the_next_agent);
    tcase_add_test(c, the_first_delta_reaches_back_five_minutes_or_a_step);
    tcase_add_test(c, an_attribute_that_calls_itself_agent_is_not_the_agent);
    return c;
}
