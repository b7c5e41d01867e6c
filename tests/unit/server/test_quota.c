/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "server/quota/quota.h"
#include "server/store/store.h"

#define SECOND_US INT64_C(1000000)
#define MINUTE_US (60 * SECOND_US)
#define HOUR_US (60 * MINUTE_US)

static char directory[64];
static struct store *store;
static struct quota *quota;
static int64_t retry_us;
static mono_us now;

static wall_us fake_wall(void)
{
    return (wall_us){ 1800000000000000 };
}

static mono_us fake_mono(void)
{
    return now;
}

static struct store *open_store(void)
{
    struct store *opened = NULL;
    struct store_why why;
    const struct store_options options = { .directory = directory,
                                           .is_shared = true,
                                           .allow_any_filesystem = true };

    ck_assert_int_eq(store_open(&opened, &options, &why), 0);
    return opened;
}

static void setup(void)
{
    static const char *const exempt[] = { "192.0.2.0/24", "2001:db8:ffff::/48", NULL };

    now = (mono_us){ 1000 * HOUR_US };
    clock_set_source(fake_wall, fake_mono);
    snprintf(directory, sizeof(directory), "/tmp/test_quota.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(store_create(directory), 0);
    store = open_store();
    ck_assert_int_eq(quota_open(&quota, store, exempt), 0);
}

static void teardown(void)
{
    quota = quota_close(quota);
    store = store_close(store);
    ck_assert_int_eq(file_remove_tree(directory), 0);
}

static int take_one(enum quota_limit limit, const char *who)
{
    retry_us = -1;
    return quota_take(quota, limit, who, 1, now, &retry_us);
}

/* How many are given until one is refused. */
static unsigned take_all(enum quota_limit limit, const char *who)
{
    unsigned n = 0;

    while (take_one(limit, who) == QUOTA_OK)
        ck_assert_uint_lt(n++, 3000000);
    return n;
}

struct set {
    struct quota_setting setting;
    struct quota_why why;
    int r;
};

static int set_in(struct store_change *change, void *ctx)
{
    struct set *set = ctx;

    set->r = quota_set_in(change, &set->setting, &set->why);
    return set->r == 0 ? 0 : set->r < 0 ? set->r : STORE_OUTCOME_FREE;
}

static int set_in_store(struct store *to, const char *name, const char *who, uint64_t n)
{
    struct set set = { .setting = { .name = name, .who = who, .n = n } };
    int r = store_state_change(to, set_in, &set);

    ck_assert(r == 0 || r == STORE_OUTCOME_FREE);
    return set.r;
}

static int set_limit(const char *name, const char *who, uint64_t n)
{
    int r = set_in_store(store, name, who, n);

    ck_assert_int_eq(quota_refresh(quota), 0);
    return r;
}

/* ---- the arithmetic ---- */

START_TEST(a_burst_is_given_and_then_exactly_the_rate)
{
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 100);
    ck_assert_int_eq(retry_us, HOUR_US / 100);
    now.us += HOUR_US / 100 - 1;
    ck_assert_int_eq(take_one(QUOTA_UPLOADS, "web-1"), QUOTA_EXCEEDED);
    ck_assert_int_eq(retry_us, 1000); /* it lacks one microsecond: at least this is told */
    now.us += 1;
    ck_assert_int_eq(take_one(QUOTA_UPLOADS, "web-1"), QUOTA_OK);
    ck_assert_int_eq(take_one(QUOTA_UPLOADS, "web-1"), QUOTA_EXCEEDED);
    now.us += 10 * HOUR_US;
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 100);
}
END_TEST

START_TEST(nothing_is_rounded_away_over_a_day_of_tiny_steps)
{
    unsigned n = take_all(QUOTA_UPLOADS, "web-1");

    ck_assert_uint_eq(set_limit("uploads", NULL, 7), 0); /* 3600 s / 7: no whole microseconds */
    n = take_all(QUOTA_UPLOADS, "web-2");
    ck_assert_uint_eq(n, 7);
    n = 0;
    for (int64_t t = 0; t < 24 * HOUR_US; t += 7777777) {
        now.us += 7777777;
        n += take_one(QUOTA_UPLOADS, "web-2") == QUOTA_OK;
    }
    ck_assert_uint_eq(n, 7 * 24);
}
END_TEST

