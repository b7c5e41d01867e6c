/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <stdint.h>
#include <stdlib.h>

#include "common/base/rand.h"
#include "common/base/text.h"

void add_text_cases(Suite *s);

#define N_OF(rows) (sizeof(rows) / sizeof((rows)[0]))

START_TEST(utf8_is_what_rfc_3629_allows)
{
    static const char *const good[] = {
        "",
        "plain ascii, longer than a word",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "eight by\xc3\xa4te",
    };
    static const char *const bad[] = {
        "\x80",             /* begins in the middle */
        "\xc0\x80",         /* overlong NUL */
        "\xc1\xbf",         /* overlong */
        "\xe0\x9f\xbf",     /* overlong */
        "\xed\xa0\x80",     /* surrogate */
        "\xf0\x8f\xbf\xbf", /* overlong */
        "\xf4\x90\x80\x80", /* above U+10FFFF */
        "\xf5\x80\x80\x80",
        "\xff",
        "\xc3",
        "\xe2\x82",
        "\xf0\x9f\x98",
        "\xe2\x28\xa1",
        "eight by\xc3",
        "eight bytes and more \xe2\x82\x28",
    };

    for (size_t i = 0; i < N_OF(good); i++)
        ck_assert_msg(text_is_utf8(good[i], strlen(good[i])), "good %zu", i);
    for (size_t i = 0; i < N_OF(bad); i++)
        ck_assert_msg(!text_is_utf8(bad[i], strlen(bad[i])), "bad %zu", i);
    ck_assert(text_is_utf8("a\0b", 3));
}
END_TEST

START_TEST(utf8_reads_no_byte_behind_the_end)
{
    static const char whole[] = "\xf0\x9f\x98\x80";

    for (size_t len = 1; len < 4; len++) {
        uint8_t *exact = malloc(len);

        ck_assert_ptr_nonnull(exact);
        memcpy(exact, whole, len);
        ck_assert(!text_is_utf8(exact, len));
        free(exact);
    }
}
END_TEST

START_TEST(numbers_are_whole_and_fit)
{
    static const char *const bad[] = { "",     " 1",  "1 ",  "+1", "-1",
                                       "0x10", "1.0", "one", "1a", "18446744073709551616" };
    uint64_t value = 7;

    for (size_t i = 0; i < N_OF(bad); i++)
        ck_assert_msg(text_to_u64(bad[i], &value) == TEXT_BAD, "%s", bad[i]);
    ck_assert_uint_eq(value, 7);
    ck_assert_int_eq(text_to_u64("18446744073709551615", &value), TEXT_OK);
    ck_assert_uint_eq(value, UINT64_MAX);
    ck_assert_int_eq(text_to_u64("007", &value), TEXT_OK);
    ck_assert_uint_eq(value, 7);
}
END_TEST

START_TEST(durations_are_read_in_all_units_and_sums)
{
    static const struct {
        const char *text;
        int64_t us;
    } rows[] = {
        { "0", 0 },
        { "0s", 0 },
        { "250ms", 250000 },
        { "5us", 5 },
        { "30s", 30000000 },
        { "5m", 300000000 },
        { "12h", 43200000000 },
        { "7d", 604800000000 },
        { "1h30m", 5400000000 },
        { "1d2h3m4s5ms6us", 93784005006 },
        { "90m", 5400000000 },
    };
    static const char *const bad[] = { "",
                                       "5",
                                       "s",
                                       "5 s",
                                       "-5s",
                                       "1.5s",
                                       "5S",
                                       "5x",
                                       "5s5",
                                       "5s5s",
                                       "3s1h",
                                       "00",
                                       "5min",
                                       "1h ",
                                       "1h,1m",
                                       "1ms1s",
                                       "9223372036855s",
                                       "99999999999999999999s",
                                       "106751991d5h" };
    int64_t us = 7;

    for (size_t i = 0; i < N_OF(bad); i++)
        ck_assert_msg(text_to_duration_us(bad[i], &us) == TEXT_BAD, "%s", bad[i]);
    ck_assert_int_eq(us, 7);
    for (size_t i = 0; i < N_OF(rows); i++) {
        ck_assert_msg(text_to_duration_us(rows[i].text, &us) == TEXT_OK, "%s", rows[i].text);
        ck_assert_int_eq(us, rows[i].us);
    }
}
END_TEST

