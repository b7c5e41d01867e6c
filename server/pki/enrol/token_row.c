/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/ensure.h"
#include "server/pki/enrol/tokens.h"
#include "server/pki/registry/codec.h"

/*
 * Table TOKENS, 'e' id (little-endian; "text" = u16 length, bytes):
 *
 *    0 +---------+-------+----------+
 *      | version | flags | n_labels |             u8 each; version 1
 *    3 +---------+-------+----------+
 *      | created | expires          |             i64 each
 *   19 | n_uses  | n_used           |             u32 each
 *   27 | HMAC-SHA256 of the secret  |             32 bytes
 *   59 +----------------------------+-----------------------------------+
 *      | text pattern | text range | text made by | text key, text value ... |
 *      +----------------------------------------------------------------+
 */
#define TOKEN_VERSION 1

enum token_flag { IS_REVOKED = 1, REPLACES = 2, IS_END_TOLD = 4, ALL_FLAGS = 7 };

void pki_token_row_encode(const struct pki_token_row *row, struct buf *to)
{
    const struct pki_token *token = &row->token;
    const unsigned flags = (token->is_revoked ? (unsigned) IS_REVOKED : 0) |
                           (token->replaces ? (unsigned) REPLACES : 0) |
                           (row->is_end_told ? (unsigned) IS_END_TOLD : 0);

    ensure(row->n_labels <= PKI_MAX_LABELS);
    pki_put_u8(to, TOKEN_VERSION);
    pki_put_u8(to, (uint8_t) flags);
    pki_put_u8(to, (uint8_t) row->n_labels);
    pki_put_u64(to, (uint64_t) token->created.us);
    pki_put_u64(to, (uint64_t) token->expires.us);
    pki_put_u32(to, token->n_uses);
    pki_put_u32(to, token->n_used);
    buf_append(to, row->mac, sizeof(row->mac));
    pki_put_text(to, token->id_pattern);
    pki_put_text(to, token->addresses);
    pki_put_text(to, token->made_by);
    for (uint32_t i = 0; i < row->n_labels; i++) {
        pki_put_text(to, row->labels[i].key);
        pki_put_text(to, row->labels[i].value);
    }
}

int pki_token_row_decode(struct span id, struct span value, struct pki_token_row *ret)
{
    struct pki_reader reader = { .rest = value };
    struct pki_token_row row = { 0 };
    struct pki_token *token = &row.token;

    if (id.len != IDENTITY_TOKEN_ID_BYTES || memchr(id.data, 0, id.len))
        return PKI_BAD;
    memcpy(token->id, id.data, id.len);
    uint8_t version = pki_get_u8(&reader);
    uint8_t flags = pki_get_u8(&reader);
    row.n_labels = pki_get_u8(&reader);
    if (version != TOKEN_VERSION || flags & ~ALL_FLAGS || row.n_labels > PKI_MAX_LABELS)
        return PKI_BAD;
    token->is_revoked = flags & IS_REVOKED;
    token->replaces = flags & REPLACES;
    row.is_end_told = flags & IS_END_TOLD;
    token->created.us = (int64_t) pki_get_u64(&reader);
    token->expires.us = (int64_t) pki_get_u64(&reader);
    token->n_uses = pki_get_u32(&reader);
    token->n_used = pki_get_u32(&reader);
    pki_get_bytes(&reader, row.mac, sizeof(row.mac));
    pki_get_text(&reader, token->id_pattern, sizeof(token->id_pattern));
    pki_get_text(&reader, token->addresses, sizeof(token->addresses));
    pki_get_text(&reader, token->made_by, sizeof(token->made_by));
    for (uint32_t i = 0; i < row.n_labels; i++) {
        pki_get_text(&reader, row.labels[i].key, sizeof(row.labels[i].key));
        pki_get_text(&reader, row.labels[i].value, sizeof(row.labels[i].value));
    }
    if (reader.is_bad || token->n_used > token->n_uses)
        return PKI_BAD;
    *ret = row;
    return 0;
}
