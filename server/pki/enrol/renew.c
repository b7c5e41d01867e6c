/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/enrol/renew.h"

#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/text.h"
#include "server/pki/enrol/lineage.h"

/* Children of one certificate that were never presented: more of them is an agent that forgets its
 * keys. */
#define MAX_UNCONFIRMED 8

static const char revoked_text[] =
    "the certificate was revoked; an operator lets the agent in again, or makes a token";
static const char forked_text[] =
    "two machines used this identity, and both are stopped until an operator readmits the agent";
static const char superseded_text[] =
    "a successor of this certificate is in use: the machine was set back, or there are two of it; "
    "readmit the agent, or enrol with a new token";

void pki_renewing_deinit(struct pki_renewing *renewing)
{
    pki_minted_deinit(&renewing->minted);
    buf_deinit(&renewing->chain);
}

int pki_renew_refuse(struct pki_renewing *renewing, enum pki_refusal refusal, const char *text)
{
    renewing->refusal = refusal;
    snprintf(renewing->why.text, sizeof(renewing->why.text), "%s", text);
    return PKI_REFUSED;
}

static int refuse(struct pki_renewing *renewing, enum pki_refusal refusal, const char *text)
{
    return PKI_EDIT(pki_renew_refuse(renewing, refusal, text));
}

bool pki_renew_is_refused(struct pki_renewing *renewing, int r, const struct pki_identity *identity)
{
    if (r == PKI_FORKED)
        (void) pki_renew_refuse(renewing, PKI_REFUSED_NOT_CURRENT, forked_text);
    else if (r == PKI_NOT_ACTIVE && identity->state == PKI_REVOKED)
        (void) pki_renew_refuse(renewing, PKI_REFUSED_REVOKED, revoked_text);
    else if (r == PKI_NOT_ACTIVE)
        (void) pki_renew_refuse(renewing, PKI_REFUSED_NOT_CURRENT, superseded_text);
    else
        return false;
    return true;
}

/* ---- may it? ---- */

static int find(struct pki_edit *edit, struct pki_renewing *renewing, struct pki_row *ret)
{
    int r = pki_edit_get(edit, renewing->sha256, ret);

    if (r != STORE_NOT_FOUND)
        return pass(r);
    if (renewing->adopted) {
        *ret = *renewing->adopted;
        r = pki_adopt_in(edit, ret);
    }
    if (r == STORE_NOT_FOUND)
        return refuse(renewing, PKI_REFUSED_UNKNOWN,
                      "this hub does not know the certificate; enrol again with a new token");
    return pass(r);
}

static int
check_state(struct pki_renewing *renewing, const struct pki_row *row, const struct pki_agent *agent)
{
    if (row->identity.kind != PKI_AGENT)
        return refuse(renewing, PKI_REFUSED_UNKNOWN, "only agents renew their certificates here");
    if (agent->state == PKI_AGENT_REVOKED || row->identity.state == PKI_REVOKED)
        return refuse(renewing, PKI_REFUSED_REVOKED, revoked_text);
    if (agent->state == PKI_AGENT_FORKED)
        return refuse(renewing, PKI_REFUSED_NOT_CURRENT, forked_text);
    if (row->identity.state == PKI_SUPERSEDED)
        return refuse(renewing, PKI_REFUSED_NOT_CURRENT, superseded_text);
    return 0;
}

static int check_grace(struct pki_edit *edit,
                       struct pki_renewing *renewing,
                       const struct pki_row *row,
                       const struct pki_agent_row *agent)
{
    char text[TEXT_TIME_BYTES];

    renewing->grace_ends.us = row->identity.not_after.us + renewing->grace_us;
    if (agent->grace_until.us > renewing->grace_ends.us)
        renewing->grace_ends = agent->grace_until;
    if (!renewing->is_late || edit->now.us <= renewing->grace_ends.us)
        return 0;
    renewing->refusal = PKI_REFUSED_GRACE_OVER;
    snprintf(renewing->why.text, sizeof(renewing->why.text),
             "the grace window ended %s; an operator opens it again with `sentinelctl agents "
             "readmit %s`, or makes a token",
             text_of_time(renewing->grace_ends, text), row->identity.name);
    return PKI_EDIT(PKI_REFUSED);
}

