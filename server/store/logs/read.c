/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/logs/logs.h"
#include "server/store/whole.h"

/* Every segment from the first to the last of the packs, so that none of them goes: they go in
 * order. */
static void hold(struct logs_view *view, bool is_held)
{
    struct journal *journal = &view->store->journal;

    for (uint32_t number = view->first_segment; number < view->end_segment; number++) {
        struct segment *segment = journal_segment(journal, number);

        if (segment && is_held)
            atomic_fetch_add(&segment->n_holds, 1);
        else if (segment)
            atomic_fetch_sub(&segment->n_holds, 1);
    }
}

/* With the lock held. */
static int copy_packs(struct logs_view *view, int64_t from_us, int64_t to_us)
{
    const struct log_heads *heads = &view->agent->logs;

    if (heads->n_packs == 0)
        return 0;
    view->packs = reallocarray(NULL, heads->n_packs, sizeof(*view->packs));
    if (!view->packs)
        return fault(-ENOMEM, "no memory for the places of %zu packs", heads->n_packs);
    for (size_t i = 0; i < heads->n_packs; i++) {
        if (heads->packs[i].last_us >= from_us && heads->packs[i].first_us < to_us)
            view->packs[view->n_packs++] = heads->packs[i];
    }
    if (view->n_packs == 0)
        return 0;
    view->first_segment = view->packs[0].segment;
    view->end_segment = view->packs[view->n_packs - 1].segment + 1;
    hold(view, true);
    return 0;
}

int logs_view_begin(struct store *store,
                    uint32_t agent_number,
                    int64_t from_us,
                    int64_t to_us,
                    struct logs_view *ret)
{
    struct logs_view view = { .store = store, .agent = agents_known(&store->agents, agent_number) };
    int r;

    if (!view.agent)
        return STORE_NOT_FOUND;
    pthread_mutex_lock(&view.agent->lock);
    view.seal = view.agent->logs.seal;
    r = copy_packs(&view, from_us, to_us);
    view.agent->logs.n_readers += r == 0;
    pthread_mutex_unlock(&view.agent->lock);
    if (!r)
        *ret = view;
    return pass(r);
}

void logs_view_let_go(struct logs_view *view)
{
    hold(view, false);
    view->first_segment = view->end_segment = 0;
    free(take(view->packs));
    view->n_packs = 0;
}

void logs_view_end(struct logs_view *view)
{
    struct agent *agent = take(view->agent);

    if (!agent)
        return;
    logs_view_let_go(view);
    pthread_mutex_lock(&agent->lock);
    ensure(agent->logs.n_readers > 0);
    agent->logs.n_readers--;
    pthread_mutex_unlock(&agent->lock);
}
