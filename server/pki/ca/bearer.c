/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/map.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/pki/ca/bearer.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"
#include "server/pki/registry/codec.h"

/*
 * Bearer tokens: in the table, in memory, and what operators do with them. Who calls with one is
 * bearer_call.c's.
 *
 * TOKENS 'b' id:
 *
 *   u8 version 1, u8 role, u8 flags (1 must sign, 2 revoked), u64 created, u64 expires (us), text
 *   name, 32 bytes HMAC of id and secret, u8 n keys, and for each: u64 made (us), 12 bytes nonce,
 *   48 bytes the key, sealed
 *
 * The HMAC and the sealing are under keys derived from the hub's own secret
 * (certs/secrets-key.pem), which is sealed itself where the CA's keys are: a copy of the database
 * alone neither passes for a token nor signs for one. META "pki.bearer_used/" id: u64 us, the last
 * use, to the quarter of an hour.
 */

#define ROW_VERSION 1
#define FLAG_MUST_SIGN 1
#define FLAG_REVOKED 2
#define MAX_TOKENS 10000u
#define SEALED_BYTES (CRYPTO_SEAL_NONCE_BYTES + PKI_BEARER_KEY_BYTES + CRYPTO_SEAL_TAG_BYTES)
#define USED_PREFIX "pki.bearer_used/"
#define SECRETS_NAME "secrets"

/* ---- keys ---- */

static void derive(const uint8_t secret[static SEALED_KEY_BYTES], const char *label, uint8_t to[32])
{
    crypto_hmac_sha256(span_of(secret, SEALED_KEY_BYTES), span_of_text(label), to);
}

int pki_bearer_keys(struct pki *pki, struct pki_bearer_keys *ret, struct tls_why *ret_why)
{
    uint8_t secret[SEALED_KEY_BYTES];

    int r = pki_ca_secret(pki, SECRETS_NAME, secret, ret_why);
    if (r != 0)
        return pass(r);
    derive(secret, "sentinel-bearer-hash-1", ret->hash);
    derive(secret, "sentinel-bearer-seal-1", ret->seal);
    crypto_wipe(secret, sizeof(secret));
    return 0;
}

void pki_bearer_keys_deinit(struct pki_bearer_keys *keys)
{
    crypto_wipe(keys, sizeof(*keys));
}

void pki_bearer_mac(const struct pki_bearer_keys *keys,
                    const char *id,
                    const uint8_t secret[static IDENTITY_SECRET_BYTES],
                    uint8_t to[static 32])
{
    uint8_t bytes[IDENTITY_TOKEN_ID_BYTES + 1 + IDENTITY_SECRET_BYTES] = { 0 };

    memcpy(bytes, id, strnlen(id, IDENTITY_TOKEN_ID_BYTES));
    memcpy(bytes + IDENTITY_TOKEN_ID_BYTES + 1, secret, IDENTITY_SECRET_BYTES);
    crypto_hmac_sha256(span_of(keys->hash, sizeof(keys->hash)), span_of(bytes, sizeof(bytes)), to);
    crypto_wipe(bytes, sizeof(bytes));
}

/* ---- rows ---- */

struct row {
    struct bearer_entry entry; /* its keys are closed in `sealed` */
    uint8_t sealed[PKI_BEARER_MAX_KEYS][SEALED_BYTES];
};

static void encode(const struct row *row, struct buf *to)
{
    const struct bearer_entry *entry = &row->entry;

    pki_put_u8(to, ROW_VERSION);
    pki_put_u8(to, (uint8_t) entry->shown.role);
    pki_put_u8(to, (uint8_t) ((entry->shown.must_sign ? FLAG_MUST_SIGN : 0) |
                              (entry->shown.is_revoked ? FLAG_REVOKED : 0)));
    pki_put_u64(to, (uint64_t) entry->shown.created.us);
    pki_put_u64(to, (uint64_t) entry->shown.expires.us);
    pki_put_text(to, entry->shown.name);
    buf_append(to, entry->mac, sizeof(entry->mac));
    pki_put_u8(to, (uint8_t) entry->n_keys);
    for (size_t i = 0; i < entry->n_keys; i++) {
        pki_put_u64(to, (uint64_t) entry->keys[i].made.us);
        buf_append(to, row->sealed[i], SEALED_BYTES);
    }
}

