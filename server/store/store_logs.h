#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Logs in the store: records of a source, as agents send them. A part of store.h, which others
 * include.
 *
 * Log batches go the way of metric batches (store_submit(), the journal, done() after the commit).
 * Their records stand in the journal as packs (logblock.h), each of one source and one day; the
 * sealer makes blocks of them in logs/<day>, or finds blocks. Readers see both as one, in the order
 * (time, agent, place), which is total and never changes.
 *
 * Thread: any, unless a function says otherwise.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"
#include "common/logblock/logblock.h"

struct store;
struct store_batch;

/* ---- writing ---- */

/* Bytes in the journal that these records take at most. */
size_t store_logs_bytes(const struct logblock_source *source,
                        const struct logblock_record *records,
                        size_t n_records);

/* The compressor's contexts and room, of one thread at a time. */
struct store_packer;
int store_packer_new(struct store_packer **ret) MUST_USE;
struct store_packer *store_packer_free(struct store_packer *packer);
DEFINE_CLEANUP(struct store_packer *, store_packer_free);
/* It packed some records so long that it is better freed than kept. */
bool store_packer_is_large(const struct store_packer *packer);

/*
 * A batch of signal STORE_LOGS with these records: copied, split into packs by day and by size,
 * compressed where they are many. Places are the store's.
 *   sent   NULL, or the block with these records in it: it is kept where all of them make one block
 * Faults: no memory.
 */
int store_batch_new_logs(struct store_packer *packer,
                         const struct logblock_source *source,
                         const struct logblock_record *records,
                         size_t n_records,
                         const struct logblock_sent *sent,
                         struct store_batch **ret) MUST_USE;

/* ---- searching ---- */

#define STORE_LOG_ENTRIES_MAX 10000u

/* A place in the total order; there need not be a record. */
struct store_log_place {
    int64_t time_us;
    uint32_t agent;
    struct logblock_place place;
};

struct store_log_entry {
    uint32_t agent;
    struct logblock_source source;
    struct logblock_record record;
};

struct store_log_seen;

struct store_log_search {
    const uint32_t *agents; /* ascending numbers */
    size_t n_agents;
    int64_t from_us, to_us; /* from inclusive, to exclusive */
    bool is_oldest_first;   /* else the newest first */
    uint32_t min_severity;
    const struct logblock_terms *terms; /* NULL: any body */
    /* NULL, or says of a source whether it is looked into; called for each block and pack. */
    bool (*is_source_wanted)(void *ctx, const struct logblock_source *source);
    /* NULL, or has the last word on a body. */
    bool (*is_body_wanted)(void *ctx, struct span body);
    /* NULL, or asked now and then: true ends the search without entries, nobody waits for it. */
    bool (*is_unwanted)(void *ctx);
    void *ctx;

    bool has_after;               /* goes on behind this place, in the search's direction */
    struct store_log_place after; /* it need not be there any more */
    size_t max_entries;           /* of one answer, 1 .. STORE_LOG_ENTRIES_MAX */
    size_t max_entry_bytes;       /* of bodies, attributes, sources; one entry always may */
    /*
     * What it may cost; then it ends, when all that can have a record of the first time was looked
     * at: the next page begins behind that. With `seen` it may end before.
     */
    uint64_t budget_bytes; /* 0: no limit */
    int64_t budget_us;     /* from the first look at a block or pack on; 0: no limit */
    /* NULL, or of this search alone: its calls with the same question look at nothing twice that
     * they need not. */
    struct store_log_seen *seen;

    /* The answer, in order; in the arena of the call. */
    struct store_log_entry *ret_entries;
    size_t ret_n;
    bool ret_is_budget_reached;       /* what lies behind ret_place was not looked at */
    bool ret_has_more;                /* there may be more behind ret_place */
    struct store_log_place ret_place; /* the next page's `after` */
    /* There are no entries and no place: the same call goes on, with the same `seen`. It has looked
     * at something new each time. */
    bool ret_is_paused;
    uint64_t ret_bytes_read; /* decoded */
    uint64_t ret_cost_bytes; /* with headers and filters: what budget_bytes is held against */
    uint64_t ret_blocks_read, ret_blocks_skipped; /* skipped: by header or filter */
    uint64_t ret_damaged;                         /* blocks and packs passed over */
};
/* Searches under way at a time, of those that remember: each takes some mebibytes, and who asked
 * may be slow to take the answer. */
#define STORE_LOG_SEARCHES 256u

/* Outcomes: STORE_TOO_MUCH (STORE_LOG_SEARCHES are under way). Faults: no memory. */
int store_log_seen_new(struct store *store, struct store_log_seen **ret) MUST_USE;
struct store_log_seen *store_log_seen_free(struct store_log_seen *seen);
DEFINE_CLEANUP(struct store_log_seen *, store_log_seen_free);

/* Blocks on page faults: on a reader thread only. Faults: no memory, arena exhausted. */
int store_logs_search(struct store *store,
                      struct store_log_search *search,
                      struct arena *arena) MUST_USE;

/* ---- following what comes ---- */

struct store_tail;

/*
 * From what is committed from now on. `wake` is called on the writer's thread when there is
 * something new after store_tail_read() said that there is nothing; it must not block. A reader
 * that is STORE_TAIL_BYTES behind is moved forward, and what it missed is counted.
 */
#define STORE_TAIL_BYTES (UINT64_C(64) << 20)
#define STORE_TAILS 256u /* at a time */

/* Outcomes: STORE_TOO_MUCH (STORE_TAILS are open), STORE_STOPPED. */
int store_tail_open(struct store *store,
                    void (*wake)(void *ctx),
                    void *ctx,
                    struct store_tail **ret) MUST_USE;
struct store_tail *store_tail_close(struct store_tail *tail);
DEFINE_CLEANUP(struct store_tail *, store_tail_close);

struct store_tail_read {
    /* Of one pack of an agent, borrowed during the call. How many of them it took, from the first
     * on: fewer than all are enough, and the rest comes again. */
    size_t (*on_pack)(void *ctx,
                      uint32_t agent,
                      const struct logblock_source *source,
                      const struct logblock_record *records,
                      size_t n_records);
    void *ctx;
    uint64_t ret_missed; /* records passed over since the last read */
};
/* Until there is no more or on_pack() has enough. On a reader thread, one at a time for each tail.
 */
int store_tail_read(struct store_tail *tail, struct store_tail_read *read) MUST_USE;

/* ---- what there is ---- */

struct store_logs_of {
    uint64_t n_records, n_bytes; /* taken since the agent is known; of bodies and attributes */
    uint64_t n_skipped;          /* records that the agent says it passed over */
    int64_t last_us;             /* the newest record's time; INT64_MIN: none */
};
void store_logs_of_agent(struct store *store, uint32_t agent, struct store_logs_of *ret);

/* As store_set_retention(), for logs. */
void store_set_logs_retention(struct store *store, int64_t retention_us, uint64_t retention_bytes);
