/* SPDX-License-Identifier: Apache-2.0 */
#include "test_query_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rand.h"
#include "server/query/fold.h"

/* ---- by hand ---- */

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

/* ---- against a naive reference, on random samples ---- */

#define MAX_SAMPLES RIG_MAX_SAMPLES

static const enum query_aggregation all_hows[] = { QUERY_AVG,  QUERY_MIN,      QUERY_MAX,
                                                   QUERY_SUM,  QUERY_COUNT,    QUERY_LAST,
                                                   QUERY_RATE, QUERY_INCREASE, QUERY_QUANTILE };
#define N_HOWS (sizeof(all_hows) / sizeof(all_hows[0]))

struct made {
    int64_t times_us[MAX_SAMPLES];
    double values[MAX_SAMPLES];
    struct fold_samples samples;
    struct fold_grid grid;
};

/* Whole numbers, so that sums are exact in any order; now and then a NaN. */
static double any_value(struct rand *rand, bool with_nan)
{
    if (with_nan && rand_below(rand, 40) == 0)
        return NAN;
    return (double) rand_below(rand, 1000) - 300;
}

static void make_samples(struct rand *rand, bool with_nan, struct made *to)
{
    size_t n = rand_below(rand, MAX_SAMPLES + 1);
    int64_t time_us = (int64_t) rand_below(rand, 200) * S - 100 * S, step_us;

    for (size_t i = 0; i < n; i++) {
        to->times_us[i] = time_us;
        to->values[i] = any_value(rand, with_nan);
        time_us += (int64_t) rand_below(rand, 12) * S; /* equal times too */
        if (rand_below(rand, 50) == 0)
            time_us += 300 * S;
    }
    to->samples = (struct fold_samples){ to->times_us, to->values, n };
    step_us = (int64_t) (1 + rand_below(rand, 100)) * S;
    to->grid.from_us = (int64_t) rand_below(rand, 300) * S;
    to->grid.to_us = to->grid.from_us + (int64_t) (1 + rand_below(rand, 2000)) * S;
    to->grid.step_us = step_us;
    to->grid.first_us = to->grid.from_us - to->grid.from_us % step_us;
    to->grid.n_steps = (size_t) ((to->grid.to_us - to->grid.first_us - 1) / step_us + 1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    if (isnan(x) || isnan(y))
        return isnan(y) - isnan(x);
    return (x > y) - (x < y);
}

static double naive_quantile(const double *values, size_t n, double q)
{
    double sorted[MAX_SAMPLES], rank = q * (double) (n - 1);
    size_t low = (size_t) floor(rank), high = (size_t) ceil(rank);

    memcpy(sorted, values, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), by_value);
    return low == high ? sorted[low]
                       : sorted[low] + (sorted[high] - sorted[low]) * (rank - (double) low);
}

double naive_values(const double *in, size_t n, enum query_aggregation how, double q)
{
    double sum = 0, min = NAN, max = NAN;

    for (size_t i = 0; i < n; i++) {
        sum += in[i];
        min = fmin(min, in[i]); /* passes over NaN */
        max = fmax(max, in[i]);
    }
    if (how == QUERY_QUANTILE)
        return naive_quantile(in, n, q);
    return how == QUERY_AVG     ? sum / (double) n
           : how == QUERY_MIN   ? min
           : how == QUERY_MAX   ? max
           : how == QUERY_SUM   ? sum
           : how == QUERY_COUNT ? (double) n
                                : in[n - 1];
}

/* Every sample is looked at for every step. */
bool naive_step(const struct fold_samples *samples,
                const struct fold_grid *grid,
                size_t step,
                enum query_aggregation how,
                bool is_counter,
                double *ret)
{
    int64_t start_us = grid->first_us + (int64_t) step * grid->step_us;
    double in[MAX_SAMPLES], growth = 0, took_s = 0;
    size_t n = 0;

    for (size_t i = 0; i < samples->n_samples; i++) {
        int64_t time_us = samples->times_us[i];

        if (time_us < grid->from_us || time_us >= grid->to_us || time_us < start_us ||
            time_us >= start_us + grid->step_us)
            continue;
        in[n++] = samples->values[i];
        if (i == 0)
            continue;
        if (is_counter && samples->values[i] < samples->values[i - 1])
            growth += samples->values[i];
        else
            growth += samples->values[i] - samples->values[i - 1];
        took_s += (double) (time_us - samples->times_us[i - 1]) / 1e6;
    }
    if (how == QUERY_RATE || how == QUERY_INCREASE) {
        *ret = how == QUERY_RATE ? growth / took_s : growth;
        return took_s > 0;
    }
    if (n > 0)
        *ret = naive_values(in, n, how, 0.9);
    return n > 0;
}

