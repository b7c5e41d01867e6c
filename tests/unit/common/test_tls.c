/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/tls.h"

#include <string.h>

#include "suite.h"

#define DAY_US 86400000000LL
#define NOW_US 1795428000000000LL /* 2026-11-23T10:00:00Z */
/* In parts, so that a search for keys in the tree finds none: there is none. */
#define PEM_KEY(edge)       \
    "-----" edge " PRIVATE" \
    " KEY-----\n"

static const wall_us now = { NOW_US };

/* root -> intermediate -> leaf */
struct authority {
    struct tls_key *root_key;
    struct tls_cert *root;
    struct tls_key *key;
    struct tls_cert *intermediate;
};

static struct authority ours;
static struct authority theirs;
static struct tls_key *leaf_key;
static struct tls_why why;

static struct tls_request request_for(enum tls_profile profile, const char *name)
{
    return (struct tls_request){ .profile = profile,
                                 .common_name = name,
                                 .not_before = { NOW_US - DAY_US },
                                 .not_after = { NOW_US + DAY_US } };
}

static struct tls_cert *issue(const struct tls_request *request,
                              const struct tls_key *key,
                              const struct tls_cert *issuer,
                              const struct tls_key *issuer_key)
{
    struct tls_cert *cert = NULL;

    ck_assert_int_eq(tls_cert_issue(&cert, request, key, issuer, issuer_key), 0);
    return cert;
}

static void authority_init(struct authority *authority, const char *name)
{
    struct tls_request root = request_for(TLS_ROOT, name);
    struct tls_request intermediate = request_for(TLS_INTERMEDIATE, "Sentinel hubs");

    ck_assert_int_eq(tls_key_new(&authority->root_key), 0);
    ck_assert_int_eq(tls_key_new(&authority->key), 0);
    authority->root = issue(&root, authority->root_key, NULL, authority->root_key);
    authority->intermediate =
        issue(&intermediate, authority->key, authority->root, authority->root_key);
}

static void authority_deinit(struct authority *authority)
{
    tls_cert_free(authority->root);
    tls_cert_free(authority->intermediate);
    tls_key_free(authority->root_key);
    tls_key_free(authority->key);
}

static void set_up(void)
{
    authority_init(&ours, "Sentinel CA");
    authority_init(&theirs, "Sentinel CA");
    ck_assert_int_eq(tls_key_new(&leaf_key), 0);
    why = (struct tls_why){ 0 };
}

static void tear_down(void)
{
    authority_deinit(&ours);
    authority_deinit(&theirs);
    tls_key_free(leaf_key);
}

static struct tls_cert *issue_leaf(const struct tls_request *request)
{
    return issue(request, leaf_key, ours.intermediate, ours.key);
}

static int verify_with(const struct tls_cert *leaf,
                       const struct tls_cert *intermediate,
                       const struct tls_cert *root,
                       enum tls_profile profile,
                       const char *host,
                       wall_us at)
{
    CLEANUP(buf_deinit) struct buf chain = { 0 };
    CLEANUP(buf_deinit) struct buf roots = { 0 };

    ck_assert_int_eq(tls_cert_print(leaf, &chain), 0);
    if (intermediate)
        ck_assert_int_eq(tls_cert_print(intermediate, &chain), 0);
    ck_assert_int_eq(tls_cert_print(root, &roots), 0);
    return tls_chain_verify(buf_span(&chain), buf_span(&roots), profile, host, at, &why);
}

static int verify(const struct tls_cert *leaf, enum tls_profile profile, const char *host)
{
    return verify_with(leaf, ours.intermediate, ours.root, profile, host, now);
}

static int verify_pem(struct span chain, struct span roots)
{
    return tls_chain_verify(chain, roots, TLS_SERVER, NULL, now, &why);
}

static void assert_says(const char *part)
{
    ck_assert_msg(strstr(why.text, part) != NULL, "\"%s\" is not in \"%s\"", part, why.text);
}

/* ---- keys ---- */

