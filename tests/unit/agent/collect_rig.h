#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the tests of agent/collect share: rounds of one collector, and looks into a sample. */

#include <stdbool.h>

#include "agent/collect/collect.h"

/* Used by new_collect() when it is not NULL. */
extern collect_statvfs_fn *rig_statvfs;

/* With per_cpu, five top processes, and patience; only: one name, or NULL for all. */
struct collect_options rig_options(const char *root, const char *only);
struct collect *new_collect(const char *root, const char *only);

/* The position of "name{key=value,...}", or -1. */
int find(const struct spool_scrape *sample, const char *name);
bool is_absent(const struct spool_scrape *sample, const char *name);
void expect(const struct spool_scrape *sample, const char *name, double value);

struct expectation {
    const char *name;
    double value;
};
/* Runs one collector on a tree; the rows are all it may say. */
void expect_all_of(const char *root,
                   const char *collector,
                   const struct expectation *rows,
                   size_t n_rows);
#define EXPECT_ALL_OF(root, collector, ...)                                          \
    do {                                                                             \
        const struct expectation rows_[] = { __VA_ARGS__ };                          \
        expect_all_of((root), (collector), rows_, sizeof(rows_) / sizeof(rows_[0])); \
    } while (0)

/* ---- a tree of the test's own ---- */

extern char tree[64];
void tree_make(void);
void tree_remove(void);
/* Makes the directories too. */
void tree_write(const char *path, const char *text);
