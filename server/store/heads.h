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
    uint32_t segment; /* index in the journal's table */
    uint32_t offset;  /* of the ROW record in its chunk */
};

static_assert(sizeof(struct head_row) == 24, "memory of a row");

struct head {
    uint32_t layout;
    size_t n_rows, capacity;
    struct head_row *rows;
};

struct heads {
    struct head *heads;
    size_t n_heads;
};

void heads_deinit(struct heads *heads);

/* NULL when the agent has no row of the layout. */
struct head *heads_find(struct heads *heads, uint32_t layout);

/* Fast behind the last row; a late one is moved into its place. Faults: no memory. */
int heads_add(struct heads *heads, uint32_t layout, const struct head_row *row) MUST_USE;

/* The first row behind `row`, or `row` itself when is_inclusive; n_rows when there is none. */
size_t head_seek(const struct head *head, const struct head_row *row, bool is_inclusive);
