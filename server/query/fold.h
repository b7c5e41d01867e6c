#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Folding samples of one series into steps, and series into groups. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/query/query.h"

struct fold_sample {
    int64_t time_us;
    double value;
};

struct fold_grid {
    int64_t first_us; /* the start of step 0 */
    int64_t step_us;
    int64_t from_us, to_us; /* samples outside count only as the one before the first delta */
    size_t n_steps;
};

struct fold_how {
    enum query_aggregation aggregation;
    bool is_counter; /* a fall is a reset: the delta is then the value itself */
    double quantile;
    double *scratch; /* room for a value of each sample */
};

/*
 * Folds samples in time order into one value for each step.
 *
 *   to, is_present   n_steps each; where is_present is false the step had nothing
 *
 * RATE is the growth within the step over the time that it took, per second; INCREASE the growth. A
 * delta belongs to the step of its later sample.
 */
void fold_series(const struct fold_sample *samples,
                 size_t n_samples,
                 const struct fold_grid *grid,
                 const struct fold_how *how,
                 double *to,
                 bool *is_present);

/*
 * One value from those of a group at one step. AVG, MIN, MAX, SUM, COUNT, LAST (the last in order),
 * QUANTILE (sorts them). One value alone comes back with its bits, but for COUNT. MIN and MAX pass
 * over NaN while there is another value; AVG and SUM with one are NaN.
 */
double
fold_group(double *values, size_t n_values, enum query_aggregation aggregation, double quantile);

/* Linear between the two nearest ranks, as Prometheus' quantile(); sorts. n at least 1. */
double fold_quantile(double *values, size_t n_values, double quantile);
