/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/ca/nonces.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/map.h"
#include "common/crypto/crypto.h"

#define DIGEST_BYTES 16
#define N_SHARES 1024 /* owners are counted by a digest: two that share one only get less */

struct seen {
    mono_us at;
    uint8_t digest[DIGEST_BYTES]; /* of owner and nonce */
    uint16_t share;
};

struct pki_nonces {
    pthread_mutex_t lock;
    struct map by_digest;
    uint32_t shares[N_SHARES];
    size_t first, n; /* of the ring, oldest first */
    struct seen ring[PKI_MAX_NONCES];
};

struct pki_nonces *pki_nonces_new(void)
{
    struct pki_nonces *nonces = calloc(1, sizeof(*nonces));

    if (nonces)
        pthread_mutex_init(&nonces->lock, NULL);
    return nonces;
}

void pki_nonces_free(struct pki_nonces *nonces)
{
    if (!nonces)
        return;
    map_deinit(&nonces->by_digest);
    pthread_mutex_destroy(&nonces->lock);
    free(nonces);
}

static void forget_old(struct pki_nonces *nonces, mono_us now)
{
    while (nonces->n > 0) {
        struct seen *oldest = &nonces->ring[nonces->first];

        if (now.us - oldest->at.us < PKI_NONCE_MEMORY_US)
            return;
        ensure(map_remove(&nonces->by_digest, span_of(oldest->digest, DIGEST_BYTES)) == oldest);
        nonces->shares[oldest->share]--;
        nonces->first = (nonces->first + 1) % PKI_MAX_NONCES;
        nonces->n--;
    }
}

enum pki_nonce_outcome
pki_nonces_take(struct pki_nonces *nonces, const char *owner, struct span nonce, mono_us now)
{
    struct crypto_hash *hash = crypto_hash_new();
    uint8_t digest[CRYPTO_SHA256_BYTES], owned[CRYPTO_SHA256_BYTES];
    enum pki_nonce_outcome outcome = PKI_NONCE_NEW;

    crypto_hash_update(hash, span_of(owner, strlen(owner) + 1));
    crypto_hash_update(hash, nonce);
    crypto_hash_finish(hash, digest);
    crypto_hash_free(hash);
    crypto_sha256(span_of_text(owner), owned);
    const uint16_t share = (uint16_t) ((owned[0] << 8 | owned[1]) % N_SHARES);

    pthread_mutex_lock(&nonces->lock);
    forget_old(nonces, now);
    struct seen *next = &nonces->ring[(nonces->first + nonces->n) % PKI_MAX_NONCES];
    if (map_get(&nonces->by_digest, span_of(digest, DIGEST_BYTES))) {
        outcome = PKI_NONCE_SEEN;
    } else if (nonces->n == PKI_MAX_NONCES || nonces->shares[share] >= PKI_MAX_NONCES / 4) {
        outcome = PKI_NONCE_NO_ROOM;
    } else {
        *next = (struct seen){ .at = now, .share = share };
        memcpy(next->digest, digest, DIGEST_BYTES);
        if (map_put(&nonces->by_digest, span_of(next->digest, DIGEST_BYTES), next) == 0) {
            nonces->shares[share]++;
            nonces->n++;
        } else {
            outcome = PKI_NONCE_NO_ROOM;
        }
    }
    pthread_mutex_unlock(&nonces->lock);
    return outcome;
}
