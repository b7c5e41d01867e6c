/* SPDX-License-Identifier: Apache-2.0 */

/* Following logs: everything once and in order, or counted as missed. */

#include "test_store_logs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "server/store/whole.h"

struct follower {
    struct store_tail *tail;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    unsigned n_wakes;
    /* What it saw. */
    uint64_t n, n_missed;
    uint64_t max;     /* it has enough after so many; 0: no limit */
    uint32_t next[4]; /* by agent: the number that comes next, at least */
    bool is_whole;    /* exactly it */
};

static void on_wake(void *ctx)
{
    struct follower *follower = ctx;

    pthread_mutex_lock(&follower->lock);
    follower->n_wakes++;
    pthread_cond_signal(&follower->woken);
    pthread_mutex_unlock(&follower->lock);
}

static size_t on_pack(void *ctx,
                      uint32_t agent,
                      const struct logblock_source *source,
                      const struct logblock_record *records,
                      size_t n_records)
{
    struct follower *follower = ctx;
    size_t i;

    ck_assert_uint_lt(agent, 4);
    for (i = 0; i < n_records && (!follower->max || follower->n < follower->max); i++) {
        uint32_t n = check_line(source, &records[i]);

        if (follower->is_whole)
            ck_assert_uint_eq(n, follower->next[agent]);
        ck_assert_uint_ge(n, follower->next[agent]);
        follower->next[agent] = n + 1;
        follower->n++;
    }
    return i;
}

static void follow(struct store *store, struct follower *follower)
{
    *follower = (struct follower){ .lock = PTHREAD_MUTEX_INITIALIZER,
                                   .woken = PTHREAD_COND_INITIALIZER,
                                   .is_whole = true };
    ck_assert_int_eq(store_tail_open(store, on_wake, follower, &follower->tail), 0);
}

static void read_on(struct follower *follower)
{
    struct store_tail_read read = { .on_pack = on_pack, .ctx = follower };

    ck_assert_int_eq(store_tail_read(follower->tail, &read), 0);
    follower->n_missed += read.ret_missed;
}

static void put(struct store *store, uint32_t agent, uint64_t sequence, uint32_t n, size_t bytes)
{
    struct log_put put = { agent, 1,       sequence, 0,    (uint32_t) (sequence - 1) * n,
                           n,     NOON_US, 1,        bytes };

    ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
}

START_TEST(a_tail_sees_what_is_committed_from_its_open_on_once_and_in_order)
{
    struct store *store = open_store(64 << 10);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    struct follower follower;

    put(store, agent, 1, 50, 0);
    follow(store, &follower);
    follower.next[agent] = 50;
    read_on(&follower);
    ck_assert_uint_eq(follower.n, 0);
    for (uint64_t i = 2; i <= 60; i++) {
        put(store, agent, i, 50, 0);
        ck_assert_int_eq(
            put_rows(store, (struct put){ agent, layout, 1, i - 1, NOON_US, 2, 3 }, NULL), 0);
        if (i % 5 == 0)
            read_on(&follower);
    }
    read_on(&follower);
    ck_assert_uint_eq(follower.n, UINT64_C(59) * 50);
    ck_assert_uint_eq(follower.n_missed, 0);
    ck_assert_uint_gt(stats_now(store).n_segments, 1);
    store_tail_close(follower.tail);
    store_close(store);
}
END_TEST

START_TEST(a_tail_that_has_enough_gets_the_rest_the_next_time)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1");
    struct follower follower;

    follow(store, &follower);
    for (uint64_t i = 1; i <= 20; i++)
        put(store, agent, i, 400, 300);                      /* some packs each */
    for (uint64_t max = 100; follower.n < 8000; max += 70) { /* in the midst of packs */
        follower.max = max;
        read_on(&follower);
        ck_assert_uint_eq(follower.n, max < 8000 ? max : 8000);
    }
    ck_assert_uint_eq(follower.n, 8000);
    ck_assert_uint_eq(follower.n_missed, 0);
    store_tail_close(follower.tail);
    store_close(store);
}
END_TEST

