/* SPDX-License-Identifier: Apache-2.0 */
#include "test_logs_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/text.h"
#include "test_logs_rig.h"

static struct logs_rig rig;

static void setup(void)
{
    logs_rig_start(&rig);
}

static void teardown(void)
{
    logs_rig_stop(&rig);
}

#define DAY_US (INT64_C(86400) * 1000000)

static bool get_mark(const char *name, struct mark *ret, uint8_t key[static MARK_KEY_BYTES])
{
    struct span value;
    struct stat st;

    ck_assert_int_eq(stat(logs_rig_path(&rig, name), &st), 0);
    mark_key(st.st_dev, st.st_ino, key);
    return spool_get_offset(rig.spool, span_of(key, MARK_KEY_BYTES), &value) &&
           mark_parse(value, ret);
}

/* As if it had been put so many days ago. */
static void make_older(const char *name, int days)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    const struct spool_log_source source = { span_of_text("file"), span_of_text("-"), NULL, 0 };
    uint8_t key[MARK_KEY_BYTES];
    struct mark mark;

    ck_assert(get_mark(name, &mark, key));
    mark.time_us -= days * DAY_US;
    mark_print(&mark, &value);
    const struct spool_offset offset = { span_of(key, sizeof(key)), buf_span(&value) };
    ck_assert_int_eq(spool_put_logs(rig.spool, &(struct spool_logs){ .source = source,
                                                                     .offsets = &offset,
                                                                     .n_offsets = 1 }),
                     0);
}

static size_t n_marks(void)
{
    struct spool_offset offset;
    size_t n = 0;

    for (size_t at = 0; spool_next_offset(rig.spool, &at, &offset);)
        n += offset.key.data[0] == 'f';
    return n;
}

START_TEST(a_rotated_file_that_stays_for_weeks_is_not_read_again)
{
    logs_rig_follow(&rig, "/log/a.log*");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "a.log", "one\n");
    logs_rig_look(&rig);
    logs_rig_rename(&rig, "a.log", "a.log.1");
    logs_rig_write(&rig, "a.log", "two\n");
    logs_rig_look(&rig);
    ck_assert_str_eq(logs_rig_bodies(&rig, false), "one|two|");
    for (int week = 0; week < 2; week++) {
        make_older("a.log.1", 8);
        logs_rig_look(&rig);
        tails_forget_old(rig.logs);
        logs_rig_look(&rig);
    }
    ck_assert_str_eq(logs_rig_bodies(&rig, false), "one|two|");
}
END_TEST

START_TEST(the_mark_of_a_file_that_is_gone_goes_with_it)
{
    logs_rig_follow(&rig, "/log/*.log");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    for (int i = 0; i < 5; i++) {
        logs_rig_write(&rig, "a.log", "one\n");
        logs_rig_look(&rig);
        ck_assert_uint_eq(n_marks(), 1);
        ck_assert_int_eq(unlink(logs_rig_path(&rig, "a.log")), 0);
        logs_rig_look(&rig);
        ck_assert_uint_eq(n_marks(), 0);
    }
    ck_assert_str_eq(logs_rig_bodies(&rig, false), "one|one|one|one|one|");
}
END_TEST

