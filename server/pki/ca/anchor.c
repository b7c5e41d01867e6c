/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"

/*
 * The key that signs the heads of the audit: P-256, the hub's own, for as long as the state
 * directory lives. Not the listener's: that changes every three months, may be an operator's, and
 * of any kind. anchor-key.pem is sealed like the CA's keys; anchor-cert.pem has the public half,
 * for who checks an anchor and must not sign one. It is self-signed and leads nowhere: no peer
 * takes it.
 */

#define LIFE_US (3650 * PKI_DAY_US)
#define LIMIT_BYTES ((size_t) 64 * 1024)

static struct pki_issuer_place place_of(const struct pki *pki)
{
    return (struct pki_issuer_place){ .directory = pki->certs,
                                      .name = "anchor",
                                      .sealing = &pki->ca->sealing };
}

/* The hub alone signs, and it is alone with its database. */
static int make(struct pki *pki)
{
    CLEANUP(pki_issuer_deinit) struct pki_issuer anchor = { 0 };
    const struct pki_issuer_place place = place_of(pki);
    const wall_us now = clock_wall();
    const struct tls_request request = {
        .profile = TLS_CLIENT,
        .common_name = "Sentinel audit",
        .organisation = pki->authority.organisation,
        .not_before = { now.us - PKI_BACKDATE_US },
        .not_after = { now.us + LIFE_US },
    };

    int r = pki_issuer_make(&anchor, &request, NULL);
    return r != 0 ? pass(r) : pass(pki_issuer_save(&anchor, &place));
}

/* Made when there is none. Outcomes: PKI_BAD (sealed under another key; ret_why). */
static int load(struct pki *pki, struct pki_issuer *ret, struct tls_why *ret_why)
{
    const struct pki_issuer_place place = place_of(pki);
    char path[PKI_PATH_BYTES];

    if (!pki_path(path, pki->certs, "anchor-cert.pem"))
        return fault(-ENAMETOOLONG, "%s", pki->certs);
    pthread_mutex_lock(&pki->ca->refreshing);
    int r = 0;
    if (access(path, F_OK) < 0) /* the certificate is written last */
        r = make(pki);
    if (r == 0)
        r = pki_issuer_load(ret, &place, ret_why);
    pthread_mutex_unlock(&pki->ca->refreshing);
    return pass(r);
}

int pki_hub_sign(struct pki *pki, struct span data, struct buf *to)
{
    CLEANUP(pki_issuer_deinit) struct pki_issuer anchor = { 0 };
    struct tls_why why = { "" };

    int r = load(pki, &anchor, &why);
    if (r > 0)
        return fault(-EKEYREJECTED, "the audit's key cannot be used: %s", why.text);
    return r != 0 ? pass(r) : pass(tls_key_sign(anchor.key, data, to));
}

bool pki_hub_check(struct pki *pki, struct span data, struct span signature)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    char path[PKI_PATH_BYTES];

    if (!pki_path(path, pki->certs, "anchor-cert.pem"))
        return false;
    return file_read(path, LIMIT_BYTES, &pem) == 0 &&
           tls_cert_parse_pem(&cert, buf_span(&pem)) == 0 &&
           tls_cert_check_signature(cert, data, signature) == 0;
}
