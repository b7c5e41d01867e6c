#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Questions about inventories. A part of query.h, which others include.
 *
 * Rows of a table are spelt out up to QUERY_PAGE_BYTES in an answer; then a page token goes on
 * where it stopped, in the revisions of the first page, whatever came meanwhile. A content is
 * unpacked once for a question, whoever has it.
 *
 * Thread: on a reader. Everything an answer points to lives in the arena given.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"

struct query;
struct query_problem;
struct query_selector;

/* Clients take messages of 4 MiB; a row more than this may still be added. */
#define QUERY_PAGE_BYTES (2u << 20)
#define QUERY_MAX_TABLES 1000 /* named in one question */

struct query_row {
    const char **values;
};

/* ---- what an agent has ---- */

struct query_table {
    const char *name, *sha256; /* hex */
    const char **columns;
    size_t n_columns;
    struct query_row *rows;
    size_t n_rows;
    uint64_t n_total;
};
struct query_inventory {
    const char *agent;
    const char *const *tables; /* 0: all */
    size_t n_tables;
    int64_t at_us; /* INT64_MAX: now. Behind the first page its revision holds */
    bool without_rows;
    const char *page_token;
    /* out */
    uint64_t revision;
    wall_us time, confirmed;
    struct query_table *found;
    size_t n_found;
    const char *next_page_token;
};
/* Outcomes: QUERY_NOT_FOUND (agent, inventory, table), QUERY_BAD, QUERY_DAMAGED. */
int query_get_inventory(const struct query *query,
                        struct query_inventory *request,
                        struct arena *arena,
                        struct query_problem *ret_problem) MUST_USE;

/* ---- its history ---- */

struct query_revision {
    uint64_t revision, n_rows;
    wall_us time, received, confirmed;
    const char **changed, **removed; /* tables */
    size_t n_changed, n_removed;
    uint32_t n_tables;
};
struct query_history {
    const char *agent;
    int64_t from_us, to_us; /* from inclusive, to exclusive */
    uint32_t page_size;
    const char *page_token;
    /* out, the newest first; a page ends early where its names take QUERY_PAGE_BYTES */
    struct query_revision *revisions;
    size_t n_revisions;
    const char *next_page_token;
};
/* Outcomes: QUERY_NOT_FOUND (agent), QUERY_BAD, QUERY_DAMAGED. */
int query_inventory_history(const struct query *query,
                            struct query_history *request,
                            struct arena *arena,
                            struct query_problem *ret_problem) MUST_USE;
/* The newest revision of an agent. Outcomes: QUERY_NOT_FOUND, QUERY_DAMAGED. */
int query_newest_revision(const struct query *query,
                          uint32_t number,
                          struct arena *arena,
                          struct query_revision *ret) MUST_USE;

/* ---- what differs ---- */

struct query_change {
    struct query_row from, to;
};
struct query_table_diff {
    const char *name;
    const char **columns; /* that both have, as the later one orders them */
    const char **columns_added, **columns_removed;
    size_t n_columns, n_columns_added, n_columns_removed;
    bool is_added, is_removed; /* the table */
    struct query_row *added, *removed;
    struct query_change *changed;
    size_t n_added, n_removed, n_changed;
    uint64_t total_added, total_removed, total_changed;
};
struct query_diff {
    const char *from_agent, *to_agent; /* to_agent empty: the same */
    int64_t from_us, to_us;            /* INT64_MAX: now */
    const char *const *tables;
    size_t n_tables;
    const char *page_token;
    /* out */
    uint64_t from_revision, to_revision;
    wall_us from_time, to_time;
    struct query_table_diff *found;
    size_t n_found;
    const char *next_page_token;
};
/* Outcomes: QUERY_NOT_FOUND, QUERY_BAD, QUERY_TOO_MUCH, QUERY_DAMAGED. */
int query_diff_inventory(const struct query *query,
                         struct query_diff *request,
                         struct arena *arena,
                         struct query_problem *ret_problem) MUST_USE;

/* ---- who has it ---- */

#define QUERY_MAX_MATCHES 16    /* columns in one question */
#define QUERY_ROWS_OF_AGENT 100 /* that are spelt out */

struct query_column_match {
    const char *column;
    const char *value;   /* exactly; NULL: the pattern */
    const char *pattern; /* with * and ? */
};
struct query_match {
    const char *agent;
    uint64_t revision, n_total;
    wall_us time;
    const char **columns;
    size_t n_columns;
    struct query_row *rows;
    size_t n_rows;
};
struct query_find {
    const char *table;
    const struct query_column_match *matches; /* all of them, in one row */
    size_t n_matches;
    const struct query_selector *selector;
    int64_t at_us;
    uint32_t page_size;
    const char *page_token;
    /* Asked now and then, may be NULL: whether nobody waits for the answer any more. */
    bool (*is_unwanted)(void *ctx);
    void *ctx;
    /* out, by agent's id */
    struct query_match *found;
    size_t n_found;
    uint32_t n_unreadable;       /* agents on this page whose table is damaged */
    const char *next_page_token; /* a page may end before it is full: where it read much */
};
/*
 * Outcomes: QUERY_NOT_FOUND (an agent's id; no agent has such a table, or column), QUERY_BAD,
 * QUERY_UNWANTED.
 */
int query_find_inventory(const struct query *query,
                         struct query_find *request,
                         struct arena *arena,
                         struct query_problem *ret_problem) MUST_USE;