/* Outcomes: PKI_BAD. */
static int decode(struct span id, struct span value, struct row *ret)
{
    struct pki_reader reader = { .rest = value };
    struct row row = { 0 };
    struct bearer_entry *entry = &row.entry;

    if (id.len != IDENTITY_TOKEN_ID_BYTES || pki_get_u8(&reader) != ROW_VERSION)
        return PKI_BAD;
    memcpy(entry->shown.id, id.data, id.len);
    const uint8_t role = pki_get_u8(&reader), flags = pki_get_u8(&reader);
    entry->shown.created.us = (int64_t) pki_get_u64(&reader);
    entry->shown.expires.us = (int64_t) pki_get_u64(&reader);
    pki_get_text(&reader, entry->shown.name, sizeof(entry->shown.name));
    pki_get_bytes(&reader, entry->mac, sizeof(entry->mac));
    entry->n_keys = pki_get_u8(&reader);
    if (reader.is_bad || entry->n_keys > PKI_BEARER_MAX_KEYS || role < PKI_ROLE_VIEWER ||
        role > PKI_ROLE_EXPORTER)
        return PKI_BAD;
    for (size_t i = 0; i < entry->n_keys; i++) {
        entry->keys[i].made.us = (int64_t) pki_get_u64(&reader);
        pki_get_bytes(&reader, row.sealed[i], SEALED_BYTES);
    }
    if (reader.is_bad)
        return PKI_BAD;
    entry->shown.role = (enum pki_role) role;
    entry->shown.must_sign = flags & FLAG_MUST_SIGN;
    entry->shown.is_revoked = flags & FLAG_REVOKED;
    *ret = row;
    return 0;
}

bool pki_bearer_row_is_good(struct span id, struct span value)
{
    struct row row;

    return decode(id, value, &row) == 0;
}

static void extra_of(const char *id, uint8_t to[static 32])
{
    static const char label[] = "sentinel-bearer-1";

    memset(to, 0, 32);
    memcpy(to, label, sizeof(label) - 1);
    memcpy(to + sizeof(label), id, IDENTITY_TOKEN_ID_BYTES);
}

static void seal_key(const struct pki_bearer_keys *keys, struct row *row, size_t i)
{
    uint8_t extra[32];

    extra_of(row->entry.shown.id, extra);
    crypto_random(row->sealed[i], CRYPTO_SEAL_NONCE_BYTES);
    crypto_seal(keys->seal, row->sealed[i], span_of(row->entry.keys[i].bytes, PKI_BEARER_KEY_BYTES),
                span_of(extra, sizeof(extra)), row->sealed[i] + CRYPTO_SEAL_NONCE_BYTES);
}

static bool open_keys(const struct pki_bearer_keys *keys, struct row *row)
{
    uint8_t extra[32];

    extra_of(row->entry.shown.id, extra);
    for (size_t i = 0; i < row->entry.n_keys; i++) {
        if (!crypto_open(keys->seal, row->sealed[i],
                         span_of(row->sealed[i] + CRYPTO_SEAL_NONCE_BYTES,
                                 SEALED_BYTES - CRYPTO_SEAL_NONCE_BYTES),
                         span_of(extra, sizeof(extra)), row->entry.keys[i].bytes))
            return false;
    }
    return true;
}

/* ---- in memory ---- */

void pki_bearers_free(struct pki_bearer_set *set)
{
    struct bearer_entry *entry;

    if (!set)
        return;
    for (size_t at = 0; (entry = map_next(&set->by_id, &at)) != NULL;) {
        crypto_wipe(entry, sizeof(*entry));
        free(entry);
    }
    map_deinit(&set->by_id);
    map_deinit(&set->by_sha256);
    pki_bearer_keys_deinit(&set->keys);
    free(set);
}

struct reading {
    struct pki *pki;
    struct pki_bearer_set *set, *before;
    struct tls_why why;
    size_t n_unreadable;
    int r;
};

static int add(struct reading *reading, struct row *row)
{
    struct pki_bearer_set *set = reading->set;

    if (!set->has_keys) {
        int r = pki_bearer_keys(reading->pki, &set->keys, &reading->why);
        if (r != 0)
            return pass(r);
        set->has_keys = true;
    }
    if (!open_keys(&set->keys, row)) {
        reading->n_unreadable++;
        return 0;
    }
    struct bearer_entry *entry = malloc(sizeof(*entry));
    if (!entry)
        return fault(-ENOMEM, "no memory for bearer tokens");
    *entry = row->entry;
    crypto_wipe(row, sizeof(*row));
    crypto_sha256(span_of_text(entry->shown.id), entry->sha256);
    const struct bearer_entry *old =
        reading->before ? map_get(&reading->before->by_id, span_of_text(entry->shown.id)) : NULL;
    entry->used_us = old ? atomic_load(&old->used_us) : 0;
    int r = map_put(&set->by_id, span_of_text(entry->shown.id), entry);
    if (r != 0) {
        free(entry);
        return pass(r);
    }
    return pass(map_put(&set->by_sha256, span_of(entry->sha256, sizeof(entry->sha256)), entry));
}

