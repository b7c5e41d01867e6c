/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What roll-ups cost and what they save: not a test, not built by default.
 *
 *   ninja -C .build/plain tests/unit/bench_rollup && .build/plain/tests/unit/bench_rollup
 *
 * BENCH_DAYS says of how many days, 30. One agent, 500 series each 10 s: half counters with bursts,
 * half gauges that walk with two digits behind the point.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/rand.h"
#include "suite.h"
#include "test_query_rig.h"

#define N_COLUMNS 500
#define DAY (86400 * S)
#define BEGIN (INT64_C(1793491200) * S) /* a month begins */
#define BATCH_ROWS 600

static uint32_t fleet_layout(void)
{
    static struct store_definition definitions[N_COLUMNS];
    static struct store_attribute attributes[N_COLUMNS];
    static char parts[N_COLUMNS][8];

    for (int i = 0; i < N_COLUMNS; i++) {
        (void) snprintf(parts[i], sizeof(parts[i]), "%d", i);
        attributes[i] = (struct store_attribute){ "part", parts[i] };
        definitions[i] = (struct store_definition){ .name = i % 2 ? "counter" : "gauge",
                                                    .unit = "1",
                                                    .kind = i % 2 ? STORE_COUNTER : STORE_GAUGE,
                                                    .attributes = &attributes[i],
                                                    .n_attributes = 1 };
    }
    return layout_of_all(definitions, N_COLUMNS);
}

static void next_values(struct rand *rand, int64_t *state, double *values)
{
    for (int i = 0; i < N_COLUMNS; i++) {
        uint64_t bits = rand_u64(rand);

        if (i % 10 < 3) /* idle, as most of a host is */
            state[i] += bits % 500 == 0;
        else if (i % 2)
            state[i] += (int64_t) (bits % 4 ? bits % 50 : bits % 5000);
        else
            state[i] += (int64_t) (bits % 41) - 20;
        values[i] = i % 2 ? (double) state[i] : (double) state[i] / 100;
    }
}

static void add_days(uint32_t layout, int n_days)
{
    static int64_t state[N_COLUMNS];
    static double values[BATCH_ROWS][N_COLUMNS];
    static struct store_row rows[BATCH_ROWS];
    struct rand rand;
    int64_t at_us = BEGIN;

    rand_init(&rand, 1);
    for (int i = 0; i < N_COLUMNS; i++)
        state[i] = 100000;
    while (at_us < BEGIN + n_days * DAY) {
        size_t n = 0;

        for (; n < BATCH_ROWS && at_us < BEGIN + n_days * DAY; n++, at_us += 10 * S) {
            next_values(&rand, state, values[n]);
            rows[n] = (struct store_row){
                .time_us = at_us, .layout = layout, .n_values = N_COLUMNS, .values = values[n]
            };
        }
        add_rows("host", rows, n);
        if ((at_us - BEGIN) % (DAY / 4) == 0 && store_seal(store))
            ck_abort_msg("cannot seal");
    }
}

static int by_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;

    return (x > y) - (x < y);
}

static void ask(const char *what, int64_t days_us, int64_t step_us, bool only_samples)
{
    enum { ROUNDS = 41 };
    int64_t took_us[ROUNDS];
    static const struct store_attribute part = { "part", "127" };
    struct query_range range;

    for (int i = 0; i < ROUNDS; i++) {
        int64_t begin_us = clock_mono().us;

        range = (struct query_range){ .selector = &everyone,
                                      .name = "counter",
                                      .attributes = &part,
                                      .n_attributes = 1,
                                      .from_us = BEGIN,
                                      .to_us = BEGIN + days_us,
                                      .step_us = step_us,
                                      .only_samples = only_samples };
        arena_reset(&arena, 1 << 30);
        if (query_metric_range(&query, &range, &arena, &problem))
            ck_abort_msg("%s", problem.description);
        took_us[i] = clock_mono().us - begin_us;
    }
    qsort(took_us, ROUNDS, sizeof(*took_us), by_us);
    printf("%-28s %-8s median %8.3f ms, worst of %d %8.3f ms, %8llu read, %zu points\n", what,
           only_samples ? "samples" : "windows", (double) took_us[ROUNDS / 2] / 1e3, ROUNDS,
           (double) took_us[ROUNDS - 1] / 1e3, (unsigned long long) range.n_samples_read,
           range.series[0].n_points);
}

static void tell(int n_days)
{
    struct store_stats stats;
    double n_samples = (double) n_days * 8640 * N_COLUMNS;

    store_get_stats(store, &stats);
    printf("samples %.0f; raw %.3f bytes/sample\n", n_samples,
           (double) stats.day_bytes / n_samples);
    printf(
        "1 min: %.3f bytes/window, %.3f bytes/sample; 1 h: %.3f bytes/window, %.4f bytes/sample\n",
        (double) stats.rolled_1m_bytes / (n_samples / 6),
        (double) stats.rolled_1m_bytes / n_samples,
        (double) stats.rolled_1h_bytes / (n_samples / 360),
        (double) stats.rolled_1h_bytes / n_samples);
    printf("records %llu, %llu bytes; sealer %.1f ns/sample, of it roll-ups %.1f ns/sample\n",
           (unsigned long long) stats.n_rolled, (unsigned long long) stats.n_rolled_bytes,
           (double) stats.seal_busy_us * 1e3 / n_samples,
           (double) stats.roll_cpu_us * 1e3 / n_samples);
}

START_TEST(what_roll_ups_cost)
{
    const char *text = getenv("BENCH_DAYS");
    int n_days = text ? atoi(text) : 30;

    open_empty_store();
    query.max_samples = 500000000;
    query.max_points = 1000000;
    query.max_series = 5000;
    query.window_samples = 0;
    arena_deinit(&arena);
    arena_init(&arena, 1 << 30);
    add_days(fleet_layout(), n_days);
    if (store_compact(store))
        ck_abort_msg("cannot compact");
    tell(n_days);
    for (int only_samples = 0; only_samples < 2; only_samples++) {
        ask("all days, 1 h", n_days * DAY, 3600 * S, only_samples);
        ask("24 h, 1 h", DAY, 3600 * S, only_samples);
        ask("24 h, 1 min", DAY, 60 * S, only_samples);
        ask("6 h, 1 min", DAY / 4, 60 * S, only_samples);
        ask("7 days, 5 min", (n_days < 7 ? n_days : 7) * DAY, 300 * S, only_samples);
    }
    close_store();
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/store roll-ups");
    TCase *c = tcase_create("costs");

    tcase_set_timeout(c, 0);
    tcase_add_test(c, what_roll_ups_cost);
    suite_add_tcase(s, c);
    return s;
}
