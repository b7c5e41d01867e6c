/* SPDX-License-Identifier: Apache-2.0 */
#include "common/identity/identity.h"

#include <string.h>

#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "suite.h"

#define PLAIN AGENT_FIXTURES "/plain"
#define BROKEN AGENT_FIXTURES "/broken"
#define SECRET "aaaqeayeaudaocajbifqydiob4ibceqt"
#define PIN "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define STRING "sentinel1/hub.example.org:8082/ab2cd3ef/" SECRET "/" PIN

static struct identity_why why;

/* ---- names ---- */

START_TEST(a_name_is_lower_case_digits_dot_and_hyphen)
{
    static const char *const good[] = { "a", "7", "web-1", "a.b.c", "0--.", NULL };
    static const char *const bad[] = { "", "-a", ".a", "A", "web_1", "web 1", "ä", "a/b", NULL };
    char name[65];

    for (size_t i = 0; good[i]; i++)
        ck_assert_msg(identity_name_is_good(good[i]), "%s", good[i]);
    for (size_t i = 0; bad[i]; i++)
        ck_assert_msg(!identity_name_is_good(bad[i]), "%s", bad[i]);
    memset(name, 'a', sizeof(name));
    name[64] = '\0';
    ck_assert(!identity_name_is_good(name));
    name[63] = '\0';
    ck_assert(identity_name_is_good(name));
}
END_TEST

START_TEST(a_hosts_name_becomes_the_nearest_good_id)
{
    static const struct {
        const char *host, *id;
    } rows[] = { { "web-1", "web-1" },
                 { "WEB-1.Example.ORG", "web-1.example.org" },
                 { "web_1", "web-1" },
                 { "--web-1", "web-1" },
                 { "web-1.", "web-1" },
                 { "m\xc3\xbcller", "m-ller" },
                 { "...", "" },
                 { "", "" },
                 { "\xc3\xa4\xc3\xb6", "" } };
    char id[64], host[100];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        identity_name_of_host(rows[i].host, id);
        ck_assert_str_eq(id, rows[i].id);
        ck_assert(!id[0] || identity_name_is_good(id));
    }
    memset(host, 'x', sizeof(host));
    host[99] = '\0';
    identity_name_of_host(host, id);
    ck_assert_uint_eq(strlen(id), 63);
}
END_TEST

START_TEST(a_pattern_is_of_the_whole_name)
{
    ck_assert(identity_matches("web-*", "web-1") && identity_matches("w?b", "web"));
    ck_assert(!identity_matches("web", "web-1") && !identity_matches("w?b", "wb"));
}
END_TEST

/* ---- addresses ---- */

START_TEST(an_address_lies_in_a_range)
{
    static const struct {
        const char *cidr, *peer;
        bool lies;
    } rows[] = {
        { "10.0.0.0/8", "10.255.0.1:4711", true },
        { "10.0.0.0/8", "11.0.0.1:4711", false },
        { "10.1.2.3/8", "10.200.0.1", true },
        { "192.0.2.7", "192.0.2.7:1", true },
        { "192.0.2.7", "192.0.2.8:1", false },
        { "192.0.2.128/25", "192.0.2.127", false },
        { "192.0.2.128/25", "192.0.2.129", true },
        { "0.0.0.0/0", "198.51.100.1:9", true },
        { "0.0.0.0/0", "[2001:db8::7]:9", false },
        { "::/0", "198.51.100.1:9", false },
        { "fd00::/8", "[fd12:3456::1]:9", true },
        { "fd00::/8", "fd12:3456::1", true },
        { "fd00::/8", "[fe80::1]:9", false },
        { "2001:db8::/33", "[2001:db8:8000::1]:9", false },
        { "10.0.0.0/8", "[::ffff:10.1.2.3]:9", true },
        { "::ffff:10.0.0.0/104", "10.1.2.3:9", true },
        { "10.0.0.0/8", "unix:/run/hub", false },
        { "10.0.0.0/8", "", false },
        { "10.0.0.0/8", "[10.0.0.1", false },
        { "10.0.0.0/33", "10.0.0.1", false },
        { "all", "10.0.0.1", false },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_msg(identity_cidr_matches(rows[i].cidr, rows[i].peer) == rows[i].lies, "%s %s",
                      rows[i].cidr, rows[i].peer);
}
END_TEST

START_TEST(a_range_is_an_address_and_a_number_of_bits)
{
    static const char *const good[] = { "10.0.0.0/8", "0.0.0.0/0", "192.0.2.7", "192.0.2.7/32",
                                        "fd00::/8",   "::/128",    "::",        NULL };
    static const char *const bad[] = { "",         "10.0.0.0/33",  "10.0.0/8", "10.0.0.0/",
                                       "fd::/129", "10.0.0.0/ 8",  "/8",       "10.0.0.0/-1",
                                       "a",        "10.0.0.0/8/8", NULL };

    for (size_t i = 0; good[i]; i++)
        ck_assert_msg(identity_cidr_is_good(good[i]), "%s", good[i]);
    for (size_t i = 0; bad[i]; i++)
        ck_assert_msg(!identity_cidr_is_good(bad[i]), "%s", bad[i]);
}
END_TEST

/* ---- base32 ---- */

/* RFC 4648 section 10, in lower case and without the padding. */
static const struct {
    const char *bytes, *text;
} base32_rows[] = {
    { "", "" },
    { "f", "my" },
    { "fo", "mzxq" },
    { "foo", "mzxw6" },
    { "foob", "mzxw6yq" },
    { "fooba", "mzxw6ytb" },
    { "foobar", "mzxw6ytboi" },
};

START_TEST(base32_is_that_of_the_rfc)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    size_t len = strlen(base32_rows[_i].bytes);
    uint8_t bytes[8];

    identity_base32_print(span_of_text(base32_rows[_i].bytes), &text);
    ck_assert_str_eq(buf_text(&text), base32_rows[_i].text);
    ck_assert(identity_base32_parse(buf_span(&text), bytes, len));
    ck_assert(memcmp(bytes, base32_rows[_i].bytes, len) == 0);
}
END_TEST

