#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Query: reads over what the store holds. Two things: the reader pool (an LMDB read is a page
 * fault, so call threads never read; they hand a task to the pool), and the questions themselves,
 * plain functions that run on a reader. Every answer is bounded: by page size, by points, by
 * samples read; too much asked is QUERY_TOO_MUCH with a text that says what to narrow.
 *
 * Page tokens are opaque and authenticated with a key of this process: hex of (SHA-256 of the
 * question, MAC, position).
 *
 * Files: pool.c readers; inside.c tokens; select.c which agents; agents.c, labels.c; census.c
 * counts series for metrics.c and top.c; range.c QueryMetrics, with source.c (samples), fold.c and
 * windows.c (steps), group.c (series of the answer); uploads.c; inventory.c, inventory_diff.c,
 * inventory_find.c (query_inventory.h); logs.c, logs_tail.c with logs_filter.c.
 *
 * Thread: the pool any; the questions on a reader.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "server/query/query_inventory.h"
#include "server/query/query_logs.h"
#include "server/store/store.h"

/* ---- the reader pool ---- */

struct query_pool;

struct query_task {
    struct query_task *next;              /* the pool's */
    void (*run)(struct query_task *task); /* on a reader */
};

enum query_outcome {
    QUERY_OK = 0,
    QUERY_BUSY,      /* the pool's queue is full */
    QUERY_NOT_FOUND, /* the problem says what */
    QUERY_BAD,       /* the problem names the field */
    QUERY_TOO_MUCH,  /* the problem says what to narrow */
    QUERY_FULL,      /* the disk is: nothing was written */
    QUERY_UNWANTED,  /* is_unwanted() said so */
    QUERY_DAMAGED,   /* the problem says what */
};

/* n_threads 0: one for each core, at least four. */
int query_pool_new(struct query_pool **ret, unsigned n_threads, unsigned max_waiting) MUST_USE;
/* Runs what waits, then ends the threads. Blocks. */
struct query_pool *query_pool_free(struct query_pool *pool);
DEFINE_CLEANUP(struct query_pool *, query_pool_free);
/* Outcomes: QUERY_BUSY. The task is the pool's until run() returns it to the caller. */
int query_pool_submit(struct query_pool *pool, struct query_task *task) MUST_USE;

/* ---- what questions share ---- */

struct query {
    struct store *store;
    /* Of the newest streams; any thread. */
    bool (*is_connected)(void *ctx, uint32_t agent);
    void *ctx;
    uint8_t token_key[32];
    uint64_t max_samples; /* one question may read; 50 M */
    uint32_t max_points;  /* one answer may have, over all series; 200,000 */
    uint32_t max_series;  /* one answer may have; 5,000 */
    /* Samples that a window of a roll-up must stand for, as long as they are there: to find a
     * window costs as much as to read so many; 24. */
    uint32_t window_samples;
    uint64_t
        max_inventory_bytes;    /* of tables that one page of FindInventory looks through; 1 GiB */
    uint64_t logs_budget_bytes; /* one search of logs decodes; 1 GiB; not 0 */
};

struct query_problem {
    char field[96];
    char description[320];
};

struct query_selector {
    const char *const *ids;
    size_t n_ids;
    const char *pattern; /* NULL or empty: any */
    const struct store_attribute *labels;
    size_t n_labels;
};

/* Everything an answer points to lives in the arena given. */

/* ---- agents ---- */

struct query_agents {
    const struct query_selector *selector;
    uint32_t page_size;     /* 0: 100; at most 1,000 */
    const char *page_token; /* NULL or empty: the first page */
    /* out */
    struct store_agent *agents;
    bool *is_connected;
    size_t n_agents;
    const char *next_page_token; /* empty: the last page */
    uint32_t total;
};
/* Outcomes: QUERY_BAD (token, page size), QUERY_NOT_FOUND (an id given that is not known). */
int query_list_agents(const struct query *query,
                      struct query_agents *request,
                      struct arena *arena,
                      struct query_problem *ret_problem) MUST_USE;

/* ---- labels ---- */

struct query_labels {
    const struct query_selector *selector; /* not empty */
    const struct store_attribute *set;
    size_t n_set;
    const char *const *remove;
    size_t n_remove;
    /* May be NULL. In the transaction, when anything changes; 0, or STORE_FULL and nothing is. */
    int (*note)(struct store_change *change, void *ctx);
    void *ctx;
    /* out */
    uint32_t n_selected, n_changed; /* agents */
};
/*
 * Sets and removes labels of every selected agent, or of none. Blocks for a commit. Outcomes:
 * QUERY_BAD, QUERY_NOT_FOUND (no agent fits), QUERY_TOO_MUCH (labels of one agent), QUERY_FULL.
 */
int query_set_labels(const struct query *query,
                     struct query_labels *request,
                     struct arena *arena,
                     struct query_problem *ret_problem) MUST_USE;

/* ---- metrics ---- */

struct query_attribute_values {
    const char *key;
    const char **values; /* ascending, at most 20 */
    size_t n_values;
    bool has_more;
};
struct query_metric {
    const char *name, *unit;
    enum store_kind kind;
    uint32_t n_series, n_agents;
    struct query_attribute_values *attributes;
    size_t n_attributes;
};
struct query_metrics {
    const struct query_selector *selector;
    const char *name_pattern;
    uint32_t page_size;
    const char *page_token;
    /* out, in order of name */
    struct query_metric *metrics;
    size_t n_metrics;
    const char *next_page_token;
    uint32_t total;
};
int query_list_metrics(const struct query *query,
                       struct query_metrics *request,
                       struct arena *arena,
                       struct query_problem *ret_problem) MUST_USE;

