/* SPDX-License-Identifier: Apache-2.0 */

/* Roll-ups on disk: what is there after kills, damage, late rows and retention. What windows say is
 * compared with samples in test_query_rolled.c. */

#include "test_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/store/whole.h"

#define SECOND_US INT64_C(1000000)
/* 2026-10-31, noon: the next day is of another month. */
#define NOON_US ((INT64_C(1793491200) - 43200) * SECOND_US)
#define N_COLUMNS 300 /* three slices */

/* ---- reading ---- */

struct got {
    size_t n_windows, n_damaged;
    uint64_t n_samples;
    double sum;
    int64_t last_begin_us;
};

static bool on_windows(void *ctx, size_t i, const struct store_window *windows, size_t n)
{
    struct got *got = ctx;

    (void) i;
    for (size_t k = 0; k < n; k++) {
        ck_assert_int_gt(windows[k].begin_us, got->last_begin_us);
        got->last_begin_us = windows[k].begin_us;
        got->n_windows++;
        got->n_samples += windows[k].n_samples;
        got->sum += windows[k].sum;
    }
    return true;
}

static void on_damage(void *ctx, int64_t from_us, int64_t to_us)
{
    struct got *got = ctx;

    ck_assert_int_lt(from_us, to_us);
    got->n_damaged++;
}

static struct got
windows_of(struct store *store, uint32_t agent, uint32_t layout, uint32_t column, int64_t window_us)
{
    struct got got = { .last_begin_us = INT64_MIN };
    struct store_windows scan = {
        .agent = agent,
        .layout = layout,
        .window_us = window_us,
        .from_us = NOON_US - 100 * DAY_US,
        .to_us = NOON_US + 100 * DAY_US,
        .columns = &column,
        .n_columns = 1,
        .parts = STORE_WINDOW_SUM | STORE_WINDOW_COUNT,
        .on_windows = on_windows,
        .on_damage = on_damage,
        .ctx = &got,
    };

    ck_assert_int_eq(store_windows(store, &scan), 0);
    return got;
}

/* Hours around noon that are not ready. */
static size_t not_ready(struct store *store, uint32_t agent, int64_t window_us)
{
    struct store_stretch range = { NOON_US - 100 * DAY_US, NOON_US + 100 * DAY_US }, *ready;
    int64_t n_us = range.to_us - range.from_us;
    struct arena arena;
    size_t n;

    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_windows_ready(store, agent, window_us, range, &arena, &ready, &n), 0);
    for (size_t i = 0; i < n; i++)
        n_us -= ready[i].to_us - ready[i].from_us;
    arena_deinit(&arena);
    return (size_t) (n_us / STORE_HOUR_US);
}

static void
check_windows(struct store *store, uint32_t agent, uint32_t layout, uint64_t n_samples, double sum)
{
    for (uint32_t column = 0; column < N_COLUMNS; column += 137) {
        for (int tier = 0; tier < 2; tier++) {
            struct got got =
                windows_of(store, agent, layout, column, tier ? STORE_HOUR_US : STORE_MINUTE_US);

            ck_assert_uint_eq(got.n_damaged, 0);
            ck_assert_uint_eq(got.n_samples, n_samples);
            ck_assert_double_eq(got.sum, sum + (double) (n_samples * column));
        }
    }
}

static struct store_stats stats_of(struct store *store)
{
    struct store_stats stats;

    store_get_stats(store, &stats);
    return stats;
}

static void put(struct store *store, uint32_t agent, uint32_t layout, uint64_t i, int64_t time_us)
{
    struct put put = { agent, layout, 1, i, time_us, N_COLUMNS, 60 };

    ck_assert_int_eq(put_rows(store, put, NULL), STORE_OK);
}

/* The sum of column 0 of a put. */
#define PUT_SUM (59.0 * 60 / 2 * 1000)

/* ---- tests ---- */

