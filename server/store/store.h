#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Store: what the hub holds, on disk, in LMDB. The only module that knows LMDB.
 *
 * The promise: once a batch's done() says STORE_OK it survives kill -9 of the hub and of the
 * machine, exactly once.
 *
 * Glossary:
 *   definition  (metric name, unit, kind, sorted attributes), without the agent; hub-wide id
 *   layout      a set of definitions sampled together: their ids, ascending; hub-wide id
 *   run         one spool id of one agent and signal: batches numbered 1, 2, 3 ... without gaps
 *   journal     admitted batches in commit order; segments, append-only
 *   head        where the rows of one agent and layout stand in the journal, in time order
 *   position    of a row in the journal: chunk number, offset; grows with commit order
 *   sealed      in a block of its day, and no longer in a head
 *
 * The way of a batch: store_submit() queues it; the journal's writer takes all that is queued,
 * checks sequences, appends them in one transaction, commits with fdatasync, puts the rows into the
 * heads and calls each done(). Within minutes the sealer makes blocks of them (seal.h), and the
 * journal behind them goes. Readers see blocks and heads as one: store_scan().
 *
 * On disk (all LMDB environments are directories, so that its files keep the names people know):
 *   lock                        held with flock while a hub runs
 *   pause                       pause.h: a backup copies, or a round of the sealer is under way
 *   state/                      small and precious; state.h, agents.h, catalog.h
 *   default/journal/00000001/   a segment; journal.h, format.h
 *   default/metrics/20261126/   a day's blocks; days.h
 *   default/logs/20261126/      the same of logs; logs.h
 *   default/rollup-1m/202611/   and rollup-1h/2026; rollup.h
 *   default/inventory/          inventory.h
 *   default/objects/            uploads; store_objects.h
 *
 * Files:  whole.h names them all, and the locks' order.
 * Thread: any, unless a function says otherwise.
 * Start here: store_submit() is called from server/ingest.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"
#include "server/store/store_catalog.h" /* agents, definitions, layouts */
#include "server/store/store_follow.h"  /* the journal, for who passes it on */
#include "server/store/store_inventory.h"
#include "server/store/store_logs.h"
#include "server/store/store_objects.h" /* uploads: files and bulk data */
#include "server/store/store_offline.h" /* survey, backup, restore: also without a hub */
#include "server/store/store_scan.h"    /* reading rows */
#include "server/store/store_status.h"
#include "server/store/store_table.h"   /* the registry's rows */
#include "server/store/store_windows.h" /* roll-ups, and what there is */

struct store;

enum store_outcome {
    STORE_OK = 0,
    STORE_NOT_FOUND,
    STORE_FULL,      /* disk or map at its limit; nothing was written; reads go on */
    STORE_BUSY,      /* the writer's queue is at its limit; try again */
    STORE_DUPLICATE, /* at or below the run's last sequence: it is on disk already */
    STORE_GAP,       /* above the run's next sequence; nothing was written */
    STORE_STOPPED,   /* the store is closing or has failed; nothing was written */
    STORE_LOCKED,    /* another process has this state directory */
    STORE_NEWER,     /* the database was written by a newer version; ret_why names it */
    STORE_UNFIT,     /* a file system that cannot keep the promise (NFS, CIFS, 9p, FUSE) */
    STORE_TOO_MUCH,  /* a limit; nothing was interned or written */
    /* Of objects alone. */
    STORE_DIFFERS,    /* the header is not that of the upload with this key */
    STORE_TAKEN,      /* somebody else goes on with the upload */
    STORE_INCOMPLETE, /* not all of it is there */
    STORE_DAMAGED,    /* on disk is not what was written */
};

#define STORE_JOURNAL_BYTES (UINT64_C(2) << 30)
#define STORE_FOLLOW_BYTES (UINT64_C(16) << 30)
#define STORE_SEAL_AGE_US (INT64_C(300) * 1000000)

