/* SPDX-License-Identifier: Apache-2.0 */

/* Logs into the journal and out of it, and what becomes of them in days. */

#include "test_store_logs.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "server/store/journal/reader.h"
#include "server/store/whole.h"

/* ---- in the journal ---- */

START_TEST(records_come_back_as_they_were_from_the_journal_and_from_blocks)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), n = 0;

    for (uint64_t i = 1; i <= 12; i++) {
        struct log_put put = { agent, 1, i, (unsigned) i, n, 50, NOON_US + (int64_t) i * SECOND_US,
                               7 };

        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
        n += 50;
    }
    check_lines(store, agent, n);
    for (int again = 0; again < 2; again++) {
        store_close(store);
        check_database();
        store = open_store(0);
        check_lines(store, agent, n);
        ck_assert_int_eq(store_seal(store), 0);
        check_lines(store, agent, n);
        ck_assert_uint_gt(read_logs(store, agent)->n_blocks, 0);
        ck_assert_uint_eq(stats_now(store).n_log_days, 1);
    }
    store_close(store);
    check_database();
}
END_TEST

START_TEST(a_run_of_logs_is_another_one_than_that_of_metrics)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    struct log_put put = { agent, 1, 1, 0, 0, 10, NOON_US, 1 };
    uint64_t last;

    ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
    ck_assert_int_eq(put_logs(store, put, &last), STORE_DUPLICATE);
    ck_assert_uint_eq(last, 1);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 2, NOON_US, 2, 1 }, NULL),
                     STORE_GAP);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, NOON_US, 2, 1 }, NULL),
                     STORE_OK);
    put.sequence = 3;
    ck_assert_int_eq(put_logs(store, put, &last), STORE_GAP);
    ck_assert_int_eq(put_logs_skip(store, put, 17), STORE_OK);
    put.sequence = 4;
    put.first = 10;
    ck_assert_int_eq(put_logs(store, put, &last), STORE_OK);
    ck_assert_uint_eq(last, 4);
    for (int again = 0; again < 2; again++) {
        struct store_agent facts = facts_of(store, agent);
        struct store_logs_of of = logs_of(store, agent);

        check_lines(store, agent, 20);
        ck_assert_uint_eq(facts.n_samples, 2);
        ck_assert_uint_eq(facts.n_skipped, 0);
        ck_assert_uint_eq(of.n_records, 20);
        ck_assert_uint_eq(of.n_skipped, 17);
        ck_assert_int_eq(of.last_us, NOON_US + 9);
        store_close(store);
        check_database();
        store = open_store(0);
    }
    ck_assert_int_eq(put_logs(store, put, &last), STORE_DUPLICATE);
    store_close(store);
}
END_TEST

START_TEST(a_batch_of_a_restored_agent_may_begin_above_what_is_there)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    uint8_t spool[STORE_SPOOL_BYTES] = { 1 };
    struct log_put put = { agent, 1, 9, 0, 0, 5, NOON_US, 1 };

    ck_assert_int_eq(store_run_begin(store, agent, STORE_LOGS, spool, 9, 77), 0);
    ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
    ck_assert_uint_eq(facts_of(store, agent).n_lost, 8);
    check_lines(store, agent, 5);
    store_close(store);
    check_database();
}
END_TEST

START_TEST(counters_of_bytes_and_records_are_exact_after_the_journal_went)
{
    struct store *store = open_store(256 << 10);
    uint32_t agent = agent_of(store, "web-1"), n = 0;
    struct store_logs_of before = { 0 };
    uint64_t sequence = 0;

    while (stats_now(store).n_segments < 6) {
        struct log_put put = { agent, 1, ++sequence, 0, n, 300, NOON_US + (int64_t) n * 1000, 10 };

        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
        n += 300;
    }
    before = logs_of(store, agent);
    ck_assert_uint_eq(before.n_records, n);
    ck_assert_uint_gt(before.n_bytes, (uint64_t) n * 5);
    ck_assert_uint_eq(stats_now(store).n_log_bytes, before.n_bytes);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_le(stats_now(store).n_segments, 2);
    ck_assert_uint_eq(stats_now(store).n_sealed_log_raw_bytes, before.n_bytes);
    for (int again = 0; again < 2; again++) {
        struct store_logs_of after = logs_of(store, agent);

        ck_assert_uint_eq(after.n_records, before.n_records);
        ck_assert_uint_eq(after.n_bytes, before.n_bytes);
        ck_assert_int_eq(after.last_us, before.last_us);
        check_lines(store, agent, n);
        store_close(store);
        store = open_store(256 << 10);
    }
    store_close(store);
    check_database();
}
END_TEST

