#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * TLS material: keys, certificate requests, certificates, chains, and the files they live in. No
 * sockets.
 *
 * Keys are P-256; certificates are X.509 v3 signed with ECDSA-SHA256 (design: BoringSSL's default
 * verifier takes no Ed25519 leaves). Foreign RSA certificates are read and verified.
 *
 * Glossary:   leaf  an end certificate      chain  leaf first, then intermediates, without the root
 * Thread:     any; objects are not shared without the caller's lock.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/tls/tls_ca.h"

struct tls_key;  /* a private key */
struct tls_cert; /* one certificate */

enum tls_outcome {
    TLS_OK = 0,
    TLS_BAD,    /* not the expected form (PEM, DER, key kind) */
    TLS_ABSENT, /* no such file */
    TLS_LOOSE,  /* file or directory permissions, or owner; ret_why has the command that mends it */
    TLS_UNTRUSTED, /* the chain does not lead to a root given, or a rule is broken; ret_why */
    TLS_MISMATCH,  /* key and certificate do not belong together */
};

/* Why, for people: one sentence with the remedy. */
struct tls_why {
    char text[384];
};

/* ---- keys ---- */
int tls_key_new(struct tls_key **ret) MUST_USE;
struct tls_key *tls_key_free(struct tls_key *key);
DEFINE_CLEANUP(struct tls_key *, tls_key_free);
/* PKCS#8 PEM, both ways. Outcomes: TLS_BAD. */
int tls_key_parse(struct tls_key **ret, struct span pem) MUST_USE;
int tls_key_print(const struct tls_key *key, struct buf *to) MUST_USE;
/* Appends a signature (SHA-256 of the data; ECDSA as DER). The key has its private half. */
int tls_key_sign(const struct tls_key *key, struct span data, struct buf *to) MUST_USE;

/* ---- certificate requests: PKCS#10, DER ---- */

/* Appends a request that the key signs, as proof of possession. Outcomes: TLS_BAD (the name). */
int tls_csr_print(const struct tls_key *key, const char *common_name, struct buf *to) MUST_USE;
/*
 * Checks the proof and takes the public key; nothing else in a request counts.
 *   ret   has no private half: good as subject_key of tls_cert_issue() and for nothing more.
 * Outcomes: TLS_BAD (not a request, a signature that is not the key's, a kind of key that peers
 * refuse).
 */
int tls_csr_parse(struct tls_key **ret, struct span der) MUST_USE;

/* ---- certificates ---- */
enum tls_profile {
    TLS_ROOT,         /* CA, 10 years by default */
    TLS_INTERMEDIATE, /* CA, pathlen 0 */
    TLS_CLIENT,       /* agents and operators: digitalSignature, clientAuth */
    TLS_SERVER,       /* hubs: digitalSignature, serverAuth and clientAuth */
};

struct tls_request {
    enum tls_profile profile;
    const char *common_name;
    const char *organisation;      /* NULL: none */
    const char *organisation_unit; /* NULL: none */
    const char *uri;               /* SAN URI; NULL: none */
    const char *const *names;      /* SAN DNS names and IP addresses; NULL at the end; NULL: none */
    const char *crl_url;           /* NULL: none */
    wall_us not_before, not_after;
};

/*
 * Makes a certificate with a random 128-bit serial.
 *   subject_key   whose public half goes in.
 *   issuer        NULL: self-signed with issuer_key.
 * Outcomes: TLS_BAD (a name over 64 bytes, no host name or address, no URI, dates in the wrong
 * order or past year 9999), TLS_MISMATCH (issuer_key is not the issuer's).
 */
int tls_cert_issue(struct tls_cert **ret,
                   const struct tls_request *request,
                   const struct tls_key *subject_key,
                   const struct tls_cert *issuer,
                   const struct tls_key *issuer_key) MUST_USE;
struct tls_cert *tls_cert_free(struct tls_cert *cert);
DEFINE_CLEANUP(struct tls_cert *, tls_cert_free);

