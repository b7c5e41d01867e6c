/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds: what hangs, what is denied, what the settings leave out. */
#include "suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collect_rig.h"
#include "common/log/log.h"

void add_round_cases(Suite *s);

#define SUCCESS(collector) "sentinel.agent.collector.success{sentinel.collector=" collector "}"
#define LATE(collector) "sentinel.agent.collector.late{sentinel.collector=" collector "}"
#define ZONE(n) "sys/class/thermal/thermal_zone" n "/temp"
#define TEMPERATURE "hw.temperature{hw.id=thermal_zone0,hw.name=thermal_zone0}"

static void path_of(const char *path, char to[static 256])
{
    snprintf(to, 256, "%s/%s", tree, path);
}

/* A pipe that nobody writes to: an open() of it does not return, as a read of a dead sensor. */
START_TEST(a_sensor_that_hangs_blocks_nobody_else)
{
    struct collect_options options = rig_options(tree, NULL);
    struct collect *collect = NULL;
    struct spool_scrape sample;
    char pipe[256];
    int fd;

    options.deadline_us = 100000;
    tree_write("proc/uptime", "100 1\n");
    tree_write(ZONE("0"), "1000\n");
    tree_write("sys/class/nvme/nvme0/state", "live\n");
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    path_of("sys/class/hwmon/hwmon0", pipe);
    tree_write("sys/class/hwmon/hwmon0/x", "");
    path_of("sys/class/hwmon/hwmon0/temp1_input", pipe);
    ck_assert_int_eq(mkfifo(pipe, 0600), 0);

    for (int i = 1; i <= 3; i++) {
        ck_assert_int_eq(collect_run(collect, &sample), 0);
        expect(&sample, "system.uptime", 100);
        expect(&sample, TEMPERATURE, 1); /* also slow, and behind it in the queue */
        expect(&sample, SUCCESS("hwmon"), 0);
        expect(&sample, LATE("hwmon"), i);
        expect(&sample, SUCCESS("thermal"), 1);
    }

    /* It comes back: what it found is told in the next round, and then it is asked again. */
    fd = open(pipe, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "5000\n", 5), 5);
    ck_assert_int_eq(unlink(pipe), 0);
    close(fd);
    do
        ck_assert_int_eq(collect_run(collect, &sample), 0);
    while (is_absent(&sample, "hw.temperature{hw.id=hwmon0/temp1,hw.name=temp1,hw.parent=hwmon0}"));
    do
        ck_assert_int_eq(collect_run(collect, &sample), 0);
    while (is_absent(&sample, SUCCESS("hwmon")) ||
           sample.values[find(&sample, SUCCESS("hwmon"))] != 1);
    collect_free(collect);
}
END_TEST

START_TEST(an_end_does_not_wait_for_what_hangs)
{
    struct collect_options options = rig_options(tree, "hwmon");
    struct collect *collect = NULL;
    struct spool_scrape sample;
    char pipe[256];
    int fd;

    options.deadline_us = 10000;
    tree_write("sys/class/hwmon/hwmon0/x", "");
    path_of("sys/class/hwmon/hwmon0/temp1_input", pipe);
    ck_assert_int_eq(mkfifo(pipe, 0600), 0);
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    collect_free(collect);
    /* The thread comes back to memory that is still there. */
    fd = open(pipe, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    close(fd);
}
END_TEST

/* Denied is what root never is: a process without rights looks. */
START_TEST(what_may_not_be_read_is_said_once)
{
    struct collect_options options = rig_options(tree, NULL);
    struct collect *collect = NULL;
    struct collect_totals totals;
    struct spool_scrape sample;
    char path[256], log[4096];
    int ends[2];
    ssize_t n;

    tree_write("proc/uptime", "100 1\n");
    path_of("proc/uptime", path);
    ck_assert_int_eq(chmod(path, 0), 0);
    ck_assert_int_eq(chmod(tree, 0755), 0);
    ck_assert_int_eq(pipe(ends), 0);
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    log_init(&(struct log_options){ .level = LOG_INFO, .fd = ends[1] });
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, "sentinel.agent.collector.denied{sentinel.collector=uptime}", 1);
    collect_get_totals(collect, &totals);
    ck_assert_uint_eq(totals.errors, 0);
    collect_free(collect);
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    close(ends[1]);
    n = read(ends[0], log, sizeof(log) - 1);
    ck_assert_int_gt(n, 0);
    log[n] = '\0';
    ck_assert_ptr_nonnull(strstr(log, "collector=uptime path=proc/uptime"));
    ck_assert_ptr_null(strstr(strchr(log, '\n') + 1, "collector=uptime"));
    close(ends[0]);
}
END_TEST

#define NETWORK(name) \
    "system.network.io{network.interface.name=" name ",network.io.direction=receive}"

START_TEST(the_settings_choose_by_expression)
{
    struct collect_options options = rig_options(tree, "network");
    struct collect *collect = NULL;
    struct spool_scrape sample;

    tree_write("proc/net/dev", "Inter-| Receive\n face |bytes\n"
                               "  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"
                               "  eth1: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"
                               " veth9: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"
                               "  tap0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n");
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_int_ge(find(&sample, NETWORK("tap0")), 0);
    ck_assert_int_lt(find(&sample, NETWORK("veth9")), 0);
    collect_free(collect);

    options.filters[COLLECT_INTERFACES].include = "^v?eth";
    options.filters[COLLECT_INTERFACES].exclude = "0$";
    options.filters[COLLECT_METRICS].exclude = "errors|dropped";
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    ck_assert_int_ge(find(&sample, NETWORK("eth1")), 0);
    ck_assert_int_ge(find(&sample, NETWORK("veth9")), 0);
    ck_assert_int_lt(find(&sample, NETWORK("eth0")), 0);
    ck_assert_int_lt(find(&sample, NETWORK("tap0")), 0);
    ck_assert_uint_eq(sample.layout->n_series, 8); /* bytes and packets of two */

    options.filters[COLLECT_INTERFACES].include = "(";
    ck_assert_int_eq(collect_configure(collect, &options), COLLECT_BAD_FILTER);
    collect_free(collect);
}
END_TEST

START_TEST(names_that_are_no_utf8_are_mended)
{
    tree_write("proc/swaps", "heading\n/a\xff"
                             "b partition 100 25 -1\n");
    EXPECT_ALL_OF(
        tree, "paging",
        { "system.paging.usage{system.device=/a?b,system.paging.state=used}", 25600 },
        { "system.paging.usage{system.device=/a?b,system.paging.state=free}", 76800 },
        { "system.paging.utilization{system.device=/a?b,system.paging.state=used}", 0.25 },
        { "system.paging.utilization{system.device=/a?b,system.paging.state=free}", 0.75 });
}
END_TEST

void add_round_cases(Suite *s)
{
    TCase *rounds = tcase_create("rounds");

    tcase_add_checked_fixture(rounds, tree_make, tree_remove);
    tcase_add_test(rounds, a_sensor_that_hangs_blocks_nobody_else);
    tcase_add_test(rounds, an_end_does_not_wait_for_what_hangs);
    tcase_add_test(rounds, what_may_not_be_read_is_said_once);
    tcase_add_test(rounds, the_settings_choose_by_expression);
    tcase_add_test(rounds, names_that_are_no_utf8_are_mended);
    suite_add_tcase(s, rounds);
}
