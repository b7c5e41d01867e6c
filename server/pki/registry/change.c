/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"

/*
 * How changes come into the view: in the order of their generations, each by the thread that made
 * it. Several may be under way: they are committed together. A generation that no thread of this
 * process made is another process's, and then all is read again.
 */

#define PATIENCE_S 1 /* for the thread of the generation before; then all is read again */

/* Under `refreshing`. `before`: what memory is ahead with; NULL: nothing of it is kept. */
static int read_again(struct pki *pki, const struct pki_view *before)
{
    struct pki_view *view = NULL;
    uint64_t generation;

    /* Generation, then rows: what changes in between is in the rows already, and is put there
     * again. */
    int r = pki_registry_generation(pki->store, &generation);
    if (r == 0)
        r = pki_view_read(&view, pki->store, before);
    if (r != 0)
        return pass(r);
    pthread_rwlock_wrlock(&pki->lock);
    struct pki_view *old = pki->view;
    pki->view = view;
    atomic_store(&pki->generation, generation);
    pthread_rwlock_unlock(&pki->lock);
    pthread_cond_broadcast(&pki->applied);
    pki_view_free(old);
    return 0;
}

int pki_view_reread(struct pki *pki)
{
    pthread_mutex_lock(&pki->refreshing);
    int r = read_again(pki, NULL);
    pthread_mutex_unlock(&pki->refreshing);
    return pass(r);
}

int pki_refresh(struct pki *pki)
{
    uint64_t generation;
    int r = 0;

    pthread_mutex_lock(&pki->refreshing);
    uint64_t version = store_state_version(pki->store);
    if (version != pki->state_version || !pki->view) {
        r = pki_registry_generation(pki->store, &generation);
        bool is_under_way =
            atomic_load(&pki->n_changing) > 0 && generation == atomic_load(&pki->last_own);
        if (r == 0 &&
            (!pki->view || (generation != atomic_load(&pki->generation) && !is_under_way)))
            r = read_again(pki, pki->view);
        if (r == 0 && !is_under_way)
            pki->state_version = version;
    }
    pthread_mutex_unlock(&pki->refreshing);
    return r != 0 ? pass(r) : pass(pki_ca_refresh(pki));
}

static int apply(struct pki *pki, const struct pki_touches *touches)
{
    int r = 0;

    pthread_rwlock_wrlock(&pki->lock);
    for (size_t i = 0; r == 0 && i < touches->n; i++)
        r = pki_view_apply(pki->view, touches->rows[i]);
    if (r == 0)
        atomic_store(&pki->generation, touches->generation);
    pthread_rwlock_unlock(&pki->lock);
    return pass(r);
}

static int show(struct pki *pki, const struct pki_touches *touches, bool must_read)
{
    struct timespec until;
    int r = 0, rc = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&pki->refreshing);
    while (!must_read && rc == 0 && atomic_load(&pki->generation) + 1 < touches->generation)
        rc = pthread_cond_timedwait(&pki->applied, &pki->refreshing, &until);
    uint64_t have = atomic_load(&pki->generation);
    must_read |= have + 1 < touches->generation;
    if (!must_read && have + 1 == touches->generation)
        must_read = apply(pki, touches) != 0;
    if (must_read)
        r = read_again(pki, pki->view);
    pthread_cond_broadcast(&pki->applied);
    pthread_mutex_unlock(&pki->refreshing);
    return pass(r);
}

struct own {
    struct pki *pki;
    pki_edit_fn *fn;
    void *ctx;
    bool is_foreign, has_raised;
};

static int in_own(struct pki_edit *edit, void *ctx)
{
    struct own *own = ctx;

    own->is_foreign = edit->generation != atomic_load(&own->pki->last_own) &&
                      edit->generation != atomic_load(&own->pki->generation);
    int r = own->fn(edit, own->ctx);
    if (r != 0)
        return pass(r);
    own->has_raised = edit->must_raise;
    if (own->has_raised)
        atomic_store(&own->pki->last_own, edit->generation + 1);
    return 0;
}

int pki_change(struct pki *pki, pki_edit_fn *fn, void *ctx, uint64_t *ret_generation)
{
    CLEANUP(pki_touches_deinit) struct pki_touches touches = { 0 };
    struct own own = { .pki = pki, .fn = fn, .ctx = ctx };

    atomic_fetch_add(&pki->n_changing, 1);
    int r = pki_edit_run(pki->store, in_own, &own, &touches);
    if (r == 0 && own.has_raised)
        r = show(pki, &touches, own.is_foreign || touches.is_lost);
    atomic_fetch_sub(&pki->n_changing, 1);
    if (r == 0 && ret_generation)
        *ret_generation = touches.generation;
    return pass(r);
}
