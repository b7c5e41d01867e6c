/* SPDX-License-Identifier: Apache-2.0 */

/* What is older than the hub takes: whole batches become skips. */

#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/file.h"
#include "test_spool_rig.h"

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

/* What drop_old() says of a reader that is opened for it. */
static struct spool_dropped drop_below(enum spool_signal signal, enum spool_lane lane, double limit)
{
    struct spool_dropped dropped = { 0 };
    struct spool_reader *reader;

    ck_assert_int_eq(spool_reader_open(&reader, rig.spool, signal, lane), 0);
    ck_assert_int_eq(spool_drop_old(reader, rig_is_below, &limit, &dropped), 0);
    ck_assert_ptr_null(spool_reader_close(reader));
    return dropped;
}

START_TEST(batches_that_the_hub_is_too_young_for_become_one_skip)
{
    struct spool_dropped dropped;
    struct spool_ledger ledger;

    rig_put_many(&rig, 1, 500);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 5, 5); /* 1 to 5 are there */
    dropped = drop_below(SPOOL_METRICS, SPOOL_LIVE, 400);
    ck_assert_uint_eq(dropped.batches, 394);
    ck_assert_uint_eq(dropped.records, 394 * RIG_SAMPLES);
    rig_kill(&rig); /* and it stays so */
    ledger = rig_ledger(&rig, SPOOL_METRICS);
    ck_assert_uint_eq(ledger.dropped[SPOOL_TOO_OLD], 394 * RIG_SAMPLES);
    ck_assert_uint_eq(ledger.queued, 100 * RIG_SAMPLES);
    ck_assert_uint_eq(ledger.queued_batches, 100);
    dropped = drop_below(SPOOL_METRICS, SPOOL_BACKFILL, 400);
    ck_assert_uint_eq(dropped.batches, 0);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 6);
    rig_expect_seen(&hub, 400, 500);
    ck_assert_uint_eq(hub.seen[6] + hub.seen[399], 0);
    ck_assert_uint_eq(hub.n_skips, 1);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], 394 * RIG_SAMPLES);
    ledger = rig_ledger(&rig, SPOOL_METRICS);
    ck_assert_uint_eq(ledger.queued, 0);
    ck_assert_uint_eq(ledger.produced, 499 * RIG_SAMPLES);
    ck_assert_uint_eq(ledger.acknowledged, 105 * RIG_SAMPLES);
}
END_TEST

/* The ledger of metrics now, and after a kill. Samples are counted in batches here. */
static void expect_ledger(uint64_t acknowledged, uint64_t queued, uint64_t too_old)
{
    for (int i = 0; i < 2; i++) {
        const struct spool_ledger ledger = rig_ledger(&rig, SPOOL_METRICS);

        ck_assert_uint_eq(ledger.acknowledged, acknowledged * RIG_SAMPLES);
        ck_assert_uint_eq(ledger.queued, queued * RIG_SAMPLES);
        ck_assert_uint_eq(ledger.queued_batches, queued);
        ck_assert_uint_eq(ledger.dropped[SPOOL_TOO_OLD], too_old * RIG_SAMPLES);
        ck_assert_uint_eq(ledger.dropped[0], too_old * RIG_SAMPLES);
        if (i == 0)
            rig_kill(&rig);
    }
}

START_TEST(what_goes_over_the_borders_of_segments_is_counted_once_after_a_kill)
{
    rig_set_limit(&rig, SPOOL_METRICS, 512u << 10, SPOOL_DROP_OLDEST);
    rig_put_many(&rig, 1, 2001);
    ck_assert_uint_ge(rig_count(&rig, "metrics", ".seg"), 4);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 5, 5);
    drop_below(SPOOL_METRICS, SPOOL_LIVE, 1100); /* within the third */
    expect_ledger(5, 901, 1094);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_BACKFILL, 1, 1); /* a skip alone */
    ck_assert_uint_eq(hub.n_skips, 1);
    expect_ledger(5, 901, 1094);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_BACKFILL, 1, 1);
    expect_ledger(5, 901, 1094);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_BACKFILL, 3, 2);
    expect_ledger(6, 900, 1094);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_ledger(906, 0, 1094);
    rig_expect_seen(&hub, 1, 6);
    rig_expect_seen(&hub, 1100, 2001);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], 1094 * RIG_SAMPLES);
}
END_TEST

