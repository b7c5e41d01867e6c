/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/uplink/encode.h"
#include "agent/uplink/link.h"
#include "agent/uplink/policy.h"
#include "common/base/file.h"
#include "common/log/log.h"
#include "common/rpc/rpc.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"
#include "test_uplink_hub.h"

/* ---- the stream, against a hub of ours ---- */

static struct hub hub;
static struct spool *spool;
static struct uplink *uplink;

static void set_up(void)
{
    hub_start(&hub);
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

static void put(double value)
{
    struct spool_layout *layout = hub.layout;

    ck_assert_int_eq(spool_put(spool, &(struct spool_scrape){ .layout = layout,
                                                              .time = clock_wall(),
                                                              .boot_us = uplink_boot_us(),
                                                              .values = &value }),
                     0);
    uplink_kick(uplink);
}

static uint64_t acknowledged(void)
{
    struct spool_ledger ledger; /* a sample is a batch here */

    spool_get_ledger(spool, SPOOL_METRICS, &ledger);
    return ledger.produced - ledger.queued;
}

static struct uplink_status status(void)
{
    struct uplink_status ret;

    uplink_get_status(uplink, &ret);
    return ret;
}

START_TEST(batches_reach_the_hub_and_are_acknowledged)
{
    struct spool_ledger ledger;

    put(1);
    put(2);
    hub_until(&hub, acknowledged() == 2);
    put(3);
    hub_until(&hub, acknowledged() == 3);
    ck_assert_int_eq(status().state, UPLINK_STREAMING);
    ck_assert_str_eq(status().hub_version, "hub-test");
    ck_assert_uint_eq(hub.n_stored, 3);
    ck_assert_uint_eq(hub.n_declared, 1);
    spool_get_ledger(spool, SPOOL_METRICS, &ledger);
    ck_assert_uint_eq(ledger.acknowledged, 3);
    ck_assert_uint_eq(ledger.queued_bytes, 0);
}
END_TEST

/* Where series come and go each layout is another one, and the hub keeps all of a stream. */
START_TEST(a_stream_that_was_told_much_gives_way_to_a_new_one)
{
    enum { N_SERIES = 2000, N_LAYOUTS = 80 };
    static struct spool_series *series[N_SERIES];
    static double values[N_SERIES];

    for (uint32_t i = 0; i < N_SERIES; i++) {
        char key[32];
        const int len = snprintf(key, sizeof(key), "test.%u", (unsigned) i);

        ck_assert_int_eq(
            spool_series_new(&series[i], 1 + i, SPOOL_GAUGE, "1", span_of(key, (size_t) len + 1)),
            0);
    }
    for (uint32_t i = 0; i < N_LAYOUTS; i++) {
        struct spool_layout *layout;

        ck_assert_int_eq(spool_layout_new(&layout, 1 + i, series, N_SERIES - i), 0);
        ck_assert_int_eq(spool_put(spool, &(struct spool_scrape){ .layout = layout,
                                                                  .time = clock_wall(),
                                                                  .boot_us = uplink_boot_us(),
                                                                  .values = values }),
                         0);
        (void) spool_layout_unref(layout);
        uplink_kick(uplink);
        if (i % 5 == 4)
            hub_until(&hub, hub.n_stored == i + 1);
    }
    ck_assert_uint_eq(hub.n_stored, N_LAYOUTS);
    ck_assert_uint_eq(hub.n_doubles, 0);
    /* Three streams; each was told of all, or of those that are left. */
    ck_assert_uint_gt(hub.n_declared, 2 * N_SERIES);
    ck_assert_uint_le(hub.n_declared, 3 * N_SERIES);
    ck_assert_int_eq(status().state, UPLINK_STREAMING);
    ck_assert_str_eq(status().error_reason, "");
    for (size_t i = 0; i < N_SERIES; i++)
        (void) spool_series_unref(series[i]);
}
END_TEST

/* One for each of the three things that a hub bounds. */
static const struct {
    unsigned agent_series;
    uint32_t n_members, shrinks_by, moves_by, moves_within;
} crowds[] = {
    { 2000, 1500, 0, 100, 5400 }, /* series */
    { 2000, 2000, 1, 0, 1 },      /* members of layouts */
    { 3, 1, 0, 1, 3 },            /* layouts */
};

START_TEST(a_stream_is_told_no_more_than_the_hub_takes)
{
    enum { N_SERIES = 5400, N_LAYOUTS = 40 };
    static struct spool_series *series[N_SERIES];
    static double values[N_SERIES];

    hub.agent_series = crowds[_i].agent_series;
    for (uint32_t i = 0; i < N_SERIES; i++) {
        char key[32];
        const int len = snprintf(key, sizeof(key), "test.%u", (unsigned) i);

        ck_assert_int_eq(
            spool_series_new(&series[i], 1 + i, SPOOL_GAUGE, "1", span_of(key, (size_t) len + 1)),
            0);
    }
    for (uint32_t i = 0; i < N_LAYOUTS; i++) {
        const uint32_t first = i * crowds[_i].moves_by % crowds[_i].moves_within;
        struct spool_layout *layout;

        ck_assert_int_eq(spool_layout_new(&layout, 1 + i, series + first,
                                          crowds[_i].n_members - i * crowds[_i].shrinks_by),
                         0);
        ck_assert_int_eq(spool_put(spool, &(struct spool_scrape){ .layout = layout,
                                                                  .time = clock_wall(),
                                                                  .boot_us = uplink_boot_us(),
                                                                  .values = values }),
                         0);
        (void) spool_layout_unref(layout);
        uplink_kick(uplink);
        if (i % 5 == 4)
            hub_until(&hub, hub.n_stored == i + 1 || hub.n_crowded > 0);
    }
    ck_assert_uint_eq(hub.n_crowded, 0);
    ck_assert_uint_eq(hub.n_stored, N_LAYOUTS);
    ck_assert_uint_eq(hub.n_doubles, 0);
    ck_assert_uint_gt(hub.n_streams, 2);
    ck_assert_uint_lt(hub.n_streams, 16);
    ck_assert_int_eq(status().state, UPLINK_STREAMING);
    ck_assert_str_eq(status().error_reason, "");
    for (size_t i = 0; i < N_SERIES; i++)
        (void) spool_series_unref(series[i]);
}
END_TEST

START_TEST(a_hub_that_restarts_gets_each_batch_once)
{
    put(1);
    hub_until(&hub, acknowledged() == 1);
    hub_set_silent(&hub, true); /* stores, does not say so */
    put(2);
    put(3);
    hub_until(&hub, hub.last == 3);
    hub_restart(&hub);
    put(4);
    hub_until(&hub, acknowledged() == 4);
    ck_assert_uint_eq(hub.n_stored, 4);
    ck_assert_uint_eq(hub.n_doubles, 0);
    ck_assert_uint_ge(status().streams, 2);
    /* The next hello proves by its CRC that the run is the same. */
    hub_restart(&hub);
    put(5);
    hub_until(&hub, acknowledged() == 5);
    ck_assert_uint_eq(hub.n_forked, 0);
}
END_TEST

START_TEST(a_window_bounds_what_is_on_its_way)
{
    hub_set_silent(&hub, true);
    for (int i = 0; i < 20; i++)
        put(i);
    hub_until(&hub, hub.last == HUB_WINDOW);
    for (int i = 0; i < 20; i++)
        ck_assert_int_ge(loop_run_once(hub.loop, 5), 0);
    ck_assert_uint_eq(hub.last, HUB_WINDOW);
    ck_assert_uint_eq(status().unacknowledged, HUB_WINDOW);
    hub_set_silent(&hub, false);
    hub_until(&hub, acknowledged() == 20);
}
END_TEST

START_TEST(a_refused_batch_is_set_aside_and_the_rest_goes_on)
{
    struct spool_ledger ledger;

    hub.refused_value = 2;
    put(1);
    put(2);
    put(3);
    hub_until(&hub, acknowledged() == 3 && hub.n_skipped == 1 && hub.n_stored == 2);
    ck_assert_uint_eq(hub.n_skipped, 1);
    spool_get_ledger(spool, SPOOL_METRICS, &ledger);
    ck_assert_uint_eq(ledger.dropped[SPOOL_REFUSED], 1);
    ck_assert_uint_eq(ledger.acknowledged, 2);
}
END_TEST

/* Of so many seconds ago, by every clock. */
static void put_of(double value, int64_t ago_s)
{
    struct spool_layout *layout = hub.layout;

    ck_assert_int_eq(
        spool_put(spool, &(struct spool_scrape){ .layout = layout,
                                                 .time = { clock_wall().us - ago_s * 1000000 },
                                                 .boot_us = uplink_boot_us() - ago_s * 1000000,
                                                 .values = &value }),
        0);
}

START_TEST(what_an_outage_made_too_old_costs_one_message_and_not_one_each)
{
    struct spool_ledger ledger;

    hub.oldest_s = 3600;
    for (unsigned i = 0; i < 1000; i++)
        put_of(i, 7200 - (int64_t) i);
    put_of(1000, 60);
    put(1001);
    hub_until(&hub, acknowledged() == 1002);
    ck_assert_uint_eq(hub.n_stored, 2);
    ck_assert_uint_eq(hub.n_refused_times, 0);
    ck_assert_uint_eq(hub.n_skipped, 1);
    ck_assert_uint_eq(hub.n_messages, 3);
    spool_get_ledger(spool, SPOOL_METRICS, &ledger);
    ck_assert_uint_eq(ledger.produced, 1002);
    ck_assert_uint_eq(ledger.acknowledged, 2);
    ck_assert_uint_eq(ledger.dropped[SPOOL_TOO_OLD], 1000);
    ck_assert_uint_eq(hub.n_skipped_records, 1000); /* both say the same */
}
END_TEST

START_TEST(old_ones_among_new_ones_go_too_and_what_is_on_its_way_arrives)
{
    struct spool_ledger ledger;

    hub.oldest_s = 3600;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 2 * HUB_WINDOW + 1; i++)
            put_of(i, 60);
        for (unsigned i = 0; i < 100; i++)
            put_of(i, 7200);
    }
    put(1);
    hub_until(&hub, acknowledged() == 3 * (2 * HUB_WINDOW + 101) + 1);
    ck_assert_uint_eq(hub.n_stored, 3 * (2 * HUB_WINDOW + 1) + 1);
    ck_assert_uint_eq(hub.n_skipped, 3);
    ck_assert_uint_eq(hub.n_refused_times + hub.n_doubles, 0);
    spool_get_ledger(spool, SPOOL_METRICS, &ledger);
    ck_assert_uint_eq(ledger.dropped[SPOOL_TOO_OLD], 300);
    ck_assert_uint_eq(hub.n_skipped_records, 300);
}
END_TEST

