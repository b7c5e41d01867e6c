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
    STORE_TABLE_LABELS,
    STORE_TABLE_IDENTITIES, /* server/pki: what is known of a name beside its certificates */
    STORE_TABLE_TOKENS,     /* server/pki: of enrolment, and bearers' */
    STORE_TABLE_AUDIT,      /* server/audit: the days that are hot */
    STORE_TABLE_LIMITS,     /* server/quota */
    STORE_N_TABLES
};

#define STORE_KEY_BYTES 511 /* LMDB's limit */

struct store_write {
    enum store_table table;
    struct span key;   /* 1 to STORE_KEY_BYTES bytes, else a fault (-EINVAL) */
    struct span value; /* data NULL: delete */
    /* Its key lies behind all others of the table, as a rule: pages are filled to their end. Of
     * store_change_put() alone. */
    bool is_behind_all;
};
/* One transaction, committed durably. Blocks. Outcomes: STORE_FULL. */
int store_state_write(struct store *store, const struct store_write *writes, size_t n) MUST_USE;
/*
 * The same where what is written depends on what is there: `fn` runs inside the one write
 * transaction of `state`, also beside other processes, so what it reads is what holds when it
 * commits. It must be short, must not block and must not call the store in another way.
 *
 *   fn   0: what it put is committed durably. Above 0: nothing of it is written, and
 *        store_state_change() returns the same. Below 0: a fault, that of a bug or a broken
 *        environment; the store stops.
 *
 * Blocks. Outcomes: what fn says (its own enum must not begin below STORE_OUTCOME_FREE),
 * STORE_FULL.
 */
#define STORE_OUTCOME_FREE 100
struct store_change;
int store_state_change(struct store *store,
                       int (*fn)(struct store_change *change, void *ctx),
                       void *ctx) MUST_USE;
/* The row, with what the change itself has put; valid until the next put. Outcomes:
 * STORE_NOT_FOUND. */
int store_change_get(struct store_change *change,
                     enum store_table table,
                     struct span key,
                     struct span *ret) MUST_USE;
/* data NULL: delete; one that is not there is fine. Outcomes: STORE_FULL. */
int store_change_put(struct store_change *change, const struct store_write *write) MUST_USE;
/* Rows that begin with `prefix` (may be empty), in key order; no put meanwhile. Returns false to
 * stop. */
int store_change_each(struct store_change *change,
                      enum store_table table,
                      struct span prefix,
                      bool (*fn)(void *ctx, struct span key, struct span value),
                      void *ctx) MUST_USE;

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
/* The same of the rows that begin with `prefix`; `is_backwards`: the last one first. */
int store_state_range(struct store *store,
                      enum store_table table,
                      struct span prefix,
                      bool is_backwards,
                      bool (*fn)(void *ctx, struct span key, struct span value),
                      void *ctx) MUST_USE;
/* Grows with every commit of `state`, also of another process. Cheap: reads hot pages only. */
uint64_t store_state_version(struct store *store);
