/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/query/range.h"

#define POINTS_WANTED 100
/* A delta needs the sample before the range: at least this far back is looked for one. */
#define LOOKBACK_US (5 * INT64_C(60000000))
/* Years 1 to 9999, as RFC 3339 has them: sums and differences of such times do not overflow. */
#define FIRST_TIME_US (INT64_C(-62135596800) * 1000000)
#define LAST_TIME_US (INT64_C(253402300800) * 1000000)
#define MAX_SPAN_US (INT64_C(200) * 365 * 86400 * 1000000)

static void range_deinit(struct range *range)
{
    source_deinit(range);
    groups_deinit(&range->groups);
    free(range->scratch.times_us);
    free(range->scratch.values);
    free(range->scratch.to);
    free(range->scratch.is_present);
    free(range->scratch.windows);
    buf_deinit(&range->segments);
    buf_deinit(&range->damaged);
}

static int64_t nice_step_us(int64_t span_us)
{
    static const int64_t nice_s[] = { 1,     2,     5,     10,    15,     30,    60,
                                      120,   300,   600,   900,   1800,   3600,  7200,
                                      10800, 21600, 43200, 86400, 172800, 604800 };
    size_t n = sizeof(nice_s) / sizeof(nice_s[0]);

    for (size_t i = 0; i < n; i++)
        if (span_us / POINTS_WANTED <= nice_s[i] * 1000000)
            return nice_s[i] * 1000000;
    return nice_s[n - 1] * 1000000;
}

static int64_t floor_to(int64_t value, int64_t unit)
{
    int64_t rest = value % unit;

    return value - (rest < 0 ? rest + unit : rest);
}

static bool has_attributes(const struct store_definition *definition,
                           const struct query_range *request)
{
    for (size_t i = 0; i < request->n_attributes; i++) {
        bool is_there = false;

        for (size_t j = 0; j < definition->n_attributes && !is_there; j++)
            is_there = strcmp(definition->attributes[j].key, request->attributes[i].key) == 0 &&
                       strcmp(definition->attributes[j].value, request->attributes[i].value) == 0;
        if (!is_there)
            return false;
    }
    return true;
}

static int by_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

    return (x > y) - (x < y);
}

/*
 * The definitions that the question is about. A metric whose unit or kind changed has several;
 * those of the newest definition's unit and kind are taken, as values of different units do not go
 * into one answer.
 */
static int range_find_definitions(struct range *range)
{
    struct query_range *request = range->request;
    const struct store_definition *newest;
    uint32_t *ids;
    size_t n;

    n = store_definitions_of(range->query->store, request->name, NULL, 0);
    ids = arena_alloc_array(range->arena, n, sizeof(*ids));
    if (!ids)
        return fault(-ENOMEM, "definitions");
    size_t n_now = store_definitions_of(range->query->store, request->name, ids, n);
    n = n_now < n ? n_now : n;
    if (n == 0)
        return query_refuse(range->problem, QUERY_NOT_FOUND, "name",
                            "no metric `%.128s`; ListMetrics names what there is", request->name);
    qsort(ids, n, sizeof(*ids), by_u32);
    newest = store_definition_get(range->query->store, ids[n - 1]);
    ensure(newest);
    request->unit = newest->unit;
    request->kind = newest->kind;
    for (size_t i = 0; i < n; i++) {
        const struct store_definition *definition =
            store_definition_get(range->query->store, ids[i]);

        ensure(definition);
        if (definition->kind == newest->kind && strcmp(definition->unit, newest->unit) == 0 &&
            has_attributes(definition, request))
            ids[range->n_wanted++] = ids[i];
    }
    range->wanted = ids;
    range->gather_of = calloc(range->n_wanted + 1, sizeof(*range->gather_of));
    return range->gather_of ? 0 : fault(-ENOMEM, "definitions");
}

static bool is_additive(enum query_aggregation aggregation, enum store_kind kind)
{
    return kind == STORE_COUNTER || aggregation == QUERY_RATE || aggregation == QUERY_SUM ||
           aggregation == QUERY_COUNT || aggregation == QUERY_INCREASE;
}

