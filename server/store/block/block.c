/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/block/block.h"

#include <stdlib.h>
#include <zstd.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/block/parts.h"

/* ---- heads ---- */

struct head {
    struct block_part part; /* spans have lengths only */
    uint64_t same;
    size_t body_len;
};

static bool take_len(struct span *heads, struct span *ret)
{
    uint64_t len;

    if (!codec_get_varint(heads, &len) || len > SIZE_MAX / 8)
        return false;
    *ret = span_of(NULL, (size_t) len);
    return true;
}

static bool take_head(struct span *heads, struct head *ret)
{
    uint64_t layout, n_columns, n_rows;
    struct block_part *part = &ret->part;

    *ret = (struct head){ 0 };
    if (!codec_get_varint(heads, &layout) || !codec_get_varint(heads, &n_columns) ||
        !codec_get_varint(heads, &n_rows) || !codec_get_varint(heads, &ret->same))
        return false;
    if (layout > UINT32_MAX || n_columns < 1 || n_columns > BLOCK_COLUMNS_MAX || n_rows < 1 ||
        n_rows > BLOCK_ROWS_MAX)
        return false;
    part->layout = (uint32_t) layout;
    part->n_columns = (uint32_t) n_columns;
    part->n_rows = (uint32_t) n_rows;
    if (ret->same == 0 && !take_len(heads, &part->times))
        return false;
    if (!take_len(heads, &part->marks) || !take_len(heads, &part->directory) ||
        !take_len(heads, &part->columns))
        return false;
    ret->body_len = part->times.len + part->marks.len + part->directory.len + part->columns.len;
    return true;
}

static void place(struct span *span, const uint8_t **at)
{
    span->data = *at;
    *at += span->len;
}

/* Heads were walked by block_open(): here they are whole, and so are the bodies. */
static bool
read_part(const struct block *block, size_t layout, struct block_cursor *cursor, struct head *ret)
{
    struct span heads =
        span_of(block->heads.data + cursor->heads_done, block->heads.len - cursor->heads_done);
    const uint8_t *at = block->bodies.data + cursor->bodies_done;
    bool is_whole;

    if (layout >= block->n_layouts)
        return false;
    is_whole = take_head(&heads, ret);
    ensure(is_whole);
    place(&ret->part.times, &at);
    place(&ret->part.marks, &at);
    place(&ret->part.directory, &at);
    place(&ret->part.columns, &at);
    cursor->heads_done = (size_t) (heads.data - block->heads.data);
    cursor->bodies_done += ret->body_len;
    cursor->n_done++;
    return true;
}

static void borrow_times(const struct block *block, size_t layout, struct block_part *part)
{
    struct block_cursor cursor = { 0 };
    struct head head = { 0 };

    while (cursor.n_done <= layout) {
        bool is_there = read_part(block, cursor.n_done, &cursor, &head);

        ensure(is_there);
    }
    part->times = head.part.times;
}

bool block_next(const struct block *block, struct block_cursor *cursor, struct block_part *ret_part)
{
    size_t layout = cursor->n_done;
    struct head head;

    if (!read_part(block, layout, cursor, &head))
        return false;
    if (head.same > 0)
        borrow_times(block, layout - (size_t) head.same, &head.part);
    *ret_part = head.part;
    return true;
}

bool block_find(const struct block *block, uint32_t layout, struct block_part *ret_part)
{
    struct block_cursor cursor = { 0 };

    while (block_next(block, &cursor, ret_part))
        if (ret_part->layout == layout)
            return true;
    return false;
}

/* ---- opening ---- */

static bool check_directory(const struct block_part *part)
{
    struct parts_walk walk;
    struct parts_entry entry;
    uint64_t n_columns = 0;

    parts_walk_init(&walk, part);
    while (walk.directory.len > 0) {
        if (!parts_take(&walk, &entry))
            return false;
        n_columns += entry.n;
        for (size_t i = 0; i < 2; i++)
            if (entry.columns[i] >= part->n_columns)
                return false;
        if (n_columns > part->n_columns)
            return false;
    }
    return n_columns == part->n_columns && walk.columns.len == 0;
}

/* The totals in the header, the layouts and their directories agree. */
static bool check_layouts(struct block *block)
{
    struct span heads = block->heads, whole = block->heads;
    uint64_t n_rows = 0, n_columns = 0;
    struct block_cursor cursor = { 0 };
    struct block_part part;
    struct head head;
    size_t body_len = 0;

    for (size_t i = 0; i < block->n_layouts; i++) {
        if (!take_head(&heads, &head) || head.same > i || head.body_len > whole.len - body_len)
            return false;
        body_len += head.body_len;
        n_rows += head.part.n_rows;
        n_columns += head.part.n_columns;
    }
    if (heads.len != body_len || n_rows != block->n_rows || n_columns != block->n_columns)
        return false;
    block->bodies = heads;
    block->heads = span_of(whole.data, whole.len - heads.len);

    while (block_next(block, &cursor, &part))
        if (!check_directory(&part))
            return false;
    return true;
}

