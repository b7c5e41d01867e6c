/* SPDX-License-Identifier: Apache-2.0 */
#include "server/query/fold.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/ensure.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    if (isnan(x) || isnan(y))
        return isnan(y) - isnan(x);
    return (x > y) - (x < y);
}

double fold_quantile(double *values, size_t n_values, double quantile)
{
    double rank, low;
    size_t at;

    ensure(n_values > 0);
    qsort(values, n_values, sizeof(*values), by_value);
    rank = quantile * (double) (n_values - 1);
    low = floor(rank);
    at = (size_t) low;
    if (at + 1 >= n_values)
        return values[n_values - 1];
    /* Exactly on a rank, or between two equal infinities: inf - inf must not come into it. */
    if (rank == low || values[at] == values[at + 1])
        return values[at];
    return values[at] + (values[at + 1] - values[at]) * (rank - low);
}

double
fold_group(double *values, size_t n_values, enum query_aggregation aggregation, double quantile)
{
    double sum, min, max;

    ensure(n_values > 0);
    if (aggregation == QUERY_QUANTILE)
        return fold_quantile(values, n_values, quantile);
    if (aggregation == QUERY_LAST)
        return values[n_values - 1];
    if (aggregation == QUERY_COUNT)
        return (double) n_values;
    /* From the first value on, not from zero: 0 + -0.0 would be 0.0. A NaN is the smallest only
     * where there is nothing else. */
    sum = min = max = values[0];
    for (size_t i = 1; i < n_values; i++) {
        sum += values[i];
        min = values[i] < min || isnan(min) ? values[i] : min;
        max = values[i] > max || isnan(max) ? values[i] : max;
    }
    if (aggregation == QUERY_MIN)
        return min;
    if (aggregation == QUERY_MAX)
        return max;
    if (aggregation == QUERY_SUM)
        return sum;
    return sum / (double) n_values;
}

/* RATE and INCREASE over the samples [begin, end) of one step; samples[begin - 1] is the one
 * before. */
static bool fold_growth(const struct fold_sample *samples,
                        size_t begin,
                        size_t end,
                        bool is_rate,
                        bool is_counter,
                        double *ret)
{
    double growth = 0;
    int64_t took_us = 0;

    for (size_t i = begin > 0 ? begin : 1; i < end; i++) {
        double delta = samples[i].value - samples[i - 1].value;

        if (is_counter && delta < 0)
            delta = samples[i].value;
        growth += delta;
        took_us += samples[i].time_us - samples[i - 1].time_us;
    }
    if (took_us <= 0)
        return false;
    *ret = is_rate ? growth / ((double) took_us / 1e6) : growth;
    return true;
}

void fold_series(const struct fold_sample *samples,
                 size_t n_samples,
                 const struct fold_grid *grid,
                 const struct fold_how *how,
                 double *to,
                 bool *is_present)
{
    size_t at = 0;

    while (at < n_samples && samples[at].time_us < grid->from_us)
        at++;
    for (size_t step = 0; step < grid->n_steps; step++) {
        int64_t end_us = grid->first_us + ((int64_t) step + 1) * grid->step_us;
        size_t begin = at;

        if (end_us > grid->to_us)
            end_us = grid->to_us;
        while (at < n_samples && samples[at].time_us < end_us)
            at++;
        is_present[step] = at > begin;
        if (at == begin)
            continue;
        if (how->aggregation == QUERY_RATE || how->aggregation == QUERY_INCREASE) {
            is_present[step] = fold_growth(samples, begin, at, how->aggregation == QUERY_RATE,
                                           how->is_counter, &to[step]);
            continue;
        }
        for (size_t i = begin; i < at; i++)
            how->scratch[i - begin] = samples[i].value;
        to[step] = fold_group(how->scratch, at - begin, how->aggregation, how->quantile);
    }
}
