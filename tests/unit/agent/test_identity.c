/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/identity/identity.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/rand.h"
#include "common/crypto/crypto.h"
#include "suite.h"

#define DAY_US INT64_C(86400000000)
#define LIFE_US (7 * DAY_US)
#define BACK_DATED_US INT64_C(300000000)
#define N_AGENTS 10000

/* ---- times ---- */

START_TEST(a_certificate_is_renewed_between_a_third_and_three_quarters_of_its_life)
{
    wall_us from = { 1000000000 - BACK_DATED_US }, until = { 1000000000 + LIFE_US };

    ck_assert_int_eq(schedule_first(from, until, 0).us, 1000000000 + LIFE_US / 100 * 35);
    ck_assert_int_lt(schedule_first(from, until, 0.999999).us, 1000000000 + LIFE_US / 100 * 75);
    ck_assert_int_gt(schedule_first(from, until, 0.999999).us, 1000000000 + LIFE_US / 100 * 74);
}
END_TEST

START_TEST(a_short_certificate_is_not_renewed_at_once)
{
    /* A minute of life, dated back by five. */
    wall_us from = { 1000000000 - BACK_DATED_US }, until = { 1000000000 + 60000000 };

    ck_assert_int_eq(schedule_first(from, until, 0).us, 1000000000 + 21000000);
}
END_TEST

START_TEST(the_point_of_a_certificate_is_its_own)
{
    uint8_t sha256[32] = { 0 };

    ck_assert(schedule_unit(sha256) == 0);
    memset(sha256, 0xff, sizeof(sha256));
    ck_assert(schedule_unit(sha256) < 1 && schedule_unit(sha256) > 0.999);
}
END_TEST

START_TEST(there_are_ten_tries_before_the_end_however_late_the_first_fails)
{
    struct rand rand;

    rand_init(&rand, 6);
    for (unsigned round = 0; round < N_AGENTS; round++) {
        wall_us now =
            schedule_first((wall_us){ -BACK_DATED_US }, (wall_us){ LIFE_US }, rand_unit(&rand));
        unsigned n = 1;

        for (; now.us < LIFE_US; n++)
            now.us += schedule_retry(now, (wall_us){ LIFE_US }, n, rand_unit(&rand));
        ck_assert_uint_ge(n, 10);
        ck_assert_uint_lt(n, 400);
    }
}
END_TEST

START_TEST(after_the_end_it_is_tried_each_quarter_of_an_hour)
{
    wall_us now = { LIFE_US + 1 }, end = { LIFE_US };

    ck_assert_int_eq(schedule_retry(now, end, 1, 0.5), 30000000);
    ck_assert_int_eq(schedule_retry(now, end, 50, 0.5), 900000000);
    ck_assert_int_ge(schedule_retry((wall_us){ LIFE_US - 1 }, end, 9, 0.5), 200000);
}
END_TEST

/*
 * A fleet that enrols within a minute, over five lives: what each agent does next follows from the
 * schedule and the hash of its certificate alone.
 */
START_TEST(no_hundredth_of_a_life_has_twice_the_mean_rate_of_renewals)
{
    enum { N_LIVES = 5, PER_LIFE = 100, N_WINDOWS = N_LIVES * PER_LIFE };
    static unsigned windows[N_WINDOWS];
    uint64_t n_renewals = 0;
    double mean;

    memset(windows, 0, sizeof(windows));
    for (uint64_t agent = 0; agent < N_AGENTS; agent++) {
        int64_t issued = (int64_t) (agent * 60000000 / N_AGENTS);

        for (uint64_t serial = 0;; serial++) {
            uint64_t certificate[2] = { agent, serial };
            uint8_t sha256[32];

            crypto_sha256(span_of(certificate, sizeof(certificate)), sha256);
            issued = schedule_first((wall_us){ issued - BACK_DATED_US },
                                    (wall_us){ issued + LIFE_US }, schedule_unit(sha256))
                         .us;
            if (issued >= N_LIVES * LIFE_US)
                break;
            windows[issued / (LIFE_US / PER_LIFE)]++;
            n_renewals++;
        }
    }
    mean = (double) n_renewals / N_WINDOWS;
    for (size_t i = 0; i < N_WINDOWS; i++)
        ck_assert_msg(windows[i] <= 2 * mean, "window %zu has %u, the mean is %.1f", i, windows[i],
                      mean);
    ck_assert(mean > 100);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("agent/identity");
    TCase *times = tcase_create("times");

    tcase_set_timeout(times, 60);
    tcase_add_test(times, a_certificate_is_renewed_between_a_third_and_three_quarters_of_its_life);
    tcase_add_test(times, a_short_certificate_is_not_renewed_at_once);
    tcase_add_test(times, the_point_of_a_certificate_is_its_own);
    tcase_add_test(times, there_are_ten_tries_before_the_end_however_late_the_first_fails);
    tcase_add_test(times, after_the_end_it_is_tried_each_quarter_of_an_hour);
    tcase_add_test(times, no_hundredth_of_a_life_has_twice_the_mean_rate_of_renewals);
    suite_add_tcase(s, times);
    return s;
}
