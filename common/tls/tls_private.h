#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the files of common/tls share. BoringSSL's errors are translated here and go no further.
 *
 * BoringSSL's types are named, its headers are not included: this one stands alone.
 */

#include "common/tls/tls.h"

#define TLS_FILE_LIMIT_BYTES (1024UL * 1024)

struct bio_st;
struct evp_pkey_st;
struct stack_st_X509;
struct x509_st;
struct X509_algor_st;
struct X509_name_st;
struct X509_VERIFY_PARAM_st;

struct tls_key {
    struct evp_pkey_st *pkey;
};

struct tls_cert {
    struct x509_st *x509;
};

/* Frees for CLEANUP(). */
void tls_x509p(struct x509_st **x509);
void tls_pkeyp(struct evp_pkey_st **pkey);
void tls_biop(struct bio_st **bio);
void tls_x509_stackp(struct stack_st_X509 **stack);

/* Empties BoringSSL's error queue, so that nobody else finds our errors there; returns `r`. */
int tls_clear(int r);

/* Writes the reason; returns the outcome. */
int tls_refuse(struct tls_why *why, int outcome, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define TLS_SHOWN_BYTES 160
/* Foreign text for a message: printable, cut to fit. Returns `to`. */
const char *tls_shown(const char *text, char to[static TLS_SHOWN_BYTES]);

/* Every certificate in the text, in order. Outcomes: TLS_BAD (none, one that is broken, or more
 * than max_certs). */
int tls_certs_parse(struct span pem, size_t max_certs, struct stack_st_X509 **ret) MUST_USE;

int tls_key_wrap(struct tls_key **ret, struct evp_pkey_st **take_pkey) MUST_USE;

/* What the peers' verifier takes: P-256, P-384, RSA of 2048 bits and more. */
bool tls_is_good_key(const struct evp_pkey_st *pkey);

/* UTF-8 of 1 .. 64 bytes (RFC 5280 appendix A.1: ub-common-name, ub-organization-name, ...). */
bool tls_is_subject_text(const char *text);

/* A DNS name or an address that the leaf must carry. False: it is neither. */
bool tls_expect_host(struct X509_VERIFY_PARAM_st *param, const char *host);

/* An empty certificate. */
int tls_cert_alloc(struct tls_cert **ret) MUST_USE;

/* The common name of a subject or an issuer. */
void tls_common_name(const struct X509_name_st *name, char *ret, size_t ret_bytes);

/* What our signatures by such a key are: ECDSA or RSA, with SHA-256. The caller frees. */
int tls_algorithm_of(const struct evp_pkey_st *pkey, struct X509_algor_st **ret) MUST_USE;
