/* SPDX-License-Identifier: Apache-2.0 */
#include "test_logblock_rig.h"

#include <stdlib.h>
#include <string.h>

static uint8_t *packed;

/* ---- packs ---- */

static struct span pack(void)
{
    size_t most = logblock_source_bytes(&rig_source);
    uint8_t *end;

    for (size_t i = 0; i < rig_n_records; i++)
        most += logblock_pack_bytes(&rig_records[i]);
    free(packed);
    packed = malloc(most);
    ck_assert_ptr_nonnull(packed);
    end = logblock_pack(packed, &rig_source, rig_records, rig_n_records);
    ck_assert_uint_le((size_t) (end - packed), most);
    return span_of(packed, (size_t) (end - packed));
}

START_TEST(a_pack_gives_back_what_was_packed)
{
    struct logblock_place at = { 7, 4096, 0 };
    struct logblock_record *back;
    struct logblock_source from;
    size_t n;

    for (size_t round = 0; round < 200; round++) {
        rig_random_records(1 + rig_below(50), 300);
        ck_assert_int_eq(logblock_unpack(pack(), at, rig_room, &from, &back, &n), LOGBLOCK_OK);
        ck_assert_uint_eq(n, rig_n_records);
        rig_assert_source(&from, &rig_source);
        for (size_t i = 0; i < n; i++) {
            rig_records[i].place = (struct logblock_place){ 7, 4096, (uint32_t) i };
            rig_assert_record(&back[i], &rig_records[i]);
        }
    }
}
END_TEST

START_TEST(attributes_that_repeat_are_packed_once)
{
    size_t once;

    rig_random_records(2, 10);
    for (size_t i = 0; i < 2; i++) {
        rig_records[i].attributes = rig_attributes[0];
        rig_records[i].n_attributes = 10;
    }
    once = pack().len;
    rig_records[1].n_attributes = 0;
    ck_assert_uint_eq(pack().len, once);
}
END_TEST

/* Of the exact size, so that a sanitizer sees a read past the end. */
static int unpack_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    struct logblock_record *back;
    struct logblock_source from;
    size_t n;
    int r;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, data, len);
    r = logblock_unpack(span_of(copy, len), (struct logblock_place){ 0 }, rig_room, &from, &back,
                        &n);
    free(copy);
    return r;
}

START_TEST(a_pack_that_is_cut_is_bad_and_one_that_is_damaged_does_no_harm)
{
    struct span bytes;

    rig_random_records(12, 60);
    bytes = pack();
    for (size_t len = 0; len < bytes.len; len++)
        ck_assert_int_eq(unpack_copy(bytes.data, len), LOGBLOCK_BAD);
    for (size_t i = 0; i < bytes.len * 8; i++) {
        int r;

        packed[i / 8] ^= (uint8_t) (1u << i % 8);
        r = unpack_copy(packed, bytes.len);
        ck_assert(r == LOGBLOCK_OK || r == LOGBLOCK_BAD);
        packed[i / 8] ^= (uint8_t) (1u << i % 8);
    }
}
END_TEST

/* ---- blocks ---- */

