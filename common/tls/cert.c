/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/tls_private.h"

#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/sha2.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"

static int wrap_cert(struct tls_cert **ret, X509 **take_x509)
{
    struct tls_cert *cert = malloc(sizeof(*cert));

    if (!cert)
        return fault(-ENOMEM, "no memory for a certificate");
    cert->x509 = take(*take_x509);
    *ret = cert;
    return 0;
}

int tls_cert_alloc(struct tls_cert **ret)
{
    CLEANUP(tls_x509p) X509 *x509 = X509_new();

    if (!x509)
        return tls_clear(fault(-ENOMEM, "no memory for a certificate"));
    return pass(wrap_cert(ret, &x509));
}

struct tls_cert *tls_cert_free(struct tls_cert *cert)
{
    if (cert)
        X509_free(cert->x509);
    free(cert);
    return NULL;
}

/* ---- reading and printing ---- */

void tls_x509_stackp(STACK_OF(X509) * *stack)
{
    sk_X509_pop_free(*stack, X509_free);
}

int tls_certs_parse(struct span pem, size_t max_certs, STACK_OF(X509) * *ret)
{
    CLEANUP(tls_x509_stackp) STACK_OF(X509) *certs = sk_X509_new_null();
    CLEANUP(tls_biop) BIO *bio = NULL;

    if (pem.len == 0 || pem.len > TLS_FILE_LIMIT_BYTES)
        return TLS_BAD;
    bio = BIO_new_mem_buf(pem.data, (ossl_ssize_t) pem.len);
    if (!certs || !bio)
        return tls_clear(fault(-ENOMEM, "no memory to read certificates"));
    for (;;) {
        X509 *x509;

        ERR_clear_error();
        x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (!x509) {
            uint32_t error = ERR_peek_last_error();
            bool is_end =
                ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;

            ERR_clear_error();
            if (!is_end || sk_X509_num(certs) == 0)
                return TLS_BAD;
            break;
        }
        if (sk_X509_num(certs) == max_certs) {
            X509_free(x509);
            return TLS_BAD;
        }
        if (!sk_X509_push(certs, x509)) {
            X509_free(x509);
            return tls_clear(fault(-ENOMEM, "no memory to read certificates"));
        }
    }
    *ret = take(certs);
    return 0;
}

int tls_cert_parse_pem(struct tls_cert **ret, struct span pem)
{
    CLEANUP(tls_biop) BIO *bio = NULL;
    CLEANUP(tls_x509p) X509 *x509 = NULL;

    if (pem.len == 0 || pem.len > TLS_FILE_LIMIT_BYTES)
        return TLS_BAD;
    bio = BIO_new_mem_buf(pem.data, (ossl_ssize_t) pem.len);
    if (!bio)
        return tls_clear(fault(-ENOMEM, "no memory to read a certificate"));
    x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    if (!x509)
        return tls_clear(TLS_BAD);
    return pass(wrap_cert(ret, &x509));
}

int tls_cert_parse_der(struct tls_cert **ret, struct span der)
{
    CLEANUP(tls_x509p) X509 *x509 = NULL;
    const uint8_t *at = der.data;

    if (der.len == 0 || der.len > TLS_FILE_LIMIT_BYTES)
        return TLS_BAD;
    x509 = d2i_X509(NULL, &at, (long) der.len);
    if (!x509 || at != der.data + der.len)
        return tls_clear(TLS_BAD);
    return pass(wrap_cert(ret, &x509));
}

int tls_cert_print(const struct tls_cert *cert, struct buf *to)
{
    CLEANUP(tls_biop) BIO *bio = BIO_new(BIO_s_mem());
    const uint8_t *pem = NULL;
    size_t len = 0;

    if (!bio || !PEM_write_bio_X509(bio, cert->x509) || !BIO_mem_contents(bio, &pem, &len))
        return tls_clear(fault(-ENOMEM, "cannot print a certificate"));
    buf_append(to, pem, len);
    return buf_failed(to) ? fault(-ENOMEM, "no memory to print a certificate") : 0;
}

int tls_cert_print_der(const struct tls_cert *cert, struct buf *to)
{
    uint8_t *der = NULL;
    int len = i2d_X509(cert->x509, &der);

    if (len < 0)
        return tls_clear(fault(-ENOMEM, "cannot encode a certificate"));
    buf_append(to, der, (size_t) len);
    OPENSSL_free(der);
    return buf_failed(to) ? fault(-ENOMEM, "no memory to print a certificate") : 0;
}

