/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/rand.h"
#include "server/store/codec/codec.h"
#include "test_codec_columns.h"

static struct codec_work work;
static struct buf out;
static struct rand rng;
static double *values, *back;

static void start(void)
{
    rand_init(&rng, 11);
    values = malloc(CODEC_ITEMS_MAX * sizeof(*values));
    back = malloc(CODEC_ITEMS_MAX * sizeof(*back));
    ck_assert(values && back);
}

static void stop(void)
{
    codec_work_deinit(&work);
    buf_deinit(&out);
    free(values);
    free(back);
}

static uint8_t encode(size_t n, enum codec_effort effort)
{
    uint8_t form;

    buf_clear(&out);
    ck_assert_int_eq(codec_encode_values(&work, values, n, effort, &out, &form), 0);
    return form;
}

static void check_round_trip(size_t n, enum codec_effort effort)
{
    uint8_t form = encode(n, effort);

    ck_assert_uint_le(out.len, n * sizeof(double) + CODEC_SLACK);
    memset(back, 0x5a, n * sizeof(double));
    ck_assert_int_eq(codec_decode_values(form, buf_span(&out), n, back), CODEC_OK);
    ck_assert_mem_eq(values, back, n * sizeof(double));
}

/* ---- values ---- */

START_TEST(every_column_of_every_length_comes_back_bit_for_bit)
{
    for (size_t n = 1; n <= 1000; n += n < 140 ? 1 : 37) {
        make_column((unsigned) _i, &rng, n, values);
        check_round_trip(n, CODEC_FAST);
        check_round_trip(n, CODEC_SMALL);
    }
}
END_TEST

START_TEST(the_longest_column_comes_back)
{
    make_column((unsigned) _i, &rng, CODEC_ITEMS_MAX, values);
    check_round_trip(CODEC_ITEMS_MAX, CODEC_FAST);
    check_round_trip(CODEC_ITEMS_MAX, CODEC_SMALL);
}
END_TEST

START_TEST(a_small_column_is_never_longer_than_a_fast_one)
{
    for (size_t n = 1; n < 500; n += 7) {
        size_t fast_len;

        make_column((unsigned) _i, &rng, n, values);
        encode(n, CODEC_FAST);
        fast_len = out.len;
        encode(n, CODEC_SMALL);
        ck_assert_uint_le(out.len, fast_len);
    }
}
END_TEST

START_TEST(an_encoded_column_goes_behind_what_is_there)
{
    uint8_t form;

    make_column((unsigned) _i, &rng, 200, values);
    buf_clear(&out);
    buf_append_text(&out, "before");
    ck_assert_int_eq(codec_encode_values(&work, values, 200, CODEC_SMALL, &out, &form), 0);
    ck_assert_mem_eq(out.data, "before", 6);
    ck_assert_int_eq(codec_decode_values(form, span_of(out.data + 6, out.len - 6), 200, back), 0);
    ck_assert_mem_eq(values, back, 200 * sizeof(double));
}
END_TEST

static void check_cost(unsigned kind, size_t most_fast, size_t most_small)
{
    make_column(kind, &rng, 360, values);
    encode(360, CODEC_FAST);
    ck_assert_uint_le(out.len, most_fast);
    encode(360, CODEC_SMALL);
    ck_assert_uint_le(out.len, most_small);
}

START_TEST(what_is_typical_costs_little)
{
    check_cost(0, 300, 290);  /* multiples of 4096, below 50 of them: 5.6 bits */
    check_cost(1, 250, 240);  /* below 30: 4.9 bits */
    check_cost(5, 20, 20);    /* a steady counter */
    check_cost(8, 680, 660);  /* below 10000 hundredths: 13.3 bits */
    check_cost(9, 960, 940);  /* below 1000000 millionths: 19.9 bits */
    check_cost(10, 800, 780); /* below 100000 hundredths: 16.6 bits */
    check_cost(17, 1250, 1250);
    check_cost(24, 2, 2);
    check_cost(25, 8, 8);
}
END_TEST

START_TEST(a_constant_is_read_without_its_column)
{
    size_t len;
    double value;
    uint8_t form;

    values[0] = values[1] = -12.5;
    form = encode(2, CODEC_FAST);
    ck_assert_int_eq(form & 15, CODEC_CONST);
    buf_append_text(&out, "more");
    ck_assert_int_eq(codec_decode_constant(form, buf_span(&out), &value, &len), CODEC_OK);
    ck_assert_double_eq(value, -12.5);
    ck_assert_uint_eq(len, out.len - 4);
    ck_assert_int_eq(codec_decode_constant(CODEC_DIV, buf_span(&out), &value, &len), CODEC_BAD);
}
END_TEST

