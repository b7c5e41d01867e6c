/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki/enrol/tokens.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"

#define TOKEN_KEY "pki.token_key"
#define TOKEN_KEY_BYTES 32
#define ID_RANDOM_BYTES 5 /* 8 characters of base32 */

/* ---- keys of rows ---- */

bool pki_token_id_is_good(const char *id)
{
    for (size_t i = 0; i < IDENTITY_TOKEN_ID_BYTES; i++) {
        bool is_good = (id[i] >= 'a' && id[i] <= 'z') || (id[i] >= '2' && id[i] <= '7');
        if (!is_good)
            return false;
    }
    return id[IDENTITY_TOKEN_ID_BYTES] == 0;
}

#define TOKEN_ROW_KEY_BYTES (1 + IDENTITY_TOKEN_ID_BYTES)
#define USE_KEY_BYTES (TOKEN_ROW_KEY_BYTES + 32)

static struct span row_key(uint8_t to[static TOKEN_ROW_KEY_BYTES], char kind, const char *id)
{
    to[0] = (uint8_t) kind;
    memcpy(to + 1, id, IDENTITY_TOKEN_ID_BYTES);
    return span_of(to, TOKEN_ROW_KEY_BYTES);
}

static struct span
use_key(uint8_t to[static USE_KEY_BYTES], const char *id, const uint8_t key_sha256[32])
{
    (void) row_key(to, 'u', id);
    memcpy(to + TOKEN_ROW_KEY_BYTES, key_sha256, 32);
    return span_of(to, USE_KEY_BYTES);
}

int pki_token_get(struct pki_edit *edit, const char *id, struct pki_token_row *ret)
{
    uint8_t key[TOKEN_ROW_KEY_BYTES];
    struct span value;

    int r = store_change_get(edit->change, STORE_TABLE_TOKENS, row_key(key, 'e', id), &value);
    if (r != 0)
        return pass(r);
    return pki_token_row_decode(span_of_text(id), value, ret) != 0 ? STORE_NOT_FOUND : 0;
}

int pki_token_put(struct pki_edit *edit, const struct pki_token_row *row)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    uint8_t key[TOKEN_ROW_KEY_BYTES];

    pki_token_row_encode(row, &value);
    if (buf_failed(&value))
        return STORE_FULL;
    return pass(pki_edit_put_raw(edit, STORE_TABLE_TOKENS, row_key(key, 'e', row->token.id),
                                 buf_span(&value)));
}

int pki_token_use_get(struct pki_edit *edit,
                      const char *id,
                      const uint8_t key_sha256[32],
                      uint8_t ret_sha256[32])
{
    uint8_t key[USE_KEY_BYTES];
    struct span value;

    int r =
        store_change_get(edit->change, STORE_TABLE_TOKENS, use_key(key, id, key_sha256), &value);
    if (r != 0)
        return pass(r);
    if (value.len != 32)
        return STORE_NOT_FOUND;
    memcpy(ret_sha256, value.data, 32);
    return 0;
}

int pki_token_use_put(struct pki_edit *edit,
                      const char *id,
                      const uint8_t key_sha256[32],
                      const uint8_t sha256[32])
{
    uint8_t key[USE_KEY_BYTES];

    return pass(pki_edit_put_raw(edit, STORE_TABLE_TOKENS, use_key(key, id, key_sha256),
                                 span_of(sha256, 32)));
}

/* ---- secrets ---- */

/* Made by the first token. */
static int get_key(struct pki_edit *edit, uint8_t ret[static TOKEN_KEY_BYTES])
{
    struct span value;

    int r = store_change_get(edit->change, STORE_TABLE_META, span_of_text(TOKEN_KEY), &value);
    if (r == 0 && value.len == TOKEN_KEY_BYTES) {
        memcpy(ret, value.data, TOKEN_KEY_BYTES);
        return 0;
    }
    if (r != 0 && r != STORE_NOT_FOUND)
        return pass(r);
    crypto_random(ret, TOKEN_KEY_BYTES);
    return pass(pki_edit_put_raw(edit, STORE_TABLE_META, span_of_text(TOKEN_KEY),
                                 span_of(ret, TOKEN_KEY_BYTES)));
}

