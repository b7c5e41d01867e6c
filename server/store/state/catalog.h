#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Catalog: definitions and layouts, all in memory, immutable from their commit to the close.
 *
 * A definition's text is what lies in `state` under its id and what identifies it:
 *
 *   +0  u8 kind
 *   +1  name NUL unit NUL, then for each attribute: key NUL value NUL
 *
 * No part can hold a NUL, so two definitions have one text if and only if they are equal. The table
 * in memory finds it by the whole text under a keyed hash: input cannot choose collisions, and no
 * digest is needed on disk, where nothing looks one up.
 *
 * What a transaction of `state` is about to add is known to the state writer alone until the
 * commit: a batch must never name an id that is not on disk.
 */

#include <pthread.h>

#include "common/base/map.h"
#include "server/store/state/idtable.h"
#include "server/store/state/state.h"

struct definition;
struct layout;

struct catalog {
    struct state *state;
    bool (*is_disk_full)(void *ctx);
    void *ctx;
    struct idtable definitions, layouts;
    pthread_rwlock_t lock; /* the three maps */
    struct map by_text, by_metric, by_ids;
    uint32_t least_definition, least_layout; /* ids below were given */
    /* The state writer's, within a transaction. */
    struct {
        struct map by_text, by_ids;
        struct definition *definitions;
        struct layout *layouts;
        uint32_t next_definition, next_layout;
    } pending;
};

/* The name in a definition's text; NULL: it is none. */
const char *catalog_name_in(struct span text);

/* Reads all from `state`. */
int catalog_open(struct catalog *catalog, struct state *state) MUST_USE;
void catalog_close(struct catalog *catalog);

/* Before the threads: reads all again. Pointers into it are void. */
int catalog_reload(struct catalog *catalog) MUST_USE;
/* Puts the next ids into META "catalog.next" (u32 definition, u32 layout): ids that are forgotten
 * are not given again. */
int catalog_keep_next(struct catalog *catalog, MDB_txn *txn) MUST_USE;

/* The transaction of `state` ended: with 0 what was pending is visible, else it is gone. */
void catalog_settle(struct catalog *catalog, int r);

/* As store_intern(). */
int catalog_intern(struct catalog *catalog, struct store_intern *request) MUST_USE;

const struct store_definition *catalog_definition(struct catalog *catalog, uint32_t id);
const struct store_layout *catalog_layout(struct catalog *catalog, uint32_t id);
size_t
catalog_definitions_of(struct catalog *catalog, const char *metric, uint32_t *to, size_t max);
