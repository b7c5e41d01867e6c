/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Groups of lines. A group adds its lines up as they come and keeps one value of each step; only a
 * QUANTILE over the group needs every line.
 *
 * The key of a group is its labels as one text, each label's key, \1, value, \1, and before them,
 * where the agent is among the labels, its id and \1: so groups are in order of agent, as agents
 * are read, and a page ends without reading the agents behind it.
 */

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/query/range.h"

/* Values of all groups by step (of all lines for a QUANTILE): 12 bytes each. */
#define MAX_CELLS (UINT64_C(8) << 20)
/* top_k looks through its groups when there are so many more than k. */
#define TOP_SLACK 1000

struct group_line { /* for a QUANTILE */
    struct group_line *next;
    bool *is_present;
    double values[]; /* n_steps, then is_present */
};

struct group {
    const char *key; /* behind the labels; so is the agent's id among them */
    double *values;  /* n_steps; so is n */
    uint32_t *n;
    struct group_line *lines;
    double mean;
    bool has_points;
    size_t n_labels;
    struct store_attribute labels[]; /* ascending by key */
};

static void group_free(struct group *group)
{
    while (group->lines) {
        struct group_line *line = group->lines;

        group->lines = line->next;
        free(line);
    }
    free(group->values);
    free(group);
}

void groups_deinit(struct groups *groups)
{
    struct group *group;
    size_t at = 0;

    while ((group = map_next(&groups->by_key, &at)))
        group_free(group);
    map_deinit(&groups->by_key);
    free(groups->first);
    buf_deinit(&groups->key);
}

static bool keeps_lines(const struct range *range)
{
    return range->request->group_aggregation == QUERY_QUANTILE;
}

/* ---- keys and labels ---- */

static const char *
label_of(const char *agent_id, const struct store_definition *definition, const char *key)
{
    if (strcmp(key, "agent") == 0)
        return agent_id;
    for (size_t i = 0; i < definition->n_attributes; i++)
        if (strcmp(definition->attributes[i].key, key) == 0)
            return definition->attributes[i].value;
    return "";
}

static int by_key(const void *a, const void *b)
{
    const struct store_attribute *x = a, *y = b;

    return strcmp(x->key, y->key);
}

/* 1 and 2 never stand for themselves, so that no value can look like the end of its label. */
static void append_escaped(struct buf *key, const char *text)
{
    for (size_t len = strcspn(text, "\1\2"); text[len]; len = strcspn(text, "\1\2")) {
        buf_append(key, text, len);
        buf_append(key, "\2", 1);
        buf_append(key, text + len, 1);
        text += len + 1;
    }
    buf_append_text(key, text);
}

/* An agent says what its attributes are; who it is, its certificate says. */
static const char *key_of(const char *attribute)
{
    return strcmp(attribute, "agent") == 0 ? "attribute.agent" : attribute;
}

static size_t count_labels(const struct query_range *request,
                           const struct store_definition *definition)
{
    return request->group_all        ? 0
           : request->n_group_by > 0 ? request->n_group_by
                                     : definition->n_attributes + 1;
}

/* The labels that a line has in the answer, ascending by key. */
static void fill_labels(const struct range *range,
                        const struct store_definition *definition,
                        struct store_attribute *to,
                        size_t n)
{
    const struct query_range *request = range->request;
    const char *agent_id = range->agent->id;

    for (size_t i = 0; i < n; i++) {
        if (request->n_group_by > 0)
            to[i] =
                (struct store_attribute){ request->group_by[i],
                                          label_of(agent_id, definition, request->group_by[i]) };
        else if (i == 0)
            to[i] = (struct store_attribute){ "agent", agent_id };
        else
            to[i] = (struct store_attribute){ key_of(definition->attributes[i - 1].key),
                                              definition->attributes[i - 1].value };
    }
    if (n > 1)
        qsort(to, n, sizeof(*to), by_key);
}

static void
fill_key(const struct range *range, const struct store_attribute *labels, size_t n, struct buf *to)
{
    buf_clear(to);
    if (range->groups.has_agent) {
        append_escaped(to, range->agent->id);
        buf_append(to, "\1", 1);
    }
    for (size_t i = 0; i < n; i++) {
        append_escaped(to, labels[i].key);
        buf_append(to, "\1", 1);
        append_escaped(to, labels[i].value);
        buf_append(to, "\1", 1);
    }
}