static void mac_of(const uint8_t key[static TOKEN_KEY_BYTES],
                   const char *id,
                   const uint8_t secret[static IDENTITY_SECRET_BYTES],
                   uint8_t ret[static CRYPTO_SHA256_BYTES])
{
    uint8_t data[IDENTITY_TOKEN_ID_BYTES + IDENTITY_SECRET_BYTES];

    memcpy(data, id, IDENTITY_TOKEN_ID_BYTES);
    memcpy(data + IDENTITY_TOKEN_ID_BYTES, secret, IDENTITY_SECRET_BYTES);
    crypto_hmac_sha256(span_of(key, TOKEN_KEY_BYTES), span_of(data, sizeof(data)), ret);
    crypto_wipe(data, sizeof(data));
}

int pki_token_check(struct pki_edit *edit,
                    const char *id,
                    struct span secret,
                    struct pki_token_row *ret,
                    bool *ret_is_right)
{
    uint8_t key[TOKEN_KEY_BYTES], given[CRYPTO_SHA256_BYTES];
    uint8_t text[IDENTITY_SECRET_BYTES] = { 0 };
    char known_id[IDENTITY_TOKEN_ID_BYTES + 1] = "aaaaaaaa";
    const bool has_form = pki_token_id_is_good(id) && secret.len == sizeof(text);

    if (has_form) {
        memcpy(known_id, id, sizeof(known_id));
        memcpy(text, secret.data, sizeof(text));
    }
    int r = get_key(edit, key);
    if (r == 0)
        r = pki_token_get(edit, known_id, ret);
    if (r != 0 && r != STORE_NOT_FOUND)
        return pass(r);
    if (r == STORE_NOT_FOUND) /* no secret has this */
        crypto_random(ret->mac, sizeof(ret->mac));
    mac_of(key, known_id, text, given);
    bool is_same = crypto_equal(given, ret->mac, sizeof(given));
    crypto_wipe(text, sizeof(text));
    *ret_is_right = is_same && has_form && r == 0;
    return 0;
}

/* ---- making ---- */

static int refuse(struct tls_why *ret_why, const char *text)
{
    snprintf(ret_why->text, sizeof(ret_why->text), "%s", text);
    return PKI_BAD_NAME;
}

static bool is_pattern(const char *text)
{
    for (size_t i = 0; text[i]; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr(".-*?", c)))
            return false;
    }
    return text[0] != 0 && text[0] != '.' && text[0] != '-';
}

static bool is_one_id(const char *pattern)
{
    return pattern[0] && !strpbrk(pattern, "*?");
}

static int
check_scope(const struct pki_token_wish *wish, struct pki_token *token, struct tls_why *ret_why)
{
    const char *pattern = wish->id_pattern ? wish->id_pattern : "";
    const char *addresses = wish->addresses ? wish->addresses : "";

    if (pattern[0] && (strlen(pattern) >= sizeof(token->id_pattern) || !is_pattern(pattern)))
        return refuse(ret_why, "id_pattern: 1 to 63 of a-z, 0-9, dot, hyphen, `*` and `?`, such as "
                               "web-1 or web-*");
    if (is_one_id(pattern) && wish->n_uses > 1)
        return refuse(ret_why,
                      "uses: a token for one id is used once; give a pattern such as web-*, or "
                      "leave uses at 1");
    if (addresses[0] &&
        (strlen(addresses) >= sizeof(token->addresses) || !identity_cidr_is_good(addresses)))
        return refuse(ret_why, "addresses: a range such as 10.0.0.0/8 or fd00::/8, or one address");
    snprintf(token->id_pattern, sizeof(token->id_pattern), "%s", pattern);
    snprintf(token->addresses, sizeof(token->addresses), "%s", addresses);
    token->replaces = wish->replace < 0 ? is_one_id(pattern) : wish->replace != 0;
    return 0;
}

