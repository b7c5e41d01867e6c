/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/spool/spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/list.h"
#include "common/crypto/crypto.h"

struct record {
    struct list node;
    uint64_t sequence; /* of a skip: the last of its numbers */
    uint64_t samples;
    size_t bytes;                /* charged for it alone */
    size_t capacity_bytes;       /* of `values` and what lies behind them */
    struct spool_layout *layout; /* NULL: a skip */
    enum spool_reason reason;
    uint32_t crc32c;
    wall_us time;
    int64_t boot_us;
    size_t n_absent;
    double values[]; /* then n_absent positions */
};

struct spool {
    uint8_t id[SPOOL_ID_BYTES];
    struct list records;  /* oldest first */
    struct record *spare; /* the last one that was freed: a calm queue does not allocate */
    uint64_t limit_bytes;
    uint64_t last; /* sequence handed out last */
    uint64_t sent; /* highest that was ever given to the transport */
    uint64_t acknowledged;
    uint32_t acknowledged_crc32c;
    uint32_t highest_series; /* id, of all that were put */
    struct spool_ledger ledger;
};

static struct record *record_of(struct list *node)
{
    return container_of(node, struct record, node);
}

static void record_release(struct spool *spool, struct record *record)
{
    list_remove(&record->node);
    record->layout = spool_layout_unref(record->layout);
    free(spool->spare);
    spool->spare = record;
}

static struct record *record_new(struct spool *spool, size_t payload_bytes)
{
    struct record *record = take(spool->spare);

    /* A large one would be held, and charged, for a small batch. */
    if (!record || record->capacity_bytes < payload_bytes ||
        record->capacity_bytes / 2 > payload_bytes) {
        free(record);
        record = malloc(sizeof(*record) + payload_bytes);
        if (!record)
            return NULL;
        record->capacity_bytes = payload_bytes;
    }
    list_init(&record->node);
    record->layout = NULL;
    record->samples = 0;
    record->bytes = 0;
    record->crc32c = 0;
    record->n_absent = 0;
    return record;
}

/* ---- the account ---- */

/*
 * Of series that came after the first batch: the collector lets go of them when they are gone from
 * the machine, and then a queued layout is all that keeps them.
 */
static size_t new_series_bytes(struct spool *spool, const struct spool_layout *layout)
{
    uint32_t highest = spool->highest_series;
    size_t bytes = 0;

    for (size_t i = 0; i < layout->n_series; i++) {
        const struct spool_series *series = layout->series[i];

        if (series->id > spool->highest_series)
            spool->highest_series = series->id;
        if (highest && series->id > highest)
            bytes += sizeof(*series) + series->n_attributes * sizeof(*series->attributes) +
                     series->key.len + strlen(series->unit) + 1;
    }
    return bytes;
}

/* A layout is charged once, as long as a queued batch has it. */
static void account_add(struct spool *spool, struct record *record)
{
    struct spool_ledger *ledger = &spool->ledger;
    struct spool_layout *layout = record->layout;

    record->bytes = sizeof(*record) + record->capacity_bytes;
    if (layout->n_queued++ == 0) {
        layout->queued_bytes = sizeof(*layout) + layout->n_series * sizeof(struct spool_series *) +
                               new_series_bytes(spool, layout);
        ledger->queued_bytes += layout->queued_bytes;
    }
    ledger->queued_bytes += record->bytes;
    ledger->queued_samples += record->samples;
    ledger->queued_batches++;
}

static void account_remove(struct spool *spool, struct record *record)
{
    struct spool_ledger *ledger = &spool->ledger;
    struct spool_layout *layout = record->layout;

    ensure(layout->n_queued > 0 && ledger->queued_batches > 0);
    if (--layout->n_queued == 0)
        ledger->queued_bytes -= layout->queued_bytes;
    ledger->queued_bytes -= record->bytes;
    ledger->queued_samples -= record->samples;
    ledger->queued_batches--;
    ensure(ledger->queued_batches > 0 || ledger->queued_bytes == 0);
}

/* ---- the queue ---- */

int spool_new(struct spool **ret, uint64_t limit_bytes)
{
    struct spool *spool = calloc(1, sizeof(*spool));

    if (!spool)
        return fault(-ENOMEM, "no memory for the spool");
    list_init(&spool->records);
    crypto_random(spool->id, sizeof(spool->id));
    spool->limit_bytes = limit_bytes;
    *ret = spool;
    return 0;
}

struct spool *spool_free(struct spool *spool)
{
    if (!spool)
        return NULL;
    list_each_safe(node, &spool->records)
    {
        if (record_of(node)->layout)
            account_remove(spool, record_of(node));
        record_release(spool, record_of(node));
    }
    free(spool->spare);
    free(spool);
    return NULL;
}

void spool_set_limit(struct spool *spool, uint64_t limit_bytes)
{
    spool->limit_bytes = limit_bytes;
}

/* Turns a batch into a skip, or into a part of the skip before it. */
static void record_skip(struct spool *spool, struct record *record, enum spool_reason reason)
{
    struct record *before =
        record->node.prev == &spool->records ? NULL : record_of(record->node.prev);
    struct spool_ledger *ledger = &spool->ledger;

    ensure(record->layout);

    account_remove(spool, record);
    ledger->dropped_samples += record->samples;
    if (reason == SPOOL_REFUSED)
        ledger->refused_samples += record->samples;

    /* A skip that was sent is fixed: the hub may have it. */
    if (before && !before->layout && before->reason == reason && before->sequence > spool->sent) {
        before->sequence = record->sequence;
        before->samples += record->samples;
        record_release(spool, record);
        return;
    }
    record->layout = spool_layout_unref(record->layout);
    record->reason = reason;
    record->bytes = 0;
    record->crc32c = 0;
}

