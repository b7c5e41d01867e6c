/* SPDX-License-Identifier: Apache-2.0 */

/* Logs under everything at once: readers beside, kills at every point, random histories. */

#include "test_store_logs.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/rand.h"
#include "server/store/whole.h"

/* ---- readers beside ---- */

struct beside {
    struct store *store;
    uint32_t agent;
    _Atomic uint32_t n_committed;
    atomic_bool is_over;
    _Atomic uint64_t n_reads;
};

static void *read_beside(void *arg)
{
    struct beside *beside = arg;

    while (!atomic_load(&beside->is_over)) {
        uint32_t n_before = atomic_load(&beside->n_committed);
        const struct lines *lines = read_logs(beside->store, beside->agent);

        ck_assert_uint_ge(lines->n, n_before);
        ck_assert_uint_eq(lines->n_damaged, 0);
        for (size_t i = 0; i < lines->n; i++)
            ck_assert_uint_eq(lines->lines[i].n, i);
        atomic_fetch_add(&beside->n_reads, 1);
    }
    return NULL;
}

START_TEST(readers_beside_seals_and_compactions_see_each_record_once)
{
    struct store *store = open_store(64 << 10);
    struct beside beside = { .store = store, .agent = agent_of(store, "web-1") };
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, read_beside, &beside), 0);
    for (uint32_t i = 0; i < 200 || (atomic_load(&beside.n_reads) < 50 && i < 3000); i++) {
        struct log_put put = {
            beside.agent, 1, i + 1, i % 3, i * 20, 20, NOON_US + (int64_t) i * SECOND_US, 1
        };

        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
        atomic_store(&beside.n_committed, (i + 1) * 20);
        if (i % 3 == 0)
            ck_assert_int_eq(store_seal(store), 0);
        if (i % 20 == 10)
            ck_assert_int_eq(store_compact(store), 0);
    }
    atomic_store(&beside.is_over, true);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    store_close(store);
    check_database();
}
END_TEST

/* ---- random histories ---- */

#define AGENTS 3

struct history {
    struct store *store;
    struct rand rand;
    uint32_t agents[AGENTS], layout;
    uint64_t sequences[AGENTS], row_sequences[AGENTS];
    uint32_t n[AGENTS];
    uint64_t n_rows[AGENTS];
};

static void put_some(struct history *history, size_t a)
{
    struct rand *rand = &history->rand;
    struct log_put put = {
        .agent = history->agents[a],
        .spool = 1,
        .sequence = ++history->sequences[a],
        .source = (unsigned) rand_below(rand, 6),
        .first = history->n[a],
        .n = (uint32_t) rand_below(rand, 60) + 1,
        .time_us = NOON_US + (int64_t) rand_below(rand, 2 * (uint64_t) DAY_US) - DAY_US,
        .step_us = (int64_t) rand_below(rand, 2000000000) - 1000000000,
        .body_bytes = rand_below(rand, 40) == 0 ? 70000 : 0,
    };

    /* So much that it is compressed when it comes, where it is of one day. */
    if (!put.body_bytes && rand_below(rand, 3) == 0) {
        put.body_bytes = 900;
        put.n = 40 + (uint32_t) rand_below(rand, 20);
        put.step_us /= 100;
    }

    if (put.body_bytes == 70000)
        put.n = 2;
    ck_assert_int_eq(put_logs(history->store, put, NULL), STORE_OK);
    history->n[a] += put.n;
}

static void put_some_rows(struct history *history, size_t a)
{
    uint64_t sequence = ++history->row_sequences[a];
    struct put put = { history->agents[a],
                       history->layout,
                       1,
                       sequence,
                       NOON_US + (int64_t) sequence * 10 * SECOND_US,
                       6,
                       3 };

    ck_assert_int_eq(put_rows(history->store, put, NULL), STORE_OK);
    history->n_rows[a] += 3;
}

static void check_history(struct history *history)
{
    for (size_t a = 0; a < AGENTS; a++) {
        check_lines(history->store, history->agents[a], history->n[a]);
        ck_assert_uint_eq(logs_of(history->store, history->agents[a]).n_records, history->n[a]);
        ck_assert_uint_eq(scan_column(history->store, history->agents[a], history->layout, 1)->n,
                          history->n_rows[a]);
        ck_assert_uint_eq(facts_of(history->store, history->agents[a]).n_samples,
                          history->n_rows[a] * 6);
    }
}

