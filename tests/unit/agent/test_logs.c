/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/logs/export.h"
#include "agent/logs/inside.h"
#include "agent/logs/screen.h"
#include "agent/logs/text.h"
#include "common/base/text.h"
#include "common/regex/regex.h"
#include "test_logs_files.h"

/* ---- records ---- */

/* "one|two|" of the records, with + before one that is a part; then what is left in brackets. */
static const char *cut(const char *text, const struct text_rule *rule, bool is_whole)
{
    static char shown[512];
    struct span rest = span_of_text(text);
    struct text_record record;
    size_t n = 0;

    shown[0] = '\0';
    while (text_next_record(rest, rule, is_whole, &record)) {
        n += (size_t) snprintf(shown + n, sizeof(shown) - n, "%s%.*s|", record.is_part ? "+" : "",
                               (int) record.body.len, (const char *) record.body.data);
        rest = span_of(rest.data + record.n_consumed, rest.len - record.n_consumed);
    }
    snprintf(shown + n, sizeof(shown) - n, "[%.*s]", (int) rest.len, (const char *) rest.data);
    return shown;
}

START_TEST(a_line_is_a_record_and_half_a_line_is_none)
{
    const struct text_rule rule = { .max_bytes = 100, .max_lines = 10 };

    ck_assert_str_eq(cut("a\nb\r\n\nhalf", &rule, false), "a|b||[half]");
    ck_assert_str_eq(cut("a\nhalf", &rule, true), "a|half|[]");
    ck_assert_str_eq(cut("", &rule, true), "[]");
}
END_TEST

START_TEST(a_long_line_comes_in_parts_that_do_not_cut_a_character)
{
    const struct text_rule rule = { .max_bytes = 4, .max_lines = 10 };

    ck_assert_str_eq(cut("abcdefghij\n", &rule, false), "+abcd|+efgh|ij|[]");
    ck_assert_str_eq(cut("abcd\n", &rule, false), "abcd|[]");
    ck_assert_str_eq(cut("ab\xc3\xbc\xc3\xbc\n", &rule, false), "+ab\xc3\xbc|\xc3\xbc|[]");
    ck_assert_str_eq(cut("abc\xc3\xbc\n", &rule, false), "+abc|\xc3\xbc|[]");
    ck_assert_str_eq(cut("\xbc\xbc\xbc\xbc\xbc\n", &rule, false), "+\xbc\xbc\xbc\xbc|\xbc|[]");
}
END_TEST

START_TEST(lines_go_to_the_one_that_begins_a_record)
{
    CLEANUP(regex_freep) struct regex *begin = NULL;
    char error[REGEX_ERROR_BYTES];
    ck_assert_int_eq(regex_new(&begin, span_of_text("^[0-9]"), error), 0);
    const struct text_rule rule = { .begin = begin, .max_bytes = 100, .max_lines = 3 };

    ck_assert_str_eq(cut("1 a\n  b\n2 c\n", &rule, false), "1 a\n  b|[2 c\n]");
    ck_assert_str_eq(cut("1 a\n  b\n2 c\n", &rule, true), "1 a\n  b|2 c|[]");
    ck_assert_str_eq(cut("  lost head\n1 a\n2", &rule, false), "  lost head|[1 a\n2]");
    ck_assert_str_eq(cut("1 a\nb\nc\nd\n2\n", &rule, false), "1 a\nb\nc|d|[2\n]");
}
END_TEST

START_TEST(records_are_the_same_however_they_come)
{
    static const char text[] = "one\n\ntwo words\r\nthree\nfour four four four\n";
    const struct text_rule rule = { .max_bytes = 8, .max_lines = 10 };
    char whole[512], piecewise[512] = "";
    size_t at = 0, n = 0;

    snprintf(whole, sizeof(whole), "%s", cut(text, &rule, false));
    for (size_t end = 1; end <= strlen(text); end++) {
        struct text_record record;

        while (text_next_record(span_of(text + at, end - at), &rule, false, &record)) {
            n += (size_t) snprintf(piecewise + n, sizeof(piecewise) - n, "%s%.*s|",
                                   record.is_part ? "+" : "", (int) record.body.len,
                                   (const char *) record.body.data);
            at += record.n_consumed;
        }
    }
    ck_assert_uint_eq(at, strlen(text));
    snprintf(piecewise + n, sizeof(piecewise) - n, "[]");
    ck_assert_str_eq(piecewise, whole);
}
END_TEST

