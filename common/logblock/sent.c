/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Blocks that come from elsewhere. Whatever the head says is checked against what it is the head
 * of: times are counted from its first one, so a wrong head would be wrong records.
 */

#include <stdlib.h>

#include "common/base/fault.h"
#include "common/logblock/parts.h"

/* Of an attribute: a varint for each of its lengths. */
#define ATTRIBUTE_MIN 2
/* Of a key or a value, or of a body, the length at most. */
#define LENGTH_MAX 4

/* What decodes to more than these records can be is none; nothing is decoded to find that out. */
static bool is_in_proportion(const struct logblock *block)
{
    const uint64_t n = block->n_records, raw = block->n_raw_bytes;

    return block->bodies_len <= raw + LENGTH_MAX * n &&
           block->columns_len <= PARTS_COLUMNS_RECORD * (n + 1) + (1 + LENGTH_MAX) * raw;
}

/* One frame of the format of now, as encoders make it: with nothing beside it that is carried along
 * for ever. */
static bool is_one_frame(struct span stored, uint64_t len)
{
    return stored.len < len && stored.len >= 4 && parts_load32(stored.data) == ZSTD_MAGICNUMBER &&
           ZSTD_findFrameCompressedSize(stored.data, stored.len) == stored.len;
}

static bool is_sent(const struct logblock *block)
{
    const struct logblock_place *first = &block->first, *last = &block->last;

    return block->version == LOGBLOCK_VERSION && block->filter.len == 0 &&
           block->source.n_attributes == 0 && block->source.type.len == 0 &&
           block->source.name.len == 0 && first->chunk == 0 && first->offset == 0 &&
           first->index == 0 && last->chunk == 0 && last->offset == 0 &&
           last->index == block->n_records - 1 && parts_may_separate(block->separator) &&
           is_in_proportion(block) &&
           (!(block->flags & PARTS_ZSTD_COLUMNS) ||
            is_one_frame(block->columns, block->columns_len)) &&
           (!(block->flags & PARTS_ZSTD_BODIES) || is_one_frame(block->bodies, block->bodies_len));
}

/* Outcomes: LOGBLOCK_BAD. */
static int open_sent(struct span bytes, struct logblock_room *room, struct logblock *ret)
{
    int r = logblock_open(bytes, room, ret);

    if (r < 0)
        return pass(r);
    return r == LOGBLOCK_OK && is_sent(ret) ? LOGBLOCK_OK : LOGBLOCK_BAD;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool logblock_sent_bytes(struct span bytes, uint64_t *ret_arena_bytes, uint64_t *ret_raw_bytes)
{
    struct logblock_room room = { 0 };
    struct logblock block;
    uint64_t n_attributes;
    int r = open_sent(bytes, &room, &block);

    free(room.source.data);
    if (r != LOGBLOCK_OK)
        return false;
    /* One has a byte of its own at least, which is raw, and lengths of at least so many. */
    n_attributes = least(block.columns_len / ATTRIBUTE_MIN, block.n_raw_bytes);
    *ret_raw_bytes = block.n_raw_bytes;
    *ret_arena_bytes = block.bodies_len + block.columns_len + (uint64_t) 8 * PARTS_SLACK +
                       n_attributes * sizeof(struct logblock_attribute) +
                       block.n_records * (sizeof(struct logblock_record) + PARTS_SET_BYTES + 1);
    return true;
}

/* Of attributes that have a key; else there may be any number of them for nothing. */
static bool sum_attributes(const struct logblock_record *record, uint64_t *sum)
{
    for (size_t i = 0; i < record->n_attributes; i++) {
        if (record->attributes[i].key.len == 0)
            return false;
        *sum += record->attributes[i].key.len + record->attributes[i].value.len;
    }
    return true;
}

static bool are_summed_up(const struct logblock *block,
                          const struct logblock_record *records,
                          uint64_t *ret_raw_bytes)
{
    int64_t first_us = INT64_MAX, last_us = INT64_MIN;
    uint64_t n_raw_bytes = 0;
    uint32_t severities = 0;

    for (size_t i = 0; i < block->n_records; i++) {
        const struct logblock_record *record = &records[i];

        if (record->place.chunk != 0 || record->place.offset != 0 || record->place.index != i)
            return false;
        first_us = record->time_us < first_us ? record->time_us : first_us;
        last_us = record->time_us > last_us ? record->time_us : last_us;
        severities |= (uint32_t) 1 << record->severity;
        n_raw_bytes += record->body.len;
        if (!sum_attributes(record, &n_raw_bytes) || n_raw_bytes > block->n_raw_bytes)
            return false;
    }
    *ret_raw_bytes = n_raw_bytes;
    return first_us == block->first_us && last_us == block->last_us &&
           severities == block->severities && n_raw_bytes == block->n_raw_bytes;
}

int logblock_read_sent(struct span bytes,
                       struct logblock_room *room,
                       struct arena *arena,
                       struct logblock_sent *ret)
{
    const struct parts_bytes none = { .arena = arena };
    struct logblock_room here = {
        .zstd = room->zstd,
        .bodies = none,
        .columns = none,
        .records = none,
        .marks = none,
        .sets = none,
        .attributes = none,
        .source = none,
    };
    struct logblock block;
    struct logblock_sent sent;
    uint64_t n_decoded;
    int r;

    r = open_sent(bytes, &here, &block);
    if (r != 0)
        return pass(r);
    r = logblock_find(&block, NULL, &here, &sent.records, &sent.n_records, &n_decoded);
    if (r != 0)
        return pass(r);
    if (!are_summed_up(&block, sent.records, &sent.n_raw_bytes))
        return LOGBLOCK_BAD;
    sent.bodies = span_of(here.bodies.data, (size_t) block.bodies_len);
    sent.has_lengths = block.separator == PARTS_LENGTHS;
    sent.columns_stored = block.columns;
    sent.bodies_stored = block.bodies;
    sent.columns_len = block.columns_len;
    sent.separator = block.separator;
    sent.flags = block.flags;
    *ret = sent;
    return LOGBLOCK_OK;
}
