/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What questions cost, and how much of it is reading: not a test, not built by default.
 *
 *   ninja -C .build/plain tests/unit/bench_query && .build/plain/tests/unit/bench_query
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "server/query/fold.h"
#include "suite.h"
#include "test_query_rig.h"

#define N_COLUMNS 50
#define N_METRICS 10 /* five series of each */
#define STEP_ROWS 10

static int64_t started_us, cpu_started_us;

/* Of this thread: what a machine with other work to do does not blur. */
static int64_t cpu_us(void)
{
    struct timespec at;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (int64_t) at.tv_sec * S + at.tv_nsec / 1000;
}

static void start(void)
{
    started_us = clock_mono().us;
    cpu_started_us = cpu_us();
}

static void say(const char *what, double per, const char *of)
{
    double us = (double) (clock_mono().us - started_us);
    double busy_us = (double) (cpu_us() - cpu_started_us);

    printf("%-40s %9.2f ms, CPU %9.2f ms", what, us / 1000, busy_us / 1000);
    if (per > 0)
        printf("  %8.1f ns/%s", busy_us * 1000 / per, of);
    printf("\n");
}

static uint32_t fleet_layout(void)
{
    static struct store_definition definitions[N_COLUMNS];
    static struct store_attribute attributes[N_COLUMNS];
    static char names[N_METRICS][16], parts[N_COLUMNS][8];

    for (int i = 0; i < N_COLUMNS; i++) {
        int metric = i / (N_COLUMNS / N_METRICS);

        (void) snprintf(names[metric], sizeof(names[metric]), "metric.%d", metric);
        (void) snprintf(parts[i], sizeof(parts[i]), "%d", i);
        attributes[i] = (struct store_attribute){ "part", parts[i] };
        definitions[i] = (struct store_definition){ .name = names[metric],
                                                    .unit = "1",
                                                    .kind = STORE_COUNTER,
                                                    .attributes = &attributes[i],
                                                    .n_attributes = 1 };
    }
    return layout_of_all(definitions, N_COLUMNS);
}

static void add_fleet(uint32_t layout, const char *prefix, int n_agents, int n_rows)
{
    struct store_row *rows = calloc((size_t) n_rows, sizeof(*rows));
    double *values = calloc((size_t) n_rows * N_COLUMNS, sizeof(*values));

    for (int i = 0; i < n_rows; i++) {
        for (int j = 0; j < N_COLUMNS; j++)
            values[i * N_COLUMNS + j] = (double) i * 3 + j;
        rows[i] = (struct store_row){ .time_us = i * 10 * S,
                                      .layout = layout,
                                      .n_values = N_COLUMNS,
                                      .values = values + (ptrdiff_t) i * N_COLUMNS };
    }
    for (int agent = 0; agent < n_agents; agent++) {
        char id[32];

        (void) snprintf(id, sizeof(id), "%s-%d", prefix, agent);
        for (int i = 0; i < n_rows; i += 1000)
            add_rows(id, rows + i, (size_t) (n_rows - i < 1000 ? n_rows - i : 1000));
    }
    free(rows);
    free(values);
}

static void
ask(const char *what, struct query_range range, struct query_selector selector, double n_samples)
{
    int r = 0;

    range.selector = &selector;
    for (int i = 0; i < 3; i++) {
        struct query_range again = range;

        arena_reset(&arena, 1 << 30);
        start();
        r = query_metric_range(&query, &again, &arena, &problem);
        if (i == 2)
            say(what, n_samples, "sample");
        range.n_series = again.n_series;
    }
    if (r)
        printf("    %s: %s\n", problem.field, problem.description);
    else
        printf("    %zu series\n", range.n_series);
}

static bool on_piece(void *ctx, const struct store_piece *piece)
{
    *(uint64_t *) ctx += piece->end - piece->first;
    return true;
}

static void scan_alone(uint32_t layout, const char *prefix, int n_agents, int64_t to_us)
{
    const uint32_t columns[] = { 0, 1, 2, 3, 4 };
    uint64_t n = 0;

    start();
    for (int i = 0; i < n_agents; i++) {
        struct store_scan scan = { .layout = layout,
                                   .to_us = to_us,
                                   .columns = columns,
                                   .n_columns = 5,
                                   .on_piece = on_piece,
                                   .ctx = &n };
        char id[32];

        (void) snprintf(id, sizeof(id), "%s-%d", prefix, i);
        scan.agent = agent_of(id);
        if (store_scan(store, &scan))
            ck_abort_msg("%s", problem.description);
    }
    say("  of it store_scan()", (double) n * 5, "sample");
}