/* Outcomes: TLS_BAD. */
int tls_cert_parse_pem(struct tls_cert **ret, struct span pem) MUST_USE; /* the first in the text */
int tls_cert_parse_der(struct tls_cert **ret, struct span der) MUST_USE;
int tls_cert_print(const struct tls_cert *cert, struct buf *to) MUST_USE; /* appends PEM */
int tls_cert_print_der(const struct tls_cert *cert, struct buf *to) MUST_USE;
/*
 * Every certificate of a PEM text, in order.
 *   ret   room for max_certs; *ret_n of them are the caller's afterwards.
 * Outcomes: TLS_BAD (none, a broken one, more than max_certs).
 */
int tls_chain_split(struct span pem,
                    struct tls_cert *ret[],
                    size_t max_certs,
                    size_t *ret_n) MUST_USE;

/* What a certificate says. Text is cut to fit, never unterminated. */
struct tls_facts {
    char common_name[256];
    char organisation[256];
    char organisation_unit[256];
    char issuer[256]; /* the issuer's common name */
    char serial[65];  /* hex */
    char uri[512];    /* first SAN URI, or empty */
    wall_us not_before, not_after;
    uint8_t sha256[32];     /* of the DER */
    uint8_t key_sha256[32]; /* of the SubjectPublicKeyInfo */
    bool is_ca;
};
/* Outcomes: TLS_BAD (dates that are none). */
int tls_cert_read(const struct tls_cert *cert, struct tls_facts *ret) MUST_USE;

/* Outcomes: TLS_MISMATCH. */
int tls_cert_matches_key(const struct tls_cert *cert, const struct tls_key *key) MUST_USE;
/* Did the certificate's key make this signature (tls_key_sign())? Outcomes: TLS_MISMATCH. */
int tls_cert_check_signature(const struct tls_cert *cert,
                             struct span data,
                             struct span signature) MUST_USE;

/*
 * Verifies a PEM chain (leaf first) up to one of the PEM roots at the time `at`, for `profile`
 * TLS_CLIENT or TLS_SERVER, by the rules of gRPC core: whatever is among the roots is trusted,
 * self-signed or not.
 *
 *   host   a DNS name or IP address that the leaf must carry; NULL: any.
 *
 * Outcomes: TLS_UNTRUSTED, TLS_BAD; ret_why is filled.
 */
int tls_chain_verify(struct span chain_pem,
                     struct span roots_pem,
                     enum tls_profile profile,
                     const char *host,
                     wall_us at,
                     struct tls_why *ret_why) MUST_USE;

/* ---- identity directories: ca-cert.pem client-cert.pem client-key.pem, 0700, key 0600 ---- */
struct tls_identity {
    struct buf roots_pem;
    struct buf chain_pem;
    struct buf key_pem; /* wiped by tls_identity_deinit() */
};
void tls_identity_deinit(struct tls_identity *identity);

/*
 * Reads and checks: owner, modes (directory 0700; key 0600, or 0400 and 0440 where root or we own
 * it), key matches certificate. Dates are not checked: an expired identity can be loaded, and said
 * so by the caller.
 *
 * Outcomes: TLS_ABSENT, TLS_LOOSE, TLS_BAD, TLS_MISMATCH; ret_why is filled.
 */
int tls_identity_load(const char *directory,
                      struct tls_identity *ret,
                      struct tls_why *ret_why) MUST_USE;
/* The same for any three files. */
int tls_identity_load_files(const char *roots_path,
                            const char *chain_path,
                            const char *key_path,
                            struct tls_identity *ret,
                            struct tls_why *ret_why) MUST_USE;

/*
 * Writes the three files, each atomically, so that a power cut at any moment leaves an identity
 * that loads, the old or the new: the new key waits as client-key.next.pem until its certificate is
 * in place. Makes the directory 0700. Outcomes: TLS_LOOSE (cannot write there, or the directory is
 * open to others).
 */
int tls_identity_save(const char *directory,
                      const struct tls_identity *identity,
                      struct tls_why *ret_why) MUST_USE;

/* A private key file alone: same checks. Outcomes: TLS_ABSENT, TLS_LOOSE, TLS_BAD. */
int tls_key_load(const char *path, struct tls_key **ret, struct tls_why *ret_why) MUST_USE;
