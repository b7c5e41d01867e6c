/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "server/pki/agents/revoked.h"
#include "server/pki/enrol/choice.h"
#include "server/pki/enrol/lineage.h"
#include "server/pki/enrol/refusal.h"
#include "server/pki/enrol/tokens.h"
#include "server/pki/mint.h"

/*
 * A certificate is made for a name, and which name it will be only the transaction can say. So the
 * name is chosen first, by a look that writes nothing, the certificate made outside, and the
 * transaction looks again: when the name went to somebody meanwhile, all begins anew.
 */
#define MAX_ROUNDS 16

struct enrolling {
    const struct pki_enrolment *asked;
    uint8_t key_sha256[32];
    struct pki_minted minted; /* empty: only a look */
    enum pki_refusal refusal;
    struct tls_why why;
    char name[64];      /* chosen */
    struct pki_row row; /* what was granted; its chain lies in `chain` */
    struct buf chain;
    bool is_again;
    bool was_revoked; /* the agent: the file of revocations hears that it is in again */
};

static void enrolling_deinit(struct enrolling *enrolling)
{
    pki_minted_deinit(&enrolling->minted);
    buf_deinit(&enrolling->chain);
}

static int refuse(struct enrolling *enrolling, enum pki_refusal refusal, const char *text)
{
    enrolling->refusal = refusal;
    snprintf(enrolling->why.text, sizeof(enrolling->why.text), "%s", text);
    return PKI_EDIT(PKI_REFUSED);
}

/* ---- the token ---- */

static int
check_token(struct pki_edit *edit, struct enrolling *enrolling, struct pki_token_row *token)
{
    const struct pki_enrolment *asked = enrolling->asked;
    bool is_right = false;

    int r = pki_token_check(edit, asked->token_id, asked->secret, token, &is_right);
    if (r != 0)
        return pass(r);
    if (!is_right)
        return refuse(enrolling, PKI_REFUSED_TOKEN_UNKNOWN,
                      "no such token, or it was copied wrongly: make one with `sentinelctl tokens "
                      "create`");
    if (token->token.is_revoked)
        return refuse(enrolling, PKI_REFUSED_TOKEN_REVOKED,
                      "the token was taken back; ask for another");
    if (token->token.expires.us <= edit->now.us)
        return refuse(enrolling, PKI_REFUSED_TOKEN_EXPIRED,
                      "the token has expired: make one with `sentinelctl tokens create`, which "
                      "takes --ttl up to 7d");
    if (token->token.addresses[0] && !identity_cidr_matches(token->token.addresses, asked->peer)) {
        snprintf(enrolling->why.text, sizeof(enrolling->why.text),
                 "the token is for machines in %s, and this one comes from %.64s",
                 token->token.addresses, asked->peer);
        enrolling->refusal = PKI_REFUSED_ADDRESS;
        return PKI_EDIT(PKI_REFUSED);
    }
    return 0;
}

/* The certificate that this key got by this token before. */
static int find_again(struct pki_edit *edit, struct enrolling *enrolling, bool *ret_is_there)
{
    uint8_t sha256[32];

    int r = pki_token_use_get(edit, enrolling->asked->token_id, enrolling->key_sha256, sha256);
    if (r == 0)
        r = pki_edit_get(edit, sha256, &enrolling->row);
    *ret_is_there = r == 0;
    if (r != 0)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    const struct pki_identity *identity = &enrolling->row.identity;
    if (identity->state == PKI_REVOKED)
        return refuse(enrolling, PKI_REFUSED_REVOKED,
                      "the certificate that this key got was revoked; make another token");
    if (enrolling->row.chain.len == 0 || identity->not_after.us <= edit->now.us)
        return refuse(enrolling, PKI_REFUSED_TOKEN_USED,
                      "this key was enrolled with this token before, and its certificate does not "
                      "count any more; make another token");
    buf_append_span(&enrolling->chain, enrolling->row.chain);
    if (buf_failed(&enrolling->chain))
        return STORE_FULL;
    enrolling->is_again = true;
    return 0;
}

/* ---- granting ---- */

/* Who comes in the place of one that was stopped: nothing of the old machine counts any more. */
static int end_old_ones(struct pki_edit *edit, const struct pki_row *fresh)
{
    struct pki_row *rows;
    size_t n;

    int r = pki_edit_rows_of(edit, PKI_AGENT, fresh->identity.name, &rows, &n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        enum pki_state state = rows[i].identity.state;
        if (state == PKI_REVOKED ||
            memcmp(rows[i].identity.sha256, fresh->identity.sha256, 32) == 0)
            continue;
        pki_row_end(&rows[i], PKI_SUPERSEDED, edit->now, "enrolled anew after a stop");
        r = pki_edit_put(edit, &rows[i]);
    }
    return pass(r);
}

