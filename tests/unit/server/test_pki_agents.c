/* SPDX-License-Identifier: Apache-2.0 */
#include "test_pki_machines.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "server/pki/agents/revoked.h"
#include "server/pki/registry/registry.h"

void add_agent_cases(Suite *s);

static struct machine one, two;
static struct pki_granted first;

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
    rig_settle();
    rig.offset_us += DAY_US;
}

static void teardown(void)
{
    machine_deinit(&one);
    machine_deinit(&two);
    rig_teardown();
}

static int hello(const struct machine *machine, const char *instance, const char *live)
{
    const struct pki_hello asked = {
        .name = "web-1",
        .peer = "192.0.2.7:4711",
        .instance = span_of_text(instance),
        .fingerprint = &machine->fingerprint,
        .is_live = live != NULL,
        .live_instance = span_of_text(live ? live : ""),
    };

    return pki_agent_hello(rig.pki, &asked, &rig.why);
}

static struct pki_agent agent_of(const char *name)
{
    struct pki_agent agent;

    ck_assert_int_eq(pki_agent_get(rig.pki, name, &agent), 0);
    return agent;
}

/* ---- what operators do ---- */

START_TEST(a_revoked_agent_is_out_and_stays_out)
{
    uint64_t before = pki_generation(rig.pki), generation = 0;

    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, NULL, &generation), 0);
    ck_assert_uint_gt(generation, before);
    ck_assert_uint_eq(pki_generation(rig.pki), generation);
    ck_assert_int_eq(machine_call(&one, &first), PKI_NOT_ACTIVE);
    ck_assert_int_eq(machine_call(&one, &one.granted), PKI_NOT_ACTIVE);
    rig_settle();
    ck_assert_int_eq(rig_state_of(&first), PKI_REVOKED);
    struct pki_agent agent = agent_of("web-1");
    ck_assert_int_eq(agent.state, PKI_AGENT_REVOKED);
    ck_assert_str_eq(agent.reason, "a test");
    ck_assert_uint_eq(rig_count(AUDIT_AGENT_REVOKED), 1);
    ck_assert_int_eq(pki_agent_revoke(rig.pki, "nobody", &rig_act, NULL, NULL), PKI_UNKNOWN);
    ck_assert_int_eq(pki_agent_revoke(rig.pki, "../x", &rig_act, NULL, NULL), PKI_UNKNOWN);
}
END_TEST

START_TEST(a_revoked_agent_is_reissued_by_a_token_for_it_alone)
{
    struct pki_token token;

    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, &token, NULL), 0);
    ck_assert_str_eq(token.id_pattern, "web-1");
    ck_assert(token.replaces);
    ck_assert_uint_eq(token.n_uses, 1);
    machine_new_key(&one);
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert_int_eq(machine_call(&one, &first), PKI_NOT_ACTIVE);
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    ck_assert_int_eq(agent_of("web-1").state, PKI_AGENT_ALLOWED);
}
END_TEST

START_TEST(a_token_for_many_does_not_let_a_revoked_machine_in_again)
{
    const struct pki_token_wish wish = { .n_uses = 10 };
    struct pki_token token = rig_token(&wish);

    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, NULL, NULL), 0);
    machine_new_key(&one);
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), PKI_REFUSED);
    ck_assert_int_eq(rig.refusal, PKI_REFUSED_REVOKED);
}
END_TEST

START_TEST(a_readmitted_agent_has_what_it_had_but_not_what_was_revoked_for_itself)
{
    char hex[65];

    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted second = one.granted;
    ck_assert_int_eq(machine_call(&one, &second), 0);
    ck_assert_int_eq(pki_certificate_revoke(rig.pki, text_of_hex(leaf_of(&first), 32, hex),
                                            &rig_act, NULL, &rig.why),
                     0);
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, NULL, NULL), 0);
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(machine_call(&one, &first), PKI_NOT_ACTIVE); /* seen last */
    ck_assert_int_eq(pki_agent_readmit(rig.pki, "web-1", &rig_act, NULL), 0);
    ck_assert_int_eq(machine_call(&one, &second), 0);
    ck_assert_int_eq(rig_state_of(&first), PKI_REVOKED);
    rig_settle();
    ck_assert_int_eq(machine_call(&one, &second), 0);
    ck_assert_uint_eq(rig_count(AUDIT_AGENT_READMITTED), 1);
}
END_TEST