START_TEST(a_record_longer_than_a_chunk_makes_one_of_its_own)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    size_t bytes[] = { 10, 64000, 64912, 65000, 65001, 1 << 20, 30 };
    uint32_t n = 0;

    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        struct log_put put = { agent, 1, i + 1, 0, n, 3, NOON_US + n, 1, bytes[i] };

        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
        n += 3;
    }
    check_lines(store, agent, n);
    store_close(store);
    check_database();
    store = open_store(0);
    check_lines(store, agent, n);
    ck_assert_int_eq(store_compact(store), 0);
    check_lines(store, agent, n);
    store_close(store);
    check_database();
}
END_TEST

START_TEST(a_batch_of_short_records_is_split_into_packs_that_fit_a_chunk)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct log_put put = { agent, 1, 1, 0, 0, 1500, NOON_US, 1, 1 };
    struct packs packs;

    ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
    packs = count_packs(store, agent);
    ck_assert_uint_ge(packs.n, 2);
    ck_assert_uint_eq(packs.n_blocks, 0);
    ck_assert_uint_lt(packs.max_bytes, FORMAT_CHUNK_BYTES);
    check_lines(store, agent, 1500);
    store_close(store);
    check_database();
}
END_TEST

/* ---- packs that are blocks ---- */

static wall_us at_noon(void)
{
    return (wall_us){ NOON_US };
}

/* Nothing is over yet, so that nothing is compacted unasked. */
static struct store *open_at_noon(void)
{
    clock_set_source(at_noon, NULL);
    return open_store(0);
}

START_TEST(a_batch_of_many_records_is_compressed_when_it_comes)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), n = 0;
    struct log_put put = { agent, 1, 1, 0, 0, 500, NOON_US, 1, 200 };
    struct packs packs;

    /* One of 110 KB, one of 1.1 MB. */
    ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
    packs = count_packs(store, agent);
    ck_assert_uint_eq(packs.n, 1);
    ck_assert_uint_eq(packs.n_blocks, 1);
    ck_assert_uint_lt(packs.n_bytes * 5, packs.max_raw_bytes);
    put = (struct log_put){ agent, 1, 2, 0, 500, 5000, NOON_US + 500, 1, 200 };
    ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
    packs = count_packs(store, agent);
    ck_assert_uint_ge(packs.n, 1 + 4);
    ck_assert_uint_eq(packs.n_blocks, packs.n);
    ck_assert_uint_le(packs.max_raw_bytes, 260 << 10);
    n = 5500;
    check_lines(store, agent, n);
    for (int again = 0; again < 3; again++) {
        store_close(store);
        check_database();
        store = open_store(0);
        check_lines(store, agent, n);
        ck_assert_int_eq(again < 2 ? store_seal(store) : store_compact(store), 0);
        check_lines(store, agent, n);
    }
    store_close(store);
    check_database();
}
END_TEST

START_TEST(what_came_compressed_is_sealed_as_it_came_one_behind_the_other)
{
    struct store *store = open_at_noon();
    uint32_t agent = agent_of(store, "web-1"), n = 0;
    const struct lines *lines;
    static struct lines before;

    for (uint64_t i = 1; i <= 4; i++, n += 300)
        ck_assert_int_eq(
            put_logs(store, (struct log_put){ agent, 1, i, 0, n, 300, NOON_US + n, 1, 200 }, NULL),
            STORE_OK);
    memcpy(&before, read_logs(store, agent), sizeof(before));
    ck_assert_int_eq(store_seal(store), 0);
    lines = read_logs(store, agent);
    ck_assert_uint_eq(lines->n_blocks, 1);
    ck_assert_uint_eq(lines->n_parts, 4);
    ck_assert_mem_eq(lines->lines, before.lines, n * sizeof(before.lines[0]));
    ck_assert_int_eq(store_compact(store), 0);
    lines = read_logs(store, agent);
    ck_assert_uint_eq(lines->n_blocks, 1);
    ck_assert_uint_eq(lines->n_parts, 1);
    ck_assert_mem_eq(lines->lines, before.lines, n * sizeof(before.lines[0]));
    store_close(store);
    check_database();
}
END_TEST

