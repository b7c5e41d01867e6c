/* SPDX-License-Identifier: Apache-2.0 */

/* Days that lost their past: their windows stay, and what comes late joins them. */

#include "test_store.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/rand.h"
#include "server/store/whole.h"

#define SECOND_US INT64_C(1000000)
#define NOON_US ((INT64_C(1793491200) - 43200) * SECOND_US) /* of 2026-10-31 */

/* ---- what is written ---- */

struct sample {
    int64_t time_us;
    double value;
};

struct writing {
    struct store *store;
    uint32_t agent, layout;
    uint64_t sequence;
};

static void put(struct writing *writing, const struct sample *samples, size_t n)
{
    struct store_batch *batch = NULL;

    ck_assert_int_eq(store_batch_new(&batch, n * store_row_bytes(1, 0)), 0);
    batch->agent = writing->agent;
    batch->signal = STORE_METRICS;
    batch->spool[0] = 1;
    batch->sequence = ++writing->sequence;
    for (size_t i = 0; i < n; i++) {
        struct store_row row = {
            samples[i].time_us, writing->layout, 1, &samples[i].value, NULL, 0
        };

        store_batch_add(batch, &row, NULL);
    }
    ck_assert_int_eq(put_batch(writing->store, batch, NULL), STORE_OK);
}

/* n samples, ten seconds apart, that count up from `value`. */
static void put_some(struct writing *writing, int64_t from_us, double value, size_t n)
{
    struct sample samples[1000];

    ck_assert_uint_le(n, 1000);
    for (size_t i = 0; i < n; i++)
        samples[i] = (struct sample){ from_us + (int64_t) i * 10 * SECOND_US, value + (double) i };
    put(writing, samples, n);
}

static void begin(struct writing *writing, bool is_counter)
{
    struct store_definition definition = { .name = "m",
                                           .unit = "1",
                                           .kind = is_counter ? STORE_COUNTER : STORE_GAUGE };
    uint32_t id;

    writing->store = open_store(0);
    writing->agent = agent_of(writing->store, "web-1");
    id = intern_definition(writing->store, &definition);
    writing->layout = intern_layout(writing->store, &id, 1);
}

static void reopen(struct writing *writing)
{
    store_close(writing->store);
    check_database();
    writing->store = open_store(0);
}

static void compact(struct writing *writing)
{
    ck_assert_int_eq(store_compact(writing->store), 0);
}

/* ---- what is read ---- */

struct got {
    size_t n;
    struct store_window all; /* the windows, one behind the other */
    bool is_counter;
};

static bool on_windows(void *ctx, size_t i, const struct store_window *windows, size_t n)
{
    struct got *got = ctx;

    (void) i;
    for (size_t k = 0; k < n; k++) {
        if (got->n++ == 0)
            got->all = windows[k];
        else
            store_window_append(&got->all, &windows[k], got->is_counter);
    }
    return true;
}

static void on_damage(void *ctx, int64_t from_us, int64_t to_us)
{
    (void) ctx;
    ck_abort_msg("damage of %lld to %lld", (long long) from_us, (long long) to_us);
}

static struct got windows_of(const struct writing *writing, int64_t window_us, bool is_counter)
{
    static const uint32_t column = 0;
    struct got got = { .is_counter = is_counter };
    struct store_windows scan = {
        .agent = writing->agent,
        .layout = writing->layout,
        .window_us = window_us,
        .from_us = NOON_US - DAY_US / 2,
        .to_us = NOON_US + DAY_US / 2,
        .columns = &column,
        .n_columns = 1,
        .parts = UINT_MAX,
        .on_windows = on_windows,
        .on_damage = on_damage,
        .ctx = &got,
    };

    ck_assert_int_eq(store_windows(writing->store, &scan), 0);
    return got;
}

/* Hours of the day that are not ready. */
static size_t not_ready(const struct writing *writing, int64_t window_us)
{
    struct store_stretch range = { NOON_US - DAY_US / 2, NOON_US + DAY_US / 2 }, *ready;
    int64_t n_us = DAY_US;
    struct arena arena;
    size_t n;

    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(
        store_windows_ready(writing->store, writing->agent, window_us, range, &arena, &ready, &n),
        0);
    for (size_t i = 0; i < n; i++)
        n_us -= ready[i].to_us - ready[i].from_us;
    arena_deinit(&arena);
    return (size_t) (n_us / STORE_HOUR_US);
}

static void check_count(const struct writing *writing, uint64_t n_samples)
{
    ck_assert_uint_eq(windows_of(writing, STORE_MINUTE_US, false).all.n_samples, n_samples);
    ck_assert_uint_eq(windows_of(writing, STORE_HOUR_US, false).all.n_samples, n_samples);
}

static void check_not_ready(const struct writing *writing, size_t n_hours)
{
    ck_assert_uint_eq(not_ready(writing, STORE_MINUTE_US), n_hours);
    ck_assert_uint_eq(not_ready(writing, STORE_HOUR_US), n_hours);
}

/* ---- by size ---- */