START_TEST(durations_printed_read_back_the_same)
{
    char text[TEXT_DURATION_BYTES];
    struct rand rand;

    ck_assert_str_eq(text_of_duration_us(90000000, text), "1m30s");
    ck_assert_str_eq(text_of_duration_us(0, text), "0s");
    ck_assert_str_eq(text_of_duration_us(250000, text), "250ms");
    ck_assert_str_eq(text_of_duration_us(-5400000000, text), "-1h30m");
    ck_assert_str_eq(text_of_duration_us(INT64_MIN, text), "-106751991d4h54s775ms808us");
    rand_init(&rand, 5);
    for (int i = 0; i < 10000; i++) {
        int64_t us = (int64_t) (rand_u64(&rand) >> (1 + rand_below(&rand, 62)));
        int64_t back;

        ck_assert_int_eq(text_to_duration_us(text_of_duration_us(us, text), &back), TEXT_OK);
        ck_assert_int_eq(back, us);
    }
}
END_TEST

START_TEST(sizes_know_both_thousands)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } rows[] = {
        { "65536", 65536 },
        { "12B", 12 },
        { "64KiB", 65536 },
        { "4MiB", 4194304 },
        { "2GiB", 2147483648 },
        { "1TiB", 1099511627776 },
        { "5KB", 5000 },
        { "5MB", 5000000 },
        { "5GB", 5000000000 },
        { "5TB", 5000000000000 },
        { "16777215TiB", 18446742974197923840u },
    };
    static const char *const bad[] = { "",    "KiB",   "1 KiB", "1kib",       "1.5GiB",
                                       "-1B", "1KiB ", "1Ki",   "16777216TiB" };
    uint64_t bytes = 7;

    for (size_t i = 0; i < N_OF(bad); i++)
        ck_assert_msg(text_to_size(bad[i], &bytes) == TEXT_BAD, "%s", bad[i]);
    ck_assert_uint_eq(bytes, 7);
    for (size_t i = 0; i < N_OF(rows); i++) {
        ck_assert_msg(text_to_size(rows[i].text, &bytes) == TEXT_OK, "%s", rows[i].text);
        ck_assert_uint_eq(bytes, rows[i].bytes);
    }
}
END_TEST

START_TEST(sizes_are_rounded_for_people)
{
    char text[TEXT_SIZE_BYTES];

    ck_assert_str_eq(text_of_size(0, text), "0 B");
    ck_assert_str_eq(text_of_size(1023, text), "1023 B");
    ck_assert_str_eq(text_of_size(655360, text), "640 KiB");
    ck_assert_str_eq(text_of_size(1610612736, text), "1.5 GiB");
    ck_assert_str_eq(text_of_size(1048575, text), "1 MiB");
    ck_assert_str_eq(text_of_size(UINT64_MAX, text), "16 EiB");
}
END_TEST

static wall_us time_of(const char *text)
{
    wall_us time = { INT64_MIN };
    wall_us now = { 1000000000000000 };

    ck_assert_msg(text_to_time(text, now, &time) == TEXT_OK, "%s", text);
    return time;
}

START_TEST(times_are_read_in_every_allowed_form)
{
    ck_assert_int_eq(time_of("now").us, 1000000000000000);
    ck_assert_int_eq(time_of("-1h").us, 1000000000000000 - 3600000000);
    ck_assert_int_eq(time_of("1970-01-01").us, 0);
    ck_assert_int_eq(time_of("1969-12-31T23:59:59.5Z").us, -500000);
    ck_assert_int_eq(time_of("2026-11-23T10:00:00.5Z").us, 1795428000500000);
    ck_assert_int_eq(time_of("2026-11-23t12:00:00.5+02:00").us, 1795428000500000);
    ck_assert_int_eq(time_of("2026-11-23 04:30:00.500000999-05:30").us, 1795428000500000);
    ck_assert_int_eq(time_of("2000-02-29").us, 951782400000000);
    ck_assert_int_eq(time_of("2016-12-31T23:59:60Z").us, time_of("2017-01-01T00:00:00Z").us);
    ck_assert_int_eq(time_of("2017-01-01T00:59:60+01:00").us, time_of("2017-01-01").us);
    ck_assert_int_eq(time_of("0000-01-01").us, -62167219200000000);
}
END_TEST

