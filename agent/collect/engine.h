#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The engine of collect.c: probes, slots, the layout. Private to agent/collect; collectors know
 * their probe only, but for self, which tells of the others.
 */

#include "agent/collect/collector.h"
#include "agent/collect/helper.h"

struct collect_slot {
    struct spool_series *series;
    double value;
    uint64_t round;   /* the last that had a value */
    uint32_t missing; /* rounds in a row without */
};

/* A collector with its probe, and how it did. */
struct collect_row {
    struct probe probe;
    struct helper_job job; /* of a slow one */
    struct buf own_text;   /* of a slow one: the others share */
    struct collect_rules *rules;
    int64_t run_us;      /* how long the last run took; the helper's while it runs */
    int64_t duration_us; /* the same, of the last run that was taken */
    bool is_running;     /* on the helper, and not yet taken */
    bool has_news;       /* it ever had something to say, or failed: no ZFS, no word of zfs */
    bool is_success;     /* in time, and without an error */
    bool was_denied_said;
    uint64_t errors, n_denied;
    uint64_t n_late; /* rounds that did not have it in time */
};

struct collect {
    struct collect *next_left; /* of those that collect_free() had to leave */
    struct machine machine;
    struct collect_rules *rules;
    struct buf text; /* of the quick ones */
    struct helper *helper;
    struct statsd *statsd; /* NULL: not heard */
    struct collect_row rows[COLLECT_MAX_COLLECTORS];

    uint64_t round;
    uint64_t refused_series;
    int64_t last_round_us;
    uint32_t next_series_id;
    uint32_t next_layout_id;
    bool is_changed;        /* the layout no longer holds */
    struct map slot_of_key; /* value: index + 1 as a pointer, so that the array may move */
    struct collect_slot *slots;
    size_t n_slots, slots_capacity;
    struct spool_layout *layout;
    double *values;
    uint32_t *absent;
    struct spool_ledger ledgers[SPOOL_SIGNALS];
};
