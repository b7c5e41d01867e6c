/* SPDX-License-Identifier: Apache-2.0 */
#include "test_logblock_rig.h"

#include "common/logblock/words.h"

#include <stdio.h>
#include <string.h>

/* ---- words ---- */

static uint8_t small(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t) (byte + 32) : byte;
}

static bool is_word(uint8_t byte)
{
    uint8_t b = small(byte);

    return (b >= 'a' && b <= 'z') || (b >= '0' && b <= '9') || b == '_' || b > 127;
}

static bool naive_holds_at(const struct logblock_term *term, struct span body, size_t at)
{
    for (size_t i = 0; i < term->text.len; i++)
        if (small(body.data[at + i]) != small(term->text.data[i]))
            return false;
    return !term->is_word ||
           ((at == 0 || !is_word(body.data[at - 1])) &&
            (at + term->text.len == body.len || !is_word(body.data[at + term->text.len])));
}

static bool naive_holds(const struct logblock_term *terms, size_t n_terms, struct span body)
{
    for (size_t i = 0; i < n_terms; i++) {
        size_t at = 0;

        while (at + terms[i].text.len <= body.len && !naive_holds_at(&terms[i], body, at))
            at++;
        if (at + terms[i].text.len > body.len)
            return false;
    }
    return true;
}

/* A piece of a body in other case, or something else. */
static void random_term(struct logblock_term *term, uint8_t *to)
{
    const struct logblock_record *record = &rig_records[rig_below(rig_n_records)];
    size_t len = 1 + rig_below(rig_below(3) ? 12 : 100), at;

    term->is_word = rig_below(2);
    term->text = span_of(to, len);
    if (record->body.len < len || rig_below(8) == 0) {
        for (size_t i = 0; i < len; i++)
            to[i] = (uint8_t) "abcdefEe0123.: "[rig_below(15)];
        return;
    }
    at = rig_below(record->body.len - len + 1);
    if (term->is_word && rig_below(4)) {
        while (at > 0 && is_word(record->body.data[at - 1]))
            at--;
        while (at + len < record->body.len && is_word(record->body.data[at + len - 1]) &&
               len < 99 && is_word(record->body.data[at + len]))
            len++;
        term->text.len = len = len < record->body.len - at ? len : record->body.len - at;
    }
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = record->body.data[at + i];

        to[i] = rig_below(3) ? byte : small(byte);
        if (rig_below(4) == 0 && byte >= 'a' && byte <= 'z')
            to[i] = (uint8_t) (byte - 32);
    }
}

START_TEST(what_is_found_is_what_bodies_hold_and_the_filter_never_says_no_to_it)
{
    static uint8_t text[3][128];
    size_t n_found = 0, n_noes = 0;

    for (size_t round = 0; round < 60; round++) {
        struct logblock block;

        if (_i < LINES_STYLES)
            rig_made_records((enum lines_style) _i, round);
        else
            rig_random_records(1 + rig_below(100), 80);
        rig_n_records = rig_n_records > 60 ? 60 : rig_n_records;
        block = rig_open(rig_encode(LOGBLOCK_FAST));
        for (size_t k = 0; k < 40; k++) {
            CLEANUP(logblock_terms_freep) struct logblock_terms *terms = NULL;
            struct logblock_term term[3];
            size_t n_terms = 1 + rig_below(3);
            bool holds = false;

            for (size_t i = 0; i < n_terms; i++)
                random_term(&term[i], text[i]);
            ck_assert_int_eq(logblock_terms_new(&terms, term, n_terms), 0);
            for (size_t i = 0; i < rig_n_records; i++) {
                bool is_one = naive_holds(term, n_terms, rig_records[i].body);

                ck_assert(logblock_holds(terms, rig_records[i].body) == is_one);
                holds |= is_one;
            }
            ck_assert(!holds || logblock_may_hold(&block, terms));
            n_found += holds;
            n_noes += !logblock_may_hold(&block, terms);
        }
    }
    ck_assert_uint_gt(n_found, 300);
    ck_assert_uint_gt(n_noes, 100);
}
END_TEST

static bool may_hold(const struct logblock *block, const char *text, bool is_bounded)
{
    CLEANUP(logblock_terms_freep) struct logblock_terms *terms = NULL;
    struct logblock_term term = { span_of_text(text), is_bounded };

    ck_assert_int_eq(logblock_terms_new(&terms, &term, 1), 0);
    return logblock_may_hold(block, terms);
}