#define logs_until(cond)                                               \
    do {                                                               \
        int64_t until_ = clock_mono().us + 30000000;                   \
        while (!(cond)) {                                              \
            ck_assert_msg(clock_mono().us < until_, "waited: " #cond); \
            ck_assert_int_ge(loop_run_once(rig.loop, 5), 0);           \
        }                                                              \
    } while (0)

static void sweep_in(int64_t us)
{
    ck_assert_int_eq(loop_timer_arm_in(rig.loop, &rig.logs->sweep, us), 0);
}

START_TEST(a_file_that_grows_is_read_by_the_clock_until_a_look_finds_it_quiet)
{
    const int64_t never_us = INT64_C(3600) * 1000000;
    const struct loop_file *watch;
    int64_t until_us;

    logs_rig_follow(&rig, "/log/*.log");
    logs_rig_write(&rig, "a.log", "zero\n");
    logs_rig_open(&rig);
    watch = &rig.logs->watch.file;
    logs_until(rig.logs->n_sweeps == 1 && watch->events == EPOLLIN);
    sweep_in(never_us);
    for (int i = 0; i < 2; i++) {
        /* The event leads to a look; it found something, so no other event is waited for. */
        logs_rig_write(&rig, "a.log", "one\n");
        logs_until(logs_rig_count(&rig, "one") == (size_t) i + 1);
        ck_assert_uint_eq(watch->events, 0);
        logs_rig_write(&rig, "a.log", "two\n");
        until_us = clock_mono().us + 200000;
        logs_until(clock_mono().us > until_us);
        ck_assert_uint_eq(logs_rig_count(&rig, "two"), i);
        sweep_in(0);
        logs_until(logs_rig_count(&rig, "two") == (size_t) i + 1);
        ck_assert_uint_eq(watch->events, 0);
        sweep_in(0);
        logs_until(watch->events == EPOLLIN);
        sweep_in(never_us);
    }
}
END_TEST

START_TEST(a_path_that_is_no_utf8_has_a_name_that_is)
{
    logs_rig_follow(&rig, "/log/*.log");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "b\xff\nc.log", "one\n");
    logs_rig_look(&rig);
    ck_assert_str_eq(logs_rig_bodies(&rig, false), "one|");
    ck_assert_str_eq(buf_text(&rig.sources), "/log/b\xef\xbf\xbd\nc.log|");
}
END_TEST

static const struct {
    const char *name;
    bool is_rotation;
} neighbours[] = {
    { "app.log.1", true },
    { "app.log-20261128", true },
    { "app.log.2026-11-28T01:02:03Z", true },
    { "app.log.old", true },
    { "app.log.20261128.1", true },
    { "app-2026-11-28T01-02-03.456.log", true },
    { "app.1.log", true },
    { "app.db", false },
    { "app.log.conf", false },
    { "app.log.key", false },
    { "app-secrets.log", false },
    { "app.logins", false },
    { "app.json", false },
    { "app.log.1.gz", false },
    { "app.log.swp", false },
    { "app.1.db", false },
};

START_TEST(only_what_looks_rotated_is_read_beside_a_file)
{
    logs_rig_follow(&rig, "/log/app.log");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "app.log", "one\n");
    logs_rig_look(&rig);
    logs_rig_write(&rig, neighbours[_i].name, "two\n");
    logs_rig_look(&rig);
    ck_assert_str_eq(logs_rig_bodies(&rig, false),
                     neighbours[_i].is_rotation ? "one|two|" : "one|");
}
END_TEST

START_TEST(a_file_comes_once_however_many_ways_lead_to_it)
{
    logs_rig_follow(&rig, "/log/*.log");
    logs_rig_follow(&rig, "/log/a*");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    ck_assert_int_eq(mkfifo(logs_rig_path(&rig, "pipe.log"), 0600), 0);
    ck_assert_int_eq(symlink(rig.root, logs_rig_path(&rig, "directory.log")), 0);
    ck_assert_int_eq(symlink("/dev/zero", logs_rig_path(&rig, "zero.log")), 0);
    ck_assert_int_eq(symlink("loop.log", logs_rig_path(&rig, "loop.log")), 0);
    logs_rig_write(&rig, "a.log", "one\n");
    ck_assert_int_eq(link(logs_rig_path(&rig, "a.log"), logs_rig_path(&rig, "b.log")), 0);
    ck_assert_int_eq(symlink("a.log", logs_rig_path(&rig, "c.log")), 0);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "a.log", "two\n");
    logs_rig_look(&rig);
    ck_assert_str_eq(logs_rig_bodies(&rig, false), "one|two|");
    ck_assert_uint_eq(rig.logs->tails.n, 1);
}
END_TEST