START_TEST(base32_has_one_form)
{
    uint8_t bytes[8];

    ck_assert(!identity_base32_parse(span_of_text("MZXW6YTB"), bytes, 5));
    ck_assert(!identity_base32_parse(span_of_text("mzxw6yt1"), bytes, 5));
    ck_assert(!identity_base32_parse(span_of_text("mzxw6ytb="), bytes, 5));
    ck_assert(!identity_base32_parse(span_of_text("mzxw6yt"), bytes, 5));
    ck_assert(!identity_base32_parse(span_of_text("mz"), bytes, 1)); /* bits after the byte */
}
END_TEST

/* ---- the enrolment string ---- */

static int parse(const char *text, struct identity_enrolment *ret)
{
    why.text[0] = '\0';
    return identity_enrolment_parse(span_of_text(text), ret, &why);
}

START_TEST(an_enrolment_string_is_parsed_and_printed_again)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct identity_enrolment enrolment;

    ck_assert_int_eq(parse(" \t" STRING "\r\n", &enrolment), 0);
    ck_assert_str_eq(enrolment.hub, "hub.example.org:8082");
    ck_assert_str_eq(enrolment.token_id, "ab2cd3ef");
    for (uint8_t i = 0; i < IDENTITY_SECRET_BYTES; i++)
        ck_assert_uint_eq(enrolment.secret[i], i);
    for (uint8_t i = 0; i < IDENTITY_PIN_BYTES; i++)
        ck_assert_uint_eq(enrolment.pin[i], i);
    identity_enrolment_print(&enrolment, &text);
    ck_assert_str_eq(buf_text(&text), STRING);
}
END_TEST

START_TEST(what_is_wrong_with_an_enrolment_string_is_named)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        { "", "there is no enrolment string" },
        { "  \n", "there is no enrolment string" },
        { "hello", "no enrolment string" },
        { "sentinel2/h:1/ab2cd3ef/" SECRET "/" PIN, "no enrolment string" },
        { STRING "/x", "no enrolment string" },
        { "sentinel1/h:1/ab2cd3ef/" SECRET, "no enrolment string" },
        { "sentinel1/h/ab2cd3ef/" SECRET "/" PIN, "HOST:PORT" },
        { "sentinel1/h:0/ab2cd3ef/" SECRET "/" PIN, "HOST:PORT" },
        { "sentinel1/h:65536/ab2cd3ef/" SECRET "/" PIN, "HOST:PORT" },
        { "sentinel1/:1/ab2cd3ef/" SECRET "/" PIN, "HOST:PORT" },
        { "sentinel1/$(reboot):1/ab2cd3ef/" SECRET "/" PIN, "HOST:PORT" },
        { "sentinel1/h:1/ab2cd3e/" SECRET "/" PIN, "the token's id" },
        { "sentinel1/h:1/AB2CD3EF/" SECRET "/" PIN, "the token's id" },
        { "sentinel1/h:1/ab2cd3ef/aaaa/" PIN, "the token's secret" },
        { "sentinel1/h:1/ab2cd3ef/" SECRET "/00", "the pin" },
        { "sentinel1/h:1/ab2cd3ef/" SECRET "/A" PIN, "the pin" },
    };
    struct identity_enrolment enrolment = { .hub = "as it was" };

    ck_assert_int_eq(parse(rows[_i].text, &enrolment), IDENTITY_BAD);
    ck_assert_msg(strstr(why.text, rows[_i].says), "`%s` is not in `%s`", rows[_i].says, why.text);
    ck_assert_ptr_null(strstr(why.text, "aaa"));
    ck_assert_str_eq(enrolment.hub, "as it was");
}
END_TEST
#define N_BAD_STRINGS 16

