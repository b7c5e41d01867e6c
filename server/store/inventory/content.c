/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/inventory/content.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"

#define LEVEL 6
#define CRC_FROM sizeof(uint32_t)

static_assert(sizeof(struct content_header) == 72, "on disk");
static_assert(sizeof(struct content_block) == 16, "on disk");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values on disk are little-endian");

void content_work_deinit(struct content_work *work)
{
    ZSTD_freeCCtx(work->compressor);
    ZSTD_freeDCtx(work->decompressor);
    *work = (struct content_work){ 0 };
}

/* ---- canonical ---- */

void content_put_value(struct buf *to, const char *value)
{
    size_t len = strlen(value);
    uint32_t n = (uint32_t) len;

    ensure(len <= CONTENT_BYTES_MAX);
    buf_append(to, &n, sizeof(n));
    buf_append(to, value, len);
}

void content_put_columns(struct buf *to, const char *const *names, size_t n)
{
    uint32_t n_columns = (uint32_t) n;

    ensure(n <= CONTENT_COLUMNS_MAX);
    buf_append(to, &n_columns, sizeof(n_columns));
    for (size_t i = 0; i < n; i++)
        content_put_value(to, names[i]);
}

/* A length and so many bytes. */
static bool take_value(struct span *rest, struct span *ret)
{
    uint32_t n;

    if (rest->len < sizeof(n))
        return false;
    memcpy(&n, rest->data, sizeof(n));
    if (n > rest->len - sizeof(n))
        return false;
    *ret = span_of(rest->data + sizeof(n), n);
    *rest = span_of(rest->data + sizeof(n) + n, rest->len - sizeof(n) - n);
    return true;
}

bool content_columns(struct span head, struct span *ret, uint32_t n_columns)
{
    uint32_t n;

    if (head.len < sizeof(n))
        return false;
    memcpy(&n, head.data, sizeof(n));
    if (n != n_columns)
        return false;
    head = span_of(head.data + sizeof(n), head.len - sizeof(n));
    for (uint32_t i = 0; i < n; i++)
        if (!take_value(&head, &ret[i]))
            return false;
    return head.len == 0;
}

bool content_next_row(struct content_rows *rows, struct span *ret)
{
    struct span rest = rows->rest;

    if (rest.len == 0 || rows->n_columns == 0)
        return false;
    for (uint32_t i = 0; i < rows->n_columns; i++)
        if (!take_value(&rest, &ret[i]))
            return false;
    rows->rest = rest;
    return true;
}

int content_compare(const struct span *a, const struct span *b, uint32_t n_columns)
{
    for (uint32_t i = 0; i < n_columns; i++) {
        size_t len = a[i].len < b[i].len ? a[i].len : b[i].len;
        int r = len ? memcmp(a[i].data, b[i].data, len) : 0;

        if (r == 0)
            r = (a[i].len > b[i].len) - (a[i].len < b[i].len);
        if (r != 0)
            return r;
    }
    return 0;
}

/* The columns in front of a canonical content; what follows is in *rest. */
static bool take_head(struct span *rest, uint32_t *ret_n_columns)
{
    uint32_t n;
    struct span name;

    if (rest->len < sizeof(n))
        return false;
    memcpy(&n, rest->data, sizeof(n));
    if (n == 0 || n > CONTENT_COLUMNS_MAX)
        return false;
    *rest = span_of(rest->data + sizeof(n), rest->len - sizeof(n));
    for (uint32_t i = 0; i < n; i++)
        if (!take_value(rest, &name))
            return false;
    *ret_n_columns = n;
    return true;
}

int content_check(struct span canonical, struct content_shape *ret)
{
    struct content_shape shape = { 0 };
    struct content_rows rows = { .rest = canonical };
    struct span *before = NULL, *row;
    bool is_good;

    if (canonical.len > CONTENT_BYTES_MAX || !take_head(&rows.rest, &shape.n_columns))
        return CONTENT_BAD;
    rows.n_columns = shape.n_columns;
    shape.head_bytes = (uint32_t) (canonical.len - rows.rest.len);
    before = calloc((size_t) 2 * shape.n_columns, sizeof(*before));
    if (!before)
        return fault(-ENOMEM, "no memory to look at a table");
    row = before + shape.n_columns;
    is_good = true;
    while (is_good && content_next_row(&rows, row)) {
        is_good = shape.n_rows == 0 || content_compare(before, row, shape.n_columns) <= 0;
        memcpy(before, row, shape.n_columns * sizeof(*row));
        shape.n_rows++;
    }
    free(before);
    if (!is_good || rows.rest.len > 0)
        return CONTENT_BAD;
    *ret = shape;
    return 0;
}

