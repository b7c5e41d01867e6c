/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "server/pki/authority.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"

/* The hub's own certificate: loaded for the listener, and made anew in time. */

#define FILE_LIMIT ((size_t) 256 * 1024)

static int server_paths(const char *certs,
                        char roots[static PKI_PATH_BYTES],
                        char chain[static PKI_PATH_BYTES],
                        char key[static PKI_PATH_BYTES])
{
    if (!pki_path(roots, certs, "ca-cert.pem") || !pki_path(chain, certs, "server-cert.pem") ||
        !pki_path(key, certs, "server-key.pem"))
        return fault(-ENAMETOOLONG, "%s", certs);
    return 0;
}

int pki_load_server(const char *state_directory, struct tls_identity *ret, struct tls_why *ret_why)
{
    char certs[PKI_PATH_BYTES], roots[PKI_PATH_BYTES], chain[PKI_PATH_BYTES], key[PKI_PATH_BYTES];
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct tls_why why;

    if (!pki_path(certs, state_directory, "certs"))
        return fault(-ENAMETOOLONG, "%s", state_directory);
    int r = pki_check_directory(certs, ret_why);
    if (r == 0)
        r = server_paths(certs, roots, chain, key);
    if (r != 0)
        return pass(r);
    r = pki_of_tls(tls_identity_load_files(roots, chain, key, &identity, ret_why));
    if (r != 0)
        return pass(r);
    r = tls_chain_verify(buf_span(&identity.chain_pem), buf_span(&identity.roots_pem), TLS_SERVER,
                         NULL, clock_wall(), &why);
    if (r < 0)
        return pass(r);
    if (r != 0) {
        snprintf(ret_why->text, sizeof(ret_why->text), "%.120s is unfit: %.240s", chain, why.text);
        return PKI_BAD;
    }
    *ret = identity;
    identity = (struct tls_identity){ 0 };
    return 0;
}

#define HUBS_CA "Sentinel Hubs CA" /* a number follows after a rotation */

/*
 * Whether the certificate in the file is by a hubs CA of ours; then its digest and dates are
 * filled. *ret_is_due: it is not the one that signs now, as a rotation went a step on or back.
 */
static int read_own(const struct pki *pki,
                    const struct pki_issuer *hubs,
                    const char *path,
                    struct tls_facts *ret,
                    bool *ret_is_ours,
                    bool *ret_is_due)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 }, root = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct tls_facts facts, issuer;
    char root_path[PKI_PATH_BYTES];
    struct tls_why why;

    *ret_is_ours = false;
    if (!pki_path(root_path, pki->certs, "ca-cert.pem"))
        return fault(-ENAMETOOLONG, "%s", pki->certs);
    int r = file_read(path, FILE_LIMIT, &pem);
    if (r != 0)
        return r < 0 ? pass(r) : 0;
    r = file_read(root_path, FILE_LIMIT, &root);
    if (r != 0)
        return r < 0 ? pass(r) : 0;
    r = tls_cert_parse_pem(&cert, buf_span(&pem));
    if (r != 0)
        return r < 0 ? pass(r) : 0;
    r = tls_cert_read(cert, &facts);
    if (r == 0)
        r = tls_cert_read(hubs->cert, &issuer);
    if (r != 0)
        return fold(r);
    *ret_is_due = strcmp(facts.issuer, issuer.common_name) != 0;
    if (*ret_is_due && strncmp(facts.issuer, HUBS_CA, sizeof(HUBS_CA) - 1) != 0)
        return 0;
    /* As of its own time, so that an expired one is still known as ours. */
    wall_us within = { facts.not_before.us + (facts.not_after.us - facts.not_before.us) / 2 };
    r = tls_chain_verify(buf_span(&pem), buf_span(&root), TLS_SERVER, NULL, within, &why);
    if (r < 0)
        return pass(r);
    *ret = facts;
    *ret_is_ours = r == 0;
    return 0;
}

bool pki_is_near_its_end(wall_us not_before, wall_us not_after, wall_us now)
{
    return not_after.us - now.us < (not_after.us - not_before.us) / 5;
}

int pki_renew_server(struct pki *pki, wall_us now, bool *ret_is_renewed, struct tls_why *ret_why)
{
    char roots[PKI_PATH_BYTES], chain[PKI_PATH_BYTES], key[PKI_PATH_BYTES];
    CLEANUP(pki_issuer_deinit) struct pki_issuer hubs = { 0 };
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    CLEANUP(pki_leaf_deinit) struct pki_leaf leaf = { 0 };
    struct tls_facts facts = { 0 };
    struct tls_why ignored;
    bool is_ours = false, is_due = false;

    int r = server_paths(pki->certs, roots, chain, key);
    if (r != 0)
        return pass(r);
    r = pki_ca_issuer(pki, PKI_PART_HUBS, &hubs, ret_why);
    if (r == PKI_ABSENT) { /* a hub with the operator's own certificates, or a CA kept elsewhere */
        *ret_is_renewed = false;
        return 0;
    }
    if (r == 0)
        r = read_own(pki, &hubs, chain, &facts, &is_ours, &is_due);
    if (r != 0)
        return pass(r);
    /* Key and certificate are two files: a power cut between them leaves a pair that does not
     * match. */
    int pair = tls_identity_load_files(roots, chain, key, &identity, &ignored);
    if (pair < 0)
        return pass(pair);
    if (!is_ours || (pair != TLS_MISMATCH && !is_due &&
                     !pki_is_near_its_end(facts.not_before, facts.not_after, now))) {
        *ret_is_renewed = false;
        return 0;
    }
    r = pki_leaf_make_hub(&leaf, &pki->authority, &hubs, now, PKI_HUB_LIFE_US);
    if (r == 0)
        r = pki_ca_append_cross(pki, &leaf.chain_pem);
    if (r != 0)
        return pass(r);
    memcpy(leaf.row.parent, facts.sha256, sizeof(leaf.row.parent));
    char object[80] = "certificate/";
    text_of_hex(leaf.row.identity.sha256, sizeof(leaf.row.identity.sha256),
                object + strlen(object));
    const struct audit_field fields[] = { { "serial", leaf.row.identity.serial },
                                          { "issuer", leaf.row.issuer } };
    const struct audit_entry entry = { .event = AUDIT_HUB_CERTIFICATE,
                                       .actor = "hub",
                                       .object = object,
                                       .fields = fields,
                                       .n_fields = 2 };
    const struct pki_change change = { .rows = &leaf.row, .n_rows = 1, .entry = &entry };
    r = pki_change_rows(pki, &change);
    if (r == PKI_FULL)
        return fault(-ENOSPC, "the disk is full: nothing was registered");
    if (r == 0)
        r = pki_leaf_save_hub(&leaf, pki->certs);
    if (r != 0)
        return pass(r);
    *ret_is_renewed = true;
    return 0;
}
