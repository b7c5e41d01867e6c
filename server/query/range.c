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
/* What the spans and columns of one agent may take. */
#define SPANS_BYTES (UINT64_C(64) << 20)
/* Samples of one agent in memory at a time: 16 bytes each. */
#define MAX_GATHERED (UINT64_C(16) << 20)
/* Years 1 to 9999, as RFC 3339 has them: sums and differences of such times do not overflow. */
#define FIRST_TIME_US (INT64_C(-62135596800) * 1000000)
#define LAST_TIME_US (INT64_C(253402300800) * 1000000)
#define MAX_SPAN_US (INT64_C(200) * 365 * 86400 * 1000000)
/* Values of all series by step, before grouping. */
#define MAX_CELLS (UINT64_C(20) << 20)

static void range_deinit(struct range *range)
{
    for (size_t i = 0; range->gathers && i < range->n_wanted; i++)
        free(range->gathers[i].samples);
    for (size_t i = 0; i < range->n_lines; i++) {
        free(range->lines[i].values);
        free(range->lines[i].is_present);
    }
    free(range->lines);
    free(range->scratch);
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
    range->gathers = arena_alloc_array(range->arena, range->n_wanted, sizeof(*range->gathers));
    if (!range->gathers)
        return fault(-ENOMEM, "definitions");
    for (size_t i = 0; i < range->n_wanted; i++)
        range->gathers[i].definition = ids[i];
    return 0;
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

static bool gather_add(struct gather *gather, int64_t time_us, double value)
{
    if (gather->n_samples == gather->capacity) {
        size_t capacity = gather->capacity ? 2 * gather->capacity : 256;
        struct fold_sample *samples = reallocarray(gather->samples, capacity, sizeof(*samples));

        if (!samples)
            return false;
        gather->samples = samples;
        gather->capacity = capacity;
    }
    if (gather->n_samples > 0 && time_us < gather->samples[gather->n_samples - 1].time_us)
        gather->is_unsorted = true;
    gather->samples[gather->n_samples++] = (struct fold_sample){ time_us, value };
    return true;
}

static bool on_piece(void *ctx, const struct store_piece *piece)
{
    struct range *range = ctx;

    for (size_t i = 0; i < range->n_scan_columns; i++) {
        struct gather *gather = &range->gathers[range->scan_gathers[i]];

        for (size_t row = piece->first; row < piece->end; row++) {
            if (!store_piece_has(piece, i, row))
                continue;
            range->is_out_of_memory =
                !gather_add(gather, piece->times_us[row], piece->values[i][row]);
            range->is_too_much = ++range->request->n_samples_read > range->query->max_samples ||
                                 ++range->n_gathered > MAX_GATHERED;
            if (range->is_out_of_memory || range->is_too_much)
                return false;
        }
    }
    return true;
}

/* Where the wanted definitions are in a layout; both are ascending. The shorter list is walked: a
 * metric can have a million series, a layout of one agent rarely a hundred. */
static size_t find_columns(const struct range *range,
                           const struct store_layout *layout,
                           uint32_t *columns,
                           size_t *gathers)
{
    const bool is_by_wanted = range->n_wanted <= layout->n_columns;
    const uint32_t *few = is_by_wanted ? range->wanted : layout->definitions;
    const uint32_t *many = is_by_wanted ? layout->definitions : range->wanted;
    const size_t n_few = is_by_wanted ? range->n_wanted : layout->n_columns;
    const size_t n_many = is_by_wanted ? layout->n_columns : range->n_wanted;
    size_t n = 0;

    for (size_t i = 0; i < n_few; i++) {
        const uint32_t *at = bsearch(&few[i], many, n_many, sizeof(*many), by_u32);
        if (!at)
            continue;
        const size_t there = (size_t) (at - many);
        columns[n] = (uint32_t) (is_by_wanted ? there : i);
        gathers[n++] = is_by_wanted ? i : there;
    }
    return n;
}

/* Reads the wanted columns of one layout of one agent. */
static int range_scan(struct range *range,
                      uint32_t agent,
                      uint32_t layout_id,
                      int64_t from_us,
                      struct arena *arena)
{
    const struct store_layout *layout = store_layout_get(range->query->store, layout_id);
    struct store_scan scan = {
        .agent = agent, .layout = layout_id, .from_us = from_us, .to_us = range->request->to_us
    };
    uint32_t *columns;
    size_t *gathers;
    int r;

    ensure(layout);
    columns = arena_alloc_array(arena, range->n_wanted, sizeof(*columns));
    gathers = arena_alloc_array(arena, range->n_wanted, sizeof(*gathers));
    if (!columns || !gathers)
        return fault(-ENOMEM, "columns");
    scan.n_columns = find_columns(range, layout, columns, gathers);
    if (scan.n_columns == 0)
        return 0;
    scan.columns = columns;
    scan.on_piece = on_piece;
    scan.ctx = range;
    range->scan_gathers = gathers;
    range->n_scan_columns = scan.n_columns;
    r = store_scan(range->query->store, &scan);
    if (r)
        return fold(r);
    if (range->is_out_of_memory)
        return fault(-ENOMEM, "samples");
    if (range->is_too_much)
        return query_refuse(
            range->problem, QUERY_TOO_MUCH, "range",
            "more than %llu samples to read, or %llu of one agent: a shorter range, fewer agents "
            "or an attribute",
            (unsigned long long) range->query->max_samples, (unsigned long long) MAX_GATHERED);
    return 0;
}

static int by_time(const void *a, const void *b)
{
    const struct fold_sample *x = a, *y = b;

    return (x->time_us > y->time_us) - (x->time_us < y->time_us);
}

static int range_add_line(struct range *range, uint32_t agent, const struct gather *gather)
{
    struct line line = { .agent = agent, .definition = gather->definition };
    size_t n = range->grid.n_steps;

    if ((range->n_lines + 1) * (uint64_t) n > MAX_CELLS)
        return query_refuse(
            range->problem, QUERY_TOO_MUCH, "step",
            "%zu series of %zu points each: a longer step, fewer agents or an attribute",
            range->n_lines + 1, n);
    if (range->n_lines == range->line_capacity) {
        size_t capacity = range->line_capacity ? 2 * range->line_capacity : 64;
        struct line *lines = reallocarray(range->lines, capacity, sizeof(*lines));

        if (!lines)
            return fault(-ENOMEM, "series");
        range->lines = lines;
        range->line_capacity = capacity;
    }
    if (range->scratch_capacity < gather->n_samples) {
        double *scratch = reallocarray(range->scratch, gather->capacity, sizeof(*scratch));

        if (!scratch)
            return fault(-ENOMEM, "samples");
        range->scratch = scratch;
        range->scratch_capacity = gather->capacity;
    }
    line.values = calloc(n, sizeof(*line.values));
    line.is_present = calloc(n, sizeof(*line.is_present));
    range->lines[range->n_lines++] = line;
    if (!line.values || !line.is_present)
        return fault(-ENOMEM, "series");
    if (gather->is_unsorted)
        qsort(gather->samples, gather->n_samples, sizeof(*gather->samples), by_time);
    const struct fold_how how = { .aggregation = range->request->aggregation,
                                  .is_counter = range->request->kind == STORE_COUNTER,
                                  .quantile = range->request->quantile,
                                  .scratch = range->scratch };
    fold_series(gather->samples, gather->n_samples, &range->grid, &how, line.values,
                line.is_present);
    return 0;
}

/* All of one agent: gathers its samples over all its layouts, then folds each series. */
static int range_read_agent(struct range *range, uint32_t agent)
{
    bool is_growth =
        range->request->aggregation == QUERY_RATE || range->request->aggregation == QUERY_INCREASE;
    int64_t lookback_us = range->grid.step_us > LOOKBACK_US ? range->grid.step_us : LOOKBACK_US;
    int64_t from_us = range->request->from_us - (is_growth ? lookback_us : 0);
    CLEANUP(arena_deinit) struct arena arena;
    struct store_span *spans;
    size_t n_spans;
    int r;

    arena_init(&arena, SPANS_BYTES);
    range->n_gathered = 0;
    for (size_t i = 0; i < range->n_wanted; i++) {
        range->gathers[i].n_samples = 0;
        range->gathers[i].is_unsorted = false;
    }
    r = store_spans(range->query->store, agent, &arena, &spans, &n_spans);
    if (r)
        return pass(r);
    for (size_t i = 0; i < n_spans; i++) {
        if (spans[i].last_us < from_us || spans[i].first_us >= range->request->to_us)
            continue;
        r = range_scan(range, agent, spans[i].layout, from_us, &arena);
        if (r)
            return pass(r);
    }
    for (size_t i = 0; i < range->n_wanted; i++) {
        if (range->gathers[i].n_samples == 0)
            continue;
        r = range_add_line(range, agent, &range->gathers[i]);
        if (r)
            return pass(r);
    }
    return 0;
}

static void range_defaults(struct query_range *request)
{
    if (request->aggregation == QUERY_DEFAULT)
        request->aggregation = request->kind == STORE_COUNTER ? QUERY_RATE : QUERY_AVG;
    if (request->group_aggregation == QUERY_DEFAULT)
        request->group_aggregation =
            is_additive(request->aggregation, request->kind) ? QUERY_SUM : QUERY_AVG;
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
    uint32_t *agents;
    size_t n_agents;
    int r;

    if (!request->name || !*request->name)
        return query_refuse(ret_problem, QUERY_BAD, "name",
                            "the metric's exact name is needed; ListMetrics names what there is");
    r = range_check(&range);
    if (r)
        return pass(r);
    r = query_select(query, request->selector, arena, &agents, &n_agents, ret_problem);
    if (r)
        return pass(r);
    r = range_find_definitions(&range);
    if (r)
        return pass(r);
    range_defaults(request);
    for (size_t i = 0; i < n_agents && range.n_wanted > 0; i++) {
        r = range_read_agent(&range, agents[i]);
        if (r)
            return pass(r);
    }
    return pass(range_group(&range));
}
