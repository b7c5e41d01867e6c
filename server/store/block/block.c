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
    uint64_t back;          /* 0: the times are its own, and a part of its body */
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
    size_t own_len;

    *ret = (struct head){ 0 };
    if (!codec_get_varint(heads, &layout) || !codec_get_varint(heads, &n_columns) ||
        !codec_get_varint(heads, &n_rows) || !codec_get_varint(heads, &ret->back))
        return false;
    if (layout > UINT32_MAX || n_columns < 1 || n_columns > BLOCK_COLUMNS_MAX || n_rows < 1 ||
        n_rows > BLOCK_ROWS_MAX)
        return false;
    part->layout = (uint32_t) layout;
    part->n_columns = (uint32_t) n_columns;
    part->n_rows = (uint32_t) n_rows;
    if (!take_len(heads, &part->times) || !take_len(heads, &part->marks) ||
        !take_len(heads, &part->directory) || !take_len(heads, &part->columns))
        return false;
    own_len = ret->back ? 0 : part->times.len;
    ret->body_len = own_len + part->marks.len + part->directory.len + part->columns.len;
    return true;
}

static void place(struct span *span, const uint8_t **at)
{
    span->data = *at;
    *at += span->len;
}

bool block_next(const struct block *block, struct block_cursor *cursor, struct block_part *ret_part)
{
    struct span heads =
        span_of(block->heads.data + cursor->heads_done, block->heads.len - cursor->heads_done);
    const uint8_t *at = block->bodies.data + cursor->bodies_done;
    struct head head;
    bool is_whole;

    if (cursor->n_done >= block->n_layouts)
        return false;
    /* Heads were walked by block_open(): here they are whole, and so are the bodies. */
    is_whole = take_head(&heads, &head);
    ensure(is_whole);
    if (head.back)
        head.part.times.data = at - head.back;
    else
        place(&head.part.times, &at);
    place(&head.part.marks, &at);
    place(&head.part.directory, &at);
    place(&head.part.columns, &at);
    cursor->heads_done = (size_t) (heads.data - block->heads.data);
    cursor->bodies_done += head.body_len;
    cursor->n_done++;
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
        if (!take_head(&heads, &head) || head.body_len > whole.len - body_len)
            return false;
        if (head.back > body_len || (head.back && head.part.times.len > head.back))
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
