/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who makes the cardinality: metrics and agents by series, attribute keys by distinct values.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/query/census.h"

/* An attribute key while its values are counted. */
struct key_tally {
    const char *name;
    struct map values;                  /* value -> any definition that has it */
    const struct census_metric *metric; /* that has the most sets of attributes with the key */
    uint32_t n_definitions;
    uint64_t n_series;
};

struct top {
    struct census census;
    struct query_top *request;
    struct arena *arena;
    struct map keys;            /* name -> key_tally */
    struct query_top_row *rows; /* all of them, in the census' arena */
    size_t n_rows;
};

static void top_deinit(struct top *top)
{
    struct key_tally *key;
    size_t at = 0;

    while ((key = map_next(&top->keys, &at)))
        map_deinit(&key->values);
    map_deinit(&top->keys);
    census_deinit(&top->census);
}

/* By what rows are ranked. */
static uint64_t weight(const struct query_top *request, const struct query_top_row *row)
{
    return request->by == QUERY_TOP_ATTRIBUTE ? row->n_values : row->n_series;
}

static int by_weight(const void *a, const void *b, void *ctx)
{
    const struct query_top_row *x = a, *y = b;
    uint64_t wx = weight(ctx, x), wy = weight(ctx, y);

    return wx != wy ? (wx < wy) - (wx > wy) : strcmp(x->name, y->name);
}

static int reserve_rows(struct top *top, size_t n)
{
    top->rows = arena_alloc_array(&top->census.arena, n, sizeof(*top->rows));
    return top->rows ? 0 : census_refuse(&top->census);
}

/* ---- the three kinds ---- */

static int rows_of_metrics(struct top *top)
{
    const struct census_metric *metric;
    size_t at = 0;
    int r = reserve_rows(top, top->census.metrics.n_entries);

    while (!r && (metric = map_next(&top->census.metrics, &at)))
        top->rows[top->n_rows++] = (struct query_top_row){ .name = metric->name,
                                                           .metric = "",
                                                           .n_series = metric->n_series,
                                                           .n_definitions = metric->n_definitions,
                                                           .n_agents = metric->n_agents };
    return pass(r);
}

static int count_key(struct top *top,
                     const struct census_definition *definition,
                     const struct store_attribute *attribute)
{
    struct key_tally *key = map_get(&top->keys, span_of_text(attribute->key));
    int r = 0;

    if (!key) {
        key = arena_alloc(&top->census.arena, sizeof(*key));
        if (!key)
            return census_refuse(&top->census);
        *key = (struct key_tally){ .name = attribute->key, .metric = definition->metric };
        r = map_put(&top->keys, span_of_text(key->name), key);
    }
    key->n_definitions++;
    key->n_series += definition->n_agents;
    /* All sets of a metric have the same keys as a rule: the metric with the most has the most with
     * this key. */
    if (definition->metric->n_definitions > key->metric->n_definitions ||
        (definition->metric->n_definitions == key->metric->n_definitions &&
         strcmp(definition->metric->name, key->metric->name) < 0))
        key->metric = definition->metric;
    if (!r)
        r = map_put(&key->values, span_of_text(attribute->value), key);
    return pass(r);
}

static int rows_of_attributes(struct top *top)
{
    const struct census_definition *definition;
    const struct key_tally *key;
    size_t at = 0;
    int r = 0;

    while (!r && (definition = map_next(&top->census.definitions, &at)))
        for (size_t i = 0; !r && i < definition->definition->n_attributes; i++)
            r = count_key(top, definition, &definition->definition->attributes[i]);
    if (!r)
        r = reserve_rows(top, top->keys.n_entries);
    at = 0;
    while (!r && (key = map_next(&top->keys, &at)))
        top->rows[top->n_rows++] = (struct query_top_row){ .name = key->name,
                                                           .metric = key->metric->name,
                                                           .n_series = key->n_series,
                                                           .n_definitions = key->n_definitions,
                                                           .n_values = key->values.n_entries };
    return pass(r);
}