START_TEST(a_key_is_printed_as_pkcs8_and_parsed_again)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(buf_deinit) struct buf again = { 0 };
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;

    ck_assert_int_eq(tls_key_print(leaf_key, &pem), 0);
    ck_assert_int_eq(strncmp(buf_text(&pem), PEM_KEY("BEGIN"), strlen(PEM_KEY("BEGIN"))), 0);
    ck_assert_int_eq(tls_key_parse(&key, buf_span(&pem)), 0);
    ck_assert_int_eq(tls_key_print(key, &again), 0);
    ck_assert_str_eq(buf_text(&pem), buf_text(&again));
}
END_TEST

START_TEST(what_is_no_good_key_is_refused)
{
    /* Ed25519, the example of RFC 8410 section 10.3: well-formed, but no peer takes its leaves. */
    static const char ed25519[] = PEM_KEY("BEGIN") "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/"
                                                   "nwoy/HU++CXqI9EdVhC\n" PEM_KEY("END");
    struct tls_key *key = NULL;

    ck_assert_int_eq(tls_key_parse(&key, span_of_text("")), TLS_BAD);
    ck_assert_int_eq(tls_key_parse(&key, span_of_text("hello")), TLS_BAD);
    ck_assert_int_eq(tls_key_parse(&key, span_of_text(ed25519)), TLS_BAD);
    ck_assert_ptr_null(key);
}
END_TEST

/* ---- certificates ---- */

START_TEST(a_leaf_says_what_was_asked)
{
    static const char *const names[] = { "web-1.example", "10.0.0.7", "::1", NULL };
    struct tls_request request = request_for(TLS_CLIENT, "web-1");
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    struct tls_facts facts;
    struct tls_facts other;

    request.organisation = "J\xc3\xb6rg, Inc.";
    request.organisation_unit = "agents";
    request.uri = "spiffe://example.org/agent/web-1";
    request.names = names;
    request.crl_url = "http://hub.example:8081/crl";
    leaf = issue_leaf(&request);
    ck_assert_int_eq(tls_cert_read(leaf, &facts), 0);
    ck_assert_str_eq(facts.common_name, "web-1");
    ck_assert_str_eq(facts.organisation, "J\xc3\xb6rg, Inc.");
    ck_assert_str_eq(facts.organisation_unit, "agents");
    ck_assert_str_eq(facts.issuer, "Sentinel hubs");
    ck_assert_str_eq(facts.uri, "spiffe://example.org/agent/web-1");
    ck_assert_uint_eq(strlen(facts.serial), 32);
    ck_assert_int_eq(facts.not_before.us, NOW_US - DAY_US);
    ck_assert_int_eq(facts.not_after.us, NOW_US + DAY_US);
    ck_assert(!facts.is_ca);

    /* Another of the same key: another serial and hash, the same key hash. */
    leaf = (tls_cert_free(leaf), issue_leaf(&request));
    ck_assert_int_eq(tls_cert_read(leaf, &other), 0);
    ck_assert_str_ne(other.serial, facts.serial);
    ck_assert_mem_ne(other.sha256, facts.sha256, sizeof(facts.sha256));
    ck_assert_mem_eq(other.key_sha256, facts.key_sha256, sizeof(facts.key_sha256));

    ck_assert_int_eq(tls_cert_read(ours.root, &facts), 0);
    ck_assert(facts.is_ca);
    ck_assert_str_eq(facts.issuer, "Sentinel CA");
    ck_assert_str_eq(facts.uri, "");
}
END_TEST