static bool on_row(void *ctx, struct span key, struct span value)
{
    struct reading *reading = ctx;
    struct row row;

    /* One that cannot be read lets nobody in: the safe side. */
    if (decode(span_of(key.data + 1, key.len - 1), value, &row) != 0)
        reading->n_unreadable++;
    else
        reading->r = add(reading, &row);
    return reading->r == 0;
}

static bool on_used(void *ctx, struct span key, struct span value)
{
    const size_t prefix = sizeof(USED_PREFIX) - 1;
    struct pki_bearer_set *set = ctx;
    struct pki_reader reader = { .rest = value };

    struct bearer_entry *entry = map_get(&set->by_id, span_of(key.data + prefix, key.len - prefix));
    const int64_t at_us = (int64_t) pki_get_u64(&reader);
    if (entry && !reader.is_bad) {
        entry->written_us = at_us;
        if (atomic_load(&entry->used_us) < at_us)
            atomic_store(&entry->used_us, at_us);
    }
    return true;
}

int pki_bearers_read(struct pki *pki, struct pki_bearer_set *before, struct pki_bearer_set **ret)
{
    struct reading reading = { .pki = pki,
                               .set = calloc(1, sizeof(*reading.set)),
                               .before = before };

    if (!reading.set)
        return fault(-ENOMEM, "no memory for bearer tokens");
    int r = store_state_range(pki->store, STORE_TABLE_TOKENS, span_of_text("b"), false, on_row,
                              &reading);
    if (r == 0)
        r = reading.r;
    if (r == PKI_BAD || r == PKI_ABSENT) { /* sealed under another key: the hub runs without */
        log_event(LOG_ERROR, "bearer_tokens_unreadable", LOG_S("reason", reading.why.text));
        r = 0;
    }
    if (r == 0)
        r = store_state_range(pki->store, STORE_TABLE_META, span_of_text(USED_PREFIX), false,
                              on_used, reading.set);
    if (r != 0) {
        pki_bearers_free(reading.set);
        return fold(r);
    }
    if (reading.n_unreadable > 0)
        log_event(LOG_WARN, "bearer_tokens_unreadable", LOG_U("tokens", reading.n_unreadable));
    *ret = reading.set;
    return 0;
}

/* ---- what operators do ---- */

static int check(const struct pki_bearer_wish *wish, struct tls_why *why)
{
    int r = pki_check_name(wish->name, why);

    if (r != 0)
        return r;
    if (wish->role != PKI_ROLE_VIEWER && wish->role != PKI_ROLE_OPERATOR &&
        wish->role != PKI_ROLE_ADMIN && wish->role != PKI_ROLE_EXPORTER) {
        snprintf(why->text, sizeof(why->text),
                 "role: a bearer token is for a viewer, operator, admin or exporter");
        return PKI_BAD_NAME;
    }
    if (wish->ttl_us < 0 || wish->ttl_us > PKI_BEARER_MAX_TTL_US) {
        snprintf(why->text, sizeof(why->text),
                 "ttl: a bearer token lives at most 366 days; make another one before it ends");
        return PKI_BAD_NAME;
    }
    return 0;
}

struct making {
    const struct pki_act *act;
    struct row row;
    bool is_full;
};

static bool count(void *ctx, struct span key, struct span value)
{
    (void) key;
    (void) value;
    ++*(size_t *) ctx;
    return true;
}

static int put_row(struct pki_edit *edit, const struct row *row)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    char key[1 + IDENTITY_TOKEN_ID_BYTES + 1];

    snprintf(key, sizeof(key), "b%s", row->entry.shown.id);
    encode(row, &value);
    if (buf_failed(&value))
        return STORE_FULL;
    edit->must_raise = true;
    return pass(pki_edit_put_raw(edit, STORE_TABLE_TOKENS, span_of_text(key), buf_span(&value)));
}

