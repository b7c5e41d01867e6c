/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/enrol/lineage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "server/pki/agents/revoked.h"
#include "server/pki/ca/ca.h"
#include "server/pki/clean.h"

const char *pki_object_of(const uint8_t sha256[32], char to[static PKI_OBJECT_BYTES])
{
    char hex[65];

    snprintf(to, PKI_OBJECT_BYTES, "certificate/%s", text_of_hex(sha256, 32, hex));
    return to;
}

const char *pki_agent_object(const char *name, char to[static PKI_OBJECT_BYTES])
{
    snprintf(to, PKI_OBJECT_BYTES, "agent/%s", name);
    return to;
}

/* ---- the rule ---- */

bool pki_supersedes(const struct pki_kin *presented, const struct pki_kin *other)
{
    if (memcmp(presented->sha256, other->sha256, 32) == 0)
        return false;
    if (memcmp(other->parent, presented->sha256, 32) == 0)
        return false;
    return memcmp(presented->lineage, other->lineage, PKI_LINEAGE_BYTES) == 0 ||
           other->registered.us < presented->registered.us;
}

static bool counts(enum pki_state state)
{
    return state == PKI_ACTIVE || state == PKI_UNCONFIRMED;
}

static struct pki_kin kin_of_row(const struct pki_row *row)
{
    return (struct pki_kin){ row->identity.sha256, row->parent, row->lineage, row->registered };
}

static struct pki_kin kin_of_entry(const struct pki_entry *entry)
{
    return (struct pki_kin){ entry->identity.sha256, entry->parent, entry->lineage,
                             entry->registered };
}

void pki_row_end(struct pki_row *row, enum pki_state state, wall_us now, const char *reason)
{
    row->identity.state = state;
    row->changed = now;
    row->chain = span_of(NULL, 0);
    snprintf(row->reason, sizeof(row->reason), "%s", reason);
}

/* ---- on disk ---- */

int pki_confirm(struct pki_edit *edit, struct pki_row *row, wall_us at)
{
    struct pki_agent_row agent = { 0 };
    struct pki_row *rows;
    char reason[64], hex[65];
    size_t n;

    row->identity.state = PKI_ACTIVE;
    row->presented = at;
    int r = pki_edit_put(edit, row);
    if (r != 0 || row->identity.kind != PKI_AGENT) /* an operator may have several */
        return pass(r);
    r = pki_edit_rows_of(edit, row->identity.kind, row->identity.name, &rows, &n);
    if (r != 0)
        return pass(r);
    const struct pki_kin kin = kin_of_row(row);
    snprintf(reason, sizeof(reason), "superseded by %.16s",
             text_of_hex(row->identity.sha256, 32, hex));
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct pki_kin other = kin_of_row(&rows[i]);
        if (!counts(rows[i].identity.state) || !pki_supersedes(&kin, &other))
            continue;
        pki_row_end(&rows[i], PKI_SUPERSEDED, at, reason);
        r = pki_edit_put(edit, &rows[i]);
    }
    if (r == 0)
        r = pki_edit_agent_get(edit, row->identity.name, &agent);
    if (r == STORE_NOT_FOUND) {
        agent.agent.state = PKI_AGENT_ALLOWED;
        agent.agent.enrolled = agent.agent.changed = at;
        memcpy(agent.agent.name, row->identity.name, sizeof(agent.agent.name));
        r = 0;
    }
    if (r != 0)
        return pass(r);
    memcpy(agent.agent.current, row->identity.sha256, sizeof(agent.agent.current));
    memcpy(agent.lineage, row->lineage, sizeof(agent.lineage));
    return pass(pki_edit_agent_put(edit, &agent));
}

