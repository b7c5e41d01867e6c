#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Survey, private to the store: what survey.c, which forks, and those that read one kind of
 * environment have in common.
 *
 *   survey.c          a process for each environment; what it tells comes through a pipe, what it
 *                     counts through shared memory, so that nothing is lost when it crashes
 *   journal.c  day.c  rolled.c  objects.c  inventory.c
 *   state.c
 *
 * Journal, days and roll-ups first: what they use (agent and layout) is kept, and looked for in
 * `state` at the end. The other way round a running hub could make new ones in between.
 *
 * Thread: one.
 */

#include "common/base/buf.h"
#include "server/store/db.h"
#include "server/store/store.h"

/* Rows of this agent and layout are there. n_columns 0: how many is not known. */
struct survey_use {
    uint32_t agent, layout, n_columns, zero;
};
/* As layouts: something of the agent is there that has none. */
#define SURVEY_LOGS UINT32_MAX
#define SURVEY_UPLOADS (UINT32_MAX - 1)
#define SURVEY_INVENTORY (UINT32_MAX - 2)

/* Open addressing; agent 0: free. */
struct survey_uses {
    struct survey_use *slots;
    size_t n, capacity;
};

struct survey_shared {
    struct store_found found;
    struct store_environment environment; /* its path unset */
    uint64_t n_read_bytes;                /* of the environment under way */
    uint64_t next_chunk;                  /* of the segments so far; 0: none */
};

struct survey {
    const struct store_survey *asked;
    struct survey_shared *shared;
    struct survey_uses uses;
    struct buf gone;  /* struct retain_gone: rows of these days in the journal are nobody's */
    const char *path; /* the environment under way */
    uint64_t n_beside_bytes; /* of files beside it that are read too */
    int32_t period;          /* its number: of a day, a month, a year */
    /* In the process of an environment. */
    int fd;
    struct buf out;
};

/*
 * Each reads one environment. 0 also when it is damaged, or gone by now. Faults: memory, the pipe,
 * the environment may not be read. Outcomes, survey_state() alone: STORE_NEWER (told).
 */
int survey_journal(struct survey *survey) MUST_USE;
int survey_day(struct survey *survey) MUST_USE;
int survey_logs(struct survey *survey) MUST_USE;
int survey_minutes(struct survey *survey) MUST_USE;
int survey_hours(struct survey *survey) MUST_USE;
int survey_objects(struct survey *survey) MUST_USE;
int survey_state(struct survey *survey) MUST_USE;
int survey_inventory(struct survey *survey) MUST_USE;
/* Before all others: which days are gone, from `state`. What is wrong there is told by the above.
 */
int survey_gone(struct survey *survey) MUST_USE;

/* ---- for them ---- */

/* Opens it for reading. Outcomes: STORE_NOT_FOUND (gone, or damaged and told). */
int survey_open(struct survey *survey, unsigned n_tables, MDB_env **ret) MUST_USE;
/* An answer of LMDB's that ends the reading: tells damage, or is a fault. 0 for MDB_NOTFOUND. */
int survey_end(struct survey *survey, int rc, const char *what) MUST_USE;

/* Something is damaged. */
int survey_damage(struct survey *survey, const char *what, const char *key_format, ...)
    PRINTF_LIKE(3, 4) MUST_USE;
int survey_use(struct survey *survey, uint32_t agent, uint32_t layout, uint32_t n_columns) MUST_USE;
/* Each layout of a list of struct day_span, where no block or record is opened. */
int survey_use_spans(struct survey *survey, uint32_t agent, struct span spans) MUST_USE;
int survey_metric(struct survey *survey, const char *name, uint64_t n_series) MUST_USE;
int survey_newer(struct survey *survey, const char *why) MUST_USE;
int survey_tell_gone(struct survey *survey, struct span gone) MUST_USE;

/* The first agent from `from` on that one of the tables has a key of; 0: none. */
int survey_next_agent(struct survey *survey,
                      MDB_cursor *const *cursors,
                      const char *const *names,
                      size_t n,
                      uint32_t from,
                      uint32_t *ret) MUST_USE;

/* Each row of a table whose key begins with the agent. */
int survey_each_of(struct survey *survey,
                   MDB_cursor *cursor,
                   const char *table,
                   uint32_t agent,
                   int (*fn)(void *ctx, MDB_val key, MDB_val value),
                   void *ctx) MUST_USE;

/* Counts pages of the environment: those of these tables are not free. */
void survey_pages(struct survey *survey, MDB_txn *txn, const MDB_dbi *tables, size_t n);

/* Adds a use; NULL: no memory. *ret_is_new: it was not there. */
const struct survey_use *
survey_uses_add(struct survey_uses *uses, const struct survey_use *use, bool *ret_is_new);
