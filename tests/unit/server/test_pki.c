/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "server/pki/pki.h"
#include "server/pki/registry/registry.h"
#include "server/store/store.h"

#define DAY_US (24 * 60 * 60 * INT64_C(1000000))

static char state[64];
static struct store *store;
static struct tls_why why;

static const char *at(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *to = path[next++ % 4];

    snprintf(to, sizeof(path[0]), "%s/%s", state, name);
    return to;
}

static int64_t offset_us;

static wall_us shifted_wall(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (wall_us){ now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000 + offset_us };
}

static mono_us any_mono(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (mono_us){ now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000 };
}

static struct store *open_store(void)
{
    struct store *opened = NULL;
    struct store_why store_why;
    const struct store_options options = { .directory = at("db"),
                                           .segment_bytes = 1 << 20,
                                           .queue_bytes = 1 << 20,
                                           .full_percent = 100,
                                           .is_shared = true,
                                           .allow_any_filesystem = true };

    ck_assert_int_eq(store_open(&opened, &options, &store_why), 0);
    return opened;
}

static void setup(void)
{
    offset_us = 0;
    clock_set_source(shifted_wall, any_mono);
    snprintf(state, sizeof(state), "/tmp/test_pki.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(state));
    ck_assert_int_eq(file_make_directories(at("db"), 0700), 0);
    ck_assert_int_eq(store_create(at("db")), 0);
    store = open_store();
}

static void teardown(void)
{
    store = store_close(store);
    ck_assert_int_eq(file_remove_tree(state), 0);
}

static void create(void)
{
    static const char *const names[] = { "hub.example.org", "192.0.2.7", NULL };
    const struct pki_init init = { .state_directory = state,
                                   .names = names,
                                   .organisation = "Example",
                                   .trust_domain = "example.org" };

    why.text[0] = 0;
    int r = pki_create(store, &init, &why);
    ck_assert_msg(r == 0, "%d: %s", r, why.text);
}

static struct pki *open_pki(void)
{
    struct pki *pki = NULL;

    why.text[0] = 0;
    int r = pki_open(&pki, store, state, &why);
    ck_assert_msg(r == 0, "%d: %s", r, why.text);
    return pki;
}

static void load(const char *directory, struct tls_identity *ret)
{
    int r = tls_identity_load(directory, ret, &why);

    ck_assert_msg(r == 0, "%d: %s", r, why.text);
}

static struct tls_facts facts_of(struct span chain_pem)
{
    struct tls_cert *cert = NULL;
    struct tls_facts facts;

    ck_assert_int_eq(tls_cert_parse_pem(&cert, chain_pem), 0);
    ck_assert_int_eq(tls_cert_read(cert, &facts), 0);
    tls_cert_free(cert);
    return facts;
}

static struct pki_issue agent(const char *name, const char *out)
{
    return (struct pki_issue){ .kind = PKI_AGENT, .name = name, .directory = at(out) };
}

static mode_t mode_of(const char *name)
{
    struct stat st;

    ck_assert_int_eq(stat(at(name), &st), 0);
    return st.st_mode & 07777;
}

START_TEST(create_makes_an_authority_that_can_be_opened_and_served)
{
    create();
    struct pki *pki = open_pki();
    struct tls_identity server = { 0 };

    ck_assert_int_eq(pki_load_server(state, &server, &why), 0);
    struct tls_why chain_why;
    static const char *const hosts[] = { "localhost", "127.0.0.1", "::1", "hub.example.org",
                                         "192.0.2.7" };
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        int r = tls_chain_verify(buf_span(&server.chain_pem), buf_span(&server.roots_pem),
                                 TLS_SERVER, hosts[i], clock_wall(), &chain_why);
        ck_assert_msg(r == 0, "%s: %s", hosts[i], chain_why.text);
    }
    ck_assert_int_ne(tls_chain_verify(buf_span(&server.chain_pem), buf_span(&server.roots_pem),
                                      TLS_SERVER, "other.example.org", clock_wall(), &chain_why),
                     0);
    ck_assert_str_eq(facts_of(buf_span(&server.chain_pem)).common_name, "hub.example.org");
    ck_assert_uint_eq(mode_of("certs"), 0700);
    ck_assert_uint_eq(mode_of("certs/ca-key.pem"), 0600);
    ck_assert_uint_eq(mode_of("certs/agents-ca-key.pem"), 0600);
    ck_assert_uint_eq(mode_of("certs/hubs-ca-key.pem"), 0600);
    ck_assert_uint_eq(mode_of("certs/server-key.pem"), 0600);
    ck_assert_uint_eq(mode_of("operators/admin"), 0700);
    tls_identity_deinit(&server);
    pki_close(pki);
}
END_TEST

