#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Following the journal: every row that is committed, in that order, for who passes them on
 * elsewhere. A part of store.h, which others include.
 *
 * A follower has a name and a place that is kept in the database: store_follow_keep() says that all
 * that was read and is done with need not come again, also after a restart. Rows behind the place
 * stay in the journal, sealed or not, up to store_options.follow_bytes; then the oldest are passed
 * over and counted.
 *
 * Thread: one at a time for each follower; blocks on page faults and commits.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"

struct store;
struct store_follower;

/* Values and absent places as they lie in the journal, not aligned; until on_row() returns. */
struct store_followed {
    uint32_t agent, layout;
    int64_t time_us;
    uint32_t n_values, n_absent;
    const uint8_t *values; /* n_values x f64 */
    const uint8_t *absent; /* n_absent x u32: places without a value, ascending */
};

struct store_follow_read {
    /* False: enough; this row comes again. */
    bool (*on_row)(void *ctx, const struct store_followed *row);
    void *ctx;
};

struct store_follow_lag {
    uint64_t n_chunks;      /* behind the place, up to 65,000 bytes each */
    uint64_t n_lost_chunks; /* passed over, damaged or gone, since the follower is known */
};

/* A name that is new begins with what is committed from now on. At most 63 bytes. The one that
 * store_options.follow names was there from the open on. Outcomes: STORE_FULL. */
int store_follow(struct store *store, const char *name, struct store_follower **ret) MUST_USE;
/* Before store_stop(). */
struct store_follower *store_unfollow(struct store_follower *follower);
DEFINE_CLEANUP(struct store_follower *, store_unfollow);

/* Goes on behind the last row that was read, until there is no more or on_row() has enough. */
int store_follow_read(struct store_follower *follower,
                      const struct store_follow_read *how) MUST_USE;

/* What was read is done with. */
void store_follow_done(struct store_follower *follower);
/* What is done with need not come again: durable. Outcomes: STORE_FULL (as long as the hub runs;
 * after a restart it comes again, or counts as lost). */
int store_follow_keep(struct store_follower *follower) MUST_USE;
/* What was read and is not done with comes again. */
void store_follow_again(struct store_follower *follower);

void store_follow_lag(struct store_follower *follower, struct store_follow_lag *ret);
