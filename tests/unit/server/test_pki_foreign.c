/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "pki_rig.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"

#define DAY_US (24 * 60 * 60 * INT64_C(1000000))

static struct rig_foreign theirs;

static void setup(void)
{
    rig_setup();
    rig_foreign_init(&theirs, "Example Corp Issuing CA");
}

static void teardown(void)
{
    rig_foreign_deinit(&theirs);
    rig_teardown();
}

static struct pki_foreign rule_for(const char *name, const char *cn, const char *ou)
{
    struct pki_foreign rule = { .kind = PKI_AGENT, .role = PKI_ROLE_AGENT, .may_register = true };

    snprintf(rule.name, sizeof(rule.name), "%s", name);
    snprintf(rule.cn_pattern, sizeof(rule.cn_pattern), "%s", cn);
    snprintf(rule.ou_pattern, sizeof(rule.ou_pattern), "%s", ou);
    return rule;
}

static int add(const struct pki_foreign *rule, struct span pem)
{
    rig_why.text[0] = 0;
    return pki_foreign_add(rig_pki, rule, pem, &rig_act, &rig_why);
}

static void must_add(const struct pki_foreign *rule)
{
    int r = add(rule, buf_span(&theirs.pem));

    ck_assert_msg(r == 0, "%d: %s", r, rig_why.text);
}

START_TEST(a_leaf_of_an_imported_ca_registers_itself_by_its_rule)
{
    const struct pki_foreign rule = rule_for("corp", "web-*", "fleet");
    CLEANUP(buf_deinit) struct buf leaf = rig_foreign_leaf(&theirs, "web-1", "Example", "fleet");
    struct pki_identity identity;

    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), PKI_UNKNOWN);
    must_add(&rule);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), 0);
    ck_assert_str_eq(identity.name, "web-1");
    ck_assert_int_eq(identity.role, PKI_ROLE_AGENT);
    ck_assert_int_eq(identity.kind, PKI_AGENT);
    /* For long streams too, before and after it is on disk. */
    struct pki_identity again;
    ck_assert_int_eq(pki_recheck(rig_pki, identity.sha256, rig_now(), &again), 0);
    pki_clerk_settle(rig_pki->ca->clerk);
    ck_assert_int_eq(pki_recheck(rig_pki, identity.sha256, rig_now(), &again), 0);
    rig_must_reopen();
    ck_assert_int_eq(pki_recheck(rig_pki, identity.sha256, rig_now(), &again), 0);
    ck_assert_int_eq(again.role, PKI_ROLE_AGENT);
}
END_TEST

START_TEST(what_the_rule_does_not_name_stays_unknown)
{
    const struct pki_foreign rule = rule_for("corp", "web-*", "fleet");
    CLEANUP(buf_deinit) struct buf other_cn = rig_foreign_leaf(&theirs, "db-1", NULL, "fleet");
    CLEANUP(buf_deinit) struct buf other_ou = rig_foreign_leaf(&theirs, "web-1", NULL, "desks");
    CLEANUP(buf_deinit) struct buf no_ou = rig_foreign_leaf(&theirs, "web-1", NULL, NULL);
    CLEANUP(buf_deinit) struct buf bad_name = rig_foreign_leaf(&theirs, "web-1 ", NULL, "fleet");
    struct rig_foreign strangers;
    struct pki_identity identity;

    must_add(&rule);
    ck_assert_int_eq(rig_identify(buf_span(&other_cn), &identity), PKI_UNKNOWN);
    ck_assert_int_eq(rig_identify(buf_span(&other_ou), &identity), PKI_UNKNOWN);
    ck_assert_int_eq(rig_identify(buf_span(&no_ou), &identity), PKI_UNKNOWN);
    ck_assert_int_eq(rig_identify(buf_span(&bad_name), &identity), PKI_UNKNOWN);
    /* Another CA of the same name. */
    rig_foreign_init(&strangers, "Example Corp Issuing CA");
    CLEANUP(buf_deinit) struct buf forged = rig_foreign_leaf(&strangers, "web-1", NULL, "fleet");
    ck_assert_int_eq(rig_identify(buf_span(&forged), &identity), PKI_UNKNOWN);
    rig_foreign_deinit(&strangers);
}
END_TEST

START_TEST(a_name_that_our_own_ca_gave_is_not_taken_by_another)
{
    const struct pki_foreign rule = rule_for("corp", "", "");
    CLEANUP(buf_deinit) struct buf ours = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);
    CLEANUP(buf_deinit) struct buf leaf = rig_foreign_leaf(&theirs, "web-1", NULL, NULL);
    struct pki_identity identity;

    must_add(&rule);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), PKI_UNKNOWN);
    ck_assert_int_eq(rig_identify(buf_span(&ours), &identity), 0);
}
END_TEST