/* Everything that can be said no to before a page is read. */
static int range_check(struct range *range)
{
    struct query_range *request = range->request;
    uint64_t n_steps;

    if (request->from_us < FIRST_TIME_US || request->to_us > LAST_TIME_US)
        return query_refuse(range->problem, QUERY_BAD, "range",
                            "times are from year 1 to year 9999");
    if (request->from_us >= request->to_us)
        return query_refuse(range->problem, QUERY_BAD, "range", "from must lie before to");
    if (request->to_us - request->from_us > MAX_SPAN_US)
        return query_refuse(range->problem, QUERY_BAD, "range", "at most 200 years");
    if (request->step_us < 0 || (request->step_us > 0 && request->step_us < 1000))
        return query_refuse(range->problem, QUERY_BAD, "step", "at least 1ms");
    if (request->step_us > MAX_SPAN_US)
        return query_refuse(range->problem, QUERY_BAD, "step", "at most 200 years");
    if (request->n_group_by > QUERY_MAX_ATTRIBUTES)
        return query_refuse(range->problem, QUERY_BAD, "group_by", "%zu keys, at most %d",
                            request->n_group_by, QUERY_MAX_ATTRIBUTES);
    if (request->n_attributes > QUERY_MAX_ATTRIBUTES)
        return query_refuse(range->problem, QUERY_BAD, "attributes", "%zu of them, at most %d",
                            request->n_attributes, QUERY_MAX_ATTRIBUTES);
    if (request->step_us == 0)
        request->step_us = nice_step_us(request->to_us - request->from_us);
    if ((unsigned) request->aggregation > QUERY_QUANTILE)
        return query_refuse(range->problem, QUERY_BAD, "aggregation",
                            "not one of Aggregation's values");
    if ((unsigned) request->group_aggregation > QUERY_QUANTILE ||
        request->group_aggregation == QUERY_RATE || request->group_aggregation == QUERY_INCREASE)
        return query_refuse(range->problem, QUERY_BAD, "group_aggregation",
                            "AVG, MIN, MAX, SUM, COUNT, LAST or QUANTILE");
    if (!(request->quantile >= 0 && request->quantile <= 1))
        return query_refuse(range->problem, QUERY_BAD, "quantile", "from 0 to 1");

    if (request->page_size > range->query->max_series)
        return query_refuse(range->problem, QUERY_BAD, "page_size", "at most %u series",
                            range->query->max_series);

    range->grid = (struct fold_grid){ .first_us = floor_to(request->from_us, request->step_us),
                                      .step_us = request->step_us,
                                      .from_us = request->from_us,
                                      .to_us = request->to_us };
    n_steps = (uint64_t) ((request->to_us - range->grid.first_us - 1) / request->step_us + 1);
    if (n_steps > range->query->max_points)
        return query_refuse(range->problem, QUERY_TOO_MUCH, "step",
                            "%llu points in a series, at most %u: a longer step or a shorter range",
                            (unsigned long long) n_steps, range->query->max_points);
    range->grid.n_steps = (size_t) n_steps;
    return 0;
}

static int by_definition(const void *a, const void *b)
{
    const struct gather *x = a, *y = b;

    return (x->wanted > y->wanted) - (x->wanted < y->wanted);
}

static int scratch_reserve(struct range *range, size_t n)
{
    int64_t *times_us;
    double *values;

    if (n <= range->scratch.capacity)
        return 0;
    times_us = reallocarray(range->scratch.times_us, n, sizeof(*times_us));
    if (times_us)
        range->scratch.times_us = times_us;
    values = reallocarray(range->scratch.values, n, sizeof(*values));
    if (values)
        range->scratch.values = values;
    if (!times_us || !values)
        return fault(-ENOMEM, "samples");
    range->scratch.capacity = n;
    return 0;
}

static int fold_gather(struct range *range, struct gather *gather, int64_t from_us)
{
    const struct fold_how how = { .aggregation = range->request->aggregation,
                                  .is_counter = range->request->kind == STORE_COUNTER,
                                  .quantile = range->request->quantile,
                                  .scratch = range->scratch.values };
    const struct fold_samples samples = { gather->times_us, gather->values, gather->n_samples };

    if (gather->is_unsorted)
        fold_sort(gather->times_us, gather->values, gather->n_samples, range->scratch.times_us,
                  range->scratch.values);
    if (range->request->window_us) {
        int r = rolled_fold(range, gather, from_us);

        if (r)
            return pass(r);
    } else {
        fold_series(&samples, &range->grid, &how, range->scratch.to, range->scratch.is_present);
    }
    return pass(groups_add_line(range, gather->wanted));
}

