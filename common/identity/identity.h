#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Identity: what hub, agent and tools must agree on to the byte about identities: the enrolment
 * string, the rule for agent ids, fingerprints of machines, and what is signed.
 *
 * Pure; no files but where a function reads the machine's own. Parsers are strict: a text has one
 * form, so that what was parsed prints as it was.
 *
 *   name.c  enrolment.c  base32.c  address.c  fingerprint.c  signed.c
 *
 * Thread: any.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

#define IDENTITY_TOKEN_ID_BYTES 8 /* of a-z 2-7 */
#define IDENTITY_SECRET_BYTES 20  /* 160 bits */
#define IDENTITY_PIN_BYTES 32
#define IDENTITY_HUB_BYTES 300
#define IDENTITY_MAX_STRING 512

/* [a-z0-9][a-z0-9.-]{0,62} */
bool identity_name_is_good(const char *name);
/* The nearest good id of a host's name: lower case, other characters become `-`; empty when nothing
 * is left. `to` has 64 bytes. */
void identity_name_of_host(const char *host, char to[static 64]);
/* `*` and `?`, the whole name. */
bool identity_matches(const char *pattern, const char *name);

/* ---- address ranges ---- */

/* "10.0.0.0/8", "fd00::/8", "192.0.2.7" (one address). Bits after the prefix do not count. */
bool identity_cidr_is_good(const char *cidr);
/* Whether an address lies in it: bare or with a port, as rpc_call_peer() has it ("192.0.2.7:4711",
 * "[2001:db8::7]:4711"). An IPv4 address mapped into IPv6 is an IPv4 address. False for what is
 * none, on either side. */
bool identity_cidr_matches(const char *cidr, const char *peer);

/* ---- the enrolment string: what an operator pastes ----
 *
 *   sentinel1/HOST:PORT/TOKENID/SECRET/PIN
 *
 * SECRET is base32 (RFC 4648, lower case, no padding) of 20 bytes, PIN the hex SHA-256 of the
 * root's SubjectPublicKeyInfo. No character of it means something to a shell, but [ ] of IPv6.
 * HOST is a DNS name, an IPv4 address, or an IPv6 address in brackets.
 */
struct identity_enrolment {
    char hub[IDENTITY_HUB_BYTES];
    char token_id[IDENTITY_TOKEN_ID_BYTES + 1];
    uint8_t secret[IDENTITY_SECRET_BYTES];
    uint8_t pin[IDENTITY_PIN_BYTES];
};
enum identity_outcome {
    IDENTITY_OK = 0,
    IDENTITY_BAD, /* ret_why has the part and the remedy, never the secret */
};
struct identity_why {
    char text[256];
};
void identity_enrolment_print(const struct identity_enrolment *enrolment, struct buf *to);
/* Space around it is skipped. Outcomes: IDENTITY_BAD. */
int identity_enrolment_parse(struct span text,
                             struct identity_enrolment *ret,
                             struct identity_why *ret_why) MUST_USE;

/* "HOST:PORT" as the string above has it, 1 .. IDENTITY_HUB_BYTES - 1 bytes. */
bool identity_hub_is_good(const char *hub);

void identity_base32_print(struct span bytes, struct buf *to);
/* false: another length or character, or bits after the last byte. */
bool identity_base32_parse(struct span text, uint8_t *to, size_t len);

/* ---- fingerprints ---- */

enum identity_source {
    IDENTITY_MACHINE_ID,
    IDENTITY_DMI,
    IDENTITY_BOOT_DISK,
    IDENTITY_FIRST_MAC,
    IDENTITY_N_SOURCES
};
/*
 * SHA-256 for each source, of "sentinel-fingerprint-1", NUL, the source's name ("machine-id",
 * "dmi", "boot-disk", "first-mac"), NUL, its text; absent ones are allowed. One hash each, so that
 * the other side can tell which of them changed and learns none of them.
 */
struct identity_fingerprint {
    bool has[IDENTITY_N_SOURCES];
    uint8_t sha256[IDENTITY_N_SOURCES][32];
};
/* Of this machine; `root` is where /etc, /sys and /proc are looked for. */
void identity_fingerprint_read(const char *root, struct identity_fingerprint *ret);
/* All sources present on both sides agree (none in common agrees too). */
bool identity_fingerprint_agrees(const struct identity_fingerprint *a,
                                 const struct identity_fingerprint *b);

/* ---- what is signed ---- */

/* RenewExpired: "sentinel-renew-expired-1", NUL, the nonce, SHA-256 of the request. */
#define IDENTITY_NONCE_BYTES 32
void identity_renewal_signed_bytes(struct span nonce, struct span csr_der, struct buf *to);

/*
 * Signed requests: what HMAC-SHA256 is over: "v1", unix seconds, nonce, method, path with query,
 * hex SHA-256 of the body, one a line, without a line break after the last.
 */
struct identity_signed_request {
    int64_t unix_seconds;
    struct span nonce; /* 8 to 64 printable characters */
    struct span method, path;
    uint8_t body_sha256[32];
};
void identity_request_signed_bytes(const struct identity_signed_request *request, struct buf *to);
/* "v1.<seconds>.<nonce>.<base64>" (RFC 4648, padded; a nonce may have dots); the span borrows from
 * the text. false: not of this form, and nothing was written. */
bool identity_signature_parse(struct span header,
                              int64_t *ret_unix_seconds,
                              struct span *ret_nonce,
                              uint8_t ret_mac[static 32]);
