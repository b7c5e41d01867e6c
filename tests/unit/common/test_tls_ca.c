/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/ensure.h"
#include "common/tls/tls.h"
#include "suite.h"

#define DAY_US 86400000000LL
#define NOW_US 1795428000000000LL /* 2026-11-23T10:00:00Z */

static const wall_us now = { NOW_US };

static struct tls_key *key;
static struct tls_cert *issuer;

/* Stands for a token: the key never leaves it, and it counts what it signs. */
struct token {
    const struct tls_key *inside;
    unsigned n_signed;
    bool is_broken;
};

static int token_sign(void *ctx, struct span data, struct buf *to)
{
    struct token *token = ctx;

    token->n_signed++;
    if (token->is_broken) {
        buf_append_text(to, "no signature");
        return 0;
    }
    return tls_key_sign(token->inside, data, to);
}

static struct tls_request request_for(enum tls_profile profile, const char *name)
{
    return (struct tls_request){ .profile = profile,
                                 .common_name = name,
                                 .not_before = { NOW_US - DAY_US },
                                 .not_after = { NOW_US + DAY_US } };
}

static void set_up(void)
{
    const struct tls_request request = request_for(TLS_ROOT, "Agents CA");

    ck_assert_int_eq(tls_key_new(&key), 0);
    ck_assert_int_eq(tls_cert_issue(&issuer, &request, key, NULL, key), 0);
}

static void tear_down(void)
{
    issuer = tls_cert_free(issuer);
    key = tls_key_free(key);
}

/* ---- signers ---- */

START_TEST(a_foreign_signer_makes_certificates_that_verify)
{
    struct token token = { .inside = key };
    const struct tls_signer signer = { .sign = token_sign, .ctx = &token };
    const struct tls_request request = request_for(TLS_CLIENT, "web-1");
    CLEANUP(tls_key_freep) struct tls_key *leaf_key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    CLEANUP(buf_deinit) struct buf chain = { 0 }, roots = { 0 };
    struct tls_why why = { "" };
    struct tls_facts facts;

    ck_assert_int_eq(tls_key_new(&leaf_key), 0);
    ck_assert_int_eq(tls_cert_issue_by(&leaf, &request, leaf_key, issuer, &signer), 0);
    ck_assert_uint_eq(token.n_signed, 1);
    ck_assert_int_eq(tls_cert_print(leaf, &chain), 0);
    ck_assert_int_eq(tls_cert_print(issuer, &roots), 0);
    ck_assert_int_eq(
        tls_chain_verify(buf_span(&chain), buf_span(&roots), TLS_CLIENT, NULL, now, &why), 0);
    ck_assert_int_eq(tls_cert_read(leaf, &facts), 0);
    ck_assert_str_eq(facts.issuer, "Agents CA");
}
END_TEST

START_TEST(a_foreign_signer_signs_a_root_of_its_own)
{
    struct token token = { .inside = key };
    const struct tls_signer signer = { .sign = token_sign, .ctx = &token };
    const struct tls_request request = request_for(TLS_ROOT, "Another CA");
    CLEANUP(tls_cert_freep) struct tls_cert *root = NULL;
    CLEANUP(tls_key_freep) struct tls_key *public_half = NULL;

    ck_assert_int_eq(tls_cert_key(issuer, &public_half), 0);
    ck_assert_int_eq(tls_cert_issue_by(&root, &request, public_half, NULL, &signer), 0);
    ck_assert_int_eq(tls_cert_matches_key(root, key), 0);
}
END_TEST

START_TEST(a_signer_with_another_key_makes_nothing)
{
    CLEANUP(tls_key_freep) struct tls_key *other = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    const struct tls_request request = request_for(TLS_CLIENT, "web-1");

    ck_assert_int_eq(tls_key_new(&other), 0);
    struct token token = { .inside = other };
    const struct tls_signer signer = { .sign = token_sign, .ctx = &token };
    ck_assert_int_eq(tls_cert_issue_by(&leaf, &request, other, issuer, &signer), TLS_MISMATCH);
    ck_assert_ptr_null(leaf);
    token.is_broken = true;
    ck_assert_int_eq(tls_cert_issue_by(&leaf, &request, other, issuer, &signer), TLS_MISMATCH);
    ck_assert_ptr_null(leaf);
}
END_TEST

START_TEST(a_key_has_the_digest_of_its_certificate)
{
    uint8_t digest[32];
    struct tls_facts facts;
    char kind[16];

    ck_assert_int_eq(tls_key_digest(key, digest), 0);
    ck_assert_int_eq(tls_cert_read(issuer, &facts), 0);
    ck_assert_mem_eq(digest, facts.key_sha256, sizeof(digest));
    ck_assert_int_eq(tls_cert_key_kind(issuer, kind), 0);
    ck_assert_str_eq(kind, "P-256");
}
END_TEST

/* ---- lists ---- */

static int make_list(const struct tls_revoked *revoked, size_t n, struct buf *to)
{
    const struct tls_signer signer = tls_signer_of_key(key);
    const struct tls_crl_request request = { .revoked = revoked,
                                             .n_revoked = n,
                                             .number = 41,
                                             .this_update = now,
                                             .next_update = { NOW_US + 2 * DAY_US } };

    return tls_crl_issue(&request, issuer, &signer, to);
}