START_TEST(create_never_overwrites)
{
    const struct pki_init init = { .state_directory = state };
    struct tls_identity before = { 0 }, after = { 0 };

    create();
    load(at("operators/admin"), &before);
    ck_assert_int_eq(pki_create(store, &init, &why), PKI_EXISTS);
    ck_assert_ptr_nonnull(strstr(why.text, "/certs"));
    load(at("operators/admin"), &after);
    ck_assert(span_equal(buf_span(&before.key_pem), buf_span(&after.key_pem)));
    tls_identity_deinit(&before);
    tls_identity_deinit(&after);
}
END_TEST

START_TEST(create_goes_on_where_a_cut_one_left_its_directory)
{
    ck_assert_int_eq(file_make_directories(at("certs.new"), 0700), 0);
    ck_assert_int_eq(file_replace(at("certs.new/ca-key.pem"), span_of_text("half"), 0600), 0);
    ck_assert_int_eq(file_make_directories(at("certs"), 0700), 0); /* empty: a mount point */
    create();
    pki_close(open_pki());
    ck_assert_int_ne(access(at("certs.new"), F_OK), 0);
}
END_TEST

START_TEST(create_ends_what_was_cut_before_the_first_operator_was_in_place)
{
    struct tls_identity admin = { 0 };
    const struct pki_init init = { .state_directory = state };

    create();
    ck_assert_int_eq(rename(at("operators/admin"), at("operators/admin.new")), 0);
    ck_assert_msg(pki_create(store, &init, &why) == 0, "%s", why.text);
    load(at("operators/admin"), &admin);
    tls_identity_deinit(&admin);
    ck_assert_int_eq(pki_create(store, &init, &why), PKI_EXISTS);
}
END_TEST

START_TEST(a_state_directory_that_others_may_write_is_refused)
{
    const struct pki_init init = { .state_directory = state };
    struct pki *pki = NULL;

    ck_assert_int_eq(chmod(state, 0770), 0);
    ck_assert_int_eq(pki_create(store, &init, &why), PKI_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "chmod go-w"));
    ck_assert_int_eq(chmod(state, 0755), 0);
    create();
    ck_assert_int_eq(chmod(at("db"), 0707), 0);
    ck_assert_int_eq(pki_open(&pki, store, state, &why), PKI_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "db"));
    ck_assert_int_eq(chmod(at("db"), 0700), 0);
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(state, 12345, (gid_t) -1), 0);
        ck_assert_int_eq(pki_open(&pki, store, state, &why), PKI_BAD);
        ck_assert_ptr_nonnull(strstr(why.text, "12345"));
    }
}
END_TEST

START_TEST(create_says_the_rule_for_a_bad_name)
{
    static const char *const bad[] = { "https://hub", "hub:8082", "", "-hub", "hub..org", "a b" };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *const names[] = { bad[i], NULL };
        const struct pki_init init = { .state_directory = state, .names = names };
        ck_assert_int_eq(pki_create(store, &init, &why), PKI_BAD_NAME);
        ck_assert_ptr_nonnull(strstr(why.text, "192.0.2.7"));
    }
    const struct pki_init organisation = { .state_directory = state, .organisation = "" };
    ck_assert_int_eq(pki_create(store, &organisation, &why), PKI_BAD_NAME);
    const struct pki_init domain = { .state_directory = state, .trust_domain = "Example.org" };
    ck_assert_int_eq(pki_create(store, &domain, &why), PKI_BAD_NAME);
    ck_assert_int_ne(access(at("certs"), F_OK), 0);
}
END_TEST

