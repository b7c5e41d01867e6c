/* SPDX-License-Identifier: Apache-2.0 */

/* Answers from roll-ups against answers from samples, over the same store. */

#include "test_query_rig.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/rand.h"
#include "common/log/log.h"
#include "server/store/db.h"

#define MINUTE (60 * S)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define N_SERIES 5
#define BATCH_ROWS 200

/* Midnights at which a month, a year, nothing but a day begins. */
static const int64_t middles_us[] = { INT64_C(1793491200) * S, INT64_C(1798761600) * S,
                                      INT64_C(1794960000) * S };

/* ---- what is written ---- */

struct writing {
    struct rand *rand;
    uint32_t layouts[3]; /* all series; the second alone; the second and third */
    double values[N_SERIES];
    bool is_whole;
};

static const size_t members[3][N_SERIES] = { { 0, 1, 2, 3, 4 }, { 1 }, { 1, 2 } };
static const size_t n_members[3] = { N_SERIES, 1, 2 };

static void make_layouts(struct writing *writing)
{
    static const char *const parts[N_SERIES] = { "0", "1", "2", "3", "4" };
    struct store_definition definitions[N_SERIES];
    struct store_attribute attributes[N_SERIES];

    for (size_t i = 0; i < N_SERIES; i++) {
        attributes[i] = (struct store_attribute){ "part", parts[i] };
        /* Counters and gauges, under names of their own. */
        definitions[i] = (struct store_definition){ .name = i < 3 ? "c" : "g",
                                                    .unit = "1",
                                                    .kind = i < 3 ? STORE_COUNTER : STORE_GAUGE,
                                                    .attributes = &attributes[i],
                                                    .n_attributes = 1 };
    }
    writing->layouts[0] = layout_of_all(definitions, N_SERIES);
    writing->layouts[1] = layout_of_all(&definitions[1], 1);
    writing->layouts[2] = layout_of_all(&definitions[1], 2);
}

/* Counters grow and fall back now and then; gauges go anywhere. */
static void next_values(struct writing *writing)
{
    for (size_t i = 0; i < N_SERIES; i++) {
        double step = (double) rand_below(writing->rand, 1000);

        if (!writing->is_whole)
            step += (double) rand_below(writing->rand, 1000) / 7;
        if (i >= 3)
            writing->values[i] = rand_below(writing->rand, 50) ? step - 500 : NAN;
        else if (rand_below(writing->rand, 40) == 0)
            writing->values[i] = step / 2;
        else
            writing->values[i] += step;
    }
}

/* Rows of one layout from from_us on; returns behind them. */
static int64_t
put_some(struct writing *writing, size_t layout, int64_t from_us, int64_t to_us, uint32_t step_s)
{
    static struct store_row rows[BATCH_ROWS];
    static double values[BATCH_ROWS][N_SERIES];
    static uint32_t absent[BATCH_ROWS];
    size_t n = 0;

    for (; n < BATCH_ROWS && from_us < to_us; n++) {
        next_values(writing);
        for (size_t i = 0; i < n_members[layout]; i++)
            values[n][i] = writing->values[members[layout][i]];
        absent[n] = (uint32_t) rand_below(writing->rand, 12);
        rows[n] = (struct store_row){ .time_us = from_us,
                                      .layout = writing->layouts[layout],
                                      .n_values = (uint32_t) n_members[layout],
                                      .values = values[n],
                                      .absent = &absent[n],
                                      .n_absent = absent[n] < n_members[layout] };
        from_us += (int64_t) (1 + rand_below(writing->rand, UINT64_C(2) * step_s)) * S +
                   (int64_t) rand_below(writing->rand, 2) * 1234;
    }
    if (n)
        add_rows("a", rows, n);
    return from_us;
}

/* Two days and a half around a midnight: layouts that take turns, holes of minutes and hours. */
static void put_days(struct writing *writing, int64_t middle_us)
{
    int64_t at_us = middle_us - 30 * HOUR, end_us = middle_us + 30 * HOUR;

    while (at_us < end_us) {
        size_t layout = rand_below(writing->rand, 4) ? 0 : 1 + rand_below(writing->rand, 2);
        uint32_t step_s = rand_below(writing->rand, 5) ? 40 : 700;

        at_us = put_some(writing, layout, at_us, end_us, step_s);
        if (rand_below(writing->rand, 3) == 0)
            at_us += (int64_t) rand_below(writing->rand, 4 * HOUR);
        if (rand_below(writing->rand, 6) == 0)
            ck_assert_int_eq(store_seal(store), 0);
    }
}

/* Here and there, among what is there. */
static void put_late(struct writing *writing, int64_t middle_us, int n)
{
    for (int i = 0; i < n; i++) {
        int64_t from_us =
            middle_us - 36 * HOUR + (int64_t) rand_below(writing->rand, (uint64_t) (70 * HOUR));

        (void) put_some(writing, rand_below(writing->rand, 3), from_us, from_us + 10 * MINUTE, 60);
    }
}

/* ---- what is asked ---- */

