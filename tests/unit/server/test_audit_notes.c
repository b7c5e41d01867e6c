/* SPDX-License-Identifier: Apache-2.0 */
#include "test_audit.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/base/fault.h"

static size_t n_of(const char *event)
{
    size_t n, found = 0;
    const struct audit_record *entries = all_entries(&n);

    for (size_t i = 0; i < n; i++)
        found += strcmp(entries[i].event, event) == 0;
    return found;
}

START_TEST(notes_are_written_at_the_tick_with_the_time_of_the_note)
{
    const struct audit_record *entries;
    size_t n;
    int64_t noted_us = now_us;

    note(AUDIT_AUTH_OK, "agent/web-1", "10.0.0.7:1");
    now_us += SECOND_US;
    ck_assert_uint_eq(n_of("authentication.succeeded"), 0);
    tick();
    entries = all_entries(&n);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(entries[0].time.us, noted_us);
    ck_assert_str_eq(entries[0].source, "10.0.0.7:1");
}
END_TEST

START_TEST(what_is_still_queued_is_written_at_the_end)
{
    note(AUDIT_AUTH_OK, "agent/web-1", "10.0.0.7:1");
    reopen();
    ck_assert_uint_eq(n_of("authentication.succeeded"), 1);
}
END_TEST

START_TEST(a_flood_of_refusals_from_one_address_is_counted)
{
    struct audit_stats stats;
    const struct audit_record *entries;
    char actor[32];
    size_t n;

    for (unsigned i = 0; i < 500; i++) {
        snprintf(actor, sizeof(actor), "agent/made-up-%u", i);
        note(AUDIT_AUTH_FAILED, actor, i % 2 ? "10.0.0.7:1" : "10.0.0.7:2");
    }
    note(AUDIT_AUTH_FAILED, "agent/x", "10.0.0.8:1");
    tick();
    ck_assert_uint_eq(n_of("authentication.failed"), 61);
    ck_assert_uint_eq(n_of("audit.left_out"), 0);
    audit_get_stats(audit, &stats);
    ck_assert_uint_eq(stats.n_left_out, 440);
    now_us += MINUTE_US;
    tick();
    entries = all_entries(&n);
    ck_assert_uint_eq(n, 62);
    ck_assert_str_eq(entries[61].event, "audit.left_out");
    ck_assert_str_eq(field_of(&entries[61], "event"), "authentication.failed");
    ck_assert_str_eq(field_of(&entries[61], "count"), "440");
    ck_assert_str_eq(field_of(&entries[61], "from"), "10.0.0.7");
    note(AUDIT_AUTH_FAILED, "agent/x", "10.0.0.7:1");
    tick();
    ck_assert_uint_eq(n_of("authentication.failed"), 62);
}
END_TEST

START_TEST(refusals_from_many_addresses_have_a_rate_together)
{
    const struct audit_record *entries;
    char source[32];
    size_t n;

    for (unsigned i = 0; i < 5000; i++) {
        snprintf(source, sizeof(source), "10.0.%u.%u:1", i / 250, i % 250);
        note(AUDIT_AUTH_FAILED, "", source);
    }
    now_us += MINUTE_US;
    tick();
    ck_assert_uint_eq(n_of("authentication.failed"), 600);
    entries = all_entries(&n);
    ck_assert_str_eq(field_of(&entries[n - 1], "count"), "4400");
    ck_assert_str_eq(field_of(&entries[n - 1], "sources"), "4400");
}
END_TEST

START_TEST(a_fleet_behind_one_address_is_written_whole)
{
    char actor[32];

    for (unsigned i = 0; i < 10000; i++) {
        snprintf(actor, sizeof(actor), "agent/web-%u", i);
        note(AUDIT_AUTH_OK, actor, "198.51.100.7:4000");
    }
    tick();
    ck_assert_uint_eq(n_of("authentication.succeeded"), 10000);
}
END_TEST

START_TEST(addresses_of_v6_are_told_apart_without_their_ports)
{
    for (unsigned i = 0; i < 100; i++) {
        note(AUDIT_AUTH_FAILED, "", i % 2 ? "[2001:db8::1]:1" : "[2001:db8::1]:2");
        note(AUDIT_AUTH_FAILED, "", "2001:db8::2");
        note(AUDIT_AUTH_FAILED, "", "2001:db8::3");
    }
    tick();
    ck_assert_uint_eq(n_of("authentication.failed"), 180);
}
END_TEST

START_TEST(a_full_queue_drops_counts_and_says_so)
{
    const struct audit_limits limits = { .notes_per_minute = 1000000 };
    struct audit_stats stats;
    static char text[1000];
    const struct audit_field field = { "text", text };
    const struct audit_entry entry = {
        .event = AUDIT_AUTH_OK, .actor = "agent/a", .fields = &field, .n_fields = 1
    };

    memset(text, 'x', sizeof(text) - 1);
    audit_set_limits(audit, &limits);
    for (unsigned i = 0; i < 40000; i++) /* of 32 MiB */
        audit_note(audit, &entry);
    audit_get_stats(audit, &stats);
    ck_assert_uint_gt(stats.n_left_out, 5000);
    now_us += MINUTE_US;
    for (int i = 0; i < 3; i++)
        tick();
    now_us += MINUTE_US;
    tick();
    audit_get_stats(audit, &stats);
    ck_assert_uint_eq(stats.head + stats.n_left_out, 40000 + 1);
}
END_TEST

