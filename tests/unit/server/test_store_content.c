/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store.h"

#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/fault.h"
#include "common/base/rand.h"
#include "server/store/inventory/content.h"

static const uint8_t SHA_OF_BASE[CONTENT_SHA256_BYTES] = { 7 };

/* Packages: name, version, a text that does not compress well. Version of row `changed` differs. */
static void make_packages(struct buf *to, uint32_t n_rows, uint32_t changed)
{
    static const char *const columns[] = { "name", "version", "summary" };
    struct rand rand;

    rand_init(&rand, 5);
    content_put_columns(to, columns, 3);
    for (uint32_t i = 0; i < n_rows; i++) {
        char text[64];

        snprintf(text, sizeof(text), "package-%06u", i);
        content_put_value(to, text);
        snprintf(text, sizeof(text), "%u.%u.%u%s", i % 7, i % 13, (unsigned) rand_below(&rand, 40),
                 i == changed ? "-security" : "");
        content_put_value(to, text);
        snprintf(text, sizeof(text), "%016llx %08llx", (unsigned long long) rand_u64(&rand),
                 (unsigned long long) rand_below(&rand, UINT32_MAX));
        content_put_value(to, text);
    }
}

static void check_round_trip(const struct buf *canonical, struct content_base *base)
{
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    CLEANUP(buf_deinit) struct buf again = { 0 };
    struct content_work work = { 0 };
    struct content content;

    ck_assert_int_eq(content_pack(buf_span(canonical), base, &work, &packed), 0);
    ck_assert_int_eq(content_open(buf_span(&packed), &content), CONTENT_OK);
    ck_assert_int_eq(content_has_base(&content), base != NULL);
    ck_assert_int_eq(content_unpack(&content, base, &work, &again), CONTENT_OK);
    ck_assert(span_equal(buf_span(&again), buf_span(canonical)));
    content_work_deinit(&work);
}

START_TEST(what_is_packed_comes_back_byte_for_byte)
{
    static const uint32_t sizes[] = { 0, 1, 2, 100, 2000 };
    CLEANUP(content_base_freep) struct content_base *base = NULL;
    struct buf of_base = { 0 };

    make_packages(&of_base, 1500, 3);
    ck_assert_int_eq(content_base_new(&base, SHA_OF_BASE, &of_base), 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        CLEANUP(buf_deinit) struct buf canonical = { 0 };

        make_packages(&canonical, sizes[i], 9);
        check_round_trip(&canonical, NULL);
        check_round_trip(&canonical, base);
    }
}
END_TEST

START_TEST(a_content_that_differs_in_a_row_from_its_base_takes_next_to_nothing)
{
    CLEANUP(content_base_freep) struct content_base *base = NULL;
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    CLEANUP(buf_deinit) struct buf alone = { 0 };
    CLEANUP(buf_deinit) struct buf against = { 0 };
    struct content_work work = { 0 };
    struct buf of_base = { 0 };

    make_packages(&of_base, 2000, UINT32_MAX);
    make_packages(&canonical, 2000, 1000);
    ck_assert_int_eq(content_base_new(&base, SHA_OF_BASE, &of_base), 0);
    ck_assert_int_eq(content_pack(buf_span(&canonical), NULL, &work, &alone), 0);
    ck_assert_int_eq(content_pack(buf_span(&canonical), base, &work, &against), 0);
    ck_assert_uint_gt(alone.len, 20000);
    ck_assert_uint_lt(against.len * 20, alone.len);
    content_work_deinit(&work);
}
END_TEST

/* Rows of the blocks that content_range() names which begin with the prefix. */
static size_t count_in_range(const struct content *content, const char *prefix)
{
    CLEANUP(buf_deinit) struct buf rows = { 0 };
    struct content_work work = { 0 };
    struct span wanted = span_of_text(prefix), values[8];
    uint32_t i, end;
    size_t n = 0;

    content_range(content, wanted, &i, &end);
    for (; i < end; i++)
        ck_assert_int_eq(content_unpack_block(content, i, NULL, &work, &rows), CONTENT_OK);
    for (struct content_rows at = { buf_span(&rows), content->header.n_columns };
         content_next_row(&at, values);)
        n += values[0].len >= wanted.len && memcmp(values[0].data, wanted.data, wanted.len) == 0;
    content_work_deinit(&work);
    return n;
}

static void check_prefix(const struct content *content, struct span canonical, const char *prefix)
{
    struct content_rows rows = { span_of(canonical.data + content->header.head_bytes,
                                         canonical.len - content->header.head_bytes),
                                 content->header.n_columns };
    struct span wanted = span_of_text(prefix), values[8];
    size_t n = 0;

    while (content_next_row(&rows, values))
        n += values[0].len >= wanted.len && memcmp(values[0].data, wanted.data, wanted.len) == 0;
    ck_assert_msg(count_in_range(content, prefix) == n, "prefix %s", prefix);
}

