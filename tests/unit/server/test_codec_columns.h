#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Columns of every kind that a codec tells apart, and of those that try to fool it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/rand.h"

#define N_COLUMN_KINDS 35

/* Fills n values of one kind; the same seed makes the same column. */
void make_column(unsigned kind, struct rand *rand, size_t n, double *ret_values);

/* Some steady, some with jitter, some senseless. */
#define N_TIME_KINDS 6
void make_times(unsigned kind, struct rand *rand, size_t n, int64_t *ret_times_us);

#define N_MARK_KINDS 5
void make_marks(unsigned kind, struct rand *rand, size_t n, uint64_t *ret_marks);

double double_from_bits(uint64_t bits);