static void check_same(double got, double expected, const char *what, size_t how, size_t step)
{
    bool is_same = isnan(expected) ? isnan(got) : fabs(got - expected) <= 1e-9 * fabs(expected);

    ck_assert_msg(is_same, "%s: way %zu step %zu: %g, expected %g", what, how, step, got, expected);
}

START_TEST(folding_is_what_a_naive_reference_says)
{
    static struct made made;
    static double to[2400], scratch[MAX_SAMPLES];
    static bool is_present[2400];
    struct rand rand;

    rand_init(&rand, (uint64_t) _i);
    make_samples(&rand, _i % 3 == 0, &made);
    ck_assert_uint_le(made.grid.n_steps, 2400);
    for (size_t how = 0; how < N_HOWS; how++) {
        const bool is_counter = rand_below(&rand, 2);

        fold_series(&made.samples, &made.grid,
                    &(struct fold_how){ all_hows[how], is_counter, 0.9, scratch }, to, is_present);
        for (size_t step = 0; step < made.grid.n_steps; step++) {
            double expected;

            ck_assert_int_eq(is_present[step], naive_step(&made.samples, &made.grid, step,
                                                          all_hows[how], is_counter, &expected));
            if (is_present[step])
                check_same(to[step], expected, "samples", how, step);
        }
    }
}
END_TEST

START_TEST(a_group_that_adds_up_is_its_values_folded)
{
    enum { LINES = 9, STEPS = 20 };
    double lines[LINES][STEPS], to[STEPS], column[LINES];
    bool is_present[LINES][STEPS];
    struct rand rand;

    rand_init(&rand, (uint64_t) _i);
    for (size_t how = 0; all_hows[how] != QUERY_RATE; how++) {
        uint32_t n[STEPS] = { 0 };

        memset(to, 0, sizeof(to));
        for (size_t i = 0; i < LINES; i++) {
            for (size_t step = 0; step < STEPS; step++) {
                is_present[i][step] = rand_below(&rand, 3) > 0;
                lines[i][step] = any_value(&rand, true) / 7;
            }
            fold_add_line(all_hows[how], STEPS, lines[i], is_present[i], to, n);
        }
        for (size_t step = 0; step < STEPS; step++) {
            uint32_t n_column = 0;

            for (size_t i = 0; i < LINES; i++)
                if (is_present[i][step])
                    column[n_column++] = lines[i][step];
            ck_assert_uint_eq(n[step], n_column);
            if (n_column > 0) {
                double got = fold_total(all_hows[how], to[step], n[step]);
                double expected = fold_values(column, n_column, all_hows[how]);

                ck_assert_msg(bits_of(got) == bits_of(expected) || (isnan(got) && isnan(expected)),
                              "way %zu step %zu", how, step);
            }
        }
    }
}
END_TEST

START_TEST(a_quantile_of_many_is_the_one_of_the_sorted)
{
    static double values[MAX_SAMPLES], copy[MAX_SAMPLES];
    struct rand rand;
    size_t n;

    rand_init(&rand, (uint64_t) _i);
    n = 1 + rand_below(&rand, MAX_SAMPLES);
    for (size_t i = 0; i < n; i++) {
        values[i] = _i % 4 == 0   ? (double) i                    /* sorted */
                    : _i % 4 == 1 ? (double) (n - i)              /* the other way */
                    : _i % 4 == 2 ? (double) rand_below(&rand, 3) /* nearly all equal */
                                  : any_value(&rand, true);
    }
    for (int percent = 0; percent <= 100; percent += 5) {
        memcpy(copy, values, sizeof(copy));
        check_same(fold_quantile(copy, n, percent / 100.0),
                   naive_quantile(values, n, percent / 100.0), "quantile", n, (size_t) percent);
    }
}
END_TEST

START_TEST(sorting_keeps_the_order_of_equal_times)
{
    static int64_t times_us[MAX_SAMPLES], scratch_times_us[MAX_SAMPLES];
    static double values[MAX_SAMPLES], scratch[MAX_SAMPLES];
    struct rand rand;
    size_t n;

    rand_init(&rand, (uint64_t) _i);
    n = rand_below(&rand, MAX_SAMPLES + 1);
    for (size_t i = 0; i < n; i++) { /* pieces that ascend, of a length that the turn says */
        times_us[i] = (int64_t) (i % (size_t) (_i + 1)) / 2;
        values[i] = (double) i;
    }
    fold_sort(times_us, values, n, scratch_times_us, scratch);
    for (size_t i = 1; i < n; i++) {
        ck_assert_int_le(times_us[i - 1], times_us[i]);
        if (times_us[i - 1] == times_us[i])
            ck_assert_double_lt(values[i - 1], values[i]);
        ck_assert_int_eq(times_us[i], (int64_t) ((size_t) values[i] % (size_t) (_i + 1)) / 2);
    }
}
END_TEST

