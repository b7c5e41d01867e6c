/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/log/log.h"

/* What is logged goes into a pipe and is read back. */
static int pipe_fds[2];
static char lines[65536];

static int64_t mono_now_us;

static wall_us wall_of_test(void)
{
    return (wall_us){ 1795428000000000 };
}

static mono_us mono_of_test(void)
{
    return (mono_us){ mono_now_us };
}

static void log_to_pipe(enum log_level level, enum log_format format)
{
    log_init(&(struct log_options){ .level = level, .format = format, .fd = pipe_fds[1] });
}

static void begin(void)
{
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    clock_set_source(wall_of_test, mono_of_test);
    mono_now_us = 0;
    log_to_pipe(LOG_INFO, LOG_LOGFMT);
}

static void end(void)
{
    fault_set_sink(NULL);
    clock_set_source(NULL, NULL);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static const char *logged(void)
{
    ssize_t n = read(pipe_fds[0], lines, sizeof(lines) - 1);

    lines[n > 0 ? n : 0] = 0;
    return lines;
}

static int n_lines(const char *text)
{
    int n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

#define HEAD "ts=2026-11-23T10:00:00.000Z level=info event="

START_TEST(a_line_has_time_level_event_and_fields)
{
    log_event(LOG_INFO, "stream_opened", LOG_S("agent", "web-1"), LOG_U("streams", UINT64_MAX),
              LOG_I("left", INT64_MIN), LOG_F("load", 0.25));
    ck_assert_str_eq(logged(), HEAD "stream_opened agent=web-1 streams=18446744073709551615 "
                                    "left=-9223372036854775808 load=0.25\n");
    log_plain(LOG_WARN, "stopping");
    ck_assert_str_eq(logged(), "ts=2026-11-23T10:00:00.000Z level=warn event=stopping\n");
}
END_TEST

START_TEST(values_are_quoted_where_needed_and_leave_a_terminal_alone)
{
    static const char *const rows[][2] = {
        { "bare/\xc3\xa4:1", "v=bare/\xc3\xa4:1\n" },
        { "two words", "v=\"two words\"\n" },
        { "a=b", "v=\"a=b\"\n" },
        { "say \"\\\"", "v=\"say \\\"\\\\\\\"\"\n" },
        { "x\nlevel=error", "v=\"x\\nlevel=error\"\n" },
        { "\x1b[2J\xff", "v=\"\\x1b[2J\\xff\"\n" },
        { "", "v=\n" },
        { NULL, "v=\n" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        log_event(LOG_INFO, "e", LOG_S("v", rows[i][0]));
        ck_assert_str_eq(logged() + strlen(HEAD "e "), rows[i][1]);
    }
}
END_TEST

START_TEST(json_lines_are_one_object_each)
{
    log_to_pipe(LOG_INFO, LOG_JSON);
    log_event(LOG_INFO, "e", LOG_S("text", "say \"\\\"\n\x1b\xff\xc2\x9b"), LOG_S("none", NULL),
              LOG_U("u", 7), LOG_F("f", 1.5), LOG_F("nan", (double) NAN));
    ck_assert_str_eq(logged(),
                     "{\"ts\":\"2026-11-23T10:00:00.000Z\",\"level\":\"info\",\"event\":\"e\","
                     "\"text\":\"say \\\"\\\\\\\"\\n\\u001b\\ufffd\\u009b\",\"none\":\"\",\"u\":7,"
                     "\"f\":1.5,\"nan\":null}\n");
    log_plain(LOG_INFO, "bare");
    ck_assert_str_eq(logged(), "{\"ts\":\"2026-11-23T10:00:00.000Z\",\"level\":\"info\","
                               "\"event\":\"bare\"}\n");
}
END_TEST

START_TEST(lines_below_the_level_are_not_written)
{
    log_plain(LOG_DEBUG, "quiet");
    ck_assert_str_eq(logged(), "");
    ck_assert(!log_is_enabled(LOG_DEBUG));
    log_to_pipe(LOG_ERROR, LOG_LOGFMT);
    log_plain(LOG_WARN, "quiet");
    ck_assert_str_eq(logged(), "");
    log_plain(LOG_ERROR, "loud");
    ck_assert_int_eq(n_lines(logged()), 1);
}
END_TEST

START_TEST(long_values_are_cut_and_lines_stay_below_a_pipes_measure)
{
    static char value[5000];

    memset(value, 'x', sizeof(value) - 1);
    log_event(LOG_INFO, "e", LOG_S("a", value), LOG_U("after", 1));
    ck_assert_uint_lt(strlen(logged()), 1200);
    ck_assert_ptr_nonnull(strstr(lines, "x...\" after=1\n"));

    memset(value, '\x01', sizeof(value) - 1);
    log_event(LOG_INFO, "e", LOG_S("a", value), LOG_S("b", value), LOG_S("c", value),
              LOG_S("d", value), LOG_U("after", 1));
    ck_assert_uint_le(strlen(logged()), 4096);
    ck_assert_ptr_nonnull(strstr(lines, " truncated=true\n"));
    ck_assert_ptr_null(strstr(lines, "after="));
}
END_TEST

START_TEST(errno_survives_a_line)
{
    close(pipe_fds[1]);
    errno = ENOTTY;
    log_plain(LOG_INFO, "e");
    ck_assert_int_eq(errno, ENOTTY);
}
END_TEST

START_TEST(what_peers_cause_is_limited_by_event_and_counted)
{
    for (int i = 0; i < 25; i++)
        log_peer(LOG_INFO, "refused", LOG_I("n", i));
    for (int i = 0; i < 3; i++)
        log_peer(LOG_INFO, "other_event", LOG_I("n", i));
    log_event(LOG_INFO, "own", LOG_I("n", 1));
    ck_assert_int_eq(n_lines(logged()), 10 + 3 + 1);

    /* The flood goes on: nothing is said yet. */
    mono_now_us += 1000000;
    for (int i = 0; i < 15; i++)
        log_peer(LOG_INFO, "refused", LOG_I("n", i));
    ck_assert_int_eq(n_lines(logged()), 10);
    ck_assert_ptr_null(strstr(lines, "log_suppressed"));

    /* It has ended; the next line of any kind says what was not written. */
    mono_now_us += 2000000;
    log_plain(LOG_INFO, "own");
    ck_assert_str_eq(logged(), "ts=2026-11-23T10:00:00.000Z level=warn event=log_suppressed "
                               "of=refused lines=20\n" HEAD "own\n");
    log_plain(LOG_INFO, "own");
    ck_assert_str_eq(logged(), HEAD "own\n");
}
END_TEST

START_TEST(a_slow_second_ends_a_flood)
{
    for (int i = 0; i < 11; i++)
        log_peer(LOG_INFO, "refused", LOG_I("n", i));
    mono_now_us += 1000000;
    log_peer(LOG_INFO, "refused", LOG_I("n", 1));
    ck_assert_ptr_null(strstr(logged(), "log_suppressed"));
    mono_now_us += 1000000;
    log_peer(LOG_INFO, "refused", LOG_I("n", 2));
    ck_assert_ptr_nonnull(strstr(logged(), "of=refused lines=1\n"));
}
END_TEST

START_TEST(a_flood_without_end_is_said_each_minute)
{
    int n_said = 0;

    for (int second = 0; second < 125; second++) {
        for (int i = 0; i < 12; i++)
            log_peer(LOG_INFO, "refused", LOG_I("n", i));
        n_said += strstr(logged(), "log_suppressed") != NULL;
        mono_now_us += 1000000;
    }
    ck_assert_int_eq(n_said, 2);
}
END_TEST

START_TEST(flush_says_what_is_left)
{
    for (int i = 0; i < 13; i++)
        log_peer(LOG_INFO, "refused", LOG_I("n", i));
    logged();
    log_flush();
    ck_assert_ptr_nonnull(strstr(logged(), "of=refused lines=3\n"));
    log_flush();
    ck_assert_str_eq(logged(), "");
}
END_TEST

START_TEST(names_past_the_table_share_a_row)
{
    char event[32];
    int n = 0;

    for (int i = 0; i < 200; i++) {
        snprintf(event, sizeof(event), "event_%d", i);
        log_peer(LOG_INFO, event, LOG_I("n", i));
        n += n_lines(logged());
    }
    ck_assert_int_eq(n, 63 + 10);
    log_flush();
    ck_assert_ptr_nonnull(strstr(logged(), "of=other lines=127\n"));
}
END_TEST

static int raise_it(void)
{
    return fault(-EIO, "disk \"%s\" gone", "a");
}

static int pass_it(void)
{
    return pass(raise_it());
}

START_TEST(faults_are_logged_with_reason_and_path)
{
    ck_assert_int_eq(pass_it(), -EIO);
    ck_assert_int_eq(n_lines(logged()), 2);
    ck_assert_ptr_nonnull(strstr(lines, "level=error event=fault reason=\"disk \\\"a\\\" gone\" "
                                        "error=\"Input/output error\" "
                                        "at=tests/unit/common/test_log.c:"));
    ck_assert_ptr_nonnull(strstr(lines, "in=raise_it\n"));
    ck_assert_ptr_nonnull(strstr(lines, "event=fault_path at=tests/unit/common/test_log.c:"));
    ck_assert_ptr_nonnull(strstr(lines, "in=pass_it\n"));
}
END_TEST

START_TEST(a_flood_of_faults_is_limited_and_each_keeps_its_path)
{
    for (int i = 0; i < 30; i++)
        ck_assert_int_eq(pass_it(), -EIO);
    ck_assert_int_eq(n_lines(logged()), 20);
    log_flush();
    ck_assert_ptr_nonnull(strstr(logged(), "of=fault lines=20\n"));
}
END_TEST

static void *log_a_hundred(void *name)
{
    for (int i = 0; i < 100; i++) {
        log_event(LOG_INFO, "threaded", LOG_S("name", name));
        log_peer(LOG_INFO, "flood", LOG_I("n", i));
    }
    return NULL;
}

START_TEST(lines_of_threads_never_mix)
{
    static char names[][2] = { "a", "b", "c", "d" };
    pthread_t threads[4];
    int n_whole = 0;

    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, log_a_hundred, names[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);

    logged();
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
        ck_assert_int_eq(strncmp(line, HEAD, strlen(HEAD)), 0);
        n_whole++;
    }
    ck_assert_int_eq(n_whole, 400 + 10);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/log");
    TCase *tcase = tcase_create("log");

    suite_add_tcase(s, tcase);
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, a_line_has_time_level_event_and_fields);
    tcase_add_test(tcase, values_are_quoted_where_needed_and_leave_a_terminal_alone);
    tcase_add_test(tcase, json_lines_are_one_object_each);
    tcase_add_test(tcase, lines_below_the_level_are_not_written);
    tcase_add_test(tcase, long_values_are_cut_and_lines_stay_below_a_pipes_measure);
    tcase_add_test(tcase, errno_survives_a_line);
    tcase_add_test(tcase, what_peers_cause_is_limited_by_event_and_counted);
    tcase_add_test(tcase, a_slow_second_ends_a_flood);
    tcase_add_test(tcase, a_flood_without_end_is_said_each_minute);
    tcase_add_test(tcase, flush_says_what_is_left);
    tcase_add_test(tcase, names_past_the_table_share_a_row);
    tcase_add_test(tcase, faults_are_logged_with_reason_and_path);
    tcase_add_test(tcase, a_flood_of_faults_is_limited_and_each_keeps_its_path);
    tcase_add_test(tcase, lines_of_threads_never_mix);
    return s;
}
