/* SPDX-License-Identifier: Apache-2.0 */
#include "test_pki_machines.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "server/pki/enrol/tokens.h"

void add_renew_cases(Suite *s);
void add_agent_cases(Suite *s);
void add_cut_cases(Suite *s);

static struct machine one, two;

static void setup(void)
{
    rig_setup();
    machine_init(&one, "machine one");
    machine_init(&two, "machine two");
}

static void teardown(void)
{
    machine_deinit(&one);
    machine_deinit(&two);
    rig_teardown();
}

static struct pki_token any_token(uint32_t n_uses)
{
    const struct pki_token_wish wish = { .n_uses = n_uses, .replace = -1 };

    return rig_token(&wish);
}

static void expect_refused(int r, enum pki_refusal refusal)
{
    ck_assert_msg(r == PKI_REFUSED, "%d: %s", r, rig.why.text);
    ck_assert_msg(rig.refusal == refusal, "%d: %s", rig.refusal, rig.why.text);
    ck_assert_uint_gt(strlen(rig.why.text), 10);
}

static struct tls_facts facts_of(struct span der)
{
    struct tls_cert *cert = NULL;
    struct tls_facts facts;

    ck_assert_int_eq(tls_cert_parse_der(&cert, der), 0);
    ck_assert_int_eq(tls_cert_read(cert, &facts), 0);
    tls_cert_free(cert);
    return facts;
}

START_TEST(a_machine_gets_a_certificate_for_its_key_and_nothing_else_of_its_request)
{
    struct pki_token token = any_token(1);
    uint8_t key[32];

    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert_str_eq(one.granted.name, "web-1");
    ck_assert_uint_eq(one.granted.n_chain, 2);
    ck_assert_uint_eq(one.granted.n_roots, 1);
    ck_assert(!one.granted.is_again);
    struct tls_facts facts = facts_of(one.granted.chain_der[0]);
    ck_assert_str_eq(facts.common_name, "web-1");
    ck_assert_str_eq(facts.uri, "spiffe://example.org/agent/web-1");
    ck_assert_int_eq(tls_key_digest(one.next_key, key), 0);
    ck_assert_mem_eq(facts.key_sha256, key, 32);
    ck_assert_int_eq(facts.not_after.us - clock_wall().us, 7 * DAY_US);
    ck_assert_uint_eq(one.granted.generation, pki_generation(rig.pki));
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    ck_assert_str_eq(one.identity.name, "web-1");
    ck_assert_uint_eq(rig_count(AUDIT_TOKEN_CREATED), 1);
    ck_assert_uint_eq(rig_count(AUDIT_TOKEN_USED), 1);
    ck_assert_uint_eq(rig_count(AUDIT_ENROLLED), 1);
}
END_TEST

START_TEST(a_lost_reply_burns_nothing)
{
    struct pki_token token = any_token(1);

    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    struct pki_granted first = one.granted;
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert(one.granted.is_again);
    ck_assert(span_equal(first.chain_der[0], one.granted.chain_der[0]));
    ck_assert(span_equal(first.chain_der[1], one.granted.chain_der[1]));
    rig_settle(); /* also from the disk */
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert(span_equal(first.chain_der[0], one.granted.chain_der[0]));
    ck_assert_uint_eq(rig_count(AUDIT_ENROLLED), 1);
    expect_refused(machine_enrol(&two, &token, "web-2"), PKI_REFUSED_TOKEN_USED);
    rig.offset_us = PKI_TOKEN_TTL_US;
    expect_refused(machine_enrol(&one, &token, "web-1"), PKI_REFUSED_TOKEN_EXPIRED);
}
END_TEST

