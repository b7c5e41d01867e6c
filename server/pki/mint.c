/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/mint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "server/pki/ca/ca.h"
#include "server/pki/registry/codec.h"

#define ROOTS_LIMIT_BYTES ((size_t) 256 * 1024)

void pki_minted_deinit(struct pki_minted *minted)
{
    buf_deinit(&minted->chain);
}

static int put_der(const struct tls_cert *cert, struct buf *to)
{
    CLEANUP(buf_deinit) struct buf der = { 0 };

    int r = tls_cert_print_der(cert, &der);
    if (r != 0)
        return fold(r);
    if (der.len > UINT16_MAX)
        return fault(-EMSGSIZE, "a certificate of %zu bytes", der.len);
    pki_put_span(to, buf_span(&der));
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a certificate") : 0;
}

int pki_mint(struct pki *pki,
             const struct pki_mint *mint,
             wall_us now,
             struct pki_minted *ret,
             struct tls_why *ret_why)
{
    CLEANUP(pki_issuer_deinit) struct pki_issuer issuer = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    CLEANUP(pki_minted_deinit) struct pki_minted minted = { 0 };
    const bool is_agent = mint->kind == PKI_AGENT;
    char uri[PKI_TRUST_DOMAIN_BYTES + 96], crl_url[PKI_CRL_URL_BYTES];
    struct tls_facts facts;

    ensure(mint->life_us > 0);
    int r = pki_ca_issuer(pki, PKI_PART_AGENTS, &issuer, ret_why);
    if (r != 0)
        return pass(r);
    snprintf(uri, sizeof(uri), "spiffe://%s/%s/%s", pki->authority.trust_domain,
             is_agent ? "agent" : "operator", mint->name);
    struct tls_request request = {
        .profile = TLS_CLIENT,
        .common_name = mint->name,
        .organisation = pki->authority.organisation,
        .organisation_unit = is_agent ? "agents" : "operators",
        .uri = uri,
        .crl_url = pki_crl_url(&pki->authority, issuer.cert, crl_url),
        .not_before = { now.us - PKI_BACKDATE_US },
        .not_after = { now.us + mint->life_us },
    };
    if (request.not_after.us > issuer.not_after.us)
        request.not_after = issuer.not_after;
    if (request.not_after.us <= now.us) {
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "the authority's own certificate has expired; make a new one by rotation: "
                 "sentinelctl certs rotate");
        return PKI_BAD;
    }
    const struct tls_signer signer = pki_issuer_signer(&issuer);
    r = tls_cert_issue_by(&cert, &request, mint->key, issuer.cert, &signer);
    if (r == 0)
        r = tls_cert_read(cert, &facts);
    if (r != 0)
        return fold(r);
    r = put_der(cert, &minted.chain);
    if (r == 0)
        r = put_der(issuer.cert, &minted.chain);
    if (r != 0)
        return pass(r);

    struct pki_row *row = &minted.row;
    row->identity.kind = mint->kind;
    row->identity.role = mint->role;
    row->identity.state = PKI_UNCONFIRMED;
    snprintf(row->identity.name, sizeof(row->identity.name), "%s", mint->name);
    snprintf(row->identity.serial, sizeof(row->identity.serial), "%s", facts.serial);
    memcpy(row->identity.sha256, facts.sha256, sizeof(row->identity.sha256));
    row->identity.not_before = facts.not_before;
    row->identity.not_after = facts.not_after;
    snprintf(row->issuer, sizeof(row->issuer), "%s", facts.issuer);
    row->registered = now;
    memcpy(row->lineage, facts.sha256, sizeof(row->lineage));
    memcpy(row->key_sha256, facts.key_sha256, sizeof(row->key_sha256));
    row->chain = buf_span(&minted.chain);
    *ret = minted;
    minted = (struct pki_minted){ 0 };
    return 0;
}