/* ---- its children ---- */

static bool is_child(const struct pki_row *row, const struct pki_row *parent)
{
    return memcmp(row->parent, parent->identity.sha256, sizeof(row->parent)) == 0;
}

/* The certificate that this key got before; else the oldest of too many that were never seen goes.
 */
static int look_at_children(struct pki_edit *edit,
                            struct pki_renewing *renewing,
                            const struct pki_row *parent,
                            bool *ret_is_there)
{
    const struct pki_row *oldest = NULL;
    struct pki_row *rows;
    size_t n, n_unconfirmed = 0;

    *ret_is_there = false;
    int r = pki_edit_rows_of(edit, PKI_AGENT, parent->identity.name, &rows, &n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct pki_row *row = &rows[i];
        enum pki_state state = row->identity.state;

        if (!is_child(row, parent) || (state != PKI_ACTIVE && state != PKI_UNCONFIRMED))
            continue;
        if (row->chain.len > 0 && row->identity.not_after.us > edit->now.us &&
            memcmp(row->key_sha256, renewing->key_sha256, sizeof(row->key_sha256)) == 0) {
            renewing->row = *row;
            renewing->is_again = *ret_is_there = true;
            buf_append_span(&renewing->chain, row->chain);
            return buf_failed(&renewing->chain) ? STORE_FULL : 0;
        }
        n_unconfirmed += state == PKI_UNCONFIRMED;
        if (state == PKI_UNCONFIRMED && !oldest)
            oldest = row;
    }
    if (r == 0 && n_unconfirmed >= MAX_UNCONFIRMED)
        r = pki_edit_remove(edit, oldest);
    return pass(r);
}

static int
put_entry(struct pki_edit *edit, const struct pki_renewing *renewing, const struct pki_row *parent)
{
    char agent[PKI_OBJECT_BYTES], fresh[PKI_OBJECT_BYTES], old[PKI_OBJECT_BYTES];
    char ends[TEXT_TIME_BYTES];
    const struct audit_field fields[] = {
        { "renews", pki_object_of(parent->identity.sha256, old) },
        { "serial", renewing->row.identity.serial },
        { "ends", text_of_time(renewing->row.identity.not_after, ends) },
    };
    const struct audit_entry entry = {
        .event = renewing->is_late ? AUDIT_RENEWED_EXPIRED : AUDIT_RENEWED,
        .actor = pki_agent_object(parent->identity.name, agent),
        .source = renewing->peer,
        .object = pki_object_of(renewing->row.identity.sha256, fresh),
        .correlation = renewing->correlation,
        .fields = fields,
        .n_fields = 3,
    };

    return pass(pki_edit_audit(edit, &entry));
}

static int grant(struct pki_edit *edit, struct pki_renewing *renewing, const struct pki_row *parent)
{
    renewing->row = renewing->minted.row;
    renewing->row.registered = edit->now;
    memcpy(renewing->row.parent, parent->identity.sha256, sizeof(renewing->row.parent));
    memcpy(renewing->row.lineage, parent->lineage, sizeof(renewing->row.lineage));
    int r = pki_edit_put(edit, &renewing->row);
    return r != 0 ? pass(r) : pass(put_entry(edit, renewing, parent));
}

