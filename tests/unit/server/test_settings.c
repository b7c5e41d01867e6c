/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/log/log.h"
#include "server/ingest/ingest.h"
#include "server/settings.h"

static char directory[64];
static char file[128];
static struct settings settings;
static struct conf_error problem;

static void setup(void)
{
    unsetenv("STATE_DIRECTORY");
    snprintf(directory, sizeof(directory), "/tmp/test_settings.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(file, sizeof(file), "%s/config.yaml", directory);
    memset(&settings, 0, sizeof(settings));
    problem.text[0] = 0;
}

static void teardown(void)
{
    settings_free(&settings);
    ck_assert_int_eq(file_remove_tree(directory), 0);
}

static int load(const char *yaml, bool is_insecure)
{
    const struct settings_sources sources = { .file = file, .is_insecure = is_insecure };

    ck_assert_int_eq(file_replace(file, span_of_text(yaml), 0644), 0);
    return settings_load(&settings, &sources, &problem);
}

START_TEST(the_defaults_can_be_run)
{
    ck_assert_msg(load("", false) == 0, "%s", problem.text);
    ck_assert_str_eq(settings.listen_grpc, "0.0.0.0:8082");
    ck_assert_uint_eq(settings.security, SETTINGS_DEVELOPMENT);
    ck_assert_uint_eq(settings.tls_min_version, SETTINGS_TLS_1_2);
    ck_assert_uint_eq(settings.log_level, LOG_INFO);
    ck_assert_uint_eq(settings.log_format, LOG_LOGFMT);
    ck_assert_int_eq(settings.retention, INT64_C(15) * 24 * 3600 * 1000000);
    ck_assert_uint_eq(settings.journal_segment_size, 268435456);
}
END_TEST

START_TEST(the_limits_are_those_of_ingest_by_default)
{
    struct ingest_limits limits;

    ck_assert_int_eq(load("", false), 0);
    ingest_default_limits(&limits);
    ck_assert_uint_eq(settings.limit_batch_samples, limits.batch_samples);
    ck_assert_uint_eq(settings.limit_batch_new_series, limits.batch_new_series);
    ck_assert_uint_eq(settings.limit_agent_series, limits.agent_series);
    ck_assert_uint_eq(settings.limit_name_bytes, limits.name_bytes);
    ck_assert_uint_eq(settings.limit_series_attributes, limits.series_attributes);
    ck_assert_uint_eq(settings.limit_attribute_bytes, limits.attribute_bytes);
    ck_assert_uint_eq(settings.limit_unacknowledged_batches, limits.unacknowledged_batches);
    ck_assert_int_eq(settings.limit_future, limits.future_us);
}
END_TEST

START_TEST(an_unknown_key_says_where_and_the_nearest)
{
    ck_assert_int_eq(load("listen:\n  grcp: 0.0.0.0:1\n", false), CONF_BAD);
    ck_assert_ptr_nonnull(strstr(problem.text, ":2:"));
    ck_assert_ptr_nonnull(strstr(problem.text, "listen.grpc"));
}
END_TEST

START_TEST(what_is_printed_reads_back)
{
    struct buf text = { 0 };
    char before[65], after[65];

    ck_assert_int_eq(load("listen:\n  grpc: '[::1]:0'\nretention: 36h\nthreads: 3\n", false), 0);
    ck_assert_int_eq(settings_digest(&settings, before), 0);
    conf_print(&settings_table, &settings, &text);
    settings_free(&settings);
    ck_assert_msg(load(buf_text(&text), false) == 0, "%s", problem.text);
    ck_assert_int_eq(settings_digest(&settings, after), 0);
    ck_assert_str_eq(before, after);
    ck_assert_str_eq(settings.listen_grpc, "[::1]:0");
    buf_deinit(&text);
}
END_TEST

START_TEST(production_forces_tls_1_3)
{
    ck_assert_int_eq(load("security: production\ntls:\n  min_version: '1.2'\n", false), 0);
    ck_assert_uint_eq(settings.tls_min_version, SETTINGS_TLS_1_3);
}
END_TEST

START_TEST(insecure_needs_its_flag)
{
    ck_assert_int_eq(load("security: insecure\nlisten: {grpc: '127.0.0.1:0'}\n", false), CONF_BAD);
    ck_assert_ptr_nonnull(strstr(problem.text, "--insecure"));
}
END_TEST

START_TEST(insecure_is_refused_where_others_could_connect)
{
    static const char *const open[] = { "0.0.0.0:8082", "[::]:8082", "192.0.2.7:1",
                                        "hub.example.org:1", "128.0.0.1:1" };

    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
        char yaml[128];
        snprintf(yaml, sizeof(yaml), "security: insecure\nlisten: {grpc: '%s', https: off}\n",
                 open[i]);
        ck_assert_msg(load(yaml, true) == CONF_BAD, "%s", open[i]);
        ck_assert_ptr_nonnull(strstr(problem.text, "--listen-grpc 127.0.0.1:"));
        snprintf(yaml, sizeof(yaml), "listen: {grpc: '127.0.0.1:0', https: '%s'}\n", open[i]);
        ck_assert_msg(load(yaml, true) == CONF_BAD, "%s", open[i]);
        ck_assert_ptr_nonnull(strstr(problem.text, "--listen-https 127.0.0.1:"));
    }
}
END_TEST