START_TEST(the_blocks_of_a_prefix_have_all_its_rows)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    struct content_work work = { 0 };
    struct content content;
    uint32_t first, end;

    make_packages(&canonical, 3000, 0);
    ck_assert_int_eq(content_pack(buf_span(&canonical), NULL, &work, &packed), 0);
    ck_assert_int_eq(content_open(buf_span(&packed), &content), CONTENT_OK);
    ck_assert_uint_gt(content.header.n_blocks, 8);
    for (uint32_t i = 0; i <= 3000; i++) {
        char name[32];

        snprintf(name, sizeof(name), "package-%06u", i);
        check_prefix(&content, buf_span(&canonical), name);
        content_range(&content, span_of_text(name), &first, &end);
        ck_assert_uint_le(end - first, 2);
        name[12 + i % 2] = 0;
        check_prefix(&content, buf_span(&canonical), name);
    }
    check_prefix(&content, buf_span(&canonical), "");
    check_prefix(&content, buf_span(&canonical), "a");
    check_prefix(&content, buf_span(&canonical), "z");
    content_work_deinit(&work);
}
END_TEST

/* First values that agree in far more than a fence keeps, and equal ones over several blocks. */
START_TEST(first_values_that_are_long_or_equal_are_found)
{
    static const char *const columns[] = { "key", "n" };
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    struct content_work work = { 0 };
    struct content content;
    char text[400], key[300];

    content_put_columns(&canonical, columns, 2);
    memset(text, 'k', sizeof(text));
    for (uint32_t i = 0; i < 600; i++) {
        snprintf(text + 200, sizeof(text) - 200, "%04u", i / 150 * 150);
        content_put_value(&canonical, text);
        snprintf(key, sizeof(key), "%04u", i);
        content_put_value(&canonical, key);
    }
    ck_assert_int_eq(content_pack(buf_span(&canonical), NULL, &work, &packed), 0);
    ck_assert_int_eq(content_open(buf_span(&packed), &content), CONTENT_OK);
    ck_assert_uint_gt(content.header.n_blocks, 6);
    for (size_t len = 60; len <= 68; len++) {
        snprintf(key, sizeof(key), "%.*s", (int) len, text);
        check_prefix(&content, buf_span(&canonical), key);
    }
    for (uint32_t i = 0; i < 600; i += 50) {
        snprintf(text + 200, sizeof(text) - 200, "%04u", i);
        check_prefix(&content, buf_span(&canonical), text);
    }
    content_work_deinit(&work);
}
END_TEST

/* Whether anything says that it is damaged. */
static bool is_found(struct span packed)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    struct content_work work = { 0 };
    struct content content;
    int r = content_open(packed, &content);

    if (r == CONTENT_OK)
        r = content_unpack(&content, NULL, &work, &canonical);
    content_work_deinit(&work);
    return r == CONTENT_BAD;
}

START_TEST(every_flipped_bit_and_every_cut_is_found)
{
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    struct content_work work = { 0 };

    make_packages(&canonical, 400, 0);
    ck_assert_int_eq(content_pack(buf_span(&canonical), NULL, &work, &packed), 0);
    ck_assert(!is_found(buf_span(&packed)));
    for (size_t i = 0; i < packed.len; i++) {
        packed.data[i] ^= (uint8_t) (1u << i % 8);
        ck_assert_msg(is_found(buf_span(&packed)), "byte %zu", i);
        packed.data[i] ^= (uint8_t) (1u << i % 8);
    }
    for (size_t len = 0; len < packed.len; len += 7)
        ck_assert_msg(is_found(span_of(packed.data, len)), "cut at %zu", len);
    content_work_deinit(&work);
}
END_TEST

/* Rows as texts, values apart by commas. */
static int check_rows(uint32_t n_columns, const char *rows)
{
    static const char *const columns[] = { "a", "b", "c" };
    CLEANUP(buf_deinit) struct buf canonical = { 0 };
    struct content_shape shape;
    char text[64], *at = text, *value;

    content_put_columns(&canonical, columns, n_columns);
    snprintf(text, sizeof(text), "%s", rows);
    while ((value = strsep(&at, ",")))
        content_put_value(&canonical, value);
    return content_check(buf_span(&canonical), &shape);
}

START_TEST(rows_must_be_whole_and_ascend)
{
    ck_assert_int_eq(check_rows(2, "a,1,b,1"), CONTENT_OK);
    ck_assert_int_eq(check_rows(2, "a,1,a,1"), CONTENT_OK);
    ck_assert_int_eq(check_rows(2, "a,1,a,2"), CONTENT_OK);
    ck_assert_int_eq(check_rows(2, "a,1,aa,1"), CONTENT_OK);
    ck_assert_int_eq(check_rows(2, "a,2,a,1"), CONTENT_BAD);
    ck_assert_int_eq(check_rows(2, "b,1,a,1"), CONTENT_BAD);
    ck_assert_int_eq(check_rows(2, "aa,1,a,1"), CONTENT_BAD);
    ck_assert_int_eq(check_rows(2, "a,1,b"), CONTENT_BAD);
    ck_assert_int_eq(check_rows(0, "a"), CONTENT_BAD);
    ck_assert_int_eq(check_rows(1, "\x7f,\xc3\xa4"), CONTENT_OK); /* as unsigned bytes */
}
END_TEST

TCase *case_content(void)
{
    TCase *tcase = tcase_create("content");

    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, what_is_packed_comes_back_byte_for_byte);
    tcase_add_test(tcase, a_content_that_differs_in_a_row_from_its_base_takes_next_to_nothing);
    tcase_add_test(tcase, the_blocks_of_a_prefix_have_all_its_rows);
    tcase_add_test(tcase, first_values_that_are_long_or_equal_are_found);
    tcase_add_test(tcase, every_flipped_bit_and_every_cut_is_found);
    tcase_add_test(tcase, rows_must_be_whole_and_ascend);
    return tcase;
}
