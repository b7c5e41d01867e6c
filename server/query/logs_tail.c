/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Following logs. Whether an agent is among the selected ones is found out when its first record
 * comes, and remembered.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/map.h"
#include "common/base/text.h"
#include "server/query/inside.h"
#include "server/query/logs_filter.h"

/* The selector, copied, and what store_agent_get() copies of an agent. */
#define TAIL_ARENA_BYTES ((size_t) 4 << 20)
#define SELECT_ARENA_BYTES ((size_t) 64 << 20)
/* Of a reader's time at once: what comes faster than a filter looks at it would keep the reader. */
#define READ_US 100000

struct tail_agent {
    uint32_t number;
    bool is_wanted;
    char id[64];
};

struct query_tail {
    const struct query *query;
    struct log_filter filter;
    struct arena arena;
    struct query_selector selector;
    struct map agents; /* number -> struct tail_agent */
    struct store_tail *tail;
    struct query_tail_read *read; /* while it is read */
    int64_t until_us;             /* likewise, by clock_mono(); */
    bool has_looked;              /* but one pack at least is looked at */
    int r;                        /* what went wrong in that */
    bool is_full;
};

/* ---- agents ---- */

static bool has_labels(const struct store_agent *agent, const struct query_selector *selector)
{
    for (size_t i = 0; i < selector->n_labels; i++) {
        const struct store_attribute *wanted = &selector->labels[i];
        bool has = false;

        for (size_t j = 0; j < agent->n_labels && !has; j++)
            has = strcmp(agent->labels[j].key, wanted->key) == 0 &&
                  strcmp(agent->labels[j].value, wanted->value) == 0;
        if (!has)
            return false;
    }
    return true;
}

static bool is_selected(const struct store_agent *agent, const struct query_selector *selector)
{
    bool is_named = selector->n_ids == 0;

    for (size_t i = 0; i < selector->n_ids && !is_named; i++)
        is_named = strcmp(selector->ids[i], agent->id) == 0;
    return is_named &&
           (!selector->pattern || !*selector->pattern ||
            text_matches(selector->pattern, agent->id)) &&
           has_labels(agent, selector);
}

static int look_at_agent(struct query_tail *tail, uint32_t number, struct tail_agent **ret)
{
    CLEANUP(arena_deinit) struct arena arena = { 0 };
    struct store_agent facts = { 0 };
    struct tail_agent *agent;
    int r;

    arena_init(&arena, TAIL_ARENA_BYTES);
    r = store_agent_get(tail->query->store, number, &arena, &facts);
    if (r != 0)
        return fold(r);
    agent = calloc(1, sizeof(*agent));
    if (!agent)
        return fault(-ENOMEM, "no memory for an agent");
    agent->number = number;
    agent->is_wanted = is_selected(&facts, &tail->selector);
    memcpy(agent->id, facts.id, sizeof(agent->id));
    r = map_put(&tail->agents, span_of(&agent->number, sizeof(agent->number)), agent);
    if (r < 0) {
        free(agent);
        return pass(r);
    }
    *ret = agent;
    return 0;
}

static int find_agent(struct query_tail *tail, uint32_t number, struct tail_agent **ret)
{
    *ret = map_get(&tail->agents, span_of(&number, sizeof(number)));
    return *ret ? 0 : look_at_agent(tail, number, ret);
}

/* ---- opening ---- */

static bool copy_texts(struct arena *arena, const char *const *from, size_t n, const char **to)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = arena_copy_text(arena, from[i]);
        if (!to[i])
            return false;
    }
    return true;
}

static int copy_selector(struct query_tail *tail, const struct query_selector *from)
{
    const char **ids = arena_alloc_array(&tail->arena, from->n_ids + 1, sizeof(*ids));
    struct store_attribute *labels =
        arena_alloc_array(&tail->arena, from->n_labels + 1, sizeof(*labels));
    const char *pattern = arena_copy_text(&tail->arena, from->pattern ? from->pattern : "");
    bool is_whole = ids && labels && pattern;

    is_whole = is_whole && copy_texts(&tail->arena, from->ids, from->n_ids, ids);
    for (size_t i = 0; is_whole && i < from->n_labels; i++)
        is_whole = copy_texts(&tail->arena, &from->labels[i].key, 1, &labels[i].key) &&
                   copy_texts(&tail->arena, &from->labels[i].value, 1, &labels[i].value);
    if (!is_whole)
        return fault(-ENOMEM, "no memory for a selector");
    tail->selector = (struct query_selector){
        .ids = ids,
        .n_ids = from->n_ids,
        .pattern = pattern,
        .labels = labels,
        .n_labels = from->n_labels,
    };
    return 0;
}