/* ---- a full disk ---- */

static struct rlimit unlimited;

/* A limit on the size of a file answers a write as a full disk does. */
static void fill_the_disk(void)
{
    char path[256];
    struct stat st;
    struct rlimit small;

    snprintf(path, sizeof(path), "%s/db/state/data.mdb", audit_state);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
    small = (struct rlimit){ (rlim_t) st.st_size, unlimited.rlim_max };
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
}

static void free_the_disk(void)
{
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
}

/* An operator is added: row and entry, or neither. */
static int add_operator(struct store_change *change, void *ctx)
{
    const char *name = ctx;
    static const char facts[2000];
    const struct store_write write = { STORE_TABLE_OPERATORS, span_of_text(name),
                                       span_of(facts, sizeof(facts)) };
    const struct audit_entry entry = { .event = AUDIT_OPERATOR_ADDED, .object = name };
    int r = store_change_put(change, &write);

    return r != 0 ? r : audit_put_in(change, &entry);
}

static bool count_one(void *ctx, struct span key, struct span value)
{
    size_t *n = ctx;

    (void) key;
    (void) value;
    ++*n;
    return true;
}

START_TEST(on_a_full_disk_no_act_happens_without_its_entry)
{
    struct row_head before, after;
    size_t n_operators = 0, n_added = 0, n_entries;
    char name[32];
    int r = 0;

    fill_the_disk();
    while (r == 0 && n_added < 10000) {
        ck_assert_int_eq(audit_head(audit, &before), 0);
        snprintf(name, sizeof(name), "operator-%zu", n_added);
        r = store_state_change(store, add_operator, name);
        n_added += r == 0;
    }
    ck_assert_int_eq(r, STORE_FULL);
    free_the_disk();
    ck_assert_int_eq(audit_head(audit, &after), 0);
    ck_assert_uint_eq(after.number, before.number);
    ck_assert_int_eq(store_state_each(store, STORE_TABLE_OPERATORS, count_one, &n_operators), 0);
    ck_assert_uint_eq(n_operators, n_added);
    (void) all_entries(&n_entries);
    ck_assert_uint_eq(n_entries, n_added);
    ck_assert_int_eq(store_state_change(store, add_operator, name), 0);
    verify_is_good();
}
END_TEST

START_TEST(on_a_full_disk_entries_are_refused_and_notes_wait_for_room)
{
    static char text[1000];
    const struct audit_field field = { "text", text };
    const struct audit_entry entry = {
        .event = AUDIT_TOKEN_CREATED, .actor = "operator/anna", .fields = &field, .n_fields = 1
    };
    struct audit_stats stats;
    int r = 0;

    memset(text, 'x', sizeof(text) - 1);
    fill_the_disk();
    for (int i = 0; i < 10000 && r == 0; i++)
        r = audit_put(audit, &entry);
    ck_assert_int_eq(r, AUDIT_FULL);
    audit_get_stats(audit, &stats);
    ck_assert_uint_eq(stats.n_failed, 1);
    note(AUDIT_AUTH_OK, "agent/web-1", "10.0.0.7:1");
    for (int i = 0; i < 200; i++) /* more than may be left on the pages that are there */
        audit_note(audit, &entry);
    tick();
    ck_assert_uint_eq(n_of("authentication.succeeded"), 0);
    free_the_disk();
    tick();
    ck_assert_uint_eq(n_of("authentication.succeeded"), 1);
    verify_is_good();
}
END_TEST

static void *note_many(void *arg)
{
    (void) arg;
    for (unsigned i = 0; i < 1000; i++)
        note(AUDIT_AUTH_OK, "agent/a", "10.0.0.7:1");
    return NULL;
}

START_TEST(notes_of_many_threads_are_written_by_the_one_of_the_hub)
{
    const struct audit_options options = { .limits = { .notes_per_minute = 1000000 } };
    pthread_t threads[4];

    audit = audit_close(audit);
    open_audit(&options);
    ck_assert_int_eq(audit_start(audit), 0);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, note_many, NULL), 0);
    put_many(20);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    audit_stop(audit);
    note(AUDIT_AUTH_OK, "agent/late", "10.0.0.7:1");
    reopen();
    ck_assert_uint_eq(n_of("authentication.succeeded"), 4001);
    ck_assert_uint_eq(n_of("token.created"), 20);
}
END_TEST

TCase *case_notes(void)
{
    TCase *tc = tcase_create("notes");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, audit_setup, audit_teardown);
    tcase_add_test(tc, notes_are_written_at_the_tick_with_the_time_of_the_note);
    tcase_add_test(tc, what_is_still_queued_is_written_at_the_end);
    tcase_add_test(tc, a_flood_of_refusals_from_one_address_is_counted);
    tcase_add_test(tc, refusals_from_many_addresses_have_a_rate_together);
    tcase_add_test(tc, a_fleet_behind_one_address_is_written_whole);
    tcase_add_test(tc, addresses_of_v6_are_told_apart_without_their_ports);
    tcase_add_test(tc, a_full_queue_drops_counts_and_says_so);
    tcase_add_test(tc, on_a_full_disk_no_act_happens_without_its_entry);
    tcase_add_test(tc, on_a_full_disk_entries_are_refused_and_notes_wait_for_room);
    tcase_add_test(tc, notes_of_many_threads_are_written_by_the_one_of_the_hub);
    return tc;
}