START_TEST(insecure_is_taken_on_loopback_with_its_flag)
{
    static const char *const loopback[] = { "127.0.0.1:0", "127.1.2.3:8082", "[::1]:8082",
                                            "localhost:8082" };

    for (size_t i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++) {
        char yaml[128];
        snprintf(yaml, sizeof(yaml), "listen: {grpc: '%s', https: '%s'}\n", loopback[i],
                 loopback[i]);
        ck_assert_msg(load(yaml, true) == 0, "%s", problem.text);
        ck_assert_uint_eq(settings.security, SETTINGS_INSECURE);
        settings_free(&settings);
    }
}
END_TEST

START_TEST(https_can_be_off)
{
    ck_assert_int_eq(load("listen: {https: off}\n", false), 0);
    ck_assert(!settings_serves_https(&settings));
    settings_free(&settings);
    ck_assert_int_eq(load("", false), 0);
    ck_assert(settings_serves_https(&settings));
    settings_free(&settings);
    ck_assert_int_eq(load("listen: {grpc: off}\n", false), CONF_BAD);
}
END_TEST

START_TEST(production_shows_nothing_to_strangers)
{
    ck_assert_int_eq(load("security: production\nmetrics: {public: true}\n", false), CONF_BAD);
    ck_assert_ptr_nonnull(strstr(problem.text, "metrics.public"));
    ck_assert_int_eq(load("security: production\nreflection: {for_all: true}\n", false), CONF_BAD);
    ck_assert_ptr_nonnull(strstr(problem.text, "reflection.for_all"));
    ck_assert_int_eq(load("security: production\n", false), 0);
}
END_TEST

START_TEST(insecure_never_weakens_production)
{
    ck_assert_int_eq(load("security: production\nlisten: {grpc: '127.0.0.1:0'}\n", true), CONF_BAD);
    ck_assert_ptr_nonnull(strstr(problem.text, "production"));
}
END_TEST

START_TEST(an_address_must_have_a_port)
{
    static const char *const bad[] = { "0.0.0.0",  ":8082",     "::1:8082", "0.0.0.0:65536",
                                       "0.0.0.0:", "0.0.0.0:x", "[]:1" };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char yaml[128];
        snprintf(yaml, sizeof(yaml), "listen:\n  grpc: '%s'\n", bad[i]);
        ck_assert_msg(load(yaml, false) == CONF_BAD, "%s", bad[i]);
        ck_assert_ptr_nonnull(strstr(problem.text, "ADDRESS:PORT"));
    }
}
END_TEST

START_TEST(certificate_and_key_come_together)
{
    ck_assert_int_eq(load("tls:\n  key: /k\n", false), CONF_BAD);
    ck_assert_int_eq(load("tls:\n  certificate: /c\n", false), CONF_BAD);
    ck_assert_int_eq(load("tls:\n  certificate: /c\n  key: /k\n", false), 0);
}
END_TEST

static const struct {
    const char *yaml, *said;
} unfit_receivers[] = {
    { "url: prometheus:9090", "remote_write.url" },
    { "url: 'https://user:secret@h/write'", "without user and password" },
    { "url: 'http://h/w'\n  identity: /etc/id", "for https://" },
    { "url: 'http://h/w'\n  ca: /etc/ca.pem", "for https://" },
    { "url: 'http://h/w'\n  bearer_token_file: /etc/token", "reads the token" },
    { "labels: [a]", "NAME=VALUE" },
    { "labels: [a=]", "NAME=VALUE" },
    { "labels: [1a=b]", "NAME=VALUE" },
    { "labels: [__a=b]", "NAME=VALUE" },
    { "labels: [a-b=c]", "NAME=VALUE" },
    { "labels: [agent=me]", "`agent`" },
    { "labels: [a=1, b=2, a=3]", "twice" },
    { "batch_samples: 0", "remote_write.batch_samples" },
};