/* DER of the extensions as RFC 5280 draws them: found whole or not at all. */
START_TEST(extensions_are_encoded_as_the_rfc_says)
{
    static const struct {
        const char *what;
        enum tls_profile profile;
        bool is_expected;
        const char *der;
        size_t len;
    } rows[] = {
/* SEQUENCE { OID, [critical TRUE,] OCTET STRING { ... } } */
#define ROW(what, profile, is_expected, der) { what, profile, is_expected, der, sizeof(der) - 1 }
        ROW("CA:FALSE, critical", TLS_CLIENT, true,
            "\x30\x0c\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x02\x30\x00"),
        ROW("CA:TRUE, critical", TLS_ROOT, true,
            "\x30\x0f\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x05\x30\x03\x01\x01\xff"),
        ROW("CA:TRUE, pathlen:0", TLS_INTERMEDIATE, true,
            "\x30\x12\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x08\x30\x06\x01\x01\xff\x02\x01\x00"),
        ROW("digitalSignature, critical", TLS_CLIENT, true,
            "\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x07\x80"),
        ROW("keyCertSign and cRLSign, critical", TLS_INTERMEDIATE, true,
            "\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x01\x06"),
        ROW("clientAuth alone", TLS_CLIENT, true,
            "\x30\x13\x06\x03\x55\x1d\x25\x04\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02"),
        ROW("serverAuth and clientAuth", TLS_SERVER, true,
            "\x30\x1d\x06\x03\x55\x1d\x25\x04\x16\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"
            "\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02"),
        ROW("extended key usage on a CA", TLS_ROOT, false, "\x06\x03\x55\x1d\x25"),
        ROW("iPAddress 10.0.0.7", TLS_SERVER, true, "\x87\x04\x0a\x00\x00\x07"),
        ROW("dNSName a.example", TLS_SERVER, true, "\x82\x09\x61.example"),
        ROW("an address as dNSName", TLS_SERVER, false, "\x82\x08\x31\x30.0.0.7"),
        ROW("CRL distribution point", TLS_SERVER, true,
            "\x06\x03\x55\x1d\x1f\x04\x10\x30\x0e\x30\x0c\xa0\x0a\xa0\x08\x86\x06\x68ttp:x"),
#undef ROW
    };
    static const char *const names[] = { "10.0.0.7", "a.example", NULL };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct tls_request request = request_for(rows[i].profile, "x");
        CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
        CLEANUP(buf_deinit) struct buf der = { 0 };

        request.names = names;
        request.crl_url = "http:x";
        cert = issue_leaf(&request);
        ck_assert_int_eq(tls_cert_print_der(cert, &der), 0);
        ck_assert_msg((memmem(der.data, der.len, rows[i].der, rows[i].len) != NULL) ==
                          rows[i].is_expected,
                      "%s", rows[i].what);
    }
}
END_TEST

static bool is_refused(const struct tls_request *request)
{
    struct tls_cert *cert = NULL;

    return tls_cert_issue(&cert, request, leaf_key, ours.intermediate, ours.key) == TLS_BAD;
}

START_TEST(requests_that_no_certificate_can_hold_are_refused)
{
    static const char *const bad_names[][2] = {
        { "a b", NULL }, { "", NULL },     { "DNS:x", NULL },      { "a,b", NULL },
        { "-a", NULL },  { "a..b", NULL }, { "10.0.0.7/8", NULL }, { "a\n", NULL },
    };
    struct tls_cert *cert = NULL;
    struct tls_request good = request_for(TLS_SERVER, "hub");
    struct tls_request bad;
    char long_name[66];

    for (size_t i = 0; i < sizeof(bad_names) / sizeof(*bad_names); i++) {
        bad = good;
        bad.names = bad_names[i];
        ck_assert_msg(is_refused(&bad), "%s", bad_names[i][0]);
    }
    memset(long_name, 'a', 65);
    long_name[65] = '\0';
    bad = good;
    bad.common_name = long_name;
    ck_assert(is_refused(&bad));
    bad.common_name = "\xff";
    ck_assert(is_refused(&bad));
    bad = good;
    bad.uri = "spiffe://a b";
    ck_assert(is_refused(&bad));
    bad = good;
    bad.not_after = bad.not_before;
    ck_assert(is_refused(&bad));
    bad = good;
    bad.not_after.us = INT64_MAX; /* year 294246 */
    ck_assert(is_refused(&bad));
    ck_assert_int_eq(tls_cert_issue(&cert, &good, leaf_key, ours.intermediate, ours.root_key),
                     TLS_MISMATCH);
    ck_assert_ptr_null(cert);
}
END_TEST