START_TEST(a_link_that_points_elsewhere_is_followed_there)
{
    logs_rig_follow(&rig, "/log/current");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "1", "one\n");
    ck_assert_int_eq(symlink("1", logs_rig_path(&rig, "current")), 0);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "1", "two\n");
    logs_rig_write(&rig, "2", "three\n");
    ck_assert_int_eq(symlink("2", logs_rig_path(&rig, "new")), 0);
    logs_rig_rename(&rig, "new", "current");
    logs_rig_look(&rig);
    logs_rig_write(&rig, "2", "four\n");
    logs_rig_look(&rig);
    (void) logs_rig_bodies(&rig, false);
    ck_assert_uint_eq(logs_rig_count(&rig, "one"), 1);
    ck_assert_uint_eq(logs_rig_count(&rig, "two"), 1);
    ck_assert_uint_eq(logs_rig_count(&rig, "three"), 1);
    ck_assert_uint_eq(logs_rig_count(&rig, "four"), 1);
}
END_TEST

START_TEST(other_settings_between_a_copy_and_its_truncation_double_nothing)
{
    struct logs_error error;

    logs_rig_follow(&rig, "/log/[ab].log*");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "b.log", "one\ntwo\n");
    logs_rig_look(&rig);
    /* Sorts, and was made, so that a look may come upon it first. */
    for (int i = 0; i < 20; i++) {
        char name[32];

        snprintf(name, sizeof(name), "b.log.%d", i);
        logs_rig_copy(&rig, "b.log", name);
    }
    ck_assert_int_eq(logs_configure(rig.logs, &rig.settings, &error), 0);
    logs_rig_look(&rig);
    logs_rig_truncate(&rig, "b.log");
    logs_rig_write(&rig, "b.log", "three\n");
    logs_rig_look(&rig);
    ck_assert_str_eq(logs_rig_bodies(&rig, false), "one|two|three|");
}
END_TEST

START_TEST(a_copy_beside_its_renamed_file_is_no_new_one_after_a_restart)
{
    logs_rig_follow(&rig, "/log/b.log");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "b.log", "one\ntwo\n");
    logs_rig_look(&rig);
    ck_assert_str_eq(logs_rig_bodies(&rig, false), "one|two|");
    logs_rig_close(&rig);
    /* A look may come upon any of them first: the copies, and the file that they are of. */
    for (int i = 0; i < 20; i++) {
        char name[32];

        snprintf(name, sizeof(name), "b.log.%d", i);
        logs_rig_copy(&rig, "b.log", name);
    }
    logs_rig_truncate(&rig, "b.log");
    logs_rig_write(&rig, "b.log", "three\n");
    logs_rig_rename(&rig, "b.log", "b.log.20");
    logs_rig_write(&rig, "b.log", "four\n");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    (void) logs_rig_bodies(&rig, false);
    ck_assert_uint_eq(logs_rig_count(&rig, "one"), 1);
    ck_assert_uint_eq(logs_rig_count(&rig, "two"), 1);
    ck_assert_uint_eq(logs_rig_count(&rig, "three"), 1);
    ck_assert_uint_eq(logs_rig_count(&rig, "four"), 1);
}
END_TEST

START_TEST(a_copy_that_is_seen_while_it_is_empty_is_no_new_file)
{
    logs_rig_follow(&rig, "/log/b.log");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "b.log", "one\ntwo\n");
    logs_rig_look(&rig);
    logs_rig_write(&rig, "b.log.1", "");
    logs_rig_look(&rig);
    logs_rig_copy(&rig, "b.log", "b.log.1");
    logs_rig_look(&rig);
    logs_rig_truncate(&rig, "b.log");
    logs_rig_write(&rig, "b.log", "three\n");
    logs_rig_look(&rig);
    ck_assert_str_eq(logs_rig_bodies(&rig, false), "one|two|three|");
}
END_TEST

