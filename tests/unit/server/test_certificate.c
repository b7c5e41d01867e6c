/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/log/log.h"
#include "server/certificate.h"
#include "server/store/store.h"

#define HOUR_US (INT64_C(3600) * 1000000)
#define DAY_US (24 * HOUR_US)

static char state[64], logged[96];
static struct store *store;
static struct pki *pki;
static struct certificate certificate;
static struct settings settings;
static struct tls_why why;
static wall_us now;

static const char *at(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *to = path[next++ % 4];

    snprintf(to, sizeof(path[0]), "%s/%s", state, name);
    return to;
}

static void capture_log(void)
{
    snprintf(logged, sizeof(logged), "%s.log", state);
    int fd = open(logged, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    log_init(&(struct log_options){ .level = LOG_INFO, .format = LOG_LOGFMT, .fd = fd });
}

static unsigned times_logged(const char *event)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char wanted[96];
    unsigned n = 0;

    snprintf(wanted, sizeof(wanted), " event=%s ", event);
    ck_assert_int_eq(file_read(logged, 1 << 20, &text), 0);
    for (const char *from = buf_text(&text); (from = strstr(from, wanted)); from++)
        n++;
    return n;
}

static void setup(void)
{
    const struct pki_init init = { .state_directory = state };
    struct store_why store_why;
    struct conf_error error = { "" };

    snprintf(state, sizeof(state), "/tmp/test_certificate.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(state));
    capture_log();
    const struct store_options options = { .directory = at("db"),
                                           .segment_bytes = 1 << 20,
                                           .queue_bytes = 1 << 20,
                                           .full_percent = 100,
                                           .is_shared = true,
                                           .allow_any_filesystem = true };
    ck_assert_int_eq(file_make_directories(at("db"), 0700), 0);
    ck_assert_int_eq(store_create(at("db")), 0);
    ck_assert_int_eq(store_open(&store, &options, &store_why), 0);
    ck_assert_msg(pki_create(store, &init, &why) == 0, "%s", why.text);
    ck_assert_msg(pki_open(&pki, store, state, &why) == 0, "%s", why.text);
    ck_assert_int_eq(settings_load(&settings, &(struct settings_sources){ 0 }, &error), 0);
    ck_assert_int_eq(rpc_init(), 0);
    certificate = (struct certificate){ .state = state, .pki = pki };
    ck_assert_msg(certificate_start(&certificate, &settings, &why) == 0, "%s", why.text);
    now = clock_wall();
}

static void teardown(void)
{
    certificate_deinit(&certificate);
    rpc_deinit();
    settings_free(&settings);
    pki = pki_close(pki);
    store = store_close(store);
    ck_assert_int_eq(file_remove_tree(state), 0);
    unlink(logged);
}

static bool look(int64_t wall_later_us, int64_t mono_later_us)
{
    return certificate_look_after(&certificate, &settings, (wall_us){ now.us + wall_later_us },
                                  (mono_us){ HOUR_US + mono_later_us });
}

START_TEST(a_fresh_certificate_is_left_alone)
{
    ck_assert(!look(0, 0));
    ck_assert(!look(70 * DAY_US, 70 * DAY_US)); /* of 90 */
    ck_assert_uint_eq(times_logged("certificate_renewed"), 0);
    ck_assert_uint_eq(times_logged("certificate_expires_soon"), 0);
}
END_TEST

START_TEST(one_near_its_end_is_renewed_and_shown)
{
    const wall_us before = certificate.end;

    /* Signed for the time of the renewal, which is ahead of this machine's: not valid yet, so the
     * listener keeps the old one and takes the new one at a later look. */
    ck_assert(!look(75 * DAY_US, 0));
    ck_assert_uint_eq(times_logged("certificate_renewed"), 1);
    ck_assert(certificate.is_behind);
    ck_assert_int_eq(certificate.end.us, before.us);
    ck_assert_uint_eq(times_logged("certificate_renewal_failed"), 1);
}
END_TEST

/* A certificate of which most is over: the hub's own, made in the past. */
static void age_certificate(void)
{
    certificate.begin.us = now.us - 80 * DAY_US;
    certificate.end.us = now.us + 10 * DAY_US;
}

START_TEST(what_was_renewed_but_not_shown_is_shown_at_the_next_look)
{
    age_certificate();
    certificate.is_behind = true; /* as after a renewal whose load failed */
    ck_assert(look(0, 0));
    ck_assert(!certificate.is_behind);
    ck_assert_int_gt(certificate.end.us, now.us + 80 * DAY_US);
    ck_assert_uint_eq(times_logged("certificate_loaded"), 2);
    ck_assert(!look(0, 60));
}
END_TEST

START_TEST(a_renewal_that_fails_is_said_and_tried_again_in_an_hour)
{
    age_certificate();
    ck_assert_int_eq(chmod(at("certs/hubs-ca-key.pem"), 0644), 0);
    ck_assert(!look(0, 0));
    ck_assert(!look(0, 60));
    ck_assert(!look(0, HOUR_US - 1));
    ck_assert_uint_eq(times_logged("certificate_renewal_failed"), 1);
    ck_assert_uint_eq(times_logged("certificate_expires_soon"), 1);
    ck_assert(!look(0, HOUR_US));
    ck_assert_uint_eq(times_logged("certificate_renewal_failed"), 2);
    ck_assert_uint_eq(times_logged("certificate_expires_soon"), 2);
    ck_assert_int_eq(chmod(at("certs/hubs-ca-key.pem"), 0600), 0);
    ck_assert(!look(0, 2 * HOUR_US));
    ck_assert_uint_eq(times_logged("certificate_renewal_failed"), 2);
}
END_TEST

START_TEST(a_renewal_that_fails_at_the_start_does_not_keep_the_hub_down)
{
    struct certificate other = { .state = state, .pki = pki };

    ck_assert_int_eq(chmod(at("certs/hubs-ca-key.pem"), 0644), 0);
    ck_assert_msg(certificate_start(&other, &settings, &why) == 0, "%s", why.text);
    ck_assert_uint_eq(times_logged("certificate_renewal_failed"), 1);
    certificate_deinit(&other);
}
END_TEST

START_TEST(a_bad_file_changes_nothing_of_what_is_shown)
{
    const wall_us before = certificate.end;

    ck_assert_int_eq(file_replace(at("certs/server-cert.pem"), span_of_text("rubbish"), 0644), 0);
    ck_assert_int_eq(certificate_replace(&certificate, &settings, &why), PKI_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "server-cert.pem"));
    ck_assert_int_eq(unlink(at("certs/server-cert.pem")), 0);
    ck_assert_int_eq(certificate_replace(&certificate, &settings, &why), PKI_ABSENT);
    ck_assert_int_eq(certificate.end.us, before.us);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/certificate");
    TCase *all = tcase_create("all");

    tcase_add_checked_fixture(all, setup, teardown);
    tcase_set_timeout(all, 60);
    tcase_add_test(all, a_fresh_certificate_is_left_alone);
    tcase_add_test(all, one_near_its_end_is_renewed_and_shown);
    tcase_add_test(all, what_was_renewed_but_not_shown_is_shown_at_the_next_look);
    tcase_add_test(all, a_renewal_that_fails_is_said_and_tried_again_in_an_hour);
    tcase_add_test(all, a_renewal_that_fails_at_the_start_does_not_keep_the_hub_down);
    tcase_add_test(all, a_bad_file_changes_nothing_of_what_is_shown);
    suite_add_tcase(s, all);
    return s;
}
