/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/base/fault.h"
#include "server/query/inside.h"

int query_list_agents(const struct query *query,
                      struct query_agents *request,
                      struct arena *arena,
                      struct query_problem *ret_problem)
{
    struct query_digest digest = { 0 };
    const char *behind;
    uint32_t *numbers;
    size_t n_numbers, n = 0;
    bool has_more = false;
    int r;

    r = query_page_size(&request->page_size, ret_problem);
    if (r)
        return pass(r);
    query_digest_add(&digest, "agents");
    query_digest_add_selector(&digest, request->selector);
    r = query_token_read(query, &digest, request->page_token, arena, &behind, ret_problem);
    if (r)
        return pass(r);
    r = query_select(query, request->selector, arena, &numbers, &n_numbers, ret_problem);
    if (r)
        return pass(r);

    request->agents = arena_alloc_array(arena, request->page_size, sizeof(*request->agents));
    request->is_connected =
        arena_alloc_array(arena, request->page_size, sizeof(*request->is_connected));
    if (!request->agents || !request->is_connected)
        return fault(-ENOMEM, "page of agents");
    for (size_t i = 0; i < n_numbers && !has_more; i++) {
        struct store_agent agent;

        r = store_agent_get(query->store, numbers[i], arena, &agent);
        if (r)
            return fold(r);
        if (behind && strcmp(agent.id, behind) <= 0)
            continue;
        if (n == request->page_size) {
            has_more = true;
        } else {
            request->agents[n] = agent;
            request->is_connected[n] =
                query->is_connected && query->is_connected(query->ctx, agent.number);
            n++;
        }
    }
    request->n_agents = n;
    request->total = (uint32_t) n_numbers;
    request->next_page_token = "";
    if (!has_more)
        return 0;
    digest = (struct query_digest){ 0 };
    query_digest_add(&digest, "agents");
    query_digest_add_selector(&digest, request->selector);
    return pass(query_token_make(query, &digest, request->agents[n - 1].id, arena,
                                 &request->next_page_token));
}