static int put_new(struct pki_edit *edit, void *ctx)
{
    struct making *making = ctx;
    const struct pki_bearer *shown = &making->row.entry.shown;
    char object[32], expires[TEXT_TIME_BYTES];
    size_t n = 0;

    int r = store_change_each(edit->change, STORE_TABLE_TOKENS, span_of_text("b"), count, &n);
    if (r != 0)
        return pass(r);
    if (n >= MAX_TOKENS)
        return PKI_EDIT(PKI_BAD_NAME);
    r = put_row(edit, &making->row);
    if (r != 0)
        return pass(r);
    const struct audit_field fields[] = {
        { "name", shown->name },
        { "role", pki_role_name(shown->role) },
        { "expires", text_of_time(shown->expires, expires) },
        { "must_sign", shown->must_sign ? "true" : "false" },
    };
    snprintf(object, sizeof(object), "bearer/%s", shown->id);
    return pass(pki_act_audit(edit, making->act, AUDIT_BEARER_CREATED, object, fields, 4));
}

static void make_id(char to[static IDENTITY_TOKEN_ID_BYTES + 1])
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint8_t bytes[IDENTITY_TOKEN_ID_BYTES * 5 / 8];

    crypto_random(bytes, sizeof(bytes));
    identity_base32_print(span_of(bytes, sizeof(bytes)), &text);
    ensure(text.len == IDENTITY_TOKEN_ID_BYTES);
    memcpy(to, buf_text(&text), IDENTITY_TOKEN_ID_BYTES + 1);
}

int pki_bearer_create(struct pki *pki,
                      const struct pki_bearer_wish *wish,
                      const struct pki_act *act,
                      struct pki_bearer *ret,
                      struct tls_why *ret_why)
{
    CLEANUP(pki_bearer_keys_deinit) struct pki_bearer_keys keys = { 0 };
    struct making making = { .act = act };
    struct bearer_entry *entry = &making.row.entry;
    const wall_us now = clock_wall();

    int r = check(wish, ret_why);
    if (r == 0)
        r = pki_bearer_keys(pki, &keys, ret_why);
    if (r != 0)
        return pass(r);
    make_id(entry->shown.id);
    snprintf(entry->shown.name, sizeof(entry->shown.name), "%s", wish->name);
    entry->shown.role = wish->role;
    entry->shown.must_sign = wish->must_sign;
    entry->shown.created = now;
    entry->shown.expires.us = now.us + (wish->ttl_us ? wish->ttl_us : PKI_BEARER_TTL_US);
    struct pki_bearer made = entry->shown;
    crypto_random(made.secret, sizeof(made.secret));
    pki_bearer_mac(&keys, made.id, made.secret, entry->mac);
    if (wish->must_sign) {
        crypto_random(made.hmac_key, sizeof(made.hmac_key));
        memcpy(entry->keys[0].bytes, made.hmac_key, sizeof(made.hmac_key));
        entry->keys[0].made = now;
        entry->n_keys = 1;
        seal_key(&keys, &making.row, 0);
    }
    r = pki_change(pki, put_new, &making, NULL);
    crypto_wipe(&making.row, sizeof(making.row));
    if (r == PKI_BAD_NAME)
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "there are %u bearer tokens, which is the limit; revoke some: those that are "
                 "over or revoked for 30 days are removed",
                 MAX_TOKENS);
    if (r == 0)
        r = pki_ca_refresh(pki);
    if (r == 0)
        *ret = made;
    crypto_wipe(&made, sizeof(made));
    return pass(r);
}

static int newest_first(const void *a, const void *b)
{
    const struct pki_bearer *left = a, *right = b;

    return left->created.us > right->created.us   ? -1
           : left->created.us < right->created.us ? 1
                                                  : strcmp(left->id, right->id);
}

int pki_bearer_list(struct pki *pki, struct arena *arena, struct pki_bearer **ret, size_t *ret_n)
{
    const struct bearer_entry *entry;
    size_t n = 0;
    int r = 0;

    pthread_mutex_lock(&pki->ca->lock);
    const struct pki_bearer_set *set = pki->ca->bearers;
    const size_t n_all = set ? set->by_id.n_entries : 0;
    struct pki_bearer *all = arena_alloc_array(arena, n_all + 1, sizeof(*all));
    if (!all)
        r = fault(-ENOMEM, "no room for %zu bearer tokens", n_all);
    for (size_t at = 0; r == 0 && set && (entry = map_next(&set->by_id, &at)) != NULL;) {
        all[n] = entry->shown;
        all[n++].last_used.us = atomic_load(&entry->used_us);
    }
    pthread_mutex_unlock(&pki->ca->lock);
    if (r != 0)
        return r;
    qsort(all, n, sizeof(*all), newest_first);
    *ret = all;
    *ret_n = n;
    return 0;
}