/* ---- lines ---- */

static int refuse_cells(struct range *range)
{
    return query_refuse(range->problem, QUERY_TOO_MUCH, "step",
                        "more than %llu values of `%.64s` at once, reached at agent `%.64s`: a "
                        "longer step, group_by, an attribute, fewer agents or a page_size",
                        (unsigned long long) MAX_CELLS, range->request->name,
                        range_agent_name(range));
}

/* A group of the labels, whose key is in groups->key. Texts of definitions and of the question
 * outlive it, the agent's id does too. */
static int group_new(struct range *range,
                     const struct store_attribute *labels,
                     size_t n_labels,
                     struct group **ret)
{
    struct groups *groups = &range->groups;
    const size_t n_steps = range->grid.n_steps, key_bytes = groups->key.len + 1;
    struct group *group;
    char *key;
    int r;

    if (!keeps_lines(range) && (groups->n_cells += n_steps) > MAX_CELLS)
        return refuse_cells(range);
    group = calloc(1, sizeof(*group) + n_labels * sizeof(*labels) + key_bytes);
    if (!group)
        return fault(-ENOMEM, "groups");
    key = (char *) &group->labels[n_labels];
    memcpy(key, buf_text(&groups->key), key_bytes);
    group->key = key;
    group->n_labels = n_labels;
    if (n_labels)
        memcpy(group->labels, labels, n_labels * sizeof(*labels));
    if (!keeps_lines(range)) {
        group->values = calloc(n_steps, sizeof(double) + sizeof(uint32_t));
        group->n = group->values ? (uint32_t *) &group->values[n_steps] : NULL;
    }
    if (!keeps_lines(range) && !group->values) {
        group_free(group);
        return fault(-ENOMEM, "groups");
    }
    r = map_put(&groups->by_key, span_of(group->key, key_bytes - 1), group);
    if (r) {
        group_free(group);
        return pass(r);
    }
    *ret = group;
    return 0;
}

/* The group of a line; NULL when it is on a page before this one. */
static int find_group(struct range *range, size_t wanted, struct group **ret)
{
    const struct store_definition *definition =
        store_definition_get(range->query->store, range->wanted[wanted]);
    struct groups *groups = &range->groups;
    struct store_attribute few[16], *labels = few;
    size_t n;
    int r = 0;

    *ret = groups->first[wanted];
    if (*ret)
        return 0;
    ensure(definition);
    if (groups->has_agent)
        r = query_selected_id(range->query, range->agent, range->arena);
    if (r)
        return pass(r);
    n = count_labels(range->request, definition);
    if (n > sizeof(few) / sizeof(few[0]))
        labels = calloc(n, sizeof(*labels));
    if (!labels)
        return fault(-ENOMEM, "labels");
    fill_labels(range, definition, labels, n);
    fill_key(range, labels, n, &groups->key);
    if (buf_failed(&groups->key)) {
        r = fault(-ENOMEM, "labels");
    } else if (!groups->passes_over || strcmp(buf_text(&groups->key), groups->behind) > 0) {
        *ret = map_get(&groups->by_key, buf_span(&groups->key));
        if (!*ret)
            r = group_new(range, labels, n, ret);
        if (!r && !groups->has_agent)
            groups->first[wanted] = *ret;
    }
    if (labels != few)
        free(labels);
    return pass(r);
}

static int keep_line(struct range *range, struct group *group)
{
    const size_t n_steps = range->grid.n_steps;
    struct group_line *line;

    if ((range->groups.n_cells += n_steps) > MAX_CELLS)
        return refuse_cells(range);
    line = malloc(sizeof(*line) + n_steps * (sizeof(double) + sizeof(bool)));
    if (!line)
        return fault(-ENOMEM, "series");
    line->is_present = (bool *) &line->values[n_steps];
    memcpy(line->values, range->scratch.to, n_steps * sizeof(double));
    memcpy(line->is_present, range->scratch.is_present, n_steps * sizeof(bool));
    line->next = group->lines;
    group->lines = line;
    return 0;
}

