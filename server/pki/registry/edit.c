/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/pki/registry/codec.h"
#include "server/pki/registry/registry.h"

#define MAX_ROWS_OF_A_NAME 65536 /* of a life of an hour and a grace of years: far above */
#define EDIT_ARENA_BYTES ((size_t) 64 * 1024 * 1024)

static const char generation_key[] = "pki.generation";
static const char authority_key[] = "pki.authority";

/* ---- what was touched ---- */

void pki_touches_deinit(struct pki_touches *touches)
{
    for (size_t i = 0; i < touches->n; i++)
        free(touches->rows[i]);
    free(touches->rows);
    *touches = (struct pki_touches){ 0 };
}

/* Without memory the change goes on: what it did is read from the disk afterwards. A fault here
 * would stop the store. */
static struct pki_touch *touch(struct pki_edit *edit)
{
    struct pki_touches *touches = edit->touches;

    edit->must_raise = true;
    if (touches->n == touches->capacity) {
        size_t capacity = touches->capacity ? 2 * touches->capacity : 8;
        struct pki_touch **grown = reallocarray(touches->rows, capacity, sizeof(*touches->rows));
        if (!grown) {
            touches->is_lost = true;
            return NULL;
        }
        touches->rows = grown;
        touches->capacity = capacity;
    }
    struct pki_touch *one = calloc(1, sizeof(*one));
    if (!one) {
        touches->is_lost = true;
        return NULL;
    }
    touches->rows[touches->n++] = one;
    return one;
}

/* ---- keys ---- */

#define INDEX_KEY_BYTES (1 + 1 + 64 + 32)

/* 'c' kind name NUL, and the digest behind it when there is one. */
static struct span index_key(uint8_t to[static INDEX_KEY_BYTES],
                             enum pki_kind kind,
                             const char *name,
                             const uint8_t *sha256)
{
    size_t len = strlen(name);

    ensure(len < 64);
    to[0] = 'c';
    to[1] = (uint8_t) kind;
    memcpy(to + 2, name, len + 1);
    if (!sha256)
        return span_of(to, len + 3);
    memcpy(to + len + 3, sha256, 32);
    return span_of(to, len + 3 + 32);
}

static struct span agent_key(char to[static 65], const char *name)
{
    size_t len = strlen(name);

    ensure(len < 64);
    to[0] = 'a';
    memcpy(to + 1, name, len + 1);
    return span_of(to, len + 1);
}

/* ---- rows ---- */

int pki_edit_put_raw(struct pki_edit *edit,
                     enum store_table table,
                     struct span key,
                     struct span value)
{
    const struct store_write write = { .table = table, .key = key, .value = value };

    return pass(store_change_put(edit->change, &write));
}

int pki_edit_get(struct pki_edit *edit, const uint8_t sha256[32], struct pki_row *ret)
{
    struct pki_row row;
    struct span value;

    int r = store_change_get(edit->change, STORE_TABLE_CERTIFICATES, span_of(sha256, 32), &value);
    if (r != 0)
        return pass(r);
    if (pki_row_decode(span_of(sha256, 32), value, &row) != 0)
        return STORE_NOT_FOUND;
    /* The value moves at the next put. */
    char *chain = arena_copy(&edit->arena, row.chain);
    if (!chain)
        return STORE_FULL;
    row.chain = span_of(chain, row.chain.len);
    *ret = row;
    return 0;
}

int pki_edit_put(struct pki_edit *edit, const struct pki_row *row)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    const struct pki_identity *identity = &row->identity;
    uint8_t key[INDEX_KEY_BYTES];

    pki_row_encode(row, &value);
    if (buf_failed(&value))
        return STORE_FULL;
    int r = pki_edit_put_raw(edit, STORE_TABLE_CERTIFICATES,
                             span_of(identity->sha256, sizeof(identity->sha256)), buf_span(&value));
    if (r == 0)
        r = pki_edit_put_raw(edit, STORE_TABLE_IDENTITIES,
                             index_key(key, identity->kind, identity->name, identity->sha256),
                             span_of("", 0));
    if (r != 0)
        return pass(r);
    struct pki_touch *one = touch(edit);
    if (one) {
        memcpy(one->sha256, identity->sha256, sizeof(one->sha256));
        one->row = *row;
        one->row.chain = span_of(NULL, 0);
    }
    return 0;
}