START_TEST(dates_of_four_centuries_are_kept)
{
    static const int64_t seconds[] = { -2000000000, -1, 2524607999, 2524608000, 253402300799 };

    for (size_t i = 0; i + 1 < sizeof(seconds) / sizeof(*seconds); i++) {
        struct tls_request request = request_for(TLS_CLIENT, "x");
        CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
        struct tls_facts facts;

        request.not_before.us = seconds[i] * 1000000;
        request.not_after.us = seconds[i + 1] * 1000000;
        cert = issue_leaf(&request);
        ck_assert_int_eq(tls_cert_read(cert, &facts), 0);
        ck_assert_int_eq(facts.not_before.us, request.not_before.us);
        ck_assert_int_eq(facts.not_after.us, request.not_after.us);
    }
}
END_TEST

START_TEST(what_is_no_certificate_is_refused)
{
    CLEANUP(buf_deinit) struct buf pem = { 0 };
    CLEANUP(buf_deinit) struct buf der = { 0 };
    struct tls_cert *cert = NULL;

    ck_assert_int_eq(tls_cert_parse_pem(&cert, span_of_text("")), TLS_BAD);
    ck_assert_int_eq(tls_cert_parse_pem(&cert, span_of_text("hello")), TLS_BAD);
    ck_assert_int_eq(tls_cert_parse_der(&cert, span_of_text("\x30\x03")), TLS_BAD);
    ck_assert_int_eq(tls_cert_print_der(ours.root, &der), 0);
    buf_append_text(&der, "x");
    ck_assert_int_eq(tls_cert_parse_der(&cert, buf_span(&der)), TLS_BAD);
    ck_assert_int_eq(tls_key_print(leaf_key, &pem), 0);
    ck_assert_int_eq(tls_cert_parse_pem(&cert, buf_span(&pem)), TLS_BAD);
    /* behind something else */
    ck_assert_int_eq(tls_cert_print(ours.root, &pem), 0);
    ck_assert_int_eq(tls_cert_parse_pem(&cert, buf_span(&pem)), 0);
    tls_cert_free(cert);
}
END_TEST

START_TEST(a_certificate_knows_its_key)
{
    struct tls_request request = request_for(TLS_CLIENT, "x");
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = issue_leaf(&request);

    ck_assert_int_eq(tls_cert_matches_key(leaf, leaf_key), 0);
    ck_assert_int_eq(tls_cert_matches_key(leaf, ours.key), TLS_MISMATCH);
}
END_TEST

/* ---- requests and signatures ---- */

START_TEST(a_request_gives_its_public_key_and_nothing_else)
{
    struct tls_request request = request_for(TLS_CLIENT, "granted");
    CLEANUP(tls_key_freep) struct tls_key *public_key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    CLEANUP(buf_deinit) struct buf der = { 0 };
    struct tls_facts facts;

    ck_assert_int_eq(tls_csr_print(leaf_key, "wanted", &der), 0);
    ck_assert_int_eq(tls_csr_parse(&public_key, buf_span(&der)), 0);
    leaf = issue(&request, public_key, ours.intermediate, ours.key);
    ck_assert_int_eq(tls_cert_matches_key(leaf, leaf_key), 0);
    ck_assert_int_eq(tls_cert_read(leaf, &facts), 0);
    ck_assert_str_eq(facts.common_name, "granted");
    ck_assert_int_eq(tls_csr_print(leaf_key, "", &der), TLS_BAD);
}
END_TEST

START_TEST(a_request_changed_at_any_byte_is_refused)
{
    CLEANUP(buf_deinit) struct buf der = { 0 };
    struct tls_key *key = NULL;

    ck_assert_int_eq(tls_csr_print(leaf_key, "wanted", &der), 0);
    for (size_t i = 0; i < der.len; i++) {
        der.data[i] ^= 1;
        ck_assert_msg(tls_csr_parse(&key, buf_span(&der)) == TLS_BAD, "byte %zu", i);
        der.data[i] ^= 1;
        ck_assert_int_eq(tls_csr_parse(&key, span_of(der.data, i)), TLS_BAD);
    }
    buf_append_text(&der, "x");
    ck_assert_int_eq(tls_csr_parse(&key, buf_span(&der)), TLS_BAD);
    ck_assert_ptr_null(key);
}
END_TEST

