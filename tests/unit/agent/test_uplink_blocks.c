/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "agent/uplink/link.h"
#include "common/rpc/rpc.h"
#include "test_uplink_hub.h"

static struct hub hub;
static struct spool *spool;
static struct uplink *uplink;

static void set_up(void)
{
    hub_start(&hub);
    hub.log_block_version = LOGBLOCK_VERSION;
    hub_open_spool(&spool);
    uplink = hub_uplink(&hub, spool);
    ck_assert_int_eq(uplink_start(uplink), 0);
}

static void tear_down(void)
{
    uplink = uplink_free(uplink);
    spool = spool_close(spool);
    hub_stop(&hub);
}

/* Nothing is on its way any more, and nothing was dropped. */
static void expect_all_taken(void)
{
    struct spool_ledger ledger;

    do {
        ck_assert_int_ge(loop_run_once(hub.loop, 5), 0);
        spool_get_ledger(spool, SPOOL_LOGS, &ledger);
    } while (ledger.queued > 0);
    ck_assert_uint_eq(ledger.acknowledged, ledger.produced);
    ck_assert_uint_eq(hub.n_lines, ledger.produced);
    ck_assert_uint_eq(hub.n_skipped, 0);
}

/* Two large batches and a small one: what the hub says it takes, what the settings say, and how
 * many come as a block. */
static const struct {
    unsigned log_block_version, message_bytes, n_blocks;
    bool is_off;
} takings[] = {
    { LOGBLOCK_VERSION, 0, 2, false },
    { LOGBLOCK_VERSION, 4u << 20, 2, false },
    { LOGBLOCK_VERSION, 0, 0, true },
    { LOGBLOCK_VERSION, 40000, 1, false },
    { 0, 4u << 20, 0, false },
    { LOGBLOCK_VERSION - 1, 0, 0, false },
    { LOGBLOCK_VERSION + 1, 0, 0, false },
};

START_TEST(a_batch_of_logs_goes_as_a_block_to_a_hub_that_takes_them)
{
    enum { N_LARGE = 1000, N_MEDIUM = 400, N_SMALL = 40 };
    static const size_t n_lines[] = { N_LARGE, N_MEDIUM, N_SMALL };
    static struct spool_log_record lines[N_LARGE];
    const struct spool_log_attribute attribute = { span_of_text("unit"), span_of_text("cron") };
    struct uplink_pace pace = hub.options.pace;
    uint32_t crc = 0;
    char bodies[N_LARGE][100];

    hub.log_block_version = takings[_i].log_block_version;
    hub.message_bytes = takings[_i].message_bytes;
    pace.compresses_logs = !takings[_i].is_off;
    uplink_set_pace(uplink, &pace, 10000000);
    for (size_t i = 0; i < N_LARGE; i++) {
        const int len = snprintf(bodies[i], sizeof(bodies[i]), "line %zu of many, with some%c%zx",
                                 i, i % 3 ? ' ' : '\0', i * 7919);

        lines[i] = (struct spool_log_record){ .time_us = clock_wall().us + (int64_t) i,
                                              .observed_us = clock_wall().us,
                                              .severity = (uint32_t) i % 25,
                                              .source_offset = i * 100,
                                              .is_raw = i % 2,
                                              .body = span_of(bodies[i], (size_t) len),
                                              .attributes = &attribute,
                                              .n_attributes = 1 };
    }
    for (unsigned k = 0; k < 3; k++) {
        hub_put_records(uplink, lines, n_lines[k]);
        for (size_t i = 0; i < n_lines[k]; i++)
            crc = hub_add_line(crc, &lines[i]);
    }
    hub_until(&hub, hub.n_lines == N_LARGE + N_MEDIUM + N_SMALL);
    ck_assert_uint_eq(hub.lines_crc32c, crc);
    ck_assert_uint_eq(hub.n_blocks, takings[_i].n_blocks);
}
END_TEST

START_TEST(a_line_that_the_hub_refuses_in_a_block_is_found_too)
{
    static char wide[3000];
    const char *const bodies[] = { wide, wide, wide, wide, wide, "bad", wide, wide };

    memset(wide, 'a', sizeof(wide) - 1);
    hub_put_lines(uplink, bodies, 8);
    hub_until(&hub, hub.n_lines == 7 && hub.n_skipped == 1);
    ck_assert_uint_ge(hub.n_blocks, 2);
    ck_assert_uint_le(hub.n_refused_lines, 6); /* twice in a block */
}
END_TEST

START_TEST(what_blocks_are_made_with_is_kept_for_a_while)
{
    static char wide[3000];
    const char *const bodies[] = { wide, wide };

    memset(wide, 'a', sizeof(wide) - 1);
    hub_put_lines(uplink, bodies, 1);
    hub_until(&hub, hub.n_lines == 1);
    ck_assert_ptr_null(uplink->blocks.work);
    for (unsigned i = 0; i < 2; i++) {
        hub_put_lines(uplink, bodies, 2);
        hub_until(&hub, hub.n_blocks == i + 1);
        ck_assert_ptr_nonnull(uplink->blocks.work);
        ck_assert_int_gt(uplink->rest.due.us, clock_mono().us + 30000000);
        link_arm(uplink, &uplink->rest, 0); /* a minute later */
        hub_until(&hub, !uplink->blocks.work);
    }
}
END_TEST