/* Takes the memory of a skip's values back; there may be one for each REFUSED batch. */
static void record_shrink(struct spool *spool, struct record *skip)
{
    struct record *small = malloc(sizeof(*small));

    if (!small) /* it keeps what it has */
        return;
    *small = *skip;
    small->capacity_bytes = 0;
    list_init(&small->node);
    list_append(&skip->node, &small->node);
    record_release(spool, skip);
}

static void record_drop(struct spool *spool, struct record *record, enum spool_reason reason)
{
    uint64_t sequence = record->sequence;

    record_skip(spool, record, reason);
    list_each(node, &spool->records)
    {
        struct record *skip = record_of(node);

        if (skip->sequence < sequence)
            continue;
        if (!skip->layout && skip->capacity_bytes > 0)
            record_shrink(spool, skip);
        break;
    }
}

/* Sent ones are at the front and few: the walk is short. */
static struct record *oldest_unsent_batch(struct spool *spool)
{
    list_each(node, &spool->records)
    {
        struct record *record = record_of(node);

        if (record->layout && record->sequence > spool->sent)
            return record;
    }
    return NULL;
}

int spool_put(struct spool *spool, const struct spool_scrape *scrape)
{
    size_t n_values = scrape->layout->n_series;
    size_t values_bytes = n_values * sizeof(double);
    size_t absent_bytes = scrape->n_absent * sizeof(uint32_t);
    struct record *record, *victim;

    ensure(scrape->n_absent <= n_values);

    record = record_new(spool, values_bytes + absent_bytes);
    if (!record)
        return fault(-ENOMEM, "no memory for a batch of %zu samples", n_values);

    record->layout = spool_layout_ref(scrape->layout);
    record->samples = n_values - scrape->n_absent;
    record->time = scrape->time;
    record->boot_us = scrape->boot_us;
    record->n_absent = scrape->n_absent;
    memcpy(record->values, scrape->values, values_bytes);
    if (absent_bytes)
        memcpy(record->values + n_values, scrape->absent, absent_bytes);
    record->sequence = ++spool->last;
    list_append(&spool->records, &record->node);

    spool->ledger.produced_samples += record->samples;
    account_add(spool, record);

    /* The last victim may be the new batch itself. */
    while (spool->ledger.queued_bytes > spool->limit_bytes) {
        victim = oldest_unsent_batch(spool);
        if (!victim)
            break;
        record_drop(spool, victim, SPOOL_QUEUE_FULL);
    }
    return 0;
}

int spool_next(const struct spool *spool, uint64_t after, struct spool_item *ret)
{
    for (const struct list *node = spool->records.next; node != &spool->records;
         node = node->next) {
        const struct record *record = container_of(node, const struct record, node);

        if (record->sequence <= after)
            continue;
        *ret = (struct spool_item){
            .sequence = record->sequence,
            .is_skip = !record->layout,
            .reason = record->reason,
            .samples = record->samples,
        };
        if (record->layout)
            ret->scrape = (struct spool_scrape){
                .layout = record->layout,
                .time = record->time,
                .boot_us = record->boot_us,
                .values = record->values,
                .absent =
                    (const uint32_t *) (const void *) (record->values + record->layout->n_series),
                .n_absent = record->n_absent,
            };
        return 0;
    }
    return SPOOL_EMPTY;
}

static struct record *find(struct spool *spool, uint64_t sequence)
{
    list_each(node, &spool->records)
    {
        if (record_of(node)->sequence >= sequence)
            return record_of(node)->sequence == sequence ? record_of(node) : NULL;
    }
    return NULL;
}

void spool_mark_sent(struct spool *spool, uint64_t sequence, uint32_t crc32c)
{
    struct record *record = find(spool, sequence);

    ensure(record);
    record->crc32c = crc32c;
    if (sequence > spool->sent)
        spool->sent = sequence;
}

int spool_acknowledge(struct spool *spool, uint64_t sequence)
{
    if (sequence > spool->sent)
        return SPOOL_BEYOND;

    list_each_safe(node, &spool->records)
    {
        struct record *record = record_of(node);

        if (record->sequence > sequence)
            break;
        if (record->layout) {
            spool->ledger.acknowledged_samples += record->samples;
            account_remove(spool, record);
        }
        spool->acknowledged = record->sequence;
        spool->acknowledged_crc32c = record->crc32c;
        record_release(spool, record);
    }
    return 0;
}

int spool_refuse(struct spool *spool, uint64_t sequence)
{
    struct record *record = find(spool, sequence);

    if (!record || !record->layout)
        return SPOOL_EMPTY;
    record_drop(spool, record, SPOOL_REFUSED);
    return 0;
}

void spool_restart(struct spool *spool)
{
    crypto_random(spool->id, sizeof(spool->id));
    spool->last = spool->sent = spool->acknowledged = 0;
    spool->acknowledged_crc32c = 0;
    list_each(node, &spool->records)
    {
        record_of(node)->sequence = ++spool->last;
        record_of(node)->crc32c = 0;
    }
}

void spool_get_run(const struct spool *spool, struct spool_run *ret)
{
    memcpy(ret->id, spool->id, sizeof(ret->id));
    ret->first_sequence = spool->acknowledged + 1;
    ret->last_sequence = spool->last;
    ret->crc32c_before_first = spool->acknowledged_crc32c;
}

void spool_get_ledger(const struct spool *spool, struct spool_ledger *ret)
{
    *ret = spool->ledger;
    ret->limit_bytes = spool->limit_bytes;
    ensure(ret->produced_samples ==
           ret->acknowledged_samples + ret->queued_samples + ret->dropped_samples);
}