static int put_labels(struct pki_edit *edit, const char *name, const struct pki_token_row *token)
{
    size_t name_len = strlen(name);
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < token->n_labels; i++) {
        const struct pki_token_label *label = &token->labels[i];
        char key[64 + PKI_LABEL_KEY_BYTES];
        size_t label_len = strlen(label->key);

        memcpy(key, name, name_len + 1);
        memcpy(key + name_len + 1, label->key, label_len);
        r = pki_edit_put_raw(edit, STORE_TABLE_LABELS, span_of(key, name_len + 1 + label_len),
                             span_of_text(label->value));
    }
    return pass(r);
}

static int
put_agent(struct pki_edit *edit, struct enrolling *enrolling, const struct pki_choice *choice)
{
    const struct pki_enrolment *asked = enrolling->asked;
    struct pki_agent_row agent = choice->agent;
    int r = 0;

    if (!choice->is_taken) {
        agent = (struct pki_agent_row){ 0 };
        snprintf(agent.agent.name, sizeof(agent.agent.name), "%s", choice->name);
        memcpy(agent.lineage, enrolling->row.lineage, sizeof(agent.lineage));
    } else if (agent.agent.state != PKI_AGENT_ALLOWED) {
        memcpy(agent.lineage, enrolling->row.lineage, sizeof(agent.lineage));
        r = end_old_ones(edit, &enrolling->row);
    }
    enrolling->was_revoked = choice->is_taken && agent.agent.state == PKI_AGENT_REVOKED;
    agent.agent.state = PKI_AGENT_ALLOWED;
    agent.agent.reason[0] = 0;
    agent.agent.enrolled = agent.agent.changed = edit->now;
    agent.fingerprint = *asked->fingerprint;
    agent.grace_until.us = 0;
    snprintf(agent.agent.last_peer, sizeof(agent.agent.last_peer), "%s", asked->peer);
    return r != 0 ? pass(r) : pass(pki_edit_agent_put(edit, &agent));
}

static int put_entries(struct pki_edit *edit,
                       const struct enrolling *enrolling,
                       const struct pki_choice *choice)
{
    const struct pki_enrolment *asked = enrolling->asked;
    char agent[PKI_OBJECT_BYTES], certificate[PKI_OBJECT_BYTES], token[32];

    (void) pki_agent_object(choice->name, agent);
    (void) pki_object_of(enrolling->row.identity.sha256, certificate);
    snprintf(token, sizeof(token), "token/%s", asked->token_id);
    const struct audit_field use_fields[] = { { "agent", agent } };
    const struct audit_entry use = { .event = AUDIT_TOKEN_USED,
                                     .actor = agent,
                                     .source = asked->peer,
                                     .object = token,
                                     .correlation = asked->correlation,
                                     .fields = use_fields,
                                     .n_fields = 1 };
    const struct audit_field fields[] = {
        { "token", token },
        { "certificate", certificate },
        { "serial", enrolling->row.identity.serial },
        { "replaces", choice->is_taken ? agent : "" },
    };
    const struct audit_entry enrolled = { .event = AUDIT_ENROLLED,
                                          .actor = agent,
                                          .source = asked->peer,
                                          .object = agent,
                                          .correlation = asked->correlation,
                                          .fields = fields,
                                          .n_fields = choice->is_taken ? 4 : 3 };
    int r = pki_edit_audit(edit, &use);
    return r != 0 ? pass(r) : pass(pki_edit_audit(edit, &enrolled));
}

static int grant(struct pki_edit *edit,
                 struct enrolling *enrolling,
                 struct pki_token_row *token,
                 const struct pki_choice *choice)
{
    enrolling->row = enrolling->minted.row;
    enrolling->row.registered = edit->now;
    token->token.n_used++;
    int r = pki_token_put(edit, token);
    if (r == 0)
        r = pki_token_use_put(edit, token->token.id, enrolling->key_sha256,
                              enrolling->row.identity.sha256);
    if (r == 0)
        r = pki_edit_put(edit, &enrolling->row);
    if (r == 0)
        r = put_agent(edit, enrolling, choice);
    if (r == 0)
        r = put_labels(edit, choice->name, token);
    if (r == 0)
        r = put_entries(edit, enrolling, choice);
    return pass(r);
}

