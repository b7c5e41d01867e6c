#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to the store: the sealed blocks of an agent and a day, and rows put together from several
 * of them.
 *
 * Thread: one at a time; blocks on page faults.
 */

#include "common/base/buf.h"
#include "server/store/block/block.h"
#include "server/store/days/days.h"

/* A block in its environment; borrowed from the read transaction. */
struct found_block {
    struct day_key key;
    struct day_prefix prefix;
    struct span bytes;
};

/*
 * Appends (struct found_block) those of an agent whose times meet [from_us, to_us), in order of
 * first time, with a seal number up to `seal`. *ret_n_damaged grows by those whose prefix cannot be
 * believed. Outcomes: STORE_NOT_FOUND (the day's pages are damaged; what was found counts).
 */
struct find_blocks {
    uint32_t agent;
    int64_t from_us, to_us;
    uint64_t seal;
};
int found_blocks(struct day *day,
                 MDB_txn *txn,
                 const struct find_blocks *find,
                 struct buf *ret,
                 uint64_t *ret_n_damaged) MUST_USE;

/* The end of the run of blocks from `first` on whose times meet one another, directly or through
 * others between them. */
size_t found_cluster(const struct found_block *blocks, size_t n, size_t first);

/*
 * Rows of one layout, some columns of it: column i has `capacity` values from i * capacity, and
 * absent[i] of them are marked.
 */
struct rows {
    size_t n_rows, capacity, n_columns;
    int64_t *times_us;
    double *values;
    uint64_t *marks; /* codec_mark_words(capacity) words for each column */
    bool *has_marks; /* by column */
};

void rows_deinit(struct rows *rows);
/* Empty, with room for n rows of so many columns. Faults: no memory. */
int rows_begin(struct rows *rows, size_t n_columns, size_t n_rows) MUST_USE;

/* Marks a value, or takes the mark away; rows come in order. */
void rows_mark(struct rows *rows, size_t column, size_t row, bool is_absent);

/* Appends the rows of a block's part; they must fit. Outcomes: BLOCK_BAD (nothing was appended). */
int rows_add_part(struct rows *rows,
                  const struct block_part *part,
                  const uint32_t *columns,
                  struct buf *room) MUST_USE;

/* Puts them in order of time; those of one time stay as they came. Faults: no memory. */
int rows_sort(struct rows *rows) MUST_USE;

static inline double *rows_column(const struct rows *rows, size_t i)
{
    return &rows->values[i * rows->capacity];
}

static inline uint64_t *rows_marks(const struct rows *rows, size_t i)
{
    return &rows->marks[i * codec_mark_words(rows->capacity)];
}