/* ---- bases ---- */

struct content_base {
    uint8_t sha256[CONTENT_SHA256_BYTES];
    struct buf canonical;
    ZSTD_CDict *to_pack; /* made when they are wanted */
    ZSTD_DDict *to_unpack;
};

int content_base_new(struct content_base **ret,
                     const uint8_t sha256[static CONTENT_SHA256_BYTES],
                     struct buf *take_canonical)
{
    struct content_base *base = calloc(1, sizeof(*base));

    if (!base)
        return fault(-ENOMEM, "no memory for a table");
    memcpy(base->sha256, sha256, sizeof(base->sha256));
    base->canonical = *take_canonical;
    *take_canonical = (struct buf){ 0 };
    *ret = base;
    return 0;
}

struct content_base *content_base_free(struct content_base *base)
{
    if (!base)
        return NULL;
    ZSTD_freeCDict(base->to_pack);
    ZSTD_freeDDict(base->to_unpack);
    buf_deinit(&base->canonical);
    free(base);
    return NULL;
}

const uint8_t *content_base_sha256(const struct content_base *base)
{
    return base->sha256;
}

size_t content_base_bytes(const struct content_base *base)
{
    return base->canonical.len;
}

/* ---- packing ---- */

struct packing {
    struct span canonical;
    struct content_base *base;
    struct content_work *work;
    struct content_header header;
    struct buf blocks, fences, frames;
};

static bool put_frame(struct packing *packing, struct span rows, struct content_block *block)
{
    size_t bound = ZSTD_compressBound(rows.len), start = packing->frames.len, len;
    uint8_t *to = buf_extend(&packing->frames, bound);

    if (!to)
        return false;
    if (packing->base)
        len = ZSTD_compress_usingCDict(packing->work->compressor, to, bound, rows.data, rows.len,
                                       packing->base->to_pack);
    else
        len = ZSTD_compressCCtx(packing->work->compressor, to, bound, rows.data, rows.len, LEVEL);
    if (ZSTD_isError(len))
        return false;
    packing->frames.len = start + len;
    block->n_bytes = (uint32_t) rows.len;
    block->n_packed = (uint32_t) len;
    block->crc32c = crc32c(0, packing->frames.data + start, len);
    return true;
}

static bool
put_block(struct packing *packing, struct span rows, struct span first, uint32_t first_row)
{
    struct content_block block = { .first_row = first_row };
    uint8_t len = first.len < CONTENT_FENCE_BYTES ? (uint8_t) first.len : CONTENT_FENCE_BYTES;

    if (!put_frame(packing, rows, &block))
        return false;
    buf_append(&packing->blocks, &block, sizeof(block));
    buf_append(&packing->fences, &len, sizeof(len));
    buf_append(&packing->fences, first.data, len);
    packing->header.n_blocks++;
    return true;
}

/* Runs of whole rows; `row` has room for the values of one. */
static bool put_blocks(struct packing *packing, struct span *row)
{
    struct content_header *header = &packing->header;
    struct content_rows rows = {
        .rest = span_of(packing->canonical.data + header->head_bytes,
                        packing->canonical.len - header->head_bytes),
        .n_columns = header->n_columns,
    };
    const uint8_t *start = rows.rest.data;
    struct span first = { 0 };
    uint32_t first_row = 0, n = 0;

    while (content_next_row(&rows, row)) {
        size_t len = (size_t) (rows.rest.data - start);

        if (n++ == first_row)
            first = row[0];
        if (len < CONTENT_BLOCK_BYTES && rows.rest.len > 0)
            continue;
        if (!put_block(packing, span_of(start, len), first, first_row))
            return false;
        start = rows.rest.data;
        first_row = n;
    }
    return true;
}

static bool is_ready(struct packing *packing)
{
    struct content_base *base = packing->base;

    if (!packing->work->compressor)
        packing->work->compressor = ZSTD_createCCtx();
    if (base && !base->to_pack)
        base->to_pack = ZSTD_createCDict(base->canonical.data, base->canonical.len, LEVEL);
    return packing->work->compressor && (!base || base->to_pack);
}

