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
 * environment without them is a rotation that did not come to its end, and is begun anew.
 *
 * A segment goes when no head points into it any more (n_live), nobody reads it (n_holds) and it is
 * the oldest: journal_take_idle(). Its last sequences are in the snapshots of those behind it.
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
#include "server/store/journal/format.h"
#include "server/store/journal/runs.h"

#define JOURNAL_SEGMENTS 16384u /* at a time */
#define JOURNAL_OPEN 64u
#define JOURNAL_SLACK_BYTES (UINT64_C(256) << 20) /* of the map above a segment */
#define JOURNAL_RUN_KEPT_US (INT64_C(90) * 86400 * 1000000)

struct segment {
    uint32_t number;
    bool is_damaged; /* the start's */
    uint64_t first_chunk;
    _Atomic uint64_t n_live;     /* rows in heads */
    _Atomic uint64_t used_bytes; /* what its pages reach to, as of the last commit */
    /* Scans that have places in it. Taken under the lock of an agent whose head points here, so a
     * segment without live rows gets no new ones. */
    _Atomic uint32_t n_holds;
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
    _Atomic(struct segment *) segments[JOURNAL_SEGMENTS]; /* number % JOURNAL_SEGMENTS */
    _Atomic uint32_t first, end;                          /* numbers; first = end: none */
    struct {
        pthread_mutex_t lock;
        uint32_t n;
        uint64_t n_uses;
    } open;
    struct segment *writing;     /* the writer uses it until the next rotation */
    _Atomic uint64_t next_chunk; /* committed */
    uint64_t pending_chunk;      /* of the transaction under way */
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

/* NULL where there is none of that number. */
static inline struct segment *journal_segment(struct journal *journal, uint32_t number)
{
    struct segment *segment =
        atomic_load_explicit(&journal->segments[number % JOURNAL_SEGMENTS], memory_order_acquire);

    return segment && segment->number == number ? segment : NULL;
}

/* For the writer, and before the threads: others use journal_segment() with a number that they
 * hold. */
static inline struct segment *journal_next(struct journal *journal, const struct segment *after)
{
    uint32_t end = atomic_load_explicit(&journal->end, memory_order_acquire);
    uint32_t number = after ? after->number + 1 : atomic_load(&journal->first);

    for (; number < end; number++) {
        struct segment *segment = journal_segment(journal, number);

        if (segment)
            return segment;
    }
    return NULL;
}

static inline uint32_t journal_n_segments(struct journal *journal)
{
    return atomic_load(&journal->end) - atomic_load(&journal->first);
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

/* Of the oldest segment; what is below is in no segment. */
uint64_t journal_first_chunk(struct journal *journal);

/* Of the one being written. */
uint64_t journal_writing_chunk(struct journal *journal);

/* Closes environments that nobody uses, but the writer's: their mapped pages are resident memory.
 */
void journal_rest(struct journal *journal);

/* What segments hold: a rotation that was asked for leaves small ones. */
struct journal_held {
    uint64_t n_live_bytes;   /* from the first one with rows in heads on; the writer's as if full */
    uint64_t n_sealed_bytes; /* of those before it: they stay for followers, or go soon */
};
struct journal_held journal_held(struct journal *journal);

/* Whether the oldest segment may go: the writer's never does, nor one that has chunks from `kept`
 * on. */
bool journal_has_idle(struct journal *journal, uint64_t kept);
/* Takes it out of the table, for journal_remove(): nobody finds it any more. NULL: none may go. The
 * sealer's; one thread. */
struct segment *journal_take_idle(struct journal *journal, uint64_t kept);
/* The first chunk behind the oldest segment; 0: there is only one. */
uint64_t journal_second_chunk(struct journal *journal);
/* Removes one that was taken from the disk. The sealer's; one thread. */
int journal_remove(struct journal *journal, struct segment *segment) MUST_USE;

void journal_check_readers(struct journal *journal);
uint64_t journal_file_bytes(struct journal *journal);
