#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sealer: heads become blocks of their days, the journal behind them goes, and old days go.
 *
 * One thread. Each second, and when the journal grows above its limit, it takes the agents whose
 * rows are due (older than seal_age_us, more than SEAL_VALUES values, or the journal too long),
 * encodes their rows up to a position, a block for each day, and commits many agents with one
 * transaction for each day (blocks, and how far each agent is sealed in that day). Then, agent by
 * agent and under its lock, the rows of that day leave the head and the blocks become visible
 * (agent.seal): a reader sees each row once.
 *
 * A segment of the journal that no head points into any more goes, oldest first, after the counters
 * of the agents are in `state` up to there.
 *
 * When the journal is twice its limit, the writer waits for the sealer: what agents send is slowed,
 * not lost. A sealer that finds the disk or a day full says so and tries again each second; a
 * compaction that does passes over the day until the next one.
 *
 * While a backup copies (pause.h) there are no rounds, and the writer does not wait for any.
 *
 * Packs of logs become blocks of their own days in the same way (logs.h), some mebibytes in each
 * round.
 *
 * Between seals it rolls up what is over (rollup.h), compacts (compact.c) and lets go of what is
 * older than the retention (retain.c).
 *
 * Thread: its own; what is said to be for others, any.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/buf.h"
#include "server/store/block/block.h"
#include "server/store/copy/pause.h"
#include "server/store/days/days.h"
#include "server/store/journal/heads.h"
#include "server/store/rollup/rollup.h"

#define SEAL_VALUES (UINT64_C(1) << 18) /* of an agent; and at most in one block */
#define SEAL_ROWS 65536u                /* at most in one block */
#define SEAL_GROUP_BYTES (32u << 20)    /* of encoded blocks, in one group of commits */
#define SEAL_GROUP_AGENTS 4096u

struct store;
struct agent;
struct logs_sealer;
struct logs_sweep;

/* One block on its way to a day. */
struct seal_block {
    struct agent *agent;
    int32_t day;
    struct day_key key;
    struct day_prefix prefix;
    size_t at, len;           /* in the group's bytes */
    size_t spans_at, n_spans; /* in the group's spans */
    struct head_row up_to;    /* sealed with it */
};

struct seal_group {
    struct seal_block *blocks;
    size_t n_blocks, capacity;
    struct buf bytes, spans; /* encoded blocks; struct day_span */
    size_t n_agents;
    uint64_t n_damaged;
};

/* How far the compaction has come; compact.c. */
struct sweep {
    bool is_running;
    bool is_whole; /* no scan was in the way on this day */
    bool is_short; /* a day had no room for it */
    int64_t hour;  /* of the last one */
    int64_t now_us;
    int32_t day;
    uint32_t agent;
    uint64_t n_new; /* of the day, when its first agent was looked at */
    /* Behind the days: months and years that lost something. */
    size_t tier;
    int32_t period;
};

struct sealer {
    struct store *store;
    pthread_t thread;
    bool has_thread;
    uint64_t seal; /* the last number given */
    struct codec_work work;
    struct seal_group group;
    struct gather *gather; /* gather.c */
    struct roller *roller; /* rollup.c */
    struct sweep sweep;
    struct logs_sealer *logs; /* logs/seal.c */
    struct logs_sweep *logs_sweep;
    struct pause pause;
    char no_room[512];    /* where the last STORE_FULL was met */
    bool is_day_at_limit; /* and not the disk */
    bool is_retention_stuck;
    bool is_erasure_stuck;
    uint32_t last_erased; /* the agent whose turn was last */
    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake, progress;
        bool is_stopping;
        bool is_stuck; /* no room on the disk or in a day */
        bool is_sweep_short;
        bool is_paused; /* for a backup */
        bool wants_all, wants_sweep, wants_retention;
        bool wants_logs_sweep, is_logs_sweep_short;
        uint64_t n_passes, n_sweeps; /* whole ones */
        uint64_t n_sweeps_begun, n_logs_sweeps, n_logs_sweeps_begun;
        uint64_t n_blocks, n_rows, n_samples, n_bytes; /* since the start */
        uint64_t n_compacted, n_rolled, n_damaged, n_days_gone;
        uint64_t n_log_blocks, n_log_records, n_log_raw_bytes, n_log_bytes, n_logs_compacted;
        int64_t busy_us;
        int64_t roll_us; /* CPU time */
        uint64_t n_rolled_bytes;
    } shared;
};