START_TEST(what_is_over_is_rolled_up_and_what_is_late_once_more)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, N_COLUMNS);
    uint64_t n_rolled;

    /* Ten minutes and a half each, over midnight and the end of the month. */
    for (uint64_t i = 0; i < 100; i++)
        put(store, agent, layout, i + 1, NOON_US + (int64_t) i * 630 * SECOND_US);
    ck_assert_uint_eq(not_ready(store, agent, STORE_HOUR_US), 18);
    ck_assert_int_eq(store_compact(store), 0);
    for (int again = 0; again < 2; again++) {
        ck_assert_uint_eq(not_ready(store, agent, STORE_HOUR_US), 0);
        ck_assert_uint_eq(not_ready(store, agent, STORE_MINUTE_US), 0);
        check_windows(store, agent, layout, 6000, 100 * PUT_SUM);
        store_close(store);
        store = open_store(0);
    }
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_eq(stats_of(store).n_rolled, 0); /* nothing was due */
    put(store, agent, layout, 101, NOON_US - 30 * SECOND_US);
    ck_assert_uint_eq(not_ready(store, agent, STORE_MINUTE_US), 2);
    ck_assert_int_eq(store_seal(store), 0);
    ck_assert_uint_eq(not_ready(store, agent, STORE_MINUTE_US), 2);
    ck_assert_int_eq(store_compact(store), 0);
    n_rolled = stats_of(store).n_rolled;
    ck_assert_uint_eq(n_rolled, 3 * 2 + 3); /* slices: two hours, their day */
    ck_assert_uint_eq(not_ready(store, agent, STORE_MINUTE_US), 0);
    check_windows(store, agent, layout, 6060, 101 * PUT_SUM);
    store_close(store);
}
END_TEST

static wall_us soon_after(void)
{
    return (wall_us){ NOON_US + 2 * STORE_HOUR_US + STORE_HOUR_US / 4 };
}

START_TEST(the_hour_under_way_waits_until_it_is_over)
{
    struct store *store;
    uint32_t agent, layout;

    clock_set_source(soon_after, NULL);
    store = open_store(0);
    agent = agent_of(store, "web-1");
    layout = layout_of(store, N_COLUMNS);
    put(store, agent, layout, 1, NOON_US + STORE_HOUR_US);
    put(store, agent, layout, 2, NOON_US + 2 * STORE_HOUR_US);
    ck_assert_int_eq(store_seal(store), 0);
    store_close(store);
    store = open_store(0); /* the start sweeps, if no sweep before it has met these */
    while (not_ready(store, agent, STORE_MINUTE_US) > 1)
        usleep(1000);
    ck_assert_uint_eq(not_ready(store, agent, STORE_MINUTE_US), 1);
    ck_assert_uint_eq(windows_of(store, agent, layout, 0, STORE_MINUTE_US).n_samples, 60);
    ck_assert_uint_eq(not_ready(store, agent, STORE_HOUR_US), 2); /* the day is not over */
    store_close(store);
}
END_TEST

/* ---- retention ---- */

static wall_us the_day_after(void)
{
    return (wall_us){ NOON_US + DAY_US };
}

START_TEST(windows_outlive_their_samples_and_go_by_months_and_years)
{
    struct store *store;
    uint32_t agent, layout;
    struct arena arena;
    struct store_span *spans;
    size_t n;

    clock_set_source(the_day_after, NULL);
    store = open_store(0);
    agent = agent_of(store, "web-1");
    layout = layout_of(store, N_COLUMNS);
    put(store, agent, layout, 1, NOON_US - 32 * DAY_US);
    put(store, agent, layout, 2, NOON_US);
    ck_assert_int_eq(store_compact(store), 0);
    store_set_retention(store, 7 * DAY_US, 0);
    store_set_rollup_retention(store, 14 * DAY_US, 0);
    while (stats_of(store).n_days > 1 ||
           windows_of(store, agent, layout, 299, STORE_MINUTE_US).n_samples > 60)
        store_retain_now(store);
    for (int again = 0; again < 2; again++) {
        ck_assert_uint_eq(windows_of(store, agent, layout, 299, STORE_MINUTE_US).n_samples, 60);
        ck_assert_uint_eq(windows_of(store, agent, layout, 299, STORE_HOUR_US).n_samples, 120);
        ck_assert_int_eq(store_samples_reach(store).samples_us, NOON_US - DAY_US / 2);
        ck_assert_int_eq(store_samples_reach(store).whole_us, NOON_US - DAY_US / 2);
        arena_init(&arena, 1 << 20);
        ck_assert_int_eq(store_spans(store, agent, &arena, &spans, &n), 0);
        ck_assert_uint_eq(n, 1);
        ck_assert_int_eq(spans[0].first_us, NOON_US - 32 * DAY_US);
        ck_assert_uint_eq(spans[0].n_rows, 60);
        arena_deinit(&arena);
        ck_assert_uint_eq(facts_of(store, agent).n_series, N_COLUMNS);
        store_close(store);
        store = open_store(0);
    }
    store_close(store);
}
END_TEST

