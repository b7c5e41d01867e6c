/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/pki/ca/bearer.h"
#include "server/pki/ca/ca.h"
#include "server/pki/ca/nonces.h"
#include "server/pki/inside.h"

/* Who calls with a bearer token, and whether the signature is his. */

#define SECRET_DIGITS 32 /* base32 of 20 bytes */
#define USED_EVERY_US (INT64_C(15) * 60 * 1000000)
#define SEED_DIGITS_MAX 12 /* of unix seconds */

static int refuse(struct tls_why *why, const char *text)
{
    snprintf(why->text, sizeof(why->text), "%s", text);
    return PKI_REFUSED;
}

/* "Bearer ID.SECRET" (RFC 6750: the word in any case). */
static bool parse(struct span header, char id[static IDENTITY_TOKEN_ID_BYTES + 1], uint8_t *secret)
{
    const size_t word = strlen("Bearer ");

    while (header.len > 0 && header.data[header.len - 1] == ' ')
        header.len--;
    if (header.len < word || strncasecmp((const char *) header.data, "Bearer ", word) != 0)
        return false;
    while (header.len > word && header.data[word] == ' ')
        header = span_of(header.data + 1, header.len - 1);
    const struct span rest = span_of(header.data + word, header.len - word);
    if (rest.len != IDENTITY_TOKEN_ID_BYTES + 1 + SECRET_DIGITS ||
        rest.data[IDENTITY_TOKEN_ID_BYTES] != '.' || memchr(rest.data, 0, IDENTITY_TOKEN_ID_BYTES))
        return false;
    memcpy(id, rest.data, IDENTITY_TOKEN_ID_BYTES);
    id[IDENTITY_TOKEN_ID_BYTES] = 0;
    return identity_base32_parse(span_of(rest.data + IDENTITY_TOKEN_ID_BYTES + 1, SECRET_DIGITS),
                                 secret, IDENTITY_SECRET_BYTES);
}

/* What is needed of a token, out of the lock. */
struct found {
    struct pki_bearer shown;
    uint8_t mac[32], sha256[32], hash_key[32];
    uint8_t keys[PKI_BEARER_MAX_KEYS][PKI_BEARER_KEY_BYTES];
    wall_us made[PKI_BEARER_MAX_KEYS];
    size_t n_keys;
    bool should_write_use;
};

static void found_deinit(struct found *found)
{
    crypto_wipe(found, sizeof(*found));
}

static bool find(struct pki *pki, const char *id, struct found *ret)
{
    pthread_mutex_lock(&pki->ca->lock);
    const struct pki_bearer_set *set = pki->ca->bearers;
    const struct bearer_entry *entry = set ? map_get(&set->by_id, span_of_text(id)) : NULL;
    if (entry) {
        ret->shown = entry->shown;
        memcpy(ret->mac, entry->mac, sizeof(ret->mac));
        memcpy(ret->sha256, entry->sha256, sizeof(ret->sha256));
        memcpy(ret->hash_key, set->keys.hash, sizeof(ret->hash_key));
        ret->n_keys = entry->n_keys;
        for (size_t i = 0; i < entry->n_keys; i++) {
            memcpy(ret->keys[i], entry->keys[i].bytes, PKI_BEARER_KEY_BYTES);
            ret->made[i] = entry->keys[i].made;
        }
    }
    pthread_mutex_unlock(&pki->ca->lock);
    return entry != NULL;
}

static bool is_secret(const struct found *found, const uint8_t secret[static IDENTITY_SECRET_BYTES])
{
    struct pki_bearer_keys keys = { 0 };
    uint8_t mac[32];

    memcpy(keys.hash, found->hash_key, sizeof(keys.hash));
    pki_bearer_mac(&keys, found->shown.id, secret, mac);
    pki_bearer_keys_deinit(&keys);
    return crypto_equal(mac, found->mac, sizeof(mac));
}

static void note_use(struct pki *pki, const char *id, wall_us now)
{
    bool must_write = false;

    pthread_mutex_lock(&pki->ca->lock);
    struct bearer_entry *entry =
        pki->ca->bearers ? map_get(&pki->ca->bearers->by_id, span_of_text(id)) : NULL;
    if (entry) {
        atomic_store(&entry->used_us, now.us);
        must_write = now.us - entry->written_us >= USED_EVERY_US;
        if (must_write)
            entry->written_us = now.us;
    }
    pthread_mutex_unlock(&pki->ca->lock);
    if (must_write)
        (void) pki_clerk_note_used(pki->ca->clerk, id, now);
}

