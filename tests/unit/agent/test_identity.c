/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/identity/identity.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/rand.h"
#include "common/crypto/crypto.h"
#include "suite.h"
#include "test_identity_hub.h"

#define DAY_US INT64_C(86400000000)
#define LIFE_US (7 * DAY_US)
#define BACK_DATED_US INT64_C(300000000)
#define N_AGENTS 10000

/* ---- times ---- */

START_TEST(a_certificate_is_renewed_between_a_third_and_three_quarters_of_its_life)
{
    wall_us from = { 1000000000 - BACK_DATED_US }, until = { 1000000000 + LIFE_US };

    ck_assert_int_eq(schedule_first(from, until, 0).us, 1000000000 + LIFE_US / 100 * 35);
    ck_assert_int_lt(schedule_first(from, until, 0.999999).us, 1000000000 + LIFE_US / 100 * 75);
    ck_assert_int_gt(schedule_first(from, until, 0.999999).us, 1000000000 + LIFE_US / 100 * 74);
}
END_TEST

START_TEST(a_short_certificate_is_not_renewed_at_once)
{
    /* A minute of life, dated back by five. */
    wall_us from = { 1000000000 - BACK_DATED_US }, until = { 1000000000 + 60000000 };

    ck_assert_int_eq(schedule_first(from, until, 0).us, 1000000000 + 21000000);
}
END_TEST

START_TEST(the_point_of_a_certificate_is_its_own)
{
    uint8_t sha256[32] = { 0 };

    ck_assert(schedule_unit(sha256) == 0);
    memset(sha256, 0xff, sizeof(sha256));
    ck_assert(schedule_unit(sha256) < 1 && schedule_unit(sha256) > 0.999);
}
END_TEST

START_TEST(there_are_ten_tries_before_the_end_however_late_the_first_fails)
{
    struct rand rand;

    rand_init(&rand, 6);
    for (unsigned round = 0; round < N_AGENTS; round++) {
        wall_us now =
            schedule_first((wall_us){ -BACK_DATED_US }, (wall_us){ LIFE_US }, rand_unit(&rand));
        unsigned n = 1;

        for (; now.us < LIFE_US; n++)
            now.us += schedule_retry(now, (wall_us){ LIFE_US }, n, rand_unit(&rand));
        ck_assert_uint_ge(n, 10);
        ck_assert_uint_lt(n, 400);
    }
}
END_TEST

START_TEST(after_the_end_it_is_tried_each_quarter_of_an_hour)
{
    wall_us now = { LIFE_US + 1 }, end = { LIFE_US };

    ck_assert_int_eq(schedule_retry(now, end, 1, 0.5), 30000000);
    ck_assert_int_eq(schedule_retry(now, end, 50, 0.5), 900000000);
    ck_assert_int_ge(schedule_retry((wall_us){ LIFE_US - 1 }, end, 9, 0.5), 200000);
}
END_TEST

/*
 * A fleet that enrols within a minute, over five lives: what each agent does next follows from the
 * schedule and the hash of its certificate alone.
 */
START_TEST(no_hundredth_of_a_life_has_twice_the_mean_rate_of_renewals)
{
    enum { N_LIVES = 5, PER_LIFE = 100, N_WINDOWS = N_LIVES * PER_LIFE };
    static unsigned windows[N_WINDOWS];
    uint64_t n_renewals = 0;
    double mean;

    memset(windows, 0, sizeof(windows));
    for (uint64_t agent = 0; agent < N_AGENTS; agent++) {
        int64_t issued = (int64_t) (agent * 60000000 / N_AGENTS);

        for (uint64_t serial = 0;; serial++) {
            uint64_t certificate[2] = { agent, serial };
            uint8_t sha256[32];

            crypto_sha256(span_of(certificate, sizeof(certificate)), sha256);
            issued = schedule_first((wall_us){ issued - BACK_DATED_US },
                                    (wall_us){ issued + LIFE_US }, schedule_unit(sha256))
                         .us;
            if (issued >= N_LIVES * LIFE_US)
                break;
            windows[issued / (LIFE_US / PER_LIFE)]++;
            n_renewals++;
        }
    }
    mean = (double) n_renewals / N_WINDOWS;
    for (size_t i = 0; i < N_WINDOWS; i++)
        ck_assert_msg(windows[i] <= 2 * mean, "window %zu has %u, the mean is %.1f", i, windows[i],
                      mean);
    ck_assert(mean > 100);
}
END_TEST

