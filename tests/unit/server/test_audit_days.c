/* SPDX-License-Identifier: Apache-2.0 */
#include "test_audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "server/audit/segment.h"
#include "server/audit/walk.h"

/* Days with 5 entries each. */
static void make_days(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        put_many(5);
        now_us += DAY_US;
    }
}

static const struct audit_limits two_days = { .hot_us = 2 * DAY_US, .cold_us = 6 * DAY_US };

static size_t n_files(void)
{
    uint32_t *days;
    size_t n;

    ck_assert_int_eq(walk_closed_days(audit_directory, &days, &n), 0);
    free(days);
    return n;
}

static const char *path_of(uint32_t day, const char *behind)
{
    static char path[256];
    char name[16];

    segment_name(day, name);
    snprintf(path, sizeof(path), "%s/%s%s", audit_directory, name, behind);
    return path;
}

START_TEST(days_that_are_no_longer_hot_become_files_and_the_chain_stays_whole)
{
    struct row_head head;
    size_t n;

    audit_set_limits(audit, &two_days);
    make_days(5); /* of today there is nothing yet */
    tick();
    (void) all_entries(&n);
    ck_assert_uint_eq(n, 10);
    ck_assert_uint_eq(n_files(), 3);
    ck_assert_int_eq(audit_head(audit, &head), 0);
    ck_assert_uint_eq(head.number, 25);
    verify_is_good();
    ck_assert_uint_eq(verdict.n_entries, 25);
    ck_assert_uint_eq(verdict.n_days, 3);
    reopen();
    put_many(1);
    verify_is_good();
    ck_assert_uint_eq(verdict.last, 26);
}
END_TEST

START_TEST(the_day_of_the_head_is_never_closed)
{
    const struct audit_limits limits = { .hot_us = 2 * DAY_US };
    size_t n;

    audit_set_limits(audit, &limits);
    put_many(5);
    now_us += 30 * DAY_US;
    tick();
    (void) all_entries(&n);
    ck_assert_uint_eq(n, 5);
    ck_assert_uint_eq(n_files(), 0);
    put_many(1);
    tick();
    (void) all_entries(&n);
    ck_assert_uint_eq(n, 1);
    verify_is_good();
}
END_TEST

START_TEST(too_many_entries_are_closed_before_their_time)
{
    const struct audit_limits limits = { .hot_entries = 8 };
    size_t n;

    audit_set_limits(audit, &limits);
    make_days(4);
    tick();
    (void) all_entries(&n);
    ck_assert_uint_eq(n, 5);
    ck_assert_uint_eq(n_files(), 3);
    verify_is_good();
}
END_TEST

START_TEST(days_that_are_too_old_are_said_first_and_go_an_hour_later)
{
    const struct audit_record *entries;
    size_t n;

    audit_set_limits(audit, &two_days);
    make_days(10);
    tick();
    ck_assert_uint_eq(n_files(), 8);
    entries = all_entries(&n);
    ck_assert_str_eq(entries[n - 1].event, "audit.retained_out");
    ck_assert_str_eq(field_of(&entries[n - 1], "first"), "1");
    ck_assert_str_eq(field_of(&entries[n - 1], "last"), "20");
    verify_is_good();
    ck_assert_uint_eq(verdict.first, 1);
    now_us += 59 * MINUTE_US;
    tick();
    ck_assert_uint_eq(n_files(), 8);
    now_us += MINUTE_US;
    tick();
    ck_assert_uint_eq(n_files(), 4);
    verify_is_good();
    ck_assert_uint_eq(verdict.first, 21);
    (void) all_entries(&n);
    ck_assert_uint_eq(n, 11); /* it was said once */
}
END_TEST

START_TEST(a_kill_between_the_file_and_its_rows_is_gone_on_with)
{
    char copy[256];
    CLEANUP(buf_deinit) struct buf file = { 0 };
    size_t n_rows, n;
    struct seen *rows;
    static struct store_write writes[20];

    audit_set_limits(audit, &two_days);
    make_days(4);
    rows = all_rows(&n_rows);
    for (size_t i = 0; i < 5; i++)
        writes[i] = (struct store_write){ STORE_TABLE_AUDIT, span_of(rows[i].key, rows[i].key_len),
                                          span_of(rows[i].value, rows[i].value_len) };
    tick();
    ck_assert_uint_eq(n_files(), 2);
    ck_assert_int_eq(store_state_write(store, writes, 5), 0);
    verify_is_good(); /* they are in both, and alike */
    ck_assert_uint_eq(verdict.n_entries, 20);
    snprintf(copy, sizeof(copy), "%s", path_of(20009, ".partial"));
    ck_assert_int_eq(file_replace(copy, span_of_text("half"), 0600), 0);
    reopen();
    audit_set_limits(audit, &two_days);
    ck_assert_int_eq(audit_days_clean(audit), 0);
    ck_assert_int_ne(access(copy, F_OK), 0);
    tick();
    (void) all_entries(&n);
    ck_assert_uint_eq(n, 10);
    verify_is_good();
}
END_TEST

