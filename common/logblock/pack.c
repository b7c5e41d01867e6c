/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/logblock/parts.h"

#define RAW 1
#define TRACE 2
#define SPAN 4
#define SAME 8
#define LENGTHS 8 /* bytes of an attribute's two */

/* ---- writing ---- */

static size_t attributes_bytes(const struct logblock_attribute *attributes, size_t n)
{
    return n * LENGTHS + parts_attributes_bytes(attributes, n);
}

size_t logblock_source_bytes(const struct logblock_source *source)
{
    return PARTS_PACK_FIXED + source->type.len + source->name.len +
           attributes_bytes(source->attributes, source->n_attributes);
}

size_t logblock_pack_bytes(const struct logblock_record *record)
{
    return PARTS_RECORD_FIXED + sizeof(record->trace_id) + sizeof(record->span_id) +
           attributes_bytes(record->attributes, record->n_attributes) + record->body.len;
}

static uint8_t *put_attributes(uint8_t *to, const struct logblock_attribute *attributes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to = parts_put32(to, (uint32_t) attributes[i].key.len);
        to = parts_put32(to, (uint32_t) attributes[i].value.len);
    }
    for (size_t i = 0; i < n; i++) {
        to = parts_put_bytes(to, attributes[i].key);
        to = parts_put_bytes(to, attributes[i].value);
    }
    return to;
}

static uint8_t *put_record(uint8_t *to, const struct logblock_record *record, bool is_same)
{
    size_t n_attributes = is_same ? 0 : record->n_attributes;
    uint8_t flags = (uint8_t) ((record->is_raw ? RAW : 0) | (record->has_trace_id ? TRACE : 0) |
                               (record->has_span_id ? SPAN : 0) | (is_same ? SAME : 0));

    ensure(record->severity <= LOGBLOCK_SEVERITY_MAX);
    ensure(record->n_attributes <= LOGBLOCK_ATTRIBUTES_MAX);
    to = parts_put64(to, (uint64_t) record->time_us);
    to = parts_put64(to, (uint64_t) record->observed_us);
    to = parts_put64(to, record->source_offset);
    to = parts_put32(to, (uint32_t) record->body.len);
    to = parts_put32(to, (uint32_t) n_attributes | record->severity << 16 | (uint32_t) flags << 24);
    if (record->has_trace_id)
        to = parts_put_bytes(to, span_of(record->trace_id, sizeof(record->trace_id)));
    if (record->has_span_id)
        to = parts_put_bytes(to, span_of(record->span_id, sizeof(record->span_id)));
    to = put_attributes(to, record->attributes, n_attributes);
    return parts_put_bytes(to, record->body);
}

uint8_t *logblock_pack(uint8_t *to,
                       const struct logblock_source *source,
                       const struct logblock_record *records,
                       size_t n_records)
{
    uint8_t *start = to;
    size_t n_attributes = 0;

    ensure(n_records >= 1 && n_records <= LOGBLOCK_RECORDS_MAX);
    ensure(source->n_attributes <= LOGBLOCK_ATTRIBUTES_MAX);
    to = parts_put32(to, PARTS_PACK_VERSION | (uint32_t) source->n_attributes << 16);
    to = parts_put32(to, (uint32_t) n_records);
    to = parts_put32(to, 0); /* when it is known */
    to = parts_put32(to, (uint32_t) source->type.len);
    to = parts_put32(to, (uint32_t) source->name.len);
    to = put_attributes(to, source->attributes, source->n_attributes);
    to = parts_put_bytes(to, source->type);
    to = parts_put_bytes(to, source->name);
    for (size_t i = 0; i < n_records; i++) {
        bool is_same = i > 0 && records[i].n_attributes > 0 &&
                       parts_same_attributes(&records[i], &records[i - 1]);

        to = put_record(to, &records[i], is_same);
        n_attributes += is_same ? 0 : records[i].n_attributes;
    }
    (void) parts_put32(start + 8, (uint32_t) n_attributes);
    return to;
}

/* ---- reading ---- */

static bool take_attributes(struct span *bytes, size_t n, struct logblock_attribute *ret)
{
    struct span lengths;

    if (n > LOGBLOCK_ATTRIBUTES_MAX || !parts_take_bytes(bytes, n * LENGTHS, &lengths))
        return false;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *at = lengths.data + i * LENGTHS;

        if (!parts_take_bytes(bytes, parts_load32(at), &ret[i].key) ||
            !parts_take_bytes(bytes, parts_load32(at + 4), &ret[i].value))
            return false;
    }
    return true;
}

/* What is read of the records. */
struct walk {
    struct span bytes;                     /* what is left */
    struct logblock_attribute *attributes; /* likewise */
    size_t n_attributes;
    struct logblock_place place; /* of the next one */
};

static bool take_id(struct walk *walk, bool is_there, uint8_t *ret, size_t n)
{
    struct span id;

    if (!is_there)
        return true;
    if (!parts_take_bytes(&walk->bytes, n, &id))
        return false;
    memcpy(ret, id.data, n);
    return true;
}

