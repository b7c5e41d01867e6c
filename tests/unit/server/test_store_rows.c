/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rand.h"

static double double_of(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

START_TEST(values_come_back_bit_exact_after_a_reopen)
{
    static const uint64_t odd[] = {
        0x7ff8000000000001, 0xfff0dead0000beef, 0x8000000000000000, 0x7ff0000000000000,
        0xfff0000000000000, 0x0000000000000001, 0x7fefffffffffffff,
    };
    static const uint32_t absent[] = { 1, 6 };
    const uint32_t n = sizeof(odd) / sizeof(odd[0]);
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, n);
    struct store_batch *batch = NULL;
    double values[7];
    struct store_row row = { 1700000000123456, layout, n, values, absent, 2 };

    for (uint32_t i = 0; i < n; i++)
        values[i] = double_of(odd[i]);
    ck_assert_int_eq(store_batch_new(&batch, store_row_bytes(n, 2)), 0);
    batch->agent = agent;
    batch->signal = STORE_METRICS;
    batch->sequence = 1;
    store_batch_add(batch, &row, NULL);
    ck_assert_uint_eq(batch->n_samples, 5);
    ck_assert_int_eq(put_batch(store, batch, NULL), STORE_OK);
    store_close(store);

    store = open_store(0);
    for (uint32_t i = 0; i < n; i++) {
        const struct scanned *got = scan_column(store, agent, layout, i);

        ck_assert_uint_eq(got->n, 1);
        ck_assert_int_eq(got->rows[0].time_us, 1700000000123456);
        ck_assert_int_eq(got->rows[0].is_present, i != 1 && i != 6);
        if (got->rows[0].is_present)
            ck_assert_uint_eq(got->rows[0].bits, odd[i]);
    }
    store_close(store);
}
END_TEST

START_TEST(an_order_puts_values_and_absent_places_into_columns)
{
    static const uint32_t order[] = { 2, 0, 3, 1 }, absent[] = { 0, 3 };
    static const double values[] = { 10, 11, 12, 13 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 4);
    struct store_row row = { 5, layout, 4, values, absent, 2 };
    struct store_batch *batch = NULL;

    ck_assert_int_eq(store_batch_new(&batch, store_row_bytes(4, 2)), 0);
    batch->agent = agent;
    batch->signal = STORE_METRICS;
    batch->sequence = 1;
    store_batch_add(batch, &row, order);
    ck_assert_int_eq(put_batch(store, batch, NULL), STORE_OK);
    for (uint32_t i = 0; i < 4; i++) {
        const struct scanned *got = scan_column(store, agent, layout, i);

        ck_assert_int_eq(got->rows[0].is_present, order[i] != 0 && order[i] != 3);
        if (got->rows[0].is_present)
            ck_assert_uint_eq(got->rows[0].bits, bits_of(values[order[i]]));
    }
    store_close(store);
}
END_TEST

START_TEST(a_row_longer_than_a_chunk_comes_back)
{
    const uint32_t n = 20000; /* 160,000 bytes */
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, n);

    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, n, 3 }, NULL), STORE_OK);
    store_close(store);
    store = open_store(0);
    for (uint32_t i = 0; i < n; i += 4999) {
        const struct scanned *got = scan_column(store, agent, layout, i);

        ck_assert_uint_eq(got->n, 3);
        ck_assert_uint_eq(got->rows[2].bits, bits_of(2000.0 + i));
    }
    store_close(store);
}
END_TEST

START_TEST(a_batch_spreads_over_chunks)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 100);

    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 100, 500 }, NULL),
                     STORE_OK);
    for (int again = 0; again < 2; again++) {
        const struct scanned *got = scan_column(store, agent, layout, 99);

        ck_assert_uint_eq(got->n, 500);
        for (size_t i = 0; i < got->n; i++) {
            ck_assert_int_eq(got->rows[i].time_us, (int64_t) i * 1000000);
            ck_assert_uint_eq(got->rows[i].bits, bits_of((double) i * 1000 + 99));
        }
        store_close(store);
        store = open_store(0);
    }
    ck_assert_uint_eq(facts_of(store, agent).n_samples, 50000);
    store_close(store);
}
END_TEST

