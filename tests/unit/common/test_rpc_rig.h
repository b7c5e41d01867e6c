#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the tests of rpc share: a server with a few methods on 127.0.0.1, streams of a client on a
 * loop, certificates.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/rpc/client/client.h"
#include "common/rpc/rpc.h"
#include "common/rpc/server/server.h"
#include "common/tls/tls.h"

/* ---- server ---- */

struct rig {
    struct rpc_server *server;
    struct loop *loop;
    struct rpc_queue *queue;
    struct rpc_channel *channel;
    char target[64];
    /* What handlers saw. */
    atomic_uint n_opened, n_closed, n_cancelled, n_half_closed, n_drained, n_full, n_writable;
    atomic_uint n_posted;
    atomic_bool has_disorder;
    _Atomic(struct rpc_call *) kept; /* by /t/Keep: a reference for the test */
    atomic_llong deadline_us;
};

struct rig_options {
    struct rpc_credentials *server, *client;
    unsigned n_threads;
    uint32_t max_message_bytes;
    uint32_t send_queue_bytes;
    const char *server_name;
    struct rpc_accept_limits accept;
    const struct peer_nets *trusted_proxies;
    struct rpc_door door;
};

/*
 * Methods:
 *   /t/Echo     each message back, OK at half-close     /t/Count    how many messages came (text),
 * at half-close /t/Emit     "N SIZE": N messages of SIZE bytes      /t/Cert     the peer's
 * certificate (DER) /t/Peer     the peer's address /t/Fail     NOT_FOUND with message and details
 * /t/Hang     reads for ever, finishes when drained /t/Keep     like Hang, and rig.kept has a
 * reference /t/Header   the value of the header that the message names
 *   /t/Withdraw "N": N messages, taken back before the call ends UNAUTHENTICATED
 */
void rig_start(struct rig *rig, const struct rig_options *options);
void rig_stop(struct rig *rig);
struct rpc_server_options rig_server_options(struct rig *rig, const struct rig_options *options);
struct rpc_channel *
rig_channel(struct rig *rig, struct rpc_credentials *credentials, const char *server_name);

/* Runs the loop until the condition holds; the test fails after 20 s. */
#define rig_until(rig, cond)                                           \
    do {                                                               \
        int64_t until_ = clock_mono().us + 20000000;                   \
        while (!(cond)) {                                              \
            ck_assert_msg(clock_mono().us < until_, "waited: " #cond); \
            ck_assert_int_ge(loop_run_once((rig)->loop, 10), 0);       \
        }                                                              \
    } while (0)

/* A server of a few bytes, by which a client begins to send: a socket that listens, at rig->target,
 * and one that was accepted. */
int rig_listen(struct rig *rig);
int rig_accept(struct rig *rig, int listener);

/* ---- client ---- */

struct stream {
    struct rpc_client_call *call;
    bool is_paused; /* does not ask for messages */
    unsigned n_received, n_writable;
    size_t n_bytes;
    uint8_t last[65536];
    size_t last_len;
    bool is_closed;
    int code;
    char message[512];
    uint8_t details[256];
    size_t details_len;
};

void stream_open(struct stream *stream,
                 struct rpc_channel *channel,
                 const char *path,
                 int64_t timeout_us);
void stream_send(struct stream *stream, const char *text);

/* ---- certificates ---- */

struct authority {
    struct tls_key *key;
    struct tls_cert *cert;
    struct buf pem;
};
void authority_init(struct authority *authority, const char *name);
void authority_deinit(struct authority *authority);

struct identity {
    struct buf chain_pem, key_pem;
    uint8_t sha256[32];
};
void identity_init(struct identity *identity,
                   const struct authority *authority,
                   enum tls_profile profile,
                   const char *name);
void identity_deinit(struct identity *identity);

/* `identity` may be NULL for a client. */
struct rpc_credentials *
make_credentials(bool is_server, const struct authority *trusted, const struct identity *identity);
