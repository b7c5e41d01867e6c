/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/map.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/rand.h"

#define N_SLOTS_MIN 8

struct map_slot {
    uint64_t hash;
    struct span key;
    void *value; /* NULL: free */
};

/*
 * Drawn before the first slots of the process are made. Whoever sees slots got them from the thread
 * that made them, so looking up needs no barrier of its own.
 */
static uint64_t hash_key[2];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void draw_hash_key(void)
{
    if (getrandom(hash_key, sizeof(hash_key), 0) == (ssize_t) sizeof(hash_key))
        return;

    struct rand rand;

    rand_init_from_system(&rand);
    hash_key[0] = rand_u64(&rand);
    hash_key[1] = rand_u64(&rand);
}

#define ROTATE_LEFT(x, n) (((x) << (n)) | ((x) >> (64 - (n))))

static inline void sip_round(uint64_t v[static 4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = ROTATE_LEFT(v[1], 13) ^ v[0];
    v[3] = ROTATE_LEFT(v[3], 16) ^ v[2];
    v[0] = ROTATE_LEFT(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = ROTATE_LEFT(v[1], 17) ^ v[2];
    v[3] = ROTATE_LEFT(v[3], 21) ^ v[0];
    v[2] = ROTATE_LEFT(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein, 2012). Its bytes never leave the process: the byte order is
 * the machine's. */
static uint64_t hash_of(struct span key)
{
    uint64_t v[4] = {
        hash_key[0] ^ 0x736f6d6570736575u,
        hash_key[1] ^ 0x646f72616e646f6du,
        hash_key[0] ^ 0x6c7967656e657261u,
        hash_key[1] ^ 0x7465646279746573u,
    };
    size_t n_whole = key.len & ~(size_t) 7;
    uint64_t word;

    for (size_t i = 0; i < n_whole; i += 8) {
        memcpy(&word, key.data + i, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }

    word = (uint64_t) key.len << 56;
    for (size_t i = n_whole; i < key.len; i++)
        word |= (uint64_t) key.data[i] << (8 * (i - n_whole));
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;

    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The slot that holds the key, or the free one where it would go. There is always a free one. */
static size_t find(const struct map *map, uint64_t hash, struct span key)
{
    size_t at = hash & (map->n_slots - 1);

    while (map->slots[at].value &&
           (map->slots[at].hash != hash || !span_equal(map->slots[at].key, key)))
        at = (at + 1) & (map->n_slots - 1);
    return at;
}

static int grow(struct map *map)
{
    size_t n_slots = map->n_slots ? map->n_slots * 2 : N_SLOTS_MIN;
    struct map_slot *slots = calloc(n_slots, sizeof(*slots));

    if (!slots)
        return fault(-ENOMEM, "no memory for a map of %zu slots", n_slots);
    pthread_once(&hash_key_once, draw_hash_key);

    for (size_t i = 0; i < map->n_slots; i++) {
        if (!map->slots[i].value)
            continue;

        size_t at = map->slots[i].hash & (n_slots - 1);

        while (slots[at].value)
            at = (at + 1) & (n_slots - 1);
        slots[at] = map->slots[i];
    }
    free(map->slots);
    map->slots = slots;
    map->n_slots = n_slots;
    return 0;
}

void map_deinit(struct map *map)
{
    free(map->slots);
    *map = (struct map){ 0 };
}

void *map_get(const struct map *map, struct span key)
{
    if (map->n_entries == 0)
        return NULL;
    return map->slots[find(map, hash_of(key), key)].value;
}

int map_put(struct map *map, struct span key, void *value)
{
    ensure(value);
    ensure(map->n_entries <= map->n_slots);

    if (map->n_slots == 0) {
        int r = grow(map);

        if (r < 0)
            return pass(r);
    }

    uint64_t hash = hash_of(key);
    size_t at = find(map, hash, key);

    if (!map->slots[at].value) {
        if ((map->n_entries + 1) * 4 > map->n_slots * 3) {
            int r = grow(map);

            if (r < 0)
                return pass(r);
            at = find(map, hash, key);
        }
        map->n_entries++;
    }
    map->slots[at] = (struct map_slot){ hash, key, value };
    return 0;
}

void *map_remove(struct map *map, struct span key)
{
    if (map->n_entries == 0)
        return NULL;

    size_t mask = map->n_slots - 1;
    size_t hole = find(map, hash_of(key), key);
    void *value = map->slots[hole].value;

    if (!value)
        return NULL;

    /* Whatever behind the hole would no longer be found from its own place moves up into it. */
    for (size_t at = (hole + 1) & mask; map->slots[at].value; at = (at + 1) & mask) {
        size_t home = map->slots[at].hash & mask;

        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        map->slots[hole] = map->slots[at];
        hole = at;
    }
    map->slots[hole] = (struct map_slot){ 0 };
    map->n_entries--;
    return value;
}

void *map_next(const struct map *map, size_t *at)
{
    while (*at < map->n_slots) {
        void *value = map->slots[(*at)++].value;

        if (value)
            return value;
    }
    return NULL;
}