static void put_all(struct packing *packing, struct buf *to)
{
    struct content_header *header = &packing->header;
    size_t start = to->len;
    uint32_t crc;

    header->fences_bytes = (uint32_t) packing->fences.len;
    buf_append(to, header, sizeof(*header));
    buf_append(to, packing->canonical.data, header->head_bytes);
    buf_append_span(to, buf_span(&packing->blocks));
    buf_append_span(to, buf_span(&packing->fences));
    if (buf_failed(to))
        return;
    crc = crc32c(0, to->data + start + CRC_FROM, to->len - start - CRC_FROM);
    memcpy(to->data + start, &crc, sizeof(crc));
    buf_append_span(to, buf_span(&packing->frames));
}

int content_pack(struct span canonical,
                 struct content_base *base,
                 struct content_work *work,
                 struct buf *to)
{
    struct packing packing = { .canonical = canonical, .base = base, .work = work };
    struct content_shape shape;
    struct span *row;
    bool is_done;
    int r = content_check(canonical, &shape);

    if (r < 0)
        return pass(r);
    ensure(r == CONTENT_OK);
    packing.header = (struct content_header){
        .version = CONTENT_VERSION,
        .n_rows = shape.n_rows,
        .n_bytes = canonical.len,
        .n_columns = shape.n_columns,
        .head_bytes = shape.head_bytes,
    };
    if (base)
        memcpy(packing.header.base, base->sha256, sizeof(base->sha256));
    row = calloc(shape.n_columns, sizeof(*row));
    is_done = row && is_ready(&packing) && put_blocks(&packing, row);
    if (is_done)
        put_all(&packing, to);
    is_done = is_done && !buf_failed(to) && !buf_failed(&packing.blocks) &&
              !buf_failed(&packing.fences) && !buf_failed(&packing.frames);
    free(row);
    buf_deinit(&packing.blocks);
    buf_deinit(&packing.fences);
    buf_deinit(&packing.frames);
    return is_done ? 0 : fault(-ENOMEM, "no memory to pack a table");
}

/* ---- packed ---- */

bool content_has_base(const struct content *content)
{
    static const uint8_t none[CONTENT_SHA256_BYTES];

    return memcmp(content->header.base, none, sizeof(none)) != 0;
}

struct content_block content_block_of(const struct content *content, uint32_t i)
{
    struct content_block block;

    ensure(i < content->header.n_blocks);
    memcpy(&block, content->blocks.data + (size_t) i * sizeof(block), sizeof(block));
    return block;
}

/* Blocks and fences must add up to what the header says. */
static bool adds_up(const struct content *content)
{
    const struct content_header *header = &content->header;
    uint64_t n_bytes = header->head_bytes, n_packed = 0, row = 0;
    struct span fences = content->fences;

    for (uint32_t i = 0; i < header->n_blocks; i++) {
        struct content_block block = content_block_of(content, i);

        if (block.n_bytes == 0 || (i == 0 ? block.first_row != 0 : block.first_row <= row) ||
            block.first_row >= header->n_rows)
            return false;
        row = block.first_row;
        n_bytes += block.n_bytes;
        n_packed += block.n_packed;
        if (fences.len == 0 || fences.data[0] > CONTENT_FENCE_BYTES || fences.data[0] >= fences.len)
            return false;
        fences = span_of(fences.data + 1 + fences.data[0], fences.len - 1 - fences.data[0]);
    }
    return fences.len == 0 && n_bytes == header->n_bytes && n_packed == content->frames.len &&
           (header->n_blocks > 0) == (header->n_rows > 0);
}

int content_open(struct span packed, struct content *ret)
{
    struct content content = { 0 };
    struct content_header *header = &content.header;
    struct span rest;
    uint64_t directory;

    if (packed.len < sizeof(*header))
        return CONTENT_BAD;
    memcpy(header, packed.data, sizeof(*header));
    directory = sizeof(*header) + (uint64_t) header->head_bytes +
                (uint64_t) header->n_blocks * sizeof(struct content_block) + header->fences_bytes;
    if (header->version != CONTENT_VERSION || header->n_bytes > CONTENT_BYTES_MAX ||
        header->head_bytes > header->n_bytes || directory > packed.len ||
        crc32c(0, packed.data + CRC_FROM, (size_t) directory - CRC_FROM) != header->crc32c)
        return CONTENT_BAD;
    content.head = span_of(packed.data + sizeof(*header), header->head_bytes);
    content.blocks = span_of(content.head.data + content.head.len,
                             header->n_blocks * sizeof(struct content_block));
    content.fences = span_of(content.blocks.data + content.blocks.len, header->fences_bytes);
    content.frames = span_of(packed.data + directory, packed.len - (size_t) directory);
    rest = content.head;
    if (!take_head(&rest, &header->n_columns) || rest.len > 0 || !adds_up(&content))
        return CONTENT_BAD;
    *ret = content;
    return 0;
}

