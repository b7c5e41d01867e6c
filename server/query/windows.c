/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "common/base/ensure.h"
#include "server/query/fold.h"

#define MINUTE_US INT64_C(60000000)
#define HOUR_US (60 * MINUTE_US)
/* Below it reading samples costs less than finding windows. */
#define MINUTES_PAY_US (6 * HOUR_US)
#define HOURS_PAY_US (24 * HOUR_US)

int64_t fold_window_us(const struct fold_grid *grid, enum query_aggregation aggregation)
{
    int64_t span_us = grid->to_us - grid->from_us;

    if (aggregation == QUERY_QUANTILE)
        return 0;
    if (span_us >= HOURS_PAY_US && grid->step_us % HOUR_US == 0)
        return HOUR_US;
    if (span_us >= MINUTES_PAY_US && grid->step_us % MINUTE_US == 0)
        return MINUTE_US;
    return 0;
}

/* ---- from samples ---- */

static int64_t window_start(int64_t time_us, int64_t window_us)
{
    int64_t rest = time_us % window_us;

    return time_us - (rest < 0 ? rest + window_us : rest);
}

static void window_begin(struct fold_window *window, int64_t time_us, double value)
{
    *window = (struct fold_window){
        .time_us = time_us, .n_samples = 1, .min = value, .max = value, .sum = value, .last = value
    };
}

static void window_add(struct fold_window *window, double value)
{
    window->n_samples++;
    window->min = value < window->min || isnan(window->min) ? value : window->min;
    window->max = value > window->max || isnan(window->max) ? value : window->max;
    window->sum += value;
    window->last = value;
}

size_t fold_make_windows(const struct fold_samples *samples,
                         int64_t window_us,
                         int64_t from_us,
                         int64_t to_us,
                         bool is_counter,
                         struct fold_window *to)
{
    size_t n = 0;
    int64_t end_us = INT64_MIN;

    ensure(window_us > 0);
    for (size_t i = 0; i < samples->n_samples && samples->times_us[i] < to_us; i++) {
        int64_t time_us = samples->times_us[i];
        double value = samples->values[i];

        if (time_us < from_us)
            continue;
        if (time_us >= end_us) {
            int64_t start_us = window_start(time_us, window_us);

            window_begin(&to[n++], start_us < from_us ? from_us : start_us, value);
            end_us = start_us + window_us;
        } else {
            window_add(&to[n - 1], value);
        }
        if (i > 0) {
            double delta = value - samples->values[i - 1];

            to[n - 1].increase += is_counter && delta < 0 ? value : delta;
            to[n - 1].took_us += time_us - samples->times_us[i - 1];
        }
    }
    return n;
}

/* ---- into steps ---- */

/* `to` becomes the two together. */
static void window_join(struct fold_window *to, const struct fold_window *next)
{
    to->n_samples += next->n_samples;
    to->min = next->min < to->min || isnan(to->min) ? next->min : to->min;
    to->max = next->max > to->max || isnan(to->max) ? next->max : to->max;
    to->sum += next->sum;
    to->last = next->last;
    to->increase += next->increase;
    to->took_us += next->took_us;
}

static bool
window_value(const struct fold_window *window, enum query_aggregation aggregation, double *ret)
{
    double n = (double) window->n_samples;

    switch (aggregation) {
    case QUERY_MIN:
        *ret = window->min;
        return true;
    case QUERY_MAX:
        *ret = window->max;
        return true;
    case QUERY_SUM:
        *ret = window->sum;
        return true;
    case QUERY_COUNT:
        *ret = n;
        return true;
    case QUERY_LAST:
        *ret = window->last;
        return true;
    case QUERY_RATE:
        *ret = window->increase / ((double) window->took_us / 1e6);
        return window->took_us > 0;
    case QUERY_INCREASE:
        *ret = window->increase;
        return window->took_us > 0;
    case QUERY_DEFAULT:
    case QUERY_AVG:
    case QUERY_QUANTILE:
    default:
        ensure(aggregation == QUERY_AVG);
        *ret = window->n_samples > 1 ? window->sum / n : window->sum;
        return true;
    }
}

void fold_windows(const struct fold_window *windows,
                  size_t n_windows,
                  const struct fold_grid *grid,
                  enum query_aggregation aggregation,
                  double *to,
                  bool *is_present)
{
    size_t at = 0;

    while (at < n_windows && windows[at].time_us < grid->from_us)
        at++;
    for (size_t step = 0; step < grid->n_steps; step++) {
        int64_t end_us = grid->first_us + ((int64_t) step + 1) * grid->step_us;
        struct fold_window joined;
        bool has_any = false;

        if (end_us > grid->to_us)
            end_us = grid->to_us;
        for (; at < n_windows && windows[at].time_us < end_us; at++) {
            if (has_any)
                window_join(&joined, &windows[at]);
            else
                joined = windows[at];
            has_any = true;
        }
        is_present[step] = has_any && window_value(&joined, aggregation, &to[step]);
    }
}
