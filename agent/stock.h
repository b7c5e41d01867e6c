#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Stock: when the inventory is read, and that the hub gets it. Private to the agent's composition
 * root.
 *
 * Read soon after the start (within a minute, at a random moment, so that a fleet that starts
 * together does not come together), then each inventory.interval +-10 %, in a thread of its own.
 * What was read waits for a connection; when it takes too long, or the hub lacks more than was
 * kept, it is read anew: an inventory is a state, and the newest one counts. A table that failed
 * before the hub had anything of it is tried again sooner.
 *
 * What the hub has is kept in inventory.known of the state directory: a start whose first reading
 * of a table fails must not leave it out, as the hub would take it for gone.
 *
 * Thread: the loop's.
 */

#include "agent/settings.h"
#include "agent/uplink/uplink.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/loop/loop.h"

struct stock;

struct stock_options {
    struct loop *loop;
    const struct settings *settings; /* until stock_configure() */
};
int stock_new(struct stock **ret, const struct stock_options *options) MUST_USE;
/* Waits shortly for a reading under way; one that hangs is left to the end of the process. */
struct stock *stock_free(struct stock *stock);
DEFINE_CLEANUP(struct stock *, stock_free);
void stock_configure(struct stock *stock, const struct settings *settings);
/* The channel to the hub, borrowed until NULL comes: what waits may go. */
void stock_set_channel(struct stock *stock, struct rpc_channel *channel);

struct stock_status {
    wall_us read, stored; /* the last time; 0: never */
    wall_us next;         /* reading; 0: none is planned */
    int64_t duration_us;
    uint64_t n_tables, n_rows, n_stale, n_cut;
    uint64_t revision;
    uint64_t n_failed; /* readings and uploads that came to nothing, since the start */
    char error[400];   /* of the last try; empty: it went well */
};
void stock_get_status(const struct stock *stock, struct stock_status *ret);
