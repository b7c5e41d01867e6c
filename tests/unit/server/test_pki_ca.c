/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/file.h"
#include "pki_rig.h"
#include "server/pki/ca/ca.h"
#include "server/pki/inside.h"
#include "server/pki/sealed/sealed.h"

#define DAY_US (24 * 60 * 60 * INT64_C(1000000))
#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_HEX "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static const char *put(const char *name, const char *text)
{
    ck_assert_int_eq(file_replace(rig_at(name), span_of_text(text), 0600), 0);
    return rig_at(name);
}

static bool holds(const char *name, const char *text)
{
    CLEANUP(buf_deinit) struct buf content = { 0 };

    ck_assert_int_eq(file_read(rig_at(name), 1 << 20, &content), 0);
    return memmem(content.data, content.len, text, strlen(text)) != NULL;
}

static int reopen_with(const char *key_file)
{
    const struct pki_options options = { .state_directory = rig_state, .ca_key_file = key_file };

    return rig_reopen(&options);
}

static int try_issue(const char *name)
{
    char directory[80];

    snprintf(directory, sizeof(directory), "try-%s", name);
    const struct pki_issue issue = { .kind = PKI_AGENT,
                                     .name = name,
                                     .directory = rig_at(directory) };
    rig_why.text[0] = 0;
    return pki_issue_identity(rig_pki, &issue, &rig_why);
}

static void assert_says(const char *text)
{
    ck_assert_msg(strstr(rig_why.text, text) != NULL, "\"%s\" does not say \"%s\"", rig_why.text,
                  text);
}

/* ---- keys at rest ---- */

START_TEST(a_key_that_is_given_seals_all_ca_keys_and_none_of_the_listeners)
{
    rig_create(put("key", HEX));
    ck_assert(!holds("certs/ca-key.pem", "PRIVATE"));
    ck_assert(!holds("certs/agents-ca-key.pem", "PRIVATE"));
    ck_assert(!holds("certs/hubs-ca-key.pem", "PRIVATE"));
    ck_assert(holds("certs/server-key.pem", "PRIVATE"));

    struct pki_ca_status status;
    ck_assert_int_eq(reopen_with(rig_at("key")), 0);
    ck_assert_int_eq(pki_ca_get_status(rig_pki, &status), 0);
    ck_assert(status.is_sealed);
    ck_assert_int_eq(try_issue("web-1"), 0);
}
END_TEST

START_TEST(without_the_key_nothing_is_issued_and_who_is_known_stays_known)
{
    struct pki_identity identity;

    rig_create(put("key", HEX));
    ck_assert_int_eq(reopen_with(rig_at("key")), 0);
    CLEANUP(buf_deinit) struct buf leaf = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);

    ck_assert_int_eq(reopen_with(NULL), 0);
    ck_assert_int_eq(try_issue("web-2"), PKI_BAD);
    assert_says("is sealed under a key; give it by ca.key_file");
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), 0);
    ck_assert_int_eq(reopen_with(put("other", OTHER_HEX)), 0);
    ck_assert_int_eq(try_issue("web-2"), PKI_BAD);
    assert_says("another key than the one given");
    ck_assert_int_eq(reopen_with(rig_at("none")), PKI_ABSENT);
}
END_TEST