int groups_add_line(struct range *range, size_t wanted)
{
    struct group *group;
    int r;

    /* A series whose samples all lie before the range, read for a first delta, is none. */
    if (!memchr(range->scratch.is_present, true, range->grid.n_steps))
        return 0;
    r = find_group(range, wanted, &group);
    if (r || !group)
        return pass(r);
    if (keeps_lines(range))
        r = keep_line(range, group);
    else
        fold_add_line(range->request->group_aggregation, range->grid.n_steps, range->scratch.to,
                      range->scratch.is_present, group->values, group->n);
    range->groups.n_with_points += !group->has_points;
    group->has_points = true;
    return pass(r);
}

/* ---- values ---- */

static size_t count_lines(const struct group *group)
{
    size_t n = 0;

    for (const struct group_line *line = group->lines; line; line = line->next)
        n++;
    return n;
}

/* The group's value at a step; `column` has room for a value of each line kept. False: none. */
static bool group_value(const struct range *range,
                        const struct group *group,
                        size_t step,
                        double *column,
                        double *ret)
{
    const struct query_range *request = range->request;
    size_t n = 0;

    if (!keeps_lines(range)) {
        /* A series by itself is not a group: COUNT of it would be 1. */
        bool is_group = request->n_group_by > 0 || request->group_all || group->n[step] > 1;

        *ret = is_group
                   ? fold_total(request->group_aggregation, group->values[step], group->n[step])
                   : group->values[step];
        return group->n[step] > 0;
    }
    for (const struct group_line *line = group->lines; line; line = line->next)
        if (line->is_present[step])
            column[n++] = line->values[step];
    if (n > 0)
        *ret = fold_quantile(column, n, request->quantile);
    return n > 0;
}

/* All of a group's points; `to` has room for n_steps. */
static int group_points(const struct range *range,
                        const struct group *group,
                        struct query_point *to,
                        size_t *ret_n)
{
    double *column = calloc(count_lines(group) + 1, sizeof(*column));
    size_t n = 0;

    if (!column)
        return fault(-ENOMEM, "groups");
    for (size_t step = 0; step < range->grid.n_steps; step++) {
        to[n].time_us = range->grid.first_us + (int64_t) step * range->grid.step_us;
        n += group_value(range, group, step, column, &to[n].value);
    }
    free(column);
    *ret_n = n;
    return 0;
}

/* By what top_k ranks. */
static int group_rank(const struct range *range, struct query_point *points, struct group *group)
{
    double sum = 0;
    size_t n;
    int r;

    r = group_points(range, group, points, &n);
    if (r)
        return pass(r);
    for (size_t i = 0; i < n; i++)
        sum += points[i].value;
    group->mean = n > 0 ? sum / (double) n : -INFINITY;
    if (isnan(group->mean)) /* would have no place in an order */
        group->mean = -INFINITY;
    return 0;
}

/* ---- order ---- */

static int by_mean(const void *a, const void *b)
{
    const struct group *const *x = a, *const *y = b;

    if ((*x)->mean != (*y)->mean)
        return (*x)->mean < (*y)->mean ? 1 : -1;
    return strcmp((*x)->key, (*y)->key);
}

static int by_group_key(const void *a, const void *b)
{
    const struct group *const *x = a, *const *y = b;

    return strcmp((*x)->key, (*y)->key);
}

/* Every group, in no order; one place more than there are. */
static int list_groups(const struct groups *groups, struct group ***ret, size_t *ret_n)
{
    struct group **list = calloc(groups->by_key.n_entries + 1, sizeof(struct group *));
    struct group *group;
    size_t at = 0, n = 0;

    if (!list)
        return fault(-ENOMEM, "groups");
    while ((group = map_next(&groups->by_key, &at)))
        list[n++] = group;
    *ret = list;
    *ret_n = n;
    return 0;
}

static void drop_group(struct range *range, struct group *group)
{
    struct groups *groups = &range->groups;

    groups->n_cells -= (keeps_lines(range) ? count_lines(group) : 1) * range->grid.n_steps;
    groups->n_with_points--;
    (void) map_remove(&groups->by_key, span_of_text(group->key));
    group_free(group);
}