static void any_question(struct rand *rand, int64_t middle_us, struct query_range *to)
{
    static const int64_t steps_us[] = { MINUTE, 5 * MINUTE, HOUR, 2 * HOUR, DAY, 90 * MINUTE };
    int64_t grain_us = rand_below(rand, 2) ? HOUR : rand_below(rand, 2) ? MINUTE : 1;

    *to = (struct query_range){
        .selector = &everyone,
        .name = rand_below(rand, 2) ? "c" : "g",
        .step_us = steps_us[rand_below(rand, 6)],
        .aggregation = (enum query_aggregation)(QUERY_AVG + rand_below(rand, QUERY_LAST + 2)),
    };
    to->from_us = middle_us - 40 * HOUR + (int64_t) rand_below(rand, (uint64_t) (50 * HOUR));
    to->from_us -= to->from_us % grain_us;
    to->to_us = to->from_us + 6 * HOUR + (int64_t) rand_below(rand, (uint64_t) (60 * HOUR));
    to->to_us -= to->to_us % grain_us;
}

static void ask(struct query_range *range)
{
    ck_assert_msg(query_metric_range(&query, range, &arena, &problem) == 0, "%s: %s", problem.field,
                  problem.description);
}

static void check_equal(const struct query_range *got, const struct query_range *expected)
{
    ck_assert_uint_eq(got->n_series, expected->n_series);
    for (size_t i = 0; i < got->n_series; i++) {
        const struct query_series *a = &got->series[i], *b = &expected->series[i];

        ck_assert_msg(a->n_points == b->n_points, "series %zu: %zu points, expected %zu", i,
                      a->n_points, b->n_points);
        for (size_t k = 0; k < a->n_points; k++) {
            double x = a->points[k].value, y = b->points[k].value;

            ck_assert_int_eq(a->points[k].time_us, b->points[k].time_us);
            ck_assert_msg(fabs(x - y) <= 1e-12 * fmax(fabs(y), 1e5) || (isnan(x) && isnan(y)) ||
                              x == y,
                          "%s aggregation %d step %lld s series %zu point %zu at %lld: %.17g, "
                          "expected %.17g",
                          got->name, (int) got->aggregation, (long long) (got->step_us / S), i, k,
                          (long long) (a->points[k].time_us / S), x, y);
        }
    }
}

/* How many of the questions windows had a part in. */
static size_t compare(struct rand *rand, int64_t middle_us, int n)
{
    size_t n_rolled = 0;

    for (int i = 0; i < n; i++) {
        struct query_range range, samples;

        any_question(rand, middle_us, &range);
        samples = range;
        samples.only_samples = true;
        arena_reset(&arena, 64 << 20);
        ask(&range);
        ask(&samples);
        ck_assert_int_eq(samples.window_us, 0);
        check_equal(&range, &samples);
        n_rolled += range.n_samples_read < samples.n_samples_read;
    }
    return n_rolled;
}

static void open_large_store(void)
{
    open_empty_store();
    query.max_samples = 10000000;
    query.max_points = 100000;
}

START_TEST(an_answer_from_roll_ups_is_the_one_from_samples)
{
    int64_t middle_us = middles_us[_i % 3];
    struct rand rand;
    struct writing writing = { .rand = &rand, .is_whole = _i % 2 };

    rand_init(&rand, (uint64_t) _i);
    make_layouts(&writing);
    put_days(&writing, middle_us);
    /* Not rolled up, but for what a sweep may have met; rolled up; with late rows in heads; in
     * blocks; rolled up again. */
    compare(&rand, middle_us, 10);
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_gt(compare(&rand, middle_us, 40), 20);
    put_late(&writing, middle_us, 3);
    compare(&rand, middle_us, 30);
    ck_assert_int_eq(store_seal(store), 0);
    compare(&rand, middle_us, 30);
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_gt(compare(&rand, middle_us, 40), 20);
}
END_TEST

static size_t n_metrics(void)
{
    struct query_metrics metrics = { .selector = &everyone };

    ck_assert_int_eq(query_list_metrics(&query, &metrics, &arena, &problem), 0);
    return metrics.n_metrics;
}