/* ---- a directory, a hub, a loop ---- */

static struct ca ca;
static struct loop *loop;
static char directory[64], path[256];
static unsigned n_changed;

static void set_up(void)
{
    snprintf(directory, sizeof(directory), "/tmp/agent-identity-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(rpc_init(), 0);
    ck_assert_int_eq(loop_new(&loop), 0);
    ca_start(&ca);
    n_changed = 0;
}

static void tear_down(void)
{
    ca_stop(&ca);
    loop = loop_free(loop);
    rpc_deinit();
    ck_assert_int_eq(file_remove_tree(directory), 0);
}

/* In the identity's directory, which is a part of the state's. */
static const char *at(const char *name)
{
    snprintf(path, sizeof(path), "%s/identity/%s", directory, name);
    return path;
}

static bool is_there(const char *name)
{
    return access(at(name), F_OK) == 0;
}

static void read_file(const char *name, struct buf *ret)
{
    ck_assert_msg(file_read(at(name), 1u << 20, ret) == 0, "%s", path);
}

static void read_leaf(struct tls_facts *ret)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;

    read_file("client-cert.pem", &pem);
    ck_assert_int_eq(tls_cert_parse_pem(&cert, buf_span(&pem)), 0);
    ck_assert_int_eq(tls_cert_read(cert, ret), 0);
}

static bool is_issued_last(void)
{
    struct tls_facts facts;

    read_leaf(&facts);
    return memcmp(facts.sha256, ca.leaf_sha256, sizeof(facts.sha256)) == 0;
}

/* ---- enrolment ---- */

static struct enrol_result result;

static int enrol_within(int64_t give_up_us)
{
    char identity[128];

    snprintf(identity, sizeof(identity), "%s/identity", directory);
    return enrol_run(&(struct enrol_options){ .enrolment = &ca.enrolment,
                                              .hub = ca.target,
                                              .directory = identity,
                                              .id = "web-1",
                                              .root = "/nonexistent",
                                              .give_up_us = give_up_us },
                     &result);
}

static int enrol(void)
{
    return enrol_within(0);
}

