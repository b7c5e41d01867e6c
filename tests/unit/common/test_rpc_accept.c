/* SPDX-License-Identifier: Apache-2.0 */

/* The door of rpc/server: who is let in, how long a handshake may take, what proxies say. */

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/file.h"
#include "suite.h"
#include "test_rpc_rig.h"

#define N_SILENT 400

static struct rig rig;
static struct stream stream;
static struct authority ours;
static struct identity hub, agent;
static struct rpc_credentials *hub_credentials, *agent_credentials, *nobody_credentials;

static void setup(void)
{
    ck_assert_int_eq(rpc_init(), 0);
    authority_init(&ours, "our root");
    identity_init(&hub, &ours, TLS_SERVER, "hub");
    identity_init(&agent, &ours, TLS_CLIENT, "agent");
    hub_credentials = make_credentials(true, &ours, &hub);
    agent_credentials = make_credentials(false, &ours, &agent);
    nobody_credentials = make_credentials(false, &ours, NULL);
}

static void teardown(void)
{
    hub_credentials = rpc_credentials_free(hub_credentials);
    agent_credentials = rpc_credentials_free(agent_credentials);
    nobody_credentials = rpc_credentials_free(nobody_credentials);
    identity_deinit(&hub);
    identity_deinit(&agent);
    authority_deinit(&ours);
    rpc_deinit();
}

static void start(struct rig_options options)
{
    if (!options.server)
        options.server = hub_credentials;
    if (!options.client)
        options.client = agent_credentials;
    rig_start(&rig, &options);
}

static struct rpc_accept_stats stats(void)
{
    struct rpc_accept_stats stats;

    rpc_server_accept_stats(rig.server, &stats);
    return stats;
}

static uint64_t n_failed(void)
{
    struct rpc_accept_stats now = stats();

    return rpc_accept_failed(&now);
}

#define n_result(id) (stats().n_results[RPC_HANDSHAKE_##id])

/* Returns the status code of a call. */
static int ask(struct rpc_channel *channel, const char *path)
{
    int code;

    stream_open(&stream, channel, path, 10000000);
    stream_send(&stream, "");
    rig_until(&rig, stream.is_closed);
    code = stream.code;
    rpc_client_call_unref(stream.call);
    return code;
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *) &address, sizeof(address)), 0);
    return fd;
}

static int connect_raw(struct span bytes)
{
    int fd = connect_to(rpc_server_port(rig.server));

    if (bytes.len)
        ck_assert_int_eq(send(fd, bytes.data, bytes.len, MSG_NOSIGNAL), (ssize_t) bytes.len);
    return fd;
}

