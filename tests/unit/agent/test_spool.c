/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/file.h"
#include "common/base/rand.h"
#include "test_spool_rig.h"

#ifdef __SANITIZE_ADDRESS__
/* Of sanitizer/allocator_interface.h, which gcc has not everywhere. */
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

static struct rig rig;
static struct rig_hub hub;

static void set_up(void)
{
    rig_start(&rig);
    rig_hub_start(&hub);
    rig_open(&rig);
}

static void tear_down(void)
{
    rig_stop(&rig);
    rig_hub_stop(&hub);
}

START_TEST(batches_come_out_as_they_went_in)
{
    rig_put_many(&rig, 1, 50);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 50);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).acknowledged, 49 * RIG_SAMPLES);
    ck_assert_uint_eq(hub.n_runs, 1);
}
END_TEST

START_TEST(what_was_put_is_there_after_a_kill)
{
    rig_put_many(&rig, 1, 50);
    ck_assert_int_eq(rig_put_logs(&rig, 1, 20), 0);
    rig_kill(&rig);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).queued, 49 * RIG_SAMPLES);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).queued, 20);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).runs, 1);
    ck_assert_uint_eq(rig_offset(&rig), 21);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 50);
    memset(hub.seen, 0, RIG_MAX);
    rig_drain(&rig, &hub, SPOOL_LOGS);
    rig_expect_seen(&hub, 1, 21);
    /* Kept over any number of starts, with nothing queued. */
    rig_kill(&rig);
    rig_close(&rig);
    rig_open(&rig);
    ck_assert_uint_eq(rig_offset(&rig), 21);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).acknowledged, 20);
}
END_TEST

START_TEST(what_the_hub_has_without_having_said_so_is_not_sent_again)
{
    rig_put_many(&rig, 1, 30);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 20, 7);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).acknowledged, 7 * RIG_SAMPLES);
    rig_kill(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 30);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).acknowledged, 29 * RIG_SAMPLES);
}
END_TEST

START_TEST(an_acknowledgement_of_what_was_never_sent_is_refused)
{
    struct spool_reader *reader;
    struct spool_item item;

    rig_put_many(&rig, 1, 5);
    ck_assert_int_eq(spool_reader_open(&reader, rig.spool, SPOOL_METRICS, SPOOL_LIVE), 0);
    ck_assert_int_eq(spool_reader_resume(reader, 3), SPOOL_BEYOND);
    ck_assert_int_eq(spool_read(reader, &item), 0);
    ck_assert_int_eq(spool_acknowledge(reader, 2), SPOOL_BEYOND);
    ck_assert_int_eq(spool_acknowledge(reader, 1), 0);
    ck_assert_int_eq(spool_acknowledge(reader, 1), 0);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).acknowledged, RIG_SAMPLES);
    (void) spool_reader_close(reader);
}
END_TEST

static unsigned n_unsynced;
static int64_t last_in_us;

static void on_unsynced(void *ctx, int64_t in_us)
{
    (void) ctx;
    n_unsynced++;
    last_in_us = in_us;
}

#define SYNC_US INT64_C(10000000)

START_TEST(what_is_put_is_sent_once_it_is_synced_which_is_once_in_sync_us)
{
    struct spool_limits limits = rig.options.limits[SPOOL_METRICS];
    struct spool_reader *reader;
    struct spool_item item;

    n_unsynced = 0;
    rig_close(&rig);
    limits.sync_us = SYNC_US;
    rig.options.limits[SPOOL_METRICS] = limits;
    rig.options.on_unsynced = on_unsynced;
    rig_open(&rig);
    ck_assert_int_eq(spool_reader_open(&reader, rig.spool, SPOOL_METRICS, SPOOL_LIVE), 0);
    /* Nothing was synced for long. */
    rig_put(&rig, 1);
    ck_assert_uint_eq(n_unsynced, 1);
    ck_assert_int_eq(last_in_us, 0);
    ck_assert_int_eq(spool_read(reader, &item), SPOOL_EMPTY);
    (void) spool_tick(rig.spool);
    ck_assert_int_eq(spool_read(reader, &item), 0);
    /* Now it was: those that follow wait, and together. */
    rig_put(&rig, 2);
    rig_put(&rig, 3);
    ck_assert_uint_eq(n_unsynced, 2);
    ck_assert_int_gt(last_in_us, SYNC_US / 2);
    ck_assert_int_le(last_in_us, SYNC_US);
    ck_assert_int_le(spool_tick(rig.spool), last_in_us);
    ck_assert_int_eq(spool_read(reader, &item), SPOOL_EMPTY);
    /* New settings are those of what waits already. */
    limits.sync_us = 1;
    spool_set_limits(rig.spool, SPOOL_METRICS, &limits);
    ck_assert_uint_eq(n_unsynced, 3);
    ck_assert_int_eq(last_in_us, 0);
    ck_assert_int_eq(spool_read(reader, &item), SPOOL_EMPTY);
    (void) spool_tick(rig.spool);
    ck_assert_int_eq(spool_read(reader, &item), 0);
    ck_assert_int_eq(spool_read(reader, &item), 0);
    ck_assert_uint_eq(item.sequence, 3);
    (void) spool_reader_close(reader);
}
END_TEST