START_TEST(a_hub_that_does_not_tell_its_limit_refuses_one_by_one)
{
    hub.oldest_s = 3600;
    hub.tells_nothing = true;
    for (unsigned i = 0; i < 3; i++)
        put_of(i, 7200);
    put(3);
    hub_until(&hub, acknowledged() == 4 && hub.n_stored == 1);
    ck_assert_uint_eq(hub.n_refused_times, 3);
}
END_TEST

START_TEST(a_hub_whose_clock_is_years_ahead_refuses_one_by_one)
{
    struct spool_ledger ledger;

    hub.oldest_s = 3600;
    hub.ahead_us = 3 * 365 * 24 * HOUR_US;
    for (unsigned i = 0; i < 3; i++)
        put_of(i, 7200);
    put(3);
    hub_until(&hub, acknowledged() == 4 && hub.n_stored == 1);
    ck_assert_uint_eq(hub.n_refused_times, 3);
    spool_get_ledger(spool, SPOOL_METRICS, &ledger);
    ck_assert_uint_eq(ledger.dropped[SPOOL_REFUSED], 3);
    ck_assert_uint_eq(ledger.dropped[SPOOL_TOO_OLD], 0);
}
END_TEST

START_TEST(a_forked_run_goes_on_under_a_new_id)
{
    put(1);
    hub_until(&hub, acknowledged() == 1);
    hub_forge(&hub); /* it remembers another batch 1 */
    hub_restart(&hub);
    put(2);
    hub_until(&hub, hub.n_forked == 1 && acknowledged() == 2 && hub.n_stored == 2);
}
END_TEST

