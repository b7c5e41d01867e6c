#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Days: sealed blocks, an LMDB environment for each day (UTC) of the rows' times.
 *
 *   <db>/default/metrics/20261126/   data.mdb, lock.mdb
 *     blocks   agent u32, first time i64 (sign bit turned), seal u64, part u16, all big-endian
 *              -> struct day_prefix, then the block (server/store/block)
 *     agents   agent u32 (big-endian) -> struct day_agent, then its spans (struct day_span): how
 *              far the agent's rows of this day are sealed, and what there is of each layout
 *     meta     "format" -> u32, "seal" -> u64: the highest seal number in it; "begun" -> struct
 *              day_begun, where the day is made anew; "erased": its file is to be written anew, as
 *              free pages of it have what was an erased agent's
 *
 * A seal number names one commit of one day; they grow over all days. A row is sealed if and only
 * if its position is at or below the one its own day has for the agent: block and position are one
 * transaction. A compacted block carries the highest number of its sources.
 *
 * Every block has that position too, so that an agent's record that cannot be read is not a day of
 * which nothing is sealed, whose rows would come once more out of the journal: it is made anew from
 * the blocks (mend.c), in memory where it is met and on disk at the next start. What it may
 * know above them is of rows that were damaged in the journal and made no block.
 *
 * A day counts from the commit of its meta on; an environment without it is a beginning that was
 * cut short, and is begun anew. A damaged day is set aside at the next start (its directory gets
 * another name) and the rest serves.
 *
 * A day of logs (logs.h), and a month or a year of roll-ups (rollup.h), is a "day" as well, in a
 * directory of its own: what is said here of making, opening, damage and going is the same for all
 * of them. DAYS_OPEN counts for each kind.
 *
 * Environments open when they are used, at most DAYS_OPEN of them without a user; a removed one
 * closes after its last user.
 *
 * Thread: any, but one at a time writes (the sealer; or the start, before it).
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/buf.h"
#include "server/store/db.h"
#include "server/store/journal/format.h"

#define DAY_MAP_BYTES (UINT64_C(64) << 30) /* sparse */
#ifdef __SANITIZE_THREAD__                 /* which leaves no address space for more */
#define DAY_ROLLED_MAP_BYTES (UINT64_C(1) << 34)
#else
#define DAY_ROLLED_MAP_BYTES (UINT64_C(1) << 40) /* of a month, a year */
#endif
#define DAY_US (INT64_C(86400) * 1000000)
#define DAY_FORMAT 2u
#define DAYS_OPEN 64u
#define DAY_META_ERASED "erased"

struct day_prefix {
    uint32_t crc32c; /* of the key, then of what follows up to the block */
    uint32_t n_rows; /* of all layouts */
    int64_t last_us;
    uint64_t n_samples;
    uint32_t level : 8;   /* 0 as sealed, 1 an hour, 2 a day */
    uint32_t source : 24; /* of logs: a part of the source's hash; else 0 */
    /* The agent's rows of this day were sealed up to here with it; zero in roll-ups. */
    uint32_t offset;
    uint64_t chunk;
};

struct day_agent {
    uint32_t crc32c; /* of the key, then of all that follows */
    uint32_t n_spans;
    uint64_t chunk;
    uint32_t offset;
    uint32_t zero;
};

struct day_span {
    uint32_t layout, zero;
    int64_t first_us, last_us;
    uint64_t n_rows;
};

static_assert(sizeof(struct day_prefix) == 40, "on disk");
static_assert(sizeof(struct day_agent) == 24, "on disk");
static_assert(sizeof(struct day_span) == 32, "on disk");

/* A day that is made anew, where windows (rollup.h) know more of it than its blocks. */
struct day_begun {
    uint64_t seal;  /* the highest seal number of before; 0: it is not one of these */
    uint64_t chunk; /* rows below it are from before, and come once more out of the journal */
};

static_assert(sizeof(struct day_begun) == 16, "on disk");

struct day_key {
    uint32_t agent;
    int64_t first_us;
    uint64_t seal;
    uint16_t part;
};

#define DAY_KEY_BYTES 22

struct days_kind;

struct day {
    const struct days_kind *kind;
    int32_t number; /* days since 1970; months or years where these are the periods */
    char path[512];
    struct day *next;
    /* Under the lock of days; env and its tables hold still for who uses it. */
    MDB_env *env;
    MDB_dbi blocks, agents, meta, marks;
    uint32_t n_users;
    uint64_t last_use;
    bool is_removed;
    _Atomic bool is_damaged; /* nothing more is written to it */
    /* The writer's: records of agents that cannot be read were met. */
    bool has_bad_agents;
    bool has_erased; /* the writer's: free pages have what was erased (erase.c) */
    /* The writer's: commits of blocks since the last whole sweep of the compactor. */
    uint64_t n_new;
    struct day_begun begun;
};

/* What periods there are, and where. */
struct days_kind {
    const char *name; /* of the directory */
    size_t n_digits;  /* of 20261126 in the name of a period */
    int32_t (*of)(int64_t time_us);
    int64_t (*begin_us)(int32_t number);
    bool has_marks; /* a table more: rollup.h */
};

