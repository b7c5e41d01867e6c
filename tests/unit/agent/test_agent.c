/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent/agent.h"
#include "agent/status.h"
#include "common/base/file.h"
#include "common/json/json.h"

static struct conf_error error;
static const struct status_reload never_reloaded;
static const struct policy policy;

static int load(struct settings *settings, const struct conf_flag *flags, size_t n_flags)
{
    struct settings_sources sources = { .flags = flags, .n_flags = n_flags };

    unsetenv("STATE_DIRECTORY");
    return settings_load(settings, &sources, &error);
}

START_TEST(settings_have_defaults_that_run)
{
    struct settings settings = { 0 };
    struct conf_flag flags[] = { { "hub", "hub:8082" } };

    ck_assert_int_eq(load(&settings, flags, 1), 0);
    ck_assert_str_eq(settings.hub, "hub:8082");
    ck_assert_str_eq(settings.state_dir, "/var/lib/sentinel-agent");
    ck_assert_str_eq(settings.identity, "/var/lib/sentinel-agent/identity");
    ck_assert_int_eq(settings.interval, 10000000);
    ck_assert_uint_eq(settings.spool_metrics_size, 256u << 20);
    ck_assert_uint_eq(settings.spool_logs_policy, SPOOL_BLOCK);
    ck_assert_int_eq(settings.uplink_reconnect_spread, 30000000);
    ck_assert_int_eq(settings.uplink_max_backoff, 900000000);
    settings_free(&settings);
}
END_TEST

