/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "server/store/whole.h"

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

/* ---- how many runs ---- */

#define HOUR_US (INT64_C(3600) * 1000000)

static _Atomic int n_answers;

static void count_answer(struct store_batch *batch, int r, uint64_t run_last)
{
    (void) run_last;
    ck_assert_int_eq(r, STORE_OK);
    store_batch_free(batch);
    atomic_fetch_add(&n_answers, 1);
}

static struct store_batch *batch_of_run(uint32_t agent, unsigned n, wall_us received)
{
    struct store_batch *batch = NULL;

    ck_assert_int_eq(store_batch_new(&batch, 0), 0);
    batch->agent = agent;
    batch->signal = STORE_METRICS;
    memcpy(batch->spool, &n, sizeof(n));
    batch->sequence = 1;
    batch->received = received;
    return batch;
}

/* Runs 1 .. n, each used a second after the one before it. */
static void open_runs(struct store *store, uint32_t agent, unsigned n, wall_us first)
{
    atomic_store(&n_answers, 0);
    for (unsigned i = 0; i < n; i++) {
        struct store_batch *batch =
            batch_of_run(agent, i, (wall_us){ first.us + (int64_t) i * 1000000 });

        batch->done = count_answer;
        ck_assert_int_eq(store_submit(store, batch), 0);
    }
    while (atomic_load(&n_answers) < (int) n)
        usleep(1000);
}

START_TEST(an_agent_that_has_all_its_runs_is_refused_another)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), other = agent_of(store, "web-2");
    const wall_us now = clock_wall();

    open_runs(store, agent, STORE_RUNS_PER_AGENT, (wall_us){ now.us - HOUR_US });
    ck_assert_int_eq(store_run_may_begin(store, agent, now), STORE_TOO_MUCH);
    ck_assert_int_eq(store_run_may_begin(store, other, now), 0);
    ck_assert_int_eq(put_batch(store, batch_of_run(agent, 5000, now), NULL), STORE_TOO_MUCH);
    ck_assert_int_eq(put_batch(store, batch_of_run(agent, 7, now), NULL), STORE_DUPLICATE);
    ck_assert_int_eq(put_batch(store, batch_of_run(other, 5000, now), NULL), STORE_OK);
    store_close(store);
    /* And the start knows them all. */
    store = open_store(0);
    ck_assert_int_eq(put_batch(store, batch_of_run(agent, 5000, now), NULL), STORE_TOO_MUCH);
    store_close(store);
}
END_TEST

START_TEST(a_new_run_takes_the_place_of_the_one_used_least_lately)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    const wall_us now = clock_wall();
    struct arena arena;
    struct store_run *runs;
    size_t n;
    uint8_t spool[STORE_SPOOL_BYTES] = { 0 };
    struct store_run run;

    open_runs(store, agent, STORE_RUNS_PER_AGENT, (wall_us){ now.us - 48 * HOUR_US });
    ck_assert_int_eq(store_run_may_begin(store, agent, now), 0);
    ck_assert_int_eq(put_batch(store, batch_of_run(agent, 5000, now), NULL), STORE_OK);
    ck_assert_int_eq(store_run_get(store, agent, STORE_METRICS, spool, &run), STORE_NOT_FOUND);
    spool[0] = 1;
    ck_assert_int_eq(store_run_get(store, agent, STORE_METRICS, spool, &run), 0);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_run_list(store, agent, &arena, &runs, &n), 0);
    ck_assert_uint_eq(n, STORE_RUNS_PER_AGENT);
    ck_assert_int_eq(runs[0].last_use.us, now.us);
    arena_deinit(&arena);
    store_close(store);
}
END_TEST

/* ---- counters ---- */

static struct store *the_store;
static uint32_t the_agent;

static struct agent *the_row(void)
{
    struct agent *agent = agents_get(&the_store->agents, the_agent);

    ensure(agent);
    return agent;
}

static void submit_two_more(struct store_batch *batch, int r, uint64_t run_last)
{
    (void) run_last;
    ck_assert_int_eq(r, STORE_OK);
    store_batch_free(batch);
    for (unsigned n = 1; n <= 2; n++) { /* the writer takes both for its next commit */
        struct store_batch *next = batch_of_run(the_agent, n, (wall_us){ 0 });

        next->done = count_answer;
        ck_assert_int_eq(store_submit(the_store, next), 0);
    }
}

START_TEST(a_flush_between_two_batches_of_one_chunk_counts_neither_twice_nor_never)
{
    struct store_batch *first;
    struct agent *agent;

    the_store = open_store(0);
    the_agent = agent_of(the_store, "web-1");
    first = batch_of_run(the_agent, 0, (wall_us){ 0 });
    first->is_skip = true;
    first->skip_records = 7;
    first->done = submit_two_more;
    ck_assert_int_eq(store_submit(the_store, first), 0);
    while (atomic_load(&n_answers) < 2)
        usleep(1000);
    /* As a flush between the last two would have written it. */
    agent = the_row();
    pthread_mutex_lock(&agent->lock);
    ck_assert_uint_eq(agent->counted.chunk, 2);
    ck_assert_uint_eq(agent->counted.offset,
                      sizeof(struct format_chunk) + sizeof(struct format_batch));
    agent->counted.offset = sizeof(struct format_chunk);
    agent->facts.n_samples = 100;
    agent->is_dirty = true;
    pthread_mutex_unlock(&agent->lock);
    store_close(the_store);
    the_store = open_store(0);
    agent = the_row();
    ck_assert_uint_eq(agent->counted.offset,
                      sizeof(struct format_chunk) + sizeof(struct format_batch));
    ck_assert_uint_eq(facts_of(the_store, the_agent).n_samples, 100);
    ck_assert_uint_eq(facts_of(the_store, the_agent).n_skipped, 7);
    store_close(the_store);
}
END_TEST

START_TEST(the_queue_refuses_only_who_will_be_told_of_room)
{
    struct store_options options = store_settings(0);
    struct store *store = NULL;
    struct store_why why;
    uint32_t agent;
    uint8_t spool[STORE_SPOOL_BYTES] = { 9 };

    options.queue_bytes = 1;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    agent = agent_of(store, "web-1");
    /* A BEGIN in the queue is nobody's word of room: what comes behind it is taken. */
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_int_eq(store_run_begin(store, agent, STORE_METRICS, spool, 10 + i * 10, 0), 0);
        ck_assert_int_eq(put_batch(store, batch_of_run(agent, 100 + i, clock_wall()), NULL),
                         STORE_OK);
    }
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
    tcase_add_test(tcase, an_agent_that_has_all_its_runs_is_refused_another);
    tcase_add_test(tcase, a_new_run_takes_the_place_of_the_one_used_least_lately);
    tcase_add_test(tcase, a_flush_between_two_batches_of_one_chunk_counts_neither_twice_nor_never);
    tcase_add_test(tcase, the_queue_refuses_only_who_will_be_told_of_room);
    return tcase;
}
