#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Numbers that look random and are a pure function of their input. Threads: any. */

#include <stdint.h>

/* The finaliser of splitmix64: every bit of the input moves every bit of the output. */
static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t mix_pair(uint32_t high, uint32_t low)
{
    return mix((((uint64_t) high << 32) | low) + UINT64_C(0x9e3779b97f4a7c15));
}

/* 0 .. bound - 1 without a division. */
static inline uint64_t mix_below(uint64_t hash, uint32_t bound)
{
    return ((hash >> 32) * bound) >> 32;
}