START_TEST(at_the_limit_the_oldest_goes_and_a_skip_says_so)
{
    struct spool_ledger ledger;
    uint64_t n = 0;

    rig_set_limit(&rig, SPOOL_METRICS, SPOOL_MIN_LIMIT_BYTES, SPOOL_DROP_OLDEST);
    rig_put_many(&rig, 1, 5000);
    ledger = rig_ledger(&rig, SPOOL_METRICS);
    ck_assert_uint_eq(ledger.produced, 4999 * RIG_SAMPLES);
    ck_assert_uint_gt(ledger.dropped[SPOOL_QUEUE_FULL], 0);
    ck_assert_uint_le(ledger.queued_bytes, SPOOL_MIN_LIMIT_BYTES);
    rig_kill(&rig);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).dropped[SPOOL_QUEUE_FULL],
                      ledger.dropped[SPOOL_QUEUE_FULL]);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    ck_assert_uint_eq(hub.skipped[SPOOL_QUEUE_FULL], ledger.dropped[SPOOL_QUEUE_FULL]);
    ck_assert_uint_eq(hub.n_skips, 1);
    for (uint64_t i = 1; i < 5000; i++)
        n += hub.seen[i];
    ck_assert_uint_eq(n * RIG_SAMPLES + ledger.dropped[0], ledger.produced);
    ck_assert_uint_eq(hub.seen[4999], 1);
    ck_assert_uint_eq(hub.seen[1], 0);
}
END_TEST

START_TEST(what_was_sent_is_never_dropped)
{
    rig_set_limit(&rig, SPOOL_METRICS, SPOOL_MIN_LIMIT_BYTES, SPOOL_DROP_OLDEST);
    rig_put_many(&rig, 1, 10);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 5, 0);
    rig_kill(&rig);
    rig_set_limit(&rig, SPOOL_METRICS, SPOOL_MIN_LIMIT_BYTES, SPOOL_DROP_OLDEST);
    rig_put_many(&rig, 10, 5000);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 10);
    ck_assert_uint_eq(hub.skipped[SPOOL_QUEUE_FULL],
                      rig_ledger(&rig, SPOOL_METRICS).dropped[SPOOL_QUEUE_FULL]);
}
END_TEST

START_TEST(at_the_limit_the_newest_goes_where_that_is_wanted)
{
    uint64_t n = 0;

    rig_set_limit(&rig, SPOOL_LOGS, SPOOL_MIN_LIMIT_BYTES, SPOOL_DROP_NEWEST);
    for (uint64_t i = 0; i < 2000; i++)
        ck_assert_int_eq(rig_put_logs(&rig, 1 + 10 * i, 10), 0);
    ck_assert_uint_eq(rig_offset(&rig), 20001);
    rig_kill(&rig);
    ck_assert_uint_eq(rig_offset(&rig), 20001);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).produced, 20000);
    rig_drain(&rig, &hub, SPOOL_LOGS);
    for (uint64_t i = 1; i < 20001; i++)
        n += hub.seen[i];
    rig_expect_seen(&hub, 1, 100);
    ck_assert_uint_eq(hub.seen[20000], 0);
    ck_assert_uint_eq(n + hub.skipped[SPOOL_QUEUE_FULL], 20000);
}
END_TEST

