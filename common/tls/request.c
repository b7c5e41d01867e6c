/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/tls_private.h"

#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/digest.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"

#define MAX_REQUEST_BYTES 16384
#define MAX_SIGNATURE_BYTES 1024

static void requestp(X509_REQ **request)
{
    X509_REQ_free(*request);
}

static void digestp(EVP_MD_CTX **digest)
{
    EVP_MD_CTX_free(*digest);
}

/* ---- requests ---- */

static bool fill(X509_REQ *request, const struct tls_key *key, const char *common_name)
{
    X509_NAME *name = X509_NAME_new();
    bool is_ok = name &&
                 X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                            (const uint8_t *) common_name,
                                            (ossl_ssize_t) strlen(common_name), -1, 0) &&
                 X509_REQ_set_version(request, X509_REQ_VERSION_1) &&
                 X509_REQ_set_subject_name(request, name) &&
                 X509_REQ_set_pubkey(request, key->pkey) &&
                 X509_REQ_sign(request, key->pkey, EVP_sha256());

    X509_NAME_free(name);
    return is_ok;
}

int tls_csr_print(const struct tls_key *key, const char *common_name, struct buf *to)
{
    CLEANUP(requestp) X509_REQ *request = NULL;
    uint8_t *der = NULL;
    int len;

    if (!tls_is_subject_text(common_name))
        return TLS_BAD;
    request = X509_REQ_new();
    if (!request || !fill(request, key, common_name))
        return tls_clear(fault(-ENOMEM, "cannot make a certificate request"));
    len = i2d_X509_REQ(request, &der);
    if (len < 0)
        return tls_clear(fault(-ENOMEM, "cannot encode a certificate request"));
    buf_append(to, der, (size_t) len);
    OPENSSL_free(der);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a certificate request") : 0;
}

int tls_csr_parse(struct tls_key **ret, struct span der)
{
    CLEANUP(requestp) X509_REQ *request = NULL;
    CLEANUP(tls_pkeyp) EVP_PKEY *pkey = NULL;
    const uint8_t *at = der.data;

    if (der.len == 0 || der.len > MAX_REQUEST_BYTES)
        return TLS_BAD;
    request = d2i_X509_REQ(NULL, &at, (long) der.len);
    if (!request || at != der.data + der.len)
        return tls_clear(TLS_BAD);
    pkey = X509_REQ_get_pubkey(request);
    if (!pkey || !tls_is_good_key(pkey) || X509_REQ_verify(request, pkey) != 1)
        return tls_clear(TLS_BAD);
    return tls_clear(pass(tls_key_wrap(ret, &pkey)));
}

/* ---- signatures ---- */

int tls_key_sign(const struct tls_key *key, struct span data, struct buf *to)
{
    CLEANUP(digestp) EVP_MD_CTX *digest = EVP_MD_CTX_new();
    uint8_t signature[MAX_SIGNATURE_BYTES];
    size_t len = sizeof(signature);

    ensure((size_t) EVP_PKEY_size(key->pkey) <= sizeof(signature));
    if (!digest || !EVP_DigestSignInit(digest, NULL, EVP_sha256(), NULL, key->pkey) ||
        !EVP_DigestSign(digest, signature, &len, data.data, data.len))
        return tls_clear(fault(-EINVAL, "cannot sign"));
    buf_append(to, signature, len);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a signature") : 0;
}

int tls_cert_check_signature(const struct tls_cert *cert, struct span data, struct span signature)
{
    CLEANUP(digestp) EVP_MD_CTX *digest = EVP_MD_CTX_new();
    EVP_PKEY *pkey = X509_get0_pubkey(cert->x509);

    if (!digest)
        return tls_clear(fault(-ENOMEM, "no memory to check a signature"));
    if (!pkey || !tls_is_good_key(pkey) ||
        !EVP_DigestVerifyInit(digest, NULL, EVP_sha256(), NULL, pkey) ||
        EVP_DigestVerify(digest, signature.data, signature.len, data.data, data.len) != 1)
        return tls_clear(TLS_MISMATCH);
    return 0;
}