/* All of one agent: gathers its samples over all its layouts, then folds each series. */
static int range_read_agent(struct range *range, bool *ret_is_full)
{
    bool is_growth =
        range->request->aggregation == QUERY_RATE || range->request->aggregation == QUERY_INCREASE;
    int64_t lookback_us = range->grid.step_us > LOOKBACK_US ? range->grid.step_us : LOOKBACK_US;
    int64_t from_us = range->request->from_us - (is_growth ? lookback_us : 0);
    int r;

    source_reset(range);
    r = source_gather(range, from_us);
    if (r)
        return pass(r);
    if (range->n_gathers > 1)
        qsort(range->gathers, range->n_gathers, sizeof(*range->gathers), by_definition);
    for (size_t i = 0; i < range->n_gathers; i++) {
        struct gather *gather = &range->gathers[i];

        r = gather->n_samples ? scratch_reserve(range, gather->capacity) : 0;
        if (!r && gather->n_samples + gather->n_windows)
            r = fold_gather(range, gather, from_us);
        if (r)
            return pass(r);
    }
    return pass(groups_end_agent(range, ret_is_full));
}

static void range_defaults(struct query_range *request)
{
    if (request->aggregation == QUERY_DEFAULT)
        request->aggregation = request->kind == STORE_COUNTER ? QUERY_RATE : QUERY_AVG;
    if (request->group_aggregation == QUERY_DEFAULT)
        request->group_aggregation =
            is_additive(request->aggregation, request->kind) ? QUERY_SUM : QUERY_AVG;
}

const char *range_agent_name(struct range *range)
{
    return query_selected_id(range->query, range->agent, range->arena) ? "?" : range->agent->id;
}

/* The first of the selected agents that can have a series on the page. */
static int first_agent(struct range *range, struct query_selected *agents, size_t n, size_t *ret)
{
    size_t low = 0, high = range->groups.passes_over && range->groups.has_agent ? n : 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int r = query_selected_id(range->query, &agents[middle], range->arena);

        if (r)
            return pass(r);
        if (groups_pass_over(&range->groups, agents[middle].id))
            low = middle + 1;
        else
            high = middle;
    }
    *ret = low;
    return 0;
}

static int range_read_agents(struct range *range, struct query_selected *agents, size_t n)
{
    const struct query_range *request = range->request;
    bool is_full = false;
    size_t i;
    int r;

    range->scratch.to = calloc(range->grid.n_steps, sizeof(*range->scratch.to));
    range->scratch.is_present = calloc(range->grid.n_steps, sizeof(*range->scratch.is_present));
    if (!range->scratch.to || !range->scratch.is_present)
        return fault(-ENOMEM, "steps");
    r = first_agent(range, agents, n, &i);
    for (; !r && i < n && range->n_wanted > 0 && !is_full; i++) {
        if (request->is_unwanted && request->is_unwanted(request->ctx))
            return query_refuse(range->problem, QUERY_UNWANTED, "", "nobody waits for the answer");
        range->agent = &agents[i];
        r = range_read_agent(range, &is_full);
    }
    return pass(r);
}

int query_metric_range(const struct query *query,
                       struct query_range *request,
                       struct arena *arena,
                       struct query_problem *ret_problem)
{
    CLEANUP(range_deinit)
    struct range range = {
        .query = query, .request = request, .arena = arena, .problem = ret_problem
    };
    struct query_selected *agents;
    size_t n_agents;
    int r;

    request->series = NULL;
    request->n_series = 0;
    request->n_samples_read = 0;
    request->window_us = 0;
    if (!request->name || !*request->name)
        return query_refuse(ret_problem, QUERY_BAD, "name",
                            "the metric's exact name is needed; ListMetrics names what there is");
    r = range_check(&range);
    if (!r)
        r = query_select(query, request->selector, arena, &agents, &n_agents, ret_problem);
    if (!r)
        r = range_find_definitions(&range);
    if (r)
        return pass(r);
    range_defaults(request);
    r = groups_read_token(&range);
    if (!r && range.groups.behind)
        r = range_check(&range);
    if (!r)
        r = groups_init(&range);
    range.reach = store_samples_reach(query->store);
    if (!request->only_samples)
        request->window_us =
            fold_window_us(&range.grid, request->aggregation, range.reach.whole_us);
    if (!r)
        r = range_read_agents(&range, agents, n_agents);
    if (range.n_rolled == 0)
        request->window_us = 0;
    return r ? pass(r) : pass(groups_answer(&range));
}
