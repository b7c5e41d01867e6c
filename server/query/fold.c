/* SPDX-License-Identifier: Apache-2.0 */
#include "server/query/fold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"

/* ---- quantiles ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

static void swap(double *a, double *b)
{
    double value = *a;

    *a = *b;
    *b = value;
}

static double median_of(double a, double b, double c)
{
    double low = a < b ? a : b, high = a < b ? b : a;

    return c < low ? low : c > high ? high : c;
}

/* Puts the value of rank k where it belongs, nothing larger before it and nothing smaller behind.
 * None is NaN. Values that defeat the choice of pivots are sorted. */
static void select_rank(double *values, size_t n, size_t k)
{
    ptrdiff_t low = 0, high = (ptrdiff_t) n - 1, rank = (ptrdiff_t) k;
    int rounds = 64;

    while (high - low > 16 && rounds-- > 0) {
        double pivot = median_of(values[low], values[low + (high - low) / 2], values[high]);
        ptrdiff_t i = low, j = high;

        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (pivot < values[j])
                j--;
            if (i <= j)
                swap(&values[i++], &values[j--]);
        }
        if (rank <= j)
            high = j;
        else if (rank >= i)
            low = i;
        else
            return;
    }
    qsort(values + low, (size_t) (high - low + 1), sizeof(*values), by_value);
}

double fold_quantile(double *values, size_t n_values, double quantile)
{
    double rank, low, next;
    size_t at, n_nan = 0;

    ensure(n_values > 0);
    rank = quantile * (double) (n_values - 1);
    low = floor(rank);
    at = (size_t) low;
    for (size_t i = 0; i < n_values; i++)
        if (isnan(values[i]))
            swap(&values[i], &values[n_nan++]);
    if (at < n_nan)
        return values[at];
    select_rank(values + n_nan, n_values - n_nan, at - n_nan);
    if (at + 1 >= n_values)
        return values[at];
    next = values[at + 1];
    for (size_t i = at + 2; i < n_values; i++)
        next = values[i] < next ? values[i] : next;
    /* Exactly on a rank, or between two equal infinities: inf - inf must not come into it. */
    if (rank == low || values[at] == next)
        return values[at];
    return values[at] + (next - values[at]) * (rank - low);
}

/* ---- values ---- */

static double lesser(double known, double value)
{
    return value < known || isnan(known) ? value : known;
}

static double greater(double known, double value)
{
    return value > known || isnan(known) ? value : known;
}

double fold_values(const double *values, size_t n_values, enum query_aggregation aggregation)
{
    /* From the first value on, not from zero: 0 + -0.0 would be 0.0. */
    double total = values[0];

    ensure(n_values > 0);
    if (aggregation == QUERY_LAST)
        return values[n_values - 1];
    if (aggregation == QUERY_COUNT)
        return (double) n_values;
    if (aggregation == QUERY_MIN) {
        for (size_t i = 1; i < n_values; i++)
            total = lesser(total, values[i]);
    } else if (aggregation == QUERY_MAX) {
        for (size_t i = 1; i < n_values; i++)
            total = greater(total, values[i]);
    } else {
        for (size_t i = 1; i < n_values; i++)
            total += values[i];
        if (aggregation == QUERY_AVG && n_values > 1)
            total /= (double) n_values;
    }
    return total;
}

void fold_add_line(enum query_aggregation aggregation,
                   size_t n_steps,
                   const double *values,
                   const bool *is_present,
                   double *to,
                   uint32_t *n)
{
    for (size_t step = 0; step < n_steps; step++) {
        if (!is_present[step])
            continue;
        if (n[step]++ == 0 || aggregation == QUERY_LAST)
            to[step] = values[step];
        else if (aggregation == QUERY_MIN)
            to[step] = lesser(to[step], values[step]);
        else if (aggregation == QUERY_MAX)
            to[step] = greater(to[step], values[step]);
        else
            to[step] += values[step];
    }
}

double fold_total(enum query_aggregation aggregation, double to, uint32_t n)
{
    if (aggregation == QUERY_COUNT)
        return (double) n;
    return aggregation == QUERY_AVG && n > 1 ? to / (double) n : to;
}

