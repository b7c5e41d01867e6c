#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The registry's rows (server/pki) and other small things in `state`. A part of store.h, which
 * others include.
 *
 * Thread: any.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

struct store;

/*
 * META: the store itself keeps `format` and `min_reader` there.
 * LABELS: key = agent id, NUL, label; value = text without NUL. store_agent_get() reads them.
 */
enum store_table {
    STORE_TABLE_META = 1,
    STORE_TABLE_CERTIFICATES,
    STORE_TABLE_OPERATORS,
    STORE_TABLE_LABELS
};

#define STORE_KEY_BYTES 511 /* LMDB's limit */

struct store_write {
    enum store_table table;
    struct span key;   /* 1 to STORE_KEY_BYTES bytes, else a fault (-EINVAL) */
    struct span value; /* data NULL: delete */
};
/* One transaction, committed durably. Blocks. Outcomes: STORE_FULL. */
int store_state_write(struct store *store, const struct store_write *writes, size_t n) MUST_USE;
/* Copied into the arena. Outcomes: STORE_NOT_FOUND. */
int store_state_get(struct store *store,
                    enum store_table table,
                    struct span key,
                    struct arena *arena,
                    struct span *ret) MUST_USE;
/* In key order, from one snapshot; spans are borrowed during the call. Returns false to stop. */
int store_state_each(struct store *store,
                     enum store_table table,
                     bool (*fn)(void *ctx, struct span key, struct span value),
                     void *ctx) MUST_USE;
/* Grows with every commit of `state`, also of another process. Cheap: reads hot pages only. */
uint64_t store_state_version(struct store *store);