START_TEST(a_machine_gets_an_identity_for_a_token)
{
    CLEANUP(buf_deinit) struct buf hub = { 0 };
    struct stat info;

    ck_assert_msg(enrol() == ENROL_OK, "%s", result.message);
    ck_assert_str_eq(result.agent_id, "web-1");
    ck_assert(is_issued_last());
    ck_assert_int_eq(stat(at("client-key.pem"), &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0600);
    ck_assert_int_eq(stat(at(""), &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0700);
    ck_assert(!is_there("enrolment"));
    snprintf(path, sizeof(path), "%s/identity", directory);
    ck_assert(!keeper_is_absent(path));
    identity_read_hub(path, &hub);
    ck_assert_str_eq(buf_text(&hub), ca.target);
}
END_TEST

START_TEST(a_hub_without_the_pinned_root_is_told_nothing)
{
    ca.enrolment.pin[0] ^= 1;
    ck_assert_int_eq(enrol(), ENROL_WRONG_HUB);
    ck_assert_str_eq(result.reason, "PIN_MISMATCH");
    ck_assert_uint_eq(ca.n_bundles, 1);
    ck_assert_uint_eq(ca.n_enrolled, 0);
    ck_assert(!is_there("enrolment"));
}
END_TEST

START_TEST(a_hub_of_another_name_is_told_nothing)
{
    char identity[128];

    snprintf(identity, sizeof(identity), "%s/identity", directory);
    ck_assert_int_eq(enrol_run(&(struct enrol_options){ .enrolment = &ca.enrolment,
                                                        .hub = ca.target,
                                                        .server_name = "elsewhere.example",
                                                        .directory = identity,
                                                        .id = "",
                                                        .root = "/nonexistent" },
                               &result),
                     ENROL_WRONG_HUB);
    ck_assert_str_eq(result.reason, "HUB_NAME_MISMATCH");
    ck_assert_uint_eq(ca.n_enrolled, 0);
}
END_TEST

START_TEST(nobody_at_the_address_is_said_at_once)
{
    ca.server = rpc_server_free(ca.server);
    ck_assert_int_eq(enrol_within(60000000), ENROL_UNREACHABLE);
    ck_assert(strstr(result.message, ca.target) != NULL);
}
END_TEST

START_TEST(a_refused_token_leaves_the_identity_that_is_there)
{
    CLEANUP(buf_deinit) struct buf before = { 0 }, after = { 0 };

    ck_assert_int_eq(enrol(), ENROL_OK);
    read_file("client-cert.pem", &before);
    ca_set_mood(&ca, CA_REFUSES, "TOKEN_USED", 0);
    ck_assert_int_eq(enrol(), ENROL_REFUSED);
    ck_assert_str_eq(result.reason, "TOKEN_USED");
    ck_assert(strstr(result.remedy, "sentinelctl tokens create") != NULL);
    read_file("client-cert.pem", &after);
    ck_assert(span_equal(buf_span(&before), buf_span(&after)));
}
END_TEST

START_TEST(a_lost_answer_is_asked_for_again_with_the_same_key)
{
    ca_set_mood(&ca, CA_LOSES, NULL, 2);
    ck_assert_msg(enrol_within(60000000) == ENROL_OK, "%s", result.message);
    ck_assert_uint_eq(ca.n_enrolled, 3);
    ck_assert_uint_eq(ca.n_same_key, 2);
}
END_TEST

START_TEST(another_run_goes_on_with_the_key_on_disk)
{
    ca_set_mood(&ca, CA_LOSES, NULL, 1);
    ck_assert_int_eq(enrol(), ENROL_UNREACHABLE);
    ck_assert(is_there("enrolment/client-key.pem") && is_there("enrolment/request.der"));
    ck_assert_int_eq(enrol(), ENROL_OK);
    ck_assert_uint_eq(ca.n_same_key, 1);
    /* Another token is another matter. */
    ca_set_mood(&ca, CA_LOSES, NULL, 1);
    ck_assert_int_eq(enrol(), ENROL_UNREACHABLE);
    memcpy(ca.enrolment.token_id, "zzzzzzzz", 8);
    ck_assert_int_eq(enrol(), ENROL_OK);
    ck_assert_uint_eq(ca.n_same_key, 1);
}
END_TEST

START_TEST(an_answer_that_is_not_fit_is_not_kept)
{
    static const enum ca_mood moods[] = { CA_OTHER_KEY, CA_OTHER_ROOT, CA_EXPIRED,
                                          CA_AUTHORITY, CA_OTHER_NAME, CA_MUTE };

    ca_set_mood(&ca, moods[_i], NULL, 1);
    ck_assert_int_eq(enrol(), ENROL_BAD_ANSWER);
    ck_assert(result.message[0] && !is_there("client-cert.pem") &&
              !is_there("enrolment/client-cert.pem"));
    ck_assert_int_eq(enrol(), ENROL_OK);
}
END_TEST
#define N_BAD_MOODS 6

START_TEST(one_process_at_a_time_changes_an_identity)
{
    int fd;

    ck_assert_int_eq(enrol(), ENROL_OK);
    fd = open(at(""), O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    ck_assert_int_eq(enrol(), ENROL_BUSY);
    close(fd);
}
END_TEST

/* ---- the keeper ---- */

static void on_changed(void *ctx)
{
    (void) ctx;
    n_changed++;
}

static struct keeper *new_keeper(void)
{
    struct keeper *keeper;
    char identity[128];

    snprintf(identity, sizeof(identity), "%s/identity", directory);
    ck_assert_int_eq(keeper_new(&keeper, &(struct keeper_options){ .loop = loop,
                                                                   .directory = identity,
                                                                   .state_directory = directory,
                                                                   .hub = ca.target,
                                                                   .on_changed = on_changed }),
                     0);
    return keeper;
}

/* Runs the loop until the condition holds; the test fails after 30 s. */
#define until(cond)                                                    \
    do {                                                               \
        int64_t until_ = clock_mono().us + 30000000;                   \
        while (!(cond)) {                                              \
            ck_assert_msg(clock_mono().us < until_, "waited: " #cond); \
            ck_assert_int_ge(loop_run_once(loop, 5), 0);               \
        }                                                              \
    } while (0)

static enum keeper_state state_of(const struct keeper *keeper)
{
    struct keeper_status status;

    keeper_get_status(keeper, &status);
    return status.state;
}

static const char *reason_of(const struct keeper *keeper)
{
    static struct keeper_status status;

    keeper_get_status(keeper, &status);
    return status.last_reason;
}

static void issue(int64_t age_us, int64_t life_us)
{
    snprintf(path, sizeof(path), "%s/identity", directory);
    ca_issue_into(&ca, path, age_us, life_us);
}

/* What a connection would use: its number, and whether it is what the hub issued last. */
static uint64_t use_of(struct keeper *keeper, bool *ret_is_last)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct tls_facts facts;
    struct tls_why why = { "" };
    uint64_t use;

    ck_assert_msg(keeper_get(keeper, &identity, &use, &why) == 0, "%s", why.text);
    ck_assert_int_eq(tls_cert_parse_pem(&cert, buf_span(&identity.chain_pem)), 0);
    ck_assert_int_eq(tls_cert_read(cert, &facts), 0);
    *ret_is_last = memcmp(facts.sha256, ca.leaf_sha256, sizeof(facts.sha256)) == 0;
    return use;
}

static void welcome(struct keeper *keeper, uint64_t use)
{
    keeper_on_welcome(keeper, use, &(struct keeper_welcome){ .hub_us = clock_wall().us });
}

START_TEST(a_young_certificate_is_left_alone)
{
    struct keeper *keeper;
    struct keeper_status status;

    issue(DAY_US, LIFE_US);
    keeper = new_keeper();
    ck_assert_int_eq(keeper_start(keeper), 0);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_ge(loop_run_once(loop, 5), 0);
    keeper_get_status(keeper, &status);
    ck_assert_int_eq(status.state, KEEPER_OK);
    ck_assert_str_eq(status.agent_id, "web-1");
    ck_assert_int_eq(status.percent_left, 85);
    ck_assert_int_gt(status.next_renewal.us, clock_wall().us);
    ck_assert_uint_eq(ca.n_renewed, 0);
    keeper_free(keeper);
}
END_TEST

START_TEST(a_renewed_one_is_tried_before_it_replaces_the_old)
{
    struct keeper *keeper;
    uint64_t old, use;
    bool is_last;

    issue(6 * DAY_US, LIFE_US);
    keeper = new_keeper();
    old = use_of(keeper, &is_last);
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(n_changed == 1);
    ck_assert_uint_eq(ca.n_renewed, 1);
    ck_assert_int_eq(state_of(keeper), KEEPER_RENEWING);
    use = use_of(keeper, &is_last);
    ck_assert(is_last && use != old);
    ck_assert(is_there("candidate") && !is_issued_last());

    welcome(keeper, old); /* of a connection with the old one: says nothing of the new one */
    ck_assert(is_there("candidate"));
    welcome(keeper, use);
    ck_assert(!is_there("candidate") && !is_there("request") && is_issued_last());
    ck_assert_int_eq(state_of(keeper), KEEPER_OK);
    ck_assert_uint_eq(use_of(keeper, &is_last), use);
    keeper_free(keeper);
}
END_TEST

START_TEST(a_candidate_that_the_hub_does_not_know_is_dropped)
{
    struct keeper *keeper;
    uint64_t use;
    bool is_last;

    issue(6 * DAY_US, LIFE_US);
    keeper = new_keeper();
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(n_changed == 1);
    use = use_of(keeper, &is_last);
    ca_set_mood(&ca, CA_REFUSES, "LATER", 0);
    keeper_on_ended(keeper, use, "CERTIFICATE_UNKNOWN");
    until(n_changed == 2);
    ck_assert(use_of(keeper, &is_last) != use && !is_last && !is_there("candidate"));
    keeper_free(keeper);
}
END_TEST

START_TEST(a_candidate_survives_what_says_nothing_of_it)
{
    struct keeper *keeper;
    uint64_t use;
    bool is_last;

    issue(6 * DAY_US, LIFE_US);
    keeper = new_keeper();
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(n_changed == 1);
    use = use_of(keeper, &is_last);
    keeper_on_ended(keeper, use, NULL);
    keeper_on_ended(keeper, use, "HUB_STOPPING");
    keeper_on_ended(keeper, use - 1, "CERTIFICATE_SUPERSEDED");
    ck_assert(use_of(keeper, &is_last) == use && is_last);
    keeper_free(keeper);

    /* Nor does it mind a restart. */
    keeper = new_keeper();
    use = use_of(keeper, &is_last);
    ck_assert(is_last);
    welcome(keeper, use);
    ck_assert(is_issued_last() && !is_there("candidate"));
    keeper_free(keeper);
}
END_TEST

START_TEST(a_renewal_whose_answer_was_lost_is_the_same_request_again)
{
    struct keeper *keeper;

    ca_set_mood(&ca, CA_LOSES, NULL, 1);
    issue(6 * DAY_US, LIFE_US);
    keeper = new_keeper();
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(reason_of(keeper)[0]);
    ck_assert_str_eq(reason_of(keeper), "UNAVAILABLE");
    ck_assert(is_there("request/request.der"));
    keeper_free(keeper);

    keeper = new_keeper();
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(n_changed == 1);
    ck_assert_uint_eq(ca.n_same_key, 1);
    keeper_free(keeper);
}
END_TEST

START_TEST(an_answer_to_a_renewal_that_is_not_fit_is_not_kept)
{
    static const enum ca_mood moods[] = { CA_OTHER_KEY, CA_OTHER_ROOT, CA_EXPIRED, CA_OTHER_NAME };
    struct keeper *keeper;
    bool is_last;

    ca_set_mood(&ca, moods[_i], NULL, 0);
    issue(6 * DAY_US, LIFE_US);
    keeper = new_keeper();
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(reason_of(keeper)[0]);
    ck_assert_str_eq(reason_of(keeper), "BAD_ANSWER");
    ck_assert_uint_eq(n_changed, 0);
    (void) use_of(keeper, &is_last);
    ck_assert(!is_last && !is_there("candidate"));
    keeper_free(keeper);
}
END_TEST

START_TEST(what_has_expired_is_renewed_with_the_old_keys_signature)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct keeper *keeper;
    struct tls_why why = { "" };
    uint64_t use;
    bool is_last;

    issue(8 * DAY_US, LIFE_US);
    keeper = new_keeper();
    ck_assert_int_eq(keeper_get(keeper, &identity, &use, &why), KEEPER_UNUSABLE);
    ck_assert(strstr(why.text, "expired") != NULL);
    ck_assert_int_eq(state_of(keeper), KEEPER_EXPIRED);
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(n_changed == 1);
    ck_assert_uint_eq(ca.n_late, 1);
    ck_assert_uint_eq(ca.n_bad_signatures, 0);
    ck_assert_uint_eq(ca.n_renewed, 0);
    use = use_of(keeper, &is_last);
    ck_assert(is_last);
    welcome(keeper, use);
    ck_assert(is_issued_last());
    keeper_free(keeper);
}
END_TEST

START_TEST(after_the_grace_it_waits_for_somebody_and_recovers_alone)
{
    struct keeper *keeper;

    ca_set_mood(&ca, CA_REFUSES, "GRACE_OVER", 0);
    issue(30 * DAY_US, LIFE_US);
    keeper = new_keeper();
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(state_of(keeper) == KEEPER_NEEDS_TOKEN);
    ck_assert(strstr(keeper_state_remedy(KEEPER_NEEDS_TOKEN), "readmit") != NULL);
    ca_set_mood(&ca, CA_FINE, NULL, 0); /* somebody readmitted it */
    keeper_free(keeper);
    keeper = new_keeper();
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(n_changed == 1);
    keeper_free(keeper);
}
END_TEST

START_TEST(roots_that_a_renewal_brings_are_trusted)
{
    CLEANUP(buf_deinit) struct buf roots = { 0 };
    struct tls_cert *certs[4];
    struct keeper *keeper;
    size_t n = 0;
    bool is_last;

    ca.has_next_root = true;
    issue(6 * DAY_US, LIFE_US);
    keeper = new_keeper();
    ck_assert_int_eq(keeper_start(keeper), 0);
    until(n_changed == 1);
    welcome(keeper, use_of(keeper, &is_last));
    read_file("ca-cert.pem", &roots);
    ck_assert_int_eq(tls_chain_split(buf_span(&roots), certs, 4, &n), 0);
    ck_assert_uint_eq(n, 2);
    for (size_t i = 0; i < n; i++)
        tls_cert_free(certs[i]);
    keeper_free(keeper);
}
END_TEST

START_TEST(what_the_hub_refuses_has_its_state_until_it_welcomes)
{
    static const struct {
        const char *reason;
        enum keeper_state state;
    } rows[] = {
        { "CERTIFICATE_REVOKED", KEEPER_REVOKED },
        { "LINEAGE_FORKED", KEEPER_FORKED },
        { "AGENT_ID_CLONED", KEEPER_CLONED },
        { "CERTIFICATE_UNKNOWN", KEEPER_NEEDS_TOKEN },
        { "CERTIFICATE_SUPERSEDED", KEEPER_NEEDS_TOKEN },
    };
    struct keeper *keeper;
    bool is_last;

    issue(DAY_US, LIFE_US);
    keeper = new_keeper();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        keeper_on_ended(keeper, use_of(keeper, &is_last), rows[i].reason);
        ck_assert_int_eq(state_of(keeper), rows[i].state);
        ck_assert(keeper_state_remedy(rows[i].state)[0]);
        welcome(keeper, use_of(keeper, &is_last));
        ck_assert_int_eq(state_of(keeper), KEEPER_OK);
    }
    keeper_free(keeper);
}
END_TEST

START_TEST(an_enrolment_beside_the_daemon_is_taken_up)
{
    struct keeper *keeper;
    uint64_t use;
    bool is_last;

    issue(DAY_US, LIFE_US);
    keeper = new_keeper();
    use = use_of(keeper, &is_last);
    keeper_on_ended(keeper, use, "CERTIFICATE_REVOKED");
    ck_assert_int_eq(enrol(), ENROL_OK);
    ck_assert(use_of(keeper, &is_last) != use && is_last);
    ck_assert_int_eq(state_of(keeper), KEEPER_OK);
    keeper_free(keeper);
}
END_TEST

START_TEST(an_enrolment_that_was_cut_off_is_finished_at_the_start)
{
    static const char *const names[] = { "ca-cert.pem", "client-cert.pem", "client-key.pem" };
    struct keeper *keeper;
    char from[256];
    bool is_last;

    ck_assert_int_eq(enrol(), ENROL_OK);
    ck_assert_int_eq(mkdir(at("enrolment"), 0700), 0);
    for (size_t i = 0; i < 3; i++) {
        snprintf(from, sizeof(from), "%s/identity/%s", directory, names[i]);
        snprintf(path, sizeof(path), "%s/identity/enrolment/%s", directory, names[i]);
        ck_assert_int_eq(rename(from, path), 0);
    }
    issue(DAY_US, LIFE_US); /* an old one */
    keeper = new_keeper();
    (void) use_of(keeper, &is_last);
    ck_assert(is_last && is_issued_last() && !is_there("enrolment"));
    keeper_free(keeper);
}
END_TEST

START_TEST(the_highest_generation_and_a_hundred_anchors_are_kept)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint8_t hash[32] = { 0 }, signature[70] = { 0 };
    struct keeper_welcome welcome = { .generation = 9 };
    struct keeper *keeper;
    size_t n_lines = 0;

    issue(DAY_US, LIFE_US);
    keeper = new_keeper();
    welcome.anchor.sha256 = span_of(hash, sizeof(hash));
    welcome.anchor.signature = span_of(signature, sizeof(signature));
    for (uint64_t i = 0; i < 130; i++) {
        welcome.anchor.entry = i / 2 * 2; /* each is told twice, and kept once */
        welcome.anchor.time_us = (int64_t) (i / 2);
        hash[0] = (uint8_t) (i / 2);
        keeper_on_welcome(keeper, 1, &welcome);
    }
    for (uint64_t i = 200; i < 260; i++) {
        welcome.anchor.entry = i;
        keeper_on_welcome(keeper, 1, &welcome);
    }
    welcome.generation = 4;
    keeper_on_welcome(keeper, 1, &welcome);
    keeper_free(keeper);

    keeper = new_keeper();
    ck_assert_uint_eq(keeper_generation(keeper), 9);
    keeper_free(keeper);
    snprintf(path, sizeof(path), "%s/anchors", directory);
    ck_assert_int_eq(file_read(path, 1u << 20, &text), 0);
    for (size_t i = 0; i < text.len; i++)
        n_lines += text.data[i] == '\n';
    ck_assert_uint_eq(n_lines, 100);
    ck_assert(strstr(buf_text(&text), "\"entry\":259,") != NULL);
}
END_TEST

