/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load.h"
#include "common/base/crc32c.h"

#define N_ROWS 40
#define N_COLUMNS 6

enum { LIMIT, BYTES, TICKS, SHARE, SECONDS, ERRORS };

static double values[N_COLUMNS][N_ROWS];
static uint8_t phases[N_ROWS];
static struct replay_attribute attributes[] = { { "cpu.mode", "user" }, { "state", "used" } };
static struct replay_series series[N_COLUMNS] = {
    { .name = "memory.limit", .unit = "By", .values = values[LIMIT] },
    { .name = "memory.usage", .unit = "By", .values = values[BYTES] },
    { .name = "cpu.time", .unit = "s", .is_counter = true, .values = values[TICKS] },
    { .name = "memory.utilization", .unit = "1", .values = values[SHARE] },
    { .name = "stall.time", .unit = "s", .is_counter = true, .values = values[SECONDS] },
    { .name = "errors", .unit = "1", .is_counter = true, .values = values[ERRORS] },
};
static struct replay replay;
static struct tracks tracks;

/* Idle for rows 0 .. 9 and 20 .. 29. */
static void begin(void)
{
    for (int row = 0; row < N_ROWS; row++) {
        values[LIMIT][row] = 8589934592.0;
        values[BYTES][row] = 4096.0 * (1000 + row * 7 % 13);
        values[TICKS][row] = (500 + row * 3) / 100.0;
        values[SHARE][row] = (1000 + row * 7 % 13) / 2097152.7;
        values[SECONDS][row] = (123456 + row * row) / 1e6;
        values[ERRORS][row] = 0;
        phases[row] = row / 10 % 2 == 0 ? REPLAY_IDLE : REPLAY_MIXED;
    }
    series[TICKS].attributes = attributes;
    series[TICKS].n_attributes = 2;
    replay = (struct replay){ .first_us = INT64_C(1795428000000000),
                              .interval_us = 1000000,
                              .n_series = N_COLUMNS,
                              .n_rows = N_ROWS,
                              .series = series,
                              .phases = phases };
    ck_assert_int_eq(tracks_init(&tracks, &replay), 0);
}

static void end(void)
{
    tracks_deinit(&tracks);
}

/* ---- file ---- */

START_TEST(a_recording_reads_back_as_it_was_written)
{
    struct buf bytes = { 0 };
    const char *why = NULL;
    struct replay back;

    ck_assert_int_eq(replay_encode(&replay, &bytes), 0);
    ck_assert_int_eq(replay_decode(buf_span(&bytes), &back, &why), REPLAY_OK);
    ck_assert_int_eq(back.first_us, replay.first_us);
    ck_assert_int_eq(back.interval_us, replay.interval_us);
    ck_assert_uint_eq(back.n_series, N_COLUMNS);
    ck_assert_uint_eq(back.n_rows, N_ROWS);
    ck_assert_mem_eq(back.phases, phases, N_ROWS);
    for (int i = 0; i < N_COLUMNS; i++) {
        ck_assert_str_eq(back.series[i].name, series[i].name);
        ck_assert_str_eq(back.series[i].unit, series[i].unit);
        ck_assert_int_eq(back.series[i].is_counter, series[i].is_counter);
        ck_assert_mem_eq(back.series[i].values, values[i], sizeof(values[i]));
    }
    ck_assert_uint_eq(back.series[TICKS].n_attributes, 2);
    ck_assert_str_eq(back.series[TICKS].attributes[1].key, "state");
    ck_assert_str_eq(back.series[TICKS].attributes[1].value, "used");
    replay_deinit(&back);
    buf_deinit(&bytes);
}
END_TEST

START_TEST(values_that_repeat_take_no_room)
{
    struct buf some = { 0 }, more = { 0 };

    ck_assert_int_eq(replay_encode(&replay, &some), 0);
    for (int row = 0; row < N_ROWS; row++)
        values[BYTES][row] = 7;
    ck_assert_int_eq(replay_encode(&replay, &more), 0);
    ck_assert_uint_eq(some.len - more.len, (N_ROWS - 1) * 9);
    buf_deinit(&some);
    buf_deinit(&more);
}
END_TEST

START_TEST(a_file_that_is_cut_or_changed_is_refused)
{
    struct buf bytes = { 0 };
    const char *why = NULL;
    struct replay back;

    ck_assert_int_eq(replay_encode(&replay, &bytes), 0);
    for (size_t len = 0; len < bytes.len; len++)
        ck_assert_int_eq(replay_decode(span_of(bytes.data, len), &back, &why), REPLAY_BAD);
    for (size_t i = 0; i < bytes.len; i++) {
        bytes.data[i] ^= 0x10;
        ck_assert_int_eq(replay_decode(buf_span(&bytes), &back, &why), REPLAY_BAD);
        bytes.data[i] ^= 0x10;
    }
    ck_assert_ptr_nonnull(why);
    buf_deinit(&bytes);
}
END_TEST

