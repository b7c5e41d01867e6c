/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/logs/export.h"
#include "test_logs_files.h"
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

#define FIRST 1000000 /* cursors are numbers of seven digits */
#define PATIENCE_ROUNDS 600

/*
 * A program that prints the file "entries" from behind the entry of the cursor on, each of
 * `entry_bytes` (0: only once, from the beginning), and ends.
 */
static void make_program(size_t entry_bytes)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };

    buf_printf(&text,
               "#!/bin/sh\nfor word; do case $word in --after-cursor=*) n=${word#*=};; esac; done\n"
               "[ -z \"$n\" ] && exec cat %s\n",
               logs_rig_path(&rig, "entries"));
    if (entry_bytes)
        buf_printf(&text, "exec tail -c +$(((n - %d + 1) * %zu + 1)) %s\n", FIRST, entry_bytes,
                   logs_rig_path(&rig, "entries"));
    logs_rig_write(&rig, "journalctl", buf_text(&text));
    ck_assert_int_eq(chmod(logs_rig_path(&rig, "journalctl"), 0700), 0);
    rig.settings.journald = true;
    rig.settings.from_beginning = true;
    rig.settings.journalctl = logs_rig_path(&rig, "journalctl");
}

static void write_bytes(struct span bytes)
{
    FILE *file = fopen(logs_rig_path(&rig, "entries"), "ae");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes.data, 1, bytes.len, file), bytes.len);
    ck_assert_int_eq(fclose(file), 0);
}

static void put_u64(struct buf *to, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        buf_append(to, &(uint8_t){ (uint8_t) (value >> (8 * i)) }, 1);
}

/* Until the text came so often; the spool is emptied meanwhile. */
static void wait_for(const char *text, size_t n)
{
    for (int i = 0; i < PATIENCE_ROUNDS && logs_rig_count(&rig, text) < n; i++) {
        ck_assert_int_eq(loop_run_once(rig.loop, 50), 0);
        (void) logs_rig_bodies(&rig, true);
        if (rig.logs->is_blocked)
            logs_on_room(rig.logs);
    }
    ck_assert_uint_eq(logs_rig_count(&rig, text), n);
}

static void expect_cursor(const char *text)
{
    struct span cursor = { 0 };

    ck_assert(spool_get_offset(rig.spool, span_of_text("journald"), &cursor));
    ck_assert(span_equal(cursor, span_of_text(text)));
}

START_TEST(entries_with_many_long_fields_stop_nothing)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    static const char *const fields[] = { "SYSLOG_IDENTIFIER", "CODE_FILE",  "CODE_LINE",
                                          "CODE_FUNC",         "MESSAGE_ID", "CONTAINER_NAME" };

    for (int i = 0; i < 3000; i++) {
        buf_printf(&text, "__CURSOR=%d\n_SYSTEMD_UNIT=a\nMESSAGE=entry\n", FIRST + i);
        for (size_t k = 0; k < sizeof(fields) / sizeof(fields[0]); k++)
            buf_printf(&text, "%s=\xff%0250d\n", fields[k], i);
        buf_append_text(&text, "\n");
    }
    write_bytes(buf_span(&text));
    make_program(0);
    logs_rig_open(&rig);
    wait_for("entry", 3000);
    expect_cursor("1002999");
}
END_TEST

START_TEST(a_message_that_is_too_long_forges_no_entry)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    static const char forged[] = "\n\n__CURSOR=forged\nMESSAGE=forged\n\n\n";
    const size_t n = EXPORT_MAX_BYTES / (sizeof(forged) - 1) + 1000;

    buf_append_text(&text, "__CURSOR=1000000\nMESSAGE=good\n\n__CURSOR=1000001\nMESSAGE\n");
    put_u64(&text, n * (sizeof(forged) - 1));
    for (size_t i = 0; i < n; i++)
        buf_append_text(&text, forged);
    buf_append_text(&text, "\n_PID=1\n\n__CURSOR=1000002\nMESSAGE=good\n\n");
    /* And one of a line without an end. */
    buf_append_text(&text, "__CURSOR=1000003\nMESSAGE=");
    for (size_t i = 0; i < EXPORT_MAX_BYTES / 16 + 1000; i++)
        buf_append_text(&text, "__CURSOR=forged=");
    buf_append_text(&text, "\n_PID=1\n\n__CURSOR=1000004\nMESSAGE=good\n\n");
    write_bytes(buf_span(&text));
    make_program(0);
    logs_rig_open(&rig);
    wait_for("good", 3);
    ck_assert_uint_eq(logs_rig_count(&rig, "forged"), 0);
    ck_assert_uint_eq(logs_rig_count(&rig, "of the journal was longer"), 2);
    expect_cursor("1000004");
}
END_TEST

/* Until it takes no more. */
static void fill_spool(void)
{
    static const char body[60000];
    const struct spool_log_record record = { .time_us = 1,
                                             .is_raw = true,
                                             .body = span_of(body, sizeof(body)) };
    const struct spool_limits limits = { .limit_bytes = SPOOL_MIN_LIMIT_BYTES,
                                         .policy = SPOOL_BLOCK };
    int r;

    spool_set_limits(rig.spool, SPOOL_LOGS, &limits);
    do {
        r = spool_put_logs(rig.spool,
                           &(struct spool_logs){
                               .source = { span_of_text("x"), span_of_text("y"), NULL, 0 },
                               .records = &record,
                               .n_records = 1,
                           });
        ck_assert_int_ge(r, 0);
    } while (r == 0);
    ck_assert_int_eq(r, SPOOL_FULL);
}

