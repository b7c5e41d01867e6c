/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/tls/tls_private.h"

/*
 * Lists of revoked certificates: version 2 with authority key identifier and number, entries with
 * serial and date alone. A reason is left out: what an operator typed stays in the registry.
 */

#define MAX_SERIAL_DIGITS 64
#define MAX_CRL_BYTES ((size_t) 64 << 20)

static void crlp(X509_CRL **crl)
{
    X509_CRL_free(*crl);
}

static void integerp(ASN1_INTEGER **integer)
{
    ASN1_INTEGER_free(*integer);
}

static int64_t seconds_of(wall_us time)
{
    return time.us / 1000000 - (time.us % 1000000 < 0);
}

/* Outcomes: TLS_BAD. */
static int serial_of(const char *hex, ASN1_INTEGER **ret)
{
    size_t len = strlen(hex);
    BIGNUM *number = NULL;

    if (len == 0 || len > MAX_SERIAL_DIGITS || hex[strspn(hex, "0123456789abcdefABCDEF")])
        return TLS_BAD;
    *ret = BN_hex2bn(&number, hex) > 0 ? BN_to_ASN1_INTEGER(number, NULL) : NULL;
    BN_free(number);
    return *ret ? 0 : fault(-ENOMEM, "no memory for a serial");
}

/* Outcomes: TLS_BAD. */
static int add_revoked(X509_CRL *crl, const struct tls_revoked *revoked)
{
    CLEANUP(integerp) ASN1_INTEGER *serial = NULL;
    ASN1_TIME *since = NULL;
    X509_REVOKED *entry;

    int r = serial_of(revoked->serial, &serial);
    if (r != 0)
        return pass(r);
    since = ASN1_TIME_set_posix(NULL, seconds_of(revoked->since));
    entry = X509_REVOKED_new();
    if (!since)
        r = TLS_BAD;
    else if (!entry || !X509_REVOKED_set_serialNumber(entry, serial) ||
             !X509_REVOKED_set_revocationDate(entry, since) || !X509_CRL_add0_revoked(crl, entry))
        r = fault(-ENOMEM, "no memory for a list of revoked certificates");
    else
        entry = NULL; /* the list's now */
    X509_REVOKED_free(entry);
    ASN1_TIME_free(since);
    return r;
}

/* Outcomes: TLS_BAD. */
static int set_dates(X509_CRL *crl, const struct tls_crl_request *request)
{
    ASN1_TIME *this_update = ASN1_TIME_set_posix(NULL, seconds_of(request->this_update));
    ASN1_TIME *next_update = ASN1_TIME_set_posix(NULL, seconds_of(request->next_update));
    int r = 0;

    if (!this_update || !next_update)
        r = TLS_BAD;
    else if (!X509_CRL_set1_lastUpdate(crl, this_update) ||
             !X509_CRL_set1_nextUpdate(crl, next_update))
        r = fault(-ENOMEM, "no memory for a list of revoked certificates");
    ASN1_TIME_free(this_update);
    ASN1_TIME_free(next_update);
    return r;
}

static bool set_extensions(X509_CRL *crl, const X509 *issuer, uint64_t number)
{
    const ASN1_OCTET_STRING *id = X509_get0_subject_key_id((X509 *) (uintptr_t) issuer);
    AUTHORITY_KEYID *authority = NULL;
    ASN1_INTEGER *value = ASN1_INTEGER_new();
    bool is_ok = value && ASN1_INTEGER_set_uint64(value, number) &&
                 X509_CRL_add1_ext_i2d(crl, NID_crl_number, value, 0, X509V3_ADD_DEFAULT) == 1;

    if (is_ok && id) {
        authority = AUTHORITY_KEYID_new();
        is_ok = authority && (authority->keyid = ASN1_OCTET_STRING_dup(id)) != NULL &&
                X509_CRL_add1_ext_i2d(crl, NID_authority_key_identifier, authority, 0,
                                      X509V3_ADD_DEFAULT) == 1;
    }
    AUTHORITY_KEYID_free(authority);
    ASN1_INTEGER_free(value);
    return is_ok;
}

