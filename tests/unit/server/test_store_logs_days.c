/* SPDX-License-Identifier: Apache-2.0 */

/* Days of logs: where late records go, what compaction and retention leave. */

#include "test_store_logs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "server/store/whole.h"

START_TEST(records_on_both_sides_of_midnight_go_each_to_its_day)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), n = 0;
    int64_t midnight_us = NOON_US + DAY_US / 2;

    /* Ahead and back over midnight within a batch, then late ones of the day before. */
    ck_assert_int_eq(put_logs(store,
                              (struct log_put){ agent, 1, 1, 0, n, 100,
                                                midnight_us - 50 * SECOND_US, SECOND_US },
                              NULL),
                     STORE_OK);
    n += 100;
    ck_assert_int_eq(put_logs(store,
                              (struct log_put){ agent, 1, 2, 0, n, 100,
                                                midnight_us + 30 * SECOND_US, -SECOND_US },
                              NULL),
                     STORE_OK);
    n += 100;
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(stats_now(store).n_log_days, 2);
    for (uint64_t i = 3; i < 9; i++, n += 10)
        ck_assert_int_eq(
            put_logs(store,
                     (struct log_put){ agent, 1, i, 1, n, 10, NOON_US + (i % 2 ? 0 : DAY_US), 1 },
                     NULL),
            STORE_OK);
    check_lines(store, agent, n);
    for (int again = 0; again < 3; again++) {
        store_close(store);
        check_database();
        store = open_store(0);
        check_lines(store, agent, n);
        ck_assert_int_eq(again < 2 ? store_seal(store) : store_compact(store), 0);
        check_lines(store, agent, n);
    }
    ck_assert_uint_eq(stats_now(store).n_log_days, 2);
    store_close(store);
    check_database();
}
END_TEST

START_TEST(each_source_has_blocks_of_its_own_of_about_the_goal)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), n = 0;
    struct store_stats stats;

    for (uint64_t i = 1; i <= 30; i++, n += 100)
        ck_assert_int_eq(put_logs(store,
                                  (struct log_put){ agent, 1, i, (unsigned) i % 2, n, 100,
                                                    NOON_US + n, 1, 1000 },
                                  NULL),
                         STORE_OK);
    ck_assert_int_eq(store_seal(store), 0);
    stats = stats_now(store);
    /* Or the sealer came in between, by size: one more of each. */
    ck_assert_uint_ge(stats.n_sealed_log_blocks, 2);
    ck_assert_uint_le(stats.n_sealed_log_blocks, 6);
    ck_assert_uint_eq(stats.n_sealed_log_records, n);
    ck_assert_uint_lt(stats.n_sealed_log_bytes, stats.n_sealed_log_raw_bytes / 4);
    check_lines(store, agent, n);
    store_close(store);
    check_database();
}
END_TEST

static size_t n_blocks_of(struct store *store, uint32_t agent)
{
    return read_logs(store, agent)->n_blocks;
}

static wall_us at_noon(void)
{
    return (wall_us){ NOON_US };
}

START_TEST(compaction_makes_few_blocks_of_many_and_leaves_every_record_its_place)
{
    static struct lines before;
    struct store *store;
    uint32_t agents[3], n = 0;
    const struct lines *after;

    clock_set_source(at_noon, NULL); /* nothing is over yet */
    store = open_store(0);
    for (int a = 0; a < 3; a++)
        agents[a] = agent_of(store, a == 0 ? "web-0" : a == 1 ? "web-1" : "web-2");
    for (uint64_t i = 1; i <= 40; i++, n += 30) {
        for (int a = 0; a < 3; a++)
            ck_assert_int_eq(
                put_logs(store,
                         (struct log_put){ agents[a], 1, i, (unsigned) i % 2, n, 30,
                                           NOON_US + (int64_t) (i * 7 % 40) * 60 * SECOND_US,
                                           SECOND_US },
                         NULL),
                STORE_OK);
        if (i % 2 == 0)
            ck_assert_int_eq(store_seal(store), 0);
    }
    memcpy(&before, read_logs(store, agents[1]), sizeof(before));
    ck_assert_uint_eq(before.n_blocks, 40);
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_eq(stats_now(store).n_logs_compacted, 6);
    for (int again = 0; again < 2; again++) {
        after = read_logs(store, agents[1]);
        ck_assert_uint_eq(after->n_blocks, 2);
        ck_assert_uint_eq(after->n, before.n);
        ck_assert_mem_eq(after->lines, before.lines, before.n * sizeof(before.lines[0]));
        check_lines(store, agents[0], n);
        check_lines(store, agents[2], n);
        store_close(store);
        check_database();
        store = open_store(0);
    }
    /* Nothing is done twice; what is late goes together with what was done. */
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_eq(stats_now(store).n_logs_compacted, 0);
    ck_assert_int_eq(
        put_logs(store, (struct log_put){ agents[1], 1, 41, 1, n, 10, NOON_US, 1 }, NULL),
        STORE_OK);
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_eq(stats_now(store).n_logs_compacted, 1);
    ck_assert_uint_eq(n_blocks_of(store, agents[1]), 2);
    check_lines(store, agents[1], n + 10);
    store_close(store);
    check_database();
}
END_TEST