/* All days but the last go. */
static void let_days_go(struct writing *writing)
{
    store_set_retention(writing->store, 0, 1);
    while (days_count(&writing->store->days) > 1) {
        store_retain_now(writing->store);
        usleep(1000);
    }
    store_set_retention(writing->store, 0, 0);
}

START_TEST(late_rows_of_a_day_that_went_join_its_windows)
{
    struct writing writing = { 0 };
    size_t n_late = 0;

    begin(&writing, false);
    put_some(&writing, NOON_US, 1, 60);
    put_some(&writing, NOON_US + DAY_US, 1, 60); /* the last day stays */
    compact(&writing);
    let_days_go(&writing);
    check_count(&writing, 60);
    for (int round = 0; round < 3; round++) {
        /* In the lost hour, and in one that has nothing. */
        put_some(&writing, NOON_US + (5 + round) * SECOND_US, 100, 90);
        put_some(&writing, NOON_US + 2 * STORE_HOUR_US + round * SECOND_US, 100, 10);
        check_not_ready(&writing, 1);
        check_count(&writing, 60 + n_late);
        if (_i & 1)
            reopen(&writing); /* the start sweeps: some may have joined from here on */
        ck_assert_int_eq(store_seal(writing.store), 0);
        if (!(_i & 1)) {
            check_not_ready(&writing, 2); /* the block spans the hour in between */
            check_count(&writing, 60 + n_late);
        }
        if (_i & 2)
            reopen(&writing);
        compact(&writing);
        n_late += 100;
        check_not_ready(&writing, 0);
        check_count(&writing, 60 + n_late);
        if (_i & 4)
            reopen(&writing);
        compact(&writing);
        check_count(&writing, 60 + n_late);
        ck_assert_uint_eq(scan_column(writing.store, writing.agent, writing.layout, 0)->n,
                          60 + n_late);
    }
    ck_assert_double_eq(windows_of(&writing, STORE_MINUTE_US, false).all.min, 1);
    ck_assert_double_eq(windows_of(&writing, STORE_HOUR_US, false).all.max, 189);
    ck_assert_int_eq(store_samples_reach(writing.store).samples_us, NOON_US - DAY_US / 2);
    ck_assert_int_eq(store_samples_reach(writing.store).whole_us, NOON_US + DAY_US / 2);
    /* It goes once more, with all that came. */
    let_days_go(&writing);
    check_count(&writing, 60 + n_late);
    put_some(&writing, NOON_US + 30 * SECOND_US, 5, 7);
    compact(&writing);
    check_count(&writing, 67 + n_late);
    store_close(writing.store);
    check_database();
}
END_TEST

/* ---- damage ---- */

static void overwrite_day(void)
{
    char path[512];
    int fd;

    snprintf(path, sizeof(path), "%s/default/metrics/20261031/data.mdb", store_path);
    fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < 1024; i++)
        ck_assert_int_eq(write(fd, "damaged!", 8), 8);
    close(fd);
}

START_TEST(a_day_that_is_set_aside_keeps_its_windows_and_no_row_joins_them_twice)
{
    struct writing writing = { 0 };

    begin(&writing, false);
    put_some(&writing, NOON_US, 1, 60);
    put_some(&writing, NOON_US + 3 * STORE_HOUR_US, 1, 60);
    compact(&writing);
    check_count(&writing, 120);
    store_close(writing.store);
    check_database();
    overwrite_day();
    /* The journal has all of it still; a start may end before it is sealed. */
    writing.store = open_store(0);
    check_not_ready(&writing, 0);
    if (_i & 1) {
        store_close(writing.store);
        writing.store = open_store(0);
    }
    if (_i & 2) {
        ck_assert_int_eq(store_seal(writing.store), 0);
        check_not_ready(&writing, 0);
        compact(&writing);
        check_count(&writing, 120);
    }
    put_some(&writing, NOON_US + 5 * SECOND_US, 1, 30);
    put_some(&writing, NOON_US + 5 * STORE_HOUR_US, 1, 30);
    check_count(&writing, 120);
    if (_i & 4)
        reopen(&writing);
    compact(&writing);
    check_count(&writing, 180);
    ck_assert_uint_eq(scan_column(writing.store, writing.agent, writing.layout, 0)->n, 180);
    reopen(&writing);
    compact(&writing);
    check_count(&writing, 180);
    store_close(writing.store);
    check_database();
}
END_TEST

static wall_us soon_after(void)
{
    return (wall_us){ NOON_US + 5 * STORE_HOUR_US + STORE_HOUR_US / 4 };
}

static wall_us the_day_after(void)
{
    return (wall_us){ NOON_US + 2 * DAY_US };
}

static void remove_journal(void)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/default/journal", store_path);
    ck_assert_int_eq(file_remove_tree(path), 0);
}

