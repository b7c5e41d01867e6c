/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/stream/stream.h"

#include <string.h>

#include "suite.h"

#define DAY_US 86400000000LL

/* An authority with a hub's and a client's identity, and another one that nobody trusts. */
struct identity {
    struct buf chain, key;
};

static struct buf roots, other_roots;
static struct identity hub, client, stranger, late;
static struct tls_why why;

static struct tls_request request_for(enum tls_profile profile, const char *name)
{
    const wall_us now = clock_wall();

    return (struct tls_request){ .profile = profile,
                                 .common_name = name,
                                 .not_before = { now.us - 2 * DAY_US },
                                 .not_after = { now.us + DAY_US } };
}

static void make_root(struct tls_key **key, struct tls_cert **cert, struct buf *pem)
{
    const struct tls_request request = request_for(TLS_ROOT, "Root");

    ck_assert_int_eq(tls_key_new(key), 0);
    ck_assert_int_eq(tls_cert_issue(cert, &request, *key, NULL, *key), 0);
    ck_assert_int_eq(tls_cert_print(*cert, pem), 0);
}

static void issue(struct identity *to,
                  const struct tls_request *request,
                  const struct tls_cert *root,
                  const struct tls_key *root_key)
{
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;

    ck_assert_int_eq(tls_key_new(&key), 0);
    ck_assert_int_eq(tls_cert_issue(&cert, request, key, root, root_key), 0);
    ck_assert_int_eq(tls_cert_print(cert, &to->chain), 0);
    ck_assert_int_eq(tls_key_print(key, &to->key), 0);
}

static void setup(void)
{
    static const char *const names[] = { "hub.example.org", "127.0.0.1", NULL };
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *root = NULL;
    CLEANUP(tls_key_freep) struct tls_key *other_key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *other_root = NULL;
    struct tls_request request = request_for(TLS_SERVER, "hub");

    make_root(&key, &root, &roots);
    make_root(&other_key, &other_root, &other_roots);
    request.names = names;
    issue(&hub, &request, root, key);
    request = request_for(TLS_CLIENT, "client");
    issue(&client, &request, root, key);
    issue(&stranger, &request, other_root, other_key);
    request.not_after.us = request.not_before.us + DAY_US;
    issue(&late, &request, root, key);
    why = (struct tls_why){ "" };
}

static void identity_deinit(struct identity *identity)
{
    buf_deinit(&identity->chain);
    buf_deinit(&identity->key);
    *identity = (struct identity){ 0 };
}

static void teardown(void)
{
    buf_deinit(&roots);
    buf_deinit(&other_roots);
    roots = other_roots = (struct buf){ 0 };
    identity_deinit(&hub);
    identity_deinit(&client);
    identity_deinit(&stranger);
    identity_deinit(&late);
}

static struct tls_context *context_of(bool is_server,
                                      enum tls_version version,
                                      const struct buf *trusted,
                                      const struct identity *identity)
{
    const struct tls_context_options options = {
        .is_server = is_server,
        .min_version = version,
        .roots_pem = trusted ? buf_span(trusted) : (struct span){ 0 },
        .chain_pem = identity ? buf_span(&identity->chain) : (struct span){ 0 },
        .key_pem = identity ? buf_span(&identity->key) : (struct span){ 0 },
    };
    struct tls_context *context = NULL;

    ck_assert_msg(tls_context_new(&context, &options, &why) == 0, "%s", why.text);
    return context;
}

struct pair {
    struct tls_stream *server, *client;
    struct buf at_server, at_client; /* what was read */
    int server_r, client_r;          /* of the last read */
};

static void pair_init(struct pair *pair,
                      struct tls_context *take_server,
                      struct tls_context *take_client,
                      const char *host)
{
    *pair = (struct pair){ 0 };
    ck_assert_int_eq(tls_stream_new(&pair->server, take_server, NULL), 0);
    ck_assert_int_eq(tls_stream_new(&pair->client, take_client, host), 0);
    tls_context_unref(take_server);
    tls_context_unref(take_client);
}

static void pair_deinit(struct pair *pair)
{
    tls_stream_free(pair->server);
    tls_stream_free(pair->client);
    buf_deinit(&pair->at_server);
    buf_deinit(&pair->at_client);
}