START_TEST(the_first_operator_is_an_admin)
{
    create();
    struct pki *pki = open_pki();
    struct tls_identity admin = { 0 };
    struct pki_identity identity;

    load(at("operators/admin"), &admin);
    struct tls_facts facts = facts_of(buf_span(&admin.chain_pem));
    ck_assert_int_eq(pki_recheck(pki, facts.sha256, clock_wall(), &identity), 0);
    ck_assert_int_eq(identity.kind, PKI_OPERATOR);
    ck_assert_int_eq(identity.role, PKI_ROLE_ADMIN);
    ck_assert_str_eq(identity.name, "admin");
    ck_assert_uint_eq(identity.generation, pki_generation(pki));
    ck_assert_str_eq(facts.uri, "spiffe://example.org/operator/admin");
    ck_assert_str_eq(facts.organisation_unit, "operators");
    tls_identity_deinit(&admin);
    pki_close(pki);
}
END_TEST

START_TEST(an_issued_agent_is_known_and_leads_to_the_root)
{
    create();
    struct pki *pki = open_pki();
    struct tls_identity files = { 0 };
    struct pki_identity identity;
    struct tls_why chain_why;
    const struct pki_issue issue = agent("web-1", "out/web-1");
    uint64_t before = pki_generation(pki);

    ck_assert_int_eq(pki_issue_identity(pki, &issue, &why), 0);
    ck_assert_uint_eq(pki_generation(pki), before + 1);
    load(at("out/web-1"), &files);
    ck_assert_int_eq(tls_chain_verify(buf_span(&files.chain_pem), buf_span(&files.roots_pem),
                                      TLS_CLIENT, NULL, clock_wall(), &chain_why),
                     0);
    struct tls_facts facts = facts_of(buf_span(&files.chain_pem));
    ck_assert_str_eq(facts.common_name, "web-1");
    ck_assert_str_eq(facts.organisation, "Example");
    ck_assert_str_eq(facts.organisation_unit, "agents");
    ck_assert_str_eq(facts.uri, "spiffe://example.org/agent/web-1");
    ck_assert_int_eq(pki_recheck(pki, facts.sha256, clock_wall(), &identity), 0);
    ck_assert_int_eq(identity.kind, PKI_AGENT);
    ck_assert_int_eq(identity.role, PKI_ROLE_AGENT);
    ck_assert_str_eq(identity.name, "web-1");
    ck_assert_str_eq(identity.serial, facts.serial);
    ck_assert_int_eq((identity.not_after.us - clock_wall().us + DAY_US / 2) / DAY_US, 7);
    tls_identity_deinit(&files);
    pki_close(pki);
}
END_TEST

START_TEST(identify_knows_the_der_and_nothing_else)
{
    create();
    struct pki *pki = open_pki();
    struct pki_identity identity;

    ck_assert_int_eq(pki_identify(pki, span_of_text("not a certificate"), clock_wall(), &identity),
                     PKI_UNKNOWN);
    ck_assert_int_eq(pki_identify(pki, span_of(NULL, 0), clock_wall(), &identity), PKI_UNKNOWN);
    pki_close(pki);
}
END_TEST

START_TEST(issue_refuses_a_directory_that_holds_an_identity)
{
    create();
    struct pki *pki = open_pki();
    const struct pki_issue issue = agent("web-1", "out/web-1");

    ck_assert_int_eq(pki_issue_identity(pki, &issue, &why), 0);
    uint64_t before = pki_generation(pki);
    ck_assert_int_eq(pki_issue_identity(pki, &issue, &why), PKI_EXISTS);
    ck_assert_uint_eq(pki_generation(pki), before);
    pki_close(pki);
}
END_TEST

