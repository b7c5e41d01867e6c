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
    struct logblock_input input = { &rig_source, many, LOGBLOCK_RECORDS_MAX, LOGBLOCK_FAST };
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

Suite *suite(void)
{
    Suite *s = suite_create("server/logblock");
    TCase *packs = tcase_create("packs"), *blocks = tcase_create("blocks");

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

    suite_add_tcase(s, logblock_words_case());
    suite_add_tcase(s, logblock_find_case());
    return s;
}
