/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which agents a question is about. Labels are read in one pass over their table, in one short
 * transaction, however many agents there are.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/query/inside.h"

/* Each is looked up: without an end to them one message asks for hours. */
#define MAX_IDS 1000
/* What store_agent_get() copies of one agent. */
#define AGENT_BYTES (UINT64_C(1) << 20)

int query_selected_id(const struct query *query, struct query_selected *agent, struct arena *arena)
{
    CLEANUP(arena_deinit) struct arena facts_arena = { 0 };
    struct store_agent facts;
    int r;

    if (agent->id)
        return 0;
    arena_init(&facts_arena, AGENT_BYTES);
    r = store_agent_get(query->store, agent->number, &facts_arena, &facts);
    if (r)
        return fold(r);
    agent->id = arena_copy_text(arena, facts.id);
    return agent->id ? 0 : fault(-ENOMEM, "an agent's id");
}

/* ---- by labels ---- */

struct label_scan {
    const struct query_selector *selector;
    struct arena *arena;
    const char **ids; /* of agents with all labels, ascending */
    size_t n_ids, capacity;
    char id[sizeof(((struct store_agent *) NULL)->id)]; /* of the agent at work */
    size_t n_held;                                      /* labels of the selector that it has */
    bool has_failed;
};

/* Takes the agent at work when it has every label. */
static void label_scan_end_agent(struct label_scan *scan)
{
    if (scan->n_held < scan->selector->n_labels)
        return;
    if (scan->n_ids == scan->capacity) {
        size_t capacity = 2 * scan->capacity + 64;
        const char **grown = arena_alloc_array(scan->arena, capacity, sizeof(*grown));

        if (grown && scan->n_ids)
            memcpy(grown, scan->ids, scan->n_ids * sizeof(*grown));
        scan->has_failed = !grown;
        if (!grown)
            return;
        scan->ids = grown;
        scan->capacity = capacity;
    }
    scan->ids[scan->n_ids] = arena_copy_text(scan->arena, scan->id);
    scan->has_failed = !scan->ids[scan->n_ids++];
}

/* The key is id, NUL, label; the table is in that order. */
static bool on_label(void *ctx, struct span key, struct span value)
{
    struct label_scan *scan = ctx;
    const size_t id_len = strnlen((const char *) key.data, key.len);
    struct span label;

    if (id_len >= key.len || id_len >= sizeof(scan->id))
        return true; /* not of ours */
    label = span_of(key.data + id_len + 1, key.len - id_len - 1);
    if (strlen(scan->id) != id_len || memcmp(scan->id, key.data, id_len) != 0) {
        label_scan_end_agent(scan);
        memcpy(scan->id, key.data, id_len);
        scan->id[id_len] = 0;
        scan->n_held = 0;
    }
    for (size_t i = 0; i < scan->selector->n_labels; i++)
        scan->n_held += span_equal(label, span_of_text(scan->selector->labels[i].key)) &&
                        span_equal(value, span_of_text(scan->selector->labels[i].value));
    return !scan->has_failed;
}

/* Ids of the agents that have all labels, ascending. */
static int find_labelled(const struct query *query,
                         const struct query_selector *selector,
                         struct arena *arena,
                         const char *const **ret,
                         size_t *ret_n)
{
    struct label_scan scan = { .selector = selector, .arena = arena };
    int r;

    r = store_state_each(query->store, STORE_TABLE_LABELS, on_label, &scan);
    if (r)
        return fold(r);
    if (!scan.has_failed)
        label_scan_end_agent(&scan);
    if (scan.has_failed)
        return fault(-ENOMEM, "labels");
    *ret = scan.ids;
    *ret_n = scan.n_ids;
    return 0;
}

/* ---- all together ---- */

static int by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

/* The ids given, ascending, each once. Outcomes: QUERY_NOT_FOUND. */
static int find_named(const struct query *query,
                      const struct query_selector *selector,
                      struct arena *arena,
                      const char *const **ret,
                      size_t *ret_n,
                      struct query_problem *problem)
{
    const char **ids = arena_alloc_array(arena, selector->n_ids, sizeof(*ids));
    size_t n = 0;
    uint32_t number;
    int r;

    if (!ids)
        return fault(-ENOMEM, "ids");
    for (size_t i = 0; i < selector->n_ids; i++) {
        r = store_agent_find(query->store, selector->ids[i], &number);
        if (r == STORE_NOT_FOUND)
            return query_refuse(problem, QUERY_NOT_FOUND, "agents.ids",
                                "no agent `%.64s` is known; ListAgents names them",
                                selector->ids[i]);
        if (r)
            return fold(r);
        ids[i] = selector->ids[i];
    }
    qsort(ids, selector->n_ids, sizeof(*ids), by_text);
    for (size_t i = 0; i < selector->n_ids; i++)
        if (n == 0 || strcmp(ids[n - 1], ids[i]) != 0)
            ids[n++] = ids[i];
    *ret = ids;
    *ret_n = n;
    return 0;
}