START_TEST(one_certificate_is_revoked_by_the_first_digits_of_its_digest)
{
    char hex[65];

    (void) text_of_hex(leaf_of(&first), 32, hex);
    hex[7] = 0;
    ck_assert_int_eq(pki_certificate_revoke(rig.pki, hex, &rig_act, NULL, &rig.why), PKI_UNKNOWN);
    ck_assert_ptr_nonnull(strstr(rig.why.text, "8 hex digits"));
    ck_assert_int_eq(pki_certificate_revoke(rig.pki, "00000000", &rig_act, NULL, &rig.why),
                     PKI_UNKNOWN);
    (void) text_of_hex(leaf_of(&first), 32, hex);
    hex[8] = 0;
    ck_assert_int_eq(pki_certificate_revoke(rig.pki, hex, &rig_act, NULL, &rig.why), 0);
    ck_assert_int_eq(machine_call(&one, &first), PKI_NOT_ACTIVE);
    ck_assert_uint_eq(rig_count(AUDIT_CERTIFICATE_REVOKED), 1);
    size_t n;
    struct pki_certificate *rows = rig_certificates("web-1", &n);
    ck_assert_int_eq(rows[0].revoked.us, clock_wall().us);
    ck_assert_str_eq(rows[0].reason, "a test");
}
END_TEST

START_TEST(what_a_stolen_certificate_had_made_goes_with_it)
{
    char hex[65];

    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0); /* and held back */
    struct pki_granted held = one.granted;
    ck_assert_int_eq(rig_state_of(&held), PKI_UNCONFIRMED);
    ck_assert_int_eq(pki_certificate_revoke(rig.pki, text_of_hex(leaf_of(&first), 32, hex),
                                            &rig_act, NULL, &rig.why),
                     0);
    ck_assert_int_eq(machine_call(&one, &held), PKI_NOT_ACTIVE);
    ck_assert_int_eq(rig_state_of(&held), PKI_REVOKED);
    ck_assert(pki_revoked_has(rig.pki->revoked, leaf_of(&held)));
    ck_assert(pki_revoked_has(rig.pki->revoked, leaf_of(&first)));
    ck_assert_uint_eq(rig_count(AUDIT_CERTIFICATE_REVOKED), 1);
}
END_TEST