static void until_closed(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    char byte;

    rig_until(&rig, poll(&poll_fd, 1, 0) > 0);
    ck_assert_int_le(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

/* What a client begins with, and half of what it announces. */
static const uint8_t half_a_hello[] = {
    0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 'h', 'a', 'l', 'f'
};
static const uint8_t proxy_v4[] = {
    '\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T',  '\n', 0x21, 0x11,
    0,    12,   192,  0,    2, 7,    10,   0,   0,   1,   0xa1, 0x12, 0x1f, 0x92,
};

/* ---- handshakes ---- */

START_TEST(a_handshake_that_finishes_is_counted_and_the_connection_while_it_lasts)
{
    struct rpc_channel *second;

    start((struct rig_options){ 0 });
    ck_assert_int_eq(ask(rig.channel, "/t/Cert"), RPC_OK);
    ck_assert_uint_eq(n_result(FINISHED), 1);
    second = rig_channel(&rig, nobody_credentials, NULL);
    ck_assert_int_eq(ask(second, "/t/Cert"), RPC_OK);
    ck_assert_uint_eq(n_result(FINISHED), 2);
    ck_assert_uint_eq(stats().n_connections_now, 2);
    ck_assert_uint_eq(stats().n_handshakes_now, 0);
    rpc_channel_free(second);
    rig_until(&rig, stats().n_connections_now == 1);
    rig_stop(&rig);
}
END_TEST

START_TEST(silence_and_half_a_hello_are_ended_in_time)
{
    int silent, half;

    start((struct rig_options){ .accept.handshake_timeout_us = 200000 });
    silent = connect_raw(span_of(NULL, 0));
    half = connect_raw(span_of(half_a_hello, sizeof(half_a_hello)));
    rig_until(&rig, n_result(TIMED_OUT) == 2);
    until_closed(silent);
    until_closed(half);
    ck_assert_uint_eq(stats().n_connections_now, 0);
    rig_stop(&rig);
}
END_TEST

/* A whole ClientHello goes to core, and what does not go on from there is ended too. */
START_TEST(a_handshake_that_stops_in_the_middle_is_ended_in_time)
{
    static const uint8_t hello[] = {
        0x16, 3,  1,    0,    49,    /* handshake, 49 bytes */
        1,    0,  0,    200,  3,  3, /* ClientHello, TLS 1.2, that goes on in another record */
        1,    2,  3,    4,    5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
        17,   18, 19,   20,   21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, /* random */
        0,                                                                    /* no session */
        0,    2,  0xc0, 0x2b, /* ECDHE-ECDSA-AES128-GCM-SHA256 */
        1,    0,              /* no compression */
        0,    2,  0,    0,    /* something that reads like extensions */
    };
    int fd;

    start((struct rig_options){ .accept.handshake_timeout_us = 300000 });
    fd = connect_raw(span_of(hello, sizeof(hello)));
    rig_until(&rig, n_result(TIMED_OUT) == 1 && stats().n_connections_now == 0);
    ck_assert_uint_eq(n_result(FINISHED), 0);
    until_closed(fd);
    rig_stop(&rig);
}
END_TEST

START_TEST(a_crowd_of_half_open_handshakes_keeps_nobody_out)
{
    static int fds[N_SILENT];

    start((struct rig_options){ .accept.max_handshakes = 16 });
    for (int i = 0; i < N_SILENT; i++)
        fds[i] =
            connect_raw(i % 2 ? span_of(half_a_hello, sizeof(half_a_hello)) : span_of(NULL, 0));
    ck_assert_int_eq(ask(rig.channel, "/t/Cert"), RPC_OK);
    ck_assert_uint_ge(n_result(CROWDED_OUT), N_SILENT - 16);
    ck_assert_uint_le(stats().n_handshakes_now, 16);
    for (int i = 0; i < N_SILENT; i++)
        close(fds[i]);
    rig_until(&rig, stats().n_connections_now == 1);
    rig_stop(&rig);
}
END_TEST

START_TEST(what_is_no_tls_is_closed_at_once)
{
    static const char *const first[] = { "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n",
                                         "\x16\x02garbage", "\x16\x03\x01\xff\xff long" };

    start((struct rig_options){ 0 });
    for (unsigned i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
        until_closed(connect_raw(span_of_text(first[i])));
        rig_until(&rig, n_result(NOT_TLS) == i + 1);
    }
    close(connect_raw(span_of(half_a_hello, sizeof(half_a_hello))));
    rig_until(&rig, n_result(CLOSED) == 1);
    rig_stop(&rig);
}
END_TEST

START_TEST(connections_above_the_limit_are_refused)
{
    struct rpc_channel *second;

    start((struct rig_options){ .accept.max_connections = 1 });
    ck_assert_int_eq(ask(rig.channel, "/t/Cert"), RPC_OK);
    second = rig_channel(&rig, nobody_credentials, NULL);
    ck_assert_int_eq(ask(second, "/t/Cert"), RPC_UNAVAILABLE);
    ck_assert_uint_ge(stats().n_refused_limit, 1);
    rpc_server_set_accept(rig.server, &(struct rpc_accept_limits){ .max_connections = 2 }, NULL);
    rpc_channel_free(second);
    second = rig_channel(&rig, nobody_credentials, NULL);
    ck_assert_int_eq(ask(second, "/t/Cert"), RPC_OK);
    rpc_channel_free(second);
    rig_stop(&rig);
}
END_TEST

START_TEST(a_server_that_stops_ends_those_that_wait_and_calls_it_no_failure)
{
    int silent;

    start((struct rig_options){ 0 });
    silent = connect_raw(span_of(NULL, 0));
    rig_until(&rig, stats().n_handshakes_now == 1);
    rpc_server_stop(rig.server);
    until_closed(silent);
    rig_until(&rig, stats().n_connections_now == 0);
    ck_assert_uint_eq(n_failed(), 0);
    rig_stop(&rig);
}
END_TEST

/* ---- the door ---- */

static atomic_uint n_asked, n_strangers;
static atomic_int verdict;

static enum rpc_admission on_may_enter(void *ctx, const char *peer, int64_t *ret_delay_us)
{
    ck_assert_ptr_eq(ctx, &rig);
    ck_assert(strncmp(peer, "127.0.0.1:", 10) == 0 || strcmp(peer, "192.0.2.7:41234") == 0);
    n_asked++;
    *ret_delay_us = 1000;
    return (enum rpc_admission) verdict;
}

static void on_stranger(void *ctx, const char *peer)
{
    ck_assert_ptr_eq(ctx, &rig);
    ck_assert(strncmp(peer, "127.0.0.1:", 10) == 0);
    n_strangers++;
}

static const struct rpc_door door = { .may_enter = on_may_enter,
                                      .on_stranger = on_stranger,
                                      .ctx = &rig };

START_TEST(the_door_refuses_an_address)
{
    verdict = RPC_REFUSE;
    start((struct rig_options){ .door = door });
    until_closed(connect_raw(span_of(NULL, 0)));
    ck_assert_int_eq(ask(rig.channel, "/t/Cert"), RPC_UNAVAILABLE);
    ck_assert_uint_ge(stats().n_refused_address, 2);
    ck_assert_uint_eq(n_strangers, 0);
    ck_assert_uint_eq(stats().n_connections_now, 0);
    rig_stop(&rig);
}
END_TEST

START_TEST(the_door_lets_an_address_in_later)
{
    verdict = RPC_ADMIT_LATER;
    start((struct rig_options){ .door = door });
    ck_assert_int_eq(ask(rig.channel, "/t/Cert"), RPC_OK);
    ck_assert_uint_eq(stats().n_delayed, 1);
    ck_assert_uint_eq(n_asked, 1);
    rig_stop(&rig);
}
END_TEST

START_TEST(only_connections_without_a_good_certificate_are_strangers)
{
    struct rpc_channel *second;

    verdict = RPC_ADMIT;
    start((struct rig_options){ .door = door });
    ck_assert_int_eq(ask(rig.channel, "/t/Cert"), RPC_OK);
    ck_assert_uint_eq(n_strangers, 0);
    second = rig_channel(&rig, nobody_credentials, NULL);
    ck_assert_int_eq(ask(second, "/t/Cert"), RPC_OK);
    ck_assert_uint_eq(n_strangers, 1);
    until_closed(connect_raw(span_of_text("no TLS at all")));
    rig_until(&rig, n_strangers == 2);
    rpc_channel_free(second);
    rig_stop(&rig);
}
END_TEST

/* ---- proxies ---- */

/* A proxy: what comes to `listener` goes to the server behind a header, and back. */
struct relay {
    pthread_t thread;
    int listener, wakeup[2];
    uint16_t port, server_port;
};

static void pump(int from, int to)
{
    char bytes[4096];
    ssize_t n = recv(from, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (n > 0)
        ck_assert_int_eq(send(to, bytes, (size_t) n, MSG_NOSIGNAL), n);
    else if (n == 0)
        (void) shutdown(to, SHUT_WR);
}

static void *relay_main(void *arg)
{
    struct relay *relay = arg;
    int client = accept(relay->listener, NULL, NULL);
    int server = connect_to(relay->server_port);
    struct pollfd fds[] = { { .fd = client, .events = POLLIN },
                            { .fd = server, .events = POLLIN },
                            { .fd = relay->wakeup[0], .events = POLLIN } };

    /* One byte at a time: the header comes in pieces. */
    for (size_t i = 0; i < sizeof(proxy_v4); i++)
        ck_assert_int_eq(send(server, proxy_v4 + i, 1, MSG_NOSIGNAL), 1);
    while (poll(fds, 3, -1) > 0 && !fds[2].revents) {
        if (fds[0].revents)
            pump(client, server);
        if (fds[1].revents)
            pump(server, client);
    }
    close(client);
    close(server);
    return NULL;
}

static void relay_start(struct relay *relay)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);

    relay->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(relay->listener, (const struct sockaddr *) &address, len), 0);
    ck_assert_int_eq(listen(relay->listener, 4), 0);
    ck_assert_int_eq(getsockname(relay->listener, (struct sockaddr *) &address, &len), 0);
    relay->port = ntohs(address.sin_port);
    relay->server_port = rpc_server_port(rig.server);
    ck_assert_int_eq(pipe(relay->wakeup), 0);
    ck_assert_int_eq(pthread_create(&relay->thread, NULL, relay_main, relay), 0);
}

