/* SPDX-License-Identifier: Apache-2.0 */

/* What is too long to be held: lists of objects, of lines, of packages; and updates out of them. */

#include "inventory_rig.h"

#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/inventory/debversion.h"
#include "agent/inventory/items.h"
#include "agent/inventory/lines.h"

/* ---- objects of a JSON array ---- */

/* "{..}|{..}|" and how it ended, fed in pieces of so many bytes. */
static const char *cut(const char *text, size_t piece_bytes, size_t max_bytes)
{
    static char told[512];
    struct items items = { .max_bytes = max_bytes };
    size_t len = strlen(text), n = 0;
    int r = ITEMS_MORE;

    told[0] = '\0';
    for (size_t at = 0; at < len && r == ITEMS_MORE; at += piece_bytes) {
        struct span piece = span_of(text + at, len - at < piece_bytes ? len - at : piece_bytes);

        while ((r = items_feed(&items, &piece)) == ITEMS_GOT)
            n += (size_t) snprintf(told + n, sizeof(told) - n, "%.*s|", (int) items.item.len,
                                   (const char *) items.item.data);
    }
    snprintf(told + n, sizeof(told) - n, "%s",
             r == ITEMS_BAD           ? "bad"
             : r == ITEMS_TOO_LONG    ? "too long"
             : items_is_whole(&items) ? "whole"
                                      : "more");
    items_deinit(&items);
    return told;
}

static const struct {
    const char *text, *expected;
} arrays[] = {
    { "[]", "whole" },
    { " [ \n] \t\r\n", "whole" },
    { "[{}]", "{}|whole" },
    { "[{\"a\":{}} , {\"b\":[{}]}]", "{\"a\":{}}|{\"b\":[{}]}|whole" },
    { "[{\"}\":\"\\\"}\\\\\"},{}]", "{\"}\":\"\\\"}\\\\\"}|{}|whole" },
    { "[{}", "{}|more" },
    { "[{},", "{}|more" },
    { "[{", "more" },
    { "", "more" },
    { "[{}}]", "{}|bad" },
    { "[{},]", "{}|bad" },
    { "[,{}]", "bad" },
    { "[{}{}]", "{}|bad" },
    { "[{}]]", "{}|bad" },
    { "[1]", "bad" },
    { "[[{}]]", "bad" },
    { "{}", "bad" },
    { "null", "bad" },
};

START_TEST(objects_of_an_array_are_cut_wherever_the_pieces_end)
{
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
        for (size_t piece_bytes = 1; piece_bytes < 20; piece_bytes++)
            ck_assert_str_eq(cut(arrays[i].text, piece_bytes, 100), arrays[i].expected);
}
END_TEST

START_TEST(an_object_may_be_as_long_as_the_limit)
{
    for (size_t piece_bytes = 1; piece_bytes < 12; piece_bytes++) {
        ck_assert_str_eq(cut("[{\"a\":12}]", piece_bytes, 8), "{\"a\":12}|whole");
        ck_assert_str_eq(cut("[{\"a\":12}]", piece_bytes, 7), "too long");
    }
}
END_TEST

/* ---- lines ---- */

static struct inventory_options options;
static struct inventory_table into;
static struct table t;

static void make_table(void)
{
    make_root();
    options = (struct inventory_options){ .root = root };
    t = (struct table){ .options = &options, .to = &into };
    t.root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(t.root_fd, 0);
}

static void drop_table(void)
{
    close(t.root_fd);
    remove_root();
}

START_TEST(lines_come_one_by_one_and_the_last_needs_no_end)
{
    struct lines lines;

    put_file("three", "one\n\nthree");
    lines_open(&lines, &t, "three");
    ck_assert_str_eq(lines_next(&lines), "one");
    ck_assert_str_eq(lines_next(&lines), "");
    ck_assert_str_eq(lines_next(&lines), "three");
    ck_assert_ptr_null(lines_next(&lines));
    ck_assert_ptr_null(lines_next(&lines));
    ck_assert_int_eq(lines_close(&lines), 0);
}
END_TEST

