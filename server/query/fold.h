#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Folding samples of one series into steps, and series into groups. Pure; each pass is linear, but
 * for sorting pieces that overlap.
 *
 * Glossary:
 *   step    one value of the answer: samples whose time lies in [start, start + step_us)
 *   growth  the sum of deltas between neighbours; a delta belongs to the step of its later sample
 *   window  what a roll-up keeps of the samples of a minute or an hour; store_windows.h
 *
 * Files: fold.c samples and groups; windows.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/query/query.h"

struct fold_samples { /* in time order; where times are equal in the order of their sources */
    const int64_t *times_us;
    const double *values;
    size_t n_samples;
};

struct fold_grid {
    int64_t first_us; /* the start of step 0: a multiple of step_us, at or before from_us */
    int64_t step_us;
    int64_t from_us, to_us; /* samples outside count only as the one before the first delta */
    size_t n_steps;
};

struct fold_how {
    enum query_aggregation aggregation;
    bool is_counter; /* a fall is a reset: the delta is then the value itself */
    double quantile;
    double *scratch; /* for QUANTILE: room for a value of each sample */
};

/*
 * Folds samples into one value for each step.
 *
 *   to, is_present   n_steps each; where is_present is false the step had nothing
 *
 * RATE is the growth within the step over the time that it took, per second; INCREASE the growth.
 * The first sample of all has no delta, and a growth that took no time is none. A NaN makes the
 * growth NaN in its own step and in that of the next delta.
 */
void fold_series(const struct fold_samples *samples,
                 const struct fold_grid *grid,
                 const struct fold_how *how,
                 double *to,
                 bool *is_present);

/*
 * One value from n_values (at least 1): AVG, MIN, MAX, SUM, COUNT, LAST (the last in order). One
 * value alone comes back with its bits, but for COUNT. MIN and MAX pass over NaN while there is
 * another value; AVG and SUM with one are NaN.
 */
double fold_values(const double *values, size_t n_values, enum query_aggregation aggregation);

/* Linear between the two nearest ranks, as Prometheus' quantile(); NaN is the least. Reorders. n at
 * least 1. */
double fold_quantile(double *values, size_t n_values, double quantile);

/*
 * A group grows line by line, in the order of the lines; fold_values() of each step's values comes
 * out, bit for bit, without keeping them. Not for QUANTILE.
 *
 *   to, n   n_steps each, zero at first; n counts the lines that had the step
 */
void fold_add_line(enum query_aggregation aggregation,
                   size_t n_steps,
                   const double *values,
                   const bool *is_present,
                   double *to,
                   uint32_t *n);
/* The value of a step that fold_add_line() filled from n lines, n at least 1. */
double fold_total(enum query_aggregation aggregation, double to, uint32_t n);

/*
 * Sorts samples by time; equal times keep their order. Linear where they are few ascending pieces
 * one behind the other. The scratch arrays have room for n.
 */
void fold_sort(int64_t *times_us,
               double *values,
               size_t n,
               int64_t *scratch_times_us,
               double *scratch_values);

/* ---- windows ---- */

/*
 * The longest windows (an hour, a minute) that fit the steps and whose use pays for so long a
 * range, or that may be all there is of it: before whole_us (struct store_reach) there are no
 * samples, or not all. 0: samples are to be folded. QUANTILE always needs samples.
 */
int64_t
fold_window_us(const struct fold_grid *grid, enum query_aggregation aggregation, int64_t whole_us);

/*
 * Windows of samples in [from_us, to_us): of the ends of a range that lie within a window, and of
 * what is not rolled up. None of them is chained; one cut by from_us begins there.
 *
 *   to   room for n_samples windows
 *
 * Returns how many there are; empty ones are left out.
 */
size_t fold_make_windows(const struct fold_samples *samples,
                         int64_t window_us,
                         int64_t from_us,
                         int64_t to_us,
                         bool is_counter,
                         struct store_window *to);

/*
 * As fold_series(), from windows in order of time that do not overlap: equal to it but for the
 * rounding of sums. Of windows before the range the last one serves the first delta.
 */
void fold_windows(const struct store_window *windows,
                  size_t n_windows,
                  const struct fold_grid *grid,
                  enum query_aggregation aggregation,
                  bool is_counter,
                  double *to,
                  bool *is_present);
