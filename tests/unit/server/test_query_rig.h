#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the suites of query share: a store of their own for each test, and rows in it. */

#include <check.h>

#include "server/query/fold.h"
#include "server/query/query.h"

#define S INT64_C(1000000) /* a second */

extern struct store *store;
extern struct query query; /* small limits: 1,000 samples and points, 100 series */
extern struct arena arena;
extern struct query_problem problem;
extern const struct query_selector everyone;

void open_empty_store(void);
void close_store(void);
/* Something happens to its files while it is closed. */
void reopen_store(void (*meanwhile)(const char *directory));

/* A layout of one gauge with the attribute part=... */
uint32_t layout_of(const char *metric, const char *part);
/* Definitions in the order given; ids new to the store ascend. */
uint32_t layout_of_all(const struct store_definition *definitions, size_t n);
uint32_t agent_of(const char *id);
/* One value of a layout with one column. */
void add(const char *agent, uint32_t layout, int64_t time_us, double value);
/* A batch; waits until it is on disk. */
void add_rows(const char *agent, const struct store_row *rows, size_t n_rows);
/* Through query_set_labels(). */
void label(const char *agent, const char *key, const char *value);

/* What folding should say, the slow way; quantiles of a step are 0.9. */
#define RIG_MAX_SAMPLES 400
double naive_values(const double *in, size_t n, enum query_aggregation how, double quantile);
/* False: nothing in the step. */
bool naive_step(const struct fold_samples *samples,
                const struct fold_grid *grid,
                size_t step,
                enum query_aggregation how,
                bool is_counter,
                double *ret);

TCase *case_fold(void);
TCase *case_random(void);
TCase *case_windows(void);
TCase *case_rolled(void);
TCase *case_select(void);
TCase *case_range(void);
TCase *case_top(void);
TCase *case_labels(void);
