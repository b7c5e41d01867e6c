/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/query/range.h"

/* Some lines with the same labels: one series of the answer. */
struct group {
    struct store_attribute *labels;
    size_t n_labels;
    const char *key; /* the labels as text: order and page tokens */
    size_t first, n_lines;
    double mean;
};

struct member {
    const struct line *line;
    const char *key;
    struct store_attribute *labels;
    size_t n_labels;
};

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
    for (; *text; text++) {
        if (*text == 1 || *text == 2)
            buf_append(key, "\2", 1);
        buf_append(key, text, 1);
    }
}

/* An agent says what its attributes are; who it is, its certificate says. */
static const char *key_of(const char *attribute)
{
    return strcmp(attribute, "agent") == 0 ? "attribute.agent" : attribute;
}

/* The labels that a line has in the answer, ascending by key, and as one text. */
static int
member_init(struct range *range, const struct line *line, const char *agent_id, struct member *ret)
{
    const struct query_range *request = range->request;
    const struct store_definition *definition =
        store_definition_get(range->query->store, line->definition);
    struct buf key = { 0 };
    size_t n;

    ensure(definition);
    n = request->group_all        ? 0
        : request->n_group_by > 0 ? request->n_group_by
                                  : definition->n_attributes + 1;
    *ret = (struct member){ .line = line, .n_labels = n };
    ret->labels = arena_alloc_array(range->arena, n, sizeof(*ret->labels));
    if (!ret->labels)
        return fault(-ENOMEM, "labels");
    for (size_t i = 0; i < n; i++) {
        if (request->n_group_by > 0)
            ret->labels[i] =
                (struct store_attribute){ request->group_by[i],
                                          label_of(agent_id, definition, request->group_by[i]) };
        else if (i == 0)
            ret->labels[i] = (struct store_attribute){ "agent", agent_id };
        else
            ret->labels[i] = (struct store_attribute){ key_of(definition->attributes[i - 1].key),
                                                       definition->attributes[i - 1].value };
    }
    if (n > 1)
        qsort(ret->labels, n, sizeof(*ret->labels), by_key);
    for (size_t i = 0; i < n; i++) {
        append_escaped(&key, ret->labels[i].key);
        buf_append(&key, "\1", 1);
        append_escaped(&key, ret->labels[i].value);
        buf_append(&key, "\1", 1);
    }
    ret->key = buf_failed(&key) ? NULL : arena_copy_text(range->arena, buf_text(&key));
    buf_deinit(&key);
    return ret->key ? 0 : fault(-ENOMEM, "labels");
}

static int by_member_key(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int order = strcmp(x->key, y->key);

    /* Equal ones in the order of the lines: LAST takes the last, and sums round the same way. */
    return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

static int make_members(struct range *range, struct member **ret)
{
    struct store_agent agent = { .number = 0 };
    struct member *members;
    const char *id = "";
    int r;

    members = arena_alloc_array(range->arena, range->n_lines, sizeof(*members));
    if (!members)
        return fault(-ENOMEM, "series");
    for (size_t i = 0; i < range->n_lines; i++) {
        if (agent.number != range->lines[i].agent) {
            r = store_agent_get(range->query->store, range->lines[i].agent, range->arena, &agent);
            if (r)
                return fold(r);
            id = arena_copy_text(range->arena, agent.id);
            if (!id)
                return fault(-ENOMEM, "series");
        }
        r = member_init(range, &range->lines[i], id, &members[i]);
        if (r)
            return pass(r);
    }
    if (range->n_lines > 1)
        qsort(members, range->n_lines, sizeof(*members), by_member_key);
    *ret = members;
    return 0;
}

static int
make_groups(struct range *range, const struct member *members, struct group **ret, size_t *ret_n)
{
    struct group *groups = arena_alloc_array(range->arena, range->n_lines, sizeof(*groups));
    size_t n = 0;

    if (!groups)
        return fault(-ENOMEM, "groups");
    for (size_t i = 0; i < range->n_lines; i++) {
        if (n == 0 || strcmp(groups[n - 1].key, members[i].key) != 0)
            groups[n++] = (struct group){ .labels = members[i].labels,
                                          .n_labels = members[i].n_labels,
                                          .key = members[i].key,
                                          .first = i };
        groups[n - 1].n_lines++;
    }
    *ret = groups;
    *ret_n = n;
    return 0;
}

/* One group's points. `column` has room for a value of each of its lines. */
static int group_points(struct range *range,
                        const struct member *members,
                        struct group *group,
                        double *column,
                        struct query_series *ret)
{
    const struct query_range *request = range->request;
    double sum = 0;

    *ret = (struct query_series){ .labels = group->labels, .n_labels = group->n_labels };
    ret->points = arena_alloc_array(range->arena, range->grid.n_steps, sizeof(*ret->points));
    if (!ret->points)
        return query_refuse(
            range->problem, QUERY_TOO_MUCH, "step",
            "the answer is too large: a longer step, fewer agents, group_by or a page_size");
    for (size_t step = 0; step < range->grid.n_steps; step++) {
        size_t n = 0;
        double value;

        for (size_t i = group->first; i < group->first + group->n_lines; i++)
            if (members[i].line->is_present[step])
                column[n++] = members[i].line->values[step];
        if (n == 0)
            continue;
        value = group->n_lines == 1 && request->n_group_by == 0 && !request->group_all
                    ? column[0]
                    : fold_group(column, n, request->group_aggregation, request->quantile);
        sum += value;
        ret->points[ret->n_points++] =
            (struct query_point){ range->grid.first_us + (int64_t) step * range->grid.step_us,
                                  value };
    }
    group->mean = ret->n_points ? sum / (double) ret->n_points : -INFINITY;
    if (isnan(group->mean)) /* would have no place in an order */
        group->mean = -INFINITY;
    return 0;
}

/* The top_k groups by mean come first in *order; ties by key. */
struct ranked {
    const struct group *group;
    struct query_series series;
};

static int by_mean(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->group->mean != y->group->mean)
        return x->group->mean < y->group->mean ? 1 : -1;
    return strcmp(x->group->key, y->group->key);
}

