/* SPDX-License-Identifier: Apache-2.0 */
#include "server/quota/bucket.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "server/quota/quota.h"

/* ---- arithmetic ---- */

static int64_t whole(const struct buckets *buckets, struct bucket_numbers numbers)
{
    return (int64_t) numbers.burst * buckets->per_us;
}

int64_t buckets_price(const struct buckets *buckets, uint64_t n)
{
    return (int64_t) n * buckets->per_us;
}

int64_t bucket_wait_us(const struct bucket *bucket, int64_t credit)
{
    int64_t lacks = credit - bucket->credit, n = (int64_t) bucket->numbers.n;

    if (lacks <= 0)
        return 0;
    return lacks / n + (lacks % n != 0);
}

void bucket_refill(const struct buckets *buckets, struct bucket *bucket, mono_us now)
{
    int64_t full = whole(buckets, bucket->numbers), elapsed = now.us - bucket->last_us;

    if (elapsed <= 0)
        return;
    bucket->last_us = now.us;
    if (elapsed >= bucket_wait_us(bucket, full))
        bucket->credit = full;
    else
        bucket->credit += elapsed * (int64_t) bucket->numbers.n;
}

/* ---- the heap ---- */

static void put_at(struct buckets *buckets, struct bucket *bucket, size_t at)
{
    buckets->heap[at] = bucket;
    bucket->at = at;
}

static void sift_up(struct buckets *buckets, struct bucket *bucket)
{
    size_t at = bucket->at;

    for (; at > 0 && buckets->heap[(at - 1) / 2]->full_us > bucket->full_us; at = (at - 1) / 2)
        put_at(buckets, buckets->heap[(at - 1) / 2], at);
    put_at(buckets, bucket, at);
}

static void sift_down(struct buckets *buckets, struct bucket *bucket)
{
    size_t at = bucket->at;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= buckets->n)
            break;
        if (child + 1 < buckets->n &&
            buckets->heap[child + 1]->full_us < buckets->heap[child]->full_us)
            child++;
        if (buckets->heap[child]->full_us >= bucket->full_us)
            break;
        put_at(buckets, buckets->heap[child], at);
        at = child;
    }
    put_at(buckets, bucket, at);
}

static void forget_first(struct buckets *buckets)
{
    struct bucket *first = buckets->heap[0], *last = buckets->heap[--buckets->n];

    if (first != last) {
        last->at = 0;
        sift_down(buckets, last);
    }
    ensure(map_remove(&buckets->by_who, span_of(first->who, first->who_len)) == first);
    free(first);
}

void buckets_order(struct buckets *buckets)
{
    for (size_t i = buckets->n / 2; i-- > 0;)
        sift_down(buckets, buckets->heap[i]);
}

/* ---- buckets ---- */

void buckets_deinit(struct buckets *buckets)
{
    for (size_t i = 0; i < buckets->n; i++)
        free(buckets->heap[i]);
    free(buckets->heap);
    map_deinit(&buckets->by_who);
}

struct bucket *buckets_find(struct buckets *buckets, struct span who)
{
    return map_get(&buckets->by_who, who);
}

static bool make_room(struct buckets *buckets)
{
    size_t capacity = buckets->capacity ? 2 * buckets->capacity : 64;
    struct bucket **heap;

    if (buckets->n < buckets->capacity)
        return true;
    heap = realloc(buckets->heap, capacity * sizeof(*heap));
    if (!heap)
        return false;
    buckets->heap = heap;
    buckets->capacity = capacity;
    return true;
}

struct bucket *
buckets_add(struct buckets *buckets, struct span who, struct bucket_numbers numbers, mono_us now)
{
    struct bucket *bucket;

    while (buckets->n > 0 &&
           (buckets->n >= QUOTA_MAX_BUCKETS || buckets->heap[0]->full_us <= now.us))
        forget_first(buckets);
    bucket = make_room(buckets) ? malloc(sizeof(*bucket) + who.len + 1) : NULL;
    if (!bucket)
        return NULL;
    *bucket = (struct bucket){ .numbers = numbers,
                               .credit = whole(buckets, numbers),
                               .last_us = now.us,
                               .full_us = now.us,
                               .at = buckets->n,
                               .who_len = (uint32_t) who.len };
    memcpy(bucket->who, who.data, who.len);
    bucket->who[who.len] = 0;
    if (map_put(&buckets->by_who, span_of(bucket->who, who.len), bucket) != 0) {
        free(bucket);
        return NULL;
    }
    buckets->n++;
    sift_up(buckets, bucket);
    return bucket;
}

static void set_full(const struct buckets *buckets, struct bucket *bucket)
{
    bucket->full_us = bucket->last_us + bucket_wait_us(bucket, whole(buckets, bucket->numbers));
}

void bucket_take(struct buckets *buckets, struct bucket *bucket, int64_t credit)
{
    int64_t full = whole(buckets, bucket->numbers);

    bucket->credit = bucket->credit + full < credit ? -full : bucket->credit - credit;
    set_full(buckets, bucket);
    sift_down(buckets, bucket);
}

void bucket_set_numbers(const struct buckets *buckets,
                        struct bucket *bucket,
                        struct bucket_numbers numbers,
                        mono_us now)
{
    int64_t full = whole(buckets, numbers);

    bucket_refill(buckets, bucket, now);
    bucket->credit += full - whole(buckets, bucket->numbers);
    if (bucket->credit < -full)
        bucket->credit = -full;
    bucket->numbers = numbers;
    set_full(buckets, bucket);
}
