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

/* Each of from .. to - 1 came once. */
static void expect_seen(uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        ck_assert_msg(hub.seen[i] == 1, "%llu came %u times", (unsigned long long) i,
                      (unsigned) hub.seen[i]);
}

static void put_many(uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        rig_put(&rig, (double) i);
}

START_TEST(batches_come_out_as_they_went_in)
{
    put_many(1, 50);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_seen(1, 50);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).acknowledged, 49 * RIG_SAMPLES);
    ck_assert_uint_eq(hub.n_runs, 1);
}
END_TEST

START_TEST(what_was_put_is_there_after_a_kill)
{
    put_many(1, 50);
    ck_assert_int_eq(rig_put_logs(&rig, 1, 20), 0);
    rig_kill(&rig);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).queued, 49 * RIG_SAMPLES);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).queued, 20);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).runs, 1);
    ck_assert_uint_eq(rig_offset(&rig), 21);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_seen(1, 50);
    memset(hub.seen, 0, RIG_MAX);
    rig_drain(&rig, &hub, SPOOL_LOGS);
    expect_seen(1, 21);
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
    put_many(1, 30);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 20, 7);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).acknowledged, 7 * RIG_SAMPLES);
    rig_kill(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_seen(1, 30);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).acknowledged, 29 * RIG_SAMPLES);
}
END_TEST

START_TEST(an_acknowledgement_of_what_was_never_sent_is_refused)
{
    struct spool_reader *reader;
    struct spool_item item;

    put_many(1, 5);
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

static void set_limit(enum spool_signal signal, uint64_t bytes, enum spool_policy policy)
{
    spool_set_limits(rig.spool, signal,
                     &(struct spool_limits){ .limit_bytes = bytes, .policy = policy });
}

START_TEST(at_the_limit_the_oldest_goes_and_a_skip_says_so)
{
    struct spool_ledger ledger;
    uint64_t n = 0;

    set_limit(SPOOL_METRICS, SPOOL_MIN_LIMIT_BYTES, SPOOL_DROP_OLDEST);
    put_many(1, 5000);
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
    set_limit(SPOOL_METRICS, SPOOL_MIN_LIMIT_BYTES, SPOOL_DROP_OLDEST);
    put_many(1, 10);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 5, 0);
    rig_kill(&rig);
    set_limit(SPOOL_METRICS, SPOOL_MIN_LIMIT_BYTES, SPOOL_DROP_OLDEST);
    put_many(10, 5000);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_seen(1, 10);
    ck_assert_uint_eq(hub.skipped[SPOOL_QUEUE_FULL],
                      rig_ledger(&rig, SPOOL_METRICS).dropped[SPOOL_QUEUE_FULL]);
}
END_TEST

START_TEST(at_the_limit_the_newest_goes_where_that_is_wanted)
{
    uint64_t n = 0;

    set_limit(SPOOL_LOGS, SPOOL_MIN_LIMIT_BYTES, SPOOL_DROP_NEWEST);
    for (uint64_t i = 0; i < 2000; i++)
        ck_assert_int_eq(rig_put_logs(&rig, 1 + 10 * i, 10), 0);
    ck_assert_uint_eq(rig_offset(&rig), 20001);
    rig_kill(&rig);
    ck_assert_uint_eq(rig_offset(&rig), 20001);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).produced, 20000);
    rig_drain(&rig, &hub, SPOOL_LOGS);
    for (uint64_t i = 1; i < 20001; i++)
        n += hub.seen[i];
    expect_seen(1, 100);
    ck_assert_uint_eq(hub.seen[20000], 0);
    ck_assert_uint_eq(n + hub.skipped[SPOOL_QUEUE_FULL], 20000);
}
END_TEST

START_TEST(a_producer_that_may_wait_is_told_when_there_is_room)
{
    uint64_t next = 1;

    set_limit(SPOOL_LOGS, SPOOL_MIN_LIMIT_BYTES, SPOOL_BLOCK);
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
    expect_seen(1, next + 10);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).dropped[0], 0);
}
END_TEST

START_TEST(what_is_too_old_goes)
{
    put_many(1, 20);
    rig_close(&rig); /* ends the segment */
    rig_open(&rig);
    put_many(20, 30);
    spool_set_limits(rig.spool, SPOOL_METRICS,
                     &(struct spool_limits){ .limit_bytes = 16u << 20, .max_age_us = 1 });
    (void) spool_tick(rig.spool);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_METRICS).dropped[SPOOL_TOO_OLD], 19 * RIG_SAMPLES);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], 19 * RIG_SAMPLES);
    expect_seen(20, 30);
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
    expect_seen(1, 37);
    expect_seen(38, 111);
    ck_assert_uint_eq(hub.seen[37], 0);
    ck_assert_uint_eq(hub.skipped[SPOOL_REFUSED], 1);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).produced, 110);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).dropped[SPOOL_REFUSED], 1);
    ck_assert_uint_eq(rig_count(&rig, "refused", ".refused"), 1);
}
END_TEST