START_TEST(a_signature_is_of_one_key_and_one_text)
{
    struct tls_request request = request_for(TLS_CLIENT, "x");
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = issue_leaf(&request);
    CLEANUP(buf_deinit) struct buf signature = { 0 };

    ck_assert_int_eq(tls_key_sign(leaf_key, span_of_text("nonce"), &signature), 0);
    ck_assert_int_eq(tls_cert_check_signature(leaf, span_of_text("nonce"), buf_span(&signature)),
                     0);
    ck_assert_int_eq(tls_cert_check_signature(leaf, span_of_text("nonse"), buf_span(&signature)),
                     TLS_MISMATCH);
    ck_assert_int_eq(
        tls_cert_check_signature(ours.intermediate, span_of_text("nonce"), buf_span(&signature)),
        TLS_MISMATCH);
    ck_assert_int_eq(tls_cert_check_signature(leaf, span_of_text("nonce"), span_of(NULL, 0)),
                     TLS_MISMATCH);
}
END_TEST

START_TEST(a_chain_is_split_and_goes_through_der)
{
    struct tls_request request = request_for(TLS_CLIENT, "x");
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = issue_leaf(&request);
    CLEANUP(tls_cert_freep) struct tls_cert *again = NULL;
    CLEANUP(buf_deinit) struct buf chain = { 0 };
    CLEANUP(buf_deinit) struct buf der = { 0 };
    struct tls_cert *certs[2];
    struct tls_facts facts;
    size_t n_certs = 0;

    ck_assert_int_eq(tls_cert_print(leaf, &chain), 0);
    ck_assert_int_eq(tls_cert_print(ours.intermediate, &chain), 0);
    ck_assert_int_eq(tls_chain_split(buf_span(&chain), certs, 1, &n_certs), TLS_BAD);
    ck_assert_int_eq(tls_chain_split(buf_span(&chain), certs, 2, &n_certs), 0);
    ck_assert_uint_eq(n_certs, 2);
    ck_assert_int_eq(tls_cert_print_der(certs[1], &der), 0);
    ck_assert_int_eq(tls_cert_parse_der(&again, buf_span(&der)), 0);
    ck_assert_int_eq(tls_cert_read(again, &facts), 0);
    ck_assert_str_eq(facts.common_name, "Sentinel hubs");
    tls_cert_free(certs[0]);
    tls_cert_free(certs[1]);
}
END_TEST

/* ---- chains ---- */

static struct tls_cert *hub_leaf(void)
{
    static const char *const names[] = { "hub.example", "*.wild.example", "10.0.0.7", "::1", NULL };
    struct tls_request request = request_for(TLS_SERVER, "hub");

    request.names = names;
    return issue_leaf(&request);
}

START_TEST(a_good_chain_is_verified)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = hub_leaf();

    ck_assert_int_eq(verify(leaf, TLS_SERVER, NULL), 0);
    ck_assert_int_eq(verify(leaf, TLS_CLIENT, NULL), 0);
    ck_assert_int_eq(verify(leaf, TLS_SERVER, "hub.example"), 0);
    ck_assert_int_eq(verify(leaf, TLS_SERVER, "a.wild.example"), 0);
    ck_assert_int_eq(verify(leaf, TLS_SERVER, "10.0.0.7"), 0);
    ck_assert_int_eq(verify(leaf, TLS_SERVER, "::1"), 0);
    ck_assert_int_eq(verify(leaf, TLS_SERVER, "0:0:0:0:0:0:0:1"), 0);
}
END_TEST

START_TEST(a_wrong_root_is_refused_even_under_the_same_name)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = hub_leaf();

    ck_assert_int_eq(verify_with(leaf, ours.intermediate, theirs.root, TLS_SERVER, NULL, now),
                     TLS_UNTRUSTED);
    ck_assert_str_eq(
        why.text,
        "`Sentinel hubs` was issued by `Sentinel CA`, which is neither in the chain nor among "
        "the roots; add the intermediate to the chain, or trust the right root");
    ck_assert_int_eq(verify_with(leaf, theirs.intermediate, ours.root, TLS_SERVER, NULL, now),
                     TLS_UNTRUSTED);
}
END_TEST