static bool take_header(struct span *bytes, struct block *ret, uint8_t *ret_flags)
{
    uint64_t first, length, n_layouts;
    uint32_t crc = 0;

    if (bytes->len < PARTS_PREFIX || memcmp(bytes->data, PARTS_MAGIC, 4) != 0)
        return false;
    for (size_t i = 0; i < 4; i++)
        crc |= (uint32_t) bytes->data[4 + i] << 8 * i;
    if (crc32c(0, bytes->data + PARTS_CHECKED, bytes->len - PARTS_CHECKED) != crc)
        return false;
    *ret_flags = bytes->data[9];
    if (bytes->data[8] != BLOCK_VERSION || *ret_flags & ~PARTS_ZSTD)
        return false;
    *bytes = span_of(bytes->data + PARTS_PREFIX, bytes->len - PARTS_PREFIX);
    if (!codec_get_varint(bytes, &ret->agent) || !codec_get_varint(bytes, &first) ||
        !codec_get_varint(bytes, &length) || !codec_get_varint(bytes, &ret->n_rows) ||
        !codec_get_varint(bytes, &ret->n_columns) || !codec_get_varint(bytes, &n_layouts))
        return false;
    if (n_layouts < 1 || n_layouts > BLOCK_LAYOUTS_MAX)
        return false;
    ret->first_us = (int64_t) codec_unzigzag(first);
    ret->last_us = (int64_t) (codec_unzigzag(first) + length);
    ret->n_layouts = (size_t) n_layouts;
    return true;
}

/* Unpacks into `room` what may not be more than its limit. */
static int unpack(struct span *bytes, struct buf *room)
{
    uint64_t len;
    uint8_t *to;

    if (!codec_get_varint(bytes, &len) || len < 1 || len > PARTS_ZSTD_MAX)
        return BLOCK_BAD;
    buf_clear(room);
    to = buf_extend(room, (size_t) len);
    if (!to)
        return fault(-ENOMEM, "no memory for %llu bytes of a block", (unsigned long long) len);
    if (ZSTD_decompress(to, (size_t) len, bytes->data, bytes->len) != len)
        return BLOCK_BAD;
    *bytes = buf_span(room);
    return BLOCK_OK;
}

int block_open(struct span bytes, struct buf *room, struct block *ret_block)
{
    struct block block = { 0 };
    uint8_t flags;
    int r;

    if (!take_header(&bytes, &block, &flags))
        return BLOCK_BAD;
    if (flags & PARTS_ZSTD) {
        r = unpack(&bytes, room);
        if (r < 0)
            return pass(r);
        if (r != BLOCK_OK)
            return BLOCK_BAD;
    }
    block.heads = bytes;
    if (!check_layouts(&block))
        return BLOCK_BAD;
    *ret_block = block;
    return BLOCK_OK;
}

/* ---- columns ---- */

int block_times(const struct block_part *part, int64_t *ret_times_us)
{
    return codec_decode_times(part->times, part->n_rows, ret_times_us) == CODEC_OK ? BLOCK_OK
                                                                                   : BLOCK_BAD;
}

static bool read_pattern(const struct block_part *part, uint64_t pattern, uint64_t *ret_marks)
{
    struct span marks = part->marks;

    for (uint64_t i = 0;; i++) {
        uint64_t len;

        if (!codec_get_varint(&marks, &len) || len > marks.len)
            return false;
        if (i == pattern)
            return codec_decode_marks(span_of(marks.data, (size_t) len), part->n_rows, ret_marks) ==
                   CODEC_OK;
        marks = span_of(marks.data + len, marks.len - (size_t) len);
    }
}

static void fill(double *values, size_t n, double value)
{
    for (size_t i = 0; i < n; i++)
        values[i] = value;
}

static int read_marked(const struct block_part *part,
                       const struct parts_entry *entry,
                       double *ret_values,
                       uint64_t *ret_absent)
{
    CLEANUP(buf_deinit) struct buf room = { 0 };
    size_t words = codec_mark_words(part->n_rows), n_marked;
    uint64_t *marks = ret_absent;

    if (!marks)
        marks = buf_extend(&room, words * sizeof(*marks));
    if (!marks)
        return fault(-ENOMEM, "no memory for %zu words of marks", words);
    if (!read_pattern(part, entry->pattern, marks))
        return BLOCK_BAD;
    n_marked = codec_count_marks(marks, part->n_rows);
    if (n_marked >= part->n_rows ||
        codec_decode_values(entry->form, entry->bytes, part->n_rows - n_marked, ret_values))
        return BLOCK_BAD;
    codec_spread(ret_values, marks, part->n_rows);
    return BLOCK_OK;
}

