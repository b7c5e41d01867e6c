#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Spool: what was collected and is not yet acknowledged by the hub.
 *
 * A run of batches numbered 1, 2, 3 ... under a spool id. A batch is one scrape in a neutral form
 * (layout, time, values): it is encoded for the wire by the uplink, each time it is sent, as ids
 * have to be declared again in each stream. Nothing here knows where batches lie: this one keeps
 * them in memory, and one that keeps them on disk fits behind the same calls.
 *
 * The queue has a limit in bytes, which batches, the layouts that they have, and series that came
 * later than the first batch count against. When it is full, the oldest batch that was never sent
 * is dropped, and a skip takes the place of its number; runs of drops are one skip. Batches that
 * were sent are never dropped, as the hub may have them already: so no sample is counted twice. The
 * ledger always holds, in samples:
 *
 *     produced = acknowledged + queued + dropped
 *
 * Glossary:   series   a name with a unit, a kind and attributes       layout   series that are
 * sampled together scrape   the values of one layout at one instant         skip     numbers
 * without a batch, and why
 *
 * Series and layouts are counted references: whoever queues a batch need not keep the layout alive.
 * Thread: the loop's, for everything.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"

/* ---- series and layouts ---- */

/* Numbers of sentinel.telemetry.v1.Kind. */
enum spool_kind { SPOOL_GAUGE = 1, SPOOL_COUNTER = 2 };

struct spool_attribute {
    const char *key;
    const char *value;
};

struct spool_series {
    uint32_t id; /* of this process, never used again; not 0 */
    uint32_t n_refs;
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
    /* The queue's; a layout is in one queue. */
    uint32_t n_queued;   /* batches in it that have this layout */
    size_t queued_bytes; /* what it is charged for the layout */
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

/* ---- the queue ---- */

struct spool;

#define SPOOL_ID_BYTES 16

enum spool_outcome {
    SPOOL_OK = 0,
    SPOOL_EMPTY,  /* nothing behind that sequence */
    SPOOL_BEYOND, /* that sequence was never sent: the hub speaks of another run */
};

/* Numbers of sentinel.telemetry.v1.SkipReason. */
enum spool_reason { SPOOL_QUEUE_FULL = 1, SPOOL_TOO_OLD = 2, SPOOL_REFUSED = 3, SPOOL_DAMAGED = 4 };

struct spool_item {
    uint64_t sequence; /* of a skip: the last of its numbers */
    bool is_skip;
    struct spool_scrape scrape; /* unless is_skip; borrowed until the spool changes */
    enum spool_reason reason;   /* of a skip */
    uint64_t samples;
};

/* An empty run under a random id. */
int spool_new(struct spool **ret, uint64_t limit_bytes) MUST_USE;
struct spool *spool_free(struct spool *spool);
DEFINE_CLEANUP(struct spool *, spool_free);

/* Takes effect at the next put. */
void spool_set_limit(struct spool *spool, uint64_t limit_bytes);

/* Copies the values, references the layout, and drops what no longer fits. */
int spool_put(struct spool *spool, const struct spool_scrape *scrape) MUST_USE;

/* The first item behind `after`. Outcomes: SPOOL_EMPTY. */
int spool_next(const struct spool *spool, uint64_t after, struct spool_item *ret) MUST_USE;

/* The item was given to the transport with this checksum (wire_checksum()). From now on it is never
 * dropped. */
void spool_mark_sent(struct spool *spool, uint64_t sequence, uint32_t crc32c);

/* Everything up to here is on the hub's disk. A sequence that was acknowledged before changes
 * nothing. Outcomes: SPOOL_BEYOND. */
int spool_acknowledge(struct spool *spool, uint64_t sequence) MUST_USE;

/* A skip takes the place of this batch: the hub refuses it for what it is. Outcomes: SPOOL_EMPTY
 * (no such batch). */
int spool_refuse(struct spool *spool, uint64_t sequence) MUST_USE;

/* A new run under a new id; everything that is not acknowledged is in it, from 1. */
void spool_restart(struct spool *spool);

/* What a hello says. */
struct spool_run {
    uint8_t id[SPOOL_ID_BYTES];
    uint64_t first_sequence; /* last_sequence + 1 when there is nothing */
    uint64_t last_sequence;
    uint32_t crc32c_before_first; /* of the last acknowledged item as it was sent; 0: none */
};
void spool_get_run(const struct spool *spool, struct spool_run *ret);

struct spool_ledger {
    uint64_t produced_samples;
    uint64_t acknowledged_samples;
    uint64_t queued_samples;
    uint64_t dropped_samples; /* for any reason */
    uint64_t refused_samples; /* those of them that the hub refused */
    uint64_t queued_batches;
    uint64_t queued_bytes;
    uint64_t limit_bytes;
};
void spool_get_ledger(const struct spool *spool, struct spool_ledger *ret);