START_TEST(an_absent_identity_is_known_as_such)
{
    struct keeper *keeper = new_keeper();
    struct keeper_status status;

    snprintf(path, sizeof(path), "%s/identity", directory);
    ck_assert(keeper_is_absent(path));
    keeper_get_status(keeper, &status);
    ck_assert_int_eq(status.state, KEEPER_NEEDS_TOKEN);
    keeper_free(keeper);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("agent/identity");
    TCase *times = tcase_create("times");
    TCase *enrolment = tcase_create("enrolment");
    TCase *keeper = tcase_create("keeper");

    tcase_set_timeout(times, 60);
    tcase_add_test(times, a_certificate_is_renewed_between_a_third_and_three_quarters_of_its_life);
    tcase_add_test(times, a_short_certificate_is_not_renewed_at_once);
    tcase_add_test(times, the_point_of_a_certificate_is_its_own);
    tcase_add_test(times, there_are_ten_tries_before_the_end_however_late_the_first_fails);
    tcase_add_test(times, after_the_end_it_is_tried_each_quarter_of_an_hour);
    tcase_add_test(times, no_hundredth_of_a_life_has_twice_the_mean_rate_of_renewals);
    suite_add_tcase(s, times);
    tcase_add_checked_fixture(enrolment, set_up, tear_down);
    tcase_set_timeout(enrolment, 120);
    tcase_add_test(enrolment, a_machine_gets_an_identity_for_a_token);
    tcase_add_test(enrolment, a_hub_without_the_pinned_root_is_told_nothing);
    tcase_add_test(enrolment, a_hub_of_another_name_is_told_nothing);
    tcase_add_test(enrolment, nobody_at_the_address_is_said_at_once);
    tcase_add_test(enrolment, a_refused_token_leaves_the_identity_that_is_there);
    tcase_add_test(enrolment, a_lost_answer_is_asked_for_again_with_the_same_key);
    tcase_add_test(enrolment, another_run_goes_on_with_the_key_on_disk);
    tcase_add_loop_test(enrolment, an_answer_that_is_not_fit_is_not_kept, 0, N_BAD_MOODS);
    tcase_add_test(enrolment, one_process_at_a_time_changes_an_identity);
    suite_add_tcase(s, enrolment);
    tcase_add_checked_fixture(keeper, set_up, tear_down);
    tcase_set_timeout(keeper, 120);
    tcase_add_test(keeper, a_young_certificate_is_left_alone);
    tcase_add_test(keeper, a_renewed_one_is_tried_before_it_replaces_the_old);
    tcase_add_test(keeper, a_candidate_that_the_hub_does_not_know_is_dropped);
    tcase_add_test(keeper, a_candidate_survives_what_says_nothing_of_it);
    tcase_add_test(keeper, a_renewal_whose_answer_was_lost_is_the_same_request_again);
    tcase_add_loop_test(keeper, an_answer_to_a_renewal_that_is_not_fit_is_not_kept, 0, 4);
    tcase_add_test(keeper, what_has_expired_is_renewed_with_the_old_keys_signature);
    tcase_add_test(keeper, after_the_grace_it_waits_for_somebody_and_recovers_alone);
    tcase_add_test(keeper, roots_that_a_renewal_brings_are_trusted);
    tcase_add_test(keeper, what_the_hub_refuses_has_its_state_until_it_welcomes);
    tcase_add_test(keeper, an_enrolment_beside_the_daemon_is_taken_up);
    tcase_add_test(keeper, an_enrolment_that_was_cut_off_is_finished_at_the_start);
    tcase_add_test(keeper, the_highest_generation_and_a_hundred_anchors_are_kept);
    tcase_add_test(keeper, an_absent_identity_is_known_as_such);
    suite_add_tcase(s, keeper);
    return s;
}
