/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crc32c.h"
#include "common/base/rand.h"
#include "server/store/block/block.h"
#include "test_codec_columns.h"

#define N_COLUMNS 80
#define ROWS_MAX 1000
#define LAYOUTS_MAX 3

/* One layout's worth of input, with room for the largest. */
struct sheet {
    double *values;
    uint64_t *absent;
    int64_t *times;
};

static struct codec_work work;
static struct buf out, room;
static struct rand rng;
static struct sheet sheets[LAYOUTS_MAX];
static struct block_rows layouts[LAYOUTS_MAX];
static struct block_input input;
static double *column;
static uint64_t *marks;

static void start(void)
{
    rand_init(&rng, 12);
    for (size_t i = 0; i < LAYOUTS_MAX; i++) {
        sheets[i].values = malloc(N_COLUMNS * ROWS_MAX * sizeof(double));
        sheets[i].absent = malloc(N_COLUMNS * codec_mark_words(ROWS_MAX) * sizeof(uint64_t));
        sheets[i].times = malloc(ROWS_MAX * sizeof(int64_t));
        ck_assert(sheets[i].values && sheets[i].absent && sheets[i].times);
    }
    column = malloc(ROWS_MAX * sizeof(double));
    marks = malloc(codec_mark_words(ROWS_MAX) * sizeof(uint64_t));
    ck_assert(column && marks);
}

static void stop(void)
{
    for (size_t i = 0; i < LAYOUTS_MAX; i++) {
        free(sheets[i].values);
        free(sheets[i].absent);
        free(sheets[i].times);
    }
    free(column);
    free(marks);
    codec_work_deinit(&work);
    buf_deinit(&out);
    buf_deinit(&room);
}

/* A host's memory: a limit, what is used and free of it, and both as shares; then the same again.
 */
static void make_related(double *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double used = 4096 * (double) rand_below(&rng, 6000000);

        values[i] = 25276514304;
        values[n + i] = used;
        values[2 * n + i] = 25276514304 - used;
        values[3 * n + i] = used / 25276514304;
        values[4 * n + i] = (25276514304 - used) / 25276514304;
        values[5 * n + i] = used / 25276514304;
        values[6 * n + i] = used;
    }
}

static void make_layout(size_t i, uint32_t n_columns, uint32_t n_rows, bool is_absent)
{
    struct sheet *sheet = &sheets[i];
    size_t words = codec_mark_words(n_rows);

    for (size_t c = 0; c < n_columns; c++) {
        double *values = sheet->values + c * n_rows;

        switch (rand_below(&rng, 4)) {
        case 0:
            memset(values, 0, n_rows * sizeof(*values));
            break;
        case 1:
            for (size_t k = 0; k < n_rows; k++)
                values[k] = (double) c - 5;
            break;
        default:
            make_column((unsigned) rand_below(&rng, N_COLUMN_KINDS), &rng, n_rows, values);
            break;
        }
        make_marks((unsigned) (rand_below(&rng, 2) ? 0 : rand_below(&rng, N_MARK_KINDS)), &rng,
                   n_rows, sheet->absent + c * words);
    }
    if (n_columns >= 7 && !is_absent)
        make_related(sheet->values + rand_below(&rng, n_columns - 6) * n_rows, n_rows);
    make_times((unsigned) (i % N_TIME_KINDS), &rng, n_rows, sheet->times);
    layouts[i] = (struct block_rows){
        100 + (uint32_t) i * 1000,       n_columns, n_rows, sheet->times, sheet->values,
        is_absent ? sheet->absent : NULL
    };
}

static void encode(size_t n_layouts, enum codec_effort effort)
{
    input = (struct block_input){ 0xfedcba9876543210, effort, layouts, n_layouts };
    buf_clear(&out);
    ck_assert_int_eq(block_encode(&work, &input, &out), 0);
}