static void do_something(struct history *history)
{
    size_t a = (size_t) rand_below(&history->rand, AGENTS);

    switch (rand_below(&history->rand, 24)) {
    case 0:
        ck_assert_int_eq(store_seal(history->store), 0);
        break;
    case 1:
        ck_assert_int_eq(store_compact(history->store), 0);
        break;
    case 2:
        store_close(history->store);
        history->store = open_store(96 << 10);
        break;
    case 3:
        check_history(history);
        break;
    case 4:
        ck_assert_int_eq(
            put_logs(history->store,
                     (struct log_put){ history->agents[a], 1, history->sequences[a] + 2, 0, 0, 1,
                                       NOON_US, 1 },
                     NULL),
            STORE_GAP);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        put_some_rows(history, a);
        break;
    default:
        put_some(history, a);
    }
}

START_TEST(any_history_of_batches_seals_compactions_and_reopens_keeps_every_record_once)
{
    struct history history = { .store = open_store(96 << 10) };

    rand_init(&history.rand, 1000 + (uint64_t) _i);
    for (size_t a = 0; a < AGENTS; a++) {
        char id[16];

        snprintf(id, sizeof(id), "web-%zu", a);
        history.agents[a] = agent_of(history.store, id);
    }
    history.layout = layout_of(history.store, 6);
    for (int i = 0; i < 300; i++)
        do_something(&history);
    check_history(&history);
    store_close(history.store);
    check_database();
}
END_TEST

/* ---- retention while it is written ---- */

static _Atomic int64_t now_us;

static wall_us now(void)
{
    return (wall_us){ atomic_load(&now_us) };
}

START_TEST(retention_while_logs_are_written_takes_whole_days_and_nothing_else)
{
    struct store *store;
    uint32_t agent, n = 0;

    atomic_store(&now_us, NOON_US);
    clock_set_source(now, NULL);
    store = open_store(64 << 10);
    store_set_logs_retention(store, 3 * DAY_US, 0);
    agent = agent_of(store, "web-1");
    for (uint64_t i = 1; i <= 200; i++, n += 20) {
        ck_assert_int_eq(put_logs(store,
                                  (struct log_put){ agent, 1, i, (unsigned) i % 2, n, 20,
                                                    atomic_load(&now_us), 1 },
                                  NULL),
                         STORE_OK);
        atomic_fetch_add(&now_us, DAY_US / 20);
        if (i % 4 == 0)
            store_retain_now(store);
        if (i % 9 == 0)
            ck_assert_int_eq(store_seal(store), 0);
        if (i % 25 == 0)
            ck_assert_int_eq(store_compact(store), 0);
        if (i % 60 == 0) {
            store_close(store);
            check_database();
            store = open_store(64 << 10);
            store_set_logs_retention(store, 3 * DAY_US, 0);
        }
    }
    ck_assert_int_eq(store_seal(store), 0);
    while (stats_now(store).n_log_days > 4) {
        store_retain_now(store);
        usleep(1000);
    }
    for (int again = 0; again < 2; again++) {
        const struct lines *lines = read_logs(store, agent);
        int32_t first = day_of(atomic_load(&now_us) - 3 * DAY_US);

        /* All of the days that are kept, to the newest record, without a hole. */
        ck_assert_uint_gt(lines->n, UINT64_C(20) * 20 * 2);
        ck_assert_int_eq(day_of(lines->lines[0].time_us), first);
        for (size_t i = 0; i < lines->n; i++)
            ck_assert_uint_eq(lines->lines[i].n, n - lines->n + i);
        ck_assert_uint_eq(logs_of(store, agent).n_records, n);
        store_close(store);
        check_database();
        store = open_store(64 << 10);
    }
    store_close(store);
}
END_TEST

/* ---- kills ---- */