/* Carries what waits, `step` bytes at a time, and reads there. False: nothing waited. */
static bool
carry(struct tls_stream *from, struct tls_stream *to, size_t step, struct buf *read, int *ret_r)
{
    struct span waiting = tls_stream_output(from);
    const size_t n = waiting.len < step ? waiting.len : step;
    char some[64];
    size_t len;

    ck_assert_int_eq(tls_stream_feed(to, span_of(waiting.data, n)), 0);
    tls_stream_output_taken(from, n);
    while ((*ret_r = tls_stream_read(to, some, sizeof(some), &len)) == 0)
        buf_append(read, some, len);
    return n > 0;
}

static void talk(struct pair *pair, size_t step)
{
    bool is_moving = true;

    pair->client_r = tls_stream_read(pair->client, (char[1]){ 0 }, 1, &(size_t){ 0 });
    while (is_moving) {
        is_moving = carry(pair->client, pair->server, step, &pair->at_server, &pair->server_r);
        is_moving |= carry(pair->server, pair->client, step, &pair->at_client, &pair->client_r);
    }
}

START_TEST(both_ends_say_and_hear_the_same)
{
    CLEANUP(pair_deinit) struct pair pair;
    char long_text[40000]; /* more than two records */
    const size_t step = _i == 0 ? SIZE_MAX : 1;

    pair_init(&pair, context_of(true, TLS_VERSION_1_2, &roots, &hub),
              context_of(false, TLS_VERSION_1_2, &roots, &client), "hub.example.org");
    talk(&pair, step);
    ck_assert(tls_stream_is_ready(pair.server) && tls_stream_is_ready(pair.client));
    memset(long_text, 'x', sizeof(long_text));
    ck_assert_int_eq(tls_stream_write(pair.client, span_of(long_text, sizeof(long_text))), 0);
    ck_assert_int_eq(tls_stream_write(pair.client, span_of_text("")), 0);
    ck_assert_int_eq(tls_stream_write(pair.server, span_of_text("hello")), 0);
    talk(&pair, step);
    ck_assert(span_equal(buf_span(&pair.at_server), span_of(long_text, sizeof(long_text))));
    ck_assert_str_eq(buf_text(&pair.at_client), "hello");
    tls_stream_end(pair.client);
    talk(&pair, step);
    ck_assert_int_eq(pair.server_r, TLS_STREAM_END);
}
END_TEST

START_TEST(a_server_knows_the_leaf_of_its_client)
{
    CLEANUP(pair_deinit) struct pair pair;
    CLEANUP(tls_cert_freep) struct tls_cert *leaf = NULL;
    CLEANUP(buf_deinit) struct buf der = { 0 };

    pair_init(&pair, context_of(true, TLS_VERSION_1_2, &roots, &hub),
              context_of(false, TLS_VERSION_1_2, &roots, &client), "127.0.0.1");
    talk(&pair, SIZE_MAX);
    ck_assert_int_eq(tls_cert_parse_pem(&leaf, buf_span(&client.chain)), 0);
    ck_assert_int_eq(tls_cert_print_der(leaf, &der), 0);
    ck_assert(span_equal(tls_stream_peer_certificate(pair.server), buf_span(&der)));
}
END_TEST

START_TEST(a_client_without_identity_gets_in_and_is_nobody)
{
    CLEANUP(pair_deinit) struct pair pair;

    pair_init(&pair, context_of(true, TLS_VERSION_1_2, &roots, &hub),
              context_of(false, TLS_VERSION_1_2, &roots, NULL), "hub.example.org");
    talk(&pair, SIZE_MAX);
    ck_assert(tls_stream_is_ready(pair.server));
    ck_assert_uint_eq(tls_stream_peer_certificate(pair.server).len, 0);
}
END_TEST

static void expect_refused_by_server(const struct identity *identity, const char *word)
{
    CLEANUP(pair_deinit) struct pair pair;

    pair_init(&pair, context_of(true, TLS_VERSION_1_2, &roots, &hub),
              context_of(false, TLS_VERSION_1_2, &roots, identity), "hub.example.org");
    talk(&pair, SIZE_MAX);
    ck_assert(!tls_stream_is_ready(pair.server));
    ck_assert_int_eq(pair.server_r, TLS_STREAM_BROKEN);
    ck_assert_msg(strstr(tls_stream_reason(pair.server), word), "%s",
                  tls_stream_reason(pair.server));
    /* The client is told. */
    ck_assert_int_eq(pair.client_r, TLS_STREAM_BROKEN);
    /* And it stays so. */
    ck_assert_int_eq(tls_stream_read(pair.server, (char[1]){ 0 }, 1, &(size_t){ 0 }),
                     TLS_STREAM_BROKEN);
}