START_TEST(the_same_ca_may_renew_a_name_it_has)
{
    const struct pki_foreign rule = rule_for("corp", "", "");
    CLEANUP(buf_deinit) struct buf one = rig_foreign_leaf(&theirs, "web-1", NULL, NULL);
    CLEANUP(buf_deinit) struct buf two = rig_foreign_leaf(&theirs, "web-1", NULL, NULL);
    struct pki_identity identity;

    must_add(&rule);
    ck_assert_int_eq(rig_identify(buf_span(&one), &identity), 0);
    pki_clerk_settle(rig_pki->ca->clerk);
    ck_assert_int_eq(rig_identify(buf_span(&two), &identity), 0);
}
END_TEST

START_TEST(one_that_was_revoked_does_not_come_back_by_its_rule)
{
    const struct pki_foreign rule = rule_for("corp", "", "");
    CLEANUP(buf_deinit) struct buf leaf = rig_foreign_leaf(&theirs, "web-1", NULL, NULL);
    struct pki_identity identity;

    must_add(&rule);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), 0);
    pki_clerk_settle(rig_pki->ca->clerk);
    rig_revoke(buf_span(&leaf));
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), PKI_NOT_ACTIVE);
    ck_assert_int_eq(pki_foreign_remove(rig_pki, "corp", &rig_act), 0);
    must_add(&rule);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), PKI_NOT_ACTIVE);
}
END_TEST

START_TEST(without_its_rule_a_leaf_is_unknown_again)
{
    const struct pki_foreign rule = rule_for("corp", "", "");
    CLEANUP(buf_deinit) struct buf leaf = rig_foreign_leaf(&theirs, "web-1", NULL, NULL);
    struct pki_identity identity;

    must_add(&rule);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), 0);
    const uint64_t generation = pki_generation(rig_pki);
    ck_assert_int_eq(pki_foreign_remove(rig_pki, "corp", &rig_act), 0);
    ck_assert_uint_gt(pki_generation(rig_pki), generation);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), PKI_UNKNOWN);
    ck_assert_int_eq(pki_recheck(rig_pki, identity.sha256, rig_now(), &identity), PKI_UNKNOWN);
    ck_assert_int_eq(pki_foreign_remove(rig_pki, "corp", &rig_act), PKI_UNKNOWN);
}
END_TEST

START_TEST(a_rule_that_may_not_register_lets_nobody_in)
{
    struct pki_foreign rule = rule_for("corp", "", "");
    CLEANUP(buf_deinit) struct buf leaf = rig_foreign_leaf(&theirs, "web-1", NULL, NULL);
    struct pki_identity identity;

    rule.may_register = false;
    must_add(&rule);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), PKI_UNKNOWN);
}
END_TEST

START_TEST(a_rule_for_operators_gives_its_role)
{
    struct pki_foreign rule = rule_for("people", "", "sre");
    CLEANUP(buf_deinit) struct buf leaf = rig_foreign_leaf(&theirs, "vera", NULL, "sre");
    struct pki_identity identity;

    rule.kind = PKI_OPERATOR;
    rule.role = PKI_ROLE_VIEWER;
    must_add(&rule);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), 0);
    ck_assert_int_eq(identity.role, PKI_ROLE_VIEWER);
    rig_move_clock(31 * DAY_US);
    pki_clerk_settle(rig_pki->ca->clerk);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), PKI_EXPIRED);
}
END_TEST

START_TEST(listeners_trust_it_while_there_is_a_rule)
{
    const struct pki_foreign rule = rule_for("corp", "", "");
    CLEANUP(buf_deinit) struct buf before = { 0 }, with = { 0 }, after = { 0 };

    ck_assert_int_eq(pki_client_roots(rig_pki, &before), 0);
    must_add(&rule);
    ck_assert_int_eq(pki_client_roots(rig_pki, &with), 0);
    ck_assert_ptr_nonnull(memmem(with.data, with.len, theirs.pem.data, theirs.pem.len));
    ck_assert_int_eq(pki_foreign_remove(rig_pki, "corp", &rig_act), 0);
    ck_assert_int_eq(pki_client_roots(rig_pki, &after), 0);
    ck_assert(span_equal(buf_span(&before), buf_span(&after)));
}
END_TEST

