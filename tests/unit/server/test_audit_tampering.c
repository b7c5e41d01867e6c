/* SPDX-License-Identifier: Apache-2.0 */
#include "test_audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/audit/segment.h"

static struct audit_anchor kept; /* as an agent has it */

/* Entries 1 to 40 and the anchor over them (41), 42 to 61 and the anchor over those (62). */
static void setup(void)
{
    audit_setup();
    open_signing(NULL);
    put_many(40);
    tick();
    ck_assert_int_eq(audit_get_anchor(audit, &kept), 0);
    ck_assert_uint_eq(kept.entry, 40);
    put_many(20);
    now_us += 10 * MINUTE_US;
    tick();
    /* From here on nothing is signed: the tampering is somebody else's. */
    audit = audit_close(audit);
    open_audit(NULL);
}

static void write_row(const struct seen *row, struct span value)
{
    const struct store_write write = { STORE_TABLE_AUDIT, span_of(row->key, row->key_len), value };

    ck_assert_int_eq(store_state_write(store, &write, 1), 0);
}

static struct span value_of(const struct seen *row)
{
    return span_of(row->value, row->value_len);
}

/* Who did it was somebody else. */
static void change_actor(uint8_t *value, size_t len)
{
    uint8_t *at = memmem(value, len, "anna", 4);

    ck_assert_ptr_nonnull(at);
    memcpy(at, "bert", 4);
}

static void remove_row(const struct seen *row)
{
    write_row(row, span_of(NULL, 0));
}

/* Entry n, from 1. */
static struct seen *entry_row(struct seen *rows, uint64_t n)
{
    return &rows[n - 1];
}

static void remove_key(const char *key)
{
    const struct store_write write = { STORE_TABLE_AUDIT, span_of_text(key), { NULL, 0 } };

    ck_assert_int_eq(store_state_write(store, &write, 1), 0);
}

START_TEST(a_whole_chain_is_good)
{
    verify_is_good();
    ck_assert_uint_eq(verdict.first, 1);
    ck_assert_uint_eq(verdict.last, 62);
    ck_assert_uint_eq(verdict.n_entries, 62);
    ck_assert_uint_eq(verdict.anchored, 61);
    ck_assert_uint_eq(verdict.n_anchors, 3); /* two in it, and the row of the newest */
    ck_assert_int_eq(verify_with(&kept, 1), 0);
    ck_assert_uint_eq(verdict.n_anchors, 4);
    ck_assert_int_eq(audit_verify(audit, NULL, 0, NULL, NULL, &verdict), 0);
}
END_TEST

START_TEST(an_empty_chain_is_good)
{
    audit_teardown();
    audit_setup();
    verify_is_good();
    ck_assert_uint_eq(verdict.n_entries, 0);
}
END_TEST

/* Each byte of an entry, one at a time. */
START_TEST(a_changed_byte_is_found_at_its_entry)
{
    size_t n;
    struct seen *row = entry_row(all_rows(&n), 10);

    for (size_t at = 0; at < row->value_len; at++) {
        row->value[at] ^= 0x20;
        write_row(row, value_of(row));
        ck_assert_int_eq(verify_with(NULL, 0), AUDIT_BROKEN);
        /* What it says of the one before accuses that one too. */
        if (at >= 20 && at < 52)
            ck_assert_uint_eq(verdict.bad_entry, 9);
        else
            ck_assert_msg(verdict.bad_entry == 10, "byte %zu: %s", at, verdict.why);
        row->value[at] ^= 0x20;
    }
    write_row(row, value_of(row));
    verify_is_good();
}
END_TEST

START_TEST(a_changed_last_entry_is_found_by_the_head)
{
    size_t n;
    struct seen *row;

    put_many(1);
    row = entry_row(all_rows(&n), 63);
    change_actor(row->value, row->value_len);
    write_row(row, value_of(row));
    verify_says(63, "the head of the chain has another hash");
}
END_TEST

START_TEST(a_removed_entry_is_named)
{
    size_t n;

    remove_row(entry_row(all_rows(&n), 10));
    verify_says(10, "missing: entry 11 comes next");
}
END_TEST

START_TEST(removed_first_entries_are_named)
{
    size_t n;
    struct seen *rows = all_rows(&n);

    for (uint64_t i = 1; i <= 5; i++)
        remove_row(entry_row(rows, i));
    verify_says(1, "missing: the first entry is 6");
}
END_TEST

START_TEST(entries_that_changed_places_are_named)
{
    size_t n;
    struct seen *rows = all_rows(&n);

    write_row(entry_row(rows, 10), value_of(entry_row(rows, 11)));
    write_row(entry_row(rows, 11), value_of(entry_row(rows, 10)));
    verify_says(10, "entry 11 lies in its place");
}
END_TEST