int tls_chain_split(struct span pem, struct tls_cert *ret[], size_t max_certs, size_t *ret_n)
{
    CLEANUP(tls_x509_stackp) STACK_OF(X509) *certs = NULL;
    size_t n_certs = 0;
    int r = tls_certs_parse(pem, max_certs, &certs);

    for (; r == 0 && n_certs < sk_X509_num(certs); n_certs++) {
        CLEANUP(tls_x509p) X509 *x509 = sk_X509_value(certs, n_certs);

        X509_up_ref(x509);
        r = wrap_cert(&ret[n_certs], &x509);
        if (r != 0)
            break;
    }
    if (r != 0) {
        while (n_certs > 0)
            tls_cert_free(ret[--n_certs]);
        return pass(r);
    }
    *ret_n = n_certs;
    return 0;
}

/* ---- facts ---- */

/* Cut where a character ends. A NUL inside becomes '?': it must not end a name early
 * ("root\0.evil"). */
static void copy_text(const unsigned char *text, size_t len, char *ret, size_t ret_bytes)
{
    if (len >= ret_bytes) {
        len = ret_bytes - 1;
        while (len > 0 && (text[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(ret, text, len);
    ret[len] = '\0';
    for (size_t i = 0; i < len; i++) {
        if (ret[i] == '\0')
            ret[i] = '?';
    }
}

static void read_name(const X509_NAME *name, int nid, char *ret, size_t ret_bytes)
{
    int at = X509_NAME_get_index_by_NID(name, nid, -1);
    unsigned char *text = NULL;
    int len;

    ret[0] = '\0';
    if (at < 0)
        return;
    len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (len < 0)
        return;
    copy_text(text, (size_t) len, ret, ret_bytes);
    OPENSSL_free(text);
}

void tls_common_name(const X509_NAME *name, char *ret, size_t ret_bytes)
{
    read_name(name, NID_commonName, ret, ret_bytes);
}

static void read_uri(const X509 *x509, char *ret, size_t ret_bytes)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);

    ret[0] = '\0';
    for (size_t i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type != GEN_URI)
            continue;
        copy_text(ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
                  (size_t) ASN1_STRING_length(name->d.uniformResourceIdentifier), ret, ret_bytes);
        break;
    }
    GENERAL_NAMES_free(names);
}

static int read_time(const ASN1_TIME *time, wall_us *ret)
{
    int64_t seconds;

    if (!ASN1_TIME_to_posix(time, &seconds))
        return TLS_BAD;
    ret->us = seconds * 1000000; /* year 9999 fits 30 times */
    return 0;
}

static int hash_key(const X509 *x509, uint8_t ret[static 32])
{
    uint8_t *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &der);

    if (len < 0)
        return fault(-ENOMEM, "cannot encode a public key");
    SHA256(der, (size_t) len, ret);
    OPENSSL_free(der);
    return 0;
}

int tls_cert_read(const struct tls_cert *cert, struct tls_facts *ret)
{
    const X509 *x509 = cert->x509;
    const X509_NAME *subject = X509_get_subject_name(x509);
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);
    size_t serial_len = (size_t) ASN1_STRING_length(serial);
    struct tls_facts facts = { 0 };
    int r;

    read_name(subject, NID_commonName, facts.common_name, sizeof(facts.common_name));
    read_name(subject, NID_organizationName, facts.organisation, sizeof(facts.organisation));
    read_name(subject, NID_organizationalUnitName, facts.organisation_unit,
              sizeof(facts.organisation_unit));
    tls_common_name(X509_get_issuer_name(x509), facts.issuer, sizeof(facts.issuer));
    read_uri(x509, facts.uri, sizeof(facts.uri));
    if (serial_len > sizeof(facts.serial) / 2)
        serial_len = sizeof(facts.serial) / 2;
    text_of_hex(ASN1_STRING_get0_data(serial), serial_len, facts.serial);
    facts.is_ca = X509_check_ca(x509) != 0;

    r = read_time(X509_get0_notBefore(x509), &facts.not_before);
    if (r == 0)
        r = read_time(X509_get0_notAfter(x509), &facts.not_after);
    if (r == 0)
        r = hash_key(x509, facts.key_sha256);
    if (r == 0 && !X509_digest(x509, EVP_sha256(), facts.sha256, NULL))
        r = fault(-ENOMEM, "cannot hash a certificate");
    if (r != 0)
        return tls_clear(pass(r));
    *ret = facts;
    return tls_clear(0);
}

int tls_cert_matches_key(const struct tls_cert *cert, const struct tls_key *key)
{
    const EVP_PKEY *pkey = X509_get0_pubkey(cert->x509);

    return tls_clear(pkey && EVP_PKEY_eq(pkey, key->pkey) == 1 ? 0 : TLS_MISMATCH);
}
