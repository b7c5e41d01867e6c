#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rows of the table LIMITS; pure. Private to server/quota.
 *
 *   key ".generation"         u64: grows with each change
 *   key name                  numbers for all
 *   key name, NUL, who        numbers of one: an agent's id, a user's name, an address as
 *                             address_key() has it
 *
 *   0 +---------+
 *     | version |  u8 = 1
 *   1 | n       |  u64, little-endian
 *   9 | burst   |  u64
 *     +---------+
 */

#include <stdbool.h>

#include "common/base/span.h"
#include "server/quota/bucket.h"
#include "server/quota/quota.h"

#define SETTING_BYTES 17
#define SETTING_KEY_BYTES (64 + 1 + QUOTA_WHO_BYTES)

extern const char setting_generation_key[];

void setting_write(const struct bucket_numbers *numbers, uint8_t to[static SETTING_BYTES]);
bool setting_read(struct span value, struct bucket_numbers *ret);

/* Which limit, and who (empty: all). */
bool setting_key_read(struct span key, enum quota_limit *ret_limit, struct span *ret_who);

struct setting_row {
    const char *name, *unit, *help;
    enum quota_scope scope;
    struct bucket_numbers numbers; /* where none were set */
    int64_t per_us;
};
const struct setting_row *setting_row(enum quota_limit limit);
const char *setting_scope_name(enum quota_scope scope);
/* What `who` is counted as under this limit. The answer is `who` or lies in `to`; at most
 * QUOTA_WHO_BYTES of it. */
struct span setting_who(enum quota_scope scope, const char *who, char to[static 64]);