START_TEST(windows_answer_when_the_days_of_their_samples_are_gone)
{
    int64_t middle_us = middles_us[0];
    struct rand rand;
    struct writing writing = { .rand = &rand };
    struct query_range before, after;
    struct store_stats stats;

    rand_init(&rand, 1);
    make_layouts(&writing);
    put_days(&writing, middle_us);
    ck_assert_int_eq(store_compact(store), 0);
    for (int round = 0; round < 12; round++) {
        before = (struct query_range){
            .selector = &everyone,
            .name = round % 2 ? "c" : "g",
            .from_us = middle_us - 36 * HOUR,
            .to_us = middle_us + 36 * HOUR,
            .step_us = round % 3 ? HOUR : 10 * MINUTE,
            .aggregation = (enum query_aggregation)(QUERY_AVG + round % QUERY_QUANTILE),
        };
        if (before.aggregation >= QUERY_QUANTILE)
            before.aggregation = QUERY_RATE;
        after = before;
        before.only_samples = true;
        if (round == 0) {
            ck_assert_uint_eq(n_metrics(), 2);
            continue;
        }
        ask(&before);
        ask(&after);
        check_equal(&after, &before);
    }
    /* The last day stays whatever its size. */
    store_set_retention(store, 0, 1);
    do {
        store_retain_now(store);
        usleep(1000);
        store_get_stats(store, &stats);
    } while (stats.n_days > 1);
    ck_assert_uint_eq(n_metrics(), 2);
    before.only_samples = false;
    before.aggregation = QUERY_MAX;
    after = before;
    ask(&after);
    ck_assert_uint_gt(after.n_series, 0);
    ck_assert_uint_gt(after.series[0].n_points, 40);
    ck_assert_int_lt(after.series[0].points[0].time_us, middle_us - DAY);
    /* A range of an hour, which would be read from samples, if there were some. */
    after = before;
    after.from_us = middle_us - 30 * HOUR;
    after.to_us = middle_us - 29 * HOUR;
    ask(&after);
    ck_assert_uint_gt(after.n_series, 0);
    after = before;
    after.only_samples = true;
    after.to_us = middle_us;
    ask(&after);
    ck_assert_uint_eq(after.n_series, 0);
}
END_TEST

/* ---- damage ---- */

static size_t damage_at; /* in a record: its head, or its block */
static char log_path[300];

/* A bit of every third record, written as LMDB would write it: no page is wrong. */
static void damage_records(const char *path)
{
    MDB_env *env = NULL;
    MDB_cursor *cursor;
    MDB_val key, value;
    MDB_txn *txn;
    MDB_dbi dbi;
    int n = 0;

    ck_assert_int_eq(db_env_open(&env, path, UINT64_C(1) << 30, 8), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "blocks", 0, &dbi), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        CLEANUP(buf_deinit) struct buf copy = { 0 }, name = { 0 };

        if (n++ % 3)
            continue;
        buf_append(&name, key.mv_data, key.mv_size); /* what it is in moves */
        buf_append(&copy, value.mv_data, value.mv_size);
        copy.data[damage_at] ^= 4;
        key = db_val(name.data, name.len);
        value = db_val(copy.data, copy.len);
        ck_assert_int_eq(mdb_cursor_put(cursor, &key, &value, MDB_CURRENT), 0);
    }
    ck_assert_int_gt(n, 0);
    mdb_cursor_close(cursor);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void damage_windows(const char *directory)
{
    static const char *const periods[] = { "rollup-1m/202610", "rollup-1m/202611",
                                           "rollup-1h/2026" };

    for (size_t i = 0; i < 3; i++) {
        char path[300];

        snprintf(path, sizeof(path), "%s/default/%s", directory, periods[i]);
        damage_records(path);
    }
    snprintf(log_path, sizeof(log_path), "%s/log", directory);
}

static size_t n_said(const char *event)
{
    FILE *file = fopen(log_path, "r");
    char line[2000];
    size_t n = 0;

    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file))
        n += strstr(line, event) != NULL;
    fclose(file);
    return n;
}

START_TEST(where_windows_are_damaged_samples_answer_and_it_is_said)
{
    int64_t middle_us = middles_us[0];
    struct log_options options = { .level = LOG_INFO };
    struct rand rand;
    struct writing writing = { .rand = &rand };
    struct query_range range;
    struct store_stats stats;

    rand_init(&rand, (uint64_t) _i);
    make_layouts(&writing);
    put_days(&writing, middle_us);
    ck_assert_int_eq(store_compact(store), 0);
    damage_at = _i % 2 ? 20 : 60;
    reopen_store(damage_windows);
    options.fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ck_assert_int_ge(options.fd, 0);
    log_init(&options);
    ck_assert_uint_gt(compare(&rand, middle_us, 60), 5);
    ck_assert_uint_gt(n_said("event=rollup_damaged"), 0);

    /* Where there are no samples the windows that can be read are all there is. */
    store_set_retention(store, 0, 1);
    do {
        store_retain_now(store);
        usleep(1000);
        store_get_stats(store, &stats);
    } while (stats.n_days > 1);
    range = (struct query_range){ .selector = &everyone,
                                  .name = "c",
                                  .from_us = middle_us - 36 * HOUR,
                                  .to_us = middle_us,
                                  .step_us = MINUTE,
                                  .aggregation = QUERY_MAX };
    ask(&range);
    ck_assert_uint_gt(range.n_series, 0);
    ck_assert_uint_gt(range.series[0].n_points, 0);
}
END_TEST

TCase *case_rolled(void)
{
    TCase *c = tcase_create("rolled");

    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, open_large_store, close_store);
    tcase_add_loop_test(c, an_answer_from_roll_ups_is_the_one_from_samples, 0, 12);
    tcase_add_test(c, windows_answer_when_the_days_of_their_samples_are_gone);
    tcase_add_loop_test(c, where_windows_are_damaged_samples_answer_and_it_is_said, 0, 4);
    return c;
}