START_TEST(certificates_are_listed_page_by_page)
{
    const struct pki_token_wish wish = { .n_uses = 10 };
    struct pki_certificates_question question = { .kind = PKI_AGENT, .limit = 4 };
    struct pki_token token = rig_token(&wish);
    struct pki_certificate *rows = NULL;
    bool has_more = true;
    size_t n, n_all = 0;

    for (int i = 0; i < 9; i++) {
        machine_new_key(&two);
        ck_assert_int_eq(machine_enrol(&two, &token, ""), 0);
    }
    while (has_more) {
        ck_assert_int_eq(pki_certificate_list(rig.pki, &question, &rig.arena, &rows, &n, &has_more),
                         0);
        ck_assert_uint_ge(n, 1);
        n_all += n;
        question.beyond = span_of(rows[n - 1].identity.sha256, 32);
    }
    ck_assert_uint_eq(n_all, 10);
    question.beyond = span_of(NULL, 0);
    question.state = PKI_ACTIVE;
    ck_assert_int_eq(pki_certificate_list(rig.pki, &question, &rig.arena, &rows, &n, &has_more), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(rows[0].identity.name, "web-1");
    ck_assert_int_gt(rows[0].presented.us, 0);
}
END_TEST

START_TEST(a_forgotten_agent_leaves_its_name_free)
{
    const struct pki_token_wish wish = { .n_uses = 1 };
    struct pki_token token = rig_token(&wish);
    struct pki_agent agent;
    struct pki_agent *agents;
    size_t n;

    ck_assert_int_eq(pki_agent_list(rig.pki, &rig.arena, &agents, &n), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(agents[0].name, "web-1");
    ck_assert_int_gt(agents[0].not_after.us, 0);
    ck_assert_int_eq(pki_agent_forget(rig.pki, "web-1", 0, &rig_act), 0);
    ck_assert_int_eq(pki_agent_get(rig.pki, "web-1", &agent), PKI_UNKNOWN);
    ck_assert_int_eq(machine_call(&one, &first), PKI_UNKNOWN);
    ck_assert_int_eq(pki_agent_forget(rig.pki, "web-1", 0, &rig_act), PKI_UNKNOWN);
    ck_assert_int_eq(machine_enrol(&two, &token, "web-1"), 0);
    ck_assert_str_eq(two.granted.name, "web-1");
}
END_TEST

/* ---- hellos ---- */

START_TEST(an_agent_comes_from_its_addresses_alone)
{
    const char *const elsewhere[] = { "198.51.100.0/24", "fd00::/8" };
    const char *const here[] = { "192.0.2.7" };
    const char *const bad[] = { "192.0.2.7", "x" };

    ck_assert_int_eq(pki_agent_allow(rig.pki, "web-1", bad, 2, &rig_act, &rig.why), PKI_BAD_NAME);
    ck_assert_ptr_nonnull(strstr(rig.why.text, "number 2"));
    ck_assert_int_eq(pki_agent_allow(rig.pki, "web-1", elsewhere, 2, &rig_act, &rig.why), 0);
    ck_assert_int_eq(hello(&one, "a", NULL), PKI_REFUSED);
    ck_assert_ptr_nonnull(strstr(rig.why.text, "192.0.2.7"));
    ck_assert_int_eq(hello(&one, "a", NULL), PKI_REFUSED);
    ck_assert_uint_eq(rig_count(AUDIT_DENIED), 1); /* of a minute */
    ck_assert_int_eq(pki_agent_allow(rig.pki, "web-1", here, 1, &rig_act, &rig.why), 0);
    ck_assert_int_eq(hello(&one, "a", NULL), 0);
    ck_assert_str_eq(agent_of("web-1").last_peer, "192.0.2.7");
    ck_assert_int_eq(pki_agent_allow(rig.pki, "web-1", NULL, 0, &rig_act, &rig.why), 0);
    ck_assert_uint_eq(agent_of("web-1").n_addresses, 0);
    ck_assert_uint_eq(rig_count(AUDIT_AGENT_ALLOWED), 3);
}
END_TEST

START_TEST(another_machine_is_refused_while_the_registered_one_is_live)
{
    ck_assert_int_eq(hello(&one, "a", NULL), 0);
    ck_assert_int_eq(hello(&two, "b", "a"), PKI_CLONED);
    ck_assert_int_eq(hello(&two, "b", "a"), PKI_CLONED);
    ck_assert_uint_eq(rig_count(AUDIT_CLONED), 1);
    ck_assert_int_eq(hello(&one, "a", NULL), 0);
    rig.offset_us += 60 * SECOND_US;
    ck_assert_int_eq(hello(&two, "b", "a"), PKI_CLONED);
    ck_assert_uint_eq(agent_of("web-1").n_clones, 3);
    ck_assert_uint_eq(rig_count(AUDIT_CLONED), 2);
    /* Alone it may come; the registered one takes the stream back. */
    ck_assert_int_eq(hello(&two, "b", NULL), 0);
    ck_assert_int_eq(hello(&one, "c", "b"), 0);
    ck_assert_int_eq(hello(&two, "b", "c"), PKI_CLONED);
}
END_TEST

START_TEST(a_machine_whose_parts_were_changed_is_the_registered_one_after_a_day)
{
    ck_assert_int_eq(hello(&one, "a", NULL), 0);
    ck_assert_int_eq(hello(&two, "b", NULL), 0);
    rig.offset_us += DAY_US;
    ck_assert_int_eq(hello(&two, "c", NULL), 0); /* from now on */
    ck_assert_int_eq(hello(&two, "d", "c"), 0);
    ck_assert_int_eq(hello(&one, "e", "d"), PKI_CLONED);
}
END_TEST

START_TEST(a_new_instance_is_a_restart_and_an_old_one_that_comes_again_a_clone)
{
    ck_assert_int_eq(hello(&one, "a", NULL), 0);
    ck_assert_int_eq(hello(&one, "a", NULL), 0);
    ck_assert_int_eq(hello(&one, "b", "a"), 0);
    ck_assert_uint_eq(rig_count(AUDIT_CLONED), 0);
    ck_assert_int_eq(hello(&one, "a", "b"), PKI_CLONED);
    ck_assert_uint_eq(rig_count(AUDIT_CLONED), 1);
    ck_assert_int_eq(hello(&one, "b", NULL), 0);
    rig.offset_us += 60 * SECOND_US;
    ck_assert_int_eq(hello(&one, "a", NULL), 0); /* alone: let in, and shown */
    ck_assert_uint_eq(rig_count(AUDIT_CLONED), 2);
    ck_assert_uint_eq(agent_of("web-1").n_clones, 2);
}
END_TEST

START_TEST(an_identity_issued_offline_registers_its_machine_at_the_first_hello)
{
    const struct pki_issue issue = { .kind = PKI_AGENT,
                                     .name = "db-1",
                                     .directory = rig_path("out") };

    ck_assert_msg(pki_issue_identity(rig.pki, &issue, &rig.why) == 0, "%s", rig.why.text);
    ck_assert_uint_eq(rig_count(AUDIT_ISSUED), 1);
    ck_assert(!agent_of("db-1").has_fingerprint);
    const struct pki_hello asked = { .name = "db-1",
                                     .peer = "[2001:db8::7]:9",
                                     .instance = span_of_text("x"),
                                     .fingerprint = &two.fingerprint };
    ck_assert_int_eq(pki_agent_hello(rig.pki, &asked, &rig.why), 0);
    ck_assert(agent_of("db-1").has_fingerprint);
    ck_assert_str_eq(agent_of("db-1").last_peer, "2001:db8::7");
}
END_TEST

START_TEST(an_agent_that_saw_a_newer_registry_is_on_record_once)
{
    struct pki_hello asked = { .name = "web-1",
                               .peer = "192.0.2.7:1",
                               .instance = span_of_text("x"),
                               .fingerprint = &one.fingerprint,
                               .generation_seen = pki_generation(rig.pki) };

    ck_assert_int_eq(pki_agent_hello(rig.pki, &asked, &rig.why), 0);
    ck_assert_uint_eq(rig_count(AUDIT_REGISTRY_BEHIND), 0);
    asked.generation_seen += 100;
    ck_assert_int_eq(pki_agent_hello(rig.pki, &asked, &rig.why), 0);
    ck_assert_int_eq(pki_agent_hello(rig.pki, &asked, &rig.why), 0);
    ck_assert_uint_eq(rig_count(AUDIT_REGISTRY_BEHIND), 1);
}
END_TEST

/* ---- backups ---- */

static void copy(const char *from, const char *to)
{
    struct buf content = { 0 };

    ck_assert_int_eq(file_read(from, (size_t) 1 << 30, &content), 0);
    ck_assert_int_eq(file_replace(to, buf_span(&content), 0600), 0);
    buf_deinit(&content);
}

static void back_up(void)
{
    rig_close(); /* LMDB's files are whole then */
    copy(rig_path("db/state/data.mdb"), rig_path("backup"));
    rig_open();
}

static void restore(void)
{
    uint64_t generation;

    rig_close();
    copy(rig_path("backup"), rig_path("db/state/data.mdb"));
    rig_open_store();
    ck_assert_int_eq(pki_restored(rig.store, &generation), 0);
    rig_open_pki();
    ck_assert_uint_ge(pki_generation(rig.pki), generation);
}

START_TEST(a_restored_backup_does_not_bring_back_who_was_thrown_out)
{
    const struct pki_token_wish wish = { .n_uses = 10 };
    struct pki_token token = rig_token(&wish);
    char hex[65];

    ck_assert_int_eq(machine_enrol(&two, &token, "web-2"), 0);
    ck_assert_int_eq(machine_call(&two, &two.granted), 0);
    back_up();
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, NULL, NULL), 0);
    ck_assert_int_eq(pki_certificate_revoke(rig.pki, text_of_hex(leaf_of(&two.granted), 32, hex),
                                            &rig_act, NULL, &rig.why),
                     0);
    restore();
    ck_assert_int_eq(machine_call(&one, &first), PKI_NOT_ACTIVE);
    ck_assert_int_eq(machine_call(&two, &two.granted), PKI_NOT_ACTIVE);
    ck_assert_int_eq(agent_of("web-1").state, PKI_AGENT_REVOKED);
    ck_assert_int_eq(agent_of("web-2").state, PKI_AGENT_ALLOWED);
    /* Tokens are void. */
    machine_new_key(&two);
    ck_assert_int_eq(machine_enrol(&two, &token, "web-3"), PKI_REFUSED);
    ck_assert_int_eq(rig.refusal, PKI_REFUSED_TOKEN_UNKNOWN);
}
END_TEST

