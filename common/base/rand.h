#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Random numbers that need no secrecy: jitter, back-off, sampling. Secrets come from common/crypto.
 *
 * xoshiro256** (Blackman and Vigna, 2018), seeded by splitmix64.
 * Threads: none; each user owns its generator.
 */

#include <stdint.h>

struct rand {
    uint64_t state[4];
};

void rand_init(struct rand *rand, uint64_t seed);

/* Seeds from the kernel. */
void rand_init_from_system(struct rand *rand);

uint64_t rand_u64(struct rand *rand);

/* Uniform in 0 .. bound - 1; bound at least 1. */
uint64_t rand_below(struct rand *rand, uint64_t bound);

/* Uniform in 0 <= x < 1. */
double rand_unit(struct rand *rand);
