#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Arena: memory with one owner and one end.
 *
 * An arena belongs to one unit of work (an RPC call, a collection tick). Parts are never freed on
 * their own; arena_deinit() frees them all, arena_reset() too but keeps the first block for the
 * next unit. The byte limit is fixed at init, so decoding hostile input cannot grow it past that.
 *
 * Threads: none; an arena belongs to the thread that works with it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/span.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used_bytes;          /* handed out since init or reset */
    size_t limit_bytes;
    bool is_exhausted; /* an allocation was refused for the limit */
};

void arena_init(struct arena *arena, size_t limit_bytes);
void arena_deinit(struct arena *arena);

/* Everything handed out is gone; the limit may change for the next unit of work. Keeps at most one
 * block of 256 KiB. */
void arena_reset(struct arena *arena, size_t limit_bytes);

/*
 * Returns `size` zeroed bytes aligned for any type, owned by the arena, or NULL past the limit or
 * out of memory.
 */
void *arena_alloc(struct arena *arena, size_t size) MUST_USE;

/* n_items x item_bytes, overflow checked. */
void *arena_alloc_array(struct arena *arena, size_t n_items, size_t item_bytes) MUST_USE;

/* Copies, with a NUL behind. NULL as arena_alloc(). */
char *arena_copy(struct arena *arena, struct span bytes) MUST_USE;
char *arena_copy_text(struct arena *arena, const char *text) MUST_USE;
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3) MUST_USE;
