/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/tls_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/nid.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"

#define MAX_CHAIN_CERTS 16
#define MAX_ROOTS 1024

static void storep(X509_STORE **store)
{
    X509_STORE_free(*store);
}

static void contextp(X509_STORE_CTX **context)
{
    X509_STORE_CTX_free(*context);
}

static const char *time_of(const ASN1_TIME *time, char to[static TEXT_TIME_BYTES])
{
    int64_t seconds = 0;

    ASN1_TIME_to_posix(time, &seconds);
    return text_of_time((wall_us){ seconds * 1000000 }, to);
}

/* ---- why not, for people ---- */

/* The names a certificate is for, comma separated, as far as they fit a sentence. */
static void list_hosts(const X509 *x509, struct buf *to)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);

    for (size_t i = 0; names && i < sk_GENERAL_NAME_num(names) && to->len < 100; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        char address[INET6_ADDRSTRLEN] = "";

        if (name->type != GEN_DNS && name->type != GEN_IPADD)
            continue;
        if (to->len > 0)
            buf_append_text(to, ", ");
        if (name->type == GEN_DNS) {
            text_append_printable(to, span_of(ASN1_STRING_get0_data(name->d.dNSName),
                                              (size_t) ASN1_STRING_length(name->d.dNSName)));
        } else {
            int len = ASN1_STRING_length(name->d.iPAddress);

            if (len == 4 || len == 16)
                inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress),
                          address, sizeof(address));
            buf_append_text(to, address);
        }
    }
    GENERAL_NAMES_free(names);
}

static void explain_host(const X509 *x509, const char *name, const char *host, struct tls_why *why)
{
    CLEANUP(buf_deinit) struct buf hosts = { 0 };
    char shown[TLS_SHOWN_BYTES];

    list_hosts(x509, &hosts);
    tls_refuse(
        why, TLS_UNTRUSTED,
        "the certificate of `%.64s` is not for `%.80s` but for %.120s; connect by that name, or "
        "issue it for this one",
        name, tls_shown(host, shown), hosts.len ? buf_text(&hosts) : "no host");
}

static int refuse_self_signed(const char *name, struct tls_why *why)
{
    return tls_refuse(
        why, TLS_UNTRUSTED,
        "the certificate of `%.64s` is self-signed and not among the roots; issue it from "
        "the CA, or trust it",
        name);
}

/* No issuer was found: because there is none, or because what has its name may not be one. */
static int
explain_issuer(const X509_STORE_CTX *context, X509 *x509, const char *name, struct tls_why *why)
{
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(context);
    char common_name[TLS_SHOWN_BYTES];
    char issuer[TLS_SHOWN_BYTES];
    bool may_not_issue = false;

    /* A leaf that signed itself is no issuer to BoringSSL, so it does not say self-signed. */
    if (X509_verify(x509, X509_get0_pubkey(x509)) == 1)
        return refuse_self_signed(name, why);
    for (size_t i = 0; i < sk_X509_num(chain); i++) {
        if (X509_check_issued(sk_X509_value(chain, i), x509) == X509_V_ERR_KEYUSAGE_NO_CERTSIGN)
            may_not_issue = true;
    }
    tls_common_name(X509_get_issuer_name(x509), common_name, sizeof(common_name));
    return tls_refuse(why, TLS_UNTRUSTED, "`%.64s` was issued by `%.64s`, which %s", name,
                      tls_shown(common_name, issuer),
                      may_not_issue
                          ? "is in the chain but may not issue; use a CA"
                          : "is neither in the chain nor among the roots; add the intermediate "
                            "to the chain, or trust the right root");
}

static void
explain_purpose(const char *name, int depth, enum tls_profile profile, struct tls_why *why)
{
    if (depth > 0)
        tls_refuse(why, TLS_UNTRUSTED, "`%.64s` is in the chain as an issuer, but may not issue",
                   name);
    else
        tls_refuse(
            why, TLS_UNTRUSTED,
            "the certificate of `%.64s` is not for a %s; issue it with %s among its extended key "
            "usages",
            name, profile == TLS_SERVER ? "server" : "client",
            profile == TLS_SERVER ? "serverAuth" : "clientAuth");
}

static int explain(const X509_STORE_CTX *context,
                   enum tls_profile profile,
                   const char *host,
                   struct tls_why *why)
{
    X509 *x509 = X509_STORE_CTX_get_current_cert(context);
    int error = X509_STORE_CTX_get_error(context);
    int depth = X509_STORE_CTX_get_error_depth(context);
    char common_name[TLS_SHOWN_BYTES] = "";
    char name[TLS_SHOWN_BYTES];
    char time[TEXT_TIME_BYTES];

