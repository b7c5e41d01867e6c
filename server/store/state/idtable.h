#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Idtable: id (1 ..) -> pointer, growing. Pages never move, so readers need no lock; one thread at
 * a time puts.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base/cleanup.h"

#define IDTABLE_PAGE 4096u
#define IDTABLE_PAGES 1024u
#define IDTABLE_MAX (IDTABLE_PAGE * IDTABLE_PAGES)

struct idtable_page {
    _Atomic(void *) slots[IDTABLE_PAGE];
};

struct idtable {
    _Atomic(struct idtable_page *) pages[IDTABLE_PAGES];
    _Atomic uint32_t highest; /* id; 0: empty */
};

static inline void *idtable_get(struct idtable *table, uint32_t id)
{
    struct idtable_page *page;

    if (id == 0 || id > atomic_load_explicit(&table->highest, memory_order_acquire))
        return NULL;
    page = atomic_load_explicit(&table->pages[(id - 1) / IDTABLE_PAGE], memory_order_acquire);
    return page ? atomic_load_explicit(&page->slots[(id - 1) % IDTABLE_PAGE], memory_order_acquire)
                : NULL;
}

/* False: no memory, or the id is above IDTABLE_MAX. */
static inline bool idtable_put(struct idtable *table, uint32_t id, void *value)
{
    struct idtable_page *page;

    if (id == 0 || id > IDTABLE_MAX)
        return false;
    page = atomic_load_explicit(&table->pages[(id - 1) / IDTABLE_PAGE], memory_order_acquire);
    if (!page) {
        page = calloc(1, sizeof(*page));
        if (!page)
            return false;
        atomic_store_explicit(&table->pages[(id - 1) / IDTABLE_PAGE], page, memory_order_release);
    }
    atomic_store_explicit(&page->slots[(id - 1) % IDTABLE_PAGE], value, memory_order_release);
    if (id > atomic_load_explicit(&table->highest, memory_order_relaxed))
        atomic_store_explicit(&table->highest, id, memory_order_release);
    return true;
}

static inline uint32_t idtable_highest(struct idtable *table)
{
    return atomic_load_explicit(&table->highest, memory_order_acquire);
}

/* The values are the caller's. */
static inline void idtable_deinit(struct idtable *table)
{
    for (unsigned i = 0; i < IDTABLE_PAGES; i++)
        free(atomic_load_explicit(&table->pages[i], memory_order_relaxed));
}