/* Below, at or above 0: how a fence stands to what begins with the prefix. */
static int stand_of(struct span fence, struct span prefix)
{
    size_t len = fence.len < prefix.len ? fence.len : prefix.len;
    int r = len ? memcmp(fence.data, prefix.data, len) : 0;

    return r != 0 ? r : fence.len < prefix.len ? -1 : 0;
}

void content_range(const struct content *content,
                   struct span prefix,
                   uint32_t *ret_first,
                   uint32_t *ret_end)
{
    struct span rest = content->fences;
    uint32_t first = 0, end = content->header.n_blocks;

    /* No longer than a fence: a cut one is then never a part of it. */
    prefix.len = prefix.len < CONTENT_FENCE_BYTES ? prefix.len : CONTENT_FENCE_BYTES;
    for (uint32_t i = 0; i < content->header.n_blocks && end == content->header.n_blocks; i++) {
        struct span fence = span_of(rest.data + 1, rest.data[0]);
        int stand = stand_of(fence, prefix);

        if (stand < 0)
            first = i;
        else if (stand > 0)
            end = i;
        rest = span_of(fence.data + fence.len, rest.len - 1 - fence.len);
    }
    *ret_first = first;
    *ret_end = end;
}

/* The frames before it are as long as their blocks say. */
static size_t place_of(const struct content *content, uint32_t i)
{
    size_t at = 0;

    for (uint32_t k = 0; k < i; k++)
        at += content_block_of(content, k).n_packed;
    return at;
}

static int unpack_at(const struct content *content,
                     const struct content_block *block,
                     size_t at,
                     struct content_base *base,
                     struct content_work *work,
                     struct buf *to)
{
    const uint8_t *frame = content->frames.data + at;
    size_t start = to->len, len;
    uint8_t *rows;

    if (crc32c(0, frame, block->n_packed) != block->crc32c ||
        ZSTD_getFrameContentSize(frame, block->n_packed) != block->n_bytes)
        return CONTENT_BAD;
    if (!work->decompressor)
        work->decompressor = ZSTD_createDCtx();
    if (base && !base->to_unpack)
        base->to_unpack = ZSTD_createDDict(base->canonical.data, base->canonical.len);
    rows = buf_extend(to, block->n_bytes);
    if (!work->decompressor || (base && !base->to_unpack) || !rows)
        return fault(-ENOMEM, "no memory to unpack a table");
    if (base)
        len = ZSTD_decompress_usingDDict(work->decompressor, rows, block->n_bytes, frame,
                                         block->n_packed, base->to_unpack);
    else
        len = ZSTD_decompressDCtx(work->decompressor, rows, block->n_bytes, frame, block->n_packed);
    if (len == block->n_bytes)
        return 0;
    to->len = start;
    return CONTENT_BAD;
}

static void check_base(const struct content *content, const struct content_base *base)
{
    ensure(content_has_base(content) == (base != NULL));
    ensure(!base || memcmp(base->sha256, content->header.base, sizeof(base->sha256)) == 0);
}

int content_unpack_block(const struct content *content,
                         uint32_t i,
                         struct content_base *base,
                         struct content_work *work,
                         struct buf *to)
{
    struct content_block block = content_block_of(content, i);

    check_base(content, base);
    return unpack_at(content, &block, place_of(content, i), base, work, to);
}

int content_unpack(const struct content *content,
                   struct content_base *base,
                   struct content_work *work,
                   struct buf *to)
{
    size_t at = 0;
    int r = 0;

    check_base(content, base);
    buf_append_span(to, content->head);
    for (uint32_t i = 0; i < content->header.n_blocks && !r; i++) {
        struct content_block block = content_block_of(content, i);

        r = unpack_at(content, &block, at, base, work, to);
        at += block.n_packed;
    }
    if (!r && buf_failed(to))
        return fault(-ENOMEM, "no memory to unpack a table");
    return r;
}