/* ---- hostile ---- */

/* Of the exact size, so that a sanitizer sees a read past the end. */
static int decode_copy(uint8_t form, const uint8_t *bytes, size_t len, size_t n)
{
    uint8_t *copy = malloc(len ? len : 1);
    double *room = malloc(n * sizeof(*room));
    int r;

    ck_assert(copy && room);
    memcpy(copy, bytes, len);
    r = codec_decode_values(form, span_of(copy, len), n, room);
    ck_assert(r == CODEC_OK || r == CODEC_BAD);
    free(copy);
    free(room);
    return r;
}

START_TEST(a_cut_column_is_bad_or_harmless)
{
    static const size_t lengths[] = { 1, 2, 30, 129, 360 };

    for (size_t i = 0; i < 2 * sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t n = lengths[i / 2];
        uint8_t form;

        make_column((unsigned) _i, &rng, n, values);
        form = encode(n, i % 2 ? CODEC_SMALL : CODEC_FAST);
        for (size_t len = 0; len < out.len; len++)
            (void) decode_copy(form, out.data, len, n);
        ck_assert_int_eq(decode_copy(form, out.data, 0, n), CODEC_BAD);
    }
}
END_TEST

START_TEST(a_changed_column_is_bad_or_harmless)
{
    static const size_t lengths[] = { 2, 30, 129, 360 };

    for (size_t i = 0; i < 3000; i++) {
        size_t n = lengths[i / 2 % 4];
        uint8_t form;

        if (i % 100 < 8) {
            make_column((unsigned) _i, &rng, n, values);
            form = encode(n, i % 2 ? CODEC_SMALL : CODEC_FAST);
        } else {
            n = lengths[rand_below(&rng, 4)];
        }
        form = (uint8_t) (rand_below(&rng, 3) ? CODEC_DIV + rand_below(&rng, 7) : rand_u64(&rng));
        out.data[rand_below(&rng, out.len)] ^= (uint8_t) (1 + rand_below(&rng, 255));
        (void) decode_copy(form, out.data, out.len, n);
    }
}
END_TEST

START_TEST(bytes_that_nobody_wrote_are_bad_or_harmless)
{
    uint8_t bytes[200];

    for (size_t i = 0; i < 10000; i++) {
        size_t len = rand_below(&rng, sizeof(bytes));
        size_t n = 1 + rand_below(&rng, 500);

        for (size_t k = 0; k < len; k++)
            bytes[k] = (uint8_t) (rand_below(&rng, 3) ? rand_below(&rng, 16) : rand_u64(&rng));
        (void) decode_copy((uint8_t) (1 + rand_below(&rng, 9)), bytes, len, n);
    }
}
END_TEST

/* ---- times ---- */

START_TEST(times_come_back)
{
    int64_t *times = (int64_t *) malloc(CODEC_ITEMS_MAX * sizeof(*times));
    int64_t *times_back = (int64_t *) malloc(CODEC_ITEMS_MAX * sizeof(*times));

    for (size_t i = 1; i < 1002; i += i < 140 || i > 998 ? 1 : 3) {
        size_t n = i == 1001 ? CODEC_ITEMS_MAX : i;

        make_times((unsigned) _i, &rng, n, times);
        for (int effort = CODEC_FAST; effort <= CODEC_SMALL; effort++) {
            buf_clear(&out);
            ck_assert_int_eq(codec_encode_times(&work, times, n, effort, &out), 0);
            ck_assert_uint_le(out.len, 8 * n + n / 16 + CODEC_SLACK);
            ck_assert_int_eq(codec_decode_times(buf_span(&out), n, times_back), CODEC_OK);
            ck_assert_mem_eq(times, times_back, n * sizeof(*times));
        }
        for (size_t k = 0; k < 10; k++) {
            size_t len = rand_below(&rng, out.len);

            ck_assert_int_ge(codec_decode_times(span_of(out.data, len), n, times_back), 0);
            out.data[len] ^= (uint8_t) (1 + rand_below(&rng, 255));
            ck_assert_int_ge(codec_decode_times(buf_span(&out), n, times_back), 0);
        }
    }
    free(times);
    free(times_back);
}
END_TEST