START_TEST(a_receiver_that_cannot_be_written_to_is_refused)
{
    char yaml[256];

    snprintf(yaml, sizeof(yaml), "remote_write:\n  %s\n", unfit_receivers[_i].yaml);
    ck_assert_int_eq(load(yaml, false), CONF_BAD);
    ck_assert_msg(strstr(problem.text, unfit_receivers[_i].said), "%s", problem.text);
    ck_assert_ptr_null(strstr(problem.text, "secret"));
}
END_TEST

START_TEST(receivers_that_can_be_written_to)
{
    ck_assert_msg(load("remote_write:\n  url: 'http://127.0.0.1:9/w'\n  bearer_token_file: /t\n"
                       "  labels: [hub=eu-1, a=b=c]\n",
                       false) == 0,
                  "%s", problem.text);
    ck_assert_uint_eq(settings.remote_write_labels.n_items, 2);
    settings_free(&settings);
    ck_assert_msg(load("remote_write:\n  url: 'https://[::1]/w?x=y'\n  identity: /i\n", false) == 0,
                  "%s", problem.text);
}
END_TEST

START_TEST(the_state_directory_is_the_flags_then_systemds_then_the_default)
{
    ck_assert_str_eq(settings_state_directory(""), "/var/lib/sentinel-hub");
    ck_assert_str_eq(settings_state_directory(NULL), "/var/lib/sentinel-hub");
    setenv("STATE_DIRECTORY", "/a:/b", 1);
    ck_assert_str_eq(settings_state_directory(NULL), "/a");
    ck_assert_str_eq(settings_state_directory("/given"), "/given");
}
END_TEST

START_TEST(flags_beat_the_environment_beats_the_file)
{
    const struct conf_flag flag = { .row = "threads", .value = "5" };
    struct settings_sources sources = { .file = file };

    ck_assert_int_eq(file_replace(file, span_of_text("threads: 3\nretention: 2d\n"), 0644), 0);
    setenv("SENTINEL_HUB_THREADS", "4", 1);
    ck_assert_int_eq(settings_load(&settings, &sources, &problem), 0);
    ck_assert_uint_eq(settings.threads, 4);
    settings_free(&settings);
    sources.flags = &flag;
    sources.n_flags = 1;
    ck_assert_int_eq(settings_load(&settings, &sources, &problem), 0);
    ck_assert_uint_eq(settings.threads, 5);
    ck_assert_int_eq(settings.retention, INT64_C(2) * 24 * 3600 * 1000000);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/settings");
    TCase *rows = tcase_create("rows");
    TCase *security = tcase_create("security");

    tcase_add_checked_fixture(rows, setup, teardown);
    tcase_add_test(rows, the_defaults_can_be_run);
    tcase_add_test(rows, the_limits_are_those_of_ingest_by_default);
    tcase_add_test(rows, an_unknown_key_says_where_and_the_nearest);
    tcase_add_test(rows, what_is_printed_reads_back);
    tcase_add_test(rows, an_address_must_have_a_port);
    tcase_add_test(rows, certificate_and_key_come_together);
    tcase_add_loop_test(rows, a_receiver_that_cannot_be_written_to_is_refused, 0,
                        sizeof(unfit_receivers) / sizeof(unfit_receivers[0]));
    tcase_add_test(rows, receivers_that_can_be_written_to);
    tcase_add_test(rows, the_state_directory_is_the_flags_then_systemds_then_the_default);
    tcase_add_test(rows, flags_beat_the_environment_beats_the_file);
    suite_add_tcase(s, rows);

    tcase_add_checked_fixture(security, setup, teardown);
    tcase_add_test(security, production_forces_tls_1_3);
    tcase_add_test(security, insecure_needs_its_flag);
    tcase_add_test(security, insecure_is_refused_where_others_could_connect);
    tcase_add_test(security, insecure_is_taken_on_loopback_with_its_flag);
    tcase_add_test(security, https_can_be_off);
    tcase_add_test(security, production_shows_nothing_to_strangers);
    tcase_add_test(security, insecure_never_weakens_production);
    suite_add_tcase(s, security);
    return s;
}
