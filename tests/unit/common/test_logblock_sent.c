/* SPDX-License-Identifier: Apache-2.0 */

/* Blocks that are sent: what a sender makes is what a hub would have made, and what is not is bad.
 */

#include "test_logblock_rig.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/base/crc32c.h"

#define ARENA_BYTES ((size_t) 64 << 20)

static struct arena arena;
static struct buf block, kept;

static void start(void)
{
    rig_start();
    arena_init(&arena, ARENA_BYTES);
}

static void stop(void)
{
    arena_deinit(&arena);
    buf_deinit(&block);
    buf_deinit(&kept);
    rig_stop();
}

/* Names are not empty in what is sent. */
static void name_attributes(void)
{
    for (size_t i = 0; i < RIG_SETS * RIG_ATTRIBUTES_MAX; i++) {
        struct logblock_attribute *attribute = &rig_attributes[0][0] + i;

        if (attribute->key.len == 0)
            attribute->key = span_of_text("name");
    }
}

static void random_records(size_t n, size_t max_len)
{
    rig_random_records(n, max_len);
    name_attributes();
}

static struct span encode(bool is_sent)
{
    const struct logblock_input input = { .source = is_sent ? NULL : &rig_source,
                                          .records = rig_records,
                                          .n_records = rig_n_records,
                                          .is_pack = !is_sent,
                                          .is_sent = is_sent };

    buf_clear(&block);
    ck_assert_int_eq(logblock_encode(rig_work, &input, &block), 0);
    return buf_span(&block);
}

static int read_back(struct span bytes, struct logblock_sent *ret)
{
    uint64_t most, raw;
    bool is_known = logblock_sent_bytes(bytes, &most, &raw);
    int r;

    arena_reset(&arena, is_known ? (size_t) most : ARENA_BYTES);
    r = logblock_read_sent(bytes, rig_room, &arena, ret);
    ck_assert_int_ge(r, 0);
    ck_assert(r != 0 || is_known);
    ck_assert(r != 0 || raw == ret->n_raw_bytes);
    return r;
}

/* With the words that a hub looks for in it, and its source. */
static struct span keep(const struct logblock_sent *sent)
{
    buf_clear(&kept);
    ck_assert_int_eq(logblock_encode_sent(rig_work, &rig_source, sent, &kept), 0);
    return buf_span(&kept);
}

START_TEST(what_is_kept_is_byte_for_byte_what_a_hub_would_have_made)
{
    CLEANUP(buf_deinit) struct buf copy = { 0 };

    for (unsigned round = 0; round < 200; round++) {
        struct logblock_sent sent;

        if (_i == 0)
            random_records(1 + rig_below(RIG_RECORDS_MAX), rig_below(200));
        else
            rig_made_records((enum lines_style)(round % LINES_STYLES), round);
        buf_clear(&copy);
        buf_append_span(&copy, encode(true));
        ck_assert_int_eq(read_back(buf_span(&copy), &sent), LOGBLOCK_OK);
        ck_assert_uint_eq(sent.n_records, rig_n_records);
        for (size_t i = 0; i < sent.n_records; i++) {
            struct logblock_record expected = rig_records[i];

            expected.place = (struct logblock_place){ .index = (uint32_t) i };
            rig_assert_record(&sent.records[i], &expected);
        }
        ck_assert(span_equal(keep(&sent), encode(false)));
    }
}
END_TEST

START_TEST(one_that_is_cut_or_damaged_is_bad)
{
    struct logblock_sent sent;
    struct span bytes;

    random_records(50, 60);
    bytes = encode(true);
    for (size_t i = 0; i < bytes.len; i++) {
        ck_assert_int_eq(read_back(span_of(bytes.data, i), &sent), LOGBLOCK_BAD);
        block.data[i] ^= (uint8_t) (1u << rig_below(8));
        ck_assert_int_eq(read_back(bytes, &sent), LOGBLOCK_BAD);
        bytes = encode(true);
    }
}
END_TEST