static int by_group_key(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return strcmp(x->group->key, y->group->key);
}

static void digest_of(const struct query_range *request, struct query_digest *digest)
{
    *digest = (struct query_digest){ 0 };
    query_digest_add(digest, "range");
    query_digest_add_selector(digest, request->selector);
    query_digest_add(digest, request->name);
    for (size_t i = 0; i < request->n_attributes; i++) {
        query_digest_add(digest, request->attributes[i].key);
        query_digest_add(digest, request->attributes[i].value);
    }
    query_digest_add_u64(digest, request->aggregation);
    query_digest_add_u64(digest, request->group_aggregation);
    for (size_t i = 0; i < request->n_group_by; i++)
        query_digest_add(digest, request->group_by[i]);
    query_digest_add_u64(digest, request->group_all);
    query_digest_add_u64(digest, request->top_k);
    buf_append(&digest->text, &request->quantile, sizeof(request->quantile));
}

/* Cuts the ranked groups, in order of key, to the page behind the token. */
static int cut_page(struct range *range, struct ranked *ranked, size_t n_ranked)
{
    struct query_range *request = range->request;
    size_t page = request->page_size ? request->page_size : SIZE_MAX, n = 0, points = 0;
    struct query_digest digest;
    const char *behind, *last = "";
    int r;

    digest_of(request, &digest);
    r = query_token_read(range->query, &digest, request->page_token, range->arena, &behind,
                         range->problem);
    if (r)
        return pass(r);
    request->next_page_token = "";
    request->series = arena_alloc_array(range->arena, n_ranked, sizeof(*request->series));
    if (!request->series)
        return fault(-ENOMEM, "series");
    for (size_t i = 0; i < n_ranked; i++) {
        if (behind && strcmp(ranked[i].group->key, behind) <= 0)
            continue;
        if (n == page) {
            digest_of(request, &digest);
            r = query_token_make(range->query, &digest, last, range->arena,
                                 &request->next_page_token);
            if (r)
                return pass(r);
            break;
        }
        request->series[n++] = ranked[i].series;
        points += ranked[i].series.n_points;
        last = ranked[i].group->key;
    }
    request->n_series = n;
    if (n > range->query->max_series)
        return query_refuse(
            range->problem, QUERY_TOO_MUCH, "group_by",
            "%zu series, at most %u in an answer: group_by, an attribute, top_k or a page_size", n,
            range->query->max_series);
    if (points > range->query->max_points)
        return query_refuse(
            range->problem, QUERY_TOO_MUCH, "step",
            "%zu points, at most %u in an answer: a longer step, group_by, top_k or a page_size",
            points, range->query->max_points);
    return 0;
}

int range_group(struct range *range)
{
    struct query_range *request = range->request;
    struct member *members;
    struct ranked *ranked;
    struct group *groups;
    size_t n_groups, n_ranked = 0;
    double *column;
    int r;

    r = make_members(range, &members);
    if (r)
        return pass(r);
    r = make_groups(range, members, &groups, &n_groups);
    if (r)
        return pass(r);
    column = arena_alloc_array(range->arena, range->n_lines, sizeof(*column));
    ranked = arena_alloc_array(range->arena, n_groups, sizeof(*ranked));
    if (!column || !ranked)
        return fault(-ENOMEM, "groups");
    for (size_t i = 0; i < n_groups; i++) {
        ranked[n_ranked].group = &groups[i];
        r = group_points(range, members, &groups[i], column, &ranked[n_ranked].series);
        if (r)
            return pass(r);
        /* A series whose samples all lie before the range, read for a first delta, is none. */
        n_ranked += ranked[n_ranked].series.n_points > 0;
    }
    if (request->top_k > 0 && n_ranked > request->top_k) {
        qsort(ranked, n_ranked, sizeof(*ranked), by_mean);
        n_ranked = request->top_k;
        qsort(ranked, n_ranked, sizeof(*ranked), by_group_key);
    }
    return pass(cut_page(range, ranked, n_ranked));
}
