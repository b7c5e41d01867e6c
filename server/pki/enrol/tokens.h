#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Enrolment tokens as they lie in the table TOKENS: 'e' id, and 'u' id key for each use. Private to
 * server/pki.
 *
 * The secret is kept as HMAC-SHA256 under a random key of the hub (META "pki.token_key"), over id
 * and secret.
 *
 * Thread: any.
 */

#include "common/crypto/crypto.h"
#include "server/pki/inside.h"

#define PKI_LABEL_KEY_BYTES 64 /* with NUL; values are cut nowhere, they are refused */
#define PKI_LABEL_VALUE_BYTES 256
#define PKI_TOKEN_LINGERS_US (INT64_C(24) * 3600 * 1000000) /* after its end, to be looked at */

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

/* 8 characters of a-z 2-7: fit for an entry of the audit, and for a key. */
bool pki_token_id_is_good(const char *id);

/* A wish that keeps the rules becomes a row, its secret too. Outcomes: PKI_BAD_NAME. */
int pki_token_make(const struct pki_token_wish *wish,
                   wall_us now,
                   struct pki_token_row *ret,
                   struct tls_why *ret_why) MUST_USE;
/* Writes a new one (its secret is in row->token) with its audit entry. */
int pki_token_add(struct pki_edit *edit,
                  struct pki_token_row *row,
                  const struct pki_act *act) MUST_USE;

/* The row of a token in a transaction. Outcomes: STORE_NOT_FOUND. */
int pki_token_get(struct pki_edit *edit, const char *id, struct pki_token_row *ret) MUST_USE;
int pki_token_put(struct pki_edit *edit, const struct pki_token_row *row) MUST_USE;
/* The certificate that this public key got by this token. Outcomes: STORE_NOT_FOUND. */
int pki_token_use_get(struct pki_edit *edit,
                      const char *id,
                      const uint8_t key_sha256[32],
                      uint8_t ret_sha256[32]) MUST_USE;
int pki_token_use_put(struct pki_edit *edit,
                      const char *id,
                      const uint8_t key_sha256[32],
                      const uint8_t sha256[32]) MUST_USE;
/*
 * Whether the secret is right, in time that does not depend on it; also for an id that there is
 * not. In a transaction.
 */
int pki_token_check(struct pki_edit *edit,
                    const char *id,
                    struct span secret,
                    struct pki_token_row *ret,
                    bool *ret_is_right) MUST_USE;
/* Puts the ends of tokens on record and removes what is long over. */
int pki_tokens_clean(struct pki_edit *edit) MUST_USE;
