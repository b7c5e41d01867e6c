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
            rig_random_records(1 + rig_below(RIG_RECORDS_MAX), rig_below(200));
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

    rig_random_records(50, 60);
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

    rig_random_records(50, 60);
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
    tcase_add_test(c, what_is_no_block_that_is_sent_is_bad);
    tcase_add_test(c, an_arena_that_is_too_small_is_a_fault);
    return c;
}