START_TEST(a_tail_is_woken_once_when_something_comes_after_it_read_all)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 2);
    struct follower follower;

    follow(store, &follower);
    put(store, agent, 1, 5, 0);
    ck_assert_uint_eq(follower.n_wakes, 0); /* it has not said that it waits */
    read_on(&follower);
    ck_assert_int_eq(put_rows(store, (struct put){ agent, layout, 1, 1, NOON_US, 2, 3 }, NULL), 0);
    ck_assert_uint_eq(follower.n_wakes, 0); /* metrics are nothing to it */
    put(store, agent, 2, 5, 0);
    put(store, agent, 3, 5, 0);
    pthread_mutex_lock(&follower.lock);
    while (follower.n_wakes == 0)
        pthread_cond_wait(&follower.woken, &follower.lock);
    ck_assert_uint_eq(follower.n_wakes, 1);
    pthread_mutex_unlock(&follower.lock);
    read_on(&follower);
    ck_assert_uint_eq(follower.n, 15);
    store_tail_close(follower.tail);
    store_close(store);
}
END_TEST

START_TEST(what_a_slow_tail_missed_is_counted_to_the_record)
{
    struct store *store = open_store(8 << 20);
    uint32_t agent = agent_of(store, "web-1");
    struct follower slow, fast;
    uint64_t i = 1;

    follow(store, &slow);
    follow(store, &fast);
    put(store, agent, i++, 100, 0);
    read_on(&slow);
    ck_assert_uint_eq(slow.n, 100);
    for (; i <= 80; i++) {
        put(store, agent, i, 100, 10000); /* a megabyte each */
        read_on(&fast);
    }
    slow.is_whole = false;
    read_on(&slow);
    ck_assert_uint_eq(slow.n_missed, UINT64_C(79) * 100);
    ck_assert_uint_eq(slow.n, 100);
    put(store, agent, i++, 100, 0);
    read_on(&slow);
    read_on(&fast);
    ck_assert_uint_eq(slow.n, 200);
    ck_assert_uint_eq(slow.n + slow.n_missed, 81 * 100);
    ck_assert_uint_eq(fast.n, 81 * 100);
    ck_assert_uint_eq(fast.n_missed, 0);
    store_tail_close(slow.tail);
    store_tail_close(fast.tail);
    store_close(store);
}
END_TEST

/* What it took of the pack that it was in the midst of is no part of what it missed. */
START_TEST(a_tail_that_is_moved_on_out_of_the_midst_of_a_pack_counts_to_the_record)
{
    struct store *store = open_store(8 << 20);
    uint32_t agent = agent_of(store, "web-1");
    struct follower follower;

    follow(store, &follower);
    put(store, agent, 1, 100, 0);
    follower.max = 30;
    read_on(&follower);
    ck_assert_uint_eq(follower.n, 30);
    for (uint64_t i = 2; i <= 80; i++)
        put(store, agent, i, 100, 10000);
    follower.max = 0;
    follower.is_whole = false;
    read_on(&follower);
    ck_assert_uint_eq(follower.n + follower.n_missed, 80 * 100);
    ck_assert_uint_eq(follower.n, 30);
    put(store, agent, 81, 100, 0);
    read_on(&follower);
    ck_assert_uint_eq(follower.n, 130);
    store_tail_close(follower.tail);
    store_close(store);
}
END_TEST

START_TEST(a_tail_keeps_no_segment_and_counts_what_went_with_it)
{
    struct store *store = open_store(64 << 10);
    uint32_t agent = agent_of(store, "web-1");
    struct follower follower;

    follow(store, &follower);
    for (uint64_t i = 1; i <= 30; i++)
        put(store, agent, i, 100, 200);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_le(stats_now(store).n_segments, 2);
    put(store, agent, 31, 100, 200);
    follower.is_whole = false;
    read_on(&follower);
    ck_assert_uint_gt(follower.n_missed, 0);
    ck_assert_uint_ge(follower.n, 100);
    ck_assert_uint_eq(follower.n + follower.n_missed, 3100);
    ck_assert_uint_eq(follower.next[agent], 3100);
    store_tail_close(follower.tail);
    store_close(store);
}
END_TEST