START_TEST(times_of_no_calendar_are_bad)
{
    static const char *const bad[] = {
        "",
        "NOW",
        "-",
        "-1",
        "-h",
        "1h",
        "2026",
        "2026-11",
        "2026-00-10",
        "2026-13-10",
        "2026-11-00",
        "2026-11-31",
        "2025-02-29",
        "1900-02-29",
        "2026-11-23T",
        "2026-11-23T10:00Z",
        "2026-11-23T10:00:00",
        "2026-11-23T24:00:00Z",
        "2026-11-23T10:60:00Z",
        "2026-11-23T10:00:60Z",
        "2026-11-23T10:00:61Z",
        "2026-11-23T10:00:00.Z",
        "2026-11-23T10:00:00+24:00",
        "2026-11-23T10:00:00+02",
        "2026-11-23T10:00:00+0200",
        "2026-11-23T10:00:00ZZ",
        "2026-11-23Z",
        " 2026-11-23",
        "26-11-23",
        "2026/11/23",
    };
    wall_us time = { 7 };

    for (size_t i = 0; i < N_OF(bad); i++)
        ck_assert_msg(text_to_time(bad[i], time, &time) == TEXT_BAD, "%s", bad[i]);
    ck_assert_int_eq(time.us, 7);
    ck_assert_int_eq(text_to_time("-1h", (wall_us){ INT64_MIN }, &time), TEXT_BAD);
}
END_TEST

START_TEST(times_printed_read_back_the_same)
{
    char text[TEXT_TIME_BYTES];
    struct rand rand;

    ck_assert_str_eq(text_of_time((wall_us){ 1795428000000000 }, text), "2026-11-23T10:00:00.000Z");
    ck_assert_str_eq(text_of_time((wall_us){ -1 }, text), "1969-12-31T23:59:59.999Z");
    text_of_time((wall_us){ INT64_MAX }, text);
    text_of_time((wall_us){ INT64_MIN }, text);
    rand_init(&rand, 5);
    for (int i = 0; i < 10000; i++) {
        /* Years 0 to 9999. */
        int64_t ms = (int64_t) rand_below(&rand, 315569433600000) - 62167219200000;

        ck_assert_int_eq(time_of(text_of_time((wall_us){ ms * 1000 }, text)).us, ms * 1000);
    }
}
END_TEST

START_TEST(hex_goes_both_ways_and_is_exact_in_length)
{
    static const uint8_t bytes[] = { 0x00, 0xff, 0x1a };
    uint8_t back[3] = { 7, 7, 7 };
    char text[7];

    ck_assert_str_eq(text_of_hex(bytes, 3, text), "00ff1a");
    ck_assert_str_eq(text_of_hex(bytes, 0, text), "");
    ck_assert_int_eq(text_to_hex("00ff1", back, 3), TEXT_BAD);
    ck_assert_int_eq(text_to_hex("00ff1a0", back, 3), TEXT_BAD);
    ck_assert_int_eq(text_to_hex("00ff1g", back, 3), TEXT_BAD);
    ck_assert_int_eq(text_to_hex("", back, 3), TEXT_BAD);
    ck_assert_int_eq(back[0], 7);
    ck_assert_int_eq(text_to_hex("00FF1a", back, 3), TEXT_OK);
    ck_assert_mem_eq(back, bytes, 3);
}
END_TEST