struct ending {
    const char *id;
    const struct pki_act *act;
    const struct pki_bearer_keys *keys; /* NULL: revoke; else a new key is sealed */
    uint8_t hmac_key[PKI_BEARER_KEY_BYTES];
    struct pki_bearer shown;
};

/* Outcomes of the edit: PKI_UNKNOWN. */
static int get_row(struct pki_edit *edit, const char *id, struct row *ret)
{
    char key[1 + IDENTITY_TOKEN_ID_BYTES + 1];
    struct span value;

    if (strlen(id) != IDENTITY_TOKEN_ID_BYTES)
        return PKI_EDIT(PKI_UNKNOWN);
    snprintf(key, sizeof(key), "b%s", id);
    int r = pki_edit_get_raw(edit, STORE_TABLE_TOKENS, key, &value);
    if (r == STORE_NOT_FOUND || (r == 0 && decode(span_of_text(id), value, ret) != 0))
        return PKI_EDIT(PKI_UNKNOWN);
    return pass(r);
}

static int revoke(struct pki_edit *edit, void *ctx)
{
    const struct ending *ending = ctx;
    char object[32];
    struct row row;

    int r = get_row(edit, ending->id, &row);
    if (r == 0 && row.entry.shown.is_revoked)
        return PKI_EDIT(PKI_UNKNOWN);
    if (r != 0)
        return pass(r);
    row.entry.shown.is_revoked = true;
    r = put_row(edit, &row);
    if (r != 0)
        return pass(r);
    const struct audit_field field = { "name", row.entry.shown.name };
    snprintf(object, sizeof(object), "bearer/%s", row.entry.shown.id);
    return pass(pki_act_audit(edit, ending->act, AUDIT_BEARER_REVOKED, object, &field, 1));
}

int pki_bearer_revoke(struct pki *pki, const char *id, const struct pki_act *act)
{
    struct ending ending = { .id = id, .act = act };

    int r = pki_change(pki, revoke, &ending, NULL);
    return r != 0 ? pass(r) : pass(pki_ca_refresh(pki));
}

/* The newest key first; the one before stays for the overlap. */
static int roll(struct pki_edit *edit, void *ctx)
{
    struct ending *ending = ctx;
    char object[32];
    struct row row;

    int r = get_row(edit, ending->id, &row);
    if (r != 0)
        return pass(r);
    if (row.entry.shown.is_revoked || row.entry.shown.expires.us <= edit->now.us ||
        row.entry.n_keys == 0)
        return PKI_EDIT(PKI_UNKNOWN);
    memmove(&row.entry.keys[1], &row.entry.keys[0], sizeof(row.entry.keys[0]));
    memmove(row.sealed[1], row.sealed[0], SEALED_BYTES);
    memcpy(row.entry.keys[0].bytes, ending->hmac_key, PKI_BEARER_KEY_BYTES);
    row.entry.keys[0].made = edit->now;
    row.entry.n_keys = PKI_BEARER_MAX_KEYS;
    seal_key(ending->keys, &row, 0);
    r = put_row(edit, &row);
    ending->shown = row.entry.shown;
    crypto_wipe(&row, sizeof(row));
    if (r != 0)
        return pass(r);
    const struct audit_field fields[] = { { "name", ending->shown.name },
                                          { "did", "rolled its signing key" } };
    snprintf(object, sizeof(object), "bearer/%s", ending->shown.id);
    return pass(pki_act_audit(edit, ending->act, AUDIT_BEARER_CREATED, object, fields, 2));
}

int pki_bearer_roll(struct pki *pki,
                    const char *id,
                    const struct pki_act *act,
                    struct pki_bearer *ret,
                    struct tls_why *ret_why)
{
    CLEANUP(pki_bearer_keys_deinit) struct pki_bearer_keys keys = { 0 };
    struct ending ending = { .id = id, .act = act, .keys = &keys };

    int r = pki_bearer_keys(pki, &keys, ret_why);
    if (r != 0)
        return pass(r);
    crypto_random(ending.hmac_key, sizeof(ending.hmac_key));
    r = pki_change(pki, roll, &ending, NULL);
    if (r == 0)
        r = pki_ca_refresh(pki);
    if (r == 0) {
        *ret = ending.shown;
        memcpy(ret->hmac_key, ending.hmac_key, sizeof(ending.hmac_key));
    }
    crypto_wipe(&ending, sizeof(ending));
    return pass(r);
}