/* Whatever stands in a file with a right checksum is read or refused, and nothing else happens. */
START_TEST(a_file_of_nonsense_with_a_right_checksum_does_no_harm)
{
    struct buf bytes = { 0 };
    const char *why = NULL;
    struct replay back;

    ck_assert_int_eq(replay_encode(&replay, &bytes), 0);
    for (size_t i = 0; i + 4 < bytes.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            uint32_t crc;

            bytes.data[i] ^= (uint8_t) (1 << bit);
            crc = crc32c(0, bytes.data, bytes.len - 4);
            memcpy(bytes.data + bytes.len - 4, &crc, 4);
            if (replay_decode(buf_span(&bytes), &back, &why) == REPLAY_OK)
                replay_deinit(&back);
            bytes.data[i] ^= (uint8_t) (1 << bit);
        }
    }
    buf_deinit(&bytes);
}
END_TEST

/* ---- tracks ---- */

START_TEST(a_value_depends_on_agent_series_and_scrape_alone)
{
    double first = tracks_value(&tracks, 5, BYTES, 3);

    (void) tracks_value(&tracks, 1, TICKS, 77);
    ck_assert_double_eq(tracks_value(&tracks, 5, BYTES, 3), first);
}
END_TEST

START_TEST(agents_and_copies_differ)
{
    ck_assert_double_ne(tracks_value(&tracks, 0, LIMIT, 0), tracks_value(&tracks, 1, LIMIT, 0));
    ck_assert_double_ne(tracks_value(&tracks, 0, LIMIT, 0),
                        tracks_value(&tracks, 0, LIMIT + N_COLUMNS, 0));
}
END_TEST

START_TEST(counters_never_fall_over_many_laps)
{
    for (uint32_t agent = 0; agent < 8; agent++)
        for (uint64_t scrape = 1; scrape < 5 * N_ROWS; scrape++)
            for (uint32_t i = TICKS; i < 2 * N_COLUMNS; i += N_COLUMNS)
                ck_assert_double_ge(tracks_value(&tracks, agent, i, scrape),
                                    tracks_value(&tracks, agent, i, scrape - 1));
}
END_TEST

START_TEST(decimals_and_granularity_stay)
{
    for (uint32_t agent = 0; agent < 8; agent++) {
        for (uint64_t scrape = 0; scrape < 2 * N_ROWS; scrape++) {
            double bytes = tracks_value(&tracks, agent, BYTES, scrape);
            double ticks = tracks_value(&tracks, agent, TICKS, scrape);
            double seconds = tracks_value(&tracks, agent, SECONDS, scrape);

            ck_assert_double_eq(fmod(bytes, 4096), 0);
            ck_assert_double_eq(round(ticks * 100) / 100, ticks);
            ck_assert_double_eq(round(seconds * 1e6) / 1e6, seconds);
        }
    }
}
END_TEST

START_TEST(what_is_zero_or_constant_stays_so)
{
    for (uint32_t agent = 0; agent < 8; agent++) {
        for (uint64_t scrape = 0; scrape < 2 * N_ROWS; scrape++) {
            ck_assert_double_eq(tracks_value(&tracks, agent, ERRORS, scrape), 0);
            ck_assert_double_eq(tracks_value(&tracks, agent, LIMIT, scrape),
                                tracks_value(&tracks, agent, LIMIT, 0));
        }
    }
}
END_TEST

START_TEST(gauges_stay_within_a_tenth_of_what_was_recorded)
{
    for (uint32_t agent = 0; agent < 8; agent++) {
        for (uint64_t scrape = 0; scrape < N_ROWS; scrape++) {
            double share = tracks_value(&tracks, agent, SHARE, scrape);

            ck_assert_double_ge(share, 1000 / 2097152.7 * 0.9);
            ck_assert_double_le(share, 1012 / 2097152.7 * 1.1);
        }
    }
}
END_TEST

START_TEST(idle_agents_see_no_other_phase)
{
    const struct track *idle = &tracks.tracks[TRACK_IDLE];

    ck_assert_uint_eq(idle->n_rows, 20);
    ck_assert(tracks_agent_is_idle(3) && !tracks_agent_is_idle(0));
    /* Row 10 of the idle track is row 20: the counter goes on from row 9. */
    ck_assert_double_eq(idle->cells[10 * N_COLUMNS + TICKS], idle->cells[9 * N_COLUMNS + TICKS]);
    ck_assert_double_gt(idle->cells[11 * N_COLUMNS + TICKS], idle->cells[10 * N_COLUMNS + TICKS]);
    ck_assert_double_eq(idle->cells[10 * N_COLUMNS + BYTES] * 4096, values[BYTES][20]);
}
END_TEST

START_TEST(a_recording_without_idle_phases_is_walked_whole_by_all)
{
    tracks_deinit(&tracks);
    memset(phases, REPLAY_BUSY, sizeof(phases));
    ck_assert_int_eq(tracks_init(&tracks, &replay), 0);
    ck_assert_uint_eq(tracks.tracks[TRACK_IDLE].n_rows, N_ROWS);
}
END_TEST

