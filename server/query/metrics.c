/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/map.h"
#include "common/base/text.h"
#include "server/query/inside.h"

#define VALUES_SHOWN 20

/* One metric's name while it is counted. */
struct tally {
    const char *name, *unit;
    enum store_kind kind;
    uint32_t n_series, n_agents;
    uint32_t last_agent; /* the newest agent counted, so that each counts once */
    struct key_tally *keys;
};

struct key_tally {
    struct key_tally *next;
    const char *key;
    const char **values; /* ascending, room for VALUES_SHOWN */
    size_t n_values;
    bool has_more;
};

/* A layout's metrics, found once however many agents share it. */
struct layout_tally {
    uint32_t id;
    size_t n_tallies;
    struct tally **tallies;
};

struct census {
    const struct query *query;
    const struct query_metrics *request;
    struct arena *arena;
    struct map metrics;     /* name -> tally */
    struct map layouts;     /* id -> layout_tally */
    struct map definitions; /* id -> counted already */
};

static void census_deinit(struct census *census)
{
    map_deinit(&census->metrics);
    map_deinit(&census->layouts);
    map_deinit(&census->definitions);
}

static int
add_value(struct census *census, struct tally *tally, const struct store_attribute *attribute)
{
    struct key_tally *at = tally->keys, **link = &tally->keys;
    size_t i = 0;

    while (at && strcmp(at->key, attribute->key) < 0) {
        link = &at->next;
        at = at->next;
    }
    if (!at || strcmp(at->key, attribute->key) != 0) {
        struct key_tally *added = arena_alloc(census->arena, sizeof(*added));

        if (!added)
            return fault(-ENOMEM, "attribute keys");
        added->values = arena_alloc_array(census->arena, VALUES_SHOWN, sizeof(*added->values));
        if (!added->values)
            return fault(-ENOMEM, "attribute values");
        added->key = attribute->key;
        added->next = at;
        *link = at = added;
    }
    while (i < at->n_values && strcmp(at->values[i], attribute->value) < 0)
        i++;
    if (i < at->n_values && strcmp(at->values[i], attribute->value) == 0)
        return 0;
    if (at->n_values == VALUES_SHOWN) {
        at->has_more = true;
        if (i == VALUES_SHOWN)
            return 0;
        at->n_values--;
    }
    memmove(at->values + i + 1, at->values + i, (at->n_values - i) * sizeof(*at->values));
    at->values[i] = attribute->value;
    at->n_values++;
    return 0;
}

/* The tally of a definition's metric; NULL in *ret when the pattern does not want it. */
static int tally_definition(struct census *census, uint32_t id, struct tally **ret)
{
    const struct store_definition *definition = store_definition_get(census->query->store, id);
    const char *pattern = census->request->name_pattern;
    struct tally *tally;
    int r;

    *ret = NULL;
    ensure(definition);
    if (pattern && *pattern && !text_matches(pattern, definition->name))
        return 0;
    tally = map_get(&census->metrics, span_of_text(definition->name));
    if (!tally) {
        tally = arena_alloc(census->arena, sizeof(*tally));
        if (!tally)
            return fault(-ENOMEM, "metrics");
        *tally = (struct tally){ .name = definition->name,
                                 .unit = definition->unit,
                                 .kind = definition->kind };
        r = map_put(&census->metrics, span_of_text(tally->name), tally);
        if (r)
            return pass(r);
    }
    *ret = tally;
    if (map_get(&census->definitions, span_of(&definition->id, sizeof(definition->id))))
        return 0;
    r = map_put(&census->definitions, span_of(&definition->id, sizeof(definition->id)), tally);
    if (r)
        return pass(r);
    tally->n_series++;
    for (size_t i = 0; i < definition->n_attributes; i++) {
        r = add_value(census, tally, &definition->attributes[i]);
        if (r)
            return pass(r);
    }
    return 0;
}

static int tally_layout(struct census *census, uint32_t id, struct layout_tally **ret)
{
    const struct store_layout *layout;
    struct layout_tally *known = map_get(&census->layouts, span_of(&id, sizeof(id)));
    int r;

    if (!known) {
        layout = store_layout_get(census->query->store, id);
        ensure(layout);
        known = arena_alloc(census->arena, sizeof(*known));
        if (!known)
            return fault(-ENOMEM, "layouts");
        known->id = id;
        known->tallies =
            arena_alloc_array(census->arena, layout->n_columns, sizeof(struct tally *));
        if (!known->tallies)
            return fault(-ENOMEM, "layouts");
        for (uint32_t i = 0; i < layout->n_columns; i++) {
            struct tally *tally;

            r = tally_definition(census, layout->definitions[i], &tally);
            if (r)
                return pass(r);
            if (tally)
                known->tallies[known->n_tallies++] = tally;
        }
        r = map_put(&census->layouts, span_of(&known->id, sizeof(known->id)), known);
        if (r)
            return pass(r);
    }
    *ret = known;
    return 0;
}