/* What a question about agents refuses is refused here too. */
static int check_selector(const struct query *query,
                          const struct query_selector *selector,
                          struct query_problem *problem)
{
    CLEANUP(arena_deinit) struct arena arena = { 0 };
    struct query_selected *agents;
    size_t n;

    arena_init(&arena, SELECT_ARENA_BYTES);
    return pass(query_select(query, selector, &arena, &agents, &n, problem));
}

int query_tail_open(struct query_tail **ret,
                    const struct query *query,
                    const struct query_log_filter *filter,
                    void (*wake)(void *ctx),
                    void *ctx,
                    struct query_problem *ret_problem)
{
    CLEANUP(query_tail_closep) struct query_tail *tail = NULL;
    int r;

    r = check_selector(query, filter->selector, ret_problem);
    if (r != 0)
        return pass(r);
    tail = calloc(1, sizeof(*tail));
    if (!tail)
        return fault(-ENOMEM, "no memory for a tail");
    tail->query = query;
    arena_init(&tail->arena, TAIL_ARENA_BYTES);
    r = log_filter_init(&tail->filter, filter, ret_problem);
    if (r == 0)
        r = copy_selector(tail, filter->selector);
    if (r != 0)
        return pass(r);
    r = store_tail_open(query->store, wake, ctx, &tail->tail);
    if (r == STORE_TOO_MUCH)
        return query_refuse(ret_problem, QUERY_TOO_MUCH, "",
                            "%u tails are open, as many as the hub serves; search instead, or wait "
                            "until one ends",
                            STORE_TAILS);
    if (r == STORE_STOPPED)
        return QUERY_UNWANTED;
    if (r != 0)
        return fold(r);
    *ret = take(tail);
    return 0;
}

struct query_tail *query_tail_close(struct query_tail *tail)
{
    struct tail_agent *agent;
    size_t at = 0;

    if (!tail)
        return NULL;
    tail->tail = store_tail_close(tail->tail);
    while ((agent = map_next(&tail->agents, &at)))
        free(agent);
    map_deinit(&tail->agents);
    log_filter_deinit(&tail->filter);
    arena_deinit(&tail->arena);
    free(tail);
    return NULL;
}

/* ---- reading ---- */

static size_t on_pack(void *ctx,
                      uint32_t number,
                      const struct logblock_source *source,
                      const struct logblock_record *records,
                      size_t n_records)
{
    struct query_tail *tail = ctx;
    struct query_tail_read *read = tail->read;
    struct tail_agent *agent;

    if (!read->has_room(read->ctx) || (tail->has_looked && clock_mono().us >= tail->until_us)) {
        tail->is_full = true;
        return 0;
    }
    tail->has_looked = true;
    tail->r = find_agent(tail, number, &agent);
    if (tail->r != 0)
        return 0;
    if (!agent->is_wanted || !log_filter_takes_source(&tail->filter, source))
        return n_records;
    for (size_t i = 0; i < n_records; i++) {
        if (!log_filter_takes_record(&tail->filter, &records[i]))
            continue;
        if (!read->has_room(read->ctx)) {
            tail->is_full = true;
            return i;
        }
        read->on_entry(read->ctx, agent->id, source, &records[i]);
    }
    return n_records;
}

int query_tail_read(struct query_tail *tail, struct query_tail_read *read)
{
    struct store_tail_read from = { .on_pack = on_pack, .ctx = tail };
    int r;

    tail->read = read;
    tail->has_looked = false;
    tail->until_us = clock_mono().us + READ_US;
    tail->r = 0;
    tail->is_full = false;
    r = store_tail_read(tail->tail, &from);
    tail->read = NULL;
    read->ret_missed = from.ret_missed;
    read->ret_is_drained = !tail->is_full;
    if (r != 0)
        return fold(r);
    return pass(tail->r);
}