int pki_edit_remove(struct pki_edit *edit, const struct pki_row *row)
{
    const struct pki_identity *identity = &row->identity;
    const struct span nothing = { 0 };
    uint8_t key[INDEX_KEY_BYTES];

    int r = pki_edit_put_raw(edit, STORE_TABLE_CERTIFICATES,
                             span_of(identity->sha256, sizeof(identity->sha256)), nothing);
    if (r == 0)
        r = pki_edit_put_raw(edit, STORE_TABLE_IDENTITIES,
                             index_key(key, identity->kind, identity->name, identity->sha256),
                             nothing);
    if (r != 0)
        return pass(r);
    struct pki_touch *one = touch(edit);
    if (one) {
        one->is_gone = true;
        memcpy(one->sha256, identity->sha256, sizeof(one->sha256));
    }
    return 0;
}

int pki_edit_agent_get(struct pki_edit *edit, const char *name, struct pki_agent_row *ret)
{
    struct span value;
    char key[65];

    int r = store_change_get(edit->change, STORE_TABLE_IDENTITIES, agent_key(key, name), &value);
    if (r != 0)
        return pass(r);
    return pki_agent_row_decode(span_of_text(name), value, ret) != 0 ? STORE_NOT_FOUND : 0;
}

int pki_edit_agent_put(struct pki_edit *edit, const struct pki_agent_row *row)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    char key[65];

    pki_agent_row_encode(row, &value);
    if (buf_failed(&value))
        return STORE_FULL;
    int r = pki_edit_put_raw(edit, STORE_TABLE_IDENTITIES, agent_key(key, row->agent.name),
                             buf_span(&value));
    if (r != 0)
        return pass(r);
    struct pki_touch *one = touch(edit);
    if (one) {
        one->is_agent = true;
        one->agent = *row;
    }
    return 0;
}

int pki_edit_agent_remove(struct pki_edit *edit, const char *name)
{
    char key[65];

    int r =
        pki_edit_put_raw(edit, STORE_TABLE_IDENTITIES, agent_key(key, name), (struct span){ 0 });
    if (r != 0)
        return pass(r);
    struct pki_touch *one = touch(edit);
    if (one) {
        one->is_agent = one->is_gone = true;
        memcpy(one->agent.agent.name, name, strlen(name));
    }
    return 0;
}

/* ---- the certificates of a name ---- */

struct digests {
    uint8_t (*rows)[32];
    size_t n;
    size_t prefix_bytes;
};

static bool count_key(void *ctx, struct span key, struct span value)
{
    struct digests *digests = ctx;

    (void) value;
    digests->n += key.len == digests->prefix_bytes + 32;
    return digests->n < MAX_ROWS_OF_A_NAME;
}

static bool keep_key(void *ctx, struct span key, struct span value)
{
    struct digests *digests = ctx;

    (void) value;
    if (key.len == digests->prefix_bytes + 32)
        memcpy(digests->rows[digests->n++], key.data + digests->prefix_bytes, 32);
    return digests->n < MAX_ROWS_OF_A_NAME;
}

static int by_registered(const void *a, const void *b)
{
    const struct pki_row *x = a, *y = b;

    if (x->registered.us != y->registered.us)
        return x->registered.us < y->registered.us ? -1 : 1;
    return memcmp(x->identity.sha256, y->identity.sha256, sizeof(x->identity.sha256));
}

int pki_edit_rows_of(struct pki_edit *edit,
                     enum pki_kind kind,
                     const char *name,
                     struct pki_row **ret,
                     size_t *ret_n)
{
    uint8_t key[INDEX_KEY_BYTES];
    const struct span prefix = index_key(key, kind, name, NULL);
    struct digests digests = { .prefix_bytes = prefix.len };
    size_t n = 0;

    int r = store_change_each(edit->change, STORE_TABLE_IDENTITIES, prefix, count_key, &digests);
    if (r != 0)
        return pass(r);
    digests.rows = arena_alloc_array(&edit->arena, digests.n + 1, sizeof(*digests.rows));
    struct pki_row *rows = arena_alloc_array(&edit->arena, digests.n + 1, sizeof(*rows));
    if (!digests.rows || !rows)
        return STORE_FULL;
    digests.n = 0;
    r = store_change_each(edit->change, STORE_TABLE_IDENTITIES, prefix, keep_key, &digests);
    for (size_t i = 0; r == 0 && i < digests.n; i++) {
        r = pki_edit_get(edit, digests.rows[i], &rows[n]);
        n += r == 0;
        r = r == STORE_NOT_FOUND ? 0 : r;
    }
    if (r != 0)
        return pass(r);
    qsort(rows, n, sizeof(*rows), by_registered);
    *ret = rows;
    *ret_n = n;
    return 0;
}

int pki_edit_audit(struct pki_edit *edit, const struct audit_entry *entry)
{
    return pass(audit_put_in(edit->change, entry));
}

/* ---- running one ---- */

