/* SPDX-License-Identifier: Apache-2.0 */
#include "collect_rig.h"

#include "suite.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/collect/nvme_log.h"
#include "common/log/log.h"

void add_nvme_cases(Suite *s);

/* A drive after 20,173 hours; what is not written here is zero, or nothing of ours. */
static const uint8_t golden[NVME_LOG_BYTES] = {
    [0] = 0x05,                                    /* spare, reliability */
    [1] = 0x39,   0x01,                            /* 313 K */
    [3] = 9,      10,   112,                       /* spare, its threshold, used: % */
    [6] = 0xff,                                    /* of endurance groups: not ours */
    [32] = 0x15,  0xcd, 0x5b, 0x07,                /* 123,456,789 units read */
    [48] = 0,     0,    0,    0,    0, 0, 0, 0, 1, /* 2^64 units written */
    [64] = 0xee,  0xee, 0xee,                      /* commands: not ours */
    [112] = 0x39, 0x05,                            /* 1,337 power cycles */
    [128] = 0xcd, 0x4e,                            /* 20,173 hours */
    [144] = 42,                                    /* unsafe shutdowns */
    [160] = 3,                                     /* media errors */
    [176] = 0xdd, 0xdd,                            /* entries of the error log: not ours */
    [200] = 0x50, 0x01,                            /* sensor 1: not ours */
};

START_TEST(a_page_is_read_to_the_last_byte_of_its_numbers)
{
    struct nvme_health health;
    uint8_t page[NVME_LOG_BYTES];

    ck_assert(nvme_health_decode(span_of(golden, sizeof(golden)), &health));
    ck_assert(health.warnings[0] && !health.warnings[1] && health.warnings[2] &&
              !health.warnings[3] && !health.warnings[4] && !health.warnings[5]);
    ck_assert(health.has_temperature && health.temperature_celsius == 40);
    ck_assert(health.spare == 0.09 && health.spare_threshold == 0.1 && health.used == 1.12);
    ck_assert(health.read_bytes == 123456789.0 * 512000);
    ck_assert(health.written_bytes == 18446744073709551616.0 * 512000);
    ck_assert(health.power_cycles == 1337 && health.power_on_s == 20173.0 * 3600);
    ck_assert(health.unsafe_shutdowns == 42 && health.media_errors == 3);

    memset(page, 0xff, sizeof(page));
    ck_assert(nvme_health_decode(span_of(page, sizeof(page)), &health));
    ck_assert(health.media_errors == 340282366920938463463374607431768211456.0);
    ck_assert(health.used == 2.55 && health.temperature_celsius == 65535 - 273);
}
END_TEST

START_TEST(what_is_no_page_is_refused)
{
    static const uint8_t zeros[NVME_LOG_BYTES];
    struct nvme_health health;

    ck_assert(!nvme_health_decode(span_of(zeros, sizeof(zeros)), &health));
    for (size_t len = 0; len < NVME_LOG_BYTES; len++)
        ck_assert(!nvme_health_decode(span_of(golden, len), &health));
}
END_TEST

/* ---- the collector ---- */

static int answer; /* of the drive */
static int n_asked;

static int fake_log(int root_fd, const char *drive, uint8_t to[static NVME_LOG_BYTES])
{
    ck_assert_int_ge(root_fd, 0);
    ck_assert_str_eq(drive, "nvme0");
    n_asked++;
    if (answer == 0)
        memcpy(to, golden, NVME_LOG_BYTES);
    return answer;
}

static struct collect *new_drive(int will_answer, const char *only)
{
    struct collect_options options = rig_options(tree, only);
    struct collect *collect = NULL;

    tree_write("sys/class/nvme/nvme0/state", "live\n");
    tree_write("sys/class/nvme/nvme0/model", "Fast 1TB    \n");
    answer = will_answer;
    n_asked = 0;
    options.nvme_log = fake_log;
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    return collect;
}

#define OF(metric) "system.linux.nvme." metric "{hw.id=nvme0}"
#define STATUS(state) \
    "hw.status{hw.id=nvme0,hw.name=Fast 1TB,hw.state=" state ",hw.type=physical_disk}"
#define WARNING(name) \
    "system.linux.nvme.critical_warning{hw.id=nvme0,system.linux.nvme.warning=" name "}"

/* Each round tells all of it; the drive is not asked each time. */
START_TEST(a_drive_that_is_asked_tells_of_its_health)
{
    struct collect *collect = new_drive(0, "nvme");
    struct spool_scrape sample;

    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(collect_run(collect, &sample), 0);
        expect(&sample, STATUS("ok"), 1);
        expect(&sample, STATUS("predicted_failure"), 1);
        expect(&sample, "hw.temperature{hw.id=nvme0}", 40);
        expect(&sample, OF("spare"), 0.09);
        expect(&sample, OF("spare.limit"), 0.1);
        expect(&sample, OF("endurance.used"), 1.12);
        expect(&sample, "system.linux.nvme.io{hw.id=nvme0,disk.io.direction=read}",
               123456789.0 * 512000);
        expect(&sample, OF("power_on_time"), 20173.0 * 3600);
        expect(&sample, OF("power_cycles"), 1337);
        expect(&sample, OF("unsafe_shutdowns"), 42);
        expect(&sample, OF("media_errors"), 3);
        expect(&sample, WARNING("spare"), 1);
        expect(&sample, WARNING("read_only"), 0);
    }
    ck_assert_int_eq(n_asked, 1);
    collect_free(collect);
}
END_TEST