START_TEST(a_wrong_id_and_a_wrong_secret_look_the_same)
{
    struct pki_token token = any_token(1), wrong = token;
    char why[sizeof(rig.why.text)];

    wrong.secret[19] ^= 1;
    expect_refused(machine_enrol(&one, &wrong, "web-1"), PKI_REFUSED_TOKEN_UNKNOWN);
    memcpy(why, rig.why.text, sizeof(why));
    wrong = token;
    wrong.id[0] = wrong.id[0] == 'a' ? 'b' : 'a';
    expect_refused(machine_enrol(&one, &wrong, "web-1"), PKI_REFUSED_TOKEN_UNKNOWN);
    ck_assert_str_eq(why, rig.why.text);
    memcpy(wrong.id, "NOT-ID!", 8);
    expect_refused(machine_enrol(&one, &wrong, "web-1"), PKI_REFUSED_TOKEN_UNKNOWN);
    ck_assert_str_eq(why, rig.why.text);
    ck_assert_uint_eq(rig_count(AUDIT_TOKEN_FAILED), 3);
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
}
END_TEST

START_TEST(an_expired_or_revoked_token_gives_nothing)
{
    struct pki_token token = any_token(1);

    rig.offset_us = PKI_TOKEN_TTL_US - 1;
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    token = any_token(1);
    rig.offset_us += PKI_TOKEN_TTL_US;
    expect_refused(machine_enrol(&two, &token, "web-2"), PKI_REFUSED_TOKEN_EXPIRED);
    token = any_token(1);
    ck_assert_int_eq(pki_token_revoke(rig.pki, token.id, &rig_act), 0);
    expect_refused(machine_enrol(&two, &token, "web-2"), PKI_REFUSED_TOKEN_REVOKED);
    ck_assert_uint_eq(rig_count(AUDIT_TOKEN_REVOKED), 1);
    ck_assert_int_eq(pki_token_revoke(rig.pki, "aaaaaaaa", &rig_act), PKI_UNKNOWN);
    ck_assert_int_eq(pki_token_revoke(rig.pki, "x", &rig_act), PKI_UNKNOWN);
}
END_TEST

START_TEST(a_token_is_for_its_addresses_and_its_ids)
{
    const struct pki_token_wish near = { .addresses = "192.0.2.0/24", .id_pattern = "web-*" };
    const struct pki_token_wish far = { .addresses = "198.51.100.0/24" };
    struct pki_token token = rig_token(&far);

    expect_refused(machine_enrol(&one, &token, "web-1"), PKI_REFUSED_ADDRESS);
    token = rig_token(&near);
    expect_refused(machine_enrol(&one, &token, "db-1"), PKI_REFUSED_NAME);
    expect_refused(machine_enrol(&one, &token, "WEB-1"), PKI_REFUSED_NAME);
    ck_assert_uint_eq(rig_count(AUDIT_ENROL_REFUSED), 3);
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
}
END_TEST

START_TEST(a_request_that_is_none_is_refused)
{
    struct pki_token token = any_token(1);

    one.csr.data[one.csr.len - 1] ^= 1; /* the signature */
    expect_refused(machine_enrol(&one, &token, "web-1"), PKI_REFUSED_CSR);
    buf_clear(&one.csr);
    expect_refused(machine_enrol(&one, &token, "web-1"), PKI_REFUSED_CSR);
    machine_new_key(&one);
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
}
END_TEST

START_TEST(a_name_of_another_machine_gets_four_characters_behind)
{
    struct pki_token token = any_token(2);

    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert_int_eq(machine_enrol(&two, &token, "web-1"), 0);
    ck_assert_uint_eq(strlen(two.granted.name), strlen("web-1-abcd"));
    ck_assert_int_eq(strncmp(two.granted.name, "web-1-", 6), 0);
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    ck_assert_int_eq(machine_call(&two, &two.granted), 0);
    ck_assert_int_eq(rig_state_of(&one.granted), PKI_ACTIVE);
}
END_TEST

