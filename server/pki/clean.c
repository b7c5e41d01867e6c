/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/clean.h"

#include <string.h>

#include "common/base/fault.h"
#include "server/pki/enrol/lineage.h"
#include "server/pki/enrol/tokens.h"

#define MAX_DROPPED 512 /* in one transaction: short; the next minute takes more */

struct cleaning {
    uint8_t over[MAX_DROPPED][32];
    size_t n;
    int64_t grace_us;
};

static wall_us end_of(enum pki_state state, wall_us not_after, int64_t grace_us)
{
    return (wall_us){ not_after.us + (state == PKI_SUPERSEDED ? grace_us : PKI_ROWS_LINGER_US) };
}

/* In memory: which ones are worth a look. */
static void find(struct pki *pki, wall_us now, struct cleaning *cleaning)
{
    const struct pki_entry *entry;

    pthread_rwlock_rdlock(&pki->lock);
    for (size_t at = 0;
         cleaning->n < MAX_DROPPED && (entry = map_next(&pki->view->by_sha256, &at)) != NULL;) {
        const struct pki_identity *identity = &entry->identity;
        bool is_last = entry->name->has_row && memcmp(entry->name->current, identity->sha256,
                                                      sizeof(identity->sha256)) == 0;
        if (!is_last &&
            end_of(identity->state, identity->not_after, cleaning->grace_us).us <= now.us)
            memcpy(cleaning->over[cleaning->n++], identity->sha256, 32);
    }
    pthread_rwlock_unlock(&pki->lock);
}

static int drop(struct pki_edit *edit, const uint8_t sha256[32], int64_t grace_us)
{
    struct pki_agent_row agent;
    struct pki_row row;

    int r = pki_edit_get(edit, sha256, &row);
    if (r != 0)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    if (end_of(row.identity.state, row.identity.not_after, grace_us).us > edit->now.us)
        return 0;
    if (row.identity.kind == PKI_AGENT) {
        r = pki_edit_agent_get(edit, row.identity.name, &agent);
        if (r != 0 && r != STORE_NOT_FOUND)
            return pass(r);
        if (r == 0 && memcmp(agent.agent.current, sha256, 32) == 0)
            return 0;
    }
    return pass(pki_edit_remove(edit, &row));
}

static int clean(struct pki_edit *edit, void *ctx)
{
    const struct cleaning *cleaning = ctx;
    int r = pki_tokens_clean(edit);

    for (size_t i = 0; r == 0 && i < cleaning->n; i++)
        r = drop(edit, cleaning->over[i], cleaning->grace_us);
    return pass(r);
}

int pki_clean(struct pki *pki)
{
    struct cleaning cleaning = { .grace_us = atomic_load(&pki->grace_us) };

    find(pki, clock_wall(), &cleaning);
    return pass(pki_change(pki, clean, &cleaning, NULL));
}

void pki_tick(struct pki *pki)
{
    const struct pki_job job = { .work = PKI_WORK_TICK };

    pki_work_queue(pki, &job);
}