START_TEST(keys_are_sealed_sealed_again_and_opened)
{
    struct sealed_key one = { .is_there = false }, two = { .is_there = false };
    struct pki_ca_status status;
    uint32_t n = 0;

    rig_create(NULL);
    rig_must_reopen();
    ck_assert_int_eq(pki_ca_get_status(rig_pki, &status), 0);
    ck_assert(!status.is_sealed);
    ck_assert_int_eq(sealed_key_parse(span_of_text(HEX), &one), 0);
    ck_assert_int_eq(sealed_key_parse(span_of_text(OTHER_HEX), &two), 0);

    const struct pki_seal seal = { .fresh = &one };
    ck_assert_int_eq(pki_seal_keys(rig_state, &seal, &n, &rig_why), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert(!holds("certs/ca-key.pem", "PRIVATE"));
    ck_assert(holds("certs/server-key.pem", "PRIVATE"));
    /* Again under the same key, as after a cut. */
    ck_assert_int_eq(pki_seal_keys(rig_state, &seal, &n, &rig_why), 0);

    const struct pki_seal without_old = { .fresh = &two };
    ck_assert_int_eq(pki_seal_keys(rig_state, &without_old, &n, &rig_why), PKI_BAD);
    const struct pki_seal again = { .old = &one, .fresh = &two };
    ck_assert_int_eq(pki_seal_keys(rig_state, &again, &n, &rig_why), 0);
    ck_assert_int_eq(pki_seal_keys(rig_state, &again, &n, &rig_why), 0);
    ck_assert_int_eq(reopen_with(put("key", OTHER_HEX)), 0);
    ck_assert_int_eq(try_issue("web-1"), 0);

    const struct pki_seal open = { .old = &two };
    ck_assert_int_eq(pki_seal_keys(rig_state, &open, &n, &rig_why), 0);
    ck_assert(holds("certs/ca-key.pem", "PRIVATE"));
    rig_must_reopen();
    ck_assert_int_eq(try_issue("web-2"), 0);
}
END_TEST

START_TEST(a_damaged_sealed_key_is_said_to_be_damaged)
{
    rig_create(put("key", HEX));
    ck_assert_int_eq(reopen_with(rig_at("key")), 0);
    /* Another CA's sealed key in its place: the name is under the seal too. */
    ck_assert_int_eq(rename(rig_at("certs/hubs-ca-key.pem"), rig_at("certs/agents-ca-key.pem")), 0);
    ck_assert_int_eq(try_issue("web-1"), PKI_BAD);
    assert_says("put it back from a backup");
}
END_TEST

/* ---- what signs ---- */

struct token {
    struct tls_key *key;
    unsigned *n_signed;
    bool *is_freed;
};

static int token_sign(void *ctx, struct span data, struct buf *to)
{
    struct token *token = ctx;

    ++*token->n_signed;
    return tls_key_sign(token->key, data, to);
}

static void token_free(void *ctx)
{
    struct token *token = ctx;

    *token->is_freed = true;
    tls_key_free(token->key);
    free(token);
}

START_TEST(a_foreign_signer_stands_where_the_key_was)
{
    struct token *token = malloc(sizeof(*token));
    struct pki_identity identity;
    bool is_freed = false;
    unsigned n_signed = 0;

    ck_assert_ptr_nonnull(token);
    *token = (struct token){ .n_signed = &n_signed, .is_freed = &is_freed };
    ck_assert_int_eq(tls_key_load(rig_at("certs/agents-ca-key.pem"), &token->key, &rig_why), 0);
    ck_assert_int_eq(unlink(rig_at("certs/agents-ca-key.pem")), 0);
    ck_assert_int_eq(try_issue("web-1"), PKI_ABSENT);
    assert_says("certs/agents-ca-key.pem");

    const struct pki_signer signer = { .sign = token_sign, .free = token_free, .ctx = token };
    pki_use_signer(rig_pki, PKI_PART_AGENTS, &signer);
    CLEANUP(buf_deinit) struct buf leaf = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);
    ck_assert_uint_eq(n_signed, 1);
    ck_assert_int_eq(rig_identify(buf_span(&leaf), &identity), 0);
    CLEANUP(buf_deinit) struct buf list = { 0 };
    ck_assert_int_eq(pki_crl(rig_pki, NULL, rig_now(), &list), 0);
    ck_assert_uint_eq(n_signed, 2);
    rig_pki = pki_close(rig_pki);
    ck_assert(is_freed);
}
END_TEST