extern const struct days_kind days_of_samples, days_of_logs, days_of_minutes, days_of_hours;

struct days {
    const struct days_kind *kind;
    char directory[480];
    uint64_t map_bytes;   /* of each day */
    bool cannot_exchange; /* the writer's: this file system has no RENAME_EXCHANGE */
    bool is_open;
    uint64_t max_seal;    /* at the start: the highest in any day */
    struct buf set_aside; /* i32: damaged ones that lie beside, as often as they do */
    pthread_mutex_t lock;
    struct day *first; /* ascending */
    uint32_t n_open;
    uint64_t n_uses;
};

static inline int32_t day_of(int64_t time_us)
{
    int64_t day = time_us / DAY_US - (time_us % DAY_US < 0);

    return (int32_t) day;
}

/* The period that a directory is named after; false: none. */
bool day_number_of(const struct days_kind *kind, const char *name, int32_t *ret);

/* Finds what is there. Outcomes: STORE_FULL. */
int days_open(struct days *days,
              const char *database,
              const struct days_kind *kind,
              uint64_t map_bytes) MUST_USE;
void days_close(struct days *days);

/* With its environment open until days_release(). Outcomes: STORE_NOT_FOUND (none, or damaged). */
int days_use(struct days *days, int32_t number, struct day **ret) MUST_USE;
/* The same; makes it when there is none. Outcomes: STORE_FULL, STORE_NOT_FOUND (damaged). */
int days_make(struct days *days, int32_t number, struct day_begun begun, struct day **ret) MUST_USE;
void days_release(struct days *days, struct day *day);

/* The first day at or after `number`: INT32_MAX when there is none. */
int32_t days_next(struct days *days, int32_t number);
/* Whether a damaged one lies beside. */
bool days_is_set_aside(const struct days *days, int32_t number);
/* The last day that was begun anew: INT32_MIN when there is none. */
int32_t days_last_begun_anew(struct days *days);
/* The least begun.chunk of a day above this one: UINT64_MAX when there is none. */
uint64_t days_next_begun(struct days *days, uint64_t chunk);

/* Pages that went take much of its file. */
bool day_wants_rewrite(struct day *day);
/* Its file written anew without free pages, in the place of the old one at once or not at all.
 * Outcomes: STORE_FULL (it stays as it is). */
int days_rewrite(struct days *days, int32_t number) MUST_USE;

/* Gone from the table and from the disk; it closes after its last user. */
int days_remove(struct days *days, int32_t number) MUST_USE;

/* What its pages say leads nowhere: said once, set aside at the next start. */
void day_found_damage(struct day *day, const char *why);

uint64_t day_file_bytes(const struct day *day);
uint64_t days_file_bytes(struct days *days);
size_t days_count(struct days *days);
void days_check_readers(struct days *days);

/* ---- tables.c: inside a transaction ---- */

void day_key_put(uint8_t to[static DAY_KEY_BYTES], const struct day_key *key);
bool day_key_get(MDB_val from, struct day_key *ret);

/* The block behind a good prefix; false: the prefix is damaged. */
bool day_prefix_get(MDB_val key, MDB_val value, struct day_prefix *ret, struct span *ret_block);
uint32_t day_prefix_crc(MDB_val key, const struct day_prefix *prefix);

/*
 * How far an agent is sealed, and its spans (NULL: not wanted), appended to `ret_spans`. What is
 * damaged is said, and made anew from the blocks. Outcomes: STORE_NOT_FOUND.
 */
int day_agent_get(struct day *day,
                  MDB_txn *txn,
                  uint32_t agent,
                  struct position *ret,
                  struct buf *ret_spans) MUST_USE;
int day_agent_put(struct day *day,
                  MDB_txn *txn,
                  uint32_t agent,
                  struct position sealed,
                  struct span spans) MUST_USE;

/* What is in an agent's record; false: it is damaged. */
bool day_agent_read(MDB_val key,
                    MDB_val value,
                    struct position *ret_sealed,
                    struct span *ret_spans);

/* Every agent of the day, in order; then those whose record is damaged, made anew from the blocks;
 * `spans` is borrowed during the call. */
int day_agents_each(struct day *day,
                    int (*fn)(void *ctx, uint32_t agent, struct position sealed, struct span spans),
                    void *ctx) MUST_USE;

/* A row more of a layout: `spans` holds struct day_span. */
void day_spans_add(struct buf *spans, const struct day_span *more);

/* ---- mend.c: records of agents, made anew from the blocks ---- */

/* Appends the spans (NULL: not wanted). Outcomes: STORE_NOT_FOUND (the agent has no block). */
int day_mend_agent(struct day *day,
                   MDB_txn *txn,
                   uint32_t agent,
                   struct position *ret,
                   struct buf *ret_spans) MUST_USE;
/* Every agent that has blocks, and no record that can be read. */
int day_mend_each(struct day *day,
                  MDB_txn *txn,
                  int (*fn)(void *ctx, uint32_t agent, struct position sealed, struct span spans),
                  void *ctx) MUST_USE;
/* Writes them; where there is no room, they stay for the next start. The start's, or the
 * sealer's. */
int day_mend(struct day *day) MUST_USE;