START_TEST(a_producer_that_may_wait_is_told_when_there_is_room)
{
    uint64_t next = 1;

    rig_set_limit(&rig, SPOOL_LOGS, SPOOL_MIN_LIMIT_BYTES, SPOOL_BLOCK);
    while (rig_put_logs(&rig, next, 10) == 0)
        next += 10;
    ck_assert_int_eq(rig_put_logs(&rig, next, 10), SPOOL_FULL);
    ck_assert_uint_eq(rig_offset(&rig), next);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).produced, next - 1);
    ck_assert_uint_eq(rig.n_rooms, 0);
    rig_drain(&rig, &hub, SPOOL_LOGS);
    ck_assert_uint_gt(rig.n_rooms, 0);
    ck_assert_int_eq(rig_put_logs(&rig, next, 10), 0);
    rig_drain(&rig, &hub, SPOOL_LOGS);
    rig_expect_seen(&hub, 1, next + 10);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).dropped[0], 0);
}
END_TEST

START_TEST(what_is_too_old_goes)
{
    rig_put_many(&rig, 1, 20);
    rig_close(&rig); /* ends the segment */
    rig_open(&rig);
    rig_put_many(&rig, 20, 30);
    spool_set_limits(rig.spool, SPOOL_METRICS,
                     &(struct spool_limits){ .limit_bytes = 16u << 20, .max_age_us = 1 });
    (void) spool_tick(rig.spool);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).dropped[SPOOL_TOO_OLD], 19 * RIG_SAMPLES);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], 19 * RIG_SAMPLES);
    rig_expect_seen(&hub, 20, 30);
}
END_TEST

START_TEST(a_refused_batch_of_logs_is_halved_until_the_record_is_alone)
{
    ck_assert_int_eq(rig_put_logs(&rig, 1, 100), 0);
    ck_assert_int_eq(rig_put_logs(&rig, 101, 10), 0);
    hub.refused = 37;
    for (int i = 0; i < 12; i++) {
        rig_stream(&rig, &hub, SPOOL_LOGS, i % 2 ? SPOOL_LIVE : SPOOL_BACKFILL, 1000, 1000);
        rig_stream(&rig, &hub, SPOOL_LOGS, SPOOL_LIVE, 1000, 1000);
        if (i % 3 == 0)
            rig_kill(&rig);
    }
    rig_drain(&rig, &hub, SPOOL_LOGS);
    rig_expect_seen(&hub, 1, 37);
    rig_expect_seen(&hub, 38, 111);
    ck_assert_uint_eq(hub.seen[37], 0);
    ck_assert_uint_eq(hub.skipped[SPOOL_REFUSED], 1);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).produced, 110);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).dropped[SPOOL_REFUSED], 1);
    ck_assert_uint_eq(rig_count(&rig, "refused", ".refused"), 1);
}
END_TEST

START_TEST(a_refused_scrape_is_set_aside_and_the_rest_goes_on)
{
    rig_put_many(&rig, 1, 10);
    hub.refused = 4;
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 4);
    rig_expect_seen(&hub, 5, 10);
    ck_assert_uint_eq(hub.skipped[SPOOL_REFUSED], RIG_SAMPLES);
    ck_assert_uint_eq(rig_count(&rig, "refused", ".refused"), 1);
}
END_TEST

START_TEST(a_forked_run_goes_on_from_1_under_a_new_id)
{
    struct spool_reader *reader;
    struct spool_run before, behind;

    rig_put_many(&rig, 1, 10);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 4, 4);
    ck_assert_int_eq(spool_reader_open(&reader, rig.spool, SPOOL_METRICS, SPOOL_LIVE), 0);
    spool_reader_get_run(reader, &before);
    spool_fork(reader);
    spool_reader_get_run(reader, &behind);
    (void) spool_reader_close(reader);
    ck_assert_int_ne(memcmp(before.id, behind.id, sizeof(before.id)), 0);
    ck_assert_uint_eq(before.first_sequence, 5);
    ck_assert_uint_eq(behind.first_sequence, 1);
    ck_assert_uint_eq(behind.last_sequence, 5);
    ck_assert_uint_eq(behind.crc32c_before_first, 0);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 2, 1);
    rig_kill(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 10);
}
END_TEST

START_TEST(a_run_that_fell_behind_is_closed_and_a_new_one_goes_first)
{
    rig_put_many(&rig, 1, 10);
    ck_assert_int_eq(spool_rotate(rig.spool, SPOOL_METRICS), 0);
    rig_put_many(&rig, 10, 15);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 100, 100);
    rig_expect_seen(&hub, 10, 15);
    ck_assert_uint_eq(hub.seen[1], 0);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_BACKFILL, 100, 100);
    rig_expect_seen(&hub, 1, 15);
    ck_assert_uint_eq(hub.n_runs, 2);
}
END_TEST

