/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/pkcs8.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/tls/tls_private.h"

#define MAX_CHAIN_CERTS 16
#define ITERATIONS 200000 /* of PBKDF2-HMAC-SHA256: a tenth of a second for one file */

static void pkcs12p(PKCS12 **pkcs12)
{
    PKCS12_free(*pkcs12);
}

int tls_pkcs12_print(const struct tls_identity *identity,
                     const char *name,
                     const char *password,
                     struct buf *to)
{
    CLEANUP(tls_x509_stackp) STACK_OF(X509) *chain = NULL;
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(tls_x509p) X509 *leaf = NULL;
    CLEANUP(pkcs12p) PKCS12 *pkcs12 = NULL;
    CLEANUP(tls_biop) BIO *bio = NULL;
    const uint8_t *bytes = NULL;
    size_t len = 0;

    if (!password[0] || !text_is_utf8(password, strlen(password)))
        return TLS_BAD;
    int r = tls_key_parse(&key, buf_span(&identity->key_pem));
    if (r == 0)
        r = tls_certs_parse(buf_span(&identity->chain_pem), MAX_CHAIN_CERTS, &chain);
    if (r != 0)
        return pass(r);
    leaf = sk_X509_shift(chain);
    if (!X509_check_private_key(leaf, key->pkey))
        return tls_clear(TLS_BAD);
    pkcs12 = PKCS12_create(password, name, key->pkey, leaf, chain, 0, 0, ITERATIONS, ITERATIONS, 0);
    bio = BIO_new(BIO_s_mem());
    if (!pkcs12 || !bio || !i2d_PKCS12_bio(bio, pkcs12) || !BIO_mem_contents(bio, &bytes, &len))
        return tls_clear(fault(-ENOMEM, "cannot make a PKCS#12 file"));
    buf_append(to, bytes, len);
    return tls_clear(buf_failed(to) ? fault(-ENOMEM, "no memory for a PKCS#12 file") : 0);
}