/* Around the length of the buffer, where lines begin at its end. */
START_TEST(a_line_that_is_too_long_is_cut_and_the_next_one_is_whole)
{
    for (size_t len = LINES_BYTES - 3; len < LINES_BYTES + 4; len++) {
        CLEANUP(buf_deinit) struct buf text = { 0 };
        struct lines lines;
        char *line;

        buf_append_text(&text, "first\n");
        memset(buf_extend(&text, len), 'x', len);
        buf_append_text(&text, "\nnext\n");
        put_bytes("long", text.data, text.len);
        lines_open(&lines, &t, "long");
        ck_assert_str_eq(lines_next(&lines), "first");
        line = lines_next(&lines);
        ck_assert_uint_eq(strlen(line), len < LINES_BYTES ? len : LINES_BYTES);
        ck_assert_str_eq(lines_next(&lines), "next");
        ck_assert_ptr_null(lines_next(&lines));
        ck_assert_int_eq(lines_close(&lines), 0);
    }
}
END_TEST

START_TEST(a_file_that_is_not_there_is_an_error_at_the_end)
{
    struct lines lines;

    lines_open(&lines, &t, "nowhere");
    ck_assert_ptr_null(lines_next(&lines));
    ck_assert_int_eq(lines_close(&lines), ENOENT);
}
END_TEST

static int run(const char *script, size_t *ret_n)
{
    const char *const argv[] = { "/bin/sh", "-c", script, NULL };
    struct lines lines;

    *ret_n = 0;
    lines_run(&lines, &t, argv);
    while (lines_next(&lines))
        ++*ret_n;
    return lines_close(&lines);
}