/* The rules of SetAgentLabels: what a token sets an operator may take away again. */
static bool is_label(const struct pki_label *label)
{
    struct span rest = span_of_text(label->value);
    size_t key_len = strlen(label->key);

    if (key_len < 1 || key_len >= PKI_LABEL_KEY_BYTES || strchr("_./-", label->key[0]) ||
        strspn(label->key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") !=
            key_len)
        return false;
    if (rest.len < 1 || rest.len >= PKI_LABEL_VALUE_BYTES)
        return false;
    while (rest.len > 0) {
        uint32_t code;
        size_t len = text_utf8_next(rest, &code);

        if (len == 0 || !text_is_printable(code))
            return false;
        rest = span_of(rest.data + len, rest.len - len);
    }
    return true;
}

static int
copy_labels(const struct pki_token_wish *wish, struct pki_token_row *row, struct tls_why *ret_why)
{
    if (wish->n_labels > PKI_MAX_LABELS)
        return refuse(ret_why, "labels: at most 32");
    for (size_t i = 0; i < wish->n_labels; i++) {
        const struct pki_label *label = &wish->labels[i];

        if (!is_label(label))
            return refuse(ret_why, "labels: a key of 1 to 63 letters, digits, `_`, `.`, `/` and "
                                   "`-`, and 1 to 255 bytes of printable text as its value");
        snprintf(row->labels[i].key, sizeof(row->labels[i].key), "%s", label->key);
        snprintf(row->labels[i].value, sizeof(row->labels[i].value), "%s", label->value);
        row->n_labels++;
    }
    return 0;
}

int pki_token_make(const struct pki_token_wish *wish,
                   wall_us now,
                   struct pki_token_row *ret,
                   struct tls_why *ret_why)
{
    CLEANUP(buf_deinit) struct buf id = { 0 };
    struct pki_token_row row = { 0 };
    uint8_t random[ID_RANDOM_BYTES];
    struct pki_token *token = &row.token;

    if (wish->ttl_us < 0 || wish->ttl_us > PKI_TOKEN_MAX_TTL_US)
        return refuse(ret_why, "ttl: at most 7 days; leave it out for 30 minutes");
    if (wish->n_uses > PKI_TOKEN_MAX_USES)
        return refuse(ret_why, "uses: 1 to 100000");
    int r = check_scope(wish, token, ret_why);
    if (r == 0)
        r = copy_labels(wish, &row, ret_why);
    if (r != 0)
        return r;
    crypto_random(random, sizeof(random));
    identity_base32_print(span_of(random, sizeof(random)), &id);
    if (buf_failed(&id))
        return fault(-ENOMEM, "no memory for a token");
    memcpy(token->id, id.data, IDENTITY_TOKEN_ID_BYTES);
    crypto_random(token->secret, sizeof(token->secret));
    token->created = now;
    token->expires.us = now.us + (wish->ttl_us ? wish->ttl_us : PKI_TOKEN_TTL_US);
    token->n_uses = wish->n_uses ? wish->n_uses : 1;
    snprintf(token->made_by, sizeof(token->made_by), "%s", wish->made_by ? wish->made_by : "");
    *ret = row;
    return 0;
}

int pki_token_add(struct pki_edit *edit, struct pki_token_row *row, const struct pki_act *act)
{
    const struct pki_token *token = &row->token;
    uint8_t key[TOKEN_KEY_BYTES];
    char object[32], uses[16], expires[TEXT_TIME_BYTES];

    int r = get_key(edit, key);
    if (r != 0)
        return pass(r);
    mac_of(key, token->id, token->secret, row->mac);
    r = pki_token_put(edit, row);
    if (r != 0)
        return pass(r);
    snprintf(object, sizeof(object), "token/%s", token->id);
    snprintf(uses, sizeof(uses), "%" PRIu32, token->n_uses);
    const struct audit_field fields[] = {
        { "uses", uses },
        { "expires", text_of_time(token->expires, expires) },
        { "id_pattern", token->id_pattern },
        { "addresses", token->addresses },
        { "replaces", token->replaces ? "true" : "false" },
        { "reason", act->reason },
    };
    const struct audit_entry entry = { .event = AUDIT_TOKEN_CREATED,
                                       .actor = act->by,
                                       .source = act->source,
                                       .object = object,
                                       .correlation = act->correlation,
                                       .fields = fields,
                                       .n_fields = sizeof(fields) / sizeof(fields[0]) };
    return pass(pki_edit_audit(edit, &entry));
}

struct adding {
    struct pki_token_row row;
    struct pki_act act;
};

static int add(struct pki_edit *edit, void *ctx)
{
    struct adding *adding = ctx;

    return pass(pki_token_add(edit, &adding->row, &adding->act));
}

int pki_token_create(struct pki *pki,
                     const struct pki_token_wish *wish,
                     struct pki_token *ret,
                     struct tls_why *ret_why)
{
    struct adding adding = {
        .act = { .by = wish->made_by, .source = wish->source, .correlation = wish->correlation }
    };

    int r = pki_token_make(wish, clock_wall(), &adding.row, ret_why);
    if (r == 0)
        r = pki_change(pki, add, &adding, NULL);
    if (r != 0)
        return pass(r);
    *ret = adding.row.token;
    crypto_wipe(adding.row.token.secret, sizeof(adding.row.token.secret));
    return 0;
}

/* ---- looking and taking back ---- */

struct listing {
    struct arena *arena;
    struct pki_token *tokens;
    size_t n, capacity;
    bool has_failed;
};

static bool on_token(void *ctx, struct span key, struct span value)
{
    struct listing *listing = ctx;
    struct pki_token_row row;

    if (pki_token_row_decode(span_of(key.data + 1, key.len - 1), value, &row) != 0)
        return true; /* of a newer version */
    if (listing->n == listing->capacity) {
        size_t capacity = listing->capacity ? 2 * listing->capacity : 32;
        struct pki_token *grown = arena_alloc_array(listing->arena, capacity, sizeof(*grown));
        if (!grown) {
            listing->has_failed = true;
            return false;
        }
        if (listing->n > 0)
            memcpy(grown, listing->tokens, listing->n * sizeof(*grown));
        listing->tokens = grown;
        listing->capacity = capacity;
    }
    listing->tokens[listing->n++] = row.token;
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct pki_token *x = a, *y = b;

    if (x->created.us != y->created.us)
        return x->created.us > y->created.us ? -1 : 1;
    return strcmp(x->id, y->id);
}

int pki_token_list(struct pki *pki, struct arena *arena, struct pki_token **ret, size_t *ret_n)
{
    struct listing listing = { .arena = arena };

    int r = store_state_range(pki->store, STORE_TABLE_TOKENS, span_of_text("e"), false, on_token,
                              &listing);
    if (r != 0)
        return fold(r);
    if (listing.has_failed)
        return fault(-ENOMEM, "no room for a list of %zu tokens", listing.n);
    if (listing.n > 0)
        qsort(listing.tokens, listing.n, sizeof(*listing.tokens), newest_first);
    *ret = listing.tokens;
    *ret_n = listing.n;
    return 0;
}

struct revoking {
    const char *id;
    const struct pki_act *act;
};

static int revoke(struct pki_edit *edit, void *ctx)
{
    const struct revoking *revoking = ctx;
    struct pki_token_row row;
    char object[32];

    int r = pki_token_get(edit, revoking->id, &row);
    if (r == STORE_NOT_FOUND)
        return PKI_EDIT(PKI_UNKNOWN);
    if (r != 0)
        return pass(r);
    row.token.is_revoked = true;
    r = pki_token_put(edit, &row);
    if (r != 0)
        return pass(r);
    snprintf(object, sizeof(object), "token/%s", row.token.id);
    const struct audit_field reason = { "reason", revoking->act->reason };
    const struct audit_entry entry = { .event = AUDIT_TOKEN_REVOKED,
                                       .actor = revoking->act->by,
                                       .source = revoking->act->source,
                                       .object = object,
                                       .correlation = revoking->act->correlation,
                                       .fields = &reason,
                                       .n_fields = 1 };
    return pass(pki_edit_audit(edit, &entry));
}

int pki_token_revoke(struct pki *pki, const char *id, const struct pki_act *act)
{
    struct revoking revoking = { .id = id, .act = act };

    if (!pki_token_id_is_good(id))
        return PKI_UNKNOWN;
    return pass(pki_change(pki, revoke, &revoking, NULL));
}

/* ---- cleaning ---- */

#define MAX_CLEANED 256 /* in one transaction; the next round takes more */

struct cleaning {
    wall_us now;
    struct pki_token ended[MAX_CLEANED];
    size_t n_ended;
    char gone[MAX_CLEANED][IDENTITY_TOKEN_ID_BYTES + 1];
    size_t n_gone;
};

static bool look(void *ctx, struct span key, struct span value)
{
    struct cleaning *cleaning = ctx;
    struct pki_token_row row;

    if (pki_token_row_decode(span_of(key.data + 1, key.len - 1), value, &row) != 0)
        return true;
    const struct pki_token *token = &row.token;
    if (token->expires.us + PKI_TOKEN_LINGERS_US <= cleaning->now.us &&
        cleaning->n_gone < MAX_CLEANED)
        memcpy(cleaning->gone[cleaning->n_gone++], token->id, sizeof(token->id));
    /* The end of one that was used up or taken back is no news. */
    if (!row.is_end_told && token->expires.us <= cleaning->now.us && !token->is_revoked &&
        token->n_used < token->n_uses && cleaning->n_ended < MAX_CLEANED)
        cleaning->ended[cleaning->n_ended++] = *token;
    return true;
}

static int tell_end(struct pki_edit *edit, const struct pki_token *token)
{
    char object[32], used[16], uses[16];
    struct pki_token_row row;

    int r = pki_token_get(edit, token->id, &row);
    if (r != 0)
        return pass(r);
    row.is_end_told = true;
    r = pki_token_put(edit, &row);
    if (r != 0)
        return pass(r);
    snprintf(object, sizeof(object), "token/%s", token->id);
    snprintf(used, sizeof(used), "%" PRIu32, token->n_used);
    snprintf(uses, sizeof(uses), "%" PRIu32, token->n_uses);
    const struct audit_field fields[] = { { "used", used },
                                          { "uses", uses },
                                          { "made_by", token->made_by } };
    const struct audit_entry entry = { .event = AUDIT_TOKEN_EXPIRED,
                                       .actor = "hub",
                                       .object = object,
                                       .fields = fields,
                                       .n_fields = 3 };
    return pass(pki_edit_audit(edit, &entry));
}

static bool keep_use(void *ctx, struct span key, struct span value)
{
    struct buf *keys = ctx;

    (void) value;
    if (key.len == USE_KEY_BYTES)
        buf_append_span(keys, key);
    return true;
}

static int remove_token(struct pki_edit *edit, const char *id)
{
    CLEANUP(buf_deinit) struct buf keys = { 0 };
    uint8_t key[TOKEN_ROW_KEY_BYTES];
    const struct span nothing = { 0 };

    int r =
        store_change_each(edit->change, STORE_TABLE_TOKENS, row_key(key, 'u', id), keep_use, &keys);
    if (r == 0 && buf_failed(&keys))
        r = STORE_FULL;
    for (size_t at = 0; r == 0 && at < keys.len; at += USE_KEY_BYTES)
        r = pki_edit_put_raw(edit, STORE_TABLE_TOKENS, span_of(keys.data + at, USE_KEY_BYTES),
                             nothing);
    if (r == 0)
        r = pki_edit_put_raw(edit, STORE_TABLE_TOKENS, row_key(key, 'e', id), nothing);
    return pass(r);
}

int pki_tokens_clean(struct pki_edit *edit)
{
    struct cleaning *cleaning = arena_alloc(&edit->arena, sizeof(*cleaning));

    if (!cleaning)
        return STORE_FULL;
    cleaning->now = edit->now;
    int r = store_change_each(edit->change, STORE_TABLE_TOKENS, span_of_text("e"), look, cleaning);
    for (size_t i = 0; r == 0 && i < cleaning->n_ended; i++)
        r = tell_end(edit, &cleaning->ended[i]);
    for (size_t i = 0; r == 0 && i < cleaning->n_gone; i++)
        r = remove_token(edit, cleaning->gone[i]);
    return r == STORE_NOT_FOUND ? fold(r) : pass(r);
}