START_TEST(an_end_that_was_cut_off_is_named)
{
    size_t n;
    struct seen *rows = all_rows(&n);

    for (uint64_t i = 51; i <= 62; i++)
        remove_row(entry_row(rows, i));
    verify_says(51, "the head of the chain is entry 62");
    remove_key("!head");
    verify_says(51, "entry 61 was signed at 2024-10-04T12:10:00.000Z");
    remove_key("!anchor");
    reopen(); /* it is remembered */
    verify_says(50, "the head of the chain behind it is missing");
    put_many(1); /* which makes a head again */
    verify_is_good();
    ck_assert_int_eq(verify_with(&kept, 1), AUDIT_OK); /* it is over what is still there */
}
END_TEST

/* The chain from entry n on with other texts and fresh hashes, as one would who knows the form.
 * Anchors get their new hashes, but no signature. */
static void rewrite_from(uint64_t n, uint64_t first_changed)
{
    size_t n_rows;
    struct seen *rows = all_rows(&n_rows);
    static uint8_t sha256[64][32];
    struct row_head head = { .day = 20000, .number = 62, .time_us = now_us };
    uint8_t head_value[ROW_HEAD_BYTES];
    char *at;

    for (uint64_t i = 1; i <= 62; i++) {
        struct seen *row = entry_row(rows, i);

        if (i > n)
            memcpy(row->value + 20, sha256[i - 1], 32);
        if (i == first_changed)
            change_actor(row->value, row->value_len);
        if (i == 41 || i == 62) { /* the hash that it says, in hex */
            at = memmem(row->value, row->value_len, "sha256", 6);
            ck_assert_ptr_nonnull(at);
            char hex[65];
            memcpy(at + 8, text_of_hex(sha256[i - 1], 32, hex), 64);
        }
        crypto_sha256(value_of(row), sha256[i]);
        write_row(row, value_of(row));
    }
    memcpy(head.sha256, sha256[62], 32);
    row_head_write(&head, head_value);
    struct seen head_row = { .key_len = 5 };
    memcpy(head_row.key, "!head", 5);
    write_row(&head_row, span_of(head_value, sizeof(head_value)));
}

START_TEST(a_chain_written_anew_is_found_by_the_signatures_in_it)
{
    rewrite_from(10, 10);
    remove_key("!anchor");
    reopen();
    verify_says(40, "its signature in entry 41 is not the hub's: it, or one before it back to "
                    "entry 1, was written anew");
}
END_TEST

START_TEST(a_chain_written_anew_behind_an_anchor_is_told_from_there)
{
    rewrite_from(50, 50);
    remove_key("!anchor");
    reopen();
    verify_says(61, "back to entry 41, was written anew");
}
END_TEST

START_TEST(a_chain_written_anew_is_found_by_the_anchor_that_an_agent_has)
{
    rewrite_from(10, 10);
    remove_key("!anchor");
    reopen();
    /* Who looks at no signatures, or when the hub's key was stolen too. */
    ck_assert_int_eq(audit_verify(audit, NULL, 0, NULL, NULL, &verdict), AUDIT_OK);
    ck_assert_int_eq(audit_verify(audit, &kept, 1, NULL, NULL, &verdict), AUDIT_BROKEN);
    ck_assert_uint_eq(verdict.bad_entry, 40);
    ck_assert_ptr_nonnull(strstr(verdict.why, "not the entry that was signed at"));
}
END_TEST

START_TEST(anchors_that_the_hub_did_not_sign_say_nothing)
{
    struct audit_anchor forged = kept;

    forged.sha256[0] ^= 1;
    ck_assert_int_eq(verify_with(&forged, 1), AUDIT_OK);
    ck_assert_uint_eq(verdict.n_anchors_refused, 1);
    forged.n_signature = 0; /* who gives it answers for it */
    ck_assert_int_eq(verify_with(&forged, 1), AUDIT_BROKEN);
    ck_assert_uint_eq(verdict.bad_entry, 40);
    forged = kept;
    forged.entry = 5000;
    ck_assert_int_eq(verify_with(&forged, 1), AUDIT_OK);
    ck_assert_uint_eq(verdict.n_anchors_refused, 1);
}
END_TEST

START_TEST(an_older_state_is_found_by_the_anchor_that_an_agent_has)
{
    struct audit_anchor newest;

    ck_assert_int_eq(audit_get_anchor(audit, &newest), 0);
    audit_teardown();
    audit_setup();
    put_many(30);
    ck_assert_int_eq(verify_with(&newest, 1), AUDIT_BROKEN);
    ck_assert_uint_eq(verdict.bad_entry, 31);
    ck_assert_ptr_nonnull(strstr(verdict.why, "entry 61 was signed"));
}
END_TEST

/* ---- closed days ---- */

static char path[256];

static void close_the_day(void)
{
    const struct audit_limits limits = { .hot_us = DAY_US };
    char name[16];

    now_us += 2 * DAY_US;
    put_many(1);
    audit_set_limits(audit, &limits);
    tick();
    segment_name(20000, name);
    snprintf(path, sizeof(path), "%s/%s", audit_directory, name);
    verify_is_good();
    ck_assert_uint_eq(verdict.n_days, 1);
}

