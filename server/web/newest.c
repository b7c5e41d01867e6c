/* SPDX-License-Identifier: Apache-2.0 */

/* The newest values of an agent. The only file here that reads rows. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/web/inside.h"

#define ARENA_BYTES (8U << 20)

/* The last row of a scan, as it was. */
struct last_row {
    size_t n_columns;
    double *values;
    bool *is_present;
    int64_t time_us;
    bool is_there;
};

static bool on_piece(void *ctx, const struct store_piece *piece)
{
    struct last_row *last = ctx;
    const size_t row = piece->end - 1;

    if (piece->first == piece->end)
        return true;
    for (size_t i = 0; i < last->n_columns; i++) {
        last->values[i] = piece->values[i][row];
        last->is_present[i] = store_piece_has(piece, i, row);
    }
    last->time_us = piece->times_us[row];
    last->is_there = true;
    return true;
}

static int add_row(struct newest_set *set, const struct newest *row)
{
    struct newest *rows;
    size_t capacity;

    if (set->n == set->max) {
        set->is_over = true;
        return 0;
    }
    if (set->n == set->capacity) {
        capacity = set->capacity ? 2 * set->capacity : 1024;
        rows = reallocarray(set->rows, capacity, sizeof(*rows));
        if (!rows)
            return fault(-ENOMEM, "no memory for newest values");
        set->rows = rows;
        set->capacity = capacity;
    }
    set->rows[set->n++] = *row;
    return 0;
}

static int read_last(struct store *store,
                     uint32_t number,
                     const struct store_span *span,
                     const struct store_layout *layout,
                     struct arena *arena,
                     struct last_row *ret)
{
    uint32_t *columns = arena_alloc_array(arena, layout->n_columns, sizeof(*columns));

    ret->n_columns = layout->n_columns;
    ret->values = arena_alloc_array(arena, layout->n_columns, sizeof(*ret->values));
    ret->is_present = arena_alloc_array(arena, layout->n_columns, sizeof(*ret->is_present));
    if (!columns || !ret->values || !ret->is_present)
        return fault(-ENOMEM, "no room for the newest row of a layout");
    for (uint32_t i = 0; i < layout->n_columns; i++)
        columns[i] = i;
    struct store_scan scan = {
        .agent = number,
        .layout = layout->id,
        .from_us = span->last_us,
        .to_us = span->last_us + 1,
        .columns = columns,
        .n_columns = layout->n_columns,
        .on_piece = on_piece,
        .ctx = ret,
    };

    return fold(store_scan(store, &scan));
}

static int add_layout(struct newest_set *set,
                      struct store *store,
                      uint32_t number,
                      uint32_t agent,
                      const struct store_span *span)
{
    const struct store_layout *layout = store_layout_get(store, span->layout);
    CLEANUP(arena_deinit) struct arena arena;
    struct last_row last = { 0 };
    int r;

    ensure(layout);
    arena_init(&arena, ARENA_BYTES);
    r = read_last(store, number, span, layout, &arena, &last);
    if (r != 0 || !last.is_there)
        return pass(r);
    for (uint32_t i = 0; i < layout->n_columns && r == 0 && !set->is_over; i++) {
        const struct newest row = { .agent = agent,
                                    .definition = layout->definitions[i],
                                    .time_us = last.time_us,
                                    .value = last.values[i] };

        if (last.is_present[i])
            r = add_row(set, &row);
    }
    return pass(r);
}

int newest_add(struct newest_set *set,
               struct store *store,
               uint32_t number,
               uint32_t agent,
               int64_t from_us)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct store_span *spans;
    size_t n_spans;
    int r;

    arena_init(&arena, ARENA_BYTES);
    r = store_spans(store, number, &arena, &spans, &n_spans);
    for (size_t i = 0; r == 0 && i < n_spans && !set->is_over; i++) {
        if (spans[i].n_rows > 0 && spans[i].last_us >= from_us)
            r = add_layout(set, store, number, agent, &spans[i]);
    }
    return pass(r);
}

void newest_deinit(struct newest_set *set)
{
    free(set->rows);
    *set = (struct newest_set){ 0 };
}
