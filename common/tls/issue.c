/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/tls_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/obj.h>
#include <openssl/rand.h>
#include <openssl/sha2.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"

/*
 * Extensions are built from values, never from BoringSSL's configuration strings: a name with a
 * comma stays a name. Each set_x() answers false for want of memory only; what a caller can get
 * wrong is refused by check_request() before.
 */

#define SERIAL_BYTES 16
#define KEY_ID_BYTES 20
#define MAX_NAME_BYTES 64

/* ---- what is asked ---- */

bool tls_is_subject_text(const char *text)
{
    size_t len = strlen(text);

    return len > 0 && len <= MAX_NAME_BYTES && text_is_utf8(text, len);
}

static bool is_address(const char *text)
{
    uint8_t bytes[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

/* RFC 1123 labels, with '_' as found in practice and one leading "*." as certificates may have. */
static bool is_host_name(const char *text)
{
    const char *at = strncmp(text, "*.", 2) == 0 ? text + 2 : text;

    if (strlen(text) > 253)
        return false;
    for (;;) {
        size_t len = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

        if (len == 0 || len > 63 || at[0] == '-' || at[len - 1] == '-')
            return false;
        at += len;
        if (*at == '\0')
            return true;
        if (*at++ != '.')
            return false;
    }
}

static bool is_uri(const char *text)
{
    const char *colon = strchr(text, ':');

    if (!colon || colon == text)
        return false;
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

static bool is_good_request(const struct tls_request *request)
{
    if (!request->common_name || !tls_is_subject_text(request->common_name) ||
        (request->organisation && !tls_is_subject_text(request->organisation)) ||
        (request->organisation_unit && !tls_is_subject_text(request->organisation_unit)) ||
        (request->uri && !is_uri(request->uri)) || (request->crl_url && !is_uri(request->crl_url)))
        return false;
    for (const char *const *name = request->names; name && *name; name++) {
        if (!is_address(*name) && !is_host_name(*name))
            return false;
    }
    return request->not_before.us < request->not_after.us;
}

static bool is_ca_profile(enum tls_profile profile)
{
    return profile == TLS_ROOT || profile == TLS_INTERMEDIATE;
}

/* ---- the certificate's own fields ---- */

static bool set_serial(X509 *x509)
{
    uint8_t bytes[SERIAL_BYTES];
    BIGNUM *number;
    ASN1_INTEGER *serial = NULL;
    bool is_ok;

    do {
        RAND_bytes(bytes, sizeof(bytes));
    } while (bytes[0] == 0); /* so that it always prints as 32 digits */
    number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    if (number)
        serial = BN_to_ASN1_INTEGER(number, NULL);
    is_ok = serial && X509_set_serialNumber(x509, serial);
    ASN1_INTEGER_free(serial);
    BN_free(number);
    return is_ok;
}

static bool add_name(X509_NAME *name, int nid, const char *text)
{
    return !text || X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8, (const uint8_t *) text,
                                               (ossl_ssize_t) strlen(text), -1, 0);
}

static bool set_subject(X509 *x509, const struct tls_request *request)
{
    X509_NAME *name = X509_NAME_new();
    bool is_ok = name && add_name(name, NID_organizationName, request->organisation) &&
                 add_name(name, NID_organizationalUnitName, request->organisation_unit) &&
                 add_name(name, NID_commonName, request->common_name) &&
                 X509_set_subject_name(x509, name);

    X509_NAME_free(name);
    return is_ok;
}

static int64_t seconds_of(wall_us time)
{
    return time.us / 1000000 - (time.us % 1000000 < 0);
}

/* UTCTime or GeneralizedTime, by the year. Outcomes: TLS_BAD (outside years 0 .. 9999). */
static int set_dates(X509 *x509, const struct tls_request *request)
{
    ASN1_TIME *from = ASN1_TIME_set_posix(NULL, seconds_of(request->not_before));
    ASN1_TIME *to = ASN1_TIME_set_posix(NULL, seconds_of(request->not_after));
    int r = 0;

    if (!from || !to)
        r = TLS_BAD;
    else if (!X509_set1_notBefore(x509, from) || !X509_set1_notAfter(x509, to))
        r = fault(-ENOMEM, "no memory for a certificate's dates");
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    return r;
}

/* ---- extensions ---- */

static bool add_extension(X509 *x509, int nid, void *value, bool is_critical)
{
    return X509_add1_ext_i2d(x509, nid, value, is_critical, X509V3_ADD_DEFAULT) == 1;
}

static bool set_constraints(X509 *x509, enum tls_profile profile)
{
    BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();
    bool is_ok = constraints != NULL;

    if (is_ok)
        constraints->ca = is_ca_profile(profile) ? ASN1_BOOLEAN_TRUE : ASN1_BOOLEAN_FALSE;
    if (is_ok && profile == TLS_INTERMEDIATE) {
        constraints->pathlen = ASN1_INTEGER_new();
        is_ok = constraints->pathlen && ASN1_INTEGER_set_uint64(constraints->pathlen, 0);
    }
    is_ok = is_ok && add_extension(x509, NID_basic_constraints, constraints, true);
    BASIC_CONSTRAINTS_free(constraints);
    return is_ok;
}

/* Bits of RFC 5280 section 4.2.1.3. */
static bool set_key_usage(X509 *x509, enum tls_profile profile)
{
    enum { DIGITAL_SIGNATURE = 0, KEY_CERT_SIGN = 5, CRL_SIGN = 6 };
    ASN1_BIT_STRING *usage = ASN1_BIT_STRING_new();
    bool is_ok = usage != NULL;

    if (is_ok && is_ca_profile(profile))
        is_ok = ASN1_BIT_STRING_set_bit(usage, KEY_CERT_SIGN, 1) &&
                ASN1_BIT_STRING_set_bit(usage, CRL_SIGN, 1);
    else if (is_ok)
        is_ok = ASN1_BIT_STRING_set_bit(usage, DIGITAL_SIGNATURE, 1);
    is_ok = is_ok && add_extension(x509, NID_key_usage, usage, true);
    ASN1_BIT_STRING_free(usage);
    return is_ok;
}

static bool set_extended_usage(X509 *x509, enum tls_profile profile)
{
    EXTENDED_KEY_USAGE *usage;
    bool is_ok;

    if (is_ca_profile(profile))
        return true;
    usage = EXTENDED_KEY_USAGE_new();
    /* The objects are BoringSSL's static ones; freeing the stack leaves them alone. */
    is_ok = usage &&
            (profile != TLS_SERVER || sk_ASN1_OBJECT_push(usage, OBJ_nid2obj(NID_server_auth))) &&
            sk_ASN1_OBJECT_push(usage, OBJ_nid2obj(NID_client_auth)) &&
            add_extension(x509, NID_ext_key_usage, usage, false);
    EXTENDED_KEY_USAGE_free(usage);
    return is_ok;
}

/* Takes the value, also when it fails. */
static bool push_name(GENERAL_NAMES *names, int type, ASN1_STRING *take_value)
{
    GENERAL_NAME *name = GENERAL_NAME_new();

    if (!name || !take_value) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(take_value);
        return false;
    }
    GENERAL_NAME_set0_value(name, type, take_value);
    if (!sk_GENERAL_NAME_push(names, name)) {
        GENERAL_NAME_free(name);
        return false;
    }
    return true;
}

static ASN1_STRING *new_string(int type, const void *data, size_t len)
{
    ASN1_STRING *string = ASN1_STRING_type_new(type);

    if (string && !ASN1_STRING_set(string, data, (ossl_ssize_t) len)) {
        ASN1_STRING_free(string);
        return NULL;
    }
    return string;
}

static bool push_text(GENERAL_NAMES *names, int type, const char *text)
{
    return push_name(names, type, new_string(V_ASN1_IA5STRING, text, strlen(text)));
}

static bool push_host(GENERAL_NAMES *names, const char *host)
{
    uint8_t address[sizeof(struct in6_addr)];
    size_t len = 0;

    if (inet_pton(AF_INET, host, address) == 1)
        len = sizeof(struct in_addr);
    else if (inet_pton(AF_INET6, host, address) == 1)
        len = sizeof(struct in6_addr);
    if (len > 0)
        return push_name(names, GEN_IPADD, new_string(V_ASN1_OCTET_STRING, address, len));
    return push_text(names, GEN_DNS, host);
}

static bool set_alternative_names(X509 *x509, const struct tls_request *request)
{
    GENERAL_NAMES *names;
    bool is_ok;

    if (!request->uri && (!request->names || !*request->names))
        return true;
    names = GENERAL_NAMES_new();
    is_ok = names && (!request->uri || push_text(names, GEN_URI, request->uri));
    for (const char *const *name = request->names; is_ok && name && *name; name++)
        is_ok = push_host(names, *name);
    is_ok = is_ok && add_extension(x509, NID_subject_alt_name, names, false);
    GENERAL_NAMES_free(names);
    return is_ok;
}

/* RFC 7093 section 2, method 1. */
static bool set_key_ids(X509 *x509, const X509 *issuer)
{
    const ASN1_BIT_STRING *key = X509_get0_pubkey_bitstr(x509);
    uint8_t digest[SHA256_DIGEST_LENGTH];
    const ASN1_OCTET_STRING *issuer_id;
    AUTHORITY_KEYID *authority = NULL;
    ASN1_OCTET_STRING *id;
    bool is_ok;

    SHA256(ASN1_STRING_get0_data(key), (size_t) ASN1_STRING_length(key), digest);
    id = new_string(V_ASN1_OCTET_STRING, digest, KEY_ID_BYTES);
    is_ok = id && add_extension(x509, NID_subject_key_identifier, id, false);

    issuer_id = issuer ? X509_get0_subject_key_id((X509 *) (uintptr_t) issuer) : id;
    if (is_ok && issuer_id) { /* a foreign CA may have none */
        authority = AUTHORITY_KEYID_new();
        is_ok = authority && (authority->keyid = ASN1_OCTET_STRING_dup(issuer_id)) != NULL &&
                add_extension(x509, NID_authority_key_identifier, authority, false);
    }
    AUTHORITY_KEYID_free(authority);
    ASN1_OCTET_STRING_free(id);
    return is_ok;
}

static bool set_crl_url(X509 *x509, const char *url)
{
    enum { FULL_NAME = 0 };
    CRL_DIST_POINTS *points;
    DIST_POINT *point;
    bool is_ok;

    if (!url)
        return true;
    points = CRL_DIST_POINTS_new();
    point = DIST_POINT_new();
    is_ok = points && point && (point->distpoint = DIST_POINT_NAME_new()) != NULL;
    if (is_ok) {
        point->distpoint->type = FULL_NAME;
        point->distpoint->name.fullname = GENERAL_NAMES_new();
        is_ok = point->distpoint->name.fullname &&
                push_text(point->distpoint->name.fullname, GEN_URI, url);
    }
    if (is_ok && sk_DIST_POINT_push(points, point)) {
        point = NULL; /* the stack's now */
        is_ok = add_extension(x509, NID_crl_distribution_points, points, false);
    } else {
        is_ok = false;
    }
    DIST_POINT_free(point);
    CRL_DIST_POINTS_free(points);
    return is_ok;
}

static bool fill(X509 *x509, const struct tls_request *request, EVP_PKEY *key, const X509 *issuer)
{
    const X509 *namer = issuer ? issuer : x509;

    return X509_set_version(x509, X509_VERSION_3) && set_serial(x509) &&
           set_subject(x509, request) && X509_set_issuer_name(x509, X509_get_subject_name(namer)) &&
           X509_set_pubkey(x509, key) && set_constraints(x509, request->profile) &&
           set_key_usage(x509, request->profile) && set_extended_usage(x509, request->profile) &&
           set_alternative_names(x509, request) && set_key_ids(x509, issuer) &&
           set_crl_url(x509, request->crl_url);
}

/* ---- signing ---- */

static void algorithmp(X509_ALGOR **algorithm)
{
    X509_ALGOR_free(*algorithm);
}

/* TLS_MISMATCH: what came back is no signature by the issuer's key. */
static int sign(X509 *x509, EVP_PKEY *issuer_key, const struct tls_signer *signer)
{
    CLEANUP(algorithmp) X509_ALGOR *algorithm = NULL;
    CLEANUP(buf_deinit) struct buf signature = { 0 };
    uint8_t *tbs = NULL;

    int r = tls_algorithm_of(issuer_key, &algorithm);
    if (r != 0)
        return pass(r);
    if (!X509_set1_signature_algo(x509, algorithm))
        return fault(-ENOMEM, "no memory to sign a certificate");
    int len = i2d_re_X509_tbs(x509, &tbs);
    if (len < 0)
        return fault(-ENOMEM, "cannot encode a certificate");
    r = signer->sign(signer->ctx, span_of(tbs, (size_t) len), &signature);
    OPENSSL_free(tbs);
    if (r != 0)
        return fold(r);
    if (!X509_set1_signature_value(x509, signature.data, signature.len))
        return fault(-ENOMEM, "no memory to sign a certificate");
    return X509_verify(x509, issuer_key) == 1 ? 0 : TLS_MISMATCH;
}

int tls_cert_issue_by(struct tls_cert **ret,
                      const struct tls_request *request,
                      const struct tls_key *subject_key,
                      const struct tls_cert *issuer,
                      const struct tls_signer *signer)
{
    CLEANUP(tls_cert_freep) struct tls_cert *made = NULL, *cert = NULL;
    CLEANUP(buf_deinit) struct buf der = { 0 };

    if (!is_good_request(request))
        return TLS_BAD;
    EVP_PKEY *issuer_key = issuer ? X509_get0_pubkey(issuer->x509) : subject_key->pkey;
    if (!issuer_key || !tls_is_good_key(issuer_key))
        return tls_clear(TLS_BAD);
    int r = tls_cert_alloc(&made);
    if (r == 0)
        r = set_dates(made->x509, request);
    if (r != 0)
        return tls_clear(pass(r));
    if (!fill(made->x509, request, subject_key->pkey, issuer ? issuer->x509 : NULL))
        return tls_clear(fault(-ENOMEM, "cannot make a certificate for %s", request->common_name));
    r = sign(made->x509, issuer_key, signer);
    /* Through its encoding, so that what is handed out is what anybody reads from the bytes. */
    if (r == 0)
        r = tls_cert_print_der(made, &der);
    if (r == 0)
        r = tls_cert_parse_der(&cert, buf_span(&der));
    if (r != 0)
        return tls_clear(pass(r));
    *ret = take(cert);
    return tls_clear(0);
}

int tls_cert_issue(struct tls_cert **ret,
                   const struct tls_request *request,
                   const struct tls_key *subject_key,
                   const struct tls_cert *issuer,
                   const struct tls_key *issuer_key)
{
    const struct tls_signer signer = tls_signer_of_key(issuer_key);

    if (!is_good_request(request))
        return TLS_BAD;
    int r = issuer ? tls_cert_matches_key(issuer, issuer_key) : 0;
    return r != 0 ? pass(r) : pass(tls_cert_issue_by(ret, request, subject_key, issuer, &signer));
}