static void check_column(const struct block_rows *rows, const struct block_part *part, uint32_t c)
{
    const double *values = rows->values + (size_t) c * rows->n_rows;
    size_t words = codec_mark_words(rows->n_rows);
    const uint64_t *absent = rows->absent ? rows->absent + c * words : NULL;
    double low, high;
    bool is_bounded;

    ck_assert_int_eq(block_column(part, c, column, marks), BLOCK_OK);
    is_bounded = block_bounds(part, c, &low, &high);
    for (size_t i = 0; i < rows->n_rows; i++) {
        bool is_absent = absent && codec_marked(absent, i);

        ck_assert_int_eq(codec_marked(marks, i), is_absent);
        if (is_absent) {
            ck_assert(isnan(column[i]));
            continue;
        }
        ck_assert_mem_eq(&column[i], &values[i], sizeof(double));
        ck_assert(!is_bounded || isnan(values[i]) || (low <= values[i] && values[i] <= high));
    }
    ck_assert_int_eq(block_column(part, c, column, NULL), BLOCK_OK);
}

/* What is read of one column alone is read of it among others. */
static void check_columns(const struct block_part *part, const uint32_t *columns, size_t n)
{
    size_t words = codec_mark_words(part->n_rows), stride = part->n_rows + 3;
    double *values = malloc(n * stride * sizeof(*values));
    uint64_t *absent = malloc(n * words * sizeof(*absent));

    ck_assert(values && absent);
    for (int with_absent = 0; with_absent < 2; with_absent++) {
        memset(values, 0x5a, n * stride * sizeof(*values));
        ck_assert_int_eq(
            block_columns(part, columns, n, stride, values, with_absent ? absent : NULL), BLOCK_OK);
        for (size_t i = 0; i < n; i++) {
            uint32_t c = columns ? columns[i] : (uint32_t) i;

            ck_assert_int_eq(block_column(part, c, column, marks), BLOCK_OK);
            ck_assert_mem_eq(values + i * stride, column, part->n_rows * sizeof(*values));
            if (with_absent)
                ck_assert_mem_eq(absent + i * words, marks, words * sizeof(*marks));
        }
    }
    free(values);
    free(absent);
}

static void check_some_columns(const struct block_part *part)
{
    uint32_t some[N_COLUMNS];
    size_t n = 0;

    for (uint32_t c = 0; c < part->n_columns; c++)
        if (rand_below(&rng, 3) == 0)
            some[n++] = c;
    check_columns(part, some, n);
    check_columns(part, NULL, part->n_columns);
}

static void check_block(void)
{
    struct block_cursor cursor = { 0 };
    struct block_part part;
    struct block block;
    int64_t times[ROWS_MAX];
    size_t n_parts = 0;

    ck_assert_int_eq(block_open(buf_span(&out), &room, &block), BLOCK_OK);
    ck_assert_uint_eq(block.agent, input.agent);
    ck_assert_uint_eq(block.n_layouts, input.n_layouts);
    while (block_next(&block, &cursor, &part)) {
        const struct block_rows *rows = &layouts[n_parts++];

        ck_assert_uint_eq(part.layout, rows->layout);
        ck_assert_uint_eq(part.n_columns, rows->n_columns);
        ck_assert_uint_eq(part.n_rows, rows->n_rows);
        ck_assert_int_eq(block_times(&part, times), BLOCK_OK);
        ck_assert_mem_eq(times, rows->times_us, rows->n_rows * sizeof(*times));
        for (size_t i = 0; i < rows->n_rows; i++)
            ck_assert(times[i] >= block.first_us && times[i] <= block.last_us);
        for (uint32_t c = 0; c < rows->n_columns; c++)
            check_column(rows, &part, c);
        check_some_columns(&part);
    }
    ck_assert_uint_eq(n_parts, input.n_layouts);
}

/* ---- whole ---- */

START_TEST(a_block_comes_back)
{
    static const uint32_t rows[] = { 1, 2, 3, 30, 64, 255, 256, 360, ROWS_MAX };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t k = 0; k < LAYOUTS_MAX; k++)
            make_layout(k, 1 + (uint32_t) rand_below(&rng, N_COLUMNS), rows[(i + k) % 9], _i % 2);
        encode(1 + i % LAYOUTS_MAX, _i / 2);
        check_block();
    }
}
END_TEST

