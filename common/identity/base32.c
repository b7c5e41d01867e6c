/* SPDX-License-Identifier: Apache-2.0 */
#include "common/identity/identity.h"

/* RFC 4648 section 6, in lower case and without padding: 5 bits a character, the highest first. */

static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";

void identity_base32_print(struct span bytes, struct buf *to)
{
    uint32_t bits = 0;
    unsigned n_bits = 0;

    for (size_t i = 0; i < bytes.len; i++) {
        bits = bits << 8 | bytes.data[i];
        for (n_bits += 8; n_bits >= 5; n_bits -= 5)
            buf_append(to, &digits[bits >> (n_bits - 5) & 31], 1);
    }
    if (n_bits > 0)
        buf_append(to, &digits[bits << (5 - n_bits) & 31], 1);
}

static int value_of(uint8_t c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    return c >= '2' && c <= '7' ? c - '2' + 26 : -1;
}

bool identity_base32_parse(struct span text, uint8_t *to, size_t len)
{
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t n = 0;

    if (text.len != (len * 8 + 4) / 5)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        int value = value_of(text.data[i]);

        if (value < 0)
            return false;
        bits = (bits << 5 | (uint32_t) value) & 0xfff;
        n_bits += 5;
        if (n_bits >= 8) {
            n_bits -= 8;
            to[n++] = (uint8_t) (bits >> n_bits);
        }
    }
    return (bits & ((1u << n_bits) - 1)) == 0;
}
