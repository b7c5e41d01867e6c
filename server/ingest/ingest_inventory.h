#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Inventories: from decoded messages of one UploadInventory call to a revision on disk. A part of
 * ingest.h, which others include.
 *
 *     ingest_inventory_new()
 *     ingest_inventory_header(), then ingest_inventory_table() for each message
 *     ingest_inventory_end() when the agent has said all
 *     ingest_inventory_store() on a reader -> done() on the store's writer
 *
 * An upload is taken whole or refused whole. What is kept of it meanwhile is charged against
 * pending_bytes of all together, until ingest_inventory_free(). While others upload too, an agent
 * may hold no more than it leaves free: a few that never end cannot keep the others out. All open
 * uploads of one agent together hold at most upload_bytes, and there are at most
 * INGEST_UPLOADS_PER_AGENT. The caller ends those that take longer than upload_us.
 *
 * Of two uploads of one agent the one that began later is the newer: once it is stored, the other,
 * which its agent gave up, is refused.
 *
 * A content that any agent sent need not be sent again, by whoever names its hash. So an agent
 * learns whether the hub has a table that equals one which it knows, or guesses, to the last byte.
 * It does not get at what it does not know: no answer to an agent has anything of a content in it,
 * and who names a hash without having the table says no more of itself than by sending it.
 *
 * Thread: one at a time for each.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"

struct ingest;
struct ingest_problem;
struct ingest_inventory;

struct ingest_inventory_limits { /* all are settings `inventory.*` */
    uint32_t tables, columns;
    uint64_t rows;         /* of one table */
    uint32_t value_bytes;  /* of one value */
    uint64_t table_bytes;  /* canonical, of one table */
    uint64_t upload_bytes; /* of the tables that one upload brings */
    uint64_t pending_bytes;
    int64_t retention_us; /* one that was read longer ago is refused */
    int64_t upload_us;    /* one that takes longer is ended */
};

/* Uploads of one agent that are open at the same time: one, and what cuts have left behind. */
#define INGEST_UPLOADS_PER_AGENT 4u

/* Of the agent with this name. Outcomes: INGEST_BUSY (it has INGEST_UPLOADS_PER_AGENT open). */
int ingest_inventory_new(struct ingest_inventory **ret,
                         struct ingest *ingest,
                         const char *agent) MUST_USE;
/* Not between ingest_inventory_store() and done(). */
struct ingest_inventory *ingest_inventory_free(struct ingest_inventory *inventory);
DEFINE_CLEANUP(struct ingest_inventory *, ingest_inventory_free);

struct ingest_table_hash {
    const char *name;
    struct span sha256;
    uint64_t n_rows;
};
/*
 * Outcomes: INGEST_BAD_INVENTORY, INGEST_TIME_OUT_OF_RANGE, INGEST_LIMIT; ret_problem is filled. A
 * second one is INGEST_BAD_INVENTORY.
 */
int ingest_inventory_header(struct ingest_inventory *inventory,
                            int64_t time_us,
                            const struct ingest_table_hash *tables,
                            size_t n_tables,
                            wall_us now,
                            struct ingest_problem *ret_problem) MUST_USE;

struct ingest_table_row {
    const char *const *values;
    size_t n_values;
};
struct ingest_table_part {
    const char *name;
    const char *const *columns;
    size_t n_columns;
    /* Rows as they are in the message: many tiny ones leave no room for another array. */
    struct ingest_table_row (*row)(const void *rows, size_t i);
    const void *rows;
    size_t n_rows;
    bool is_last;
};
/* Outcomes: INGEST_BAD_INVENTORY, INGEST_LIMIT, INGEST_BUSY (pending_bytes); ret_problem is filled.
 */
int ingest_inventory_table(struct ingest_inventory *inventory,
                           const struct ingest_table_part *part,
                           struct ingest_problem *ret_problem) MUST_USE;

/* Whether all is there. Outcomes: INGEST_BAD_INVENTORY. */
int ingest_inventory_end(struct ingest_inventory *inventory,
                         struct ingest_problem *ret_problem) MUST_USE;

/*
 * INGEST_OK: done() comes, on another thread, with INGEST_OK or one of these outcomes:
 * INGEST_LACKS (ingest_inventory_missing() names the tables), INGEST_LIMIT, INGEST_BUSY,
 * INGEST_TAKEN_OVER (a newer upload of this agent is on its way to the disk, or was),
 * INGEST_FULL, INGEST_STOPPED, INGEST_FAULT. Other answers are these outcomes at once. ret_problem
 * must live until then.
 */
int ingest_inventory_store(struct ingest_inventory *inventory,
                           uint32_t agent,
                           void (*done)(void *ctx, int outcome),
                           void *ctx,
                           struct ingest_problem *ret_problem) MUST_USE;

/* After INGEST_OK. */
uint64_t ingest_inventory_revision(const struct ingest_inventory *inventory, uint32_t *ret_changed);
/* After INGEST_LACKS: how many; the first `max` names, which live as long as the inventory. */
size_t
ingest_inventory_missing(const struct ingest_inventory *inventory, const char **names, size_t max);
