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

/* A metric of the page while its attributes are collected. */
struct shown {
    struct query_metric *metric;
    struct map rows; /* key -> query_attribute_values */
};

static int by_key(const void *a, const void *b)
{
    const struct query_attribute_values *x = a, *y = b;

    return strcmp(x->key, y->key);
}

/* The key's row; made where there is none. */
static int row_of(struct census *census,
                  struct shown *shown,
                  const char *key,
                  struct query_attribute_values **ret)
{
    struct query_attribute_values *row = map_get(&shown->rows, span_of_text(key));

    *ret = row;
    if (row)
        return 0;
    *ret = row = arena_alloc(&census->arena, sizeof(*row));
    if (row)
        row->values = arena_alloc_array(&census->arena, VALUES_SHOWN, sizeof(*row->values));
    if (!row || !row->values)
        return census_refuse(census);
    row->key = key;
    return pass(map_put(&shown->rows, span_of_text(key), row));
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

static int collect_attributes(struct census *census, struct shown *shown, size_t n_shown)
{
    struct map by_metric = { 0 };
    struct census_definition *definition;
    size_t at = 0;
    int r = 0;

    for (size_t i = 0; !r && i < n_shown; i++)
        r = map_put(&by_metric, span_of_text(shown[i].metric->name), &shown[i]);
    while (!r && (definition = map_next(&census->definitions, &at))) {
        const struct store_definition *from = definition->definition;
        struct shown *to = map_get(&by_metric, span_of_text(from->name));

        for (size_t i = 0; to && !r && i < from->n_attributes; i++) {
            struct query_attribute_values *row;

            r = row_of(census, to, from->attributes[i].key, &row);
            if (!r)
                add_value(row, from->attributes[i].value);
        }
    }
    map_deinit(&by_metric);
    return pass(r);
}

/* Copies a metric's rows into the answer, in order of key. */
static int copy_attributes(const struct census *census, struct shown *shown, struct arena *arena)
{
    struct query_metric *metric = shown->metric;
    const struct query_attribute_values *row;
    size_t at = 0;

    metric->attributes =
        arena_alloc_array(arena, shown->rows.n_entries, sizeof(*metric->attributes));
    if (!metric->attributes)
        return census_refuse(census);
    while ((row = map_next(&shown->rows, &at))) {
        struct query_attribute_values *to = &metric->attributes[metric->n_attributes++];

        *to = *row;
        to->values =
            (void *) arena_copy(arena, span_of(row->values, row->n_values * sizeof(*row->values)));
        if (!to->values)
            return census_refuse(census);
    }
    if (metric->n_attributes > 1)
        qsort(metric->attributes, metric->n_attributes, sizeof(*metric->attributes), by_key);
    return 0;
}

/* The attributes of the metrics on the page. */
static int
fill_attributes(struct census *census, struct query_metrics *request, struct arena *arena)
{
    struct shown *shown = arena_alloc_array(&census->arena, request->n_metrics, sizeof(*shown));
    int r;

    if (!shown)
        return census_refuse(census);
    for (size_t i = 0; i < request->n_metrics; i++)
        shown[i].metric = &request->metrics[i];
    r = collect_attributes(census, shown, request->n_metrics);
    for (size_t i = 0; !r && i < request->n_metrics; i++)
        r = copy_attributes(census, &shown[i], arena);
    for (size_t i = 0; i < request->n_metrics; i++)
        map_deinit(&shown[i].rows);
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
    size_t at = 0;

    request->metrics = arena_alloc_array(arena, request->page_size, sizeof(*request->metrics));
    if (!sorted || !request->metrics)
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
        request->metrics[request->n_metrics++] =
            (struct query_metric){ .name = metric->name,
                                   .unit = metric->unit,
                                   .kind = metric->kind,
                                   .n_series = metric->n_definitions,
                                   .n_agents = metric->n_agents };
    }
    return pass(fill_attributes(census, request, arena));
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