START_TEST(a_refusal_takes_nothing)
{
    ck_assert_int_eq(quota_take(quota, QUOTA_UPLOADS, "web-1", 60, now, &retry_us), 0);
    ck_assert_int_eq(quota_take(quota, QUOTA_UPLOADS, "web-1", 60, now, &retry_us), QUOTA_EXCEEDED);
    ck_assert_int_eq(retry_us, 20 * (HOUR_US / 100));
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 40);
}
END_TEST

START_TEST(more_than_a_burst_is_never_there)
{
    ck_assert_int_eq(quota_take(quota, QUOTA_UPLOADS, "web-1", 101, now, &retry_us),
                     QUOTA_EXCEEDED);
    ck_assert_int_eq(quota_take(quota, QUOTA_UPLOADS, "web-1", UINT32_MAX, now, &retry_us),
                     QUOTA_EXCEEDED);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 100);
}
END_TEST

START_TEST(everybody_has_a_bucket_of_his_own)
{
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 100);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-2"), 100);
    ck_assert_uint_eq(take_all(QUOTA_PRIVILEGED, "web-1"), 100);
}
END_TEST

START_TEST(what_is_charged_afterwards_is_owed_down_to_a_whole_burst)
{
    ck_assert_int_eq(quota_take(quota, QUOTA_FAILURES, "198.51.100.1:1", 0, now, &retry_us), 0);
    for (int i = 0; i < 30; i++)
        quota_charge(quota, QUOTA_FAILURES, "198.51.100.1:2", now);
    ck_assert_int_eq(quota_take(quota, QUOTA_FAILURES, "198.51.100.1:3", 0, now, &retry_us),
                     QUOTA_EXCEEDED);
    ck_assert_int_eq(retry_us, 11 * MINUTE_US); /* ten are owed, one is asked for; one a minute */
    for (int i = 0; i < 1000; i++)
        quota_charge(quota, QUOTA_FAILURES, "198.51.100.1:2", now);
    ck_assert_int_eq(quota_take(quota, QUOTA_FAILURES, "198.51.100.1:3", 0, now, &retry_us),
                     QUOTA_EXCEEDED);
    ck_assert_int_eq(retry_us, 21 * MINUTE_US);
    now.us += 21 * MINUTE_US;
    ck_assert_int_eq(quota_take(quota, QUOTA_FAILURES, "198.51.100.1:3", 0, now, &retry_us), 0);
}
END_TEST

START_TEST(time_on_readers_is_charged_to_the_microsecond)
{
    quota_charge_time(quota, "anna", 59900000, now); /* of 60 s a minute */
    ck_assert_int_eq(quota_take(quota, QUOTA_QUERY_COST, "anna", 0, now, &retry_us), 0);
    quota_charge_time(quota, "anna", 1, now);
    ck_assert_int_eq(quota_take(quota, QUOTA_QUERY_COST, "anna", 0, now, &retry_us),
                     QUOTA_EXCEEDED);
    ck_assert_int_eq(retry_us, 1000);
    now.us += 1;
    ck_assert_int_eq(quota_take(quota, QUOTA_QUERY_COST, "anna", 0, now, &retry_us), 0);
    quota_charge_time(quota, "anna", INT64_MAX, now);
    quota_charge_time(quota, "anna", -5, now);
    ck_assert_int_eq(quota_take(quota, QUOTA_QUERY_COST, "anna", 0, now, &retry_us),
                     QUOTA_EXCEEDED);
    ck_assert_int_eq(retry_us, MINUTE_US + 100000); /* a whole burst is owed */
    ck_assert_int_eq(quota_take(quota, QUOTA_QUERY_COST, "bob", 0, now, &retry_us), 0);
}
END_TEST

START_TEST(a_clock_that_stands_or_goes_back_gives_nothing)
{
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 100);
    now.us -= 5 * HOUR_US;
    ck_assert_int_eq(take_one(QUOTA_UPLOADS, "web-1"), QUOTA_EXCEEDED);
    now.us += 5 * HOUR_US;
    ck_assert_int_eq(take_one(QUOTA_UPLOADS, "web-1"), QUOTA_EXCEEDED);
}
END_TEST

/* ---- how many are kept ---- */

