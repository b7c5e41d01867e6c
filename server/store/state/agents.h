#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Agents: who sends. All in memory, with the heads of their rows; what a hello says and the
 * counters go to `state` every ten seconds and at the stop.
 *
 * The record in `state`, under the agent's number (u32 big-endian), little-endian, times in us:
 *
 *   +0   u32 version (2)    +4   u32 interval in ms
 *   +8   i64 first seen     +16  i64 last seen      +24 i64 last sample    +32 i64 clock offset
 *   +40  u64 samples        +48  u64 skipped        +56 u64 lost
 *   +64  u64 counted: the counters have the journal's records up to this chunk
 *   +72  u32 host attributes    +76  u32 and up to this place in it
 *   +80  u64 log records        +88  u64 bytes of them     +96  u64 log records skipped
 *   +104 i64 last time of a log record; INT64_MIN: there is none
 *   +112 id NUL version NUL address NUL, then key NUL value NUL for each host attribute
 *
 * Version 1, which is read too, has nothing of logs: the texts begin at +80.
 *
 * `counted` makes the counters exact after kill -9: they and it are one record of one commit, and
 * the replay adds what lies behind it. It is a place, not a chunk: two batches of one agent may lie
 * in one chunk, and a flush may come between the two.
 *
 * An agent that was forgotten keeps its number, which is never given again, and nothing else: its
 * id becomes "~" and the number, which nobody can have, all that it said and counted becomes zero.
 * It is in no list, found by no name, and a new agent of the old id is another one. What there is
 * of it on disk goes from then on (days/erase.c); once that is done its version is "erased", so
 * that the next start knows.
 *
 * Thread: any; each agent has its lock, below the list's.
 */

#include <pthread.h>

#include "common/base/map.h"
#include "server/store/days/days.h"
#include "server/store/journal/format.h"
#include "server/store/journal/heads.h"
#include "server/store/logs/heads.h"
#include "server/store/state/idtable.h"
#include "server/store/state/state.h"

/* What an agent that was forgotten has left on disk. Set after the commit, and only upwards. */
enum erasure { ERASURE_NONE, ERASURE_UNDER_WAY, ERASURE_DONE };

struct agent {
    pthread_mutex_t lock;
    struct agent *next;       /* pending */
    struct store_agent facts; /* number and id never change; labels and n_series unused */
    struct store_logs_of logs_of;
    void *host; /* attributes and their texts, one piece of memory */
    struct heads heads;
    struct log_heads logs;
    /* Sealed rows, over all days, by layout; blocks with a higher seal number are still in the
     * heads. */
    struct buf spans;  /* struct day_span */
    struct buf rolled; /* the same, of what is rolled up; n_rows 0 */
    uint64_t seal;
    uint32_t n_scans; /* under way: no block of the agent may be compacted */
    uint32_t *series; /* definitions of all its layouts, ascending */
    uint32_t n_series;
    struct position counted, counted_at_start;
    /* Of the journal, the last with something of it; 0: none. The writer sets it before it looks
     * whether the agent is gone: who found that it is sees all that was written. */
    _Atomic uint64_t last_chunk;
    /* The sealer's. */
    uint64_t erased_below; /* rows of the journal from there on; 0: not done yet */
    bool is_erasure_short; /* the last try had no room */
    bool is_dirty, is_flushing;
    _Atomic bool is_forgotten; /* before the commit already */
    _Atomic bool is_due;       /* to be forgotten: the disk did not let it */
    _Atomic int erasure;       /* enum erasure */
};

struct agents {
    struct state *state;
    struct idtable table;
    pthread_rwlock_t lock; /* by_id */
    struct map by_id;
    _Atomic uint64_t n_forgotten; /* asked for so often; goes up under the state's work_lock */
    _Atomic bool has_due;         /* an agent is */
    /* The state writer's, within a transaction. */
    struct {
        struct map by_id;
        struct agent *agents;
        uint32_t next_number;
    } pending;
};