/* Outcomes: TLS_MISMATCH. */
static int sign(X509_CRL *crl, EVP_PKEY *issuer_key, const struct tls_signer *signer)
{
    CLEANUP(buf_deinit) struct buf signature = { 0 };
    X509_ALGOR *algorithm = NULL;
    uint8_t *tbs = NULL;

    int r = tls_algorithm_of(issuer_key, &algorithm);
    if (r != 0)
        return pass(r);
    bool is_set = X509_CRL_set1_signature_algo(crl, algorithm) == 1;
    X509_ALGOR_free(algorithm);
    int len = is_set ? i2d_re_X509_CRL_tbs(crl, &tbs) : -1;
    if (len < 0)
        return fault(-ENOMEM, "cannot encode a list of revoked certificates");
    r = signer->sign(signer->ctx, span_of(tbs, (size_t) len), &signature);
    OPENSSL_free(tbs);
    if (r != 0)
        return fold(r);
    if (!X509_CRL_set1_signature_value(crl, signature.data, signature.len))
        return fault(-ENOMEM, "no memory for a signature");
    return 0;
}

int tls_crl_issue(const struct tls_crl_request *request,
                  const struct tls_cert *issuer,
                  const struct tls_signer *signer,
                  struct buf *to)
{
    CLEANUP(crlp) X509_CRL *crl = X509_CRL_new();
    EVP_PKEY *issuer_key = X509_get0_pubkey(issuer->x509);
    struct tls_crl_facts facts;
    uint8_t *der = NULL;

    if (!issuer_key || !tls_is_good_key(issuer_key) ||
        request->this_update.us >= request->next_update.us)
        return tls_clear(TLS_BAD);
    if (!crl || !X509_CRL_set_version(crl, X509_CRL_VERSION_2) ||
        !X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509)))
        return tls_clear(fault(-ENOMEM, "no memory for a list of revoked certificates"));
    int r = set_dates(crl, request);
    for (size_t i = 0; r == 0 && i < request->n_revoked; i++)
        r = add_revoked(crl, &request->revoked[i]);
    if (r == 0 && (!X509_CRL_sort(crl) || !set_extensions(crl, issuer->x509, request->number)))
        r = fault(-ENOMEM, "no memory for a list of revoked certificates");
    if (r == 0)
        r = sign(crl, issuer_key, signer);
    if (r != 0)
        return tls_clear(pass(r));
    int len = i2d_X509_CRL(crl, &der);
    if (len < 0)
        return tls_clear(fault(-ENOMEM, "cannot encode a list of revoked certificates"));
    r = tls_crl_read(span_of(der, (size_t) len), issuer, NULL, &facts);
    if (r == 0)
        buf_append(to, der, (size_t) len);
    OPENSSL_free(der);
    if (r != 0)
        return pass(r);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a list of revoked certificates") : 0;
}

/* ---- reading ---- */

static bool read_time(const ASN1_TIME *time, wall_us *ret)
{
    int64_t seconds;

    if (!time || !ASN1_TIME_to_posix(time, &seconds))
        return false;
    ret->us = seconds * 1000000;
    return true;
}

int tls_crl_read(struct span der,
                 const struct tls_cert *issuer,
                 const char *serial,
                 struct tls_crl_facts *ret)
{
    CLEANUP(crlp) X509_CRL *crl = NULL;
    CLEANUP(integerp) ASN1_INTEGER *number = NULL, *wanted = NULL;
    EVP_PKEY *issuer_key = X509_get0_pubkey(issuer->x509);
    struct tls_crl_facts facts = { 0 };
    const uint8_t *at = der.data;
    X509_REVOKED *found = NULL;

    if (der.len == 0 || der.len > MAX_CRL_BYTES)
        return TLS_BAD;
    crl = d2i_X509_CRL(NULL, &at, (long) der.len);
    if (!crl || at != der.data + der.len ||
        !read_time(X509_CRL_get0_lastUpdate(crl), &facts.this_update) ||
        !read_time(X509_CRL_get0_nextUpdate(crl), &facts.next_update))
        return tls_clear(TLS_BAD);
    number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
    if (number && !ASN1_INTEGER_get_uint64(&facts.number, number))
        return tls_clear(TLS_BAD);
    if (!issuer_key ||
        X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer->x509)) != 0 ||
        X509_CRL_verify(crl, issuer_key) != 1)
        return tls_clear(TLS_MISMATCH);
    if (serial) {
        int r = serial_of(serial, &wanted);
        if (r != 0)
            return tls_clear(pass(r));
        facts.has_serial = X509_CRL_get0_by_serial(crl, &found, wanted) == 1;
    }
    const STACK_OF(X509_REVOKED) *all = X509_CRL_get_REVOKED(crl);
    facts.n_revoked = all ? sk_X509_REVOKED_num(all) : 0;
    *ret = facts;
    return tls_clear(0);
}
