#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The store as a whole: its parts, and the order of their locks.
 *
 *   store.c, db.[ch]   open, stop, close, status; LMDB's environments and error codes
 *   state/      the environment `state`: its writer, table.c the registry's rows, agents.[ch] who
 *               sends, catalog.[ch] definitions and layouts, forget.c those that nothing uses
 *   journal/    batch.[ch] on the calls' threads, writer.[ch] the queue, group.c one group commit,
 *               journal.[ch] segments (format.h draws them), runs.[ch] last sequences, heads.[ch]
 *               where rows stand, reader.[ch] a row out of it, replay.c the start, follow.[ch] for
 *               others
 *   days/       days.[ch] sealed blocks, an environment for each day (and of roll-ups for each
 * month and year), tables.c record.c mend.c; seal.[ch] the sealer: gather.c heads -> blocks,
 *               compact.c small blocks -> larger ones, retain.c old days go,
 *               erase.c agents that were forgotten; scan.[ch] rows.c
 * reading rollup/     roll-ups of what is over: rollup.h says which file does what logs/ logs.h
 * objects/  objects.h, uploads      inventory/  inventory.h survey/     looking through all of it
 *   copy/       backup.[ch] a copy of all as of one moment, restore.c back again, copy.[ch]
 *               environments and files, pause.[ch] nothing is sealed meanwhile
 *   codec/, block/, logblock/  what a block is; pure
 *
 * Locks, in the order they may be taken: state.work_lock, agents.lock, catalog.lock, an agent's
 * lock, runs.lock, writer.queue.lock, state.queue.lock, days.lock, sealer.shared.lock, follow.lock,
 * journal.open.lock, objects.queue.lock, inventory.queue.lock, inventory.known.lock, disk.lock,
 * writer.stats.lock, objects.stats.lock, tails.lock. No callback to the caller is made with one of
 * them held, but LMDB's own.
 */

#include <stdatomic.h>

#include "server/store/days/seal.h"
#include "server/store/inventory/inventory.h"
#include "server/store/journal/follow.h"
#include "server/store/journal/journal.h"
#include "server/store/journal/runs.h"
#include "server/store/journal/writer.h"
#include "server/store/logs/logs.h"
#include "server/store/objects/objects.h"
#include "server/store/state/agents.h"
#include "server/store/state/catalog.h"
#include "server/store/state/state.h"

#define STORE_DISK_CHECK_US 100000

struct store {
    struct store_options options;
    char *directory;
    int lock_fd;
    struct state state;
    struct agents agents;
    struct catalog catalog;
    struct runs runs;
    struct journal journal;  /* not opened when shared */
    uint64_t replayed_chunk; /* chunks below it were there at the start */
    struct writer writer;
    struct days days; /* not opened when shared */
    struct days logs;
    struct days rolled[ROLL_TIERS];
    struct sealer sealer;
    struct tails tails;
    _Atomic uint32_t n_log_searches;
    struct objects objects;     /* not opened when shared */
    struct inventory inventory; /* not opened when shared */
    struct {
        pthread_mutex_t lock;
        struct store_follower *first;
    } follow;
    _Atomic int64_t retention_us;
    _Atomic uint64_t retention_bytes;
    _Atomic int64_t logs_retention_us;
    _Atomic uint64_t logs_retention_bytes;
    _Atomic int64_t retention_rolled_us[ROLL_TIERS];
    struct {
        pthread_mutex_t lock;
        mono_us next_check;
        bool is_above; /* full_percent */
        uint64_t free_bytes;
    } disk;
    _Atomic bool has_failed;
    bool is_started;
    uint64_t n_damaged; /* chunks that the start passed over */
};

/* The disk is above full_percent; looked at every 100 ms at most. */
bool store_disk_is_above(struct store *store);
/* It would not be with so many bytes more. */
bool store_disk_has_room(struct store *store, uint64_t n_bytes);

/* An error of the disk that is not "full": on_fatal, once; nothing is acknowledged from now on. */
void store_fail(struct store *store);

/* Reads all segments into runs, heads and counters. Before the threads. */
int store_replay(struct store *store) MUST_USE;
/* Then what nothing uses any more goes from the catalogue; forget.c. */
int store_forget(struct store *store) MUST_USE;