/* What a record counts, for who reads it without the rest. */
struct agent_counts {
    uint64_t n_samples, n_skipped, n_lost;
    uint64_t n_log_records, n_log_bytes;
    struct position counted;
};
/* False: it is none. */
bool agent_record_counts(uint32_t number, struct span record, struct agent_counts *ret);
/* The record as it would be before the first batch: the replay then counts all there is. */
void agent_record_clear_counts(struct span record, struct buf *to);

/* The record as it is now. With the agent's lock held. */
void agent_put_record(struct buf *to, const struct agent *agent);

int agents_open(struct agents *agents, struct state *state) MUST_USE;
void agents_close(struct agents *agents);
void agents_settle(struct agents *agents, int r);

/* Writes the changed ones; for the state thread's tick. A failure leaves them for the next. */
void agents_flush(struct agents *agents);
/* The same from any other thread; waits for the commit. Outcomes: STORE_FULL. */
int agents_flush_now(struct agents *agents) MUST_USE;

static inline struct agent *agents_get(struct agents *agents, uint32_t number)
{
    return idtable_get(&agents->table, number);
}

/* The same; NULL also for one that was forgotten. */
static inline struct agent *agents_known(struct agents *agents, uint32_t number)
{
    struct agent *found = agents_get(agents, number);

    return found && !atomic_load(&found->is_forgotten) ? found : NULL;
}

/* It was forgotten, and that is on disk: nothing of it is kept any more. */
static inline bool agent_is_gone(struct agent *of)
{
    return atomic_load(&of->erasure) != ERASURE_NONE;
}

/* As store_agent_*(). */
#define AGENTS_ANY_TIME UINT64_MAX /* whoever was forgotten since */
int agents_intern(struct agents *agents,
                  const char *id,
                  uint64_t since,
                  uint32_t *ret_number) MUST_USE;
size_t agents_count(struct agents *agents);
int agents_find(struct agents *agents, const char *id, uint32_t *ret_number) MUST_USE;
int agents_forget(struct agents *agents, const char *id, struct store_forgotten *ret) MUST_USE;
/* What was begun before the hub was killed (store_forget_key()). At the start. */
int agents_forget_begun(struct agents *agents) MUST_USE;
/* What the registry forgot and a full disk kept here; for the state thread's tick. True: some went.
 */
bool agents_forget_due(struct agents *agents);
/* The number of the agent of this id that the registry has forgotten and the store not yet; 0:
 * none. In a transaction of the caller's, or NULL: of its own. */
int agents_begun(struct agents *agents, MDB_txn *txn, const char *id, uint32_t *ret) MUST_USE;
/* Nothing of it is left. Blocks. Outcomes: STORE_FULL, STORE_STOPPED. */
int agents_set_erased(struct agents *agents, struct agent *agent) MUST_USE;
/* A record of an agent that was forgotten. */
bool agent_record_is_forgotten(uint32_t number, struct span record);
int agents_tell(struct agents *agents,
                uint32_t number,
                struct arena *arena,
                struct store_agent *ret) MUST_USE;
int agents_list(struct agents *agents,
                struct arena *arena,
                uint32_t **ret_numbers,
                size_t *ret_n) MUST_USE;
int agent_hello(struct agent *agent, const struct store_agent_hello *hello) MUST_USE;

/* What a BATCH, SKIP or BEGIN adds to the counters. With the lock held, in the journal's order. */
void agent_count(struct agent *agent, const struct format_batch *record, struct position at);
/* A row is on disk: it enters the head. With the lock held. Without a layout it adds no series. */
int agent_add_row(struct agent *agent,
                  const struct store_layout *layout,
                  uint32_t layout_id,
                  uint32_t n_values,
                  const struct head_row *row) MUST_USE;
/* A pack is on disk: the same. */
int agent_add_pack(struct agent *agent, const struct log_pack *pack) MUST_USE;
/* Log records up to this time were there, whether or not they are still packs. */
void agent_note_logs(struct agent *agent, int64_t last_us);
/* Rows of a day are sealed, or rolled up: `spans` is one of the agent's. With the lock held. */
int agent_add_span(struct agent *agent,
                   struct buf *spans,
                   const struct store_layout *layout,
                   const struct day_span *span) MUST_USE;
