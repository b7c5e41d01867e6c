#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading rows: sealed ones and those that are not, as one. A part of store.h, which others
 * include.
 *
 * Thread: any, unless a function says otherwise.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"

struct store;

/* Rows [first, end) of these arrays; borrowed during the call. */
struct store_piece {
    size_t first, end;
    const int64_t *times_us;       /* never falling, nor from piece to piece */
    const double *const *values;   /* [i]: of columns[i] */
    const uint64_t *const *absent; /* [i]: NULL, or bit `row` of it says that there is no value */
};

static inline bool store_piece_has(const struct store_piece *piece, size_t i, size_t row)
{
    return !piece->absent[i] || !(piece->absent[i][row / 64] >> row % 64 & 1);
}

struct store_scan {
    uint32_t agent;
    uint32_t layout;
    int64_t from_us, to_us;  /* from inclusive, to exclusive */
    const uint32_t *columns; /* ascending positions in the layout */
    size_t n_columns;
    /* In time order; rows of one time as they were committed. False: stop. Must not block. */
    bool (*on_piece)(void *ctx, const struct store_piece *piece);
    void *ctx;
    uint64_t ret_rows;    /* rows read */
    uint64_t ret_damaged; /* rows passed over for a bad checksum */
};
/* Blocks on page faults: on a reader thread only. */
int store_scan(struct store *store, struct store_scan *scan) MUST_USE;
