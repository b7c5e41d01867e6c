/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/lines_block.h"

#include <errno.h>
#include <stdlib.h>

#include "bench/varint.h"
#include "common/base/fault.h"
#include "common/logblock/logblock.h"

#define TAG_BATCH 0x12
#define TAG_SEQUENCE 0x08
#define TAG_SOURCE 0x12
#define TAG_TYPE 0x0a
#define TAG_NAME 0x12
#define TAG_BLOCK 0x22

void lines_block_deinit(struct lines_block *block)
{
    block->work = logblock_work_free(block->work);
    free(block->records);
    block->records = NULL;
    block->n_room = 0;
    buf_deinit(&block->bodies);
    buf_deinit(&block->block);
    buf_deinit(&block->message);
}

static int reserve(struct lines_block *block, size_t n_records)
{
    if (!block->work)
        block->work = logblock_work_new();
    if (block->n_room < n_records) {
        free(block->records);
        block->records = calloc(n_records, sizeof(*block->records));
        block->n_room = block->records ? n_records : 0;
    }
    return block->work && block->records ? 0 : fault(-ENOMEM, "no memory for a block of lines");
}

static int
encode(struct lines_block *block, const struct lines *lines, uint32_t agent, uint64_t sequence)
{
    const struct logblock_input input = { .records = block->records,
                                          .n_records = lines->batch_lines,
                                          .effort = LOGBLOCK_FAST,
                                          .is_sent = true };

    block->body_bytes =
        (uint32_t) lines_records(lines, agent, sequence, &block->bodies, block->records);
    if (buf_failed(&block->bodies))
        return fault(-ENOMEM, "no memory for lines");
    buf_clear(&block->block);
    return pass(logblock_encode(block->work, &input, &block->block));
}

/* ---- on the wire ---- */

static size_t field_bytes(size_t len)
{
    return 1 + varint_bytes(len) + len;
}

static void append_head(struct buf *to, uint8_t tag, uint64_t value)
{
    uint8_t head[1 + VARINT_BYTES] = { tag };

    buf_append(to, head, (size_t) (put_varint(head + 1, value) - head));
}

static void append_bytes(struct buf *to, uint8_t tag, struct span bytes)
{
    append_head(to, tag, bytes.len);
    buf_append_span(to, bytes);
}

static void
append_batch(struct buf *to, uint64_t sequence, struct lines_source source, struct span block)
{
    const struct span type = span_of_text(source.type), name = span_of_text(source.name);
    const size_t source_bytes = field_bytes(type.len) + field_bytes(name.len);

    append_head(to, TAG_BATCH,
                1 + varint_bytes(sequence) + field_bytes(source_bytes) + field_bytes(block.len));
    append_head(to, TAG_SEQUENCE, sequence);
    append_head(to, TAG_SOURCE, source_bytes);
    append_bytes(to, TAG_TYPE, type);
    append_bytes(to, TAG_NAME, name);
    append_bytes(to, TAG_BLOCK, block);
}

int lines_block_make(struct lines_block *block,
                     const struct lines *lines,
                     uint32_t agent,
                     uint64_t sequence,
                     struct span *ret_message)
{
    int r = reserve(block, lines->batch_lines);

    if (r == 0)
        r = encode(block, lines, agent, sequence);
    if (r < 0)
        return pass(r);
    buf_clear(&block->message);
    append_batch(&block->message, sequence, lines_source(agent), buf_span(&block->block));
    if (buf_failed(&block->message))
        return fault(-ENOMEM, "no memory for a message with a block");
    *ret_message = buf_span(&block->message);
    return 0;
}