START_TEST(rules_are_listed_as_they_were_given)
{
    const struct pki_foreign rule = rule_for("corp", "web-*", "fleet");
    CLEANUP(arena_deinit) struct arena arena;
    struct pki_foreign *rules;
    size_t n;

    arena_init(&arena, 1 << 20);
    must_add(&rule);
    rig_must_reopen();
    ck_assert_int_eq(pki_foreign_list(rig_pki, &arena, &rules, &n), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(rules[0].name, "corp");
    ck_assert_str_eq(rules[0].subject, "Example Corp Issuing CA");
    ck_assert_str_eq(rules[0].cn_pattern, "web-*");
    ck_assert_str_eq(rules[0].ou_pattern, "fleet");
    ck_assert(rules[0].may_register);
}
END_TEST

START_TEST(rules_that_make_no_sense_are_refused_with_the_field)
{
    struct pki_foreign rule = rule_for("corp", "", "");

    ck_assert_int_eq(add(&rule, span_of_text("no certificate")), PKI_BAD);
    rule.role = PKI_ROLE_ADMIN;
    ck_assert_int_eq(add(&rule, buf_span(&theirs.pem)), PKI_BAD_NAME);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "role"));
    rule.kind = PKI_OPERATOR; /* everybody an admin? */
    ck_assert_int_eq(add(&rule, buf_span(&theirs.pem)), PKI_BAD_NAME);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "cn, o, ou"));
    rule = rule_for("Corp", "", "");
    ck_assert_int_eq(add(&rule, buf_span(&theirs.pem)), PKI_BAD_NAME);
    rule = rule_for("corp", "", "");
    must_add(&rule);
    ck_assert_int_eq(add(&rule, buf_span(&theirs.pem)), PKI_EXISTS);
    rig_move_clock(31 * DAY_US);
    rule = rule_for("late", "", "");
    ck_assert_int_eq(add(&rule, buf_span(&theirs.pem)), PKI_BAD);
    ck_assert_ptr_nonnull(strstr(rig_why.text, "expired"));
}
END_TEST

/* RSA-4096, self-signed: CN=rsa-agent-1, 100 years; made with openssl, its key thrown away. */
static const char rsa_pem[] = "-----BEGIN CERTIFICATE-----\n"
                              "MIIFITCCAwmgAwIBAgIULBDnvxdQ4CnqnSg2AEH2Y4RwmlYwDQYJKoZIhvcNAQEL\n"
                              "BQAwFjEUMBIGA1UEAwwLcnNhLWFnZW50LTEwIBcNMjYxMTI4MDEyOTM5WhgPMjEy\n"
                              "NjExMDQwMTI5MzlaMBYxFDASBgNVBAMMC3JzYS1hZ2VudC0xMIICIjANBgkqhkiG\n"
                              "9w0BAQEFAAOCAg8AMIICCgKCAgEAoTRHqhy25m/a7FIKYfr7B5rwR/Pk+G6fJNXZ\n"
                              "RGQ35EU02vfeH4EG+l7DnXUwRd3ulurlF58qgrqua9l9C4L+np0Df0SzGU4ft00S\n"
                              "uAFOT1CzXlgLKGZAodsXE5ndntSj97QiuaQ0chqbzbkqpDGSRDIu1uD5Bh0WF1ql\n"
                              "L8LsR2OIbO/cP5KgJRm1FPVErrlplR47SwO0PNWm5/fPZt4CVkjzZIAxkx5bhnVa\n"
                              "hRWuDoZERm10/oe6JcfsgMM/7SbkF+VVngsWynE0t470g0PBWB8q0A1eaTekg060\n"
                              "+YS2Rx0ey3xUZ5wVUZ7+0Dah4KjbpSVpaFxluyVoLqJQnEio/4xq+HB7vKfDFVTU\n"
                              "riEgc+YuVIHrsITASrZi6Wdwps2+fCR/67d4lghyrSLFRQLfEYOZMx7TxfVAOqKe\n"
                              "k0OfMjMsd+Vudd2f5lbKBvj6w3tb3+A00NLpUTSHU7K0A/v6/S7FZW8zQKmFx8wh\n"
                              "KkBMXuKsoY6TWy16eiJkCyWh+yD5iboEl6zgMryUbGJkYYm3KX0iyuJwxpSx0QMv\n"
                              "DQiXSPEon8WsCOACYQHlqtQ+Cbx4MkXMWRxTUST7Rr9P884bPQa9XxSljTaiyWeY\n"
                              "94tY/mRqevMPlvPX5MZwG4+FgwaPppwDu4FjxbVMMtS1jdcwdeDG08bvaTJnnJRm\n"
                              "zy5Elv8CAwEAAaNlMGMwHQYDVR0OBBYEFJp4QTy7YnlcXsSQGwiIqxz9EtVsMB8G\n"
                              "A1UdIwQYMBaAFJp4QTy7YnlcXsSQGwiIqxz9EtVsMAwGA1UdEwEB/wQCMAAwEwYD\n"
                              "VR0lBAwwCgYIKwYBBQUHAwIwDQYJKoZIhvcNAQELBQADggIBAD8qsg9VuElYKlOh\n"
                              "wKrEGyQynq5pl5M+uPmqNt+JIX0wc6l8Ly+KOIXDLJaU4DaBV1SFJKglwq6cgRRt\n"
                              "8DVQm6LVqB7B3gtF2JGJ3XQtSvkM5wUxULiZ+PKpiWeH4rilJT4Of4AewgIz4kZ4\n"
                              "zeA8aM+e/4D2cAdyp0TWm2QkU4nDLWDqIqWBd/AUMdZJZyLyypZlmNa2tCbE7WoO\n"
                              "E0hqozBp/sfuFekUjfuhrd8uQWfA+J6ZdWMiLv7A4+gMdWEDknob1kryKcXMfDSF\n"
                              "623sZOuVmylHi4dg63cRirIDlnn1sQdg5VPXUaLxeZGkWKu4XpSy0PgDvQei8/C3\n"
                              "AwHA7edaKVK7cFZAu1V1eycjss+eeZNqGnhmjj+Xtp6R/yei2esX/9YXuNKB+dfh\n"
                              "gN7Qbimwo48JOA61lpVyv6gwuBglMOWT/UOzLXUQW0wGqvLM42b3T1vtPtTuFBd8\n"
                              "d5hTGjyjSRcYUws1JiWyWD5OKOBZ7f/JixEOcaLjUkiiBAGPOQyuIECEH2F8febG\n"
                              "VVPxPcRg1o9n/qvn9bZeayRCjmHz1qwEM1ur0sYSeFyx3o5rTKSBEGjVz3q8qvEw\n"
                              "/F0DaOomXSvWK7U+InqMHyE3k5TYEr1b4K3i+2+HMt22ZGkYNbT6g6mzLCmJ9SPp\n"
                              "uN2M4KUAeVeiGfeg1a6ND8LmBr+2\n"
                              "-----END CERTIFICATE-----\n";

