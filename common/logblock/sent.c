/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Blocks that come from elsewhere. Whatever the head says is checked against what it is the head
 * of: times are counted from its first one, so a wrong head would be wrong records.
 */

#include "common/base/fault.h"
#include "common/logblock/parts.h"

/* Of an attribute: a varint for each of its lengths. */
#define ATTRIBUTE_MIN 2

static bool is_sent(const struct logblock *block)
{
    const struct logblock_place *first = &block->first, *last = &block->last;

    return block->version == LOGBLOCK_VERSION && block->filter.len == 0 &&
           block->source.n_attributes == 0 && block->source.type.len == 0 &&
           block->source.name.len == 0 && first->chunk == 0 && first->offset == 0 &&
           first->index == 0 && last->chunk == 0 && last->offset == 0 &&
           last->index == block->n_records - 1 && parts_may_separate(block->separator);
}

static bool open_sent(struct span bytes, struct logblock_room *room, struct logblock *ret)
{
    return logblock_open(bytes, room, ret) == LOGBLOCK_OK && is_sent(ret);
}

bool logblock_sent_bytes(struct span bytes, uint64_t *ret_arena_bytes, uint64_t *ret_raw_bytes)
{
    struct logblock_room room = { 0 };
    struct logblock block;
    bool is_good = open_sent(bytes, &room, &block);

    free(room.source.data);
    if (!is_good)
        return false;
    *ret_raw_bytes = block.n_raw_bytes;
    *ret_arena_bytes = block.bodies_len + block.columns_len + (uint64_t) 8 * PARTS_SLACK +
                       block.columns_len / ATTRIBUTE_MIN * sizeof(struct logblock_attribute) +
                       block.n_records * (sizeof(struct logblock_record) + PARTS_SET_BYTES + 1);
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
        n_raw_bytes += logblock_raw_bytes(record);
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
    struct parts_bytes none = { .arena = arena };
    struct logblock_room here = { room->zstd, none, none, none, none, none, none, none };
    struct logblock block;
    struct logblock_sent sent;
    uint64_t n_decoded;
    int r;

    if (!open_sent(bytes, &here, &block))
        return LOGBLOCK_BAD;
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
