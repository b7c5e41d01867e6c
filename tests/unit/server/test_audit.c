/* SPDX-License-Identifier: Apache-2.0 */
#include "test_audit.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/crypto/crypto.h"
#include "suite.h"

/* ---- the chain ---- */

START_TEST(entries_are_numbered_and_each_has_the_hash_of_the_one_before)
{
    static const uint8_t zero[32];
    const struct audit_record *entries;
    size_t n;

    put_many(5);
    entries = all_entries(&n);
    ck_assert_uint_eq(n, 5);
    ck_assert_mem_eq(entries[0].sha256_before, zero, 32);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(entries[i].number, i + 1);
        ck_assert_int_eq(entries[i].time.us, now_us);
        if (i > 0)
            ck_assert_mem_eq(entries[i].sha256_before, entries[i - 1].sha256, 32);
    }
}
END_TEST

START_TEST(what_was_written_is_read)
{
    static const struct audit_field fields[] = { { "ttl", "30m" }, { "uses", "1" } };
    const struct audit_entry entry = {
        .event = AUDIT_TOKEN_FAILED,
        .actor = "agent/web-1",
        .source = "10.0.0.7:411",
        .object = "token/k7mq2h5x",
        .correlation = "c-1",
        .fields = fields,
        .n_fields = 2,
    };
    const struct audit_record *read;
    size_t n;

    ck_assert_int_eq(audit_put(audit, &entry), 0);
    read = all_entries(&n);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(read->event, "token.failed");
    ck_assert_str_eq(read->code, "STK003W");
    ck_assert(read->is_failure);
    ck_assert_str_eq(read->actor, "agent/web-1");
    ck_assert_str_eq(read->source, "10.0.0.7:411");
    ck_assert_str_eq(read->object, "token/k7mq2h5x");
    ck_assert_str_eq(read->correlation, "c-1");
    ck_assert_str_eq(field_of(read, "ttl"), "30m");
    ck_assert_str_eq(field_of(read, "uses"), "1");
}
END_TEST

START_TEST(texts_are_cut_with_a_mark_and_made_utf8)
{
    char text[4096];
    const struct audit_record *read;
    size_t n;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    memcpy(text + 1019, "\xc3\xa4", 2); /* would be cut in its middle */
    put(AUDIT_TOKEN_CREATED, text, "bad \xff\xfe and good \xc3\xa4");
    read = all_entries(&n);
    ck_assert_uint_eq(strlen(read->actor), 1024);
    ck_assert_str_eq(read->actor + 1019, "\xc3\xa4...");
    ck_assert_str_eq(read->object, "bad ?? and good \xc3\xa4");
    memcpy(text + 1019, "xx", 2);
    memcpy(text + 1020, "\xc3\xa4", 2);
    put(AUDIT_TOKEN_CREATED, text, NULL);
    read = all_entries(&n);
    ck_assert_uint_eq(strlen(read[1].actor), 1023);
    ck_assert_str_eq(read[1].actor + 1019, "x...");
}
END_TEST

START_TEST(a_day_never_goes_back_and_times_stay_true)
{
    struct row_head head;
    const struct seen *rows;
    const struct audit_record *entries;
    uint32_t day;
    uint64_t number;
    size_t n;

    put_many(1);
    now_us += 3 * DAY_US;
    put_many(1);
    now_us -= 2 * DAY_US;
    put_many(1);
    rows = all_rows(&n);
    ck_assert(row_key_read(span_of(rows[2].key, rows[2].key_len), &day, &number));
    ck_assert_uint_eq(day, 20003);
    ck_assert_uint_eq(number, 3);
    entries = all_entries(&n);
    ck_assert_int_eq(entries[2].time.us, now_us);
    ck_assert_int_eq(audit_head(audit, &head), 0);
    ck_assert_uint_eq(head.day, 20003);
    ck_assert_uint_eq(head.late_day, 20003);
}
END_TEST

struct act {
    int answer;
};

static int act(struct store_change *change, void *ctx)
{
    const struct act *what = ctx;
    const struct store_write write = { STORE_TABLE_OPERATORS, span_of_text("anna"),
                                       span_of_text("admin") };
    const struct audit_entry entry = { .event = AUDIT_OPERATOR_ADDED, .object = "operator/anna" };
    int r = store_change_put(change, &write);

    if (r == 0)
        r = audit_put_in(change, &entry);
    if (r == 0)
        r = audit_put_in(change, &entry);
    return r != 0 ? r : what->answer;
}

