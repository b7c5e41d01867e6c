#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Inventory, reading: what read.c has for the writer too. Rows of the environment within
 * a transaction of either kind; what is handed out is copied.
 *
 * Outcomes, where nothing else is said: STORE_NOT_FOUND, STORE_DAMAGED.
 */

#include "server/store/inventory/inventory.h"

/* A snapshot. Outcomes: STORE_DAMAGED. */
int inventory_begin(struct inventory *inventory, MDB_txn **ret) MUST_USE;

/* The header of a content; nothing of it is checked. */
int inventory_peek(struct inventory *inventory,
                   MDB_txn *txn,
                   const uint8_t *sha256,
                   struct content_header *ret) MUST_USE;
int inventory_refs_get(struct inventory *inventory,
                       MDB_txn *txn,
                       const uint8_t *sha256,
                       struct inventory_refs *ret) MUST_USE;
/* A packed content, into an emptied buffer. */
int inventory_copy_content(struct inventory *inventory,
                           MDB_txn *txn,
                           const uint8_t *sha256,
                           struct buf *to) MUST_USE;
/* What such a copy unpacks to. Outcomes: STORE_DAMAGED (remembered). */
int inventory_make_base(struct inventory *inventory,
                        const uint8_t *sha256,
                        struct span packed,
                        struct content_work *work,
                        struct content_base **ret) MUST_USE;

/* The newest record of an agent below a revision, with its key; not yet opened. */
int inventory_copy_before(struct inventory *inventory,
                          MDB_txn *txn,
                          uint32_t agent,
                          uint64_t revision,
                          uint8_t ret_key[static INVENTORY_REVISION_KEY_BYTES],
                          struct buf *to) MUST_USE;

struct inventory_span {
    uint64_t first, last; /* revisions that are kept */
    uint8_t first_key[INVENTORY_REVISION_KEY_BYTES];
    int64_t replaced_us; /* when the first was, by the one behind it; INT64_MAX: it was not */
};
/* With the first one's record: empty where it is damaged. */
int inventory_oldest(struct inventory *inventory,
                     MDB_txn *txn,
                     uint32_t agent,
                     struct inventory_span *ret,
                     struct buf *to) MUST_USE;

/* The first agent from `from` on that has revisions; 0: none. Outcomes: STORE_DAMAGED. */
int inventory_next_agent(struct inventory *inventory,
                         MDB_txn *txn,
                         uint32_t from,
                         uint32_t *ret) MUST_USE;