/* How often the log has `word` since new_log(). */
static int log_fd = -1;

static void new_log(void)
{
    log_fd = memfd_create("log", MFD_CLOEXEC);
    ck_assert_int_ge(log_fd, 0);
    log_init(&(struct log_options){ .level = LOG_INFO, .fd = log_fd });
}

static int n_said(const char *word)
{
    static char text[65536];
    const ssize_t n = pread(log_fd, text, sizeof(text) - 1, 0);
    int n_found = 0;

    ck_assert_int_ge(n, 0);
    text[n] = '\0';
    for (const char *at = text; (at = strstr(at, word)); at++)
        n_found++;
    return n_found;
}

#define REPORT(what) "sentinel.agent.collector." what "{sentinel.collector=nvme}"

/* In each round it is told; in the log once, with the reason. */
START_TEST(a_drive_that_refuses_is_one_line_and_no_success)
{
    static const struct {
        int answer;
        const char *words;
    } rows[] = { { -EIO, "Input/output error" },
                 { -ENOTTY, "Inappropriate ioctl" },
                 { 0x4002, "status 0x4002" } };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct collect *collect = new_drive(rows[i].answer, NULL);
        struct spool_scrape sample;

        new_log();
        for (int round = 1; round <= 5; round++) {
            ck_assert_int_eq(collect_run(collect, &sample), 0);
            expect(&sample, STATUS("ok"), 1);
            expect(&sample, REPORT("success"), 0);
            expect(&sample, REPORT("errors"), round);
            ck_assert_int_lt(find(&sample, OF("spare")), 0);
            ck_assert_int_lt(find(&sample, STATUS("predicted_failure")), 0);
        }
        ck_assert_int_eq(n_asked, 1);
        ck_assert_int_eq(n_said("nvme_log_failed"), 1);
        ck_assert_int_eq(n_said(rows[i].words), 1);
        collect_free(collect);
        close(log_fd);
    }
}
END_TEST

START_TEST(without_the_right_it_is_denied_once_in_the_log)
{
    struct collect *collect = new_drive(-EACCES, NULL);
    struct spool_scrape sample;

    new_log();
    for (int round = 0; round < 5; round++) {
        ck_assert_int_eq(collect_run(collect, &sample), 0);
        expect(&sample, STATUS("ok"), 1);
        expect(&sample, REPORT("denied"), 1);
    }
    ck_assert_int_eq(n_said("collector_denied"), 1);
    ck_assert_int_eq(n_said("dev/nvme0"), 1);
    collect_free(collect);
    close(log_fd);
}
END_TEST

/* As in the unit's sandbox. */
START_TEST(a_drive_that_cannot_be_seen_is_nothing_wrong)
{
    struct collect *collect = new_drive(-ENOENT, NULL);
    struct spool_scrape sample;

    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, STATUS("ok"), 1);
    expect(&sample, REPORT("success"), 1);
    ck_assert_int_lt(find(&sample, REPORT("denied")), 0);
    collect_free(collect);
}
END_TEST

/* The ioctl itself, on what is no drive. */
START_TEST(a_file_in_the_place_of_a_drive_is_told_as_such)
{
    struct collect_options options = rig_options(tree, NULL);
    struct collect *collect = NULL;
    struct spool_scrape sample;

    tree_write("sys/class/nvme/nvme0/state", "live\n");
    tree_write("dev/nvme0", "text");
    new_log();
    ck_assert_int_eq(collect_new(&collect, &options), 0);
    ck_assert_int_eq(collect_run(collect, &sample), 0);
    expect(&sample, REPORT("success"), 0);
    ck_assert_int_eq(n_said("Inappropriate ioctl"), 1);
    collect_free(collect);
    close(log_fd);
}
END_TEST

void add_nvme_cases(Suite *s)
{
    TCase *nvme = tcase_create("nvme");

    tcase_add_checked_fixture(nvme, tree_make, tree_remove);
    tcase_add_test(nvme, a_page_is_read_to_the_last_byte_of_its_numbers);
    tcase_add_test(nvme, what_is_no_page_is_refused);
    tcase_add_test(nvme, a_drive_that_is_asked_tells_of_its_health);
    tcase_add_test(nvme, a_drive_that_refuses_is_one_line_and_no_success);
    tcase_add_test(nvme, without_the_right_it_is_denied_once_in_the_log);
    tcase_add_test(nvme, a_drive_that_cannot_be_seen_is_nothing_wrong);
    tcase_add_test(nvme, a_file_in_the_place_of_a_drive_is_told_as_such);
    suite_add_tcase(s, nvme);
}