static int renew(struct pki_edit *edit, void *ctx)
{
    struct pki_renewing *renewing = ctx;
    struct pki_agent_row agent = { .agent.state = PKI_AGENT_ALLOWED };
    struct pki_row row;
    bool is_there = false;

    int r = find(edit, renewing, &row);
    if (r != 0)
        return pass(r);
    r = pki_edit_agent_get(edit, row.identity.name, &agent);
    if (r != 0 && r != STORE_NOT_FOUND)
        return pass(r);
    r = check_state(renewing, &row, &agent.agent);
    if (r == 0)
        r = look_at_children(edit, renewing, &row, &is_there);
    if (r != 0 || is_there)
        return pass(r);
    r = check_grace(edit, renewing, &row, &agent);
    if (r != 0)
        return pass(r);
    if (memcmp(row.key_sha256, renewing->key_sha256, sizeof(row.key_sha256)) == 0)
        return refuse(renewing, PKI_REFUSED_CSR, "csr: a renewal takes a new key");
    if (agent.grace_until.us != 0 && renewing->is_late) { /* once */
        agent.grace_until.us = 0;
        r = pki_edit_agent_put(edit, &agent);
    }
    /* It came over its own channel, so it is in use; the note of that may still be queued. */
    if (r == 0 && row.identity.state == PKI_UNCONFIRMED && !renewing->is_late)
        r = pki_confirm(edit, &row, edit->now);
    return r != 0 ? pass(r) : pass(grant(edit, renewing, &row));
}

/* ---- both ways ---- */

int pki_renew_now(struct pki *pki,
                  struct pki_renewing *renewing,
                  struct arena *arena,
                  struct pki_granted *ret)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    struct tls_why why = { "" };

    int r = tls_csr_parse(&key, renewing->csr_der);
    if (r == 0)
        r = tls_key_digest(key, renewing->key_sha256);
    if (r > 0)
        return pki_renew_refuse(renewing, PKI_REFUSED_CSR,
                                "csr: a PKCS#10 request in DER, signed by its own key, P-256, "
                                "P-384 or RSA of 2,048 bits and more");
    if (r < 0)
        return pass(r);
    const struct pki_mint mint = { .kind = PKI_AGENT,
                                   .role = PKI_ROLE_AGENT,
                                   .name = renewing->name,
                                   .key = key,
                                   .life_us = atomic_load(&pki->agent_life_us) };
    renewing->grace_us = atomic_load(&pki->grace_us);
    r = pki_mint(pki, &mint, clock_wall(), &renewing->minted, &why);
    if (r > 0)
        return fault(-EIO, "cannot issue certificates: %s", why.text);
    if (r != 0)
        return pass(r);
    faultpoint("renew_before_commit");
    r = pki_change(pki, renew, renewing, NULL);
    faultpoint("renew_after_commit");
    if (r != 0)
        return pass(r);
    if (renewing->is_again)
        renewing->row.chain = buf_span(&renewing->chain);
    r = pki_grant(pki, &renewing->row, arena, ret);
    if (r == 0)
        ret->is_again = renewing->is_again;
    return pass(r);
}

int pki_renew(struct pki *pki,
              const struct pki_renewal *renewal,
              struct arena *arena,
              struct pki_granted *ret,
              enum pki_refusal *ret_refusal,
              struct tls_why *ret_why)
{
    CLEANUP(pki_renewing_deinit)
    struct pki_renewing renewing = {
        .sha256 = renewal->sha256,
        .csr_der = renewal->csr_der,
        .peer = renewal->peer,
        .correlation = renewal->correlation,
    };
    struct pki_identity identity = { 0 };

    int r = pki_recheck(pki, renewal->sha256, clock_wall(), &identity);
    if (r < 0)
        return pass(r);
    renewing.name = identity.name;
    if (r == PKI_UNKNOWN)
        r = pki_renew_refuse(&renewing, PKI_REFUSED_UNKNOWN,
                             "this hub does not know the certificate");
    else if (pki_renew_is_refused(&renewing, r, &identity))
        r = PKI_REFUSED;
    else if (r == PKI_EXPIRED)
        r = pki_renew_refuse(&renewing, PKI_REFUSED_NOT_CURRENT,
                             "the certificate has expired: renew it by RenewExpired");
    else /* what else there is, the transaction says */
        r = pki_renew_now(pki, &renewing, arena, ret);
    if (r != PKI_REFUSED)
        return pass(r);
    const struct pki_attempt attempt = { .event = AUDIT_RENEW_REFUSED,
                                         .name = identity.name,
                                         .peer = renewal->peer,
                                         .correlation = renewal->correlation };
    *ret_refusal = renewing.refusal;
    *ret_why = renewing.why;
    return pass(pki_refuse(pki, &attempt, renewing.refusal, &renewing.why));
}