/* ---- severity and time ---- */

static const struct {
    const char *line;
    uint32_t severity;
} severities[] = {
    { "2026-11-28 ERROR x", 17 },
    { "level=warn msg=\"an error\"", 13 },
    { "{\"ts\":1,\"level\":\"debug\",\"msg\":\"ERROR\"}", 5 },
    { "[notice] x", 10 },
    { "I have no level", 0 },
    { "<3>kernel says", 17 },
    { "<191>x", 5 },
    { "<192>x", 0 },
    { "Fatal: gone", 21 },
    { "a word like errors or warnings is none", 0 },
    { "", 0 },
    { "INFO ERROR", 9 },
    { "this is a rather long sentence in which nobody ever speaks of any error at all", 0 },
};

START_TEST(a_line_says_how_severe_it_is)
{
    ck_assert_uint_eq(text_severity(span_of_text(severities[_i].line)), severities[_i].severity);
}
END_TEST

static const struct {
    const char *line, *time; /* NULL: none */
} times[] = {
    { "2026-11-28T01:02:03Z x", "2026-11-28T01:02:03.000Z" },
    { "2026-11-28T01:02:03.123456+01:00 x", "2026-11-28T00:02:03.123Z" },
    { "2026-11-28 01:02:03,5 x", "2026-11-28T01:02:03.500Z" },
    { "2026/11/28 01:02:03 -0230", "2026-11-28T03:32:03.000Z" },
    { "[2026-11-28T01:02:03Z] x", "2026-11-28T01:02:03.000Z" },
    { "time=\"2026-11-28T01:02:03Z\" level=info", "2026-11-28T01:02:03.000Z" },
    { "{\"ts\":\"2026-11-28T01:02:03Z\"}", "2026-11-28T01:02:03.000Z" },
    { "{\"ts\":1764291723.5}", "2025-11-28T01:02:03.500Z" },
    { "1764291723456 x", "2025-11-28T01:02:03.456Z" },
    { "Nov 28 01:02:03 host x", "2026-11-28T01:02:03.000Z" },
    { "Jan  2 01:02:03 host x", "2027-01-02T01:02:03.000Z" },
    { "<13>Nov 28 01:02:03 host x", "2026-11-28T01:02:03.000Z" },
    { "<13>1 2026-11-28T01:02:03Z host", "2026-11-28T01:02:03.000Z" },
    { "10.0.0.1 - - [28/Nov/2026:01:02:03 +0000] \"GET /\"", "2026-11-28T01:02:03.000Z" },
    { "2026-13-28T01:02:03Z", NULL },
    { "2026-11-28", NULL },
    { "12345 x", NULL },
    { "hello", NULL },
    { "", NULL },
    { "<13>", NULL },
};

START_TEST(a_line_says_when_it_was_written)
{
    char shown[TEXT_TIME_BYTES], *end;
    wall_us now, time = { 0 };
    bool found;

    ck_assert_int_eq(text_to_time("2026-11-28T02:00:00Z", (wall_us){ 0 }, &now), 0);
    found = text_time(span_of_text(times[_i].line), now, &time);
    ck_assert_int_eq(found, times[_i].time != NULL);
    if (!found)
        return;
    text_of_time(time, shown);
    end = strchr(shown, '.');
    ck_assert(end != NULL);
    snprintf(end + 4, 2, "Z"); /* to the millisecond */
    ck_assert_str_eq(shown, times[_i].time);
}
END_TEST

/* ---- what nobody shall see ---- */

