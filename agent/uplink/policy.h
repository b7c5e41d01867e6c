#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What follows from what happened. Pure functions. Private to agent/uplink.
 */

#include "agent/uplink/uplink.h"
#include "common/wire/wire.h"

/* A reason of our own: nothing was sent. */
#define UPLINK_IDENTITY_UNUSABLE "IDENTITY_UNUSABLE"
/* A reason of our own: the next attempt is at once, with the other identity. */
#define UPLINK_IDENTITY_CHANGED "IDENTITY_CHANGED"

/* Reasons of our own, of streams that come again: the first hub is looked at; the run was closed.
 */
#define UPLINK_PREFERS_OTHER "PREFERRED_HUB_TRIED"
#define UPLINK_RUN_CHANGED "RUN_CHANGED"
#define UPLINK_RENEWED "STREAM_RENEWED"

enum uplink_class {
    UPLINK_AGAIN,  /* as we wanted it: at once, and no failure */
    UPLINK_RETRY,  /* passes by itself */
    UPLINK_SLOW,   /* somebody has to do something: the slow pace */
    UPLINK_POISON, /* the hub refuses the first batch it has not acknowledged, for what it is */
    UPLINK_FORKED, /* the hub's run is not ours: a new spool id */
};

/* How a call ended. `error` has the status' code and whatever details came with it. */
enum uplink_class uplink_classify(const struct wire_error *error, bool was_welcomed);

/* What somebody can do about an error that does not pass by itself; never NULL. */
const char *uplink_remedy(const struct wire_error *error);

/*
 * How long to wait before attempt `n_failed` + 1, where n_failed counts ends since the last
 * acknowledgement, from 1. unit   uniform in 0 <= x < 1.
 */
int64_t uplink_backoff(const struct uplink_pace *pace, unsigned n_failed, double unit);
/* What a hub may ask for, at most. Zero stays. */
#define UPLINK_MAX_SPREAD_US INT64_C(3600000000)
#define UPLINK_MAX_THROTTLE_US INT64_C(600000000)
/* value +-20 %. */
int64_t uplink_jitter(int64_t value, double unit);

/*
 * The hub's clock as it was at a welcome. A sample keeps the time that was stamped on it unless
 * that is more than an hour from what the boot clock makes of it: the hub would refuse it, and a
 * host without a clock would lose all.
 */
struct uplink_clock {
    bool is_known;
    int64_t hub_us;  /* at the welcome */
    int64_t boot_us; /* the same instant in CLOCK_BOOTTIME */
};
int64_t uplink_stamp(const struct uplink_clock *clock, wall_us time, int64_t boot_us);
/* Of a scrape from the spool, which may be of an earlier boot. */
int64_t uplink_stamp_scrape(const struct uplink_clock *clock, const struct spool_item *item);
/* What to add to times of logs that this machine's clock told, about `item->logs.time`; 0: it was
 * right. */
int64_t uplink_log_offset(const struct uplink_clock *clock, const struct spool_item *item);
/* The hub's clock now; 0: it is not known. */
int64_t uplink_hub_now(const struct uplink_clock *clock);
/* Whether the hub's clock and this machine's are within an hour of each other; else who knows which
 * of them is wrong. */
bool uplink_clocks_agree(const struct uplink_clock *clock, wall_us now);
int64_t uplink_boot_us(void);

/* Bytes in a second, with up to a second's worth at once; a message that is larger makes debts. */
struct uplink_bucket {
    uint64_t rate; /* 0: no limit */
    double tokens;
    int64_t at_us;
};
void uplink_bucket_set(struct uplink_bucket *bucket, uint64_t rate);
/* Whether more than this part of a second's worth is left. */
bool uplink_bucket_has(struct uplink_bucket *bucket, int64_t now_us, double part);
void uplink_bucket_take(struct uplink_bucket *bucket, size_t bytes);