struct run {
    pki_edit_fn *fn;
    void *ctx;
    struct pki_touches *touches;
};

static int put_generation(struct pki_edit *edit)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };

    pki_put_u64(&value, edit->generation + 1);
    if (buf_failed(&value))
        return STORE_FULL;
    return pass(
        pki_edit_put_raw(edit, STORE_TABLE_META, span_of_text(generation_key), buf_span(&value)));
}

static int in_change(struct store_change *change, void *ctx)
{
    struct run *run = ctx;
    struct pki_edit edit = { .change = change, .now = clock_wall(), .touches = run->touches };
    struct span value;

    int r = store_change_get(change, STORE_TABLE_META, span_of_text(generation_key), &value);
    if (r != 0 && r != STORE_NOT_FOUND)
        return pass(r);
    if (r == 0) {
        struct pki_reader reader = { .rest = value };
        edit.generation = pki_get_u64(&reader);
    }
    arena_init(&edit.arena, EDIT_ARENA_BYTES);
    r = run->fn(&edit, run->ctx);
    if (r == 0 && edit.must_raise)
        r = put_generation(&edit);
    run->touches->generation = edit.generation + (edit.must_raise ? 1 : 0);
    arena_deinit(&edit.arena);
    return pass(r);
}

int pki_edit_run(struct store *store, pki_edit_fn *fn, void *ctx, struct pki_touches *touches)
{
    CLEANUP(pki_touches_deinit) struct pki_touches own = { 0 };
    struct run run = { .fn = fn, .ctx = ctx, .touches = touches ? touches : &own };

    int r = store_state_change(store, in_change, &run);
    if (r == STORE_FULL)
        return PKI_FULL;
    if (r >= STORE_OUTCOME_FREE)
        return r - STORE_OUTCOME_FREE;
    return fold(r);
}

/* ---- the simple one ---- */

static int put_rows(struct pki_edit *edit, void *ctx)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    const struct pki_change *change = ctx;
    int r = 0;

    edit->must_raise = true;
    for (size_t i = 0; r == 0 && i < change->n_rows; i++)
        r = pki_edit_put(edit, &change->rows[i]);
    if (r == 0 && change->authority) {
        pki_authority_encode(change->authority, &value);
        r = buf_failed(&value) ? STORE_FULL
                               : pki_edit_put_raw(edit, STORE_TABLE_META,
                                                  span_of_text(authority_key), buf_span(&value));
    }
    if (r == 0 && change->entry)
        r = pki_edit_audit(edit, change->entry);
    return pass(r);
}

int pki_registry_change(struct store *store, const struct pki_change *change)
{
    struct pki_change copy = *change;

    return pass(pki_edit_run(store, put_rows, &copy, NULL));
}

int pki_change_rows(struct pki *pki, const struct pki_change *change)
{
    struct pki_change copy = *change;

    return pass(pki_change(pki, put_rows, &copy, NULL));
}

/* ---- after a restore ---- */

static bool keep_token(void *ctx, struct span key, struct span value)
{
    struct buf *ids = ctx;

    (void) value;
    if (key.len == 1 + IDENTITY_TOKEN_ID_BYTES)
        buf_append_span(ids, key);
    return true;
}

static int put_restored(struct pki_edit *edit, void *ctx)
{
    CLEANUP(buf_deinit) struct buf ids = { 0 }, until = { 0 };

    (void) ctx;
    edit->must_raise = true;
    pki_put_u64(&until, (uint64_t) (edit->now.us + PKI_ADOPT_US));
    int r =
        store_change_each(edit->change, STORE_TABLE_TOKENS, span_of_text("e"), keep_token, &ids);
    if (r == 0 && (buf_failed(&ids) || buf_failed(&until)))
        r = STORE_FULL;
    if (r == 0)
        r = pki_edit_put_raw(edit, STORE_TABLE_META, span_of_text(PKI_ADOPT_KEY), buf_span(&until));
    for (size_t at = 0; r == 0 && at < ids.len; at += 1 + IDENTITY_TOKEN_ID_BYTES)
        r = pki_edit_put_raw(edit, STORE_TABLE_TOKENS,
                             span_of(ids.data + at, 1 + IDENTITY_TOKEN_ID_BYTES),
                             (struct span){ 0 });
    return pass(r);
}

int pki_restored(struct store *store, uint64_t *ret)
{
    int r = pki_edit_run(store, put_restored, NULL, NULL);

    if (r == PKI_FULL)
        return fault(-ENOSPC, "the disk is full: the registry's generation was not raised");
    return r != 0 ? fold(r) : pass(pki_registry_generation(store, ret));
}
