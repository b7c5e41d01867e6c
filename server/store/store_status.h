#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The store's figures. A part of store.h, which others include.
 *
 * Thread: any.
 */

#include <stdbool.h>
#include <stdint.h>

struct store;

struct store_stats {
    uint64_t n_agents, n_definitions, n_layouts, n_segments;
    uint64_t n_batches, n_samples, n_duplicates, n_commits; /* since the start */
    uint64_t n_log_records, n_log_bytes; /* the same; bytes of bodies and attributes */
    uint64_t n_damaged;                  /* chunks that the start passed over */
    uint64_t n_days, day_bytes, journal_bytes;
    uint64_t n_log_days, log_day_bytes;
    /* Since the start: sealed, and what the blocks took; rows that could not be read; days that the
     * retention took. */
    uint64_t n_sealed_blocks, n_sealed_samples, n_sealed_bytes, n_seal_damaged, n_days_gone;
    uint64_t n_compacted; /* blocks made of others */
    /* The same of logs: raw bytes are those of bodies and attributes. */
    uint64_t n_sealed_log_blocks, n_sealed_log_records, n_sealed_log_raw_bytes, n_sealed_log_bytes;
    uint64_t n_logs_compacted;
    uint64_t n_rolled, n_rolled_bytes;                          /* records of roll-ups */
    uint64_t rolled_1m_bytes, rolled_1h_bytes, inventory_bytes; /* of the disk */
    int64_t seal_busy_us, roll_cpu_us; /* the thread's CPU time for roll-ups */
    uint64_t database_bytes, disk_free_bytes;
    int64_t commit_p50_us, commit_p99_us; /* of the last 1024 commits */
    bool is_full, has_failed;
};
void store_get_stats(struct store *store, struct store_stats *ret);
