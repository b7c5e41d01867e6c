#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Enrolment tokens as they lie in the table TOKENS, under 'e' and the id. Private to server/pki.
 *
 * The secret is kept as HMAC-SHA256 under a random key of the hub (META "pki.token_key"), over id
 * and secret.
 *
 * Thread: any.
 */

#include "common/crypto/crypto.h"
#include "server/pki/registry/registry.h"

#define PKI_LABEL_KEY_BYTES 64
#define PKI_LABEL_VALUE_BYTES 256

struct pki_token_label {
    char key[PKI_LABEL_KEY_BYTES], value[PKI_LABEL_VALUE_BYTES];
};
struct pki_token_row {
    struct pki_token token; /* without its secret */
    uint8_t mac[CRYPTO_SHA256_BYTES];
    bool is_end_told; /* its expiry is on record */
    uint32_t n_labels;
    struct pki_token_label labels[PKI_MAX_LABELS];
};
void pki_token_row_encode(const struct pki_token_row *row, struct buf *to);
/* Outcomes: PKI_BAD. */
int pki_token_row_decode(struct span id, struct span value, struct pki_token_row *ret) MUST_USE;
