#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * QueryMetrics at work, agent by agent, so that an answer takes memory for its groups and for one
 * agent's samples only: source.c gathers an agent's samples, rolled.c windows in their place where
 * these are used, range.c folds each series of it into steps (a line), group.c adds the line to its
 * group and makes the answer.
 *
 * Windows are used where they fit the step, pay (fold_window_us(); query->window_samples, by the
 * agent's rows; both as long as there are samples), and are ready: the newest hour
 * or so, what came late, and the ends of the range that cut a window are read from samples. Where
 * there are no samples any more a window that an end cuts counts whole.
 *
 * Limits: samples read and gathered, steps, cells (values of all groups by step), series and points
 * of the answer.
 */

#include "common/base/map.h"
#include "server/query/fold.h"
#include "server/query/inside.h"

/* Samples of one definition of the agent at work. */
struct gather {
    size_t wanted; /* of which definition */
    int64_t *times_us;
    double *values;
    size_t n_samples, capacity;
    struct store_window *windows;
    size_t n_windows, window_capacity;
    bool is_unsorted, are_windows_unsorted;
};

/* A part of the range, read from samples or from windows. */
struct segment {
    int64_t from_us, to_us;
    bool is_rolled;
};

/* Some lines with the same labels: one series of the answer. */
struct group;

struct groups {
    struct map by_key;    /* key -> struct group */
    struct group **first; /* of each wanted definition, where the agent makes no difference */
    struct buf key;       /* of the line at hand */
    size_t n_cells, n_with_points;
    bool has_agent;     /* in the key, first: a group is whole when its agent is read */
    const char *behind; /* the page token's key; NULL: the first page */
    bool passes_over;   /* what is on the pages before is not even read */
};

struct range {
    const struct query *query;
    struct query_range *request;
    struct arena *arena; /* the answer's */
    struct query_problem *problem;
    struct fold_grid grid;
    uint32_t *wanted; /* definitions, ascending */
    size_t n_wanted;
    struct query_selected *agent; /* at work */

    /* the samples of the agent at work */
    struct gather *gathers;
    size_t n_gathers, gather_capacity;
    uint32_t *gather_of; /* of each wanted definition, + 1; 0: none */
    uint64_t n_gathered; /* samples */
    uint64_t n_rolled;   /* windows read, of all agents */
    size_t n_kept;       /* samples that the gathers have room for */
    bool is_too_much, is_out_of_memory;

    /* the parts of the range, for this agent: ascending, without gaps */
    struct buf segments;
    struct buf damaged; /* struct store_stretch: windows that cannot be read */
    struct store_reach reach;

    /* the columns of `layout` that are wanted: places in the layout and in `wanted` */
    uint32_t layout;
    uint32_t *columns;
    size_t *places;
    size_t n_columns, column_capacity;

    struct { /* room for one series */
        int64_t *times_us;
        double *values;
        size_t capacity;
        double *to; /* n_steps */
        bool *is_present;
        struct store_window *windows;
        size_t window_capacity;
    } scratch;
    struct groups groups;
};

/* Samples that an agent's gathers may hold: 16 bytes each. */
#define RANGE_MAX_GATHERED (UINT64_C(16) << 20)

/* For a refusal. */
const char *range_agent_name(struct range *range);

/* ---- source.c ---- */

/*
 * Gathers the wanted samples of range->agent in [from_us, request->to_us); of those before
 * request->from_us only the last of each piece. range->gathers is in no order.
 * Outcomes: QUERY_TOO_MUCH.
 */
int source_gather(struct range *range, int64_t from_us) MUST_USE;
/* The gather of a wanted definition; NULL: no memory. */
struct gather *source_gather_of(struct range *range, size_t wanted);
/* Before the next agent. */
void source_reset(struct range *range);
void source_deinit(struct range *range);

/* ---- rolled.c ---- */

/* Fills range->segments with the parts of [from_us, request->to_us). The spans are the agent's. */
int rolled_segments(struct range *range,
                    int64_t from_us,
                    const struct store_span *spans,
                    size_t n_spans) MUST_USE;
/* The windows of one layout in one part, into the gathers. */
int rolled_read(struct range *range, const struct segment *segment) MUST_USE;
/* The steps of a series; its samples are in order of time. from_us as in rolled_segments(). */
int rolled_fold(struct range *range, struct gather *gather, int64_t from_us) MUST_USE;

/* ---- group.c ---- */

/* A page behind the first has the range and step of the first. Outcomes: QUERY_BAD. */
int groups_read_token(struct range *range) MUST_USE;
/* Before the first line. */
int groups_init(struct range *range) MUST_USE;
void groups_deinit(struct groups *groups);
/* Whether no series of this agent can be on the page asked for. */
bool groups_pass_over(const struct groups *groups, const char *agent_id);
/*
 * Adds range->scratch.to, one value of each step, as a line of range->agent. Lines come in order of
 * agent, then definition. Outcomes: QUERY_TOO_MUCH.
 */
int groups_add_line(struct range *range, size_t wanted) MUST_USE;
/*
 * After each agent: drops what cannot be among the top_k. Sets *ret_is_full when the page has all
 * its series. Outcomes: QUERY_TOO_MUCH.
 */
int groups_end_agent(struct range *range, bool *ret_is_full) MUST_USE;
/* Fills the answer. Outcomes: QUERY_TOO_MUCH. */
int groups_answer(struct range *range) MUST_USE;