static bool is_below(void *ctx, const struct spool_item *item)
{
    const double *limit = ctx;

    if (item->scrape.layout)
        return item->scrape.values[0] < *limit;
    for (size_t i = 0; i < item->logs.n_records; i++)
        if (strtod((const char *) item->logs.records[i].body.data, NULL) >= *limit)
            return false;
    return true;
}

/* What drop_old() says of a reader that is opened for it. */
static struct spool_dropped drop_below(enum spool_signal signal, enum spool_lane lane, double limit)
{
    struct spool_dropped dropped = { 0 };
    struct spool_reader *reader;

    ck_assert_int_eq(spool_reader_open(&reader, rig.spool, signal, lane), 0);
    ck_assert_int_eq(spool_drop_old(reader, is_below, &limit, &dropped), 0);
    ck_assert_ptr_null(spool_reader_close(reader));
    return dropped;
}

START_TEST(batches_that_the_hub_is_too_young_for_become_one_skip)
{
    struct spool_dropped dropped;
    struct spool_ledger ledger;

    put_many(1, 500);
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
    expect_seen(1, 6);
    expect_seen(400, 500);
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
    set_limit(SPOOL_METRICS, 512u << 10, SPOOL_DROP_OLDEST);
    put_many(1, 2001);
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
    expect_seen(1, 6);
    expect_seen(1100, 2001);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], 1094 * RIG_SAMPLES);
}
END_TEST

START_TEST(the_place_of_segments_that_went_whole_is_free_at_once)
{
    struct spool_ledger before, behind;
    unsigned n_before;

    set_limit(SPOOL_METRICS, 512u << 10, SPOOL_DROP_OLDEST);
    put_many(1, 2001);
    n_before = rig_count(&rig, "metrics", ".seg");
    before = rig_ledger(&rig, SPOOL_METRICS);
    drop_below(SPOOL_METRICS, SPOOL_LIVE, 1100);
    behind = rig_ledger(&rig, SPOOL_METRICS);
    ck_assert_uint_le(behind.queued_bytes + 2 * (60u << 10), before.queued_bytes);
    ck_assert_uint_eq(rig_count(&rig, "metrics", ".seg"), n_before - 2);
    expect_ledger(0, 901, 1099);
    put_many(2001, 2101);
    drop_below(SPOOL_METRICS, SPOOL_BACKFILL, RIG_MAX); /* all of a closed run */
    ck_assert_uint_eq(rig_count(&rig, "metrics", ".seg"), 1);
    expect_ledger(0, 100, 2000);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_ledger(100, 0, 2000);
    expect_seen(2001, 2101);
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

    put_many(1, 500);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 5, 5);
    rig_kill(&rig);
    put_many(500, 600);
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
    expect_seen(1, 6);
    expect_seen(450, 500);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], (444 + 100) * RIG_SAMPLES);
}
END_TEST

START_TEST(what_was_looked_at_is_remembered_as_sent_once_it_is)
{
    put_many(1, 200);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 5, 5);
    drop_below(SPOOL_METRICS, SPOOL_LIVE, 1);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 150, 0);
    rig_kill(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS); /* the hub has 155, and that is no surprise */
    expect_seen(1, 200);
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
static bool is_below_and_memory_ends(void *ctx, const struct spool_item *item)
{
    const bool is_old = is_below(ctx, item);

    if (!is_old)
        n_reallocs_left = 2;
    return is_old;
}

START_TEST(what_no_memory_is_left_for_stays_queued)
{
    struct spool_dropped dropped;
    struct spool_reader *reader;
    double limit = 1100;

    set_limit(SPOOL_METRICS, 512u << 10, SPOOL_DROP_OLDEST);
    put_many(1, 2001);
    ck_assert_int_eq(spool_reader_open(&reader, rig.spool, SPOOL_METRICS, SPOOL_LIVE), 0);
    ck_assert_int_lt(spool_drop_old(reader, is_below_and_memory_ends, &limit, &dropped), 0);
    ck_assert_uint_eq(n_reallocs_left, 0);
    ck_assert_ptr_null(spool_reader_close(reader));
    ck_assert_uint_gt(dropped.batches, 300); /* those of the first segment */
    ck_assert_uint_lt(dropped.batches, 700);
    ck_assert_uint_eq(dropped.records, dropped.batches * RIG_SAMPLES);
    expect_ledger(0, 2000 - dropped.batches, dropped.batches);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_ledger(2000 - dropped.batches, 0, dropped.batches);
    expect_seen(1 + dropped.batches, 2001);
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
    expect_seen(1, 21);
    expect_seen(26, 31); /* the half that was put anew is behind younger ones */
    expect_seen(51, 101);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).produced, 100);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).queued, 0);
    ck_assert_uint_eq(rig_ledger(&rig, SPOOL_LOGS).dropped[SPOOL_TOO_OLD],
                      hub.skipped[SPOOL_TOO_OLD]);
    ck_assert_uint_eq(hub.skipped[SPOOL_TOO_OLD], 25); /* 21 to 25, 31 to 50 */
}
END_TEST

