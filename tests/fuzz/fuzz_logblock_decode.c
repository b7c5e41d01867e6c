/* SPDX-License-Identifier: Apache-2.0
 * Targets: logblock_unpack, logblock_next, logblock_open, logblock_move, logblock_may_hold,
 * logblock_find, logblock_sent_bytes, logblock_read_sent, logblock_encode_sent. */

/*
 * The first byte says what the rest is: 0 a pack, or a block in place of one; 1 blocks as they are;
 * 2 a block whose checksums are made good first, and what it says of its parts is no obstacle;
 * 3 a block that is sent, 4 one whose checksums are made good first.
 */

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/logblock/parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ignore_fault(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

/* Every byte is there. */
static uint64_t sum_of(struct span span)
{
    uint64_t sum = span.len;

    for (size_t i = 0; i < span.len; i++)
        sum += span.data[i];
    return sum;
}

static uint64_t read_record(const struct logblock_record *record)
{
    uint64_t sum = sum_of(record->body) + (uint64_t) record->time_us;

    ensure(record->severity <= LOGBLOCK_SEVERITY_MAX);
    ensure(record->n_attributes <= LOGBLOCK_ATTRIBUTES_MAX);
    for (size_t i = 0; i < record->n_attributes; i++)
        sum += sum_of(record->attributes[i].key) + sum_of(record->attributes[i].value);
    return sum;
}

static void read_pack(struct span bytes, struct logblock_room *room)
{
    struct logblock_place at = { 1, 2, 0 };
    struct logblock_record *records;
    struct logblock_source source;
    size_t n;
    int r = logblock_unpack(bytes, at, room, &source, &records, &n);

    ensure(r == LOGBLOCK_OK || r == LOGBLOCK_BAD);
    for (size_t i = 0; r == LOGBLOCK_OK && i < n; i++)
        (void) read_record(&records[i]);
}

/* Finds all, and what holds a text; the latter are of the former. */
static void read_records(const struct logblock *block, struct logblock_room *room)
{
    CLEANUP(logblock_terms_freep) struct logblock_terms *terms = NULL;
    struct logblock_term term = { span_of_text("e"), false };
    struct logblock_wanted wanted = { .from_us = INT64_MIN, .to_us = INT64_MAX };
    struct logblock_record *records;
    size_t n_all, n;
    uint64_t n_bytes;
    int r = logblock_find(block, NULL, room, &records, &n_all, &n_bytes);

    ensure(r == LOGBLOCK_OK || r == LOGBLOCK_BAD);
    for (size_t i = 0; r == LOGBLOCK_OK && i < n_all; i++)
        (void) read_record(&records[i]);
    ensure(logblock_terms_new(&terms, &term, 1) == 0);
    wanted.terms = terms;
    wanted.min_severity = 3;
    (void) logblock_may_hold(block, terms);
    if (r != LOGBLOCK_OK)
        return;
    ensure(n_all == block->n_records);
    r = logblock_find(block, &wanted, room, &records, &n, &n_bytes);
    ensure(r == LOGBLOCK_OK && n <= n_all);
    for (size_t i = 0; i < n; i++)
        ensure(logblock_holds(terms, records[i].body) && records[i].severity >= 3);
}

/* What is moved is still a block, and the same but for its places. */
static void move(struct span bytes, const struct logblock *before, struct logblock_room *room)
{
    CLEANUP(buf_deinit) struct buf moved = { 0 };
    struct logblock_place at = { 3, 5, 0 };
    struct logblock after;
    int r = logblock_move(bytes, at, &moved);

    ensure(r == (before->version > 1 ? LOGBLOCK_OK : LOGBLOCK_BAD));
    if (r != LOGBLOCK_OK)
        return;
    ensure(logblock_open(buf_span(&moved), room, &after) == LOGBLOCK_OK);
    ensure(after.first.chunk == before->first.chunk + at.chunk &&
           after.first.offset == before->first.offset + at.offset &&
           after.last.chunk == before->last.chunk + at.chunk &&
           span_equal(after.filter, before->filter) && span_equal(after.bodies, before->bodies));
}

static void read_block(struct span bytes, struct logblock_room *room, bool is_mended)
{
    struct span left = bytes;
    struct logblock block;
    int r = logblock_next(&left, room, &block);

    ensure(r == LOGBLOCK_OK || r == LOGBLOCK_BAD);
    if (r != LOGBLOCK_OK)
        return;
    move(span_of(bytes.data, bytes.len - left.len), &block, room);
    ensure(logblock_next(&bytes, room, &block) == LOGBLOCK_OK && bytes.len == left.len);
    if (is_mended) {
        block.columns_crc = crc32c(0, block.columns.data, block.columns.len);
        block.bodies_crc = crc32c(0, block.bodies.data, block.bodies.len);
    }
    read_records(&block, room);
    if (left.len > 0)
        read_block(left, room, is_mended);
}

/* What is kept of one that is taken has the same records, and is a block for ever. */
static void keep_sent(const struct logblock_sent *sent, struct logblock_room *room)
{
    static const struct logblock_source source = { { (const uint8_t *) "file", 4 },
                                                   { (const uint8_t *) "/var/log/a", 10 } };
    CLEANUP(logblock_work_freep) struct logblock_work *work = logblock_work_new();
    CLEANUP(buf_deinit) struct buf kept = { 0 };
    struct logblock_record *records;
    struct logblock block;
    uint64_t n_bytes;
    size_t n;

    ensure(work && logblock_encode_sent(work, &source, sent, &kept) == 0);
    ensure(logblock_open(buf_span(&kept), room, &block) == LOGBLOCK_OK);
    ensure(logblock_find(&block, NULL, room, &records, &n, &n_bytes) == LOGBLOCK_OK);
    ensure(n == sent->n_records && block.n_raw_bytes == sent->n_raw_bytes);
    for (size_t i = 0; i < n; i++)
        ensure(read_record(&records[i]) == read_record(&sent->records[i]) &&
               records[i].severity == sent->records[i].severity && records[i].place.index == i);
}

static void read_sent(struct span bytes, struct logblock_room *room)
{
    struct logblock_sent sent;
    uint64_t most, raw;
    struct arena arena;
    bool is_known = logblock_sent_bytes(bytes, &most, &raw);
    int r;

    arena_init(&arena, is_known ? (size_t) most : 1 << 20);
    r = logblock_read_sent(bytes, room, &arena, &sent);
    ensure((r == LOGBLOCK_OK && is_known) || r == LOGBLOCK_BAD);
    if (r == LOGBLOCK_OK)
        keep_sent(&sent, room);
    arena_deinit(&arena);
}

static void read_mended(struct span bytes, struct logblock_room *room, bool is_sent)
{
    uint8_t *copy = malloc(bytes.len ? bytes.len : 1);
    uint32_t end = bytes.len >= PARTS_FIXED ? parts_load32(bytes.data + 12) : 0;

    ensure(copy);
    (void) parts_put_bytes(copy, bytes);
    if (end >= PARTS_FIXED && end <= bytes.len)
        (void) parts_put32(copy + 4, crc32c(0, copy + PARTS_CHECKED, end - PARTS_CHECKED));
    if (is_sent)
        read_sent(span_of(copy, bytes.len), room);
    else
        read_block(span_of(copy, bytes.len), room, true);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    CLEANUP(logblock_room_freep) struct logblock_room *room = logblock_room_new();

    ensure(room);
    if (len < 1)
        return 0;
    fault_set_sink(ignore_fault);
    if (data[0] == 0)
        read_pack(span_of(data + 1, len - 1), room);
    else if (data[0] == 1)
        read_block(span_of(data + 1, len - 1), room, false);
    else if (data[0] == 3)
        read_sent(span_of(data + 1, len - 1), room);
    else
        read_mended(span_of(data + 1, len - 1), room, data[0] == 4);
    return 0;
}