START_TEST(who_was_readmitted_after_a_backup_is_in_after_its_restore)
{
    back_up();
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, NULL, NULL), 0);
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(pki_agent_readmit(rig.pki, "web-1", &rig_act, NULL), 0);
    restore();
    ck_assert_int_eq(machine_call(&one, &first), 0);
    ck_assert_int_eq(agent_of("web-1").state, PKI_AGENT_ALLOWED);
}
END_TEST

START_TEST(who_enrolled_anew_after_a_revocation_and_a_backup_is_in_after_its_restore)
{
    struct pki_token token;

    back_up();
    rig.offset_us += SECOND_US;
    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, &token, NULL), 0);
    rig.offset_us += SECOND_US;
    machine_new_key(&one);
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    restore();
    ck_assert_int_eq(agent_of("web-1").state, PKI_AGENT_ALLOWED);
    ck_assert_int_eq(machine_call(&one, &first), PKI_NOT_ACTIVE); /* revoked for good */
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);        /* adopted */
}
END_TEST

START_TEST(a_fleet_that_renewed_after_the_backup_is_adopted)
{
    back_up();
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;
    ck_assert_int_eq(machine_call(&one, &child), 0);
    rig.offset_us += DAY_US;
    restore();
    ck_assert_int_eq(machine_call(&one, &child), 0);
    ck_assert_int_eq(rig_state_of(&child), PKI_ACTIVE);
    ck_assert_int_eq(rig_state_of(&first), PKI_SUPERSEDED);
    rig_settle();
    ck_assert_int_eq(rig_state_of(&child), PKI_ACTIVE);
    ck_assert_int_eq(rig_state_of(&first), PKI_SUPERSEDED);
    ck_assert_uint_eq(rig_count(AUDIT_ADOPTED), 1);
    machine_new_key(&one);
    ck_assert_int_eq(machine_renew(&one, leaf_of(&child)), 0);
}
END_TEST