/* What is in both ascending lists; `ids` becomes it. */
static size_t
intersect(const char *const *ids, size_t n_ids, const char *const *with, size_t n, const char **to)
{
    size_t n_both = 0, at = 0;

    for (size_t i = 0; i < n_ids; i++) {
        while (at < n && strcmp(with[at], ids[i]) < 0)
            at++;
        if (at < n && strcmp(with[at], ids[i]) == 0)
            to[n_both++] = ids[i];
    }
    return n_both;
}

/* By ids, by labels or both. */
static int select_some(const struct query *query,
                       const struct query_selector *selector,
                       struct arena *arena,
                       struct query_selected **ret,
                       size_t *ret_n,
                       struct query_problem *problem)
{
    const char *const *named = NULL, *const *labelled = NULL;
    const char **ids;
    size_t n_named = 0, n_labelled = 0, n_ids, n = 0;
    struct query_selected *selected;
    int r = 0;

    if (selector->n_ids > 0)
        r = find_named(query, selector, arena, &named, &n_named, problem);
    if (!r && selector->n_labels > 0)
        r = find_labelled(query, selector, arena, &labelled, &n_labelled);
    if (r)
        return pass(r);
    n_ids = selector->n_ids > 0 ? n_named : n_labelled;
    ids = arena_alloc_array(arena, n_ids, sizeof(*ids));
    selected = arena_alloc_array(arena, n_ids, sizeof(*selected));
    if (!ids || !selected)
        return fault(-ENOMEM, "agents");
    if (selector->n_ids > 0 && selector->n_labels > 0)
        n_ids = intersect(named, n_named, labelled, n_labelled, ids);
    else if (n_ids > 0)
        memcpy(ids, selector->n_ids > 0 ? named : labelled, n_ids * sizeof(*ids));
    for (size_t i = 0; i < n_ids; i++) {
        r = store_agent_find(query->store, ids[i], &selected[n].number);
        if (r < 0)
            return pass(r);
        if (r == 0) /* labels of an agent that is gone select nothing */
            selected[n++].id = ids[i];
    }
    *ret = selected;
    *ret_n = n;
    return 0;
}

static int select_all(const struct query *query,
                      struct arena *arena,
                      struct query_selected **ret,
                      size_t *ret_n)
{
    struct query_selected *selected;
    uint32_t *numbers;
    size_t n;
    int r;

    r = store_agent_list(query->store, arena, &numbers, &n);
    if (r)
        return fold(r);
    selected = arena_alloc_array(arena, n, sizeof(*selected));
    if (!selected)
        return fault(-ENOMEM, "agents");
    for (size_t i = 0; i < n; i++)
        selected[i].number = numbers[i];
    *ret = selected;
    *ret_n = n;
    return 0;
}

int query_select(const struct query *query,
                 const struct query_selector *selector,
                 struct arena *arena,
                 struct query_selected **ret,
                 size_t *ret_n,
                 struct query_problem *problem)
{
    struct query_selected *selected;
    size_t n = 0, n_matching = 0;
    int r;

    if (selector->n_ids > MAX_IDS)
        return query_refuse(problem, QUERY_BAD, "agents.ids",
                            "%zu ids, at most %d; a pattern or labels name more agents",
                            selector->n_ids, MAX_IDS);
    if (selector->n_labels > QUERY_MAX_ATTRIBUTES)
        return query_refuse(problem, QUERY_BAD, "agents.labels", "%zu labels, at most %d",
                            selector->n_labels, QUERY_MAX_ATTRIBUTES);
    r = query_check_pattern(selector->pattern, "agents.pattern", problem);
    if (r)
        return pass(r);
    if (selector->n_ids > 0 || selector->n_labels > 0)
        r = select_some(query, selector, arena, &selected, &n, problem);
    else
        r = select_all(query, arena, &selected, &n);
    if (r)
        return pass(r);
    if (selector->pattern && *selector->pattern) {
        for (size_t i = 0; i < n; i++) {
            r = query_selected_id(query, &selected[i], arena);
            if (r)
                return pass(r);
            if (text_matches(selector->pattern, selected[i].id))
                selected[n_matching++] = selected[i];
        }
        n = n_matching;
    }
    *ret = selected;
    *ret_n = n;
    return 0;
}
