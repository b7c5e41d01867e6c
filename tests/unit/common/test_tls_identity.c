/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/tls/tls.h"
#include "suite.h"

static struct tls_key *leaf_key;
static struct tls_key *other_key;
static struct tls_why why;
static char directory[64];

static void set_up(void)
{
    ck_assert_int_eq(tls_key_new(&leaf_key), 0);
    ck_assert_int_eq(tls_key_new(&other_key), 0);
    strcpy(directory, "/tmp/test-tls-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    why = (struct tls_why){ 0 };
}

static void tear_down(void)
{
    tls_key_free(leaf_key);
    tls_key_free(other_key);
    ck_assert_int_eq(file_remove_tree(directory), 0);
}

static void assert_says(const char *part)
{
    ck_assert_msg(strstr(why.text, part) != NULL, "\"%s\" is not in \"%s\"", part, why.text);
}

static char where[128];

static const char *path_of(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", where, name);
    return path;
}

/* A root, a chain and a key that belong together; who trusts them is not looked at here. */
static void identity_init(struct tls_identity *identity, const struct tls_key *key)
{
    struct tls_request request = {
        .profile = TLS_CLIENT, .common_name = "web-1", .not_before = { 0 }, .not_after = { 1000000 }
    };
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;

    *identity = (struct tls_identity){ 0 };
    ck_assert_int_eq(tls_cert_issue(&leaf, &request, key, NULL, key), 0);
    ck_assert_int_eq(tls_cert_print(leaf, &identity->roots_pem), 0);
    ck_assert_int_eq(tls_cert_print(leaf, &identity->chain_pem), 0);
    ck_assert_int_eq(tls_key_print(key, &identity->key_pem), 0);
}

static void save(const struct tls_key *key)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };

    snprintf(where, sizeof(where), "%s/identity", directory);
    identity_init(&identity, key);
    ck_assert_msg(tls_identity_save(where, &identity, &why) == 0, "%s", why.text);
}

static int load(void)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    int r = tls_identity_load(where, &identity, &why);

    ck_assert_int_eq(r == 0, identity.key_pem.len > 0);
    return r;
}

static mode_t mode_of(const char *path)
{
    struct stat info;

    ck_assert_int_eq(stat(path, &info), 0);
    return info.st_mode & 07777;
}

START_TEST(an_identity_is_saved_closed_and_loaded_the_same)
{
    CLEANUP(tls_identity_deinit) struct tls_identity saved = { 0 };
    CLEANUP(tls_identity_deinit) struct tls_identity loaded = { 0 };

    umask(0);
    snprintf(where, sizeof(where), "%s/a/identity", directory);
    identity_init(&saved, leaf_key);
    ck_assert_int_eq(tls_identity_save(where, &saved, &why), 0);
    ck_assert_uint_eq(mode_of(where), 0700);
    ck_assert_uint_eq(mode_of(path_of("client-key.pem")), 0600);
    ck_assert_uint_eq(mode_of(path_of("client-cert.pem")), 0644);
    ck_assert_uint_eq(mode_of(path_of("ca-cert.pem")), 0644);
    ck_assert_int_ne(access(path_of("client-key.next.pem"), F_OK), 0);

    ck_assert_int_eq(tls_identity_load(where, &loaded, &why), 0);
    ck_assert_str_eq(buf_text(&loaded.roots_pem), buf_text(&saved.roots_pem));
    ck_assert_str_eq(buf_text(&loaded.chain_pem), buf_text(&saved.chain_pem));
    ck_assert_str_eq(buf_text(&loaded.key_pem), buf_text(&saved.key_pem));
}
END_TEST

START_TEST(loose_files_are_refused_with_the_command_that_mends_them)
{
    char want[512];

    save(leaf_key);
    ck_assert_int_eq(chmod(path_of("client-key.pem"), 0644), 0);
    ck_assert_int_eq(load(), TLS_LOOSE);
    snprintf(
        want, sizeof(want),
        "the private key has mode 0644, but others must not use it; mend it with: chmod 600 %s",
        path_of("client-key.pem"));
    ck_assert_str_eq(why.text, want);
    ck_assert_int_eq(chmod(path_of("client-key.pem"), 0640), 0);
    ck_assert_int_eq(load(), TLS_LOOSE);
    ck_assert_int_eq(chmod(path_of("client-key.pem"), 0440), 0);
    ck_assert_int_eq(load(), 0);
    ck_assert_int_eq(chmod(path_of("client-key.pem"), 0400), 0);
    ck_assert_int_eq(load(), 0);

    ck_assert_int_eq(chmod(path_of("ca-cert.pem"), 0666), 0);
    ck_assert_int_eq(load(), TLS_LOOSE);
    assert_says("chmod 644 ");
    ck_assert_int_eq(chmod(path_of("ca-cert.pem"), 0644), 0);

    ck_assert_int_eq(chmod(where, 0755), 0);
    ck_assert_int_eq(load(), TLS_LOOSE);
    snprintf(
        want, sizeof(want),
        "the directory has mode 0755, but must be closed to others; mend it with: chmod 700 %s",
        where);
    ck_assert_str_eq(why.text, want);
}
END_TEST