START_TEST(a_long_enrolment_string_is_refused_by_its_length)
{
    char text[IDENTITY_MAX_STRING + 2];
    struct identity_enrolment enrolment;

    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    ck_assert_int_eq(parse(text, &enrolment), IDENTITY_BAD);
    ck_assert_ptr_nonnull(strstr(why.text, "at most 512 bytes"));
}
END_TEST

START_TEST(a_hub_is_a_name_or_an_address_with_a_port)
{
    static const char *const good[] = { "h:1", "HUB_1.example.org:65535", "192.0.2.7:8082",
                                        "[2001:db8::7]:8082", NULL };
    static const char *const bad[] = { "",     "h",      "h:",       "h:080",    "h:+1",
                                       "h:1 ", "a b:1",  "::1:8082", "[::1]",    "[x]:1",
                                       "-h:1", "h;id:1", "[]:1",     "user@h:1", NULL };

    for (size_t i = 0; good[i]; i++)
        ck_assert_msg(identity_hub_is_good(good[i]), "%s", good[i]);
    for (size_t i = 0; bad[i]; i++)
        ck_assert_msg(!identity_hub_is_good(bad[i]), "%s", bad[i]);
}
END_TEST

/* ---- fingerprints ---- */

static void assert_is_hash_of(const struct identity_fingerprint *fingerprint,
                              enum identity_source source,
                              const char *name,
                              const char *value)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint8_t sha256[32];

    buf_append(&text, "sentinel-fingerprint-1", 23);
    buf_append(&text, name, strlen(name) + 1);
    buf_append_text(&text, value);
    crypto_sha256(buf_span(&text), sha256);
    ck_assert(fingerprint->has[source]);
    ck_assert_mem_eq(fingerprint->sha256[source], sha256, sizeof(sha256));
}

START_TEST(a_machine_has_a_hash_for_each_source)
{
    struct identity_fingerprint fingerprint;

    identity_fingerprint_read(PLAIN, &fingerprint);
    ck_assert(fingerprint.has[IDENTITY_MACHINE_ID] && fingerprint.has[IDENTITY_DMI]);
    /* eth1 has the lower index; lo's address is none. */
    assert_is_hash_of(&fingerprint, IDENTITY_FIRST_MAC, "first-mac", "52:54:00:aa:bb:02");
    assert_is_hash_of(&fingerprint, IDENTITY_BOOT_DISK, "boot-disk", "disk-serial-1");
}
END_TEST

START_TEST(what_a_machine_has_not_is_absent)
{
    struct identity_fingerprint fingerprint;

    identity_fingerprint_read(BROKEN, &fingerprint);
    ck_assert(!fingerprint.has[IDENTITY_MACHINE_ID] && !fingerprint.has[IDENTITY_BOOT_DISK]);
    memset(&fingerprint, 0xff, sizeof(fingerprint));
    identity_fingerprint_read("/nonexistent", &fingerprint);
    for (size_t i = 0; i < IDENTITY_N_SOURCES; i++)
        ck_assert(!fingerprint.has[i]);
}
END_TEST

START_TEST(fingerprints_agree_when_all_sources_of_both_do)
{
    struct identity_fingerprint a = { .has = { true, true } }, b = a;

    ck_assert(identity_fingerprint_agrees(&a, &b));
    b.sha256[IDENTITY_DMI][31] = 1;
    ck_assert(!identity_fingerprint_agrees(&a, &b));
    b.has[IDENTITY_DMI] = false;
    ck_assert(identity_fingerprint_agrees(&a, &b));
    b.has[IDENTITY_MACHINE_ID] = false;
    ck_assert(identity_fingerprint_agrees(&a, &b));
}
END_TEST

/* ---- what is signed ---- */

START_TEST(a_late_renewal_signs_nonce_and_hash_of_the_request)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint8_t nonce[IDENTITY_NONCE_BYTES] = { 7 }, sha256[32];

    identity_renewal_signed_bytes(span_of(nonce, sizeof(nonce)), span_of_text("csr"), &text);
    crypto_sha256(span_of_text("csr"), sha256);
    ck_assert_uint_eq(text.len, 25 + 32 + 32);
    ck_assert_mem_eq(text.data, "sentinel-renew-expired-1", 25);
    ck_assert_mem_eq(text.data + 25, nonce, 32);
    ck_assert_mem_eq(text.data + 57, sha256, 32);
}
END_TEST

