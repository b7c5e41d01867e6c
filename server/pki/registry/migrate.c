/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "server/pki/inside.h"

#define DONE_KEY "pki.by_name"

/* The newest active one is what the agent has. */
static int put_agent_of(struct pki_edit *edit, const struct pki_row *row)
{
    struct pki_agent_row agent = { 0 };

    int r = pki_edit_agent_get(edit, row->identity.name, &agent);
    if (r == 0) {
        struct pki_row current;
        r = pki_edit_get(edit, agent.agent.current, &current);
        if (r == 0 && current.registered.us >= row->registered.us)
            return 0;
    } else {
        snprintf(agent.agent.name, sizeof(agent.agent.name), "%s", row->identity.name);
        agent.agent.state = PKI_AGENT_ALLOWED;
        agent.agent.enrolled = row->registered;
    }
    if (r != 0 && r != STORE_NOT_FOUND)
        return pass(r);
    agent.agent.changed = row->registered;
    memcpy(agent.agent.current, row->identity.sha256, sizeof(agent.agent.current));
    memcpy(agent.lineage, row->lineage, sizeof(agent.lineage));
    return pass(pki_edit_agent_put(edit, &agent));
}

static bool keep_digest(void *ctx, struct span key, struct span value)
{
    (void) value;
    if (key.len == 32)
        buf_append_span(ctx, key);
    return true;
}

static int migrate(struct pki_edit *edit, void *ctx)
{
    CLEANUP(buf_deinit) struct buf digests = { 0 };
    struct span value;

    (void) ctx;
    int r = store_change_get(edit->change, STORE_TABLE_META, span_of_text(DONE_KEY), &value);
    if (r != STORE_NOT_FOUND)
        return r == 0 ? PKI_EDIT(PKI_EXISTS) : pass(r);
    r = store_change_each(edit->change, STORE_TABLE_CERTIFICATES, span_of(NULL, 0), keep_digest,
                          &digests);
    if (r == 0 && buf_failed(&digests))
        r = STORE_FULL;
    for (size_t at = 0; r == 0 && at < digests.len; at += 32) {
        struct pki_row row;

        r = pki_edit_get(edit, digests.data + at, &row);
        if (r == 0)
            r = pki_edit_put(edit, &row);
        if (r == 0 && row.identity.kind == PKI_AGENT && row.identity.state == PKI_ACTIVE)
            r = put_agent_of(edit, &row);
        r = r == STORE_NOT_FOUND ? 0 : r; /* of a later version */
    }
    if (r == 0)
        r = pki_edit_put_raw(edit, STORE_TABLE_META, span_of_text(DONE_KEY), span_of("\1", 1));
    return pass(r);
}

int pki_migrate(struct pki *pki)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct span value;

    arena_init(&arena, 4096);
    int r = store_state_get(pki->store, STORE_TABLE_META, span_of_text(DONE_KEY), &arena, &value);
    if (r != STORE_NOT_FOUND)
        return r == 0 ? 0 : fold(r);
    r = pki_change(pki, migrate, NULL, NULL);
    return r == PKI_EXISTS ? 0 : pass(r);
}
