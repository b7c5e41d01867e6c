/* SPDX-License-Identifier: Apache-2.0 */
#include "common/crypto/crypto.h"

#include <openssl/aead.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"

struct crypto_hash {
    SHA256_CTX context;
};

void crypto_sha256(struct span data, uint8_t ret[static CRYPTO_SHA256_BYTES])
{
    SHA256(data.data, data.len, ret);
}

void crypto_hmac_sha256(struct span key, struct span data, uint8_t ret[static CRYPTO_SHA256_BYTES])
{
    unsigned len = 0;

    /* Fails only for want of memory, and an answer of zeros would be a forgery waiting to happen.
     */
    ensure(HMAC(EVP_sha256(), key.data, key.len, data.data, data.len, ret, &len));
    ensure(len == CRYPTO_SHA256_BYTES);
}

struct crypto_hash *crypto_hash_new(void)
{
    struct crypto_hash *hash = malloc(sizeof(*hash));

    ensure(hash);
    SHA256_Init(&hash->context);
    return hash;
}

void crypto_hash_update(struct crypto_hash *hash, struct span data)
{
    SHA256_Update(&hash->context, data.data, data.len);
}

void crypto_hash_finish(struct crypto_hash *hash, uint8_t ret[static CRYPTO_SHA256_BYTES])
{
    SHA256_Final(ret, &hash->context);
    SHA256_Init(&hash->context);
}

void crypto_hash_save(const struct crypto_hash *hash, uint8_t ret[static CRYPTO_HASH_STATE_BYTES])
{
    const SHA256_CTX *context = &hash->context;
    uint64_t n_bytes = ((uint64_t) context->Nh << 32 | context->Nl) >> 3;

    memset(ret, 0, CRYPTO_HASH_STATE_BYTES);
    memcpy(ret, context->h, 32);
    memcpy(ret + 32, &n_bytes, 8);
    memcpy(ret + 40, context->data, context->num);
}

struct crypto_hash *crypto_hash_restore(const uint8_t state[static CRYPTO_HASH_STATE_BYTES])
{
    struct crypto_hash *hash = crypto_hash_new();
    SHA256_CTX *context = &hash->context;
    uint64_t n_bytes;

    memcpy(context->h, state, 32);
    memcpy(&n_bytes, state + 32, 8);
    memcpy(context->data, state + 40, sizeof(context->data));
    context->Nl = (uint32_t) (n_bytes << 3);
    context->Nh = (uint32_t) (n_bytes >> 29);
    context->num = (unsigned) (n_bytes % sizeof(context->data));
    return hash;
}

struct crypto_hash *crypto_hash_free(struct crypto_hash *hash)
{
    if (hash)
        crypto_wipe(hash, sizeof(*hash));
    free(hash);
    return NULL;
}

static EVP_AEAD_CTX *aead_new(const uint8_t key[static CRYPTO_SEAL_KEY_BYTES])
{
    EVP_AEAD_CTX *context =
        EVP_AEAD_CTX_new(EVP_aead_aes_256_gcm(), key, CRYPTO_SEAL_KEY_BYTES, CRYPTO_SEAL_TAG_BYTES);

    ensure(context); /* for want of memory only */
    return context;
}

void crypto_seal(const uint8_t key[static CRYPTO_SEAL_KEY_BYTES],
                 const uint8_t nonce[static CRYPTO_SEAL_NONCE_BYTES],
                 struct span data,
                 struct span extra,
                 uint8_t *to)
{
    EVP_AEAD_CTX *context = aead_new(key);
    size_t len = 0;

    ensure(EVP_AEAD_CTX_seal(context, to, &len, data.len + CRYPTO_SEAL_TAG_BYTES, nonce,
                             CRYPTO_SEAL_NONCE_BYTES, data.data, data.len, extra.data, extra.len));
    ensure(len == data.len + CRYPTO_SEAL_TAG_BYTES);
    EVP_AEAD_CTX_free(context);
}

bool crypto_open(const uint8_t key[static CRYPTO_SEAL_KEY_BYTES],
                 const uint8_t nonce[static CRYPTO_SEAL_NONCE_BYTES],
                 struct span sealed,
                 struct span extra,
                 uint8_t *to)
{
    EVP_AEAD_CTX *context;
    size_t len = 0;

    if (sealed.len < CRYPTO_SEAL_TAG_BYTES)
        return false;
    context = aead_new(key);
    bool is_open = EVP_AEAD_CTX_open(context, to, &len, sealed.len - CRYPTO_SEAL_TAG_BYTES, nonce,
                                     CRYPTO_SEAL_NONCE_BYTES, sealed.data, sealed.len, extra.data,
                                     extra.len) == 1;
    EVP_AEAD_CTX_free(context);
    ERR_clear_error();
    return is_open && len == sealed.len - CRYPTO_SEAL_TAG_BYTES;
}

void crypto_random(void *ret, size_t len)
{
    /* BoringSSL aborts by itself rather than answer without entropy. */
    RAND_bytes(ret, len);
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void crypto_wipe(void *data, size_t len)
{
    if (len > 0)
        OPENSSL_cleanse(data, len);
}