START_TEST(a_refused_scrape_is_set_aside_and_the_rest_goes_on)
{
    put_many(1, 10);
    hub.refused = 4;
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_seen(1, 4);
    expect_seen(5, 10);
    ck_assert_uint_eq(hub.skipped[SPOOL_REFUSED], RIG_SAMPLES);
    ck_assert_uint_eq(rig_count(&rig, "refused", ".refused"), 1);
}
END_TEST

START_TEST(a_forked_run_goes_on_from_1_under_a_new_id)
{
    struct spool_reader *reader;
    struct spool_run before, behind;

    put_many(1, 10);
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
    expect_seen(1, 10);
}
END_TEST

START_TEST(a_run_that_fell_behind_is_closed_and_a_new_one_goes_first)
{
    put_many(1, 10);
    ck_assert_int_eq(spool_rotate(rig.spool, SPOOL_METRICS), 0);
    put_many(10, 15);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 100, 100);
    expect_seen(10, 15);
    ck_assert_uint_eq(hub.seen[1], 0);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_BACKFILL, 100, 100);
    expect_seen(1, 15);
    ck_assert_uint_eq(hub.n_runs, 2);
}
END_TEST

/* ---- damage ---- */

START_TEST(a_torn_tail_is_the_end_and_no_damage)
{
    char path[256];
    FILE *file;

    put_many(1, 10);
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
    expect_seen(1, 9);
    ck_assert_uint_eq(rig_count(&rig, "metrics", ".damaged"), 0);
}
END_TEST

static void damage_and_drain(long offset, bool is_ended)
{
    char path[256];
    uint64_t n = 0;

    put_many(1, 200);
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

    set_limit(SPOOL_METRICS, 1u << 20, SPOOL_DROP_OLDEST);
    put_many(1, 3000);
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

    put_many(1, 10);
    rig_stream(&rig, &hub, SPOOL_METRICS, SPOOL_LIVE, 4, 4);
    rig_close(&rig);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/metrics/state.%d", rig.directory, i);
        (void) unlink(path);
    }
    rig_open(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_seen(1, 10);
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
    put_many(1, 5);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(spool_rotate(rig.spool, SPOOL_METRICS), 0);
    put_many(5, 50);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert(rig_ledger(&rig, SPOOL_METRICS).is_volatile);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_seen(1, 50);
    ck_assert_int_eq(spool_rotate(rig.spool, SPOOL_METRICS), 0);
    put_many(300, 310);
    rig_kill(&rig);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    expect_seen(300, 310);
}
END_TEST

START_TEST(without_a_directory_it_works_in_memory)
{
    rig_close(&rig);
    rig.options.directory = NULL;
    ck_assert_int_eq(spool_open(&rig.spool, &rig.options), 0);
    put_many(1, 100);
    ck_assert_int_eq(rig_put_logs(&rig, 1000, 5), 0);
    rig_drain(&rig, &hub, SPOOL_METRICS);
    rig_drain(&rig, &hub, SPOOL_LOGS);
    expect_seen(1, 100);
    expect_seen(1000, 1005);
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
    ck_assert_int_eq(spool_drop_old(reader, is_below, &limit, &dropped), 0);
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

        set_limit(signal, _i % 4 < 2 ? 16u << 20 : SPOOL_MIN_LIMIT_BYTES,
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
        a_forked_run_goes_on_from_1_under_a_new_id,
        a_run_that_fell_behind_is_closed_and_a_new_one_goes_first, one_process_at_a_time_has_it);
    ADD(s, "limits", at_the_limit_the_oldest_goes_and_a_skip_says_so,
        what_was_sent_is_never_dropped, at_the_limit_the_newest_goes_where_that_is_wanted,
        a_producer_that_may_wait_is_told_when_there_is_room, what_is_too_old_goes);
    ADD(s, "refused", a_refused_batch_of_logs_is_halved_until_the_record_is_alone,
        a_refused_scrape_is_set_aside_and_the_rest_goes_on,
        batches_that_the_hub_is_too_young_for_become_one_skip,
        what_goes_over_the_borders_of_segments_is_counted_once_after_a_kill,
        the_place_of_segments_that_went_whole_is_free_at_once,
        to_look_at_what_is_old_writes_the_state_once,
        what_was_looked_at_is_remembered_as_sent_once_it_is,
        only_so_much_is_looked_at_in_one_go_and_the_next_goes_on,
        what_no_memory_is_left_for_stays_queued, what_is_left_of_a_split_batch_may_be_too_old_too);
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
