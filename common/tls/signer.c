/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <openssl/ec.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/obj.h>
#include <openssl/sha2.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "common/base/fault.h"
#include "common/tls/tls_private.h"

static int sign_with_key(void *ctx, struct span data, struct buf *to)
{
    return pass(tls_key_sign(ctx, data, to));
}

struct tls_signer tls_signer_of_key(const struct tls_key *key)
{
    return (struct tls_signer){ .sign = sign_with_key, .ctx = (void *) (uintptr_t) key };
}

int tls_algorithm_of(const EVP_PKEY *pkey, X509_ALGOR **ret)
{
    const bool is_rsa = EVP_PKEY_id(pkey) == EVP_PKEY_RSA;
    X509_ALGOR *algorithm = X509_ALGOR_new();

    /* RFC 4055: RSA's parameters are NULL; RFC 5758: ECDSA's are absent. */
    if (!algorithm ||
        !X509_ALGOR_set0(algorithm,
                         OBJ_nid2obj(is_rsa ? NID_sha256WithRSAEncryption : NID_ecdsa_with_SHA256),
                         is_rsa ? V_ASN1_NULL : V_ASN1_UNDEF, NULL)) {
        X509_ALGOR_free(algorithm);
        return tls_clear(fault(-ENOMEM, "no memory to sign"));
    }
    *ret = algorithm;
    return 0;
}

int tls_cert_key(const struct tls_cert *cert, struct tls_key **ret)
{
    CLEANUP(tls_pkeyp) EVP_PKEY *pkey = X509_get_pubkey(cert->x509);

    if (!pkey || !tls_is_good_key(pkey))
        return tls_clear(TLS_BAD);
    return pass(tls_key_wrap(ret, &pkey));
}

int tls_cert_is_issued_by(const struct tls_cert *cert, const struct tls_cert *issuer)
{
    EVP_PKEY *pkey = X509_get0_pubkey(issuer->x509);

    if (!pkey || !tls_is_good_key(pkey) ||
        X509_NAME_cmp(X509_get_issuer_name(cert->x509), X509_get_subject_name(issuer->x509)) != 0 ||
        X509_verify(cert->x509, pkey) != 1)
        return tls_clear(TLS_MISMATCH);
    return 0;
}

int tls_key_digest(const struct tls_key *key, uint8_t ret[32])
{
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(key->pkey, &der);

    if (len < 0)
        return tls_clear(fault(-ENOMEM, "cannot encode a public key"));
    SHA256(der, (size_t) len, ret);
    OPENSSL_free(der);
    return 0;
}

int tls_cert_key_kind(const struct tls_cert *cert, char ret[static 16])
{
    const EVP_PKEY *pkey = X509_get0_pubkey(cert->x509);

    if (!pkey)
        return tls_clear(TLS_BAD);
    switch (EVP_PKEY_id(pkey)) {
    case EVP_PKEY_RSA:
        (void) snprintf(ret, 16, "RSA-%d", EVP_PKEY_bits(pkey));
        return 0;
    case EVP_PKEY_EC:
        (void) snprintf(ret, 16, "P-%d", EVP_PKEY_bits(pkey));
        return 0;
    default:
        return TLS_BAD;
    }
}