static int tally_agent(struct census *census, uint32_t agent)
{
    struct store_span *spans;
    size_t n_spans;
    int r;

    r = store_spans(census->query->store, agent, census->arena, &spans, &n_spans);
    if (r)
        return pass(r);
    for (size_t i = 0; i < n_spans; i++) {
        struct layout_tally *layout;

        r = tally_layout(census, spans[i].layout, &layout);
        if (r)
            return pass(r);
        for (size_t j = 0; j < layout->n_tallies; j++) {
            struct tally *tally = layout->tallies[j];

            if (tally->last_agent != agent) {
                tally->last_agent = agent;
                tally->n_agents++;
            }
        }
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct tally *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static int metric_of_tally(const struct tally *tally, struct arena *arena, struct query_metric *ret)
{
    size_t n = 0;

    *ret = (struct query_metric){ .name = tally->name,
                                  .unit = tally->unit,
                                  .kind = tally->kind,
                                  .n_series = tally->n_series,
                                  .n_agents = tally->n_agents };
    for (const struct key_tally *key = tally->keys; key; key = key->next)
        n++;
    ret->attributes = arena_alloc_array(arena, n, sizeof(*ret->attributes));
    if (!ret->attributes)
        return fault(-ENOMEM, "attributes");
    for (const struct key_tally *key = tally->keys; key; key = key->next)
        ret->attributes[ret->n_attributes++] =
            (struct query_attribute_values){ .key = key->key,
                                             .values = key->values,
                                             .n_values = key->n_values,
                                             .has_more = key->has_more };
    return 0;
}

/* Sorts what was counted and copies the page behind `behind`. */
static int fill_page(struct census *census,
                     struct query_metrics *request,
                     const char *behind,
                     bool *ret_has_more)
{
    struct tally **sorted, *tally;
    size_t n = 0, at = 0;
    int r;

    *ret_has_more = false;
    sorted = arena_alloc_array(census->arena, census->metrics.n_entries, sizeof(struct tally *));
    request->metrics =
        arena_alloc_array(census->arena, request->page_size, sizeof(*request->metrics));
    if (!sorted || !request->metrics)
        return fault(-ENOMEM, "page of metrics");
    while ((tally = map_next(&census->metrics, &at)))
        sorted[n++] = tally;
    if (n > 0)
        qsort(sorted, n, sizeof(struct tally *), by_name);
    request->total = (uint32_t) n;
    for (size_t i = 0; i < n; i++) {
        if (behind && strcmp(sorted[i]->name, behind) <= 0)
            continue;
        if (request->n_metrics == request->page_size) {
            *ret_has_more = true;
            break;
        }
        r = metric_of_tally(sorted[i], census->arena, &request->metrics[request->n_metrics++]);
        if (r)
            return pass(r);
    }
    return 0;
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
    CLEANUP(census_deinit)
    struct census census = { .query = query, .request = request, .arena = arena };
    struct query_digest digest;
    const char *behind;
    uint32_t *numbers;
    size_t n_numbers;
    bool has_more;
    int r;

    r = query_page_size(&request->page_size, ret_problem);
    if (r == 0)
        r = query_check_pattern(request->name_pattern, "name_pattern", ret_problem);
    if (r)
        return pass(r);
    digest_of(request, &digest);
    r = query_token_read(query, &digest, request->page_token, arena, &behind, ret_problem);
    if (r)
        return pass(r);
    r = query_select(query, request->selector, arena, &numbers, &n_numbers, ret_problem);
    if (r)
        return pass(r);
    for (size_t i = 0; i < n_numbers; i++) {
        r = tally_agent(&census, numbers[i]);
        if (r)
            return pass(r);
    }
    r = fill_page(&census, request, behind, &has_more);
    if (r)
        return pass(r);
    request->next_page_token = "";
    if (!has_more)
        return 0;
    digest_of(request, &digest);
    return pass(query_token_make(query, &digest, request->metrics[request->n_metrics - 1].name,
                                 arena, &request->next_page_token));
}
