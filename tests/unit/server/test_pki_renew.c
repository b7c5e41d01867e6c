/* SPDX-License-Identifier: Apache-2.0 */
#include "test_pki_machines.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/crypto/crypto.h"

void add_renew_cases(Suite *s);

static struct machine one, two;
static struct pki_granted first; /* of machine one, in use */
static struct tls_key *first_key;

static void setup(void)
{
    const struct pki_token_wish wish = { .n_uses = 10 };

    rig_setup();
    machine_init(&one, "machine one");
    machine_init(&two, "machine two");
    struct pki_token token = rig_token(&wish);
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    first = one.granted;
    first_key = one.key;
    rig.offset_us += DAY_US;
}

static void teardown(void)
{
    machine_deinit(&one);
    machine_deinit(&two);
    rig_teardown();
}

static void expect_refused(int r, enum pki_refusal refusal)
{
    ck_assert_msg(r == PKI_REFUSED, "%d: %s", r, rig.why.text);
    ck_assert_msg(rig.refusal == refusal, "%d: %s", rig.refusal, rig.why.text);
}

START_TEST(a_renewal_counts_when_it_is_presented)
{
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;

    ck_assert_int_eq(rig_state_of(&child), PKI_UNCONFIRMED);
    ck_assert_int_eq(machine_call(&one, &first), 0); /* not yet */
    ck_assert_int_eq(machine_call(&one, &child), 0);
    ck_assert_int_eq(rig_state_of(&child), PKI_ACTIVE); /* in memory at once */
    ck_assert_int_eq(rig_state_of(&first), PKI_SUPERSEDED);
    rig_settle();
    ck_assert_int_eq(rig_state_of(&child), PKI_ACTIVE);
    ck_assert_int_eq(rig_state_of(&first), PKI_SUPERSEDED);
    ck_assert_uint_eq(rig_count(AUDIT_RENEWED), 1);
}
END_TEST

START_TEST(the_same_key_is_renewed_once)
{
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;

    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    ck_assert(one.granted.is_again);
    ck_assert(span_equal(child.chain_der[0], one.granted.chain_der[0]));
    ck_assert_uint_eq(rig_count(AUDIT_RENEWED), 1);
}
END_TEST

START_TEST(a_renewal_takes_a_new_key)
{
    struct buf csr = { 0 };

    ck_assert_int_eq(tls_csr_print(one.key, "x", &csr), 0);
    buf_clear(&one.csr);
    buf_append_span(&one.csr, buf_span(&csr));
    expect_refused(machine_renew(&one, leaf_of(&first)), PKI_REFUSED_CSR);
    buf_deinit(&csr);
}
END_TEST

START_TEST(a_sibling_that_was_never_seen_goes_with_the_one_that_comes)
{
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted lost = one.granted;

    machine_new_key(&one);
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted kept = one.granted;
    ck_assert_int_eq(machine_call(&one, &kept), 0);
    rig_settle();
    ck_assert_int_eq(rig_state_of(&lost), PKI_SUPERSEDED);
    ck_assert_int_eq(rig_state_of(&kept), PKI_ACTIVE);
}
END_TEST

START_TEST(an_agent_that_forgets_its_keys_does_not_fill_the_table)
{
    size_t n;

    for (int i = 0; i < 30; i++) {
        machine_new_key(&one);
        rig.offset_us += SECOND_US;
        ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    }
    (void) rig_certificates("web-1", &n);
    ck_assert_uint_eq(n, 1 + 8);
    ck_assert_int_eq(machine_call(&one, &one.granted), 0); /* the last one is there */
}
END_TEST

START_TEST(a_renewal_over_an_unconfirmed_channel_confirms_it)
{
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;

    machine_new_key(&one);
    ck_assert_int_eq(machine_renew(&one, leaf_of(&child)), 0);
    ck_assert_int_eq(rig_state_of(&child), PKI_ACTIVE);
    ck_assert_int_eq(rig_state_of(&first), PKI_SUPERSEDED);
    ck_assert_int_eq(rig_state_of(&one.granted), PKI_UNCONFIRMED);
}
END_TEST

START_TEST(who_is_unknown_expired_or_superseded_is_not_renewed)
{
    const uint8_t unknown[32] = { 1 };

    expect_refused(machine_renew(&one, unknown), PKI_REFUSED_UNKNOWN);
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;
    ck_assert_int_eq(machine_call(&one, &child), 0);
    expect_refused(machine_renew(&one, leaf_of(&first)), PKI_REFUSED_NOT_CURRENT);
    rig.offset_us += 8 * DAY_US;
    expect_refused(machine_renew(&one, leaf_of(&child)), PKI_REFUSED_NOT_CURRENT);
    ck_assert_uint_eq(rig_count(AUDIT_RENEW_REFUSED), 3);
}
END_TEST

