/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "server/pki/sealed/sealed.h"

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define BASE64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static char directory[64];
static struct tls_why why;

static const char *at(const char *name)
{
    static char path[2][128];
    static unsigned next;
    char *to = path[next++ % 2];

    snprintf(to, sizeof(path[0]), "%s/%s", directory, name);
    return to;
}

static void put(const char *name, const char *text, mode_t mode)
{
    ck_assert_int_eq(file_replace(at(name), span_of_text(text), mode), 0);
}

static void setup(void)
{
    snprintf(directory, sizeof(directory), "/tmp/test_sealed.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(unsetenv("SENTINEL_HUB_CA_KEY"), 0);
    ck_assert_int_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    why.text[0] = 0;
}

static void teardown(void)
{
    ck_assert_int_eq(file_remove_tree(directory), 0);
}

static struct sealed_key key_of(uint8_t first)
{
    struct sealed_key key = { .is_there = true };

    for (size_t i = 0; i < sizeof(key.bytes); i++)
        key.bytes[i] = (uint8_t) (first + i);
    return key;
}

/* ---- keys ---- */

START_TEST(a_key_is_read_as_it_is_as_hex_and_as_base64)
{
    const struct sealed_key wanted = key_of(0);
    const struct span texts[] = { span_of(wanted.bytes, sizeof(wanted.bytes)), span_of_text(HEX),
                                  span_of_text("  " HEX "\r\n"), span_of_text(BASE64 "\n") };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sealed_key key = { .is_there = false };

        ck_assert_int_eq(sealed_key_parse(texts[i], &key), 0);
        ck_assert(key.is_there);
        ck_assert_mem_eq(key.bytes, wanted.bytes, sizeof(key.bytes));
    }
}
END_TEST

START_TEST(what_is_no_key_is_refused)
{
    static const char *const texts[] = {
        "",
        "open sesame",
        HEX "0",
        "g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", /* bits over */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH*8=",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sealed_key key = { .is_there = false };

        ck_assert_int_eq(sealed_key_parse(span_of_text(texts[i]), &key), SEALED_BAD);
        ck_assert(!key.is_there);
    }
}
END_TEST

START_TEST(the_file_comes_before_the_environment_and_that_before_the_credential)
{
    struct sealed_key key = { .is_there = true };

    ck_assert_int_eq(sealed_key_find(NULL, &key, &why), 0);
    ck_assert(!key.is_there);

    put("ca-key", "ff" HEX, 0400);
    ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", directory, 1), 0);
    ck_assert_int_eq(sealed_key_find(NULL, &key, &why), SEALED_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "openssl rand -hex 32"));
    put("ca-key", HEX, 0400);
    ck_assert_int_eq(sealed_key_find("", &key, &why), 0);
    ck_assert_uint_eq(key.bytes[0], 0);

    ck_assert_int_eq(setenv("SENTINEL_HUB_CA_KEY", "ff" HEX, 1), 0);
    ck_assert_int_eq(sealed_key_find(NULL, &key, &why), SEALED_BAD);
    ck_assert_ptr_null(strstr(why.text, HEX));
    ck_assert_int_eq(setenv("SENTINEL_HUB_CA_KEY", "a password of 32 characters, bad", 1), 0);
    ck_assert_int_eq(sealed_key_find(NULL, &key, &why), SEALED_BAD);
    ck_assert_int_eq(setenv("SENTINEL_HUB_CA_KEY", BASE64, 1), 0);
    ck_assert_int_eq(sealed_key_find(NULL, &key, &why), 0);
    ck_assert_str_eq(key.source, "SENTINEL_HUB_CA_KEY");

    ck_assert_int_eq(sealed_key_find(at("none"), &key, &why), SEALED_ABSENT);
    put("mine", "01" HEX, 0600);
    ck_assert_int_eq(sealed_key_find(at("mine"), &key, &why), SEALED_BAD);
    put("mine", HEX "\n", 0600);
    ck_assert_int_eq(sealed_key_find(at("mine"), &key, &why), 0);
    ck_assert_ptr_nonnull(strstr(key.source, "/mine"));
}
END_TEST

START_TEST(a_key_file_that_others_read_is_refused)
{
    struct sealed_key key = { .is_there = false };

    put("open", HEX, 0644);
    ck_assert_int_eq(sealed_key_find(at("open"), &key, &why), SEALED_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "chmod 600"));
}
END_TEST

START_TEST(other_credentials_are_no_key)
{
    struct sealed_key key = { .is_there = true };

    ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", directory, 1), 0);
    ck_assert_int_eq(sealed_key_find(NULL, &key, &why), 0);
    ck_assert(!key.is_there);
}
END_TEST

/* ---- sealing ---- */

static struct buf closed(const char *name, const char *secret)
{
    const struct sealed_key key = key_of(7);
    struct buf text = { 0 };

