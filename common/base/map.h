#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Map: a hash table from bytes to a pointer. Open addressing, linear probing, at most 3/4 full;
 * keys are hashed with SipHash-1-3 under a key of this process, so that input cannot choose
 * collisions.
 *
 * Keys are borrowed: they must live, unchanged, as long as the entry (they usually lie in the
 * value). Threads: none.
 */

#include "common/base/cleanup.h"
#include "common/base/span.h"

struct map_slot;

/* The zero value is an empty map. */
struct map {
    struct map_slot *slots;
    size_t n_entries;
    size_t n_slots;
};

void map_deinit(struct map *map);

/* NULL when absent. */
void *map_get(const struct map *map, struct span key);

/* Adds or replaces; the entry's key becomes the one given. `value` is not NULL. Faults: no memory.
 */
int map_put(struct map *map, struct span key, void *value) MUST_USE;

/* Returns what was there, or NULL. */
void *map_remove(struct map *map, struct span key);

/* Walks in no order: start with *at = 0; NULL at the end. The map must not change meanwhile, but
 * the entry that was given last may be removed: then *at is taken back by one, and others may be
 * given twice. */
void *map_next(const struct map *map, size_t *at);