/* ---- damage ---- */

START_TEST(a_torn_tail_is_the_end_and_no_damage)
{
    char path[256];
    FILE *file;

    rig_put_many(&rig, 1, 10);
    rig_segment(&rig, SPOOL_METRICS, 0, path);
    rig_kill(&rig);
    rig_close(&rig);
    rig_segment(&rig, SPOOL_METRICS, 0, path);
    /* Without its end, and with half a frame. */
    file = fopen(path, "r+");
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    ck_assert_int_eq(ftruncate(fileno(file), ftell(file) - 72), 0);
    ck_assert_int_eq(fclose(file), 0);
    rig_open(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 9);
    ck_assert_uint_eq(rig_count(&rig, "metrics", ".damaged"), 0);
}
END_TEST

static void damage_and_drain(long offset, bool is_ended)
{
    char path[256];
    uint64_t n = 0;

    rig_put_many(&rig, 1, 200);
    if (is_ended)
        rig_close(&rig);
    else
        rig_kill(&rig);
    if (rig.spool)
        rig_close(&rig);
    rig_segment(&rig, SPOOL_METRICS, 0, path);
    rig_damage(path, offset);
    rig_open(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    for (uint64_t i = 1; i < 200; i++) {
        ck_assert_uint_le(hub.seen[i], 1);
        n += hub.seen[i];
    }
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).produced, 199 * RIG_SAMPLES);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).dropped[SPOOL_DAMAGED],
                      (199 - n) * RIG_SAMPLES);
    ck_assert_uint_eq(hub.skipped[SPOOL_DAMAGED], (199 - n) * RIG_SAMPLES);
}

START_TEST(a_damaged_batch_is_skipped_and_counted_and_the_segment_set_aside)
{
    damage_and_drain(20000, true);
    ck_assert_uint_eq(hub.n_skips, 1);
    ck_assert_uint_eq(hub.skipped[SPOOL_DAMAGED], RIG_SAMPLES);
    ck_assert_uint_eq(rig_count(&rig, "metrics", ".damaged"), 1);
}
END_TEST

START_TEST(damage_anywhere_is_skipped_and_counted)
{
    damage_and_drain(96 + 250 * _i, true);
}
END_TEST

START_TEST(a_segment_without_a_head_is_set_aside_and_counted)
{
    char path[256];

    rig_set_limit(&rig, SPOOL_METRICS, 1u << 20, SPOOL_DROP_OLDEST);
    rig_put_many(&rig, 1, 3000);
    rig_close(&rig);
    rig_segment(&rig, SPOOL_METRICS, 1, path);
    rig_damage(path, 50);
    rig_open(&rig);
    ck_assert_uint_eq(rig_count(&rig, "metrics", ".damaged"), 1);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).produced, 2999 * RIG_SAMPLES);
    ck_assert_uint_gt(rig_ledger(&rig, SPOOL_METRICS).dropped[SPOOL_DAMAGED], 0);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    ck_assert_uint_eq(hub.skipped[SPOOL_DAMAGED],
                      rig_ledger(&rig, SPOOL_METRICS).dropped[SPOOL_DAMAGED]);
    ck_assert_uint_eq(hub.seen[1], 1);
    ck_assert_uint_eq(hub.seen[2999], 1);
}
END_TEST

START_TEST(a_spool_without_its_state_still_opens)
{
    char path[256];

    rig_put_many(&rig, 1, 10);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 4, 4);
    rig_close(&rig);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/metrics/state.%d", rig.directory, i);
        (void) unlink(path);
    }
    rig_open(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 10);
}
END_TEST

START_TEST(one_process_at_a_time_has_it)
{
    struct spool *other;

    ck_assert_int_eq(spool_open(&other, &rig.options), SPOOL_IN_USE);
}
END_TEST

/* ---- disks that cannot be written ---- */

