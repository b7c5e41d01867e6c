#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Block: the samples of one agent over one span of time, column by column.
 *
 * A layout's rows share a column of times; layouts with equal times share that too. A reader pays
 * for the columns that it asks for. Columns that follow from others of their layout (the same, a
 * constant plus or minus another, one over another, nearly the sum of a few) are a few bytes: disk
 * and memory utilization would be the dearest columns of all otherwise.
 *
 * Pure functions. What is in the bytes is drawn in parts.h.
 *
 * Start here: block_encode(), block_open(), block_next(), block_columns().
 * Thread:     any; a struct codec_work, and a part while a column is read from it, one at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"
#include "server/store/codec/codec.h"

#define BLOCK_VERSION 1
#define BLOCK_ROWS_MAX CODEC_ITEMS_MAX
#define BLOCK_COLUMNS_MAX 65536
#define BLOCK_LAYOUTS_MAX 65536

/* Columns of at least so many rows say between what their values lie. */
#define BLOCK_BOUNDS_ROWS 256

enum block_outcome {
    BLOCK_OK = 0,
    BLOCK_BAD, /* damaged, cut, or of a version that this program does not know */
};

/* ---- writing ---- */

struct block_rows {
    uint32_t layout;
    uint32_t n_columns;      /* 1 .. BLOCK_COLUMNS_MAX */
    uint32_t n_rows;         /* 1 .. BLOCK_ROWS_MAX */
    const int64_t *times_us; /* in the order in which they shall come back */
    const double *values;    /* column c is n_rows values from c * n_rows; any bits where absent */
    /* NULL, or for each column codec_mark_words(n_rows) words; a set bit is an absent value, bits
     * past n_rows are zero. */
    const uint64_t *absent;
};

struct block_input {
    uint64_t agent;
    enum codec_effort effort;
    const struct block_rows *layouts;
    size_t n_layouts; /* 1 .. BLOCK_LAYOUTS_MAX */
    bool is_plain;    /* no column is looked at for being one over another: it never is */
};

/* Appends a block to `out`. Outcomes: none. Faults: no memory (then `out` may hold a part). */
int block_encode(struct codec_work *work,
                 const struct block_input *input,
                 struct buf *out) MUST_USE;

/* ---- reading ---- */

struct block {
    uint64_t agent;
    int64_t first_us, last_us; /* the least and the greatest time of all layouts */
    uint64_t n_rows;           /* of all layouts */
    uint64_t n_columns;        /* of all layouts */
    size_t n_layouts;
    struct span heads, bodies; /* private: the layouts' heads, then their bodies */
};

/* The rows of one layout in a block. The fields below the line are private. */
struct block_part {
    uint32_t layout;
    uint32_t n_columns, n_rows;
    /* ---- */
    struct span times, marks, directory, columns;
};

/* Zero before the first block_next(). */
struct block_cursor {
    size_t n_done, heads_done, bodies_done;
};

/*
 * Checks header, checksum and directory. The block and its parts borrow from `bytes`, and from
 * `room` when the block is compressed as a whole: both stay as they are while it is read.
 *
 * Outcomes: BLOCK_BAD. Faults: no memory.
 */
int block_open(struct span bytes, struct buf *room, struct block *ret_block) MUST_USE;

/* The next layout, in the order in which they were written. False: no more. */
bool block_next(const struct block *block,
                struct block_cursor *cursor,
                struct block_part *ret_part);

/* False: the layout has no rows here. */
bool block_find(const struct block *block, uint32_t layout, struct block_part *ret_part);

/* Writes n_rows times. Outcomes: BLOCK_BAD. Faults: none. */
int block_times(const struct block_part *part, int64_t *ret_times_us) MUST_USE;

/*
 * Writes n_rows values, NaN where absent, and, unless NULL, which are absent
 * (codec_mark_words(n_rows) words).
 *
 *   column   below n_columns
 *
 * Outcomes: BLOCK_BAD. Faults: no memory.
 */
int block_column(const struct block_part *part,
                 uint32_t column,
                 double *ret_values,
                 uint64_t *ret_absent) MUST_USE;

/*
 * Many columns at once: the directory is walked once, and what several columns stand on is decoded
 * once. On BLOCK_BAD what was written means nothing; block_column() says which columns are good.
 *
 *   columns     ascending, each below the part's n_columns; NULL: all of them
 *   n_columns   how many; with NULL the part's n_columns
 *   stride      at least n_rows: columns[i] is written from ret_values[i * stride] on
 *   ret_absent  NULL, or codec_mark_words(n_rows) words for each, one after the other
 *
 * Outcomes: BLOCK_BAD. Faults: no memory.
 */
int block_columns(const struct block_part *part,
                  const uint32_t *columns,
                  size_t n_columns,
                  size_t stride,
                  double *ret_values,
                  uint64_t *ret_absent) MUST_USE;

/*
 * No value of the column that is a number lies outside low .. high; the bounds are up to 7 % of a
 * value too wide. False: not known without decoding.
 */
bool block_bounds(const struct block_part *part,
                  uint32_t column,
                  double *ret_low,
                  double *ret_high);