START_TEST(a_steady_step_costs_bytes)
{
    int64_t times[360];

    make_times(0, &rng, 360, times);
    ck_assert_int_eq(codec_encode_times(&work, times, 360, CODEC_FAST, &out), 0);
    ck_assert_uint_le(out.len, 20);
}
END_TEST

/* ---- marks, varints ---- */

START_TEST(marks_come_back)
{
    uint64_t marks[CODEC_ITEMS_MAX / 64], marks_back[CODEC_ITEMS_MAX / 64];

    for (size_t i = 1; i < 1002; i += i < 140 || i > 998 ? 1 : 3) {
        size_t n = i == 1001 ? CODEC_ITEMS_MAX : i, words = codec_mark_words(n), n_dense;

        make_marks((unsigned) _i, &rng, n, marks);
        buf_clear(&out);
        codec_encode_marks(marks, n, &out);
        ck_assert_uint_le(out.len, n / 8 + 4);
        ck_assert_int_eq(codec_decode_marks(buf_span(&out), n, marks_back), CODEC_OK);
        ck_assert_mem_eq(marks, marks_back, words * sizeof(*marks));

        make_column(9, &rng, n, values);
        n_dense = codec_gather(values, marks, n, back);
        ck_assert_uint_eq(n_dense, n - codec_count_marks(marks, n));
        codec_spread(back, marks, n);
        for (size_t k = 0; k < n; k++)
            ck_assert(codec_marked(marks, k) ? back[k] != back[k] : back[k] == values[k]);

        for (size_t k = 0; k < 10; k++) {
            size_t len = rand_below(&rng, out.len);

            ck_assert_int_ge(codec_decode_marks(span_of(out.data, len), n, marks_back), 0);
            out.data[len] ^= (uint8_t) (1 + rand_below(&rng, 255));
            if (codec_decode_marks(buf_span(&out), n, marks_back) == CODEC_OK)
                ck_assert_uint_le(codec_count_marks(marks_back, n), n);
        }
    }
}
END_TEST

START_TEST(a_varint_of_more_than_64_bits_is_none)
{
    static const uint8_t greatest[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 };
    static const uint8_t more[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2 };
    struct span bytes = span_of(greatest, sizeof(greatest));
    uint64_t number;

    ck_assert(codec_get_varint(&bytes, &number));
    ck_assert_uint_eq(number, UINT64_MAX);
    ck_assert_uint_eq(bytes.len, 0);
    bytes = span_of(greatest, 9);
    ck_assert(!codec_get_varint(&bytes, &number));
    bytes = span_of(more, sizeof(more));
    ck_assert(!codec_get_varint(&bytes, &number));
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/codec");
    TCase *tc = tcase_create("values");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, every_column_of_every_length_comes_back_bit_for_bit, 0, N_COLUMN_KINDS);
    tcase_add_loop_test(tc, the_longest_column_comes_back, 0, N_COLUMN_KINDS);
    tcase_add_loop_test(tc, a_small_column_is_never_longer_than_a_fast_one, 0, N_COLUMN_KINDS);
    tcase_add_loop_test(tc, an_encoded_column_goes_behind_what_is_there, 0, N_COLUMN_KINDS);
    tcase_add_test(tc, what_is_typical_costs_little);
    tcase_add_test(tc, a_constant_is_read_without_its_column);
    suite_add_tcase(s, tc);

    tc = tcase_create("hostile");
    tcase_add_checked_fixture(tc, start, stop);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, a_cut_column_is_bad_or_harmless, 0, N_COLUMN_KINDS);
    tcase_add_loop_test(tc, a_changed_column_is_bad_or_harmless, 0, N_COLUMN_KINDS);
    tcase_add_test(tc, bytes_that_nobody_wrote_are_bad_or_harmless);
    suite_add_tcase(s, tc);

    tc = tcase_create("times and marks");
    tcase_add_checked_fixture(tc, start, stop);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, times_come_back, 0, N_TIME_KINDS);
    tcase_add_test(tc, a_steady_step_costs_bytes);
    tcase_add_loop_test(tc, marks_come_back, 0, N_MARK_KINDS);
    tcase_add_test(tc, a_varint_of_more_than_64_bits_is_none);
    suite_add_tcase(s, tc);
    return s;
}