START_TEST(late_rows_come_in_order_and_equal_times_as_they_were_committed)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    static const int64_t times[] = { 50, 10, 30, 30, 20, 50, 5 };
    static const int64_t sorted[] = { 5, 10, 20, 30, 30, 50, 50 };

    for (size_t i = 0; i < 7; i++) {
        struct put put = { agent, layout, 1, i + 1, times[i], 2, 1 };

        ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
    }
    for (int again = 0; again < 2; again++) {
        const struct scanned *got = scan_column(store, agent, layout, 0);

        ck_assert_uint_eq(got->n, 7);
        for (size_t i = 0; i < 7; i++)
            ck_assert_int_eq(got->rows[i].time_us, sorted[i]);
        store_close(store);
        store = open_store(0);
    }
    store_close(store);
}
END_TEST

struct told {
    int64_t first_us, last_us;
    bool goes_on;
};

static bool hear(void *ctx, const struct store_piece *piece)
{
    struct told *told = ctx;

    for (size_t row = piece->first; row < piece->end; row++) {
        ck_assert(store_piece_has(piece, 0, row) && store_piece_has(piece, 1, row));
        ck_assert_double_eq(piece->values[1][row], piece->values[0][row] + 2);
        if (!told->first_us)
            told->first_us = piece->times_us[row];
        told->last_us = piece->times_us[row];
    }
    return told->goes_on;
}

START_TEST(a_scan_keeps_to_its_range_and_stops_when_told)
{
    static const uint32_t columns[] = { 1, 3 };
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 4);
    struct told told = { .goes_on = true };
    struct store_scan scan = {
        .agent = agent,
        .layout = layout,
        .from_us = 2000000,
        .to_us = 4000000,
        .columns = columns,
        .n_columns = 2,
        .on_piece = hear,
        .ctx = &told,
    };

    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, 0, 4, 1000 }, NULL),
                     STORE_OK);
    ck_assert_int_eq(store_scan(store, &scan), 0);
    ck_assert_uint_eq(scan.ret_rows, 2);
    ck_assert_int_eq(told.first_us, 2000000);
    ck_assert_int_eq(told.last_us, 3000000);
    told.goes_on = false;
    scan.to_us = INT64_MAX;
    ck_assert_int_eq(store_scan(store, &scan), 0);
    ck_assert_uint_gt(scan.ret_rows, 0);
    ck_assert_uint_lt(scan.ret_rows, 998);
    scan.layout = layout + 100;
    ck_assert_int_eq(store_scan(store, &scan), 0);
    ck_assert_uint_eq(scan.ret_rows, 0);
    store_close(store);
}
END_TEST

/* A sum over all that scans and spans say, to hold one store against another. */
static uint64_t digest(struct store *store, const uint32_t *agents, const uint32_t *layouts)
{
    uint64_t sum = 0;

    for (int a = 0; a < 4; a++) {
        struct store_span *spans;
        struct arena arena;
        size_t n;

        arena_init(&arena, 1 << 16);
        ck_assert_int_eq(store_spans(store, agents[a], &arena, &spans, &n), 0);
        for (size_t i = 0; i < n; i++)
            sum = sum * 31 + spans[i].layout + spans[i].n_rows + (uint64_t) spans[i].last_us;
        arena_deinit(&arena);
        for (int l = 0; l < 2; l++) {
            const struct scanned *got = scan_column(store, agents[a], layouts[l], 7);

            for (size_t i = 0; i < got->n; i++)
                sum = sum * 31 + (uint64_t) got->rows[i].time_us + got->rows[i].bits;
        }
        sum = sum * 31 + facts_of(store, agents[a]).n_samples;
    }
    return sum;
}