static void bench_ranges(uint32_t layout)
{
    struct query_range hour = { .name = "metric.3", .to_us = 3600 * S, .step_us = 60 * S };
    struct query_range day = { .name = "metric.3", .to_us = 86400 * S, .step_us = 60 * S };
    const struct store_attribute part = { "part", "15" };

    hour.page_size = 5000;
    ask("1,000 agents, 1 h, 5 series each", hour, (struct query_selector){ .pattern = "web-*" },
        1000 * 360 * 5);
    scan_alone(layout, "web", 1000, 3600 * S);
    hour.attributes = &part;
    hour.n_attributes = 1;
    ask("1,000 agents, 1 h, 1 series each", hour, (struct query_selector){ .pattern = "web-*" },
        1000 * 360);
    hour.n_attributes = 0;
    hour.group_all = true;
    ask("1,000 agents, 1 h, one group", hour, (struct query_selector){ .pattern = "web-*" },
        1000 * 360 * 5);
    hour.group_aggregation = QUERY_QUANTILE;
    hour.quantile = 0.99;
    ask("1,000 agents, 1 h, p99 of one group", hour, (struct query_selector){ .pattern = "web-*" },
        1000 * 360 * 5);
    ask("1 agent, 24 h, 5 series", day, (struct query_selector){ .pattern = "day-0" }, 8640 * 5);
    scan_alone(layout, "day", 1, 86400 * S);
    day.attributes = &part;
    day.n_attributes = 1;
    ask("1 agent, 24 h, 1 series", day, (struct query_selector){ .pattern = "day-0" }, 8640);
    day.aggregation = QUERY_QUANTILE;
    day.quantile = 0.9;
    ask("1 agent, 24 h, 1 series, p90", day, (struct query_selector){ .pattern = "day-0" }, 8640);
}

static void bench_fold(void)
{
    enum { N = 8640, STEPS = 1440, ROUNDS = 1000 };
    static int64_t times_us[N], scratch_times_us[N];
    static double values[N], scratch[N], to[STEPS];
    static bool is_present[STEPS];
    const struct fold_samples samples = { times_us, values, N };
    const struct fold_grid grid = { .step_us = 60 * S, .to_us = 86400 * S, .n_steps = STEPS };
    static const enum query_aggregation hows[] = { QUERY_AVG, QUERY_MAX, QUERY_RATE,
                                                   QUERY_QUANTILE };
    static const char *const names[] = { "fold_series() avg", "max", "rate", "quantile" };

    for (int i = 0; i < N; i++) {
        times_us[i] = i * 10 * S;
        values[i] = (double) (i * 7919 % 1000);
    }
    for (size_t how = 0; how < 4; how++) {
        start();
        for (int i = 0; i < ROUNDS; i++)
            fold_series(&samples, &grid, &(struct fold_how){ hows[how], true, 0.9, scratch }, to,
                        is_present);
        say(names[how], (double) N * ROUNDS, "sample");
    }
    for (int i = 0; i < N; i++) /* four pieces that overlap */
        times_us[i] = (i % (N / 4)) * 40 * S;
    start();
    fold_sort(times_us, values, N, scratch_times_us, scratch);
    say("fold_sort() of four pieces", N, "sample");
}

static void list(const char *what, struct query_selector selector)
{
    struct query_agents page = { .selector = &selector };

    arena_reset(&arena, 1 << 30);
    start();
    if (query_list_agents(&query, &page, &arena, &problem))
        ck_abort_msg("%s", problem.description);
    say(what, 0, NULL);
    printf("    %u agents\n", page.total);
}

static void bench_select(void)
{
    const struct store_attribute label = { "rack", "r7" };
    const struct store_attribute set[] = { { "role", "web" }, { "rack", "r7" }, { "site", "x" } };
    const struct query_selector some = { .pattern = "*7" }, all = { .pattern = "*" };
    struct query_labels labels = { .selector = &all, .set = set, .n_set = 1 };

    start();
    if (query_set_labels(&query, &labels, &arena, &problem))
        ck_abort_msg("%s", problem.description);
    say("a label for every agent", labels.n_changed, "agent");
    labels = (struct query_labels){ .selector = &some, .set = set, .n_set = 3 };
    if (query_set_labels(&query, &labels, &arena, &problem))
        ck_abort_msg("%s", problem.description);
    list("agents by one label", (struct query_selector){ .labels = &label, .n_labels = 1 });
    list("agents by pattern", (struct query_selector){ .pattern = "*77*" });
    list("agents, first page", (struct query_selector){ 0 });
}

static void bench_top(void)
{
    for (int by = QUERY_TOP_METRIC; by <= QUERY_TOP_ATTRIBUTE; by++) {
        struct query_top top = { .selector = &everyone, .by = (enum query_top_by) by };

        arena_reset(&arena, 1 << 30);
        start();
        if (query_top(&query, &top, &arena, &problem))
            ck_abort_msg("%s", problem.description);
        say((const char *const[]){ "top metrics", "top agents", "top attributes" }[by - 1],
            (double) top.n_series, "series");
    }
}

START_TEST(what_questions_cost)
{
    uint32_t layout;

    open_empty_store();
    query.max_samples = 50000000;
    query.max_points = 1000000;
    query.max_series = 5000;
    arena_deinit(&arena);
    arena_init(&arena, 1 << 30);
    layout = fleet_layout();
    bench_fold();
    start();
    add_fleet(layout, "web", 1000, 360);
    add_fleet(layout, "day", 1, 8640);
    say("writing 368,640 rows of 50", 0, NULL);
    bench_ranges(layout);
    add_fleet(layout, "more", 9000, 1);
    bench_select();
    bench_top();

    close_store();
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/query costs");
    TCase *c = tcase_create("costs");

    tcase_set_timeout(c, 0);
    tcase_add_test(c, what_questions_cost);
    suite_add_tcase(s, c);
    return s;
}
