#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the files of common/tls share. BoringSSL's errors are translated here and go no further. */

#include <openssl/base.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "common/tls/tls.h"

#define TLS_FILE_LIMIT_BYTES (1024UL * 1024)

struct tls_key {
    EVP_PKEY *pkey;
};

struct tls_cert {
    X509 *x509;
};

/* Frees for CLEANUP(). */
static inline void tls_x509p(X509 **x509)
{
    X509_free(*x509);
}

static inline void tls_pkeyp(EVP_PKEY **pkey)
{
    EVP_PKEY_free(*pkey);
}

static inline void tls_biop(BIO **bio)
{
    BIO_free(*bio);
}

void tls_x509_stackp(STACK_OF(X509) * *stack);

/* Empties BoringSSL's error queue, so that nobody else finds our errors there; returns `r`. */
int tls_clear(int r);

/* Writes the reason; returns the outcome. */
int tls_refuse(struct tls_why *why, int outcome, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define TLS_SHOWN_BYTES 160
/* Foreign text for a message: printable, cut to fit. Returns `to`. */
const char *tls_shown(const char *text, char to[static TLS_SHOWN_BYTES]);

/* Every certificate in the text, in order. Outcomes: TLS_BAD (none, one that is broken, or more
 * than max_certs). */
int tls_certs_parse(struct span pem, size_t max_certs, STACK_OF(X509) * *ret) MUST_USE;

int tls_key_wrap(struct tls_key **ret, EVP_PKEY **take_pkey) MUST_USE;

/* What the peers' verifier takes: P-256, P-384, RSA of 2048 bits and more. */
bool tls_is_good_key(const EVP_PKEY *pkey);

/* UTF-8 of 1 .. 64 bytes (RFC 5280 appendix A.1: ub-common-name, ub-organization-name, ...). */
bool tls_is_subject_text(const char *text);

/* An empty certificate. */
int tls_cert_alloc(struct tls_cert **ret) MUST_USE;

/* The common name of a subject or an issuer. */
void tls_common_name(const X509_NAME *name, char *ret, size_t ret_bytes);
