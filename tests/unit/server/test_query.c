/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "server/query/fold.h"
#include "server/query/query.h"

/* ---- folding ---- */

#define S INT64_C(1000000)

struct sample {
    int64_t time_us;
    double value;
};

static void fold(const struct sample *samples,
                 size_t n,
                 const struct fold_grid *grid,
                 const struct fold_how *how,
                 double *to,
                 bool *is_present)
{
    int64_t times_us[16];
    double values[16];

    ck_assert_uint_le(n, 16);
    for (size_t i = 0; i < n; i++) {
        times_us[i] = samples[i].time_us;
        values[i] = samples[i].value;
    }
    fold_series(&(struct fold_samples){ times_us, values, n }, grid, how, to, is_present);
}

static double
one_step(const struct sample *samples, size_t n, enum query_aggregation how, bool is_counter)
{
    struct fold_grid grid = {
        .first_us = 100 * S, .step_us = 100 * S, .from_us = 100 * S, .to_us = 200 * S, .n_steps = 1
    };
    double scratch[16], value = NAN;
    bool is_present = false;

    fold(samples, n, &grid, &(struct fold_how){ how, is_counter, 0.5, scratch }, &value,
         &is_present);
    return is_present ? value : NAN;
}

START_TEST(a_step_folds_every_way)
{
    const struct sample samples[] = { { 110 * S, 4 }, { 120 * S, 1 }, { 130 * S, 7 } };

    ck_assert_double_eq(one_step(samples, 3, QUERY_AVG, false), 4);
    ck_assert_double_eq(one_step(samples, 3, QUERY_MIN, false), 1);
    ck_assert_double_eq(one_step(samples, 3, QUERY_MAX, false), 7);
    ck_assert_double_eq(one_step(samples, 3, QUERY_SUM, false), 12);
    ck_assert_double_eq(one_step(samples, 3, QUERY_COUNT, false), 3);
    ck_assert_double_eq(one_step(samples, 3, QUERY_LAST, false), 7);
    ck_assert_double_eq(one_step(samples, 3, QUERY_QUANTILE, false), 4);
}
END_TEST

START_TEST(a_rate_takes_the_sample_before_the_range_and_survives_a_reset)
{
    const struct sample samples[] = {
        { 90 * S, 1000 }, { 110 * S, 1200 }, { 130 * S, 50 }, { 150 * S, 150 }
    };

    /* 200 + 50 (after the reset) + 100 in 60 s */
    ck_assert_double_eq(one_step(samples, 4, QUERY_INCREASE, true), 350);
    ck_assert_double_eq_tol(one_step(samples, 4, QUERY_RATE, true), 350 / 60.0, 1e-12);
    /* a gauge may fall */
    ck_assert_double_eq(one_step(samples, 4, QUERY_INCREASE, false), 200 - 1150 + 100);
}
END_TEST

START_TEST(one_sample_has_no_rate)
{
    const struct sample samples[] = { { 110 * S, 1200 } };

    ck_assert(isnan(one_step(samples, 1, QUERY_RATE, true)));
}
END_TEST

START_TEST(a_step_without_samples_is_left_out)
{
    const struct sample samples[] = { { 105 * S, 1 }, { 125 * S, 3 } };
    struct fold_grid grid = {
        .first_us = 100 * S, .step_us = 10 * S, .from_us = 100 * S, .to_us = 130 * S, .n_steps = 3
    };
    double scratch[4], to[3];
    bool is_present[3];

    fold(samples, 2, &grid, &(struct fold_how){ QUERY_AVG, false, 0, scratch }, to, is_present);
    ck_assert(is_present[0] && !is_present[1] && is_present[2]);
    ck_assert_double_eq(to[2], 3);
}
END_TEST

START_TEST(a_quantile_lies_between_its_neighbours)
{
    double values[] = { 4, 1, 3, 2 };

    ck_assert_double_eq(fold_quantile(values, 4, 0), 1);
    ck_assert_double_eq(fold_quantile(values, 4, 1), 4);
    ck_assert_double_eq(fold_quantile(values, 4, 0.5), 2.5);
}
END_TEST

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