START_TEST(the_filter_says_no_to_nearly_all_words_that_are_nowhere)
{
    size_t n_words = 0, n_addresses = 0;
    struct logblock block;

    rig_made_records(LINES_NGINX, 1);
    block = rig_open(rig_encode(LOGBLOCK_FAST));
    for (size_t i = 0; i < 1000; i++) {
        char text[64];

        snprintf(text, sizeof(text), "nowhere%zu", i);
        n_words += may_hold(&block, text, true);
        snprintf(text, sizeof(text), "0.%zu.%zu.0", i / 32, i % 32);
        n_addresses += may_hold(&block, text, true);
    }
    ck_assert_uint_lt(n_words, 150);
    ck_assert_uint_lt(n_addresses, 150);
    /* Inner words of a text count, what stands at its ends may be a part of one. */
    ck_assert(!may_hold(&block, "x nowhere1 x", false) || !may_hold(&block, "x nowhere2 x", false));
    ck_assert(may_hold(&block, "nowhere1", false) && may_hold(&block, "nowhere1 nowhere2", false));
    /* These are left rig_out. */
    ck_assert(may_hold(&block, "x", true) && may_hold(&block, "0000", true));
    ck_assert(may_hold(&block, "0b1c", true));
}
END_TEST

/* A word at every place around the edges of what is looked at at once. */
START_TEST(words_are_cut_alike_wherever_they_stand)
{
    static const char *const words[] = {
        "eth0",          "nowhere_",          "ab",    "127.0.0.1",
        "41d4e",         "x\xc3\xa4",         "12345", "sixteen_letters_",
        "10.200.30.255", "seventeen_letters", "a1z"
    };
    static uint8_t body[5000];

    rig_n_records = 1;
    rig_source = (struct logblock_source){ span_of_text("file"), span_of_text("x"), NULL, 0 };
    for (size_t w = 0; w < sizeof(words) / sizeof(*words); w++)
        for (size_t at = 0; at < 4400; at += at < 140 || at > 3960 ? 1 : 61) {
            size_t len = strlen(words[w]);
            struct logblock block;

            memset(body, " x/."[at % 4], sizeof(body));
            if (at % 4 == 1)
                body[at > 0 ? at - 1 : 0] = body[at + len] = ' ';
            memcpy(body + at, words[w], len);
            rig_records[0] = (struct logblock_record){ .body = span_of(body, at + len + at % 3) };
            block = rig_open(rig_encode(LOGBLOCK_FAST));
            ck_assert(block.filter.len > 0);
            ck_assert(may_hold(&block, words[w], true));
        }
}
END_TEST

START_TEST(a_text_is_found_as_one_byte_after_the_other_finds_it)
{
    static uint8_t text[200], term_text[40];

    for (size_t round = 0; round < 20000; round++) {
        CLEANUP(logblock_terms_freep) struct logblock_terms *terms = NULL;
        size_t len = rig_below(sizeof(text)),
               term_len = 1 + rig_below(round % 2 ? 3 : sizeof(term_text));
        struct logblock_term term = { span_of(term_text, term_len), false };
        const uint8_t *a, *b;

        for (size_t i = 0; i < len; i++)
            text[i] = (uint8_t) "abABxy@`[{"[rig_below(10)];
        for (size_t i = 0; i < term_len; i++)
            term_text[i] = (uint8_t) "abABxy@`[{"[rig_below(10)];
        if (term_len < len && rig_below(2))
            memcpy(term_text, text + rig_below(len - term_len), term_len);
        ck_assert_int_eq(logblock_terms_new(&terms, &term, 1), 0);
        a = parts_find(&terms->terms[0], text, text + len);
        b = parts_find_slowly(&terms->terms[0], text, text + len);
        ck_assert_ptr_eq(a, b);
    }
}
END_TEST

/* ---- finding ---- */

static bool is_even(void *ctx, struct span body)
{
    (void) ctx;
    return body.len % 2 == 0;
}

static bool
is_wanted(const struct logblock_wanted *wanted, const struct logblock_term *term, size_t i)
{
    const struct logblock_record *record = &rig_records[i];

    return record->time_us >= wanted->from_us && record->time_us < wanted->to_us &&
           record->severity >= wanted->min_severity &&
           (!wanted->terms || naive_holds(term, 1, record->body)) &&
           (!wanted->is_wanted || wanted->is_wanted(NULL, record->body));
}

START_TEST(what_is_wanted_comes_whole_and_in_order)
{
    static uint8_t text[128];

    for (size_t round = 0; round < 400; round++) {
        CLEANUP(logblock_terms_freep) struct logblock_terms *terms = NULL;
        struct logblock_wanted wanted = { .from_us = INT64_MIN, .to_us = INT64_MAX };
        struct logblock_record *back;
        struct logblock_term term;
        struct logblock block;
        size_t n, k = 0;
        uint64_t n_bytes;

        rig_random_records(1 + rig_below(150), 60);
        block = rig_open(rig_encode(LOGBLOCK_FAST));
        random_term(&term, text);
        ck_assert_int_eq(logblock_terms_new(&terms, &term, 1), 0);
        if (rig_below(2)) {
            wanted.from_us = rig_records[rig_below(rig_n_records)].time_us;
            wanted.to_us = rig_records[rig_below(rig_n_records)].time_us;
        }
        wanted.min_severity = rig_below(2) ? (uint32_t) rig_below(30) : 0;
        wanted.terms = rig_below(2) ? terms : NULL;
        wanted.is_wanted = rig_below(3) ? NULL : is_even;
        ck_assert_int_eq(logblock_find(&block, &wanted, rig_room, &back, &n, &n_bytes),
                         LOGBLOCK_OK);
        for (size_t i = 0; i < rig_n_records; i++) {
            if (!is_wanted(&wanted, &term, i))
                continue;
            ck_assert_uint_lt(k, n);
            rig_assert_record(&back[k++], &rig_records[i]);
        }
        ck_assert_uint_eq(k, n);
    }
}
END_TEST