    if (x509)
        tls_common_name(X509_get_subject_name(x509), common_name, sizeof(common_name));
    tls_shown(common_name, name);

    if (!x509)
        return tls_refuse(why, TLS_UNTRUSTED, "the chain cannot be verified: %s",
                          X509_verify_cert_error_string(error));
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return tls_refuse(why, TLS_UNTRUSTED, "the certificate of `%.64s` expired at %s; renew it",
                          name, time_of(X509_get0_notAfter(x509), time));
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return tls_refuse(
            why, TLS_UNTRUSTED,
            "the certificate of `%.64s` is not valid before %s; check this machine's clock", name,
            time_of(X509_get0_notBefore(x509), time));
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return refuse_self_signed(name, why);
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return tls_refuse(
            why, TLS_UNTRUSTED,
            "the chain ends at `%.64s`, which is not among the roots; trust the right root", name);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return explain_issuer(context, x509, name, why);
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return tls_refuse(
            why, TLS_UNTRUSTED,
            "the signature on the certificate of `%.64s` is not its issuer's; another CA "
            "of the same name made it",
            name);
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_INVALID_CA:
    case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
        explain_purpose(name, error == X509_V_ERR_INVALID_PURPOSE ? depth : 1, profile, why);
        return TLS_UNTRUSTED;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        explain_host(x509, name, host ? host : "", why);
        return TLS_UNTRUSTED;
    default:
        return tls_refuse(why, TLS_UNTRUSTED, "the certificate of `%.64s` cannot be verified: %s",
                          name, X509_verify_cert_error_string(error));
    }
}

/* ---- verifying ---- */

static int
parse(struct span pem, size_t max, const char *what, STACK_OF(X509) * *ret, struct tls_why *why)
{
    int r = tls_certs_parse(pem, max, ret);

    if (r == TLS_BAD)
        return tls_refuse(why, TLS_BAD, "the %s are not PEM certificates, none, or more than %zu",
                          what, max);
    return pass(r);
}

bool tls_expect_host(X509_VERIFY_PARAM *param, const char *host)
{
    uint8_t address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip(param, address, sizeof(struct in_addr));
    if (inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip(param, address, sizeof(struct in6_addr));
    return host[0] != '\0' && X509_VERIFY_PARAM_set1_host(param, host, strlen(host));
}

static int64_t seconds_of(wall_us time)
{
    return time.us / 1000000 - (time.us % 1000000 < 0);
}

int tls_chain_verify(struct span chain_pem,
                     struct span roots_pem,
                     enum tls_profile profile,
                     const char *host,
                     wall_us at,
                     struct tls_why *ret_why)
{
    CLEANUP(tls_x509_stackp) STACK_OF(X509) *chain = NULL;
    CLEANUP(tls_x509_stackp) STACK_OF(X509) *roots = NULL;
    CLEANUP(storep) X509_STORE *store = NULL;
    CLEANUP(contextp) X509_STORE_CTX *context = NULL;
    X509_VERIFY_PARAM *param;
    int purpose = profile == TLS_SERVER ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT;
    int r;

    ensure(profile == TLS_SERVER || profile == TLS_CLIENT);
    r = parse(chain_pem, MAX_CHAIN_CERTS, "chain's certificates", &chain, ret_why);
    if (r == 0)
        r = parse(roots_pem, MAX_ROOTS, "roots", &roots, ret_why);
    if (r != 0)
        return pass(r);

    store = X509_STORE_new();
    context = X509_STORE_CTX_new();
    if (!store || !context)
        return tls_clear(fault(-ENOMEM, "no memory to verify a chain"));
    for (size_t i = 0; i < sk_X509_num(roots); i++) {
        if (!X509_STORE_add_cert(store, sk_X509_value(roots, i)))
            return tls_clear(fault(-ENOMEM, "no memory to verify a chain"));
    }
    /* The leaf is in the stack too, as in a handshake; it is not its own issuer. */
    if (!X509_STORE_CTX_init(context, store, sk_X509_value(chain, 0), chain))
        return tls_clear(fault(-ENOMEM, "no memory to verify a chain"));
    param = X509_STORE_CTX_get0_param(context);
    /* As gRPC core verifies: what is among the roots is trusted, self-signed or not. */
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
    X509_VERIFY_PARAM_set_time_posix(param, seconds_of(at));
    if (!X509_VERIFY_PARAM_set_purpose(param, purpose))
        return tls_clear(fault(-ENOTRECOVERABLE, "cannot set a purpose"));
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (host && !tls_expect_host(param, host))
        return tls_clear(tls_refuse(ret_why, TLS_BAD, "the host name is not one"));
    if (X509_verify_cert(context) != 1)
        return tls_clear(explain(context, profile, host, ret_why));
    return tls_clear(0);
}
