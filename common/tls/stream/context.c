/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/stream/inside.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/tls/tls_private.h"

#define MAX_ROOTS 1024
#define MAX_CHAIN_CERTS 16

/* Forward secrecy and an AEAD, or nothing; of 1.3 all are. */
#define CIPHERS_1_2                                              \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define GROUPS "X25519MLKEM768:X25519:P-256:P-384"

static const uint8_t alpn[] = "\x08http/1.1";

/* One who offers only other protocols is told nothing, and speaks http/1.1 or goes. */
static int select_alpn(SSL *ssl,
                       const uint8_t **ret,
                       uint8_t *ret_len,
                       const uint8_t *offered,
                       unsigned n_offered,
                       void *ctx)
{
    uint8_t *chosen;

    (void) ssl;
    (void) ctx;
    if (SSL_select_next_proto(&chosen, ret_len, alpn, sizeof(alpn) - 1, offered, n_offered) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *ret = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void namesp(STACK_OF(X509_NAME) * *names)
{
    sk_X509_NAME_pop_free(*names, X509_NAME_free);
}

/* A client with several identities sees by these which one to show. */
static int name_authorities(SSL_CTX *core, STACK_OF(X509) * roots)
{
    CLEANUP(namesp) STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();

    for (size_t i = 0; names && i < sk_X509_num(roots); i++) {
        X509_NAME *name = X509_NAME_dup(X509_get_subject_name(sk_X509_value(roots, i)));

        if (!name || !sk_X509_NAME_push(names, name)) {
            X509_NAME_free(name);
            return fault(-ENOMEM, "no memory for the names of authorities");
        }
    }
    if (!names)
        return fault(-ENOMEM, "no memory for the names of authorities");
    SSL_CTX_set_client_CA_list(core, take(names));
    return 0;
}

/* Outcomes: TLS_BAD. */
static int set_roots(struct tls_context *context, struct span pem, struct tls_why *why)
{
    CLEANUP(tls_x509_stackp) STACK_OF(X509) *roots = NULL;
    X509_STORE *store = SSL_CTX_get_cert_store(context->core);
    int r = tls_certs_parse(pem, MAX_ROOTS, &roots);

    if (r == TLS_BAD)
        return tls_refuse(why, TLS_BAD, "the roots are not PEM certificates, or more than %d",
                          MAX_ROOTS);
    if (r != 0)
        return pass(r);
    for (size_t i = 0; i < sk_X509_num(roots); i++) {
        if (!X509_STORE_add_cert(store, sk_X509_value(roots, i)))
            return fault(-ENOMEM, "no memory for roots");
    }
    /* As gRPC core and tls_chain_verify() do. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context->core),
                                X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
    SSL_CTX_set_verify(context->core, SSL_VERIFY_PEER, NULL);
    return context->is_server ? pass(name_authorities(context->core, roots)) : 0;
}

/* Outcomes: TLS_BAD, TLS_MISMATCH. */
static int set_identity(struct tls_context *context,
                        struct span chain_pem,
                        struct span key_pem,
                        struct tls_why *why)
{
    CLEANUP(tls_x509_stackp) STACK_OF(X509) *chain = NULL;
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    int r = tls_certs_parse(chain_pem, MAX_CHAIN_CERTS, &chain);

    if (r == 0)
        r = tls_key_parse(&key, key_pem);
    if (r == TLS_BAD)
        return tls_refuse(why, TLS_BAD, "the %s not PEM, or of a kind that is not taken",
                          chain ? "key is" : "chain's certificates are");
    if (r != 0)
        return pass(r);
    CLEANUP(tls_x509p) X509 *leaf = sk_X509_shift(chain);

    if (!SSL_CTX_use_certificate(context->core, leaf) ||
        !SSL_CTX_use_PrivateKey(context->core, key->pkey) ||
        !SSL_CTX_check_private_key(context->core))
        return tls_refuse(why, TLS_MISMATCH, "the key is not the certificate's");
    if (!SSL_CTX_set1_chain(context->core, chain))
        return fault(-ENOMEM, "no memory for a chain");
    return 0;
}

static int set_rules(struct tls_context *context, enum tls_version min_version)
{
    SSL_CTX *core = context->core;
    bool is_set =
        SSL_CTX_set_min_proto_version(core, min_version == TLS_VERSION_1_3 ? TLS1_3_VERSION
                                                                           : TLS1_2_VERSION) &&
        SSL_CTX_set_strict_cipher_list(core, CIPHERS_1_2) && SSL_CTX_set1_groups_list(core, GROUPS);

    if (!is_set)
        return fault(-ENOTRECOVERABLE, "cannot set the rules of TLS");
    if (context->is_server) {
        /* A session resumed is one of this context: of the same roots, with the same peer. */
        is_set = SSL_CTX_set_session_id_context(core, (const uint8_t *) "sentinel", 8);
        SSL_CTX_set_alpn_select_cb(core, select_alpn, NULL);
    } else {
        is_set = SSL_CTX_set_alpn_protos(core, alpn, sizeof(alpn) - 1) == 0;
    }
    return is_set ? 0 : fault(-ENOTRECOVERABLE, "cannot set the rules of TLS");
}

int tls_context_new(struct tls_context **ret,
                    const struct tls_context_options *options,
                    struct tls_why *ret_why)
{
    CLEANUP(tls_context_unrefp) struct tls_context *context = calloc(1, sizeof(*context));
    int r;

    if (!context)
        return fault(-ENOMEM, "no memory for a TLS context");
    if (options->is_server ? !options->chain_pem.len : !options->roots_pem.len)
        return tls_refuse(ret_why, TLS_BAD, "%s",
                          options->is_server ? "a server has a certificate"
                                             : "a client has roots to trust");
    atomic_init(&context->n_refs, 1);
    context->is_server = options->is_server;
    context->core = SSL_CTX_new(TLS_method());
    if (!context->core)
        return tls_clear(fault(-ENOMEM, "no memory for a TLS context"));
    r = set_rules(context, options->min_version);
    if (r == 0 && options->roots_pem.len > 0)
        r = set_roots(context, options->roots_pem, ret_why);
    if (r == 0 && options->chain_pem.len > 0)
        r = set_identity(context, options->chain_pem, options->key_pem, ret_why);
    if (r != 0)
        return tls_clear(pass(r));
    *ret = take(context);
    return tls_clear(0);
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    ensure(atomic_fetch_add(&context->n_refs, 1) > 0);
    return context;
}

struct tls_context *tls_context_unref(struct tls_context *context)
{
    if (context && atomic_fetch_sub(&context->n_refs, 1) <= 1) {
        SSL_CTX_free(context->core);
        free(context);
    }
    return NULL;
}
