/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/uplink/connection.h"
#include "agent/uplink/encode.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"

/*
 * test-connection: the steps of a connection one by one, each with what to do about it. The last
 * one is a real stream.
 */

#define TCP_TIMEOUT_MS 5000
#define HELLO_TIMEOUT_US INT64_C(15000000)
/* The last quarter of a certificate's life is when it is time to worry. */
#define SOON_SHARE 4

struct probe {
    const struct uplink_options *options;
    struct uplink_probe *to;
    struct tls_identity identity;
    char host[256];
    char port[16];
    struct addrinfo *addresses;
};

static struct uplink_check *
add_check(struct probe *probe, const char *name, enum uplink_verdict verdict)
{
    struct uplink_check *check = &probe->to->checks[probe->to->n_checks++];

    *check = (struct uplink_check){ .name = name, .verdict = verdict };
    return check;
}

PRINTF_LIKE(2, 3) static void say(char (*to)[320], const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(*to, sizeof(*to), fmt, args);
    va_end(args);
}

static void advise(struct uplink_check *check, const char *remedy)
{
    snprintf(check->remedy, sizeof(check->remedy), "%s", remedy);
}

/* ---- here ---- */

static bool check_identity(struct probe *probe)
{
    struct tls_why why = { "" };
    int r = tls_identity_load(probe->options->identity, &probe->identity, &why);
    struct uplink_check *check = add_check(probe, "identity", r ? UPLINK_FAILED : UPLINK_PASSED);

    say(&check->detail, "%s", r ? why.text : probe->options->identity);
    if (r)
        advise(check,
               r == TLS_ABSENT
                   ? "`sentinel-agent enroll` gets one; or name its directory with --identity"
                   : "mend it as said, or `sentinel-agent enroll` again");
    return r == 0;
}

static void check_dates(struct probe *probe)
{
    CLEANUP(tls_cert_freep) struct tls_cert *cert = NULL;
    struct uplink_check *check = add_check(probe, "certificate", UPLINK_FAILED);
    char from[TEXT_TIME_BYTES], until[TEXT_TIME_BYTES];
    int64_t now_us = clock_wall().us;
    struct tls_facts facts;

    if (tls_cert_parse_pem(&cert, buf_span(&probe->identity.chain_pem)) ||
        tls_cert_read(cert, &facts)) {
        say(&check->detail, "client-cert.pem cannot be read");
        advise(check, "enrol this agent again");
        return;
    }
    say(&check->detail, "%s of %s, valid from %s until %s", facts.common_name,
        facts.organisation[0] ? facts.organisation : "no organisation",
        text_of_time(facts.not_before, from), text_of_time(facts.not_after, until));
    if (now_us < facts.not_before.us) {
        advise(check, "it is not valid yet: set this machine's clock");
    } else if (now_us >= facts.not_after.us) {
        advise(check, "it has expired: the running agent asks the hub to renew it; when its grace "
                      "is over: sentinelctl agents readmit, or sentinel-agent enroll");
    } else if ((facts.not_after.us - now_us) * SOON_SHARE <
               facts.not_after.us - facts.not_before.us) {
        check->verdict = UPLINK_WARNED;
        advise(check, "little of its time is left: the running agent renews it; see "
                      "`sentinel-agent status`");
    } else {
        check->verdict = UPLINK_PASSED;
    }
}

/* ---- the way there ---- */

static bool split_target(const char *hub, char host[static 256], char port[static 16])
{
    const char *colon = strrchr(hub, ':');
    size_t len = colon ? (size_t) (colon - hub) : 0;

    if (len == 0 || len >= 256 || strlen(colon + 1) == 0 || strlen(colon + 1) >= 16)
        return false;
    if (hub[0] == '[' && hub[len - 1] == ']') {
        hub++;
        len -= 2;
    }
    memcpy(host, hub, len);
    host[len] = '\0';
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

static void print_address(const struct addrinfo *address, char *to, size_t size)
{
    if (getnameinfo(address->ai_addr, address->ai_addrlen, to, (socklen_t) size, NULL, 0,
                    NI_NUMERICHOST) != 0)
        snprintf(to, size, "?");
}

static bool check_dns(struct probe *probe)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct uplink_check *check = add_check(probe, "dns", UPLINK_FAILED);
    char text[64];
    size_t n = 0;
    int r;

    if (!split_target(probe->options->hub, probe->host, probe->port)) {
        say(&check->detail, "`%s` is not HOST:PORT", probe->options->hub);
        advise(check, "name the hub as HOST:PORT, such as hub.example.net:8082");
        return false;
    }
    r = getaddrinfo(probe->host, probe->port, &hints, &probe->addresses);
    if (r != 0) {
        say(&check->detail, "%s: %s", probe->host, gai_strerror(r));
        advise(check, "correct the hub's name, or this machine's resolver");
        return false;
    }
    check->verdict = UPLINK_PASSED;
    say(&check->detail, "%s is", probe->host);
    for (const struct addrinfo *at = probe->addresses; at && n < 4; at = at->ai_next, n++) {
        size_t len = strlen(check->detail);

        print_address(at, text, sizeof(text));
        snprintf(check->detail + len, sizeof(check->detail) - len, " %s", text);
    }
    return true;
}

