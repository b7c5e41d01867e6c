/* SPDX-License-Identifier: Apache-2.0 */

/*
 * /metrics/agents: what agents sent last, one family after the other, as the format asks for; so
 * the values of all agents are gathered first and then written in slices.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/prom/prom.h"
#include "server/web/inside.h"

#define WINDOW_US (INT64_C(300) * 1000000)
#define ARENA_BYTES (64U << 20)

/* A definition that has values, in Prometheus' words. */
struct told {
    uint32_t definition;
    const char *name;
    const char *labels; /* without the agent's; begins with a comma where there are any */
    const char *help;
    enum prom_type type;
    uint32_t rank; /* by name, then labels; equal for two that become the same series */
};

struct agents_page {
    struct arena arena;
    struct newest_set newest;
    const char **ids; /* by newest.agent, ascending */
    size_t n_ids;
    struct told *told; /* ascending by rank */
    size_t n_told;
    size_t at;          /* the row that comes next */
    const char *family; /* the name that was written last */
};

void web_free_agents(void *state)
{
    struct agents_page *page = state;

    if (!page)
        return;
    newest_deinit(&page->newest);
    arena_deinit(&page->arena);
    free(page);
}

/* ---- who is asked for ---- */

static int no_room(void)
{
    return fault(-ENOMEM, "no room for the page of agents");
}

/* Outcomes: STORE_NOT_FOUND. */
static int find_agents(struct web_job *job, struct agents_page *page, uint32_t **ret_numbers)
{
    struct store *store = job->web->options.store;
    int r;

    if (!job->agent[0])
        return pass(store_agent_list(store, &page->arena, ret_numbers, &page->n_ids));
    *ret_numbers = arena_alloc_array(&page->arena, 1, sizeof(**ret_numbers));
    if (!*ret_numbers)
        return no_room();
    r = store_agent_find(store, job->agent, *ret_numbers);
    page->n_ids = 1;
    return pass(r);
}

static int gather(struct web_job *job, struct agents_page *page, const uint32_t *numbers)
{
    struct store *store = job->web->options.store;
    const int64_t from_us = clock_wall().us - WINDOW_US;

    page->ids = arena_alloc_array(&page->arena, page->n_ids, sizeof(*page->ids));
    if (!page->ids)
        return no_room();
    for (size_t i = 0; i < page->n_ids && !page->newest.is_over; i++) {
        CLEANUP(arena_deinit) struct arena arena;
        struct store_agent agent;
        int r;

        if (atomic_load(&job->is_cancelled))
            return 0;
        arena_init(&arena, 1U << 20);
        r = store_agent_get(store, numbers[i], &arena, &agent);
        if (r != 0)
            return fold(r);
        page->ids[i] = arena_copy_text(&page->arena, agent.id);
        if (!page->ids[i])
            return no_room();
        r = newest_add(&page->newest, store, numbers[i], (uint32_t) i, from_us);
        if (r != 0)
            return pass(r);
    }
    return 0;
}

/* ---- in Prometheus' words ---- */

static const char *keep(struct arena *arena, struct buf *text)
{
    return buf_failed(text) ? NULL : arena_copy(arena, buf_span(text));
}

static const char *labels_of(struct arena *arena, const struct store_definition *definition)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct prom_label *labels;
    size_t n;

    if (prom_labels(definition->attributes, definition->n_attributes, arena, &labels, &n) != 0)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        buf_append_text(&text, ",");
        prom_put_label(&text, labels[i].name, labels[i].value);
    }
    return keep(arena, &text);
}

static int tell(struct agents_page *page, struct store *store, struct told *told)
{
    const struct store_definition *definition = store_definition_get(store, told->definition);
    CLEANUP(buf_deinit) struct buf name = { 0 };

    ensure(definition);
    prom_put_name(&name, definition->name, definition->unit, definition->kind);
    told->name = keep(&page->arena, &name);
    told->labels = labels_of(&page->arena, definition);
    told->help = definition->unit[0]
                     ? arena_printf(&page->arena, "%s in %s", definition->name, definition->unit)
                     : arena_copy_text(&page->arena, definition->name);
    told->type = definition->kind == STORE_COUNTER ? PROM_COUNTER : PROM_GAUGE;
    return told->name && told->labels && told->help ? 0 : no_room();
}

static int by_definition(const void *a, const void *b)
{
    const struct newest *x = a, *y = b;

    return (x->definition > y->definition) - (x->definition < y->definition);
}

static int by_words(const void *a, const void *b)
{
    const struct told *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : strcmp(x->labels, y->labels);
}

/* By rank, which stands in place of the definition by then; the newest first. */
static int by_place(const void *a, const void *b)
{
    const struct newest *x = a, *y = b;

    if (x->definition != y->definition)
        return x->definition < y->definition ? -1 : 1;
    if (x->agent != y->agent)
        return x->agent < y->agent ? -1 : 1;
    return (x->time_us < y->time_us) - (x->time_us > y->time_us);
}

/* A family has one type; two metrics of ours that become one family may differ. */
static void settle_types(struct agents_page *page)
{
    for (size_t i = 1, first = 0; i < page->n_told; i++) {
        if (strcmp(page->told[i].name, page->told[first].name) != 0)
            first = i;
        else if (page->told[i].type != page->told[first].type)
            page->told[first].type = PROM_UNTYPED;
    }
}

