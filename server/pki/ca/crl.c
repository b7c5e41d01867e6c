/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"
#include "server/pki/registry/codec.h"

/*
 * The lists of revoked certificates, one for each intermediate of the authority of now and of the
 * next one, as long as there are two: of the certificates that it signed, those that are revoked
 * and not over. Kept until something in it changes, at most a day; it counts for two, so that who
 * fetches it daily never holds one that is over. Numbers are from META "pki.crl" (u64), one row for
 * all: each list's grows, over restarts too.
 */

#define CRL_LIFE_US (2 * PKI_DAY_US)
#define CRL_FRESH_US PKI_DAY_US

static const char number_key[] = "pki.crl";

/* Agents' and hubs', of two authorities. */
#define MAX_LISTS 4
/* A key that was away may be back. */
#define LOOK_AGAIN_US (INT64_C(60) * 1000000)

struct crl_list {
    enum pki_part part;
    uint32_t authority; /* its number */
    bool is_known;      /* else its key or certificate is not there */
    wall_us looked;
    uint8_t issuer[32];  /* SHA-256 of its certificate */
    uint64_t generation; /* of the registry that the list was looked up in */
    bool is_there;
    wall_us made;
    uint8_t digest[CRYPTO_SHA256_BYTES]; /* of issuer, serials and times */
    struct buf der;
};

struct pki_crl_cache {
    pthread_mutex_t lock;
    bool has_lists;
    uint64_t version; /* pki_ca_version() that they are of */
    struct crl_list lists[MAX_LISTS];
    size_t n_lists;
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
    for (size_t i = 0; i < cache->n_lists; i++)
        buf_deinit(&cache->lists[i].der);
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
static int renew(struct pki *pki, struct crl_list *list, wall_us now, uint64_t generation)
{
    CLEANUP(listing_deinit) struct listing listing = { .now = now };
    CLEANUP(pki_issuer_deinit) struct pki_issuer issuer = { 0 };
    CLEANUP(buf_deinit) struct buf der = { 0 };
    uint8_t digest[CRYPTO_SHA256_BYTES];
    struct tls_why why = { "" };
    struct tls_facts facts;

    int r = pki_ca_issuer_of(pki, list->part, list->authority, &issuer, &why);
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
    const bool is_fresh = list->is_there && now.us >= list->made.us &&
                          now.us - list->made.us < CRL_FRESH_US &&
                          memcmp(digest, list->digest, sizeof(digest)) == 0;
    if (!is_fresh) {
        r = sign(pki, &listing, &issuer, &der);
        if (r != 0)
            return pass(r);
        buf_deinit(&list->der);
        list->der = der;
        der = (struct buf){ 0 };
        memcpy(list->digest, digest, sizeof(digest));
        list->made = now;
        list->is_there = true;
    }
    list->generation = generation;
    return 0;
}

/* ---- which ---- */

static bool is_of(const struct crl_list *list, enum pki_part part, uint32_t authority)
{
    return list->part == part && list->authority == authority;
}

/* Those of the authorities that there are now; one that was there before stays as it is. */
static void choose_lists(struct pki *pki, struct pki_crl_cache *cache)
{
    static const enum pki_part parts[] = { PKI_PART_AGENTS, PKI_PART_HUBS };
    const uint64_t version = pki_ca_version(pki);
    struct crl_list lists[MAX_LISTS] = { 0 };
    struct pki_ca_row row;
    size_t n = 0;

    if (cache->has_lists && cache->version == version)
        return;
    pki_ca_get_row(pki, &row);
    const uint32_t authorities[] = { row.current, row.next };
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < 2 && authorities[i] != 0; k++, n++) {
            lists[n] = (struct crl_list){ .part = parts[k], .authority = authorities[i] };
            for (size_t old = 0; old < cache->n_lists; old++) {
                if (!is_of(&cache->lists[old], parts[k], authorities[i]))
                    continue;
                lists[n] = cache->lists[old];
                cache->lists[old].der = (struct buf){ 0 };
            }
        }
    }
    for (size_t i = 0; i < cache->n_lists; i++)
        buf_deinit(&cache->lists[i].der);
    memcpy(cache->lists, lists, sizeof(lists));
    cache->n_lists = n;
    cache->version = version;
    cache->has_lists = true;
}

