/* SPDX-License-Identifier: Apache-2.0 */
#include "test_rpc_rig.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- handlers ---- */

static struct rig *rig_of(const struct rpc_call *call)
{
    return rpc_call_ctx(call);
}

static void finish(struct rpc_call *call, int code, const char *message)
{
    rpc_call_finish(call, &(struct rpc_status){ .code = code, .message = message });
}

static void on_open(struct rpc_call *call)
{
    rig_of(call)->n_opened++;
    rig_of(call)->deadline_us = rpc_call_deadline(call).us;
    rpc_call_read(call);
}

static void on_closed(struct rpc_call *call, bool was_cancelled)
{
    free(rpc_call_state(call));
    rpc_call_set_state(call, NULL);
    if (was_cancelled)
        rig_of(call)->n_cancelled++;
    rig_of(call)->n_closed++;
}

static void on_drain(struct rpc_call *call)
{
    rig_of(call)->n_drained++;
    finish(call, RPC_UNAVAILABLE, "draining");
}

static void ignore_message(struct rpc_call *call, struct span message)
{
    (void) message;
    rpc_call_read(call);
}

static void hang_half_close(struct rpc_call *call)
{
    rig_of(call)->n_half_closed++;
}

static void echo_message(struct rpc_call *call, struct span message)
{
    ck_assert_int_eq(rpc_call_send(call, message), 0);
    rpc_call_read(call);
}

static void echo_half_close(struct rpc_call *call)
{
    rig_of(call)->n_half_closed++;
    finish(call, RPC_OK, NULL);
}

struct count {
    unsigned n;
};

static void count_open(struct rpc_call *call)
{
    rpc_call_set_state(call, calloc(1, sizeof(struct count)));
    on_open(call);
}

static void count_message(struct rpc_call *call, struct span message)
{
    struct count *count = rpc_call_state(call);

    (void) message;
    count->n++;
    rpc_call_read(call);
}

static void count_half_close(struct rpc_call *call)
{
    struct count *count = rpc_call_state(call);
    char text[32];

    snprintf(text, sizeof(text), "%u", count->n);
    ck_assert_int_eq(rpc_call_send(call, span_of_text(text)), 0);
    finish(call, RPC_OK, NULL);
}

struct emit {
    unsigned n_left;
    size_t size;
};

static void emit_more(struct rpc_call *call)
{
    struct emit *emit = rpc_call_state(call);
    static const uint8_t zeros[1 << 20];

    while (emit->n_left) {
        int r = rpc_call_send(call, span_of(zeros, emit->size));

        if (r == RPC_QUEUE_FULL) {
            rig_of(call)->n_full++;
            return;
        }
        ck_assert_int_eq(r, 0);
        emit->n_left--;
    }
    finish(call, RPC_OK, NULL);
}

static void emit_message(struct rpc_call *call, struct span message)
{
    struct emit *emit = calloc(1, sizeof(*emit));
    char text[64] = { 0 };

    memcpy(text, message.data, message.len);
    ck_assert_int_eq(sscanf(text, "%u %zu", &emit->n_left, &emit->size), 2);
    rpc_call_set_state(call, emit);
    emit_more(call);
}

static void emit_writable(struct rpc_call *call)
{
    rig_of(call)->n_writable++;
    emit_more(call);
}

/* So many messages, which are taken back before the call ends. */
static void withdraw_message(struct rpc_call *call, struct span message)
{
    unsigned n_messages = 0;
    char text[64] = { 0 };

    memcpy(text, message.data, message.len);
    ck_assert_int_eq(sscanf(text, "%u", &n_messages), 1);
    for (unsigned i = 0; i < n_messages; i++)
        ck_assert_int_eq(rpc_call_send(call, span_of_text("an answer")), 0);
    ck_assert_uint_gt(rpc_call_queued(call), 0);
    rpc_call_discard(call);
    ck_assert_uint_eq(rpc_call_queued(call), 0);
    finish(call, RPC_UNAUTHENTICATED, "no more");
}

static void cert_message(struct rpc_call *call, struct span message)
{
    struct span first = rpc_call_peer_certificate(call);
    struct span again = rpc_call_peer_certificate(call);

    (void) message;
    ck_assert(span_equal(first, again));
    ck_assert(strncmp(rpc_call_peer(call), "127.0.0.1:", 10) == 0);
    ck_assert_int_eq(rpc_call_send(call, first), 0);
    finish(call, RPC_OK, NULL);
}

static void peer_message(struct rpc_call *call, struct span message)
{
    (void) message;
    ck_assert_int_eq(rpc_call_send(call, span_of_text(rpc_call_peer(call))), 0);
    finish(call, RPC_OK, NULL);
}

static void header_message(struct rpc_call *call, struct span message)
{
    char key[64] = { 0 };

    ck_assert_uint_lt(message.len, sizeof(key));
    if (message.len)
        memcpy(key, message.data, message.len);
    ck_assert_uint_eq(rpc_call_header(call, "no-such-header").len, 0);
    ck_assert_int_eq(rpc_call_send(call, rpc_call_header(call, key)), 0);
    finish(call, RPC_OK, NULL);
}

