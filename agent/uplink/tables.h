#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tables: an inventory on its way to the hub. A part of uplink.h, which others include.
 *
 * First the hashes alone; where the hub lacks tables it names them, and they go behind the hashes
 * in a second call. What did not change costs a kilobyte.
 *
 * Thread: the loop's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/inventory/inventory.h"
#include "common/base/cleanup.h"

struct rpc_channel;
struct tables;

enum tables_outcome {
    TABLES_STORED = 0, /* on the hub's disk */
    TABLES_NO_ROWS,    /* the hub lacks a table that the snapshot has no rows of: read it again */
    TABLES_REFUSED,    /* the hub says why; the same again would be refused too */
    TABLES_FAILED,     /* no connection, or the hub is busy: later */
};

struct tables_result {
    enum tables_outcome outcome;
    uint64_t revision; /* stored */
    uint32_t n_changed;
    uint64_t n_bytes; /* of rows that travelled */
    int code;         /* of the status, where it is not stored */
    char reason[64], message[256];
    int64_t retry_after_us; /* the hub's wish; 0: none */
};

struct tables_options {
    struct rpc_channel *channel;
    const struct inventory_snapshot *snapshot; /* borrowed until on_done */
    /* Last; the tables may be freed in it. */
    void (*on_done)(void *ctx, const struct tables_result *result);
    void *ctx;
};
int tables_send(struct tables **ret, const struct tables_options *options) MUST_USE;
/* Before on_done: the upload is given up, and on_done does not come. */
struct tables *tables_free(struct tables *tables);
DEFINE_CLEANUP(struct tables *, tables_free);