static void assert_block_is_records(struct span bytes)
{
    struct logblock block = rig_open(bytes);
    struct logblock_record *back;
    uint64_t n_bytes, raw = 0;
    size_t n;

    rig_assert_source(&block.source, &rig_source);
    ck_assert_int_eq(logblock_find(&block, NULL, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
    ck_assert_uint_eq(n, rig_n_records);
    ck_assert_uint_eq(block.n_records, rig_n_records);
    for (size_t i = 0; i < n; i++) {
        rig_assert_record(&back[i], &rig_records[i]);
        ck_assert(rig_records[i].time_us >= block.first_us &&
                  rig_records[i].time_us <= block.last_us);
        ck_assert(block.severities >> rig_records[i].severity & 1);
        raw += logblock_raw_bytes(&rig_records[i]);
    }
    ck_assert_uint_eq(block.n_raw_bytes, raw);
    ck_assert_mem_eq(&block.first, &rig_records[0].place, sizeof(block.first));
    ck_assert_mem_eq(&block.last, &rig_records[n - 1].place, sizeof(block.last));
}

START_TEST(a_block_gives_back_what_was_encoded)
{
    for (size_t round = 0; round < 200; round++) {
        rig_random_records(1 + rig_below(RIG_RECORDS_MAX), round % 3 ? 120 : 4);
        assert_block_is_records(rig_encode(round % 2 ? LOGBLOCK_FAST : LOGBLOCK_SMALL));
    }
}
END_TEST

START_TEST(bodies_of_every_byte_come_back)
{
    static uint8_t all[256];

    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (uint8_t) i;
    rig_random_records(20, 10);
    rig_records[4].body = span_of(all, sizeof(all));
    assert_block_is_records(rig_encode(LOGBLOCK_FAST));
    /* What could stand between bodies is in some, one after the other. */
    for (size_t i = 0; i < 20; i++) {
        rig_records[i].body = span_of(all + i, 1);
        assert_block_is_records(rig_encode(LOGBLOCK_FAST));
    }
    rig_n_records = 1;
    rig_records[0].body = span_of(NULL, 0);
    assert_block_is_records(rig_encode(LOGBLOCK_FAST));
}
END_TEST

START_TEST(a_body_may_be_as_long_as_a_block)
{
    uint8_t *body = malloc(LOGBLOCK_RAW_MAX);

    ck_assert_ptr_nonnull(body);
    for (size_t i = 0; i < LOGBLOCK_RAW_MAX; i++)
        body[i] = (uint8_t) rig_below(256);
    rig_random_records(3, 10);
    for (size_t i = 0; i < 3; i++)
        rig_records[i].n_attributes = 0;
    rig_records[1].body = span_of(body, 1 << 20);
    assert_block_is_records(rig_encode(LOGBLOCK_SMALL));
    rig_n_records = 1;
    rig_records[0].body = span_of(body, LOGBLOCK_RAW_MAX);
    assert_block_is_records(rig_encode(LOGBLOCK_FAST));
    memset(body, 'x', LOGBLOCK_RAW_MAX);
    assert_block_is_records(rig_encode(LOGBLOCK_FAST));
    free(body);
}
END_TEST

START_TEST(a_block_may_have_its_most_records_and_attributes)
{
    struct logblock_record *many = calloc(LOGBLOCK_RECORDS_MAX, sizeof(*many)), *back;
    struct logblock_attribute *sets = calloc(LOGBLOCK_ATTRIBUTES_MAX, sizeof(*sets));
    struct logblock_input input = { &rig_source, many, LOGBLOCK_RECORDS_MAX, LOGBLOCK_FAST, false };
    struct logblock block;
    uint64_t n_bytes;
    size_t n;

    ck_assert(many && sets);
    rig_random_records(1, 10);
    for (size_t i = 0; i < LOGBLOCK_ATTRIBUTES_MAX; i++)
        sets[i].key = span_of_text("k");
    for (size_t i = 0; i < LOGBLOCK_RECORDS_MAX; i++)
        many[i] = (struct logblock_record){
            .time_us = (int64_t) i,
            .attributes = sets,
            .n_attributes = i % 4 ? 1 : 0,
            .place.chunk = i,
        };
    many[5].n_attributes = LOGBLOCK_ATTRIBUTES_MAX;
    buf_clear(&rig_out);
    ck_assert_int_eq(logblock_encode(rig_work, &input, &rig_out), 0);
    block = rig_open(buf_span(&rig_out));
    ck_assert_int_eq(logblock_find(&block, NULL, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
    ck_assert_uint_eq(n, LOGBLOCK_RECORDS_MAX);
    for (size_t i = 0; i < n; i++)
        rig_assert_record(&back[i], &many[i]);
    free(many);
    free(sets);
}
END_TEST

START_TEST(lines_as_programs_write_them_become_a_fifth_and_come_back)
{
    rig_made_records((enum lines_style) _i, 3);
    ck_assert_uint_lt(rig_encode(LOGBLOCK_FAST).len * 5, rig_texts.len);
    assert_block_is_records(buf_span(&rig_out));
}
END_TEST

static int read_copy(const uint8_t *data, size_t len, struct logblock_record **ret, size_t *ret_n)
{
    uint8_t *copy = malloc(len ? len : 1);
    struct logblock block;
    uint64_t n_bytes;
    int r;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, data, len);
    r = logblock_open(span_of(copy, len), rig_room, &block);
    if (r == LOGBLOCK_OK)
        r = logblock_find(&block, NULL, rig_room, ret, ret_n, &n_bytes);
    free(copy);
    return r;
}

START_TEST(a_block_that_is_cut_or_has_a_bit_turned_over_is_bad)
{
    struct logblock_record *back;
    struct span bytes;
    size_t n;

    rig_random_records(30, 40);
    bytes = rig_encode(_i ? LOGBLOCK_SMALL : LOGBLOCK_FAST);
    for (size_t len = 0; len < bytes.len; len++)
        ck_assert_int_eq(read_copy(bytes.data, len, &back, &n), LOGBLOCK_BAD);
    for (size_t i = 0; i < bytes.len * 8; i++) {
        rig_out.data[i / 8] ^= (uint8_t) (1u << i % 8);
        ck_assert_int_eq(read_copy(rig_out.data, bytes.len, &back, &n), LOGBLOCK_BAD);
        rig_out.data[i / 8] ^= (uint8_t) (1u << i % 8);
    }
}
END_TEST

START_TEST(opening_reads_nothing_behind_the_filter)
{
    struct logblock block;
    struct span bytes;

    rig_random_records(30, 40);
    bytes = rig_encode(LOGBLOCK_FAST);
    block = rig_open(bytes);
    memset(rig_out.data + (block.columns.data - bytes.data), 0xa5,
           block.columns.len + block.bodies.len);
    (void) rig_open(bytes);
}
END_TEST

/* ---- blocks that move, and stand behind each other ---- */

/* The records as a pack that is a block. */
static struct span encode_pack(void)
{
    struct logblock_input input = { &rig_source, rig_records, rig_n_records, LOGBLOCK_FAST, true };

    buf_clear(&rig_out);
    ck_assert_int_eq(logblock_encode(rig_work, &input, &rig_out), 0);
    return buf_span(&rig_out);
}

static void count_places(struct logblock_place at)
{
    for (size_t i = 0; i < rig_n_records; i++)
        rig_records[i].place = (struct logblock_place){ at.chunk, at.offset, (uint32_t) i };
}

START_TEST(a_pack_that_is_a_block_gives_back_what_was_packed)
{
    struct logblock_place at = { UINT64_C(1) << 40, 3000000000, 0 };
    struct logblock_record *back;
    struct logblock_source from;
    size_t n;

    for (size_t round = 0; round < 100; round++) {
        rig_random_records(1 + rig_below(RIG_RECORDS_MAX), 120);
        ck_assert(logblock_is_block(encode_pack()));
        ck_assert_int_eq(logblock_unpack(buf_span(&rig_out), at, rig_room, &from, &back, &n),
                         LOGBLOCK_OK);
        count_places(at);
        ck_assert_uint_eq(n, rig_n_records);
        rig_assert_source(&from, &rig_source);
        for (size_t i = 0; i < n; i++)
            rig_assert_record(&back[i], &rig_records[i]);
    }
    ck_assert(!logblock_is_block(pack()));
}
END_TEST

START_TEST(a_block_that_is_moved_has_the_same_bytes_behind_its_head)
{
    CLEANUP(buf_deinit) struct buf moved = { 0 };
    struct logblock_place at = { UINT64_C(1) << 40, 3000000000, 0 };

    for (size_t round = 0; round < 100; round++) {
        struct logblock before, after;

        rig_random_records(1 + rig_below(RIG_RECORDS_MAX), 120);
        before = rig_open(encode_pack());
        buf_clear(&moved);
        buf_append_text(&moved, "before");
        ck_assert_int_eq(logblock_move(buf_span(&rig_out), at, &moved), LOGBLOCK_OK);
        after = rig_open(span_of(moved.data + 6, moved.len - 6));
        ck_assert(span_equal(before.filter, after.filter));
        ck_assert(span_equal(before.columns, after.columns));
        ck_assert(span_equal(before.bodies, after.bodies));
        count_places(at);
        assert_block_is_records(span_of(moved.data + 6, moved.len - 6));
    }
}
END_TEST

START_TEST(a_block_whose_records_are_of_many_packs_moves_as_a_whole)
{
    CLEANUP(buf_deinit) struct buf moved = { 0 };

    rig_random_records(RIG_RECORDS_MAX, 20);
    (void) rig_encode(LOGBLOCK_SMALL);
    ck_assert_int_eq(logblock_move(buf_span(&rig_out), (struct logblock_place){ 5, 0, 0 }, &moved),
                     LOGBLOCK_OK);
    for (size_t i = 0; i < rig_n_records; i++)
        rig_records[i].place.chunk += 5;
    assert_block_is_records(buf_span(&moved));
}
END_TEST

START_TEST(what_is_no_whole_head_does_not_move)
{
    CLEANUP(buf_deinit) struct buf moved = { 0 };
    struct logblock_place at = { 1, 2, 0 };
    struct logblock block;
    struct span bytes;

    rig_random_records(30, 40);
    bytes = encode_pack();
    block = rig_open(bytes);
    for (size_t len = 0; len < block.n_head_bytes; len++)
        ck_assert_int_eq(logblock_move(span_of(bytes.data, len), at, &moved), LOGBLOCK_BAD);
    for (size_t i = 0; i < block.n_head_bytes * (size_t) 8; i++) {
        rig_out.data[i / 8] ^= (uint8_t) (1u << i % 8);
        ck_assert_int_eq(logblock_move(bytes, at, &moved), LOGBLOCK_BAD);
        rig_out.data[i / 8] ^= (uint8_t) (1u << i % 8);
    }
    ck_assert_uint_eq(moved.len, 0);
}
END_TEST

START_TEST(blocks_behind_each_other_are_taken_one_by_one)
{
    CLEANUP(buf_deinit) struct buf all = { 0 };
    struct logblock block;
    struct span left;
    size_t n = 0;

    for (size_t i = 0; i < 5; i++) {
        rig_random_records(1 + i, 40);
        buf_append_span(&all, rig_encode(LOGBLOCK_FAST));
    }
    left = buf_span(&all);
    while (left.len > 0) {
        ck_assert_int_eq(logblock_next(&left, rig_room, &block), LOGBLOCK_OK);
        ck_assert_uint_eq(block.n_records, ++n);
    }
    ck_assert_uint_eq(n, 5);
    ck_assert_int_eq(logblock_next(&left, rig_room, &block), LOGBLOCK_BAD);
    ck_assert_int_eq(logblock_open(buf_span(&all), rig_room, &block), LOGBLOCK_BAD);
    left = span_of(all.data, all.len - 1);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(logblock_next(&left, rig_room, &block), LOGBLOCK_OK);
    n = left.len;
    ck_assert_int_eq(logblock_next(&left, rig_room, &block), LOGBLOCK_BAD);
    ck_assert_uint_eq(left.len, n);
}
END_TEST

/* As the program of version 1 wrote it: three records, the last one of another pack. */
static const uint8_t version_1[] = {
    'S',  'N',  'L',  'B',  0x53, 0x08, 0x4a, 0x47,       /* magic, crc32c */
    1,    0,    '\n', 0,    0x37, 0,    0,    0,          /* version, flags, separator, head */
    0xd0, 0x0f, 0xd0, 0x0f, 3,    0x80, 0x84, 0x08, 0x1e, /* times, records, severities, raw */
    0x0e, 0x80, 0x20, 3,    2,    0x18, 0,                /* places: 7 4096 3, 8 24 0 */
    0x29, 0x29, 0x1f, 0x56, 0x81, 0xfc, 0x1b, 0x1b, 0xb2, 0x13, 0x24, 0x60, /* columns, bodies */
    4,    2,    0,    'f',  'i',  'l',  'e',  '/',  'x',  0x4b, 0xfd, 1,    /* source, filter */
    0,    2,    2,    9,    1,    0x11, 0,                                  /* times, kinds */
    2,    0xd0, 0x0f, 0xd0, 0x0f, 0,    0,    0x1e, 0x0f,                   /* observed, offsets */
    2,    1,    3,    2,    'p',  'i',  'd',  '1',  '7',  0,    0,    0,    1,   1, /* sets */
    0x0e, 0x80, 0x40, 3,    1,    2,    0xcf, 0x3f, 0,    0, /* places, from 0 */
    'f',  'i',  'r',  's',  't',  ' ',  'o',  'f',  ' ',  't',  'h',  'r',  'e', 'e',
    '\n', 's',  'e',  'c',  'o',  'n',  'd',  '\n', 't',  'h',  'i',  'r',  'd',
};

START_TEST(a_block_of_version_1_is_read_and_does_not_move)
{
    CLEANUP(buf_deinit) struct buf moved = { 0 };
    struct span bytes = span_of(version_1, sizeof(version_1));
    static const struct logblock_place places[3] = { { 7, 4096, 3 }, { 7, 4096, 4 }, { 8, 24, 0 } };
    struct logblock block = rig_open(bytes);
    struct logblock_record *back;
    uint64_t n_bytes;
    size_t n;

    ck_assert_int_eq(logblock_find(&block, NULL, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
    ck_assert_uint_eq(n, 3);
    for (size_t i = 0; i < 3; i++)
        ck_assert_mem_eq(&back[i].place, &places[i], sizeof(places[i]));
    ck_assert(span_equal(back[2].body, span_of_text("third")));
    ck_assert_int_eq(back[1].time_us, 2000);
    ck_assert_int_eq(logblock_move(bytes, (struct logblock_place){ 1, 0, 0 }, &moved),
                     LOGBLOCK_BAD);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/logblock");
    TCase *packs = tcase_create("packs"), *blocks = tcase_create("blocks");
    TCase *moves = tcase_create("moves");

    tcase_add_checked_fixture(packs, rig_start, rig_stop);
    tcase_set_timeout(packs, 120);
    tcase_add_test(packs, a_pack_gives_back_what_was_packed);
    tcase_add_test(packs, attributes_that_repeat_are_packed_once);
    tcase_add_test(packs, a_pack_that_is_cut_is_bad_and_one_that_is_damaged_does_no_harm);
    suite_add_tcase(s, packs);

    tcase_add_checked_fixture(blocks, rig_start, rig_stop);
    tcase_set_timeout(blocks, 120);
    tcase_add_test(blocks, a_block_gives_back_what_was_encoded);
    tcase_add_test(blocks, bodies_of_every_byte_come_back);
    tcase_add_test(blocks, a_body_may_be_as_long_as_a_block);
    tcase_add_test(blocks, a_block_may_have_its_most_records_and_attributes);
    tcase_add_loop_test(blocks, lines_as_programs_write_them_become_a_fifth_and_come_back, 0,
                        LINES_STYLES);
    tcase_add_loop_test(blocks, a_block_that_is_cut_or_has_a_bit_turned_over_is_bad, 0, 2);
    tcase_add_test(blocks, opening_reads_nothing_behind_the_filter);
    suite_add_tcase(s, blocks);

    tcase_add_checked_fixture(moves, rig_start, rig_stop);
    tcase_set_timeout(moves, 120);
    tcase_add_test(moves, a_pack_that_is_a_block_gives_back_what_was_packed);
    tcase_add_test(moves, a_block_that_is_moved_has_the_same_bytes_behind_its_head);
    tcase_add_test(moves, a_block_whose_records_are_of_many_packs_moves_as_a_whole);
    tcase_add_test(moves, what_is_no_whole_head_does_not_move);
    tcase_add_test(moves, blocks_behind_each_other_are_taken_one_by_one);
    tcase_add_test(moves, a_block_of_version_1_is_read_and_does_not_move);
    suite_add_tcase(s, moves);

    suite_add_tcase(s, logblock_words_case());
    suite_add_tcase(s, logblock_find_case());
    suite_add_tcase(s, logblock_sent_case());
    return s;
}