START_TEST(a_self_signed_rsa_4096_certificate_is_its_own_authority)
{
    const struct pki_foreign rule = rule_for("rsa-agent-1", "", "");
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    CLEANUP(buf_deinit) struct buf der = { 0 };
    struct pki_identity identity;
    char kind[16];

    ck_assert_int_eq(tls_cert_parse_pem(&cert, span_of_text(rsa_pem)), 0);
    ck_assert_int_eq(tls_cert_key_kind(cert, kind), 0);
    ck_assert_str_eq(kind, "RSA-4096");
    ck_assert_int_eq(tls_cert_print_der(cert, &der), 0);
    ck_assert_int_eq(rig_identify(buf_span(&der), &identity), PKI_UNKNOWN);
    int r = add(&rule, span_of_text(rsa_pem));
    ck_assert_msg(r == 0, "%d: %s", r, rig_why.text);
    ck_assert_int_eq(rig_identify(buf_span(&der), &identity), 0);
    ck_assert_str_eq(identity.name, "rsa-agent-1");
    /* Nobody else by the same rule, not even under its name. */
    CLEANUP(buf_deinit) struct buf leaf = rig_foreign_leaf(&theirs, "rsa-agent-1", NULL, NULL);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), PKI_UNKNOWN);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/pki_foreign");
    TCase *rules = tcase_create("rules");

    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_add_test(rules, a_leaf_of_an_imported_ca_registers_itself_by_its_rule);
    tcase_add_test(rules, what_the_rule_does_not_name_stays_unknown);
    tcase_add_test(rules, a_name_that_our_own_ca_gave_is_not_taken_by_another);
    tcase_add_test(rules, the_same_ca_may_renew_a_name_it_has);
    tcase_add_test(rules, one_that_was_revoked_does_not_come_back_by_its_rule);
    tcase_add_test(rules, without_its_rule_a_leaf_is_unknown_again);
    tcase_add_test(rules, a_rule_that_may_not_register_lets_nobody_in);
    tcase_add_test(rules, a_rule_for_operators_gives_its_role);
    tcase_add_test(rules, listeners_trust_it_while_there_is_a_rule);
    tcase_add_test(rules, rules_are_listed_as_they_were_given);
    tcase_add_test(rules, rules_that_make_no_sense_are_refused_with_the_field);
    tcase_add_test(rules, a_self_signed_rsa_4096_certificate_is_its_own_authority);
    suite_add_tcase(s, rules);
    return s;
}
