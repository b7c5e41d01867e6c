/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/ensure.h"
#include "server/query/fold.h"

/* Below it reading samples costs no more than finding windows. */
#define MINUTES_PAY_US (6 * STORE_HOUR_US)
#define HOURS_PAY_US (24 * STORE_HOUR_US)

int64_t
fold_window_us(const struct fold_grid *grid, enum query_aggregation aggregation, int64_t whole_us)
{
    int64_t span_us = grid->to_us - grid->from_us;
    bool is_all = grid->from_us < whole_us;

    if (aggregation == QUERY_QUANTILE)
        return 0;
    if ((is_all || span_us >= HOURS_PAY_US) && grid->step_us % STORE_HOUR_US == 0)
        return STORE_HOUR_US;
    if ((is_all || span_us >= MINUTES_PAY_US) && grid->step_us % STORE_MINUTE_US == 0)
        return STORE_MINUTE_US;
    return 0;
}

/* ---- from samples ---- */

static int64_t window_start(int64_t time_us, int64_t window_us)
{
    int64_t rest = time_us % window_us;

    return time_us - (rest < 0 ? rest + window_us : rest);
}

size_t fold_make_windows(const struct fold_samples *samples,
                         int64_t window_us,
                         int64_t from_us,
                         int64_t to_us,
                         bool is_counter,
                         struct store_window *to)
{
    size_t n = 0;
    int64_t end_us = INT64_MIN;

    ensure(window_us > 0);
    for (size_t i = 0; i < samples->n_samples && samples->times_us[i] < to_us; i++) {
        int64_t time_us = samples->times_us[i], start_us;
        double value = samples->values[i];

        if (time_us < from_us)
            continue;
        if (time_us < end_us) {
            store_window_add(&to[n - 1], time_us, value, is_counter);
            continue;
        }
        start_us = window_start(time_us, window_us);
        store_window_begin(&to[n++], start_us < from_us ? from_us : start_us, time_us, value);
        end_us = start_us + window_us;
    }
    return n;
}

/* ---- into steps ---- */

/* The value of a step, whose windows are one; took_us is the time of the growth, 0: there is none.
 */
static bool window_value(const struct store_window *window,
                         int64_t took_us,
                         enum query_aggregation aggregation,
                         double *ret)
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
        *ret = window->increase / ((double) took_us / 1e6);
        return took_us > 0;
    case QUERY_INCREASE:
        *ret = window->increase;
        return took_us > 0;
    case QUERY_DEFAULT:
    case QUERY_AVG:
    case QUERY_QUANTILE:
    default:
        ensure(aggregation == QUERY_AVG);
        *ret = window->n_samples > 1 ? window->sum / n : window->sum;
        return true;
    }
}

void fold_windows(const struct store_window *windows,
                  size_t n_windows,
                  const struct fold_grid *grid,
                  enum query_aggregation aggregation,
                  bool is_counter,
                  double *to,
                  bool *is_present)
{
    const struct store_window *before = NULL; /* the newest that was passed */
    size_t at = 0;

    while (at < n_windows && windows[at].begin_us < grid->from_us)
        before = &windows[at++];
    for (size_t step = 0; step < grid->n_steps; step++) {
        int64_t end_us = grid->first_us + ((int64_t) step + 1) * grid->step_us, from_us;
        struct store_window joined;

        if (end_us > grid->to_us)
            end_us = grid->to_us;
        is_present[step] = at < n_windows && windows[at].begin_us < end_us;
        if (!is_present[step])
            continue;
        joined = windows[at];
        from_us = before ? before->last_us : joined.base_us;
        if (before && !joined.is_chained)
            joined.increase += store_growth(before->last, joined.base, is_counter);
        while (++at < n_windows && windows[at].begin_us < end_us)
            store_window_append(&joined, &windows[at], is_counter);
        before = &windows[at - 1];
        is_present[step] = window_value(&joined, joined.last_us - from_us, aggregation, &to[step]);
    }
}
