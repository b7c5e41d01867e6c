/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "server/store/store_windows.h"

double store_growth(double from, double to, bool is_counter)
{
    double delta = to - from;

    return is_counter && delta < 0 ? to : delta;
}

void store_window_begin(struct store_window *window, int64_t begin_us, int64_t time_us, double v)
{
    *window = (struct store_window){
        .begin_us = begin_us,
        .n_samples = 1,
        .min = v,
        .max = v,
        .sum = v,
        .last = v,
        .base = v,
        .last_us = time_us,
        .base_us = time_us,
    };
}

static void widen(struct store_window *to, double min, double max)
{
    to->min = min < to->min || isnan(to->min) ? min : to->min;
    to->max = max > to->max || isnan(to->max) ? max : to->max;
}

void store_window_add(struct store_window *window, int64_t time_us, double value, bool is_counter)
{
    widen(window, value, value);
    window->n_samples++;
    window->sum += value;
    window->increase += store_growth(window->last, value, is_counter);
    window->last = value;
    window->last_us = time_us;
}

void store_window_overlay(struct store_window *to, const struct store_window *other)
{
    widen(to, other->min, other->max);
    to->n_samples += other->n_samples;
    to->sum += other->sum;
    to->increase += other->increase;
    if (other->last_us > to->last_us) {
        to->last = other->last;
        to->last_us = other->last_us;
    }
    /* At most one of them is not chained: the first one's. */
    if (!other->is_chained || (to->is_chained && other->base_us < to->base_us)) {
        to->base = other->base;
        to->base_us = other->base_us;
        to->is_chained = other->is_chained;
    }
}

void store_window_append(struct store_window *to, const struct store_window *next, bool is_counter)
{
    widen(to, next->min, next->max);
    to->n_samples += next->n_samples;
    to->sum += next->sum;
    to->increase += next->increase;
    if (!next->is_chained)
        to->increase += store_growth(to->last, next->base, is_counter);
    to->last = next->last;
    to->last_us = next->last_us;
}