START_TEST(a_word_is_found_behind_a_part_of_another)
{
    static const char *const bodies[] = { "errors, xerror, error", "errors", "", "error",
                                          "errors xerror" };
    CLEANUP(logblock_terms_freep) struct logblock_terms *terms = NULL;
    struct logblock_term term = { span_of_text("ERROR"), true };
    struct logblock_wanted wanted = { .from_us = INT64_MIN, .to_us = INT64_MAX };
    struct logblock_record *back;
    struct logblock block;
    uint64_t n_bytes;
    size_t n;

    rig_random_records(5, 10);
    for (size_t i = 0; i < 5; i++) {
        rig_records[i].time_us = (int64_t) i;
        rig_records[i].body = span_of_text(bodies[i]);
    }
    block = rig_open(rig_encode(LOGBLOCK_FAST));
    ck_assert_int_eq(logblock_terms_new(&terms, &term, 1), 0);
    wanted.terms = terms;
    ck_assert_int_eq(logblock_find(&block, &wanted, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
    ck_assert_uint_eq(n, 2);
    rig_assert_record(&back[0], &rig_records[0]);
    rig_assert_record(&back[1], &rig_records[3]);
}
END_TEST

START_TEST(nothing_is_decoded_that_need_not_be)
{
    CLEANUP(logblock_terms_freep) struct logblock_terms *nowhere = NULL, *part = NULL;
    struct logblock_term words[] = { { span_of_text("nowhere at all"), true },
                                     { span_of_text("zzqzz"), false } };
    struct logblock_wanted wanted = { .from_us = INT64_MIN, .to_us = INT64_MAX };
    struct logblock_record *back;
    struct logblock block;
    uint64_t n_bytes;
    size_t n;

    rig_made_records(LINES_JAVA, 1);
    block = rig_open(rig_encode(LOGBLOCK_FAST));
    ck_assert_int_eq(logblock_terms_new(&nowhere, &words[0], 1), 0);
    ck_assert_int_eq(logblock_terms_new(&part, &words[1], 1), 0);
    wanted.terms = nowhere;
    ck_assert_int_eq(logblock_find(&block, &wanted, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
    ck_assert(n == 0 && n_bytes == 0);
    wanted.terms = part;
    ck_assert_int_eq(logblock_find(&block, &wanted, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
    ck_assert(n == 0 && n_bytes == block.bodies_len);
    wanted.terms = NULL;
    wanted.min_severity = 18;
    ck_assert_int_eq(logblock_find(&block, &wanted, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
    ck_assert(n == 0 && n_bytes == 0);
    wanted.min_severity = 0;
    wanted.from_us = block.last_us + 1;
    ck_assert_int_eq(logblock_find(&block, &wanted, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
    ck_assert(n == 0 && n_bytes == 0);
    wanted.from_us = wanted.to_us = block.first_us + 1;
    ck_assert_int_eq(logblock_find(&block, &wanted, rig_room, &back, &n, &n_bytes), LOGBLOCK_OK);
    ck_assert(n == 0 && n_bytes == block.columns_len);
}
END_TEST

TCase *logblock_words_case(void)
{
    TCase *words = tcase_create("words");

    tcase_add_checked_fixture(words, rig_start, rig_stop);
    tcase_set_timeout(words, 120);
    tcase_add_loop_test(words, what_is_found_is_what_bodies_hold_and_the_filter_never_says_no_to_it,
                        0, LINES_STYLES + 1);
    tcase_add_test(words, the_filter_says_no_to_nearly_all_words_that_are_nowhere);
    tcase_add_test(words, words_are_cut_alike_wherever_they_stand);
    tcase_add_test(words, a_text_is_found_as_one_byte_after_the_other_finds_it);
    return words;
}

TCase *logblock_find_case(void)
{
    TCase *find = tcase_create("find");

    tcase_add_checked_fixture(find, rig_start, rig_stop);
    tcase_set_timeout(find, 120);
    tcase_add_test(find, what_is_wanted_comes_whole_and_in_order);
    tcase_add_test(find, a_word_is_found_behind_a_part_of_another);
    tcase_add_test(find, nothing_is_decoded_that_need_not_be);
    return find;
}