START_TEST(a_layout_is_found_by_its_id)
{
    struct block_part part;
    struct block block;

    for (size_t k = 0; k < LAYOUTS_MAX; k++)
        make_layout(k, 5, 10, false);
    encode(LAYOUTS_MAX, CODEC_FAST);
    ck_assert_int_eq(block_open(buf_span(&out), &room, &block), BLOCK_OK);
    ck_assert(block_find(&block, 1100, &part));
    ck_assert_uint_eq(part.layout, 1100);
    ck_assert(!block_find(&block, 1101, &part));
}
END_TEST

START_TEST(layouts_of_equal_times_are_read_in_any_order)
{
    static struct block_rows many[500];
    int64_t times[2][20], back[20];
    double values[20] = { 0 };
    struct block_part part;
    struct block block;

    make_times(2, &rng, 20, times[0]);
    make_times(3, &rng, 20, times[1]);
    for (uint32_t i = 0; i < 500; i++)
        many[i] = (struct block_rows){ i, 1, 20, times[i / 7 % 2], values, NULL };
    input = (struct block_input){ 1, CODEC_FAST, many, 500 };
    ck_assert_int_eq(block_encode(&work, &input, &out), 0);
    ck_assert_uint_le(out.len, 12 * 500 + 200);
    ck_assert_int_eq(block_open(buf_span(&out), &room, &block), BLOCK_OK);
    for (uint32_t i = 0; i < 500; i += 3) {
        ck_assert(block_find(&block, 499 - i, &part));
        ck_assert_int_eq(block_times(&part, back), BLOCK_OK);
        ck_assert_mem_eq(back, many[499 - i].times_us, sizeof(back));
    }
}
END_TEST

/* ---- cost ---- */

START_TEST(constant_columns_cost_next_to_nothing)
{
    size_t len;

    make_layout(0, 1, 30, false);
    for (size_t i = 0; i < (size_t) N_COLUMNS * 30; i++)
        sheets[0].values[i] = 0;
    encode(1, CODEC_FAST);
    len = out.len;
    layouts[0].n_columns = N_COLUMNS;
    encode(1, CODEC_FAST);
    ck_assert_uint_le(out.len, len + 2);

    for (size_t i = 0; i < (size_t) N_COLUMNS * 30; i++)
        sheets[0].values[i] = (double) (i / 30 % 50);
    encode(1, CODEC_FAST);
    ck_assert_uint_le(out.len, len + 2 * N_COLUMNS);
}
END_TEST

START_TEST(what_follows_from_another_column_costs_bytes)
{
    size_t len;

    make_layout(0, 7, 30, false);
    make_related(sheets[0].values, 30);
    layouts[0].n_columns = 2;
    encode(1, CODEC_FAST);
    len = out.len;
    layouts[0].n_columns = 7;
    encode(1, CODEC_FAST);
    check_block();
    ck_assert_uint_le(out.len, len + 24);
}
END_TEST

/* Time in hundredths of each part, and of all; the total is rounded for itself. */
static void make_total(double *values, size_t n, size_t n_parts, uint64_t slack)
{
    uint64_t sum[5] = { 0 };

    for (size_t i = 0; i < n; i++) {
        uint64_t total = 0;

        for (size_t k = 1; k <= n_parts; k++) {
            sum[k] += rand_below(&rng, UINT64_C(4000) >> 2 * k);
            total += sum[k];
            values[k * n + i] = (double) sum[k] / 100;
        }
        values[i] = (double) (total + rand_below(&rng, slack)) / 100;
    }
}

START_TEST(a_total_of_parts_costs_little)
{
    size_t len;

    make_layout(0, 5, 360, false);
    make_total(sheets[0].values, 360, 4, 2);
    encode(1, CODEC_SMALL);
    check_block();
    len = out.len;
    layouts[0].values += 360;
    layouts[0].n_columns--;
    encode(1, CODEC_SMALL);
    ck_assert_uint_le(len, out.len + 360 / 8 + 40);
}
END_TEST

