#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Journal: admitted batches in commit order, in segments that only grow. format.h draws the chunks.
 *
 *   <db>/default/journal/00000001/   an LMDB environment for each segment (data.mdb, lock.mdb)
 *     chunks   u64 number (big-endian) -> chunk; numbers go on from segment to segment
 *     runs     agent u32, signal u32 (big-endian), spool[16]
 *              -> last sequence u64, last use i64 us, crc32c u32, u32 0
 *              as they stood when the segment was made; written once
 *     meta     "format" -> u32, "first_chunk" -> u64 (little-endian)
 *
 * A segment counts from the commit of its meta and snapshot on, which is one transaction: an
 * environment without them is a rotation that did not come to its end, and is begun anew. Old
 * segments stay until sealed blocks take them over.
 *
 * A damaged segment (LMDB's own pages) is served as far as it can be read and never written to: the
 * next one is made at once.
 *
 * Thread: begin, append, commit, abort and rotate belong to the writer; readers come with their own
 * transactions.
 */

#include <stdatomic.h>
#include <sys/uio.h>

#include "server/store/db.h"
#include "server/store/format.h"
#include "server/store/runs.h"

#define JOURNAL_SEGMENTS 16384u
#define JOURNAL_SLACK_BYTES (UINT64_C(256) << 20) /* of the map above a segment */
#define JOURNAL_RUN_KEPT_US (INT64_C(90) * 86400 * 1000000)

struct segment {
    MDB_env *env;
    MDB_dbi chunks, runs, meta;
    uint32_t index;
    uint32_t number;
    bool is_damaged;
    char path[512];
};

struct journal {
    char directory[480];
    uint64_t segment_bytes;
    _Atomic(struct segment *) segments[JOURNAL_SEGMENTS];
    _Atomic uint32_t n_segments;
    uint64_t next_chunk;    /* committed */
    uint64_t pending_chunk; /* of the transaction under way */
    MDB_txn *txn;
    MDB_cursor *cursor;
};

/* Opens what is there; journal_start() makes it good. Outcomes: STORE_FULL. */
int journal_open(struct journal *journal, const char *directory, uint64_t segment_bytes) MUST_USE;
void journal_close(struct journal *journal);

/* After the replay: a segment to write to. Outcomes: STORE_FULL. */
int journal_start(struct journal *journal, struct runs *runs) MUST_USE;

static inline struct segment *journal_segment(struct journal *journal, uint32_t index)
{
    return index < atomic_load_explicit(&journal->n_segments, memory_order_acquire)
               ? atomic_load_explicit(&journal->segments[index], memory_order_acquire)
               : NULL;
}

static inline uint32_t journal_current(struct journal *journal)
{
    return atomic_load_explicit(&journal->n_segments, memory_order_relaxed) - 1;
}

bool journal_wants_rotation(struct journal *journal);
/* Goes on in a new segment, without runs unused for 90 days. Outcomes: STORE_FULL. */
int journal_rotate(struct journal *journal, struct runs *runs, int64_t now_us) MUST_USE;

/* Outcomes: STORE_FULL, all four; then, as after a fault, journal_abort(). */
int journal_begin(struct journal *journal) MUST_USE;
/* The records of one chunk (pending_chunk), n_bytes with the header's. */
int journal_append(struct journal *journal,
                   const struct iovec *parts,
                   size_t n_parts,
                   uint32_t n_records,
                   size_t n_bytes) MUST_USE;
int journal_commit(struct journal *journal) MUST_USE;
void journal_abort(struct journal *journal);

/* Loads the snapshot of a segment; false when it has none. Outcomes: none. */
int journal_load_runs(struct segment *segment, struct runs *runs, bool *ret_is_there) MUST_USE;

void journal_check_readers(struct journal *journal);
uint64_t journal_file_bytes(struct journal *journal);
