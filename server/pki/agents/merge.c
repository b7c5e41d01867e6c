/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/agents/merge.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/pki/enrol/lineage.h"

/* Lines have whole seconds: of two words in the same second the revocation counts. */
#define SECOND_US INT64_C(1000000)

static bool is_younger(wall_us line, wall_us row)
{
    return line.us / SECOND_US >= row.us / SECOND_US;
}

/* ---- the file knows, the database does not ---- */

static int revoke_again(struct pki_edit *edit, const struct pki_revoked_line *line, size_t *n)
{
    struct pki_row row;

    int r = pki_edit_get(edit, line->sha256, &row);
    if (r != 0)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    if (row.identity.state == PKI_REVOKED || !is_younger(line->at, row.changed))
        return 0;
    pki_row_end(&row, PKI_REVOKED, line->at, "revoked before the backup was restored");
    (*n)++;
    return pass(pki_edit_put(edit, &row));
}

static int stop_again(struct pki_edit *edit, const struct pki_revoked_line *line, size_t *n)
{
    struct pki_agent_row agent;

    int r = pki_edit_agent_get(edit, line->name, &agent);
    if (r != 0)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    if (agent.agent.state == PKI_AGENT_REVOKED || !is_younger(line->at, agent.agent.changed))
        return 0;
    agent.agent.state = PKI_AGENT_REVOKED;
    agent.agent.changed = line->at;
    snprintf(agent.agent.reason, sizeof(agent.agent.reason),
             "revoked before the backup was restored");
    (*n)++;
    return pass(pki_edit_agent_put(edit, &agent));
}

struct merging {
    const struct pki_revoked *revoked;
    size_t n;
};

static int merge(struct pki_edit *edit, void *ctx)
{
    struct merging *merging = ctx;
    const struct pki_revoked_line *line;
    char n[24];
    int r = 0;

    for (size_t at = 0; r == 0 && (line = map_next(&merging->revoked->by_sha256, &at)) != NULL;) {
        if (line->kind == PKI_LINE_CERTIFICATE)
            r = revoke_again(edit, line, &merging->n);
    }
    for (size_t at = 0; r == 0 && (line = map_next(&merging->revoked->by_name, &at)) != NULL;) {
        if (line->kind == PKI_LINE_AGENT)
            r = stop_again(edit, line, &merging->n);
    }
    if (r != 0 || merging->n == 0)
        return r != 0 ? pass(r) : PKI_EDIT(PKI_UNKNOWN);
    snprintf(n, sizeof(n), "%zu", merging->n);
    const struct audit_field fields[] = { { "merged", n } };
    const struct audit_entry entry = { .event = AUDIT_CERTIFICATE_REVOKED,
                                       .actor = "hub",
                                       .object = "file/revoked",
                                       .fields = fields,
                                       .n_fields = 1 };
    return pass(pki_edit_audit(edit, &entry));
}

/* ---- the database knows, the file does not ---- */

static void put_certificate(struct buf *to, const struct pki_entry *entry)
{
    struct pki_revoked_line line = { .kind = PKI_LINE_CERTIFICATE,
                                     .not_after = entry->identity.not_after,
                                     .at = entry->changed };

    if (!pki_name_is_good(entry->identity.name)) /* of a hub: its host's name, or an address */
        return;
    memcpy(line.sha256, entry->identity.sha256, sizeof(line.sha256));
    snprintf(line.name, sizeof(line.name), "%s", entry->identity.name);
    buf_append(to, &line, sizeof(line));
}

static void put_agent(struct buf *to, const struct pki_name *name)
{
    struct pki_revoked_line line = { .kind = PKI_LINE_AGENT, .at = name->changed };

    memcpy(line.name, name->key + 1, name->key_len - 1);
    buf_append(to, &line, sizeof(line));
}

static int add_missing(struct pki *pki)
{
    CLEANUP(buf_deinit) struct buf lines = { 0 };
    const struct pki_revoked *revoked = pki->revoked;
    const struct pki_entry *entry;
    const struct pki_name *name;

    for (size_t at = 0; (entry = map_next(&pki->view->by_sha256, &at)) != NULL;) {
        const struct pki_revoked_line *known =
            map_get(&revoked->by_sha256, span_of(entry->identity.sha256, 32));
        if (entry->identity.state == PKI_REVOKED && (!known || known->kind != PKI_LINE_CERTIFICATE))
            put_certificate(&lines, entry);
    }
    for (size_t at = 0; (name = map_next(&pki->view->by_name, &at)) != NULL;) {
        const struct pki_revoked_line *known =
            map_get(&revoked->by_name, span_of(name->key + 1, name->key_len - 1));
        if (name->has_row && name->state == PKI_AGENT_REVOKED &&
            (!known || known->kind != PKI_LINE_AGENT))
            put_agent(&lines, name);
    }
    if (buf_failed(&lines))
        return fault(-ENOMEM, "no memory for the revocations");
    pki_revoked_add(pki, (const struct pki_revoked_line *) (const void *) lines.data,
                    lines.len / sizeof(struct pki_revoked_line));
    return 0;
}

int pki_revoked_merge(struct pki *pki)
{
    struct merging merging = { .revoked = pki->revoked };

    int r = PKI_UNKNOWN;
    if (pki->revoked->by_sha256.n_entries + pki->revoked->by_name.n_entries > 0)
        r = pki_change(pki, merge, &merging, NULL);
    if (r == PKI_FULL)
        return fault(-ENOSPC, "the disk is full: revocations of %s cannot be merged",
                     pki->revoked->path);
    if (r < 0)
        return pass(r);
    if (r == 0)
        log_event(LOG_WARN, "revocations_merged", LOG_S("path", pki->revoked->path),
                  LOG_U("n", merging.n));
    return pass(add_missing(pki));
}