START_TEST(one_value_alone_comes_back_with_its_bits)
{
    static const enum query_aggregation hows[] = { QUERY_AVG, QUERY_MIN, QUERY_MAX, QUERY_SUM,
                                                   QUERY_LAST };
    const uint64_t nan_bits = UINT64_C(0x7ff8dead0000beef);
    double values[] = { -0.0, INFINITY, -INFINITY, 5e-324, 0 };

    memcpy(&values[4], &nan_bits, sizeof(nan_bits));
    for (size_t i = 0; i < 5; i++)
        for (size_t how = 0; how < sizeof(hows) / sizeof(hows[0]); how++) {
            double copy = values[i];

            ck_assert_msg(bits_of(fold_values(&copy, 1, hows[how])) == bits_of(values[i]),
                          "value %zu, way %zu", i, how);
            ck_assert(bits_of(fold_quantile(&copy, 1, 0.5)) == bits_of(values[i]));
        }
}
END_TEST

START_TEST(least_and_largest_pass_over_nan)
{
    double values[] = { NAN, 3, NAN, 1 };
    double nothing[] = { NAN, NAN };

    ck_assert_double_eq(fold_values(values, 4, QUERY_MIN), 1);
    ck_assert_double_eq(fold_values(values, 4, QUERY_MAX), 3);
    ck_assert(isnan(fold_values(values, 4, QUERY_AVG)));
    ck_assert(isnan(fold_values(nothing, 2, QUERY_MIN)));
    ck_assert(isnan(fold_values(nothing, 2, QUERY_MAX)));
}
END_TEST

START_TEST(a_quantile_beside_infinity_is_a_number)
{
    double values[] = { 1, 2, INFINITY };
    double same[] = { INFINITY, INFINITY };

    ck_assert_double_eq(fold_quantile(values, 3, 0), 1);
    ck_assert_double_eq(fold_quantile(values, 3, 0.5), 2);
    ck_assert_double_eq(fold_quantile(values, 3, 0.75), INFINITY);
    ck_assert_double_eq(fold_quantile(same, 2, 0.3), INFINITY);
}
END_TEST

START_TEST(a_rate_over_a_gap_takes_the_time_of_the_gap)
{
    const struct sample samples[] = { { 110 * S, 100 }, { 150 * S, 500 }, { 150 * S, 500 } };
    struct fold_grid grid = {
        .first_us = 100 * S, .step_us = 20 * S, .from_us = 100 * S, .to_us = 160 * S, .n_steps = 3
    };
    double scratch[4], to[3];
    bool is_present[3];

    fold(samples, 3, &grid, &(struct fold_how){ QUERY_RATE, true, 0, scratch }, to, is_present);
    ck_assert(!is_present[0] && !is_present[1] && is_present[2]);
    ck_assert_double_eq(to[2], 10);
}
END_TEST

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

static char dir[64];
static struct store *store;
static struct query query;
static struct arena arena;
static struct query_problem problem;
static const struct query_selector everyone;

static void note_done(struct store_batch *batch, int r, uint64_t run_last)
{
    (void) run_last;
    atomic_store((atomic_int *) batch->ctx, r ? -1 : 1);
    store_batch_free(batch);
}

static void intern_done(struct store_intern *request, int r)
{
    (void) r;
    free(request);
}

/* Definitions are known at once after the first store_intern(): ask until then. */
static void intern(struct store_intern *request)
{
    for (;;) {
        struct store_intern *copy = malloc(sizeof(*copy));

        *copy = *request;
        copy->done = intern_done;
        if (store_intern(store, copy) == 0) {
            request->ret_layout = copy->ret_layout;
            free(copy);
            return;
        }
        usleep(1000); /* the copy is the store's, and intern_done()'s */
    }
}

