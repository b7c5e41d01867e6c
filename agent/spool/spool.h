#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Spool: what was collected and is not yet acknowledged by the hub.
 *
 * A run of batches numbered 1, 2, 3 ... under a spool id. A batch is one scrape in a neutral form
 * (layout, time, values): it is encoded for the wire by the uplink, each time it is sent, as ids
 * have to be declared again in each stream. Nothing here knows where batches lie: this one keeps
 * them in memory, and one that keeps them on disk fits behind the same calls.
 *
 * The queue has a limit in bytes, which batches, the layouts that they have, and series that came
 * later than the first batch count against. When it is full, the oldest batch that was never sent
 * is dropped, and a skip takes the place of its number; runs of drops are one skip. Batches that
 * were sent are never dropped, as the hub may have them already: so no sample is counted twice. The
 * ledger always holds, in samples:
 *
 *     produced = acknowledged + queued + dropped
 *
 * Glossary:   series   a name with a unit, a kind and attributes       layout   series that are
 * sampled together scrape   the values of one layout at one instant         skip     numbers
 * without a batch, and why
 *
 * Series and layouts are counted references: whoever queues a batch need not keep the layout alive.
 * Thread: the loop's, for everything.
 */

#include "agent/spool/batch.h"
#include "agent/spool/series.h"

/* ---- the queue ---- */

#define SPOOL_ID_BYTES 16

enum spool_outcome {
    SPOOL_OK = 0,
    SPOOL_EMPTY,     /* nothing behind that sequence */
    SPOOL_BEYOND,    /* that sequence was never sent: the hub speaks of another run */
    SPOOL_FULL,      /* policy BLOCK: nothing was taken; put it again after on_room */
    SPOOL_TOO_LARGE, /* over SPOOL_MAX_BATCH_BYTES as it would be written: split it */
};

/* Numbers of sentinel.telemetry.v1.SkipReason. */
enum spool_reason { SPOOL_QUEUE_FULL = 1, SPOOL_TOO_OLD = 2, SPOOL_REFUSED = 3, SPOOL_DAMAGED = 4 };

struct spool_item {
    uint64_t sequence; /* of a skip: the last of its numbers */
    bool is_skip;
    struct spool_scrape scrape; /* unless is_skip; borrowed until the spool changes */
    enum spool_reason reason;   /* of a skip */
    uint64_t samples;
};

/* What is about signals, limits and logs is the contract of the spool on disk, which takes the
 * place of the queue in memory behind it. */
enum spool_signal { SPOOL_METRICS, SPOOL_LOGS, SPOOL_SIGNALS };

enum spool_policy { SPOOL_DROP_OLDEST, SPOOL_DROP_NEWEST, SPOOL_BLOCK };

/* Of one signal. */
struct spool_limits {
    uint64_t limit_bytes; /* of its files; at least SPOOL_MIN_LIMIT_BYTES */
    int64_t max_age_us;   /* of a batch; older segments become a skip; 0: no limit */
    enum spool_policy policy;
    int64_t sync_us; /* 0: each batch is synced by its put; else spool_tick() syncs after this */
};
#define SPOOL_MIN_LIMIT_BYTES (256u << 10)

struct spool_options {
    const char *directory; /* made when absent; NULL: in memory alone, for tests and probes */
    struct spool_limits limits[SPOOL_SIGNALS];
    /* There is room again after SPOOL_FULL. May be NULL. Puts are fine inside. */
    void (*on_room)(void *ctx, enum spool_signal signal);
    void *ctx;
};
int spool_open(struct spool **ret, const struct spool_options *options) MUST_USE;
struct spool *spool_close(struct spool *spool);

/* An empty run under a random id. */
int spool_new(struct spool **ret, uint64_t limit_bytes) MUST_USE;
struct spool *spool_free(struct spool *spool);
DEFINE_CLEANUP(struct spool *, spool_free);

/* Takes effect at the next put. */
void spool_set_limit(struct spool *spool, uint64_t limit_bytes);

/* Copies the values, references the layout, and drops what no longer fits. */
int spool_put(struct spool *spool, const struct spool_scrape *scrape) MUST_USE;

/* The first item behind `after`. Outcomes: SPOOL_EMPTY. */
int spool_next(const struct spool *spool, uint64_t after, struct spool_item *ret) MUST_USE;

/* The item was given to the transport with this checksum (wire_checksum()). From now on it is never
 * dropped. */
void spool_mark_sent(struct spool *spool, uint64_t sequence, uint32_t crc32c);

/* Everything up to here is on the hub's disk. A sequence that was acknowledged before changes
 * nothing. Outcomes: SPOOL_BEYOND. */
int spool_acknowledge(struct spool *spool, uint64_t sequence) MUST_USE;

/* A skip takes the place of this batch: the hub refuses it for what it is. Outcomes: SPOOL_EMPTY
 * (no such batch). */
int spool_refuse(struct spool *spool, uint64_t sequence) MUST_USE;

/* A new run under a new id; everything that is not acknowledged is in it, from 1. */
void spool_restart(struct spool *spool);

/* What a hello says. */
struct spool_run {
    uint8_t id[SPOOL_ID_BYTES];
    uint64_t first_sequence; /* last_sequence + 1 when there is nothing */
    uint64_t last_sequence;
    uint32_t crc32c_before_first; /* of the last acknowledged item as it was sent; 0: none */
};
void spool_get_run(const struct spool *spool, struct spool_run *ret);

struct spool_ledger {
    uint64_t produced_samples;
    uint64_t acknowledged_samples;
    uint64_t queued_samples;
    uint64_t dropped_samples; /* for any reason */
    uint64_t refused_samples; /* those of them that the hub refused */
    uint64_t queued_batches;
    uint64_t queued_bytes;
    uint64_t limit_bytes;
};
void spool_get_ledger(const struct spool *spool, struct spool_ledger *ret);