/* ---- signatures ---- */

/* A key older than a month counts a week longer, when its follower is there or not. */
static bool is_key_good(const struct found *found, size_t i, wall_us now)
{
    const wall_us ends = { found->made[i].us + PKI_BEARER_ROLL_US + PKI_BEARER_OVERLAP_US };
    const bool is_replaced = i > 0;

    if (is_replaced && now.us > found->made[0].us + PKI_BEARER_OVERLAP_US)
        return false;
    return now.us < ends.us;
}

/* Outcomes: PKI_REFUSED. */
static int check_mac(const struct found *found,
                     struct span data,
                     const uint8_t mac[static 32],
                     wall_us now,
                     struct tls_why *why)
{
    bool is_old = false;

    for (size_t i = 0; i < found->n_keys; i++) {
        uint8_t wanted[32];

        crypto_hmac_sha256(span_of(found->keys[i], PKI_BEARER_KEY_BYTES), data, wanted);
        if (!crypto_equal(wanted, mac, sizeof(wanted)))
            continue;
        if (is_key_good(found, i, now))
            return 0;
        is_old = true;
    }
    return refuse(why, is_old ? "x-signature: the signing key is older than a month and a week; "
                                "roll it: POST /bearer/roll while it counts, or a new token"
                              : "x-signature: it is not by this token's key over v1, seconds, "
                                "nonce, method, path with query and the body's SHA-256");
}

/* Outcomes: PKI_REFUSED. */
static int check_time(int64_t unix_seconds, wall_us now, struct tls_why *why)
{
    const int64_t now_s = now.us / 1000000;

    if (unix_seconds >= now_s - PKI_SIGNATURE_WINDOW_S &&
        unix_seconds <= now_s + PKI_SIGNATURE_WINDOW_S)
        return 0;
    snprintf(why->text, sizeof(why->text),
             "x-signature: its time is %lld s away from the hub's, at most %d are taken; set the "
             "clock",
             (long long) (unix_seconds - now_s), PKI_SIGNATURE_WINDOW_S);
    return PKI_REFUSED;
}

/* Outcomes: PKI_REFUSED. */
static int take_nonce(struct pki *pki, const char *id, struct span nonce, struct tls_why *why)
{
    switch (pki_nonces_take(pki->ca->nonces, id, nonce, clock_mono())) {
    case PKI_NONCE_NEW:
        return 0;
    case PKI_NONCE_SEEN:
        return refuse(why, "x-signature: this request was seen already; a new one has a new nonce");
    case PKI_NONCE_NO_ROOM:
    default:
        return refuse(why, "x-signature: too many signed requests within ten minutes; wait");
    }
}

/* Hex or base64 of 32 bytes. */
static bool parse_mac(struct span text, uint8_t to[static 32])
{
    struct sealed_key key = { .is_there = false };
    bool is_good = text.len != SEALED_KEY_BYTES && sealed_key_parse(text, &key) == 0;

    memcpy(to, key.bytes, 32);
    return is_good;
}

/* "<seconds>.<HMAC over seconds, a dot, the body>": the form of old clients. Its MAC is its nonce.
 * Outcomes: PKI_REFUSED. */
static int check_seed(struct pki *pki,
                      const struct found *found,
                      const struct pki_bearer_call *call,
                      wall_us now,
                      struct tls_why *why)
{
    CLEANUP(buf_deinit) struct buf data = { 0 };
    const struct span header = call->signature;
    char digits[SEED_DIGITS_MAX + 1];
    uint8_t mac[32];
    uint64_t seconds;

    const uint8_t *dot = memchr(header.data, '.', header.len);
    const size_t n = dot ? (size_t) (dot - header.data) : 0;
    if (n < 1 || n > SEED_DIGITS_MAX ||
        !parse_mac(span_of(header.data + n + 1, header.len - n - 1), mac))
        return refuse(why, "x-signature: it is neither v1.<unix seconds>.<nonce>.<base64> nor "
                           "<unix seconds>.<hex or base64>");
    memcpy(digits, header.data, n);
    digits[n] = 0;
    if (text_to_u64(digits, &seconds) != 0)
        return refuse(why, "x-signature: the seconds are no number");
    if (!call->has_body)
        return refuse(why, "x-signature: this form is for requests with a whole body; sign by v1");
    int r = check_time((int64_t) seconds, now, why);
    if (r != 0)
        return r;
    buf_append(&data, header.data, n + 1);
    buf_append_span(&data, call->body);
    if (buf_failed(&data))
        return refuse(why, "x-signature: no memory to check it; try again");
    r = check_mac(found, buf_span(&data), mac, now, why);
    return r != 0 ? r : take_nonce(pki, found->shown.id, span_of(mac, sizeof(mac)), why);
}