static bool take_record_attributes(struct walk *walk,
                                   size_t n,
                                   const struct logblock_record *before,
                                   struct logblock_record *ret)
{
    if (before) {
        ret->attributes = before->attributes;
        ret->n_attributes = before->n_attributes;
        return n == 0 && ret->n_attributes > 0;
    }
    if (n > walk->n_attributes || !take_attributes(&walk->bytes, n, walk->attributes))
        return false;
    ret->attributes = walk->attributes;
    ret->n_attributes = n;
    walk->attributes += n;
    walk->n_attributes -= n;
    return true;
}

static bool
take_record(struct walk *walk, const struct logblock_record *before, struct logblock_record *ret)
{
    struct span fixed;
    uint32_t word, flags;

    if (!parts_take_bytes(&walk->bytes, PARTS_RECORD_FIXED, &fixed))
        return false;
    word = parts_load32(fixed.data + 28);
    flags = word >> 24;
    *ret = (struct logblock_record){
        .time_us = (int64_t) parts_load64(fixed.data),
        .observed_us = (int64_t) parts_load64(fixed.data + 8),
        .source_offset = parts_load64(fixed.data + 16),
        .severity = word >> 16 & 255,
        .is_raw = flags & RAW,
        .has_trace_id = flags & TRACE,
        .has_span_id = flags & SPAN,
        .place = walk->place,
    };
    walk->place.index++;
    return flags < 2 * SAME && ret->severity <= LOGBLOCK_SEVERITY_MAX &&
           (before || !(flags & SAME)) &&
           take_id(walk, ret->has_trace_id, ret->trace_id, sizeof(ret->trace_id)) &&
           take_id(walk, ret->has_span_id, ret->span_id, sizeof(ret->span_id)) &&
           take_record_attributes(walk, word & 0xffff, flags & SAME ? before : NULL, ret) &&
           parts_take_bytes(&walk->bytes, parts_load32(fixed.data + 24), &ret->body);
}

/* The room that the head asks for; false when the bytes cannot hold that. */
static bool is_plausible(struct span bytes, size_t n_records, size_t n_attributes)
{
    return n_records >= 1 && n_records <= LOGBLOCK_RECORDS_MAX &&
           n_records <= bytes.len / PARTS_RECORD_FIXED && n_attributes <= bytes.len / LENGTHS;
}

static int unpack_block(struct span bytes,
                        struct logblock_place at,
                        struct logblock_room *room,
                        struct logblock_source *ret_source,
                        struct logblock_record **ret_records,
                        size_t *ret_n)
{
    struct logblock block;
    uint64_t n_bytes;
    int r = logblock_open(bytes, room, &block);

    if (r == 0)
        r = logblock_find(&block, NULL, room, ret_records, ret_n, &n_bytes);
    if (r != 0)
        return pass(r);
    logblock_move_records(*ret_records, *ret_n, at);
    *ret_source = block.source;
    return LOGBLOCK_OK;
}

int logblock_unpack(struct span bytes,
                    struct logblock_place at,
                    struct logblock_room *room,
                    struct logblock_source *ret_source,
                    struct logblock_record **ret_records,
                    size_t *ret_n)
{
    struct walk walk = { .place = at };
    struct logblock_source source;
    struct logblock_record *records;
    struct logblock_attribute *attributes;
    size_t n_records;
    struct span fixed;
    int r;

    if (logblock_is_block(bytes))
        return pass(unpack_block(bytes, at, room, ret_source, ret_records, ret_n));
    if (!parts_take_bytes(&bytes, PARTS_PACK_FIXED, &fixed) ||
        fixed.data[0] != PARTS_PACK_VERSION || fixed.data[1] != 0)
        return LOGBLOCK_BAD;
    source.n_attributes = parts_load32(fixed.data) >> 16;
    n_records = parts_load32(fixed.data + 4);
    walk.n_attributes = parts_load32(fixed.data + 8);
    if (source.n_attributes > LOGBLOCK_ATTRIBUTES_MAX ||
        !is_plausible(bytes, n_records, walk.n_attributes))
        return LOGBLOCK_BAD;
    r = parts_reserve(&room->source, source.n_attributes * sizeof(*source.attributes));
    if (r == 0)
        r = parts_reserve(&room->attributes, walk.n_attributes * sizeof(*walk.attributes));
    if (r == 0)
        r = parts_reserve(&room->records, n_records * sizeof(*records));
    if (r < 0)
        return pass(r);
    attributes = (void *) room->source.data;
    walk.attributes = (void *) room->attributes.data;
    records = (void *) room->records.data;
    source.attributes = attributes;
    if (!take_attributes(&bytes, source.n_attributes, attributes) ||
        !parts_take_bytes(&bytes, parts_load32(fixed.data + 12), &source.type) ||
        !parts_take_bytes(&bytes, parts_load32(fixed.data + 16), &source.name))
        return LOGBLOCK_BAD;
    walk.bytes = bytes;
    for (size_t i = 0; i < n_records; i++)
        if (!take_record(&walk, i > 0 ? &records[i - 1] : NULL, &records[i]))
            return LOGBLOCK_BAD;
    if (walk.bytes.len > 0 || walk.n_attributes > 0)
        return LOGBLOCK_BAD;
    *ret_source = source;
    *ret_records = records;
    *ret_n = n_records;
    return LOGBLOCK_OK;
}