START_TEST(with_the_root_away_all_works_but_what_needs_it_says_where_it_belongs)
{
    struct pki_ca_status status;
    bool is_renewed = false;

    ck_assert_int_eq(rename(rig_at("certs/ca-key.pem"), rig_at("away.pem")), 0);
    rig_must_reopen();
    ck_assert_int_eq(pki_ca_get_status(rig_pki, &status), 0);
    ck_assert(status.is_root_offline);
    ck_assert_int_eq(try_issue("web-1"), 0);
    rig_move_clock(80 * DAY_US);
    ck_assert_int_eq(pki_renew_server(rig_pki, rig_now(), &is_renewed, &rig_why), 0);
    ck_assert(is_renewed);
    ck_assert_int_eq(pki_ca_rotate(rig_pki, "prepare", false, &rig_act, &status, &rig_why),
                     PKI_ABSENT);
    assert_says("certs/ca-key.pem");
    ck_assert_int_eq(rename(rig_at("away.pem"), rig_at("certs/ca-key.pem")), 0);
    ck_assert_int_eq(pki_ca_rotate(rig_pki, "prepare", false, &rig_act, &status, &rig_why), 0);
    ck_assert(!status.is_root_offline);
}
END_TEST

/* ---- the list of revoked certificates ---- */

static struct tls_crl_facts list_for(struct span leaf_der)
{
    CLEANUP(buf_deinit) struct buf list = { 0 }, pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *issuer = NULL, *leaf = NULL;
    struct tls_crl_facts facts;
    struct tls_facts leaf_facts;

    ck_assert_int_eq(tls_cert_parse_der(&leaf, leaf_der), 0);
    ck_assert_int_eq(tls_cert_read(leaf, &leaf_facts), 0);
    ck_assert_int_eq(file_read(rig_at("certs/agents-ca-cert.pem"), 1 << 20, &pem), 0);
    ck_assert_int_eq(tls_cert_parse_pem(&issuer, buf_span(&pem)), 0);
    ck_assert_int_eq(pki_crl(rig_pki, NULL, rig_now(), &list), 0);
    ck_assert_int_eq(tls_crl_read(buf_span(&list), issuer, leaf_facts.serial, &facts), 0);
    return facts;
}

START_TEST(the_list_has_who_is_revoked_from_the_same_moment_on)
{
    CLEANUP(buf_deinit) struct buf one = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);
    CLEANUP(buf_deinit) struct buf two = rig_issue(PKI_AGENT, "web-2", PKI_ROLE_NONE);

    ck_assert(!list_for(buf_span(&one)).has_serial);
    rig_revoke(buf_span(&one));
    const struct tls_crl_facts facts = list_for(buf_span(&one));
    ck_assert(facts.has_serial);
    ck_assert_uint_eq(facts.n_revoked, 1);
    ck_assert(!list_for(buf_span(&two)).has_serial);
}
END_TEST

START_TEST(the_list_is_kept_while_nothing_changes_and_signed_anew_after_a_day)
{
    CLEANUP(buf_deinit) struct buf leaf = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);
    const uint64_t first = list_for(buf_span(&leaf)).number;

    ck_assert_uint_eq(list_for(buf_span(&leaf)).number, first);
    /* A new agent changes the registry, not the list. */
    CLEANUP(buf_deinit) struct buf other = rig_issue(PKI_AGENT, "web-2", PKI_ROLE_NONE);
    ck_assert_uint_eq(list_for(buf_span(&leaf)).number, first);
    rig_move_clock(DAY_US + 1);
    const struct tls_crl_facts facts = list_for(buf_span(&leaf));
    ck_assert_uint_gt(facts.number, first);
    ck_assert_int_gt(facts.next_update.us, rig_now().us + DAY_US);
    /* Over a restart too. */
    rig_must_reopen();
    ck_assert_uint_gt(list_for(buf_span(&leaf)).number, facts.number);
}
END_TEST

START_TEST(who_is_over_leaves_the_list)
{
    CLEANUP(buf_deinit) struct buf leaf = rig_issue(PKI_AGENT, "web-1", PKI_ROLE_NONE);

    rig_revoke(buf_span(&leaf));
    ck_assert(list_for(buf_span(&leaf)).has_serial);
    rig_move_clock(8 * DAY_US);
    ck_assert(!list_for(buf_span(&leaf)).has_serial);
}
END_TEST

static void fall_silent(int code, struct fault_site site, const char *reason)
{
    (void) code;
    (void) site;
    (void) reason;
}