START_TEST(a_late_renewal_adopts_too)
{
    back_up();
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;
    ck_assert_int_eq(machine_call(&one, &child), 0);
    struct tls_key *child_key = one.key;
    rig.offset_us += 8 * DAY_US;
    restore();
    ck_assert_int_eq(machine_renew_expired(&one, &child, child_key), 0);
    ck_assert_uint_eq(rig_count(AUDIT_ADOPTED), 1);
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
}
END_TEST

START_TEST(nobody_is_adopted_who_is_revoked_or_unknown_or_late)
{
    const struct pki_token_wish wish = { .n_uses = 10 };

    back_up();
    struct pki_token token = rig_token(&wish);
    ck_assert_int_eq(machine_enrol(&two, &token, "web-2"), 0);
    ck_assert_int_eq(machine_call(&two, &two.granted), 0);
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;
    ck_assert_int_eq(machine_call(&one, &child), 0);
    char hex[65];
    ck_assert_int_eq(pki_certificate_revoke(rig.pki, text_of_hex(leaf_of(&child), 32, hex),
                                            &rig_act, NULL, &rig.why),
                     0);
    restore();
    ck_assert_int_eq(machine_call(&two, &two.granted), PKI_UNKNOWN); /* no such agent in it */
    ck_assert_int_eq(machine_call(&one, &child), PKI_NOT_ACTIVE);    /* the file says why */
    ck_assert_int_eq(one.identity.state, PKI_REVOKED);
    ck_assert_uint_eq(rig_count(AUDIT_ADOPTED), 0);
}
END_TEST

