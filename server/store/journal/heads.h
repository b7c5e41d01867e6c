#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Heads: where the rows of one agent stand in the journal, in time order, by layout. Not the
 * values: a scan reads those from the journal's mapped pages. 24 bytes for each row, whatever its
 * width.
 *
 * Order is (time, chunk, offset): rows of one time stand as they were committed, and the order is
 * total, so that a scan that lets go of the lock finds its place again.
 *
 * Thread: the owner's lock (struct agent).
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"

struct head_row {
    int64_t time_us;
    uint64_t chunk;
    uint32_t segment; /* its number */
    uint32_t offset;  /* of the ROW record in its chunk */
};

static_assert(sizeof(struct head_row) == 24, "memory of a row");

struct head {
    uint32_t layout, n_values;
    size_t n_rows, capacity;
    struct head_row *rows;
};

struct heads {
    struct head *heads;
    size_t n_heads;
    uint64_t n_rows, n_values; /* of all */
    int64_t since_us; /* monotonic: when the oldest row of now came, at the latest; 0: no rows */
};

void heads_deinit(struct heads *heads);

/* NULL when the agent has no row of the layout. */
struct head *heads_find(struct heads *heads, uint32_t layout);

/* Fast behind the last row; a late one is moved into its place. Faults: no memory. */
int heads_add(struct heads *heads,
              uint32_t layout,
              uint32_t n_values,
              const struct head_row *row) MUST_USE;

/*
 * Takes out the rows of [from_us, to_us) up to a position, its own included: they are sealed.
 * dropped() hears of each, before it goes. Memory above what is needed is given back.
 */
void heads_drop(struct heads *heads,
                int64_t from_us,
                int64_t to_us,
                const struct head_row *up_to,
                void (*dropped)(void *ctx, const struct head_row *row),
                void *ctx);

/* The first row behind `row`, or `row` itself when is_inclusive; n_rows when there is none. */
size_t head_seek(const struct head *head, const struct head_row *row, bool is_inclusive);
