/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "pki_rig.h"

static struct arena arena;
static struct tls_key *key;
static struct buf csr;
static struct pki_granted granted;

static void setup(void)
{
    rig_setup();
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(tls_key_new(&key), 0);
    csr = (struct buf){ 0 };
    ck_assert_int_eq(tls_csr_print(key, "whoever", &csr), 0);
}

static void teardown(void)
{
    buf_deinit(&csr);
    key = tls_key_free(key);
    arena_deinit(&arena);
    rig_teardown();
}

static int set(const char *name, enum pki_role role, struct span request)
{
    const struct pki_operator_wish wish = { .name = name, .role = role, .csr_der = request };

    rig_why.text[0] = 0;
    return pki_operator_set(rig_pki, &wish, &rig_act, &arena, &granted, &rig_why);
}

static int take_away(const char *name)
{
    rig_why.text[0] = 0;
    return pki_operator_remove(rig_pki, name, &rig_act, &rig_why);
}

static const struct pki_operator *find(const char *name)
{
    struct pki_operator *all;
    size_t n;

    ck_assert_int_eq(pki_operator_list(rig_pki, &arena, &all, &n), 0);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    }
    return NULL;
}

START_TEST(an_operator_gets_a_certificate_for_his_own_key_and_the_least_role)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    struct pki_identity identity;
    struct tls_facts facts;

    ck_assert_int_eq(set("vera", PKI_ROLE_NONE, buf_span(&csr)), 0);
    ck_assert_uint_eq(granted.n_chain, 2);
    ck_assert_int_eq(tls_cert_parse_der(&leaf, granted.chain_der[0]), 0);
    ck_assert_int_eq(tls_cert_matches_key(leaf, key), 0);
    ck_assert_int_eq(tls_cert_read(leaf, &facts), 0);
    ck_assert_str_eq(facts.common_name, "vera"); /* not what the request said */
    ck_assert_int_eq(rig_identify(granted.chain_der[0], &identity), 0);
    ck_assert_int_eq(identity.kind, PKI_OPERATOR);
    ck_assert_int_eq(identity.role, PKI_ROLE_VIEWER);
    ck_assert_int_eq(find("vera")->role, PKI_ROLE_VIEWER);
    ck_assert_uint_eq(find("vera")->n_certificates, 1);
}
END_TEST

START_TEST(a_role_is_set_in_every_certificate_at_once)
{
    struct pki_identity identity;

    ck_assert_int_eq(set("vera", PKI_ROLE_NONE, buf_span(&csr)), 0);
    const struct span first = granted.chain_der[0];
    ck_assert_int_eq(set("vera", PKI_ROLE_NONE, buf_span(&csr)), 0);
    ck_assert_uint_eq(find("vera")->n_certificates, 2);
    ck_assert_int_eq(set("vera", PKI_ROLE_OPERATOR, span_of(NULL, 0)), 0);
    ck_assert_int_eq(rig_identify(first, &identity), 0);
    ck_assert_int_eq(identity.role, PKI_ROLE_OPERATOR);
    /* A new certificate has the role that he has. */
    ck_assert_int_eq(set("vera", PKI_ROLE_NONE, buf_span(&csr)), 0);
    ck_assert_int_eq(rig_identify(granted.chain_der[0], &identity), 0);
    ck_assert_int_eq(identity.role, PKI_ROLE_OPERATOR);
}
END_TEST

START_TEST(the_last_admin_stays_an_admin)
{
    ck_assert_int_eq(set("admin", PKI_ROLE_VIEWER, span_of(NULL, 0)), PKI_REFUSED);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "last admin"));
    ck_assert_int_eq(take_away("admin"), PKI_REFUSED);
    ck_assert_int_eq(set("vera", PKI_ROLE_ADMIN, buf_span(&csr)), 0);
    ck_assert_int_eq(take_away("admin"), 0);
    ck_assert_int_eq(take_away("vera"), PKI_REFUSED);
    ck_assert_ptr_null(find("admin"));
}
END_TEST

START_TEST(an_admin_whose_certificate_is_over_is_none)
{
    ck_assert_int_eq(set("vera", PKI_ROLE_ADMIN, buf_span(&csr)), 0);
    rig_move_clock(INT64_C(89) * 24 * 3600 * 1000000);
    CLEANUP(buf_deinit) struct buf other = rig_issue(PKI_OPERATOR, "admin", PKI_ROLE_ADMIN);
    rig_move_clock(INT64_C(2) * 24 * 3600 * 1000000);
    ck_assert_int_eq(take_away("admin"), PKI_REFUSED);
}
END_TEST

START_TEST(who_is_removed_is_refused_from_the_same_moment_on)
{
    struct pki_identity identity;

    ck_assert_int_eq(set("vera", PKI_ROLE_OPERATOR, buf_span(&csr)), 0);
    ck_assert_int_eq(take_away("vera"), 0);
    ck_assert_int_eq(rig_identify(granted.chain_der[0], &identity), PKI_NOT_ACTIVE);
    ck_assert_int_eq(identity.state, PKI_REVOKED);
    ck_assert_int_eq(take_away("vera"), PKI_UNKNOWN);
    ck_assert_int_eq(take_away("no such name"), PKI_UNKNOWN);
    /* He may come back with a new one, as a viewer. */
    ck_assert_int_eq(set("vera", PKI_ROLE_NONE, buf_span(&csr)), 0);
    ck_assert_int_eq(find("vera")->role, PKI_ROLE_VIEWER);
}
END_TEST

START_TEST(wishes_that_make_no_sense_are_refused_with_the_field)
{
    ck_assert_int_eq(set("vera", PKI_ROLE_NONE, span_of_text("no request")), PKI_BAD_NAME);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "csr"));
    ck_assert_int_eq(set("Vera", PKI_ROLE_NONE, buf_span(&csr)), PKI_BAD_NAME);
    ck_assert_int_eq(set("vera", PKI_ROLE_AGENT, buf_span(&csr)), PKI_BAD_NAME);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "role"));
    ck_assert_int_eq(set("vera", PKI_ROLE_OPERATOR, span_of(NULL, 0)), PKI_REFUSED);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "no operator"));
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/pki_operators");
    TCase *operators = tcase_create("operators");

    tcase_add_checked_fixture(operators, setup, teardown);
    tcase_add_test(operators, an_operator_gets_a_certificate_for_his_own_key_and_the_least_role);
    tcase_add_test(operators, a_role_is_set_in_every_certificate_at_once);
    tcase_add_test(operators, the_last_admin_stays_an_admin);
    tcase_add_test(operators, an_admin_whose_certificate_is_over_is_none);
    tcase_add_test(operators, who_is_removed_is_refused_from_the_same_moment_on);
    tcase_add_test(operators, wishes_that_make_no_sense_are_refused_with_the_field);
    suite_add_tcase(s, operators);
    return s;
}
