/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/base/fault.h"
#include "server/query/inside.h"

int query_find_behind(const struct query *query,
                      struct query_selected *selected,
                      size_t n,
                      const char *behind,
                      struct arena *arena,
                      size_t *ret)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int r = query_selected_id(query, &selected[middle], arena);

        if (r)
            return pass(r);
        if (strcmp(selected[middle].id, behind) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret = low;
    return 0;
}

int query_list_agents(const struct query *query,
                      struct query_agents *request,
                      struct arena *arena,
                      struct query_problem *ret_problem)
{
    struct query_digest digest = { 0 };
    struct query_selected *selected;
    const char *behind;
    size_t n_selected, first = 0, n = 0;
    int r;

    r = query_page_size(&request->page_size, ret_problem);
    if (r)
        return pass(r);
    query_digest_add(&digest, "agents");
    query_digest_add_selector(&digest, request->selector);
    r = query_token_read(query, &digest, request->page_token, arena, &behind, ret_problem);
    if (r)
        return pass(r);
    r = query_select(query, request->selector, arena, &selected, &n_selected, ret_problem);
    if (!r && behind)
        r = query_find_behind(query, selected, n_selected, behind, arena, &first);
    if (r)
        return pass(r);

    request->agents = arena_alloc_array(arena, request->page_size, sizeof(*request->agents));
    request->is_connected =
        arena_alloc_array(arena, request->page_size, sizeof(*request->is_connected));
    if (!request->agents || !request->is_connected)
        return fault(-ENOMEM, "page of agents");
    for (; n < request->page_size && first + n < n_selected; n++) {
        const uint32_t number = selected[first + n].number;

        r = store_agent_get(query->store, number, arena, &request->agents[n]);
        if (r)
            return fold(r);
        request->is_connected[n] = query->is_connected && query->is_connected(query->ctx, number);
    }
    request->n_agents = n;
    request->total = (uint32_t) n_selected;
    request->next_page_token = "";
    if (first + n == n_selected)
        return 0;
    digest = (struct query_digest){ 0 };
    query_digest_add(&digest, "agents");
    query_digest_add_selector(&digest, request->selector);
    return pass(query_token_make(query, &digest, request->agents[n - 1].id, arena,
                                 &request->next_page_token));
}