START_TEST(more_tails_than_there_may_be_are_refused)
{
    struct store *store = open_store(0);
    struct store_tail *tails[STORE_TAILS], *more;
    struct follower follower = { .lock = PTHREAD_MUTEX_INITIALIZER };

    for (size_t i = 0; i < STORE_TAILS; i++)
        ck_assert_int_eq(store_tail_open(store, on_wake, &follower, &tails[i]), 0);
    ck_assert_int_eq(store_tail_open(store, on_wake, &follower, &more), STORE_TOO_MUCH);
    store_tail_close(tails[7]);
    ck_assert_int_eq(store_tail_open(store, on_wake, &follower, &tails[7]), 0);
    for (size_t i = 0; i < STORE_TAILS; i++)
        store_tail_close(tails[i]);
    store_stop(store);
    ck_assert_int_eq(store_tail_open(store, on_wake, &follower, &more), STORE_STOPPED);
    store_close(store);
}
END_TEST

/* ---- many at once ---- */

struct beside {
    struct follower follower;
    uint64_t n_wanted;
};

static void *follow_on(void *arg)
{
    struct beside *beside = arg;
    struct follower *follower = &beside->follower;

    while (follower->n + follower->n_missed < beside->n_wanted) {
        pthread_mutex_lock(&follower->lock);
        while (follower->n_wakes == 0)
            pthread_cond_wait(&follower->woken, &follower->lock);
        follower->n_wakes = 0;
        pthread_mutex_unlock(&follower->lock);
        read_on(follower);
    }
    return NULL;
}

START_TEST(tails_beside_writers_and_seals_see_each_record_or_its_number)
{
    struct store *store = open_store(256 << 10);
    uint32_t agents[2] = { agent_of(store, "web-1"), agent_of(store, "web-2") };
    struct beside beside[4];
    pthread_t threads[4];

    for (size_t i = 0; i < 4; i++) {
        follow(store, &beside[i].follower);
        beside[i].follower.is_whole = false; /* what is sealed may go before it is read */
        beside[i].n_wanted = UINT64_C(2) * 150 * 20;
        read_on(&beside[i].follower);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, follow_on, &beside[i]), 0);
    }
    for (uint64_t i = 1; i <= 150; i++) {
        for (size_t a = 0; a < 2; a++)
            put(store, agents[a], i, 20, 100);
        if (i % 10 == 0)
            ck_assert_int_eq(store_seal(store), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        ck_assert_uint_eq(beside[i].follower.n + beside[i].follower.n_missed, beside[i].n_wanted);
        store_tail_close(beside[i].follower.tail);
    }
    store_close(store);
}
END_TEST

TCase *case_tail(void)
{
    TCase *tcase = tcase_create("tail");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, a_tail_sees_what_is_committed_from_its_open_on_once_and_in_order);
    tcase_add_test(tcase, a_tail_that_has_enough_gets_the_rest_the_next_time);
    tcase_add_test(tcase, a_tail_is_woken_once_when_something_comes_after_it_read_all);
    tcase_add_test(tcase, what_a_slow_tail_missed_is_counted_to_the_record);
    tcase_add_test(tcase, a_tail_that_is_moved_on_out_of_the_midst_of_a_pack_counts_to_the_record);
    tcase_add_test(tcase, a_tail_keeps_no_segment_and_counts_what_went_with_it);
    tcase_add_test(tcase, more_tails_than_there_may_be_are_refused);
    tcase_add_test(tcase, tails_beside_writers_and_seals_see_each_record_or_its_number);
    return tcase;
}