START_TEST(few_and_many_records_in_turns_keep_their_order_in_one_block)
{
    struct store *store = open_at_noon();
    uint32_t agent = agent_of(store, "web-1"), n = 0;
    const struct lines *lines;
    static struct lines before;

    for (uint64_t i = 1; i <= 9; i++) {
        uint32_t more = i % 3 == 0 ? 200 : 7;

        ck_assert_int_eq(put_logs(store,
                                  (struct log_put){ agent, 1, i, 0, n, more, NOON_US - n, -1, 250 },
                                  NULL),
                         STORE_OK);
        n += more;
    }
    memcpy(&before, read_logs(store, agent), sizeof(before));
    ck_assert_int_eq(store_seal(store), 0);
    for (int again = 0; again < 2; again++) {
        lines = read_logs(store, agent);
        ck_assert_uint_eq(lines->n_blocks, 1);
        ck_assert_uint_eq(lines->n_parts, 6); /* two small ones go together */
        check_lines(store, agent, n);
        ck_assert_mem_eq(lines->lines, before.lines, n * sizeof(before.lines[0]));
        store_close(store);
        check_database();
        store = open_at_noon();
    }
    store_close(store);
}
END_TEST

START_TEST(few_records_each_second_are_compressed_together_when_they_are_sealed)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), n = 0;
    struct store_stats stats;

    for (uint64_t i = 1; i <= 300; i++, n += 5)
        ck_assert_int_eq(put_logs(store,
                                  (struct log_put){ agent, 1, i, 0, n, 5,
                                                    NOON_US + (int64_t) i * SECOND_US, 1, 200 },
                                  NULL),
                         STORE_OK);
    ck_assert_uint_eq(count_packs(store, agent).n_blocks, 0);
    ck_assert_int_eq(store_seal(store), 0);
    stats = stats_now(store);
    ck_assert_uint_eq(stats.n_sealed_log_blocks, 1);
    ck_assert_uint_gt(stats.n_sealed_log_raw_bytes, stats.n_sealed_log_bytes * 8);
    check_lines(store, agent, n);
    store_close(store);
    check_database();
}
END_TEST

/* ---- metrics beside ---- */

START_TEST(both_signals_of_an_agent_go_their_ways_in_one_journal)
{
    struct store *store = open_store(128 << 10);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 20);

    for (uint64_t i = 1; i <= 60; i++) {
        int64_t time_us = NOON_US + (int64_t) i * 30 * SECOND_US;

        ck_assert_int_eq(
            put_rows(store, (struct put){ agent, layout, 1, i, time_us, 20, 30 }, NULL), STORE_OK);
        ck_assert_int_eq(put_logs(store,
                                  (struct log_put){ agent, 1, i, (unsigned) i % 5,
                                                    (uint32_t) (i - 1) * 40, 40, time_us, 100 },
                                  NULL),
                         STORE_OK);
        if (i % 20 == 0)
            ck_assert_int_eq(store_seal(store), 0);
        if (i % 30 == 0)
            ck_assert_int_eq(store_compact(store), 0);
    }
    for (int again = 0; again < 2; again++) {
        ck_assert_uint_eq(scan_column(store, agent, layout, 3)->n, 1800);
        check_lines(store, agent, 2400);
        ck_assert_uint_eq(facts_of(store, agent).n_samples, UINT64_C(60) * 30 * 20);
        ck_assert_uint_eq(logs_of(store, agent).n_records, 2400);
        store_close(store);
        check_database();
        store = open_store(128 << 10);
    }
    store_close(store);
}
END_TEST

static bool never(void *ctx, const struct store_followed *row)
{
    uint64_t *n = ctx;

    ck_assert_uint_eq(row->n_values, 2);
    ++*n;
    return true;
}

START_TEST(who_follows_metrics_passes_over_packs)
{
    struct store *store = open_store(64 << 10);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    struct store_follower *follower = NULL;
    struct store_follow_lag lag;
    uint64_t n_rows = 0;
    struct store_follow_read read = { .on_row = never, .ctx = &n_rows };

    ck_assert_int_eq(store_follow(store, "test", &follower), 0);
    for (uint64_t i = 1; i <= 30; i++) {
        ck_assert_int_eq(
            put_logs(store, (struct log_put){ agent, 1, i, 0, 0, 200, NOON_US, 1 }, NULL), 0);
        ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, i, NOON_US, 2, 2 }, NULL),
                         0);
    }
    ck_assert_int_eq(store_follow_read(follower, &read), 0);
    while (n_rows < 60) /* what came to another segment meanwhile is for the next time */
        ck_assert_int_eq(store_follow_read(follower, &read), 0);
    store_follow_done(follower);
    store_follow_lag(follower, &lag);
    ck_assert_uint_eq(lag.n_lost_chunks, 0);
    store_unfollow(follower);
    store_close(store);
}
END_TEST