static void relay_stop(struct relay *relay)
{
    ck_assert_int_eq(write(relay->wakeup[1], "", 1), 1);
    pthread_join(relay->thread, NULL);
    close(relay->listener);
    close(relay->wakeup[0]);
    close(relay->wakeup[1]);
}

START_TEST(calls_see_the_client_of_a_trusted_proxy)
{
    struct rpc_channel *channel;
    struct peer_nets nets;
    struct relay relay;

    verdict = RPC_ADMIT;
    ck_assert_int_eq(peer_nets_parse("127.0.0.0/8", &nets), 0);
    start((struct rig_options){ .trusted_proxies = &nets, .door = door });
    relay_start(&relay);
    (void) snprintf(rig.target, sizeof(rig.target), "127.0.0.1:%u", relay.port);
    channel = rig_channel(&rig, agent_credentials, NULL);
    ck_assert_int_eq(ask(channel, "/t/Peer"), RPC_OK);
    ck_assert(span_equal(span_of(stream.last, stream.last_len), span_of_text("192.0.2.7:41234")));
    ck_assert_uint_eq(n_asked, 1);
    rpc_channel_free(channel);
    relay_stop(&relay);
    rig_stop(&rig);
}
END_TEST

START_TEST(a_trusted_proxy_must_send_a_header_and_others_must_not)
{
    struct peer_nets nets;

    start((struct rig_options){ 0 });
    until_closed(connect_raw(span_of(proxy_v4, sizeof(proxy_v4))));
    rig_until(&rig, n_result(PROXY_FORBIDDEN) == 1);
    ck_assert_int_eq(peer_nets_parse("127.0.0.1", &nets), 0);
    rpc_server_set_accept(rig.server, &(struct rpc_accept_limits){ 0 }, &nets);
    until_closed(connect_raw(span_of(half_a_hello, sizeof(half_a_hello))));
    rig_until(&rig, n_result(PROXY_MISSING) == 1);
    ck_assert_int_eq(ask(rig.channel, "/t/Peer"), RPC_UNAVAILABLE);
    rig_stop(&rig);
}
END_TEST