/* ---- forks ---- */

START_TEST(a_parent_that_comes_after_its_child_stops_both)
{
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;
    struct pki_agent agent;
    uint64_t generation;

    ck_assert_int_eq(machine_call(&one, &child), 0);
    rig.offset_us += PKI_FORK_GRACE_US; /* calls under way */
    ck_assert_int_eq(machine_call(&one, &first), PKI_NOT_ACTIVE);
    ck_assert_int_eq(machine_call(&one, &child), 0);
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(machine_call(&one, &first), PKI_FORKED);
    ck_assert_int_eq(machine_call(&one, &child), PKI_FORKED);
    expect_refused(machine_renew(&one, leaf_of(&child)), PKI_REFUSED_NOT_CURRENT);
    rig_settle();
    ck_assert_int_eq(machine_call(&one, &child), PKI_FORKED);
    ck_assert_uint_eq(rig_count(AUDIT_LINEAGE_FORKED), 1);
    ck_assert_int_eq(pki_agent_get(rig.pki, "web-1", &agent), 0);
    ck_assert_int_eq(agent.state, PKI_AGENT_FORKED);
    /* The one that was seen last counts. */
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(machine_call(&one, &child), PKI_FORKED);
    ck_assert_int_eq(pki_agent_readmit(rig.pki, "web-1", &rig_act, &generation), 0);
    ck_assert_uint_eq(generation, pki_generation(rig.pki));
    ck_assert_int_eq(machine_call(&one, &child), 0);
    ck_assert_int_eq(machine_call(&one, &first), PKI_NOT_ACTIVE);
    ck_assert_int_eq(rig_state_of(&first), PKI_REVOKED);
}
END_TEST

START_TEST(a_machine_that_was_set_back_is_readmitted_with_what_it_has)
{
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;

    ck_assert_int_eq(machine_call(&one, &child), 0);
    rig.offset_us += DAY_US;
    ck_assert_int_eq(machine_call(&one, &first), PKI_FORKED); /* the snapshot has this one */
    rig_settle();
    ck_assert_int_eq(pki_agent_readmit(rig.pki, "web-1", &rig_act, NULL), 0);
    ck_assert_int_eq(machine_call(&one, &first), 0);
    ck_assert_int_eq(rig_state_of(&child), PKI_REVOKED);
    machine_new_key(&one);
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
}
END_TEST

START_TEST(a_recheck_of_a_long_stream_is_no_fork)
{
    struct pki_identity identity;

    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;
    ck_assert_int_eq(machine_call(&one, &child), 0);
    rig.offset_us += DAY_US;
    ck_assert_int_eq(pki_recheck(rig.pki, leaf_of(&first), clock_wall(), &identity),
                     PKI_NOT_ACTIVE);
    ck_assert_int_eq(machine_call(&one, &child), 0);
}
END_TEST

/* ---- after the end ---- */

START_TEST(an_expired_one_is_renewed_within_its_grace)
{
    rig.offset_us += 7 * DAY_US; /* a day over */
    ck_assert_int_eq(machine_call(&one, &first), PKI_EXPIRED);
    ck_assert_int_eq(machine_renew_expired(&one, &first, first_key), 0);
    struct pki_granted child = one.granted;
    ck_assert_int_eq(machine_call(&one, &child), 0);
    ck_assert_uint_eq(rig_count(AUDIT_RENEWED_EXPIRED), 1);
    ck_assert_int_eq(rig_state_of(&first), PKI_SUPERSEDED);
}
END_TEST

START_TEST(after_the_grace_an_operator_opens_it_once)
{
    rig.offset_us += 6 * DAY_US + PKI_GRACE_US; /* at its very end */
    ck_assert_int_eq(machine_renew_expired(&one, &first, first_key), 0);
    machine_new_key(&one);
    rig.offset_us += 1;
    expect_refused(machine_renew_expired(&one, &first, first_key), PKI_REFUSED_GRACE_OVER);
    ck_assert_ptr_nonnull(strstr(rig.why.text, "agents readmit web-1"));
    rig.offset_us += 100 * DAY_US;
    ck_assert_int_eq(pki_agent_readmit(rig.pki, "web-1", &rig_act, NULL), 0);
    ck_assert_int_eq(machine_renew_expired(&one, &first, first_key), 0);
    machine_new_key(&one);
    expect_refused(machine_renew_expired(&one, &first, first_key), PKI_REFUSED_GRACE_OVER);
}
END_TEST

