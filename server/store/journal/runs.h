#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Runs: (agent, signal, spool) -> last sequence, in memory.
 *
 * The BATCH records of the journal say all that is needed, so a commit appends only: the table is
 * loaded at the start from the newest segment's snapshot and the records behind it, and it is
 * written once, as the next segment's snapshot, at rotation.
 *
 * The writer owns the table. While it puts a group together it changes `pending`; a commit makes
 * that `committed`, which is what others see, and a failed one takes it back: nobody ever sees a
 * sequence that is not on disk.
 *
 * Thread: the writer (or the start, before it); runs_get(), runs_list(), runs_have_room() any.
 */

#include <pthread.h>

#include "common/base/list.h"
#include "common/base/map.h"
#include "server/store/store.h"

struct run_key { /* no padding: hashed as bytes */
    uint32_t agent;
    uint32_t signal;
    uint8_t spool[STORE_SPOOL_BYTES];
};

struct run_value {
    uint64_t last_sequence;
    int64_t last_use_us;
    uint32_t last_crc32c;
};

struct run {
    struct run_key key;
    struct run_value pending, committed;
    bool is_committed; /* it has been on disk */
    bool is_touched;
    struct run *next_touched;
    struct run_agent *agent;
    struct list in_agent;
};

struct run_agent {
    uint32_t number;
    uint32_t n_runs;
    struct list runs;
};

struct runs {
    pthread_mutex_t lock; /* the maps' shape, the agents' lists, and `committed` */
    struct map map, agents;
    struct run *touched;
};

int runs_init(struct runs *runs) MUST_USE;
void runs_deinit(struct runs *runs);

struct run_key run_key_of(uint32_t agent, enum store_signal signal, const uint8_t *spool);

/* The writer's view, or NULL. */
struct run *runs_find(struct runs *runs, const struct run_key *key);

/* Sets the pending value; makes the run when there is none. Faults: no memory. */
int runs_set(struct runs *runs,
             const struct run_key *key,
             const struct run_value *value,
             struct run **ret) MUST_USE;

void runs_commit(struct runs *runs);
/* Runs that were new are gone: pointers to them are void. */
void runs_rollback(struct runs *runs);

/* STORE_RUNS_PER_AGENT: whether there is room for one more, or one that can go. */
bool runs_have_room(struct runs *runs, uint32_t agent, int64_t now_us);
/* The same; and what can go is gone, if it must. What a rollback takes back is not among it. */
bool runs_make_room(struct runs *runs, uint32_t agent, int64_t now_us);
/* Those of an agent that was erased; the writer's, between commits. */
void runs_drop_agent(struct runs *runs, uint32_t number);
/* Those not used since. */
void runs_drop_unused(struct runs *runs, int64_t before_us);

/* Outcomes: STORE_NOT_FOUND. */
int runs_get(struct runs *runs, const struct run_key *key, struct store_run *ret) MUST_USE;
int runs_list(struct runs *runs,
              uint32_t agent,
              struct arena *arena,
              struct store_run **ret,
              size_t *ret_n) MUST_USE;