/* ---- who makes the cardinality ---- */

enum query_top_by { /* numbers of sentinel.query.v1.TopBy */
                    QUERY_TOP_METRIC = 1,
                    QUERY_TOP_AGENT,
                    QUERY_TOP_ATTRIBUTE,
};

struct query_top_row {
    const char *name;       /* the metric, the agent's id or the attribute's key */
    const char *metric;     /* of an attribute: the one with the most sets of attributes; else "" */
    uint64_t n_series;      /* each set of attributes of each agent; METRIC and AGENT rank by it */
    uint32_t n_definitions; /* distinct sets of attributes, whoever has them */
    uint32_t n_agents;      /* 0 for an attribute */
    uint64_t n_values;      /* distinct, of an attribute; ATTRIBUTE ranks by it */
};
struct query_top {
    const struct query_selector *selector;
    const char *name_pattern; /* of metrics */
    enum query_top_by by;
    uint32_t page_size;
    const char *page_token;
    /* out, the largest first, equal ones by name; a row that grows between two pages may be missed
     */
    struct query_top_row *rows;
    size_t n_rows;
    const char *next_page_token;
    uint32_t total, n_definitions;
    uint64_t n_series; /* of all rows together, each once */
};
/* Outcomes: QUERY_BAD, QUERY_NOT_FOUND (an agent's id), QUERY_TOO_MUCH. */
int query_top(const struct query *query,
              struct query_top *request,
              struct arena *arena,
              struct query_problem *ret_problem) MUST_USE;

/* ---- uploads ---- */

struct query_upload {
    struct store_object object;
    const char *agent_id;
    wall_us expires; /* 0: by no time */
};
struct query_uploads {
    const struct query_selector *selector;
    int64_t from_us, to_us; /* of the begin: from inclusive, to exclusive; behind the first page
                               those of the first hold */
    const char *name_pattern;
    uint32_t page_size;
    const char *page_token;
    /* out, the newest first */
    struct query_upload *uploads;
    size_t n_uploads;
    const char *next_page_token;
};
/* Outcomes: QUERY_BAD, QUERY_NOT_FOUND (an agent's id). */
int query_list_uploads(const struct query *query,
                       struct query_uploads *request,
                       struct arena *arena,
                       struct query_problem *ret_problem) MUST_USE;
/* Outcomes: QUERY_NOT_FOUND. */
int query_get_upload(const struct query *query,
                     uint64_t number,
                     struct arena *arena,
                     struct query_upload *ret) MUST_USE;

/* ---- ranges ---- */

enum query_aggregation { /* numbers of sentinel.query.v1.Aggregation */
                         QUERY_DEFAULT = 0,
                         QUERY_AVG,
                         QUERY_MIN,
                         QUERY_MAX,
                         QUERY_SUM,
                         QUERY_COUNT,
                         QUERY_LAST,
                         QUERY_RATE,
                         QUERY_INCREASE,
                         QUERY_QUANTILE,
};

struct query_point {
    int64_t time_us; /* the start of the step */
    double value;
};
/* Every series has at least one point. An attribute that calls itself `agent` comes as
 * `attribute.agent`: the label `agent` is the certificate's word. */
struct query_series {
    struct store_attribute *labels; /* ascending by key */
    size_t n_labels;
    struct query_point *points; /* steps without a sample are left out */
    size_t n_points;
};
struct query_range {
    const struct query_selector *selector;
    const char *name;                         /* required */
    const struct store_attribute *attributes; /* equal in a series */
    size_t n_attributes;
    int64_t from_us, to_us; /* from inclusive, to exclusive; from < to */
    int64_t step_us; /* 0: about 100 points, rounded up to 1, 2, 5, 10, 15, 30 s, 1, 2, 5, 10, 15,
                        30 min, 1 h ... */
    enum query_aggregation aggregation, group_aggregation;
    const char *const *group_by;
    size_t n_group_by;
    bool group_all;
    double quantile; /* 0 .. 1 */
    uint32_t top_k;
    uint32_t page_size; /* series, at most max_series; 0: all, within max_series */
    /* Behind the first page its range and step hold, whatever from_us, to_us, step_us say here, so
     * that "now" does not move meanwhile. */
    const char *page_token;
    bool only_samples; /* no roll-ups: exact to the last bit, and slower */
    /* Asked now and then, may be NULL: whether nobody waits for the answer any more. */
    bool (*is_unwanted)(void *ctx);
    void *ctx;
    /* out */
    const char *unit;
    enum store_kind kind;
    struct query_series *series;
    size_t n_series;
    const char *next_page_token;
    uint64_t n_samples_read; /* and windows of roll-ups */
    int64_t window_us;       /* of the roll-ups that were used; 0: none */
};
/*
 * Outcomes: QUERY_NOT_FOUND (no such metric among the selected agents, or an agent id that is not
 * known), QUERY_BAD, QUERY_TOO_MUCH, QUERY_UNWANTED. aggregation, group_aggregation, range and
 * step_us are set to what was applied.
 */
int query_metric_range(const struct query *query,
                       struct query_range *request,
                       struct arena *arena,
                       struct query_problem *ret_problem) MUST_USE;