START_TEST(a_disk_that_is_full_is_made_good_by_memory)
{
    struct rlimit limit;

    (void) signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 50000; /* what the test program itself writes must fit */
    rig_put_many(&rig, 1, 5);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(spool_rotate(rig.spool, SPOOL_METRICS), 0);
    rig_put_many(&rig, 5, 50);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert(rig_ledger(&rig, SPOOL_METRICS).is_volatile);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 50);
    ck_assert_int_eq(spool_rotate(rig.spool, SPOOL_METRICS), 0);
    rig_put_many(&rig, 300, 310);
    rig_kill(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 300, 310);
}
END_TEST

START_TEST(without_a_directory_it_works_in_memory)
{
    rig_close(&rig);
    rig.options.directory = NULL;
    ck_assert_int_eq(spool_open(&rig.spool, &rig.options), 0);
    rig_put_many(&rig, 1, 100);
    ck_assert_int_eq(rig_put_logs(&rig, 1000, 5), 0);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_drain(&rig, &hub, SPOOL_LOGS);
    rig_expect_seen(&hub, 1, 100);
    rig_expect_seen(&hub, 1000, 1005);
}
END_TEST

/* ---- series that come and go ---- */

#define CHURN_SERIES 40

static struct spool_series *new_series(uint32_t number)
{
    struct spool_series *series;
    char name[32], key[64];
    size_t len;

    snprintf(name, sizeof(name), "test.%u", (unsigned) number);
    len = spool_series_key(name, NULL, key, sizeof(key));
    ck_assert_int_eq(spool_series_new(&series, number, SPOOL_GAUGE, "1", span_of(key, len)), 0);
    return series;
}

/* A layout of series of these numbers, which are their ids too. */
static struct spool_layout *new_layout(uint32_t id, const uint32_t *numbers, size_t n)
{
    struct spool_series *series[CHURN_SERIES];
    struct spool_layout *layout;

    for (size_t i = 0; i < n; i++)
        series[i] = new_series(numbers[i]);
    ck_assert_int_eq(spool_layout_new(&layout, id, series, n), 0);
    for (size_t i = 0; i < n; i++)
        (void) spool_series_unref(series[i]);
    return layout;
}

/* Each value is the number of its series. */
static void put_layout(struct spool_layout *layout)
{
    double values[CHURN_SERIES];

    for (size_t i = 0; i < layout->n_series; i++)
        values[i] = strtod(layout->series[i]->name + 5, NULL);
    ck_assert_int_eq(spool_put(rig.spool, &(struct spool_scrape){ .layout = layout,
                                                                  .time = clock_wall(),
                                                                  .boot_us = 1,
                                                                  .values = values }),
                     0);
}

/* The next is a scrape of `layout`: the same names in the same order, each with its value. */
static void expect_next(struct spool_reader *reader, const struct spool_layout *layout)
{
    struct spool_item item;

    ck_assert_int_eq(spool_read(reader, &item), 0);
    ck_assert(!item.is_skip);
    ck_assert_uint_eq(item.scrape.layout->n_series, layout->n_series);
    for (size_t i = 0; i < layout->n_series; i++) {
        ck_assert_str_eq(item.scrape.layout->series[i]->name, layout->series[i]->name);
        ck_assert_double_eq(item.scrape.values[i], strtod(layout->series[i]->name + 5, NULL));
    }
    ck_assert_int_eq(spool_acknowledge(reader, item.sequence), 0);
}

static size_t live_bytes(void)
{
#ifdef __SANITIZE_ADDRESS__
    return __sanitizer_get_current_allocated_bytes();
#else
    return mallinfo2().uordblks + mallinfo2().hblkhd;
#endif
}

/* Most series stay; two leave and two others come with each scrape. */
static void churn(struct spool_reader *reader, uint32_t from, uint32_t to)
{
    uint32_t numbers[CHURN_SERIES];

    for (uint32_t round = from; round < to; round++) {
        struct spool_layout *layout;

        for (uint32_t i = 0; i < CHURN_SERIES; i++)
            numbers[i] = i < CHURN_SERIES - 2 ? 1 + i : CHURN_SERIES + 2 * round + i;
        layout = new_layout(round + 1, numbers, CHURN_SERIES);
        put_layout(layout);
        expect_next(reader, layout);
        (void) spool_layout_unref(layout);
    }
}