/* ---- steps ---- */

/* RATE and INCREASE over the samples [begin, end) of one step; the one before begin is the one
 * before. */
static bool fold_growth(const struct fold_samples *samples,
                        size_t begin,
                        size_t end,
                        const struct fold_how *how,
                        double *ret)
{
    const double *values = samples->values;
    size_t first = begin > 0 ? begin : 1;
    double growth = 0;
    int64_t took_us;

    if (first >= end)
        return false;
    for (size_t i = first; i < end; i++) {
        double delta = values[i] - values[i - 1];

        growth += how->is_counter && delta < 0 ? values[i] : delta;
    }
    took_us = samples->times_us[end - 1] - samples->times_us[first - 1];
    *ret = how->aggregation == QUERY_RATE ? growth / ((double) took_us / 1e6) : growth;
    return took_us > 0;
}

static bool fold_step(const struct fold_samples *samples,
                      size_t begin,
                      size_t end,
                      const struct fold_how *how,
                      double *ret)
{
    size_t n = end - begin;

    if (n == 0)
        return false;
    if (how->aggregation == QUERY_RATE || how->aggregation == QUERY_INCREASE)
        return fold_growth(samples, begin, end, how, ret);
    if (how->aggregation == QUERY_QUANTILE) {
        memcpy(how->scratch, samples->values + begin, n * sizeof(*how->scratch));
        *ret = fold_quantile(how->scratch, n, how->quantile);
    } else {
        *ret = fold_values(samples->values + begin, n, how->aggregation);
    }
    return true;
}

void fold_series(const struct fold_samples *samples,
                 const struct fold_grid *grid,
                 const struct fold_how *how,
                 double *to,
                 bool *is_present)
{
    const int64_t *times_us = samples->times_us;
    size_t n = samples->n_samples, at = 0;

    while (at < n && times_us[at] < grid->from_us)
        at++;
    for (size_t step = 0; step < grid->n_steps; step++) {
        int64_t end_us = grid->first_us + ((int64_t) step + 1) * grid->step_us;
        size_t begin = at;

        if (end_us > grid->to_us)
            end_us = grid->to_us;
        while (at < n && times_us[at] < end_us)
            at++;
        is_present[step] = fold_step(samples, begin, at, how, &to[step]);
    }
}

/* ---- order ---- */

/* The end of the ascending run that begins at `begin`. */
static size_t run_end(const int64_t *times_us, size_t begin, size_t n)
{
    size_t end = begin + 1;

    while (end < n && times_us[end] >= times_us[end - 1])
        end++;
    return end < n ? end : n;
}

struct samples {
    int64_t *times_us;
    double *values;
};

/* Merges the runs [begin, middle) and [middle, end); of equal times the left one's come first. */
static void merge(struct samples from, struct samples to, size_t begin, size_t middle, size_t end)
{
    size_t left = begin, right = middle;

    for (size_t i = begin; i < end; i++) {
        bool is_left =
            right >= end || (left < middle && from.times_us[left] <= from.times_us[right]);
        size_t at = is_left ? left++ : right++;

        to.times_us[i] = from.times_us[at];
        to.values[i] = from.values[at];
    }
}

void fold_sort(int64_t *times_us,
               double *values,
               size_t n,
               int64_t *scratch_times_us,
               double *scratch_values)
{
    struct samples from = { times_us, values }, to = { scratch_times_us, scratch_values };

    while (n > 1 && run_end(from.times_us, 0, n) < n) {
        struct samples merged = to;

        for (size_t begin = 0; begin < n;) {
            size_t middle = run_end(from.times_us, begin, n);
            size_t end = middle < n ? run_end(from.times_us, middle, n) : n;

            merge(from, to, begin, middle, end);
            begin = end;
        }
        to = from;
        from = merged;
    }
    if (from.times_us != times_us) {
        memcpy(times_us, from.times_us, n * sizeof(*times_us));
        memcpy(values, from.values, n * sizeof(*values));
    }
}
