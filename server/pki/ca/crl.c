/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/crypto/crypto.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"
#include "server/pki/registry/codec.h"

/*
 * The list of revoked certificates: of those that the agents' intermediate signed, revoked and not
 * over. Kept until something in it changes, at most a day; it counts for two, so that who fetches
 * it daily never holds one that is over. Its number is in META "pki.crl" (u64): it grows over
 * restarts.
 */

#define CRL_LIFE_US (2 * PKI_DAY_US)
#define CRL_FRESH_US PKI_DAY_US

static const char number_key[] = "pki.crl";

struct pki_crl_cache {
    pthread_mutex_t lock;
    uint64_t generation; /* of the registry that the list was looked up in */
    bool is_there;
    wall_us made;
    uint8_t digest[CRYPTO_SHA256_BYTES]; /* of issuer, serials and times */
    struct buf der;
};

struct pki_crl_cache *pki_crl_cache_new(void)
{
    struct pki_crl_cache *cache = calloc(1, sizeof(*cache));

    if (cache)
        pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void pki_crl_cache_free(struct pki_crl_cache *cache)
{
    if (!cache)
        return;
    buf_deinit(&cache->der);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

/* ---- what is in it ---- */

struct listed {
    char serial[65];
    wall_us since;
};
struct listing {
    wall_us now;
    const char *issuer;
    struct listed *rows;
    size_t n, capacity;
    int r;
};

static bool on_row(void *ctx, const struct pki_row *row)
{
    struct listing *listing = ctx;
    const struct pki_identity *identity = &row->identity;

    if (identity->state != PKI_REVOKED || identity->not_after.us <= listing->now.us ||
        strcmp(row->issuer, listing->issuer) != 0)
        return true;
    if (listing->n == listing->capacity) {
        size_t capacity = listing->capacity ? 2 * listing->capacity : 64;
        struct listed *grown = reallocarray(listing->rows, capacity, sizeof(*grown));
        if (!grown) {
            listing->r = fault(-ENOMEM, "no memory for %zu revoked certificates", capacity);
            return false;
        }
        listing->rows = grown;
        listing->capacity = capacity;
    }
    struct listed *listed = &listing->rows[listing->n++];
    memcpy(listed->serial, identity->serial, sizeof(listed->serial));
    listed->since = row->changed.us ? row->changed : row->registered;
    return true;
}

static void listing_deinit(struct listing *listing)
{
    free(listing->rows);
}

static void
digest_of(const struct listing *listing, const uint8_t issuer[32], uint8_t to[static 32])
{
    struct crypto_hash *hash = crypto_hash_new();

    crypto_hash_update(hash, span_of(issuer, 32));
    for (size_t i = 0; i < listing->n; i++) {
        crypto_hash_update(hash, span_of_text(listing->rows[i].serial));
        crypto_hash_update(hash, span_of(&listing->rows[i].since.us, sizeof(int64_t)));
    }
    crypto_hash_finish(hash, to);
    crypto_hash_free(hash);
}

/* ---- signing ---- */

struct numbering {
    size_t n_revoked;
    uint64_t number;
};

static int put_number(struct pki_edit *edit, void *ctx)
{
    static const struct pki_act act = { .by = "hub" };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct numbering *numbering = ctx;
    char n_revoked[24], number[24];
    struct span value;

    numbering->number = 1;
    int r = pki_edit_get_raw(edit, STORE_TABLE_META, number_key, &value);
    if (r == 0) {
        struct pki_reader reader = { .rest = value };
        numbering->number = pki_get_u64(&reader) + 1;
    } else if (r != STORE_NOT_FOUND) {
        return pass(r);
    }
    pki_put_u64(&bytes, numbering->number);
    if (buf_failed(&bytes))
        return STORE_FULL;
    r = pki_edit_put_raw(edit, STORE_TABLE_META, span_of_text(number_key), buf_span(&bytes));
    if (r != 0)
        return pass(r);
    snprintf(n_revoked, sizeof(n_revoked), "%zu", numbering->n_revoked);
    snprintf(number, sizeof(number), "%llu", (unsigned long long) numbering->number);
    const struct audit_field fields[] = { { "number", number }, { "revoked", n_revoked } };
    return pass(pki_act_audit(edit, &act, AUDIT_CRL_SIGNED, "crl", fields, 2));
}

static int sign(struct pki *pki,
                const struct listing *listing,
                const struct pki_issuer *issuer,
                struct buf *to)
{
    struct tls_revoked *revoked = calloc(listing->n + 1, sizeof(*revoked));
    struct numbering numbering = { .n_revoked = listing->n };

    if (!revoked)
        return fault(-ENOMEM, "no memory for %zu revoked certificates", listing->n);
    for (size_t i = 0; i < listing->n; i++)
        revoked[i] = (struct tls_revoked){ listing->rows[i].serial, listing->rows[i].since };
    int r = pki_change(pki, put_number, &numbering, NULL);
    const struct tls_signer signer = pki_issuer_signer(issuer);
    const struct tls_crl_request request = {
        .revoked = revoked,
        .n_revoked = listing->n,
        .number = numbering.number,
        .this_update = { listing->now.us - PKI_BACKDATE_US },
        .next_update = { listing->now.us + CRL_LIFE_US },
    };
    if (r == 0)
        r = tls_crl_issue(&request, issuer->cert, &signer, to);
    free(revoked);
    if (r == PKI_FULL)
        return fault(-ENOSPC, "the disk is full: no list of revoked certificates is signed");
    return fold(r);
}

/* Under the cache's lock. Outcomes: PKI_ABSENT. */
static int renew(struct pki *pki, struct pki_crl_cache *cache, wall_us now, uint64_t generation)
{
    CLEANUP(listing_deinit) struct listing listing = { .now = now };
    CLEANUP(pki_issuer_deinit) struct pki_issuer issuer = { 0 };
    CLEANUP(buf_deinit) struct buf der = { 0 };
    uint8_t digest[CRYPTO_SHA256_BYTES];
    struct tls_why why = { "" };
    struct tls_facts facts;

    int r = pki_ca_issuer(pki, PKI_PART_AGENTS, &issuer, &why);
    if (r > 0)
        return PKI_ABSENT;
    if (r == 0)
        r = tls_cert_read(issuer.cert, &facts);
    if (r != 0)
        return fold(r);
    listing.issuer = facts.common_name;
    r = pki_each_row(pki->store, on_row, &listing);
    if (r == 0)
        r = listing.r;
    if (r != 0)
        return pass(r);
    digest_of(&listing, facts.sha256, digest);
    const bool is_fresh = cache->is_there && now.us >= cache->made.us &&
                          now.us - cache->made.us < CRL_FRESH_US &&
                          memcmp(digest, cache->digest, sizeof(digest)) == 0;
    if (!is_fresh) {
        r = sign(pki, &listing, &issuer, &der);
        if (r != 0)
            return pass(r);
        buf_deinit(&cache->der);
        cache->der = der;
        der = (struct buf){ 0 };
        memcpy(cache->digest, digest, sizeof(digest));
        cache->made = now;
        cache->is_there = true;
    }
    cache->generation = generation;
    return 0;
}

int pki_crl(struct pki *pki, wall_us now, struct buf *to)
{
    struct pki_crl_cache *cache = pki->ca->crl;
    const uint64_t generation = pki_generation(pki);
    int r = 0;

    pthread_mutex_lock(&cache->lock);
    if (!cache->is_there || cache->generation != generation || now.us < cache->made.us ||
        now.us - cache->made.us >= CRL_FRESH_US)
        r = renew(pki, cache, now, generation);
    if (r == 0)
        buf_append_span(to, buf_span(&cache->der));
    pthread_mutex_unlock(&cache->lock);
    if (r != 0)
        return pass(r);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a list of revoked certificates") : 0;
}