START_TEST(a_full_spool_costs_no_line_and_doubles_none)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    const struct spool_limits limits = { .limit_bytes = SPOOL_MIN_LIMIT_BYTES,
                                         .policy = SPOOL_BLOCK };
    const char *at;
    int n = 0;

    spool_set_limits(rig.spool, SPOOL_LOGS, &limits);
    logs_rig_follow(&rig, "/log/a.log");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    for (int i = 0; i < 20000; i++)
        buf_printf(&text, "line %06d of something that is longer than nothing\n", i);
    logs_rig_write(&rig, "a.log", buf_text(&text));
    logs_rig_look(&rig);
    ck_assert(rig.logs->is_blocked);
    logs_rig_rename(&rig, "a.log", "a.log.1");
    logs_rig_write(&rig, "a.log", "line 020000\n");
    for (int i = 0; i < 100 && logs_rig_count(&rig, "line 020000") == 0; i++) {
        (void) logs_rig_bodies(&rig, true);
        logs_on_room(rig.logs);
        logs_rig_look(&rig);
    }
    at = logs_rig_bodies(&rig, true);
    for (; (at = strstr(at, "line ")) != NULL; at += 5)
        ck_assert_int_eq(strtol(at + 5, NULL, 10), n++);
    ck_assert_int_eq(n, 20001);
}
END_TEST

START_TEST(what_redaction_makes_longer_stays_within_a_record)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct spool_item item;
    size_t n_bytes = 0, n_records = 0;

    logs_rig_follow(&rig, "/log/a.log");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    for (int i = 0; i < 400; i++)
        buf_printf(&text, "pwd=a %3d ", i);
    buf_append_text(&text, "\n");
    ck_assert_uint_lt(text.len, 4097);
    logs_rig_write(&rig, "a.log", buf_text(&text));
    logs_rig_look(&rig);
    ck_assert_int_eq(spool_reader_open(&rig.reader, rig.spool, SPOOL_LOGS, SPOOL_LIVE), 0);
    while (spool_read(rig.reader, &item) == 0) {
        for (size_t i = 0; i < item.logs.n_records; i++) {
            ck_assert_uint_le(item.logs.records[i].body.len, rig.settings.max_record_bytes);
            n_bytes += item.logs.records[i].body.len;
            n_records++;
        }
    }
    ck_assert_uint_gt(n_records, 0);
    ck_assert_uint_gt(n_bytes, 600);
}
END_TEST

START_TEST(a_hub_that_takes_shorter_records_gets_them)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    logs_rig_follow(&rig, "/log/a.log");
    logs_rig_open(&rig);
    logs_set_hub_limit(rig.logs, 1024);
    logs_rig_look(&rig);
    for (int i = 0; i < 2047; i++)
        buf_append_text(&text, "x");
    buf_append_text(&text, "\n");
    logs_rig_write(&rig, "a.log", buf_text(&text));
    logs_rig_look(&rig);
    (void) logs_rig_bodies(&rig, false);
    ck_assert_uint_eq(rig.bodies.len, 2047 + 2);
    ck_assert_int_eq(rig.bodies.data[1024], '|');
}
END_TEST

START_TEST(a_file_that_may_not_be_read_is_told_of_once)
{
    const char *const names[] = { "a.log", "b.log" };
    uint64_t n;

    if (geteuid() == 0)
        return; /* who may read everything */
    for (size_t i = 0; i < 2; i++) {
        logs_rig_write(&rig, names[i], "one\n");
        ck_assert_int_eq(chmod(logs_rig_path(&rig, names[i]), 0), 0);
    }
    logs_rig_follow(&rig, "/log/*.log");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    n = rig.logs->n_said;
    logs_rig_look(&rig);
    ck_assert_uint_eq(rig.logs->n_said, n);
}
END_TEST