START_TEST(a_hub_that_refuses_the_agent_is_tried_slowly_and_its_reason_shown)
{
    hub.is_refusing = true;
    put(1);
    hub_until(&hub, status().attempts > 0 && status().state == UPLINK_WAITING);
    ck_assert_str_eq(status().error_reason, "CERTIFICATE_REVOKED");
    ck_assert(status().is_slow);
    ck_assert_int_gt(status().next_attempt.us, clock_wall().us + 600000000);
    put(2); /* collecting goes on */
    ck_assert_uint_eq(status().attempts, 1);
}
END_TEST

START_TEST(what_needs_somebody_is_said_once_and_with_a_remedy)
{
    struct uplink_pace quick = hub.options.pace;
    CLEANUP(fd_closep) int fd = memfd_create("log", MFD_CLOEXEC);
    char text[16384];
    const char *at;
    ssize_t n;

    quick.max_backoff_us = 20000;
    uplink_set_pace(uplink, &quick, 10000000);
    log_init(&(struct log_options){ .level = LOG_INFO, .format = LOG_LOGFMT, .fd = fd });
    hub.is_refusing = true;
    hub_until(&hub, status().attempts >= 4);
    log_init(&(struct log_options){ .level = LOG_INFO, .format = LOG_LOGFMT, .fd = 2 });
    n = pread(fd, text, sizeof(text) - 1, 0);
    ck_assert_int_gt(n, 0);
    text[n] = '\0';
    at = strstr(text, "reason=CERTIFICATE_REVOKED");
    ck_assert_ptr_nonnull(at);
    ck_assert_ptr_nonnull(strstr(at, "agents readmit"));
    ck_assert_ptr_null(strstr(at + 1, "reason=CERTIFICATE_REVOKED"));
}
END_TEST

