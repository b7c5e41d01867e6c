#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Logs, private to the store: the way of log records from the journal's packs to the blocks of
 * their days, and what everybody needs who reads them.
 *
 *   batch.c    records become packs, on the calls' threads
 *   heads.[ch] where an agent's packs stand in the journal
 *   seal.c     packs become blocks of their day: a part of the sealer's rounds
 *   compact.c  small blocks become larger ones
 *   read.c     what an agent has, as of one moment
 *   search.c   searching, with page.[ch]: the entries of an answer, and seen.[ch]:
 *              what the calls before have seen
 *   tail.c     following the journal
 *
 * A day of logs is a day like those of metrics (days.h), in default/logs/<day>. What is its own:
 *
 *   blocks    struct day_prefix then a block of logblock.h, each of one source. Of the prefix,
 *             n_rows are records, n_samples bytes of bodies and attributes, `source` a part of the
 *             source's hash.
 *   agents    one span of layout 0: of all the agent's records of the day
 *
 * No two blocks of an agent and day have the same (seal, part). One that compaction makes takes the
 * highest (seal, part) of those that it stands for.
 *
 * A record is in a block if and only if its pack is at or below the place that its own day has for
 * the agent; a reader that notes, under the agent's lock, which packs there are and up to which
 * seal number blocks count, meets each record once.
 */

#include "server/store/journal/format.h"
#include "server/store/logs/heads.h"
#include "server/store/state/agents.h"

struct store;
struct sealer;

/* On disk: it stays what it is. Equal hashes are no proof. */
uint64_t logs_source_hash(const struct logblock_source *source);
/* What a block's prefix has of it. */
static inline uint32_t logs_source_tag(const struct logblock_source *source)
{
    return (uint32_t) logs_source_hash(source) & 0xffffff;
}
bool logs_source_equal(const struct logblock_source *a, const struct logblock_source *b);

static inline struct log_pack
log_pack_of(const struct format_pack *pack, uint32_t segment, struct position at)
{
    return (struct log_pack){
        .first_us = pack->first_us,
        .last_us = pack->last_us,
        .source = pack->source,
        .chunk = at.chunk,
        .segment = segment,
        .offset = at.offset,
        .n_records = pack->n_records,
        .n_raw_bytes = pack->n_raw_bytes,
    };
}

/* ---- read.c ---- */

/*
 * What an agent has, as of one moment: packs with times in a range, in the order of the journal,
 * whose segments stay; and all blocks with a seal number up to `seal` (found_blocks() of scan.h,
 * with a day of store->logs), none of which is replaced meanwhile. To be ended soon.
 */
struct logs_view {
    struct store *store;
    struct agent *agent;
    uint64_t seal;
    struct log_pack *packs;
    size_t n_packs;
    uint32_t first_segment, end_segment; /* held */
};

/* Packs come with reader_pack(). Outcomes: STORE_NOT_FOUND (no such agent). Faults: no memory. */
int logs_view_begin(struct store *store,
                    uint32_t agent,
                    int64_t from_us,
                    int64_t to_us,
                    struct logs_view *ret) MUST_USE;
/* No pack is needed any more: its segments may go. The blocks stay. */
void logs_view_let_go(struct logs_view *view);
void logs_view_end(struct logs_view *view);

/* ---- tail.c ---- */

struct tails {
    pthread_mutex_t lock;
    pthread_cond_t woken;
    struct store_tail *first;
    uint32_t n;
    /* What is committed and shown, since the start. */
    uint64_t end_chunk;          /* the first that is not */
    uint64_t n_records, n_bytes; /* of packs in the journal */
};

void tails_init(struct tails *tails);
void tails_deinit(struct tails *tails);
/* The writer's, after a commit that had packs. */
void tails_publish(struct store *store, uint64_t n_records, uint64_t n_bytes);