START_TEST(no_block_of_an_agent_is_replaced_while_it_has_a_reader)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), n = 0;
    struct logs_view view;

    for (uint64_t i = 1; i <= 6; i++, n += 10) {
        ck_assert_int_eq(
            put_logs(store, (struct log_put){ agent, 1, i, 0, n, 10, NOON_US, 1 }, NULL), STORE_OK);
        ck_assert_int_eq(store_seal(store), 0);
    }
    ck_assert_int_eq(logs_view_begin(store, agent, INT64_MIN, INT64_MAX, &view), 0);
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_eq(n_blocks_of(store, agent), 6);
    logs_view_end(&view);
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_eq(n_blocks_of(store, agent), 1);
    check_lines(store, agent, n);
    store_close(store);
}
END_TEST

START_TEST(much_of_one_source_is_compacted_in_steps_up_to_the_goal)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), n = 0;

    for (uint64_t i = 1; i <= 24; i++, n += 100) {
        ck_assert_int_eq(
            put_logs(store, (struct log_put){ agent, 1, i, 0, n, 100, NOON_US + n, 1, 6000 }, NULL),
            STORE_OK);
        if (i % 2 == 0)
            ck_assert_int_eq(store_seal(store), 0);
    }
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_ge(n_blocks_of(store, agent), 12);
    ck_assert_uint_le(n_blocks_of(store, agent), 24);
    check_lines(store, agent, n);
    store_close(store);
    check_database();
}
END_TEST

/* ---- retention ---- */

static wall_us the_day_after(void)
{
    return (wall_us){ NOON_US + DAY_US };
}

static void await_gone(struct store *store, uint64_t n)
{
    while (stats_now(store).n_days_gone < n) {
        store_retain_now(store);
        usleep(1000);
    }
}

START_TEST(days_of_logs_go_by_their_own_age_and_size_and_metrics_stay)
{
    struct store *store;
    uint32_t agent, layout;

    clock_set_source(the_day_after, NULL);
    store = open_store(0);
    agent = agent_of(store, "web-1");
    layout = layout_of(store, 2);
    for (int day = 0; day < 5; day++) {
        int64_t time_us = NOON_US - (4 - day) * DAY_US;
        uint64_t sequence = (uint64_t) day + 1;

        ck_assert_int_eq(
            put_logs(store,
                     (struct log_put){ agent, 1, sequence, 0, (uint32_t) day * 10, 10, time_us, 1 },
                     NULL),
            STORE_OK);
        ck_assert_int_eq(
            put_rows(store, (struct put){ agent, layout, 1, sequence, time_us, 2, 1 }, NULL),
            STORE_OK);
    }
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(stats_now(store).n_log_days, 5);
    store_set_logs_retention(store, 3 * DAY_US + DAY_US / 4, 0);
    await_gone(store, 2);
    ck_assert_uint_eq(stats_now(store).n_log_days, 3);
    ck_assert_uint_eq(stats_now(store).n_days, 5);
    for (int again = 0; again < 2; again++) {
        ck_assert_uint_eq(read_logs(store, agent)->n, 30);
        ck_assert_uint_eq(read_logs(store, agent)->lines[0].n, 20);
        ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, 5);
        store_close(store);
        check_database();
        store = open_store(0);
    }
    /* The size takes all but the newest. */
    store_set_logs_retention(store, 0, 1);
    await_gone(store, 2);
    ck_assert_uint_eq(stats_now(store).n_log_days, 1);
    ck_assert_uint_eq(stats_now(store).n_days, 5);
    ck_assert_uint_eq(read_logs(store, agent)->n, 10);
    store_close(store);
    store = open_store(0);
    ck_assert_uint_eq(read_logs(store, agent)->n, 10);
    store_close(store);
}
END_TEST