START_TEST(who_hammers_is_never_the_one_that_is_forgotten)
{
    struct quota_stats stats;
    char who[32];

    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "hammer"), 100);
    for (unsigned i = 0; i < 2 * QUOTA_MAX_BUCKETS; i++) {
        snprintf(who, sizeof(who), "agent-%u", i);
        ck_assert_int_eq(take_one(QUOTA_UPLOADS, who), QUOTA_OK);
    }
    ck_assert_int_eq(take_one(QUOTA_UPLOADS, "hammer"), QUOTA_EXCEEDED);
    quota_get_stats(quota, &stats);
    ck_assert_uint_eq(stats.n_buckets, QUOTA_MAX_BUCKETS);
    ck_assert_uint_eq(stats.n_refused[QUOTA_UPLOADS], 2);
}
END_TEST

START_TEST(buckets_that_are_full_again_are_forgotten)
{
    struct quota_stats stats;
    char who[32];

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(who, sizeof(who), "agent-%u", i);
        ck_assert_int_eq(take_one(QUOTA_UPLOADS, who), QUOTA_OK);
    }
    now.us += HOUR_US / 100;
    ck_assert_int_eq(take_one(QUOTA_UPLOADS, "one-more"), QUOTA_OK);
    quota_get_stats(quota, &stats);
    ck_assert_uint_eq(stats.n_buckets, 1);
}
END_TEST

/* ---- addresses ---- */

START_TEST(ports_do_not_count_and_v6_counts_by_its_64)
{
    ck_assert_int_eq(
        quota_take(quota, QUOTA_CONNECTIONS, "[2001:db8:1:2::7]:1", 1000, now, &retry_us), 0);
    ck_assert_int_eq(take_one(QUOTA_CONNECTIONS, "[2001:db8:1:2:ffff::8]:2"), QUOTA_EXCEEDED);
    ck_assert_int_eq(take_one(QUOTA_CONNECTIONS, "2001:db8:1:2::1"), QUOTA_EXCEEDED);
    ck_assert_int_eq(take_one(QUOTA_CONNECTIONS, "[2001:db8:1:3::7]:1"), QUOTA_OK);
    ck_assert_int_eq(quota_take(quota, QUOTA_CONNECTIONS, "198.51.100.7:80", 1000, now, &retry_us),
                     0);
    ck_assert_int_eq(take_one(QUOTA_CONNECTIONS, "198.51.100.7:81"), QUOTA_EXCEEDED);
    ck_assert_int_eq(take_one(QUOTA_CONNECTIONS, "198.51.100.7"), QUOTA_EXCEEDED);
    ck_assert_int_eq(take_one(QUOTA_CONNECTIONS, "[::ffff:198.51.100.7]:82"), QUOTA_EXCEEDED);
    ck_assert_int_eq(take_one(QUOTA_CONNECTIONS, "198.51.100.8:80"), QUOTA_OK);
}
END_TEST

START_TEST(loopback_and_trusted_networks_are_exempt)
{
    static const char *const free_ones[] = { "127.0.0.1:1", "127.8.9.1:1", "[::1]:1",
                                             "192.0.2.77:3", "[2001:db8:ffff:1::2]:5" };

    for (size_t i = 0; i < sizeof(free_ones) / sizeof(free_ones[0]); i++)
        for (int n = 0; n < 3000; n++)
            ck_assert_msg(take_one(QUOTA_CONNECTIONS, free_ones[i]) == QUOTA_OK, "%s",
                          free_ones[i]);
    ck_assert_uint_eq(take_all(QUOTA_CONNECTIONS, "192.0.3.77:3"), 1000);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "127.0.0.1"), 100); /* the name of an agent */
}
END_TEST