START_TEST(an_identity_that_is_missing_is_looked_for_again_soon)
{
    char away[80];

    snprintf(away, sizeof(away), "%s.away", hub.directory);
    ck_assert_int_eq(rename(hub.directory, away), 0);
    hub_until(&hub, status().attempts >= 3);
    ck_assert_str_eq(status().error_reason, UPLINK_IDENTITY_UNUSABLE);
    ck_assert(status().is_slow);
    ck_assert_int_eq(rename(away, hub.directory), 0);
    hub_until(&hub, status().state == UPLINK_STREAMING);
}
END_TEST

START_TEST(new_settings_end_a_long_wait)
{
    struct uplink_pace patient = hub.options.pace;

    hub.is_refusing = true;
    hub_until(&hub, status().attempts == 1 && status().state == UPLINK_WAITING);
    ck_assert_int_gt(status().next_attempt.us, clock_wall().us + 600000000);
    hub.is_refusing = false;
    patient.spread_us = 20000;
    uplink_set_pace(uplink, &patient, 10000000);
    ck_assert_int_le(status().next_attempt.us, clock_wall().us + 20000);
    hub_until(&hub, status().state == UPLINK_STREAMING);
}
END_TEST

/* It is listened to, and nobody accepts. */
START_TEST(a_hub_that_never_answers_does_not_hold_up_a_stop)
{
    struct uplink_options options = hub.options;
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(address);
    const double value = 1;
    struct spool *its_spool;
    struct uplink *other;
    char target[32];

    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, len), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &address, &len), 0);
    snprintf(target, sizeof(target), "127.0.0.1:%u", (unsigned) ntohs(address.sin_port));
    options.hub = target;
    hub_open_spool(&its_spool);
    options.spool = its_spool;
    hub_until(&hub, status().state == UPLINK_STREAMING);
    hub_set_silent(&hub, true);
    ck_assert_int_eq(
        spool_put(its_spool, &(struct spool_scrape){ .layout = hub.layout, .values = &value }), 0);
    ck_assert_int_eq(uplink_new(&other, &options), 0);
    ck_assert_int_eq(uplink_start(other), 0);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(loop_run_once(hub.loop, 5), 0);
    uplink_drain(other, 50000);
    hub_until(&hub, hub.is_drained);
    ck_assert_ptr_null(uplink_free(other));
    ck_assert_ptr_null(spool_close(its_spool));
}
END_TEST

START_TEST(a_drain_waits_for_acknowledgements)
{
    hub_until(&hub, status().state == UPLINK_STREAMING);
    put(1);
    put(2);
    uplink_drain(uplink, 5000000);
    hub_until(&hub, hub.is_drained);
    ck_assert_uint_eq(acknowledged(), 2);
    ck_assert_int_eq(status().state, UPLINK_ENDED);
}
END_TEST