START_TEST(the_place_of_segments_that_went_whole_is_free_at_once)
{
    struct spool_ledger before, behind;
    unsigned n_before;

    rig_set_limit(&rig, SPOOL_METRICS, 512u << 10, SPOOL_DROP_OLDEST);
    rig_put_many(&rig, 1, 2001);
    n_before = rig_count(&rig, "metrics", ".seg");
    before = rig_ledger(&rig, SPOOL_METRICS);
    drop_below(SPOOL_METRICS, SPOOL_LIVE, 1100);
    behind = rig_ledger(&rig, SPOOL_METRICS);
    ck_assert_uint_le(behind.queued_bytes + 2 * (60u << 10), before.queued_bytes);
    ck_assert_uint_eq(rig_count(&rig, "metrics", ".seg"), n_before - 2);
    expect_ledger(0, 901, 1099);
    rig_put_many(&rig, 2001, 2101);
    drop_below(SPOOL_METRICS, SPOOL_BACKFILL, RIG_MAX); /* all of a closed run */
    ck_assert_uint_eq(rig_count(&rig, "metrics", ".seg"), 1);
    expect_ledger(0, 100, 2000);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_ledger(100, 0, 2000);
    rig_expect_seen(&hub, 2001, 2101);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], 2000 * RIG_SAMPLES);
}
END_TEST

/* How often the state of metrics was written; it is in the newer one of two files. */
static uint64_t n_state_writes(void)
{
    uint64_t newest = 0;

    for (int i = 0; i < 2; i++) {
        CLEANUP(buf_deinit) struct buf content = { 0 };
        uint64_t generation = 0;
        char path[128];

        snprintf(path, sizeof(path), "%s/metrics/state.%d", rig.directory, i);
        ck_assert_int_eq(file_read(path, 1u << 20, &content), 0);
        ck_assert_uint_gt(content.len, 24);
        for (unsigned k = 0; k < 8; k++)
            generation |= (uint64_t) content.data[16 + k] << 8 * k;
        newest = generation > newest ? generation : newest;
    }
    return newest;
}

START_TEST(to_look_at_what_is_old_writes_the_state_once)
{
    uint64_t n;

    rig_put_many(&rig, 1, 500);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 5, 5);
    rig_kill(&rig);
    rig_put_many(&rig, 500, 600);
    n = n_state_writes();
    drop_below(SPOOL_METRICS, SPOOL_LIVE, 1); /* none, and the first is looked at */
    ck_assert_uint_eq(n_state_writes(), n + 1);
    drop_below(SPOOL_METRICS, SPOOL_LIVE, 1); /* once more */
    ck_assert_uint_eq(n_state_writes(), n + 1);
    drop_below(SPOOL_METRICS, SPOOL_LIVE, 1000);
    ck_assert_uint_eq(n_state_writes(), n + 2);
    drop_below(SPOOL_METRICS, SPOOL_BACKFILL, 450);
    ck_assert_uint_eq(n_state_writes(), n + 3);
    /* What is sent is written down as ever: it may be at the hub. */
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_BACKFILL, 20, 0);
    ck_assert_uint_gt(n_state_writes(), n + 3);
    rig_kill(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_expect_seen(&hub, 1, 6);
    rig_expect_seen(&hub, 450, 500);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], (444 + 100) * RIG_SAMPLES);
}
END_TEST

START_TEST(what_was_looked_at_is_remembered_as_sent_once_it_is)
{
    rig_put_many(&rig, 1, 200);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 5, 5);
    drop_below(SPOOL_METRICS, SPOOL_LIVE, 1);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 150, 0);
    rig_kill(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS); /* the hub has 155, and that is no surprise */
    rig_expect_seen(&hub, 1, 200);
}
END_TEST

START_TEST(only_so_much_is_looked_at_in_one_go_and_the_next_goes_on)
{
    const unsigned n_batches = 190, n_each = 1000;
    struct spool_dropped dropped;
    uint64_t n = 0;
    unsigned n_calls = 0;

    for (unsigned i = 0; i < n_batches; i++)
        ck_assert_int_eq(rig_put_logs(&rig, 1 + i * n_each, n_each), 0);
    ck_assert_uint_gt(rig_ledger(&rig, SPOOL_LOGS).queued_bytes, SPOOL_DROP_BYTES);
    do {
        dropped = drop_below(SPOOL_LOGS, SPOOL_LIVE, RIG_MAX);
        n += dropped.batches;
        ck_assert_uint_lt(dropped.batches, n_batches);
        n_calls += dropped.batches > 0;
    } while (dropped.batches > 0);
    ck_assert_uint_eq(n, n_batches);
    ck_assert_uint_gt(n_calls, 1);
    rig_drain(&rig, &hub, SPOOL_LOGS);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], n_batches * n_each);
}
END_TEST