static void rank_told(struct agents_page *page)
{
    qsort(page->told, page->n_told, sizeof(*page->told), by_words);
    for (size_t i = 0; i < page->n_told; i++) {
        bool is_same = i > 0 && by_words(&page->told[i - 1], &page->told[i]) == 0;

        page->told[i].rank = is_same ? page->told[i - 1].rank : (uint32_t) i;
    }
    settle_types(page);
}

static size_t count_definitions(const struct newest_set *set)
{
    size_t n = 0;

    for (size_t i = 0; i < set->n; i++)
        n += i == 0 || set->rows[i].definition != set->rows[i - 1].definition;
    return n;
}

struct place {
    uint32_t definition, rank;
};

static int by_place_definition(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return (x->definition > y->definition) - (x->definition < y->definition);
}

/* Puts ranks in place of the rows' definitions; both are ascending by definition. */
static int replace_definitions(struct agents_page *page)
{
    struct place *places = arena_alloc_array(&page->arena, page->n_told, sizeof(*places));
    size_t at = 0;

    if (!places)
        return no_room();
    for (size_t i = 0; i < page->n_told; i++)
        places[i] = (struct place){ page->told[i].definition, page->told[i].rank };
    qsort(places, page->n_told, sizeof(*places), by_place_definition);
    for (size_t i = 0; i < page->newest.n; i++) {
        struct newest *row = &page->newest.rows[i];

        while (places[at].definition != row->definition)
            at++;
        ensure(at < page->n_told);
        row->definition = places[at].rank;
    }
    return 0;
}

static int put_in_order(struct agents_page *page, struct store *store)
{
    struct newest_set *set = &page->newest;
    int r;

    if (set->n == 0)
        return 0;
    qsort(set->rows, set->n, sizeof(*set->rows), by_definition);
    page->told = arena_alloc_array(&page->arena, count_definitions(set), sizeof(*page->told));
    if (!page->told)
        return no_room();
    for (size_t i = 0; i < set->n; i++) {
        if (i > 0 && set->rows[i].definition == set->rows[i - 1].definition)
            continue;
        page->told[page->n_told].definition = set->rows[i].definition;
        r = tell(page, store, &page->told[page->n_told]);
        if (r != 0)
            return pass(r);
        page->n_told++;
    }
    rank_told(page);
    r = replace_definitions(page);
    if (r == 0)
        qsort(set->rows, set->n, sizeof(*set->rows), by_place);
    return pass(r);
}

/* ---- the page ---- */

static void put_row(struct buf *to, struct agents_page *page, const struct newest *row)
{
    const struct told *told = &page->told[row->definition];

    if (!page->family || strcmp(page->family, told->name) != 0) {
        prom_put_family(to, told->name, told->type, told->help);
        page->family = told->name;
    }
    buf_printf(to, "%s{", told->name);
    prom_put_label(to, "agent", page->ids[row->agent]);
    buf_printf(to, "%s} ", told->labels);
    prom_put_value(to, row->value);
    /* Rounded down: a time that has not come yet is none. */
    buf_printf(to, " %" PRId64 "\n", row->time_us / 1000 - (row->time_us % 1000 < 0));
}

static void put_slice(struct web_job *job, struct agents_page *page)
{
    const struct newest *rows = page->newest.rows;

    ensure(rows || page->newest.n == 0);
    for (; page->at < page->newest.n && job->body.len < WEB_SLICE_BYTES; page->at++) {
        const struct newest *row = &rows[page->at];
        const struct newest *before = page->at > 0 ? row - 1 : NULL;

        /* Two of ours that are one series there: the newest is it. */
        if (!before || before->definition != row->definition || before->agent != row->agent)
            put_row(&job->body, page, row);
    }
    job->is_last = page->at == page->newest.n;
}

/* Makes the state; or the answer, where that is an error. */
static int begin(struct web_job *job)
{
    struct agents_page *page = calloc(1, sizeof(*page));
    uint32_t *numbers = NULL;
    int r;

    if (!page)
        return no_room();
    job->state = page;
    arena_init(&page->arena, ARENA_BYTES);
    page->newest.max = job->max_series;
    r = find_agents(job, page, &numbers);
    if (r == STORE_NOT_FOUND) {
        web_job_fail(job, 404, "NOT_FOUND",
                     "there is no agent `%s`; sentinelctl agents list has those there are",
                     job->agent);
        return 0;
    }
    if (r == 0)
        r = gather(job, page, numbers);
    if (r == 0 && page->newest.is_over) {
        web_job_fail(job, 422, "TOO_MANY_SERIES",
                     "more than %zu series (metrics.max_series); ask agent by agent with "
                     "/metrics?agent=ID, or raise the setting",
                     page->newest.max);
        return 0;
    }
    if (r == 0)
        r = put_in_order(page, job->web->options.store);
    return fold(r);
}

int web_make_agents(struct web_job *job)
{
    if (!job->state) {
        int r;

        job->content_type = "text/plain; version=0.0.4; charset=utf-8";
        r = begin(job);
        if (r != 0 || job->is_last)
            return pass(r);
    }
    put_slice(job, job->state);
    return 0;
}