/* 0, or an errno. */
static int try_tcp(const struct addrinfo *address)
{
    CLEANUP(fd_closep)
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct pollfd file = { .fd = fd, .events = POLLOUT };
    socklen_t len = sizeof(int);
    int error = 0;

    if (fd < 0)
        return errno;
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    if (poll(&file, 1, TCP_TIMEOUT_MS) <= 0)
        return ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        return errno;
    return error;
}

static bool check_tcp(struct probe *probe)
{
    struct uplink_check *check = add_check(probe, "tcp", UPLINK_FAILED);
    int64_t begin = clock_mono().us;
    int error = EHOSTUNREACH;
    char text[64] = "?";

    for (const struct addrinfo *at = probe->addresses; at && error; at = at->ai_next) {
        print_address(at, text, sizeof(text));
        error = try_tcp(at);
    }
    if (error) {
        say(&check->detail, "%s port %s: %s", text, probe->port, strerror(error));
        advise(check, error == ECONNREFUSED
                          ? "start the hub, or correct the port"
                          : "look at routes and firewalls between here and the hub");
        return false;
    }
    check->verdict = UPLINK_PASSED;
    say(&check->detail, "%s port %s in %.1f ms", text, probe->port,
        (double) (clock_mono().us - begin) / 1000);
    return true;
}

/* ---- the stream ---- */

struct hello_call {
    struct loop *loop;
    struct rpc_channel *channel;
    struct rpc_client_call *call;
    bool has_welcome;
    char hub_version[64];
    int64_t offset_us;
    int code;
    char reason[64];
    char message[256];
};

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct hello_call *hello = rpc_client_call_ctx(call);
    struct encoder_response response;
    struct wire_problem problem;
    struct arena arena;

    arena_init(&arena, wire_arena_limit(message.len));
    if (encoder_read(message, &arena, &response, &problem) == 0 &&
        response.kind == ENCODER_WELCOME) {
        hello->has_welcome = true;
        hello->offset_us = response.hub_us - clock_wall().us;
        snprintf(hello->hub_version, sizeof(hello->hub_version), "%s", response.text);
        rpc_client_call_half_close(call);
    }
    arena_deinit(&arena);
    rpc_client_call_read(call);
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct hello_call *hello = rpc_client_call_ctx(call);
    struct wire_error error;
    struct arena arena;

    arena_init(&arena, 64u << 10);
    connection_error(status, &arena, &error);
    hello->code = error.code;
    snprintf(hello->reason, sizeof(hello->reason), "%s", error.reason ? error.reason : "");
    snprintf(hello->message, sizeof(hello->message), "%s", error.message);
    arena_deinit(&arena);
    loop_stop(hello->loop);
}

static const struct rpc_client_handler handler = {
    .on_message = on_message,
    .on_closed = on_closed,
};

static int send_hello(struct probe *probe, struct hello_call *hello)
{
    CLEANUP(buf_deinit) struct buf out = { 0 };
    struct encoder_hello message = {
        .host = probe->options->host,
        .time = clock_wall(),
        .interval_ms = (uint32_t) (probe->options->interval_us / 1000),
        .is_probe = true,
        .run = { .first_sequence = 1 },
    };
    uint8_t instance[16];
    int r;

    crypto_random(instance, sizeof(instance));
    crypto_random(message.run.id, sizeof(message.run.id));
    message.instance = instance;
    r = encoder_put_hello(&message, &out);
    if (r)
        return pass(r);
    r = rpc_client_call_send(hello->call, buf_span(&out));
    return r < 0 ? pass(r) : 0;
}