START_TEST(the_window_of_adoption_ends)
{
    back_up();
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    struct pki_granted child = one.granted;
    ck_assert_int_eq(machine_call(&one, &child), 0);
    restore();
    rig.offset_us += PKI_ADOPT_US;
    ck_assert_int_eq(machine_call(&one, &child), PKI_UNKNOWN);
}
END_TEST

/* ---- the file of revocations ---- */

START_TEST(the_file_is_mended_from_the_database_and_a_cut_line_is_passed_over)
{
    struct buf content = { 0 };

    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, NULL, NULL), 0);
    ck_assert_int_eq(file_replace(rig_path("revoked"), span_of_text("c 00"), 0600), 0);
    rig_settle();
    rig_settle();
    ck_assert_int_eq(file_read(rig_path("revoked"), 65536, &content), 0);
    const char *text = buf_text(&content);
    ck_assert_int_eq(strncmp(text, "c 00\n", 5), 0);
    const char *agent = strstr(text, "\na web-1 ");
    ck_assert_ptr_nonnull(agent);
    ck_assert_ptr_null(strstr(agent + 1, "\na web-1 ")); /* once */
    buf_deinit(&content);
}
END_TEST

/* In the file under "here" after `other` came to what was there. */
static size_t import(const char *own, const char *other, struct buf *ret)
{
    char directory[256];
    struct tls_why why = { "" };
    size_t n;

    snprintf(directory, sizeof(directory), "%s", rig_path("here"));
    ck_assert(mkdir(directory, 0700) == 0 || errno == EEXIST);
    ck_assert_int_eq(file_replace(rig_path("here/revoked"), span_of_text(own), 0600), 0);
    ck_assert_int_eq(file_replace(rig_path("other"), span_of_text(other), 0600), 0);
    ck_assert_msg(pki_revoked_import(directory, rig_path("other"), &n, &why) == 0, "%s", why.text);
    buf_clear(ret);
    ck_assert_int_eq(file_read(rig_path("here/revoked"), 65536, ret), 0);
    return n;
}

