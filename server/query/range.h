#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * QueryMetrics at work: range.c reads samples and folds them into lines; group.c makes groups of
 * lines and the answer.
 */

#include "server/query/fold.h"
#include "server/query/inside.h"

/* One (agent, definition) and its value at each step. */
struct line {
    uint32_t agent, definition;
    double *values;
    bool *is_present;
};

/* Samples of one definition of the agent at work. */
struct gather {
    uint32_t definition;
    struct fold_sample *samples;
    size_t n_samples, capacity;
    bool is_unsorted;
};

struct range {
    const struct query *query;
    struct query_range *request;
    struct arena *arena;
    struct query_problem *problem;
    struct fold_grid grid;
    uint32_t *wanted; /* definitions, ascending */
    size_t n_wanted;
    struct gather *gathers; /* one for each wanted definition */
    double *scratch;
    size_t scratch_capacity;
    struct line *lines;
    size_t n_lines, line_capacity;
    /* of the scan under way */
    const size_t *scan_gathers;
    size_t n_scan_columns;
    uint64_t n_gathered; /* samples of the agent at work */
    bool is_too_much, is_out_of_memory;
};

/* Fills the answer from range->lines. Outcomes: QUERY_TOO_MUCH, QUERY_BAD (token). */
int range_group(struct range *range) MUST_USE;
