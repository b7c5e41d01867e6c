#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Numbers as protobuf has them in a message. Private to bench. */

#include <stddef.h>
#include <stdint.h>

#define VARINT_BYTES 10 /* at most */

static inline size_t varint_bytes(uint64_t value)
{
    size_t n = 1;

    while (value >>= 7)
        n++;
    return n;
}

/* Returns the end of what was written. */
static inline uint8_t *put_varint(uint8_t *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *to++ = (uint8_t) (value | 0x80);
    *to++ = (uint8_t) value;
    return to;
}