static int run_hello(struct probe *probe, struct rpc_queue *queue, struct hello_call *hello)
{
    struct tls_why why = { "" };
    int r;

    r = connection_open(&hello->channel,
                        &(struct connection_options){
                            .queue = queue,
                            .hub = probe->options->hub,
                            .server_name = probe->options->server_name,
                            .is_tls13_only = probe->options->is_tls13_only,
                        },
                        &probe->identity, &why);
    if (r == CONNECTION_BAD_IDENTITY) {
        hello->code = RPC_UNAUTHENTICATED;
        snprintf(hello->message, sizeof(hello->message), "%.250s", why.text);
        return 0;
    }
    if (r)
        return pass(r);
    r = rpc_client_call_new(&hello->call, hello->channel,
                            &(struct rpc_client_call_options){
                                .path = STREAM_METRICS_PATH,
                                .timeout_us = HELLO_TIMEOUT_US,
                                .handler = &handler,
                                .ctx = hello,
                            });
    if (r)
        return fold(r);
    r = send_hello(probe, hello);
    if (r)
        return pass(r);
    rpc_client_call_read(hello->call);
    return pass(loop_run(hello->loop));
}

/* What no hub said anything about went wrong below: core reports a failed handshake as UNAVAILABLE.
 */
static void report_hello(struct probe *probe, const struct hello_call *hello)
{
    const char *handshake = identity_handshake_reason(hello->message);
    bool is_below = !hello->has_welcome && (!hello->reason[0] || handshake) &&
                    (hello->code == RPC_UNAVAILABLE || hello->code == RPC_DEADLINE_EXCEEDED);
    struct uplink_check *tls = add_check(probe, "tls", is_below ? UPLINK_FAILED : UPLINK_PASSED);
    struct uplink_check *check =
        add_check(probe, "hello", hello->has_welcome ? UPLINK_PASSED : UPLINK_FAILED);
    char text[TEXT_DURATION_BYTES];
    int64_t apart_us = hello->offset_us < 0 ? -hello->offset_us : hello->offset_us;

    if (is_below) {
        say(&tls->detail, "%s", hello->message);
        advise(tls, handshake ? uplink_remedy(&(struct wire_error){ .reason = handshake })
                              : "the hub's certificate must carry the name that is dialled and "
                                "lead to ca-cert.pem, "
                                "and ours must lead to the hub's CA");
        check->verdict = UPLINK_NOT_TRIED;
        return;
    }
    say(&tls->detail, "both certificates are accepted");
    if (hello->has_welcome) {
        say(&check->detail, "hub %s, clocks %s apart", hello->hub_version,
            text_of_duration_us(apart_us / 1000 * 1000, text));
        return;
    }
    say(&check->detail, "%s %s: %s", rpc_code_name(hello->code), hello->reason, hello->message);
    advise(check,
           uplink_remedy(&(struct wire_error){ .code = hello->code, .reason = hello->reason }));
}

static int check_hello(struct probe *probe)
{
    CLEANUP(loop_freep) struct loop *loop = NULL;
    CLEANUP(rpc_queue_freep) struct rpc_queue *queue = NULL;
    struct hello_call hello = { 0 };
    int r;

    r = loop_new(&loop);
    if (r)
        return pass(r);
    r = rpc_queue_new(&queue, loop);
    if (r)
        return fold(r);
    hello.loop = loop;
    r = run_hello(probe, queue, &hello);
    (void) rpc_client_call_unref(hello.call);
    (void) rpc_channel_free(hello.channel);
    if (r)
        return pass(r);
    report_hello(probe, &hello);
    probe->to->is_clock_known = hello.has_welcome;
    probe->to->clock_offset_us = hello.offset_us;
    if (!hello.has_welcome) {
        probe->to->code = hello.code ? hello.code : RPC_UNKNOWN;
        memcpy(probe->to->reason, hello.reason, sizeof(hello.reason));
    }
    return 0;
}

int uplink_probe(const struct uplink_options *options, struct uplink_probe *ret)
{
    struct probe probe = { .options = options, .to = ret };
    bool has_identity, has_way;
    int r = 0;

    *ret = (struct uplink_probe){ 0 };
    has_identity = check_identity(&probe);
    if (has_identity)
        check_dates(&probe);
    has_way = check_dns(&probe) && check_tcp(&probe);
    if (has_identity && has_way)
        r = check_hello(&probe);
    else
        (void) add_check(&probe, "hello", UPLINK_NOT_TRIED);
    if (probe.addresses)
        freeaddrinfo(probe.addresses);
    tls_identity_deinit(&probe.identity);
    return pass(r);
}
