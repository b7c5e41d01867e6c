/* SPDX-License-Identifier: Apache-2.0 */
#include "server/query/census.h"

#include <errno.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"

#define CENSUS_BYTES (UINT64_C(256) << 20)
/* What the spans of one agent may take. */
#define SPANS_BYTES (UINT64_C(64) << 20)

struct census_layout {
    uint32_t id;
    size_t n_definitions;
    struct census_definition **definitions; /* of metrics that the pattern wants */
};

void census_init(struct census *census,
                 const struct query *query,
                 const char *name_pattern,
                 struct query_problem *problem)
{
    *census = (struct census){ .query = query, .name_pattern = name_pattern, .problem = problem };
    arena_init(&census->arena, CENSUS_BYTES);
}

void census_deinit(struct census *census)
{
    map_deinit(&census->metrics);
    map_deinit(&census->layouts);
    map_deinit(&census->definitions);
    arena_deinit(&census->arena);
}

int census_refuse(const struct census *census)
{
    return query_refuse(
        census->problem, QUERY_TOO_MUCH, "agents",
        "more than %zu series of %zu metrics to count: fewer agents (ids, a pattern "
        "or labels) or a name_pattern",
        census->definitions.n_entries, census->metrics.n_entries);
}

static int metric_of(struct census *census,
                     const struct store_definition *definition,
                     struct census_metric **ret)
{
    struct census_metric *metric = map_get(&census->metrics, span_of_text(definition->name));

    *ret = metric;
    if (metric)
        return 0;
    *ret = metric = arena_alloc(&census->arena, sizeof(*metric));
    if (!metric)
        return census_refuse(census);
    *metric = (struct census_metric){ .name = definition->name,
                                      .unit = definition->unit,
                                      .kind = definition->kind };
    return pass(map_put(&census->metrics, span_of_text(metric->name), metric));
}

/* NULL in *ret when the pattern does not want it. */
static int definition_of(struct census *census, uint32_t id, struct census_definition **ret)
{
    const struct store_definition *definition = store_definition_get(census->query->store, id);
    const struct span key = span_of(&definition->id, sizeof(definition->id));
    struct census_definition *known;
    struct census_metric *metric;
    int r;

    ensure(definition);
    *ret = NULL;
    if (census->name_pattern && *census->name_pattern &&
        !text_matches(census->name_pattern, definition->name))
        return 0;
    *ret = known = map_get(&census->definitions, key);
    if (known)
        return 0;
    r = metric_of(census, definition, &metric);
    if (r)
        return pass(r);
    *ret = known = arena_alloc(&census->arena, sizeof(*known));
    if (!known)
        return census_refuse(census);
    *known = (struct census_definition){ .definition = definition, .metric = metric };
    metric->n_definitions++;
    return pass(map_put(&census->definitions, key, known));
}

static int layout_of(struct census *census, uint32_t id, struct census_layout **ret)
{
    struct census_layout *known = map_get(&census->layouts, span_of(&id, sizeof(id)));
    const struct store_layout *layout;
    int r;

    *ret = known;
    if (known)
        return 0;
    layout = store_layout_get(census->query->store, id);
    ensure(layout);
    *ret = known = arena_alloc(&census->arena, sizeof(*known));
    if (known)
        known->definitions = arena_alloc_array(&census->arena, layout->n_columns,
                                               sizeof(struct census_definition *));
    if (!known || !known->definitions)
        return census_refuse(census);
    known->id = id;
    for (uint32_t i = 0; i < layout->n_columns; i++) {
        struct census_definition *definition;

        r = definition_of(census, layout->definitions[i], &definition);
        if (r)
            return pass(r);
        if (definition)
            known->definitions[known->n_definitions++] = definition;
    }
    return pass(map_put(&census->layouts, span_of(&known->id, sizeof(known->id)), known));
}

int census_agent(struct census *census, uint32_t agent, uint32_t *ret_n)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct store_span *spans;
    size_t n_spans;
    uint32_t n = 0;
    int r;

    arena_init(&arena, SPANS_BYTES);
    r = store_spans(census->query->store, agent, &arena, &spans, &n_spans);
    if (r)
        return pass(r);
    for (size_t i = 0; i < n_spans; i++) {
        struct census_layout *layout;

        r = layout_of(census, spans[i].layout, &layout);
        if (r)
            return pass(r);
        for (size_t j = 0; j < layout->n_definitions; j++) {
            struct census_definition *definition = layout->definitions[j];
            struct census_metric *metric = definition->metric;

            if (definition->last_agent == agent)
                continue;
            definition->last_agent = agent;
            definition->n_agents++;
            metric->n_series++;
            metric->n_agents += metric->last_agent != agent;
            metric->last_agent = agent;
            n++;
        }
    }
    census->n_series += n;
    *ret_n = n;
    return 0;
}