START_TEST(issue_registers_nothing_for_a_directory_that_others_may_read)
{
    create();
    struct pki *pki = open_pki();
    const struct pki_issue issue = agent("web-1", "out");
    uint64_t before = pki_generation(pki);

    ck_assert_int_eq(mkdir(at("out"), 0755), 0);
    ck_assert_int_eq(chmod(at("out"), 0755), 0);
    ck_assert_int_eq(pki_issue_identity(pki, &issue, &why), PKI_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "chmod 700"));
    ck_assert_int_eq(pki_refresh(pki), 0);
    ck_assert_uint_eq(pki_generation(pki), before);
    pki_close(pki);
}
END_TEST

START_TEST(names_follow_the_rule)
{
    static const char *const good[] = { "a", "web-1", "0.example.org", "a-" };
    static const char *const bad[] = { "", "-a", ".a", "A", "a_b", "a b", "a/b", "a\n", "ä" };
    char longest[65];

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        ck_assert_msg(pki_name_is_good(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!pki_name_is_good(bad[i]), "%s", bad[i]);
    memset(longest, 'a', 64);
    longest[64] = 0;
    ck_assert(!pki_name_is_good(longest));
    longest[63] = 0;
    ck_assert(pki_name_is_good(longest));
}
END_TEST

START_TEST(issue_says_the_rule_for_a_bad_name)
{
    create();
    struct pki *pki = open_pki();
    const struct pki_issue issue = agent("../evil", "out/evil");

    ck_assert_int_eq(pki_issue_identity(pki, &issue, &why), PKI_BAD_NAME);
    ck_assert_ptr_nonnull(strstr(why.text, "a-z, 0-9, dot and hyphen"));
    ck_assert_int_ne(access(at("out/evil"), F_OK), 0);
    pki_close(pki);
}
END_TEST

START_TEST(an_expired_one_is_known_as_expired)
{
    create();
    struct pki *pki = open_pki();
    struct tls_identity files = { 0 };
    struct pki_identity identity;
    struct pki_issue issue = agent("old-1", "out/old-1");

    issue.life_us = -DAY_US;
    ck_assert_int_eq(pki_issue_identity(pki, &issue, &why), 0);
    load(at("out/old-1"), &files);
    struct tls_facts facts = facts_of(buf_span(&files.chain_pem));
    ck_assert_int_eq(pki_recheck(pki, facts.sha256, clock_wall(), &identity), PKI_EXPIRED);
    ck_assert_str_eq(identity.name, "old-1");
    tls_identity_deinit(&files);
    pki_close(pki);
}
END_TEST

/* LMDB forbids a database opened twice in one process, so the offline command is another one. */
static void issue_in_another_process(const struct pki_issue *issue)
{
    int status = -1;
    pid_t child = fork();

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct store *other_store = open_store();
        struct pki *offline = NULL;
        int r = pki_open(&offline, other_store, state, &why);

        if (r == 0)
            r = pki_issue_identity(offline, issue, &why);
        pki_close(offline);
        store_close(other_store);
        _exit(r ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}

START_TEST(what_another_process_issues_is_known_at_once)
{
    create();
    struct pki *running = open_pki();
    struct tls_identity files = { 0 };
    struct pki_identity identity;
    const struct pki_issue issue = agent("web-2", "out/web-2");
    uint64_t before = pki_generation(running);

    issue_in_another_process(&issue);
    load(at("out/web-2"), &files);
    struct tls_facts facts = facts_of(buf_span(&files.chain_pem));
    ck_assert_uint_eq(pki_generation(running), before);
    ck_assert_int_eq(pki_recheck(running, facts.sha256, clock_wall(), &identity), 0);
    ck_assert_uint_eq(pki_generation(running), before + 1);
    ck_assert_str_eq(identity.name, "web-2");
    tls_identity_deinit(&files);
    pki_close(running);
}
END_TEST

START_TEST(refresh_sees_what_another_process_changed)
{
    create();
    struct pki *running = open_pki();
    const struct pki_issue issue = agent("web-9", "out/web-9");
    uint64_t before = pki_generation(running);

    issue_in_another_process(&issue);
    ck_assert_int_eq(pki_refresh(running), 0);
    ck_assert_uint_eq(pki_generation(running), before + 1);
    pki_close(running);
}
END_TEST

START_TEST(a_revoked_row_is_not_active_any_more)
{
    create();
    struct pki *pki = open_pki();
    struct tls_identity files = { 0 };
    struct pki_row row = { .issuer = "Sentinel Agents CA" };
    const struct pki_issue issue = agent("web-3", "out/web-3");

    ck_assert_int_eq(pki_issue_identity(pki, &issue, &why), 0);
    load(at("out/web-3"), &files);
    struct tls_facts facts = facts_of(buf_span(&files.chain_pem));
    ck_assert_int_eq(pki_recheck(pki, facts.sha256, clock_wall(), &row.identity), 0);
    row.identity.state = PKI_REVOKED;
    const struct pki_change change = { .rows = &row, .n_rows = 1 };
    ck_assert_int_eq(pki_registry_change(store, &change), 0);
    ck_assert_int_eq(pki_refresh(pki), 0);
    ck_assert_int_eq(pki_recheck(pki, facts.sha256, clock_wall(), &row.identity), PKI_NOT_ACTIVE);
    ck_assert_int_eq(row.identity.state, PKI_REVOKED);
    tls_identity_deinit(&files);
    pki_close(pki);
}
END_TEST

START_TEST(a_row_reads_back_as_it_was_written)
{
    struct pki_row row = { .identity = { .kind = PKI_HUB,
                                         .role = PKI_ROLE_VIEWER,
                                         .state = PKI_UNCONFIRMED,
                                         .name = "n",
                                         .serial = "0af1",
                                         .not_before = { -5 },
                                         .not_after = { INT64_MAX } },
                           .issuer = "Some CA",
                           .registered = { 7 },
                           .presented = { 8 },
                           .changed = { 9 },
                           .reason = "a reason",
                           .parent = { 1, 2, 3 },
                           .lineage = { 4, 5 },
                           .key_sha256 = { 6 },
                           .chain = span_of_text("chain") };
    struct pki_row back;
    struct buf value = { 0 };
    const uint8_t key[32] = { 9 };

    pki_row_encode(&row, &value);
    ck_assert_int_eq(pki_row_decode(span_of(key, 32), buf_span(&value), &back), 0);
    ck_assert_int_eq(back.identity.kind, PKI_HUB);
    ck_assert_int_eq(back.identity.role, PKI_ROLE_VIEWER);
    ck_assert_int_eq(back.identity.state, PKI_UNCONFIRMED);
    ck_assert_str_eq(back.identity.serial, "0af1");
    ck_assert_int_eq(back.identity.not_before.us, -5);
    ck_assert_int_eq(back.identity.not_after.us, INT64_MAX);
    ck_assert_str_eq(back.issuer, "Some CA");
    ck_assert_mem_eq(back.parent, row.parent, 32);
    ck_assert_mem_eq(back.identity.sha256, key, 32);
    ck_assert_int_eq(back.presented.us, 8);
    ck_assert_int_eq(back.changed.us, 9);
    ck_assert_str_eq(back.reason, "a reason");
    ck_assert_mem_eq(back.lineage, row.lineage, sizeof(row.lineage));
    ck_assert_mem_eq(back.key_sha256, row.key_sha256, 32);
    ck_assert(span_equal(back.chain, span_of_text("chain")));

    /* Every shorter value is refused but the one that the first hubs wrote, which begins a lineage
     * of its own; and so are a later version and an impossible state. */
    const size_t old_len = 60 + (2 + 1) + (2 + 4) + (2 + 7);
    for (size_t len = 0; len < value.len; len++) {
        int r = pki_row_decode(span_of(key, 32), span_of(value.data, len), &back);
        ck_assert_int_eq(r, len == old_len ? 0 : PKI_BAD);
        if (r == 0)
            ck_assert_mem_eq(back.lineage, key, sizeof(back.lineage));
    }
    value.data[3] = 9;
    ck_assert_int_eq(pki_row_decode(span_of(key, 32), buf_span(&value), &back), PKI_BAD);
    value.data[3] = PKI_ACTIVE;
    value.data[0] = 2;
    ck_assert_int_eq(pki_row_decode(span_of(key, 32), buf_span(&value), &back), PKI_BAD);
    buf_deinit(&value);
}
END_TEST

START_TEST(open_says_what_to_do_without_an_authority)
{
    struct pki *pki = NULL;

    ck_assert_int_eq(pki_open(&pki, store, state, &why), PKI_ABSENT);
    ck_assert_ptr_nonnull(strstr(why.text, "sentinel-hub init"));
}
END_TEST

START_TEST(open_refuses_a_directory_that_others_may_read)
{
    struct pki *pki = NULL;

    create();
    ck_assert_int_eq(chmod(at("certs"), 0755), 0);
    ck_assert_int_eq(pki_open(&pki, store, state, &why), PKI_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "chmod 700"));
}
END_TEST

START_TEST(issue_refuses_a_ca_key_that_others_may_read)
{
    create();
    struct pki *pki = open_pki();
    const struct pki_issue issue = agent("web-1", "out/web-1");

    ck_assert_int_eq(chmod(at("certs/agents-ca-key.pem"), 0644), 0);
    ck_assert_int_eq(pki_issue_identity(pki, &issue, &why), PKI_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "chmod"));
    pki_close(pki);
}
END_TEST

