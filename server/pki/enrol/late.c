/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "server/pki/agents/revoked.h"
#include "server/pki/enrol/lineage.h"
#include "server/pki/enrol/renew.h"

/*
 * A renewal after the end: no channel says who it is, so the chain does, checked as of its own end,
 * and the old key's signature over a nonce of this call and the request.
 */

#define MAX_CHAIN 4

struct late {
    struct pki_renewing renewing;
    struct pki_row leaf; /* what an adoption would register */
    struct tls_facts facts;
};

static void late_deinit(struct late *late)
{
    pki_renewing_deinit(&late->renewing);
}

/* The leaf, and all of it as PEM. Outcomes: PKI_REFUSED. */
static int parse_chain(const struct pki_late_renewal *asked,
                       struct late *late,
                       struct tls_cert **ret_leaf,
                       struct buf *to)
{
    if (asked->n_chain < 1 || asked->n_chain > MAX_CHAIN)
        return pki_renew_refuse(&late->renewing, PKI_REFUSED_CHAIN,
                                "chain: 1 to 4 certificates in DER, leaf first");
    for (size_t i = 0; i < asked->n_chain; i++) {
        CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;

        int r = tls_cert_parse_der(&cert, asked->chain_der[i]);
        if (r == 0 && i == 0)
            r = tls_cert_read(cert, &late->facts);
        if (r > 0)
            return pki_renew_refuse(&late->renewing, PKI_REFUSED_CHAIN,
                                    "chain: certificates in DER, leaf first");
        if (r == 0)
            r = tls_cert_print(cert, to);
        if (r != 0)
            return pass(r);
        if (i == 0)
            *ret_leaf = take(cert);
    }
    return 0;
}

static int check_chain(struct pki *pki, struct late *late, struct span chain_pem)
{
    CLEANUP(buf_deinit) struct buf roots = { 0 };
    const wall_us at = { late->facts.not_after.us - 1000000 };
    struct tls_why why = { "" };

    int r = pki_read_roots(pki, &roots, &why);
    if (r > 0)
        return fault(-EIO, "%s", why.text);
    if (r == 0)
        r = tls_chain_verify(chain_pem, buf_span(&roots), TLS_CLIENT, NULL, at, &why);
    if (r <= 0)
        return pass(r);
    late->renewing.refusal = PKI_REFUSED_CHAIN;
    snprintf(late->renewing.why.text, sizeof(late->renewing.why.text),
             "chain: it does not lead to this hub's root: %.250s; enrol again with a token of "
             "this hub",
             why.text);
    return PKI_REFUSED;
}

static int check_signature(const struct pki_late_renewal *asked,
                           struct late *late,
                           const struct tls_cert *leaf)
{
    CLEANUP(buf_deinit) struct buf signed_bytes = { 0 };

    if (asked->nonce.len != IDENTITY_NONCE_BYTES)
        return fault(-EINVAL, "a nonce of %zu bytes", asked->nonce.len);
    identity_renewal_signed_bytes(asked->nonce, asked->csr_der, &signed_bytes);
    if (buf_failed(&signed_bytes))
        return fault(-ENOMEM, "no memory for what is signed");
    int r = tls_cert_check_signature(leaf, buf_span(&signed_bytes), asked->signature);
    if (r > 0)
        return pki_renew_refuse(&late->renewing, PKI_REFUSED_SIGNATURE,
                                "signature: by the old key, over this call's nonce and the "
                                "SHA-256 of the request");
    return pass(r);
}

/* Who it is by the registry; by the leaf itself where the registry comes from a backup. */
static int find_name(struct pki *pki, const struct pki_late_renewal *asked, struct late *late)
{
    struct pki_identity identity;

    int r = pki_recheck(pki, late->facts.sha256, clock_wall(), &identity);
    if (r < 0)
        return pass(r);
    if (r != PKI_UNKNOWN) {
        late->leaf.identity = identity;
        return pki_renew_is_refused(&late->renewing, r, &identity) ? PKI_REFUSED : 0;
    }
    if (clock_wall().us < atomic_load(&pki->adopt_until_us)) {
        if (pki_revoked_has(pki->revoked, late->facts.sha256))
            return pki_renew_refuse(&late->renewing, PKI_REFUSED_REVOKED,
                                    "the certificate was revoked; an operator lets the agent in "
                                    "again, or makes a token");
        r = pki_row_of_leaf(pki, asked->chain_der[0], (wall_us){ 0 }, &late->leaf);
        if (r < 0)
            return pass(r);
        if (r == 0) {
            late->renewing.adopted = &late->leaf;
            return 0;
        }
    }
    return pki_renew_refuse(&late->renewing, PKI_REFUSED_UNKNOWN,
                            "this hub does not know the certificate; enrol again with a new token");
}

static int renew(struct pki *pki,
                 const struct pki_late_renewal *asked,
                 struct late *late,
                 struct arena *arena,
                 struct pki_granted *ret)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    CLEANUP(buf_deinit) struct buf chain = { 0 };

    int r = parse_chain(asked, late, &leaf, &chain);
    if (r == 0)
        r = check_chain(pki, late, buf_span(&chain));
    if (r == 0)
        r = check_signature(asked, late, leaf);
    if (r == 0)
        r = find_name(pki, asked, late);
    if (r != 0)
        return pass(r);
    late->renewing.sha256 = late->facts.sha256;
    late->renewing.name = late->leaf.identity.name;
    return pass(pki_renew_now(pki, &late->renewing, arena, ret));
}

int pki_renew_expired(struct pki *pki,
                      const struct pki_late_renewal *asked,
                      struct arena *arena,
                      struct pki_granted *ret,
                      wall_us *ret_grace_ends,
                      enum pki_refusal *ret_refusal,
                      struct tls_why *ret_why)
{
    CLEANUP(late_deinit)
    struct late late = { .renewing = { .csr_der = asked->csr_der,
                                       .peer = asked->peer,
                                       .correlation = asked->correlation,
                                       .is_late = true } };

    int r = renew(pki, asked, &late, arena, ret);
    if (r == 0)
        *ret_grace_ends = late.renewing.grace_ends;
    if (r != PKI_REFUSED)
        return pass(r);
    const struct pki_attempt attempt = { .event = AUDIT_RENEW_REFUSED,
                                         .name = late.leaf.identity.name,
                                         .peer = asked->peer,
                                         .correlation = asked->correlation };
    *ret_refusal = late.renewing.refusal;
    *ret_why = late.renewing.why;
    return pass(pki_refuse(pki, &attempt, late.renewing.refusal, &late.renewing.why));
}
