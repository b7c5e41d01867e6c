/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "server/query/census.h"

#define VALUES_SHOWN 20

static int by_name(const void *a, const void *b)
{
    const struct census_metric *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* A metric of the page, and where it lies in the answer. */
struct shown {
    struct query_metric *metric;
    size_t capacity; /* of its attributes */
};

/* The key's row of a metric, in order of key; made where there is none. NULL: no room. */
static struct query_attribute_values *
row_of(struct shown *shown, const char *key, struct arena *arena)
{
    struct query_metric *metric = shown->metric;
    struct query_attribute_values *rows = metric->attributes;
    size_t at = 0;

    while (at < metric->n_attributes && strcmp(rows[at].key, key) < 0)
        at++;
    if (at < metric->n_attributes && strcmp(rows[at].key, key) == 0)
        return &rows[at];
    if (metric->n_attributes == shown->capacity) {
        shown->capacity = 2 * shown->capacity + 8;
        rows = arena_alloc_array(arena, shown->capacity, sizeof(*rows));
        if (!rows)
            return NULL;
        if (metric->n_attributes)
            memcpy(rows, metric->attributes, metric->n_attributes * sizeof(*rows));
        metric->attributes = rows;
    }
    memmove(&rows[at + 1], &rows[at], (metric->n_attributes - at) * sizeof(*rows));
    metric->n_attributes++;
    rows[at] = (struct query_attribute_values){ .key = key };
    rows[at].values = arena_alloc_array(arena, VALUES_SHOWN, sizeof(*rows[at].values));
    return rows[at].values ? &rows[at] : NULL;
}

/* Keeps the first VALUES_SHOWN in order. */
static void add_value(struct query_attribute_values *row, const char *value)
{
    size_t i = 0;

    while (i < row->n_values && strcmp(row->values[i], value) < 0)
        i++;
    if (i < row->n_values && strcmp(row->values[i], value) == 0)
        return;
    if (row->n_values == VALUES_SHOWN) {
        row->has_more = true;
        if (i == VALUES_SHOWN)
            return;
        row->n_values--;
    }
    memmove(row->values + i + 1, row->values + i, (row->n_values - i) * sizeof(*row->values));
    row->values[i] = value;
    row->n_values++;
}

/* The attributes of the metrics on the page. `shown` is by name, as request->metrics is. */
static int fill_attributes(struct census *census,
                           struct query_metrics *request,
                           struct shown *shown,
                           struct arena *arena)
{
    struct map by_metric = { 0 };
    struct census_definition *definition;
    size_t at = 0;
    int r = 0;

    for (size_t i = 0; !r && i < request->n_metrics; i++)
        r = map_put(&by_metric, span_of_text(shown[i].metric->name), &shown[i]);
    while (!r && (definition = map_next(&census->definitions, &at))) {
        const struct store_definition *from = definition->definition;
        struct shown *to = map_get(&by_metric, span_of_text(from->name));

        for (size_t i = 0; to && !r && i < from->n_attributes; i++) {
            struct query_attribute_values *row = row_of(to, from->attributes[i].key, arena);

            if (row)
                add_value(row, from->attributes[i].value);
            else
                r = census_refuse(census);
        }
    }
    map_deinit(&by_metric);
    return pass(r);
}

/* Sorts what was counted and copies the page behind `behind`. */
static int fill_page(struct census *census,
                     struct query_metrics *request,
                     const char *behind,
                     struct arena *arena,
                     bool *ret_has_more)
{
    const size_t n = census->metrics.n_entries;
    struct census_metric **sorted =
        arena_alloc_array(&census->arena, n, sizeof(struct census_metric *));
    struct shown *shown = arena_alloc_array(&census->arena, request->page_size, sizeof(*shown));
    size_t at = 0;

    request->metrics = arena_alloc_array(arena, request->page_size, sizeof(*request->metrics));
    if (!sorted || !shown || !request->metrics)
        return census_refuse(census);
    for (size_t i = 0; i < n; i++)
        sorted[i] = map_next(&census->metrics, &at);
    if (n > 0)
        qsort(sorted, n, sizeof(struct census_metric *), by_name);
    request->n_metrics = 0;
    request->total = (uint32_t) n;
    *ret_has_more = false;
    for (size_t i = 0; i < n; i++) {
        const struct census_metric *metric = sorted[i];

        if (behind && strcmp(metric->name, behind) <= 0)
            continue;
        *ret_has_more = request->n_metrics == request->page_size;
        if (*ret_has_more)
            break;
        shown[request->n_metrics].metric = &request->metrics[request->n_metrics];
        request->metrics[request->n_metrics++] =
            (struct query_metric){ .name = metric->name,
                                   .unit = metric->unit,
                                   .kind = metric->kind,
                                   .n_series = metric->n_definitions,
                                   .n_agents = metric->n_agents };
    }
    return pass(fill_attributes(census, request, shown, arena));
}

static void digest_of(const struct query_metrics *request, struct query_digest *digest)
{
    *digest = (struct query_digest){ 0 };
    query_digest_add(digest, "metrics");
    query_digest_add_selector(digest, request->selector);
    query_digest_add(digest, request->name_pattern);
}

int query_list_metrics(const struct query *query,
                       struct query_metrics *request,
                       struct arena *arena,
                       struct query_problem *ret_problem)
{
    CLEANUP(census_deinit) struct census census;
    struct query_digest digest;
    struct query_selected *agents;
    const char *behind;
    size_t n_agents;
    uint32_t n_series;
    bool has_more = false;
    int r;

    census_init(&census, query, request->name_pattern, ret_problem);
    r = query_page_size(&request->page_size, ret_problem);
    if (r == 0)
        r = query_check_pattern(request->name_pattern, "name_pattern", ret_problem);
    if (r)
        return pass(r);
    digest_of(request, &digest);
    r = query_token_read(query, &digest, request->page_token, arena, &behind, ret_problem);
    if (!r)
        r = query_select(query, request->selector, arena, &agents, &n_agents, ret_problem);
    for (size_t i = 0; !r && i < n_agents; i++)
        r = census_agent(&census, agents[i].number, &n_series);
    if (!r)
        r = fill_page(&census, request, behind, arena, &has_more);
    if (r)
        return pass(r);
    request->next_page_token = "";
    if (!has_more)
        return 0;
    digest_of(request, &digest);
    return pass(query_token_make(query, &digest, request->metrics[request->n_metrics - 1].name,
                                 arena, &request->next_page_token));
}
