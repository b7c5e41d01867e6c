/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/block/parts.h"

/*
 * Reads columns of one part. Many are found through an index, which one walk makes; one alone by a
 * walk of its own. A column that others stand on is decoded once, if it is asked for itself.
 */
struct reader {
    const struct block_part *part;
    struct parts_index index; /* empty when one column is read */
    const uint32_t *columns;  /* asked for, ascending; NULL: all */
    size_t n_columns;
    size_t stride;
    double *values;
    uint64_t *absent; /* NULL: nobody asked */
    uint64_t *done;   /* bit i: the values of columns[i] stand; NULL when one column is read */
    struct buf room;  /* marks, when nobody asked for them */
};

static void reader_deinit(struct reader *reader)
{
    parts_index_deinit(&reader->index);
    free(reader->done);
    buf_deinit(&reader->room);
}

int block_times(const struct block_part *part, int64_t *ret_times_us)
{
    return codec_decode_times(part->times, part->n_rows, ret_times_us) == CODEC_OK ? BLOCK_OK
                                                                                   : BLOCK_BAD;
}

static bool find_entry(const struct reader *reader, uint64_t column, struct parts_entry *ret)
{
    return reader->index.places ? parts_look_up(&reader->index, reader->part, column, ret)
                                : parts_find_column(reader->part, column, ret);
}

static void fill(double *values, size_t n, double value)
{
    for (size_t i = 0; i < n; i++)
        values[i] = value;
}

static int read_marked(struct reader *reader,
                       const struct parts_entry *entry,
                       double *ret_values,
                       uint64_t *ret_absent)
{
    size_t n_rows = reader->part->n_rows, words = codec_mark_words(n_rows), n_marked;
    uint64_t *marks = ret_absent;
    struct span pattern;

    if (!marks) {
        buf_clear(&reader->room);
        marks = buf_extend(&reader->room, words * sizeof(*marks));
    }
    if (!marks)
        return fault(-ENOMEM, "no memory for %zu words of marks", words);
    if (!parts_pattern(&reader->index, reader->part, entry->pattern, &pattern) ||
        codec_decode_marks(pattern, n_rows, marks) != CODEC_OK)
        return BLOCK_BAD;
    n_marked = codec_count_marks(marks, n_rows);
    if (n_marked >= n_rows ||
        codec_decode_values(entry->form, entry->bytes, n_rows - n_marked, ret_values) != CODEC_OK)
        return BLOCK_BAD;
    codec_spread(ret_values, marks, n_rows);
    return BLOCK_OK;
}

static int read_column(struct reader *reader,
                       uint64_t column,
                       unsigned depth,
                       double *ret_values,
                       uint64_t *ret_absent);

/* Where among those that were asked for, or n_columns. */
static size_t slot_of(const struct reader *reader, uint64_t column)
{
    size_t low = 0, high = reader->n_columns;

    if (!reader->done)
        return reader->n_columns;
    if (!reader->columns)
        return column < high ? (size_t) column : high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (reader->columns[middle] < column)
            low = middle + 1;
        else
            high = middle;
    }
    return low < reader->n_columns && reader->columns[low] == column ? low : reader->n_columns;
}

static uint64_t *absent_of(const struct reader *reader, size_t slot)
{
    if (!reader->absent)
        return NULL;
    return reader->absent + slot * codec_mark_words(reader->part->n_rows);
}

/*
 * The values of a column that another stands on: where they were asked for, or in `room`, which is
 * made for it and freed by the caller.
 */
static int read_other(struct reader *reader,
                      uint64_t column,
                      unsigned depth,
                      struct buf *room,
                      const double **ret_values)
{
    size_t slot = slot_of(reader, column), n_rows = reader->part->n_rows;
    double *values;
    int r;

    if (slot < reader->n_columns) {
        *ret_values = values = reader->values + slot * reader->stride;
        if (codec_marked(reader->done, slot))
            return BLOCK_OK;
        r = read_column(reader, column, depth, values, absent_of(reader, slot));
        if (r == BLOCK_OK)
            reader->done[slot / 64] |= UINT64_C(1) << slot % 64;
        return r;
    }
    buf_clear(room);
    *ret_values = values = buf_extend(room, n_rows * sizeof(*values));
    if (!values)
        return fault(-ENOMEM, "no memory for %zu values", n_rows);
    return read_column(reader, column, depth, values, NULL);
}

static int read_quotient(struct reader *reader,
                         const struct parts_entry *entry,
                         unsigned depth,
                         double *ret_values)
{
    CLEANUP(buf_deinit) struct buf room = { 0 }, other_room = { 0 };
    size_t n_rows = reader->part->n_rows, len;
    const double *dividends, *divisors;
    struct parts_entry divisor;
    double by;
    int r = read_other(reader, entry->columns[0], depth, &room, &dividends);

    if (r != BLOCK_OK)
        return r;
    if (find_entry(reader, entry->columns[1], &divisor) && parts_is_constant(&divisor) &&
        divisor.pattern == PARTS_UNMARKED &&
        codec_decode_constant(divisor.form, divisor.bytes, &by, &len) == CODEC_OK) {
        for (size_t i = 0; i < n_rows; i++)
            ret_values[i] = dividends[i] / by;
        return BLOCK_OK;
    }
    r = read_other(reader, entry->columns[1], depth, &other_room, &divisors);
    if (r != BLOCK_OK)
        return r;
    for (size_t i = 0; i < n_rows; i++)
        ret_values[i] = dividends[i] / divisors[i];
    return BLOCK_OK;
}