static uint32_t layout_of(const char *metric, const char *part)
{
    static uint32_t ids[1];
    static struct store_attribute attribute;
    static struct store_definition definition;

    attribute = (struct store_attribute){ "part", part };
    definition = (struct store_definition){ .name = metric,
                                            .unit = "1",
                                            .kind = STORE_GAUGE,
                                            .attributes = &attribute,
                                            .n_attributes = 1 };
    intern(
        &(struct store_intern){ .definitions = &definition, .n_definitions = 1, .ret_ids = ids });

    struct store_intern request = { .is_layout = true, .layout = ids, .n_layout = 1 };
    intern(&request);
    return request.ret_layout;
}

static uint64_t next_sequence;

static void add(const char *agent, uint32_t layout, int64_t time_us, double value)
{
    struct store_row row = {
        .time_us = time_us, .layout = layout, .n_values = 1, .values = &value
    };
    struct store_batch *batch;
    atomic_int is_done = 0;
    uint32_t number;

    ck_assert_int_eq(store_agent_intern(store, agent, &number), 0);
    ck_assert_int_eq(store_batch_new(&batch, store_row_bytes(1, 0)), 0);
    batch->agent = number;
    batch->signal = STORE_METRICS;
    memcpy(batch->spool, "0123456789abcdef", 16);
    batch->spool[0] = (uint8_t) number;
    batch->sequence = ++next_sequence;
    batch->spool[1] = (uint8_t) next_sequence; /* a run of its own for each batch */
    batch->sequence = 1;
    batch->received = clock_wall();
    batch->done = note_done;
    batch->ctx = &is_done;
    store_batch_add(batch, &row, NULL);
    ck_assert_int_eq(store_submit(store, batch), 0);
    while (!atomic_load(&is_done))
        usleep(100);
    ck_assert_int_eq(is_done, 1);
}

static void open_store(void)
{
    struct store_options options = { .segment_bytes = 64 << 20,
                                     .queue_bytes = 64 << 20,
                                     .full_percent = 100,
                                     .allow_any_filesystem = true };
    struct store_why why;

    strcpy(dir, "/tmp/query.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(store_create(dir), 0);
    options.directory = dir;
    ck_assert_msg(store_open(&store, &options, &why) == 0, "%s", why.text);
    query = (struct query){ .store = store,
                            .max_samples = 1000,
                            .max_points = 1000,
                            .max_series = 100,
                            .token_key = "key" };
    arena_init(&arena, 64 << 20);
    next_sequence = 0;
    for (int i = 0; i < 3; i++) {
        add("web-1", layout_of("load", "a"), i * 10 * S, i);
        add("web-2", layout_of("load", "b"), i * 10 * S, 10 + i);
    }
    add("db-1", layout_of("size", "a"), 0, 5);
}

static void close_store(void)
{
    arena_deinit(&arena);
    store_stop(store);
    store = store_close(store);
    ck_assert_int_eq(file_remove_tree(dir), 0);
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
    TCase *fold = tcase_create("fold");
    TCase *pool = tcase_create("pool");
    TCase *ask = tcase_create("questions");

    tcase_add_test(fold, a_step_folds_every_way);
    tcase_add_test(fold, a_rate_takes_the_sample_before_the_range_and_survives_a_reset);
    tcase_add_test(fold, one_sample_has_no_rate);
    tcase_add_test(fold, a_step_without_samples_is_left_out);
    tcase_add_test(fold, a_quantile_lies_between_its_neighbours);
    tcase_add_test(fold, one_value_alone_comes_back_with_its_bits);
    tcase_add_test(fold, least_and_largest_pass_over_nan);
    tcase_add_test(fold, a_quantile_beside_infinity_is_a_number);
    tcase_add_test(fold, a_rate_over_a_gap_takes_the_time_of_the_gap);
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
    suite_add_tcase(s, fold);
    suite_add_tcase(s, pool);
    suite_add_tcase(s, ask);
    return s;
}