START_TEST(a_program_counts_when_it_ends_well)
{
    size_t n;

    ck_assert_int_eq(run("echo a; echo b", &n), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(run("echo a; exit 3", &n), EIO);
    options.command_timeout_us = 200000;
    ck_assert_int_eq(run("echo a; exec sleep 1000", &n), ETIMEDOUT);
    ck_assert_uint_eq(n, 1);
}
END_TEST

START_TEST(a_program_that_prints_no_more_and_does_not_end_is_killed)
{
    static const char *const argv[] = { "/bin/sh", "-c", "echo a; exec sleep 1000 >/dev/null",
                                        NULL };
    size_t n;

    options.command_timeout_us = 200000;
    ck_assert_int_eq(run(argv[2], &n), ETIMEDOUT);
    ck_assert_uint_eq(n, 1);
    ck_assert_ptr_null(table_run(&t, argv));
    ck_assert(t.is_unreadable);
    ck_assert_ptr_nonnull(strstr(into.why, strerror(ETIMEDOUT)));
    buf_deinit(&t.text);
}
END_TEST

/* ---- deb-version(7) ---- */

/* From old to new as `dpkg --compare-versions` has them; what is in one row is the same. */
static const char *const versions[][4] = {
    { "0~rc1" },
    { "0", "0-0", "0:0", "00" },
    { "0a" },
    { "0+" },
    { "0.0" },
    { "1~~" },
    { "1~~a" },
    { "1~" },
    { "1~beta1~svn1" },
    { "1~beta1" },
    { "1-~1" },
    { "1", "01", "1-0", "0:1-00" },
    { "1-0a" },
    { "1-1" },
    { "1-1+b1" },
    { "1-1.1" },
    { "1-9" },
    { "1-10" },
    { "1Z" },
    { "1a~" },
    { "1a" },
    { "1a0a" },
    { "1aa" },
    { "1a+" },
    { "1b" },
    { "1+" },
    { "1.0~rc1-1" },
    { "1." },
    { "1.0-1~bpo12+1" },
    { "1.0-1" },
    { "1.0-1deb12u1" },
    { "1.0-1+deb12u1" },
    { "1.0-2" },
    { "1.0A" },
    { "1.0a" },
    { "1.0a-1" },
    { "1.0+dfsg-1" },
    { "1.0.1" },
    { "1.2" },
    { "1.10" },
    { "2-1" },
    { "2-0-1" },
    { "18446744073709551616" },
    { "18446744073709551617" },
    { "1:0~" },
    { "1:0" },
    { "2:0" },
    { "10:0" },
};

START_TEST(versions_have_the_order_of_dpkg)
{
    const size_t n = sizeof(versions) / sizeof(versions[0]);

    for (size_t at = 0; at < n * n * 16; at++) {
        const size_t i = at / 16 / n, k = at / 16 % n;
        const char *a = versions[i][at % 4], *b = versions[k][at / 4 % 4];
        int r;

        if (!a || !b)
            continue;
        r = debversion_compare(a, b);
        ck_assert_msg((i < k && r < 0) || (i > k && r > 0) || (i == k && r == 0),
                      "`%s` and `%s`: %d", a, b, r);
    }
}
END_TEST

START_TEST(any_text_has_a_place_among_versions)
{
    static const char *const texts[] = {
        "", ":", "-", ":-", "~", "1:", "1:-", "a:b-c", "::", "--"
    };
    const size_t n = sizeof(texts) / sizeof(texts[0]);

    for (size_t at = 0; at < n * n; at++) {
        const int r = debversion_compare(texts[at / n], texts[at % n]);
        const int back = debversion_compare(texts[at % n], texts[at / n]);

        ck_assert((r > 0) == (back < 0) && (r < 0) == (back > 0));
    }
    ck_assert_int_lt(debversion_compare("~", ""), 0);
}
END_TEST

/* ---- updates ---- */

#define LISTS "var/lib/apt/lists/"
#define STABLE LISTS "deb.example.org_debian_dists_stable_"
#define SECURITY LISTS "sec.example.org_dists_stable-security_"
#define BACKPORTS LISTS "deb.example.org_debian_dists_stable-backports_"
#define LIST "main_binary-amd64_Packages"

static const char installed[] =
    "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"
    "Package: vim\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2:9.0-1\n"
    "Description: it\n Version: 1\n\n"
    "Package: tzdata\nStatus: hold ok installed\nArchitecture: all\nVersion: 2024a-0+deb12u1\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
    "Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.36-9\n";

static void put_machine(void)
{
    put_file("var/lib/dpkg/status", installed);
    put_file(STABLE "InRelease",
             "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nLabel: Debian\n"
             "Suite: stable\nCodename: trixie\nSHA256:\n aa 1 Suite: not the head\nSuite: x\n");
    put_file(SECURITY "Release",
             "Origin: Debian\nLabel: Debian-Security\nSuite: stable-security\nMD5Sum:\n");
}

static const char *packages(const char *name, const char *version)
{
    static char text[256];

    snprintf(text, sizeof(text), "Package: %s\nArchitecture: %s\nVersion: %s\nDescription: d\n\n",
             name, strcmp(name, "tzdata") == 0 ? "all" : "amd64", version);
    return text;
}

START_TEST(an_update_is_a_newer_version_with_where_it_is_from)
{
    put_machine();
    put_file(STABLE LIST, packages("vim", "2:9.0-1+deb12u1"));
    ck_assert_str_eq(rows_of("apt_updates"), "vim,amd64,2:9.0-1,2:9.0-1+deb12u1,Debian,Debian,"
                                             "stable,deb.example.org,0,0;");
    put_file(STABLE LIST, packages("vim", "2:9.0-1~bpo1"));
    ck_assert_str_eq(rows_of("apt_updates"), "");
    put_file(STABLE LIST, packages("vim", "2:9.0-1"));
    ck_assert_str_eq(rows_of("apt_updates"), "");
    put_file(STABLE LIST, packages("gone", "9"));
    ck_assert_str_eq(rows_of("apt_updates"), "");
}
END_TEST

/* Also where a later one of another release came after it. */
START_TEST(what_security_fixed_since_is_a_security_update)
{
    put_machine();
    put_file(SECURITY LIST, packages("vim", "2:9.0-1+deb12u2"));
    ck_assert_str_eq(rows_of("apt_updates"),
                     "vim,amd64,2:9.0-1,2:9.0-1+deb12u2,Debian,Debian-Security,"
                     "stable-security,sec.example.org,1,0;");
    put_file(STABLE LIST, packages("vim", "2:9.0-1+deb12u2"));
    ck_assert_ptr_nonnull(strstr(rows_of("apt_updates"), "Debian-Security,stable-security"));
    put_file(STABLE LIST, packages("vim", "2:9.1-1"));
    ck_assert_str_eq(rows_of("apt_updates"), "vim,amd64,2:9.0-1,2:9.1-1,Debian,Debian,stable,"
                                             "deb.example.org,1,0;");
    put_file(LISTS "zzz.example.org_dists_x_main_binary-amd64_Packages",
             packages("vim", "2:9.2-1")); /* read last, without a Release file */
    ck_assert_str_eq(rows_of("apt_updates"), "vim,amd64,2:9.0-1,2:9.2-1,,,,zzz.example.org,1,0;");
}
END_TEST

START_TEST(a_package_for_all_architectures_is_one_of_the_machines)
{
    put_machine();
    put_file(STABLE LIST, packages("tzdata", "2024b-0"));
    ck_assert_str_eq(rows_of("apt_updates"), "tzdata,all,2024a-0+deb12u1,2024b-0,Debian,Debian,"
                                             "stable,deb.example.org,0,1;");
    put_file(STABLE LIST, packages("libc6", "3")); /* amd64; i386 is installed */
    ck_assert_str_eq(rows_of("apt_updates"), "");
}
END_TEST

/* apt_preferences(5), the defaults. */
START_TEST(backports_are_taken_only_where_one_is_installed)
{
    put_machine();
    put_file(BACKPORTS "InRelease", "Suite: stable-backports\nCodename: trixie-backports\n"
                                    "NotAutomatic: yes\nButAutomaticUpgrades: yes\n");
    put_file(BACKPORTS LIST, packages("vim", "2:9.2-1~bpo13+1"));
    put_file(STABLE LIST, packages("vim", "2:9.0-1"));
    ck_assert_str_eq(rows_of("apt_updates"), "");
    put_file(STABLE LIST, packages("vim", "2:8.0-1")); /* so what is installed is a backport */
    ck_assert_ptr_nonnull(strstr(rows_of("apt_updates"), ",2:9.2-1~bpo13+1,,,stable-backports,"));
    put_file(STABLE LIST, packages("vim", "2:9.1-1")); /* stable wins, with the lower version */
    ck_assert_ptr_nonnull(strstr(rows_of("apt_updates"), ",2:9.1-1,Debian,Debian,stable,"));
    put_file(BACKPORTS "InRelease", "Suite: experimental\nNotAutomatic: yes\n");
    put_file(STABLE LIST, packages("vim", "2:8.0-1"));
    ck_assert_str_eq(rows_of("apt_updates"), "");
}
END_TEST

START_TEST(what_cannot_be_known_is_no_empty_table)
{
    const struct inventory_options none = { 0 };
    char path[256];

    ck_assert_str_eq(rows_of("apt_updates"), "none"); /* no machine of apt */
    ck_assert_str_eq(why_of(none, "apt_updates"), "");
    put_machine();
    ck_assert_str_eq(rows_of("apt_updates"), "none");
    ck_assert_ptr_nonnull(strstr(why_of(none, "apt_updates"), "apt-get update"));
    put_file(STABLE LIST, packages("vim", "2:9.1-1"));
    put_file(SECURITY LIST ".lz4", "this is not lz4");
    ck_assert_str_eq(rows_of("apt_updates"), "none");
    ck_assert_ptr_nonnull(strstr(why_of(none, "apt_updates"), "apt-helper"));
    snprintf(path, sizeof(path), "%s/" SECURITY LIST ".lz4", root);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_str_ne(rows_of("apt_updates"), "none");
}
END_TEST

START_TEST(pins_are_not_followed_and_that_is_said)
{
    const struct inventory_options none = { 0 };

    put_machine();
    put_file(STABLE LIST, packages("vim", "2:9.1-1"));
    put_file("etc/apt/preferences.d/old.pref", "# Pin-Priority: 1\n");
    ck_assert_str_eq(why_of(none, "apt_updates"), "");
    put_file("etc/apt/preferences.d/vim.pref", "Package: vim\nPin: version 2:9.0*\n"
                                               "Pin-Priority: 1001\n");
    ck_assert_ptr_nonnull(strstr(why_of(none, "apt_updates"), "preferences.d/vim.pref"));
    ck_assert_ptr_nonnull(strstr(rows_of("apt_updates"), "2:9.1-1"));
}
END_TEST

/* A distribution's list has 60,000 packages in 50 MB. */
START_TEST(a_long_list_is_not_held)
{
    char path[256];
    FILE *list;
    struct rusage before, after;

    put_machine();
    put_file(STABLE LIST, "");
    snprintf(path, sizeof(path), "%s/" STABLE LIST, root);
    list = fopen(path, "w");
    ck_assert_ptr_nonnull(list);
    for (int i = 0; i < 40000; i++)
        fprintf(list, "Package: p%d\nArchitecture: amd64\nVersion: 1\nDepends: %0900d\n\n", i, i);
    fputs(packages("vim", "2:9.1-1"), list);
    ck_assert_int_eq(fclose(list), 0);
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &before), 0);
    ck_assert_ptr_nonnull(strstr(rows_of("apt_updates"), "vim,amd64"));
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &after), 0);
    ck_assert_int_lt(after.ru_maxrss - before.ru_maxrss, 12 << 10); /* KiB, of 37 MB */
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("agent/inventory_lists");
    TCase *tcase = tcase_create("items");

    tcase_add_test(tcase, objects_of_an_array_are_cut_wherever_the_pieces_end);
    tcase_add_test(tcase, an_object_may_be_as_long_as_the_limit);
    suite_add_tcase(s, tcase);
    tcase = tcase_create("lines");
    tcase_add_checked_fixture(tcase, make_table, drop_table);
    tcase_add_test(tcase, lines_come_one_by_one_and_the_last_needs_no_end);
    tcase_add_test(tcase, a_line_that_is_too_long_is_cut_and_the_next_one_is_whole);
    tcase_add_test(tcase, a_file_that_is_not_there_is_an_error_at_the_end);
    tcase_add_test(tcase, a_program_counts_when_it_ends_well);
    tcase_add_test(tcase, a_program_that_prints_no_more_and_does_not_end_is_killed);
    suite_add_tcase(s, tcase);
    tcase = tcase_create("versions");
    tcase_add_test(tcase, versions_have_the_order_of_dpkg);
    tcase_add_test(tcase, any_text_has_a_place_among_versions);
    suite_add_tcase(s, tcase);
    tcase = tcase_create("updates");
    tcase_add_checked_fixture(tcase, make_root, remove_root);
    tcase_add_test(tcase, an_update_is_a_newer_version_with_where_it_is_from);
    tcase_add_test(tcase, what_security_fixed_since_is_a_security_update);
    tcase_add_test(tcase, a_package_for_all_architectures_is_one_of_the_machines);
    tcase_add_test(tcase, backports_are_taken_only_where_one_is_installed);
    tcase_add_test(tcase, what_cannot_be_known_is_no_empty_table);
    tcase_add_test(tcase, pins_are_not_followed_and_that_is_said);
    tcase_add_test(tcase, a_long_list_is_not_held);
    suite_add_tcase(s, tcase);
    return s;
}
