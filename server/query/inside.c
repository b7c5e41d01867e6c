/* SPDX-License-Identifier: Apache-2.0 */
#include "server/query/inside.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"

#define PAGE_SIZE_DEFAULT 100
#define PAGE_SIZE_MAX 1000
/* It is matched against each agent or metric: without an end to it one message asks for hours. */
#define MAX_PATTERN_BYTES 1024

/*
 * A token before hex:   0           16           32
 *                       | digest    | MAC        | name behind which to go on
 */
#define TOKEN_DIGEST_BYTES QUERY_DIGEST_BYTES
#define TOKEN_MAC_BYTES 16
#define TOKEN_HEAD_BYTES (TOKEN_DIGEST_BYTES + TOKEN_MAC_BYTES)
#define TOKEN_MAX_BYTES ((size_t) 256 << 10) /* all labels of a series, and to spare */

int query_refuse(struct query_problem *problem,
                 int outcome,
                 const char *field,
                 const char *fmt,
                 ...)
{
    va_list args;

    snprintf(problem->field, sizeof(problem->field), "%s", field);
    va_start(args, fmt);
    vsnprintf(problem->description, sizeof(problem->description), fmt, args);
    va_end(args);
    return outcome;
}

void query_digest_add(struct query_digest *digest, const char *text)
{
    buf_append(&digest->text, text ? text : "", text ? strlen(text) + 1 : 1);
}

void query_digest_add_u64(struct query_digest *digest, uint64_t value)
{
    buf_append(&digest->text, &value, sizeof(value));
}

void query_digest_add_selector(struct query_digest *digest, const struct query_selector *selector)
{
    query_digest_add_u64(digest, selector->n_ids);
    for (size_t i = 0; i < selector->n_ids; i++)
        query_digest_add(digest, selector->ids[i]);
    query_digest_add(digest, selector->pattern);
    query_digest_add_u64(digest, selector->n_labels);
    for (size_t i = 0; i < selector->n_labels; i++) {
        query_digest_add(digest, selector->labels[i].key);
        query_digest_add(digest, selector->labels[i].value);
    }
}

static void token_mac(const struct query *query,
                      const uint8_t digest[static TOKEN_DIGEST_BYTES],
                      struct span behind,
                      uint8_t ret[static CRYPTO_SHA256_BYTES])
{
    struct buf text = { 0 };

    buf_append(&text, digest, TOKEN_DIGEST_BYTES);
    buf_append_span(&text, behind);
    crypto_hmac_sha256(span_of(query->token_key, sizeof(query->token_key)), buf_span(&text), ret);
    buf_deinit(&text);
}

void query_digest_end(struct query_digest *digest, uint8_t ret[static QUERY_DIGEST_BYTES])
{
    uint8_t sha256[CRYPTO_SHA256_BYTES];

    crypto_sha256(buf_span(&digest->text), sha256);
    buf_deinit(&digest->text);
    memcpy(ret, sha256, QUERY_DIGEST_BYTES);
}

int query_token_make_of(const struct query *query,
                        const uint8_t question[static QUERY_DIGEST_BYTES],
                        const char *behind,
                        struct arena *arena,
                        const char **ret)
{
    uint8_t mac[CRYPTO_SHA256_BYTES];
    struct buf token = { 0 };
    char *text;

    token_mac(query, question, span_of_text(behind), mac);
    buf_append(&token, question, TOKEN_DIGEST_BYTES);
    buf_append(&token, mac, TOKEN_MAC_BYTES);
    buf_append_text(&token, behind);
    text = buf_failed(&token) ? NULL : arena_alloc(arena, 2 * token.len + 1);
    if (text)
        *ret = text_of_hex(token.data, token.len, text);
    buf_deinit(&token);
    return text ? 0 : fault(-ENOMEM, "page token");
}

int query_token_make(const struct query *query,
                     struct query_digest *digest,
                     const char *behind,
                     struct arena *arena,
                     const char **ret)
{
    uint8_t question[QUERY_DIGEST_BYTES];

    query_digest_end(digest, question);
    return pass(query_token_make_of(query, question, behind, arena, ret));
}

int query_token_read_of(const struct query *query,
                        const uint8_t question[static QUERY_DIGEST_BYTES],
                        const char *token,
                        struct arena *arena,
                        const char **ret_behind,
                        struct query_problem *problem)
{
    uint8_t mac[CRYPTO_SHA256_BYTES];
    uint8_t *bytes;
    size_t len = token ? strlen(token) : 0;

    *ret_behind = NULL;
    if (len == 0)
        return 0;
    bytes = arena_alloc(arena, len / 2 + 1);
    if (!bytes)
        return fault(-ENOMEM, "page token");
    if (len % 2 || len / 2 < TOKEN_HEAD_BYTES || len / 2 > TOKEN_MAX_BYTES ||
        text_to_hex(token, bytes, len / 2))
        return query_refuse(problem, QUERY_BAD, "page_token", "not a page token of this hub");
    len /= 2;
    token_mac(query, bytes, span_of(bytes + TOKEN_HEAD_BYTES, len - TOKEN_HEAD_BYTES), mac);
    if (!crypto_equal(mac, bytes + TOKEN_DIGEST_BYTES, TOKEN_MAC_BYTES))
        return query_refuse(problem, QUERY_BAD, "page_token",
                            "not a page token of this hub, or from before its restart; ask for "
                            "the first page again");
    if (memcmp(bytes, question, TOKEN_DIGEST_BYTES) != 0)
        return query_refuse(problem, QUERY_BAD, "page_token",
                            "belongs to another question; send the same fields with it");
    *ret_behind = arena_copy(arena, span_of(bytes + TOKEN_HEAD_BYTES, len - TOKEN_HEAD_BYTES));
    return *ret_behind ? 0 : fault(-ENOMEM, "page token");
}

int query_token_read(const struct query *query,
                     struct query_digest *digest,
                     const char *token,
                     struct arena *arena,
                     const char **ret_behind,
                     struct query_problem *problem)
{
    uint8_t question[QUERY_DIGEST_BYTES];

    query_digest_end(digest, question);
    return pass(query_token_read_of(query, question, token, arena, ret_behind, problem));
}

int query_check_pattern(const char *pattern, const char *field, struct query_problem *problem)
{
    size_t len = pattern ? strnlen(pattern, MAX_PATTERN_BYTES + 1) : 0;

    if (len <= MAX_PATTERN_BYTES)
        return 0;
    return query_refuse(problem, QUERY_BAD, field, "longer than %d bytes", MAX_PATTERN_BYTES);
}

int query_page_size(uint32_t *page_size, struct query_problem *problem)
{
    if (*page_size == 0)
        *page_size = PAGE_SIZE_DEFAULT;
    if (*page_size > PAGE_SIZE_MAX)
        return query_refuse(problem, QUERY_BAD, "page_size",
                            "at most %d; ask for the next page with next_page_token",
                            PAGE_SIZE_MAX);
    return 0;
}