START_TEST(results_have_names_that_stay)
{
    ck_assert_str_eq(rpc_handshake_name(RPC_HANDSHAKE_FINISHED), "finished");
    ck_assert_str_eq(rpc_handshake_name(RPC_HANDSHAKE_UNKNOWN_CA), "unknown_ca");
    ck_assert_str_eq(rpc_handshake_name(RPC_HANDSHAKE_NO_HTTP2), "no_http2");
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/rpc_accept");
    TCase *tc = tcase_create("handshakes");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_handshake_that_finishes_is_counted_and_the_connection_while_it_lasts);
    tcase_add_test(tc, silence_and_half_a_hello_are_ended_in_time);
    tcase_add_test(tc, a_handshake_that_stops_in_the_middle_is_ended_in_time);
    tcase_add_test(tc, a_crowd_of_half_open_handshakes_keeps_nobody_out);
    tcase_add_test(tc, what_is_no_tls_is_closed_at_once);
    tcase_add_test(tc, connections_above_the_limit_are_refused);
    tcase_add_test(tc, a_server_that_stops_ends_those_that_wait_and_calls_it_no_failure);
    tcase_add_test(tc, results_have_names_that_stay);
    suite_add_tcase(s, tc);

    tc = tcase_create("door");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, the_door_refuses_an_address);
    tcase_add_test(tc, the_door_lets_an_address_in_later);
    tcase_add_test(tc, only_connections_without_a_good_certificate_are_strangers);
    suite_add_tcase(s, tc);

    tc = tcase_create("proxies");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, calls_see_the_client_of_a_trusted_proxy);
    tcase_add_test(tc, a_trusted_proxy_must_send_a_header_and_others_must_not);
    suite_add_tcase(s, tc);
    return s;
}
