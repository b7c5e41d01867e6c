/* SPDX-License-Identifier: Apache-2.0 */

/* Questions over a small fleet of random samples, against what the samples in memory say. */

#include "test_query_rig.h"

#include <math.h>
#include <string.h>

#include "common/base/rand.h"

#define N_AGENTS 4
#define N_SERIES 3
#define N_ROWS 60

static const char *const agents[N_AGENTS] = { "a", "a-1", "a-2", "b" };
/* Two of the three say the same site. */
static const struct store_attribute attributes[N_SERIES][2] = {
    { { "part", "0" }, { "site", "x" } },
    { { "part", "1" }, { "site", "x" } },
    { { "part", "2" }, { "site", "y" } },
};

static struct series {
    int64_t times_us[RIG_MAX_SAMPLES];
    double values[RIG_MAX_SAMPLES];
    size_t n;
} fleet[N_AGENTS][N_SERIES];

/* Each row has every series or only the second one, now and then with one absent. Rows of the
 * layouts take turns in time but are written one layout after the other. */
static void fill_agent(struct rand *rand, size_t agent, const uint32_t layouts[2])
{
    static struct store_row rows[2][N_ROWS];
    static double values[N_ROWS][N_SERIES];
    static uint32_t absent[N_ROWS];
    size_t n_rows[2] = { 0, 0 };
    int64_t time_us = 0;

    for (size_t i = 0; i < N_ROWS; i++) {
        const bool is_alone = rand_below(rand, 3) == 0;
        const size_t n_values = is_alone ? 1 : N_SERIES;
        struct store_row *row = &rows[is_alone][n_rows[is_alone]++];

        time_us += (int64_t) (1 + rand_below(rand, 20)) * S;
        absent[i] = (uint32_t) rand_below(rand, 5);
        *row = (struct store_row){ .time_us = time_us,
                                   .layout = layouts[is_alone],
                                   .n_values = (uint32_t) n_values,
                                   .values = values[i],
                                   .absent = &absent[i],
                                   .n_absent = absent[i] < n_values };
        for (size_t j = 0; j < n_values; j++) {
            struct series *series = &fleet[agent][is_alone ? 1 : j];

            values[i][j] = (double) rand_below(rand, 100);
            if (absent[i] == j)
                continue;
            series->times_us[series->n] = time_us;
            series->values[series->n++] = values[i][j];
        }
    }
    for (size_t i = 2; i-- > 0;)
        if (n_rows[i] > 0)
            add_rows(agents[agent], rows[i], n_rows[i]);
}

static void fill_fleet(struct rand *rand, enum store_kind kind)
{
    struct store_definition definitions[N_SERIES];
    uint32_t layouts[2];

    memset(fleet, 0, sizeof(fleet));
    for (size_t i = 0; i < N_SERIES; i++)
        definitions[i] = (struct store_definition){
            .name = "m", .unit = "1", .kind = kind, .attributes = attributes[i], .n_attributes = 2
        };
    layouts[0] = layout_of_all(definitions, N_SERIES);
    layouts[1] = layout_of_all(definitions + 1, 1);
    for (size_t i = 0; i < N_AGENTS; i++)
        fill_agent(rand, i, layouts);
}

/* A label of the answer, or NULL. */
static const char *label_in(const struct query_series *series, const char *key)
{
    for (size_t i = 0; i < series->n_labels; i++)
        if (strcmp(series->labels[i].key, key) == 0)
            return series->labels[i].value;
    return NULL;
}

static bool is_in(const struct query_series *series, size_t agent, size_t at)
{
    const char *id = label_in(series, "agent"), *part = label_in(series, "part"),
               *site = label_in(series, "site");

    return (!id || strcmp(id, agents[agent]) == 0) &&
           (!part || strcmp(part, attributes[at][0].value) == 0) &&
           (!site || strcmp(site, attributes[at][1].value) == 0);
}

