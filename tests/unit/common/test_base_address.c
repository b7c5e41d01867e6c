/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <string.h>

#include "common/base/address.h"

#define N_OF(rows) (sizeof(rows) / sizeof((rows)[0]))

void add_address_cases(Suite *s);

START_TEST(peers_are_read_with_and_without_ports)
{
    static const char *const rows[][2] = {
        { "10.0.0.7", "10.0.0.7" },
        { "10.0.0.7:41234", "10.0.0.7" },
        { "fd00::7", "fd00::7" },
        { "[fd00::7]:41234", "fd00::7" },
        { "[fe80::1%eth0]:9", "fe80::1" },
        { "[::ffff:10.0.0.7]:1", "10.0.0.7" },
        { "unix:/run/x", "unix:/run/x" },
        { "", "" },
    };
    char to[ADDRESS_TEXT_BYTES];

    for (size_t i = 0; i < N_OF(rows); i++)
        ck_assert_str_eq(address_print_peer(rows[i][0], to), rows[i][1]);
}
END_TEST

START_TEST(what_is_no_address_is_refused)
{
    static const char *const bad[] = { "", "hub", "10.0.0", "[fd00::7", "10.0.0.7.1:5", "[]:1",
                                       "1:2:3", "0x7f.1", "[10.0.0.7" };
    struct address address;

    for (size_t i = 0; i < N_OF(bad); i++)
        ck_assert_msg(!address_parse_peer(bad[i], &address), "%s", bad[i]);
}
END_TEST

START_TEST(ranges_have_a_length_and_nothing_behind_it)
{
    static const char *const good[] = { "10.0.0.0/8",  "192.0.2.7", "192.0.2.7/32", "0.0.0.0/0",
                                        "fd00::/8",    "::/0",      "fd00::7",      "fd00::7/128",
                                        "10.128.0.0/9" };
    static const char *const bad[] = { "",           "10.0.0.0/",   "10.0.0.0/33",  "10.0.0.1/8",
                                       "fd00::/129", "fd00::1/64",  "10.0.0.0/08",  "10.0.0.0/8 ",
                                       "10.0.0.0/-1", "10.0.0.0:1", "[fd00::7]/64", "x/8" };

    for (size_t i = 0; i < N_OF(good); i++)
        ck_assert_msg(address_range_is_good(good[i]), "%s", good[i]);
    for (size_t i = 0; i < N_OF(bad); i++)
        ck_assert_msg(!address_range_is_good(bad[i]), "%s", bad[i]);
}
END_TEST

START_TEST(ranges_have_what_lies_within_and_nothing_else)
{
    static const struct {
        const char *cidr, *peer;
        bool has;
    } rows[] = {
        { "10.0.0.0/8", "10.255.0.1:5", true },
        { "10.0.0.0/8", "11.0.0.1:5", false },
        { "10.128.0.0/9", "10.127.255.255", false },
        { "10.128.0.0/9", "10.128.0.0", true },
        { "192.0.2.7", "192.0.2.7:1", true },
        { "192.0.2.7", "192.0.2.8:1", false },
        { "10.0.0.0/8", "[::ffff:10.1.2.3]:7", true },
        { "0.0.0.0/0", "[fd00::7]:7", false },
        { "0.0.0.0/0", "1.2.3.4", true },
        { "fd00::/8", "[fdff::1]:7", true },
        { "fd00::/8", "[fe00::1]:7", false },
        { "::/0", "[fe00::1]:7", true },
        { "nonsense", "10.0.0.1", false },
        { "10.0.0.0/8", "unix:", false },
    };

    for (size_t i = 0; i < N_OF(rows); i++)
        ck_assert_msg(address_range_has(rows[i].cidr, rows[i].peer) == rows[i].has, "%s %s",
                      rows[i].cidr, rows[i].peer);
}
END_TEST

void add_address_cases(Suite *s)
{
    TCase *tcase = tcase_create("address");

    suite_add_tcase(s, tcase);
    tcase_add_test(tcase, peers_are_read_with_and_without_ports);
    tcase_add_test(tcase, what_is_no_address_is_refused);
    tcase_add_test(tcase, ranges_have_a_length_and_nothing_behind_it);
    tcase_add_test(tcase, ranges_have_what_lies_within_and_nothing_else);
}
