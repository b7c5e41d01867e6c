#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Questions about logs. A part of query.h, which others include.
 *
 * A search is asked piece by piece, so that its reader is free between two pieces and the first
 * entries are on their way while the rest is looked for. A tail follows what is stored from now on.
 *
 * Thread: on a reader; a search and a tail by one at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "server/store/store.h"

struct query;
struct query_problem;
struct query_selector;

/* All of what is given must hold. */
struct query_log_filter {
    const struct query_selector *selector;
    const char *const *words; /* whole words or phrases; at most QUERY_LOG_TERMS with contains */
    size_t n_words;
    const char *const *contains; /* anywhere in the body */
    size_t n_contains;
    const char *regex;          /* NULL or empty: any body */
    uint32_t min_severity;      /* at most 24 */
    const char *source_pattern; /* over the source's name; NULL or empty: any */
};

#define QUERY_LOG_TERMS 16
#define QUERY_LOG_TERM_BYTES 1024
#define QUERY_LOG_REGEX_BYTES 1024
#define QUERY_LOG_PAGE_DEFAULT 100
#define QUERY_LOG_PAGE_MAX 10000

/* ---- searching ---- */

struct query_search;

struct query_search_options {
    struct query_log_filter filter;
    int64_t from_us, to_us; /* from inclusive, to exclusive; from < to */
    bool is_oldest_first;
    uint32_t page_size; /* entries of all pieces together; 0: QUERY_LOG_PAGE_DEFAULT */
    /* Behind the first page its range holds, whatever is said above: "now" does not move. */
    const char *page_token;
    /* NULL, or asked now and then: whether nobody waits for the answer any more. */
    bool (*is_unwanted)(void *ctx);
    void *ctx;
};

struct query_search_cost { /* since the search began */
    uint64_t bytes_read, blocks_read, blocks_skipped, blocks_damaged;
};

struct query_search_piece {
    const struct store_log_entry *entries; /* in order; in the arena of the call */
    const char *const *agent_ids;          /* beside the entries; in the search's arena */
    size_t n_entries;
    bool is_last;
    bool is_budget_reached;      /* why it is the last one; the token goes on */
    const char *next_page_token; /* behind the last entry; empty: there is no more */
    struct query_search_cost cost;
};

/* Everything is copied. Outcomes: QUERY_BAD, QUERY_NOT_FOUND (an agent's id), QUERY_TOO_MUCH
 * (searches under way). */
int query_search_new(struct query_search **ret,
                     const struct query *query,
                     const struct query_search_options *options,
                     struct query_problem *ret_problem) MUST_USE;
struct query_search *query_search_free(struct query_search *search);
DEFINE_CLEANUP(struct query_search *, query_search_free);

/* What a piece takes in an arena at most, beside one entry that is longer. */
#define QUERY_SEARCH_PIECE_BYTES (4u << 20)

/* Not after the last one. Outcomes: QUERY_UNWANTED. Faults: also an exhausted arena. */
int query_search_next(struct query_search *search,
                      struct arena *arena,
                      struct query_search_piece *ret) MUST_USE;

/* ---- tailing ---- */

struct query_tail;

/* `wake` as store_tail_open() says. Outcomes: QUERY_BAD, QUERY_NOT_FOUND (an agent's id),
 * QUERY_TOO_MUCH (tails). */
int query_tail_open(struct query_tail **ret,
                    const struct query *query,
                    const struct query_log_filter *filter,
                    void (*wake)(void *ctx),
                    void *ctx,
                    struct query_problem *ret_problem) MUST_USE;
/* Any thread, when nobody reads. */
struct query_tail *query_tail_close(struct query_tail *tail);
DEFINE_CLEANUP(struct query_tail *, query_tail_close);

struct query_tail_read {
    bool (*has_room)(void *ctx); /* asked before each entry: false ends the read */
    void (*on_entry)(void *ctx,
                     const char *agent_id,
                     const struct logblock_source *source,
                     const struct logblock_record *record); /* borrowed during the call */
    void *ctx;
    uint64_t ret_missed;
    bool ret_is_drained; /* wake() comes when there is more; else read again */
};
/* Bounded in time; says that it is not drained where that ended it. */
int query_tail_read(struct query_tail *tail, struct query_tail_read *read) MUST_USE;
