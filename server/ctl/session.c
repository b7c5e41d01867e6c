/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/loop/loop.h"
#include "common/rpc/client/client.h"
#include "common/rpc/rpc.h"
#include "common/tls/tls.h"
#include "common/wire/wire.h"
#include "server/ctl/ctl.h"

#define DEFAULT_HUB "localhost:8082"
#define DEFAULT_TIMEOUT_US INT64_C(30000000)

struct ctl_session {
    struct loop *loop;
    struct rpc_queue *queue;
    struct rpc_credentials *credentials;
    struct rpc_channel *channel;
    int64_t timeout_us;
    bool has_rpc;
};

int ctl_say(int code, const char *fmt, ...)
{
    CLEANUP(buf_deinit) struct buf text = { 0 }, shown = { 0 };
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    text_append_printable(&shown, buf_span(&text));
    fprintf(stderr, "sentinelctl: %s\n", buf_text(&shown));
    return code;
}

static struct ctl_session *session_free(struct ctl_session *session)
{
    if (!session)
        return NULL;
    rpc_channel_free(session->channel);
    rpc_queue_free(session->queue);
    rpc_credentials_free(session->credentials);
    loop_free(session->loop);
    if (session->has_rpc)
        rpc_deinit();
    free(session);
    return NULL;
}
DEFINE_CLEANUP(struct ctl_session *, session_free);

void ctl_end(struct ctl *ctl)
{
    ctl->session = session_free(ctl->session);
}

const char *ctl_identity_directory(struct ctl *ctl)
{
    const char *home = getenv("HOME");

    if (ctl->identity)
        return ctl->identity;
    if (getenv("SENTINEL_IDENTITY"))
        return getenv("SENTINEL_IDENTITY");
    return arena_printf(&ctl->arena, "%s/.config/sentinel", home ? home : "");
}

static int load_credentials(struct ctl *ctl, struct rpc_credentials **ret)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    const char *directory = ctl_identity_directory(ctl);
    struct tls_why why;
    int r;

    if (!directory)
        return ctl_say(CTL_FAILED, "out of memory");
    r = tls_identity_load(directory, &identity, &why);
    if (r > 0)
        return ctl_say(
            r == TLS_ABSENT ? CTL_USAGE : CTL_FAILED,
            "no usable identity in %s: %s (--identity DIR, or SENTINEL_IDENTITY, names another)",
            directory, why.text);
    if (r)
        return CTL_FAILED;
    r = rpc_credentials_new(
        ret, &(struct rpc_credentials_options){ .roots_pem = buf_span(&identity.roots_pem),
                                                .chain_pem = buf_span(&identity.chain_pem),
                                                .key_pem = buf_span(&identity.key_pem) });
    if (r)
        return ctl_say(CTL_FAILED, "the identity in %s is not usable", directory);
    return CTL_OK;
}

static const char *target_of(const struct ctl *ctl)
{
    const char *given = ctl->hub ? ctl->hub : getenv("SENTINEL_HUB");

    return given && *given ? given : DEFAULT_HUB;
}

static int session_open(struct ctl *ctl)
{
    CLEANUP(session_freep) struct ctl_session *session = NULL;
    struct rpc_channel_options options = { .target = target_of(ctl),
                                           .server_name = ctl->server_name };
    int r;

    session = calloc(1, sizeof(*session));
    if (!session)
        return ctl_say(CTL_FAILED, "out of memory");
    session->timeout_us = DEFAULT_TIMEOUT_US;
    if (ctl->timeout &&
        (text_to_duration_us(ctl->timeout, &session->timeout_us) || session->timeout_us <= 0))
        return ctl_say(CTL_USAGE, "--timeout: `%s` is not a duration such as 10s", ctl->timeout);
    if (rpc_init())
        return CTL_FAILED;
    session->has_rpc = true;
    if (!ctl->is_insecure) {
        r = load_credentials(ctl, &session->credentials);
        if (r)
            return r;
    }
    options.credentials = session->credentials;
    if (loop_new(&session->loop) || rpc_queue_new(&session->queue, session->loop) ||
        rpc_channel_new(&session->channel, session->queue, &options))
        return ctl_say(CTL_FAILED, "cannot start a connection to %s", options.target);
    ctl->session = take(session);
    return CTL_OK;
}

static int exit_of_code(int code)
{
    if (code == RPC_OK)
        return CTL_OK;
    if (code == RPC_INVALID_ARGUMENT || code == RPC_OUT_OF_RANGE)
        return CTL_USAGE;
    if (code == RPC_NOT_FOUND)
        return CTL_NOT_FOUND;
    if (code == RPC_PERMISSION_DENIED || code == RPC_UNAUTHENTICATED)
        return CTL_DENIED;
    if (code == RPC_UNAVAILABLE || code == RPC_DEADLINE_EXCEEDED)
        return CTL_UNAVAILABLE;
    return CTL_FAILED;
}

/* What the hub said, with its details; never a byte that disturbs the terminal. */
static int say_status(struct ctl *ctl, const struct rpc_status *status)
{
    struct wire_error error = { 0 };

    if (status->details.len > 0 && wire_error_unpack(status->details, &ctl->arena, &error))
        error = (struct wire_error){ 0 };
    fprintf(stderr, "sentinelctl: %s: %s", rpc_code_name(status->code),
            format_printable(ctl, status->message));
    if (error.field && *error.field)
        fprintf(stderr, "\n  field     %s: %s", format_printable(ctl, error.field),
                format_printable(ctl, error.field_description));
    if (error.reason)
        fprintf(stderr, "\n  reason    %s", format_printable(ctl, error.reason));
    if (error.quota)
        fprintf(stderr, "\n  limit     %s", format_printable(ctl, error.quota));
    if (error.retry_after_ms)
        fprintf(stderr, "\n  retry in  %llu ms", (unsigned long long) error.retry_after_ms);
    if (error.correlation_id)
        fprintf(stderr, "\n  the hub's log has more under  %s",
                format_printable(ctl, error.correlation_id));
    fprintf(stderr, "\n");
    if (status->code == RPC_UNAVAILABLE && !error.reason)
        fprintf(stderr,
                "  is the hub running at %s, does your identity come from its CA, and is it still "
                "valid?\n",
                format_printable(ctl, target_of(ctl)));
    return exit_of_code(status->code);
}