/* One segment, as it lasts more than an hour at 10 s. */
START_TEST(series_that_left_take_no_memory)
{
    struct spool_reader *reader;
    size_t before;

    ck_assert_int_eq(spool_reader_open(&reader, rig.spool, SPOOL_METRICS, SPOOL_LIVE), 0);
    churn(reader, 0, 300);
    before = live_bytes();
    churn(reader, 300, 1100);
    ck_assert_uint_eq(rig_count(&rig, "metrics", ".seg"), 1);
    /* A pointer for each that was told, in steps. */
    ck_assert_uint_lt(live_bytes(), before + (24u << 10));
    (void) spool_reader_close(reader);
}
END_TEST

/* It, or a new one of series that left. Read at once, or each as it comes; in the segment that is
 * written, and in one that was ended. */
START_TEST(a_layout_that_comes_back_late_is_read_all_the_same)
{
    const bool is_read_at_once = _i % 2, is_ended = _i / 2 % 2, is_layout = _i / 4;
    struct spool_layout *layouts[60], *order[64], *extra;
    struct spool_reader *reader;
    size_t n = 0;

    for (uint32_t i = 0; i < 60; i++)
        layouts[i] = new_layout(i + 1, (uint32_t[]){ 1, 2, 100 + i, 200 + i }, 4);
    extra = is_layout ? spool_layout_ref(layouts[0])
                      : new_layout(61, (uint32_t[]){ 1, 103, 204, 2 }, 4);
    for (size_t i = 0; i < 60; i++) {
        order[n++] = layouts[i];
        if (i == 20)
            order[n++] = extra;
    }

    ck_assert_int_eq(spool_reader_open(&reader, rig.spool, SPOOL_METRICS, SPOOL_LIVE), 0);
    for (size_t i = 0; i < n; i++) {
        put_layout(order[i]);
        if (!is_read_at_once && !is_ended)
            expect_next(reader, order[i]);
    }
    if (is_ended) {
        reader = spool_reader_close(reader);
        rig_close(&rig);
        rig_open(&rig);
        ck_assert_int_eq(spool_reader_open(&reader, rig.spool, SPOOL_METRICS, SPOOL_BACKFILL), 0);
    }
    for (size_t i = 0; i < n && (is_read_at_once || is_ended); i++)
        expect_next(reader, order[i]);
    (void) spool_reader_close(reader);
    (void) spool_layout_unref(extra);
    for (size_t i = 0; i < 60; i++)
        (void) spool_layout_unref(layouts[i]);
}
END_TEST

/* ---- kills at any moment ---- */

static void drop_what_the_hub_has_not(enum spool_signal signal, enum spool_lane lane, double limit)
{
    struct spool_dropped dropped;
    struct spool_reader *reader;
    struct spool_run run;
    uint64_t last = 0;

    if (spool_reader_open(&reader, rig.spool, signal, lane) == SPOOL_EMPTY)
        return;
    spool_reader_get_run(reader, &run);
    for (size_t i = 0; i < hub.n_runs; i++)
        if (memcmp(hub.runs[i].id, run.id, SPOOL_ID_BYTES) == 0)
            last = hub.runs[i].last;
    ck_assert_int_eq(spool_reader_resume(reader, last), 0);
    ck_assert_int_eq(spool_drop_old(reader, rig_is_below, &limit, &dropped), 0);
    (void) spool_reader_close(reader);
}

