#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sealed: secrets of the authority at rest, closed with AES-256-GCM under a key that lies
 * elsewhere.
 *
 * A sealed secret is text, so that it takes the place of the PEM that it closes:
 *
 *   -----BEGIN SENTINEL SEALED KEY-----
 *   64 hex digits a line
 *   -----END SENTINEL SEALED KEY-----
 *
 * Its bytes:
 *
 *    0 +---------+-----------+----------+
 *      | version | algorithm | zero     |   u8 1, u8 1 (AES-256-GCM), u16
 *    4 +---------+-----------+----------+
 *      | id of the sealing key          |   8 bytes: of SHA-256("sentinel-sealing-key-1", NUL, key)
 *   12 +--------------------------------+
 *      | nonce                          |   12 bytes, random
 *   24 +--------------------------------+
 *      | the secret, encrypted          |
 *      +--------------------------------+
 *      | tag                            |   16 bytes
 *      +--------------------------------+
 *
 * The tag is also over "sentinel-sealed-1", NUL, the secret's name, NUL, and the first 24 bytes: a
 * sealed file that is put in another's place does not open.
 *
 * Thread: any.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"
#include "common/tls/tls.h"

#define SEALED_KEY_BYTES 32
#define SEALED_SECRET_BYTES 16384u /* the largest: an RSA-8192 key as PEM has 6,400 */

enum sealed_outcome {
    SEALED_OK = 0,
    SEALED_ABSENT,    /* the file that was named is not there */
    SEALED_BAD,       /* not of the form; ret_why has the remedy */
    SEALED_OTHER_KEY, /* closed under another key, or there is none */
    SEALED_CHANGED,   /* closed under this key, but the bytes or the name are not the same */
};

/* The key that closes and opens. The zero value: there is none. */
struct sealed_key {
    bool is_there;
    uint8_t bytes[SEALED_KEY_BYTES];
    char source[128]; /* for people: "the file /etc/...", "SENTINEL_HUB_CA_KEY" */
};
void sealed_key_deinit(struct sealed_key *key); /* wipes */

/*
 * Looks for the key: `file` (NULL or empty: not given), else the environment's
 * SENTINEL_HUB_CA_KEY, else $CREDENTIALS_DIRECTORY/ca-key. 32 bytes as they are, or as 64 hex
 * digits, or as base64. None of them: 0, and there is none.
 *
 * Outcomes: SEALED_ABSENT (the file), SEALED_BAD; ret_why names the source, never the key.
 */
int sealed_key_find(const char *file, struct sealed_key *ret, struct tls_why *ret_why) MUST_USE;
/* The key in a text. Outcomes: SEALED_BAD. */
int sealed_key_parse(struct span text, struct sealed_key *ret) MUST_USE;

/* Whether a file's text is sealed, or in the clear. */
bool sealed_is(struct span text);
/* Appends the text. The key is there; the secret is at most SEALED_SECRET_BYTES. */
void sealed_close(const struct sealed_key *key,
                  const char *name,
                  struct span secret,
                  struct buf *to);
/* Appends the secret to `ret`, which the caller wipes. Outcomes: SEALED_BAD, SEALED_OTHER_KEY,
 * SEALED_CHANGED. */
int sealed_open(const struct sealed_key *key,
                const char *name,
                struct span text,
                struct buf *ret) MUST_USE;