START_TEST(rows_that_are_not_the_same_as_in_the_file_stay)
{
    size_t n_rows, n;
    struct seen *rows;
    struct store_write write;

    audit_set_limits(audit, &two_days);
    make_days(4);
    rows = all_rows(&n_rows);
    rows[2].value[60] ^= 1;
    write = (struct store_write){ STORE_TABLE_AUDIT, span_of(rows[2].key, rows[2].key_len),
                                  span_of(rows[2].value, rows[2].value_len) };
    tick();
    ck_assert_int_eq(store_state_write(store, &write, 1), 0);
    tick();
    (void) all_rows(&n);
    ck_assert_uint_eq(n, 10 + 1 + 1); /* entries, that one, the head */
}
END_TEST

static size_t walked;
static bool count_row(void *ctx, const struct walk_row *row)
{
    const uint64_t *step = ctx;

    walked += *step;
    ck_assert_uint_eq(row->number, walked);
    return true;
}

/* The hub closes the day while entry 400 is looked at, after which two pages are still to come. */
static bool close_meanwhile(void *ctx, const struct walk_row *row)
{
    if (row->number == 400)
        tick();
    return count_row(ctx, row);
}

START_TEST(a_day_that_moves_under_a_walk_is_seen_whole_and_once)
{
    const struct audit_limits limits = { .hot_entries = 1 };

    for (uint64_t step = 1, n = 1; n < 3; step = UINT64_MAX, n++) {
        struct walk walk = { .is_backwards = step != 1,
                             .from_us = INT64_MIN,
                             .to_us = INT64_MAX,
                             .on_row = close_meanwhile,
                             .ctx = &step };

        audit_teardown();
        audit_setup();
        audit_set_limits(audit, &limits);
        put_many(800);
        now_us += DAY_US;
        put_many(1);
        walk.audit = audit;
        walk.first_day = walk.last_day = row_day_of(now_us) - 1;
        walked = step == 1 ? 0 : 801;
        ck_assert_int_eq(walk_run(&walk), 0);
        ck_assert_uint_eq(walked, step == 1 ? 800 : 1);
        ck_assert_uint_eq(n_files(), 1);
    }
}
END_TEST

START_TEST(a_long_day_is_walked_both_ways_page_by_page)
{
    uint64_t forward = 1, backward = UINT64_MAX;
    struct walk walk = { .audit = audit,
                         .last_day = UINT32_MAX,
                         .from_us = INT64_MIN,
                         .to_us = INT64_MAX,
                         .on_row = count_row,
                         .ctx = &forward };
    const struct audit_limits limits = { .hot_entries = 1 };

    put_many(1000);
    for (int is_closed = 0; is_closed < 2; is_closed++) {
        walked = 0;
        walk.beyond = 0;
        walk.is_backwards = false;
        walk.ctx = &forward;
        ck_assert_int_eq(walk_run(&walk), 0);
        ck_assert_uint_eq(walked, 1000 + (size_t) is_closed);
        walked++;
        walk.beyond = 0;
        walk.is_backwards = true;
        walk.ctx = &backward;
        ck_assert_int_eq(walk_run(&walk), 0);
        ck_assert_uint_eq(walked, 1);
        walked = 511;
        walk.beyond = 511;
        walk.is_backwards = false;
        walk.ctx = &forward;
        ck_assert_int_eq(walk_run(&walk), 0);
        ck_assert_uint_eq(walked, 1000 + (size_t) is_closed);
        walked = 257;
        walk.beyond = 257;
        walk.is_backwards = true;
        walk.ctx = &backward;
        ck_assert_int_eq(walk_run(&walk), 0);
        ck_assert_uint_eq(walked, 1);
        now_us += DAY_US;
        put_many(1);
        audit_set_limits(audit, &limits);
        tick();
    }
}
END_TEST

START_TEST(names_of_days_are_read_and_others_are_not)
{
    uint32_t day;
    char name[16];

    segment_name(20000, name);
    ck_assert_str_eq(name, "20241004");
    ck_assert(segment_name_read("20241004", &day));
    ck_assert_uint_eq(day, 20000);
    ck_assert(!segment_name_read("20241004.partial", &day));
    ck_assert(!segment_name_read("20241304", &day));
    ck_assert(!segment_name_read("20240230", &day));
    ck_assert(!segment_name_read("2024100", &day));
    ck_assert(!segment_name_read("lost+fou", &day));
}
END_TEST

TCase *case_days(void)
{
    TCase *tc = tcase_create("days");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, audit_setup, audit_teardown);
    tcase_add_test(tc, days_that_are_no_longer_hot_become_files_and_the_chain_stays_whole);
    tcase_add_test(tc, the_day_of_the_head_is_never_closed);
    tcase_add_test(tc, too_many_entries_are_closed_before_their_time);
    tcase_add_test(tc, days_that_are_too_old_are_said_first_and_go_an_hour_later);
    tcase_add_test(tc, a_kill_between_the_file_and_its_rows_is_gone_on_with);
    tcase_add_test(tc, rows_that_are_not_the_same_as_in_the_file_stay);
    tcase_add_test(tc, a_day_that_moves_under_a_walk_is_seen_whole_and_once);
    tcase_add_test(tc, a_long_day_is_walked_both_ways_page_by_page);
    tcase_add_test(tc, names_of_days_are_read_and_others_are_not);
    return tc;
}