START_TEST(expired_and_not_yet_valid_are_refused_with_their_dates)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = hub_leaf();
    wall_us late = { NOW_US + 2 * DAY_US };
    wall_us early = { NOW_US - 2 * DAY_US };

    ck_assert_int_eq(verify_with(leaf, ours.intermediate, ours.root, TLS_SERVER, NULL, late),
                     TLS_UNTRUSTED);
    assert_says(" expired at 2026-11-24T10:00:00.000Z; renew it");
    ck_assert_int_eq(verify_with(leaf, ours.intermediate, ours.root, TLS_SERVER, NULL, early),
                     TLS_UNTRUSTED);
    assert_says(" is not valid before 2026-11-22T10:00:00.000Z; check this machine's clock");
}
END_TEST

START_TEST(a_client_certificate_does_not_serve)
{
    struct tls_request request = request_for(TLS_CLIENT, "web-1");
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = issue_leaf(&request);

    ck_assert_int_eq(verify(leaf, TLS_CLIENT, NULL), 0);
    ck_assert_int_eq(verify(leaf, TLS_SERVER, NULL), TLS_UNTRUSTED);
    ck_assert_str_eq(why.text,
                     "the certificate of `web-1` is not for a server; issue it with serverAuth "
                     "among its extended key usages");
}
END_TEST

START_TEST(a_wrong_host_is_refused_with_the_names_there_are)
{
    static const char *const wrong[] = { "other.example", "10.0.0.8",         "::2",
                                         "wild.example",  "a.b.wild.example", "hub" };
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = hub_leaf();

    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        ck_assert_msg(verify(leaf, TLS_SERVER, wrong[i]) == TLS_UNTRUSTED, "%s", wrong[i]);
    ck_assert_int_eq(verify(leaf, TLS_SERVER, "other.example"), TLS_UNTRUSTED);
    ck_assert_str_eq(
        why.text, "the certificate of `hub` is not for `other.example` but for hub.example, "
                  "*.wild.example, 10.0.0.7, ::1; connect by that name, or issue it for this one");
    ck_assert_int_eq(verify(leaf, TLS_SERVER, ""), TLS_BAD);
}
END_TEST

START_TEST(a_self_signed_leaf_is_refused_unless_it_is_trusted)
{
    struct tls_request request = request_for(TLS_SERVER, "hub");
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = issue(&request, leaf_key, NULL, leaf_key);

    ck_assert_int_eq(verify_with(leaf, NULL, ours.root, TLS_SERVER, NULL, now), TLS_UNTRUSTED);
    assert_says("`hub` is self-signed and not among the roots");
    ck_assert_int_eq(verify_with(leaf, NULL, leaf, TLS_SERVER, NULL, now), 0);
}
END_TEST

START_TEST(a_chain_without_its_intermediate_is_refused)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = hub_leaf();

    ck_assert_int_eq(verify_with(leaf, NULL, ours.root, TLS_SERVER, NULL, now), TLS_UNTRUSTED);
    assert_says(
        "`hub` was issued by `Sentinel hubs`, which is neither in the chain nor among the roots");
    /* An intermediate among the roots is trusted, as gRPC core does. */
    ck_assert_int_eq(verify_with(leaf, NULL, ours.intermediate, TLS_SERVER, NULL, now), 0);
}
END_TEST