static double double_at(const uint8_t *from)
{
    double value;

    memcpy(&value, from, sizeof(value));
    return value;
}

START_TEST(putting_all_at_once_is_the_same_as_one_by_one)
{
    const uint32_t n = 2 * N_COLUMNS + 3;
    uint8_t *bytes = calloc(n, 8), *varying = calloc(n, 8);

    ck_assert(bytes && varying);
    for (uint32_t agent = 0; agent < 8; agent++) {
        tracks_put(&tracks, agent, 0, n, false, varying);
        for (uint64_t scrape = 0; scrape < 3 * N_ROWS; scrape++) {
            tracks_put(&tracks, agent, scrape, n, false, bytes);
            tracks_put(&tracks, agent, scrape, n, true, varying);
            ck_assert_mem_eq(varying, bytes, (size_t) n * 8);
            for (uint32_t i = 0; i < n; i++)
                ck_assert_double_eq(double_at(bytes + (size_t) i * 8),
                                    tracks_value(&tracks, agent, i, scrape));
        }
    }
    free(bytes);
    free(varying);
}
END_TEST

START_TEST(integers_are_known_as_such)
{
    ck_assert(tracks_is_integer(&tracks, LIMIT));
    ck_assert(tracks_is_integer(&tracks, BYTES + N_COLUMNS));
    ck_assert(!tracks_is_integer(&tracks, TICKS));
    ck_assert(!tracks_is_integer(&tracks, SHARE));
}
END_TEST

/* ---- as a load ---- */

static struct load load_of_recording(void)
{
    struct load load = { .n_agents = 8,
                         .n_series = 2 * N_COLUMNS,
                         .batch_scrapes = 1,
                         .first_us = 0,
                         .interval_us = 10000000,
                         .run = "00112233445566ff",
                         .replay = &replay,
                         .tracks = &tracks };

    ck_assert_int_eq(load_init(&load), 0);
    return load;
}

START_TEST(series_that_repeat_are_in_one_group)
{
    struct load load = load_of_recording();

    ck_assert_uint_eq(load.n_groups, N_COLUMNS);
    ck_assert_str_eq(load.groups[load.group_of[TICKS]].name, "cpu.time");
    ck_assert_uint_eq(load.group_of[TICKS], load.group_of[TICKS + N_COLUMNS]);
    ck_assert_uint_eq(load.groups[load.group_of[TICKS]].n_series, 2);
    load_deinit(&load);
}
END_TEST

START_TEST(constant_series_are_counted)
{
    struct load load = load_of_recording();

    ck_assert_uint_eq(load_n_constant(&load, 0, 2 * N_ROWS), 4); /* LIMIT, ERRORS, and copies */
    ck_assert_uint_eq(load_n_constant(&load, 0, 1), 2 * N_COLUMNS);
    load_deinit(&load);
}
END_TEST

START_TEST(scrapes_of_a_recording_are_late_but_in_their_step)
{
    struct load load = load_of_recording();
    bool is_late = false;

    for (uint32_t agent = 0; agent < load.n_agents; agent++) {
        for (uint64_t scrape = 0; scrape < 100; scrape++) {
            int64_t time_us = load_time_us(&load, agent, scrape);

            ck_assert_int_eq(time_us / load.interval_us, (int64_t) scrape);
            is_late = is_late || time_us % 1000 != 0;
        }
    }
    ck_assert(is_late);
    load_deinit(&load);
}
END_TEST

Suite *suite(void)
{
    Suite *suite = suite_create("bench/replay");
    TCase *tcase = tcase_create("file");

    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, a_recording_reads_back_as_it_was_written);
    tcase_add_test(tcase, values_that_repeat_take_no_room);
    tcase_add_test(tcase, a_file_that_is_cut_or_changed_is_refused);
    tcase_add_test(tcase, a_file_of_nonsense_with_a_right_checksum_does_no_harm);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("tracks");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, a_value_depends_on_agent_series_and_scrape_alone);
    tcase_add_test(tcase, agents_and_copies_differ);
    tcase_add_test(tcase, counters_never_fall_over_many_laps);
    tcase_add_test(tcase, decimals_and_granularity_stay);
    tcase_add_test(tcase, what_is_zero_or_constant_stays_so);
    tcase_add_test(tcase, gauges_stay_within_a_tenth_of_what_was_recorded);
    tcase_add_test(tcase, idle_agents_see_no_other_phase);
    tcase_add_test(tcase, a_recording_without_idle_phases_is_walked_whole_by_all);
    tcase_add_test(tcase, putting_all_at_once_is_the_same_as_one_by_one);
    tcase_add_test(tcase, integers_are_known_as_such);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("load");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, series_that_repeat_are_in_one_group);
    tcase_add_test(tcase, constant_series_are_counted);
    tcase_add_test(tcase, scrapes_of_a_recording_are_late_but_in_their_step);
    suite_add_tcase(suite, tcase);
    return suite;
}