struct store_options {
    const char *directory;  /* <state>/db */
    uint64_t segment_bytes; /* a journal segment is rotated at this size; 256 MiB */
    uint64_t journal_bytes; /* above it all is sealed; at twice of it the writer waits; 0: 2 GiB */
    uint64_t day_bytes;     /* of blocks of one day at most: address space; 0: 64 GiB */
    int64_t seal_age_us;    /* rows are sealed when they are so old; 0: 5 min */
    /* What is older goes, day by day, and the oldest days when there is more; 0: no limit. */
    int64_t retention_us;
    uint64_t retention_bytes;
    int64_t retention_1m_us, retention_1h_us; /* of roll-ups, months and years at a time */
    int64_t logs_retention_us;                /* the same of logs, days at a time */
    uint64_t logs_retention_bytes;
    uint64_t follow_bytes; /* of sealed journal kept for followers; 0: 16 GiB */
    const char *follow;    /* a follower that will come: its rows stay from the open on; or NULL */
    /* Of inventories: revisions of an agent, age of one that was replaced, bytes; 0: 200, 365 days,
     * 16 GiB. Bytes are address space too, so the others alone change later. */
    uint32_t inventory_revisions;
    int64_t inventory_retention_us;
    uint64_t inventory_bytes;
    uint64_t queue_bytes;  /* what may wait for the writer; one batch always may */
    uint32_t full_percent; /* of the disk: above it nothing is written */
    struct store_object_limits objects;
    bool is_shared; /* an offline command beside a hub: no flock, no threads, state only */
    bool allow_any_filesystem; /* tests */
    /* On a writer thread, once, for a disk error that is not "full": acknowledge no more. */
    void (*on_fatal)(void *ctx);
    /* "Full" begins, ends: by the clock, so also while nothing is submitted. To be logged there. */
    void (*on_full)(void *ctx, bool is_full);
    void *ctx;
};

struct store_why {
    char text[384];
};

/*
 * Makes an empty database in a directory: wholly, or also after a power cut not at all.
 * Outcomes: STORE_LOCKED. Faults: there is one (-EEXIST).
 */
int store_create(const char *directory) MUST_USE;

/*
 * Opens, replays the journal, starts the writers. Blocks.
 * Outcomes: STORE_NOT_FOUND, STORE_LOCKED, STORE_NEWER, STORE_UNFIT; ret_why has the remedy.
 */
int store_open(struct store **ret,
               const struct store_options *options,
               struct store_why *ret_why) MUST_USE;
/* Takes nothing new, writes what is queued, calls every done(). Blocks. */
void store_stop(struct store *store);
struct store *store_close(struct store *store);
DEFINE_CLEANUP(struct store *, store_close);

/* From now on; it is looked at soon. */
void store_set_retention(struct store *store, int64_t retention_us, uint64_t retention_bytes);
/* Looks now, not only each minute. Does not wait. */
void store_retain_now(struct store *store);

/* Seals all rows that are committed by now. Blocks. Outcomes: STORE_FULL, STORE_STOPPED. */
int store_seal(struct store *store) MUST_USE;
/* The same; then all blocks are compacted as if their days were over. */
int store_compact(struct store *store) MUST_USE;

/* ---- writing ---- */

enum store_signal { STORE_METRICS = 1, STORE_LOGS = 2 };

#define STORE_SPOOL_BYTES 16

/* One scrape as the journal keeps it: hub-wide layout, values in the layout's order. */
struct store_row {
    int64_t time_us;
    uint32_t layout;
    uint32_t n_values;
    const double *values;   /* any bits where absent */
    const uint32_t *absent; /* positions, ascending; NULL when n_absent is 0 */
    uint32_t n_absent;
};

/*
 * A batch on its way. Made with store_batch_new() and filled with store_batch_add(), or made with
 * store_batch_new_logs(); then given to store_submit(), which owns it until done().
 */