/* A look without a certificate ends in PKI_EXISTS, with the name that it should be for. */
static int enrol(struct pki_edit *edit, void *ctx)
{
    struct enrolling *enrolling = ctx;
    struct pki_token_row *token = arena_alloc(&edit->arena, sizeof(*token));
    const char *made_for = enrolling->minted.row.identity.name;
    struct pki_choice choice;
    bool is_there = false;

    if (!token)
        return STORE_FULL;
    int r = check_token(edit, enrolling, token);
    if (r == 0)
        r = find_again(edit, enrolling, &is_there);
    if (r != 0 || is_there)
        return pass(r);
    if (token->token.n_used >= token->token.n_uses)
        return refuse(enrolling, PKI_REFUSED_TOKEN_USED,
                      "the token was used as often as it may be; make another, with --uses for "
                      "several machines");
    r = pki_choose(edit, &token->token, enrolling->asked, made_for, &choice);
    if (r != 0)
        return pass(r);
    if (choice.refusal != PKI_REFUSED_NOT)
        return refuse(enrolling, choice.refusal, choice.why.text);
    snprintf(enrolling->name, sizeof(enrolling->name), "%s", choice.name);
    if (strcmp(choice.name, made_for) != 0)
        return PKI_EDIT(PKI_EXISTS);
    return pass(grant(edit, enrolling, token, &choice));
}

/* ---- the way of a request ---- */

static int round_of(struct pki *pki, struct enrolling *enrolling, const struct tls_key *key)
{
    faultpoint("enrol_before_commit");
    int r = pki_change(pki, enrol, enrolling, NULL);
    if (r != PKI_EXISTS) {
        faultpoint("enrol_after_commit");
        return pass(r);
    }
    const struct pki_mint mint = { .kind = PKI_AGENT,
                                   .role = PKI_ROLE_AGENT,
                                   .name = enrolling->name,
                                   .key = key,
                                   .life_us = atomic_load(&pki->agent_life_us) };
    struct tls_why why = { "" };
    pki_minted_deinit(&enrolling->minted);
    enrolling->minted = (struct pki_minted){ 0 };
    r = pki_mint(pki, &mint, clock_wall(), &enrolling->minted, &why);
    if (r > 0)
        return fault(-EIO, "cannot issue certificates: %s", why.text);
    return r != 0 ? pass(r) : PKI_EXISTS;
}

int pki_enrol(struct pki *pki,
              const struct pki_enrolment *enrolment,
              struct arena *arena,
              struct pki_granted *ret,
              enum pki_refusal *ret_refusal,
              struct tls_why *ret_why)
{
    CLEANUP(enrolling_deinit) struct enrolling enrolling = { .asked = enrolment };
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    const struct pki_attempt attempt = { .event = AUDIT_ENROL_REFUSED,
                                         .token_id = enrolment->token_id,
                                         .name = enrolment->requested_id,
                                         .peer = enrolment->peer,
                                         .correlation = enrolment->correlation };

    int r = tls_csr_parse(&key, enrolment->csr_der);
    if (r == 0)
        r = tls_key_digest(key, enrolling.key_sha256);
    if (r > 0) {
        (void) refuse(&enrolling, PKI_REFUSED_CSR,
                      "csr: a PKCS#10 request in DER, signed by its own key, P-256, P-384 or RSA "
                      "of 2,048 bits and more");
        r = PKI_REFUSED;
    } else if (r == 0) {
        r = PKI_EXISTS;
        for (int i = 0; r == PKI_EXISTS && i < MAX_ROUNDS; i++)
            r = round_of(pki, &enrolling, key);
    }
    if (r == PKI_REFUSED) {
        *ret_refusal = enrolling.refusal;
        *ret_why = enrolling.why;
        return pass(pki_refuse(pki, &attempt, enrolling.refusal, &enrolling.why));
    }
    if (r == PKI_EXISTS)
        return fault(-EAGAIN, "a name that stays free was not found in %d rounds", MAX_ROUNDS);
    if (r != 0)
        return pass(r);
    if (enrolling.was_revoked)
        pki_revoked_allow(pki, enrolling.row.identity.name);
    if (enrolling.is_again)
        enrolling.row.chain = buf_span(&enrolling.chain);
    r = pki_grant(pki, &enrolling.row, arena, ret);
    if (r == 0)
        ret->is_again = enrolling.is_again;
    return pass(r);
}