START_TEST(a_list_is_given_though_another_authority_cannot_be_read)
{
    CLEANUP(buf_deinit) struct buf list = { 0 }, pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct tls_facts facts;

    ck_assert_int_eq(file_read(rig_at("certs/hubs-ca-cert.pem"), 1 << 20, &pem), 0);
    ck_assert_int_eq(tls_cert_parse_pem(&cert, buf_span(&pem)), 0);
    ck_assert_int_eq(tls_cert_read(cert, &facts), 0);
    ck_assert_int_eq(unlink(rig_at("certs/agents-ca-cert.pem")), 0);
    ck_assert_int_eq(mkdir(rig_at("certs/agents-ca-cert.pem"), 0700), 0);
    fault_set_sink(fall_silent);
    ck_assert_int_eq(pki_crl(rig_pki, facts.sha256, rig_now(), &list), 0);
    ck_assert_uint_gt(list.len, 0);
    rig_move_clock(DAY_US);
    ck_assert_int_lt(pki_crl(rig_pki, (const uint8_t[32]){ 1 }, rig_now(), &list), 0);
}
END_TEST

/* ---- anchors ---- */

START_TEST(the_hub_knows_its_own_signatures_over_restarts_and_renewals)
{
    CLEANUP(buf_deinit) struct buf signature = { 0 };
    const struct span data = span_of_text("a head");
    bool is_renewed = false;

    ck_assert(!pki_hub_check(rig_pki, data, span_of_text("no signature")));
    ck_assert_int_eq(pki_hub_sign(rig_pki, data, &signature), 0);
    ck_assert_uint_le(signature.len, AUDIT_SIGNATURE_BYTES);
    rig_move_clock(80 * DAY_US);
    ck_assert_int_eq(pki_renew_server(rig_pki, rig_now(), &is_renewed, &rig_why), 0);
    ck_assert(is_renewed);
    rig_must_reopen();
    ck_assert(pki_hub_check(rig_pki, data, buf_span(&signature)));
    ck_assert(!pki_hub_check(rig_pki, span_of_text("another head"), buf_span(&signature)));
    signature.data[signature.len - 1] ^= 1;
    ck_assert(!pki_hub_check(rig_pki, data, buf_span(&signature)));
}
END_TEST

/* ---- where others find the list ---- */

START_TEST(certificates_say_where_the_list_is)
{
    ck_assert_str_eq(rig_pki->authority.crl_url, "https://hub.example.org:8081/crl");
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/pki_ca");
    TCase *sealing = tcase_create("keys at rest");
    TCase *signing = tcase_create("signing");
    TCase *lists = tcase_create("lists");

    tcase_add_checked_fixture(sealing, rig_setup_bare, rig_teardown);
    tcase_add_test(sealing, a_key_that_is_given_seals_all_ca_keys_and_none_of_the_listeners);
    tcase_add_test(sealing, without_the_key_nothing_is_issued_and_who_is_known_stays_known);
    tcase_add_test(sealing, keys_are_sealed_sealed_again_and_opened);
    tcase_add_test(sealing, a_damaged_sealed_key_is_said_to_be_damaged);
    suite_add_tcase(s, sealing);
    tcase_add_checked_fixture(signing, rig_setup, rig_teardown);
    tcase_add_test(signing, a_foreign_signer_stands_where_the_key_was);
    tcase_add_test(signing, with_the_root_away_all_works_but_what_needs_it_says_where_it_belongs);
    tcase_add_test(signing, the_hub_knows_its_own_signatures_over_restarts_and_renewals);
    suite_add_tcase(s, signing);
    tcase_add_checked_fixture(lists, rig_setup, rig_teardown);
    tcase_add_test(lists, the_list_has_who_is_revoked_from_the_same_moment_on);
    tcase_add_test(lists, the_list_is_kept_while_nothing_changes_and_signed_anew_after_a_day);
    tcase_add_test(lists, who_is_over_leaves_the_list);
    tcase_add_test(lists, a_list_is_given_though_another_authority_cannot_be_read);
    tcase_add_test(lists, certificates_say_where_the_list_is);
    suite_add_tcase(s, lists);
    return s;
}
