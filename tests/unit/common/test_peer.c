/* SPDX-License-Identifier: Apache-2.0 */
#include "common/peer/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "suite.h"

static struct peer_address peer_at(const char *host, uint16_t port)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    struct peer_address peer;

    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        ck_assert_int_eq(peer_of_sockaddr((const struct sockaddr *) &v4, &peer), 0);
        return peer;
    }
    ck_assert_int_eq(inet_pton(AF_INET6, host, &v6.sin6_addr), 1);
    ck_assert_int_eq(peer_of_sockaddr((const struct sockaddr *) &v6, &peer), 0);
    return peer;
}

static const char *text_of(const char *host, uint16_t port)
{
    static char text[PEER_TEXT_BYTES];
    struct peer_address peer = peer_at(host, port);

    peer_put_text(&peer, text);
    return text;
}

START_TEST(an_address_prints_and_an_ipv4_one_in_ipv6_is_itself)
{
    ck_assert_str_eq(text_of("192.0.2.7", 41234), "192.0.2.7:41234");
    ck_assert_str_eq(text_of("::ffff:192.0.2.7", 1), "192.0.2.7:1");
    ck_assert_str_eq(text_of("2001:db8::7", 65535), "[2001:db8::7]:65535");
}
END_TEST

START_TEST(loopback_and_neighbours_are_known)
{
    struct peer_address a = peer_at("127.8.0.1", 1), b = peer_at("::1", 1),
                        c = peer_at("10.0.0.1", 1);
    struct peer_address d = peer_at("2001:db8:0:1::7", 1), e = peer_at("2001:db8:0:1:ffff::", 2),
                        f = peer_at("2001:db8:0:2::7", 1), g = peer_at("10.0.0.1", 9);

    ck_assert(peer_is_loopback(&a) && peer_is_loopback(&b) && !peer_is_loopback(&c));
    ck_assert(peer_is_neighbour(&d, &e) && !peer_is_neighbour(&d, &f));
    ck_assert(peer_is_neighbour(&c, &g) && !peer_is_neighbour(&a, &c));
}
END_TEST

static const struct {
    const char *nets, *host;
    bool has;
} matches[] = {
    { "10.0.0.0/8", "10.255.0.1", true },
    { "10.0.0.0/8", "11.0.0.1", false },
    { "10.0.0.0/8", "::ffff:10.1.2.3", true },
    { "192.0.2.7", "192.0.2.7", true },
    { "192.0.2.7", "192.0.2.6", false },
    { "192.0.2.0/25", "192.0.2.127", true },
    { "192.0.2.0/25", "192.0.2.128", false },
    { "0.0.0.0/0", "203.0.113.9", true },
    { "0.0.0.0/0", "2001:db8::1", false },
    { "::/0", "203.0.113.9", true },
    { "fd00::/8, 192.0.2.0/24", "fd12::1", true },
    { "fd00::/8, 192.0.2.0/24", "192.0.2.200", true },
    { "fd00::/8, 192.0.2.0/24", "fe00::1", false },
    { "", "127.0.0.1", false },
};

START_TEST(ranges_have_what_lies_in_them)
{
    struct peer_address peer = peer_at(matches[_i].host, 1);
    struct peer_nets nets;

    ck_assert_int_eq(peer_nets_parse(matches[_i].nets, &nets), 0);
    ck_assert_int_eq(peer_nets_have(&nets, &peer), matches[_i].has);
}
END_TEST

START_TEST(what_is_no_range_is_refused)
{
    static const char *const bad[] = { "10.0.0.0/33", "10.0.0/8", "fd00::/129", "host.example",
                                       "10.0.0.1/",   "/8",       "10.0.0.1/x", "[::1]" };
    struct peer_nets nets = { .n = 0 };
    char many[PEER_MAX_NETS * 12 + 16] = "";

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(peer_nets_parse(bad[i], &nets) == PEER_UNFIT, "%s", bad[i]);
    for (int i = 0; i < PEER_MAX_NETS; i++)
        (void) snprintf(many + strlen(many), sizeof(many) - strlen(many), "10.0.0.%d,", i);
    ck_assert_int_eq(peer_nets_parse(many, &nets), 0);
    ck_assert_uint_eq(nets.n, PEER_MAX_NETS);
    (void) snprintf(many + strlen(many), sizeof(many) - strlen(many), "10.0.1.0");
    ck_assert_int_eq(peer_nets_parse(many, &nets), PEER_UNFIT);
}
END_TEST

/* ---- PROXY headers ---- */