/* The linker has the program's calls of realloc() come here. */
void *__real_realloc(void *data, size_t len); /* NOLINT(bugprone-reserved-identifier) */
__attribute__((used)) void *__wrap_realloc(void *data,
                                           size_t len); /* NOLINT(bugprone-reserved-identifier) */
static unsigned n_reallocs_left;                        /* the last of them fails; 0: none does */

void *__wrap_realloc(void *data, size_t len) /* NOLINT(bugprone-reserved-identifier) */
{
    if (n_reallocs_left > 0 && --n_reallocs_left == 0)
        return NULL;
    return __real_realloc(data, len);
}

/* Of the edits that follow, the second has no memory. */
static bool rig_is_below_and_memory_ends(void *ctx, const struct spool_item *item)
{
    const bool is_old = rig_is_below(ctx, item);

    if (!is_old)
        n_reallocs_left = 2;
    return is_old;
}

START_TEST(what_no_memory_is_left_for_stays_queued)
{
    struct spool_dropped dropped;
    struct spool_reader *reader;
    double limit = 1100;

    rig_set_limit(&rig, SPOOL_METRICS, 512u << 10, SPOOL_DROP_OLDEST);
    rig_put_many(&rig, 1, 2001);
    ck_assert_int_eq(spool_reader_open(&reader, rig.spool, SPOOL_METRICS, SPOOL_LIVE), 0);
    ck_assert_int_lt(spool_drop_old(reader, rig_is_below_and_memory_ends, &limit, &dropped), 0);
    ck_assert_uint_eq(n_reallocs_left, 0);
    ck_assert_ptr_null(spool_reader_close(reader));
    ck_assert_uint_gt(dropped.batches, 300); /* those of the first segment */
    ck_assert_uint_lt(dropped.batches, 700);
    ck_assert_uint_eq(dropped.records, dropped.batches * RIG_SAMPLES);
    expect_ledger(0, 2000 - dropped.batches, dropped.batches);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_ledger(2000 - dropped.batches, 0, dropped.batches);
    rig_expect_seen(&hub, 1 + dropped.batches, 2001);
}
END_TEST

START_TEST(what_is_left_of_a_split_batch_may_be_too_old_too)
{
    for (uint64_t first = 1; first < 100; first += 10)
        ck_assert_int_eq(rig_put_logs(&rig, first, 10), 0);
    hub.refused = 25; /* in the third: it is split, and a half of it comes again at the end */
    rig_stream(&rig, &hub, SPOOL_LOGS, SPOOL_LIVE, 1000, 1000);
    drop_below(SPOOL_LOGS, SPOOL_LIVE, 60);
    hub.refused = 0;
    rig_drain(&rig, &hub, SPOOL_LOGS);
    rig_expect_seen(&hub, 1, 21);
    rig_expect_seen(&hub, 26, 31); /* the half that was put anew is behind younger ones */
    rig_expect_seen(&hub, 51, 101);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).produced, 100);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).queued, 0);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).dropped[SPOOL_TOO_OLD],
                      hub.skipped[SPOOL_TOO_OLD]);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], 25); /* 21 to 25, 31 to 50 */
}
END_TEST

TCase *case_spool_old(void)
{
    TCase *tcase = tcase_create("old");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, batches_that_the_hub_is_too_young_for_become_one_skip);
    tcase_add_test(tcase, what_goes_over_the_borders_of_segments_is_counted_once_after_a_kill);
    tcase_add_test(tcase, the_place_of_segments_that_went_whole_is_free_at_once);
    tcase_add_test(tcase, to_look_at_what_is_old_writes_the_state_once);
    tcase_add_test(tcase, what_was_looked_at_is_remembered_as_sent_once_it_is);
    tcase_add_test(tcase, only_so_much_is_looked_at_in_one_go_and_the_next_goes_on);
    tcase_add_test(tcase, what_no_memory_is_left_for_stays_queued);
    tcase_add_test(tcase, what_is_left_of_a_split_batch_may_be_too_old_too);
    return tcase;
}