START_TEST(a_certificate_of_another_authority_is_refused)
{
    expect_refused_by_server(&stranger, "certificate");
}
END_TEST

START_TEST(an_expired_certificate_is_refused)
{
    expect_refused_by_server(&late, "expired");
}
END_TEST

START_TEST(a_certificate_for_servers_alone_is_no_clients)
{
    CLEANUP(pair_deinit) struct pair pair;

    /* The other way round: an end that shows a client's certificate as a server. */
    pair_init(&pair, context_of(true, TLS_VERSION_1_2, &roots, &client),
              context_of(false, TLS_VERSION_1_2, &roots, NULL), "hub.example.org");
    talk(&pair, SIZE_MAX);
    ck_assert_int_eq(pair.client_r, TLS_STREAM_BROKEN);
}
END_TEST

static void expect_refused_by_client(const struct buf *trusted, const char *host)
{
    CLEANUP(pair_deinit) struct pair pair;

    pair_init(&pair, context_of(true, TLS_VERSION_1_2, &roots, &hub),
              context_of(false, TLS_VERSION_1_2, trusted, NULL), host);
    talk(&pair, SIZE_MAX);
    ck_assert_int_eq(pair.client_r, TLS_STREAM_BROKEN);
    ck_assert_msg(strstr(tls_stream_reason(pair.client), "certificate"), "%s",
                  tls_stream_reason(pair.client));
}

START_TEST(a_client_refuses_a_server_of_another_authority_name_or_address)
{
    expect_refused_by_client(&other_roots, "hub.example.org");
    expect_refused_by_client(&roots, "other.example.org");
    expect_refused_by_client(&roots, "127.0.0.2");
}
END_TEST

START_TEST(what_is_no_tls_breaks_the_stream)
{
    struct tls_context *context = context_of(true, TLS_VERSION_1_2, &roots, &hub);
    CLEANUP(tls_stream_freep) struct tls_stream *stream = NULL;
    char some[16];
    size_t len;

    ck_assert_int_eq(tls_stream_new(&stream, context, NULL), 0);
    tls_context_unref(context);
    ck_assert_int_eq(tls_stream_feed(stream, span_of_text("GET / HTTP/1.1\r\n\r\n")), 0);
    ck_assert_int_eq(tls_stream_read(stream, some, sizeof(some), &len), TLS_STREAM_BROKEN);
    ck_assert_str_eq(tls_stream_reason(stream), "HTTP_REQUEST");
}
END_TEST

START_TEST(material_that_does_not_belong_together_is_refused)
{
    struct tls_context *context = NULL;
    struct tls_context_options options = { .is_server = true,
                                           .roots_pem = buf_span(&roots),
                                           .chain_pem = buf_span(&hub.chain),
                                           .key_pem = buf_span(&client.key) };

    ck_assert_int_eq(tls_context_new(&context, &options, &why), TLS_MISMATCH);
    options.key_pem = span_of_text("nothing");
    ck_assert_int_eq(tls_context_new(&context, &options, &why), TLS_BAD);
    options.key_pem = buf_span(&hub.key);
    options.roots_pem = span_of_text("nothing");
    ck_assert_int_eq(tls_context_new(&context, &options, &why), TLS_BAD);
    options.roots_pem = buf_span(&roots);
    options.chain_pem = (struct span){ 0 };
    ck_assert_int_eq(tls_context_new(&context, &options, &why), TLS_BAD);
    ck_assert_ptr_null(context);
    options = (struct tls_context_options){ .is_server = false };
    ck_assert_int_eq(tls_context_new(&context, &options, &why), TLS_BAD);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/tls/stream");
    TCase *tc = tcase_create("stream");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, both_ends_say_and_hear_the_same, 0, 2);
    tcase_add_test(tc, a_server_knows_the_leaf_of_its_client);
    tcase_add_test(tc, a_client_without_identity_gets_in_and_is_nobody);
    tcase_add_test(tc, a_certificate_of_another_authority_is_refused);
    tcase_add_test(tc, an_expired_certificate_is_refused);
    tcase_add_test(tc, a_certificate_for_servers_alone_is_no_clients);
    tcase_add_test(tc, a_client_refuses_a_server_of_another_authority_name_or_address);
    tcase_add_test(tc, what_is_no_tls_breaks_the_stream);
    tcase_add_test(tc, material_that_does_not_belong_together_is_refused);
    suite_add_tcase(s, tc);
    return s;
}