static const struct {
    const char *name, *line, *shown; /* NULL: as it is */
} secrets[] = {
    { "password", "user=a password=hunter2 x", "user=a password=[REDACTED] x" },
    { "password", "{\"api_key\": \"abc def\"}", "{\"api_key\": \"[REDACTED]\"}" },
    { "password", "{\"password\":\"a\\\"b c\",\"x\":1}", "{\"password\":\"[REDACTED]\",\"x\":1}" },
    { "password", "msg=\"{\\\"token\\\":\\\"a b\\\"}\"",
      "msg=\"{\\\"token\\\":\\\"[REDACTED]\\\"}\"" },
    { "password", "secret: 'a b' c", "secret: '[REDACTED]' c" },
    { "password", "password=geh\xfc m", "password=[REDACTED] m" },
    { "password",
      "password=\xfc"
      "geheim",
      "password=[REDACTED]" },
    { "password", "password=gr\xc3\xbc\xc3\x9f x", "password=[REDACTED] x" },
    { "password", "mysql --password hunter2 -h db", "mysql --password [REDACTED] -h db" },
    { "password", "alice : PWD=/home/alice ; USER=root ; COMMAND=/bin/ls", NULL },
    { "password", "server=db;uid=sa;pwd=geheim;", "server=db;uid=sa;pwd=[REDACTED];" },
    { "password", "the password was wrong", NULL },
    { "authorization", "Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer [REDACTED]" },
    { "authorization", "basic authentication failed for bearer credentials-provider", NULL },
    { "authorization", "authorization=\"Basic dXNlcjpnZWhlaW0=\"",
      "authorization=\"Basic [REDACTED]\"" },
    { "aws_key", "key AKIAABCDEFGHIJKLMNOP.", "key [REDACTED]." },
    { "url_credentials", "get https://anna:geheim@host/x", "get https://anna:[REDACTED]@host/x" },
    { "url_credentials", "redis://:geheim@host:1", "redis://:[REDACTED]@host:1" },
    { "url_credentials", "see http://host:80/a@b", NULL },
    { "credit_card", "card 4111 1111 1111 1111 ok", "card [REDACTED] ok" },
    { "credit_card", "order 4111 1111 1111 1112 ok", NULL },
    { "email", "mail to a.b@example.org now", "mail to [REDACTED] now" },
    { "private_key", "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
      "[REDACTED] RSA PRIVATE KEY-----" },
    { "([0-9]+)-x", "1-x 22-x", "[REDACTED]-x [REDACTED]-x" },
};

START_TEST(secrets_are_taken_out)
{
    CLEANUP(screen_freep) struct screen *screen = NULL;
    CLEANUP(buf_deinit) struct buf shown = { 0 };
    char error[320];
    const struct screen_options options = { .redact = &secrets[_i].name, .n_redact = 1 };
    size_t n;

    ck_assert_int_eq(screen_new(&screen, &options, error), 0);
    n = screen_redact(screen, span_of_text(secrets[_i].line), &shown);
    ck_assert_int_eq(n > 0, secrets[_i].shown != NULL);
    if (secrets[_i].shown)
        ck_assert_str_eq(buf_text(&shown), secrets[_i].shown);
}
END_TEST

START_TEST(a_line_of_nothing_but_secrets_is_bounded)
{
    CLEANUP(screen_freep) struct screen *screen = NULL;
    CLEANUP(buf_deinit) struct buf line = { 0 }, shown = { 0 };
    const char *const names[] = { "password" };
    const struct screen_options options = { .redact = names, .n_redact = 1 };
    char error[320];

    for (int i = 0; i < 1000; i++)
        buf_printf(&line, "token=s%d ", i);
    ck_assert_int_eq(screen_new(&screen, &options, error), 0);
    ck_assert_uint_gt(screen_redact(screen, buf_span(&line), &shown), 60);
    ck_assert_ptr_null(strstr(buf_text(&shown), "s999"));
    ck_assert_ptr_null(strstr(buf_text(&shown), "=s1 "));
}
END_TEST

/* ---- marks ---- */

START_TEST(a_mark_comes_back_as_it_was_and_nothing_else_is_one)
{
    struct mark mark = { .offset = 77,
                         .head_bytes = 77,
                         .last_bytes = 64,
                         .born_us = -5,
                         .time_us = 1 << 20,
                         .part = 3,
                         .is_done = true,
                         .path = "/var/log/x" };
    struct mark again;
    CLEANUP(buf_deinit) struct buf text = { 0 };

    memset(mark.head, 7, sizeof(mark.head));
    memset(mark.last, 9, sizeof(mark.last));
    mark_print(&mark, &text);
    ck_assert(mark_parse(buf_span(&text), &again));
    ck_assert_mem_eq(&mark, &again, sizeof(mark));
    for (size_t len = 0; len < text.len - strlen(mark.path) + 1; len++)
        ck_assert(!mark_parse(span_of(text.data, len), &again));
    text.data[0] = 2;
    ck_assert(!mark_parse(buf_span(&text), &again));
}
END_TEST

/* ---- the journal's form ---- */