START_TEST(every_flipped_bit_of_a_closed_day_is_found)
{
    CLEANUP(buf_deinit) struct buf file = { 0 };

    close_the_day();
    ck_assert_int_eq(file_read(path, 1 << 20, &file), 0);
    for (size_t at = 0; at < file.len; at++) {
        file.data[at] ^= 0x10;
        ck_assert_int_eq(file_replace(path, buf_span(&file), 0600), 0);
        ck_assert_msg(verify_with(NULL, 0) == AUDIT_BROKEN, "byte %zu", at);
        file.data[at] ^= 0x10;
    }
    ck_assert_int_eq(file_replace(path, buf_span(&file), 0600), 0);
    verify_is_good();
}
END_TEST

START_TEST(a_closed_day_that_is_cut_anywhere_is_found)
{
    CLEANUP(buf_deinit) struct buf file = { 0 };

    close_the_day();
    ck_assert_int_eq(file_read(path, 1 << 20, &file), 0);
    for (size_t len = 0; len < file.len; len += 7) {
        ck_assert_int_eq(file_replace(path, span_of(file.data, len), 0600), 0);
        ck_assert_int_eq(verify_with(NULL, 0), AUDIT_BROKEN);
    }
}
END_TEST

START_TEST(a_closed_day_that_is_gone_is_found)
{
    close_the_day();
    ck_assert_int_eq(remove(path), 0);
    verify_says(1, "missing: the first entry is 63");
}
END_TEST

struct forging {
    struct segment_writer writer;
    uint64_t without, changed;
};

static void forge(uint64_t without, uint64_t changed)
{
    CLEANUP(segment_close) struct segment segment = SEGMENT_NULL;
    CLEANUP(buf_deinit) struct buf rows = { 0 };
    struct forging forging = { .without = without, .changed = changed };
    struct segment_why why;
    struct segment_row row;

    ck_assert_int_eq(segment_open(&segment, audit_directory, 20000, &why), 0);
    ck_assert_int_eq(segment_begin(&forging.writer, audit_directory, 20000), 0);
    for (size_t i = 0; i < segment.n_frames; i++) {
        ck_assert_int_eq(segment_load(&segment, i, &rows, &why), 0);
        for (struct span rest = buf_span(&rows); segment_row_next(&rest, &row);) {
            CLEANUP(buf_deinit) struct buf value = { 0 };

            buf_append_span(&value, row.value);
            if (row.number == changed)
                change_actor(value.data, value.len);
            if (row.number != without)
                ck_assert_int_eq(segment_add(&forging.writer, row.number, 0, buf_span(&value)), 0);
        }
    }
    ck_assert_int_eq(segment_end(&forging.writer), 0);
    segment_writer_deinit(&forging.writer);
}

START_TEST(a_closed_day_that_somebody_wrote_anew_is_named_to_the_entry)
{
    close_the_day();
    forge(0, 17);
    verify_says(17, "it was changed");
    forge(17, 0);
    verify_says(17, "it is missing");
}
END_TEST

START_TEST(a_damaged_closed_day_leaves_the_others_to_be_read)
{
    CLEANUP(buf_deinit) struct buf file = { 0 };
    struct arena arena;
    const struct audit_question question = { .limit = 10 };
    struct audit_record *found;
    size_t n;
    bool has_more;

    close_the_day();
    ck_assert_int_eq(file_read(path, 1 << 20, &file), 0);
    file.data[100] ^= 1;
    ck_assert_int_eq(file_replace(path, buf_span(&file), 0600), 0);
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(audit_find(audit, &question, &arena, &found, &n, &has_more), 0);
    ck_assert_uint_eq(n, 1);
    arena_deinit(&arena);
}
END_TEST

TCase *case_tampering(void)
{
    TCase *tc = tcase_create("tampering");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, audit_teardown);
    tcase_add_test(tc, a_whole_chain_is_good);
    tcase_add_test(tc, an_empty_chain_is_good);
    tcase_add_test(tc, a_changed_byte_is_found_at_its_entry);
    tcase_add_test(tc, a_changed_last_entry_is_found_by_the_head);
    tcase_add_test(tc, a_removed_entry_is_named);
    tcase_add_test(tc, removed_first_entries_are_named);
    tcase_add_test(tc, entries_that_changed_places_are_named);
    tcase_add_test(tc, an_end_that_was_cut_off_is_named);
    tcase_add_test(tc, a_chain_written_anew_is_found_by_the_signatures_in_it);
    tcase_add_test(tc, a_chain_written_anew_behind_an_anchor_is_told_from_there);
    tcase_add_test(tc, a_chain_written_anew_is_found_by_the_anchor_that_an_agent_has);
    tcase_add_test(tc, anchors_that_the_hub_did_not_sign_say_nothing);
    tcase_add_test(tc, an_older_state_is_found_by_the_anchor_that_an_agent_has);
    tcase_add_test(tc, every_flipped_bit_of_a_closed_day_is_found);
    tcase_add_test(tc, a_closed_day_that_is_cut_anywhere_is_found);
    tcase_add_test(tc, a_closed_day_that_is_gone_is_found);
    tcase_add_test(tc, a_closed_day_that_somebody_wrote_anew_is_named_to_the_entry);
    tcase_add_test(tc, a_damaged_closed_day_leaves_the_others_to_be_read);
    return tc;
}
