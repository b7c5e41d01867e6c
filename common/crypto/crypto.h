#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Crypto: digests, MACs, sealing and secret randomness, as small calls on BoringSSL.
 *
 * Thread: any.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/span.h"

#define CRYPTO_SHA256_BYTES 32

void crypto_sha256(struct span data, uint8_t ret[static CRYPTO_SHA256_BYTES]);
void crypto_hmac_sha256(struct span key, struct span data, uint8_t ret[static CRYPTO_SHA256_BYTES]);

/* Incremental SHA-256. */
struct crypto_hash;
struct crypto_hash *crypto_hash_new(void);
void crypto_hash_update(struct crypto_hash *hash, struct span data);
void crypto_hash_finish(struct crypto_hash *hash, uint8_t ret[static CRYPTO_SHA256_BYTES]);
struct crypto_hash *crypto_hash_free(struct crypto_hash *hash);

/*
 * A hash under way as bytes, to go on with later, in this process or another one. Little-endian:
 *
 *   0       32             40                  104
 *   | h     | bytes so far | the unfinished block |
 *
 * Any such bytes are a hash of something: who keeps them guards them against damage.
 */
#define CRYPTO_HASH_STATE_BYTES 104
void crypto_hash_save(const struct crypto_hash *hash, uint8_t ret[static CRYPTO_HASH_STATE_BYTES]);
struct crypto_hash *crypto_hash_restore(const uint8_t state[static CRYPTO_HASH_STATE_BYTES]);

/*
 * Sealing: AES-256-GCM. What is sealed can be read and changed by who has the key alone; `extra` is
 * not in it but must be the same when it is opened. One key seals at most 2^32 times under random
 * nonces (NIST SP 800-38D section 8.3).
 */
#define CRYPTO_SEAL_KEY_BYTES 32
#define CRYPTO_SEAL_NONCE_BYTES 12
#define CRYPTO_SEAL_TAG_BYTES 16
/* `to` has room for the data and a tag behind. */
void crypto_seal(const uint8_t key[static CRYPTO_SEAL_KEY_BYTES],
                 const uint8_t nonce[static CRYPTO_SEAL_NONCE_BYTES],
                 struct span data,
                 struct span extra,
                 uint8_t *to);
/* `to` has room for what is sealed without its tag. False: another key, or changed bytes; nothing
 * of it was written. */
bool crypto_open(const uint8_t key[static CRYPTO_SEAL_KEY_BYTES],
                 const uint8_t nonce[static CRYPTO_SEAL_NONCE_BYTES],
                 struct span sealed,
                 struct span extra,
                 uint8_t *to);

/* Fit for keys, ids and nonces; never fails. */
void crypto_random(void *ret, size_t len);

/* In time that does not depend on the bytes. */
bool crypto_equal(const void *a, const void *b, size_t len);

/* Overwrites so that the compiler keeps it. */
void crypto_wipe(void *data, size_t len);