START_TEST(what_of_a_gone_day_is_in_the_journal_still_is_not_sealed_again)
{
    struct store *store;
    uint32_t agent;

    clock_set_source(the_day_after, NULL);
    store = open_store(0);
    agent = agent_of(store, "web-1");
    ck_assert_int_eq(
        put_logs(store, (struct log_put){ agent, 1, 1, 0, 0, 10, NOON_US - 9 * DAY_US, 1 }, NULL),
        STORE_OK);
    ck_assert_int_eq(store_seal(store), 0);
    /* Late ones of that day, and new ones. */
    ck_assert_int_eq(
        put_logs(store, (struct log_put){ agent, 1, 2, 0, 10, 10, NOON_US - 9 * DAY_US, 1 }, NULL),
        STORE_OK);
    ck_assert_int_eq(put_logs(store, (struct log_put){ agent, 1, 3, 0, 20, 10, NOON_US, 1 }, NULL),
                     STORE_OK);
    store_set_logs_retention(store, 2 * DAY_US, 0);
    await_gone(store, 1);
    for (int again = 0; again < 3; again++) {
        ck_assert_uint_eq(read_logs(store, agent)->n, 10);
        ck_assert_uint_eq(read_logs(store, agent)->lines[0].n, 20);
        ck_assert_uint_eq(logs_of(store, agent).n_records, 30);
        ck_assert_int_eq(store_seal(store), 0);
        ck_assert_uint_eq(stats_now(store).n_log_days, 1);
        store_close(store);
        check_database();
        store = open_store(0);
        ck_assert_uint_eq(stats_now(store).n_log_days, 1);
    }
    store_close(store);
}
END_TEST

/* ---- damage, and no room ---- */

#define DAY_PATH "default/logs/20260921"

/* Two agents with two blocks of two sources each, and records that only the journal has. */
static void fill(bool is_compacted, uint32_t agents[2])
{
    struct store *store = open_store(0);

    for (int a = 0; a < 2; a++)
        agents[a] = agent_of(store, a ? "web-2" : "web-1");
    for (uint64_t i = 1; i <= 4; i++) {
        for (int a = 0; a < 2; a++)
            ck_assert_int_eq(
                put_logs(store,
                         (struct log_put){ agents[a], 1, i, (unsigned) i % 2,
                                           (uint32_t) (i - 1) * 30, 30, NOON_US + (int64_t) i, 2 },
                         NULL),
                STORE_OK);
        if (i < 4)
            ck_assert_int_eq(is_compacted && i == 2 ? store_compact(store) : store_seal(store), 0);
    }
    store_close(store);
}

START_TEST(an_agent_of_logs_whose_record_is_damaged_is_sealed_as_far_as_its_blocks_say)
{
    uint32_t agents[2];
    struct store *store;

    ck_assert_int_eq(NOON_US, INT64_C(1789992000000000)); /* DAY_PATH */
    fill(_i & 1, agents);
    check_database();
    spoil_value(DAY_PATH, "agents", _i >> 1, 9);
    for (int again = 0; again < 2; again++) {
        store = open_store(0);
        for (int a = 0; a < 2; a++)
            check_lines(store, agents[a], 120);
        store_close(store);
        check_database(); /* it was written anew */
    }
    store = open_store(0);
    ck_assert_int_eq(_i & 1 ? store_seal(store) : store_compact(store), 0);
    for (int a = 0; a < 2; a++)
        check_lines(store, agents[a], 120);
    store_close(store);
    check_database();
}
END_TEST

static struct store_found survey(void)
{
    struct store_survey survey = { .directory = store_path, .is_deep = true };
    struct store_why why;

    ck_assert_int_eq(store_survey(&survey, &why), 0);
    return survey.found;
}

START_TEST(a_damaged_block_of_logs_is_named_passed_over_and_left_by_compaction)
{
    static const size_t places[] = { 5, 20, 45, 60, 90, 200, 300 };
    uint32_t agents[2];
    struct store *store;

    fill(false, agents);
    spoil_value(DAY_PATH, "blocks", 1, places[_i]);
    ck_assert_uint_gt(survey().n_damaged, 0);
    store = open_store(0);
    for (int again = 0; again < 2; again++) {
        ck_assert_uint_eq(read_logs(store, agents[0])->n, 90);
        ck_assert_uint_eq(read_logs(store, agents[0])->n_damaged, 1);
        check_lines(store, agents[1], 120);
        ck_assert_int_eq(store_compact(store), 0);
    }
    store_close(store);
    ck_assert_uint_gt(survey().n_damaged, 0);
}
END_TEST

static struct store *open_with(uint64_t day_bytes)
{
    struct store_options options = store_settings(0);
    struct store *store = NULL;
    struct store_why why;

    options.day_bytes = day_bytes;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    return store;
}

