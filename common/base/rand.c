/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/rand.h"

#include <stddef.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/ensure.h"

static uint64_t rotate_left(uint64_t x, int n_bits)
{
    return (x << n_bits) | (x >> (64 - n_bits));
}

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void rand_init(struct rand *rand, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++)
        rand->state[i] = splitmix64(&seed);
}

void rand_init_from_system(struct rand *rand)
{
    uint64_t seed;

    /* Nothing here is secret, so a kernel without getrandom() is no reason to stop. */
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t) sizeof(seed))
        seed = (uint64_t) clock_wall().us ^ rotate_left((uint64_t) clock_mono().us, 32) ^
               rotate_left((uint64_t) getpid(), 48);
    rand_init(rand, seed);
}

uint64_t rand_u64(struct rand *rand)
{
    uint64_t *s = rand->state;

    /* All zero is the one state that it never leaves: rand_init() was forgotten. */
    ensure(s[0] | s[1] | s[2] | s[3]);

    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t rand_below(struct rand *rand, uint64_t bound)
{
    uint64_t x;

    ensure(bound >= 1);

    /* The lowest 2^64 mod bound values would make some remainders more likely. */
    uint64_t n_refused = (0 - bound) % bound;

    do {
        x = rand_u64(rand);
    } while (x < n_refused);
    return x % bound;
}

double rand_unit(struct rand *rand)
{
    return (double) (rand_u64(rand) >> 11) * 0x1p-53;
}