static int put_presented(struct pki_edit *edit, void *ctx)
{
    const struct pki_job *job = ctx;
    struct pki_row row;

    int r = pki_edit_get(edit, job->row.identity.sha256, &row);
    if (r == STORE_NOT_FOUND)
        return PKI_EDIT(PKI_UNKNOWN); /* forgotten meanwhile */
    if (r == 0 && row.identity.state != PKI_UNCONFIRMED)
        return row.identity.state == PKI_ACTIVE ? PKI_EDIT(PKI_EXISTS) : PKI_EDIT(PKI_UNKNOWN);
    return r != 0 ? pass(r) : pass(pki_confirm(edit, &row, job->row.presented));
}

static int put_fork(struct pki_edit *edit, void *ctx)
{
    const struct pki_job *job = ctx;
    struct pki_agent_row agent;
    struct pki_row row;
    char object[PKI_OBJECT_BYTES], hex[65], current[65], since[TEXT_TIME_BYTES];

    int r = pki_edit_get(edit, job->row.identity.sha256, &row);
    if (r == 0)
        r = pki_edit_agent_get(edit, row.identity.name, &agent);
    if (r == STORE_NOT_FOUND)
        return PKI_EDIT(PKI_UNKNOWN);
    if (r != 0)
        return pass(r);
    if (agent.agent.state != PKI_AGENT_ALLOWED || row.identity.state != PKI_SUPERSEDED ||
        memcmp(row.lineage, agent.lineage, sizeof(row.lineage)) != 0)
        return PKI_EDIT(PKI_EXISTS);
    row.presented = agent.agent.changed = job->row.presented;
    agent.agent.state = PKI_AGENT_FORKED;
    (void) text_of_hex(row.identity.sha256, 32, hex);
    (void) text_of_hex(agent.agent.current, 32, current);
    snprintf(agent.agent.reason, sizeof(agent.agent.reason),
             "%.16s was used after its successor %.16s: two machines, or one that was set back",
             hex, current);
    r = pki_edit_put(edit, &row);
    if (r == 0)
        r = pki_edit_agent_put(edit, &agent);
    if (r != 0)
        return pass(r);
    const struct audit_field fields[] = {
        { "certificate", hex },
        { "current", current },
        { "superseded", text_of_time(row.changed, since) },
    };
    const struct audit_entry entry = { .event = AUDIT_LINEAGE_FORKED,
                                       .actor = pki_agent_object(row.identity.name, object),
                                       .object = object,
                                       .fields = fields,
                                       .n_fields = 3 };
    return pass(pki_edit_audit(edit, &entry));
}

static int put_adopted(struct pki_edit *edit, void *ctx)
{
    struct pki_job *job = ctx;

    int r = pki_adopt_in(edit, &job->row);
    return r == STORE_NOT_FOUND ? PKI_EDIT(PKI_UNKNOWN) : pass(r);
}

/* What memory has and the disk refuses: memory is wrong. */
static int again(struct pki *pki)
{
    log_event(LOG_WARN, "registry_read_again", LOG_U("generation", pki_generation(pki)));
    return pass(pki_view_reread(pki));
}

int pki_work_do(struct pki *pki, struct pki_job *job)
{
    static pki_edit_fn *const edits[] = {
        [PKI_WORK_PRESENTED] = put_presented,
        [PKI_WORK_FORK] = put_fork,
        [PKI_WORK_ADOPT] = put_adopted,
    };

    if (job->work == PKI_WORK_TICK)
        return pass(pki_clean(pki));
    faultpoint("presented_before_commit");
    int r = pki_change(pki, edits[job->work], job, NULL);
    faultpoint("presented_after_commit");
    if (r <= 0 || r == PKI_FULL)
        return pass(r);
    return r == PKI_EXISTS && job->work == PKI_WORK_PRESENTED ? 0 : pass(again(pki));
}

/* ---- in memory ---- */

