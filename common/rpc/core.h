#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What rpc, rpc/server and rpc/client share around core. Private to common/rpc: it shows gRPC's
 * types.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <grpc/byte_buffer.h>
#include <grpc/credentials.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>

#include "common/base/clock.h"
#include "common/base/span.h"
#include "common/rpc/handshake.h"
#include "common/rpc/rpc.h"

/* ---- credentials.c; NULL is plaintext ---- */

/* A server's, lent to `use` while nobody replaces them; returns what that says. */
bool rpc_credentials_lend(struct rpc_credentials *credentials,
                          bool (*use)(void *ctx, grpc_server_credentials *core),
                          void *ctx);
/* Never NULL: a channel that cannot work says so in its calls. */
grpc_channel *rpc_credentials_make_channel(struct rpc_credentials *credentials,
                                           const char *target,
                                           const grpc_channel_args *args);

/* The one path that calls may have; NULL: any. Lives as long as the credentials. */
const char *rpc_credentials_only_path(const struct rpc_credentials *credentials);

/* The DER inside the first PEM block; *ret is malloced. Outcomes: RPC_BAD_MATERIAL. */
int rpc_pem_to_der(struct span pem, uint8_t **ret, size_t *ret_len) MUST_USE;

/* ---- values ---- */

/* Channel arguments on the stack. */
struct rpc_args {
    grpc_arg args[24];
    size_t n_args;
};
void rpc_args_add(struct rpc_args *args, const char *key, int value);
void rpc_args_add_arg(struct rpc_args *args, grpc_arg arg);
void rpc_args_add_text(struct rpc_args *args, const char *key, const char *value);

/* Clamped to what core takes; anything above 0 is at least 1 ms. */
int rpc_ms_of_us(int64_t us);
/* INT64_MAX for never. */
mono_us rpc_mono_of_timespec(gpr_timespec time);

/* "ipv6:%5B::1%5D:80" -> "[::1]:80"; malloced, NULL when out of memory. */
char *rpc_peer_text(const char *uri);

grpc_slice rpc_slice_of(struct span bytes);
struct span rpc_slice_span(const grpc_slice *slice);

/*
 * A received message as one run of bytes. Most lie in one slice and are borrowed from the buffer,
 * the others are joined into `ret_joined`; rpc_message_close() ends both and frees the buffer.
 */
struct span rpc_message_open(grpc_byte_buffer *buffer, grpc_slice *ret_joined);
void rpc_message_close(grpc_byte_buffer *buffer, grpc_slice *joined);

/* ---- outbox.c: messages that wait to be sent ---- */

/*
 * A bounded queue in a ring that grows. A message counts until its write is over, with a small
 * surcharge so that empty ones are bounded too. The zero value with a limit is an empty one.
 */
struct rpc_outbox {
    grpc_slice *slots;
    uint32_t head, n_waiting, capacity;
    uint32_t limit_bytes;
    size_t n_bytes;       /* waiting and being written */
    size_t written_bytes; /* being written */
    bool is_writing;
    bool wants_room; /* a push was refused */
};
void rpc_outbox_deinit(struct rpc_outbox *outbox);
/* Copies. Outcomes: RPC_QUEUE_FULL. */
int rpc_outbox_push(struct rpc_outbox *outbox, struct span message) MUST_USE;
/* The next one goes out: the caller owns the slice. There must be one, and none on its way. */
grpc_slice rpc_outbox_begin(struct rpc_outbox *outbox);
/* The write is over. Returns whether the owner is to be told that there is room again. */
bool rpc_outbox_end(struct rpc_outbox *outbox);
/* Drops what waits. */
void rpc_outbox_clear(struct rpc_outbox *outbox);
