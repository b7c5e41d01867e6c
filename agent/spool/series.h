#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Series and layouts: what the values of a scrape are. A part of spool.h, which others include.
 *
 * Both are counted references: whoever keeps one takes a reference, and need not keep the other
 * side alive.
 * Thread: the loop's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"

/* Numbers of sentinel.telemetry.v1.Kind. */
enum spool_kind { SPOOL_GAUGE = 1, SPOOL_COUNTER = 2 };

struct spool_attribute {
    const char *key;
    const char *value;
};

struct spool_series {
    uint32_t id; /* of this process, never used again; not 0 */
    uint32_t n_refs;
    uint32_t mark; /* of whoever made it; 0 at first */
    enum spool_kind kind;
    const char *name;
    const char *unit;
    size_t n_attributes;
    const struct spool_attribute *attributes;
    struct span key; /* name and attributes as spool_series_key() prints them */
};

/*
 * Writes what tells one series from another: name NUL (key NUL value NUL)*. `attributes` ends with
 * a row without a key; NULL: none. Returns the length that it wants; nothing useful was written
 * when that is more than `size`.
 */
size_t
spool_series_key(const char *name, const struct spool_attribute *attributes, char *to, size_t size);

/* Copies everything. The caller has the first reference. */
int spool_series_new(struct spool_series **ret,
                     uint32_t id,
                     enum spool_kind kind,
                     const char *unit,
                     struct span key) MUST_USE;
struct spool_series *spool_series_ref(struct spool_series *series);
struct spool_series *spool_series_unref(struct spool_series *series);
DEFINE_CLEANUP(struct spool_series *, spool_series_unref);

struct spool_layout {
    uint32_t id; /* of this process, never used again; not 0 */
    uint32_t n_refs;
    size_t n_series;
    struct spool_series *series[];
};

/* References the series. The caller has the first reference of the layout. */
int spool_layout_new(struct spool_layout **ret,
                     uint32_t id,
                     struct spool_series *const *series,
                     size_t n_series) MUST_USE;
struct spool_layout *spool_layout_ref(struct spool_layout *layout);
struct spool_layout *spool_layout_unref(struct spool_layout *layout);
DEFINE_CLEANUP(struct spool_layout *, spool_layout_unref);

struct spool_scrape {
    struct spool_layout *layout;
    wall_us time;
    int64_t boot_us; /* the same instant in CLOCK_BOOTTIME: tells the time again after the clock was
                        set */
    const double *values;   /* one for each series of the layout */
    const uint32_t *absent; /* positions without a value, ascending */
    size_t n_absent;
};
