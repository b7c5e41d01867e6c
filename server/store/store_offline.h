#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What commands do to a database as a whole: look through it, copy it, bring a copy back. A part of
 * store.h, which others include. All of it works beside a running hub (which is never slowed by
 * more than the disk is) and without one; the hub's flock is never asked for.
 *
 * Thread: the caller's alone; blocks. store_survey() forks, so it is for programs of one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/span.h"
#include "server/store/store_table.h"

struct store;
struct store_why;

/* ---- looking through all of it ---- */

#define STORE_LEVELS 3 /* of blocks: as sealed, of an hour, of some hours */

struct store_level {
    uint64_t n_blocks, n_rows, n_samples;
    uint64_t n_bytes; /* its share of the days' files, whose other bytes are shared out by size */
};

struct store_found {
    uint64_t n_segments, n_chunks, n_batches, n_journal_rows, n_journal_samples;
    uint64_t journal_bytes, n_journal_free_pages;
    uint64_t n_days, day_bytes, n_day_free_pages;
    struct store_level levels[STORE_LEVELS];
    uint64_t state_bytes, n_state_free_pages;
    uint64_t n_agents, n_definitions, n_layouts, n_certificates;
    uint64_t n_series;                     /* definitions of agents that have rows of them */
    uint64_t n_samples, n_skipped, n_lost; /* as the agents' records count them, without what is
                                              behind these in the journal */
    int64_t newest_commit_us;              /* of a batch in the journal; 0: there is none */
    uint64_t n_damaged;
};

struct store_damage {
    const char *path; /* of the environment */
    const char *key;  /* in it: "chunk 17", "agent 3, block of 2026-11-26T10:00:00.000Z, seal 4" */
    const char *what; /* "bad checksum" */
};

enum store_environment_kind { STORE_JOURNAL_SEGMENT = 1, STORE_DAY, STORE_STATE };

struct store_environment {
    enum store_environment_kind kind;
    const char *path;
    uint64_t n_bytes; /* of its file, with free pages */
    uint64_t n_pages, n_free_pages;
    uint64_t n_records; /* chunks, blocks, rows of tables */
    uint64_t n_samples;
};

/*
 * Reads every environment, each in a process of its own: pages that lead nowhere end that process
 * and not this one. Only counts, or (is_deep) checks every checksum and decodes every column, and
 * whether things that name each other fit.
 *
 * Beside a running hub each agent's part of a day is one snapshot; the counts of the whole are not.
 */
struct store_survey {
    const char *directory; /* <state>/db */
    bool is_deep;
    /* NULL, or: what is wrong with a row of META, CERTIFICATES, OPERATORS, LABELS; NULL: nothing.
     * Called in another process. */
    const char *(*check_row)(void *ctx, enum store_table table, struct span key, struct span value);
    /* Any of them may be NULL. */
    void (*on_damage)(void *ctx, const struct store_damage *damage);
    void (*on_environment)(void *ctx, const struct store_environment *environment);
    /* The metrics with the most series, most first. */
    void (*on_metric)(void *ctx, const char *name, uint64_t n_series);
    void (*on_progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void *ctx;
    struct store_found found;
};

/* Damage is no fault: it is counted. Outcomes: STORE_NOT_FOUND, STORE_NEWER; ret_why has the
 * remedy. */
int store_survey(struct store_survey *survey, struct store_why *ret_why) MUST_USE;