struct store_batch {
    uint32_t agent;
    enum store_signal signal;
    uint8_t spool[STORE_SPOOL_BYTES];
    uint64_t sequence; /* of the batch; for a skip: the through_sequence */
    uint32_t crc32c;   /* of the request as it came */
    bool is_skip;      /* legal from any sequence at or above the next; no rows */
    bool is_begin;     /* the store's: store_run_begin() */
    bool is_sealed;    /* the store's */
    uint32_t skip_reason;
    uint64_t skip_records;
    uint64_t n_samples; /* present values, counted by store_batch_add() */
    /* Log records, and bytes of their bodies and attributes; of store_batch_new_logs(). */
    uint64_t n_records, n_record_bytes;
    wall_us received;
    /*
     * On the writer's thread, after the commit: STORE_OK, _DUPLICATE, _GAP, _TOO_MUCH (the agent's
     * runs), _FULL or _STOPPED.
     * run_last is the run's last sequence on disk. The batch is the caller's again. Must not block.
     */
    void (*done)(struct store_batch *batch, int r, uint64_t run_last);
    void *ctx;
    struct store_batch *next; /* the store's */
    size_t n_rows;            /* the store's; of logs: packs */
    size_t n_bytes, capacity; /* of the payload behind; the store's */
};

/* `payload_bytes`: the sum of store_row_bytes() of what will be added. Faults: no memory. */
int store_batch_new(struct store_batch **ret, size_t payload_bytes) MUST_USE;
struct store_batch *store_batch_free(struct store_batch *batch);
DEFINE_CLEANUP(struct store_batch *, store_batch_free);
size_t store_row_bytes(uint32_t n_values, uint32_t n_absent);
/*
 * Appends a row; `order` (NULL: as it is) gives for each column of the layout the place in
 * row->values, and absent places are in row->values' order too.
 */
void store_batch_add(struct store_batch *batch, const struct store_row *row, const uint32_t *order);

/*
 * Outcomes: STORE_BUSY (the queue is full: another batch's done() comes when there is room),
 * STORE_FULL, STORE_STOPPED: it stays the caller's.
 */
int store_submit(struct store *store, struct store_batch *batch) MUST_USE;
/*
 * A hello whose run starts above what this store has of it (the hub was restored from a backup):
 * what is submitted after this may start at first_sequence. The gap goes on record in the journal
 * and is counted as lost. Nothing happens where there is no gap. crc32c_before: of the batch before
 * the first, as the hello says. Outcomes: as store_submit().
 */
int store_run_begin(struct store *store,
                    uint32_t agent,
                    enum store_signal signal,
                    const uint8_t spool[STORE_SPOOL_BYTES],
                    uint64_t first_sequence,
                    uint32_t crc32c_before) MUST_USE;

struct store_run {
    uint32_t agent;
    enum store_signal signal;
    uint8_t spool[STORE_SPOOL_BYTES];
    uint64_t last_sequence;
    uint32_t last_crc32c;
    wall_us last_use;
};
/* As of the last commit. Outcomes: STORE_NOT_FOUND. */
int store_run_get(struct store *store,
                  uint32_t agent,
                  enum store_signal signal,
                  const uint8_t spool[STORE_SPOOL_BYTES],
                  struct store_run *ret) MUST_USE;
/*
 * An agent has so many runs at most. A new one takes the place of the one that was used least
 * lately, if that lies STORE_RUN_CLOSED_US back: nobody goes on with it. Otherwise it is refused.
 */
#define STORE_RUNS_PER_AGENT 1000u
#define STORE_RUN_CLOSED_US (INT64_C(24) * 3600 * 1000000)

/* Whether the agent may begin a run that it does not have yet. Outcomes: STORE_TOO_MUCH. */
int store_run_may_begin(struct store *store, uint32_t agent, wall_us now) MUST_USE;
/* In the arena, newest first. */
int store_run_list(struct store *store,
                   uint32_t agent,
                   struct arena *arena,
                   struct store_run **ret,
                   size_t *ret_n) MUST_USE;
