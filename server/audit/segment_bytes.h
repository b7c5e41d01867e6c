#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Numbers in segments, for the two files that know their bytes. */

#include <stddef.h>
#include <stdint.h>

#define segment_magic "sentinel-audit-1"

static inline uint64_t segment_get(const uint8_t *from, size_t n_bytes)
{
    uint64_t value = 0;

    for (size_t i = n_bytes; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

static inline void segment_set(uint8_t *to, uint64_t value, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        to[i] = (uint8_t) (value >> (8 * i));
}