#ifdef SENTINEL_FAULT_POINTS
static const char *const points[] = {
    "day_before_beginning",     "logs_seal_before_commit",    "logs_seal_after_commit",
    "logs_seal_after_show",     "logs_compact_before_commit", "logs_compact_after_commit",
    "checkpoint_before_unlink", "checkpoint_after_unlink",    "rewrite_before_exchange",
    "rewrite_after_exchange",   "retention_before_unlink",    "retention_after_unlink",
    "journal_rotate_before",    "journal_rotate_after",       "journal_before_commit",
    "journal_after_commit",     "journal_before_done",
};

struct shared {
    _Atomic uint64_t n_acked;
};

#define KILL_LINES 25

/* Goes on from what the store has; two days, and one that the retention takes. */
static void put_seal_compact(void *ctx)
{
    struct shared *shared = ctx;
    uint8_t spool[STORE_SPOOL_BYTES] = { 1 };
    struct store_run run = { 0 };
    struct store *store;
    uint32_t agent, old;
    uint64_t next;

    atomic_store(&now_us, NOON_US + DAY_US);
    clock_set_source(now, NULL);
    store = open_store(64 << 10);
    store_set_logs_retention(store, 10 * DAY_US, 0);
    agent = agent_of(store, "web-1");
    old = agent_of(store, "old");
    (void) !store_run_get(store, agent, STORE_LOGS, spool, &run);
    next = run.last_sequence + 1;
    for (uint64_t i = next; i < next + 40; i++) {
        struct log_put put = { agent,
                               1,
                               i,
                               (unsigned) i % 3,
                               (uint32_t) (i - 1) * KILL_LINES,
                               KILL_LINES,
                               NOON_US + (int64_t) (i % 2) * DAY_US,
                               1,
                               100 };
        struct log_put put_old = put;

        put_old.agent = old;
        put_old.time_us = NOON_US - 30 * DAY_US;
        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
        atomic_store(&shared->n_acked, i);
        (void) !put_logs(store, put_old, NULL);
        if (i % 7 == 0)
            ck_assert_int_eq(store_seal(store), 0);
        if (i % 19 == 0)
            ck_assert_int_eq(store_compact(store), 0);
        if (i % 25 == 0)
            store_retain_now(store);
    }
    ck_assert_int_eq(store_compact(store), 0);
    store_close(store);
}

static void check_all(const struct shared *shared)
{
    struct store *store = open_store(64 << 10);
    uint32_t agent = agent_of(store, "web-1");
    uint8_t spool[STORE_SPOOL_BYTES] = { 1 };
    struct store_run run = { 0 };

    (void) !store_run_get(store, agent, STORE_LOGS, spool, &run);
    ck_assert_uint_ge(run.last_sequence, atomic_load(&shared->n_acked));
    check_lines(store, agent, (uint32_t) run.last_sequence * KILL_LINES);
    ck_assert_uint_eq(logs_of(store, agent).n_records, run.last_sequence * KILL_LINES);
    store_close(store);
    check_database();
}

START_TEST(a_kill_at_any_point_of_the_way_of_logs_loses_nothing)
{
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int n_killed = 0;

    ck_assert_ptr_ne(shared, MAP_FAILED);
    for (int n = 1; n <= 4; n++) {
        char fault[64];
        int status;

        snprintf(fault, sizeof(fault), "%s:%d", points[_i], n);
        setenv("SENTINEL_FAULT", fault, 1);
        status = in_child(put_seal_compact, shared);
        unsetenv("SENTINEL_FAULT");
        ck_assert((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || WEXITSTATUS(status) == 0);
        n_killed += WIFSIGNALED(status);
        check_all(shared);
    }
    ck_assert_int_gt(n_killed, 0);
    munmap(shared, sizeof(*shared));
}
END_TEST
#endif

TCase *case_logs_hard(void)
{
    TCase *tcase = tcase_create("logs_hard");

    tcase_set_timeout(tcase, 180);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, readers_beside_seals_and_compactions_see_each_record_once);
    tcase_add_loop_test(
        tcase, any_history_of_batches_seals_compactions_and_reopens_keeps_every_record_once, 0, 6);
    tcase_add_test(tcase, retention_while_logs_are_written_takes_whole_days_and_nothing_else);
#ifdef SENTINEL_FAULT_POINTS
    tcase_add_loop_test(tcase, a_kill_at_any_point_of_the_way_of_logs_loses_nothing, 0,
                        sizeof(points) / sizeof(points[0]));
#endif
    return tcase;
}