START_TEST(a_day_of_logs_at_its_limit_takes_nothing_new_and_a_higher_limit_is_the_remedy)
{
    struct store *store = open_with(256 << 10);
    uint32_t agent = agent_of(store, "web-1"), n = 0;
    uint64_t sequence = 0;
    int r = 0;

    while (r == 0 && sequence < 400) {
        struct log_put put = { agent, 1, ++sequence, 0, n, 40, NOON_US, 1 };

        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
        n += 40;
        r = store_seal(store);
    }
    ck_assert_int_eq(r, STORE_FULL);
    while (!stats_now(store).is_full)
        usleep(1000);
    ck_assert_int_eq(
        put_logs(store, (struct log_put){ agent, 1, sequence + 1, 0, n, 40, NOON_US, 1 }, NULL),
        STORE_FULL);
    check_lines(store, agent, n);
    store_close(store);
    store = open_with(16 << 20);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_int_eq(
        put_logs(store, (struct log_put){ agent, 1, sequence + 1, 0, n, 40, NOON_US, 1 }, NULL),
        STORE_OK);
    ck_assert_int_eq(store_compact(store), 0);
    check_lines(store, agent, n + 40);
    store_close(store);
    check_database();
}
END_TEST

/* ---- elsewhere ---- */

START_TEST(a_backup_has_logs_of_days_and_journal_and_so_has_what_is_restored)
{
    struct store *store;
    uint32_t agent;
    char state[300], to[300], restored[300], database[256];
    struct store_why why = { "" };
    struct store_backup backup = { .state_directory = state, .to = to, .wait_us = 60000000 };
    struct store_restore restore = { .from = to, .to = restored };

    snprintf(state, sizeof(state), "%s/hub", store_path);
    snprintf(to, sizeof(to), "%s/backup", store_path);
    snprintf(restored, sizeof(restored), "%s/restored", store_path);
    snprintf(database, sizeof(database), "%s", store_path);
    snprintf(store_path, sizeof(store_path), "%.200s/hub/db", database);
    ck_assert_int_eq(file_make_directories(store_path, 0700), 0);
    ck_assert_int_eq(store_create(store_path), 0);
    store = open_store(0);
    agent = agent_of(store, "web-1");
    ck_assert_int_eq(put_logs(store, (struct log_put){ agent, 1, 1, 0, 0, 100, NOON_US, 1 }, NULL),
                     0);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_int_eq(put_logs(store, (struct log_put){ agent, 1, 2, 1, 100, 50, NOON_US, 1 }, NULL),
                     0);
    ck_assert_int_eq(store_backup(&backup, &why), 0);
    ck_assert_int_eq(put_logs(store, (struct log_put){ agent, 1, 3, 1, 150, 50, NOON_US, 1 }, NULL),
                     0);
    check_lines(store, agent, 200);
    store_close(store);
    ck_assert_int_eq(store_restore(&restore, &why), 0);
    ck_assert_uint_eq(restore.found.n_damaged, 0);
    ck_assert_uint_eq(restore.found.logs.n_records, 100);
    ck_assert_uint_eq(restore.found.n_journal_records, 150);
    snprintf(store_path, sizeof(store_path), "%.200s/restored/db", database);
    store = open_store(0);
    check_lines(store, agent, 150);
    ck_assert_uint_eq(logs_of(store, agent).n_records, 150);
    store_close(store);
    check_database();
    snprintf(store_path, sizeof(store_path), "%s", database);
}
END_TEST

TCase *case_logs_days(void)
{
    TCase *tcase = tcase_create("logs_days");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, records_on_both_sides_of_midnight_go_each_to_its_day);
    tcase_add_test(tcase, each_source_has_blocks_of_its_own_of_about_the_goal);
    tcase_add_test(tcase, compaction_makes_few_blocks_of_many_and_leaves_every_record_its_place);
    tcase_add_test(tcase, no_block_of_an_agent_is_replaced_while_it_has_a_reader);
    tcase_add_test(tcase, much_of_one_source_is_compacted_in_steps_up_to_the_goal);
    tcase_add_test(tcase, days_of_logs_go_by_their_own_age_and_size_and_metrics_stay);
    tcase_add_test(tcase, what_of_a_gone_day_is_in_the_journal_still_is_not_sealed_again);
    tcase_add_loop_test(
        tcase, an_agent_of_logs_whose_record_is_damaged_is_sealed_as_far_as_its_blocks_say, 0, 4);
    tcase_add_loop_test(tcase, a_damaged_block_of_logs_is_named_passed_over_and_left_by_compaction,
                        0, 7);
    tcase_add_test(tcase,
                   a_day_of_logs_at_its_limit_takes_nothing_new_and_a_higher_limit_is_the_remedy);
    tcase_add_test(tcase, a_backup_has_logs_of_days_and_journal_and_so_has_what_is_restored);
    return tcase;
}
