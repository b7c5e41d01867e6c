/* SPDX-License-Identifier: Apache-2.0 */
#include "test_pki_machines.h"

void add_cut_cases(Suite *s);

#ifdef SENTINEL_FAULT_POINTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"

/*
 * A hub is killed at each step of an act, in a process of its own; another one opens what is left,
 * and the machine asks again as machines do.
 */

static struct machine one;
static struct pki_token token;
static struct pki_granted first;

static void setup(void)
{
    const struct pki_token_wish wish = { .n_uses = 1 };

    rig_setup();
    machine_init(&one, "machine one");
    token = rig_token(&wish);
}

static void setup_enrolled(void)
{
    setup();
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    first = one.granted;
    rig_settle();
    rig.offset_us += DAY_US;
}

static void teardown(void)
{
    machine_deinit(&one);
    rig_teardown();
}

/* The registry is opened in another process (LMDB allows one environment in each), which dies at
 * the point. */
static void kill_at(const char *point, void (*act)(void))
{
    int status = 0;

    rig_close();
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        rig_open();
        setenv("SENTINEL_FAULT", point, 1);
        act();
        rig_close();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: not passed", point);
    rig_open();
}

static void enrol(void)
{
    (void) machine_enrol(&one, &token, "web-1");
}

START_TEST(a_hub_that_is_killed_while_it_enrols_gives_one_certificate)
{
    static const char *const points[] = { "enrol_before_commit:2", "state_before_commit",
                                          "state_after_commit", "enrol_after_commit" };
    struct pki_token *tokens;
    size_t n;

    kill_at(points[_i], enrol);
    ck_assert_int_eq(machine_enrol(&one, &token, "web-1"), 0);
    ck_assert(one.granted.is_again == (_i >= 2));
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    (void) rig_certificates("*", &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(pki_token_list(rig.pki, &rig.arena, &tokens, &n), 0);
    ck_assert_uint_eq(tokens[0].n_used, 1);
    ck_assert_uint_eq(rig_count(AUDIT_ENROLLED), 1);
    ck_assert_uint_eq(rig_count(AUDIT_TOKEN_USED), 1);
}
END_TEST

static void renew(void)
{
    (void) machine_renew(&one, leaf_of(&first));
}

START_TEST(a_hub_that_is_killed_while_it_renews_gives_one_successor)
{
    static const char *const points[] = { "renew_before_commit", "state_before_commit",
                                          "state_after_commit", "renew_after_commit" };
    size_t n;

    kill_at(points[_i], renew);
    ck_assert_int_eq(machine_call(&one, &first), 0); /* the old one counts */
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), 0);
    ck_assert(one.granted.is_again == (_i >= 2));
    ck_assert_int_eq(machine_call(&one, &one.granted), 0);
    (void) rig_certificates("web-1", &n);
    ck_assert_uint_eq(n, 2);
    ck_assert_uint_eq(rig_count(AUDIT_RENEWED), 1);
}
END_TEST

static void present(void)
{
    (void) machine_renew(&one, leaf_of(&first));
    (void) machine_call(&one, &one.granted);
}

START_TEST(a_hub_that_is_killed_while_it_notes_a_successor_takes_it_again)
{
    static const char *const points[] = { "presented_before_commit", "presented_after_commit" };

    kill_at(points[_i], present);
    ck_assert_int_eq(machine_renew(&one, leaf_of(&first)), _i == 0 ? 0 : PKI_REFUSED);
    if (_i == 0) { /* the same again */
        ck_assert(one.granted.is_again);
        ck_assert_int_eq(machine_call(&one, &one.granted), 0);
        rig_settle();
    }
    ck_assert_int_eq(rig_state_of(&first), PKI_SUPERSEDED);
}
END_TEST

static void throw_out(void)
{
    ck_assert_int_eq(pki_agent_revoke(rig.pki, "web-1", &rig_act, NULL, NULL), 0);
}

START_TEST(a_revocation_that_was_cut_is_whole_or_none)
{
    static const char *const points[] = { "agent_act_before_commit", "state_before_commit",
                                          "state_after_commit", "agent_act_after_commit" };
    struct buf content = { 0 };

    kill_at(points[_i], throw_out);
    ck_assert_int_eq(machine_call(&one, &first), _i >= 2 ? PKI_NOT_ACTIVE : 0);
    ck_assert_uint_eq(rig_count(AUDIT_AGENT_REVOKED), _i >= 2);
    int r = file_read(rig_path("revoked"), 65536, &content);
    ck_assert_int_eq(r, _i >= 2 ? 0 : FILE_ABSENT);
    if (_i >= 2) /* made good at the open */
        ck_assert_ptr_nonnull(strstr(buf_text(&content), "a web-1 "));
    buf_deinit(&content);
}
END_TEST

void add_cut_cases(Suite *s)
{
    TCase *tcase = tcase_create("cut enrolments");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, a_hub_that_is_killed_while_it_enrols_gives_one_certificate, 0, 4);
    suite_add_tcase(s, tcase);
    tcase = tcase_create("cut renewals");
    tcase_add_checked_fixture(tcase, setup_enrolled, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, a_hub_that_is_killed_while_it_renews_gives_one_successor, 0, 4);
    tcase_add_loop_test(tcase, a_hub_that_is_killed_while_it_notes_a_successor_takes_it_again, 0,
                        2);
    tcase_add_loop_test(tcase, a_revocation_that_was_cut_is_whole_or_none, 0, 4);
    suite_add_tcase(s, tcase);
}

#else

/* Fault points are in builds with -DSENTINEL_FAULT_POINTS alone. */
void add_cut_cases(Suite *s)
{
    (void) s;
}

#endif