/* Drops all groups but the top_k largest by mean; of equal ones the first by key stay. */
static int keep_top(struct range *range)
{
    struct query_point *points = calloc(range->grid.n_steps + 1, sizeof(*points));
    struct group **list = NULL;
    size_t n = 0;
    int r;

    r = points ? list_groups(&range->groups, &list, &n) : fault(-ENOMEM, "groups");
    for (size_t i = 0; !r && i < n; i++)
        r = group_rank(range, points, list[i]);
    if (!r && n > range->request->top_k) {
        qsort(list, n, sizeof(struct group *), by_mean);
        for (size_t i = range->request->top_k; i < n; i++)
            drop_group(range, list[i]);
    }
    free(list);
    free(points);
    return pass(r);
}

/* ---- pages ---- */

/*
 * What a page token says: the range of the first page, which "now" must not move, and the key.
 *
 *   from_us , to_us , step_us , key
 */
static void digest_of(const struct query_range *request, struct query_digest *digest)
{
    *digest = (struct query_digest){ 0 };
    query_digest_add(digest, "range");
    query_digest_add_selector(digest, request->selector);
    query_digest_add(digest, request->name);
    query_digest_add_u64(digest, request->n_attributes);
    for (size_t i = 0; i < request->n_attributes; i++) {
        query_digest_add(digest, request->attributes[i].key);
        query_digest_add(digest, request->attributes[i].value);
    }
    query_digest_add_u64(digest, request->aggregation);
    query_digest_add_u64(digest, request->group_aggregation);
    query_digest_add_u64(digest, request->n_group_by);
    for (size_t i = 0; i < request->n_group_by; i++)
        query_digest_add(digest, request->group_by[i]);
    query_digest_add_u64(digest, request->group_all);
    query_digest_add_u64(digest, request->top_k);
    buf_append(&digest->text, &request->quantile, sizeof(request->quantile));
}

static int64_t next_number(const char **at)
{
    char *end;
    int64_t value = strtoll(*at, &end, 10);

    ensure(*end == ','); /* of our own making: the MAC held */
    *at = end + 1;
    return value;
}

int groups_read_token(struct range *range)
{
    struct query_range *request = range->request;
    struct query_digest digest;
    const char *behind;
    int r;

    digest_of(request, &digest);
    r = query_token_read(range->query, &digest, request->page_token, range->arena, &behind,
                         range->problem);
    if (r || !behind)
        return pass(r);
    request->from_us = next_number(&behind);
    request->to_us = next_number(&behind);
    request->step_us = next_number(&behind);
    range->groups.behind = behind;
    return 0;
}

static int make_token(struct range *range, const char *key)
{
    struct query_range *request = range->request;
    struct query_digest digest;
    const char *behind = arena_printf(range->arena, "%" PRId64 ",%" PRId64 ",%" PRId64 ",%s",
                                      request->from_us, request->to_us, request->step_us, key);

    if (!behind)
        return fault(-ENOMEM, "page token");
    digest_of(request, &digest);
    return pass(
        query_token_make(range->query, &digest, behind, range->arena, &request->next_page_token));
}

int groups_init(struct range *range)
{
    const struct query_range *request = range->request;
    struct groups *groups = &range->groups;

    groups->has_agent = !request->group_all && request->n_group_by == 0;
    for (size_t i = 0; !request->group_all && i < request->n_group_by; i++)
        groups->has_agent = groups->has_agent || strcmp(request->group_by[i], "agent") == 0;
    /* Among the top_k are the ones on pages before, too. */
    groups->passes_over = groups->behind && request->top_k == 0;
    groups->first = calloc(range->n_wanted + 1, sizeof(struct group *));
    return groups->first ? 0 : fault(-ENOMEM, "groups");
}

bool groups_pass_over(const struct groups *groups, const char *agent_id)
{
    size_t len = strlen(agent_id);

    /* Not `<= 0`: the agent of the last series of the page before may have more of them. */
    return groups->has_agent && groups->passes_over && strcmp(agent_id, groups->behind) < 0 &&
           !(strncmp(agent_id, groups->behind, len) == 0 && groups->behind[len] == 1);
}