START_TEST(without_a_wish_the_hub_makes_an_id_that_keeps_the_pattern)
{
    const struct pki_token_wish wish = { .id_pattern = "web-?-*", .n_uses = 2 };
    struct pki_token token = rig_token(&wish);

    ck_assert_int_eq(machine_enrol(&one, &token, ""), 0);
    ck_assert(identity_matches("web-?-????????", one.granted.name));
    ck_assert_int_eq(machine_enrol(&two, &token, ""), 0);
    ck_assert_str_ne(one.granted.name, two.granted.name);
    const struct pki_token_wish bound = { .id_pattern = "db-1", .replace = -1 };
    token = rig_token(&bound);
    machine_new_key(&one);
    ck_assert_int_eq(machine_enrol(&one, &token, ""), 0);
    ck_assert_str_eq(one.granted.name, "db-1");
}
END_TEST

START_TEST(the_same_machine_takes_its_name_again_when_it_comes_not_when_it_is_granted)
{
    struct pki_token token = any_token(2);
    struct machine again;

    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    machine_init(&again, "machine one");
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(machine_enrol(&again, &token, "web-1"), 0);
    ck_assert_str_eq(again.granted.name, "web-1");
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    ck_assert_int_eq(machine_call(&again, &again.granted), 0);
    ck_assert_int_eq(machine_call(&one, &one.granted), PKI_NOT_ACTIVE);
    rig_settle();
    ck_assert_int_eq(rig_state_of(&one.granted), PKI_SUPERSEDED);
    ck_assert_int_eq(rig_state_of(&again.granted), PKI_ACTIVE);
    /* Of another lineage: an old machine, not a fork. */
    rig.offset_us += 2 * PKI_FORK_GRACE_US;
    ck_assert_int_eq(machine_call(&one, &one.granted), PKI_NOT_ACTIVE);
    ck_assert_int_eq(machine_call(&again, &again.granted), 0);
    machine_deinit(&again);
}
END_TEST

START_TEST(a_token_for_one_id_replaces_another_machine)
{
    const struct pki_token_wish bound = { .id_pattern = "web-1", .replace = -1 };
    const struct pki_token_wish never = { .id_pattern = "web-1", .replace = 0 };
    struct pki_token token = rig_token(&bound), other = rig_token(&never);

    ck_assert(token.replaces);
    ck_assert(!other.replaces);
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    expect_refused(machine_enrol(&two, &other, "web-1"), PKI_REFUSED_NAME);
    token = rig_token(&bound);
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(machine_enrol(&two, &token, "web-1"), 0);
    ck_assert_str_eq(two.granted.name, "web-1");
    ck_assert_int_eq(machine_call(&two, &two.granted), 0);
    ck_assert_int_eq(machine_call(&one, &one.granted), PKI_NOT_ACTIVE);
}
END_TEST

START_TEST(labels_of_a_token_are_set_on_who_enrols)
{
    const struct pki_label labels[] = { { "env", "prod" }, { "site", "Köln" } };
    const struct pki_token_wish wish = { .labels = labels, .n_labels = 2 };
    struct pki_token token = rig_token(&wish);
    struct span value;

    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert_int_eq(store_state_get(rig.store, STORE_TABLE_LABELS, span_of("web-1\0site", 10),
                                     &rig.arena, &value),
                     0);
    ck_assert(span_equal(value, span_of_text("Köln")));
}
END_TEST