/* Counts all; with rows for agents. */
static int count_agents(struct top *top, struct query_selected *agents, size_t n)
{
    bool has_rows = top->request->by == QUERY_TOP_AGENT;
    int r = has_rows ? reserve_rows(top, n) : 0;

    for (size_t i = 0; !r && i < n; i++) {
        uint32_t n_series = 0;

        r = census_agent(&top->census, agents[i].number, &n_series);
        if (!r && has_rows && n_series > 0)
            r = query_selected_id(top->census.query, &agents[i], top->arena);
        if (!r && has_rows && n_series > 0)
            top->rows[top->n_rows++] = (struct query_top_row){ .name = agents[i].id,
                                                               .metric = "",
                                                               .n_series = n_series,
                                                               .n_definitions = n_series,
                                                               .n_agents = 1 };
    }
    return pass(r);
}

/* ---- pages: a token says behind which weight and name to go on ---- */

static void digest_of(const struct query_top *request, struct query_digest *digest)
{
    *digest = (struct query_digest){ 0 };
    query_digest_add(digest, "top");
    query_digest_add_selector(digest, request->selector);
    query_digest_add(digest, request->name_pattern);
    query_digest_add_u64(digest, request->by);
}

static struct query_top_row row_of_token(const char *behind)
{
    char *end;
    uint64_t count = strtoull(behind, &end, 10);

    ensure(*end == ','); /* of our own making: the MAC held */
    return (struct query_top_row){ .name = end + 1, .n_series = count, .n_values = count };
}

static int fill_page(struct top *top, const char *behind)
{
    struct query_top *request = top->request;
    const struct query_top_row last =
        behind ? row_of_token(behind) : (struct query_top_row){ .name = "" };
    struct query_digest digest;
    size_t first = 0, n;

    if (top->n_rows > 1)
        qsort_r(top->rows, top->n_rows, sizeof(*top->rows), by_weight, request);
    while (behind && first < top->n_rows && by_weight(&top->rows[first], &last, request) <= 0)
        first++;
    n = top->n_rows - first < request->page_size ? top->n_rows - first : request->page_size;
    request->total = (uint32_t) top->n_rows;
    request->n_series = top->census.n_series;
    request->n_definitions = (uint32_t) top->census.definitions.n_entries;
    request->next_page_token = "";
    request->rows = arena_alloc_array(top->arena, n, sizeof(*request->rows));
    if (!request->rows)
        return census_refuse(&top->census);
    if (n > 0)
        memcpy(request->rows, top->rows + first, n * sizeof(*request->rows));
    request->n_rows = n;
    if (first + n == top->n_rows)
        return 0;
    behind = arena_printf(top->arena, "%" PRIu64 ",%s", weight(request, &request->rows[n - 1]),
                          request->rows[n - 1].name);
    if (!behind)
        return fault(-ENOMEM, "page token");
    digest_of(request, &digest);
    return pass(query_token_make(top->census.query, &digest, behind, top->arena,
                                 &request->next_page_token));
}

int query_top(const struct query *query,
              struct query_top *request,
              struct arena *arena,
              struct query_problem *ret_problem)
{
    CLEANUP(top_deinit) struct top top = { .request = request, .arena = arena };
    struct query_digest digest;
    struct query_selected *agents;
    const char *behind;
    size_t n_agents;
    int r;

    census_init(&top.census, query, request->name_pattern, ret_problem);
    if (request->by < QUERY_TOP_METRIC || request->by > QUERY_TOP_ATTRIBUTE)
        return query_refuse(ret_problem, QUERY_BAD, "by", "METRIC, AGENT or ATTRIBUTE");
    r = query_page_size(&request->page_size, ret_problem);
    if (r == 0)
        r = query_check_pattern(request->name_pattern, "name_pattern", ret_problem);
    if (r)
        return pass(r);
    digest_of(request, &digest);
    r = query_token_read(query, &digest, request->page_token, arena, &behind, ret_problem);
    if (!r)
        r = query_select(query, request->selector, arena, &agents, &n_agents, ret_problem);
    if (!r)
        r = count_agents(&top, agents, n_agents);
    if (!r && request->by == QUERY_TOP_METRIC)
        r = rows_of_metrics(&top);
    if (!r && request->by == QUERY_TOP_ATTRIBUTE)
        r = rows_of_attributes(&top);
    return r ? pass(r) : pass(fill_page(&top, behind));
}
