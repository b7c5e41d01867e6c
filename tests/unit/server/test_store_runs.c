/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store.h"

#include <string.h>

static struct store_run run_of(struct store *store, uint32_t agent, uint8_t spool)
{
    uint8_t id[STORE_SPOOL_BYTES] = { spool };
    struct store_run run = { 0 };
    int r = store_run_get(store, agent, STORE_METRICS, id, &run);

    if (r == STORE_NOT_FOUND)
        run.last_sequence = UINT64_MAX;
    else
        ck_assert_int_eq(r, 0);
    return run;
}

START_TEST(a_duplicate_is_said_and_not_stored_again)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    uint64_t last = 0;

    ck_assert_uint_eq(run_of(store, agent, 1).last_sequence, UINT64_MAX);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 2, 1 }, &last),
                     STORE_OK);
    ck_assert_uint_eq(last, 1);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 2, 1, 2, 1 }, &last),
                     STORE_OK);
    for (int again = 0; again < 2; again++) {
        for (uint64_t sequence = 1; sequence <= 2; sequence++) {
            struct put put = { agent, layout, 1, sequence, 0, 2, 1 };

            ck_assert_int_eq(put_rows(store, put, &last), STORE_DUPLICATE);
            ck_assert_uint_eq(last, 2);
        }
        ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, 2);
        ck_assert_uint_eq(facts_of(store, agent).n_samples, 4);
        store_close(store);
        store = open_store(0);
    }
    ck_assert_uint_eq(run_of(store, agent, 1).last_crc32c, 14);
    store_close(store);
}
END_TEST

START_TEST(a_gap_is_refused_and_nothing_is_written)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    uint64_t last = 99;

    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 2, 0, 2, 1 }, &last),
                     STORE_GAP);
    ck_assert_uint_eq(last, 0);
    ck_assert_uint_eq(run_of(store, agent, 1).last_sequence, UINT64_MAX);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 2, 1 }, NULL), STORE_OK);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 3, 0, 2, 1 }, &last),
                     STORE_GAP);
    ck_assert_uint_eq(last, 1);
    ck_assert_uint_eq(scan_column(store, agent, layout, 0)->n, 1);
    store_close(store);
}
END_TEST

START_TEST(a_skip_passes_over_what_the_agent_dropped_and_is_counted)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    uint64_t last = 0;

    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 2, 1 }, NULL), STORE_OK);
    ck_assert_int_eq(put_skip(store, (struct put){ agent, layout, 1, 9, 0, 0, 0 }, 40), STORE_OK);
    ck_assert_int_eq(put_skip(store, (struct put){ agent, layout, 1, 9, 0, 0, 0 }, 40),
                     STORE_DUPLICATE);
    store_close(store);
    store = open_store(0);
    ck_assert_uint_eq(facts_of(store, agent).n_skipped, 40);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 11, 0, 2, 1 }, &last),
                     STORE_GAP);
    ck_assert_uint_eq(last, 9);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 10, 0, 2, 1 }, NULL),
                     STORE_OK);
    store_close(store);
}
END_TEST

START_TEST(a_run_that_begins_above_is_put_on_record_and_counted_lost)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    uint8_t spool[STORE_SPOOL_BYTES] = { 1 };

    ck_assert_int_eq(store_run_begin(store, agent, STORE_METRICS, spool, 101, 77), 0);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 101, 0, 2, 1 }, NULL),
                     STORE_OK);
    ck_assert_uint_eq(facts_of(store, agent).n_lost, 100);
    /* Without a gap it does nothing. */
    ck_assert_int_eq(store_run_begin(store, agent, STORE_METRICS, spool, 102, 77), 0);
    ck_assert_int_eq(store_run_begin(store, agent, STORE_METRICS, spool, 50, 77), 0);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 102, 0, 2, 1 }, NULL),
                     STORE_OK);
    ck_assert_int_eq(store_run_begin(store, agent, STORE_METRICS, spool, 113, 78), 0);
    store_close(store);
    store = open_store(0);
    ck_assert_uint_eq(facts_of(store, agent).n_lost, 110);
    ck_assert_uint_eq(run_of(store, agent, 1).last_sequence, 112);
    ck_assert_uint_eq(run_of(store, agent, 1).last_crc32c, 78);
    store_close(store);
}
END_TEST

START_TEST(runs_survive_rotation_and_reopen)
{
    const uint64_t segment = 256 << 10;
    struct store *store = open_store(segment);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 100);
    struct store_stats stats = { 0 };
    uint64_t sequence = 0;

    /* A run that is only in the first segment. */
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 9, 1, 0, 100, 1 }, NULL),
                     STORE_OK);
    while (stats.n_segments < 4) {
        int64_t time_us = (int64_t) ++sequence;
        struct put put = { agent, layout, 1, sequence, time_us, 100, 20 };

        ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
        store_get_stats(store, &stats);
    }
    for (int again = 0; again < 3; again++) {
        store_close(store);
        store = open_store(segment);
        ck_assert_uint_eq(run_of(store, agent, 9).last_sequence, 1);
        ck_assert_uint_eq(run_of(store, agent, 1).last_sequence, sequence);
        ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 9, 1, 0, 100, 1 }, NULL),
                         STORE_DUPLICATE);
    }
    store_close(store);
}
END_TEST

START_TEST(runs_of_an_agent_are_listed_newest_first_and_signals_are_apart)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), other = agent_of(store, "web-2");
    struct store_run *runs;
    struct arena arena;
    size_t n;

    arena_init(&arena, 1 << 16);
    for (uint8_t i = 0; i < 6; i++) {
        struct store_batch *batch = NULL;

        ck_assert_int_eq(store_batch_new(&batch, 0), 0);
        batch->agent = i == 5 ? other : agent;
        batch->signal = i % 2 ? STORE_LOGS : STORE_METRICS;
        batch->spool[0] = i / 2;
        batch->sequence = 1;
        batch->received.us = 1000 + i * 17 % 5;
        ck_assert_int_eq(put_batch(store, batch, NULL), STORE_OK);
    }
    ck_assert_int_eq(store_run_list(store, agent, &arena, &runs, &n), 0);
    ck_assert_uint_eq(n, 5);
    for (size_t i = 1; i < n; i++)
        ck_assert_int_ge(runs[i - 1].last_use.us, runs[i].last_use.us);
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

TCase *case_runs(void)
{
    TCase *tcase = tcase_create("runs");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, a_duplicate_is_said_and_not_stored_again);
    tcase_add_test(tcase, a_gap_is_refused_and_nothing_is_written);
    tcase_add_test(tcase, a_skip_passes_over_what_the_agent_dropped_and_is_counted);
    tcase_add_test(tcase, a_run_that_begins_above_is_put_on_record_and_counted_lost);
    tcase_add_test(tcase, runs_survive_rotation_and_reopen);
    tcase_add_test(tcase, runs_of_an_agent_are_listed_newest_first_and_signals_are_apart);
    return tcase;
}
