/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "pki_rig.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"

#define DAY_US (24 * 60 * 60 * INT64_C(1000000))

static struct pki_ca_status status;

static int step(const char *name)
{
    rig_why.text[0] = 0;
    return pki_ca_rotate(rig_pki, name, false, &rig_act, &status, &rig_why);
}

static void must(const char *name)
{
    int r = step(name);

    ck_assert_msg(r == 0, "%s: %d: %s", name, r, rig_why.text);
}

static void must_force(const char *name)
{
    rig_why.text[0] = 0;
    int r = pki_ca_rotate(rig_pki, name, true, &rig_act, &status, &rig_why);

    ck_assert_msg(r == 0, "%s: %d: %s", name, r, rig_why.text);
}

static void assert_says(const char *text)
{
    ck_assert_msg(strstr(rig_why.text, text) != NULL, "\"%s\" does not say \"%s\"", rig_why.text,
                  text);
}

static struct buf roots_now(void)
{
    struct buf roots = { 0 };

    ck_assert_int_eq(pki_client_roots(rig_pki, &roots), 0);
    return roots;
}

static size_t count_certs(struct span pem)
{
    struct tls_cert *certs[16];
    size_t n = 0;

    ck_assert_int_eq(tls_chain_split(pem, certs, 16, &n), 0);
    for (size_t i = 0; i < n; i++)
        tls_cert_free(certs[i]);
    return n;
}

static struct buf hub_chain(void)
{
    struct buf chain = { 0 };

    ck_assert_int_eq(file_read(rig_at("certs/server-cert.pem"), 1 << 20, &chain), 0);
    return chain;
}

static bool is_hub_trusted_by(struct span roots_pem)
{
    CLEANUP(buf_deinit) struct buf chain = hub_chain();
    struct tls_why why = { "" };

    return tls_chain_verify(buf_span(&chain), roots_pem, TLS_SERVER, "hub.example.org", rig_now(),
                            &why) == 0;
}

static bool renew_hub(void)
{
    bool is_renewed = false;
    int r = pki_renew_server(rig_pki, rig_now(), &is_renewed, &rig_why);

    ck_assert_msg(r == 0, "%d: %s", r, rig_why.text);
    return is_renewed;
}

/* The admin's and the agents' certificates of the old authority are given up, as by renewal. */
static void give_new_admin(void)
{
    CLEANUP(buf_deinit) struct buf admin = rig_issue(PKI_OPERATOR, "second", PKI_ROLE_ADMIN);
}

START_TEST(a_rotation_goes_from_root_to_root_and_strands_nobody)
{
    CLEANUP(buf_deinit) struct buf old_roots = roots_now();
    CLEANUP(buf_deinit) struct buf agent = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);

    must("prepare");
    ck_assert_int_eq(status.phase, PKI_CA_PREPARED);
    ck_assert_uint_eq(status.n_agents, 1);
    ck_assert_uint_eq(status.n_ready, 0);
    ck_assert(memcmp(status.pin, status.next_pin, 32) != 0);
    CLEANUP(buf_deinit) struct buf both = roots_now();
    ck_assert_uint_eq(count_certs(buf_span(&both)), 2);
    ck_assert(!renew_hub()); /* the hub's own stays */

    ck_assert_int_eq(step("issue"), PKI_REFUSED);
    assert_says("1 of 1 agents");
    assert_says("web-1");
    pki_ca_note_bundle(rig_pki, "web-1");
    must("issue");
    ck_assert_uint_eq(status.n_ready, 1);
    CLEANUP(buf_deinit) struct buf renewed = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);

    must("serve");
    ck_assert(renew_hub());
    ck_assert(!renew_hub());
    CLEANUP(buf_deinit) struct buf chain = hub_chain();
    ck_assert(is_hub_trusted_by(buf_span(&both)));
    /* Who slept through all of it still comes in: the old root signed the new one. */
    ck_assert(is_hub_trusted_by(buf_span(&old_roots)));

    ck_assert_int_eq(step("retire"), PKI_REFUSED);
    assert_says("operator admin");
    give_new_admin();
    must_force("retire");
    ck_assert_int_eq(status.phase, PKI_CA_STEADY);
    CLEANUP(buf_deinit) struct buf new_roots = roots_now();
    ck_assert_uint_eq(count_certs(buf_span(&new_roots)), 1);
    ck_assert(is_hub_trusted_by(buf_span(&new_roots)));
    ck_assert(!span_equal(buf_span(&new_roots), buf_span(&old_roots)));
}
END_TEST