static const uint8_t tcp4[] = {
    '\r', '\n', '\r', '\n', 0,  '\r', '\n', 'Q', 'U', 'I', 'T', '\n', /* signature */
    0x21, 0x11, 0,    19,                      /* PROXY, TCP over IPv4, 19 bytes */
    192,  0,    2,    7,    10, 0,    0,    1, /* source, destination */
    0xa1, 0x12, 0x1f, 0x92,                    /* 41234, 8082 */
    0x03, 0,    4,    1,    2,  3,    4,       /* TLV: CRC32C */
    0x16, 0x03,                                /* the client's own */
};
#define TCP4_HEADER_BYTES (sizeof(tcp4) - 2)

START_TEST(a_header_gives_the_client_and_leaves_its_bytes)
{
    char text[PEER_TEXT_BYTES];
    struct proxy proxy;

    ck_assert_int_eq(proxy_read(span_of(tcp4, sizeof(tcp4)), &proxy), 0);
    ck_assert_uint_eq(proxy.n_bytes, TCP4_HEADER_BYTES);
    ck_assert(proxy.has_peer);
    peer_put_text(&proxy.peer, text);
    ck_assert_str_eq(text, "192.0.2.7:41234");
}
END_TEST

START_TEST(a_header_asks_for_what_is_missing_byte_by_byte)
{
    struct proxy proxy;

    for (size_t n = 0; n < TCP4_HEADER_BYTES; n++) {
        ck_assert_int_eq(proxy_read(span_of(tcp4, n), &proxy), PEER_MORE);
        ck_assert_uint_eq(proxy.n_bytes, n == 0                 ? sizeof("PROXY UNKNOWN\r\n") - 1
                                         : n < PROXY_HEAD_BYTES ? PROXY_HEAD_BYTES
                                                                : TCP4_HEADER_BYTES);
        ck_assert_int_eq(proxy_is_begun(span_of(tcp4, n)), n > 0);
    }
}
END_TEST

START_TEST(a_proxy_that_speaks_for_itself_is_the_peer)
{
    uint8_t bytes[sizeof(tcp4)];
    struct proxy proxy;

    memcpy(bytes, tcp4, sizeof(tcp4));
    bytes[12] = 0x20; /* LOCAL */
    ck_assert_int_eq(proxy_read(span_of(bytes, sizeof(bytes)), &proxy), 0);
    ck_assert(!proxy.has_peer);
    ck_assert_uint_eq(proxy.n_bytes, TCP4_HEADER_BYTES);
}
END_TEST

static const struct {
    size_t at;
    uint8_t value;
} faults[] = {
    { 0, 'P' },   /* no signature */
    { 11, '\r' }, /* nor this */
    { 12, 0x11 }, /* version 1 */
    { 12, 0x22 }, /* no such command */
    { 13, 0x12 }, /* UDP */
    { 13, 0x41 }, /* no such family */
    { 14, 0x09 }, /* longer than the limit */
    { 15, 11 },   /* shorter than two addresses */
    { 15, 13 },   /* a TLV of one byte */
    { 30, 5 },    /* a TLV that is longer than the header */
};

START_TEST(a_header_that_does_not_read_is_refused)
{
    uint8_t bytes[sizeof(tcp4)];
    struct proxy proxy;

    memcpy(bytes, tcp4, sizeof(tcp4));
    bytes[faults[_i].at] = faults[_i].value;
    ck_assert_int_eq(proxy_read(span_of(bytes, sizeof(bytes)), &proxy), PEER_UNFIT);
}
END_TEST

/* ---- version 1 ---- */

static const struct {
    const char *line, *peer; /* NULL: the proxy itself */
} lines[] = {
    { "PROXY TCP4 192.0.2.7 10.0.0.1 41234 8082\r\n", "192.0.2.7:41234" },
    { "PROXY TCP4 1.1.1.1 2.2.2.2 0 0\r\n", "1.1.1.1:0" },
    { "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535" },
    { "PROXY TCP6 2001:db8::7 2001:db8::1 41234 8082\r\n", "[2001:db8::7]:41234" },
    { "PROXY TCP6 2001:DB8::7 ::1 41234 8082\r\n", "[2001:db8::7]:41234" },
    { "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 41234 8082\r\n", "192.0.2.7:41234" },
    { "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
      "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535" },
    { "PROXY UNKNOWN\r\n", NULL },
    { "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
      NULL }, /* 107 bytes */
};

START_TEST(a_line_of_version_1_gives_the_client_and_leaves_its_bytes)
{
    char bytes[128], text[PEER_TEXT_BYTES];
    const size_t len = strlen(lines[_i].line);
    struct proxy proxy;

    snprintf(bytes, sizeof(bytes), "%s%s", lines[_i].line, "\x16\x03");
    ck_assert_uint_le(len, PROXY_TEXT_BYTES);
    ck_assert_int_eq(proxy_read(span_of(bytes, len + 2), &proxy), 0);
    ck_assert_uint_eq(proxy.n_bytes, len);
    ck_assert_int_eq(proxy.has_peer, lines[_i].peer != NULL);
    if (lines[_i].peer) {
        peer_put_text(&proxy.peer, text);
        ck_assert_str_eq(text, lines[_i].peer);
    }
    for (size_t n = 0; n < len; n++) {
        ck_assert_int_eq(proxy_read(span_of(bytes, n), &proxy), PEER_MORE);
        ck_assert_uint_gt(proxy.n_bytes, n);
        ck_assert_uint_le(proxy.n_bytes, len); /* else it would wait for ever */
        ck_assert_int_eq(proxy_is_begun(span_of(bytes, n)), n >= 5);
    }
}
END_TEST