/* Under the lock for writing. */
static void confirm_entry(struct pki_entry *entry, wall_us now)
{
    const struct pki_kin kin = kin_of_entry(entry);

    pki_view_move(entry, PKI_ACTIVE, now);
    if (entry->identity.kind != PKI_AGENT)
        return;
    for (struct pki_entry *at = entry->name->first; at; at = at->next) {
        const struct pki_kin other = kin_of_entry(at);
        if (counts(at->identity.state) && pki_supersedes(&kin, &other))
            pki_view_move(at, PKI_SUPERSEDED, now);
    }
    memcpy(entry->name->current, entry->identity.sha256, sizeof(entry->name->current));
    memcpy(entry->name->lineage, entry->lineage, sizeof(entry->name->lineage));
}

void pki_presented(struct pki *pki, const struct pki_identity *identity)
{
    struct pki_job job = { .work = PKI_WORK_PRESENTED };
    bool is_news = false;

    pthread_rwlock_wrlock(&pki->lock);
    struct pki_entry *entry = pki_view_find(pki->view, identity->sha256);
    if (entry && entry->identity.state == PKI_UNCONFIRMED) {
        job.row.presented = clock_wall();
        confirm_entry(entry, job.row.presented);
        job.row.identity = entry->identity;
        is_news = true;
    }
    pthread_rwlock_unlock(&pki->lock);
    if (is_news)
        pki_work_queue(pki, &job);
}

void pki_fork(struct pki *pki, const uint8_t sha256[32])
{
    struct pki_job job = { .work = PKI_WORK_FORK };
    bool is_news = false;

    pthread_rwlock_wrlock(&pki->lock);
    struct pki_entry *entry = pki_view_find(pki->view, sha256);
    if (entry && entry->name->has_row && entry->name->state == PKI_AGENT_ALLOWED) {
        entry->name->state = PKI_AGENT_FORKED;
        job.row.presented = entry->name->forked = clock_wall();
        job.row.identity = entry->identity;
        is_news = true;
    }
    pthread_rwlock_unlock(&pki->lock);
    if (is_news)
        pki_work_queue(pki, &job);
}

/* ---- who is unknown since a restore ---- */

int pki_row_of_leaf(struct pki *pki, struct span leaf_der, wall_us at, struct pki_row *ret)
{
    CLEANUP(pki_issuer_deinit) struct pki_issuer issuer = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    CLEANUP(buf_deinit) struct buf pem = { 0 }, issuer_pem = { 0 };
    struct pki_row row = { 0 };
    struct tls_facts facts;
    struct tls_why why;
    char uri[PKI_TRUST_DOMAIN_BYTES + 96];

    int r = tls_cert_parse_der(&leaf, leaf_der);
    if (r == 0)
        r = tls_cert_read(leaf, &facts);
    if (r != 0)
        return r < 0 ? pass(r) : PKI_UNKNOWN;
    r = pki_ca_issuer(pki, PKI_PART_AGENTS, &issuer, &why);
    if (r != 0)
        return r < 0 ? pass(r) : PKI_UNKNOWN;
    r = tls_cert_print(leaf, &pem);
    if (r == 0)
        r = tls_cert_print(issuer.cert, &issuer_pem);
    if (r != 0)
        return fold(r);
    if (at.us == 0)
        at.us = facts.not_after.us - 1000000;
    r = tls_chain_verify(buf_span(&pem), buf_span(&issuer_pem), TLS_CLIENT, NULL, at, &why);
    if (r != 0)
        return r < 0 ? pass(r) : PKI_UNKNOWN;
    snprintf(uri, sizeof(uri), "spiffe://%s/agent/%.63s", pki->authority.trust_domain,
             facts.common_name);
    if (facts.is_ca || !pki_name_is_good(facts.common_name) || strcmp(facts.uri, uri) != 0)
        return PKI_UNKNOWN;
    row.identity.kind = PKI_AGENT;
    row.identity.role = PKI_ROLE_AGENT;
    row.identity.state = PKI_UNCONFIRMED;
    snprintf(row.identity.name, sizeof(row.identity.name), "%.63s", facts.common_name);
    snprintf(row.identity.serial, sizeof(row.identity.serial), "%s", facts.serial);
    memcpy(row.identity.sha256, facts.sha256, sizeof(row.identity.sha256));
    row.identity.not_before = facts.not_before;
    row.identity.not_after = facts.not_after;
    snprintf(row.issuer, sizeof(row.issuer), "%s", facts.issuer);
    row.registered.us = facts.not_before.us + PKI_BACKDATE_US; /* when it was issued */
    memcpy(row.key_sha256, facts.key_sha256, sizeof(row.key_sha256));
    *ret = row;
    return 0;
}