START_TEST(of_two_files_no_revocation_is_lost_and_the_younger_word_counts)
{
#define ONE "1111111111111111111111111111111111111111111111111111111111111111"
#define TWO "2222222222222222222222222222222222222222222222222222222222222222"
    struct buf text = { 0 };
    struct tls_why why = { "" };
    size_t n;

    ck_assert_uint_eq(
        import("a one 5\nc " ONE " 99 5 one\n", "a two 6\nc " TWO " 99 6 two\n", &text), 2);
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "a one 5\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "a two 6\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "c " ONE " 99 5 one\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "c " TWO " 99 6 two\n"));
    /* Allowed again, then thrown out again: whichever file has it. */
    ck_assert_uint_eq(import("a one 5\nr one 7\n", "a one 5\nr one 6\na one 9\n", &text), 1);
    ck_assert_str_eq(buf_text(&text), "a one 9\n");
    ck_assert_uint_eq(import("a one 9\n", "a one 5\nr one 7\n", &text), 0);
    ck_assert_str_eq(buf_text(&text), "a one 9\n");
    /* In the same second the revocation. */
    ck_assert_uint_eq(import("r one 9\n", "a one 9\n", &text), 1);
    ck_assert_str_eq(buf_text(&text), "a one 9\n");
    ck_assert_uint_eq(import("a one 9\n", "r one 9\n", &text), 0);
    ck_assert_uint_eq(import("u " ONE " 8\n", "c " ONE " 99 8 one\n", &text), 1);
    ck_assert_str_eq(buf_text(&text), "c " ONE " 99 8 one\n");
    ck_assert_uint_eq(import("", "", &text), 0);
    /* Words that let somebody in again are taken, but are no revocations. */
    ck_assert_uint_eq(import("a one 5\nc " ONE " 99 5 one\n", "r one 7\nu " ONE " 7\n", &text), 0);
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "r one 7\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "u " ONE " 7\n"));
    /* What is no such file is refused, and nothing changes. */
    ck_assert_int_eq(file_replace(rig_path("other"), span_of_text("-----BEGIN\n"), 0600), 0);
    char directory[256];
    snprintf(directory, sizeof(directory), "%s", rig_path("here"));
    ck_assert_int_eq(pki_revoked_import(directory, rig_path("other"), &n, &why), PKI_BAD);
    ck_assert_int_eq(pki_revoked_import(directory, rig_path("none"), &n, &why), PKI_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "state directory"));
    buf_deinit(&text);
}
END_TEST

START_TEST(lines_read_back_as_they_were_written_and_others_are_none)
{
    const struct pki_revoked_line lines[] = {
        { PKI_LINE_CERTIFICATE, { 1, 2 }, { 7 * SECOND_US }, { 8 * SECOND_US }, "web-1" },
        { PKI_LINE_COUNTS_AGAIN, { 3 }, { 0 }, { 9 * SECOND_US }, "" },
        { PKI_LINE_AGENT, { 0 }, { 0 }, { 9 * SECOND_US }, "web-1" },
        { PKI_LINE_ALLOWED, { 0 }, { 0 }, { 9 * SECOND_US }, "web-1" },
    };
    static const char *const bad[] = { "",          "c",         "a web-1",
                                       "a WEB 5",   "a web-1 x", "a web-1 5 6",
                                       "x web-1 5", "u 00 5",    "a web-1 99999999999999999999" };
    struct pki_revoked_line back;

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct buf text = { 0 };
        pki_revoked_print(&lines[i], &text);
        ck_assert_uint_lt(text.len, PKI_REVOKED_LINE_BYTES);
        ck_assert(pki_revoked_parse(span_of(text.data, text.len - 1), &back));
        ck_assert_int_eq(back.kind, lines[i].kind);
        ck_assert_mem_eq(back.sha256, lines[i].sha256, 32);
        ck_assert_int_eq(back.at.us, lines[i].at.us);
        ck_assert_int_eq(back.not_after.us, lines[i].not_after.us);
        ck_assert_str_eq(back.name, lines[i].name);
        for (size_t len = 0; len + 1 < text.len; len++) { /* a shorter number is a number */
            if (pki_revoked_parse(span_of(text.data, len), &back))
                ck_assert_int_ne(text.data[len], ' ');
        }
        buf_deinit(&text);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!pki_revoked_parse(span_of_text(bad[i]), &back), "%s", bad[i]);
}
END_TEST

