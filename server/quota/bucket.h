#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Buckets of one limit: who has how much left. Private to server/quota.
 *
 * A bucket's credit is counted in tokens x the limit's span in microseconds, so that an elapsed
 * microsecond adds exactly `n` and nothing is ever rounded. A whole bucket is n_burst x per_us at
 * most 10^9 x 3.6 x 10^9, which an int64_t holds twice.
 *
 * Buckets stand in a heap by when they will be full again. The first is the one to forget: it is
 * full by now, or else the one that is fullest.
 *
 * Thread: none; the limit's lock is around every call.
 */

#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/span.h"

struct bucket_numbers {
    uint64_t n, burst; /* so many tokens in per_us, a full bucket; 1 .. 10^9 */
};

struct bucket {
    struct bucket_numbers numbers;
    int64_t credit;  /* as of last_us; below 0: owed */
    int64_t last_us; /* mono */
    int64_t full_us; /* mono: when it will be full, if nothing is taken */
    size_t at;       /* in the heap */
    uint32_t who_len;
    char who[];
};

struct buckets {
    int64_t per_us;
    struct map by_who;
    struct bucket **heap;
    size_t n, capacity;
};

void buckets_deinit(struct buckets *buckets);

/* NULL: it is full. */
struct bucket *buckets_find(struct buckets *buckets, struct span who);
/* A full one, to take from. NULL: no memory. */
struct bucket *
buckets_add(struct buckets *buckets, struct span who, struct bucket_numbers numbers, mono_us now);

/* Credit of so many tokens. */
int64_t buckets_price(const struct buckets *buckets, uint64_t n);
/* Brings it to now. */
void bucket_refill(const struct buckets *buckets, struct bucket *bucket, mono_us now);
/* The time until it has `credit`; 0: it has. */
int64_t bucket_wait_us(const struct bucket *bucket, int64_t credit);
/* Takes it, there or not, down to a whole bucket owed. It was brought to now. */
void bucket_take(struct buckets *buckets, struct bucket *bucket, int64_t credit);

/* Other numbers: what was taken stays taken. Call buckets_order() when all have theirs. */
void bucket_set_numbers(const struct buckets *buckets,
                        struct bucket *bucket,
                        struct bucket_numbers numbers,
                        mono_us now);
void buckets_order(struct buckets *buckets);
