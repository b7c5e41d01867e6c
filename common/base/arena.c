/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/ensure.h"

#define BLOCK_BYTES_MIN ((size_t) 64 * 1024)
#define BLOCK_BYTES_MAX ((size_t) 256 * 1024)

/* A part this large gets a block of its own, so that it never closes a half-empty one. */
#define LARGE_BYTES (BLOCK_BYTES_MIN / 4)

/* Under AddressSanitizer only what was handed out may be touched, with a gap between two parts. */
#ifdef __SANITIZE_ADDRESS__
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif

#if defined(HAS_ASAN) && __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#define GAP_BYTES sizeof(max_align_t)
#else
#define ASAN_POISON_MEMORY_REGION(data, len) ((void) (data), (void) (len))
#define ASAN_UNPOISON_MEMORY_REGION(data, len) ((void) (data), (void) (len))
#define GAP_BYTES ((size_t) 0)
#endif

struct arena_block {
    struct arena_block *next;
    size_t used_bytes;
    size_t capacity_bytes;
    alignas(max_align_t) unsigned char data[];
};

/* Only for sizes that are known to be far below SIZE_MAX. */
static size_t round_up(size_t size)
{
    return (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
}

static void block_free(struct arena_block *block)
{
    ASAN_UNPOISON_MEMORY_REGION(block->data, block->capacity_bytes);
    free(block);
}

/* Large blocks go behind the first, which stays the one that small parts are cut from. */
static struct arena_block *add_block(struct arena *arena, size_t capacity, bool is_large)
{
    struct arena_block *block = malloc(sizeof(*block) + capacity);

    if (!block)
        return NULL;
    block->used_bytes = 0;
    block->capacity_bytes = capacity;
    ASAN_POISON_MEMORY_REGION(block->data, capacity);

    if (is_large && arena->blocks) {
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
    }
    return block;
}

static struct arena_block *block_for(struct arena *arena, size_t need)
{
    struct arena_block *first = arena->blocks;

    if (first && need <= first->capacity_bytes - first->used_bytes)
        return first;
    if (need >= LARGE_BYTES)
        return add_block(arena, need, true);

    /* Each block is as large as everything before, within bounds, and never more than the limit can
     * still fill. */
    size_t capacity = arena->used_bytes;
    size_t left = arena->limit_bytes - arena->used_bytes;

    if (capacity < BLOCK_BYTES_MIN)
        capacity = BLOCK_BYTES_MIN;
    if (capacity > BLOCK_BYTES_MAX)
        capacity = BLOCK_BYTES_MAX;
    if (capacity > left)
        capacity = round_up(left);
    if (capacity < need)
        capacity = need;
    return add_block(arena, capacity, false);
}

void arena_init(struct arena *arena, size_t limit_bytes)
{
    *arena = (struct arena){ .limit_bytes = limit_bytes };
}

void arena_deinit(struct arena *arena)
{
    struct arena_block *next;

    for (struct arena_block *b = arena->blocks; b; b = next) {
        next = b->next;
        block_free(b);
    }
    *arena = (struct arena){ 0 };
}

void arena_reset(struct arena *arena, size_t limit_bytes)
{
    struct arena_block *keep = NULL;
    struct arena_block *next;

    for (struct arena_block *b = arena->blocks; b; b = next) {
        next = b->next;
        if (b->capacity_bytes > BLOCK_BYTES_MAX ||
            (keep && keep->capacity_bytes >= b->capacity_bytes)) {
            block_free(b);
            continue;
        }
        if (keep)
            block_free(keep);
        keep = b;
    }
    if (keep) {
        keep->next = NULL;
        keep->used_bytes = 0;
        ASAN_POISON_MEMORY_REGION(keep->data, keep->capacity_bytes);
    }
    *arena = (struct arena){ .blocks = keep, .limit_bytes = limit_bytes };
}

void *arena_alloc(struct arena *arena, size_t size)
{
    ensure(arena->used_bytes <= arena->limit_bytes);

    if (size == 0)
        size = 1;

    size_t left = arena->limit_bytes - arena->used_bytes;

    if (size > left || size > SIZE_MAX / 2) {
        arena->is_exhausted = true;
        return NULL;
    }

    size_t rounded = round_up(size);
    struct arena_block *block = block_for(arena, rounded + GAP_BYTES);

    if (!block)
        return NULL;

    unsigned char *data = block->data + block->used_bytes;

    block->used_bytes += rounded + GAP_BYTES;
    ensure(block->used_bytes <= block->capacity_bytes);
    /* What rounding costs is charged too: a million single bytes must not pass as one megabyte. */
    arena->used_bytes += rounded < left ? rounded : left;

    ASAN_UNPOISON_MEMORY_REGION(data, size);
    return memset(data, 0, size);
}

void *arena_alloc_array(struct arena *arena, size_t n_items, size_t item_bytes)
{
    size_t size;

    if (__builtin_mul_overflow(n_items, item_bytes, &size)) {
        arena->is_exhausted = true;
        return NULL;
    }
    return arena_alloc(arena, size);
}

char *arena_copy(struct arena *arena, struct span bytes)
{
    if (bytes.len == SIZE_MAX) {
        arena->is_exhausted = true;
        return NULL;
    }

    char *copy = arena_alloc(arena, bytes.len + 1);

    if (copy && bytes.len > 0)
        memcpy(copy, bytes.data, bytes.len);
    return copy;
}

char *arena_copy_text(struct arena *arena, const char *text)
{
    return arena_copy(arena, span_of_text(text));
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args;
    va_list again;
    char *text = NULL;

    va_start(args, fmt);
    va_copy(again, args);

    int len = vsnprintf(NULL, 0, fmt, args);

    if (len >= 0)
        text = arena_alloc(arena, (size_t) len + 1);
    if (text)
        vsnprintf(text, (size_t) len + 1, fmt, again);

    va_end(again);
    va_end(args);
    return text;
}
