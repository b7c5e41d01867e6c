/* SPDX-License-Identifier: Apache-2.0 */

/* Who passes rows on gets each of them, in the order of commit, also after a restart. */

#include "test_store.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define SECOND_US INT64_C(1000000)
#define BEGIN_US (INT64_C(1790000000) * SECOND_US)

struct heard {
    uint64_t n, max;
    int64_t first_us, last_us;
};

static bool hear_row(void *ctx, const struct store_followed *row)
{
    struct heard *heard = ctx;
    double first, last;

    if (heard->n == heard->max)
        return false;
    if (heard->n++ == 0)
        heard->first_us = row->time_us;
    else
        ck_assert_int_eq(row->time_us, heard->last_us + SECOND_US);
    heard->last_us = row->time_us;
    memcpy(&first, row->values, sizeof(first));
    memcpy(&last, row->values + 8 * (size_t) (row->n_values - 1), sizeof(last));
    ck_assert_double_eq(last, first + row->n_values - 1);
    return true;
}

static struct heard hear(struct store_follower *follower, uint64_t max)
{
    struct heard heard = { .max = max };
    struct store_follow_read how = { .on_row = hear_row, .ctx = &heard };

    ck_assert_int_eq(store_follow_read(follower, &how), 0);
    return heard;
}

static void keep(struct store_follower *follower)
{
    store_follow_done(follower);
    ck_assert_int_eq(store_follow_keep(follower), 0);
}

static void put(struct store *store, uint32_t agent, uint32_t layout, uint64_t sequence)
{
    struct put rows = { agent, layout, 1, sequence, BEGIN_US + (int64_t) sequence * 10 * SECOND_US,
                        20,    10 };

    ck_assert_int_eq(put_rows(store, rows, NULL), STORE_OK);
}

static struct store *open_for_followers(uint64_t follow_bytes)
{
    struct store_options options = store_settings(128 << 10);
    struct store_why why;
    struct store *store = NULL;

    options.follow_bytes = follow_bytes;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    return store;
}

static struct store *open_with_follower(const char *name)
{
    struct store_options options = store_settings(128 << 10);
    struct store_why why;
    struct store *store = NULL;

    options.follow = name;
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    return store;
}

static uint64_t n_segments(struct store *store)
{
    struct store_stats stats;

    store_get_stats(store, &stats);
    return stats.n_segments;
}

START_TEST(a_follower_goes_on_where_it_was_also_after_a_restart)
{
    struct store *store = open_for_followers(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 20);
    struct store_follower *follower = NULL;
    struct heard heard;

    put(store, agent, layout, 1);
    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    ck_assert_uint_eq(hear(follower, UINT64_MAX).n, 0); /* from now on */
    for (uint64_t i = 2; i <= 5; i++)
        put(store, agent, layout, i);
    heard = hear(follower, 13);
    ck_assert_uint_eq(heard.n, 13);
    ck_assert_int_eq(heard.first_us, BEGIN_US + 20 * SECOND_US);
    keep(follower);
    ck_assert_uint_eq(hear(follower, UINT64_MAX).n, 27);
    store_follow_again(follower); /* was not taken */
    ck_assert_uint_eq(hear(follower, 7).n, 7);
    ck_assert_int_eq(store_follow_keep(follower), 0); /* of what is done with: nothing new */
    follower = store_unfollow(follower);
    store_close(store);

    store = open_for_followers(0);
    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    heard = hear(follower, UINT64_MAX);
    ck_assert_uint_eq(heard.n, 27);
    ck_assert_int_eq(heard.first_us, BEGIN_US + 33 * SECOND_US);
    keep(follower);
    ck_assert_uint_eq(hear(follower, UINT64_MAX).n, 0);
    follower = store_unfollow(follower);
    store_close(store);
}
END_TEST