/* ---- growth ---- */

START_TEST(a_reset_between_two_steps_counts_from_zero_in_the_later_one)
{
    const struct sample samples[] = {
        { 100 * S, 50 }, { 119 * S, 90 }, { 121 * S, 6 }, { 139 * S, 10 }
    };
    struct fold_grid grid = {
        .first_us = 100 * S, .step_us = 20 * S, .from_us = 100 * S, .to_us = 140 * S, .n_steps = 2
    };
    double to[2];
    bool is_present[2];

    fold(samples, 4, &grid, &(struct fold_how){ QUERY_INCREASE, true, 0, NULL }, to, is_present);
    ck_assert(is_present[0] && is_present[1]);
    ck_assert_double_eq(to[0], 40);
    ck_assert_double_eq(to[1], 10);
}
END_TEST

START_TEST(a_step_that_does_not_divide_the_range_is_cut_at_both_ends)
{
    const struct sample samples[] = {
        { 100 * S, 1 }, { 105 * S, 2 }, { 110 * S, 4 }, { 125 * S, 8 }, { 130 * S, 16 }
    };
    struct fold_grid grid = {
        .first_us = 100 * S, .step_us = 20 * S, .from_us = 105 * S, .to_us = 130 * S, .n_steps = 2
    };
    double to[2];
    bool is_present[2];

    fold(samples, 5, &grid, &(struct fold_how){ QUERY_SUM, false, 0, NULL }, to, is_present);
    ck_assert_double_eq(to[0], 6);
    ck_assert_double_eq(to[1], 8);
    fold(samples, 5, &grid, &(struct fold_how){ QUERY_INCREASE, true, 0, NULL }, to, is_present);
    ck_assert_double_eq(to[0], 3); /* from the sample before the range on */
    ck_assert_double_eq(to[1], 4);
}
END_TEST

START_TEST(a_nan_makes_the_growth_of_its_step_and_the_next_deltas_nan_and_no_more)
{
    const struct sample samples[] = {
        { 100 * S, 1 }, { 110 * S, 2 }, { 120 * S, NAN }, { 140 * S, 4 }, { 160 * S, 9 }
    };
    struct fold_grid grid = {
        .first_us = 100 * S, .step_us = 20 * S, .from_us = 100 * S, .to_us = 180 * S, .n_steps = 4
    };
    double to[4];
    bool is_present[4];

    fold(samples, 5, &grid, &(struct fold_how){ QUERY_INCREASE, true, 0, NULL }, to, is_present);
    ck_assert_double_eq(to[0], 1);
    ck_assert(isnan(to[1]) && isnan(to[2]));
    ck_assert_double_eq(to[3], 5);
}
END_TEST

TCase *case_fold(void)
{
    TCase *c = tcase_create("fold");

    tcase_add_test(c, a_step_folds_every_way);
    tcase_add_test(c, a_rate_takes_the_sample_before_the_range_and_survives_a_reset);
    tcase_add_test(c, one_sample_has_no_rate);
    tcase_add_test(c, a_step_without_samples_is_left_out);
    tcase_add_test(c, a_quantile_lies_between_its_neighbours);
    tcase_add_test(c, one_value_alone_comes_back_with_its_bits);
    tcase_add_test(c, least_and_largest_pass_over_nan);
    tcase_add_test(c, a_quantile_beside_infinity_is_a_number);
    tcase_add_test(c, a_rate_over_a_gap_takes_the_time_of_the_gap);
    tcase_add_test(c, a_reset_between_two_steps_counts_from_zero_in_the_later_one);
    tcase_add_test(c, a_step_that_does_not_divide_the_range_is_cut_at_both_ends);
    tcase_add_test(c, a_nan_makes_the_growth_of_its_step_and_the_next_deltas_nan_and_no_more);
    tcase_add_loop_test(c, folding_is_what_a_naive_reference_says, 0, 60);
    tcase_add_loop_test(c, a_group_that_adds_up_is_its_values_folded, 0, 20);
    tcase_add_loop_test(c, a_quantile_of_many_is_the_one_of_the_sorted, 0, 40);
    tcase_add_loop_test(c, sorting_keeps_the_order_of_equal_times, 0, 60);
    return c;
}

/* ---- windows ---- */