/* Of one record and of three. */
static void put_wide(unsigned n_batches)
{
    static char wide[5 << 10];
    const char *const bodies[] = { wide, wide, wide };

    memset(wide, 'a', sizeof(wide) - 1);
    for (unsigned i = 0; i < n_batches; i++)
        hub_put_lines(uplink, bodies, i % 2 ? 3 : 1);
}

START_TEST(a_hub_that_refuses_every_block_gets_records)
{
    hub.is_refusing_blocks = true;
    for (unsigned i = 1; i <= 4; i++) {
        put_wide(2);
        hub_until(&hub, hub.logs_last == 2 * i);
        expect_all_taken();
        ck_assert_uint_eq(hub.n_refused_blocks, i < LINK_REFUSED_BLOCKS ? i : LINK_REFUSED_BLOCKS);
    }
    ck_assert_uint_eq(hub.logs_last, 8); /* none was halved */
    ck_assert_uint_eq(hub.n_blocks, 0);
    /* Another connection, another hub perhaps. */
    hub.is_refusing_blocks = false;
    uplink_reconnect(uplink);
    hub_until(&hub, uplink->status.streams == 2);
    put_wide(2);
    hub_until(&hub, hub.logs_last == 10);
    ck_assert_uint_eq(hub.n_blocks, 2);
    expect_all_taken();
}
END_TEST

START_TEST(a_block_that_is_taken_makes_good_for_those_that_were_not)
{
    for (unsigned i = 0; i < 2 * LINK_REFUSED_BLOCKS; i++) {
        hub.is_refusing_blocks = i % 2 == 0;
        put_wide(2);
        hub_until(&hub, hub.logs_last == 2 * (i + 1));
        expect_all_taken();
    }
    ck_assert_uint_eq(hub.n_blocks, 2 * LINK_REFUSED_BLOCKS);
    ck_assert_uint_eq(uplink->n_refused_blocks, 0);
    ck_assert_uint_eq(hub.n_refused_blocks, LINK_REFUSED_BLOCKS);
}
END_TEST

START_TEST(a_line_that_no_hub_takes_does_not_speak_against_blocks)
{
    static char wide[5 << 10];
    const char *const bodies[] = { "bad", wide, wide, wide, wide, wide, wide, wide };

    memset(wide, 'a', sizeof(wide) - 1);
    hub_put_lines(uplink, bodies, 8);
    hub_until(&hub, hub.n_lines == 7 && hub.n_skipped == 1);
    ck_assert_uint_eq(uplink->n_refused_blocks, 0);
    ck_assert_uint_ge(hub.n_blocks, 2);
}
END_TEST

/* The linker has the program's calls of logblock_encode() come here. */
int __real_logblock_encode(struct logblock_work *work, /* NOLINT(bugprone-reserved-identifier) */
                           const struct logblock_input *input,
                           struct buf *to);
__attribute__((used)) int
__wrap_logblock_encode(struct logblock_work *work, /* NOLINT(bugprone-reserved-identifier) */
                       const struct logblock_input *input,
                       struct buf *to);
static bool has_no_memory;

int __wrap_logblock_encode(struct logblock_work *work, /* NOLINT(bugprone-reserved-identifier) */
                           const struct logblock_input *input,
                           struct buf *to)
{
    return has_no_memory ? -ENOMEM : __real_logblock_encode(work, input, to);
}

START_TEST(what_finds_no_memory_for_a_block_goes_as_records)
{
    has_no_memory = true;
    put_wide(2);
    hub_until(&hub, hub.logs_last == 2);
    ck_assert_uint_eq(hub.n_blocks, 0);
    ck_assert_ptr_null(uplink->blocks.work);
    has_no_memory = false;
    put_wide(2);
    hub_until(&hub, hub.logs_last == 4);
    ck_assert_uint_eq(hub.n_blocks, 2);
    expect_all_taken();
    ck_assert_uint_eq(uplink->status.streams, 1);
}
END_TEST

TCase *case_uplink_blocks(void)
{
    TCase *blocks = tcase_create("blocks");

    tcase_set_timeout(blocks, 60);
    tcase_add_checked_fixture(blocks, hub_start_rpc, rpc_deinit);
    tcase_add_checked_fixture(blocks, set_up, tear_down);
    tcase_add_loop_test(blocks, a_batch_of_logs_goes_as_a_block_to_a_hub_that_takes_them, 0,
                        sizeof(takings) / sizeof(takings[0]));
    tcase_add_test(blocks, a_line_that_the_hub_refuses_in_a_block_is_found_too);
    tcase_add_test(blocks, a_hub_that_refuses_every_block_gets_records);
    tcase_add_test(blocks, a_block_that_is_taken_makes_good_for_those_that_were_not);
    tcase_add_test(blocks, a_line_that_no_hub_takes_does_not_speak_against_blocks);
    tcase_add_test(blocks, what_finds_no_memory_for_a_block_goes_as_records);
    tcase_add_test(blocks, what_blocks_are_made_with_is_kept_for_a_while);
    return blocks;
}
