/* SPDX-License-Identifier: Apache-2.0 */

/* Blocks of the chosen hours, and the rows of a slice of a layout out of them. */

#include <errno.h>
#include <stdlib.h>

#include "common/base/fault.h"
#include "server/store/rollup/roller.h"
#include "server/store/whole.h"

/* ---- blocks ---- */

static int by_seal(const void *a, const void *b)
{
    const struct found_block *x = a, *y = b;

    return (x->key.seal > y->key.seal) - (x->key.seal < y->key.seal);
}

static int reserve(void *array, size_t *capacity, size_t n, size_t item_bytes)
{
    void **at = array, *grown;

    if (n <= *capacity)
        return 0;
    grown = reallocarray(*at, n + n / 2 + 4, item_bytes);
    if (!grown)
        return fault(-ENOMEM, "no memory to roll up %zu items", n);
    memset((uint8_t *) grown + *capacity * item_bytes, 0, (n + n / 2 + 4 - *capacity) * item_bytes);
    *at = grown;
    *capacity = n + n / 2 + 4;
    return 0;
}

static void note_layouts(struct buf *layouts, const struct block *block)
{
    struct block_cursor cursor = { 0 };
    struct block_part part;

    while (block_next(block, &cursor, &part)) {
        const uint32_t *known = (const void *) layouts->data;
        size_t n = layouts->len / sizeof(*known);

        while (n > 0 && known[n - 1] != part.layout)
            n--;
        if (n == 0)
            buf_append(layouts, &part.layout, sizeof(part.layout));
    }
}

int roll_open_blocks(struct round *round, struct buf *layouts)
{
    struct roller *roller = round->roller;
    struct found_block *found = (void *) roller->found.data;
    size_t n = roller->found.len / sizeof(*found);
    int r;

    roller->n_opened = 0;
    r = reserve(&roller->opened, &roller->opened_capacity, n, sizeof(*roller->opened));
    /* Rows of one time come as they were committed. */
    if (!r)
        qsort(found, n, sizeof(*found), by_seal);
    for (size_t i = 0; i < n && !r; i++) {
        struct opened *opened = &roller->opened[roller->n_opened];

        if (!(roll_hours_of(round, &found[i]) & round->chosen) ||
            (round->is_late &&
             (found[i].key.seal <= round->counted || found[i].prefix.chunk < round->begun.chunk)))
            continue;
        opened->found = found[i];
        r = block_open(found[i].bytes, &opened->room, &opened->block);
        if (r == 0 && opened->block.agent == round->agent->facts.number) {
            note_layouts(layouts, &opened->block);
            roller->n_opened++;
        } else if (r == 0 || r == BLOCK_BAD) {
            round->bad |= roll_hours_of(round, &found[i]); /* a scan says so */
            r = 0;
        }
    }
    return !r && buf_failed(layouts) ? fault(-ENOMEM, "no memory for layouts") : pass(r);
}

/* ---- rows ---- */

static int load_rows(struct round *round, struct layout_rows *to)
{
    struct roller *roller = round->roller;
    struct block_part part;
    size_t n_rows = 0;
    int r;

    for (size_t i = 0; i < roller->n_opened; i++)
        if (block_find(&roller->opened[i].block, to->layout, &part))
            n_rows += part.n_rows;
    r = rows_begin(&to->rows, to->n_columns, n_rows);
    for (size_t i = 0; i < roller->n_opened && !r; i++) {
        const struct opened *opened = &roller->opened[i];

        if (!block_find(&opened->block, to->layout, &part))
            continue;
        r = part.n_columns > to->columns[to->n_columns - 1]
                ? rows_add_part(&to->rows, &part, to->columns, &roller->room)
                : BLOCK_BAD;
        if (r == BLOCK_BAD) {
            round->bad |= roll_hours_of(round, &opened->found);
            r = 0;
        }
    }
    return r ? pass(r) : pass(rows_sort(&to->rows));
}

/* The slice's series that are in another layout too. Both lists are ascending. */
static void find_shared(const struct store_layout *own,
                        size_t first,
                        size_t n,
                        const struct store_layout *other,
                        struct layout_rows *ret)
{
    size_t k = 0;

    ret->layout = other->id;
    ret->n_columns = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t definition = own->definitions[first + i];

        while (k < other->n_columns && other->definitions[k] < definition)
            k++;
        ret->of[i] = UINT32_MAX;
        if (k < other->n_columns && other->definitions[k] == definition) {
            ret->of[i] = (uint32_t) ret->n_columns;
            ret->columns[ret->n_columns++] = (uint32_t) k;
        }
    }
}

int roll_load_slice(struct round *round, const struct store_layout *own, size_t first, size_t n)
{
    struct roller *roller = round->roller;
    const uint32_t *layouts = (const void *) round->layouts.data;
    size_t n_layouts = round->layouts.len / sizeof(*layouts), capacity = roller->layouts_capacity;
    int r =
        reserve(&roller->layouts, &roller->layouts_capacity, n_layouts, sizeof(*roller->layouts));

    if (!r)
        r = reserve(&roller->sources, &capacity, n_layouts, sizeof(*roller->sources));
    if (r)
        return pass(r);
    find_shared(own, first, n, own, &roller->layouts[0]);
    roller->n_layouts = 1;
    for (size_t i = 0; i < n_layouts; i++) {
        const struct store_layout *other =
            catalog_layout(&round->sealer->store->catalog, layouts[i]);
        struct layout_rows *to = &roller->layouts[roller->n_layouts];

        if (!other || other == own)
            continue;
        find_shared(own, first, n, other, to);
        roller->n_layouts += to->n_columns > 0;
    }
    for (size_t i = 0; i < roller->n_layouts && !r; i++)
        r = load_rows(round, &roller->layouts[i]);
    return pass(r);
}