/* Every number that was put came once, or was counted as dropped; whatever happened. */
START_TEST(nothing_is_lost_or_doubled_whatever_happens)
{
    enum spool_signal signal = _i % 2 ? SPOOL_LOGS : SPOOL_METRICS;
    uint64_t weight = signal == SPOOL_LOGS ? 1 : RIG_SAMPLES;
    uint64_t next = 1, n = 0;
    struct rand rand;

    rand_init(&rand, 1000 + (uint64_t) _i);
    for (int step = 0; step < 400; step++) {
        uint64_t what = rand_below(&rand, 100);
        enum spool_lane lane = rand_below(&rand, 2) ? SPOOL_LIVE : SPOOL_BACKFILL;

        rig_set_limit(&rig, signal, _i % 4 < 2 ? 16u << 20 : SPOOL_MIN_LIMIT_BYTES,
                      _i % 8 < 6 ? SPOOL_DROP_OLDEST : SPOOL_DROP_NEWEST);
        if (what < 60) {
            for (uint64_t i = rand_below(&rand, 60); i > 0; i--) {
                size_t few = 1 + (size_t) rand_below(&rand, 5);

                if (signal == SPOOL_METRICS)
                    rig_put(&rig, (double) next++);
                else if (rig_put_logs(&rig, next, few) == 0)
                    next += few;
            }
        } else if (what < 65) {
            drop_what_the_hub_has_not(signal, lane, (double) (next - rand_below(&rand, next)));
        } else if (what < 85) {
            unsigned max = (unsigned) rand_below(&rand, 100);

            (void) rig_stream(&rig, &hub, signal, lane, max, (unsigned) rand_below(&rand, max + 1));
        } else if (what < 90) {
            ck_assert_int_eq(spool_rotate(rig.spool, signal), 0);
        } else if (what < 97) {
            rig_kill(&rig);
        } else {
            rig_close(&rig);
            rig_open(&rig);
        }
        ck_assert_uint_eq(rig_ledger(&rig, signal).produced, (next - 1) * weight);
    }
    rig_drain(&rig, &hub, signal);
    for (uint64_t i = 1; i < next; i++) {
        ck_assert_msg(hub.seen[i] <= 1, "%llu came %u times", (unsigned long long) i,
                      (unsigned) hub.seen[i]);
        n += hub.seen[i];
    }
    ck_assert_uint_eq(n * weight, rig_ledger(&rig, signal).acknowledged);
    ck_assert_uint_eq((next - 1 - n) * weight, rig_ledger(&rig, signal).dropped[0]);
    ck_assert_uint_eq(hub.skipped[SPOOL_QUEUE_FULL],
                      rig_ledger(&rig, signal).dropped[SPOOL_QUEUE_FULL]);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], rig_ledger(&rig, signal).dropped[SPOOL_TOO_OLD]);
    ck_assert_uint_eq(rig_ledger(&rig, signal).dropped[SPOOL_DAMAGED], 0);
    if (signal == SPOOL_LOGS)
        ck_assert_uint_eq(rig_offset(&rig), next);
}
END_TEST

static void add(Suite *s, const char *name, const TTest *const *tests, size_t n)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 120);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(s, tcase);
}

#define ADD(suite, name, ...)                               \
    add(suite, name, (const TTest *const[]){ __VA_ARGS__ }, \
        sizeof((const TTest *const[]){ __VA_ARGS__ }) / sizeof(const TTest *))

Suite *suite(void)
{
    Suite *s = suite_create("agent/spool");
    TCase *loops = tcase_create("torture");

    ADD(s, "queue", batches_come_out_as_they_went_in, what_was_put_is_there_after_a_kill,
        what_the_hub_has_without_having_said_so_is_not_sent_again,
        an_acknowledgement_of_what_was_never_sent_is_refused,
        what_is_put_is_sent_once_it_is_synced_which_is_once_in_sync_us,
        a_forked_run_goes_on_from_1_under_a_new_id,
        a_run_that_fell_behind_is_closed_and_a_new_one_goes_first, one_process_at_a_time_has_it);
    ADD(s, "limits", at_the_limit_the_oldest_goes_and_a_skip_says_so,
        what_was_sent_is_never_dropped, at_the_limit_the_newest_goes_where_that_is_wanted,
        a_producer_that_may_wait_is_told_when_there_is_room, what_is_too_old_goes);
    ADD(s, "refused", a_refused_batch_of_logs_is_halved_until_the_record_is_alone,
        a_refused_scrape_is_set_aside_and_the_rest_goes_on);
    suite_add_tcase(s, case_spool_old());
    ADD(s, "damage", a_torn_tail_is_the_end_and_no_damage,
        a_damaged_batch_is_skipped_and_counted_and_the_segment_set_aside,
        a_segment_without_a_head_is_set_aside_and_counted, a_spool_without_its_state_still_opens);
    ADD(s, "disk", a_disk_that_is_full_is_made_good_by_memory,
        without_a_directory_it_works_in_memory);
    ADD(s, "series", series_that_left_take_no_memory);
    tcase_add_checked_fixture(loops, set_up, tear_down);
    tcase_set_timeout(loops, 300);
    tcase_add_loop_test(loops, a_layout_that_comes_back_late_is_read_all_the_same, 0, 8);
    tcase_add_loop_test(loops, damage_anywhere_is_skipped_and_counted, 0, 100);
    tcase_add_loop_test(loops, nothing_is_lost_or_doubled_whatever_happens, 0, 16);
    suite_add_tcase(s, loops);
    return s;
}