static int read_same(struct reader *reader,
                     const struct parts_entry *entry,
                     unsigned depth,
                     double *ret_values)
{
    CLEANUP(buf_deinit) struct buf room = { 0 };
    const double *values;
    int r = read_other(reader, entry->columns[0], depth, &room, &values);

    if (r != BLOCK_OK)
        return r;
    memmove(ret_values, values, reader->part->n_rows * sizeof(*values));
    return BLOCK_OK;
}

/* Onto the values that are there come the terms. */
static int
add_terms(struct reader *reader, const struct parts_entry *entry, unsigned depth, double *values)
{
    CLEANUP(buf_deinit) struct buf room = { 0 };
    size_t n_rows = reader->part->n_rows;

    parts_sum_begin(entry->class, values, n_rows);
    for (size_t k = 0; k < entry->n_terms; k++) {
        const double *terms;
        int r = read_other(reader, entry->terms[k].column, depth, &room, &terms);

        if (r != BLOCK_OK)
            return r;
        parts_sum_add(entry->class, values, terms, entry->terms[k].is_minus, n_rows);
    }
    parts_sum_end(entry->class, values, n_rows);
    return BLOCK_OK;
}

static int
read_own(struct reader *reader, const struct parts_entry *entry, unsigned depth, double *ret_values)
{
    size_t n_rows = reader->part->n_rows;

    if (codec_decode_values(entry->form, entry->bytes, n_rows, ret_values) != CODEC_OK)
        return BLOCK_BAD;
    return entry->n_terms == 0 ? BLOCK_OK : add_terms(reader, entry, depth, ret_values);
}

static int read_column(struct reader *reader,
                       uint64_t column,
                       unsigned depth,
                       double *ret_values,
                       uint64_t *ret_absent)
{
    size_t n_rows = reader->part->n_rows;
    struct parts_entry entry;

    if (depth > PARTS_DEPTH_MAX || !find_entry(reader, column, &entry))
        return BLOCK_BAD;
    /* Relations are between columns without marks. */
    if (depth > 0 && (entry.pattern != PARTS_UNMARKED || (entry.form & 15) == PARTS_NONE))
        return BLOCK_BAD;
    if (entry.pattern != PARTS_UNMARKED)
        return read_marked(reader, &entry, ret_values, ret_absent);
    if (ret_absent)
        memset(ret_absent, 0, codec_mark_words(n_rows) * sizeof(*ret_absent));
    switch (entry.form & 15) {
    case PARTS_ZEROS:
        fill(ret_values, n_rows, 0);
        return BLOCK_OK;
    case PARTS_NONE:
        fill(ret_values, n_rows, __builtin_nan(""));
        for (size_t i = 0; ret_absent && i < n_rows; i++)
            ret_absent[i / 64] |= UINT64_C(1) << i % 64;
        return BLOCK_OK;
    case PARTS_SAME:
        return read_same(reader, &entry, depth + 1, ret_values);
    case PARTS_OVER:
        return read_quotient(reader, &entry, depth + 1, ret_values);
    default:
        return read_own(reader, &entry, depth + 1, ret_values);
    }
}

int block_column(const struct block_part *part,
                 uint32_t column,
                 double *ret_values,
                 uint64_t *ret_absent)
{
    CLEANUP(reader_deinit) struct reader reader = { .part = part };

    ensure(column < part->n_columns);
    return read_column(&reader, column, 0, ret_values, ret_absent);
}

int block_columns(const struct block_part *part,
                  const uint32_t *columns,
                  size_t n_columns,
                  size_t stride,
                  double *ret_values,
                  uint64_t *ret_absent)
{
    CLEANUP(reader_deinit)
    struct reader reader = { .part = part,
                             .columns = columns,
                             .n_columns = n_columns,
                             .stride = stride,
                             .values = ret_values,
                             .absent = ret_absent };
    int r = BLOCK_OK;

    ensure(stride >= part->n_rows && n_columns <= part->n_columns);
    ensure(columns || n_columns == part->n_columns);
    if (n_columns == 0)
        return BLOCK_OK;
    reader.done = calloc(codec_mark_words(n_columns), sizeof(*reader.done));
    if (!reader.done)
        return fault(-ENOMEM, "no memory for %zu columns", n_columns);
    r = parts_index_make(&reader.index, part);
    if (r < 0)
        return pass(r);
    for (size_t i = 0; i < n_columns && r == BLOCK_OK; i++) {
        uint32_t column = columns ? columns[i] : (uint32_t) i;

        ensure(column < part->n_columns && (i == 0 || !columns || columns[i - 1] < column));
        if (codec_marked(reader.done, i))
            continue;
        r = read_column(&reader, column, 0, ret_values + i * stride, absent_of(&reader, i));
        reader.done[i / 64] |= UINT64_C(1) << i % 64;
    }
    return r;
}

bool block_bounds(const struct block_part *part, uint32_t column, double *ret_low, double *ret_high)
{
    struct parts_entry entry;
    double value;
    size_t len;

    ensure(column < part->n_columns);
    if (!parts_find_column(part, column, &entry))
        return false;
    if ((entry.form & 15) == PARTS_ZEROS) {
        *ret_low = *ret_high = 0;
        return true;
    }
    if (parts_is_constant(&entry)) {
        if (codec_decode_constant(entry.form, entry.bytes, &value, &len) != CODEC_OK)
            return false;
        *ret_low = *ret_high = value;
        return value == value;
    }
    if (!entry.has_bounds)
        return false;
    *ret_low = parts_unbound(entry.low);
    *ret_high = parts_unbound(entry.high);
    return true;
}