START_TEST(addresses_match_their_networks)
{
    static const struct {
        const char *cidr, *peer;
        bool matches;
    } rows[] = {
        { "10.0.0.0/8", "10.255.1.2:5", true },
        { "10.0.0.0/8", "11.0.0.1:5", false },
        { "10.0.0.0/9", "10.127.0.1", true },
        { "10.0.0.0/9", "10.128.0.1", false },
        { "192.0.2.7", "192.0.2.7:99", true },
        { "192.0.2.7", "192.0.2.8:99", false },
        { "192.0.2.7/32", "192.0.2.7", true },
        { "0.0.0.0/0", "8.8.8.8", true },
        { "0.0.0.0/0", "::1", false },
        { "fd00::/8", "[fdab::1]:4", true },
        { "fd00::/8", "[fe80::1%eth0]:4", false },
        { "fe80::/10", "[fe80::1%eth0]:4", true },
        { "::ffff:10.0.0.0/104", "10.3.3.3", true },
        { "10.0.0.0/8", "::ffff:10.1.1.1", true },
        { "10.0.0.0/33", "10.0.0.0", false },
        { "10.0.0.0/", "10.0.0.0", false },
        { "10.0.0/8", "10.0.0.0", false },
        { "", "10.0.0.0", false },
        { "10.0.0.0/8", "", false },
        { "10.0.0.0/8", "nonsense", false },
        { "::/129", "::1", false },
        { "::/0", "[2001:db8::1]:2", true },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_msg(quota_address_matches(rows[i].cidr, rows[i].peer) == rows[i].matches, "%s %s",
                      rows[i].cidr, rows[i].peer);
    ck_assert(quota_cidr_is_good("10.0.0.0/8"));
    ck_assert(quota_cidr_is_good("2001:db8::1"));
    ck_assert(!quota_cidr_is_good("10.0.0.0/-1"));
    ck_assert(!quota_cidr_is_good("10.0.0.0/08888888"));
    ck_assert(!quota_cidr_is_good("hub.example.org"));
}
END_TEST

/* ---- numbers that are set ---- */

START_TEST(a_limit_that_is_set_holds_at_once_and_what_was_taken_stays_taken)
{
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 100);
    ck_assert_int_eq(set_limit("uploads", NULL, 150), 0);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 50);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-2"), 150);
    ck_assert_int_eq(set_limit("uploads", NULL, 10), 0);
    ck_assert_int_eq(take_one(QUOTA_UPLOADS, "web-2"), QUOTA_EXCEEDED);
    ck_assert_int_eq(set_limit("uploads", NULL, UINT64_MAX), 0);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-3"), 100);
}
END_TEST

START_TEST(one_name_may_have_numbers_of_its_own)
{
    ck_assert_int_eq(set_limit("uploads", "big-one", 500), 0);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "big-one"), 500);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 100);
    ck_assert_int_eq(set_limit("connections", "[2001:db8:1:2::9]:44", 3), 0);
    ck_assert_uint_eq(take_all(QUOTA_CONNECTIONS, "[2001:db8:1:2::7]:1"), 3);
    ck_assert_int_eq(set_limit("connections", "2001:db8:1:2::/64", UINT64_MAX), 0);
    ck_assert_uint_eq(take_all(QUOTA_CONNECTIONS, "[2001:db8:1:2::7]:1"), 997);
}
END_TEST

START_TEST(what_another_process_sets_is_seen_at_the_next_refresh)
{
    struct store *other = open_store();

    ck_assert_int_eq(set_in_store(other, "uploads", NULL, 5), 0);
    store_close(other);
    ck_assert_int_eq(quota_refresh(quota), 0);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 5);
    quota = quota_close(quota);
    ck_assert_int_eq(quota_open(&quota, store, NULL), 0);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 5);
}
END_TEST

START_TEST(bad_settings_are_refused_with_the_field_and_the_limit)
{
    struct set set = { .setting = { .name = "uploads", .n = 0 } };
    char name[400];

    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    ck_assert_int_eq(set_limit("no_such_limit", NULL, 5), QUOTA_UNKNOWN);
    ck_assert_int_eq(set_limit("uploads", NULL, QUOTA_MAX_N + 1), QUOTA_BAD_VALUE);
    ck_assert_int_eq(set_limit("uploads", "", 5), QUOTA_BAD_VALUE);
    ck_assert_int_eq(set_limit("uploads", name, 5), QUOTA_BAD_VALUE);
    ck_assert_int_eq(store_state_change(store, set_in, &set), STORE_OUTCOME_FREE);
    ck_assert_int_eq(set.r, QUOTA_BAD_VALUE);
    ck_assert_str_eq(set.why.text, "limit.value: uploads takes 1 to 1000000000");
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 100);
}
END_TEST

