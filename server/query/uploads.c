/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "server/query/inside.h"

struct walk {
    const struct query *query;
    struct query_uploads *request;
    struct arena *arena;
    uint32_t *agents; /* ascending; NULL: all */
    size_t n_agents;
    uint64_t last;
    bool has_more;
    int r;
};

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

    return (x > y) - (x < y);
}

static int select_agents(struct walk *walk, struct query_problem *problem)
{
    const struct query_selector *selector = walk->request->selector;
    struct query_selected *selected;
    int r;

    if (selector->n_ids == 0 && selector->n_labels == 0 &&
        (!selector->pattern || !selector->pattern[0]))
        return 0;
    r = query_select(walk->query, selector, walk->arena, &selected, &walk->n_agents, problem);
    if (r)
        return pass(r);
    walk->agents = arena_alloc_array(walk->arena, walk->n_agents + 1, sizeof(*walk->agents));
    if (!walk->agents)
        return fault(-ENOMEM, "selected agents");
    for (size_t i = 0; i < walk->n_agents; i++)
        walk->agents[i] = selected[i].number;
    qsort(walk->agents, walk->n_agents, sizeof(*walk->agents), ascending);
    return 0;
}

static bool is_wanted(const struct walk *walk, const struct store_object *object)
{
    const struct query_uploads *request = walk->request;

    if (object->begun.us < request->from_us || object->begun.us >= request->to_us)
        return false;
    if (request->name_pattern && request->name_pattern[0] &&
        !text_matches(request->name_pattern, object->name))
        return false;
    return !walk->agents || bsearch(&object->agent, walk->agents, walk->n_agents,
                                    sizeof(*walk->agents), ascending) != NULL;
}

/* Only numbers: the rest is read when this transaction is over. */
static bool on_object(void *ctx, const struct store_object *object)
{
    struct walk *walk = ctx;
    struct query_uploads *request = walk->request;

    if (!is_wanted(walk, object))
        return true;
    if (request->n_uploads == request->page_size) {
        walk->has_more = true;
        return false;
    }
    request->uploads[request->n_uploads++].object.number = object->number;
    return true;
}

int query_get_upload(const struct query *query,
                     uint64_t number,
                     struct arena *arena,
                     struct query_upload *ret)
{
    struct store_agent agent;
    int r = store_object_get(query->store, number, arena, &ret->object);

    if (r == STORE_NOT_FOUND)
        return QUERY_NOT_FOUND;
    if (!r)
        r = store_agent_get(query->store, ret->object.agent, arena, &agent);
    if (r < 0)
        return pass(r);
    ret->agent_id = arena_copy_text(arena, r == 0 ? agent.id : "");
    ret->expires = store_object_expires(query->store, &ret->object);
    return ret->agent_id ? 0 : fault(-ENOMEM, "page of uploads");
}

/* One that went meanwhile is left out. */
static int fill(struct walk *walk)
{
    struct query_uploads *request = walk->request;
    size_t n = 0;

    for (size_t i = 0; i < request->n_uploads; i++) {
        struct query_upload upload = { .agent_id = NULL };
        int r;

        walk->last = request->uploads[i].object.number;
        r = query_get_upload(walk->query, walk->last, walk->arena, &upload);
        if (r == QUERY_NOT_FOUND)
            continue;
        if (r)
            return pass(r);
        request->uploads[n++] = upload;
    }
    request->n_uploads = n;
    return 0;
}

static void digest_of(const struct query_uploads *request, struct query_digest *digest)
{
    *digest = (struct query_digest){ 0 };
    query_digest_add(digest, "uploads");
    query_digest_add_selector(digest, request->selector);
    query_digest_add(digest, request->name_pattern);
}

/* The position has the range: "now" does not move from page to page. */
static int position_of(const char *behind, struct query_uploads *request, uint64_t *ret_below)
{
    uint64_t numbers[3];

    if (!behind)
        return 0;
    if (text_to_hex(behind, numbers, sizeof(numbers)))
        return QUERY_BAD;
    *ret_below = numbers[0];
    request->from_us = (int64_t) numbers[1];
    request->to_us = (int64_t) numbers[2];
    return 0;
}

int query_list_uploads(const struct query *query,
                       struct query_uploads *request,
                       struct arena *arena,
                       struct query_problem *ret_problem)
{
    struct walk walk = { .query = query, .request = request, .arena = arena };
    struct query_digest digest;
    const char *behind = NULL;
    uint64_t below = 0;
    char position[49];
    int r = query_page_size(&request->page_size, ret_problem);

    if (!r)
        r = query_check_pattern(request->name_pattern, "name_pattern", ret_problem);
    if (r)
        return pass(r);
    digest_of(request, &digest);
    r = query_token_read(query, &digest, request->page_token, arena, &behind, ret_problem);
    if (!r && position_of(behind, request, &below))
        r = query_refuse(ret_problem, QUERY_BAD, "page_token", "not a page token of this hub");
    if (!r)
        r = select_agents(&walk, ret_problem);
    if (r)
        return pass(r);
    request->uploads = arena_alloc_array(arena, request->page_size, sizeof(*request->uploads));
    if (!request->uploads)
        return fault(-ENOMEM, "page of uploads");
    request->n_uploads = 0;
    request->next_page_token = "";
    r = store_object_each(query->store, below, on_object, &walk);
    if (!r)
        r = fill(&walk);
    if (r || !walk.has_more)
        return fold(r);
    const uint64_t numbers[3] = { walk.last, (uint64_t) request->from_us,
                                  (uint64_t) request->to_us };
    (void) text_of_hex(numbers, sizeof(numbers), position);
    digest_of(request, &digest);
    return pass(query_token_make(query, &digest, position, arena, &request->next_page_token));
}