int pki_read_roots(const struct pki *pki, struct buf *to, struct tls_why *ret_why)
{
    char path[PKI_PATH_BYTES];

    if (!pki_path(path, pki->certs, "ca-cert.pem"))
        return fault(-ENAMETOOLONG, "%s", pki->certs);
    int r = file_read(path, ROOTS_LIMIT_BYTES, to);
    if (r <= 0)
        return pass(r);
    snprintf(ret_why->text, sizeof(ret_why->text), "cannot read %.250s", path);
    return r == FILE_ABSENT ? PKI_ABSENT : PKI_BAD;
}

/* ---- the answer ---- */

static int copy_span(struct arena *arena, struct span from, struct span *ret)
{
    char *copy = arena_copy(arena, from);

    if (!copy)
        return fault(-ENOMEM, "no room for a certificate of %zu bytes", from.len);
    *ret = span_of(copy, from.len);
    return 0;
}

static int put_roots(struct pki *pki, struct arena *arena, struct pki_granted *granted)
{
    enum { MAX_ROOTS = sizeof(granted->roots_der) / sizeof(granted->roots_der[0]) };
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    struct tls_cert *certs[MAX_ROOTS];
    struct tls_why why = { "" };
    size_t n = 0;

    int r = pki_read_roots(pki, &pem, &why);
    if (r > 0)
        return fault(-EIO, "%s", why.text);
    if (r == 0 && (r = tls_chain_split(buf_span(&pem), certs, MAX_ROOTS, &n)) > 0)
        return fault(-EIO, "the roots in %s are none, or too many", pki->certs);
    for (size_t i = 0; i < n; i++) {
        CLEANUP(tls_cert_freep) struct tls_cert *cert = certs[i];
        CLEANUP(buf_deinit) struct buf der = { 0 };

        if (r == 0)
            r = tls_cert_print_der(cert, &der);
        if (r == 0)
            r = copy_span(arena, buf_span(&der), &granted->roots_der[i]);
    }
    granted->n_roots = n;
    return pass(r);
}

int pki_trust_bundle(struct pki *pki, struct arena *arena, struct pki_granted *ret)
{
    struct pki_granted granted = { .generation = pki_generation(pki) };

    int r = put_roots(pki, arena, &granted);
    if (r != 0)
        return pass(r);
    *ret = granted;
    return 0;
}

int pki_grant(struct pki *pki,
              const struct pki_row *row,
              struct arena *arena,
              struct pki_granted *ret)
{
    struct pki_granted granted = { .generation = pki_generation(pki) };
    struct pki_reader reader = { .rest = row->chain };
    int r = 0;

    snprintf(granted.name, sizeof(granted.name), "%s", row->identity.name);
    while (r == 0 && reader.rest.len > 0 &&
           granted.n_chain < sizeof(granted.chain_der) / sizeof(granted.chain_der[0])) {
        struct span der = pki_get_span(&reader);
        r = copy_span(arena, der, &granted.chain_der[granted.n_chain++]);
    }
    if (r == 0 && (reader.is_bad || reader.rest.len > 0 || granted.n_chain == 0))
        r = fault(-EUCLEAN, "the row of a certificate of %s has no chain", granted.name);
    if (r == 0)
        r = put_roots(pki, arena, &granted);
    if (r != 0)
        return pass(r);
    if (row->identity.kind == PKI_AGENT)
        pki_ca_note_bundle(pki, granted.name); /* it has the roots too */
    *ret = granted;
    return 0;
}

int pki_root_pin(struct pki *pki, uint8_t ret[32])
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *root = NULL;
    struct tls_why why = { "" };
    struct tls_facts facts;

    int r = pki_read_roots(pki, &pem, &why);
    if (r == 0)
        r = tls_cert_parse_pem(&root, buf_span(&pem));
    if (r == 0)
        r = tls_cert_read(root, &facts);
    if (r > 0)
        return fault(-EIO, "the root in %s cannot be read: %s", pki->certs, why.text);
    if (r < 0)
        return pass(r);
    memcpy(ret, facts.key_sha256, sizeof(facts.key_sha256));
    return 0;
}