int sealer_start(struct sealer *sealer, struct store *store) MUST_USE;
/* Ends after the commit under way. Blocks. */
void sealer_stop(struct sealer *sealer);
void sealer_deinit(struct sealer *sealer);

/* The writer's: waits while the journal is twice its limit and the sealer gets on. Any thread. */
void sealer_wait_for_room(struct sealer *sealer);
/* Seals what is in the heads now and behind it in the journal. Blocks. Any thread. Outcomes:
 * STORE_FULL, STORE_STOPPED. */
int sealer_seal_now(struct sealer *sealer) MUST_USE;
struct store_stats;
/* Seals all, then compacts every day as if it were over. The same. */
int sealer_compact_now(struct sealer *sealer) MUST_USE;
void sealer_tell(struct sealer *sealer, struct store_stats *ret);
/* Looks at the retention in its next round. Any thread. */
void sealer_retain_soon(struct sealer *sealer);
/* No room for blocks: the store is full, whatever the journal says. Any thread. */
bool sealer_is_stuck(struct sealer *sealer);

/* ---- gather.c: rows of one agent out of the journal, column by column ---- */

struct gather *gather_new(void);
struct gather *gather_free(struct gather *gather);

/*
 * Adds to the group the blocks of an agent's rows in its heads, the oldest ones up to SEAL_VALUES.
 * No rows: none. Faults: no memory, the journal cannot be read.
 */
int gather_agent(struct sealer *sealer, struct agent *agent, struct seal_group *group) MUST_USE;

/* ---- seal.c, for the others of this thread ---- */

/* Puts a block; `key` has its seal number. Outcomes: STORE_FULL. */
int seal_put_block(struct day *day,
                   MDB_txn *txn,
                   const struct day_key *key,
                   struct day_prefix *prefix,
                   struct span block) MUST_USE;
bool sealer_is_stopping(struct sealer *sealer);
/* Where STORE_FULL was met, for who is told of it. */
void seal_note_no_room(struct sealer *sealer, const char *path, MDB_env *env);

/* ---- compact.c ---- */

/* Rewrites blocks of at most some agents, going round; true: there is more to do. A day that has no
 * room for it is passed over. */
int compact_step(struct sealer *sealer, bool *ret_has_more) MUST_USE;
/* A day's file without free pages, when there is room for it beside. Outcomes: STORE_FULL. */
int compact_rewrite(struct sealer *sealer, struct days *days, struct day *day) MUST_USE;
/* That a day, month or year stays larger than it need be. */
void compact_say_no_room(struct sealer *sealer, const struct day *day);
/* The level that blocks of a day up to `last_us` should have by now. */
uint32_t compact_level_due(const struct day *day, int64_t last_us, int64_t now_us);
#define COMPACT_SETTLED_US INT64_C(600000000) /* hours and days are over so much later */

/* ---- erase.c ---- */

/* Of agents that were forgotten: drops their heads, and takes what one of them has out of every
 * day. Where there is no room it says so, goes on with the others and tries again when their turns
 * are over, at most one in a second. */
int erase_step(struct sealer *sealer, bool *ret_has_more) MUST_USE;
/* Of a day that has_erased: its file without it. Outcomes: STORE_FULL. */
int erase_rewrite(struct sealer *sealer, struct days *days, struct day *day) MUST_USE;
/* The same of months and years of roll-ups, one in each call: the sweep's tier and period say how
 * far it is. One without room is passed over. */
int erase_rewrite_rolled(struct sealer *sealer, bool *ret_has_more) MUST_USE;

/* ---- retain.c ---- */

/* A day that went, with the rows of it in chunks below this one. */
struct retain_gone {
    int32_t day;
    uint32_t zero;
    uint64_t chunk;
};

/* Days of which there is the word that they went, each kind on its own. */
enum retain_kind { RETAIN_METRICS, RETAIN_LOGS, RETAIN_KINDS };

/* For the start: appends struct retain_gone. */
int retain_load(struct store *store, enum retain_kind kind, struct buf *ret) MUST_USE;

/* The first period of roll-ups that is kept. */
int32_t retain_first_rolled(struct store *store, enum roll_tier tier);

/* Days older than the retention go, then the oldest ones while there are more bytes than allowed.
 * Outcomes: STORE_FULL.
 */
int retain(struct sealer *sealer) MUST_USE;