/* Outcomes: PKI_REFUSED. */
static int check_signature(struct pki *pki,
                           const struct found *found,
                           const struct pki_bearer_call *call,
                           wall_us now,
                           struct tls_why *why)
{
    CLEANUP(buf_deinit) struct buf data = { 0 };
    struct identity_signed_request request = { .method = span_of_text(call->method),
                                               .path = span_of_text(call->path) };
    uint8_t mac[32];

    if (call->signature.len == 0)
        return refuse(why, "x-signature: it is missing, and this token's requests are signed");
    if (!identity_signature_parse(call->signature, &request.unix_seconds, &request.nonce, mac)) {
        if (pki->ca->takes_seed_signatures)
            return check_seed(pki, found, call, now, why);
        return refuse(why, "x-signature: it is not v1.<unix seconds>.<nonce>.<base64 of "
                           "HMAC-SHA256>");
    }
    int r = check_time(request.unix_seconds, now, why);
    if (r != 0)
        return r;
    if (call->body_sha256.len == sizeof(request.body_sha256))
        memcpy(request.body_sha256, call->body_sha256.data, sizeof(request.body_sha256));
    else
        crypto_sha256(span_of(NULL, 0), request.body_sha256);
    identity_request_signed_bytes(&request, &data);
    if (buf_failed(&data))
        return refuse(why, "x-signature: no memory to check it; try again");
    /* Only then the nonce: who cannot sign fills no memory. */
    r = check_mac(found, buf_span(&data), mac, now, why);
    return r != 0 ? r : take_nonce(pki, found->shown.id, request.nonce, why);
}

/* ---- who calls ---- */

static void fill(struct pki *pki,
                 const struct pki_bearer *shown,
                 const uint8_t sha256[static 32],
                 struct pki_identity *ret)
{
    *ret = (struct pki_identity){ .kind = PKI_BEARER,
                                  .role = shown->role,
                                  .state = shown->is_revoked ? PKI_REVOKED : PKI_ACTIVE,
                                  .not_before = shown->created,
                                  .not_after = shown->expires,
                                  .generation = pki_generation(pki) };
    memcpy(ret->name, shown->name, sizeof(ret->name));
    memcpy(ret->serial, shown->id, sizeof(shown->id));
    memcpy(ret->sha256, sha256, sizeof(ret->sha256));
}

static int judge(const struct pki_bearer *shown, wall_us now)
{
    if (shown->is_revoked)
        return PKI_NOT_ACTIVE;
    return now.us >= shown->expires.us ? PKI_EXPIRED : PKI_OK;
}

int pki_bearer_identify(struct pki *pki,
                        const struct pki_bearer_call *call,
                        wall_us now,
                        struct pki_identity *ret,
                        struct tls_why *ret_why)
{
    CLEANUP(found_deinit) struct found found = { 0 };
    char id[IDENTITY_TOKEN_ID_BYTES + 1];
    uint8_t secret[IDENTITY_SECRET_BYTES];

    bool is_token = parse(call->authorization, id, secret) && find(pki, id, &found) &&
                    is_secret(&found, secret);
    crypto_wipe(secret, sizeof(secret));
    if (!is_token)
        return PKI_UNKNOWN;
    int r = judge(&found.shown, now);
    if (r == 0 && found.shown.must_sign)
        r = check_signature(pki, &found, call, now, ret_why);
    if (r == PKI_REFUSED)
        return r;
    fill(pki, &found.shown, found.sha256, ret);
    if (r == 0)
        note_use(pki, id, now);
    return r;
}

int pki_bearer_recheck(struct pki *pki,
                       const uint8_t sha256[32],
                       wall_us now,
                       struct pki_identity *ret)
{
    struct pki_bearer shown;

    pthread_mutex_lock(&pki->ca->lock);
    const struct bearer_entry *entry =
        pki->ca->bearers ? map_get(&pki->ca->bearers->by_sha256, span_of(sha256, 32)) : NULL;
    if (entry)
        shown = entry->shown;
    pthread_mutex_unlock(&pki->ca->lock);
    if (!entry)
        return PKI_UNKNOWN;
    fill(pki, &shown, sha256, ret);
    return judge(&shown, now);
}
