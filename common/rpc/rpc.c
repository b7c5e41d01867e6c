/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rpc/rpc.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer_reader.h>
#include <grpc/support/time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "common/rpc/core.h"
#include "common/rpc/shim.h"

/* How core begins the line about a failed handshake (src/core/tsi/ssl_transport_security.cc). */
#define HANDSHAKE_FAILED "Handshake failed with error "

static atomic_ulong handshakes_failed;

const char *rpc_code_name(int code)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };

    if (code < 0 || (size_t) code >= sizeof(names) / sizeof(names[0]))
        return "UNKNOWN_CODE";
    return names[code];
}

/* ---- handshakes ---- */

static _Thread_local struct rpc_handshake *handshake_now;

bool rpc_handshake_is_over(const struct rpc_handshake *handshake)
{
    return __atomic_load_n(&handshake->is_over, __ATOMIC_ACQUIRE) != 0;
}

void rpc_handshake_end(struct rpc_handshake *handshake)
{
    __atomic_store_n(&handshake->is_over, 1, __ATOMIC_RELEASE);
}

struct rpc_handshake *rpc_handshake_now(void)
{
    return handshake_now;
}

struct rpc_handshake *rpc_handshake_enter(struct rpc_handshake *handshake)
{
    struct rpc_handshake *before = handshake_now;

    handshake_now = handshake;
    return before;
}

/* ---- core's log ---- */

/* A peer can cause any of these lines, so all are rate-limited. */
static void
on_core_log(enum rpc_shim_severity severity, const char *file, int line, const char *text)
{
    enum log_level level = LOG_DEBUG;
    char where[128];

    if (strncmp(text, HANDSHAKE_FAILED, strlen(HANDSHAKE_FAILED)) == 0) {
        text += strlen(HANDSHAKE_FAILED);
        atomic_fetch_add_explicit(&handshakes_failed, 1, memory_order_relaxed);
        /* A server's connection has a line of its own, with the peer. */
        if (handshake_now)
            handshake_now->events->on_failed(handshake_now, text);
        else
            log_peer(LOG_INFO, "tls_handshake_failed", LOG_S("error", text));
        return;
    }
    if (severity == RPC_SHIM_WARNING)
        level = LOG_WARN;
    else if (severity >= RPC_SHIM_ERROR)
        level = LOG_ERROR;
    if (!log_is_enabled(level))
        return;
    snprintf(where, sizeof(where), "%s:%d", file, line);
    log_peer(level, "grpc", LOG_S("where", where), LOG_S("text", text));
}

int rpc_init(void)
{
    rpc_shim_tune();
    grpc_init();
    /* After grpc_init(), which sets absl's levels from the environment. */
    rpc_shim_catch_log(on_core_log);
    return 0;
}

void rpc_deinit(void)
{
    grpc_shutdown_blocking();
}

uint64_t rpc_handshakes_failed(void)
{
    return atomic_load_explicit(&handshakes_failed, memory_order_relaxed);
}

/* ---- values ---- */

void rpc_args_add(struct rpc_args *args, const char *key, int value)
{
    ensure(args->n_args < sizeof(args->args) / sizeof(args->args[0]));
    args->args[args->n_args++] = (grpc_arg){
        .type = GRPC_ARG_INTEGER,
        .key = (char *) (uintptr_t) key,
        .value.integer = value,
    };
}

void rpc_args_add_arg(struct rpc_args *args, grpc_arg arg)
{
    ensure(args->n_args < sizeof(args->args) / sizeof(args->args[0]));
    args->args[args->n_args++] = arg;
}

void rpc_args_add_text(struct rpc_args *args, const char *key, const char *value)
{
    ensure(args->n_args < sizeof(args->args) / sizeof(args->args[0]));
    args->args[args->n_args++] = (grpc_arg){
        .type = GRPC_ARG_STRING,
        .key = (char *) (uintptr_t) key,
        .value.string = (char *) (uintptr_t) value,
    };
}

int rpc_ms_of_us(int64_t us)
{
    if (us <= 0)
        return 0;
    if (us / 1000 >= INT_MAX)
        return INT_MAX;
    return us < 1000 ? 1 : (int) (us / 1000);
}

mono_us rpc_mono_of_timespec(gpr_timespec time)
{
    gpr_timespec left;

    if (gpr_time_cmp(time, gpr_inf_future(time.clock_type)) == 0)
        return (mono_us){ INT64_MAX };
    /* By the time that is left: core's monotonic clock is not the kernel's, it runs 5 s ahead. */
    left = gpr_time_sub(time, gpr_now(time.clock_type));
    if (left.tv_sec >= INT32_MAX)
        return (mono_us){ INT64_MAX };
    return (mono_us){ clock_mono().us + left.tv_sec * 1000000 + left.tv_nsec / 1000 };
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

char *rpc_peer_text(const char *uri)
{
    const char *from = uri;
    char *text = malloc(strlen(uri) + 1);
    char *to = text;

    if (!text)
        return NULL;
    if (strncmp(from, "ipv4:", 5) == 0 || strncmp(from, "ipv6:", 5) == 0)
        from += 5;
    for (; *from; from++) {
        int high = *from == '%' ? hex_digit(from[1]) : -1;
        int low = high >= 0 ? hex_digit(from[2]) : -1;

        if (low >= 0) {
            *to++ = (char) (high * 16 + low);
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    return text;
}

grpc_slice rpc_slice_of(struct span bytes)
{
    grpc_slice slice = grpc_slice_malloc(bytes.len);

    if (bytes.len)
        memcpy(GRPC_SLICE_START_PTR(slice), bytes.data, bytes.len);
    return slice;
}

struct span rpc_slice_span(const grpc_slice *slice)
{
    return span_of(GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
}

struct span rpc_message_open(grpc_byte_buffer *buffer, grpc_slice *ret_joined)
{
    grpc_byte_buffer_reader reader;
    grpc_slice *first;
    struct span span = { NULL, 0 };

    *ret_joined = grpc_empty_slice();
    ensure(grpc_byte_buffer_reader_init(&reader, buffer));
    /* Messages are contiguous unless they straddle what came in one read of the socket. */
    if (grpc_byte_buffer_reader_peek(&reader, &first)) {
        span = rpc_slice_span(first);
        if (span.len != grpc_byte_buffer_length(buffer)) {
            grpc_byte_buffer_reader_destroy(&reader);
            ensure(grpc_byte_buffer_reader_init(&reader, buffer));
            *ret_joined = grpc_byte_buffer_reader_readall(&reader);
            span = rpc_slice_span(ret_joined);
        }
    }
    grpc_byte_buffer_reader_destroy(&reader);
    return span;
}

void rpc_message_close(grpc_byte_buffer *buffer, grpc_slice *joined)
{
    grpc_slice_unref(*joined);
    grpc_byte_buffer_destroy(buffer);
}