START_TEST(a_program_that_ends_while_the_spool_is_full_costs_no_entry)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    size_t entry_bytes = 0;
    const char *at;
    int n = 0;

    fill_spool();
    for (int i = 0; i < 50; i++) {
        buf_printf(&text, "__CURSOR=%d\n_SYSTEMD_UNIT=a\nMESSAGE=entry %07d of %01000d\n\n",
                   FIRST + i, i, 7);
        if (i == 0)
            entry_bytes = text.len;
    }
    write_bytes(buf_span(&text));
    make_program(entry_bytes);
    logs_rig_open(&rig);
    for (int i = 0; i < PATIENCE_ROUNDS && strcmp(journal_state(rig.logs->journal), "ended") != 0;
         i++)
        ck_assert_int_eq(loop_run_once(rig.loop, 50), 0);
    ck_assert(rig.logs->is_blocked);
    ck_assert_str_eq(journal_state(rig.logs->journal), "ended");
    wait_for("entry", 50);
    at = logs_rig_bodies(&rig, true);
    for (; (at = strstr(at, "entry ")) != NULL; at += 6)
        ck_assert_int_eq(strtol(at + 6, NULL, 10), n++);
}
END_TEST

START_TEST(a_message_over_the_limit_says_that_it_was_cut)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct spool_item item = { 0 };

    buf_printf(&text, "__CURSOR=1000000\nMESSAGE=%06000d\n\n", 7);
    write_bytes(buf_span(&text));
    make_program(0);
    logs_rig_open(&rig);
    for (int i = 0; i < PATIENCE_ROUNDS && rig.logs->status.n_records == 0; i++)
        ck_assert_int_eq(loop_run_once(rig.loop, 50), 0);
    ck_assert_int_eq(spool_reader_open(&rig.reader, rig.spool, SPOOL_LOGS, SPOOL_LIVE), 0);
    ck_assert_int_eq(spool_read(rig.reader, &item), 0);
    ck_assert_uint_eq(item.logs.records[0].body.len, 4096);
    ck_assert_uint_eq(item.logs.records[0].n_attributes, 1);
    ck_assert(
        span_equal(item.logs.records[0].attributes[0].key, span_of_text("log.record.full_bytes")));
    ck_assert(span_equal(item.logs.records[0].attributes[0].value, span_of_text("6000")));
}
END_TEST

/* A clock that was wrong at the boot, and a journal that is older than the hub takes. */
START_TEST(a_time_that_no_hub_takes_is_told_beside_the_record)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct spool_item item = { 0 };

    buf_append_text(&text, "__CURSOR=1000000\n__REALTIME_TIMESTAMP=86400000000\nMESSAGE=old\n\n");
    write_bytes(buf_span(&text));
    make_program(0);
    logs_rig_open(&rig);
    for (int i = 0; i < PATIENCE_ROUNDS && rig.logs->status.n_records == 0; i++)
        ck_assert_int_eq(loop_run_once(rig.loop, 50), 0);
    ck_assert_int_eq(spool_reader_open(&rig.reader, rig.spool, SPOOL_LOGS, SPOOL_LIVE), 0);
    ck_assert_int_eq(spool_read(rig.reader, &item), 0);
    ck_assert_int_gt(item.logs.records[0].time_us, INT64_C(1700000000000000));
    ck_assert_uint_eq(item.logs.records[0].n_attributes, 1);
    ck_assert(span_equal(item.logs.records[0].attributes[0].key,
                         span_of_text("log.record.original_time")));
    ck_assert_int_eq(
        memcmp(item.logs.records[0].attributes[0].value.data, "1970-01-02T00:00:00", 19), 0);
}
END_TEST

/* What is left of it in pieces of each size, and where it ends. */
START_TEST(the_rest_of_a_broken_entry_is_passed_over_however_it_comes)
{
    static const char rest[] = "aaa\n\nb=c=d\nBIN\n\x04\0\0\0\0\0\0\0\n\n\n\n\nE=f\n\nnext";
    const struct span all = span_of(rest, sizeof(rest) - 1);

    for (size_t piece = 1; piece <= all.len; piece++) {
        struct export_skip skip = { .bytes = 4, .is_active = true };
        struct span left = span_of(all.data, 0);
        size_t end = 0;

        while (skip.is_active && end < all.len) {
            const size_t from = (size_t) (left.data - all.data);
            size_t n;

            end = end + piece < all.len ? end + piece : all.len;
            n = export_pass(span_of(all.data + from, end - from), &skip);
            left = span_of(all.data + from + n, 0);
        }
        ck_assert(!skip.is_active);
        ck_assert_str_eq((const char *) left.data, "b=c=d\nBIN\n\x04");
        /* Behind the first: the next, up to its own end. */
        skip = (struct export_skip){ .is_active = true };
        ck_assert_uint_eq(
            export_pass(span_of(left.data, all.len - (size_t) (left.data - all.data)), &skip),
            strlen("b=c=d\nBIN\n") + 8 + 4 + 1 + strlen("E=f\n\n"));
        ck_assert(!skip.is_active);
    }
}
END_TEST

TCase *logs_journal_case(void)
{
    TCase *tcase = tcase_create("journal");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, entries_with_many_long_fields_stop_nothing);
    tcase_add_test(tcase, a_message_that_is_too_long_forges_no_entry);
    tcase_add_test(tcase, a_program_that_ends_while_the_spool_is_full_costs_no_entry);
    tcase_add_test(tcase, a_message_over_the_limit_says_that_it_was_cut);
    tcase_add_test(tcase, a_time_that_no_hub_takes_is_told_beside_the_record);
    tcase_add_test(tcase, the_rest_of_a_broken_entry_is_passed_over_however_it_comes);
    return tcase;
}
