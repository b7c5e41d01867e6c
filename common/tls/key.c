/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/tls_private.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"

#define MIN_RSA_BITS 2048

void tls_x509p(X509 **x509)
{
    X509_free(*x509);
}

void tls_pkeyp(EVP_PKEY **pkey)
{
    EVP_PKEY_free(*pkey);
}

void tls_biop(BIO **bio)
{
    BIO_free(*bio);
}

int tls_clear(int r)
{
    ERR_clear_error();
    return r;
}

int tls_refuse(struct tls_why *why, int outcome, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, args);
    va_end(args);
    return outcome;
}

const char *tls_shown(const char *text, char to[static TLS_SHOWN_BYTES])
{
    CLEANUP(buf_deinit) struct buf shown = { 0 };

    text_append_printable(&shown, span_of_text(text));
    snprintf(to, TLS_SHOWN_BYTES, "%s", buf_text(&shown));
    return to;
}

int tls_key_wrap(struct tls_key **ret, EVP_PKEY **take_pkey)
{
    struct tls_key *key = malloc(sizeof(*key));

    if (!key)
        return fault(-ENOMEM, "no memory for a key");
    key->pkey = take(*take_pkey);
    *ret = key;
    return 0;
}

int tls_key_new(struct tls_key **ret)
{
    CLEANUP(tls_pkeyp) EVP_PKEY *pkey = EVP_PKEY_generate_from_alg(EVP_pkey_ec_p256());

    if (!pkey)
        return tls_clear(fault(-ENOMEM, "cannot make a P-256 key"));
    return pass(tls_key_wrap(ret, &pkey));
}

struct tls_key *tls_key_free(struct tls_key *key)
{
    if (key)
        EVP_PKEY_free(key->pkey); /* wipes */
    free(key);
    return NULL;
}

bool tls_is_good_key(const EVP_PKEY *pkey)
{
    int curve;

    if (EVP_PKEY_id(pkey) == EVP_PKEY_RSA)
        return EVP_PKEY_bits(pkey) >= MIN_RSA_BITS;
    if (EVP_PKEY_id(pkey) != EVP_PKEY_EC)
        return false;
    curve = EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(pkey)));
    return curve == NID_X9_62_prime256v1 || curve == NID_secp384r1;
}

/* Encrypted keys are not ours, and a library must not ask on the terminal. */
static int no_password(char *to, int size, int is_writing, void *user)
{
    (void) to;
    (void) size;
    (void) is_writing;
    (void) user;
    return -1;
}

int tls_key_parse(struct tls_key **ret, struct span pem)
{
    CLEANUP(tls_biop) BIO *bio = NULL;
    CLEANUP(tls_pkeyp) EVP_PKEY *pkey = NULL;

    if (pem.len == 0 || pem.len > TLS_FILE_LIMIT_BYTES)
        return TLS_BAD;
    bio = BIO_new_mem_buf(pem.data, (ossl_ssize_t) pem.len);
    if (!bio)
        return tls_clear(fault(-ENOMEM, "no memory to read a key"));
    pkey = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    if (!pkey || !tls_is_good_key(pkey))
        return tls_clear(TLS_BAD);
    return pass(tls_key_wrap(ret, &pkey));
}

int tls_key_print(const struct tls_key *key, struct buf *to)
{
    CLEANUP(tls_biop) BIO *bio = BIO_new(BIO_s_mem());
    const uint8_t *pem = NULL;
    size_t len = 0;

    if (!bio || !PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) ||
        !BIO_mem_contents(bio, &pem, &len))
        return tls_clear(fault(-ENOMEM, "cannot print a key"));
    buf_append(to, pem, len);
    return buf_failed(to) ? fault(-ENOMEM, "no memory to print a key") : 0;
}