static void fail_message(struct rpc_call *call, struct span message)
{
    rpc_call_finish(call, &(struct rpc_status){
                              .code = RPC_NOT_FOUND,
                              .message = "no such thing \xc3\xa9",
                              .details = message,
                          });
    /* Over: these do nothing. */
    finish(call, RPC_OK, NULL);
    ck_assert_int_eq(rpc_call_send(call, message), RPC_CLOSED);
    ck_assert(!rpc_call_is_open(call));
}

static void keep_open(struct rpc_call *call)
{
    rig_of(call)->kept = rpc_call_ref(call);
    on_open(call);
}

static const struct {
    const char *path;
    struct rpc_handler handler;
} methods[] = {
    { "/t/Echo",
      { .on_open = on_open,
        .on_message = echo_message,
        .on_half_close = echo_half_close,
        .on_closed = on_closed } },
    { "/t/Count",
      { .on_open = count_open,
        .on_message = count_message,
        .on_half_close = count_half_close,
        .on_closed = on_closed } },
    { "/t/Emit",
      { .on_open = on_open,
        .on_message = emit_message,
        .on_writable = emit_writable,
        .on_closed = on_closed } },
    { "/t/Withdraw",
      { .on_open = on_open, .on_message = withdraw_message, .on_closed = on_closed } },
    { "/t/Cert", { .on_open = on_open, .on_message = cert_message, .on_closed = on_closed } },
    { "/t/Peer", { .on_open = on_open, .on_message = peer_message, .on_closed = on_closed } },
    { "/t/Header", { .on_open = on_open, .on_message = header_message, .on_closed = on_closed } },
    { "/t/Fail", { .on_open = on_open, .on_message = fail_message, .on_closed = on_closed } },
    { "/t/Hang",
      { .on_open = on_open,
        .on_message = ignore_message,
        .on_half_close = hang_half_close,
        .on_drain = on_drain,
        .on_closed = on_closed } },
    { "/t/Keep", { .on_open = keep_open, .on_message = ignore_message, .on_closed = on_closed } },
};

static const struct rpc_handler *route(void *ctx, const char *path, const void **ret_method)
{
    (void) ctx;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].path, path) == 0) {
            *ret_method = &methods[i];
            return &methods[i].handler;
        }
    }
    return NULL;
}

/* ---- rig ---- */

struct rpc_server_options rig_server_options(struct rig *rig, const struct rig_options *options)
{
    return (struct rpc_server_options){
        .address = "127.0.0.1:0",
        .credentials = options->server,
        .n_threads = options->n_threads ? options->n_threads : 1,
        .max_message_bytes = options->max_message_bytes ? options->max_message_bytes : 4u << 20,
        .max_streams_per_connection = 1000,
        .keepalive_interval_us = 60000000,
        .keepalive_timeout_us = 20000000,
        .min_ping_interval_us = 10000000,
        .send_queue_bytes = options->send_queue_bytes ? options->send_queue_bytes : 1u << 20,
        .accept = options->accept,
        .trusted_proxies = options->trusted_proxies,
        .door = options->door,
        .route = route,
        .ctx = rig,
    };
}

struct rpc_channel *
rig_channel(struct rig *rig, struct rpc_credentials *credentials, const char *server_name)
{
    struct rpc_channel *channel;

    ck_assert_int_eq(rpc_channel_new(&channel, rig->queue,
                                     &(struct rpc_channel_options){
                                         .target = rig->target,
                                         .credentials = credentials,
                                         .server_name = server_name,
                                     }),
                     0);
    return channel;
}

void rig_start(struct rig *rig, const struct rig_options *options)
{
    struct rpc_server_options server_options = rig_server_options(rig, options);

    ck_assert_int_eq(rpc_server_new(&rig->server, &server_options), 0);
    ck_assert_int_eq(rpc_server_start(rig->server), 0);
    snprintf(rig->target, sizeof(rig->target), "127.0.0.1:%u", rpc_server_port(rig->server));
    ck_assert_int_eq(loop_new(&rig->loop), 0);
    ck_assert_int_eq(rpc_queue_new(&rig->queue, rig->loop), 0);
    rig->channel = rig_channel(rig, options->client, options->server_name);
}

void rig_stop(struct rig *rig)
{
    rig->channel = rpc_channel_free(rig->channel);
    rig->queue = rpc_queue_free(rig->queue);
    rig->loop = loop_free(rig->loop);
    rig->server = rpc_server_free(rig->server);
}

/* ---- a server of a few bytes ---- */

int rig_accept(struct rig *rig, int listener)
{
    static const uint8_t settings[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 }; /* none */
    int fd = -1;

    rig_until(rig, (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    ck_assert_int_eq(write(fd, settings, sizeof(settings)), sizeof(settings));
    return fd;
}

int rig_listen(struct rig *rig)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(address);

    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, len), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &address, &len), 0);
    snprintf(rig->target, sizeof(rig->target), "127.0.0.1:%u", (unsigned) ntohs(address.sin_port));
    return fd;
}