static const char *const bad_lines[] = {
    "PROXY",
    "PROXY\r\n",
    "PROXY \r\n",
    "PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
    "proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
    "PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n",
    "PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n",
    "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
    "PROXY TCP4\r\n",
    "PROXY TCP4 192.0.2.7\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n",
    "PROXY TCP4 192.0.2.7  10.0.0.1 1 2\r\n",
    "PROXY TCP4\t192.0.2.7 10.0.0.1 1 2\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\r\n",
    "PROXY TCP4 192.0.2.7\r 10.0.0.1 1 2\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\rX",
    "PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n",
    "PROXY TCP4 192.0.2 10.0.0.1 1 2\r\n",
    "PROXY TCP4 0xc0.0.2.7 10.0.0.1 1 2\r\n",
    "PROXY TCP4 3221225991 10.0.0.1 1 2\r\n",
    "PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
    "PROXY TCP4 ::1 10.0.0.1 1 2\r\n",
    "PROXY TCP4 192.0.2.7 localhost 1 2\r\n",
    "PROXY TCP6 192.0.2.7 ::1 1 2\r\n",
    "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "PROXY TCP6 [2001:db8::7] ::1 1 2\r\n",
    "PROXY TCP6 2001:0db8::7 ::1 1 2\r\n",
    "PROXY TCP6 2001:db8:0:0:0:0:0:7 ::1 1 2\r\n",
    "PROXY TCP6 2001:db8::7::1 ::1 1 2\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 -1 2\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 1 99999999999\r\n",
    "PROXY UNKNOWNS\r\n",
    "PROXY UNKNOWN \x01\r\n",
    "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535 \r\n", /* 108 bytes */
    "GET / HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "PROPFIND / HTTP/1.1\r\n",
};

START_TEST(a_line_that_no_proxy_writes_is_refused)
{
    const char *line = bad_lines[_i];
    const size_t len = strlen(line);
    bool is_refused = false;
    struct proxy proxy;

    /* However it is cut; once refused it stays so. A line without its end is waited for. */
    for (size_t n = 1; n <= len; n++) {
        const int r = proxy_read(span_of(line, n), &proxy);

        ck_assert_int_ne(r, PEER_OK);
        ck_assert(!is_refused || r == PEER_UNFIT);
        is_refused = r == PEER_UNFIT;
    }
    ck_assert_int_eq(is_refused, _i > 0);
}
END_TEST

START_TEST(a_nul_in_an_address_is_none)
{
    static const char line[] = "PROXY TCP4 192.0.2.7\0 10.0.0.1 1 2\r\n";
    struct proxy proxy;

    ck_assert_int_eq(proxy_read(span_of(line, sizeof(line) - 1), &proxy), PEER_UNFIT);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/peer");
    TCase *tc = tcase_create("addresses");

    tcase_add_test(tc, an_address_prints_and_an_ipv4_one_in_ipv6_is_itself);
    tcase_add_test(tc, loopback_and_neighbours_are_known);
    tcase_add_loop_test(tc, ranges_have_what_lies_in_them, 0,
                        (int) (sizeof(matches) / sizeof(matches[0])));
    tcase_add_test(tc, what_is_no_range_is_refused);
    suite_add_tcase(s, tc);

    tc = tcase_create("proxy");
    tcase_add_test(tc, a_header_gives_the_client_and_leaves_its_bytes);
    tcase_add_test(tc, a_header_asks_for_what_is_missing_byte_by_byte);
    tcase_add_test(tc, a_proxy_that_speaks_for_itself_is_the_peer);
    tcase_add_loop_test(tc, a_header_that_does_not_read_is_refused, 0,
                        (int) (sizeof(faults) / sizeof(faults[0])));
    suite_add_tcase(s, tc);

    tc = tcase_create("proxy, version 1");
    tcase_add_loop_test(tc, a_line_of_version_1_gives_the_client_and_leaves_its_bytes, 0,
                        (int) (sizeof(lines) / sizeof(lines[0])));
    tcase_add_loop_test(tc, a_line_that_no_proxy_writes_is_refused, 0,
                        (int) (sizeof(bad_lines) / sizeof(bad_lines[0])));
    tcase_add_test(tc, a_nul_in_an_address_is_none);
    suite_add_tcase(s, tc);
    return s;
}