/* Samples, windows and steps of the same data. */
START_TEST(windows_fold_to_what_their_samples_fold_to)
{
    static struct made made;
    static struct store_window windows[MAX_SAMPLES];
    static double to[2400], expected[2400];
    static bool is_present[2400], is_expected[2400];
    struct rand rand;

    rand_init(&rand, (uint64_t) _i);
    make_samples(&rand, _i % 3 == 0, &made);
    for (size_t how = 0; all_hows[how] != QUERY_QUANTILE; how++) {
        const bool is_counter = rand_below(&rand, 2);
        /* As many windows in a step as divide it. */
        const int64_t window_us = made.grid.step_us % (5 * S) == 0 ? 5 * S : S;
        size_t n = fold_make_windows(&made.samples, window_us, INT64_MIN, made.grid.from_us,
                                     is_counter, windows);

        n += fold_make_windows(&made.samples, window_us, made.grid.from_us, made.grid.to_us,
                               is_counter, windows + n);

        for (size_t i = 1; i < n; i++)
            ck_assert_int_lt(windows[i - 1].begin_us, windows[i].begin_us);
        fold_windows(windows, n, &made.grid, all_hows[how], is_counter, to, is_present);
        fold_series(&made.samples, &made.grid,
                    &(struct fold_how){ all_hows[how], is_counter, 0, NULL }, expected,
                    is_expected);
        for (size_t step = 0; step < made.grid.n_steps; step++) {
            ck_assert_int_eq(is_present[step], is_expected[step]);
            if (is_present[step])
                check_same(to[step], expected[step], "windows", how, step);
        }
    }
}
END_TEST

START_TEST(windows_outside_the_range_are_passed_over)
{
    const struct store_window windows[] = {
        { .begin_us = 0, .n_samples = 1, .sum = 1, .last = 1 },
        { .begin_us = 60 * S, .n_samples = 1, .sum = 2, .last = 2 },
        { .begin_us = 180 * S, .n_samples = 1, .sum = 4, .last = 4 },
    };
    struct fold_grid grid = {
        .first_us = 60 * S, .step_us = 60 * S, .from_us = 60 * S, .to_us = 180 * S, .n_steps = 2
    };
    double to[2];
    bool is_present[2];

    fold_windows(windows, 3, &grid, QUERY_SUM, false, to, is_present);
    ck_assert(is_present[0] && !is_present[1]);
    ck_assert_double_eq(to[0], 2);
}
END_TEST

START_TEST(a_window_without_a_delta_has_no_growth)
{
    struct store_window window;
    struct fold_grid grid = {
        .first_us = 60 * S, .step_us = 60 * S, .from_us = 60 * S, .to_us = 120 * S, .n_steps = 1
    };
    double to;
    bool is_present;

    store_window_begin(&window, 60 * S, 61 * S, 2);
    fold_windows(&window, 1, &grid, QUERY_INCREASE, false, &to, &is_present);
    ck_assert(!is_present);
    fold_windows(&window, 1, &grid, QUERY_RATE, false, &to, &is_present);
    ck_assert(!is_present);
    fold_windows(&window, 1, &grid, QUERY_AVG, false, &to, &is_present);
    ck_assert(is_present);
    ck_assert_double_eq(to, 2);
}
END_TEST

static int64_t window_of(int64_t span_us, int64_t step_us, enum query_aggregation how)
{
    return fold_window_us(&(struct fold_grid){ .from_us = 0, .to_us = span_us, .step_us = step_us },
                          how, INT64_MIN);
}

START_TEST(windows_are_used_where_they_fit_the_step_and_the_range_is_long)
{
    const int64_t h = 3600 * S;

    ck_assert_int_eq(window_of(7 * 24 * h, h, QUERY_AVG), h);
    ck_assert_int_eq(window_of(7 * 24 * h, 24 * h, QUERY_RATE), h);
    ck_assert_int_eq(window_of(7 * 24 * h, 90 * 60 * S, QUERY_AVG), 60 * S);
    ck_assert_int_eq(window_of(7 * 24 * h, 90 * S, QUERY_AVG), 0);
    ck_assert_int_eq(window_of(12 * h, h, QUERY_AVG), 60 * S);
    ck_assert_int_eq(window_of(h, 60 * S, QUERY_AVG), 0);
    ck_assert_int_eq(window_of(7 * 24 * h, h, QUERY_QUANTILE), 0);
    /* Samples of the range, or of its begin, are gone: windows are all there is. */
    ck_assert_int_eq(fold_window_us(&(struct fold_grid){ .to_us = h, .step_us = h }, QUERY_AVG, 1),
                     h);
}
END_TEST

TCase *case_windows(void)
{
    TCase *c = tcase_create("windows");

    tcase_add_loop_test(c, windows_fold_to_what_their_samples_fold_to, 0, 60);
    tcase_add_test(c, windows_outside_the_range_are_passed_over);
    tcase_add_test(c, a_window_without_a_delta_has_no_growth);
    tcase_add_test(c, windows_are_used_where_they_fit_the_step_and_the_range_is_long);
    return c;
}