START_TEST(what_is_said_of_two_files_in_turns_is_said_once_each)
{
    logs_rig_open(&rig);
    for (int i = 0; i < 10; i++) {
        logs_say(rig.logs, "log_unreadable", i % 2 ? "/a" : "/b", "Permission denied");
        ck_assert_uint_eq(rig.logs->n_said, i < 2 ? (unsigned) i + 1 : 2);
    }
}
END_TEST

static void make_old(const char *name, time_t seconds)
{
    const struct timespec times[2] = { { .tv_sec = time(NULL) - seconds },
                                       { .tv_sec = time(NULL) - seconds } };

    ck_assert_int_eq(utimensat(AT_FDCWD, logs_rig_path(&rig, name), times, 0), 0);
}

START_TEST(of_more_files_than_allowed_those_are_followed_that_are_written)
{
    rig.settings.max_files = 2;
    logs_rig_follow(&rig, "/log/*.log");
    logs_rig_open(&rig);
    logs_rig_look(&rig);
    logs_rig_write(&rig, "a.log", "one\n");
    logs_rig_write(&rig, "b.log", "two\n");
    logs_rig_look(&rig);
    make_old("a.log", 7200);
    make_old("b.log", 3600);
    logs_rig_write(&rig, "c.log", "three\n");
    logs_rig_look(&rig);
    ck_assert_uint_eq(logs_rig_count(&rig, "three"), 1);
    logs_rig_write(&rig, "b.log", "four\n"); /* is followed still: a.log had to go */
    logs_rig_look(&rig);
    make_old("c.log", 60);
    make_old("b.log", 30);
    logs_rig_write(&rig, "a.log", "five\n");
    logs_rig_look(&rig);
    logs_rig_look(&rig);
    for (int i = 0; i < 5; i++) {
        static const char *const lines[] = { "one", "two", "three", "four", "five" };

        ck_assert_uint_eq(logs_rig_count(&rig, lines[i]), 1);
    }
    ck_assert_uint_eq(rig.logs->tails.n, 2);
}
END_TEST

TCase *logs_files_case(void)
{
    TCase *tcase = tcase_create("files");

    tcase_set_timeout(tcase, 60); /* a check of each of 20,000 lines */
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_rotated_file_that_stays_for_weeks_is_not_read_again);
    tcase_add_test(tcase, the_mark_of_a_file_that_is_gone_goes_with_it);
    tcase_add_test(tcase, a_path_that_is_no_utf8_has_a_name_that_is);
    tcase_add_test(tcase, a_file_that_grows_is_read_by_the_clock_until_a_look_finds_it_quiet);
    tcase_add_loop_test(tcase, only_what_looks_rotated_is_read_beside_a_file, 0,
                        sizeof(neighbours) / sizeof(neighbours[0]));
    tcase_add_test(tcase, a_file_comes_once_however_many_ways_lead_to_it);
    tcase_add_test(tcase, a_link_that_points_elsewhere_is_followed_there);
    tcase_add_test(tcase, other_settings_between_a_copy_and_its_truncation_double_nothing);
    tcase_add_test(tcase, a_copy_beside_its_renamed_file_is_no_new_one_after_a_restart);
    tcase_add_test(tcase, a_copy_that_is_seen_while_it_is_empty_is_no_new_file);
    tcase_add_test(tcase, a_full_spool_costs_no_line_and_doubles_none);
    tcase_add_test(tcase, what_redaction_makes_longer_stays_within_a_record);
    tcase_add_test(tcase, a_hub_that_takes_shorter_records_gets_them);
    tcase_add_test(tcase, of_more_files_than_allowed_those_are_followed_that_are_written);
    tcase_add_test(tcase, a_file_that_may_not_be_read_is_told_of_once);
    tcase_add_test(tcase, what_is_said_of_two_files_in_turns_is_said_once_each);
    return tcase;
}