static int session_of(struct ctl *ctl)
{
    return ctl->session ? CTL_OK : session_open(ctl);
}

struct loop *ctl_loop(struct ctl *ctl)
{
    return session_of(ctl) == CTL_OK ? ctl->session->loop : NULL;
}

int ctl_connect(struct ctl *ctl, struct rpc_channel **ret)
{
    const struct rpc_channel_options options = { .target = target_of(ctl),
                                                 .server_name = ctl->server_name,
                                                 .credentials = ctl->session->credentials };

    return rpc_channel_new(ret, ctl->session->queue, &options) ? CTL_FAILED : CTL_OK;
}

/* ---- calls with many answers ---- */

struct stream {
    ctl_bytes_fn *fn;
    void *ctx;
    struct ctl *ctl;
    int code; /* fn's, or the status' */
    bool is_over;
};

static void on_stream_message(struct rpc_client_call *call, struct span bytes)
{
    struct stream *stream = rpc_client_call_ctx(call);

    if (stream->code == CTL_OK)
        stream->code = stream->fn(stream->ctx, bytes);
    if (stream->code)
        rpc_client_call_cancel(call);
    rpc_client_call_read(call);
}

static void on_stream_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct stream *stream = rpc_client_call_ctx(call);

    stream->is_over = true;
    if (stream->code == CTL_OK && status->code != RPC_OK)
        stream->code = say_status(stream->ctl, status);
}

static const struct rpc_client_handler stream_handler = {
    .on_message = on_stream_message,
    .on_closed = on_stream_closed,
};

int ctl_stream_bytes(struct ctl *ctl,
                     const char *path,
                     const ProtobufCMessage *request,
                     int64_t timeout_us,
                     ctl_bytes_fn *fn,
                     void *ctx)
{
    CLEANUP(rpc_client_call_unrefp) struct rpc_client_call *call = NULL;
    struct stream stream = { fn, ctx, ctl, CTL_OK, false };
    struct buf packed = { 0 };
    int r = session_of(ctl);

    if (r)
        return r;
    r = wire_pack(request, &packed);
    if (!r)
        r = rpc_client_call_new(&call, ctl->session->channel,
                                &(struct rpc_client_call_options){ .path = path,
                                                                   .timeout_us = timeout_us,
                                                                   .handler = &stream_handler,
                                                                   .ctx = &stream });
    if (!r)
        r = rpc_client_call_send(call, buf_span(&packed));
    buf_deinit(&packed);
    if (r)
        return CTL_FAILED;
    rpc_client_call_half_close(call);
    rpc_client_call_read(call);
    while (!r && !stream.is_over)
        r = loop_run_once(ctl->session->loop, -1);
    return r ? CTL_FAILED : stream.code;
}

struct messages {
    const struct wire_method *method;
    ctl_message_fn *fn;
    void *ctx;
};

static int on_bytes(void *ctx, struct span bytes)
{
    CLEANUP(arena_deinit) struct arena arena = { 0 };
    const struct messages *messages = ctx;
    ProtobufCMessage *message = NULL;
    struct wire_problem problem;
    int r;

    arena_init(&arena, wire_arena_limit(bytes.len));
    r = wire_unpack(messages->method->response, bytes, &arena, &message, &problem);
    if (r > 0)
        return ctl_say(CTL_FAILED, "the hub's answer is unreadable: %s %s", problem.field,
                       problem.description);
    return r ? CTL_FAILED : messages->fn(messages->ctx, message);
}

int ctl_stream(struct ctl *ctl,
               const char *path,
               const ProtobufCMessage *request,
               ctl_message_fn *fn,
               void *ctx)
{
    struct messages messages = { wire_find_method(path), fn, ctx };

    ensure(messages.method && messages.method->request == request->descriptor);
    return ctl_stream_bytes(ctl, path, request, 0, on_bytes, &messages);
}

int ctl_timeout_us(struct ctl *ctl, int64_t *ret)
{
    int r = session_of(ctl);

    if (r == CTL_OK)
        *ret = ctl->session->timeout_us;
    return r;
}

int ctl_call(struct ctl *ctl,
             const char *path,
             const ProtobufCMessage *request,
             ProtobufCMessage **ret)
{
    const struct wire_method *method = wire_find_method(path);
    struct buf packed = { 0 };
    struct rpc_status status;
    struct wire_problem problem;
    struct span response;
    int r;

    ensure(method && method->request == request->descriptor);
    r = session_of(ctl);
    if (r)
        return r;
    ensure(ctl->session);
    r = wire_pack(request, &packed);
    if (!r)
        r = rpc_client_unary(ctl->session->channel, path, buf_span(&packed),
                             ctl->session->timeout_us, &ctl->arena, &response, &status);
    buf_deinit(&packed);
    if (r)
        return CTL_FAILED;
    if (status.code != RPC_OK)
        return say_status(ctl, &status);
    r = wire_unpack(method->response, response, &ctl->arena, ret, &problem);
    if (r > 0)
        return ctl_say(CTL_FAILED, "the hub's answer is unreadable: %s %s", problem.field,
                       problem.description);
    return r ? CTL_FAILED : CTL_OK;
}