START_TEST(an_agent_reads_back_as_it_was_written)
{
    struct pki_agent_row row = { .agent = { .state = PKI_AGENT_FORKED,
                                            .enrolled = { 5 },
                                            .changed = { 6 },
                                            .reason = "why",
                                            .addresses = { "10.0.0.0/8", "fd00::/8" },
                                            .n_addresses = 2,
                                            .current = { 9 },
                                            .n_clones = 3,
                                            .last_peer = "10.0.0.7" },
                                 .lineage = { 4 },
                                 .grace_until = { 7 },
                                 .fingerprint = { .has = { [IDENTITY_DMI] = true },
                                                  .sha256 = { [IDENTITY_DMI] = { 8 } } } };
    struct pki_agent_row back;
    struct buf value = { 0 };

    pki_agent_row_encode(&row, &value);
    ck_assert_int_eq(pki_agent_row_decode(span_of_text("web-1"), buf_span(&value), &back), 0);
    ck_assert_str_eq(back.agent.name, "web-1");
    ck_assert_int_eq(back.agent.state, PKI_AGENT_FORKED);
    ck_assert_str_eq(back.agent.addresses[1], "fd00::/8");
    ck_assert_str_eq(back.agent.last_peer, "10.0.0.7");
    ck_assert(back.agent.has_fingerprint);
    ck_assert(back.fingerprint.has[IDENTITY_DMI] && !back.fingerprint.has[IDENTITY_MACHINE_ID]);
    ck_assert_int_eq(back.grace_until.us, 7);
    ck_assert_uint_eq(back.agent.n_clones, 3);
    for (size_t len = 0; len < value.len; len++)
        ck_assert_int_eq(
            pki_agent_row_decode(span_of_text("web-1"), span_of(value.data, len), &back), PKI_BAD);
    buf_deinit(&value);
}
END_TEST

void add_agent_cases(Suite *s)
{
    TCase *tcase = tcase_create("agents");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_revoked_agent_is_out_and_stays_out);
    tcase_add_test(tcase, a_revoked_agent_is_reissued_by_a_token_for_it_alone);
    tcase_add_test(tcase, a_token_for_many_does_not_let_a_revoked_machine_in_again);
    tcase_add_test(tcase, a_readmitted_agent_has_what_it_had_but_not_what_was_revoked_for_itself);
    tcase_add_test(tcase, one_certificate_is_revoked_by_the_first_digits_of_its_digest);
    tcase_add_test(tcase, what_a_stolen_certificate_had_made_goes_with_it);
    tcase_add_test(tcase, certificates_are_listed_page_by_page);
    tcase_add_test(tcase, a_forgotten_agent_leaves_its_name_free);
    tcase_add_test(tcase, an_agent_comes_from_its_addresses_alone);
    tcase_add_test(tcase, another_machine_is_refused_while_the_registered_one_is_live);
    tcase_add_test(tcase, a_machine_whose_parts_were_changed_is_the_registered_one_after_a_day);
    tcase_add_test(tcase, a_new_instance_is_a_restart_and_an_old_one_that_comes_again_a_clone);
    tcase_add_test(tcase, an_identity_issued_offline_registers_its_machine_at_the_first_hello);
    tcase_add_test(tcase, an_agent_that_saw_a_newer_registry_is_on_record_once);
    tcase_add_test(tcase, a_restored_backup_does_not_bring_back_who_was_thrown_out);
    tcase_add_test(tcase, who_was_readmitted_after_a_backup_is_in_after_its_restore);
    tcase_add_test(tcase,
                   who_enrolled_anew_after_a_revocation_and_a_backup_is_in_after_its_restore);
    tcase_add_test(tcase, a_fleet_that_renewed_after_the_backup_is_adopted);
    tcase_add_test(tcase, a_late_renewal_adopts_too);
    tcase_add_test(tcase, nobody_is_adopted_who_is_revoked_or_unknown_or_late);
    tcase_add_test(tcase, the_window_of_adoption_ends);
    tcase_add_test(tcase, the_file_is_mended_from_the_database_and_a_cut_line_is_passed_over);
    tcase_add_test(tcase, of_two_files_no_revocation_is_lost_and_the_younger_word_counts);
    tcase_add_test(tcase, lines_read_back_as_they_were_written_and_others_are_none);
    tcase_add_test(tcase, an_agent_reads_back_as_it_was_written);
    suite_add_tcase(s, tcase);
}