START_TEST(what_is_sealed_stays_for_who_has_not_read_it)
{
    struct store *store = open_for_followers(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 20);
    struct store_follower *follower = NULL;
    struct store_follow_lag lag;
    uint64_t i;

    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    for (i = 1; n_segments(store) < 5; i++)
        put(store, agent, layout, i);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_ge(n_segments(store), 5);
    store_follow_lag(follower, &lag);
    ck_assert_uint_gt(lag.n_chunks, 0);
    ck_assert_uint_eq(hear(follower, UINT64_MAX).n, (i - 1) * 10);
    keep(follower);
    put(store, agent, layout, i);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_le(n_segments(store), 2);
    store_follow_lag(follower, &lag);
    ck_assert_uint_eq(lag.n_lost_chunks, 0);
    follower = store_unfollow(follower);
    store_close(store);
}
END_TEST

START_TEST(who_is_too_far_behind_is_moved_on_and_the_loss_is_counted)
{
    struct store *store = open_for_followers(256 << 10);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 20);
    struct store_follower *follower = NULL;
    struct store_follow_lag lag = { 0 };
    struct heard heard;
    uint64_t i;

    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    for (i = 1; lag.n_lost_chunks == 0 && i < 2000; i++) {
        put(store, agent, layout, i);
        if (i % 20 == 0)
            ck_assert_int_eq(store_seal(store), 0);
        store_follow_lag(follower, &lag);
    }
    ck_assert_uint_gt(lag.n_lost_chunks, 0);
    heard = hear(follower, UINT64_MAX);
    ck_assert_uint_gt(heard.n, 0);
    ck_assert_int_gt(heard.first_us, BEGIN_US + 10 * SECOND_US);
    ck_assert_int_eq(heard.last_us, BEGIN_US + (int64_t) (i - 1) * 10 * SECOND_US + 9 * SECOND_US);
    follower = store_unfollow(follower);
    store_close(store);
}
END_TEST

START_TEST(what_was_not_read_stays_from_the_open_on)
{
    struct store *store = open_for_followers(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 20);
    struct store_follower *follower = NULL;
    struct store_follow_lag lag;
    uint64_t i;

    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    for (i = 1; n_segments(store) < 5; i++)
        put(store, agent, layout, i);
    follower = store_unfollow(follower);
    store_close(store);

    store = open_with_follower("there");
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_ge(n_segments(store), 5);
    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    ck_assert_uint_eq(hear(follower, UINT64_MAX).n, (i - 1) * 10);
    store_follow_lag(follower, &lag);
    ck_assert_uint_eq(lag.n_lost_chunks, 0);
    follower = store_unfollow(follower);
    store_close(store);
}
END_TEST

START_TEST(a_follower_that_never_comes_is_closed_with_the_store)
{
    store_close(open_with_follower("there"));
}
END_TEST

START_TEST(who_comes_back_when_its_rows_are_gone_goes_on_behind_them)
{
    struct store *store = open_for_followers(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 20);
    struct store_follower *follower = NULL;
    struct store_follow_lag lag;
    uint64_t i;

    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    follower = store_unfollow(follower);
    for (i = 1; n_segments(store) < 5; i++)
        put(store, agent, layout, i);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_le(n_segments(store), 2);
    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    store_follow_lag(follower, &lag);
    ck_assert_uint_gt(lag.n_lost_chunks, 0);
    put(store, agent, layout, i);
    ck_assert_uint_ge(hear(follower, UINT64_MAX).n, 10);
    keep(follower);
    follower = store_unfollow(follower);
    store_close(store);
}
END_TEST

START_TEST(a_damaged_chunk_counts_as_lost_once)
{
    struct store *store = open_for_followers(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 20);
    struct store_follower *follower = NULL;
    struct store_follow_lag lag;

    put(store, agent, layout, 1);
    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    follower = store_unfollow(follower);
    for (uint64_t i = 2; i <= 4; i++)
        put(store, agent, layout, i); /* a chunk each */
    store_close(store);
    spoil_value("default/journal/00000001", "chunks", 1, 100);

    for (int again = 0; again < 2; again++) {
        store = open_with_follower("there");
        ck_assert_int_eq(store_follow(store, "there", &follower), 0);
        for (int i = 0; i < 3; i++) {
            ck_assert_uint_eq(hear(follower, UINT64_MAX).n, again ? 0 : 20);
            store_follow_again(follower);
            store_follow_lag(follower, &lag);
            ck_assert_uint_eq(lag.n_lost_chunks, again);
        }
        ck_assert_uint_eq(hear(follower, UINT64_MAX).n, again ? 0 : 20);
        keep(follower);
        store_follow_lag(follower, &lag);
        ck_assert_uint_eq(lag.n_lost_chunks, 1);
        follower = store_unfollow(follower);
        store_close(store);
    }
}
END_TEST