START_TEST(a_drain_ends_in_time_when_no_acknowledgement_comes)
{
    hub_set_silent(&hub, true);
    hub_until(&hub, status().state == UPLINK_STREAMING);
    put(1);
    uplink_drain(uplink, 50000);
    hub_until(&hub, hub.is_drained);
    ck_assert_uint_eq(acknowledged(), 0);
}
END_TEST

START_TEST(a_throttle_holds_batches_back_for_a_while)
{
    hub_until(&hub, status().state == UPLINK_STREAMING);
    hub_throttle(&hub, 100);
    hub_until(&hub, hub.has_throttled);
    put(1);
    hub_until(&hub, acknowledged() == 1);
}
END_TEST

START_TEST(logs_have_a_stream_of_their_own_on_the_same_connection)
{
    char wide[2000]; /* so that it pays to compress it */
    const char *const bodies[] = { "one", wide, "three" };
    struct spool_ledger ledger;

    memset(wide, 'a', sizeof(wide) - 1);
    wide[sizeof(wide) - 1] = '\0';

    put(1);
    hub_put_lines(uplink, bodies, 3);
    hub_until(&hub, acknowledged() == 1 && hub.n_lines == 3);
    hub_put_lines(uplink, bodies, 2);
    hub_until(&hub, hub.n_lines == 5);
    do {
        ck_assert_int_ge(loop_run_once(hub.loop, 5), 0);
        spool_get_ledger(spool, SPOOL_LOGS, &ledger);
    } while (ledger.queued > 0);
    ck_assert_uint_eq(ledger.acknowledged, 5);
    ck_assert_uint_eq(status().streams, 1);
}
END_TEST

START_TEST(a_line_that_the_hub_refuses_is_found_by_halving_and_the_others_arrive)
{
    static const char *const bodies[] = { "1", "2", "3", "4", "5", "bad", "7", "8", "9" };
    struct spool_ledger ledger;

    hub_put_lines(uplink, bodies, 9);
    hub_until(&hub, hub.n_lines == 8 && hub.n_skipped == 1);
    do {
        ck_assert_int_ge(loop_run_once(hub.loop, 5), 0);
        spool_get_ledger(spool, SPOOL_LOGS, &ledger);
    } while (ledger.queued > 0);
    ck_assert_uint_eq(ledger.produced, 9);
    ck_assert_uint_eq(ledger.acknowledged, 8);
    ck_assert_uint_eq(ledger.dropped[SPOOL_REFUSED], 1);
    ck_assert_uint_le(hub.n_refused_lines, 5);
}
END_TEST

START_TEST(another_hub_is_gone_to_at_once_and_the_first_again_later)
{
    struct uplink_options options = hub.options;
    struct spool *its_spool;
    struct uplink *other;
    struct uplink_status told;
    char second[32];
    const char *hubs[] = { second };

    snprintf(second, sizeof(second), "%s", hub.target);
    options.hub = "127.0.0.1:1"; /* nobody is there */
    options.more_hubs = hubs;
    options.n_more_hubs = 1;
    options.pace.prefer_us = 50000;
    hub_open_spool(&its_spool);
    options.spool = its_spool;
    ck_assert_int_eq(uplink_new(&other, &options), 0);
    ck_assert_int_eq(uplink_start(other), 0);
    do {
        ck_assert_int_ge(loop_run_once(hub.loop, 5), 0);
        uplink_get_status(other, &told);
    } while (told.state != UPLINK_STREAMING);
    ck_assert_str_eq(told.hub, hub.target);
    do { /* the first is looked at, and is still away */
        ck_assert_int_ge(loop_run_once(hub.loop, 5), 0);
        uplink_get_status(other, &told);
    } while (told.streams < 2);
    ck_assert_uint_ge(told.attempts, 4);
    ck_assert_ptr_null(uplink_free(other));
    ck_assert_ptr_null(spool_close(its_spool));
}
END_TEST