START_TEST(a_request_signs_a_line_for_each_part)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct identity_signed_request request = {
        .unix_seconds = 1795428000,
        .nonce = span_of_text("n0n-ce.12"),
        .method = span_of_text("POST"),
        .path = span_of_text("/v1/query?a=b"),
    };

    crypto_sha256(span_of_text(""), request.body_sha256);
    identity_request_signed_bytes(&request, &text);
    ck_assert_str_eq(buf_text(&text),
                     "v1\n1795428000\nn0n-ce.12\nPOST\n/v1/query?a=b\n"
                     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
END_TEST

#define MAC "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

START_TEST(a_signature_header_is_parsed)
{
    struct span nonce;
    uint8_t mac[32];
    int64_t seconds;

    ck_assert(identity_signature_parse(span_of_text("v1.1795428000.n0n-ce.12." MAC), &seconds,
                                       &nonce, mac));
    ck_assert_int_eq(seconds, 1795428000);
    ck_assert(span_equal(nonce, span_of_text("n0n-ce.12")));
    for (uint8_t i = 0; i < 32; i++)
        ck_assert_uint_eq(mac[i], i);
}
END_TEST

START_TEST(what_is_no_signature_header_is_refused)
{
    static const char *const rows[] = {
        "",
        "v1",
        "v1.",
        "v1.5." MAC,
        "v2.5.noncenonce." MAC,
        "v1..noncenonce." MAC,
        "v1.-5.noncenonce." MAC,
        "v1.05.noncenonce." MAC,
        "v1.1234567890123456789.noncenonce." MAC,
        "v1.5.short." MAC,
        "v1.5.nonce nonce." MAC,
        "v1.5.noncenonce.",
        "v1.5.noncenonce.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", /* bits after the end */
        "v1.5.noncenonce.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "v1.5.noncenonce.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH-8=",
        "v1.5.0123456789012345678901234567890123456789012345678901234567890123x." MAC,
    };
    struct span nonce;
    uint8_t mac[32];
    int64_t seconds;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_msg(!identity_signature_parse(span_of_text(rows[i]), &seconds, &nonce, mac), "%s",
                      rows[i]);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/identity");
    TCase *names = tcase_create("names");
    TCase *addresses = tcase_create("addresses");
    TCase *base32 = tcase_create("base32");
    TCase *strings = tcase_create("enrolment strings");
    TCase *fingerprints = tcase_create("fingerprints");
    TCase *signatures = tcase_create("signatures");

    tcase_add_test(names, a_name_is_lower_case_digits_dot_and_hyphen);
    tcase_add_test(names, a_hosts_name_becomes_the_nearest_good_id);
    tcase_add_test(names, a_pattern_is_of_the_whole_name);
    suite_add_tcase(s, names);
    tcase_add_test(addresses, an_address_lies_in_a_range);
    tcase_add_test(addresses, a_range_is_an_address_and_a_number_of_bits);
    suite_add_tcase(s, addresses);
    tcase_add_loop_test(base32, base32_is_that_of_the_rfc, 0,
                        (int) (sizeof(base32_rows) / sizeof(base32_rows[0])));
    tcase_add_test(base32, base32_has_one_form);
    suite_add_tcase(s, base32);
    tcase_add_test(strings, an_enrolment_string_is_parsed_and_printed_again);
    tcase_add_loop_test(strings, what_is_wrong_with_an_enrolment_string_is_named, 0, N_BAD_STRINGS);
    tcase_add_test(strings, a_long_enrolment_string_is_refused_by_its_length);
    tcase_add_test(strings, a_hub_is_a_name_or_an_address_with_a_port);
    suite_add_tcase(s, strings);
    tcase_add_test(fingerprints, a_machine_has_a_hash_for_each_source);
    tcase_add_test(fingerprints, what_a_machine_has_not_is_absent);
    tcase_add_test(fingerprints, fingerprints_agree_when_all_sources_of_both_do);
    suite_add_tcase(s, fingerprints);
    tcase_add_test(signatures, a_late_renewal_signs_nonce_and_hash_of_the_request);
    tcase_add_test(signatures, a_request_signs_a_line_for_each_part);
    tcase_add_test(signatures, a_signature_header_is_parsed);
    tcase_add_test(signatures, what_is_no_signature_header_is_refused);
    suite_add_tcase(s, signatures);
    return s;
}