START_TEST(a_leaf_cannot_issue_and_an_intermediate_no_further_ca)
{
    struct tls_request request = request_for(TLS_SERVER, "below");
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = hub_leaf();
    CLEANUP(tls_cert_freep) struct tls_cert *below = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *second = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *third = NULL;
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(buf_deinit) struct buf chain = { 0 };
    CLEANUP(buf_deinit) struct buf roots = { 0 };
    struct tls_request ca = request_for(TLS_INTERMEDIATE, "second");

    ck_assert_int_eq(tls_key_new(&key), 0);
    below = issue(&request, key, leaf, leaf_key);
    ck_assert_int_eq(tls_cert_print(below, &chain), 0);
    ck_assert_int_eq(tls_cert_print(leaf, &chain), 0);
    ck_assert_int_eq(tls_cert_print(ours.intermediate, &chain), 0);
    ck_assert_int_eq(tls_cert_print(ours.root, &roots), 0);
    ck_assert_int_eq(verify_pem(buf_span(&chain), buf_span(&roots)), TLS_UNTRUSTED);
    assert_says("`below` was issued by `hub`, which is in the chain but may not issue");

    second = issue(&ca, key, ours.intermediate, ours.key);
    third = issue(&request, leaf_key, second, key);
    buf_clear(&chain);
    ck_assert_int_eq(tls_cert_print(third, &chain), 0);
    ck_assert_int_eq(tls_cert_print(second, &chain), 0);
    ck_assert_int_eq(tls_cert_print(ours.intermediate, &chain), 0);
    ck_assert_int_eq(verify_pem(buf_span(&chain), buf_span(&roots)), TLS_UNTRUSTED);
    assert_says("may not issue");
}
END_TEST

START_TEST(chains_and_roots_that_are_not_pem_are_refused)
{
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = hub_leaf();
    CLEANUP(buf_deinit) struct buf chain = { 0 };

    ck_assert_int_eq(tls_cert_print(leaf, &chain), 0);
    ck_assert_int_eq(verify_pem(buf_span(&chain), span_of_text("roots")), TLS_BAD);
    assert_says("the roots are not PEM certificates");
    ck_assert_int_eq(verify_pem(span_of_text(""), buf_span(&chain)), TLS_BAD);
    for (int i = 0; i < 16; i++)
        ck_assert_int_eq(tls_cert_print(ours.intermediate, &chain), 0);
    ck_assert_int_eq(verify_pem(buf_span(&chain), buf_span(&chain)), TLS_BAD);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/tls");
    TCase *certificates = tcase_create("keys and certificates");
    TCase *chains = tcase_create("chains");

    tcase_add_checked_fixture(certificates, set_up, tear_down);
    tcase_add_test(certificates, a_key_is_printed_as_pkcs8_and_parsed_again);
    tcase_add_test(certificates, what_is_no_good_key_is_refused);
    tcase_add_test(certificates, a_leaf_says_what_was_asked);
    tcase_add_test(certificates, extensions_are_encoded_as_the_rfc_says);
    tcase_add_test(certificates, requests_that_no_certificate_can_hold_are_refused);
    tcase_add_test(certificates, dates_of_four_centuries_are_kept);
    tcase_add_test(certificates, what_is_no_certificate_is_refused);
    tcase_add_test(certificates, a_certificate_knows_its_key);
    tcase_add_test(certificates, a_request_gives_its_public_key_and_nothing_else);
    tcase_add_test(certificates, a_request_changed_at_any_byte_is_refused);
    tcase_add_test(certificates, a_signature_is_of_one_key_and_one_text);
    tcase_add_test(certificates, a_chain_is_split_and_goes_through_der);
    suite_add_tcase(s, certificates);

    tcase_add_checked_fixture(chains, set_up, tear_down);
    tcase_add_test(chains, a_good_chain_is_verified);
    tcase_add_test(chains, a_wrong_root_is_refused_even_under_the_same_name);
    tcase_add_test(chains, expired_and_not_yet_valid_are_refused_with_their_dates);
    tcase_add_test(chains, a_client_certificate_does_not_serve);
    tcase_add_test(chains, a_wrong_host_is_refused_with_the_names_there_are);
    tcase_add_test(chains, a_self_signed_leaf_is_refused_unless_it_is_trusted);
    tcase_add_test(chains, a_chain_without_its_intermediate_is_refused);
    tcase_add_test(chains, a_leaf_cannot_issue_and_an_intermediate_no_further_ca);
    tcase_add_test(chains, chains_and_roots_that_are_not_pem_are_refused);
    suite_add_tcase(s, chains);

    return s;
}