/* Also with good checksums: what is taken then is what will be read in the block that is kept. */
START_TEST(a_head_that_lies_is_bad_or_says_what_is_kept)
{
    struct logblock_sent sent;
    unsigned n_bad = 0, n_good = 0;

    random_records(50, 60);
    for (size_t bit = 0;; bit++) {
        struct span bytes = encode(true);
        uint32_t end = parts_load32(bytes.data + 12);
        size_t at = PARTS_CHECKED + bit / 8;
        struct logblock opened;
        struct logblock_record *back;
        uint64_t n_bytes;
        size_t n;

        if (at == end)
            break;
        block.data[at] ^= (uint8_t) (1u << bit % 8);
        (void) parts_put32(block.data + 4,
                           crc32c(0, block.data + PARTS_CHECKED, end - PARTS_CHECKED));
        if (read_back(bytes, &sent) != LOGBLOCK_OK) {
            n_bad++;
            continue;
        }
        n_good++;
        opened = rig_open(keep(&sent));
        ck_assert_int_eq(logblock_find(&opened, NULL, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
        ck_assert_uint_eq(n, sent.n_records);
        for (size_t i = 0; i < n; i++)
            rig_assert_record(&back[i], &sent.records[i]);
    }
    ck_assert_uint_gt(n_bad, 100);
    ck_assert_msg(n_good > 0, "the times of all may be others, and nobody can tell");
}
END_TEST

/* In place of `from`, which is there once. */
static void replace(uint32_t end, const uint8_t *from, const uint8_t *to, size_t n)
{
    uint8_t *at = memmem(block.data, end, from, n);

    ck_assert_ptr_nonnull(at);
    memcpy(at, to, n);
}

/* A head that begins before its first record: kept, it would be a block that nobody can read. */
START_TEST(times_that_begin_behind_what_the_head_says_are_bad)
{
    struct logblock_sent sent;
    uint8_t crc[4], other[4];
    struct span bytes;
    uint32_t end, n_columns;

    rig_n_records = 1;
    rig_records[0] = (struct logblock_record){ .time_us = 1000, .body = span_of_text("body") };
    bytes = encode(true);
    ck_assert_int_eq(read_back(bytes, &sent), LOGBLOCK_OK);
    end = parts_load32(bytes.data + 12);
    n_columns = (uint32_t) (bytes.len - end - 4);
    (void) parts_put32(crc, crc32c(0, bytes.data + end, n_columns));
    ck_assert_uint_eq(block.data[PARTS_FIXED + 2], 0); /* last - first, behind 1000 */
    block.data[PARTS_FIXED + 2] = 1;
    ck_assert_uint_eq(block.data[end + 1], 0); /* the first time */
    block.data[end + 1] = 2;
    block.data[end] = 0; /* in microseconds */
    (void) parts_put32(other, crc32c(0, bytes.data + end, n_columns));
    replace(end, crc, other, 4);
    (void) parts_put32(block.data + 4, crc32c(0, block.data + PARTS_CHECKED, end - PARTS_CHECKED));
    rig_open(bytes);
    ck_assert_int_eq(read_back(bytes, &sent), LOGBLOCK_BAD);
}
END_TEST

/* ---- forged ones, with good checksums ---- */

static void put_part(struct buf *to, struct span stored, uint64_t len)
{
    uint8_t bytes[32], *at = parts_put(bytes, len);

    at = parts_put(at, stored.len);
    at = parts_put32(at, crc32c(0, stored.data, stored.len));
    buf_append(to, bytes, (size_t) (at - bytes));
}

/* What another one says, of these columns and bodies. Into `kept`. */
static struct span forge(const struct logblock *of,
                         struct span columns,
                         uint64_t columns_len,
                         struct span bodies,
                         unsigned flags)
{
    uint8_t head[PARTS_HEAD_MAX], *at = parts_put_bytes(head, span_of(PARTS_MAGIC, 4));
    size_t end;

    buf_clear(&kept);
    at = parts_put32(at, 0);
    at = parts_put32(at, LOGBLOCK_VERSION | flags << 8 | of->separator << 16);
    at = parts_put32(at, 0);
    at = parts_put_zigzag(at, (uint64_t) of->first_us);
    at = parts_put(at, (uint64_t) of->last_us - (uint64_t) of->first_us);
    at = parts_put(at, of->n_records);
    at = parts_put(at, of->severities);
    at = parts_put(at, of->n_raw_bytes);
    at = parts_put_place(at, 0, &of->first);
    at = parts_put_place(at, 0, &of->last);
    buf_append(&kept, head, (size_t) (at - head));
    put_part(&kept, columns, columns_len);
    put_part(&kept, bodies, of->bodies_len);
    buf_append(&kept, "\0\0\0", 3);
    end = kept.len;
    buf_append_span(&kept, columns);
    buf_append_span(&kept, bodies);
    (void) parts_put32(kept.data + 12, (uint32_t) end);
    (void) parts_put32(kept.data + 4, crc32c(0, kept.data + PARTS_CHECKED, end - PARTS_CHECKED));
    return buf_span(&kept);
}

static struct logblock open_lines(void)
{
    struct logblock opened;

    rig_made_records((enum lines_style) 0, 1);
    opened = rig_open(encode(true));
    ck_assert_uint_eq(opened.flags, PARTS_ZSTD_COLUMNS | PARTS_ZSTD_BODIES);
    return opened;
}

START_TEST(what_is_forged_right_is_taken)
{
    struct logblock of = open_lines();
    struct logblock_sent sent;

    ck_assert_int_eq(read_back(forge(&of, of.columns, of.columns_len, of.bodies, of.flags), &sent),
                     LOGBLOCK_OK);
    ck_assert(span_equal(buf_span(&kept), buf_span(&block)));
}
END_TEST

/* They would be kept, and decoded by every search, for as long as the block lives. */
START_TEST(sets_that_no_record_has_are_bad)
{
    static const struct logblock_record record = { .time_us = 5, .body = { (uint8_t *) "a", 1 } };
    /* Two times, kinds, observed, offsets; two sets; runs of the first one, of places. */
    static const uint8_t two[] = { 2, 0, 0, 0, 1, 10, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1 };
    static const uint8_t used[] = {
        2, 0, 0, 0, 1, 10, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1
    };
    struct logblock_sent sent;
    struct logblock of;

    rig_records[0] = rig_records[1] = record;
    rig_n_records = 2;
    of = rig_open(encode(true));
    ck_assert_int_eq(
        read_back(forge(&of, span_of(used, sizeof(used)), sizeof(used), of.bodies, of.flags),
                  &sent),
        LOGBLOCK_OK);
    ck_assert_int_eq(
        read_back(forge(&of, span_of(two, sizeof(two)), sizeof(two), of.bodies, of.flags), &sent),
        LOGBLOCK_BAD);
}
END_TEST

/* What decoders pass over, or take for one, would be carried along for ever. */
START_TEST(frames_with_something_beside_them_are_bad)
{
    static const uint8_t skipped[] = { 0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 'j', 'u', 'n', 'k' };
    CLEANUP(buf_deinit) struct buf bodies = { 0 };
    struct logblock of = open_lines();
    struct logblock_sent sent;

    for (unsigned where = 0; where < 2; where++) {
        buf_clear(&bodies);
        if (where == 0)
            buf_append(&bodies, skipped, sizeof(skipped));
        buf_append_span(&bodies, of.bodies);
        if (where == 1)
            buf_append(&bodies, skipped, sizeof(skipped));
        ck_assert_int_eq(
            read_back(forge(&of, of.columns, of.columns_len, buf_span(&bodies), of.flags), &sent),
            LOGBLOCK_BAD);
    }
}
END_TEST

START_TEST(lengths_beyond_what_the_records_can_be_are_bad_before_anything_is_decoded)
{
    const uint64_t most = PARTS_COLUMNS_RECORD * ((uint64_t) RIG_RECORDS_MAX + 1);
    struct logblock of = open_lines();
    uint64_t arena_bytes, raw;

    ck_assert(
        logblock_sent_bytes(forge(&of, of.columns, most, of.bodies, of.flags), &arena_bytes, &raw));
    ck_assert_uint_lt(arena_bytes, 10 * (most + of.bodies_len));
    ck_assert(!logblock_sent_bytes(
        forge(&of, of.columns, most + 5 * of.n_raw_bytes + 1, of.bodies, of.flags), &arena_bytes,
        &raw));
}
END_TEST

START_TEST(attributes_without_a_name_are_bad)
{
    struct logblock_sent sent;

    rig_random_records(1, 60);
    name_attributes();
    rig_records[0].n_attributes = 2;
    ck_assert_int_eq(read_back(encode(true), &sent), LOGBLOCK_OK);
    for (size_t set = 0; set < RIG_SETS; set++)
        rig_attributes[set][1].key.len = 0;
    ck_assert_int_eq(read_back(encode(true), &sent), LOGBLOCK_BAD);
}
END_TEST

/* A pack of the store's own, a sealed block, one that stood elsewhere. */
START_TEST(what_is_no_block_that_is_sent_is_bad)
{
    struct logblock_input sealed = { .source = &rig_source, .records = rig_records };
    struct logblock_place there = { 7, 4096, 0 };
    struct logblock_sent sent;

    rig_made_records((enum lines_style) 0, 1);
    ck_assert_int_eq(read_back(encode(false), &sent), LOGBLOCK_BAD);
    sealed.n_records = rig_n_records;
    buf_clear(&block);
    ck_assert_int_eq(logblock_encode(rig_work, &sealed, &block), 0);
    ck_assert_int_eq(read_back(buf_span(&block), &sent), LOGBLOCK_BAD);
    buf_clear(&kept);
    ck_assert_int_eq(logblock_move(encode(true), there, &kept), LOGBLOCK_OK);
    ck_assert_int_eq(read_back(buf_span(&kept), &sent), LOGBLOCK_BAD);
    ck_assert_int_eq(read_back(span_of_text("SNLB"), &sent), LOGBLOCK_BAD);
    ck_assert_int_eq(read_back(span_of(NULL, 0), &sent), LOGBLOCK_BAD);
}
END_TEST

START_TEST(an_arena_that_is_too_small_is_a_fault)
{
    struct logblock_sent sent;
    struct span bytes;

    rig_made_records((enum lines_style) 0, 1);
    bytes = encode(true);
    arena_reset(&arena, 1000);
    ck_assert_int_lt(logblock_read_sent(bytes, rig_room, &arena, &sent), 0);
    ck_assert(arena.is_exhausted);
}
END_TEST

TCase *logblock_sent_case(void)
{
    TCase *c = tcase_create("sent");

    tcase_add_checked_fixture(c, start, stop);
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, what_is_kept_is_byte_for_byte_what_a_hub_would_have_made, 0, 2);
    tcase_add_test(c, one_that_is_cut_or_damaged_is_bad);
    tcase_add_test(c, a_head_that_lies_is_bad_or_says_what_is_kept);
    tcase_add_test(c, times_that_begin_behind_what_the_head_says_are_bad);
    tcase_add_test(c, what_is_forged_right_is_taken);
    tcase_add_test(c, sets_that_no_record_has_are_bad);
    tcase_add_test(c, frames_with_something_beside_them_are_bad);
    tcase_add_test(c, lengths_beyond_what_the_records_can_be_are_bad_before_anything_is_decoded);
    tcase_add_test(c, attributes_without_a_name_are_bad);
    tcase_add_test(c, what_is_no_block_that_is_sent_is_bad);
    tcase_add_test(c, an_arena_that_is_too_small_is_a_fault);
    return c;
}