/* Who asks for what there is not must not have keys read each time. */
static int know(struct pki *pki, struct crl_list *list, wall_us now)
{
    CLEANUP(pki_issuer_deinit) struct pki_issuer issuer = { 0 };
    struct tls_why why = { "" };
    struct tls_facts facts;

    if (list->is_known || (list->looked.us != 0 && now.us >= list->looked.us &&
                           now.us - list->looked.us < LOOK_AGAIN_US))
        return 0;
    list->looked = now;
    int r = pki_ca_issuer_of(pki, list->part, list->authority, &issuer, &why);
    if (r > 0)
        return 0;
    if (r == 0)
        r = tls_cert_read(issuer.cert, &facts);
    if (r != 0)
        return fold(r);
    memcpy(list->issuer, facts.sha256, sizeof(list->issuer));
    list->is_known = true;
    return 0;
}

/* Another one's certificate that cannot be read does not matter. Outcomes: PKI_UNKNOWN. */
static int find_list(struct pki *pki,
                     struct pki_crl_cache *cache,
                     const uint8_t *issuer,
                     wall_us now,
                     struct crl_list **ret)
{
    struct pki_ca_row row;
    int unread = 0;

    choose_lists(pki, cache);
    pki_ca_get_row(pki, &row);
    const uint32_t signing = row.phase >= PKI_CA_ISSUING ? row.next : row.current;
    for (size_t i = 0; i < cache->n_lists; i++) {
        struct crl_list *list = &cache->lists[i];
        int r = issuer ? know(pki, list, now) : 0;

        if (r != 0)
            unread = r;
        if (issuer ? list->is_known && memcmp(list->issuer, issuer, sizeof(list->issuer)) == 0
                   : is_of(list, PKI_PART_AGENTS, signing)) {
            *ret = list;
            return 0;
        }
    }
    return unread != 0 ? pass(unread) : PKI_UNKNOWN;
}

int pki_crl(struct pki *pki, const uint8_t *issuer, wall_us now, struct buf *to)
{
    struct pki_crl_cache *cache = pki->ca->crl;
    const uint64_t generation = pki_generation(pki);
    struct crl_list *list = NULL;

    pthread_mutex_lock(&cache->lock);
    int r = find_list(pki, cache, issuer, now, &list);
    if (r == 0 && (!list->is_there || list->generation != generation || now.us < list->made.us ||
                   now.us - list->made.us >= CRL_FRESH_US))
        r = renew(pki, list, now, generation);
    if (r == 0)
        buf_append_span(to, buf_span(&list->der));
    pthread_mutex_unlock(&cache->lock);
    if (r != 0)
        return pass(r);
    return buf_failed(to) ? fault(-ENOMEM, "no memory for a list of revoked certificates") : 0;
}

const char *pki_crl_url(const struct pki_authority *authority,
                        const struct tls_cert *issuer,
                        char to[static PKI_CRL_URL_BYTES])
{
    static const char scheme[] = "https://", page[] = "/crl";
    const char *url = authority->crl_url;
    const size_t len = strlen(url);
    char hex[2 * 32 + 1];
    struct tls_facts facts;

    if (len == 0)
        return NULL;
    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0 || len < sizeof(page) ||
        strcmp(url + len - (sizeof(page) - 1), page) != 0 || tls_cert_read(issuer, &facts) != 0)
        return url;
    snprintf(to, PKI_CRL_URL_BYTES, "%s/%s.crl", url, text_of_hex(facts.sha256, 32, hex));
    return to;
}