static int refuse_series(struct range *range)
{
    return query_refuse(range->problem, QUERY_TOO_MUCH, "group_by",
                        "more than %u series of `%.64s` in an answer, reached at agent `%.64s`: "
                        "group_by, an attribute, top_k or a page_size",
                        range->query->max_series, range->request->name, range_agent_name(range));
}

int groups_end_agent(struct range *range, bool *ret_is_full)
{
    const struct query_range *request = range->request;
    struct groups *groups = &range->groups;

    *ret_is_full = false;
    if (request->top_k > 0) /* where more agents may add to a group its mean is not known yet */
        return groups->has_agent && groups->n_with_points > (uint64_t) request->top_k + TOP_SLACK
                   ? pass(keep_top(range))
                   : 0;
    if (request->page_size == 0 && groups->n_with_points > range->query->max_series)
        return refuse_series(range);
    *ret_is_full =
        groups->has_agent && request->page_size > 0 && groups->n_with_points > request->page_size;
    return 0;
}

/* Copies what the answer keeps of a group. */
static int fill_series(struct range *range,
                       const struct group *group,
                       struct query_point *points,
                       struct query_series *ret)
{
    struct store_attribute *labels =
        arena_alloc_array(range->arena, group->n_labels, sizeof(*labels));
    int r;

    if (!labels)
        return fault(-ENOMEM, "labels");
    if (group->n_labels)
        memcpy(labels, group->labels, group->n_labels * sizeof(*labels));
    *ret = (struct query_series){ .labels = labels, .n_labels = group->n_labels };
    r = group_points(range, group, points, &ret->n_points);
    if (r)
        return pass(r);
    ret->points =
        (void *) arena_copy(range->arena, span_of(points, ret->n_points * sizeof(*points)));
    if (ret->points)
        return 0;
    return query_refuse(
        range->problem, QUERY_TOO_MUCH, "step",
        "the answer is too large: a longer step, fewer agents, group_by or a page_size");
}

static int fill_answer(struct range *range,
                       struct group *const *list,
                       size_t n_list,
                       struct query_point *points)
{
    struct query_range *request = range->request;
    const size_t page = request->page_size ? request->page_size : SIZE_MAX;
    size_t n_points = 0;
    int r;

    request->next_page_token = "";
    request->series =
        arena_alloc_array(range->arena, n_list < page ? n_list : page, sizeof(*request->series));
    if (!request->series)
        return fault(-ENOMEM, "series");
    for (; request->n_series < n_list && request->n_series < page; request->n_series++) {
        struct query_series *series = &request->series[request->n_series];

        r = fill_series(range, list[request->n_series], points, series);
        if (r)
            return pass(r);
        n_points += series->n_points;
        if (n_points > range->query->max_points)
            return query_refuse(range->problem, QUERY_TOO_MUCH, "step",
                                "more than %u points in an answer: a longer step, group_by, top_k "
                                "or a page_size",
                                range->query->max_points);
    }
    return request->n_series < n_list ? pass(make_token(range, list[request->n_series - 1]->key))
                                      : 0;
}

int groups_answer(struct range *range)
{
    const struct query_range *request = range->request;
    struct query_point *points = calloc(range->grid.n_steps + 1, sizeof(*points));
    struct group **list = NULL;
    size_t n = 0, first = 0;
    int r = points ? 0 : fault(-ENOMEM, "points");

    if (!r && request->top_k > 0)
        r = keep_top(range);
    if (!r && request->page_size == 0 && range->groups.n_with_points > range->query->max_series)
        r = refuse_series(range);
    if (!r)
        r = list_groups(&range->groups, &list, &n);
    if (!r && n > 1)
        qsort(list, n, sizeof(struct group *), by_group_key);
    while (!r && range->groups.behind && first < n &&
           strcmp(list[first]->key, range->groups.behind) <= 0)
        first++;
    if (!r)
        r = fill_answer(range, list + first, n - first, points);
    free(list);
    free(points);
    return pass(r);
}
