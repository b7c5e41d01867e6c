/* SPDX-License-Identifier: Apache-2.0 */
#include "common/regex/regex.h"

#include <string.h>

#include "suite.h"

#define TEXT(literal) span_of(literal, sizeof(literal) - 1)

static char error[REGEX_ERROR_BYTES];

static bool matches(const char *pattern, struct span text)
{
    CLEANUP(regex_freep) struct regex *regex = NULL;

    ck_assert_msg(regex_new(&regex, span_of_text(pattern), error) == REGEX_OK, "%s", error);
    return regex_matches(regex, text);
}

START_TEST(a_pattern_is_found_anywhere)
{
    ck_assert(matches("b+c", TEXT("aabbbcd")));
    ck_assert(!matches("^b+c", TEXT("aabbbcd")));
    ck_assert(matches("(?i)ERROR [0-9]{3}", TEXT("an error 503 came")));
    ck_assert(!matches("ERROR", TEXT("an error came")));
    ck_assert(matches("", TEXT("")));
    ck_assert(matches("", span_of(NULL, 0)));
}
END_TEST

START_TEST(text_may_hold_nul_and_broken_utf8)
{
    ck_assert(matches("behind", TEXT("before\0behind")));
    ck_assert(matches("\\x00b", TEXT("before\0behind")));
    ck_assert(matches("b.hind", TEXT("\xff\xfe\xc0 behind")));
    ck_assert(!matches("a.b", TEXT("a\xff"
                                   "b")));
    ck_assert(matches("t.l", TEXT("t\xc3\xa9l")));
}
END_TEST

static const char *const bad[] = { "(",    "a{2000}", "\\8",    "[b-a]",   "((a{100}){100}){100}",
                                   "\xff", "(?=a)",   "(a)\\1", "a.{900}b" };

/* Longer than people write them, and not too long. */
START_TEST(the_place_of_a_match_is_its_group)
{
    CLEANUP(regex_freep) struct regex *regex = NULL;
    const struct span text = span_of_text("key=a1 token=b22 key=");
    size_t begin, end;

    ck_assert_int_eq(regex_new(&regex, span_of_text("(?:key|token)=(\\w+)|none"), error), 0);
    ck_assert(regex_find(regex, text, 0, &begin, &end));
    ck_assert_uint_eq(begin, 4);
    ck_assert_uint_eq(end, 6);
    ck_assert(regex_find(regex, text, end, &begin, &end));
    ck_assert_uint_eq(begin, 13);
    ck_assert_uint_eq(end, 16);
    ck_assert(!regex_find(regex, text, end, &begin, &end));
    ck_assert(!regex_find(regex, text, text.len + 1, &begin, &end));
    regex = regex_free(regex);
    ck_assert_int_eq(regex_new(&regex, span_of_text("b+|(c)"), error), 0);
    ck_assert(regex_find(regex, text, 0, &begin, &end));
    ck_assert_uint_eq(begin, 13);
    ck_assert_uint_eq(end, 14);
}
END_TEST

START_TEST(long_patterns_are_taken)
{
    ck_assert(matches("^\\d{4}-\\d\\d-\\d\\dT[0-9:.]+Z \\S+ \\[[^\\]]{1,100}\\] (GET|PUT) (/\\w+)+",
                      TEXT("2026-01-02T03:04:05Z web [main-7] GET /a/b/c")));
    ck_assert(matches("(?i)(error|failed|fatal|panic|timeout).{0,100}(10\\.\\d+\\.\\d+\\.\\d+)",
                      TEXT("a Timeout at 10.0.0.1")));
}
END_TEST

START_TEST(a_bad_pattern_is_said_in_words)
{
    struct regex *regex = NULL;

    error[0] = '\0';
    ck_assert_int_eq(regex_new(&regex, span_of_text(bad[_i]), error), REGEX_BAD);
    ck_assert_ptr_null(regex);
    ck_assert_uint_gt(strlen(error), 5);
}
END_TEST

/* What takes a backtracking matcher longer than the world will last. */
START_TEST(time_is_linear_where_others_backtrack)
{
    static char text[100000];

    memset(text, 'a', sizeof(text));
    ck_assert(!matches("(a*)*(a|aa)*(x+x+)+y", span_of(text, sizeof(text))));
    ck_assert(!matches("(a?){50}a{50}b", span_of(text, sizeof(text))));
}
END_TEST

START_TEST(the_place_is_that_of_the_group_that_took_part)
{
    CLEANUP(regex_freep) struct regex *regex = NULL;
    size_t begin, end;

    ck_assert_int_eq(regex_new(&regex, span_of_text("a(b)|c(d+)|e"), error), REGEX_OK);
    ck_assert(regex_find(regex, span_of_text("xcddd"), 0, &begin, &end));
    ck_assert_uint_eq(begin, 2);
    ck_assert_uint_eq(end, 5);
    ck_assert(regex_find(regex, span_of_text("xe"), 0, &begin, &end));
    ck_assert_uint_eq(begin, 1);
    ck_assert_uint_eq(end, 2);
}
END_TEST

START_TEST(bytes_are_characters_where_it_is_said)
{
    CLEANUP(regex_freep) struct regex *text = NULL, *bytes = NULL;
    const struct span latin = span_of_text("gr\xfc\xdf");

    ck_assert_int_eq(regex_new(&text, span_of_text("^gr[^a]{2}$"), error), REGEX_OK);
    ck_assert_int_eq(regex_new_bytes(&bytes, span_of_text("^gr[^a]{2}$"), error), REGEX_OK);
    ck_assert(!regex_matches(text, latin));
    ck_assert(regex_matches(bytes, latin));
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/regex");
    TCase *tc = tcase_create("regex");

    suite_add_tcase(s, tc);
    tcase_add_test(tc, a_pattern_is_found_anywhere);
    tcase_add_test(tc, text_may_hold_nul_and_broken_utf8);
    tcase_add_test(tc, the_place_of_a_match_is_its_group);
    tcase_add_test(tc, the_place_is_that_of_the_group_that_took_part);
    tcase_add_test(tc, bytes_are_characters_where_it_is_said);
    tcase_add_test(tc, long_patterns_are_taken);
    tcase_add_loop_test(tc, a_bad_pattern_is_said_in_words, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(tc, time_is_linear_where_others_backtrack);
    return s;
}