/* ---- damage ---- */

static void path_of(char to[static 512], const char *name)
{
    snprintf(to, 512, "%s/default/%s/data.mdb", store_path, name);
}

/* Turns a bit in every block that the file has. */
static void damage_blocks(const char *path)
{
    struct stat st;
    uint8_t *data, *end;
    int fd = open(path, O_RDWR), n = 0;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    data = mmap(NULL, (size_t) st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(data, MAP_FAILED);
    end = data + st.st_size;
    for (uint8_t *at = data; (at = memmem(at, (size_t) (end - at), "SNMB", 4)); at += 4, n++)
        at[20] ^= 4;
    ck_assert_int_gt(n, 0);
    munmap(data, (size_t) st.st_size);
    close(fd);
}

static void overwrite(const char *path)
{
    int fd = open(path, O_RDWR);

    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < 1024; i++)
        ck_assert_int_eq(write(fd, "damaged!", 8), 8);
    close(fd);
}

START_TEST(a_damaged_record_is_told_and_does_not_spoil_the_rest)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, N_COLUMNS);
    struct got got;
    char path[512];

    put(store, agent, layout, 1, NOON_US);
    ck_assert_int_eq(store_compact(store), 0);
    store_close(store);
    path_of(path, "rollup-1m/202610");
    damage_blocks(path);
    path_of(path, "rollup-1h/2026");
    damage_blocks(path);
    store = open_store(0);
    got = windows_of(store, agent, layout, 0, STORE_MINUTE_US);
    ck_assert_uint_eq(got.n_windows, 0);
    ck_assert_uint_eq(got.n_damaged, 1);
    /* What is late makes the records anew: the hour's, and of the day's what is still there. */
    put(store, agent, layout, 2, NOON_US + 60 * SECOND_US);
    ck_assert_int_eq(store_compact(store), 0);
    check_windows(store, agent, layout, 120, 2 * PUT_SUM);
    store_close(store);
}
END_TEST

START_TEST(a_period_that_is_no_database_is_set_aside_and_made_anew_from_samples)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, N_COLUMNS);
    char path[512];

    for (uint64_t i = 0; i < 30; i++)
        put(store, agent, layout, i + 1, NOON_US + (int64_t) i * STORE_HOUR_US);
    ck_assert_int_eq(store_compact(store), 0);
    check_windows(store, agent, layout, 1800, 30 * PUT_SUM);
    store_close(store);
    path_of(path, "rollup-1m/202610");
    overwrite(path);
    path_of(path, "rollup-1h/2026");
    overwrite(path);
    store = open_store(0);
    ck_assert_uint_eq(not_ready(store, agent, STORE_HOUR_US), 30);
    ck_assert_int_eq(store_compact(store), 0);
    ck_assert_uint_eq(not_ready(store, agent, STORE_HOUR_US), 0);
    check_windows(store, agent, layout, 1800, 30 * PUT_SUM);
    store_close(store);
}
END_TEST