START_TEST(a_server_certificate_near_its_end_is_made_anew)
{
    create();
    struct pki *pki = open_pki();
    struct tls_identity before = { 0 }, after = { 0 };
    bool is_renewed = true;

    ck_assert_int_eq(pki_load_server(state, &before, &why), 0);
    ck_assert_int_eq(pki_renew_server(pki, clock_wall(), &is_renewed, &why), 0);
    ck_assert(!is_renewed);
    offset_us = 75 * DAY_US; /* of 90 */
    ck_assert_int_eq(pki_renew_server(pki, clock_wall(), &is_renewed, &why), 0);
    ck_assert(is_renewed);
    ck_assert_int_eq(pki_load_server(state, &after, &why), 0);
    ck_assert(!span_equal(buf_span(&before.key_pem), buf_span(&after.key_pem)));
    struct tls_why chain_why;
    ck_assert_int_eq(tls_chain_verify(buf_span(&after.chain_pem), buf_span(&after.roots_pem),
                                      TLS_SERVER, "hub.example.org", clock_wall(), &chain_why),
                     0);
    ck_assert_int_eq(pki_renew_server(pki, clock_wall(), &is_renewed, &why), 0);
    ck_assert(!is_renewed);
    tls_identity_deinit(&before);
    tls_identity_deinit(&after);
    pki_close(pki);
}
END_TEST