static int read_column(const struct block_part *part,
                       uint64_t column,
                       unsigned depth,
                       double *ret_values,
                       uint64_t *ret_absent);

static int read_quotient(const struct block_part *part,
                         const struct parts_entry *entry,
                         unsigned depth,
                         double *ret_values)
{
    CLEANUP(buf_deinit) struct buf room = { 0 };
    double *divisors = buf_extend(&room, part->n_rows * sizeof(*divisors));
    int r;

    if (!divisors)
        return fault(-ENOMEM, "no memory for %u values", part->n_rows);
    r = read_column(part, entry->columns[1], depth, divisors, NULL);
    if (r == BLOCK_OK)
        r = read_column(part, entry->columns[0], depth, ret_values, NULL);
    if (r != BLOCK_OK)
        return r;
    for (size_t i = 0; i < part->n_rows; i++)
        ret_values[i] /= divisors[i];
    return BLOCK_OK;
}

/* Onto the values that are there come the terms, in order. */
static int add_terms(const struct block_part *part,
                     const struct parts_entry *entry,
                     unsigned depth,
                     double *values)
{
    CLEANUP(buf_deinit) struct buf room = { 0 };
    double *terms = buf_extend(&room, part->n_rows * sizeof(*terms));

    if (!terms)
        return fault(-ENOMEM, "no memory for %u values", part->n_rows);
    for (size_t k = 0; k < entry->n_terms; k++) {
        int r = read_column(part, entry->terms[k].column, depth, terms, NULL);

        if (r != BLOCK_OK)
            return r;
        if (entry->terms[k].is_minus)
            for (size_t i = 0; i < part->n_rows; i++)
                values[i] -= terms[i];
        else
            for (size_t i = 0; i < part->n_rows; i++)
                values[i] += terms[i];
    }
    return BLOCK_OK;
}

static int read_own(const struct block_part *part,
                    const struct parts_entry *entry,
                    unsigned depth,
                    double *ret_values)
{
    if (codec_decode_values(entry->form, entry->bytes, part->n_rows, ret_values) != CODEC_OK)
        return BLOCK_BAD;
    return entry->n_terms == 0 ? BLOCK_OK : add_terms(part, entry, depth, ret_values);
}

static int read_column(const struct block_part *part,
                       uint64_t column,
                       unsigned depth,
                       double *ret_values,
                       uint64_t *ret_absent)
{
    struct parts_entry entry;

    if (depth > PARTS_DEPTH_MAX || !parts_find(part, column, &entry))
        return BLOCK_BAD;
    /* Relations are between columns without marks. */
    if (depth > 0 && (entry.pattern != PARTS_UNMARKED || (entry.form & 15) == PARTS_NONE))
        return BLOCK_BAD;
    if (entry.pattern != PARTS_UNMARKED)
        return read_marked(part, &entry, ret_values, ret_absent);
    if (ret_absent)
        memset(ret_absent, 0, codec_mark_words(part->n_rows) * sizeof(*ret_absent));
    switch (entry.form & 15) {
    case PARTS_ZEROS:
        fill(ret_values, part->n_rows, 0);
        return BLOCK_OK;
    case PARTS_NONE:
        fill(ret_values, part->n_rows, __builtin_nan(""));
        for (size_t i = 0; ret_absent && i < part->n_rows; i++)
            ret_absent[i / 64] |= UINT64_C(1) << i % 64;
        return BLOCK_OK;
    case PARTS_SAME:
        return read_column(part, entry.columns[0], depth + 1, ret_values, NULL);
    case PARTS_OVER:
        return read_quotient(part, &entry, depth + 1, ret_values);
    default:
        return read_own(part, &entry, depth + 1, ret_values);
    }
}

int block_column(const struct block_part *part,
                 uint32_t column,
                 double *ret_values,
                 uint64_t *ret_absent)
{
    ensure(column < part->n_columns);
    return read_column(part, column, 0, ret_values, ret_absent);
}

bool block_bounds(const struct block_part *part, uint32_t column, double *ret_low, double *ret_high)
{
    struct parts_entry entry;
    double value;
    size_t len;

    ensure(column < part->n_columns);
    if (!parts_find(part, column, &entry))
        return false;
    if ((entry.form & 15) == PARTS_ZEROS) {
        *ret_low = *ret_high = 0;
        return true;
    }
    if ((entry.form & 15) <= CODEC_CONST_BITS && entry.n_terms == 0) {
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
