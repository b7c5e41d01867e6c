/* SPDX-License-Identifier: Apache-2.0 */
#include "test_audit.h"

#include <stdio.h>
#include <string.h>

#include "common/json/json.h"

static struct arena arena;
static struct audit_record *found;
static size_t n_found;
static bool has_more;

/* Four days, 300 entries each: one refusal in ten. The first two are closed. */
static void setup(void)
{
    const struct audit_limits limits = { .hot_us = 2 * DAY_US };
    char object[32];

    audit_setup();
    arena_init(&arena, (size_t) 64 << 20);
    audit_set_limits(audit, &limits);
    for (unsigned day = 0; day < 4; day++) {
        for (unsigned i = 0; i < 300; i++) {
            const struct audit_entry entry = {
                .event = i % 10 == 0 ? AUDIT_TOKEN_FAILED : AUDIT_TOKEN_USED,
                .actor = i % 2 ? "operator/anna" : "operator/bob",
                .source = i % 3 ? "10.0.0.7:99" : "",
                .object = object,
            };

            snprintf(object, sizeof(object), "token/%u-%u", day, i);
            ck_assert_int_eq(audit_put(audit, &entry), 0);
            now_us += SECOND_US;
        }
        now_us += DAY_US - 300 * SECOND_US;
    }
    tick();
}

static void teardown(void)
{
    arena_deinit(&arena);
    audit_teardown();
}

static void find(const struct audit_question *question)
{
    arena_reset(&arena, (size_t) 64 << 20);
    ck_assert_int_eq(audit_find(audit, question, &arena, &found, &n_found, &has_more), 0);
}

START_TEST(pages_give_every_entry_once_in_both_directions)
{
    for (int is_oldest_first = 0; is_oldest_first < 2; is_oldest_first++) {
        struct audit_question question = { .is_oldest_first = is_oldest_first != 0, .limit = 97 };
        uint64_t expected = is_oldest_first ? 1 : 1200;
        size_t n = 0;

        do {
            find(&question);
            for (size_t i = 0; i < n_found; i++, n++) {
                ck_assert_uint_eq(found[i].number, expected);
                expected += is_oldest_first ? 1 : UINT64_MAX;
            }
            question.beyond = found[n_found - 1].number;
        } while (has_more);
        ck_assert_uint_eq(n, 1200);
    }
}
END_TEST

START_TEST(patterns_choose_and_several_must_all_fit)
{
    struct audit_question question = { .event = "token.failed", .limit = 1000 };

    find(&question);
    ck_assert_uint_eq(n_found, 120);
    ck_assert(!has_more);
    question.event = "STK003W";
    find(&question);
    ck_assert_uint_eq(n_found, 120);
    question.event = "token.*";
    question.actor = "operator/a*";
    find(&question);
    ck_assert_uint_eq(n_found, 600);
    question.object = "token/2-*";
    find(&question);
    ck_assert_uint_eq(n_found, 150);
    question.source = "10.0.0.*";
    find(&question);
    ck_assert_uint_eq(n_found, 100);
    question = (struct audit_question){ .failures_only = true, .limit = 1000 };
    find(&question);
    ck_assert_uint_eq(n_found, 120);
    question = (struct audit_question){ .event = "no.such", .limit = 1000 };
    find(&question);
    ck_assert_uint_eq(n_found, 0);
}
END_TEST

START_TEST(a_range_of_times_is_inclusive_and_crosses_hot_and_cold)
{
    const int64_t noon_us = 20000 * DAY_US + DAY_US / 2;
    struct audit_question question = { .from = { noon_us + DAY_US + 290 * SECOND_US },
                                       .to = { noon_us + 2 * DAY_US + 9 * SECOND_US },
                                       .limit = 1000 };

    find(&question);
    ck_assert_uint_eq(n_found, 20);
    ck_assert_uint_eq(found[0].number, 610);
    ck_assert_uint_eq(found[19].number, 591);
    question.is_oldest_first = true;
    find(&question);
    ck_assert_uint_eq(n_found, 20);
    ck_assert_uint_eq(found[0].number, 591);
}
END_TEST

START_TEST(entries_of_a_clock_that_went_back_are_found_by_their_own_times)
{
    struct audit_question question = { .event = "hub.started", .limit = 10 };

    now_us += 100 * DAY_US;
    put_many(1);
    now_us -= 99 * DAY_US;
    put(AUDIT_HUB_STARTED, "hub", NULL);
    question.from.us = now_us - MINUTE_US;
    question.to.us = now_us + MINUTE_US;
    find(&question);
    ck_assert_uint_eq(n_found, 1);
    question.is_oldest_first = true;
    find(&question);
    ck_assert_uint_eq(n_found, 1);
}
END_TEST

START_TEST(an_arena_that_is_full_ends_the_page_early)
{
    struct audit_question question = { .limit = 50 };
    size_t n = 0;

    do {
        arena_reset(&arena, 12000);
        ck_assert_int_eq(audit_find(audit, &question, &arena, &found, &n_found, &has_more), 0);
        ck_assert_uint_gt(n_found, 0);
        question.beyond = found[n_found - 1].number;
        n += n_found;
    } while (has_more);
    ck_assert_uint_eq(n, 1200);
}
END_TEST

static struct buf lines;

static bool add_line(void *ctx, struct span line)
{
    size_t *n = ctx;

    if (++*n == 1)
        buf_append_span(&lines, line);
    return *n < 500;
}

START_TEST(export_gives_json_lines_in_order_until_it_is_told_to_stop)
{
    struct json_error error;
    struct json *json;
    size_t n = 0;

    memset(&lines, 0, sizeof(lines));
    ck_assert_int_eq(audit_export(audit, (wall_us){ 0 }, (wall_us){ 0 }, add_line, &n), 0);
    ck_assert_uint_eq(n, 500);
    ck_assert_int_eq(json_parse(&json, buf_span(&lines), &error), 0);
    ck_assert_int_eq(json_get_i64(json_member(json, "number"), 0), 1);
    ck_assert_str_eq(json_get_text(json_member(json, "time"), ""), "2024-10-04T12:00:00.000000Z");
    ck_assert_str_eq(json_get_text(json_member(json, "event"), ""), "token.failed");
    ck_assert_str_eq(json_get_text(json_member(json, "result"), ""), "refused");
    ck_assert_str_eq(json_get_text(json_member(json, "actor"), ""), "operator/bob");
    ck_assert_str_eq(json_get_text(json_member(json, "object"), ""), "token/0-0");
    ck_assert_uint_eq(strlen(json_get_text(json_member(json, "sha256"), "")), 64);
    json_free(json);
    buf_deinit(&lines);
}
END_TEST

TCase *case_find(void)
{
    TCase *tc = tcase_create("find");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, pages_give_every_entry_once_in_both_directions);
    tcase_add_test(tc, patterns_choose_and_several_must_all_fit);
    tcase_add_test(tc, a_range_of_times_is_inclusive_and_crosses_hot_and_cold);
    tcase_add_test(tc, entries_of_a_clock_that_went_back_are_found_by_their_own_times);
    tcase_add_test(tc, an_arena_that_is_full_ends_the_page_early);
    tcase_add_test(tc, export_gives_json_lines_in_order_until_it_is_told_to_stop);
    return tc;
}
