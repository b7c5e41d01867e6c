#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * State: the small, precious environment: format, agents, definitions, layouts, the registry's
 * rows. Its writer commits all that waits in one transaction.
 *
 * Who changes something hands in a job: apply() puts it into the transaction, finish() hears how
 * the commit ended. An apply() that says STORE_FULL or a fault gives up the whole transaction;
 * another outcome is that job's own, and it has written nothing.
 *
 * Two ways in: state_queue() to the thread; state_run() waits for it, and where there is no thread
 * (offline commands, before the start, after the stop) does the work itself. LMDB's writer lock
 * serialises both with other processes.
 */

#include <pthread.h>

#include "server/store/db.h"
#include "server/store/store.h"

#define STATE_MAP_BYTES (UINT64_C(4) << 30) /* sparse */
/*
 * Written; also the newest min_reader that may be read. 2: packs of the journal may be blocks, and
 * blocks of logs may stand one behind the other, which a program of format 1 would take for damage
 * and pass over. What format 1 wrote stays as it is and is read.
 */
#define STATE_FORMAT 2u
#define STATE_TICK_US 10000000 /* agents are flushed this often */

enum state_table {
    STATE_META = STORE_TABLE_META,
    STATE_CERTIFICATES = STORE_TABLE_CERTIFICATES,
    STATE_OPERATORS = STORE_TABLE_OPERATORS,
    STATE_LABELS = STORE_TABLE_LABELS,
    STATE_IDENTITIES = STORE_TABLE_IDENTITIES,
    STATE_TOKENS = STORE_TABLE_TOKENS,
    STATE_AUDIT = STORE_TABLE_AUDIT,
    STATE_LIMITS = STORE_TABLE_LIMITS,
    STATE_AGENTS = STORE_N_TABLES, /* u32 -> agents.h */
    STATE_DEFINITIONS,             /* u32 -> catalog.h */
    STATE_LAYOUTS,                 /* u32 -> u32 ids, little-endian */
    STATE_N_TABLES
};

struct state_job {
    struct state_job *next;
    int (*apply)(struct state_job *job, MDB_txn *txn);
    void (*finish)(struct state_job *job, int r); /* may free the job; may be NULL */
    int r;
    bool is_waited_for, is_done; /* the state's */
};

struct state {
    MDB_env *env;
    MDB_dbi tables[STATE_N_TABLES];
    pthread_mutex_t work_lock; /* one group of jobs at a time */
    pthread_t thread;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake, done;
        struct state_job *first, **end;
        bool has_thread, is_stopping;
    } queue;
    /* After each transaction, before its finish(): what was prepared becomes visible, or goes.
     * Under work_lock. */
    void (*on_settle)(void *ctx, int r);
    /* The same for one that ended in a fault; without a lock. */
    void (*on_fault)(void *ctx);
    /* Every STATE_TICK_US and at the end of the thread. */
    void (*on_tick)(void *ctx);
    void *ctx;
};

const char *state_table_name(enum state_table table);

/* Makes the directory and the environment in it, durable but for the directory's own entry. */
int state_create(const char *directory) MUST_USE;
/* Outcomes: STORE_NOT_FOUND, STORE_NEWER. */
int state_open(struct state *state, const char *directory, struct store_why *ret_why) MUST_USE;
/* Before the first of what older programs cannot read is written: from here on they refuse the
 * database. The state as it was is kept beside it first, as format-N.mdb. Outcomes: STORE_FULL. */
int state_raise_format(struct state *state) MUST_USE;
void state_close(struct state *state);

int state_start(struct state *state) MUST_USE;
/* Does what is queued, then the last tick. */
void state_stop(struct state *state);

/* Outcomes: STORE_STOPPED (there is no thread; finish() is not called). */
int state_queue(struct state *state, struct state_job *job) MUST_USE;
/* The job's answer. Blocks. */
int state_run(struct state *state, struct state_job *job) MUST_USE;
/* On the state thread itself, from on_tick. */
int state_run_here(struct state *state, struct state_job *job) MUST_USE;

int state_put(struct state *state,
              MDB_txn *txn,
              enum state_table table,
              struct span key,
              struct span value) MUST_USE;

/* Rows that begin with `prefix`, in key order or backwards, in a transaction of the caller's. */
struct state_walk {
    struct span prefix;
    bool is_backwards;
    bool (*fn)(void *ctx, struct span key, struct span value); /* false: stop */
    void *ctx;
};
int state_walk(MDB_txn *txn, MDB_dbi table, const struct state_walk *walk) MUST_USE;

/*
 * Rows from `prefix` on, while they begin with it, in key order; the spans live during the call.
 * Returns false to stop.
 */
int state_each(struct state *state,
               enum state_table table,
               struct span prefix,
               bool (*fn)(void *ctx, struct span key, struct span value),
               void *ctx) MUST_USE;