static const uint8_t exported[] = "\n__CURSOR=c1\nPRIORITY=3\nMESSAGE\n\x05\0\0\0\0\0\0\0a\nb=c\n\n"
                                  "__CURSOR=c2\nMESSAGE=plain\n\n";

START_TEST(entries_of_the_journal_are_cut_wholly_or_not_at_all)
{
    static struct export_entry entry;
    struct export_skip skip;
    struct span rest = span_of(exported, sizeof(exported) - 1);

    ck_assert_int_eq(export_next(rest, &entry, &skip), EXPORT_ENTRY);
    ck_assert(span_equal(export_field(&entry, "MESSAGE"), span_of_text("a\nb=c")));
    ck_assert(span_equal(export_field(&entry, "__CURSOR"), span_of_text("c1")));
    ck_assert_uint_eq(export_field(&entry, "ABSENT").len, 0);
    const size_t first = entry.n_consumed;
    for (size_t len = 0; len < first; len++)
        ck_assert_int_eq(export_next(span_of(exported, len), &entry, &skip), EXPORT_MORE);
    rest = span_of(exported + first, rest.len - first);
    ck_assert_int_eq(export_next(rest, &entry, &skip), EXPORT_ENTRY);
    ck_assert(span_equal(export_field(&entry, "MESSAGE"), span_of_text("plain")));
    ck_assert_uint_eq(entry.n_consumed, rest.len);
}
END_TEST

START_TEST(a_broken_entry_is_passed_over)
{
    static const char broken[] = "MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xff x\n\nA=b\n\n";
    static struct export_entry entry;
    struct export_skip skip;
    const struct span text = span_of(broken, sizeof(broken) - 1);
    size_t at;

    ck_assert_int_eq(export_next(text, &entry, &skip), EXPORT_BAD);
    at = entry.n_consumed;
    ck_assert_int_eq(export_next(span_of(text.data + at, text.len - at), &entry, &skip),
                     EXPORT_ENTRY);
    ck_assert(span_equal(export_field(&entry, "A"), span_of_text("b")));
}
END_TEST

START_TEST(messages_of_the_kernel_are_read)
{
    char text[] = "6,339,5140900,-;NET: a\\x0ab\n SUBSYSTEM=acpi\n";
    char broken[] = "6,339;x";
    struct kmsg_record record;

    ck_assert(kmsg_parse(text, strlen(text), &record));
    ck_assert_uint_eq(record.priority, 6);
    ck_assert_uint_eq(record.sequence, 339);
    ck_assert_int_eq(record.boot_us, 5140900);
    ck_assert(span_equal(record.message, span_of_text("NET: a\nb")));
    ck_assert(!kmsg_parse(broken, strlen(broken), &record));
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("agent/logs");
    TCase *tcase = tcase_create("text");

    setenv("TZ", "UTC", 1);
    tcase_add_test(tcase, a_line_is_a_record_and_half_a_line_is_none);
    tcase_add_test(tcase, a_long_line_comes_in_parts_that_do_not_cut_a_character);
    tcase_add_test(tcase, lines_go_to_the_one_that_begins_a_record);
    tcase_add_test(tcase, records_are_the_same_however_they_come);
    tcase_add_loop_test(tcase, a_line_says_how_severe_it_is, 0,
                        sizeof(severities) / sizeof(severities[0]));
    tcase_add_loop_test(tcase, a_line_says_when_it_was_written, 0,
                        sizeof(times) / sizeof(times[0]));
    suite_add_tcase(s, tcase);
    tcase = tcase_create("screen");
    tcase_add_loop_test(tcase, secrets_are_taken_out, 0, sizeof(secrets) / sizeof(secrets[0]));
    tcase_add_test(tcase, a_line_of_nothing_but_secrets_is_bounded);
    suite_add_tcase(s, tcase);
    tcase = tcase_create("forms");
    tcase_add_test(tcase, a_mark_comes_back_as_it_was_and_nothing_else_is_one);
    tcase_add_test(tcase, entries_of_the_journal_are_cut_wholly_or_not_at_all);
    tcase_add_test(tcase, a_broken_entry_is_passed_over);
    tcase_add_test(tcase, messages_of_the_kernel_are_read);
    suite_add_tcase(s, tcase);
    suite_add_tcase(s, logs_files_case());
    suite_add_tcase(s, logs_journal_case());
    return s;
}