/* The value of a series of the answer at a step; false: none. */
static bool expected_value(const struct query_range *range,
                           const struct query_series *series,
                           const struct fold_grid *grid,
                           size_t step,
                           double *ret)
{
    const bool is_by_itself = range->n_group_by == 0 && !range->group_all;
    double column[N_AGENTS * N_SERIES];
    size_t n = 0;

    for (size_t agent = 0; agent < N_AGENTS; agent++)
        for (size_t i = 0; i < N_SERIES; i++) {
            const struct series *from = &fleet[agent][i];
            const struct fold_samples samples = { from->times_us, from->values, from->n };

            if (is_in(series, agent, i) && naive_step(&samples, grid, step, range->aggregation,
                                                      range->kind == STORE_COUNTER, &column[n]))
                n++;
        }
    if (n > 0)
        *ret = is_by_itself ? column[0] : naive_values(column, n, range->group_aggregation, 0.9);
    return n > 0;
}

static void check_answer(const struct query_range *range)
{
    const struct fold_grid grid = {
        .first_us = range->from_us - range->from_us % range->step_us,
        .step_us = range->step_us,
        .from_us = range->from_us,
        .to_us = range->to_us,
    };

    for (size_t i = 0; i < range->n_series; i++) {
        const struct query_series *series = &range->series[i];
        size_t at = 0;

        for (size_t step = 0; grid.first_us + (int64_t) step * grid.step_us < grid.to_us; step++) {
            double value;

            if (!expected_value(range, series, &grid, step, &value))
                continue;
            ck_assert_uint_lt(at, series->n_points);
            ck_assert_int_eq(series->points[at].time_us,
                             grid.first_us + (int64_t) step * grid.step_us);
            ck_assert_msg(fabs(series->points[at].value - value) <= 1e-9 * fabs(value),
                          "series %zu step %zu: %g, expected %g", i, step, series->points[at].value,
                          value);
            at++;
        }
        ck_assert_uint_eq(at, series->n_points);
    }
}

static void any_question(struct rand *rand, struct query_range *to)
{
    static const char *const keys[][2] = {
        { "site", "" }, { "part", "" }, { "agent", "site" }, { "agent", "" }
    };

    *to = (struct query_range){
        .selector = &everyone,
        .name = "m",
        .from_us = (int64_t) rand_below(rand, 300) * S,
        .step_us = (int64_t) (5 + rand_below(rand, 120)) * S,
        .aggregation = (enum query_aggregation)(QUERY_AVG + rand_below(rand, QUERY_QUANTILE)),
        .group_aggregation = QUERY_QUANTILE,
        .quantile = 0.9,
        .group_all = rand_below(rand, 5) == 0,
    };
    to->to_us = to->from_us + (int64_t) (1 + rand_below(rand, 500)) * S;
    if (rand_below(rand, 4))
        to->group_aggregation = (enum query_aggregation)(QUERY_AVG + rand_below(rand, QUERY_LAST));
    if (rand_below(rand, 3)) {
        to->group_by = keys[rand_below(rand, 4)];
        to->n_group_by = to->group_by[1][0] ? 2 : 1;
    }
}

START_TEST(an_answer_is_what_the_samples_in_memory_say)
{
    struct rand rand;
    size_t n_points = 0;

    rand_init(&rand, (uint64_t) _i);
    query.max_samples = 100000;
    fill_fleet(&rand, _i % 2 ? STORE_COUNTER : STORE_GAUGE);
    for (int i = 0; i < 60; i++) {
        struct query_range range;

        any_question(&rand, &range);
        ck_assert_msg(query_metric_range(&query, &range, &arena, &problem) == 0, "%s",
                      problem.description);
        check_answer(&range);
        for (size_t j = 0; j < range.n_series; j++)
            n_points += range.series[j].n_points;
    }
    ck_assert_uint_gt(n_points, 500);
}
END_TEST

TCase *case_random(void)
{
    TCase *c = tcase_create("random");

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, open_empty_store, close_store);
    tcase_add_loop_test(c, an_answer_is_what_the_samples_in_memory_say, 0, 8);
    return c;
}
