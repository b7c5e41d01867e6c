#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * TLS stream: one TLS connection without its socket: what the peer sent goes in, what it shall get
 * comes out, plain bytes on our side. For what does not go through gRPC: the web's listener and
 * what we send by HTTPS.
 *
 * A context holds an identity, the roots and the rules, and serves any number of streams. New
 * certificates are a new context; streams that exist keep theirs.
 *
 * Rules: at least TLS 1.2 with forward secrecy and an AEAD. A client verifies chain and host,
 * always. A server with roots asks for a client certificate and verifies one that comes, by the
 * rules of tls_chain_verify(); without one the stream still opens, and who may do what is decided
 * behind it. ALPN says http/1.1.
 *
 *     tls_stream_feed()          what came from the socket
 *     tls_stream_read()          plain bytes, until it says TLS_STREAM_MORE; shakes hands meanwhile
 *     tls_stream_write()         plain bytes to go out, once tls_stream_is_ready()
 *     tls_stream_output()        after each of the above: what is to be sent, also by a handshake
 *
 * Thread: a context any (its streams hold references); a stream one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/span.h"
#include "common/tls/tls.h"

enum tls_version { TLS_VERSION_1_2, TLS_VERSION_1_3 };

struct tls_context;

struct tls_context_options {
    bool is_server;
    enum tls_version min_version;
    struct span roots_pem; /* what the other side must lead to; empty: a server asks for nothing */
    struct span chain_pem; /* our own, leaf first; empty: a client without identity */
    struct span key_pem;
};

/* The PEM bytes are copied. Outcomes: TLS_BAD, TLS_MISMATCH; ret_why is filled. */
int tls_context_new(struct tls_context **ret,
                    const struct tls_context_options *options,
                    struct tls_why *ret_why) MUST_USE;
struct tls_context *tls_context_ref(struct tls_context *context);
/* Accepts NULL. */
struct tls_context *tls_context_unref(struct tls_context *context);
DEFINE_CLEANUP(struct tls_context *, tls_context_unref);

enum tls_stream_outcome {
    TLS_STREAM_OK = 0,
    TLS_STREAM_MORE,   /* nothing to read until the peer sends more */
    TLS_STREAM_END,    /* the peer said that it sends no more */
    TLS_STREAM_BROKEN, /* tls_stream_reason(); what is to be sent still tells the peer */
};

struct tls_stream;

/*
 *   host   a client's: DNS name or address that the server's certificate must carry. Servers: NULL.
 */
int tls_stream_new(struct tls_stream **ret, struct tls_context *context, const char *host) MUST_USE;
struct tls_stream *tls_stream_free(struct tls_stream *stream);
DEFINE_CLEANUP(struct tls_stream *, tls_stream_free);

/* Bytes from the peer; copied. Faults: no memory. */
int tls_stream_feed(struct tls_stream *stream, struct span bytes) MUST_USE;
/* Shakes hands where that is not done. Outcomes: TLS_STREAM_MORE, _END, _BROKEN. */
int tls_stream_read(struct tls_stream *stream, void *to, size_t room, size_t *ret_len) MUST_USE;
/* All of it or, on anything but 0, nothing that counts. Outcomes: TLS_STREAM_BROKEN. */
int tls_stream_write(struct tls_stream *stream, struct span bytes) MUST_USE;
/* Says to the peer that no more comes from us. */
void tls_stream_end(struct tls_stream *stream);

/* Borrowed until the next call on the stream. */
struct span tls_stream_output(const struct tls_stream *stream);
void tls_stream_output_taken(struct tls_stream *stream, size_t n_bytes);

/* The handshake is over. */
bool tls_stream_is_ready(const struct tls_stream *stream);
bool tls_stream_is_resumed(const struct tls_stream *stream);
/* DER of the peer's verified leaf; empty when it gave none. Lives as long as the stream. */
struct span tls_stream_peer_certificate(const struct tls_stream *stream);
/* Why it broke, in words. */
const char *tls_stream_reason(const struct tls_stream *stream);