START_TEST(a_segment_that_is_no_database_counts_as_lost)
{
    struct store *store = open_for_followers(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, 20);
    struct store_follower *follower = NULL;
    struct store_follow_lag lag;
    struct heard heard;
    char path[512];
    uint64_t i;

    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    follower = store_unfollow(follower);
    for (i = 1; n_segments(store) < 3; i++)
        put(store, agent, layout, i);
    store_close(store);
    snprintf(path, sizeof(path), "%s/default/journal/00000001/data.mdb", store_path);
    ck_assert_int_eq(truncate(path, 100), 0);

    store = open_with_follower("there");
    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    heard = hear(follower, UINT64_MAX);
    ck_assert_uint_gt(heard.n, 0);
    keep(follower);
    store_follow_lag(follower, &lag);
    ck_assert_uint_eq(lag.n_lost_chunks, (i - 1) - heard.n / 10); /* a chunk each */
    follower = store_unfollow(follower);
    store_close(store);
}
END_TEST

/* ---- segments that go meanwhile ---- */

#define WIDE 250

static void *seal_all(void *store)
{
    ck_assert_int_eq(store_seal(store), 0);
    return NULL;
}

/* A segment, or nearly; returns its last time. */
static int64_t put_wide(struct store *store, uint32_t agent, uint32_t layout, uint64_t sequence)
{
    struct put rows = { agent, layout, 1, sequence, BEGIN_US + (int64_t) sequence * 60 * SECOND_US,
                        WIDE,  60 };

    ck_assert_int_eq(put_rows(store, rows, NULL), STORE_OK);
    return rows.time_us + 59 * SECOND_US;
}

START_TEST(who_comes_back_while_segments_go_hears_all_that_is_left)
{
    struct store *store = open_for_followers(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, WIDE);
    struct store_follower *follower = NULL;
    int64_t last_us = 0;
    uint64_t sequence = 0;

    ck_assert_int_eq(store_follow(store, "there", &follower), 0);
    follower = store_unfollow(follower);
    for (int round = 0; round < 40; round++) {
        pthread_t thread;

        while (n_segments(store) < 4)
            last_us = put_wide(store, agent, layout, ++sequence);
        ck_assert_int_eq(pthread_create(&thread, NULL, seal_all, store), 0);
        /* Comes at another moment of it each time. */
        for (int i = 0; i < round % 20 * 1000; i++)
            sched_yield();
        ck_assert_int_eq(store_follow(store, "there", &follower), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_int_eq(hear(follower, UINT64_MAX).last_us, last_us);
        follower = store_unfollow(follower);
        last_us = put_wide(store, agent, layout, ++sequence);
        ck_assert_int_eq(store_seal(store), 0);
    }
    store_close(store);
}
END_TEST

TCase *case_follow(void)
{
    TCase *tcase = tcase_create("follow");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, a_follower_goes_on_where_it_was_also_after_a_restart);
    tcase_add_test(tcase, what_is_sealed_stays_for_who_has_not_read_it);
    tcase_add_test(tcase, who_is_too_far_behind_is_moved_on_and_the_loss_is_counted);
    tcase_add_test(tcase, what_was_not_read_stays_from_the_open_on);
    tcase_add_test(tcase, a_follower_that_never_comes_is_closed_with_the_store);
    tcase_add_test(tcase, who_comes_back_when_its_rows_are_gone_goes_on_behind_them);
    tcase_add_test(tcase, a_damaged_chunk_counts_as_lost_once);
    tcase_add_test(tcase, a_segment_that_is_no_database_counts_as_lost);
    tcase_add_test(tcase, who_comes_back_while_segments_go_hears_all_that_is_left);
    return tcase;
}