/* ---- client ---- */

static void stream_message(struct rpc_client_call *call, struct span message)
{
    struct stream *stream = rpc_client_call_ctx(call);

    stream->n_received++;
    stream->n_bytes += message.len;
    stream->last_len = message.len < sizeof(stream->last) ? message.len : sizeof(stream->last);
    if (stream->last_len)
        memcpy(stream->last, message.data, stream->last_len);
    if (!stream->is_paused)
        rpc_client_call_read(call);
}

static void stream_writable(struct rpc_client_call *call)
{
    struct stream *stream = rpc_client_call_ctx(call);

    stream->n_writable++;
}

static void stream_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct stream *stream = rpc_client_call_ctx(call);

    ck_assert(!stream->is_closed);
    stream->is_closed = true;
    stream->code = status->code;
    snprintf(stream->message, sizeof(stream->message), "%s", status->message);
    ck_assert_uint_le(status->details.len, sizeof(stream->details));
    stream->details_len = status->details.len;
    if (status->details.len)
        memcpy(stream->details, status->details.data, status->details.len);
}

static const struct rpc_client_handler stream_handler = {
    .on_message = stream_message,
    .on_writable = stream_writable,
    .on_closed = stream_closed,
};

void stream_open(struct stream *stream,
                 struct rpc_channel *channel,
                 const char *path,
                 int64_t timeout_us)
{
    memset(stream, 0, sizeof(*stream));
    ck_assert_int_eq(rpc_client_call_new(&stream->call, channel,
                                         &(struct rpc_client_call_options){
                                             .path = path,
                                             .timeout_us = timeout_us,
                                             .handler = &stream_handler,
                                             .ctx = stream,
                                         }),
                     0);
    rpc_client_call_read(stream->call);
}

void stream_send(struct stream *stream, const char *text)
{
    ck_assert_int_eq(rpc_client_call_send(stream->call, span_of_text(text)), 0);
}

/* ---- certificates ---- */

#define DAY_US (86400 * INT64_C(1000000))

static wall_us in_days(int days)
{
    return (wall_us){ clock_wall().us + days * DAY_US };
}

void authority_init(struct authority *authority, const char *name)
{
    struct tls_request request = {
        .profile = TLS_ROOT,
        .common_name = name,
        .not_before = in_days(-1),
        .not_after = in_days(30),
    };

    memset(authority, 0, sizeof(*authority));
    ck_assert_int_eq(tls_key_new(&authority->key), 0);
    ck_assert_int_eq(
        tls_cert_issue(&authority->cert, &request, authority->key, NULL, authority->key), 0);
    ck_assert_int_eq(tls_cert_print(authority->cert, &authority->pem), 0);
}

void authority_deinit(struct authority *authority)
{
    authority->key = tls_key_free(authority->key);
    authority->cert = tls_cert_free(authority->cert);
    buf_deinit(&authority->pem);
}

void identity_init(struct identity *identity,
                   const struct authority *authority,
                   enum tls_profile profile,
                   const char *name)
{
    static const char *const names[] = { "127.0.0.1", "localhost", NULL };
    struct tls_request request = {
        .profile = profile,
        .common_name = name,
        .names = profile == TLS_SERVER ? names : NULL,
        .not_before = in_days(-1),
        .not_after = in_days(30),
    };
    CLEANUP(tls_key_freep) struct tls_key *key = NULL;
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct tls_facts facts;

    memset(identity, 0, sizeof(*identity));
    ck_assert_int_eq(tls_key_new(&key), 0);
    ck_assert_int_eq(tls_cert_issue(&cert, &request, key, authority->cert, authority->key), 0);
    ck_assert_int_eq(tls_cert_print(cert, &identity->chain_pem), 0);
    ck_assert_int_eq(tls_key_print(key, &identity->key_pem), 0);
    ck_assert_int_eq(tls_cert_read(cert, &facts), 0);
    memcpy(identity->sha256, facts.sha256, sizeof(identity->sha256));
}

void identity_deinit(struct identity *identity)
{
    buf_deinit(&identity->chain_pem);
    buf_deinit(&identity->key_pem);
}

struct rpc_credentials *
make_credentials(bool is_server, const struct authority *trusted, const struct identity *identity)
{
    struct rpc_credentials_options options = {
        .is_server = is_server,
        .min_version = RPC_TLS_1_3,
        .roots_pem = buf_span(&trusted->pem),
    };
    struct rpc_credentials *credentials;

    if (identity) {
        options.chain_pem = buf_span(&identity->chain_pem);
        options.key_pem = buf_span(&identity->key_pem);
    }
    ck_assert_int_eq(rpc_credentials_new(&credentials, &options), 0);
    return credentials;
}
