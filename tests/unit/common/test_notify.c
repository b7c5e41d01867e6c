/* SPDX-License-Identifier: Apache-2.0 */
#include "common/notify/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "suite.h"

static int manager = -1; /* the manager's end */
static char path[64];
static struct notify notify;

static void listen_at(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const bool is_abstract = name[0] == '@';
    const size_t len = strlen(name);

    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(manager, 0);
    memcpy(address.sun_path, name, len);
    if (is_abstract)
        address.sun_path[0] = '\0';
    ck_assert_int_eq(
        bind(manager, (const struct sockaddr *) &address,
             (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len + !is_abstract)),
        0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static const char *heard(void)
{
    static char text[1024];
    ssize_t n = recv(manager, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void set_up(void)
{
    snprintf(path, sizeof(path), "/tmp/test-notify-%d", (int) getpid());
    unlink(path);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

static void tear_down(void)
{
    notify_close(&notify);
    if (manager >= 0)
        close(manager);
    manager = -1;
    unlink(path);
}

START_TEST(each_state_is_one_datagram)
{
    listen_at(path);
    notify_open(&notify);
    ck_assert(notify_is_heard(&notify));
    notify_ready(&notify, "all is well");
    ck_assert_str_eq(heard(), "READY=1\nSTATUS=all is well\n");
    notify_stopping(&notify, "bye");
    ck_assert_str_eq(heard(), "STOPPING=1\nSTATUS=bye\n");
    notify_status(&notify, "works");
    ck_assert_str_eq(heard(), "STATUS=works\n");
}
END_TEST

START_TEST(a_reload_has_the_clock_of_the_manager)
{
    unsigned long long us = 0;

    listen_at(path);
    notify_open(&notify);
    notify_reloading(&notify);
    ck_assert_int_eq(sscanf(heard(), "RELOADING=1\nMONOTONIC_USEC=%llu\n", &us), 1);
    ck_assert_uint_gt(us, 0);
}
END_TEST

START_TEST(a_status_with_a_line_break_is_no_second_assignment)
{
    listen_at(path);
    notify_open(&notify);
    notify_status(&notify, "a\nMAINPID=1");
    ck_assert_str_eq(heard(), "STATUS=a\\nMAINPID=1\n");
}
END_TEST

START_TEST(an_abstract_name_is_heard_too)
{
    char name[64];

    snprintf(name, sizeof(name), "@sentinel-test-notify-%d", (int) getpid());
    listen_at(name);
    notify_open(&notify);
    notify_status(&notify, "here");
    ck_assert_str_eq(heard(), "STATUS=here\n");
}
END_TEST

START_TEST(children_do_not_get_the_socket)
{
    listen_at(path);
    setenv("WATCHDOG_USEC", "1000000", 1);
    notify_open(&notify);
    ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
    ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
}
END_TEST

static const char *const senseless[] = {
    NULL,
    "",
    "relative",
    "/",
    "vsock:2:1",
    "/this/is/a/path/that/is/far/longer/than/the/hundred/and/eight/bytes/that/an/address/of/a/"
    "socket/may/have/at/the/most",
};

START_TEST(what_makes_no_sense_is_as_nothing)
{
    if (senseless[_i])
        setenv("NOTIFY_SOCKET", senseless[_i], 1);
    else
        unsetenv("NOTIFY_SOCKET");
    notify_open(&notify);
    ck_assert(!notify_is_heard(&notify));
    notify_ready(&notify, "nobody hears it");
}
END_TEST

START_TEST(a_manager_that_went_away_is_counted_and_no_more)
{
    listen_at(path);
    notify_open(&notify);
    close(manager);
    manager = -1;
    unlink(path);
    notify_ready(&notify, "alone");
    ck_assert_uint_eq(notify.n_lost, 1);
}
END_TEST

static void watch(const char *usec, const char *pid, bool is_fed)
{
    CLEANUP(loop_freep) struct loop *loop = NULL;

    listen_at(path);
    setenv("WATCHDOG_USEC", usec, 1);
    if (pid)
        setenv("WATCHDOG_PID", pid, 1);
    notify_open(&notify);
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(notify_watch(&notify, loop), 0);
    for (int i = 0; i < (is_fed ? 2 : 0); i++) {
        ck_assert_int_ge(loop_run_once(loop, -1), 0);
        ck_assert_str_eq(heard(), "WATCHDOG=1\n");
    }
    ck_assert_int_ge(loop_run_once(loop, 0), 0);
    ck_assert_str_eq(heard(), "");
    notify_close(&notify);
}

START_TEST(the_watchdog_is_fed_by_the_loop)
{
    char pid[32];

    snprintf(pid, sizeof(pid), "%d", (int) getpid());
    watch("1000000", pid, true);
}
END_TEST

START_TEST(a_watchdog_of_another_process_is_not_fed)
{
    watch("1000", "1", false);
}
END_TEST

START_TEST(a_watchdog_without_a_number_is_none)
{
    watch("soon", NULL, false);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/notify");
    TCase *tcase = tcase_create("notify");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, each_state_is_one_datagram);
    tcase_add_test(tcase, a_reload_has_the_clock_of_the_manager);
    tcase_add_test(tcase, a_status_with_a_line_break_is_no_second_assignment);
    tcase_add_test(tcase, an_abstract_name_is_heard_too);
    tcase_add_test(tcase, children_do_not_get_the_socket);
    tcase_add_loop_test(tcase, what_makes_no_sense_is_as_nothing, 0,
                        sizeof(senseless) / sizeof(senseless[0]));
    tcase_add_test(tcase, a_manager_that_went_away_is_counted_and_no_more);
    tcase_add_test(tcase, the_watchdog_is_fed_by_the_loop);
    tcase_add_test(tcase, a_watchdog_of_another_process_is_not_fed);
    tcase_add_test(tcase, a_watchdog_without_a_number_is_none);
    suite_add_tcase(s, tcase);
    return s;
}