/* ---- damage ---- */

/* Writes over each place of a file where `text` stands, in old pages too. */
static void turn_bytes(const char *path, const char *text)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    size_t len = strlen(text);
    const uint8_t *at;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(file_read(path, 64u << 20, &bytes), 0);
    at = bytes.data;
    while ((at = memmem(at, bytes.len - (size_t) (at - bytes.data), text, len))) {
        ck_assert_int_eq(pwrite(fd, "X", 1, at - bytes.data + 2), 1);
        at++;
    }
    close(fd);
}

static struct store_found survey(void)
{
    struct store_survey survey = { .directory = store_path, .is_deep = true };
    struct store_why why;

    ck_assert_int_eq(store_survey(&survey, &why), 0);
    return survey.found;
}

START_TEST(a_damaged_pack_is_passed_over_and_named)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    char path[400];

    for (uint64_t i = 1; i <= 3; i++)
        ck_assert_int_eq(
            put_logs(store, (struct log_put){ agent, 1, i, 1, (uint32_t) i * 1000, 10, NOON_US, 1 },
                     NULL),
            STORE_OK);
    /* While it runs: the chunk's checksum is for the start, the pack's own for readers. */
    snprintf(path, sizeof(path), "%s/default/journal/00000001/data.mdb", store_path);
    turn_bytes(path, "2004 GET");
    ck_assert_uint_eq(read_logs(store, agent)->n_damaged, 1);
    ck_assert_uint_eq(read_logs(store, agent)->n, 20);
    ck_assert_uint_eq(survey().n_damaged, 1);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(stats_now(store).n_seal_damaged, 1);
    ck_assert_uint_eq(read_logs(store, agent)->n_damaged, 0);
    ck_assert_uint_eq(read_logs(store, agent)->n, 20);
    store_close(store);
    store = open_store(0);
    ck_assert_uint_eq(stats_now(store).n_damaged, 1);
    ck_assert_uint_eq(read_logs(store, agent)->n, 20);
    store_close(store);
}
END_TEST

START_TEST(a_day_of_logs_that_is_no_database_is_set_aside_and_the_rest_serves)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    char path[400];

    for (int day = 0; day < 2; day++)
        ck_assert_int_eq(
            put_logs(store,
                     (struct log_put){ agent, 1, (uint64_t) day + 1, 0, (uint32_t) day * 10, 10,
                                       NOON_US - day * DAY_US, 1 },
                     NULL),
            STORE_OK);
    ck_assert_int_eq(store_seal(store), 0);
    store_close(store);
    snprintf(path, sizeof(path), "%s/default/logs/20260920/data.mdb", store_path);
    ck_assert_int_eq(file_replace(path, span_of_text("no database"), 0600), 0);
    ck_assert_uint_gt(survey().n_damaged, 0);
    store = open_store(0);
    /* Its records were in the journal still: they are served from there. */
    ck_assert_uint_ge(read_logs(store, agent)->n, 10);
    ck_assert_uint_eq(stats_now(store).n_log_days, 1);
    store_close(store);
}
END_TEST

TCase *case_logs(void)
{
    TCase *tcase = tcase_create("logs");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, records_come_back_as_they_were_from_the_journal_and_from_blocks);
    tcase_add_test(tcase, a_run_of_logs_is_another_one_than_that_of_metrics);
    tcase_add_test(tcase, a_batch_of_a_restored_agent_may_begin_above_what_is_there);
    tcase_add_test(tcase, counters_of_bytes_and_records_are_exact_after_the_journal_went);
    tcase_add_test(tcase, a_record_longer_than_a_chunk_makes_one_of_its_own);
    tcase_add_test(tcase, a_batch_of_short_records_is_split_into_packs_that_fit_a_chunk);
    tcase_add_test(tcase, a_batch_of_many_records_is_compressed_when_it_comes);
    tcase_add_test(tcase, what_came_compressed_is_sealed_as_it_came_one_behind_the_other);
    tcase_add_test(tcase, few_and_many_records_in_turns_keep_their_order_in_one_block);
    tcase_add_test(tcase, few_records_each_second_are_compressed_together_when_they_are_sealed);
    tcase_add_test(tcase, both_signals_of_an_agent_go_their_ways_in_one_journal);
    tcase_add_test(tcase, who_follows_metrics_passes_over_packs);
    tcase_add_test(tcase, a_damaged_pack_is_passed_over_and_named);
    tcase_add_test(tcase, a_day_of_logs_that_is_no_database_is_set_aside_and_the_rest_serves);
    return tcase;
}