START_TEST(a_total_is_no_sum_where_its_parts_are_no_decimals)
{
    static const uint64_t strange[] = {
        0x7ff8000000000000, 0xfff8000000000001, 0x7ff0000000000000,
        0xfff0000000000000, 0x8000000000000000, 0x3f747ae147ae147b,
        0x7ff8000000000777, 0x0000000000000001, 0x4340000000000001
    };
    double *values = sheets[0].values;

    for (size_t round = 0; round < 60; round++) {
        make_layout(0, 5, 360, false);
        make_total(values, 360, 4, 1 + round % 3);
        /* In some rows of one column, or of two at once. */
        for (size_t k = 0; k < 1 + round % 4; k++) {
            size_t row = rand_below(&rng, 360);

            values[rand_below(&rng, 5) * 360 + row] = double_from_bits(strange[round % 9]);
            if (round % 2)
                values[rand_below(&rng, 5) * 360 + row] =
                    double_from_bits(strange[(round + k) % 9]);
        }
        encode(1, CODEC_SMALL);
        check_block();
    }
}
END_TEST

/* Columns of which each is another, changed a little here or there: what nearly holds must not. */
static void derive(double *to, const double *from, size_t n, double limit)
{
    uint64_t how = rand_below(&rng, 5), shift = rand_below(&rng, 1000);

    for (size_t i = 0; i < n; i++) {
        if (how == 0)
            to[i] = from[i];
        else if (how == 1)
            to[i] = from[i] + (double) shift;
        else if (how == 2)
            to[i] = (double) shift - from[i];
        else if (how == 3)
            to[i] = from[i] / limit;
        else
            to[i] = from[i] + (double) rand_below(&rng, 2);
    }
    if (rand_below(&rng, 2))
        to[rand_below(&rng, n)] = rand_below(&rng, 2) ? double_from_bits(rand_u64(&rng)) : 1;
}

START_TEST(columns_that_nearly_follow_from_others_come_back)
{
    static const uint32_t rows[] = { 3, 5, 30, 100, 300 };
    double *values = sheets[0].values;

    for (size_t round = 0; round < 60; round++) {
        uint32_t n = rows[round % 5];

        make_layout(0, 40, n, false);
        for (size_t i = 0; i < n; i++)
            values[i] = 4096;
        for (uint32_t c = 20; c < 40; c++)
            derive(values + (size_t) c * n, values + rand_below(&rng, c) * n, n, 4096);
        encode(1, round % 2 ? CODEC_SMALL : CODEC_FAST);
        check_block();
    }
}
END_TEST

START_TEST(the_longest_block_comes_back)
{
    size_t n = BLOCK_ROWS_MAX, words = codec_mark_words(n);
    double *values = malloc(3 * n * sizeof(*values)), *all = malloc(3 * n * sizeof(*all));
    uint64_t *absent = malloc(3 * words * sizeof(*absent)), *back = malloc(3 * words * 8);
    int64_t *times = (int64_t *) malloc(n * sizeof(*times));
    struct block_rows rows = { 1, 3, BLOCK_ROWS_MAX, times, values, absent };
    struct block_part part;
    struct block block;

    ck_assert(values && all && absent && back && times);
    make_times(2, &rng, n, times);
    for (unsigned c = 0; c < 3; c++) {
        make_column(7 * c + 1, &rng, n, values + c * n);
        make_marks(c, &rng, n, absent + c * words);
    }
    input = (struct block_input){ 1, _i, &rows, 1 };
    ck_assert_int_eq(block_encode(&work, &input, &out), 0);
    ck_assert_int_eq(block_open(buf_span(&out), &room, &block), BLOCK_OK);
    ck_assert(block_find(&block, 1, &part));
    ck_assert_int_eq(block_columns(&part, NULL, 3, n, all, back), BLOCK_OK);
    ck_assert_mem_eq(back, absent, 3 * words * sizeof(*absent));
    for (size_t i = 0; i < 3 * n; i++)
        if (!codec_marked(absent + i / n * words, i % n))
            ck_assert_mem_eq(&all[i], &values[i], sizeof(double));
    free(values);
    free(all);
    free(absent);
    free(back);
    free(times);
}
END_TEST