START_TEST(settings_say_what_is_wrong_and_what_to_do)
{
    static const struct {
        struct conf_flag flag;
        const char *says;
    } rows[] = {
        { { "hub", "hub" }, "not HOST:PORT" },
        { { "hub", "hub:0" }, "not HOST:PORT" },
        { { "hub", "::1:8082" }, "brackets" },
        { { "interval", "1ms" }, "interval" },
        { { "collect.disable", "cpuu" }, "did you mean `cpu`" },
        { { "collect.disk.exclude", "(" }, "collect.disk.exclude: missing )" },
        { { "collect.statsd.listen", "0.0.0.0:8125" }, "127.0.0.1:8125" },
        { { "collect.scrape.targets", "http://10.0.0.1/metrics" }, "collect.scrape.allow_remote" },
        { { "collect.exec.commands", "ls" }, "whole path" },
        { { "collect.textfile.directory", "texts" }, "whole path" },
        { { "uplink.backoff", "20m" }, "longer than uplink.max_backoff" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct settings settings = { 0 };

        ck_assert_int_eq(load(&settings, &rows[i].flag, 1), CONF_BAD);
        ck_assert_msg(strstr(error.text, rows[i].says), "`%s` does not say %s", error.text,
                      rows[i].says);
    }
}
END_TEST

START_TEST(printed_settings_read_back_the_same)
{
    CLEANUP(buf_deinit) struct buf first = { 0 }, second = { 0 };
    char path[] = "/tmp/sentinel-agent-XXXXXX";
    char file[64], digests[2][65];
    struct settings settings = { 0 };
    struct conf_flag flags[] = { { "hub", "[::1]:8082" }, { "collect.per_cpu", "true" } };

    ck_assert_int_eq(load(&settings, flags, 2), 0);
    conf_print(&settings_table, &settings, &first);
    ck_assert_int_eq(settings_digest(&settings, digests[0]), 0);
    settings_free(&settings);

    ck_assert_ptr_nonnull(mkdtemp(path));
    snprintf(file, sizeof(file), "%s/config.yaml", path);
    ck_assert_int_eq(file_replace(file, buf_span(&first), 0644), 0);
    ck_assert_int_eq(settings_load(&settings, &(struct settings_sources){ .file = file }, &error),
                     0);
    conf_print(&settings_table, &settings, &second);
    ck_assert_int_eq(settings_digest(&settings, digests[1]), 0);
    settings_free(&settings);
    ck_assert_str_eq(buf_text(&first), buf_text(&second));
    ck_assert_str_eq(digests[0], digests[1]);
    ck_assert_int_eq(file_remove_tree(path), 0);
}
END_TEST

START_TEST(status_is_json_with_ledger_and_reason)
{
    struct status_facts facts = {
        .hub = "hub:8082",
        .settings_digest = "d",
        .reload = &never_reloaded,
        .policy = &policy,
        .policy_file = "",
        .started = { 1 },
        .interval_us = 10000000,
        .spool = { { .produced = 7, .dropped = { 2 } } },
        .uplink = { .state = UPLINK_WAITING,
                    .attempts = 3,
                    .error_code = 16,
                    .error_reason = "CERTIFICATE_REVOKED",
                    .error_message = "it was \"revoked\"",
                    .is_slow = true },
    };
    CLEANUP(buf_deinit) struct buf text = { 0 };
    CLEANUP(json_freep) struct json *json = NULL;
    struct json_error why;
    const struct json *hub, *last;

    status_print(&facts, &text);
    ck_assert_int_eq(json_parse(&json, buf_span(&text), &why), 0);
    hub = json_member(json, "hub");
    last = json_member(hub, "last_error");
    ck_assert_str_eq(json_get_text(json_member(hub, "state"), ""), "waiting");
    ck_assert_str_eq(json_get_text(json_member(last, "code"), ""), "UNAUTHENTICATED");
    ck_assert_str_eq(json_get_text(json_member(last, "reason"), ""), "CERTIFICATE_REVOKED");
    ck_assert(json_get_bool(json_member(last, "needs_attention"), false));
    ck_assert_int_eq(json_get_i64(json_member(json_member(json, "spool"), "dropped_samples"), 0),
                     2);
}
END_TEST

START_TEST(status_is_replaced_whole)
{
    char path[] = "/tmp/sentinel-agent-XXXXXX";
    CLEANUP(buf_deinit) struct buf content = { 0 };
    CLEANUP(json_freep) struct json *json = NULL;
    struct json_error why;
    char file[64];
    const struct status_facts facts = { .hub = "h:1",
                                        .settings_digest = "",
                                        .reload = &never_reloaded,
                                        .policy = &policy,
                                        .policy_file = "" };

    ck_assert_ptr_nonnull(mkdtemp(path));
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(status_write(path, &facts), 0);
    snprintf(file, sizeof(file), "%s/" AGENT_STATUS_FILE, path);
    ck_assert_int_eq(file_read(file, 65536, &content), 0);
    ck_assert_int_eq(json_parse(&json, buf_span(&content), &why), 0);
    ck_assert_int_eq(file_remove_tree(path), 0);
    ck_assert_int_lt(status_write(path, &facts), 0);
}
END_TEST

START_TEST(rounds_keep_their_beat_and_leave_out_what_was_slept_through)
{
    ck_assert_int_eq(agent_next_round((mono_us){ 1000 }, 100, (mono_us){ 1003 }).us, 1100);
    ck_assert_int_eq(agent_next_round((mono_us){ 1000 }, 100, (mono_us){ 1000 }).us, 1100);
    ck_assert_int_eq(agent_next_round((mono_us){ 1000 }, 100, (mono_us){ 1099 }).us, 1100);
    /* One round, not four, and on the beat. */
    ck_assert_int_eq(agent_next_round((mono_us){ 1000 }, 100, (mono_us){ 1350 }).us, 1400);
    ck_assert_int_eq(agent_next_round((mono_us){ 1000 }, 100, (mono_us){ 1400 }).us, 1500);
    /* Woken before its time, which no clock should do. */
    ck_assert_int_eq(agent_next_round((mono_us){ 1000 }, 100, (mono_us){ 990 }).us, 1100);
}
END_TEST

START_TEST(the_hubs_wish_has_the_limits_of_the_setting)
{
    ck_assert_int_eq(agent_limit_interval(0), 0);
    ck_assert_int_eq(agent_limit_interval(1000), 100000);
    ck_assert_int_eq(agent_limit_interval(5000000), 5000000);
    ck_assert_int_eq(agent_limit_interval(INT64_C(4294967295) * 1000), INT64_C(86400000000));
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("agent/agent");
    TCase *settings = tcase_create("settings");
    TCase *status = tcase_create("status");
    TCase *rounds = tcase_create("rounds");

    tcase_add_test(settings, settings_have_defaults_that_run);
    tcase_add_test(settings, settings_say_what_is_wrong_and_what_to_do);
    tcase_add_test(settings, printed_settings_read_back_the_same);
    suite_add_tcase(s, settings);
    tcase_add_test(status, status_is_json_with_ledger_and_reason);
    tcase_add_test(status, status_is_replaced_whole);
    suite_add_tcase(s, status);
    tcase_add_test(rounds, rounds_keep_their_beat_and_leave_out_what_was_slept_through);
    tcase_add_test(rounds, the_hubs_wish_has_the_limits_of_the_setting);
    suite_add_tcase(s, rounds);
    return s;
}