START_TEST(a_probe_goes_all_the_way_and_stores_nothing)
{
    struct uplink_probe probe;

    ck_assert_int_eq(uplink_probe(&hub.options, &probe), 0);
    for (size_t i = 0; i < probe.n_checks; i++)
        ck_assert_msg(probe.checks[i].verdict == UPLINK_PASSED, "%s: %s", probe.checks[i].name,
                      probe.checks[i].detail);
    ck_assert_str_eq(probe.checks[probe.n_checks - 1].name, "hello");
    ck_assert_uint_eq(hub.n_stored, 0);
}
END_TEST

START_TEST(a_probe_names_what_is_wrong)
{
    struct uplink_options options = hub.options;
    struct uplink_probe probe;

    options.hub = "127.0.0.1:1";
    ck_assert_int_eq(uplink_probe(&options, &probe), 0);
    ck_assert_str_eq(probe.checks[3].name, "tcp");
    ck_assert_int_eq(probe.checks[3].verdict, UPLINK_FAILED);
    ck_assert(probe.checks[3].remedy[0]);

    options = hub.options;
    options.server_name = "other.example";
    ck_assert_int_eq(uplink_probe(&options, &probe), 0);
    ck_assert_str_eq(probe.checks[4].name, "tls");
    ck_assert_int_eq(probe.checks[4].verdict, UPLINK_FAILED);

    options = hub.options;
    options.identity = "/no/such/identity";
    ck_assert_int_eq(uplink_probe(&options, &probe), 0);
    ck_assert_int_eq(probe.checks[0].verdict, UPLINK_FAILED);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("agent/uplink");
    TCase *stream = tcase_create("stream");

    suite_add_tcase(s, case_uplink_policy());
    suite_add_tcase(s, case_uplink_encoding());
    tcase_set_timeout(stream, 60);
    tcase_add_checked_fixture(stream, hub_start_rpc, rpc_deinit);
    tcase_add_checked_fixture(stream, set_up, tear_down);
    tcase_add_test(stream, batches_reach_the_hub_and_are_acknowledged);
    tcase_add_test(stream, a_stream_that_was_told_much_gives_way_to_a_new_one);
    tcase_add_loop_test(stream, a_stream_is_told_no_more_than_the_hub_takes, 0,
                        sizeof(crowds) / sizeof(crowds[0]));
    tcase_add_test(stream, a_hub_that_restarts_gets_each_batch_once);
    tcase_add_test(stream, a_window_bounds_what_is_on_its_way);
    tcase_add_test(stream, a_refused_batch_is_set_aside_and_the_rest_goes_on);
    tcase_add_test(stream, a_hub_whose_clock_is_years_ahead_refuses_one_by_one);
    tcase_add_test(stream, what_an_outage_made_too_old_costs_one_message_and_not_one_each);
    tcase_add_test(stream, old_ones_among_new_ones_go_too_and_what_is_on_its_way_arrives);
    tcase_add_test(stream, a_hub_that_does_not_tell_its_limit_refuses_one_by_one);
    tcase_add_test(stream, a_forked_run_goes_on_under_a_new_id);
    tcase_add_test(stream, a_hub_that_refuses_the_agent_is_tried_slowly_and_its_reason_shown);
    tcase_add_test(stream, what_needs_somebody_is_said_once_and_with_a_remedy);
    tcase_add_test(stream, an_identity_that_is_missing_is_looked_for_again_soon);
    tcase_add_test(stream, new_settings_end_a_long_wait);
    tcase_add_test(stream, a_hub_that_never_answers_does_not_hold_up_a_stop);
    tcase_add_test(stream, a_drain_waits_for_acknowledgements);
    tcase_add_test(stream, a_drain_ends_in_time_when_no_acknowledgement_comes);
    tcase_add_test(stream, a_throttle_holds_batches_back_for_a_while);
    tcase_add_test(stream, logs_have_a_stream_of_their_own_on_the_same_connection);
    tcase_add_test(stream, a_line_that_the_hub_refuses_is_found_by_halving_and_the_others_arrive);
    tcase_add_test(stream, another_hub_is_gone_to_at_once_and_the_first_again_later);
    tcase_add_test(stream, a_probe_goes_all_the_way_and_stores_nothing);
    tcase_add_test(stream, a_probe_names_what_is_wrong);
    suite_add_tcase(s, stream);
    suite_add_tcase(s, case_uplink_blocks());
    return s;
}
