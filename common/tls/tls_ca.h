#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What an authority does with TLS material: signs by a key that may be elsewhere, lists what is
 * revoked, hands identities to browsers. A part of tls.h, which others include.
 *
 * Thread: any; a signer is called by the thread that asks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"

struct tls_cert;
struct tls_identity;
struct tls_key;
struct tls_request;
struct tls_why;

/* Any secret's file, whole and appended, by the rules for private keys (owner, mode). The caller
 * wipes. Outcomes: TLS_ABSENT, TLS_LOOSE, TLS_BAD (empty, too large, no file). */
int tls_secret_load(const char *path, struct buf *ret, struct tls_why *ret_why) MUST_USE;

/*
 * What signs for an issuer: a key in memory, or one that never leaves a TPM or a PKCS#11 token.
 *
 *   sign   appends a signature over SHA-256 of the data: ECDSA as DER (P-256 and P-384), or RSA
 *          PKCS#1 v1.5, as the issuer's public key is. May block. Faults are handed on.
 */
struct tls_signer {
    int (*sign)(void *ctx, struct span data, struct buf *to);
    void *ctx;
};
/* A key in memory as a signer; borrows it. */
struct tls_signer tls_signer_of_key(const struct tls_key *key);

/*
 * tls_cert_issue() with a signer. What it signed is checked against the issuer's public key before
 * anybody sees it: a token with another key in it makes nothing.
 *
 *   issuer   NULL: self-signed; the signer has the subject's key.
 *
 * Outcomes: TLS_BAD (as tls_cert_issue()), TLS_MISMATCH (the signature is not the issuer's).
 */
int tls_cert_issue_by(struct tls_cert **ret,
                      const struct tls_request *request,
                      const struct tls_key *subject_key,
                      const struct tls_cert *issuer,
                      const struct tls_signer *signer) MUST_USE;
/* A public key of a certificate, without its private half. */
int tls_cert_key(const struct tls_cert *cert, struct tls_key **ret) MUST_USE;
/* Whether the issuer signed it: name and signature, no dates. Outcomes: TLS_MISMATCH. */
int tls_cert_is_issued_by(const struct tls_cert *cert, const struct tls_cert *issuer) MUST_USE;
/* SHA-256 of the key's SubjectPublicKeyInfo: tls_facts' key_sha256 of its certificate. */
int tls_key_digest(const struct tls_key *key, uint8_t ret[32]) MUST_USE;
/* "RSA-4096", "P-256": what kind of key, and its size, for rules and people. */
int tls_cert_key_kind(const struct tls_cert *cert, char ret[static 16]) MUST_USE;

/* ---- lists of revoked certificates: RFC 5280 section 5, version 2, DER ---- */

struct tls_revoked {
    const char *serial; /* hex, as in tls_facts */
    wall_us since;
};
struct tls_crl_request {
    const struct tls_revoked *revoked;
    size_t n_revoked;
    uint64_t number; /* larger in each later list */
    wall_us this_update, next_update;
};
/* Appends the list. Outcomes: TLS_BAD (a serial that is not hex, dates out of order), TLS_MISMATCH.
 */
int tls_crl_issue(const struct tls_crl_request *request,
                  const struct tls_cert *issuer,
                  const struct tls_signer *signer,
                  struct buf *to) MUST_USE;

/* What a list says of one serial. */
struct tls_crl_facts {
    size_t n_revoked;
    uint64_t number;
    wall_us this_update, next_update;
    bool has_serial; /* the one that was asked for */
};
/* The list is the issuer's and whole. `serial` NULL: none is asked for. Outcomes: TLS_BAD,
 * TLS_MISMATCH. */
int tls_crl_read(struct span der,
                 const struct tls_cert *issuer,
                 const char *serial,
                 struct tls_crl_facts *ret) MUST_USE;

/* ---- PKCS#12: what browsers and phones take ---- */

/*
 * Appends key and chain under a password, encrypted with AES-256 (PBES2).
 *
 *   name       shown by the browser.
 *   password   UTF-8; the caller wipes it.
 *
 * Outcomes: TLS_BAD (an identity that does not parse, a password that is empty or no UTF-8).
 */
int tls_pkcs12_print(const struct tls_identity *identity,
                     const char *name,
                     const char *password,
                     struct buf *to) MUST_USE;