START_TEST(the_list_has_every_limit_and_the_names_behind_it)
{
    struct arena arena;
    struct quota_row *rows;
    size_t n;

    arena_init(&arena, 65536);
    ck_assert_int_eq(set_limit("uploads", "web-2", 7), 0);
    ck_assert_int_eq(set_limit("uploads", "web-1", 6), 0);
    (void) take_all(QUOTA_UPLOADS, "x");
    ck_assert_int_eq(quota_list(quota, &arena, &rows, &n), 0);
    ck_assert_uint_eq(n, QUOTA_N_LIMITS + 2);
    ck_assert_str_eq(rows[0].name, "uploads");
    ck_assert_str_eq(rows[0].scope, "agent");
    ck_assert_uint_eq(rows[0].n, 100);
    ck_assert(rows[0].is_default);
    ck_assert_uint_eq(rows[0].n_refused, 1);
    ck_assert_str_eq(rows[1].scope, "agent/web-1");
    ck_assert_uint_eq(rows[1].n, 6);
    ck_assert_str_eq(rows[2].scope, "agent/web-2");
    ck_assert_str_eq(rows[3].name, "privileged_calls");
    arena_deinit(&arena);
}
END_TEST

START_TEST(rows_that_are_none_are_named_and_passed_over)
{
    const struct store_write writes[] = {
        { STORE_TABLE_LIMITS, span_of_text("uploads"), span_of_text("nonsense") },
        { STORE_TABLE_LIMITS, span_of_text("future_limit"), span_of_text("v") },
        { STORE_TABLE_LIMITS, span_of("uploads\0", 8), span_of_text("v") },
    };

    ck_assert_int_eq(store_state_write(store, writes, 3), 0);
    for (size_t i = 0; i < 3; i++)
        ck_assert_ptr_nonnull(
            quota_check_row(NULL, writes[i].table, writes[i].key, writes[i].value));
    quota = quota_close(quota);
    ck_assert_int_eq(quota_open(&quota, store, NULL), 0);
    ck_assert_uint_eq(take_all(QUOTA_UPLOADS, "web-1"), 100);
}
END_TEST

static void add(TCase *tc)
{
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
}

Suite *suite(void)
{
    Suite *s = suite_create("server/quota");
    TCase *tc = tcase_create("arithmetic");

    add(tc);
    tcase_add_test(tc, a_burst_is_given_and_then_exactly_the_rate);
    tcase_add_test(tc, nothing_is_rounded_away_over_a_day_of_tiny_steps);
    tcase_add_test(tc, a_refusal_takes_nothing);
    tcase_add_test(tc, more_than_a_burst_is_never_there);
    tcase_add_test(tc, everybody_has_a_bucket_of_his_own);
    tcase_add_test(tc, what_is_charged_afterwards_is_owed_down_to_a_whole_burst);
    tcase_add_test(tc, time_on_readers_is_charged_to_the_microsecond);
    tcase_add_test(tc, a_clock_that_stands_or_goes_back_gives_nothing);
    suite_add_tcase(s, tc);
    tc = tcase_create("buckets");
    add(tc);
    tcase_add_test(tc, who_hammers_is_never_the_one_that_is_forgotten);
    tcase_add_test(tc, buckets_that_are_full_again_are_forgotten);
    suite_add_tcase(s, tc);
    tc = tcase_create("addresses");
    add(tc);
    tcase_add_test(tc, ports_do_not_count_and_v6_counts_by_its_64);
    tcase_add_test(tc, loopback_and_trusted_networks_are_exempt);
    tcase_add_test(tc, addresses_match_their_networks);
    suite_add_tcase(s, tc);
    tc = tcase_create("settings");
    add(tc);
    tcase_add_test(tc, a_limit_that_is_set_holds_at_once_and_what_was_taken_stays_taken);
    tcase_add_test(tc, one_name_may_have_numbers_of_its_own);
    tcase_add_test(tc, what_another_process_sets_is_seen_at_the_next_refresh);
    tcase_add_test(tc, bad_settings_are_refused_with_the_field_and_the_limit);
    tcase_add_test(tc, the_list_has_every_limit_and_the_names_behind_it);
    tcase_add_test(tc, rows_that_are_none_are_named_and_passed_over);
    suite_add_tcase(s, tc);
    return s;
}
