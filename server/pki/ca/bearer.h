#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Bearer tokens in memory, for the two files that know them. Private to server/pki. */

#include <stdatomic.h>

#include "common/base/map.h"
#include "server/pki/pki.h"

#define PKI_BEARER_KEY_BYTES 32
#define PKI_BEARER_MAX_KEYS 2 /* the one in use, and the one before it */

/* Derived from the hub's own secret. */
struct pki_bearer_keys {
    uint8_t hash[32], seal[32];
};
/* Outcomes: PKI_BAD (sealed under another key; ret_why). */
int pki_bearer_keys(struct pki *pki, struct pki_bearer_keys *ret, struct tls_why *ret_why) MUST_USE;
void pki_bearer_keys_deinit(struct pki_bearer_keys *keys); /* wipes */

/* What is kept of a token instead of its secret. */
void pki_bearer_mac(const struct pki_bearer_keys *keys,
                    const char *id,
                    const uint8_t secret[static IDENTITY_SECRET_BYTES],
                    uint8_t to[static 32]);

struct bearer_entry {
    struct pki_bearer shown; /* without secrets */
    uint8_t mac[32], sha256[32];
    struct {
        wall_us made;
        uint8_t bytes[PKI_BEARER_KEY_BYTES];
    } keys[PKI_BEARER_MAX_KEYS]; /* the newest first */
    size_t n_keys;
    _Atomic int64_t used_us; /* 0: never */
    int64_t written_us;      /* as much of it as the table has; under the CA's lock */
};

struct pki_bearer_set {
    bool has_keys;
    struct pki_bearer_keys keys;
    struct map by_id, by_sha256;
};

bool pki_bearer_row_is_good(struct span id, struct span value);