START_TEST(a_reply_that_was_lost_after_the_end_comes_again)
{
    rig.offset_us += 7 * DAY_US;
    ck_assert_int_eq(machine_renew_expired(&one, &first, first_key), 0);
    struct pki_granted child = one.granted;
    ck_assert_int_eq(machine_renew_expired(&one, &first, first_key), 0);
    ck_assert(one.granted.is_again);
    ck_assert(span_equal(child.chain_der[0], one.granted.chain_der[0]));
}
END_TEST

START_TEST(late_renewals_of_others_are_refused)
{
    struct pki_granted cut = first;

    rig.offset_us += 7 * DAY_US;
    expect_refused(machine_renew_expired(&one, &first, two.next_key), PKI_REFUSED_SIGNATURE);
    cut.n_chain = 0;
    expect_refused(machine_renew_expired(&one, &cut, first_key), PKI_REFUSED_CHAIN);
    cut.n_chain = 1; /* the intermediate is missing */
    expect_refused(machine_renew_expired(&one, &cut, first_key), PKI_REFUSED_CHAIN);
    cut = first;
    cut.chain_der[0] = span_of_text("no certificate");
    expect_refused(machine_renew_expired(&one, &cut, first_key), PKI_REFUSED_CHAIN);
    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, NULL, NULL), 0);
    expect_refused(machine_renew_expired(&one, &first, first_key), PKI_REFUSED_REVOKED);
    ck_assert_int_eq(pki_agent_forget(rig.pki, "web-1", 0, &rig_act), 0);
    expect_refused(machine_renew_expired(&one, &first, first_key), PKI_REFUSED_UNKNOWN);
    ck_assert_uint_eq(rig_count(AUDIT_RENEW_REFUSED), 6);
}
END_TEST

START_TEST(a_machine_that_was_set_back_too_far_is_told_so)
{
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    rig.offset_us += 7 * DAY_US;
    expect_refused(machine_renew_expired(&one, &first, first_key), PKI_REFUSED_NOT_CURRENT);
}
END_TEST

/* ---- what goes ---- */

START_TEST(rows_that_nobody_can_come_with_are_dropped)
{
    struct pki_granted last = first;
    size_t n;

    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(machine_renew(&one, leaf_of(&last)), 0);
        last = one.granted;
        ck_assert_int_eq(machine_call(&one, &last), 0);
        rig.offset_us += DAY_US;
    }
    rig_settle();
    (void) rig_certificates("web-1", &n);
    ck_assert_uint_eq(n, 6);
    rig.offset_us += 400 * DAY_US;
    pki_tick(rig.pki);
    rig_settle();
    struct pki_certificate *rows = rig_certificates("web-1", &n);
    ck_assert_uint_eq(n, 1); /* the one that it has, for a readmission */
    ck_assert_mem_eq(rows[0].identity.sha256, leaf_of(&last), 32);
}
END_TEST

void add_renew_cases(Suite *s)
{
    TCase *tcase = tcase_create("renew");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_renewal_counts_when_it_is_presented);
    tcase_add_test(tcase, the_same_key_is_renewed_once);
    tcase_add_test(tcase, a_renewal_takes_a_new_key);
    tcase_add_test(tcase, a_sibling_that_was_never_seen_goes_with_the_one_that_comes);
    tcase_add_test(tcase, an_agent_that_forgets_its_keys_does_not_fill_the_table);
    tcase_add_test(tcase, a_renewal_over_an_unconfirmed_channel_confirms_it);
    tcase_add_test(tcase, who_is_unknown_expired_or_superseded_is_not_renewed);
    tcase_add_test(tcase, a_parent_that_comes_after_its_child_stops_both);
    tcase_add_test(tcase, a_machine_that_was_set_back_is_readmitted_with_what_it_has);
    tcase_add_test(tcase, a_recheck_of_a_long_stream_is_no_fork);
    tcase_add_test(tcase, an_expired_one_is_renewed_within_its_grace);
    tcase_add_test(tcase, after_the_grace_an_operator_opens_it_once);
    tcase_add_test(tcase, a_reply_that_was_lost_after_the_end_comes_again);
    tcase_add_test(tcase, late_renewals_of_others_are_refused);
    tcase_add_test(tcase, a_machine_that_was_set_back_too_far_is_told_so);
    tcase_add_test(tcase, rows_that_nobody_can_come_with_are_dropped);
    suite_add_tcase(s, tcase);
}