START_TEST(equal_times_are_kept_once)
{
    size_t len;

    for (size_t k = 0; k < LAYOUTS_MAX; k++)
        make_layout(k, 1, 300, false);
    for (size_t k = 0; k < LAYOUTS_MAX; k++)
        make_times(4, &rng, 300, sheets[k].times);
    encode(LAYOUTS_MAX, CODEC_FAST);
    len = out.len;
    memcpy(sheets[1].times, sheets[0].times, 300 * sizeof(int64_t));
    layouts[2].times_us = sheets[0].times;
    encode(LAYOUTS_MAX, CODEC_FAST);
    check_block();
    ck_assert_uint_le(out.len + 4500, len);
}
END_TEST

START_TEST(a_block_is_never_much_longer_than_its_values)
{
    make_layout(0, N_COLUMNS, 100, false);
    for (size_t i = 0; i < (size_t) N_COLUMNS * 100; i++)
        sheets[0].values[i] = double_from_bits(rand_u64(&rng));
    encode(1, CODEC_SMALL);
    ck_assert_uint_le(out.len, N_COLUMNS * 100 * 8 + N_COLUMNS * 3 + 100);
    check_block();
}
END_TEST

/* ---- damage ---- */

/* A good checksum over bad bytes, as somebody would write it who wants more than a broken disk. */
static void mend_checksum(uint8_t *bytes, size_t len)
{
    uint32_t crc = crc32c(0, bytes + 8, len - 8);

    for (size_t i = 0; i < 4; i++)
        bytes[4 + i] = (uint8_t) (crc >> 8 * i);
}

static void read_all(const struct block *block)
{
    struct block_cursor cursor = { 0 };
    struct block_part part;

    while (block_next(block, &cursor, &part)) {
        /* Hostile rows may be many; the room here is not. */
        int64_t *times = malloc(part.n_rows * sizeof(*times));
        double *values = malloc(part.n_rows * sizeof(*values));
        uint64_t *absent = malloc(codec_mark_words(part.n_rows) * sizeof(*absent));
        double *all = malloc((size_t) part.n_columns * part.n_rows * sizeof(*all));
        double low, high;

        ck_assert(times && values && absent && all);
        if (part.n_columns < 200)
            ck_assert_int_ge(block_columns(&part, NULL, part.n_columns, part.n_rows, all, NULL), 0);
        ck_assert_int_ge(block_times(&part, times), 0);
        for (uint32_t c = 0; c < part.n_columns && c < 200; c++) {
            ck_assert_int_ge(block_column(&part, c, values, absent), 0);
            (void) block_bounds(&part, c, &low, &high);
        }
        free(times);
        free(values);
        free(absent);
        free(all);
    }
}

static int open_copy(const uint8_t *bytes, size_t len, bool is_mended)
{
    uint8_t *copy = malloc(len ? len : 1);
    struct block block;
    int r;

    ck_assert(copy != NULL);
    memcpy(copy, bytes, len);
    if (is_mended && len >= 8)
        mend_checksum(copy, len);
    r = block_open(span_of(copy, len), &room, &block);
    ck_assert_int_ge(r, 0);
    if (r == BLOCK_OK)
        read_all(&block);
    free(copy);
    return r;
}

START_TEST(a_cut_block_is_bad)
{
    make_layout(0, 20, 30, _i % 2);
    make_layout(1, 10, 300, _i % 2);
    encode(2, _i / 2);
    for (size_t len = 0; len < out.len; len++) {
        ck_assert_int_eq(open_copy(out.data, len, false), BLOCK_BAD);
        ck_assert_int_eq(open_copy(out.data, len, true), BLOCK_BAD);
    }
}
END_TEST

START_TEST(every_changed_bit_is_found)
{
    make_layout(0, 10, 30, true);
    encode(1, _i);
    for (size_t bit = 0; bit < 8 * out.len; bit++) {
        out.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
        ck_assert_int_eq(open_copy(out.data, out.len, false), BLOCK_BAD);
        out.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
    }
    ck_assert_int_eq(open_copy(out.data, out.len, false), BLOCK_OK);
}
END_TEST