START_TEST(patterns_match_the_whole_text)
{
    ck_assert(text_matches("", ""));
    ck_assert(text_matches("*", ""));
    ck_assert(text_matches("*", "anything"));
    ck_assert(text_matches("cpu.*.idle", "cpu.0.idle"));
    ck_assert(text_matches("a*b*c", "a-b-b-c-c"));
    ck_assert(text_matches("?b?", "abc"));
    ck_assert(text_matches("*?", "a"));
    ck_assert(text_matches("**a**", "bab"));
    ck_assert(text_matches("*aab", "aaab"));
    ck_assert(!text_matches("", "a"));
    ck_assert(!text_matches("?", ""));
    ck_assert(!text_matches("a", "ab"));
    ck_assert(!text_matches("ab", "a"));
    ck_assert(!text_matches("a*b", "abc"));
    ck_assert(!text_matches("*?", ""));
}
END_TEST

START_TEST(patterns_of_stars_do_not_explode)
{
    static char text[20001];

    memset(text, 'a', sizeof(text) - 1);
    ck_assert(!text_matches("a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
}
END_TEST

START_TEST(nearest_names_are_few_edits_away)
{
    static const char *const names[] = { "listen", "log-level", "store-path", "tls", NULL };

    ck_assert_str_eq(text_nearest("lisen", names), "listen");
    ck_assert_str_eq(text_nearest("litsen", names), "listen");
    ck_assert_str_eq(text_nearest("log_level", names), "log-level");
    ck_assert_str_eq(text_nearest("tsl", names), "tls");
    ck_assert_str_eq(text_nearest("tls", names), "tls");
    ck_assert_ptr_null(text_nearest("quota", names));
    ck_assert_ptr_null(text_nearest("", names));
    ck_assert_ptr_null(text_nearest("x", names));
}
END_TEST

START_TEST(printable_text_leaves_a_terminal_alone)
{
    static const char *const rows[][2] = {
        { "plain \xc3\xa4 \xf0\x9f\x98\x80", "plain \xc3\xa4 \xf0\x9f\x98\x80" },
        { "two\nlines", "two\\nlines" },
        { "\x1b[31m\t\r\x7f", "\\x1b[31m\\x09\\x0d\\x7f" },
        { "cut \xe2\x82", "cut \\xe2\\x82" },
        { "csi \xc2\x9b", "csi \\xc2\\x9b" }, /* U+009B is ESC [ in one */
        { "\xe2\x80\xae"
          "abc",
          "\\xe2\\x80\\xaeabc" }, /* right to left from here */
    };

    for (size_t i = 0; i < N_OF(rows); i++) {
        CLEANUP(buf_deinit) struct buf to = { 0 };

        text_append_printable(&to, span_of_text(rows[i][0]));
        ck_assert_str_eq(buf_text(&to), rows[i][1]);
    }
}
END_TEST

void add_text_cases(Suite *s)
{
    TCase *tcase = tcase_create("text");

    suite_add_tcase(s, tcase);
    tcase_add_test(tcase, utf8_is_what_rfc_3629_allows);
    tcase_add_test(tcase, utf8_reads_no_byte_behind_the_end);
    tcase_add_test(tcase, numbers_are_whole_and_fit);
    tcase_add_test(tcase, durations_are_read_in_all_units_and_sums);
    tcase_add_test(tcase, durations_printed_read_back_the_same);
    tcase_add_test(tcase, sizes_know_both_thousands);
    tcase_add_test(tcase, sizes_are_rounded_for_people);
    tcase_add_test(tcase, times_are_read_in_every_allowed_form);
    tcase_add_test(tcase, times_of_no_calendar_are_bad);
    tcase_add_test(tcase, times_printed_read_back_the_same);
    tcase_add_test(tcase, hex_goes_both_ways_and_is_exact_in_length);
    tcase_add_test(tcase, patterns_match_the_whole_text);
    tcase_add_test(tcase, patterns_of_stars_do_not_explode);
    tcase_add_test(tcase, nearest_names_are_few_edits_away);
    tcase_add_test(tcase, printable_text_leaves_a_terminal_alone);
}