START_TEST(each_phase_goes_back_to_the_one_before)
{
    CLEANUP(buf_deinit) struct buf old_roots = roots_now();

    must("prepare");
    must("issue");
    must("serve");
    ck_assert(renew_hub());
    must("back");
    ck_assert_int_eq(status.phase, PKI_CA_ISSUING);
    ck_assert(renew_hub());
    ck_assert(is_hub_trusted_by(buf_span(&old_roots)));
    must("back");
    must("back");
    ck_assert_int_eq(status.phase, PKI_CA_STEADY);
    CLEANUP(buf_deinit) struct buf roots = roots_now();
    ck_assert(span_equal(buf_span(&roots), buf_span(&old_roots)));
    ck_assert_int_lt(access(rig_at("certs/ca-2-key.pem"), F_OK), 0);
    /* The next one is another. */
    must("prepare");
    ck_assert_int_eq(access(rig_at("certs/ca-3-key.pem"), F_OK), 0);
}
END_TEST

START_TEST(back_is_refused_while_somebody_has_a_certificate_of_the_new_one)
{
    must("prepare");
    must("issue");
    CLEANUP(buf_deinit) struct buf agent = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);
    must("back");
    ck_assert_int_eq(step("back"), PKI_REFUSED);
    assert_says("web-1");
    must_force("back");
}
END_TEST

START_TEST(steps_out_of_order_say_what_is)
{
    static const char *const wrong[] = { "issue", "serve", "retire", "back" };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_int_eq(step(wrong[i]), PKI_REFUSED);
        assert_says("steady");
    }
    ck_assert_int_eq(step("rotate"), PKI_REFUSED);
    assert_says("prepare, issue, serve, retire and back");
    must("prepare");
    ck_assert_int_eq(step("prepare"), PKI_REFUSED);
}
END_TEST

START_TEST(agents_count_until_a_month_after_their_certificates_end)
{
    CLEANUP(buf_deinit) struct buf agent = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);

    must("prepare");
    rig_move_clock(36 * DAY_US);
    ck_assert_int_eq(step("issue"), PKI_REFUSED);
    rig_move_clock(2 * DAY_US);
    must("issue");
    ck_assert_uint_eq(status.n_agents, 0);
}
END_TEST

START_TEST(a_cut_between_row_and_roots_is_mended_at_the_next_start)
{
    CLEANUP(buf_deinit) struct buf before = { 0 };

    ck_assert_int_eq(file_read(rig_at("certs/ca-cert.pem"), 1 << 20, &before), 0);
    must("prepare");
    ck_assert_int_eq(file_replace(rig_at("certs/ca-cert.pem"), buf_span(&before), 0644), 0);
    rig_must_reopen();
    CLEANUP(buf_deinit) struct buf after = { 0 };
    ck_assert_int_eq(file_read(rig_at("certs/ca-cert.pem"), 1 << 20, &after), 0);
    ck_assert_uint_eq(count_certs(buf_span(&after)), 2);
    ck_assert_int_eq(pki_ca_get_status(rig_pki, &status), 0);
    ck_assert_int_eq(status.phase, PKI_CA_PREPARED);
}
END_TEST

START_TEST(two_rotations_follow_each_other)
{
    for (int i = 0; i < 2; i++) {
        CLEANUP(buf_deinit) struct buf old_roots = roots_now();

        must("prepare");
        must("issue");
        must("serve");
        ck_assert(renew_hub());
        ck_assert(is_hub_trusted_by(buf_span(&old_roots)));
        must_force("retire");
        CLEANUP(buf_deinit) struct buf roots = roots_now();
        ck_assert(is_hub_trusted_by(buf_span(&roots)));
    }
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/pki_rotation");
    TCase *rotation = tcase_create("rotation");

    tcase_add_checked_fixture(rotation, rig_setup, rig_teardown);
    tcase_add_test(rotation, a_rotation_goes_from_root_to_root_and_strands_nobody);
    tcase_add_test(rotation, each_phase_goes_back_to_the_one_before);
    tcase_add_test(rotation, back_is_refused_while_somebody_has_a_certificate_of_the_new_one);
    tcase_add_test(rotation, steps_out_of_order_say_what_is);
    tcase_add_test(rotation, agents_count_until_a_month_after_their_certificates_end);
    tcase_add_test(rotation, a_cut_between_row_and_roots_is_mended_at_the_next_start);
    tcase_add_test(rotation, two_rotations_follow_each_other);
    suite_add_tcase(s, rotation);
    return s;
}