START_TEST(a_list_says_who_is_revoked_and_until_when_it_counts)
{
    static const struct tls_revoked revoked[] = { { "ff00000000000000000000000000000a", now },
                                                  { "0123456789abcdef0123456789abcdef", now } };
    CLEANUP(buf_deinit) struct buf list = { 0 };
    struct tls_crl_facts facts;

    ck_assert_int_eq(make_list(revoked, 2, &list), 0);
    ck_assert_int_eq(tls_crl_read(buf_span(&list), issuer, revoked[0].serial, &facts), 0);
    ck_assert(facts.has_serial);
    ck_assert_uint_eq(facts.n_revoked, 2);
    ck_assert_uint_eq(facts.number, 41);
    ck_assert_int_eq(facts.this_update.us, NOW_US);
    ck_assert_int_eq(facts.next_update.us, NOW_US + 2 * DAY_US);
    ck_assert_int_eq(tls_crl_read(buf_span(&list), issuer, "77", &facts), 0);
    ck_assert(!facts.has_serial);
}
END_TEST

START_TEST(an_empty_list_is_a_list)
{
    CLEANUP(buf_deinit) struct buf list = { 0 };
    struct tls_crl_facts facts;

    ck_assert_int_eq(make_list(NULL, 0, &list), 0);
    ck_assert_int_eq(tls_crl_read(buf_span(&list), issuer, "01", &facts), 0);
    ck_assert_uint_eq(facts.n_revoked, 0);
    ck_assert(!facts.has_serial);
}
END_TEST

START_TEST(a_list_that_was_changed_or_is_anothers_is_refused)
{
    static const struct tls_revoked revoked[] = { { "0a", now } };
    const struct tls_request request = request_for(TLS_ROOT, "Agents CA");
    CLEANUP(tls_key_freep) struct tls_key *other_key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *other = NULL;
    CLEANUP(buf_deinit) struct buf list = { 0 };
    struct tls_crl_facts facts;

    ck_assert_int_eq(make_list(revoked, 1, &list), 0);
    for (size_t i = 0; i < list.len; i++) {
        list.data[i] ^= 1;
        ck_assert_int_gt(tls_crl_read(buf_span(&list), issuer, NULL, &facts), 0);
        list.data[i] ^= 1;
        ck_assert_int_gt(tls_crl_read(span_of(list.data, i), issuer, NULL, &facts), 0);
    }
    ck_assert_int_eq(tls_key_new(&other_key), 0);
    ck_assert_int_eq(tls_cert_issue(&other, &request, other_key, NULL, other_key), 0);
    ck_assert_int_eq(tls_crl_read(buf_span(&list), other, NULL, &facts), TLS_MISMATCH);
}
END_TEST

START_TEST(what_cannot_be_listed_is_refused)
{
    static const struct tls_revoked bad[] = { { "0x11", now }, { "", now } };
    CLEANUP(buf_deinit) struct buf list = { 0 };

    ck_assert_int_eq(make_list(&bad[0], 1, &list), TLS_BAD);
    ck_assert_int_eq(make_list(&bad[1], 1, &list), TLS_BAD);
    ck_assert_uint_eq(list.len, 0);
}
END_TEST

/* ---- browsers ---- */

START_TEST(an_identity_becomes_a_file_for_browsers)
{
    const struct tls_request request = request_for(TLS_CLIENT, "vera");
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    CLEANUP(tls_key_freep) struct tls_key *leaf_key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    CLEANUP(buf_deinit) struct buf file = { 0 };

    ck_assert_int_eq(tls_key_new(&leaf_key), 0);
    ck_assert_int_eq(tls_cert_issue(&leaf, &request, leaf_key, issuer, key), 0);
    ck_assert_int_eq(tls_key_print(leaf_key, &identity.key_pem), 0);
    ck_assert_int_eq(tls_cert_print(leaf, &identity.chain_pem), 0);
    ck_assert_int_eq(tls_cert_print(issuer, &identity.chain_pem), 0);
    ck_assert_int_eq(tls_pkcs12_print(&identity, "vera", "open sesame", &file), 0);
    ck_assert_uint_gt(file.len, 500);
    ck_assert_uint_eq(file.data[0], 0x30); /* SEQUENCE */
    /* Nothing of it in the clear. */
    ck_assert_ptr_null(memmem(file.data, file.len, "Agents CA", 9));
    ck_assert_int_eq(tls_pkcs12_print(&identity, "vera", "", &file), TLS_BAD);
    ck_assert_int_eq(tls_pkcs12_print(&identity, "vera", "\xff", &file), TLS_BAD);
    buf_clear(&identity.key_pem);
    ck_assert_int_eq(tls_key_print(key, &identity.key_pem), 0);
    ck_assert_int_eq(tls_pkcs12_print(&identity, "vera", "another key's", &file), TLS_BAD);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/tls_ca");
    TCase *signers = tcase_create("signers");
    TCase *lists = tcase_create("lists");
    TCase *browsers = tcase_create("browsers");

    tcase_add_checked_fixture(signers, set_up, tear_down);
    tcase_add_test(signers, a_foreign_signer_makes_certificates_that_verify);
    tcase_add_test(signers, a_foreign_signer_signs_a_root_of_its_own);
    tcase_add_test(signers, a_signer_with_another_key_makes_nothing);
    tcase_add_test(signers, a_key_has_the_digest_of_its_certificate);
    suite_add_tcase(s, signers);
    tcase_add_checked_fixture(lists, set_up, tear_down);
    tcase_add_test(lists, a_list_says_who_is_revoked_and_until_when_it_counts);
    tcase_add_test(lists, an_empty_list_is_a_list);
    tcase_add_test(lists, a_list_that_was_changed_or_is_anothers_is_refused);
    tcase_add_test(lists, what_cannot_be_listed_is_refused);
    suite_add_tcase(s, lists);
    tcase_add_checked_fixture(browsers, set_up, tear_down);
    tcase_add_test(browsers, an_identity_becomes_a_file_for_browsers);
    suite_add_tcase(s, browsers);
    return s;
}