/* Also where no row comes any more; and an hour that was not rolled up is not of these. */
START_TEST(hours_of_a_day_that_was_lost_before_it_was_over_come_out_of_minutes)
{
    struct writing writing = { 0 };
    struct store_window whole;
    size_t n_more = _i ? 90 : 0;

    clock_set_source(soon_after, NULL);
    begin(&writing, true);
    put_some(&writing, NOON_US, 1, 360);
    put_some(&writing, NOON_US + 3 * STORE_HOUR_US, 1, 60);
    ck_assert_int_eq(store_seal(writing.store), 0);
    reopen(&writing); /* the start sweeps */
    while (not_ready(&writing, STORE_MINUTE_US) > 0)
        usleep(1000);
    ck_assert_uint_eq(windows_of(&writing, STORE_HOUR_US, true).n, 0);
    whole = windows_of(&writing, STORE_MINUTE_US, true).all;
    store_close(writing.store);
    overwrite_day();
    remove_journal();

    clock_set_source(the_day_after, NULL);
    writing.store = open_store(0);
    writing.sequence = 0;
    if (_i) {
        put_some(&writing, NOON_US + 5 * STORE_HOUR_US, 1, 30);
        put_some(&writing, NOON_US + 3 * STORE_HOUR_US + 300 * SECOND_US, 1000, 60);
    }
    for (int again = 0; again < 2; again++) {
        compact(&writing);
        check_count(&writing, 420 + n_more);
        check_not_ready(&writing, 0);
        if (!_i)
            ck_assert_double_eq(windows_of(&writing, STORE_HOUR_US, true).all.increase,
                                whole.increase);
        reopen(&writing);
    }
    store_close(writing.store);
}
END_TEST

/* ---- what joins ---- */

#define N_SAMPLES 600

static int by_time(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;

    return (x->time_us > y->time_us) - (x->time_us < y->time_us);
}

static void check_windows(const struct writing *writing,
                          int64_t window_us,
                          bool is_counter,
                          const struct sample *samples,
                          size_t n)
{
    struct got got = windows_of(writing, window_us, is_counter);
    double sum = 0, growth = 0, min = INFINITY, max = -INFINITY;

    for (size_t i = 0; i < n; i++) {
        sum += samples[i].value;
        min = fmin(min, samples[i].value);
        max = fmax(max, samples[i].value);
        if (i)
            growth += store_growth(samples[i - 1].value, samples[i].value, is_counter);
    }
    ck_assert_uint_eq(got.all.n_samples, n);
    ck_assert_double_eq(got.all.min, min);
    ck_assert_double_eq(got.all.max, max);
    ck_assert_double_eq(got.all.sum, sum); /* whole numbers */
    ck_assert_double_eq(got.all.last, samples[n - 1].value);
    ck_assert_int_eq(got.all.last_us, samples[n - 1].time_us);
    ck_assert_double_eq(got.all.increase, growth);
}

/* Late ones among, before and behind those that were rolled up, at steps short and long: of what is
 * a counter without resets, and of a gauge. */
START_TEST(what_joins_makes_the_windows_that_all_samples_would_make)
{
    struct writing writing = { 0 };
    struct sample all[N_SAMPLES], part[N_SAMPLES], seen[N_SAMPLES];
    bool is_put[N_SAMPLES] = { false }, is_counter = _i & 1;
    int64_t at_us = NOON_US;
    size_t n_seen = 0;
    double value = 0;
    struct rand rand;

    rand_init(&rand, (uint64_t) _i);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        at_us += (int64_t) (1 + rand_below(&rand, rand_below(&rand, 20) ? 30 : 900)) * SECOND_US;
        value +=
            is_counter ? (double) rand_below(&rand, 100) : (double) rand_below(&rand, 100) - 50;
        all[i] = (struct sample){ at_us, value };
    }
    begin(&writing, is_counter);
    put_some(&writing, NOON_US + 3 * DAY_US, 1, 2);
    for (int round = 0; round < 4; round++) {
        size_t n = 0;

        for (size_t i = 0; i < N_SAMPLES; i++) {
            if (is_put[i] || (round < 3 && rand_below(&rand, 3)))
                continue;
            is_put[i] = true;
            part[n++] = seen[n_seen++] = all[i];
        }
        put(&writing, part, n);
        compact(&writing);
        if (round == 0)
            let_days_go(&writing);
        qsort(seen, n_seen, sizeof(*seen), by_time);
        check_windows(&writing, STORE_MINUTE_US, is_counter, seen, n_seen);
        check_windows(&writing, STORE_HOUR_US, is_counter, seen, n_seen);
    }
    store_close(writing.store);
    check_database();
}
END_TEST

TCase *case_lost(void)
{
    TCase *tcase = tcase_create("lost");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_loop_test(tcase, late_rows_of_a_day_that_went_join_its_windows, 0, 8);
    tcase_add_loop_test(
        tcase, a_day_that_is_set_aside_keeps_its_windows_and_no_row_joins_them_twice, 0, 8);
    tcase_add_loop_test(tcase, hours_of_a_day_that_was_lost_before_it_was_over_come_out_of_minutes,
                        0, 2);
    tcase_add_loop_test(tcase, what_joins_makes_the_windows_that_all_samples_would_make, 0, 20);
    return tcase;
}
