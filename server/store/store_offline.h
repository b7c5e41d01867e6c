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

#define STORE_TIERS 2 /* of roll-ups: windows of a minute, of an hour */

struct store_rolled {
    uint64_t n_periods; /* months, years */
    uint64_t n_bytes, n_free_pages;
    uint64_t n_records, n_windows; /* a window of a layout is one, whatever its columns */
    uint64_t n_samples;            /* that they were made of */
};

struct store_found_logs {
    uint64_t n_days, n_bytes, n_free_pages;
    uint64_t n_blocks, n_records;
    uint64_t n_raw_bytes; /* of bodies and attributes, as they came */
};

struct store_found {
    uint64_t n_segments, n_chunks, n_batches, n_journal_rows, n_journal_samples;
    uint64_t n_journal_packs, n_journal_records, n_journal_raw_bytes; /* of logs */
    uint64_t journal_bytes, n_journal_free_pages;
    uint64_t n_days, day_bytes, n_day_free_pages;
    struct store_level levels[STORE_LEVELS];
    struct store_found_logs logs;
    struct store_rolled rolled[STORE_TIERS];
    uint64_t inventory_bytes, n_inventory_free_pages; /* of its file */
    uint64_t n_inventories, n_inventory_revisions, n_inventory_contents;
    uint64_t inventory_table_bytes, inventory_packed_bytes; /* of contents, as sent and as kept */
    uint64_t state_bytes, n_state_free_pages;
    uint64_t n_agents, n_definitions, n_layouts, n_certificates;
    uint64_t n_series; /* definitions of agents that have rows or roll-ups of them */
    /* As the agents' records count them, without what is behind these in the journal. */
    uint64_t n_samples, n_skipped, n_lost, n_log_records, n_log_bytes;
    uint64_t n_uploads, n_unfinished, n_contents, content_bytes; /* a shared content once */
    uint64_t objects_bytes, n_objects_free_pages;                /* of the uploads' index */
    int64_t newest_commit_us; /* of a batch in the journal; 0: there is none */
    uint64_t n_damaged;
};

struct store_damage {
    const char *path; /* of the environment */
    const char *key;  /* in it: "chunk 17", "agent 3, block of 2026-11-26T10:00:00.000Z, seal 4" */
    const char *what; /* "bad checksum" */
};

enum store_environment_kind {
    STORE_JOURNAL_SEGMENT = 1,
    STORE_DAY,
    STORE_LOG_DAY,
    STORE_STATE,
    STORE_MINUTES, /* a month of roll-ups */
    STORE_HOURS,   /* a year of them */
    STORE_INVENTORY,
    STORE_UPLOADS /* their index; its bytes are those of contents that were read too */
};

struct store_environment {
    enum store_environment_kind kind;
    const char *path;
    uint64_t n_bytes; /* of its file, with free pages */
    uint64_t n_pages, n_free_pages;
    uint64_t n_records; /* chunks, blocks, records of roll-ups, rows of tables */
    uint64_t n_samples; /* of logs: records */
};

/*
 * Reads every environment, each in a process of its own: pages that lead nowhere end that process
 * and not this one. Only counts, or (is_deep) checks every checksum and decodes every column, and
 * whether things that name each other fit.
 *
 * Beside a running hub each agent's part of a day, a month or a year is one snapshot; the counts of
 * the whole are not.
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
int store_survey(struct store_survey *asked, struct store_why *ret_why) MUST_USE;

/* ---- backup ---- */

/*
 * A copy of a state directory as it was at one moment, beside a running hub or without one: what
 * was acknowledged before store_backup() began is in it, each sample once, with the counters that
 * belong to it. The hub goes on taking batches; it seals nothing meanwhile (pause.h).
 *
 * All is written, durably, to <to>.partial and renamed at the end: what is called `to` is whole. A
 * <to>.partial that an earlier, cut backup left goes first.
 *
 * In this order, whose reasons are these:
 *   agents    their counters say up to where in the journal they count: never ahead of its copy
 *   days      nothing changes in them now
 *   inventory one snapshot; it names agents alone, which stay
 *   journal   the newest segment first: that is the moment, and the others are at their end then
 *   uploads   the index, then the files that it names: these are only appended to, and none goes
 * now state     with the agents as they were at first; has all that the rest names files
 * certificates, operators
 */
struct store_backup {
    const char *state_directory;
    const char *const *beside; /* files, and directories of files, in it; NULL at the end */
    const char *to;            /* not there yet, or empty */
    int64_t wait_us;           /* for the round of the sealer that is under way */
    /* Any of them may be NULL. */
    void (*on_progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void (*on_damage)(void *ctx, const struct store_damage *damage); /* left out */
    void *ctx;
    /* Out. */
    int64_t began_us;
    uint64_t n_bytes, n_days, n_segments, n_left_out;
};

/*
 * Outcomes: STORE_NOT_FOUND (no database), STORE_UNFIT (something is in the way at `to`),
 * STORE_BUSY (another backup, or the round does not end), STORE_FULL (no room at `to`). ret_why has
 * the remedy; nothing is left at `to`.
 */
int store_backup(struct store_backup *asked, struct store_why *ret_why) MUST_USE;

/* ---- restore ---- */

/*
 * A backup becomes a state directory: copied to <to>/restore.partial, looked through, marked, and
 * only then put in place, the database last.
 */
struct store_restore {
    const char *from;
    const char *to; /* not there yet, or empty */
    const char *(*check_row)(void *ctx, enum store_table table, struct span key, struct span value);
    /* With the database open (as an offline command has it), and the directory that will become
     * `to`: what else must change in it. An answer that is not 0 ends the restore. */
    int (*on_copied)(void *ctx, struct store *store, const char *state_directory);
    void (*on_progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void (*on_damage)(void *ctx, const struct store_damage *damage); /* restored as it is */
    void *ctx;
    /* Out. */
    struct store_found found;
    int64_t began_us; /* of the backup */
};

/* In META: when the database came from a backup, i64 microseconds UTC, and of when that was. */
#define STORE_RESTORED_KEY "restored"

/* Outcomes: STORE_NOT_FOUND (no backup), STORE_UNFIT (something is in the way), STORE_FULL,
 * STORE_NEWER. ret_why has the remedy; nothing is left at `to`. */
int store_restore(struct store_restore *asked, struct store_why *ret_why) MUST_USE;