int pki_adopt_in(struct pki_edit *edit, struct pki_row *row)
{
    struct pki_agent_row agent;
    struct pki_row *rows, known;
    char object[PKI_OBJECT_BYTES], actor[PKI_OBJECT_BYTES];
    size_t n;

    int r = pki_edit_get(edit, row->identity.sha256, &known);
    if (r == 0)
        return STORE_NOT_FOUND;
    if (r == STORE_NOT_FOUND)
        r = pki_edit_agent_get(edit, row->identity.name, &agent);
    if (r != 0)
        return pass(r);
    if (agent.agent.state != PKI_AGENT_ALLOWED)
        return STORE_NOT_FOUND;
    r = pki_edit_rows_of(edit, PKI_AGENT, row->identity.name, &rows, &n);
    if (r != 0)
        return pass(r);
    /* An older one than the one in use is no renewal that the backup missed. */
    for (size_t i = 0; i < n; i++) {
        if (rows[i].identity.state == PKI_ACTIVE && rows[i].registered.us > row->registered.us)
            return STORE_NOT_FOUND;
    }
    memcpy(row->lineage, agent.lineage, sizeof(row->lineage));
    r = pki_confirm(edit, row, row->presented.us ? row->presented : edit->now);
    if (r != 0)
        return pass(r);
    const struct audit_entry entry = { .event = AUDIT_ADOPTED,
                                       .actor = pki_agent_object(row->identity.name, actor),
                                       .object = pki_object_of(row->identity.sha256, object) };
    return pass(pki_edit_audit(edit, &entry));
}

int pki_adopt(struct pki *pki, struct span leaf_der, wall_us now)
{
    struct pki_job job = { .work = PKI_WORK_ADOPT };
    bool is_news = false;

    if (now.us >= atomic_load(&pki->adopt_until_us))
        return PKI_UNKNOWN;
    int r = pki_row_of_leaf(pki, leaf_der, now, &job.row);
    if (r != 0 || pki_revoked_has(pki->revoked, job.row.identity.sha256))
        return r < 0 ? pass(r) : PKI_UNKNOWN;

    pthread_rwlock_wrlock(&pki->lock);
    const struct pki_name *name = pki_view_find_name(pki->view, PKI_AGENT, job.row.identity.name);
    bool is_known = name && name->has_row && name->state == PKI_AGENT_ALLOWED;
    for (const struct pki_entry *at = is_known ? name->first : NULL; at; at = at->next) {
        if (at->identity.state == PKI_ACTIVE && at->registered.us > job.row.registered.us)
            is_known = false;
    }
    if (is_known && !pki_view_find(pki->view, job.row.identity.sha256)) {
        struct pki_touch touch = { .row = job.row };
        memcpy(touch.row.lineage, name->lineage, sizeof(touch.row.lineage));
        memcpy(touch.sha256, job.row.identity.sha256, sizeof(touch.sha256));
        r = pki_view_apply(pki->view, &touch);
        if (r == 0) {
            job.row.presented = now;
            confirm_entry(pki_view_find(pki->view, touch.sha256), now);
            is_news = true;
        }
    }
    pthread_rwlock_unlock(&pki->lock);
    if (is_news)
        pki_work_queue(pki, &job);
    return r != 0 ? pass(r) : is_known ? 0 : PKI_UNKNOWN;
}
