#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * RPC: gRPC, as the rest of Sentinel sees it. These three modules (rpc, rpc/server, rpc/client) are
 * the only ones that include <grpc/...>; messages are bytes here.
 *
 *   rpc          start and stop of the library, status codes, credentials, core's log
 *   rpc/server   calls that come in, on completion queues with a thread each
 *   rpc/client   calls that go out, on an event loop
 *
 * Credentials hold their certificates in memory and can be given new ones while connections live:
 * handshakes from then on use them. Clients verify the server's chain and host name, always: but
 * for the one call by which a machine that knows nothing yet fetches what it compares with a pin.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/span.h"

/* gRPC's status codes. */
enum rpc_code {
    RPC_OK = 0,
    RPC_CANCELLED = 1,
    RPC_UNKNOWN = 2,
    RPC_INVALID_ARGUMENT = 3,
    RPC_DEADLINE_EXCEEDED = 4,
    RPC_NOT_FOUND = 5,
    RPC_ALREADY_EXISTS = 6,
    RPC_PERMISSION_DENIED = 7,
    RPC_RESOURCE_EXHAUSTED = 8,
    RPC_FAILED_PRECONDITION = 9,
    RPC_ABORTED = 10,
    RPC_OUT_OF_RANGE = 11,
    RPC_UNIMPLEMENTED = 12,
    RPC_INTERNAL = 13,
    RPC_UNAVAILABLE = 14,
    RPC_DATA_LOSS = 15,
    RPC_UNAUTHENTICATED = 16,
};

/* "INVALID_ARGUMENT"; never NULL. */
const char *rpc_code_name(int code);

/* How a call ended. Spans are borrowed from whoever hands it out. */
struct rpc_status {
    int code;
    const char *message;
    struct span details; /* grpc-status-details-bin: a packed google.rpc.Status, or empty */
};

/* Once per process before anything else here; core's log lines go to common/log from then on. */
int rpc_init(void) MUST_USE;
/* After every server, queue and channel is freed. Blocks until core's threads are gone. */
void rpc_deinit(void);

/* Counted from core's log: TLS handshakes that failed since rpc_init(). Thread: any. */
uint64_t rpc_handshakes_failed(void);

/* ---- credentials ---- */

enum rpc_tls_version { RPC_TLS_1_2, RPC_TLS_1_3 };

struct rpc_credentials_options {
    bool is_server;
    enum rpc_tls_version min_version;
    /* Server: a client certificate is asked for and, when one comes, verified; without one the call
     * still arrives. */
    struct span roots_pem; /* what the other side's certificate must lead to; empty: a server that
                              asks for none */
    struct span chain_pem; /* our own, leaf first; empty for a client without identity */
    struct span key_pem;
    /*
     * DANGER: a client that verifies nobody. Whoever sits on the way can read, change and invent
     * all of it. Such a channel makes calls of this one path and no other (a promise, ensured), and
     * has neither roots nor identity. It is for GetTrustBundle at enrolment, whose answer is
     * compared with a pin before anything else happens. NULL: everything is verified. Copied.
     */
    const char *unverified_path;
};

struct rpc_credentials;

enum rpc_outcome {
    RPC_DONE = 0,
    RPC_BAD_MATERIAL, /* not PEM, or key and certificate do not match */
    RPC_QUEUE_FULL,   /* the send queue is at its limit; wait for on_writable */
    RPC_CLOSED,       /* the call is over; nothing was sent */
    RPC_IN_USE,       /* the address is taken, or not ours */
    RPC_BAD_METADATA, /* a key or value that a header cannot have */
};

/* The PEM bytes are copied. Outcomes: RPC_BAD_MATERIAL (also roots or identity with an
 * unverified_path). */
int rpc_credentials_new(struct rpc_credentials **ret,
                        const struct rpc_credentials_options *options) MUST_USE;
/*
 * Handshakes from now on use these. A client that had no identity and gets one, or the reverse,
 * uses it on channels made from now on; a server cannot gain or lose its roots. Outcomes:
 * RPC_BAD_MATERIAL (the old ones stay in use). Thread: any.
 */
int rpc_credentials_replace(struct rpc_credentials *credentials,
                            struct span roots_pem,
                            struct span chain_pem,
                            struct span key_pem) MUST_USE;
/* Servers and channels made with it keep what they need. */
struct rpc_credentials *rpc_credentials_free(struct rpc_credentials *credentials);
DEFINE_CLEANUP(struct rpc_credentials *, rpc_credentials_free);
