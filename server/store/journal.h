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
 * An open environment takes three descriptors and a segment's size and JOURNAL_SLACK_BYTES of
 * address space, so only the newest stays open; of the others those that somebody reads, and at
 * most JOURNAL_OPEN of them until the next needs the place. Where descriptors are short all the
 * same (sentinel-hub run raises RLIMIT_NOFILE to its hard limit), those that nobody reads make
 * room. A hub with thousands of segments starts within the limits of one with a few.
 *
 * Thread: begin, append, commit, abort and rotate belong to the writer; readers come with their own
 * transactions, between journal_use() and journal_release().
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "server/store/db.h"
#include "server/store/format.h"
#include "server/store/runs.h"

#define JOURNAL_SEGMENTS 16384u
#define JOURNAL_OPEN 64u
#define JOURNAL_SLACK_BYTES (UINT64_C(256) << 20) /* of the map above a segment */
#define JOURNAL_RUN_KEPT_US (INT64_C(90) * 86400 * 1000000)

struct segment {
    uint32_t index;
    uint32_t number;
    bool is_damaged; /* the start's */
    char path[512];
    /* Under open.lock; env and its tables hold still for who uses it. */
    MDB_env *env;
    MDB_dbi chunks, runs, meta;
    uint32_t n_users;
    uint64_t last_use; /* counts up */
    bool is_no_database;
};

struct journal {
    char directory[480];
    uint64_t segment_bytes;
    bool is_open;
    _Atomic(struct segment *) segments[JOURNAL_SEGMENTS];
    _Atomic uint32_t n_segments;
    struct {
        pthread_mutex_t lock;
        uint32_t n;
        uint64_t n_uses;
    } open;
    struct segment *writing; /* the writer uses it until the next rotation */
    uint64_t next_chunk;     /* committed */
    uint64_t pending_chunk;  /* of the transaction under way */
    MDB_txn *txn;
    MDB_cursor *cursor;
};

/* Finds what is there; journal_start() makes it good. `database` is the directory that holds it, so
 * that new directories are durable up to there. Outcomes: STORE_FULL. */
int journal_open(struct journal *journal, const char *database, uint64_t segment_bytes) MUST_USE;
void journal_close(struct journal *journal);

/* Its environment, open until journal_release(). Outcomes: STORE_NOT_FOUND (damaged beyond
 * opening).
 */
int journal_use(struct journal *journal, struct segment *segment) MUST_USE;
void journal_release(struct journal *journal, struct segment *segment);

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

/* Whether what one commit may take can be allocated: a full disk has ended. */
bool journal_has_room(struct journal *journal);

/* What the snapshot of a segment in use says, over what the segments before it said. A damaged one
 * adds what can be read. */
int journal_load_runs(struct segment *segment, struct runs *runs) MUST_USE;

void journal_check_readers(struct journal *journal);
uint64_t journal_file_bytes(struct journal *journal);