START_TEST(a_wish_that_breaks_a_rule_names_it)
{
    const struct pki_label bad_label = { "_x", "y" };
    const struct {
        struct pki_token_wish wish;
        const char *field;
    } rows[] = {
        { { .ttl_us = PKI_TOKEN_MAX_TTL_US + 1 }, "ttl" },
        { { .ttl_us = -1 }, "ttl" },
        { { .n_uses = PKI_TOKEN_MAX_USES + 1 }, "uses" },
        { { .id_pattern = "Web" }, "id_pattern" },
        { { .id_pattern = "web-1", .n_uses = 2 }, "uses" },
        { { .addresses = "10.0.0.0/33" }, "addresses" },
        { { .labels = &bad_label, .n_labels = 1 }, "labels" },
        { { .labels = &bad_label, .n_labels = PKI_MAX_LABELS + 1 }, "labels" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pki_token token;
        ck_assert_int_eq(pki_token_create(rig.pki, &rows[i].wish, &token, &rig.why), PKI_BAD_NAME);
        ck_assert_msg(strncmp(rig.why.text, rows[i].field, strlen(rows[i].field)) == 0, "%s",
                      rig.why.text);
    }
    ck_assert_uint_eq(rig_count(AUDIT_TOKEN_CREATED), 0);
}
END_TEST

START_TEST(tokens_are_listed_without_secrets_and_go_a_day_after_their_end)
{
    const uint8_t none[IDENTITY_SECRET_BYTES] = { 0 };
    struct pki_token *tokens;
    size_t n;

    (void) any_token(1);
    rig.offset_us += SECOND_US;
    struct pki_token second = any_token(5);
    ck_assert_int_eq(machine_enrol(&one, &second, "web-1"), 0);
    ck_assert_int_eq(pki_token_list(rig.pki, &rig.arena, &tokens, &n), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(tokens[0].id, second.id);
    ck_assert_uint_eq(tokens[0].n_used, 1);
    ck_assert_mem_eq(tokens[0].secret, none, sizeof(none));
    rig.offset_us += PKI_TOKEN_TTL_US;
    pki_tick(rig.pki);
    rig_settle();
    pki_tick(rig.pki);
    rig_settle();
    ck_assert_uint_eq(rig_count(AUDIT_TOKEN_EXPIRED), 2); /* once each */
    ck_assert_int_eq(pki_token_list(rig.pki, &rig.arena, &tokens, &n), 0);
    ck_assert_uint_eq(n, 2);
    rig.offset_us += PKI_TOKEN_LINGERS_US;
    pki_tick(rig.pki);
    rig_settle();
    ck_assert_int_eq(pki_token_list(rig.pki, &rig.arena, &tokens, &n), 0);
    ck_assert_uint_eq(n, 0);
}
END_TEST

/* ---- many at once ---- */

#define N_THREADS 8
#define N_EACH 12
#define N_USES 37u

struct crowd {
    struct pki_token token;
    int n_granted, n_used_up, n_other;
    pthread_mutex_t lock;
};

static void *enrol_some(void *ctx)
{
    struct crowd *crowd = ctx;

    for (int i = 0; i < N_EACH; i++) {
        struct machine machine;
        struct arena arena;
        struct tls_why unsaid = { "" };
        enum pki_refusal refusal = PKI_REFUSED_NOT;

        machine_init(&machine, NULL);
        arena_init(&arena, 1 << 20);
        const struct pki_enrolment enrolment = {
            .token_id = crowd->token.id,
            .secret = span_of(crowd->token.secret, sizeof(crowd->token.secret)),
            .csr_der = buf_span(&machine.csr),
            .requested_id = "web", /* all want the same one */
            .fingerprint = &machine.fingerprint,
            .peer = "192.0.2.7:4711",
        };
        int r = pki_enrol(rig.pki, &enrolment, &arena, &machine.granted, &refusal, &unsaid);
        pthread_mutex_lock(&crowd->lock);
        crowd->n_granted += r == 0;
        crowd->n_used_up += r == PKI_REFUSED && refusal == PKI_REFUSED_TOKEN_USED;
        crowd->n_other += r != 0 && r != PKI_REFUSED;
        pthread_mutex_unlock(&crowd->lock);
        arena_deinit(&arena);
        machine_deinit(&machine);
    }
    return NULL;
}

START_TEST(many_at_once_use_a_token_exactly_as_often_as_it_may_be)
{
    struct crowd crowd = { .token = any_token(N_USES), .lock = PTHREAD_MUTEX_INITIALIZER };
    pthread_t threads[N_THREADS];
    size_t n;

    for (int i = 0; i < N_THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, enrol_some, &crowd), 0);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(crowd.n_other, 0);
    ck_assert_int_eq(crowd.n_granted, (int) N_USES);
    ck_assert_int_eq(crowd.n_used_up, N_THREADS * N_EACH - (int) N_USES);
    struct pki_certificate *rows = rig_certificates("web*", &n);
    ck_assert_uint_eq(n, N_USES);
    for (size_t i = 0; i < n; i++) { /* memory has each, and no name twice */
        struct pki_identity identity;
        ck_assert_int_eq(pki_recheck(rig.pki, rows[i].identity.sha256, clock_wall(), &identity), 0);
        for (size_t j = 0; j < i; j++)
            ck_assert_str_ne(rows[i].identity.name, rows[j].identity.name);
    }
    ck_assert_uint_eq(rig_count(AUDIT_ENROLLED), N_USES);
}
END_TEST

START_TEST(a_token_reads_back_as_it_was_written)
{
    struct pki_token_row row = { .token = { .id = "abcdefgh",
                                            .created = { 5 },
                                            .expires = { 6 },
                                            .n_uses = 7,
                                            .n_used = 3,
                                            .is_revoked = true,
                                            .replaces = true,
                                            .id_pattern = "web-*",
                                            .addresses = "10.0.0.0/8",
                                            .made_by = "operator/anna" },
                                 .mac = { 1, 2, 3 },
                                 .is_end_told = true,
                                 .n_labels = 1,
                                 .labels = { { "env", "prod" } } };
    struct pki_token_row back;
    struct buf value = { 0 };

    pki_token_row_encode(&row, &value);
    ck_assert_int_eq(pki_token_row_decode(span_of_text("abcdefgh"), buf_span(&value), &back), 0);
    ck_assert_mem_eq(back.mac, row.mac, sizeof(row.mac));
    ck_assert(back.token.is_revoked && back.token.replaces && back.is_end_told);
    ck_assert_uint_eq(back.token.n_used, 3);
    ck_assert_str_eq(back.labels[0].value, "prod");
    for (size_t len = 0; len < value.len; len++)
        ck_assert_int_eq(
            pki_token_row_decode(span_of_text("abcdefgh"), span_of(value.data, len), &back),
            PKI_BAD);
    buf_deinit(&value);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/pki_enrol");
    TCase *tcase = tcase_create("enrol");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_machine_gets_a_certificate_for_its_key_and_nothing_else_of_its_request);
    tcase_add_test(tcase, a_lost_reply_burns_nothing);
    tcase_add_test(tcase, a_wrong_id_and_a_wrong_secret_look_the_same);
    tcase_add_test(tcase, an_expired_or_revoked_token_gives_nothing);
    tcase_add_test(tcase, a_token_is_for_its_addresses_and_its_ids);
    tcase_add_test(tcase, a_request_that_is_none_is_refused);
    tcase_add_test(tcase, a_name_of_another_machine_gets_four_characters_behind);
    tcase_add_test(tcase, without_a_wish_the_hub_makes_an_id_that_keeps_the_pattern);
    tcase_add_test(tcase,
                   the_same_machine_takes_its_name_again_when_it_comes_not_when_it_is_granted);
    tcase_add_test(tcase, a_token_for_one_id_replaces_another_machine);
    tcase_add_test(tcase, labels_of_a_token_are_set_on_who_enrols);
    tcase_add_test(tcase, a_wish_that_breaks_a_rule_names_it);
    tcase_add_test(tcase, tokens_are_listed_without_secrets_and_go_a_day_after_their_end);
    tcase_add_test(tcase, many_at_once_use_a_token_exactly_as_often_as_it_may_be);
    tcase_add_test(tcase, a_token_reads_back_as_it_was_written);
    suite_add_tcase(s, tcase);
    add_renew_cases(s);
    add_agent_cases(s);
    add_cut_cases(s);
    return s;
}