    sealed_close(&key, name, span_of_text(secret), &text);
    ck_assert(!buf_failed(&text));
    return text;
}

START_TEST(what_was_closed_opens_under_the_key_and_the_name)
{
    static const size_t lengths[] = { 0, 1, 8, 23, 24, 25, 241, 4000 };
    const struct sealed_key key = key_of(7);

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        CLEANUP(buf_deinit) struct buf secret = { 0 }, text = { 0 }, opened = { 0 };

        memset(buf_extend(&secret, lengths[i] + 1), 'x', lengths[i] + 1);
        secret.len = lengths[i];
        sealed_close(&key, "agents-ca", buf_span(&secret), &text);
        ck_assert(sealed_is(buf_span(&text)));
        ck_assert_int_eq(sealed_open(&key, "agents-ca", buf_span(&text), &opened), 0);
        ck_assert(span_equal(buf_span(&opened), buf_span(&secret)));
    }
}
END_TEST

START_TEST(another_key_another_name_and_no_key_do_not_open)
{
    const struct sealed_key right = key_of(7), wrong = key_of(8);
    const struct sealed_key none = { .is_there = false };
    CLEANUP(buf_deinit) struct buf text = closed("agents-ca", "a secret"), opened = { 0 };

    ck_assert_int_eq(sealed_open(&wrong, "agents-ca", buf_span(&text), &opened), SEALED_OTHER_KEY);
    ck_assert_int_eq(sealed_open(&none, "agents-ca", buf_span(&text), &opened), SEALED_OTHER_KEY);
    ck_assert_int_eq(sealed_open(&right, "hubs-ca", buf_span(&text), &opened), SEALED_CHANGED);
    ck_assert_uint_eq(opened.len, 0);
}
END_TEST

START_TEST(a_sealed_file_changed_or_cut_at_any_byte_does_not_open)
{
    const struct sealed_key key = key_of(7);
    CLEANUP(buf_deinit) struct buf text = closed("ca", "a secret"), opened = { 0 };

    for (size_t i = 0; i < text.len; i++) {
        text.data[i] ^= 1;
        ck_assert_int_gt(sealed_open(&key, "ca", buf_span(&text), &opened), 0);
        text.data[i] ^= 1;
        ck_assert_int_eq(sealed_open(&key, "ca", span_of(text.data, i), &opened), SEALED_BAD);
    }
    buf_append_text(&text, "\n");
    ck_assert_int_eq(sealed_open(&key, "ca", buf_span(&text), &opened), SEALED_BAD);
    ck_assert_uint_eq(opened.len, 0);
}
END_TEST

START_TEST(the_same_secret_is_never_closed_the_same_twice)
{
    CLEANUP(buf_deinit) struct buf one = closed("ca", "a secret"), two = closed("ca", "a secret");

    ck_assert(!span_equal(buf_span(&one), buf_span(&two)));
}
END_TEST

/* Made by another implementation, by the drawing in the header. */
START_TEST(a_file_of_version_1_opens)
{
    static const char text[] = "-----BEGIN SENTINEL SEALED KEY-----\n"
                               "010100000172a90e249040696465666768696a6b6c6d6e6f3f7760982679be97\n"
                               "83590ded4fe116e3bf34a890229bc9e2\n"
                               "-----END SENTINEL SEALED KEY-----\n";
    const struct sealed_key key = key_of(7);
    CLEANUP(buf_deinit) struct buf opened = { 0 };

    ck_assert_int_eq(sealed_open(&key, "ca", span_of_text(text), &opened), 0);
    ck_assert(span_equal(buf_span(&opened), span_of_text("a secret")));
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/pki_sealed");
    TCase *keys = tcase_create("keys");
    TCase *sealing = tcase_create("sealing");

    tcase_add_checked_fixture(keys, setup, teardown);
    tcase_add_test(keys, a_key_is_read_as_it_is_as_hex_and_as_base64);
    tcase_add_test(keys, what_is_no_key_is_refused);
    tcase_add_test(keys, the_file_comes_before_the_environment_and_that_before_the_credential);
    tcase_add_test(keys, a_key_file_that_others_read_is_refused);
    tcase_add_test(keys, other_credentials_are_no_key);
    suite_add_tcase(s, keys);
    tcase_add_test(sealing, what_was_closed_opens_under_the_key_and_the_name);
    tcase_add_test(sealing, another_key_another_name_and_no_key_do_not_open);
    tcase_add_test(sealing, a_sealed_file_changed_or_cut_at_any_byte_does_not_open);
    tcase_add_test(sealing, the_same_secret_is_never_closed_the_same_twice);
    tcase_add_test(sealing, a_file_of_version_1_opens);
    suite_add_tcase(s, sealing);
    return s;
}