START_TEST(heads_after_the_replay_equal_those_before_over_many_segments)
{
    struct store *store = open_store(1 << 20);
    uint32_t agents[4], layouts[2];
    uint64_t sequences[4] = { 0 }, before;
    struct store_stats stats;
    struct rand rand;

    rand_init(&rand, 7);
    for (int i = 0; i < 4; i++) {
        char id[16];

        snprintf(id, sizeof(id), "a-%d", i);
        agents[i] = agent_of(store, id);
    }
    layouts[0] = layout_of(store, 40);
    layouts[1] = layout_of(store, 50);
    for (int i = 0; i < 400; i++) {
        uint64_t a = rand_below(&rand, 4), l = rand_below(&rand, 2);
        struct put put = { agents[a],
                           layouts[l],
                           1,
                           ++sequences[a],
                           (int64_t) rand_below(&rand, 1u << 30),
                           l ? 50 : 40,
                           1 + (uint32_t) rand_below(&rand, 30) };

        ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
    }
    before = digest(store, agents, layouts);
    store_get_stats(store, &stats);
    ck_assert_uint_gt(stats.n_segments, 2);
    ck_assert_uint_eq(stats.n_batches, 400);
    ck_assert_uint_gt(stats.database_bytes, 2u << 20);
    store_close(store);
    store = open_store(1 << 20);
    ck_assert_uint_eq(digest(store, agents, layouts), before);
    ck_assert_uint_eq(facts_of(store, agents[0]).n_series, 50);
    store_close(store);
}
END_TEST

struct writing {
    struct store *store;
    uint32_t agent, layout;
    _Atomic uint64_t n_acked;
};

static void *write_rows(void *arg)
{
    struct writing *w = arg;

    for (uint64_t i = 1; i <= 300; i++) {
        struct put put = { w->agent, w->layout, 1, i, (int64_t) i * 10000000, 20, 10 };

        ck_assert_int_eq(put_rows(w->store, put, NULL), STORE_OK);
        atomic_fetch_add(&w->n_acked, 10);
    }
    return NULL;
}

START_TEST(a_scan_beside_the_writer_sees_at_least_what_was_acknowledged)
{
    struct writing w = { .store = open_store(512 << 10) };
    pthread_t thread;
    uint64_t n = 0;

    w.agent = agent_of(w.store, "web-1");
    w.layout = layout_of(w.store, 20);
    ck_assert_int_eq(pthread_create(&thread, NULL, write_rows, &w), 0);
    while (n < 3000) {
        uint64_t n_acked = atomic_load(&w.n_acked);
        const struct scanned *got = scan_column(w.store, w.agent, w.layout, 5);

        n = got->n;
        ck_assert_uint_ge(n, n_acked);
        ck_assert_uint_eq(got->n_damaged, 0);
        for (size_t i = 1; i < n; i++)
            ck_assert_int_gt(got->rows[i].time_us, got->rows[i - 1].time_us);
    }
    pthread_join(thread, NULL);
    store_close(w.store);
}
END_TEST

TCase *case_rows(void)
{
    TCase *tcase = tcase_create("rows");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, values_come_back_bit_exact_after_a_reopen);
    tcase_add_test(tcase, an_order_puts_values_and_absent_places_into_columns);
    tcase_add_test(tcase, a_row_longer_than_a_chunk_comes_back);
    tcase_add_test(tcase, a_batch_spreads_over_chunks);
    tcase_add_test(tcase, late_rows_come_in_order_and_equal_times_as_they_were_committed);
    tcase_add_test(tcase, a_scan_keeps_to_its_range_and_stops_when_told);
    tcase_add_test(tcase, heads_after_the_replay_equal_those_before_over_many_segments);
    tcase_add_test(tcase, a_scan_beside_the_writer_sees_at_least_what_was_acknowledged);
    return tcase;
}