START_TEST(an_hour_whose_samples_are_damaged_stays_as_it_was_rolled_up)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, N_COLUMNS);
    char path[512];

    put(store, agent, layout, 1, NOON_US);
    ck_assert_int_eq(store_compact(store), 0);
    store_close(store);
    path_of(path, "metrics/20261031");
    damage_blocks(path);
    store = open_store(0);
    put(store, agent, layout, 2, NOON_US + 60 * SECOND_US);
    put(store, agent, layout, 3, NOON_US + STORE_HOUR_US);
    ck_assert_int_eq(store_compact(store), 0);
    check_windows(store, agent, layout, 120, 2 * PUT_SUM);
    store_close(store);
}
END_TEST

/* ---- kills ---- */

#ifdef SENTINEL_FAULT_POINTS
static const char *const points[] = { "rollup_before_commit", "rollup_after_commit",
                                      "day_before_beginning", "compact_before_commit",
                                      "compact_after_commit" };

/* Goes on from what the store has: hours, and late rows of the first. */
static void put_and_roll(void *ctx)
{
    struct store *store = open_store(0);
    uint32_t agent = agent_of(store, "web-1"), layout = layout_of(store, N_COLUMNS);
    uint8_t spool[STORE_SPOOL_BYTES] = { 1 };
    struct store_run run = { 0 };

    (void) ctx;
    (void) !store_run_get(store, agent, STORE_METRICS, spool, &run);
    for (uint64_t i = run.last_sequence; i < run.last_sequence + 12; i++) {
        put(store, agent, layout, i + 1, NOON_US + (int64_t) (i % 4 ? i * 2400 : i) * SECOND_US);
        if (i % 3 == 2)
            ck_assert_int_eq(store_compact(store), 0);
    }
    store_close(store);
}

START_TEST(a_kill_at_any_point_leaves_the_old_windows_or_the_new_ones)
{
    int n_killed = 0;

    for (int n = 1; n <= 6; n++) {
        struct store *store;
        uint32_t agent, layout;
        uint8_t spool[STORE_SPOOL_BYTES] = { 1 };
        struct store_run run = { 0 };
        char fault[64];
        int status;

        snprintf(fault, sizeof(fault), "%s:%d", points[_i], n);
        setenv("SENTINEL_FAULT", fault, 1);
        status = in_child(put_and_roll, NULL);
        unsetenv("SENTINEL_FAULT");
        ck_assert((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || WEXITSTATUS(status) == 0);
        n_killed += WIFSIGNALED(status);
        store = open_store(0);
        agent = agent_of(store, "web-1");
        layout = layout_of(store, N_COLUMNS);
        ck_assert_int_eq(store_run_get(store, agent, STORE_METRICS, spool, &run), 0);
        ck_assert_int_eq(store_compact(store), 0);
        ck_assert_uint_eq(not_ready(store, agent, STORE_MINUTE_US), 0);
        ck_assert_uint_eq(not_ready(store, agent, STORE_HOUR_US), 0);
        check_windows(store, agent, layout, run.last_sequence * 60,
                      (double) run.last_sequence * PUT_SUM);
        store_close(store);
    }
    ck_assert_int_gt(n_killed, 0);
}
END_TEST
#endif

TCase *case_rollup(void)
{
    TCase *tcase = tcase_create("rollup");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_database, remove_database);
    tcase_add_test(tcase, what_is_over_is_rolled_up_and_what_is_late_once_more);
    tcase_add_test(tcase, the_hour_under_way_waits_until_it_is_over);
    tcase_add_test(tcase, windows_outlive_their_samples_and_go_by_months_and_years);
    tcase_add_test(tcase, a_damaged_record_is_told_and_does_not_spoil_the_rest);
    tcase_add_test(tcase, a_period_that_is_no_database_is_set_aside_and_made_anew_from_samples);
    tcase_add_test(tcase, an_hour_whose_samples_are_damaged_stays_as_it_was_rolled_up);
#ifdef SENTINEL_FAULT_POINTS
    tcase_add_loop_test(tcase, a_kill_at_any_point_leaves_the_old_windows_or_the_new_ones, 0,
                        sizeof(points) / sizeof(points[0]));
#endif
    return tcase;
}