START_TEST(an_act_and_its_entries_are_one_transaction)
{
    struct act what = { .answer = STORE_OUTCOME_FREE };
    struct row_head head;
    size_t n;

    ck_assert_int_eq(store_state_change(store, act, &what), STORE_OUTCOME_FREE);
    (void) all_entries(&n);
    ck_assert_uint_eq(n, 0);
    what.answer = 0;
    ck_assert_int_eq(store_state_change(store, act, &what), 0);
    (void) all_entries(&n);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(audit_head(audit, &head), 0);
    ck_assert_uint_eq(head.number, 2);
}
END_TEST

START_TEST(processes_write_to_one_chain)
{
    const struct audit_record *entries;
    size_t n;
    int status;

    for (int i = 0; i < 3; i++) {
        pid_t child = fork();

        ck_assert_int_ge(child, 0);
        if (child == 0) {
            store = open_store();
            open_audit(NULL);
            put_many(50);
            _exit(0);
        }
    }
    put_many(50);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
    }
    entries = all_entries(&n);
    ck_assert_uint_eq(n, 200);
    for (size_t i = 1; i < n; i++)
        ck_assert_mem_eq(entries[i].sha256_before, entries[i - 1].sha256, 32);
}
END_TEST

START_TEST(a_chain_whose_head_is_gone_goes_on_behind_its_last_entry)
{
    const struct store_write write = { STORE_TABLE_AUDIT, span_of_text("!head"), { NULL, 0 } };
    const struct audit_record *entries;
    size_t n;

    put_many(3);
    ck_assert_int_eq(store_state_write(store, &write, 1), 0);
    put_many(1);
    entries = all_entries(&n);
    ck_assert_uint_eq(n, 4);
    ck_assert_uint_eq(entries[3].number, 4);
    ck_assert_mem_eq(entries[3].sha256_before, entries[2].sha256, 32);
}
END_TEST

START_TEST(codes_are_unique_and_say_whether_it_is_a_refusal)
{
    for (int i = 0; i < AUDIT_N_EVENTS; i++) {
        const char *code = audit_event_code((enum audit_event) i);

        ck_assert_uint_eq(strlen(code), 7);
        ck_assert_int_eq(code[6] == 'W', row_event_is_failure((enum audit_event) i));
        ck_assert(code[6] == 'W' || code[6] == 'I');
        ck_assert_int_eq(row_event_of(code), i);
    }
    ck_assert_int_eq(row_event_of("SXX999I"), AUDIT_N_EVENTS);
}
END_TEST

START_TEST(rows_that_are_none_are_named)
{
    static const char *const keys[] = { "!head", "!anchor", "!dropped", "E", "x" };
    uint8_t key[ROW_KEY_BYTES];
    struct seen *rows;
    size_t n;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        ck_assert_ptr_nonnull(audit_check_row(NULL, STORE_TABLE_AUDIT, span_of_text(keys[i]),
                                              span_of_text("nonsense")));
    put_many(1);
    rows = all_rows(&n);
    ck_assert_uint_eq(n, 2);
    for (size_t i = 0; i < n; i++)
        ck_assert_ptr_null(audit_check_row(NULL, STORE_TABLE_AUDIT,
                                           span_of(rows[i].key, rows[i].key_len),
                                           span_of(rows[i].value, rows[i].value_len)));
    row_key(20000, 2, key);
    ck_assert_ptr_nonnull(audit_check_row(NULL, STORE_TABLE_AUDIT, span_of(key, sizeof(key)),
                                          span_of(rows[0].value, rows[0].value_len)));
}
END_TEST

TCase *case_chain(void)
{
    TCase *tc = tcase_create("chain");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, audit_setup, audit_teardown);
    tcase_add_test(tc, entries_are_numbered_and_each_has_the_hash_of_the_one_before);
    tcase_add_test(tc, what_was_written_is_read);
    tcase_add_test(tc, texts_are_cut_with_a_mark_and_made_utf8);
    tcase_add_test(tc, a_day_never_goes_back_and_times_stay_true);
    tcase_add_test(tc, an_act_and_its_entries_are_one_transaction);
    tcase_add_test(tc, processes_write_to_one_chain);
    tcase_add_test(tc, a_chain_whose_head_is_gone_goes_on_behind_its_last_entry);
    tcase_add_test(tc, codes_are_unique_and_say_whether_it_is_a_refusal);
    tcase_add_test(tc, rows_that_are_none_are_named);
    return tc;
}

Suite *suite(void)
{
    Suite *s = suite_create("server/audit");

    suite_add_tcase(s, case_chain());
    suite_add_tcase(s, case_notes());
    suite_add_tcase(s, case_days());
    suite_add_tcase(s, case_find());
    suite_add_tcase(s, case_tampering());
    return s;
}