START_TEST(a_forged_block_is_bad_or_harmless)
{
    size_t n_opened = 0;

    for (size_t i = 0; i < 4000; i++) {
        size_t at;
        uint8_t was;

        if (i % 200 == 0) {
            make_layout(0, 12, 20 + (uint32_t) rand_below(&rng, 20), _i % 2);
            make_layout(1, 12, 260, _i % 2);
            encode(1 + i / 200 % 2, _i / 2);
        }
        at = rand_below(&rng, rand_below(&rng, 2) || out.len < 200 ? out.len : 200);
        was = out.data[at];
        out.data[at] ^= (uint8_t) (1 + rand_below(&rng, 255));
        n_opened += open_copy(out.data, out.len, true) == BLOCK_OK;
        out.data[at] = was;
    }
    ck_assert_uint_gt(n_opened, 100);
}
END_TEST

START_TEST(columns_that_lean_on_each_other_in_a_ring_are_bad)
{
    /* Two columns, each the same as the other. */
    static const uint8_t body[] = {
        'S',  'N', 'M', 'B', 0, 0, 0, 0, 1, 0, /* version, flags */
        7,    2,   10,  1,   2, 1,             /* agent, first, length, rows, columns, layouts */
        5,    2,   1,   0,   2, 0, 4, 0,       /* layout, columns, rows, own times: 2, 0, 4, 0 */
        0xff, 2,                               /* times */
        10,   1,   10,  0,                     /* SAME 1, SAME 0 */
    };
    uint8_t bytes[sizeof(body)];
    struct block_part part;
    struct block block;
    double value, values[2];

    memcpy(bytes, body, sizeof(body));
    mend_checksum(bytes, sizeof(bytes));
    ck_assert_int_eq(block_open(span_of(bytes, sizeof(bytes)), &room, &block), BLOCK_OK);
    ck_assert(block_find(&block, 5, &part));
    ck_assert_int_eq(block_column(&part, 0, &value, NULL), BLOCK_BAD);
    ck_assert_int_eq(block_columns(&part, NULL, 2, 1, values, NULL), BLOCK_BAD);
}
END_TEST

START_TEST(another_version_is_bad)
{
    make_layout(0, 3, 3, false);
    encode(1, CODEC_FAST);
    ck_assert_int_eq(open_copy(out.data, out.len, true), BLOCK_OK);
    out.data[8]++;
    ck_assert_int_eq(open_copy(out.data, out.len, true), BLOCK_BAD);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/block");
    TCase *tc = tcase_create("whole");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, a_block_comes_back, 0, 4);
    tcase_add_test(tc, a_layout_is_found_by_its_id);
    tcase_add_test(tc, layouts_of_equal_times_are_read_in_any_order);
    tcase_add_test(tc, a_total_is_no_sum_where_its_parts_are_no_decimals);
    tcase_add_test(tc, columns_that_nearly_follow_from_others_come_back);
    tcase_add_loop_test(tc, the_longest_block_comes_back, 0, 2);
    suite_add_tcase(s, tc);

    tc = tcase_create("cost");
    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, constant_columns_cost_next_to_nothing);
    tcase_add_test(tc, what_follows_from_another_column_costs_bytes);
    tcase_add_test(tc, a_total_of_parts_costs_little);
    tcase_add_test(tc, equal_times_are_kept_once);
    tcase_add_test(tc, a_block_is_never_much_longer_than_its_values);
    suite_add_tcase(s, tc);

    tc = tcase_create("damage");
    tcase_add_checked_fixture(tc, start, stop);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, a_cut_block_is_bad, 0, 4);
    tcase_add_loop_test(tc, every_changed_bit_is_found, 0, 2);
    tcase_add_loop_test(tc, a_forged_block_is_bad_or_harmless, 0, 4);
    tcase_add_test(tc, columns_that_lean_on_each_other_in_a_ring_are_bad);
    tcase_add_test(tc, another_version_is_bad);
    suite_add_tcase(s, tc);
    return s;
}