START_TEST(a_path_is_quoted_for_the_shell)
{
    struct tls_key *key = NULL;
    char path[128];
    char want[256];

    snprintf(path, sizeof(path), "%s/it's a key", directory);
    ck_assert_int_eq(file_replace(path, span_of_text("x"), 0644), 0);
    ck_assert_int_eq(tls_key_load(path, &key, &why), TLS_LOOSE);
    snprintf(want, sizeof(want), "chmod 600 '%s/it'\\''s a key'", directory);
    assert_says(want);
}
END_TEST

START_TEST(another_users_file_is_refused_with_chown)
{
    char want[512];

    if (geteuid() != 0)
        return; /* only root can give files away */
    save(leaf_key);
    ck_assert_int_eq(chown(path_of("client-key.pem"), 4711, 4711), 0);
    ck_assert_int_eq(load(), TLS_LOOSE);
    snprintf(want, sizeof(want),
             "its owner is user 4711, neither we (0) nor root; mend it with: chown 0 %s",
             path_of("client-key.pem"));
    ck_assert_str_eq(why.text, want);
}
END_TEST

START_TEST(absent_broken_and_mismatched_are_told_apart)
{
    CLEANUP(buf_deinit) struct buf other = { 0 };
    struct tls_key *key = NULL;

    snprintf(where, sizeof(where), "%s/none", directory);
    ck_assert_int_eq(load(), TLS_ABSENT);
    ck_assert_int_eq(tls_key_load("/nonexistent/key.pem", &key, &why), TLS_ABSENT);
    ck_assert_str_eq(why.text, "/nonexistent/key.pem does not exist");
    ck_assert_int_eq(tls_key_load(directory, &key, &why), TLS_BAD);

    save(leaf_key);
    ck_assert_int_eq(tls_key_print(other_key, &other), 0);
    ck_assert_int_eq(file_replace(path_of("client-key.pem"), buf_span(&other), 0600), 0);
    ck_assert_int_eq(load(), TLS_MISMATCH);
    assert_says("is not the one of the certificate in");
    ck_assert_int_eq(file_replace(path_of("client-key.pem"), span_of_text("junk"), 0600), 0);
    ck_assert_int_eq(load(), TLS_BAD);
    ck_assert_int_eq(unlink(path_of("client-key.pem")), 0);
    ck_assert_int_eq(load(), TLS_ABSENT);

    save(leaf_key);
    ck_assert_int_eq(file_replace(path_of("client-cert.pem"), span_of_text("junk"), 0644), 0);
    ck_assert_int_eq(load(), TLS_BAD);
    assert_says("client-cert.pem does not hold certificates in PEM");
}
END_TEST

/* Leaves what a save of `key` leaves when it is cut off behind its certificate. */
static void save_and_cut_off(const struct tls_key *key)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };

    identity_init(&identity, key);
    ck_assert_int_eq(
        file_replace(path_of("client-key.next.pem"), buf_span(&identity.key_pem), 0600), 0);
    ck_assert_int_eq(load(), 0); /* the old one */
    ck_assert_int_eq(file_replace(path_of("client-cert.pem"), buf_span(&identity.chain_pem), 0644),
                     0);
}

START_TEST(a_save_cut_off_before_its_last_step_loses_nothing)
{
    CLEANUP(tls_identity_deinit) struct tls_identity loaded = { 0 };
    CLEANUP(buf_deinit) struct buf pem = { 0 };

    save(leaf_key);
    save_and_cut_off(other_key);
    ck_assert_int_eq(tls_identity_load(where, &loaded, &why), 0);
    ck_assert_int_eq(tls_key_print(other_key, &pem), 0);
    ck_assert_str_eq(buf_text(&loaded.key_pem), buf_text(&pem));
    save(leaf_key);
    ck_assert_int_eq(load(), 0);
    ck_assert_int_ne(access(path_of("client-key.next.pem"), F_OK), 0);
}
END_TEST

static void no_sink(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

START_TEST(a_save_that_fails_keeps_the_key_of_one_cut_off_before)
{
    CLEANUP(tls_identity_deinit) struct tls_identity third = { 0 };

    save(leaf_key);
    save_and_cut_off(other_key);
    identity_init(&third, leaf_key);
    ck_assert_int_eq(unlink(path_of("ca-cert.pem")), 0);
    ck_assert_int_eq(mkdir(path_of("ca-cert.pem"), 0755), 0); /* cannot be replaced */
    fault_set_sink(no_sink);
    ck_assert_int_ne(tls_identity_save(where, &third, &why), 0);
    fault_set_sink(NULL);
    ck_assert_int_eq(rmdir(path_of("ca-cert.pem")), 0);
    ck_assert_int_eq(file_replace(path_of("ca-cert.pem"), buf_span(&third.roots_pem), 0644), 0);
    ck_assert_int_eq(load(), 0);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/tls identity");
    TCase *identities = tcase_create("identity directories");

    tcase_add_checked_fixture(identities, set_up, tear_down);
    tcase_add_test(identities, an_identity_is_saved_closed_and_loaded_the_same);
    tcase_add_test(identities, loose_files_are_refused_with_the_command_that_mends_them);
    tcase_add_test(identities, a_path_is_quoted_for_the_shell);
    tcase_add_test(identities, another_users_file_is_refused_with_chown);
    tcase_add_test(identities, absent_broken_and_mismatched_are_told_apart);
    tcase_add_test(identities, a_save_cut_off_before_its_last_step_loses_nothing);
    tcase_add_test(identities, a_save_that_fails_keeps_the_key_of_one_cut_off_before);
    suite_add_tcase(s, identities);
    return s;
}