START_TEST(a_server_pair_cut_between_its_two_files_is_made_anew)
{
    create();
    struct pki *pki = open_pki();
    struct tls_identity server = { 0 };
    struct tls_key *key = NULL;
    struct buf pem = { 0 };
    bool is_renewed = false;

    ck_assert_int_eq(tls_key_new(&key), 0);
    ck_assert_int_eq(tls_key_print(key, &pem), 0);
    ck_assert_int_eq(file_replace(at("certs/server-key.pem"), buf_span(&pem), 0600), 0);
    ck_assert_int_eq(pki_load_server(state, &server, &why), PKI_BAD);
    ck_assert_int_eq(pki_renew_server(pki, clock_wall(), &is_renewed, &why), 0);
    ck_assert(is_renewed);
    ck_assert_int_eq(pki_load_server(state, &server, &why), 0);
    tls_identity_deinit(&server);
    buf_deinit(&pem);
    tls_key_free(key);
    pki_close(pki);
}
END_TEST

START_TEST(an_expired_server_certificate_is_not_served)
{
    create();
    struct tls_identity server = { 0 };

    offset_us = 91 * DAY_US;
    ck_assert_int_eq(pki_load_server(state, &server, &why), PKI_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "server-cert.pem"));
}
END_TEST

START_TEST(who_has_not_renewed_is_told_before_the_end)
{
    create();
    struct pki *pki = open_pki();
    const struct pki_issue issue = agent("web-1", "out/web-1");
    struct pki_expiring rows[2];
    size_t n, n_all;

    ck_assert_int_eq(pki_issue_identity(pki, &issue, &why), 0);
    ck_assert_int_eq(pki_list_expiring(pki, clock_wall(), rows, 2, &n, &n_all), 0);
    ck_assert_uint_eq(n_all, 0);
    offset_us = 6 * DAY_US; /* of an agent's seven, and an operator's ninety */
    ck_assert_int_eq(pki_list_expiring(pki, clock_wall(), rows, 2, &n, &n_all), 0);
    ck_assert_uint_eq(n_all, 1);
    ck_assert_str_eq(rows[0].name, "web-1");
    offset_us = 8 * DAY_US; /* over: that is another thing */
    ck_assert_int_eq(pki_list_expiring(pki, clock_wall(), rows, 2, &n, &n_all), 0);
    ck_assert_uint_eq(n_all, 0);
    offset_us = 80 * DAY_US;
    ck_assert_int_eq(pki_list_expiring(pki, clock_wall(), rows, 0, &n, &n_all), 0);
    ck_assert_uint_eq(n, 0);
    ck_assert_uint_eq(n_all, 1);
    pki_close(pki);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/pki");
    TCase *authority = tcase_create("authority");
    TCase *registry = tcase_create("registry");

    tcase_add_checked_fixture(authority, setup, teardown);
    tcase_add_test(authority, create_makes_an_authority_that_can_be_opened_and_served);
    tcase_add_test(authority, create_never_overwrites);
    tcase_add_test(authority, create_goes_on_where_a_cut_one_left_its_directory);
    tcase_add_test(authority, create_ends_what_was_cut_before_the_first_operator_was_in_place);
    tcase_add_test(authority, a_state_directory_that_others_may_write_is_refused);
    tcase_add_test(authority, create_says_the_rule_for_a_bad_name);
    tcase_add_test(authority, the_first_operator_is_an_admin);
    tcase_add_test(authority, open_says_what_to_do_without_an_authority);
    tcase_add_test(authority, open_refuses_a_directory_that_others_may_read);
    tcase_add_test(authority, a_server_certificate_near_its_end_is_made_anew);
    tcase_add_test(authority, a_server_pair_cut_between_its_two_files_is_made_anew);
    tcase_add_test(authority, an_expired_server_certificate_is_not_served);
    suite_add_tcase(s, authority);

    tcase_add_checked_fixture(registry, setup, teardown);
    tcase_add_test(registry, an_issued_agent_is_known_and_leads_to_the_root);
    tcase_add_test(registry, identify_knows_the_der_and_nothing_else);
    tcase_add_test(registry, issue_refuses_a_directory_that_holds_an_identity);
    tcase_add_test(registry, issue_registers_nothing_for_a_directory_that_others_may_read);
    tcase_add_test(registry, names_follow_the_rule);
    tcase_add_test(registry, issue_says_the_rule_for_a_bad_name);
    tcase_add_test(registry, issue_refuses_a_ca_key_that_others_may_read);
    tcase_add_test(registry, an_expired_one_is_known_as_expired);
    tcase_add_test(registry, what_another_process_issues_is_known_at_once);
    tcase_add_test(registry, refresh_sees_what_another_process_changed);
    tcase_add_test(registry, a_revoked_row_is_not_active_any_more);
    tcase_add_test(registry, a_row_reads_back_as_it_was_written);
    tcase_add_test(registry, who_has_not_renewed_is_told_before_the_end);
    suite_add_tcase(s, registry);
    return s;
}
